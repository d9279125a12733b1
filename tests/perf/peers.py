"""Less common peers, from PyPI and npm in fixed versions. Each builds the same graph as its manual
recommends, with two jobs and without a network."""

import json
import os
import subprocess

from tools import Tool, first_version

PYTHON = ["ninja==1.13.2", "doit==0.37.0", "scons==4.11.1", "go-task-bin==3.54.0"]
NODE = ["turbo@2.11.11", "nx@24.0.6", "@moonrepo/cli@2.5.5"]


def install(programs, say):
    """Installs the peers next to the trees, once; unavailable ones are left out later."""
    folder = programs.work / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "python").exists():
        say(f"installing {' '.join(PYTHON)}")
        subprocess.run(["python3", "-m", "venv", folder / "python"], check=False)
        pip = folder / "python/bin/pip"
        subprocess.run([pip, "install", "--quiet", *PYTHON], check=False)
    if not (folder / "node_modules").exists():
        say(f"installing {' '.join(NODE)}")
        npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *NODE]
        subprocess.run(npm, check=False)


class Peer(Tool):
    """A tool that is found by the name of its program."""

    def program(self):
        return self.programs.find(self.name)

    def version(self):
        return first_version([self.program(), "--version"]) if self.program() else None


class Doit(Peer):
    name = "doit"
    state = (".doit.db", ".doit.db.db")
    most_targets = 10_000

    def command(self):
        return [self.program(), "--file", "dodo.py", "-n", "2", "--backend", "sqlite3"]

    def write(self):
        p = self.project
        tasks = [
            {
                "name": p.name(target),
                "actions": [self.argv(target)],
                "file_dep": p.sources(target) + [p.output(need) for need in p.needs(target)],
                "targets": [p.output(target)],
            }
            for target in p.targets
        ]
        self.put("tasks.json", json.dumps(tasks))
        self.put(
            "dodo.py",
            "import json\nDOIT_CONFIG = {'verbosity': 0}\n\ndef task_all():\n    yield from json.load(open('tasks.json'))\n",
        )


class Scons(Peer):
    name = "scons"
    state = (".sconsign.dblite", ".scons-cache")
    most_targets = 1_000

    def command(self):
        return [self.program(), "-Q", "-s", "-j2"]

    def write(self):
        p = self.project
        lines = ["env = Environment(SCANNERS=[])", "CacheDir('.scons-cache')", "Decider('content-timestamp')"]
        for target in p.targets:
            sources = p.sources(target) + [p.output(need) for need in p.needs(target)]
            argv = " ".join(self.argv(target))
            lines.append(f"env.Command({p.output(target)!r}, {sources!r}, {argv!r})")
        self.put("SConstruct", "\n".join([*lines, ""]))


class Task(Peer):
    name = "task"
    state = (".task",)
    most_targets = 1_000

    def command(self):
        return [self.program(), "--silent", "--concurrency", "2", "all"]

    def write(self):
        p = self.project
        lines = ["version: '3'", "run: once", "tasks:", "  all:", "    deps: [" + ", ".join(map(p.name, p.last_layer)) + "]"]
        for target in p.targets:
            sources = [f"{p.source_folder(target)}/*.dat", *(p.output(need) for need in p.needs(target))]
            lines += [
                f"  {p.name(target)}:",
                "    deps: [" + ", ".join(map(p.name, p.needs(target))) + "]",
                "    sources: [" + ", ".join(f"'{source}'" for source in sources) + "]",
                f"    generates: ['{p.output(target)}']",
                f"    cmds: ['{' '.join(self.argv(target))}']",
            ]
        self.put("Taskfile.yml", "\n".join([*lines, ""]))


