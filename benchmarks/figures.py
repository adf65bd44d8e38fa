"""The raw figures: what was measured, in a file that pages and plots are made from."""

from __future__ import annotations

import json
import statistics
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of the same."""

    median: float
    low: float
    high: float
    count: int


@dataclass(slots=True)
class Figures:
    """Of one run of the benchmark, or of several that went on where the last one stopped."""

    path: Path | None = None
    about: dict[str, Any] = field(default_factory=dict)
    """The machine, the versions of the systems, what is missing and why, the command that measured each part last."""
    measured: list[dict[str, Any]] = field(default_factory=list)
    """One measurement each: part, row, system, round, values."""

    @staticmethod
    def load(path: Path) -> Figures:
        """Raises `FileNotFoundError`."""
        stored = json.loads(path.read_text())
        return Figures(path, stored["about"], stored["measured"])

    def save(self) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = ",\n".join(json.dumps(each) for each in self.measured)
            self.path.write_text(
                f'{{"about": {json.dumps(self.about, indent=1)},\n"measured": [\n{lines}\n]}}\n'
            )

    def forget(self, parts: Collection[str], systems: Collection[str]) -> None:
        """What is to be measured anew."""
        self.measured = [
            each for each in self.measured if each["part"] not in parts or each["system"] not in systems
        ]
        for name in systems:
            self.about.get("missing", {}).pop(name, None)

    def has(self, part: str, row: str, system: str, number: int) -> bool:
        """This was measured in an earlier run."""
        wanted = (part, row, system, number)
        return any(
            (each["part"], each["row"], each["system"], each["round"]) == wanted for each in self.measured
        )

    def add(self, part: str, row: str, system: str, number: int, values: dict[str, float]) -> None:
        """Note and save it."""
        rounded = {name: float(f"{value:.5g}") for name, value in values.items()}
        entry = {"part": part, "row": row, "system": system, "round": number, "values": rounded}
        self.measured.append(entry)
        self.save()

    def values(self, part: str, row: str, system: str, name: str) -> Iterator[float]:
        """In the order of rounds."""
        for each in self.measured:
            if (each["part"], each["row"], each["system"]) == (part, row, system) and name in each["values"]:
                yield each["values"][name]

    def spread(self, part: str, row: str, system: str, name: str) -> Spread | None:
        """None if it was not measured."""
        values = list(self.values(part, row, system, name))
        if not values:
            return None
        return Spread(statistics.median(values), min(values), max(values), len(values))
