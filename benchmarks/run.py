"""One run of the benchmark: its options, the systems that can be measured here, and what is noted."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sofadb.load.generator import NobodyAnswers

from .figures import Figures
from .systems.base import Missing, System
from .systems.etcd import Etcd
from .systems.pysyncobj import PySyncObj
from .systems.resp import Redis, SofaDB
from .systems.zookeeper import ZooKeeper

SYSTEMS: tuple[type[System], ...] = (SofaDB, Etcd, ZooKeeper, Redis, PySyncObj)
FAILED = (Missing, NobodyAnswers, OSError, ValueError, subprocess.SubprocessError)
"""What a measurement that failed raises: it is told, and the next one is made."""


@dataclass(slots=True)
class Run:
    """What parts need."""

    figures: Figures
    directory: Path
    first_port: int
    systems: Sequence[type[System]]
    rounds: int
    kills: int
    seconds: float
    is_quick: bool
    is_resumed: bool

    @contextlib.contextmanager
    def started(self, kinds: Sequence[type[System]], nodes: int = 3) -> Iterator[list[System]]:
        """Those of the systems that are there, each begun with nothing and paused. In the end all is gone."""
        started: list[System] = []
        with tempfile.TemporaryDirectory(prefix="sofadb-bench-", dir=self.directory) as place:
            try:
                for kind in kinds:
                    system = kind(Path(place), self.first_port, nodes)
                    started.append(system)
                    try:
                        self.figures.about.setdefault("versions", {})[system.name] = system.version()
                        system.start()
                        system.pause()
                    except FAILED as problem:
                        self.say(f"{system.title} is left out: {problem}")
                        self.figures.about.setdefault("missing", {})[system.name] = str(problem)
                        system.stop()
                        started.remove(system)
                yield started
            finally:
                for system in started:
                    system.stop()

    @contextlib.contextmanager
    def awake(self, system: System) -> Iterator[None]:
        """It goes on; afterwards it is paused again. If it cannot, that is told, and what is measured fails."""
        system.go_on()
        try:
            yield
        finally:
            system.pause()

    def note(
        self,
        part: str,
        row: str,
        system: System,
        number: int,
        measure: Callable[..., dict[str, float]],
        *arguments: Any,
    ) -> None:
        """Measure, if that was not done in an earlier run, and keep what came out."""
        if self.is_resumed and self.figures.has(part, row, system.name, number):
            return
        begin = time.monotonic()
        try:
            values = measure(*arguments)
        except FAILED as problem:
            self.say(f"{part} {row}, round {number + 1}, {system.title}: failed: {problem}")
            return
        self.figures.add(part, row, system.name, number, values)
        told = "  ".join(
            f"{name} {value:,.5g}"
            for name, value in values.items()
            if name in ("rate", "p50", "p99", "gap", "errors")
        )
        self.say(
            f"{part} {row}, round {number + 1}, {system.title}: {told}  ({time.monotonic() - begin:.1f} s)"
        )

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
