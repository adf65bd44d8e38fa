"""Which links are cut, and what is still owed to clients then. Pure.

A cut is a set of directions: (a, b) in it means that b hears nothing from a. A node can lead if it and those with whom it has
links both ways are a quorum; as long as there is such a node, there has to be progress. Who that will be is not for us to
say. So a node owes its clients service without an error if it has links both ways with *every* node that can lead.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

Cut = frozenset[tuple[str, str]]

NOTHING: Cut = frozenset()


def directions(nodes: Sequence[str]) -> list[tuple[str, str]]:
    return list(itertools.permutations(nodes, 2))


def all_but(nodes: Sequence[str], kept: Iterable[tuple[str, str]]) -> Cut:
    """Cut everything but these links, which are kept both ways."""
    open_ways = {way for a, b in kept for way in ((a, b), (b, a))}
    return frozenset(directions(nodes)) - open_ways


def between(some: Iterable[str], others: Iterable[str]) -> Cut:
    """Cut both ways between two sides."""
    return frozenset(way for a, b in itertools.product(some, others) for way in ((a, b), (b, a)))


def mask(nodes: Sequence[str], number: int) -> Cut:
    """The cut of the directions whose bits are set: of three nodes there are 64."""
    return frozenset(way for bit, way in enumerate(directions(nodes)) if number >> bit & 1)


def both_ways(a: str, b: str, cut: Cut) -> bool:
    return (a, b) not in cut and (b, a) not in cut


def can_lead(nodes: Sequence[str], cut: Cut) -> list[str]:
    quorum = len(nodes) // 2 + 1
    return [
        node
        for node in nodes
        if 1 + sum(both_ways(node, other, cut) for other in nodes if other != node) >= quorum
    ]


def served(nodes: Sequence[str], cut: Cut) -> list[str]:
    """The nodes that owe their clients service."""
    leaders = can_lead(nodes, cut)
    if not leaders:
        return []
    return [
        node for node in nodes if all(node == leader or both_ways(node, leader, cut) for leader in leaders)
    ]
