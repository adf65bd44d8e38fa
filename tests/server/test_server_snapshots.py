"""Snapshots for clients: which is the newest, a fresh one, and the bytes of one, read while others are served."""

from __future__ import annotations

import asyncio

import pytest

from server.server_fakes import Client, Server
from sofadb.database.replies import ReplyError

SALT = "00000000000000ff"


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


def test_the_newest_snapshot_is_told_if_there_is_any(server: Server, client: Client) -> None:
    assert client.ask("SOFA.SNAPSHOT") == [None]
    server.state.newest_snapshot = lambda: (7, 255, 4096, b"\x01" * 32)
    assert client.ask("SOFA.SNAPSHOT") == [[7, SALT.encode(), 4096, b"01" * 32]]


def test_a_fresh_one_is_begun_when_this_state_holds_all_that_was_acknowledged(
    server: Server, client: Client
) -> None:
    wanted: list[int] = []
    server.state.want_snapshot = lambda: wanted.append(server.node.applied)
    client.send("SOFA.SNAPSHOT FRESH", "PING")
    (read,) = server.node.works
    assert (wanted, client.replies()) == ([], [])
    other = server.connect()
    other.send("SET k v")
    server.node.execute(server.node.works[1])
    server.node.execute(read)
    assert (wanted, client.replies()) == ([1], [1, b"PONG"])
    client.send("SOFA.SNAPSHOT fresh")
    server.node.fail(server.node.works[0], "NOREPLICAS")
    assert (wanted, client.replies()) == ([1], ["-NOREPLICAS"])


def test_a_part_comes_in_its_turn_and_others_are_served_meanwhile(server: Server, client: Client) -> None:
    async def story() -> None:
        read = asyncio.Event()

        async def part(instance: int, salt: int, offset: int, size: int) -> bytes:
            assert (instance, salt, offset, size) == (7, 255, 0, 100)
            await read.wait()
            return b"\x00\xff raw"

        server.state.snapshot_part = part
        client.send(f"SOFA.SNAPSHOTPART 7 {SALT} 0 100", "PING")
        await asyncio.sleep(0)
        assert client.replies() == []
        assert server.connect().ask("PING") == [b"PONG"]
        read.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert client.replies() == [b"\x00\xff raw", b"PONG"]

    asyncio.run(story())


def test_a_part_that_cannot_be_had_is_an_error_and_a_client_that_leaves_is_none(
    server: Server, client: Client
) -> None:
    async def story() -> None:
        async def part(instance: int, salt: int, offset: int, size: int) -> bytes:
            raise ReplyError("ERR gone")

        server.state.snapshot_part = part
        leaver = server.connect()
        for each in (client, leaver):
            each.send(f"SOFA.SNAPSHOTPART 7 {SALT} 0 100")
        leaver.hang_up()
        for _ in range(5):
            await asyncio.sleep(0)
        assert client.replies() == ["-ERR gone"]
        assert (server.state.begun_commands, server.state.begun_bytes) == (0, 0)

    asyncio.run(story())


@pytest.mark.parametrize(
    "words",
    [
        "SOFA.SNAPSHOT STALE",
        "SOFA.SNAPSHOT FRESH 1",
        f"SOFA.SNAPSHOTPART -1 {SALT} 0 1",
        f"SOFA.SNAPSHOTPART 1 {SALT[1:]} 0 1",
        f"SOFA.SNAPSHOTPART 1 {SALT} -1 1",
        f"SOFA.SNAPSHOTPART 1 {SALT} 0 0",
        f"SOFA.SNAPSHOTPART 1 {SALT} 0 1048577",
    ],
)
def test_what_makes_no_sense_is_refused(client: Client, words: str) -> None:
    (reply,) = client.ask(words)
    assert reply.startswith("-ERR")


def test_snapshots_are_not_for_transactions(client: Client) -> None:
    replies = client.ask("MULTI", "SOFA.SNAPSHOT FRESH", f"SOFA.SNAPSHOTPART 1 {SALT} 0 1", "DISCARD")
    assert replies[1] == replies[2] == "-ERR Command not allowed inside a transaction"
