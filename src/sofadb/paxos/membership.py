"""Who the acceptors of each instance are (section 3, last paragraph; rule P4).

The paper lets the set of servers be part of the state: who executes instance i + alpha is said by the state after
instance i. So the configuration of an instance is known as soon as everything up to alpha before it is chosen, which is
also how far ahead a leader may propose.

A change may replace any set of members by any other. Promises are asked of the new acceptors as of the old, and between the
two no value is ever in doubt: each instance has one configuration, known before anything is proposed there.

Who may lead? Whoever votes on what comes; and whoever voted on the last instance that is known to be chosen. The
second matters at one moment only: when everything before the change is chosen, and nothing behind it is. Then perhaps nobody but
one who has no vote from here on knows that the change is in force, and it is for him to let the others know.
"""

from __future__ import annotations

from .ballot import Instance, NodeId
from .values import Configuration


class Membership:
    """A configuration for each instance: a short list of (first instance, configuration), in order."""

    __slots__ = ("alpha", "table")

    def __init__(self, initial: Configuration, alpha: int) -> None:
        assert alpha >= 1
        self.alpha = alpha
        self.table: list[tuple[Instance, Configuration]] = [(Instance(1), initial)]

    @classmethod
    def of(cls, configurations: tuple[tuple[Instance, Configuration], ...], alpha: int) -> Membership:
        """The membership that a foundation tells of."""
        membership = cls(configurations[0][1], alpha)
        membership.table = list(configurations)
        return membership

    @property
    def latest(self) -> Configuration:
        """The configuration of the last change that is known to be chosen, in force or not."""
        return self.table[-1][1]

    @property
    def in_force_from(self) -> Instance:
        """The first instance of the latest configuration."""
        return self.table[-1][0]

    def is_settled(self, chosen: Instance) -> bool:
        """Whether the latest configuration is in force: everything before its first instance is chosen."""
        return self.in_force_from <= chosen + 1

    def has_a_say(self, node: NodeId) -> bool:
        """Whether `node` votes on what comes, as far as that is known, or voted on the last instance that was chosen."""
        for _, configuration in self.table:  # noqa: SIM110 (Asked for each message: a generator takes twice as long.)
            if node in configuration.acceptors:
                return True
        return False

    def is_member(self, node: NodeId) -> bool:
        """Whether `node` has a say, or learns."""
        return self.has_a_say(node) or any(node in configuration.learners for _, configuration in self.table)

    def at(self, instance: Instance) -> Configuration:
        """The configuration of `instance`. The caller knows everything up to `instance` - alpha."""
        for first, configuration in reversed(self.table):
            if instance >= first:
                return configuration
        raise AssertionError(f"no configuration is known for instance {instance}: it lies behind the cut")

    def between(self, first: Instance, last: Instance) -> tuple[Configuration, ...]:
        """Every configuration that holds for an instance in `first..last`."""
        later = tuple(configuration for start, configuration in self.table if first < start <= last)
        return (self.at(first), *later)

    def change(self, chosen_at: Instance, configuration: Configuration) -> None:
        """A change was chosen as instance `chosen_at`: it holds from alpha instances on."""
        start = Instance(chosen_at + self.alpha)
        assert start > self.table[-1][0], "changes are applied in order, each once"
        self.table.append((start, configuration))

    def forget(self, chosen: Instance) -> None:
        """Everything up to `chosen` is settled: drop configurations that hold neither for that instance nor for any above."""
        while len(self.table) > 1 and self.table[1][0] <= chosen:
            del self.table[0]

    def window(self, chosen: Instance) -> tuple[Configuration, ...]:
        """The configurations in which a leader that knows everything up to `chosen` may propose."""
        return self.between(Instance(chosen + 1), Instance(chosen + self.alpha))

    def members(self) -> tuple[NodeId, ...]:
        """Everybody who has a part in what comes, or had one in the last instance that was chosen: they shall hear of it."""
        return tuple(sorted({node for _, each in self.table for node in each.members}))
