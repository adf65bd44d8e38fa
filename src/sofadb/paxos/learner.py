"""The learner: when is a value chosen?

Theory (section 2.3). A value is chosen when a single proposal with it has been accepted by a majority of the
acceptors. A learner finds out by being told of acceptances; it keeps *who* accepted *which number*, never a count, so
that neither a repeated message nor acceptances of different numbers can add up to a majority that never was.

Every acceptance goes to the leader, who is the paper's distinguished learner and tells the others. (Any node may run a
learner of its own: the example that chooses a single value does.)
"""

from __future__ import annotations

from .ballot import Ballot, Instance, NodeId
from .values import Configuration


class Learner:
    """Who accepted what, for the instances not yet known to be chosen."""

    __slots__ = ("accepted_by",)

    def __init__(self) -> None:
        self.accepted_by: dict[tuple[Instance, Ballot], set[NodeId]] = {}

    def on_accepted(
        self, node: NodeId, ballot: Ballot, instance: Instance, configuration: Configuration
    ) -> bool:
        """Note that `node` accepted proposal `ballot`; return whether its value is thereby known to be chosen."""
        voters = self.accepted_by.setdefault((instance, ballot), set())
        voters.add(node)
        return configuration.is_quorum(voters)

    def has_accepted(self, node: NodeId, ballot: Ballot, instance: Instance) -> bool:
        """Return whether `node` is known to have accepted that proposal."""
        return node in self.accepted_by.get((instance, ballot), ())

    def forget(self, chosen: Instance) -> None:
        """Everything up to `chosen` is known to be chosen: drop the votes there."""
        for key in [key for key in self.accepted_by if key[0] <= chosen]:
            del self.accepted_by[key]
