"""Creates a copy of the repository with all mutants, and finds those that compile: see `run.py`."""

import collections
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from programs import executables

ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
SCRATCH = os.path.join(os.path.abspath(TARGET), "mutants")
TREE = os.path.join(SCRATCH, "tree")
PACKAGES = ["tree-sitter==0.26.*", "tree-sitter-rust==0.24.*"]
# In this order; `lib` are the unit tests.
PROGRAMS = ["lib", "suites", "process", "driver", "cli"]
# Run only these tests of a program; the others take minutes for each mutant.
QUICK = {"suites": "crash::file_systems::"}
# Further edits of the copy: every child process gets the number, and tests keep their files
# below one folder, which is removed.
PATCHES = [
    ("src/lib.rs", "// Words.\n", "#[doc(hidden)]\npub mod mutants;\n\n// Words.\n"),
    (
        "src/exec/process.rs",
        'command.args(args).env_clear().current_dir("/");',
        'command.args(args).env_clear().current_dir("/");\n    command.envs('
        'std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("FBUILD_MUTANT")));',
    ),
    ("tests/cli/project.rs", 'Path::new("/dev/shm")', 'std::env::temp_dir().as_path()'),
]
NOT_COPIED = ("tests/perf/", "tests/mutants/")
# The build: fast, with all checks, without debug information and warnings.
BUILD = {
    "CARGO_PROFILE_DEV_OPT_LEVEL": "1",
    "CARGO_PROFILE_DEV_DEBUG": "0",
    "CARGO_TARGET_DIR": os.path.join(SCRATCH, "build"),
    "RUSTFLAGS": "--cap-lints=allow",
}


def use_packages():
    """Makes the packages from PyPI importable."""
    folder = os.path.join(SCRATCH, "python")
    if not os.path.exists(os.path.join(folder, "bin", "python")):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [os.path.join(folder, "bin", "python"), "-m", "pip", "install", "--quiet"]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = os.path.join(folder, "lib", version, "site-packages")
    if not os.path.exists(os.path.join(site, "tree_sitter_rust")):
        subprocess.run([*pip, *PACKAGES], check=True)
    sys.path.insert(0, site)


