"""CONFIG: the settings of this node (`configuration`), and those that are the server's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sofadb.database.database import DATABASES
from sofadb.database.patterns import matcher
from sofadb.database.replies import OK, SYNTAX, Reply, ReplyError
from sofadb.database.table import Route, command
from sofadb.database.values import HASH_NARROW_MAX, NARROW_BYTES_MAX, SET_NUMBERS_MAX, SORTED_NARROW_MAX

from ..configuration import (
    INT_MAX,
    SETTINGS,
    UNSIGNED_MAX,
    Parse,
    Refused,
    anything,
    change,
    fixed,
    integer,
    memory,
    one_of,
    setting,
    yes_or_no,
)
from ..connection import Connection
from ..descriptors import BACKLOG, make_room
from ..help import declare_help
from ..notifications import NAME as NOTIFICATIONS
from ..notifications import Notifications, UnknownLetter
from ..requests import BULK_BYTES_MAX
from ..state import ServerState

CONNECTION = Route.CONNECTION


@command(
    "config",
    -2,
    CONNECTION,
    "",
    group="server",
    since="2.0.0",
    summary="What concerns the configuration",
    complexity="Depends on subcommand.",
)
def config(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("CONFIG has subcommands")


_FLAGS = "admin noscript loading stale"


@command(
    "config|get",
    -3,
    CONNECTION,
    _FLAGS,
    group="server",
    since="2.0.0",
    summary="Settings whose names match a pattern",
    complexity="O(N)",
    differs="Only settings that mean something here",
)
def config_get(connection: Connection, args: list[bytes]) -> Reply:
    patterns = [matcher(pattern, ignore_case=True) for pattern in args[2:]]
    return {
        name: each.text(connection.state)
        for name, each in SETTINGS.items()
        if each.is_told and any(matches(name) for matches in patterns)
    }


@command(
    "config|set",
    -4,
    CONNECTION,
    _FLAGS,
    group="server",
    since="2.0.0",
    summary="Change settings of this node, all of those that are named or none",
    complexity="O(N)",
    differs="It holds for this node until that ends. What cannot be otherwise here takes only the value that it has",
)
def config_set(connection: Connection, args: list[bytes]) -> Reply:
    words = args[2:]
    if len(words) % 2:
        raise ReplyError(SYNTAX)
    change(connection.state, list(zip(words[::2], words[1::2], strict=True)))
    return OK


@command(
    "config|resetstat",
    2,
    CONNECTION,
    _FLAGS,
    group="server",
    since="2.0.0",
    summary="Count from zero what INFO counts of clients and commands",
)
def config_resetstat(connection: Connection, args: list[bytes]) -> Reply:
    connection.state.forget_counts()
    return OK


@command(
    "config|rewrite",
    2,
    CONNECTION,
    _FLAGS,
    group="server",
    since="2.8.0",
    summary="Refused, as by a Redis without a configuration file",
    is_refused=True,
)
def config_rewrite(connection: Connection, args: list[bytes]) -> Reply:
    raise ReplyError("ERR The server is running without a config file")


declare_help("config", group="server", since="5.0.0")


# The settings


def _of_settings(name: str, field: str, parse: Parse) -> None:
    """A setting that is a field of `Settings`."""

    def put(state: ServerState, value: Any) -> None:
        state.settings = replace(state.settings, **{field: value})

    setting(name, lambda state: getattr(state.settings, field), parse, put)


def _clients(state: ServerState, text: bytes) -> int:
    wanted: int = integer(1, UNSIGNED_MAX)(state, text)
    possible = make_room(wanted)
    if possible < wanted:
        raise Refused(
            f"The operating system is not able to handle the specified number of clients, try with {possible}"
        )
    return wanted


SLOW_RUNS_MAX = 10_000
"""No more are ever kept. Each may have some 5 KB."""


def _slow_runs(state: ServerState, value: int) -> None:
    state.settings = replace(state.settings, slow_runs_max=value)
    state.usage.forget_slow(value)


_of_settings("maxclients", "clients_max", _clients)
_of_settings("timeout", "idle_s_max", integer(0, INT_MAX))
_of_settings("tcp-keepalive", "keepalive_s", integer(0, INT_MAX))
_of_settings("slowlog-log-slower-than", "slow_us", integer(-1))
setting("slowlog-max-len", lambda state: state.settings.slow_runs_max, integer(0, SLOW_RUNS_MAX), _slow_runs)
_of_settings("latency-monitor-threshold", "spike_ms", integer())


def _memory(state: ServerState, value: int) -> None:
    state.settings = replace(state.settings, memory_bytes_max=value)
    state.memory.look()
    if state.server is not None:
        state.memory.start()


setting("maxmemory", lambda state: state.settings.memory_bytes_max, memory(), _memory)

# To whom this node speaks, and of what


def _notifications(state: ServerState, text: bytes) -> Notifications:
    try:
        return Notifications(text.decode(errors="replace"))
    except UnknownLetter:
        raise Refused("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.") from None


def _protection(state: ServerState, text: bytes) -> bool:
    if yes_or_no(state, text) != state.is_protected:
        raise Refused("it is an option of 'sofadb serve'")
    return state.is_protected


def _no_password(state: ServerState, text: bytes) -> None:
    raise Refused("a node has its passwords from the file that it was started with (--password-file)")


setting(
    NOTIFICATIONS,
    lambda state: state.notifications.letters,
    _notifications,
    lambda state, value: state.notify_of(value),
)
setting("protected-mode", lambda state: state.is_protected, _protection, lambda state, value: None)
setting("requirepass", None, _no_password, lambda state, value: None)

# What is so from the start

setting("bind", lambda state: state.host)
setting("port", lambda state: state.port)
setting("dir", lambda state: state.facts().directory)
setting("databases", lambda state: DATABASES)
setting("cluster-enabled", lambda state: False)
setting("daemonize", lambda state: False)
setting("io-threads", lambda state: 1)
setting("tcp-backlog", lambda state: BACKLOG)

# What is never otherwise

_DURABLE = "every acknowledged write is on the disks of a majority, always"
_SNAPSHOTS = (
    "snapshots are taken by themselves (sofadb serve --snapshot-mb, --snapshot-every-s), or by BGSAVE"
)
_NO_EVICTION = "nothing is ever evicted"
_OF_REDIS = "it says how Redis would hold values, by its own defaults (OBJECT ENCODING)"
fixed("appendonly", True, yes_or_no, _DURABLE)
fixed("appendfsync", "always", one_of("everysec", "always", "no"), _DURABLE)
fixed("save", "", anything, _SNAPSHOTS)
fixed("maxmemory-clients", 0, memory(), "sofadb bounds what clients hold by itself")
fixed(
    "maxmemory-policy",
    "noeviction",
    one_of(
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "noeviction",
    ),
    _NO_EVICTION,
)
fixed("proto-max-bulk-len", BULK_BYTES_MAX, memory(1 << 20), "an entry of the log holds no more")
fixed("latency-tracking", True, yes_or_no, "it is always on")
for _name, _value in (
    ("hash-max-listpack-entries", HASH_NARROW_MAX),
    ("hash-max-listpack-value", NARROW_BYTES_MAX),
    ("set-max-intset-entries", SET_NUMBERS_MAX),
    ("zset-max-listpack-entries", SORTED_NARROW_MAX),
    ("zset-max-listpack-value", NARROW_BYTES_MAX),
):
    fixed(_name, _value, integer(), _OF_REDIS)
