"""`make bench`: SofaDB beside others, a page, plots, and the raw figures.

    python -m benchmarks [--quick] [--only sofadb,etcd] [--rounds 5] [--part table] [--page DIRECTORY] ...

Ctrl-C ends it in good order; `--resume` goes on where it stopped. `--redraw` makes page and plots anew from the figures.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
from pathlib import Path

from . import page
from .figures import Figures
from .parts import table
from .place import WrongPlace, machine, refuse_memory
from .run import SYSTEMS, Run

PARTS = {"table": table.measure}
FIGURES = "figures.json"
QUICK_S, FULL_S = 2.0, 4.0


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
    figures.about["command"] = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    run = Run(
        figures,
        options.dir,
        options.port,
        [each for each in SYSTEMS if each.name in options.only],
        rounds=options.rounds or (1 if options.quick else 5),
        kills=options.kills or (1 if options.quick else 5),
        seconds=options.seconds or (QUICK_S if options.quick else FULL_S),
        is_quick=options.quick,
        is_resumed=options.resume,
    )
    for part in ["table"] if options.quick else options.part:
        PARTS[part](run)


def main() -> int:
    """Measure, and write what came out."""
    options = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    path = options.page / FIGURES if options.page else None
    figures = (
        Figures.load(path) if path and (options.resume or options.redraw) and path.exists() else Figures(path)
    )
    try:
        if not options.redraw:
            measure(options, figures)
    except WrongPlace as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; --resume goes on from here", file=sys.stderr)
    print(page.table(figures, page.ROWS))
    if options.page:
        (options.page / "README.md").write_text(page.page(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
