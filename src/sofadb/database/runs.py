"""What one connection asks in one go: as bytes for the log, and as execution on a state.

A `Run` is a few commands of one connection in one database. Its writes, in the client's own bytes, become a section of a
log entry; every replica executes them. On the node of the client the run itself is executed in that place: the writes, and
the reads and other commands between them, so that each sees what came before it. That is the same effect on the state, since
only writes have any. A `Transaction` is the same for EXEC: it may watch keys, is done wholly or not at all, and may span
databases.

A `Turn` is one command that may wait, and says who asks, so that whoever has to wait is known on every replica; with `Gone`
a node says that some of its clients do not wait any longer.

A section is: kind, length of what follows; then, of a transaction, the watched keys (database, version, key), or, of a
turn, who asks; then groups, each a database and the commands in it. Of those who are gone there is only who they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from struct import Struct, error
from typing import Any, NamedTuple

import hiredis

from . import commands as commands  # Fills the table.
from .budget import COMMAND_UNITS_MAX, estimate
from .database import DATABASES, Database
from .keyspace import Keyspace
from .queues import Who
from .replies import NULL_ARRAY, Reply, ReplyError
from .table import COSTS, SPELLINGS_MAX, Many, Route, find
from .wire import Columns, Shape, beginning, columns_of, lines_of, words_behind

_SECTION = Struct(">BI")  # kind, bytes that follow
_GROUP = Struct(">BI")  # database, bytes of commands
_COUNT = Struct(">I")
_WATCHED = Struct(">BQI")  # database, version, bytes of the key
_TURN = Struct(">?QB")  # whether it was in line before, number, bytes of the front; then it
_GONE = Struct(">QB")  # number, bytes of the front; then it
_COMMANDS, _TRANSACTION, _A_TURN, _IS_GONE = 1, 2, 3, 4

FED_BYTES = 16 << 10
SPLIT_BYTES_MAX = 256 << 10
"""So much is taken apart at once; of more, the end would push the beginning out of the processor's caches."""
ALIKE_MIN = 8
"""For so many it is worth to look whether all are of one shape."""
MANY_MIN = 4
"""So many of one kind are worth being executed as one."""

Call = tuple[Callable[..., Any], list[bytes]]
"""A command's function, called with the keyspace and the words; it returns the reply or raises `ReplyError`."""


class Corrupt(AssertionError):
    """An entry of the log is not what any front would have written: the log or this program is broken."""


class Group(NamedTuple):
    """Commands in one database. `raw` is what of them has to go through the log, as the client sent it."""

    database: int
    calls: Sequence[Call]
    raw: bytes

    def execute(self, database: Database) -> list[Reply]:
        """Do the commands one after the other. One that fails has changed nothing; its error is its reply."""
        return list(self.replies(database))

    def apply(self, database: Database) -> None:
        """As `execute`, where nobody wants the replies. They are not held together: each may be a large value."""
        deque(self.replies(database), maxlen=0)

    def replies(self, database: Database) -> Iterator[Reply]:
        """What each command answers when its turn comes."""
        keyspace = database.keyspaces[self.database]
        for function, args in self.calls:
            try:
                yield function(keyspace, args)
            except ReplyError as problem:
                yield problem.as_reply()


def section(database: int, raw: bytes) -> bytes:
    """A section of a log entry: commands in one database, of one connection or of several, as they were sent."""
    return b"".join((_SECTION.pack(_COMMANDS, _GROUP.size + len(raw)), _GROUP.pack(database, len(raw)), raw))


class Run:
    """Commands of one connection, in one database. Who waits for what one of them brings is called before the next."""

    __slots__ = ("group",)

    def __init__(self, database: int, calls: Sequence[Call], raw: bytes) -> None:
        self.group = Group(database, calls, raw)

    @property
    def needs_log(self) -> bool:
        """Whether it holds a write."""
        return bool(self.group.raw)

    def encode(self) -> bytes:
        """Its section of a log entry."""
        return section(self.group.database, self.group.raw)

    def execute(self, database: Database) -> list[Reply]:
        """Do it; returns a reply for each command."""
        keyspace, queues = database.keyspaces[self.group.database], database.shared.queues
        replies: list[Reply] = []
        for function, args in self.group.calls:
            try:
                replies.append(function(keyspace, args))
            except ReplyError as problem:
                replies.append(problem.as_reply())
            if queues.touched:
                database.call()
        return replies


