"""The other nodes: three connections to each, for what we say, and three from each, for what we hear.

One of them is for large messages and one for parts of snapshots, so that a leader's voice never waits behind them. A
connection is opened, greeted, used, and opened again when it breaks, with a growing pause. What cannot be sent at once because a
peer is unreachable or does not keep up is dropped: the protocol sends again what still matters, and nothing may pile up here.

The kernel repeats what nobody acknowledges after longer and longer pauses, so that after a link was cut for a second its
connections may stay mute for another one. So a connection that the kernel has repeated something on in vain, twice, is given up
and opened anew; and who hears that a peer has come back to it tries at once to reach it, too.

Who the others are may change at any time (`Peers.update`). They are acceptors, that is directories, and not nodes: at the
address of a node another directory may answer than the one that is meant, and what is for the one is never given to the other.
Where an acceptor is reached, it says itself when it connects to us; that is believed until we are told otherwise.

Strangers are refused by name: another cluster, another directory than the one that was meant, somebody who is no member. So is
an earlier life of a node that has been met in a later one. And a node that hears that somebody has met it in a life which
its own directory knows nothing of has an emptied directory, or an older copy: it may have lost what it promised, its word must
not count, and nothing passes any more in either direction (rule P10). Whom a node has met, it remembers on disk before it
listens. A directory that has no history yet lets nothing pass either, until it knows that it stands in nobody's place
(`freshness`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from sofadb.database.roster import LEVEL
from sofadb.paxos import NO_BALLOT, Ballot, Instance, Message, NodeId
from sofadb.paxos.codec import Malformed, decode_message, encode
from sofadb.paxos.messages import Accepted, Forward
from sofadb.storage.files import NoSpace
from sofadb.storage.identity import Life, plain_name
from sofadb.unlikely import possible, unlikely

from .facts import UNKNOWN_HOST, split_address
from .frames import (
    BULK,
    FRAME_BYTES_MAX,
    LANES,
    LARGE,
    PREAMBLE,
    SMALL,
    BadPeer,
    Buffer,
    FrameReader,
    Greeting,
    encode_members,
    frame,
)
from .freshness import is_fresh_safe
from .parcels import PART_FRAME_BYTES_MAX, Parcel, Part, decode_parcel, encode_parcel, is_parcel

log = logging.getLogger("sofadb.peers")

WRITE_BUFFER_BYTES_MAX = 64 << 20
"""What may wait for one peer. Beyond it messages are dropped, whole."""
CONNECT_TIMEOUT_S, CONNECT_TIMEOUT_S_MAX = 0.5, 2.0
"""After so long without an answer to it the kernel would repeat the request only half a second later: a new one is faster.
But where the way is long a new one is no faster: the time is doubled after each in vain."""
PAUSE_MS_MIN, PAUSE_MS_MAX = 20.0, 250.0
"""Between attempts to connect; doubled each time, with chance added so that nodes do not keep step."""
REFUSED_PAUSE_MS = 5_000.0
"""After the other end refused us: nothing will change soon."""
USER_TIMEOUT_MS = 3_000
"""Unacknowledged for this long, the kernel gives a connection up (otherwise about a quarter of an hour)."""
LOOK_AFTER_S = 0.1
REPETITIONS_MAX = 2
"""So often the kernel repeats something on a connection, in vain, until that is given up: after about 0.6 s on a short way."""
GREETING_TIMEOUT_S = 5.0
STRANGERS_MAX = 32
"""Connections to the peer port that have not greeted yet; the oldest makes room for a new one."""
_RETRANSMITS = 2
"""Where Linux's `struct tcp_info` has `tcpi_retransmits`, a byte."""
SMALL_BYTES_MAX = 1 << 20
"""A message larger than this takes the lane for large ones."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Our directory has lost what it knew, or stands in the place of one that was lost."""

    problem: str
    """What to tell people."""
    told_by: NodeId
    peer_address: str
    """Where the one who told us is reached: from there a new directory can join."""
    cluster: str


