"""The settings that CONFIG knows: what is so on this node, under the names that Redis has for it.

Each setting is declared once, with how to tell its value, and, if it can be changed while the node runs, how. A change holds
for this node until it ends, as in a Redis without a configuration file. Settings that cannot be otherwise here take the value
that they have: clients that make sure of it go on, and the others are told why not. Whoever adds something to be set
declares it beside that (`setting`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sofadb.database.arguments import INTEGER_MAX, parse_integer
from sofadb.database.replies import ReplyError

if TYPE_CHECKING:
    from .state import ServerState

INT_MAX = 2**31 - 1
UNSIGNED_MAX = 2**32 - 1


class Refused(ValueError):
    """Why a value cannot be had, in Redis's words where it has any."""


Parse = Callable[["ServerState", bytes], Any]
"""What a text means as a value. Raises `Refused`, and changes nothing."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting."""

    name: str
    get: Callable[[ServerState], object] | None
    """None: nobody is told."""
    parse: Parse | None = None
    put: Callable[[ServerState, Any], None] | None = None
    """Has a parsed value hold from now on."""

    @property
    def is_told(self) -> bool:
        """Whether CONFIG GET tells it."""
        return self.get is not None

    def text(self, state: ServerState) -> bytes:
        """Its value, as CONFIG GET tells it."""
        assert self.get is not None
        value = self.get(state)
        if isinstance(value, bool):
            return b"yes" if value else b"no"
        return str(value).encode(errors="surrogateescape")


SETTINGS: dict[bytes, Setting] = {}
"""By name."""


def setting(
    name: str,
    get: Callable[[ServerState], object] | None,
    parse: Parse | None = None,
    put: Callable[[ServerState, Any], None] | None = None,
) -> None:
    """Declare a setting; without `parse` and `put` one that cannot be changed while the node runs."""
    assert (parse is None) == (put is None)
    assert name.encode() not in SETTINGS, f"{name} is declared twice"
    SETTINGS[name.encode()] = Setting(name, get, parse, put)


def fixed(name: str, value: object, parse: Parse, reason: str) -> None:
    """Declare a setting that is never otherwise."""

    def parse_same(state: ServerState, text: bytes) -> object:
        if parse(state, text) != value:
            raise Refused(reason)
        return value

    setting(name, lambda state: value, parse_same, lambda state, value: None)


def change(state: ServerState, pairs: list[tuple[bytes, bytes]]) -> None:
    """Have all of these hold, or none. Raises `ReplyError`."""
    found: dict[bytes, tuple[Setting, bytes]] = {}
    for given, text in pairs:
        name, shown = given.lower(), given.decode(errors="surrogateescape")
        if name not in SETTINGS:
            raise ReplyError(f"ERR Unknown option or number of arguments for CONFIG SET - '{shown}'")
        if name in found:
            raise _failed(shown, "duplicate parameter")
        if SETTINGS[name].parse is None:
            raise _failed(shown, "can't set immutable config")
        found[name] = SETTINGS[name], text
    values: list[tuple[Setting, Any]] = []
    for each, text in found.values():
        assert each.parse is not None
        try:
            values.append((each, each.parse(state, text)))
        except Refused as problem:
            raise _failed(each.name, str(problem)) from None
    for each, value in values:
        assert each.put is not None
        each.put(state, value)


def _failed(name: str, reason: str) -> ReplyError:
    return ReplyError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")


# What texts mean


def integer(low: int = 0, high: int = INTEGER_MAX) -> Parse:
    """A number within these bounds."""

    def parse(state: ServerState, text: bytes) -> int:
        try:
            value = parse_integer(text)
        except ReplyError:
            raise Refused("argument couldn't be parsed into an integer") from None
        if not low <= value <= high:
            raise Refused(f"argument must be between {low} and {high} inclusive")
        return value

    return parse


_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1 << 10, "m": 10**6, "mb": 1 << 20, "g": 10**9, "gb": 1 << 30}


def memory(low: int = 0, high: int = INTEGER_MAX) -> Parse:
    """A number of bytes, perhaps with a unit."""

    def parse(state: ServerState, text: bytes) -> int:
        word = text.decode(errors="replace").lower()
        digits = word.rstrip("bkmg")
        if (
            not digits.isascii()
            or not digits.isdigit()
            or len(digits) > 19
            or word[len(digits) :] not in _UNITS
        ):
            raise Refused("argument must be a memory value")
        value = int(digits) * _UNITS[word[len(digits) :]]
        if not low <= value <= high:
            raise Refused(f"argument must be between {low} and {high} inclusive")
        return value

    return parse


def yes_or_no(state: ServerState, text: bytes) -> bool:
    """A switch."""
    if text.lower() not in (b"yes", b"no"):
        raise Refused("argument must be 'yes' or 'no'")
    return text.lower() == b"yes"


def one_of(*words: str) -> Parse:
    """One of these."""

    def parse(state: ServerState, text: bytes) -> str:
        word = text.decode(errors="replace").lower()
        if word not in words:
            raise Refused(f"argument(s) must be one of the following: {', '.join(words)}")
        return word

    return parse


def anything(state: ServerState, text: bytes) -> str:
    """Any text."""
    return text.decode(errors="surrogateescape")
