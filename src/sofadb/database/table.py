"""The one table of commands. Routing, COMMAND, MULTI and the documentation read it; nothing else knows what commands there are.

A command is declared where its function stands, by the decorator `command`. Names, arities, flags and key positions are
those of Redis 7.0 (`COMMAND INFO`), since clients decide by them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from .budget import Cost, estimate
from .replies import ReplyError

if TYPE_CHECKING:
    from .keyspace import Keyspace


class Route(Enum):
    """Where a command is done."""

    READ = "read"
    """On this node's state, once that is known to be fresh enough."""
    WRITE = "write"
    """Through the sequence, on every replica."""
    CONNECTION = "connection"
    """Between client and server; the state machine never sees it."""


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """One command."""

    name: str
    """In lower case; of a subcommand, `container|name`."""
    arity: int
    """How many words with the name; negative: at least so many."""
    route: Route
    function: Callable[..., Any]
    flags: tuple[str, ...] = ()
    keys: tuple[int, int, int] = (0, 0, 0)
    """First key, last key (negative: counted from the end), step."""
    group: str = "generic"
    since: str = "1.0.0"
    summary: str = ""
    complexity: str = "O(1)"
    categories: tuple[str, ...] = ()
    """Of access control, without their `@`, in Redis's order."""
    reply_is_large: bool | Callable[[list[bytes]], bool] = False
    """Its reply may be large, whatever it is asked with or with such words, so a client gets one such reply at a time."""
    reply_varies: bool = False
    """Replicas of the same state may answer it differently."""
    is_blocking: bool = False
    """It may wait for something, with all that its client asks behind it."""
    inspect: Callable[[list[bytes]], object] | None = None
    """What else there is to check before it is proposed. Raises `ReplyError`."""
    key_use: str = ""
    """What becomes of its keys, in Redis's words; of each of the first keys, if that differs, and of the rest (`keys`)."""
    counted_keys: int = 0
    """Where the number stands of keys that follow it; 0: nowhere."""
    find_keys: Callable[[list[bytes]], Keys] | None = None
    """Says where its keys are, and what becomes of each, if they are not where the rest says or not only there."""
    differs: str = ""
    """What of it is other than in Redis, in a sentence or two without the last full stop."""
    is_refused: bool = False
    """Whether all that it ever answers is that it is not done, and why."""
    many: Many | None = None
    """Executes many of it at once, where that can be done for less than one after the other."""
    cost: Cost | None = None
    """What it costs (`budget.py`), if that may be much more than its words tell."""
    cost_in_log: Cost | None = None
    """Of a read, what it costs within a write, where all replicas do it, if it costs nothing elsewhere."""
    is_dear_to_read: bool = False
    """Whether it is a read that has a cost."""
    subcommands: dict[bytes, Command] = field(default_factory=dict)

    def replies_large(self, args: list[bytes]) -> bool:
        """Whether its reply to these words may be large. What they mean was not checked yet."""
        large = self.reply_is_large
        return large if isinstance(large, bool) else large(args)

    @property
    def is_ordinary(self) -> bool:
        """Whether it asks for no more than the state, at once, and its name and number of words say that it may be begun."""
        is_plain = self.reply_is_large is False and self.inspect is None and not self.is_dear_to_read
        return is_plain and self.route is not Route.CONNECTION and not (self.is_blocking or self.subcommands)

    def takes(self, words: int) -> bool:
        """Whether it may have so many words."""
        return words == self.arity if self.arity > 0 else words >= -self.arity


Many = Callable[[Any, list[list[bytes]]], list[Any] | None]
"""Called with the keyspace and the columns of requests of equal length: the names, the first words behind them, and so on.

Returns the replies, and has done what the requests would have done one after the other; or None, and has done nothing. None
of them may fail, or bring anything that somebody waits for.
"""

Keys = list[tuple[int, str]]
"""Positions of keys among the words of a command, and the use of each."""

TABLE: dict[bytes, Command] = {}
"""By name, in capitals."""

COSTS: dict[Callable[..., Any], Cost] = {}
"""What writes cost, by their functions."""

_by_spelling: dict[bytes, Command] = {}
"""The spellings seen so far, so that names need not be changed to capitals each time."""
_ordinary: dict[bytes, Command | None] = {}
"""Likewise, of those that are ordinary, or None."""
SPELLINGS_MAX = 4096

Function = TypeVar("Function", bound=Callable[..., Any])


