"""Linearizable reads without writing (rule P7): the side of the leader.

Why one round of confirmation is enough. A leader with ballot b notes its watermark, then asks the acceptors whether they
have promised anything above b. Had another leader begun before the question was asked, a quorum would
have promised its higher ballot, and that quorum shares an acceptor with every quorum that answers here. So
when a quorum says no, nobody else had anything newly chosen at the time of the note, and everything acknowledged
until then lies at or below the watermark, provided that this leader has first got something of its own ballot chosen:
only then does its watermark cover all that earlier leaders chose.

Which acceptors? A quorum of every configuration in which something could come to be chosen at the time of the *note*: that
of the instance behind the watermark, and those that follow it in the window. While the answers are on their way the membership
may change, and the old acceptors be out of it; still it is they who know whether somebody else got the next value chosen.

A round for readers asks no more acceptors than it needs, those who answered last. Whether all are asked or some is a matter of
messages: the proof is in the answers. Heartbeats ask everybody, and tell who is quick to answer.

The rounds are numbered, and never with the same number twice within a ballot. An answer counts for its round and for
those before it; and a round that is confirmed lets the readers of earlier ones go, too, at its own watermark. Reads join the
next round to *start*, never one that is under way.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from .ballot import Instance, NodeId
from .messages import AskRead
from .values import Configuration

ROUNDS_TIMED = 1_000
"""Of so many rounds it is remembered when they began."""


class Reader(NamedTuple):
    """A follower's (or our own) readers, who wait for a grant."""

    node: NodeId
    ask: AskRead


class _Round(NamedTuple):
    number: int
    watermark: Instance
    window: tuple[Configuration, ...]
    readers: list[Reader]


class Confirming:
    """The rounds of confirmation of one leadership; they die with it."""

    __slots__ = ("_began_at", "answered", "next_readers", "number", "rounds")

    def __init__(self) -> None:
        self.number = 0
        self.answered: dict[NodeId, int] = {}
        """The latest round that each acceptor has answered, in the order of these answers."""
        self.next_readers: dict[Reader, None] = {}
        """In order, each once, however often it asks."""
        self.rounds: list[_Round] = []
        """Rounds with readers, not yet confirmed, oldest first."""
        self._began_at: deque[float] = deque(maxlen=ROUNDS_TIMED)
        """When the latest rounds began (monotonic milliseconds), the last one last."""

    def start(
        self, watermark: Instance, window: tuple[Configuration, ...], with_readers: bool, now: float
    ) -> int:
        """Begin a round, with the readers that wait (`with_readers`: the watermark covers earlier leaders' work)."""
        self.number += 1
        self._began_at.append(now)
        if with_readers and self.next_readers:
            self.rounds.append(_Round(self.number, watermark, window, list(self.next_readers)))
            self.next_readers = {}
        return self.number

    @property
    def last_began_at(self) -> float:
        """When the latest round began."""
        return self._began_at[-1]

    def nearest(self, me: NodeId, window: tuple[Configuration, ...]) -> list[NodeId] | None:
        """Who is enough to confirm a round, with `me`: those who answered the latest, and first. None: it takes all.

        (While the membership changes, or when too few have answered yet.)
        """
        if len(window) > 1:
            return None
        (configuration,) = window
        needed = configuration.quorum - (me in configuration.acceptors)
        answered = self.answered
        able = [node for node in answered if node != me and node in configuration.acceptors]
        able.sort(key=answered.__getitem__, reverse=True)
        return able[:needed] if len(able) >= needed else None

    def on_confirmed(self, node: NodeId, number: int) -> None:
        """`node` had promised nothing higher when round `number` reached it."""
        if self.answered.get(node, 0) < number <= self.number:
            self.answered.pop(node, None)
            self.answered[node] = number

    def began_at(self, number: int) -> float | None:
        """When round `number` began; None if it is one of long ago, or none of ours."""
        index = len(self._began_at) - 1 - (self.number - number)
        return self._began_at[index] if 0 <= index < len(self._began_at) else None

    def confirmed(self, configurations: tuple[Configuration, ...]) -> int:
        """The latest round that a quorum of every configuration has answered, or 0."""
        answered = self.answered
        latest = []
        for each in configurations:
            rounds = sorted([answered.get(node, 0) for node in each.acceptors], reverse=True)
            latest.append(rounds[each.quorum - 1])
        return min(latest)

    def take(self) -> list[tuple[Instance, list[Reader]]]:
        """The readers who may be let go, with their watermarks.

        Those of a round that is confirmed; and those of earlier ones, for they asked before it began, and its watermark is no
        lower. (An earlier round may never be confirmed: its acceptors may not be members any more.)
        """
        for index in range(len(self.rounds) - 1, -1, -1):
            each = self.rounds[index]
            if each.number <= self.confirmed(each.window):
                done, self.rounds = self.rounds[: index + 1], self.rounds[index + 1 :]
                return [(each.watermark, [reader for one in done for reader in one.readers])]
        return []
