"""Strings, as the Redis manual's page "Strings" lists them. A value is `bytes`."""

from __future__ import annotations

from ..arguments import (
    INTEGER_MAX,
    INTEGER_MIN,
    LONG_DOUBLE_END,
    expiry,
    format_long_double,
    parse_integer,
    parse_long_double,
    round_to_long_double,
)
from ..costs import BYTES_PER_UNIT, bytes_at, growth, telling, telling_of
from ..events import EXPIRED, GENERIC, STRING
from ..keyspace import Keyspace
from ..replies import NOT_A_FLOAT, NOT_AN_INTEGER, OK, SYNTAX, TOO_LONG, Reply, ReplyError
from ..subsequences import CommonSubsequence
from ..table import Keys, Route, command
from ..values import LongString
from ..wire import Columns

STRING_BYTES_MAX = 64 << 20
"""No value grows beyond this (Redis's proto-max-bulk-len, here 64 MiB)."""

SLICE_COPIED_BYTES_MAX = 512
"""A larger part of a value is a view of it: thousands of them in one pipeline cost nothing."""

ONE_KEY = (1, 1, 1)


def _get_many(keyspace: Keyspace, columns: Columns) -> list[Reply] | None:
    return keyspace.find_strings(columns[1])


@command(
    "get",
    2,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="string",
    summary="The string at a key",
    many=_get_many,
    cost_in_log=telling,
)
def get(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return keyspace.find_string(args[1])


def _keys_of_set(args: list[bytes]) -> Keys:
    """Whether the old value is told depends on the options."""
    return [(1, "RW access update" if b"GET" in map(bytes.upper, args[3:]) else "OW update")]


def _cost_of_set(keyspace: Keyspace, args: list[bytes]) -> int:
    if len(args) == 3 or b"GET" not in map(bytes.upper, args[3:]):
        return 0
    return telling(keyspace, args)


def _claim_and_tell(keyspace: Keyspace, args: list[bytes]) -> bytes | None:
    """The whole string at the first key, for a write that answers with it. Raises WRONGTYPE, and if that would cost too much."""
    keyspace.shared.budget.pay(telling(keyspace, args))
    return keyspace.claim_string(args[1])


def _set_many(keyspace: Keyspace, columns: Columns) -> list[Reply] | None:
    if len(columns) != 3 or not keyspace.set_strings(columns[1], columns[2]):
        return None
    return [OK] * len(columns[1])


@command(
    "set",
    -3,
    Route.WRITE,
    "write denyoom",
    keys=ONE_KEY,
    group="string",
    summary="Put a string, perhaps on conditions, perhaps with an expiry",
    key_use="RW access update variable_flags",
    find_keys=_keys_of_set,
    many=_set_many,
    cost=_cost_of_set,
    pays_itself=True,
)
def set_(keyspace: Keyspace, args: list[bytes]) -> Reply:
    if len(args) == 3:
        key, value = args[1], args[2]
        keyspace.set(key, value)
        if keyspace.shared.wanted_events:
            keyspace.notify(STRING, b"set", key)
        return OK
    return _set_with_options(keyspace, args)


def _set_with_options(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """NX | XX, GET, and one of EX | PX | EXAT | PXAT | KEEPTTL, in any order."""
    key, value = args[1], args[2]
    condition, expires_at, keep, get_old = b"", None, False, False
    words = iter(args[3:])
    for word in words:
        option = word.upper()
        if option in (b"NX", b"XX") and condition in (b"", option):
            condition = option
        elif option == b"GET":
            get_old = True
        elif option == b"KEEPTTL" and expires_at is None:
            keep = True
        elif option in _EXPIRY_OPTIONS and (expires_at is None or expires_at[0] == option) and not keep:
            amount = next(words, None)
            if amount is None:
                raise ReplyError(SYNTAX)
            expires_at = (option, amount)
        else:
            raise ReplyError(SYNTAX)
    at = None if expires_at is None else _expiry_option(keyspace, *expires_at, "set")
    old = _claim_and_tell(keyspace, args) if get_old else None
    exists = keyspace.claim(key) is not None
    if (condition == b"NX" and exists) or (condition == b"XX" and not exists):
        return old
    if keep:
        keyspace.replace(key, value)
    else:
        keyspace.set(key, value)
    keyspace.notify(STRING, b"set", key)
    if at is not None:
        keyspace.notify(GENERIC, b"expire", key)
        if not _expire_or_delete(keyspace, key, at):
            keyspace.notify(EXPIRED, b"expired", key)
    return old if get_old else OK


_EXPIRY_OPTIONS = {b"EX": (True, 1000), b"PX": (True, 1), b"EXAT": (False, 1000), b"PXAT": (False, 1)}
"""Whether it counts from now, and the unit in ms."""


def _expiry_option(keyspace: Keyspace, option: bytes, amount: bytes, name: str) -> int:
    relative, unit_ms = _EXPIRY_OPTIONS[option]
    return expiry(amount, keyspace.time if relative else 0, unit_ms, name)


def _expire_or_delete(keyspace: Keyspace, key: bytes, at: int) -> bool:
    """Whether it is still there."""
    if at <= keyspace.time:
        keyspace.delete(key)
        return False
    keyspace.expire_at(key, at)
    return True


@command(
    "setnx",
    3,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="string",
    summary="Put a string, if the key is not there",
    key_use="OW insert",
)
def setnx(keyspace: Keyspace, args: list[bytes]) -> Reply:
    if keyspace.claim(args[1]) is not None:
        return 0
    keyspace.set(args[1], args[2])
    keyspace.notify(STRING, b"set", args[1])
    return 1


def _setex(keyspace: Keyspace, args: list[bytes], unit_ms: int, name: str) -> Reply:
    at = expiry(args[2], keyspace.time, unit_ms, name)
    keyspace.set(args[1], args[3])
    keyspace.expire_at(args[1], at)
    keyspace.notify(STRING, b"set", args[1])
    keyspace.notify(GENERIC, b"expire", args[1])
    return OK


@command(
    "setex",
    4,
    Route.WRITE,
    "write denyoom",
    keys=ONE_KEY,
    group="string",
    since="2.0.0",
    summary="Put a string that expires so many seconds from now",
    key_use="OW update",
)
def setex(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _setex(keyspace, args, 1000, "setex")


@command(
    "psetex",
    4,
    Route.WRITE,
    "write denyoom",
    keys=ONE_KEY,
    group="string",
    since="2.6.0",
    summary="Put a string that expires so many milliseconds from now",
    key_use="OW update",
)
def psetex(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _setex(keyspace, args, 1, "psetex")


@command(
    "getset",
    3,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="string",
    summary="Put a string and return the one before",
    cost=telling,
    pays_itself=True,
)
def getset(keyspace: Keyspace, args: list[bytes]) -> Reply:
    old = _claim_and_tell(keyspace, args)
    keyspace.set(args[1], args[2])
    keyspace.notify(STRING, b"set", args[1])
    return old


@command(
    "getdel",
    2,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    group="string",
    since="6.2.0",
    summary="The string at a key, which is removed",
    key_use="RW access delete",
    cost=telling,
    pays_itself=True,
)
def getdel(keyspace: Keyspace, args: list[bytes]) -> Reply:
    old = _claim_and_tell(keyspace, args)
    if keyspace.delete(args[1]):
        keyspace.notify(GENERIC, b"del", args[1])
    return old


@command(
    "getex",
    -2,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    group="string",
    since="6.2.0",
    summary="The string at a key, whose expiry is changed",
    cost=telling,
    pays_itself=True,
)
def getex(keyspace: Keyspace, args: list[bytes]) -> Reply:
    key, expires_at, persist = args[1], None, False
    if len(args) > 2:
        words = iter(args[2:])
        for word in words:
            option = word.upper()
            if option == b"PERSIST" and expires_at is None:
                persist = True
            elif (
                option in _EXPIRY_OPTIONS and not persist and (expires_at is None or expires_at[0] == option)
            ):
                amount = next(words, None)
                if amount is None:
                    raise ReplyError(SYNTAX)
                expires_at = (option, amount)
            else:
                raise ReplyError(SYNTAX)
    value = _claim_and_tell(keyspace, args)
    if value is None:
        return None
    if expires_at is not None:
        at = _expiry_option(keyspace, *expires_at, "getex")
        lives = _expire_or_delete(keyspace, key, at)
        keyspace.notify(GENERIC, b"expire" if lives else b"del", key)
    elif persist and keyspace.persist(key):
        keyspace.notify(GENERIC, b"persist", key)
    return value


@command(
    "mget",
    -2,
    Route.READ,
    "readonly fast",
    keys=(1, -1, 1),
    group="string",
    summary="The strings at several keys",
    cost_in_log=lambda keyspace, args: sum(telling_of(bytes_at(keyspace, key)) for key in args[1:]),
)
def mget(keyspace: Keyspace, args: list[bytes]) -> Reply:
    values = map(keyspace.find, args[1:])
    return [value if type(value) is bytes else None for value in values]


@command(
    "mset",
    -3,
    Route.WRITE,
    "write denyoom",
    keys=(1, -1, 2),
    group="string",
    since="1.0.1",
    summary="Put several strings at once",
    key_use="OW update",
)
def mset(keyspace: Keyspace, args: list[bytes]) -> Reply:
    if len(args) % 2 == 0:
        raise ReplyError("ERR wrong number of arguments for 'mset' command")
    for index in range(1, len(args), 2):
        keyspace.set(args[index], args[index + 1])
        keyspace.notify(STRING, b"set", args[index])
    return OK


@command(
    "msetnx",
    -3,
    Route.WRITE,
    "write denyoom",
    keys=(1, -1, 2),
    group="string",
    since="1.0.1",
    summary="Put several strings at once, if none of the keys is there",
    key_use="OW insert",
)
def msetnx(keyspace: Keyspace, args: list[bytes]) -> Reply:
    if len(args) % 2 == 0:
        raise ReplyError("ERR wrong number of arguments for 'msetnx' command")
    if any(keyspace.claim(key) is not None for key in args[1::2]):
        return 0
    mset(keyspace, args)
    return 1


@command(
    "append",
    3,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="string",
    since="2.0.0",
    summary="Put more at the end of a string",
    key_use="RW insert",
)
def append(keyspace: Keyspace, args: list[bytes]) -> Reply:
    key, more = args[1], args[2]
    length = len(keyspace.find_buffer(key) or b"")
    if length + len(more) > STRING_BYTES_MAX:
        raise ReplyError(TOO_LONG)
    overwrite(keyspace, key, length, more)
    keyspace.notify(STRING, b"append", key)
    return length + len(more)


@command(
    "strlen",
    2,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="string",
    since="2.2.0",
    summary="How many bytes a string has",
    key_use="RO",
)
def strlen(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return len(keyspace.find_buffer(args[1]) or b"")


def _cost_of_getrange(keyspace: Keyspace, args: list[bytes]) -> int:
    first, last = _bounds(parse_integer(args[2]), parse_integer(args[3]), bytes_at(keyspace, args[1]))
    return max(0, last + 1 - first) // BYTES_PER_UNIT


def _bounds(first: int, last: int, length: int) -> tuple[int, int]:
    """The first byte and the last one, where negative numbers count from the end; none if the last comes before the first."""
    if first < 0 and last < 0 and first > last:
        return 0, -1
    first = max(first + length, 0) if first < 0 else first
    last = max(last + length, 0) if last < 0 else last
    return first, min(last, length - 1)


@command(
    "getrange",
    4,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="string",
    since="2.4.0",
    summary="A part of a string",
    cost=_cost_of_getrange,
)
def getrange(keyspace: Keyspace, args: list[bytes]) -> Reply:
    first, last = parse_integer(args[2]), parse_integer(args[3])
    value = keyspace.find_buffer(args[1]) or b""
    first, last = _bounds(first, last, len(value))
    if last - first < SLICE_COPIED_BYTES_MAX or type(value) is bytearray:
        return bytes(value[first : last + 1])
    return memoryview(value)[first : last + 1]


command(
    "substr",
    4,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="string",
    summary="A part of a string (the old name of GETRANGE)",
    cost=_cost_of_getrange,
)(getrange)


def _cost_of_setrange(keyspace: Keyspace, args: list[bytes]) -> int:
    offset, part = parse_integer(args[2]), args[3]
    is_done = part and offset + len(part) <= STRING_BYTES_MAX
    return growth(keyspace, args[1], offset) if is_done else 0


@command(
    "setrange",
    4,
    Route.WRITE,
    "write denyoom",
    keys=ONE_KEY,
    group="string",
    since="2.2.0",
    summary="Overwrite a part of a string",
    key_use="RW update",
    cost=_cost_of_setrange,
    pays_itself=True,
)
def setrange(keyspace: Keyspace, args: list[bytes]) -> Reply:
    offset, part = parse_integer(args[2]), args[3]
    if offset < 0:
        raise ReplyError("ERR offset is out of range")
    value = keyspace.find_buffer(args[1]) or b""
    if not part:
        return len(value)
    if offset + len(part) > STRING_BYTES_MAX:
        raise ReplyError(TOO_LONG)
    if offset > len(value):
        keyspace.shared.budget.pay(_cost_of_setrange(keyspace, args))
    length = overwrite(keyspace, args[1], offset, part)
    keyspace.notify(STRING, b"setrange", args[1])
    return length


def overwrite(keyspace: Keyspace, key: bytes, at: int, part: bytes) -> int:
    """Put `part` into the string at `key`, with zeros before it where there was nothing; returns how long that is then."""
    data = keyspace.open_string(key, at + len(part))
    data[at : at + len(part)] = part
    keyspace.close_string(key, data, b"%d" % at, part)
    return len(data)


def _claim_number(keyspace: Keyspace, key: bytes, problem: str) -> bytes | None:
    """A string that is to be a number, and is replaced. A long one is none, and is not made `bytes` to find that out."""
    if type(keyspace.look(key)) is LongString:
        raise ReplyError(problem)
    return keyspace.claim_string(key)


def _increment(keyspace: Keyspace, key: bytes, amount: int) -> int:
    value = _claim_number(keyspace, key, NOT_AN_INTEGER)
    total = (0 if value is None else parse_integer(value)) + amount
    if not INTEGER_MIN <= total <= INTEGER_MAX:
        raise ReplyError("ERR increment or decrement would overflow")
    keyspace.replace(key, b"%d" % total)
    keyspace.notify(STRING, b"incrby", key)
    return total


@command(
    "incr",
    2,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="string",
    summary="Add 1 to a number",
)
def incr(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _increment(keyspace, args[1], 1)


@command(
    "decr",
    2,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="string",
    summary="Take 1 from a number",
)
def decr(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _increment(keyspace, args[1], -1)


@command(
    "incrby",
    3,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="string",
    summary="Add an integer to a number",
)
def incrby(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _increment(keyspace, args[1], parse_integer(args[2]))


@command(
    "decrby",
    3,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="string",
    summary="Take an integer from a number",
)
def decrby(keyspace: Keyspace, args: list[bytes]) -> Reply:
    amount = parse_integer(args[2])
    if amount == INTEGER_MIN:
        raise ReplyError("ERR decrement would overflow")
    return _increment(keyspace, args[1], -amount)


@command(
    "incrbyfloat",
    3,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="string",
    since="2.6.0",
    summary="Add a decimal to a number",
)
def incrbyfloat(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = _claim_number(keyspace, args[1], NOT_A_FLOAT)
    old = parse_long_double(b"0" if value is None else value)
    amount = parse_long_double(args[2])
    total = None if old is None or amount is None else round_to_long_double(old + amount)
    if total is None or abs(total) >= LONG_DOUBLE_END:
        raise ReplyError("ERR increment would produce NaN or Infinity")
    text = format_long_double(total)
    keyspace.replace(args[1], text)
    keyspace.notify(STRING, b"incrbyfloat", args[1])
    return text


# Two strings


def _cost_of_lcs(keyspace: Keyspace, args: list[bytes]) -> int:
    cells = (bytes_at(keyspace, args[1]) + 1) * (bytes_at(keyspace, args[2]) + 1)
    return min(cells, LCS_CELLS_MAX) // LCS_CELLS_PER_UNIT


@command(
    "lcs",
    -3,
    Route.READ,
    "readonly",
    keys=(1, 2, 1),
    group="string",
    since="7.0.0",
    summary="The longest common subsequence of two strings, of at most 64 KiB each",
    complexity="O(N*M)",
    reply_is_large=True,
    cost=_cost_of_lcs,
)
def lcs(keyspace: Keyspace, args: list[bytes]) -> Reply:
    one, other = keyspace.find(args[1]), keyspace.find(args[2])
    if type(one) not in _STRING_OR_NONE or type(other) not in _STRING_OR_NONE:
        raise ReplyError("ERR The specified keys must contain string values")
    wants_length, wants_places, with_lengths, length_min = _lcs_options(args[3:])
    one, other = one or b"", other or b""
    if len(one) > LCS_BYTES_MAX or len(other) > LCS_BYTES_MAX:
        raise ReplyError("ERR String too long for LCS")
    if (len(one) + 1) * (len(other) + 1) > LCS_CELLS_MAX:
        raise ReplyError("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    common = CommonSubsequence(one, other)
    if wants_length:
        return common.length
    matches = common.matches()
    if not wants_places:
        return b"".join(one[at : at + length] for at, _, length in reversed(matches))
    shown = []
    for at, at_other, length in matches:
        if length >= length_min:
            places = [[at, at + length - 1], [at_other, at_other + length - 1]]
            shown.append([*places, length] if with_lengths else places)
    return {b"matches": shown, b"len": common.length}


_STRING_OR_NONE = (bytes, type(None))
LCS_BYTES_MAX = 64 << 10
LCS_CELLS_MAX = STRING_BYTES_MAX // 4
"""Redis keeps 4 bytes for each pair of positions and has no more of them than a string may have. Here that takes some 30 ms."""

LCS_CELLS_PER_UNIT = 500


def _lcs_options(words: list[bytes]) -> tuple[bool, bool, bool, int]:
    """LEN, IDX, WITHMATCHLEN and MINMATCHLEN, in any order."""
    given: set[bytes] = set()
    length_min = 0
    rest = iter(words)
    for word in rest:
        option = word.upper()
        if option in (b"LEN", b"IDX", b"WITHMATCHLEN"):
            given.add(option)
        elif option == b"MINMATCHLEN" and (amount := next(rest, None)) is not None:
            length_min = parse_integer(amount)
        else:
            raise ReplyError(SYNTAX)
    if {b"LEN", b"IDX"} <= given:
        raise ReplyError("ERR If you want both the length and indexes, please just use IDX.")
    return b"LEN" in given, b"IDX" in given, b"WITHMATCHLEN" in given, length_min
