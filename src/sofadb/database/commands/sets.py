"""Sets, as the Redis manual's page "Sets" lists them. A value is a `Set`: names at positions.

What sets have together comes in an order that follows from theirs, so that replicas agree on it. Whoever may find that
nothing is to be changed looks first and claims then.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from .. import events
from ..arguments import INTEGER_MAX, demand_few, parse_at_least, parse_picks, picks_many
from ..budget import Cost
from ..costs import (
    PICK_NS,
    counted_keys,
    difference_of,
    each_element,
    each_pick,
    each_taken,
    intersection_of,
    sizes_at,
)
from ..keyspace import Keyspace
from ..replies import SYNTAX, Reply, ReplyError, Unordered
from ..scanning import may_meet_many, parse_cursor, parse_scan, scan_names
from ..table import Route, command
from ..values import Set

ONE_KEY = (1, 1, 1)
ALL_KEYS = (1, -1, 1)


def _add(keyspace: Keyspace, key: bytes, value: Set | None, names: list[bytes]) -> int:
    """Put names into the set at `key`, which is `value`; how many are new."""
    added = list(dict.fromkeys(names))
    if value is not None:
        added = [name for name in added if name not in value]
    if not added:
        return 0
    keyspace.claim(key)
    if value is None:
        keyspace.set(key, Set.of(added))
    else:
        for name in added:
            value.add(name)
        keyspace.changed(key, b"+", *added)
    keyspace.notify(events.SET, b"sadd", key)
    return len(added)


def _remove(keyspace: Keyspace, key: bytes, value: Set, names: list[bytes], event: bytes) -> None:
    """Take names, which are there, out of the set at `key`, which is `value`."""
    is_last = len(names) == len(value)
    if is_last:
        keyspace.delete(key)
    else:
        keyspace.claim(key)
        for name in names:
            value.remove(name)
        keyspace.changed(key, b"-", *names)
    keyspace.notify(events.SET, event, key)
    if is_last:
        keyspace.notify(events.GENERIC, b"del", key)


@command(
    "sadd",
    -3,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="set",
    summary="Put members into a set, and count the new ones",
    complexity="O(N)",
    key_use="RW insert",
)
def sadd(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _add(keyspace, args[1], keyspace.find_as(args[1], Set), args[2:])


@command(
    "srem",
    -3,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    group="set",
    summary="Remove members of a set",
    complexity="O(N)",
    key_use="RW delete",
)
def srem(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], Set)
    present = [] if value is None else [name for name in dict.fromkeys(args[2:]) if name in value]
    if value is None or not present:
        return 0
    _remove(keyspace, args[1], value, present, b"srem")
    return len(present)


@command(
    "smove",
    4,
    Route.WRITE,
    "write fast",
    keys=(1, 2, 1),
    group="set",
    summary="Take a member out of one set and put it into another",
    key_use="RW access delete, RW insert",
)
def smove(keyspace: Keyspace, args: list[bytes]) -> Reply:
    source, destination, name = args[1:]
    value = keyspace.find_as(source, Set)
    if value is None:
        return 0
    keyspace.find_as(destination, Set)
    if name not in value:
        return 0
    if source != destination:
        _remove(keyspace, source, value, [name], b"srem")
        _add(keyspace, destination, keyspace.find_as(destination, Set), [name])
    return 1


@command(
    "scard",
    2,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="set",
    summary="How many members a set has",
    key_use="RO",
)
def scard(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return len(keyspace.find_as(args[1], Set) or ())


@command(
    "sismember",
    3,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="set",
    summary="Whether something is a member of a set",
    key_use="RO",
)
def sismember(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return int(args[2] in (keyspace.find_as(args[1], Set) or ()))


@command(
    "smismember",
    -3,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="set",
    since="6.2.0",
    summary="Of several things, whether each is a member of a set",
    complexity="O(N)",
)
def smismember(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], Set) or ()
    return [int(name in value) for name in args[2:]]


@command(
    "smembers",
    2,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="set",
    summary="All members of a set",
    complexity="O(N)",
    reply_is_large=True,
    cost=each_element(20),
)
def smembers(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], Set)
    return Unordered() if value is None else Unordered(value.names)


_NOT_POSITIVE = "ERR value is out of range, must be positive"


_cost_of_spop = each_taken(2 * PICK_NS)


@command(
    "spop",
    -2,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    group="set",
    summary="Members of a set, picked by chance, which are removed",
    complexity="O(N)",
    reply_is_large=picks_many,
    key_use="RW access delete",
    cost=_cost_of_spop,
    pays_itself=True,
)
def spop(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """One, or with a count a set of so many."""
    if len(args) > 3:
        raise ReplyError(SYNTAX)
    count = None if len(args) == 2 else parse_at_least(0, args[2], _NOT_POSITIVE)
    value = keyspace.find_as(args[1], Set)
    if value is None or count == 0:
        return None if count is None else Unordered()
    if count is not None:
        keyspace.shared.budget.pay(_cost_of_spop(keyspace, args))
    names = _pop(keyspace, args[1], value, 1 if count is None else count)
    return names[0] if count is None else Unordered(names)


def _pop(keyspace: Keyspace, key: bytes, value: Set, count: int) -> list[bytes]:
    """Take `count` names out, or all. If few are left, they become a new set, as in Redis."""
    picks = keyspace.chance().pick(count, len(value))
    names = [value.names[pick] for pick in picks]
    left = len(value) - len(names)
    if 0 < left * _MANY_TIMES <= len(names):
        gone = set(picks)
        keyspace.replace(key, Set.of([name for at, name in enumerate(value.names) if at not in gone]))
        keyspace.notify(events.SET, b"spop", key)
    else:
        _remove(keyspace, key, value, names, b"spop")
    return names


_MANY_TIMES = 5
"""When so many times more are taken than are left, Redis makes a new set."""


@command(
    "srandmember",
    -2,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="set",
    summary="Members of a set, picked by chance",
    complexity="O(N)",
    reply_is_large=picks_many,
    reply_varies=True,
    cost=each_pick,
)
def srandmember(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """One, or with a count a list of so many."""
    if len(args) > 3:
        raise ReplyError(SYNTAX)
    count = None if len(args) == 2 else parse_picks(args[2])
    value = keyspace.find_as(args[1], Set)
    if value is None:
        return None if count is None else []
    picks = keyspace.own_chance().pick(1 if count is None else count, len(value))
    names = [value.names[pick] for pick in picks]
    return names[0] if count is None else names


# Several sets

_PART = 1_000


def _find_all(keyspace: Keyspace, keys: list[bytes]) -> list[Set | None]:
    """What is at each key. Raises WRONGTYPE."""
    return [keyspace.find_as(key, Set) for key in keys]


def _intersection(sets: list[Set | None]) -> Iterator[bytes]:
    """What all of them have, in the order of the smallest one; made part by part, for who does not need all of it."""
    present = [each for each in sets if each is not None]
    if len(present) < len(sets):
        return
    smallest, *others = sorted(present, key=len)
    demand_few(len(smallest) * len(present))
    for at in range(0, len(smallest), _PART):
        part = smallest.names[at : at + _PART]
        for other in others:
            positions = other.positions
            part = [name for name in part if name in positions]
        yield from part


def _union(sets: list[Set | None]) -> list[bytes]:
    """What any of them has: the first one's, then what is new in the second, and so on."""
    present = [each for each in sets if each is not None]
    demand_few(sum(map(len, present)))
    return list(dict.fromkeys(chain.from_iterable(each.names for each in present)))


