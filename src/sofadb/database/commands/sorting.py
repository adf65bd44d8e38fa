"""SORT: the elements of a list, a set or a sorted set in order, by what they are or by what lies at keys made of them.

Patterns name such keys: `*` stands for the element, and `->` and a field behind it lead into a hash. Redis reads patterns and
numbers as C does, so they end at the first zero byte.

The order follows from the elements alone (rule D1): equal numbers are ordered by their elements, and what compares equal stays as
it was, which in a set follows from what was done to it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import isinf

from ..arguments import demand_few, parse_integer
from ..budget import Cost
from ..costs import size_at, telling_of
from ..events import GENERIC, LIST
from ..keyspace import LONG_STRING_BYTES, Keyspace
from ..patterns import PATTERN_BYTES_MAX
from ..replies import SYNTAX, WRONG_TYPE, Reply, ReplyError
from ..table import Keys, Route, command
from ..values import Hash, List, Set, SortedSet, Value

ONE_KEY = (1, 1, 1)

GETS_MAX = 1_000
NO_WEIGHT = "ERR One or more scores can't be converted into double"

_DECIMAL = re.compile(rb"[+-]?(?:(\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|inf(?:inity)?)", re.IGNORECASE)
_HEXADECIMAL = re.compile(
    rb"[+-]?0x([0-9a-f]+(?:\.[0-9a-f]*)?|\.[0-9a-f]+)(?:p[+-]?\d+)?",
    re.IGNORECASE,
)
_DIGITS_SEEN_AT_ONCE_MAX = 20
"""What most numbers are needs no closer look."""
_SPACES = b" \t\n\v\f\r"


@dataclass(slots=True)
class _Wish:
    """What is asked for."""

    is_descending: bool = False
    is_alphabetical: bool = False
    offset: int = 0
    count: int = -1
    """Negative: all."""
    by: bytes | None = None
    is_as_it_comes: bool = False
    """There was a BY without an asterisk: the elements are not sorted."""
    gets: list[bytes] = field(default_factory=list)
    store: bytes | None = None
    is_write: bool = False
    """It is done on all replicas: SORT, even if it stores nothing."""


def _parse(options: list[bytes], may_store: bool) -> _Wish:
    wish = _Wish(is_write=may_store)
    at = 0
    while at < len(options):
        option, left = options[at].upper(), len(options) - at - 1
        if option in (b"ASC", b"DESC"):
            wish.is_descending = option == b"DESC"
        elif option == b"ALPHA":
            wish.is_alphabetical = True
        elif option == b"LIMIT" and left >= 2:
            wish.offset, wish.count = parse_integer(options[at + 1]), parse_integer(options[at + 2])
            at += 2
        elif option in (b"BY", b"GET") and left >= 1:
            at += 1
            pattern = options[at]
            if len(pattern) > PATTERN_BYTES_MAX:
                raise ReplyError(f"ERR a pattern may have {PATTERN_BYTES_MAX} bytes at most")
            if option == b"BY":
                wish.by = pattern
                wish.is_as_it_comes |= b"*" not in _up_to_zero(pattern)
            elif len(wish.gets) < GETS_MAX:
                wish.gets.append(pattern)
            else:
                raise ReplyError(f"ERR SORT takes {GETS_MAX} GETs at most")
        elif option == b"STORE" and left >= 1 and may_store:
            at += 1
            wish.store = options[at]
        else:
            raise ReplyError(SYNTAX)
        at += 1
    return wish


def _answer(keyspace: Keyspace, key: bytes, wish: _Wish) -> list[bytes | None]:
    """The elements in order, or what GET says of each of them."""
    elements = _sorted(keyspace, key, wish)
    if not wish.gets:
        return list(elements)
    demand_few(len(elements) * len(wish.gets))
    columns = [_looked_up(keyspace, pattern, elements, wish) for pattern in wish.gets]
    return [each for row in zip(*columns, strict=True) for each in row]


def _sorted(keyspace: Keyspace, key: bytes, wish: _Wish) -> list[bytes]:
    """The elements that are asked for, in order. Raises `ReplyError`."""
    value = keyspace.look(key)
    if value is None:
        return []
    if not isinstance(value, List | Set | SortedSet):
        raise ReplyError(WRONG_TYPE)
    if wish.is_as_it_comes and not (type(value) is Set and wish.store is not None):
        begin, end = _limits(wish, len(value))
        return list(islice(_as_it_comes(value, wish.is_descending), begin, end))
    elements = list(_as_it_comes(value, is_descending=False))
    if wish.is_as_it_comes:
        elements.sort(reverse=wish.is_descending)  # What is stored of a set has an order, asked for or not.
    elif wish.is_alphabetical and wish.by is None:
        elements.sort(reverse=wish.is_descending)
    else:
        elements = _weighed(keyspace, elements, wish)
    begin, end = _limits(wish, len(elements))
    return elements[begin:end]


def _as_it_comes(value: List | Set | SortedSet, is_descending: bool) -> Iterable[bytes]:
    """The elements in the order that the value has. A set has none that could be turned round."""
    if isinstance(value, Set):
        return value.names
    if isinstance(value, SortedSet):
        return (name for _, name in (reversed(value.order) if is_descending else value.order))
    return reversed(value.items) if is_descending else value.items


def _weighed(keyspace: Keyspace, elements: list[bytes], wish: _Wish) -> list[bytes]:
    """The elements in the order of what they weigh: themselves, or what lies where BY says."""
    weights: Sequence[bytes | None] = elements
    if wish.by is not None:
        weights = _looked_up(keyspace, wish.by, elements, wish)
    order = list(range(len(elements)))
    if wish.is_alphabetical:
        # What has no weight comes first.
        ranks = [(weight is not None, weight or b"") for weight in weights]
        order.sort(key=ranks.__getitem__, reverse=wish.is_descending)
    else:
        numbers = [0.0 if weight is None else _parse_weight(weight) for weight in weights]
        # Pairs of number and element would do, but take three times as long to be sorted.
        if len(set(numbers)) < len(numbers):
            order.sort(key=elements.__getitem__, reverse=wish.is_descending)
        order.sort(key=numbers.__getitem__, reverse=wish.is_descending)
    return [elements[index] for index in order]


def _parse_weight(text: bytes) -> float:
    """A number as C's strtod reads the whole text; nothing at all is zero. Raises `ReplyError`, also of what is out of range."""
    if text.isdigit() and len(text) <= _DIGITS_SEEN_AT_ONCE_MAX:
        return float(text)
    text = _up_to_zero(text)
    if not text:
        return 0.0
    text = text.lstrip(_SPACES)
    decimal = _DECIMAL.fullmatch(text)
    hexadecimal = None if decimal else _HEXADECIMAL.fullmatch(text)
    if decimal is not None:
        weight, digits = float(text), decimal[1]
        is_too_small = abs(weight) < sys.float_info.min  # It is rounded with a loss.
    elif hexadecimal is not None:
        try:
            weight, digits = float.fromhex(text.decode()), hexadecimal[1]
        except OverflowError:
            raise ReplyError(NO_WEIGHT) from None
        is_too_small = not weight
    else:
        raise ReplyError(NO_WEIGHT)
    if digits is not None and (isinf(weight) or (is_too_small and digits.strip(b"0."))):
        raise ReplyError(NO_WEIGHT)
    return weight


