"""The laboratory at work: worlds without a violation, sabotages found, faults that strike, runs that can be run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sofadb.database.database import Database
from sofadb.server.short_way import Crowd, Gathered
from sofadb.sim import world
from sofadb.sim.hunt import BROKEN_LABORATORY, Bag, Trial, hunt, shrink, try_plan, try_seed
from sofadb.sim.plan import CLOCKS, KINDS, MISCHIEF, PERMANENT, Plan, draw, smaller
from sofadb.sim.sabotages import SABOTAGES, SEEN_BY_STORIES, applied
from sofadb.unlikely import POINTS

SEEDS = 80

pytestmark = pytest.mark.timeout(480)


@pytest.fixture(scope="module")
def bag() -> Bag:
    """What a hunt through the first worlds brings home."""
    return hunt(1, SEEDS, None, jobs=2)


def test_nothing_is_violated_in_the_first_worlds(bag: Bag) -> None:
    assert bag.found is None, bag.found
    assert bag.seeds == SEEDS


def test_every_kind_of_fault_strikes_and_matters(bag: Bag) -> None:
    for kind in (*KINDS, *MISCHIEF):
        assert bag.struck[kind], f"{kind} never struck"
        assert bag.mattered[kind], f"{kind} never mattered"


def test_the_unlikely_is_chosen_at_every_point(bag: Bag) -> None:
    assert len(POINTS) >= 30
    assert not set(POINTS) - set(bag.chosen), "never chosen"


SEEDS_OF_SABOTAGES: dict[str, int] = json.loads((Path(__file__).parent / "sabotage_seeds.json").read_text())
"""Where each was found last (`make seeds`). What has changed since may have moved it: then all worlds are looked through."""


@pytest.mark.parametrize("name", [name for name in SABOTAGES if name not in SEEN_BY_STORIES])
def test_every_sabotage_is_found(name: str) -> None:
    trials = (try_seed(seed, name) for seed in (SEEDS_OF_SABOTAGES.get(name, 1), *range(1, 601)))
    found = next(
        (each.found for each in trials if each.found and each.found.name not in BROKEN_LABORATORY), None
    )
    assert found is not None, "it survives"


def test_there_are_enough_sabotages_and_none_is_at_work_when_it_is_not_applied() -> None:
    assert len(SABOTAGES) >= 30
    before = try_seed(2)
    with applied("one-less-than-a-majority"):
        pass
    assert try_seed(2) == before


def test_a_seed_runs_the_same_whatever_ran_before_it_in_this_process() -> None:
    """Where things lie in memory is another each time, and so is the order of a set of them."""
    seeds = (*range(40, 45), 90)
    there = [try_seed(seed) for seed in seeds]
    back = [try_seed(seed) for seed in reversed(seeds)]
    assert there == back[::-1]


def test_two_runs_of_a_seed_are_the_same_byte_for_byte_whatever_the_hash_seed_is() -> None:
    def story(hash_seed: str) -> bytes:
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-m", "sofadb", "replay", "4", "--all"]
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout

    first, second = story("1"), story("2")
    assert len(first) > 100_000
    assert first == second


def test_many_ask_together_in_some_worlds_and_are_answered_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    execute = Gathered._execute_crowd

    def execute_crowd(gathered: Gathered, crowd: Crowd, database: Database) -> None:
        sizes.append(len(crowd.connections))
        execute(gathered, crowd, database)

    monkeypatch.setattr(Gathered, "_execute_crowd", execute_crowd)
    seeds = [seed for seed in range(1, SEEDS) if "crowds" in draw(seed).workloads]
    assert len(seeds) > SEEDS / 10
    for seed in seeds[:5]:
        assert try_seed(seed).found is None
    assert sum(size > 3 for size in sizes) > 10


def test_a_failing_world_is_made_smaller() -> None:
    sabotage = "answers-before-its-write-is-stable"
    plan, trial = next(
        (draw(seed), trial)
        for seed in range(1, 100)
        if (trial := try_seed(seed, sabotage)).found and draw(seed).strikes and draw(seed).nodes > 3
    )
    assert trial.found is not None
    small, found = shrink(plan, trial.found, sabotage)
    assert found.name == trial.found.name
    assert small.strikes == ()
    assert small.nodes < plan.nodes
    assert small.requests * small.clients < plan.requests * plan.clients
    again = try_plan(small, sabotage).found
    assert again == found


def test_a_planned_fault_that_never_strikes_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a single node no message is ever lost."""
    monkeypatch.setattr(world, "HEAL_S_MAX", world.STANDSTILL_S_MAX)
    plan = replace(draw(1), nodes=1, strikes=(), mischief=(("message lost", 0.1),))
    found = try_plan(plan).found
    assert found is not None
    assert found.name == "every_planned_fault_strikes"
    assert "message lost" in found.text


def test_plans_stay_within_what_is_promised() -> None:
    for seed in range(2_000):
        plan = draw(seed)
        permanent = [strike for strike in plan.strikes if strike.kind in PERMANENT]
        assert len(permanent) * 2 < plan.nodes
        assert all(plan.nodes >= KINDS[strike.kind][1] for strike in plan.strikes)
        if plan.mood == "calm":
            assert not plan.strikes
            assert not plan.mischief
        assert len(plan.points) == len(POINTS) // 4


def test_all_sizes_moods_and_kinds_are_drawn() -> None:
    plans = [draw(seed) for seed in range(500)]
    assert {plan.nodes for plan in plans} == {1, 3, 5, 7}
    assert {plan.mood for plan in plans} == {"calm", "rough", "brutal"}
    assert {strike.kind for plan in plans for strike in plan.strikes} == set(KINDS)
    assert set(CLOCKS) < set(KINDS)
    assert {kind for plan in plans for kind, _ in plan.mischief} == set(MISCHIEF)
    assert {point for plan in plans for point in plan.points} == set(POINTS)


def test_smaller_plans_are_smaller() -> None:
    def size(plan: Plan) -> tuple[int, ...]:
        return (
            len(plan.strikes) + len(plan.mischief) + len(plan.points) + len(plan.workloads),
            plan.nodes * plan.clients * plan.requests,
        )

    for seed in range(100):
        plan = draw(seed)
        for each in smaller(plan):
            assert size(each) <= size(plan)
            assert each != plan


def test_what_a_trial_tells_is_added_up() -> None:
    bag = Bag()
    trials: list[Trial] = [try_seed(seed) for seed in (1, 2)]
    for trial in trials:
        bag.add(trial)
    assert bag.seeds == 2
    assert bag.steps == sum(trial.steps for trial in trials)
