"""As much of a Redis client as the commands need: ask one thing, get one answer, never hang."""

from __future__ import annotations

import socket
from typing import Any

import hiredis


class Unreachable(Exception):
    """Nobody answers at that address, or not like a node would."""


def ask(host: str, port: int, *words: str, timeout_s: float = 2.0) -> Any:
    """Send one command and return its answer, text as `str`. Raises `Unreachable`; an error reply is returned."""
    request = b"*%d\r\n" % len(words)
    request += b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
    reader = hiredis.Reader(encoding="utf-8", errors="replace")
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.sendall(request)
            while True:
                answer = reader.gets()
                if answer is not False:
                    return answer
                data = connection.recv(65536)
                if not data:
                    raise Unreachable(f"{host}:{port} closed the connection")
                reader.feed(data)
    except (OSError, hiredis.ProtocolError) as problem:
        raise Unreachable(f"{host}:{port}: {problem}") from None
