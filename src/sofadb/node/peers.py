"""The other nodes: one connection to each, for what we say, and one from each, for what we hear.

A connection is opened, greeted, used, and opened again when it breaks, with a growing pause. What cannot be sent at once
because a peer is unreachable or does not keep up is dropped: the protocol sends again what still matters, and nothing may
pile up here. Strangers are refused by name: another cluster, another node than the one that was meant, somebody
who is no member, an earlier life of a node that has been heard of in a later one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from sofadb.paxos import Message, NodeId
from sofadb.paxos.codec import Malformed, decode_message, encode

from .frames import FRAME_BYTES_MAX, PREAMBLE, BadPeer, Buffer, FrameReader, Greeting, frame

log = logging.getLogger("sofadb.peers")

WRITE_BUFFER_BYTES_MAX = 64 << 20
"""What may wait for one peer. Beyond it messages are dropped, whole."""
PAUSE_MS_MIN, PAUSE_MS_MAX = 20.0, 1_000.0
"""Between attempts to connect; doubled each time, with chance added so that nodes do not keep step."""
REFUSED_PAUSE_MS = 5_000.0
"""After the other end refused us: nothing will change soon."""
USER_TIMEOUT_MS = 3_000
"""Unacknowledged for this long, the kernel gives a connection up (otherwise about a quarter of an hour)."""
GREETING_TIMEOUT_S = 5.0
INBOUND_MAX = 64
"""Connections to the peer port at once, greeted or not."""


@dataclass(slots=True)
class Peer:
    """What is known of another node."""

    node: NodeId
    host: str
    port: int
    client_address: str = ""
    starts: int = 0
    link: Link | None = None
    inbound: Inbound | None = None
    dropped: int = 0
    """Messages that were not sent, since the peer was unreachable or slow."""
    problem: str = "not reached yet"
    """Why there is no connection to it; empty when there is."""


@dataclass(slots=True)
class Myself:
    """What we say of ourselves in greetings."""

    cluster: str
    node: NodeId
    starts: int
    client_address: str

    def greeting(self, to: str = "", problem: str = "") -> Greeting:
        return Greeting(self.cluster, self.node, self.starts, to, self.client_address, problem)


def tune(transport: asyncio.BaseTransport) -> None:
    """No delay for small messages, and an end to connections whose other end is gone."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


class Link(asyncio.Protocol):
    """Our connection to a peer. It is `ready` once the peer has answered our greeting."""

    def __init__(self, myself: Myself, peer: Peer) -> None:
        self.myself = myself
        self.peer = peer
        self.reader = FrameReader()
        self.transport: asyncio.Transport | None = None
        self.ready = False
        self.greeted = False
        self.problem = ""
        self.refused = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's are not derived from it.
        tune(transport)
        greeting = self.myself.greeting(to=self.peer.node)
        transport.writelines([PREAMBLE, *frame([greeting.encode()])])

    def data_received(self, data: bytes) -> None:
        try:
            for contents in self.reader.feed(data):
                self._on_greeting(Greeting.decode(contents))
        except BadPeer as problem:
            self._give_up(str(problem))

    def _on_greeting(self, greeting: Greeting) -> None:
        if self.ready:
            raise BadPeer("it greets twice")
        if greeting.problem:
            self.refused = True
            raise BadPeer(f"it refuses us: {greeting.problem}")
        if (greeting.cluster, greeting.node) != (self.myself.cluster, self.peer.node):
            self.refused = True
            raise BadPeer(f"there is node {greeting.node} of cluster {greeting.cluster} at its address")
        self.ready = self.greeted = True
        self.peer.problem = ""
        self.peer.client_address = greeting.client_address
        self.peer.starts = max(self.peer.starts, greeting.starts)
        log.info("connected to %s", self.peer.node)

    def expect_greeting(self) -> None:
        """It had its time to answer."""
        if not self.greeted:
            self._give_up("it accepts connections and says nothing")

    def _give_up(self, problem: str) -> None:
        self.problem = problem
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.ready = False
        self.problem = self.problem or (str(error) if error else "it closed the connection")
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, buffers: list[Buffer]) -> bool:
        """Send a frame, or drop it: False."""
        transport = self.transport
        if not self.ready or transport is None or transport.get_write_buffer_size() > WRITE_BUFFER_BYTES_MAX:
            return False
        transport.writelines(buffers)
        return True


