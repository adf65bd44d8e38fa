"""One batch makes only so much work, counted by what commands cost, and every replica refuses the same."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from database_commands import NOW, Words, ask, begun, group_of, turn

from sofadb.database import budget
from sofadb.database.budget import BATCH_UNITS_MAX, COMMAND_UNITS_MAX, LITTLE_UNITS, estimate
from sofadb.database.commands.strings import STRING_BYTES_MAX
from sofadb.database.database import Database
from sofadb.database.replies import Reply, ReplyError, Waits
from sofadb.database.runs import Run, Transaction, apply
from sofadb.database.table import TABLE, check

LAST_BYTE = STRING_BYTES_MAX - 1
MANY = 1_000


def cost_of(database: Database, command: str) -> int:
    args = split(command)
    cost = check(args).cost
    assert cost is not None, command
    return estimate(cost, database.keyspaces[0], args)


def kind_of(reply: Reply) -> str:
    return reply.text.partition(" ")[0] if isinstance(reply, ReplyError) else ""


def split(command: str) -> Words:
    return command.encode().split()


def transaction(*commands: str) -> Transaction:
    return Transaction([], [group_of([split(command) for command in commands])])


def filled() -> Database:
    """A value of each kind with a thousand elements, and a string of a megabyte."""
    database = begun()
    names = [f"name{number}" for number in range(MANY)]
    ask(database, "RPUSH", "l", *names)
    ask(database, "SADD", "s", *names)
    ask(database, "HSET", "h", *(word for name in names for word in (name, name)))
    ask(database, "ZADD", "z", *(word for number, name in enumerate(names) for word in (number, name)))
    ask(database, "SET", "text", "x" * 1_000_000)
    ask(database, "SET", "short", "x" * 5_000)
    return database


def next_batch(database: Database) -> None:
    database.begin(database.instance + 1, NOW)


# What a batch has room for


@pytest.mark.parametrize(
    "whole",
    [
        "SET k 1 NX GET",
        "GETEX k",
        "COPY k other REPLACE",
        "COPY k other DB 1 REPLACE",
        "SORT one BY nosort GET *",
        "SORT one BY * ALPHA",
        "SORT one BY nosort GET * STORE d",
        "SOFA.ONCE id{n} GETEX k",
        "SOFA.ONCE id{n} GET k",
    ],
)
def test_a_string_is_held_otherwise_only_so_often_in_a_batch(whole: str) -> None:
    """As one that is whole, and as one that is overwritten: each time it is copied."""
    database = begun()
    ask(database, "RPUSH", "one", "k")
    ask(database, "SETRANGE", "k", LAST_BYTE >> 2, "x")
    held = database.keyspaces[0].values
    changes = [type(held[b"k"])]
    next_batch(database)
    refused = []
    for number in range(40):
        for command in (whole.format(n=number), f"SETBIT k 0 {number % 2}"):
            refused.append(kind_of(ask(database, *split(command))) == "BUSY")
            changes.append(type(held[b"k"]))
    assert 1 <= sum(one is not other for one, other in pairwise(changes)) <= 16
    assert refused.count(True) > 30
    assert not any(refused[1::2]), "what overwrites in place costs nothing"
    assert database.shared.budget.spent <= BATCH_UNITS_MAX


def test_copies_make_only_so_much_in_a_batch() -> None:
    database = begun()
    for length in (5_000, 60_000, STRING_BYTES_MAX >> 2):
        next_batch(database)
        ask(database, "SETRANGE", f"k{length}", length - 1, "x")
        replies = [ask(database, "COPY", f"k{length}", f"c{length}-{number}") for number in range(10_000)]
        assert sum(reply == 1 for reply in replies) * length <= 100 << 20


def test_zeros_by_the_gigabyte_are_not_made_in_one_batch() -> None:
    database = begun()
    replies = [ask(database, "SETRANGE", f"k{number}", LAST_BYTE, "x") for number in range(40)]
    done = sum(kind_of(reply) == "" for reply in replies)
    assert 1 <= done <= 3
    assert [kind_of(reply) for reply in replies[done:]] == ["BUSY"] * (40 - done)
    assert database.shared.budget.spent <= BATCH_UNITS_MAX
    assert len(database.keyspaces[0].values) == done
    next_batch(database)
    assert ask(database, "SETRANGE", "k39", LAST_BYTE, "x") == STRING_BYTES_MAX


def test_nor_are_large_strings_turned_round_again_and_again() -> None:
    database = begun()
    ask(database, "SETRANGE", "k", LAST_BYTE, "x")
    next_batch(database)
    replies = [ask(database, "BITOP", "NOT", f"k{number}", "k") for number in range(40)]
    assert [kind_of(reply) for reply in replies] == [""] + ["BUSY"] * 39
    assert database.shared.budget.spent <= BATCH_UNITS_MAX


@pytest.mark.parametrize("command", ["BLMPOP 0 2 none l LEFT COUNT 500", "BZMPOP 0 1 z MAX COUNT 500"])
def test_who_waits_for_many_pays_when_it_takes_them(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = filled()
    monkeypatch.setattr(budget, "BATCH_UNITS_MAX", 60)
    assert isinstance(
        turn(database, 1, *command.replace(" l ", " no ").replace(" z ", " no ").split()), Waits
    )
    assert database.shared.budget.spent == 0
    assert len(turn(database, 2, *command.split())[1]) == 500
    before = database.digest()
    assert kind_of(turn(database, 3, *command.split())) == "BUSY"
    assert database.digest() == before
    next_batch(database)
    assert len(turn(database, 4, *command.split())[1]) == 500


def test_what_is_dear_by_itself_is_done_when_it_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    database = filled()
    monkeypatch.setattr(budget, "BATCH_UNITS_MAX", 100)
    assert cost_of(database, "ZUNIONSTORE d 2 z z") > 100
    assert ask(database, "ZUNIONSTORE", "d", 2, "z", "z") == MANY
    assert kind_of(ask(database, "SUNIONSTORE", "d", "s", "s")) == "BUSY"
    assert ask(database, "INCR", "n") == 1, "what costs nothing is always done"
    assert ask(database, "SETBIT", "bits", 7, 1) == 0, "and what costs little"
    next_batch(database)
    assert ask(database, "SUNIONSTORE", "d", "s", "s") == MANY


def test_one_command_may_cost_only_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    database = filled()
    before = database.digest()
    monkeypatch.setattr(budget, "COMMAND_UNITS_MAX", 1_000)
    reply = ask(database, "ZUNIONSTORE", "d", 2, "z", "z")
    assert "in parts" in reply.text
    assert database.digest() == before
    assert database.shared.budget.spent == 0
    assert ask(database, "SUNIONSTORE", "d", "s") == MANY


def test_sets_of_a_million_may_still_be_put_together() -> None:
    thousand = cost_of(filled(), "ZUNIONSTORE d 2 z z")
    assert BATCH_UNITS_MAX < 1_000 * thousand < COMMAND_UNITS_MAX


# What refuses


def test_an_id_is_as_good_as_new_if_its_command_was_refused() -> None:
    database = begun()
    for number in range(5):
        ask(database, "SETRANGE", f"k{number}", LAST_BYTE, "x")
    once = ("SOFA.ONCE", "id", "SETRANGE", "k", LAST_BYTE, "x")
    assert kind_of(ask(database, *once)) == "BUSY"
    assert ask(database, "SOFA.STATUS", "id") == [b"never", 0]
    next_batch(database)
    assert ask(database, *once) == STRING_BYTES_MAX
    assert kind_of(ask(database, "SOFA.ONCE", "other", "SOFA.ONCE", "id", "GET", "k")) == "ERR"


def test_nor_is_it_kept_that_a_transaction_had_no_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    database = begun()
    monkeypatch.setattr("sofadb.database.runs.COMMAND_UNITS_MAX", 1_000)
    (replies,) = transaction("SETRANGE k 900000 x", "SOFA.ONCE id BITOP NOT d k").execute(database)
    assert [kind_of(reply) for reply in replies] == ["", "ERR"]
    assert ask(database, "SOFA.STATUS", "id") == [b"never", 0]
    monkeypatch.setattr(budget, "COMMAND_UNITS_MAX", 100)
    assert kind_of(ask(database, "SOFA.ONCE", "id", "BITOP", "NOT", "d", "k")) == "ERR"
    assert ask(database, "SOFA.STATUS", "id") == [b"never", 0], "it may be done when there is less of it"


@pytest.mark.parametrize("outer", ["SOFA.ONCE id{n}", "SOFA.FENCED lock {token}"])
@pytest.mark.parametrize("inner", ["SUNIONSTORE d s", "BITCOUNT text", "GET text", "MGET none text"])
def test_what_is_wrapped_costs_what_it_costs_by_itself(
    outer: str, inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = filled()
    token = ask(database, "SOFA.LOCK", "lock", 60_000)
    monkeypatch.setattr(budget, "BATCH_UNITS_MAX", 2_500)
    wrapped = [f"{outer.format(n=number, token=token)} {inner}" for number in range(20)]
    assert cost_of(database, wrapped[0]) > LITTLE_UNITS
    refusals = [kind_of(ask(database, *split(command))) for command in wrapped]
    assert refusals[0] == ""
    assert refusals[-1] == "BUSY"
    before = database.digest()
    assert [kind_of(reply) for reply in transaction("INCR n", wrapped[-1]).execute(database)] == ["BUSY"]
    assert database.digest() == before
    next_batch(database)
    assert kind_of(ask(database, *split(wrapped[-1]))) == ""


def test_a_transaction_is_done_wholly_or_not_at_all() -> None:
    database = begun()
    big = transaction("INCR n", *(f"SETRANGE k{number} {LAST_BYTE} x" for number in range(10)), "INCR n")
    ask(database, "SETRANGE", "first", LAST_BYTE, "x")
    assert [kind_of(reply) for reply in big.execute(database)] == ["BUSY"]
    assert list(database.keyspaces[0].values) == [b"first"]
    next_batch(database)
    (replies,) = big.execute(database)
    assert replies == [1, *[STRING_BYTES_MAX] * 10, 2]
    assert kind_of(ask(database, "SETRANGE", "last", LAST_BYTE, "x")) == "BUSY"
    assert transaction("INCR n", "SETBIT n 1 1").execute(database) == [[3, 0]], "it costs little"


def test_what_a_transaction_makes_dear_itself_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    database = begun()
    monkeypatch.setattr("sofadb.database.runs.COMMAND_UNITS_MAX", 1_500)
    (replies,) = transaction(
        "SETRANGE k 300000 x", "BITOP NOT a k", "BITOP NOT b k", "INCR n", "SETRANGE k 300001 y"
    ).execute(database)
    assert [kind_of(reply) for reply in replies] == ["", "", "ERR", "", ""]
    assert database.shared.budget.spent <= 1_500
    assert database.shared.budget.left is None


def test_scripts_count_by_themselves() -> None:
    database = begun()
    ask(database, "SETRANGE", "k", LAST_BYTE, "x")
    script = "return redis.call('setrange', KEYS[1], 100000, 'x')"
    assert ask(database, "EVAL", script, 1, "other") == 100_001
    assert database.shared.script_steps > 100_000 // 1_000
    assert "was stopped" in ask(database, "EVAL", script.replace("100000", str(LAST_BYTE)), 1, "third").text
    assert ask(database, "EXISTS", "third") == 0
    assert not database.shared.budget.is_paid_elsewhere


# What things cost


@pytest.mark.parametrize(
    ("cheap", "dear"),
    [
        ("SETRANGE text 5 x", "SETRANGE text 5000000 x"),
        ("SETBIT text 5 1", "SETBIT text 50000000 1"),
        ("BITFIELD text SET u8 0 1 GET u8 50000000", "BITFIELD text SET u8 50000000 1"),
        ("BITOP AND d l none", "BITOP AND d text text"),
        ("LPOP l 3", "LPOP l 1000"),
        ("RPOP l", "RPOP l 1000"),
        ("LMPOP 2 none l LEFT COUNT 3", "LMPOP 2 none l LEFT COUNT 1000"),
        ("BLMPOP 0 2 none l LEFT COUNT 3", "BLMPOP 0 2 none l LEFT COUNT 1000"),
        ("BZMPOP 0 1 z MIN", "BZMPOP 0 1 z MIN COUNT 500"),
        ("LTRIM l 1 -1", "LTRIM l 500 -1"),
        ("LINSERT none BEFORE a b", "LINSERT l BEFORE a b"),
        ("LREM none 0 a", "LREM l 0 a"),
        ("SPOP s", "SPOP s 500"),
        ("SINTERSTORE d s none", "SINTERSTORE d s s"),
        ("SUNIONSTORE d none", "SUNIONSTORE d s none"),
        ("SDIFFSTORE d none s", "SDIFFSTORE d s none"),
        ("ZUNIONSTORE d 1 none", "ZUNIONSTORE d 2 z none"),
        ("ZINTERSTORE d 2 z none", "ZINTERSTORE d 2 z z"),
        ("ZDIFFSTORE d 2 none z", "ZDIFFSTORE d 1 z"),
        ("ZRANGESTORE d z 3 5", "ZRANGESTORE d z 0 -1"),
        ("ZREMRANGEBYRANK z 0 0", "ZREMRANGEBYRANK z 0 500"),
        ("ZREMRANGEBYSCORE z 5 5", "ZREMRANGEBYSCORE z 0 500"),
        ("ZREMRANGEBYLEX z [a [a", "ZREMRANGEBYLEX z - [name5"),
        ("ZPOPMIN z", "ZPOPMIN z 500"),
        ("ZPOPMAX z 1", "ZPOPMAX z 500"),
        ("ZMPOP 1 z MIN", "ZMPOP 1 z MIN COUNT 500"),
        ("SORT l BY nosort LIMIT 0 3", "SORT l ALPHA"),
        ("SORT_RO none", "SORT_RO l BY w_* GET #"),
        ("COPY short d", "COPY text d"),
        ("COPY l d", "COPY z d"),
        ("SET text x NX", "SET text x NX GET"),
        ("SET short x GET", "SET text x GET"),
        ("GETSET short x", "GETSET text x"),
        ("GETDEL short", "GETDEL text"),
        ("GETEX l", "GETEX text"),
        ("RESTORE d 0 x", "RESTORE d 0 dump"),
        ("DUMP none", "DUMP z"),
        ("BITCOUNT none", "BITCOUNT text"),
        ("BITPOS l 1", "BITPOS text 1"),
        ("GETRANGE none 0 -1", "GETRANGE text 0 -1"),
        ("LCS none none", "LCS text text"),
        ("LRANGE l 0 9", "LRANGE l 0 -1"),
        ("LPOS none a", "LPOS l a"),
        ("SMEMBERS none", "SMEMBERS s"),
        ("SRANDMEMBER s", "SRANDMEMBER s -1000"),
        ("SINTERCARD 2 s none", "SINTERCARD 2 s s"),
        ("HGETALL none", "HGETALL h"),
        ("ZRANGE z 0 9", "ZRANGE z 0 -1"),
        ("ZRANGEBYSCORE z 0 9 LIMIT 0 1", "ZRANGEBYSCORE z -inf +inf"),
        ("ZREVRANGEBYLEX z [a [a", "ZREVRANGEBYLEX z + -"),
        ("ZINTERCARD 1 none", "ZINTERCARD 2 z z"),
    ],
)
def test_what_goes_through_much_costs_more(cheap: str, dear: str) -> None:
    database = filled()
    ask(database, "RPUSH", "dump", "x")
    dump = ask(database, "DUMP", "z")
    assert cost_of(database, cheap) <= LITTLE_UNITS
    args = [dump if word == b"dump" else word for word in split(dear)]
    cost = check(args).cost
    assert cost is not None
    assert estimate(cost, database.keyspaces[0], args) >= LITTLE_UNITS


@pytest.mark.parametrize(
    ("near", "far"),
    [
        ("LINDEX l 3", "LINDEX l 500000"),
        ("LINDEX l 1000000", "LINDEX l -300000"),
        ("LSET l -3 x", "LSET l 500000 x"),
        ("LRANGE l 0 9", "LRANGE l 500000 500009"),
        ("LRANGE l -100 -1", "LRANGE l 500000 500099"),
        ("LTRIM l -100 -1", "LTRIM l 500000 500099"),
    ],
)
def test_what_is_far_inside_a_list_costs_the_way_there(near: str, far: str) -> None:
    database = begun()
    ask(database, "RPUSH", "l", *["x"] * 1_000_000)
    assert cost_of(database, near) <= LITTLE_UNITS < cost_of(database, far)


def test_no_words_make_a_cost_fail() -> None:
    """Words that are wrong are the command's to tell of."""
    database = filled()
    chance = random.Random(1)
    vocabulary = [
        b"l",
        b"s",
        b"z",
        b"h",
        b"text",
        b"none",
        b"0",
        b"-1",
        b"99999999999",
        b"",
        b"x",
        b"LIMIT",
        b"BY",
    ]
    vocabulary += [
        b"STORE",
        b"COUNT",
        b"LEFT",
        b"MIN",
        b"BYSCORE",
        b"(1",
        b"[a",
        b"u8",
        b"SET",
        b"#5",
        b"BIT",
        b"2",
    ]
    dear = [command for command in TABLE.values() if command.cost is not None]
    assert len(dear) > 50
    for command in dear:
        for count in range(1, 9):
            if not command.takes(count):
                continue
            for _ in range(50):
                args = [command.name.encode(), *chance.choices(vocabulary, k=count - 1)]
                assert command.cost is not None
                assert estimate(command.cost, database.keyspaces[0], args) >= 0


