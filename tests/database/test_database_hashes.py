"""Hashes, compared with a real Redis; and what random commands do not show."""

from __future__ import annotations

from typing import Any

from database_commands import Words, ask, begun
from hash_commands import FIELDS, KEYS, mistakes, reads, writes
from hypothesis import given, settings
from hypothesis import strategies as st
from real_events import events_of_both
from real_redis import EXAMPLES, SETTINGS, Both, RealRedis, Said, in_order, loaded, met_by_scans

from sofadb.database.arguments import PICKS_MAX
from sofadb.database.replies import Pairs, ReplyError
from sofadb.database.values import HASH_NARROW_MAX

SETUP = [[b"SADD", b"s", b"f"], [b"SET", b"string", b"1"]]

TOO_MANY = ReplyError(f"ERR value is out of range, at most {PICKS_MAX} are picked with repetitions")

commands = st.lists(writes | writes | reads | mistakes, min_size=1, max_size=25)


def same(command: Words, theirs: Said, ours: Said, both: Both) -> bool:
    """Whether two replies to `command` say the same."""
    name = command[0].upper()
    if not (
        isinstance(theirs, tuple)
        and isinstance(ours, tuple)
        and theirs[0] == ours[0] in ("array", "map", "bulk")
    ):
        return theirs == ours
    if name == b"HSCAN" and not both.scans_whole(command[1]):
        # What is met, and when, is everybody's own.
        return [kind for kind, _ in ours[1]] == ["bulk", "array"]
    if name in (b"HGETALL", b"HKEYS", b"HVALS", b"HSCAN"):
        return in_order(command, theirs, width=2) == in_order(command, ours, width=2)
    if name == b"HRANDFIELD":
        return picked_alike(command, theirs, ours, both)
    return theirs == ours


def picked_alike(command: Words, theirs: Said, ours: Said, both: Both) -> bool:
    """Whether `ours` has the form of `theirs`, and consists of what there is."""
    (_, flat) = both.ours([b"HGETALL", command[1]])
    pairs = list(zip(flat[::2], flat[1::2], strict=True)) if flat else []
    names = [name for name, _ in pairs]
    if len(command) == 2:
        return theirs == ours if not names else ours in names and theirs in names
    if len(command) == 3:
        known, picks = names, ours[1]
    elif both.resp3:
        known, picks = pairs, [tuple(pair) for _, pair in ours[1]]
    else:
        known, picks = pairs, list(zip(ours[1][::2], ours[1][1::2], strict=True))
    is_distinct = int(command[2]) < 0 or len({*picks}) == len(picks)
    return (ours[0], len(ours[1])) == (theirs[0], len(theirs[1])) and is_distinct and {*picks} <= {*known}


@given(commands, st.booleans())
@settings(max_examples=EXAMPLES, **SETTINGS)
def test_random_commands_get_the_same_replies(real: RealRedis, commands: list[Words], resp3: bool) -> None:
    both = Both(real, resp3)
    for command in SETUP:
        both(command)
    for command, expected in zip(commands, real(commands), strict=True):
        actual = both.ours(command)
        assert same(command, expected, actual, both), f"{command}: Redis {expected}, here {actual}"
    for key in KEYS:
        for command in ([b"HGETALL", key], [b"TYPE", key], [b"OBJECT", b"ENCODING", key]):
            expected, actual = both(command)
            assert same(command, expected, actual, both), f"{command}: Redis {expected}, here {actual}"


@given(commands)
@settings(max_examples=EXAMPLES // 5, **SETTINGS)
def test_the_same_events_come_in_the_same_order(
    real: RealRedis, listener: RealRedis, commands: list[Words]
) -> None:
    both = Both(real)
    for command in SETUP:
        both(command)
    mine = [each for each in commands if each[0].upper().startswith(b"H")]
    theirs, ours = events_of_both(both, listener, mine)
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


def test_a_large_hash_is_met_whole_by_scans(real: RealRedis) -> None:
    both = Both(real)
    for at in range(HASH_NARROW_MAX + 1):
        assert both([b"OBJECT", b"ENCODING", b"h"])[0] == both.ours([b"OBJECT", b"ENCODING", b"h"])
        both([b"HSET", b"h", b"%d" % at, b"v%d" % at])
    assert both([b"OBJECT", b"ENCODING", b"h"]) == (("bulk", b"hashtable"), ("bulk", b"hashtable"))
    for options in ([], [b"COUNT", b"100"], [b"MATCH", b"*7*"], [b"COUNT", b"1", b"MATCH", b"5?"]):
        theirs, ours = (met_by_scans(each, b"HSCAN", b"h", options, 2) for each in both.each())
        assert sorted(ours) == sorted(set(theirs))
    assert ask(both.database, "HSCAN", "h", 2**64 - 1, "COUNT", 10)[0] == b"503"


def test_as_many_fields_as_one_likes_are_picked_but_not_more_than_the_limit() -> None:
    database = begun()
    ask(database, "HSET", "h", "f", "v")
    assert ask(database, "HRANDFIELD", "h", -PICKS_MAX) == [b"f"] * PICKS_MAX
    assert ask(database, "HRANDFIELD", "h", -3, "WITHVALUES") == Pairs([b"f", b"v"] * 3)
    assert ask(database, "HRANDFIELD", "h", -PICKS_MAX - 1) == TOO_MANY


def test_every_field_is_picked_now_and_then() -> None:
    database = begun()
    for field in FIELDS:
        ask(database, "HSET", "h", field, "v")
    alone = {ask(database, "HRANDFIELD", "h") for _ in range(200)}
    together = {tuple(ask(database, "HRANDFIELD", "h", 2)) for _ in range(1_000)}
    assert alone == {*FIELDS}
    assert len(together) == len(FIELDS) * (len(FIELDS) - 1)


def test_what_changes_nothing_is_no_change() -> None:
    database = begun()
    ask(database, "HSET", "h", "f", "v", "n", "x")
    before: Any = (database.rolling, database.keyspaces[0].changes, database.digest())
    for command in ("HSETNX h f w", "HDEL h g", "HDEL nowhere f", "HINCRBY h n 1", "HINCRBYFLOAT h n 1"):
        ask(database, *command.split())
    ask(database, "HSET", "h", "f", "v", "n")
    ask(database, "HINCRBY", "h", "new", "x")
    assert (database.rolling, database.keyspaces[0].changes, database.digest()) == before


def test_a_reply_is_what_there_was_when_it_was_asked_for() -> None:
    database = begun()
    ask(database, "HSET", "h", "f", "v", "g", "w")
    replies = [ask(database, name, "h") for name in ("HKEYS", "HVALS", "HGETALL")]
    ask(database, "HDEL", "h", "f")
    assert replies == [[b"f", b"g"], [b"v", b"w"], {b"f": b"v", b"g": b"w"}]
