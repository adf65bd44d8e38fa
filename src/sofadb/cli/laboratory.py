"""`sofadb hunt` and `sofadb replay`: the laboratory for a person.

A hunt shows how far it is while it runs, and in the end how often each kind of fault struck and how often it mattered. What
it finds is told with the seed and with the command that shows the story.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from sofadb.sim.hunt import Bag, Found
    from sofadb.sim.plan import Plan

SEEDS = 150
"""So many worlds, unless it is told otherwise."""

Sabotage = Annotated[str, typer.Option(help="Break the database in this way first; the hunt must find it.")]


def hunt(
    seeds: Annotated[
        int | None, typer.Option(min=1, help=f"How many worlds; {SEEDS} unless --minutes is given.")
    ] = None,
    first: Annotated[int, typer.Option(min=0, help="The first seed.")] = 1,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Stop after so many minutes.")] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="How many processes; all cores by default.")
    ] = os.cpu_count() or 1,
    sabotage: Sabotage = "",
    list_sabotages: Annotated[bool, typer.Option("--list-sabotages", help="Name them, one a line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Run whole clusters in hostile worlds, seed after seed: exit 0 if nothing was found, 1 at the first violation."""
    from sofadb.sim.hunt import hunt as go_hunting
    from sofadb.sim.sabotages import SABOTAGES

    if list_sabotages:
        print("\n".join(SABOTAGES))
        return
    _check_sabotage(sabotage)
    wanted = SEEDS if seeds is None and minutes is None else seeds
    with _progress() as progress:
        task = progress.add_task("hunting", total=wanted, speed="")

        def show(bag: Bag) -> None:
            speed = (
                f"{bag.seeds / bag.seconds:.1f} seeds/s, {bag.simulated_s / bag.seconds:.0f} simulated s/s"
            )
            progress.update(task, completed=bag.seeds, speed=speed)

        bag = go_hunting(first, wanted, minutes, jobs, sabotage or None, show)
    if as_json:
        print(json.dumps(_as_json(bag)))
    else:
        _report(bag, sabotage)
    raise typer.Exit(1 if bag.found is not None else 0)


def replay(
    seed: Annotated[int, typer.Argument(help="The seed of the world.")],
    sabotage: Sabotage = "",
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Look for a simpler world that fails alike, and tell that.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Heartbeats and ticks, too.")] = False,
) -> None:
    """Tell the story of one seed's run, message by message: exit 0 if all was well, 1 if something was violated."""
    from sofadb.sim.hunt import shrink as look_for_simpler
    from sofadb.sim.hunt import try_plan
    from sofadb.sim.plan import draw
    from sofadb.sim.replay import tell

    _check_sabotage(sabotage)
    plan = draw(seed)
    if shrink:
        found = try_plan(plan, sabotage or None).found
        if found is None:
            print(f"seed {seed} violates nothing: there is nothing to make simpler")
            return
        with Console(stderr=True).status("looking for a simpler world") as line:

            def show(tries: int, simpler: Plan) -> None:
                line.update(f"{tries} worlds tried: {_in_words(simpler)}")

            plan, _ = look_for_simpler(plan, found, sabotage or None, show)
    violation = tell(plan, sabotage or None, lambda text: print(text), everything)
    raise typer.Exit(0 if violation is None else 1)


def _check_sabotage(name: str) -> None:
    from sofadb.sim.sabotages import SABOTAGES

    if name and name not in SABOTAGES:
        raise typer.BadParameter(f"'{name}' is no sabotage; --list-sabotages names them")


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[speed]}"),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _as_json(bag: Bag) -> dict[str, object]:
    return {
        "seeds": bag.seeds,
        "seconds": round(bag.seconds, 3),
        "simulated_seconds": round(bag.simulated_s, 3),
        "steps": bag.steps,
        "answers": bag.answers,
        "leaders": bag.leaders,
        "struck": dict(sorted(bag.struck.items())),
        "mattered": dict(sorted(bag.mattered.items())),
        "unlikely": dict(sorted(bag.chosen.items())),
        "found": None if bag.found is None else asdict(bag.found),
    }


def _report(bag: Bag, sabotage: str) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("fault")
    table.add_column("struck", justify="right")
    table.add_column("mattered", justify="right")
    for kind in sorted(bag.struck):
        table.add_row(kind, f"{bag.struck[kind]:,}", f"{bag.mattered[kind]:,}")
    console = Console()
    console.print(table)
    seconds = max(bag.seconds, 0.001)
    print(
        f"{bag.seeds:,} worlds in {seconds:.1f} s ({bag.seeds / seconds:.1f}/s): {bag.simulated_s:,.0f} simulated seconds "
        f"({bag.simulated_s / seconds:.0f} times as fast as time), {bag.steps:,} steps, {bag.answers:,} answers, "
        f"{bag.leaders:,} leaders, the unlikely chosen {sum(bag.chosen.values()):,} times at {len(bag.chosen)} points"
    )
    print("nothing found" if bag.found is None else _found_in_words(bag.found, sabotage))


def _found_in_words(found: Found, sabotage: str) -> str:
    option = f" --sabotage {sabotage}" if sabotage else ""
    return (
        f"seed {found.seed} violates {found.name} at {found.at:.3f} simulated s:\n{found.text}\n"
        f"its story: sofadb replay {found.seed}{option}   (a simpler one: --shrink)"
    )


def _in_words(plan: Plan) -> str:
    strikes = ", ".join(strike.kind for strike in plan.strikes) or "no faults"
    return f"{plan.nodes} nodes, {plan.clients} clients with {plan.requests} requests each, {strikes}"
