"""Faults: what may happen to nodes, disks, clocks and links, and whether it mattered.

Each kind of fault is a generator: it does its harm, yields for how long it lasts, and undoes what can be undone. What cannot
strike yet (nobody leads, the node is down already) is tried again a little later. For each kind is counted how often it
struck and how often it mattered, that is, changed what happened next: a link was cut or slow over which somebody spoke, a
machine lost its power and with it something unsynced, a wrong clock was told to others or stamped a value. A planned fault that
never struck makes the run a failure: then the laboratory, not the database, is broken.

The bounds within which SofaDB makes its promises are kept here: a disk loses its past, rots where it was synced, or is
thrown away with its machine only while what is left is a quorum of every configuration that is or may come to be in force
(`Ledger.is_enough`); of a node's two snapshots one at most is damaged; wrong clocks are fewer than half of any quorum; and a
disk is taken back to an earlier state only when all others have met its node in a later life (rule P10 says when an
older copy is *not* detected).

Members come and go: a machine's name is its node's, which may be several acceptors one after the other, and a name that is
free again is given to another machine later.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from itertools import count, pairwise, zip_longest
from typing import Protocol

from sofadb.database.database import Database
from sofadb.database.replies import Reply, ReplyError
from sofadb.node.host import EXIT_STORAGE
from sofadb.node.keeper import Errand
from sofadb.paxos.ballot import Ballot, NodeId
from sofadb.paxos.campaigning import Campaigning
from sofadb.paxos.events import Received
from sofadb.paxos.following import Following
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Refused
from sofadb.server.stopping import HAND_OVER_TIMEOUT_S, STOP_TIMEOUT_S
from sofadb.storage.files import PAGE_BYTES
from sofadb.storage.identity import plain_name
from sofadb.storage.journal import Journal
from sofadb.storage.segment import SEGMENT_HEADER_BYTES, SegmentHeader

from .clients import Client
from .cluster import PEER_PORT, Cluster, Machine
from .disk import SimulatedDisk
from .invariants import Violation
from .network import Connection
from .plan import Plan, Strike

Course = Generator[float, None, None]
"""A fault's course; it yields for how many seconds to wait."""

GREETING_UNITS = 2
"""The first so many units of a peer's connection are no messages."""
KIND_OFFSET = 13
"""Where in a message's unit its kind stands: behind the frame's header and the version."""
ACCEPT, ACCEPTED, LEARN, GRANT_READ, TAKE_OVER = 3, 4, 12, 15, 16
TELL_TIME = frozenset((2, 3, 9))
"""Kinds of messages with a clock or a stamp in them: promise, accept, confirmed."""
HEARTBEATS = frozenset((8, 9, 10))
"""Kinds of messages that come again and again anyway: confirm, confirmed, chosen."""
FOR_EVER_S = 1e9
A_DAY_MS = 86_400_000
PATIENCE_S = 1.0
"""So long a spoiled disk waits for being used."""
STOP_S_MAX = 2 * (HAND_OVER_TIMEOUT_S + STOP_TIMEOUT_S) + 3.0
"""So long a node may take to stop, on a clock of half the speed, and with a disk that is stuck for a while."""
STOPS_IN_ORDER = "who_is_told_to_stop_stops_in_order"
HANGS_S_MAX = 1.5
"""So long a leader may take, on a clock of half the speed, until it finds that its disk hangs."""
MORE_MAX = 4
"""So many machines are added at most so that others can be taken away."""
HEARD_AGAIN = ("old messages", "late grants")
"""Faults that say again, on a later connection, what was said before."""
REPLAYED_MAX = 50
"""So many old messages are kept, for each pair of nodes, to be heard again."""


class Story(Protocol):
    """Whoever wants to be told what happens in the world."""

    def __call__(self, text: str) -> None: ...


@dataclass(slots=True, eq=False)
class Muzzle:
    """One kind of message gets lost, or comes late, whoever says it."""

    kind: str
    """The fault's."""
    what: int
    """The message's."""
    delay_s: float | None = None
    """At most; None: it is lost."""
    share: float = 1.0
    """So much of it."""
    to: NodeId = ""
    """If it is said to this one; empty: to anybody."""
    count: int = 0
    kept: deque[bytes] = field(default_factory=lambda: deque(maxlen=REPLAYED_MAX))
    """The last of what was lost or late."""


class _Request(Errand):
    """A command about members, and what came of it."""

    def __init__(self, *words: str) -> None:
        super().__init__(*words)
        self.reply: Reply = None
        self.has_failed = False

    def execute(self, database: Database) -> None:
        (self.reply,) = self.run.execute(database)

    def fail(self, error: ReplyError) -> None:
        self.has_failed = True


class _Nothing:
    """A client's work that does nothing; but the laboratory sees when it is done."""

    size = 0

    def encode(self) -> bytes:
        return b""

    def execute(self, database: Database) -> None:
        """Nothing is what it does."""

    def fail(self, error: ReplyError) -> None:
        """Nobody waits for it."""


def a_leader_whose_disk_hangs_gives_up(name: NodeId, hangs_s: float) -> None:
    """Rule P6: its heartbeats flow, and yet it is not fit to lead."""
    if hangs_s > HANGS_S_MAX:
        raise Violation(
            "a_leader_whose_disk_hangs_gives_up",
            f"{name} has led for {hangs_s:.1f} s while nothing that it wrote got to its disk",
        )


def a_failed_disk_ends_the_node(machine: Machine, failures: int) -> None:
    """Rule P1: after a failed write or sync nothing is tried again; the process ends."""
    if failures and machine.is_up and not machine.is_paused:
        raise Violation("a_failed_disk_ends_the_node", f"{machine.name} goes on although its disk has failed")


