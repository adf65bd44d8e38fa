"""Sorted sets: as in a real Redis, command by command and event by event; and what random commands do not come upon."""

from __future__ import annotations

import math
from hashlib import sha256
from typing import Any

import pytest
from database_commands import Words, a_list, ask, begun, run_of
from hypothesis import given, settings
from hypothesis import strategies as st
from real_events import events_of_both
from real_redis import EXAMPLES, SETTINGS, Both, RealRedis, Said, loaded, said
from sorted_set_commands import KEYS, LIST, NAMES, SET, STRING, mistakes, reads, writes

from sofadb.database.database import Database
from sofadb.database.replies import NULL_ARRAY, Pairs, ReplyError
from sofadb.database.table import check
from sofadb.database.values import Set, SortedSet

commands = st.lists(writes | writes | reads | mistakes, min_size=1, max_size=25)


def fill(database: Database) -> None:
    """Values of the other types."""
    keyspace = database.keyspaces[0]
    keyspace.set(STRING, b"x")
    keyspace.set(LIST, a_list(b"x"))
    a_set = Set()
    for name in (b"a", b"b", b"1"):
        a_set.add(name)
    keyspace.set(SET, a_set)


FILL = [[b"SET", STRING, b"x"], [b"RPUSH", LIST, b"x"], [b"SADD", SET, b"a", b"b", b"1"]]


def pairs_of(items: list[Said]) -> list[tuple[Said, Said]]:
    return list(zip(items[::2], items[1::2], strict=True))


def same(command: Words, theirs: Said, ours: Said, held: dict[bytes, float]) -> bool:
    """Whether two replies to `command` say the same. `held` is what is at the key, if that is a sorted set."""
    name = command[0].upper()
    if name == b"ZRANDMEMBER" and type(theirs) is type(ours) is tuple and theirs[0] == ours[0] != "error":
        return picked(command, theirs, held) == picked(command, ours, held) is not None
    if name == b"ZSCAN" and theirs[0] == "array" and len(theirs[1]) == 2:
        (cursor, (_, their_items)), (our_cursor, (_, our_items)) = theirs[1], ours[1]
        if not cursor == our_cursor == ("bulk", b"0") or command[2] != b"0":
            return ours[0] == "array"  # What a step returns is for each to choose.
        return sorted(pairs_of(their_items)) == sorted(pairs_of(our_items))
    return bool(theirs == ours)


def without_signs_of_zeros(said: Said) -> Said:
    """Whether Redis keeps them when it stores a range depends on which of its forms it comes from and goes to."""
    if isinstance(said, tuple) and isinstance(said[1], list):
        return said[0], [without_signs_of_zeros(each) for each in said[1]]
    return (said[0], b"0") if isinstance(said, tuple) and said[1] == b"-0" else said


def picked(command: Words, reply: Said, held: dict[bytes, float]) -> Any:
    """Of what was picked by chance all that is the same each time; None if it cannot be."""
    kind, items = reply
    if kind != "array":
        return kind, items is None or items in held
    flat = [each for item in items for each in (item[1] if item[0] == "array" else [item])]
    with_scores = len(command) == 4
    names = [each[1] for each in (flat[::2] if with_scores else flat)]
    if with_scores and any(
        float(held[name]) != float(score[1]) for name, score in zip(names, flat[1::2], strict=True)
    ):
        return None
    if not command[2].startswith(b"-") and len(set(names)) != len(names):
        return None
    return len(items), [item[0] for item in items], set(names) <= set(held)


def held_at(database: Database, key: bytes) -> dict[bytes, float]:
    value = database.keyspaces[0].find(key)
    return {name: score for score, name in value.order} if isinstance(value, SortedSet) else {}


