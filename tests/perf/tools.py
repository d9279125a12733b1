"""The compared tools: the build file, command line and state of each. `measure.py` decides what is
measured.
"""

import os
import pathlib
import re
import shutil
import subprocess


class Tool:
    """A build tool with its own copy of the project."""

    name = ""
    inside = False  # whether outputs must be in their target's folder
    state = ()  # files and folders of its state
    quiet = ()  # variables that disable unrelated work
    most_targets = 10**9  # the largest project

    def __init__(self, programs, project):
        self.programs = programs
        self.project = project
        self.salt = {}

    @property
    def mix(self):
        return self.programs.mix

    def version(self):
        """Returns its version, or None if it is not available."""
        raise NotImplementedError

    def write(self):
        """Writes its build files."""
        raise NotImplementedError

    def command(self):
        """Returns the command that builds everything with two jobs."""
        raise NotImplementedError

    def environment(self):
        return {**os.environ, **dict(self.quiet)}

    def edit_text(self, target, number):
        """Changes the command of one target in the build file."""
        self.salt[target] = str(number)
        self.write()

    def forget(self):
        """Removes its state and outputs."""
        self.stop()
        self.project.delete_outputs()
        for name in self.state:
            self.project.stash(name)

    def stop(self):
        """Ends its background processes."""

    def argv(self, target):
        return self.project.command(target, self.mix, self.salt.get(target, "0"))

    def put(self, name, text):
        """Writes a file of the project if its content differs."""
        path = self.project.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def first_version(command, env=None):
    """Returns the first version number in a command's output; None if it cannot run."""
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, env=env
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+\.\d+[\w.+-]*", run.stdout + run.stderr)
    return found.group(0) if found and run.returncode == 0 else None


class Fbuild(Tool):
    name = "fbuild"
    state = (".build-cache",)
    most_in_file = 20_000  # targets

    def version(self):
        return first_version([self.programs.fbuild, "--version"])

    def command(self):
        return [self.programs.fbuild, "run", "--jobs", "2"]

    def write(self):
        p = self.project
        targets = [self.target(target) for target in p.targets]
        wanted = " ".join(p.name(target) for target in p.last_layer)
        ends = ["project bench { default all }\n"], [f"group all {{ needs {wanted} }}\n"]
        if len(targets) <= self.most_in_file:
            return self.put("Buildfile.kdl", "\n".join([*ends[0], *targets, *ends[1]]))
        # A Buildfile has at most 8 MiB: split it into several.
        starts = range(0, len(targets), self.most_in_file)
        for start in starts:
            self.put(f"targets-{start}.kdl", "\n".join(targets[start : start + self.most_in_file]))
        includes = [f'include "targets-{start}.kdl"\n' for start in starts]
        self.put("Buildfile.kdl", "\n".join([*ends[0], *includes, *ends[1]]))

    def target(self, target):
        """Returns the text of a target."""
        p = self.project
        needs = " ".join(p.name(need) for need in p.needs(target))
        lines = [
            f"target {p.name(target)} {{",
            *([f"    needs {needs}"] if needs else []),
            f"    inputs {quoted(p.source_folder(target) + '/*.dat')}",
            f"    outputs {quoted(p.output(target))}",
            f"    run {' '.join(quoted(arg) for arg in self.argv(target))}",
            "}",
        ]
        return "\n".join(lines) + "\n"


def quoted(text):
    return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


class Ninja(Tool):
    name = "ninja"
    state = (".ninja_log", ".ninja_deps")

    def program(self):
        return self.programs.find("ninja")

    def version(self):
        return first_version([self.program(), "--version"]) if self.program() else None

    def command(self):
        return [self.program(), "-j2", "--quiet"]

    def write(self):
        p = self.project
        lines = ["rule mix", "  command = $argv", ""]
        for target in p.targets:
            needs = [p.output(need) for need in p.needs(target)]
            lines += [
                f"build {p.output(target)}: mix {' '.join(p.sources(target) + needs)}",
                f"  argv = {' '.join(self.argv(target))}",
            ]
        self.put("build.ninja", "\n".join([*lines, ""]))


class Make(Tool):
    name = "make"

    def version(self):
        return first_version(["make", "--version"])

    def command(self):
        return ["make", "-rR", "-s", "-j2"]

    def write(self):
        p = self.project
        lines = ["all: " + " ".join(p.output(target) for target in p.last_layer), ".PHONY: all"]
        for target in p.targets:
            needs = [p.output(need) for need in p.needs(target)]
            lines += [
                f"{p.output(target)}: {' '.join(p.sources(target) + needs)}",
                "\t" + " ".join(self.argv(target)),
            ]
        self.put("Makefile", "\n".join([*lines, ""]))


class Programs:
    """The paths of fbuild, the helpers, and the installed peers."""

    def __init__(self, work, fbuild):
        self.work = pathlib.Path(work)
        self.fbuild = str(pathlib.Path(fbuild).resolve())
        self.folder = self.work / "bin"
        self.mix = self.folder / "mix"
        self.floor = self.folder / "floor"
        self.ran = self.work / "ran"

    def compile(self):
        """Compiles the helpers."""
        here = pathlib.Path(__file__).parent
        self.folder.mkdir(parents=True, exist_ok=True)
        flags = ["-O2", "-pthread", f'-DRAN="{self.ran}"']
        for program in ["mix", "floor"]:
            command = [os.environ.get("CC", "cc"), *flags, str(here / f"{program}.c")]
            made = self.folder / f"{program}.new"
            static = [*command, "-static", "-o", str(made)]
            if subprocess.run(static, stderr=subprocess.DEVNULL).returncode:
                subprocess.run([*command, "-o", str(made)], check=True)
            made.replace(self.folder / program)
        self.ran.write_bytes(b"")

    def find(self, name):
        """Returns the path of a peer's program; an installed one takes precedence."""
        places = [self.work / "peers/python/bin", self.work / "peers/node_modules/.bin"]
        path = os.pathsep.join([*map(str, places), os.environ.get("PATH", "")])
        return shutil.which(name, path=path)


TOOLS = {tool.name: tool for tool in [Fbuild, Ninja, Make]}
