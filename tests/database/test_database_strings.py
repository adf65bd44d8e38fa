"""Strings and keys: what they tell of themselves, and what random commands do not show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from crc32c import crc32c
from database_commands import NOW, Words, a_list, ask, begun, reads, run_of, words, writes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_events import events_of_both
from real_redis import EXAMPLES, Both, RealRedis

from processes import Redis
from sofadb.database import runs as runs_module
from sofadb.database.commands.dumps import ELEMENTS_MAX, FOOT, VERSION, pack
from sofadb.database.commands.strings import LCS_BYTES_MAX, STRING_BYTES_MAX
from sofadb.database.database import Database
from sofadb.database.events import EXPIRED, GENERIC, NEW, STRING
from sofadb.database.keyspace import LONG_STRING_BYTES
from sofadb.database.loader import Loader
from sofadb.database.replies import OK, ReplyError
from sofadb.database.runs import Group, Sent, Transaction
from sofadb.database.subsequences import CommonSubsequence
from sofadb.database.values import Hash, List, LongString, Set, SortedSet, Value

SETTINGS: Any = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "database": None,
}


def texts(database: Database) -> list[str]:
    """The events so far, which are forgotten."""
    events = database.shared.events
    told = [f"{event.name.decode()} {event.key.decode()} {event.database}" for event in events]
    events.clear()
    return told


@pytest.fixture(scope="module")
def listener(redis: Redis, real: RealRedis) -> Iterator[RealRedis]:
    connection = RealRedis(redis.port)
    yield connection
    connection.close()


@given(st.lists(writes, min_size=1, max_size=15))
@settings(max_examples=EXAMPLES // 5, **SETTINGS)
def test_the_same_events_come_in_the_same_order(
    real: RealRedis, listener: RealRedis, commands: list[Words]
) -> None:
    """But for when it is noticed that a key has expired: that is at once here, if it is put with a time that is past."""
    both = Both(real)
    real([[b"RPUSH", b"list", b"x"]])
    both.database.keyspaces[0].set(b"list", a_list(b"x"))
    theirs, ours = (
        [event for event in events if event[0] != b"expired"]
        for events in events_of_both(both, listener, commands, b"EAn")
    )
    assert ours == theirs


def test_what_expires_tells_of_it_however_it_is_noticed() -> None:
    database = begun()
    keyspace = database.keyspaces[0]
    for key in ("due", "set over", "deleted", "claimed", "moved over"):
        ask(database, "SET", key, "1", "PX", "10")
    ask(database, "SET", "stays", "1")
    database.shared.wanted_events = EXPIRED | NEW
    keyspace.time += 10  # As if more was due than one batch clears away.
    assert ask(database, "SET", "set over", "2") == OK
    assert ask(database, "DEL", "deleted") == 0
    assert ask(database, "INCR", "claimed") == 1
    assert ask(database, "RENAME", "stays", "moved over") == OK
    assert texts(database) == [
        "expired set over 0",
        "expired deleted 0",
        "expired claimed 0",
        "new claimed 0",
        "expired moved over 0",
        "new moved over 0",
    ]
    database.begin(2, NOW + 10)
    assert texts(database) == ["expired due 0"]
    assert database.expired == 1


def test_nobody_hears_what_nobody_wants() -> None:
    database = begun()
    ask(database, "SET", "a", "1", "EX", "10")
    assert not database.shared.events
    database.shared.wanted_events = GENERIC
    ask(database, "SET", "a", "1", "EX", "10")
    ask(database, "DEL", "a")
    assert texts(database) == ["expire a 0", "del a 0"]
    database.shared.wanted_events = STRING
    ask(database, "SET", "a", "1")
    ask(database, "MOVE", "a", "3")
    assert texts(database) == ["set a 0"]
    database.shared.wanted_events = GENERIC
    ask(database, "MOVE", "a", "0", number=3)
    ask(database, "COPY", "a", "b", "DB", "5")
    assert texts(database) == ["move_from a 3", "move_to a 0", "copy_to b 5"]


# The state


def loaded(database: Database) -> Database:
    loader = Loader()
    for piece in database.image().pieces():
        loader.feed(piece)
    return loader.finish()


runs = st.lists(st.tuples(writes | writes | reads, st.sampled_from([0, 0, 1])), max_size=15)


def filled() -> Database:
    """With something of every type in two databases."""
    database = begun()
    for number in (0, 1):
        keyspace = database.keyspaces[number]
        keyspace.set(b"list", a_list(b"x", b"y"))
        keyspace.set(b"b", values_of_all_types()[number])
        ask(database, "SETRANGE", "a", LONG_STRING_BYTES - 10 * number, "x", number=number)
    return database


@given(runs, runs)
@settings(max_examples=EXAMPLES // 10, **SETTINGS)
def test_the_same_commands_lead_to_the_same_state(
    before: list[tuple[Words, int]], after: list[tuple[Words, int]]
) -> None:
    """On another replica that is having its image taken, and on one that was loaded from an image."""
    one, other = filled(), filled()
    for command, number in before:
        (reply,) = run_of([command], number).execute(one)
        run_of([command], number).execute(other)
    third = loaded(one)
    taken = b"".join(one.image().pieces())
    image = other.image()
    pieces = image.pieces()
    begun_pieces = [next(pieces)]
    for database in (one, other, third):
        database.begin(2, NOW + 1)
    for command, number in after:
        rolling = one.rolling
        (reply,) = run_of([command], number).execute(one)
        if isinstance(reply, ReplyError):
            assert one.rolling == rolling, "what failed has changed nothing"
        run_of([command], number).execute(other)
        run_of([command], number).execute(third)
    assert b"".join([*begun_pieces, *pieces]) == taken
    assert one.rolling == other.rolling == third.rolling
    assert one.digest() == other.digest() == third.digest()


def test_databases_that_were_swapped_have_changed_for_all_who_watch() -> None:
    database = begun()
    one, other = database.keyspaces[0], database.keyspaces[7]
    ask(database, "SET", "a", "1")
    ask(database, "SET", "a", "2", number=7)
    ask(database, "SET", "b", "2", "PX", "10", number=7)
    watched = [(each, key, each.version(key)) for each in (one, other) for key in (b"a", b"b", b"c")]
    assert ask(database, "SWAPDB", "0", "7") == OK
    assert all(each.version(key) > version for each, key, version in watched)
    assert [ask(database, "MGET", "a", "b"), ask(database, "MGET", "a", "b", number=7)] == [
        [b"2", b"2"],
        [b"1", None],
    ]
    again = loaded(database)
    for each, key, _ in watched:
        assert again.keyspaces[each.number].version(key) == each.version(key)
    versions = [each.version(key) for each, key, _ in watched]
    assert ask(database, "SWAPDB", "3", "3") == OK
    assert [each.version(key) for each, key, _ in watched] == versions
    database.begin(2, NOW + 10)
    assert ask(database, "EXISTS", "b") == 0


def test_databases_may_be_swapped_and_emptied_while_an_image_is_taken() -> None:
    database = begun()
    for number in (0, 7):
        for key in range(2_000):
            ask(database, "SET", f"key:{key}", f"{number}", number=number)
    expected = b"".join(database.image().pieces())
    image = database.image()
    pieces = image.pieces()
    begun_pieces = [next(pieces) for _ in range(4)]
    ask(database, "SWAPDB", "0", "7")
    ask(database, "SET", "key:7", "changed")
    ask(database, "FLUSHDB", number=7)
    ask(database, "SET", "key:7", "changed", number=7)
    assert b"".join([*begun_pieces, *pieces]) == expected
    assert all(each.past is None for each in database.keyspaces)
    assert ask(database, "GET", "key:8") == b"7"
    assert ask(database, "DBSIZE", number=7) == 1


# Long strings


def held(database: Database, key: bytes) -> type:
    return type(database.keyspaces[0].values[key])


def test_a_long_string_is_overwritten_in_place_until_it_is_asked_for() -> None:
    database = begun()
    ask(database, "SET", "a", "x" * LONG_STRING_BYTES)
    reply = ask(database, "GET", "a")
    assert ask(database, "SETRANGE", "a", 1, "yz") == LONG_STRING_BYTES
    assert held(database, b"a") is LongString
    assert ask(database, "APPEND", "a", "end") == LONG_STRING_BYTES + 3
    assert reply == b"x" * LONG_STRING_BYTES, "what was answered does not change"
    for asked in (
        ["STRLEN", "a"],
        ["GETRANGE", "a", 0, 3],
        ["EXISTS", "a"],
        ["TTL", "a"],
        ["GETBIT", "a", 1],
    ):
        ask(database, *asked)
    assert ask(database, "TYPE", "a").text == b"string"
    assert ask(database, "OBJECT", "ENCODING", "a") == b"raw"
    assert held(database, b"a") is LongString
    part = ask(database, "GETRANGE", "a", 0, -1)
    assert type(part) is bytes
    ask(database, "SETRANGE", "a", 0, "later")
    assert part[:5] == b"xyzxx"
    assert ask(database, "MGET", "a") == [b"later" + b"x" * (LONG_STRING_BYTES - 5) + b"end"]
    assert held(database, b"a") is bytes


@pytest.mark.parametrize(
    "command",
    [
        ["GETDEL", "a"],
        ["GETSET", "a", "new"],
        ["SET", "a", "new", "GET"],
        ["COPY", "a", "b"],
        ["RENAME", "a", "b"],
        ["MOVE", "a", "1"],
        ["DEL", "a"],
        ["EXPIRE", "a", "100"],
        ["SETBIT", "a", "3", "1"],
        ["INCR", "a"],
        ["BITOP", "NOT", "a", "a"],
    ],
)
def test_how_a_string_is_held_is_no_part_of_the_state(command: list[str]) -> None:
    one = begun()
    ask(one, "SETRANGE", "a", LONG_STRING_BYTES, "x")
    other = begun()
    ask(other, "SETRANGE", "a", LONG_STRING_BYTES, "x")
    assert held(one, b"a") is LongString
    ask(other, "GET", "a")
    assert held(other, b"a") is bytes
    assert one.digest() == other.digest()
    assert ask(one, *command) == ask(other, *command)
    assert one.rolling == other.rolling
    assert one.digest() == other.digest() == loaded(one).digest()


def test_strings_grow_up_to_the_limit_and_no_further() -> None:
    database = begun()
    last = 8 * STRING_BYTES_MAX - 1
    assert ask(database, "SETBIT", "a", last, 1) == 0
    assert ask(database, "STRLEN", "a") == STRING_BYTES_MAX
    assert ask(database, "SETBIT", "a", last, 0) == 1
    assert ask(database, "BITPOS", "a", 1) == -1
    assert ask(database, "BITCOUNT", "a") == 0
    too_long = [["SETBIT", "a", last + 1, 1], ["APPEND", "a", "x"], ["SETRANGE", "a", STRING_BYTES_MAX, "x"]]
    for command in too_long:
        assert isinstance(ask(database, *command), ReplyError)
    assert ask(database, "STRLEN", "a") == STRING_BYTES_MAX


# The longest common subsequence


def by_the_book(one: bytes, other: bytes) -> tuple[int, list[tuple[int, int, int]]]:
    """With the whole table, as Redis finds it."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, byte in enumerate(one, 1):
        for j, byte_there in enumerate(other, 1):
            table[i][j] = (
                table[i - 1][j - 1] + 1 if byte == byte_there else max(table[i - 1][j], table[i][j - 1])
            )
    i, j, length = len(one), len(other), 0
    found: list[tuple[int, int, int]] = []
    while i and j:
        if one[i - 1] == other[j - 1]:
            i, j, length = i - 1, j - 1, length + 1
            continue
        if length:
            found.append((i, j, length))
        length = 0
        i, j = (i - 1, j) if table[i - 1][j] > table[i][j - 1] else (i, j - 1)
    return table[-1][-1], found + [(i, j, length)] * (length > 0)


