"""How fast a replicated program in Python can be here at all, beside what SofaDB and others make.

    python -m benchmarks.bound [--rounds 5] [--seconds 1.5]

The sketch (`peers/sketch_node.py`) is three nodes that know nothing but SETs and GETs of one size and no failure: no versions,
no expiry, no checksums, no elections, nobody who is behind. What it makes, less what all of that costs, can be had. All are asked
in turn; what is told is the median, and it divided by what the sketch makes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .parts.rows import ROWS
from .place import WrongPlace, refuse_memory
from .run import FAILED
from .systems.base import System, is_listening
from .systems.resp import Redis, RedisLike, SofaDB
from .systems.zookeeper import ZooKeeper

NODE = Path(__file__).parent / "peers" / "sketch_node.py"


class Sketch(RedisLike):
    """The first node leads."""

    name, title, ports = "sketch", "the sketch", 90
    durability = "fdatasync on a majority"

    def version(self) -> str:
        return ""

    def port(self, name: str) -> int:
        return self.first_port + self.names.index(name)

    def command(self, name: str) -> Sequence[str]:
        words = [sys.executable, str(NODE), str(self.port(name)), str(self.directory / f"{name}.data")]
        return words + [str(self.port(each)) for each in self.names[1:] if name == self.names[0]]

    def leader(self) -> str:
        return self.names[0] if all(is_listening(self.port(name)) for name in self.names) else ""


Measured = dict[str, dict[str, list[float]]]
"""Requests a second, by row and system."""


def measure(systems: Sequence[System], rounds: int, seconds: float) -> Measured:
    """Each system's rows, and then the next's; again for each round."""
    rows = {row.title: row.load for row in ROWS if row.load is not None}
    rates: Measured = {title: {system.title: [] for system in systems} for title in rows}
    for number in range(rounds):
        for system in systems:
            system.go_on()
            for title, load in rows.items():
                told = system.closed(load, seconds, system.port(system.wait_for_leader()))
                rates[title][system.title].append(told["rate"])
            system.pause()
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return rates


def table(rates: Measured) -> str:
    """A line for each row: how much each system makes, and how large a part of what the sketch does."""
    titles = list(next(iter(rates.values())))
    lines = [["", *titles], ["---", *("---:" for _ in titles)]]
    for row, by_system in rates.items():
        middle = {title: statistics.median(each) for title, each in by_system.items()}
        bound = middle[Sketch.title]
        lines.append([row, *(f"{rate:,.0f} ({rate / bound:.2f})" for rate in middle.values())])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bound")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="for the data")
    parser.add_argument("--port", type=int, default=24_000, help="the first of a hundred")
    options = parser.parse_args()
    begun: list[System] = []
    with tempfile.TemporaryDirectory(prefix="sofadb-bound-", dir=options.dir) as place:
        try:
            refuse_memory(options.dir)
            for kind in (Sketch, SofaDB, ZooKeeper, Redis):
                begun.append(kind(Path(place), options.port))
                begun[-1].start()
                begun[-1].pause()
            print(table(measure(begun, options.rounds, options.seconds)))
        except (WrongPlace, *FAILED) as problem:
            print(problem, file=sys.stderr)
            return 1
        finally:
            for system in begun:
                system.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
