"""Lists, as the Redis manual's page "Lists" has them: elements in order, which come and go at both ends.

A value is a `List`. What is done at an end costs what it takes or puts. What is done inside costs the way there from the nearer
end, in steps of 64 elements; what looks for an element passes all those before it.

Much that is removed at once is not given back at once: it goes to the graveyard, also where no client holds it as a reply.
"""

from __future__ import annotations

from collections import deque
from itertools import compress, islice, repeat
from itertools import count as counting
from operator import eq

from ..arguments import INTEGER_MIN, parse_at_least, parse_integer
from ..costs import each_element, each_taken, size_at, sizes_at
from ..events import GENERIC, LIST
from ..keyspace import Keyspace
from ..replies import NULL_ARRAY, OK, SYNTAX, Reply, ReplyError
from ..table import Route, command
from ..values import List

ONE_KEY = (1, 1, 1)

MANY = 1_000
"""A reply of more elements counts as large."""
STEPS_PER_BLOCK = 64
"""A deque finds an element by its index this much faster than by walking past those before it."""
STEP_NS = 100
"""What it costs to look at one, or to take it."""
PASSED_PER_UNIT = 100
"""So many are walked past in a microsecond, one by one."""


# At the ends


def push(keyspace: Keyspace, key: bytes, elements: list[bytes], at_left: bool) -> int:
    """Put elements at one end of a list, one after the other; returns how many it has then. It begins with them if need be."""
    value = keyspace.claim_as(key, List)
    to = List() if value is None else value
    if at_left:
        to.items.extendleft(elements)
    else:
        to.items.extend(elements)
    to.bytes += sum(map(len, elements))
    event = b"lpush" if at_left else b"rpush"
    if value is None:
        keyspace.set(key, to)
    else:
        keyspace.changed(key, event, *elements)
    keyspace.notify(LIST, event, key)
    return len(to.items)


def pop(keyspace: Keyspace, key: bytes, at_left: bool, count: int) -> list[bytes]:
    """Take up to `count` elements, one at least, from one end of the list at `key`, which is there."""
    value = keyspace.claim_as(key, List)
    assert value is not None
    assert count > 0
    if count == 1:
        taken = [_pop_one(value, at_left)]
    else:
        length = len(value.items)
        count = min(count, length)
        if at_left:
            taken = _part(value.items, 0, count)
            _keep(keyspace, value, count, length)
        else:
            taken = _part(value.items, length - count, length)[::-1]
            _keep(keyspace, value, 0, length - count)
    _has_been_popped(keyspace, key, value, at_left, len(taken))
    return taken


def move(
    keyspace: Keyspace, source: bytes, destination: bytes, from_left: bool, to_left: bool
) -> bytes | None:
    """Take an element from one end of a list and put it at one of another, or of the same; None if there is none."""
    if keyspace.find_as(source, List) is None:
        return None
    keyspace.find_as(destination, List)  # Before anything is changed.
    value = keyspace.claim_as(source, List)
    assert value is not None
    element = _pop_one(value, from_left)
    push(keyspace, destination, [element], to_left)
    _has_been_popped(keyspace, source, value, from_left, 1)
    return element


def _pop_one(value: List, at_left: bool) -> bytes:
    element = value.items.popleft() if at_left else value.items.pop()
    value.bytes -= len(element)
    return element


def _has_been_popped(keyspace: Keyspace, key: bytes, value: List, at_left: bool, count: int) -> None:
    event = b"lpop" if at_left else b"rpop"
    _has_shrunk(keyspace, key, value, event, b"%d" % count)


def _has_shrunk(keyspace: Keyspace, key: bytes, value: List, event: bytes, *about: bytes) -> None:
    """Say so, and delete the key if nothing is left."""
    if value.items:
        keyspace.changed(key, event, *about)
        keyspace.notify(LIST, event, key)
    else:
        keyspace.delete(key)
        keyspace.notify(LIST, event, key)
        keyspace.notify(GENERIC, b"del", key)


