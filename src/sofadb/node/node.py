"""One replica of the database: the only place where the sequence and the state machine meet.

Clients' work comes in from the server and is gathered: everything that arrives in one turn of the event loop becomes one
submission (and, at the leader, part of one batch). As long as the leader has a batch under way that left just now, what its own
clients write is gathered on, and so is what they read, as long as other reads of theirs are under way; and then those are heard
first who were answered. When the submission comes up in the sequence, the work is executed on this node's own state in that
place, and its replies go back; the same entry, in bytes, is applied by all other replicas. Reads wait for a grant and are then
executed on the state as it is.

The node knows nothing of protocols and sockets; work is an object that it encodes, executes, or fails (`Work`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from sofadb.database.database import Database
from sofadb.database.replies import ReplyError
from sofadb.database.runs import apply
from sofadb.paxos import Abandon, Deliver, HandOver, KeepLead, Leads, MoveTime, NodeId, Read, Serve, Submit
from sofadb.paxos.leading import Leading
from sofadb.unlikely import possible, unlikely

from .driver import Driver

NO_REPLICAS = "NOREPLICAS Not enough replicas can be reached. The command was not executed, and will not be."
OVERLOADED = "NOREPLICAS This node holds as many commands as it may. The command was not executed; try again."
DISK_FULL = (
    "NOREPLICAS This node's disk is full: it takes no writes until there is room again, and does not learn of those of others. "
    "The command was not executed, and will not be; try another node."
)
UNCERTAIN = "UNCERTAIN The outcome is not known: the command may have been executed, or may be yet."

APART_MS = 4.0
"""So long after reads, or a batch, were handed on, others are, although those are under way ..."""
LARGE_BATCH_BYTES = 256 << 10
"""... and a batch at once, if the one under way is as large as this."""
HEARD_PART, HEAR_MS = 0.97, 2.0
"""A leader waits for those who were answered until so much of what they had asked is asked anew, for so long at most; or until it
has become quiet (`Patience`)."""
LOOK_S_MIN = 0.001
"""No timer is shorter: one that is a hair early would be set again and again."""
SUBMISSION_BYTES_MAX = 1 << 20
"""Work of one turn beyond this size goes into a further submission."""


class Work(Protocol):
    """What connections ask in one go. Exactly one of `execute` and `fail` is called, once."""

    @property
    def size(self) -> int:
        """Bytes of the requests. It may grow until the work is handed on."""

    def encode(self) -> bytes:
        """What every replica has to execute: a section of an entry."""

    def execute(self, database: Database) -> None:
        """Do it, and keep or send the replies."""

    def fail(self, error: ReplyError) -> None:
        """It is not done, or nobody knows."""


class Patience(NamedTuple):
    """With those who were answered."""

    quiet_turns: int
    """They are not waited for any more when so many turns of the event loop brought nothing, ..."""
    large_bytes: int
    """... nor, where as much as this was answered or waits, ..."""
    enough_bytes: int
    """... as soon as this much waits."""


WRITERS, READERS = Patience(6, LARGE_BATCH_BYTES, 64 << 10), Patience(3, 8 << 10, 8 << 10)
"""A round of readers costs so little that to wait longer for more of them costs as much."""


class _Hearing:
    """Waits a moment for those who were answered, so that what they ask next goes along with what waits already.

    Meanwhile others on this machine have its processor, who may be the very ones that are waited for.
    """

    __slots__ = (
        "_awaited_bytes",
        "_call_soon",
        "_let_others_run",
        "_now",
        "_patience",
        "_quiet_turns",
        "_seen_bytes",
        "_then",
        "_until",
        "_works",
        "is_on",
    )

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        now: Callable[[], float],
        let_others_run: Callable[[], None],
        works: Callable[[], list[Work]],
        patience: Patience,
        then: Callable[[], None],
    ) -> None:
        """`now` is the monotonic clock (milliseconds); `works` are those that wait; `then` is called when that is over."""
        self._call_soon = call_soon
        self._now = now
        self._let_others_run = let_others_run
        self._works = works
        self._patience = patience
        self._then = then
        self.is_on = False
        self._awaited_bytes = 0.0
        self._seen_bytes = self._quiet_turns = 0
        self._until = 0.0

    def begin(self, answered_bytes: int) -> None:
        """Something is done, and those whose requests, of so many bytes, were answered may ask again."""
        if not self.is_on:
            self.is_on = True
            self._seen_bytes, self._quiet_turns = self._waiting_bytes(), 0
            self._awaited_bytes = self._seen_bytes + HEARD_PART * answered_bytes
            if max(self._seen_bytes, answered_bytes) >= self._patience.large_bytes:
                self._awaited_bytes = self._patience.enough_bytes
            self._until = self._now() + HEAR_MS
            self._call_soon(self._look)

    def _look(self) -> None:
        size = self._waiting_bytes()
        self._quiet_turns = self._quiet_turns + 1 if size == self._seen_bytes else 0
        self._seen_bytes = size
        is_quiet = self._quiet_turns >= self._patience.quiet_turns
        if not is_quiet and size < self._awaited_bytes and self._now() < self._until:
            self._let_others_run()
            self._call_soon(self._look)
        else:
            self.is_on = False
            self._then()

    def _waiting_bytes(self) -> int:
        works = self._works()
        return sum([work.size for work in works]) if works else 0


class Node:
    """Gathers work, and executes it when its time has come."""

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        call_later: Callable[[float, Callable[[], None]], object],
        now: Callable[[], float],
        let_others_run: Callable[[], None],
        members: dict[NodeId, str] | None = None,
    ) -> None:
        """`call_soon` and `call_later` are an event loop's, `now` (milliseconds) and `let_others_run` a `Host`'s; `members` are
        those whom the cluster began with: names and addresses."""
        self.database = Database(members)
        self.driver: Driver
        self.applied = 0
        """The last instance applied to the database."""
        self.on_leader: list[Callable[[NodeId], None]] = []
        """Told the id of each new leader."""
        self.on_applied: list[Callable[[], None]] = []
        """Called after each batch."""
        self.on_handing_on: list[Callable[[bool], None]] = []
        """Called before writes (True) or reads are handed on. What is given us before that may be put together."""
        self.on_founded: list[Callable[[], None]] = []
        """Called when the state is another, of which it is not known how it came about."""
        self.is_short_of_space: Callable[[], bool] = lambda: False
        """Whether there is no room on our disk for what is written."""
        self.handed_on = 0
        """How often something was handed on."""
        self._call_soon = call_soon
        self._flush_is_due = False
        self._call_later = call_later
        self._now = now
        self._is_holding = self._is_released = self._is_timed = False
        """Whether writes wait until a batch is done; whether it is done, and those who were answered were heard; whether a timer
        is set."""
        self._reads_are_timed = False
        """Whether a timer is set for reads that wait."""
        self._writes: list[Work] = []
        self._reads: list[Work] = []
        self._writers = _Hearing(call_soon, now, let_others_run, lambda: self._writes, WRITERS, self._release)
        self._readers = _Hearing(
            call_soon, now, let_others_run, lambda: self._reads, READERS, self._release_reads
        )
        self._token = 0
        self._waiting: dict[int, list[Work]] = {}

    # From the server

    def submit(self, work: Work) -> None:
        """A write: it goes through the sequence, after everything submitted on this node before it."""
        self._writes.append(work)
        self._flush_soon()

    def read(self, work: Work) -> None:
        """A read: it is executed when this state is known to hold everything acknowledged before now."""
        self._reads.append(work)
        self._flush_soon()

    @property
    def is_waited_for(self) -> bool:
        """Whether anybody waits for an answer."""
        return bool(self._waiting or self._writes or self._reads)

    @property
    def front(self) -> bytes:
        """What tells this node's clients, in this life of it, from all others that there ever were."""
        outbox = self.driver.replica.outbox
        return b"%b/%d" % (outbox.node.encode(), outbox.incarnation)

    def hand_over(self, to: NodeId | None, within_ms: float) -> None:
        """If this node leads, let `to`, or whoever is best prepared, lead instead."""
        self.driver.handle(HandOver(to, within_ms))

    def keep_lead(self) -> None:
        """Do not hand over after all."""
        self.driver.handle(KeepLead())

    @property
    def _leads(self) -> bool:
        return isinstance(self.driver.replica.phase, Leading)

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._call_soon(self._flush)

    def _flush(self) -> None:
        """Hand on what came in during this turn."""
        if possible and unlikely("work a turn later"):
            self._call_soon(self._flush)
            return
        self._flush_is_due = False
        if self._writes and not self._hold():
            self._flush_writes()
        if self._reads and unlikely("read another time"):
            self._flush_soon()
        elif self._reads and not self._hold_reads():
            self._before_handing_on(False)
            reads, self._reads = self._reads, []
            self.driver.handle(Read(self._wait_for(reads)))

    def _hold_reads(self) -> bool:
        """Whether reads wait for the end of those that were handed on just now.

        Where we lead they are not answered later for it, since they would wait for the next round of confirmation anyway; and
        many at a time cost less.
        """
        if self._readers.is_on:
            return True
        asked_at = self.driver.replica.reading.asked_at if self._leads else None
        if asked_at is None:
            return False
        wait_s = (asked_at + APART_MS - self._now()) / 1000
        if wait_s > 0 and not self._reads_are_timed:
            self._reads_are_timed = True
            self._call_later(max(wait_s, LOOK_S_MIN), self._look_at_reads)
        return wait_s > 0

    def _look_at_reads(self) -> None:
        self._reads_are_timed = False
        self._release_reads()

    def _release_reads(self) -> None:
        if self._reads:
            self._flush_soon()

    def _hold(self) -> bool:
        """Whether writes wait, since a batch is under way. They wait for as long as that is worth it, or until a batch is done
        and those who were answered are heard again."""
        if self._writers.is_on:
            return True
        wait_s = 0.0 if self._is_released else self._worth_waiting_s()
        self._is_holding = wait_s > 0
        if self._is_holding and not self._is_timed:
            self._is_timed = True
            self._call_later(max(wait_s, LOOK_S_MIN), self._look)
        return self._is_holding

    def _worth_waiting_s(self) -> float:
        """How long writes wait at most.

        Few large batches cost less than many small ones, and where the way is short, one at a time is enough: the next one
        holds all that came in meanwhile. But behind one that takes the disks long, to begin early is worth more.
        """
        phase = self.driver.replica.phase
        last = phase.last_proposed if isinstance(phase, Leading) else None
        if last is None:
            return 0.0
        proposed_at, size = last
        if size >= LARGE_BATCH_BYTES:
            return 0.0
        return (proposed_at + APART_MS - self._now()) / 1000

    def _look(self) -> None:
        self._is_timed = False
        if self._is_holding and not self._hold():
            self._flush_soon()

    def _release(self) -> None:
        """What was held goes: a batch is done, and those who were answered were heard."""
        self._is_holding, self._is_released = False, bool(self._writes)
        if self._writes:
            self._flush_soon()

    def _flush_writes(self) -> None:
        self._is_released = False
        self._before_handing_on(True)
        works, self._writes = self._writes, []
        if works and self.is_short_of_space():
            for work in works:
                work.fail(ReplyError(DISK_FULL))
            works = []
        begin, size, sections = 0, 0, list[bytes]()
        bytes_max = 0 if possible and unlikely("submission of one work") else SUBMISSION_BYTES_MAX
        for index, work in enumerate(works):
            sections.append(work.encode())
            size += len(sections[-1])
            if size >= bytes_max or index == len(works) - 1:
                token = self._wait_for(works[begin : index + 1])
                self.driver.handle(Submit(token, sections[0] if len(sections) == 1 else b"".join(sections)))
                begin, size, sections = index + 1, 0, []

    def _before_handing_on(self, writes: bool) -> None:
        self.handed_on += 1
        for call in self.on_handing_on:
            call(writes)

    def _wait_for(self, works: list[Work]) -> int:
        self._token += 1
        self._waiting[self._token] = works
        return self._token

    # From the driver

    def begin_from(self, instance: int, database: Database) -> None:
        """Go on from a snapshot: this is the state after `instance`."""
        assert instance > self.applied
        database.take_over(self.database)
        self.database, self.applied = database, instance
        for call in self.on_founded:
            call()

    def deliver(self, deliver: Deliver) -> None:
        """Apply what was chosen; work that waits here for it is executed in its place, with its replies."""
        database = self.database
        database.begin(deliver.instance, deliver.time)
        answered_bytes = 0
        for token, entry in deliver.entries:
            works = None if token is None else self._waiting.pop(token, None)
            if works is None:
                apply(database, entry.payload)
            else:
                for work in works:
                    answered_bytes += work.size
                    work.execute(database)
        if (configuration := deliver.configuration) is not None:
            database.shared.roster.settle(configuration.acceptors, configuration.learners)
        self.applied = deliver.instance
        for call in self.on_applied:
            call()
        if self._is_holding or (answered_bytes and self._leads):
            self._writers.begin(answered_bytes)

    def serve(self, serve: Serve) -> None:
        """These reads see everything they must see now."""
        self.database.clock = max(self.database.time, serve.stamp)
        answered_bytes = 0
        for token in serve.tokens:
            for work in self._waiting.pop(token):
                answered_bytes += work.size
                work.execute(self.database)
        if self._leads:
            self._readers.begin(answered_bytes)

    def abandon(self, abandon: Abandon) -> None:
        """Nobody need wait any longer."""
        never = DISK_FULL if self.is_short_of_space() else NO_REPLICAS
        text = OVERLOADED if abandon.overloaded else never if abandon.certain else UNCERTAIN
        for token in abandon.tokens:
            error = ReplyError(text)
            for work in self._waiting.pop(token, ()):
                work.fail(error)

    def leads(self, leads: Leads) -> None:
        """Somebody leads who did not: whoever wants to know it is told."""
        for listener in self.on_leader:
            listener(leads.ballot.node)

    # Time

    def expire_due(self) -> float | None:
        """If we lead and keys expire, let time move as far as it may. Returns in how many milliseconds to look again."""
        due = self.database.next_expiry()
        if due is None or not self._leads:
            return None
        if unlikely("expiry now"):
            due = self.driver.world.moment().clock
        self.driver.handle(MoveTime(due))
        return max(5.0, float(due - self.driver.world.moment().clock))
