"""From replies to bytes, in RESP2 and RESP3.

`encode` takes the replies of a whole run and returns them as one piece. Errors keep to one line, whatever a client made
them say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isinf, isnan
from typing import Any

from sofadb.database.replies import NullArray, Reply, ReplyError, Status, Verbatim

_Encoder = Callable[[list[bytes], Any, bool], None]


def encode(replies: Iterable[Reply], resp3: bool) -> bytes:
    """The bytes of all `replies`, one behind the other."""
    parts: list[bytes] = []
    for reply in replies:
        _ENCODERS[type(reply)](parts, reply, resp3)
    return b"".join(parts)


def _bulk(parts: list[bytes], reply: bytes, resp3: bool) -> None:
    if len(reply) < 4096:
        parts.append(b"$%d\r\n%s\r\n" % (len(reply), reply))
    else:
        parts += (b"$%d\r\n" % len(reply), reply, b"\r\n")


def _integer(parts: list[bytes], reply: int, resp3: bool) -> None:
    parts.append(b":%d\r\n" % reply)


def _null(parts: list[bytes], reply: None, resp3: bool) -> None:
    parts.append(b"_\r\n" if resp3 else b"$-1\r\n")


def _null_array(parts: list[bytes], reply: NullArray, resp3: bool) -> None:
    parts.append(b"_\r\n" if resp3 else b"*-1\r\n")


def _status(parts: list[bytes], reply: Status, resp3: bool) -> None:
    parts.append(b"+%s\r\n" % reply.text)


def _error(parts: list[bytes], reply: ReplyError, resp3: bool) -> None:
    text = reply.text.replace("\r", " ").replace("\n", " ")
    parts.append(b"-%s\r\n" % text.encode("utf-8", "surrogateescape"))


def _double(parts: list[bytes], reply: float, resp3: bool) -> None:
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


def _boolean(parts: list[bytes], reply: bool, resp3: bool) -> None:
    parts.append((b"#t\r\n" if reply else b"#f\r\n") if resp3 else b":%d\r\n" % reply)


def _verbatim(parts: list[bytes], reply: Verbatim, resp3: bool) -> None:
    if resp3:
        parts.append(b"=%d\r\ntxt:%s\r\n" % (len(reply.text) + 4, reply.text))
    else:
        _bulk(parts, reply.text, resp3)


def _array(parts: list[bytes], reply: list[Reply], resp3: bool) -> None:
    parts.append(b"*%d\r\n" % len(reply))
    for item in reply:
        _ENCODERS[type(item)](parts, item, resp3)


def _map(parts: list[bytes], reply: dict[Reply, Reply], resp3: bool) -> None:
    parts.append(b"%%%d\r\n" % len(reply) if resp3 else b"*%d\r\n" % (2 * len(reply)))
    for key, value in reply.items():
        _ENCODERS[type(key)](parts, key, resp3)
        _ENCODERS[type(value)](parts, value, resp3)


_ENCODERS: dict[type, _Encoder] = {
    bytes: _bulk,
    int: _integer,
    type(None): _null,
    NullArray: _null_array,
    Status: _status,
    ReplyError: _error,
    float: _double,
    bool: _boolean,
    Verbatim: _verbatim,
    list: _array,
    dict: _map,
}
