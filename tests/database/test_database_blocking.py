"""Commands that may wait, compared with a real Redis where they need not wait."""

from __future__ import annotations

from typing import Any

import pytest
from blocking_commands import brings, mistakes, takes
from database_commands import Words, request, run_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_redis import EXAMPLES, Both, RealRedis, said

from sofadb.database.database import Database
from sofadb.database.queues import Who
from sofadb.database.replies import Reply, ReplyError, Waits
from sofadb.database.runs import Turn
from sofadb.database.table import check

NULLS = (("array", None), ("bulk", None), ("null", None))
KEYS = (b"a", b"b", b"c", b"text", b"nowhere")


def answer(database: Database, command: Words, number: int | None) -> Reply:
    """The reply; with a number, where it may wait. It does not wait for long."""
    try:
        declared = check(command)
    except ReplyError as problem:
        return problem
    if number is None or not declared.is_blocking:
        (reply,) = run_of([command]).execute(database)
        return reply
    who = Who(b"n1/1", number)
    (reply,) = Turn(0, (declared.function, command), request(command), who).execute(database)
    database.shared.queues.leave(who)
    return reply


def what_is_there(both: Both) -> list[Any]:
    """By key: what the real one holds, and what ours does."""
    looks = [
        [name, key, *rest]
        for key in KEYS
        for name, *rest in ([b"TYPE"], [b"LRANGE", b"0", b"-1"], [b"ZRANGE", b"0", b"-1", b"WITHSCORES"])
    ]
    theirs = both.real(looks)
    assert [both.ours(look) for look in looks] == theirs
    return theirs


@given(st.lists(brings | takes | takes | mistakes, min_size=1, max_size=25), st.booleans())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_in_a_transaction_and_where_they_need_not_wait_they_answer_as_redis_does(
    real: RealRedis, commands: list[Words], resp3: bool
) -> None:
    """A real one is asked in transactions, ours also outside. There is nobody else, so what need not wait is the same in both."""
    both = Both(real, resp3)
    both([b"SET", b"text", b"x"])
    for number, command in enumerate(commands):
        _, queued, replies = real([[b"MULTI"], command, [b"EXEC"]])
        expected = queued if queued[0] == "error" else replies[1][0]
        reply = answer(both.database, command, number if number % 2 else None)
        if type(reply) is Waits:
            assert expected in NULLS, f"{command} waits; Redis {expected}"
        else:
            assert said(reply, resp3) == expected, f"{command}: Redis {expected}"
    what_is_there(both)


@pytest.mark.parametrize("resp3", [False, True])
@pytest.mark.parametrize(
    "command",
    [
        "BLPOP nowhere 0.001",
        "BRPOP nowhere 0.001",
        "BLMOVE nowhere a LEFT LEFT 0.001",
        "BRPOPLPUSH nowhere a 0.001",
        "BLMPOP 0.001 1 nowhere LEFT",
        "BZPOPMIN nowhere 0.001",
        "BZPOPMAX nowhere 0.001",
        "BZMPOP 0.001 1 nowhere MIN",
    ],
)
def test_in_vain_they_are_answered_as_redis_does(real: RealRedis, command: str, resp3: bool) -> None:
    words = command.encode().split()
    both = Both(real, resp3)
    (expected,) = real([words])
    turn = Turn(0, (check(words).function, words), request(words), Who(b"n1/1", 1))
    (reply,) = turn.execute(both.database)
    assert isinstance(reply, Waits)
    assert reply.wait_ms == 1
    assert said(reply.reply, resp3) == expected


def test_what_a_waiter_does_not_mind_is_an_error_for_everybody_else_whoever_waited_before() -> None:
    databases = [Database(), Database()]
    for database in databases:
        database.begin(1, 1)
        run_of([[b"SET", b"s", b"a string"], [b"RPUSH", b"l", b"element"]]).execute(database)
    command = [b"BLPOP", b"none", b"0"]
    turn = Turn(0, (check(command).function, command), request(command), Who(b"n1/1", 1), has_waited=True)
    turn.execute(databases[0])  # The other one comes from an image.
    replies = [run_of([[b"BLPOP", b"s", b"l", b"0"]]).execute(database) for database in databases]
    assert replies[0] == replies[1]
    assert "WRONGTYPE" in replies[0][0].text
