"""How the size of values matters."""

from __future__ import annotations

from ..run import Run
from ..systems.base import Load
from .sweep import Sweep, Value

SIZES = {"16 B": 16, "256 B": 256, "4 kB": 4_000, "64 kB": 64_000, "1 MB": 1_000_000}

SWEEP = Sweep(
    part="sizes",
    title="Size of values",
    about="SET on 50 connections at the leader. Each size has a cluster of its own.",
    axis="bytes of a value",
    points=dict[str, float](SIZES),
    values=(Value("rate", "SET/s"),),
)


def measure(run: Run) -> None:
    """One size after the other; in each, one system after the other."""
    for name, size in SIZES.items():
        with run.started(run.systems, warm_up=False) as systems:
            for number in range(run.rounds):
                for system in run.in_turn(systems):
                    port = system.port(system.wait_for_leader())
                    run.note(
                        SWEEP.part,
                        name,
                        system,
                        number,
                        system.closed,
                        Load("SET", 50, 1, size),
                        run.seconds,
                        port,
                    )
