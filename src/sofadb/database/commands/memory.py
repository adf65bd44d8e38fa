"""MEMORY USAGE: what a key costs, about. (The rest of MEMORY is the server's.)"""

from __future__ import annotations

from typing import Any

from ..arguments import parse_integer
from ..keyspace import Keyspace
from ..replies import SYNTAX, Reply, ReplyError
from ..table import Route, command
from ..values import Value

KEY_BYTES = 150
"""About what CPython takes for a key's places in the dicts of a keyspace. (All of these were measured with tracemalloc.)"""
EXPIRY_BYTES = 190
OBJECT_BYTES = 33
"""What it takes for a string besides its bytes."""
CELL_BYTES = {b"list": 8, b"set": 88, b"hash": 130, b"zset": 185}
"""And for an element's places in a value, by the value's type."""
VALUE_BYTES = 200


@command(
    "memory",
    -2,
    Route.READ,
    "",
    group="server",
    since="4.0.0",
    summary="What concerns memory",
    complexity="Depends on subcommand.",
)
def memory(keyspace: Keyspace, args: list[bytes]) -> Reply:
    raise AssertionError("MEMORY has subcommands")


@command(
    "memory|usage",
    -3,
    Route.READ,
    "readonly",
    keys=(2, 2, 1),
    key_use="RO",
    group="server",
    types="none",
    since="4.0.0",
    summary="About how many bytes a key and its value take",
    differs="An estimate from the bytes and the number of elements; SAMPLES changes nothing",
)
def memory_usage(keyspace: Keyspace, args: list[bytes]) -> Reply:
    for index in range(3, len(args), 2):
        if args[index].upper() != b"SAMPLES" or index + 1 == len(args):
            raise ReplyError(SYNTAX)
        if parse_integer(args[index + 1]) < 0:
            raise ReplyError(SYNTAX)
    key = args[2]
    value = keyspace.look(key)
    if value is None:
        return None
    expiry = EXPIRY_BYTES if key in keyspace.expiry else 0
    return KEY_BYTES + OBJECT_BYTES + len(key) + expiry + _size(value)


def _size(value: Any) -> int:
    if not isinstance(value, Value):
        return OBJECT_BYTES + len(value)
    cells = CELL_BYTES.get(value.type_name, 100) + OBJECT_BYTES
    return VALUE_BYTES + value.bytes + cells * len(value)
