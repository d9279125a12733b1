"""Measures tools: the scenarios, the floors, and rounds in which the tools take turns. `tools.py`
has the build files, `report.py` the tables."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import time

SETTLE = 0.05  # seconds after an edit, so that timestamps differ


@dataclasses.dataclass
class Run:
    """One measured run."""

    wall: float  # milliseconds
    cpu: float  # milliseconds of user and system time
    rss: int  # KiB at the peak
    commands: int
    is_cut: bool = False


class Failed(Exception):
    """A tool failed to build."""


class Scenario:
    """A change of a project before its next build."""

    def __init__(self, name, about, prepare, heavy=False, floor=None):
        self.name = name
        self.about = about
        self.prepare = prepare
        self.heavy = heavy  # it writes much: wait for the disk before
        self.floor = floor


def leaf(tool, number):
    layer = tool.project.last_layer
    return layer[number * 7 % len(layer)]


def base(tool, number):
    return number * 7 % tool.project.size.width


SCENARIOS = {
    scenario.name: scenario
    for scenario in [
        Scenario("cold", "nothing there", lambda t, n: t.forget(), True, "spawn"),
        Scenario("noop", "nothing changed", lambda t, n: None, floor="lstat"),
        Scenario("touch", "one file touched", lambda t, n: t.project.touch(base(t, n)), floor="lstat"),
        Scenario("leaf", "one leaf edited", lambda t, n: t.project.edit(leaf(t, n), n), floor="lstat"),
        Scenario("base", "one base file edited", lambda t, n: t.project.edit(base(t, n), n)),
        Scenario(
            "same", "an edit that leaves the output's bytes",
            lambda t, n: t.project.edit_comment(base(t, n), n),
        ),
        Scenario("restore", "all outputs deleted", lambda t, n: t.project.delete_outputs(), True, "copy"),
        Scenario("text", "one target's text edited", lambda t, n: t.edit_text(leaf(t, n), n), floor="lstat"),
    ]
}  # fmt: skip


class Floors:
    """The lower bounds of the work, measured on one tool's tree."""

    def __init__(self, programs, project):
        self.program = str(programs.floor)
        self.project = project
        self.folder = project.folder
        self._write_lists(programs.mix)

    def names(self, scenario):
        return {"noop": ["lstat", "sha256"]}.get(scenario.name, [scenario.floor] if scenario.floor else [])

    def command(self, name):
        match name:
            case "lstat":
                return [self.program, "lstat", ".floor/all", "2"]
            case "sha256":
                return [self.program, "sha256", ".floor/sources", "2"]
            case "copy":
                return [self.program, "copy", "out", ".floor/copy"]
            case "spawn":
                return [self.program, "spawn", ".floor/commands", "2"]

    def prepare(self, name):
        folder = {"copy": "copy", "spawn": "out"}.get(name)
        if folder:
            self.project.stash(f".floor/{folder}")
            (self.folder / ".floor" / folder).mkdir(parents=True)

    def _write_lists(self, mix):
        p = self.project
        everything, sources, commands = [], [], []
        for target in p.targets:
            if target % p.size.width == 0 and target:
                commands.append("")
            sources += p.sources(target)
            everything += [*p.sources(target), p.output(target)]
            argv = p.command(target, mix)
            commands.append(" ".join(arg.replace("out/", ".floor/out/") if arg.startswith("out/") else arg for arg in argv))
        for name, lines in [("all", everything), ("sources", sources), ("commands", commands)]:
            path = self.folder / ".floor" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join([*lines, ""]))


