"""Clients that block: what they are told, when they go away, when others let them go; and who is served on this node."""

from __future__ import annotations

import asyncio

import pytest

from server.server_fakes import Client, Server
from server.test_server_sofa import Timers
from sofadb.node.node import NO_REPLICAS, UNCERTAIN
from sofadb.server import listener

IN_VAIN = [None]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def timers(server: Server) -> Timers:
    timers = Timers()
    server.state.waiting.call_later = timers.call_later
    return timers


@pytest.fixture
def client(server: Server, timers: Timers) -> Client:
    return server.connect()


def blocked(server: Server, command: str = "BLPOP q 0") -> Client:
    """A client that waits."""
    client = server.connect()
    assert client.ask(command) == []
    return client


def in_line(server: Server) -> int:
    """How many wait, as the state machine has it; and its replica agrees."""
    assert server.node.replica.digest() == server.node.database.digest()
    return len(server.node.database.shared.queues.waiters)


def test_who_blocks_is_served_when_something_comes(server: Server, client: Client, timers: Timers) -> None:
    waiting = blocked(server, "BLPOP p q 0.25")
    assert timers[0].seconds == 0.25
    waiting.send("PING", "LPUSH q y")
    assert server.node.works == [], "nothing behind it is begun"
    assert client.ask("INFO clients")[0].count(b"blocked_clients:1\r\n") == 1
    assert client.ask("CLIENT LIST")[0].count(b" flags=b ") == 1
    assert client.ask("RPUSH q x") == [1]
    assert waiting.replies() == [[b"q", b"x"], b"PONG", 1]
    assert timers[0].is_cancelled
    assert in_line(server) == 0


def test_who_waits_for_ever_has_no_timer(server: Server, timers: Timers) -> None:
    waiting = blocked(server, "BLMOVE q r LEFT LEFT 0")
    assert timers == []
    server.connect().ask("RPUSH q x")
    assert waiting.replies() == [b"x"]


def test_what_cannot_be_served_is_told_and_waits_no_longer(server: Server, client: Client) -> None:
    waiting = blocked(server, "BLMOVE q text LEFT LEFT 0")
    client.ask("SET text x", "RPUSH q x")
    assert waiting.replies()[0].startswith("-WRONGTYPE")
    assert client.ask("LLEN q") == [1]
    assert in_line(server) == 0


def test_when_the_time_is_over_the_answer_is_at_once_and_the_state_machine_is_told(
    server: Server, client: Client, timers: Timers
) -> None:
    waiting = blocked(server, "BLPOP q 1")
    timers[0].fire()
    assert waiting.replies() == IN_VAIN
    assert in_line(server) == 1
    server.node.execute_all()
    assert in_line(server) == 0
    assert client.ask("RPUSH q x") == [1]
    assert waiting.ask("LPOP q") == [b"x"]


def test_who_is_called_when_it_is_gone_is_said_to_be_gone_again(server: Server, client: Client) -> None:
    first, second = blocked(server), blocked(server)
    first.hang_up()
    server.node.fail(server.node.works[0], NO_REPLICAS)
    assert in_line(server) == 2
    assert client.ask("RPUSH q x") == [1]
    assert second.replies() == [[b"q", b"x"]]
    assert in_line(server) == 0


@pytest.mark.parametrize(("reason", "answer"), [("", None), (" timeout", None), (" ERROR", "-UNBLOCKED ")])
def test_a_client_is_let_go_by_another(
    server: Server, client: Client, timers: Timers, reason: str, answer: str | None
) -> None:
    waiting = blocked(server, "BZPOPMIN z 9")
    unblock = f"CLIENT UNBLOCK {waiting.connection.id}{reason}"
    assert client.ask(unblock, unblock) == [1, 0]
    (reply,) = waiting.replies()
    assert reply == answer if answer is None else reply == "-UNBLOCKED client unblocked via CLIENT UNBLOCK"
    assert timers[0].is_cancelled
    assert in_line(server) == 0
    assert waiting.ask("PING") == [b"PONG"]


