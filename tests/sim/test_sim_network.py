"""Simulated TCP: what programs see of it, what cuts and crashes do to it, and mischief."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sofadb.sim.loop import ProcessLoop, Simulation
from sofadb.sim.network import Connection, Network, Transport

LATENCY_S = 0.010
ROUND_TRIP_S = 2 * LATENCY_S
PORT = 7000


class World:
    """A server s and a client c; every unit takes ten milliseconds."""

    def __init__(self) -> None:
        self.simulation = Simulation()
        self.network = Network(self.simulation, random.Random(1), latency_s=(LATENCY_S, LATENCY_S))
        self.s = ProcessLoop(self.simulation, "s", self.network)
        self.c = ProcessLoop(self.simulation, "c", self.network)
        self.accepted: list[End] = []
        """Ends of the server, in the order of their acceptance."""

    def listen(
        self, make: Callable[[], asyncio.BaseProtocol] | None = None, **options: Any
    ) -> asyncio.Server:
        def accept() -> End:
            self.accepted.append(End(self.s))
            return self.accepted[-1]

        return self.s.run_until_complete(self.s.create_server(make or accept, "s", PORT, **options))

    def connect(self) -> tuple[End, End]:
        """A new connection: its client's end and its server's."""
        if ("s", PORT) not in self.network._listening:
            self.listen()
        _, client = self.c.run_until_complete(self.c.create_connection(lambda: End(self.c), "s", PORT))
        self.simulation.run(until=self.now + LATENCY_S)
        assert isinstance(client, End)
        return client, self.accepted[-1]

    def cut(self, *ways: str) -> None:
        for way in ways:
            self.network.link(*way.split(">")).cut = True

    def heal(self, *ways: str) -> None:
        for way in ways:
            self.network.link(*way.split(">")).cut = False

    def pass_(self, seconds: float) -> None:
        self.simulation.run(until=self.now + seconds)

    @property
    def now(self) -> float:
        return self.simulation.now


class End(asyncio.Protocol):
    """A protocol that notes when it is told what."""

    transport: Transport

    def __init__(self, loop: ProcessLoop, keeps_open: bool = False) -> None:
        self.loop = loop
        self.keeps_open = keeps_open
        self.data: list[bytes] = []
        self.times: list[float] = []
        self.said: list[str] = []
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.transport = transport  # type: ignore[assignment]
        self.said.append("made")

    def data_received(self, data: bytes) -> None:
        assert asyncio.get_running_loop() is self.loop
        assert type(data) is bytes
        self.data.append(data)
        self.times.append(self.loop.simulation.now)

    def eof_received(self) -> bool:
        self.said.append("eof")
        return self.keeps_open

    def connection_lost(self, error: Exception | None) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.said.append("lost")
        self.error = error

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")

    @property
    def all(self) -> bytes:
        return b"".join(self.data)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.simulation:
        yield world


# Streams


def test_asyncio_s_streams_echo(world: World) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> bytes:
        reader, writer = await asyncio.open_connection("s", PORT)
        writer.write(b"one\ntwo\n")
        writer.writelines([b"thr", b"ee\n"])
        await writer.drain()
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def serve() -> None:
        await asyncio.start_server(echo, "s", PORT)

    world.s.run_until_complete(serve())
    assert world.c.run_until_complete(main()) == b"ONE\nTWO\nTHREE\n"
    world.simulation.run()
    assert world.network.connections() == []


def test_units_arrive_whole_and_in_order_each_after_its_latency(world: World) -> None:
    client, server = world.connect()
    world.network.link("c", "s").latency_s = (0.001, 0.1)
    sent = [b"%d " % number for number in range(100)]
    began = world.now
    for data in sent:
        client.transport.write(data)
    world.simulation.run()
    assert server.data == sent or server.all == b"".join(sent)
    assert server.times == sorted(server.times)
    assert 0.05 < server.times[-1] - began < 0.1
    assert len(set(server.times)) > 2


def test_a_thin_link_delays_what_is_large_and_all_connections_share_it(world: World) -> None:
    (one, _), (two, _) = world.connect(), world.connect()
    world.network.link("c", "s").bytes_per_s = 1000
    began = world.now
    one.transport.write(b"x" * 500)
    two.transport.write(b"y" * 500)
    one.transport.write(b"z")
    world.simulation.run()
    times = [round(when - began - LATENCY_S, 6) for end in world.accepted for when in end.times]
    assert times == [0.5, 1.001, 1.0]


def test_addresses_are_told(world: World) -> None:
    client, server = world.connect()
    own = client.transport.get_extra_info("sockname")
    assert own[0] == "c"
    assert server.transport.get_extra_info("peername") == own
    assert client.transport.get_extra_info("peername") == ("s", PORT)
    assert server.transport.get_extra_info("sockname") == ("s", PORT)
    assert client.transport.get_extra_info("socket") is None
    connection = client.transport.connection
    assert (connection.client, connection.server, connection.port) == ("c", "s", PORT)
    assert world.network.connections() == [connection]


def test_what_is_mutable_is_copied_when_it_is_written(world: World) -> None:
    client, server = world.connect()
    data = bytearray(b"before")
    client.transport.write(data)
    client.transport.write(memoryview(data)[:3])
    data[:] = b"after!"
    world.simulation.run()
    assert server.all == b"beforebef"


def test_a_large_unit_is_read_in_pieces(world: World) -> None:
    client, server = world.connect()
    data = random.Random(1).randbytes(3_000_000)
    client.transport.write(data)
    client.transport.write(b"small")
    world.simulation.run()
    assert max(map(len, server.data)) == 256 << 10
    assert server.all == data + b"small"


def test_what_fits_does_not_overtake_what_does_not(world: World) -> None:
    client, server = world.connect()
    sent = [b"a" * 200_000, b"b" * 100_000, b"c"]
    for data in sent:
        client.transport.write(data)
    world.simulation.run()
    assert server.all == b"".join(sent)


# Connecting


def test_connecting_takes_a_round_trip(world: World) -> None:
    world.listen()
    world.c.run_until_complete(world.c.create_connection(lambda: End(world.c), "s", PORT))
    assert world.now == pytest.approx(ROUND_TRIP_S)


def test_where_nobody_listens_connections_are_refused_after_a_round_trip(world: World) -> None:
    with pytest.raises(ConnectionRefusedError):
        world.c.run_until_complete(world.c.create_connection(lambda: End(world.c), "s", PORT))
    assert world.now == pytest.approx(ROUND_TRIP_S)


def test_an_unknown_host_is_no_host(world: World) -> None:
    with pytest.raises(OSError, match="nobody knows a host nowhere"):
        world.c.run_until_complete(world.c.create_connection(lambda: End(world.c), "nowhere", PORT))


def test_a_port_is_taken_until_its_server_closes_or_its_process_ends(world: World) -> None:
    server = world.listen()
    assert server.sockets[0].getsockname() == ("s", PORT)
    with pytest.raises(OSError, match="in use"):
        world.listen()
    server.close()
    server = world.listen()
    world.s.kill()
    world.s = ProcessLoop(world.simulation, "s", world.network)
    world.listen()
    assert world.connect()[1].said == ["made"]


def test_a_free_port_is_found(world: World) -> None:
    server = world.s.run_until_complete(world.s.create_server(lambda: End(world.s), None, 0))
    host, port = server.sockets[0].getsockname()
    assert host == "s"
    world.c.run_until_complete(world.c.create_connection(lambda: End(world.c), host, port))


@pytest.mark.parametrize("way", ["c>s", "s>c"])
def test_connecting_over_a_cut_link_hangs_until_it_heals(world: World, way: str) -> None:
    world.listen()
    world.cut(way)
    attempt = world.c.create_task(world.c.create_connection(lambda: End(world.c), "s", PORT))
    world.pass_(100)
    assert not attempt.done()
    world.heal(way)
    world.pass_(ROUND_TRIP_S + 0.001)
    assert attempt.done()
    assert attempt.result()[1].said == ["made"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("way", ["c>s", "s>c"])
def test_who_gave_up_connecting_is_not_connected(world: World, way: str) -> None:
    world.listen()
    world.cut(way)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await world.c.create_connection(lambda: End(world.c), "s", PORT)

    for _ in range(100):
        world.c.run_until_complete(main())
    assert len(world.network.link(*way.split(">"))._waiting) < 3
    world.heal(way)
    world.simulation.run()
    assert world.accepted == []
    assert world.network.connections() == []


def test_who_is_cancelled_while_connecting_leaves_nothing(world: World) -> None:
    """At whatever moment."""
    world.listen()
    for after_s in (0.0, 0.005, 0.015, 0.02, 0.020001):
        attempt = world.c.create_task(world.c.create_connection(lambda: End(world.c), "s", PORT))
        world.simulation.call_later(after_s, attempt.cancel)
        world.pass_(1)
        assert attempt.cancelled() or after_s > ROUND_TRIP_S
        if not attempt.cancelled():
            attempt.result()[0].close()
        world.pass_(1)
        assert world.network.connections() == []


@pytest.mark.parametrize("steps", range(4))
def test_who_is_cancelled_when_connected_leaves_nothing_either(world: World, steps: int) -> None:
    world.listen()
    attempt = world.c.create_task(world.c.create_connection(lambda: End(world.c), "s", PORT))
    while not world.network.connections():
        world.simulation.step()
    for _ in range(steps):
        world.simulation.step()
    attempt.cancel()
    world.pass_(1)
    if not attempt.cancelled():
        attempt.result()[0].abort()
    world.pass_(1)
    assert world.network.connections() == []


def test_the_end_of_a_handshake_may_take_its_time(world: World) -> None:
    world.listen()
    world.c.run_until_complete(world.c.create_connection(lambda: End(world.c), "s", PORT))
    world.cut("c>s")
    world.pass_(100)
    assert world.accepted == []
    world.heal("c>s")
    world.pass_(1)
    assert world.accepted[0].said == ["made"]


def test_a_server_that_closes_during_a_handshake_accepts_nobody(world: World) -> None:
    server = world.listen()
    _, client = world.c.run_until_complete(world.c.create_connection(lambda: End(world.c), "s", PORT))
    server.close()
    world.pass_(1)
    assert world.accepted == []
    assert isinstance(client.error, ConnectionResetError)  # type: ignore[attr-defined]


@pytest.mark.parametrize("end", [ProcessLoop.kill, lambda process: process.network.power_cut(process)])
def test_a_server_that_ends_during_a_handshake_knows_of_nothing(
    world: World, end: Callable[[ProcessLoop], None]
) -> None:
    world.listen()
    attempt = world.c.create_task(world.c.create_connection(lambda: End(world.c), "s", PORT))
    world.pass_(LATENCY_S * 1.5)
    end(world.s)
    world.pass_(1)
    world.s = ProcessLoop(world.simulation, "s", world.network)
    world.pass_(1)
    assert isinstance(attempt.result()[1].error, ConnectionResetError)  # type: ignore[attr-defined]
    assert world.network.connections() == []


def test_a_paused_server_s_kernel_accepts_as_many_as_its_backlog_has_room_for(world: World) -> None:
    world.listen(backlog=3)
    world.s.pause()
    attempts = [
        world.c.create_task(world.c.create_connection(lambda: End(world.c), "s", PORT)) for _ in range(2)
    ]
    world.pass_(1)
    attempts += [
        world.c.create_task(world.c.create_connection(lambda: End(world.c), "s", PORT)) for _ in range(1)
    ]
    world.pass_(1)
    attempts += [
        world.c.create_task(world.c.create_connection(lambda: End(world.c), "s", PORT)) for _ in range(2)
    ]
    world.pass_(10)
    assert [attempt.done() for attempt in attempts] == [True, True, True, False, False]
    assert world.accepted == []
    world.s.resume()
    world.pass_(2)
    assert all(attempt.done() for attempt in attempts)
    assert len(world.accepted) == 5


def test_a_server_that_closes_lets_its_connections_live_and_waits_for_them(world: World) -> None:
    server = world.listen()
    client, accepted = world.connect()
    server.close()
    closing = world.s.create_task(server.wait_closed())
    client.transport.write(b"still")
    world.pass_(1)
    assert accepted.all == b"still"
    assert not closing.done()
    client.transport.close()
    world.pass_(1)
    assert closing.done()
    with pytest.raises(ConnectionRefusedError):
        world.c.run_until_complete(world.c.create_connection(lambda: End(world.c), "s", PORT))


def test_a_server_that_closes_resets_who_was_not_accepted_yet(world: World) -> None:
    server = world.listen()
    world.s.pause()
    _, client = world.c.run_until_complete(world.c.create_connection(lambda: End(world.c), "s", PORT))
    world.pass_(1)
    server.close()
    world.pass_(1)
    assert isinstance(client.error, ConnectionResetError)  # type: ignore[attr-defined]
    world.s.resume()
    world.pass_(1)
    assert world.accepted == []


def test_a_factory_that_fails_is_told_of_and_its_client_reset(world: World) -> None:
    words: list[dict[str, Any]] = []
    world.s.set_exception_handler(lambda loop, context: words.append(context))

    def fail() -> asyncio.Protocol:
        raise ValueError("no more")

    world.listen(fail)
    _, client = world.c.run_until_complete(world.c.create_connection(lambda: End(world.c), "s", PORT))
    world.pass_(1)
    assert isinstance(words[0]["exception"], ValueError)
    assert isinstance(client.error, ConnectionResetError)  # type: ignore[attr-defined]


# Ending


def test_closing_flushes_and_both_ends_end_without_an_error(world: World) -> None:
    client, server = world.connect()
    client.transport.write(b"last words")
    client.transport.close()
    assert client.transport.is_closing()
    client.transport.write(b"too late")
    world.simulation.run()
    assert server.all == b"last words"
    assert world.network.statistics.units == 1
    assert server.said == ["made", "eof", "lost"]
    assert client.said == ["made", "lost"]
    assert (client.error, server.error) == (None, None)
    assert world.network.connections() == []


def test_closing_flushes_what_waits_for_the_window_too(world: World) -> None:
    client, server = world.connect()
    server.transport.pause_reading()
    data = [bytes([number]) * 100_000 for number in range(10)]
    for each in data:
        client.transport.write(each)
    client.transport.close()
    world.pass_(1)
    assert "lost" not in client.said
    server.transport.resume_reading()
    world.simulation.run()
    assert server.all == b"".join(data)
    assert (client.said[-1], server.said[-2:]) == ("lost", ["eof", "lost"])
    assert client.error is None


def test_half_a_connection_can_stay_open(world: World) -> None:
    world.listen(lambda: world.accepted.append(End(world.s, keeps_open=True)) or world.accepted[-1])
    client, server = world.connect()
    client.transport.write(b"question")
    client.transport.write_eof()
    with pytest.raises(RuntimeError):
        client.transport.write(b"more")
    world.pass_(1)
    assert (server.all, server.said) == (b"question", ["made", "eof"])
    server.transport.write(b"answer")
    world.pass_(1)
    assert (client.all, client.said) == (b"answer", ["made"])
    server.transport.close()
    world.pass_(1)
    assert (client.said, server.said) == (["made", "eof", "lost"], ["made", "eof", "lost"])
    assert world.network.connections() == []


def test_the_end_comes_once_and_nothing_behind_it(world: World) -> None:
    world.listen(lambda: world.accepted.append(End(world.s, keeps_open=True)) or world.accepted[-1])
    client, server = world.connect()
    client.transport.write_eof()
    world.pass_(1)
    server.transport.pause_reading()
    server.transport.resume_reading()
    client.transport.connection.inject(True, b"too late")
    world.pass_(1)
    assert (server.all, server.said) == (b"", ["made", "eof"])


def test_the_end_comes_behind_what_waits_for_the_window(world: World) -> None:
    client, server = world.connect()
    server.transport.pause_reading()
    for _ in range(10):
        client.transport.write(b"x" * 100_000)
    client.transport.write_eof()
    world.pass_(1)
    server.transport.resume_reading()
    world.pass_(1)
    assert len(server.all) == 1_000_000
    assert server.said == ["made", "eof", "lost"]


def test_who_has_closed_may_be_told_of_the_end(world: World) -> None:
    world.listen(lambda: world.accepted.append(End(world.s, keeps_open=True)) or world.accepted[-1])
    client, server = world.connect()
    client.transport.close()
    world.pass_(1)
    server.transport.write_eof()
    world.pass_(1)
    assert server.said == ["made", "eof"]
    assert len(world.network.connections()) == 1
    server.transport.close()
    world.pass_(1)
    assert server.error is None
    assert world.network.connections() == []


def test_last_words_arrive_though_the_peer_still_talks(world: World) -> None:
    client, server = world.connect()
    client.transport.write(b"blah")
    server.transport.write(b"bye")
    server.transport.close()
    world.pass_(LATENCY_S / 2)
    client.transport.write(b"blah")
    world.pass_(1)
    assert client.all == b"bye"


def test_writing_to_who_has_closed_is_answered_by_a_reset(world: World) -> None:
    world.listen(lambda: world.accepted.append(End(world.s, keeps_open=True)) or world.accepted[-1])
    client, server = world.connect()
    client.transport.close()
    world.pass_(1)
    assert server.said == ["made", "eof"]
    server.transport.write(b"is anybody there?")
    world.pass_(1)
    server.transport.write(b"no?")
    world.pass_(1)
    assert isinstance(server.error, ConnectionResetError)
    assert world.network.connections() == []


def test_an_abort_drops_what_is_not_delivered_and_resets_the_peer(world: World) -> None:
    client, server = world.connect()
    client.transport.write(b"arrives")
    world.pass_(0.5)
    client.transport.write(b"does not")
    client.transport.abort()
    world.simulation.run()
    assert server.all == b"arrives"
    assert server.said == ["made", "lost"]
    assert isinstance(server.error, ConnectionResetError)
    assert client.error is None
    assert client.said == ["made", "lost"]
    assert world.network.connections() == []


def test_who_does_not_read_sees_a_reset_when_it_closes_or_writes_or_reads(world: World) -> None:
    def close(end: End) -> None:
        end.transport.close()

    def write(end: End) -> None:
        end.transport.write(b"x")

    def read(end: End) -> None:
        end.transport.resume_reading()

    for act, kind in ((close, type(None)), (write, ConnectionResetError), (read, ConnectionResetError)):
        client, server = world.connect()
        client.transport.pause_reading()
        server.transport.abort()
        world.pass_(1)
        assert client.said == ["made"]
        act(client)
        world.pass_(1)
        assert client.said == ["made", "lost"]
        assert type(client.error) is kind


def test_who_waits_for_the_window_sees_a_reset_though_it_does_not_read(world: World) -> None:
    client, server = world.connect()
    client.transport.pause_reading()
    server.transport.pause_reading()
    for _ in range(10):
        client.transport.write(b"x" * 100_000)
    world.pass_(1)
    server.transport.abort()
    world.pass_(1)
    assert isinstance(client.error, ConnectionResetError)


def test_who_closes_without_reading_resets_who_waits_for_the_window(world: World) -> None:
    client, server = world.connect()
    server.transport.pause_reading()
    for _ in range(10):
        client.transport.write(b"x" * 100_000)
    world.pass_(1)
    server.transport.close()
    world.pass_(1)
    assert client.said[-1] == "lost"
    assert world.network.connections() == []


def test_who_is_closing_takes_and_drops_what_still_comes(world: World) -> None:
    client, server = world.connect()
    server.transport.pause_reading()
    for _ in range(10):
        client.transport.write(b"x" * 100_000)
        server.transport.write(b"x" * 100_000)
    client.transport.close()
    world.pass_(1)
    assert server.transport.get_write_buffer_size() == 0
    assert client.data == []
    assert server.said == ["made", "pause", "resume"]


def test_an_abort_ends_a_close_that_cannot_flush(world: World) -> None:
    client, server = world.connect()
    server.transport.pause_reading()
    for _ in range(10):
        client.transport.write(b"x" * 100_000)
    client.transport.close()
    world.pass_(1)
    client.transport.abort()
    world.pass_(1)
    assert client.said[-1] == "lost"


def test_a_protocol_that_fails_is_told_of_and_its_connection_reset(world: World) -> None:
    words: list[dict[str, Any]] = []
    world.s.set_exception_handler(lambda loop, context: words.append(context))
    client, server = world.connect()
    server.data_received = lambda data: 1 // 0  # type: ignore[assignment,method-assign]
    client.transport.write(b"x")
    world.simulation.run()
    assert [type(each["exception"]) for each in words] == [ZeroDivisionError]
    assert "handle" not in words[0]
    assert isinstance(server.error, ZeroDivisionError)
    assert isinstance(client.error, ConnectionResetError)


def test_a_protocol_that_fails_when_it_is_told_of_its_end_is_told_of(world: World) -> None:
    words: list[dict[str, Any]] = []
    world.s.set_exception_handler(lambda loop, context: words.append(context))
    client, server = world.connect()
    server.connection_lost = lambda error: 1 // 0  # type: ignore[assignment,method-assign,return-value]
    client.transport.abort()
    world.simulation.run()
    assert [type(each["exception"]) for each in words] == [ZeroDivisionError]


# Backpressure


def test_a_reader_that_pauses_stops_the_writer(world: World) -> None:
    client, server = world.connect()
    server.transport.pause_reading()
    assert not server.transport.is_reading()
    unit = b"x" * 16_384
    window = world.network.window_bytes // len(unit)
    for _ in range(window + 10):
        client.transport.write(unit)
    assert client.said == ["made", "pause"]
    assert client.transport.get_write_buffer_size() == (window + 10) * len(unit)
    world.pass_(1)
    assert client.transport.get_write_buffer_size() == 10 * len(unit)
    assert server.data == []
    assert client.said == ["made", "pause"]
    server.transport.resume_reading()
    world.pass_(1)
    assert client.transport.get_write_buffer_size() == 0
    assert client.said == ["made", "pause", "resume"]
    assert len(server.all) == (window + 10) * len(unit)


def test_who_pauses_is_given_nothing_any_more_not_even_what_is_there(world: World) -> None:
    client, server = world.connect()
    client.transport.write(b"x")
    while not server.transport._received:
        world.simulation.step()
    server.transport.pause_reading()
    world.pass_(1)
    assert server.data == []


def test_limits_say_when_a_writer_is_paused(world: World) -> None:
    client, _ = world.connect()
    client.transport.set_write_buffer_limits(high=100, low=50)
    client.transport.write(b"x" * 100)
    assert client.said == ["made"]
    client.transport.write(b"x")
    assert client.said == ["made", "pause"]
    world.pass_(LATENCY_S * 1.5)
    assert client.said == ["made", "pause", "resume"]
    client.transport.write(b"x" * 60)
    client.transport.set_write_buffer_limits(high=0)
    assert client.said[-1] == "pause"
    assert client.transport.get_write_buffer_limits() == (0, 0)
    with pytest.raises(ValueError):
        client.transport.set_write_buffer_limits(high=1, low=2)


def test_a_writer_drains(world: World) -> None:
    """Asyncio's streams wait as they do on a real socket."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(50_000):
            await asyncio.sleep(0.1)
        writer.close()

    async def serve() -> None:
        await asyncio.start_server(slow, "s", PORT)

    async def main() -> None:
        _, writer = await asyncio.open_connection("s", PORT)
        for _ in range(100):
            writer.write(b"x" * 50_000)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    world.s.run_until_complete(serve())
    world.c.run_until_complete(main())
    assert 8 < world.now < 12


