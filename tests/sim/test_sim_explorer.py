"""The explorer itself: honest cases are safe to the last state, and every known mistake that is put back is found."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from sofadb.paxos import Acceptor, Answer, Ballot, Configuration, Instance, Learner, NodeId, Proposer, Value
from sofadb.paxos.messages import Accept, Prepare, Promise, Refused
from sofadb.paxos.records import Acceptance, Promised
from sofadb.sim.cases import CASES, Case
from sofadb.sim.explorer import Cell, Outcome, Report, _World, describe, explore

TWO = CASES["two-ballots-one-instance"]
THREE = CASES["three-ballots-one-instance"]
CRASH = CASES["with-a-crash"]
CUT = CASES["with-a-cut"]
PARTS = CASES["reports-in-parts"]
EVERY_STEP = CASES["every-step"]

# Honest cases

STATES = {
    "two-ballots-one-instance": (226, 959, 13),
    "every-step": (1_343, 3_991, 32),
    "two-ballots-two-instances": (10_116, 60_796, 20),
    "three-ballots-one-instance": (4_588, 21_012, 19),
    "duelling": (22_566, 113_976, 25),
    "with-a-crash": (4_856, 29_674, 24),
    "with-two-crashes": (9_486, 58_389, 26),
    "with-a-cut": (9_892, 53_859, 24),
    "reports-in-parts": (10_176, 88_602, 20),
}
"""How many states, transitions and steps deep. Those that take longer are visited by hand."""


@pytest.mark.parametrize("name", STATES)
def test_an_honest_case_is_safe_in_every_state(name: str) -> None:
    report = explore(CASES[name])
    assert report.verdict == "safe"
    assert (report.states, report.transitions, report.depth) == STATES[name]
    assert report.decided > 0, "safe, and able to choose"
    assert report.undecided > 0, "and able to duel: all have proposed, and nothing is chosen"
    assert describe(report).endswith(f"{report.states:,} states, all of them safe")


@pytest.mark.parametrize("crashes", [0, 1])
def test_the_reductions_lose_nothing(crashes: int) -> None:
    """The naive twin takes every step by itself. Both come to the same acceptances and the same proposals."""
    ways: list[set[Outcome]] = []
    for every_step in (False, True):
        outcomes: set[Outcome] = set()
        case = replace(EVERY_STEP, every_step=every_step, crashes=crashes)
        assert explore(case, outcomes=outcomes).verdict == "safe"
        ways.append(outcomes)
    assert ways[0] == ways[1]
    assert len(ways[0]) > 10


@pytest.mark.parametrize("case", [TWO, CRASH, EVERY_STEP], ids=lambda case: case.name)
def test_exchanging_acceptors_loses_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive twin tells acceptors apart: it needs more states and comes to nothing new."""
    outcomes: set[Outcome] = set()
    report = explore(case, outcomes=outcomes)
    monkeypatch.setattr(_World, "canonical", lambda self, state: state)
    monkeypatch.setattr(_World, "_is_anonymous", lambda self, table, number: False)
    apart: set[Outcome] = set()
    more = explore(case, outcomes=apart)
    assert more.verdict == report.verdict == "safe"
    assert report.states < more.states <= 6 * report.states
    assert more.depth == report.depth
    assert outcomes == apart


