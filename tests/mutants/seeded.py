"""Plants the bugs of `seeded.toml` in the copy of the repository, and runs the test of each:
see `run.py`. `plant.py` writes the edits, `trial.py` runs the tests."""

import collections
import difflib
import os
import re
import subprocess
import sys
import tomllib

import tree
from tree import ROOT, TREE
from workers import in_parallel

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS = os.path.join(HERE, "seeded.toml")
KEYS = {"name", "mistake", "file", "function", "text", "replacement", "test"}
EDIT = ("file", "function", "text", "replacement")
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\w+|[^\w\s]')
ITEMS = {"function_item", "const_item", "static_item"}


def main(options):
    """Plants all bugs, or those that are named; returns the exit code."""
    bugs = read_rows()
    planted, errors = plant(bugs)
    if errors:
        print("".join(f"error: {error}\n" for error in errors), end="")
        print(f"{len(errors)} of {len(bugs)} rows of tests/mutants/seeded.toml do not fit the sources")
        return 1
    wanted = [bug for bug in bugs if not options.names or bug["name"] in options.names]
    unknown = set(options.names) - {bug["name"] for bug in bugs}
    if unknown:
        sys.exit(f"error: tests/mutants/seeded.toml has no bug {', '.join(sorted(unknown))}")
    print(f"{len(bugs)} bugs can be planted", flush=True)
    if options.list:
        return 0
    digest, _ = tree.make_copy(planted)
    if not compiles(planted, bugs):
        return 1
    programs = tree.build(sorted({bug["program"] for bug in bugs}))
    if options.search:
        return search(wanted, programs, options.jobs)
    return try_all(wanted, programs, options.jobs)


def read_rows():
    """The rows, each with a number, a test program, a test and its edits."""
    with open(ROWS, "rb") as file:
        bugs = tomllib.load(file)["bug"]
    for number, bug in enumerate(bugs, 1):
        missing = KEYS - bug.keys()
        if missing:
            sys.exit(f"error: bug {bug.get('name', number)}: missing {', '.join(sorted(missing))}")
        bug["number"] = number
        bug["program"], bug["test"] = bug["test"].split()
        bug["edits"] = [{key: edit[key] for key in EDIT} for edit in [bug, *bug.pop("more", [])]]
    names = collections.Counter(bug["name"] for bug in bugs)
    for name, count in names.items():
        if count > 1:
            sys.exit(f"error: {count} bugs have the name {name}")
    return bugs


# Planting.


def plant(bugs):
    """Returns the text of each file with planted bugs, and the errors of rows."""
    from plant import Planter

    sources, planters, errors = read_sources(), {}, []
    for bug in bugs:
        for edit in bug["edits"]:
            name = edit["file"]
            if name not in planters and name in sources:
                planters[name] = Planter(sources[name])
            try:
                insert(planters.get(name), bug["number"], edit, sources)
            except Misfit as misfit:
                errors.append(f"{bug['name']}: {misfit}")
    return {name: planter.rendered() for name, planter in planters.items()}, errors


class Misfit(Exception):
    """A row does not fit the sources."""


def read_sources():
    sources = {}
    for name in tree.tracked():
        if name.startswith("src/") and name.endswith(".rs"):
            with open(os.path.join(ROOT, name), encoding="utf-8") as file:
                sources[name] = file.read()
    return sources


def insert(planter, number, edit, sources):
    """Writes one edit into a file as the alternative with a number."""
    if planter is None:
        raise Misfit(f"there is no file {edit['file']}{elsewhere(edit, sources)}")
    start, end = find(planter, edit, sources)
    lives, text = f"crate::mutants::is({number})", edit["replacement"]
    if "PLANTED" in text:
        text = mark(number, re.sub(r"\bPLANTED\b", lives, text))
        planter.removed.append((start, end))
        planter.put(start, end, text, "")
        return
    before = f"if {lives} {{ {text} }} else {{ "
    opening, closing = ("(", " })") if is_expression(planter, start, end) else ("", " }")
    planter.put(start, end, f"{opening}/*[{number}*/{mark(number, before)}", f"{closing}/*]*/")


def mark(number, text):
    return f"/*<{number}*/{text}/*{number}>*/"


def is_expression(planter, start, end):
    """Whether a span is an expression inside a statement, not whole statements."""
    node = planter.tree.root_node.descendant_for_byte_range(start, end)
    if (node.start_byte, node.end_byte) != (start, end):
        return False
    while node.parent and (node.parent.start_byte, node.parent.end_byte) == (start, end):
        node = node.parent
    return node.type != "expression_statement" and node.parent.type != "block"


def find(planter, edit, sources):
    """The bytes of an edit's text in its function."""
    functions = [node for node in items(planter.tree.root_node) if named(planter, node, edit["function"])]
    if not functions:
        names = [name_of(planter, node) for node in items(planter.tree.root_node)]
        near = difflib.get_close_matches(edit["function"], names, 3) or names[:8]
        raise Misfit(f"{edit['file']} has no function {edit['function']}, only {', '.join(near)}{elsewhere(edit, sources)}")
    wanted, found = pattern(edit["text"]), []
    for node in functions:
        body = planter.source[node.start_byte : node.end_byte]
        found += [(node.start_byte + m.start(), node.start_byte + m.end()) for m in wanted.finditer(body)]
    if len(found) == 1:
        return found[0]
    where = f"{edit['file']}, {edit['function']}"
    if found:
        raise Misfit(f"{where}: the text is there {len(found)} times: {edit['text']}")
    lines = [line.strip() for node in functions for line in planter.text(node).splitlines()]
    near = difflib.get_close_matches(edit["text"].splitlines()[0], lines, 3, 0.3)
    near = "".join(f"\n    near: {line}" for line in near)
    raise Misfit(f"{where}: the text is not there: {edit['text']}{near}{elsewhere(edit, sources)}")


