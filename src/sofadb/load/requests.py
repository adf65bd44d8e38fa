"""What is asked: SET and GET of keys drawn at random or in their turn, and DEL of all of them."""

from __future__ import annotations

import random
from collections.abc import Callable

Make = Callable[[], bytes]
"""Gives the bytes of the next request."""

DIGITS = 12
"""Of a key's number."""
DELETED_AT_ONCE = 100


def command(*words: bytes) -> bytes:
    """The bytes of one command."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def key(prefix: bytes, number: int) -> bytes:
    """As `redis-benchmark` names keys, where the prefix is `key:`."""
    return b"%b%0*d" % (prefix, DIGITS, number)


def sets(prefix: bytes, keys: int, size: int, seed: int, expiry_s: int | None = None) -> Make:
    """SET of one of so many keys to a value of `size` bytes, perhaps with an expiry."""
    write, draw = _setter(prefix, size, expiry_s), random.Random(seed).random
    return lambda: write(int(draw() * keys))


def gets(prefix: bytes, keys: int, seed: int) -> Make:
    """GET of one of so many keys."""
    read, draw = _with_number(b"GET", prefix, ()), random.Random(seed).random
    return lambda: read(int(draw() * keys))


def each_set(prefix: bytes, keys: int, size: int, expiry_s: int | None = None) -> Make:
    """SET of each key in its turn, once."""
    write, numbers = _setter(prefix, size, expiry_s), iter(range(keys))
    return lambda: write(next(numbers))


def each_deleted(prefix: bytes, keys: int) -> tuple[int, Make]:
    """DEL of all keys, some at once; how many requests that takes."""
    firsts = range(0, keys, DELETED_AT_ONCE)
    each = iter(firsts)

    def make() -> bytes:
        first = next(each)
        numbers = range(first, min(first + DELETED_AT_ONCE, keys))
        return command(b"DEL", *(key(prefix, number) for number in numbers))

    return len(firsts), make


def _setter(prefix: bytes, size: int, expiry_s: int | None) -> Callable[[int], bytes]:
    expiry = () if expiry_s is None else (b"EX", b"%d" % expiry_s)
    return _with_number(b"SET", prefix, (b"x" * size, *expiry))


def _with_number(name: bytes, prefix: bytes, words: tuple[bytes, ...]) -> Callable[[int], bytes]:
    """The request is composed once but for the key's number: this has to cost little."""
    whole = command(name, key(prefix, 0), *words)
    digits = whole.index(key(prefix, 0)) + len(prefix)
    head, tail = whole[:digits], whole[digits + DIGITS :]
    return lambda number: b"%b%0*d%b" % (head, DIGITS, number, tail)
