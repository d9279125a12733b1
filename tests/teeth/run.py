#!/usr/bin/env python3
"""Do the tests notice bugs? `python3 tests/teeth/run.py`

Builds fbuild and its tests once with the feature `sabotage`, then runs tests with one bug
of `src/sabotage.rs` planted after another, those first that are known to catch it, until
one of them fails. Prints which test caught each bug. The exit code is 1 if a bug survives,
or if a test that is to catch one fails without it.

    run.py                 all bugs
    run.py Bug…            these
    run.py --jobs N        so many at a time (as many as there are processors)

Needs Linux and Python 3.9. A run without end counts as caught; nothing that a sabotaged
fbuild leaves behind outlives this.
"""

import argparse
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Nothing is to be left beside the sources.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "tests"))

from programs import adopt, executables, kill_children
BUGS = os.path.join(ROOT, "src", "sabotage.rs")
KNOWN = os.path.join(ROOT, "tests", "teeth", "caught-by.txt")
# What is tried when the known tests are silent, in this order.
PROGRAMS = ["lib", "store_faults", "process", "driver", "cli", "suites"]
# Seconds that tests may take, known ones and whole programs.
KNOWN_LIMIT, PROGRAM_LIMIT = 30, 300


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("bugs", nargs="*")
    arguments = parser.parse_args()
    if arguments.one:
        return one(arguments.bugs[0])
    bugs, known = all_bugs(), known_tests()
    check_lists(bugs, known, arguments.bugs)
    programs = build()
    if not all_green(programs, known):
        return 1
    return plant_all(arguments.bugs or bugs, programs, known, arguments.jobs)


def all_bugs():
    """The bugs there are, in the order of the source."""
    with open(BUGS, encoding="utf-8") as file:
        body = re.search(r"enum Bug \{\n(.*?)\n\}", file.read(), re.S).group(1)
    return re.findall(r"^    (\w+),$", body, re.M)


def known_tests():
    """The tests that are to catch each bug: pairs of a program and a name."""
    known = {}
    with open(KNOWN, encoding="utf-8") as file:
        for line in file:
            words = line.split()
            if words and words[0] != "#":
                known.setdefault(words[0], []).append((words[1], words[2]))
    return known


def check_lists(bugs, known, wanted):
    for bug in sorted((set(known) | set(wanted)) - set(bugs)):
        sys.exit(f"error: there is no bug `{bug}` in src/sabotage.rs")
    for bug in bugs:
        if bug not in known:
            print(f"note: {bug} has no line in tests/teeth/caught-by.txt")


def build():
    """Builds the tests; returns the file of each program."""
    command = ["cargo", "test", "--no-run", "--locked", "--features", "sabotage"]
    print("+", *command, flush=True)
    built = subprocess.run(
        command + ["--message-format=json-render-diagnostics"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    return executables(built.stdout)


def all_green(programs, known):
    """Tells whether the known tests pass without a bug."""
    environment = clean_environment()
    green = True
    for program in sorted({program for tests in known.values() for program, _ in tests}):
        names = sorted({n for tests in known.values() for p, n in tests if p == program})
        ended = subprocess.run(
            [programs[program], "--exact", *names],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        passed = re.search(r"(\d+) passed", ended.stdout)
        count = int(passed.group(1)) if passed else 0
        print(f"without a bug: {program}: {count} of {len(names)} tests pass", flush=True)
        if ended.returncode != 0 or count != len(names):
            print(ended.stdout)
            there = set(listed(programs[program]))
            for name in names:
                if name not in there:
                    print(f"error: {program} has no test `{name}`")
            green = False
    return green


def listed(program):
    out = subprocess.run([program, "--list"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return re.findall(r"^(\S+): test$", out.stdout, re.M)


def clean_environment():
    return {name: value for name, value in os.environ.items() if name != "FBUILD_SABOTAGE"}


def plant_all(bugs, programs, known, jobs):
    started = time.monotonic()
    print(f"\n{'bug':26} caught by", flush=True)
    survivors = []
    with concurrent.futures.ThreadPoolExecutor(max(jobs, 1)) as pool:
        plant = lambda bug: plant_one(bug, programs, known.get(bug, []))
        for bug, (caught, took) in zip(bugs, pool.map(plant, bugs)):
            print(f"{bug:26} {caught or 'NOTHING: it survives'} ({took:.1f} s)", flush=True)
            if not caught:
                survivors.append(bug)
    took = time.monotonic() - started
    print(f"\n{len(bugs) - len(survivors)} of {len(bugs)} bugs were caught in {took:.0f} s")
    for bug in survivors:
        print(f"survives: {bug}")
    return 1 if survivors else 0


def plant_one(bug, programs, tests):
    """Has a process of its own look which test catches a bug: see `one`."""
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, os.path.abspath(__file__), "--one", bug],
        input=json.dumps({"programs": programs, "tests": tests}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return ended.stdout.strip(), time.monotonic() - started


def one(bug):
    """Prints which test catches a bug; nothing if none does. Whatever loses its parent
    becomes a child of this process, and ends with it."""
    adopt()
    given = json.load(sys.stdin)
    print(first_caught(bug, given["programs"], given["tests"]) or "")
    kill_children()
    return 0


def first_caught(bug, programs, tests):
    for program in dict.fromkeys(program for program, _ in tests):
        names = [name for p, name in tests if p == program]
        failed = failures(bug, programs[program], ["--exact", *names], KNOWN_LIMIT)
        if failed:
            return f"{program} {' '.join(failed)}"
    for program in PROGRAMS:
        if program in programs:
            failed = failures(bug, programs[program], [], PROGRAM_LIMIT)
            if failed:
                return f"{program} {' '.join(failed)} [not known to]"
    return None


def failures(bug, program, arguments, limit):
    """Returns the tests that fail, or what else is wrong."""
    process = subprocess.Popen(
        [program, *arguments],
        cwd=ROOT,
        env={**clean_environment(), "FBUILD_SABOTAGE": bug},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kill_children()
        return [f"(no end after {limit} s)"]
    kill_children()
    if process.returncode == 0:
        return []
    failed = re.findall(r"^test (\S+) \.\.\. FAILED$", said, re.M)
    failed = failed or re.findall(r"^    (\S+)$", said, re.M)
    return sorted(set(failed)) or [f"(ended with {process.returncode})"]


if __name__ == "__main__":
    sys.exit(main())
