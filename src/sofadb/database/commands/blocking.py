"""Commands that wait until there is something to take: the blocking forms of LPOP, LMOVE, LMPOP, ZPOPMIN and so on.

Each looks at its keys in the order of its words and takes from the first that has elements and where it is the first in line
(`queues.py`). Otherwise it stands in line at all of them. Within MULTI and in scripts nobody waits.

Those that may take many pay for it (`budget.py`) when it is their turn; others take one, and cost nothing.

A key of another type is an error at first. Whoever waits does not mind: what is there is not what it waits for.
"""

from __future__ import annotations

from math import ceil

from ..arguments import INTEGER_MAX, parse_long_double, round_to_long_double
from ..keyspace import Keyspace
from ..queues import Place
from ..replies import NULL_ARRAY, WRONG_TYPE, Reply, ReplyError
from ..table import Route, command
from ..values import List, SortedSet, Value
from .lists import cost_of_lmpop, is_left, move, parse_lmpop
from .lists import pop as pop_list
from .sorted_sets import cost_of_zmpop, parse_zmpop
from .sorted_sets import pop as pop_sorted_set

KEYS_BEFORE_TIMEOUT = (1, -2, 1)
TWO_KEYS = (1, 2, 1)


def parse_timeout(text: bytes) -> int:
    """A time in seconds, as milliseconds, of which there is at least one if it is not 0 (0: for ever). Raises `ReplyError`.

    What is too large for 64 bits counts as negative, and what is less than a millisecond below 0 as 0, as in Redis 7.0.
    """
    try:
        seconds = parse_long_double(text)
    except ReplyError:
        raise ReplyError("ERR timeout is not a float or out of range") from None
    timeout_ms = -1 if seconds is None else ceil(round_to_long_double(seconds * 1000))
    if not 0 <= timeout_ms <= INTEGER_MAX:
        raise ReplyError("ERR timeout is negative")
    return timeout_ms


def first_ready(keyspace: Keyspace, keys: list[bytes], kind: type[Value]) -> bytes | None:
    """The first of the keys that has elements which the command may take. Raises WRONGTYPE."""
    queues = keyspace.shared.queues
    for key in keys:
        value = keyspace.look(key)
        if value is None:
            continue
        if type(value) is kind:
            if queues.is_first(_place(keyspace, key, kind)):
                return key
        elif not queues.has_waited:
            raise ReplyError(WRONG_TYPE)
    return None


def wait(
    keyspace: Keyspace, keys: list[bytes], kind: type[Value], timeout_ms: int, instead: Reply = NULL_ARRAY
) -> Reply:
    """Have the command stand in line at its keys. Where nobody waits it is answered `instead`."""
    places = [_place(keyspace, key, kind) for key in keys]
    return keyspace.shared.queues.wait(places, timeout_ms, NULL_ARRAY, instead)


def _place(keyspace: Keyspace, key: bytes, kind: type[Value]) -> Place:
    return Place(kind.kind, keyspace.number, key)


# Lists


def _pop(keyspace: Keyspace, args: list[bytes], at_left: bool) -> Reply:
    keys, timeout_ms = args[1:-1], parse_timeout(args[-1])
    key = first_ready(keyspace, keys, List)
    if key is None:
        return wait(keyspace, keys, List, timeout_ms)
    return [key, *pop_list(keyspace, key, at_left, 1)]


