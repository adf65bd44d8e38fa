"""From a client's bytes to its commands (rule D6).

A request is a flat array of bulk strings, or a line of words ("inline"). It is checked before it becomes objects: a walk
over the bytes verifies every count, length and line end against the limits and finds where each request ends; only then the
bytes go through `hiredis.Reader`, which alone would reserve memory for whatever number it is told and take maps, nulls
and errors for requests. What has been walked over is not walked over again when more arrives.
"""

from __future__ import annotations

from typing import NamedTuple

import hiredis

ARGUMENTS_MAX = 1024 * 1024
BULK_BYTES_MAX = 64 << 20
"""The largest value (Redis's proto-max-bulk-len)."""
REQUEST_BYTES_MAX = 128 << 20
"""The largest request with all its arguments: it has to fit in one entry of the log."""
INLINE_BYTES_MAX = 64 << 10
STRANGERS_ARGUMENTS_MAX = 10
STRANGERS_BULK_BYTES_MAX = 16 << 10
"""What is taken from a client that has yet to say who it is."""
_LENGTH_BYTES_MAX = 16
"""A count or length is not longer than this, its line end included."""


class Chunk(NamedTuple):
    """Whole requests, as they lay one behind the other."""

    requests: list[list[bytes]]
    data: bytes
    borders: list[int]
    """Request i is `data[borders[i]:borders[i + 1]]`."""


class _Broken(Exception):
    """The stream cannot be understood; the text is Redis's."""


class Requests:
    """One connection's stream. After `problem` is set nothing more is taken."""

    __slots__ = ("_at", "_left", "_need", "_pending", "_reader", "has_more", "is_strangers", "problem")

    def __init__(self) -> None:
        self.problem = ""
        self.is_strangers = False
        """Whether the client has yet to say who it is. Until then requests are small, and one is taken at a time."""
        self.has_more = False
        """Whether there may be another whole request in what is kept."""
        self._pending = bytearray()
        self._at = 0
        """How far the walk has come in `_pending`."""
        self._left = -1
        """How many arguments of the request at the beginning are still to come; -1: not known."""
        self._need = 0
        """With fewer bytes than this it is not worth looking."""
        self._reader = hiredis.Reader()

    @property
    def waiting_bytes(self) -> int:
        """How much of an unfinished request is held."""
        return len(self._pending)

    def give_up(self, problem: str) -> None:
        """Take nothing more, and forget what is not whole."""
        self.problem = self.problem or problem
        self.forget()

    def forget(self) -> None:
        """Forget what is not taken."""
        self._pending = bytearray()
        self.has_more = False

    def keep(self, data: bytes) -> None:
        """Take what arrived, and do not look at it yet."""
        self._pending += data
        self.has_more = True

    def feed(self, data: bytes) -> list[Chunk]:
        """Take what arrived and return what is whole; sets `problem` when the stream is broken."""
        if self.problem:
            return []
        self.has_more = False
        self._pending += data
        if len(self._pending) < self._need:
            return []
        chunks: list[Chunk] = []
        try:
            while self._next_chunk(chunks):
                if self.is_strangers and chunks:
                    break
        except _Broken as problem:
            self.problem = f"ERR Protocol error: {problem}"
        self.has_more = self.is_strangers and bool(chunks) and bool(self._pending)
        return chunks

    def _next_chunk(self, chunks: list[Chunk]) -> bool:
        """Add one chunk of requests that lie behind one another; whether there may be more."""
        buffer = self._pending
        if not buffer:
            return False
        if self._left < 0 and buffer[0] != 42:  # "*"
            return self._inline(chunks)
        borders = [0]
        try:
            more = self._walk(borders)
        finally:
            end = borders[-1]
            if end:
                chunks.append(self._parse(bytes(memoryview(buffer)[:end]), borders))
                del buffer[:end]
                self._at -= end
        return more

    def _walk(self, borders: list[int]) -> bool:
        """Find the ends of whole requests; whether to go on (an inline or empty request comes next)."""
        buffer = self._pending
        at, left, size = self._at, self._left, len(buffer)
        find = buffer.find
        while True:
            if left < 0:
                if at >= size:
                    break
                if buffer[at] != 42:
                    self._at, self._left, self._need = at, -1, 0
                    return True
                end = find(b"\r\n", at, at + _LENGTH_BYTES_MAX)
                if end < 0:
                    if size - at >= _LENGTH_BYTES_MAX:
                        raise _Broken("too big mbulk count string")
                    break
                left = self._count(buffer[at + 1 : end])
                if self.is_strangers and left > STRANGERS_ARGUMENTS_MAX:
                    raise _Broken("unauthenticated multibulk length")
                if left <= 0:  # Nothing is asked: passed over, as Redis does.
                    if len(borders) > 1:
                        self._at, self._left, self._need = at, -1, 0
                        return True
                    del buffer[: end + 2]
                    self._at, self._left, self._need = 0, -1, 0
                    return True
                at = end + 2
            while left:
                if at < size and buffer[at] != 36:  # "$"
                    raise _Broken(f"expected '$', got '{_shown(buffer[at])}'")
                end = find(b"\r\n", at, at + _LENGTH_BYTES_MAX)
                if end < 0:
                    if size - at >= _LENGTH_BYTES_MAX:
                        raise _Broken("too big bulk count string")
                    break
                length = _number(buffer[at + 1 : end])
                if not 0 <= length <= BULK_BYTES_MAX:
                    raise _Broken("invalid bulk length")
                if self.is_strangers and length > STRANGERS_BULK_BYTES_MAX:
                    raise _Broken("unauthenticated bulk length")
                after = end + 2 + length
                if after + 2 > size:
                    if after - borders[-1] > REQUEST_BYTES_MAX:
                        raise _Broken("the request is too large")
                    self._need = after + 2 - borders[-1]
                    self._at, self._left = at, left
                    return False
                if buffer[after] != 13 or buffer[after + 1] != 10:
                    raise _Broken("expected a line end after the bulk string")
                at = after + 2
                left -= 1
            else:
                if at - borders[-1] > REQUEST_BYTES_MAX:
                    raise _Broken("the request is too large")
                borders.append(at)
                left = -1
                if not self.is_strangers:
                    continue
            break
        self._at, self._left, self._need = at, left, 0
        if at - borders[-1] > REQUEST_BYTES_MAX:
            raise _Broken("the request is too large")
        return False

    @staticmethod
    def _count(digits: bytearray) -> int:
        if 0 <= (count := _number(digits)) <= ARGUMENTS_MAX:
            return count
        if digits[:1] == b"-" and _number(digits[1:]) > 0:
            return 0
        raise _Broken("invalid multibulk length")

    def _parse(self, data: bytes, borders: list[int]) -> Chunk:
        reader = self._reader
        reader.feed(data)
        requests = [reader.gets() for _ in range(len(borders) - 1)]
        assert not reader.has_data(), "the walk and the parser disagree"
        return Chunk(requests, data, borders)

    def _inline(self, chunks: list[Chunk]) -> bool:
        """A line of words, as one types it. It is kept as the array that it means."""
        buffer = self._pending
        end = buffer.find(b"\n", self._at)
        if (end if end >= 0 else len(buffer)) > INLINE_BYTES_MAX:
            raise _Broken("too big inline request")
        if end < 0:
            self._at = len(buffer)
            return False
        words = split_words(bytes(buffer[:end]).rstrip(b"\r"))
        del buffer[: end + 1]
        self._at = 0
        if words:
            data = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
            chunks.append(Chunk([words], data, [0, len(data)]))
        return True


