"""Hashes, as the Redis manual's page "Hashes" lists them. A value is a `Hash`: fields with values, at positions.

Whoever may find that nothing is to be changed looks first and claims then.
"""

from __future__ import annotations

from .. import events
from ..arguments import (
    INTEGER_MAX,
    INTEGER_MIN,
    LONG_DOUBLE_END,
    format_long_double,
    parse_integer,
    parse_long_double,
    parse_picks,
    picks_many,
    round_to_long_double,
)
from ..costs import each_element, each_pick
from ..keyspace import Keyspace
from ..replies import OK, SYNTAX, Pairs, Reply, ReplyError
from ..scanning import may_meet_many, parse_cursor, parse_scan, scan_names
from ..table import Route, command
from ..values import Hash

ONE_KEY = (1, 1, 1)


def _put(keyspace: Keyspace, key: bytes, words: list[bytes], event: bytes) -> int:
    """Give fields their values, by turns in `words`; how many of the fields are new. Raises WRONGTYPE."""
    value = keyspace.claim_as(key, Hash)
    to = Hash() if value is None else value
    added = sum(to.put(words[at], words[at + 1]) for at in range(0, len(words), 2))
    if value is None:
        keyspace.set(key, to)
    else:
        keyspace.changed(key, *words)
    keyspace.notify(events.HASH, event, key)
    return added


@command(
    "hset",
    -4,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="hash",
    since="2.0.0",
    summary="Give fields of a hash their values, and count the new ones",
    complexity="O(N)",
    key_use="RW update",
)
def hset(keyspace: Keyspace, args: list[bytes]) -> Reply:
    if len(args) % 2 == 1:
        raise ReplyError("ERR wrong number of arguments for 'hset' command")
    return _put(keyspace, args[1], args[2:], b"hset")


@command(
    "hmset",
    -4,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="hash",
    since="2.0.0",
    summary="Give fields of a hash their values",
    complexity="O(N)",
    key_use="RW update",
)
def hmset(keyspace: Keyspace, args: list[bytes]) -> Reply:
    if len(args) % 2 == 1:
        raise ReplyError("ERR wrong number of arguments for 'hmset' command")
    _put(keyspace, args[1], args[2:], b"hset")
    return OK


@command(
    "hsetnx",
    4,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="hash",
    since="2.0.0",
    summary="Give a field of a hash its value, if it has none",
    key_use="RW insert",
)
def hsetnx(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], Hash)
    if value is not None and args[2] in value:
        return 0
    return _put(keyspace, args[1], args[2:], b"hset")


@command(
    "hget",
    3,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="hash",
    since="2.0.0",
    summary="The value of a field",
)
def hget(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], Hash)
    return None if value is None else value.get(args[2])


@command(
    "hmget",
    -3,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="hash",
    since="2.0.0",
    summary="The values of several fields",
    complexity="O(N)",
)
def hmget(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], Hash)
    if value is None:
        return [None] * (len(args) - 2)
    return list(map(value.get, args[2:]))


@command(
    "hgetall",
    2,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="hash",
    since="2.0.0",
    summary="All fields of a hash with their values",
    complexity="O(N)",
    reply_is_large=True,
    cost=each_element(800),
)
def hgetall(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], Hash)
    return {} if value is None else dict(zip(value.names, value.values, strict=True))


@command(
    "hkeys",
    2,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="hash",
    since="2.0.0",
    summary="All fields of a hash",
    complexity="O(N)",
    reply_is_large=True,
    cost=each_element(20),
)
def hkeys(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], Hash)
    return [] if value is None else value.names.copy()


@command(
    "hvals",
    2,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="hash",
    since="2.0.0",
    summary="The values of all fields of a hash",
    complexity="O(N)",
    reply_is_large=True,
    cost=each_element(20),
)
def hvals(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], Hash)
    return [] if value is None else value.values.copy()


