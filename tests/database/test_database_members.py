"""What SOFA.MEMBER and SOFA.MEMBERS answer."""

from __future__ import annotations

import pytest

from database.database_commands import ask, words
from sofadb.database.database import Database
from sofadb.database.replies import OK, Reply, ReplyError
from sofadb.database.table import TABLE


@pytest.fixture
def database() -> Database:
    database = Database({"n1": "h:1", "n2": "h:2", "n3": "h:3"})
    database.begin(1, 1)
    return database


def say(database: Database, *parts: str | int) -> Reply:
    """What a node says of itself: nobody checks that as a client's."""
    try:
        reply: Reply = TABLE[b"SOFA.MEMBER"].function(database.keyspaces[0], words("SOFA.MEMBER", *parts))
    except ReplyError as problem:
        return problem
    return reply


def parts(database: Database) -> dict[bytes, bytes]:
    rows = ask(database, "SOFA.MEMBERS")
    assert isinstance(rows, list)
    return {row[0]: row[1] for row in rows}


def test_members_are_listed_with_what_they_are_and_are_to_be(database: Database) -> None:
    assert ask(database, "SOFA.MEMBERS")[0] == [b"n1", b"voter", b"n1", b"h:1", b""]
    assert ask(database, "sofa.member", "add", "n4", "h:4") == OK
    assert ask(database, "SOFA.MEMBER", "ADD", "n5", "h:5", "learner") == OK
    assert ask(database, "SOFA.MEMBER", "REPLACE", "n1", "n6", "h:6") == OK
    assert say(database, "ARRIVE", "n5~0000000a", "g:5", "g:55", 1) == OK
    assert say(database, "ARRIVE", "n4~0000000b", "h:4", "h:44", 1) == OK
    assert ask(database, "SOFA.MEMBER", "REMOVE", "n2", "FORCE") == OK
    assert parts(database) == {
        b"n1": b"voter, leaving when n6 is ready",
        b"n2": b"voter, leaving",
        b"n3": b"voter",
        b"n4": b"learner, to vote",
        b"n5": b"learner",
        b"n6": b"not arrived, to vote",
    }
    assert ask(database, "SOFA.MEMBERS")[4] == [b"n5", b"learner", b"n5~0000000a", b"g:5", b"g:55"]
    assert ask(database, "SOFA.MEMBER", "PROMOTE", "n5") == OK
    assert parts(database)[b"n5"] == b"learner, to vote"


@pytest.mark.parametrize(
    "words",
    [
        ("FROB", "n1"),
        ("ADD", "n4"),
        ("ADD", "n4", "h:4", "FORCE"),
        ("ADD", "n4", "h:4", "LEARNER", "LEARNER"),
        ("REMOVE", "n9"),
        ("REMOVE", "n1"),
        ("PROMOTE", "n1"),
        ("ARRIVE", "n9", "h:9", "h:9", 1),
        ("ARRIVE", "n1", "h:9", "h:9", "one"),
    ],
)
def test_what_cannot_be_is_an_error_and_changes_nothing(database: Database, words: tuple[str, ...]) -> None:
    before = database.digest()
    assert isinstance(say(database, *words), ReplyError)
    assert database.digest() == before


@pytest.mark.parametrize("word", ["ARRIVE", "arrive"])
def test_no_client_says_for_a_node_where_it_is_and_what_it_knows(database: Database, word: str) -> None:
    """With one command for each member it would bring the cluster to a level that no program knows."""
    before = database.digest()
    reply = ask(database, "SOFA.MEMBER", word, "n1", "h:1", "h:11", 99)
    assert isinstance(reply, ReplyError)
    assert "nodes say of themselves" in reply.text
    assert database.digest() == before
    assert say(database, word, "n1", "h:1", "h:11", 99) == OK
