"""The rows of the main table, and what SofaDB aims at in each."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..systems.base import Load

OFFERED = 2_000
"""Requests a second in the open loop of the main table."""
FAILOVER_RATE = 500
"""Requests a second while a leader is killed."""
TABLE = "table"
"""The part that these rows belong to."""


@dataclass(frozen=True, slots=True)
class Row:
    """One of them."""

    name: str
    title: str
    value: str
    """Which of the measured values it shows."""
    load: Load | None = None
    is_at_follower: bool = False
    targets: dict[str, float] = field(default_factory=dict)
    """By system: at least so many times its rate, or at most so large a part of its time."""

    @property
    def is_rate(self) -> bool:
        """More is better."""
        return self.value == "rate"


ROWS = (
    Row(
        "set-50",
        "SET, 50 connections",
        "rate",
        Load("SET", 50),
        targets={"etcd": 3, "zookeeper": 3, "redis": 0.4},
    ),
    Row(
        "set-200",
        "SET, 200 connections",
        "rate",
        Load("SET", 200),
        targets={"etcd": 4, "zookeeper": 4, "redis": 0.6},
    ),
    Row(
        "set-50x16",
        "SET, 50 × 16 in flight",
        "rate",
        Load("SET", 50, 16),
        targets={"etcd": 7, "zookeeper": 8, "redis": 0.6},
    ),
    Row(
        "get-50",
        "GET, linearizable, 50 connections",
        "rate",
        Load("GET", 50),
        targets={"etcd": 2, "zookeeper": 3, "redis": 0.5},
    ),
    Row(
        "get-50x16",
        "GET, linearizable, 50 × 16 in flight",
        "rate",
        Load("GET", 50, 16),
        targets={"etcd": 4, "redis": 0.5},
    ),
    Row("open", f"p50 at {OFFERED:,} SET/s", "p50", targets={"etcd": 1, "zookeeper": 1}),
    Row("open", f"p99 at {OFFERED:,} SET/s", "p99", targets={"etcd": 1, "zookeeper": 1}),
    Row("failover", "leader killed: longest time without a write", "gap", targets={"etcd": 1 / 3}),
)
FOLLOWER_ROWS = tuple(
    Row(f"{row.name}-follower", f"{row.title}, at a follower", row.value, row.load, is_at_follower=True)
    for row in ROWS
    if row.load is not None
)
