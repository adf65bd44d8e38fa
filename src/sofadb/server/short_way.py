"""The short way: whole, small, ordinary commands of an idle connection, many connections' at once.

Most of what clients send is of one kind: a piece of bytes that is one or several whole requests, of commands that
need nothing but the state, on a connection that has nothing else under way. `Connection` does such a piece justice, but it
has questions to ask that here have but one answer. So such a piece is taken as it is: split, looked up, and put behind those that
came before it in this turn of the event loop. All reads of a turn are one piece of work for the node, and all
writes of a turn in one database, as one section of the log; each is executed in one loop, and the replies written.

What is found to be anything else is not touched, and goes the long way. Order is kept: a piece goes the short way only if
nothing of its connection is under way, or only such as it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sofadb.database.replies import Reply, ReplyError
from sofadb.database.runs import Call, Run, section
from sofadb.database.table import Route, ordinary
from sofadb.unlikely import unlikely

from .encoding import encode, encode_small
from .work import Work

if TYPE_CHECKING:
    from sofadb.database.database import Database

    from .connection import Connection
    from .state import ServerState
    from .usage import Figures

PIECE_BYTES_MAX = 64 << 10
"""A larger piece goes the long way."""
WORD_BYTES_MAX = 16 << 10
"""One with a word that is as long as this, too."""
GATHERED_BYTES_MAX = 1 << 20
"""With so many bytes of writes a further piece of work is begun."""

_HEADS = [b"$%d" % length for length in range(WORD_BYTES_MAX)]
_COUNTS = {b"*%d" % count: count for count in range(1, 64)}
_head_of = _HEADS.__getitem__


def split(data: bytes) -> tuple[list[list[bytes]], bool] | None:
    """The requests that `data` consists of, and whether all are of one name and length.

    None, if it is not whole requests of short words without line ends. As safe as the walk of `requests`: nothing is
    reserved for what a client claims, and what is not written as it should be is found since it is not equal to that.
    """
    parts = data.split(b"\r\n")
    if parts.pop() or not parts:
        return None
    count = _COUNTS.get(parts[0])
    if count is None:
        return None
    stride = 2 * count + 1
    try:
        if len(parts) == stride:
            words = parts[2::2]
            return ([words], True) if parts[1::2] == list(map(_head_of, map(len, words))) else None
        if not len(parts) % stride and parts[::stride].count(parts[0]) * stride == len(parts):
            columns = [parts[at::stride] for at in range(2, stride, 2)]
            for at, column in enumerate(columns):
                if parts[2 * at + 1 :: stride] != list(map(_head_of, map(len, column))):
                    return None
            is_uniform = columns[0].count(columns[0][0]) == len(columns[0])
            return list(map(list, zip(*columns, strict=True))), is_uniform
        return _split_mixed(parts)
    except IndexError:  # A word is too long.
        return None


def _split_mixed(parts: list[bytes]) -> tuple[list[list[bytes]], bool] | None:
    """Requests of several lengths."""
    requests, at = [], 0
    while at < len(parts):
        count = _COUNTS.get(parts[at])
        if count is None:
            return None
        end = at + 1 + 2 * count
        words = parts[at + 2 : end : 2]
        if len(words) != count or parts[at + 1 : end : 2] != list(map(_head_of, map(len, words))):
            return None
        requests.append(words)
        at = end
    return requests, False


class Piece(Work):
    """What one connection sent in one piece. It stands among what the connection has under way."""

    __slots__ = ("data", "figures", "functions", "requests")

    def __init__(
        self,
        connection: Connection,
        functions: Iterable[Callable[..., Any]],
        requests: list[list[bytes]],
        data: bytes,
        needs_log: bool,
        figures: Figures | None,
    ) -> None:
        self.connection = connection
        self.functions = functions
        """For each request, what executes it."""
        self.requests = requests
        self.data = data
        """Their bytes."""
        self.figures = figures
        """Where it is counted, if all its commands are of one kind."""
        self.commands = len(requests)
        self.bytes = len(data)
        self.needs_log = needs_log
        self.behind = []
        self.replies = []
        self.is_done = False
        self.is_local = False
        self.seconds = 0.0

    def become_long(self, database: int) -> None:
        """Be as any other work from here on."""
        self.run = Run(database, self.calls, self.data if self.needs_log else b"")

    @property
    def calls(self) -> list[Call]:
        """Its commands, as other works have them."""
        return list(zip(self.functions, self.requests, strict=False))


class Gathered:
    """The pieces of one turn: a `Work` of the node."""

    __slots__ = ("database", "needs_log", "pieces", "size", "state", "turn")

    def __init__(self, state: ServerState, database: int, needs_log: bool) -> None:
        self.state = state
        self.database = database
        self.needs_log = needs_log
        self.pieces: list[Piece] = []
        self.size = 0
        self.turn = state.node.turn

    def encode(self) -> bytes:
        """One section of a log entry."""
        return section(self.database, b"".join([piece.data for piece in self.pieces]))

    def execute(self, database: Database) -> None:
        """Execute each command and answer each client."""
        state = self.state
        keyspace = database.keyspaces[self.database]
        queues = database.shared.queues
        slow = state.settings.shortest_told_us
        commands = size = written = 0
        before = perf_counter()
        for piece in self.pieces:
            replies: list[Reply] = []
            has_failed = False
            for function, args in zip(piece.functions, piece.requests, strict=False):
                try:
                    replies.append(function(keyspace, args))
                except ReplyError as problem:
                    replies.append(problem.as_reply())
                    has_failed = True
                if queues.touched:
                    database.call()
            now = perf_counter()
            usec, before = (now - before) * 1e6, now
            figures, connection = piece.figures, piece.connection
            if piece.needs_log:
                connection.last_instance = database.instance
            is_short = connection.is_plain and connection.flight[0] is piece and not piece.behind
            if not is_short or has_failed or figures is None or usec >= slow:
                self._go_the_long_way(piece, replies, usec, database)
                before = perf_counter()
                continue
            count = piece.commands
            figures.usec += usec
            figures.buckets[int(usec / count).bit_length()] += count
            commands += count
            size += piece.bytes
            data: Any = encode_small(replies) or encode(replies, connection.resp3)
            if type(data) is bytes:
                written += len(data)
                connection.answer(data)
            else:
                connection.answer_in_pieces(data)
        state.begun_commands -= commands
        state.begun_bytes -= size
        state.bytes_written += written

    def _go_the_long_way(self, piece: Piece, replies: list[Reply], usec: float, database: Database) -> None:
        piece.become_long(self.database)
        piece.replies, piece.seconds = replies, usec / 1e6
        piece.is_done = True
        piece.leave()
        for work in piece.behind:
            work.perform(database)
        piece.connection.work_done()

    def fail(self, error: ReplyError) -> None:
        """None of it is done, or nobody knows."""
        for piece in self.pieces:
            piece.become_long(self.database)
            piece.fail(error)


class ShortWay:
    """Takes pieces, and gathers them."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._writes: Gathered | None = None
        self._reads: Gathered | None = None

    def take(self, connection: Connection, data: bytes) -> bool:
        """Begin what a plain connection sent; False if it has to go the long way, and nothing was done."""
        found = split(data)
        if found is None:
            return False
        requests, is_uniform = found
        command = ordinary(requests[0])
        if command is None:
            return False
        functions: Iterable[Callable[..., Any]]
        state, route = self._state, command.route
        figures = state.usage.figures_of(requests[0]) if is_uniform else None
        if is_uniform:
            functions = repeat(command.function)
        else:
            commands = list(map(ordinary, requests))
            functions = [each.function for each in commands if each is not None and each.route is route]
            if len(functions) < len(commands):
                return False
        needs_log = route is Route.WRITE
        flight = connection.flight
        if flight:
            last = flight[-1]
            if (
                type(last) is not Piece
                or last.needs_log is not needs_log
                or len(flight) >= state.settings.in_flight_max
            ):
                return False
        gathered = self._writes if needs_log else self._reads
        if (
            gathered is None
            or gathered.turn != state.node.turn
            or gathered.database != connection.database
            or gathered.size >= GATHERED_BYTES_MAX
        ):
            if not self._is_open():
                return False
            gathered = Gathered(state, connection.database, needs_log)
            if needs_log:
                self._writes = gathered
                state.node.submit(gathered)
            else:
                self._reads = gathered
                state.node.read(gathered)
        gathered.size += len(data)
        piece = Piece(connection, functions, requests, data, needs_log, figures)
        gathered.pieces.append(piece)
        flight.append(piece)
        connection.last_command = command.name
        state.begun_commands += piece.commands
        state.begun_bytes += len(data)
        state.commands_processed += piece.commands
        return True

    def _is_open(self) -> bool:
        """Whether nothing is on for which each command has to be looked at by itself."""
        state = self._state
        return not (state.monitors or state.pause.is_on or state.is_overloaded or unlikely("the long way"))
