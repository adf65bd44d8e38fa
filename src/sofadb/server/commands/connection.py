"""A connection and what it is: who speaks, in which protocol, with which database.

Each command is a function of the connection and the words. What must come in its turn, as SELECT and QUIT, is done by
`connection`.
"""

from __future__ import annotations

from sofadb.database.replies import OK, Reply, ReplyError, Status
from sofadb.database.table import Route, command

from ..admission import USER, WRONG_PASSWORD
from ..connection import Connection
from .client import check_name
from .info import REDIS_VERSION, role_of

AUTH_WITHOUT_PASSWORD = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)

HELLO_WITHOUT_PASSWORD = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> "
    "option can be used to authenticate the client and select the RESP protocol version at the same time"
)

CONNECTION = Route.CONNECTION


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
                name = check_name(args[index + 1])
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
        b"role": role_of(connection).encode(),
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
    connection.state.monitors.forget(connection)
    connection.require_password()
    connection.resp3, connection.name = False, b""
    connection.is_readonly, connection.last_instance = False, 0
    connection.is_silent = connection.no_evict = False
    return Status(b"RESET")