def _looked_up(
    keyspace: Keyspace, pattern: bytes, elements: Sequence[bytes], wish: _Wish
) -> list[bytes | None]:
    """For each element what lies where `pattern` leads from it: a string, or a field of a hash; or `#`, the element itself."""
    visible = _up_to_zero(pattern)
    if visible == b"#":
        return list(elements)
    before, asterisk, after = visible.partition(b"*")
    if not asterisk:
        return [None] * len(elements)
    arrow = after.find(b"->")
    behind = pattern[len(before) + 1 :]
    if arrow < 0 or arrow + 2 == len(after):
        keys = (before + element + behind for element in elements)
        return [_string_at(keyspace, key, wish.is_write) for key in keys]
    name, behind = behind[arrow + 2 :], behind[:arrow]
    hashes = (keyspace.look(before + element + behind) for element in elements)
    return [value.get(name) if type(value) is Hash else None for value in hashes]


def _string_at(keyspace: Keyspace, key: bytes, pays: bool) -> bytes | None:
    """The string at a key, if there is one. Raises `Busy` if it costs too much to make it whole."""
    value = keyspace.look(key)
    if value is None or isinstance(value, Value):
        return None
    if pays and len(value) >= LONG_STRING_BYTES:
        keyspace.shared.budget.pay(telling_of(len(value)))
    return keyspace.find_string(key)


