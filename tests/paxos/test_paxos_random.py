"""Random worlds: loss, repetition, reordering, crashes, stuck clocks, and then a quorum that must finish everything."""

from __future__ import annotations

import random

import pytest

from paxos.cluster import Cluster
from sofadb.paxos.events import Tick


def world(seed: int) -> Cluster:
    chance = random.Random(seed)
    size = chance.choice([1, 3, 3, 5])
    names = [f"n{i}" for i in range(1, size + 1)]
    cluster = Cluster(
        names,
        seed,
        alpha=chance.choice([4, 8, 64]),
        in_flight_max=chance.choice([1, 2, 4]),
        batch_bytes_max=chance.choice([1, 8, 1000]),
        message_bytes_max=chance.choice([1, 100, 10_000]),
        tail_bytes_max=chance.choice([1, 300, 10_000]),
        patience_ms=100_000,
    )
    loss, again, crash = (
        chance.choice([0, 0.02, 0.2]),
        chance.choice([0, 0.1]),
        chance.choice([0, 0.002, 0.02]),
    )
    acknowledged_at_ask: dict[int, int] = {}
    for number in range(1500):
        what = chance.random()
        name = chance.choice(names)
        if what < 0.45 and cluster.network:
            packet = chance.choice(cluster.network)
            if chance.random() < loss:
                cluster.network.remove(packet)
            elif chance.random() < again:
                cluster.network.append(packet)
                cluster.pass_on(packet)
            else:
                cluster.pass_on(packet)
        elif what < 0.7:
            cluster.save(name, chance.choice([1, 1, 9]))
        elif what < 0.8:
            cluster.now += chance.choice([1, 10, 60])
            for each in names:
                if cluster.nodes[each].wake_at <= cluster.now:
                    cluster.nodes[each].wake_at = float("inf")
                    cluster.step(each, Tick())
        elif what < 0.9:
            if cluster.nodes[name].replica:
                cluster.submit(name, b"%s-%d" % (name.encode(), number))
        elif what < 0.97:
            if cluster.nodes[name].replica:
                done = max((n for node in cluster.nodes.values() for n in node.done.values()), default=0)
                acknowledged_at_ask[cluster.ask(name)] = done
        elif what < 0.98:
            other = chance.choice(names)
            cluster.cut ^= {(name, other)} if name != other else set()
        elif chance.random() < crash * 10:
            if cluster.nodes[name].replica:
                cluster.crash(name, chance.randrange(4))
            else:
                cluster.start(name)
        cluster.skew[name] = chance.choice([0, 0, 50_000])
        if number % 50 == 0:
            cluster.check_chosen()
    cluster.acknowledged_at_ask = acknowledged_at_ask  # type: ignore[attr-defined]
    return cluster


@pytest.mark.parametrize("block", range(10))
def test_random_worlds_stay_safe_and_a_healed_quorum_finishes_everything(block: int) -> None:
    for seed in range(block * 12, block * 12 + 12):
        run(seed)


def run(seed: int) -> None:
    cluster = world(seed)
    chance = random.Random(seed)
    cluster.cut.clear()
    names = list(cluster.nodes)
    quorum = chance.sample(names, cluster.configuration.quorum)
    for name in names:
        if name in quorum and cluster.nodes[name].replica is None:
            cluster.start(name)
        if name not in quorum and cluster.nodes[name].replica is not None:
            cluster.crash(name)
    waiting = {n: cluster.submit(n, b"last of " + n.encode()) for n in quorum}
    reads = {n: cluster.ask(n) for n in quorum}
    for _ in range(100):
        cluster.advance(100)
        if all(waiting[n] in cluster.nodes[n].done and reads[n] in cluster.nodes[n].answers for n in quorum):
            break
    else:
        raise AssertionError(f"seed {seed}: the quorum does not finish")
    cluster.advance(1000)
    cluster.check_chosen()
    # Every acknowledged command is there, once, where it was when it was acknowledged.
    final = cluster.nodes[quorum[0]].applied
    assert len(set(final)) == len(final), "a command took effect twice"
    for node in cluster.nodes.values():
        for length in node.done.values():
            assert len(final) >= length
        # A read sees everything that was acknowledged before it was asked.
        for token, length in node.answers.items():
            assert length >= cluster.acknowledged_at_ask.get(token, 0), "a stale read"  # type: ignore[attr-defined]
        # Each node's commands took effect in the order in which it sent them.
        own = [int(p.split(b"-")[1]) for p in final if p.startswith(node.name.encode() + b"-")]
        assert own == sorted(own), "commands were reordered"
