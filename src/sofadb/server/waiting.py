"""Who waits on this node, and for what: for its turn in a line of the state machine, or for an instance.

A blocking command waits on the node of its client and then goes through the log again (rule D3). It is tried first, on every
replica alike, and if there is nothing for it, it stands in line there (`database/queues.py`). When a batch calls it, it is
tried again. It is served only by a try of this node; so while none is under way, this node knows that it has not been served, and
may end its waiting by itself, whatever it can reach. The state machine is told afterwards, and again if it calls somebody who is
gone.

A connection waits for one thing at a time, so there are never more who wait than clients.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Protocol

from sofadb.database.database import Database
from sofadb.database.queues import Who
from sofadb.database.replies import ReplyError
from sofadb.database.runs import Gone

CallLater = Callable[[float, Callable[[], None]], asyncio.TimerHandle]


class Waiter(Protocol):
    """Who waits."""

    def try_again(self) -> None:
        """What it waits for may be there."""

    def give_up(self) -> None:
        """Wait no longer: the time is over."""


def call_later(seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    """A timer of this event loop."""
    return asyncio.get_running_loop().call_later(seconds, call)


class Leaves:
    """Work of the node's own: tell the state machine that somebody does not wait any longer."""

    needs_log = True
    size = 0

    def __init__(self, who: Who) -> None:
        self._gone = Gone(who)

    def encode(self) -> bytes:
        """What every replica has to execute."""
        return self._gone.encode()

    def execute(self, database: Database) -> None:
        """Let it be so."""
        self._gone.execute(database)

    def fail(self, error: ReplyError) -> None:
        """It will be said again when that one is called."""


class _Place:
    """Where a waiter stands."""

    __slots__ = ("instance", "is_trying", "number", "timer", "turn")

    def __init__(self, number: int, turn: int | None, instance: int | None) -> None:
        self.number = number
        """Counted from the first who ever waited."""
        self.turn = turn
        """The number by which the state machine calls it."""
        self.instance = instance
        self.timer: asyncio.TimerHandle | None = None
        self.is_trying = False


class WaitingRoom:
    """All who wait on a node."""

    def __init__(self, call_later: CallLater = call_later) -> None:
        self.call_later = call_later
        self._places: dict[Waiter, _Place] = {}
        self._turns: dict[int, Waiter] = {}
        """Who stands in line, by the number by which it is called."""
        self._instances: list[tuple[int, int, Waiter]] = []
        """Who waits for an instance, the lowest first."""
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._places)

    # Coming and going

    def wait_for_turn(self, waiter: Waiter, turn: int, seconds: float | None) -> None:
        """Wait to be called by that number; None: for ever. Who has tried in vain keeps its time."""
        place = self._places.get(waiter)
        if place is None:
            self._enter(waiter, turn, None, seconds)
            self._turns[turn] = waiter
        else:
            place.is_trying = False

    def wait_for_instance(self, waiter: Waiter, instance: int, seconds: float) -> None:
        """Wait until this node has applied `instance`."""
        place = self._enter(waiter, None, instance, seconds)
        insort(self._instances, (instance, place.number, waiter))

    def _enter(self, waiter: Waiter, turn: int | None, instance: int | None, seconds: float | None) -> _Place:
        self._last_number += 1
        place = self._places[waiter] = _Place(self._last_number, turn, instance)
        if seconds is not None:
            place.timer = self.call_later(seconds, waiter.give_up)
        return place

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer, or never having waited."""
        place = self._places.pop(waiter, None)
        if place is None:
            return
        if place.timer is not None:
            place.timer.cancel()
        if place.instance is not None:
            index = bisect_left(self._instances, (place.instance, place.number))
            del self._instances[index]
        if place.turn is not None:
            del self._turns[place.turn]

    def is_trying(self, waiter: Waiter) -> bool:
        """Whether it was called and has not come to an end with it."""
        return waiter in self._places and self._places[waiter].is_trying

    # From the node

    def on_applied(self, applied: int) -> None:
        """This node has come to the instance `applied`."""
        while self._instances and self._instances[0][0] <= applied:
            waiter = self._instances[0][2]
            self.leave(waiter)
            waiter.try_again()

    def call(self, turn: int) -> bool:
        """Somebody is called. False: it does not wait here (any more)."""
        waiter = self._turns.get(turn)
        if waiter is None:
            return False
        self._try(waiter)
        return True

    def call_all(self) -> None:
        """Nobody knows whether they still stand in line: let them see to it, in the order in which they came."""
        for waiter in list(self._turns.values()):
            self._try(waiter)

    def _try(self, waiter: Waiter) -> None:
        place = self._places[waiter]
        if not place.is_trying:
            place.is_trying = True
            waiter.try_again()
