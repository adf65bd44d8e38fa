"""The few messages of etcd that are needed (`rpc.proto`), as protocol buffers."""

from __future__ import annotations

PUT, RANGE = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: bytes) -> bytes:
    """A field with a length."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def put(key: bytes, value: bytes) -> bytes:
    """A `PutRequest`."""
    return field(1, key) + field(2, value)


def get(key: bytes) -> bytes:
    """A `RangeRequest` for one key; linearizable, as is its default."""
    return field(1, key)