short = st.lists(st.sampled_from(b"abc"), max_size=20).map(bytes)


@given(short | st.binary(max_size=40), short | st.binary(max_size=40))
@settings(max_examples=300, derandomize=True, database=None)
def test_the_subsequence_is_the_one_that_the_table_gives(one: bytes, other: bytes) -> None:
    common = CommonSubsequence(one, other)
    assert (common.length, common.matches()) == by_the_book(one, other)


@given(short, short, st.lists(st.sampled_from(["LEN", "IDX", "WITHMATCHLEN", "MINMATCHLEN 2"]), max_size=3))
@settings(max_examples=EXAMPLES // 5, **SETTINGS)
def test_subsequences_are_those_of_redis(
    real: RealRedis, one: bytes, other: bytes, options: list[str]
) -> None:
    for resp3 in (False, True):
        both = Both(real, resp3)
        both([b"SET", b"one", one])
        both([b"SET", b"other", other])
        theirs, ours = both(words("LCS", "one", "other", *" ".join(options).split()))
        assert ours == theirs


def test_subsequences_have_limits() -> None:
    database = begun()
    ask(database, "SET", "long", b"x" * (LCS_BYTES_MAX + 1))
    ask(database, "SET", "half", b"x" * LCS_BYTES_MAX)
    ask(database, "SET", "short", b"x" * 254)
    assert ask(database, "LCS", "half", "short", "LEN") == 254
    assert "too long" in ask(database, "LCS", "long", "short").text
    assert "memory" in ask(database, "LCS", "half", "half").text


# Dumps


def values_of_all_types() -> list[Value]:
    a_list, a_set, a_hash, a_sorted_set = List(), Set(), Hash(), SortedSet()
    for number in range(700):
        name = b"%d" % number
        a_list.take([name])
        a_set.add(name)
        a_hash.put(name, name * 2)
        a_sorted_set.put(name, number / 3)
    return [a_list, a_set, a_hash, a_sorted_set]


@pytest.mark.parametrize(
    "value", [b"", b"text", b"\0" * 70_000, *values_of_all_types()], ids=lambda it: type(it).__name__
)
def test_what_is_dumped_can_be_restored(value: Any) -> None:
    database = begun()
    database.keyspaces[0].set(b"a", value)
    dump = ask(database, "DUMP", "a")
    assert ask(database, "RESTORE", "b", 0, dump) == OK
    assert ask(database, "RESTORE", "b", 0, dump).text == "BUSYKEY Target key name already exists."
    assert ask(database, "DUMP", "b") == dump
    assert ask(database, "TYPE", "b") == ask(database, "TYPE", "a")
    assert ask(database, "OBJECT", "ENCODING", "b") == ask(database, "OBJECT", "ENCODING", "a")
    assert ask(database, "COPY", "a", "c", "DB", 2) == 1
    assert ask(database, "DUMP", "c", number=2) == dump
    for at in range(0, len(dump), len(dump) // 50 + 1):
        damaged = dump[:at] + bytes([dump[at] ^ 1]) + dump[at + 1 :]
        assert (
            ask(database, "RESTORE", "d", 0, damaged).text == "ERR DUMP payload version or checksum are wrong"
        )
    assert ask(database, "EXISTS", "d") == 0


def test_a_restored_value_expires_when_it_is_told_to() -> None:
    database = begun()
    dump = pack(b"x")
    ask(database, "RESTORE", "a", 500, dump)
    ask(database, "RESTORE", "b", NOW + 700, dump, "ABSTTL", "FREQ", 3)
    assert [ask(database, "PTTL", key) for key in "ab"] == [500, 700]
    database.shared.wanted_events = GENERIC
    assert ask(database, "RESTORE", "b", NOW, dump, "ABSTTL", "REPLACE") == OK
    assert ask(database, "RESTORE", "b", NOW, dump, "ABSTTL") == OK
    assert texts(database) == ["del b 0"]
    assert ask(database, "RESTORE", "a", 0, dump, "REPLACE", "IDLETIME", 5) == OK
    assert ask(database, "TTL", "a") == -1


def forged(body: bytes) -> bytes:
    """A dump whose checksum is right."""
    return body + FOOT.pack(VERSION, crc32c(body + b"\0\1"))


@pytest.mark.parametrize(
    "body",
    [
        bytes([9]),
        bytes([1]),
        bytes([1]) + bytes(9),
        bytes([1, 2]) + (1).to_bytes(8, "big") + bytes(4),
        bytes([1, 0]) + (2).to_bytes(8, "big") + bytes(4),
        bytes([1, 0]) + (1).to_bytes(8, "big") + b"\0\0\0\5abc",
        bytes([1, 0]) + (1).to_bytes(8, "big") + b"\xff\xff\xff\xff",
        bytes([2, 0]) + (2).to_bytes(8, "big") + bytes(8),
        bytes([4, 0]) + (1).to_bytes(8, "big") + bytes(4) + b"\x7f\xf8" + bytes(6),
        bytes([1, 0]) + (ELEMENTS_MAX + 1).to_bytes(8, "big") + bytes(4 * (ELEMENTS_MAX + 1)),
    ],
)
def test_what_nobody_can_have_dumped_is_refused(body: bytes) -> None:
    database = begun()
    assert ask(database, "RESTORE", "a", 0, forged(body)).text == "ERR Bad data format"
    assert ask(database, "DBSIZE") == 0


def test_what_is_too_large_is_not_dumped() -> None:
    database = begun()
    value = Set()
    for number in range(ELEMENTS_MAX + 1):
        value.add(b"%d" % number)
    database.keyspaces[0].set(b"a", value)
    assert "too large" in ask(database, "DUMP", "a").text


# Others


def test_wait_says_how_many_others_certainly_have_what_was_written() -> None:
    for count, others in ((1, 0), (2, 1), (3, 1), (4, 2), (5, 2)):
        database = Database({f"n{number}": f"h:{number}" for number in range(1, count + 1)})
        database.begin(1, NOW)
        assert ask(database, "WAIT", 100, 1_000) == others


def test_nobody_counts_how_often_a_key_is_asked_for() -> None:
    database = begun()
    ask(database, "SET", "a", "1")
    assert ask(database, "OBJECT", "FREQ", "a").text.startswith("ERR An LFU maxmemory policy is not selected")
    assert ask(database, "OBJECT", "IDLETIME", "a").text.startswith("ERR idle time is not tracked")
    assert all(line.text for line in ask(database, "OBJECT", "HELP"))


def test_a_scan_finds_all_types() -> None:
    database = begun()
    ask(database, "SETRANGE", "long", LONG_STRING_BYTES, "x")
    for value in values_of_all_types():
        database.keyspaces[0].set(value.type_name, value)
    for type_name in (b"list", b"set", b"hash", b"zset"):
        assert ask(database, "SCAN", 0, "TYPE", type_name.upper(), "COUNT", 100_000)[1] == [type_name]
    assert ask(database, "SCAN", 0, "TYPE", "string", "COUNT", 100_000)[1] == [b"long"]
    assert held(database, b"long") is LongString


@pytest.mark.parametrize("command", ["INCR a", "DECRBY a 1", "INCRBYFLOAT a 1"])
def test_a_long_string_is_no_number_and_stays_as_it_is_held(command: str) -> None:
    database = begun()
    ask(database, "SETRANGE", "a", LONG_STRING_BYTES, "x")
    before = database.digest()
    assert "value is not" in ask(database, *command.split()).text
    assert type(database.keyspaces[0].values[b"a"]) is LongString
    assert database.digest() == before


def test_where_nobody_wants_replies_they_are_not_held_together(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    alive: set[int] = set()

    class Large(bytes):
        def __del__(self) -> None:
            alive.discard(id(self))

    def large(keyspace: Any, args: Words) -> bytes:
        reply = Large(b"large")
        alive.add(id(reply))
        held.append(len(alive))
        return reply

    monkeypatch.setattr(runs_module, "_requests", lambda raw: iter([[[b"GETDEL"]] * 5]))
    monkeypatch.setattr(runs_module, "_function", lambda args: large)
    for each in (Sent(0, b""), Transaction([], [Group(0, [(large, [b"GETDEL"])] * 5, b"")])):
        held.clear()
        each.apply(begun())
        assert len(held) == 5
        assert max(held) <= 2
