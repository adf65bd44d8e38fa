"""What replicas do is a run of the specification, as TLC sees it; and TLC sees one wrong step."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from paxos.cluster import Cluster
from sofadb.paxos import Ballot, Configuration, Event, Moment, NodeId, Proposer, Value
from sofadb.paxos.effects import Effect
from sofadb.paxos.events import Tick
from sofadb.paxos.leading import Leading
from sofadb.sim.conformance import (
    Accepted,
    Campaigned,
    Counted,
    Crashed,
    Delivered,
    Heard,
    Learned,
    Led,
    Promised,
    Proposed,
    Recorder,
    Restarted,
    Run,
    Stable,
    Step,
    accepted_by_tlc,
    words,
    write_module,
)

ALPHA = 8


class Recorded(Cluster):
    """A cluster that shows a recorder all that happens."""

    def __init__(self, names: list[NodeId], seed: int = 0, steps_max: int = 2_000, **settings: float) -> None:
        settings = {"alpha": ALPHA, "patience_ms": 100_000, **settings}
        self.recorder = Recorder(Configuration(tuple(sorted(names))), int(settings["alpha"]), steps_max)
        super().__init__(names, seed, **settings)

    def start(self, name: NodeId) -> None:
        self.recorder.restarted(name)
        super().start(name)

    def crash(self, name: NodeId, keep: int = 0) -> None:
        """What the disk has got at the very end nobody was told of."""
        self.recorder.crashed(name)
        super().crash(name, keep)

    def step(self, name: NodeId, event: Event) -> list[Effect]:
        replica = self.nodes[name].replica
        if replica is not None and "step" not in vars(replica):
            take = replica.step

            def step(event: Event, moment: Moment) -> list[Effect]:
                effects = take(event, moment)
                self.recorder.stepped(name, event, effects)
                return effects

            replica.step = step  # type: ignore[method-assign]
        return super().step(name, event)

    def save(self, name: NodeId, count: int = 1_000_000) -> None:
        for save in self.nodes[name].saving[:count]:
            self.recorder.stable(name, save.records)
            super().save(name, 1)


def story() -> Run:
    """Three nodes: a leader dies with a value that one other has accepted, comes back, and later another is cut off."""
    cluster = Recorded(["n1", "n2", "n3"], seed=1)
    first = cluster.elect()
    cluster.submit(first, b"a")
    cluster.settle()
    witness, other = (name for name in cluster.nodes if name != first)
    cluster.cut = {(first, other), (witness, first)}
    cluster.submit(first, b"accepted by two, known to none")
    cluster.settle()
    cluster.submit(first, b"half on the disk")
    cluster.crash(first, keep=1)
    cluster.cut = set()
    cluster.advance(2_000)
    second = cluster.elect()
    cluster.submit(second, b"b")
    cluster.advance(100)
    cluster.start(first)
    cluster.advance(1_000)
    cluster.isolate(second)
    cluster.submit(second, b"heard by nobody")
    cluster.advance(2_000)
    cluster.submit(first, b"c")
    cluster.advance(1_000)
    cluster.cut = set()
    cluster.advance(1_000)
    cluster.crash(second)
    cluster.start(second)
    cluster.advance(1_000)
    return cluster.recorder.run()


@pytest.fixture(scope="module")
def run() -> Run:
    return story()


def find(run: Run, of: type[Step], number: int = 0, **told: Any) -> int:
    """Where the first step (or a later one) of this kind is that tells this."""
    found = [
        index
        for index, step in enumerate(run.steps)
        if isinstance(step, of) and all(getattr(step, name) == value for name, value in told.items())
    ]
    return found[number]


# What is accepted


def test_leaders_that_die_and_come_back_do_what_the_specification_allows(run: Run) -> None:
    kinds = (Campaigned, Promised, Led, Proposed, Accepted, Counted, Heard, Learned, Delivered, Stable)
    assert {type(step) for step in run.steps} == {*kinds, Crashed, Restarted}, "a step of every kind"
    verdict = accepted_by_tlc(run)
    assert verdict, str(verdict)
    assert str(verdict) == f"accepted after {len(run.steps)} steps"


def contention(size: int, seed: int, message_bytes: int) -> Run:
    """Everybody submits; messages are lost, repeated and overtaken; nodes crash with some of what they were writing."""
    chance = random.Random(seed)
    names = [f"n{number}" for number in range(1, size + 1)]
    settings = {"in_flight_max": 4, "batch_bytes_max": 1, "message_bytes_max": message_bytes}
    cluster = Recorded(names, seed, steps_max=300, **settings)
    while not cluster.recorder.is_full:
        what, name = chance.random(), chance.choice(names)
        if what < 0.6 and cluster.network:
            packet = chance.choice(cluster.network)
            if chance.random() < 0.1:
                cluster.network.append(packet)
            cluster.pass_on(packet)
        elif what < 0.8:
            cluster.save(name, chance.choice([1, 1, 9]))
        elif what < 0.81:
            cluster.network = cluster.network[chance.randrange(3) :]
        elif what < 0.86:
            cluster.now += chance.choice([10, 60])
            for each in names:
                if cluster.nodes[each].wake_at <= cluster.now:
                    cluster.nodes[each].wake_at = float("inf")
                    cluster.step(each, Tick())
        elif what < 0.99 and cluster.nodes[name].replica is not None:
            cluster.submit(name, b"%d" % len(cluster.recorder.steps))
        elif cluster.nodes[name].replica is None:
            cluster.start(name)
        elif what >= 0.99:
            cluster.crash(name, chance.randrange(4))
    return cluster.recorder.run()


@pytest.mark.parametrize(("size", "seed", "message_bytes"), [(3, 16, 10_000), (3, 31, 1), (5, 6, 1)])
def test_contention_loss_and_crashes_are_within_the_specification(
    size: int, seed: int, message_bytes: int
) -> None:
    run = contention(size, seed, message_bytes)
    assert len({step.ballot for step in run.steps if isinstance(step, Led)}) > 1, "more than one has led"
    assert {Accepted, Delivered, Crashed} <= {type(step) for step in run.steps}
    if message_bytes == 1:
        assert any(isinstance(step, Promised) and step.last for step in run.steps), "a report came in parts"
    verdict = accepted_by_tlc(run)
    assert verdict, str(verdict)


def test_a_change_of_the_acceptors_is_within_the_specification() -> None:
    """A leader puts the configuration in the place of four acceptors by three; two instances later it holds."""
    names = ["n1", "n2", "n3", "n4"]
    cluster = Recorded(names, seed=2, alpha=2, in_flight_max=1)
    leader = cluster.elect()
    replica = cluster.replica(leader)
    remaining = tuple(name for name in names if name != leader)
    # Nothing proposes a change yet; so it is put where a batch would be.
    replica._effects = []
    assert isinstance(replica.phase, Leading)
    replica.phase._propose(Value(1, configuration=Configuration(remaining, (leader,))))
    cluster.recorder.stepped(leader, Tick(), replica._effects)
    for effect in replica._effects:
        cluster.perform(cluster.nodes[leader], effect)
    cluster.settle()
    for number in range(4):
        cluster.submit(remaining[0], b"%d" % number)
        cluster.advance(1_000)
    run = cluster.recorder.run()
    assert [acceptors for _, acceptors in run.changes] == [remaining]
    assert max(step.instance for step in run.steps if isinstance(step, Delivered)) > 5
    verdict = accepted_by_tlc(run)
    assert verdict, str(verdict)
    # Were the old acceptors still those of the instances after it, the same run would not be allowed.
    ((number, _),) = run.changes
    assert not accepted_by_tlc(replace(run, changes=((number, (leader,)),)))


# What is rejected

Edit = Callable[[Run], tuple[Run, int]]
"""Makes one step illegal, or takes one out: the new run, and where TLC must stop."""


def put(run: Run, index: int, *steps: Step, instead: int = 1) -> Run:
    """`steps` in the place of as many steps as `instead` says."""
    return replace(run, steps=(*run.steps[:index], *steps, *run.steps[index + instead :]))


def changed(run: Run, index: int, **told: Any) -> tuple[Run, int]:
    return put(run, index, replace(run.steps[index], **told)), index


def a_vote_for_what_nobody_proposed(run: Run) -> tuple[Run, int]:
    return changed(run, find(run, Accepted, instance=3), value=2)


def a_vote_below_a_promise(run: Run) -> tuple[Run, int]:
    """n1 has promised the third leader's ballot; then the second leader's last request, lost until now, arrives."""
    lost = run.steps[find(run, Proposed, node="n3", instance=7)]
    assert isinstance(lost, Proposed)
    index = find(run, Promised, node="n1") + 1
    return put(run, index, Accepted("n1", lost.ballot, lost.instance, lost.value), instead=0), index


def a_promise_forgotten_in_a_crash(run: Run) -> tuple[Run, int]:
    index = find(run, Restarted, node="n1", number=1)
    return changed(run, index, promised=Ballot(0, ""))


def an_acceptance_forgotten_in_a_crash(run: Run) -> tuple[Run, int]:
    index = find(run, Restarted, node="n1", number=1)
    step = run.steps[index]
    assert isinstance(step, Restarted)
    return changed(run, index, accepted=step.accepted[:2])


def a_report_that_hides_an_acceptance(run: Run) -> tuple[Run, int]:
    return changed(run, find(run, Promised, ballot=Ballot(2, "n3")), reported=())


def a_leader_with_one_promise(run: Run) -> tuple[Run, int]:
    index = find(run, Led)
    step = run.steps[index]
    assert isinstance(step, Led)
    return changed(run, index, promises=step.promises[:1])


def a_value_of_its_own_over_the_reported_one(run: Run) -> tuple[Run, int]:
    index = find(run, Proposed, node="n3", instance=3)
    return changed(run, index, value=6)


def a_second_value_under_one_ballot(run: Run) -> tuple[Run, int]:
    index = find(run, Proposed, instance=2)
    step = run.steps[index]
    assert isinstance(step, Proposed)
    return put(run, index + 1, replace(step, value=9), instead=0), index + 1


def an_instance_beyond_alpha(run: Run) -> tuple[Run, int]:
    return replace(run, alpha=2), find(run, Proposed, node="n3", instance=5)


def an_answer_before_its_record_is_stable(run: Run) -> tuple[Run, int]:
    index = find(run, Stable, node="n2", kind="acceptance", instance=1)
    return put(run, index), find(run, Counted, instance=1) - 1


def a_minority_that_chooses(run: Run) -> tuple[Run, int]:
    index = find(run, Counted, instance=1)
    return changed(run, index, voters=("n1",))[0], index + 1


def a_lesson_that_was_never_chosen(run: Run) -> tuple[Run, int]:
    return changed(run, find(run, Learned, instance=4), value=6)


def a_gap_in_what_takes_effect(run: Run) -> tuple[Run, int]:
    index = find(run, Delivered, node="n2", instance=2)
    return put(run, index), find(run, Delivered, node="n2", instance=3) - 1


def records_out_of_order(run: Run) -> tuple[Run, int]:
    index = find(run, Stable, node="n3", kind="promise")
    return put(run, index, run.steps[index + 1], run.steps[index], instead=2), index


ILLEGAL: dict[Edit, str] = {
    a_vote_for_what_nobody_proposed: "nobody has proposed this value",
    a_vote_below_a_promise: "a higher ballot is promised (P1a)",
    a_promise_forgotten_in_a_crash: "what is read back is not what the disk has held",
    an_acceptance_forgotten_in_a_crash: "what is read back is not what the disk has held",
    a_report_that_hides_an_acceptance: "does not report what the node has accepted",
    a_leader_with_one_promise: "no quorum of every configuration",
    a_value_of_its_own_over_the_reported_one: "must propose what phase 1 reported",
    a_second_value_under_one_ballot: "each once",
    an_instance_beyond_alpha: "more than alpha beyond",
    an_answer_before_its_record_is_stable: "was never told",
    a_minority_that_chooses: "what takes effect was never learned",
    a_lesson_that_was_never_chosen: "nobody who could know has taught",
    a_gap_in_what_takes_effect: "in order, each once",
    records_out_of_order: "another record is the next",
}


@pytest.mark.parametrize("edit", ILLEGAL, ids=lambda edit: edit.__name__)
def test_one_illegal_step_is_found_where_it_is(run: Run, edit: Edit) -> None:
    bad, index = edit(run)
    verdict = accepted_by_tlc(replace(bad, steps=bad.steps[: index + 2]))
    assert verdict.outcome == "rejected"
    assert verdict.steps == index
    assert verdict.step == bad.steps[index]
    assert ILLEGAL[edit] in verdict.why
    assert str(verdict) == f"rejected at step {index + 1}: {words(bad.steps[index])}: {verdict.why}"


def test_a_replica_that_prefers_its_own_value_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the trace is wrong this time but the code: the proposer does not look at what was reported (P2c)."""
    monkeypatch.setattr(Proposer, "value_for", lambda self, instance, wanted: wanted)
    cluster = Recorded(["n1", "n2", "n3"], seed=1)
    first = cluster.elect()
    cluster.cut = {(first, "n3"), ("n2", first)}
    cluster.submit(first, b"accepted by two, known to none")
    cluster.settle()
    cluster.crash(first)
    cluster.cut = set()
    cluster.advance(2_000)
    verdict = accepted_by_tlc(cluster.recorder.run())
    assert verdict.outcome == "rejected"
    assert isinstance(verdict.step, Proposed)
    assert "must propose what phase 1 reported" in verdict.why


