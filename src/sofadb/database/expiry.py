"""When keys expire, in order.

A heap of (expiry, key). An entry holds as long as the key still expires at that time; what no longer holds is passed over when
it comes up. Keys whose expiry is put off again and again would fill the heap with such entries, and sorting it anew would
stop everything for a second once it is large. So there are two heaps: when half of the entries may be void, the heap becomes
the old one, and with each entry added to the new one a few of the old are looked at and moved if they still hold.

What comes up next depends on the expiries alone, never on what lies in which heap: replicas agree on it.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any, Generic, TypeVar

K = TypeVar("K")
"""What expires: something that has an order, the same on every replica."""

_VOID_MIN = 1_000
"""So many void entries nobody minds."""
_MOVED_PER_ADDITION = 4


class Deadlines(Generic[K]):
    """The keys of `expiry` (key to time in ms) by time. Whoever adds to `expiry` calls `add` as well; removing needs no call."""

    __slots__ = ("_expiry", "_heap", "_old")

    def __init__(self, expiry: dict[K, int]) -> None:
        self._expiry = expiry
        self._heap: list[tuple[int, K]] = []
        self._old: list[tuple[int, K]] = []

    def __len__(self) -> int:
        """How many entries there are, the void ones included."""
        return len(self._heap) + len(self._old)

    def containers(self) -> list[Any]:
        """Its lists, for the graveyard."""
        return [self._heap, self._old]

    def add(self, key: K, time: int) -> None:
        """Note that `key` expires at `time`."""
        heappush(self._heap, (time, key))
        old = self._old
        if old:
            expiry = self._expiry
            for _ in range(min(_MOVED_PER_ADDITION, len(old))):
                entry = old.pop()  # A heap without its last entry is a heap.
                if expiry.get(entry[1]) == entry[0]:
                    heappush(self._heap, entry)
        elif len(self._heap) > 2 * len(self._expiry) + _VOID_MIN:
            self._heap, self._old = old, self._heap

    def first(self) -> tuple[int, K] | None:
        """The earliest expiry and the key, or None."""
        heap, old, expiry = self._heap, self._old, self._expiry
        while heap and expiry.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        while old and expiry.get(old[0][1]) != old[0][0]:
            heappop(old)
        if heap and old:
            return min(heap[0], old[0])
        return heap[0] if heap else old[0] if old else None
