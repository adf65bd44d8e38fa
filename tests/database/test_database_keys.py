"""Where keys stand among the words of a command. (What Redis has, too, is compared with it in tests/server.)"""

from __future__ import annotations

import pytest

from sofadb.database.keys import KeySpec, find_keys, specs_of
from sofadb.database.runs import commands as commands  # Fills the table.
from sofadb.database.table import TABLE, Command, find


def found(text: str) -> list[tuple[str, str]]:
    words = [word.encode() for word in text.split()]
    command = find(words)
    assert command is not None
    return [(words[position].decode(), use) for position, use in find_keys(command, words)]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("SOFA.ONCE id SET a 1", [("a", "OW update")]),
        ("SOFA.ONCE id RENAME a b", [("a", "RW access delete"), ("b", "OW update")]),
        ("SOFA.FENCED name 7 MSET a 1 b 2", [("a", "OW update"), ("b", "OW update")]),
        ("SOFA.FENCED name 7 PING", []),
        ("SOFA.ONCE id nosuch a", []),
        ("SOFA.ONCE id SOFA.FENCED name 7 GET a", [("a", "RO access")]),
    ],
)
def test_a_command_has_the_keys_of_the_command_in_its_words(text: str, keys: list[tuple[str, str]]) -> None:
    assert found(text) == keys


def declared() -> list[Command]:
    return [each for command in TABLE.values() for each in (command, *command.subcommands.values())]


@pytest.mark.parametrize("command", declared(), ids=lambda command: command.name)
def test_no_command_of_any_length_finds_keys_beyond_its_words(command: Command) -> None:
    for length in range(abs(command.arity), 9):
        for word in (b"1", b"9", b"x", b"GET", b"STORE", b"KEYS"):
            words = [*command.name.encode().split(b"|"), *[word] * length][:length]
            if command.takes(len(words)):
                assert all(0 < position < len(words) for position, _ in find_keys(command, words))


@pytest.mark.parametrize("command", declared(), ids=lambda command: command.name)
def test_commands_whose_keys_may_stand_anywhere_say_how_to_find_them(command: Command) -> None:
    if "movablekeys" in command.flags:
        assert command.find_keys or command.counted_keys or command.name == "sort_ro"


def test_a_number_of_keys_that_cannot_be_means_none() -> None:
    spec = KeySpec(("RO",), 1, is_counted=True)
    assert list(spec.positions([b"CMD", b"2", b"a", b"b", b"c"])) == [2, 3]
    for words in (
        [b"CMD", b"3", b"a"],
        [b"CMD", b"0", b"a"],
        [b"CMD", b"-1", b"a"],
        [b"CMD", b"\xb2"],
        [b"CMD"],
    ):
        assert not spec.positions(words)


def test_uses_are_those_of_the_first_keys_and_of_the_rest() -> None:
    command = Command(
        "x", -2, next(iter(TABLE.values())).route, print, (), (1, -1, 1), key_use="OW update, RO access"
    )
    assert specs_of(command) == [KeySpec(("OW", "update"), 1), KeySpec(("RO", "access"), 2, -1)]