def _difference(sets: list[Set | None]) -> list[bytes]:
    """What the first one has and no other, in its order.

    As in Redis, either each name is looked for in the others, or what they have is taken away, whichever is less.
    """
    first, *rest = sets
    if first is None:
        return []
    others = sorted((each for each in rest if each is not None), key=len, reverse=True)
    by_looking, by_taking = len(first) * (len(others) + 1), len(first) + sum(map(len, others))
    demand_few(min(by_looking, by_taking))
    if by_looking // 2 > by_taking:
        left = dict.fromkeys(first.names)
        for other in others:
            for name in other.names:
                left.pop(name, None)
        return list(left)
    names = first.names.copy()
    for other in others:
        positions = other.positions
        names = [name for name in names if name not in positions]
    return names


def _store(keyspace: Keyspace, key: bytes, names: list[bytes], event: bytes) -> int:
    """Put a set of `names` at `key`, or nothing if there are none."""
    if names:
        keyspace.set(key, Set.of(names))
        keyspace.notify(events.SET, event, key)
    elif keyspace.delete(key):
        keyspace.notify(events.GENERIC, b"del", key)
    return len(names)


VISIT_NS = 300
"""To look for a name in a set, or to take it over from one."""
STORE_NS = 400
"""To put it into a new one."""


def _cost_of_sinter(first: int) -> Cost:
    """Of what several sets, whose keys begin with a word, have in common. Where there is a word before them, it is stored."""

    def cost(keyspace: Keyspace, args: list[bytes]) -> int:
        sizes = sizes_at(keyspace, args[first:])
        return _units(intersection_of(sizes), min(sizes, default=0) * (first - 1))

    return cost


def _cost_of_sunion(first: int) -> Cost:
    """As `_cost_of_sinter`."""

    def cost(keyspace: Keyspace, args: list[bytes]) -> int:
        met = sum(sizes_at(keyspace, args[first:]))
        return _units(met, met * (first - 1))

    return cost


