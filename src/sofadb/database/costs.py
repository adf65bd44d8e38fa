"""What commands cost (`budget.py`), where several have it in common. Times are per element, in nanoseconds, on a slow machine.

A cost must not depend on how a value happens to be held, which may differ between replicas: only on what it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .arguments import parse_integer
from .budget import Cost
from .keyspace import LONG_STRING_BYTES, Keyspace
from .values import Value

BYTES_PER_UNIT = 1_000
"""So many bytes are made, copied or gone through in a microsecond."""
PICK_NS = 3_000
"""To pick an element by chance."""


def size_of(value: Any) -> int:
    """How many elements a value has; a string has none."""
    return len(value) if isinstance(value, Value) else 0


def size_at(keyspace: Keyspace, key: bytes) -> int:
    """How many elements the value at a key has."""
    return size_of(keyspace.look(key))


def bytes_at(keyspace: Keyspace, key: bytes) -> int:
    """How many bytes the string at a key has; what is no string has none."""
    value = keyspace.look(key)
    return 0 if value is None or isinstance(value, Value) else len(value)


def sizes_at(keyspace: Keyspace, keys: Iterable[bytes]) -> list[int]:
    """How many elements there are at each key."""
    return [size_at(keyspace, key) for key in keys]


def counted_keys(args: list[bytes], at: int) -> list[bytes]:
    """The keys behind their number, which is the word at a place. Raises `ReplyError`."""
    return args[at + 1 : at + 1 + max(0, parse_integer(args[at]))]


def each_element(nanoseconds: int) -> Cost:
    """Of a command that goes through all elements at its first key."""
    return lambda keyspace, args: size_at(keyspace, args[1]) * nanoseconds // 1_000


def each_byte(keyspace: Keyspace, args: list[bytes]) -> int:
    """Of a command that goes through a string."""
    return bytes_at(keyspace, args[1]) // BYTES_PER_UNIT


def each_pick(keyspace: Keyspace, args: list[bytes]) -> int:
    """Of a command that picks as many elements by chance as its third word says: different ones or, if that is negative, any."""
    if len(args) < 3:
        return 0
    count, size = parse_integer(args[2]), size_at(keyspace, args[1])
    if not size:
        return 0
    return (min(count, size) if count > 0 else -count) * PICK_NS // 1_000


def each_taken(nanoseconds: int) -> Cost:
    """Of a command that takes as many elements as its third word says out of the value at its first key."""

    def cost(keyspace: Keyspace, args: list[bytes]) -> int:
        if len(args) < 3:
            return 0
        return min(max(0, parse_integer(args[2])), size_at(keyspace, args[1])) * nanoseconds // 1_000

    return cost


def telling(keyspace: Keyspace, args: list[bytes]) -> int:
    """Of what tells the whole string at its first key, on all replicas: as `telling_of`."""
    return telling_of(bytes_at(keyspace, args[1]))


def telling_of(length: int) -> int:
    """Of making a string of so many bytes whole. It is copied if it was held as one that is overwritten (`LongString`), which
    may be so on any replica, and again when it is overwritten next.
    """
    return 2 * length // BYTES_PER_UNIT if length >= LONG_STRING_BYTES else 0


def growth(keyspace: Keyspace, key: bytes, length: int) -> int:
    """Of making the string at a key so long, with zeros at its end."""
    more = length - bytes_at(keyspace, key)
    return more // BYTES_PER_UNIT if more > 0 else 0


def intersection_of(sizes: list[int]) -> int:
    """How often it is looked for an element, where it is asked what several values have in common."""
    return min(sizes, default=0) * len(sizes)


def difference_of(sizes: list[int]) -> int:
    """As `intersection_of`, where it is asked what the first one has and no other."""
    return min(sizes[0] * len(sizes), sum(sizes)) if sizes else 0