class Turn(Run):
    """One command that may wait, whenever it is `who`'s turn: at first, and when it was called."""

    __slots__ = ("has_waited", "who")

    def __init__(self, database: int, call: Call, raw: bytes, who: Who, has_waited: bool = False) -> None:
        super().__init__(database, [call], raw)
        self.who = who
        self.has_waited = has_waited
        """Whether it has been in line before."""

    def encode(self) -> bytes:
        """Its section of a log entry."""
        (number, _, raw), (front, count) = self.group, self.who
        head = _TURN.pack(self.has_waited, count, len(front)) + front + _GROUP.pack(number, len(raw))
        return _SECTION.pack(_A_TURN, len(head) + len(raw)) + head + raw

    def execute(self, database: Database) -> list[Reply]:
        """Do it; returns one reply, which may be `Waits`."""
        queues = database.shared.queues
        queues.begin_turn(self.who, self.has_waited)
        (reply,) = self.group.execute(database)
        queues.end_turn(self.who, reply)
        database.call()
        return [reply]

    def apply(self, database: Database) -> None:
        """The same: whether it waits depends on the reply."""
        self.execute(database)


class Gone:
    """`who` does not wait any longer."""

    __slots__ = ("who",)

    def __init__(self, who: Who) -> None:
        self.who = who

    def encode(self) -> bytes:
        """Its section of a log entry."""
        front, number = self.who
        return _SECTION.pack(_IS_GONE, _GONE.size + len(front)) + _GONE.pack(number, len(front)) + front

    def execute(self, database: Database) -> list[Reply]:
        """Let it be in no line any more. Nobody is answered."""
        self.apply(database)
        return []

    def apply(self, database: Database) -> None:
        """The same."""
        database.shared.queues.leave(self.who)
        database.call()


class Watched(NamedTuple):
    """A key that must not have changed."""

    database: int
    key: bytes
    version: int


class Transaction:
    """What EXEC does: everything, or, if a watched key has changed, nothing."""

    __slots__ = ("groups", "watched")

    def __init__(self, watched: Sequence[Watched], groups: Sequence[Group]) -> None:
        self.watched = watched
        self.groups = groups

    @property
    def needs_log(self) -> bool:
        """Whether it holds a write."""
        return any(group.raw for group in self.groups)

    def encode(self) -> bytes:
        """Its section of a log entry."""
        parts = [_COUNT.pack(len(self.watched))]
        for database, key, version in self.watched:
            parts += (_WATCHED.pack(database, version, len(key)), key)
        for group in self.groups:
            if group.raw:
                parts += (_GROUP.pack(group.database, len(group.raw)), group.raw)
        body = b"".join(parts)
        return _SECTION.pack(_TRANSACTION, len(body)) + body

    def execute(self, database: Database) -> list[Reply]:
        """Do it; returns the one reply of EXEC, which is an error if the batch has no room for it."""
        refusal = self._begin(database)
        if refusal is not None:
            return [refusal]
        replies = [reply for group in self.groups for reply in group.replies(database)]
        self._end(database)
        return [replies]

    def apply(self, database: Database) -> None:
        """Do it, where nobody wants the reply."""
        if self._begin(database) is None:
            for group in self.groups:
                group.apply(database)
            self._end(database)

    def _begin(self, database: Database) -> Reply:
        """What to answer if nothing must be done, or else None: a watched key has changed, or it would cost too much.

        Only writes count: what is read is read on one node.
        """
        if not self._holds(database):
            return NULL_ARRAY
        dear = [
            (cost, database.keyspaces[group.database], args)
            for group in self.groups
            for function, args in group.calls
            if (cost := COSTS.get(function)) is not None
        ]
        if dear:
            budget = database.shared.budget
            try:
                budget.demand(sum(estimate(*each) for each in dear))
            except ReplyError as problem:
                return problem.as_reply()
            budget.left = COMMAND_UNITS_MAX
        return None

    def _end(self, database: Database) -> None:
        database.shared.budget.left = None
        database.call()

    def _holds(self, database: Database) -> bool:
        """Whether nothing has changed that is watched."""
        return all(
            database.keyspaces[number].version(key) == version for number, key, version in self.watched
        )