# What cannot be judged


def test_without_tlc_nothing_is_accepted(run: Run, tmp_path: Path) -> None:
    verdict = accepted_by_tlc(run, jar=tmp_path / "tla2tools.jar")
    assert not verdict
    assert verdict.outcome == "could not run"
    late = accepted_by_tlc(run, timeout_s=0.01)
    assert not late
    assert late.why == "TLC was not done after 0.01 s"


def test_a_recorder_that_is_full_has_the_beginning_of_the_run(run: Run) -> None:
    cluster = Recorded(["n1", "n2", "n3"], seed=1, steps_max=10)
    cluster.elect()
    assert cluster.recorder.is_full
    assert cluster.recorder.run().steps == run.steps[:10]


def test_a_life_that_began_on_an_emptied_disk_leaves_no_steps() -> None:
    """It is no acceptor any more. What it says is nothing on which another may rest."""
    cluster = Recorded(["n1", "n2", "n3"], seed=1)
    cluster.elect()
    cluster.crash("n3")
    cluster.nodes["n3"].disk = []
    before = len(cluster.recorder.steps)
    restarted = cluster.recorder.restarted
    cluster.recorder.restarted = lambda node: (restarted(node), cluster.recorder.forgetful(node))  # type: ignore
    cluster.start("n3")
    cluster.submit(cluster.elect(), b"a")
    cluster.advance(1_000)
    cluster.crash("n3")
    later = cluster.recorder.steps[before:]
    assert any(isinstance(step, Delivered) for step in later)
    assert all(step.node != "n3" for step in later)