@given(commands, st.booleans())
@settings(max_examples=EXAMPLES, **SETTINGS)
def test_random_commands_get_the_same_replies(real: RealRedis, commands: list[Words], resp3: bool) -> None:
    both = Both(real, resp3)
    real(FILL)
    fill(both.database)
    stores_ranges = any(command[0].upper() == b"ZRANGESTORE" for command in commands)
    shown = without_signs_of_zeros if stores_ranges else lambda reply: reply
    theirs = map(shown, real(commands))
    for command, expected in zip(commands, theirs, strict=True):
        held = held_at(both.database, command[1]) if len(command) > 1 else {}
        actual = shown(both.ours(command))
        assert same(command, expected, actual, held), f"{command}: Redis {expected}, here {actual}"
    # What is left behind is the same, too.
    for key in [*KEYS, NAMES, STRING]:
        for question in (
            [b"TYPE", key],
            [b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"],
            [b"OBJECT", b"ENCODING", key],
        ):
            expected, actual = map(shown, both(question))
            assert expected == actual, f"{question}"


@given(st.lists(writes, min_size=1, max_size=25))
@settings(max_examples=EXAMPLES // 2, **SETTINGS)
def test_random_commands_make_the_same_events(
    real: RealRedis, listener: RealRedis, commands: list[Words]
) -> None:
    both = Both(real)
    real(FILL)
    fill(both.database)
    theirs, ours = events_of_both(both, listener, commands)
    assert theirs == ours


@given(st.lists(writes, min_size=1, max_size=25), st.integers(0, 25))
@settings(deadline=None)
def test_the_same_commands_lead_to_the_same_state(commands: list[Words], at: int) -> None:
    """On another replica, and on one that was loaded from an image on the way."""
    one, other = begun(), begun()
    for database in (one, other):
        fill(database)
    for number, command in enumerate(commands):
        if number == at:
            other = loaded(other)
        replies = [said(*run_of([command]).execute(database)) for database in (one, other)]
        assert replies[0] == replies[1]
    assert one.digest() == other.digest()
    assert one.rolling == other.rolling
    for key in [*KEYS, NAMES]:
        for value in (one.keyspaces[0].find(key), other.keyspaces[0].find(key)):
            if isinstance(value, SortedSet):
                assert list(value.order) == sorted(zip(value.scores, value.names, strict=True))


def filled(count: int) -> Database:
    """With a sorted set at `z`, whose names have their numbers as scores."""
    database = begun()
    scores = {b"%08d" % number: float(number) for number in range(count)}
    database.keyspaces[0].set(b"z", SortedSet.of(scores))
    return database


def test_what_fails_changes_nothing() -> None:
    database = filled(3)
    ask(database, "ZADD", "z", "inf", "up")
    fill(database)
    before, rolling = database.digest(), database.rolling
    for command in (
        ("ZADD", "z", "1", "a", "x", "b"),
        ("ZINCRBY", "z", "-inf", "up"),
        ("ZADD", "z", "INCR", "-inf", "up"),
        ("ZADD", LIST, "1", "a"),
        ("ZMPOP", "2", LIST, "z", "MIN"),
        ("ZUNIONSTORE", "z", "2", "z", LIST),
        ("ZUNIONSTORE", "z", "1", "z", "WEIGHTS", "x"),
        ("ZRANGESTORE", "z", "z", "0", "x"),
        ("ZPOPMIN", "z", "-1"),
    ):
        assert isinstance(ask(database, *command), ReplyError), command
    assert (database.digest(), database.rolling) == (before, rolling)


def test_what_changes_nothing_is_no_change() -> None:
    """A watched key has not changed, and an image that is being taken need not keep what there was."""
    database = filled(3)
    rolling, version = database.rolling, database.keyspaces[0].version(b"z")
    for command in (
        ("ZADD", "z", "0", "00000000"),
        ("ZADD", "z", "-0", "00000000"),
        ("ZADD", "z", "NX", "7", "00000000"),
        ("ZADD", "z", "XX", "7", "nobody"),
        ("ZADD", "z", "GT", "0", "00000001"),
        ("ZINCRBY", "z", "0", "00000001"),
        ("ZREM", "z", "nobody"),
        ("ZREMRANGEBYSCORE", "z", "5", "9"),
        ("ZREMRANGEBYRANK", "z", "2", "1"),
        ("ZPOPMIN", "z", "0"),
    ):
        assert not isinstance(ask(database, *command), ReplyError)
    assert (database.rolling, database.keyspaces[0].version(b"z")) == (rolling, version)


def test_an_image_holds_what_there_was_before_the_change() -> None:
    for command in (
        ("ZADD", "z", "5", "00000001"),
        ("ZREM", "z", "00000001"),
        ("ZREMRANGEBYRANK", "z", "1", "1"),
        ("ZPOPMAX", "z", "5"),
        ("ZINTERSTORE", "z", "1", "nowhere"),
    ):
        database = filled(3)
        before = database.digest()
        image = database.image()
        ask(database, *command)
        assert database.digest() != before
        assert sha256(b"".join(image.pieces())).digest() == before


def test_a_sorted_set_that_has_expired_is_not_there() -> None:
    database = filled(3)
    database.keyspaces[0].expire_at(b"z", database.time)
    assert ask(database, "ZRANGE", "z", "0", "-1") == []
    assert ask(database, "ZREM", "z", "00000001") == 0
    assert ask(database, "ZADD", "z", "INCR", "1", "00000001") == 1.0
    assert ask(database, "ZCARD", "z") == 1
    assert database.keyspaces[0].expiry == {}


def test_the_order_is_by_score_and_then_by_bytes_and_both_zeros_are_one() -> None:
    database = begun()
    ask(database, "ZADD", "z", "0", "b", "-0", "a", "-0", "c", "inf", "", "-inf", b"\xff")
    assert ask(database, "ZRANGE", "z", "0", "-1") == [b"\xff", b"a", b"b", b"c", b""]
    assert math.copysign(1, ask(database, "ZSCORE", "z", "a")) == 1, "as in the form of Redis that is compact"
    assert ask(database, "ZCOUNT", "z", "(0", "+inf") == 1
    assert ask(database, "ZCOUNT", "z", "-inf", "(-0") == 1
    assert ask(database, "ZCOUNT", "z", "(-inf", "(inf") == 3
    ask(database, "ZADD", "z", "1", "x" * 65, "-0", "d")
    assert math.copysign(1, ask(database, "ZSCORE", "z", "d")) == -1


def test_names_are_found_where_scores_rise_with_them() -> None:
    """Redis promises nothing where scores differ, but clients of it rely on this."""
    database = begun()
    ask(database, "ZADD", "z", *(word for n in range(300) for word in (n // 2, f"{n:03}")))
    assert ask(database, "ZRANGEBYLEX", "z", "[041", "(044") == [b"041", b"042", b"043"]
    assert ask(database, "ZREVRANGEBYLEX", "z", "[044", "(042") == [b"044", b"043"]
    assert ask(database, "ZLEXCOUNT", "z", "(297", "+") == 2


def test_infinities_that_meet() -> None:
    database = begun()
    ask(database, "ZADD", "up", "inf", "a")
    ask(database, "ZADD", "down", "-inf", "a")
    assert ask(database, "ZINCRBY", "up", "-inf", "a") == ReplyError(
        "ERR resulting score is not a number (NaN)"
    )
    assert ask(database, "ZUNION", "2", "up", "down", "WITHSCORES") == Pairs([b"a", 0.0])
    assert ask(database, "ZINTER", "2", "up", "down", "WITHSCORES") == Pairs([b"a", 0.0])
    assert ask(database, "ZUNION", "1", "up", "WEIGHTS", "0", "WITHSCORES") == Pairs([b"a", 0.0])


def test_pairs_are_nested_in_resp3_only() -> None:
    database = filled(1)
    reply = ask(database, "ZRANGE", "z", "0", "-1", "WITHSCORES")
    assert said(reply) == ("array", [("bulk", b"00000000"), ("bulk", b"0")])
    assert said(reply, resp3=True) == ("array", [("array", [("bulk", b"00000000"), ("double", b"0")])])
    assert said(ask(database, "ZPOPMIN", "z"), resp3=True) == (
        "array",
        [("bulk", b"00000000"), ("double", b"0")],
    )
    assert ask(database, "ZMPOP", "1", "z", "MIN") == NULL_ARRAY


def test_a_scan_passes_everything() -> None:
    database = filled(1_000)
    cursor, met = b"0", []
    while True:
        cursor, words = ask(database, "ZSCAN", "z", cursor, "COUNT", "30")
        met += words[::2]
        if cursor == b"0":
            break
    assert sorted(met) == [b"%08d" % number for number in range(1_000)]


@pytest.mark.parametrize("count", [1, 10, 500, 999, 1_000, 5_000])
def test_what_is_picked_is_picked_once(count: int) -> None:
    database = filled(1_000)
    picked = ask(database, "ZRANDMEMBER", "z", count)
    assert len(picked) == len(set(picked)) == min(count, 1_000)
    assert len(ask(database, "ZRANDMEMBER", "z", -count)) == count
    assert isinstance(ask(database, "ZRANDMEMBER", "z", -(10**9)), ReplyError)


@pytest.mark.parametrize(("first", "last"), [(0, 9), (0, 4_999), (10, 9_990), (9_000, 9_999), (5_000, 5_001)])
def test_ranges_of_any_size_are_taken_out(first: int, last: int) -> None:
    database = filled(10_000)
    assert ask(database, "ZREMRANGEBYRANK", "z", first, last) == last - first + 1
    value = database.keyspaces[0].find(b"z")
    expected = [number for number in range(10_000) if not first <= number <= last]
    assert list(value.order) == [(float(number), b"%08d" % number) for number in expected]
    assert sorted(value.names) == [b"%08d" % number for number in expected]
    assert [value.positions[name] for name in value.names] == list(range(len(expected)))
    assert [value.score(name) for name in value.names] == [float(name) for name in value.names]
    assert value.bytes == 8 * len(expected)


def test_a_large_sorted_set_that_is_wholly_taken_out_is_given_back_step_by_step() -> None:
    database = filled(5_000)
    value = database.keyspaces[0].find(b"z")
    assert ask(database, "ZREMRANGEBYSCORE", "z", "-inf", "inf") == 5_000
    assert ask(database, "TYPE", "z").text == b"none"
    assert len(value) == 5_000
    while database.tidy(1_000):
        pass
    assert not value.names


def test_a_scan_misses_nobody_when_most_of_the_others_go() -> None:
    database = filled(5_000)
    ask(
        database, "ZADD", "z", *(word for number in range(0, 5_000, 50) for word in ("1e9", b"%08d" % number))
    )
    cursor, met = ask(database, "ZSCAN", "z", "0", "COUNT", "2500")
    assert ask(database, "ZREMRANGEBYRANK", "z", "0", "-101") == 4_900
    cursor, more = ask(database, "ZSCAN", "z", cursor, "COUNT", "5000")
    assert cursor == b"0"
    assert {b"%08d" % number for number in range(0, 5_000, 50)} <= {*met[::2], *more[::2]}


def test_pairs_are_repeated_as_pairs() -> None:
    database = filled(3)
    first = ask(database, "SOFA.ONCE", "id", "ZPOPMIN", "z", "2")
    assert type(first) is Pairs
    for each in (database, loaded(database)):
        again = ask(each, "SOFA.ONCE", "id", "ZPOPMIN", "z", "2")
        assert type(again) is Pairs
        assert again == first == [b"00000000", 0.0, b"00000001", 1.0]


@pytest.mark.parametrize(
    ("command", "is_large"),
    [
        *(
            ("ZRANGE z 0 9", False),
            ("ZRANGE z 0 -1", True),
            ("ZREVRANGE z -10 -1", False),
            ("ZRANGE z x 1", False),
        ),
        *(("ZRANGE z 0 999", False), ("ZREVRANGE z 0 1000 WITHSCORES", True)),
        *(("ZRANGE z 0 9 BYSCORE", True), ("ZRANGE z - + bylex LIMIT 0 999", False)),
        *(("ZRANGEBYSCORE z 0 9", True), ("ZRANGEBYSCORE z 0 9 LIMIT 5 10", False)),
        *(("ZREVRANGEBYSCORE z 9 0 limit 0 -1 WITHSCORES", True), ("ZRANGEBYLEX z - + LIMIT 0 1000", True)),
        *(("ZREVRANGEBYLEX z + - LIMIT 0 1 LIMIT 0 -1", True), ("ZRANGEBYLEX z - + LIMIT", True)),
        *(("ZPOPMIN z", False), ("ZPOPMAX z 1000", True), ("ZMPOP 1 z MIN COUNT 999", False)),
        *(("ZMPOP 1 z MIN COUNT 1000", True), ("ZUNION 1 z", True), ("ZINTERCARD 1 z", False)),
        *(("ZRANDMEMBER z", False), ("ZRANDMEMBER z -1000", True), ("ZSCAN z 0", False)),
    ],
)
def test_what_may_be_a_large_reply(command: str, is_large: bool) -> None:
    words = command.encode().split()
    assert check(words).replies_large(words) is is_large
