"""A client library that knows Redis Sentinel finds the leader, and the next one, without being told anything new."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import TimeoutError as Late
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from processes import PATIENCE_S, Cluster, wait_until


def patiently(do: Callable[[], Any]) -> Any:
    """Do it again while nobody is found. (The library would, too, but with pauses of seconds.)"""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return do()
        except (Lost, Late, MasterNotFoundError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_finds_the_leader_and_goes_on_with_the_next(three: Cluster, protocol: int) -> None:
    addresses = [("127.0.0.1", port) for port in three.ports.values()]
    options = {"protocol": protocol, "socket_timeout": 5, "retry": Retry(NoBackoff(), 0)}
    sentinel = Sentinel(addresses, min_other_sentinels=2, sentinel_kwargs=options)
    first = three.leader()
    address = ("127.0.0.1", three.ports[first])
    assert patiently(lambda: sentinel.discover_master("sofadb")) == address
    others = set(addresses) - {address}
    wait_until(lambda: set(sentinel.discover_slaves("sofadb")) == others, "all members reach one another")
    with pytest.raises(MasterNotFoundError):
        sentinel.discover_master("another")

    master = sentinel.master_for("sofadb", **options)
    replica = sentinel.slave_for("sofadb", **options)
    assert master.set("before", "1")
    assert master.role()[0] == b"master"
    assert master.info("replication")["role"] == "master"
    assert replica.get("before") == b"1"
    assert replica.role()[0] == b"slave"

    follower = next(name for name in three.names if name != first)
    listener = three.client(follower)
    assert listener("SUBSCRIBE", "+switch-master") == [b"subscribe", b"+switch-master", 1]
    three.kill(first)
    assert patiently(lambda: master.set("after", "2"))
    assert patiently(lambda: replica.get("after")) == b"2"
    second = three.leader()
    assert second != first
    assert sentinel.discover_master("sofadb") == ("127.0.0.1", three.ports[second])
    assert master.role()[0] == b"master"
    text = f"sofadb 127.0.0.1 {three.ports[first]} 127.0.0.1 {three.ports[second]}"
    assert listener.receive() == [b"message", b"+switch-master", text.encode()]

    for each in (master, replica, *sentinel.sentinels):
        each.close()
    three.start(first)
    three.leader()
