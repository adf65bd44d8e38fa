"""As much of a Redis client as the commands need: ask one thing, get one answer, never hang."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import Any

import hiredis


class Unreachable(Exception):
    """Nobody answers at that address, or not like a node would."""


class Conversation:
    """One connection, on which one thing at a time is asked. Answers are bytes unless `encoding` says what text they are."""

    def __init__(self, host: str, port: int, timeout_s: float, encoding: str | None = None) -> None:
        """Raises `Unreachable`."""
        self._where = f"{host}:{port}"
        self._reader = hiredis.Reader(encoding=encoding, errors="replace")
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
        except OSError as problem:
            raise Unreachable(f"{self._where}: {problem}") from None

    def ask(self, *words: str) -> Any:
        """Send one command and return its answer. Raises `Unreachable`; an error reply is returned."""
        request = b"*%d\r\n" % len(words)
        request += b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
        try:
            self._socket.sendall(request)
            while (answer := self._reader.gets()) is False:
                data = self._socket.recv(1 << 18)
                if not data:
                    raise Unreachable(f"{self._where} closed the connection")
                self._reader.feed(data)
        except (OSError, hiredis.ProtocolError) as problem:
            raise Unreachable(f"{self._where}: {problem}") from None
        return answer

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def ask(host: str, port: int, *words: str, timeout_s: float = 2.0) -> Any:
    """Send one command and return its answer, text as `str`. Raises `Unreachable`; an error reply is returned."""
    with closing(Conversation(host, port, timeout_s, "utf-8")) as conversation:
        return conversation.ask(*words)
