"""One round: a fresh cluster, clients that note everything, one fault that strikes again and again, and a judgement.

A round passes if

- every strike struck (packets were dropped, a process was gone, ...);
- there was progress while some node could lead, and none, not one write and not one read, while none could;
- no client of a node that owed it service saw an error, or waited longer than `WAIT_MAX_S`;
- afterwards all nodes agree on a leader and serve again, end in good order when told to, and log no mistake;
- the history, with what every node reads in the end, is linearizable, and nothing acknowledged is lost.

Everything that is waited for has a bound. What a round used is gone when it ends; its directory stays if it failed.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import shutil
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from namespaces import Network

from askers import Answered, Asker, Excuses, Setback, final_reads, longest_wait, lost
from processes import wait_until
from sofadb.sim.checker import check
from sofadb.sim.history import Operation, write_history

from . import links
from .machines import CLIENTS, Machines
from .prerequisites import CLOCK

CLIENTS_OF_A_NODE = 3
WARM_UP_S = 0.5
WAIT_MAX_S = 8.0
"""Longer than this no client of a node that owes it service waits."""
LASTING_S = 7_200
"""A key that lives so long must outlive the round, whatever single clocks say."""
MISTAKES = re.compile(r"Traceback|never retrieved|AssertionError|a mistake")


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault."""

    name: str
    words: str
    """What it is, for the documentation."""
    strike: Callable[[Round], None]
    sizes: tuple[int, ...] = (3, 5)
    parts: int = 1
    """It takes so many rounds to have all of it."""
    strikes: int | None = None
    """How often it strikes in a round; as often as time allows if None."""
    fakes_clocks: bool = False
    packets: bool = False
    """Whether it has a courier of its own."""
    options: tuple[str, ...] = ()
    """Of all nodes."""
    room: int | None = None
    """Bytes of each node's own disk; they share a large one if None."""
    is_mixed: bool = True
    """Whether it may strike among others."""


@dataclass(slots=True)
class Result:
    """What came of a round."""

    fault: str
    nodes: int
    strikes: int = 0
    operations: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """At nodes that owed service. There shall be none."""
    excused: Counter[str] = field(default_factory=Counter)
    longest_wait_ms: float = 0.0
    lost: int = 0
    problem: str = ""
    """Why the round failed; empty if it passed."""