# Pauses


def test_a_paused_process_is_sent_to_and_finds_everything_later(world: World) -> None:
    client, server = world.connect()
    world.s.pause()
    for number in range(10):
        client.transport.write(b"%d" % number)
        world.pass_(1)
    assert client.transport.get_write_buffer_size() == 0
    assert server.data == []
    world.s.resume()
    world.pass_(1)
    assert server.data == [b"0123456789"]
    assert world.network.connections() != []


def test_a_paused_process_is_sent_no_more_than_its_window(world: World) -> None:
    client, server = world.connect()
    world.s.pause()
    unit = b"x" * 65_536
    for _ in range(10):
        client.transport.write(unit)
    world.pass_(100)
    assert client.transport.get_write_buffer_size() == 6 * len(unit)
    assert client.said == ["made", "pause"]
    world.s.resume()
    world.pass_(1)
    assert len(server.all) == 10 * len(unit)


# Cuts


def test_a_short_cut_delays_and_loses_nothing(world: World) -> None:
    client, server = world.connect()
    client.transport.write(b"in flight when it is cut ")
    world.pass_(LATENCY_S / 2)
    world.cut("c>s")
    client.transport.write(b"and after ")
    world.pass_(2)
    assert server.data == []
    world.heal("c>s")
    client.transport.write(b"and when it heals")
    world.pass_(LATENCY_S / 2)
    assert server.data == []
    world.pass_(LATENCY_S)
    assert server.all == b"in flight when it is cut and after and when it heals"
    assert client.said == server.said == ["made"]
    world.pass_(10)
    assert client.said == server.said == ["made"]


