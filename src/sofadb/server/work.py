"""What a connection has under way: a run of its commands, from its beginning until it is executed, or fails."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sofadb.database.budget import Cost, estimate
from sofadb.database.replies import NULL_ARRAY, Reply, ReplyError, Waits
from sofadb.database.runs import Call, Run, Transaction, Turn
from sofadb.database.table import Route, check
from sofadb.node.node import NO_REPLICAS

from .waiting import Leaves

if TYPE_CHECKING:
    from sofadb.database.database import Database

    from .connection import Connection
    from .state import ServerState

NO_OUTCOME = ReplyError(NO_REPLICAS)
NOT_YET_APPLIED = ReplyError(
    "NOREPLICAS This node has not come to that instance. Nothing was read; try again."
)


class Watch(Run):
    """WATCH. If it fails, the EXEC that relies on it must not be done."""


class Work:
    """A run on its way. The node calls `execute` or `fail`, once."""

    __slots__ = (
        "behind",
        "commands",
        "connection",
        "is_done",
        "is_local",
        "needs_log",
        "replies",
        "run",
        "seconds",
        "size",
    )

    def __init__(self, connection: Connection, run: Run | Transaction, size: int) -> None:
        self.connection = connection
        self.run = run
        if isinstance(run, Transaction):
            self.commands = sum(len(group.calls) for group in run.groups)
        else:
            self.commands = len(run.group.calls)
        self.size = size
        """What it holds of requests."""
        self.needs_log = run.needs_log
        self.behind: Sequence[Work] = ()
        """Runs of reads that are executed right after this one."""
        self.replies: Sequence[Reply] = ()
        self.is_done = False
        self.is_local = False
        """Whether it needs no node: it is executed when what is before it is answered."""
        self.seconds = 0.0
        """How long its execution took."""

    def encode(self) -> bytes:
        """What every replica has to execute."""
        return self.run.encode()

    def execute(self, database: Database) -> None:
        """Do it on this node's state, in its place."""
        for work in (self, *self.behind):
            work.perform(database)
        self.connection.work_done()

    def perform(self, database: Database) -> None:
        """As `execute`, and nobody is told yet."""
        begun = perf_counter()
        self.replies = self.run.execute(database)
        self.seconds = perf_counter() - begun
        self.is_done = True
        self.leave()
        if self.needs_log and self.replies[0] is not NULL_ARRAY:
            self.connection.last_instance = database.instance

    def fail(self, error: ReplyError) -> None:
        """It is not done, or nobody knows. What concerns only the connection is done all the same."""
        for work in (self, *self.behind):
            work.do_without_state(error)
        self.connection.work_done()

    def do_without_state(self, error: ReplyError) -> None:
        """Answer without a state: what concerns it fails with `error`. (A read has no outcome that one could not know.)"""
        if isinstance(self.run, Watch):
            self.connection.watch_failed = True
        begun = perf_counter()
        if isinstance(self.run, Transaction):
            self.replies = [error]
        else:
            harmless = NO_OUTCOME if str(error).startswith("UNCERTAIN") else error
            self.replies = [
                _without_state(call, error if self.needs_log and is_write(call) else harmless)
                for call in self.run.group.calls
            ]
        self.seconds = perf_counter() - begun
        self.is_done = True
        self.leave()

    def enter(self) -> None:
        """It counts from now on among what the node holds."""
        state = self.connection.state
        state.begun_commands += self.commands
        state.begun_bytes += self.size

    def leave(self) -> None:
        """And now it does not any more, and is counted among what was done."""
        state = self.connection.state
        state.begun_commands -= self.commands
        state.begun_bytes -= self.size
        self.commands = self.size = 0
        if self.replies:
            self._note(state)

    def _note(self, state: ServerState) -> None:
        run, replies, usec = self.run, self.replies, self.seconds * 1e6
        calls: Sequence[Call]
        if not isinstance(run, Transaction):
            calls = run.group.calls
        else:
            (reply,) = replies
            is_done = isinstance(reply, list)
            calls = [EXEC_CALL, *(call for group in run.groups if is_done for call in group.calls)]
            replies = [None, *reply] if is_done else [reply]
        state.usage.note(calls, replies, usec)
        settings = state.settings
        if usec >= settings.slow_us >= 0:
            state.usage.note_slow(calls, usec, self.connection, settings.slow_runs_max)
        if 0 < settings.spike_ms * 1000 <= usec:
            state.usage.note_spike(b"command", int(usec / 1000))


def is_write(call: Call) -> bool:
    """Whether it goes through the log."""
    function, args = call
    return not isinstance(function, OnConnection) and check(args).route is Route.WRITE