def items(node):
    """The functions and constants below a node, without those of unit tests."""
    for child in node.children:
        if child.type in ITEMS:
            yield child
        if child.type == "mod_item" and b"tests" in child.child_by_field_name("name").text:
            continue
        yield from items(child)


def name_of(planter, node):
    return planter.text(node.child_by_field_name("name"))


def named(planter, node, name):
    """Whether a function has a name: `name`, or `Type::name`."""
    *owner, name = name.split("::")
    if name_of(planter, node) != name:
        return False
    around = planter.above(node.parent, "impl_item")
    return not owner or around is not None and re.match(rf"{owner[-1]}\b", planter.text(around.child_by_field_name("type")))


def pattern(text):
    """Returns a pattern for a text with any white space between its tokens."""
    tokens = [re.escape(token.encode()) for token in TOKEN.findall(text)]
    body = rb"\s*".join(tokens)
    before = rb"(?<!\w)" if re.match(r"\w", text) else b""
    after = rb"(?!\w)" if re.search(r"\w$", text) else b""
    # rustfmt adds a trailing comma when it breaks a line.
    return re.compile(before + re.sub(rb"\\s\*(\\[)}\]])", rb"\\s*,?\\s*\1", body) + after)


def elsewhere(edit, sources):
    """The other files that contain an edit's text, for an error message."""
    wanted = pattern(edit["text"])
    names = [name for name, text in sources.items() if name != edit["file"] and wanted.search(text.encode())]
    return f"\n    the text is in {', '.join(names)}" if 0 < len(names) <= 5 else ""


def compiles(planted, bugs):
    """Whether the copy compiles; prints the bugs to blame."""
    from plant import blamed

    names = {bug["number"]: bug["name"] for bug in bugs}
    errors = tree.check()
    for file, start, end, message in errors:
        with open(os.path.join(TREE, file), "rb") as source:
            culprits = blamed(source.read(), start, end)
        culprits = ", ".join(names[number] for number in culprits) or file
        print(f"error: {culprits}: {message}")
    return not errors


# Trying.


def try_all(bugs, programs, jobs):
    """Runs the test of each bug; returns the exit code."""
    tests = {(bug["program"], bug["test"]) for bug in bugs}
    if not all_exist(bugs, programs):
        return 1
    seconds, seen, red = {}, {}, []

    def passed(asked, answer):
        test = (asked["program"], asked["test"])
        seconds[test], seen[test] = answer["seconds"], set(answer["seen"])
        if answer["failed"]:
            red.append(f"error: {' '.join(test)} fails without a bug: {answer['failed'][1]}")

    highest = max(bug["number"] for bug in bugs)
    in_parallel(jobs, [{**run_of(test, programs), "test": test[1], "record": highest} for test in sorted(tests)], passed)
    print(*red, f"{len(tests) - len(red)} of {len(tests)} tests pass without a bug", sep="\n", flush=True)
    if red:
        return 1
    survivors = []

    def tried(asked, answer):
        bug = asked["bug"]
        test = (bug["program"], bug["test"])
        print(f"{bug['name']:34} {' '.join([*test, answer['how']]) if answer else 'SURVIVES'}", flush=True)
        if not answer:
            reached = "reaches" if bug["number"] in seen[test] else "does not reach"
            survivors.append(f"survives: {bug['name']}: {' '.join(test)} {reached} it")

    def batch(test):
        return {**run_of(test, programs), "tests": [(test[1], seconds[test])]}

    asked = [{"number": b["number"], "bug": b, "batches": [batch((b["program"], b["test"]))]} for b in bugs]
    in_parallel(jobs, asked, tried)
    print(*survivors, f"{len(bugs) - len(survivors)} of {len(bugs)} bugs were caught", sep="\n")
    return 1 if survivors else 0


def search(bugs, programs, jobs):
    """Prints for each bug the first test of each program that catches it."""
    tests = {program: [(test, 1) for test in tests_of(file)] for program, file in programs.items()}
    asked = []
    for bug in bugs:
        for program in filter(lambda program: program != "suites", programs):
            run = {"program": program, "file": programs[program], "folder": TREE, "tests": tests[program]}
            asked.append({"number": bug["number"], "bug": bug, "batches": [run]})

    def tried(asked, answer):
        if answer:
            print(f"{asked['bug']['name']:34} {answer['program']} {answer['test']} {answer['how']}", flush=True)

    in_parallel(jobs, asked, tried)
    return 0


def run_of(test, programs):
    return {"program": test[0], "file": programs[test[0]], "folder": TREE}


def tests_of(file):
    listed = subprocess.run([file, "--list"], stdout=subprocess.PIPE, text=True, cwd=TREE).stdout
    return re.findall(r"^(\S+): test$", listed, re.M)


def all_exist(bugs, programs):
    """Whether the named tests exist."""
    there = {}
    for program, file in programs.items():
        there[program] = tests_of(file)
    missing = [bug for bug in bugs if bug["test"] not in there[bug["program"]]]
    for bug in missing:
        near = difflib.get_close_matches(bug["test"], there[bug["program"]], 3, 0.4)
        print(f"error: {bug['name']}: {bug['program']} has no test {bug['test']}", *near, sep="\n    near: ")
    return not missing