def _limits(wish: _Wish, length: int) -> tuple[int, int]:
    """The begin and the end of what LIMIT leaves."""
    begin = min(max(wish.offset, 0), length)
    return begin, length if wish.count < 0 else min(begin + wish.count, length)


def _up_to_zero(text: bytes) -> bytes:
    return text.partition(b"\0")[0]


SORT_NS, LOOK_UP_NS, STEP_NS = 3_000, 1_500, 200
"""What it costs to put an element in its place, to look up what lies where a pattern leads, and to walk past one."""


def _cost_of_sort(may_store: bool) -> Cost:
    def cost(keyspace: Keyspace, args: list[bytes]) -> int:
        wish = _parse(args[2:], may_store)
        size = size_at(keyspace, args[1])
        begin, end = _limits(wish, size)
        sorting = size * (SORT_NS + LOOK_UP_NS * (wish.by is not None))
        if wish.is_as_it_comes and wish.store is None:
            sorting = end * STEP_NS
        return (sorting + (end - begin) * len(wish.gets) * LOOK_UP_NS) // 1_000

    return cost


def _is_answered_at_length(args: list[bytes]) -> bool:
    try:
        return _parse(args[2:], may_store=True).store is None
    except ReplyError:
        return False


def _keys_of_sort(args: list[bytes]) -> Keys:
    """The one that is sorted, and the one behind the last STORE. (What BY and GET lead to nobody can know.)"""
    keys = [(1, "RO access")]
    index = 2
    while index < len(args):
        option = args[index].upper()
        if option == b"STORE" and index + 1 < len(args):
            keys[1:] = [(index + 1, "OW update")]
        index += _WORDS_OF_OPTION.get(option, 1)
    return keys


_WORDS_OF_OPTION = {b"LIMIT": 3, b"GET": 2, b"BY": 2, b"STORE": 2}


@command(
    "sort",
    -2,
    Route.WRITE,
    "write denyoom movablekeys",
    keys=ONE_KEY,
    types="set sorted-set list",
    summary="The elements of a list, a set or a sorted set in order, or how many were stored so",
    complexity="O(N+M*log(M))",
    dangerous=True,
    reply_is_large=_is_answered_at_length,
    key_use="RO access",
    find_keys=_keys_of_sort,
    cost=_cost_of_sort(may_store=True),
)
def sort(keyspace: Keyspace, args: list[bytes]) -> Reply:
    wish = _parse(args[2:], may_store=True)
    answer = _answer(keyspace, args[1], wish)
    if wish.store is None:
        return answer
    if answer:
        value = List()
        value.items.extend(each or b"" for each in answer)
        value.bytes = sum(map(len, value.items))
        keyspace.set(wish.store, value)
        keyspace.notify(LIST, b"sortstore", wish.store)
    elif keyspace.delete(wish.store):
        keyspace.notify(GENERIC, b"del", wish.store)
    return len(answer)


@command(
    "sort_ro",
    -2,
    Route.READ,
    "readonly movablekeys",
    keys=ONE_KEY,
    types="set sorted-set list",
    since="7.0.0",
    summary="The elements of a list, a set or a sorted set in order",
    complexity="O(N+M*log(M))",
    dangerous=True,
    reply_is_large=True,
    cost=_cost_of_sort(may_store=False),
)
def sort_ro(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _answer(keyspace, args[1], _parse(args[2:], may_store=False))
