"""A cluster is found at one address, or it is said in words why not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from node.test_node_peers import Station, greeting_from, hello, impostor, in_a_loop, life, ports_of
from processes import free_ports
from sofadb.node import joining as module
from sofadb.node.frames import MEMBERS_BYTES_MAX, PREAMBLE, frame
from sofadb.node.joining import Found, NotFound, find_cluster
from sofadb.node.peers import Myself

NEWCOMER = Myself("", "n4", life("n4", 1), "127.0.0.1:2", "127.0.0.1:3")


@in_a_loop
async def test_any_member_tells_which_cluster_it_is_and_where_all_members_are() -> None:
    ports = ports_of("n1", "n2")
    async with Station(ports, "n1") as n1:
        for cluster in ("", "c"):
            found = await find_cluster(f"127.0.0.1:{n1.port}", replace(NEWCOMER, cluster=cluster))
            assert found == Found("c", n1.peers.members, n1.peers.initial)


@in_a_loop
async def test_another_cluster_than_the_one_it_must_be_is_named() -> None:
    async with Station(ports_of("n1", "n2"), "n1") as n1:
        address = f"127.0.0.1:{n1.port}"
        with pytest.raises(NotFound, match=f"at {address}: it refuses us: this is cluster c, not d"):
            await find_cluster(address, replace(NEWCOMER, cluster="d"))


@in_a_loop
async def test_nobody_there_and_a_host_name_that_is_none() -> None:
    with pytest.raises(NotFound, match=r"Connection refused|Connect call failed"):
        await find_cluster(f"127.0.0.1:{free_ports(1)[0]}", NEWCOMER)
    with pytest.raises(NotFound, match="idna"):
        await find_cluster("a..b:1", NEWCOMER)


def members(data: bytes) -> bytes:
    return hello(greeting_from("n1")) + b"".join(frame([data]))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"-ERR unknown command\r\n", "does not speak SofaDB's protocol"),
        (PREAMBLE + b"".join(frame([b"hello"])), "its greeting cannot be read"),
        (hello(replace(greeting_from("n1"), problem="no room")), "it refuses us: no room"),
        (hello(replace(greeting_from("n4"), life=NEWCOMER.life.id)), "this node itself is there"),
        (members(b"nothing"), "its list of members cannot be read"),
        (members(b"[" * 60_000), "its list of members cannot be read"),
        (members(b'["n1"]'), "its list of members cannot be read"),
        (members(b'[["n1"], {}]'), "names or addresses that cannot be"),
        (members(b'[{"n1": 3}, {}]'), "names or addresses that cannot be"),
        (members(b'[{}, {"n1": "nowhere"}]'), "names or addresses that cannot be"),
        (members(b'[{"n 1": "a:1"}, {}]'), "names or addresses that cannot be"),
        (members(bytes(MEMBERS_BYTES_MAX + 1)), "announced a frame"),
    ],
)
@in_a_loop
async def test_whoever_answers_wrongly_is_no_cluster(answer: bytes, problem: str) -> None:
    (port,) = free_ports(1)
    async with impostor(port, answer):
        with pytest.raises(NotFound, match=problem):
            await find_cluster(f"127.0.0.1:{port}", NEWCOMER)


@pytest.mark.parametrize("said", [b"", hello(greeting_from("n1"))], ids=["nothing", "a greeting only"])
@in_a_loop
async def test_whoever_closes_before_it_has_told_the_members_is_no_cluster(said: bytes) -> None:
    (port,) = free_ports(1)
    async with impostor(port, said) as arrived:
        looking = asyncio.create_task(find_cluster(f"127.0.0.1:{port}", NEWCOMER))
        caller = await arrived.get()
        await caller.receive()
        await caller.close()
        with pytest.raises(NotFound, match="closed the connection before it told who the members are"):
            await looking


@in_a_loop
async def test_whoever_says_nothing_is_waited_for_no_longer_than_a_bound() -> None:
    (port,) = free_ports(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ANSWER_TIMEOUT_S", 0.05)
        async with impostor(port, b""):
            with pytest.raises(NotFound, match=r"no answer within 0\.05 s"):
                await find_cluster(f"127.0.0.1:{port}", NEWCOMER)