def test_what_is_cut_and_healed_again_and_again_stays_in_order(world: World) -> None:
    chance = random.Random(2)
    client, server = world.connect()
    world.network.link("c", "s").latency_s = (0.001, 0.05)
    sent = b""
    for number in range(500):
        data = b"%d " % number
        client.transport.write(data)
        sent += data
        world.network.link("c", "s").cut = chance.random() < 0.5
        world.pass_(chance.uniform(0, 0.04))
    world.heal("c>s")
    world.simulation.run()
    assert server.all == sent
    assert len(server.data) > 20


def test_a_long_cut_breaks_the_sender_s_end_and_the_other_when_it_heals(world: World) -> None:
    client, server = world.connect()
    world.cut("c>s", "s>c")
    began = world.now
    client.transport.write(b"never arrives")
    world.pass_(2.99)
    assert client.said == ["made"]
    world.simulation.run(until=began + 3.001)
    assert client.said == ["made", "lost"]
    assert isinstance(client.error, TimeoutError)
    world.pass_(1000)
    assert server.said == ["made"]
    assert len(world.network.connections()) == 1
    world.heal("c>s", "s>c")
    world.pass_(LATENCY_S * 1.5)
    assert server.said == ["made", "lost"]
    assert isinstance(server.error, ConnectionResetError)
    assert server.data == []
    assert world.network.connections() == []


