"""A few words that ask for more than a node can do at once are refused, and nothing has changed."""

from __future__ import annotations

import pytest
from database_commands import ask, begun

from sofadb.database import arguments
from sofadb.database.commands import bitmaps


@pytest.mark.parametrize(
    "command",
    [
        "SINTER s s s",
        "SINTERCARD 3 s s s",
        "SINTERSTORE d s s s",
        "SUNION s s s",
        "SUNIONSTORE d s s s",
        "SDIFF s t s s s",
        "SDIFFSTORE d s t s s s",
        "ZUNION 3 z z z",
        "ZUNIONSTORE d 3 z s z",
        "ZINTER 3 z z s",
        "ZINTERSTORE d 3 z z z",
        "ZINTERCARD 3 z z z",
        "ZDIFF 3 z t z",
        "ZDIFFSTORE d 3 z t z",
        "SORT s GET # GET # GET # STORE d",
        "SORT_RO s GET # GET w_* GET #",
    ],
)
def test_a_command_goes_through_so_many_elements_at_most(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = begun()
    ask(database, "SADD", "s", *range(10))
    ask(database, "SADD", "t", "other")
    ask(database, "ZADD", "z", *(word for name in range(10) for word in (name, name)))
    ask(database, "SET", "d", "before")
    expected = ask(database, *command.replace(" d ", " e ").split())
    assert not isinstance(expected, Exception)
    before = database.digest()
    monkeypatch.setattr(arguments, "VISITS_MAX", 20)
    assert "elements" in ask(database, *command.split()).text
    assert database.digest() == before


def test_bitop_reads_so_many_bytes_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    database = begun()
    ask(database, "SET", "a", "x" * 10)
    monkeypatch.setattr(bitmaps, "SOURCES_BYTES_MAX", 30)
    assert ask(database, "BITOP", "AND", "d", "a", "a", "a") == 10
    before = database.digest()
    assert "bytes at most" in ask(database, "BITOP", "AND", "d", "a", "a", "a", "a").text
    assert database.digest() == before