@pytest.mark.parametrize("is_served", [True, False])
def test_who_is_being_served_when_it_is_let_go_is_answered_what_comes_of_it(
    server: Server, client: Client, is_served: bool
) -> None:
    waiting, other = blocked(server), server.connect()
    client.send("RPUSH q x")
    if not is_served:
        other.send("LPOP q")
    server.node.execute(server.node.works[0])
    client.send(f"CLIENT UNBLOCK {waiting.connection.id} ERROR")
    assert client.replies() == [1, 1]
    assert waiting.replies() == []
    server.node.execute_all()
    expected = [b"q", b"x"] if is_served else "-UNBLOCKED client unblocked via CLIENT UNBLOCK"
    assert waiting.replies() == [expected]
    assert in_line(server) == 0


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("CLIENT UNBLOCK x", "-ERR value is not an integer or out of range"),
        ("CLIENT UNBLOCK 1 FOO", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
        ("CLIENT UNBLOCK 99", 0),
        ("CLIENT UNBLOCK 1", 0),
        ("CLIENT UNBLOCK", "-ERR wrong number of arguments for 'client|unblock' command"),
        (
            "CLIENT UNBLOCK 1 TIMEOUT x",
            "-ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.",
        ),
    ],
)
def test_nobody_is_let_go_who_does_not_wait(client: Client, command: str, reply: object) -> None:
    assert client.ask(command) == [reply]


def test_a_client_that_waits_for_an_instance_is_not_blocked(server: Server, client: Client) -> None:
    waiting = server.connect()
    waiting.send("SOFA.AFTER 99 GET a")
    assert client.ask(f"CLIENT UNBLOCK {waiting.connection.id}") == [0]


@pytest.mark.parametrize("problem", [NO_REPLICAS, UNCERTAIN])
def test_a_try_that_fails_is_told_and_the_next_is_served(
    server: Server, client: Client, problem: str
) -> None:
    first, second = blocked(server), blocked(server)
    client.send("RPUSH q x")
    server.node.execute(server.node.works[0])
    server.node.fail(server.node.works[0], problem)
    assert first.replies() == [f"-{problem}"]
    server.node.execute_all()
    assert second.replies() == [[b"q", b"x"]]
    assert in_line(server) == 0


@pytest.mark.parametrize(("problem", "is_told"), [(NO_REPLICAS, False), (UNCERTAIN, True)])
def test_who_may_be_in_line_although_it_was_told_otherwise_leaves(
    server: Server, client: Client, problem: str, is_told: bool
) -> None:
    client.send("BLPOP q 0")
    server.node.fail(server.node.works[0], problem)
    assert client.replies() == [f"-{problem}"]
    assert len(server.node.works) == is_told


def test_who_had_to_leave_all_lines_enters_them_again_in_order(server: Server, client: Client) -> None:
    first, second, third = (blocked(server) for _ in range(3))
    for database in (server.node.database, server.node.replica):
        database.shared.queues._dismiss(server.node.front)
        database.shared.queues.touched.clear()
    for call in server.node.on_founded:
        call()
    server.node.execute_all()
    assert in_line(server) == 3
    client.ask("RPUSH q x y z")
    assert [each.replies() for each in (first, second, third)] == [
        [[b"q", b"x"]],
        [[b"q", b"y"]],
        [[b"q", b"z"]],
    ]


def test_in_a_transaction_nobody_waits(server: Server, client: Client) -> None:
    commands = ["BLPOP q 0", "BLMOVE q r LEFT LEFT 0", "BZMPOP 0 1 z MIN", "RPUSH q x", "BRPOP q 0"]
    assert client.ask("MULTI", *commands, "EXEC")[-1] == [None, None, None, 1, [b"q", b"x"]]
    assert in_line(server) == 0
    assert client.ask("SOFA.ONCE id BLPOP q 0") == [None]


def test_when_the_server_ends_nobody_waits_any_longer(server: Server) -> None:
    waiting = blocked(server)
    asyncio.run(listener.stop(server.state, within_s=1.0))
    assert waiting.replies() == IN_VAIN
    assert waiting.transport.is_closed
