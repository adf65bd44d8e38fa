"""Reads that take long give way to everything else between them."""

from __future__ import annotations

import pytest

from server.server_fakes import Client, Server
from sofadb.database import budget
from sofadb.database.commands import lists
from sofadb.server import connection


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture(autouse=True)
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "READS_UNITS_MAX", 100)


def filled(server: Server) -> Client:
    """A client, and what it has put: 200 KB in a string, a thousand elements in a list."""
    client = server.connect()
    client.ask(f"SET a {'x' * 200_000}", f"RPUSH l {' '.join(map(str, range(2_000)))}")
    return client


@pytest.mark.parametrize("is_readonly", [True, False])
def test_each_is_done_in_a_turn_of_its_own_whoever_asks(server: Server, is_readonly: bool) -> None:
    clients = [filled(server), server.connect()]
    for client in clients:
        if is_readonly:
            client.ask("READONLY")
    for client in clients:
        client.send("GET none", *["BITCOUNT a"] * 2, "LRANGE l 0 -1", "PING")
    done = []
    for _ in range(12):
        if not is_readonly:
            server.node.execute_all()
        done.append([len(client.replies()) for client in clients])
        server.turn()
    assert [turn for turn in done if any(turn)] == [[1, 1], [1, 0], [0, 1], [1, 0], [0, 1], [2, 0], [0, 2]]
    assert not len(server.state.heavy)


def test_what_is_behind_one_waits_and_sees_what_came_before_it(server: Server) -> None:
    client = filled(server)
    client.send("BITCOUNT a", "SET a 1", "BITCOUNT a")
    server.node.execute_all()
    assert client.replies() == []
    server.turn()
    server.node.execute_all()
    assert client.replies() == [800_000, b"OK", 3]


@pytest.mark.parametrize(
    "command", ["LPOS l none", "LPOS l none COUNT 1", "LINDEX l 1000", "LRANGE l 1000 1009"]
)
def test_so_is_what_goes_far_and_answers_little(
    server: Server, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = filled(server)
    monkeypatch.setattr(lists, "PASSED_PER_UNIT", 0.1)
    client.send(command)
    server.node.execute_all()
    assert client.replies() == []
    server.turn()
    assert len(client.replies()) == 1


def test_what_costs_little_is_done_at_once(server: Server) -> None:
    client = filled(server)
    client.send("LRANGE l 0 9", "BITCOUNT none", "GETRANGE a 0 3", "STRLEN a")
    assert len(server.node.works) == 1
    server.node.execute_all()
    assert len(client.replies()) == 4


def test_nothing_is_read_for_clients_that_are_gone(server: Server) -> None:
    clients = [filled(server), *(server.connect() for _ in range(5))]
    for client in clients:
        client.send("BITCOUNT a")
    server.node.execute_all()
    for client in clients[:-1]:
        client.hang_up()
    for _ in clients:
        server.turn()
    assert clients[-1].replies() == [800_000]
    assert server.state.usage.figures_of(b"BITCOUNT").calls == 1
    assert server.state.begun_commands == server.state.begun_bytes == 0


def test_a_transaction_reads_only_so_much(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    client = filled(server)
    monkeypatch.setattr(budget, "BATCH_UNITS_MAX", 500)
    (replies,) = client.ask("MULTI", "INCR n", *["DUMP a"] * 4, "LRANGE l 0 -1", "INCR n", "EXEC")[-1:]
    kinds = [type(reply) for reply in replies]
    assert kinds == [int, bytes, bytes, str, str, str, int]
    assert replies[3].startswith("-BUSY")
    assert client.node.replica.digest() == client.node.database.digest()
