"""What Redis's Sentinels tell their clients, told by every node: who leads, and that somebody else does now.

Clients that know Sentinels are given the addresses of some nodes as those of Sentinels, and the name of the service. They
ask any of them for the `master`, which is the leader, or for its `replicas`, which are the other members, and subscribe to
`+switch-master`. Nobody votes here, and nothing is decided: a node tells what it knows of the cluster. While nobody leads, it
names who led last, marked as down (`s_down`), so that clients that look at it ask another node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sofadb.database.arguments import parse_integer
from sofadb.database.messages import Message
from sofadb.database.replies import NULL_ARRAY, Reply, ReplyError, Status
from sofadb.database.table import Route, command
from sofadb.node.facts import Facts, Member, split_address

if TYPE_CHECKING:
    from .connection import Connection
    from .state import ServerState

SERVICE_NAME = "sofadb"
"""What clients call the cluster, unless the operator says otherwise."""
SWITCHED = b"+switch-master"
NO_SUCH_MASTER = ReplyError("ERR No such master with that name")

Fields = dict[Reply, Reply]


def leader_changed(state: ServerState, address: str) -> None:
    """Somebody leads whose clients' address is HOST:PORT: tell who subscribes, if somebody else led before."""
    before, state.leader_address = state.leader_address, address
    if before and before != address:
        words = (state.service_name, *split_address(before), *split_address(address))
        state.subscriptions.publish(Message(SWITCHED, " ".join(map(str, words)).encode()))


def is_own_news(channels: Iterable[bytes]) -> bool:
    """Whether a node tells on these channels only what it has seen itself, so that nobody else need be asked."""
    return all(channel == SWITCHED for channel in channels)


def _member_fields(name: str, address: str, run_id: str, flags: str) -> Fields:
    """What is said of any member, in the order in which Sentinels say it. There are no pings: the peers' connections tell."""
    host, port = split_address(address)
    values: dict[str, str | int] = {
        "name": name,
        "ip": host,
        "port": port,
        "runid": run_id,
        "flags": flags,
        "link-pending-commands": 0,
        "link-refcount": 1,
        "last-ping-sent": 0,
        "last-ok-ping-reply": 0,
        "last-ping-reply": 0,
    }
    return _encoded(values)


def _encoded(values: Mapping[str, str | int]) -> Fields:
    return {name.encode(): str(value).encode() for name, value in values.items()}


def _members(facts: Facts, but: str) -> list[Member]:
    """All members whose clients' address is known, but one."""
    return [member for member in facts.members if member.client_address and member.client_address != but]


def _down(member: Member) -> str:
    return "" if member.is_reachable else ",s_down,disconnected"


def _master(state: ServerState, facts: Facts) -> Fields:
    address = state.leader_address
    flags = "master" if facts.leader else "master,s_down"
    fields = _member_fields(state.service_name, address, _run_id_at(facts, address), flags)
    return fields | _encoded(
        {
            "role-reported": "master",
            "config-epoch": int(facts.ballot.partition(".")[0] or 0),
            "num-slaves": len(_members(facts, but=address)),
            "num-other-sentinels": len(facts.members) - 1,
            "quorum": _quorum(facts),
        }
    )


def _replicas(state: ServerState, facts: Facts) -> list[Fields]:
    host, port = split_address(state.leader_address)
    of_all: dict[str, str | int] = {
        "role-reported": "slave",
        "master-link-down-time": 0,
        "master-link-status": "ok" if facts.leader else "err",
        "master-host": host,
        "master-port": port,
        "slave-priority": 100,
        "slave-repl-offset": facts.applied,
        "replica-announced": 1,
    }
    return [
        _member_fields(
            member.client_address, member.client_address, facts.run_id(member.node), "slave" + _down(member)
        )
        | _encoded(of_all)
        for member in _members(facts, but=state.leader_address)
    ]


def _sentinels(facts: Facts) -> list[Fields]:
    """All nodes but this one, as the Sentinels that they are, too."""
    return [
        _member_fields(
            facts.run_id(member.node),
            member.client_address,
            facts.run_id(member.node),
            "sentinel" + _down(member),
        )
        | _encoded({"last-hello-message": 0, "voted-leader": "?", "voted-leader-epoch": 0})
        for member in facts.members
        if member.client_address and member.node != facts.node
    ]


def _run_id_at(facts: Facts, address: str) -> str:
    return next((facts.run_id(each.node) for each in facts.members if each.client_address == address), "")


def _quorum(facts: Facts) -> int:
    return facts.quorum