class Round:
    """What a fault works with: the machines, chance, and words to say what must not be expected of whom."""

    def __init__(self, fault: Fault, nodes: int, part: int, seed: int, seconds: float) -> None:
        self.fault, self.part, self.seconds = fault, part, seconds
        self.chance = random.Random(f"{seed} {fault.name} {nodes} {part}")
        self.directory = Path(tempfile.mkdtemp(prefix="sofadb-chaos-"))
        self.network = Network([*(f"n{number + 1}" for number in range(nodes)), CLIENTS])
        before = self._with_own_clocks() if fault.fakes_clocks else []
        self.machines = Machines(self.directory, self.network, nodes, before)
        self.machines.options = fault.options
        self.excuses = Excuses()
        self.absences = Excuses()
        """The same, and until all nodes agree again: who asks a node that has just come back may wait, but not in vain."""
        self.askers: list[Asker] = []
        self.result = Result(fault.name, nodes)

    # For faults

    @property
    def names(self) -> list[str]:
        return self.machines.names

    def leader(self) -> str:
        """Who leads, as all that run agree; it runs itself."""
        leader: str = wait_until(
            lambda: (found := self.machines.leader()) in self.machines.processes and found, "somebody leads"
        )
        return leader

    def victim(self) -> str:
        """The leader every other time, which comes first, and somebody else in between."""
        leader = self.leader()
        others = [name for name in self.names if name != leader]
        return self.chance.choice(others) if self.result.strikes % 2 else leader

    def hold(self, seconds: float) -> None:
        time.sleep(seconds)

    @contextlib.contextmanager
    def excused(self, nodes: Sequence[str]) -> Iterator[None]:
        """These owe nothing until the end of this."""
        self.excuses.begin(*nodes)
        self.absences.begin(*nodes)
        yield
        self.excuses.end(*nodes)

    def without(self, victims: Sequence[str]) -> list[str]:
        """Who owes nothing while these are gone: everybody, if the others are no quorum."""
        return self.names if len(self.names) - len(victims) <= len(self.names) // 2 else list(victims)

    def leave(self, nodes: Sequence[str]) -> None:
        """Half of the clients of these nodes do not wait for them."""
        for asker, node in itertools.product(self.askers[::2], nodes):
            asker.leave(node)

    def cut(self, cut: links.Cut, seconds: float) -> None:
        """Cut links, for at least so long, and look whether there is progress exactly if there has to be."""
        leaders = links.can_lead(self.names, cut)
        served = links.served(self.names, cut)
        with self.excused([name for name in self.names if name not in served]):
            self.machines.spoil(cut)
            since = time.monotonic()
            if leaders:
                self.makes_progress(since)
            self.hold(max(0.0, since + seconds - time.monotonic()))
            if cut:
                assert self.machines.dropped() > 0, "nothing was cut"
            if not leaders:
                assert not self._answered_since(since), "somebody was served without a quorum"
            self.machines.spoil()
            self.recovers()

    def seen_by_leader(self) -> dict[str, Any]:
        """What says of the cluster whoever leads it, whatever those think who have left."""

        def said() -> dict[str, Any] | None:
            found = [each for name in self.machines.processes if (each := self.machines.facts(name))]
            leading = [each for each in found if each["role"] == "leading" and each["node"] in each["voters"]]
            return max(leading, key=lambda each: each["chosen"], default=None)

        seen: dict[str, Any] = wait_until(said, "a member leads")
        return seen

    def votes(self, name: str, but: str = "") -> None:
        """Wait until this node votes, with a directory that others do not know as `but`."""

        def is_so() -> bool:
            said = self.seen_by_leader()
            return not said["is_changing"] and any(
                (each["node"], each["part"]) == (name, "voter") and each["acceptor"] != but
                for each in said["members"]
            )

        wait_until(is_so, f"{name} votes")

    def acceptor(self, name: str) -> str:
        """What the directory of a node is to the others."""
        members = self.seen_by_leader()["members"]
        return next(str(each["acceptor"]) for each in members if each["node"] == name)

    def take_place(self, old: str, new: str) -> None:
        """A new machine takes the place of an old one, which is killed when it has left."""
        self.network.add_machine(new)
        address = self.machines.add(new, [name for name in self.names if name != old])
        for asker in self.askers:
            asker.meet(new)
        with self.excused([new]):
            leader = self.machines.remote_client(self.leader())
            self.excuses.begin(old)
            self.absences.begin(old)
            assert leader("SOFA.MEMBER", "REPLACE", old, new, address) == b"OK"
            leader.close()
            self.machines.start(new)
            self.votes(new)
            self.leave([old])
        self.machines.kill(old)
        self.machines.names.remove(old)
        self.recovers()

    def set_clock(self, name: str, off_s: float = 0.0, rate: float = 1.0) -> None:
        """Set the wall clock of a node. It is off by so much, and from now on so many times as fast as time."""
        with (self.directory / f"{name}.clock").open("r+b") as file:
            file.write(struct.pack("=3d", time.time(), off_s, rate - 1))

    def makes_progress(self, since: float) -> None:
        wait_until(lambda: any(each.writes for each in self._answered_since(since)), "there is progress")

    def catches_up(self, name: str) -> None:
        """Wait until this node has applied all that its leader knows to be chosen now."""
        chosen = self.seen_by_leader()["chosen"]
        wait_until(
            lambda: (self.machines.facts(name) or {"applied": 0})["applied"] >= chosen, f"{name} catches up"
        )

    def recovers(self) -> None:
        """Wait until all agree on a leader."""
        self.leader()
        self.absences.end_all()

    def _answered_since(self, moment: float) -> list[Answered]:
        """What was asked after that, and answered properly."""
        return [each for asker in self.askers for each in asker.answered_since(moment)]

    # The course of a round

    def run(self) -> Result:
        """Build, strike, heal, judge, and take away."""
        try:
            self.network.build()
            if self.fault.room is not None:
                self.machines.give_own_disks(self.fault.room)
            self._strike()
            self._judge()
        except (AssertionError, OSError) as problem:
            self.result.problem = str(problem) or repr(problem)
        finally:
            self.machines.clear_away()
            self.network.remove()
            self.machines.take_disks_away()
            if self.result.problem:
                self._keep()
            else:
                shutil.rmtree(self.directory)
        return self.result

    def _strike(self) -> None:
        self.machines.start()
        self.machines.leader()
        lasting = self.machines.remote_client(self.names[0])
        assert lasting("SET", "lasting", "yes", "EX", LASTING_S) == b"OK"
        for number in range(CLIENTS_OF_A_NODE * len(self.names)):
            at = number % len(self.names)
            nodes = self.names[at:] + self.names[:at]
            self.askers.append(Asker(self.machines.remote_client, nodes, number + 1, pause_s=0.01))
            self.askers[-1].start()
        self.hold(WARM_UP_S)
        end = time.monotonic() + self.seconds
        wanted = self.fault.strikes
        while self.result.strikes < wanted if wanted else time.monotonic() < end or self.result.strikes < 2:
            self.fault.strike(self)
            self.result.strikes += 1
            self.hold(self.chance.uniform(0.1, 0.6))
        self.recovers()
        self.hold(WARM_UP_S)
        for asker in self.askers:
            asker.stop()

    def _judge(self) -> None:
        result = self.result
        history = self._history()
        setbacks = [each for asker in self.askers for each in asker.setbacks]
        wrong = [each for each in setbacks if not self.excuses.cover(each)]
        result.operations = len(history)
        result.errors = Counter(each.kind for each in wrong)
        result.excused = Counter(each.kind for each in setbacks if self.excuses.cover(each))
        result.longest_wait_ms = 1000 * longest_wait(self.askers, self.absences)
        clients = [self.machines.remote_client(name) for name in self.names]
        assert {client("GET", "lasting") for client in clients} == {b"yes"}, "a key expired two hours early"
        reads = final_reads(clients, history)
        result.lost = len(lost(history, reads))
        verdict = check([*history, *reads])
        self.machines.stop()
        assert verdict, str(verdict)
        assert not result.lost, f"{result.lost} acknowledged writes are lost"
        assert not wrong, self._in_words(wrong)
        assert result.longest_wait_ms < 1000 * WAIT_MAX_S, f"a client waited {result.longest_wait_ms:.0f} ms"
        for name in self.names:
            found = MISTAKES.search(self.machines.log(name))
            assert not found, f"{name} logs '{found and found[0]}'"

    def _history(self) -> list[Operation]:
        return [operation for asker in self.askers for operation in list(asker.history)]

    def _in_words(self, wrong: Sequence[Setback]) -> str:
        counts = ", ".join(f"{count} {kind}" for kind, count in self.result.errors.items())
        first = min(wrong, key=lambda each: each.end)
        return (
            f"errors at nodes that owed service: {counts}; the first at {first.node}, asked at {first.start:.3f}, "
            f"at {first.end:.3f} s: {first.text}"
        )

    def _keep(self) -> None:
        """Leave behind what a person needs to look into it."""
        lines = sorted(self._history(), key=lambda each: each.start)
        (self.directory / "history.jsonl").write_text("".join(write_history(lines)))
        setbacks = sorted(
            (each for asker in self.askers for each in asker.setbacks), key=lambda each: each.start
        )
        kept = [f"{each}{' (excused)' if self.excuses.cover(each) else ''}\n" for each in setbacks]
        (self.directory / "setbacks.txt").write_text("".join(kept))
        (self.directory / "excuses.txt").write_text(f"{self.excuses.spans}\n")

    def _with_own_clocks(self) -> list[str]:
        """The words before the command of a node whose clock is what its file says."""
        for name in self.network.addresses:
            (self.directory / f"{name}.clock").touch()
            self.set_clock(name)
        return ["env", f"LD_PRELOAD={CLOCK}", f"CHAOS_CLOCK={self.directory}/{{node}}.clock"]
