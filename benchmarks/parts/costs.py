"""What a command costs a node: time of a processor, and bytes written to the disk."""

from __future__ import annotations

from sofadb.load.generator import Generator

from ..place import written
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
    about=f"{REQUESTS:,} requests at the leader on 50 connections, all of them by our own generator: seconds of a processor "
    "(user and system) per 100,000 commands, and bytes that reached the disk per command, those of all nodes together.",
    axis="",
    points=dict.fromkeys(OPERATIONS, 0),
    values=(
        Value("cpu leader", "s/100,000, leader", is_plotted=False),
        Value("cpu others", "s/100,000, another node", is_plotted=False),
        Value("bytes", "bytes on disk per command, all nodes", is_plotted=False),
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
        before = [system.cpu_seconds(name) for name in system.names]
        bytes_before = written(system.directory)
        figures = generator.some(REQUESTS)
        on_disk = written(system.directory) - bytes_before
        after = [system.cpu_seconds(name) for name in system.names]
    if figures.errors:
        raise ValueError(f"{figures.errors} errors")
    spent = [(end - begin) * 100_000 / REQUESTS for begin, end in zip(before, after, strict=True)]
    cpu = dict(zip(system.names, spent, strict=True))
    values = {"cpu leader": cpu[leader], "bytes": on_disk / REQUESTS}
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