class Package(Peer):
    """A tool that builds packages of a JavaScript workspace: a target is a package."""

    inside = True

    def argv(self, target):
        """Returns the command for the target's folder."""
        program, output, size, salt, _, *needs = super().argv(target)
        up = [f"../../{need}" for need in needs]
        return [program, os.path.basename(output), size, salt, ".", *up]

    def write_package(self, target, **more):
        p = self.project
        package = {
            "name": p.name(target),
            "version": "1.0.0",
            "scripts": {"build": " ".join(self.argv(target))},
            "dependencies": {p.name(need): "1.0.0" for need in p.needs(target)},
            **more,
        }
        self.put(f"{p.source_folder(target)}/package.json", json.dumps(package, indent=1))

    def commit(self):
        """Commits the files, because these tools list them with git."""
        if not self.project.path(".git").exists():
            self.put(".gitignore", "*.out\nnode_modules\n.turbo\n.nx\n.moon/cache\n.generated\n.edited\n")
            git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
            for command in [["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]]:
                subprocess.run([*git, *command], cwd=self.project.folder, check=True)


class Turbo(Package):
    name = "turbo"
    state = (".turbo", "node_modules/.cache")
    quiet = (("TURBO_TELEMETRY_DISABLED", "1"), ("DO_NOT_TRACK", "1"), ("CI", "1"))
    most_targets = 1_000

    def command(self):
        return [self.native(), "run", "build", "--concurrency=2", "--output-logs=none", "--no-update-notifier", "--cache=local:rw"]

    def native(self):
        """Returns the program itself rather than the script that starts it."""
        folder = self.programs.work / "peers/node_modules"
        found = [*folder.glob("@turbo/*/bin/turbo"), *folder.glob("turbo-*/bin/turbo")]
        return str(found[0]) if found else self.program()

    def environment(self):
        # A small replacement for `npm run`, which needs a tenth of a second per target.
        return {**super().environment(), "PATH": f"{self.project.folder}/.bin:{os.environ['PATH']}"}

    def write(self):
        p = self.project
        workspace = {"name": "root", "private": True, "packageManager": "npm@10.0.0", "workspaces": ["src/*"]}
        self.put("package.json", json.dumps(workspace, indent=1))
        task = {"dependsOn": ["^build"], "inputs": ["*.dat"], "outputs": ["*.out"]}
        self.put("turbo.json", json.dumps({"tasks": {"build": task}}, indent=1))
        packages = {"": {"name": "root", "workspaces": ["src/*"]}}
        for target in p.targets:
            self.write_package(target)
            packages[p.source_folder(target)] = {"name": p.name(target), "version": "1.0.0", "dependencies": {p.name(n): "1.0.0" for n in p.needs(target)}}
            packages[f"node_modules/{p.name(target)}"] = {"resolved": p.source_folder(target), "link": True}
        self.put("package-lock.json", json.dumps({"name": "root", "lockfileVersion": 3, "packages": packages}))
        script = '#!/bin/sh\nexec $(sed -n \'s/.*"build": "\\(.*\\)".*/\\1/p\' package.json)\n'
        self.put(".bin/npm", script)
        p.path(".bin/npm").chmod(0o755)
        self.commit()


class Nx(Package):
    name = "nx"
    state = (".nx",)
    most_targets = 1_000
    quiet = (
        ("NX_DAEMON", "false"),
        ("NX_NO_CLOUD", "true"),
        ("NX_TUI", "false"),
        ("CI", "1"),
        ("NX_CACHE_DIRECTORY", ".nx/cache"),
        ("NX_WORKSPACE_DATA_DIRECTORY", ".nx/workspace-data"),
    )

    def command(self):
        return [self.program(), "run-many", "-t", "build", "--parallel=2", "--outputStyle=static"]

    def version(self):
        return first_version(["sh", "-c", f"cd / && '{self.program()}' --version"]) if self.program() else None

    def write(self):
        p = self.project
        self.put("package.json", json.dumps({"name": "root", "private": True, "workspaces": ["src/*"]}))
        modules = p.path("node_modules")
        if not modules.exists():
            modules.symlink_to(self.programs.work / "peers/node_modules")
        self.put("nx.json", json.dumps({"analytics": False, "neverConnectToCloud": True}))
        for target in p.targets:
            folder = p.source_folder(target)
            build = {
                "executor": "nx:run-commands",
                "options": {"command": " ".join(self.argv(target)), "cwd": folder},
                "cache": True,
                "dependsOn": ["^build"],
                "inputs": ["{projectRoot}/*.dat", {"dependentTasksOutputFiles": "**/*.out"}],
                "outputs": ["{projectRoot}/*.out"],
            }
            project = {"name": p.name(target), "targets": {"build": build}, "implicitDependencies": [p.name(n) for n in p.needs(target)]}
            self.put(f"{folder}/project.json", json.dumps(project, indent=1))
        self.commit()


class Moon(Package):
    name = "moon"
    state = (".moon/cache",)
    most_targets = 10
    quiet = (("MOON_TOOLCHAIN_FORCE_GLOBALS", "true"), ("CI", "1"))

    def command(self):
        return [self.program(), "run", ":build", "--concurrency", "2", "--quiet"]

    def write(self):
        p = self.project
        self.put(".moon/workspace.yml", "projects: ['src/*']\ntelemetry: false\n")
        for target in p.targets:
            needs = [p.name(need) for need in p.needs(target)]
            lines = [
                f"dependsOn: {json.dumps(needs)}",
                "tasks:",
                "  build:",
                f"    command: {json.dumps(' '.join(self.argv(target)))}",
                "    toolchains: ['system']",
                "    deps: ['^:build']",
                "    inputs: ['*.dat']",
                f"    outputs: ['{p.name(target)}.out']",
            ]
            self.put(f"{p.source_folder(target)}/moon.yml", "\n".join([*lines, ""]))
        self.commit()


PEERS = [Doit, Scons, Task, Turbo, Nx, Moon]
