"""The hunt: seed after seed, on several cores, until something is found or it has been long enough."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count

from .plan import Plan, draw, smaller
from .sabotages import applied
from .world import run

BROKEN_LABORATORY = ("the_laboratory_works", "every_planned_fault_strikes")
"""What is found under these names says nothing of the database."""
SHRINK_TRIES_MAX = 400
"""So many smaller worlds are tried at most."""


@dataclass(slots=True)
class Found:
    """A violation, and where."""

    seed: int
    name: str
    text: str
    at: float
    """Simulated seconds."""


@dataclass(slots=True)
class Trial:
    """One seed's run, as it is reported."""

    seed: int
    found: Found | None
    struck: Counter[str]
    mattered: Counter[str]
    chosen: Counter[str]
    steps: int
    simulated_s: float
    answers: int
    leaders: int
    trace: int


@dataclass(slots=True)
class Bag:
    """What a hunt brought home."""

    seeds: int = 0
    steps: int = 0
    """Of replicas, the invariants judged after each."""
    simulated_s: float = 0.0
    seconds: float = 0.0
    answers: int = 0
    leaders: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    mattered: Counter[str] = field(default_factory=Counter)
    chosen: Counter[str] = field(default_factory=Counter)
    found: Found | None = None
    """Of all that was found, what has the lowest seed."""

    def add(self, trial: Trial) -> None:
        self.seeds += 1
        self.steps += trial.steps
        self.simulated_s += trial.simulated_s
        self.answers += trial.answers
        self.leaders += trial.leaders
        self.struck += trial.struck
        self.mattered += trial.mattered
        self.chosen += trial.chosen
        if trial.found is not None and (self.found is None or trial.found.seed < self.found.seed):
            self.found = trial.found


def try_plan(plan: Plan, sabotage: str | None = None) -> Trial:
    """Carry out one plan, sabotaged or not."""
    logging.disable(logging.CRITICAL)
    try:
        with applied(sabotage):
            outcome = run(plan)
    finally:
        logging.disable(logging.NOTSET)
    violation = outcome.violation
    found = None
    if violation is not None:
        found = Found(plan.seed, violation.name, violation.text, outcome.simulated_s)
    return Trial(
        plan.seed,
        found,
        outcome.struck,
        outcome.mattered,
        outcome.chosen,
        outcome.steps,
        outcome.simulated_s,
        outcome.answers,
        outcome.leaders,
        outcome.trace,
    )


def try_seed(seed: int, sabotage: str | None = None) -> Trial:
    """The world of one seed."""
    return try_plan(draw(seed), sabotage)


def hunt(
    first: int,
    seeds: int | None,
    minutes: float | None,
    jobs: int,
    sabotage: str | None = None,
    progress: Callable[[Bag], object] = lambda bag: None,
) -> Bag:
    """Try seeds from `first` on: so many, or for so long, on `jobs` cores. Ends at the first violation."""
    bag = Bag()
    began = time.monotonic()
    deadline = None if minutes is None else began + minutes * 60
    numbers: Iterator[int] = iter(range(first, first + seeds)) if seeds is not None else count(first)

    def is_over() -> bool:
        return bag.found is not None or (deadline is not None and time.monotonic() >= deadline)

    def take(trial: Trial) -> None:
        bag.add(trial)
        bag.seconds = time.monotonic() - began
        progress(bag)

    if jobs == 1:
        for seed in numbers:
            take(try_seed(seed, sabotage))
            if is_over():
                break
        return bag
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        pending: set[Future[Trial]] = set()
        while True:
            while not is_over() and len(pending) < 2 * jobs and (number := next(numbers, None)) is not None:
                pending.add(pool.submit(try_seed, number, sabotage))
            if not pending:
                break
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                take(future.result())
            if is_over():
                for future in list(pending):
                    if future.cancel():
                        pending.discard(future)
    return bag


def shrink(
    plan: Plan,
    found: Found,
    sabotage: str | None = None,
    progress: Callable[[int, Plan], object] = lambda tries, plan: None,
) -> tuple[Plan, Found]:
    """Look for a simpler world in which the same invariant is violated."""
    tries = 0
    while True:
        for candidate in smaller(plan):
            if tries >= SHRINK_TRIES_MAX:
                return plan, found
            tries += 1
            again = try_plan(candidate, sabotage).found
            if again is not None and again.name == found.name:
                plan, found = candidate, again
                progress(tries, plan)
                break
        else:
            return plan, found
