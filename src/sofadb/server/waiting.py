"""Who waits on this node, and for what: for a signal of the state machine, or for an instance.

A blocking command waits on the node of its client and then goes through the log again (rule D3). It is tried first, on every
replica alike, and answers "not now" with the signals that it could do with (`Waits`). When this node has applied a batch
that gave such a signal, the first who waits for it tries again; the others go on waiting, since one signal is good for
one of them. Whoever tries and leaves without having used what it was called for hands it on to the next.

A connection waits for one thing at a time, so there are never more who wait than clients.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from sofadb.database.replies import Signal

CallLater = Callable[[float, Callable[[], None]], asyncio.TimerHandle]


class Waiter(Protocol):
    """Who waits."""

    def try_again(self) -> None:
        """What it waits for may be there."""

    def give_up(self) -> None:
        """The time is over."""


def call_later(seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    """A timer of this event loop."""
    return asyncio.get_running_loop().call_later(seconds, call)


class _Place:
    """Where a waiter stands."""

    __slots__ = ("instance", "is_trying", "number", "signals", "timer", "was_called")

    def __init__(self, number: int, signals: tuple[Signal, ...], instance: int | None) -> None:
        self.number = number
        """Counted from the first who ever waited."""
        self.signals = signals
        self.instance = instance
        self.timer: asyncio.TimerHandle
        self.is_trying = False
        self.was_called = False
        """Whether another signal came while it tried."""


class WaitingRoom:
    """All who wait on a node."""

    def __init__(self, call_later: CallLater = call_later) -> None:
        self.call_later = call_later
        self._places: dict[Waiter, _Place] = {}
        self._queues: dict[Signal, OrderedDict[Waiter, None]] = {}
        self._instances: list[tuple[int, int, Waiter]] = []
        """Who waits for an instance, the lowest first."""
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._places)

    # Coming and going

    def wait_for_signals(self, waiter: Waiter, signals: tuple[Signal, ...], seconds: float) -> None:
        """Wait for one of the signals, behind those who wait already. Who has tried in vain keeps its place, and its time."""
        place = self._places.get(waiter)
        if place is None:
            self._enter(waiter, signals, None, seconds)
            for signal in signals:
                self._queues.setdefault(signal, OrderedDict())[waiter] = None
        else:
            place.is_trying = place.was_called = False

    def wait_for_instance(self, waiter: Waiter, instance: int, seconds: float) -> None:
        """Wait until this node has applied `instance`."""
        place = self._enter(waiter, (), instance, seconds)
        insort(self._instances, (instance, place.number, waiter))

    def _enter(
        self, waiter: Waiter, signals: tuple[Signal, ...], instance: int | None, seconds: float
    ) -> _Place:
        self._last_number += 1
        place = self._places[waiter] = _Place(self._last_number, signals, instance)
        place.timer = self.call_later(seconds, waiter.give_up)
        return place

    def leave(self, waiter: Waiter, in_vain: bool = False) -> None:
        """Wait no longer, or never having waited. `in_vain`: it was called, and nobody has used what it was called for."""
        place = self._places.pop(waiter, None)
        if place is None:
            return
        place.timer.cancel()
        if place.instance is not None:
            index = bisect_left(self._instances, (place.instance, place.number))
            del self._instances[index]
        for signal in place.signals:
            queue = self._queues[signal]
            del queue[waiter]
            if not queue:
                del self._queues[signal]
        if place.is_trying and (in_vain or place.was_called):
            for signal in place.signals:
                self._call(signal)

    def is_trying(self, waiter: Waiter) -> bool:
        """Whether it was called and has not come to an end with it."""
        return waiter in self._places and self._places[waiter].is_trying

    # From the node

    def on_applied(self, applied: int, signals: list[Signal]) -> None:
        """This node has come to the instance `applied`, with these signals."""
        if self._queues:
            for signal in dict.fromkeys(signals):
                self._call(signal)
        while self._instances and self._instances[0][0] <= applied:
            waiter = self._instances[0][2]
            self.leave(waiter)
            waiter.try_again()

    def _call(self, signal: Signal) -> None:
        queue = self._queues.get(signal)
        if queue is None:
            return
        waiter = next(iter(queue))
        place = self._places[waiter]
        if place.is_trying:
            place.was_called = True
        else:
            place.is_trying = True
            waiter.try_again()