class Bench:
    """Measures tools on projects of one size."""

    def __init__(self, programs, tools, floors, limit, say):
        self.programs = programs
        self.tools = tools
        self.floors = floors
        self.limit = limit  # seconds for one run
        self.say = say
        self.differ = False  # whether tools produced different outputs from the same sources
        self.number = int(time.time()) % 1_000_000 * 1000  # edits differ from those of earlier benches

    def set_up(self):
        """Builds everything once before the measurements."""
        for tool in list(self.tools):
            if not self._settle(tool):
                self.tools.remove(tool)

    def measure(self, scenario, rounds):
        """Returns the runs of each tool and floor, a list with an entry (or None) for each round."""
        runs = {tool.name: [] for tool in self.tools}
        floors = {name: [] for name in self.floors.names(scenario)} if self.floors else {}
        if scenario.name != "cold":
            for tool in list(self.tools):
                if not self._settle(tool):
                    self.tools.remove(tool)
        for turn in range(rounds):
            self.number += 1
            order = [*self.tools, *floors]
            for who in order[turn % len(order):] + order[: turn % len(order)]:
                if isinstance(who, str):
                    floors[who].append(self._run_floor(who, scenario.heavy))
                else:
                    runs[who.name].append(self._run_scenario(who, scenario, runs[who.name]))
            self.say(f"    {scenario.name} {turn + 1}/{rounds}: " + self._last(runs, floors))
        if scenario.name != "text":
            self._compare_outputs()
        return runs, floors

    def _run_scenario(self, tool, scenario, before):
        if before and (before[-1] is None or before[-1].is_cut):
            return None
        scenario.prepare(tool, self.number)
        self._rest(scenario.heavy)
        return self.run(tool.command(), tool.project.folder, tool.environment())

    def _run_floor(self, name, heavy):
        self.floors.prepare(name)
        self._rest(heavy)
        return self.run(self.floors.command(name), self.floors.folder, None)

    def _rest(self, heavy):
        if heavy:
            os.sync()
        time.sleep(SETTLE)

    def run(self, command, folder, environment):
        """Runs a command once, at most until the limit."""
        result = self.programs.work / "metered"
        result.unlink(missing_ok=True)
        self.programs.ran.write_bytes(b"")
        with open(self.programs.work / "output", "wb") as output:
            child = subprocess.Popen(
                [str(self.programs.floor), "meter", str(result), *map(str, command)],
                cwd=folder, env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
            try:
                child.wait(self.limit)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                return Run(self.limit * 1000, 0, 0, self._commands(), is_cut=True)
        fields = result.read_text().split() if result.exists() else []
        if len(fields) != 5 or fields[4] != "0":
            text = (self.programs.work / "output").read_text(errors="replace")
            raise Failed(f"{' '.join(map(str, command))} in {folder}: {text[-2000:]}")
        wall, user, system, rss, _ = map(int, fields)
        return Run(wall / 1e6, (user + system) / 1e3, rss, self._commands())

    def _commands(self):
        return self.programs.ran.stat().st_size

    def _settle(self, tool):
        """Builds until nothing is left to do; returns False if that never happens."""
        try:
            for _ in range(3):
                run = self.run(tool.command(), tool.project.folder, tool.environment())
                time.sleep(SETTLE)
                if run.is_cut:
                    self.say(f"    {tool.name}: left out, more than {self.limit} s")
                    return False
                if run.commands == 0:
                    break
        except Failed as failed:
            self.say(f"    {tool.name}: left out: {failed}")
            return False
        return True

    def _compare_outputs(self):
        digests = {}
        for tool in self.tools:
            outputs = hashlib.sha256()
            for target in tool.project.targets:
                try:
                    outputs.update(tool.project.path(tool.project.output(target)).read_bytes())
                except FileNotFoundError:
                    outputs.update(b"missing")
            digests.setdefault(outputs.hexdigest(), []).append(tool.name)
        if len(digests) > 1:
            self.say(f"    outputs differ: {list(digests.values())}")
            self.differ = True

    def _last(self, runs, floors):
        both = {**runs, **floors}
        last = [(name, done[-1]) for name, done in both.items() if done and done[-1]]
        return ", ".join(f"{name} {run.wall:.1f}" + (f" ({run.commands} run)" if run.commands else "") for name, run in last)
