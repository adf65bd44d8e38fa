"""Requests into bytes, and answers out of bytes; one speaker for each connection."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import hiredis

from .requests import Make


class Answer(NamedTuple):
    """A request was answered."""

    due: float
    """Since when it had been due."""
    is_good: bool
    """It was done; False if the answer is an error."""


class Speaker:
    """What a protocol has to know. Bytes that are not requests are put into `outgoing`, from where they are sent, too."""

    def __init__(self) -> None:
        self.outgoing = bytearray()
        self.is_ready = True
        """Requests may be made."""

    def request(self, due: float) -> bytes:
        """The bytes of one more request."""
        raise NotImplementedError

    def feed(self, data: bytes) -> list[Answer]:
        """The requests that are answered with these bytes. Raises `ConnectionError` if they cannot be read."""
        raise NotImplementedError

    def unanswered(self) -> list[float]:
        """Since when the others have been due."""
        raise NotImplementedError


class Resp(Speaker):
    """The protocol of Redis: answers come in the order of requests."""

    def __init__(self, make: Make, greeting: bytes = b"") -> None:
        """`greeting` is one command that has to be answered first, by whatever."""
        super().__init__()
        self.outgoing += greeting
        self.is_ready = not greeting
        self._make = make
        self._asked: deque[float] = deque()
        self._reader = hiredis.Reader()

    def request(self, due: float) -> bytes:
        self._asked.append(due)
        return self._make()

    def feed(self, data: bytes) -> list[Answer]:
        answers: list[Answer] = []
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                if self.is_ready:
                    answers.append(Answer(self._asked.popleft(), not isinstance(reply, hiredis.ReplyError)))
                self.is_ready = True
        except hiredis.ProtocolError as problem:
            raise ConnectionError(str(problem)) from None
        return answers

    def unanswered(self) -> list[float]:
        return list(self._asked)
