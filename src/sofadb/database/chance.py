"""Chance that replicas share (rule D1): numbers that follow from where in the sequence they are asked for.

The generator is Steele, Lea and Flood's SplitMix64 ("Fast splittable pseudorandom number generators", 2014): a counter, and a
mixing of its bits. It is not for secrets.
"""

from __future__ import annotations

from collections.abc import Sequence

_MASK = 2**64 - 1
_STEP = 0x9E3779B97F4A7C15


class Chance:
    """Numbers that depend on nothing but the seeds."""

    __slots__ = ("_state",)

    def __init__(self, *seeds: int) -> None:
        self._state = 0
        for seed in seeds:
            self._state = self._next() ^ seed

    def below(self, end: int) -> int:
        """A number from 0 to `end` - 1."""
        return self._next() % end

    def several(self, count: int, end: int) -> list[int]:
        """`count` different numbers from 0 to `end` - 1, drawn as from a pack of cards of which few are looked at."""
        drawn: list[int] = []
        moved: dict[int, int] = {}
        for last in range(end - 1, end - 1 - count, -1):
            at = self.below(last + 1)
            drawn.append(moved.get(at, at))
            moved[at] = moved.get(last, last)
        return drawn

    def pick(self, count: int, end: int) -> Sequence[int]:
        """As `several`, or all if they are not more; of a negative count so many, each any of them.

        Of many, those are drawn that are left out.
        """
        if count < 0:
            return [self.below(end) for _ in range(-count)]
        if count >= end:
            return range(end)
        if count <= end // 2:
            return self.several(count, end)
        left_out = set(self.several(end - count, end))
        return [number for number in range(end) if number not in left_out]

    def _next(self) -> int:
        self._state = state = (self._state + _STEP) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return state ^ (state >> 31)
