"""What is published: every replica executes it, in the one order, and tells its own clients when the batch is applied.

A message is no part of the state. That there was one rolls into the digest, as all does that replicas must agree about; then
it goes to `Messages.tell`, where a server notes who of its clients subscribes at this point of the order. On a replica without
a server nobody hears it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .replies import ReplyError
from .rolling import Rolling

PUBLISHED_BYTES_MAX = 256 << 20
"""What one batch may publish. What clients send in one go stays below it; a script might not."""
MESSAGE_BYTES = 64
"""What a message counts for besides its bytes."""


class Message(NamedTuple):
    """Something is said to all who listen."""

    channel: bytes
    text: bytes
    is_sharded: bool = False
    """Whether its channel is one of SSUBSCRIBE. (Those are others than the channels of SUBSCRIBE, whatever their names.)"""


def _nobody(message: Message) -> int:
    return 0


class Messages:
    """Of one replica."""

    __slots__ = ("_published_bytes", "_rolling", "tell")

    def __init__(self, rolling: Rolling) -> None:
        self.tell: Callable[[Message], int] = _nobody
        """Put a message among `Shared.events` for clients of this node; returns how many. No part of the state."""
        self._published_bytes = 0
        self._rolling = rolling

    def begin(self) -> None:
        """A batch begins."""
        self._published_bytes = 0

    def publish(self, message: Message) -> int:
        """Say it; returns how many clients of this node will be told. Raises `ReplyError`."""
        size = len(message.channel) + len(message.text) + MESSAGE_BYTES
        if self._published_bytes + size > PUBLISHED_BYTES_MAX:
            raise ReplyError(f"ERR more than {PUBLISHED_BYTES_MAX} bytes are published in one go")
        self._published_bytes += size
        self._rolling.roll(b"to shard" if message.is_sharded else b"to", message.channel)
        self._rolling.roll(b"said", message.text)
        return self.tell(message)
