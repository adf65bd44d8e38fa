"""What belongs to no single database: the ids executed once, the locks, who waits, the members, the scripts, the digest of all
changes, and what a batch leads to: events and messages.
"""

from __future__ import annotations

from .budget import Budget
from .graveyard import Graveyard
from .locks import Locks
from .messages import Messages
from .once import Once
from .queues import Queues
from .rolling import Rolling
from .roster import Roster
from .scripts import Scripts


class Shared:
    """One for all sixteen databases."""

    __slots__ = (
        "budget",
        "events",
        "graveyard",
        "locks",
        "messages",
        "once",
        "queues",
        "reading_budget",
        "rolling",
        "roster",
        "script_steps",
        "scripts",
        "wanted_events",
    )

    def __init__(self, members: dict[str, str] | None = None) -> None:
        self.wanted_events = 0
        """Which classes of events somebody on this node wants to hear of (`events.py`). No part of the state."""
        self.events: list[object] = []
        """What of that has happened in this batch (`Event`), and between, in its order, what a server makes of messages
        (`Messages.tell`). No part of the state. What is undone is taken off its end."""
        self.script_steps = 0
        """What the scripts of this batch have taken. No part of the state: each batch begins anew."""
        self.budget = Budget()
        self.reading_budget = Budget()
        """For reads in transactions, which are done only on the node of their client."""
        self.graveyard = Graveyard()
        """What is large and not needed any more. No part of the state."""
        self.rolling = Rolling()
        self.messages = Messages(self.rolling)
        self.once = Once(self.rolling)
        self.queues = Queues(self.rolling)
        self.locks = Locks(self.queues, self.rolling)
        self.roster = Roster(self.rolling, members)
        self.scripts = Scripts(self.rolling)

    def begin(self, time: int, gap_ms: int) -> None:
        """A batch begins, at this time (ms), so many milliseconds after the last one."""
        self.events.clear()
        self.script_steps = 0
        self.budget.begin()
        self.reading_budget.begin()
        self.messages.begin()
        self.queues.begin(gap_ms)
        self.locks.time = time

    def go_on_for(self, before: Shared) -> None:
        """What the clients of this node want to hear of is the same as it was with another state."""
        self.wanted_events, self.messages.tell = before.wanted_events, before.messages.tell
