"""Sabotages: known ways to break the protocol, one switch each. The laboratory must find every one of them.

A sabotage puts another function in the place of one of the database's, in this process, for as long as it is applied; the
database itself knows nothing of it. Each is something that somebody might write, or did write, by mistake.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from crc32c import crc32c

from sofadb.database import image, loader
from sofadb.database.commands import lists, strings
from sofadb.database.database import Database
from sofadb.database.image import Image
from sofadb.database.locks import Locks
from sofadb.database.once import Once
from sofadb.database.past import Past
from sofadb.database.queues import Queues, Waiter, Who
from sofadb.database.replies import Reply
from sofadb.database.roster import Roster
from sofadb.database.runs import Group, Transaction, Turn, apply
from sofadb.database.values import List
from sofadb.database.wire import Columns, Shape
from sofadb.node import frames, live
from sofadb.node import node as node_module
from sofadb.node.driver import Driver
from sofadb.node.frames import BadPeer, FrameReader
from sofadb.node.live import RunningNode
from sofadb.node.node import Node
from sofadb.node.peers import Peer, Peers
from sofadb.node.snapshots import Snapshotter
from sofadb.paxos.acceptor import Acceptor, Answer
from sofadb.paxos.ballot import NO_BALLOT, Instance
from sofadb.paxos.campaigning import Campaigning
from sofadb.paxos.clocks import Clocks
from sofadb.paxos.confirming import Confirming
from sofadb.paxos.doubt import Doubt
from sofadb.paxos.effects import Deliver, Save, Send, Serve, Teach
from sofadb.paxos.events import CutOff, Read
from sofadb.paxos.leading import Leading
from sofadb.paxos.learner import Learner
from sofadb.paxos.lease import Grant, Lease
from sofadb.paxos.membership import Membership
from sofadb.paxos.messages import Accept, Accepted, Ask, GrantRead, Prepare, Promise
from sofadb.paxos.outbox import Outbox
from sofadb.paxos.proposer import Proposer
from sofadb.paxos.reading import Reading
from sofadb.paxos.records import Acceptance, Learned, Promised
from sofadb.paxos.replica import Replica
from sofadb.paxos.sequence import Sequence
from sofadb.paxos.sessions import Sessions
from sofadb.paxos.values import Configuration, Entry, Value
from sofadb.server.connection import Connection
from sofadb.server.short_way import Crowd, Gathered
from sofadb.server.work import Work
from sofadb.storage import segment, snapshot
from sofadb.storage.files import StorageError
from sofadb.storage.identity import Identity, Newcomer, plain_name

from .disk import SimulatedDisk, SimulatedFile
from .host import SimulatedHost

Patch = Callable[[Any, str, Any], None]
"""Puts something in the place of an attribute."""


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One way to break things."""

    name: str
    about: str
    apply: Callable[[Patch], None]


SABOTAGES: dict[str, Sabotage] = {}


