"""What happens to keys, for who subscribes to it (Redis's manual, "Keyspace notifications").

Events are no part of the state: a replica on which nobody wants them makes none. Classes are bits, named by the letters of
`notify-keyspace-events`. Those that are said of a read, of an eviction or by a module are known by name, and never happen.
"""

from __future__ import annotations

from typing import NamedTuple

GENERIC, STRING, LIST, SET, HASH, SORTED_SET, EXPIRED, NEW, STREAM, EVICTED, MODULE, MISSED = (
    1 << bit for bit in range(12)
)

LETTERS = {
    "g": GENERIC,
    "$": STRING,
    "l": LIST,
    "s": SET,
    "h": HASH,
    "z": SORTED_SET,
    "x": EXPIRED,
    "e": EVICTED,
    "t": STREAM,
    "d": MODULE,
    "n": NEW,
    "m": MISSED,
}
"""In the order in which Redis tells them."""
EVENTS_MAX = 1_000_000
"""Of so many events of a batch a node tells; of more it does not."""


class Event(NamedTuple):
    """Something happened to a key."""

    class_: int
    name: bytes
    """As Redis names it, such as `lpush`."""
    database: int
    key: bytes
