"""FAILOVER: the leader hands over to another node, in good order, while clients go on.

Redis's words: the leader is the `master`, the others are its replicas. The command is answered at once; how far it has come
is told by INFO (`master_failover_state`) and by ROLE.
"""

from __future__ import annotations

from sofadb.database.arguments import parse_integer
from sofadb.database.replies import OK, Reply, ReplyError
from sofadb.database.table import Route, command

from .connection import Connection

HAND_OVER_MS = 10_000
"""Without a TIMEOUT, it is given up after this long (milliseconds)."""
HAND_OVER_MS_MAX = 3_600_000


@command(
    "failover",
    -1,
    Route.CONNECTION,
    "admin noscript stale",
    group="server",
    since="6.2.0",
    summary="Have another node lead",
    complexity="O(1)",
)
def failover(connection: Connection, args: list[bytes]) -> Reply:
    target: tuple[bytes, int] | None = None
    within_ms, is_abort = HAND_OVER_MS, False
    index = 1
    while index < len(args):
        option = args[index].upper()
        if option == b"ABORT" and len(args) == 2:
            is_abort = True
            index += 1
        elif option == b"TO" and index + 2 < len(args) and target is None:
            target = args[index + 1], parse_integer(args[index + 2])
            index += 3
        elif option == b"TIMEOUT" and index + 1 < len(args):
            within_ms = parse_integer(args[index + 1])
            if within_ms <= 0:
                raise ReplyError("ERR FAILOVER timeout must be greater than 0")
            index += 2
        elif option == b"FORCE":
            raise ReplyError("ERR FAILOVER knows no FORCE: a node that lacks something never leads")
        else:
            raise ReplyError("ERR syntax error")
    facts = connection.state.facts()
    if facts.role != "leading":
        at = f" The master is {facts.leader_client_address}." if facts.leader_client_address else ""
        raise ReplyError(f"ERR FAILOVER is not valid when server is a replica.{at}")
    node = connection.state.node
    if is_abort:
        if not facts.successor:
            raise ReplyError("ERR No failover in progress.")
        node.keep_lead()
        return OK
    if facts.successor:
        raise ReplyError("ERR FAILOVER already in progress.")
    to = None
    if target is not None:
        host, port = target
        address = f"{host.decode(errors='replace')}:{port}"
        found = [each for each in facts.members if each.client_address == address and each.node != facts.node]
        if not found:
            raise ReplyError("ERR FAILOVER target HOST and PORT is not a replica.")
        to = found[0].acceptor
    node.hand_over(to, min(within_ms, HAND_OVER_MS_MAX))
    after = connection.state.facts()
    if after.role == "leading" and not after.successor:
        raise ReplyError(
            "ERR FAILOVER requires connected replicas."
            if to is None
            else "ERR FAILOVER target replica is not online."
        )
    return OK
