"""How the number of nodes matters, from a single one on."""

from __future__ import annotations

from ..run import Run
from ..systems.base import Load, System
from .sweep import Sweep, Value

COUNTS = (1, 3, 5, 7)
LOADS = {
    "SET": Load("SET", 50),
    "SET16": Load("SET", 50, 16),
    "GET": Load("GET", 50),
    "GET16": Load("GET", 50, 16),
}

SWEEP = Sweep(
    part="nodes",
    title="Number of nodes",
    about="All at the leader, on 50 connections, 1 or 16 requests in flight on each. The nodes share the machine's processors.",
    axis="nodes",
    points={str(count): count for count in COUNTS},
    values=(
        Value("SET", "SET/s"),
        Value("SET16", "SET/s, 16 in flight"),
        Value("GET", "GET/s", is_plotted=False),
        Value("GET16", "GET/s, 16 in flight", is_plotted=False),
    ),
    systems=("sofadb", "etcd", "zookeeper", "pysyncobj"),
    is_x_logarithmic=False,
)


def measure_one(run: Run, system: System) -> dict[str, float]:
    """All loads, one after the other."""
    port = system.port(system.wait_for_leader())
    return {name: system.closed(load, run.seconds, port)["rate"] for name, load in LOADS.items()}


def measure(run: Run) -> None:
    """One number after the other; in each, one system after the other."""
    kinds = [each for each in run.systems if each.name in SWEEP.systems]
    for count in COUNTS:
        with run.started(kinds, count) as systems:
            for number in range(run.rounds):
                for system in run.in_turn(systems):
                    run.note(SWEEP.part, str(count), system, number, measure_one, run, system)
