"""How the number of keys matters, and what a key takes in memory."""

from __future__ import annotations

from sofadb.load.generator import Generator
from sofadb.load.requests import each_set
from sofadb.load.speakers import Resp

from ..run import Run
from ..systems.base import HOST, Load
from ..systems.resp import RedisLike
from .sweep import Sweep, Value

COUNTS = {"none": 0, "1,000": 1_000, "10,000": 10_000, "100,000": 100_000, "1,000,000": 1_000_000}
SIZE = 256
PREFIX = b"other:"

SWEEP = Sweep(
    part="keys",
    title="Number of keys",
    about=f"So many further keys of {SIZE} bytes each are there; SET and GET on 50 connections. Memory: by how much the leader's "
    "resident memory grew while they were written, for each of them. (With a million, snapshots are being taken meanwhile, "
    "by all three nodes at once.)",
    axis="keys",
    points={name: max(count, 100) for name, count in COUNTS.items()},
    values=(Value("SET", "SET/s"), Value("GET", "GET/s"), Value("memory", "bytes per key", is_plotted=False)),
    systems=("sofadb", "redis"),
)


def measure_one(run: Run, system: RedisLike, count: int) -> dict[str, float]:
    """With a cluster that holds nothing else."""
    leader = system.wait_for_leader()
    port = system.port(leader)
    before = system.resident(leader)
    if count:
        make = each_set(PREFIX, count, SIZE)
        with Generator(lambda: Resp(make), [(HOST, port)], 10, 16) as generator:
            generator.some(count)
    grown = system.resident(leader) - before
    values = {name: system.closed(Load(name, 50), run.seconds, port)["rate"] for name in ("SET", "GET")}
    # With few keys it is the allocator that is seen, not the keys.
    return values | ({"memory": grown / count} if count >= 100_000 else {})


def measure(run: Run) -> None:
    """A fresh cluster for each."""
    kinds = [each for each in run.systems if each.name in SWEEP.systems]
    for number in range(run.rounds):
        for name, count in COUNTS.items():
            with run.started(kinds) as systems:
                for system in run.in_turn(systems):
                    run.note(SWEEP.part, name, system, number, measure_one, run, system, count)
