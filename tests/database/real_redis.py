"""For tests that compare with a real Redis: the same commands to it and to a database, and what both said in the same form."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO

from database_commands import Words, begun, request, run_of
from hypothesis import HealthCheck

from sofadb.database.database import Database
from sofadb.database.loader import Loader
from sofadb.database.replies import Reply
from sofadb.database.values import Named
from sofadb.server.encoding import encode

EXAMPLES = int(os.environ.get("SOFADB_EXAMPLES", "500"))
SETTINGS: Any = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "database": None,
}
"""Of a test that compares random commands."""

Said = Any
"""A reply whose kind is to be seen: ("status", text), ("error", text), ("bulk", bytes), ("array", [..]), ("set", [..]),
("map", [key, value, ..]), ("double", text), ("boolean", text), ("null", None), or an integer."""


def read(stream: BinaryIO) -> Said:
    """The next reply of a stream, in RESP2 or RESP3."""
    line = stream.readline()[:-2]
    kind, rest = line[:1], line[1:]
    if kind == b":":
        return int(rest)
    if kind == b"_":
        return ("null", None)
    if kind in b"$=":
        return ("bulk", None if rest == b"-1" else stream.read(int(rest) + 2)[:-2])
    if kind == b"%":
        return ("map", [read(stream) for _ in range(2 * int(rest))])
    if kind in b"*~>":
        name = {b"*": "array", b"~": "set", b">": "push"}[kind]
        return (name, None if rest == b"-1" else [read(stream) for _ in range(int(rest))])
    return ({b"+": "status", b"-": "error", b",": "double", b"#": "boolean"}[kind], rest)


def said(reply: Reply, resp3: bool = False) -> Said:
    """A reply of ours, as a client reads it."""
    encoded = encode([reply], resp3)
    stream = BytesIO(encoded if isinstance(encoded, bytes) else b"".join(encoded))
    result = read(stream)
    assert not stream.read(), f"there is more than one reply: {reply!r}"
    return result


class RealRedis:
    """A connection to a real one."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")

    def __call__(self, commands: list[Words]) -> list[Said]:
        self.socket.sendall(b"".join(map(request, commands)))
        return [read(self.stream) for _ in commands]

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


class Both:
    """A real Redis and a database of ours, both empty at first and agreed on the time."""

    def __init__(self, real: RealRedis, resp3: bool = False) -> None:
        self.real = real
        self.resp3 = resp3
        _, _, (_, time) = real([[b"FLUSHALL"], [b"HELLO", b"3" if resp3 else b"2"], [b"TIME"]])
        self.database: Database = begun(int(time[0][1]) * 1000 + int(time[1][1]) // 1000)

    def ours(self, command: Words) -> Said:
        """What the database says to a command."""
        (reply,) = run_of([command]).execute(self.database)
        return said(reply, self.resp3)

    def __call__(self, command: Words) -> tuple[Said, Said]:
        """What they say to a command, the real one first."""
        (theirs,) = self.real([command])
        return theirs, self.ours(command)

    def scans_whole(self, key: bytes) -> bool:
        """Whether HSCAN and SSCAN give all that is at `key` at once."""
        value = self.database.keyspaces[0].find(key)
        return not (isinstance(value, Named) and value.is_wide)

    def each(self) -> tuple[Callable[[Words], Said], Callable[[Words], Said]]:
        """Each of them, to be asked alone."""
        return lambda command: self.real([command])[0], self.ours


def in_order(command: Words, reply: Said, width: int) -> Said:
    """A list of which the order says nothing, in order; of a hash and its HSCAN (`width` 2) the pairs, in RESP2 and 3."""
    kind, items = reply
    name = command[0].upper()
    if name.endswith(b"SCAN"):
        cursor, found = items
        return (cursor, in_order([b"HGETALL" if width == 2 else b"SMEMBERS"], found, width))
    if name == b"HGETALL":
        return (kind, sorted(zip(items[::2], items[1::2], strict=True)))
    return (kind, sorted(items))


def met_by_scans(
    asked: Callable[[Words], Said], name: bytes, key: bytes, options: Words, width: int
) -> list[Said]:
    """All that HSCAN or SSCAN meet from the beginning to the end."""
    met: list[Said] = []
    cursor = b"0"
    while True:
        _, ((_, cursor), (_, found)) = asked([name, key, cursor, *options])
        met += zip(*(found[at::width] for at in range(width)), strict=True)
        if cursor == b"0":
            return met


def loaded(database: Database) -> Database:
    """Another one, made from an image."""
    loader = Loader()
    for piece in database.image().pieces():
        loader.feed(piece)
    return loader.finish()
