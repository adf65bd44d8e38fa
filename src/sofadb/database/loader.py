"""An image becomes a database again.

What comes may be anything: it is from a disk or from another node. What is no image of a known format, with all its parts in
their order and its checksum right, is refused as a whole.
"""

from __future__ import annotations

import struct

from crc32c import crc32c

from .database import DATABASES, Database
from .image import (
    DELETION,
    END,
    EXECUTION,
    FORMAT,
    HEADER,
    IS_END,
    IS_EXECUTIONS,
    IS_HELD,
    IS_KEYS,
    IS_KEYSPACE,
    IS_LOCKS,
    IS_ONCE,
    IS_QUEUES,
    IS_ROSTER,
    IS_ROWS,
    IS_SCRIPTS,
    IS_STATE,
    IS_WAITERS,
    KEY,
    KEYSPACE,
    LOCK,
    LOCKS,
    MARK,
    ONCE,
    PATIENCE,
    QUEUES,
    SCRIPT,
    SECTION,
    STATE,
    VERSION,
    WAITER,
)
from .keyspace import BUCKETS, Keyspace, bucket_of
from .once import Execution
from .packed import unpack_reply
from .queues import Waiter, Who, unpack_places
from .scripts import sha_of
from .values import HEAD, IS_WIDE, VALUES, Value

SECTION_BYTES_MAX = 256 << 20
"""A key and its value, as large as they may be, are less."""

_BEFORE = {
    IS_STATE: (None,),
    IS_KEYSPACE: (IS_STATE, IS_KEYSPACE, IS_KEYS, IS_ROWS),
    IS_KEYS: (IS_KEYSPACE, IS_KEYS, IS_ROWS),
    IS_ROWS: (IS_KEYS, IS_ROWS),
    IS_ONCE: (IS_STATE, IS_KEYSPACE, IS_KEYS, IS_ROWS),
    IS_EXECUTIONS: (IS_ONCE, IS_EXECUTIONS),
    IS_LOCKS: (IS_ONCE, IS_EXECUTIONS),
    IS_HELD: (IS_LOCKS, IS_HELD),
    IS_QUEUES: (IS_LOCKS, IS_HELD),
    IS_WAITERS: (IS_QUEUES, IS_WAITERS),
    IS_ROSTER: (IS_LOCKS, IS_HELD, IS_QUEUES, IS_WAITERS),
    IS_SCRIPTS: (IS_LOCKS, IS_HELD, IS_QUEUES, IS_WAITERS, IS_ROSTER, IS_SCRIPTS),
    IS_END: (IS_LOCKS, IS_HELD, IS_QUEUES, IS_WAITERS, IS_ROSTER, IS_SCRIPTS),
}
"""What may come before each kind of section."""


class Unreadable(ValueError):
    """These bytes are no image, or one that this program does not know how to read."""


