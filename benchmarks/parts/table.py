"""The main table: closed loops at the leader (and at a follower), an open loop, and how long a dead leader is missed."""

from __future__ import annotations

from sofadb.load.generator import Generator
from sofadb.load.latencies import Figures as LoadFigures

from ..run import Run
from ..systems.base import HOST, OPEN_DEPTH, System
from .rows import FAILOVER_RATE, FOLLOWER_ROWS, OFFERED, ROWS, TABLE

FAILOVER_S = 8.0
KILL_AFTER_S = 1.5
CLUSTERS = ("sofadb", "etcd", "zookeeper")
"""Those that are asked over connections, and whose followers take requests, too."""


def failover(system: System) -> dict[str, float]:
    """Kill the leader under a steady load at the others, and start it again; `gap` in ms."""
    victim = system.wait_for_leader()
    addresses = [(HOST, system.port(name)) for name in system.names if name != victim]
    killed: list[str] = []

    def watch(figures: LoadFigures) -> None:
        if not killed and figures.answers >= KILL_AFTER_S * FAILOVER_RATE:
            system.kill(victim)
            killed.append(victim)

    with Generator(lambda: system.speaker("SET", 256), addresses, 50, OPEN_DEPTH) as generator:
        figures = generator.open(FAILOVER_RATE, FAILOVER_S, progress=watch)
    if not killed:
        raise ValueError("the load was not carried even before the leader was killed")
    system.start_node(victim)
    system.wait_for_leader()
    return {"gap": 1000 * figures.silence, "errors": figures.errors, "unanswered": figures.unanswered}


def measure(run: Run) -> None:
    """All rows of one system, and then the next; again for each round."""
    rows = ROWS if run.is_quick else ROWS + FOLLOWER_ROWS
    with run.started(run.systems) as systems:
        for number in range(run.rounds):
            for system in run.in_turn(systems):
                for row in rows:
                    if row.load is None or (row.is_at_follower and system.name not in CLUSTERS):
                        continue
                    name = system.follower() if row.is_at_follower else system.wait_for_leader()
                    run.note(
                        TABLE,
                        row.name,
                        system,
                        number,
                        system.closed,
                        row.load,
                        run.seconds,
                        system.port(name),
                    )
                run.note(TABLE, "open", system, number, system.open, "SET", OFFERED, run.seconds)
        for number in range(run.kills):
            for system in run.in_turn([each for each in systems if each.name in CLUSTERS]):
                run.note(TABLE, "failover", system, number, failover, system)
