"""The client port.

Connections are accepted by the event loop. Should file descriptors run out, accepting pauses by itself for a moment and
nothing else suffers: the limit on clients is kept well below the number of descriptors, so that the journal and the peers
always have some left.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from dataclasses import replace

from . import commands as commands  # Fills the table.
from .connection import Connection
from .descriptors import BACKLOG, make_room
from .guard import Guard
from .state import ServerState

log = logging.getLogger("sofadb.server")

KEEPALIVE_PROBES = 3
KEEPALIVE_S_MAX = 32_767
"""The kernel takes no more."""
LINGER_S = 0.3
"""A connection that we have ended is left open for so long, for the client to end it: what it has sent by then has arrived."""


async def start(state: ServerState) -> None:
    """Listen on the state's host and port. Raises `OSError` if the port cannot be had."""
    state.settings = replace(state.settings, clients_max=make_room(state.settings.clients_max))
    loop = asyncio.get_running_loop()

    def connect() -> Connection:
        return _Tuned(state)

    state.server = await loop.create_server(connect, state.host, state.port, backlog=BACKLOG)
    state.guard = Guard(state)
    state.guard.start()
    state.memory.look()
    state.memory.start()
    state.look_for_leader()


class _Tuned(Connection):
    """A connection whose small replies leave at once, and whose dead clients are noticed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.state.settings.keepalive_s:
                _keep_alive(sock, self.state.settings.keepalive_s)
        super().connection_made(transport)


def _keep_alive(sock: socket.socket, seconds: int) -> None:
    """Have the kernel ask after so much silence, and give a client up that does not answer in as much time again."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, min(seconds, KEEPALIVE_S_MAX))
        sock.setsockopt(
            socket.IPPROTO_TCP,
            socket.TCP_KEEPINTVL,
            max(1, min(seconds, KEEPALIVE_S_MAX) // KEEPALIVE_PROBES),
        )
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


async def stop(state: ServerState, within_s: float) -> None:
    """Take no more connections, answer what has arrived, and end those there are, by all means in so many seconds.

    What cannot be begun in half of that time is dropped, so that at least everything begun can be answered.
    """
    if state.server is not None:
        state.server.close()
        state.guard.stop()
        state.memory.stop()
    state.pause.end()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    begins_until = loop.time() + within_s / 2
    ended_at: dict[Connection, float] = {}
    for connection in list(state.clients.values()):
        connection.finish()
    while state.clients and loop.time() < deadline:
        for connection in list(state.clients.values()):
            if loop.time() >= begins_until and not connection.has_ended:
                connection.close()
            is_all_told = connection.has_ended and not connection.unread_bytes
            if is_all_told and loop.time() - ended_at.setdefault(connection, loop.time()) >= LINGER_S:
                connection.abort()
        await asyncio.sleep(0.01)
    for connection in list(state.clients.values()):
        log.warning("%s has not taken its replies: closing the connection", connection.address)
        connection.abort()
