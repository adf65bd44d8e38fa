"""The leader's lease (rule P7): reads that ask nobody, for as long as nobody else can lead. Off unless the operator turns it on.

Whoever confirms a leader grants it something, too: for `lease_ms`, by its own monotonic clock, it promises nothing to
anybody else. While a quorum is bound so, no other node can gather the promises of a quorum, so nothing can be chosen that the
leader does not know of, and it may answer reads from its watermark at once.

The leader counts from the moment at which it *began* the round of confirmation, and no acceptor's time begins before that. And
it stops early by as much as two clocks may have drifted apart: with d as the bound on the drift of each, after
`lease_ms` x (1 - d) / (1 + d) on its own clock. The clocks must go on while the machine sleeps (`CLOCK_BOOTTIME`). If
clocks drift further than stated, reads may be stale; nothing is ever lost by it, since writes do not rely on time.

What an acceptor has granted it does not write down. So in a life that follows one in which it granted leases, it
promises nothing to anybody until they must have run out.

A leader that hands over gives its lease up first, for good, and says so in the message with which it gives way; its successor
shows that to those who are still bound (`Prepare.released`).
"""

from __future__ import annotations

from .ballot import NO_BALLOT, Ballot, NodeId
from .values import Configuration


class Grant:
    """The side of the acceptor: to whom it is bound, and until when."""

    __slots__ = ("ballot", "forgotten_until", "until")

    def __init__(self) -> None:
        self.ballot = NO_BALLOT
        """The leader's."""
        self.until = float("-inf")
        """Monotonic milliseconds."""
        self.forgotten_until = float("-inf")
        """Until then whatever an earlier life granted may still run, to whomever."""

    def bind(self, ballot: Ballot, until: float) -> None:
        """From now on, and until then, nothing is promised to others than the owner of `ballot`.

        What an earlier leader sent may come only now. It hides no later one: we may have confirmed that without
        having promised it.
        """
        self.ballot, self.until = max(self.ballot, ballot), max(self.until, until)

    def forbids(self, ballot: Ballot, released: Ballot, now: float) -> bool:
        """Whether `ballot` may not be promised yet."""
        is_free = ballot.node == self.ballot.node or released == self.ballot
        return now < self.forgotten_until or (now < self.until and not is_free)


class Lease:
    """The side of the leader: what it was granted, and since when."""

    __slots__ = ("_granted", "drift_max", "is_given_up")

    def __init__(self, drift_max: float) -> None:
        self.drift_max = drift_max
        self._granted: dict[NodeId, float] = {}
        """For each acceptor, until when it is surely bound (monotonic milliseconds)."""
        self.is_given_up = False

    def on_granted(self, node: NodeId, began_at: float, lease_ms: float) -> None:
        """`node` has answered a round that began then, and is bound for so long."""
        until = began_at + lease_ms * (1 - self.drift_max) / (1 + self.drift_max)
        self._granted[node] = max(until, self._granted.get(node, until))

    def holds(self, configurations: tuple[Configuration, ...], now: float) -> bool:
        """Whether a quorum of each configuration is surely bound now."""
        if self.is_given_up:
            return False
        bound = {node for node, until in self._granted.items() if now < until}
        return all(each.is_quorum(bound) for each in configurations)
