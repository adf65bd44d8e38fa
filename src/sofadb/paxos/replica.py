"""One replica: all the paper's roles in one process, as the paper has it (section 2.1, 3).

`step(event, moment)` takes what happened and returns what is to be done about it, as data. It reads no clock, rolls no dice and
calls nobody, so the same events give the same effects, anywhere. Here events are only routed; what is decided, is
decided by the roles (`acceptor`, `proposer`, `learner`) and by the phase the replica is in (`following`, `campaigning`,
`leading`). A phase is an object: its timers, counts and waiting readers die with it.

What every replica does whatever its phase stands here: it answers as an acceptor, learns what is chosen, hands it on in
order and once, passes it on to those who lack it, and keeps what its own clients asked for until that has
taken effect.

Whom it believes (rule P12). The membership changes, and a message may be from somebody who was a member long ago and does not
know that he is none any more, or from a member of whom we do not know yet. Answers are counted only in the configuration of
the instance they are for, by the identity of the sender; so who is none of its acceptors may say what he likes (`Accepted`,
`Promise`, `Support`, `Confirmed`). A claim to lead (`Canvass`, `Prepare`, `Accept`, `Confirm`, `Chosen`) can be judged by whoever
knows at least as much as the claimant, and each of these tells how much that is: from somebody who has no say, as we know
(`Membership.has_a_say`), and who knows no more than we do, it is passed over (`_is_outsider`). If he knows more, then he
knows better who has a say. To ignore a claim can delay, and never harms. `Refused`, `Confirmed` and `Forward` are for a leader,
who takes them from members only: an outsider cannot make him raise his ballot, and nobody would tell an outsider what became
of his commands. What was chosen is chosen, whoever tells (`Learn`); anybody may be taught (`Ask`) and may read (`AskRead`): what
he is told is true. `TakeOver` and `GrantRead` are for one ballot, one attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .acceptor import Acceptor, Answer
from .ballot import NO_BALLOT, NO_INSTANCE, Ballot, Instance, NodeId
from .campaigning import Campaigning
from .clocks import Clocks
from .doubt import Doubt
from .effects import Abandon, Deliver, Effect, GiveUp, Leads, Offer, Save, Send, Teach, WakeAt
from .events import (
    CutOff,
    Damaged,
    Event,
    Founded,
    HandOver,
    KeepLead,
    Moment,
    MoveTime,
    Read,
    Received,
    Reconfigure,
    Recovered,
    Started,
    Submit,
    Tick,
)
from .following import Following
from .foundation import Foundation
from .leading import Leading
from .lease import Grant
from .membership import Membership
from .messages import (
    Accept,
    Accepted,
    Ask,
    AskRead,
    Canvass,
    Chosen,
    Confirm,
    Confirmed,
    Forward,
    GrantRead,
    Learn,
    Message,
    Prepare,
    Promise,
    Refused,
    Support,
    TakeOver,
)
from .outbox import Outbox
from .pace import Pace
from .proposer import Proposer
from .reading import Reading
from .records import Acceptance, ChosenUpTo, CutUpTo, Learned, Promised, Record, Restored
from .sequence import Sequence
from .sessions import Sessions
from .settings import Settings
from .teaching import Teaching
from .values import Configuration, Entry, Value

Phase = Following | Campaigning | Leading

NEVER = float("inf")
ROUNDS_AHEAD_MAX = 1 << 32
"""A ballot further above all that we know is a mistake or a lie."""


class Replica:
    """A deterministic machine: events in, effects out."""

    def __init__(
        self,
        me: NodeId,
        incarnation: int,
        initial: Configuration,
        settings: Settings,
        leased_ms: float = 0.0,
    ) -> None:
        """A replica in a new life.

        `incarnation` is higher at each start of this node; `initial` is the first instance's configuration; `leased_ms`
        is the longest lease that its earlier life may have granted.
        """
        self.me = me
        self.settings = settings
        self.acceptor = Acceptor(settings.alpha, settings.message_bytes_max)
        self.sequence = Sequence(settings.tail_bytes_max)
        self.membership = Membership(initial, settings.alpha)
        self.sessions = Sessions()
        self.outbox = Outbox(me, incarnation, settings.queue_bytes_max, settings.submissions_max)
        self.reading = Reading(incarnation, settings.reads_max)
        self.moment = Moment(0.0, 0, 0.0)
        self.clocks = Clocks(me, settings.clock_bound_ms, settings.election_timeout_ms)
        self.pace = Pace(settings)
        self.bound = Grant()
        self.leased_ms = leased_ms
        self.teaching = Teaching(settings.bytes_per_ms_min, settings.resend_ms, settings.resend_ms_max)
        self.time = 0
        """The state machine's time in milliseconds: the highest stamp delivered."""
        self.cut = Instance(0)
        """Of the values up to here our log need not have one."""
        self.doubt = Doubt(settings.alpha)
        self.is_in_doubt = False
        """Whether we may have answered what we do not know of (`doubt`): then we do not vote, and do not lead."""
        self.phase: Phase = Following(self, None, heard=False)

        self._effects: list[Effect] = []
        self.delivers = False
        """Whether there is a `Deliver` among them."""
        self._waking = NEVER
        self._before = 0.0
        """When the step before this one was (monotonic milliseconds)."""
        self._others: list[NodeId] = []
        self._others_of: Configuration | None = None
        """Whose members but ourselves these are."""
        self._saved_watermark = Instance(0)
        self._saved_cut = Instance(0)
        self._awaiting: set[NodeId] = set()
        """Whose clients wait for what was handed on since this was last asked."""
        self._is_started = False
        self._attempts = 0
        self._missing_upto = Instance(0)
        self._leaderless_since = NEVER
        """Since when nobody leads, as far as this replica knows; infinite while somebody does."""
        self._asked: tuple[Instance, float] = (Instance(0), float("-inf"))
        self._is_unsettled = False
        """Whether it is not on record yet that whatever was damaged is made good."""
        self._seek_at = 0.0
        self._sought = 0
        self._resend_at = NEVER
        self._resend_pause = settings.resend_ms
        self._on_event: dict[type, Callable[[Any], None]] = {
            Founded: self._on_founded,
            Recovered: self._on_recovered,
            Damaged: self._on_damaged,
            Started: self._on_started,
            Received: self._on_received,
            Tick: self._on_tick,
            Submit: self._on_submit,
            Read: self._on_read,
            MoveTime: self._on_move_time,
            CutOff: self._on_cut_off,
            Reconfigure: self._on_reconfigure,
            HandOver: self._on_hand_over,
            KeepLead: self._on_keep_lead,
        }
        self._on_message: dict[type, Callable[[NodeId, Any], None]] = {
            Prepare: self._on_prepare,
            Promise: self._on_promise,
            Accept: self._on_accept,
            Accepted: self._on_accepted,
            Refused: self._on_refused,
            Canvass: self._on_canvass,
            Support: self._on_support,
            Confirm: self._on_confirm,
            Confirmed: self._on_confirmed,
            Chosen: self._on_chosen,
            TakeOver: self._on_take_over,
            Ask: self._on_ask,
            Learn: self._on_learn,
            Forward: self._on_forward,
            AskRead: self._on_ask_read,
            GrantRead: self._on_grant_read,
        }

    def step(self, event: Event, moment: Moment) -> list[Effect]:
        """Take one event; return its effects, in the order in which they were decided (`effects.in_order`)."""
        assert moment.now >= self.moment.now, "the monotonic clock ran backwards"
        self._before, self.moment = self.moment.now, moment
        self.clocks.moment = self.teaching.moment = moment
        self._effects, self.delivers = [], False
        if self._waking < moment.now - self.pace.heartbeat_ms:
            self._mind_sleep()
        self._on_event[type(event)](event)
        if self._is_unsettled:
            self._maybe_end_doubt()
        if self.phase.leader is not None:
            self._leaderless_since = NEVER
        elif self._leaderless_since == NEVER:
            self._leaderless_since = moment.now
        wake_at = self._wake_at()
        if wake_at < self._waking:
            self._waking = wake_at
            self.emit(WakeAt(wake_at))
        return self._effects

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as this replica knows."""
        leader = self.phase.leader
        return None if leader is None else leader.node

    @property
    def ballot(self) -> Ballot:
        """The ballot under which this replica leads, campaigns or follows."""
        if isinstance(self.phase, Following):
            return self.phase.leader or self.acceptor.promised
        return self.phase.ballot

    def foundation(self) -> Foundation:
        """What a snapshot of the state machine must say, taken when all that was delivered is applied (between steps)."""
        table, sessions = tuple(self.membership.table), self.sessions.to_tuple()
        return Foundation(self.sequence.watermark, self.time, table, sessions)

    # What the phases use

    def emit(self, effect: Effect) -> None:
        """Add an effect to those of this step."""
        self._effects.append(effect)

    def window(self) -> tuple[Configuration, ...]:
        """The configurations of the instances in which may be proposed now."""
        return self.membership.window(self.sequence.watermark)

    def others(self) -> list[NodeId]:
        """All members but ourselves."""
        table = self.membership.table
        only = table[0][1] if len(table) == 1 else None
        if only is None or only is not self._others_of:
            self._others = [node for node in self.membership.members() if node != self.me]
            self._others_of = only
        return self._others

    def new_attempt(self) -> int:
        """A number for a canvass, never used before in this incarnation."""
        self._attempts += 1
        return self.outbox.incarnation << 32 | self._attempts

    def save(self, records: tuple[Record, ...], then: tuple[Send | Teach, ...]) -> None:
        """Make records stable, and with them, in passing, how far everything is chosen."""
        if records and self.sequence.watermark > self._saved_watermark:
            self._saved_watermark = self.sequence.watermark
            records = (*records, ChosenUpTo(self._saved_watermark))
        self.emit(Save(records, then))

    def answer(self, to: NodeId, answer: Answer) -> None:
        """Rule P1: the answer leaves when what it tells of is stable. The only way an acceptor's word gets out."""
        self.save(() if answer.record is None else (answer.record,), (Send(to, answer.message),))

    def prepare_myself(self, prepare: Prepare) -> None:
        """Ask our own acceptor for the rest of a long report."""
        answer = self.acceptor.on_prepare(prepare, self.moment.clock)
        assert isinstance(answer, Answer), "nothing higher was promised here, or we would not campaign"
        self.answer(self.me, answer)

    def become_following(
        self, leader: Ballot | None, seen: Ballot = NO_BALLOT, heard: bool = False
    ) -> Following:
        """Follow `leader`, or nobody yet. What the old phase kept is gone."""
        self.phase = following = Following(self, leader, max(seen, self.acceptor.promised), heard)
        self._resend_in(self.pace.resend_ms)
        if leader is not None:
            self.emit(Leads(leader))
            self._send_again()
        return following

    def become_campaigning(self, seen: Ballot, released: Ballot = NO_BALLOT) -> None:
        """Raise the ballot above everything seen and begin phase 1, unless we are bound to a leader (`lease`)."""
        assert not self.is_in_doubt, "who does not know what it answered does not lead"
        ballot = max(seen, self.acceptor.promised).above(self.me)
        if self.bound.forbids(ballot, released, self.moment.now):
            self.become_following(None, seen)
            return
        campaign = Campaigning(self, ballot, released)
        self.phase = campaign
        campaign.start()

    def measured(self, node: NodeId, round_trip_ms: float) -> None:
        """`node` has answered after so long."""
        self.pace.measured(node, round_trip_ms, self.window(), self.moment.now)
        self.clocks.age_ms_max = self.pace.timeout_ms

    def bind(self, leader: Ballot) -> float:
        """Grant a lease to the owner of `leader`, if we grant any. Returns for how long (milliseconds)."""
        lease_ms = self.settings.lease_ms
        if lease_ms:
            self.bound.bind(leader, self.moment.now + lease_ms)
        return lease_ms

    def become_leading(self, proposer: Proposer) -> None:
        """Phase 1 is done."""
        lead = Leading(self, proposer)
        self.phase = lead
        lead.start()
        self._resend_in(self.pace.resend_ms)
        self._ask_again(pause=0.0)

    def settle(self) -> None:
        """Hand on, in order, whatever has become part of the unbroken run (rule P8)."""
        before = self.sequence.watermark
        while self.sequence.ahead and (taken := self.sequence.take()) is not None:
            self._deliver(*taken)
        watermark = self.sequence.watermark
        if watermark == before:
            return
        self.acceptor.forget(watermark)
        self.membership.forget(watermark)
        if isinstance(self.phase, Leading):
            self.phase.on_advance()
        elif isinstance(self.phase, Campaigning):
            self.phase.maybe_lead()
        if self.reading.granted:
            self._answer_reads()

    def take_awaiting(self) -> set[NodeId]:
        """Those whose clients asked for something that was handed on since this was last asked."""
        awaiting, self._awaiting = self._awaiting, set()
        return awaiting

    @property
    def missing(self) -> int:
        """How many instances we lack that are known to be chosen."""
        return max(0, self._missing_upto - self.sequence.watermark)

    def lacks(self, upto: Instance, teacher: NodeId) -> None:
        """Everything up to `upto` is chosen, as `teacher` knows: learn what is missing from there."""
        self._missing_upto = max(self._missing_upto, upto)
        first = Instance(self.sequence.watermark + 1)
        asked, at = self._asked
        if first <= upto and (first != asked or self.moment.now - at >= self.pace.resend_ms):
            self._asked = (first, self.moment.now)
            self.emit(Send(teacher, Ask(first)))

    def grant(self, to: NodeId, grant: GrantRead) -> None:
        """The leader is confirmed: tell the readers who waited for it."""
        if to == self.me:
            self._on_grant_read(self.me, grant)
        else:
            self.emit(Send(to, grant))

    # Events

    def _on_founded(self, event: Founded) -> None:
        """Go on from what a snapshot holds. What was promised stays promised, whatever was learned."""
        foundation = event.foundation
        if foundation.instance <= self.sequence.watermark:
            return
        self.sequence.jump(foundation.instance)
        self.acceptor.forget(foundation.instance)
        self.membership = Membership.of(foundation.configurations, self.settings.alpha)
        self.sessions = Sessions.of(foundation.sessions)
        self.time = foundation.time
        self.cut = foundation.instance
        if self._is_started:
            self._go_on_from_cut()

    def _go_on_from_cut(self) -> None:
        """While we took part the state jumped: what waited for what lies below gets its answer now, or waits for what comes."""
        self.save((CutUpTo(self.cut),), ())
        incarnation, last = self.sessions.last.get(self.me, (0, 0))
        if incarnation == self.outbox.incarnation and (tokens := self.outbox.settle_upto(last)):
            self.emit(Abandon(tuple(tokens), certain=False))  # They took effect; the replies are nowhere.
        if isinstance(self.phase, Following):
            self._resend_in(self.pace.resend_ms)
            self._send_again()
        else:
            self.become_following(None)  # Somebody else has led meanwhile.
        self.settle()
        self._answer_reads()
        if self.leader is not None and self.sequence.watermark < self._missing_upto:
            self.lacks(self._missing_upto, self.leader)

    def _on_recovered(self, event: Recovered) -> None:
        """Take back what was written, as far as it lies beyond the foundation."""
        record = event.record
        watermark = self.sequence.watermark
        self.doubt.on_record(record)
        self.acceptor.accepted_upto = max(self.acceptor.accepted_upto, self.doubt.lost_upto)
        if isinstance(record, Promised | Acceptance):
            self.acceptor.restore(record)
        elif isinstance(record, Learned):
            if record.instance > watermark:
                self.sequence.learn(record.instance, record.value)
        elif isinstance(record, ChosenUpTo):
            # Of a hole nothing is known here; what lies behind it stays known ahead.
            accepted = self.acceptor.accepted
            for instance in [number for number in accepted if number <= record.instance]:
                value = accepted.pop(instance).value
                if not self.sequence.knows(instance):
                    self.sequence.learn(instance, value)
            self._saved_watermark = max(self._saved_watermark, record.instance)
        elif isinstance(record, CutUpTo):
            # A snapshot may have jumped over what was accepted below: no later record says whether that was chosen.
            for instance in [number for number in self.acceptor.accepted if number <= record.instance]:
                del self.acceptor.accepted[instance]
            self._saved_cut = max(self._saved_cut, record.instance)
        self.settle()

    def _on_damaged(self, event: Damaged) -> None:
        """What was accepted before may have been overtaken in what is lost: it proves nothing any more."""
        self.doubt.on_damage(event.is_noted)
        self.acceptor.restore_from(self.doubt.note)
        self.acceptor.accepted.clear()

    def _on_started(self, event: Started) -> None:
        self._is_started = True
        self.doubt.on_end()
        self._missing_upto = self.doubt.chosen_upto
        self.is_in_doubt = self._is_unsettled = (
            self.doubt.is_damaged or self.sequence.watermark < self.doubt.upto
        )
        if self._saved_watermark >= self.cut and not self.doubt.is_damaged:
            # Up to there the log once had every value: so it has all those that it was not allowed to give up.
            self.cut = self._saved_cut
        else:
            # The snapshot holds what never came into the log, or is not in it any more. Whoever reads that the next time
            # shall know.
            self.save((CutUpTo(self.cut),), ())
        self.bound.forgotten_until = self.moment.now + self.leased_ms
        # Whoever has others to hear listens first: a node that is back deposes nobody, and helps nobody to depose.
        self.phase = Following(self, None, self.acceptor.promised, heard=bool(self.others()))
        # While the log was read back nobody could be heard: that does not count.
        self._leaderless_since = NEVER
        self._on_tick(Tick())

    def _maybe_end_doubt(self) -> None:
        """Take part, if all is settled that we may have answered without knowing; and see that it stays so (`Restored`)."""
        watermark = self.sequence.watermark
        if not self._is_started or self.doubt.is_hopeless or watermark < self.doubt.upto:
            return
        self.is_in_doubt = False
        if watermark >= self.acceptor.accepted_upto:
            self._is_unsettled = False
            self._saved_watermark = watermark
            promised = Promised(self.acceptor.promised)
            self.emit(Save((promised, ChosenUpTo(watermark), Restored(watermark)), ()))

    def seek(self) -> None:
        """Ask for what we lack, one member after the other: perhaps nobody leads, and not everybody has it.

        Or somebody leads of whom we do not know yet that he may: what we lack tells of him.
        """
        others = self.others()
        self._seek_at = self.moment.now + self.pace.resend_ms
        if others:
            self._sought += 1
            first = Instance(self.sequence.watermark + 1)
            self.emit(Send(others[self._sought % len(others)], Ask(first)))

    def _mind_sleep(self) -> None:
        """We should have been woken long ago: perhaps this process slept, or did something else that took long.

        (Or the timer alone is late. Where other events came meanwhile, nobody slept.)
        """
        if self._before < self.moment.now - self.pace.heartbeat_ms:
            self.phase.slept(self._before)

    def _on_received(self, event: Received) -> None:
        message = event.message
        # (Most tell of the ballot that is promised here, and of no other.)
        is_usual = getattr(message, "ballot", None) == self.acceptor.promised and type(message) is not Refused
        if is_usual or not self._is_absurd(message):
            self._on_message[type(message)](event.sender, message)

    def _is_absurd(self, message: Message) -> bool:
        """Whether it tells of a ballot that no number of elections can have led to: there must always be a higher one."""
        told = getattr(message, "ballot", NO_BALLOT).round
        if (promised := getattr(message, "promised", NO_BALLOT).round) > told:
            told = promised
        if told <= self.acceptor.promised.round + ROUNDS_AHEAD_MAX:
            return False
        return bool(told > self.ballot.round + ROUNDS_AHEAD_MAX)

    def _on_tick(self, event: Tick) -> None:
        self._waking = NEVER
        self.phase.on_tick()
        now = self.moment.now
        if self.is_in_doubt and now >= self._seek_at:
            self.seek()
        if now >= self._resend_at:
            self._send_again()
            self._resend_in(min(2 * self._resend_pause, self.settings.resend_ms_max))
        self._ask_again(pause=self.pace.resend_ms)
        patience = self._patience()
        never, unknown = self.outbox.abandon(now, patience)
        never += self.reading.abandon(now, patience)
        if never:
            self.emit(Abandon(tuple(never), certain=True))
        if unknown:
            self.emit(Abandon(tuple(unknown), certain=False))

    def _on_submit(self, event: Submit) -> None:
        if not self.outbox.add(event.token, event.payload, self.moment.now):
            self.emit(Abandon((event.token,), certain=True, overloaded=True))
        elif isinstance(self.phase, Leading):
            self.phase.pump()
        else:
            self._forward()

    def _on_read(self, event: Read) -> None:
        if not self.reading.add(event.token, self.moment.now):
            self.emit(Abandon((event.token,), certain=True, overloaded=True))
        else:
            self._ask_read()

    def _on_move_time(self, event: MoveTime) -> None:
        if isinstance(self.phase, Leading):
            self.phase.move_time(event.due)

    def _on_cut_off(self, event: CutOff) -> None:
        """Say anew, behind all that may be given up, what must outlive it (rule P9)."""
        watermark = self.sequence.watermark
        assert event.upto <= watermark, "a snapshot holds what was delivered"
        if self.is_in_doubt:
            return  # What a promise is, is not known; or it is on record already, behind the damage. The next time will do.
        self.cut = max(self.cut, event.upto)
        self._saved_watermark = watermark
        records = (Promised(self.acceptor.promised), ChosenUpTo(watermark), CutUpTo(self.cut))
        self.emit(Save(records, (GiveUp(event.upto),)))

    def _on_reconfigure(self, event: Reconfigure) -> None:
        if isinstance(self.phase, Leading):
            self.phase.reconfigure(event.configuration)

    def _on_hand_over(self, event: HandOver) -> None:
        if isinstance(self.phase, Leading):
            self.phase.hand_over(event.to, event.within_ms)

    def _on_keep_lead(self, event: KeepLead) -> None:
        if isinstance(self.phase, Leading):
            self.phase.keep_lead()

    # The acceptor's messages

    def _on_prepare(self, sender: NodeId, prepare: Prepare) -> None:
        if prepare.ballot.node != sender or self.is_in_doubt:
            return
        is_news = prepare.ballot > self.acceptor.promised
        if is_news and self._is_outsider(sender, Instance(prepare.first - 1)):
            return
        if is_news and self.bound.forbids(prepare.ballot, prepare.released, self.moment.now):
            return  # It will ask again.
        answer = self.acceptor.on_prepare(prepare, self.moment.clock)
        if isinstance(answer, Refused):
            self.emit(Send(sender, answer))
            return
        if isinstance(self.phase, Following) and self.phase.leader in (None, prepare.ballot):
            self.phase.hear()
        else:
            self.become_following(None, heard=True)
        self.answer(sender, answer)

    def _on_accept(self, sender: NodeId, accept: Accept) -> None:
        if accept.ballot.node != sender:
            return
        if accept.ballot < self.acceptor.promised:
            self.emit(Send(sender, Refused(accept.ballot, self.acceptor.promised)))
            return
        if self._is_outsider(sender, accept.chosen):
            return
        self._hear(accept.ballot)
        # First what is chosen: it may open the window in which the request lies.
        self._on_watermark(sender, accept.ballot, accept.chosen)
        known = self.sequence.ahead.get(accept.instance, accept.value)
        if self.is_in_doubt:
            return
        if known is not accept.value and known != accept.value:
            return  # Another value is chosen there, so this ballot is an old one. What is on disk shall stay the chosen one.
        answer = self.acceptor.on_accept(accept)
        assert not isinstance(answer, Refused), "nothing higher is promised"
        if answer is not None:
            self.answer(sender, answer)

    def _on_confirm(self, sender: NodeId, confirm: Confirm) -> None:
        if confirm.ballot.node != sender:
            return
        if confirm.ballot < self.acceptor.promised:
            self.emit(Send(sender, Refused(confirm.ballot, self.acceptor.promised)))
            return
        if self._is_outsider(sender, confirm.chosen):
            return
        self._hear(confirm.ballot)
        self._on_watermark(sender, confirm.ballot, confirm.chosen)
        if self.is_in_doubt and self.doubt.is_hopeless:
            return  # Perhaps we have promised something higher.
        self.pace.told(confirm.timeout_ms)
        self.clocks.age_ms_max = self.pace.timeout_ms
        watermark, lease_ms = self.sequence.watermark, int(self.bind(confirm.ballot))
        doubt_upto = self.doubt.upto if self.is_in_doubt else NO_INSTANCE
        answer = Confirmed(confirm.ballot, confirm.round, watermark, self.moment.clock, lease_ms, doubt_upto)
        self.emit(Send(sender, answer))

    def _on_chosen(self, sender: NodeId, chosen: Chosen) -> None:
        if chosen.ballot.node != sender or chosen.ballot < self.acceptor.promised:
            return
        if not self._is_outsider(sender, chosen.chosen):
            self._hear(chosen.ballot)
            self._on_watermark(sender, chosen.ballot, chosen.chosen)

    def _on_take_over(self, sender: NodeId, take: TakeOver) -> None:
        follows = isinstance(self.phase, Following) and self.phase.leader == take.ballot
        if not follows or take.ballot.node != sender or self.sequence.watermark < take.chosen:
            return  # An old one, or we cannot.
        if not self.is_in_doubt and all(self.me in each.acceptors for each in self.window()):
            self.become_campaigning(take.ballot, released=take.ballot)

    def _is_outsider(self, node: NodeId, chosen: Instance) -> bool:
        """Whether `node`, who knows everything up to `chosen`, has no say: as we know, who know as much."""
        return chosen <= self.sequence.watermark and not self.membership.has_a_say(node)

    def _hear(self, ballot: Ballot) -> None:
        """Whoever owns `ballot` leads, and nothing higher is promised here. (An old message of an earlier leader: no.)"""
        phase = self.phase
        if not isinstance(phase, Following) or phase.leader is None or phase.leader < ballot:
            self.become_following(ballot, heard=True)
        elif phase.leader == ballot:
            phase.hear()

    def _on_watermark(self, leader: NodeId, ballot: Ballot, chosen: Instance) -> None:
        """The leader of `ballot` says that everything up to `chosen` is chosen.

        Where we accepted its own proposal, that is the chosen value: under one ballot there is one value for each
        instance. An acceptance of any other ballot proves nothing; that instance has to be learned.
        """
        for number in range(self.sequence.watermark + 1, chosen + 1):
            instance = Instance(number)
            if self.sequence.knows(instance):
                continue
            value = self.acceptor.value_accepted(instance, ballot)
            if value is None:
                break
            self.sequence.learn(instance, value)
        self.settle()
        if self.sequence.watermark < chosen:
            self.lacks(chosen, leader)

    # The proposer's and learner's messages: for the phase that waits for them

    def _on_promise(self, sender: NodeId, promise: Promise) -> None:
        if not isinstance(self.phase, Following):
            self.phase.on_promise(sender, promise)

    def _on_accepted(self, sender: NodeId, accepted: Accepted) -> None:
        if isinstance(self.phase, Leading):
            self.phase.on_accepted(sender, accepted)

    def _on_refused(self, sender: NodeId, refused: Refused) -> None:
        phase = self.phase
        if isinstance(phase, Following) or refused.ballot != phase.ballot or refused.promised <= phase.ballot:
            return
        if not self.membership.is_member(sender):
            return
        if isinstance(phase, Leading):
            phase.on_refused(refused.promised)
        else:
            self.become_following(None, seen=refused.promised)

    def _on_canvass(self, sender: NodeId, canvass: Canvass) -> None:
        if isinstance(self.phase, Following) and not self._is_outsider(sender, canvass.chosen):
            self.phase.on_canvass(sender, canvass)

    def _on_support(self, sender: NodeId, support: Support) -> None:
        if isinstance(self.phase, Following):
            self.phase.on_support(sender, support)

    def _on_confirmed(self, sender: NodeId, confirmed: Confirmed) -> None:
        if isinstance(self.phase, Leading) and self.membership.is_member(sender):
            self.phase.on_confirmed(sender, confirmed)

    def _on_ask(self, sender: NodeId, ask: Ask) -> None:
        if not 1 <= ask.first <= self.sequence.watermark:
            return
        self.teaching.asks(sender, ask.first, Instance(ask.first - 1 + self.settings.alpha))
        if self.teaching.is_on_its_way(sender, ask.first):
            return
        if ask.first < self.sequence.tail_first and ask.first <= self.cut:
            self.teaching.sent(sender, ask.first, ask.first, self.settings.message_bytes_max)
            self.emit(Offer(sender, ask.first))
        elif ask.first < self.sequence.tail_first:
            self.teaching.taught(sender, ask.first, ask.first, self.settings.message_bytes_max)
            # Behind what is on its way to the disk: only then the latest record of each is what was chosen.
            self.save((), (Teach(sender, ask.first, Instance(self.sequence.tail_first - 1)),))
        else:
            values = self.sequence.teach(ask.first, self.settings.message_bytes_max)
            last = Instance(ask.first + len(values) - 1)
            self.teaching.taught(sender, ask.first, last, sum(value.size for value in values))
            self.emit(Send(sender, Learn(ask.first, values)))

    def _on_learn(self, sender: NodeId, learn: Learn) -> None:
        records: list[Record] = []
        for number, value in enumerate(learn.values, learn.first):
            instance = Instance(number)
            if instance > self.sequence.watermark + self.settings.alpha + len(learn.values):
                break
            if not self.sequence.knows(instance):
                self.sequence.learn(instance, value)
                records.append(Learned(instance, value))
                if isinstance(self.phase, Leading) and not self.phase.has_proposed(instance, value):
                    # Somebody leads under a higher ballot. Were we to say, under ours, that this instance is chosen,
                    # whoever accepted what we proposed there would take that for the chosen value.
                    self.become_following(None)
        if records:
            # First the values, then what rests on them: the watermark is saved with a later record.
            self.emit(Save(tuple(records), ()))
            self.settle()
            if self.sequence.watermark < self._missing_upto:
                self.lacks(self._missing_upto, sender)

    # Proposals and reads of our own clients

    def _on_forward(self, sender: NodeId, forward: Forward) -> None:
        if isinstance(self.phase, Leading) and self.membership.is_member(sender):
            self.phase.on_forward(sender, forward.entries)

    def _forward(self) -> None:
        """Send what waits to the leader, if somebody leads."""
        leader = self.leader
        while leader is not None and self.outbox.has_unsent:
            self.emit(Send(leader, Forward(tuple(self.outbox.number(self.settings.message_bytes_max)))))
            if self._resend_at == NEVER:
                self._resend_in(self.pace.resend_ms)

    def _resend_in(self, milliseconds: float) -> None:
        """Have what was sent sent again, unless something of it takes effect before (each time it waits longer)."""
        self._resend_pause = milliseconds
        waits = self.outbox.sent and not isinstance(self.phase, Leading)
        self._resend_at = self.moment.now + milliseconds if waits else NEVER

    def _send_again(self) -> None:
        """What has not taken effect goes to whoever leads now, in order, the oldest first."""
        assert not isinstance(self.phase, Leading), "a leader proposes what it has, and forwards nothing"
        if self.leader is not None:
            for part in self.outbox.resend(self.settings.message_bytes_max):
                self.emit(Send(self.leader, Forward(tuple(part))))
            self._forward()
        self._ask_again(pause=0.0)

    def _on_ask_read(self, sender: NodeId, ask: AskRead) -> None:
        if isinstance(self.phase, Leading):
            self.phase.on_ask_read(sender, ask)

    def _ask_read(self) -> None:
        """Ask for what waits, if somebody leads."""
        if self.leader is not None and (ask := self.reading.ask(self.moment.now)) is not None:
            self._send_ask(ask)

    def _ask_again(self, pause: float) -> None:
        """Ask once more for what was last asked that long ago or earlier (milliseconds), and for what waits."""
        if self.leader is not None:
            for ask in self.reading.ask_again(self.moment.now, pause):
                self._send_ask(ask)
            self._ask_read()

    def _send_ask(self, ask: AskRead) -> None:
        leader = self.leader
        assert leader is not None
        if leader == self.me:
            self._on_ask_read(self.me, ask)
        else:
            self.emit(Send(leader, ask))

    def _on_grant_read(self, sender: NodeId, grant: GrantRead) -> None:
        self.reading.on_grant(grant)
        self._ask_read()
        if self.sequence.watermark < grant.watermark:
            self.lacks(grant.watermark, sender)
        self._answer_reads()

    def _answer_reads(self) -> None:
        for answer in self.reading.answers(self.sequence.watermark):
            self.emit(answer)

    # The sequence

    def _deliver(self, instance: Instance, value: Value) -> None:
        """It is `instance`'s turn. An entry takes effect only as the next of its session."""
        if value.stamp > self.time:
            self.time = value.stamp
        entries: list[tuple[int | None, Entry]] = []
        for entry in value.entries:
            if self.sessions.admit(entry):
                ours = entry.node == self.me and entry.incarnation == self.outbox.incarnation
                entries.append((self.outbox.settle(entry) if ours else None, entry))
                self._awaiting.add(entry.node)
                if ours and self._resend_at != NEVER:
                    self._resend_in(self.pace.resend_ms)
        if value.configuration is not None:
            self.membership.change(instance, value.configuration)
        self.emit(Deliver(instance, self.time, tuple(entries), value.configuration))
        self.delivers = True

    # Time

    def _patience(self) -> float:
        """How long clients wait, in milliseconds.

        While nobody has led for as long as they would wait anyway, most will wait in vain, and each of them as long as
        if the trouble had just begun. So whoever comes then waits only as long as an election takes. It cannot be nothing: the
        cluster may come back at this very moment. What was sent to a leader is none the worse off: it was sent before that
        silence, and has waited longer.
        """
        settings = self.settings
        is_long_leaderless = self.moment.now >= self._leaderless_since + settings.patience_ms
        return settings.patience_leaderless_ms if is_long_leaderless else settings.patience_ms

    def _gives_up_at(self, since: float) -> float:
        """Until when somebody waits who has waited since then, if nobody leads until then who does not lead now."""
        settings = self.settings
        leaderless = max(
            since + settings.patience_leaderless_ms, self._leaderless_since + settings.patience_ms
        )
        return min(since + settings.patience_ms, leaderless)

    def _wake_at(self) -> float:
        """When to look at the clock next, for whatever reason (monotonic milliseconds)."""
        wake_at = self.phase.wake_at()
        if self._resend_at < wake_at:
            wake_at = self._resend_at
        if self.is_in_doubt and self._is_started and self._seek_at < wake_at:
            wake_at = self._seek_at
        oldest = self.outbox.oldest
        if self.reading.count:
            oldest_read = self.reading.oldest
            assert oldest_read is not None, "a read that waits, waits somewhere"
            if oldest is None or oldest_read < oldest:
                oldest = oldest_read
            asked_at = None if self.phase.leader is None else self.reading.asked_at
            if asked_at is not None and asked_at + self.pace.resend_ms < wake_at:
                wake_at = asked_at + self.pace.resend_ms
        # (Nobody gives up before he has waited for as long as if nobody led.)
        if oldest is not None and oldest + self.settings.patience_leaderless_ms < wake_at:
            wake_at = min(wake_at, self._gives_up_at(oldest))
        return wake_at
