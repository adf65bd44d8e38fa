"""What must hold, whatever happens: judged after every step of every replica, by what the laboratory has seen itself.

The `Ledger` notes what happened: which records became stable on whose disk, what was said to whom, what was applied. It
counts quorums anew, from stable acceptances alone, and believes no replica. Each invariant is a function with the
paper's section or the rule that it checks; it is given the ledger and what has just happened, and raises `Violation`.

A ledger only grows by what is new: each check costs about the same however long the run is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sofadb.paxos.acceptor import Acceptor
from sofadb.paxos.ballot import NO_BALLOT, Ballot, NodeId
from sofadb.paxos.effects import Deliver
from sofadb.paxos.foundation import Foundation
from sofadb.paxos.messages import Accept, Accepted, Learn, Prepare, Promise
from sofadb.paxos.records import Acceptance, ChosenUpTo, Learned, Promised
from sofadb.paxos.replica import Replica
from sofadb.paxos.values import Configuration, Entry, Value

Life = tuple[NodeId, int]
"""A node and how often it was started."""


class Violation(BaseException):
    """An invariant does not hold. `name` is the invariant's. (No `Exception`: what is judged shall not handle it.)"""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


@dataclass(slots=True)
class Ledger:
    """All that the invariants need to know of the past."""

    configuration: Configuration
    """Of the first instances."""
    alpha: int
    changes: list[tuple[int, Configuration]] = field(default_factory=list)
    """What was chosen to come after it, and from which instance on; in order."""
    votes: dict[tuple[int, Ballot], set[NodeId]] = field(default_factory=dict)
    """Whose disk holds an acceptance of which proposal; for ever, also when the disk is lost later."""
    values: dict[tuple[int, Ballot], Value] = field(default_factory=dict)
    """What was proposed."""
    chosen: dict[int, tuple[Ballot, Value]] = field(default_factory=dict)
    """The lowest ballot under which a quorum accepted, and its value."""
    chosen_upto: int = 0
    """Every instance up to here is chosen."""
    promised: dict[NodeId, Ballot] = field(default_factory=dict)
    """The highest promise (or acceptance) on each disk."""
    promise_told: dict[NodeId, Ballot] = field(default_factory=dict)
    """The highest promise that each node has told anybody."""
    accepted: dict[NodeId, dict[int, Ballot]] = field(default_factory=dict)
    """The highest ballot accepted in each instance, by disk."""
    owners: dict[Ballot, Life] = field(default_factory=dict)
    """In which life of a node each ballot was first used."""
    leaders: dict[Ballot, Life] = field(default_factory=dict)
    delivered: dict[int, tuple[int, tuple[Entry, ...]]] = field(default_factory=dict)
    """What was first applied anywhere as each instance: the time, and the entries that took effect."""
    payloads: dict[tuple[NodeId, int, int], bytes] = field(default_factory=dict)
    """What each entry of a session is."""
    sessions: dict[NodeId, tuple[int, int]] = field(default_factory=dict)
    """The last entry of each node that took effect: start counter and number."""
    known: dict[NodeId, int] = field(default_factory=dict)
    """Up to where each disk says, in a record or a snapshot, that everything is chosen."""
    learned: dict[NodeId, int] = field(default_factory=dict)
    """How far each acceptor has ever applied what was chosen."""
    rolling: dict[int, int] = field(default_factory=dict)
    """The digest of all changes up to an instance."""
    digests: dict[int, bytes] = field(default_factory=dict)
    """The state after an instance, where somebody has looked."""
    foundations: dict[int, Foundation] = field(default_factory=dict)
    """The core's part in that, where somebody took a snapshot."""
    visible: int = 0
    """The last instance that a client can know of: by the answer to a write, or by having read."""

    def vote(self, node: NodeId, record: Acceptance) -> None:
        """An acceptance is on the disk of `node`."""
        key = (record.instance, record.ballot)
        one_value_per_ballot(self, record.ballot, record.instance, record.value)
        voters = self.votes.setdefault(key, set())
        voters.add(node)
        if self.configuration_of(record.instance).is_quorum(voters):
            one_value_chosen(self, record)
            earlier = self.chosen.get(record.instance)
            if earlier is None or record.ballot < earlier[0]:
                self.chosen[record.instance] = (record.ballot, record.value)
            while (chosen := self.chosen.get(self.chosen_upto + 1)) is not None:
                self.chosen_upto += 1
                if chosen[1].configuration is not None:
                    self.changes.append((self.chosen_upto + self.alpha, chosen[1].configuration))

    def configuration_of(self, instance: int) -> Configuration:
        """Who the acceptors of an instance are, by what is chosen up to alpha before it (section 3)."""
        for first, configuration in reversed(self.changes):
            if instance >= first:
                return configuration
        return self.configuration

    def configurations_from(self, instance: int) -> list[Configuration]:
        """Who votes from `instance` on, and whoever will if what was proposed beyond what is chosen becomes chosen."""
        decided = [each for first, each in self.changes if first > instance]
        proposed = [
            value.configuration
            for (at, _), value in self.values.items()
            if at > self.chosen_upto and value.configuration is not None
        ]
        return [self.configuration_of(instance), *decided, *proposed]

    def is_enough(self, acceptors: frozenset[NodeId]) -> bool:
        """Whether these can go on without any other, from what their disks say they know."""
        known = max((self.known.get(each, 0) for each in acceptors), default=0)
        return all(each.is_quorum(acceptors) for each in self.configurations_from(known + 1))

    @property
    def latest(self) -> Configuration:
        """Who votes on what comes, by the last change that was chosen, in force or not."""
        return self.changes[-1][1] if self.changes else self.configuration