def test_the_other_end_gives_up_by_itself_if_it_sends(world: World) -> None:
    client, server = world.connect()
    world.cut("c>s", "s>c")
    client.transport.write(b"never arrives")
    world.pass_(5)
    server.transport.write(b"neither does this")
    world.pass_(3.1)
    assert isinstance(server.error, TimeoutError)
    assert world.network.connections() == []


def test_a_quiet_connection_survives_any_cut(world: World) -> None:
    client, server = world.connect()
    world.cut("c>s", "s>c")
    world.pass_(10_000)
    world.heal("c>s", "s>c")
    client.transport.write(b"hello again")
    world.pass_(1)
    assert server.all == b"hello again"


def test_a_link_cut_one_way_breaks_who_hears_no_acknowledgement(world: World) -> None:
    client, server = world.connect()
    world.cut("s>c")
    client.transport.write(b"arrives")
    world.pass_(2.9)
    assert server.all == b"arrives"
    assert client.transport.get_write_buffer_size() == len(b"arrives")
    world.pass_(0.2)
    assert isinstance(client.error, TimeoutError)
    assert isinstance(server.error, ConnectionResetError)  # That way is open.


def test_an_acknowledgement_that_comes_in_time_is_good(world: World) -> None:
    client, server = world.connect()
    world.cut("s>c")
    client.transport.write(b"arri")
    world.pass_(0.5)
    client.transport.write(b"ves")
    server.transport.write(b"later")
    world.pass_(2.0)
    assert client.data == []
    world.heal("s>c")
    world.pass_(10)
    assert client.all == b"later"
    assert client.said == server.said == ["made"]
    assert client.transport.get_write_buffer_size() == 0


