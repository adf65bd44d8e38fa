"""One run: a plan, carried out and judged.

At first it is rough: clients ask, faults strike, the network makes mischief. Then a random quorum heals and the rest stays
broken, perhaps for ever. That quorum must finish everything asked of it: every client is answered, new requests are served,
its nodes come to the same state, and reads from each of them, with all that the clients saw before, make a history that the
checkers accept.

The invariants are judged all the while (`watch`); the first violation ends the run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from sofadb.database.database import Database
from sofadb.database.replies import ReplyError
from sofadb.node.host import EXIT_INVARIANT, EXIT_NOT_FOUND
from sofadb.node.snapshots import SnapshotSettings
from sofadb.unlikely import choose_by, never

from .checker import check as check_registers
from .checkers import bank, counters, expiry, lists, locks, queues
from .clients import Client, Records
from .cluster import CLIENT_PORT, Cluster
from .faults import Faults
from .invariants import Violation, states_are_equal
from .loop import Circle, ProcessLoop
from .plan import CLOCKS, Plan

BEGIN_S = 0.3
"""When clients begin."""
PROBE_EVERY_S = 0.02
STANDSTILL_S_MAX = 40.0
"""Once it has healed, something is done at least so often until all is done ..."""
HEAL_S_MAX = 400.0
"""... and all is done in this time."""
LAST_REQUESTS = 3
"""So many requests of each client must succeed once it has healed."""
CHANCE_OF_UNLIKELY = 0.25
"""How often the unlikely is chosen at a point that is active."""
RARE = {
    "step down": 0.01,
    "early timeout": 0.02,
    "link broken": 0.01,
    "message lost": 0.05,
    "too much unsaved": 0.1,
    "smallest quorum": 0.1,
}
"""Points where a quarter of the time would leave nothing else."""
TIME_BOUND_MS = 700
"""The bound on stamps (rule P5), and what a clock may lose while it is asked."""
RIGHT_BOUND_MS = 150
"""And where all clocks are right."""
LATE_MS = 8_000.0
"""So much later than it should a key may be gone while a cluster finds itself again."""


JUDGED_HERE = {
    "nodes_end_only_for_a_reason": (
        "A node ends by itself only if its disk failed it; never by a broken invariant of its own."
    ),
    "a_failed_disk_ends_the_node": (
        "Rule P1: after a failed write or sync nothing is tried again; the process ends."
    ),
    "who_is_told_to_stop_stops_in_order": (
        "A node that is told to stop ends by itself, soon, with everything on its disk; a leader whose cluster "
        "is well hands over first."
    ),
    "a_leader_whose_disk_hangs_gives_up": (
        "Rule P6: a leader whose votes do not get to its disk steps down, though its heartbeats flow."
    ),
    "nothing_goes_round_in_a_circle": "No node keeps its processor busy while time stands still.",
    "clients_get_no_other_error": (
        "A client gets what it asked for, or NOREPLICAS or UNCERTAIN (rule D8); nothing else."
    ),
    "pipelines_in_order": "What one connection asks in a row happens in that order, as with Redis.",
    "the_quorum_finishes": (
        "Once a quorum has healed, every client of it is answered, whatever the others do."
    ),
    "the_quorum_serves": "And all that is asked of it from then on is done.",
    "who_is_wanted_votes": (
        "And who was added, or has lost its directory, comes to vote if it and such a quorum are there."
    ),
    "replicas_converge": "And its nodes come to the same state.",
    "reads_are_linearizable": (
        "All answers could have been given by one register per key (rule P7); what was refused is "
        "never seen (D8)."
    ),
    "transactions_are_serializable": (
        "Transactions behave as if done one after the other, in the order of real time (Elle's rules)."
    ),
    "the_total_is_constant": "No read of all accounts sees half of a transfer (rule D3).",
    "expiry_keeps_its_bounds": (
        "No key is gone before its time but for the bound on clocks, none comes back, and none "
        "stays (rules P5, D1)."
    ),
    "ids_are_executed_once": (
        "A command with an id is executed once, however often and wherever it is asked for again, and all "
        "its answers are the same."
    ),
    "locks_have_one_holder": (
        "No two hold a lock, tokens rise, and what is written behind a token is turned down once another "
        "holds the lock."
    ),
    "queues_lose_nothing": (
        "What is pushed to a list comes out once and in order, whoever waited for it and went away; nothing is taken "
        "but for somebody who is told so, or cannot be (rule D3)."
    ),
    "who_came_first_is_served_first": "Of two who wait for the same, on whatever nodes, the first is served first (rule D3).",
    "reads_see_the_instance_they_name": (
        "Behind SOFA.AFTER, and by READONLY from then on, everything up to that instance is seen."
    ),
    "every_planned_fault_strikes": (
        "A run whose planned fault never struck shows nothing: the laboratory is broken."
    ),
    "the_laboratory_works": "Nor does one in which the laboratory itself fails.",
}
"""What is judged of a whole run, and why. (`invariants` holds what is judged after every step.)"""


@dataclass(slots=True)
class Outcome:
    """What became of a run."""

    plan: Plan
    violation: Violation | None = None
    struck: Counter[str] = field(default_factory=Counter)
    mattered: Counter[str] = field(default_factory=Counter)
    chosen: Counter[str] = field(default_factory=Counter)
    """How often the unlikely was chosen, at each point."""
    steps: int = 0
    """Of replicas."""
    simulated_s: float = 0.0
    instances: int = 0
    answers: int = 0
    leaders: int = 0
    trace: int = 0
    """A checksum of the run: equal if and only if, in all likelihood, the runs are."""


def run(
    plan: Plan,
    tell: Callable[[float, str], None] | None = None,
    prepare: Callable[[World], object] | None = None,
) -> Outcome:
    """Carry out a plan. `tell` is told, with the time, what happens in the world; `prepare` may look at the world first."""
    world = World(plan, tell)
    outcome = Outcome(plan)
    try:
        if prepare is not None:
            prepare(world)
        choose_by(world.choose)
        world.live()
    except Violation as violation:
        outcome.violation = violation
    except Circle as circle:
        outcome.violation = Violation("nothing_goes_round_in_a_circle", str(circle))
    except Exception as broken:  # noqa: BLE001 (Of the laboratory: what a node raises is its own affair.)
        outcome.violation = Violation("the_laboratory_works", repr(broken))
    finally:
        choose_by(never)
        world.cluster.close()
    outcome.struck, outcome.mattered = world.faults.struck, world.faults.mattered
    outcome.chosen = world.chosen
    watch = world.cluster.watch
    outcome.steps, outcome.trace, outcome.leaders = watch.steps, watch.trace, watch.leaders_seen
    outcome.simulated_s = world.cluster.now
    outcome.instances, outcome.answers = len(watch.ledger.delivered), world.records.answered
    return outcome


class Probe:
    """A read that nobody waits for: whether it may be answered is judged by the watch."""

    size = 0

    def encode(self) -> bytes:
        """It is no write."""
        raise AssertionError("a read is not encoded")

    def execute(self, database: Database) -> None:
        """It is answered."""

    def fail(self, error: ReplyError) -> None:
        """Or it is not."""


class World:
    """A cluster, its clients and its faults."""

    def __init__(self, plan: Plan, tell: Callable[[float, str], None] | None = None) -> None:
        self.plan = plan
        self._tell = tell
        self.cluster = Cluster(
            str(plan.seed),
            plan.names,
            plan.settings,
            plan.segment_bytes,
            latency_s=plan.latency_s,
            snapshot_settings=SnapshotSettings(plan.snapshot_bytes),
        )
        self.records = Records()
        self.clients = [self._client(number) for number in range(1, plan.clients + 1)]
        self.faults = Faults(plan, self.cluster, self.clients, self.tell)
        self.healed: tuple[str, ...] = ()
        self.chosen: Counter[str] = Counter()
        self._points = frozenset(plan.points)
        self._chance = random.Random(f"{plan.seed}/unlikely")
        self._probing = random.Random(f"{plan.seed}/probes")
        self.cluster.watch.right_time = self._right_time

    @property
    def core(self) -> tuple[str, ...]:
        """Of those that have healed, who has a vote (now: some may be about to leave, or to come back)."""
        machines, latest = self.cluster.machines, self.cluster.watch.ledger.latest.acceptors
        return tuple(name for name in self.healed if machines[name].acceptor in latest)

    def tell(self, text: str) -> None:
        """Something happens that is worth a line."""
        if self._tell is not None:
            self._tell(self.cluster.now, text)

    def choose(self, point: str) -> bool:
        """Whether the unlikely happens."""
        if point not in self._points or (self.healed and point == "smallest quorum"):
            return False  # (The smallest quorum need not be the one that has healed.)
        chance = RARE.get(point, CHANCE_OF_UNLIKELY) / (3 if self.healed else 1)
        if self._chance.random() >= chance:
            return False
        self.chosen[point] += 1
        return True

    def _right_time(self) -> tuple[int, int]:
        bound_ms = 10**15 if self.plan.nodes == 1 else TIME_BOUND_MS
        return self.cluster.right_clock_ms, bound_ms

    def _client(self, number: int) -> Client:
        name = f"c{number}"
        loop = ProcessLoop(self.cluster.simulation, name, self.cluster.network)  # type: ignore[abstract]
        chance = random.Random(f"{self.plan.seed}/{name}")

        def where() -> tuple[str, int]:
            node = chance.choice(self.core or self.faults.names)
            return self.cluster.machines[node].address, CLIENT_PORT

        if "crowds" in self.plan.workloads:  # What many send at the same time comes at the same time.
            for node in self.plan.names:
                self.cluster.network.link(name, node).latency_s = (chance.uniform(*self.plan.latency_s),) * 2
        think_s = self.plan.rough_s / self.plan.requests
        return Client(number, loop, chance, self.records, self.plan.workloads, where, think_s)

    # The course of a run

    def live(self) -> None:
        """All of it. Raises the first `Violation`."""
        self.cluster.start_all()
        self.faults.begin()
        for client in self.clients:
            client.ask_for(self.plan.requests)
            self.cluster.simulation.call_at(BEGIN_S, client.start)
        self._probe()
        self._run(self.plan.rough_s)
        self._until(self._all_has_struck, 20.0, "every_planned_fault_strikes", self._unstruck)
        self._heal()
        self._until(self._all_is_asked, STANDSTILL_S_MAX, "the_quorum_finishes", self._unfinished)
        self._serve()
        self._until(self._all_wanted_vote, STANDSTILL_S_MAX, "who_is_wanted_votes", self._voteless)
        self._until(self._is_one_state, STANDSTILL_S_MAX, "replicas_converge", self._states)
        self._compare_states()
        self._look_at_everything()
        self._judge_histories()

    def _probe(self) -> None:
        """Read on some node, whoever else waits there: clients that wait for an answer ask nothing at the worst of times."""
        if self.healed:
            return
        self.cluster.simulation.call_later(self._probing.expovariate(1 / PROBE_EVERY_S), self._probe)
        machine = self.cluster.machines[self._probing.choice(self.faults.names)]
        if machine.is_up and machine.loop is not None and machine.running is not None:
            machine.loop.call_soon(machine.running.node.read, Probe())

    def _run(self, until: float) -> None:
        self.cluster.run(until)
        for client in self.clients:
            if client.violation is not None:
                raise client.violation
        for _, name, end in self.cluster.ends:
            if end.code == EXIT_INVARIANT or (end.code != EXIT_NOT_FOUND and name not in self.faults.excused):
                raise Violation("nodes_end_only_for_a_reason", f"{name} has ended by itself: {end.text}")

    def _until(self, is_done: Callable[[], bool], within_s: float, name: str, why: Callable[[], str]) -> None:
        """Let time pass until something is so; a violation if for so long nothing is done, or if it never comes to an end."""
        last = self.cluster.now + HEAL_S_MAX
        end, done = self.cluster.now + within_s, self.records.done
        while not is_done():
            if self.records.done > done:
                end, done = min(self.cluster.now + within_s, last), self.records.done
            if self.cluster.now >= end:
                raise Violation(name, why())
            self._run(self.cluster.now + 0.05)

    def _all_has_struck(self) -> bool:
        """Whether every planned fault has struck. Until then somebody asks: some strike only where there is work."""
        if not self.faults.unstruck:
            return True
        for client in self.clients:
            if client.is_done:
                client.ask_for(1)
        return False

    def _unstruck(self) -> str:
        return f"these were planned and never struck: {', '.join(self.faults.unstruck)}"

    def _heal(self) -> None:
        chance = random.Random(f"{self.plan.seed}/core")
        faults, ledger = self.faults, self.cluster.watch.ledger
        sound = chance.sample(
            names := [each for each in faults.names if each not in faults.damaged], len(names)
        )
        if not ledger.is_enough(faults.acceptors(sound)):
            raise Violation("the_laboratory_works", "more was lost than SofaDB promises to survive")
        core = list(sound)
        # While members change all heal: who leads counts for a while on those who have just gone, and may change too much.
        # And where a disk has rotted: its node may be in doubt, and takes no part until the others have got something chosen.
        all_heal = faults.is_changing or faults.struck["rotten disk"]
        for name in () if all_heal else sound:
            rest = [each for each in core if each != name]
            if ledger.is_enough(faults.acceptors(rest)):
                core = rest
        more = [name for name in sound if name not in core]
        if chance.random() < 0.3:
            core += chance.sample(more, chance.randint(0, len(more)))
        self.healed = tuple(sorted(core))
        self.tell(f"healed: {' '.join(self.healed)}")
        self.faults.heal(self.healed)

    def _all_is_asked(self) -> bool:
        return all(client.is_done for client in self.clients)

    def _unfinished(self) -> str:
        open_ = [
            f"client {client.number} ({client.left} left)" for client in self.clients if not client.is_done
        ]
        return (
            f"{', '.join(self.core)} have healed and stand still, and not all is answered: {', '.join(open_)}"
        )

    def _serve(self) -> None:
        """Every client is served now: all that it asks is done."""
        end = self.cluster.now + STANDSTILL_S_MAX
        while True:
            before = self.records.refused + self.records.unknown
            connections = [client.connections for client in self.clients]
            for client in self.clients:
                client.ask_for(LAST_REQUESTS)
            self._until(self._all_is_asked, STANDSTILL_S_MAX, "the_quorum_finishes", self._unfinished)
            unbroken = connections == [client.connections for client in self.clients]
            if unbroken and before == self.records.refused + self.records.unknown:
                return
            if self.cluster.now >= end:
                raise Violation(
                    "the_quorum_serves", f"{', '.join(self.core)} still refuse what they are asked"
                )

    def _wanted(self) -> list[str]:
        """Who of those that have healed is to vote and does not. Where somebody is to leave, who may vote depends on more."""
        machines = self.cluster.machines
        node = max((machines[name] for name in self.core), key=lambda each: self.cluster.applied(each.name))
        assert node.running is not None
        members = node.running.node.database.shared.roster.members
        if any(member.is_leaving for member in members.values()):
            return []
        wanted = [name for name in self.healed if name in members and members[name].is_voter]
        return [name for name in wanted if name not in self.core]

    def _all_wanted_vote(self) -> bool:
        return not self._wanted()

    def _voteless(self) -> str:
        return f"{', '.join(self._wanted())} are there, and are to vote, and do not"

    def _is_one_state(self) -> bool:
        applied = {self.cluster.applied(name) for name in self.core}
        return len(applied) == 1 and min(applied) >= self.cluster.watch.ledger.visible

    def _states(self) -> str:
        applied = [f"{name} {self.cluster.applied(name)}" for name in self.core]
        return f"they have healed, and stand still at: {', '.join(applied)}"

    def _compare_states(self) -> None:
        for name in self.core:
            running = self.cluster.machines[name].running
            assert running is not None
            node = running.node
            states_are_equal(self.cluster.watch.ledger, name, node.applied, node.database.digest())

    def _look_at_everything(self) -> None:
        """Read all keys on each node of the core."""
        client = self.clients[0]
        client.all_clocks_are_right = self.faults.wrong_clock is None
        for name in self.core:
            address = self.cluster.machines[name].address
            client.where = lambda address=address: (address, CLIENT_PORT)  # type: ignore[misc]
            client.disconnect()
            client.ask_last(self.plan.workloads)

            def is_over(name: str = name) -> bool:
                """It was read, or may have been taken out meanwhile, and not know it: then it answers nobody."""
                return self._all_is_asked() or name not in self.core

            self._until(is_over, STANDSTILL_S_MAX, "the_quorum_finishes", self._unfinished)

    def _judge_histories(self) -> None:
        records = self.records
        verdict = check_registers(records.registers)
        if not verdict:
            raise Violation("reads_are_linearizable", str(verdict))
        if records.lists and not (listed := lists.check(records.lists)):
            raise Violation("transactions_are_serializable", str(listed))
        if records.balances:
            initial = {f"b{number}": 0 for number in range(4)}
            banked = bank.check(records.transfers, records.balances, initial, negative=True)
            if banked.problems:
                raise Violation("the_total_is_constant", str(banked))
        if records.attempts and not (counted := counters.check(records.attempts, records.counts)):
            raise Violation("ids_are_executed_once", str(counted))
        are_right = not any(strike.kind in CLOCKS for strike in self.plan.strikes)
        bound_ms = RIGHT_BOUND_MS if are_right else TIME_BOUND_MS
        held = locks.check(records.acquires, records.releases, records.fenced, bound_ms)
        if not held:
            raise Violation("locks_have_one_holder", str(held))
        passed = queues.check(records.pushes, records.pops, records.drains[0] if records.drains else None)
        if passed.problems:
            raise Violation("queues_lose_nothing", str(passed))
        if records.expiry:
            early = expiry.check(records.expiry, bound_ms)
            if "gone too early" in early.names:
                raise Violation("expiry_keeps_its_bounds", str(early))
            late = expiry.check(records.expiry, LATE_MS)
            if late.problems:
                raise Violation("expiry_keeps_its_bounds", str(late))
