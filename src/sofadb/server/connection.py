"""One client's connection: its requests in their order, its replies in theirs, and its bounds.

What arrives is cut into *runs*. A run with a write in it is one piece of work that goes through the log; reads and other commands
between its writes ride along and are executed in place, since the moment at which it is applied lies between their
asking and their answer. A run of reads is executed when the node says that its state is fresh enough. Runs are begun in order:

- a run with writes waits until reads before it are answered, so that they do not see it;
- a run of reads behind runs with writes rides on the last of them, and needs no confirmation of its own;
- commands that change what the connection is (WATCH, EXEC, HELLO, SUBSCRIBE, ...) are begun alone, and nothing behind them is
  looked at until they are done.

A run is executed whether or not its client is still there: other replicas execute it, too. Nothing is begun, encoded or
read for a client that does not read its replies: what waits for it is bounded, and it is never cut off for our own
convenience, since an outcome may be pending (rule D7). Commands whose replies may be large whatever they are asked with
(KEYS, CLIENT LIST, ...) are begun alone, so that one such reply at a time is held for a client.

Messages that the client subscribes to come between replies, as soon as no reply is half written. They cannot be made to wait for
a client that does not read: it is cut off, whatever is pending, since it would not read that either.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from sofadb.database.arguments import parse_integer
from sofadb.database.replies import NULL_ARRAY, Reply, ReplyError, Status
from sofadb.database.runs import Call, Group, Run, Transaction, Watched
from sofadb.database.table import Command, Route, check
from sofadb.unlikely import unlikely

from .encoding import Buffer, encode
from .requests import Chunk, Requests
from .state import ServerState
from .subscriptions import ALLOWED, SUBSCRIBING

if TYPE_CHECKING:
    from sofadb.database.database import Database

log = logging.getLogger("sofadb.server")

QUEUED = Status(b"QUEUED")
ALONE = SUBSCRIBING | {"watch", "unwatch", "exec", "discard", "hello", "reset", "quit"}
"""Commands that are begun when everything before them is done, and that end a run."""
RUN_COMMANDS_MAX = 512
"""A longer pipeline becomes several runs."""
READS_BEHIND_WRITES_MAX = 4
"""So many reads may follow writes within a run. Each may hold a large value that the next write puts another in place of."""
QUEUED_LARGE_BYTES = 1 << 20
"""What a command with a large reply counts for in a transaction."""


class Work:
    """A run on its way. The node calls `execute` or `fail`, once."""

    __slots__ = ("behind", "connection", "is_done", "is_local", "needs_log", "replies", "run")

    def __init__(self, connection: Connection, run: Run | Transaction) -> None:
        self.connection = connection
        self.run = run
        self.needs_log = run.needs_log
        self.behind: list[Work] = []
        """Runs of reads that are executed right after this one."""
        self.replies: list[Reply] = []
        self.is_done = False
        self.is_local = False
        """Whether it needs no node: it is executed when what is before it is answered."""

    def encode(self) -> bytes:
        """What every replica has to execute."""
        return self.run.encode()

    def execute(self, database: Database) -> None:
        """Do it on this node's state, in its place."""
        self.replies = self.run.execute(database)
        for work in self.behind:
            work.replies = work.run.execute(database)
            work.is_done = True
        self.is_done = True
        self.connection.work_done()

    def fail(self, error: ReplyError) -> None:
        """It is not done, or nobody knows. What concerns only the connection is done all the same."""
        for work in (self, *self.behind):
            work.do_without_state(error)
        self.connection.work_done()

    def do_without_state(self, error: ReplyError) -> None:
        """Answer without a state: what concerns it fails with `error`."""
        if isinstance(self.run, _Watch):
            self.connection.watch_failed = True
        if isinstance(self.run, Transaction):
            self.replies = [error]
        else:
            self.replies = [_without_state(call, error) for call in self.run.group.calls]
        self.is_done = True


def _without_state(call: Call, error: ReplyError) -> Reply:
    function, args = call
    if not isinstance(function, _OnConnection):
        return error
    try:
        return function(None, args)
    except ReplyError as problem:
        return problem


class _OnConnection:
    """A connection's command in the place of a state's: called alike."""

    __slots__ = ("connection", "function")

    def __init__(self, connection: Connection, function: Any) -> None:
        self.connection = connection
        self.function = function

    def __call__(self, keyspace: Any, args: list[bytes]) -> Reply:
        return self.function(self.connection, args)


