"""FAILOVER: what it asks of the node, and what it answers to whom it cannot help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.server_fakes import Client, Server, facts_of


@pytest.fixture
def server() -> Server:
    """n1 leads and is asked. It hands over to whomever it is told to, and if to nobody, to n2."""
    server = Server()

    def hand_over(to: str | None, within_ms: float) -> None:
        server.node.handed_over.append((to, within_ms))
        server.facts = replace(server.facts, successor=to or "n2")

    server.node.hand_over = hand_over  # type: ignore[method-assign]
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


@pytest.mark.parametrize(
    ("command", "to", "within_ms"),
    [
        ("FAILOVER", None, 10_000),
        ("FAILOVER TIMEOUT 500", None, 500),
        ("FAILOVER TO 10.0.0.3 6381", "n3", 10_000),
        ("failover timeout 700 to 10.0.0.2 6380", "n2", 700),
        ("FAILOVER TIMEOUT 99999999999", None, 3_600_000),
    ],
)
def test_it_is_begun_and_answered_at_once(
    server: Server, client: Client, command: str, to: str | None, within_ms: int
) -> None:
    assert client.ask(command) == [b"OK"]
    assert server.node.handed_over == [(to, within_ms)]
    (info,) = client.ask("INFO replication")
    assert b"master_failover_state:waiting-for-sync" in info


def test_it_can_be_called_off_once(server: Server, client: Client) -> None:
    assert client.ask("FAILOVER ABORT") == ["-ERR No failover in progress."]
    client.ask("FAILOVER")
    assert client.ask("FAILOVER") == ["-ERR FAILOVER already in progress."]
    assert client.ask("FAILOVER ABORT") == [b"OK"]
    assert server.node.handed_over == [(None, 10_000), None]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("FAILOVER TO 10.0.0.9 6381", "ERR FAILOVER target HOST and PORT is not a replica."),
        ("FAILOVER TO 10.0.0.1 6379", "ERR FAILOVER target HOST and PORT is not a replica."),
        ("FAILOVER TO 10.0.0.3 port", "ERR value is not an integer or out of range"),
        ("FAILOVER TO 10.0.0.3", "ERR syntax error"),
        ("FAILOVER TIMEOUT 0", "ERR FAILOVER timeout must be greater than 0"),
        ("FAILOVER TIMEOUT", "ERR syntax error"),
        ("FAILOVER ABORT TIMEOUT 5", "ERR syntax error"),
        ("FAILOVER NOW", "ERR syntax error"),
        (
            "FAILOVER TO 10.0.0.3 6381 FORCE TIMEOUT 5",
            "ERR FAILOVER knows no FORCE: a node that lacks something never leads",
        ),
    ],
)
def test_what_cannot_be_asked_is_said_and_changes_nothing(
    server: Server, client: Client, command: str, problem: str
) -> None:
    assert client.ask(command) == [f"-{problem}"]
    assert server.node.handed_over == []


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("FAILOVER", "ERR FAILOVER requires connected replicas."),
        ("FAILOVER TO 10.0.0.3 6381", "ERR FAILOVER target replica is not online."),
    ],
)
def test_if_nobody_can_take_over_it_says_so(command: str, problem: str) -> None:
    assert Server().connect().ask(command) == [f"-{problem}"]


def test_those_who_follow_name_the_leader() -> None:
    (problem,) = Server(facts=facts_of("following")).connect().ask("FAILOVER")
    assert problem == "-ERR FAILOVER is not valid when server is a replica. The master is 10.0.0.1:6379."
    (problem,) = Server(facts=facts_of("following", "")).connect().ask("FAILOVER")
    assert problem == "-ERR FAILOVER is not valid when server is a replica."
