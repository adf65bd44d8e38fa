"""What belongs to no single database: the ids executed once, the locks, and the signals of a batch."""

from __future__ import annotations

from .locks import Locks
from .once import Once
from .replies import Signal


class Shared:
    """One for all sixteen databases."""

    __slots__ = ("locks", "once", "signals")

    def __init__(self) -> None:
        self.signals: list[Signal] = []
        """What this batch has made possible that somebody may wait for. No part of the state."""
        self.once = Once()
        self.locks = Locks(self.signals)

    def begin(self, time: int) -> None:
        """A batch begins, at this time (ms)."""
        self.signals.clear()
        self.locks.time = time

    def contents(self) -> tuple[object, ...]:
        """The state in it, for a fingerprint."""
        once, locks = self.once, self.locks
        held = [(name, locks.tokens[name], locks.expiry[name]) for name in sorted(locks.tokens)]
        return (list(once.executions.items()), once.forgotten, held, locks.last_token)
