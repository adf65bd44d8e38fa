"""Runs of whole nodes, in hostile worlds, are runs of the specification: TLC is the judge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sofadb.sim.conformance import Recorder, Verdict, accepted_by_tlc
from sofadb.sim.plan import CHANGES, PERMANENT, Plan, draw
from sofadb.sim.sabotages import applied
from sofadb.sim.world import World, run

STEPS_MAX = 400


def without_lost_disks(plan: Plan) -> Plan:
    """The specification knows no disk that loses its past, no members that come and go, and no log that is cut."""
    kinds = (*PERMANENT, *CHANGES)
    return replace(
        plan,
        strikes=tuple(strike for strike in plan.strikes if strike.kind not in kinds),
        points=tuple(point for point in plan.points if point != "snapshot now"),
        snapshot_bytes=64 << 20,
    )


def judged(plan: Plan) -> tuple[Recorder, Verdict]:
    recorders: list[Recorder] = []

    def prepare(world: World) -> None:
        recorders.append(Recorder(world.cluster.configuration, plan.settings.alpha, STEPS_MAX))
        world.cluster.watch.recorder = recorders[0]

    run(plan, prepare=prepare)
    return recorders[0], accepted_by_tlc(recorders[0].run())


@pytest.mark.parametrize("seed", [2, 8, 15, 27])
def test_a_run_is_accepted(seed: int) -> None:
    recorder, verdict = judged(without_lost_disks(draw(seed)))
    assert len(recorder.steps) > 200
    assert verdict, verdict


@pytest.mark.parametrize(
    "sabotage", ["own-value-over-a-reported-one", "applied-before-it-is-chosen", "promise-reports-nothing"]
)
def test_a_sabotaged_run_is_rejected(sabotage: str) -> None:
    """Not every world brings it out, and not within the first steps; but one of a few does."""
    with applied(sabotage):
        verdicts = (judged(without_lost_disks(draw(seed)))[1] for seed in range(2, 12))
        verdict = next((verdict for verdict in verdicts if not verdict), None)
    assert verdict is not None
    assert "rejected at step" in str(verdict)
