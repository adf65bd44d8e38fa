"""Transactions: MULTI, EXEC, WATCH. What they do is in `connection`."""

from __future__ import annotations

from sofadb.database.replies import OK, Reply, ReplyError
from sofadb.database.table import Route, command

from ..connection import Connection

CONNECTION = Route.CONNECTION


@command(
    "multi",
    1,
    CONNECTION,
    "noscript loading stale fast allow_busy",
    group="transactions",
    since="1.2.0",
    summary="Queue the commands that follow, until EXEC",
)
def multi(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("MULTI is done on sight")


@command(
    "exec",
    1,
    CONNECTION,
    "noscript loading stale skip_slowlog",
    group="transactions",
    since="1.2.0",
    summary="Do what MULTI has queued, all of it or nothing",
)
def exec_(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("EXEC is done by the connection")


@command(
    "discard",
    1,
    CONNECTION,
    "noscript loading stale fast allow_busy",
    group="transactions",
    since="2.0.0",
    summary="Forget what MULTI has queued",
)
def discard(connection: Connection, args: list[bytes]) -> Reply:
    if connection.multi is None:
        raise ReplyError("ERR DISCARD without MULTI")
    connection.multi = None
    connection.unwatch()
    return OK


@command(
    "watch",
    -2,
    CONNECTION,
    "noscript loading stale fast allow_busy",
    keys=(1, -1, 1),
    group="transactions",
    since="2.2.0",
    summary="Let EXEC do nothing if one of these keys has changed by then",
)
def watch(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("WATCH is done by the connection")


@command(
    "unwatch",
    1,
    CONNECTION,
    "noscript loading stale fast allow_busy",
    group="transactions",
    since="2.2.0",
    summary="Watch no keys any more",
)
def unwatch(connection: Connection, args: list[bytes]) -> Reply:
    connection.unwatch()
    return OK
