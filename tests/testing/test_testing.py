"""Whole clusters in virtual time, as a user's own tests have them: an ordinary redis-py client talks to production nodes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from sofadb.sim.invariants import Violation
from sofadb.sim.sabotages import applied
from sofadb.testing import SimulatedCluster

Make = Callable[..., SimulatedCluster]


@pytest.mark.parametrize("protocol", [2, 3])
def test_an_ordinary_client_finds_an_ordinary_server(sofadb_cluster: Make, protocol: int) -> None:
    async def story(cluster: SimulatedCluster) -> None:
        client = cluster.client("n1", protocol=protocol, decode_responses=True)
        assert await client.ping()
        assert await client.set("greeting", "hello")
        async with client.pipeline(transaction=True) as pipeline:
            assert await pipeline.append("greeting", " world").get("greeting").execute() == [
                11,
                "hello world",
            ]
        assert await cluster.client("n3", decode_responses=True).get("greeting") == "hello world"
        assert (await client.info("server"))["redis_version"]

    sofadb_cluster().run(story)


def test_ten_minutes_pass_in_no_time(sofadb_cluster: Make) -> None:
    async def story(cluster: SimulatedCluster) -> None:
        client = cluster.client("n2")
        await client.set("session", "x", px=600_000)
        await asyncio.sleep(599)
        assert await client.get("session") == b"x"
        await asyncio.sleep(2)
        assert await client.get("session") is None
        assert await cluster.client("n1").dbsize() == 0

    sofadb_cluster(nodes=3, seed=1).run(story)


def test_a_lock_outlives_the_leader_that_granted_it(sofadb_cluster: Make) -> None:
    async def story(cluster: SimulatedCluster) -> None:
        leader = cluster.leader
        other = next(node for node in cluster.nodes if node != leader)
        assert await cluster.client(leader).set("lock", "mine", nx=True, px=60_000)
        cluster.crash(leader)
        assert await cluster.client(other).set("lock", "yours", nx=True, px=60_000) is None
        assert await cluster.client(other).get("lock") == b"mine"
        cluster.start(leader)

    cluster = sofadb_cluster(nodes=3, seed=2)
    cluster.run(story)
    cluster.assert_nothing_was_lost()


def test_failover_is_a_pause_for_a_client_of_another_node(sofadb_cluster: Make) -> None:
    async def story(cluster: SimulatedCluster) -> float:
        leader = cluster.leader
        client = cluster.client(next(node for node in cluster.nodes if node != leader))
        await client.incr("n")
        cluster.crash(leader)
        began = cluster.now
        assert await client.incr("n") == 2
        return cluster.now - began

    assert 0.1 < sofadb_cluster(seed=3).run(story) < 2.0


@pytest.mark.parametrize("stops", ["the leader", "a follower"])
def test_a_node_that_is_told_to_stop_answers_hands_over_and_is_gone(sofadb_cluster: Make, stops: str) -> None:
    async def story(cluster: SimulatedCluster) -> float:
        leader = cluster.leader
        first, second = (node for node in cluster.nodes if node != leader)
        stopped, other = (leader, first) if stops == "the leader" else (first, second)
        theirs, ours = cluster.client(stopped), cluster.client(other)
        await theirs.incr("n")
        await ours.incr("n")
        asked = [asyncio.ensure_future(client.incr("n")) for client in (theirs, ours)]
        await asyncio.sleep(0.0015)
        began = cluster.now
        cluster.stop(stopped)
        assert sorted(await asyncio.gather(*asked)) == [3, 4]
        assert await ours.incr("n") == 5
        pause = cluster.now - began
        assert cluster.leader not in ("", stopped)
        while stopped in cluster.running:
            await asyncio.sleep(0.01)
        with pytest.raises(exceptions.ConnectionError):
            await theirs.incr("n")
        cluster.start(stopped)
        return pause

    cluster = sofadb_cluster(seed=14)
    assert cluster.run(story) < 0.1
    cluster.assert_nothing_was_lost()


def test_histories_under_crashes_pauses_and_cuts_are_linearizable(sofadb_cluster: Make) -> None:
    cluster = sofadb_cluster(nodes=5, seed=4)
    chance = random.Random(4)

    async def work(number: int) -> int:
        recorder = cluster.recorder(f"n{number}", number)
        answered = 0
        while cluster.now < 15:
            key = chance.choice("ab")
            ask = chance.choice(("get", "append", "incr"))
            try:
                if ask == "get":
                    await recorder.get(key)
                elif ask == "append":
                    await recorder.append(key, f"{number},")
                else:
                    await recorder.incr("n")
                answered += 1
            except exceptions.RedisError:
                await asyncio.sleep(0.2)
            await asyncio.sleep(chance.expovariate(20))
        return answered

    async def story(cluster: SimulatedCluster) -> list[int]:
        return await asyncio.gather(*(work(number) for number in range(1, 6)))

    cluster.at(2, lambda: cluster.crash(cluster.leader or "n1"))
    cluster.at(4, lambda: [cluster.start(node) for node in cluster.nodes if node not in cluster.running])
    cluster.at(5, lambda: cluster.pause(cluster.leader or "n1", 1.0))
    cluster.at(8, lambda: cluster.isolate(cluster.leader or "n1"))
    cluster.at(11, cluster.heal)
    answered = cluster.run(story)
    assert sum(answered) > 500
    assert all(answered)
    cluster.assert_nothing_was_lost()
    cluster.assert_linearizable()
    assert any(each.end is None for each in cluster.history), (
        "some outcome should be unknown, or this shows little"
    )


def test_default_redis_py_may_count_more_than_once_when_its_node_dies(sofadb_cluster: Make) -> None:
    """It retries by itself, and cannot know whether the first try took effect (that is what no server can mend)."""

    async def story(cluster: SimulatedCluster) -> int:
        node = next(node for node in cluster.nodes if node != cluster.leader)
        client = cluster.client(
            node, retry=Retry(ConstantBackoff(0.02), 20), retry_on_error=[exceptions.ConnectionError]
        )
        await client.incr("n")
        # The node dies after the others have the command, and before it can answer.
        counts = []
        for _ in range(30):
            task = asyncio.ensure_future(client.incr("n"))
            await asyncio.sleep(0.0025)
            cluster.crash(node)
            await asyncio.sleep(0.05)
            cluster.start(node)
            counts.append(await task)
        return counts[-1]

    assert sofadb_cluster(seed=5).run(story) > 31


def test_with_an_id_it_counts_once_however_often_redis_py_retries(sofadb_cluster: Make) -> None:
    async def story(cluster: SimulatedCluster) -> list[int]:
        node = next(node for node in cluster.nodes if node != cluster.leader)
        client = cluster.client(
            node, retry=Retry(ConstantBackoff(0.02), 20), retry_on_error=[exceptions.ConnectionError]
        )
        await client.incr("n")
        counts = []
        for number in range(30):
            task = asyncio.ensure_future(client.execute_command("SOFA.ONCE", f"id{number}", "INCR", "n"))
            await asyncio.sleep(0.0025)
            cluster.crash(node)
            await asyncio.sleep(0.05)
            cluster.start(node)
            counts.append(await task)
        return counts

    assert sofadb_cluster(seed=5).run(story) == list(range(2, 32))


def test_watch_sees_what_others_do(sofadb_cluster: Make) -> None:
    async def story(cluster: SimulatedCluster) -> None:
        ours, theirs = cluster.client("n1"), cluster.client("n2")
        async with ours.pipeline() as pipeline:
            await pipeline.watch("a")
            await theirs.set("a", "theirs")
            pipeline.multi()
            pipeline.set("a", "ours")
            with pytest.raises(exceptions.WatchError):
                await pipeline.execute()
        assert await ours.get("a") == b"theirs"

    sofadb_cluster(seed=6).run(story)


def test_power_is_lost_everywhere_and_nothing_that_was_acknowledged(sofadb_cluster: Make) -> None:
    cluster = sofadb_cluster(seed=7)

    async def before(cluster: SimulatedCluster) -> None:
        for number in range(50):
            await cluster.client("n1").set(f"key:{number}", number)

    async def after(cluster: SimulatedCluster) -> list[bytes]:
        return await cluster.client("n2").mget([f"key:{number}" for number in range(50)])

    cluster.run(before)
    for node in cluster.nodes:
        cluster.power_off(node)
    for node in cluster.nodes:
        cluster.start(node)
    assert cluster.run(after) == [b"%d" % number for number in range(50)]
    cluster.assert_nothing_was_lost()


def test_a_minority_refuses_with_certainty_and_the_majority_goes_on(sofadb_cluster: Make) -> None:
    async def story(cluster: SimulatedCluster) -> None:
        leader = cluster.leader
        others = [node for node in cluster.nodes if node != leader]
        cluster.isolate(leader)
        with pytest.raises(exceptions.ResponseError, match=r"^(NOREPLICAS|UNCERTAIN)"):
            await cluster.client(leader, socket_timeout=30).set("a", 1)
        assert await cluster.client(others[0]).set("b", 2)
        cluster.heal()
        assert await cluster.client(leader, socket_timeout=30).get("b") == b"2"

    sofadb_cluster(seed=8).run(story)


def test_the_same_seed_gives_the_same_run(sofadb_cluster: Make) -> None:
    async def story(cluster: SimulatedCluster) -> None:
        for number in range(20):
            await cluster.client("n1").set("a", number)
        cluster.crash(cluster.leader)
        await cluster.client(cluster.running[0]).incr("n")

    traces = []
    for seed in (9, 9, 10):
        cluster = sofadb_cluster(seed=seed)
        cluster.run(story)
        traces.append((cluster.now, cluster._cluster.watch.trace))
    assert traces[0] == traces[1] != traces[2]


def test_a_broken_database_fails_the_users_test(sofadb_cluster: Make) -> None:
    async def story(cluster: SimulatedCluster) -> None:
        for number in range(20):
            await cluster.client("n1").set("a", number)

    with applied("applied-before-it-is-chosen"), pytest.raises(Violation, match="applied_is_chosen"):
        sofadb_cluster(seed=11).run(story)


def test_what_never_ends_is_told(sofadb_cluster: Make) -> None:
    async def story(cluster: SimulatedCluster) -> None:
        await asyncio.sleep(100)

    with pytest.raises(TimeoutError):
        sofadb_cluster(seed=12).run(story, within_s=50)


def test_a_client_is_no_more_than_redis_pys_own(sofadb_cluster: Make) -> None:
    assert isinstance(sofadb_cluster(seed=13).client("n1"), redis.asyncio.Redis)
