"""The same commands to a real Redis and to the database, with the same time: the same replies, kinds and errors to the letter.

Times that count from now are large and compared roughly, since the real one's clock moves on.
"""

from __future__ import annotations

from typing import Any

from database_commands import Words, a_list, mistakes, reads, writes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_redis import EXAMPLES, Both, RealRedis

from sofadb.database import database as databases
from sofadb.database.table import TABLE, Command

ROUGHLY_MS = 20_000


def same(command: Words, theirs: Any, ours: Any, present: list[bytes]) -> bool:
    """Whether two replies to `command` say the same."""
    name = command[0].upper()
    if name in (b"TTL", b"EXPIRETIME", b"PTTL", b"PEXPIRETIME") and isinstance(theirs, int) and theirs > 0:
        return abs(theirs - ours) <= ROUGHLY_MS and ours > 0
    if name == b"RANDOMKEY":
        return ours == theirs == ("bulk", None) or ours[1] in present
    if name == b"KEYS" and theirs[0] == "array":
        return sorted(theirs[1]) == sorted(ours[1])
    if name == b"SCAN" and theirs[0] == "array" and command[1] != b"0":
        return ours[0] == theirs[0]  # A cursor that neither has given means nothing.
    if name == b"SCAN" and theirs[0] == "array":
        return theirs[1][0] == ours[1][0] and sorted(theirs[1][1][1]) == sorted(ours[1][1][1])
    if name == b"TIME":
        return ours[0] == theirs[0]
    if name == b"DBSIZE" and isinstance(theirs, int):
        return ours <= theirs  # Redis counts what has expired until it comes upon it.
    return theirs == ours


@given(st.lists(writes | writes | reads | mistakes, min_size=1, max_size=25))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_random_commands_get_the_same_replies(real: RealRedis, commands: list[Words]) -> None:
    both = Both(real)
    real([[b"RPUSH", b"list", b"x"]])
    keyspace = both.database.keyspaces[0]
    keyspace.set(b"list", a_list(b"x"))
    theirs = real(commands)
    for command, expected in zip(commands, theirs, strict=True):
        present = list(keyspace.visible())
        actual = both.ours(command)
        assert same(command, expected, actual, present), f"{command}: Redis {expected}, here {actual}"
    # What is left behind is the same, too.
    for key in [b"a", b"b", b"c", b"key:1", b"", b"list"]:
        for name in (b"TYPE", b"GET", b"PTTL"):
            expected, actual = both([name, key])
            assert same([name], expected, actual, []), f"{name!r} {key!r}"


def declared() -> list[Command]:
    """All commands that the database itself declares."""
    ours = [
        each
        for command in TABLE.values()
        for each in (command, *command.subcommands.values())
        if each.function.__module__.startswith(databases.__package__ or "") and each.group != "sofa"
    ]
    assert len(ours) > 45
    return ours


def test_declarations_are_those_of_redis(real: RealRedis) -> None:
    for command in declared():
        name = command.name.encode()
        ((_, (info,)), (_, docs)) = real([[b"COMMAND", b"INFO", name], [b"COMMAND", b"DOCS", name]])
        actual_name, arity, flags, first, last, step, categories, *_ = info[1]
        assert actual_name == ("bulk", name)
        assert (command.arity, *command.keys) == (arity, first, last, step), command.name
        assert sorted(command.flags) == sorted(flag.decode() for _, flag in flags[1]), command.name
        assert [f"@{each}".encode() for each in command.categories] == [it for _, it in categories[1]], (
            command.name
        )
        fields = docs[1][1]
        facts = {name: value for (_, name), value in zip(fields[::2], fields[1::2], strict=True)}
        assert ("bulk", command.since.encode()) == facts[b"since"], command.name
        assert ("bulk", command.group.encode()) == facts[b"group"], command.name
