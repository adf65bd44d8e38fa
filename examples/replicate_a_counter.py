"""Embed the core: three replicas of a counter, in one process, with nothing but `sofadb.paxos`.

Run it:  python examples/replicate_a_counter.py

A program that embeds the core has four duties: tell each replica what happens (`step`), carry messages, keep records (here
in a list, where a real one writes to a disk and waits for it), and apply what is delivered. The world below does it in
the simplest way there is; time is a number that it moves by itself.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from sofadb.paxos import (
    Configuration,
    Deliver,
    Effect,
    Event,
    Moment,
    Received,
    Record,
    Replica,
    Save,
    Send,
    Settings,
    Started,
    Submit,
    Tick,
    WakeAt,
)

NODES = ("n1", "n2", "n3")


class World:
    """A network that loses nothing, disks that never fail, and a clock that we turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self.chance = random.Random(1)
        self.network: deque[tuple[str, Send]] = deque()
        self.disks: dict[str, list[Record]] = {node: [] for node in NODES}
        self.wake_at = dict.fromkeys(NODES, float("inf"))
        self.counters = dict.fromkeys(NODES, 0)
        self.replicas = {node: Replica(node, 1, Configuration(NODES), Settings()) for node in NODES}
        for node in NODES:
            self.step(node, Started())

    def step(self, node: str, event: Event) -> None:
        moment = Moment(self.now, int(self.now), self.chance.random())
        for effect in self.replicas[node].step(event, moment):
            self.perform(node, effect)

    def perform(self, node: str, effect: Effect) -> None:
        match effect:
            case Send():
                self.network.append((node, effect))
            case Save(records, then):
                self.disks[node] += records  # Now it is stable, and only now may this leave:
                self.network += [(node, send) for send in then]
            case Deliver(_, _, entries):
                for _, entry in entries:
                    self.counters[node] += int(bytes(entry.payload))
            case WakeAt(time):
                self.wake_at[node] = time

    def run(self, until: Callable[[], bool]) -> None:
        """Deliver messages; when there is nothing to deliver, let time pass to the next alarm."""
        while not until():
            if self.network:
                sender, send = self.network.popleft()
                self.step(send.to, Received(sender, send.message))
            else:
                node = min(NODES, key=self.wake_at.__getitem__)
                self.now, self.wake_at[node] = max(self.now, self.wake_at[node]), float("inf")
                self.step(node, Tick())


def count(tell: Callable[[str], None]) -> dict[str, int]:
    """Add 1, 2, ... 10 at whatever node; every replica comes to the same sum."""
    world = World()
    world.run(until=lambda: all(replica.leader for replica in world.replicas.values()))
    tell(f"after {world.now:.0f} ms {world.replicas['n1'].leader} is the distinguished proposer")
    for number in range(1, 11):
        node = world.chance.choice(NODES)
        world.step(node, Submit(number, b"%d" % number))
        tell(f"{node} is asked to add {number}")
    world.run(until=lambda: set(world.counters.values()) == {sum(range(1, 11))})
    tell(f"the counters: {world.counters}")
    return world.counters


if __name__ == "__main__":
    count(print)
