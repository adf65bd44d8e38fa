"""Messages: every replica executes them, in the one order; what is told is no part of the state."""

from __future__ import annotations

import pytest
from database_commands import begun, request, run_of
from real_redis import loaded

from sofadb.database import messages
from sofadb.database.database import Database
from sofadb.database.messages import Message
from sofadb.database.replies import ReplyError
from sofadb.database.runs import Run, apply


def test_every_replica_tells_the_same_in_the_same_order() -> None:
    told: list[list[Message]] = [[], []]
    databases = [begun(), begun()]
    for database, heard in zip(databases, told, strict=True):
        database.shared.messages.tell = lambda message, heard=heard: heard.append(message) or len(heard)
    commands = [[b"PUBLISH", b"a", b"1"], [b"SPUBLISH", b"a", b"2"], [b"PUBLISH", b"b", b""]]
    assert run_of(commands).execute(databases[0]) == [1, 2, 3]
    apply(databases[1], Run(0, [], b"".join(map(request, commands))).encode())
    assert told[0] == told[1] == [Message(b"a", b"1"), Message(b"a", b"2", True), Message(b"b", b"")]
    assert databases[0].rolling == databases[1].rolling


def test_where_nobody_listens_nobody_hears() -> None:
    assert run_of([[b"PUBLISH", b"a", b"1"]]).execute(begun()) == [0]


@pytest.mark.parametrize(
    "other", [[b"PUBLISH", b"a", b"2"], [b"PUBLISH", b"b", b"1"], [b"SPUBLISH", b"a", b"1"], [b"PING"]]
)
def test_replicas_that_said_something_else_differ(other: list[bytes]) -> None:
    one, two = begun(), begun()
    run_of([[b"PUBLISH", b"a", b"1"]]).execute(one)
    if other != [b"PING"]:
        run_of([other]).execute(two)
    assert one.rolling != two.rolling


def test_a_message_leaves_nothing_behind_in_the_state() -> None:
    database, silent = begun(), begun()
    run_of([[b"PUBLISH", b"a", b"1"]]).execute(database)
    assert database.keyspaces[0].changes == silent.keyspaces[0].changes
    assert loaded(database).digest() == database.digest()


def test_what_a_batch_publishes_is_bounded_on_every_replica_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "PUBLISHED_BYTES_MAX", 200)
    database, replica = begun(), begun()
    command = [b"PUBLISH", b"a", b"x" * 50]
    replies = run_of([command, command]).execute(database)
    assert replies == [0, ReplyError("ERR more than 200 bytes are published in one go")]
    apply(replica, Run(0, [], request(command) * 2).encode())
    assert database.rolling == replica.rolling
    database.begin(database.instance + 1, database.time)
    assert run_of([command]).execute(database) == [0]


def test_another_state_goes_on_for_the_same_clients() -> None:
    database = begun()
    database.shared.messages.tell = lambda message: 7
    database.shared.wanted_events = 3
    restored = Database()
    restored.shared.go_on_for(database.shared)
    assert restored.shared.messages.publish(Message(b"a", b"1")) == 7
    assert restored.shared.wanted_events == 3
