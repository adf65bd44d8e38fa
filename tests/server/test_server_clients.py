"""What a client may want of its connection and of others': CLIENT KILL, PAUSE and REPLY."""

from __future__ import annotations

import pytest

from server.server_fakes import Client, Server, request
from sofadb.database.messages import Message
from sofadb.server.guard import Guard


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


# CLIENT KILL


def test_clients_are_killed_by_what_is_said_of_them(server: Server, client: Client) -> None:
    others = [server.connect() for _ in range(4)]
    others[0].ask("SUBSCRIBE news")
    assert client.ask("CLIENT KILL TYPE pubsub") == [1]
    assert client.ask(f"CLIENT KILL ID {others[1].connection.id} TYPE pubsub") == [0]
    assert client.ask(f"CLIENT KILL ID {others[1].connection.id} USER default") == [1]
    assert client.ask(f"CLIENT KILL ADDR {others[2].connection.address}") == [1]
    assert client.ask(f"CLIENT KILL {others[3].connection.address}") == [b"OK"]
    assert all(other.transport.is_closed for other in others)
    assert client.ask("CLIENT KILL TYPE normal") == [0], "who asks is left out"
    assert client.ask("CLIENT KILL LADDR 127.0.0.1:6379 SKIPME yes") == [0]


def test_a_client_that_kills_itself_is_answered_first(client: Client) -> None:
    assert client.ask("GET a", "CLIENT KILL TYPE normal SKIPME no", "SET a 1") == [None, 1]
    assert client.transport.is_closed
    assert not client.node.database.keyspaces[0].values


def test_what_a_killed_client_has_under_way_is_answered(server: Server, client: Client) -> None:
    other = server.connect()
    other.send("SET a 1")
    client.send(f"CLIENT KILL ID {other.connection.id}")
    assert client.replies() == [1]
    assert not other.transport.is_closed
    server.node.execute_all()
    assert other.replies() == [b"OK"]
    assert other.transport.is_closed


def test_a_killed_client_that_does_not_read_is_not_waited_for(server: Server, client: Client) -> None:
    other = server.connect()
    other.transport.client_reads = False
    other.ask([b"SET", b"a", b"x" * (2 << 20)], "GET a", "GET a")
    assert other.transport.has_paused_writing
    client.ask(f"CLIENT KILL ID {other.connection.id}")
    assert other.transport.is_closed


def test_in_a_transaction_a_client_is_killed_when_it_is_executed(server: Server, client: Client) -> None:
    other = server.connect()
    client.ask("MULTI", f"CLIENT KILL ID {other.connection.id}")
    assert not other.transport.is_closed
    assert client.ask("EXEC") == [[1]]
    assert other.transport.is_closed


# CLIENT PAUSE


def test_writes_wait_while_they_are_paused(server: Server, client: Client) -> None:
    assert client.ask("CLIENT PAUSE 1000 WRITE") == [b"OK"]
    assert client.ask("GET a", "PING", "MULTI", "GET a", "EXEC") == [None, b"PONG", b"OK", b"QUEUED", [None]]
    other = server.connect()
    assert other.ask("GET a", "SET a 1", "GET a") == [None]
    server.timers.pass_time(0.9)
    server.node.execute_all()
    assert other.replies() == []
    server.timers.pass_time(0.2)
    server.node.execute_all()
    assert other.replies() == [b"OK", b"1"]


def test_a_transaction_that_writes_waits_as_a_whole(server: Server, client: Client) -> None:
    client.ask("CLIENT PAUSE 1000 WRITE")
    assert client.ask("MULTI", "SET a 1", "GET a", "EXEC") == [b"OK", b"QUEUED", b"QUEUED"]
    server.timers.pass_time(1.0)
    server.node.execute_all()
    assert client.replies() == [[b"OK", b"1"]]


def test_everything_waits_while_all_is_paused_but_the_end_of_it(server: Server, client: Client) -> None:
    other = server.connect()
    client.ask("CLIENT PAUSE 1000000")
    assert client.ask("PING") == []
    assert other.ask("CLIENT UNPAUSE", "PING") == [b"OK", b"PONG"]
    assert client.replies() == [b"PONG"]
    assert other.ask("CLIENT UNPAUSE") == [b"OK"]