def test_the_healing_of_one_way_is_not_that_of_the_other(world: World) -> None:
    client, server = world.connect()
    world.cut("s>c")
    client.transport.write(b"arrives")
    world.pass_(1)
    world.cut("c>s")
    world.pass_(1)
    world.heal("c>s")
    world.pass_(0.9)
    assert client.said == ["made"]
    world.pass_(0.2)
    assert isinstance(client.error, TimeoutError)
    assert isinstance(server.error, ConnectionResetError)


def test_who_sends_the_blocked_way_gives_up_and_the_other_hears_when_it_heals(world: World) -> None:
    client, server = world.connect()
    world.cut("s>c")
    server.transport.write(b"blocked")
    world.pass_(4)
    assert isinstance(server.error, TimeoutError)
    assert client.said == ["made"]
    client.transport.write(b"for nobody")  # Is answered by a reset, which cannot come back.
    world.pass_(1)
    assert client.said == ["made"]
    world.heal("s>c")
    world.pass_(1)
    assert isinstance(client.error, ConnectionResetError)
    assert client.data == []


def test_a_close_over_a_cut_link_is_done_and_the_other_end_hears_later(world: World) -> None:
    client, server = world.connect()
    world.cut("c>s")
    client.transport.write(b"bye")
    client.transport.close()
    world.pass_(1)
    assert client.said == ["made", "lost"]
    assert server.said == ["made"]
    world.heal("c>s")
    world.pass_(1)
    assert (server.all, server.said, server.error) == (b"bye", ["made", "eof", "lost"], None)


