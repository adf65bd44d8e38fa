"""When requests are due."""

from __future__ import annotations

from collections import deque


class Pacing:
    """Says how many requests may leave, and since when each was due."""

    def due(self, now: float, free: int) -> list[float]:
        """Since when those have been due that leave now, `free` at most: so many unanswered requests may still be added."""
        raise NotImplementedError

    def wake_at(self) -> float | None:
        """When to ask again if no answer comes before; None if only an answer can change anything."""
        raise NotImplementedError

    def late(self) -> list[float]:
        """Since when those have been due that could not leave yet."""
        raise NotImplementedError


class Closed(Pacing):
    """As fast as answers come: a request is due when there is a place for it."""

    def __init__(self, count: int | None = None) -> None:
        """No more than `count` requests, if that is given."""
        self._left = count

    def due(self, now: float, free: int) -> list[float]:
        if self._left is not None:
            free = min(free, self._left)
            self._left -= free
        return [now] * free

    def wake_at(self) -> float | None:
        return None

    def late(self) -> list[float]:
        return []


class Open(Pacing):
    """At a steady rate, whatever becomes of the requests.

    One that finds no place waits for one, and has been due since its own moment all the same.
    """

    def __init__(self, begin: float, rate: float) -> None:
        """`rate` is in requests a second; the first is due at `begin`."""
        self._begin, self._rate = begin, rate
        self._planned = 0
        self._waiting: deque[float] = deque()

    def due(self, now: float, free: int) -> list[float]:
        while (moment := self._next()) <= now:
            self._waiting.append(moment)
            self._planned += 1
        return [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]

    def wake_at(self) -> float | None:
        return self._next()

    def late(self) -> list[float]:
        return list(self._waiting)

    def _next(self) -> float:
        return self._begin + self._planned / self._rate