@dataclass(slots=True)
class Peer:
    """What is known of another acceptor."""

    node: NodeId
    host: str
    port: int
    told_address: str = ""
    """Where it is reached, as we were told last; it may have said otherwise itself since."""
    client_address: str = ""
    life: Life | None = None
    """The latest that we have met; on disk, too."""
    links: dict[str, Link] = field(default_factory=dict)
    """By lane, those that are connected."""
    inbound: dict[str, Inbound] = field(default_factory=dict)
    dropped: int = 0
    """Messages that were not sent, since the peer was unreachable or slow."""
    problems: dict[str, str] = field(default_factory=lambda: dict.fromkeys(LANES, "not reached yet"))

    is_back: asyncio.Event = field(default_factory=asyncio.Event)
    """It has connected to us: whoever waits to try again need not wait."""
    cut_off_at: float | None = None
    """Since when there has been no connection to it, on the event loop's clock; None when there is."""
    confirmed: tuple[Ballot, Instance] = (NO_BALLOT, Instance(0))
    """The highest proposal that it has told us that it accepted, since we were started. (Who has told that has it on disk.)"""
    has_history: bool | None = None
    """What it said of itself when it last greeted us and had met no life of ours that we know nothing of; None: never yet."""
    connecting: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """For people."""
        return plain_name(self.node)

    def go_to(self, address: str) -> None:
        """It is reached at HOST:PORT from now on."""
        host, _, port = address.rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)

    @property
    def problem(self) -> str:
        """Why there is no connection to it; empty when there is."""
        return next(filter(None, self.problems.values()), "")

    def problem_with(self, life: Life) -> str:
        """Why its word cannot count in this life; empty if it can."""
        if self.life is not None and life != self.life and life.starts <= self.life.starts:
            return f"node {self.name} has been met in a later life"
        return ""


@dataclass(slots=True)
class Myself:
    """What we say of ourselves in greetings."""

    cluster: str
    acceptor: NodeId
    life: Life
    peer_address: str
    client_address: str
    remembers: Callable[[str], bool] = lambda life: True
    """Whether we have had the life of that id."""
    has_confirmed: Callable[[Ballot, Instance], bool] = lambda ballot, instance: True
    """Whether our directory knows that we accepted that, or something higher."""
    has_history: Callable[[], bool] = lambda: True
    """Whether we have ever promised or learned anything."""

    @property
    def name(self) -> str:
        """For people."""
        return plain_name(self.acceptor)

    def greeting(
        self,
        lane: str,
        met: Life | None = None,
        to: str = "",
        joining: bool = False,
        problem: str = "",
        heard_of_history: bool = False,
        confirmed: tuple[Ballot, Instance] = (NO_BALLOT, Instance(0)),
    ) -> Greeting:
        return Greeting(
            self.cluster,
            self.acceptor,
            *self.life,
            "" if met is None else met.id,
            to,
            lane,
            self.peer_address,
            self.client_address,
            self.has_history() or heard_of_history,
            joining,
            problem,
            (*confirmed[0], confirmed[1]),
            LEVEL,
        )


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


def repetitions(transport: asyncio.BaseTransport) -> int:
    """How often the kernel has repeated, in vain so far, what was sent on a connection; 0 where it does not say.

    (Of a connection that is being closed it may not be asked: its descriptor may be gone already.)
    """
    sock: socket.socket | None = transport.get_extra_info("socket")
    if (
        sock is None
        or transport.is_closing()
        or sock.family not in (socket.AF_INET, socket.AF_INET6)
        or not hasattr(socket, "TCP_INFO")
    ):
        return 0
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[_RETRANSMITS]


