"""The server itself: its part in the cluster, its snapshots, its end."""

from __future__ import annotations

from sofadb import __version__
from sofadb.database.arguments import parse_integer
from sofadb.database.replies import SYNTAX, Reply, ReplyError, Several, Status, Verbatim
from sofadb.database.table import Route, command

from ..connection import Connection
from .info import REDIS_VERSION, last_save_s, split

CONNECTION = Route.CONNECTION


@command(
    "role",
    1,
    CONNECTION,
    "noscript loading stale fast",
    group="server",
    since="2.8.12",
    types="admin",
    dangerous=True,
    summary="Whether this node leads, and if not, who does",
)
def role(connection: Connection, args: list[bytes]) -> Reply:
    facts = connection.state.facts()
    if facts.role == "leading":
        others = [split(member.client_address) for member in facts.members if member.node != facts.node]
        applied = str(facts.applied).encode()
        return [
            b"master",
            facts.applied,
            [[host, str(port).encode(), applied] for host, port in others if host],
        ]
    host, port = split(facts.leader_client_address)
    return [b"slave", host, port, b"connected" if facts.leader else b"connect", facts.applied]


# Snapshots


@command(
    "bgsave",
    -1,
    CONNECTION,
    "admin noscript no_async_loading",
    group="server",
    summary="Take a snapshot of this node, in the background",
    differs="What is acknowledged is on disk without it. SCHEDULE changes nothing",
)
def bgsave(connection: Connection, args: list[bytes]) -> Reply:
    if len(args) > 2 or (len(args) == 2 and args[1].upper() != b"SCHEDULE"):
        raise ReplyError(SYNTAX)
    if connection.state.facts().snapshot_is_taken:
        raise ReplyError("ERR Background save already in progress")
    connection.state.take_snapshot()
    return Status(b"Background saving started")


@command(
    "save",
    1,
    CONNECTION,
    "admin noscript no_multi no_async_loading",
    group="server",
    is_refused=True,
    summary="Refused: every acknowledged write is on disk already, and BGSAVE takes a snapshot",
)
def save(connection: Connection, args: list[bytes]) -> Reply:
    raise ReplyError(
        "ERR every acknowledged write is on the disks of a majority already; BGSAVE takes a snapshot"
    )


@command(
    "lastsave",
    1,
    CONNECTION,
    "loading stale fast",
    group="server",
    summary="When this node took its latest snapshot, or was started, in seconds since 1970",
    types="admin",
    dangerous=True,
)
def lastsave(connection: Connection, args: list[bytes]) -> Reply:
    return last_save_s(connection.state.facts())


# The end


_SHUTDOWN_OPTIONS = frozenset((b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"))


@command(
    "shutdown",
    -1,
    CONNECTION,
    "admin noscript loading stale no_multi allow_busy",
    group="server",
    summary="End this node in good order: it hands over, answers what it was asked, and stops",
    differs="Only this node ends, and the others go on. SAVE, NOSAVE, NOW and FORCE change nothing: "
    "every acknowledged write is on disk",
)
def shutdown(connection: Connection, args: list[bytes]) -> Reply:
    options = {word.upper() for word in args[1:]}
    if options - _SHUTDOWN_OPTIONS or {b"SAVE", b"NOSAVE"} <= options:
        raise ReplyError(SYNTAX)
    if b"ABORT" in options:
        if len(options) > 1:
            raise ReplyError(SYNTAX)
        raise ReplyError("ERR No shutdown in progress.")
    connection.state.shut_down()
    return Several([])  # As in Redis the end of the connection is the answer.


_SOFA = r"""
      ___________________
     /                   \
  __|                     |__
 /  |_____________________|  \
|  |_______________________|  |
|_____________________________|
  ||                       ||
"""


@command(
    "lolwut",
    -1,
    CONNECTION,
    "readonly fast",
    group="server",
    types="none",
    since="5.0.0",
    summary="Something to sit on",
    differs="Every version has the same picture",
)
def lolwut(connection: Connection, args: list[bytes]) -> Reply:
    if len(args) > 2 and args[1].upper() == b"VERSION":
        parse_integer(args[2])
    return Verbatim(f"{_SOFA}\nSofaDB ver. {__version__}, as Redis ver. {REDIS_VERSION}\n".encode())
