"""Formats the measurements as tables: medians, and ratios of runs of the same round."""

import statistics

FLOOR_NAMES = {
    "lstat": "*lstat, 2 threads*",
    "sha256": "*SHA-256, 2 threads*",
    "copy": "*plain copy*",
    "spawn": "*commands bare*",
}


def median(runs, field):
    values = [getattr(run, field) for run in runs if run and not run.is_cut]
    return statistics.median(values) if values else None


def ratio(runs, others, field="wall"):
    """Returns the median of the ratios of runs to others' runs of the same round."""
    pairs = [(getattr(a, field), getattr(b, field)) for a, b in zip(runs, others) if a and b and not (a.is_cut or b.is_cut)]
    ratios = [a / b for a, b in pairs if b]
    return statistics.median(ratios) if ratios else None


def number(value):
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def tables(size, measured, scenarios):
    """Returns the tables of one size. `measured` has, for each scenario, the runs of each
    tool and of each floor."""
    tools = list(dict.fromkeys(name for runs, _ in measured.values() for name in runs))
    header = ["tool", *measured]
    walls = [[name, *(cell(name, *measured[s], scenarios[s]) for s in measured)] for name in tools]
    floors = list(dict.fromkeys(name for _, floors in measured.values() for name in floors))
    walls += [[FLOOR_NAMES[name], *(number(median(measured[s][1].get(name, []), "wall")) for s in measured)] for name in floors]
    usage = [[name, *(use(measured[s][0].get(name, [])) for s in measured)] for name in tools]
    commands = [[name, *(count(measured[s][0].get(name, [])) for s in measured)] for name in tools]
    shape = f"{size.targets:,} targets × {size.files} files × {size.bytes:,} bytes"
    return "\n".join([
        f"### {size.name}: {shape}\n",
        "Milliseconds · ratio to ninja · ratio to the floor:\n", table(header, walls),
        "Processor time (user + system) in milliseconds, and peak memory in MB:\n", table(header, usage),
        "Commands run:\n", table(header, commands),
    ])  # fmt: skip


def cell(name, runs, floors, scenario):
    mine = runs.get(name, [])
    if any(run and run.is_cut for run in mine):
        return "cut"
    parts = [number(median(mine, "wall"))]
    to_ninja = ratio(mine, runs.get("ninja", []))
    to_floor = ratio(mine, floors.get(scenario.floor, []))
    parts += [f"{number(to_ninja)}n"] if to_ninja else []
    parts += [f"{number(to_floor)}f"] if to_floor else []
    return " · ".join(parts)


def use(runs):
    cpu, rss = median(runs, "cpu"), median(runs, "rss")
    return "–" if cpu is None else f"{number(cpu)} · {rss / 1024:.0f} MB"


def count(runs):
    commands = sorted({run.commands for run in runs if run and not run.is_cut})
    return "–" if not commands else "–".join(map(str, dict.fromkeys([commands[0], commands[-1]])))
