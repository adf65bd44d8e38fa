"""Saying something to all who listen. Who listens, each node knows for itself (`sofadb.server.subscriptions`)."""

from __future__ import annotations

from sofadb.database.keyspace import Keyspace
from sofadb.database.messages import Message
from sofadb.database.replies import Reply
from sofadb.database.table import Route, command

_FLAGS = "pubsub loading stale fast"


@command(
    "publish",
    3,
    Route.WRITE,
    _FLAGS,
    group="pubsub",
    since="2.0.0",
    summary="Say something on a channel, on every node; returns how many clients of this one hear it",
    complexity="O(N+M) with the channel's subscribers and all patterns",
    reply_varies=True,
)
def publish(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return keyspace.shared.messages.publish(Message(args[1], args[2]))


@command(
    "spublish",
    3,
    Route.WRITE,
    _FLAGS,
    keys=(1, 1, 1),
    group="pubsub",
    since="7.0.0",
    summary="Say something on a channel of SSUBSCRIBE, on every node; returns how many clients of this one hear it",
    complexity="O(N) with the channel's subscribers",
    reply_varies=True,
    key_use="not_key",
)
def spublish(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return keyspace.shared.messages.publish(Message(args[1], args[2], is_sharded=True))