# What disks hold


def one_value_per_ballot(ledger: Ledger, ballot: Ballot, instance: int, value: Value) -> None:
    """Section 2.2: different proposals have different numbers. Under one ballot one value is proposed in an instance."""
    known = ledger.values.setdefault((instance, ballot), value)
    if known is not value and known != value:
        raise Violation("one_value_per_ballot", f"{ballot} proposes two values in instance {instance}")


def one_value_chosen(ledger: Ledger, record: Acceptance) -> None:
    """Section 2: only a single value is chosen, ever."""
    earlier = ledger.chosen.get(record.instance)
    if earlier is not None and earlier[1] != record.value:
        raise Violation(
            "one_value_chosen",
            f"instance {record.instance} has two chosen values, of {earlier[0]} and of {record.ballot}",
        )


def nothing_below_a_promise(ledger: Ledger, node: NodeId, record: Acceptance) -> None:
    """P1a (section 2.2): an acceptor accepts n only if it has not answered a prepare request numbered above n."""
    told = ledger.promise_told.get(node, NO_BALLOT)
    if record.ballot < told:
        raise Violation(
            "nothing_below_a_promise",
            f"{node} accepts {record.ballot} in instance {record.instance} after it told that it promised {told}",
        )


def learned_is_chosen(ledger: Ledger, node: NodeId, instance: int, value: Value) -> None:
    """Section 2.1: a process never learns that a value has been chosen unless it actually has been."""
    chosen = ledger.chosen.get(instance)
    if chosen is None or chosen[1] != value:
        what = "another value is" if chosen else "nothing is"
        raise Violation(
            "learned_is_chosen", f"{node} holds a value for chosen in instance {instance}; {what}"
        )


def record_became_stable(ledger: Ledger, node: NodeId, record: object, is_new: bool = True) -> None:
    """Note a record on the disk of `node`, and judge it. (One that is read back may be older than a promise, of course.)"""
    if isinstance(record, Acceptance):
        if is_new:
            nothing_below_a_promise(ledger, node, record)
        ledger.vote(node, record)
        ledger.promised[node] = max(ledger.promised.get(node, NO_BALLOT), record.ballot)
        accepted = ledger.accepted.setdefault(node, {})
        accepted[record.instance] = max(accepted.get(record.instance, NO_BALLOT), record.ballot)
    elif isinstance(record, Promised):
        ledger.promised[node] = max(ledger.promised.get(node, NO_BALLOT), record.ballot)
    elif isinstance(record, Learned):
        learned_is_chosen(ledger, node, record.instance, record.value)
    elif isinstance(record, ChosenUpTo):
        ledger.known[node] = max(ledger.known.get(node, 0), record.instance)


def nothing_is_forgotten(ledger: Ledger, node: NodeId, acceptor: Acceptor) -> None:
    """Section 2.5: stable storage, preserved during failures, holds what the acceptor must remember. Judged at each start."""
    promised = ledger.promised.get(node, NO_BALLOT)
    if acceptor.promised < promised:
        raise Violation(
            "nothing_is_forgotten", f"{node} starts with promise {acceptor.promised}, its disk had {promised}"
        )
    for instance, ballot in ledger.accepted.get(node, {}).items():
        if instance > acceptor.chosen:
            held = acceptor.accepted.get(instance)  # type: ignore[call-overload]
            if held is None or held.ballot < ballot:
                raise Violation(
                    "nothing_is_forgotten",
                    f"{node} starts without its acceptance of {ballot} in instance {instance}",
                )


