"""`make bench`: SofaDB beside others, a page, plots, and the raw figures.

    python -m benchmarks [--quick] [--only sofadb,etcd] [--rounds 5] [--part table] [--page DIRECTORY] ...

Ctrl-C ends it in good order; `--resume` goes on where it stopped. Figures of parts and systems that are not measured are kept.
`--redraw` makes page and plots anew from the figures.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from . import page
from .figures import Figures
from .parts import connections, costs, keys, nodes, offered, sizes, table
from .parts.rows import ROWS
from .place import WrongPlace, machine, refuse_memory
from .profiles import TOOLS
from .run import SYSTEMS, Run

PARTS = {
    "table": table.measure,
    "offered": offered.measure,
    "sizes": sizes.measure,
    "nodes": nodes.measure,
    "connections": connections.measure,
    "keys": keys.measure,
    "costs": costs.measure,
}
FIGURES = "figures.json"
QUICK_S, FULL_S = 2.0, 4.0
ROUNDS, ROUNDS_OF_OTHERS = 5, 3
"""Of the main table, and of the other parts."""
KILLS = 5


def arguments() -> argparse.Namespace:
    """Of the command line."""
    names = [each.name for each in SYSTEMS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="only the main table, in about three minutes")
    parser.add_argument("--only", default=",".join(names), help="these systems, with commas")
    parser.add_argument("--part", default=",".join(PARTS), help="these parts, with commas")
    parser.add_argument("--rounds", type=int, help="how often each measurement is made")
    parser.add_argument("--kills", type=int, help="how often a leader is killed")
    parser.add_argument("--seconds", type=float, help="how long a measurement takes")
    parser.add_argument(
        "--dir", type=Path, default=Path(tempfile.gettempdir()), help="where the data is meanwhile"
    )
    parser.add_argument("--port", type=int, default=21_000, help="the first of a hundred ports")
    parser.add_argument("--page", type=Path, help="the directory for the page, the plots and the figures")
    parser.add_argument("--resume", action="store_true", help="leave out what the figures there have already")
    parser.add_argument(
        "--redraw", action="store_true", help="measure nothing, only write the page and the plots"
    )
    parser.add_argument("--profile", choices=TOOLS, help="record the leader while it is measured")
    parser.add_argument(
        "--profiles", type=Path, default=Path("build/profiles"), help="where to put what is recorded"
    )
    options = parser.parse_args()
    options.only, options.part = options.only.split(","), options.part.split(",")
    if unknown := [each for each in options.only if each not in names]:
        parser.error(f"there is no {unknown[0]}; there are {', '.join(names)}")
    if unknown := [each for each in options.part if each not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    return options


def measure(options: argparse.Namespace, figures: Figures) -> None:
    """Raises `WrongPlace`."""
    refuse_memory(options.dir)
    figures.about["machine"] = machine(options.dir)
    run = Run(
        figures,
        options.dir,
        options.port,
        [each for each in SYSTEMS if each.name in options.only],
        rounds=1,
        kills=options.kills or (1 if options.quick else KILLS),
        seconds=options.seconds or (QUICK_S if options.quick else FULL_S),
        is_quick=options.quick,
        is_resumed=options.resume,
        profile=options.profile or "",
        profiles=options.profiles.resolve(),
    )
    parts = ["table"] if options.quick else options.part
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    figures.about["commands"] = figures.about.get("commands", {}) | dict.fromkeys(parts, command)
    if not options.resume:
        figures.forget(parts, options.only)
    for part in parts:
        rounds = 1 if options.quick else ROUNDS if part == "table" else ROUNDS_OF_OTHERS
        PARTS[part](replace(run, rounds=options.rounds or rounds))


def main() -> int:
    """Measure, and write what came out."""
    options = arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # For those that are started here, too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    path = options.page / FIGURES if options.page else None
    figures = Figures.load(path) if path and path.exists() else Figures(path)
    code = 0
    try:
        if not options.redraw:
            measure(options, figures)
    except WrongPlace as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; --resume goes on from here", file=sys.stderr)
        code = 130
    print(page.table(figures, ROWS))
    if options.page:
        from . import plots  # What it draws with is there only with the extra `bench`.

        options.page.mkdir(parents=True, exist_ok=True)
        (options.page / "README.md").write_text(page.page(figures))
        plots.draw_all(figures, options.page)
    return code


if __name__ == "__main__":
    sys.exit(main())
