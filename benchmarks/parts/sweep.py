"""A part that varies one thing: what its table and its plot show."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Value:
    """One figure of a measurement."""

    name: str
    title: str
    unit: str = ""
    is_plotted: bool = True


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is varied, and what comes out."""

    part: str
    title: str
    about: str
    """Sentences for the page."""
    axis: str
    """What is varied."""
    points: dict[str, float]
    """By the name of the row: where it lies on the axis."""
    values: tuple[Value, ...]
    systems: tuple[str, ...] = field(default=("sofadb", "etcd", "zookeeper", "redis", "pysyncobj"))
    is_x_logarithmic: bool = True
    is_y_logarithmic: bool = True