class Sent(NamedTuple):
    """What is in the log of a `Run`, or of several one behind the other: the writes in one database, as they were sent."""

    database: int
    raw: bytes

    def apply(self, database: Database) -> None:
        """As `Run.execute`; each command is executed soon after it is read. Raises `Corrupt`."""
        keyspace, queues = database.keyspaces[self.database], database.shared.queues
        if _executed_at_once(keyspace, self.raw):
            return
        for requests in _requests(self.raw):
            if len(requests) >= MANY_MIN and _executed_as_one(keyspace, requests):
                continue
            for args in requests:
                try:
                    _function(args)(keyspace, args)
                except ReplyError as problem:
                    problem.as_reply()  # Nobody here asked.
                if queues.touched:
                    database.call()


class _Alike:
    """What is known of requests that begin alike and are executed at once."""

    __slots__ = ("head", "many", "shape", "width")

    def __init__(self, words: list[bytes], many: Many) -> None:
        self.head = beginning(words)
        self.width = len(words)
        self.many = many
        self.shape = Shape(words)
        """That of the first of the last ones of which all seemed to be of one shape."""

    def columns(self, raw: bytes) -> Columns | None:
        """The words of such requests; None if there are others between them, or they are better read otherwise."""
        if len(raw) >= ALIKE_MIN * self.shape.size and self.shape.fits(raw):
            columns = self.shape.columns(raw)
        else:
            columns = self._columns_of_another(raw)
        if columns is not None:
            return columns
        lines = lines_of(raw) if len(raw) <= SPLIT_BYTES_MAX else None
        columns = None if lines is None else columns_of(lines)
        is_of_one = columns is not None and columns[0].count(columns[0][0]) == len(columns[0])
        return columns if is_of_one else None

    def _columns_of_another(self, raw: bytes) -> Columns | None:
        """Likewise, if these are many and of the shape of their first, which then is ours."""
        found = words_behind(raw, len(self.head), self.width - 1)
        if found is None or len(raw) < ALIKE_MIN * found[1] or len(raw) % found[1]:
            return None
        self.shape = Shape([self.shape.name, *found[0]])
        return self.shape.columns(raw)


def _executed_at_once(keyspace: Keyspace, raw: bytes) -> bool:
    """Execute requests as `_executed_as_one`, all at once and in less time; False: nothing was done."""
    alike = _alike.get(raw[: raw.find(b"\r\n", 8) + 2])
    if alike is None:
        return False
    columns = alike.columns(raw)
    return columns is not None and alike.many(keyspace, columns) is not None


def _executed_as_one(keyspace: Keyspace, requests: list[list[bytes]]) -> bool:
    """Execute requests that ask for the same in as many words, column by column; False: nothing was done."""
    _function(requests[0])
    many = _many.get(requests[0][0])
    try:
        if many is None or len(set(map(len, requests))) > 1:
            return False
    except TypeError:
        return False  # The one that has no words is told of when its turn comes.
    columns: Columns = list(map(list, zip(*requests, strict=True)))
    names = columns[0]
    is_done = names.count(names[0]) == len(names) and many(keyspace, columns) is not None
    if is_done and len(_alike) < SPELLINGS_MAX:
        _alike[beginning(requests[0])] = _Alike(requests[0], many)
    return is_done


def apply(database: Database, payload: bytes | memoryview) -> None:
    """Execute a log entry, on a replica that is not its client's. Raises `Corrupt`."""
    for each in decode(payload):
        each.apply(database)


