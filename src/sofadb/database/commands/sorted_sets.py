"""Sorted sets, as the Redis manual's page "Sorted sets" has them: names with scores, in the order of (score, name).

A value is a `SortedSet`. Whatever asks for a part of one, by rank, by score or by name, is first made a `Span`, which says of
a value from which rank to which that part goes: two searches, each in logarithmic time. So reading a part, counting it, storing
it and removing it are the same for all three.

Ranges by name are meant for sets whose scores are all the same. Of others they return what no one may rely on, as in
Redis; on every replica the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, repeat
from math import isnan
from typing import NamedTuple

from ..arguments import (
    INTEGER_MAX,
    demand_few,
    parse_at_least,
    parse_bound,
    parse_double,
    parse_integer,
    parse_picks,
    picks_many,
)
from ..budget import Cost
from ..costs import counted_keys, each_pick, each_taken, intersection_of, sizes_at
from ..events import GENERIC, SORTED_SET
from ..graveyard import LARGE
from ..keyspace import Keyspace
from ..replies import NULL_ARRAY, SYNTAX, WRONG_TYPE, Pairs, Reply, ReplyError
from ..scanning import MANY, may_meet_many, parse_cursor, parse_scan, scan_names
from ..table import Route, command
from ..values import SCORE, Set, SortedSet

ONE_KEY = (1, 1, 1)
INTEGRAL_MAX = 2**62
"""Up to this Redis takes a score for an integer, if it is one."""

Element = tuple[float, bytes]
"""A score and a name, as they lie in the order."""


# Putting elements in

_CONDITIONS = frozenset((b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"))


class _Outcome(NamedTuple):
    """What came of putting elements in."""

    added: int
    updated: int
    score: float | None
    """Of the last element that the conditions let through."""


def _put(
    keyspace: Keyspace, key: bytes, elements: Iterable[Element], conditions: frozenset[bytes]
) -> _Outcome:
    """Give names their scores, as far as the conditions of ZADD allow."""
    found = keyspace.find_as(key, SortedSet)
    if found is None:
        if b"XX" in conditions:
            return _Outcome(0, 0, None)
        keyspace.claim(key)  # What has expired goes.
    value = SortedSet() if found is None else found
    added, score = 0, None
    about: list[bytes] = []
    for given, name in elements:
        old = value.score(name)
        new = _new_score(old, given, conditions)
        if new is None:
            continue
        score = new
        if new == old:
            continue
        if found is not None and not about:
            keyspace.claim(key)
        added += value.put(name, new)
        about.append(SCORE.pack(new) + name)
    if about:
        if found is None:
            keyspace.set(key, value)
        else:
            keyspace.changed(key, *about)
        keyspace.notify(SORTED_SET, b"zincr" if b"INCR" in conditions else b"zadd", key)
    return _Outcome(added, len(about) - added, score)


def _new_score(old: float | None, given: float, conditions: frozenset[bytes]) -> float | None:
    """The score that a name gets; None if it is left alone. Raises `ReplyError`."""
    if old is None:
        return None if b"XX" in conditions else given
    if b"NX" in conditions:
        return None
    new = old + given if b"INCR" in conditions else given
    if isnan(new):
        raise ReplyError("ERR resulting score is not a number (NaN)")
    if (b"LT" in conditions and new >= old) or (b"GT" in conditions and new <= old):
        return None
    return new


@command(
    "zadd",
    -4,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="sorted-set",
    since="1.2.0",
    summary="Put names with scores into a sorted set, perhaps on conditions",
    complexity="O(log(N)) for each",
    key_use="RW update",
)
def zadd(keyspace: Keyspace, args: list[bytes]) -> Reply:
    at = 2
    while at < len(args) and args[at].upper() in _CONDITIONS:
        at += 1
    conditions = frozenset(word.upper() for word in args[2:at])
    words = args[at:]
    if not words or len(words) % 2:
        raise ReplyError(SYNTAX)
    if {b"NX", b"XX"} <= conditions:
        raise ReplyError("ERR XX and NX options at the same time are not compatible")
    if len(conditions & {b"NX", b"GT", b"LT"}) > 1:
        raise ReplyError("ERR GT, LT, and/or NX options at the same time are not compatible")
    if b"INCR" in conditions and len(words) > 2:
        raise ReplyError("ERR INCR option supports a single increment-element pair")
    scores = list(map(parse_double, words[::2]))
    outcome = _put(keyspace, args[1], zip(scores, words[1::2], strict=True), conditions)
    if b"INCR" in conditions:
        return outcome.score
    return outcome.added + outcome.updated if b"CH" in conditions else outcome.added


@command(
    "zincrby",
    4,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="sorted-set",
    since="1.2.0",
    summary="Add to a score",
    complexity="O(log(N))",
)
def zincrby(keyspace: Keyspace, args: list[bytes]) -> Reply:
    element = (parse_double(args[2]), args[3])
    return _put(keyspace, args[1], [element], frozenset((b"INCR",))).score


# Single elements


@command(
    "zcard",
    2,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="sorted-set",
    since="1.2.0",
    summary="How many elements a sorted set has",
    key_use="RO",
)
def zcard(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], SortedSet)
    return 0 if value is None else len(value)


@command(
    "zscore",
    3,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="sorted-set",
    since="1.2.0",
    summary="The score of a name",
)
def zscore(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], SortedSet)
    return None if value is None else value.score(args[2])


@command(
    "zmscore",
    -3,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="sorted-set",
    since="6.2.0",
    summary="The scores of several names",
    complexity="O(N)",
)
def zmscore(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], SortedSet)
    return [None if value is None else value.score(name) for name in args[2:]]


@command(
    "zrank",
    3,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="sorted-set",
    since="2.0.0",
    summary="How many elements come before a name",
    complexity="O(log(N))",
)
def zrank(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], SortedSet)
    return None if value is None else value.rank(args[2])


@command(
    "zrevrank",
    3,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="sorted-set",
    since="2.0.0",
    summary="How many elements come after a name",
    complexity="O(log(N))",
)
def zrevrank(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], SortedSet)
    rank = None if value is None else value.rank(args[2])
    return None if value is None or rank is None else len(value) - 1 - rank


@command(
    "zrem",
    -3,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    group="sorted-set",
    since="1.2.0",
    summary="Take names out of a sorted set",
    complexity="O(log(N)) for each",
    key_use="RW delete",
)
def zrem(keyspace: Keyspace, args: list[bytes]) -> Reply:
    key = args[1]
    value = keyspace.find_as(key, SortedSet)
    names = [] if value is None else [name for name in dict.fromkeys(args[2:]) if name in value]
    if value is None or not names:
        return 0
    keyspace.claim(key)
    for name in names:
        value.remove(name)
    _has_shrunk(keyspace, key, value, b"zrem", *names)
    return len(names)


def _has_shrunk(keyspace: Keyspace, key: bytes, value: SortedSet, event: bytes, *about: bytes) -> None:
    """Elements were taken out of the claimed value of `key`: say so, and delete the key if nothing is left."""
    if len(value):
        keyspace.changed(key, event, *about)
        keyspace.notify(SORTED_SET, event, key)
    else:
        _delete(keyspace, key, event)


def _delete(keyspace: Keyspace, key: bytes, event: bytes) -> None:
    keyspace.delete(key)
    keyspace.notify(SORTED_SET, event, key)
    keyspace.notify(GENERIC, b"del", key)


# Spans

Span = Callable[[SortedSet], tuple[int, int]]
"""From which rank a part of a sorted set begins, and before which it ends, at or behind the beginning."""


def by_rank(first: bytes, last: bytes) -> Span:
    """Both of them belong to it; negative ranks count from the end. Raises `ReplyError`."""
    low, high = parse_integer(first), parse_integer(last)

    def span(value: SortedSet) -> tuple[int, int]:
        count = len(value)
        begin = min(low, count) if low >= 0 else max(low + count, 0)
        end = min(high if high >= 0 else high + count, count - 1) + 1
        return begin, max(begin, end)

    return span


def by_rank_from_the_end(first: bytes, last: bytes) -> Span:
    """As `by_rank`, where rank 0 is that of the last element. Raises `ReplyError`."""
    forwards = by_rank(first, last)

    def span(value: SortedSet) -> tuple[int, int]:
        begin, end = forwards(value)
        return len(value) - end, len(value) - begin

    return span


def by_score(low: bytes, high: bytes) -> Span:
    """Scores, which belong to it unless a bracket says otherwise. Raises `ReplyError`."""
    lowest, without_lowest = parse_bound(low)
    highest, without_highest = parse_bound(high)

    def span(value: SortedSet) -> tuple[int, int]:
        begin = value.rank_at(lowest, is_after=without_lowest)
        end = value.rank_at(highest, is_after=not without_highest)
        return begin, max(begin, end)

    return span


def by_name(low: bytes, high: bytes) -> Span:
    """Names behind a bracket that says whether they belong to it, or `-` and `+` for both ends. Raises `ReplyError`."""
    lowest, highest = _parse_name(low), _parse_name(high)

    def span(value: SortedSet) -> tuple[int, int]:
        begin = _rank_at_name(value, lowest, is_after=lowest.startswith(b"("))
        end = _rank_at_name(value, highest, is_after=not highest.startswith(b"("))
        return begin, max(begin, end)

    return span


def _rank_at_name(value: SortedSet, bound: bytes, is_after: bool) -> int:
    if bound.startswith((b"-", b"+")):
        return 0 if bound.startswith(b"-") else len(value)
    return value.rank_at_name(bound[1:], is_after)


def _parse_name(text: bytes) -> bytes:
    """Checks it. What follows a zero byte behind `-` and `+` is not seen."""
    if text[:1] in (b"(", b"[") or text.partition(b"\0")[0] in (b"-", b"+"):
        return text
    raise ReplyError("ERR min or max not valid string range item")


def _count(keyspace: Keyspace, args: list[bytes], by: Callable[[bytes, bytes], Span]) -> int:
    span = by(args[2], args[3])
    value = keyspace.find_as(args[1], SortedSet)
    if value is None:
        return 0
    begin, end = span(value)
    return end - begin


@command(
    "zcount",
    4,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="sorted-set",
    since="2.0.0",
    summary="How many elements have a score within a range",
    complexity="O(log(N))",
)
def zcount(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _count(keyspace, args, by_score)


@command(
    "zlexcount",
    4,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="sorted-set",
    since="2.8.9",
    summary="How many elements have a name within a range, if all scores are the same",
    complexity="O(log(N))",
)
def zlexcount(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _count(keyspace, args, by_name)


# Ranges


class _Range(NamedTuple):
    """What ZRANGE and its kin ask for."""

    span: Span
    is_reversed: bool
    offset: int
    limit: int
    """How many at most; negative: all."""
    with_scores: bool

    def of(self, value: SortedSet | None) -> list[Element]:
        """The elements, in the order that is asked for."""
        if value is None:
            return []
        begin, end = self._ranks(value)
        return value.order[begin:end][::-1] if self.is_reversed else value.order[begin:end]

    def count(self, value: SortedSet | None) -> int:
        """How many they are."""
        if value is None:
            return 0
        begin, end = self._ranks(value)
        return end - begin

    def _ranks(self, value: SortedSet) -> tuple[int, int]:
        """From which rank they go to before which."""
        if self.offset < 0:
            return 0, 0
        begin, end = self.span(value)
        if self.is_reversed:
            end = max(end - self.offset, begin)
            return begin if self.limit < 0 else max(begin, end - self.limit), end
        begin = min(begin + self.offset, end)
        return begin, end if self.limit < 0 else min(end, begin + self.limit)


_BY = {b"BYSCORE": by_score, b"BYLEX": by_name}


def _parse_range(
    words: list[bytes],
    by: Callable[[bytes, bytes], Span] | None = None,
    is_reversed: bool | None = None,
    is_stored: bool = False,
) -> _Range:
    """The ends of a range and the options behind them. What is None is for the options to say. Raises `ReplyError`."""
    offset, limit, with_scores = 0, -1, False
    at = 2
    while at < len(words):
        option = words[at].upper()
        if option == b"WITHSCORES" and not is_stored:
            with_scores = True
        elif option == b"LIMIT" and at + 2 < len(words):
            offset, limit = parse_integer(words[at + 1]), parse_integer(words[at + 2])
            at += 2
        elif option == b"REV" and is_reversed is None:
            is_reversed = True
        elif option in _BY and by is None:
            by = _BY[option]
        else:
            raise ReplyError(SYNTAX)
        at += 1
    by = by or by_rank
    if limit != -1 and by is by_rank:
        raise ReplyError(
            "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
        )
    if with_scores and by is by_name:
        raise ReplyError("ERR syntax error, WITHSCORES not supported in combination with BYLEX")
    first, last = words[:2]
    if by is by_rank:
        span = by_rank_from_the_end(first, last) if is_reversed else by_rank(first, last)
        offset = 0
    else:
        span = by(last, first) if is_reversed else by(first, last)
    return _Range(span, bool(is_reversed), offset, limit, with_scores)


def _is_long(args: list[bytes]) -> bool:
    """Whether the range of ranks in these words goes from one end to the other, or over many; or another has no limit."""
    if any(word.upper() in _BY for word in args[4:]):
        return _is_unlimited(args)
    try:
        first, last = parse_integer(args[2]), parse_integer(args[3])
    except ReplyError:
        return False
    return (first < 0) != (last < 0) or last - first >= MANY


def _is_unlimited(args: list[bytes]) -> bool:
    """Whether there is no limit of three digits at most among these words; of several the last."""
    backwards = [word.upper() for word in reversed(args[4:])]
    if b"LIMIT" not in backwards:
        return True
    limit = backwards[max(backwards.index(b"LIMIT") - 2, 0)]
    return len(limit) > 3 or not limit.isdigit()


def _answer(keyspace: Keyspace, key: bytes, wanted: _Range) -> Reply:
    return _shown(wanted.of(keyspace.find_as(key, SortedSet)), wanted.with_scores)


SHOW_NS, TAKE_NS, STORE_NS = 1_000, 9_000, 4_000
"""What an element costs that is shown, taken out, or put into a new sorted set."""


def _cost_of_range(by: Callable[[bytes, bytes], Span] | None, is_reversed: bool | None) -> Cost:
    """Of showing what is asked for with words that are read so."""

    def cost(keyspace: Keyspace, args: list[bytes]) -> int:
        return _parse_range(args[2:], by, is_reversed).count(_at(keyspace, args[1])) * SHOW_NS // 1_000

    return cost


def _at(keyspace: Keyspace, key: bytes) -> SortedSet | None:
    value = keyspace.look(key)
    return value if isinstance(value, SortedSet) else None


def _shown(elements: list[Element], with_scores: bool) -> Reply:
    """Names, perhaps each with its score behind it."""
    if with_scores:
        return Pairs(part for score, name in elements for part in (name, score))
    return [name for _, name in elements]


@command(
    "zrange",
    -4,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="sorted-set",
    since="1.2.0",
    summary="The elements within a range of ranks, scores or names",
    complexity="O(log(N)+M)",
    reply_is_large=_is_long,
    cost=_cost_of_range(None, None),
)
def zrange(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _answer(keyspace, args[1], _parse_range(args[2:]))


@command(
    "zrevrange",
    -4,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="sorted-set",
    since="1.2.0",
    summary="The elements within a range of ranks, counted from the end",
    complexity="O(log(N)+M)",
    reply_is_large=_is_long,
    cost=_cost_of_range(by_rank, True),
)
def zrevrange(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _answer(keyspace, args[1], _parse_range(args[2:], by_rank, is_reversed=True))


@command(
    "zrangebyscore",
    -4,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="sorted-set",
    since="1.0.5",
    summary="The elements within a range of scores",
    complexity="O(log(N)+M)",
    reply_is_large=_is_unlimited,
    cost=_cost_of_range(by_score, False),
)
def zrangebyscore(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _answer(keyspace, args[1], _parse_range(args[2:], by_score, is_reversed=False))


@command(
    "zrevrangebyscore",
    -4,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="sorted-set",
    since="2.2.0",
    summary="The elements within a range of scores, the highest first",
    complexity="O(log(N)+M)",
    reply_is_large=_is_unlimited,
    cost=_cost_of_range(by_score, True),
)
def zrevrangebyscore(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _answer(keyspace, args[1], _parse_range(args[2:], by_score, is_reversed=True))


@command(
    "zrangebylex",
    -4,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="sorted-set",
    since="2.8.9",
    summary="The elements within a range of names, if all scores are the same",
    complexity="O(log(N)+M)",
    reply_is_large=_is_unlimited,
    cost=_cost_of_range(by_name, False),
)
def zrangebylex(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _answer(keyspace, args[1], _parse_range(args[2:], by_name, is_reversed=False))


@command(
    "zrevrangebylex",
    -4,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="sorted-set",
    since="2.8.9",
    summary="The elements within a range of names, the last first, if all scores are the same",
    complexity="O(log(N)+M)",
    reply_is_large=_is_unlimited,
    cost=_cost_of_range(by_name, True),
)
def zrevrangebylex(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _answer(keyspace, args[1], _parse_range(args[2:], by_name, is_reversed=True))


def _cost_of_zrangestore(keyspace: Keyspace, args: list[bytes]) -> int:
    return _parse_range(args[3:], is_stored=True).count(_at(keyspace, args[2])) * STORE_NS // 1_000


@command(
    "zrangestore",
    -5,
    Route.WRITE,
    "write denyoom",
    keys=(1, 2, 1),
    group="sorted-set",
    since="6.2.0",
    summary="Put the elements within a range at another key",
    complexity="O(log(N)+M)",
    key_use="OW update, RO access",
    cost=_cost_of_zrangestore,
)
def zrangestore(keyspace: Keyspace, args: list[bytes]) -> Reply:
    elements = _parse_range(args[3:], is_stored=True).of(keyspace.find_as(args[2], SortedSet))
    return _store(keyspace, args[1], {name: score for score, name in elements}, b"zrangestore")


def _store(keyspace: Keyspace, key: bytes, scores: dict[bytes, float], event: bytes) -> int:
    """Put a sorted set in place of whatever is at `key`; returns how many elements it has. If none, nothing is there."""
    if scores:
        keyspace.set(key, SortedSet.of(scores))
        keyspace.notify(SORTED_SET, event, key)
    elif keyspace.delete(key):
        keyspace.notify(GENERIC, b"del", key)
    return len(scores)


# Taking ranges out


def _take(keyspace: Keyspace, key: bytes, begin: int, end: int, event: bytes) -> list[Element]:
    """Take out the elements of ranks from `begin` to before `end`, one at least.

    Costs as much as what is taken or what is left, whichever is less.
    """
    value = keyspace.find_as(key, SortedSet)
    assert value is not None
    assert begin < end
    elements = value.order[begin:end]
    left = len(value) - len(elements)
    if not left:
        _delete(keyspace, key, event)
    elif left < len(elements) >= LARGE:
        keyspace.replace(key, value.without(begin, end))
        keyspace.notify(SORTED_SET, event, key)
    else:
        keyspace.claim(key)
        value.cut(begin, end)
        _has_shrunk(keyspace, key, value, event, b"%d %d" % (begin, end), elements[0][1], elements[-1][1])
    return elements


def _cost_of_removal(by: Callable[[bytes, bytes], Span]) -> Cost:
    """Of taking out what lies between the ends that are read so: what is taken or what is left, whichever is less."""

    def cost(keyspace: Keyspace, args: list[bytes]) -> int:
        value = _at(keyspace, args[1])
        if value is None:
            return 0
        begin, end = by(args[2], args[3])(value)
        return min(end - begin, len(value) - (end - begin)) * TAKE_NS // 1_000

    return cost


def _remove(keyspace: Keyspace, key: bytes, span: Span, event: bytes) -> int:
    value = keyspace.find_as(key, SortedSet)
    begin, end = (0, 0) if value is None else span(value)
    if begin == end:
        return 0
    removed = _take(keyspace, key, begin, end, event)
    keyspace.shared.graveyard.bury_large(removed)
    return end - begin


@command(
    "zremrangebyrank",
    4,
    Route.WRITE,
    "write",
    keys=ONE_KEY,
    group="sorted-set",
    since="2.0.0",
    summary="Take out the elements within a range of ranks",
    complexity="O(log(N)+M)",
    key_use="RW delete",
    cost=_cost_of_removal(by_rank),
)
def zremrangebyrank(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _remove(keyspace, args[1], by_rank(args[2], args[3]), b"zremrangebyrank")


@command(
    "zremrangebyscore",
    4,
    Route.WRITE,
    "write",
    keys=ONE_KEY,
    group="sorted-set",
    since="1.2.0",
    summary="Take out the elements within a range of scores",
    complexity="O(log(N)+M)",
    key_use="RW delete",
    cost=_cost_of_removal(by_score),
)
def zremrangebyscore(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _remove(keyspace, args[1], by_score(args[2], args[3]), b"zremrangebyscore")


@command(
    "zremrangebylex",
    4,
    Route.WRITE,
    "write",
    keys=ONE_KEY,
    group="sorted-set",
    since="2.8.9",
    summary="Take out the elements within a range of names, if all scores are the same",
    complexity="O(log(N)+M)",
    key_use="RW delete",
    cost=_cost_of_removal(by_name),
)
def zremrangebylex(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _remove(keyspace, args[1], by_name(args[2], args[3]), b"zremrangebylex")


def pop(keyspace: Keyspace, key: bytes, is_max: bool, count: int) -> list[Element]:
    """Take up to `count` elements, one at least, from one end of the sorted set at `key`, which is there; the outermost first."""
    value = keyspace.find_as(key, SortedSet)
    assert value is not None
    size = len(value)
    count = min(count, size)
    if is_max:
        return _take(keyspace, key, size - count, size, b"zpopmax")[::-1]
    return _take(keyspace, key, 0, count, b"zpopmin")


_cost_of_popping = each_taken(TAKE_NS)


def _pop(keyspace: Keyspace, args: list[bytes], is_max: bool) -> Reply:
    """Without a count, the one pair is no pair of its own, not in RESP3 either."""
    if len(args) > 3:
        raise ReplyError(SYNTAX)
    is_counted = len(args) == 3
    count = parse_at_least(0, args[2], "ERR value is out of range, must be positive") if is_counted else 1
    if keyspace.find_as(args[1], SortedSet) is None or not count:
        return []
    if is_counted:
        keyspace.shared.budget.pay(_cost_of_popping(keyspace, args))
    pairs = _shown(pop(keyspace, args[1], is_max, count), with_scores=True)
    return pairs if is_counted else list(pairs)


@command(
    "zpopmin",
    -2,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    group="sorted-set",
    since="5.0.0",
    summary="Take out the elements with the lowest scores",
    complexity="O(log(N)*M)",
    reply_is_large=picks_many,
    key_use="RW access delete",
    cost=_cost_of_popping,
    pays_itself=True,
)
def zpopmin(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _pop(keyspace, args, is_max=False)


@command(
    "zpopmax",
    -2,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    group="sorted-set",
    since="5.0.0",
    summary="Take out the elements with the highest scores",
    complexity="O(log(N)*M)",
    reply_is_large=picks_many,
    key_use="RW access delete",
    cost=_cost_of_popping,
    pays_itself=True,
)
def zpopmax(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _pop(keyspace, args, is_max=True)


def _pops_many(args: list[bytes]) -> bool:
    """Whether these words end with a count of more than three digits."""
    return len(args[-1]) > 3 and args[-1].isdigit()


def cost_of_zmpop(keyspace: Keyspace, args: list[bytes]) -> int:
    """Of these words, with their first one the command's name."""
    keys, _, count = parse_zmpop(args[1:])
    return min(count, max(sizes_at(keyspace, keys), default=0)) * TAKE_NS // 1_000


