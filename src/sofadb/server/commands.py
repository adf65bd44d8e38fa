"""The commands that concern a connection or the server, not the state: PING, CLIENT, HELLO, COMMAND, INFO, CONFIG and their kin.

Each is a function of the connection and the words, declared in the one table. What INFO and ROLE say of leading and
following is put in Redis's words, so that its clients understand: the leader is the `master`, the others are `slave`s.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

from sofadb import __version__
from sofadb.database.arguments import INTEGER_MAX, parse_integer
from sofadb.database.database import DATABASES
from sofadb.database.patterns import matcher
from sofadb.database.replies import NOT_AN_INTEGER, OK, SYNTAX, Reply, ReplyError, Status, Verbatim
from sofadb.database.table import TABLE, Command, Route, check_inner, command
from sofadb.node.facts import split_address

from . import failover as failover  # These fill the table, too.
from . import sentinel as sentinel
from .admission import USER, WRONG_PASSWORD
from .connection import Connection
from .notifications import NAME as NOTIFICATIONS
from .notifications import Notifications, UnknownLetter
from .requests import BULK_BYTES_MAX
from .subscriptions import Kind

REDIS_VERSION = "7.0.15"
"""The Redis whose commands and replies these are; clients decide by it."""

AUTH_WITHOUT_PASSWORD = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)

HELLO_WITHOUT_PASSWORD = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> "
    "option can be used to authenticate the client and select the RESP protocol version at the same time"
)

CONNECTION = Route.CONNECTION


# Connection


@command("ping", -1, CONNECTION, "fast", group="connection", summary="Answer, to show that somebody is there")
def ping(connection: Connection, args: list[bytes]) -> Reply:
    if len(args) > 2:
        raise ReplyError("ERR wrong number of arguments for 'ping' command")
    if connection.is_restricted:  # The answer must not be taken for a message.
        return [b"pong", args[1] if len(args) == 2 else b""]
    return args[1] if len(args) == 2 else Status(b"PONG")


@command("echo", 2, CONNECTION, "loading stale fast", group="connection", summary="Send back what was sent")
def echo(connection: Connection, args: list[bytes]) -> Reply:
    return args[1]


@command(
    "select", 2, CONNECTION, "loading stale fast", group="connection", summary="Go on in another database"
)
def select(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("SELECT is done on sight")


@command(
    "quit",
    -1,
    CONNECTION,
    "noscript loading stale fast no_auth allow_busy",
    group="connection",
    summary="Answer and close the connection",
)
def quit_(connection: Connection, args: list[bytes]) -> Reply:
    connection.close()
    return OK


@command(
    "auth",
    -2,
    CONNECTION,
    "noscript loading stale fast no_auth allow_busy",
    group="connection",
    summary="Prove who you are",
)
def auth(connection: Connection, args: list[bytes]) -> Reply:
    if len(args) > 3:
        raise ReplyError("ERR syntax error")
    if len(args) == 2 and not connection.state.passwords:
        raise ReplyError(AUTH_WITHOUT_PASSWORD)
    _authenticate(connection, args[1] if len(args) == 3 else USER, args[-1])
    return OK


def _authenticate(connection: Connection, user: bytes, password: bytes) -> None:
    """Trust who says so. Where no password is required, any will do. Raises `ReplyError`."""
    passwords = connection.state.passwords
    if user != USER or (passwords and not passwords.accept(password)):
        raise WRONG_PASSWORD
    connection.trust()


@command(
    "hello",
    -1,
    CONNECTION,
    "noscript loading stale fast no_auth allow_busy",
    group="connection",
    since="6.0.0",
    summary="Choose the protocol's version and introduce oneself",
)
def hello(connection: Connection, args: list[bytes]) -> Reply:
    resp3, name = connection.resp3, None
    if len(args) > 1:
        if args[1] not in (b"2", b"3"):
            if not args[1].removeprefix(b"-").isdigit():
                raise ReplyError("ERR Protocol version is not an integer or out of range")
            raise ReplyError("NOPROTO unsupported protocol version")
        resp3 = args[1] == b"3"
        index = 2
        while index < len(args):
            option = args[index].upper()
            if option == b"AUTH" and index + 2 < len(args):
                _authenticate(connection, args[index + 1], args[index + 2])
                index += 3
            elif option == b"SETNAME" and index + 1 < len(args):
                name = _check_name(args[index + 1])
                index += 2
            else:
                shown = args[index].decode(errors="surrogateescape")
                raise ReplyError(f"ERR Syntax error in HELLO option '{shown}'")
    if connection.is_stranger:
        raise ReplyError(HELLO_WITHOUT_PASSWORD)
    if name is not None:
        connection.name = name
    connection.resp3 = resp3
    return {
        b"server": b"redis",
        b"version": REDIS_VERSION.encode(),
        b"proto": 3 if resp3 else 2,
        b"id": connection.id,
        b"mode": b"standalone",
        b"role": _role(connection).encode(),
        b"modules": [],
    }


@command(
    "reset",
    1,
    CONNECTION,
    "noscript loading stale fast no_auth allow_busy",
    group="connection",
    since="6.2.0",
    summary="Make the connection as good as new",
)
def reset(connection: Connection, args: list[bytes]) -> Reply:
    connection.database, connection.multi = 0, None
    connection.unwatch()
    connection.state.subscriptions.forget(connection)
    connection.require_password()
    connection.resp3, connection.name = False, b""
    connection.is_readonly, connection.last_instance = False, 0
    return Status(b"RESET")


@command(
    "readonly",
    1,
    CONNECTION,
    "loading stale fast",
    group="connection",
    since="3.0.0",
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
    group="connection",
    since="3.0.0",
    summary="Let this connection's reads see all that was acknowledged before them, as at first",
)
def readwrite(connection: Connection, args: list[bytes]) -> Reply:
    connection.is_readonly = False
    return OK


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
)
def after(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("SOFA.AFTER is done by the connection")


# Snapshots


@command(
    "bgsave",
    -1,
    CONNECTION,
    "admin noscript no_async_loading",
    group="server",
    summary="Take a snapshot of this node, in the background",
)
def bgsave(connection: Connection, args: list[bytes]) -> Reply:
    if len(args) > 2 or (len(args) == 2 and args[1].upper() != b"SCHEDULE"):
        raise ReplyError("ERR syntax error")
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
    summary="Refused: every acknowledged write is on disk already",
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
    summary="When this node took its latest snapshot, in seconds since 1970",
    dangerous=True,
)
def lastsave(connection: Connection, args: list[bytes]) -> Reply:
    return connection.state.facts().snapshot_at // 1000


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


# Transactions (what they do is in `connection`)


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


# CLIENT


@command(
    "client",
    -2,
    CONNECTION,
    "",
    group="connection",
    since="2.4.0",
    summary="What concerns client connections",
)
def client(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("CLIENT has subcommands")


_CLIENT_FLAGS = "noscript loading stale"


@command(
    "client|id",
    2,
    CONNECTION,
    _CLIENT_FLAGS,
    group="connection",
    since="5.0.0",
    summary="The number of this connection",
)
def client_id(connection: Connection, args: list[bytes]) -> Reply:
    return connection.id


@command(
    "client|getname",
    2,
    CONNECTION,
    _CLIENT_FLAGS,
    group="connection",
    since="2.6.9",
    summary="The name this connection has given itself",
)
def client_getname(connection: Connection, args: list[bytes]) -> Reply:
    return connection.name or None


@command(
    "client|setname",
    3,
    CONNECTION,
    _CLIENT_FLAGS,
    group="connection",
    since="2.6.9",
    summary="Give this connection a name",
)
def client_setname(connection: Connection, args: list[bytes]) -> Reply:
    connection.name = _check_name(args[2])
    return OK


NAME_BYTES_MAX = 1024


def _check_name(name: bytes) -> bytes:
    if len(name) > NAME_BYTES_MAX:
        raise ReplyError(f"ERR Client names have {NAME_BYTES_MAX} bytes at most.")
    if any(not 33 <= byte <= 126 for byte in name):
        raise ReplyError("ERR Client names cannot contain spaces, newlines or special characters.")
    return name


@command(
    "client|unblock",
    -3,
    CONNECTION,
    "admin noscript loading stale",
    group="connection",
    since="5.0.0",
    summary="Let a client of this node that waits wait no longer: as if its time were over, or with an error",
)
def client_unblock(connection: Connection, args: list[bytes]) -> Reply:
    """Where the client is being served just now, what comes of that is its answer."""
    if len(args) > 4:
        name = args[1].decode()
        raise ReplyError(
            f"ERR unknown subcommand or wrong number of arguments for '{name}'. Try CLIENT HELP."
        )
    reason = args[3].upper() if len(args) == 4 else b"TIMEOUT"
    if reason not in (b"TIMEOUT", b"ERROR"):
        raise ReplyError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    client = connection.state.clients.get(parse_integer(args[2]))
    error = ReplyError("UNBLOCKED client unblocked via CLIENT UNBLOCK") if reason == b"ERROR" else None
    return int(client is not None and client.unblock(error))


@command(
    "client|setinfo",
    4,
    CONNECTION,
    _CLIENT_FLAGS,
    group="connection",
    since="7.2.0",
    summary="Note which library speaks on this connection",
)
def client_setinfo(connection: Connection, args: list[bytes]) -> Reply:
    attribute = args[2].upper()
    if attribute not in (b"LIB-NAME", b"LIB-VER"):
        raise ReplyError(f"ERR Unrecognized option '{args[2].decode(errors='backslashreplace')}'")
    if len(args[3]) > NAME_BYTES_MAX or any(not 33 <= byte <= 126 for byte in args[3]):
        raise ReplyError(
            f"ERR {attribute.decode().lower()} cannot contain spaces, newlines or special characters."
        )
    connection.library[attribute == b"LIB-VER"] = args[3]
    return OK


@command(
    "client|info",
    2,
    CONNECTION,
    _CLIENT_FLAGS,
    group="connection",
    since="6.2.0",
    summary="This connection's line of CLIENT LIST",
)
def client_info(connection: Connection, args: list[bytes]) -> Reply:
    return Verbatim(_client_line(connection))


@command(
    "client|list",
    -2,
    CONNECTION,
    f"admin {_CLIENT_FLAGS}",
    group="connection",
    since="2.4.0",
    summary="All connections of this node, a line each",
    reply_is_large=True,
    complexity="O(N)",
)
def client_list(connection: Connection, args: list[bytes]) -> Reply:
    clients = connection.state.clients
    chosen = list(clients.values())
    if len(args) > 2:
        option = args[2].upper()
        if option == b"TYPE" and len(args) == 4:
            kind = args[3].lower()
            if kind not in (b"normal", b"master", b"replica", b"slave", b"pubsub"):
                raise ReplyError(f"ERR Unknown client type '{args[3].decode(errors='backslashreplace')}'")
            if kind in (b"normal", b"pubsub"):
                chosen = [each for each in chosen if bool(each.subscription_count) == (kind == b"pubsub")]
            else:
                chosen = []
        elif option == b"ID" and len(args) > 3:
            numbers = [parse_integer(word, "ERR Invalid client ID") for word in args[3:]]
            chosen = [clients[number] for number in numbers if number in clients]
        else:
            raise ReplyError("ERR syntax error")
    return Verbatim(b"".join(map(_client_line, chosen)))


def _flags(connection: Connection) -> str:
    given = {
        "P": bool(connection.subscription_count),
        "x": connection.multi is not None,
        "b": connection.is_blocked,
    }
    return "".join(letter for letter, holds in given.items() if holds) or "N"


def _client_line(connection: Connection) -> bytes:
    transport = connection.transport
    now = time.monotonic()
    sock = None if transport is None else transport.get_extra_info("socket")
    fields = {
        "id": connection.id,
        "addr": connection.address,
        "laddr": connection.local_address,
        "fd": -1 if sock is None else sock.fileno(),
        "name": connection.name.decode(),
        "age": int(now - connection.created_at),
        "idle": 0,
        "flags": _flags(connection),
        "db": connection.database,
        "sub": len(connection.subscribed[Kind.CHANNEL]),
        "psub": len(connection.subscribed[Kind.PATTERN]),
        "ssub": len(connection.subscribed[Kind.SHARD]),
        "multi": connection.queued_count,
        "qbuf": connection.requests.waiting_bytes,
        "qbuf-free": 0,
        "argv-mem": 0,
        "multi-mem": 0 if connection.multi is None else connection.multi.size,
        "rbs": 0,
        "rbp": 0,
        "obl": 0,
        "oll": 0,
        "omem": connection.unread_bytes,
        "tot-mem": 0,
        "events": "r",
        "cmd": connection.last_command,
        "user": "default",
        "redir": -1,
        "resp": 3 if connection.resp3 else 2,
        "lib-name": connection.library[0].decode(),
        "lib-ver": connection.library[1].decode(),
    }
    return " ".join(f"{name}={value}" for name, value in fields.items()).encode() + b"\n"


# COMMAND


@command(
    "command",
    -1,
    CONNECTION,
    "loading stale",
    group="server",
    since="2.8.13",
    summary="Declarations of all commands",
    reply_is_large=True,
)
def command_(connection: Connection, args: list[bytes]) -> Reply:
    return [_command_info(each) for each in TABLE.values()]


_COMMAND_FLAGS = "loading stale"


@command(
    "command|count",
    2,
    CONNECTION,
    _COMMAND_FLAGS,
    group="server",
    since="2.8.13",
    summary="How many commands there are",
)
def command_count(connection: Connection, args: list[bytes]) -> Reply:
    return len(TABLE)


@command(
    "command|list",
    -2,
    CONNECTION,
    _COMMAND_FLAGS,
    group="server",
    since="7.0.0",
    summary="The names of commands",
    reply_is_large=True,
)
def command_list(connection: Connection, args: list[bytes]) -> Reply:
    names = [each.name.encode() for each in TABLE.values()]
    if len(args) == 2:
        return names
    if len(args) != 5 or args[2].upper() != b"FILTERBY":
        raise ReplyError("ERR syntax error")
    kind = args[3].upper()
    if kind == b"PATTERN":
        matches = matcher(args[4], ignore_case=True)
        return [name for name in names if matches(name)]
    if kind in (b"MODULE", b"ACLCAT"):
        return []
    raise ReplyError("ERR syntax error")


@command(
    "command|info",
    -2,
    CONNECTION,
    _COMMAND_FLAGS,
    group="server",
    since="2.8.13",
    summary="Declarations of some commands",
    reply_is_large=True,
)
def command_info(connection: Connection, args: list[bytes]) -> Reply:
    if len(args) == 2:
        return [_command_info(each) for each in TABLE.values()]
    found = (_find(name) for name in args[2:])
    return [None if each is None else _command_info(each) for each in found]


@command(
    "command|docs",
    -2,
    CONNECTION,
    _COMMAND_FLAGS,
    group="server",
    since="7.0.0",
    summary="What commands do",
    reply_is_large=True,
)
def command_docs(connection: Connection, args: list[bytes]) -> Reply:
    chosen = (
        TABLE.values() if len(args) == 2 else [each for name in args[2:] if (each := _find(name)) is not None]
    )
    return {each.name.encode(): _command_docs(each) for each in chosen}


def _find(name: bytes) -> Command | None:
    container, _, sub = name.upper().partition(b"|")
    found = TABLE.get(container)
    return found.subcommands.get(sub) if found is not None and sub else found


def _command_info(it: Command) -> Reply:
    first, last, step = it.keys
    return [
        it.name.encode(),
        it.arity,
        [Status(flag.encode()) for flag in it.flags],
        first,
        last,
        step,
        [],
        [],
        [],
        [_command_info(sub) for sub in it.subcommands.values()],
    ]


def _command_docs(it: Command) -> Reply:
    docs: dict[Reply, Reply] = {
        b"summary": it.summary.encode(),
        b"since": it.since.encode(),
        b"group": it.group.encode(),
        b"complexity": it.complexity.encode(),
    }
    if it.subcommands:
        docs[b"subcommands"] = {sub.name.encode(): _command_docs(sub) for sub in it.subcommands.values()}
    return docs


# CONFIG


@command(
    "config",
    -2,
    CONNECTION,
    "",
    group="server",
    since="2.0.0",
    summary="What concerns the configuration",
)
def config(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("CONFIG has subcommands")


@command(
    "config|get",
    -3,
    CONNECTION,
    "admin noscript loading stale",
    group="server",
    since="2.0.0",
    summary="Settings whose names match a pattern",
)
def config_get(connection: Connection, args: list[bytes]) -> Reply:
    settings = _configuration(connection)
    patterns = [matcher(pattern, ignore_case=True) for pattern in args[2:]]
    return {name: value for name, value in settings.items() if any(matches(name) for matches in patterns)}


@command(
    "config|set",
    -4,
    CONNECTION,
    "admin noscript loading stale",
    group="server",
    since="2.0.0",
    summary="Change notify-keyspace-events, on this node; all else is said when a node is started",
)
def config_set(connection: Connection, args: list[bytes]) -> Reply:
    """All of it or nothing, as in Redis."""
    if len(args) % 2:
        raise ReplyError(SYNTAX)
    changes: dict[str, Callable[[], None]] = {}
    for word, value in zip(args[2::2], args[3::2], strict=True):
        name = word.decode(errors="replace").lower()
        if name.encode() not in _configuration(connection) and name not in _FIXED:
            raise ReplyError(f"ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
        if name in changes:
            raise _not_set(name, "duplicate parameter")
        if name not in _CHANGES:
            raise _not_set(name, _FIXED.get(name, "it is an option of 'sofadb serve'"))
        changes[name] = _CHANGES[name](connection, value)
    for change in changes.values():
        change()
    return OK


_FIXED = {"requirepass": "a node has its passwords from the file that it was started with (--password-file)"}
"""What CONFIG GET does not tell."""


def _not_set(name: str, reason: str) -> ReplyError:
    return ReplyError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")


def _change_of_notifications(connection: Connection, value: bytes) -> Callable[[], None]:
    try:
        notifications = Notifications(value.decode(errors="replace"))
    except UnknownLetter:
        raise _not_set(NOTIFICATIONS, "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.") from None
    return lambda: connection.state.notify_of(notifications)


_CHANGES: dict[str, Callable[[Connection, bytes], Callable[[], None]]] = {
    NOTIFICATIONS: _change_of_notifications
}
"""What can be changed; each looks at the new value and gives back what puts it in force."""


def _configuration(connection: Connection) -> dict[Reply, Reply]:
    """What is so, in the names that Redis has for it."""
    state = connection.state
    values = {
        "appendfsync": "always",
        "appendonly": "yes",
        "bind": state.host,
        "databases": DATABASES,
        "dir": state.facts().directory,
        "maxclients": state.settings.clients_max,
        "maxmemory": 0,
        "maxmemory-policy": "noeviction",
        NOTIFICATIONS: state.notifications.letters,
        "port": state.port,
        "proto-max-bulk-len": BULK_BYTES_MAX,
        "protected-mode": "yes" if state.is_protected else "no",
        "save": "",
        "tcp-keepalive": 300,
        "timeout": 0,
    }
    return {name.encode(): str(value).encode() for name, value in values.items()}


# What the node is


def _role(connection: Connection) -> str:
    return "master" if connection.state.facts().role == "leading" else "slave"


@command(
    "role",
    1,
    CONNECTION,
    "noscript loading stale fast",
    group="server",
    since="2.8.12",
    summary="Whether this node leads, and if not, who does",
)
def role(connection: Connection, args: list[bytes]) -> Reply:
    facts = connection.state.facts()
    if facts.role == "leading":
        others = [_split(member.client_address) for member in facts.members if member.node != facts.node]
        applied = str(facts.applied).encode()
        return [
            b"master",
            facts.applied,
            [[host, str(port).encode(), applied] for host, port in others if host],
        ]
    host, port = _split(facts.leader_client_address)
    return [b"slave", host, port, b"connected" if facts.leader else b"connect", facts.applied]


def _split(address: str) -> tuple[bytes, int]:
    host, port = split_address(address)
    return host.encode(), port


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


@command(
    "info",
    -1,
    CONNECTION,
    "loading stale",
    group="server",
    summary="Facts and figures about this node",
)
def info(connection: Connection, args: list[bytes]) -> Reply:
    wanted = {word.decode(errors="replace").lower() for word in args[1:]}
    sections = _sections(connection)
    if wanted and not wanted & {"all", "default", "everything"}:
        sections = {name: fields for name, fields in sections.items() if name.lower() in wanted}
    text = "\r\n".join(
        f"# {name}\r\n" + "".join(f"{field}:{value}\r\n" for field, value in fields.items())
        for name, fields in sections.items()
    )
    return Verbatim(text.encode())


def _sections(connection: Connection) -> dict[str, dict[str, object]]:
    state = connection.state
    facts = state.facts()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    database = state.node.database
    others = [member for member in facts.members if member.node != facts.node]
    replication: dict[str, object] = {"role": _role(connection)}
    if facts.role == "leading":
        replication["master_failover_state"] = "waiting-for-sync" if facts.successor else "no-failover"
        replication["connected_slaves"] = sum(member.is_reachable for member in others)
        for number, member in enumerate(member for member in others if member.is_reachable):
            host, port = _split(member.client_address)
            replication[f"slave{number}"] = (
                f"ip={host.decode()},port={port},state=online,offset={facts.applied},lag=0"
            )
    else:
        host, port = _split(facts.leader_client_address)
        replication["master_host"], replication["master_port"] = host.decode(), port
        replication["master_link_status"] = "up" if facts.leader else "down"
        replication["connected_slaves"] = 0
    replication |= {"master_replid": facts.cluster.ljust(40, "0"), "master_repl_offset": facts.applied}
    return {
        "Server": {
            "redis_version": REDIS_VERSION,
            "sofadb_version": __version__,
            "redis_mode": "standalone",
            "os": sys.platform,
            "arch_bits": 64,
            "process_id": facts.process_id,
            "run_id": facts.run_id(facts.node),
            "tcp_port": state.port,
            "uptime_in_seconds": facts.uptime_s,
            "uptime_in_days": facts.uptime_s // 86_400,
            "node_id": facts.node,
            "node_starts": facts.starts,
        },
        "Clients": {
            "connected_clients": len(state.clients),
            "maxclients": state.settings.clients_max,
            "client_recent_max_input_buffer": state.recent_input_bytes_max,
            "client_recent_max_output_buffer": state.recent_output_bytes_max,
            "blocked_clients": len(state.waiting),
            "commands_under_way": state.begun_commands,
        },
        "Memory": {
            "used_memory_rss": _resident_bytes(),
            "used_memory_peak": usage.ru_maxrss * 1024,
            "maxmemory": 0,
        },
        "Persistence": {
            "loading": 0,
            "aof_enabled": 1,
            "journal_bytes_written": facts.journal_bytes,
            "journal_syncs": facts.journal_syncs,
            "journal_bytes_held": facts.journal_held,
            "rdb_bgsave_in_progress": int(facts.snapshot_is_taken),
            "rdb_last_save_time": facts.snapshot_at // 1000,
            "rdb_last_bgsave_status": "err" if facts.snapshot_problem else "ok",
            "snapshot_instance": facts.snapshot,
            "snapshot_bytes": facts.snapshot_bytes,
            "archived_instance": -1 if facts.archived is None else facts.archived,
            "archive_problem": facts.archive_problem,
            "journal_damage": len(facts.damage),
            "node_in_doubt": int(bool(facts.doubt)),
            "disk_full": int(bool(facts.shortage)),
        },
        "Stats": {
            "total_connections_received": state.connections_received,
            "total_commands_processed": state.commands_processed,
            "total_net_input_bytes": state.bytes_read,
            "rejected_connections": state.connections_rejected,
            "expired_keys": database.expired,
            "total_error_replies": state.errors,
            "commands_refused_for_lack_of_room": state.refused_commands,
            "client_query_buffer_limit_disconnections": state.input_disconnections,
            "client_output_buffer_limit_disconnections": state.output_disconnections,
            "pubsub_channels": len(state.subscriptions.channels),
            "pubsub_patterns": len(state.subscriptions.patterns),
            "pubsubshard_channels": len(state.subscriptions.shards),
        },
        "Replication": replication,
        "Paxos": {
            "leader": facts.leader,
            "ballot": facts.ballot,
            "chosen_instance": facts.chosen,
            "applied_instance": facts.applied,
            "feature_level": facts.level,
        },
        "CPU": {"used_cpu_sys": f"{usage.ru_stime:.6f}", "used_cpu_user": f"{usage.ru_utime:.6f}"},
        "Keyspace": {
            f"db{keyspace.number}": f"keys={len(keyspace.values)},expires={len(keyspace.expiry)},avg_ttl=0"
            for keyspace in database.keyspaces
            if keyspace.values
        },
    }


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:  # Not Linux: the peak is the best there is.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
