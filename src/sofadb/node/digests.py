"""Do all replicas do the same? Compared all the time, instance by instance (rule D2).

Every node remembers the rolling digest of its state after some instances, the same ones on all nodes, and tells the others
the latest few of them every second; and where it stands, which on a quiet cluster is where all stand. Who hears of an
instance that it has not applied yet keeps what it heard until it has.

If a quorum of the acceptors says the same of an instance and this node something else, it is this node that has diverged: by
a broken processor or memory, or by a command that is not as deterministic as it should be. What it holds is worth nothing
then. If there is no such quorum, nobody can tell who is right, and that is told.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from sofadb.paxos import Configuration, NodeId

from .parcels import Digests

EVERY = 256
"""Digests of so many instances apart are remembered ..."""
REMEMBERED = 64
"""... and as many of them."""
TOLD = 4
HEARD_MAX = 256
"""What others said of so many instances is kept."""


class DigestBook:
    """What this node's state was, and what the others say that theirs were."""

    def __init__(self, me: NodeId, rolling_at: Callable[[int], int | None]) -> None:
        """`rolling_at` is asked for the digest after an instance; it knows the latest ones."""
        self.me = me
        self._rolling_at = rolling_at
        self._own: OrderedDict[int, int] = OrderedDict()
        self._heard: OrderedDict[int, dict[NodeId, int]] = OrderedDict()
        self.disputed = 0
        """The highest instance of which others say something else and nobody can tell who is right; 0: none."""

    def applied(self, instance: int) -> None:
        """The state is now that after `instance`."""
        if instance % EVERY == 0:
            self._note(instance)

    def begin_from(self, instance: int) -> None:
        """The state is another one, and what was noted of the last is worth nothing."""
        self._own.clear()
        self._note(instance)

    def _note(self, instance: int) -> None:
        digest = self._rolling_at(instance)
        assert digest is not None, "it is the latest one"
        self._own[instance] = digest
        while len(self._own) > REMEMBERED:
            self._own.popitem(last=False)

    def tell(self, applied: int) -> Digests:
        """What to tell the others."""
        pairs = dict(list(self._own.items())[-TOLD:])
        if applied and (digest := self._rolling_at(applied)) is not None:
            pairs[applied] = digest
        return Digests(tuple(sorted(pairs.items())))

    def heard(self, sender: NodeId, digests: Digests) -> None:
        """Another node has told what its state was."""
        for instance, digest in digests.pairs:
            self._heard.setdefault(instance, {})[sender] = digest
        while len(self._heard) > HEARD_MAX:
            self._heard.popitem(last=False)

    def diverged_at(self, configuration: Configuration) -> int | None:
        """The instance after which this node's state is not what a quorum of these acceptors says; None: not that we know."""
        self.disputed = 0
        for instance, told in sorted(self._heard.items()):
            own = self._own.get(instance)
            own = self._rolling_at(instance) if own is None else own
            if own is None:
                continue
            if all(digest == own for digest in told.values()):
                del self._heard[instance]
            elif self._quorum_against(own, told, configuration):
                return instance
            else:
                self.disputed = instance
        return None

    def _quorum_against(self, own: int, told: Mapping[NodeId, int], configuration: Configuration) -> bool:
        return any(
            digest != own and configuration.is_quorum({node for node, each in told.items() if each == digest})
            for digest in set(told.values())
        )
