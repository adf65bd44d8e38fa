"""INFO: facts and figures about this node, in Redis's sections and words, and a section of our own.

What it says of leading and following is put so that Redis's clients understand: the leader is the `master`, the others are
`slave`s, and offsets are instances.
"""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Callable, Mapping

from sofadb import __version__
from sofadb.database.replies import Reply, Verbatim
from sofadb.database.table import Route, command
from sofadb.node.facts import Facts, split_address

from ..connection import Connection
from ..memory import peak_bytes, resident_bytes, system_bytes
from ..state import ServerState

REDIS_VERSION = "7.0.15"
"""The Redis whose commands and replies these are; clients decide by it."""

Section = Mapping[str, object]


@command(
    "info",
    -1,
    Route.CONNECTION,
    "loading stale",
    group="server",
    dangerous=True,
    summary="Facts and figures about this node",
    differs="Fields that mean nothing here are not there; there is a section more, Paxos",
)
def info(connection: Connection, args: list[bytes]) -> Reply:
    wanted = {word.decode(errors="replace").lower() for word in args[1:]} or {"default"}
    if wanted & {"all", "everything"}:
        wanted = set(SECTIONS)
    elif "default" in wanted:
        wanted |= set(SECTIONS) - NOT_BY_DEFAULT
    state = connection.state
    facts = state.facts()
    texts = [
        f"# {title}\r\n" + "".join(f"{field}:{value}\r\n" for field, value in section(state, facts).items())
        for name, (title, section) in SECTIONS.items()
        if name in wanted
    ]
    return Verbatim("\r\n".join(texts).encode(errors="surrogateescape"))


def role_of(connection: Connection) -> str:
    """What the node is, in Redis's words."""
    return _role(connection.state.facts())


def _role(facts: Facts) -> str:
    return "master" if facts.role == "leading" else "slave"


def split(address: str) -> tuple[bytes, int]:
    """HOST:PORT as a reply has it."""
    host, port = split_address(address)
    return host.encode(), port


def last_save_s(facts: Facts) -> int:
    """When the node took its latest snapshot; as in Redis, when it was started, if it took none."""
    return facts.snapshot_at // 1000 or int(time.time()) - facts.uptime_s


# The sections


def _server(state: ServerState, facts: Facts) -> Section:
    return {
        "redis_version": REDIS_VERSION,
        "sofadb_version": __version__,
        "redis_mode": "standalone",
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "arch_bits": 64,
        "process_id": facts.process_id,
        "process_supervised": "no",
        "run_id": facts.run_id(facts.node),
        "tcp_port": state.port,
        "server_time_usec": int(time.time() * 1e6),
        "uptime_in_seconds": facts.uptime_s,
        "uptime_in_days": facts.uptime_s // 86_400,
        "config_file": "",
        "io_threads_active": 0,
        "node_id": facts.node,
        "node_starts": facts.starts,
    }


def _clients(state: ServerState, facts: Facts) -> Section:
    return {
        "connected_clients": len(state.clients),
        "cluster_connections": 0,
        "maxclients": state.settings.clients_max,
        "client_recent_max_input_buffer": state.recent_input_bytes_max,
        "client_recent_max_output_buffer": state.recent_output_bytes_max,
        "blocked_clients": len(state.waiting),
        "tracking_clients": 0,
        "clients_in_timeout_table": 0,
        "commands_under_way": state.begun_commands,
    }


def _memory(state: ServerState, facts: Facts) -> Section:
    rss, system = resident_bytes(), system_bytes()
    peak = max(rss, peak_bytes())
    return {
        "used_memory": rss,
        "used_memory_human": human(rss),
        "used_memory_rss": rss,
        "used_memory_rss_human": human(rss),
        "used_memory_peak": peak,
        "used_memory_peak_human": human(peak),
        "used_memory_peak_perc": f"{100 * rss / peak:.2f}%",
        "total_system_memory": system,
        "total_system_memory_human": human(system),
        "maxmemory": state.settings.memory_bytes_max,
        "maxmemory_human": human(state.settings.memory_bytes_max),
        "maxmemory_policy": "noeviction",
        "mem_fragmentation_ratio": "1.00",
        "mem_clients_normal": sum(each.held_bytes + each.unread_bytes for each in state.clients.values()),
        "mem_allocator": "python",
        "active_defrag_running": 0,
        "lazyfree_pending_objects": len(state.node.database.shared.graveyard),
    }


def _persistence(state: ServerState, facts: Facts) -> Section:
    return {
        "loading": 0,
        "async_loading": 0,
        "rdb_changes_since_last_save": max(0, facts.applied - facts.snapshot),
        "rdb_bgsave_in_progress": int(facts.snapshot_is_taken),
        "rdb_last_save_time": last_save_s(facts),
        "rdb_last_bgsave_status": "err" if facts.snapshot_problem else "ok",
        "aof_enabled": 1,
        "aof_rewrite_in_progress": 0,
        "aof_rewrite_scheduled": 0,
        "aof_last_bgrewrite_status": "ok",
        "aof_last_write_status": "err" if facts.shortage else "ok",
        "journal_bytes_written": facts.journal_bytes,
        "journal_syncs": facts.journal_syncs,
        "journal_bytes_held": facts.journal_held,
        "snapshot_instance": facts.snapshot,
        "snapshot_bytes": facts.snapshot_bytes,
        "archived_instance": -1 if facts.archived is None else facts.archived,
        "archive_problem": facts.archive_problem,
        "journal_damage": len(facts.damage),
        "node_in_doubt": int(bool(facts.doubt)),
        "disk_full": int(bool(facts.shortage)),
    }


