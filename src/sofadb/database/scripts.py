"""The scripts that are known, by the SHA1 of their texts: state, so that EVALSHA finds them on every node and after any restart.

There are bounds, in numbers and bytes, and the oldest is forgotten first. Clients expect that: they are told NOSCRIPT, and send
the text again.
"""

from __future__ import annotations

from collections import deque
from hashlib import sha1

from .rolling import Rolling

SCRIPTS_MAX = 10_000
BYTES_MAX = 16 << 20
SCRIPT_BYTES_MAX = 256 << 10
"""A longer one is not executed at all."""


class Scripts:
    """Texts by their SHA1, in lower case hexadecimal."""

    __slots__ = ("bytes", "order", "rolling", "texts")

    def __init__(self, rolling: Rolling) -> None:
        self.rolling = rolling
        self.texts: dict[bytes, bytes] = {}
        self.order: deque[bytes] = deque()
        """The oldest first. (A dict's first item is slow to find where many were removed.)"""
        self.bytes = 0

    def learn(self, text: bytes) -> bytes:
        """Know a script from now on; returns its SHA1."""
        sha = sha_of(text)
        if sha not in self.texts:
            self.add(sha, text)
            self.rolling.roll(b"script", sha)
            while len(self.texts) > SCRIPTS_MAX or self.bytes > BYTES_MAX:
                self.bytes -= len(self.texts.pop(self.order.popleft()))
        return sha

    def add(self, sha: bytes, text: bytes) -> None:
        """Put one behind the others."""
        self.texts[sha] = text
        self.order.append(sha)
        self.bytes += len(text)

    def clear(self) -> None:
        """Forget all."""
        self.texts.clear()
        self.order.clear()
        self.bytes = 0
        self.rolling.roll(b"no scripts")


def sha_of(text: bytes) -> bytes:
    """By what a script is called."""
    return sha1(text, usedforsecurity=False).hexdigest().encode()