def _part(items: deque[bytes], begin: int, end: int) -> list[bytes]:
    """The elements from `begin` to before `end`, by the shortest way."""
    length = len(items)
    if end - begin < STEPS_PER_BLOCK:
        return [items[index] for index in range(begin, end)]
    if begin <= length - end:
        return list(islice(items, begin, end))
    return list(islice(reversed(items), length - end, length - begin))[::-1]


def _keep(keyspace: Keyspace, value: List, begin: int, end: int) -> None:
    """Remove all but the elements from `begin` to before `end`. Costs as much as what is removed, or what is kept."""
    items = value.items
    graveyard = keyspace.shared.graveyard
    if 2 * (end - begin) < len(items):
        value.items = deque(_part(items, begin, end))
        value.bytes = sum(map(len, value.items))
        graveyard.bury_large(items)
    else:
        removed = [items.pop() for _ in range(len(items) - end)]
        removed += [items.popleft() for _ in range(begin)]
        value.bytes -= sum(map(len, removed))
        graveyard.bury_large(removed)


def is_left(word: bytes) -> bool:
    """Whether LEFT or RIGHT is meant. Raises `ReplyError`."""
    end = word.upper()
    if end not in (b"LEFT", b"RIGHT"):
        raise ReplyError(SYNTAX)
    return end == b"LEFT"


