"""The foundation: what a snapshot of the state machine must say for a replica to go on from it (rule P9).

A log that only grows has to be cut some day, behind a snapshot of what the state machine has become. With the values
below the cut three things would be lost that are state as much as the machine's own: who the acceptors are (section 3 makes
them part of the state), which entry of each session took effect last, and what time it is. So they are in the
snapshot, taken at the same instance as the rest, and come back together with it. What an acceptor promised is not: that is its
own, and stays in its log.

Whoever goes on from a foundation knows that everything up to its instance is chosen and has taken effect, and needs none
of those values. Whoever lacks values that neither a foundation nor its log has, is in `doubt`: where its log was cut it may have
accepted something, and would tell a candidate that it did not.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ballot import Instance, NodeId
from .values import Configuration


@dataclass(frozen=True, slots=True)
class Foundation:
    """The replicated state after `instance`, as far as it is the core's."""

    instance: Instance
    """Everything up to here is contained."""
    time: int
    """The highest stamp up to here (milliseconds)."""
    configurations: tuple[tuple[Instance, Configuration], ...]
    """Who the acceptors are, and from which instance on: of `instance` itself and of all beyond that are known."""
    sessions: tuple[tuple[NodeId, int, int], ...]
    """Of each node that ever asked for something: its latest incarnation, and the last entry of it that took effect."""

    def __post_init__(self) -> None:
        firsts = [first for first, _ in self.configurations]
        assert firsts, "a foundation says who the acceptors are"
        assert firsts[0] <= self.instance + 1, "a foundation says who votes on what comes next"
        assert firsts == sorted(set(firsts)), "configurations follow one another"
        nodes = [node for node, _, _ in self.sessions]
        assert nodes == sorted(set(nodes)), "sessions are sorted, one for each node"
