"""The client port.

Connections are accepted by the event loop. Should file descriptors run out, accepting pauses by itself for a moment and
nothing else suffers: the limit on clients is kept well below the number of descriptors, so that the journal and the peers
always have some left.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from dataclasses import replace

from . import commands as commands  # Fills the table.
from .connection import Connection
from .state import ServerState

DESCRIPTORS_RESERVED = 256
"""Kept free of clients: for the journal, the peers, and what else the process opens."""
BACKLOG = 511
LOOK_FOR_LEADER_S = 0.05
"""How often a node looks whether there is another leader to tell of."""


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
    _look_for_leader(state, loop)


def _look_for_leader(state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
    """Now and again, as long as there are clients to tell."""
    state.look_for_leader()
    if state.server.is_serving():
        loop.call_later(LOOK_FOR_LEADER_S, _look_for_leader, state, loop)


class _Tuned(Connection):
    """A connection whose small replies leave at once, and whose dead clients are noticed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        super().connection_made(transport)


async def stop(state: ServerState) -> None:
    """Take no more connections and close those there are, once what they asked for is answered."""
    if state.server is not None:
        state.server.close()
    for connection in list(state.clients.values()):
        connection.close()
