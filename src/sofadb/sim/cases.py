"""The cases that the explorer visits whole: small enough to be finished, large enough to hold the paper's dangers.

Theory. What can go wrong in Paxos goes wrong in small worlds. Any two majorities of three acceptors share one acceptor, and it
takes one acceptor to forget, or to be asked by the wrong number, for two values to be chosen. Two ballots are enough for a later
proposer to miss an earlier one's value; a third is what tells the *highest*-numbered report from just any report; a
second instance is what one promise must cover as well (section 3). So a case is three acceptors, a few ballots, one or two
instances, and at most one crash. What holds in a finished case holds in every run of it, of any length and with
any loss; what it says about larger worlds is an extrapolation, and the simulator looks there by chance instead.

A case is data. It may bring roles of its own: that is how the laboratory puts a known mistake back, to see that it is found.
Nothing outside a test does so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sofadb.paxos.acceptor import Acceptor
from sofadb.paxos.ballot import Ballot, Instance, NodeId
from sofadb.paxos.learner import Learner
from sofadb.paxos.proposer import Proposer
from sofadb.paxos.values import Configuration, Entry, Value

_THREE_ACCEPTORS = Configuration(("a1", "a2", "a3"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One small world. Messages may be lost, repeated and overtaken in every one of them: see the explorer's theory."""

    name: str
    about: str
    """One sentence for whoever chooses among the cases."""
    ballots: tuple[Ballot, ...]
    """The proposal numbers, from the lowest. Two of one node are two lives or two attempts of the same proposer."""
    wants: dict[NodeId, str] = field(default_factory=lambda: {"p1": "red", "p2": "blue", "p3": "green"})
    """What each proposer would like to be chosen, if it is free to choose."""
    instances: int = 1
    configuration: Configuration = _THREE_ACCEPTORS
    crashes: int = 0
    """How many times an acceptor, any of them, may lose what is not yet stable and start again."""
    in_turn: bool = False
    """A ballot is begun only once the one below it has proposed, as when two proposers outbid each other."""
    tells_chosen: bool = False
    """Acceptors are told what is chosen, and cut it off."""
    alpha: int = 8
    """An acceptor ignores proposals for instances more than this beyond what it knows to be chosen."""
    report_bytes_max: int = 1_000
    """How long a report may be before it comes in parts. Each value here is about a hundred bytes."""
    every_step: bool = False
    """Take every step by itself: none of the explorer's reductions except that of symmetric states. For the smallest cases."""

    # What the laboratory breaks on purpose.
    acceptor: Callable[[int, int], Acceptor] = Acceptor
    proposer: Callable[[Ballot, Instance], Proposer] = Proposer
    learner: Callable[[], Learner] = Learner
    waits_for_disk: bool = True
    """False: answers leave before their records are stable, against rule P1."""

    def __post_init__(self) -> None:
        assert self.ballots, "somebody proposes"
        assert list(self.ballots) == sorted(set(self.ballots)), "ballots ascend, and nobody shares one"
        assert all(ballot.node in self.wants for ballot in self.ballots), "every proposer wants something"
        assert self.instances >= 1, "instances are counted from 1"
        assert self.alpha >= 1, "the first instance is always open"

    @property
    def reports_come_in_parts(self) -> bool:
        """Whether a report may be too long for one message."""
        instances = [Instance(number) for number in range(1, self.instances + 1)]
        size = sum(max(self.wanted(ballot, each).size for ballot in self.ballots) for each in instances)
        return size > self.report_bytes_max

    def wanted(self, ballot: Ballot, instance: Instance) -> Value:
        """Return what the owner of `ballot` wants in `instance`; a value tells its instance where there are several."""
        colour = self.wants[ballot.node]
        text = colour if self.instances == 1 else f"{colour}-{instance}"
        return Value(0, (Entry(ballot.node, 1, int(instance), text.encode()),))


_ONE, _TWO, _THREE, _FOUR = Ballot(1, "p1"), Ballot(2, "p2"), Ballot(3, "p1"), Ballot(4, "p2")

_ALL = (
    Case(
        name="two-ballots-one-instance",
        about="Two proposers, one number each: the smallest world in which a value can be missed.",
        ballots=(_ONE, _TWO),
    ),
    Case(
        name="every-step",
        about="Two acceptors, and no reduction but symmetry: what the reductions are compared with.",
        ballots=(_ONE, _TWO),
        configuration=Configuration(("a1", "a2")),
        every_step=True,
    ),
    Case(
        name="every-step-of-three",
        about="The same with three acceptors: three quarters of a million states for what 226 say with the reductions.",
        ballots=(_ONE, _TWO),
        every_step=True,
    ),
    Case(
        name="two-ballots-two-instances",
        about="One promise covers both instances (section 3); a report may speak of either, of both or of none.",
        ballots=(_ONE, _TWO),
        instances=2,
    ),
    Case(
        name="three-ballots-one-instance",
        about="Three numbers of two proposers: the highest-numbered report, not just any, decides.",
        ballots=(_ONE, _TWO, _THREE),
    ),
    Case(
        name="four-ballots-one-instance",
        about="Two proposers with two numbers each.",
        ballots=(_ONE, _TWO, _THREE, _FOUR),
    ),
    Case(
        name="duelling",
        about="Two proposers outbid each other four times (section 2.4): never unsafe, and perhaps never done.",
        ballots=(_ONE, _TWO, _THREE, _FOUR),
        in_turn=True,
    ),
    Case(
        name="with-a-crash",
        about="An acceptor crashes at any moment, also between the record and its stability, and starts again.",
        ballots=(_ONE, _TWO),
        crashes=1,
    ),
    Case(
        name="with-two-crashes",
        about="Twice, the same acceptor or two of them.",
        ballots=(_ONE, _TWO),
        crashes=2,
    ),
    Case(
        name="three-ballots-with-a-crash",
        about="An acceptor forgets what was not stable, and three numbers are about.",
        ballots=(_ONE, _TWO, _THREE),
        crashes=1,
    ),
    Case(
        name="with-a-cut",
        about="Acceptors cut off what is chosen, and look one instance ahead (alpha is 1).",
        ballots=(_ONE, _TWO),
        instances=2,
        tells_chosen=True,
        alpha=1,
    ),
    Case(
        name="with-a-cut-and-a-crash",
        about="And an acceptor that crashes no longer knows what it has cut off.",
        ballots=(_ONE, _TWO),
        instances=2,
        tells_chosen=True,
        alpha=1,
        crashes=1,
    ),
    Case(
        name="reports-in-parts",
        about="No report has room for two instances: it comes in two parts, and counts only when it is whole.",
        ballots=(_ONE, _TWO),
        instances=2,
        report_bytes_max=1,
    ),
    Case(
        name="two-lives",
        about="One proposer, begun anew with a higher number, still hears what was promised to its earlier life.",
        ballots=(_ONE, _THREE),
        instances=2,
        tells_chosen=True,
        report_bytes_max=1,
    ),
)

CASES: dict[str, Case] = {case.name: case for case in _ALL}