def _stats(state: ServerState, facts: Facts) -> Section:
    return {
        "total_connections_received": state.connections_received,
        "total_commands_processed": state.commands_processed,
        "total_net_input_bytes": state.bytes_read,
        "total_net_output_bytes": state.bytes_written,
        "rejected_connections": state.connections_rejected,
        "expired_keys": max(0, state.node.database.expired - state.expired_before),
        "evicted_keys": 0,
        "evicted_clients": 0,
        "pubsub_channels": len(state.subscriptions.channels),
        "pubsub_patterns": len(state.subscriptions.patterns),
        "pubsubshard_channels": len(state.subscriptions.shards),
        "total_error_replies": state.usage.error_replies,
        "commands_refused_for_lack_of_room": state.refused_commands,
        "client_query_buffer_limit_disconnections": state.input_disconnections,
        "client_output_buffer_limit_disconnections": state.output_disconnections,
    }


def _replication(state: ServerState, facts: Facts) -> Section:
    others = [member for member in facts.members if member.node != facts.node]
    fields: dict[str, object] = {"role": _role(facts)}
    if facts.role == "leading":
        replicas = [member for member in others if member.is_reachable]
        fields["connected_slaves"] = len(replicas)
        for number, member in enumerate(replicas):
            host, port = split(member.client_address)
            fields[f"slave{number}"] = (
                f"ip={host.decode()},port={port},state=online,offset={facts.applied},lag=0"
            )
        fields["master_failover_state"] = "waiting-for-sync" if facts.successor else "no-failover"
    else:
        host, port = split(facts.leader_client_address)
        fields |= {
            "master_host": host.decode(),
            "master_port": port,
            "master_link_status": "up" if facts.leader else "down",
            "master_last_io_seconds_ago": 0 if facts.leader else -1,
            "master_sync_in_progress": 0,
            "slave_read_repl_offset": facts.applied,
            "slave_repl_offset": facts.applied,
            "slave_priority": 100,
            "slave_read_only": 0,
            "replica_announced": 1,
            "connected_slaves": 0,
        }
    return fields | {
        "master_replid": facts.cluster.ljust(40, "0"),
        "master_repl_offset": facts.applied,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
    }


def _paxos(state: ServerState, facts: Facts) -> Section:
    return {
        "leader": facts.leader,
        "ballot": facts.ballot,
        "chosen_instance": facts.chosen,
        "applied_instance": facts.applied,
        "feature_level": facts.level,
    }


def _cpu(state: ServerState, facts: Facts) -> Section:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "used_cpu_sys": f"{own.ru_stime:.6f}",
        "used_cpu_user": f"{own.ru_utime:.6f}",
        "used_cpu_sys_children": f"{children.ru_stime:.6f}",
        "used_cpu_user_children": f"{children.ru_utime:.6f}",
    }


def _nothing(state: ServerState, facts: Facts) -> Section:
    return {}


def _commandstats(state: ServerState, facts: Facts) -> Section:
    fields: dict[str, object] = {}
    for name, figures in state.usage.figures.items():
        calls = figures.calls
        fields[f"cmdstat_{name}"] = (
            f"calls={calls},usec={figures.usec:.0f},usec_per_call={figures.usec / max(calls, 1):.2f},"
            f"rejected_calls={figures.rejected},failed_calls={figures.failed}"
        )
    return fields


def _errorstats(state: ServerState, facts: Facts) -> Section:
    return {f"errorstat_{kind}": f"count={count}" for kind, count in sorted(state.usage.errors.items())}


def _latencystats(state: ServerState, facts: Facts) -> Section:
    fields: dict[str, object] = {}
    for name, figures in state.usage.figures.items():
        if figures.calls:
            told = (f"p{share:g}={figures.percentile(share / 100):.3f}" for share in (50, 99, 99.9))
            fields[f"latency_percentiles_usec_{name}"] = ",".join(told)
    return fields


def _cluster(state: ServerState, facts: Facts) -> Section:
    return {"cluster_enabled": 0}


def _keyspace(state: ServerState, facts: Facts) -> Section:
    return {
        f"db{keyspace.number}": f"keys={len(keyspace.values)},expires={len(keyspace.expiry)},avg_ttl=0"
        for keyspace in state.node.database.keyspaces
        if keyspace.values
    }


SECTIONS: dict[str, tuple[str, Callable[[ServerState, Facts], Section]]] = {
    "server": ("Server", _server),
    "clients": ("Clients", _clients),
    "memory": ("Memory", _memory),
    "persistence": ("Persistence", _persistence),
    "stats": ("Stats", _stats),
    "replication": ("Replication", _replication),
    "paxos": ("Paxos", _paxos),
    "cpu": ("CPU", _cpu),
    "modules": ("Modules", _nothing),
    "commandstats": ("Commandstats", _commandstats),
    "errorstats": ("Errorstats", _errorstats),
    "latencystats": ("Latencystats", _latencystats),
    "cluster": ("Cluster", _cluster),
    "keyspace": ("Keyspace", _keyspace),
}
"""In Redis's order, by the names that INFO takes."""
NOT_BY_DEFAULT = {"commandstats", "latencystats"}


# Memory


def human(size: int) -> str:
    """A size as INFO writes it for people."""
    for unit, name in ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if size >= unit:
            return f"{size / unit:.2f}{name}"
    return f"{size}B"
