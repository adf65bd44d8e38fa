"""One client's connection: its requests in their order, its replies in theirs, and its bounds.

What arrives is cut into *runs*. A run with a write in it is one piece of work that goes through the log; reads and other commands
between its writes ride along and are executed in place, since the moment at which it is applied lies between their
asking and their answer. A run of reads is executed when the node says that its state is fresh enough. Runs are begun in order:

- a run with writes waits until reads before it are answered, so that they do not see it;
- a run of reads behind runs with writes rides on the last of them, and needs no confirmation of its own;
- commands that change what the connection is (WATCH, EXEC, SUBSCRIBE, ...) or that may wait for something (SOFA.LOCK, SOFA.AFTER)
  are begun alone, and nothing behind them is looked at until they are done.

After READONLY a run of reads behind no writes is executed at once, on this node's state as it is. During a pause (`pausing`) what
is held back is not begun, nor anything behind it.

A run is executed whether or not its client is still there: other replicas execute it, too. Nothing is begun, encoded or
read for a client that does not read its replies: what waits for it is bounded, and it is not cut off while an outcome is
pending (rule D7; `guard`). Commands whose replies may be large with what they are asked
(KEYS, LRANGE from 0 to -1, CLIENT LIST, ...) are begun alone, a few reads of that kind together: only so many such replies
at a time are held for a client.

A node holds only so many commands, of all its clients. When it is full, a connection begins nothing as long as something
before it is under way: its answer could not be told before theirs anyway. What comes up when everything before it is answered
is refused at once if the node is still full, an EXEC as a whole; what needs no state is answered as ever. Each command has an
outcome of its own, as in Redis: behind one that was refused another may be executed, if room was made meanwhile. But since
full is full, for the small and the large alike, and no room is made within a turn, what came together is refused together.

Messages that the client subscribes to come between replies, as soon as no reply is half written. They cannot be made to wait for
a client that does not read: it is cut off, whatever is pending, since it would not read that either.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from sofadb.database.arguments import parse_integer
from sofadb.database.budget import estimate
from sofadb.database.replies import NULL_ARRAY, Reply, ReplyError, Status
from sofadb.database.runs import Call, Group, Run, Transaction, Turn, Watched
from sofadb.database.table import Command, Route, check
from sofadb.node.node import OVERLOADED
from sofadb.unlikely import unlikely

from .admission import DENIED, NO_AUTH, is_on_this_machine
from .encoding import Buffer, encode
from .memory import refusal
from .pausing import writes as writes_now
from .requests import Chunk, Requests
from .sentinel import is_own_news
from .short_way import PIECE_BYTES_MAX, Crowd
from .state import ServerState
from .subscriptions import ALLOWED, BEGINNING, SUBSCRIBING, Kind
from .usage import NO_COMMAND
from .work import (
    Answer,
    InTransaction,
    LastInstance,
    OnConnection,
    Waiting,
    WaitingForInstance,
    WaitingForTurn,
    Watch,
    Work,
    is_write,
)

if TYPE_CHECKING:
    from sofadb.database.database import Database

log = logging.getLogger("sofadb.server")

QUEUED = Status(b"QUEUED")
ALONE = SUBSCRIBING | {
    "watch",
    "unwatch",
    "exec",
    "discard",
    "auth",
    "hello",
    "reset",
    "quit",
    "readonly",
    "readwrite",
    "sofa.after",
    "sofa.snapshot",
    "sofa.snapshotpart",
    "client|kill",
    "client|reply",
    "monitor",
}
"""Commands that are begun when everything before them is done, and that end a run."""
QUEUED_ALONE = {"unwatch", "auth", "hello", "readonly", "readwrite", "client|kill", "client|reply"}
"""Those of them, but for subscriptions, that MULTI queues."""
RUN_COMMANDS_MAX = 512
"""A longer pipeline becomes several runs."""
STRANGERS_BYTES_MAX = 256 << 10
"""Of a client that has yet to say who it is more is not read at a time. (The largest request it may make is smaller.)"""
READS_BEHIND_WRITES_MAX = 4
"""So many reads may follow writes within a run. Each may hold a large value that the next write puts another in place of."""
LARGE_READS_MAX = 8
"""So many reads whose replies may be large may be in a run, which then is alone under way."""
READS_UNITS_MAX = 5_000
"""Reads that cost more (`database/budget.py`) than this by themselves are begun alone, and done one a turn."""
QUEUED_LARGE_BYTES = 16 << 10
"""What a command with a large reply counts for in a transaction."""


class _Multi:
    """What MULTI has queued."""

    __slots__ = ("database", "groups", "has_errors", "size")

    def __init__(self, database: int) -> None:
        self.database = database
        self.groups: list[tuple[int, list[Call], list[bytes]]] = []
        self.has_errors = False
        self.size = 0

    def add(self, call: Call, raw: bytes) -> None:
        if not self.groups or self.groups[-1][0] != self.database:
            self.groups.append((self.database, [], []))
        self.groups[-1][1].append(call)
        if raw:
            self.groups[-1][2].append(raw)


class _Beginning(Run):
    """SUBSCRIBE and its kin: it waits as a read does, and if nobody can say that this node is fresh, it is done all the same."""


class _After(Run):
    """A read behind an instance."""

    __slots__ = ("instance",)

    def __init__(self, database: int, call: Call, instance: int) -> None:
        super().__init__(database, [call], b"")
        self.instance = instance


class _Heavy(Run):
    """A read that takes long enough to let others wait."""


class _HeavyWork(Work):
    """It is done in a turn of its own, on what this node's state has become by then: nothing behind it has been begun."""

    __slots__ = ()

    def execute(self, database: Database) -> None:
        self.connection.state.heavy.add(self)

    def execute_now(self) -> None:
        """It is its turn. Nothing is read for a client that has gone away meanwhile."""
        if self in self.connection.flight:
            super().execute(self.connection.state.node.database)
        else:
            self.leave()


