"""DUMP and RESTORE: one value as bytes, in a form of our own.

It is that of images (`values.py`): the kind of the value; a string as it is, or a head and rows; then the version of the form
and a CRC32C of all before it. What a Redis has dumped is refused, and so is what was damaged.
"""

from __future__ import annotations

import struct
from typing import Any

from crc32c import crc32c

from ..arguments import INTEGER_MAX, parse_integer
from ..costs import each_byte, size_at
from ..events import GENERIC
from ..keyspace import Keyspace
from ..replies import OK, SYNTAX, Reply, ReplyError
from ..table import Route, command
from ..values import HEAD, IS_WIDE, LENGTH, VALUES, Value
from .strings import ONE_KEY, STRING_BYTES_MAX

FOOT = struct.Struct(">HI")  # version, checksum
VERSION = 1
STRING_KIND = 0
DUMP_BYTES_MAX = STRING_BYTES_MAX
"""What is longer could not be sent back."""
ELEMENTS_MAX = 100_000
"""To build so many at once takes a node some 0.3 s, in which it does nothing else."""
_PIECE_BYTES = 1 << 20


def pack(value: Any) -> bytes:
    """A value as bytes. Raises `ReplyError` if it is too large."""
    if type(value) is bytes:
        parts = [bytes([STRING_KIND]), value]
    else:
        frozen = value.freeze()
        if frozen.size > DUMP_BYTES_MAX - FOOT.size - HEAD.size - 1 or frozen.elements > ELEMENTS_MAX:
            raise ReplyError(
                f"ERR the value is too large to be dumped: at most {ELEMENTS_MAX} elements, {DUMP_BYTES_MAX} bytes"
            )
        parts = [bytes([frozen.kind]), frozen.head(), *frozen.pieces(_PIECE_BYTES)]
    body = b"".join(parts)
    return body + FOOT.pack(VERSION, crc32c(struct.pack(">H", VERSION), crc32c(body)))


def unpack(dump: bytes) -> Any:
    """The value that was packed. Raises `ReplyError`."""
    end = len(dump) - FOOT.size
    if end < 1:
        raise ReplyError("ERR DUMP payload version or checksum are wrong")
    version, checksum = FOOT.unpack_from(dump, end)
    if version != VERSION or crc32c(memoryview(dump)[: end + 2]) != checksum:
        raise ReplyError("ERR DUMP payload version or checksum are wrong")
    kind = dump[0]
    if kind == STRING_KIND:
        return dump[1:end]
    try:
        return _unpack_elements(kind, dump[1:end])
    except (ValueError, struct.error):
        raise ReplyError("ERR Bad data format") from None


def _unpack_elements(kind: int, packed: bytes) -> Value:
    flags, elements = HEAD.unpack_from(packed)
    if kind not in VALUES or flags not in (0, IS_WIDE) or not 0 < elements <= ELEMENTS_MAX:
        raise ValueError("a value that cannot be")
    value = VALUES[kind]()
    value.is_wide = bool(flags)
    value.extend(packed[HEAD.size :])
    if len(value) != elements:
        raise ValueError("rows are missing, or there are more than there should be")
    value.complete()
    return value


PACK_NS, UNPACK_NS = 3_000, 5_000
"""What an element costs."""


def _cost_of_dump(keyspace: Keyspace, args: list[bytes]) -> int:
    return min(size_at(keyspace, args[1]), ELEMENTS_MAX) * PACK_NS // 1_000 + each_byte(keyspace, args)


def _cost_of_restore(keyspace: Keyspace, args: list[bytes]) -> int:
    """What it says that it holds is not checked yet."""
    dump = args[3]
    if len(dump) <= HEAD.size or dump[0] == STRING_KIND:
        return 0
    _, elements = HEAD.unpack_from(dump, 1)
    return min(int(elements), len(dump) // LENGTH.size, ELEMENTS_MAX) * UNPACK_NS // 1_000


@command(
    "dump",
    2,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    since="2.6.0",
    summary="A value as bytes, in a form of our own, for RESTORE",
    complexity="O(N)",
    reply_is_large=True,
    cost=_cost_of_dump,
)
def dump(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find(args[1])
    return None if value is None else pack(value)


@command(
    "restore",
    -4,
    Route.WRITE,
    "write denyoom",
    keys=ONE_KEY,
    since="2.6.0",
    summary="Put a value that DUMP has given",
    complexity="O(N)",
    dangerous=True,
    key_use="OW update",
    cost=_cost_of_restore,
)
def restore(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """[REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]. The last two are checked and mean nothing here."""
    key = args[1]
    replaces, is_absolute = _options(args[4:])
    if not replaces and keyspace.look(key) is not None:
        raise ReplyError("BUSYKEY Target key name already exists.")
    ttl = parse_integer(args[2])
    if ttl < 0:
        raise ReplyError("ERR Invalid TTL value, must be >= 0")
    value = unpack(args[3])
    at = min(ttl if is_absolute else ttl + keyspace.time, INTEGER_MAX)
    if ttl and at <= keyspace.time:
        if keyspace.delete(key):
            keyspace.notify(GENERIC, b"del", key)
        return OK
    keyspace.delete(key)
    keyspace.set(key, value)
    if ttl:
        keyspace.expire_at(key, at)
    keyspace.notify(GENERIC, b"restore", key)
    return OK


def _options(words: list[bytes]) -> tuple[bool, bool]:
    """Whether what is there is replaced, and whether the expiry is a point in time."""
    replaces = is_absolute = False
    seen = b""
    rest = iter(words)
    for word in rest:
        option = word.upper()
        if option == b"REPLACE":
            replaces = True
        elif option == b"ABSTTL":
            is_absolute = True
        elif (
            option in (b"IDLETIME", b"FREQ")
            and seen in (b"", option)
            and (amount := next(rest, None)) is not None
        ):
            seen = option
            number = parse_integer(amount)
            if option == b"IDLETIME" and number < 0:
                raise ReplyError("ERR Invalid IDLETIME value, must be >= 0")
            if option == b"FREQ" and not 0 <= number <= 255:
                raise ReplyError("ERR Invalid FREQ value, must be >= 0 and <= 255")
        else:
            raise ReplyError(SYNTAX)
    return replaces, is_absolute
