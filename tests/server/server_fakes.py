"""A server without sockets: fake clients, the transports between, and a node that does its work when it is told to.

`Server().connect()` gives a `Client`. What it sends arrives at once; what the server begins on its behalf waits in
`Server.node.works` until a test has it executed, in whatever order, or has it fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import hiredis

from sofadb.database.database import Database
from sofadb.database.replies import ReplyError
from sofadb.database.runs import apply
from sofadb.node.facts import Facts, Member
from sofadb.server import commands as commands  # Fills the table.
from sofadb.server.connection import Connection
from sofadb.server.encoding import Buffer
from sofadb.server.state import ServerState, Settings
from sofadb.server.work import Work

NOW = 1_700_000_000_000
"""The time (ms) at which everything happens."""

Words = str | Sequence[bytes]
"""A command; as `str`, its words with spaces between."""


def words_of(command: Words) -> list[bytes]:
    return command.encode().split() if isinstance(command, str) else list(command)


def request(command: Words) -> bytes:
    """A command as clients send it."""
    words = words_of(command)
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def pipeline(*commands: Words) -> bytes:
    return b"".join(map(request, commands))


class FakeNode:
    """Work is kept until it is executed or failed. What is written is executed by another replica as well."""

    def __init__(self) -> None:
        self.database = Database()
        self.replica = Database()
        """Knows only what goes through the log."""
        self.works: list[Work] = []
        """What is under way, in the order in which it was begun."""
        self.handed_on: dict[int, bytes | int] = {}
        """By the id of a work: what is in the log of it, or if it is a read, its size."""
        self.front = b"n1/2"
        self.on_handing_on: list[Callable[[bool], None]] = []
        self.on_applied: list[Callable[[], None]] = []
        self.on_founded: list[Callable[[], None]] = []
        self.on_leader: list[Callable[[str], None]] = []
        self.handed_over: list[tuple[str | None, float] | None] = []
        """What was asked of it: to whom to hand over and within how long, or (None) not to."""

    @property
    def applied(self) -> int:
        return self.database.instance

    def end_turn(self) -> None:
        """What one client sends is a turn of its own: nothing is put together."""
        self.hand_on()

    def hand_on(self) -> None:
        for writes in (True, False):
            for call in self.on_handing_on:
                call(writes)
            for work in self.works:
                if work.needs_log is writes and id(work) not in self.handed_on:
                    self.handed_on[id(work)] = work.encode() if writes else work.size

    def submit(self, work: Work) -> None:
        assert work.needs_log
        self.works.append(work)

    def read(self, work: Work) -> None:
        assert not work.needs_log
        self.works.append(work)

    def hand_over(self, to: str | None, within_ms: float) -> None:
        self.handed_over.append((to, within_ms))

    def keep_lead(self) -> None:
        self.handed_over.append(None)

    def execute(self, work: Work) -> None:
        self.works.remove(work)
        handed_on = self.handed_on.pop(id(work), work.encode() if work.needs_log else work.size)
        if isinstance(handed_on, int):
            assert work.size == handed_on, "what is asked later is a read for itself"
        else:
            for database in (self.database, self.replica):
                database.begin(database.instance + 1, NOW)
            apply(self.replica, handed_on)
        work.execute(self.database)
        for call in self.on_applied if work.needs_log else ():
            call()

    def execute_all(self) -> None:
        """Execute what is under way, and what is begun thereupon."""
        while self.works:
            self.execute(self.works[0])

    def fail(self, work: Work, problem: str) -> None:
        self.works.remove(work)
        self.handed_on.pop(id(work), None)
        work.fail(ReplyError(problem))


class OneTurn(FakeNode):
    """All that is asked is asked in one turn of the event loop, until it is executed or failed."""

    def end_turn(self) -> None:
        """It is not over yet."""

    def execute_all(self) -> None:
        self.hand_on()
        super().execute_all()

    def fail_all(self, problem: str) -> None:
        self.hand_on()
        for work in list(self.works):
            self.fail(work, problem)


class FakeTransport(asyncio.Transport):
    """Keeps what is written. Like a real one it has the connection pause when more than `high` bytes are unread."""

    def __init__(self, number: int, host: str = "127.0.0.1") -> None:
        super().__init__({"peername": (host, 50_000 + number), "sockname": ("127.0.0.1", 6379)})
        self.connection: Connection
        self.pieces: list[Buffer] = []
        """Everything that was ever written, as it was."""
        self.client_reads = True
        """Whether the client takes everything at once; otherwise only what `Client.read_on` takes."""
        self.unread_bytes = 0
        self.high = 0
        self.has_paused_writing = False
        self.is_read_from = True
        self.is_closed = False
        self.has_written_eof = False

    def write(self, data: Buffer) -> None:
        assert not self.is_closed, "what is written now is lost"
        assert not self.has_written_eof, "nothing follows the end"
        self.pieces.append(data)
        if not self.client_reads:
            self.unread_bytes += len(data)
            if self.unread_bytes > self.high and not self.has_paused_writing:
                self.has_paused_writing = True
                self.connection.pause_writing()

    def take(self, size: int) -> None:
        """The client reads so many bytes."""
        self.unread_bytes -= min(size, self.unread_bytes)
        if self.has_paused_writing and self.unread_bytes <= self.high // 4:
            self.has_paused_writing = False
            self.connection.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.unread_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self.high = high

    def pause_reading(self) -> None:
        assert self.is_read_from
        self.is_read_from = False

    def resume_reading(self) -> None:
        assert not self.is_read_from
        self.is_read_from = True

    def is_closing(self) -> bool:
        return self.is_closed

    def write_eof(self) -> None:
        assert not self.is_closed
        self.has_written_eof = True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True
        self.connection.connection_lost(None)


class Client:
    """The other end of a connection."""

    def __init__(self, server: Server, number: int, host: str) -> None:
        self.server, self.node = server, server.node
        self.transport = FakeTransport(number, host)
        self.connection = self.transport.connection = Connection(server.state)
        self.connection.connection_made(self.transport)
        self._reader = hiredis.Reader()
        self._pieces_parsed = 0

    def send(self, *commands: Words) -> None:
        """Send commands in one go."""
        self.send_bytes(pipeline(*commands))

    def send_bytes(self, data: bytes) -> None:
        self.connection.data_received(data)
        self.node.end_turn()

    def half_close(self) -> None:
        """Send no more, but go on reading."""
        if not self.connection.eof_received():
            self.transport.close()

    def hang_up(self) -> None:
        self.transport.is_closed = True
        self.connection.connection_lost(None)

    def read_on(self, size: int) -> None:
        self.transport.take(size)

    @property
    def received(self) -> bytes:
        """All bytes that the server has written so far."""
        return b"".join(self.transport.pieces)

    def replies(self) -> list[Any]:
        """The replies that have come since this was last asked; an error as its text behind a minus."""
        for piece in self.transport.pieces[self._pieces_parsed :]:
            self._reader.feed(bytes(piece))
        self._pieces_parsed = len(self.transport.pieces)
        replies: list[Any] = []
        while (reply := self._reader.gets()) is not False:
            replies.append(shown(reply))
        return replies

    def ask(self, *commands: Words) -> list[Any]:
        """Send commands, have everything executed, and return the replies."""
        self.send(*commands)
        self.node.execute_all()
        while self.server.turns:
            self.server.turn()
            self.node.execute_all()
        return self.replies()


def shown(reply: Any) -> Any:
    """Errors as texts, so that they compare."""
    if isinstance(reply, hiredis.ReplyError):
        return f"-{reply}"
    if isinstance(reply, list):
        return [shown(each) for each in reply]
    return reply


class FakeTimers:
    """Timers of an event loop whose time passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, asyncio.TimerHandle]] = []
        self._loop: Any = SimpleNamespace(get_debug=lambda: False, _timer_handle_cancelled=lambda timer: None)

    def call_later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(self.now + seconds, call, (), self._loop)
        self._due.append((self.now + seconds, timer))
        return timer

    def pass_time(self, seconds: float) -> None:
        """What is due by then is called."""
        self.now += seconds
        due = [timer for at, timer in self._due if at <= self.now and not timer.cancelled()]
        self._due = [(at, timer) for at, timer in self._due if at > self.now]
        for timer in due:
            timer._run()


