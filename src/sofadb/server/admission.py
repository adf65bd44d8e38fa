"""Who may speak to a node: whoever knows a password, or, where there is none, who is on the same machine (protected mode).

A node may have several passwords. Each of them does, so that they can be changed without a moment in which clients are turned
away: first the nodes know the old one and the new one, then the clients use the new one, then the nodes forget the old one.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from typing import Any

from sofadb.database.replies import ReplyError

PASSWORD_BYTES_MAX = 512
USER = b"default"
"""The one that there is."""

NO_AUTH = ReplyError("NOAUTH Authentication required.")
WRONG_PASSWORD = ReplyError("WRONGPASS invalid username-password pair or user is disabled.")
DENIED = (
    b"-DENIED This node has no password and is in protected mode: it speaks to clients on its own machine only. "
    b"Start it with --password-file FILE; or with --protected-mode no, if nobody can reach it who must not.\r\n"
)


class Passwords:
    """Those that a node accepts. It keeps their digests only."""

    __slots__ = ("_digests",)

    def __init__(self, passwords: Iterable[bytes] = ()) -> None:
        self._digests = [sha256(password).digest() for password in passwords]

    def __bool__(self) -> bool:
        """Whether a password is required."""
        return bool(self._digests)

    def accept(self, password: bytes) -> bool:
        """Whether it is one of them. How long that takes tells nothing about them."""
        digest = sha256(password).digest()
        return sum(compare_digest(digest, each) for each in self._digests) > 0


def is_on_this_machine(peer: Any) -> bool:
    """Whether a client with that name of its socket is: over loopback, or a socket of the file system.

    Of one that was gone before its name was asked for nobody knows, and what it has sent can still be read: it is not.
    """
    if not isinstance(peer, tuple):
        return peer is not None
    return ip_address(peer[0].partition("%")[0]).is_loopback
