"""Messages between real processes: a real client library listens on every node while leaders change."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis

from processes import PATIENCE_S, Cluster, wait_until

PUBLISHED = 300
"""By each publisher."""


class Listener(threading.Thread):
    """A client of one node that notes what it hears, until it hears the end."""

    def __init__(self, client: redis.Redis[Any], channel: str) -> None:
        super().__init__(daemon=True)
        self.heard: list[str] = []
        self.client = client
        self.pubsub = client.pubsub(ignore_subscribe_messages=True)
        self.pubsub.subscribe(channel)
        while self.pubsub.get_message(timeout=PATIENCE_S) is not None or not self.pubsub.subscribed:
            pass
        self.start()

    def run(self) -> None:
        for message in self.pubsub.listen():
            self.heard.append(message["data"])
            if message["data"] == "end":
                break

    def close(self) -> None:
        self.join(PATIENCE_S)
        assert not self.is_alive(), f"heard no end, but {self.heard[-3:]}"
        self.pubsub.close()
        self.client.close()


class Publisher(threading.Thread):
    """A client of one node that says one thing after the other."""

    def __init__(self, client: redis.Redis[Any], channel: str, name: str) -> None:
        super().__init__(daemon=True)
        self.client, self.channel, self.name = client, channel, name
        self.receivers: set[int] = set()
        self.start()

    def run(self) -> None:
        for number in range(PUBLISHED):
            self.receivers.add(self.client.publish(self.channel, f"{self.name}.{number}"))
        self.client.close()


def client_of(cluster: Cluster, name: str, protocol: int) -> redis.Redis[Any]:
    return redis.Redis(port=cluster.ports[name], protocol=protocol, decode_responses=True)


@pytest.mark.parametrize("protocol", [2, 3])
def test_all_listeners_hear_all_in_one_order_also_across_a_change_of_leader(
    three: Cluster, protocol: int
) -> None:
    listeners = [Listener(client_of(three, name, protocol), "news") for name in three.names]
    publishers = [Publisher(client_of(three, name, protocol), "news", name) for name in three.names]
    wait_until(lambda: len(listeners[0].heard) > PUBLISHED // 2, "some was heard")
    with client_of(three, three.leader(), protocol) as leader:
        leader.execute_command("FAILOVER")
    for publisher in publishers:
        publisher.join(PATIENCE_S)
        assert publisher.receivers == {1}
    with client_of(three, "n1", protocol) as client:
        assert client.publish("news", "end") == 1
        for listener in listeners:
            listener.close()
        wait_until(lambda: client.pubsub_channels() == [], "nobody listens any more")
    first = listeners[0].heard
    assert all(listener.heard == first for listener in listeners)
    for publisher in publishers:
        own = [each for each in first if each.startswith(f"{publisher.name}.")]
        assert own == [f"{publisher.name}.{number}" for number in range(PUBLISHED)]


def test_the_listeners_of_living_nodes_miss_nothing_when_the_leader_is_killed(three: Cluster) -> None:
    leader = three.leader()
    alive = [name for name in three.names if name != leader]
    listeners = [Listener(client_of(three, name, 3), "news") for name in alive]
    publishers = [Publisher(client_of(three, name, 3), "news", name) for name in alive]
    wait_until(lambda: len(listeners[0].heard) > PUBLISHED // 2, "some was heard")
    three.kill(leader)
    for publisher in publishers:
        publisher.join(PATIENCE_S)
    with client_of(three, alive[0], 3) as client:
        assert client.publish("news", "end") == 1
    for listener in listeners:
        listener.close()
    assert listeners[0].heard == listeners[1].heard
    assert len(listeners[0].heard) == 2 * PUBLISHED + 1
