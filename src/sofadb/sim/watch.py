"""The watch: sees every step of every replica, and has the invariants judged.

A watched node is the production node; between its parts stand functions of the watch that look and pass on. The watch sees each
event with its effects, each message as it leaves, each record when it has become stable, each value when it is applied and each
read when it is answered. It changes nothing.

It also keeps the trace: a running checksum of what happened, for telling whether two runs are the same, and, if somebody
wants to read it, the story.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from zlib import crc32

from sofadb.database.database import Database
from sofadb.node.driver import Driver
from sofadb.node.live import LiveWorld
from sofadb.node.node import Node
from sofadb.paxos import (
    NO_BALLOT,
    Ballot,
    Configuration,
    Deliver,
    Effect,
    Event,
    Foundation,
    Founded,
    Message,
    Moment,
    NodeId,
    Read,
    Received,
    Reconfigure,
    Record,
    Recovered,
    Replica,
    Serve,
    Started,
    Value,
)
from sofadb.paxos.campaigning import Campaigning
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Accept, Promise

from .invariants import (
    Ledger,
    Life,
    Violation,
    accepting_is_promising,
    changes_are_equal,
    foundations_are_equal,
    message_leaves,
    nothing_is_forgotten,
    one_leader_per_ballot,
    promise_never_falls,
    proposals_follow_the_highest_report,
    reads_see_what_was_known,
    record_became_stable,
    states_are_equal,
    the_forgetful_take_no_part,
    time_is_bounded,
    value_was_applied,
    voters_have_learned,
)

DIGEST_EVERY = 16
"""Whole states are compared after every so many instances, where snapshots begin and end, and by whoever asks.
What was changed is compared after each instance."""


class Recorder(Protocol):
    """Whoever writes down what happened, for instance to have it judged by the specification."""

    def stepped(self, node: str, event: Event, effects: list[Effect]) -> None: ...

    def stable(self, node: str, records: tuple[Record, ...]) -> None: ...

    def crashed(self, node: str) -> None: ...

    def restarted(self, node: str) -> None: ...

    def forgetful(self, node: str) -> None: ...


class Watch:
    """Over one cluster. A violation found is raised at once, and also kept: nobody can swallow it."""

    def __init__(self, configuration: Configuration, alpha: int, now: Callable[[], float]) -> None:
        """`now` is the simulated time in seconds."""
        self.ledger = Ledger(configuration, alpha)
        self.now = now
        self.violation: Violation | None = None
        self.forgetful: dict[str, None] = {}
        """The ids of lives that were begun on a disk that had lost its past."""
        self.right_time: Callable[[], tuple[int, int]] | None = None
        """The right time and how far ahead of it a stamp may be (milliseconds), while few enough clocks are wrong."""
        self.steps = 0
        self.trace = 0
        """A checksum of everything that happened so far."""
        self.story: Callable[[str, object, list[Effect]], None] | None = None
        self.recorder: Recorder | None = None
        self.leaders_seen = 0
        self.excused: set[NodeId] = set()
        """Acceptors whose state somebody has changed on purpose: it need not be that of the others."""

    def found(self, violation: Violation) -> Violation:
        """Keep what was found first."""
        if self.violation is None:
            self.violation = violation
        return violation

    def ended(self, node: NodeId) -> None:
        """The process of `node` is no more."""
        if self.recorder is not None:
            self.recorder.crashed(node)

    def driver(self, replica: Replica, world: LiveWorld, node: Node) -> Driver:
        """In the place of `Driver(...)`: one that is watched."""
        return _Watched(self, replica, world, node).driver


class _Watched:
    """One life of one node."""

    def __init__(self, watch: Watch, replica: Replica, world: LiveWorld, node: Node) -> None:
        self.watch = watch
        self.replica = replica
        self.world = world
        self.node = node
        self.life: Life = (replica.me, replica.outbox.incarnation)
        self.promised = NO_BALLOT
        self.phase: object = None
        self.applied = 0
        self.is_forgetful = False
        """Whether its disk has lost its past."""
        self.is_read = False
        """Whether it has read everything back ..."""
        self.has_started = False
        """... on a disk that has kept its past, or has made good what was lost of it."""
        self.reports: dict[NodeId, dict[int, tuple[Ballot, Value]]] = {}
        """What each node has reported to the present campaign, or to the one that led to the present leadership."""
        self.proposed: set[int] = set()
        """In which instances the present leadership has proposed something."""
        self.floors: dict[int, int] = {}
        """For each read that waits, what was known when it was asked."""
        self._step, replica.step = replica.step, self.step  # type: ignore[method-assign]
        self._send, world.send = world.send, self.send  # type: ignore[method-assign]
        self._save, world.save = world.save, self.save  # type: ignore[method-assign]
        self._deliver, node.deliver = node.deliver, self.deliver  # type: ignore[method-assign]
        self._serve, node.serve = node.serve, self.serve  # type: ignore[method-assign]
        self._begin_from, node.begin_from = node.begin_from, self.begin_from  # type: ignore[method-assign]
        self._foundation, replica.foundation = replica.foundation, self.foundation  # type: ignore[method-assign]
        self.driver = Driver(replica, world, node)
        if watch.recorder is not None:
            watch.recorder.restarted(replica.me)

    def step(self, event: Event, moment: Moment) -> list[Effect]:
        watch, replica = self.watch, self.replica
        me = replica.me
        if type(event) is Started:
            self.is_forgetful = self.world.peers.myself.life.id in watch.forgetful
            if self.is_forgetful and watch.recorder is not None:
                watch.recorder.forgetful(me)
        effects = self._step(event, moment)
        watch.steps += 1
        if watch.recorder is not None:
            watch.recorder.stepped(me, event, effects)
        try:
            self._judge(event)
        except Violation as violation:
            raise watch.found(violation) from None
        what = event.message if type(event) is Received else event
        words = f"{watch.now():.9f}{me}{type(what).__name__}{replica.sequence.watermark}{len(effects)}"
        watch.trace = crc32(words.encode(), watch.trace)
        if watch.story is not None:
            watch.story(me, event, effects)
        return effects

    def _judge(self, event: Event) -> None:
        ledger, replica = self.watch.ledger, self.replica
        kind = type(event)
        if kind is Received:
            if isinstance(event.message, Promise):  # type: ignore[union-attr]
                self._note_report(event.sender, event.message)  # type: ignore[union-attr]
            if event.sender == replica.me:  # type: ignore[union-attr]
                message_leaves(ledger, self.life, event.message)  # type: ignore[union-attr]
            elif self.watch.forgetful:
                self._judge_sender(event.sender)  # type: ignore[union-attr]
        elif kind is Read:
            self.floors[event.token] = ledger.visible  # type: ignore[union-attr]
        elif kind is Founded:
            foundation = event.foundation  # type: ignore[union-attr]
            foundations_are_equal(ledger, replica.me, foundation)
            ledger.known[replica.me] = max(ledger.known.get(replica.me, 0), foundation.instance)
        elif kind is Reconfigure and isinstance(replica.phase, Leading):
            voters_have_learned(ledger, replica, event.configuration)  # type: ignore[union-attr]
        elif kind is Recovered:
            record_became_stable(ledger, replica.me, event.record, is_new=False)  # type: ignore[union-attr]
        elif kind is Started:
            self.is_read = True
        if self.is_read and not (self.has_started or self.is_forgetful or replica.is_in_doubt):
            nothing_is_forgotten(ledger, replica.me, replica.acceptor)
            self.has_started = True
        promised = replica.acceptor.promised
        if self.has_started and promised < ledger.promised.get(replica.me, NO_BALLOT):
            accepting_is_promising(ledger, replica.me, promised)
        if promised is not self.promised:
            promise_never_falls(replica.me, self.promised, promised)
            self.promised = promised
        phase = replica.phase
        if phase is not self.phase:
            self.phase = phase
            self.proposed = set()
            if isinstance(phase, Campaigning):
                self.reports = {}
            elif isinstance(phase, Leading):
                self.watch.leaders_seen += 1
                one_leader_per_ballot(ledger, self.life, phase.ballot)

    def _note_report(self, sender: NodeId, promise: Promise) -> None:
        phase = self.phase  # Who leads goes on to ask those whom a change has made acceptors.
        if isinstance(phase, Campaigning | Leading) and promise.ballot == phase.ballot:
            report = self.reports.setdefault(sender, {})
            report.update({instance: (ballot, value) for instance, ballot, value in promise.reported})

    def _judge_sender(self, sender: NodeId) -> None:
        peer = self.world.peers.known.get(sender)
        if peer is not None and peer.life is not None:
            the_forgetful_take_no_part(self.replica.me, sender, peer.life.id, self.watch.forgetful)

    def send(self, to: NodeId, message: Message) -> None:
        try:
            message_leaves(self.watch.ledger, self.life, message)
            if isinstance(message, Accept) and isinstance(self.phase, Leading):
                self._judge_proposal(message, self.phase)
        except Violation as violation:
            raise self.watch.found(violation) from None
        self._send(to, message)

    def _judge_proposal(self, accept: Accept, phase: Leading) -> None:
        """The first time: it stays what it is, whatever somebody reports who promises after that."""
        if accept.instance not in self.proposed:
            self.proposed.add(accept.instance)
            promised_by = phase.proposer.promised_by
            proposals_follow_the_highest_report(self.replica.me, accept, self.reports, promised_by)

    def save(self, records: tuple[Record, ...], done: Callable[[], None]) -> None:
        self._save(records, lambda: self.stable(records, done))

    def stable(self, records: tuple[Record, ...], done: Callable[[], None]) -> None:
        try:
            for record in records:
                record_became_stable(self.watch.ledger, self.replica.me, record)
        except Violation as violation:
            raise self.watch.found(violation) from None
        if self.watch.recorder is not None and records:
            self.watch.recorder.stable(self.replica.me, records)
        done()

    def foundation(self) -> Foundation:
        foundation = self._foundation()
        self._judge_foundation(foundation)
        return foundation

    def _judge_foundation(self, foundation: Foundation) -> None:
        ledger, node = self.watch.ledger, self.node
        try:
            foundations_are_equal(ledger, self.replica.me, foundation)
            states_are_equal(ledger, self.replica.me, node.applied, node.database.digest())
        except Violation as violation:
            raise self.watch.found(violation) from None

    def begin_from(self, instance: int, database: Database) -> None:
        try:
            states_are_equal(self.watch.ledger, self.replica.me, instance, database.digest())
            changes_are_equal(self.watch.ledger, self.replica.me, instance, database.rolling)
        except Violation as violation:
            raise self.watch.found(violation) from None
        self._note_applied(instance)
        self._begin_from(instance, database)

    def _note_applied(self, instance: int) -> None:
        self.applied = instance
        learned = self.watch.ledger.learned
        learned[self.replica.me] = max(learned.get(self.replica.me, 0), instance)

    def deliver(self, deliver: Deliver) -> None:
        watch, ledger = self.watch, self.watch.ledger
        me, instance = self.replica.me, deliver.instance
        try:
            is_first = instance not in ledger.delivered
            value_was_applied(ledger, me, self.applied, deliver)
            if is_first and watch.right_time is not None:
                right, bound = watch.right_time()
                time_is_bounded(instance, deliver.time, right, bound)
            self._note_applied(instance)
            self._deliver(deliver)
            if me not in watch.excused:
                changes_are_equal(ledger, me, instance, self.node.database.rolling)
            if instance % DIGEST_EVERY == 0 and me not in watch.excused:
                states_are_equal(ledger, me, instance, self.node.database.digest())
        except Violation as violation:
            raise watch.found(violation) from None
        if any(token is not None for token, _ in deliver.entries):
            ledger.visible = max(ledger.visible, instance)

    def serve(self, serve: Serve) -> None:
        ledger = self.watch.ledger
        for token in serve.tokens:
            try:
                reads_see_what_was_known(self.replica.me, self.floors.pop(token), self.node.applied)
            except Violation as violation:
                raise self.watch.found(violation) from None
        ledger.visible = max(ledger.visible, self.node.applied)
        self._serve(serve)
