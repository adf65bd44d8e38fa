"""Nodes and strangers on real loopback connections: who is let in, what arrives, and what is dropped."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
import uvloop

from processes import PATIENCE_S, free_ports
from sofadb.node import peers as module
from sofadb.node.frames import FRAME_BYTES_MAX, LANES, PREAMBLE, FrameReader, Greeting, decode_members, frame
from sofadb.node.parcels import (
    PART_BYTES_MAX,
    Digests,
    Fetch,
    Gone,
    Offering,
    Parcel,
    Part,
    Title,
    encode_parcel,
)
from sofadb.node.peers import Inbound, Lost, Myself, Peers
from sofadb.paxos import Entry, Instance, Message, NodeId
from sofadb.paxos.codec import decode_message, encode
from sofadb.paxos.messages import Ask, Forward
from sofadb.storage.identity import Life

LARGE = Forward((Entry("n1", 1, 1, bytes(1 << 20)),))
"""Too large for the lane of small messages."""


TITLE = Title(7, 1)


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop like a node's, where whatever nobody handles is the end."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        unhandled: list[dict[str, object]] = []

        async def bounded() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
            async with asyncio.timeout(PATIENCE_S):
                await test(*args, **kwargs)

        uvloop.run(bounded())
        assert unhandled == []

    return run


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until `condition` holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


class Station:
    """One node's `Peers`, and what has arrived there."""

    def __init__(
        self,
        ports: dict[NodeId, int],
        node: NodeId,
        starts: int = 1,
        met: dict[NodeId, Life] | None = None,
        has_history: bool = True,
        members: tuple[NodeId, ...] = (),
    ) -> None:
        self.port = ports[node]
        self.has_history = has_history
        self.clearings = 0
        self.mail: asyncio.Queue[tuple[NodeId, Message]] = asyncio.Queue()
        self.kept: list[dict[NodeId, Life]] = []
        self.lost: list[Lost] = []
        self.parcels: asyncio.Queue[tuple[NodeId, Parcel]] = asyncio.Queue()
        lives = {life(node, number).id for number in range(1, starts + 1)}
        self.peers = Peers(
            Myself(
                "c",
                node,
                life(node, starts),
                f"127.0.0.1:{self.port}",
                f"{node}:6379",
                lives.__contains__,
                has_history=lambda: self.has_history,
            ),
            {name: f"127.0.0.1:{port}" for name, port in ports.items() if name in (members or ports)},
            lambda sender, message: self.mail.put_nowait((sender, message)),
            met or {},
            self.kept.append,
            self.lost.append,
            on_parcel=lambda sender, parcel: self.parcels.put_nowait((sender, parcel)),
            cleared=self.note_clearing,
        )

    def note_clearing(self) -> None:
        self.clearings += 1

    async def __aenter__(self) -> Station:
        await self.peers.start("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.peers.stop()
        await until(lambda: not self.peers.inbound)

    async def connected(self, *nodes: NodeId) -> None:
        """Wait until messages can be sent to these nodes."""
        peers = [self.peers.known[node] for node in nodes]
        await until(lambda: all(len(peer.links) == len(LANES) for peer in peers))


def ports_of(*nodes: NodeId) -> dict[NodeId, int]:
    return dict(zip(nodes, free_ports(len(nodes)), strict=True))


class Connection:
    """A connection to a peer port that says what the test wants it to say."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.frames = FrameReader()
        self.frames.bytes_max = FRAME_BYTES_MAX

    def send(self, *contents: bytes) -> None:
        """Frames, in one piece."""
        self.writer.write(b"".join(b"".join(frame([each])) for each in contents))

    async def receive(self) -> list[bytes]:
        """The contents of the next frames; none if the other end has closed the connection."""
        received: list[bytes] = []
        with contextlib.suppress(ConnectionError):
            while not received and (data := await self.reader.read(1 << 16)):
                received += self.frames.feed(data)
        return received

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def connection(port: int) -> AsyncIterator[Connection]:
    """Connect, and say nothing yet."""
    opened = Connection(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield opened
    finally:
        await opened.close()


@contextlib.asynccontextmanager
async def impostor(port: int, answer: bytes) -> AsyncIterator[asyncio.Queue[Connection]]:
    """Listen in a node's place and answer everybody with these bytes; who connects is in the queue."""
    arrived: asyncio.Queue[Connection] = asyncio.Queue()
    everybody: list[Connection] = []

    def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        everybody.append(Connection(reader, writer))
        arrived.put_nowait(everybody[-1])

    server = await asyncio.start_server(on_connection, "127.0.0.1", port)
    try:
        yield arrived
    finally:
        server.close()
        for each in everybody:
            await each.close()


def life(node: NodeId, starts: int) -> Life:
    return Life(starts, f"{node.replace('~', '-')}-{starts}")


def greeting_from(
    node: NodeId, starts: int = 1, to: str = "n1", lane: str = "small", met: str = ""
) -> Greeting:
    return Greeting("c", node, *life(node, starts), met, to, lane, "127.0.0.1:1", f"{node}:6379", True)


def hello(greeting: Greeting) -> bytes:
    """How a connection begins."""
    return PREAMBLE + b"".join(frame([greeting.encode()]))


def encoded(message: Message) -> bytes:
    return b"".join(encode(message))


async def greet(stranger: Connection, greeting: Greeting) -> Greeting:
    """Say who one is, and confirm; return the answer."""
    stranger.writer.write(hello(greeting))
    (answer,) = await stranger.receive()
    stranger.send(b"")
    return Greeting.decode(answer)


async def accepted(station: Station, node: NodeId, lane: str = "small") -> None:
    """Wait until what this node says is heard."""
    await until(lambda: lane in station.peers.known[node].inbound)


# Among members


@in_a_loop
async def test_messages_arrive_with_their_senders_id_the_small_ones_in_order() -> None:
    ports = ports_of("n1", "n2", "n3")
    async with Station(ports, "n1") as n1, Station(ports, "n2") as n2, Station(ports, "n3") as n3:
        await n1.connected("n2", "n3")
        await n2.connected("n1")
        sent: list[Message] = [Ask(Instance(1)), LARGE, Ask(Instance(2))]
        for message in sent:
            for node in ("n2", "n3"):
                n1.peers.send(node, message)
        n2.peers.send("n1", Ask(Instance(3)))
        for station in (n2, n3):
            arrived = [await station.mail.get() for _ in sent]
            assert ("n1", LARGE) in arrived
            assert [each for each in arrived if each != ("n1", LARGE)] == [("n1", sent[0]), ("n1", sent[2])]
        assert await n1.mail.get() == ("n2", Ask(Instance(3)))


@in_a_loop
async def test_greetings_tell_both_sides_where_the_others_clients_connect() -> None:
    ports = ports_of("n1", "n2")
    async with Station(ports, "n1") as n1, Station(ports, "n2", starts=4) as n2:
        await n1.connected("n2")
        await n2.connected("n1")
        n2_there = n1.peers.known["n2"]
        assert (n2_there.client_address, n2_there.life) == ("n2:6379", life("n2", 4))
        assert n2.peers.known["n1"].client_address == "n1:6379"


@in_a_loop
async def test_messages_to_a_node_that_is_away_are_dropped_and_counted_and_it_is_found_again() -> None:
    ports = ports_of("n1", "n2")
    async with Station(ports, "n1") as n1:
        async with Station(ports, "n2") as n2:
            await n1.connected("n2")
        await until(lambda: n1.peers.known["n2"].problem)  # It is noticed.
        n1.peers.send("n2", Ask(Instance(1)))
        n1.peers.send("n2", Ask(Instance(2)))
        assert n1.peers.known["n2"].dropped == 2
        async with Station(ports, "n2", starts=2) as n2:
            await n1.connected("n2")
            n1.peers.send("n2", Ask(Instance(3)))
            assert await n2.mail.get() == ("n1", Ask(Instance(3)))
            assert n1.peers.known["n2"].life == life("n2", 2)


@in_a_loop
async def test_a_connection_on_which_nothing_arrives_is_given_up_and_opened_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a link was cut: the kernel would wait longer and longer until it repeats what was lost."""
    ports = ports_of("n1", "n2")
    async with Station(ports, "n1") as n1, Station(ports, "n2"):
        await n1.connected("n2")
        links = list(n1.peers.known["n2"].links.values())
        assert [module.repetitions(link.transport) for link in links if link.transport] == [0] * len(LANES)
        monkeypatch.setattr(
            module, "repetitions", lambda transport: 2 * any(link.transport is transport for link in links)
        )
        await until(lambda: all(link.closed.done() for link in links))
        await n1.connected("n2")
        assert not set(links) & set(n1.peers.known["n2"].links.values())


@in_a_loop
async def test_a_connection_that_is_being_closed_is_not_asked_what_the_kernel_repeats() -> None:
    """Its descriptor may be gone before the protocol hears that it is lost, and the time to look may come in between."""
    ports = ports_of("n1", "n2")
    async with Station(ports, "n1") as n1, Station(ports, "n2"):
        await n1.connected("n2")
        link = n1.peers.known["n2"].links["small"]
        assert link.transport is not None
        link.transport.close()
        while not link.closed.done():
            link._look_after()
            await asyncio.sleep(0)
        assert module.repetitions(link.transport) == 0


@in_a_loop
async def test_who_hears_that_a_peer_is_back_does_not_wait_to_reach_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PAUSE_MS_MIN", 600_000.0)
    monkeypatch.setattr(module, "PAUSE_MS_MAX", 600_000.0)
    ports = ports_of("n1", "n2")
    async with Station(ports, "n1") as n1:
        first = "not reached yet"
        await until(
            lambda: first not in n1.peers.known["n2"].problems.values()
        )  # Tried in vain; now it waits.
        async with Station(ports, "n2"):
            await n1.connected("n2")


@in_a_loop
async def test_message_to_somebody_who_is_no_member_goes_nowhere() -> None:
    async with Station(ports_of("n1", "n2"), "n1") as n1:
        n1.peers.send("n9", Ask(Instance(1)))


@in_a_loop
async def test_what_a_peer_does_not_read_is_dropped_beyond_the_bound_and_the_link_works_again_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WRITE_BUFFER_BYTES_MAX", 1 << 20)
    ports = ports_of("n1", "n2")
    async with impostor(ports["n2"], hello(greeting_from("n2"))) as arrived, Station(ports, "n1") as n1:
        peer = n1.peers.known["n2"]
        await until(lambda: len(peer.links) == len(LANES))
        transport = peer.links["large"].transport
        assert transport is not None
        for _ in range(100):
            n1.peers.send("n2", LARGE)
            assert transport.get_write_buffer_size() <= (1 << 20) + len(encoded(LARGE)) + 8
            await asyncio.sleep(0)
        assert 0 < peer.dropped < 100
        n1.peers.send("n2", Ask(Instance(1)))
        received: list[Message] = []
        while not arrived.empty():
            lazy = await arrived.get()
            contents = await lazy.receive()
            lane = Greeting.decode(contents[0]).lane
            if lane == "small":
                # What waits behind large messages does not keep small ones waiting.
                while len(contents) < 3:  # Greeting, confirmation, message.
                    contents += await lazy.receive()
                received = [decode_message(each) for each in contents[2:]]
            elif lane == "large":
                slow, large = lazy, len(contents) - 2
        assert received == [Ask(Instance(1))]
        while large < 100 - peer.dropped:  # What was not dropped, whole.
            large += len(await slow.receive())
        n1.peers.send("n2", LARGE)
        assert [decode_message(each) for each in await slow.receive()] == [LARGE]


# Who is let in


@pytest.mark.parametrize(
    ("greeting", "problem"),
    [
        (replace(greeting_from("n2"), cluster="other"), "this is cluster c, not other"),
        (greeting_from("n2", to="n3"), "this is node n1, not n3"),
        (greeting_from("n9"), "node n9 is no member of this cluster"),
        (greeting_from("n1"), "node n1 is no member of this cluster"),
    ],
    ids=["another cluster", "another node was meant", "no member", "ourselves"],
)
@in_a_loop
async def test_stranger_is_told_why_and_nothing_it_says_is_heard(greeting: Greeting, problem: str) -> None:
    async with Station(ports_of("n1", "n2", "n3"), "n1") as n1, connection(n1.port) as stranger:
        stranger.writer.write(hello(greeting))
        (answer,) = await stranger.receive()
        assert Greeting.decode(answer).problem == problem
        assert await stranger.receive() == []
        assert n1.mail.empty()


AGAIN = "node n2 has been met in a later life"


@in_a_loop
async def test_an_earlier_life_of_a_node_is_refused_once_a_later_one_was_heard() -> None:
    async with Station(ports_of("n1", "n2"), "n1") as n1:
        for starts, problem in ((2, ""), (1, AGAIN), (2, ""), (3, "")):
            async with connection(n1.port) as n2:
                answer = await greet(n2, greeting_from("n2", starts))
                assert answer.problem == problem
                if not problem:
                    await accepted(n1, "n2")
                n2.send(encoded(Ask(Instance(starts))))
                if not problem:
                    assert await n1.mail.get() == ("n2", Ask(Instance(starts)))
        assert n1.mail.empty()


@in_a_loop
async def test_a_node_that_was_met_in_a_life_it_knows_nothing_of_is_told_by_whoever_meets_it_and_heard_by_nobody() -> (
    None
):
    """Its directory was emptied, or is an older copy, however often it was started since."""
    ports = ports_of("n1", "n2")
    for starts in (1, 2, 3, 9):
        met = {"n2": Life(2, "lost")}
        async with Station(ports, "n1", met=met) as n1, Station(ports, "n2", starts) as n2:
            await until(
                lambda n1=n1, n2=n2: n2.lost and n1.peers.known["n2"].problem and n2.peers.known["n1"].problem
            )
            assert n2.lost[0].problem.startswith(
                "node n1 has met this node, n2, in a life of which its data directory"
            )
            assert not n1.peers.known["n2"].links
            assert not n2.peers.known["n1"].links
            assert not n1.peers.known["n2"].inbound
            assert n1.kept == []
            assert n1.lost == []


@in_a_loop
async def test_whom_a_node_meets_is_on_disk_before_it_is_heard_and_written_once() -> None:
    async with Station(ports_of("n1", "n2"), "n1") as n1:
        for starts in (1, 1, 2):
            async with connection(n1.port) as n2:
                await greet(n2, greeting_from("n2", starts))
                await accepted(n1, "n2")
                assert n1.kept[-1] == {"n2": life("n2", starts)}
            await until(lambda: not n1.peers.known["n2"].inbound)
        assert len(n1.kept) == 2


@in_a_loop
async def test_who_does_not_confirm_that_it_knows_its_life_is_neither_remembered_nor_heard() -> None:
    async with Station(ports_of("n1", "n2"), "n1") as n1, connection(n1.port) as n2:
        n2.writer.write(hello(greeting_from("n2")) + b"".join(frame([encoded(Ask(Instance(1)))])))
        assert len(await n2.receive()) == 1
        assert await n2.receive() == []
        assert n1.mail.empty()
        assert n1.kept == []


@in_a_loop
async def test_who_stops_waits_until_what_is_being_remembered_is_on_disk_and_writes_nothing_after_it() -> (
    None
):
    """The directory is given back right behind that: a thread that still wrote to it would write into another life."""
    begun, may_end = threading.Event(), threading.Event()
    ports = ports_of("n1", "n2", "n3")
    n1 = Station(ports, "n1")

    def keep(met: dict[NodeId, Life]) -> None:
        begun.set()
        assert may_end.wait(PATIENCE_S)
        n1.kept.append(met)

    n1.peers.keep = keep
    await n1.peers.start("127.0.0.1", n1.port)
    async with connection(n1.port) as n2, connection(n1.port) as n3:
        await greet(n2, greeting_from("n2"))
        await until(begun.is_set)
        await greet(n3, greeting_from("n3"))
        stopped = asyncio.create_task(n1.peers.stop())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not stopped.done()
        may_end.set()
        await stopped
        assert n1.kept == [{"n2": life("n2", 1)}]


@in_a_loop
async def test_who_has_stopped_takes_no_connection_that_the_kernel_had_ready() -> None:
    n1 = Station(ports_of("n1", "n2"), "n1")
    await n1.peers.start("127.0.0.1", n1.port)
    await n1.peers.stop()
    server = await asyncio.get_running_loop().create_server(lambda: Inbound(n1.peers), "127.0.0.1", n1.port)
    async with connection(n1.port) as late:
        late.writer.write(hello(greeting_from("n2")))
        assert await late.receive() == []
    assert not n1.peers.inbound
    server.close()


@in_a_loop
async def test_second_connection_of_a_node_replaces_its_first() -> None:
    async with (
        Station(ports_of("n1", "n2"), "n1") as n1,
        connection(n1.port) as first,
        connection(n1.port) as second,
    ):
        await greet(first, greeting_from("n2"))
        await accepted(n1, "n2")
        await greet(second, greeting_from("n2"))
        assert await first.receive() == []
        await accepted(n1, "n2")
        second.send(encoded(Ask(Instance(1))))
        assert await n1.mail.get() == ("n2", Ask(Instance(1)))


@pytest.mark.parametrize(
    "bad",
    [
        b"".join(frame([b"no message"])),
        b"".join(frame([encoded(Ask(Instance(1)))]))[:-1] + b"?",
        (FRAME_BYTES_MAX + 1).to_bytes(4, "big") + bytes(4),
        hello(greeting_from("n2")),
    ],
    ids=["not a message", "damaged", "too large", "a second greeting"],
)
@in_a_loop
async def test_what_cannot_be_understood_ends_the_connection_and_nothing_after_it_is_heard(
    bad: bytes,
) -> None:
    async with Station(ports_of("n1", "n2"), "n1") as n1, connection(n1.port) as n2:
        await greet(n2, greeting_from("n2"))
        await accepted(n1, "n2")
        good = b"".join(frame([encoded(Ask(Instance(1)))]))
        n2.writer.write(good + bad + good)
        assert await n2.receive() == []
        assert n1.mail.get_nowait() == ("n2", Ask(Instance(1)))
        assert n1.mail.empty()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (hello(greeting_from("n3")), "there is node n3 of cluster c at its address"),
        (
            hello(replace(greeting_from("n2"), cluster="other")),
            "there is node n2 of cluster other at its address",
        ),
        (hello(replace(greeting_from("n2"), problem="no room")), "it refuses us: no room"),
        (hello(greeting_from("n2")) + hello(greeting_from("n2"))[8:], "it greets twice"),
        (b"-ERR unknown command\r\n", "it does not speak SofaDB's protocol"),
        (PREAMBLE + b"".join(frame([b"hello"])), "its greeting cannot be read"),
    ],
    ids=["another node", "another cluster", "refused", "greets twice", "another protocol", "no greeting"],
)
@in_a_loop
async def test_whoever_answers_wrongly_at_a_peers_address_is_left_and_the_reason_kept(
    answer: bytes, problem: str
) -> None:
    ports = ports_of("n1", "n2")
    async with impostor(ports["n2"], answer) as arrived, Station(ports, "n1") as n1:
        caller = await arrived.get()
        greeting, *_ = await caller.receive()
        asked = replace(Greeting.decode(greeting), lane="small", peer_address="127.0.0.1:1")
        assert asked == greeting_from("n1", to="n2")
        while await caller.receive():
            pass
        await until(lambda: n1.peers.known["n2"].problem.startswith(problem))


# Strangers who cost something


@in_a_loop
async def test_silent_stranger_is_closed_after_a_while_and_a_silent_member_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GREETING_TIMEOUT_S", 0.05)
    async with Station(ports_of("n1", "n2"), "n1") as n1, connection(n1.port) as n2:
        await greet(n2, greeting_from("n2"))
        await accepted(n1, "n2")
        for said in (b"", PREAMBLE, hello(greeting_from("n2"))[:-1]):
            async with connection(n1.port) as stranger:
                stranger.writer.write(said)
                assert await stranger.receive() == []
        n2.send(encoded(Ask(Instance(1))))
        assert await n1.mail.get() == ("n2", Ask(Instance(1)))


@in_a_loop
async def test_peer_that_accepts_and_says_nothing_is_given_up_after_a_while_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GREETING_TIMEOUT_S", 0.05)
    ports = ports_of("n1", "n2")
    async with impostor(ports["n2"], b"") as arrived, Station(ports, "n1"):
        for _ in range(2):
            silent = await arrived.get()
            assert len(await silent.receive()) == 1
            assert await silent.receive() == []


@in_a_loop
async def test_a_crowd_of_strangers_keeps_no_member_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRANGERS_MAX", 4)
    ports = ports_of("n1", "n2")
    async with Station(ports, "n1") as n1, contextlib.AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(connection(n1.port)) for _ in range(4)]
        await until(lambda: len(n1.peers.inbound) == 4)
        n2 = await stack.enter_async_context(Station(ports, "n2"))
        await n2.connected("n1")
        await accepted(n1, "n2")
        assert await crowd[0].receive() == [], "the oldest made room"
        for _ in range(8):
            await stack.enter_async_context(connection(n1.port))
        n2.peers.send("n1", Ask(Instance(1)))
        assert await n1.mail.get() == ("n2", Ask(Instance(1)))
        strangers = [inbound for inbound in n1.peers.inbound if inbound.peer is None]
        assert len(strangers) <= 4


# Parcels


@in_a_loop
async def test_parcels_arrive_each_on_its_lane_and_messages_do_not_wait_behind_a_part() -> None:
    ports = ports_of("n1", "n2")
    async with Station(ports, "n1") as n1, Station(ports, "n2") as n2:
        await n1.connected("n2")
        sent = [Offering(TITLE, 9), Fetch(TITLE, 0, 9), Gone(TITLE), Digests(((7, 1), (9, 2)))]
        for parcel in sent:
            assert n1.peers.send_parcel("n2", parcel)
        assert [await n2.parcels.get() for _ in sent] == [("n1", parcel) for parcel in sent]
        part = Part(TITLE, 0, bytes(PART_BYTES_MAX))
        assert n1.peers.send_parcel("n2", part)
        assert await n2.parcels.get() == ("n1", part)
        assert not n1.peers.send_parcel("n9", Gone(TITLE))
        assert n2.mail.empty()


@in_a_loop
async def test_no_second_part_goes_to_a_peer_before_the_first_has_left_and_messages_pass_it() -> None:
    ports = ports_of("n1", "n2")
    async with impostor(ports["n2"], hello(greeting_from("n2"))) as arrived, Station(ports, "n1") as n1:
        peer = n1.peers.known["n2"]
        await until(lambda: len(peer.links) == len(LANES))
        assert n1.peers.may_send_part("n2")
        assert not n1.peers.may_send_part("n9")
        part = Part(TITLE, 0, bytes(PART_BYTES_MAX))
        sent = 0
        while n1.peers.may_send_part("n2"):  # Until the kernel takes no more of them.
            sent += n1.peers.send_parcel("n2", part)
            for _ in range(3):
                await asyncio.sleep(0)
        assert not n1.peers.send_parcel("n2", part)
        n1.peers.send("n2", Ask(Instance(1)))
        lanes = {}
        for _ in LANES:
            lazy = await arrived.get()
            contents = await lazy.receive()
            lanes[Greeting.decode(contents[0]).lane] = lazy, contents
        small, contents = lanes["small"]
        while len(contents) < 3:  # Greeting, confirmation, message.
            contents += await small.receive()
        assert decode_message(contents[2]) == Ask(Instance(1))
        bulk, contents = lanes["bulk"]
        while len(contents) < 2 + sent:
            contents += await bulk.receive()
        await until(lambda: n1.peers.may_send_part("n2"))


@pytest.mark.parametrize(
    ("lane", "contents"),
    [
        ("bulk", encoded(Ask(Instance(1)))),
        ("bulk", b"".join(encode_parcel(Gone(TITLE)))),
        ("small", b"".join(encode_parcel(Part(TITLE, 0, b"x")))),
        ("large", b"\x01\x40"),
        ("bulk", b"".join(encode_parcel(Part(TITLE, 0, bytes(PART_BYTES_MAX + 100))))),
    ],
    ids=["a message", "a small parcel", "a part", "malformed", "too large"],
)
@in_a_loop
async def test_what_comes_on_the_wrong_lane_or_is_malformed_ends_the_connection_and_is_not_heard(
    lane: str, contents: bytes
) -> None:
    async with Station(ports_of("n1", "n2"), "n1") as n1, connection(n1.port) as n2:
        await greet(n2, greeting_from("n2", lane=lane))
        await accepted(n1, "n2", lane)
        n2.send(contents)
        assert await n2.receive() == []
        assert n1.mail.empty()
        assert n1.parcels.empty()


# Members who change


@in_a_loop
async def test_members_are_added_and_removed_while_the_node_runs() -> None:
    ports = ports_of("n1", "n2", "n3")
    async with Station(ports, "n1", members=("n1", "n2")) as n1, Station(ports, "n3") as n3:
        addresses = dict(n3.peers.members)
        await until(lambda: n3.peers.known["n1"].problem.endswith("node n3 is no member of this cluster"))
        n1.peers.update(addresses)
        await n1.connected("n3")
        n1.peers.send("n3", Ask(Instance(1)))
        assert await n3.mail.get() == ("n1", Ask(Instance(1)))
        tasks = len(n1.peers._tasks)
        async with connection(n1.port) as impatient, connection(n1.port) as n3_again:
            await greet(n3_again, greeting_from("n3"))
            await accepted(n1, "n3")
            impatient.writer.write(hello(greeting_from("n3")))  # Greets, and has not confirmed yet.
            await impatient.receive()
            del addresses["n3"]
            n1.peers.update(addresses)
            assert list(n1.peers.known) == ["n2"]
            n1.peers.send("n3", Ask(Instance(2)))
            assert await n3_again.receive() == []
            impatient.send(b"")
            assert await impatient.receive() == []
        await until(lambda: len(n1.peers._tasks) == tasks - len(LANES))
        await until(lambda: not n3.peers.known["n1"].links)
        assert n3.mail.empty()


@in_a_loop
async def test_who_ceases_to_be_a_member_while_it_is_written_down_that_it_is_there_is_not_heard() -> None:
    begun, may_end = threading.Event(), threading.Event()
    async with Station(ports_of("n1", "n2"), "n1") as n1, connection(n1.port) as n2:

        def keep(met: dict[NodeId, Life]) -> None:
            begun.set()
            assert may_end.wait(PATIENCE_S)

        n1.peers.keep = keep
        await greet(n2, greeting_from("n2"))
        await until(begun.is_set)
        n1.peers.update({"n1": n1.peers.members["n1"]})
        may_end.set()
        assert await n2.receive() == []


@in_a_loop
async def test_a_member_that_has_moved_is_followed_when_that_is_told() -> None:
    ports = ports_of("n1", "n2")
    elsewhere = {**ports, "n2": free_ports(1)[0]}
    async with Station(ports, "n1") as n1, Station(ports, "n2"):
        await n1.connected("n2")
        async with Station(elsewhere, "n2", starts=2) as n2:
            n1.peers.update(n2.peers.members | {"n1": n1.peers.members["n1"]})
            await until(lambda: n1.peers.known["n2"].life == life("n2", 2))
            await n1.connected("n2")
            n1.peers.send("n2", Ask(Instance(1)))
            assert await n2.mail.get() == ("n1", Ask(Instance(1)))


@in_a_loop
async def test_a_member_that_comes_from_another_address_is_believed_until_another_is_told() -> None:
    ports = ports_of("n1", "n2")
    moved = {**ports, "n2": free_ports(1)[0]}
    async with Station(ports, "n1") as n1:
        peer, told = n1.peers.known["n2"], dict(n1.peers.members)
        async with Station(moved, "n2"):
            await n1.connected("n2")
            n1.peers.update(told)  # Nothing new: what it says itself still holds.
            assert peer.port == moved["n2"]
            n1.peers.update({**told, "n2": "127.0.0.1:1"})
            assert peer.port == 1


# Directories of one node


@in_a_loop
async def test_what_is_for_one_directory_of_a_node_is_not_given_to_another_at_its_address() -> None:
    other = "n2~0123abcd"
    ports = ports_of("n1", "n2")
    both = {**ports, other: ports["n2"]}
    async with Station(both, "n1") as n1, Station(both, other, members=("n1", other)) as n2:
        await n1.connected(other)
        await n2.connected("n1")
        await until(lambda: n1.peers.known["n2"].problem.endswith("than the one that was meant"))
        n1.peers.send("n2", Ask(Instance(1)))
        n1.peers.send(other, Ask(Instance(2)))
        n2.peers.send("n1", Ask(Instance(3)))
        assert await n2.mail.get() == ("n1", Ask(Instance(2)))
        assert await n1.mail.get() == (other, Ask(Instance(3)))
        assert n2.mail.empty()
        assert n1.peers.known["n2"].dropped == 1


@in_a_loop
async def test_another_directory_of_a_member_is_refused_until_it_is_a_member_itself() -> None:
    async with Station(ports_of("n1", "n2"), "n1") as n1, connection(n1.port) as stranger:
        answer = await greet(stranger, greeting_from("n2~0123abcd"))
        assert answer.problem == "this directory of node n2 is no member of this cluster, another one is"


@in_a_loop
async def test_a_directory_that_is_emptied_once_more_hears_of_the_one_that_took_the_first_ones_place() -> (
    None
):
    """It begins as the first one would. That is no member any more, and perhaps nobody here has ever met it."""
    other = "n2~0123abcd"
    ports = ports_of("n1", "n2")
    met = {other: life(other, 3)}
    async with (
        Station({**ports, other: ports["n2"]}, "n1", met=met, members=("n1", other)),
        Station(ports, "n2", has_history=False) as n2,
    ):
        await until(lambda: n2.lost)
        assert (n2.lost[0].told_by, n2.lost[0].cluster) == ("n1", "c")
        assert n2.lost[0].peer_address == f"127.0.0.1:{ports['n1']}"
        assert n2.clearings == 0


@in_a_loop
async def test_first_directories_are_remembered_for_ever_and_others_while_they_are_members() -> None:
    other, gone = "n3~0123abcd", "n3~00000000"
    met = {node: life(node, 1) for node in ("n2", "n3", other, gone)}
    n1 = Station(ports_of("n1", other), "n1", met=met)
    assert sorted(n1.peers.met) == ["n2", "n3", other]


# Directories without a history


@in_a_loop
async def test_a_new_cluster_begins_when_a_quorum_is_there() -> None:
    ports = ports_of("n1", "n2", "n3")
    async with Station(ports, "n1", has_history=False) as n1:
        await until(lambda: "not reached yet" not in n1.peers.known["n2"].problems.values())
        assert not n1.peers.is_fresh_safe()
        assert not n1.peers.is_cleared
        async with Station(ports, "n2", has_history=False) as n2:
            await until(lambda: n1.clearings and n2.clearings)
            await n1.connected("n2")
            await n2.connected("n1")
            n1.peers.send("n2", Ask(Instance(1)))
            assert await n2.mail.get() == ("n1", Ask(Instance(1)))
            assert (n1.clearings, n2.clearings) == (1, 1)


@in_a_loop
async def test_alone_in_its_cluster_a_new_directory_speaks_at_once() -> None:
    async with Station(ports_of("n1"), "n1", has_history=False) as n1:
        assert n1.clearings == 1


@in_a_loop
async def test_a_new_directory_among_others_with_a_history_says_and_hears_nothing_until_all_have_answered() -> (
    None
):
    ports = ports_of("n1", "n2", "n3")
    async with Station(ports, "n1") as n1, Station(ports, "n3", has_history=False) as n3:
        await n1.connected("n3")
        await n3.connected("n1")
        await accepted(n3, "n1")
        n1.peers.send("n3", Ask(Instance(1)))
        n1.peers.send_parcel("n3", Gone(TITLE))
        n3.peers.send("n1", Ask(Instance(2)))
        assert not n3.peers.send_parcel("n1", Gone(TITLE))
        assert n3.peers.known["n1"].dropped == 1
        assert not n3.peers.is_cleared
        async with Station(ports, "n2"):
            await until(lambda: n3.clearings)
        n1.peers.send("n3", Ask(Instance(3)))
        n3.peers.send("n1", Ask(Instance(4)))
        assert await n3.mail.get() == ("n1", Ask(Instance(3)))
        assert await n1.mail.get() == ("n3", Ask(Instance(4)))
        assert n3.parcels.empty()


@in_a_loop
async def test_who_has_heard_of_a_history_says_so() -> None:
    """So a replacement does not take it for a member of a new cluster."""
    ports = ports_of("n1", "n2", "n3")
    async with Station(ports, "n1", has_history=False) as n1:
        async with Station(ports, "n2"):
            await n1.connected("n2")
        async with Station(ports, "n3", has_history=False) as n3:
            await n3.connected("n1")
            assert not n3.peers.is_cleared
            n3.peers.clear()  # Whoever knows better from elsewhere may say so.
            assert n3.clearings == 1


@in_a_loop
async def test_who_has_lost_what_it_knew_says_and_hears_nothing_any_more_and_tells_it_once() -> None:
    ports = ports_of("n1", "n2", "n3")
    lost = {"n3": Life(2, "lost")}
    async with (
        Station(ports, "n1", met=lost) as n1,
        Station(ports, "n2", met=lost),
        Station(ports, "n3", has_history=False) as n3,
    ):
        await until(lambda: n3.peers.known["n1"].problem and n3.peers.known["n2"].problem)
        await until(lambda: n3.lost)
        n3.peers.clear()
        assert not n3.peers.is_cleared
        assert n3.clearings == 0
        assert len(n3.lost) == 1
        assert n1.mail.empty()


# Who wants to join


@pytest.mark.parametrize("cluster", ["", "c"])
@in_a_loop
async def test_who_wants_to_join_is_told_the_members_and_nothing_it_says_is_heard(cluster: str) -> None:
    async with Station(ports_of("n1", "n2"), "n1") as n1, connection(n1.port) as joiner:
        joiner.writer.write(
            hello(replace(greeting_from("n4", to=""), cluster=cluster, joining=True))
            + b"".join(frame([b""]))
            + b"".join(frame([encoded(Ask(Instance(1)))]))
        )
        received: list[bytes] = []
        while contents := await joiner.receive():
            received += contents
        answer, members = received
        assert (Greeting.decode(answer).problem, Greeting.decode(answer).cluster) == ("", "c")
        assert decode_members(members) == (n1.peers.members, n1.peers.initial)
        assert n1.mail.empty()
        assert n1.kept == []


@in_a_loop
async def test_who_wants_to_join_another_cluster_is_told_that() -> None:
    async with Station(ports_of("n1", "n2"), "n1") as n1, connection(n1.port) as joiner:
        answer = await greet(joiner, replace(greeting_from("n4"), cluster="d", joining=True))
        assert answer.problem == "this is cluster c, not d"
        assert await joiner.receive() == []