def _cost_of_sdiff(first: int) -> Cost:
    """As `_cost_of_sinter`."""

    def cost(keyspace: Keyspace, args: list[bytes]) -> int:
        sizes = sizes_at(keyspace, args[first:])
        return _units(difference_of(sizes), sizes[0] * (first - 1))

    return cost


def _cost_of_sintercard(keyspace: Keyspace, args: list[bytes]) -> int:
    return _units(intersection_of(sizes_at(keyspace, counted_keys(args, 1))), 0)


def _units(visited: int, stored: int) -> int:
    return (visited * VISIT_NS + stored * STORE_NS) // 1_000


@command(
    "sinter",
    -2,
    Route.READ,
    "readonly",
    keys=ALL_KEYS,
    group="set",
    summary="What several sets have in common",
    complexity="O(N*M)",
    reply_is_large=True,
    cost=_cost_of_sinter(1),
)
def sinter(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return Unordered(_intersection(_find_all(keyspace, args[1:])))


@command(
    "sintercard",
    -3,
    Route.READ,
    "readonly movablekeys",
    group="set",
    since="7.0.0",
    summary="How much several sets have in common, perhaps counted up to a limit",
    complexity="O(N*M)",
    counted_keys=1,
    cost=_cost_of_sintercard,
)
def sintercard(keyspace: Keyspace, args: list[bytes]) -> Reply:
    keys_end = 2 + parse_at_least(1, args[1], "ERR numkeys should be greater than 0")
    if keys_end > len(args):
        raise ReplyError("ERR Number of keys can't be greater than number of args")
    limit = 0
    options = iter(args[keys_end:])
    for option in options:
        word = next(options, None)
        if option.upper() != b"LIMIT" or word is None:
            raise ReplyError(SYNTAX)
        limit = parse_at_least(0, word, "ERR LIMIT can't be negative")
    common = _intersection(_find_all(keyspace, args[2:keys_end]))
    return sum(1 for _ in islice(common, limit or INTEGER_MAX))


@command(
    "sinterstore",
    -3,
    Route.WRITE,
    "write denyoom",
    keys=ALL_KEYS,
    group="set",
    summary="Put what several sets have in common at a key",
    complexity="O(N*M)",
    key_use="RW update, RO access",
    cost=_cost_of_sinter(2),
)
def sinterstore(keyspace: Keyspace, args: list[bytes]) -> Reply:
    names = list(_intersection(_find_all(keyspace, args[2:])))
    return _store(keyspace, args[1], names, b"sinterstore")


@command(
    "sunion",
    -2,
    Route.READ,
    "readonly",
    keys=ALL_KEYS,
    group="set",
    summary="What is in any of several sets",
    complexity="O(N)",
    reply_is_large=True,
    cost=_cost_of_sunion(1),
)
def sunion(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return Unordered(_union(_find_all(keyspace, args[1:])))


@command(
    "sunionstore",
    -3,
    Route.WRITE,
    "write denyoom",
    keys=ALL_KEYS,
    group="set",
    summary="Put what is in any of several sets at a key",
    complexity="O(N)",
    key_use="OW update, RO access",
    cost=_cost_of_sunion(2),
)
def sunionstore(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _store(keyspace, args[1], _union(_find_all(keyspace, args[2:])), b"sunionstore")


@command(
    "sdiff",
    -2,
    Route.READ,
    "readonly",
    keys=ALL_KEYS,
    group="set",
    summary="What is in the first of several sets and in no other",
    complexity="O(N)",
    reply_is_large=True,
    cost=_cost_of_sdiff(1),
)
def sdiff(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return Unordered(_difference(_find_all(keyspace, args[1:])))


@command(
    "sdiffstore",
    -3,
    Route.WRITE,
    "write denyoom",
    keys=ALL_KEYS,
    group="set",
    summary="Put what is in the first of several sets and in no other at a key",
    complexity="O(N)",
    key_use="OW update, RO access",
    cost=_cost_of_sdiff(2),
)
def sdiffstore(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _store(keyspace, args[1], _difference(_find_all(keyspace, args[2:])), b"sdiffstore")


@command(
    "sscan",
    -3,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="set",
    since="2.8.0",
    summary="Go through a set, a few members at a time",
    complexity="O(1)",
    reply_is_large=may_meet_many,
)
def sscan(keyspace: Keyspace, args: list[bytes]) -> Reply:
    cursor = parse_cursor(args[2])
    value = keyspace.find_as(args[1], Set)
    if value is None:
        return [b"0", []]
    following, positions = scan_names(value, cursor, parse_scan(args[3:]))
    return [following, [value.names[position] for position in positions]]
