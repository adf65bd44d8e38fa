"""Sets, compared with a real Redis; and what random commands do not show."""

from __future__ import annotations

import pytest
from database_commands import Words, ask, begun
from hypothesis import given, settings
from hypothesis import strategies as st
from real_events import events_of_both
from real_redis import EXAMPLES, SETTINGS, Both, RealRedis, Said, in_order, loaded, met_by_scans
from set_commands import KEYS, MEMBERS, mistakes, reads, writes

from sofadb.database.arguments import PICKS_MAX
from sofadb.database.replies import ReplyError, Unordered
from sofadb.database.table import check
from sofadb.database.values import SET_NUMBERS_MAX

SETUP = [[b"HSET", b"h", b"f", b"v"], [b"SET", b"string", b"1"]]

TOO_MANY = ReplyError(f"ERR value is out of range, at most {PICKS_MAX} are picked with repetitions")

commands = st.lists(writes | writes | reads | mistakes, min_size=1, max_size=25)


def same(command: Words, theirs: Said, ours: Said, both: Both, before: list[Said]) -> bool:
    """Whether two replies to `command` say the same; `before` was in the set that it is about."""
    name = command[0].upper()
    if not (
        isinstance(theirs, tuple)
        and isinstance(ours, tuple)
        and theirs[0] == ours[0] in ("array", "set", "bulk")
    ):
        return theirs == ours
    if name == b"SSCAN" and not both.scans_whole(command[1]):
        # What is met, and when, is everybody's own.
        return [kind for kind, _ in ours[1]] == ["bulk", "array"]
    if name in (b"SMEMBERS", b"SINTER", b"SUNION", b"SDIFF", b"SSCAN"):
        return in_order(command, theirs, width=1) == in_order(command, ours, width=1)
    if name in (b"SPOP", b"SRANDMEMBER"):
        if theirs[0] == "bulk":
            return theirs == ours if not before else ours in before and theirs in before
        may_repeat = name == b"SRANDMEMBER" and int(command[2]) < 0
        is_distinct = may_repeat or len({*ours[1]}) == len(ours[1])
        return (
            (ours[0], len(ours[1])) == (theirs[0], len(theirs[1])) and is_distinct and {*ours[1]} <= {*before}
        )
    return theirs == ours


def make_up(both: Both, key: bytes, theirs: Said, ours: Said) -> None:
    """Let the database be as if SPOP had picked `theirs`."""
    popped, instead = ([reply] if reply[0] == "bulk" else reply[1] for reply in (ours, theirs))
    if popped != instead:
        both.ours([b"SADD", key, *(name for _, name in popped)])
        both.ours([b"SREM", key, *(name for _, name in instead)])


@given(commands, st.booleans())
@settings(max_examples=EXAMPLES, **SETTINGS)
def test_random_commands_get_the_same_replies(real: RealRedis, commands: list[Words], resp3: bool) -> None:
    both = Both(real, resp3)
    for command in SETUP:
        both(command)
    has_popped = False
    for command, expected in zip(commands, real(commands), strict=True):
        _, before = both.ours([b"SMEMBERS", command[1]]) if len(command) > 1 else (None, [])
        if command[0].upper() == b"OBJECT" and has_popped:
            continue  # What is left of a set was picked by chance; it may be all numbers.
        actual = both.ours(command)
        assert same(command, expected, actual, both, before), f"{command}: Redis {expected}, here {actual}"
        if command[0].upper() == b"SPOP" and expected[0] != "error" and expected[1] is not None:
            make_up(both, command[1], expected, actual)
            has_popped = True
    for key in KEYS:
        for command in ([b"SMEMBERS", key], [b"TYPE", key]):
            expected, actual = both(command)
            assert same(command, expected, actual, both, []), f"{command}: Redis {expected}, here {actual}"


