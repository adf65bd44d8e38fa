"""Choose one value, as in section 2 of *Paxos Made Simple*: three acceptors, two proposers, a duel, and its end.

Run it:  python examples/choose_one_value.py

Everything happens in this one process, and every message arrives at once, so that the story can be read from top to
bottom. The roles are the same ones that the database runs.
"""

from __future__ import annotations

from collections.abc import Callable

from sofadb.paxos import Acceptor, Answer, Ballot, Configuration, Entry, Instance, Learner, Proposer, Value
from sofadb.paxos.messages import Accept, Accepted, Prepare, Promise

ACCEPTORS = ("a1", "a2", "a3")
CONFIGURATION = Configuration(ACCEPTORS)
ONLY = Instance(1)  # A single value is the first instance of a sequence.


def colour(name: str) -> Value:
    return Value(stamp=0, entries=(Entry("client", 1, 1, name.encode()),))


def name_of(value: Value) -> str:
    return bytes(value.entries[0].payload).decode()


class Story:
    """Three acceptors, a learner, and two proposers who each want a colour of their own."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.acceptors = {node: Acceptor(alpha=1, report_bytes_max=1000) for node in ACCEPTORS}
        self.learner = Learner()
        self.chosen: Value | None = None
        self.highest_seen = Ballot(0, "")

    def prepare(self, who: str) -> Proposer:
        """Phase 1: ask everybody for a promise, under a number higher than any seen."""
        self.highest_seen = self.highest_seen.above(who)
        proposer = Proposer(self.highest_seen, ONLY)
        for node, acceptor in self.acceptors.items():
            answer = acceptor.on_prepare(Prepare(proposer.ballot, ONLY), clock=0)
            if isinstance(answer, Answer) and isinstance(answer.message, Promise):
                proposer.on_promise(node, answer.message)
        self.tell(f"{who} prepares {proposer.ballot}: promised by {', '.join(sorted(proposer.promised_by))}")
        return proposer

    def propose(self, who: str, proposer: Proposer, wanted: Value) -> bool:
        """Phase 2: ask everybody to accept; whether that chose a value."""
        assert proposer.is_prepared((CONFIGURATION,))
        value = proposer.value_for(ONLY, wanted)
        accepted_by = []
        for node, acceptor in self.acceptors.items():
            answer = acceptor.on_accept(Accept(proposer.ballot, ONLY, value, chosen=Instance(0)))
            if isinstance(answer, Answer) and isinstance(answer.message, Accepted):
                accepted_by.append(node)
                if self.learner.on_accepted(node, proposer.ballot, ONLY, CONFIGURATION):
                    assert self.chosen in (None, value), "two values were chosen"
                    self.chosen = value
        word = ", ".join(accepted_by) or "nobody: a higher number has been promised"
        self.tell(f"{who} proposes {name_of(value)} as {proposer.ballot}: accepted by {word}")
        return bool(accepted_by)


def duel_and_election(tell: Callable[[str], None], rounds: int = 4) -> str:
    """Tell the story; return the colour that was chosen."""
    story = Story(tell)
    wanted = {"p1": colour("red"), "p2": colour("blue")}

    tell("Two proposers, each always a step too late (section 2.4):")
    waiting = ("p1", story.prepare("p1"))
    for number in range(rounds):
        rival = "p2" if waiting[0] == "p1" else "p1"
        outbid = (rival, story.prepare(rival))
        assert not story.propose(*waiting, wanted[waiting[0]])
        waiting = outbid
        assert story.chosen is None, f"round {number}"
    tell(f"... and so on for ever: {rounds} rounds, and nothing is chosen.")

    tell("Now p2 is elected the distinguished proposer; p1 falls silent:")
    leader = story.prepare("p2")
    story.propose("p2", leader, wanted["p2"])
    assert story.chosen is not None
    tell(f"{name_of(story.chosen)} is chosen.")

    tell("p1 comes back with a higher number and its own wish. Phase 1 tells it what it must propose (P2c):")
    story.propose("p1", story.prepare("p1"), wanted["p1"])
    tell(f"{name_of(story.chosen)} it is, and stays.")
    return name_of(story.chosen)


if __name__ == "__main__":
    duel_and_election(print)
