"""What would happen if these nodes were lost: tried on the core itself, in memory, and not worked out with a formula.

The replicas of a configuration are started, find a leader, and lose some of their number. Then each that is left is asked
to write and to read. Messages and disks take no time here, so all that passes is what the replicas wait for by themselves.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import combinations

from sofadb.paxos import (
    Configuration,
    Deliver,
    Effect,
    Event,
    Message,
    Moment,
    NodeId,
    Read,
    Received,
    Replica,
    Save,
    Send,
    Serve,
    Settings,
    Started,
    Submit,
    Tick,
    WakeAt,
)
from sofadb.paxos.leading import Leading

WITHIN_MS = 10_000.0
"""So long, in simulated time, they have to find a leader, and then to serve."""
LOST_MAX = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of a cluster."""

    serving: tuple[NodeId, ...]
    """Who wrote and read."""
    votes: int
    """How many voters are left, ..."""
    needed: int
    """... and how many are needed."""


@dataclass(slots=True)
class _World:
    """Replicas that hear each other at once, and whose disks are as fast as that."""

    configuration: Configuration
    replicas: dict[NodeId, Replica] = field(default_factory=dict)
    now: float = 0.0
    written: set[NodeId] = field(default_factory=set)
    read: set[NodeId] = field(default_factory=set)
    _wakes: dict[NodeId, float] = field(default_factory=dict)
    _mail: deque[tuple[NodeId, NodeId, Message]] = field(default_factory=deque)
    _chance: random.Random = field(default_factory=lambda: random.Random(1))

    def start(self, node: NodeId) -> None:
        self.replicas[node] = Replica(node, 1, self.configuration, Settings())
        self.step(node, Started())

    def lose(self, node: NodeId) -> None:
        self.replicas.pop(node, None)
        self._wakes.pop(node, None)

    def step(self, node: NodeId, event: Event) -> None:
        if (replica := self.replicas.get(node)) is not None:
            moment = Moment(self.now, int(self.now), self._chance.random())
            for effect in replica.step(event, moment):
                self._perform(node, effect)

    def _perform(self, node: NodeId, effect: Effect) -> None:
        if isinstance(effect, Send):
            self._mail.append((node, effect.to, effect.message))
        elif isinstance(effect, Save):
            for then in effect.then:
                self._perform(node, then)
        elif isinstance(effect, WakeAt):
            self._wakes[node] = effect.time
        elif isinstance(effect, Deliver) and any(token is not None for token, _ in effect.entries):
            self.written.add(node)
        elif isinstance(effect, Serve):
            self.read.add(node)

    def until(self, is_so: Callable[[], bool]) -> None:
        """Let it go on until then, or until the time is over."""
        end = self.now + WITHIN_MS
        while not is_so():
            if self._mail:
                sender, to, message = self._mail.popleft()
                self.step(to, Received(sender, message))
                continue
            node = min(self._wakes, key=self._wakes.__getitem__, default=None)
            if node is None or self._wakes[node] > end:
                return
            self.now = max(self.now, self._wakes.pop(node))
            self.step(node, Tick())

    def is_led(self) -> bool:
        return any(
            isinstance(each.phase, Leading) and each.phase.is_established for each in self.replicas.values()
        )


def outcome(
    voters: Iterable[NodeId],
    learners: Iterable[NodeId] = (),
    away: Collection[NodeId] = (),
    lost: Collection[NodeId] = (),
) -> Outcome:
    """What is left of a cluster, some of whose members are `away` already, once those of `lost` are lost, too."""
    configuration = Configuration(tuple(sorted(voters)), tuple(sorted(learners)))
    world = _World(configuration)
    for node in configuration.members:
        if node not in away:
            world.start(node)
    world.until(world.is_led)
    for node in lost:
        world.lose(node)
    left = set(world.replicas)
    for node in sorted(left):
        world.step(node, Submit(1, b""))
        world.step(node, Read(2))
    world.until(lambda: world.written == left == world.read)
    serving = tuple(sorted(world.written & world.read))
    votes = sum(node in left for node in configuration.acceptors)
    return Outcome(serving, votes, configuration.quorum)


def failures(members: Iterable[NodeId]) -> list[tuple[NodeId, ...]]:
    """Nothing, each of them, and any two."""
    named = sorted(members)
    return [lost for count in range(LOST_MAX + 1) for lost in combinations(named, count)]
