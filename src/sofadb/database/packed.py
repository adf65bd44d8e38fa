"""Replies as bytes, for the image and for the rolling digest: equal ones are equal bytes, everywhere and always."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

from .replies import NULL_ARRAY, NullArray, Pairs, Reply, ReplyError, Status, Unordered, Verbatim

DEPTH_MAX = 64
"""How deep lists and dicts of a reply may lie in each other."""

_HEAD = Struct(">cI")  # tag; bytes of the body, or how many replies (of a dict: pairs) follow
_FLOAT = Struct(">d")


def pack_reply(reply: Reply) -> bytes:
    """A reply of any kind that commands of the state machine give."""
    parts: list[bytes] = []
    _pack(reply, parts, 0)
    return b"".join(parts)


def unpack_reply(data: bytes) -> Reply:
    """The reply that `pack_reply` was given. Raises ValueError or `struct.error`."""
    reply, end = _unpack(data, 0, 0)
    if end != len(data):
        raise ValueError("there is more than one reply")
    return reply


def _pack(reply: Reply, parts: list[bytes], depth: int) -> None:
    assert depth <= DEPTH_MAX, "replies lie within replies, deeper than any command puts them"
    kind = type(reply)
    if kind in _LISTS:
        parts.append(_HEAD.pack(_LISTS[kind], len(reply)))
        for each in reply:
            _pack(each, parts, depth + 1)
    elif kind is dict:
        parts.append(_HEAD.pack(b"d", len(reply)))
        for key, value in reply.items():
            _pack(key, parts, depth + 1)
            _pack(value, parts, depth + 1)
    else:
        tag, pack, _ = _SIMPLE[kind]
        body = pack(reply)
        parts += (_HEAD.pack(tag, len(body)), body)


def _unpack(data: bytes, at: int, depth: int) -> tuple[Reply, int]:
    """The reply that begins at `at`, and where it ends."""
    if depth > DEPTH_MAX:
        raise ValueError("replies lie too deep within replies")
    tag, count = _HEAD.unpack_from(data, at)
    at += _HEAD.size
    if tag in _LISTS_BY_TAG:
        items = _LISTS_BY_TAG[tag]()
        for _ in range(count):
            item, at = _unpack(data, at, depth + 1)
            items.append(item)
        if tag == b"p" and count % 2:
            raise ValueError("half a pair is missing")
        return items, at
    if tag == b"d":
        pairs: dict[Reply, Reply] = {}
        for _ in range(count):
            key, at = _unpack(data, at, depth + 1)
            if isinstance(key, list | dict):
                raise ValueError("a list or dict is no key of a dict")
            pairs[key], at = _unpack(data, at, depth + 1)
        if len(pairs) != count:
            raise ValueError("a dict has a key twice")
        return pairs, at
    body = data[at : at + count]
    if tag not in _BY_TAG or len(body) != count:
        raise ValueError("a reply ends early, or is of an unknown kind")
    return _BY_TAG[tag](body), at + count


_LISTS: dict[type[list[Any]], bytes] = {list: b"l", Unordered: b"u", Pairs: b"p"}
_LISTS_BY_TAG = {tag: kind for kind, tag in _LISTS.items()}


def _null(body: bytes) -> None:
    if body:
        raise ValueError("a null holds something")


def _null_array(body: bytes) -> NullArray:
    _null(body)
    return NULL_ARRAY


_SIMPLE: dict[type, tuple[bytes, Callable[[Any], bytes], Callable[[bytes], Reply]]] = {
    type(None): (b"n", lambda reply: b"", _null),
    NullArray: (b"a", lambda reply: b"", _null_array),
    bytes: (b"b", bytes, bytes),
    bool: (b"t", lambda reply: b"%d" % reply, lambda body: bool(int(body))),
    int: (b"i", lambda reply: b"%d" % reply, int),
    float: (b"f", _FLOAT.pack, lambda body: _FLOAT.unpack(body)[0]),
    Status: (b"s", lambda reply: reply.text, Status),
    Verbatim: (b"v", lambda reply: reply.text, Verbatim),
    ReplyError: (
        b"e",
        # An error may quote a client's bytes, whatever they are.
        lambda reply: reply.text.encode("utf-8", "surrogatepass"),
        lambda body: ReplyError(body.decode("utf-8", "surrogatepass")),
    ),
}
"""Tag, packing, unpacking."""
_BY_TAG = {tag: unpack for tag, _, unpack in _SIMPLE.values()}