class Link(asyncio.Protocol):
    """Our connection to a peer, of one lane. It is `ready` once the peer has answered our greeting."""

    def __init__(self, peers: Peers, peer: Peer, lane: str) -> None:
        self.peers = peers
        self.peer = peer
        self.lane = lane
        self.reader = FrameReader()
        self.transport: asyncio.Transport | None = None
        self.answer: Greeting | None = None
        self.ready = False
        self.problem = ""
        self.refused = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's are not derived from it.
        tune(transport)
        greeting = self.peers.greeting(self.lane, self.peer.node, to=self.peer.node)
        transport.writelines([PREAMBLE, *frame([greeting.encode()])])

    def data_received(self, data: bytes) -> None:
        try:
            for contents in self.reader.feed(data):
                self._on_greeting(Greeting.decode(contents))
        except BadPeer as problem:
            self.give_up(str(problem))

    def _on_greeting(self, answer: Greeting) -> None:
        if self.answer is not None:
            raise BadPeer("it greets twice")
        self.refused = True
        is_of_ours = answer.cluster == self.peers.myself.cluster and answer.node == self.peer.name
        is_meant = is_of_ours and answer.acceptor == self.peer.node
        # (All others may have begun anew since our directory was emptied. Then none is the one that is meant.)
        if is_of_ours and (problem := self.peers.problem_of_ours(answer) or self._problem_of_a_first(answer)):
            raise BadPeer(problem)
        if answer.problem:
            raise BadPeer(f"it refuses us: {answer.problem}")
        if not is_meant:
            who = f"{'another directory of ' if is_of_ours else ''}node {answer.node}"
            raise BadPeer(f"there is {who} of cluster {answer.cluster} at its address")
        life = Life(answer.starts, answer.life)
        if problem := self.peer.problem_with(life):
            raise BadPeer(problem)
        self.refused = False
        self.answer = answer
        self.peers.heard(self.peer, answer)
        assert self.transport is not None
        self.transport.writelines(frame([b""]))  # The confirmation.
        self.peers.remember(self.peer, life, self._become_ready)

    def _problem_of_a_first(self, answer: Greeting) -> str:
        """Why we have to begin anew, if we wait, on an empty directory, for first directories that others have long replaced."""
        myself = self.peers.myself
        is_first = myself.acceptor == myself.name and not myself.has_history()
        if not is_first or answer.acceptor == self.peer.node or not answer.has_history:
            return ""
        return self.peers.lose(
            answer,
            f"node {answer.node} has another directory than when this cluster began, and ours is empty",
        )

    def _become_ready(self) -> None:
        if self.closed.done():
            return
        assert self.answer is not None
        self.ready = True
        self.peer.links[self.lane] = self
        self.peer.problems[self.lane] = ""
        self.peer.client_address = self.answer.client_address
        if not self.peer.problem:
            self.peer.cut_off_at = None
            log.info("connected to %s", self.peer.name)
        if self.transport is not None and self.transport.get_extra_info("socket") is not None:
            self._look_after()

    def _look_after(self) -> None:
        """Give the connection up if what was sent on it does not arrive."""
        if self.closed.done():
            return
        assert self.transport is not None
        if repetitions(self.transport) >= REPETITIONS_MAX:
            self.give_up("what is sent to it does not arrive")
        else:
            asyncio.get_running_loop().call_later(LOOK_AFTER_S, self._look_after)

    def expect_greeting(self) -> None:
        """It had its time to answer, and we had ours to take that in."""
        if not self.ready:
            self.give_up("it accepts connections and says nothing")

    def give_up(self, problem: str) -> None:
        """End the connection; what it says is no matter any more."""
        self.problem = problem
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.ready = False
        if self.peer.links.get(self.lane) is self:
            del self.peer.links[self.lane]
        self.problem = self.problem or (str(error) if error else "it closed the connection")
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, buffers: list[Buffer]) -> bool:
        """Send a frame, or drop it: False."""
        transport = self.transport
        bytes_max = 0 if self.lane == BULK else WRITE_BUFFER_BYTES_MAX
        if not self.ready or transport is None or transport.get_write_buffer_size() > bytes_max:
            return False
        transport.writelines(buffers)
        return True


