"""Keys of any type, as the Redis manual's page "Generic" lists them, and whole databases."""

from __future__ import annotations

from typing import Any

from ..arguments import INTEGER_MAX, is_integer, parse_integer
from ..costs import BYTES_PER_UNIT, bytes_at
from ..events import GENERIC
from ..keyspace import BUCKETS, Keyspace
from ..patterns import matcher
from ..replies import NOT_AN_INTEGER, OK, SYNTAX, Reply, ReplyError, Status
from ..scanning import parse_cursor, parse_scan
from ..table import Route, as_text, command
from ..values import Hash, List, Set, SortedSet, Value

ONE_KEY = (1, 1, 1)
ALL_KEYS = (1, -1, 1)


def type_of(value: Any) -> bytes:
    """What TYPE says of a value."""
    if value is None:
        return b"none"
    return b"string" if type(value) is bytes else value.type_name


@command(
    "del",
    -2,
    Route.WRITE,
    "write",
    keys=ALL_KEYS,
    summary="Remove keys",
    complexity="O(N)",
    key_use="RM delete",
)
def del_(keyspace: Keyspace, args: list[bytes]) -> Reply:
    removed = 0
    for key in args[1:]:
        if keyspace.delete(key):
            keyspace.notify(GENERIC, b"del", key)
            removed += 1
    return removed


command(
    "unlink",
    -2,
    Route.WRITE,
    "write fast",
    keys=ALL_KEYS,
    since="4.0.0",
    summary="Remove keys",
    complexity="O(N)",
    key_use="RM delete",
)(del_)


