"""Proposal numbers and instances.

The paper asks one thing of proposal numbers: they are totally ordered, and no two proposers ever use the same one
(section 2.2: "Different proposals must have different numbers"; section 2.5 has each proposer choose from a disjoint set and
remember in stable storage the highest it tried). A `Ballot` is a round and the id of the node that chose it: the
round makes it as high as one likes, the node id makes it nobody else's. A node never uses a round twice because its
own acceptor records the promise of a ballot before the first prepare request leaves (see `campaigning`).
"""

from __future__ import annotations

from typing import NamedTuple, NewType

NodeId = str

Instance = NewType("Instance", int)
"""The place of a value in the sequence (section 3). The first one is 1; 0 means "none yet"."""

NO_INSTANCE = Instance(0)


class Ballot(NamedTuple):
    """A proposal number: ordered by round, then by node id. (A tuple, because its order *is* the order of tuples.)"""

    round: int
    node: NodeId

    def __str__(self) -> str:
        return f"{self.round}.{self.node}" if self.round else "none"

    def above(self, node: NodeId) -> Ballot:
        """Return the lowest ballot of `node` that is higher than this one whatever its node id."""
        return Ballot(self.round + 1, node)


NO_BALLOT = Ballot(0, "")
"""Lower than every ballot that a node may use: an acceptor that has promised nothing."""