class Inbound(asyncio.Protocol):
    """A connection that somebody opened to us."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.reader = FrameReader()
        self.greeting: Greeting | None = None
        """Set once it has been answered."""
        self.is_confirmed = False
        self.peer: Peer | None = None
        """Set once the greeting is confirmed, and on disk whose it is."""
        self.transport: asyncio.Transport | None = None
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's are not derived from it.
        if self.peers.is_stopping:
            transport.abort()  # The kernel had it ready when the port was closed.
            return
        tune(transport)
        self.peers.make_room()
        self.peers.inbound[self] = None
        self.timer = asyncio.get_running_loop().call_later(GREETING_TIMEOUT_S, self.close)

    def data_received(self, data: bytes) -> None:
        try:
            for contents in self.reader.feed(data):
                if self.peer is not None:
                    self._hear(self.peer, contents)
                elif self.greeting is None:
                    self._on_greeting(Greeting.decode(contents))
                else:
                    self._on_confirmation(contents)
        except (BadPeer, Malformed) as problem:
            who = self.peer.name if self.peer else self._address()
            log.warning("closing the connection from %s: %s", who, problem)
            self.close()

    def _hear(self, peer: Peer, contents: bytes) -> None:
        """What a peer has to say, on the lane where it belongs."""
        assert self.greeting is not None
        is_for_parts = self.greeting.lane == BULK
        if is_parcel(contents):
            parcel = decode_parcel(contents)
            if isinstance(parcel, Part) is not is_for_parts:
                raise BadPeer("it sends on one lane what belongs on another")
            if self.peers.is_cleared:
                self.peers.on_parcel(peer.node, parcel)
            return
        message = decode_message(contents)
        if is_for_parts:
            raise BadPeer("it sends on one lane what belongs on another")
        if self.peers.is_cleared:
            if type(message) is Accepted and (message.ballot, message.instance) > peer.confirmed:
                peer.confirmed = (message.ballot, message.instance)
            self.peers.received(peer.node, message)

    def _on_greeting(self, greeting: Greeting) -> None:
        self.greeting = greeting
        peers, peer = self.peers, self.peers.known.get(greeting.acceptor)
        problem = peers.problem_with(greeting)
        if not problem and not greeting.joining:
            assert peer is not None
            problem = peers.problem_of_ours(greeting) or peer.problem_with(
                Life(greeting.starts, greeting.life)
            )
        assert self.transport is not None
        answer = peers.greeting(greeting.lane, greeting.acceptor, problem=problem)
        self.transport.writelines([PREAMBLE, *frame([answer.encode()])])
        if problem:
            raise BadPeer(problem)
        if greeting.joining:
            self.transport.writelines(frame([encode_members(peers.members, peers.initial)]))
            peers.on_arrival(greeting)
            self.close()
        elif peer is not None:
            peers.heard(peer, greeting)

    def _on_confirmation(self, contents: bytes) -> None:
        """It knows the life in which we have met it. What it says next waits until it is on our disk whom we have met now.

        (What came along with the confirmation is lost, as messages may be.)
        """
        assert self.greeting is not None
        if self.is_confirmed:
            return
        if contents:
            raise BadPeer("it does not confirm that it knows in which life we have met it")
        peer = self.peers.known.get(self.greeting.acceptor)
        if peer is None:
            raise BadPeer("it is no member any more")
        self.is_confirmed = True
        self.reader.bytes_max = PART_FRAME_BYTES_MAX if self.greeting.lane == BULK else FRAME_BYTES_MAX
        assert self.transport is not None
        self.transport.pause_reading()
        greeting = self.greeting
        self.peers.remember(peer, Life(greeting.starts, greeting.life), lambda: self._accept(peer, greeting))

    def _accept(self, peer: Peer, greeting: Greeting) -> None:
        if self not in self.peers.inbound:
            return
        if self.peers.known.get(peer.node) is not peer:
            self.close()  # It has ceased to be a member meanwhile.
            return
        if self.timer is not None:
            self.timer.cancel()
        if (earlier := peer.inbound.get(greeting.lane)) is not None:
            earlier.close()
        peer.inbound[greeting.lane] = self
        peer.client_address = greeting.client_address
        peer.is_back.set()
        self.peer = peer
        self.peers.believe(peer, greeting.peer_address)
        assert self.transport is not None
        self.transport.resume_reading()

    def _address(self) -> str:
        name = self.transport.get_extra_info("peername") if self.transport else None
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "somebody"

    def close(self) -> None:
        """End the connection, after what was written to it."""
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.peers.inbound.pop(self, None)
        if self.timer is not None:
            self.timer.cancel()
        if self.peer is not None:
            for lane in [lane for lane, inbound in self.peer.inbound.items() if inbound is self]:
                del self.peer.inbound[lane]


@dataclass(slots=True)
class Peers:
    """All other members, and the port on which they reach us."""

    myself: Myself
    members: dict[NodeId, str]
    """Each acceptor's peer address as HOST:PORT, our own included."""
    received: Callable[[NodeId, Message], None]
    met: dict[NodeId, Life] = field(default_factory=dict)
    """The latest life of each acceptor that we have met."""
    keep: Callable[[dict[NodeId, Life]], None] = lambda met: None
    """Makes `met` durable, in a thread of its own. Raises `NoSpace`."""
    lost: Callable[[Lost], None] = lambda lost: None
    """Called, once, when we are found to have lost what we knew. Nothing passes any more."""
    chance: Callable[[], float] = random.random
    on_parcel: Callable[[NodeId, Parcel], None] = lambda sender, parcel: None
    on_arrival: Callable[[Greeting], None] = lambda greeting: None
    """Somebody who joins has greeted us."""
    initial: dict[NodeId, str] = field(default_factory=dict)
    """With whom the cluster began, for whoever joins."""
    cleared: Callable[[], None] = lambda: None
    """Called, once, when a directory that had no history at the start may take part."""
    is_cleared: bool = field(init=False)
    """Whether anything but greetings passes."""
    known: dict[NodeId, Peer] = field(default_factory=dict)
    inbound: dict[Inbound, None] = field(default_factory=dict)
    """All connections to our port, the oldest first."""
    _server: asyncio.Server | None = None
    _tasks: dict[asyncio.Task[None], None] = field(default_factory=dict)
    """In their order: that of a set of them would be another in each run."""
    _keeping: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_stopping: bool = False
    _is_lost: bool = False
    _framed: tuple[Message | None, list[Buffer], str] = (None, [], "")

    def __post_init__(self) -> None:
        # An acceptor with an id of its own has become one by a chosen change: it stands in nobody's place.
        is_first = self.myself.acceptor == self.myself.name
        self.is_cleared = self.myself.has_history() or not is_first
        self.update(self.members)

    async def start(self, host: str, port: int) -> None:
        """Listen, and connect to everybody. Raises `OSError` if the port cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Inbound(self), host, port, backlog=4 * STRANGERS_MAX)
        for peer in self.known.values():
            self._connect(peer)
        self._maybe_clear()

    def update(self, members: dict[NodeId, str]) -> None:
        """From now on these are the members: connect to new ones, let go of the others, follow those who have moved."""
        self.members = dict(members)
        for node in [node for node in self.known if node not in members]:
            peer = self.known.pop(node)
            self._disconnect(peer)
            for inbound in peer.inbound.values():
                inbound.close()
        # A node's first directory may yet be mistaken for a new one; of the others none ever comes back.
        self.met = {
            node: life for node, life in self.met.items() if node in members or node == plain_name(node)
        }
        for node, address in members.items():
            if node == self.myself.acceptor:
                continue
            peer = self.known.get(node) or Peer(node, "", 0, life=self.met.get(node))
            if peer.told_address != address:
                self.known[node] = peer
                peer.told_address = address
                peer.go_to(address)
                if self._server is not None and not self.is_stopping:
                    self._disconnect(peer)
                    self._connect(peer)
        if self._server is not None:
            self._maybe_clear()

    def believe(self, peer: Peer, address: str) -> None:
        """`peer` says that it is reached at `address`."""
        if split_address(address)[0] == UNKNOWN_HOST:
            return
        before = peer.host, peer.port
        peer.go_to(address)
        if (peer.host, peer.port) != before and not peer.links:
            log.info("%s is reached at %s now", peer.name, address)
            self._disconnect(peer)
            self._connect(peer)

    async def stop(self) -> None:
        """Close everything. What is on its way to the disk gets there first: nothing is written once this is done."""
        self.is_stopping = True
        async with self._keeping:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for inbound in list(self.inbound):
            inbound.close()

    def send(self, to: NodeId, message: Message) -> None:
        """Send, or drop. A message for several peers is encoded once."""
        peer = self.known.get(to)
        if peer is None:
            return
        framed_message, buffers, lane = self._framed
        if framed_message is not message:
            buffers = frame(encode(message))
            # The commands of a session keep their order, so they share a lane whatever their size.
            is_large = type(message) is Forward or sum(map(len, buffers)) > SMALL_BYTES_MAX
            lane = LARGE if is_large or (possible and unlikely("message on the large lane")) else SMALL
            self._framed = (message, buffers, lane)
        link = peer.links.get(lane) if self.is_cleared else None
        if link is None or (possible and unlikely("message lost")) or not link.send(buffers):
            peer.dropped += 1
        elif possible and unlikely("link broken"):
            link.give_up("it was broken on purpose")

    def send_parcel(self, to: NodeId, parcel: Parcel) -> bool:
        """Send, or drop: False. A part goes only when no other part is waiting to leave for the same peer."""
        peer = self.known.get(to)
        link = (
            peer.links.get(BULK if isinstance(parcel, Part) else SMALL) if peer and self.is_cleared else None
        )
        return link is not None and link.send(frame(encode_parcel(parcel)))

    def may_send_part(self, to: NodeId) -> bool:
        """Whether a part would leave for this peer now."""
        link = self.known[to].links.get(BULK) if to in self.known else None
        return link is not None and link.transport is not None and not link.transport.get_write_buffer_size()

    # Who is who

    def greeting(self, lane: str, whom: NodeId, to: NodeId = "", problem: str = "") -> Greeting:
        """What we say to an acceptor."""
        heard_of_history = any(peer.has_history for peer in self.known.values())
        peer = self.known.get(whom)
        return self.myself.greeting(
            lane,
            self.met_of(whom),
            to,
            problem=problem,
            heard_of_history=heard_of_history,
            confirmed=(NO_BALLOT, Instance(0)) if peer is None else peer.confirmed,
        )

    def met_of(self, acceptor: NodeId) -> Life | None:
        """The life in which we have met this directory; of a node's first one also that of any which took its place.

        (Who is emptied begins as if it were the first. A first one that is a member still is itself.)
        """
        if acceptor in self.known:
            return self.met.get(acceptor)
        replaced = (life for other, life in self.met.items() if plain_name(other) == acceptor)
        return self.met.get(acceptor) or next(replaced, None)

    def problem_with(self, greeting: Greeting) -> str:
        """Why whoever greets so is no peer of ours; empty if it is."""
        myself = self.myself
        if greeting.cluster != myself.cluster and (greeting.cluster or not greeting.joining):
            return f"this is cluster {myself.cluster}, not {greeting.cluster}"
        if greeting.joining:
            return ""
        if greeting.to != myself.acceptor:
            to = plain_name(greeting.to)
            if to == myself.name:
                return f"this is another directory of node {to} than the one that was meant"
            return f"this is node {myself.name}, not {to}"
        if greeting.acceptor not in self.known:
            if greeting.node in map(plain_name, self.known):
                return f"this directory of node {greeting.node} is no member of this cluster, another one is"
            return f"node {greeting.node} is no member of this cluster"
        return ""

    def problem_of_ours(self, greeting: Greeting) -> str:
        """Why it is us who cannot take part: our directory knows nothing of a life in which we have been met, or of our word."""
        round_, node, instance = greeting.confirmed
        if greeting.met and not self.myself.remembers(greeting.met):
            what = (
                f"has met this node, {self.myself.name}, in a life of which its data directory knows nothing"
            )
        elif not self.myself.has_confirmed(Ballot(round_, node), Instance(instance)):
            what = f"was told by this node, {self.myself.name}, of what its data directory knows nothing"
        else:
            return ""
        return self.lose(
            greeting,
            f"node {greeting.node} {what}: the directory was emptied or is an older copy, and may lack what was promised",
        )

    def lose(self, greeting: Greeting, problem: str) -> str:
        """Whoever greets us so has shown that our directory is lost; returns the problem."""
        if not self._is_lost:
            self.fall_silent()
            self.lost(Lost(problem, greeting.acceptor, greeting.peer_address, self.myself.cluster))
        return problem

    def heard(self, peer: Peer, greeting: Greeting) -> None:
        """`peer` has greeted us, and met no life of ours that we know nothing of."""
        peer.has_history = greeting.has_history
        self._maybe_clear()

    @property
    def unheard(self) -> tuple[str, ...]:
        """Of whom we do not know whether they ever met us, for people."""
        return tuple(sorted(peer.name for peer in self.known.values() if peer.has_history is None))

    def is_fresh_safe(self) -> bool:
        """Whether a directory of ours without history may speak (`freshness`)."""
        histories = {
            node: peer.has_history for node, peer in self.known.items() if peer.has_history is not None
        }
        return is_fresh_safe(self.known, histories)

    def _maybe_clear(self) -> None:
        if not self.is_cleared and self.is_fresh_safe():
            self.clear()

    def clear(self) -> None:
        """We stand in nobody's place: let everything pass."""
        if not self.is_cleared and not self._is_lost:
            self.is_cleared = True
            self.cleared()

    def fall_silent(self) -> None:
        """Let nothing pass any more."""
        self._is_lost, self.is_cleared = True, False

    def cut_off_ms(self, peer: Peer) -> float:
        """For how long there has been no connection to it."""
        return (
            0.0 if peer.cut_off_at is None else 1000 * (asyncio.get_running_loop().time() - peer.cut_off_at)
        )

    def make_room(self) -> None:
        """Let the oldest strangers go if there are too many, those who have not greeted first."""
        strangers = [inbound for inbound in self.inbound if inbound.peer is None]
        strangers.sort(key=lambda inbound: inbound.greeting is not None)
        for inbound in strangers[: max(0, len(strangers) - STRANGERS_MAX + 1)]:
            log.warning("too many strangers at the peer port: closing the oldest connection")
            if inbound.transport is not None:
                inbound.transport.abort()

    def remember(self, peer: Peer, life: Life, then: Callable[[], None]) -> None:
        """Note that `peer` lives in `life`, on disk if that is news, and go on."""
        if peer.life == life:
            then()
            return
        self._spawn(self._remember(peer, life, then))

    def _connect(self, peer: Peer) -> None:
        peer.cut_off_at = asyncio.get_running_loop().time()
        peer.connecting = [self._spawn(self._keep_connected(peer, lane)) for lane in LANES]

    def _disconnect(self, peer: Peer) -> None:
        for task in peer.connecting:
            task.cancel()
        peer.connecting = []

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Have it done; should it end by a mistake, the loop's handler hears of it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (mistake := task.exception()) is not None:
            context = {
                "message": "a task of the peers ended by a mistake",
                "exception": mistake,
                "handle": None,
            }
            task.get_loop().call_exception_handler(context)

    async def _remember(self, peer: Peer, life: Life, then: Callable[[], None]) -> None:
        async with self._keeping:
            if peer.problem_with(life):
                return  # A later life has come meanwhile: nobody answers this one.
            if self.is_stopping:
                return
            if peer.life != life:
                try:
                    await asyncio.to_thread(self.keep, {**self.met, peer.node: life})
                except NoSpace as problem:
                    log.error(
                        "there is no room to note whom we have met, so %s waits: %s", peer.name, problem
                    )
                    return  # The connection comes to nothing, and is made again.
                self.met = {**self.met, peer.node: life}
                peer.life = life
        then()

    async def _keep_connected(self, peer: Peer, lane: str) -> None:
        """Connect to `peer`, for ever. Only cancelling ends it."""
        loop = asyncio.get_running_loop()
        pause_ms, connect_s = PAUSE_MS_MIN, CONNECT_TIMEOUT_S
        while True:
            link = Link(self, peer, lane)
            try:
                async with asyncio.timeout(connect_s):
                    await loop.create_connection(lambda link=link: link, peer.host, peer.port)  # type: ignore[misc]
            except (OSError, TimeoutError, UnicodeError) as problem:  # The last: of a host name that is none.
                link.problem = str(problem) or "it does not answer"
                connect_s = min(CONNECT_TIMEOUT_S_MAX, 2 * connect_s)
            else:
                connect_s = CONNECT_TIMEOUT_S
                timer = loop.call_later(GREETING_TIMEOUT_S, link.expect_greeting)
                try:
                    await link.closed
                finally:
                    timer.cancel()
                    link.ready = False
                    if link.transport is not None:
                        link.transport.close()
                if link.answer is not None:
                    pause_ms = PAUSE_MS_MIN
            if link.problem != peer.problem:
                log.warning("no connection to %s: %s", peer.name, link.problem)
            peer.problems[lane] = link.problem
            if peer.cut_off_at is None:
                peer.cut_off_at = loop.time()
            pause = REFUSED_PAUSE_MS if link.refused else pause_ms * (1 + self.chance())
            if unlikely("connect at once"):
                pause = 0.0
            if unlikely("connect late"):
                pause += REFUSED_PAUSE_MS / 2
            await self._pause(peer, pause / 1000)
            pause_ms = min(PAUSE_MS_MAX, 2 * pause_ms)

    async def _pause(self, peer: Peer, seconds: float) -> None:
        """Wait before the next attempt, unless `peer` is seen to be there."""
        peer.is_back.clear()
        with suppress(TimeoutError):  # It has waited for as long as it was to.
            async with asyncio.timeout(seconds):
                await peer.is_back.wait()
