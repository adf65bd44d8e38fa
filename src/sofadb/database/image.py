"""The whole state as bytes, made piece by piece while the state goes on changing.

Equal states give equal bytes, on every replica; so the digest of a state is the digest of its image. What is no state is not
in it: signals, the readers' clock, how often a random key was picked, which deadlines are void. How many keys have expired is
in it: that follows from what was applied, and a node that starts from an image tells the same number as the others.

An image begins with a mark and the version of the format. Then come sections: kind, version, length, body. Keys come by
bucket, and in order within a bucket; executions, locks, those who wait and scripts in their own order. At the end stands a
CRC32C of all that came before. What follows from the rest is left out (buckets, deadlines). Something new becomes a new kind
of section, or a new version of one, under a number never used before, and is left out as long as there is nothing to say; a
reader that does not know it says so.

A value with many elements has rows, one for each (`values.py`). Where they are more than 16 KiB they come behind the key, in
sections of their own, as many as the key says.

When an image is begun, what may be large is not copied: each keyspace keeps its past (`past.py`). What is bounded is copied
in that instant, as lists of references. A piece has up to 64 KiB and 500 items; a larger value is a piece by itself, and not
copied. Two costs are those of the data: a bucket's keys are sorted at a time, 250 if there are a million in all; and a
keyspace that was emptied since gives its memory back when its keys were passed, about 0.2 s for a million. (Figures:
`benchmarks/image.py`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import TYPE_CHECKING

from crc32c import crc32c

from .packed import pack_reply
from .past import Past
from .queues import pack_places
from .values import Frozen

if TYPE_CHECKING:
    from .database import Database

PIECE_BYTES = 64 << 10
PIECE_ITEMS = 500
ROWS_INLINE_BYTES = 16 << 10
"""So much of a value stands with its key."""

HEADER = Struct(">8sH")  # mark, format
MARK, FORMAT = b"SofaDB\r\n", 2
SECTION = Struct(">BBI")  # kind, version, bytes of the body
STATE = Struct(">QQQI")  # time, instance, expired, rolling digest
KEYSPACE = Struct(">BQ")  # number, changes; then for each bucket:
DELETION = Struct(">HQ")  # bucket, number of the last deletion
KEY = Struct(
    ">QQBII"
)  # version, expiry (0: none), kind, bytes of key and value; then both. (Or what stands of the value.)
ONCE = Struct(">Q")  # forgotten
EXECUTION = Struct(">Q?IHI")  # instance, whether the reply is kept, size, bytes of id and reply; then both
LOCKS = Struct(">Q")  # last token
LOCK = Struct(">QQH")  # token, until, bytes of the name; then it
SCRIPT = Struct(">I")  # bytes of the text; then it
QUEUES = Struct(">QQ")  # elapsed, arrivals; then for each node that came too late:
PATIENCE = Struct(">IB")  # milliseconds, bytes of the front; then it
WAITER = Struct(">QQQBI")  # arrival, until when it is called, number, bytes of front and places; then both
END = Struct(">I")  # checksum of everything before this section

IS_STATE, IS_KEYSPACE, IS_KEYS, IS_ONCE, IS_EXECUTIONS, IS_LOCKS, IS_HELD, IS_ROSTER, IS_ROWS, IS_END = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    255,
)
IS_SCRIPTS = 16
IS_QUEUES, IS_WAITERS = 12, 13
VERSION = 1
"""Of every kind of section so far."""

_Item = tuple[bytes, bytes, bytes, Iterable[bytes]]
"""One of the things of which there may be many: what is known of it, its name, what it holds; and rows behind it."""


class Image:
    """The state as of one instant. While it is being `kept`, the database may change between any two pieces."""

    def __init__(self, database: Database, kept: bool) -> None:
        self._database = database
        self._is_open = True
        self._is_kept = kept
        self._state = STATE.pack(database.time, database.instance, database.expired, database.rolling)
        self._pasts = [Past(each) for each in database.keyspaces if each.changes]
        if kept:
            for past in self._pasts:
                database.keyspaces[past.number].past = past
        once, locks = database.shared.once, database.shared.locks
        self._once = ONCE.pack(once.forgotten)
        self._executions = list(once.order)
        self._locks = LOCKS.pack(locks.last_token)
        self._names, self._tokens = list(locks.tokens), list(locks.tokens.values())
        self._until = list(locks.expiry.values())
        queues = database.shared.queues
        self._queues = QUEUES.pack(queues.elapsed, queues.arrivals) if queues.arrivals else b""
        for front, patience_ms in sorted(queues.patience.items()):
            self._queues += PATIENCE.pack(patience_ms, len(front)) + front
        self._waiters, self._called = list(queues.waiters.values()), dict(queues.called)
        self._roster = database.shared.roster.pack()
        self._scripts = list(database.shared.scripts.texts.values())

    def pieces(self) -> Iterator[bytes]:
        """All of it, once; each has at most 64 KiB, or is one value with what belongs to it."""
        checksum = 0
        for piece in self._sections():
            checksum = crc32c(piece, checksum)
            yield piece
            assert self._is_open, "a closed image has no more pieces"
        yield _section(IS_END, END.pack(checksum))
        self.close()

    def close(self) -> None:
        """Nobody wants the rest. May be called more than once."""
        for past in self._pasts:
            self._give_up(past)
        self._pasts = []
        self._is_open = False
        self._database.image_is_closed(self)

    def _give_up(self, past: Past) -> None:
        keyspace = next((each for each in self._database.keyspaces if each.past is past), None)
        if keyspace is not None:
            keyspace.past = None
        elif self._is_kept:
            past.bury(self._database.shared.graveyard)  # It was emptied since.

    def _sections(self) -> Iterator[bytes]:
        yield HEADER.pack(MARK, FORMAT) + _section(IS_STATE, self._state)
        while self._pasts:
            past = self._pasts[0]
            deletions = b"".join(DELETION.pack(*each) for each in sorted(past.deleted.items()))
            yield _section(IS_KEYSPACE, KEYSPACE.pack(past.number, past.changes) + deletions)
            yield from _sections_of(IS_KEYS, self._keys(past))
            self._give_up(self._pasts.pop(0))
        yield _section(IS_ONCE, self._once)
        executions = (
            (
                EXECUTION.pack(each.instance, each.is_kept, each.size, len(each.id_), len(reply)),
                each.id_,
                reply,
                (),
            )
            for each in self._executions
            for reply in [pack_reply(each.reply)]
        )
        yield from _sections_of(IS_EXECUTIONS, executions)
        yield _section(IS_LOCKS, self._locks)
        held = (
            (LOCK.pack(token, until, len(name)), name, b"", ())
            for name, token, until in zip(self._names, self._tokens, self._until, strict=True)
        )
        yield from _sections_of(IS_HELD, held)
        if self._queues:
            yield _section(IS_QUEUES, self._queues)
            yield from _sections_of(IS_WAITERS, self._waiting())
        if self._roster:
            yield _section(IS_ROSTER, self._roster)
        yield from _sections_of(
            IS_SCRIPTS, ((SCRIPT.pack(len(each)), each, b"", ()) for each in self._scripts)
        )

    def _waiting(self) -> Iterator[_Item]:
        for who, places, arrival in self._waiters:
            packed = pack_places(places)
            head = WAITER.pack(arrival, self._called.get(who, 0), who.number, len(who.front), len(packed))
            yield head, who.front, packed, ()

    def _keys(self, past: Past) -> Iterator[_Item]:
        pack = KEY.pack
        for key, (version, expiry, value) in past.items():
            if type(value) is bytes:
                yield pack(version, expiry, 0, len(key), len(value)), key, value, ()
                continue
            assert isinstance(value, Frozen)
            head, rows = value.head(), value.pieces(PIECE_BYTES - SECTION.size)
            if value.size <= ROWS_INLINE_BYTES:
                head += b"".join(rows)
                rows = iter(())
            yield pack(version, expiry, value.kind, len(key), len(head)), key, head, rows
            self._database.shared.graveyard.bury_large(*value.columns)


def _section(kind: int, body: bytes) -> bytes:
    return SECTION.pack(kind, VERSION, len(body)) + body


def _sections_of(kind: int, items: Iterable[_Item]) -> Iterator[bytes]:
    """Items, as many to a section as a piece may have. Which go together depends on nothing but them."""
    parts: list[bytes] = []
    count, size = 0, SECTION.size
    for item in items:
        head, name, body, rows = item
        length = len(head) + len(name) + len(body)
        if count == PIECE_ITEMS or (count and size + length > PIECE_BYTES):
            yield _section(kind, b"".join(parts))
            parts, count, size = [], 0, SECTION.size
        if size + length > PIECE_BYTES:
            yield SECTION.pack(kind, VERSION, length) + head + name
            yield body
        else:
            parts += (head, name, body)
            count += 1
            size += length
        for row in rows:
            if parts:
                yield _section(kind, b"".join(parts))
                parts, count, size = [], 0, SECTION.size
            yield _section(IS_ROWS, row)
    if parts:
        yield _section(kind, b"".join(parts))