@command(
    "zmpop",
    -4,
    Route.WRITE,
    "write movablekeys",
    group="sorted-set",
    since="7.0.0",
    summary="Take elements out of the first sorted set that is there",
    complexity="O(K) + O(M*log(N))",
    reply_is_large=_pops_many,
    key_use="RW access delete",
    counted_keys=1,
    cost=cost_of_zmpop,
)
def zmpop(keyspace: Keyspace, args: list[bytes]) -> Reply:
    keys, is_max, count = parse_zmpop(args[1:])
    for key in keys:
        if keyspace.find_as(key, SortedSet) is not None:
            return [key, [[name, score] for score, name in pop(keyspace, key, is_max, count)]]
    return NULL_ARRAY


def parse_zmpop(words: list[bytes]) -> tuple[list[bytes], bool, int]:
    """numkeys key [key ...] MIN|MAX [COUNT count]: the keys, whether from the end, and how many. Raises `ReplyError`."""
    numkeys = parse_at_least(1, words[0], "ERR numkeys should be greater than 0")
    keys, rest = words[1 : 1 + numkeys], words[1 + numkeys :]
    if not rest or rest[0].upper() not in (b"MIN", b"MAX"):
        raise ReplyError(SYNTAX)
    is_max = rest[0].upper() == b"MAX"
    if len(rest) == 1:
        return keys, is_max, 1
    if rest[1].upper() != b"COUNT" or len(rest) == 2:
        raise ReplyError(SYNTAX)
    count = parse_at_least(1, rest[2], "ERR count should be greater than 0")
    if len(rest) > 3:
        raise ReplyError(SYNTAX)
    return keys, is_max, count


