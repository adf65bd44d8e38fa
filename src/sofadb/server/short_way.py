"""The short way: whole, small, ordinary commands of an idle connection, many connections' at once.

Most of what clients send is of one kind: a piece of bytes that is one or several whole requests, of commands that
need nothing but the state, on a connection that has nothing else under way. `Connection` does such a piece justice, but it
has questions to ask that here have but one answer. So such a piece is taken as it is: split, looked up, and put behind those that
came before it in this turn of the event loop, or since the node last handed such on. All such reads are one piece of
work for the node, and all such writes in one database, as one section of the log; each is executed in one loop, and the replies
written. Where pieces of several clients that ask for the same follow each other (GET, SET), their words are put together and
executed as one.

Many clients often send the same at about the same time: GETs, or SETs, with as many bytes. The first such piece begins a
`Crowd`, and whoever sends another joins it; what they sent is taken apart, executed and answered as one.

What is found to be anything else is not touched, and goes the long way. Order is kept: a piece goes the short way only if
nothing of its connection is under way, or only such as it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
)
from sofadb.unlikely import unlikely

from .encoding import encode, encode_one, encode_small
from .work import Work

if TYPE_CHECKING:
    from sofadb.database.database import Database

    from .connection import Connection
    from .state import ServerState

PIECE_BYTES_MAX = 64 << 10
"""A larger piece goes the long way."""
GATHERED_BYTES_MAX = 1 << 20
"""With so many bytes of writes a further piece of work is begun."""
CROWD_COMMANDS_MAX, CROWD_BYTES_MAX = 1_024, 128 << 10
"""So much is in a crowd at most, ..."""
CROWDS_MAX = 8
"""... of which so many are open at most."""
FEW = 4
"""In a smaller crowd each costs more than alone."""
GAIN, GAIN_MAX, ALONE = 20, 100, 1_000
"""What larger ones gained, and smaller ones lost (their pieces, less `FEW` for each), is counted from the first on, up to the
second; when there is nothing left, so many pieces are taken alone."""
LOOK_ALIKE_TIMES = 10
"""What only looked like others costs so many times what one of these gains."""
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


class Known:
    """What pieces of one size were lately."""

    __slots__ = ("alone", "commands", "gain", "kind", "shape")

    def __init__(self, shape: Shape, commands: int, kind: Kind) -> None:
        self.shape = shape
        """Of all their requests."""
        self.commands = commands
        self.kind = kind
        self.gain, self.alone = GAIN, 0
        """What their crowds have gained; and how many more are taken alone, since that was nothing any more."""

    def note(self, count: int, look_alikes: int) -> None:
        """There was a crowd of so many, and of so many that only looked like them."""
        self.gain = min(GAIN_MAX, self.gain + count - FEW - LOOK_ALIKE_TIMES * look_alikes)
        if self.gain < 0:
            self.gain, self.alone = GAIN, ALONE


def _kind_of(command: Command, name: bytes, width: int) -> Kind:
    """Of commands that are all the same."""
    return Kind(name, command, repeat(command.function), command.many, width, command.route is Route.WRITE)


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
        """... as `requests`."""
        self.behind = self.replies = ()
        self.is_done = self.is_local = False
        self.seconds = 0.0

    @property
    def requests(self) -> list[list[bytes]]:
        """The words of each command."""
        if self.rows is None:
            assert self.columns is not None
            self.rows = list(map(list, zip(*self.columns, strict=True)))
        return self.rows

    @property
    def calls(self) -> list[Call]:
        """Its commands, as other works have them."""
        return list(zip(self.kind.functions, self.requests, strict=False))

    def become_long(self, database: int) -> None:
        """Be as any other work from here on."""
        self.run = Run(database, self.calls, self.data if self.needs_log else b"")


class Crowd(Work):
    """A piece each of many connections that have nothing else under way, all of one size, with the same command.

    As long as it is open, whoever sends something as long, with the same beginning, joins it at once (`Connection`), and that
    is all that is paid for it alone. When it is closed it is seen whether all are of the shape that is known for that size;
    what is not goes the long way from there. (Not the short one: what it is put into is just being handed on.) It stands first
    among what each connection has under way, and is counted when it is closed.
    """

    __slots__ = (
        "apart",
        "capacity",
        "columns",
        "connections",
        "data",
        "database",
        "gathered",
        "head",
        "known",
        "piece_size",
        "pieces",
    )

    def __init__(self, gathered: Gathered, known: Known, size: int, capacity: int) -> None:
        self.gathered: Gathered | None = gathered
        """What it is part of, while it is open. (Then it lets go of that: nothing is left that only the collector would find.)"""
        self.database = gathered.database
        self.known = known
        self.piece_size = size
        self.head = known.shape.between[0][1]
        """What each begins with."""
        self.capacity = capacity
        self.connections: list[Connection] = []
        self.pieces: list[bytes] = []
        """What each of them sent, while it is open."""
        self.data = b""
        """All of that, when it is closed."""
        self.columns: Columns | None = None
        """And its words."""
        self.apart: dict[Connection, Piece] = {}
        """Of those who have something else by now that rides on theirs."""
        self.needs_log = known.kind.needs_log
        self.behind = self.replies = ()
        self.is_done = self.is_local = False
        self.seconds = 0.0
        self.size = self.commands = 0

    def close(self) -> None:
        """Let nobody join any more. What is not what it looked like goes the long way now."""
        gathered, self.gathered = self.gathered, None
        if gathered is None:
            return
        state, shape, size = gathered.state, self.known.shape, self.piece_size
        del state.short_way.crowds[size]
        self.data = b"".join(self.pieces)
        self.columns = shape.columns(self.data)
        look_alikes: list[tuple[Connection, bytes]] = []
        if self.columns is None:
            look_alikes = self._part_with_look_alikes()
        self.pieces = []
        self.known.note(len(self.connections), len(look_alikes))
        self.size = len(self.data)
        self.commands = len(self.connections) * self.known.commands
        name = self.known.kind.command.name
        for connection in self.connections:
            connection.last_command = name
            connection.received_bytes += size
        gathered.closed_bytes += self.size
        state.bytes_read += self.size
        state.begun_commands += self.commands
        state.begun_bytes += self.size
        state.commands_processed += self.commands
        for connection, piece in look_alikes:
            connection.take_again(self, piece)

    def _part_with_look_alikes(self) -> list[tuple[Connection, bytes]]:
        shape = self.known.shape
        look_alikes: list[tuple[Connection, bytes]] = []
        known: list[tuple[Connection, bytes]] = []
        for each in zip(self.connections, self.pieces, strict=True):
            (look_alikes if shape.columns(each[1]) is None else known).append(each)
        self.connections = [connection for connection, _ in known]
        self.data = b"".join([piece for _, piece in known])
        self.columns = shape.columns(self.data)
        return look_alikes

    def piece_of(self, connection: Connection, at: int) -> Piece:
        """What one of them sent, by itself; `at` is where in the crowd that is."""
        if (piece := self.apart.get(connection)) is not None:
            return piece
        assert self.columns is not None
        kind, commands, size = self.known.kind, self.known.commands, self.piece_size
        piece = Piece(connection, kind, self.data[at * size : (at + 1) * size], size, commands)
        piece.columns = [column[at * commands : (at + 1) * commands] for column in self.columns]
        if connection.flight and connection.flight[0] is self:
            connection.flight[0] = piece
        return piece

    def take_apart(self, connection: Connection) -> Piece:
        """Something of one of them rides on what it sent."""
        self.close()
        piece = self.apart[connection] = self.piece_of(connection, self.connections.index(connection))
        return piece

    def all_apart(self) -> list[Piece]:
        """What each of them sent, by itself."""
        return [self.piece_of(connection, at) for at, connection in enumerate(self.connections)]


class Gathered:
    """The pieces of one turn, as the node counts them: a `Work` of it."""

    __slots__ = ("closed_bytes", "database", "needs_log", "parts", "state")

    def __init__(self, state: ServerState, database: int, needs_log: bool) -> None:
        self.state = state
        self.database = database
        self.needs_log = needs_log
        self.parts: list[Piece | Crowd] = []
        self.closed_bytes = 0
        """Of what is in it, but for crowds that are open."""

    @property
    def size(self) -> int:
        """Bytes of the requests."""
        crowds = self.state.short_way.crowds.values()
        return self.closed_bytes + sum(
            crowd.piece_size * len(crowd.pieces) for crowd in crowds if crowd.gathered is self
        )

    def encode(self) -> bytes:
        """One section of a log entry."""
        return section(self.database, b"".join([part.data for part in self.parts]))

    def execute(self, database: Database) -> None:
        """Execute each command and answer each client."""
        pieces: list[Piece] = []
        for part in self.parts:
            if isinstance(part, Crowd):
                if pieces:
                    self._execute_pieces(pieces, database)
                    pieces = []
                self._execute_crowd(part, database)
            else:
                pieces.append(part)
        if pieces:
            self._execute_pieces(pieces, database)

    def _execute_crowd(self, crowd: Crowd, database: Database) -> None:
        state, connections = self.state, crowd.connections
        kind, count, size = crowd.known.kind, crowd.known.commands, crowd.piece_size
        before = perf_counter()
        assert kind.many is not None
        assert crowd.columns is not None
        replies = kind.many(database.keyspaces[self.database], crowd.columns)
        if replies is None:
            self._execute_pieces(crowd.all_apart(), database)
            return
        usec = (perf_counter() - before) * 1e6 / max(1, len(replies))
        is_slow = usec * count >= state.settings.shortest_told_us
        if kind.needs_log:
            for connection in connections:
                connection.last_instance = database.instance
        answered = written = 0
        for at, connection in enumerate(connections):
            flight = connection.flight
            if is_slow or not connection.is_plain or not flight or flight[0] is not crowd:
                told = replies[at * count : (at + 1) * count]
                self._go_the_long_way(crowd.piece_of(connection, at), told, usec * count, database)
                continue
            answered += 1
            transport: Any = connection.transport
            if count == 1:
                resp3 = connection.resp3
                data: Any = encode_one(replies[at], resp3) or encode(replies[at : at + 1], resp3)
            else:
                told = replies[at * count : (at + 1) * count]
                data = encode_small(told, connection.resp3) or encode(told, connection.resp3)
            if type(data) is not bytes:
                connection.answer_in_pieces(data)
                continue
            written += len(data)
            flight.popleft()
            transport.write(data)
            if flight and flight[0].is_done:
                connection.work_done()
        figures = state.usage.figures_of(kind.name)
        figures.usec += usec * count * answered
        figures.buckets[int(usec).bit_length()] += count * answered
        state.begun_commands -= count * answered
        state.begun_bytes -= size * answered
        state.bytes_written += written

    def _execute_pieces(self, pieces: list[Piece], database: Database) -> None:
        state = self.state
        slow = state.settings.shortest_told_us
        commands = size = written = 0
        for piece, replies, usec, has_failed in self._executed(pieces, database):
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

    def _executed(
        self, pieces: list[Piece], database: Database
    ) -> Iterator[tuple[Piece, Sequence[Reply], float, bool]]:
        """Each piece when it is executed, its replies, how long that took (us), and whether anything in it failed."""
        keyspace = database.keyspaces[self.database]
        begin = 0
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
        for part in self.parts:
            for piece in part.all_apart() if isinstance(part, Crowd) else [part]:
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
        self._open: dict[bool, Gathered] = {}
        """What writes (True) and reads are put into."""
        self.crowds: dict[int, Crowd] = {}
        """Those that are open, by the size of their pieces."""
        self._seen: dict[bytes, Kind] = {}
        """By what single requests began with."""
        self._known: dict[int, Known] = {}
        """By the size of pieces."""
        self._unknown = 0
        """How many pieces were none of those, since one of them was added."""

    def hand_on(self, needs_log: bool) -> None:
        """Put nothing more into what is open."""
        gathered = self._open.pop(needs_log, None)
        if gathered is not None:
            for crowd in [crowd for crowd in self.crowds.values() if crowd.gathered is gathered]:
                crowd.close()

    def close(self) -> None:
        """Let nobody join what is open: from now on each command has to be looked at by itself."""
        self.hand_on(True)
        self.hand_on(False)

    def take(self, connection: Connection, data: bytes, size: int) -> bool:
        """Begin what a plain connection sent; False if it has to go the long way, and nothing was done."""
        flight = connection.flight
        if flight and type(last := flight[-1]) is Crowd:
            last.close()  # If what it sent before is not what it looked like, this comes behind it.
            if not connection.is_plain:
                return False
        known = self._known.get(size)
        if known is not None and known.shape.fits(data):
            shape, kind = known.shape, known.kind
            columns = None if known.commands == 1 else shape.columns(data)
            if columns is not None or known.commands == 1:
                if known.alone:
                    known.alone -= 1
                elif kind.many and not flight and self._begin_crowd(connection, known, data, size):
                    return True
                if columns is None:
                    return self._gather_rows(connection, kind, data, size, [shape.words(data)])
                return self._gather_columns(connection, kind, data, size, columns)
        head = data[: data.find(b"\r\n", 8) + 2]
        if (seen := self._seen.get(head)) is not None:
            words = request_behind(data, seen.name, len(head), seen.width - 1)
            if words is not None:
                self._get_to_know(size, 1, words, seen)
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
            kind = _kind_of(found, name, width)
            self._get_to_know(size, len(columns[0]), [column[0] for column in columns], kind)
            return self._gather_columns(connection, kind, data, size, columns)
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

    def _get_to_know(self, size: int, count: int, words: list[bytes], kind: Kind) -> None:
        """A piece is none of those that are known. It has so many requests, of which the first has these words."""
        self._unknown += 1
        if self._unknown <= UNKNOWN_MAX or (size not in self._known and len(self._known) >= SEEN_MAX):
            return
        shape = Shape(words)
        if shape.size * count == size:
            self._unknown = 0
            self._known[size] = Known(shape, count, kind)

    def _begin_crowd(self, connection: Connection, known: Known, data: bytes, size: int) -> bool:
        """Let others join this piece; False if that is not the time for it.

        What joins is counted when the crowd is closed. So there must be room now for all that crowds may hold, and by as much,
        at most, more may be begun than otherwise.
        """
        state = self._state
        commands = state.begun_commands + CROWDS_MAX * CROWD_COMMANDS_MAX
        capacity = min(CROWD_COMMANDS_MAX // known.commands, CROWD_BYTES_MAX // size)
        if (
            capacity < FEW
            or size in self.crowds
            or len(self.crowds) >= CROWDS_MAX
            or commands > state.settings.begun_commands_max
            or state.begun_bytes + CROWDS_MAX * CROWD_BYTES_MAX > state.settings.begun_bytes_max
        ):
            return False
        gathered = self._gathered(connection, known.kind.needs_log)
        if gathered is None:
            return False
        crowd = self.crowds[size] = Crowd(gathered, known, size, capacity)
        gathered.parts.append(crowd)
        crowd.connections.append(connection)
        crowd.pieces.append(data)
        connection.flight.append(crowd)
        return True

    @property
    def _is_odd_now(self) -> bool:
        """Whether something is on for which each command has to be looked at by itself."""
        state, settings = self._state, self._state.settings
        return bool(
            state.pause.is_on
            or state.monitors.connections
            or state.is_out_of_memory
            or state.begun_commands >= settings.begun_commands_max
            or state.begun_bytes >= settings.begun_bytes_max
        )

    def _gathered(self, connection: Connection, needs_log: bool) -> Gathered | None:
        """What its next piece is put into; None if that has to go the long way."""
        state = self._state
        gathered = self._open.get(needs_log)
        if gathered is not None and (
            gathered.database != connection.database or gathered.closed_bytes >= GATHERED_BYTES_MAX
        ):
            self.hand_on(needs_log)
            gathered = None
        if self._is_odd_now:
            return None
        if gathered is None:
            if unlikely("the long way"):
                return None
            gathered = self._open[needs_log] = Gathered(state, connection.database, needs_log)
            if needs_log:
                state.node.submit(gathered)
            else:
                state.node.read(gathered)
        return gathered

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
                not isinstance(last, Piece | Crowd)
                or last.needs_log is not needs_log
                or len(flight) >= state.settings.in_flight_max
            ):
                return None
        gathered = self._gathered(connection, needs_log)
        if gathered is None:
            return None
        piece = Piece(connection, kind, data, size, commands)
        gathered.parts.append(piece)
        gathered.closed_bytes += size
        flight.append(piece)
        connection.last_command = kind.command.name
        connection.received_bytes += size
        state.bytes_read += size
        state.begun_commands += commands
        state.begun_bytes += size
        state.commands_processed += commands
        return piece