def _number(digits: bytearray) -> int:
    """What canonical digits mean, as Redis and `hiredis` read them: no sign, no zero in front. -1 if they are none."""
    return int(digits) if digits.isdigit() and (digits[0] != 48 or len(digits) == 1) else -1


_ESCAPES = {ord("n"): b"\n", ord("r"): b"\r", ord("t"): b"\t", ord("b"): b"\b", ord("a"): b"\a"}


def split_words(line: bytes) -> list[bytes]:
    """The words of an inline request, with Redis's quotes and escapes."""
    words: list[bytes] = []
    at = 0
    while True:
        while at < len(line) and line[at : at + 1].isspace():
            at += 1
        if at >= len(line):
            return words
        word = bytearray()
        quote = 0
        while at < len(line):
            byte = line[at]
            if quote == 34 and byte == 92 and at + 1 < len(line):
                digits = line[at + 2 : at + 4]
                if line[at + 1 : at + 2] == b"x" and len(digits) == 2 and _is_hex(digits):
                    word.append(int(digits, 16))
                    at += 3
                else:
                    word += _ESCAPES.get(line[at + 1], line[at + 1 : at + 2])
                    at += 1
            elif quote == 39 and line[at : at + 2] == b"\\'":
                word += b"'"
                at += 1
            elif quote and byte == quote:
                if at + 1 < len(line) and not line[at + 1 : at + 2].isspace():
                    raise _Broken("unbalanced quotes in request")
                quote = 0
                at += 1
                break
            elif not quote and byte in (34, 39):
                quote = byte
            elif not quote and line[at : at + 1].isspace():
                break
            else:
                word.append(byte)
            at += 1
        if quote:
            raise _Broken("unbalanced quotes in request")
        words.append(bytes(word))


def _is_hex(digits: bytes) -> bool:
    return all(digit in b"0123456789abcdefABCDEF" for digit in digits)


def _shown(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 else "?"
