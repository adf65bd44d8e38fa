"""What happens to keys, for who subscribes to it (Redis's manual, "Keyspace notifications").

Events are no part of the state: a replica on which nobody wants them makes none. Classes are bits, named by the letters of
`notify-keyspace-events`.
"""

from __future__ import annotations

from typing import NamedTuple

GENERIC, STRING, LIST, SET, HASH, SORTED_SET, EXPIRED, NEW, STREAM = (1 << bit for bit in range(9))

LETTERS = {
    "g": GENERIC,
    "$": STRING,
    "l": LIST,
    "s": SET,
    "h": HASH,
    "z": SORTED_SET,
    "x": EXPIRED,
    "n": NEW,
    "t": STREAM,
}


class Event(NamedTuple):
    """Something happened to a key."""

    class_: int
    name: bytes
    """As Redis names it, such as `lpush`."""
    database: int
    key: bytes