def test_the_order_of_hashes_changes_nothing() -> None:
    program = (
        "from sofadb.sim.explorer import CASES, explore\n"
        "for name in ('with-a-crash', 'every-step', 'three-ballots-one-instance'):\n"
        "    report = explore(CASES[name])\n"
        "    print(report.states, report.transitions, report.depth, list(report.cells.items()))\n"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert told[0].startswith("4856 ")


def test_what_was_not_seen_is_not_called_safe() -> None:
    report = explore(TWO, limit_states=100)
    assert report.verdict == "unfinished"
    assert report.states == 100
    assert "unfinished" in describe(report)
    assert "all of them safe" not in describe(report)
    assert explore(TWO, limit_states=226).verdict == "safe"


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    explore(CASES["two-ballots-two-instances"], progress=lambda states, depth: told.append((states, depth)))
    assert [states for states, _ in told] == [10_000]


def test_the_cells_that_matter_are_reached() -> None:
    crash, cut = explore(CRASH).cells, explore(CUT).cells
    for ballot in ("lower", "equal", "higher"):
        for durability in ("pending", "done"):
            assert Cell("acceptor", "Prepare", ballot, "every", durability) in crash
            assert Cell("acceptor", "Accept", ballot, "accepted", durability) in crash
            assert Cell("acceptor", "Accept", ballot, "chosen", durability) in crash
        for instance in ("cut", "beyond alpha", "empty", "accepted", "chosen"):
            assert Cell("acceptor", "Accept", ballot, instance, "done") in cut
    assert Cell("proposer", "Promise", "equal", "cut", "done") in cut
    assert Cell("proposer", "Promise", "equal", "in parts", "done") in explore(PARTS).cells


# Known mistakes, put back


class ForgetsItsPromise(Acceptor):
    """At a restart it takes back only what it accepted."""

    def restore(self, record: Promised | Acceptance) -> None:
        if isinstance(record, Acceptance):
            super().restore(record)


class ForgetsItsAcceptance(Acceptor):
    """At a restart it takes back only what it promised."""

    def restore(self, record: Promised | Acceptance) -> None:
        super().restore(Promised(record.ballot))


class WritesNoPromise(Acceptor):
    """It promises, and writes down only what it accepts."""

    def on_prepare(self, prepare: Prepare, clock: int) -> Answer | Refused:
        answer = super().on_prepare(prepare, clock)
        return answer._replace(record=None) if isinstance(answer, Answer) else answer


class ReportsNothing(Acceptor):
    """It promises, and keeps to itself what it accepted."""

    def _report(self, first: Instance) -> tuple[tuple[tuple[Instance, Ballot, Value], ...], Instance | None]:
        return (), None


class AcceptsWhateverItPromised(Acceptor):
    """It does not look at its promise when it accepts."""

    def on_accept(self, accept: Accept) -> Answer | Refused | None:
        promised = self.promised
        self.promised = min(promised, accept.ballot)
        answer = super().on_accept(accept)
        self.promised = max(promised, accept.ballot)
        return answer


class AcceptsWithoutPromising(Acceptor):
    """Accepting is not promising to it."""

    def on_accept(self, accept: Accept) -> Answer | Refused | None:
        promised = self.promised
        answer = super().on_accept(accept)
        self.promised = promised
        return answer


class ForgetsTooMuch(Acceptor):
    """It cuts off one instance more than it was told."""

    def forget(self, chosen: Instance) -> None:
        super().forget(Instance(chosen + 1))


class PrefersItsOwn(Proposer):
    """It proposes what it wants, whatever was reported."""

    def value_for(self, instance: Instance, wanted: Value) -> Value:
        return self.proposed.setdefault(instance, wanted)


class TakesTheLowest(Proposer):
    """Of the reported proposals it takes the lowest-numbered one."""

    def on_promise(self, node: NodeId, promise: Promise) -> None:
        before = dict(self.highest)
        super().on_promise(node, promise)
        for instance, (ballot, value) in before.items():
            if ballot < self.highest[instance][0]:
                self.highest[instance] = (ballot, value)


class NeedsOneLess(Proposer):
    """One promise less than a majority is enough for it."""

    def is_prepared(self, configurations: tuple[Configuration, ...]) -> bool:
        return all(len(self.promised_by) >= each.quorum - 1 for each in configurations)


class ChangesItsMind(Proposer):
    """Asked again, it proposes something else under the same number."""

    def value_for(self, instance: Instance, wanted: Value) -> Value:
        self.proposed.pop(instance, None)
        return super().value_for(instance, wanted)


class TakesPartForTheWhole(Proposer):
    """It takes the first part of a report for all of it."""

    def on_promise(self, node: NodeId, promise: Promise) -> None:
        super().on_promise(node, replace(promise, last=None))


class TakesAnyPromise(Proposer):
    """A promise of another number of the same node is as good to it."""

    def on_promise(self, node: NodeId, promise: Promise) -> None:
        super().on_promise(node, replace(promise, ballot=self.ballot))


class DoesNotTrustItself(Proposer):
    """It asserts what need not be so."""

    def value_for(self, instance: Instance, wanted: Value) -> Value:
        assert instance not in self.highest, "nobody proposed before me"
        return super().value_for(instance, wanted)


class AddsUpNumbers(Learner):
    """Acceptances of different numbers add up to a majority."""

    def on_accepted(
        self, node: NodeId, ballot: Ballot, instance: Instance, configuration: Configuration
    ) -> bool:
        super().on_accepted(node, ballot, instance, configuration)
        voters = [each for (place, _), them in self.accepted_by.items() if place == instance for each in them]
        return configuration.is_quorum(set(voters))


class Deaf(Learner):
    """It never learns anything: a way to see what else goes wrong."""

    def on_accepted(
        self, node: NodeId, ballot: Ballot, instance: Instance, configuration: Configuration
    ) -> bool:
        return False


class CountsAnswers(Learner):
    """It counts how many answers came, not whose."""

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[tuple[Instance, Ballot], int] = {}

    def on_accepted(
        self, node: NodeId, ballot: Ballot, instance: Instance, configuration: Configuration
    ) -> bool:
        super().on_accepted(node, ballot, instance, configuration)
        self.count[(instance, ballot)] = self.count.get((instance, ballot), 0) + 1
        return self.count[(instance, ballot)] >= configuration.quorum


MISTAKES: dict[str, tuple[Case, str]] = {
    "forgets its promise at a restart": (replace(CRASH, acceptor=ForgetsItsPromise), "memory"),
    "forgets its acceptance at a restart": (replace(CRASH, acceptor=ForgetsItsAcceptance), "P2c"),
    "answers before the record is stable": (replace(CRASH, waits_for_disk=False), "learning"),
    "the same, but nobody learns": (replace(CRASH, waits_for_disk=False, learner=Deaf), "P1a"),
    "writes no promise down": (replace(CRASH, acceptor=WritesNoPromise), "P1a"),
    "reports nothing though it accepted": (replace(TWO, acceptor=ReportsNothing), "P2c"),
    "accepts below its promise": (replace(TWO, acceptor=AcceptsWhateverItPromised), "P1a"),
    "accepts without promising": (replace(TWO, acceptor=AcceptsWithoutPromising), "memory"),
    "cuts off too much": (replace(CUT, acceptor=ForgetsTooMuch), "learning"),
    "prefers its own value": (replace(TWO, proposer=PrefersItsOwn), "P2c"),
    "takes the lowest-numbered report": (replace(THREE, proposer=TakesTheLowest), "P2c"),
    "needs one promise less": (replace(TWO, proposer=NeedsOneLess), "P2c"),
    "changes its mind": (replace(TWO, proposer=ChangesItsMind), "one value per number"),
    "takes a part for the whole report": (replace(PARTS, proposer=TakesPartForTheWhole), "P2c"),
    "takes the promise of another number": (replace(THREE, proposer=TakesAnyPromise), "P2c"),
    "asserts what need not be so": (replace(TWO, proposer=DoesNotTrustItself), "what the proposer asserts"),
    "adds up acceptances of different numbers": (replace(TWO, learner=AddsUpNumbers), "learning"),
    "counts answers": (replace(EVERY_STEP, learner=CountsAnswers), "learning"),
}


def found(case: Case) -> Report:
    report = explore(case, limit_states=100_000)
    assert report.verdict == "violation"
    assert report.path[-1].startswith("broken: ")
    assert describe(report).endswith(report.path[-1])
    return report


@pytest.mark.parametrize("name", MISTAKES)
def test_a_known_mistake_is_found(name: str) -> None:
    case, invariant = MISTAKES[name]
    report = found(case)
    assert report.path[-1].startswith(f"broken: {invariant}: ")
    assert report.broken.startswith(f"{invariant}: ")


def test_a_bad_path_is_told_in_the_words_of_its_messages() -> None:
    assert found(replace(TWO, proposer=NeedsOneLess)).path == (
        "p1 -> all: prepare 1.p1",
        "p2 -> all: prepare 2.p2",
        "p1 -> a1: prepare 1.p1: it answers promise 1.p1, reporting nothing, once that is stable",
        "p2 -> a2: prepare 2.p2: it answers promise 2.p2, reporting nothing, once that is stable",
        "a1 -> p1: promise 1.p1, reporting nothing",
        "p1 -> all: accept red as 1.p1 in instance 1",
        "p1 -> a3: accept red as 1.p1 in instance 1: it answers accepted 1.p1 in instance 1, once that is stable",
        "p1 -> a1: accept red as 1.p1 in instance 1: it answers accepted 1.p1 in instance 1, once that is stable",
        "a2 -> p2: promise 2.p2, reporting nothing",
        "p2 -> all: accept blue as 2.p2 in instance 1",
        "broken: P2c: red is chosen as 1.p1, but blue is proposed as 2.p2 in instance 1",
    )


def test_a_crash_is_told_with_what_it_loses() -> None:
    forgets = found(replace(CRASH, acceptor=ForgetsItsPromise)).path
    assert forgets[-3:] == (
        "a1's disk: the promise of 1.p1 is stable; the answer is in the network",
        "a1 crashes, with no record on the way to its disk, and starts again",
        "broken: memory: it goes by the promise of none, its disk by that of 1.p1 (a1)",
    )
    early = found(replace(CRASH, waits_for_disk=False, learner=Deaf)).path
    assert any("crashes, loses the " in line for line in early)
