"""What is chosen.

To the algorithm of section 2 a value is opaque. Section 3 gives it meaning: the i-th value chosen is the i-th command
of the state machine. Ours is one of three things, told apart by what it carries:

- a *batch*: everything that clients asked for while the last batch was on its way (rule P5), as entries;
- a *no-op*: the paper's "special command that leaves the state unchanged", a value without entries;
- a *change*: the configuration that holds from alpha instances on (section 3, last paragraph).

Each carries the leader's time stamp in milliseconds; the time of the state machine is the highest stamp chosen so
far, so it never runs backwards (rule P5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .ballot import NodeId


class Entry(NamedTuple):
    """What one node asked for in one go, under its own session (rule P8)."""

    node: NodeId
    """The node whose clients asked."""
    incarnation: int
    """Its start counter: a session ends when its node starts anew."""
    sequence: int
    """1, 2, 3, ... within the session. An entry takes effect only as the successor of the one before."""
    payload: bytes | memoryview
    """The command itself; what it means is the state machine's business."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who the acceptors of an instance are, and who learns without a vote.

    Both are sorted tuples: a set's order would differ from process to process.
    """

    acceptors: tuple[NodeId, ...]
    learners: tuple[NodeId, ...] = ()
    members: tuple[NodeId, ...] = field(init=False, compare=False, repr=False)
    """Both, sorted."""

    def __post_init__(self) -> None:
        assert self.acceptors, "a configuration has at least one acceptor"
        assert list(self.acceptors) == sorted(set(self.acceptors)), "acceptors are sorted and named once"
        assert list(self.learners) == sorted(set(self.learners) - set(self.acceptors)), (
            "learners have no vote"
        )
        object.__setattr__(self, "members", tuple(sorted((*self.acceptors, *self.learners))))

    @property
    def quorum(self) -> int:
        """How many acceptors are a majority: any two majorities share one (section 2.2)."""
        return len(self.acceptors) // 2 + 1

    def is_quorum(self, nodes: frozenset[NodeId] | set[NodeId]) -> bool:
        """Whether `nodes` hold a majority of the acceptors. Counts who, never how many answers came."""
        count = 0
        for node in self.acceptors:
            count += node in nodes
        return count >= self.quorum


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the sequence: a batch, a no-op (no entries, no configuration) or a change."""

    stamp: int
    """The leader's time in milliseconds; 0 where it does not move time."""
    entries: tuple[Entry, ...] = ()
    configuration: Configuration | None = None

    size: int = field(init=False, compare=False, repr=False)
    """About how many bytes this is, on the wire and on disk."""
    encoded: Sequence[bytes | memoryview] | None = field(init=False, compare=False, repr=False, default=None)
    """Its bytes, once they are known: they are made once, and passed on as they came. No part of what it is."""

    def __post_init__(self) -> None:
        size = 32
        for entry in self.entries:
            size += 32 + len(entry.payload)
        object.__setattr__(self, "size", size)

    @property
    def is_no_op(self) -> bool:
        return not self.entries and self.configuration is None

    def keep_encoded(self, encoded: Sequence[bytes | memoryview]) -> None:
        """These are its bytes, as the codec has them."""
        object.__setattr__(self, "encoded", encoded)


NO_OP = Value(stamp=0)
"""What fills a gap (section 3)."""
