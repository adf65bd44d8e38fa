"""What all clients of a node hold together, and who goes first when it is too much (rule D5).

Each connection has bounds of its own (`connection`), but there are ten thousand of them. Once a second, by one timer for
all, the guard looks at two sums. (And for those who say nothing, if somebody wants them gone: CONFIG SET timeout.)

**What clients do not read.** A client that has more unread than its own bound allows, and reads nothing at all for a minute,
is cut off; and when all clients together have too much unread, those with the most are, until it is less. That drops no
outcome that is pending (rule D7): whoever still waits for the node is passed over, and what the node has done by then was
told as far as the client would listen. Nothing else is begun meanwhile for a client above its own bound.

**What has arrived and cannot be begun**: requests and transactions that are not whole, and those that wait their turn. When that
is too much, a connection that holds more than a little of it is not read from until there is room, so that ordinary
commands go on as if nothing were. One of them may always go on, or nothing would ever get whole: the one that holds most, since
it frees most. It keeps its turn as long as it brings something. One that brings next to nothing for a minute is
told so and closed, and it is another's turn: nobody can keep the room by sending slowly.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connection import Connection
    from .state import ServerState

log = logging.getLogger("sofadb.server")

LOOK_S = 1.0
STALLED_S_MAX = 60.0
"""So long a client may read nothing, or while there is no room bring next to nothing, before it is cut off."""
PROGRESS_BYTES_MIN = 4 << 20
"""Less than this in that time, of a request that is too large to be no matter, is next to nothing."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far a client was when it was last seen to go on."""

    bytes: int
    at: float


class Guard:
    """Looks at the clients of one server."""

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self._timer: asyncio.TimerHandle | None = None
        self._stuck: dict[Connection, _Mark] = {}
        """Those who have more unread than they may: how much, and since when."""
        self._turn: tuple[Connection, _Mark] | None = None
        """Who may go on although there is no room, and how much had arrived from it, in all, when."""

    def start(self) -> None:
        """Look once a second from now on."""
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self.look(asyncio.get_running_loop().time())
        self.start()

    def look(self, now: float) -> None:
        """Do what has to be done now (seconds on a monotonic clock)."""
        self.state.memory.look()
        clients = list(self.state.clients.values())
        self.state.recent_input_bytes_max = max((client.held_bytes for client in clients), default=0)
        self._mind_idle(clients, now)
        self._mind_unread(clients, now)
        self._mind_unfinished(clients, now)

    # Who says nothing

    def _mind_idle(self, clients: Iterable[Connection], now: float) -> None:
        seconds_max = self.state.settings.idle_s_max
        for client in clients:
            if client.received_bytes != client.seen_bytes or client.is_busy or not client.active_at:
                client.seen_bytes, client.active_at = client.received_bytes, now
            client.idle_s = int(now - client.active_at)
            if seconds_max and client.idle_s >= seconds_max and not client.is_subscriber:
                log.info(
                    "%s has said nothing for %d s: closing the connection", client.address, client.idle_s
                )
                client.kill()

    # What clients do not read

    def _mind_unread(self, clients: Iterable[Connection], now: float) -> None:
        unread = {client: size for client in clients if (size := client.unread_bytes)}
        self.state.recent_output_bytes_max = max(unread.values(), default=0)
        marks = {client: _Mark(size, now) for client, size in unread.items() if not client.is_writable}
        # While nothing is written to them there is less only if they read.
        self._stuck = {
            client: was if (was := self._stuck.get(client, mark)).bytes <= mark.bytes else mark
            for client, mark in marks.items()
        }
        for client, mark in self._stuck.items():
            if now - mark.at >= STALLED_S_MAX and not client.waits_for_node:
                self._cut_off(client, f"it has read nothing for {now - mark.at:.0f} s")
                del unread[client]
        excess = sum(unread.values()) - self.state.settings.unread_bytes_max
        for client in sorted(unread, key=lambda client: unread[client], reverse=True):
            if excess <= 0:
                break
            if not client.waits_for_node:
                self._cut_off(client, "it has more unread than others, and all together have too much")
                excess -= unread[client]

    def _cut_off(self, client: Connection, reason: str) -> None:
        log.warning(
            "%s does not read its replies, of which %d bytes wait: cutting it off, since %s",
            client.address,
            client.unread_bytes,
            reason,
        )
        self.state.output_disconnections += 1
        client.abort()

    # What is not whole

    def _mind_unfinished(self, clients: Iterable[Connection], now: float) -> None:
        state = self.state
        if not state.is_short_of_room:
            self._turn = state.next_to_go_on = None
            for client in clients:
                if not client.is_reading:
                    client.mind_the_input()
            return
        candidates = [client for client in clients if client.held_bytes > state.settings.held_bytes_free]
        if self._turn is not None and self._turn[0] in candidates:
            client, mark = self._turn
            if client.received_bytes - mark.bytes >= PROGRESS_BYTES_MIN:
                self._turn = client, _Mark(client.received_bytes, now)
            elif now - mark.at >= STALLED_S_MAX:
                log.warning(
                    "%s has sent next to nothing of a request for %.0f s, and others have no room: closing the connection",
                    client.address,
                    now - mark.at,
                )
                state.input_disconnections += 1
                candidates.remove(client)
                self._turn = None
                client.give_up_request()
        else:
            self._turn = None
        if self._turn is None and candidates:
            client = max(candidates, key=lambda client: client.held_bytes)
            self._turn = client, _Mark(client.received_bytes, now)
        state.next_to_go_on = None if self._turn is None else self._turn[0]
        for client in clients:
            client.mind_the_input()