def test_a_close_over_a_link_cut_for_long_becomes_a_reset(world: World) -> None:
    client, server = world.connect()
    world.cut("c>s")
    client.transport.write(b"bye")
    client.transport.close()
    world.pass_(100)
    world.heal("c>s")
    world.pass_(1)
    assert (server.all, server.said) == (b"", ["made", "lost"])
    assert isinstance(server.error, ConnectionResetError)


# The end of a process


def test_what_a_killed_process_sent_arrives_and_a_reset_behind_it(world: World) -> None:
    client, server = world.connect()
    server.transport.write(b"on its way")
    world.s.kill()
    world.pass_(1)
    assert client.all == b"on its way"
    assert client.said == ["made", "lost"]
    assert isinstance(client.error, ConnectionResetError)
    assert server.said == ["made"]
    assert world.network.connections() == []


def test_a_process_killed_behind_a_cut_link_is_missed_when_it_heals(world: World) -> None:
    client, _ = world.connect()
    world.cut("s>c")
    world.s.kill()
    world.pass_(100)
    assert client.said == ["made"]
    world.heal("s>c")
    world.pass_(LATENCY_S * 1.5)
    assert isinstance(client.error, ConnectionResetError)


def test_what_a_process_sent_into_a_cut_is_not_kept_for_ever(world: World) -> None:
    client, server = world.connect()
    world.cut("s>c")
    server.transport.write(b"old")
    world.pass_(1)
    world.s.kill()
    world.pass_(100)
    world.heal("s>c")
    world.pass_(1)
    assert client.data == []
    assert isinstance(client.error, ConnectionResetError)


def test_a_killed_client_s_attempts_come_to_nothing(world: World) -> None:
    world.listen()
    for after_s in (0.005, 0.015, 0.025):
        process = ProcessLoop(world.simulation, "d", world.network)
        process.create_task(process.create_connection(lambda process=process: End(process), "s", PORT))
        world.simulation.call_later(after_s, process.kill)
        world.pass_(1)
        assert world.network.connections() == []
    assert all(isinstance(end.error, ConnectionResetError) for end in world.accepted)
    assert len(world.accepted) == 1


def test_a_dying_process_cannot_write(world: World) -> None:
    client, server = world.connect()

    def die() -> None:
        world.s.kill()
        server.transport.write(b"from the dead")
        server.transport.close()
        server.transport.abort()
        assert server.transport.is_closing()

    world.s.call_soon(die)
    world.pass_(1)
    assert client.data == []
    assert isinstance(client.error, ConnectionResetError)


def test_of_a_power_cut_nobody_hears_and_who_sends_gives_up(world: World) -> None:
    client, server = world.connect()
    server.transport.write(b"on its way")
    world.network.power_cut(world.s)
    assert not world.s.is_alive
    world.pass_(100)
    assert client.all == b"on its way"
    assert client.said == ["made"]
    client.transport.write(b"are you there?")
    world.pass_(3.1)
    assert isinstance(client.error, TimeoutError)
    assert world.network.connections() == []


def test_a_machine_that_is_back_knows_of_no_connections(world: World) -> None:
    client, _ = world.connect()
    quiet, _ = world.connect()
    world.network.power_cut(world.s)
    client.transport.write(b"are you there?")
    world.pass_(2)
    assert client.said == ["made"]
    world.s = ProcessLoop(world.simulation, "s", world.network)
    world.pass_(ROUND_TRIP_S * 1.1)
    assert isinstance(client.error, ConnectionResetError)
    assert quiet.said == ["made"]
    quiet.transport.write(b"and you?")
    world.pass_(ROUND_TRIP_S * 1.1)
    assert isinstance(quiet.error, ConnectionResetError)


def test_a_machine_that_is_back_says_so_when_it_can(world: World) -> None:
    client, _ = world.connect()
    world.network.power_cut(world.s)
    world.s = ProcessLoop(world.simulation, "s", world.network)
    world.cut("s>c")
    client.transport.write(b"are you there?")
    world.pass_(1)
    assert client.said == ["made"]
    world.heal("s>c")
    world.pass_(1)
    assert isinstance(client.error, ConnectionResetError)


@pytest.mark.parametrize("after_s", [LATENCY_S / 2, 1.0])
def test_what_a_machine_without_power_would_have_sent_again_is_lost(world: World, after_s: float) -> None:
    client, server = world.connect()
    world.cut("s>c")
    server.transport.write(b"dropped")
    world.pass_(after_s)
    world.network.power_cut(world.s)
    world.pass_(1)
    world.heal("s>c")
    world.pass_(100)
    assert client.data == []
    assert client.said == ["made"]


def test_connecting_to_a_machine_without_power_hangs_until_it_is_back(world: World) -> None:
    world.listen()
    world.network.power_cut(world.s)
    attempt = world.c.create_task(world.c.create_connection(lambda: End(world.c), "s", PORT))
    world.pass_(100)
    assert not attempt.done()
    world.s = ProcessLoop(world.simulation, "s", world.network)
    world.pass_(ROUND_TRIP_S * 1.1)
    assert isinstance(attempt.exception(), ConnectionRefusedError)
    world.listen()
    assert world.connect()[0].said == ["made"]


def test_a_full_window_does_not_hide_that_the_receiver_is_gone(world: World) -> None:
    for end, kind in ((world.network.power_cut, TimeoutError), (ProcessLoop.kill, ConnectionResetError)):
        world.accepted.clear()
        client, server = world.connect()
        server.transport.pause_reading()
        for _ in range(100):
            client.transport.write(b"x" * 10_000)
        world.pass_(1)
        end(world.s)
        world.pass_(4)
        assert isinstance(client.error, kind)
        world.s = ProcessLoop(world.simulation, "s", world.network)


