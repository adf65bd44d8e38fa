"""CONFIG SET maxmemory: what may make the data grow is refused before it is proposed, as by a Redis that evicts nothing."""

from __future__ import annotations

import pytest

from server.server_fakes import Client, Server
from sofadb.server import memory

OOM = "-OOM command not allowed when used memory > 'maxmemory'."
OOM_SCRIPT = "-OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'"
ABORTED = "-EXECABORT Transaction discarded because of previous errors."


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What this process has in memory."""
    amount = [500]
    monkeypatch.setattr(memory, "resident_bytes", lambda: amount[0])
    return amount


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


def test_with_too_much_in_memory_what_may_make_it_more_is_refused(client: Client, used: list[int]) -> None:
    assert client.ask("SET a 1", "CONFIG SET maxmemory 1000", "SET a 2") == [b"OK"] * 3
    assert client.ask("CONFIG SET maxmemory 100", "CONFIG GET maxmemory") == [b"OK", [b"maxmemory", b"100"]]
    refused = ["SET a 3", "LPUSH l x", "SETRANGE a 99 x", "SOFA.ONCE id SET a 3", "BLMOVE l m LEFT LEFT 0"]
    assert client.ask(*refused) == [OOM] * len(refused)
    assert not client.node.works, "nothing was proposed"
    assert client.ask("GET a", "DEL b", "EXPIRE a 100", "PUBLISH c x") == [b"2", 0, 1, 0]
    client.ask("CONFIG SET maxmemory 0")
    assert client.ask("SET a 4") == [b"OK"]
    assert client.node.replica.digest() == client.node.database.digest()


def test_it_is_looked_at_now_and_then(server: Server, client: Client, used: list[int]) -> None:
    client.ask("CONFIG SET maxmemory 1kb")
    used[0] = 2000
    server.state.memory.look()
    assert client.ask("APPEND a x") == [OOM]
    used[0] = 900
    server.state.memory.look()
    assert client.ask("APPEND a x") == [1]


def test_a_node_whose_leader_has_no_memory_refuses_the_same(server: Server, client: Client) -> None:
    server.state.is_leader_full = lambda: True
    server.state.memory.look()
    assert client.ask("SET a 1", "DEL a") == [OOM, 0]
    assert not server.state.memory.is_above


def test_transactions_are_refused_as_a_whole(client: Client, used: list[int]) -> None:
    client.ask("MULTI", "DEL b", "SET a 1", "CONFIG SET maxmemory 100")
    assert client.ask("EXEC", "MULTI", "SET a 1", "DEL b", "EXEC")[1:] == [b"OK", OOM, b"QUEUED", ABORTED]
    assert client.ask("MULTI", "DEL b", "GET a", "EXEC") == [b"OK", b"QUEUED", b"QUEUED", [0, b"1"]]


def test_what_was_queued_before_is_refused_then(server: Server, client: Client, used: list[int]) -> None:
    client.ask("MULTI", "DEL b", "SET a 1")
    server.connect().ask("CONFIG SET maxmemory 100")
    told = f"-EXECABORT Transaction discarded because of: {OOM[1:]}"
    assert client.ask("EXEC", "GET a") == [told, None]


def test_scripts_are_run_that_say_that_they_may_be(client: Client, used: list[int]) -> None:
    sha = client.ask([b"SCRIPT", b"LOAD", b"return 1"])[0]
    client.ask("CONFIG SET maxmemory 100")

    def eval_(script: bytes) -> object:
        (reply,) = client.ask([b"EVAL", script, b"0"])
        return reply

    assert eval_(b"return 1") == OOM_SCRIPT
    assert eval_(b"#!lua\nreturn 1") == OOM_SCRIPT
    assert client.ask([b"EVALSHA", sha, b"0"]) == [OOM_SCRIPT]
    assert eval_(b"#!lua flags=allow-oom\nreturn 1") == 1
    assert eval_(b"#!lua flags=no-writes\nreturn 1") == 1
    assert "shebang" in str(eval_(b"#!lua flags=nosuch\nreturn 1"))
    assert "NOSCRIPT" in str(client.ask([b"EVALSHA", b"0" * 40, b"0"]))
    assert client.ask([b"EVAL_RO", b"return 1", b"0"]) == [1]


def test_info_tells_of_it(client: Client) -> None:
    client.ask("CONFIG SET maxmemory 64gb")
    (text,) = client.ask("INFO memory")
    for line in (b"maxmemory:68719476736", b"maxmemory_human:64.00G", b"maxmemory_policy:noeviction"):
        assert line in text.splitlines()


def test_this_process_has_something_in_memory() -> None:
    assert 1 << 20 < memory.resident_bytes() <= memory.system_bytes()
