"""What Redis does not have, as far as it concerns a connection or the node: reading behind an instance, snapshots, facts."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

from sofadb.database.arguments import INTEGER_MAX, parse_integer
from sofadb.database.keys import keys_behind
from sofadb.database.replies import NOT_AN_INTEGER, Reply, ReplyError
from sofadb.database.table import Route, check_inner, command

from ..connection import Connection

CONNECTION = Route.CONNECTION


@command(
    "sofa.lastinstance",
    1,
    CONNECTION,
    "loading stale fast",
    group="sofa",
    summary="The instance in which this connection's last write was executed, 0 if none was",
)
def last_instance(connection: Connection, args: list[bytes]) -> Reply:
    return connection.last_instance


def _check_after(args: list[bytes]) -> None:
    if not 0 <= parse_integer(args[1]) <= INTEGER_MAX:
        raise ReplyError(NOT_AN_INTEGER)
    check_inner(args, 2, (Route.READ,))


@command(
    "sofa.after",
    -3,
    CONNECTION,
    "readonly noscript movablekeys",
    group="sofa",
    summary="Read from this node's own state once it has applied that instance",
    complexity="That of the command",
    inspect=_check_after,
    find_keys=keys_behind(2),
)
def after(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("SOFA.AFTER is done by the connection")


# Snapshots


def _check_fresh(args: list[bytes]) -> None:
    if len(args) > 2 or (len(args) == 2 and args[1].upper() != b"FRESH"):
        raise ReplyError("ERR syntax error")


@command(
    "sofa.snapshot",
    -1,
    CONNECTION,
    "admin noscript no_multi",
    group="sofa",
    summary="The newest snapshot's instance, salt, size and digest; FRESH: have one taken, and say what it will reach",
    inspect=_check_fresh,
)
def snapshot(connection: Connection, args: list[bytes]) -> Reply:
    newest = connection.state.newest_snapshot()
    if newest is None:
        return None
    instance, salt, size, digest = newest
    return [instance, b"%016x" % salt, size, digest.hex().encode()]


PART_BYTES_MAX = 1 << 20
_SALT = re.compile(rb"[0-9a-f]{16}")


def _check_part(args: list[bytes]) -> None:
    instance, offset, size = (parse_integer(args[index]) for index in (1, 3, 4))
    if instance < 0 or offset < 0 or not 0 < size <= PART_BYTES_MAX or not _SALT.fullmatch(args[2]):
        raise ReplyError(
            f"ERR say an instance and a salt as SOFA.SNAPSHOT tells them, an offset, and a size up to {PART_BYTES_MAX}"
        )


@command(
    "sofa.snapshotpart",
    5,
    CONNECTION,
    "admin noscript no_multi",
    group="sofa",
    summary="Raw bytes of a snapshot: its instance, its salt, from where on, and how many",
    complexity="O(N) with the bytes",
    inspect=_check_part,
)
def snapshot_part(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("SOFA.SNAPSHOTPART is done by the connection")


# What the node knows


@command(
    "sofa.info",
    1,
    CONNECTION,
    "loading stale fast",
    group="server",
    summary="What this node knows of itself and its cluster, as JSON",
)
def sofa_info(connection: Connection, args: list[bytes]) -> Reply:
    return json.dumps(asdict(connection.state.facts())).encode()


@command(
    "sofa.explain",
    1,
    CONNECTION,
    "loading stale fast",
    group="server",
    summary="What this node and its cluster wait for, in sentences",
)
def sofa_explain(connection: Connection, args: list[bytes]) -> Reply:
    return [sentence.encode() for sentence in connection.state.explain()]