class Faults:
    """All faults of one run."""

    def __init__(self, plan: Plan, cluster: Cluster, clients: list[Client], tell: Story) -> None:
        self.plan = plan
        self.cluster = cluster
        self.clients = clients
        self.tell = tell
        self.struck: Counter[str] = Counter()
        self.mattered: Counter[str] = Counter()
        self.damaged: set[NodeId] = set()
        """Nodes whose disks are no use any more."""
        self.excused: set[NodeId] = set()
        """Nodes that may end by themselves, since something was done to their disks."""
        self.core: tuple[NodeId, ...] = ()
        """Once it heals: the quorum that does."""
        self.wrong_clock: NodeId | None = None
        self._chance = random.Random(f"{plan.seed}/faults")
        self._mischief_chance = random.Random(f"{plan.seed}/mischief")
        self._cuts: Counter[tuple[NodeId, NodeId]] = Counter()
        self._cut_kinds: dict[tuple[NodeId, NodeId], str] = {}
        self._unstruck: list[Strike] = []
        self._remembers = "message replayed" in dict(plan.mischief) or any(
            strike.kind in HEARD_AGAIN for strike in plan.strikes
        )
        self._units: Counter[Connection] = Counter()
        """How many messages were said on each connection."""
        self._heard: dict[tuple[NodeId, NodeId], deque[bytes]] = {}
        self._rates = dict(plan.mischief)
        self._gave_way: set[NodeId] = set()
        """Who has asked another to take over."""
        self._peace = 0
        """How many want no mischief just now."""
        self._due = [kind for kind, _ in plan.mischief]
        """Mischief that has not struck yet: it does at the first occasion."""
        self._is_over = False
        cluster.network.mischief = self._on_unit
        self._muzzles: list[Muzzle] = []
        self._slow: dict[tuple[NodeId, NodeId], str] = {}
        """Links that are slow, and by which kind of fault."""
        self._wrong_kind = ""
        """By which kind of fault `wrong_clock` is wrong."""
        self._has_leases = bool(plan.settings.lease_ms)
        self._held: set[NodeId] = set()
        """Nodes that are down, and that whoever ended them will start again."""
        self.retired: set[NodeId] = set()
        """Those whose machines are gone; their names are free."""
        self._leaving: set[NodeId] = set()
        self._requests = 0
        """How many changes of members are being asked for."""
        self._numbers = count(plan.nodes + 1)
        self._rotten: set[str] = set()
        """Files of snapshots that were damaged, with their nodes."""

    @property
    def names(self) -> list[NodeId]:
        """Of all nodes whose machines are there."""
        return [name for name in self.cluster.machines if name not in self.retired]

    def acceptors(self, names: Iterable[NodeId]) -> frozenset[NodeId]:
        """What the disks of these stand for, as far as they have kept their past."""
        machines, ledger = self.cluster.machines, self.cluster.watch.ledger
        held = (machines[name].acceptor for name in names if name not in self.damaged)
        # One that has never promised anything may have to wait until it has heard all others (`node.freshness`).
        return frozenset(each for each in held if each in ledger.promised or "~" in each)

    @property
    def is_changing(self) -> bool:
        """Whether some change of members is wanted and not done."""
        machines = self.cluster.machines
        nodes = [each.running.node for each in machines.values() if each.running is not None]
        if self._requests or not nodes:
            return True
        members = max(nodes, key=lambda node: node.applied).database.shared.roster.members
        latest = self.cluster.watch.ledger.latest
        done = {*map(plain_name, latest.acceptors)} == {*members}
        lost = any(machines[name].acceptor not in latest.acceptors for name in self.names if name in members)
        return not done or lost or any(member.is_leaving for member in members.values())

    def _voters(self) -> list[NodeId]:
        """The nodes that vote, by the last change that was chosen, and have kept their past."""
        latest = self.cluster.watch.ledger.latest.acceptors
        return [name for name in self.names if self.cluster.machines[name].acceptor in latest]

    def _can_do_without(self, lost: NodeId) -> bool:
        """Whether the others can go on though this one's disk is lost for ever, now and when those have gone who are asked to.

        And, if it is about to join, when it has.
        """
        ledger, stay = self.cluster.watch.ledger, self._stay()
        latest = ledger.latest.acceptors
        others = self.acceptors(name for name in self.names if name != lost)
        able = self.acceptors(name for name in stay if name != lost) & {*latest}
        size = len(stay) + (lost not in map(plain_name, latest))
        return ledger.is_enough(others) and (size == len(latest) or 2 * len(able) > size)

    # The course of things

    def begin(self) -> None:
        """Let the planned faults strike when their time comes. Where there are leases, clocks drift as far as they may."""
        if self._has_leases:
            drift = self.plan.settings.drift_max
            for name in self.names:
                self.cluster.set_rate(name, self._chance.choice((1 - drift, 1.0, 1 + drift)))
        for strike in self.plan.strikes:
            self._unstruck.append(strike)
            self.cluster.simulation.call_at(strike.at, self._start, strike)
        self.cluster.simulation.call_later(0.2, self._supervise)

    def _start(self, strike: Strike) -> None:
        if not self._is_over:
            course = COURSES[strike.kind](self, strike)
            self._go_on(strike, course)

    def _go_on(self, strike: Strike, course: Course) -> None:
        if self._is_over:
            return
        wait_s = next(course, None)
        if wait_s is not None:
            self.cluster.simulation.call_later(wait_s, self._go_on, strike, course)

    def _strikes(self, strike: Strike, text: str, mattered: bool = False) -> None:
        """It strikes now."""
        if strike in self._unstruck:
            self._unstruck.remove(strike)
        self.struck[strike.kind] += 1
        self.tell(f"{strike.kind}: {text}")
        if mattered:
            self.matters(strike.kind)

    def matters(self, kind: str) -> None:
        """A fault of that kind has changed what happens."""
        self.mattered[kind] += 1

    @property
    def unstruck(self) -> list[str]:
        """Planned faults that have not struck."""
        return [*(strike.kind for strike in self._unstruck), *self._due]

    def _supervise(self) -> None:
        """Start again what ended by itself, as whoever looks after a cluster would; unless it can only end again."""
        for name in self.core if self._is_over else self.names:
            machine = self.cluster.machines[name]
            if not machine.is_up and name not in self.damaged and name not in self._held:
                machine.disk.is_full = False
                machine.disk.fail_next.clear()
                self.cluster.start(name)
        self.cluster.simulation.call_later(0.3, self._supervise)

    # Healing

    def heal(self, core: tuple[NodeId, ...]) -> None:
        """No fault strikes any more. The nodes of `core` and what lies between them are whole; the rest stays broken."""
        self._is_over = True
        self.core = core
        self._held.clear()
        cluster = self.cluster
        for machine in cluster.machines.values():
            machine.disk.crash_at = -1
        cluster.heal_all()
        for name in core:
            machine = cluster.machines[name]
            machine.disk.is_full = False
            machine.disk.fail_next.clear()
            cluster.set_rate(name, 1.0)
            cluster.set_clock(name, 0)
            if machine.is_up and machine.host is not None:
                cluster.resume(name)
                machine.host.stalled_until = 0.0
                machine.host.disk_latency_s = cluster.disk_latency_s
            elif not machine.is_up:
                cluster.start(name)
        are_calm = not self.is_changing and len({*core} & {*self._voters()}) >= 3
        if are_calm and self._chance.random() < 0.4:
            # Of two clocks the one behind decides: now and then time stands still, and what lives from then on lives shorter.
            self.wrong_clock, self._wrong_kind = self._chance.choice(core), "clock set"
            cluster.set_clock(self.wrong_clock, -A_DAY_MS)
            self.tell(f"the clock of {self.wrong_clock} stays a day behind")
        else:
            self.wrong_clock = None
        for name in self.names:
            if name not in core:
                self._leave_broken(name)
        for sender in self.names:
            for receiver in self.names:
                if sender != receiver:
                    cluster.network.link(sender, receiver).latency_s = self.plan.latency_s
        for client in self.clients:
            for name in self.names:
                cluster.network.link(f"c{client.number}", name).cut = False
                cluster.network.link(name, f"c{client.number}").cut = False
            client.disconnect()

    def _leave_broken(self, name: NodeId) -> None:
        """This one does not heal."""
        cluster = self.cluster
        way = self._chance.choice(("dead", "paused", "isolated", "deaf", "mute", "mischief", "hung", "hung"))
        machine = cluster.machines[name]
        if way == "hung" and machine.is_up and machine.host is not None:
            cluster.resume(name)
            machine.host.stalled_until = FOR_EVER_S
        self.tell(f"{name} stays {way}")
        if way == "dead" and machine.is_up:
            cluster.kill(name)
        elif way == "paused":
            cluster.pause(name)
        for other in self.names:
            if other != name and way in ("isolated", "deaf"):
                cluster.cut(other, name)
            if other != name and way in ("isolated", "mute"):
                cluster.cut(name, other)

    # Links

    def _cut(self, pairs: Iterable[tuple[NodeId, NodeId]], kind: str) -> list[tuple[NodeId, NodeId]]:
        done = [pair for pair in pairs if pair[0] != pair[1]]
        for pair in done:
            self._cuts[pair] += 1
            self._cut_kinds[pair] = kind
            self.cluster.cut(*pair)
        return done

    def _mend(self, pairs: Iterable[tuple[NodeId, NodeId]]) -> None:
        for pair in pairs:
            self._cuts[pair] -= 1
            if self._cuts[pair] == 0:
                self.cluster.heal(*pair)

    def _all_but(self, allowed: set[tuple[NodeId, NodeId]]) -> list[tuple[NodeId, NodeId]]:
        """All pairs but these, which count both ways."""
        return [
            (a, b)
            for a in self.names
            for b in self.names
            if a != b and (a, b) not in allowed and (b, a) not in allowed
        ]

    def _cut_for_a_while(self, strike: Strike, pairs: list[tuple[NodeId, NodeId]], text: str) -> Course:
        cut = self._cut(pairs, strike.kind)
        self._strikes(strike, text)
        yield strike.lasts
        self._mend(cut)

    def isolated_node(self, strike: Strike) -> Course:
        """A node is cut off from all others."""
        name = self._chance.choice(self.names)
        pairs = [pair for other in self.names for pair in ((name, other), (other, name))]
        yield from self._cut_for_a_while(strike, pairs, name)

    def deaf_node(self, strike: Strike) -> Course:
        """A node hears nobody, and everybody hears it."""
        name = self._chance.choice(self.names)
        yield from self._cut_for_a_while(strike, [(other, name) for other in self.names], name)

    def mute_node(self, strike: Strike) -> Course:
        """A node hears everybody, and nobody hears it."""
        name = self._chance.choice(self.names)
        yield from self._cut_for_a_while(strike, [(name, other) for other in self.names], name)

    def split(self, strike: Strike) -> Course:
        """Two parts that do not hear each other."""
        order = self._chance.sample(self.names, len(self.names))
        size = self._chance.randrange(1, len(order))
        left, right = order[:size], order[size:]
        pairs = [pair for a in left for b in right for pair in ((a, b), (b, a))]
        yield from self._cut_for_a_while(strike, pairs, f"{left} | {right}")

    def ring(self, strike: Strike) -> Course:
        """Each node hears its two neighbours only."""
        order = self._chance.sample(self.names, len(self.names))
        allowed = set(zip(order, order[1:] + order[:1], strict=True))
        yield from self._cut_for_a_while(strike, self._all_but(allowed), "-".join(order))

    def bridge(self, strike: Strike) -> Course:
        """All hear one node, and nobody hears anybody else."""
        name = self._chance.choice(self.names)
        allowed = {(name, other) for other in self.names}
        yield from self._cut_for_a_while(strike, self._all_but(allowed), f"over {name}")

    def chain(self, strike: Strike) -> Course:
        """Each node hears those before and behind it in a row."""
        order = self._chance.sample(self.names, len(self.names))
        allowed = set(pairwise(order))
        yield from self._cut_for_a_while(strike, self._all_but(allowed), "-".join(order))

    def flapping_link(self, strike: Strike) -> Course:
        """A link breaks and heals every few milliseconds."""
        a, b = self._chance.sample(self.names, 2)
        self._strikes(strike, f"{a}-{b}")
        end = self.cluster.now + strike.lasts
        while self.cluster.now < end:
            cut = self._cut([(a, b), (b, a)], strike.kind)
            yield self._chance.uniform(0.002, 0.1)
            self._mend(cut)
            yield self._chance.uniform(0.002, 0.1)

    def swizzle(self, strike: Strike) -> Course:
        """Some nodes are cut off one after the other, and come back in another order."""
        some = self._chance.sample(self.names, self._chance.randint(1, len(self.names)))
        self._strikes(strike, " ".join(some))
        cuts = []
        for name in some:
            pairs = [pair for other in self.names for pair in ((name, other), (other, name))]
            cuts.append(self._cut(pairs, strike.kind))
            yield strike.lasts / 4
        self._chance.shuffle(cuts)
        for cut in cuts:
            self._mend(cut)
            yield strike.lasts / 4

    def slow_answers(self, strike: Strike) -> Course:
        """What a leader hears comes later and later; then nobody hears it any more, while answers are still under way to it."""
        name = yield from self._leader()
        others = [other for other in self.names if other != name]
        deaf = self._chance.sample(others, self._chance.randint((len(others) + 1) // 2, len(others)))
        answers = [(other, name) for other in others]
        slow = 0.4 + 0.4 * strike.amount
        self._strikes(strike, f"{name}, {slow:.3f} s")
        for part in (0.25, 0.5, 0.75, 1.0):
            self._slow_down(answers, (slow * part * 0.9, slow * part), strike.kind)
            yield 0.2
        cut = self._cut([(name, other) for other in deaf], strike.kind)
        yield 0.8 + strike.lasts
        self._mend(cut)
        self._speed_up(answers)

    def _slow_down(
        self, pairs: list[tuple[NodeId, NodeId]], latency_s: tuple[float, float], kind: str
    ) -> None:
        for pair in pairs:
            self.cluster.network.link(*pair).latency_s = latency_s
            self._slow[pair] = kind

    def _speed_up(self, pairs: list[tuple[NodeId, NodeId]]) -> None:
        for pair in pairs:
            self.cluster.network.link(*pair).latency_s = self.plan.latency_s
            self._slow.pop(pair, None)

    def unheard_leaders(self, strike: Strike) -> Course:
        """A leader whose proposals reach nobody, and then one that hears of no acceptance. Whoever comes then hears of both."""
        first = yield from self._leader()
        muzzle = Muzzle(strike.kind, ACCEPT)
        self._muzzles.append(muzzle)
        yield 0.1 + 0.3 * self._chance.random()
        cut = self._cut(
            [pair for other in self.names for pair in ((first, other), (other, first))], strike.kind
        )
        muzzle.what = ACCEPTED
        second = first
        for _ in range(100):
            second = self.cluster.leader or first
            if second != first:
                break
            yield 0.02
        yield 0.1 + 0.3 * self._chance.random()
        self._mend(cut)
        # The next quorum has the first of them in it.
        others = [name for name in self.names if name != first]
        away = self._chance.sample(others, (len(self.names) - 1) // 2)
        cut = self._cut(
            [pair for name in away for other in self.names for pair in ((name, other), (other, name))],
            strike.kind,
        )
        self._strikes(strike, f"{first}, then {second}", mattered=muzzle.count > 0)
        self._step_down(second)
        yield 0.5 * self._chance.random()
        self._muzzles.remove(muzzle)
        yield 0.5 + strike.lasts
        self._mend(cut)

    def late_acceptances(self, strike: Strike) -> Course:
        """Leaders come and go. Most of their proposals are lost, and what was accepted is told to them late, or to the next."""
        yield from self._leader()
        muzzles = [
            Muzzle(strike.kind, ACCEPT, share=0.7),
            Muzzle(strike.kind, ACCEPTED, delay_s=0.2 + 0.6 * strike.amount),
        ]
        self._muzzles += muzzles
        self._strikes(strike, f"up to {muzzles[1].delay_s:.3f} s")
        end = self.cluster.now + 1.0 + strike.lasts
        while self.cluster.now < end:
            leader = yield from self._leader()
            if self._chance.random() < 0.3:
                self._step_down(leader)
            else:
                self._challenge(leader)
            yield from self._write_elsewhere_and_read_at(leader, self._chance.randint(5, 30))
        for muzzle in muzzles:
            self._muzzles.remove(muzzle)

    def _challenge(self, name: NodeId) -> None:
        """A leader hears of a higher ballot, which nobody goes on with: it goes on above that one."""
        machine = self.cluster.machines[name]
        if (
            machine.is_leading
            and not machine.is_paused
            and machine.running is not None
            and machine.loop is not None
        ):
            driver = machine.running.node.driver
            ballot = driver.replica.ballot
            other = self._chance.choice(driver.replica.others())
            refused = Refused(ballot, Ballot(ballot.round + 1, other))
            machine.loop.call_soon(driver.handle, Received(other, refused))

    def old_messages(self, strike: Strike) -> Course:
        """A node is killed, and when it is back it hears again what was said to it in its earlier lives."""
        name = yield from self._one_running()
        self._held.add(name)
        self.cluster.kill(name)
        yield 0.05
        self._start_again(name)
        end = self.cluster.now + 1.0 + strike.lasts
        heard = 0
        while self.cluster.now < end or not heard:
            yield self._chance.uniform(0.005, 0.05)
            if name in self.damaged or name in self.retired:
                yield from self.old_messages(strike)
                return
            for connection in self._connections_to(name):
                old = self._heard.get(self._pair(connection.client, name))
                if old:
                    heard += 1
                    connection.inject(True, self._chance.choice(old))
        self._strikes(strike, f"{name} hears {heard} old messages", mattered=True)

    def _connections_to(self, name: NodeId) -> list[Connection]:
        """Those on which others that have kept their past speak to a node."""
        return [
            each
            for each in self.cluster.network.connections()
            if each.server == name
            and each.port == PEER_PORT
            and self._units[each] > 5
            and each.client not in self.damaged
        ]

    def late_grants(self, strike: Strike) -> Course:
        """A node that was started again hears nothing new, while others write, but what its readers were granted before."""
        grants = yield from self._granted_reads(strike.kind)
        name, granted, known = grants.to, [*grants.kept], self.cluster.watch.ledger.visible
        acceptor = self.cluster.machines[name].acceptor
        yield from self._restart(name)
        for _ in range(100):
            if self.cluster.applied(name) >= known:
                break
            yield 0.01
        grants.delay_s = None
        deaf = [Muzzle(strike.kind, what, to=name) for what in (ACCEPT, LEARN)]
        self._muzzles += deaf
        self._strikes(strike, f"{name} hears {len(granted)} of them", mattered=True)
        end = self.cluster.now + 0.3 + strike.lasts
        while self.cluster.now < end and self.cluster.machines[name].acceptor == acceptor:
            for connection in self._connections_to(name):
                connection.inject(True, self._chance.choice(granted))
            yield from self._write_elsewhere_and_read_at(name, 1)
        for muzzle in (grants, *deaf):
            self._muzzles.remove(muzzle)

    def _granted_reads(self, kind: str) -> Generator[float, None, Muzzle]:
        """Start a node again, so that its attempts to read are counted from one on, and collect what they are granted."""
        while True:
            name = yield from self._follower()
            yield from self._restart(name)
            grants = Muzzle(kind, GRANT_READ, delay_s=0.03, to=name)
            self._muzzles.append(grants)
            for _ in range(200):
                if len(grants.kept) >= 30:
                    break
                yield from self._write_elsewhere_and_read_at(name, 1)
            if grants.kept and name in self._running():
                return grants
            self._muzzles.remove(grants)

    def slow_links(self, strike: Strike) -> Course:
        """Everything to and from a node takes long."""
        name = self._chance.choice(self.names)
        pairs = [pair for other in self.names if other != name for pair in ((name, other), (other, name))]
        self._slow_down(pairs, (0.02, 0.05 + 0.4 * strike.amount), strike.kind)
        self._strikes(strike, name)
        yield strike.lasts
        self._speed_up(pairs)

    def cut_client(self, strike: Strike) -> Course:
        """A client does not reach its node any more, or the other way round, or both."""
        client = self._chance.choice(self.clients)
        ways = self._chance.choice(((True, False), (False, True), (True, True)))
        name = f"c{client.number}"
        links = [
            link
            for node in self.names
            for link, wanted in zip(
                (self.cluster.network.link(name, node), self.cluster.network.link(node, name)),
                ways,
                strict=True,
            )
            if wanted
        ]
        for link in links:
            link.cut = True
        self._strikes(strike, name, mattered=client.is_asking)
        yield strike.lasts
        for link in links:
            link.cut = False

    # Processes and machines

    def _is_busy(self, machine: Machine) -> bool:
        """Whether its end changes anything: it leads, or something is on its way to its disk."""
        return machine.is_leading or self._is_writing(machine)

    def _is_writing(self, machine: Machine) -> bool:
        writer = None if machine.host is None else machine.host.writer
        return writer is not None and writer.pending_bytes > 0

    def _running(self) -> list[NodeId]:
        """Nodes that take part now."""
        return [
            name
            for name, machine in self.cluster.machines.items()
            if machine.is_up
            and not machine.is_paused
            and machine.server is not None
            and name not in self.damaged
            and name not in self.retired
        ]

    def _start_again(self, name: NodeId) -> None:
        self._held.discard(name)
        if name not in self.retired and not self.cluster.machines[name].is_up:
            self.cluster.start(name)

    def _one_running(self) -> Generator[float, None, NodeId]:
        """Wait until some node takes part; return one that does."""
        while not (running := self._running()):
            yield 0.02
        return self._chance.choice(running)

    def _leader(self) -> Generator[float, None, NodeId]:
        """Wait until somebody leads; return who, or after a while anybody."""
        for _ in range(50):
            leader = self.cluster.leader
            if leader is not None and leader in self._running():
                return leader
            yield 0.02
        return (yield from self._one_running())

    def _follower(self) -> Generator[float, None, NodeId]:
        """Wait until a node takes part that does not lead; return one."""
        while not (others := [name for name in self._running() if name != self.cluster.leader]):
            yield 0.02
        return self._chance.choice(others)

    def _restart(self, name: NodeId) -> Course:
        """Kill a node, and wait a while until it takes part again."""
        self._held.add(name)
        self.cluster.kill(name)
        yield 0.01
        self._start_again(name)
        for _ in range(50):
            if name in self._running():
                break
            yield 0.01

    def _established_leader(self) -> Generator[float, None, NodeId]:
        """Wait for a leader that may answer reads, by its lease where there are leases; return it, or after long anybody."""
        for _ in range(2_000):
            name = self.cluster.leader
            if name is not None and name in self._running():
                running = self.cluster.machines[name].running
                assert running is not None
                phase = running.replica.phase
                has_lease = isinstance(phase, Leading) and phase.holds_lease
                if isinstance(phase, Leading) and phase.is_established and has_lease >= self._has_leases:
                    return name
            yield 0.002
        return (yield from self._one_running())

    def _one_writing(self) -> Generator[float, None, NodeId]:
        """Wait a moment for a node with something on its way to its disk; return one, or, if none has, any that runs."""
        for _ in range(2_000):
            writing = [name for name in self._running() if self._is_writing(self.cluster.machines[name])]
            if writing:
                return self._chance.choice(writing)
            yield 0.0003
        return (yield from self._one_running())

    def _kill(self, strike: Strike, name: NodeId) -> Course:
        self._strikes(strike, name, mattered=self._is_busy(self.cluster.machines[name]))
        self._held.add(name)
        self.cluster.kill(name, in_the_middle=True)
        yield strike.lasts
        if strike.amount < 0.3 and not self.cluster.machines[name].is_up:
            # It is killed once more, while it starts.
            self.cluster.start(name)
            yield 0.02 * self._chance.random()
            self.cluster.kill(name)
        self._start_again(name)

    def killed_node(self, strike: Strike) -> Course:
        """kill -9, with something on its way to the disk."""
        name = yield from self._one_writing()
        yield from self._kill(strike, name)

    def killed_leader(self, strike: Strike) -> Course:
        """kill -9 of who leads."""
        name = yield from self._leader()
        yield from self._kill(strike, name)

    def killed_candidate(self, strike: Strike) -> Course:
        """A leader gives up. Whoever wants to follow it loses its power as soon as it asks for promises; and so the next."""
        struck = 0
        for tried in range(100):
            if struck == 3 or (struck and tried >= 3):
                break
            name = yield from self._leader()
            self._step_down(name)
            candidate = ""
            for _ in range(10_000):
                candidate = next(filter(self._is_candidate, self._running()), "")
                if candidate:
                    break
                yield 0.0002
            if not candidate:
                continue
            struck += 1
            self._held.add(candidate)
            cut = self._cut([(candidate, other) for other in self.names], strike.kind)
            lost = self.cluster.power_off(candidate, self._chance, strike.amount / 2)
            self._strikes(strike, f"{candidate}; {lost} pieces that were not synced are lost", mattered=True)
            yield 0.01
            self._mend(cut)
            self._start_again(candidate)
            yield 0.2

    def _is_candidate(self, name: NodeId) -> bool:
        running = self.cluster.machines[name].running
        return running is not None and isinstance(running.replica.phase, Campaigning)

    def _step_down(self, name: NodeId) -> None:
        """A leader gives up for no reason."""
        machine = self.cluster.machines[name]
        if machine.is_leading and machine.running is not None:
            machine.running.replica.become_following(None)

    def hand_over(self, strike: Strike) -> Course:
        """A leader is asked to hand over, and half of the time it does not hear its successor for a while."""
        name = yield from self._established_leader()
        machine = self.cluster.machines[name]
        assert machine.loop is not None
        assert machine.running is not None
        to = self._chance.choice([None, *machine.running.replica.others()])
        self._gave_way.discard(name)
        machine.loop.call_soon(machine.running.node.hand_over, to, 1_000 * strike.lasts)
        self._strikes(strike, f"{name} to {to or 'anybody'}")
        yield 0.0001
        phase = machine.running.replica.phase
        successor = plain_name(phase.successor or "") if isinstance(phase, Leading) else ""
        unheard = [] if not successor or strike.amount < 0.5 else [(successor, name)]
        end = self.cluster.now + strike.lasts
        while self.cluster.now < end and self.cluster.leader == name:
            if unheard and name in self._gave_way:
                break
            yield 0.0002
        cut = self._cut(unheard, strike.kind)
        while self.cluster.now < end and self.cluster.leader == name:
            yield 0.01
        if self.cluster.leader != name:
            self.matters(strike.kind)
        yield from self._write_elsewhere_and_read_at(name, 30)
        self._mend(cut)

    def _write_elsewhere_and_read_at(self, name: NodeId, times: int) -> Course:
        """Every 10 ms."""
        for _ in range(times):
            for other, machine in self.cluster.machines.items():
                if machine.server is not None and machine.is_up and not machine.is_paused:
                    assert machine.running is not None
                    assert machine.loop is not None
                    node = machine.running.node
                    machine.loop.call_soon(node.read if other == name else node.submit, _Nothing())
            yield 0.01

    def usurpers(self, strike: Strike) -> Course:
        """All nodes but the leader hear nothing of it, and do not wait until they miss it. Clients still reach it."""
        name = yield from self._established_leader()
        others = [other for other in self._running() if other != name]
        cut = self._cut([pair for other in others for pair in ((name, other), (other, name))], strike.kind)
        self._strikes(strike, f"against {name}")
        if strike.amount < 0.5:
            for other in others:
                self._held.add(other)
                self.cluster.kill(other)
            yield 0.002
            for other in others:
                self._start_again(other)
        for _ in range(30):
            for other in others:
                self._lose_patience(other)
            yield from self._write_elsewhere_and_read_at(name, 1)
        yield strike.lasts / 2
        self._mend(cut)

    def _lose_patience(self, name: NodeId) -> None:
        """A follower acts as if it had heard no leader for long."""
        machine = self.cluster.machines[name]
        if (
            machine.is_up
            and not machine.is_paused
            and machine.running is not None
            and machine.loop is not None
        ):
            driver = machine.running.node.driver
            if isinstance(driver.replica.phase, Following):
                driver.replica.phase.heard_at = driver.replica.phase.deadline = float("-inf")
                machine.loop.call_soon(driver.tick)

    def all_killed(self, strike: Strike) -> Course:
        """kill -9 of everybody."""
        running = self._running()
        while not running:
            yield 0.02
            running = self._running()
        self._strikes(strike, " ".join(running), mattered=True)
        self._held.update(running)
        for name in running:
            self.cluster.kill(name, in_the_middle=True)
        yield strike.lasts
        for name in running:
            self._start_again(name)

    def _power_off(self, strike: Strike, names: list[NodeId]) -> Course:
        self._held.update(names)
        lost = sum(self.cluster.power_off(name, self._chance, strike.amount) for name in names)
        text = f"{' '.join(names)}; {lost} pieces that were not synced are lost"
        self._strikes(strike, text, mattered=lost > 0)
        yield strike.lasts
        for name in names:
            self._start_again(name)

    def power_lost(self, strike: Strike) -> Course:
        """A machine loses its power, and any part of what was not synced."""
        name = yield from self._one_writing()
        yield from self._power_off(strike, [name])

    def power_lost_everywhere(self, strike: Strike) -> Course:
        """All machines lose their power at once."""
        yield from self._one_writing()
        yield from self._power_off(strike, self._running())

    def crash_while_writing(self, strike: Strike) -> Course:
        """A machine stops between two operations of its disk."""
        name = yield from self._one_running()
        machine = self.cluster.machines[name]
        disk, loop, host = machine.disk, machine.loop, machine.host
        assert loop is not None
        assert host is not None
        disk.crash_at = disk.operations + 1 + int(strike.amount * 12)

        def crash() -> None:
            self.cluster.network.power_cut(loop)
            loop.kill()
            self.cluster.watch.ended(name)

        disk.on_crash = crash
        while machine.loop is loop and loop.is_alive:
            yield 0.01
        if machine.disk is not disk or disk.operations != disk.crash_at:
            # Something else ended it first: once more, with what runs now.
            yield 0.05
            yield from self.crash_while_writing(strike)
            return
        self._held.add(name)
        lost = self.cluster.power_off(name, self._chance, strike.amount)
        self._strikes(
            strike, f"{name}, in its operation {disk.operations}; {lost} pieces lost", mattered=True
        )
        yield strike.lasts
        self._start_again(name)

    def _pause(self, strike: Strike, name: NodeId) -> Course:
        machine = self.cluster.machines[name]
        was_leading, loop = machine.is_leading, machine.loop
        self._strikes(strike, name, mattered=was_leading or self._is_busy(machine))
        self.cluster.pause(name)
        yield strike.lasts
        if machine.loop is loop:
            if self._is_behind(machine):
                self.matters(strike.kind)
            self.cluster.resume(name)

    def _is_behind(self, machine: Machine) -> bool:
        """Whether others know more to be chosen."""
        upto = [
            each.running.replica.sequence.watermark
            for each in (machine, *self.cluster.machines.values())
            if each.running is not None
        ]
        return machine.running is not None and max(upto) > upto[0]

    def paused_node(self, strike: Strike) -> Course:
        """SIGSTOP, and after a while SIGCONT."""
        name = yield from self._one_running()
        yield from self._pause(strike, name)

    def paused_leader(self, strike: Strike) -> Course:
        """The same to who leads."""
        name = yield from self._leader()
        yield from self._pause(strike, name)

    def stalled_node(self, strike: Strike) -> Course:
        """A process does nothing for some time, again and again."""
        name = yield from self._one_running()
        machine = self.cluster.machines[name]
        self._strikes(strike, name)
        end = self.cluster.now + strike.lasts
        while self.cluster.now < end:
            if machine.is_up and not machine.is_paused and machine.loop is not None:
                if self._is_busy(machine) or (machine.server is not None and machine.server.clients):
                    self.matters(strike.kind)
                machine.loop.stall(self._chance.uniform(0.01, 0.4))
            yield self._chance.uniform(0.05, 0.5)

    def stopped_node(self, strike: Strike) -> Course:
        """SIGTERM, mostly to who leads. If it leads at a moment of peace, another one leads in its place when it has stopped."""
        in_peace = strike.amount < 0.3
        self._peace += in_peace
        was_well = in_peace and (yield from self._is_well_for_long())
        name = yield from self._leader() if strike.amount < 0.6 else self._one_running()
        machine = self.cluster.machines[name]
        loop, host, server = machine.loop, machine.host, machine.server
        assert host is not None
        assert host.writer is not None
        assert server is not None
        was_leading = self.cluster.leader == name
        mattered = was_leading or bool(server.clients)
        self._held.add(name)
        self.cluster.stop(name)
        waited_s = 0.0
        while machine.loop is loop and machine.is_up:
            yield 0.005
            was_well = was_well and self._is_well(but=name)
            waited_s += 0.0 if machine.is_paused else 0.005
            if waited_s > STOP_S_MAX:
                raise Violation(STOPS_IN_ORDER, f"{name} has not stopped after {waited_s:.1f} s")
        self._peace -= in_peace
        if machine.loop is not loop or machine.end is None or machine.end.code != 0:
            # Something else ended it first: once more, with what runs now.
            self._held.discard(name)
            yield 0.05
            yield from self.stopped_node(strike)
            return
        machine.disk.forget_unfinished()
        if self.cluster.power_off(name, self._chance, keep=0.0) or host.writer.pending_bytes:
            raise Violation(STOPS_IN_ORDER, f"{name} has stopped, and not everything is on its disk")
        if was_well and was_leading and len(self.names) > 1 and self.cluster.leader is None:
            raise Violation(STOPS_IN_ORDER, f"{name} led, has stopped, and nobody leads in its place")
        self._strikes(strike, name, mattered)
        yield strike.lasts
        self._start_again(name)

    def _is_well_for_long(self) -> Generator[float, None, bool]:
        """Wait for half a second in which all is well; or not for ever, and then it is not."""
        well = 0
        for _ in range(300):
            well = well + 1 if self.cluster.leader is not None and self._is_well() else 0
            if well == 50:
                return True
            yield 0.01
        return False

    def _is_well(self, but: NodeId = "") -> bool:
        """Whether nothing is done just now to any link, clock or disk, nor to any node but one, and no member comes or goes."""
        if self.is_changing:
            return False
        machines = [self.cluster.machines[name] for name in self.names if name != but]
        return not (any(self._cuts.values()) or self._slow or self._muzzles or self.wrong_clock) and all(
            machine.is_up
            and not machine.is_paused
            and machine.server is not None
            and machine.host is not None
            and machine.host.stalled_until <= self.cluster.now
            and machine.host.disk_latency_s == self.cluster.disk_latency_s
            for machine in machines
        )

    # Disks

    def slow_disk(self, strike: Strike) -> Course:
        """Every write takes long."""
        name = yield from self._one_running()
        host = self.cluster.machines[name].host
        assert host is not None
        assert host.writer is not None
        host.disk_latency_s = (0.005, 0.01 + 0.2 * strike.amount)
        self._strikes(strike, name)
        blocks = host.writer.journal.blocks
        yield strike.lasts
        if host.writer.journal.blocks > blocks:
            self.matters(strike.kind)
        host.disk_latency_s = self.cluster.disk_latency_s

    def stuck_disk(self, strike: Strike) -> Course:
        """A disk does nothing for a while; half of the time a leader's, and then for so long that it has to give up."""
        is_leaders = strike.amount < 0.5
        name = yield from self._established_leader() if is_leaders else self._one_running()
        machine = self.cluster.machines[name]
        host, running = machine.host, machine.running
        assert host is not None
        lasts = max(strike.lasts, 3 * HANGS_S_MAX) if is_leaders else strike.lasts
        host.stalled_until = self.cluster.now + lasts
        self._strikes(strike, name, mattered=self._is_busy(machine))
        end = self.cluster.now + lasts
        phase = None if running is None else running.replica.phase
        waiting_since: float | None = None
        while self.cluster.now < end:
            # (What was under way when the disk stopped may have got there. And for what is no vote nobody waits.)
            has_votes = isinstance(phase, Leading) and bool(phase.unsaved) and self._is_writing(machine)
            if not has_votes or not machine.is_leading or machine.is_paused:
                waiting_since = None
            elif waiting_since is None:
                waiting_since = self.cluster.now
            is_same = running is machine.running and running is not None and running.replica.phase is phase
            if waiting_since is not None and is_same and host.stalled_until == end:
                a_leader_whose_disk_hangs_gives_up(name, self.cluster.now - waiting_since)
            yield 0.05

    def _disk_fails(self, strike: Strike, spoil: Callable[[SimulatedDisk], None], text: str) -> Course:
        """Spoil a disk and wait for its node to end of it. If nothing makes it touch the disk in that way, a restart does."""
        while True:
            name = yield from self._one_running()
            machine = self.cluster.machines[name]
            loop, disk = machine.loop, machine.disk
            self.excused.add(name)
            spoil(disk)
            failures = disk.failures
            end = self.cluster.now + PATIENCE_S
            while machine.loop is loop and machine.is_up and machine.disk is disk:
                yield 0.02
                if machine.loop is loop and machine.disk is disk:
                    a_failed_disk_ends_the_node(machine, disk.failures - failures)
                if self.cluster.now >= end and not machine.is_paused:
                    self.cluster.kill(name)
                    self.cluster.start(name)
                    loop, disk = machine.loop, machine.disk
                    failures = disk.failures
                    spoil(disk)
                    end = float("inf")
            disk.is_full = False
            disk.fail_next.clear()
            if machine.end is not None and machine.end.code == EXIT_STORAGE:
                self._strikes(strike, f"{name}, {text}: {machine.end.text}", mattered=True)
                return

    def failed_sync(self, strike: Strike) -> Course:
        """A sync fails."""

        def spoil(disk: SimulatedDisk) -> None:
            disk.fail_next["sync"] = 5

        yield from self._disk_fails(strike, spoil, "sync")

    def failed_write(self, strike: Strike) -> Course:
        """A write fails."""

        def spoil(disk: SimulatedDisk) -> None:
            disk.fail_next["write"] = 5

        yield from self._disk_fails(strike, spoil, "write")

    def full_disk(self, strike: Strike) -> Course:
        """Nothing more finds room."""

        def spoil(disk: SimulatedDisk) -> None:
            disk.is_full = True

        yield from self._disk_fails(strike, spoil, "full")

    def rotten_disk(self, strike: Strike) -> Course:
        """A bit flips where the disk was synced, while the node is down. It comes back, in doubt, and learns what it lacks."""
        while True:
            name = yield from self._one_of(self._can_do_without, self._running)
            place = _proven_place(self.cluster.machines[name].disk, self._chance)
            if place is not None:
                break
            yield 0.1
        machine = self.cluster.machines[name]
        self.cluster.kill(name)
        self.damaged.add(name)
        machine.disk.flip(*place, bit=self._chance.randrange(8))
        self._strikes(strike, f"{name}, {place[0]} at {place[1]}")
        yield strike.lasts
        has_told = False
        while (running := machine.running) is None or not machine.is_up or running.replica.is_in_doubt:
            if not machine.is_up:
                self._start_again(name)
            elif running is not None and not has_told:
                has_told = True
                self.tell(f"{name} is in doubt: {running.damage}")
                self.matters(strike.kind)
            yield 0.05
        self.damaged.discard(name)

    def _expect_end(self, kind: str, name: NodeId) -> Course:
        """It mattered if the node ends of it."""
        machine = self.cluster.machines[name]
        while machine.end is None:
            yield 0.05
        self.tell(f"{name} has ended: {machine.end.text}")
        self.matters(kind)

    def _well_met(self, name: NodeId) -> bool:
        """Whether every other node runs, and has met this one in its present life."""
        me = self.cluster.machines[name]
        if me.running is None or not me.is_up:
            return False
        identity = me.running.opened.identity
        others = [
            self.cluster.machines[other]
            for other in self._voters()
            if other != name and other not in self.damaged
        ]
        return all(
            each.is_up
            and each.running is not None
            and (peer := each.running.peers.known.get(identity.acceptor)) is not None
            and peer.life == identity.life
            for each in others
        )

    def _one_to_lose(self) -> Generator[float, None, NodeId]:
        """Wait for a node that all others have met, and without whose disk they can go on."""

        def may_be_lost(name: NodeId) -> bool:
            return self._well_met(name) and self._can_do_without(name)

        return (yield from self._one_of(may_be_lost, self._running))

    def _one_of(
        self, may_be: Callable[[NodeId], bool], names: Callable[[], list[NodeId]]
    ) -> Generator[float, None, NodeId]:
        """Wait for a node that may be taken away. If there is none for a second, there are too few: one more joins."""
        while True:
            for _ in range(50):
                if found := [name for name in names() if may_be(name)]:
                    return self._chance.choice(found)
                yield 0.02
            if len(self.names) < self.plan.nodes + MORE_MAX and self.cluster.leader is not None:
                name = self._new_machine()
                yield from self._ask_members("ADD", name, self.cluster.members[name])
                self.tell(f"{name} is to join, since there are too few")
                self._start_again(name)

    def _begin_without_past(self, strike: Strike, name: NodeId, disk: SimulatedDisk) -> Course:
        """The node is started on a disk that lacks what it promised. It matters when it has joined as another acceptor."""
        self.excused.add(name)
        self._held.add(name)
        self.cluster.lose_past(name, disk)
        yield strike.lasts
        self._start_again(name)
        machine = self.cluster.machines[name]
        while machine.has_lost_its_past:
            yield 0.05
        self.matters(strike.kind)

    def emptied_disk(self, strike: Strike) -> Course:
        """A node loses its directory and is started anew."""
        name = yield from self._one_to_lose()
        self.cluster.kill(name)
        self._strikes(strike, name)
        yield from self._begin_without_past(strike, name, SimulatedDisk())

    def new_directory(self, strike: Strike) -> Course:
        """A node loses its directory while another one is down."""
        name = yield from self._one_to_lose()
        down = self._chance.choice([other for other in self._running() if other != name] or [name])
        self._held.add(down)
        self.cluster.kill(down)
        self.cluster.kill(name)
        self._strikes(strike, f"{name}, while {down} is down")
        course = self._begin_without_past(strike, name, SimulatedDisk())
        yield next(course)
        self.cluster.simulation.call_later(strike.lasts, self._start_again, down)
        yield from course

    def old_disk(self, strike: Strike) -> Course:
        """A node gets a copy of its disk put back that was taken in an earlier life."""
        name = yield from self._one_to_lose()
        machine = self.cluster.machines[name]
        self.cluster.kill(name)
        copy, acceptor = machine.disk.copy(), machine.acceptor
        self.cluster.start(name)
        loop = machine.loop
        while not self._well_met(name) or not self._can_do_without(name):
            yield 0.05
            is_same = machine is self.cluster.machines[name] and machine.acceptor == acceptor
            if not is_same or name in self.damaged or name in self.retired:
                yield from self.old_disk(strike)
                return
            if machine.loop is not loop and not machine.is_up:
                yield 0.3
        self.cluster.kill(name)
        self._strikes(strike, name)
        yield from self._begin_without_past(strike, name, copy)

    # Snapshots

    def _begin_snapshot(self, kind: str, name: NodeId) -> None:
        machine = self.cluster.machines[name]
        running = machine.running

        def begin() -> None:
            if running is not None and running.world.snapshots.begin():
                self.matters(kind)

        if machine.loop is not None and machine.is_up:
            machine.loop.call_soon(begin)

    def _write(self, times: int, size: int, every_s: float) -> Course:
        """Keys of which nobody looks at the values."""
        for number in range(times):
            name = yield from self._one_running()
            machine = self.cluster.machines[name]
            assert machine.loop is not None
            assert machine.running is not None
            errand = Errand("SET", f"any{number % 6}", f"{number}".ljust(size, "x"))
            machine.loop.call_soon(machine.running.node.submit, errand)
            yield every_s

    def snapshot_now(self, strike: Strike) -> Course:
        """All nodes take a snapshot at once, while somebody writes; then one of them is killed, and begins from it."""
        yield from self._one_running()
        names = self._running()
        self._strikes(strike, " ".join(names))
        for name in names:
            self._begin_snapshot(strike.kind, name)
        yield from self._write(30, 1 + int(200 * strike.amount), 0.001)
        name = yield from self._one_running()
        self._held.add(name)
        self.cluster.kill(name)
        yield 0.05
        self._start_again(name)

    def learning_node(self, strike: Strike) -> Course:
        """A node gets no proposals and learns what was chosen, while its log is cut; then it is started again."""
        name = yield from self._one_running()
        muzzle = Muzzle(strike.kind, ACCEPT, to=name)
        self._muzzles.append(muzzle)
        self._step_down((yield from self._leader()))
        for _ in range(3):
            yield 0.3
            yield from self._write(8, 5_000, 0.02)
            self._begin_snapshot(strike.kind, name)
        yield 0.1
        self._muzzles.remove(muzzle)
        self._strikes(strike, name)
        if name in self._running():
            self._held.add(name)
            self.cluster.kill(name)
            yield 0.05
            self._start_again(name)

    def snapshot_damaged(self, strike: Strike) -> Course:
        """Of a node's two snapshots one rots, mostly the newest. The node finds it at its next start."""
        while True:
            name = yield from self._one_running()
            whole = yield from self._two_snapshots(name)
            if whole:
                break
            yield 0.05
        machine = self.cluster.machines[name]
        self.cluster.kill(name)
        self._held.add(name)
        file = whole[-1] if strike.amount < 0.75 else whole[0]
        self._rotten.add(f"{name}/{file}")
        size = len(machine.disk.latest[file].latest)
        machine.disk.flip(file, self._chance.randrange(size), bit=self._chance.randrange(8))
        before = len(_damaged_snapshots(machine.disk))
        self._strikes(strike, f"{name}, {file}")
        yield strike.lasts
        self._start_again(name)
        while machine.server is None and name not in self.retired:
            yield 0.05
        if len(_damaged_snapshots(machine.disk)) > before:
            self.matters(strike.kind)

    def _two_snapshots(self, name: NodeId) -> Generator[float, None, list[str]]:
        """Have a node take snapshots until it has two that nobody has damaged; return them, or nothing if it ends."""
        machine = self.cluster.machines[name]
        running, loop = machine.running, machine.loop
        assert running is not None
        assert loop is not None
        for _ in range(200):
            files = [each.name for each in running.world.snapshots.known][::-1]
            rotten = [file for file in files if f"{name}/{file}" in self._rotten]
            if name not in self._running() or machine.running is not running:
                return []
            if len(files) == 2 and not rotten:
                return files
            loop.call_soon(running.node.submit, _Nothing())
            loop.call_soon(running.world.snapshots.begin)
            yield 0.05
        return []

    # Members

    def _ask_members(self, *words: str) -> Generator[float, None, bool]:
        """Ask for a change, on any node, until somebody says what came of it. Returns whether it was granted."""
        self._requests += 1
        while True:
            name = yield from self._one_running()
            machine = self.cluster.machines[name]
            running, request = machine.running, _Request("SOFA.MEMBER", *words)
            assert running is not None
            assert machine.loop is not None
            machine.loop.call_soon(running.node.submit, request)
            while not request.has_failed and machine.running is running and machine.is_up:
                if request.reply is not None:
                    self._requests -= 1
                    return not isinstance(request.reply, ReplyError)
                yield 0.01
            yield 0.02

    def _new_machine(self) -> NodeId:
        """A machine that is still to be started; half of the time of a name that was somebody else's."""
        free = sorted(self.retired)
        name = (
            self._chance.choice(free) if free and self._chance.random() < 0.5 else f"n{next(self._numbers)}"
        )
        self._held.add(name)
        self.cluster.add_machine(name, self._voters())
        self.retired.discard(name)
        return name

    def _until_it_votes(self, kind: str, name: NodeId) -> Course:
        machine = self.cluster.machines[name]
        while machine.acceptor not in self.cluster.watch.ledger.latest.acceptors:
            yield 0.05
        self.matters(kind)

    def _until_it_is_gone(self, kind: str, name: NodeId, after_s: float) -> Course:
        """Wait until a node has no vote any more; then its machine is thrown away."""
        while name in map(plain_name, self.cluster.watch.ledger.latest.acceptors):
            yield 0.05
        self.matters(kind)
        yield after_s
        while not self._can_do_without(name):
            yield 0.05
        self.cluster.kill(name)
        self.tell(f"the machine of {name} is gone")
        self.retired.add(name)
        for those in (self.damaged, self._held, self._leaving):
            those.discard(name)

    def _stay(self) -> list[NodeId]:
        """Who votes and is not asked to go."""
        latest = self.cluster.watch.ledger.latest.acceptors
        return sorted(name for name in {*map(plain_name, latest)} - self._leaving if name in self.names)

    def member_added(self, strike: Strike) -> Course:
        """A machine joins the cluster, learns all there is, and votes."""
        name = self._new_machine()
        if strike.amount < 0.3:
            self._start_again(name)
        yield from self._ask_members("ADD", name, self.cluster.members[name])
        self._strikes(strike, name)
        self._start_again(name)
        yield from self._until_it_votes(strike.kind, name)

    def member_replaced(self, strike: Strike) -> Course:
        """A new machine takes the place of a member, which may be one that is of no use any more."""
        old = yield from self._one_of(lambda name: True, self._stay)
        self._leaving.add(old)
        name = self._new_machine()
        if not (yield from self._ask_members("REPLACE", old, name, self.cluster.members[name])):
            self.retired.add(name)
            self._leaving.discard(old)
            yield 0.1
            yield from self.member_replaced(strike)
            return
        self._strikes(strike, f"{old} by {name}")
        yield strike.lasts / 4
        self._start_again(name)
        yield from self._until_it_is_gone(strike.kind, old, strike.lasts)

    def _remove(self, strike: Strike, name: NodeId) -> Course:
        self._leaving.add(name)
        yield from self._ask_members("REMOVE", name, "FORCE")
        self._strikes(strike, name)
        yield from self._until_it_is_gone(strike.kind, name, strike.lasts)

    def member_removed(self, strike: Strike) -> Course:
        """A member leaves the cluster."""
        name = yield from self._one_to_remove()
        yield from self._remove(strike, name)

    def leader_removed(self, strike: Strike) -> Course:
        """Who leads leaves the cluster, and hands over before it goes."""
        name = yield from self._one_to_remove()
        leader = yield from self._leader()
        yield from self._remove(strike, leader if self._can_be_removed(leader) else name)

    def _one_to_remove(self) -> Generator[float, None, NodeId]:
        return self._one_of(self._can_be_removed, self._stay)

    def _can_be_removed(self, name: NodeId) -> bool:
        """Whether three or more stay, and are enough without it, be some of them lost."""
        stay, latest = {*self._stay()} - {name}, self.cluster.watch.ledger.latest.acceptors
        alive = self.acceptors(stay) & {*latest}
        is_voter = name in self._stay()
        return is_voter and len(stay) >= 3 and self._can_do_without(name) and 2 * len(alive) > len(stay)

    # Clocks

    def _wrong_clock(self, kind: str) -> Generator[float, None, NodeId]:
        """Wait for all clocks to be right; return the one that will be wrong."""
        while self.wrong_clock is not None:
            yield 0.05
        self.wrong_clock, self._wrong_kind = self._chance.choice(self.names), kind
        return self.wrong_clock

    def _right_again(self, name: NodeId) -> Course:
        """The clock is right again; what others heard of it counts for a while yet."""
        self.cluster.set_rate(name, 1.0)
        self.cluster.set_clock(name, 0)
        yield 1.0
        self.wrong_clock = None

    def _offset_ms(self, amount: float) -> int:
        far = (1_000, 3_600_000, 86_400_000, 315_360_000_000)[int(amount * 4)]
        return self._chance.choice((-far, far))

    def clock_set(self, strike: Strike) -> Course:
        """A clock is set wrong, by a second to ten years."""
        name = yield from self._wrong_clock(strike.kind)
        offset_ms = self._offset_ms(strike.amount)
        self.cluster.set_clock(name, offset_ms)
        self._strikes(strike, f"{name} by {offset_ms} ms")
        yield strike.lasts
        yield from self._right_again(name)

    def clock_strobe(self, strike: Strike) -> Course:
        """A clock jumps to and fro."""
        name = yield from self._wrong_clock(strike.kind)
        self._strikes(strike, name)
        end = self.cluster.now + strike.lasts
        while self.cluster.now < end:
            self.cluster.set_clock(name, self._offset_ms(self._chance.random()))
            yield self._chance.uniform(0.005, 0.2)
        yield from self._right_again(name)

    def clock_rate(self, strike: Strike) -> Course:
        """A machine's clocks, the monotonic one too, run too fast or too slow."""
        name = yield from self._wrong_clock(strike.kind)
        drift = self.plan.settings.drift_max
        rates = (1 - drift, 1 + drift) if self._has_leases else (0.5, 0.9, 1.1, 2.0)
        rate = rates[int(strike.amount * len(rates))]
        self.cluster.set_rate(name, rate)
        self._strikes(strike, f"{name} at {rate}")
        yield strike.lasts
        yield from self._right_again(name)

    # Messages

    def _on_unit(
        self, connection: Connection, to_server: bool, number: int, data: bytes
    ) -> list[tuple[float, bytes]] | None:
        """What becomes of one message between nodes."""
        if connection.port != PEER_PORT:
            return None
        sender, receiver = connection.client, connection.server
        if not to_server or number < GREETING_UNITS:
            return None
        if self._cuts and self._cuts[sender, receiver] > 0:
            self.matters(self._cut_kinds[sender, receiver])
        if (sender, receiver) in self._slow:
            self.matters(self._slow[sender, receiver])
        if sender == self.wrong_clock and data[KIND_OFFSET] in TELL_TIME:
            self.matters(self._wrong_kind)
        if data[KIND_OFFSET] == TAKE_OVER:
            self._gave_way.add(sender)
        for muzzle in self._muzzles:
            if (
                data[KIND_OFFSET] == muzzle.what
                and muzzle.to in ("", receiver)
                and not self._is_over
                and self._chance.random() < muzzle.share
            ):
                muzzle.count += 1
                muzzle.kept.append(data)
                self.matters(muzzle.kind)
                return [] if muzzle.delay_s is None else [(self._chance.uniform(0.02, muzzle.delay_s), data)]
        rates = {} if self._peace else self._rates
        if self._remembers:
            self._units[connection] = number
            self._remember(sender, receiver, data)
        if not rates or (self._is_over and sender in self.core and receiver in self.core):
            return None
        for kind, rate in rates.items():
            is_due = kind in self._due
            if is_due or self._mischief_chance.random() < rate:
                copies = self._mischief(kind, connection, data)
                if copies is not None:
                    if is_due:
                        self._due.remove(kind)
                    self.struck[kind] += 1
                    if data[KIND_OFFSET] not in HEARTBEATS:
                        self.matters(kind)
                    return copies
        return None

    def _pair(self, sender: NodeId, receiver: NodeId) -> tuple[NodeId, NodeId]:
        """Which acceptors these are now: what was for one is never heard by another."""
        machines = self.cluster.machines
        one, other = machines.get(sender), machines.get(receiver)
        return ("" if one is None else one.acceptor, "" if other is None else other.acceptor)

    def _remember(self, sender: NodeId, receiver: NodeId, data: bytes) -> None:
        pair = self._pair(sender, receiver)
        if not all(pair):
            return
        if data[KIND_OFFSET] not in HEARTBEATS or self._mischief_chance.random() < 0.1:
            self._heard.setdefault(pair, deque(maxlen=REPLAYED_MAX)).append(data)

    def _mischief(self, kind: str, connection: Connection, data: bytes) -> list[tuple[float, bytes]] | None:
        """The copies of a message that arrive instead of it, and after which delay; None: this is no occasion."""
        chance = self._mischief_chance
        if kind == "message lost":
            return []
        if kind == "message twice":
            return [(0.0, data), (chance.uniform(0.0, 0.5), data)]
        if kind == "message late":
            return [(chance.uniform(0.0, 0.5), data)]
        if kind == "message damaged":
            at = chance.randrange(len(data) if chance.random() < 0.5 else KIND_OFFSET)
            return [(0.0, data[:at] + bytes((data[at] ^ 1 << chance.randrange(8),)) + data[at + 1 :])]
        sender = connection.client
        heard = self._heard.get(self._pair(sender, connection.server))
        if not heard:
            return None
        return [(0.0, data), (chance.uniform(0.0, 0.1), chance.choice(heard))]


def _damaged_snapshots(disk: SimulatedDisk) -> list[str]:
    return [name for name in disk.names() if name.startswith("damaged-")]


def _proven_place(disk: SimulatedDisk, chance: random.Random) -> tuple[str, int] | None:
    """A byte of the journal that is proven to have been synced."""
    try:
        journal = Journal.open(disk.copy(), owner=_owner_of(disk))
    except BaseException:  # noqa: BLE001 (It is not readable now: it is being written.)
        return None
    places = []
    for segment, later in zip_longest(journal.segments, journal.segments[1:]):
        end = segment.mark.end if later is None else later.header.previous_end
        if end > SEGMENT_HEADER_BYTES:
            places.append((segment.name, chance.randrange(SEGMENT_HEADER_BYTES, end)))
    return chance.choice(places) if places else None


def _owner_of(disk: SimulatedDisk) -> int:
    """Whose journal it is: as the header of its first segment says."""
    for name in disk.names():
        if name.startswith("journal-") and name.endswith(".seg"):
            header = SegmentHeader.decode(disk.open(name).read(PAGE_BYTES, 0))
            if isinstance(header, SegmentHeader):
                return header.owner
    return 0


COURSES: dict[str, Callable[[Faults, Strike], Course]] = {
    "isolated node": Faults.isolated_node,
    "deaf node": Faults.deaf_node,
    "mute node": Faults.mute_node,
    "split": Faults.split,
    "ring": Faults.ring,
    "bridge": Faults.bridge,
    "chain": Faults.chain,
    "flapping link": Faults.flapping_link,
    "swizzle": Faults.swizzle,
    "slow links": Faults.slow_links,
    "slow answers": Faults.slow_answers,
    "unheard leaders": Faults.unheard_leaders,
    "late acceptances": Faults.late_acceptances,
    "killed candidate": Faults.killed_candidate,
    "late grants": Faults.late_grants,
    "old messages": Faults.old_messages,
    "cut client": Faults.cut_client,
    "killed node": Faults.killed_node,
    "killed leader": Faults.killed_leader,
    "all killed": Faults.all_killed,
    "stopped node": Faults.stopped_node,
    "power lost": Faults.power_lost,
    "power lost everywhere": Faults.power_lost_everywhere,
    "crash while writing": Faults.crash_while_writing,
    "paused node": Faults.paused_node,
    "paused leader": Faults.paused_leader,
    "stalled node": Faults.stalled_node,
    "slow disk": Faults.slow_disk,
    "stuck disk": Faults.stuck_disk,
    "failed sync": Faults.failed_sync,
    "failed write": Faults.failed_write,
    "full disk": Faults.full_disk,
    "rotten disk": Faults.rotten_disk,
    "emptied disk": Faults.emptied_disk,
    "old disk": Faults.old_disk,
    "clock set": Faults.clock_set,
    "clock strobe": Faults.clock_strobe,
    "clock rate": Faults.clock_rate,
    "hand over": Faults.hand_over,
    "usurpers": Faults.usurpers,
    "member added": Faults.member_added,
    "member replaced": Faults.member_replaced,
    "member removed": Faults.member_removed,
    "leader removed": Faults.leader_removed,
    "new directory": Faults.new_directory,
    "snapshot now": Faults.snapshot_now,
    "learning node": Faults.learning_node,
    "snapshot damaged": Faults.snapshot_damaged,
}
