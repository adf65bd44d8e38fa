"""Who of a node's clients listens to what, and the commands by which they say so: SUBSCRIBE, PUBSUB and their kin.

A message goes to those who subscribe to its channel, then to those of each pattern that the channel matches. It is encoded
once for each protocol, and all who get it share its bytes. A subscription begins and ends when everything asked before is
answered (`connection`), so that no message comes before the reply to SUBSCRIBE or after that to UNSUBSCRIBE.

What is published goes through the log (`sofadb.database.messages`). When a replica executes it, those who subscribe at this
point of the order are noted (`parts`), and when the batch is applied they are told (`tell_held`): so all clients of all
nodes hear the same in the same order. SUBSCRIBE waits, as a read does, until this node knows all that was acknowledged before,
so nobody hears what was published earlier. Where no majority can be reached it begins all the same, with what this node knows.

In RESP2 a message cannot be told from a reply. Whoever subscribes there may therefore ask for little else, as in Redis;
in RESP3 messages come as pushes, and everything may be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from sofadb.database.messages import Message
from sofadb.database.patterns import matcher
from sofadb.database.replies import Push, Reply, ReplyError, Several
from sofadb.database.table import Route, command

from .encoding import encode
from .help import declare_help

if TYPE_CHECKING:
    from .connection import Connection

CHANNEL_BYTES_MAX = 4096
"""Names of channels are no longer than patterns may be."""
BEGINNING = frozenset(("subscribe", "psubscribe", "ssubscribe"))
"""The commands by which one begins to listen."""
SUBSCRIBING = BEGINNING | {"unsubscribe", "punsubscribe", "sunsubscribe"}
ALLOWED = SUBSCRIBING | {"ping", "quit", "reset"}
"""What a subscriber in RESP2 may ask for."""


class Kind(Enum):
    """Ways to listen."""

    CHANNEL = b"message"
    PATTERN = b"pmessage"
    SHARD = b"smessage"
    """To a channel of SSUBSCRIBE. Those are for clusters that shard; here they are like others, with names of their own."""


class Part:
    """Of a message, what those are told who subscribe in one way. Encoded when the first needs it."""

    __slots__ = ("_encoded", "_push", "kind", "name", "subscribers")

    def __init__(self, subscribers: tuple[Connection, ...], kind: Kind, name: bytes, *items: bytes) -> None:
        self.subscribers = subscribers
        self.kind, self.name = kind, name
        self._push = Push(kind.value, name, *items)
        self._encoded: dict[bool, bytes] = {}

    def encoded(self, resp3: bool) -> bytes:
        if resp3 not in self._encoded:
            encoded = encode([self._push], resp3)
            self._encoded[resp3] = encoded if isinstance(encoded, bytes) else b"".join(encoded)
        return self._encoded[resp3]

    def tell(self) -> None:
        """Tell those who still subscribe."""
        for connection in self.subscribers:
            if self.name in connection.subscribed[self.kind]:
                connection.push(self.encoded(connection.resp3))


class _Audience:
    """Who subscribes to one channel or pattern, in the order in which they came."""

    __slots__ = ("_connections", "_now", "matches")

    def __init__(self, matches: Callable[[bytes], object]) -> None:
        self.matches = matches
        """Of a pattern: whether it matches a channel."""
        self._connections: dict[Connection, None] = {}
        self._now: tuple[Connection, ...] | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def now(self) -> tuple[Connection, ...]:
        """Who they are at this moment."""
        if self._now is None:
            self._now = tuple(self._connections)
        return self._now

    def add(self, connection: Connection) -> None:
        self._connections[connection] = None
        self._now = None

    def remove(self, connection: Connection) -> None:
        del self._connections[connection]
        self._now = None


def _matches_nothing(channel: bytes) -> bool:
    return False


class Subscriptions:
    """All subscriptions of a node. Each connection knows its own (`Connection.subscribed`)."""

    __slots__ = ("_held", "audiences")

    def __init__(self) -> None:
        self.audiences: dict[Kind, dict[bytes, _Audience]] = {kind: {} for kind in Kind}
        """Who subscribes, by the name of the channel or pattern."""
        self._held: list[Part] = []

    @property
    def channels(self) -> dict[bytes, _Audience]:
        return self.audiences[Kind.CHANNEL]

    @property
    def patterns(self) -> dict[bytes, _Audience]:
        return self.audiences[Kind.PATTERN]

    @property
    def shards(self) -> dict[bytes, _Audience]:
        return self.audiences[Kind.SHARD]

    def publish(self, message: Message) -> int:
        """Tell all who subscribe; returns how many they are, each counted once for each way it subscribes."""
        parts = self.parts(message)
        for part in parts:
            part.tell()
        return sum(len(part.subscribers) for part in parts)

    def hold(self, parts: list[Part]) -> None:
        """Keep this until `tell_held`."""
        self._held += parts

    def tell_held(self) -> None:
        """Tell all that is kept."""
        held, self._held = self._held, []
        for part in held:
            part.tell()

    def parts(self, message: Message) -> list[Part]:
        """What is told of a message to those who subscribe now."""
        channel, text, is_sharded = message
        kind = Kind.SHARD if is_sharded else Kind.CHANNEL
        audience = self.audiences[kind].get(channel)
        parts = [] if audience is None else [Part(audience.now(), kind, channel, text)]
        if not is_sharded:
            for pattern, audience in self.patterns.items():
                if audience.matches(channel):
                    parts.append(Part(audience.now(), Kind.PATTERN, pattern, channel, text))
        return parts

    def subscribe(self, kind: Kind, connection: Connection, name: bytes) -> None:
        """Let a connection hear what is published on a channel, or on any that matches a pattern."""
        if name in connection.subscribed[kind]:
            return
        audiences = self.audiences[kind]
        if name not in audiences:
            audiences[name] = _Audience(matcher(name) if kind is Kind.PATTERN else _matches_nothing)
        connection.subscribed[kind][name] = None
        connection.subscription_count += 1
        audiences[name].add(connection)

    def unsubscribe(self, kind: Kind, connection: Connection, name: bytes) -> None:
        """Let a connection hear that no more, if it did."""
        if name in connection.subscribed[kind]:
            del connection.subscribed[kind][name]
            connection.subscription_count -= 1
            audiences = self.audiences[kind]
            audiences[name].remove(connection)
            if not audiences[name]:
                del audiences[name]

    def forget(self, connection: Connection) -> None:
        """Let a connection hear nothing any more."""
        for kind, names in connection.subscribed.items():
            for name in tuple(names):
                self.unsubscribe(kind, connection, name)


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
    return _subscribe(Kind.CHANNEL, connection, args)


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
    return _subscribe(Kind.PATTERN, connection, args)


@command(
    "ssubscribe",
    -2,
    Route.CONNECTION,
    _FLAGS,
    keys=(1, -1, 1),
    group="pubsub",
    since="7.0.0",
    summary="Hear what is published on channels by SPUBLISH",
    complexity="O(N)",
    key_use="not_key",
)
def ssubscribe(connection: Connection, args: list[bytes]) -> Reply:
    return _subscribe(Kind.SHARD, connection, args)


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
    return _unsubscribe(Kind.CHANNEL, connection, args)


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
    return _unsubscribe(Kind.PATTERN, connection, args)


@command(
    "sunsubscribe",
    -1,
    Route.CONNECTION,
    _FLAGS,
    keys=(1, -1, 1),
    group="pubsub",
    since="7.0.0",
    summary="Hear channels of SSUBSCRIBE no more, all of them if none is named",
    complexity="O(N)",
    key_use="not_key",
)
def sunsubscribe(connection: Connection, args: list[bytes]) -> Reply:
    return _unsubscribe(Kind.SHARD, connection, args)


def _subscribe(kind: Kind, connection: Connection, args: list[bytes]) -> Reply:
    for name in args[1:]:
        if kind is Kind.PATTERN:
            matcher(name)
        elif len(name) > CHANNEL_BYTES_MAX:
            raise ReplyError(f"ERR the name of a channel may have {CHANNEL_BYTES_MAX} bytes at most")
    count_max = connection.state.settings.subscriptions_max
    new = sum(name not in connection.subscribed[kind] for name in set(args[1:]))
    if connection.subscription_count + new > count_max:
        raise ReplyError(f"ERR a connection may have {count_max} subscriptions at most")
    connection.state.hold_events()  # What has happened by now is not for it.
    return _each(kind, connection, args, args[1:], connection.state.subscriptions.subscribe)


def _unsubscribe(kind: Kind, connection: Connection, args: list[bytes]) -> Reply:
    names: Sequence[bytes | None] = args[1:] or list(connection.subscribed[kind]) or [None]
    return _each(kind, connection, args, names, connection.state.subscriptions.unsubscribe)


def _each(
    kind: Kind,
    connection: Connection,
    args: list[bytes],
    names: Sequence[bytes | None],
    do: Callable[[Kind, Connection, bytes], None],
) -> Reply:
    """Do it for each name. (There is none where all was to end and nothing was begun.)"""
    counted = (Kind.SHARD,) if kind is Kind.SHARD else (Kind.CHANNEL, Kind.PATTERN)
    replies: list[Reply] = []
    for name in names:
        if name is not None:
            do(kind, connection, name)
        count = sum(len(connection.subscribed[each]) for each in counted)
        replies.append(Push(args[0].lower(), name, count))
    return Several(replies)


# Looking


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
    return _names(connection.state.subscriptions.channels, args)


@command(
    "pubsub|shardchannels",
    -2,
    Route.CONNECTION,
    _PUBSUB_FLAGS,
    group="pubsub",
    since="7.0.0",
    summary="The channels of SSUBSCRIBE that somebody subscribes to on this node, or those that match a pattern",
    complexity="O(N)",
    reply_is_large=True,
)
def pubsub_shardchannels(connection: Connection, args: list[bytes]) -> Reply:
    return _names(connection.state.subscriptions.shards, args)


def _names(audiences: dict[bytes, _Audience], args: list[bytes]) -> Reply:
    if len(args) > 3:
        name = args[1].decode()
        raise ReplyError(
            f"ERR unknown subcommand or wrong number of arguments for '{name}'. Try PUBSUB HELP."
        )
    if len(args) == 2:
        return list(audiences)
    return list(filter(matcher(args[2]), audiences))


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
    return _counts(connection.state.subscriptions.channels, args[2:])


@command(
    "pubsub|shardnumsub",
    -2,
    Route.CONNECTION,
    _PUBSUB_FLAGS,
    group="pubsub",
    since="7.0.0",
    summary="How many connections to this node subscribe to channels of SSUBSCRIBE",
    complexity="O(N)",
)
def pubsub_shardnumsub(connection: Connection, args: list[bytes]) -> Reply:
    return _counts(connection.state.subscriptions.shards, args[2:])


def _counts(audiences: dict[bytes, _Audience], channels: list[bytes]) -> Reply:
    return [item for channel in channels for item in (channel, len(audiences.get(channel, ())))]


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


declare_help("pubsub", group="pubsub", since="6.2.0")
