"""What belongs to no single database: the ids executed once, the locks, the members, and the signals of a batch."""

from __future__ import annotations

from .locks import Locks
from .once import Once
from .replies import Signal
from .roster import Roster


class Shared:
    """One for all sixteen databases."""

    __slots__ = ("locks", "once", "roster", "signals")

    def __init__(self, members: dict[str, str] | None = None) -> None:
        self.signals: list[Signal] = []
        """What this batch has made possible that somebody may wait for. No part of the state."""
        self.once = Once()
        self.locks = Locks(self.signals)
        self.roster = Roster(members)

    def begin(self, time: int) -> None:
        """A batch begins, at this time (ms)."""
        self.signals.clear()
        self.locks.time = time

    def contents(self) -> tuple[object, ...]:
        """The state in it, for a fingerprint."""
        once, locks = self.once, self.locks
        held = [(name, locks.tokens[name], locks.expiry[name]) for name in sorted(locks.tokens)]
        return (list(once.executions.items()), once.forgotten, held, locks.last_token, self.roster.contents())
