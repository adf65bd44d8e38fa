"""From replies to bytes, in RESP2 and RESP3.

Most runs of replies become one piece, in one pass. Large values are not copied together and long arrays are not encoded at
once: they come as pieces, each made when the client has taken the one before, so that what a client does not read costs
references and no copies. Errors keep to one line, whatever a client made them say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from math import isinf, isnan
from typing import Any

from sofadb.database.replies import (
    OK,
    NullArray,
    Pairs,
    Push,
    Reply,
    ReplyError,
    Several,
    Status,
    Unordered,
    Verbatim,
    Waits,
)
from sofadb.database.wire import LINE_END, WORD_BYTES_MAX, head_of

OK_BYTES = b"+OK\r\n"
LARGE_BYTES = WORD_BYTES_MAX
"""A string of this size is sent as it lies, not copied."""
LONG_ITEMS = 4096
"""An array longer than this is encoded bit by bit."""
PIECE_BYTES = 64 << 10
"""What is small is put together into pieces of about this size."""
AT_ONCE_BYTES = 256 << 10
"""When so much is encoded, the rest waits until the client has taken it."""

LOOK_AFTER_ITEMS = 16

Buffer = bytes | memoryview


class _Rest:
    """What is left of an array, to be encoded when its turn comes."""

    __slots__ = ("replies",)

    def __init__(self, replies: Iterator[Reply]) -> None:
        self.replies = replies


class _Parts(list[Any]):
    """Bytes, and where `is_large` is set, large buffers and `_Rest`s between them."""

    __slots__ = ("is_large", "size")

    def __init__(self) -> None:
        self.is_large = False
        self.size = 0
        """Of the strings in it."""

    def take(self, replies: Iterator[Reply], resp3: bool) -> None:
        """Encode replies, and leave it at that when there is enough. (To look after each one would cost too much.)"""
        encoders = _ENCODERS
        while some := tuple(islice(replies, LOOK_AFTER_ITEMS)):
            for reply in some:
                encoders[type(reply)](self, reply, resp3)
            if self.size > AT_ONCE_BYTES or len(self) > LONG_ITEMS:
                self.append(_Rest(replies))
                self.is_large = True
                break


_Encoder = Callable[[_Parts, Any, bool], None]


def encode(replies: Sequence[Reply], resp3: bool) -> bytes | Iterator[Buffer]:
    """The bytes of all `replies`, one behind the other: in one piece, or if they are large, piece by piece."""
    parts = _Parts()
    if len(replies) <= LOOK_AFTER_ITEMS:
        for reply in replies:
            _ENCODERS[type(reply)](parts, reply, resp3)
    else:
        parts.take(iter(replies), resp3)
    return _pieces(parts, resp3) if parts.is_large else b"".join(parts)


def encode_one(reply: Reply, resp3: bool) -> bytes:
    """As `encode_small`, of a single reply."""
    if reply is OK:
        return OK_BYTES
    if type(reply) is bytes and len(reply) < LARGE_BYTES:
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"" if reply is not None else _NULLS[resp3]


def encode_small(replies: Sequence[Reply], resp3: bool) -> bytes:
    """As `encode`, of what most replies are, in less time; nothing if they are anything else."""
    if len(replies) == 1:
        return encode_one(replies[0], resp3)
    kinds = set(map(type, replies))
    if kinds == _JUST_STATUS:
        return OK_BYTES * len(replies) if replies.count(OK) == len(replies) else b""
    if kinds == _JUST_BYTES and sum(map(len, replies)) < LARGE_BYTES:
        parts: list[Any] = [LINE_END] * (4 * len(replies))
        parts[::4] = map(head_of, map(len, replies))
        parts[2::4] = replies
        return b"".join(parts)
    if kinds <= _BYTES_OR_NOTHING and sum(map(len, filter(None, replies))) < LARGE_BYTES:
        null = _NULLS[resp3]
        return b"".join(
            [null if reply is None else b"$%d\r\n%b\r\n" % (len(reply), reply) for reply in replies]
        )
    return b""


_JUST_STATUS, _JUST_BYTES, _BYTES_OR_NOTHING = {Status}, {bytes}, {bytes, type(None)}
_NULLS = {False: b"$-1\r\n", True: b"_\r\n"}


def _pieces(parts: _Parts, resp3: bool) -> Iterator[Buffer]:
    small: list[Buffer] = []
    size = 0
    for part in _unfolded(parts, resp3):
        if len(part) < LARGE_BYTES:
            small.append(part)
            size += len(part)
            if size < PIECE_BYTES:
                continue
        if small:
            yield b"".join(small)
            small, size = [], 0
        if len(part) >= LARGE_BYTES:
            yield part
    if small:
        yield b"".join(small)


def _unfolded(parts: _Parts, resp3: bool) -> Iterator[Buffer]:
    """The parts, with what was left for later in its place."""
    stack = [iter(parts)]
    while stack:
        part = next(stack[-1], None)
        if part is None:
            stack.pop()
        elif type(part) is _Rest:
            more = _Parts()
            more.take(part.replies, resp3)
            stack.append(iter(more))
        else:
            yield part


def _bulk(parts: _Parts, reply: Buffer, resp3: bool) -> None:
    if len(reply) < LARGE_BYTES:
        parts.append(b"$%d\r\n%b\r\n" % (len(reply), reply))  # type: ignore[str-format]
        parts.size += len(reply)
    else:
        parts += (b"$%d\r\n" % len(reply), reply, b"\r\n")
        parts.is_large = True


def _integer(parts: _Parts, reply: int, resp3: bool) -> None:
    parts.append(b":%d\r\n" % reply)


def _null(parts: _Parts, reply: None, resp3: bool) -> None:
    parts.append(_NULLS[resp3])


def _null_array(parts: _Parts, reply: NullArray, resp3: bool) -> None:
    parts.append(b"_\r\n" if resp3 else b"*-1\r\n")


def _status(parts: _Parts, reply: Status, resp3: bool) -> None:
    parts.append(b"+%s\r\n" % reply.text)


def _error(parts: _Parts, reply: ReplyError, resp3: bool) -> None:
    text = reply.text.strip("\r\n").replace("\r", " ").replace("\n", " ")
    parts.append(b"-%s\r\n" % text.encode("utf-8", "surrogateescape"))


def _double(parts: _Parts, reply: float, resp3: bool) -> None:
    if isnan(reply):
        text = b"nan"
    elif isinf(reply):
        text = b"inf" if reply > 0 else b"-inf"
    else:
        text = b"%.17g" % reply
    if resp3:
        parts.append(b",%s\r\n" % text)
    else:
        _bulk(parts, text, resp3)


def _boolean(parts: _Parts, reply: bool, resp3: bool) -> None:
    parts.append((b"#t\r\n" if reply else b"#f\r\n") if resp3 else b":%d\r\n" % reply)


def _verbatim(parts: _Parts, reply: Verbatim, resp3: bool) -> None:
    if resp3:
        parts.append(b"=%d\r\ntxt:%s\r\n" % (len(reply.text) + 4, reply.text))
    else:
        _bulk(parts, reply.text, resp3)


def _array(parts: _Parts, reply: list[Reply], resp3: bool) -> None:
    parts.append(b"*%d\r\n" % len(reply))
    parts.take(iter(reply), resp3)


def _unordered(parts: _Parts, reply: Unordered, resp3: bool) -> None:
    parts.append((b"~%d\r\n" if resp3 else b"*%d\r\n") % len(reply))
    parts.take(iter(reply), resp3)


def _pairs(parts: _Parts, reply: Pairs, resp3: bool) -> None:
    if not resp3:
        _array(parts, reply, resp3)
        return
    items = iter(reply)
    parts.append(b"*%d\r\n" % (len(reply) // 2))
    parts.take(map(list, zip(items, items, strict=True)), resp3)


def _push(parts: _Parts, reply: Push, resp3: bool) -> None:
    parts.append((b">%d\r\n" if resp3 else b"*%d\r\n") % len(reply.items))
    parts.take(iter(reply.items), resp3)


def _several(parts: _Parts, reply: Several, resp3: bool) -> None:
    parts.take(iter(reply.replies), resp3)


def _map(parts: _Parts, reply: dict[Reply, Reply], resp3: bool) -> None:
    parts.append(b"%%%d\r\n" % len(reply) if resp3 else b"*%d\r\n" % (2 * len(reply)))
    parts.take(chain.from_iterable(reply.items()), resp3)


def _waits(parts: _Parts, reply: Waits, resp3: bool) -> None:
    _ENCODERS[type(reply.reply)](parts, reply.reply, resp3)


_ENCODERS: dict[type, _Encoder] = {
    bytes: _bulk,
    memoryview: _bulk,
    int: _integer,
    type(None): _null,
    NullArray: _null_array,
    Status: _status,
    ReplyError: _error,
    float: _double,
    bool: _boolean,
    Verbatim: _verbatim,
    list: _array,
    Unordered: _unordered,
    Pairs: _pairs,
    Push: _push,
    Several: _several,
    dict: _map,
    Waits: _waits,
}
