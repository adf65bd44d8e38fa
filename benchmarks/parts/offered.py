"""How long writes take at an offered load, up to where a system cannot carry it."""

from __future__ import annotations

from ..run import Run
from .sweep import Sweep, Value

RATES = (500, 1_000, 2_000, 4_000, 8_000, 12_000, 16_000)
SATURATED_MS = 1_000.0
"""Where half of all requests take longer, more load is not tried."""

SWEEP = Sweep(
    part="offered",
    title="Latency at an offered load",
    about="SET on 50 connections at the leader, so many a second whether or not answers come; each time counts from the moment "
    "at which the request was due. A system that makes half of its clients wait for a second is not asked for more.",
    axis="SET/s offered",
    points={str(rate): rate for rate in RATES},
    values=tuple(
        Value(name, name, " ms", name in ("p50", "p99")) for name in ("p50", "p90", "p99", "p99.9", "max")
    ),
)


def measure(run: Run) -> None:
    """One rate after the other, for one system after the other."""
    with run.started(run.systems) as systems:
        for number in range(run.rounds):
            for system in run.in_turn(systems):
                for rate in RATES:
                    run.note(SWEEP.part, str(rate), system, number, system.open, "SET", rate, run.seconds)
                    values = list(run.figures.values(SWEEP.part, str(rate), system.name, "p50"))
                    if not values or values[-1] > SATURATED_MS:
                        break
