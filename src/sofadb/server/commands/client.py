"""CLIENT: the connections of this node, and what they want of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from sofadb.database.arguments import parse_integer
from sofadb.database.replies import OK, SYNTAX, Reply, ReplyError, Unordered, Verbatim
from sofadb.database.table import Route, command

from ..connection import Connection
from ..help import declare_help
from ..subscriptions import Kind

CONNECTION = Route.CONNECTION


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
    connection.name = check_name(args[2])
    return OK


NAME_BYTES_MAX = 1024


def check_name(name: bytes) -> bytes:
    if len(name) > NAME_BYTES_MAX:
        raise ReplyError(f"ERR Client names have {NAME_BYTES_MAX} bytes at most.")
    if any(not 33 <= byte <= 126 for byte in name):
        raise ReplyError("ERR Client names cannot contain spaces, newlines or special characters.")
    return name


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
    "client|reply",
    3,
    CONNECTION,
    _CLIENT_FLAGS,
    group="connection",
    since="3.2.0",
    summary="Tell whether replies are wanted: ON, OFF, or SKIP for that of the next command",
)
def client_reply(connection: Connection, args: list[bytes]) -> Reply:
    """Its own reply is told only if it was ON. `connection` drops what is not wanted."""
    word = args[2].upper()
    if word == b"ON":
        connection.is_silent = False
    elif word == b"OFF":
        connection.is_silent = True
    elif word != b"SKIP":
        raise ReplyError(SYNTAX)
    elif not connection.is_silent:
        connection.skipped_replies = 2
    return OK


@command(
    "client|no-evict",
    3,
    CONNECTION,
    f"admin {_CLIENT_FLAGS}",
    group="connection",
    since="7.0.0",
    summary="Note that this connection should not be given up when there is no room",
    differs="It is shown in CLIENT LIST only: who does not read is cut off all the same",
)
def client_no_evict(connection: Connection, args: list[bytes]) -> Reply:
    word = args[2].upper()
    if word not in (b"ON", b"OFF"):
        raise ReplyError(SYNTAX)
    connection.no_evict = word == b"ON"
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
            kind = _kind(args[3])
            chosen = [each for each in chosen if _kind_of(each) == kind]
        elif option == b"ID" and len(args) > 3:
            numbers = [parse_integer(word, "ERR Invalid client ID") for word in args[3:]]
            chosen = [clients[number] for number in numbers if number in clients]
        else:
            raise ReplyError("ERR syntax error")
    return Verbatim(b"".join(map(_client_line, chosen)))


_KINDS = {
    b"normal": "normal",
    b"master": "master",
    b"replica": "replica",
    b"slave": "replica",
    b"pubsub": "pubsub",
}


def _kind(text: bytes) -> str:
    """Which clients are meant. (Nodes are nobody's clients, so there are no masters and replicas among them.)"""
    kind = _KINDS.get(text.lower())
    if kind is None:
        raise ReplyError(f"ERR Unknown client type '{text.decode(errors='surrogateescape')}'")
    return kind


def _kind_of(connection: Connection) -> str:
    return "pubsub" if connection.is_subscriber else "normal"


def _flags(connection: Connection) -> str:
    """In Redis's letters and order."""
    letters = {
        "O": connection in connection.state.monitors,
        "P": connection.is_subscriber,
        "x": connection.multi is not None,
        "b": connection.is_blocked,
        "c": connection.is_closing,
        "e": connection.no_evict,
    }
    return "".join(letter for letter, holds in letters.items() if holds) or "N"


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
        "idle": connection.idle_s,
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


# CLIENT KILL


@command(
    "client|kill",
    -3,
    CONNECTION,
    f"admin {_CLIENT_FLAGS}",
    group="connection",
    since="2.4.0",
    summary="End connections: by address, or by ID, TYPE, USER, ADDR, LADDR and SKIPME",
    complexity="O(N)",
    differs="What such a client has under way is answered first. Clients of other nodes are not concerned",
)
def client_kill(connection: Connection, args: list[bytes]) -> Reply:
    clients = [each for each in connection.state.clients.values() if not each.is_closing]
    if len(args) == 3:
        address = args[2].decode(errors="replace")
        found = next((each for each in clients if each.address == address), None)
        if found is None:
            raise ReplyError("ERR No such client")
        found.kill()
        return OK
    wanted, skips_me = _filters(args[2:])
    chosen = [each for each in clients if not (skips_me and each is connection) and wanted(each)]
    for each in chosen:
        each.kill()
    return len(chosen)


def _filters(words: list[bytes]) -> tuple[Callable[[Connection], bool], bool]:
    """Who is meant by all of these together, and whether who asks is left out."""
    tests: list[Callable[[Connection], bool]] = []
    skips_me = True
    for index in range(0, len(words), 2):
        option = words[index].upper()
        if index + 1 == len(words) or option not in (*_TESTS, b"SKIPME"):
            raise ReplyError(SYNTAX)
        text = words[index + 1]
        if option != b"SKIPME":
            tests.append(_TESTS[option](text))
        elif text.upper() in (b"YES", b"NO"):
            skips_me = text.upper() == b"YES"
        else:
            raise ReplyError(SYNTAX)
    return lambda client: all(test(client) for test in tests), skips_me


def _with_id(text: bytes) -> Callable[[Connection], bool]:
    problem = "ERR client-id should be greater than 0"
    number = parse_integer(text, problem)
    if number < 1:
        raise ReplyError(problem)
    return lambda client: client.id == number


def _of_kind(text: bytes) -> Callable[[Connection], bool]:
    kind = _kind(text)
    return lambda client: _kind_of(client) == kind


def _of_user(text: bytes) -> Callable[[Connection], bool]:
    if text != b"default":
        raise ReplyError(f"ERR No such user '{text.decode(errors='surrogateescape')}'")
    return lambda client: True


def _at(text: bytes) -> Callable[[Connection], bool]:
    address = text.decode(errors="replace")
    return lambda client: client.address == address


def _at_local(text: bytes) -> Callable[[Connection], bool]:
    address = text.decode(errors="replace")
    return lambda client: client.local_address == address


_TESTS: dict[bytes, Callable[[bytes], Callable[[Connection], bool]]] = {
    b"ID": _with_id,
    b"TYPE": _of_kind,
    b"USER": _of_user,
    b"ADDR": _at,
    b"LADDR": _at_local,
}


# CLIENT UNBLOCK


@command(
    "client|unblock",
    -3,
    CONNECTION,
    f"admin {_CLIENT_FLAGS}",
    group="connection",
    since="5.0.0",
    summary="Let a client of this node that waits wait no longer: as if its time were over, or with an error",
)
def client_unblock(connection: Connection, args: list[bytes]) -> Reply:
    """Where the client is being served just now, what comes of that is its answer."""
    if len(args) > 4:
        raise _miscounted(args)
    reason = args[3].upper() if len(args) == 4 else b"TIMEOUT"
    if reason not in (b"TIMEOUT", b"ERROR"):
        raise ReplyError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    client = connection.state.clients.get(parse_integer(args[2]))
    error = ReplyError("UNBLOCKED client unblocked via CLIENT UNBLOCK") if reason == b"ERROR" else None
    return int(client is not None and client.unblock(error))


def _miscounted(args: list[bytes]) -> ReplyError:
    return ReplyError(
        f"ERR unknown subcommand or wrong number of arguments for '{args[1].decode()}'. Try CLIENT HELP."
    )


# CLIENT PAUSE


@command(
    "client|pause",
    -3,
    CONNECTION,
    f"admin {_CLIENT_FLAGS}",
    group="connection",
    since="2.9.50",
    summary="Begin no commands (ALL) or no writes (WRITE) of this node's clients for so many milliseconds",
    differs="It concerns this node and its clients. CLIENT UNPAUSE is never held back; a pause ends after 100 days",
)
def client_pause(connection: Connection, args: list[bytes]) -> Reply:
    if len(args) > 4:
        raise _miscounted(args)
    mode = args[3].upper() if len(args) == 4 else b"ALL"
    if mode not in (b"WRITE", b"ALL"):
        raise ReplyError("ERR CLIENT PAUSE mode must be WRITE or ALL")
    ms = parse_integer(args[2], "ERR timeout is not an integer or out of range")
    if ms < 0:
        raise ReplyError("ERR timeout is negative")
    connection.state.short_way.close()
    connection.state.pause.begin(ms / 1000, only_writes=mode == b"WRITE")
    return OK


@command(
    "client|unpause",
    2,
    CONNECTION,
    f"admin {_CLIENT_FLAGS}",
    group="connection",
    since="6.2.0",
    summary="End the pause",
    complexity="O(N)",
)
def client_unpause(connection: Connection, args: list[bytes]) -> Reply:
    connection.state.pause.end()
    return OK


# Tracking of what clients keep, which is not there yet


@command(
    "client|tracking",
    -3,
    CONNECTION,
    _CLIENT_FLAGS,
    group="connection",
    since="6.0.0",
    summary="Have the node tell when keys change that this client keeps",
    differs="It is always OFF; ON is refused",
)
def client_tracking(connection: Connection, args: list[bytes]) -> Reply:
    word = args[2].upper()
    _check_tracking(connection, args[3:])
    if word not in (b"ON", b"OFF"):
        raise ReplyError(SYNTAX)
    if word == b"ON":
        raise ReplyError("ERR this node does not track what its clients keep: let kept values expire soon")
    return OK


_TRACKING_OPTIONS = {b"REDIRECT": 2, b"PREFIX": 2, b"BCAST": 1, b"OPTIN": 1, b"OPTOUT": 1, b"NOLOOP": 1}
"""How many words each has."""


def _check_tracking(connection: Connection, options: list[bytes]) -> None:
    index, has_redirect = 0, False
    while index < len(options):
        option = options[index].upper()
        count = _TRACKING_OPTIONS.get(option)
        if count is None or index + count > len(options):
            raise ReplyError(SYNTAX)
        if option == b"REDIRECT":
            if has_redirect:
                raise ReplyError("ERR A client can only redirect to a single other client")
            has_redirect = True
            if parse_integer(options[index + 1]) not in connection.state.clients:
                raise ReplyError("ERR The client ID you want redirect to does not exist")
        index += count


@command(
    "client|trackinginfo",
    2,
    CONNECTION,
    _CLIENT_FLAGS,
    group="connection",
    since="6.2.0",
    summary="What is tracked for this client: nothing",
)
def client_trackinginfo(connection: Connection, args: list[bytes]) -> Reply:
    return {b"flags": Unordered([b"off"]), b"redirect": -1, b"prefixes": []}


@command(
    "client|getredir",
    2,
    CONNECTION,
    _CLIENT_FLAGS,
    group="connection",
    since="6.0.0",
    summary="To whom it is told instead when keys change: to nobody (-1)",
)
def client_getredir(connection: Connection, args: list[bytes]) -> Reply:
    return -1


@command(
    "client|caching",
    3,
    CONNECTION,
    _CLIENT_FLAGS,
    group="connection",
    since="6.0.0",
    summary="Whether the keys of the next command are tracked; an error, since nothing is",
)
def client_caching(connection: Connection, args: list[bytes]) -> Reply:
    raise ReplyError(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
    )


declare_help("client", group="connection", since="5.0.0")