@given(commands)
@settings(max_examples=EXAMPLES // 5, **SETTINGS)
def test_the_same_events_come_in_the_same_order(
    real: RealRedis, listener: RealRedis, commands: list[Words]
) -> None:
    both = Both(real)
    for command in SETUP:
        both(command)
    mine = [each for each in commands if each[0].upper().startswith(b"S") and each[0].upper() != b"SPOP"]
    theirs, ours = events_of_both(both, listener, mine)
    assert ours == theirs


@pytest.mark.parametrize("count", [[], [b"0"], [b"1"], [b"5"], [b"6"], [b"7"], [b"8"], [b"x"]])
def test_spop_gives_the_same_events(real: RealRedis, listener: RealRedis, count: Words) -> None:
    both = Both(real)
    both([b"SADD", b"s", *b"1 2 3 4 5 6 7".split()])
    theirs, ours = events_of_both(both, listener, [[b"SPOP", b"s", *count], [b"SPOP", b"nowhere", *count]])
    assert ours == theirs


@given(st.lists(writes, min_size=1, max_size=25))
@settings(max_examples=EXAMPLES // 5, **SETTINGS)
def test_replicas_agree_and_an_image_has_everything(commands: list[Words]) -> None:
    one, other = begun(), begun()
    for database in (one, other):
        for command in [*SETUP, *commands]:
            ask(database, *command)
    assert one.digest() == other.digest() == loaded(one).digest()
    assert one.rolling == other.rolling


def test_a_replica_that_was_loaded_from_an_image_pops_the_same() -> None:
    one = begun()
    ask(one, "SADD", "s", *range(1_000))
    other = loaded(one)
    for database in (one, other):
        database.begin(2, database.time)
    for count in (1, 10, 900):
        assert ask(one, "SPOP", "s", count) == ask(other, "SPOP", "s", count)
    assert one.digest() == other.digest()


@pytest.mark.parametrize("count", [1, 10, 799, 800, 834, 999, 1_000, 2_000])
def test_what_is_popped_is_gone_and_the_rest_stays(count: int) -> None:
    database = begun()
    members = {b"%d" % number for number in range(1_000)}
    ask(database, "SADD", "s", *sorted(members))
    ask(database, "EXPIRE", "s", 100)
    popped = ask(database, "SPOP", "s", count)
    assert isinstance(popped, Unordered)
    assert len({*popped}) == len(popped) == min(count, 1_000)
    left = ask(database, "SMEMBERS", "s")
    assert {*popped}.isdisjoint(left)
    assert {*popped, *left} == members
    assert ask(database, "TTL", "s") == (100 if left else -2)
    value = database.keyspaces[0].find(b"s")
    assert value is None or value.bytes == sum(map(len, left))


def test_every_member_is_picked_now_and_then() -> None:
    database = begun()
    popped = set()
    for _ in range(300):
        ask(database, "SADD", "s", *MEMBERS)
        popped.add(ask(database, "SPOP", "s"))
    ask(database, "SADD", "s", *MEMBERS)
    assert popped == {*MEMBERS}
    assert {ask(database, "SRANDMEMBER", "s") for _ in range(300)} == {*MEMBERS}
    together = {tuple(ask(database, "SRANDMEMBER", "s", 2)) for _ in range(2_000)}
    assert len(together) == len(MEMBERS) * (len(MEMBERS) - 1)


def test_a_large_set_is_met_whole_by_scans(real: RealRedis) -> None:
    both = Both(real)
    for number in range(SET_NUMBERS_MAX + 1):
        both([b"SADD", b"s", b"%d" % number])
        encodings = both([b"OBJECT", b"ENCODING", b"s"])
        assert encodings[0] == encodings[1]
    assert encodings[0] == ("bulk", b"hashtable")
    for options in ([], [b"COUNT", b"100"], [b"MATCH", b"*7*"], [b"COUNT", b"1", b"MATCH", b"5?"]):
        theirs, ours = (met_by_scans(each, b"SSCAN", b"s", options, 1) for each in both.each())
        assert sorted(ours) == sorted(set(theirs))


def test_as_many_members_as_one_likes_are_picked_but_not_more_than_the_limit() -> None:
    database = begun()
    ask(database, "SADD", "s", "a")
    assert ask(database, "SRANDMEMBER", "s", -PICKS_MAX) == [b"a"] * PICKS_MAX
    assert ask(database, "SRANDMEMBER", "s", -PICKS_MAX - 1) == TOO_MANY


@pytest.mark.parametrize("others", [1, 3, 60])
def test_differences_of_large_sets_are_the_same_in_either_way(others: int) -> None:
    database = begun()
    ask(database, "SADD", "first", *range(2_000))
    names = [b"other %d" % number for number in range(others)]
    for number, name in enumerate(names):
        ask(database, "SADD", name, *range(number, 2_000, 61))
    expected = [b"%d" % number for number in range(2_000) if number % 61 >= others]
    assert ask(database, "SDIFF", "first", *names) == expected
    assert ask(database, "SDIFFSTORE", "to", "first", *names) == len(expected)
    assert ask(database, "SMEMBERS", "to") == expected


@pytest.mark.parametrize(
    ("command", "is_large"),
    [
        *(("SPOP s", False), ("SPOP s 999", False), ("SPOP s 1000", True), ("SPOP s", False)),
        *(("SRANDMEMBER s", False), ("SRANDMEMBER s 999", False), ("HRANDFIELD s -1000 WITHVALUES", True)),
        *(("SSCAN s 0", False), ("SSCAN s 0 COUNT 1000", False), ("SSCAN s 0 COUNT 1001", True)),
        *(("HSCAN s 0 MATCH x COUNT 1001", True), ("HSCAN s 0 COUNT", False), ("SMEMBERS s", True)),
    ],
)
def test_a_reply_is_large_if_much_is_asked_for(command: str, is_large: bool) -> None:
    args = command.encode().split()
    assert check(args).replies_large(args) is is_large


def test_many_names_of_one_set_cost_no_depth() -> None:
    database = begun()
    ask(database, "SADD", "s", *range(3))
    for name in ("SINTER", "SUNION"):
        assert len(ask(database, name, *["s"] * 50_000)) == 3
    assert ask(database, "SDIFF", *["s"] * 50_000) == []


def test_what_changes_nothing_is_no_change() -> None:
    database = begun()
    ask(database, "SADD", "s", "a", "b")
    before = (database.rolling, database.keyspaces[0].changes, database.digest())
    for command in ("SADD s a b", "SREM s c", "SREM nowhere a", "SMOVE s s a", "SMOVE s t c", "SPOP s 0"):
        ask(database, *command.split())
    ask(database, "SINTERSTORE", "nowhere", "s", "none")
    assert (database.rolling, database.keyspaces[0].changes, database.digest()) == before


def test_a_reply_is_what_there_was_when_it_was_asked_for() -> None:
    database = begun()
    ask(database, "SADD", "s", "a", "b")
    replies = [ask(database, name, "s") for name in ("SMEMBERS", "SINTER", "SUNION", "SDIFF")]
    ask(database, "SREM", "s", "a")
    assert replies == [[b"a", b"b"]] * 4
