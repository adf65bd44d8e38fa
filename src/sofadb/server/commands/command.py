"""COMMAND: what commands there are, as the one table declares them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sofadb.database.keys import find_keys, specs_of
from sofadb.database.patterns import matcher
from sofadb.database.replies import SYNTAX, Reply, ReplyError, Status, Unordered
from sofadb.database.table import TABLE, Command, Keys, Route, command, find

from ..connection import Connection
from ..help import declare_help

CONNECTION = Route.CONNECTION


@command(
    "command",
    -1,
    CONNECTION,
    "loading stale",
    group="server",
    types="connection",
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
    types="connection",
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
    types="connection",
    since="7.0.0",
    summary="The names of commands, perhaps of those of a module, of a category, or that match a pattern",
    complexity="O(N)",
    reply_is_large=True,
)
def command_list(connection: Connection, args: list[bytes]) -> Reply:
    if len(args) == 2:
        return [each.name.encode() for each in _all()]
    if len(args) != 5 or args[2].upper() != b"FILTERBY" or args[3].upper() not in _FILTERS:
        raise ReplyError(SYNTAX)
    chosen = _FILTERS[args[3].upper()](args[4])
    return [each.name.encode() for each in _all() if chosen(each)]


def _all() -> Iterator[Command]:
    """Every command, and its subcommands behind it."""
    for each in TABLE.values():
        yield each
        yield from each.subcommands.values()


def _of_module(name: bytes) -> Callable[[Command], bool]:
    return lambda each: False


def _of_category(name: bytes) -> Callable[[Command], bool]:
    category = name.decode(errors="replace").lower()
    return lambda each: category in each.categories


def _like(pattern: bytes) -> Callable[[Command], bool]:
    matches = matcher(pattern, ignore_case=True)
    return lambda each: bool(matches(each.name.encode()))


_FILTERS = {b"MODULE": _of_module, b"ACLCAT": _of_category, b"PATTERN": _like}


@command(
    "command|info",
    -2,
    CONNECTION,
    _COMMAND_FLAGS,
    group="server",
    types="connection",
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
    types="connection",
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
        Unordered(Status(flag.encode()) for flag in it.flags),
        first,
        last,
        step,
        Unordered(Status(b"@" + category.encode()) for category in it.categories),
        Unordered(),
        Unordered(spec.shown() for spec in specs_of(it)),
        [_command_info(sub) for sub in it.subcommands.values()] or Unordered(),
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


# Keys


@command(
    "command|getkeys",
    -4,
    CONNECTION,
    _COMMAND_FLAGS,
    group="server",
    types="connection",
    since="2.8.13",
    summary="The keys among the words of a command",
    complexity="O(N)",
    reply_is_large=True,
)
def command_getkeys(connection: Connection, args: list[bytes]) -> Reply:
    words = args[2:]
    return [words[position] for position, _ in _keys_of(words)]


@command(
    "command|getkeysandflags",
    -4,
    CONNECTION,
    _COMMAND_FLAGS,
    group="server",
    types="connection",
    since="7.0.0",
    summary="The keys among the words of a command, and what becomes of each",
    complexity="O(N)",
    reply_is_large=True,
)
def command_getkeysandflags(connection: Connection, args: list[bytes]) -> Reply:
    words = args[2:]
    return [
        [words[position], Unordered(Status(word.encode()) for word in use.split())]
        for position, use in _keys_of(words)
    ]


def _keys_of(words: list[bytes]) -> Keys:
    found = find(words)
    if found is None:
        raise ReplyError("ERR Invalid command specified")
    if not specs_of(found) and found.find_keys is None:
        raise ReplyError("ERR The command has no key arguments")
    if not found.takes(len(words)):
        raise ReplyError("ERR Invalid number of arguments specified for command")
    keys = find_keys(found, words)
    if not keys and "no_mandatory_keys" not in found.flags:
        raise ReplyError("ERR Invalid arguments specified for command")
    return keys


declare_help("command", group="server", since="5.0.0", types="connection")