class _Answer:
    """A reply that is known before its turn: QUEUED, or an error found on sight."""

    __slots__ = ("reply",)

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    def __call__(self, connection: Connection, args: list[bytes]) -> Reply:
        return self.reply


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


class _Watch(Run):
    """WATCH. If it fails, the EXEC that relies on it must not be done."""


class _Exec(Transaction):
    """A transaction on the node of its client: a SELECT in it holds from then on, if it is done at all."""

    __slots__ = ("connection", "database_after")

    def __init__(
        self, connection: Connection, database_after: int, watched: list[Watched], groups: list[Group]
    ) -> None:
        super().__init__(watched, groups)
        self.connection = connection
        self.database_after = database_after

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
        self.requests = Requests()
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
        self.channels: dict[bytes, None] = {}
        """What it subscribes to, in the order of asking; kept by `Subscriptions`, as are `patterns`."""
        self.patterns: dict[bytes, None] = {}
        self.address = self.local_address = ""
        self.created_at = time.monotonic()
        self.last_command = "NULL"
        self.is_closing = False

        self._chunks: deque[Chunk] = deque()
        self._next = 0
        """The first request of the first chunk that is not begun."""
        self._waiting_bytes = 0
        self._flight: deque[Work] = deque()
        self._is_alone = False
        """Whether what is under way must be done before anything else is looked at."""
        self._pieces: Iterator[Buffer] | None = None
        """What is left of a large reply."""
        self._pushes: deque[bytes] = deque()
        """Messages that wait until no reply is half written and the client reads."""
        self._pushes_bytes = 0
        self._is_writable = True
        self._is_reading = True
        self._is_advancing = False

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's are not derived from it.
        state = self.state
        state.connections_received += 1
        if len(state.clients) >= state.settings.clients_max:
            state.connections_rejected += 1
            transport.write(b"-ERR max number of clients reached\r\n")
            transport.close()
            self.is_closing = True
            return
        state.last_client_id += 1
        self.id = state.last_client_id
        state.clients[self.id] = self
        transport.set_write_buffer_limits(high=state.settings.output_bytes_max)
        self.address = _shown(transport.get_extra_info("peername"))
        self.local_address = _shown(transport.get_extra_info("sockname"))

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closing = True
        self.state.clients.pop(self.id, None)
        self.state.subscriptions.forget(self)
        self._pushes.clear()
        self._pushes_bytes = 0
        self._chunks.clear()
        self._flight.clear()
        self._pieces = None
        self.multi = None

    def data_received(self, data: bytes) -> None:
        if self.is_closing:
            return
        self.state.bytes_read += len(data)
        if unlikely("request in pieces"):
            for begin in range(0, len(data), 7):
                self._feed(data[begin : begin + 7])
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        for chunk in self.requests.feed(data):
            self._chunks.append(chunk)
            self._waiting_bytes += len(chunk.data)
        self._advance()

    def eof_received(self) -> bool:
        # What was asked for is still answered: the other half of the connection is open.
        if self._flight or self._chunks or self._pieces is not None:
            self.is_closing = self.is_closing or not self.requests.problem  # A problem is still told.
            return True
        return False

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        self.work_done()

    # Beginning

    def _advance(self) -> None:
        """Begin as much as may be begun, in order."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._chunks and self._may_begin():
                run = self._next_run()
                if run is None:
                    break
                self._begin(run)
        finally:
            self._is_advancing = False
        if not self._chunks and not self._flight and self._pieces is None:
            if self.requests.problem and not self.is_closing:
                self._write(b"-%s\r\n" % self.requests.problem.encode())
                self.is_closing = True
            if self.is_closing and self.transport is not None:
                self.transport.close()
        self._mind_the_input()

    def _may_begin(self) -> bool:
        return (
            not self._is_alone
            and self._is_writable
            and self._pieces is None
            and len(self._flight)
            < (1 if unlikely("one run at a time") else self.state.settings.in_flight_max)
        )

    def _mind_the_input(self) -> None:
        """Read from the client only while what waits is bounded."""
        wanted = self._waiting_bytes <= self.state.settings.waiting_bytes_max
        if unlikely("input paused"):
            wanted = False
            asyncio.get_running_loop().call_soon(self._mind_the_input)
        if wanted != self._is_reading and self.transport is not None and not self.transport.is_closing():
            self._is_reading = wanted
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _next_run(self) -> Run | Transaction | None:
        """Take the longest run from what waits; None if nothing may be begun before reads are answered."""
        chunk = self._chunks[0]
        requests, borders = chunk.requests, chunk.borders
        commands_max = 1 if unlikely("run of one command") else RUN_COMMANDS_MAX
        reads_behind_max = 0 if unlikely("no reads behind writes") else READS_BEHIND_WRITES_MAX
        begin, end = self._next, min(len(requests), self._next + commands_max)
        behind_reads = bool(self._flight) and self._carrier is None
        is_restricted = self.is_restricted
        calls: list[Call] = []
        writes: list[int] = []
        special: Run | Transaction | None = None
        reads_behind = 0
        index = begin
        while index < end:
            args = requests[index]
            try:
                command = check(args)
                if is_restricted and command.name not in ALLOWED:
                    raise _not_for_subscribers(command)
            except ReplyError as problem:
                if args[0].upper() in (b"POST", b"HOST:"):
                    if not calls:
                        self._on_http()
                        return None
                    break
                self._on_mistake(calls, problem, args)
                index += 1
                continue
            self.last_command = command.name
            if command.reply_is_large and self.multi is None:
                if calls:
                    break
                if self._flight:
                    return None
                self._is_alone = True
                special = Run(self.database, [(self._function(command), args)], b"")
                index += 1
                break
            if command.route is Route.CONNECTION:
                if command.name in ALONE or command.name == "select":
                    if calls:
                        break  # It begins a run of its own.
                    special = self._alone(command, args)
                    if special is None:
                        return None
                    index += 1
                    break
                if command.name == "multi":
                    calls.append((_OnConnection(self, _Answer(self._multi())), args))
                elif self.multi is not None:
                    self._queue(calls, command, args, b"")
                else:
                    calls.append((self._function(command), args))
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
        self._consume(chunk, index)
        if special is not None:
            return special
        return Run(self.database, calls, _raw(chunk, writes))

    def _function(self, command: Command) -> Any:
        if command.route is Route.CONNECTION:
            return _OnConnection(self, command.function)
        return command.function

    def _consume(self, chunk: Chunk, index: int) -> None:
        self.state.commands_processed += index - self._next
        self._waiting_bytes -= chunk.borders[index] - chunk.borders[self._next]
        self._next = index
        if index == len(chunk.requests):
            self._chunks.popleft()
            self._next = 0

    def _begin(self, run: Run | Transaction) -> None:
        work = Work(self, run)
        flight = self._flight
        if work.needs_log:
            flight.append(work)
            self.state.node.submit(work)
        elif self._carrier is not None and not self._is_alone:
            self._carrier.behind.append(work)
            flight.append(work)
        elif _concerns_state(run):
            flight.append(work)
            self.state.node.read(work)
        else:
            work.is_local = True
            flight.append(work)
            if flight[0] is work:
                self.work_done()

    @property
    def _carrier(self) -> Work | None:
        """The last run under way that is in the log. What rides on it is executed right behind it."""
        return next((work for work in reversed(self._flight) if work.needs_log and not work.is_done), None)

    # The commands that are begun alone

    def _alone(self, command: Command, args: list[bytes]) -> Run | Transaction | None:
        """A run for one of them; None if it is too early."""
        name = command.name
        if self.multi is not None and name not in ("exec", "discard"):
            if name == "select":
                return self._select_in_multi(command, args)
            if name in ("watch", "unwatch", "hello") or name in SUBSCRIBING:
                if name == "watch":
                    return self._say(ReplyError("ERR WATCH inside MULTI is not allowed"))
                calls: list[Call] = []
                self._queue(calls, command, args, b"")
                return Run(self.database, calls, b"")
        if name == "select":
            reply = self._selected(args)
            return self._say(reply)
        if self._flight:
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

            return _Watch(self.database, [(watch, args)], b"")
        if name == "exec":
            return self._exec(args)
        return Run(self.database, [(_OnConnection(self, command.function), args)], b"")

    def _say(self, reply: Reply) -> Run:
        return Run(self.database, [(_OnConnection(self, _Answer(reply)), [])], b"")

    def _selected(self, args: list[bytes]) -> Reply:
        """SELECT takes effect on sight: it decides where the next commands go."""
        try:
            self.database = parse_database(args[1])
        except ReplyError as problem:
            return problem
        return Status(b"OK")

    def _select_in_multi(self, command: Command, args: list[bytes]) -> Run:
        assert self.multi is not None
        calls: list[Call] = []
        try:
            number = parse_database(args[1])
        except ReplyError as problem:
            self._queue(calls, command, args, b"", _Answer(problem))
        else:
            self._queue(calls, command, args, b"", _Answer(Status(b"OK")))
            self.multi.database = number
        return Run(self.database, calls, b"")

    def _queue(
        self,
        calls: list[Call],
        command: Command,
        args: list[bytes],
        raw: bytes,
        instead: _Answer | None = None,
    ) -> None:
        """Put a command into the transaction; the reply for now is QUEUED."""
        multi = self.multi
        assert multi is not None
        size = len(raw) if raw else sum(map(len, args))
        multi.size += QUEUED_LARGE_BYTES if command.reply_is_large else size + 64 * len(args)
        if multi.size > self.state.settings.transaction_bytes_max:
            multi.has_errors = True
            multi.groups.clear()
            problem = ReplyError("ERR the transaction is too large")
            calls.append((_OnConnection(self, _Answer(problem)), args))
            return
        function = self._function(command) if instead is None else _OnConnection(self, instead)
        multi.add((function, args), raw)
        calls.append((_OnConnection(self, _Answer(QUEUED)), args))

    def _multi(self) -> Reply:
        """MULTI takes effect on sight: it decides what becomes of the next commands."""
        if self.multi is not None:
            return ReplyError("ERR MULTI calls can not be nested")
        self.multi = _Multi(self.database)
        return Status(b"OK")

    def _exec(self, args: list[bytes]) -> Run | Transaction:
        multi, self.multi = self.multi, None
        if multi is None:
            return self._say(ReplyError("ERR EXEC without MULTI"))
        watched = [Watched(number, key, version) for (number, key), version in self.watched.items()]
        is_aborted = multi.has_errors or self.watch_failed
        self.unwatch()
        if is_aborted:
            return self._say(ReplyError("EXECABORT Transaction discarded because of previous errors."))
        groups = [Group(number, calls, b"".join(raws)) for number, calls, raws in multi.groups]
        return _Exec(self, multi.database, watched, groups)

    def unwatch(self) -> None:
        """Watch no keys any more."""
        self.watched, self.watched_bytes, self.watch_failed = {}, 0, False

    def _on_mistake(self, calls: list[Call], problem: ReplyError, args: list[bytes]) -> None:
        """What is no command at all."""
        self.state.errors += 1
        if self.multi is not None:
            self.multi.has_errors = True
        calls.append((_OnConnection(self, _Answer(problem)), args))

    def _on_http(self) -> None:
        """A browser may have been talked into this: nothing of what it sends is done (as in Redis)."""
        log.warning("%s speaks HTTP, perhaps made to by somebody else: closing the connection", self.address)
        self.close()

    # Ending

    def work_done(self) -> None:
        """Something under way is done, or the client has read on: send what can be sent, in order, and go on."""
        flight = self._flight
        while self._is_writable:
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
            encoded = encode(flight.popleft().replies, self.resp3)
            if isinstance(encoded, bytes) and unlikely("reply in pieces"):
                self._pieces = iter((encoded[:1], encoded[1:]))
            elif isinstance(encoded, bytes):
                self._write(encoded)
            else:
                self._pieces = encoded
        if not flight:
            self._is_alone = False
        if self._chunks or self.is_closing or self.requests.problem or not self._is_reading:
            self._advance()

    def _write(self, data: Buffer) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def push(self, message: bytes) -> None:
        """Tell a subscriber something, in its turn."""
        transport = self.transport
        if transport is None or transport.is_closing() or self.is_closing:
            return
        unread = self.unread_bytes
        if unread > self.state.settings.unread_bytes_max:
            log.warning("%s subscribes and leaves %d bytes unread: cut off", self.address, unread)
            self.is_closing = True
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
    def is_restricted(self) -> bool:
        """Whether it subscribes in RESP2, where a message looks like a reply."""
        return not self.resp3 and bool(self.channels or self.patterns)

    def close(self) -> None:
        """Close once everything that is under way is answered."""
        self.is_closing = True
        self._chunks.clear()
        self._next = 0
        self._advance()

    @property
    def queued_count(self) -> int:
        """How many commands MULTI has queued, or -1."""
        return -1 if self.multi is None else sum(len(calls) for _, calls, _ in self.multi.groups)


NO_STATE = ReplyError("ERR this is no command of the connection")


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
    return isinstance(run, Transaction) or any(
        not isinstance(function, _OnConnection) for function, _ in run.group.calls
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
