"""Random worlds in which who votes changes all the time, logs are cut, and directories are lost and replaced by others."""

from __future__ import annotations

import random

import pytest

from paxos.cluster import Cluster, Node
from sofadb.paxos import Configuration, Reconfigure, Tick
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Accept
from sofadb.paxos.records import Acceptance

STEPS = 4_000


class World:
    """One cluster, and what may befall it."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        names = [f"n{i}" for i in range(1, chance.choice([1, 3, 3, 5]) + 1)]
        alpha = chance.choice([1, 2, 5])
        self.cluster = Cluster(
            names,
            seed,
            alpha=alpha,
            in_flight_max=chance.randint(1, alpha),
            batch_bytes_max=chance.choice([1, 8, 1000]),
            message_bytes_max=chance.choice([1, 100, 10_000]),
            tail_bytes_max=chance.choice([1, 300, 10_000]),
            patience_ms=100_000,
            lease_ms=chance.choice([0, 0, 200]),
        )
        self.loss = chance.choice([0, 0.02, 0.1])
        self.again = chance.choice([0, 0.1])
        self.lost: set[str] = set()
        self.acknowledged_at_ask: dict[int, int] = {}
        self.changes = self.cuts = self.transfers = 0

    @property
    def here(self) -> list[str]:
        return [name for name in self.cluster.nodes if name not in self.lost]

    def up(self) -> list[str]:
        return [name for name in self.here if self.cluster.nodes[name].replica is not None]

    # What may happen

    def deliver(self) -> None:
        cluster, chance = self.cluster, self.chance
        if not cluster.network:
            self.save()
            self.pass_time()
            return
        packet = chance.choice(cluster.network[:30])
        luck = chance.random()
        if luck < self.loss or packet.to in self.lost:
            cluster.network.remove(packet)
        else:
            if luck < self.loss + self.again:
                cluster.network.append(packet)
            cluster.pass_on(packet)

    def save(self) -> None:
        self.cluster.save(self.chance.choice(self.here), self.chance.choice([1, 1, 9]))

    def pass_time(self) -> None:
        cluster = self.cluster
        cluster.now += self.chance.choice([1, 5, 30])
        for each in self.here:
            if cluster.nodes[each].wake_at <= cluster.now:
                cluster.nodes[each].wake_at = float("inf")
                cluster.step(each, Tick())

    def ask_for_something(self) -> None:
        cluster = self.cluster
        for name in self.chance.sample(self.up(), min(1, len(self.up()))):
            if self.chance.random() < 0.6:
                cluster.submit(name, b"%s-%d" % (name.encode(), cluster.tokens))
            else:
                done = max((n for node in cluster.nodes.values() for n in node.done.values()), default=0)
                self.acknowledged_at_ask[cluster.ask(name)] = done

    def change(self) -> None:
        """Ask whoever believes to lead for any change."""
        leaders = [n for n in self.up() if isinstance(self.cluster.replica(n).phase, Leading)]
        if not leaders:
            return
        pool = self.here
        acceptors = self.chance.sample(pool, self.chance.randint(1, min(5, len(pool))))
        learners = [name for name in pool if name not in acceptors]
        wanted = Configuration(tuple(sorted(acceptors)), tuple(sorted(learners)))
        leader = self.chance.choice(leaders)
        lead = self.cluster.replica(leader).phase
        assert isinstance(lead, Leading)
        self.changes += lead.can_change
        self.cluster.step(leader, Reconfigure(wanted))

    def snapshot(self) -> None:
        for name in self.chance.sample(self.up(), min(1, len(self.up()))):
            node = self.cluster.nodes[name]
            newest = node.snapshots[-1].foundation.instance if node.snapshots else 0
            if self.cluster.replica(name).sequence.watermark > newest:
                self.cluster.snapshot(name)
            if len(node.snapshots) == 2:
                self.cluster.cut_log(name)
                self.cuts += 1

    def transfer(self) -> None:
        cluster = self.cluster
        for giver, taker in cluster.offers[-20:]:
            if giver in self.up() and taker in self.up():
                before = cluster.replica(taker).sequence.watermark
                cluster.transfer(giver, taker)
                self.transfers += cluster.replica(taker).sequence.watermark > before
        cluster.offers.clear()

    def crash_or_start(self) -> None:
        down = [name for name in self.here if name not in self.up()]
        if down:
            self.cluster.start(self.chance.choice(down))
        else:
            self.cluster.crash(self.chance.choice(self.here), self.chance.randrange(4))

    def cut_link(self) -> None:
        one, other = self.chance.choice(self.here), self.chance.choice(self.here)
        if self.cluster.cut:
            self.cluster.cut.clear()
        elif one != other:
            self.cluster.cut |= {(one, other), self.chance.choice([(one, other), (other, one)])}

    def lose(self) -> None:
        """A directory is lost, unless a quorum of whatever configuration may hold would be. Another takes its place."""
        name = self.chance.choice(self.here)
        gone = {*self.lost, name}
        for each in self.configurations():
            if len(gone.intersection(each.acceptors)) > len(each.acceptors) - each.quorum:
                return
        self.lost.add(name)
        self.cluster.lose(name)
        self.cluster.add(f"{name.split('~')[0]}~{len(self.lost)}")

    def configurations(self) -> set[Configuration]:
        """All that may hold, now or soon."""
        cluster = self.cluster
        found = {cluster.configuration}
        values = [each.message.value for each in cluster.network if isinstance(each.message, Accept)]
        for name in self.here:
            node: Node = cluster.nodes[name]
            records = (*node.disk, *(record for save in node.saving for record in save.records))
            values += [record.value for record in records if isinstance(record, Acceptance)]
            if node.snapshots:
                found |= {each for _, each in node.snapshots[-1].foundation.configurations}
            if node.replica is not None:
                found |= {each for _, each in node.replica.membership.table}
        return found | {value.configuration for value in values if value.configuration is not None}

    def go(self, steps: int) -> None:
        chance = self.chance
        what = {
            self.deliver: 60,
            self.save: 30,
            self.pass_time: chance.choice([3, 10]),
            self.ask_for_something: 5,
            self.change: 1,
            self.snapshot: 1,
            self.transfer: 1,
            self.crash_or_start: chance.choice([0, 0.2, 1]),
            self.cut_link: chance.choice([0, 0.3]),
            self.lose: chance.choice([0, 0.2, 0.5]),
        }
        self.cluster.advance(1_000)
        kinds, weights = list(what), list(what.values())
        for number in range(steps):
            chance.choices(kinds, weights)[0]()
            if number % 50 == 0:
                self.cluster.check_chosen()

    def heal(self) -> list[str]:
        """Everybody who has not lost its disk is back; returns who votes when everything has come to rest."""
        cluster = self.cluster
        cluster.cut.clear()
        cluster.network = [packet for packet in cluster.network if packet.to not in self.lost]
        for name in self.here:
            if cluster.nodes[name].replica is None:
                cluster.start(name)
        waiting: dict[str, int] = {}
        reads: dict[str, int] = {}
        for _ in range(300):
            cluster.advance(100)
            self.transfer()
            for name in self.here:  # A node that is behind a cut needs a snapshot that reaches further.
                if cluster.replica(name).cut:
                    cluster.snapshot(name)
            leader = cluster.leader
            voters = [] if leader is None else list(cluster.replica(leader).membership.latest.acceptors)
            voters = [name for name in voters if name not in self.lost]
            for name in voters:
                if name not in waiting:
                    waiting[name] = cluster.submit(name, b"last of " + name.encode())
                    reads[name] = cluster.ask(name)
            if voters and all(
                waiting[n] in cluster.nodes[n].done and reads[n] in cluster.nodes[n].answers for n in voters
            ):
                cluster.advance(1_000)
                return voters
        raise AssertionError("a quorum does not finish")

    def judge(self, voters: list[str]) -> None:
        cluster = self.cluster
        cluster.check_chosen()
        final = cluster.sequence
        assert len(set(final)) == len(final), "a command took effect twice"
        assert any(len(cluster.nodes[name].applied) == len(final) for name in voters), "something was lost"
        for node in cluster.nodes.values():
            assert all(len(final) >= length for length in node.done.values())
            for token, length in node.answers.items():
                assert length >= self.acknowledged_at_ask.get(token, 0), "a stale read"
            own = [int(p.split(b"-")[1]) for p in final if p.startswith(node.name.encode() + b"-")]
            assert own == sorted(own), "commands were reordered"


def run(seed: int) -> World:
    world = World(seed)
    world.go(STEPS)
    world.judge(world.heal())
    return world


@pytest.mark.parametrize("block", range(8))
def test_random_changes_cuts_and_losses_stay_safe_and_whoever_votes_in_the_end_finishes_everything(
    block: int,
) -> None:
    worlds = []
    for seed in range(block * 8, block * 8 + 8):
        try:
            worlds.append(run(seed))
        except AssertionError as problem:
            raise AssertionError(f"seed {seed}: {problem}") from problem
    # A run in which nothing happens shows nothing.
    assert sum(world.changes for world in worlds) > 20
    assert sum(world.cuts for world in worlds) > 20
    assert sum(world.transfers + len(world.lost) for world in worlds) > 5