def promise_never_falls(node: NodeId, before: Ballot, after: Ballot) -> None:
    """P1a (section 2.2): a promise is never taken back, in memory either."""
    if after < before:
        raise Violation("promise_never_falls", f"{node} promised {before} and now {after}")


def accepting_is_promising(ledger: Ledger, node: NodeId, promised: Ballot) -> None:
    """Section 3, one promise for all instances: who has accepted a number, anywhere, accepts nothing lower any more."""
    if promised < ledger.promised.get(node, NO_BALLOT):
        raise Violation(
            "accepting_is_promising",
            f"{node} would accept from {promised} on, and its disk holds {ledger.promised[node]}",
        )


# What is said


def nothing_is_told_before_it_is_stable(ledger: Ledger, node: NodeId, message: Promise | Accepted) -> None:
    """Section 2.5 (rule P1): an acceptor records its intended response in stable storage before actually sending it."""
    if isinstance(message, Accepted):
        if node not in ledger.votes.get((message.instance, message.ballot), ()):
            raise Violation(
                "nothing_is_told_before_it_is_stable",
                f"{node} tells that it accepted {message.ballot} in instance {message.instance}; its disk does not hold it",
            )
        return
    if ledger.promised.get(node, NO_BALLOT) < message.ballot:
        raise Violation(
            "nothing_is_told_before_it_is_stable",
            f"{node} tells that it promised {message.ballot}; its disk does not hold it",
        )
    for instance, ballot, _ in message.reported:
        if node not in ledger.votes.get((instance, ballot), ()):
            raise Violation(
                "nothing_is_told_before_it_is_stable",
                f"{node} reports an acceptance of {ballot} in instance {instance}; its disk does not hold it",
            )


def reports_are_complete(ledger: Ledger, node: NodeId, promise: Promise) -> None:
    """Section 2.2: a promise comes with the highest-numbered proposal accepted, of every instance it speaks of (section 3)."""
    reported = {instance: ballot for instance, ballot, _ in promise.reported}
    last = float("inf") if promise.last is None else promise.last
    first = max(int(promise.first), promise.chosen + 1)
    for instance, ballot in ledger.accepted.get(node, {}).items():
        if first <= instance <= last and reported.get(instance, NO_BALLOT) < ballot:  # type: ignore[call-overload]
            raise Violation(
                "reports_are_complete",
                f"{node} promises {promise.ballot} and is silent about its acceptance of {ballot} in instance {instance}",
            )


def one_life_per_ballot(ledger: Ledger, life: Life, ballot: Ballot) -> None:
    """Section 2.5: no two proposals are ever issued with the same number, in a later life of the node either."""
    owner = ledger.owners.setdefault(ballot, life)
    if owner != life:
        raise Violation("one_life_per_ballot", f"{ballot} is used by {life} and was used by {owner}")


def one_leader_per_ballot(ledger: Ledger, life: Life, ballot: Ballot) -> None:
    """Section 2.4: a single distinguished proposer; under one ballot there is never another."""
    leader = ledger.leaders.setdefault(ballot, life)
    if leader != life or ballot.node != life[0]:
        raise Violation("one_leader_per_ballot", f"{life} leads under {ballot}, which is {leader}'s")


def proposals_keep_what_is_chosen(ledger: Ledger, node: NodeId, accept: Accept) -> None:
    """P2b (section 2.2): if v is chosen, every proposal issued with a higher number has value v."""
    chosen = ledger.chosen.get(accept.instance)
    if chosen is not None and chosen[0] < accept.ballot and chosen[1] != accept.value:
        raise Violation(
            "proposals_keep_what_is_chosen",
            f"{node} proposes as {accept.ballot} another value than was chosen in instance {accept.instance} under {chosen[0]}",
        )


