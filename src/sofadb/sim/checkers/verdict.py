"""What every checker is given and what it answers.

An operation has a client, a start (a time before the request left) and an end (one after the answer came), in seconds of one
clock that all clients share, and an outcome. It is "ok" if it was acknowledged, "failed" if it was certainly never executed,
and "unknown" if nobody can tell: then it may have taken effect at any time after its start, or may yet do so, or never, and
it has no end. Operations come before one another only where one ended *before* the other started. Times that are equal say
nothing, since a clock may be coarse.

A verdict is "broken" with problems, each a paragraph that cites the operations that no correct database explains; or "cannot
tell" with doubts, where something was acknowledged and nobody looked at it afterwards; or else "passed". Only the last is
true. A history that cannot be one, because the harness recorded it wrongly, is no verdict at all but raises `Unusable`.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

Outcome = Literal["ok", "failed", "unknown"]

SHOWN_MAX: Final = 10
"""Problems of one name that a verdict holds. All are counted."""

_CHARACTERS_MAX: Final = 120
"""Of one value in an explanation."""


class Unusable(ValueError):
    """The harness recorded what no client can have seen, whatever the database did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What all operations have in common."""

    client: int
    start: float
    end: float | None = None
    outcome: Outcome = "ok"

    def __post_init__(self) -> None:
        if self.outcome not in ("ok", "failed", "unknown"):
            raise Unusable(f"an outcome is ok, failed or unknown, not {self.outcome!r}")
        if (self.end is None) != (self.outcome == "unknown"):
            raise Unusable(f"what is unknown has no end, and all else has one: {self}")
        if not math.isfinite(self.start) or not (self.end is None or self.start <= self.end < math.inf):
            raise Unusable(f"it ends before it starts: {self}")

    @property
    def done_by(self) -> float:
        """When it has certainly taken effect, if it does at all: infinity where that was not acknowledged."""
        return self.end if self.outcome == "ok" and self.end is not None else math.inf

    def told(self, what: str) -> str:
        """Name it in an explanation: what, who, when."""
        until = "never answered" if self.end is None else f"ended at {self.end}"
        return f"{what} (client {self.client}, started at {self.start}, {until})"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that no correct database shows."""

    name: str
    text: str
    """One paragraph that cites the operations. They suffice to see it."""

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a checker says. Its truth value is whether the history passed: "cannot tell" did not."""

    problems: tuple[Problem, ...]
    """Up to `SHOWN_MAX` of each name."""
    doubts: tuple[str, ...]
    """What nothing in the history allows to judge."""
    counts: Mapping[str, int]
    """How many problems there are by name, and what else the checker counts."""

    def __bool__(self) -> bool:
        return not self.problems and not self.doubts

    @property
    def names(self) -> frozenset[str]:
        """The names of the problems."""
        return frozenset(each.name for each in self.problems)

    def __str__(self) -> str:
        head = "broken" if self.problems else "cannot tell" if self.doubts else "passed"
        counted = ", ".join(f"{number:,} {what}" for what, number in self.counts.items())
        lines = [f"{head}: {counted or 'nothing to count'}"]
        return "\n\n".join(
            [*lines, *map(str, self.problems), *(f"cannot tell: {each}" for each in self.doubts)]
        )


class Findings:
    """A verdict in the making."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._doubts: list[str] = []
        self._counts: dict[str, int] = {}

    def count(self, what: str, number: int = 1) -> int:
        """Add to a number of the verdict; return it."""
        self._counts[what] = self._counts.get(what, 0) + number
        return self._counts[what]

    def problem(self, name: str, text: str) -> None:
        """Note that the history is broken."""
        if self.count(name) <= SHOWN_MAX:
            self._problems.append(Problem(name, text))

    def doubt(self, text: str) -> None:
        """Note that something cannot be judged."""
        self._doubts.append(text)

    def verdict(self) -> Verdict:
        return Verdict(tuple(self._problems), tuple(self._doubts), self._counts)


Thing = TypeVar("Thing")


class Highest(Generic[Thing]):
    """Answers quickly which of many things that come up one after the other is the highest so far."""

    def __init__(
        self, things: Iterable[Thing], since: Callable[[Thing], float], height: Callable[[Thing], float]
    ) -> None:
        """`since` is when a thing comes up. One for which it is infinite never does."""
        ordered = sorted((each for each in things if since(each) < math.inf), key=since)
        self._times = [since(each) for each in ordered]
        self._highest = ordered
        for at in range(1, len(ordered)):
            if height(ordered[at - 1]) >= height(ordered[at]):
                ordered[at] = ordered[at - 1]

    def before(self, time: float) -> Thing | None:
        """The highest of those that came up before this time."""
        at = bisect.bisect_left(self._times, time)
        return self._highest[at - 1] if at else None


def by_element(pushed: Iterable[Any], what: str) -> dict[Hashable, Any]:
    """Sort what was put in by its element.

    Raises:
        Unusable: two have the same element, so that nobody could tell whose it is that comes out.
    """
    found: dict[Hashable, Any] = {}
    for each in pushed:
        if found.setdefault(each.element, each) is not each:
            raise Unusable(f"two operations {what} {each.element!r}")
    return found


def short(value: object) -> str:
    """A value as an explanation shows it."""
    text = repr(value)
    if len(text) <= _CHARACTERS_MAX:
        return text
    half = _CHARACTERS_MAX // 2
    return f"{text[:half]} ... {text[-half:]}"
