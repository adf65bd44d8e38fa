"""Where large things go that nobody needs any more, to be given back a little at a time.

To drop the last reference to a million objects takes Python some 50 to 200 ms in one piece. So what is large is kept here and
emptied step by step: some with each batch, and the rest when the node has nothing better to do. Nothing of it is state.
"""

from __future__ import annotations

from typing import Any

from .values import Value

LARGE = 1_000
"""With fewer elements a thing is not worth a grave."""
_ROUND = 500


class Graveyard:
    """Containers that are emptied."""

    __slots__ = ("_graves",)

    def __init__(self) -> None:
        self._graves: list[Any] = []

    def __len__(self) -> int:
        return len(self._graves)

    def bury(self, *things: Any) -> None:
        """Take values, lists, dicts and deques that nobody looks at any more."""
        for thing in things:
            if isinstance(thing, Value):
                self._graves += thing.containers()
            else:
                self._graves.append(thing)

    def bury_large(self, *things: Any) -> None:
        """Take those of them that are large."""
        for thing in things:
            if len(thing) >= LARGE:
                self.bury(thing)

    def take_over(self, other: Graveyard) -> None:
        """Take all that another one has."""
        self._graves += other._graves
        other._graves = []

    def step(self, count_max: int) -> bool:
        """Give about `count_max` elements back; whether something is left."""
        graves = self._graves
        while graves and count_max > 0:
            grave = graves[-1]
            round_ = min(_ROUND, len(grave), count_max)
            count_max -= round_ or 1
            if not round_:
                graves.pop()
            elif isinstance(grave, dict):
                for _ in range(round_):
                    count_max -= self._drop(grave.popitem()[1])
            elif isinstance(grave, list):
                del grave[-round_:]
            else:
                for _ in range(round_):
                    grave.pop()
        return bool(graves)

    def _drop(self, value: Any) -> int:
        """What was at a key, or in a bucket, is not needed either; returns how many elements go with it at once."""
        if not isinstance(value, Value | dict):
            return 0
        if len(value) < LARGE:
            return len(value)
        self.bury(value)
        return 0
