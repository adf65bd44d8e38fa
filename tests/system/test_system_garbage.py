"""What nodes do for clients and for each other leaves no cycles behind, which nobody would find later (`node/collector.py`)."""

from __future__ import annotations

import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import uncollected

from processes import Client, Cluster, wait_until


class Uncollected(Cluster):
    """Nodes whose collector is off."""

    def command(self, name: str) -> list[str]:
        _, _, _, *options = super().command(name)
        return [sys.executable, uncollected.__file__, *options]

    def garbage(self, name: str) -> dict[str, int]:
        """What it would have found since this was last asked."""
        before = self.log(name).count(uncollected.REPORT)
        self.signal(name, signal.SIGUSR1)
        wait_until(lambda: self.log(name).count(uncollected.REPORT) > before, f"{name} has looked")
        last = [line for line in self.log(name).splitlines() if line.startswith(uncollected.REPORT)][-1]
        found: dict[str, int] = json.loads(last.removeprefix(uncollected.REPORT))
        return found


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    cluster = Uncollected(tmp_path)
    cluster.start()
    yield cluster
    cluster.clear_away()


def many_alike(cluster: Cluster, name: str) -> None:
    """Thirty clients who ask the same at the same time, alone and in pipelines."""
    clients = [cluster.client(name) for _ in range(30)]
    for number in range(60):
        requests = [("SET", "key", "v" * 60)] if number % 2 else [("GET", "key")] * (1 + number % 3)
        for client in clients:
            client.send(*requests)
        for client in clients:
            for _ in requests:
                client.receive()


def many_kinds(cluster: Cluster, name: str) -> None:
    client = cluster.client(name)
    for number in range(10):
        client.pipeline([("WATCH", "a"), ("MULTI",), ("SET", "a", number), ("EXEC",)])
        client("EVAL", "redis.call('LPUSH', KEYS[1], 'x') return redis.call('INCR', KEYS[2])", 2, "l", "n")
        client("EVAL", "return redis.call('NO')", 0)
        client.pipeline(
            [("BLPOP", "l", 1), ("LPUSH", "a", "x"), ("PEXPIRE", "a", 20), ("SORT", "l"), ("INFO",)]
        )
        client.pipeline([("HSET", "h", "a", "b"), ("CLIENT", "LIST"), ("SCAN", 0), ("PUBLISH", "news", "x")])


def many_ends(cluster: Cluster, name: str) -> None:
    """Clients who leave, in all kinds of ways, whatever they wait for."""
    for number in range(100):
        client = cluster.client(name)
        if number % 5 == 0:
            client.send(("BLPOP", "nothing", 0))
        elif number % 5 == 1:
            client("SUBSCRIBE", "news")
        elif number % 5 == 2:
            client.send(("SET", "a", "b"), ("GET", "a"))
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        elif number % 5 == 3:
            client.socket.sendall(b"*1\r\n$-5\r\n")
        else:
            client.pipeline([("MULTI",), ("GET", "a")])
        client.close()
    last: Client = cluster.client(name)
    wait_until(lambda: last("CLIENT", "LIST").count(b"\n") == 1, "the others are gone")


def test_nodes_leave_nothing_for_the_collector(cluster: Uncollected) -> None:
    leader = cluster.leader()
    follower, victim = (name for name in cluster.names if name != leader)
    for name in (leader, follower):
        many_alike(cluster, name)
        many_kinds(cluster, name)
        many_ends(cluster, name)
    cluster.client(leader)("SOFA.SNAPSHOT", "FRESH")
    cluster.kill(victim)
    many_alike(cluster, follower)
    cluster.start(victim)
    assert cluster.leader() == leader
    assert cluster.client(leader)("FAILOVER") == b"OK"
    wait_until(lambda: cluster.leader() != leader, "another one leads")
    many_alike(cluster, victim)
    assert {name: cluster.garbage(name) for name in cluster.names} == {name: {} for name in cluster.names}
