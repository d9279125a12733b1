"""Runs tests of the mutated program: see `run.py`, which starts this as a process, writes
requests as lines of JSON and reads answers as such lines.

This process is number 1 of a namespace: its children cannot signal it, and see no other
processes. Orphans of a program become its children and are killed before the next program runs;
files that a program leaves are removed.
"""

import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from programs import adopt, kill_children

# The time limit in addition to four times the normal duration, in seconds.
GRACE = 5
# The limit of the address space, for mutants that allocate without end.
MEMORY = 16 << 30


def main():
    adopt()
    scratch = sys.argv[1]
    for line in sys.stdin:
        asked = json.loads(line)
        answer = seen(asked, scratch) if "record" in asked else caught(asked, scratch)
        print(json.dumps(answer), flush=True)


def seen(asked, scratch):
    """Runs one test without a mutant: its result, its duration, the mutants that it reaches."""
    file = os.path.join("/tmp", f"fbuild-mutants-{os.path.basename(scratch)}")
    with open(file, "wb") as empty:
        empty.truncate(asked["record"] + 1)
    os.chmod(file, 0o666)
    environment = {"FBUILD_MUTANTS_SEEN": file}
    started = time.monotonic()
    failed = failure(asked, [asked["test"]], environment, 120, scratch)
    took = time.monotonic() - started
    with open(file, "rb") as met:
        numbers = [number for number, byte in enumerate(met.read()) if byte]
    os.remove(file)
    return {"failed": failed, "seconds": round(took, 3), "seen": numbers}


def caught(asked, scratch):
    """Runs batches of tests with a mutant until one fails twice; returns the test and the failure."""
    environment = {"FBUILD_MUTANT": str(asked["number"])}
    for batch in asked["batches"]:
        tests = dict(batch["tests"])
        while tests:
            limit = 4 * sum(tests.values()) + GRACE
            failed = failure(batch, list(tests), environment, limit, scratch)
            if not failed:
                break
            test, how = failed
            suspects = [test] if test in tests else list(tests)
            limit = 4 * sum(tests[name] for name in suspects) + GRACE
            again = failure(batch, suspects, environment, limit, scratch)
            if again:
                return {"program": batch["program"], "test": again[0] or test, "how": again[1]}
            for name in suspects:
                del tests[name]
    return None


def failure(run, tests, environment, limit, scratch):
    """Returns the first failing test and its failure, or None."""
    os.makedirs(scratch, exist_ok=True)
    os.chmod(scratch, 0o1777)
    removed = ("FBUILD_MUTANT", "FBUILD_MUTANTS_SEEN", "CARGO_TARGET_DIR")
    around = {name: value for name, value in os.environ.items() if name not in removed}
    process = subprocess.Popen(
        [run["file"], "--exact", "--test-threads=1", *tests],
        cwd=run["folder"],
        env={**around, **environment, "TMPDIR": scratch},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    try:
        return watched(process, tests, time.monotonic() + limit)
    finally:
        process.stdout.close()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        kill_children()
        for name in os.listdir(scratch):
            path = os.path.join(scratch, name)
            shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.remove(path)


def watched(process, tests, deadline):
    output, descriptor = b"", process.stdout.fileno()
    while True:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([descriptor], [], [], max(0, min(left, 0.1)))
        piece = os.read(descriptor, 1 << 16) if ready else b""
        output += piece
        failed = re.search(rb"^test (\S+) (?:- should panic )?\.\.\. FAILED$", output, re.M)
        if failed:
            return failed.group(1).decode(), "failed"
        if ready and not piece or not ready and process.poll() is not None:
            break
        if left <= 0:
            return running(output), "no end"
    if process.wait(10) != 0:
        return running(output), f"ended with {process.returncode}"
    passed = re.search(rb"(\d+) passed", output)
    if not passed or int(passed.group(1)) != len(tests):
        return None, "not all tests were run"
    return None


def running(output):
    """The test that was running at the end."""
    names = re.findall(rb"^test (\S+) (?:- should panic )?\.\.\. (?!ok|FAILED|ignored)", output, re.M)
    return names[-1].decode() if names else None


if __name__ == "__main__":
    main()
