"""The client port.

Connections are accepted by the event loop. Should file descriptors run out, accepting pauses by itself for a moment and
nothing else suffers: the limit on clients is kept well below the number of descriptors, so that the journal and the peers
always have some left.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from dataclasses import replace

from . import commands as commands  # Fills the table.
from .connection import Connection
from .guard import Guard
from .state import ServerState

log = logging.getLogger("sofadb.server")

DESCRIPTORS_RESERVED = 256
"""Kept free of clients: for the journal, the peers, and what else the process opens."""
BACKLOG = 511
LINGER_S = 0.3
"""A connection that we have ended is left open for so long, for the client to end it: what it has sent by then has arrived."""


async def start(state: ServerState) -> None:
    """Listen on the state's host and port. Raises `OSError` if the port cannot be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = state.settings.clients_max + DESCRIPTORS_RESERVED
    if soft < wanted:
        soft = min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    clients_max = max(16, min(state.settings.clients_max, soft - DESCRIPTORS_RESERVED))
    state.settings = replace(state.settings, clients_max=clients_max)
    loop = asyncio.get_running_loop()

    def connect() -> Connection:
        return _Tuned(state)

    state.server = await loop.create_server(connect, state.host, state.port, backlog=BACKLOG)
    state.guard = Guard(state)
    state.guard.start()
    state.look_for_leader()


class _Tuned(Connection):
    """A connection whose small replies leave at once, and whose dead clients are noticed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        super().connection_made(transport)


async def stop(state: ServerState, within_s: float) -> None:
    """Take no more connections, answer what has arrived, and end those there are, by all means in so many seconds.

    What cannot be begun in half of that time is dropped, so that at least everything begun can be answered.
    """
    if state.server is not None:
        state.server.close()
        state.guard.stop()
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
