"""Who waits for what, in one order for the whole cluster: for elements of a list or a sorted set, or for a lock.

A command that has to wait is entered here, by its node and a number, in a line for each place it waits at. Lines are part of
the state, so they are the same on every replica and outlive every leader. What comes to a place is for the first in its line
who still comes for it:

- When something has come, the first in line are *called* (after the run or transaction that brought it). Nothing is taken for
  them: whoever is called sends its command through the log again, and that takes it. So nothing is ever taken for somebody whose
  node does not live, or whose client has gone away before it was called.
- Only the first in a line takes. As many are called as there is something for, up to `AHEAD`; if one of them comes before its
  turn, it is called again when that has come. A command that finds no line takes at once. Commands that never wait (LPOP)
  take what is there: who was called in vain keeps its place.
- Who does not come within `PATIENCE_MS` is called in vain for the last time: everyone who waits on that node leaves all lines,
  and the next are called. A node that lives after all sees that, and enters its clients again; the next time it is given twice
  as long, until it comes in time. (It may be far away.)

So, but for moments, where there is something at a place, the first in its line is called.

Time is the state machine's (rule D1), but a gap between two batches counts for `GAP_MS_MAX` at most. While nobody leads nobody
can come, and a new leader's first batch must not find that all who were called have come too late.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from struct import Struct
from typing import NamedTuple

from .expiry import Deadlines
from .replies import Reply, ReplyError, Waits
from .rolling import Rolling

PATIENCE_MS = 500
PATIENCE_MS_MAX = 8_000
GAP_MS_MAX = 100
AHEAD = 16
WAITERS_MAX = 100_000
BYTES_MAX = 64 << 20
"""Of all places where somebody waits together, each counted with `PLACE_BYTES` on top."""
PLACE_BYTES = 64

LOCK = 0
"""The kind of place that is a lock; others are the kinds of values (`values.py`)."""

PLACE = Struct(">BBI")  # kind, database, bytes of the name; then it


class Who(NamedTuple):
    """A command that waits."""

    front: bytes
    """Where its client is: a node in one of its lives, as name/number."""
    number: int
    """Given by that node, and never to another."""


class Place(NamedTuple):
    """What somebody waits at."""

    kind: int
    database: int
    name: bytes


class Waiter(NamedTuple):
    """Somebody in line."""

    who: Who
    places: tuple[Place, ...]
    arrival: int
    """How many came before, since the beginning."""


class Queues:
    """All lines."""

    __slots__ = (
        "arrivals",
        "called",
        "caller",
        "calls",
        "deadlines",
        "dismissed",
        "elapsed",
        "fronts",
        "has_waited",
        "lines",
        "patience",
        "rolling",
        "size",
        "touched",
        "waiters",
    )

    def __init__(self, rolling: Rolling) -> None:
        self.rolling = rolling
        self.caller: Who | None = None
        """Who asks, while a command is executed that may wait."""
        self.has_waited = False
        """Whether the caller has been in line before."""
        self.calls: list[Who] = []
        """Who was called in this batch. No part of the state."""
        self.dismissed: list[bytes] = []
        """Whose clients had to leave all lines in this batch. No part of the state."""
        self.touched: dict[Place, None] = {}
        """Where somebody may have to be called when the run is done."""
        self.elapsed = 0
        """Milliseconds that have passed while somebody was called."""
        self.arrivals = 0
        self.size = 0
        self.waiters: dict[Who, Waiter] = {}
        """In the order of their coming."""
        self.lines: dict[Place, OrderedDict[Who, None]] = {}
        """None is empty."""
        self.fronts: dict[bytes, dict[Who, None]] = {}
        """Who waits on each node, in the order of coming."""
        self.called: dict[Who, int] = {}
        """Until when (`elapsed`) those who were called may come."""
        self.deadlines: Deadlines[Who] = Deadlines(self.called)
        self.patience: dict[bytes, int] = {}
        """How many milliseconds the clients of nodes that came too late are given. Of each node its last life."""

    # While a command is executed

    def begin_turn(self, who: Who, has_waited: bool) -> None:
        """The command of `who` comes up in the sequence."""
        self.caller, self.has_waited = who, has_waited
        until = self.called.pop(who, None)
        if until is not None:
            self.rolling.roll(b"came %d" % who.number, who.front)
            patience = self.patience.get(who.front, PATIENCE_MS)
            if self.elapsed <= until - patience + PATIENCE_MS:
                self.patience.pop(who.front, None)

    def end_turn(self, who: Who, reply: Reply) -> None:
        """And this is its answer."""
        self.caller, self.has_waited = None, False
        if type(reply) is not Waits:
            self.leave(who)

    def is_first(self, place: Place) -> bool:
        """Whether the command that is executed may take what is at a place. (One that never waits may.)"""
        line = self.lines.get(place)
        return line is None or self.caller is None or next(iter(line)) == self.caller

    def wait(self, places: list[Place], wait_ms: int, in_vain: Reply, instead: Reply) -> Reply:
        """There is nothing for the command that is executed: have it wait there, behind those who do.

        If its time is over before it is served, it is answered `in_vain`; where commands do not wait, `instead` at once.
        Raises `ReplyError` if there are too many.
        """
        who = self.caller
        if who is None:
            return instead
        if who not in self.waiters:
            self._enter(who, tuple(dict.fromkeys(places)))
        return Waits(wait_ms, in_vain)

    def _enter(self, who: Who, places: tuple[Place, ...]) -> None:
        size = sum(len(place.name) + PLACE_BYTES for place in places)
        if len(self.waiters) >= WAITERS_MAX or self.size + size > BYTES_MAX:
            raise ReplyError("ERR as many clients wait as may, on all nodes together")
        if who.front not in self.fronts:
            self._dismiss_earlier_lives(who.front)
        self.arrivals += 1
        self._add(Waiter(who, places, self.arrivals))
        self.rolling.roll(b"waits %d %d" % (who.number, self.arrivals), who.front)
        for place in places:
            self.rolling.roll(b"at %d %d" % place[:2], place.name)

    def _add(self, waiter: Waiter) -> None:
        who = waiter.who
        self.waiters[who] = waiter
        self.fronts.setdefault(who.front, {})[who] = None
        for place in waiter.places:
            self.lines.setdefault(place, OrderedDict())[who] = None
            self.size += len(place.name) + PLACE_BYTES

    def leave(self, who: Who) -> None:
        """Be in no line any more. Where it was the first, it is the next one's turn."""
        waiter = self.waiters.pop(who, None)
        if waiter is None:
            return
        self.rolling.roll(b"leaves %d" % who.number, who.front)
        self.called.pop(who, None)
        front = self.fronts[who.front]
        del front[who]
        if not front:
            del self.fronts[who.front]
        for place in waiter.places:
            line = self.lines[place]
            if next(iter(line)) == who:
                self.touched[place] = None
            del line[who]
            if not line:
                del self.lines[place]
            self.size -= len(place.name) + PLACE_BYTES

    # Calling

    def touch(self, place: Place) -> None:
        """Something may have come to a place."""
        if place in self.lines:
            self.touched[place] = None

    def touch_all(self, *databases: int) -> None:
        """As `touch`, for all places in some databases."""
        for place in self.lines:
            if place.kind != LOCK and place.database in databases:
                self.touched[place] = None

    def call(self, count_at: Callable[[Place], int]) -> None:
        """After a run: call those who can be served. `count_at` says how many there is something for at a place."""
        touched, self.touched = self.touched, {}
        for place in touched:
            line = self.lines.get(place)
            if line is not None:
                for who in islice(line, min(count_at(place), AHEAD)):
                    if who not in self.called:
                        until = self.elapsed + self.patience.get(who.front, PATIENCE_MS)
                        self.called[who] = until
                        self.deadlines.add(who, until)
                        self.calls.append(who)
                        self.rolling.roll(b"called %d until %d" % (who.number, until), who.front)

    # Time

    def begin(self, gap_ms: int) -> None:
        """A batch begins, so many milliseconds after the last one."""
        self.calls.clear()
        self.dismissed.clear()
        if self.called:
            self.elapsed += min(gap_ms, GAP_MS_MAX)
            while (first := self.deadlines.first()) is not None and first[0] <= self.elapsed:
                front = first[1].front
                self._dismiss(front)
                self.patience[front] = min(2 * self.patience.get(front, PATIENCE_MS), PATIENCE_MS_MAX)

    def next_due(self, time: int) -> int | None:
        """When a batch has to come, if none does before (ms); None if nobody is called."""
        first = self.deadlines.first()
        return None if first is None else time + min(first[0] - self.elapsed, GAP_MS_MAX)

    def _dismiss(self, front: bytes) -> None:
        """Everyone who waits on a node, if there still is anyone, leaves."""
        for who in list(self.fronts.get(front, ())):
            self.leave(who)
        if front not in self.dismissed:
            self.dismissed.append(front)

    def _dismiss_earlier_lives(self, front: bytes) -> None:
        """A node has come back: its clients of before are gone."""
        name = front.rpartition(b"/")[0]
        for other in [*self.fronts, *self.patience]:
            if other != front and other.rpartition(b"/")[0] == name:
                self._dismiss(other)
                self.patience.pop(other, None)

    # Images

    def restore(self, waiter: Waiter, until: int) -> None:
        """Put somebody where it was when an image was taken, behind those who came before. `until`: 0 if it is not called."""
        self._add(waiter)
        if until:
            self.called[waiter.who] = until
            self.deadlines.add(waiter.who, until)


def pack_places(places: tuple[Place, ...]) -> bytes:
    """As an image holds them."""
    parts: list[bytes] = []
    for kind, database, name in places:
        parts += (PLACE.pack(kind, database, len(name)), name)
    return b"".join(parts)


def unpack_places(data: bytes) -> tuple[Place, ...]:
    """And back. Raises `ValueError` or `struct.error`."""
    places: list[Place] = []
    at = 0
    while at < len(data):
        kind, database, length = PLACE.unpack_from(data, at)
        at += PLACE.size + length
        if at > len(data):
            raise ValueError("a place ends early")
        places.append(Place(kind, database, data[at - length : at]))
    return tuple(places)
