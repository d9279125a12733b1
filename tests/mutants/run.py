#!/usr/bin/env python3
"""Mutation tests: runs all mutants of `cargo mutants` in one build.
`python3 tests/mutants/run.py`

`cargo mutants --list` lists the possible changes in the modules of `.cargo/mutants.toml`. A
build for each would take days; so a copy of the repository below the target folder contains all
of them at once, each as an alternative that is selected by a variable at run time (`plant.py`).
Mutants that do not compile are left out, as by `cargo mutants`; those that cannot be one of two
alternatives have a build of their own.

A first pass records which test reaches which mutant. Each mutant is then run against the tests
that reach it: the unit tests of its module, the other unit tests, and the test programs, until
one fails. A failing test is repeated alone, and only if it fails again the mutant is caught. A
test that exceeds four times its normal duration, plus some seconds, counts as failed.

    run.py                 all mutants
    run.py --only REGEX    those whose description matches
    run.py --survivors     those that are neither caught nor accepted
    run.py --unaccepted    all that are not accepted; fast if the catching tests are known
    run.py --jobs N        N at a time
    run.py --programs P,…  only these test programs (lib suites process driver cli)
    run.py --list          only creates the copy and counts its mutants
    run.py --seeded        the bugs of `seeded.toml` instead of mutants (`seeded.py`)
    run.py --seeded NAME…  these bugs; with --list, only checks that all rows fit the sources,
                           and with --search, prints other tests that catch them

A survivor must be in `tests/mutants/accepted.txt`, with a reason; the exit code is 1 if one is
not, or if an accepted mutant is caught. Results are kept in `mutants/results.json` of the target
folder and reused while the sources are the same.

Needs Linux and Python 3.11; mutants also need `cargo install cargo-mutants`. `tree-sitter` and
`tree-sitter-rust` are installed from PyPI into a folder below the target folder.
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import time

# Create no cache files next to the sources.
sys.dont_write_bytecode = True

import seeded
import tree
from tree import PROGRAMS, QUICK, SCRATCH, TREE, load, save
from workers import in_parallel

HERE = os.path.dirname(os.path.abspath(__file__))
ACCEPTED = os.path.join(HERE, "accepted.txt")
# Tests slower than this many seconds run last.
SLOW = 1


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--only")
    parser.add_argument("--survivors", action="store_true")
    parser.add_argument("--unaccepted", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--seeded", action="store_true")
    parser.add_argument("--search", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    os.makedirs(SCRATCH, exist_ok=True)
    tree.use_packages()
    if options.seeded:
        return seeded.main(options)
    mutants = tree.listed()
    digest, outer = tree.make_copy()
    fates = tree.plant_all(mutants)
    programs = tree.build()
    if options.list:
        return 0
    state = State(digest, outer)
    wanted = chosen(mutants, options, state)
    baseline = Baseline(programs, digest, options.jobs, mutants)
    todo = [m for m in wanted if fates[m["key"]] == "guarded"]
    try_all(todo, baseline, state, options)
    try_alone(wanted, fates, baseline, state, options)
    return report(mutants, fates, state)


# The tests that reach each mutant.


class Baseline:
    """The mutants that each test reaches, and its duration, without a mutant."""

    def __init__(self, programs, digest, jobs, mutants):
        self.programs, self.mutants = programs, mutants
        kept = os.path.join(SCRATCH, "baseline.json")
        known = load(kept)
        if known.get("digest") != digest:
            known = {"digest": digest, "tests": self.recorded(jobs, len(mutants))}
            save(kept, known)
        self.tests = known["tests"]
        # The tests that reach each mutant.
        self.meet = collections.defaultdict(list)
        for test in self.tests:
            for number in test["seen"]:
                self.meet[number].append(test)

    def recorded(self, jobs, count):
        asked, tests = [], []
        for program, file in self.programs.items():
            listed = subprocess.run([file, "--list"], stdout=subprocess.PIPE, text=True, cwd=TREE)
            found = re.findall(r"^(\S+): test$", listed.stdout, re.M)
            for test in filter(lambda test: test.startswith(QUICK.get(program, "")), found):
                one = {"program": program, "file": file, "folder": TREE, "test": test}
                asked.append({**one, "record": count})
        print(f"{len(asked)} tests without a mutant", flush=True)

        def then(one, answer):
            if answer["failed"]:
                print(f"note: fails without a mutant: {one['program']} {one['test']}: {answer['failed']}")
            else:
                tests.append({"program": one["program"], "test": one["test"], **answer})

        in_parallel(jobs, asked, then)
        return tests

    def batches(self, mutant, programs, first, files=None):
        """The tests for a mutant, in order. For one with a build of its own: the tests that reach
        others in its function, or all tests if there are none."""
        module, meet = module_of(mutant["file"]), self.meet[mutant["number"]]
        if files:
            function = (mutant["file"], mutant["function"])
            others = {m["number"] for m in self.mutants if (m["file"], m["function"]) == function}
            meet = [test for test in self.tests if others & set(test["seen"])] or self.tests
        meet = [test for test in meet if test["program"] in programs]

        def rank(test):
            is_own = test["program"] == "lib" and test["test"].split("::")[: len(module)] == module
            return test["seconds"] > SLOW, PROGRAMS.index(test["program"]), not is_own

        groups = collections.defaultdict(list)
        for test in sorted(meet, key=lambda test: (rank(test), test["seconds"])):
            is_first = (test["program"], test["test"]) == first
            groups[(False, -1) if is_first else rank(test)].append(test)
        batches = []
        for _, tests in sorted(groups.items()):
            while tests:
                size = next((n for n in range(1, len(tests)) if sum(t["seconds"] for t in tests[:n]) > 3), len(tests))
                batches.append(self.batch(tests[: max(size, 1)], files))
                tests = tests[max(size, 1) :]
        return batches

    def batch(self, tests, files):
        program = tests[0]["program"]
        named = [(test["test"], test["seconds"]) for test in tests]
        return {"program": program, "file": (files or self.programs)[program], "folder": TREE, "tests": named}


def module_of(file):
    words = file.removeprefix("src/").removesuffix(".rs").split("/")
    return words[:-1] if words[-1] == "mod" else words


class State:
    """The results of all mutants, saved between runs."""

    def __init__(self, digest, outer):
        self.digest, self.outer = digest, outer
        self.path = os.path.join(SCRATCH, "results.json")
        self.results = load(self.path)
        self.saved = time.monotonic()

    def of(self, mutant):
        return self.results.get(mutant["key"], {})

    def is_caught(self, mutant):
        known = self.of(mutant)
        return bool(known.get("digest") == self.digest and known["by"])

    def silent(self, mutant):
        """The programs that did not catch a mutant in its present form."""
        known = self.of(mutant)
        if known.get("digest") == self.digest:
            return set(known["programs"])
        is_same = known.get("outer") == self.outer and not known["by"]
        return set(known["programs"]) - {"lib"} if is_same else set()

    def keep(self, mutant, answer, programs):
        by = answer and [answer["program"], answer["test"], answer["how"]]
        programs = sorted(self.silent(mutant) | set(programs))
        known = {"digest": self.digest, "outer": self.outer, "by": by, "programs": programs}
        self.results[mutant["key"]] = known
        if time.monotonic() - self.saved > 10:
            self.save()

    def save(self):
        save(self.path, self.results)
        self.saved = time.monotonic()


def chosen(mutants, options, state):
    wanted = mutants
    if options.only:
        wanted = [m for m in wanted if re.search(options.only, m["name"])]
    if options.survivors:
        wanted = [m for m in wanted if not state.of(m).get("by")]
    if options.survivors or options.unaccepted:
        may_survive = accepted()
        wanted = [m for m in wanted if not state.of(m) or m["key"] not in may_survive]
    # Slow tests of processes come last.
    return sorted(wanted, key=lambda m: m["file"].startswith("src/exec"))


def try_all(todo, baseline, state, options):
    """Runs the tests of mutants."""
    programs = options.programs.split(",")
    asked = []
    for mutant in todo:
        fresh = set(programs) - state.silent(mutant)
        if fresh and not state.is_caught(mutant):
            known = state.of(mutant).get("by")
            batches = baseline.batches(mutant, fresh, tuple(known[:2]) if known else None)
            asked.append({"number": mutant["number"], "batches": batches, "mutant": mutant})
    print(f"{len(asked)} mutants", flush=True)
    started, count = time.monotonic(), 0

    def then(one, answer):
        nonlocal count
        count += 1
        state.keep(one["mutant"], answer, programs)
        took = time.monotonic() - started
        if not answer:
            print(f"{count}/{len(asked)} {took:.0f} s survives: {one['mutant']['name']}", flush=True)
        elif count % 100 == 0:
            print(f"{count}/{len(asked)} {took:.0f} s", flush=True)

    in_parallel(options.jobs, asked, then)
    state.save()


def try_alone(wanted, fates, baseline, state, options):
    """Builds and tests the mutants that need builds of their own."""
    programs = options.programs.split(",")
    todo = [m for m in wanted if fates[m["key"]] == "alone" and not state.is_caught(m)]
    todo = [m for m in todo if set(programs) - state.silent(m)]
    if not todo:
        return
    planted = tree.Planted(baseline.mutants)
    guarded = {m["number"] for m in baseline.mutants if fates[m["key"]] == "guarded"}
    for mutant in todo:
        planted.plant(set())
        changed = planted.make(planted.texts[mutant["file"]]).replace(mutant)
        tree.write(mutant["file"], changed)
        files, known = tree.build(programs), state.of(mutant).get("by")
        batches = baseline.batches(mutant, programs, tuple(known[:2]) if known else None, files)
        asked = {"number": 0, "batches": batches}
        in_parallel(1, [asked], lambda _, answer: state.keep(mutant, answer, programs))
        print(f"alone: {mutant['name']}: {state.of(mutant)['by'] or 'survives'}", flush=True)
        state.save()
    planted.plant(guarded)


# The report.


def accepted():
    """The mutants that may survive, each with the reason above it: a line without `src/`."""
    reasons, reason = {}, None
    if os.path.exists(ACCEPTED):
        with open(ACCEPTED, encoding="utf-8") as file:
            for line in filter(None, map(str.strip, file)):
                if line.startswith("src/"):
                    reasons[line] = reason
                elif not line.startswith("#"):
                    reason = line
    return reasons


def report(mutants, fates, state):
    """Prints the figures of all results so far; returns the exit code."""
    reasons, table, code = accepted(), collections.defaultdict(collections.Counter), 0
    survivors = []
    for mutant in mutants:
        known, fate = state.of(mutant), fates[mutant["key"]]
        if known and known["by"] and known["by"][2] == "no end" and mutant["key"] in reasons:
            # No test caught it: the machine was busy.
            known = {**known, "by": None}
        if fate == "unviable":
            verdict = "unviable"
        elif not known:
            verdict = "not tried"
        elif known["by"]:
            verdict = "no end" if known["by"][2] == "no end" else "caught"
        else:
            verdict = "accepted" if mutant["key"] in reasons else "survives"
            survivors += [mutant] if verdict == "survives" else []
        if known and known["digest"] != state.digest and fate != "unviable":
            table[mutant["file"]]["of an earlier state"] += 1
        table[mutant["file"]][verdict] += 1
        if known and known["by"] and mutant["key"] in reasons:
            code = 1
            print(f"error: accepted, but caught by {known['by'][1]}: {mutant['key']}")
    for key in sorted(set(reasons) - {mutant["key"] for mutant in mutants}):
        code = 1
        print(f"error: accepted, but there is no such mutant: {key}")
    columns = ["caught", "no end", "accepted", "survives", "unviable", "not tried", "of an earlier state"]
    print(f"\n{'file':34}", *(f"{column:>10}" for column in columns))
    for file, counts in sorted(table.items()):
        print(f"{file:34}", *(f"{counts[column] or '':>10}" for column in columns))
    sums = {column: sum(counts[column] for counts in table.values()) for column in columns}
    print(f"{'all':34}", *(f"{sums[column]:>10}" for column in columns))
    for mutant in survivors:
        print(f"survives: {mutant['name']}\n          {mutant['key']}")
    killed = sums["caught"] + sums["no end"]
    tried = killed + sums["accepted"] + sums["survives"]
    print(f"\n{killed} of {tried} mutants that compile were caught: {100 * killed / max(tried, 1):.1f} %")
    return 1 if survivors else code


if __name__ == "__main__":
    sys.exit(main())