@command(
    "blpop",
    -3,
    Route.WRITE,
    "write noscript blocking",
    keys=KEYS_BEFORE_TIMEOUT,
    group="list",
    since="2.0.0",
    summary="Take the first element out of the first list that has one, or wait until there is one",
    complexity="O(N)",
    key_use="RW access delete",
)
def blpop(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _pop(keyspace, args, at_left=True)


@command(
    "brpop",
    -3,
    Route.WRITE,
    "write noscript blocking",
    keys=KEYS_BEFORE_TIMEOUT,
    group="list",
    since="2.0.0",
    summary="Take the last element out of the first list that has one, or wait until there is one",
    complexity="O(N)",
    key_use="RW access delete",
)
def brpop(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _pop(keyspace, args, at_left=False)


def _cost_of_blmpop(keyspace: Keyspace, args: list[bytes]) -> int:
    return cost_of_lmpop(keyspace, args[1:])


@command(
    "blmpop",
    -5,
    Route.WRITE,
    "write blocking movablekeys",
    group="list",
    since="7.0.0",
    summary="Take elements out of the first list that has some, or wait until there are some",
    complexity="O(N+M)",
    key_use="RW access delete",
    counted_keys=2,
    cost=_cost_of_blmpop,
    pays_itself=True,
)
def blmpop(keyspace: Keyspace, args: list[bytes]) -> Reply:
    keys, at_left, count = parse_lmpop(args[2:])
    timeout_ms = parse_timeout(args[1])
    key = first_ready(keyspace, keys, List)
    if key is None:
        return wait(keyspace, keys, List, timeout_ms)
    keyspace.shared.budget.pay(_cost_of_blmpop(keyspace, args))
    return [key, pop_list(keyspace, key, at_left, count)]


def _move(
    keyspace: Keyspace, source: bytes, destination: bytes, from_left: bool, to_left: bool, timeout_ms: int
) -> Reply:
    """The destination is looked at when there is something to put there."""
    if first_ready(keyspace, [source], List) is None:
        return wait(keyspace, [source], List, timeout_ms, instead=None)
    return move(keyspace, source, destination, from_left, to_left)


@command(
    "blmove",
    6,
    Route.WRITE,
    "write denyoom noscript blocking",
    keys=TWO_KEYS,
    group="list",
    since="6.2.0",
    summary="Take an element from one end of a list and put it at one end of another, or wait until there is one",
    key_use="RW access delete, RW insert",
)
def blmove(keyspace: Keyspace, args: list[bytes]) -> Reply:
    from_left, to_left = is_left(args[3]), is_left(args[4])
    return _move(keyspace, args[1], args[2], from_left, to_left, parse_timeout(args[5]))


@command(
    "brpoplpush",
    4,
    Route.WRITE,
    "write denyoom noscript blocking",
    keys=TWO_KEYS,
    group="list",
    since="2.2.0",
    summary="Take the last element of a list and put it in front of another, or wait until there is one",
    key_use="RW access delete, RW insert",
)
def brpoplpush(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _move(keyspace, args[1], args[2], False, True, parse_timeout(args[3]))


# Sorted sets


def _pop_sorted_set(keyspace: Keyspace, args: list[bytes], is_max: bool) -> Reply:
    keys, timeout_ms = args[1:-1], parse_timeout(args[-1])
    key = first_ready(keyspace, keys, SortedSet)
    if key is None:
        return wait(keyspace, keys, SortedSet, timeout_ms)
    ((score, name),) = pop_sorted_set(keyspace, key, is_max, 1)
    return [key, name, score]


@command(
    "bzpopmin",
    -3,
    Route.WRITE,
    "write noscript blocking fast",
    keys=KEYS_BEFORE_TIMEOUT,
    group="sorted-set",
    since="5.0.0",
    summary="Take the element with the lowest score out of the first sorted set that has one, or wait until there is one",
    complexity="O(log(N))",
    key_use="RW access delete",
)
def bzpopmin(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _pop_sorted_set(keyspace, args, is_max=False)


@command(
    "bzpopmax",
    -3,
    Route.WRITE,
    "write noscript blocking fast",
    keys=KEYS_BEFORE_TIMEOUT,
    group="sorted-set",
    since="5.0.0",
    summary="Take the element with the highest score out of the first sorted set that has one, or wait until there is one",
    complexity="O(log(N))",
    key_use="RW access delete",
)
def bzpopmax(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _pop_sorted_set(keyspace, args, is_max=True)


def _cost_of_bzmpop(keyspace: Keyspace, args: list[bytes]) -> int:
    return cost_of_zmpop(keyspace, args[1:])


@command(
    "bzmpop",
    -5,
    Route.WRITE,
    "write blocking movablekeys",
    group="sorted-set",
    since="7.0.0",
    summary="Take elements out of the first sorted set that has some, or wait until there are some",
    complexity="O(K) + O(M*log(N))",
    key_use="RW access delete",
    counted_keys=2,
    cost=_cost_of_bzmpop,
    pays_itself=True,
)
def bzmpop(keyspace: Keyspace, args: list[bytes]) -> Reply:
    keys, is_max, count = parse_zmpop(args[2:])
    timeout_ms = parse_timeout(args[1])
    key = first_ready(keyspace, keys, SortedSet)
    if key is None:
        return wait(keyspace, keys, SortedSet, timeout_ms)
    keyspace.shared.budget.pay(_cost_of_bzmpop(keyspace, args))
    return [key, [[name, score] for score, name in pop_sorted_set(keyspace, key, is_max, count)]]
