"""gRPC for one unary call again and again, on one HTTP/2 connection (RFC 9113; PROTOCOL-HTTP2 of gRPC).

Every request has the same headers, none of them put into the dynamic table, so that they are the same bytes each time; headers
that come are not looked into. An answer is good if it has a body: errors of a unary call are headers only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from sofadb.load.speakers import Answer, Speaker

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
HEAD = struct.Struct(">BHBBI")
"""Of a frame: length (24 bits, here as 8 and 16), type, flags, stream."""
STREAM_IDS_MAX = (1 << 31) - 1
WINDOW_FIRST = (1 << 16) - 1
"""So many bytes may be sent on a connection before the other end has allowed more."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """The bytes of one frame."""
    size = len(payload)
    return HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def message(body: bytes) -> bytes:
    """A message of gRPC, not compressed."""
    return struct.pack(">BI", 0, len(body)) + body


def headers(path: str, authority: str) -> bytes:
    """A block of headers for HPACK (RFC 7541), by the static table and in literals that nobody has to remember."""

    def literal(name: bytes, value: str) -> bytes:
        assert len(value) < 127
        return name + bytes([len(value)]) + value.encode()

    return (
        b"\x83\x86"  # :method POST, :scheme http
        + literal(b"\x04", path)
        + literal(b"\x01", authority)
        + literal(b"\x0f\x10", "application/grpc")
        + literal(b"\x00\x02te", "trailers")
    )


class Unary(Speaker):
    """The same method called again and again."""

    def __init__(self, path: str, authority: str, make: Callable[[], bytes]) -> None:
        """`make` gives the body of the next request, some hundred bytes: what the other end may not take yet is not kept back."""
        super().__init__()
        self._make = make
        self._headers = headers(path, authority)
        self._stream = 1
        self._due: dict[int, float] = {}
        self._with_body: set[int] = set()
        self._unread = bytearray()
        self.outgoing += PREFACE + frame(SETTINGS, 0, 0, b"")
        self.outgoing += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", STREAM_IDS_MAX - WINDOW_FIRST))

    def request(self, due: float) -> bytes:
        stream, self._stream = self._stream, self._stream + 2
        self._due[stream] = due
        body = frame(DATA, END_STREAM, stream, message(self._make()))
        return frame(HEADERS, END_HEADERS, stream, self._headers) + body

    def feed(self, data: bytes) -> list[Answer]:
        answers: list[Answer] = []
        unread = self._unread
        unread += data
        begin = 0
        while len(unread) - begin >= HEAD.size:
            high, low, kind, flags, stream = HEAD.unpack_from(unread, begin)
            end = begin + HEAD.size + (high << 16 | low)
            if len(unread) < end:
                break
            if kind in (DATA, HEADERS):
                if kind == DATA and end > begin + HEAD.size:
                    self._with_body.add(stream)
                if flags & END_STREAM:
                    answers.append(Answer(self._due.pop(stream), stream in self._with_body))
                    self._with_body.discard(stream)
            else:
                answers += self._on_other(kind, flags, stream, bytes(unread[begin + HEAD.size : end]))
            begin = end
        del unread[:begin]
        return answers

    def _on_other(self, kind: int, flags: int, stream: int, payload: bytes) -> list[Answer]:
        if kind == SETTINGS and not flags & ACK:
            self.outgoing += frame(SETTINGS, ACK, 0, b"")
        elif kind == PING and not flags & ACK:
            self.outgoing += frame(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            raise ConnectionError("told to go away")
        elif kind == RST_STREAM and stream in self._due:
            self._with_body.discard(stream)
            return [Answer(self._due.pop(stream), False)]
        return []

    def unanswered(self) -> list[float]:
        return list(self._due.values())