def proposals_follow_the_highest_report(
    node: NodeId,
    accept: Accept,
    reports: Mapping[NodeId, Mapping[int, tuple[Ballot, Value]]],
    promised_by: frozenset[NodeId],
) -> None:
    """P2c (section 2.2): the value is that of the highest-numbered proposal among those a majority has reported.

    Those whose promise is whole are a majority; somebody whose report was cut short may be counted with them, or not.
    """
    told = [(report[accept.instance], who) for who, report in reports.items() if accept.instance in report]
    whole = [told_by for told_by, who in told if who in promised_by]
    if whole:
        ballot, value = max(whole, key=lambda each: each[0])
        allowed = [value, *(other for (higher, other), _ in told if higher > ballot)]
        if accept.value not in allowed:
            raise Violation(
                "proposals_follow_the_highest_report",
                f"{node} proposes as {accept.ballot} another value in instance {accept.instance} than was reported as {ballot}",
            )


def proposals_stay_in_the_window(ledger: Ledger, node: NodeId, accept: Accept) -> None:
    """Section 3: at most alpha instances beyond what is chosen are proposed in; further on nobody knows the acceptors."""
    if accept.instance > ledger.chosen_upto + ledger.alpha:
        raise Violation(
            "proposals_stay_in_the_window",
            f"{node} proposes in instance {accept.instance}, and only {ledger.chosen_upto} are chosen (alpha {ledger.alpha})",
        )


def told_watermark_is_chosen(ledger: Ledger, node: NodeId, watermark: int) -> None:
    """Section 2.3: what is told to be chosen is chosen, all of it."""
    if watermark > ledger.chosen_upto:
        raise Violation(
            "told_watermark_is_chosen",
            f"{node} tells that {watermark} instances are chosen: {ledger.chosen_upto} are",
        )


def message_leaves(ledger: Ledger, life: Life, message: object) -> None:
    """Judge what `life` says."""
    node = life[0]
    if isinstance(message, Promise):
        nothing_is_told_before_it_is_stable(ledger, node, message)
        reports_are_complete(ledger, node, message)
        ledger.promise_told[node] = max(ledger.promise_told.get(node, NO_BALLOT), message.ballot)
    elif isinstance(message, Accepted):
        nothing_is_told_before_it_is_stable(ledger, node, message)
    elif isinstance(message, Accept):
        one_life_per_ballot(ledger, life, message.ballot)
        one_value_per_ballot(ledger, message.ballot, message.instance, message.value)
        proposals_keep_what_is_chosen(ledger, node, message)
        proposals_stay_in_the_window(ledger, node, message)
    elif isinstance(message, Prepare):
        one_life_per_ballot(ledger, life, message.ballot)
    elif isinstance(message, Learn):
        for instance, value in enumerate(message.values, message.first):
            learned_is_chosen(ledger, node, instance, value)
    watermark = getattr(message, "chosen", None)
    if watermark is not None:
        told_watermark_is_chosen(ledger, node, watermark)


# What is applied


def applied_is_chosen(ledger: Ledger, node: NodeId, instance: int) -> None:
    """Rule P8: nothing is applied that is not chosen, by the disks of a quorum; so no acknowledged write is on fewer."""
    if instance not in ledger.chosen:
        raise Violation("applied_is_chosen", f"{node} applies instance {instance}, which is not chosen")


def applied_in_order(node: NodeId, before: int, instance: int) -> None:
    """Rule P8: everything is applied in order, without a gap, once."""
    if instance != before + 1:
        raise Violation("applied_in_order", f"{node} applies instance {instance} after {before}")


def replicas_agree(ledger: Ledger, node: NodeId, deliver: Deliver) -> None:
    """Section 3: all servers play the same sequence of commands, at the same time stamps."""
    entries = tuple(entry for _, entry in deliver.entries)
    first = ledger.delivered.setdefault(deliver.instance, (deliver.time, entries))
    if first != (deliver.time, entries):
        raise Violation(
            "replicas_agree", f"{node} applies something else than others as instance {deliver.instance}"
        )


def applied_was_proposed(ledger: Ledger, node: NodeId, deliver: Deliver) -> None:
    """Section 2.1: only a value that has been proposed may be chosen, and what takes effect is part of the chosen value."""
    value = ledger.chosen[deliver.instance][1]
    for _, entry in deliver.entries:
        if entry not in value.entries:
            raise Violation(
                "applied_was_proposed", f"{node} applies what instance {deliver.instance} does not hold"
            )


