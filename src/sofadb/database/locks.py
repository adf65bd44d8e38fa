"""Locks with a time to live, and the numbers that tell their holders apart.

Who takes a lock is given a token. No token is given twice and each is higher than all before it, whatever lock it is for,
so that whoever is shown two of them knows which holder came later (a fencing token: Kleppmann 2016). It is the instance in
which the lock was taken or, where that was given out already, the next number: it grows however often leaders change.

A lock is held until its holder gives it back or the time of the state machine reaches its end (rule D1), by nobody's clock.
Locks lie beside the keys and apart from them, in the order of their tokens. Whenever one becomes free, the first who waits for it
is called (`queues.py`).
"""

from __future__ import annotations

from .expiry import Deadlines
from .queues import LOCK, Place, Queues
from .replies import ReplyError
from .rolling import Rolling

LOCKS_MAX = 100_000


class Locks:
    """All locks that are held. `time` is set before each batch."""

    __slots__ = ("deadlines", "expiry", "last_token", "queues", "rolling", "time", "tokens")

    def __init__(self, queues: Queues, rolling: Rolling) -> None:
        """Who waits for locks stands in `queues`."""
        self.queues = queues
        self.rolling = rolling
        self.time = 0
        self.last_token = 0
        """The highest there was."""
        self.tokens: dict[bytes, int] = {}
        self.expiry: dict[bytes, int] = {}
        """Of each lock, when it is free again (ms); in the same order."""
        self.deadlines = Deadlines(self.expiry)

    def holder(self, name: bytes) -> int | None:
        """The token that holds the lock, or None. What is due is free, whether it is cleared away or not."""
        token = self.tokens.get(name)
        return None if token is None or self.expiry[name] <= self.time else token

    def demand(self, name: bytes, token: int) -> None:
        """Raises `ReplyError` unless `token` holds the lock."""
        if self.holder(name) != token:
            raise ReplyError(
                "FENCED This token does not hold the lock (any more). The command was not executed."
            )

    def take(self, name: bytes, until: int, instance: int) -> int | None:
        """Take a lock until a time; returns its token, or None if it is held. Raises `ReplyError` if there are too many."""
        if self.holder(name) is not None:
            return None
        if name not in self.tokens and len(self.tokens) >= LOCKS_MAX:
            raise ReplyError(f"ERR {LOCKS_MAX} locks are held, and that is as many as may be")
        # What is due and not cleared away yet would keep its place.
        self.tokens.pop(name, None)
        self.expiry.pop(name, None)
        self.last_token = self.tokens[name] = max(instance, self.last_token + 1)
        self._keep_until(name, until)
        return self.last_token

    def renew(self, name: bytes, token: int, until: int) -> bool:
        """Let the lock end at another time, if `token` holds it; whether it does."""
        if self.holder(name) != token:
            return False
        self._keep_until(name, until)
        return True

    def release(self, name: bytes, token: int) -> bool:
        """Free the lock, if `token` holds it; whether it did."""
        if self.holder(name) != token:
            return False
        self._clear(name)
        return True

    def restore(self, name: bytes, token: int, until: int) -> None:
        """Put a lock where it was when an image was taken, after those with lower tokens."""
        self.tokens[name] = token
        self.expiry[name] = until
        self.deadlines.add(name, until)

    def clear_due(self, count_max: int) -> int:
        """Clear away what has ended, the earliest first, `count_max` locks at most; returns how many."""
        for count in range(count_max):
            first = self.deadlines.first()
            if first is None or first[0] > self.time:
                return count
            self._clear(first[1])
        return count_max

    def next_expiry(self) -> int | None:
        """When the next lock ends (ms), or None."""
        first = self.deadlines.first()
        return None if first is None else first[0]

    def _keep_until(self, name: bytes, until: int) -> None:
        self.expiry[name] = until
        self.deadlines.add(name, until)
        self.rolling.roll(b"held by %d until %d" % (self.tokens[name], until), name)

    def _clear(self, name: bytes) -> None:
        del self.tokens[name], self.expiry[name]
        self.rolling.roll(b"free", name)
        self.queues.touch(place_of(name))


def place_of(name: bytes) -> Place:
    """Where one waits for a lock."""
    return Place(LOCK, 0, name)
