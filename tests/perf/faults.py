#!/usr/bin/env python3
"""Compares the results of fbuild and other tools after faults.

    python3 tests/perf/faults.py --fbuild target/release/fbuild [--tools FOLDER]

FOLDER must contain the result of `npm install turbo @moonrepo/cli`; `ninja` and `task` (`pip
install go-task-bin`) are taken from PATH. Each available tool gets one target, which slowly
copies `in` to `out`. Each of four faults happens in a new folder, and only real runs are printed:

    edited       `in` is edited while the command runs, after it was read. Is `out` right
                 after the next run?
    edited back  `in` is edited while the command runs, before it was read, and restored
                 afterwards with its old time. Is `out` right after the next run?
    killed       the tool and its command are killed (SIGKILL) when half of `out` is
                 written. Is `out` right after the next run?
    power cut    after a good build every state file of the tool loses its content, as if it
                 was never synced, and `out` is deleted. Is `out` right
                 after the next run?

The answer is `right`, `stale` (another content), `partial`, `missing`, or `fails`
(the next run ends with an error). Needs Python 3.9 and git.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SLOW = """touch begun; sleep 0.5
v=$(cat in); printf %s "${v%??}" > out
touch reached; sleep 0.5; printf '%s\\n' "$v" > out"""


class Tool:
    """A tool, its files, and its command line."""

    def __init__(self, name, program, version, files, command, kept):
        self.name, self.program, self.version = name, program, version
        self.files, self.command, self.kept = files, command, kept

    def prepare(self, folder):
        for path, text in self.files.items():
            path = os.path.join(folder, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        author = ["-c", "user.name=p", "-c", "user.email=p@example.org"]
        for words in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "p"]):
            subprocess.run(["git", *words], cwd=folder, check=True, stderr=subprocess.DEVNULL)

    def start(self, folder):
        environment = dict(os.environ, TURBO_TELEMETRY_DISABLED="1", DO_NOT_TRACK="1", CI="1")
        return subprocess.Popen(
            [self.program, *self.command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def run(self, folder):
        return self.start(folder).wait(timeout=120)


def tools(arguments):
    npm = lambda name: os.path.join(arguments.tools or "/nonexistent", "node_modules/.bin", name)
    package = '{"name": "p", "private": true, "packageManager": "npm@10.0.0", "scripts": {"t": "sh slow.sh"}}\n'
    lock = '{"name": "p", "lockfileVersion": 3, "requires": true, "packages": {"": {"name": "p"}}}\n'
    script = {"slow.sh": SLOW + "\n", ".gitignore": "begun\nreached\nout\n.turbo\nnode_modules\n.task\n.moon/cache\n"}
    yield Tool(
        "fbuild", os.path.abspath(arguments.fbuild), ["--version"],
        {**script, "Buildfile.kdl": 'target t { inputs in "slow.sh"; outputs out; run sh "slow.sh" }\n'},
        ["run", "t"], [".build-cache"],
    )
    yield Tool(
        "ninja", shutil.which("ninja") or "", ["--version"],
        {**script, "build.ninja": "rule slow\n  command = sh slow.sh\nbuild out: slow in | slow.sh\n"},
        ["out"], [".ninja_log", ".ninja_deps"],
    )
    yield Tool(
        "go-task", shutil.which("task") or "", ["--version"],
        {**script, "Taskfile.yml": "version: '3'\ntasks:\n  t:\n    sources: [in, slow.sh]\n"
         "    generates: [out]\n    cmds: [sh slow.sh]\n"},
        ["t"], [".task"],
    )
    yield Tool(
        "Turborepo", npm("turbo"), ["--version"],
        {**script, "package.json": package, "package-lock.json": lock,
         "turbo.json": '{"tasks": {"t": {"inputs": ["in", "slow.sh"], "outputs": ["out"]}}}\n'},
        ["run", "t"], [".turbo", "node_modules/.cache"],
    )
    yield Tool(
        "moon", npm("moon"), ["--version"],
        {**script, ".moon/workspace.yml": "projects:\n  p: '.'\n",
         "moon.yml": "tasks:\n  t:\n    command: 'sh slow.sh'\n    inputs: ['in', 'slow.sh']\n    outputs: ['out']\n"},
        ["run", "p:t"], [".moon/cache"],
    )


def write(folder, text):
    with open(os.path.join(folder, "in"), "w", encoding="utf-8") as file:
        file.write(text)


def old(folder):
    """The initial `in`, a minute old."""
    write(folder, "first content\n")
    then = time.time() - 60
    os.utime(os.path.join(folder, "in"), (then, then))


def wait_for(folder, moment):
    path = os.path.join(folder, moment)
    until = time.monotonic() + 15
    while not os.path.exists(path):
        assert time.monotonic() < until, "the command did not begin"
        time.sleep(0.01)
    os.remove(path)


def answer(tool, folder):
    code = tool.run(folder)
    try:
        with open(os.path.join(folder, "out"), encoding="utf-8") as file:
            out = file.read()
    except FileNotFoundError:
        return "fails" if code else "missing"
    with open(os.path.join(folder, "in"), encoding="utf-8") as file:
        wanted = file.read()
    if out == wanted:
        return "right"
    return "fails" if code else "partial" if wanted.startswith(out) else "stale"


def edited(tool, folder):
    disturb(tool, folder, "reached")
    return answer(tool, folder)


def edited_back(tool, folder):
    disturb(tool, folder, "begun")
    old(folder)
    return answer(tool, folder)


def disturb(tool, folder, moment):
    """Edits `in` during the build."""
    old(folder)
    run = tool.start(folder)
    wait_for(folder, moment)
    write(folder, "other content\n")
    run.wait(timeout=120)


def killed(tool, folder):
    old(folder)
    run = tool.start(folder)
    wait_for(folder, "reached")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(1)
    return answer(tool, folder)


def power_cut(tool, folder):
    old(folder)
    assert tool.run(folder) == 0, "the first build fails"
    os.remove(os.path.join(folder, "out"))
    for kept in tool.kept:
        kept = os.path.join(folder, kept)
        files = [kept] if os.path.isfile(kept) else []
        files += [os.path.join(at, name) for at, _, names in os.walk(kept) for name in names]
        for path in files:
            os.truncate(path, 0)
    return answer(tool, folder)


TRIALS = [("edited", edited), ("edited back", edited_back), ("killed", killed), ("power cut", power_cut)]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--fbuild", required=True)
    parser.add_argument("--tools")
    arguments = parser.parse_args()
    print("| tool | " + " | ".join(name for name, _ in TRIALS) + " |")
    print("|---|" + "---|" * len(TRIALS), flush=True)
    for tool in tools(arguments):
        if not os.path.exists(tool.program):
            continue
        output = subprocess.run([tool.program, *tool.version], stdout=subprocess.PIPE, text=True).stdout
        version = next((word for word in output.split() if word[:1].isdigit()), "")
        answers = []
        for _, trial in TRIALS:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                old(folder)
                tool.prepare(folder)
                try:
                    answers.append(trial(tool, folder))
                except AssertionError as error:
                    answers.append(f"not tried: {error}")
        print(f"| {tool.name} {version} | " + " | ".join(answers) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
