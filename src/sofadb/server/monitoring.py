"""MONITOR: a client watches what the clients of its node ask.

It is told of each command when the node begins it, a line for each. Commands that only administer are left out, and so are
those that are refused at once; who gives a password is seen without it. What a script calls is not told.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sofadb.database.replies import OK, Reply, ReplyError
from sofadb.database.table import Command, Route, check, command

if TYPE_CHECKING:
    from .connection import Connection

_NAMES = {ord("\\"): "\\\\", ord('"'): '\\"', 10: "\\n", 13: "\\r", 9: "\\t", 7: "\\a", 8: "\\b"}
_TEXTS = [_NAMES.get(byte, chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in range(256)]
_PASSWORD_FOLLOWS = {"auth": 1, "hello": 2}
"""How many words are told of commands that may hold a password."""


class Monitors:
    """Who watches a node's clients."""

    __slots__ = ("connections",)

    def __init__(self) -> None:
        self.connections: dict[Connection, None] = {}

    def __bool__(self) -> bool:
        return bool(self.connections)

    def __contains__(self, connection: Connection) -> bool:
        return connection in self.connections

    def add(self, connection: Connection) -> None:
        """Let it watch."""
        self.connections[connection] = None

    def forget(self, connection: Connection) -> None:
        """Let it watch no more, if it did."""
        self.connections.pop(connection, None)

    def tell(self, client: Connection, database: int, requests: Sequence[list[bytes]]) -> None:
        """A client's commands are begun in a database: tell all who watch."""
        lines = "".join(line for args in requests if (line := _line(client, database, args)))
        if lines:
            for connection in tuple(self.connections):
                connection.push(lines.encode())


def _line(client: Connection, database: int, args: list[bytes]) -> str:
    try:
        asked = check(args)
    except ReplyError:
        return ""
    if "admin" in asked.flags or (client.is_stranger and "no_auth" not in asked.flags):
        return ""
    words = " ".join(f'"{"".join(_TEXTS[byte] for byte in word)}"' for word in _shown(asked, args))
    return f"+{time.time():.6f} [{database} {client.address}] {words}\r\n"


def _shown(asked: Command, args: list[bytes]) -> list[bytes]:
    shown = _PASSWORD_FOLLOWS.get(asked.name, len(args))
    return args[:shown] + [b"(redacted)"] * (len(args) - shown)


@command(
    "monitor",
    1,
    Route.CONNECTION,
    "admin noscript loading stale",
    group="server",
    summary="Watch what all clients of this node ask",
    dangerous=True,
    differs="What scripts call is not shown; each node shows its own clients",
)
def monitor(connection: Connection, args: list[bytes]) -> Reply:
    connection.state.short_way.close()
    connection.state.monitors.add(connection)
    return OK