@command(
    "exists",
    -2,
    Route.READ,
    "readonly fast",
    keys=ALL_KEYS,
    summary="Count how many of the keys are there",
    complexity="O(N)",
    key_use="RO",
)
def exists(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return sum(keyspace.look(key) is not None for key in args[1:])


command(
    "touch",
    -2,
    Route.READ,
    "readonly fast",
    keys=ALL_KEYS,
    since="3.2.1",
    summary="Count how many of the keys are there",
    complexity="O(N)",
    key_use="RO",
)(exists)


@command(
    "type",
    2,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    summary="The type of the value at a key",
    key_use="RO",
)
def type_(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return Status(type_of(keyspace.look(args[1])))


def _cost_of_keys(keyspace: Keyspace, args: list[bytes]) -> int:
    return len(keyspace.values)


@command(
    "keys",
    2,
    Route.READ,
    "readonly",
    summary="All keys that match a pattern",
    complexity="O(N)",
    dangerous=True,
    reply_is_large=True,
    cost=_cost_of_keys,
)
def keys(keyspace: Keyspace, args: list[bytes]) -> Reply:
    if args[1] == b"*":
        return list(keyspace.visible())
    matches = matcher(args[1])
    return [key for key in keyspace.visible() if matches(key)]


@command(
    "scan",
    -2,
    Route.READ,
    "readonly",
    since="2.8.0",
    summary="Go through all keys, a few at a time",
    complexity="O(1)",
    reply_is_large=True,
)
def scan(keyspace: Keyspace, args: list[bytes]) -> Reply:
    cursor = parse_cursor(args[1])
    options = parse_scan(args[2:], with_type=True)
    cursor, found = keyspace.scan(min(cursor, BUCKETS), options.look_at)
    if options.matches is not None:
        found = list(filter(options.matches, found))
    if options.type_name is not None:
        found = [key for key in found if type_of(keyspace.look(key)) == options.type_name]
    return [b"%d" % cursor, found]


@command("randomkey", 1, Route.READ, "readonly", summary="Any key at all", reply_varies=True)
def randomkey(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return keyspace.any_key()


@command(
    "object",
    -2,
    Route.READ,
    since="2.2.3",
    summary="What concerns the inside of values",
    complexity="Depends on subcommand.",
)
def object_(keyspace: Keyspace, args: list[bytes]) -> Reply:
    raise AssertionError("OBJECT has subcommands")


@command(
    "object|encoding",
    3,
    Route.READ,
    "readonly",
    keys=(2, 2, 1),
    since="2.2.3",
    summary="How Redis would hold a value",
    key_use="RO",
)
def object_encoding(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """How Redis would hold the value (of a string: if it had been SET; all are held alike here)."""
    value = keyspace.look(args[2])
    if type(value) is not bytes:
        return None if value is None else value.encoding
    if is_integer(value):
        return b"int"
    return b"embstr" if len(value) <= 44 else b"raw"


@command(
    "object|refcount",
    3,
    Route.READ,
    "readonly",
    keys=(2, 2, 1),
    since="2.2.3",
    summary="How often a value is referred to",
    key_use="RO",
)
def object_refcount(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return None if keyspace.look(args[2]) is None else 1


@command(
    "object|freq",
    3,
    Route.READ,
    "readonly",
    keys=(2, 2, 1),
    since="4.0.0",
    summary="An error: nobody counts how often a value is asked for",
    key_use="RO",
)
def object_freq(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """As in a Redis that does not evict what is seldom used."""
    if keyspace.look(args[2]) is None:
        return None
    raise ReplyError(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. "
        "Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust."
    )


@command(
    "object|idletime",
    3,
    Route.READ,
    "readonly",
    keys=(2, 2, 1),
    since="2.2.3",
    summary="An error: nobody notes when a value was last asked for",
    key_use="RO",
)
def object_idletime(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """A number would be wrong on every node but the one that was asked last."""
    if keyspace.look(args[2]) is None:
        return None
    raise ReplyError("ERR idle time is not tracked here: each node answers reads alone, and writes down none")


OBJECT_HELP = """\
OBJECT <subcommand> <key>. Subcommands are:
ENCODING <key>
    How Redis would hold the value.
FREQ <key>
    Not tracked here.
IDLETIME <key>
    Not tracked here.
REFCOUNT <key>
    1, if the key is there.
HELP
    This text."""


@command(
    "object|help",
    2,
    Route.READ,
    "loading stale",
    types="keyspace",
    since="6.2.0",
    summary="What OBJECT can be asked",
)
def object_help(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return [Status(line.encode()) for line in OBJECT_HELP.splitlines()]


@command(
    "rename",
    3,
    Route.WRITE,
    "write",
    keys=(1, 2, 1),
    summary="Give a value another key, in place of what is there",
    key_use="RW access delete, OW update",
)
def rename(keyspace: Keyspace, args: list[bytes]) -> Reply:
    old, new = args[1], args[2]
    value = keyspace.claim(old)
    if value is None:
        raise ReplyError("ERR no such key")
    if old != new:
        keyspace.move(old, new, keyspace)
        keyspace.notify(GENERIC, b"rename_from", old)
        keyspace.notify(GENERIC, b"rename_to", new)
    return OK


@command(
    "renamenx",
    3,
    Route.WRITE,
    "write fast",
    keys=(1, 2, 1),
    summary="Give a value another key, if nothing is there",
    key_use="RW access delete, OW insert",
)
def renamenx(keyspace: Keyspace, args: list[bytes]) -> Reply:
    if keyspace.claim(args[1]) is None:
        raise ReplyError("ERR no such key")
    if keyspace.claim(args[2]) is not None:
        return 0
    rename(keyspace, args)
    return 1


# From one database to another


def _number(text: bytes, problem: str = "") -> int:
    """An integer of 32 bits, as C has them. Raises `ReplyError`."""
    number = parse_integer(text, problem or NOT_AN_INTEGER)
    if not -(2**31) <= number < 2**31:
        raise ReplyError(
            problem or f"ERR value is out of range, value must between {-(2**31)} and {2**31 - 1}"
        )
    return number


def _database(keyspace: Keyspace, number: int) -> Keyspace:
    """The database of that number. Raises `ReplyError`."""
    if not 0 <= number < len(keyspace.all):
        raise ReplyError("ERR DB index is out of range")
    return keyspace.all[number]


SAME_OBJECT = "ERR source and destination objects are the same"


COPY_NS: dict[type[Value], int] = {List: 20, Set: 50, Hash: 100, SortedSet: 1_200}
"""What it costs to copy an element."""


def _cost_of_copy(keyspace: Keyspace, args: list[bytes]) -> int:
    """Of a string that it exists twice and, as with `telling_of`, how it is held; a short one may be overwritten as well."""
    value = keyspace.look(args[1])
    if isinstance(value, Value):
        return len(value) * COPY_NS[type(value)] // 1_000
    return 3 * bytes_at(keyspace, args[1]) // BYTES_PER_UNIT


@command(
    "copy",
    -3,
    Route.WRITE,
    "write denyoom",
    keys=(1, 2, 1),
    since="6.2.0",
    summary="Put a copy of a value at another key, perhaps in another database",
    complexity="O(N)",
    key_use="RO access, OW update",
    cost=_cost_of_copy,
)
def copy(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """[DB number] [REPLACE]"""
    old, new = args[1], args[2]
    to, replaces = keyspace, False
    words = iter(args[3:])
    for word in words:
        if word.upper() == b"REPLACE":
            replaces = True
        elif word.upper() == b"DB" and (number := next(words, None)) is not None:
            to = _database(keyspace, _number(number))
        else:
            raise ReplyError(SYNTAX)
    if to is keyspace and old == new:
        raise ReplyError(SAME_OBJECT)
    value, expires_at = keyspace.find(old), keyspace.expiry.get(old)
    if value is None or (to.look(new) is not None and not replaces):
        return 0
    copied = value if type(value) is bytes else value.copy()
    to.delete(new)
    to.set(new, copied)
    if expires_at is not None:
        to.expire_at(new, expires_at)
    to.notify(GENERIC, b"copy_to", new)
    return 1


@command(
    "move",
    3,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    summary="Move a value to another database, if its key is not there",
)
def move(keyspace: Keyspace, args: list[bytes]) -> Reply:
    key = args[1]
    to = _database(keyspace, _number(args[2]))
    if to is keyspace:
        raise ReplyError(SAME_OBJECT)
    if keyspace.look(key) is None or to.look(key) is not None:
        return 0
    keyspace.move(key, key, to)
    keyspace.notify(GENERIC, b"move_from", key)
    to.notify(GENERIC, b"move_to", key)
    return 1


# Expiry


def _expire(keyspace: Keyspace, args: list[bytes], base: int, unit_ms: int) -> Reply:
    """EXPIRE and its kin. A time that has passed deletes the key."""
    conditions = _conditions(args[3:])
    name = args[0].decode().lower()
    amount = parse_integer(args[2])
    at = amount * unit_ms + base
    if not -(2**63) <= amount * unit_ms <= INTEGER_MAX or at > INTEGER_MAX:
        raise ReplyError(f"ERR invalid expire time in '{name}' command")
    if keyspace.claim(args[1]) is None:
        return 0
    current = keyspace.expiry.get(args[1])
    if (
        (b"NX" in conditions and current is not None)
        or (b"XX" in conditions and current is None)
        or (b"GT" in conditions and (current is None or at <= current))
        or (b"LT" in conditions and current is not None and at >= current)
    ):
        return 0
    if at <= keyspace.time:
        keyspace.delete(args[1])
        keyspace.notify(GENERIC, b"del", args[1])
    else:
        keyspace.expire_at(args[1], at)
        keyspace.notify(GENERIC, b"expire", args[1])
    return 1


def _conditions(words: list[bytes]) -> set[bytes]:
    conditions = {word.upper() for word in words}
    unknown = [word for word in words if word.upper() not in (b"NX", b"XX", b"GT", b"LT")]
    if unknown:
        raise ReplyError(f"ERR Unsupported option {as_text(unknown[0])}")
    if b"NX" in conditions and len(conditions) > 1:
        raise ReplyError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= conditions:
        raise ReplyError("ERR GT and LT options at the same time are not compatible")
    return conditions


@command(
    "expire",
    -3,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    summary="Let a key expire so many seconds from now",
    key_use="RW update",
)
def expire(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _expire(keyspace, args, keyspace.time, 1000)


@command(
    "pexpire",
    -3,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    since="2.6.0",
    summary="Let a key expire so many milliseconds from now",
    key_use="RW update",
)
def pexpire(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _expire(keyspace, args, keyspace.time, 1)


@command(
    "expireat",
    -3,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    since="1.2.0",
    summary="Let a key expire at a Unix time in seconds",
    key_use="RW update",
)
def expireat(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _expire(keyspace, args, 0, 1000)


@command(
    "pexpireat",
    -3,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    since="2.6.0",
    summary="Let a key expire at a Unix time in milliseconds",
    key_use="RW update",
)
def pexpireat(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _expire(keyspace, args, 0, 1)


def _remaining(keyspace: Keyspace, key: bytes) -> int:
    """How long until `key` expires (ms): -2 if it is not there, -1 if never. A key that is there has some time left."""
    if keyspace.look(key) is None:
        return -2
    at = keyspace.expiry.get(key)
    return -1 if at is None else max(1, at - keyspace.clock)


@command("ttl", 2, Route.READ, "readonly fast", keys=ONE_KEY, summary="How many seconds a key has left")
def ttl(keyspace: Keyspace, args: list[bytes]) -> Reply:
    remaining = _remaining(keyspace, args[1])
    return remaining if remaining < 0 else (remaining + 500) // 1000


@command(
    "pttl",
    2,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    since="2.6.0",
    summary="How many milliseconds a key has left",
)
def pttl(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _remaining(keyspace, args[1])


@command(
    "expiretime",
    2,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    since="7.0.0",
    summary="The Unix time in seconds at which a key expires",
)
def expiretime(keyspace: Keyspace, args: list[bytes]) -> Reply:
    at = pexpiretime(keyspace, args)
    return at if at < 0 else (at + 500) // 1000


@command(
    "pexpiretime",
    2,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    since="7.0.0",
    summary="The Unix time in milliseconds at which a key expires",
)
def pexpiretime(keyspace: Keyspace, args: list[bytes]) -> Reply:
    if keyspace.look(args[1]) is None:
        return -2
    return keyspace.expiry.get(args[1], -1)


@command(
    "persist",
    2,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    since="2.2.0",
    summary="Let a key live for ever again",
    key_use="RW update",
)
def persist(keyspace: Keyspace, args: list[bytes]) -> Reply:
    if keyspace.look(args[1]) is None or not keyspace.persist(args[1]):
        return 0
    keyspace.notify(GENERIC, b"persist", args[1])
    return 1


# Whole databases


@command(
    "dbsize",
    1,
    Route.READ,
    "readonly fast",
    group="server",
    summary="How many keys the database holds",
)
def dbsize(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return len(keyspace.values)


def _check_flush(args: list[bytes]) -> None:
    if len(args) > 2 or (len(args) == 2 and args[1].upper() not in (b"ASYNC", b"SYNC")):
        raise ReplyError(SYNTAX)


@command(
    "flushdb",
    -1,
    Route.WRITE,
    "write",
    group="server",
    summary="Remove all keys of the database",
    complexity="O(N)",
    dangerous=True,
)
def flushdb(keyspace: Keyspace, args: list[bytes]) -> Reply:
    _check_flush(args)
    keyspace.clear()
    return OK


@command(
    "flushall",
    -1,
    Route.WRITE,
    "write",
    group="server",
    summary="Remove all keys of all databases",
    complexity="O(N)",
    dangerous=True,
)
def flushall(keyspace: Keyspace, args: list[bytes]) -> Reply:
    _check_flush(args)
    for each in keyspace.all:
        each.clear()
    return OK


SWAP_UNITS = 2_000
"""What it costs to note that every key has changed there may be."""


@command(
    "swapdb",
    3,
    Route.WRITE,
    "write fast",
    group="server",
    since="4.0.0",
    summary="Let two databases change places",
    dangerous=True,
    cost=lambda keyspace, args: SWAP_UNITS,
)
def swapdb(keyspace: Keyspace, args: list[bytes]) -> Reply:
    numbers = _number(args[1], "ERR invalid first DB index"), _number(args[2], "ERR invalid second DB index")
    one, other = (_database(keyspace, number) for number in numbers)
    if one is not other:
        one.swap(other)
    return OK


@command(
    "wait",
    3,
    Route.READ,
    "noscript",
    types="connection",
    since="3.0.0",
    summary="How many other nodes certainly have what this connection has written: as many as make a majority",
)
def wait(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """Nobody waits: whoever is answered stands behind its own writes, and those were answered when a majority had them.

    Who asks for more than that gets the same number, and can see that it is less.
    """
    parse_integer(args[1])
    timeout_ms = parse_integer(args[2], "ERR timeout is not an integer or out of range")
    if timeout_ms < 0:
        raise ReplyError("ERR timeout is negative")
    return len(keyspace.shared.roster.voters) // 2


@command(
    "time",
    1,
    Route.READ,
    "loading stale fast",
    group="server",
    since="2.6.0",
    summary="The time that the cluster agrees on",
)
def time(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """The time that the cluster agrees on, in seconds and microseconds; not any one machine's."""
    seconds, milliseconds = divmod(keyspace.clock, 1000)
    return [b"%d" % seconds, b"%d" % (milliseconds * 1000)]
