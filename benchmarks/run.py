"""One run of the benchmark: its options, the systems that can be measured here, and what is noted."""

from __future__ import annotations

import contextlib
import math
import re
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
from .profiles import profiled
from .systems.base import Missing, System
from .systems.etcd import Etcd
from .systems.pysyncobj import PySyncObj
from .systems.resp import Redis, SofaDB
from .systems.zookeeper import ZooKeeper

SYSTEMS: tuple[type[System], ...] = (SofaDB, Etcd, ZooKeeper, Redis, PySyncObj)
UNTOLD = ("mean", "min", "p90", "p95", "p99.9", "max", "unanswered")
"""Values that stand in the figures only."""
Measure = Callable[..., dict[str, float]]
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
    profile: str
    """One of `profiles.TOOLS`, or none."""
    profiles: Path
    """Where what it records is put."""

    @contextlib.contextmanager
    def started(
        self, kinds: Sequence[type[System]], nodes: int = 3, warm_up: bool = True
    ) -> Iterator[list[System]]:
        """Those of the systems that are there, each begun with nothing and paused. In the end all is gone."""
        started: list[System] = []
        with tempfile.TemporaryDirectory(prefix="sofadb-bench-", dir=self.directory) as place:
            try:
                for kind in kinds:
                    system = kind(Path(place), self.first_port, nodes)
                    started.append(system)
                    try:
                        self.figures.about.setdefault("versions", {})[system.name] = system.version()
                        system.start(warm_up)
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

    def in_turn(self, systems: list[System]) -> Iterator[System]:
        """Each goes on for as long as it is measured. One that cannot is left out from then on."""
        for system in list(systems):
            try:
                system.go_on()
            except FAILED as problem:
                self.say(f"{system.title} did not go on and is left out: {problem}")
                system.stop()
                systems.remove(system)
                continue
            try:
                yield system
            finally:
                system.pause()

    def note(
        self, part: str, row: str, system: System, number: int, measure: Measure, *arguments: Any
    ) -> None:
        """Measure, if that was not done in an earlier run, and keep what came out."""
        if self.is_resumed and self.figures.has(part, row, system.name, number):
            return
        begin = time.monotonic()
        try:
            with self._profiled(part, row, system, number):
                values = measure(*arguments)
            if not all(map(math.isfinite, values.values())):
                raise ValueError("nothing was answered")
        except FAILED as problem:
            self.say(f"{part} {row}, round {number + 1}, {system.title}: failed: {problem}")
            return
        self.figures.add(part, row, system.name, number, values)
        told = "  ".join(f"{name} {value:,.5g}" for name, value in values.items() if name not in UNTOLD)
        self.say(
            f"{part} {row}, round {number + 1}, {system.title}: {told}  ({time.monotonic() - begin:.1f} s)"
        )

    def _profiled(
        self, part: str, row: str, system: System, number: int
    ) -> contextlib.AbstractContextManager[None]:
        if not self.profile:
            return contextlib.nullcontext()
        pid = system.processes[system.wait_for_leader()].pid
        file = self.profiles / re.sub(r"\W+", "-", f"{part} {row} {system.name} {number + 1}")
        return profiled(self.profile, pid, file)

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
