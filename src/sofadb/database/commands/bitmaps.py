"""Bitmaps, as the Redis manual's page "Bitmaps" lists them: strings whose bits are numbered. 0 is the first byte's highest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..arguments import parse_integer
from ..costs import BYTES_PER_UNIT, bytes_at, each_byte, growth
from ..events import GENERIC, STRING
from ..keyspace import Keyspace
from ..replies import SYNTAX, Reply, ReplyError
from ..table import Keys, Route, command
from .strings import ONE_KEY, STRING_BYTES_MAX, overwrite

BAD_OFFSET = "ERR bit offset is not an integer or out of range"
BAD_BIT = "ERR bit is not an integer or out of range"
BAD_TYPE = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."

SOURCES_BYTES_MAX = 512 << 20
"""Of all strings of a BITOP: about a second's. (The same large one may be named any number of times.)"""
CHUNK_BYTES = 64 << 10
"""So much of a string is looked at at a time: numbers of that size stay near the processor."""

Buffer = bytes | bytearray


def _offset(text: bytes, width: int = 0) -> int:
    """The number of a bit; of a `#` with a number, that of the first bit of the so-manieth thing of that width."""
    if width and text[:1] == b"#":
        offset = parse_integer(text[1:], BAD_OFFSET) * width
    else:
        offset = parse_integer(text, BAD_OFFSET)
    if not 0 <= offset >> 3 < STRING_BYTES_MAX:
        raise ReplyError(BAD_OFFSET)
    return offset


def _cost_of_setbit(keyspace: Keyspace, args: list[bytes]) -> int:
    return growth(keyspace, args[1], _offset(args[2]) >> 3)


@command(
    "setbit",
    4,
    Route.WRITE,
    "write denyoom",
    keys=ONE_KEY,
    group="bitmap",
    since="2.2.0",
    summary="Set or clear a bit, and return what it was",
    cost=_cost_of_setbit,
    pays_itself=True,
)
def setbit(keyspace: Keyspace, args: list[bytes]) -> Reply:
    offset = _offset(args[2])
    bit = parse_integer(args[3], BAD_BIT)
    if bit not in (0, 1):
        raise ReplyError(BAD_BIT)
    at, mask = offset >> 3, 0x80 >> (offset & 7)
    value = keyspace.find_buffer(args[1]) or b""
    byte = value[at] if at < len(value) else 0
    was = int(byte & mask != 0)
    if at > len(value):
        keyspace.shared.budget.pay(_cost_of_setbit(keyspace, args))
    if bit != was or at >= len(value):
        overwrite(keyspace, args[1], at, bytes([byte | mask if bit else byte & ~mask]))
        keyspace.notify(STRING, b"setbit", args[1])
    return was


@command(
    "getbit",
    3,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="bitmap",
    since="2.2.0",
    summary="A bit",
)
def getbit(keyspace: Keyspace, args: list[bytes]) -> Reply:
    offset = _offset(args[2])
    value = keyspace.find_buffer(args[1]) or b""
    at = offset >> 3
    return value[at] >> (7 - (offset & 7)) & 1 if at < len(value) else 0


# Counting and looking for bits


class Range(NamedTuple):
    """Bits of a string, from `first` to `last`; none if `last` comes before `first`."""

    first: int
    last: int
    has_end: bool
    """Whether somebody said where it ends."""


def _range(value: Buffer, words: list[bytes], is_bitpos: bool) -> Range:
    """[start [end [BYTE | BIT]]]. BITPOS looks at the unit first, and takes -1 to -2 of one byte for that byte."""
    if len(words) > 3:
        raise ReplyError(SYNTAX)
    unit = words[2].upper() if len(words) == 3 else b"BYTE"
    first = parse_integer(words[0]) if words else 0
    if is_bitpos and unit not in (b"BIT", b"BYTE"):
        raise ReplyError(SYNTAX)
    last = parse_integer(words[1]) if len(words) > 1 else -1
    if not is_bitpos and first < 0 and last < 0 and first > last:
        return Range(0, -1, True)
    if unit not in (b"BIT", b"BYTE"):
        raise ReplyError(SYNTAX)
    in_bits = unit == b"BIT"
    length = len(value) * 8 if in_bits else len(value)
    first = max(first + length, 0) if first < 0 else first
    last = min(max(last + length, 0) if last < 0 else last, length - 1)
    if first > last:
        return Range(0, -1, len(words) > 1)
    return Range(first, last, True) if in_bits else Range(8 * first, 8 * last + 7, len(words) > 1)