def command(
    name: str,
    arity: int,
    route: Route,
    flags: str = "",
    *,
    keys: tuple[int, int, int] = (0, 0, 0),
    group: str = "generic",
    types: str = "",
    since: str = "1.0.0",
    summary: str = "",
    complexity: str = "O(1)",
    dangerous: bool = False,
    reply_is_large: bool | Callable[[list[bytes]], bool] = False,
    reply_varies: bool = False,
    inspect: Callable[[list[bytes]], object] | None = None,
    key_use: str = "",
    counted_keys: int = 0,
    find_keys: Callable[[list[bytes]], Keys] | None = None,
    differs: str = "",
    is_refused: bool = False,
    many: Many | None = None,
    cost: Cost | None = None,
    cost_in_log: Cost | None = None,
    pays_itself: bool = False,
) -> Callable[[Function], Function]:
    """Declare a command, or with "container|sub" a subcommand of one that is declared already.

    `types` are those whose values it is about, as groups are called, if its group does not say; or what else is to decide
    to which categories it belongs. A write that has a cost pays it before it is done; one that seldom costs anything, and is
    often asked for, does that in its function, where it does.
    """

    def declare(function: Function) -> Function:
        words = tuple(flags.split())
        done: Callable[..., Any] = function
        if cost is not None and route is Route.WRITE:
            done = function if pays_itself else _paid(function, cost)
            COSTS[done] = cost
        it = Command(
            name,
            arity,
            route,
            done,
            words,
            keys,
            group,
            since,
            summary,
            complexity,
            _categories(words, group, types.split() or [group], dangerous),
            reply_is_large,
            reply_varies,
            "blocking" in words,
            inspect,
            key_use,
            counted_keys,
            find_keys,
            differs,
            is_refused,
            many,
            cost,
            cost_in_log,
            cost is not None and route is Route.READ,
        )
        container, bar, sub = name.upper().encode().partition(b"|")
        where = TABLE[container].subcommands if bar else TABLE
        key = sub if bar else container
        assert key not in where, f"{name} is declared twice"
        where[key] = it
        return function

    return declare


def _paid(function: Callable[..., Any], cost: Cost) -> Callable[..., Any]:
    """The same, but for what it costs."""

    def pay_first(keyspace: Keyspace, args: list[bytes]) -> Any:
        keyspace.shared.budget.pay(estimate(cost, keyspace, args))
        return function(keyspace, args)

    return pay_first


def _categories(flags: tuple[str, ...], group: str, types: list[str], dangerous: bool) -> tuple[str, ...]:
    """Most of them follow from flags and group. What concerns keys of any type is `keyspace`, whatever its group."""
    touches_data = "write" in flags or "readonly" in flags
    given = {
        "keyspace": "keyspace" in types or (touches_data and ("generic" in types or "server" in types)),
        "read": "readonly" in flags and group != "scripting",
        "write": "write" in flags,
        "set": "set" in types,
        "sortedset": "sorted-set" in types,
        "list": "list" in types,
        "hash": "hash" in types,
        "string": "string" in types,
        "bitmap": "bitmap" in types,
        "pubsub": "pubsub" in flags,
        "admin": "admin" in flags or "admin" in types,
        "fast": "fast" in flags,
        "slow": "fast" not in flags,
        "blocking": "blocking" in flags,
        "dangerous": dangerous or "admin" in flags,
        "connection": "connection" in types and bool(flags),
        "transaction": group == "transactions",
        "scripting": group == "scripting" and bool(flags),
    }
    return tuple(name for name, holds in given.items() if holds)


def lookup(name: bytes) -> Command | None:
    """The command of that name, in any spelling."""
    found = _by_spelling.get(name)
    if found is None and len(name) <= 64:
        found = TABLE.get(name.upper())
        if found is not None and len(_by_spelling) < SPELLINGS_MAX:
            _by_spelling[name] = found
    return found


def find(args: list[bytes]) -> Command | None:
    """The command or subcommand that these words name, however many they are; None if there is none."""
    found = lookup(args[0])
    if found is not None and found.subcommands and len(args) > 1:
        return found.subcommands.get(args[1].upper())
    return found


def ordinary(name: bytes, words: int) -> Command | None:
    """The command of that name, if it is an ordinary one and may have so many words."""
    try:
        found = _ordinary[name]
    except KeyError:
        found = lookup(name)
        if found is not None and not found.is_ordinary:
            found = None
        if len(_ordinary) < SPELLINGS_MAX:
            _ordinary[name] = found
    if found is None or (words != found.arity if found.arity > 0 else words < -found.arity):
        return None
    return found


def check(args: list[bytes]) -> Command:
    """The command that `args` ask for. Raises `ReplyError`, as Redis words it, if there is none or it is miscounted."""
    found = _by_spelling.get(args[0]) or lookup(args[0])
    if found is None:
        shown = ""
        for arg in args[1:]:
            if len(shown) >= 128:
                break
            shown += f"'{as_text(arg[: 128 - len(shown)])}' "
        raise ReplyError(f"ERR unknown command '{as_text(args[0][:128])}', with args beginning with: {shown}")
    if found.subcommands and len(args) > 1:
        sub = found.subcommands.get(args[1].upper())
        if sub is None:
            raise ReplyError(
                f"ERR unknown subcommand '{as_text(args[1][:128])}'. Try {found.name.upper()} HELP."
            )
        found = sub
    if len(args) != found.arity if found.arity > 0 else len(args) < -found.arity:
        raise ReplyError(f"ERR wrong number of arguments for '{found.name}' command")
    if found.inspect is not None:
        found.inspect(args)
    return found


def check_inner(
    args: list[bytes], at: int, routes: tuple[Route, ...], refused: tuple[str, ...] = ()
) -> Command:
    """The command that stands in the words of another, from `at` on: of one of these routes, and none of `refused`.

    Raises `ReplyError`.
    """
    inner = lookup(args[at])
    # First the name: a command that is refused may have another in its words, and that one another.
    if inner is not None and (inner.route not in routes or inner.name in refused):
        raise ReplyError(f"ERR {as_text(args[0].upper())} cannot run '{inner.name}'")
    return check(args[at:])


def as_text(data: bytes) -> str:
    """For an error text: a client's own bytes, up to the first zero, as Redis shows them."""
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