def test_a_name_lives_once(world: World) -> None:
    with pytest.raises(ValueError, match="a process of the name s is alive"):
        ProcessLoop(world.simulation, "s", world.network)


def test_a_reset_finds_a_paused_process_behind_what_it_has_not_read(world: World) -> None:
    client, server = world.connect()
    world.s.pause()
    client.transport.write(b"read me")
    world.pass_(1)
    client.transport.abort()
    world.pass_(1)
    world.s.resume()
    world.pass_(1)
    assert server.all == b"read me"
    assert isinstance(server.error, ConnectionResetError)


# Mischief


def test_mischief_loses_doubles_delays_and_changes_units(world: World) -> None:
    client, server = world.connect()
    asked: list[tuple[bool, int, bytes]] = []
    copies = {b"lost": [], b"twice": [(0.0, b"twice"), (0.5, b"twice")], b"late": [(0.2, b"late")]}

    def mischief(
        connection: Connection, to_server: bool, number: int, data: bytes
    ) -> list[tuple[float, bytes]] | None:
        assert (connection.client, connection.server) == ("c", "s")
        asked.append((to_server, number, data))
        if data == b"changed":
            return [(0.0, b"chanGed")]
        return copies.get(data)

    world.network.mischief = mischief
    began = world.now
    for data in (b"one", b"lost", b"twice", b"late", b"changed", b"two"):
        client.transport.writelines([data[:1], data[1:]])
        world.pass_(0.001)
    server.transport.write(b"back")
    world.pass_(2)
    assert server.data == [b"one", b"twice", b"chanGed", b"two", b"late", b"twice"]
    expected = [0.010, 0.012, 0.014, 0.015, 0.213, 0.512]
    assert [when - began for when in server.times] == pytest.approx(expected)
    assert [(to_server, number) for to_server, number, _ in asked] == [(True, n) for n in range(6)] + [
        (False, 0)
    ]
    assert client.said == server.said == ["made"]
    statistics = world.network.statistics
    assert (statistics.units, statistics.delivered) == (7, 7)
    assert statistics.bytes == len(b"onelosttwicelatechangedtwoback")


def test_mischief_s_copies_wait_at_a_cut_link_and_die_with_the_connection(world: World) -> None:
    client, server = world.connect()
    world.network.mischief = lambda connection, to_server, number, data: [(0.1, data)]
    world.cut("c>s")
    client.transport.write(b"a")
    world.pass_(10)
    assert server.data == []
    world.heal("c>s")
    world.pass_(1)
    assert server.data == [b"a"]
    client.transport.write(b"b")
    client.transport.abort()
    world.pass_(1)
    assert server.data == [b"a"]
    ends = [world.connect() for _ in range(10)]
    world.cut("c>s")
    for client, server in ends:
        client.transport.write(b"c")
        world.pass_(1)
        assert len(world.network.link("c", "s")._waiting) == 1
        server.transport.abort()
    world.heal("c>s")
    world.pass_(1)
    assert all(server.data == [] for _, server in ends)


def test_an_old_message_can_come_again(world: World) -> None:
    client, server = world.connect()
    connection = client.transport.connection
    client.transport.write(b"old")
    world.pass_(1)
    connection.inject(True, b"old")
    connection.inject(False, b"unasked")
    world.pass_(0)
    assert (server.data, client.data) == ([b"old", b"old"], [b"unasked"])
    client.transport.close()
    world.pass_(1)
    connection.inject(True, b"too late")
    world.pass_(1)
    assert server.data == [b"old", b"old"]


def test_connections_are_listed_in_the_order_of_their_making(world: World) -> None:
    ends = [world.connect()[0] for _ in range(5)]
    ends[1].transport.close()
    world.pass_(1)
    assert world.network.connections() == [
        end.transport.connection for number, end in enumerate(ends) if number != 1
    ]


# A client that knows nothing of all this


class RespServer(asyncio.Protocol):
    """Speaks enough of RESP for redis-py."""

    def __init__(self, store: dict[bytes, bytes]) -> None:
        self.store = store
        self.resp3 = False
        self.buffer: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.buffer = b"".join([*self.buffer, data]).split(b"\r\n")
        while (args := self._next()) is not None:
            self._answer(args)
        self.buffer = [b"\r\n".join(self.buffer)]

    def _next(self) -> list[bytes] | None:
        lines = self.buffer
        if not lines[0].startswith(b"*") or len(lines) < 2 * int(lines[0][1:]) + 2:
            return None
        count = int(lines[0][1:])
        args, self.buffer = lines[2 : 2 * count + 1 : 2], lines[2 * count + 1 :]
        return args

    def _answer(self, args: list[bytes]) -> None:
        name = args[0].upper()
        write = self.transport.write
        if name == b"HELLO":
            self.resp3 = args[1] == b"3"
            write(b"%1\r\n$5\r\nproto\r\n:3\r\n" if self.resp3 else b"*2\r\n$5\r\nproto\r\n:2\r\n")
        elif name == b"SET":
            self.store[args[1]] = args[2]
            write(b"+OK\r\n")
        elif name == b"GET":
            value = self.store.get(args[1])
            none = b"_\r\n" if self.resp3 else b"$-1\r\n"
            write(none if value is None else b"$%d\r\n%b\r\n" % (len(value), value))
        elif name == b"SLEEP":
            asyncio.get_running_loop().call_later(float(args[1]), write, b"+OK\r\n")
        else:
            write(b"+OK\r\n")


def redis_client(**options: Any) -> Redis:
    return Redis(host="s", port=PORT, retry=Retry(NoBackoff(), 0), **options)


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_runs_unchanged(world: World, protocol: int) -> None:
    store: dict[bytes, bytes] = {}
    world.listen(lambda: RespServer(store))

    async def main() -> None:
        redis = redis_client(protocol=protocol, max_connections=20)
        assert await redis.set("a", "1")
        assert await redis.get("a") == b"1"
        assert await redis.get("nothing") is None
        assert await asyncio.gather(*(redis.set(f"k{number}", number) for number in range(10))) == [True] * 10
        async with redis.pipeline(transaction=False) as pipeline:
            for number in range(10):
                pipeline.get(f"k{number}")
            assert await pipeline.execute() == [b"%d" % number for number in range(10)]
        await redis.aclose()

    world.c.run_until_complete(main())
    world.simulation.run()
    assert world.network.connections() == []
    assert len(store) == 11