def listed():
    """All mutants, each with a number and a key without line numbers."""
    command = ["cargo", "mutants", "--list", "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    mutants, met = json.loads(done.stdout), collections.Counter()
    for number, mutant in enumerate(mutants, 1):
        mutant["number"] = number
        file, line, _, change = re.match(r"(.*?):(\d+):(\d+): (.*)", mutant["name"], re.S).groups()
        mutant["line"], mutant["change"] = int(line), " ".join(change.split())
        key = f"{file}: {mutant['change']}"
        met[key] += 1
        mutant["key"] = key if met[key] == 1 else f"{key} #{met[key]}"
    return mutants


def make_copy(planted=None):
    """Copies the repository, but writes only changed files; with `planted`, texts of files
    instead of mutants. Returns two digests: of everything, and of everything except the unit
    tests."""
    digest, outer, names = hashlib.sha256(), hashlib.sha256(), {"src/mutants.rs"}
    for name in tracked():
        path = os.path.join(ROOT, name)
        with open(path, "rb") as file:
            content = file.read()
        if not name.startswith("docs/"):
            digest.update(f"{name} {len(content)}\n".encode() + content)
            outer.update(without_unit_tests(name, content))
        names.add(name)
        if planted is not None and name.startswith("src/") and name.endswith(".rs"):
            write(name, patched(name, planted.get(name, content.decode())))
        elif not is_mutated(name):
            write(name, patched(name, content.decode()) if name.endswith(".rs") else content)
            shutil.copymode(path, os.path.join(TREE, name))
    for name in ["mutants.rs", "plant.py"]:
        with open(os.path.join(HERE, name), "rb") as file:
            content = file.read()
        digest.update(content)
        outer.update(content)
        if name == "mutants.rs":
            write("src/mutants.rs", content)
    for folder, _, inside in os.walk(TREE):
        for path in (os.path.join(folder, name) for name in inside):
            if os.path.relpath(path, TREE) not in names:
                os.remove(path)
    return digest.hexdigest(), outer.hexdigest()


def without_unit_tests(name, content):
    if name.startswith("src/") and name.endswith("/tests.rs"):
        return b""
    return content.split(b"\n#[cfg(test)]\nmod tests")[0] if name.startswith("src/") else content


def tracked():
    """The files of the repository that the copy needs."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.decode()
    files = sorted(name for name in files.split("\0") if name and not name.startswith(NOT_COPIED))
    return [name for name in files if os.path.isfile(os.path.join(ROOT, name))]


def is_mutated(name):
    return name.startswith(("src/action/", "src/store/", "src/exec/")) and name.endswith(".rs")


def write(name, content):
    """Writes a file of the copy if its content differs."""
    path = os.path.join(TREE, name)
    content = content.encode() if isinstance(content, str) else content
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if file.read() == content:
                return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def patched(name, text):
    for file, old, new in PATCHES:
        if file == name and old not in text:
            sys.exit(f"error: {name} has no `{old}`: see PATCHES in tests/mutants/run.py")
        text = text.replace(old, new) if file == name else text
    return text


class Planted:
    """The copy's files with mutants."""

    def __init__(self, mutants):
        from plant import Planter

        self.mutants = {mutant["number"]: mutant for mutant in mutants}
        self.make, self.texts = Planter, {}
        for name in filter(is_mutated, tracked()):
            with open(os.path.join(ROOT, name), encoding="utf-8") as file:
                self.texts[name] = file.read()

    def digest(self):
        """A digest of the mutated sources without tests, and of the planter."""
        digest = hashlib.sha256(json.dumps([m["key"] for m in self.mutants.values()]).encode())
        for name in filter(lambda name: name.endswith(".rs"), tracked()):
            if name.startswith("src/"):
                with open(os.path.join(ROOT, name), "rb") as file:
                    digest.update(without_unit_tests(name, file.read()))
        for name in ["mutants.rs", "plant.py"]:
            with open(os.path.join(HERE, name), "rb") as file:
                digest.update(file.read())
        return digest.hexdigest()

    def of(self, name, numbers):
        return [m for n, m in self.mutants.items() if m["file"] == name and n in numbers]

    def plant(self, numbers):
        """Writes all files with these mutants as alternatives; returns those that cannot be planted."""
        refused = set()
        for name, text in self.texts.items():
            mutants = self.of(name, numbers)
            while mutants:
                text, lost = self.make(self.texts[name]).plant(mutants)
                refused |= {m["number"] for m in lost}
                if not lost:
                    break
                mutants = [m for m in mutants if m not in lost]
            write(name, patched(name, text if mutants else self.texts[name]))
        return refused

    def replace(self, numbers):
        """Writes all files with these mutants in place of the original."""
        for name, text in self.texts.items():
            for mutant in sorted(self.of(name, numbers), key=lambda m: -m["line"]):
                text = self.make(text).replace(mutant)
            write(name, text)


def plant_all(mutants):
    """Writes the copy's files with every mutant that can be an alternative. Returns the class
    of each: `guarded` (an alternative), `unviable` (does not compile), `alone` (the rest)."""
    planted, kept = Planted(mutants), os.path.join(SCRATCH, "planted.json")
    known, digest = load(kept), planted.digest()
    if known.get("digest") != digest:
        guarded = compiling(planted, set(planted.mutants))
        unviable = refused_alone(planted, set(planted.mutants) - guarded)
        known = {"digest": digest, "guarded": sorted(guarded), "unviable": sorted(unviable)}
        save(kept, known)
    guarded, unviable = set(known["guarded"]), set(known["unviable"])
    planted.plant(guarded)
    fates = {}
    for number, mutant in planted.mutants.items():
        fate = "guarded" if number in guarded else "unviable" if number in unviable else "alone"
        fates[mutant["key"]] = fate
    print("mutants:", dict(collections.Counter(fates.values())), flush=True)
    return fates


def compiling(planted, numbers):
    """The mutants that compile as alternatives of one another."""
    from plant import blamed

    while True:
        numbers = numbers - planted.plant(numbers)
        bad, errors = set(), check()
        for name, start, end, message in errors:
            with open(os.path.join(TREE, name), "rb") as file:
                found = blamed(file.read(), start, end)
            if not found and not bad:
                print(f"note: {name}: no mutant is to blame for: {message}", flush=True)
            bad |= set(found)
        print(f"{len(numbers)} mutants, {len(errors)} errors, {len(bad)} to be left out", flush=True)
        if not errors:
            return numbers
        if not bad & numbers:
            sys.exit("error: the copy does not compile, and no mutant is to blame")
        numbers = numbers - bad


def refused_alone(planted, numbers):
    """The mutants that do not compile in place of the original either. One mutant of each
    function is compiled at a time."""
    unviable, left = set(), set(numbers)
    while left:
        batch = {}
        for number in sorted(left):
            mutant = planted.mutants[number]
            function = mutant["function"]
            place = (mutant["file"], *where(function)) if function else (mutant["file"], 0, 10**9)
            if not any(p[0] == place[0] and p[1] <= place[2] and place[1] <= p[2] for p in batch):
                batch[place] = number
        left -= set(batch.values())
        while batch:
            planted.replace(set(batch.values()))
            errors, bad = check(), set()
            for name, start, _, message in errors:
                place = enclosing(planted, batch, name, start)
                if place is None:
                    print(f"note: {name}: no mutant is to blame for: {message}", flush=True)
                else:
                    bad.add(place)
            print(f"{len(batch)} mutants, each alone: {len(bad)} do not compile", flush=True)
            if not errors:
                break
            if not bad:
                sys.exit("error: the copy does not compile, and no mutant is to blame")
            unviable |= {batch.pop(place) for place in bad}
    return unviable


def where(function):
    return function["span"]["start"]["line"], function["span"]["end"]["line"]


def enclosing(planted, batch, name, start):
    """The function with a mutant that contains a byte of a changed file."""
    with open(os.path.join(TREE, name), "rb") as file:
        line = file.read()[:start].count(b"\n") + 1
    # Mutants above may have removed lines.
    moved = 0
    for place in sorted(p for p in batch if p[0] == name):
        mutant = planted.mutants[batch[place]]
        lines = mutant["span"]["end"]["line"] - mutant["span"]["start"]["line"]
        lines -= mutant["replacement"].count("\n")
        if place[1] - moved <= line <= place[2] - moved - lines:
            return place
        moved += lines
    return None


def build(wanted=PROGRAMS):
    """Builds the copy and its tests; returns the path of each test program."""
    programs, environment = {}, {**os.environ, **BUILD}
    tests = [word for name in wanted for word in (["--lib"] if name == "lib" else ["--test", name])]
    for command in (["test", "--no-run", *tests], ["build", "--example", "fbt"]):
        command = ["cargo", *command, "--message-format=json-render-diagnostics", "--quiet"]
        print("+", *command, flush=True)
        done = subprocess.run(command, cwd=TREE, env=environment, stdout=subprocess.PIPE, check=True)
        programs.update(executables(done.stdout))
    # Tests rebuild it if it is older than they are.
    os.utime(os.path.join(BUILD["CARGO_TARGET_DIR"], "debug", "examples", "fbt"))
    return programs


def check():
    """The compiler's errors: file, first and last byte, message."""
    command = ["cargo", "check", "--lib", "--message-format=json", "--quiet"]
    environment = {**os.environ, **BUILD}
    done = subprocess.run(command, cwd=TREE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    errors = []
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-message" and message["message"]["level"].startswith("error"):
            message = message["message"]
            for span in message["spans"]:
                if span["is_primary"]:
                    errors.append((span["file_name"], span["byte_start"], span["byte_end"], message["message"]))
    if done.returncode != 0 and not errors:
        sys.exit(f"error: cargo check: {done.stderr.decode()[-3000:]}")
    return errors


def load(path):
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def save(path, value):
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(value, file, indent=0, sort_keys=True)
    os.replace(path + ".new", path)
