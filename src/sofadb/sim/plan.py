"""The plan of a run: what world a seed means.

Every seed is another world: how many nodes, how busy, how calm or brutal, which sizes, which faults and when. A plan is plain
data, so a failing one can be made smaller, kept, and run again. Within a run each source of chance has a stream of its own,
so that a plan with one fault less is still nearly the same world.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sofadb.paxos.settings import Settings
from sofadb.unlikely import POINTS

MOODS = ("calm", "rough", "brutal")

USUAL: dict[str, tuple[int, int]] = {
    # kind: how likely, and for how many nodes at least it makes sense
    "isolated node": (4, 3),
    "deaf node": (3, 3),
    "mute node": (3, 3),
    "split": (4, 3),
    "ring": (2, 5),
    "bridge": (3, 3),
    "chain": (3, 3),
    "flapping link": (2, 3),
    "swizzle": (2, 3),
    "slow links": (3, 3),
    "slow answers": (5, 3),
    "unheard leaders": (5, 3),
    "late acceptances": (10, 5),
    "old messages": (4, 3),
    "cut client": (2, 1),
    "killed node": (6, 1),
    "killed leader": (5, 1),
    "killed candidate": (6, 3),
    "all killed": (2, 1),
    "stopped node": (4, 1),
    "power lost": (6, 1),
    "power lost everywhere": (3, 1),
    "crash while writing": (6, 1),
    "paused node": (4, 1),
    "paused leader": (4, 1),
    "stalled node": (3, 1),
    "slow disk": (3, 1),
    "stuck disk": (4, 1),
    "failed sync": (4, 1),
    "failed write": (3, 1),
    "full disk": (3, 1),
    "rotten disk": (3, 3),
    "emptied disk": (4, 3),
    "old disk": (4, 3),
    "clock set": (5, 3),
    "clock strobe": (2, 3),
    "clock rate": (2, 3),
    "hand over": (6, 3),
    "usurpers": (6, 3),
}
CHANGES: dict[str, tuple[int, int]] = {
    "member added": (5, 3),
    "member replaced": (5, 3),
    "member removed": (4, 3),
    "leader removed": (4, 3),
    "new directory": (4, 3),
    "snapshot now": (4, 1),
    "snapshot damaged": (5, 1),
    "learning node": (4, 3),
}
"""These are drawn for themselves, in most worlds: what is drawn of the others is the same as without them."""
SELDOM: dict[str, tuple[int, int]] = {
    # kind: in how many of a hundred worlds, and for how many nodes at least it makes sense
    "late grants": (10, 3),
}
"""And each of these for itself, once in such a world."""
KINDS = USUAL | CHANGES | SELDOM
"""Faults that strike at a time."""

PERMANENT = ("rotten disk", "emptied disk", "old disk")
"""What these strike is lost: they strike fewer than half of the nodes. (Some come back, with a directory begun anew.)"""
WITHOUT_CHANGES = 0.2
"""So many worlds have none of these."""
WITH_QUEUES = 0.25
"""In so many worlds somebody waits for elements."""
WITH_CROWDS = 0.2
"""In so many worlds many ask the same at the same time."""
CLOCKS = ("clock set", "clock strobe", "clock rate")
"""These strike one node at a time: no clock that is ahead is then the lower one in the middle of a quorum's."""

SLOW_TO_TELL = ("hand over", "usurpers")
"""What these lead to is seen only some time later, while it is still rough."""

LEASE_MS = 270.0
"""Where leaders read by a lease, it lasts as long as in production."""

MISCHIEF = ("message lost", "message twice", "message late", "message damaged", "message replayed")
"""What the network may do to each message."""


@dataclass(frozen=True, slots=True)
class Strike:
    """A planned fault."""

    at: float
    """Simulated seconds."""
    kind: str
    lasts: float
    """Seconds."""
    amount: float
    """Of whatever the kind can have more or less of, in [0, 1)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One world, and what happens in it. Times in seconds, sizes in bytes."""

    seed: int
    mood: str
    nodes: int
    clients: int
    requests: int
    """How many each client makes while it is rough."""
    workloads: tuple[str, ...]
    rough_s: float
    """How long faults strike. Then a random quorum heals."""
    strikes: tuple[Strike, ...]
    mischief: tuple[tuple[str, float], ...]
    """How likely each is, for each message."""
    points: tuple[str, ...]
    """Where the unlikely may be chosen."""
    latency_s: tuple[float, float]
    segment_bytes: int
    snapshot_bytes: int
    """A node takes a snapshot when its log has grown by so much."""
    settings: Settings

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"n{number}" for number in range(1, self.nodes + 1))