@command(
    "lpush",
    -3,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="list",
    summary="Put elements in front of a list",
    key_use="RW insert",
)
def lpush(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return push(keyspace, args[1], args[2:], at_left=True)


@command(
    "rpush",
    -3,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="list",
    summary="Put elements at the end of a list",
    key_use="RW insert",
)
def rpush(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return push(keyspace, args[1], args[2:], at_left=False)


@command(
    "lpushx",
    -3,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="list",
    since="2.2.0",
    summary="Put elements in front of a list that is there",
    key_use="RW insert",
)
def lpushx(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return 0 if keyspace.find_as(args[1], List) is None else lpush(keyspace, args)


@command(
    "rpushx",
    -3,
    Route.WRITE,
    "write denyoom fast",
    keys=ONE_KEY,
    group="list",
    since="2.2.0",
    summary="Put elements at the end of a list that is there",
    key_use="RW insert",
)
def rpushx(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return 0 if keyspace.find_as(args[1], List) is None else rpush(keyspace, args)


_cost_of_popping = each_taken(STEP_NS)
_cost_of_looking = each_element(STEP_NS)


def _pop(keyspace: Keyspace, args: list[bytes], at_left: bool) -> Reply:
    """With a count, the reply is an array, even of one or none."""
    if len(args) > 3:
        raise ReplyError(f"ERR wrong number of arguments for '{args[0].decode().lower()}' command")
    key = args[1]
    if len(args) == 2:
        return None if keyspace.find_as(key, List) is None else pop(keyspace, key, at_left, 1)[0]
    count = parse_at_least(0, args[2], "ERR value is out of range, must be positive")
    if keyspace.find_as(key, List) is None:
        return NULL_ARRAY
    keyspace.shared.budget.pay(_cost_of_popping(keyspace, args))
    return pop(keyspace, key, at_left, count) if count else []


@command(
    "lpop",
    -2,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    group="list",
    summary="Take the first elements out of a list",
    complexity="O(N)",
    key_use="RW access delete",
    cost=_cost_of_popping,
    pays_itself=True,
)
def lpop(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _pop(keyspace, args, at_left=True)


@command(
    "rpop",
    -2,
    Route.WRITE,
    "write fast",
    keys=ONE_KEY,
    group="list",
    summary="Take the last elements out of a list",
    complexity="O(N)",
    key_use="RW access delete",
    cost=_cost_of_popping,
    pays_itself=True,
)
def rpop(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _pop(keyspace, args, at_left=False)


def cost_of_lmpop(keyspace: Keyspace, args: list[bytes]) -> int:
    """Of these words, with their first one the command's name."""
    keys, _, count = parse_lmpop(args[1:])
    return min(count, max(sizes_at(keyspace, keys), default=0)) * STEP_NS // 1_000


@command(
    "lmpop",
    -4,
    Route.WRITE,
    "write movablekeys",
    group="list",
    since="7.0.0",
    summary="Take elements out of the first list that is there",
    complexity="O(N+M)",
    key_use="RW access delete",
    counted_keys=1,
    cost=cost_of_lmpop,
)
def lmpop(keyspace: Keyspace, args: list[bytes]) -> Reply:
    keys, at_left, count = parse_lmpop(args[1:])
    for key in keys:
        if keyspace.find_as(key, List) is not None:
            return [key, pop(keyspace, key, at_left, count)]
    return NULL_ARRAY


def parse_lmpop(words: list[bytes]) -> tuple[list[bytes], bool, int]:
    """numkeys key [key ...] LEFT|RIGHT [COUNT count]: the keys, whether from the left, and how many."""
    numkeys = parse_at_least(1, words[0], "ERR numkeys should be greater than 0")
    keys, rest = words[1 : 1 + numkeys], words[1 + numkeys :]
    if not rest:
        raise ReplyError(SYNTAX)
    at_left = is_left(rest[0])
    if len(rest) == 1:
        return keys, at_left, 1
    if rest[1].upper() != b"COUNT" or len(rest) == 2:
        raise ReplyError(SYNTAX)
    count = parse_at_least(1, rest[2], "ERR count should be greater than 0")
    if len(rest) > 3:
        raise ReplyError(SYNTAX)
    return keys, at_left, count


@command(
    "lmove",
    5,
    Route.WRITE,
    "write denyoom",
    keys=(1, 2, 1),
    group="list",
    since="6.2.0",
    summary="Take an element from one end of a list and put it at one end of another",
    key_use="RW access delete, RW insert",
)
def lmove(keyspace: Keyspace, args: list[bytes]) -> Reply:
    from_left, to_left = is_left(args[3]), is_left(args[4])
    return move(keyspace, args[1], args[2], from_left, to_left)


@command(
    "rpoplpush",
    3,
    Route.WRITE,
    "write denyoom",
    keys=(1, 2, 1),
    group="list",
    since="1.2.0",
    summary="Take the last element of a list and put it in front of another",
    key_use="RW access delete, RW insert",
)
def rpoplpush(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return move(keyspace, args[1], args[2], from_left=False, to_left=True)


# By position


@command(
    "llen",
    2,
    Route.READ,
    "readonly fast",
    keys=ONE_KEY,
    group="list",
    summary="How many elements a list has",
    key_use="RO",
)
def llen(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], List)
    return 0 if value is None else len(value)


def _cost_of_reaching(keyspace: Keyspace, args: list[bytes]) -> int:
    """Of an element by its position: the way there from the nearer end, in blocks."""
    size, index = size_at(keyspace, args[1]), parse_integer(args[2])
    if not _is_within(index, size):
        return 0
    index %= size
    return min(index, size - index) // (PASSED_PER_UNIT * STEPS_PER_BLOCK)


@command(
    "lindex",
    3,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="list",
    summary="The element at a position, which may be counted from the end",
    complexity="O(N)",
    cost=_cost_of_reaching,
)
def lindex(keyspace: Keyspace, args: list[bytes]) -> Reply:
    value = keyspace.find_as(args[1], List)
    if value is None:
        return None
    index = parse_integer(args[2])
    return value.items[index] if _is_within(index, len(value)) else None


@command(
    "lset",
    4,
    Route.WRITE,
    "write denyoom",
    keys=ONE_KEY,
    group="list",
    summary="Put another element in place of that at a position",
    complexity="O(N)",
    key_use="RW update",
    cost=_cost_of_reaching,
)
def lset(keyspace: Keyspace, args: list[bytes]) -> Reply:
    key, element = args[1], args[3]
    value = keyspace.find_as(key, List)
    if value is None:
        raise ReplyError("ERR no such key")
    index = parse_integer(args[2])
    if not _is_within(index, len(value)):
        raise ReplyError("ERR index out of range")
    keyspace.claim_as(key, List)
    value.bytes += len(element) - len(value.items[index])
    value.items[index] = element
    keyspace.changed(key, b"lset", b"%d" % index, element)
    keyspace.notify(LIST, b"lset", key)
    return OK


def _is_within(index: int, length: int) -> bool:
    return -length <= index < length


def _is_long_range(args: list[bytes]) -> bool:
    """From one end to the other, or over many."""
    try:
        first, last = parse_integer(args[2]), parse_integer(args[3])
    except ReplyError:
        return False
    return (first < 0) != (last < 0) or last - first >= MANY


def _cost_of_part(begin: int, end: int, size: int) -> int:
    """Of `_part`: the way there, once or, in blocks, for each element; and the elements."""
    count, way = end - begin, min(begin, size - end)
    steps = count * way // STEPS_PER_BLOCK if count < STEPS_PER_BLOCK else way
    return steps // PASSED_PER_UNIT + count * STEP_NS // 1_000


def _cost_of_lrange(keyspace: Keyspace, args: list[bytes]) -> int:
    size = size_at(keyspace, args[1])
    return _cost_of_part(*_bounds(parse_integer(args[2]), parse_integer(args[3]), size), size)


@command(
    "lrange",
    4,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="list",
    summary="The elements between two positions, both included",
    complexity="O(S+N)",
    reply_is_large=_is_long_range,
    cost=_cost_of_lrange,
)
def lrange(keyspace: Keyspace, args: list[bytes]) -> Reply:
    first, last = parse_integer(args[2]), parse_integer(args[3])
    value = keyspace.find_as(args[1], List)
    return [] if value is None else _part(value.items, *_bounds(first, last, len(value)))


def _cost_of_ltrim(keyspace: Keyspace, args: list[bytes]) -> int:
    """What is removed, or what is kept and the way there, whichever is less."""
    size = size_at(keyspace, args[1])
    begin, end = _bounds(parse_integer(args[2]), parse_integer(args[3]), size)
    if 2 * (end - begin) < size:
        return _cost_of_part(begin, end, size)
    return (size - (end - begin)) * STEP_NS // 1_000


@command(
    "ltrim",
    4,
    Route.WRITE,
    "write",
    keys=ONE_KEY,
    group="list",
    summary="Keep only the elements between two positions, both included",
    complexity="O(N)",
    key_use="RW delete",
    cost=_cost_of_ltrim,
)
def ltrim(keyspace: Keyspace, args: list[bytes]) -> Reply:
    """The event comes even if all is kept, as in Redis; but then nothing has changed for WATCH."""
    key, first, last = args[1], parse_integer(args[2]), parse_integer(args[3])
    value = keyspace.find_as(key, List)
    if value is None:
        return OK
    begin, end = _bounds(first, last, len(value))
    if end - begin == len(value):
        keyspace.notify(LIST, b"ltrim", key)
        return OK
    keyspace.claim_as(key, List)
    _keep(keyspace, value, begin, end)
    _has_shrunk(keyspace, key, value, b"ltrim", b"%d %d" % (begin, end))
    return OK


def _bounds(first: int, last: int, length: int) -> tuple[int, int]:
    """From Redis's positions, both included and perhaps counted from the end, to a begin and an end; 0 and 0 of nothing."""
    begin = max(first + length, 0) if first < 0 else first
    end = (last + length if last < 0 else min(last, length - 1)) + 1
    return (begin, end) if begin < end else (0, 0)


# By what they are


@command(
    "linsert",
    5,
    Route.WRITE,
    "write denyoom",
    keys=ONE_KEY,
    group="list",
    since="2.2.0",
    summary="Put an element before or after the first that equals another",
    complexity="O(N)",
    key_use="RW insert",
    cost=_cost_of_looking,
)
def linsert(keyspace: Keyspace, args: list[bytes]) -> Reply:
    key, where, pivot, element = args[1], args[2].upper(), args[3], args[4]
    if where not in (b"BEFORE", b"AFTER"):
        raise ReplyError(SYNTAX)
    value = keyspace.find_as(key, List)
    if value is None:
        return 0
    if pivot not in value.items:
        return -1
    keyspace.claim_as(key, List)
    index = value.items.index(pivot) + (where == b"AFTER")
    value.items.insert(index, element)
    value.bytes += len(element)
    keyspace.changed(key, b"linsert", b"%d" % index, element)
    keyspace.notify(LIST, b"linsert", key)
    return len(value)


@command(
    "lrem",
    4,
    Route.WRITE,
    "write",
    keys=ONE_KEY,
    group="list",
    summary="Remove the first or the last elements that equal one, or all of them",
    complexity="O(N+M)",
    key_use="RW delete",
    cost=_cost_of_looking,
)
def lrem(keyspace: Keyspace, args: list[bytes]) -> Reply:
    key, count, element = args[1], parse_integer(args[2]), args[3]
    value = keyspace.find_as(key, List)
    if value is None or element not in value.items:
        return 0
    keyspace.claim_as(key, List)
    before = len(value)
    if count == 0 or abs(count) >= before:
        _remove_all(keyspace, value, element)
    elif count > 0:
        _remove_first(value.items, element, count)
    else:
        value.items.reverse()
        _remove_first(value.items, element, -count)
        value.items.reverse()
    removed = before - len(value)
    value.bytes -= removed * len(element)
    _has_shrunk(keyspace, key, value, b"lrem", args[2], element)
    return removed


def _remove_all(keyspace: Keyspace, value: List, element: bytes) -> None:
    items = value.items
    equal = items.count(element)
    if equal * STEPS_PER_BLOCK < len(items):
        _remove_first(items, element, equal)
    else:
        value.items = deque(each for each in items if each != element)
        keyspace.shared.graveyard.bury_large(items)


def _remove_first(items: deque[bytes], element: bytes, count: int) -> None:
    """Remove the first `count` that equal `element`, in one turn of the whole, which moves blocks rather than elements."""
    turned = 0
    for _ in range(count):
        try:
            index = items.index(element, 0, len(items) - turned)
        except ValueError:
            break
        items.rotate(-index)
        items.popleft()
        turned += index
    items.rotate(turned)


def _may_find_many(args: list[bytes]) -> bool:
    try:
        _, count, looked_at_max = _parse_lpos(args[3:])
    except ReplyError:
        return False
    return count is not None and not (0 < count <= MANY or 0 < looked_at_max <= MANY)


@command(
    "lpos",
    -3,
    Route.READ,
    "readonly",
    keys=ONE_KEY,
    group="list",
    since="6.0.6",
    summary="The positions of elements that equal one",
    complexity="O(N)",
    reply_is_large=_may_find_many,
    cost=_cost_of_looking,
)
def lpos(keyspace: Keyspace, args: list[bytes]) -> Reply:
    element = args[2]
    rank, count, looked_at_max = _parse_lpos(args[3:])
    value = keyspace.find_as(args[1], List)
    if value is None:
        return None if count is None else []
    length = len(value)
    walk = islice(value.items if rank > 0 else reversed(value.items), looked_at_max or length)
    equal = compress(counting(), map(eq, walk, repeat(element)))
    skipped = min(abs(rank) - 1, length)
    wanted = 1 if count is None else min(count, length) or length
    found = list(islice(equal, skipped, skipped + wanted))
    if rank < 0:
        found = [length - 1 - index for index in found]
    if count is None:
        return found[0] if found else None
    return found


def _parse_lpos(options: list[bytes]) -> tuple[int, int | None, int]:
    """The rank, the count (None: the reply is no array), and how many elements are looked at (0: all)."""
    rank, count, looked_at_max = 1, None, 0
    words = iter(options)
    for word in words:
        option, amount = word.upper(), next(words, None)
        if amount is None:
            raise ReplyError(SYNTAX)
        if option == b"RANK":
            rank = parse_integer(amount)
            if rank == 0:
                raise ReplyError(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... "
                    "or use negative to start from the end of the list"
                )
        elif option == b"COUNT":
            count = parse_at_least(0, amount, "ERR COUNT can't be negative")
        elif option == b"MAXLEN":
            looked_at_max = parse_at_least(0, amount, "ERR MAXLEN can't be negative")
        else:
            raise ReplyError(SYNTAX)
    return (-1 if rank == INTEGER_MIN else rank), count, looked_at_max
