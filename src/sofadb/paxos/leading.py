"""Leading: the distinguished proposer (sections 2.4 and 3).

Phase 1 is done for every instance from the watermark on. What is left is the paper's walk-through, in this order:
for each instance in which somebody reported an acceptance, propose the value of the highest-numbered one; fill the gaps
between them with no-ops; then a value of our own ballot, so that our watermark covers everything chosen before us; and only
then what clients ask for now. Each value costs one round of phase 2: the accept requests leave while our own acceptance is
still on its way to our disk, and our own vote counts when it is there, like everybody else's (rule P2).

A batch is what arrived while the last ones were on their way (rule P5). Instances are proposed at most alpha beyond the
watermark, since further on it is not known who the acceptors are (rule P4).

A change of the configuration is proposed like any other value, one at a time, and holds from alpha instances on: so it is
known to all before anybody votes by it, and no two leaders ever take different sets for the acceptors of one instance. What is
new to the leader is only that it has no promises of the new acceptors yet. It asks them, under its own ballot, as
soon as the change is proposed, and goes on meanwhile in what is left of the old configuration. That is as good as if they had
been asked at the beginning: whoever promises says for every instance what it accepted below this ballot, and never accepts
anything there afterwards; and nothing was proposed yet, under this ballot, in an instance of the new configuration. A
promise counts only when we know all that its acceptor knows to be chosen; whatever it reports is
proposed before anything of our own. So a change costs clients nothing if the new acceptors answer within alpha instances
(with an alpha of 1, one round trip). It is pushed through: once it is chosen, no-ops fill the rest of the old configuration.

A leader that has no place in the new configuration leads to the end of the old one, and not beyond. When all of
that is chosen it hands over to whoever has; if that does not succeed in time, it steps down.

A leader that cannot reach a quorum, or whose own disk hangs, gives up (rule P6). One that is asked to hand over goes on
until its successor lacks no more than may be under way anyway. Then it proposes nothing new, waits until all that is under
way is chosen and its successor knows it, and gives way (`TakeOver`): the successor begins phase 1 without asking
around, and what clients ask for meanwhile waits at their nodes for two round trips. If nothing comes of it in
time, the leader goes on; once it has stopped, that is as soon as the successor is silent for an election timeout, and in
any case long before clients give up.

Everything kept here dies with the leadership: that is why it is kept here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .acceptor import Answer
from .ballot import NO_BALLOT, Ballot, Instance, NodeId
from .confirming import Confirming, Reader
from .effects import Leads, Send
from .learner import Learner
from .lease import Lease
from .messages import Accept, Accepted, AskRead, Chosen, Confirm, Confirmed, GrantRead, Promise, TakeOver
from .proposer import Proposer
from .records import Learned
from .values import NO_OP, Configuration, Entry, Value

if TYPE_CHECKING:
    from .replica import Replica


HEARTBEATS_TIMED = 16
ROUND_PATIENCE = 5
"""A round that asked no more than it needs is waited for no longer than this part of a heartbeat, if more readers come."""
ASK_ALL_HEARTBEATS = 100
"""For so long rounds ask everybody after one that asked a few was overdue."""
NOTHING_CHOSEN_TIMEOUTS = 10
"""After so many election timeouts in which nothing gets chosen, somebody else may try."""


@dataclass(slots=True)
class _Flight:
    """A proposal on its way."""

    accept: Accept
    started_at: float
    resend_at: float


class Leading:
    """Proposes under `ballot`, which nobody else ever does."""

    name = "leading"

    def __init__(self, replica: Replica, proposer: Proposer) -> None:
        self.replica = replica
        self.proposer = proposer
        self.ballot = self.leader = proposer.ballot
        self.learner = Learner()
        self.flights: dict[Instance, _Flight] = {}
        self.unsaved: dict[Instance, tuple[float, int]] = {}
        """Where our own vote is not on our disk yet: since when, and how large it is. The oldest comes first."""
        self.next = Instance(replica.sequence.watermark + 1)
        """The first instance in which nothing was proposed yet."""
        self.own_first: Instance | None = None
        """The first value of our own: once it is chosen, the watermark covers everything before us (rule P7)."""
        self.queue: deque[Entry] = deque()
        self.queue_bytes = 0
        self.taken = replica.sessions.copy()
        """The sessions as they will be when all that is queued or proposed has taken effect."""
        self.stamp = replica.time
        self.confirming = Confirming()
        self.asks_few = False
        """Whether the latest round asked no more than it needs ..."""
        self.ask_all_until = float("-inf")
        """... which none does until then."""
        self.latest = replica.membership.latest
        """The latest change of which we have taken notice ..."""
        self._led: Configuration | None = None
        """The latest configuration of which we have a part, and the promises of a quorum: it stays so."""
        self.oldest = replica.membership.table[0][1]
        """... and the oldest configuration that has not yet had its day."""
        self.heard_at = dict.fromkeys(proposer.promised_by, replica.moment.now)
        self.excused: frozenset[NodeId] = frozenset()
        """Who is taken for heard until `excused_until`, since we slept when they may have spoken."""
        self.excused_at = self.excused_until = float("-inf")
        self.heartbeat_at = replica.moment.now
        self.announced = Instance(0)
        """The watermark that the others have been told."""
        self.challenger: tuple[Ballot, int] = (NO_BALLOT, 0)
        """A higher ballot that somebody promised, and the first round of confirmation begun after we heard of it."""
        self.timed: deque[int] = deque(maxlen=HEARTBEATS_TIMED)
        """The rounds of the latest heartbeats: their answers tell how far away the others are."""
        self.lease = Lease(replica.settings.drift_max)
        self.confirmed_upto: dict[NodeId, Instance] = {}
        """How far each of the others has learned, learners among them; of whom nothing is said here, nothing was heard."""
        self.doubtful: dict[NodeId, Instance] = {}
        """Who does not vote until everything up to there is chosen (`doubt`)."""
        self.successor: NodeId | None = None
        """To whom we are about to hand over."""
        self.is_pausing = False
        """Whether nothing new is proposed, since our successor is about to be ready."""
        self.hand_over_until = 0.0

    def start(self) -> None:
        """Finish what others began, then make a beginning of our own (rule P3)."""
        self.replica.emit(Leads(self.ballot))
        sequence = self.replica.sequence
        self._finish(max((self.proposer.last_reported, *sequence.ahead)))
        for part in self.replica.outbox.resend(self.replica.settings.queue_bytes_max):
            for entry in part:
                self._enqueue(entry)
        self.pump()
        self._heartbeat()

    def _finish(self, last: Instance) -> None:
        """Propose what others began, up to `last`, and no-ops between (rule P3)."""
        self._pass_over_known()
        while self.next <= last and self.next <= self._limit:
            self._take(self._propose(NO_OP))
            self._pass_over_known()

    def _take(self, value: Value) -> None:
        """`value` will take effect before all that we propose from now on."""
        self.stamp = max(self.stamp, value.stamp)
        for entry in value.entries:
            self.taken.admit(entry)

    def _pass_over_known(self) -> None:
        """What is known to be chosen already, beyond a gap, is not proposed again."""
        while (known := self.replica.sequence.ahead.get(self.next)) is not None:
            self.next = Instance(self.next + 1)
            self._take(known)

    @property
    def is_established(self) -> bool:
        """Whether something of our own is chosen, and with it everything that was chosen before us."""
        return self.own_first is not None and self.own_first <= self.replica.sequence.watermark

    @property
    def _limit(self) -> Instance:
        """The last instance in which we may propose (rule P4): known acceptors, a quorum's promises, a place for ourselves."""
        replica = self.replica
        watermark = replica.sequence.watermark
        limit = Instance(watermark + replica.settings.alpha)
        for first, configuration in replica.membership.table:
            if first > watermark + 1 and not self._may_lead_in(configuration):
                limit = min(limit, Instance(first - 1))
        return limit if self._may_lead_in(replica.membership.at(Instance(watermark + 1))) else watermark

    # Proposing

    def on_forward(self, sender: NodeId, entries: tuple[Entry, ...]) -> None:
        """Another node's clients ask. What we have already, or what comes out of turn, is passed over."""
        for entry in entries:
            if entry.node == sender and self.queue_bytes < self.replica.settings.queue_bytes_max:
                self._enqueue(entry)
        self.pump()

    def move_time(self, due: int) -> None:
        """Something falls due: unless a batch is on its way anyway, let one without entries carry the time."""
        self._pass_over_known()
        is_idle = not self.flights and not self.queue and not self.is_pausing
        if is_idle and self.next <= self._limit and self._now() >= due:
            self._propose(Value(self.stamp))

    def pump(self) -> None:
        """Propose what waits, as far as the window and the number of batches in flight allow."""
        settings = self.replica.settings
        for entry in self.replica.outbox.number(settings.queue_bytes_max):
            self._enqueue(entry)
        if self.proposer.highest or self.replica.sequence.ahead:
            self._finish(self.proposer.last_reported)
        if self.own_first is None and self.next <= self._limit:
            self.own_first = self.next
            self._propose(Value(self._now(), self._batch()))
        while self.queue and not self.is_pausing and self.has_room() and self.next <= self._limit:
            self._propose(Value(self._now(), self._batch()))
            self._pass_over_known()
        if self.replica.membership.in_force_from > self.next and not self.is_pausing:
            self._finish(Instance(self.replica.membership.in_force_from - 1))  # Push the change through.
        if self.doubtful and self.is_established and not self.is_pausing:
            self._finish(max(self.doubtful.values()))  # So that its doubt ends, if nobody asks for anything.

    def has_room(self) -> bool:
        """Whether another batch may be on its way. What pushes a change through takes no room from it."""
        most = self.replica.settings.in_flight_max
        if len(self.flights) < most:
            return True
        if self.replica.membership.is_settled(self.replica.sequence.watermark):
            return False
        return sum(not flight.accept.value.is_no_op for flight in self.flights.values()) < most

    @property
    def last_proposed(self) -> tuple[float, int] | None:
        """When the last of what is on its way left (monotonic milliseconds), and how large that is (bytes); None: nothing is."""
        if not self.flights:
            return None
        flight = next(reversed(self.flights.values()))
        return flight.started_at, flight.accept.value.size

    def _batch(self) -> tuple[Entry, ...]:
        """Take what waits, up to the size of a batch, but at least one entry if there is one."""
        room = self.replica.settings.batch_bytes_max
        batch: list[Entry] = []
        while self.queue and (not batch or len(self.queue[0].payload) <= room):
            entry = self.queue.popleft()
            room -= len(entry.payload)
            batch.append(entry)
        self.queue_bytes -= self.replica.settings.batch_bytes_max - room
        return tuple(batch)

    def _propose(self, wanted: Value) -> Value:
        """Phase 2a for the next instance; returns what had to be proposed there."""
        replica = self.replica
        assert self.next <= self._limit, "nothing is proposed where nobody has promised"
        value = self.proposer.value_for(self.next, wanted)
        accept = Accept(self.ballot, self.next, value, replica.sequence.watermark)
        configuration = replica.membership.at(self.next)
        now = replica.moment.now
        on_its_way = value.size / replica.settings.bytes_per_ms_min
        self.flights[self.next] = _Flight(accept, now, now + replica.pace.resend_ms + on_its_way)
        self.next = Instance(self.next + 1)
        self.announced = replica.sequence.watermark
        for node in configuration.members:
            if node != replica.me:
                self._send_accept(node, accept)
        if value.configuration is not None:
            self._ask_promises()
        if replica.me in configuration.acceptors:
            self.unsaved[accept.instance] = (now, value.size)
            answer = replica.acceptor.on_accept(accept)
            assert isinstance(answer, Answer), "nothing higher was promised here, or we would not lead"
            replica.answer(replica.me, answer)
        return value

    def _send_accept(self, node: NodeId, accept: Accept) -> None:
        self.replica.teaching.sent(node, accept.instance, accept.instance, accept.value.size)
        self.replica.emit(Send(node, accept))

    def _now(self) -> int:
        """The time stamp of a new value: bounded by the others' clocks, never lower than the one before."""
        replica = self.replica
        self.stamp = max(
            self.stamp, replica.time, replica.clocks.bounded(replica.membership.at(self.next).acceptors)
        )
        return self.stamp

    def _enqueue(self, entry: Entry) -> None:
        if self.taken.admit(entry):
            self.queue.append(entry)
            self.queue_bytes += len(entry.payload)

    # Learning

    def has_proposed(self, instance: Instance, value: Value) -> bool:
        """Whether this is what we propose there, now."""
        flight = self.flights.get(instance)
        return flight is not None and flight.accept.value == value

    def on_accepted(self, sender: NodeId, accepted: Accepted) -> None:
        """Phase 2b arrives. A quorum of the instance's own configuration makes the value chosen (section 2.3)."""
        if accepted.ballot != self.ballot:
            return
        if sender == self.replica.me:
            self.unsaved.pop(accepted.instance, None)
        flight = self.flights.get(accepted.instance)
        if flight is None:
            return
        configuration = self.replica.membership.at(accepted.instance)
        if self.learner.on_accepted(sender, self.ballot, accepted.instance, configuration):
            self.replica.sequence.learn(accepted.instance, flight.accept.value)
            if self.replica.me not in configuration.acceptors:
                self.replica.save((Learned(accepted.instance, flight.accept.value),), ())
            del self.flights[accepted.instance]
            self.replica.settle()

    def on_advance(self) -> None:
        """The watermark rose: room for more, and readers may have become answerable."""
        watermark = self.replica.sequence.watermark
        if self.flights:
            for instance in [instance for instance in self.flights if instance <= watermark]:
                del self.flights[instance]
        self.next = max(self.next, Instance(watermark + 1))
        self.learner.forget(watermark)
        self.proposer.forget(watermark)
        if self.replica.membership.latest is not self.latest:
            self.latest = self.replica.membership.latest
            for node in self.replica.others():  # A new member may be silent for as long as any other.
                self.heard_at.setdefault(node, self.replica.moment.now)
        if self.replica.membership.table[0][1] is not self.oldest:
            self._part_with(self.oldest)
            self.oldest = self.replica.membership.table[0][1]
        self.pump()
        self._announce()
        self._maybe_leave()
        if self.is_pausing and not self.flights:
            self._start_round()  # Has the successor heard that, too?
        else:
            self._maybe_start_round()

    def _announce(self) -> None:
        """Let the others know what is chosen.

        The next accept request tells it. So as long as something is on its way, only those are told by a message of its own
        whose clients wait; the rest hear of it with that request, or when what is on its way has arrived. (Should it never
        arrive, the heartbeat tells them.)
        """
        replica = self.replica
        watermark, awaiting = replica.sequence.watermark, replica.take_awaiting()
        if self.announced == watermark:
            return
        if not self.flights:
            self.announced = watermark
        chosen = Chosen(self.ballot, watermark)
        for node in replica.others():
            if not self.flights or node in awaiting:
                replica.emit(Send(node, chosen))

    # Changing who votes

    @property
    def can_change(self) -> bool:
        """Whether a change may be proposed now: we know all that was chosen, and no other change is under way (rule P4)."""
        sequence = self.replica.sequence
        coming = (*(flight.accept.value for flight in self.flights.values()), *sequence.ahead.values())
        return (
            self.is_established
            and not self.is_pausing
            and self.next <= self._limit
            and self.replica.membership.is_settled(sequence.watermark)
            and all(value.configuration is None for value in coming)
        )

    def reconfigure(self, configuration: Configuration) -> None:
        """Propose a change, if one may be proposed and it is one."""
        self._pass_over_known()
        if self.can_change and configuration != self.replica.membership.latest:
            change = Value(self._now(), configuration=configuration)
            assert self._propose(change) == change, "what others began was finished long ago"

    def behind(self, node: NodeId) -> int | None:
        """How many chosen instances `node` (perhaps a learner) lacks, as far as it told; None: it is not heard."""
        upto = self.confirmed_upto.get(node)
        if upto is None or not self.is_heard(node):
            return None
        return max(0, self.replica.sequence.watermark - upto)

    def _ask_promises(self) -> None:
        """Ask the acceptors of a configuration to come for the promise that the present ones have given."""
        replica = self.replica
        changes = [flight.accept.value.configuration for flight in self.flights.values()]
        for configuration in (*changes, *(each for _, each in replica.membership.table)):
            if configuration is None or self.proposer.is_prepared((configuration,)):
                continue
            for node in configuration.acceptors:
                prepare = self.proposer.next_prepare(node)
                if prepare is not None:
                    replica.emit(Send(node, prepare))

    def on_promise(self, sender: NodeId, promise: Promise) -> None:
        """Phase 1b of an acceptor to come. (The promises of the present ones are here, or were not needed.)"""
        replica = self.replica
        if not self.proposer.may_be_told(promise, replica.settings.alpha):
            return
        if promise.chosen > replica.sequence.watermark:
            replica.lacks(promise.chosen, sender)  # It is asked again.
            return
        if self.proposer.on_promise(sender, promise) and promise.last is not None:
            self._ask_promises()
        self.pump()

    def _may_lead_in(self, configuration: Configuration) -> bool:
        """Whether its acceptors have promised; and whether we are here to stay, or it is not the one that we are no part of."""
        if configuration is self._led:
            return True
        latest = self.replica.membership.latest
        is_last = configuration == latest and self.replica.me not in latest.acceptors
        may_lead = not is_last and self.proposer.is_prepared((configuration,))
        if may_lead and self.replica.me in configuration.acceptors:
            self._led = configuration
        return may_lead

    @property
    def is_leaving(self) -> bool:
        """Whether we have no place in what comes, and everything before that is chosen."""
        membership = self.replica.membership
        is_in_place = self.replica.me in membership.latest.acceptors
        return not is_in_place and membership.is_settled(self.replica.sequence.watermark)

    def _part_with(self, past: Configuration) -> None:
        """Something was chosen without those who have no place any more: tell them once. If that is lost, nobody heeds them."""
        replica = self.replica
        for node in past.members:
            if node != replica.me and not replica.membership.is_member(node):
                self.confirmed_upto.pop(node, None)
                self.heard_at.pop(node, None)
                replica.emit(Send(node, Chosen(self.ballot, replica.sequence.watermark)))

    def _maybe_leave(self) -> None:
        """We have no place in what comes, and nothing more to do: hand over to whoever has."""
        if self.is_leaving and self.successor is None:
            self.hand_over(None, 2 * self.replica.pace.timeout_ms)

    # Confirming

    def on_ask_read(self, sender: NodeId, ask: AskRead) -> None:
        """Readers wait. They join the next round, which begins now if none with readers is under way."""
        if len(self.confirming.next_readers) >= self.replica.settings.reads_max:
            return
        if self.holds_lease:
            self._answer(self.replica.sequence.watermark, [Reader(sender, ask)])
            return
        self.confirming.next_readers[Reader(sender, ask)] = None
        self._maybe_start_round()

    def on_confirmed(self, sender: NodeId, confirmed: Confirmed) -> None:
        """An acceptor still follows us."""
        if confirmed.ballot != self.ballot:
            return
        replica = self.replica
        replica.clocks.heard(sender, confirmed.clock)
        self.heard_at[sender] = replica.moment.now
        self.confirmed_upto[sender] = max(confirmed.chosen, self.confirmed_upto.get(sender, confirmed.chosen))
        if confirmed.chosen > replica.sequence.watermark:
            replica.lacks(confirmed.chosen, sender)
        # Who has everything keeps up. Who just reaches what was proposed last would ignore the next proposal.
        alpha = replica.settings.alpha
        replica.teaching.accepts(sender, Instance(confirmed.chosen + alpha), Instance(self.next - 1 + alpha))
        if (began_at := self.confirming.began_at(confirmed.round)) is not None:
            self._time(sender, began_at, confirmed)
        self._note_doubt(sender, confirmed.doubt_upto)
        self.confirming.on_confirmed(sender, confirmed.round)
        if sender == self.successor:
            self._maybe_give_way(sender)
        self._grant()

    def _note_doubt(self, sender: NodeId, upto: Instance) -> None:
        """Somebody takes no part until everything up to there is chosen. Further than this nobody can have accepted anything."""
        if upto:
            furthest = self.replica.sequence.watermark + 2 * self.replica.settings.alpha
            self.doubtful[sender] = Instance(min(upto, furthest))
            self.pump()
        else:
            self.doubtful.pop(sender, None)

    def _time(self, sender: NodeId, began_at: float, confirmed: Confirmed) -> None:
        """An answer to a round whose beginning we know tells how far away its sender is, and to how long a lease it is bound."""
        replica = self.replica
        if confirmed.lease_ms:
            self.lease.on_granted(sender, began_at, min(confirmed.lease_ms, replica.settings.lease_ms))
        if confirmed.round in self.timed and confirmed.round > self.confirming.answered.get(sender, 0):
            replica.measured(sender, replica.moment.now - began_at)
            # A shorter timeout needs an earlier heartbeat: those who answered just now would else be out of it before.
            self.heartbeat_at = min(self.heartbeat_at, replica.moment.now + replica.pace.heartbeat_ms)

    @property
    def holds_lease(self) -> bool:
        """Whether nobody else can lead now, so that a read needs no round of its own (rule P7)."""
        replica = self.replica
        return (
            bool(replica.settings.lease_ms)
            and self.is_established
            and self.lease.holds(replica.window(), replica.moment.now)
        )

    def on_refused(self, promised: Ballot) -> None:
        """Somebody promised a higher ballot. That ends us only if we cannot confirm ourselves any more.

        Most often it is a node that campaigned and died, or fell silent, before a quorum heard it. If a
        round begun from now on is still confirmed by a quorum, its ballot has no quorum: we go on above it,
        so that its acceptor can take part again. (Our successor's ballot is no challenge: we asked for it.)
        """
        is_asked_for = self.is_pausing and promised.node == self.successor
        if promised > self.challenger[0] and not is_asked_for:
            self.challenger = (promised, self.confirming.number + 1)
            self._start_round()

    def _maybe_start_round(self) -> None:
        """Begin a round for the readers who wait, unless it is too early, or one with readers is under way that is not overdue.

        It asks no more than it needs. If those are silent, all are asked, now and for some time.
        """
        confirming = self.confirming
        if not confirming.next_readers or not self.is_established:
            return
        if not confirming.rounds:
            asks_all = self.replica.moment.now < self.ask_all_until
            self._start_round(
                None if asks_all else confirming.nearest(self.replica.me, self.replica.window())
            )
        elif self._notice_silence():
            self._start_round()

    def _notice_silence(self) -> bool:
        """If a round that asked no more than it needs is overdue, let all be asked for some time; returns whether it is."""
        now, heartbeat_ms = self.replica.moment.now, self.replica.pace.heartbeat_ms
        if not (self.confirming.rounds and self.asks_few):
            return False
        is_overdue = now - self.confirming.last_began_at >= heartbeat_ms / ROUND_PATIENCE
        if is_overdue:
            self.ask_all_until = now + ASK_ALL_HEARTBEATS * heartbeat_ms
        return is_overdue

    def _start_round(self, asked: list[NodeId] | None = None) -> None:
        """Have our leadership confirmed, by those who are asked; None: by all. Only then all know what is chosen."""
        replica = self.replica
        watermark = replica.sequence.watermark
        now = replica.moment.now
        number = self.confirming.start(watermark, replica.window(), self.is_established, now)
        self.asks_few = asked is not None
        if asked is None:
            asked = replica.others()
            self.announced = watermark
        confirm = Confirm(self.ballot, number, watermark, int(replica.pace.timeout_ms))
        for node in asked:
            replica.emit(Send(node, confirm))
        self.heard_at[replica.me] = now
        if lease_ms := replica.bind(self.ballot):
            self.lease.on_granted(replica.me, now, lease_ms)
        self.confirming.on_confirmed(replica.me, number)
        self._grant()

    def _grant(self) -> None:
        """Let the readers go whose round is confirmed; start the next round if more wait."""
        replica = self.replica
        for watermark, readers in self.confirming.take():
            self._answer(watermark, readers)
        if replica.phase is not self:  # Granting to ourselves led to another round, and that one here.
            return
        promised, since = self.challenger
        if promised > self.ballot and self.confirming.confirmed(replica.window()) >= since:
            replica.become_campaigning(promised)
        else:
            self._maybe_start_round()

    def _answer(self, watermark: Instance, readers: list[Reader]) -> None:
        """These may read from what holds `watermark`."""
        replica = self.replica
        stamp = max(replica.time, replica.clocks.bounded(replica.membership.at(self.next).acceptors))
        for node, ask in readers:
            if node != replica.me and self.announced < watermark:
                replica.emit(
                    Send(node, Chosen(self.ballot, watermark))
                )  # It has to come so far, and need not ask.
            replica.grant(node, GrantRead(ask.attempt, ask.incarnation, watermark, stamp))

    # Handing over

    def hand_over(self, to: NodeId | None, within_ms: float) -> None:
        """Begin to hand over, if there is somebody who can lead."""
        replica = self.replica
        able = set(replica.others()).intersection(*(each.acceptors for each in replica.window()))
        able = {node for node in able if self.is_heard(node) and node not in self.doubtful}
        if to is None and able:
            answered = self.confirming.answered  # Of those who know as much, whoever is nearest.
            to = max(sorted(able), key=lambda node: (self.confirmed_upto.get(node, 0), answered.get(node, 0)))
        if to in able:
            self.successor, self.is_pausing = to, False
            self.hand_over_until = replica.moment.now + within_ms
            self._start_round()

    def keep_lead(self) -> None:
        """Do not hand over after all. (If we have given way already, the successor may still take over.)"""
        self.successor, self.is_pausing = None, False
        self.pump()

    def _maybe_give_way(self, successor: NodeId) -> None:
        """Pause when the successor is near; give way when nothing is under way and it knows all that was chosen."""
        replica = self.replica
        watermark = replica.sequence.watermark
        lacks = watermark - self.confirmed_upto[successor]
        if not self.is_pausing and lacks <= replica.settings.alpha:
            self.is_pausing = True
            patience = max(replica.settings.patience_leaderless_ms, replica.pace.timeout_ms)
            self.hand_over_until = min(self.hand_over_until, replica.moment.now + patience)
            if lacks > 0:
                # Perhaps it was chosen just now: whether the successor has heard is not left to a heartbeat.
                self._start_round()
        is_done = (self.is_established or self.is_leaving) and not self.flights
        if self.is_pausing and is_done and lacks <= 0:
            self.lease.is_given_up = True
            replica.emit(Send(successor, TakeOver(self.ballot, watermark)))

    def is_heard(self, node: NodeId) -> bool:
        """Whether `node` has answered us lately."""
        replica = self.replica
        now = replica.moment.now
        if node == replica.me or (node in self.excused and now < self.excused_until):
            return True
        return now - self.heard_at.get(node, float("-inf")) < replica.pace.timeout_ms

    # Time

    def slept(self, since: float) -> None:
        """This process did nothing since then (monotonic milliseconds), such as when what was chosen took long to be executed.

        Who was heard then has time to be heard again; and a disk, and others, may have done what we have not been told of.
        (But not once more before a quorum was heard: where we sleep again and again, nobody may follow us all the same.) A
        lease knows nothing of that: its time has passed.
        """
        replica = self.replica
        now, timeout = replica.moment.now, replica.pace.timeout_ms
        heard = {node for node, heard_at in self.heard_at.items() if heard_at >= self.excused_at}
        if all(each.is_quorum(heard | {replica.me}) for each in replica.window()):
            self.excused = frozenset(node for node in heard if since - self.heard_at[node] < timeout)
            self.excused_at, self.excused_until = (
                now,
                now + replica.pace.after_sleep_ms(now - since) + timeout,
            )
        for flight in self.flights.values():
            flight.started_at += now - since
        self.unsaved = {
            instance: (began + now - since, size) for instance, (began, size) in self.unsaved.items()
        }

    def on_tick(self) -> None:
        """Confirm, send again what was not answered, and give up if nobody follows or our disk hangs."""
        replica = self.replica
        now = replica.moment.now
        if self.successor is not None:
            is_silent = self.is_pausing and not self.is_heard(self.successor)
            if is_silent or now >= self.hand_over_until:
                if self.is_leaving:
                    replica.become_following(None)
                    return
                self.keep_lead()
        heard = {node for node in self.heard_at if self.is_heard(node)}
        followed = all(each.is_quorum(heard) for each in replica.window())
        if not followed or self._nobody_accepts():
            replica.become_following(None)
        elif self._disk_hangs():
            replica.become_following(None).stand_back()
        elif now >= self.heartbeat_at:
            self._heartbeat()

    def _disk_hangs(self) -> bool:
        """Whether our oldest vote has been on its way to our disk for longer than its size explains."""
        if not self.unsaved:
            return False
        replica = self.replica
        since, _ = next(iter(self.unsaved.values()))
        size = sum(size for _, size in self.unsaved.values())
        patience = 2 * replica.settings.election_timeout_ms + size / replica.settings.bytes_per_ms_min
        return replica.moment.now - since > patience

    def _nobody_accepts(self) -> bool:
        """Whether our oldest proposal has been on its way for longer than all that is on its way explains.

        We are confirmed, and yet nothing gets chosen: perhaps only what is small comes through.
        """
        if not self.flights:
            return False
        replica = self.replica
        flight = self.flights[min(self.flights)]
        size = sum(flight.accept.value.size for flight in self.flights.values())
        patience = NOTHING_CHOSEN_TIMEOUTS * replica.pace.timeout_ms
        return (
            replica.moment.now - flight.started_at > patience + 4 * size / replica.settings.bytes_per_ms_min
        )

    def _heartbeat(self) -> None:
        replica = self.replica
        now = replica.moment.now
        self.heartbeat_at = now + replica.pace.heartbeat_ms
        room = replica.settings.message_bytes_max
        for flight in self.flights.values():
            if now < flight.resend_at or room <= 0:
                continue
            pause = min(2 * (now - flight.started_at), replica.settings.resend_ms_max)
            flight.resend_at = now + pause + flight.accept.value.size / replica.settings.bytes_per_ms_min
            accept = flight.accept
            for node in replica.membership.at(accept.instance).members:
                if node != replica.me and not self.learner.has_accepted(node, self.ballot, accept.instance):
                    room -= accept.value.size
                    self._send_accept(node, accept)
        self._ask_promises()
        self._maybe_leave()
        self._notice_silence()
        self._start_round()
        self.timed.append(self.confirming.number)

    def wake_at(self) -> float:
        """When to look at the clock next (monotonic milliseconds)."""
        return self.heartbeat_at if self.successor is None else min(self.heartbeat_at, self.hand_over_until)