def _named(connection: Connection, name: bytes) -> Facts:
    """What this node knows, if the service of that name is this one and it ever heard of a leader. Raises `ReplyError`."""
    facts = connection.state.look_for_leader()
    if name != connection.state.service_name.encode() or not connection.state.leader_address:
        raise NO_SUCH_MASTER
    return facts


# The commands


@command(
    "sentinel",
    -2,
    Route.CONNECTION,
    "admin",
    group="sentinel",
    since="2.8.4",
    summary="What Sentinels know of a service",
)
def sentinel(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("SENTINEL has subcommands")


_FLAGS = "admin"


@command(
    "sentinel|get-master-addr-by-name",
    3,
    Route.CONNECTION,
    _FLAGS,
    group="sentinel",
    since="2.8.4",
    summary="Where the leader is, or who led last",
)
def sentinel_get_master_addr_by_name(connection: Connection, args: list[bytes]) -> Reply:
    state = connection.state
    state.look_for_leader()
    if args[2] != state.service_name.encode() or not state.leader_address:
        return NULL_ARRAY
    host, port = split_address(state.leader_address)
    return [host.encode(), str(port).encode()]


@command(
    "sentinel|masters",
    2,
    Route.CONNECTION,
    _FLAGS,
    group="sentinel",
    since="2.8.4",
    summary="What is known of the leader, the only one there is",
)
def sentinel_masters(connection: Connection, args: list[bytes]) -> Reply:
    state = connection.state
    facts = state.look_for_leader()
    return [_master(state, facts)] if state.leader_address else []


@command(
    "sentinel|master",
    3,
    Route.CONNECTION,
    _FLAGS,
    group="sentinel",
    since="2.8.4",
    summary="What is known of the leader",
)
def sentinel_master(connection: Connection, args: list[bytes]) -> Reply:
    return _master(connection.state, _named(connection, args[2]))


@command(
    "sentinel|replicas",
    3,
    Route.CONNECTION,
    _FLAGS,
    group="sentinel",
    since="5.0.0",
    summary="What is known of the members that do not lead",
)
@command(
    "sentinel|slaves",
    3,
    Route.CONNECTION,
    _FLAGS,
    group="sentinel",
    since="2.8.0",
    summary="What is known of the members that do not lead",
)
def sentinel_replicas(connection: Connection, args: list[bytes]) -> Reply:
    return _replicas(connection.state, _named(connection, args[2]))


@command(
    "sentinel|sentinels",
    3,
    Route.CONNECTION,
    _FLAGS,
    group="sentinel",
    since="2.8.4",
    summary="What is known of the nodes other than this one",
)
def sentinel_sentinels(connection: Connection, args: list[bytes]) -> Reply:
    return _sentinels(_named(connection, args[2]))


@command(
    "sentinel|ckquorum",
    3,
    Route.CONNECTION,
    _FLAGS,
    group="sentinel",
    since="2.8.4",
    summary="Whether this node reaches so many that somebody can lead",
)
def sentinel_ckquorum(connection: Connection, args: list[bytes]) -> Reply:
    facts = _named(connection, args[2])
    usable = sum(member.is_reachable and member.node in facts.voters for member in facts.members)
    if usable < _quorum(facts):
        raise ReplyError(
            f"NOQUORUM {usable} usable Sentinels. Not enough available Sentinels to reach the majority "
            "and authorize a failover"
        )
    return Status(b"OK %d usable Sentinels. Quorum and failover authorization can be reached" % usable)


@command(
    "sentinel|myid",
    2,
    Route.CONNECTION,
    _FLAGS,
    group="sentinel",
    since="6.2.0",
    summary="What other nodes call this one as a Sentinel",
)
def sentinel_myid(connection: Connection, args: list[bytes]) -> Reply:
    facts = connection.state.facts()
    return facts.run_id(facts.node).encode()


@command(
    "sentinel|is-master-down-by-addr",
    6,
    Route.CONNECTION,
    _FLAGS,
    group="sentinel",
    since="2.8.4",
    summary="Whether the leader at an address is lost, as far as this node knows; nobody is voted for",
)
def sentinel_is_master_down_by_addr(connection: Connection, args: list[bytes]) -> Reply:
    state = connection.state
    facts = state.look_for_leader()
    asked = (args[2].decode(errors="replace"), parse_integer(args[3]))
    parse_integer(args[4])
    is_down = not facts.leader and asked == split_address(state.leader_address)
    return [int(is_down), b"*", 0]
