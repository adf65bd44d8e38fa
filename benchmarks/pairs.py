"""Two builds of SofaDB beside each other: which of them is faster, and how sure that is.

    python -m benchmarks.pairs old=../before new=. [--rounds 10] [--seconds 1] [--loads 'SET 50; GET 50x16; SET 2000/s']

A machine is faster in one minute than in the next, by more than most changes of the code bring. So a cluster of each build is
there all the time, and they are asked in turn, for a second each; what is told is the median of the ratios of what was measured
one after the other, and what it may be off by (its standard error). The first build is what the others are compared with; the
same one twice shows what chance does.

A build is a directory with `src/` in it; behind it may stand variables of the environment, with commas (`new=.,SOME=thing`). A
load is an operation (SET or GET) and connections, perhaps with requests in flight on each (`50x16`), as fast as replies come; or
requests a second (`2000/s`), whether or not they do. `at a follower` may stand behind it.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sofadb.load.generator import NobodyAnswers

from .place import WrongPlace, refuse_memory
from .systems.base import WARM_UP_S, Load, Missing
from .systems.resp import SofaDB

LOADS = "SET 50; SET 200; SET 50x16; GET 50; GET 50x16; SET 2000/s"
PORTS_EACH = 10
"""Of a cluster."""
VALUES = {
    "rate": "requests/s",
    "p50": "p50",
    "p99": "p99",
    "max": "longest",
    "cpu": "processor time of all nodes",
}
_LOAD = re.compile(r"(SET|GET) (?:(\d+)(?:x(\d+))?|(\d+)/s)( at a follower)?")


@dataclass(frozen=True, slots=True)
class Asked:
    """One of the loads."""

    title: str
    load: Load
    rate: float
    """Requests a second; 0: as fast as replies come."""
    is_at_follower: bool

    @classmethod
    def parse(cls, words: str) -> Asked:
        """Raises `ValueError`."""
        found = _LOAD.fullmatch(words.strip())
        if found is None:
            raise ValueError(f"not a load: {words!r}")
        operation, connections, depth, rate, follower = found.groups()
        load = Load(operation, int(connections or 50), int(depth or 1))
        return cls(found[0], load, float(rate or 0), follower is not None)


class Build(SofaDB):
    """A cluster of one build."""

    def __init__(self, words: str, directory: Path, first_port: int) -> None:
        """`words` as on the command line. Raises `ValueError`."""
        self.build, _, rest = words.partition("=")
        source, *self.environment = rest.split(",")
        self.source = Path(source).resolve() / "src"
        if not (self.source / "sofadb").is_dir():
            raise ValueError(f"not a build: {words!r}")
        super().__init__(directory / self.build, first_port)
        self.rates: dict[str, float] = {}
        """The latest of each load."""

    def command(self, name: str) -> Sequence[str]:
        return ["env", f"PYTHONPATH={self.source}", *self.environment, *super().command(name)]

    def ask(self, asked: Asked, seconds: float) -> dict[str, float]:
        """The `VALUES`: of time in milliseconds, but for the processor's in microseconds a command."""
        name = self.follower() if asked.is_at_follower else self.wait_for_leader()
        before = sum(map(self.cpu_seconds, self.names))
        if asked.rate:
            told = self.open(asked.load.operation, asked.rate, seconds)
            commands = asked.rate * (WARM_UP_S + seconds)
        elif (rate := self.rates.get(asked.title)) is None:
            told = self.closed(asked.load, seconds, self.port(name))
            commands = math.inf  # They are not counted the first time, which is to warm up.
        else:
            commands = max(asked.load.in_flight, int(rate * seconds))
            told = self._benchmark(asked.load, int(commands), self.port(name))
        spent = sum(map(self.cpu_seconds, self.names)) - before
        self.rates[asked.title] = told["rate"]
        return {**told, "cpu": 1e6 * spent / commands}


Measured = dict[str, dict[str, list[dict[str, float]]]]
"""By load and build, a round after the other."""


def ratio(new: Sequence[float], old: Sequence[float]) -> tuple[float, float]:
    """The median of the ratios, and its standard error, as if they were distributed normally."""
    ratios = [each / other for each, other in zip(new, old, strict=True)]
    spread = statistics.stdev(ratios) if len(ratios) > 1 else math.nan
    return statistics.median(ratios), math.sqrt(math.pi / 2 / len(ratios)) * spread


def told(title: str, of_builds: dict[str, list[dict[str, float]]]) -> str:
    """One load's lines."""
    (first, old), *others = of_builds.items()
    medians = ", ".join(f"{statistics.median(each[name] for each in old):,.4g} {name}" for name in VALUES)
    lines = [f"{title}: {first} {medians}"]
    for build, new in others:
        words = []
        for name, what in VALUES.items():
            middle, error = ratio([each[name] for each in new], [each[name] for each in old])
            words.append(f"{what} {middle:.3f} ± {error:.3f}")
        lines.append(f"    {build}: {', '.join(words)}")
    return "\n".join(lines)


def measure(builds: Sequence[Build], loads: Sequence[Asked], rounds: int, seconds: float) -> Measured:
    """Each load of each build in turn; what was measured in the first round is not kept. The order of builds changes."""
    measured: Measured = {asked.title: {each.build: [] for each in builds} for asked in loads}
    for number in range(rounds + 1):
        for asked in loads:
            for build in builds if number % 2 else reversed(builds):
                values = build.ask(asked, seconds)
                if number:
                    measured[asked.title][build.build].append(values)
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return measured


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairs")
    parser.add_argument("builds", nargs="+", metavar="NAME=DIRECTORY")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--loads", default=LOADS, help="with semicolons between them")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="for the data")
    parser.add_argument("--port", type=int, default=22_000, help="the first")
    options = parser.parse_args()
    begun: list[Build] = []
    with tempfile.TemporaryDirectory(prefix="sofadb-pairs-", dir=options.dir) as place:
        try:
            refuse_memory(options.dir)
            loads = [Asked.parse(words) for words in options.loads.split(";")]
            for index, words in enumerate(options.builds):
                begun.append(Build(words, Path(place), options.port + PORTS_EACH * index))
            for build in begun:
                build.start()
            time.sleep(1)
            measured = measure(begun, loads, options.rounds, options.seconds)
        except (WrongPlace, Missing, NobodyAnswers, OSError, ValueError) as problem:
            print(problem, file=sys.stderr)
            return 1
        finally:
            for build in begun:
                build.stop()
    for title, of_builds in measured.items():
        print(told(title, of_builds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
