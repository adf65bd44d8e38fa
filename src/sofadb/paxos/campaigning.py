"""Campaigning: phase 1 for all instances at once (section 3; rules P2 to P4).

The ballot is higher than any heard of, and our own acceptor promises it, durably, before the first prepare request leaves: so
that no other life of this node ever uses the ballot again (section 2.5). When a quorum of every configuration in the window has
promised with complete reports, one thing may be missing: what somebody knows to be chosen beyond our own watermark. That is
learned first, because it may hold a change of configuration, and with that the question whose promises are
needed. Then we lead.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .acceptor import Answer
from .ballot import NO_BALLOT, Ballot, Instance, NodeId
from .effects import Send
from .messages import Prepare, Promise
from .proposer import Proposer

if TYPE_CHECKING:
    from .replica import Replica


class Campaigning:
    """Collects promises for `ballot`; dies when it leads, is outbid, or takes too long."""

    name = "campaigning"
    leader: Ballot | None = None
    """Nobody leads, as far as this replica knows."""

    def __init__(self, replica: Replica, ballot: Ballot, released: Ballot = NO_BALLOT) -> None:
        """`released`: the leader of that ballot gave way to us."""
        self.replica = replica
        self.ballot = ballot
        self.released = released
        self.proposer = Proposer(ballot, Instance(replica.sequence.watermark + 1))
        now = replica.moment.now
        self.deadline = now + replica.pace.timeout_ms * (1 + replica.moment.chance)
        self.resend_at = now + replica.pace.heartbeat_ms
        self.learned_upto = replica.sequence.watermark

    def start(self) -> None:
        """Promise it to ourselves; with that on disk, ask everybody (and tell ourselves)."""
        replica = self.replica
        prepare = Prepare(self.ballot, self.proposer.first, self.released)
        answer = replica.acceptor.on_prepare(prepare, replica.moment.clock)
        assert isinstance(answer, Answer), "a candidate's ballot is higher than any it has promised"
        requests = tuple(Send(node, prepare) for node in replica.others())
        assert answer.record is not None
        replica.save((answer.record,), (*requests, Send(replica.me, answer.message)))

    def on_promise(self, sender: NodeId, promise: Promise) -> None:
        """Phase 1b arrives: perhaps there is more to ask, perhaps it is enough."""
        replica = self.replica
        if not self.proposer.may_be_told(promise, replica.settings.alpha):
            return
        replica.clocks.heard(sender, promise.clock)
        if self.proposer.on_promise(sender, promise):
            # A long report comes in many parts. As long as they come, it gets on.
            self.deadline = max(self.deadline, replica.moment.now + replica.pace.timeout_ms)
            self._ask_on(sender)
        self.maybe_lead()

    def maybe_lead(self) -> None:
        """Lead if nothing is missing any more. What we have learned meanwhile may say that we have no say."""
        replica = self.replica
        if not replica.membership.has_a_say(replica.me):
            replica.become_following(None)
            return
        if not self.proposer.is_prepared(replica.window()):
            return
        if self.proposer.chosen > replica.sequence.watermark:
            replica.lacks(self.proposer.chosen, self.proposer.chosen_at)
            return
        replica.become_leading(self.proposer)

    def slept(self, since: float) -> None:
        """This process did nothing since then. A campaign that took too long for that takes too long."""

    def on_tick(self) -> None:
        """Ask again where no complete answer came; give up after a while."""
        replica = self.replica
        now = replica.moment.now
        if now >= self.deadline and self.learned_upto < replica.sequence.watermark:
            # Still learning what was chosen before us, and getting on with it.
            self.learned_upto = replica.sequence.watermark
            self.deadline = now + replica.pace.timeout_ms
        if now >= self.deadline:
            replica.become_following(None)
        elif now >= self.resend_at:
            self.resend_at = now + replica.pace.heartbeat_ms
            for node in replica.others():
                self._ask_on(node)
            if self.proposer.chosen > replica.sequence.watermark:
                replica.lacks(self.proposer.chosen, self.proposer.chosen_at)

    def _ask_on(self, node: NodeId) -> None:
        """Ask `node` for (the rest of) its report; our own acceptor's comes through the same door."""
        replica = self.replica
        prepare = self.proposer.next_prepare(node)
        if prepare is None:
            return
        if node != replica.me:
            # By then our own promise is durable: it is what let the first request leave.
            if self.proposer.heard_from(replica.me):
                replica.emit(Send(node, replace(prepare, released=self.released)))
        else:
            assert prepare.first > self.proposer.first, "our own first answer is what began the campaign"
            replica.prepare_myself(prepare)

    def wake_at(self) -> float:
        """When to look at the clock next (monotonic milliseconds)."""
        return min(self.deadline, self.resend_at)
