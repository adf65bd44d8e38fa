"""MEMORY, but for MEMORY USAGE, which asks the state (`database/commands/memory.py`)."""

from __future__ import annotations

from sofadb.database.replies import OK, Reply, Verbatim
from sofadb.database.table import Route, command

from ..connection import Connection
from ..help import declare_help
from ..memory import peak_bytes, resident_bytes, system_bytes
from .info import human

CONNECTION = Route.CONNECTION


@command(
    "memory|stats",
    2,
    CONNECTION,
    "",
    group="server",
    since="4.0.0",
    summary="What is known of this node's memory",
    differs="Only what is known: how much there is, at most was, is held for clients, and comes on a key",
)
def memory_stats(connection: Connection, args: list[bytes]) -> Reply:
    database = connection.state.node.database
    used = resident_bytes()
    peak = max(used, peak_bytes())
    keys = sum(len(keyspace.values) for keyspace in database.keyspaces)
    clients = connection.state.clients.values()
    stats: dict[Reply, Reply] = {
        b"peak.allocated": peak,
        b"total.allocated": used,
        b"clients.normal": sum(each.held_bytes + each.unread_bytes for each in clients),
        b"keys.count": keys,
        b"keys.bytes-per-key": used // keys if keys else 0,
        b"peak.percentage": 100 * used / peak,
    }
    return stats


FULL = 0.8
"""A process with a larger part of the machine's memory is told of."""


@command(
    "memory|doctor",
    2,
    CONNECTION,
    "",
    group="server",
    since="4.0.0",
    summary="Whether this node's memory gives cause for concern",
)
def memory_doctor(connection: Connection, args: list[bytes]) -> Reply:
    used, peak, system = resident_bytes(), peak_bytes(), system_bytes()
    findings = []
    if used > FULL * system:
        findings.append(
            f"This node has {human(used)} of the {human(system)} of its machine. All data is held in memory, "
            "and a snapshot that is loaded needs as much again for a moment."
        )
    if peak > 2 * used and peak > 256 << 20:
        findings.append(f"It had {human(peak)} once, and has {human(used)} now.")
    waiting = len(connection.state.node.database.shared.graveyard)
    if waiting:
        findings.append("Memory of what was removed is being given back, a little at a time.")
    return Verbatim("\n".join(findings or ["There is nothing to be concerned about."]).encode() + b"\n")


@command(
    "memory|purge",
    2,
    CONNECTION,
    "",
    group="server",
    since="4.0.0",
    summary="Nothing: memory is given back by itself",
    differs="Does nothing, as in a Redis without jemalloc",
)
def memory_purge(connection: Connection, args: list[bytes]) -> Reply:
    return OK


@command(
    "memory|malloc-stats",
    2,
    CONNECTION,
    "",
    group="server",
    since="4.0.0",
    summary="What the allocator tells: nothing",
    differs="Answers as a Redis without jemalloc",
)
def memory_malloc_stats(connection: Connection, args: list[bytes]) -> Reply:
    return Verbatim(b"Stats not supported for the current allocator")


declare_help("memory", group="server", since="4.0.0")
