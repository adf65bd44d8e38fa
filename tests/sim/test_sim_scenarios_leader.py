"""Leaders that die, hang, or are heard by some only, played with whole nodes and connections as TCP makes them.

A link that is cut one way breaks the connections of both ways after a while, as in the world; until then, what is sent the
other way still arrives.
"""

from __future__ import annotations

from itertools import permutations, product

import pytest

from sim.stories import Fate, Stage, is_error
from sofadb.paxos import Message, Settings
from sofadb.paxos.messages import Accept, Chosen, Confirm

ELECTION_TIMEOUT_S = Settings().election_timeout_ms / 1000
PROGRESS_S = 10 * ELECTION_TIMEOUT_S
"""By then a cluster of which some node reaches a quorum must have found its leader."""
GIVEN_UP_S = 4.0
"""By then nothing that was sent into a cut link is sent again: the connection is given up."""
LONG_S = 30.0
BALLOTS_MAX = 6
"""More elections than this in a long time are a quarrel."""


def test_what_only_the_dead_leader_knew_to_be_chosen_is_proposed_again_and_read_by_the_first_reader() -> None:
    """It counted its own vote, answered its client, and died; of those alive one accepted the value, and none knows more."""
    with Stage() as stage:
        leader = stage.leader
        knows, other = stage.others(leader)
        assert stage.ask(leader, "SET", "x", "old") == "OK"
        stage.pass_time(0.2)
        stage.lose((Chosen, Confirm), leader)
        stage.lose(Accept, leader, other)
        assert stage.ask(leader, "SET", "x", "new") == "OK"
        assert stage.node(knows).applied == stage.node(other).applied == stage.node(leader).applied - 1
        stage.lose_power(leader)
        talks = [stage.connect(node) for node in (knows, other)]
        for talk in talks:
            talk.say(("GET", "x"))
        for talk in talks:
            assert talk.hear() == "new"
        stage.start(leader)
        stage.assert_one_state()


def lose_the_leader_with_three_in_flight(arrives: tuple[bool, ...]) -> None:
    """Of the two messages for each of three instances those arrive that should."""
    with Stage(settings=Settings(in_flight_max=3)) as stage:
        leader = stage.leader
        asked, other = stage.others(leader)
        sent: list[int] = []

        def tamper(sender: str, receiver: str, message: Message) -> Fate:
            if sender != leader or not isinstance(message, Accept) or not message.value.entries:
                return None
            sent.append(message.instance)
            return None if arrives[len(sent) - 1] else []

        talk = stage.connect(asked)
        stage.tampering.append(tamper)
        for number in (1, 2, 3):
            talk.say(("APPEND", "log", number))
            stage.until(lambda: len(sent) == 2 * number)  # noqa: B023 (It is called at once.)
        assert len(set(sent)) == 3
        stage.lose_power(leader)
        talk.hear()
        assert talk.replies == [1, 2, 3]
        assert stage.insist(other, "GET", "log") == "123"
        stage.start(leader)
        stage.assert_one_state()


def test_whatever_part_of_a_dead_leaders_pipeline_was_heard_it_is_done_once_and_in_order() -> None:
    """Three requests of a follower's client are in flight when the leader dies. All 64 subsets of the messages are played."""
    for arrives in product((True, False), repeat=6):
        lose_the_leader_with_three_in_flight(arrives)


def test_a_leader_whose_disk_hangs_loses_its_place_though_its_heartbeats_flow() -> None:
    with Stage() as stage:
        leader = stage.leader
        asked = stage.others(leader)[0]
        talk = stage.connect(asked)
        host = stage.machine(leader).host
        assert host is not None
        host.stalled_until = stage.now + LONG_S
        began = stage.now
        assert talk.ask("SET", "x", 1) == "OK"
        stage.until(lambda: stage.leader not in ("", leader))
        assert stage.now - began < PROGRESS_S
        assert talk.ask("SET", "x", 2) == "OK"
        stage.pass_time(LONG_S)
        assert stage.insist(leader, "GET", "x") == "2"
        assert stage.cluster.watch.leaders_seen <= BALLOTS_MAX
        stage.assert_one_state()


