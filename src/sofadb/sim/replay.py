"""One world again, told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields

from sofadb.paxos.settings import Settings

from .invariants import Violation
from .plan import Plan
from .sabotages import applied
from .story import Story
from .world import World, run


def tell(
    plan: Plan, sabotage: str | None, write: Callable[[str], object], everything: bool = False
) -> Violation | None:
    """Write the story of a plan, a line at a time; returns what was violated. The same plan gives the same lines."""
    for line in describe(plan):
        write(line)
    story = Story(write, everything)

    def prepare(world: World) -> None:
        story.now = lambda: world.cluster.now
        world.cluster.watch.story = story.step

    logging.disable(logging.CRITICAL)
    try:
        with applied(sabotage):
            outcome = run(plan, story.world, prepare)
    finally:
        logging.disable(logging.NOTSET)
    violation = outcome.violation
    write(
        f"{outcome.simulated_s:.6f} s: {outcome.steps} steps, {outcome.instances} instances, {outcome.answers} answers, "
        f"trace {outcome.trace:08x}"
    )
    write("all was well" if violation is None else f"violated: {violation}")
    return violation


def describe(plan: Plan) -> list[str]:
    """The plan, for a person."""
    usual = Settings()
    settings = [
        f"{each.name} {getattr(plan.settings, each.name)}"
        for each in fields(Settings)
        if getattr(plan.settings, each.name) != getattr(usual, each.name)
    ]
    lines = [
        f"seed {plan.seed}: {plan.mood}, {plan.nodes} nodes, {plan.clients} clients with {plan.requests} requests each "
        f"({', '.join(plan.workloads)}), rough for {plan.rough_s:.3f} s",
        f"settings: {', '.join(settings) or 'as usual'}; segments of {plan.segment_bytes} bytes, latency {plan.latency_s} s",
        f"the unlikely: {', '.join(plan.points) or 'never'}",
        f"mischief: {', '.join(f'{kind} {rate:.3f}' for kind, rate in plan.mischief) or 'none'}",
    ]
    lines += [
        f"planned: at {strike.at:.3f} s {strike.kind}, for {strike.lasts:.3f} s, amount {strike.amount:.3f}"
        for strike in sorted(plan.strikes, key=lambda strike: strike.at)
    ]
    return lines
