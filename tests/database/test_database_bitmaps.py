"""Bitmaps, compared with a real Redis; and what random commands do not show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bitmap_commands import changes, looks, mistakes
from database_commands import NOW, Words, a_list, ask, begun, run_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_events import events_of_both
from real_redis import EXAMPLES, Both, RealRedis

from processes import Redis
from sofadb.database.database import Database
from sofadb.database.keyspace import LONG_STRING_BYTES
from sofadb.database.loader import Loader

KEYS = [b"a", b"b", b"c", b"key:1", b"", b"list"]
SETTINGS: Any = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "database": None,
}
commands = st.lists(changes | changes | looks | mistakes, min_size=1, max_size=25)


def prepare(both: Both) -> None:
    both.real([[b"RPUSH", b"list", b"x"]])
    both.database.keyspaces[0].set(b"list", a_list(b"x"))


def same(command: Words, theirs: Any, ours: Any) -> bool:
    if command[0].upper() == b"PTTL" and isinstance(theirs, int) and theirs > 0:
        return abs(theirs - ours) < 20_000
    return theirs == ours


@given(commands, st.booleans())
@settings(max_examples=EXAMPLES, **SETTINGS)
def test_random_commands_get_the_same_replies(real: RealRedis, commands: list[Words], resp3: bool) -> None:
    both = Both(real, resp3)
    prepare(both)
    for command, expected in zip(commands, real(commands), strict=True):
        actual = both.ours(command)
        assert same(command, expected, actual), f"{command}: Redis {expected}, here {actual}"
    for key in KEYS:
        for name in (b"TYPE", b"GET", b"PTTL"):
            expected, actual = both([name, key])
            assert same([name], expected, actual), f"{name!r} {key!r}: Redis {expected}, here {actual}"


@pytest.fixture(scope="module")
def listener(redis: Redis, real: RealRedis) -> Iterator[RealRedis]:
    connection = RealRedis(redis.port)
    yield connection
    connection.close()


@given(commands)
@settings(max_examples=EXAMPLES // 5, **SETTINGS)
def test_the_same_events_come_in_the_same_order(
    real: RealRedis, listener: RealRedis, commands: list[Words]
) -> None:
    both = Both(real)
    prepare(both)
    theirs, ours = events_of_both(both, listener, commands, b"EAn")
    assert ours == theirs


def loaded(database: Database) -> Database:
    loader = Loader()
    for piece in database.image().pieces():
        loader.feed(piece)
    return loader.finish()


@given(commands, commands)
@settings(max_examples=EXAMPLES // 10, **SETTINGS)
def test_the_same_commands_lead_to_the_same_state(before: list[Words], after: list[Words]) -> None:
    """On another replica, and on one that was loaded from an image between them."""
    one, other = begun(), begun()
    for database in (one, other):
        ask(database, "SETRANGE", "a", LONG_STRING_BYTES - 10, "x")
    for command in before:
        run_of([command]).execute(one)
        run_of([command]).execute(other)
    third = loaded(one)
    for database in (one, other, third):
        database.begin(2, NOW + 1)
    image = other.image()
    for command in after:
        run_of([command]).execute(one)
        run_of([command]).execute(other)
        run_of([command]).execute(third)
    assert b"".join(image.pieces()) == b"".join(loaded_at(before).image().pieces())
    assert one.rolling == other.rolling == third.rolling
    assert one.digest() == other.digest() == third.digest()


def loaded_at(before: list[Words]) -> Database:
    """The state after these commands, once more."""
    database = begun()
    ask(database, "SETRANGE", "a", LONG_STRING_BYTES - 10, "x")
    for command in before:
        run_of([command]).execute(database)
    database.begin(2, NOW + 1)
    return database