class Inbound(asyncio.Protocol):
    """A connection that somebody opened to us."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.reader = FrameReader()
        self.peer: Peer | None = None
        self.transport: asyncio.Transport | None = None
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's are not derived from it.
        if len(self.peers.inbound) >= INBOUND_MAX:
            log.warning("too many connections to the peer port: refusing another one")
            transport.abort()
            return
        tune(transport)
        self.peers.inbound.add(self)
        self.timer = asyncio.get_running_loop().call_later(GREETING_TIMEOUT_S, self.close)

    def data_received(self, data: bytes) -> None:
        try:
            for contents in self.reader.feed(data):
                if self.peer is None:
                    self._on_greeting(Greeting.decode(contents))
                else:
                    self.peers.received(self.peer.node, decode_message(contents))
        except (BadPeer, Malformed) as problem:
            who = self.peer.node if self.peer else self._address()
            log.warning("closing the connection from %s: %s", who, problem)
            self.close()

    def _on_greeting(self, greeting: Greeting) -> None:
        peer = self.peers.known.get(greeting.node)
        problem = self.peers.problem_with(greeting)
        assert self.transport is not None
        answer = self.peers.myself.greeting(problem=problem)
        self.transport.writelines([PREAMBLE, *frame([answer.encode()])])
        if problem or peer is None:
            raise BadPeer(problem)
        if self.timer is not None:
            self.timer.cancel()
        if peer.inbound is not None:
            peer.inbound.close()
        peer.inbound, peer.starts, peer.client_address = self, greeting.starts, greeting.client_address
        self.peer = peer
        self.reader.bytes_max = FRAME_BYTES_MAX

    def _address(self) -> str:
        name = self.transport.get_extra_info("peername") if self.transport else None
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "somebody"

    def close(self) -> None:
        """End the connection, after what was written to it."""
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.peers.inbound.discard(self)
        if self.timer is not None:
            self.timer.cancel()
        if self.peer is not None and self.peer.inbound is self:
            self.peer.inbound = None


@dataclass(slots=True)
class Peers:
    """All other members, and the port on which they reach us."""

    myself: Myself
    members: dict[NodeId, str]
    """Everybody's peer address as HOST:PORT, our own included."""
    received: Callable[[NodeId, Message], None]
    known: dict[NodeId, Peer] = field(default_factory=dict)
    inbound: set[Inbound] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _encoded: tuple[Message | None, list[Buffer]] = (None, [])

    def __post_init__(self) -> None:
        for node, address in self.members.items():
            if node != self.myself.node:
                host, _, port = address.rpartition(":")
                self.known[node] = Peer(node, host.strip("[]"), int(port))

    async def start(self, host: str, port: int) -> None:
        """Listen, and connect to everybody. Raises `OSError` if the port cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Inbound(self), host, port, backlog=INBOUND_MAX)
        self._tasks = [loop.create_task(self._keep_connected(peer)) for peer in self.known.values()]

    async def stop(self) -> None:
        """Close everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for inbound in list(self.inbound):
            inbound.close()
        for peer in self.known.values():
            if peer.link is not None and peer.link.transport is not None:
                peer.link.transport.close()

    def send(self, to: NodeId, message: Message) -> None:
        """Send, or drop. A message for several peers is encoded once."""
        peer = self.known.get(to)
        if peer is None:
            return
        if peer.link is None or not peer.link.ready:
            peer.dropped += 1
            return
        encoded_message, buffers = self._encoded
        if encoded_message is not message:
            buffers = frame(encode(message))
            self._encoded = (message, buffers)
        if not peer.link.send(buffers):
            peer.dropped += 1

    def problem_with(self, greeting: Greeting) -> str:
        """Why `greeting` is refused; empty if it is not."""
        myself = self.myself
        if greeting.cluster != myself.cluster:
            return f"this is cluster {myself.cluster}, not {greeting.cluster}"
        if greeting.to != myself.node:
            return f"this is node {myself.node}, not {greeting.to}"
        peer = self.known.get(greeting.node)
        if peer is None:
            return f"node {greeting.node} is no member of this cluster"
        if greeting.starts < peer.starts:
            return f"node {greeting.node} has been started again since"
        return ""

    async def _keep_connected(self, peer: Peer) -> None:
        """Connect to `peer`, for ever. Only cancelling ends it."""
        loop = asyncio.get_running_loop()
        pause_ms = PAUSE_MS_MIN
        while True:
            link = Link(self.myself, peer)
            try:
                async with asyncio.timeout(GREETING_TIMEOUT_S):
                    await loop.create_connection(lambda link=link: link, peer.host, peer.port)  # type: ignore[misc]
            except (OSError, TimeoutError) as problem:
                link.problem = str(problem) or "it does not answer"
            else:
                peer.link = link
                timer = loop.call_later(GREETING_TIMEOUT_S, link.expect_greeting)
                await link.closed
                timer.cancel()
                peer.link = None
                if link.greeted:
                    pause_ms = PAUSE_MS_MIN
            if link.problem != peer.problem:
                log.warning("no connection to %s: %s", peer.node, link.problem)
            peer.problem = link.problem
            pause = REFUSED_PAUSE_MS if link.refused else pause_ms * (1 + random.random())
            await asyncio.sleep(pause / 1000)
            pause_ms = min(PAUSE_MS_MAX, 2 * pause_ms)