def test_the_same_run_is_written_the_same_whatever_its_numbers_are_called(run: Run, tmp_path: Path) -> None:
    """Ballots become 1, 2, 3, ... in their order."""
    text = write_module(run, tmp_path).read_text()
    assert 'TheOwners == <<"n1", "n3", "n2">>' in text
    assert text == write_module(story(), tmp_path).read_text()


# The specification itself


@pytest.fixture
def run_spec(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/run_spec.py, which is no part of the package."""
    place = Path(__file__).parents[2] / "tools" / "run_spec.py"
    specification = importlib.util.spec_from_file_location("run_spec", place)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "run_spec", module)
    specification.loader.exec_module(module)
    return module


def test_a_small_world_is_safe_and_one_without_p2c_is_not(
    run_spec: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_spec.main(["one-instance", "own-value"]) == 0
    _, safe, broken = capsys.readouterr().out.splitlines()
    assert safe.split()[:4] == ["one-instance", "1375", "676", "16"]
    assert broken.endswith("violates Agreement (off: the reported value goes first)")
    # A model of which something else is expected is a failure.
    expected = tuple(replace(model, broken="Agreement") for model in run_spec.MODELS)
    monkeypatch.setattr(run_spec, "MODELS", expected)
    assert run_spec.main(["one-instance"]) == 1
    assert "NOT as expected" in capsys.readouterr().out
