"""What was done once and for all: the ids of commands that must not be executed a second time, and what they were answered.

A client that hears nothing cannot know whether its command was executed. If it gave the command an id, it can ask again, on
any node and as often as it likes: the first to come up in the sequence is executed, and every later one is answered
what the first was. An error is an answer, too. The table knows no database and no key: whatever is deleted, it stays.

It is bounded, in numbers and bytes, and forgets the oldest first, in the order of execution. No clock forgets anything: a
repetition after any length of time is recognized, as long as the ids executed since are fewer than `IDS_MAX` and take less than
`BYTES_MAX`.
Since what is forgotten cannot be told from what never was, the table keeps the instance of the last id that it forgot: an id
that is not there was not executed after that one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .packed import pack_reply
from .replies import Reply, ReplyError, Status, Verbatim
from .rolling import Rolling

IDS_MAX = 100_000
BYTES_MAX = 64 << 20
"""Of all ids and replies together, each part of a reply counted with `PART_BYTES` on top."""
REPLY_BYTES_MAX = 64 << 10
"""A larger reply is not kept, only that there was one."""
PART_BYTES = 64


@dataclass(frozen=True, slots=True)
class Execution:
    """That an id was executed."""

    id_: bytes
    instance: int
    reply: Reply
    """None if it was not kept."""
    is_kept: bool
    size: int
    """What it counts for, in bytes."""


class Once:
    """The executions that are remembered."""

    __slots__ = ("executions", "forgotten", "order", "rolling", "size")

    def __init__(self, rolling: Rolling) -> None:
        self.rolling = rolling
        self.executions: dict[bytes, Execution] = {}
        """By id."""
        self.order: deque[Execution] = deque()
        """The oldest first. (A dict's first item is slow to find where many were removed; and a deque is copied at once.)"""
        self.size = 0
        self.forgotten = 0
        """The instance of the last execution that was forgotten, 0 if none ever was."""

    def remember(self, id_: bytes, instance: int, reply: Reply) -> Reply:
        """`id_` was executed; returns its reply."""
        assert id_ not in self.executions
        size = _size(reply)
        is_kept = size <= REPLY_BYTES_MAX
        if is_kept:
            reply = _copy(reply)
        size = len(id_) + PART_BYTES + (size if is_kept else 0)
        kept = reply if is_kept else None
        self.add(Execution(id_, instance, kept, is_kept, size))
        self.rolling.roll(b"once %d %d %b" % (instance, size, id_), pack_reply(kept))
        while len(self.order) > IDS_MAX or self.size > BYTES_MAX:
            oldest = self.order.popleft()
            del self.executions[oldest.id_]
            self.size -= oldest.size
            self.forgotten = oldest.instance
        return reply

    def add(self, execution: Execution) -> None:
        """Add one as the youngest."""
        self.executions[execution.id_] = execution
        self.order.append(execution)
        self.size += execution.size


def _size(reply: Reply) -> int:
    """How many bytes a reply takes, about."""
    if isinstance(reply, bytes | memoryview):
        return PART_BYTES + len(reply)
    if isinstance(reply, Status | Verbatim | ReplyError):
        return PART_BYTES + len(reply.text)
    if isinstance(reply, list):
        return PART_BYTES + sum(map(_size, reply))
    if isinstance(reply, dict):
        return PART_BYTES + sum(map(_size, reply)) + sum(map(_size, reply.values()))
    return PART_BYTES


def _copy(reply: Reply) -> Reply:
    """The same, sharing nothing that may change or that is larger than what is shown of it."""
    if isinstance(reply, memoryview):
        return bytes(reply)
    if isinstance(reply, list):
        return type(reply)(map(_copy, reply))
    if isinstance(reply, dict):
        return {_copy(key): _copy(value) for key, value in reply.items()}
    if isinstance(reply, ReplyError):
        return ReplyError(reply.text)  # Without the frames that it was raised through.
    return reply
