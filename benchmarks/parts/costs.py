"""What a command costs a node: time of a processor, and bytes written to the disk."""

from __future__ import annotations

from sofadb.load.generator import Generator

from ..run import Run
from ..systems.base import HOST, System
from .sweep import Sweep, Value

REQUESTS = 50_000
OPERATIONS = {
    "SET": ("SET", 1),
    "SET, 16 in flight": ("SET", 16),
    "GET": ("GET", 1),
    "GET, 16 in flight": ("GET", 16),
}

SWEEP = Sweep(
    part="costs",
    title="What a command costs",
    about=f"{REQUESTS:,} requests at the leader on 50 connections, all of them by our own generator: seconds of a "
    "processor (user and system) per 100,000 commands, and bytes that a node had the kernel write to the disk per command.",
    axis="",
    points=dict.fromkeys(OPERATIONS, 0),
    values=(
        Value("cpu leader", "s/100,000, leader", is_plotted=False),
        Value("cpu others", "s/100,000, another node", is_plotted=False),
        Value("bytes leader", "bytes, leader", is_plotted=False),
    ),
    systems=("sofadb", "etcd", "zookeeper", "redis"),
)


def measure_one(system: System, operation: str, depth: int) -> dict[str, float]:
    """What all nodes spent meanwhile."""
    leader = system.wait_for_leader()
    others = [name for name in system.names if name != leader]
    with Generator(
        lambda: system.speaker(operation, 256), [(HOST, system.port(leader))], 50, depth
    ) as generator:
        generator.some(REQUESTS // 5)
        before = {name: (system.cpu_seconds(name), system.written(name)) for name in system.names}
        figures = generator.some(REQUESTS)
        after = {name: (system.cpu_seconds(name), system.written(name)) for name in system.names}
    if figures.errors:
        raise ValueError(f"{figures.errors} errors")
    cpu = {name: (after[name][0] - before[name][0]) * 100_000 / REQUESTS for name in system.names}
    values = {"cpu leader": cpu[leader], "bytes leader": (after[leader][1] - before[leader][1]) / REQUESTS}
    if others:
        values["cpu others"] = sum(cpu[name] for name in others) / len(others)
    return values


def measure(run: Run) -> None:
    """One system after the other."""
    with run.started([each for each in run.systems if each.name in SWEEP.systems]) as systems:
        for number in range(run.rounds):
            for system in run.in_turn(systems):
                for name, (operation, depth) in OPERATIONS.items():
                    run.note(SWEEP.part, name, system, number, measure_one, system, operation, depth)
