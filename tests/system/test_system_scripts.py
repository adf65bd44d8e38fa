"""Scripts on three real processes, asked by a real client: known on every node, alike everywhere, and there after a restart."""

from __future__ import annotations

import pytest
import redis

from processes import Cluster


def client(cluster: Cluster, name: str) -> redis.Redis:
    cluster.client(name).close()
    return redis.Redis(port=cluster.ports[name])


def test_scripts_and_locks_of_a_real_client_work_on_every_node(three: Cluster) -> None:
    first, second, third = (client(three, name) for name in three.names)
    add = first.register_script("return redis.call('incrby', KEYS[1], ARGV[1]) + 0.9")
    assert add(keys=["n"], args=[5]) == 5
    assert second.evalsha(add.sha, 1, "n", 2) == 7
    assert third.evalsha(add.sha, 1, "n", 1) == 8
    assert third.script_exists(add.sha) == [True]
    with second.lock("a lock", timeout=60) as lock:
        assert not third.lock("a lock", blocking=False).acquire()
        assert lock.extend(60)
    assert third.get("a lock") is None
    with first.pipeline() as pipeline:
        pipeline.eval("redis.call('set', 'p', ARGV[1])", 0, "x").get("p").eval("return {1, {2, 'a'}}", 0)
        assert pipeline.execute() == [None, b"x", [1, [2, b"a"]]]


def test_a_script_that_runs_away_stops_and_has_not_been(three: Cluster) -> None:
    clients = [client(three, name) for name in three.names]
    leader = three.leader()
    for each in clients:
        for _ in range(3):
            with pytest.raises(redis.ResponseError, match=r"was stopped|BUSY"):
                each.eval("redis.call('set', 'k', 'v') while true do end", 0)
    assert [each.get("k") for each in clients] == [None] * 3
    assert three.leader() == leader


def test_scripts_are_known_after_a_restart(three: Cluster) -> None:
    before = client(three, "n1")
    sha = before.script_load("return {redis.call('incr', KEYS[1]), math.random(1000000)}")
    seen = [before.evalsha(sha, 1, "k") for _ in range(3)]
    assert len({number for _, number in seen}) > 1
    three.kill(*three.names)
    three.start(*three.names)
    three.leader()
    for number, name in enumerate(three.names):
        assert client(three, name).evalsha(sha, 1, "k")[0] == 4 + number
