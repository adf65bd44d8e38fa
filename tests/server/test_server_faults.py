"""What goes wrong around a client's connection, put in on purpose: who is told what, and what is done all the same."""

from __future__ import annotations

import asyncio
import builtins
import errno
import random
import resource
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from processes import PATIENCE_S
from server.server_fakes import Client, FakeNode, FakeTransport, Server, facts_of, request
from sim.stories import Stage
from sofadb.database.table import lookup
from sofadb.server import descriptors, listener
from sofadb.server.connection import Connection
from sofadb.server.state import ServerState, Settings
from sofadb.unlikely import POINTS, choose_by, never


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


# Clients that are going or gone


def test_to_a_client_whose_connection_is_breaking_nothing_more_is_written(client: Client) -> None:
    """The loop knows it already, and has not told us yet. What was begun is done."""
    client.send("SET a 1")
    client.transport.is_closed = True  # The fake would complain of anything that is written now.
    client.node.execute_all()
    assert client.node.database.keyspaces[0].values[b"a"] == b"1"
    client.connection.connection_lost(ConnectionResetError(errno.ECONNRESET, "reset by peer"))
    assert client.received == b""


def test_a_client_that_is_gone_before_its_address_was_asked_for_is_a_client_without_one(
    server: Server,
) -> None:
    transport = FakeTransport(1)
    transport._extra = {"peername": None, "sockname": "/run/sofadb.sock"}  # type: ignore[attr-defined]
    gone = transport.connection = Connection(server.state)
    gone.connection_made(transport)
    assert (gone.address, gone.local_address) == ("", "/run/sofadb.sock")
    (line, *_) = server.connect().ask("CLIENT LIST")[0].splitlines()
    assert b" addr= " in line
    gone.connection_lost(None)
    assert gone.id not in server.state.clients


@pytest.mark.parametrize("what", ["a name", "a name in HELLO"])
def test_a_name_without_end_is_refused_and_kept_nowhere(client: Client, what: str) -> None:
    name = "x" * 1025
    command = f"CLIENT SETNAME {name}" if what == "a name" else f"HELLO 3 SETNAME {name}"
    assert client.ask(command) == ["-ERR Client names have 1024 bytes at most."]
    assert client.ask("CLIENT GETNAME") in ([None], [b""])
    assert client.connection.name == b""


# What must not be


@pytest.mark.parametrize("name", ["select", "multi", "exec", "watch", "client", "config"])
def test_what_the_connection_does_itself_is_nothing_to_be_called(client: Client, name: str) -> None:
    """Should it ever come so far, the node ends: an answer would be a lie, since nothing was done."""
    command = lookup(name.encode())
    assert command is not None
    with pytest.raises(AssertionError, match=name.upper()):
        command.function(client.connection, [name.encode(), b"1"])
    assert client.received == b""


# The machine


