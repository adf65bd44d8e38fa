"""What a server adds to the state machine's own commands: waiting for locks and instances, reads of one's own node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from server.server_fakes import Client, Server
from sofadb.node.node import NO_REPLICAS, UNCERTAIN
from sofadb.server import listener


class Timer:
    """One that fires when a test says so."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds, self._call, self.is_cancelled = seconds, call, False

    def fire(self) -> None:
        assert not self.is_cancelled
        self._call()

    def cancel(self) -> None:
        self.is_cancelled = True


class Timers(list[Timer]):
    """All there ever were."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        self.append(Timer(seconds, call))
        return cast(asyncio.TimerHandle, self[-1])


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def timers(server: Server) -> Timers:
    timers = Timers()
    server.state.waiting.call_later = timers.call_later
    return timers


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


@pytest.fixture
def holder(server: Server, timers: Timers) -> Client:
    """Holds the lock `l`, with token 1."""
    holder = server.connect()
    assert holder.ask("SOFA.LOCK l 1000") == [1]
    return holder


def waiting(server: Server, count: int = 1) -> list[Client]:
    """So many clients, each of which has tried to take the lock and waits for it."""
    clients = [server.connect() for _ in range(count)]
    for client in clients:
        assert client.ask("SOFA.LOCK l 1000 WAIT 200") == []
    return clients


# Waiting for a lock


def test_who_waits_gets_the_lock_when_it_is_given_back(
    server: Server, holder: Client, timers: Timers
) -> None:
    (client,) = waiting(server)
    assert timers[0].seconds == 0.2
    client.send("PING", "SET a 1")
    assert server.node.works == [], "nothing behind it is begun"
    assert server.connect().ask("INFO clients")[0].count(b"blocked_clients:1\r\n") == 1
    assert holder.ask("SOFA.UNLOCK l 1") == [1]
    assert client.replies() == [4, b"PONG", b"OK"]
    assert timers[0].is_cancelled
    assert len(server.state.waiting) == 0
    assert server.node.replica.digest() == server.node.database.digest()


def test_who_need_not_wait_does_not(server: Server, client: Client, timers: Timers) -> None:
    assert client.ask("SOFA.LOCK l 1000 WAIT 200", "SOFA.LOCK l 1000 WAIT 0", "SOFA.LOCK l 1000") == [
        1,
        None,
        None,
    ]
    assert timers == []


def test_a_mistake_is_told_at_once(client: Client, timers: Timers) -> None:
    assert client.ask("SOFA.LOCK l 1000 WAIT x") == ["-ERR value is not an integer or out of range"]
    assert timers == []


def test_one_release_is_for_the_first_who_waits(server: Server, holder: Client) -> None:
    first, second, third = waiting(server, 3)
    holder.send("SOFA.UNLOCK l 1")
    server.node.execute(server.node.works[0])
    assert len(server.node.works) == 1, "only one tries again"
    server.node.execute_all()
    (token,) = first.replies()
    assert second.replies() == third.replies() == []
    first.ask(f"SOFA.UNLOCK l {token}")
    assert len(second.replies()) == 1
    assert third.replies() == []


def test_who_was_called_in_vain_keeps_its_place(server: Server, holder: Client, timers: Timers) -> None:
    first, second = waiting(server, 2)
    other = server.connect()
    holder.send("SOFA.UNLOCK l 1")
    other.send("SOFA.LOCK l 1000")
    server.node.execute_all()
    (token,) = other.replies()
    assert first.replies() == second.replies() == []
    assert server.node.works == [], "and nobody goes round in a circle"
    other.ask(f"SOFA.UNLOCK l {token}")
    assert len(first.replies()) == 1
    assert len(timers) == 2, "nor is its time counted anew"


def test_when_the_time_is_over_the_answer_is_null(server: Server, holder: Client, timers: Timers) -> None:
    first, second = waiting(server, 2)
    timers[0].fire()
    assert first.replies() == [None]
    holder.ask("SOFA.UNLOCK l 1")
    assert len(second.replies()) == 1
    assert first.ask("PING") == [b"PONG"]


@pytest.mark.parametrize("gets_it", [True, False])
def test_who_tries_when_the_time_is_over_is_answered_what_comes_of_it(
    server: Server, holder: Client, timers: Timers, gets_it: bool
) -> None:
    (client,) = waiting(server)
    holder.send("SOFA.UNLOCK l 1")
    other = server.connect()
    if not gets_it:
        other.send("SOFA.LOCK l 1000")
    server.node.execute(server.node.works[0])
    timers[0].fire()
    assert client.replies() == []
    server.node.execute_all()
    assert client.replies() == [4 if gets_it else None]
    assert len(server.state.waiting) == 0


def test_a_lock_that_ends_by_itself_calls_too(
    server: Server, holder: Client, timers: Timers, monkeypatch: pytest.MonkeyPatch
) -> None:
    (client,) = waiting(server)
    monkeypatch.setattr("server.server_fakes.NOW", 1_700_000_001_000)
    server.connect().ask("SET a 1")
    assert client.replies() == [4]


@pytest.mark.parametrize("how", ["hangs up", "sends no more", "is closed"])
def test_who_goes_away_waits_no_longer(server: Server, holder: Client, timers: Timers, how: str) -> None:
    first, second = waiting(server, 2)
    if how == "hangs up":
        first.hang_up()
    elif how == "sends no more":
        first.half_close()
    else:
        first.connection.close()
    assert first.replies() == ([] if how == "hangs up" else [None])
    assert first.transport.is_closed
    assert timers[0].is_cancelled
    holder.ask("SOFA.UNLOCK l 1")
    assert len(second.replies()) == 1


def test_who_goes_away_before_it_was_tried_does_not_begin_to_wait(
    server: Server, holder: Client, client: Client, timers: Timers
) -> None:
    client.send("SOFA.LOCK l 1000 WAIT 200")
    client.hang_up()
    server.node.execute_all()
    assert len(server.state.waiting) == len(timers) == 0


def test_who_goes_away_while_it_tries_hands_on_what_it_cannot_use(
    server: Server, holder: Client, timers: Timers
) -> None:
    first, second = waiting(server, 2)
    holder.send("SOFA.UNLOCK l 1")
    server.node.execute(server.node.works[0])
    first.hang_up()
    server.node.fail(server.node.works[0], NO_REPLICAS)
    server.node.execute_all()
    assert len(second.replies()) == 1


@pytest.mark.parametrize("problem", [NO_REPLICAS, UNCERTAIN])
def test_an_attempt_that_fails_is_told_and_the_next_is_called(
    server: Server, holder: Client, timers: Timers, problem: str
) -> None:
    first, second = waiting(server, 2)
    holder.send("SOFA.UNLOCK l 1")
    server.node.execute(server.node.works[0])
    server.node.fail(server.node.works[0], problem)
    assert first.replies() == [f"-{problem}"]
    server.node.execute_all()
    assert len(second.replies()) == 1


def test_a_release_while_somebody_tries_is_not_lost(server: Server, holder: Client) -> None:
    """Of two releases the first calls one, and the second comes before that one has tried."""
    first, second = waiting(server, 2)
    other = server.connect()
    holder.send("SOFA.UNLOCK l 1")
    server.node.execute(server.node.works[0])
    other.send("SOFA.LOCK l 1000")
    server.node.execute(server.node.works[-1])
    (token,) = other.replies()
    other.send(f"SOFA.UNLOCK l {token}")
    server.node.execute(server.node.works[-1])
    server.node.execute_all()
    assert len(first.replies()) == 1
    assert second.replies() == []
    assert len(server.state.waiting) == 1


@pytest.mark.parametrize(
    "commands",
    [
        ["MULTI", "SOFA.LOCK l 1000 WAIT 200", "EXEC"],
        ["SOFA.ONCE id SOFA.LOCK l 1000 WAIT 200"],
        ["SOFA.FENCED l 1 SOFA.LOCK l 1000 WAIT 200"],
    ],
)
def test_within_something_else_nobody_waits(client: Client, holder: Client, commands: list[str]) -> None:
    assert client.ask(*commands)[-1] in (None, [None])


def test_when_the_server_ends_nobody_waits_any_longer(server: Server, holder: Client) -> None:
    first, second = waiting(server, 2)
    asyncio.run(listener.stop(server.state, within_s=1.0))
    assert first.replies() == second.replies() == [None]
    assert first.transport.is_closed
    assert len(server.state.waiting) == 0


def test_the_timer_is_one_of_the_event_loop() -> None:
    server = Server()
    server.connect().ask("SOFA.LOCK l 1000")
    client = server.connect()

    async def wait() -> list[Any]:
        assert client.ask("SOFA.LOCK l 1000 WAIT 1") == []
        async with asyncio.timeout(10):
            while not (replies := client.replies()):
                await asyncio.sleep(0)
        return replies

    assert asyncio.run(wait()) == [None]


# The instance of the last write


def test_the_instance_of_the_last_write_is_told_wherever_one_asks(client: Client) -> None:
    last = "SOFA.LASTINSTANCE"
    assert client.ask(last, "SET a 1", last, "GET a") == [0, b"OK", 1, b"1"]
    assert client.ask(last, "SET a 1", last) == [1, b"OK", 2]
    assert client.ask("GET a", last) == [b"1", 2]
    assert client.ask("INCR a", "MULTI", last, "INCR a", last, "EXEC", last) == [
        2, b"OK", b"QUEUED", b"QUEUED", b"QUEUED", [3, 3, 4], 4,
    ]  # fmt: skip
    assert client.ask("SOFA.LOCK l 1000", last) == [5, 5]
    assert client.ask("RESET", last) == [b"RESET", 0]


def test_what_was_not_executed_has_no_instance(server: Server, client: Client) -> None:
    client.ask("SET a 1", "WATCH a")
    server.connect().ask("SET a 2")
    assert client.ask("MULTI", "SET a 3", "EXEC", "SOFA.LASTINSTANCE")[-2:] == [None, 1]
    client.send("SET a 1", "SOFA.LASTINSTANCE")
    server.node.fail(server.node.works[0], NO_REPLICAS)
    assert client.replies() == [f"-{NO_REPLICAS}", 1]


# Reads behind an instance


def test_a_read_behind_an_instance_is_answered_when_this_node_has_come_so_far(
    server: Server, client: Client, timers: Timers
) -> None:
    writer = server.connect()
    client.send("SOFA.AFTER 2 GET a", "PING")
    writer.send("SET a 1")
    server.node.execute_all()
    assert client.replies() == []
    writer.send("SET a 2")
    server.node.execute_all()
    assert client.replies() == [b"2", b"PONG"]
    assert timers[0].is_cancelled
    client.send("SOFA.AFTER 1 MGET a b")
    assert server.node.works == []
    assert client.replies() == [[b"2", None]]


def test_who_waits_for_less_is_answered_first(server: Server, timers: Timers) -> None:
    clients = [server.connect() for _ in range(3)]
    for client, instance in zip(clients, (3, 1, 2), strict=True):
        client.send(f"SOFA.AFTER {instance} EXISTS a")
    writer = server.connect()
    told: list[Any] = []
    for _ in range(3):
        writer.ask("SET a 1")
        told.append([client.replies() for client in clients])
    assert told == [[[], [1], []], [[], [], [1]], [[1], [], []]]


def test_an_instance_that_does_not_come_is_refused_in_time(
    server: Server, client: Client, timers: Timers
) -> None:
    client.send(f"SOFA.AFTER {2**62} GET a")
    assert timers[0].seconds == 5.0
    timers[0].fire()
    (reply,) = client.replies()
    assert reply.startswith("-NOREPLICAS ")
    server.connect().ask("SET a 1")
    assert client.ask("PING") == [b"PONG"]


def test_who_goes_away_does_not_wait_for_an_instance(server: Server, client: Client, timers: Timers) -> None:
    client.send("SOFA.AFTER 1 GET a")
    client.hang_up()
    assert timers[0].is_cancelled
    server.connect().ask("SET a 1")
    assert len(server.state.waiting) == 0


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("SOFA.AFTER x GET a", "-ERR value is not an integer or out of range"),
        ("SOFA.AFTER -1 GET a", "-ERR value is not an integer or out of range"),
        ("SOFA.AFTER 0 SET a 1", "-ERR SOFA.AFTER cannot run 'set'"),
        ("SOFA.AFTER 0 PING", "-ERR SOFA.AFTER cannot run 'ping'"),
        ("SOFA.AFTER 0 SOFA.AFTER 0 GET a", "-ERR SOFA.AFTER cannot run 'sofa.after'"),
        ("SOFA.AFTER 0 GET", "-ERR wrong number of arguments for 'get' command"),
        ("SOFA.ONCE id PING", "-ERR SOFA.ONCE cannot run 'ping'"),
        ("SOFA.ONCE id MULTI", "-ERR SOFA.ONCE cannot run 'multi'"),
        ("SOFA.FENCED l 1 SELECT 1", "-ERR SOFA.FENCED cannot run 'select'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_begun(
    server: Server, client: Client, command: str, problem: str
) -> None:
    client.send(command)
    assert client.replies() == [problem]
    assert server.node.works == []


def test_reads_behind_reads_however_deep_are_refused_at_once(client: Client) -> None:
    for nested in ([b"SOFA.AFTER", b"0"], [b"SOFA.ONCE", b"id", b"SOFA.AFTER", b"0"]):
        (reply,) = client.ask(nested * 20_000 + [b"GET", b"a"])
        assert reply.endswith("cannot run 'sofa.after'")


def test_no_waiting_for_an_instance_in_a_transaction(client: Client) -> None:
    assert client.ask("MULTI", "SOFA.AFTER 0 GET a", "SET a 1", "EXEC") == [
        b"OK",
        "-ERR SOFA.AFTER inside MULTI is not allowed",
        b"QUEUED",
        [b"OK"],
    ]


# Reads of this node's own state


def test_reads_are_answered_from_this_nodes_own_state_by_the_clients_wish(
    server: Server, client: Client
) -> None:
    server.connect().ask("SET a 1")
    client.send("READONLY", "GET a", "DBSIZE", "KEYS *", "MULTI", "GET a", "EXEC")
    assert server.node.works == []
    assert client.replies() == [b"OK", b"1", 1, [b"a"], b"OK", b"QUEUED", [b"1"]]


@pytest.mark.parametrize("back", ["READWRITE", "RESET"])
def test_and_no_longer_when_it_wishes_otherwise(server: Server, client: Client, back: str) -> None:
    client.ask("READONLY", back)
    client.send("GET a")
    assert len(server.node.works) == 1


def test_what_the_client_itself_wrote_is_seen(server: Server, client: Client) -> None:
    client.ask("READONLY")
    client.send("SET a 1")
    client.send("GET a")
    client.send("INCR a", "GET a")
    assert client.replies() == []
    server.node.execute_all()
    assert client.replies() == [b"OK", b"1", 2, b"2"]


def test_the_wish_holds_from_its_place_in_a_transaction_on(server: Server, client: Client) -> None:
    client.send("MULTI", "READONLY", "EXEC", "GET a")
    server.node.execute_all()
    assert client.replies() == [b"OK", b"QUEUED", [b"OK"], None]
    client.send("GET a")
    assert client.replies() == [None]
