"""The acceptor: the part of Paxos that must never forget and never take back.

Theory (section 2.2). An acceptor answers two requests. It may answer a prepare request numbered n with a promise if n is
higher than every prepare request it answered before; the promise is *never to accept a proposal numbered less than n*
(P1a), and it comes with the highest-numbered proposal that it accepted. It may accept a proposal numbered n unless it
has promised a number greater than n. It can ignore any request without harm to safety.

Section 3 runs one acceptor for all instances: one promise covers every instance, and the answer to a prepare request
reports the acceptances of all of them from a given instance on.

This file decides; it writes nothing and sends nothing. Each method returns an `Answer`: the record to make stable and
the message that may leave *after* that. State in memory runs ahead of the disk. That is safe because every message
that tells of it waits for the disk, in the order of the records. An answer without a record (a repeated request)
waits, too: what it repeats may still be on its way to the disk.

Not here: who leads, what time it is, what was chosen. The replica says how far everything is chosen (`forget`); below that
point the acceptor is silent, since there is nothing left to decide.
"""

from __future__ import annotations

from typing import NamedTuple

from .ballot import NO_BALLOT, Ballot, Instance
from .messages import Accept, Accepted, Prepare, Promise, Refused
from .records import Acceptance, Note, Promised
from .values import Value


class Answer(NamedTuple):
    """`message` may leave once `record`, and all records before it, are stable."""

    record: Promised | Acceptance | None
    message: Promise | Accepted


class Acceptor:
    """One acceptor, for every instance.

    `alpha` bounds what it holds: it ignores proposals for instances more than alpha beyond what it knows to be chosen.
    """

    __slots__ = ("accepted", "accepted_upto", "alpha", "chosen", "promised", "report_bytes_max")

    def __init__(self, alpha: int, report_bytes_max: int) -> None:
        self.alpha = alpha
        self.report_bytes_max = report_bytes_max
        self.promised: Ballot = NO_BALLOT
        self.accepted: dict[Instance, Acceptance] = {}
        """The highest-numbered acceptance of each instance above `chosen`."""
        self.accepted_upto = Instance(0)
        """Nothing was ever accepted in any instance beyond."""
        self.chosen = Instance(0)
        """Everything up to here is chosen: learned, not voted on."""

    def on_prepare(self, prepare: Prepare, clock: int) -> Answer | Refused:
        """Phase 1b (section 2.2). Promise `prepare.ballot` unless a higher one is promised (P1a).

        The same prepare request may come again, repeated by the network or to read on where the last report ended:
        the promise stands already, so it is only answered.
        """
        if prepare.ballot < self.promised:
            return Refused(prepare.ballot, self.promised)
        record = None
        if prepare.ballot > self.promised:
            self.promised = prepare.ballot
            record = Promised(prepare.ballot)
        reported, last = self._report(prepare.first)
        return Answer(record, Promise(prepare.ballot, prepare.first, reported, last, self.chosen, clock))

    def on_accept(self, accept: Accept) -> Answer | Refused | None:
        """Phase 2b (section 2.2). Accept unless a higher number is promised; None means ignored.

        Accepting is promising as well: after it, nothing numbered lower is accepted anywhere.
        """
        if accept.ballot < self.promised:
            return Refused(accept.ballot, self.promised)
        if not self.chosen < accept.instance <= self.chosen + self.alpha:
            return None
        earlier = self.accepted.get(accept.instance)
        if earlier is not None and earlier.ballot == accept.ballot:
            assert earlier.value == accept.value, (
                f"two values were proposed as {accept.ballot} for instance {accept.instance}"
            )
            return Answer(None, Accepted(accept.ballot, accept.instance))
        self.promised = accept.ballot
        record = Acceptance(accept.instance, accept.ballot, accept.value)
        self.accepted[accept.instance] = record
        if accept.instance > self.accepted_upto:
            self.accepted_upto = accept.instance
        return Answer(record, Accepted(accept.ballot, accept.instance))

    def value_accepted(self, instance: Instance, ballot: Ballot) -> Value | None:
        """Return what was accepted for `instance` under exactly `ballot`."""
        acceptance = self.accepted.get(instance)
        return acceptance.value if acceptance is not None and acceptance.ballot == ballot else None

    def forget(self, chosen: Instance) -> None:
        """Everything up to `chosen` is chosen: drop the acceptances there."""
        if chosen - self.chosen > len(self.accepted):  # From a snapshot on, perhaps: that is a long way.
            self.accepted = {number: kept for number, kept in self.accepted.items() if number > chosen}
        else:
            for instance in range(self.chosen + 1, chosen + 1):
                self.accepted.pop(Instance(instance), None)
        self.chosen = max(self.chosen, chosen)

    def restore(self, record: Promised | Acceptance) -> None:
        """Take back one record that was read from stable storage, in the order of writing."""
        self.promised = max(self.promised, record.ballot)
        if isinstance(record, Acceptance):
            self.accepted_upto = max(self.accepted_upto, record.instance)
            if record.instance > self.chosen:
                self.accepted[record.instance] = record

    def note(self) -> Note:
        """What was answered so far, in a nutshell. May be asked from any thread."""
        return Note(self.promised, self.accepted_upto)

    def restore_from(self, note: Note) -> None:
        """Take back what an earlier life has noted."""
        self.promised = max(self.promised, note.promised)
        self.accepted_upto = max(self.accepted_upto, note.accepted_upto)

    def _report(self, first: Instance) -> tuple[tuple[tuple[Instance, Ballot, Value], ...], Instance | None]:
        """Acceptances from `first` on, and where the report ends if not all had room (at least one always has)."""
        reported: list[tuple[Instance, Ballot, Value]] = []
        room = self.report_bytes_max
        for instance in sorted(self.accepted):
            if instance < first:
                continue
            acceptance = self.accepted[instance]
            room -= acceptance.value.size
            if room < 0 and reported:
                return tuple(reported), reported[-1][0]
            reported.append((instance, acceptance.ballot, acceptance.value))
        return tuple(reported), None
