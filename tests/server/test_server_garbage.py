"""What serves clients leaves no cycles behind: only while it is young would the collector find one (`node/collector.py`)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from server.server_fakes import Client, Server, in_one_turn, pipeline, request
from sofadb.server.short_way import UNKNOWN_MAX

SET = f"SET k {'v' * 60}"
LOOK_ALIKE = request(f"SET k {'v' * 54}") + b"PING\r\n"
"""As long, and with the same beginning."""


@pytest.fixture
def server() -> Server:
    return in_one_turn()


@pytest.fixture
def garbage() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def end(client: Client) -> None:
    """It hangs up. (A real transport lets go of its protocol then.)"""
    client.hang_up()
    client.connection.transport = None


def crowds(server: Server) -> None:
    """Many clients ask the same; one sends what only looks like it, one hangs up, and one has more to ask."""
    clients = [server.connect() for _ in range(12)]
    for _ in range(UNKNOWN_MAX + 2):
        for client in clients[:-1]:
            client.send(SET)
        clients[-1].send_bytes(LOOK_ALIKE)
        clients[3].connection.data_received(b"PING\r\n")
        server.node.execute_all()
        for client in clients:
            client.send("GET k")
        server.node.execute_all()
    for client in clients:
        client.send(SET)
    end(clients.pop())
    server.node.fail_all("UNCERTAIN who knows")
    for client in clients:
        end(client)


def commands(server: Server) -> None:
    """Alone, in pipelines, in transactions; some that fail, wait, or subscribe."""
    client = server.connect()
    client.ask("SET a 1", "INCR a", "LPUSH a x", "GET a")
    client.ask("WATCH a", "MULTI", "SET a 2", "LPUSH a x", "EXEC", "MULTI", "FOO", "EXEC")
    client.ask("BLPOP q 0", "DEL a")
    other = server.connect()
    other.ask("LPUSH q x y")
    other.ask("BLPOP r 0")
    other.ask("SUBSCRIBE news")
    client.ask("SUBSCRIBE news", "PUBLISH news x", "UNSUBSCRIBE news")
    client.ask("SORT q", "INFO", "CLIENT LIST", "OBJECT ENCODING q", "SCAN 0")
    client.send_bytes(pipeline("PING") + b"*1\r\n$-5\r\n")
    end(client)
    end(other)


def scripts(server: Server) -> None:
    """One that is done, one that fails half way, one that is stopped."""
    client = server.connect()
    client.ask([b"EVAL", b"return redis.call('INCR', KEYS[1])", b"1", b"n"])
    half = b"redis.call('RPUSH', KEYS[1], 'a') redis.call('LTRIM', KEYS[1], 0, 5) return redis.call('FOO')"
    client.ask([b"EVAL", half, b"1", b"list"])
    endless = b"while true do redis.call('RPUSH', KEYS[1], 'a') redis.call('LTRIM', KEYS[1], 0, 5) end"
    (reply,) = client.ask([b"EVAL", endless, b"1", b"list"])
    assert "was stopped" in reply
    end(client)


@pytest.mark.usefixtures("garbage")
@pytest.mark.parametrize("story", [crowds, commands, scripts])
def test_nothing_is_left_for_the_collector(server: Server, story: Callable[[Server], None]) -> None:
    story(server)  # What is made once and kept is made now.
    gc.collect()
    story(server)
    assert gc.collect() == 0
