"""Lists and SORT, compared with a real Redis; and what random commands do not show."""

from __future__ import annotations

from hashlib import sha256

import pytest
from database_commands import NOW, Words, ask, begun, run_of, words
from hypothesis import given, settings
from hypothesis import strategies as st
from list_commands import changes, looks, mistakes, pops, pushes, sorts
from real_events import events_of_both
from real_redis import EXAMPLES, SETTINGS, Both, RealRedis, loaded

from processes import Redis
from sofadb.database.commands.sorting import GETS_MAX
from sofadb.database.database import Database
from sofadb.database.graveyard import LARGE
from sofadb.database.patterns import PATTERN_BYTES_MAX
from sofadb.database.replies import NULL_ARRAY, OK, ReplyError
from sofadb.database.table import check
from sofadb.database.values import Hash, List, Set, SortedSet, Value

KEYS = [b"a", b"b", b"c", b"numbers", b"text", b"set", b"zset", b"hash", b"nowhere"]
STRINGS = {
    b"text": b"x",
    **{
        b"w_" + name: weight
        for name, weight in zip(b"1 2 10 x y".split(), b"5 4 4 -1 +1e1".split(), strict=True)
    },
    b"w_1_x": b"7",
    b"w_10_x": b"b",
    b"h_10": b"no hash",
}
HASHES = {
    b"hash": {b"f": b"1"},
    b"h_1": {b"f": b"3", b"g": b"x"},
    b"h_2": {b"f": b"1", b"": b"y"},
    b"h_x": {b"f": b"-inf", b"g": b"", b"f->g": b"z"},
}
NUMBERS = [b"10", b"1", b"2", b"2", b"-3.5"]
SET = [b"1", b"2", b"10", b"77"]
"""In the order in which Redis goes through a set of integers."""
SORTED_SET = {b"x": 1.0, b"1": 2.0, b"2": 2.0, b"10": -1.0}


def prepare(both: Both) -> None:
    """Values of all types, most of which are there to be looked up by SORT."""
    both.real([words("SET", *item) for item in STRINGS.items()])
    both.real([words("HSET", key, *pair) for key, fields in HASHES.items() for pair in fields.items()])
    both.real([[b"RPUSH", b"numbers", *NUMBERS], [b"SADD", b"set", *SET]])
    both.real([words("ZADD", "zset", str(score), name) for name, score in SORTED_SET.items()])
    keyspace = both.database.keyspaces[0]
    for key, string in STRINGS.items():
        keyspace.set(key, string)
    values: dict[bytes, Value] = {key: Hash() for key in HASHES}
    for key, fields in HASHES.items():
        for name, value in fields.items():
            values[key].put(name, value)
    values[b"numbers"], values[b"set"], values[b"zset"] = List(), Set(), SortedSet()
    for element in NUMBERS:
        values[b"numbers"].take([element])
    for element in SET:
        values[b"set"].add(element)
    for element, score in SORTED_SET.items():
        values[b"zset"].put(element, score)
    for key, value in values.items():
        keyspace.set(key, value)


commands = st.lists(pushes | pushes | pops | changes | looks | sorts | mistakes, min_size=1, max_size=25)


@given(commands, st.booleans())
@settings(max_examples=EXAMPLES, **SETTINGS)
def test_random_commands_get_the_same_replies(real: RealRedis, commands: list[Words], resp3: bool) -> None:
    both = Both(real, resp3)
    prepare(both)
    for command, expected in zip(commands, real(commands), strict=True):
        actual = both.ours(command)
        assert actual == expected, f"{command}: Redis {expected}, here {actual}"
    for key in KEYS:
        for left_behind in (words("TYPE", key), words("LRANGE", key, 0, -1)):
            expected, actual = both(left_behind)
            assert actual == expected, f"{left_behind}: Redis {expected}, here {actual}"