def _sabotage(function: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Enter a function in the list, under its own name."""
    name = function.__name__.replace("_", "-")
    assert function.__doc__ is not None
    SABOTAGES[name] = Sabotage(name, " ".join(function.__doc__.split()), function)
    return function


@contextmanager
def applied(name: str | None) -> Iterator[None]:
    """While this lasts, that sabotage is at work in this process (None: none is)."""
    undo: list[tuple[Any, str, Any]] = []

    def patch(owner: Any, attribute: str, value: Any) -> None:
        undo.append((owner, attribute, owner.__dict__[attribute]))
        setattr(owner, attribute, value)

    try:
        if name is not None:
            SABOTAGES[name].apply(patch)
        yield
    finally:
        for owner, attribute, value in reversed(undo):
            setattr(owner, attribute, value)


# The acceptor


@_sabotage
def acceptor_forgets_its_promise(patch: Patch) -> None:
    """At its restart an acceptor takes back its acceptances and not its promises."""
    original = Acceptor.restore

    def restore(self: Acceptor, record: Promised | Acceptance) -> None:
        if isinstance(record, Acceptance):
            original(self, record)

    patch(Acceptor, "restore", restore)


@_sabotage
def acceptor_forgets_what_it_accepted(patch: Patch) -> None:
    """At its restart an acceptor takes back its promises and not its acceptances."""

    def restore(self: Acceptor, record: Promised | Acceptance) -> None:
        self.promised = max(self.promised, record.ballot)

    patch(Acceptor, "restore", restore)


@_sabotage
def answers_before_its_write_is_stable(patch: Patch) -> None:
    """What should wait for the disk leaves at once."""

    def save(self: Driver, save: Save) -> None:
        self.world.save(save.records, lambda: None)
        for effect in save.then:
            self._perform[type(effect)](effect)

    patch(Driver, "_save", save)


@_sabotage
def promise_is_not_recorded(patch: Patch) -> None:
    """An acceptor promises, and writes nothing down."""
    original = Acceptor.on_prepare

    def on_prepare(self: Acceptor, prepare: Prepare, clock: int) -> Any:
        answer = original(self, prepare, clock)
        own = self.promised.node == prepare.ballot.node and prepare.ballot.round == 0
        return answer if own or not isinstance(answer, Answer) else Answer(None, answer.message)

    def start(self: Campaigning) -> None:
        replica = self.replica
        prepare = Prepare(self.ballot, self.proposer.first)
        answer = replica.acceptor.on_prepare(prepare, replica.moment.clock)
        assert isinstance(answer, Answer)
        requests = tuple(Send(node, prepare) for node in replica.others())
        replica.save((), (*requests, Send(replica.me, answer.message)))

    patch(Acceptor, "on_prepare", on_prepare)
    patch(Campaigning, "start", start)


@_sabotage
def acceptance_is_not_recorded(patch: Patch) -> None:
    """An acceptor accepts, and writes nothing down."""
    original = Acceptor.on_accept

    def on_accept(self: Acceptor, accept: Accept) -> Any:
        answer = original(self, accept)
        return Answer(None, answer.message) if isinstance(answer, Answer) else answer

    patch(Acceptor, "on_accept", on_accept)


@_sabotage
def accepts_below_its_promise(patch: Patch) -> None:
    """An acceptor that promised a higher number accepts a lower one all the same."""
    original = Replica._on_accept

    def on_accept(self: Replica, sender: str, accept: Accept) -> None:
        if accept.ballot.node == sender and accept.ballot < self.acceptor.promised:
            promised, self.acceptor.promised = self.acceptor.promised, accept.ballot
            answer = self.acceptor.on_accept(accept)
            self.acceptor.promised = promised
            if isinstance(answer, Answer):
                self.answer(sender, answer)
        else:
            original(self, sender, accept)

    patch(Replica, "_on_accept", on_accept)


@_sabotage
def promises_a_lower_number(patch: Patch) -> None:
    """An acceptor answers any prepare request with a promise, whatever it promised before."""
    original = Acceptor.on_prepare

    def on_prepare(self: Acceptor, prepare: Prepare, clock: int) -> Any:
        if prepare.ballot < self.promised:
            self.promised = NO_BALLOT
        return original(self, prepare, clock)

    patch(Acceptor, "on_prepare", on_prepare)


@_sabotage
def acceptance_is_no_promise(patch: Patch) -> None:
    """Accepting a number does not keep an acceptor from accepting a lower one afterwards."""
    original = Acceptor.on_accept

    def on_accept(self: Acceptor, accept: Accept) -> Any:
        promised = self.promised
        answer = original(self, accept)
        self.promised = promised
        return answer

    patch(Acceptor, "on_accept", on_accept)


@_sabotage
def promise_reports_nothing(patch: Patch) -> None:
    """A promise comes without what was accepted before."""
    patch(Acceptor, "_report", lambda self, first: ((), None))


@_sabotage
def long_report_is_cut_off(patch: Patch) -> None:
    """A report that is too long for one message ends in the middle and says that it is whole."""
    original = Acceptor._report

    def report(self: Acceptor, first: Instance) -> Any:
        return original(self, first)[0], None

    patch(Acceptor, "_report", report)


# The proposer and the learner


@_sabotage
def own_value_over_a_reported_one(patch: Patch) -> None:
    """A proposer proposes what it wants although a value was reported."""

    def value_for(self: Proposer, instance: Instance, wanted: Value) -> Value:
        return self.proposed.setdefault(instance, wanted)

    patch(Proposer, "value_for", value_for)


@_sabotage
def lowest_report_wins(patch: Patch) -> None:
    """Of several reports a proposer takes the one with the lowest number."""
    original = Proposer.on_promise

    def on_promise(self: Proposer, node: str, promise: Promise) -> bool:
        before = dict(self.highest)
        is_news = original(self, node, promise)
        for instance, held in before.items():
            self.highest[instance] = min(held, self.highest[instance], key=lambda each: each[0])
        return is_news

    patch(Proposer, "on_promise", on_promise)


@_sabotage
def one_less_than_a_majority(patch: Patch) -> None:
    """A quorum is one less than a majority (but at least one)."""
    patch(Configuration, "quorum", property(lambda self: max(1, len(self.acceptors) // 2)))


@_sabotage
def answers_are_counted_not_nodes(patch: Patch) -> None:
    """A repeated acceptance counts like one of another acceptor."""
    counts: dict[tuple[int, Any, Any], int] = {}

    def on_accepted(
        self: Learner, node: str, ballot: Any, instance: Any, configuration: Configuration
    ) -> bool:
        self.accepted_by.setdefault((instance, ballot), set()).add(node)
        key = (id(self), instance, ballot)
        counts[key] = counts.get(key, 0) + 1
        return counts[key] >= configuration.quorum

    patch(Learner, "on_accepted", on_accepted)


@_sabotage
def acceptances_of_different_ballots_add_up(patch: Patch) -> None:
    """The leader counts acceptances of an earlier ballot of its own with those of the present one."""
    original = Leading.on_accepted

    def on_accepted(self: Leading, sender: str, accepted: Accepted) -> None:
        original(self, sender, replace(accepted, ballot=self.ballot))

    patch(Leading, "on_accepted", on_accepted)


@_sabotage
def gaps_are_not_filled(patch: Patch) -> None:
    """A new leader leaves instances empty that nobody reported."""
    original = Leading._propose

    def propose(self: Leading, wanted: Value) -> Value:
        is_gap = self.next < self.proposer.last_reported and self.next not in self.proposer.highest
        if is_gap and wanted.is_no_op:
            self.next = Instance(self.next + 1)
            return wanted
        return original(self, wanted)

    patch(Leading, "_propose", propose)


@_sabotage
def ballot_is_used_again(patch: Patch) -> None:
    """A candidate does not remember its ballot in stable storage before it asks."""

    def start(self: Campaigning) -> None:
        replica = self.replica
        prepare = Prepare(self.ballot, self.proposer.first)
        answer = replica.acceptor.on_prepare(prepare, replica.moment.clock)
        assert isinstance(answer, Answer)
        assert answer.record is not None
        for node in replica.others():
            replica.emit(Send(node, prepare))
        replica.save((answer.record,), (Send(replica.me, answer.message),))

    patch(Campaigning, "start", start)


@_sabotage
def proposes_beyond_alpha(patch: Patch) -> None:
    """A leader proposes as far ahead as it likes."""

    def pump(self: Leading) -> None:
        for entry in self.replica.outbox.number(self.replica.settings.queue_bytes_max):
            self._enqueue(entry)
        if self.own_first is None:
            self.own_first = self.next
            self._propose(Value(self._now(), self._batch()))
        while self.queue:
            self._propose(Value(self._now(), self._batch()))

    patch(Leading, "pump", pump)


@_sabotage
def applied_before_it_is_chosen(patch: Patch) -> None:
    """A follower takes for chosen what it has accepted."""
    original = Replica._on_accept

    def on_accept(self: Replica, sender: str, accept: Accept) -> None:
        original(self, sender, accept)
        if self.acceptor.value_accepted(accept.instance, accept.ballot) is not None:
            self.sequence.learn(accept.instance, accept.value)
            self.settle()

    patch(Replica, "_on_accept", on_accept)


@_sabotage
def any_acceptance_is_taken_for_chosen(patch: Patch) -> None:
    """Told how far everything is chosen, a follower takes what it accepted there under whatever ballot."""

    def value_accepted(self: Acceptor, instance: Instance, ballot: Any) -> Value | None:
        acceptance = self.accepted.get(instance)
        return None if acceptance is None else acceptance.value

    patch(Acceptor, "value_accepted", value_accepted)


@_sabotage
def holes_are_skipped(patch: Patch) -> None:
    """A replica that misses a value goes on with the one behind it."""
    original = Sequence.take

    def take(self: Sequence) -> Any:
        if self.ahead and Instance(self.watermark + 1) not in self.ahead:
            self.watermark = Instance(min(self.ahead) - 1)
        return original(self)

    patch(Sequence, "take", take)


@_sabotage
def teaches_before_it_has_written(patch: Patch) -> None:
    """A replica reads back what it teaches before all that is on its way to the disk is there."""
    original = Replica._on_ask

    def on_ask(self: Replica, sender: str, ask: Ask) -> None:
        if 1 <= ask.first < self.sequence.tail_first:
            self.emit(Teach(sender, ask.first, Instance(self.sequence.tail_first - 1)))
        else:
            original(self, sender, ask)

    patch(Replica, "_on_ask", on_ask)


# Reads


@_sabotage
def reads_without_confirming(patch: Patch) -> None:
    """A leader answers reads without asking anybody whether it still leads."""
    patch(Confirming, "confirmed", lambda self, configurations: self.number)


@_sabotage
def fresh_leader_reads_at_once(patch: Patch) -> None:
    """A leader answers reads before anything of its own is chosen."""
    patch(Leading, "is_established", property(lambda self: True))


@_sabotage
def reads_join_a_round_under_way(patch: Patch) -> None:
    """A read is answered by a confirmation that was asked for before the read came."""
    original = Confirming.start

    def start(self: Confirming, watermark: Instance, window: Any, with_readers: bool, now: float) -> int:
        if self.rounds and self.next_readers:
            self.rounds[0].readers.extend(self.next_readers)
            self.next_readers = {}
        return original(self, watermark, window, with_readers, now)

    def on_ask_read(self: Leading, sender: str, ask: Any) -> None:
        from sofadb.paxos.confirming import Reader

        if self.confirming.rounds:
            self.confirming.rounds[0].readers.append(Reader(sender, ask))
        else:
            self.confirming.next_readers[Reader(sender, ask)] = None
            self._maybe_start_round()

    patch(Confirming, "start", start)
    patch(Leading, "on_ask_read", on_ask_read)


@_sabotage
def reads_from_a_state_behind(patch: Patch) -> None:
    """A read is answered as soon as it is granted, however far the state is."""
    original = Reading.answers

    def answers(self: Reading, watermark: Instance) -> list[Serve]:
        return original(self, Instance(1 << 60))

    patch(Reading, "answers", answers)


@_sabotage
def reads_ask_nobody(patch: Patch) -> None:
    """Any node answers reads from its own state."""

    def on_read(self: Replica, event: Read) -> None:
        self.emit(Serve((event.token,), 0))

    patch(Replica, "_on_read", on_read)


@_sabotage
def grant_to_an_earlier_life(patch: Patch) -> None:
    """A node takes what was granted to it before it was restarted."""
    original = Reading.on_grant

    def on_grant(self: Reading, grant: GrantRead) -> None:
        original(self, replace(grant, incarnation=self.incarnation))

    patch(Reading, "on_grant", on_grant)


# Sessions


@_sabotage
def forwarded_command_takes_effect_twice(patch: Patch) -> None:
    """What was sent again and chosen again is applied again."""

    def admit(self: Sessions, entry: Entry) -> bool:
        incarnation, sequence = self.last.get(entry.node, (0, 0))
        if entry.incarnation < incarnation or (
            entry.incarnation == incarnation and entry.sequence > sequence + 1
        ):
            return False
        self.last[entry.node] = (entry.incarnation, max(sequence, entry.sequence))
        return True

    patch(Sessions, "admit", admit)


@_sabotage
def commands_overtake_one_another(patch: Patch) -> None:
    """A command takes effect although one before it, of the same session, has not."""

    def is_next(self: Sessions, entry: Entry) -> bool:
        return (entry.incarnation, entry.sequence) > self.last.get(entry.node, (0, 0))

    patch(Sessions, "is_next", is_next)


@_sabotage
def sent_again_under_another_number(patch: Patch) -> None:
    """What is sent again after a change of leaders gets a new number."""
    original = Outbox.resend

    def resend(self: Outbox, bytes_max: int) -> list[list[Entry]]:
        for submission in self.sent:
            self.sequence += 1
            assert submission.entry is not None
            submission.entry = submission.entry._replace(sequence=self.sequence)
        return original(self, bytes_max)

    patch(Outbox, "resend", resend)


@_sabotage
def refused_although_it_was_sent(patch: Patch) -> None:
    """A client is told that its command was certainly not done, though it is under way."""
    original = Outbox.abandon

    def abandon(self: Outbox, now: float, patience: float) -> tuple[list[int], list[int]]:
        never, unknown = original(self, now, min(patience, 300.0))
        return never + unknown, []

    patch(Outbox, "abandon", abandon)


@_sabotage
def start_counter_stands_still(patch: Patch) -> None:
    """A node's second life has the number of its first."""
    original = Identity.born

    def born(self: Identity, life: str, bound_ms: int) -> Identity:
        identity = original(self, life, bound_ms)
        return replace(identity, starts=1)

    patch(Identity, "born", born)


# Time


@_sabotage
def expiry_by_the_local_clock(patch: Patch) -> None:
    """Each replica applies a batch at the time that its own clock shows."""
    original = Node.deliver

    def deliver(self: Node, deliver: Deliver) -> None:
        original(self, replace(deliver, time=self.driver.world.moment().clock))

    patch(Node, "deliver", deliver)


@_sabotage
def time_runs_backwards(patch: Patch) -> None:
    """The time is what the last batch says, earlier or later than the one before."""
    original = Replica._deliver

    def deliver(self: Replica, instance: Instance, value: Value) -> None:
        self.time = 0
        original(self, instance, value)

    def now(self: Leading) -> int:
        replica = self.replica
        return replica.clocks.bounded(replica.membership.at(self.next).acceptors)

    patch(Replica, "_deliver", deliver)
    patch(Leading, "_now", now)


@_sabotage
def one_clock_decides(patch: Patch) -> None:
    """The leader stamps by its own clock, whatever the others' show."""
    patch(Clocks, "bounded", lambda self, acceptors: self.moment.clock)


@_sabotage
def slowest_clock_decides(patch: Patch) -> None:
    """A stamp follows the lowest of all clocks that were told."""
    original = Clocks.bounded

    def bounded(self: Clocks, acceptors: tuple[str, ...]) -> int:
        stamp = original(self, acceptors)
        now = self.moment.now
        told = [distance for distance, at in self.distance.values() if now - at <= self.age_ms_max]
        return min(stamp, int(min(told) + now)) if stamp and told else stamp

    patch(Clocks, "bounded", bounded)


@_sabotage
def nobody_moves_time(patch: Patch) -> None:
    """What is due expires only when somebody writes."""
    patch(Node, "expire_due", lambda self: None)


@_sabotage
def short_lives_are_over_at_once(patch: Patch) -> None:
    """A value that is to live for less than a second is never there."""
    original = strings._expire_or_delete

    def expire_or_delete(keyspace: Any, key: bytes, at: int) -> bool:
        return original(keyspace, key, keyspace.time if at - keyspace.time < 1_000 else at)

    patch(strings, "_expire_or_delete", expire_or_delete)


@_sabotage
def leader_with_a_hanging_disk_stays(patch: Patch) -> None:
    """A leader whose disk hangs does not give up."""
    patch(Leading, "_disk_hangs", lambda self: False)
    patch(Leading, "_nobody_accepts", lambda self: False)


@_sabotage
def leader_that_is_told_to_stop_does_not_hand_over(patch: Patch) -> None:
    """A node that is told to stop stops, whether it leads or not."""

    async def give_way(self: RunningNode, within_s: float) -> None:
        """Nothing of that kind."""

    patch(RunningNode, "give_way", give_way)


# Leases


@_sabotage
def lease_binds_nobody(patch: Patch) -> None:
    """An acceptor that has granted a lease promises others what they like."""
    patch(Grant, "forbids", lambda self, ballot, released, now: False)


@_sabotage
def lease_is_forgotten_at_restart(patch: Patch) -> None:
    """A node's new life knows nothing of the leases that the old one granted."""
    patch(Grant, "forgotten_until", property(lambda self: float("-inf"), lambda self, value: None))


@_sabotage
def lease_outlives_its_time(patch: Patch) -> None:
    """A leader relies on a lease for three times as long as it was granted."""
    original = Lease.on_granted

    def on_granted(self: Lease, node: str, began_at: float, lease_ms: float) -> None:
        original(self, node, began_at, 3 * lease_ms)

    patch(Lease, "on_granted", on_granted)


@_sabotage
def lease_outlives_a_hand_over(patch: Patch) -> None:
    """A leader that has given way goes on relying on its lease."""
    patch(Lease, "is_given_up", property(lambda self: False, lambda self, value: None))


# Storage


@_sabotage
def nothing_is_synced(patch: Patch) -> None:
    """Blocks are written and not synced."""
    original = SimulatedFile.sync

    def sync(self: SimulatedFile) -> None:
        if not self.name.startswith("journal-"):
            original(self)

    patch(SimulatedFile, "sync", sync)


@_sabotage
def directory_is_not_synced(patch: Patch) -> None:
    """A new segment's name is not made durable."""

    def sync_directory(self: SimulatedDisk) -> None:
        self.count("sync directory", "")
        self.stable.update({name: self.latest[name] for name in self.latest if not name.endswith(".seg")})

    patch(SimulatedDisk, "sync_directory", sync_directory)


@_sabotage
def failed_sync_is_tried_again(patch: Patch) -> None:
    """After a failed sync the node syncs once more, which succeeds."""
    original = SimulatedFile.sync

    def sync(self: SimulatedFile) -> None:
        try:
            original(self)
        except StorageError:
            original(self)

    patch(SimulatedFile, "sync", sync)


@_sabotage
def torn_record_is_accepted(patch: Patch) -> None:
    """Checksums of the journal are not looked at."""
    patch(segment, "crc32c", lambda data, value=0: 0)


@_sabotage
def damage_is_skipped(patch: Patch) -> None:
    """Damage in the log is passed over: the node takes part as if nothing were missing."""
    patch(Replica, "_on_damaged", lambda self, event: None)


@_sabotage
def damage_at_the_end_is_no_doubt(patch: Patch) -> None:
    """A node whose last records are rotten does not ask what it may have accepted there."""
    patch(Doubt, "on_end", lambda self: setattr(self, "_is_open", False))


@_sabotage
def note_is_not_read(patch: Patch) -> None:
    """What was promised in the damaged end of the log is not taken back from the note beside it."""
    patch(Acceptor, "restore_from", lambda self, note: None)


@_sabotage
def empty_disk_votes(patch: Patch) -> None:
    """Nobody minds that a node has lost what it promised."""
    patch(Peers, "problem_of_ours", lambda self, greeting: "")
    patch(Peer, "problem_with", lambda self, life: "")


@_sabotage
def learned_values_are_not_written(patch: Patch) -> None:
    """A replica that learned a value writes down how far it has come, and not the value."""
    original = Driver._save

    def save(self: Driver, save: Save) -> None:
        kept = tuple(record for record in save.records if not isinstance(record, Learned))
        original(self, Save(kept, save.then))

    patch(Driver, "_save", save)


# Members, cuts and snapshots


@_sabotage
def change_holds_at_once(patch: Patch) -> None:
    """A change of members is in force with the very next instance, and not alpha later."""

    def change(self: Membership, chosen_at: Instance, configuration: Configuration) -> None:
        self.table.append((Instance(chosen_at + 1), configuration))

    patch(Membership, "change", change)


@_sabotage
def learners_vote(patch: Patch) -> None:
    """The vote of who only learns counts like an acceptor's."""

    def is_quorum(self: Configuration, nodes: Collection[str]) -> bool:
        return sum(node in nodes for node in self.members) >= self.quorum

    patch(Configuration, "is_quorum", is_quorum)


@_sabotage
def old_configuration_goes_on(patch: Patch) -> None:
    """Votes in the instances of a new configuration are counted by the one before it."""

    def at(self: Membership, instance: Instance) -> Configuration:
        return self.table[0][1]

    patch(Membership, "at", at)


@_sabotage
def sessions_are_missing_in_the_foundation(patch: Patch) -> None:
    """Who goes on from a snapshot does not know which commands have taken effect."""
    patch(Sessions, "of", classmethod(lambda cls, sessions: cls()))


@_sabotage
def promise_is_given_up_with_the_log(patch: Patch) -> None:
    """Before a part of the log is given up, the promises in it are not written down anew."""
    original = Replica._on_cut_off

    def on_cut_off(self: Replica, event: CutOff) -> None:
        original(self, event)
        save = self._effects[-1]
        assert isinstance(save, Save)
        kept = tuple(record for record in save.records if not isinstance(record, Promised))
        self._effects[-1] = Save(kept, save.then)

    patch(Replica, "_on_cut_off", on_cut_off)


@_sabotage
def log_is_cut_behind_the_newest_snapshot(patch: Patch) -> None:
    """The log is given up as far as the newest of the two snapshots reaches, not the older one."""
    original = Snapshotter._has_taken

    def has_taken(self: Snapshotter, info: Any) -> None:
        original(self, info)
        self.world.driver.handle(CutOff(Instance(info.instance)))

    patch(Snapshotter, "_has_taken", has_taken)


@_sabotage
def nothing_reported_below_the_cut_is_nothing_accepted(patch: Patch) -> None:
    """That a promise is silent about instances which its sender has cut off is taken for: there is nothing."""
    original = Proposer.on_promise

    def on_promise(self: Proposer, node: str, promise: Promise) -> bool:
        return original(self, node, replace(promise, chosen=Instance(0)))

    patch(Proposer, "on_promise", on_promise)


@_sabotage
def new_directory_keeps_its_acceptor(patch: Patch) -> None:
    """A directory in the place of a lost one takes part under the lost one's id."""
    original, problem_of_ours, problem_with = live.find_place, Peers.problem_of_ours, Peer.problem_with
    begun_anew = set[str]()

    async def find_place(host: Any, node_id: str, join: Any, cluster: str = "") -> Newcomer:
        found = await original(host, node_id, join, cluster)
        begun_anew.add(node_id)
        contacts = {node_id if each == found.acceptor else each: at for each, at in found.contacts.items()}
        return replace(found, acceptor=node_id, contacts=contacts)

    def ours(self: Peers, greeting: Any) -> str:
        return "" if self.myself.name in begun_anew else problem_of_ours(self, greeting)

    def theirs(self: Peer, life: Any) -> str:
        return "" if self.name in begun_anew else problem_with(self, life)

    patch(live, "find_place", find_place)
    patch(Peers, "problem_of_ours", ours)
    patch(Peer, "problem_with", theirs)


@_sabotage
def former_self_votes_for_its_successor(patch: Patch) -> None:
    """What a node's lost directory has accepted counts for the one that took its place, and the other way round."""

    def is_quorum(self: Configuration, nodes: Collection[str]) -> bool:
        names = {plain_name(node) for node in nodes}
        return sum(plain_name(node) in names for node in self.acceptors) >= self.quorum

    patch(Configuration, "is_quorum", is_quorum)


@_sabotage
def members_vote_before_they_have_learned(patch: Patch) -> None:
    """Who joins votes as soon as it is there."""
    original = Roster.next_step

    def next_step(self: Roster, voters: Any, learners: Any, able: Any) -> Any:
        return original(self, voters, learners, able | learners)

    patch(Roster, "next_step", next_step)


@_sabotage
def members_are_settled_on_the_leader_only(patch: Patch) -> None:
    """A change of members that was chosen is taken notice of in the roster of who leads, and nowhere else."""
    original = Node.deliver

    def deliver(self: Node, deliver: Deliver) -> None:
        is_leading = isinstance(self.driver.replica.phase, Leading)
        original(self, deliver if is_leading else replace(deliver, configuration=None))

    patch(Node, "deliver", deliver)


@_sabotage
def snapshot_lacks_the_members(patch: Patch) -> None:
    """Who belongs to the cluster is not in a snapshot."""
    original = Image.__init__

    def init(self: Image, database: Database, kept: bool) -> None:
        original(self, database, kept)
        self._roster = b""

    patch(Image, "__init__", init)


@_sabotage
def snapshot_holds_what_is_written_meanwhile(patch: Patch) -> None:
    """A key that is changed while a snapshot is taken is in it as it became, or not at all."""
    patch(Past, "note", lambda self, key, bucket: None)


@_sabotage
def snapshot_holds_a_later_instant(patch: Patch) -> None:
    """The state is taken a little later than a snapshot says."""
    original = Database.image

    class Later:
        def __init__(self, database: Database) -> None:
            begun = original(database)
            self.database, self.state = database, begun._state
            self.image: Image | None = None
            begun.close()

        def pieces(self) -> Iterator[bytes]:
            self.image = original(self.database)
            self.image._state = self.state
            return self.image.pieces()

        def close(self) -> None:
            if self.image is not None:
                self.image.close()

    patch(Database, "image", lambda self: Later(self))


@_sabotage
def snapshots_are_not_verified(patch: Patch) -> None:
    """Checksums and digests of a snapshot are not looked at, whether it was received or lay on the disk."""

    def pass_trailer(self: Any, data: bytes) -> None:
        self.is_over = True

    patch(snapshot, "crc32c", lambda data, value=0: 0)
    patch(snapshot._Walk, "_pass_trailer", pass_trailer)
    patch(loader, "crc32c", lambda data, value=0: 0)
    patch(image, "crc32c", lambda data, value=0: 0)


@_sabotage
def snapshots_names_are_not_synced(patch: Patch) -> None:
    """A snapshot is renamed when it is whole, and its new name is not made durable."""

    def sync_directory(self: SimulatedDisk) -> None:
        self.count("sync directory", "")
        kept = {name: inode for name, inode in self.stable.items() if name.startswith("snapshot-")}
        others = {name: inode for name, inode in self.latest.items() if not name.startswith("snapshot-")}
        self.stable = kept | others

    patch(SimulatedDisk, "sync_directory", sync_directory)


# The database and its front


@_sabotage
def exec_does_not_look_at_watched_keys(patch: Patch) -> None:
    """EXEC is done although a watched key has changed."""
    original = Transaction.__init__

    def init(self: Transaction, watched: Any, groups: Any) -> None:
        original(self, (), groups)

    patch(Transaction, "__init__", init)


@_sabotage
def half_of_a_transaction(patch: Patch) -> None:
    """On the replicas that are not its client's, a transaction ends after its first command."""
    original = Transaction.execute

    def execute(self: Transaction, database: Any) -> list[Reply]:
        if type(self) is Transaction:
            groups = [Group(number, calls[:1], raw) for number, calls, raw in self.groups[:1]]
            return original(Transaction(self.watched, groups), database)
        return original(self, database)

    patch(Transaction, "execute", execute)
    patch(Transaction, "apply", execute)


@_sabotage
def reads_do_not_wait_for_writes_before_them(patch: Patch) -> None:
    """A read of a pipeline does not wait for the writes before it."""
    original = Connection._begin

    def begin(self: Connection, run: Any) -> None:
        work = Work(self, run, size=0)
        if not work.needs_log and self._carrier is not None and not self._is_alone:
            work.enter()
            self.flight.append(work)
            self.state.node.read(work)
        else:
            original(self, run)

    patch(Connection, "_begin", begin)


@_sabotage
def replies_of_a_crowd_go_to_the_next(patch: Patch) -> None:
    """Of many clients that are answered together each gets the reply of the one before it."""
    original = Gathered._execute_crowd

    def execute_crowd(self: Gathered, crowd: Crowd, database: Database) -> None:
        crowd.connections = crowd.connections[1:] + crowd.connections[:1]
        original(self, crowd, database)

    patch(Gathered, "_execute_crowd", execute_crowd)


@_sabotage
def what_is_as_long_is_cut_in_the_same_places(patch: Patch) -> None:
    """Of requests that are as long as known ones it is not proved that they have words of the same lengths."""

    def columns(self: Shape, data: bytes) -> Columns:
        fields = self._cut_up(data)
        count = len(data) // self.size
        return [[self.name] * count, *[fields[cut] for cut in self._columns]]

    patch(Shape, "columns", columns)


@_sabotage
def once_is_not_remembered(patch: Patch) -> None:
    """A command with an id is executed each time it is asked for."""
    patch(Once, "remember", lambda self, id_, instance, reply: reply)


@_sabotage
def once_is_remembered_by_the_clients_node_only(patch: Patch) -> None:
    """On the replicas that are not its client's, an id is not remembered."""
    remember = Once.remember
    is_elsewhere = False

    def remember_here(self: Once, id_: bytes, instance: int, reply: Reply) -> Reply:
        return reply if is_elsewhere else remember(self, id_, instance, reply)

    def apply_elsewhere(database: Any, payload: Any) -> None:
        nonlocal is_elsewhere
        is_elsewhere = True
        try:
            apply(database, payload)
        finally:
            is_elsewhere = False

    patch(Once, "remember", remember_here)
    patch(node_module, "apply", apply_elsewhere)


@_sabotage
def once_is_remembered_without_its_reply(patch: Patch) -> None:
    """An id is remembered without its reply: the next who asks is told that there is none."""
    original = Once.remember

    def remember(self: Once, id_: bytes, instance: int, reply: Reply) -> Reply:
        original(self, id_, instance, None)
        return reply

    patch(Once, "remember", remember)


@_sabotage
def fenced_does_not_look_at_the_token(patch: Patch) -> None:
    """What is to be done behind a token is done, whoever holds the lock."""
    patch(Locks, "demand", lambda self, name, token: None)


@_sabotage
def unlock_ignores_the_token(patch: Patch) -> None:
    """Whoever says so frees the lock."""

    def release(self: Locks, name: bytes, token: int) -> bool:
        if self.holder(name) is None:
            return False
        self._clear(name)
        return True

    patch(Locks, "release", release)


@_sabotage
def tokens_are_counted_for_each_holder(patch: Patch) -> None:
    """When a lock was free, its tokens begin anew."""
    original = Locks.take

    def take(self: Locks, name: bytes, until: int, instance: int) -> int | None:
        self.last_token = 0
        return original(self, name, until, 1)

    patch(Locks, "take", take)


@_sabotage
def lock_ends_before_its_time(patch: Patch) -> None:
    """A lock lives for half of the time that its holder was promised."""
    original = Locks._keep_until

    def keep_until(self: Locks, name: bytes, until: int) -> None:
        original(self, name, self.time + (until - self.time) // 2)

    patch(Locks, "_keep_until", keep_until)


@_sabotage
def waiting_is_in_the_order_of_nodes(patch: Patch) -> None:
    """Those who wait on one node come before those on another, whoever came first."""
    original = Queues._add

    def add(self: Queues, waiter: Waiter) -> None:
        original(self, waiter)
        for place in waiter.places:
            self.lines[place] = OrderedDict.fromkeys(sorted(self.lines[place]))

    patch(Queues, "_add", add)


@_sabotage
def who_is_called_is_served_whether_it_comes_or_not(patch: Patch) -> None:
    """An element is taken for who is called, and kept for it."""
    call, execute = Database.call, Turn.execute
    kept: WeakKeyDictionary[Database, dict[Who, list[bytes]]] = WeakKeyDictionary()

    def call_and_take(self: Database) -> None:
        queues = self.shared.queues
        before = len(queues.calls)
        call(self)
        for who in queues.calls[before:]:
            for kind, number, name in queues.waiters[who].places:
                keyspace = self.keyspaces[number]
                if kind == List.kind and keyspace.find_as(name, List) is not None:
                    element = lists.pop(keyspace, name, at_left=True, count=1)
                    kept.setdefault(self, {}).setdefault(who, [name, *element])

    def execute_or_give(self: Turn, database: Database) -> list[Reply]:
        reply = kept.get(database, {}).pop(self.who, None)
        if reply is None:
            return execute(self, database)
        database.shared.queues.leave(self.who)
        return [reply]

    patch(Database, "call", call_and_take)
    patch(Turn, "execute", execute_or_give)


@_sabotage
def snapshot_lacks_those_who_wait(patch: Patch) -> None:
    """Who waits is not in a snapshot."""
    original = Image.__init__

    def init(self: Image, database: Database, kept: bool) -> None:
        original(self, database, kept)
        self._waiters = []

    patch(Image, "__init__", init)


@_sabotage
def after_does_not_wait(patch: Patch) -> None:
    """A read behind an instance is answered before this node has applied it."""

    def begin_after(self: Connection, work: Work, instance: int) -> None:
        work.execute(self.state.node.database)

    patch(Connection, "_begin_after", begin_after)


# What was found in this very program, put back


@_sabotage
def timer_fires_before_its_time(patch: Patch) -> None:
    """A timer's rounding makes it fire just too early, be set again, and so on."""
    patch(SimulatedHost, "timer_hair_s", 0.0)


@_sabotage
def damaged_length_makes_a_link_mute(patch: Patch) -> None:
    """The length of a frame is believed; a damaged one is noticed only when so much has arrived."""

    def feed(self: FrameReader, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        at = 0 if self._greeted else len(frames.PREAMBLE)
        if len(self._buffer) < at:
            return
        self._greeted = True
        while len(self._buffer) - at >= 12:
            size, checksum, _ = frames._HEADER.unpack_from(self._buffer, at)
            if size > self.bytes_max:
                raise BadPeer("too large")
            end = at + 12 + size
            if len(self._buffer) < end:
                break
            contents = bytes(memoryview(self._buffer)[at + 12 : end])
            if crc32c(contents) != checksum:
                raise BadPeer("damaged")
            at = end
            yield contents
        del self._buffer[:at]

    patch(FrameReader, "feed", feed)


SEEN_BY_STORIES = frozenset({"damage-at-the-end-is-no-doubt", "note-is-not-read"})
"""What these need comes together in one of several hundred worlds only: stories show them (`test_sim_scenarios_rot`)."""
