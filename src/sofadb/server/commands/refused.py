"""Commands of Redis that make no sense here, or do not yet: each says so, and what to use instead."""

from __future__ import annotations

from collections.abc import Callable

from sofadb.database.replies import Reply, ReplyError
from sofadb.database.table import Keys, Route, command

from ..connection import Connection
from ..help import declare_help


def refuse(
    name: str,
    arity: int,
    flags: str,
    reason: str,
    *,
    since: str = "1.0.0",
    group: str = "server",
    keys: tuple[int, int, int] = (0, 0, 0),
    key_use: str = "",
    find_keys: Callable[[list[bytes]], Keys] | None = None,
    dangerous: bool = False,
) -> None:
    """Declare a command that is answered with an error."""

    def refused(connection: Connection, args: list[bytes]) -> Reply:
        raise ReplyError(f"ERR {reason}")

    command(
        name,
        arity,
        Route.CONNECTION,
        flags,
        group=group,
        since=since,
        keys=keys,
        key_use=key_use,
        find_keys=find_keys,
        dangerous=dangerous,
        is_refused=True,
        summary=f"Refused: {reason}",
    )(refused)


# Replication. (FAILOVER is in `failover`.)

_MEMBERS = "here nodes do not follow one another: members come and go by 'sofadb member', and FAILOVER has another one lead"
_STREAM = "nodes do not replicate in Redis's way: 'sofadb member add' adds a node, and 'sofadb backup' saves all data"

refuse("replicaof", 3, "admin noscript stale no_async_loading", _MEMBERS, since="5.0.0")
refuse("slaveof", 3, "admin noscript stale no_async_loading", _MEMBERS)
refuse("psync", -3, "admin noscript no_async_loading no_multi", _STREAM, since="2.8.0")
refuse("sync", 1, "admin noscript no_async_loading no_multi", _STREAM)
refuse("replconf", -1, "admin noscript loading stale allow_busy", _STREAM, since="3.0.0")

# Disks

refuse(
    "bgrewriteaof",
    1,
    "admin noscript no_async_loading",
    "there is no append only file: the log is cut behind snapshots by itself, and BGSAVE takes one now",
)

# Keys


def _keys_of_migrate(args: list[bytes]) -> Keys:
    """One that stands third, or if that is empty, those behind the word KEYS."""
    first = 3
    if not args[3]:
        words = [word.upper() for word in args]
        first = words.index(b"KEYS") + 1 if b"KEYS" in words else len(args)
    end = first + 1 if args[3] else len(args)
    return [(position, _MIGRATED) for position in range(first, end)]


_MIGRATED = "RW access delete"
refuse(
    "migrate",
    -6,
    "write movablekeys",
    "a node opens no connections for its clients: copy keys with DUMP here and RESTORE there",
    since="2.6.0",
    group="generic",
    keys=(3, 3, 1),
    dangerous=True,
    key_use=_MIGRATED,
    find_keys=_keys_of_migrate,
)

# Programs and users

refuse(
    "debug",
    -2,
    "admin noscript loading stale",
    "DEBUG is for those who work on Redis itself: SOFA.EXPLAIN and 'sofadb status' say what a node does, and the "
    "laboratory (sofadb.testing) pauses, cuts and kills nodes",
)
_MODULES = "there are no modules"
_USERS = "there is one user, 'default', who may do everything"


@command(
    "module",
    -2,
    Route.CONNECTION,
    "",
    group="server",
    since="4.0.0",
    summary="What concerns modules",
    complexity="Depends on subcommand.",
)
def module(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("MODULE has subcommands")


@command(
    "module|list",
    2,
    Route.CONNECTION,
    "admin noscript",
    group="server",
    since="4.0.0",
    summary="The modules, of which there are none",
)
def module_list(connection: Connection, args: list[bytes]) -> Reply:
    return []


for _name, _arity, _since in (("load", -3, "4.0.0"), ("loadex", -3, "7.0.0"), ("unload", 3, "4.0.0")):
    refuse(f"module|{_name}", _arity, "admin noscript no_async_loading", _MODULES, since=_since)


@command(
    "acl",
    -2,
    Route.CONNECTION,
    "",
    group="server",
    since="6.0.0",
    summary="What concerns users and what they may do",
    complexity="Depends on subcommand.",
)
def acl(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("ACL has subcommands")


@command(
    "acl|whoami",
    2,
    Route.CONNECTION,
    "noscript loading stale",
    group="server",
    since="6.0.0",
    summary="The name of the user, of whom there is one",
)
def acl_whoami(connection: Connection, args: list[bytes]) -> Reply:
    return b"default"


for _name, _arity, _flags, _since in (
    ("cat", -2, "", "6.0.0"),
    ("deluser", -3, "admin ", "6.0.0"),
    ("dryrun", -4, "admin ", "7.0.0"),
    ("genpass", -2, "", "6.0.0"),
    ("getuser", 3, "admin ", "6.0.0"),
    ("list", 2, "admin ", "6.0.0"),
    ("load", 2, "admin ", "6.0.0"),
    ("log", -2, "admin ", "6.0.0"),
    ("save", 2, "admin ", "6.0.0"),
    ("setuser", -3, "admin ", "6.0.0"),
    ("users", 2, "admin ", "6.0.0"),
):
    refuse(f"acl|{_name}", _arity, f"{_flags}noscript loading stale", _USERS, since=_since)


declare_help("module", group="server", since="5.0.0")
declare_help("acl", group="server", since="6.0.0")
