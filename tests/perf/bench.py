#!/usr/bin/env python3
"""Compares fbuild with other build tools on generated projects.

    cargo build --release
    python3 tests/perf/bench.py --size medium --scenario noop --peers fbuild,ninja,make
    python3 tests/perf/bench.py --all --update docs/performance.md    # everything again

It needs Python 3, a C compiler, ninja and make. See docs/performance.md.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import sys
import tempfile

import measure
import peers
import report
import tools
import workload

TOOLS = {**tools.TOOLS, **{peer.name: peer for peer in peers.PEERS}}
HERE = pathlib.Path(__file__).resolve().parent


def main():
    args = arguments()
    programs = tools.Programs(args.work, args.fbuild)
    programs.compile()
    if args.realtime:
        os.environ["FLOOR_REALTIME"] = "1"
    if set(args.peers) & {peer.name for peer in peers.PEERS}:
        peers.install(programs, say)
    say(f"trees and results: {args.work}")
    results = [bench_size(args, programs, workload.SIZES[name]) for name in args.size]
    text = "\n".join([machine(), *(result["tables"] for result in results)])
    print(text)
    for result in results:
        del result["tables"]
    out = pathlib.Path(args.json or programs.work / "results.json")
    out.write_text(json.dumps({"machine": machine(), "sizes": results}, indent=1) + "\n")
    if args.update:
        update(pathlib.Path(args.update), text)
    if any(result["differ"] for result in results):
        sys.exit("error: outputs differ: a tool is wrong (make does not detect edited commands), or another process changed a tree")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=names(workload.SIZES), default=["small", "medium"])
    parser.add_argument("--scenario", type=names(measure.SCENARIOS), default=list(measure.SCENARIOS))
    parser.add_argument("--peers", type=names(TOOLS), default=["fbuild", "ninja", "make"], help="tools to run, with commas between them")
    parser.add_argument("--all", action="store_true", help="every size, scenario and tool")
    parser.add_argument("--rounds", type=int, help="how often each is measured (default: by size)")
    parser.add_argument("--limit", type=float, default=180, metavar="SECONDS", help="for one run")
    parser.add_argument("--realtime", action="store_true", help="run before all else on a busy machine (needs root)")
    parser.add_argument("--no-floors", action="store_true", help="measure no floors")
    parser.add_argument("--fbuild", default=HERE.parent.parent / "target/release/fbuild", help="the program to measure")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "fbuild-bench", help="where trees are made, and kept")
    parser.add_argument("--json", help="where results go (default: results.json where the trees are)")
    parser.add_argument("--update", metavar="FILE", help="puts the tables between the marks in a markdown file")
    args = parser.parse_args()
    if args.all:
        args.size, args.scenario = list(workload.SIZES), list(measure.SCENARIOS)
        args.peers = list(TOOLS)
    args.work = args.work.resolve()
    return args


def names(known):
    def parse(text):
        chosen = list(known) if text == "all" else text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"`{name}` is none of {', '.join(known)}")
        return chosen

    return parse


def bench_size(args, programs, size):
    chosen, versions = open_tools(args, programs, size)
    floors = None if args.no_floors else floors_of(programs, chosen)
    bench = measure.Bench(programs, chosen, floors, args.limit, say)
    measured = {}
    bench.set_up()
    for name in args.scenario:
        rounds = args.rounds or size.rounds
        measured[name] = bench.measure(measure.SCENARIOS[name], rounds)
    for tool in chosen:
        tool.stop()
        tool.project.tidy()
    plain = {
        name: {who: [run and dataclasses.asdict(run) for run in done] for who, done in {**runs, **floors}.items()}
        for name, (runs, floors) in measured.items()
    }
    return {
        "size": dataclasses.asdict(size),
        "versions": versions,
        "scenarios": plain,
        "differ": bench.differ,
        "tables": report.tables(size, measured, measure.SCENARIOS),
    }


def open_tools(args, programs, size):
    chosen, versions = [], {}
    for name in args.peers:
        kind = TOOLS[name]
        project = workload.Project(args.work / size.name / name, size, kind.inside)
        tool = kind(programs, project)
        version = tool.version()
        if version is None or size.targets > kind.most_targets:
            say(f"{size.name}: {name} skipped: " + ("not available" if version is None else "too large for it"))
            continue
        say(f"{size.name}: {name} {version} in {project.folder}")
        versions[name] = version
        project.generate()
        tool.write()
        chosen.append(tool)
    return chosen, versions


def floors_of(programs, chosen):
    outside = [tool for tool in chosen if not tool.inside]
    return measure.Floors(programs, outside[0].project) if outside else None


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} × {model} ({platform.machine()}), {platform.system()} {platform.release()}, load {load}\n"


def update(file, text):
    """Puts text between the two marks of a file."""
    begin, end = "<!-- measured -->", "<!-- end -->"
    before, rest = file.read_text().split(begin)
    after = rest.split(end)[1]
    file.write_text(f"{before}{begin}\n\n{text}\n{end}{after}")


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