@pytest.mark.parametrize(
    "command",
    [
        "SETRANGE k 9223372036854775807 v",
        "SETRANGE k 67108864 v",
        "SETBIT k 99999999999 1",
        "BITFIELD k SET u8 #99999999999 1",
        "SRANDMEMBER nothing -1000000000",
        "HRANDFIELD nothing -1000000000",
        "ZRANDMEMBER nothing -1000000000",
        "SPOP nothing 1000000000",
    ],
)
def test_what_is_refused_anyway_or_finds_nothing_costs_nothing(command: str) -> None:
    """Also in a transaction, which is refused as a whole if it would cost too much."""
    database = begun()
    assert cost_of(database, command) == 0
    alone = ask(database, *split(command))
    (replies,) = transaction("SET other 1", command).execute(database)
    assert isinstance(replies, list)
    assert repr(replies[1]) == repr(alone)


def test_what_a_string_costs_does_not_depend_on_how_it_is_held() -> None:
    one, other = filled(), filled()
    for each in (one, other):
        ask(each, "SETBIT", "text", 5, 1)
    ask(other, "GET", "text")
    assert type(one.keyspaces[0].values[b"text"]) is not type(other.keyspaces[0].values[b"text"])
    for command in (
        "BITOP NOT d text",
        "SETRANGE text 2000000 x",
        "GETRANGE text 0 -1",
        "BITCOUNT text",
        "GETEX text",
        "COPY text d",
    ):
        assert cost_of(one, command) == cost_of(other, command) > 0


