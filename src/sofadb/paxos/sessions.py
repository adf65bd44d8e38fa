"""Each entry takes effect once, in its session's order (rule P8).

A node gives its entries the numbers 1, 2, 3, ... under its start counter. Whoever does not hear that an entry took effect sends
it again; so an entry may be chosen twice, and an earlier one may be chosen after a later one. The table decides, on
every replica alike, when an entry comes up in the sequence: it takes effect only as the successor of the last one of its
session. A repetition comes too late and a forerunner too early: both do nothing, and the node sends
again what is still missing.

The table is part of the replicated state, and of its snapshots. It is bounded by the number of nodes that there ever were: a
node's new start counter ends its old session, but neither a clock nor a change of membership ends one. A retry after any
length of time is still recognized.
"""

from __future__ import annotations

from .ballot import NodeId
from .values import Entry


class Sessions:
    """For each node, its latest incarnation and the last entry of it that took effect."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last: dict[NodeId, tuple[int, int]] = {}

    def is_next(self, entry: Entry) -> bool:
        """Whether `entry` is the one its session waits for."""
        incarnation, sequence = self.last.get(entry.node, (0, 0))
        if entry.incarnation == incarnation:
            return entry.sequence == sequence + 1
        return entry.incarnation > incarnation and entry.sequence == 1

    def admit(self, entry: Entry) -> bool:
        """Take `entry` if it is the next of its session; return whether it takes effect."""
        if not self.is_next(entry):
            return False
        self.last[entry.node] = (entry.incarnation, entry.sequence)
        return True

    def to_tuple(self) -> tuple[tuple[NodeId, int, int], ...]:
        """The table as a foundation holds it."""
        return tuple((node, *last) for node, last in sorted(self.last.items()))

    @classmethod
    def of(cls, sessions: tuple[tuple[NodeId, int, int], ...]) -> Sessions:
        """The table that a foundation tells of."""
        table = cls()
        table.last = {node: (incarnation, sequence) for node, incarnation, sequence in sessions}
        return table

    def copy(self) -> Sessions:
        """A table that may go its own way."""
        twin = Sessions()
        twin.last = dict(self.last)
        return twin