# By chance


@command(
    "zrandmember",
    -2,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="sorted-set",
    since="6.2.0",
    summary="Elements picked by chance",
    complexity="O(N)",
    reply_is_large=picks_many,
    reply_varies=True,
    cost=each_pick,
)
def zrandmember(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """A negative count lets the same elements be picked again."""
    if len(args) == 2:
        value = keyspace.find_as(args[1], SortedSet)
        return None if value is None else value.names[keyspace.own_chance().below(len(value))]
    count = parse_picks(args[2])
    with_scores = len(args) == 4 and args[3].upper() == b"WITHSCORES"
    if len(args) > 3 and not with_scores:
        raise ReplyError(SYNTAX)
    if with_scores and count > INTEGER_MAX // 2:
        raise ReplyError("ERR value is out of range")
    value = keyspace.find_as(args[1], SortedSet)
    if value is None:
        return []
    picks = keyspace.own_chance().pick(count, len(value))
    return _shown([(value.scores[at], value.names[at]) for at in picks], with_scores)


# Several sorted sets

Source = tuple[SortedSet | Set | None, float]
"""A value, and the weight that its scores have. A set takes part as if all its scores were 1."""
_Aggregate = Callable[[float, float], float]


def _weighted(source: Source) -> Iterator[tuple[bytes, float]]:
    """Its names, and what their scores weigh. (Infinity times zero is zero.)"""
    value, weight = source
    if value is None:
        return iter(())
    scores: Iterable[float] = value.scores if isinstance(value, SortedSet) else repeat(1.0, len(value))
    if weight != 1.0:
        scores = (_number(weight * score) for score in scores)
    return zip(value.names, scores, strict=True)


def _number(score: float) -> float:
    return 0.0 if isnan(score) else score


def _sum(one: float, other: float) -> float:
    """(Infinity minus infinity is zero.)"""
    return _number(one + other)


def _min(one: float, other: float) -> float:
    return other if other < one else one


def _max(one: float, other: float) -> float:
    return other if other > one else one


_AGGREGATES: dict[bytes, _Aggregate] = {b"SUM": _sum, b"MIN": _min, b"MAX": _max}


def _size(source: Source) -> int:
    return 0 if source[0] is None else len(source[0])


def _union(sources: Sequence[Source], aggregate: _Aggregate) -> dict[bytes, float]:
    """The smallest first: by that order, floating-point sums are those of Redis."""
    demand_few(sum(map(_size, sources)))
    scores: dict[bytes, float] = {}
    for source in sorted(sources, key=_size):
        for name, score in _weighted(source):
            old = scores.get(name)
            scores[name] = score if old is None else aggregate(old, score)
    return scores


def _inter(sources: Sequence[Source], aggregate: _Aggregate) -> Iterator[tuple[bytes, float]]:
    """Goes through the smallest and looks into the others."""
    smallest, *others = sorted(sources, key=_size)
    demand_few(_size(smallest) * len(sources))
    for name, score in _weighted(smallest):
        for value, weight in others:
            assert value is not None
            found = value.score(name) if isinstance(value, SortedSet) else 1.0 if name in value else None
            if found is None:
                break
            score = aggregate(score, found * weight)
        else:
            yield name, score


def _diff(sources: Sequence[Source]) -> dict[bytes, float]:
    first, *others = sources
    demand_few(_size(first) * len(sources))
    left = dict(_weighted(first))
    for value, _ in others:
        if value is not None and left:
            left = {name: score for name, score in left.items() if name not in value.positions}
    return left


class _Options(NamedTuple):
    """What stands behind the keys."""

    sources: Sequence[Source]
    aggregate: _Aggregate
    with_scores: bool


def _parse_sources(keyspace: Keyspace, args: list[bytes], at: int) -> list[SortedSet | Set | None]:
    """numkeys key [key ...]: what is at the keys. Raises `ReplyError`."""
    count = parse_integer(args[at])
    if count < 1:
        raise ReplyError(f"ERR at least 1 input key is needed for '{args[0].decode().lower()}' command")
    if count > len(args) - at - 1:
        raise ReplyError(SYNTAX)
    values = [keyspace.look(key) for key in args[at + 1 : at + 1 + count]]
    if any(value is not None and type(value) not in (SortedSet, Set) for value in values):
        raise ReplyError(WRONG_TYPE)
    return values


def _parse_options(
    values: list[SortedSet | Set | None], words: list[bytes], is_weighed: bool, is_stored: bool
) -> _Options:
    """[WEIGHTS weight [weight ...]] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]. Raises `ReplyError`."""
    weights, with_scores = [1.0] * len(values), False
    aggregate: _Aggregate = _sum
    at = 0
    while at < len(words):
        option = words[at].upper()
        if option == b"WEIGHTS" and is_weighed and at + len(values) < len(words):
            given = words[at + 1 : at + 1 + len(values)]
            weights = [parse_double(word, "ERR weight value is not a float") for word in given]
            at += 1 + len(values)
        elif option == b"AGGREGATE" and is_weighed and words[at + 1 : at + 2]:
            aggregate = _parse_aggregate(words[at + 1])
            at += 2
        elif option == b"WITHSCORES" and not is_stored:
            with_scores = True
            at += 1
        else:
            raise ReplyError(SYNTAX)
    return _Options(list(zip(values, weights, strict=True)), aggregate, with_scores)


def _parse_aggregate(word: bytes) -> _Aggregate:
    if word.upper() not in _AGGREGATES:
        raise ReplyError(SYNTAX)
    return _AGGREGATES[word.upper()]


def _parse(keyspace: Keyspace, args: list[bytes], is_weighed: bool, is_stored: bool) -> _Options:
    at = 2 if is_stored else 1
    values = _parse_sources(keyspace, args, at)
    return _parse_options(values, args[at + 1 + len(values) :], is_weighed, is_stored)


def _sorted(scores: dict[bytes, float], with_scores: bool) -> Reply:
    return _shown(sorted((score, name) for name, score in scores.items()), with_scores)


def _cost_of_several(at: int, visits: Callable[[list[int]], int]) -> Cost:
    """Of what comes of several, whose number is the word at a place, and who are looked into so often."""

    def cost(keyspace: Keyspace, args: list[bytes]) -> int:
        sizes = sizes_at(keyspace, counted_keys(args, at))
        return visits(sizes) * STORE_NS // 1_000

    return cost


@command(
    "zunion",
    -3,
    Route.READ,
    "readonly movablekeys",
    group="sorted-set",
    since="6.2.0",
    summary="The elements that are in any of several sorted sets",
    complexity="O(N)+O(M*log(M))",
    reply_is_large=True,
    counted_keys=1,
    cost=_cost_of_several(1, sum),
)
def zunion(keyspace: Keyspace, args: list[bytes]) -> Reply:
    options = _parse(keyspace, args, is_weighed=True, is_stored=False)
    return _sorted(_union(options.sources, options.aggregate), options.with_scores)


@command(
    "zinter",
    -3,
    Route.READ,
    "readonly movablekeys",
    group="sorted-set",
    since="6.2.0",
    summary="The elements that are in all of several sorted sets",
    complexity="O(N*K)+O(M*log(M))",
    reply_is_large=True,
    counted_keys=1,
    cost=_cost_of_several(1, intersection_of),
)
def zinter(keyspace: Keyspace, args: list[bytes]) -> Reply:
    options = _parse(keyspace, args, is_weighed=True, is_stored=False)
    return _sorted(dict(_inter(options.sources, options.aggregate)), options.with_scores)


@command(
    "zdiff",
    -3,
    Route.READ,
    "readonly movablekeys",
    group="sorted-set",
    since="6.2.0",
    summary="The elements of a sorted set that are in none of the others",
    complexity="O(N*K)+O(M*log(M))",
    reply_is_large=True,
    counted_keys=1,
    cost=_cost_of_several(1, intersection_of),
)
def zdiff(keyspace: Keyspace, args: list[bytes]) -> Reply:
    options = _parse(keyspace, args, is_weighed=False, is_stored=False)
    return _sorted(_diff(options.sources), options.with_scores)


@command(
    "zunionstore",
    -4,
    Route.WRITE,
    "write denyoom movablekeys",
    keys=ONE_KEY,
    group="sorted-set",
    since="2.0.0",
    summary="Put what ZUNION returns at a key",
    complexity="O(N)+O(M*log(M))",
    key_use="OW update, RO access",
    counted_keys=2,
    cost=_cost_of_several(2, sum),
)
def zunionstore(keyspace: Keyspace, args: list[bytes]) -> Reply:
    options = _parse(keyspace, args, is_weighed=True, is_stored=True)
    return _store(keyspace, args[1], _union(options.sources, options.aggregate), b"zunionstore")


@command(
    "zinterstore",
    -4,
    Route.WRITE,
    "write denyoom movablekeys",
    keys=ONE_KEY,
    group="sorted-set",
    since="2.0.0",
    summary="Put what ZINTER returns at a key",
    complexity="O(N*K)+O(M*log(M))",
    key_use="OW update, RO access",
    counted_keys=2,
    cost=_cost_of_several(2, intersection_of),
)
def zinterstore(keyspace: Keyspace, args: list[bytes]) -> Reply:
    options = _parse(keyspace, args, is_weighed=True, is_stored=True)
    return _store(keyspace, args[1], dict(_inter(options.sources, options.aggregate)), b"zinterstore")


@command(
    "zdiffstore",
    -4,
    Route.WRITE,
    "write denyoom movablekeys",
    keys=ONE_KEY,
    group="sorted-set",
    since="6.2.0",
    summary="Put what ZDIFF returns at a key",
    complexity="O(N*K)+O(M*log(M))",
    key_use="OW update, RO access",
    counted_keys=2,
    cost=_cost_of_several(2, intersection_of),
)
def zdiffstore(keyspace: Keyspace, args: list[bytes]) -> Reply:
    options = _parse(keyspace, args, is_weighed=False, is_stored=True)
    return _store(keyspace, args[1], _diff(options.sources), b"zdiffstore")


@command(
    "zintercard",
    -3,
    Route.READ,
    "readonly movablekeys",
    group="sorted-set",
    since="7.0.0",
    summary="How many elements are in all of several sorted sets, perhaps counted only so far",
    complexity="O(N*K)",
    counted_keys=1,
    cost=_cost_of_several(1, intersection_of),
)
def zintercard(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """A limit of 0 is none."""
    values = _parse_sources(keyspace, args, 1)
    words = args[2 + len(values) :]
    limit = 0
    for at in range(0, len(words), 2):
        if words[at].upper() != b"LIMIT" or at + 1 == len(words):
            raise ReplyError(SYNTAX)
        limit = parse_at_least(0, words[at + 1], "ERR LIMIT can't be negative")
    common = _inter([(value, 1.0) for value in values], _sum)
    return sum(1 for _ in islice(common, limit or None))


# Going through all of it


@command(
    "zscan",
    -3,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="sorted-set",
    since="2.8.0",
    summary="Go through a sorted set, a few names at a time, with their scores",
    complexity="O(1)",
    reply_is_large=may_meet_many,
)
def zscan(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """Scores are bulk strings here, in RESP3 as well."""
    cursor = parse_cursor(args[2])
    value = keyspace.find_as(args[1], SortedSet)
    if value is None:
        return [b"0", []]
    following, positions = scan_names(value, cursor, parse_scan(args[3:]))
    words: list[bytes] = []
    for at in positions:
        words += (value.names[at], _text_of(value.scores[at], value.is_wide))
    return [following, words]


def _text_of(score: float, is_wide: bool) -> bytes:
    """As Redis shows it here, whose compact form writes integers out."""
    if not is_wide and score.is_integer() and abs(score) <= INTEGRAL_MAX:
        return b"%d" % score
    return b"%.17g" % score