class Loader:
    """Given the bytes of an image, in pieces of any size, it builds the database. After an error it is of no use."""

    def __init__(self) -> None:
        self._database = Database()
        self._buffer = bytearray()
        self._checksum = 0
        self._header_is_read = False
        self._last: int | None = None
        """The kind of the section before."""
        self._keyspace: Keyspace | None = None
        self._place: tuple[int, bytes] | None = None
        """Bucket and name of the last key."""
        self._value: Value | None = None
        self._rows_left = 0
        """The last key's value, and how many of its rows are still to come."""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes. Raises `Unreadable`."""
        self._buffer += piece
        try:
            with memoryview(self._buffer) as view:
                end = self._take(view)
        except (struct.error, ValueError) as problem:
            raise (
                problem if isinstance(problem, Unreadable) else Unreadable(f"This is no image: {problem}")
            ) from None
        del self._buffer[:end]

    def finish(self) -> Database:
        """The database, when everything was fed. Raises `Unreadable`."""
        if self._last != IS_END:
            raise Unreadable("This is no whole image: it ends early")
        database = self._database
        for keyspace in database.keyspaces:
            keyspace.instance = database.instance
            keyspace.time = keyspace.clock = database.time
        database.shared.locks.time = database.time
        return database

    def _take(self, view: memoryview) -> int:
        """Read what is there as a whole; returns how far that was."""
        at = 0
        if not self._header_is_read:
            if len(view) < HEADER.size:
                return 0
            self._read_header(view)
            at = HEADER.size
        while at < len(view):
            if self._last == IS_END:
                raise Unreadable("This is no image: something comes after its end")
            if at + SECTION.size > len(view):
                break
            kind, version, length = SECTION.unpack_from(view, at)
            self._check(kind, version, length)
            begin = at + SECTION.size
            if begin + length > len(view):
                break
            self._read(kind, bytes(view[begin : begin + length]))
            self._last = kind
            self._checksum = crc32c(view[at : begin + length], self._checksum)
            at = begin + length
        return at

    def _read_header(self, view: memoryview) -> None:
        mark, number = HEADER.unpack_from(view)
        if mark != MARK:
            raise Unreadable("This is no image of a SofaDB database")
        if number != FORMAT:
            raise Unreadable(f"This image has format {number}; this program reads format {FORMAT}")
        self._checksum = crc32c(view[: HEADER.size])
        self._header_is_read = True

    def _check(self, kind: int, version: int, length: int) -> None:
        if kind not in _BEFORE:
            raise Unreadable(f"This program does not know what the image's sections of kind {kind} are")
        if version != VERSION:
            raise Unreadable(
                f"This program does not know version {version} of the image's sections of kind {kind}"
            )
        if self._last not in _BEFORE[kind]:
            raise Unreadable(
                f"This is no image: after a section of kind {self._last} comes one of kind {kind}"
            )
        _demand(
            (kind == IS_ROWS) == (self._rows_left > 0),
            "rows are missing, or there are more than there should be",
        )
        if length > SECTION_BYTES_MAX:
            raise Unreadable(f"This is no image: a section has {length} bytes")

    def _read(self, kind: int, body: bytes) -> None:
        database = self._database
        shared = database.shared
        if kind == IS_KEYS:
            self._read_keys(body)
        elif kind == IS_ROWS:
            self._read_rows(body)
        elif kind == IS_KEYSPACE:
            self._read_keyspace(body)
        elif kind == IS_EXECUTIONS:
            self._read_executions(body)
        elif kind == IS_HELD:
            self._read_held(body)
        elif kind == IS_WAITERS:
            self._read_waiters(body)
        elif kind == IS_QUEUES:
            self._read_queues(body)
        elif kind == IS_STATE:
            database.time, database.instance, database.expired, shared.rolling.crc = STATE.unpack(body)
        elif kind == IS_ONCE:
            (shared.once.forgotten,) = ONCE.unpack(body)
        elif kind == IS_LOCKS:
            (shared.locks.last_token,) = LOCKS.unpack(body)
        elif kind == IS_ROSTER:
            shared.roster.unpack(body)
        elif kind == IS_SCRIPTS:
            self._read_scripts(body)
        elif END.unpack(body) != (self._checksum,):
            raise Unreadable("This image is damaged: its checksum is not right")

    def _read_keyspace(self, body: bytes) -> None:
        number, changes = KEYSPACE.unpack_from(body)
        last = -1 if self._keyspace is None else self._keyspace.number
        _demand(last < number < DATABASES, "a database comes twice, or there is none of its number")
        self._keyspace = keyspace = self._database.keyspaces[number]
        keyspace.changes = changes
        last = -1
        for bucket, change in DELETION.iter_unpack(body[KEYSPACE.size :]):
            _demand(last < bucket < BUCKETS and change <= changes, "a deletion that cannot have been")
            keyspace.deleted[bucket] = change
            last = bucket
        self._place = None

    def _read_keys(self, body: bytes) -> None:
        keyspace, place = self._keyspace, self._place
        assert keyspace is not None
        at = 0
        while at < len(body):
            version, expiry, number, key_bytes, value_bytes = KEY.unpack_from(body, at)
            middle = at + KEY.size + key_bytes
            key, packed = body[at + KEY.size : middle], body[middle : middle + value_bytes]
            at = middle + value_bytes
            _demand(at <= len(body), "a key or value ends early")
            _demand(not self._rows_left, "rows are missing")
            bucket = bucket_of(key)
            _demand(place is None or place < (bucket, key), "keys are not in order")
            _demand(version <= keyspace.changes, "a change that cannot have been")
            place = (bucket, key)
            value = self._begin_value(number, packed) if number else packed
            keyspace.restore(key, value, version, expiry or None)
        self._place = place

    def _begin_value(self, kind: int, packed: bytes) -> Value:
        """A value with all its rows, or one whose rows come behind."""
        if kind not in VALUES:
            raise Unreadable(f"This program does not know what the image's values of kind {kind} are")
        flags, count = HEAD.unpack_from(packed)
        _demand(flags in (0, IS_WIDE) and count > 0, "a value that cannot be")
        self._value = value = VALUES[kind]()
        value.is_wide = bool(flags)
        self._rows_left = count
        if len(packed) > HEAD.size:
            self._read_rows(packed[HEAD.size :])
            _demand(not self._rows_left, "rows are missing")
        return value

    def _read_rows(self, rows: bytes) -> None:
        value = self._value
        assert value is not None
        before = len(value)
        value.extend(rows)
        self._rows_left -= len(value) - before
        _demand(self._rows_left >= 0, "there are more rows than there should be")
        if not self._rows_left:
            value.complete()

    def _read_executions(self, body: bytes) -> None:
        once = self._database.shared.once
        at = 0
        while at < len(body):
            instance, is_kept, size, id_bytes, reply_bytes = EXECUTION.unpack_from(body, at)
            middle = at + EXECUTION.size + id_bytes
            id_, reply = body[at + EXECUTION.size : middle], body[middle : middle + reply_bytes]
            at = middle + reply_bytes
            _demand(at <= len(body) and id_ not in once.executions, "an id comes twice, or ends early")
            once.add(Execution(id_, instance, unpack_reply(reply), is_kept, size))

    def _read_held(self, body: bytes) -> None:
        locks = self._database.shared.locks
        last = next(reversed(locks.tokens.values()), 0)
        at = 0
        while at < len(body):
            token, until, name_bytes = LOCK.unpack_from(body, at)
            name = body[at + LOCK.size : at + LOCK.size + name_bytes]
            at += LOCK.size + name_bytes
            _demand(at <= len(body) and name not in locks.tokens, "a lock comes twice, or ends early")
            _demand(last < token <= locks.last_token, "locks are not in order")
            locks.restore(name, token, until)
            last = token

    def _read_scripts(self, body: bytes) -> None:
        scripts = self._database.shared.scripts
        at = 0
        while at < len(body):
            (length,) = SCRIPT.unpack_from(body, at)
            at += SCRIPT.size
            text = body[at : at + length]
            at += length
            sha = sha_of(text)
            _demand(at <= len(body) and sha not in scripts.texts, "a script comes twice, or ends early")
            scripts.add(sha, text)

    def _read_queues(self, body: bytes) -> None:
        queues = self._database.shared.queues
        queues.elapsed, queues.arrivals = QUEUES.unpack_from(body)
        at = QUEUES.size
        while at < len(body):
            patience_ms, front_bytes = PATIENCE.unpack_from(body, at)
            at += PATIENCE.size + front_bytes
            _demand(at <= len(body), "a node that is waited for has no whole name")
            queues.patience[body[at - front_bytes : at]] = patience_ms

    def _read_waiters(self, body: bytes) -> None:
        queues = self._database.shared.queues
        last = next(reversed(queues.waiters.values()), None)
        last_arrival = 0 if last is None else last.arrival
        at = 0
        while at < len(body):
            arrival, until, number, front_bytes, places_bytes = WAITER.unpack_from(body, at)
            places_at = at + WAITER.size + front_bytes
            who = Who(body[at + WAITER.size : places_at], number)
            at = places_at + places_bytes
            _demand(at <= len(body) and who not in queues.waiters, "somebody waits twice, or ends early")
            _demand(last_arrival < arrival <= queues.arrivals, "those who wait are not in order")
            places = unpack_places(body[places_at:at])
            _demand(all(each.database < DATABASES for each in places), "somebody waits in no database")
            queues.restore(Waiter(who, places, arrival), until)
            last_arrival = arrival


def _demand(holds: bool, problem: str) -> None:
    if not holds:
        raise Unreadable(f"This is no image: {problem}")
