"""As much of a Redis client as the commands need: ask one thing, get one answer, never hang.

Where the environment has a password (`passwords`), it is said first, to every node.
"""

from __future__ import annotations

import socket
from contextlib import closing
from typing import Any

import hiredis

from .passwords import PASSWORD, PASSWORD_FILE, NoPassword, read_passwords


class Unreachable(Exception):
    """Nobody answers at that address, or not like a node would."""


_HINT = f" (Have {PASSWORD_FILE} or {PASSWORD} in the environment.)"


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
        try:
            self._introduce()
        except Unreachable:
            self.close()
            raise

    def _introduce(self) -> None:
        try:
            passwords = read_passwords()
        except NoPassword as problem:
            raise Unreachable(f"{self._where}: {problem}") from None
        answer = self._ask(b"AUTH", passwords[0]) if passwords else None
        # A node without a password says so, and may be asked all the same.
        if isinstance(answer, hiredis.ReplyError) and not str(answer).startswith("ERR AUTH"):
            raise Unreachable(f"{self._where}: {answer}")

    def ask(self, *words: str) -> Any:
        """Send one command and return its answer. Raises `Unreachable`; an error reply is returned.

        That no password was said, or that this machine is not spoken to, is no answer.
        """
        answer = self._ask(*(word.encode() for word in words))
        if isinstance(answer, hiredis.ReplyError) and str(answer).startswith(("NOAUTH", "DENIED")):
            raise Unreachable(f"{self._where}: {answer}{_HINT if str(answer).startswith('NOAUTH') else ''}")
        return answer

    def _ask(self, *words: bytes) -> Any:
        request = b"*%d\r\n" % len(words)
        request += b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
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