@command(
    "hlen",
    2,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="hash",
    since="2.0.0",
    summary="How many fields a hash has",
    key_use="RO",
)
def hlen(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return len(keyspace.find_as(args[1], Hash) or ())


@command(
    "hstrlen",
    3,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="hash",
    since="3.2.0",
    summary="How many bytes the value of a field has",
    key_use="RO",
)
def hstrlen(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return len(hget(keyspace, args) or b"")


@command(
    "hexists",
    3,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="hash",
    since="2.0.0",
    summary="Whether a hash has a field",
    key_use="RO",
)
def hexists(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return int(args[2] in (keyspace.find_as(args[1], Hash) or ()))


@command(
    "hdel",
    -3,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    group="hash",
    since="2.0.0",
    summary="Remove fields of a hash",
    complexity="O(N)",
    key_use="RW delete",
)
def hdel(keyspace: Keyspace, args: list[bytes]) -> Reply:
    key, value = args[1], keyspace.find_as(args[1], Hash)
    present = [] if value is None else [name for name in dict.fromkeys(args[2:]) if name in value]
    if value is None or not present:
        return 0
    is_last = len(present) == len(value)
    if is_last:
        keyspace.delete(key)
    else:
        keyspace.claim(key)
        for name in present:
            value.remove(name)
        keyspace.changed(key, *present)
    keyspace.notify(events.HASH, b"hdel", key)
    if is_last:
        keyspace.notify(events.GENERIC, b"del", key)
    return len(present)


@command(
    "hincrby",
    4,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="hash",
    since="2.0.0",
    summary="Add an integer to the number in a field",
)
def hincrby(keyspace: Keyspace, args: list[bytes]) -> Reply:
    amount = parse_integer(args[3])
    old = hget(keyspace, args)
    total = (0 if old is None else parse_integer(old, "ERR hash value is not an integer")) + amount
    if not INTEGER_MIN <= total <= INTEGER_MAX:
        raise ReplyError("ERR increment or decrement would overflow")
    _put(keyspace, args[1], [args[2], b"%d" % total], b"hincrby")
    return total


@command(
    "hincrbyfloat",
    4,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="hash",
    since="2.6.0",
    summary="Add a decimal to the number in a field",
)
def hincrbyfloat(keyspace: Keyspace, args: list[bytes]) -> Reply:
    amount = parse_long_double(args[3])
    if amount is None:
        raise ReplyError("ERR value is NaN or Infinity")
    text = hget(keyspace, args)
    old = parse_long_double(b"0" if text is None else text, "ERR hash value is not a float")
    total = None if old is None else round_to_long_double(old + amount)
    if total is None or abs(total) >= LONG_DOUBLE_END:
        raise ReplyError("ERR increment would produce NaN or Infinity")
    text = format_long_double(total)
    _put(keyspace, args[1], [args[2], text], b"hincrbyfloat")
    return text


@command(
    "hrandfield",
    -2,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="hash",
    since="6.2.0",
    summary="Fields of a hash, picked by chance, perhaps with their values",
    complexity="O(N)",
    reply_is_large=picks_many,
    reply_varies=True,
    cost=each_pick,
)
def hrandfield(keyspace: Keyspace, args: list[bytes]) -> Reply:
    if len(args) == 2:
        value = keyspace.find_as(args[1], Hash)
        return None if value is None else value.names[keyspace.own_chance().below(len(value))]
    count = parse_picks(args[2])
    with_values = len(args) == 4 and args[3].upper() == b"WITHVALUES"
    if len(args) > 3 and not with_values:
        raise ReplyError(SYNTAX)
    if with_values and count > INTEGER_MAX // 2:
        raise ReplyError("ERR value is out of range")
    value = keyspace.find_as(args[1], Hash)
    if value is None:
        return []
    picks = keyspace.own_chance().pick(count, len(value))
    if with_values:
        return Pairs(word for pick in picks for word in (value.names[pick], value.values[pick]))
    return [value.names[pick] for pick in picks]


@command(
    "hscan",
    -3,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="hash",
    since="2.8.0",
    summary="Go through a hash, a few fields at a time",
    complexity="O(1)",
    reply_is_large=may_meet_many,
)
def hscan(keyspace: Keyspace, args: list[bytes]) -> Reply:
    cursor = parse_cursor(args[2])
    value = keyspace.find_as(args[1], Hash)
    if value is None:
        return [b"0", []]
    following, positions = scan_names(value, cursor, parse_scan(args[3:]))
    return [
        following,
        [word for position in positions for word in (value.names[position], value.values[position])],
    ]