def draw(seed: int) -> Plan:
    """The world that `seed` means."""
    chance = random.Random(f"sofadb/{seed}")
    mood = chance.choices(MOODS, (1, 5, 4))[0]
    nodes = chance.choices((1, 3, 5, 7), (1, 5, 3, 1))[0]
    rough_s = chance.uniform(2.0, 7.0)
    alpha = chance.choice((1, 2, 4, 64))
    settings = Settings(
        alpha=alpha,
        in_flight_max=min(alpha, chance.choice((1, 2, 2, 4))),
        batch_bytes_max=chance.choice((1, 500, 10_000, 1 << 20)),
        message_bytes_max=chance.choice((1, 2_000, 4 << 20)),
        tail_bytes_max=chance.choice((1, 2_000, 16 << 20)),
        queue_bytes_max=chance.choice((20_000, 64 << 20)),
        reads_max=chance.choice((2, 100_000, 100_000)),
        lease_ms=chance.choice((0.0, LEASE_MS)),
    )
    return Plan(
        seed=seed,
        mood=mood,
        nodes=nodes,
        clients=chance.randint(2, 6),
        requests=chance.randint(5, 60),
        workloads=tuple(
            sorted(
                [
                    *chance.sample(
                        ("registers", "lists", "bank", "expiry", "once", "locks", "anything"),
                        chance.randint(1, 3),
                    ),
                    *_more_workloads(seed),
                ]
            )
        ),
        rough_s=rough_s,
        strikes=()
        if mood == "calm"
        else (
            *_strikes(chance, mood, nodes, rough_s),
            *_changes(seed, nodes, rough_s),
            *_seldom(seed, nodes, rough_s),
        ),
        mischief=() if mood == "calm" or nodes == 1 else tuple(_mischief(chance, mood)),
        points=tuple(sorted(chance.sample(sorted(POINTS), len(POINTS) // 4))),
        latency_s=chance.choice(((0.00005, 0.0005), (0.0005, 0.005), (0.001, 0.04))),
        segment_bytes=chance.choice((16 << 10, 32 << 10, 128 << 10)),
        snapshot_bytes=random.Random(f"sofadb/{seed}/snapshots").choice((1_000, 10_000, 50_000, 64 << 20)),
        settings=settings,
    )


def _more_workloads(seed: int) -> list[str]:
    """Drawn for themselves, as changes are."""
    likely = {"queues": WITH_QUEUES, "crowds": WITH_CROWDS}
    return [name for name, part in likely.items() if random.Random(f"sofadb/{seed}/{name}").random() < part]


def _strikes(chance: random.Random, mood: str, nodes: int, rough_s: float) -> Iterator[Strike]:
    kinds, weights = _possible(USUAL, nodes)
    permanent_left = (nodes - 1) // 2
    for _ in range(chance.randint(1, 4) if mood == "rough" else chance.randint(5, 12)):
        kind = chance.choices(kinds, weights)[0]
        if kind in PERMANENT:
            if permanent_left == 0:
                continue
            permanent_left -= 1
        latest = rough_s - 0.7 if kind in SLOW_TO_TELL else rough_s
        yield Strike(chance.uniform(0.4, latest), kind, chance.choice((0.05, 0.4, 0.8, 1.5)), chance.random())


def _possible(likely: dict[str, tuple[int, int]], nodes: int) -> tuple[list[str], list[int]]:
    """Kinds that make sense, and how likely they are."""
    kinds = [kind for kind, (_, nodes_min) in likely.items() if nodes >= nodes_min]
    return kinds, [likely[kind][0] for kind in kinds]


def _changes(seed: int, nodes: int, rough_s: float) -> Iterator[Strike]:
    chance = random.Random(f"sofadb/{seed}/changes")
    if chance.random() < WITHOUT_CHANGES:
        return
    kinds, weights = _possible(CHANGES, nodes)
    for _ in range(chance.randint(1, 3)):
        kind = chance.choices(kinds, weights)[0]
        yield Strike(
            chance.uniform(0.4, rough_s - 0.7), kind, chance.choice((0.05, 0.4, 0.8, 1.5)), chance.random()
        )


def _seldom(seed: int, nodes: int, rough_s: float) -> Iterator[Strike]:
    for kind, (percent, nodes_min) in SELDOM.items():
        chance = random.Random(f"sofadb/{seed}/{kind}")
        if nodes >= nodes_min and chance.random() * 100 < percent:
            yield Strike(
                chance.uniform(0.4, rough_s - 0.7), kind, chance.choice((0.05, 0.4)), chance.random()
            )


def _mischief(chance: random.Random, mood: str) -> Iterator[tuple[str, float]]:
    for kind in MISCHIEF:
        if chance.random() < (0.3 if mood == "rough" else 0.7):
            high = 0.02 if kind == "message damaged" else 0.05 if mood == "rough" else 0.25
            yield kind, chance.uniform(0.01, high)


def smaller(plan: Plan) -> Iterator[Plan]:
    """Plans that are a little simpler than this one, the boldest steps first. Each may fail in the same way, or not."""
    count = len(plan.strikes)
    size = count
    while size >= 1:
        for begin in range(0, count, size):
            yield replace(plan, strikes=plan.strikes[:begin] + plan.strikes[begin + size :])
        size //= 2
    if plan.mischief:
        yield replace(plan, mischief=())
        for index in range(len(plan.mischief)):
            yield replace(plan, mischief=plan.mischief[:index] + plan.mischief[index + 1 :])
    if plan.points:
        yield replace(plan, points=())
        half = len(plan.points) // 2
        yield replace(plan, points=plan.points[:half])
        yield replace(plan, points=plan.points[half:])
    for nodes in (1, 3, 5):
        if nodes < plan.nodes and all(KINDS[strike.kind][1] <= nodes for strike in plan.strikes):
            yield replace(plan, nodes=nodes)
    if len(plan.workloads) > 1:
        for name in plan.workloads:
            yield replace(plan, workloads=(name,))
    if plan.clients > 1:
        yield replace(plan, clients=plan.clients // 2)
        yield replace(plan, clients=plan.clients - 1)
    if plan.requests > 1:
        yield replace(plan, requests=plan.requests // 2)
        yield replace(plan, requests=plan.requests - 1)
    if plan.settings != Settings():
        yield replace(plan, settings=Settings())
