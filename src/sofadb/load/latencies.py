"""What came of a load: how many answers, how many errors, and how long they took."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

PARTS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
"""The percentiles that are told."""


def percentile(ordered: Sequence[float], part: float) -> float:
    """The smallest value that so large a part of all is not above (nearest rank); NaN if there are none."""
    if not ordered:
        return math.nan
    # A hair less, so that 0.07 * 100 is the seventh, not the eighth.
    return ordered[max(0, math.ceil(part * len(ordered) - 1e-9) - 1)]


@dataclass(slots=True)
class Figures:
    """What was noted while a load was on."""

    seconds: float = 0.0
    """For so long it was noted."""
    latencies: array[float] = field(default_factory=lambda: array("d"))
    """Seconds, of what was answered well."""
    errors: int = 0
    """Error replies, and requests whose connection broke."""
    unanswered: int = 0
    """Requests that nobody answered until the end. They count among the latencies, with what they had waited by then."""
    silence: float = 0.0
    """The longest time without a good answer (s)."""

    @property
    def answers(self) -> int:
        """Good ones."""
        return len(self.latencies) - self.unanswered

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.answers / self.seconds if self.seconds else 0.0

    def percentiles_ms(self) -> dict[str, float]:
        """Each of `PARTS`."""
        ordered = sorted(self.latencies)
        return {name: 1000 * percentile(ordered, part) for name, part in PARTS.items()}
