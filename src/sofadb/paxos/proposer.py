"""The proposer: which value must be proposed.

Theory (section 2.2). A proposer that chose the number n asks the acceptors for their promises (phase 1). Once a majority
has answered, it may ask them to accept a proposal numbered n (phase 2) whose value is the value of the highest-numbered
proposal among the answers, or any value it likes if the answers report none: that is condition P2c, the heart of the
paper. And it proposes no other value with the same number, ever.

For the sequence (section 3) one phase 1 serves all instances from a first one on. An answer is about every one of them: an
acceptor that reports nothing for an instance has said that it accepted nothing there. So an answer counts only when
its report is complete; long ones come in parts.

Not here: numbers (the caller brings a fresh one), disks, time, and what to do with the gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .ballot import NO_BALLOT, NO_INSTANCE, Ballot, Instance, NodeId
from .messages import Prepare, Promise
from .values import Configuration, Value


@dataclass(slots=True)
class _Report:
    """What one acceptor has said so far."""

    upto: int
    """Its report is known for all instances up to here."""
    complete: bool = False


@dataclass(slots=True)
class Proposer:
    """One proposal number at work, in every instance from `first` on."""

    ballot: Ballot
    first: Instance
    chosen: Instance = NO_INSTANCE
    """The highest watermark that an answer told: up to here values are learned, not proposed."""
    chosen_at: NodeId = ""
    """Who told it."""
    highest: dict[Instance, tuple[Ballot, Value]] = field(default_factory=dict)
    """For each instance, the highest-numbered proposal reported by anyone."""
    proposed: dict[Instance, Value] = field(default_factory=dict)
    """What was proposed under this number and is not yet known to be chosen."""
    promised_by: frozenset[NodeId] = frozenset()
    """Whose promise, with its whole report, is here: who, never how many."""
    _reports: dict[NodeId, _Report] = field(default_factory=dict)

    def heard_from(self, node: NodeId) -> bool:
        """Whether `node` has answered at all."""
        return node in self._reports

    def may_be_told(self, promise: Promise, alpha: int) -> bool:
        """Whether an acceptor of ours can have said it: it accepts nothing beyond alpha, and a cut report ends in itself."""
        instances = [instance for instance, _, _ in promise.reported]
        if promise.ballot != self.ballot or (instances and instances[-1] > promise.chosen + alpha):
            return False
        return instances == sorted(set(instances)) and promise.last in (None, *instances[-1:])

    def next_prepare(self, node: NodeId) -> Prepare | None:
        """Phase 1a: what to ask `node` next; None once its answer is complete."""
        report = self._reports.get(node)
        if report is None:
            return Prepare(self.ballot, self.first)
        return None if report.complete else Prepare(self.ballot, Instance(report.upto + 1))

    def on_promise(self, node: NodeId, promise: Promise) -> bool:
        """Phase 1: take one answer, or one part of an answer. Repeated and overtaken ones change nothing.

        Returns whether `node` has said more than before. (Were the next part asked for at each repetition of this one, a few
        repetitions would soon be more messages than anybody can count.)
        """
        if promise.ballot != self.ballot:
            return False
        report = self._reports.setdefault(node, _Report(upto=self.first - 1))
        if report.complete or promise.first > report.upto + 1:
            return False
        for instance, ballot, value in promise.reported:
            if ballot > self.highest.get(instance, (NO_BALLOT, None))[0]:
                self.highest[instance] = (ballot, value)
        if promise.chosen > self.chosen:
            self.chosen, self.chosen_at = promise.chosen, node
        before = report.upto
        if promise.last is None:
            report.complete = True
            self.promised_by |= {node}
        report.upto = max(before, promise.last or 0)
        return report.complete or report.upto > before

    def is_prepared(self, configurations: tuple[Configuration, ...]) -> bool:
        """Whether phase 1 is done: a quorum of *every* configuration has promised (rule P4)."""
        return all(configuration.is_quorum(self.promised_by) for configuration in configurations)

    @property
    def last_reported(self) -> Instance:
        """The highest instance in which anybody accepted anything, or 0."""
        return max(self.highest, default=Instance(0))

    def value_for(self, instance: Instance, wanted: Value) -> Value:
        """Phase 2a (P2c): the reported value of the highest-numbered proposal, else the wanted one.

        Asking again for an instance gives the same value again: one number, one value.
        """
        assert instance >= self.first, "phase 1 covered no instance before the first"
        if instance not in self.proposed:
            reported = self.highest.get(instance)
            self.proposed[instance] = wanted if reported is None else reported[1]
        return self.proposed[instance]

    def forget(self, chosen: Instance) -> None:
        """Everything up to `chosen` is chosen: nothing to propose there any more."""
        for known in (self.highest, self.proposed):
            if known:
                for instance in [instance for instance in known if instance <= chosen]:
                    del known[instance]
