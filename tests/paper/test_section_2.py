"""*Paxos Made Simple*, section 2, sentence by sentence, on the roles that the database runs."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from sofadb.paxos import Acceptor, Answer, Ballot, Configuration, Entry, Instance, Learner, Proposer, Value
from sofadb.paxos.messages import Accept, Accepted, Prepare, Promise, Refused
from sofadb.paxos.records import Acceptance, Promised

FIRST = Instance(1)
THREE = Configuration(("a1", "a2", "a3"))


def value(name: str) -> Value:
    return Value(0, (Entry("client", 1, 1, name.encode()),))


def ballot(number: int, node: str = "p1") -> Ballot:
    return Ballot(number, node)


def acceptor() -> Acceptor:
    return Acceptor(alpha=8, report_bytes_max=10_000)


def promise(reported: tuple[tuple[Instance, Ballot, Value], ...] = (), number: int = 9) -> Promise:
    return Promise(ballot(number), FIRST, reported, None, Instance(0), 0)


def test_p1_an_acceptor_must_accept_the_first_proposal_that_it_receives() -> None:
    answer = acceptor().on_accept(Accept(ballot(1), FIRST, value("red"), Instance(0)))
    assert answer == Answer(Acceptance(FIRST, ballot(1), value("red")), Accepted(ballot(1), FIRST))


def test_different_proposals_have_different_numbers_whoever_makes_them() -> None:
    highest = Ballot(7, "p2")
    assert highest.above("p1") != highest.above("p3")
    assert highest.above("p1") > highest
    assert highest.above("p3") > highest


def test_p1a_it_accepts_a_proposal_numbered_n_unless_it_answered_a_prepare_numbered_higher() -> None:
    it = acceptor()
    assert it.on_prepare(Prepare(ballot(5), FIRST), 0) == Answer(
        Promised(ballot(5)), Promise(ballot(5), FIRST, (), None, Instance(0), 0)
    )
    assert it.on_accept(Accept(ballot(4), FIRST, value("red"), Instance(0))) == Refused(ballot(4), ballot(5))
    assert isinstance(it.on_accept(Accept(ballot(5), FIRST, value("red"), Instance(0))), Answer)


def test_it_answers_a_prepare_with_the_highest_numbered_proposal_that_it_has_accepted() -> None:
    it = acceptor()
    it.on_accept(Accept(ballot(1), FIRST, value("red"), Instance(0)))
    it.on_accept(Accept(ballot(2), FIRST, value("blue"), Instance(0)))
    answer = it.on_prepare(Prepare(ballot(3), FIRST), 0)
    assert isinstance(answer, Answer)
    assert isinstance(answer.message, Promise)
    assert answer.message.reported == ((FIRST, ballot(2), value("blue")),)


def test_an_acceptor_may_ignore_a_prepare_numbered_lower_and_says_what_to_beat() -> None:
    it = acceptor()
    it.on_prepare(Prepare(ballot(5), FIRST), 0)
    assert it.on_prepare(Prepare(ballot(4, "p2"), FIRST), 0) == Refused(ballot(4, "p2"), ballot(5))


def test_p2c_the_value_is_that_of_the_highest_numbered_proposal_among_the_responses() -> None:
    proposer = Proposer(ballot(9), FIRST)
    proposer.on_promise("a1", promise(((FIRST, ballot(7), value("late")),)))
    proposer.on_promise("a2", promise(((FIRST, ballot(3), value("early")),)))
    assert proposer.is_prepared((THREE,))
    assert proposer.value_for(FIRST, value("mine")) == value("late")


def test_p2c_or_any_value_if_the_responses_reported_no_proposals() -> None:
    proposer = Proposer(ballot(9), FIRST)
    proposer.on_promise("a1", promise())
    proposer.on_promise("a2", promise())
    assert proposer.value_for(FIRST, value("mine")) == value("mine")
    assert proposer.value_for(FIRST, value("other")) == value("mine"), "one number, one value"


def test_reports_of_different_instances_are_not_mixed() -> None:
    proposer = Proposer(ballot(9), FIRST)
    proposer.on_promise("a1", promise(((Instance(2), ballot(8), value("two")),)))
    proposer.on_promise("a2", promise(((FIRST, ballot(1), value("one")),)))
    assert proposer.value_for(FIRST, value("mine")) == value("one")
    assert proposer.value_for(Instance(2), value("mine")) == value("two")
    assert proposer.value_for(Instance(3), value("mine")) == value("mine")


def test_a_majority_is_of_acceptors_not_of_answers() -> None:
    proposer = Proposer(ballot(9), FIRST)
    for _ in range(3):
        proposer.on_promise("a1", promise())
    assert not proposer.is_prepared((THREE,))
    proposer.on_promise("stranger", promise())
    assert not proposer.is_prepared((THREE,))
    proposer.on_promise("a3", promise())
    assert proposer.is_prepared((THREE,))


def test_a_promise_for_another_number_does_not_count() -> None:
    proposer = Proposer(ballot(9), FIRST)
    proposer.on_promise("a1", promise(number=8))
    proposer.on_promise("a2", promise())
    assert proposer.promised_by == {"a2"}


def test_a_long_report_counts_only_when_it_is_complete() -> None:
    it = Acceptor(alpha=8, report_bytes_max=1)
    for number in (1, 2, 3):
        it.on_accept(Accept(ballot(1), Instance(number), value(str(number)), Instance(0)))
    proposer = Proposer(ballot(9), FIRST)
    parts = 0
    while (prepare := proposer.next_prepare("a1")) is not None:
        assert "a1" not in proposer.promised_by
        answer = it.on_prepare(prepare, 0)
        assert isinstance(answer, Answer)
        assert isinstance(answer.message, Promise)
        proposer.on_promise("a1", answer.message)
        parts += 1
    assert parts == 3
    assert [proposer.value_for(Instance(n), value("mine")) for n in (1, 2, 3)] == [value(n) for n in "123"]


def test_a_value_is_chosen_when_a_majority_has_accepted_one_proposal() -> None:
    learner = Learner()
    assert not learner.on_accepted("a1", ballot(1), FIRST, THREE)
    assert not learner.on_accepted("a1", ballot(1), FIRST, THREE), "the same acceptor twice is one acceptor"
    assert not learner.on_accepted("a2", ballot(2), FIRST, THREE), "another number is another proposal"
    assert learner.on_accepted("a3", ballot(1), FIRST, THREE)


def test_the_same_accept_request_again_is_answered_again() -> None:
    it = acceptor()
    accept = Accept(ballot(5), FIRST, value("red"), Instance(0))
    it.on_accept(accept)
    assert it.on_accept(accept) == Answer(None, Accepted(ballot(5), FIRST))


def test_another_value_under_the_same_number_is_the_end() -> None:
    it = acceptor()
    it.on_accept(Accept(ballot(5), FIRST, value("red"), Instance(0)))
    with pytest.raises(AssertionError, match="two values were proposed"):
        it.on_accept(Accept(ballot(5), FIRST, value("blue"), Instance(0)))


def test_accepting_is_promising() -> None:
    it = acceptor()
    it.on_prepare(Prepare(ballot(5), FIRST), 0)
    answer = it.on_accept(Accept(ballot(6), FIRST, value("red"), Instance(0)))
    assert isinstance(answer, Answer)
    assert isinstance(answer.record, Acceptance)
    reborn = acceptor()
    reborn.restore(answer.record)
    assert reborn.on_accept(Accept(ballot(5), Instance(2), value("blue"), Instance(0))) == Refused(
        ballot(5), ballot(6)
    )


def test_section_2_4_duelling_proposers_never_finish_until_one_is_distinguished() -> None:
    path = Path(__file__).parents[2] / "examples" / "choose_one_value.py"
    story: list[str] = []
    chosen = runpy.run_path(str(path))["duel_and_election"](story.append, rounds=1000)
    assert chosen == "blue"
    assert sum("accepted by nobody" in line for line in story) == 1000