def test_a_pause_makes_another_no_shorter_and_no_less(server: Server, client: Client) -> None:
    client.ask("CLIENT PAUSE 100 ALL")
    server.state.pause.begin(0.05, only_writes=True)
    assert client.ask("PING") == []
    server.timers.pass_time(0.06)
    assert client.replies() == []
    server.state.pause.begin(1.0, only_writes=True)
    server.timers.pass_time(0.5)
    assert client.replies() == []
    server.timers.pass_time(0.6)
    assert client.replies() == [b"PONG"]


def test_what_waits_in_a_pause_is_bounded(server: Server, client: Client) -> None:
    client.ask("CLIENT PAUSE 1000 WRITE")
    while client.transport.is_read_from:
        client.send([b"SET", b"a", b"x" * 100_000])
    assert len(client.received) < 100
    server.timers.pass_time(1.0)
    server.node.execute_all()
    assert client.transport.is_read_from


def test_a_client_that_goes_during_a_pause_leaves_nothing(server: Server, client: Client) -> None:
    client.ask("CLIENT PAUSE 1000 WRITE")
    other = server.connect()
    other.send("SET a 1")
    other.hang_up()
    server.timers.pass_time(1.0)
    server.node.execute_all()
    assert not server.node.database.keyspaces[0].values
    assert server.state.held_bytes == 0


# CLIENT REPLY


def test_no_replies_come_to_who_wants_none(client: Client) -> None:
    assert client.ask("CLIENT REPLY OFF", "SET a 1", "NOSUCH", "GET a") == []
    assert client.ask("CLIENT REPLY SKIP", "CLIENT REPLY ON", "GET a") == [b"OK", b"1"]


def test_one_reply_is_skipped(client: Client) -> None:
    assert client.ask("CLIENT REPLY SKIP", "SET a 1", "SET b 2", "GET a") == [b"OK", b"1"]
    assert client.ask("PING", "CLIENT REPLY SKIP") == [b"PONG"]
    assert client.ask("PING", "PING") == [b"PONG"]
    assert client.ask("CLIENT REPLY maybe") == ["-ERR syntax error"]


def test_messages_come_to_who_wants_no_replies(server: Server, client: Client) -> None:
    client.ask("SUBSCRIBE news")
    client.connection.is_silent = True
    server.state.subscriptions.publish(Message(b"news", b"x"))
    assert client.replies() == [[b"message", b"news", b"x"]]


def test_reset_has_replies_told_again(client: Client) -> None:
    client.ask("CLIENT REPLY OFF", "CLIENT NO-EVICT ON")
    assert client.ask("RESET", "PING") == [b"RESET", b"PONG"]
    assert not client.connection.no_evict


# Who says nothing


def test_clients_that_say_nothing_are_closed_if_somebody_wants_that(server: Server, client: Client) -> None:
    guard = Guard(server.state)
    waiting, subscriber = server.connect(), server.connect()
    subscriber.ask("SUBSCRIBE news")
    for now in range(1, 20):
        guard.look(float(now))
    assert "idle=18 " in client.ask("CLIENT LIST ID 1")[0].decode()
    assert client.ask("CONFIG SET timeout 10") == [b"OK"]
    waiting.send("SET a 1")
    for now in range(20, 30):
        guard.look(float(now))
        assert not client.transport.is_closed
    guard.look(30.0)
    assert client.transport.is_closed
    assert not waiting.transport.is_closed
    assert not subscriber.transport.is_closed


def test_a_request_that_is_not_whole_does_not_make_a_client_busy(server: Server, client: Client) -> None:
    server.state.settings = server.state.settings.__class__(idle_s_max=10)
    guard = Guard(server.state)
    client.send_bytes(request("SET a 1")[:-3])
    for now in range(1, 13):
        guard.look(float(now))
    assert client.transport.is_closed
