"""MONITOR: who watches is told what is asked, in a line for each command, and nothing that is secret."""

from __future__ import annotations

import re

import pytest

from server.server_fakes import Client, Server

LINE = re.compile(rb'^\d+\.\d{6} \[(\d+) ([\d.]+:\d+)\] (".*")$')


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


@pytest.fixture
def monitor(server: Server) -> Client:
    monitor = server.connect()
    assert monitor.ask("MONITOR") == [b"OK"]
    return monitor


def seen(monitor: Client) -> list[tuple[bytes, bytes]]:
    """Databases and words of what was told."""
    matches = [LINE.match(line) for line in monitor.replies()]
    assert all(matches)
    return [(match[1], match[3]) for match in matches if match]


def test_what_others_ask_is_told_in_its_order(client: Client, monitor: Client) -> None:
    client.ask("SET k v", "GET k")
    client.ask("SELECT 3")
    client.ask([b"ECHO", b'\x00"\\\n\xff'])
    assert seen(monitor) == [
        (b"0", b'"SET" "k" "v"'),
        (b"0", b'"GET" "k"'),
        (b"0", b'"SELECT" "3"'),
        (b"3", b'"ECHO" "\\x00\\"\\\\\\n\\xff"'),
    ]


def test_a_transaction_is_told_as_it_comes(client: Client, monitor: Client) -> None:
    client.ask("MULTI", "SET k v", "EXEC")
    assert [words for _, words in seen(monitor)] == [b'"MULTI"', b'"SET" "k" "v"', b'"EXEC"']


def test_what_is_refused_or_administers_is_not_told(client: Client, monitor: Client) -> None:
    client.ask("NONSENSE")
    client.ask("GET")
    client.ask("CONFIG GET maxmemory")
    assert seen(monitor) == []


def test_passwords_are_not_told(client: Client, monitor: Client) -> None:
    client.ask("AUTH default secret")
    client.ask("HELLO 3 AUTH default secret")
    assert [words for _, words in seen(monitor)] == [
        b'"AUTH" "(redacted)" "(redacted)"',
        b'"HELLO" "3" "(redacted)" "(redacted)" "(redacted)"',
    ]


def test_whoever_resets_or_leaves_watches_no_more(server: Server, client: Client, monitor: Client) -> None:
    monitor.ask("RESET")
    client.ask("PING")
    assert monitor.replies() == []
    assert not server.state.monitors
    monitor.ask("MONITOR")
    monitor.connection.connection_lost(None)
    assert not server.state.monitors


def test_within_multi_nobody_begins_to_watch(server: Server, client: Client) -> None:
    client.ask("MULTI")
    (reply,) = client.ask("MONITOR")
    assert str(reply).startswith("-ERR MONITOR")
    assert not server.state.monitors
