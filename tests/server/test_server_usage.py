"""What is told of what commands have cost: SLOWLOG, LATENCY, INFO."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from server.server_fakes import Client, Server
from sofadb.database.replies import ReplyError
from sofadb.server.usage import ERRORS_MAX, Spikes, Usage, words_of


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


def info(client: Client, section: str) -> dict[str, str]:
    (text,) = client.ask(f"INFO {section}")
    return dict(line.split(":", 1) for line in text.decode().split("\r\n") if ":" in line)


def calls(*commands: str) -> list[Any]:
    return [(None, command.encode().split()) for command in commands]


# INFO


def test_commands_are_counted_by_name_whatever_their_spelling(client: Client) -> None:
    client.ask("CONFIG RESETSTAT")
    client.ask(
        "SET a 1", "set a x", "INCR a", "Get a", "GET", "CLIENT ID", "client id", "CLIENT nosuch", "SELECT 1"
    )
    stats = info(client, "commandstats")
    told = {
        name.removeprefix("cmdstat_"): dict(pair.split("=") for pair in text.split(","))
        for name, text in stats.items()
    }
    assert {
        name: (int(it["calls"]), int(it["rejected_calls"]), int(it["failed_calls"]))
        for name, it in told.items()
    } == {
        "config|resetstat": (1, 0, 0),
        "set": (2, 0, 0),
        "incr": (1, 0, 1),
        "get": (1, 1, 0),
        "client|id": (2, 0, 0),
        "select": (1, 0, 0),
    }


def test_what_a_transaction_does_is_counted_when_it_is_done(client: Client) -> None:
    client.ask("MULTI", "SET a 1", "INCR a", "DISCARD")
    client.ask("MULTI", "SET a x", "INCR a", "EXEC")
    stats = {name: text.split(",")[0] for name, text in info(client, "commandstats").items()}
    assert stats == {
        "cmdstat_multi": "calls=2",
        "cmdstat_discard": "calls=1",
        "cmdstat_exec": "calls=1",
        "cmdstat_set": "calls=1",
        "cmdstat_incr": "calls=1",
    }
    assert info(client, "errorstats") == {"errorstat_ERR": "count=1"}


def test_errors_are_counted_by_their_first_words(server: Server, client: Client) -> None:
    client.ask("NOSUCH", "EXEC", "SELECT x", "MULTI", "NOSUCH", "EXEC", "SET a x", "INCR a")
    client.send("SET a 1", "GET a", "INCR a")
    server.node.fail(server.node.works[0], "NOREPLICAS not now")
    client.replies()
    assert info(client, "errorstats") == {
        "errorstat_ERR": "count=5",
        "errorstat_EXECABORT": "count=1",
        "errorstat_NOREPLICAS": "count=3",
    }
    assert info(client, "stats")["total_error_replies"] == "9"
    assert client.ask("CONFIG RESETSTAT") == [b"OK"]
    assert info(client, "errorstats") == {}
    assert info(client, "stats")["total_error_replies"] == "0"


def test_kinds_of_errors_are_bounded() -> None:
    usage = Usage()
    for number in range(2 * ERRORS_MAX):
        usage.note(calls("GET a"), [ReplyError(f"KIND{number} x")], 1.0)
    assert len(usage.errors) == ERRORS_MAX + 1
    assert usage.errors["other"] == ERRORS_MAX
    assert usage.error_replies == 2 * ERRORS_MAX


def test_the_time_of_a_run_counts_in_equal_parts() -> None:
    usage = Usage()
    usage.note(calls("GET a", "GET b", "SET a 1", "GET c"), [None] * 4, 40.0)
    usage.note(calls("GET a"), [None], 3.0)
    assert (usage.figures["get"].calls, usage.figures["get"].usec) == (4, 33.0)
    assert (usage.figures["set"].calls, usage.figures["set"].usec) == (1, 10.0)
    assert [usage.figures["get"].percentile(share) for share in (0.25, 0.5, 0.999)] == [4.0, 16.0, 16.0]


# SLOWLOG


def slow(client: Client) -> list[Any]:
    return client.ask("SLOWLOG GET -1")[0]


def test_slow_commands_are_told_the_latest_first(server: Server, client: Client) -> None:
    client.ask("CONFIG SET slowlog-log-slower-than 0", "CLIENT SETNAME me")
    client.ask("SLOWLOG RESET")
    client.ask("SET a 1")
    client.ask("GET a", "GET b", "GET c")
    client.ask("CONFIG SET slowlog-log-slower-than -1")
    client.ask("GET d")
    told = slow(client)
    assert [entry[3] for entry in told[-3:]] == [
        [b"GET", b"a", b"... (2 more commands)"],
        [b"SET", b"a", b"1"],
        [b"SLOWLOG", b"RESET"],
    ]
    assert [entry[0] for entry in told] == list(range(told[0][0], told[-1][0] - 1, -1))
    number, at, usec, _, address, name = told[-2]
    assert (type(number), type(at), type(usec), address, name) == (int, int, int, b"127.0.0.1:50001", b"me")
    assert client.ask("SLOWLOG GET 2", "SLOWLOG LEN") == [told[:2], len(told)]
    assert client.ask("SLOWLOG RESET", "SLOWLOG LEN", "SLOWLOG GET") == [b"OK", 0, []]


def test_so_many_slow_commands_are_kept(client: Client) -> None:
    client.ask("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 3")
    for number in range(10):
        client.ask(f"GET {number}")
    assert [entry[3] for entry in slow(client)] == [[b"GET", b"9"], [b"GET", b"8"], [b"GET", b"7"]]
    client.ask("CONFIG SET slowlog-max-len 1")
    assert client.ask("SLOWLOG LEN") == [1]
    client.ask("CONFIG SET slowlog-max-len 0")
    assert client.ask("SLOWLOG LEN") == [0]


def test_a_transaction_is_told_as_one(client: Client) -> None:
    client.ask("MULTI", "SET a 1", "GET a")
    client.connection.state.settings = client.connection.state.settings.__class__(slow_us=0)
    client.ask("EXEC")
    assert slow(client)[0][3] == [b"EXEC", b"... (2 more commands)"]


def test_of_long_commands_the_beginning_is_kept() -> None:
    many = [b"MGET", *(b"%d" % number for number in range(100))]
    assert words_of([(None, many)]) == (*many[:31], b"... (70 more arguments)")  # type: ignore[list-item]
    assert words_of(calls("SET a " + "x" * 200)) == (b"SET", b"a", b"x" * 128 + b"... (72 more bytes)")


def test_passwords_are_not_told() -> None:
    assert words_of(calls("auth me secret")) == (b"auth", b"(redacted)")
    assert words_of(calls("HELLO 3 AUTH me secret", "GET a")) == (
        b"HELLO",
        b"(redacted)",
        b"... (1 more commands)",
    )


def test_the_time_of_the_execution_is_what_counts(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.ask("CONFIG SET latency-monitor-threshold 5")
    clock = itertools.count(0.0, 1 / 32)
    for module in ("work", "short_way"):
        monkeypatch.setattr(f"sofadb.server.{module}.perf_counter", lambda: next(clock))
    client.ask("GET a")
    client.ask("PING")
    monkeypatch.undo()
    assert [(entry[2], entry[3]) for entry in slow(client)] == [(31_250, [b"PING"]), (31_250, [b"GET", b"a"])]
    (told,) = client.ask("LATENCY LATEST")
    assert [(event, ms, longest) for event, _, ms, longest in told] == [(b"command", 31, 31)]
    assert info(client, "commandstats")["cmdstat_get"].startswith(
        "calls=1,usec=31250,usec_per_call=31250.00,"
    )


# LATENCY


def test_spikes_are_told_once_somebody_looks_for_them(server: Server, client: Client) -> None:
    assert client.ask("LATENCY LATEST", "LATENCY HISTORY command", "LATENCY RESET") == [[], [], 0]
    spikes = server.state.usage.spikes[b"command"] = Spikes()
    for at, ms in ((100, 7), (100, 30), (100, 9), (101, 12)):
        spikes.add(at, ms)
    assert client.ask("LATENCY LATEST") == [[[b"command", 101, 12, 30]]]
    assert client.ask("LATENCY HISTORY Command") == [[[100, 30], [101, 12]]]
    assert b"2 spikes, 12 to 30 ms" in client.ask("LATENCY GRAPH command")[0]
    client.ask("CONFIG SET latency-monitor-threshold 1000000")
    assert b"2 spikes" in client.ask("LATENCY DOCTOR")[0]
    assert client.ask("LATENCY RESET nosuch command", "LATENCY LATEST") == [1, []]
    assert client.ask("LATENCY GRAPH command") == ["-ERR No samples available for event 'command'"]


def test_histograms_add_up(client: Client) -> None:
    client.ask("HELLO 3")
    client.ask("SET a 1", "GET a", "GET b", "CLIENT ID", "CLIENT GETNAME")
    (told,) = client.ask("LATENCY HISTOGRAM get set nosuch del client")
    assert [(name, it[b"calls"]) for name, it in told.items()] == [
        (b"get", 2),
        (b"set", 1),
        (b"client|id", 1),
        (b"client|getname", 1),
    ]
    for it in told.values():
        counts = list(it[b"histogram_usec"].values())
        assert counts == sorted(counts)
        assert counts[-1] == it[b"calls"]
    assert {b"hello", b"get", b"latency|histogram"} <= set(client.ask("LATENCY HISTOGRAM")[0])
