"""The short way: whole, small, ordinary commands of an idle connection, many connections' at once.

Most of what clients send is of one kind: a piece of bytes that is one or several whole requests, of commands that
need nothing but the state, on a connection that has nothing else under way. `Connection` does such a piece justice, but it
has questions to ask that here have but one answer. So such a piece is taken as it is: split, looked up, and put behind those that
came before it in this turn of the event loop, or since the node last handed such on. All such reads are one piece of
work for the node, and all such writes in one database, as one section of the log; each is executed in one loop, and the replies
written. Where pieces of several clients that ask for the same follow each other (GET, SET), their words are put together and
executed as one.

What is found to be anything else is not touched, and goes the long way. Order is kept: a piece goes the short way only if
nothing of its connection is under way, or only such as it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from sofadb.database.replies import OK, Reply, ReplyError
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
)
from sofadb.unlikely import unlikely

from .encoding import OK_BYTES, encode, encode_small
from .work import Work

if TYPE_CHECKING:
    from sofadb.database.database import Database

    from .connection import Connection
    from .state import ServerState

PIECE_BYTES_MAX = 64 << 10
"""A larger piece goes the long way."""
GATHERED_BYTES_MAX = 1 << 20
"""With so many bytes of writes a further piece of work is begun."""
SEEN_MAX = 1_000
"""So many beginnings of requests are known again."""
UNKNOWN_MAX = 16
"""After so many pieces, of whatever sizes, that were not like the known one of their size, the next becomes that."""


class Kind(NamedTuple):
    """What is known of the commands of a piece."""

    name: bytes
    """Of all of them, as it was spelled; empty if they are not all the same."""
    command: Command
    """The first."""
    functions: Iterable[Callable[..., Any]]
    """What executes each."""
    many: Many | None
    """What executes all of them at once, if there is such a thing."""
    width: int
    """How many words the first has; the others, too, if they are the same."""
    needs_log: bool
    shape: Shape | None = None
    """Of single requests that are known by it."""


class Known(NamedTuple):
    """What pieces of one size were lately."""

    shape: Shape
    """Of all their requests."""
    commands: int
    kind: Kind


def _kind_of(command: Command, name: bytes, width: int, shape: Shape | None = None) -> Kind:
    """Of commands that are all the same."""
    return Kind(
        name, command, repeat(command.function), command.many, width, command.route is Route.WRITE, shape
    )


class Piece(Work):
    """What one connection sent in one piece. It stands among what the connection has under way."""

    __slots__ = ("columns", "data", "kind", "rows")

    def __init__(self, connection: Connection, kind: Kind, data: bytes, size: int, commands: int) -> None:
        self.connection = connection
        self.kind = kind
        self.data = data
        """Its bytes."""
        self.size = size
        self.commands = commands
        self.needs_log = kind.needs_log
        self.columns: Columns | None = None
        """Its words, if its commands are the same and it is taken apart; or else ..."""
        self.rows: list[list[bytes]] | None = None
        """... as `requests`, if it is. Neither: it is one request, and has the shape of its kind."""
        self.behind = self.replies = ()
        self.is_done = self.is_local = False
        self.seconds = 0.0

    @property
    def requests(self) -> list[list[bytes]]:
        """The words of each command."""
        if self.rows is None:
            if self.columns is not None:
                self.rows = list(map(list, zip(*self.columns, strict=True)))
            else:
                assert self.kind.shape is not None
                self.rows = [self.kind.shape.words(self.data)]
        return self.rows

    @property
    def calls(self) -> list[Call]:
        """Its commands, as other works have them."""
        return list(zip(self.kind.functions, self.requests, strict=False))

    def become_long(self, database: int) -> None:
        """Be as any other work from here on."""
        self.run = Run(database, self.calls, self.data if self.needs_log else b"")


class Gathered:
    """The pieces of one turn, as the node counts them: a `Work` of it."""

    __slots__ = ("database", "kind", "needs_log", "pieces", "size", "state", "turn")

    def __init__(self, state: ServerState, database: int, kind: Kind) -> None:
        self.state = state
        self.database = database
        self.kind: Kind | None = kind
        """Of all pieces, if all are single requests of one shape that can be executed at once."""
        self.needs_log = kind.needs_log
        self.pieces: list[Piece] = []
        self.size = 0
        self.turn = state.node.turns[kind.needs_log]

    def encode(self) -> bytes:
        """One section of a log entry."""
        return section(self.database, b"".join([piece.data for piece in self.pieces]))

    def execute(self, database: Database) -> None:
        """Execute each command and answer each client."""
        if self.kind is not None and self._execute_alike(self.kind, database):
            return
        state = self.state
        slow = state.settings.shortest_told_us
        commands = size = written = 0
        for piece, replies, usec, has_failed in self._executed(database):
            kind, connection = piece.kind, piece.connection
            if piece.needs_log:
                connection.last_instance = database.instance
            is_short = connection.is_plain and connection.flight[0] is piece and not piece.behind
            if not is_short or has_failed or not kind.name or usec >= slow:
                self._go_the_long_way(piece, replies, usec, database)
                continue
            count = piece.commands
            figures = state.usage.figures_of(kind.name)
            figures.usec += usec
            figures.buckets[int(usec / count).bit_length()] += count
            commands += count
            size += piece.size
            data: Any = encode_small(replies, connection.resp3) or encode(replies, connection.resp3)
            if type(data) is bytes:
                written += len(data)
                connection.answer(data)
            else:
                connection.answer_in_pieces(data)
        state.begun_commands -= commands
        state.begun_bytes -= size
        state.bytes_written += written

    def _execute_alike(self, kind: Kind, database: Database) -> bool:
        """As `execute`, where all are single requests of one shape; False, and nothing is done, if it cannot be done at once."""
        pieces, state = self.pieces, self.state
        before = perf_counter()
        assert kind.many is not None
        assert kind.shape is not None
        columns = kind.shape.columns_of_known(b"".join([piece.data for piece in pieces]))
        replies = kind.many(database.keyspaces[self.database], columns)
        if replies is None:
            return False
        usec = (perf_counter() - before) * 1e6 / len(pieces)
        is_slow = usec >= state.settings.shortest_told_us
        commands = size = written = 0
        for piece, reply in zip(pieces, replies, strict=True):
            connection = piece.connection
            if kind.needs_log:
                connection.last_instance = database.instance
            flight = connection.flight
            if is_slow or not connection.is_plain or flight[0] is not piece or piece.behind:
                self._go_the_long_way(piece, [reply], usec, database)
                continue
            commands += 1
            size += piece.size
            data: Any = (
                OK_BYTES
                if reply is OK
                else encode_small([reply], connection.resp3) or encode([reply], connection.resp3)
            )
            if type(data) is not bytes:
                connection.answer_in_pieces(data)
                continue
            written += len(data)
            if len(flight) > 1:
                connection.answer(data)
                continue
            flight.popleft()
            transport = connection.transport
            if transport is not None and not transport.is_closing():
                transport.write(data)
        figures = state.usage.figures_of(kind.name)
        figures.usec += usec * commands
        figures.buckets[int(usec).bit_length()] += commands
        state.begun_commands -= commands
        state.begun_bytes -= size
        state.bytes_written += written
        return True

    def _executed(self, database: Database) -> Iterator[tuple[Piece, Sequence[Reply], float, bool]]:
        """Each piece when it is executed, its replies, how long that took (us), and whether anything in it failed."""
        keyspace = database.keyspaces[self.database]
        pieces, begin = self.pieces, 0
        while begin < len(pieces):
            kind, end = pieces[begin].kind, begin + 1
            many, width = kind.many, kind.width
            while (
                many is not None
                and end < len(pieces)
                and pieces[end].kind.many is many
                and pieces[end].kind.width == width
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

    def _execute_alone(self, piece: Piece, database: Database) -> tuple[Piece, Sequence[Reply], float, bool]:
        keyspace = database.keyspaces[self.database]
        queues, many = database.shared.queues, piece.kind.many
        has_failed = False
        before = perf_counter()
        if many is not None and piece.columns is not None:
            done = many(keyspace, piece.columns)
            if done is not None:
                return piece, done, (perf_counter() - before) * 1e6, False
        replies: list[Reply] = []
        for function, args in zip(piece.kind.functions, piece.requests, strict=False):
            try:
                replies.append(function(keyspace, args))
            except ReplyError as problem:
                replies.append(problem.as_reply())
                has_failed = True
            if queues.touched:
                database.call()
        return piece, replies, (perf_counter() - before) * 1e6, has_failed

    def _go_the_long_way(
        self, piece: Piece, replies: Sequence[Reply], usec: float, database: Database
    ) -> None:
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
    columns: Columns = [[] for _ in range(pieces[0].kind.width)]
    for piece in pieces:
        for column, more in zip(columns, piece.columns or zip(*piece.requests, strict=True), strict=True):
            column += more
    return columns


class ShortWay:
    """Takes pieces, and gathers them."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._writes: Gathered | None = None
        self._reads: Gathered | None = None
        self._seen: dict[bytes, Kind] = {}
        """By what single requests began with."""
        self._known: dict[int, Known] = {}
        """By the size of pieces."""
        self._unknown = 0
        """How many pieces were none of those, since one of them was added."""

    def take(self, connection: Connection, data: bytes, size: int) -> bool:
        """Begin what a plain connection sent; False if it has to go the long way, and nothing was done."""
        known = self._known.get(size)
        if known is not None:
            shape, count, kind = known
            for at, part in shape.between:
                if not data.startswith(part, at):
                    break
            else:
                if count == 1:
                    return self._gather(connection, kind, data, size, 1) is not None
                if (columns := shape.columns(data)) is not None:
                    return self._gather_columns(connection, kind, data, size, columns)
        head = data[: data.find(b"\r\n", 8) + 2]
        if (seen := self._seen.get(head)) is not None:
            words = request_behind(data, seen.name, len(head), seen.width - 1)
            if words is not None:
                self._get_to_know(size, 1, words, seen.command)
                return self._gather_rows(connection, seen, data, size, [words])
        lines = lines_of(data)
        if lines is None:
            return False
        if (words := request_of(lines)) is not None:
            name, width = words[0], len(words)
            if (found := ordinary(name, width)) is None:
                return False
            kind = _kind_of(found, name, width)
            if len(self._seen) < SEEN_MAX and head == beginning(words):
                self._seen[head] = kind
            return self._gather_rows(connection, kind, data, size, [words])
        columns = columns_of(lines)
        if columns is not None and columns[0].count(columns[0][0]) == len(columns[0]):
            name, width = columns[0][0], len(columns)
            if (found := ordinary(name, width)) is None:
                return False
            self._get_to_know(size, len(columns[0]), [column[0] for column in columns], found)
            return self._gather_columns(connection, _kind_of(found, name, width), data, size, columns)
        requests = requests_of(lines)
        if requests is None:
            return False
        commands = [ordinary(words[0], len(words)) for words in requests]
        first = commands[0]
        functions = [each.function for each in commands if each and first and each.route is first.route]
        if first is None or len(functions) < len(commands):
            return False
        kind = Kind(b"", first, functions, None, 0, first.route is Route.WRITE)
        return self._gather_rows(connection, kind, data, size, requests)

    def _get_to_know(self, size: int, count: int, words: list[bytes], command: Command) -> None:
        """A piece is none of those that are known. It has so many requests, of which the first has these words."""
        self._unknown += 1
        if self._unknown <= UNKNOWN_MAX or (size not in self._known and len(self._known) >= SEEN_MAX):
            return
        shape = Shape(words)
        if shape.size * count == size:
            self._unknown = 0
            kind = _kind_of(command, words[0], len(words), shape if count == 1 else None)
            self._known[size] = Known(shape, count, kind)

    def _gather_columns(
        self, connection: Connection, kind: Kind, data: bytes, size: int, columns: Columns
    ) -> bool:
        """As `_gather`; whether it was taken."""
        piece = self._gather(connection, kind, data, size, len(columns[0]))
        if piece is not None:
            piece.columns = columns
        return piece is not None

    def _gather_rows(
        self, connection: Connection, kind: Kind, data: bytes, size: int, requests: list[list[bytes]]
    ) -> bool:
        """As `_gather`; whether it was taken."""
        piece = self._gather(connection, kind, data, size, len(requests))
        if piece is not None:
            piece.rows = requests
        return piece is not None

    def _gather(
        self, connection: Connection, kind: Kind, data: bytes, size: int, commands: int
    ) -> Piece | None:
        """Put a piece behind those of this turn; None if it has to go the long way."""
        state, needs_log = self._state, kind.needs_log
        flight = connection.flight
        if flight:
            last = flight[-1]
            if (
                type(last) is not Piece
                or last.needs_log is not needs_log
                or len(flight) >= state.settings.in_flight_max
            ):
                return None
        settings = state.settings
        if (  # Something is on for which each command has to be looked at by itself.
            state.pause.is_on
            or state.monitors.connections
            or state.is_out_of_memory
            or state.begun_commands >= settings.begun_commands_max
            or state.begun_bytes >= settings.begun_bytes_max
        ):
            return None
        gathered = self._writes if needs_log else self._reads
        if (
            gathered is None
            or gathered.turn != state.node.turns[needs_log]
            or gathered.database != connection.database
            or gathered.size >= GATHERED_BYTES_MAX
        ):
            if unlikely("the long way"):
                return None
            gathered = Gathered(state, connection.database, kind)
            if needs_log:
                self._writes = gathered
                state.node.submit(gathered)
            else:
                self._reads = gathered
                state.node.read(gathered)
        if gathered.kind is not kind or kind.shape is None or kind.many is None:
            gathered.kind = None
        piece = Piece(connection, kind, data, size, commands)
        gathered.pieces.append(piece)
        gathered.size += size
        flight.append(piece)
        connection.last_command = kind.command.name
        state.begun_commands += commands
        state.begun_bytes += size
        state.commands_processed += commands
        return piece
