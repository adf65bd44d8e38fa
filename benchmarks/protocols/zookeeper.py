"""A session of ZooKeeper (its `jute` records): setData, and sync with getData, which together make a linearizable read."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable

from sofadb.load.speakers import Answer, Speaker

CREATE, SET_DATA, GET_DATA, SYNC = 1, 5, 4, 9
SESSION_TIMEOUT_MS = 30_000
NODE_EXISTS = -110


def text(value: bytes) -> bytes:
    """A string or a buffer."""
    return struct.pack(">i", len(value)) + value


def record(body: bytes) -> bytes:
    """As it travels."""
    return text(body)


def create(path: bytes, value: bytes) -> bytes:
    """What follows the head of a request to make a lasting node that anybody may do anything with."""
    everybody = struct.pack(">ii", 1, 31) + text(b"world") + text(b"anyone")
    return text(path) + text(value) + everybody + struct.pack(">i", 0)


def set_data(path: bytes, value: bytes) -> bytes:
    """What follows the head of a request to set a node's data, whatever its version."""
    return text(path) + text(value) + struct.pack(">i", -1)


def get_data(path: bytes) -> bytes:
    """What follows the head of a request for a node's data, without a watch."""
    return text(path) + b"\0"


class Session(Speaker):
    """Answers come in the order of requests."""

    def __init__(self, make: Callable[[], list[tuple[int, bytes]]]) -> None:
        """`make` gives the operations of the next request, each its kind and its bytes; it is answered when the last one is."""
        super().__init__()
        self._make = make
        self._xid = 0
        self._asked: deque[float | None] = deque()
        """For each operation since when its request has been due; None if another operation follows."""
        self._unread = bytearray()
        self.is_ready = False
        hello = struct.pack(">iqiq", 0, 0, SESSION_TIMEOUT_MS, 0) + text(bytes(16)) + b"\0"
        self.outgoing += record(hello)

    def request(self, due: float) -> bytes:
        out = b""
        operations = self._make()
        for kind, body in operations:
            self._xid += 1
            out += record(struct.pack(">ii", self._xid, kind) + body)
        self._asked.extend([None] * (len(operations) - 1))
        self._asked.append(due)
        return out

    def feed(self, data: bytes) -> list[Answer]:
        answers: list[Answer] = []
        unread = self._unread
        unread += data
        begin = 0
        while len(unread) - begin >= 4:
            (size,) = struct.unpack_from(">i", unread, begin)
            if len(unread) - begin < 4 + size:
                break
            if not self.is_ready:
                self.is_ready = True
            else:
                _, _, error = struct.unpack_from(">iqi", unread, begin + 4)
                if (due := self._asked.popleft()) is not None:
                    answers.append(Answer(due, error == 0))
            begin += 4 + size
        del unread[:begin]
        return answers

    def unanswered(self) -> list[float]:
        return [due for due in self._asked if due is not None]
