"""Linearizable reads without writing (rule P7): the side that asks.

A read may be answered from this node's state once that holds everything that was acknowledged, anywhere, before the
read arrived. The leader knows how far that is, and proves that it still leads before it says so (`confirming`). Reads
that arrive together ask together, as one attempt; while a few attempts are under way, those that arrive wait for the next one.

An attempt has a number never used before in this life of the node, and takes in no reads after it was asked. It is
asked again, under its number, whenever it is not granted in time or somebody else leads. That is sound: whoever grants it has
proven that it leads *after* it was first asked, and so after its reads arrived. A grant for another attempt, or for another
life of this node, says nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ballot import Instance
from .effects import Serve
from .messages import AskRead, GrantRead

ATTEMPTS_MAX = 8
"""So many attempts are under way at once; what comes meanwhile shares the next."""

Waiting = tuple[int, float]
"""A read's token, and since when it waits (monotonic milliseconds)."""


@dataclass(slots=True)
class _Attempt:
    reads: list[Waiting]
    asked_at: float


@dataclass(slots=True)
class _Granted:
    """Granted, but the state is not there yet."""

    watermark: Instance
    reads: list[Waiting]
    stamp: int


class Reading:
    """The reads that wait on this node."""

    __slots__ = ("attempts", "count", "count_max", "granted", "idle", "incarnation", "last_attempt")

    def __init__(self, incarnation: int, count_max: int) -> None:
        self.incarnation = incarnation
        self.count_max = count_max
        self.count = 0
        """How many reads wait, in whatever state."""
        self.last_attempt = 0
        self.idle: list[Waiting] = []
        """Not asked for yet: nobody leads, or enough attempts are under way."""
        self.attempts: dict[int, _Attempt] = {}
        self.granted: list[_Granted] = []

    def add(self, token: int, now: float) -> bool:
        """Take a read in; False if too many wait already."""
        if self.count >= self.count_max:
            return False
        self.count += 1
        self.idle.append((token, now))
        return True

    def ask(self, now: float) -> AskRead | None:
        """Make an attempt of what is idle, if it may be asked now."""
        if not self.idle or len(self.attempts) >= ATTEMPTS_MAX:
            return None
        self.last_attempt += 1
        self.attempts[self.last_attempt] = _Attempt(self.idle, now)
        self.idle = []
        return AskRead(self.last_attempt, self.incarnation)

    def ask_again(self, now: float, pause: float) -> list[AskRead]:
        """Ask once more for every attempt that was last asked `pause` milliseconds ago or earlier."""
        asks = []
        for number, attempt in self.attempts.items():
            if attempt.asked_at + pause <= now:
                attempt.asked_at = now
                asks.append(AskRead(number, self.incarnation))
        return asks

    def on_grant(self, grant: GrantRead) -> None:
        """The leader has confirmed itself after that attempt was made."""
        if grant.incarnation != self.incarnation:
            return
        attempt = self.attempts.pop(grant.attempt, None)
        if attempt is not None:
            self.granted.append(_Granted(grant.watermark, attempt.reads, grant.stamp))

    def answers(self, watermark: Instance) -> list[Serve]:
        """What may be answered now that everything up to `watermark` is applied."""
        ready = [granted for granted in self.granted if granted.watermark <= watermark]
        if ready:
            self.granted = [granted for granted in self.granted if granted.watermark > watermark]
            self.count -= sum(len(granted.reads) for granted in ready)
        return [Serve(tuple(token for token, _ in granted.reads), granted.stamp) for granted in ready]

    def abandon(self, now: float, patience: float) -> list[int]:
        """Give up what has waited for `patience` or longer; return its tokens."""
        given_up: list[int] = []
        groups = (
            self.idle,
            *(each.reads for each in self.attempts.values()),
            *(each.reads for each in self.granted),
        )
        for reads in groups:
            if reads and reads[0][1] + patience <= now:
                given_up += [token for token, since in reads if since + patience <= now]
                reads[:] = [read for read in reads if read[1] + patience > now]
        if given_up:
            self.count -= len(given_up)
            self.attempts = {number: each for number, each in self.attempts.items() if each.reads}
            self.granted = [each for each in self.granted if each.reads]
        return given_up

    @property
    def asked_at(self) -> float | None:
        """When the attempt that was asked longest ago was last asked (monotonic milliseconds)."""
        first: float | None = None
        for attempt in self.attempts.values():
            first = attempt.asked_at if first is None or attempt.asked_at < first else first
        return first

    @property
    def oldest(self) -> float | None:
        """Since when the oldest read waits (monotonic milliseconds)."""
        first = self.idle[0][1] if self.idle else None
        for attempt in self.attempts.values():
            since = attempt.reads[0][1]
            first = since if first is None or since < first else first
        for granted in self.granted:
            since = granted.reads[0][1]
            first = since if first is None or since < first else first
        return first
