"""For tests that compare keyspace notifications with those of a real Redis."""

from __future__ import annotations

from database_commands import Words
from real_redis import Both, RealRedis, read

from sofadb.database.events import LETTERS, NEW

_PREFIX = b"__keyevent@0__:"


def events_of_both(
    both: Both, listener: RealRedis, commands: list[Words], classes: bytes = b"EA"
) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
    """Which events (name and key) the commands lead to in database 0, those of the real Redis first.

    The listener is another connection to it, used for nothing else.
    """
    listener([[b"PSUBSCRIBE", _PREFIX + b"*", b"end"]])
    read(listener.stream)
    both.real([[b"CONFIG", b"SET", b"notify-keyspace-events", classes]])
    both.real(commands)
    both.real([[b"CONFIG", b"SET", b"notify-keyspace-events", b""], [b"PUBLISH", b"end", b"x"]])
    theirs: list[tuple[bytes, bytes]] = []
    while True:
        _, (_, _, (_, channel), (_, key)) = read(listener.stream)
        if channel == b"end":
            break
        theirs.append((channel.removeprefix(_PREFIX), key))
    listener([[b"PUNSUBSCRIBE", _PREFIX + b"*"], [b"PUNSUBSCRIBE", b"end"]])
    shared = both.database.shared
    shared.wanted_events = sum(bit for bit in LETTERS.values() if bit != NEW or b"n" in classes)
    for command in commands:
        both.ours(command)
    shared.wanted_events = 0
    return theirs, [(event.name, event.key) for event in shared.events if event.database == 0]
