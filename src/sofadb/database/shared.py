"""What belongs to no single database: the ids executed once, the locks, who waits, the members, and the digest of all changes."""

from __future__ import annotations

from .events import Event
from .graveyard import Graveyard
from .locks import Locks
from .once import Once
from .queues import Queues
from .rolling import Rolling
from .roster import Roster


class Shared:
    """One for all sixteen databases."""

    __slots__ = (
        "events",
        "graveyard",
        "locks",
        "once",
        "queues",
        "rolling",
        "roster",
        "wanted_events",
    )

    def __init__(self, members: dict[str, str] | None = None) -> None:
        self.wanted_events = 0
        """Which classes of events somebody on this node wants to hear of (`events.py`). No part of the state."""
        self.events: list[Event] = []
        """What of that has happened in this batch. No part of the state."""
        self.graveyard = Graveyard()
        """What is large and not needed any more. No part of the state."""
        self.rolling = Rolling()
        self.once = Once(self.rolling)
        self.queues = Queues(self.rolling)
        self.locks = Locks(self.queues, self.rolling)
        self.roster = Roster(self.rolling, members)

    def begin(self, time: int, gap_ms: int) -> None:
        """A batch begins, at this time (ms), so many milliseconds after the last one."""
        self.events.clear()
        self.queues.begin(gap_ms)
        self.locks.time = time