def assert_progress_through(stage: Stage, node: str) -> None:
    """A client of that node is served soon, and then for long, without a quarrel."""
    began, rounds = stage.now, stage.highest_round
    assert stage.insist(node, "SET", "x", "soon") == "OK"
    assert stage.now - began < PROGRESS_S
    talk = stage.connect(node)
    for number in range(int(LONG_S)):
        assert talk.ask("SET", "x", number) == "OK"
        stage.pass_time(1.0)
    assert stage.highest_round - rounds <= BALLOTS_MAX
    stage.cluster.heal_all()
    stage.assert_one_state()


def test_quorum_loss_all_see_only_one_and_the_leader_is_another() -> None:
    """The leader still sees the one in the middle, and so does everybody else; nobody but that one has a quorum."""
    with Stage(5) as stage:
        leader = stage.leader
        middle = stage.others(leader)[0]
        stage.leave_only(*((middle, other) for other in stage.others(middle)))
        assert_progress_through(stage, middle)


def test_constrained_election_the_only_one_with_a_quorum_has_the_shortest_log() -> None:
    with Stage(5) as stage:
        leader = stage.leader
        middle = stage.others(leader)[0]
        stage.cluster.isolate(middle)
        talk = stage.connect(leader)
        for number in range(50):
            assert talk.ask("SET", f"k{number}", number) == "OK"
        behind = stage.node(leader).applied - stage.node(middle).applied
        assert behind >= 50
        stage.pass_time(GIVEN_UP_S)
        stage.kill(leader)
        stage.leave_only(*((middle, other) for other in stage.others(middle)))
        assert_progress_through(stage, middle)
        assert stage.ask(middle, "GET", "k49") == "49"
        stage.start(leader)
        stage.assert_one_state()


@pytest.mark.parametrize("leads", ["an end", "the middle"])
def test_a_chain_of_three_goes_on_and_its_ends_do_not_take_the_lead_in_turn(leads: str) -> None:
    with Stage() as stage:
        leader = stage.leader
        others = stage.others(leader)
        first, middle, last = (leader, *others) if leads == "an end" else (others[0], leader, others[1])
        stage.leave_only((first, middle), (middle, last))
        began = stage.highest_round
        assert_progress_through(stage, middle)
        assert stage.leader == leader
        assert stage.highest_round == began


@pytest.mark.parametrize("nodes", [3, 5])
def test_a_leader_that_hears_nobody_steps_down_though_everybody_hears_it(nodes: int) -> None:
    """Long before its connections are given up: its word arrives all the time."""
    with Stage(nodes) as stage:
        leader = stage.leader
        others = stage.others(leader)
        for other in others:
            stage.cluster.cut(other, leader)
        began = stage.now
        stage.until(lambda: not stage.machine(leader).is_leading)
        assert stage.now - began < 2 * ELECTION_TIMEOUT_S
        assert_progress_through(stage, others[0])


def test_of_all_64_ways_to_cut_the_links_of_three_those_go_on_that_leave_somebody_a_quorum_both_ways() -> (
    None
):
    """Whoever reaches all others is served. (A node that reaches only one who does not lead is not: nobody forwards for two.)"""
    for cuts in product((False, True), repeat=6):
        with Stage(settings=Settings(patience_ms=1_000)) as stage:
            began = stage.highest_round
            pairs = list(permutations(stage.names, 2))
            for pair, is_cut in zip(pairs, cuts, strict=True):
                if is_cut:
                    stage.cluster.cut(*pair)
            whole = [pair for pair, is_cut in zip(pairs, cuts, strict=True) if not is_cut]
            partners = [a for a, b in whole if (b, a) in whole]
            stage.pass_time(PROGRESS_S)
            replies = {node: stage.ask(node, "SET", "x", node) for node in stage.names}
            assert all(reply == "OK" or is_error(reply) for reply in replies.values())
            assert ("OK" in replies.values()) == bool(partners), cuts
            assert all(replies[node] == "OK" for node in stage.names if partners.count(node) == 2), cuts
            assert stage.highest_round - began <= BALLOTS_MAX, cuts
