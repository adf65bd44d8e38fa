"""What SCAN and its kin are asked, and a step of those that go through one value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from .arguments import parse_integer
from .patterns import matcher
from .replies import SYNTAX, ReplyError
from .values import Named

COUNT = 10
"""How many are looked at if nobody says how many."""


MANY = 1_000
"""If more are looked at, a reply counts as large."""


class Scan(NamedTuple):
    """The options."""

    look_at: int = COUNT
    """How many."""
    matches: Callable[[bytes], object] | None = None
    """None: everything."""
    type_name: bytes | None = None


def parse_cursor(text: bytes) -> int:
    """As C's strtoul reads it: nothing is zero, a sign is taken, and what follows a zero byte is not seen."""
    text, _, _ = text.partition(b"\0")
    digits = text[1:] if text[:1] in (b"+", b"-") else text or b"0"
    if not digits.isdigit() or len(digits) > 20 or int(digits) >= 2**64:
        raise ReplyError("ERR invalid cursor")
    return int(text or b"0") % 2**64


def parse_scan(words: list[bytes], with_type: bool = False) -> Scan:
    """COUNT, MATCH and, of keys, TYPE, in any order; of several the last. Raises `ReplyError`."""
    count, matches, type_name = COUNT, None, None
    for index in range(0, len(words), 2):
        option = words[index].upper()
        if index + 1 == len(words):
            raise ReplyError(SYNTAX)
        word = words[index + 1]
        if option == b"COUNT":
            count = parse_integer(word)
            if count < 1:
                raise ReplyError(SYNTAX)
        elif option == b"MATCH":
            matches = matcher(word) if word != b"*" else None
        elif option == b"TYPE" and with_type:
            type_name = word.lower()
        else:
            raise ReplyError(SYNTAX)
    return Scan(count, matches, type_name)


def may_meet_many(args: list[bytes]) -> bool:
    """Whether HSCAN or one of its kin is to look at many elements at once."""
    try:
        return parse_scan(args[3:]).look_at > MANY
    except ReplyError:
        return False


def scan_names(value: Named, cursor: int, options: Scan) -> tuple[bytes, Iterable[int]]:
    """Where to go on, and the positions of the names that were met and match.

    A value that Redis would hold compactly is seen whole at once, as there.
    """
    positions: Iterable[int]
    if value.is_wide:
        cursor, positions = value.scan(cursor, options.look_at)
    else:
        cursor, positions = 0, range(len(value))
    names, matches = value.names, options.matches
    if matches is not None:
        positions = [position for position in positions if matches(names[position])]
    return b"%d" % cursor, positions