@given(commands)
@settings(max_examples=EXAMPLES // 5, **SETTINGS)
def test_the_same_events_come_in_the_same_order(
    real: RealRedis, listener: RealRedis, commands: list[Words]
) -> None:
    both = Both(real)
    prepare(both)
    theirs, ours = events_of_both(both, listener, commands)
    assert ours == theirs


# The state


def elements_of(database: Database, key: bytes) -> list[bytes]:
    value = database.keyspaces[0].find_as(key, List)
    return [] if value is None else list(value.items)


@given(commands, commands)
@settings(max_examples=EXAMPLES // 10, **SETTINGS)
def test_the_same_commands_lead_to_the_same_state(before: list[Words], after: list[Words]) -> None:
    """On another replica, and on one that was loaded from an image between them."""
    one, other = begun(), begun()
    for command in before:
        run_of([command]).execute(one)
        run_of([command]).execute(other)
    third = loaded(one)
    for database in (one, other, third):
        database.begin(2, NOW + 1)
    for command in after:
        changes, rolling = one.keyspaces[0].changes, one.rolling
        (reply,) = run_of([command]).execute(one)
        if isinstance(reply, ReplyError):
            assert (one.keyspaces[0].changes, one.rolling) == (changes, rolling), (
                "what failed has changed nothing"
            )
        run_of([command]).execute(other)
        run_of([command]).execute(third)
    assert one.digest() == other.digest() == third.digest()
    assert one.rolling == other.rolling
    for key, value in one.keyspaces[0].values.items():
        if isinstance(value, List):
            assert value.items, f"{key!r} is empty"
            assert value.bytes == sum(map(len, value.items))


@given(commands, commands)
@settings(max_examples=EXAMPLES // 10, **SETTINGS)
def test_an_image_holds_what_was_there_when_it_was_begun(before: list[Words], after: list[Words]) -> None:
    database = begun()
    for command in before:
        run_of([command]).execute(database)
    expected = database.digest()
    image = database.image()
    for command in after:
        run_of([command]).execute(database)
    assert sha256(b"".join(image.pieces())).digest() == expected


@pytest.mark.parametrize(
    "command",
    [
        "LREM a 0 nowhere",
        "LREM nowhere 0 x",
        "LTRIM a 0 -1",
        "LTRIM nowhere 0 0",
        "LINSERT a BEFORE nowhere x",
        "LINSERT nowhere BEFORE x x",
        "LPUSHX nowhere x",
        "LPOP nowhere",
        "LPOP a 0",
        "LMOVE nowhere a LEFT LEFT",
        "LMPOP 1 nowhere LEFT",
        "SORT a ALPHA",
        "SORT nowhere STORE nowhere",
    ],
)
def test_what_changes_nothing_is_no_change(command: str) -> None:
    database = begun()
    ask(database, "RPUSH", "a", "x", "y")
    changes, rolling = database.keyspaces[0].changes, database.rolling
    assert not isinstance(ask(database, *command.split()), ReplyError)
    assert (database.keyspaces[0].changes, database.rolling) == (changes, rolling)


def test_what_has_expired_is_not_there_for_any_of_them() -> None:
    for command, expected in [
        ("RPUSH a new", 1),
        ("LPUSHX a new", 0),
        ("LPOP a", None),
        ("LPOP a 2", NULL_ARRAY),
        ("LLEN a", 0),
        ("LRANGE a 0 -1", []),
        ("LREM a 0 x", 0),
        ("LTRIM a 1 1", OK),
        ("LMOVE a b LEFT LEFT", None),
        ("LMOVE b a LEFT LEFT", b"1"),
        ("LMPOP 2 a b LEFT", [b"b", [b"1"]]),
        ("SORT a STORE b", 0),
    ]:
        database = begun()
        ask(database, "RPUSH", "a", "x", "y")
        ask(database, "RPUSH", "b", "1")
        ask(database, "PEXPIRE", "a", 10)
        for keyspace in database.keyspaces:
            keyspace.time += 10  # The batch that would clear it away is still to come.
        assert ask(database, *command.split()) == expected, command
        assert elements_of(database, b"a") in ([], [b"new"], [b"1"]), command
        assert ask(database, "PTTL", "a") in (-1, -2)


# Large lists


COUNT = 10 * LARGE


def large() -> Database:
    database = begun()
    ask(database, "RPUSH", "a", *range(COUNT))
    return database


NUMBERED = [b"%d" % number for number in range(COUNT)]


@pytest.mark.parametrize(
    ("command", "is_large"),
    [
        ("LRANGE a 0 -1", True),
        ("LRANGE a -5 5", True),
        ("LRANGE a 0 1000", True),
        ("LRANGE a 0 999", False),
        ("LRANGE a -10 -1", False),
        ("LRANGE a 5 2", False),
        ("LRANGE a x y", False),
        ("LPOS a x", False),
        ("LPOS a x COUNT 0", True),
        ("LPOS a x COUNT 1001 RANK 2", True),
        ("LPOS a x COUNT 1000", False),
        ("LPOS a x COUNT 0 MAXLEN 1000", False),
        ("LPOS a x COUNT", False),
        ("SORT a", True),
        ("SORT a GET STORE", True),
        ("SORT a STORE b", False),
        ("SORT a bogus", False),
        ("SORT_RO a", True),
    ],
)
def test_whether_a_reply_may_be_large_is_seen_by_the_words(command: str, is_large: bool) -> None:
    args = words(*command.split())
    assert check(args).replies_large(args) is is_large


@pytest.mark.parametrize("begin", [0, 3, 1_000, COUNT // 2, COUNT - 100, COUNT - 3])
@pytest.mark.parametrize("count", [1, 63, 64, 99, 5_000, COUNT])
def test_parts_of_a_large_list(begin: int, count: int) -> None:
    expected = NUMBERED[begin : begin + count]
    assert ask(large(), "LRANGE", "a", begin, begin + count - 1) == expected
    database = large()
    assert ask(database, "LTRIM", "a", begin, begin + count - 1) == OK
    assert elements_of(database, b"a") == expected
    database = large()
    assert ask(database, "LPOP", "a", begin) == NUMBERED[:begin]
    assert ask(database, "RPOP", "a", count) == NUMBERED[begin:][: -count - 1 : -1]
    assert elements_of(database, b"a") == NUMBERED[begin:-count]


@pytest.mark.parametrize(
    "command", ["LPOP a 9000", "RPOP a 4000", "LTRIM a 0 5", "LTRIM a 3000 -1", "LREM a 0 x"]
)
def test_much_that_is_removed_is_given_back_later(command: str) -> None:
    database = large()
    ask(database, "RPUSH", "a", *["x"] * 500)
    assert not database.tidy(1)
    ask(database, *command.split())
    assert database.tidy(1)


def test_the_right_ones_of_many_equal_elements_are_removed() -> None:
    elements = [b"x" if number % 3 == 0 else b"%d" % number for number in range(3_000)]
    for count, expected in [
        (400, [each for index, each in enumerate(elements) if index >= 1_200 or index % 3]),
        (-400, [each for index, each in enumerate(elements) if index < 1_800 or index % 3]),
        (0, [each for each in elements if each != b"x"]),
        (2**63 - 1, [each for each in elements if each != b"x"]),
        (-1, [each for index, each in enumerate(elements) if index != 2_997]),
    ]:
        database = begun()
        ask(database, "RPUSH", "a", *elements)
        assert ask(database, "LREM", "a", count, "x") == len(elements) - len(expected)
        assert elements_of(database, b"a") == expected


# SORT


@pytest.mark.parametrize("name", ["SORT", "SORT_RO"])
def test_numbers_are_read_as_redis_reads_them(redis: Redis, real: RealRedis, name: str) -> None:
    """Redis looks at C's errno without clearing it before. Whoever connects makes it another one."""
    both = Both(real)
    for text in [
        *b"1 -1 +1 -0 .5 5. . 1e3 1E-3 1e 1e+ 1_0 --1 1x inf -INF Infinity infx nan nan(1) 0x10 -0X1P-3 0x 0x.8 0x1p".split(),
        *b"1e400 -1e400 1e-310 1e-400 0e-400 2.2250738585072014e-308 2.2250738585072011e-308 4.94065e-324".split(),
        *b"0x1p-1074 0x1p-1076 0x0p-9999 0x1p2000 -0x1p99999999999 1e99999999999999999999 00000001 0b1 1f 1L".split(),
        *(
            b"",
            b" ",
            b" 1",
            b"\t\n\v\f\r1",
            b"1 ",
            b"\x001",
            b"1\x00x",
            b"x\x00",
            b"\xb2",
            b"1" * 400,
            b"0." + b"1" * 2000,
        ),
    ]:
        both(words("DEL", "a"))
        both(words("RPUSH", "a", text, "0.25", "-7"))
        another = RealRedis(redis.port)
        another([[b"PING"]])
        another.close()
        theirs, ours = both(words(name, "a"))
        assert ours == theirs, text


def test_texts_that_weigh_different_things_are_ordered_and_cut_as_in_redis(real: RealRedis) -> None:
    both = Both(real)
    names = [b"%d" % number for number in range(200)]
    both([b"RPUSH", b"a", *names])
    for name in names:
        both(words("SET", b"w_" + name, b"%d" % (int(name) * 7919 % 1009)))
    for way in ("ASC", "DESC"):
        for limit in ((0, 10), (50, 100), (190, 50), (-5, 3), (300, 1), (0, -1), (5, 0)):
            for kind in ((), ("ALPHA",)):
                theirs, ours = both(
                    words("SORT", "a", "BY", "w_*", "LIMIT", *limit, way, *kind, "GET", "#", "GET", "w_*")
                )
                assert ours == theirs


def test_what_is_stored_of_a_set_is_in_order_even_if_nobody_asks() -> None:
    database = begun()
    value = Set()
    for name in (b"c", b"a", b"b"):
        value.add(name)
    database.keyspaces[0].set(b"set", value)
    assert ask(database, "SORT", "set", "BY", "nosort", "STORE", "a") == 3
    assert elements_of(database, b"a") == [b"a", b"b", b"c"]
    assert ask(database, "SORT", "set", "BY", "nosort", "DESC", "STORE", "a") == 3
    assert elements_of(database, b"a") == [b"c", b"b", b"a"]
    assert ask(database, "SORT", "set", "BY", "nosort", "GET", "x*", "STORE", "a") == 3
    assert elements_of(database, b"a") == [b"", b"", b""]


def test_sort_has_limits() -> None:
    database = begun()
    ask(database, "RPUSH", "a", "1")
    gets = [b"GET", b"#"] * GETS_MAX
    assert ask(database, "SORT", "a", *gets) == [b"1"] * GETS_MAX
    assert ask(database, "SORT", "a", *gets, "GET", "#") == ReplyError("ERR SORT takes 1000 GETs at most")
    for option in ("BY", "GET"):
        assert ask(database, "SORT", "a", option, "*" * PATTERN_BYTES_MAX) == (
            [b"1"] if option == "BY" else [None]
        )
        refused = ask(database, "SORT", "a", option, "*" * (PATTERN_BYTES_MAX + 1))
        assert refused == ReplyError("ERR a pattern may have 4096 bytes at most")
