"""The page of figures: docs/benchmarks/README.md."""

from __future__ import annotations

from .figures import Figures, Spread
from .parts import connections, costs, keys, nodes, offered, sizes
from .parts.rows import FAILOVER_RATE, FOLLOWER_ROWS, ROWS, TABLE, Row
from .parts.sweep import Sweep, Value
from .run import SYSTEMS

SWEEPS = (offered.SWEEP, sizes.SWEEP, nodes.SWEEP, connections.SWEEP, keys.SWEEP, costs.SWEEP)
TABLE_PLOT = "table.svg"


def has_rates(figures: Figures) -> bool:
    """There is something to plot from the main table."""
    return any(
        figures.spread(TABLE, row.name, each.name, row.value)
        for row in ROWS
        if row.is_rate
        for each in SYSTEMS
    )


def plot_file(sweep: Sweep, value: Value) -> str:
    """Beside the page."""
    return f"{sweep.part}-{value.name.replace('.', '_').replace(' ', '-')}.svg"


def shown(spread: Spread | None, is_rate: bool) -> str:
    """A median, and between what it lay."""
    if spread is None:
        return "–"
    digits = ",.0f" if spread.median >= 100 else ",.3g" if is_rate else ",.1f"
    numbers = [format(each, digits) for each in (spread.median, spread.low, spread.high)]
    unit = "" if is_rate else " ms"
    return f"{numbers[0]}{unit} ({numbers[1]}–{numbers[2]})" if spread.count > 1 else f"{numbers[0]}{unit}"


def ratio(row: Row, ours: Spread | None, theirs: Spread | None, system: str) -> str:
    """How many times as much SofaDB does, or how large a part of the time it takes; and whether that was the aim."""
    if ours is None or theirs is None or not theirs.median:
        return "–"
    times = ours.median / theirs.median
    target = row.targets.get(system)
    if target is None:
        return f"{times:.2f}"
    is_reached = times >= target if row.is_rate else times <= target
    aim = f"{'≥' if row.is_rate else '≤'} {target:.2g}"
    return f"**{times:.2f}** ({aim} {'reached' if is_reached else 'missed'})"


def table(figures: Figures, rows: tuple[Row, ...]) -> str:
    """One line for each row; beside each other system SofaDB's ratio to it."""
    head = ["", "SofaDB"]
    for system in SYSTEMS[1:]:
        head += [system.title] + ["SofaDB : it"] * (system.name != "pysyncobj")
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for row in rows:
        spreads = {each.name: figures.spread(TABLE, row.name, each.name, row.value) for each in SYSTEMS}
        if not any(spreads.values()):
            continue
        cells = [row.title, shown(spreads["sofadb"], row.is_rate)]
        for system in SYSTEMS[1:]:
            cells.append(shown(spreads[system.name], row.is_rate))
            if system.name != "pysyncobj":
                cells.append(ratio(row, spreads["sofadb"], spreads[system.name], system.name))
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def sweep_section(figures: Figures, sweep: Sweep) -> str:
    """A heading, a table with a line for each system and point, and the plots; nothing if it was not measured."""
    lines = []
    for system in SYSTEMS:
        for row in sweep.points:
            spreads = [figures.spread(sweep.part, row, system.name, value.name) for value in sweep.values]
            if any(spreads):
                units = [value.unit for value in sweep.values]
                cells = [shown(each, not unit) for each, unit in zip(spreads, units, strict=True)]
                lines.append(f"| {' | '.join([system.title, row, *cells])} |")
    if not lines:
        return ""
    head = f"| | {sweep.axis} | {' | '.join(value.title for value in sweep.values)} |"
    rule = f"| --- | --- |{' ---: |' * len(sweep.values)}"
    plots = [
        f"![{sweep.title}: {value.title}]({plot_file(sweep, value)})"
        for value in sweep.values
        if value.is_plotted
    ]
    return "\n".join(
        [f"## {sweep.title}", "", sweep.about, "", *plots, *[""][: len(plots)], head, rule, *lines, "", ""]
    )


def systems(figures: Figures) -> str:
    """Who was measured, and what a write there has survived."""
    versions, missing = figures.about.get("versions", {}), figures.about.get("missing", {})
    lines = [
        "| system | version | a write that is acknowledged has | closed loops by |",
        "| --- | --- | --- | --- |",
    ]
    for each in SYSTEMS:
        version = versions.get(each.name, "–")
        if each.name in missing:
            version += f" (missing: {missing[each.name]})"
        lines.append(f"| {each.title} | {version} | {each.durability} | {each.asked_by} |")
    return "\n".join(lines)


def commands(figures: Figures) -> str:
    """What was run, and which parts that measured, if it was not all of them."""
    told: dict[str, list[str]] = {}
    for part, command in figures.about["commands"].items():
        told.setdefault(command, []).append(part)
    if len(told) == 1:
        return f"Written by `{next(iter(told))}`."
    lines = [f"- `{command}`: {', '.join(parts)}" for command, parts in told.items()]
    return "\n".join(["Written by several runs, perhaps of several builds:", "", *lines])


def page(figures: Figures) -> str:
    """The whole of it."""
    machine = ", ".join(f"{name} {value}" for name, value in figures.about["machine"].items())
    plot = f"![Requests a second]({TABLE_PLOT})\n\n" if has_rates(figures) else ""
    return f"""# SofaDB beside others

{commands(figures)}

Three nodes each (but Redis), with defaults, all on one machine together with the load: {machine}.
Values of 256 bytes. Requests a second, or milliseconds: the median, and the least and the most of all rounds. A ratio is
SofaDB's figure divided by the other's; with it what is aimed at.

{table(figures, ROWS)}

{plot}{systems(figures)}

## At a follower

{table(figures, FOLLOWER_ROWS)}

What follows was measured part by part, on a machine that is itself now faster and now slower: compare within a part.

{"".join(sweep_section(figures, sweep) for sweep in SWEEPS)}## How it is measured

- Each system is started once and warmed up; while one is measured, all others are paused (SIGSTOP). They take
  turns in each round.
- Closed loops: at the leader; each connection asks again when it is answered. The load comes from a process of its own, but for
  PySyncObj. `h2load` sends one body again and again, so that etcd is asked for one key; the others choose
  among 10,000. That every answer of etcd is a success is known from its revision, which grows by one with each write.
- ZooKeeper is asked by our own generator, which costs the machine less than its Java client would and lets it
  do more.
- Linearizable: etcd's default; in PySyncObj a read that goes through the log. In ZooKeeper a sync and then a getData, which is
  nearly so: its sync asks no quorum.
- The open loop: so many requests a second on 50 connections, whether or not answers come; the time of each counts from the
  moment at which it was due. One generator for all (PySyncObj's is inside the member).
- The leader killed: `kill -9` under {FAILOVER_RATE} SET/s at the other two nodes; the longest time between two good answers.
"""
