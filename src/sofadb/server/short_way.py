"""The short way: whole, small, ordinary commands of an idle connection, many connections' at once.

Most of what clients send is of one kind: a piece of bytes that is one or several whole requests, of commands that
need nothing but the state, on a connection that has nothing else under way. `Connection` does such a piece justice, but it
has questions to ask that here have but one answer. So such a piece is taken as it is: split, looked up, and put behind those that
came before it in this turn of the event loop. All reads of a turn are one piece of work for the node, and all
writes of a turn in one database, as one section of the log; each is executed in one loop, and the replies written. Where
pieces of several clients that ask for the same follow each other (GET, SET), their words are put together and executed as one.

What is found to be anything else is not touched, and goes the long way. Order is kept: a piece goes the short way only if
nothing of its connection is under way, or only such as it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from sofadb.database.replies import Reply, ReplyError
from sofadb.database.runs import Call, Run, section
from sofadb.database.table import Command, Many, Route, ordinary
from sofadb.database.wire import (
    Columns,
    Shape,
    beginning,
    columns_of,
    lines_of,
    request_behind,
    request_of,
    requests_of,
    shape_of,
    split_columns,
)
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
GATHERED_BYTES_MAX = 1 << 20
"""With so many bytes of writes a further piece of work is begun."""
SEEN_MAX = 1_000
"""So many beginnings of requests are known again."""
UNKNOWN_MAX = 16
"""After so many single requests that are not like the known one of their size, the next becomes that."""


class Piece(Work):
    """What one connection sent in one piece. It stands among what the connection has under way."""

    __slots__ = ("columns", "data", "figures", "functions", "many", "rows", "shape", "width")

    def __init__(
        self,
        connection: Connection,
        functions: Iterable[Callable[..., Any]],
        commands: int,
        width: int,
        data: bytes,
        needs_log: bool,
    ) -> None:
        """So many commands; the first has so many words, and all have if they are of one kind."""
        self.connection = connection
        self.functions = functions
        """For each request, what executes it."""
        self.many: Many | None = None
        """What executes all of it at once, if there is such a thing."""
        self.data = data
        """Its bytes."""
        self.figures: Figures | None = None
        """Where it is counted, if all its commands are of one kind."""
        self.commands, self.width = commands, width
        self.bytes = len(data)
        self.needs_log = needs_log
        self.behind = []
        self.replies = []
        self.is_done = False
        self.is_local = False
        self.seconds = 0.0
        self.columns: Columns | None = None
        """Its words, if its commands are of one kind and it is taken apart; or else ..."""
        self.rows: list[list[bytes]] | None = None
        """... as `requests`, if it is; or else ..."""
        self.shape: Shape | None = None
        """... it is one request of this shape."""

    @property
    def requests(self) -> list[list[bytes]]:
        """The words of each command."""
        if self.rows is None:
            if self.columns is not None:
                self.rows = list(map(list, zip(*self.columns, strict=True)))
            else:
                assert self.shape is not None
                self.rows = [self.shape.words(self.data)]
        return self.rows

    @property
    def calls(self) -> list[Call]:
        """Its commands, as other works have them."""
        return list(zip(self.functions, self.requests, strict=False))

    def become_long(self, database: int) -> None:
        """Be as any other work from here on."""
        self.run = Run(database, self.calls, self.data if self.needs_log else b"")


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
        slow = state.settings.shortest_told_us
        commands = size = written = 0
        for piece, replies, usec, has_failed in self._executed(database):
            figures, connection = piece.figures, piece.connection
            if piece.needs_log:
                connection.last_instance = database.instance
            is_short = connection.is_plain and connection.flight[0] is piece and not piece.behind
            if not is_short or has_failed or figures is None or usec >= slow:
                self._go_the_long_way(piece, replies, usec, database)
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

    def _executed(self, database: Database) -> Iterator[tuple[Piece, list[Reply], float, bool]]:
        """Each piece when it is executed, its replies, how long that took (us), and whether anything in it failed."""
        keyspace = database.keyspaces[self.database]
        pieces, begin = self.pieces, 0
        while begin < len(pieces):
            first, end = pieces[begin], begin + 1
            many, width = first.many, first.width
            while (
                many is not None
                and end < len(pieces)
                and pieces[end].many is many
                and pieces[end].width == width
            ):
                end += 1
            group, begin = pieces[begin:end], end
            before = perf_counter()
            replies = None if many is None else many(keyspace, _columns_of(group))
            if replies is None:
                for piece in group:
                    yield self._execute_alone(piece, database)
                continue
            usec = (perf_counter() - before) * 1e6 / len(replies)
            at = 0
            for piece in group:
                count = piece.commands
                yield piece, replies[at : at + count], usec * count, False
                at += count

    def _execute_alone(self, piece: Piece, database: Database) -> tuple[Piece, list[Reply], float, bool]:
        keyspace = database.keyspaces[self.database]
        queues = database.shared.queues
        has_failed = False
        before = perf_counter()
        if piece.many is not None and piece.columns is not None:
            done = piece.many(keyspace, piece.columns)
            if done is not None:
                return piece, done, (perf_counter() - before) * 1e6, False
        replies: list[Reply] = []
        for function, args in zip(piece.functions, piece.requests, strict=False):
            try:
                replies.append(function(keyspace, args))
            except ReplyError as problem:
                replies.append(problem.as_reply())
                has_failed = True
            if queues.touched:
                database.call()
        return piece, replies, (perf_counter() - before) * 1e6, has_failed

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


def _columns_of(pieces: list[Piece]) -> Columns:
    """The words of pieces of which each command has as many."""
    width = pieces[0].width
    if not any(piece.columns for piece in pieces):
        data = b"".join([piece.data for piece in pieces])
        columns = split_columns(data, sum([piece.commands for piece in pieces]), width)
        if columns is not None:
            return columns
    columns = [[] for _ in range(width)]
    for piece in pieces:
        for column, more in zip(columns, piece.columns or zip(*piece.requests, strict=True), strict=True):
            column += more
    return columns


class _Known(NamedTuple):
    """What is known of a single request as long as some other was."""

    between: tuple[tuple[int, bytes], ...]
    shape: Shape
    command: Command
    functions: Iterable[Callable[..., Any]]


class ShortWay:
    """Takes pieces, and gathers them."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._writes: Gathered | None = None
        self._reads: Gathered | None = None
        self._seen: dict[bytes, tuple[Command, bytes, int]] = {}
        """By what single requests began with: the command, how its name is spelled, and how many words are behind it."""
        self._known: dict[int, _Known] = {}
        """Single requests by their size: a recent one of each."""
        self._unknown = 0
        """How many were none of those, since one of them became one."""

    def take(self, connection: Connection, data: bytes) -> bool:
        """Begin what a plain connection sent; False if it has to go the long way, and nothing was done."""
        known = self._known.get(len(data))
        if known is not None:
            for at, part in known.between:
                if not data.startswith(part, at):
                    break
            else:
                shape = known.shape
                piece = self._gather(
                    connection, data, known.command, shape.name, known.functions, 1, len(shape.cuts) + 1
                )
                if piece is None:
                    return False
                piece.shape = shape
                return True
        head = data[: data.find(b"\r\n", 8) + 2]
        if (seen := self._seen.get(head)) is not None:
            command, name, behind = seen
            words = request_behind(data, name, len(head), behind)
            if words is not None:
                self._get_to_know(len(data), words, command)
                return self._gather_rows(connection, data, command, repeat(command.function), [words])
        lines = lines_of(data)
        if lines is None:
            return False
        if (words := request_of(lines)) is not None:
            found = ordinary(words[0], len(words))
            if found is None:
                return False
            if len(self._seen) < SEEN_MAX and head == beginning(words):
                self._seen[head] = found, words[0], len(words) - 1
            return self._gather_rows(connection, data, found, repeat(found.function), [words])
        columns = columns_of(lines)
        if columns is not None and columns[0].count(columns[0][0]) == len(columns[0]):
            name = columns[0][0]
            found = ordinary(name, len(columns))
            if found is None:
                return False
            functions = repeat(found.function)
            piece = self._gather(connection, data, found, name, functions, len(columns[0]), len(columns))
            if piece is None:
                return False
            piece.columns = columns
            return True
        requests = requests_of(lines)
        if requests is None:
            return False
        commands = [ordinary(words[0], len(words)) for words in requests]
        first = commands[0]
        functions_of_each = [
            each.function for each in commands if each and first and each.route is first.route
        ]
        if first is None or len(functions_of_each) < len(commands):
            return False
        return self._gather_rows(connection, data, first, functions_of_each, requests)

    def _get_to_know(self, size: int, words: list[bytes], command: Command) -> None:
        """This is a single request that is not like the known one of its size."""
        self._unknown += 1
        if self._unknown > UNKNOWN_MAX and (size in self._known or len(self._known) < SEEN_MAX):
            self._unknown = 0
            shape = shape_of(words)
            self._known[size] = _Known(shape.between, shape, command, repeat(command.function))

    def _gather_rows(
        self,
        connection: Connection,
        data: bytes,
        command: Command,
        functions: Iterable[Callable[..., Any]],
        requests: list[list[bytes]],
    ) -> bool:
        """As `_gather`, of requests of which each may be of another kind; whether they were taken."""
        first = requests[0]
        piece = self._gather(connection, data, command, first[0], functions, len(requests), len(first))
        if piece is None:
            return False
        piece.rows = requests
        if len(requests) > 1:
            piece.many = piece.figures = None
        return True

    def _gather(
        self,
        connection: Connection,
        data: bytes,
        command: Command,
        name: bytes,
        functions: Iterable[Callable[..., Any]],
        commands: int,
        width: int,
    ) -> Piece | None:
        """Put a piece behind those of this turn; None if it has to go the long way.

        It is so many requests for `command`, which was spelled `name`, with so many words each.
        """
        state = self._state
        needs_log = command.route is Route.WRITE
        flight = connection.flight
        if flight:
            last = flight[-1]
            if (
                type(last) is not Piece
                or last.needs_log is not needs_log
                or len(flight) >= state.settings.in_flight_max
            ):
                return None
        gathered = self._writes if needs_log else self._reads
        if (
            gathered is None
            or gathered.turn != state.node.turn
            or gathered.database != connection.database
            or gathered.size >= GATHERED_BYTES_MAX
        ):
            if not self._is_open():
                return None
            gathered = Gathered(state, connection.database, needs_log)
            if needs_log:
                self._writes = gathered
                state.node.submit(gathered)
            else:
                self._reads = gathered
                state.node.read(gathered)
        piece = Piece(connection, functions, commands, width, data, needs_log)
        piece.many = command.many
        piece.figures = state.usage.figures_of(name)
        gathered.pieces.append(piece)
        gathered.size += piece.bytes
        flight.append(piece)
        connection.last_command = command.name
        state.begun_commands += commands
        state.begun_bytes += piece.bytes
        state.commands_processed += commands
        return piece

    def _is_open(self) -> bool:
        """Whether nothing is on for which each command has to be looked at by itself."""
        state = self._state
        is_odd = state.monitors or state.pause.is_on or state.is_overloaded or state.is_out_of_memory
        return not (is_odd or unlikely("the long way"))