def sessions_exactly_once(ledger: Ledger, instance: int, entries: Iterable[Entry]) -> None:
    """Rule P8: each command takes effect once, in the order of its session, whatever was sent again."""
    for entry in entries:
        key = (entry.node, entry.incarnation, entry.sequence)
        last = ledger.sessions.get(entry.node, (0, 0))
        expected = (last[0], last[1] + 1) if entry.incarnation == last[0] else (entry.incarnation, 1)
        if entry.incarnation < last[0] or (entry.incarnation, entry.sequence) != expected:
            raise Violation(
                "sessions_exactly_once", f"entry {key} takes effect in instance {instance} after {last}"
            )
        ledger.sessions[entry.node] = (entry.incarnation, entry.sequence)
        payload = bytes(entry.payload)
        if ledger.payloads.setdefault(key, payload) != payload:
            raise Violation("sessions_exactly_once", f"entry {key} is not what its node sent")


def time_never_runs_backwards(ledger: Ledger, deliver: Deliver) -> None:
    """Rule P5: the time of the state machine never runs backwards from one instance to the next."""
    before = ledger.delivered.get(deliver.instance - 1)
    if before is not None and deliver.time < before[0]:
        raise Violation(
            "time_never_runs_backwards",
            f"instance {deliver.instance} is at {deliver.time}, before {before[0]}",
        )


def time_is_bounded(instance: int, time_ms: int, right_ms: int, bound_ms: int) -> None:
    """Rule P5: no stamp is ahead of the right time by more than the bound, as long as few enough clocks are wrong."""
    if time_ms > right_ms + bound_ms:
        raise Violation(
            "time_is_bounded", f"instance {instance} is stamped {time_ms - right_ms} ms ahead of time"
        )


def states_are_equal(ledger: Ledger, node: NodeId, instance: int, digest: bytes) -> None:
    """Rules D1 and D2: the same instances lead to the same state, expiry included, byte for byte, on every replica."""
    if ledger.digests.setdefault(instance, digest) != digest:
        raise Violation("states_are_equal", f"{node} has another state than others after instance {instance}")


def changes_are_equal(ledger: Ledger, node: NodeId, instance: int, rolling: int) -> None:
    """Rule D2: every replica has made the same changes up to each instance, not only come to the same state."""
    if ledger.rolling.setdefault(instance, rolling) != rolling:
        raise Violation(
            "changes_are_equal", f"{node} has changed something else than others up to instance {instance}"
        )


def foundations_are_equal(ledger: Ledger, node: NodeId, foundation: Foundation) -> None:
    """Rules P8 and P9: what a snapshot says of members, sessions and time is what every replica says after that instance."""
    if ledger.foundations.setdefault(foundation.instance, foundation) != foundation:
        raise Violation(
            "foundations_are_equal",
            f"{node} has other members, sessions or time than others after instance {foundation.instance}",
        )


def value_was_applied(ledger: Ledger, node: NodeId, before: int, deliver: Deliver) -> None:
    """Judge what `node` applies."""
    applied_in_order(node, before, deliver.instance)
    applied_is_chosen(ledger, node, deliver.instance)
    is_first = deliver.instance not in ledger.delivered
    if is_first:
        time_never_runs_backwards(ledger, deliver)
        sessions_exactly_once(ledger, deliver.instance, (entry for _, entry in deliver.entries))
    replicas_agree(ledger, node, deliver)
    applied_was_proposed(ledger, node, deliver)


# Who reads


def reads_see_what_was_known(node: NodeId, floor: int, applied: int) -> None:
    """Rule P7: a read sees everything that anybody could know of when it was asked; so reads are linearizable."""
    if applied < floor:
        raise Violation(
            "reads_see_what_was_known",
            f"{node} answers a read from the state after instance {applied}; {floor} was known when it was asked",
        )


# Who takes part


def voters_have_learned(ledger: Ledger, leader: Replica, change: Configuration) -> None:
    """Rule P4: new members catch up as learners; who is asked for as an acceptor has learned about all there is."""
    upto = leader.sequence.watermark - ledger.alpha
    for node in change.acceptors:
        if node not in leader.membership.latest.acceptors and ledger.learned.get(node, 0) < upto:
            raise Violation(
                "voters_have_learned",
                f"{leader.me} has {node} vote, which knows {ledger.learned.get(node, 0)} of {upto} instances",
            )


def the_forgetful_take_no_part(node: NodeId, sender: NodeId, life: str, forgetful: Iterable[str]) -> None:
    """Rule P10: a disk that lost what it promised is no acceptor any more: nobody listens to it."""
    if life in forgetful:
        raise Violation(
            "the_forgetful_take_no_part", f"{node} listens to {sender}, whose disk has lost its past"
        )