def test_redis_py_s_timeouts_and_errors_are_its_own(world: World) -> None:
    world.listen(lambda: RespServer({}))

    async def main() -> None:
        redis = redis_client(socket_timeout=1.0, socket_connect_timeout=2.0)
        began = world.now
        with pytest.raises(RedisTimeoutError):
            await redis.execute_command("SLEEP", 5)
        assert world.now - began == pytest.approx(1.0, abs=0.2)
        await redis.set("a", 1)
        world.cut("c>s")
        with pytest.raises(RedisTimeoutError):
            await redis.get("a")
        began = world.now
        with pytest.raises(RedisTimeoutError):
            await redis.get("a")
        assert world.now - began == pytest.approx(2.0, abs=0.2)
        world.heal("c>s")
        await redis.set("a", 1)
        world.simulation.call_later(0.5, world.s.kill)
        with pytest.raises(RedisConnectionError):
            await redis.execute_command("SLEEP", 5)
        with pytest.raises(RedisConnectionError, match="refuses"):
            await redis.get("a")
        await redis.aclose()

    world.c.run_until_complete(main())


def test_a_killed_process_with_redis_py_in_it_is_put_away_without_a_word(world: World) -> None:
    world.listen(lambda: RespServer({}))

    async def main() -> None:
        redis = redis_client()
        while True:
            await asyncio.gather(*(redis.set(f"k{number}", number) for number in range(3)))

    world.c.create_task(main())
    world.pass_(1.0)
    world.c.kill()
    world.pass_(1.0)
    assert world.network.connections() == []


# The same again


def busy_network(seed: int) -> str:
    """Everybody talks to everybody while links are cut and healed and processes end; a checksum of who heard what when."""
    chance = random.Random(seed)
    trace = hashlib.sha256()
    heard = 0
    with Simulation() as simulation:
        network = Network(simulation, random.Random(seed + 1), latency_s=(0.0001, 0.01))
        names = [f"n{number}" for number in range(4)]

        def note(*what: object) -> None:
            trace.update(repr((simulation.now, *what)).encode())

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal heard
            try:
                while data := await reader.read(1000):
                    heard += 1
                    note(writer.get_extra_info("peername"), data)
                    writer.write(data[:10])
                    await writer.drain()
            except OSError as error:
                note(repr(error))
            writer.close()

        async def talk(name: str, other: str) -> None:
            while True:
                try:
                    async with asyncio.timeout(2):
                        reader, writer = await asyncio.open_connection(other, PORT)
                    try:
                        async with asyncio.timeout(chance.uniform(0.1, 3)):
                            while True:
                                writer.write(chance.randbytes(chance.randrange(1, 2000)))
                                note(name, other, await reader.read(100))
                                await asyncio.sleep(chance.expovariate(50))
                    finally:
                        writer.close()
                except (OSError, TimeoutError) as error:
                    note(name, other, repr(error))
                    await asyncio.sleep(0.05)

        async def live(name: str) -> None:
            await asyncio.start_server(listen, name, PORT)
            async with asyncio.TaskGroup() as group:
                for other in names:
                    if other != name:
                        group.create_task(talk(name, other))

        def start(name: str) -> ProcessLoop:
            loop = ProcessLoop(simulation, name, network)
            loop.create_task(live(name))
            return loop

        def fault() -> None:
            simulation.call_later(chance.expovariate(10), fault)
            name, other = chance.sample(names, 2)
            kind = chance.random()
            if kind < 0.6:
                network.link(name, other).cut = chance.random() < 0.4
            elif kind < 0.8:
                loops[name].stall(chance.random() / 2)
            else:
                network.power_cut(loops[name]) if kind < 0.9 else loops[name].kill()
                loops[name] = start(name)

        def mischief(
            connection: Connection, to_server: bool, number: int, data: bytes
        ) -> list[tuple[float, bytes]] | None:
            return [(chance.random(), data)] * chance.randrange(3) if chance.random() < 0.05 else None

        network.mischief = mischief
        loops = {name: start(name) for name in names}
        fault()
        simulation.run(until=20.0)
        note(network.statistics, simulation.steps)
        assert heard > 500
        assert len(network.connections()) < 200
    return trace.hexdigest()


def test_the_same_program_sees_the_same_network_in_any_interpreter() -> None:
    script = "from sim.test_sim_network import busy_network; print(busy_network(3))"
    found = [busy_network(3)]
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        found.append(
            subprocess.run(
                [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
            ).stdout.strip()
        )
    assert len(set(found)) == 1
    assert busy_network(4) != found[0]


# Keep-alive


@pytest.mark.parametrize("how", ["cut", "power"])
def test_an_idle_connection_ends_after_a_while_if_nobody_can_be_at_its_other_end(
    world: World, how: str
) -> None:
    world.network.keep_alive_s = 4.0
    client, _ = world.connect()
    if how == "cut":
        world.cut("s>c")
    else:
        world.network.power_cut(world.s)
    world.pass_(3.9)
    assert client.said == ["made"]
    world.pass_(0.2)
    assert isinstance(client.error, TimeoutError)
    assert world.network.connections() == []


def test_a_cut_that_heals_in_time_is_not_noticed_by_an_idle_connection(world: World) -> None:
    world.network.keep_alive_s = 4.0
    client, server = world.connect()
    for _ in range(3):
        world.cut("s>c")
        world.pass_(3.9)
        world.heal("s>c")
        world.pass_(0.2)
    server.transport.write(b"still here")
    world.pass_(1)
    assert client.all == b"still here"