class _Elsewhere(Run):
    """One command that is done in another thread."""

    __slots__ = ("answer", "reply")

    def __init__(self, database: int, call: Call, answer: Callable[[], Awaitable[Reply]]) -> None:
        super().__init__(database, [call], b"")
        self.answer = answer
        self.reply: Reply = None

    async def wait(self) -> None:
        """Have the reply."""
        try:
            self.reply = await self.answer()
        except ReplyError as problem:
            self.reply = problem.as_reply()

    def execute(self, database: Database) -> list[Reply]:
        return [self.reply]


class _Exec(Transaction):
    """A transaction on the node of its client: a SELECT in it holds from then on, if it is done at all."""

    __slots__ = ("connection", "database_after", "size")

    def __init__(
        self, connection: Connection, multi: _Multi, watched: list[Watched], groups: list[Group]
    ) -> None:
        super().__init__(watched, groups)
        self.connection = connection
        self.database_after = multi.database
        self.size = multi.size

    def execute(self, database: Database) -> list[Reply]:
        replies = super().execute(database)
        if replies[0] is not NULL_ARRAY:
            self.connection.database = self.database_after
        return replies


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self.transport: asyncio.Transport | None = None
        self._crowds = state.short_way.crowds
        self.requests = Requests()
        self.require_password()
        self.id = 0
        self.name = b""
        self.library = [b"", b""]
        self.database = 0
        self.resp3 = False
        self.multi: _Multi | None = None
        self.watched: dict[tuple[int, bytes], int] = {}
        """Versions of keys, by database and key."""
        self.watched_bytes = 0
        self.watch_failed = False
        self.is_readonly = False
        """Whether its reads are answered from this node's own state, however old."""
        self.last_instance = 0
        """In which its last write was executed; 0 if none was."""
        self.is_silent = False
        """Whether it wants no replies (CLIENT REPLY)."""
        self.skipped_replies = 0
        """How many more replies it does not want. Then each comes from a run of its own."""
        self.no_evict = False
        self.subscribed: dict[Kind, dict[bytes, None]] = {kind: {} for kind in Kind}
        """What it subscribes to, in the order of asking; kept by `Subscriptions`."""
        self.subscription_count = 0
        """And how much that is."""
        self.address = self.local_address = ""
        self.created_at = time.monotonic()
        self.last_command = "NULL"
        self.is_closing = False
        self.received_bytes = 0
        self.held_bytes = 0
        """What has arrived and is not begun: requests, whole or not, what MULTI has queued, and the keys watched."""
        self.seen_bytes = 0
        self.active_at = 0.0
        """How much of it the guard has seen when it last looked, and when that was more than before (the loop's time)."""
        self.idle_s = 0
        """For how long it has said nothing, as the guard knows."""
        self.is_writable = True
        """Whether the client reads what is written for it."""
        self.is_reading = True
        """Whether what it sends is read."""

        self.flight: deque[Work] = deque()
        """What is under way, in its order."""
        self.is_plain = False
        """Whether nothing is under way or waits but pieces that went the short way, and nothing is odd about the client."""

        self._chunks: deque[Chunk] = deque()
        self._next = 0
        """The first request of the first chunk that is not begun."""
        self._waiting_bytes = 0
        self._is_alone = False
        """Whether what is under way must be done before anything else is looked at."""
        self._elsewhere: asyncio.Task[None] | None = None
        """What is done in another thread, alone under way."""
        self._pieces: Iterator[Buffer] | None = None
        """What is left of a large reply."""
        self._run_bytes = 0
        """Size of the run that was taken last."""
        self._pushes: deque[bytes] = deque()
        """Messages that wait until no reply is half written and the client reads."""
        self._pushes_bytes = 0
        self._is_advancing = False
        self._lingers = False
        """Whether, when everything is answered, the client is left to close the connection."""
        self._client_has_ended = False
        """Whether it has closed its half."""
        self.has_ended = False
        """Whether we have closed ours: everything is answered and written."""

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's are not derived from it.
        state = self.state
        state.connections_received += 1
        if len(state.clients) >= state.settings.clients_max:
            self._reject(b"-ERR max number of clients reached\r\n")
            return
        peer = transport.get_extra_info("peername")
        if state.is_protected and not state.passwords and not is_on_this_machine(peer):
            self._reject(DENIED)
            return
        state.last_client_id += 1
        self.id = state.last_client_id
        state.clients[self.id] = self
        transport.set_write_buffer_limits(high=state.settings.output_bytes_max)
        self.address = _shown(peer)
        self.local_address = _shown(transport.get_extra_info("sockname"))
        self._look_whether_plain()

    def _reject(self, problem: bytes) -> None:
        assert self.transport is not None
        self.state.connections_rejected += 1
        self.transport.write(problem)
        self.transport.close()
        self.is_closing = True

    @property
    def is_stranger(self) -> bool:
        """Whether it has yet to say a password."""
        return self.requests.is_strangers

    def require_password(self) -> None:
        """It has said none, as at first."""
        self.requests.is_strangers = bool(self.state.passwords)
        self.is_plain = False

    def trust(self) -> None:
        """It has said a password."""
        self.requests.is_strangers = False

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closing = True
        self.is_plain = False
        self.state.clients.pop(self.id, None)
        self.state.subscriptions.forget(self)
        self.state.monitors.forget(self)
        self._pushes.clear()
        self._pushes_bytes = 0
        self._chunks.clear()
        for work in self.flight:
            if work.is_local:
                work.leave()
        self._wait_no_longer()
        self.flight.clear()
        self._pieces = None
        self.multi = None
        self.state.held_bytes -= self.held_bytes
        self.held_bytes = 0

    def data_received(self, data: bytes) -> None:
        size = len(data)
        if self.is_plain:
            # Most send what others send, too, who wait as well. This is all that is done for it alone until it is executed.
            if (
                not self.flight
                and (crowd := self._crowds.get(size)) is not None
                and data.startswith(crowd.head)
                and crowd.database == self.database
            ):
                crowd.pieces.append(data)
                connections = crowd.connections
                connections.append(self)
                self.flight.append(crowd)
                if len(connections) == crowd.capacity:
                    crowd.close()
                return
            if size <= PIECE_BYTES_MAX and self.state.short_way.take(self, data, size):
                return
        if self.is_closing:
            return
        self._settle()
        self._go_the_long_way(data)

    def _go_the_long_way(self, data: bytes) -> None:
        self.is_plain = False
        self.state.bytes_read += len(data)
        self.received_bytes += len(data)
        if unlikely("request in pieces"):
            for begin in range(0, len(data), 7):
                self._feed(data[begin : begin + 7])
        else:
            self._feed(data)

    def _settle(self) -> None:
        """What comes now is nothing for the short way: what it sent before must be known to be."""
        if self.flight and type(crowd := self.flight[0]) is Crowd:
            crowd.close()

    def take_again(self, crowd: Crowd, data: bytes) -> None:
        """It sent what only looked like what others did."""
        if self.flight and self.flight[0] is crowd:
            self.flight.popleft()
            self._go_the_long_way(data)

    def _feed(self, data: bytes) -> None:
        if self.is_stranger and (self._chunks or self.flight):
            self.requests.keep(data)
        else:
            self._take(data)
        self._advance()

    def _take(self, data: bytes) -> None:
        for chunk in self.requests.feed(data):
            self._chunks.append(chunk)
            self._waiting_bytes += len(chunk.data)

    def _take_more(self) -> bool:
        """Take what was kept while something before it was under way; whether there is something to begin."""
        if self.requests.has_more:
            self._take(b"")
        return bool(self._chunks)

    def eof_received(self) -> bool:
        # What was asked for is still answered: the other half of the connection is open.
        self._settle()
        self.is_plain = False
        if self.flight or self._chunks or self.requests.has_more or self._pieces is not None:
            self.is_closing = self.is_closing or not self.requests.problem  # A problem is still told.
            self._client_has_ended = True
            self._wait_no_longer()  # Who closes a connection says no more than this, either.
            return True
        return False

    def pause_writing(self) -> None:
        self.is_writable = self.is_plain = False

    def resume_writing(self) -> None:
        self.is_writable = True
        self.work_done()

    # Beginning

    def _advance(self) -> None:
        """Begin as much as may be begun, in order."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._may_begin() and (self._chunks or self._take_more()):
                run = self._next_run()
                if run is None:
                    break
                self._begin(run)
        finally:
            self._is_advancing = False
        self._look_whether_plain()
        if not (self._chunks or self.flight or self.requests.has_more) and self._pieces is None:
            if self.requests.problem and not self.is_closing:
                self._write(b"-%s\r\n" % self.requests.problem.encode())
                self.is_closing = True
            if self.is_closing:
                self._end()
        self.mind_the_input()

    def _may_begin(self) -> bool:
        return (
            not self._is_alone
            and self.is_writable
            and self._pieces is None
            and not (self.flight and self.state.is_overloaded)
            and len(self.flight) < (1 if unlikely("one run at a time") else self.state.settings.in_flight_max)
        )

    def _look_whether_plain(self) -> None:
        """Whether what comes next may go the short way."""
        requests = self.requests
        is_idle = not (
            self.flight or self._chunks or requests.waiting_bytes or requests.problem or self._pushes
        )
        is_idle = is_idle and self.is_writable and self._pieces is None and not self._is_alone
        is_odd = (
            self.is_closing or self.is_stranger or self.is_subscriber or self.is_readonly or self.is_silent
        )
        self.is_plain = is_idle and not is_odd and self.multi is None and not self.skipped_replies

    def mind_the_input(self) -> None:
        """Read from the client only while what waits is bounded, for it and for all. (What is not taken in can be read.)"""
        state = self.state
        held = self.requests.waiting_bytes + self._waiting_bytes + self.watched_bytes
        if self.multi is not None:
            held += self.multi.size
        if held != self.held_bytes and self.transport is not None and not self.transport.is_closing():
            state.held_bytes += held - self.held_bytes
            self.held_bytes = held
        wanted = self.is_closing or (
            self._waiting_bytes <= state.settings.waiting_bytes_max
            and not (self.is_stranger and self.requests.waiting_bytes > STRANGERS_BYTES_MAX)
            and (
                held <= state.settings.held_bytes_free
                or not state.is_short_of_room
                or self is state.next_to_go_on
            )
        )
        if unlikely("input paused"):
            wanted = False
            asyncio.get_running_loop().call_soon(self.mind_the_input)
        if wanted != self.is_reading and self.transport is not None and not self.transport.is_closing():
            self.is_reading = wanted
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _next_run(self) -> Run | Transaction | None:
        """Take the longest run from what waits; None if nothing may be begun before reads are answered."""
        chunk = self._chunks[0]
        requests, borders = chunk.requests, chunk.borders
        commands_max = 1 if self.skipped_replies or unlikely("run of one command") else RUN_COMMANDS_MAX
        reads_behind_max = 0 if unlikely("no reads behind writes") else READS_BEHIND_WRITES_MAX
        begin, end = self._next, min(len(requests), self._next + commands_max)
        behind_reads = bool(self.flight) and self._carrier is None
        is_restricted, is_stranger = self.is_restricted, self.is_stranger
        pause = self.state.pause if self.state.pause.is_on else None
        is_out_of_memory = self.state.is_out_of_memory
        database = self.database
        calls: list[Call] = []
        writes: list[int] = []
        special: Run | Transaction | None = None
        reads_behind = large_reads = 0
        index = begin
        while index < end:
            args = requests[index]
            try:
                command = check(args)
                if is_stranger and "no_auth" not in command.flags:
                    raise NO_AUTH
                if is_restricted and command.name not in ALLOWED:
                    raise _not_for_subscribers(command)
                if is_out_of_memory:
                    self._demand_memory(command, args)
            except ReplyError as problem:
                if args[0].upper() in (b"POST", b"HOST:"):
                    if not calls:
                        self._on_http()
                        return None
                    break
                self._on_mistake(calls, problem, args)
                index += 1
                continue
            if pause is not None and pause.holds(command, writes_now(command, self._has_queued_writes)):
                if not calls:
                    return None
                break
            self.last_command = command.name
            is_large = bool(command.reply_is_large) and self.multi is None and command.replies_large(args)
            if command.is_dear_to_read and self._is_heavy(command, args):
                if calls:
                    break
                if self.flight:
                    return None
                self._is_alone = True
                special = _Heavy(self.database, [(command.function, args)], b"")
                index += 1
                break
            if large_reads and (
                command.route is not Route.READ or (is_large and large_reads == LARGE_READS_MAX)
            ):
                break
            if is_large or (command.is_blocking and self.multi is None):
                if calls and not large_reads:
                    break
                if self.flight:
                    return None
                self._is_alone = True
                if command.route is Route.READ:
                    large_reads += 1
                    calls.append((command.function, args))
                    index += 1
                    continue
                raw = chunk.data[borders[index] : borders[index + 1]] if command.route is Route.WRITE else b""
                if command.is_blocking:
                    special = Turn(self.database, (command.function, args), raw, self.state.next_turn())
                else:
                    special = Run(self.database, [(self._function(command), args)], raw)
                index += 1
                break
            if command.route is Route.CONNECTION:
                if self.multi is not None and "no_multi" in command.flags:
                    self._on_mistake(calls, NOT_IN_MULTI, args)
                    index += 1
                    continue
                if command.name in ALONE or command.name == "select":
                    if calls:
                        break  # It begins a run of its own.
                    special = self._alone(command, args)
                    if special is None:
                        return None
                    index += 1
                    break
                if command.name == "multi":
                    calls.append((OnConnection(self, Answer(self._multi())), args))
                elif self.multi is not None:
                    self._queue(calls, command, args, b"")
                else:
                    calls.append((self._function(command, bool(writes)), args))
            elif self.multi is not None:
                raw = chunk.data[borders[index] : borders[index + 1]] if command.route is Route.WRITE else b""
                self._queue(calls, command, args, raw)
            else:
                if command.route is Route.WRITE:
                    if behind_reads:
                        if not calls:
                            return None
                        break
                    writes.append(index)
                elif writes:
                    if reads_behind == reads_behind_max:
                        break
                    reads_behind += 1
                calls.append((command.function, args))
            index += 1
        self._consume(chunk, index, database)
        if special is not None:
            return special
        return Run(self.database, calls, _raw(chunk, writes))

    def _is_heavy(self, command: Command, args: list[bytes]) -> bool:
        """Whether this read, as far as this node knows now, would let others wait."""
        if self.multi is not None or command.cost is None:
            return False
        keyspace = self.state.node.database.keyspaces[self.database]
        return estimate(command.cost, keyspace, args) > READS_UNITS_MAX

    def _demand_memory(self, command: Command, args: list[bytes]) -> None:
        """There is no memory left for what may make the data grow. Raises `ReplyError`."""
        problem = refusal(command, args, self.state.node.database.shared.scripts.texts)
        if problem is not None:
            raise problem

    def _function(self, command: Command, is_behind_write: bool = False) -> Any:
        if command.name == "sofa.lastinstance":
            return LastInstance(self, command.function, is_behind_write)
        if command.route is Route.CONNECTION:
            return OnConnection(self, command.function)
        if command.is_dear_to_read and command.cost is not None and self.multi is not None:
            return InTransaction(command.function, command.cost)
        return command.function

    def _consume(self, chunk: Chunk, index: int, database: int) -> None:
        self.state.commands_processed += index - self._next
        if self.state.monitors:
            self.state.monitors.tell(self, database, chunk.requests[self._next : index])
        self._run_bytes = chunk.borders[index] - chunk.borders[self._next]
        self._waiting_bytes -= self._run_bytes
        self._next = index
        if index == len(chunk.requests):
            self._chunks.popleft()
            self._next = 0

    def _begin(self, run: Run | Transaction) -> None:
        size = self._run_bytes + (run.size if isinstance(run, _Exec) else 0)
        work = _WORKS.get(type(run), Work)(self, run, size)
        flight = self.flight
        if self.state.is_overloaded and _concerns_state(run):
            assert not flight, "what is behind something is not begun now"
            self.state.refused_commands += work.commands
            work.enter()
            work.do_without_state(NO_ROOM)
            flight.append(work)
            self.work_done()
            return
        work.enter()
        if isinstance(run, _Elsewhere):
            flight.append(work)
            self._elsewhere = asyncio.get_running_loop().create_task(run.wait())
            self._elsewhere.add_done_callback(partial(self._done_elsewhere, work))
        elif isinstance(run, _After):
            flight.append(work)
            self._begin_after(cast(WaitingForInstance, work), run.instance)
        elif work.needs_log:
            flight.append(work)
            self.state.node.submit(work)
        elif (carrier := self._carrier) is not None and not self._is_alone:
            if type(carrier) is Crowd:
                carrier = carrier.take_apart(self)
            carrier.behind = (*carrier.behind, work)
            flight.append(work)
        elif _concerns_state(run):
            flight.append(work)
            if self.is_readonly:
                work.execute(self.state.node.database)
            else:
                self.state.node.read(work)
        else:
            work.is_local = True
            flight.append(work)
            if flight[0] is work:
                self.work_done()

    def _done_elsewhere(self, work: Work, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.result()  # A mistake is the event loop's to tell.
            work.execute(self.state.node.database)

    def _begin_after(self, work: WaitingForInstance, instance: int) -> None:
        state = self.state
        if state.node.applied >= instance:
            work.execute(state.node.database)
        else:
            state.waiting.wait_for_instance(work, instance, state.settings.patience_ms / 1000)

    def _wait_no_longer(self) -> None:
        if self.flight and isinstance(self.flight[0], Waiting) and not self.flight[0].is_done:
            self.flight[0].give_up()

    @property
    def is_blocked(self) -> bool:
        """Whether it stands in line for something."""
        return self._blocked is not None

    @property
    def _blocked(self) -> WaitingForTurn | None:
        work = self.flight[0] if self.flight else None
        return work if isinstance(work, WaitingForTurn) and work.is_waiting else None

    def unblock(self, error: ReplyError | None) -> bool:
        """Have it wait no longer; whether it did. It is answered as if its time were over, or with an error."""
        work = self._blocked
        if work is not None:
            work.give_up(error)
        return work is not None

    @property
    def _carrier(self) -> Work | None:
        """The last run under way that is in the log. What rides on it is executed right behind it."""
        return next((work for work in reversed(self.flight) if work.needs_log and not work.is_done), None)

    # The commands that are begun alone

    def _alone(self, command: Command, args: list[bytes]) -> Run | Transaction | None:
        """A run for one of them; None if it is too early."""
        name = command.name
        if self.multi is not None and name not in ("exec", "discard"):
            if name == "select":
                return self._select_in_multi(command, args)
            if name in ("watch", "sofa.after"):
                return self._say(ReplyError(f"ERR {name.upper()} inside MULTI is not allowed"))
            if name == "monitor":
                return self._say(ReplyError("ERR MONITOR isn't allowed for DENY BLOCKING client"))
            if name in QUEUED_ALONE or name in SUBSCRIBING:
                calls: list[Call] = []
                self._queue(calls, command, args, b"")
                return Run(self.database, calls, b"")
        if name == "select":
            return self._say(self._selected(args), args)
        if self.flight:
            return None
        self._is_alone = True
        if name == "watch":
            keys = args[1:]
            number = self.database

            def watch(keyspace: Any, args: list[bytes]) -> Reply:
                new = {key for key in keys if (number, key) not in self.watched}
                size = self.watched_bytes + sum(len(key) + 64 for key in new)
                if size > self.state.settings.transaction_bytes_max:
                    self.watch_failed = True
                    raise ReplyError("ERR too many keys are watched")
                self.watched_bytes = size
                for key in keys:
                    self.watched.setdefault((number, key), keyspace.version(key))
                return Status(b"OK")

            return Watch(self.database, [(watch, args)], b"")
        if name == "exec":
            return self._exec(args)
        if name == "sofa.snapshot" and len(args) > 1:

            def fresh(keyspace: Any, args: list[bytes]) -> Reply:
                self.state.want_snapshot()
                return keyspace.instance

            return Run(self.database, [(fresh, args)], b"")
        if name == "sofa.snapshotpart":
            instance, offset, size = (parse_integer(args[index]) for index in (1, 3, 4))
            part = partial(self.state.snapshot_part, instance, int(args[2], 16), offset, size)
            return _Elsewhere(self.database, (OnConnection(self, command.function), args), part)
        if name == "sofa.after":
            inner = args[2:]
            return _After(self.database, (check(inner).function, inner), parse_integer(args[1]))
        kind = _Beginning if name in BEGINNING and not is_own_news(args[1:]) else Run
        return kind(self.database, [(OnConnection(self, command.function), args)], b"")

    def _say(self, reply: Reply, args: list[bytes] | None = None) -> Run:
        return Run(self.database, [(OnConnection(self, Answer(reply)), args or NO_COMMAND)], b"")

    def _selected(self, args: list[bytes]) -> Reply:
        """SELECT takes effect on sight: it decides where the next commands go."""
        try:
            self.database = parse_database(args[1])
        except ReplyError as problem:
            return problem.as_reply()
        return Status(b"OK")

    def _select_in_multi(self, command: Command, args: list[bytes]) -> Run:
        assert self.multi is not None
        calls: list[Call] = []
        try:
            number = parse_database(args[1])
        except ReplyError as problem:
            self._queue(calls, command, args, b"", Answer(problem.as_reply()))
        else:
            self._queue(calls, command, args, b"", Answer(Status(b"OK")))
            self.multi.database = number
        return Run(self.database, calls, b"")

    def _queue(
        self,
        calls: list[Call],
        command: Command,
        args: list[bytes],
        raw: bytes,
        instead: Answer | None = None,
    ) -> None:
        """Put a command into the transaction; the reply for now is QUEUED."""
        multi = self.multi
        assert multi is not None
        size = len(raw) if raw else sum(map(len, args))
        multi.size += QUEUED_LARGE_BYTES if command.replies_large(args) else size + 64 * len(args)
        if multi.size > self.state.settings.transaction_bytes_max:
            multi.has_errors = True
            multi.groups.clear()
            problem = ReplyError("ERR the transaction is too large")
            calls.append((OnConnection(self, Answer(problem)), NO_COMMAND))
            return
        is_behind_write = any(raws for _, _, raws in multi.groups)
        function = (
            self._function(command, is_behind_write) if instead is None else OnConnection(self, instead)
        )
        multi.add((function, args), raw)
        calls.append((OnConnection(self, Answer(QUEUED)), NO_COMMAND))

    def _multi(self) -> Reply:
        """MULTI takes effect on sight: it decides what becomes of the next commands."""
        if self.multi is not None:
            return ReplyError("ERR MULTI calls can not be nested")
        self.multi = _Multi(self.database)
        return Status(b"OK")

    def _exec(self, args: list[bytes]) -> Run | Transaction:
        multi, self.multi = self.multi, None
        if multi is None:
            return self._say(ReplyError("ERR EXEC without MULTI"), args)
        watched = [Watched(number, key, version) for (number, key), version in self.watched.items()]
        is_aborted = multi.has_errors or self.watch_failed
        self.unwatch()
        if is_aborted:
            return self._say(ReplyError("EXECABORT Transaction discarded because of previous errors."), args)
        if self.state.is_out_of_memory:
            try:
                for call in (call for _, calls, _ in multi.groups for call in calls if is_write(call)):
                    self._demand_memory(check(call[1]), call[1])
            except ReplyError as problem:
                aborted = f"EXECABORT Transaction discarded because of: {problem.text}"
                return self._say(ReplyError(aborted), args)
        groups = [Group(number, calls, b"".join(raws)) for number, calls, raws in multi.groups]
        return _Exec(self, multi, watched, groups)

    def unwatch(self) -> None:
        """Watch no keys any more."""
        self.watched, self.watched_bytes, self.watch_failed = {}, 0, False

    def _on_mistake(self, calls: list[Call], problem: ReplyError, args: list[bytes]) -> None:
        """What is no command at all."""
        self.state.usage.note_rejected(args)
        if self.multi is not None:
            self.multi.has_errors = True
        calls.append((OnConnection(self, Answer(problem.as_reply())), NO_COMMAND))

    def _on_http(self) -> None:
        """A browser may have been talked into this: nothing of what it sends is done (as in Redis)."""
        log.warning("%s speaks HTTP, perhaps made to by somebody else: closing the connection", self.address)
        self.close()

    # Ending

    def work_done(self) -> None:
        """Something under way is done, or the client has read on: send what can be sent, in order, and go on."""
        flight = self.flight
        while self.is_writable:
            if self._pieces is not None:
                piece = next(self._pieces, None)
                if piece is None:
                    self._pieces = None
                else:
                    self._write(piece)
                continue
            if self._pushes and not (flight and flight[0].is_done):
                push = self._pushes.popleft()
                self._pushes_bytes -= len(push)
                self._write(push)
                continue
            if flight and flight[0].is_local:
                flight[0].do_without_state(NO_STATE)
            if not flight or not flight[0].is_done:
                break
            work = flight.popleft()
            if self.is_silent or self.skipped_replies:
                self.skipped_replies = max(0, self.skipped_replies - 1)
                continue
            encoded = encode(work.replies, self.resp3)
            if isinstance(encoded, bytes) and unlikely("reply in pieces"):
                self._pieces = iter((encoded[:1], encoded[1:]))
            elif isinstance(encoded, bytes):
                self._write(encoded)
            else:
                self._pieces = encoded
        if not flight:
            self._is_alone = False
            self._look_whether_plain()
        requests = self.requests
        if self._chunks or self.is_closing or requests.problem or requests.has_more or not self.is_reading:
            self._advance()

    def go_on(self) -> None:
        """Begin what had to wait, if nothing is in the way any more."""
        self._advance()

    def answer(self, data: bytes) -> None:
        """Write a whole reply to the first that is under way, on the short way."""
        flight = self.flight
        flight.popleft()
        assert self.transport is not None
        if not self.transport.is_closing():
            self.transport.write(data)
        if flight and flight[0].is_done:
            self.work_done()

    def answer_in_pieces(self, pieces: Iterator[Buffer]) -> None:
        """Likewise, as the client takes it."""
        self.flight.popleft()
        self.is_plain = False
        self._pieces = pieces
        self.work_done()

    def _write(self, data: Buffer) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.state.bytes_written += len(data)
            self.transport.write(data)

    def push(self, message: bytes) -> None:
        """Tell a subscriber something, in its turn."""
        transport = self.transport
        if transport is None or transport.is_closing() or self.is_closing:
            return
        unread = self.unread_bytes
        if unread > self.state.settings.subscriber_unread_bytes_max:
            log.warning("%s subscribes and leaves %d bytes unread: cut off", self.address, unread)
            self.is_closing = True
            self.is_plain = False
            transport.abort()
            return
        self._pushes.append(message)
        self._pushes_bytes += len(message)
        self.work_done()

    @property
    def unread_bytes(self) -> int:
        """What waits for the client to read."""
        return self._pushes_bytes + (0 if self.transport is None else self.transport.get_write_buffer_size())

    @property
    def is_busy(self) -> bool:
        """Whether something is under way or waits."""
        return bool(self.flight or self._chunks or self._pieces is not None)

    @property
    def is_subscriber(self) -> bool:
        """Whether it subscribes to anything."""
        return self.subscription_count > 0

    @property
    def is_restricted(self) -> bool:
        """Whether it subscribes in RESP2, where a message looks like a reply."""
        return not self.resp3 and self.is_subscriber

    def close(self) -> None:
        """Close, or end our half, once everything that is under way is answered."""
        self._settle()
        self.is_closing = True
        self.is_plain = False
        self._drop_the_waiting()
        self._wait_no_longer()
        self._advance()

    def kill(self) -> None:
        """Close, but do not wait for a client that does not read, unless an outcome is pending."""
        self.close()
        if not self.is_writable and not self.waits_for_node:
            self.abort()

    def finish(self) -> None:
        """Take nothing more; answer everything that has arrived, and end our half of the connection.

        What still arrives is read and dropped until the client has closed its half, too. Were the connection closed at once,
        whatever arrived then would make the kernel reset it, and replies that are on their way would be lost.
        """
        self._settle()
        self.is_closing = self.is_closing or not self.requests.problem  # A problem is still told.
        self._lingers = True
        self._wait_no_longer()
        self._advance()

    def _end(self) -> None:
        """Everything is answered."""
        if self.transport is None or self.has_ended or self.transport.is_closing():
            return
        if self._lingers and not self._client_has_ended:
            self.has_ended = True
            self.transport.write_eof()
        else:
            self.transport.close()

    def abort(self) -> None:
        """End the connection now, with whatever is not read."""
        self.is_plain = False
        if self.transport is not None:
            self.transport.abort()

    def give_up_request(self) -> None:
        """Wait no longer for the rest of what has arrived in part."""
        self.requests.give_up("ERR this request came too slowly while there was no room for others")
        self.multi = None
        self._drop_the_waiting()
        self._advance()

    def _drop_the_waiting(self) -> None:
        self._chunks.clear()
        self._next = self._waiting_bytes = 0
        self.requests.forget()

    @property
    def waits_for_node(self) -> bool:
        """Whether something is under way whose outcome is not known yet."""
        return any(not work.is_done and not work.is_local for work in self.flight)

    @property
    def _has_queued_writes(self) -> bool | None:
        return None if self.multi is None else any(raws for _, _, raws in self.multi.groups)

    @property
    def queued_count(self) -> int:
        """How many commands MULTI has queued, or -1."""
        return -1 if self.multi is None else sum(len(calls) for _, calls, _ in self.multi.groups)


NOT_IN_MULTI = ReplyError("ERR Command not allowed inside a transaction")
NO_STATE = ReplyError("ERR this is no command of the connection")
NO_ROOM = ReplyError(OVERLOADED)

_WORKS: dict[type, type[Work]] = {Turn: WaitingForTurn, _After: WaitingForInstance, _Heavy: _HeavyWork}
"""What is made of a run, where it is more than a `Work`."""


def parse_database(text: bytes) -> int:
    """The number that SELECT names. Raises `ReplyError`."""
    number = parse_integer(text)
    if not 0 <= number < 16:
        raise ReplyError("ERR DB index is out of range")
    return number


def _not_for_subscribers(command: Command) -> ReplyError:
    return ReplyError(
        f"ERR Can't execute '{command.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
        "are allowed in this context"
    )


def _concerns_state(run: Run | Transaction) -> bool:
    return isinstance(run, Transaction | _Beginning) or any(
        not isinstance(function, OnConnection) for function, _ in run.group.calls
    )


def _raw(chunk: Chunk, writes: list[int]) -> bytes:
    """The bytes of these requests: one slice where they lie together."""
    if not writes:
        return b""
    borders = chunk.borders
    if writes[-1] - writes[0] + 1 == len(writes):
        return chunk.data[borders[writes[0]] : borders[writes[-1] + 1]]
    return b"".join([chunk.data[borders[index] : borders[index + 1]] for index in writes])


def _shown(address: Any) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
        return f"{host}:{address[1]}"
    return str(address or "")