def test_where_the_system_does_not_say_what_is_resident_the_peak_is_told(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open = builtins.open

    def without_proc(file: Any, *args: Any, **options: Any) -> Any:
        if str(file).startswith("/proc/"):
            raise OSError(errno.ENOENT, "No such file or directory")
        return really_open(file, *args, **options)

    monkeypatch.setattr(builtins, "open", without_proc)
    (memory,) = client.ask("INFO memory")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    told = int(memory.split(b"used_memory_rss:")[1].split(b"\r\n")[0])
    assert 0 < told <= peak


class Limit:
    """The limit on this process's descriptors, as a fake."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> None:
        self.soft, self.hard = soft, hard
        monkeypatch.setattr(resource, "getrlimit", lambda what: (self.soft, self.hard))
        monkeypatch.setattr(resource, "setrlimit", self.set)

    def set(self, what: int, limits: tuple[int, int]) -> None:
        assert what == resource.RLIMIT_NOFILE
        soft, hard = limits
        if soft > self.hard != resource.RLIM_INFINITY or hard != self.hard:
            raise ValueError("not allowed to raise maximum limit")
        self.soft = soft


@asynccontextmanager
async def listening(settings: Settings | None = None) -> AsyncIterator[tuple[ServerState, FakeNode]]:
    """A server on a real port, in front of a node that does its work when it is told to."""
    node = FakeNode()
    state = ServerState(node, lambda: facts_of("leading"), "127.0.0.1", 0, settings or Settings())
    await listener.start(state)
    state.port = state.server.sockets[0].getsockname()[1]
    try:
        yield state, node
    finally:
        await listener.stop(state, within_s=0)
        await until(lambda: not state.clients)


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "soft_then", "clients_max"),
    [
        (1024, 4096, 10_000, 4096, 4096 - descriptors.RESERVED),
        (1024, resource.RLIM_INFINITY, 10_000, 10_000 + descriptors.RESERVED, 10_000),
        (20_000, 20_000, 10_000, 20_000, 10_000),
        (64, 64, 10_000, 64, 16),
    ],
    ids=["as many as are allowed", "no limit", "enough", "hardly any"],
)
def test_where_descriptors_are_few_clients_are_fewer_so_that_the_journal_has_some(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int, soft_then: int, clients_max: int
) -> None:
    limit = Limit(monkeypatch, soft, hard)

    async def story() -> None:
        async with listening(Settings(clients_max=wanted)) as (state, _):
            assert state.settings.clients_max == clients_max

    uvloop.run(story())
    assert limit.soft == soft_then


def test_more_clients_can_be_allowed_as_far_as_descriptors_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limit(monkeypatch, 1024, 4096)
    server = Server()
    (reply,) = server.connect().ask("CONFIG SET maxclients 5000")
    possible = 4096 - descriptors.RESERVED
    assert reply.endswith(f"the specified number of clients, try with {possible}")
    assert server.state.settings.clients_max == Settings().clients_max
    assert server.connect().ask(f"CONFIG SET maxclients {possible}") == [b"OK"]
    assert (server.state.settings.clients_max, limit.soft) == (possible, 4096)


@pytest.mark.parametrize(
    ("setting", "seconds"), [("300", 300), ("60", 60), ("2147483647", 32_767), ("0", None)]
)
def test_the_kernel_asks_after_silent_clients_as_it_is_set(setting: str, seconds: int | None) -> None:
    async def story() -> None:
        async with listening() as (state, _):
            state.settings = replace(state.settings, keepalive_s=int(setting))
            _, writer = await asyncio.open_connection("127.0.0.1", state.port)
            await until(lambda: state.clients)
            (client,) = state.clients.values()
            assert client.transport
            sock = client.transport.get_extra_info("socket")
            assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) == (seconds is not None)
            if seconds is not None:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == seconds
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == seconds // 3
            writer.close()

    uvloop.run(story())


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_a_port_that_is_taken_is_an_error_for_whoever_starts_the_server(run: Any) -> None:
    async def story() -> None:
        async with listening() as (state, node):
            late = ServerState(node, state.facts, "127.0.0.1", state.port)
            with pytest.raises(OSError, match="ddress already in use"):
                await listener.start(late)
            await listener.stop(late, within_s=PATIENCE_S)

    run(story())


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_a_server_that_is_stopped_takes_nobody_in_and_drops_nobody_whose_outcome_is_pending(run: Any) -> None:
    """Rule D7, on real sockets. What the client sends behind that is not done."""

    async def story() -> None:
        async with listening() as (state, node):
            reader, writer = await asyncio.open_connection("127.0.0.1", state.port)
            idle, idle_writer = await asyncio.open_connection("127.0.0.1", state.port)
            writer.write(request("SET a 1"))
            await until(lambda: node.works and len(state.clients) == 2)
            stopped = asyncio.create_task(listener.stop(state, within_s=PATIENCE_S))
            assert await idle.read() == b""
            with pytest.raises(OSError, match=r"refused|Connect call failed"):
                await asyncio.open_connection("127.0.0.1", state.port)
            writer.write(request("SET b 1"))
            await writer.drain()
            node.execute_all()
            assert await reader.readexactly(5) == b"+OK\r\n"
            assert list(node.database.keyspaces[0].values) == [b"a"]
            assert await reader.read() == b"", (
                "it ends in good order, though something arrived behind the end"
            )
            assert not stopped.done()
            for each in (writer, idle_writer):
                each.close()
            await stopped

    run(story())


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_small_replies_to_real_clients_leave_at_once_and_dead_ones_are_noticed(run: Any) -> None:
    async def story() -> None:
        async with listening() as (state, _):
            _, writer = await asyncio.open_connection("127.0.0.1", state.port)
            await until(lambda: state.clients)
            (connection,) = state.clients.values()
            assert connection.transport is not None
            sock = connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert connection.address == "{}:{}".format(*writer.get_extra_info("sockname"))
            writer.close()

    run(story())


# The unlikely

IN_THE_SERVER = ("run of one command", "one run at a time", "no reads behind writes", "input paused")
IN_THE_SERVER += ("reply in pieces", "request in pieces")


@contextmanager
def unlikely_things() -> Iterator[Counter[str]]:
    """Meanwhile what is unlikely in the server happens one time in three; how often, by name."""
    assert set(IN_THE_SERVER) <= set(POINTS)
    chance, happened = random.Random(5), Counter[str]()

    def choose(point: str) -> bool:
        happens = point in IN_THE_SERVER and chance.random() < 0.34
        happened[point] += happens
        return happens

    choose_by(choose)
    try:
        yield happened
    finally:
        choose_by(never)


COMMANDS = (
    *("SET a 1", "GET a", "INCR a", "GET a", "PING", "MULTI", "INCR a", "GET a", "EXEC", "NOSUCH", "GET a"),
    *("WATCH a", "GET a", "APPEND b xyz", "GET b", "CLIENT GETNAME", "SELECT 1", "GET a", "KEYS *"),
    *("SET c 1", "SELECT 0", "MGET a b c", "EXEC", "DEL a b", "GET a"),
)


def replies(seed: int) -> list[str]:
    """What a client of a whole cluster is told when it sends all of them in one go."""
    with Stage(seed=seed) as stage:
        talk = stage.connect(stage.leader)
        talk.say(*(tuple(command.split()) for command in COMMANDS))
        talk.hear()
        return [str(reply) for reply in talk.replies]


def test_whatever_unlikely_is_chosen_in_a_server_the_replies_are_the_same() -> None:
    expected = replies(0)
    with unlikely_things() as happened:
        for seed in range(6):
            assert replies(seed) == expected
    assert {point for point in IN_THE_SERVER if not happened[point]} == set()
