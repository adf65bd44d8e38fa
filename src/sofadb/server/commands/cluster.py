"""READONLY and READWRITE; and what Redis Cluster has, which is answered as by a Redis that is in no such cluster.

Nothing is sharded here: every node holds everything and takes any command.
"""

from __future__ import annotations

from sofadb.database.replies import OK, Reply, ReplyError
from sofadb.database.table import Route, command

from ..connection import Connection

CONNECTION = Route.CONNECTION
DISABLED = "ERR This instance has cluster support disabled"


@command(
    "readonly",
    1,
    CONNECTION,
    "loading stale fast",
    group="cluster",
    types="connection",
    since="3.0.0",
    differs="Redis has it in its cluster mode only",
    summary="Let this connection's reads be answered from this node's own state, however old",
)
def readonly(connection: Connection, args: list[bytes]) -> Reply:
    connection.is_readonly = True
    return OK


@command(
    "readwrite",
    1,
    CONNECTION,
    "loading stale fast",
    group="cluster",
    types="connection",
    since="3.0.0",
    differs="Redis has it in its cluster mode only",
    summary="Let this connection's reads see all that was acknowledged before them, as at first",
)
def readwrite(connection: Connection, args: list[bytes]) -> Reply:
    connection.is_readonly = False
    return OK


@command(
    "cluster",
    -2,
    CONNECTION,
    "",
    group="cluster",
    since="3.0.0",
    summary="What concerns Redis Cluster",
    complexity="Depends on subcommand.",
)
def cluster(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("CLUSTER has subcommands")


def _disabled(connection: Connection, args: list[bytes]) -> Reply:
    raise ReplyError(DISABLED)


_LOOK, _ADMIN, _SLOTS = "stale", "admin stale", "admin stale no_async_loading"
_SUBCOMMANDS = (
    ("addslots", -3, _SLOTS, "3.0.0"),
    ("addslotsrange", -4, _SLOTS, "7.0.0"),
    ("bumpepoch", 2, _SLOTS, "3.0.0"),
    ("count-failure-reports", 3, _ADMIN, "3.0.0"),
    ("countkeysinslot", 3, _LOOK, "3.0.0"),
    ("delslots", -3, _SLOTS, "3.0.0"),
    ("delslotsrange", -4, _SLOTS, "7.0.0"),
    ("failover", -2, _SLOTS, "3.0.0"),
    ("flushslots", 2, _SLOTS, "3.0.0"),
    ("forget", 3, _SLOTS, "3.0.0"),
    ("getkeysinslot", 4, _LOOK, "3.0.0"),
    ("help", 2, "loading stale", "5.0.0"),
    ("info", 2, _LOOK, "3.0.0"),
    ("keyslot", 3, _LOOK, "3.0.0"),
    ("links", 2, _LOOK, "7.0.0"),
    ("meet", -4, _SLOTS, "3.0.0"),
    ("myid", 2, _LOOK, "3.0.0"),
    ("nodes", 2, _LOOK, "3.0.0"),
    ("replicas", 3, _ADMIN, "5.0.0"),
    ("replicate", 3, _SLOTS, "3.0.0"),
    ("reset", -2, "admin noscript stale", "3.0.0"),
    ("saveconfig", 2, _SLOTS, "3.0.0"),
    ("set-config-epoch", 3, _SLOTS, "3.0.0"),
    ("setslot", -4, _SLOTS, "3.0.0"),
    ("shards", 2, _LOOK, "7.0.0"),
    ("slaves", 3, _ADMIN, "3.0.0"),
    ("slots", 2, _LOOK, "3.0.0"),
)
for _name, _arity, _flags, _since in _SUBCOMMANDS:
    command(
        f"cluster|{_name}",
        _arity,
        CONNECTION,
        _flags,
        group="cluster",
        since=_since,
        is_refused=True,
        summary="Refused, as by any Redis outside of a Redis Cluster",
    )(_disabled)

command(
    "asking",
    1,
    CONNECTION,
    "fast",
    group="cluster",
    types="connection",
    since="3.0.0",
    is_refused=True,
    summary="Refused, as by any Redis outside of a Redis Cluster",
)(_disabled)
