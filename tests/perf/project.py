#!/usr/bin/env python3
"""Measures fbuild on a real project, by default the one of this repository.

    cargo build --release
    python3 tests/perf/project.py manager worker

"cold" is a build with nothing in fbuild's cache (the tools' own caches are as they are);
"by hand" the same commands, in the same order and with the same parallelism, started by this
script, which stores and checks nothing. Both alternate. "again" is a no-op run, from start to exit.

Needs Python 3 and the tools of the project.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=["manager", "worker"])
    parser.add_argument("--folder", type=pathlib.Path, default=HERE.parent.parent, help="where the Buildfile is")
    parser.add_argument("--fbuild", type=pathlib.Path, default=HERE.parent.parent / "target/release/fbuild")
    parser.add_argument("--rounds", type=int, default=3, help="how often it is built (default: 3)")
    parser.add_argument("--again", type=int, default=21, help="how often nothing is done (default: 21)")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    project = Project(args)
    project.cold()  # fills the tools' own caches
    cold, by_hand = [], []
    plan = project.plan()
    for turn in range(args.rounds):
        order = [(cold, project.cold), (by_hand, lambda: project.by_hand(plan))]
        for times, build in order if turn % 2 else reversed(order):
            times.append(build())
        print(f"{turn + 1}/{args.rounds}: cold {cold[-1]:.2f} s, by hand {by_hand[-1]:.2f} s", flush=True)
    project.cold()
    again = [project.run() for _ in range(args.again)]
    ratio = statistics.median(a / b for a, b in zip(cold, by_hand))
    print(f"cold     {statistics.median(cold):8.2f} s, {ratio:.3f} × by hand")
    print(f"by hand  {statistics.median(by_hand):8.2f} s")
    print(f"again    {statistics.median(again[1:]) * 1000:8.2f} ms")


class Project:
    def __init__(self, args):
        self.args = args
        self.state = args.folder / ".build-cache"

    def fbuild(self, *words):
        command = [str(self.args.fbuild), "-C", str(self.args.folder), *words]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout

    def run(self):
        """Returns the duration of a run in seconds."""
        start = time.perf_counter()
        self.fbuild("run", "--quiet", f"--jobs={self.args.jobs}", *self.args.targets)
        return time.perf_counter() - start

    def clean(self):
        self.fbuild("clean", "--all")
        os.sync()

    def cold(self):
        self.clean()
        return self.run()

    def plan(self):
        """Returns the targets of the last run in order: name, needs, folder, variables, commands."""
        graph = json.loads(self.fbuild("graph", "--format", "json"))
        needs = {t["name"]: [*t["needs"], *t["after"]] for t in graph["targets"]}
        runs = sorted((self.state / "runs").glob("*.jsonl"))
        events = [json.loads(line) for line in runs[-1].read_text().splitlines()]
        started = [event["target"] for event in events if event["event"] == "target-started"]
        return [(name, needs[name], *self.manifest(name)) for name in started]

    def manifest(self, target):
        key = json.loads((self.state / f"metadata/{target}.meta.json").read_text())["key"]
        text = (self.state / "artifacts" / key[:2] / key).read_text()
        lines = [[unescape(field) for field in line.split("\t")] for line in text.splitlines()]
        folder = next(line[1] for line in lines if line[0] == "dir")
        variables = {line[1]: line[2][1:] for line in lines if line[0] == "env" and len(line) > 2}
        commands = [line[1:] if line[0] == "run" else ["sh", "-euc", line[1]] for line in lines if line[0] in ("run", "sh")]
        return folder, variables, commands

    def by_hand(self, plan):
        """Returns the duration of a plan's commands in seconds."""
        self.clean()
        root = self.root()
        done, waiting, changed = set(), list(plan), threading.Condition()

        def work():
            while True:
                with changed:
                    ready = lambda: next((one for one in waiting if done.issuperset(one[1])), None)
                    changed.wait_for(lambda: ready() or not waiting)
                    one = ready()
                    if one is None:
                        return
                    waiting.remove(one)
                self.run_commands(root, *one[2:])
                with changed:
                    done.add(one[0])
                    changed.notify_all()

        start = time.perf_counter()
        workers = [threading.Thread(target=work) for _ in range(self.args.jobs)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(done) == len(plan), "a command failed"
        return time.perf_counter() - start

    def root(self):
        text = (self.args.folder / "Buildfile.kdl").read_text()
        below = re.search(r'^\s*root "([^"]*)"', text, re.MULTILINE)
        return self.args.folder / (below[1] if below else ".")

    def run_commands(self, root, folder, variables, commands):
        with tempfile.TemporaryDirectory() as temporary:
            environment = {**os.environ, **variables, "TMPDIR": temporary}
            for command in commands:
                subprocess.run(
                    command, cwd=root / folder, env=environment, check=True,
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip


def unescape(field):
    """Undoes the escapes of a manifest: `\\\\` and `\\xNN`."""
    return re.sub(r"\\(?:x([0-9a-f]{2})|(\\))", lambda m: m[2] or chr(int(m[1], 16)), field)


if __name__ == "__main__":
    main()
