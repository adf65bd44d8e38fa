"""Who of a node's clients listens to what, and the commands by which they say so: SUBSCRIBE, PUBSUB and their kin.

A message goes to those who subscribe to its channel, then to those of each pattern that the channel matches. It is encoded
once for each protocol, and all who get it share its bytes. A subscription begins and ends when everything asked before is
answered (`connection`), so that no message comes before the reply to SUBSCRIBE or after that to UNSUBSCRIBE.

In RESP2 a message cannot be told from a reply. Whoever subscribes there may therefore ask for little else, as in Redis;
in RESP3 messages come as pushes, and everything may be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from sofadb.database.patterns import matcher
from sofadb.database.replies import Push, Reply, ReplyError, Several
from sofadb.database.table import Route, command

from .encoding import encode

if TYPE_CHECKING:
    from .connection import Connection

CHANNEL_BYTES_MAX = 4096
"""Names of channels are no longer than patterns may be."""
ALLOWED = frozenset(("subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ping", "quit", "reset"))
"""What a subscriber in RESP2 may ask for."""
SUBSCRIBING = frozenset(("subscribe", "unsubscribe", "psubscribe", "punsubscribe"))


class _Message:
    """What is told to many, encoded when the first needs it."""

    __slots__ = ("_encoded", "_push")

    def __init__(self, *items: bytes) -> None:
        self._push = Push(*items)
        self._encoded: dict[bool, bytes] = {}

    def encoded(self, resp3: bool) -> bytes:
        if resp3 not in self._encoded:
            encoded = encode([self._push], resp3)
            self._encoded[resp3] = encoded if isinstance(encoded, bytes) else b"".join(encoded)
        return self._encoded[resp3]

    def tell(self, subscribers: Iterable[Connection]) -> None:
        for connection in subscribers:
            connection.push(self.encoded(connection.resp3))


class Subscriptions:
    """All subscriptions of a node. Each connection knows its own (`Connection.channels`, `Connection.patterns`)."""

    __slots__ = ("_matchers", "channels", "patterns")

    def __init__(self) -> None:
        self.channels: dict[bytes, dict[Connection, None]] = {}
        """Who subscribes to each channel, in the order in which they came."""
        self.patterns: dict[bytes, dict[Connection, None]] = {}
        self._matchers: dict[bytes, Callable[[bytes], object]] = {}
        """One for each pattern."""

    def publish(self, channel: bytes, message: bytes) -> int:
        """Tell all subscribers of this node; return how many there were, counting each once for each way it subscribes."""
        receivers = 0
        if subscribers := self.channels.get(channel):
            receivers += len(subscribers)
            _Message(b"message", channel, message).tell(tuple(subscribers))
        for pattern, matches in tuple(self._matchers.items()):
            if matches(channel):
                subscribers = self.patterns[pattern]
                receivers += len(subscribers)
                _Message(b"pmessage", pattern, channel, message).tell(tuple(subscribers))
        return receivers

    def subscribe(self, connection: Connection, channel: bytes) -> None:
        """Let a connection hear what is published on a channel."""
        connection.channels[channel] = None
        self.channels.setdefault(channel, {})[connection] = None

    def subscribe_to_pattern(self, connection: Connection, pattern: bytes) -> None:
        """Let a connection hear what is published on any channel that matches."""
        if pattern not in self.patterns:
            self._matchers[pattern] = matcher(pattern)
        connection.patterns[pattern] = None
        self.patterns.setdefault(pattern, {})[connection] = None

    def unsubscribe(self, connection: Connection, channel: bytes) -> None:
        """Let a connection hear a channel no more, if it did."""
        if channel in connection.channels:
            del connection.channels[channel]
            _remove(self.channels, channel, connection)

    def unsubscribe_from_pattern(self, connection: Connection, pattern: bytes) -> None:
        """Let a connection hear what matches no more, if it did."""
        if pattern in connection.patterns:
            del connection.patterns[pattern]
            _remove(self.patterns, pattern, connection)
            if pattern not in self.patterns:
                del self._matchers[pattern]

    def forget(self, connection: Connection) -> None:
        """Let a connection hear nothing any more."""
        for channel in tuple(connection.channels):
            self.unsubscribe(connection, channel)
        for pattern in tuple(connection.patterns):
            self.unsubscribe_from_pattern(connection, pattern)


def _remove(subscribers: dict[bytes, dict[Connection, None]], name: bytes, connection: Connection) -> None:
    del subscribers[name][connection]
    if not subscribers[name]:
        del subscribers[name]


# The commands. Each name is answered on its own, with how many subscriptions the connection has then.

_FLAGS = "pubsub noscript loading stale"


@command(
    "subscribe",
    -2,
    Route.CONNECTION,
    _FLAGS,
    group="pubsub",
    since="2.0.0",
    summary="Hear what is published on channels",
    complexity="O(N)",
)
def subscribe(connection: Connection, args: list[bytes]) -> Reply:
    if any(len(channel) > CHANNEL_BYTES_MAX for channel in args[1:]):
        raise ReplyError(f"ERR the name of a channel may have {CHANNEL_BYTES_MAX} bytes at most")
    _check_count(connection, connection.channels, args[1:])
    return _each(connection, b"subscribe", args[1:], connection.state.subscriptions.subscribe)


@command(
    "psubscribe",
    -2,
    Route.CONNECTION,
    _FLAGS,
    group="pubsub",
    since="2.0.0",
    summary="Hear what is published on all channels that match patterns",
    complexity="O(N)",
)
def psubscribe(connection: Connection, args: list[bytes]) -> Reply:
    for pattern in args[1:]:
        matcher(pattern)
    _check_count(connection, connection.patterns, args[1:])
    return _each(connection, b"psubscribe", args[1:], connection.state.subscriptions.subscribe_to_pattern)


@command(
    "unsubscribe",
    -1,
    Route.CONNECTION,
    _FLAGS,
    group="pubsub",
    since="2.0.0",
    summary="Hear channels no more, all of them if none is named",
    complexity="O(N)",
)
def unsubscribe(connection: Connection, args: list[bytes]) -> Reply:
    names: Sequence[bytes | None] = args[1:] or list(connection.channels) or [None]
    return _each(connection, b"unsubscribe", names, connection.state.subscriptions.unsubscribe)


@command(
    "punsubscribe",
    -1,
    Route.CONNECTION,
    _FLAGS,
    group="pubsub",
    since="2.0.0",
    summary="Hear what matches patterns no more, all of them if none is named",
    complexity="O(N)",
)
def punsubscribe(connection: Connection, args: list[bytes]) -> Reply:
    names: Sequence[bytes | None] = args[1:] or list(connection.patterns) or [None]
    return _each(connection, b"punsubscribe", names, connection.state.subscriptions.unsubscribe_from_pattern)


def _check_count(connection: Connection, has: dict[bytes, None], names: list[bytes]) -> None:
    count_max = connection.state.settings.subscriptions_max
    new = sum(name not in has for name in set(names))
    if len(connection.channels) + len(connection.patterns) + new > count_max:
        raise ReplyError(f"ERR a connection may have {count_max} subscriptions at most")


def _each(
    connection: Connection,
    kind: bytes,
    names: Sequence[bytes | None],
    do: Callable[[Connection, bytes], None],
) -> Reply:
    """Do it for each name. (There is none where all was to end and nothing was begun.)"""
    replies: list[Reply] = []
    for name in names:
        if name is not None:
            do(connection, name)
        replies.append(Push(kind, name, len(connection.channels) + len(connection.patterns)))
    return Several(replies)


@command(
    "pubsub",
    -2,
    Route.CONNECTION,
    "",
    group="pubsub",
    since="2.8.0",
    summary="What is subscribed to on this node",
)
def pubsub(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("PUBSUB has subcommands")


_PUBSUB_FLAGS = "pubsub loading stale"


@command(
    "pubsub|channels",
    -2,
    Route.CONNECTION,
    _PUBSUB_FLAGS,
    group="pubsub",
    since="2.8.0",
    summary="The channels that somebody subscribes to on this node, or those of them that match a pattern",
    complexity="O(N)",
    reply_is_large=True,
)
def pubsub_channels(connection: Connection, args: list[bytes]) -> Reply:
    if len(args) > 3:
        name = args[1].decode()
        raise ReplyError(
            f"ERR unknown subcommand or wrong number of arguments for '{name}'. Try PUBSUB HELP."
        )
    channels = connection.state.subscriptions.channels
    if len(args) == 2:
        return list(channels)
    return list(filter(matcher(args[2]), channels))


@command(
    "pubsub|numsub",
    -2,
    Route.CONNECTION,
    _PUBSUB_FLAGS,
    group="pubsub",
    since="2.8.0",
    summary="How many connections to this node subscribe to channels",
    complexity="O(N)",
)
def pubsub_numsub(connection: Connection, args: list[bytes]) -> Reply:
    channels = connection.state.subscriptions.channels
    return [item for channel in args[2:] for item in (channel, len(channels.get(channel, ())))]


@command(
    "pubsub|numpat",
    2,
    Route.CONNECTION,
    _PUBSUB_FLAGS,
    group="pubsub",
    since="2.8.0",
    summary="How many patterns are subscribed to on this node",
)
def pubsub_numpat(connection: Connection, args: list[bytes]) -> Reply:
    return len(connection.state.subscriptions.patterns)