# The same everywhere

_CHOICES = [
    "SETRANGE k1 {n}000 x",
    "SETBIT k2 {n}0000 1",
    "BITOP NOT k3 k1",
    "SUNIONSTORE d1 s d2",
    "SDIFFSTORE d2 s d3",
    "ZUNIONSTORE d3 2 z s",
    "ZRANGESTORE d4 z 0 {n}",
    "ZPOPMIN d3 {n}",
    "SPOP d1 {n}",
    "COPY z d5 REPLACE",
    "COPY k1 k4 REPLACE",
    "GETEX k1",
    "SET k2 {n} NX GET",
    "SETBIT k4 0 1",
    "SORT s ALPHA LIMIT 0 {n} STORE d6",
    "LREM d6 0 name5",
    "BLMPOP 0 1 d6 LEFT COUNT {n}",
    "BZMPOP 0 1 d3 MAX COUNT {n}",
    "LPOP d6 {n}",
    "INCR n",
    "SWAPDB 3 4",
    "SOFA.ONCE {n} SUNIONSTORE d7 s",
    "SOFA.ONCE {n} BITCOUNT k1",
    "SOFA.ONCE {n} GET k2",
    "EVAL return(redis.call('zunionstore','d8',1,'z')) 0",
]
_READS = ["GET k1", "SMEMBERS d1", "ZRANGE z 0 -1", "BITCOUNT k1", "LRANGE d6 0 -1"]


def test_who_reads_the_log_refuses_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node reads between the writes of its clients, the others do not."""
    monkeypatch.setattr(budget, "BATCH_UNITS_MAX", 5_000)
    chance = random.Random(7)
    asked, other = filled(), filled()
    refused = {"run": 0, "transaction": 0}
    for _ in range(150):
        for each in (asked, other):
            next_batch(each)
        for _ in range(chance.randint(1, 8)):
            asked_for = [
                split(chance.choice(_CHOICES + _READS).format(n=chance.randint(0, 900)))
                for _ in range(chance.randint(1, 5))
            ]
            is_transaction = chance.random() < 0.4
            group = group_of(asked_for)
            run = Transaction([], [group]) if is_transaction else Run(*group)
            replies = run.execute(asked)
            refused["transaction" if is_transaction else "run"] += "BUSY" in map(kind_of, replies)
            if run.needs_log:
                apply(other, run.encode())
            assert asked.shared.budget.spent == other.shared.budget.spent
    assert asked.digest() == other.digest()
    assert asked.rolling == other.rolling
    assert all(count > 20 for count in refused.values()), refused