def _chunks(value: Buffer, bits: Range, filler: int) -> Iterator[tuple[int, Buffer]]:
    """What lies in a range, as whole bytes: where each chunk begins, and its bytes. Bits outside are `filler`, 0 or 1."""
    first, last = bits.first >> 3, bits.last >> 3
    before, behind = 0xFF >> (bits.first & 7), 0xFF << (7 - (bits.last & 7)) & 0xFF
    for at in range(first, last + 1, CHUNK_BYTES):
        chunk: Buffer = value[at : min(at + CHUNK_BYTES, last + 1)]
        if (at == first and before != 0xFF) or (at + len(chunk) > last and behind != 0xFF):
            chunk = bytearray(chunk)
            for index, mask in ((first - at, before), (last - at, behind)):
                if 0 <= index < len(chunk):
                    chunk[index] = chunk[index] | (~mask & 0xFF) if filler else chunk[index] & mask
        yield at, chunk


def _cost_of_counting(keyspace: Keyspace, args: list[bytes]) -> int:
    return 2 * each_byte(keyspace, args)


@command(
    "bitcount",
    -2,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="bitmap",
    since="2.6.0",
    summary="How many bits are set, in all or between two places",
    complexity="O(N)",
    cost=_cost_of_counting,
)
def bitcount(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_buffer(args[1])
    if value is None:
        return 0
    if len(args) == 3:
        raise ReplyError(SYNTAX)
    bits = _range(value, args[2:], is_bitpos=False)
    return sum(int.from_bytes(chunk, "big").bit_count() for _, chunk in _chunks(value, bits, 0))


@command(
    "bitpos",
    -3,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="bitmap",
    since="2.8.7",
    summary="Where the first bit is set, or not set",
    complexity="O(N)",
    cost=each_byte,
)
def bitpos(keyspace: Keyspace, args: list[bytes]) -> Reply:
    bit = parse_integer(args[2])
    if bit not in (0, 1):
        raise ReplyError("ERR The bit argument must be 1 or 0.")
    value = keyspace.find_buffer(args[1])
    if value is None:
        return -bit
    bits = _range(value, args[3:], is_bitpos=True)
    others = b"\0" if bit else b"\xff"
    for at, chunk in _chunks(value, bits, 1 - bit):
        if chunk != others * len(chunk):
            rest = chunk.lstrip(others)
            byte = rest[0] if bit else rest[0] ^ 0xFF
            return 8 * (at + len(chunk) - len(rest)) + 8 - byte.bit_length()
    if bit == 0 and not bits.has_end and bits.first <= bits.last:
        return 8 * len(value)  # Behind its end are zeros, as many as one likes.
    return -1


def _cost_of_bitop(keyspace: Keyspace, args: list[bytes]) -> int:
    return 3 * sum(bytes_at(keyspace, key) for key in args[3:]) // BYTES_PER_UNIT


@command(
    "bitop",
    -4,
    Route.WRITE,
    "write denyoom",
    keys=(2, -1, 1),
    group="bitmap",
    since="2.6.0",
    summary="Put what comes of strings bit by bit: AND, OR, XOR or NOT",
    complexity="O(N)",
    key_use="OW update, RO access",
    cost=_cost_of_bitop,
)
def bitop(keyspace: Keyspace, args: list[bytes]) -> Reply:
    name, destination, sources = args[1].upper(), args[2], args[3:]
    if name not in (b"AND", b"OR", b"XOR", b"NOT"):
        raise ReplyError(SYNTAX)
    if name == b"NOT" and len(sources) != 1:
        raise ReplyError("ERR BITOP NOT must be called with a single source key.")
    values = [keyspace.find_buffer(key) or b"" for key in sources]
    if sum(map(len, values)) > SOURCES_BYTES_MAX:
        raise ReplyError(f"ERR the strings of BITOP have {SOURCES_BYTES_MAX} bytes at most together")
    length = max(map(len, values))
    if length == 0:
        if keyspace.delete(destination):
            keyspace.notify(GENERIC, b"del", destination)
        return 0
    keyspace.set(destination, b"".join(_combined(name, values, length)))
    keyspace.notify(STRING, b"set", destination)
    return length


_INVERTED = bytes(range(255, -1, -1))


def _combined(name: bytes, values: list[Buffer], length: int) -> Iterator[bytes]:
    """What comes of strings; those that are shorter have zeros at their end."""
    for at in range(0, length, CHUNK_BYTES):
        chunks = [value[at : at + CHUNK_BYTES] for value in values]
        size = max(map(len, chunks))
        if name == b"NOT":
            yield bytes(chunks[0].translate(_INVERTED))
            continue
        numbers = [int.from_bytes(chunk, "little") for chunk in chunks]
        total = numbers[0]
        for number in numbers[1:]:
            if name == b"AND":
                total &= number
            elif name == b"OR":
                total |= number
            else:
                total ^= number
        yield total.to_bytes(size, "little")


# Numbers of any width


class Operation(NamedTuple):
    """What BITFIELD is to do with one number."""

    name: bytes
    is_signed: bool
    width: int
    offset: int
    amount: int
    """What it is set to, or grows by."""
    overflow: bytes
    """WRAP, SAT or FAIL."""

    @property
    def end(self) -> int:
        """How many bytes the string has to have."""
        return (self.offset + self.width + 7) >> 3

    def fit(self, number: int) -> int | None:
        """The number that is stored in the place of one that may be too large or too small; None: nothing is."""
        low = -(1 << (self.width - 1)) if self.is_signed else 0
        high = low + (1 << self.width) - 1
        if low <= number <= high:
            return number
        if self.overflow == b"FAIL":
            return None
        if self.overflow == b"SAT":
            return high if number > high else low
        return (number - low) % (1 << self.width) + low


def _operations(words: list[bytes]) -> list[Operation]:
    """[GET type offset | SET type offset value | INCRBY type offset by | OVERFLOW WRAP | SAT | FAIL ...]"""
    found: list[Operation] = []
    overflow = b"WRAP"
    at = 0
    while at < len(words):
        name = words[at].upper()
        left = len(words) - at - 1
        if name == b"OVERFLOW" and left >= 1:
            overflow = words[at + 1].upper()
            if overflow not in (b"WRAP", b"SAT", b"FAIL"):
                raise ReplyError("ERR Invalid OVERFLOW type specified")
            at += 2
            continue
        if not (name == b"GET" and left >= 2) and not (name in (b"SET", b"INCRBY") and left >= 3):
            raise ReplyError(SYNTAX)
        is_signed, width = _type(words[at + 1])
        offset = _offset(words[at + 2], width)
        amount = 0 if name == b"GET" else parse_integer(words[at + 3])
        found.append(Operation(name, is_signed, width, offset, amount, overflow))
        at += 3 if name == b"GET" else 4
    return found


def _type(text: bytes) -> tuple[bool, int]:
    """Such as i16 or u8: whether it has a sign, and how many bits."""
    is_signed = text[:1] == b"i"
    if text[:1] not in (b"i", b"u"):
        raise ReplyError(BAD_TYPE)
    width = parse_integer(text[1:], BAD_TYPE)
    if not 1 <= width <= (64 if is_signed else 63):
        raise ReplyError(BAD_TYPE)
    return is_signed, width


def _get(data: Buffer, it: Operation) -> int:
    """The number that is there; what lies beyond the end is zeros."""
    first = it.offset >> 3
    there = bytes(data[first : it.end]).ljust(it.end - first, b"\0")
    number = int.from_bytes(there, "big") >> (8 * it.end - it.offset - it.width)
    number &= (1 << it.width) - 1
    return number - (1 << it.width) if it.is_signed and number >> (it.width - 1) else number


def _put(data: bytearray, it: Operation, number: int) -> None:
    """Put a number that fits where there is room for it."""
    first = it.offset >> 3
    shift = 8 * it.end - it.offset - it.width
    mask = ((1 << it.width) - 1) << shift
    whole = int.from_bytes(data[first : it.end], "big") & ~mask
    whole |= (number << shift) & mask
    data[first : it.end] = whole.to_bytes(it.end - first, "big")


def _keys_of_bitfield(args: list[bytes]) -> Keys:
    """Whether the string is only read depends on what is asked for."""
    index = 2
    while index < len(args):
        words = _WORDS_READING.get(args[index].upper())
        if words is None or index + words > len(args):
            return [(1, "RW access update")]
        index += words
    return [(1, "RO access")]


_WORDS_READING = {b"GET": 3, b"OVERFLOW": 2}
"""How many words those operations have that change nothing."""


def _cost_of_bitfield(keyspace: Keyspace, args: list[bytes]) -> int:
    ends = [it.end for it in _operations(args[2:]) if it.name != b"GET"]
    return growth(keyspace, args[1], max(ends, default=0))


@command(
    "bitfield",
    -2,
    Route.WRITE,
    "write denyoom",
    keys=ONE_KEY,
    group="bitmap",
    since="3.2.0",
    summary="Get, set and add to numbers of any width within a string",
    key_use="RW access update variable_flags",
    find_keys=_keys_of_bitfield,
    cost=_cost_of_bitfield,
    pays_itself=True,
)
def bitfield(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """The string grows first, as far as any number needs that is to be set, also if that fails then."""
    key = args[1]
    operations = _operations(args[2:])
    value = keyspace.find_buffer(key) or b""
    writes = [it for it in operations if it.name != b"GET"]
    if not writes:
        return [_get(value, it) for it in operations]
    length = max(it.end for it in writes)
    grows = length > len(value)
    if grows:
        keyspace.shared.budget.pay(_cost_of_bitfield(keyspace, args))
    data = keyspace.open_string(key, length)
    replies: list[Reply] = []
    about: list[bytes] = []
    has_changed = False  # As Redis counts it, which tells nobody of zeros at the end alone.
    for it in operations:
        old = _get(data, it)
        if it.name == b"GET":
            replies.append(old)
            continue
        new = it.fit(old + it.amount if it.name == b"INCRBY" else _cast(it))
        if new is None:
            replies.append(None)
            continue
        replies.append(new if it.name == b"INCRBY" else old)
        if new != old:
            _put(data, it, new)
            about += (b"%d %d" % (it.offset, it.width), b"%d" % new)
        has_changed = has_changed or grows or new != old
    if has_changed or grows:
        keyspace.close_string(key, data, *about)
    if has_changed:
        keyspace.notify(STRING, b"setbit", key)
    return replies


def _cast(it: Operation) -> int:
    """What SET is given, as C's conversion makes it a number of the kind."""
    return it.amount if it.is_signed else it.amount % (1 << 64)


@command(
    "bitfield_ro",
    -2,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="bitmap",
    since="6.0.0",
    summary="Get numbers of any width within a string",
)
def bitfield_ro(keyspace: Keyspace, args: list[bytes]) -> Reply:
    operations = _operations(args[2:])
    if any(it.name != b"GET" for it in operations):
        raise ReplyError("ERR BITFIELD_RO only supports the GET subcommand")
    value = keyspace.find_buffer(args[1]) or b""
    return [_get(value, it) for it in operations]
