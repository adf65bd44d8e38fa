"""A cluster of real replicas in a made-up world: one network, one disk each, one clock for all.

Shared by scripted scenarios and by random runs. Messages wait in `network` until somebody delivers, drops or repeats
them; saves wait in a node's `saving` until its disk gets to them; a crash loses what was not saved. After every step the
invariants of the protocol are checked (`check`).
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field

from sofadb.paxos.ballot import Ballot, Instance, NodeId
from sofadb.paxos.effects import Abandon, Deliver, Effect, Save, Send, Serve, Teach, WakeAt
from sofadb.paxos.events import Event, Moment, Read, Received, Recovered, Started, Submit, Tick
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Accepted, Learn, Message, Promise
from sofadb.paxos.records import Acceptance, Learned, Promised, Record
from sofadb.paxos.replica import Replica
from sofadb.paxos.settings import Settings
from sofadb.paxos.values import Configuration, Value


@dataclass
class Packet:
    sender: NodeId
    to: NodeId
    message: Message


@dataclass
class Node:
    """One process and its disk."""

    name: NodeId
    replica: Replica | None = None
    disk: list[Record] = field(default_factory=list)
    saving: list[Save] = field(default_factory=list)
    wake_at: float = float("inf")
    starts: int = 0
    applied: list[bytes] = field(default_factory=list)
    delivered: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    """Read token -> how many commands were applied when it was answered."""
    done: dict[int, int] = field(default_factory=dict)
    """Submit token -> at which length of `applied` it took effect."""
    abandoned: dict[int, bool] = field(default_factory=dict)
    overloaded: set[int] = field(default_factory=set)
    """Those of them for which there was no room."""


class Cluster:
    """`names` are the acceptors. Everything random comes from `seed`."""

    def __init__(self, names: list[NodeId], seed: int = 0, **settings: float) -> None:
        self.random = random.Random(seed)
        self.settings = Settings(**settings)  # type: ignore[arg-type]
        self.configuration = Configuration(tuple(sorted(names)))
        self.nodes = {name: Node(name) for name in names}
        self.network: list[Packet] = []
        self.now = 0.0
        self.skew: dict[NodeId, int] = defaultdict(int)
        self.cut: set[tuple[NodeId, NodeId]] = set()
        """Links (from, to) on which nothing passes."""
        self.stuck_disks: set[NodeId] = set()
        self.tokens = 0
        self.chosen: dict[int, Value] = {}
        self.sequence: list[bytes] = []
        """The longest run of applied commands seen anywhere."""
        self.leaders: dict[Ballot, NodeId] = {}
        self.trace: list[str] = []
        for name in names:
            self.start(name)

    # Life

    def start(self, name: NodeId) -> None:
        node = self.nodes[name]
        assert node.replica is None
        node.starts += 1
        node.replica = Replica(name, node.starts, self.configuration, self.settings)
        node.applied, node.delivered, node.saving = [], 0, []
        for record in list(node.disk):
            self.step(name, Recovered(record))
        self.step(name, Started())

    def crash(self, name: NodeId, keep: int = 0) -> None:
        """Stop the process; of the saves under way, the first `keep` have reached the disk."""
        node = self.nodes[name]
        for save in node.saving[:keep]:
            node.disk.extend(save.records)
        node.replica, node.saving, node.wake_at = None, [], float("inf")

    # Steps

    def step(self, name: NodeId, event: Event) -> list[Effect]:
        node = self.nodes[name]
        if node.replica is None:
            return []
        moment = Moment(self.now, int(self.now) + 1_000_000 + self.skew[name], self.random.random())
        effects = node.replica.step(event, moment)
        for effect in effects:
            self.perform(node, effect)
        if not isinstance(event, Recovered):
            self.check(node)
        return effects

    def perform(self, node: Node, effect: Effect, is_saved: bool = False) -> None:
        if isinstance(effect, Send):
            assert is_saved or not isinstance(effect.message, Promise | Accepted), (
                "an acceptor's word left outside a save"
            )
            self.send(node.name, effect)
        elif isinstance(effect, Save):
            node.saving.append(effect)
        elif isinstance(effect, Deliver):
            self.deliver(node, effect)
        elif isinstance(effect, Serve):
            for token in effect.tokens:
                node.answers[token] = len(node.applied)
        elif isinstance(effect, Abandon):
            for token in effect.tokens:
                node.abandoned[token] = effect.certain
            if effect.overloaded:
                node.overloaded.update(effect.tokens)
        elif isinstance(effect, WakeAt):
            node.wake_at = effect.time
        elif isinstance(effect, Teach):
            assert is_saved, "a teacher reads its disk before it is written"
            values = [
                self.read(node, Instance(i))
                for i in range(effect.first, min(effect.last, effect.first + 9) + 1)
            ]
            self.send(node.name, Send(effect.to, Learn(effect.first, tuple(values))))

    def read(self, node: Node, instance: Instance) -> Value:
        return next(
            r.value
            for r in reversed(node.disk)
            if isinstance(r, Acceptance | Learned) and r.instance == instance
        )

    def send(self, sender: NodeId, send: Send) -> None:
        if (sender, send.to) not in self.cut:
            self.network.append(Packet(sender, send.to, send.message))

    def deliver(self, node: Node, effect: Deliver) -> None:
        assert effect.instance == node.delivered + 1, "delivered out of order"
        node.delivered = effect.instance
        for token, entry in effect.entries:
            node.applied.append(bytes(entry.payload))
            if token is not None:
                node.done[token] = len(node.applied)
        # Chosen values are prefix-consistent across replicas.
        begin, end = len(node.applied) - len(effect.entries), min(len(node.applied), len(self.sequence))
        assert node.applied[begin:end] == self.sequence[begin:end], "replicas applied different commands"
        if len(node.applied) > len(self.sequence):
            self.sequence = list(node.applied)

    def save(self, name: NodeId, count: int = 1_000_000) -> None:
        """Let the disk of `name` finish its next `count` saves."""
        node = self.nodes[name]
        saves, node.saving = node.saving[:count], node.saving[count:]
        for save in saves:
            node.disk.extend(save.records)
            for effect in save.then:
                if isinstance(effect, Send) and effect.to == name:
                    self.step(name, Received(name, effect.message))
                else:
                    self.perform(node, effect, is_saved=True)

    def pass_on(self, packet: Packet) -> None:
        self.network.remove(packet)
        if (packet.sender, packet.to) not in self.cut:
            self.step(packet.to, Received(packet.sender, packet.message))

    def settle_between(self, one: NodeId, other: NodeId, *kinds: type[Message]) -> None:
        """Deliver and save what only concerns these two, or only such messages."""
        ours = {one, other}
        while True:
            for name in ours:
                self.save(name)
            for packet in self.network:
                if {packet.sender, packet.to} == ours and (not kinds or isinstance(packet.message, kinds)):
                    self.pass_on(packet)
                    break
            else:
                return

    # Time

    def settle(self, rounds: int = 10_000) -> None:
        """Deliver and save everything until nothing is on its way, without letting time pass."""
        for _ in range(rounds):
            if self.network:
                self.pass_on(self.network[0])
            else:
                busy = [n for n, node in self.nodes.items() if node.saving and n not in self.stuck_disks]
                if not busy:
                    return
                self.save(busy[0])
        raise AssertionError("the cluster does not come to rest")

    def advance(self, milliseconds: float) -> None:
        """Let time pass, waking whoever asked for it, everything arriving at once."""
        end = self.now + milliseconds
        while True:
            self.settle()
            name = min(self.nodes, key=lambda n: self.nodes[n].wake_at)
            if self.nodes[name].wake_at > end:
                break
            self.now = max(self.now, self.nodes[name].wake_at)
            self.nodes[name].wake_at = float("inf")
            self.step(name, Tick())
        self.now = end
        self.settle()

    # What tests ask

    @property
    def leader(self) -> NodeId | None:
        """Who leads under the highest ballot."""
        leading = [
            (node.replica.phase.ballot, name)
            for name, node in self.nodes.items()
            if node.replica is not None and isinstance(node.replica.phase, Leading)
        ]
        return max(leading)[1] if leading else None

    def elect(self) -> NodeId:
        for _ in range(100):
            if self.leader is not None and all(
                n.replica is None or n.replica.leader == self.leader for n in self.nodes.values()
            ):
                return self.leader
            self.advance(50)
        raise AssertionError("nobody leads")

    def submit(self, name: NodeId, payload: bytes) -> int:
        self.tokens += 1
        self.step(name, Submit(self.tokens, payload))
        return self.tokens

    def ask(self, name: NodeId) -> int:
        self.tokens += 1
        self.step(name, Read(self.tokens))
        return self.tokens

    def replica(self, name: NodeId) -> Replica:
        replica = self.nodes[name].replica
        assert replica is not None
        return replica

    def isolate(self, name: NodeId) -> None:
        for other in self.nodes:
            if other != name:
                self.cut |= {(name, other), (other, name)}

    # Invariants

    def check(self, node: Node) -> None:
        """What must hold after every step of `node`."""
        replica = node.replica
        assert replica is not None
        promised = max(
            (r.ballot for r in node.disk if isinstance(r, Promised | Acceptance)), default=Ballot(0, "")
        )
        assert replica.acceptor.promised >= promised, "a promise was forgotten"
        if isinstance(replica.phase, Leading):
            owner = self.leaders.setdefault(replica.phase.ballot, node.name)
            assert owner == node.name, "two distinguished proposers for one ballot"

    def check_chosen(self) -> None:
        """One value per instance, ever: by what the disks of the acceptors hold, not by what replicas believe."""
        votes: dict[tuple[int, Ballot], set[NodeId]] = defaultdict(set)
        values: dict[tuple[int, Ballot], Value] = {}
        for name, node in self.nodes.items():
            for record in node.disk:
                if isinstance(record, Acceptance):
                    key = (record.instance, record.ballot)
                    votes[key].add(name)
                    assert values.setdefault(key, record.value) == record.value, (
                        f"two values proposed as {key}"
                    )
        for (instance, ballot), voters in votes.items():
            if self.configuration.is_quorum(voters):
                value = values[instance, ballot]
                assert self.chosen.setdefault(instance, value) == value, f"two values chosen for {instance}"
