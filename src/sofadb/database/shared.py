"""What belongs to no single database: the ids executed once, the locks, the digest of all changes, the signals of a batch."""

from __future__ import annotations

from .locks import Locks
from .once import Once
from .replies import Signal
from .rolling import Rolling


class Shared:
    """One for all sixteen databases."""

    __slots__ = ("locks", "once", "rolling", "signals")

    def __init__(self) -> None:
        self.signals: list[Signal] = []
        """What this batch has made possible that somebody may wait for. No part of the state."""
        self.rolling = Rolling()
        self.once = Once(self.rolling)
        self.locks = Locks(self.signals, self.rolling)

    def begin(self, time: int) -> None:
        """A batch begins, at this time (ms)."""
        self.signals.clear()
        self.locks.time = time
