"""Linearizable reads without writing (rule P7): the side that asks.

A read may be answered from this node's state once that holds everything that was acknowledged, anywhere, before the
read arrived. The leader knows how far that is, and proves that it still leads before it says so (`confirming`). Reads
that arrive together ask together. Each attempt has a number of its own and is granted by itself: a grant for an
earlier attempt, or for another life of this node, says nothing about a later one.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ballot import Instance
from .effects import Serve
from .messages import AskRead, GrantRead


@dataclass(slots=True)
class _Attempt:
    tokens: list[tuple[int, float]]
    """The reads, and since when each waits (monotonic milliseconds)."""
    asked_at: float


class Reading:
    """The reads that wait on this node."""

    __slots__ = ("attempts", "granted", "idle", "incarnation", "last_attempt", "waiting_max")

    def __init__(self, incarnation: int, waiting_max: int) -> None:
        self.incarnation = incarnation
        self.waiting_max = waiting_max
        self.last_attempt = 0
        self.idle: list[tuple[int, float]] = []
        """Not asked for yet, since nobody leads."""
        self.attempts: dict[int, _Attempt] = {}
        self.granted: list[tuple[Instance, tuple[int, ...], int]] = []
        """Granted, but the state is not there yet: (watermark, tokens, stamp)."""

    def add(self, token: int, now: float) -> bool:
        """Take a read in; False if too many wait already."""
        if (
            len(self.idle) + sum(len(attempt.tokens) for attempt in self.attempts.values())
            >= self.waiting_max
        ):
            return False
        self.idle.append((token, now))
        return True

    def ask(self, now: float, again: bool = False) -> AskRead | None:
        """Make a new attempt of what is idle, and (`again`) of everything that is asked for and not granted."""
        if again:
            asked = [read for attempt in self.attempts.values() for read in attempt.tokens]
            self.attempts.clear()
            self.idle[:0] = asked
        if not self.idle:
            return None
        self.last_attempt += 1
        self.attempts[self.last_attempt] = _Attempt(self.idle, now)
        self.idle = []
        return AskRead(self.last_attempt, self.incarnation)

    def on_grant(self, grant: GrantRead) -> None:
        """The leader has confirmed itself after that attempt was made."""
        if grant.incarnation != self.incarnation:
            return
        attempt = self.attempts.pop(grant.attempt, None)
        if attempt is not None:
            tokens = tuple(token for token, _ in attempt.tokens)
            self.granted.append((grant.watermark, tokens, grant.stamp))

    def answers(self, watermark: Instance) -> list[Serve]:
        """What may be answered now that everything up to `watermark` is applied."""
        ready = [Serve(tokens, stamp) for needed, tokens, stamp in self.granted if needed <= watermark]
        if ready:
            self.granted = [grant for grant in self.granted if grant[0] > watermark]
        return ready

    def asked_before(self, time: float) -> bool:
        """Whether an attempt that was made at `time` or before is still not granted."""
        return any(attempt.asked_at <= time for attempt in self.attempts.values())

    def abandon(self, before: float) -> list[int]:
        """Give up what waits, ungranted, since that time or longer; return its tokens."""
        given_up: list[int] = []
        for attempt in [self.idle, *(attempt.tokens for attempt in self.attempts.values())]:
            given_up += [token for token, since in attempt if since <= before]
            attempt[:] = [read for read in attempt if read[1] > before]
        for number in [number for number, attempt in self.attempts.items() if not attempt.tokens]:
            del self.attempts[number]
        return given_up

    @property
    def oldest(self) -> float | None:
        """Since when the oldest ungranted read waits (monotonic milliseconds)."""
        first = [self.idle[0][1]] if self.idle else []
        first += [attempt.tokens[0][1] for attempt in self.attempts.values()]
        return min(first, default=None)
