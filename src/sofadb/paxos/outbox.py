"""What this node's own clients asked for and has not yet taken effect (rule P8).

A submission waits here without a number until it is sent towards the leader; only then it gets the next number of the
session. So what has no number was certainly never proposed and may be refused with certainty (rule D8); what has one stays until
it comes up in the sequence, and is sent again to whoever leads.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice

from .values import Entry


@dataclass(slots=True)
class Submission:
    """One submission on its way."""

    token: int
    """The caller's name for it."""
    payload: bytes
    since: float
    """Monotonic milliseconds."""
    entry: Entry | None = None
    """Set once it has its number."""


class Outbox:
    """Submissions in order: first those with a number, then those without."""

    __slots__ = (
        "_abandoned",
        "_unsent",
        "bytes",
        "bytes_max",
        "count_max",
        "incarnation",
        "node",
        "sent",
        "sequence",
    )

    def __init__(self, node: str, incarnation: int, bytes_max: int, count_max: int) -> None:
        self.node = node
        self.incarnation = incarnation
        self.bytes_max = bytes_max
        self.count_max = count_max
        self.bytes = 0
        self.sequence = 0
        self.sent: deque[Submission] = deque()
        self._unsent: deque[Submission] = deque()
        self._abandoned = 0
        """So many of `sent`, the oldest: their clients were told that the outcome is not known."""

    def add(self, token: int, payload: bytes, now: float) -> bool:
        """Take a submission in; False if there is no room."""
        if self.bytes and self.bytes + len(payload) > self.bytes_max:
            return False
        if len(self.sent) + len(self._unsent) >= self.count_max:
            return False
        self.bytes += len(payload)
        self._unsent.append(Submission(token, payload, now))
        return True

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def number(self, bytes_max: int) -> list[Entry]:
        """Give numbers to what waits, up to `bytes_max` (but at least to one), and return it for sending."""
        entries: list[Entry] = []
        while self._unsent:
            bytes_max -= len(self._unsent[0].payload)
            if bytes_max < 0 and entries:
                break
            submission = self._unsent.popleft()
            self.sequence += 1
            submission.entry = Entry(self.node, self.incarnation, self.sequence, submission.payload)
            self.sent.append(submission)
            entries.append(submission.entry)
        return entries

    def resend(self, bytes_max: int) -> list[list[Entry]]:
        """All entries that have not taken effect, oldest first, in parts of `bytes_max` (but at least one entry)."""
        parts: list[list[Entry]] = []
        room = 0
        for submission in self.sent:
            assert submission.entry is not None
            room -= len(submission.payload)
            if room < 0 or not parts:
                parts.append([])
                room = bytes_max - len(submission.payload)
            parts[-1].append(submission.entry)
        return parts

    def settle(self, entry: Entry) -> int | None:
        """`entry` takes effect now: return its token, or None if nobody waits for it any more."""
        assert self.sent, "an entry of ours was chosen that we never sent"
        submission = self.sent.popleft()
        assert submission.entry is not None
        assert submission.entry.sequence == entry.sequence, "entries of a session take effect in order"
        self.bytes -= len(submission.payload)
        if self._abandoned:
            self._abandoned -= 1
            return None
        return submission.token

    def settle_upto(self, sequence: int) -> list[int]:
        """All entries up to this number took effect, and what they came to is not known here; returns who still waited."""
        tokens: list[int] = []
        while self.sent:
            entry = self.sent[0].entry
            assert entry is not None
            if entry.sequence > sequence:
                break
            token = self.settle(entry)
            if token is not None:
                tokens.append(token)
        return tokens

    def abandon(self, now: float, patience: float) -> tuple[list[int], list[int]]:
        """Give up waiting for what has waited for `patience` or longer.

        Returns the tokens that were certainly never proposed (and now never will be), and those of unknown outcome.
        """
        never: list[int] = []
        unknown: list[int] = []
        while self._unsent and self._unsent[0].since + patience <= now:
            submission = self._unsent.popleft()
            self.bytes -= len(submission.payload)
            never.append(submission.token)
        for submission in islice(self.sent, self._abandoned, None):
            if submission.since + patience > now:
                break
            unknown.append(submission.token)
        self._abandoned += len(unknown)
        return never, unknown

    @property
    def count(self) -> int:
        """How many submissions there are whose clients still wait."""
        return len(self.sent) - self._abandoned + len(self._unsent)

    @property
    def oldest(self) -> float | None:
        """Since when the oldest waits whose client still waits (monotonic milliseconds)."""
        if self.sent and (not self._abandoned or self._abandoned < len(self.sent)):
            return self.sent[self._abandoned].since
        return self._unsent[0].since if self._unsent else None
