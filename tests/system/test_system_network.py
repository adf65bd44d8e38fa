"""Cables that are pulled, machines that lose their power, and a crowd: what users were promised then."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from namespaces import Network, SpreadCluster

from processes import Client, Cluster, wait_until

PAUSE_S = 3.0
"""A failover is a pause no longer than this."""
REFUSAL_S = 8.0
"""A minority refuses after its patience, which is 5 s, and not much later."""
RETURN_S = 5.0
"""A node that can be reached again takes part again within this."""
IDLE = 3_000


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network(["n1", "n2", "n3"])
    try:
        network.build()
        yield network
    finally:
        network.remove()


@pytest.fixture
def spread(tmp_path: Path, network: Network) -> Iterator[SpreadCluster]:
    """Three nodes on a machine each, running."""
    cluster = SpreadCluster(tmp_path, network)
    cluster.start()
    cluster.leader()
    yield cluster
    cluster.stop()


class Writer(threading.Thread):
    """Writes and never tries again; remembers what was acknowledged, and the longest wait for a reply."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client
        self.acknowledged: list[int] = []
        self.problem = ""
        self.longest_pause_s = 0.0
        self.stopping = threading.Event()

    def run(self) -> None:
        number, replied_at = 0, time.monotonic()
        while not self.stopping.is_set() and not self.problem:
            number += 1
            try:
                reply = self.client("SET", f"written:{number}", number)
            except OSError as problem:
                reply = problem
            self.longest_pause_s = max(self.longest_pause_s, time.monotonic() - replied_at)
            replied_at = time.monotonic()
            if reply == b"OK":
                self.acknowledged.append(number)
            else:
                self.problem = str(reply)

    def gets_on(self) -> None:
        goal = len(self.acknowledged) + 20
        wait_until(lambda: len(self.acknowledged) >= goal or self.problem, "the writer gets on")
        assert self.problem == ""


def follows(cluster: Cluster, name: str, leaders: list[str]) -> bool:
    """Whether the node knows one of these as the leader."""
    return (cluster.facts(name) or {}).get("leader") in leaders


def reaches(cluster: Cluster, name: str, other: str) -> bool:
    """Whether the node says that it reaches the other one."""
    facts = cluster.facts(name)
    return facts is not None and {m["node"]: m["is_reachable"] for m in facts["members"]}[other]


def test_leader_whose_cable_is_pulled_is_replaced_refuses_and_comes_back(spread: SpreadCluster) -> None:
    leader = spread.leader()
    others = [name for name in spread.names if name != leader]
    writer = Writer(spread.client(others[0]))
    isolated = [spread.client(leader) for _ in range(4)]
    writer.start()
    writer.gets_on()

    spread.network.pull(leader)
    cut_at = time.monotonic()
    # It still believes that it leads.
    isolated[0].send(["SET", "lost", "1"])
    isolated[1].send(["GET", "written:1"])
    wait_until(lambda: all(follows(spread, name, others) for name in others), "the others have a leader")
    writer.gets_on()
    wait_until(lambda: follows(spread, leader, [""]), "the isolated node knows that it does not lead")
    asked_at = time.monotonic()
    isolated[2].send(["SET", "lost", "2"])
    isolated[3].send(["GET", "written:1"])
    assert str(isolated[0].receive()).startswith(("UNCERTAIN", "NOREPLICAS"))
    for client in isolated[1:]:
        assert str(client.receive()).startswith("NOREPLICAS")
    assert time.monotonic() - asked_at < REFUSAL_S

    # Long enough for TCP's attempts to lie far apart.
    time.sleep(max(0.0, cut_at + 12 - time.monotonic()))
    spread.network.plug_in(leader)
    returned_at = time.monotonic()
    wait_until(lambda: follows(spread, leader, others), "the old leader follows the new one")
    assert isolated[3]("GET", "written:1") == b"1"
    assert time.monotonic() - returned_at < RETURN_S

    writer.gets_on()
    writer.stopping.set()
    writer.join()
    assert writer.longest_pause_s < PAUSE_S
    keys = [f"written:{number}" for number in writer.acknowledged]
    assert isolated[3]("MGET", *keys) == [b"%d" % number for number in writer.acknowledged]
    assert isolated[3]("GET", "lost") != b"2", "it was certain that this was not done"


def test_node_that_lost_its_power_is_back_at_once_though_nobody_saw_its_connections_end(
    spread: SpreadCluster,
) -> None:
    leader = spread.leader()
    victim, other = (name for name in spread.names if name != leader)
    client = spread.client(leader)
    spread.power_cut(victim)
    for number in range(100):
        assert client("SET", f"key:{number}", number) == b"OK"
    goal = (spread.facts(leader) or {})["applied"]

    spread.power_up(victim)
    started_at = time.monotonic()
    wait_until(lambda: (spread.facts(victim) or {}).get("applied", 0) >= goal, "it has caught up")
    for pair in ((victim, leader), (victim, other), (leader, victim)):
        wait_until(lambda pair=pair: reaches(spread, *pair), f"{pair[0]} reaches {pair[1]}")
    assert spread.client(victim)("GET", "key:99") == b"99"
    assert time.monotonic() - started_at < RETURN_S


def test_machine_that_lost_its_power_is_missed_by_everybody_even_by_those_with_nothing_to_say_to_it(
    spread: SpreadCluster,
) -> None:
    victim = next(name for name in spread.names if name != spread.leader())
    spread.power_cut(victim)
    for name in spread.names:
        if name != victim:
            wait_until(lambda name=name: not reaches(spread, name, victim), f"{name} misses {victim}")


def test_a_crowd_of_idle_clients_and_a_busy_one_do_not_cost_the_leader_its_place(three: Cluster) -> None:
    leader = three.leader()
    ballot = (three.facts(leader) or {})["ballot"]
    busy = three.client(leader)
    rounds, commands = 30, [["SET", f"key:{number}", "x" * 100] for number in range(5_000)]
    with contextlib.ExitStack() as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 200), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(rounds):
            for _ in range(IDLE // rounds):
                stack.enter_context(socket.create_connection(("127.0.0.1", three.ports[leader])))
            assert busy.pipeline(commands) == [b"OK"] * len(commands)
        wait_until(
            lambda: b"connected_clients:%d\r\n" % (IDLE + 1) in busy("INFO", "clients"), "all are connected"
        )
        assert {(three.facts(name) or {})["ballot"] for name in three.names} == {ballot}