class Waiting(Work):
    """One command that may wait, alone under way."""

    __slots__ = ()

    @abstractmethod
    def try_again(self) -> None:
        """What it waits for may be there."""

    @abstractmethod
    def give_up(self) -> None:
        """Wait no longer."""

    def fail(self, error: ReplyError) -> None:
        self.connection.state.waiting.leave(self)
        super().fail(error)


class WaitingForTurn(Waiting):
    """It goes through the log until it has what it wants, or must not wait any longer."""

    __slots__ = ("in_vain", "may_wait")

    run: Turn

    def __init__(self, connection: Connection, run: Run | Transaction, size: int) -> None:
        super().__init__(connection, run, size)
        self.may_wait = True
        self.in_vain: Reply = None
        """What to answer if it was not served."""

    def execute(self, database: Database) -> None:
        (reply,) = self.run.execute(database)
        state = self.connection.state
        if type(reply) is Waits:
            if self.in_vain is None:
                self.in_vain = reply
            self.run.has_waited = True
            if self.may_wait and not self.connection.is_closing:
                seconds = reply.wait_ms / 1000
                state.waiting.wait_for_turn(self, self.run.who.number, seconds if seconds else None)
                return
            self._leave_in_vain()
            return
        state.waiting.leave(self)
        self.connection.last_instance = database.instance
        self._end(reply)

    def try_again(self) -> None:
        self.connection.state.node.submit(self)

    def give_up(self, instead: Reply = None) -> None:
        """While it is tried, nobody knows yet what comes of it; its outcome is the answer.

        Unless it was served it is answered `instead`, if that is given.
        """
        self.may_wait = False
        self.in_vain = self.in_vain if instead is None else instead
        if self.is_waiting and not self.connection.state.waiting.is_trying(self):
            self._leave_in_vain()

    @property
    def is_waiting(self) -> bool:
        """Whether it has been tried in vain."""
        return self.run.has_waited and not self.is_done

    def fail(self, error: ReplyError) -> None:
        state = self.connection.state
        if self.run.has_waited or str(error).startswith("UNCERTAIN"):
            state.node.submit(Leaves(self.run.who))
        super().fail(error)

    def _leave_in_vain(self) -> None:
        state = self.connection.state
        state.waiting.leave(self)
        state.node.submit(Leaves(self.run.who))
        self._end(self.in_vain)

    def _end(self, reply: Reply) -> None:
        self.replies = [reply]
        self.is_done = True
        self.leave()
        self.connection.work_done()


class WaitingForInstance(Waiting):
    """A read on this node's own state, once that has come so far."""

    __slots__ = ()

    def try_again(self) -> None:
        self.execute(self.connection.state.node.database)

    def give_up(self) -> None:
        self.fail(NOT_YET_APPLIED)


def _without_state(call: Call, error: ReplyError) -> Reply:
    function, args = call
    if not isinstance(function, OnConnection):
        return error
    try:
        return function(None, args)
    except ReplyError as problem:
        return problem.as_reply()


class OnConnection:
    """A connection's command in the place of a state's: called alike."""

    __slots__ = ("connection", "function")

    def __init__(self, connection: Connection, function: Any) -> None:
        self.connection = connection
        self.function = function

    def __call__(self, keyspace: Any, args: list[bytes]) -> Reply:
        return self.function(self.connection, args)


class InTransaction:
    """A read that may be dear, among the writes of a transaction: it is done only if there is room for it in the batch."""

    __slots__ = ("cost", "function")

    def __init__(self, function: Any, cost: Cost) -> None:
        self.function = function
        self.cost = cost

    def __call__(self, keyspace: Any, args: list[bytes]) -> Reply:
        keyspace.shared.reading_budget.pay(estimate(self.cost, keyspace, args))
        return self.function(keyspace, args)


class LastInstance(OnConnection):
    """SOFA.LASTINSTANCE in its place. Behind a write of its own run it is answered where that is executed."""

    __slots__ = ("is_behind_write",)

    def __init__(self, connection: Connection, function: Any, is_behind_write: bool) -> None:
        super().__init__(connection, function)
        self.is_behind_write = is_behind_write

    def __call__(self, keyspace: Any, args: list[bytes]) -> Reply:
        if self.is_behind_write and keyspace is not None:
            return keyspace.instance
        return super().__call__(keyspace, args)


class Answer:
    """A reply that is known before its turn: QUEUED, or an error found on sight."""

    __slots__ = ("reply",)

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    def __call__(self, connection: Connection, args: list[bytes]) -> Reply:
        return self.reply


EXEC_CALL: Call = (Answer(None), [b"EXEC"])
