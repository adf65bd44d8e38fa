"""MEMORY USAGE is an estimate: of the right size, whatever the type."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from sofadb.database.commands.memory import memory_usage
from sofadb.database.database import Database
from sofadb.database.keyspace import Keyspace
from sofadb.database.replies import ReplyError
from sofadb.database.values import Hash, List, Set, SortedSet

ELEMENTS = 20_000


def strings(keyspace: Keyspace) -> None:
    for number in range(ELEMENTS):
        keyspace.set(b"key:%06d" % number, b"value:%06d" % number)


def strings_that_expire(keyspace: Keyspace) -> None:
    strings(keyspace)
    for number in range(ELEMENTS):
        keyspace.expire_at(b"key:%06d" % number, 10**9 + number)


def a_list(keyspace: Keyspace) -> None:
    value = List()
    for number in range(ELEMENTS):
        value.take([b"element:%06d" % number])
    keyspace.set(b"k", value)


def a_set(keyspace: Keyspace) -> None:
    value = Set()
    for number in range(ELEMENTS):
        value.add(b"element:%06d" % number)
    keyspace.set(b"k", value)


def a_hash(keyspace: Keyspace) -> None:
    value = Hash()
    for number in range(ELEMENTS):
        value.put(b"element:%06d" % number, b"value:%06d" % number)
    keyspace.set(b"k", value)


def a_sorted_set(keyspace: Keyspace) -> None:
    value = SortedSet()
    for number in range(ELEMENTS):
        value.put(b"element:%06d" % number, float(number))
    keyspace.set(b"k", value)


def usage(keyspace: Keyspace, key: bytes, *more: bytes) -> int:
    reply: int = memory_usage(keyspace, [b"MEMORY", b"USAGE", key, *more])
    return reply


@pytest.mark.parametrize("fill", [strings, strings_that_expire, a_list, a_set, a_hash, a_sorted_set])
def test_what_a_key_takes_is_about_what_is_told(fill: Callable[[Keyspace], None]) -> None:
    database = Database()
    database.begin(1, 1)
    keyspace = database.keyspaces[0]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    fill(keyspace)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    told = sum(usage(keyspace, key) for key in keyspace.visible())
    assert 0.7 * taken < told < 1.5 * taken


def test_a_key_that_is_not_there_takes_nothing_and_options_are_checked_all_the_same() -> None:
    keyspace = Database().keyspaces[0]
    assert usage(keyspace, b"k") is None
    assert usage(keyspace, b"k", b"samples", b"5") is None
    for mistake in ((b"SAMPLES",), (b"SAMPLES", b"x"), (b"SAMPLES", b"-1"), (b"nosuch", b"1")):
        with pytest.raises(ReplyError):
            usage(keyspace, b"k", *mistake)