def decode(payload: bytes | memoryview) -> Iterator[Sent | Turn | Transaction | Gone]:
    """What a log entry holds: runs and transactions with their writes only, turns, and who is gone. Raises `Corrupt`."""
    view = memoryview(payload)
    at = 0
    try:
        while at < len(view):
            kind, length = _SECTION.unpack_from(view, at)
            at += _SECTION.size
            body = view[at : at + length]
            at += length
            if len(body) != length or kind not in (_COMMANDS, _TRANSACTION, _A_TURN, _IS_GONE):
                raise Corrupt("a log entry ends in the middle of a section, or is of an unknown kind")
            if kind == _COMMANDS:
                ((number, raw),) = _groups(body)
                yield Sent(number, raw)
            elif kind == _A_TURN:
                has_waited, count, length = _TURN.unpack_from(body)
                at_group = _TURN.size + length
                front, rest = bytes(body[_TURN.size : at_group]), body[at_group:]
                ((number, raw),) = _groups(rest)
                (call,) = _calls(raw)
                yield Turn(number, call, raw, Who(front, count), has_waited)
            elif kind == _IS_GONE:
                count, length = _GONE.unpack_from(body)
                yield Gone(Who(bytes(body[_GONE.size : _GONE.size + length]), count))
            else:
                watched, rest = _watched(body)
                groups = [Group(number, list(_calls(raw)), raw) for number, raw in _groups(rest)]
                yield Transaction(watched, groups)
    except (error, ValueError, hiredis.ProtocolError) as problem:
        raise Corrupt(f"a log entry cannot be read: {problem}") from None


def _watched(body: memoryview) -> tuple[list[Watched], memoryview]:
    (count,) = _COUNT.unpack_from(body)
    at, watched = _COUNT.size, []
    for _ in range(count):
        number, version, length = _WATCHED.unpack_from(body, at)
        at += _WATCHED.size
        watched.append(Watched(number, bytes(body[at : at + length]), version))
        at += length
    return watched, body[at:]


def _groups(body: memoryview) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        number, length = _GROUP.unpack_from(body, at)
        at += _GROUP.size
        if number >= DATABASES or at + length > len(body):
            raise Corrupt("a log entry names a database that does not exist, or ends too early")
        yield number, bytes(body[at : at + length])
        at += length


def _requests(raw: bytes) -> Iterator[list[list[bytes]]]:
    """The commands in the client's own bytes, some at a time. They were checked before they were proposed. Raises `Corrupt`."""
    reader = hiredis.Reader()
    try:
        # A bit at a time: the reader moves what it has not read yet, again and again.
        for at in range(0, len(raw), FED_BYTES):
            reader.feed(raw, at, min(FED_BYTES, len(raw) - at))
            if requests := list(iter(reader.gets, False)):
                yield requests
    except hiredis.ProtocolError as problem:
        raise Corrupt(f"a log entry cannot be read: {problem}") from None
    if reader.has_data():
        raise Corrupt("a log entry ends in the middle of a command")


def _calls(raw: bytes) -> Iterator[Call]:
    """As `_requests`, each with what executes it. Raises `Corrupt`."""
    for requests in _requests(raw):
        for args in requests:
            yield _function(args), args


_functions: dict[bytes, Callable[..., Any]] = {}
"""Of the ordinary writes, by their names as they have been spelled so far."""


_many: dict[bytes, Many] = {}
"""Of those, what executes many of them at once, where there is such a thing."""
_alike: dict[bytes, _Alike] = {}
"""By what requests began with that were executed so."""


def _function(args: Any) -> Callable[..., Any]:
    """What executes the write that `args` ask for. Raises `Corrupt`."""
    try:
        return _functions[args[0]]
    except (KeyError, TypeError, IndexError):
        is_named = type(args) is list and args and type(args[0]) is bytes
        command = find(args) if is_named else None
        if command is None or command.route is not Route.WRITE:
            raise Corrupt(f"a log entry holds what is no write: {args!r:.100}") from None
        if not command.subcommands and "|" not in command.name and len(_functions) < SPELLINGS_MAX:
            _functions[args[0]] = command.function
            if command.many is not None:
                _many[args[0]] = command.many
        return command.function
