"""How the number of connections matters."""

from __future__ import annotations

from ..run import Run
from ..systems.base import Load
from .sweep import Sweep, Value

COUNTS = (1, 10, 50, 100, 200, 500, 1_000)
MANY = 9_900
"""Of ten thousand that are allowed, a few are left for looking after the nodes."""
MANY_SYSTEMS = ("sofadb", "etcd", "redis")

SWEEP = Sweep(
    part="connections",
    title="Number of connections",
    about="SET at the leader, one request in flight on each connection (in PySyncObj: so many in flight).",
    axis="connections",
    points={f"{count:,}": count for count in (*COUNTS, MANY)},
    values=(Value("rate", "SET/s"),),
)


def measure(run: Run) -> None:
    """One number after the other, for one system after the other."""
    with run.started(run.systems) as systems:
        for number in range(run.rounds):
            for system in run.in_turn(systems):
                port = system.port(system.wait_for_leader())
                for count in (*COUNTS, *((MANY,) if system.name in MANY_SYSTEMS else ())):
                    load = Load("SET", count)
                    run.note(SWEEP.part, f"{count:,}", system, number, system.closed, load, run.seconds, port)
