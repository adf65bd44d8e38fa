"""A cluster of real replicas in a made-up world: one network, one disk each, one clock for all.

Shared by scripted scenarios and by random runs. Messages wait in `network` until somebody delivers, drops or repeats
them; saves wait in a node's `saving` until its disk gets to them; a crash loses what was not saved. After every step the
invariants of the protocol are checked (`check`).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from sofadb.paxos.ballot import Ballot, Instance, NodeId
from sofadb.paxos.effects import (
    Abandon,
    Deliver,
    Effect,
    GiveUp,
    Offer,
    Save,
    Send,
    Serve,
    Teach,
    WakeAt,
)
from sofadb.paxos.events import (
    CutOff,
    Damaged,
    Event,
    Founded,
    Moment,
    Read,
    Received,
    Reconfigure,
    Recovered,
    Started,
    Submit,
    Tick,
)
from sofadb.paxos.foundation import Foundation
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Accepted, Learn, Message, Promise
from sofadb.paxos.records import Acceptance, Learned, Note, Promised, Record
from sofadb.paxos.replica import Replica
from sofadb.paxos.settings import Settings
from sofadb.paxos.values import Configuration, Value


@dataclass
class Packet:
    sender: NodeId
    to: NodeId
    message: Message


@dataclass(frozen=True)
class Snapshot:
    """What a state machine had become, and what the core must know about it."""

    foundation: Foundation
    applied: tuple[bytes, ...]


@dataclass
class Node:
    """One process and its disk."""

    name: NodeId
    replica: Replica | None = None
    disk: list[Record | Damaged] = field(default_factory=list)
    """In the place of records that can be read no more stands the damage."""
    note: Note | None = None
    """Beside the log."""
    saving: list[Save] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    """On the disk, the newest last."""
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
        self.offers: list[tuple[NodeId, NodeId]] = []
        """Who offered its snapshot to whom."""
        self.chosen: dict[int, Value] = {}
        self.votes: dict[tuple[int, Ballot], set[NodeId]] = defaultdict(set)
        self.proposed: dict[tuple[int, Ballot], Value] = {}
        """What was ever seen on a disk, also where it has been cut off or lost since."""
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
        if node.snapshots:
            self.begin_from(node, node.snapshots[-1])
        if node.note is not None:
            self.step(name, Recovered(node.note))
        for record in list(node.disk):
            self.step(name, record if isinstance(record, Damaged) else Recovered(record))
        self.step(name, Started())

    def crash(self, name: NodeId, keep: int = 0) -> None:
        """Stop the process; of the saves under way, the first `keep` have reached the disk."""
        node = self.nodes[name]
        for save in node.saving[:keep]:
            node.disk.extend(save.records)
        node.replica, node.saving, node.wake_at = None, [], float("inf")

    def add(self, name: NodeId) -> None:
        """A node of which nobody has heard, with an empty disk."""
        self.nodes[name] = Node(name)
        self.start(name)

    def lose(self, name: NodeId) -> None:
        """The directory of `name` is lost, for ever."""
        self.check_chosen()
        self.crash(name)
        self.nodes[name].disk, self.nodes[name].snapshots = [], []

    # Snapshots

    def begin_from(self, node: Node, snapshot: Snapshot) -> None:
        node.applied = list(snapshot.applied)
        node.delivered = snapshot.foundation.instance
        self.step(node.name, Founded(snapshot.foundation))

    def snapshot(self, name: NodeId) -> Snapshot:
        """Write a snapshot of `name` as it is now; two are kept."""
        node = self.nodes[name]
        snapshot = Snapshot(self.replica(name).foundation(), tuple(node.applied))
        node.snapshots = [*node.snapshots[-1:], snapshot]
        return snapshot

    def cut_log(self, name: NodeId, upto: int | None = None) -> None:
        """Cut the log of `name` behind the older one of its snapshots (or where it is said)."""
        if upto is None:
            upto = self.nodes[name].snapshots[0].foundation.instance
        self.step(name, CutOff(Instance(upto)))

    def transfer(self, giver: NodeId, taker: NodeId) -> None:
        """`taker` fetches the newest snapshot of `giver`, makes it durable, and goes on from it if it reaches further."""
        snapshot = self.nodes[giver].snapshots[-1]
        node = self.nodes[taker]
        if snapshot.foundation.instance > self.replica(taker).sequence.watermark:
            node.snapshots = [*node.snapshots[-1:], snapshot]
            self.begin_from(node, snapshot)

    # Steps

    def step(self, name: NodeId, event: Event) -> list[Effect]:
        node = self.nodes[name]
        if node.replica is None:
            return []
        moment = Moment(self.now, int(self.now) + 1_000_000 + self.skew[name], self.random.random())
        effects = node.replica.step(event, moment)
        for effect in effects:
            self.perform(node, effect)
        if node.replica._is_started:
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
        elif isinstance(effect, Offer):
            self.offers.append((node.name, effect.to))
        elif isinstance(effect, GiveUp):
            assert is_saved, "it is given up before it is known to be of no use"
            self.check_chosen()
            beyond = (
                number
                for number, record in enumerate(node.disk)
                if isinstance(record, Acceptance | Learned) and record.instance > effect.upto
            )
            # What was saved together with this is no older than the last thing on the disk.
            del node.disk[: next(beyond, len(node.disk) - 3)]
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

    def flow(self, is_allowed: Callable[[Packet], bool]) -> None:
        """Save everything, and deliver what may be delivered; the rest stays on its way."""
        while True:
            for name in self.nodes:
                self.save(name)
            for packet in self.network:
                if (packet.sender, packet.to) not in self.cut and is_allowed(packet):
                    self.pass_on(packet)
                    break
            else:
                return

    def run_until(self, is_so: Callable[[], bool]) -> None:
        """Go on in the smallest steps; let time pass only if nothing else can happen."""
        for _ in range(20_000):
            if is_so():
                return
            busy = [n for n, node in self.nodes.items() if node.saving and n not in self.stuck_disks]
            if self.network:
                self.pass_on(self.network[0])
            elif busy:
                self.save(busy[0], 1)
            else:
                name = min(self.nodes, key=lambda n: self.nodes[n].wake_at)
                self.now = max(self.now, self.nodes[name].wake_at)
                self.nodes[name].wake_at = float("inf")
                self.step(name, Tick())
        raise AssertionError("it does not come to that")

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

    def change(self, acceptors: str, learners: str = "") -> None:
        """Ask the leader for a change, and let it come to be in force."""
        leader = self.leader
        assert leader is not None
        wanted = Configuration(tuple(sorted(acceptors.split())), tuple(sorted(learners.split())))
        self.step(leader, Reconfigure(wanted))
        for _ in range(100):
            self.settle()
            newest = self.leader
            if newest is not None:
                replica = self.replica(newest)
                if replica.membership.latest == wanted and replica.membership.is_settled(
                    replica.sequence.watermark
                ):
                    return
            self.advance(50)
        raise AssertionError("the change does not come to be in force")

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

    def acceptors_of(self, instance: int) -> Configuration:
        """Who votes on `instance`: by what was chosen, not by what replicas believe."""
        changes = [
            number
            for number, value in self.chosen.items()
            if value.configuration is not None and number + self.settings.alpha <= instance
        ]
        if not changes:
            return self.configuration
        configuration = self.chosen[max(changes)].configuration
        assert configuration is not None
        return configuration

    def check_chosen(self) -> None:
        """One value per instance, ever: by what the disks of the acceptors hold, not by what replicas believe."""
        votes, values = self.votes, self.proposed
        for name, node in self.nodes.items():
            for record in node.disk:
                if isinstance(record, Acceptance):
                    key = (record.instance, record.ballot)
                    votes[key].add(name)
                    assert values.setdefault(key, record.value) == record.value, (
                        f"two values proposed as {key}"
                    )
        for instance, ballot in sorted(votes):  # Changes come before those who vote by them.
            voters = votes[instance, ballot]
            if self.acceptors_of(instance).is_quorum(voters):
                value = values[instance, ballot]
                assert self.chosen.setdefault(instance, value) == value, f"two values chosen for {instance}"