class Server:
    """All connections of a node."""

    def __init__(self, settings: Settings | None = None, facts: Facts | None = None, **others: Any) -> None:
        """`others` are further fields of the state."""
        self.node = FakeNode()
        self.facts = facts or facts_of("leading")
        self.state = ServerState(
            self.node,
            lambda: self.facts,
            host="127.0.0.1",
            port=6379,
            settings=settings or Settings(),
            **others,
        )
        self.timers = FakeTimers()
        self.state.pause.call_later = self.timers.call_later
        self.turns: list[Callable[[], None]] = []
        """What is to be done in the next turn of the event loop."""
        self.state.heavy.call_soon = self.turns.append
        self.state.pause.clock = lambda: self.timers.now
        self._connected = 0

    def turn(self) -> None:
        """The event loop goes on."""
        turns, self.turns[:] = list(self.turns), []
        for call in turns:
            call()

    def applied(self) -> None:
        """A batch that a test had executed by itself is done."""
        for call in self.node.on_applied:
            call()

    def connect(self, host: str = "127.0.0.1") -> Client:
        self._connected += 1
        return Client(self, self._connected, host)


def in_one_turn(settings: Settings | None = None) -> Server:
    """A server whose node is `OneTurn`."""
    server = Server(settings)
    node = OneTurn()
    node.on_handing_on = server.node.on_handing_on
    server.node = server.state.node = node  # type: ignore[assignment]
    return server


def facts_of(role: str, leader: str = "n1") -> Facts:
    """What n1 says, or if it does not lead, n2. Of three nodes n3 cannot be reached."""
    addresses = {"n1": "10.0.0.1:6379", "n2": "10.0.0.2:6380", "n3": "10.0.0.3:6381"}
    return Facts(
        node="n1" if role == "leading" else "n2",
        cluster="c1u57e4",
        starts=2,
        role=role,
        leader=leader,
        leader_client_address=addresses.get(leader, ""),
        successor="",
        ballot="7.n1",
        chosen=42,
        applied=41,
        directory="/var/lib/sofadb",
        process_id=1234,
        uptime_s=200_000,
        journal_bytes=4096,
        journal_syncs=17,
        journal_held=0,
        level=1,
        snapshot=0,
        snapshot_bytes=0,
        snapshot_at=0,
        snapshot_is_taken=False,
        snapshot_problem="",
        members=tuple(
            Member(node, f"{node}:7000", address, node != "n3", "" if node != "n3" else "no route", node)
            for node, address in addresses.items()
        ),
        voters=tuple(addresses),
        quorum=2,
    )
