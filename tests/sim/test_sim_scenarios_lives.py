"""Disks that lack what was promised on them: emptied ones, and older copies (rule P10).

Their nodes set them aside and come back as other acceptors, when those who are left have a quorum; and not before. (The watch
sees to it that nobody ever listens to a life that was begun on such a disk.)
"""

from __future__ import annotations

from itertools import count

import pytest

from sim.stories import Stage, is_error
from sofadb.node.live import RunningNode
from sofadb.paxos import Configuration
from sofadb.sim.disk import SimulatedDisk
from sofadb.sim.invariants import Violation


def copy_before_a_new_life(stage: Stage, node: str) -> SimulatedDisk:
    """The node is restarted; returns what its disk held before."""
    stage.kill(node)
    copy = stage.disk(node).copy()
    stage.start(node)
    return copy


def running(stage: Stage, node: str) -> RunningNode:
    found = stage.machine(node).running
    assert found is not None
    return found


@pytest.mark.parametrize("how", ["emptied", "an older copy"])
def test_a_value_accepted_by_two_of_which_one_forgets_is_not_replaced_by_the_third_with_the_forgetful(
    how: str,
) -> None:
    """`a` and `c` accept a value, `c` loses it, `a` is out of reach, and `b`, who never saw it, wants to lead with `c`."""
    with Stage() as stage:
        a = stage.leader
        b, c = stage.others(a)
        lost = copy_before_a_new_life(stage, c) if how == "an older copy" else SimulatedDisk()
        stage.until(lambda: stage.have_met(a, b, c))
        stage.cut_between([a, c], [b])
        assert stage.ask(a, "SET", "x", 1) == "OK"
        stage.kill(c)
        stage.cut_between([a], [b, c])
        stage.cluster.heal(b, c)
        stage.cluster.heal(c, b)
        elected = stage.cluster.watch.leaders_seen
        stage.start_forgetful(c, lost)
        stage.until_begun_anew(c)
        stage.pass_time(2.0)
        assert is_error(stage.ask(b, "SET", "x", 2), "NOREPLICAS")
        stage.kill(c)
        stage.start(c)  # Started once more, it knows no more.
        stage.pass_time(5.0)
        assert is_error(stage.ask(b, "SET", "x", 2), "NOREPLICAS")
        assert stage.cluster.watch.leaders_seen == elected
        stage.cluster.heal_all()
        assert stage.insist(b, "GET", "x") == "1"
        assert stage.insist(b, "SET", "x", 3) == "OK"
        stage.until_it_votes(c)
        assert stage.insist(c, "GET", "x") == "3"


def restore_where_nobody_knows(stage: Stage, is_asked: bool) -> tuple[str, str, str]:
    """`c` gets an older copy of its disk back, and only `a`, who is out of reach, has met it since."""
    a = stage.leader
    b, c = stage.others(a)
    stage.cut_between([b], [c])
    copy = copy_before_a_new_life(stage, c)
    stage.until(lambda: stage.have_met(a, c))
    if is_asked:
        stage.cut_between([b], [a])
        assert stage.ask(a, "SET", "x", 1) == "OK"
    stage.kill(c)
    stage.cut_between([a], [b, c])
    stage.cluster.heal(b, c)
    stage.cluster.heal(c, b)
    if is_asked:
        stage.start_forgetful(c, copy)
    else:
        stage.cluster.replace_disk(c, copy)
        stage.cluster.start(c)
    return a, b, c


def test_an_older_copy_is_not_noticed_where_nobody_has_met_the_later_life_and_is_set_aside_when_somebody_comes() -> (
    None
):
    """The limit of rule P10. (Here the later life had accepted nothing, so nothing is lost by it.)"""
    with Stage() as stage:
        a, b, c = restore_where_nobody_knows(stage, is_asked=False)
        assert stage.insist(b, "SET", "x", 2) == "OK"
        stage.pass_time(5.0)
        assert stage.machine(c).is_up, "nobody here can know"
        stage.cluster.heal_all()
        stage.until_begun_anew(c)
        stage.until_it_votes(c)
        assert stage.insist(a, "GET", "x") == "2"
        stage.assert_one_state()


def lose_what_a_later_life_accepted() -> None:
    with Stage() as stage:
        _, b, _ = restore_where_nobody_knows(stage, is_asked=True)
        stage.insist(b, "SET", "x", 2)


def test_what_a_later_life_accepted_is_lost_where_nobody_has_met_it() -> None:
    """The same limit, and what it costs: somebody listens to a forgetful node, as only the laboratory can see."""
    with pytest.raises(Violation, match="the_forgetful_take_no_part"):
        lose_what_a_later_life_accepted()


def test_one_wiped_while_another_is_down_is_no_quorum_with_the_third() -> None:
    with Stage() as stage:
        leader = stage.leader
        down, wiped = stage.others(leader)
        assert stage.ask(leader, "SET", "x", 1) == "OK"
        stage.kill(down)
        stage.kill(wiped)
        stage.start_forgetful(wiped, SimulatedDisk())
        stage.until_begun_anew(wiped)
        stage.pass_time(5.0)
        assert is_error(stage.ask(leader, "SET", "x", 2), "NOREPLICAS")
        stage.start(down)
        assert stage.insist(down, "GET", "x") == "1"
        assert stage.insist(leader, "SET", "x", 3) == "OK"
        stage.until_it_votes(wiped)
        stage.kill(down)
        assert stage.insist(wiped, "SET", "x", 4) == "OK", "now it counts"


def test_all_that_are_wiped_one_after_the_other_come_back() -> None:
    """The last one expects the first directories of the others, and none of them is there any more."""
    with Stage() as stage:
        leader = stage.leader
        for name in (*stage.others(leader), leader):
            assert stage.insist(name, "SET", name, 1) == "OK"
            stage.kill(name)
            stage.start_forgetful(name, SimulatedDisk())
            stage.until_begun_anew(name)
            stage.until_it_votes(name)
        for name in stage.running:
            assert stage.insist(name, "MGET", "n1", "n2", "n3") == ["1", "1", "1"]


def test_one_wiped_whom_nobody_has_met_since_all_others_were_wiped_comes_back() -> None:
    with Stage(nodes=5) as stage:
        leader = stage.leader
        away, *others = stage.others(leader)
        stage.kill(away)
        for name in (*others, leader):
            assert stage.insist(name, "SET", name, 1) == "OK"
            stage.kill(name)
            stage.start_forgetful(name, SimulatedDisk())
            stage.until_begun_anew(name)
            stage.until_it_votes(name)
        stage.start_forgetful(away, SimulatedDisk())
        stage.until_begun_anew(away)
        stage.until_it_votes(away)
        assert stage.insist(away, "MGET", *others) == ["1", "1", "1"]


def test_of_two_wiped_of_three_neither_takes_part_and_the_third_keeps_what_it_has() -> None:
    with Stage() as stage:
        leader = stage.leader
        wiped = stage.others(leader)
        assert stage.ask(leader, "SET", "x", 1) == "OK"
        for name in wiped:
            stage.kill(name)
        for name in wiped:
            stage.start_forgetful(name, SimulatedDisk())
        for name in wiped:
            stage.until_begun_anew(name)
        stage.pass_time(20.0)
        assert is_error(stage.ask(leader, "GET", "x"), "NOREPLICAS")
        for name in wiped:
            assert stage.node(name).applied == 0
            assert is_error(stage.ask(name, "SET", "x", 2), "NOREPLICAS")
            assert f"{name} asks to be let in" in str(stage.ask(name, "SOFA.EXPLAIN"))
        assert f"there is {leader}" in str(stage.ask(leader, "SOFA.EXPLAIN")), "and it needs two"
        talk = stage.connect(leader)
        talk.say(("READONLY",), ("GET", "x"))
        assert talk.hear() == "1"


def stop_in(stage: Stage, wiped: str, operation: int) -> bool:
    """Stop the machine in that operation of its disk, in whatever life. Returns whether its node voted again before that."""
    machine, last = stage.machine(wiped), stage.disk(wiped).operations + operation

    def is_over() -> bool:
        if machine.is_up and machine.disk.crash_at != last and machine.disk.operations < last:
            stage.crash_at(wiped, last - machine.disk.operations)
        return not machine.is_up or stage.acceptor(wiped) in latest(stage).acceptors

    stage.until(is_over)
    return machine.is_up


def latest(stage: Stage) -> Configuration:
    return running(stage, stage.leader).replica.membership.latest


@pytest.mark.parametrize("kept", ["nothing", "everything"])
def test_one_wiped_and_stopped_in_every_operation_of_its_start_is_still_no_acceptor(kept: str) -> None:
    """What it wrote in a start that came to nothing is no memory of what it had promised before."""
    for operation in count(1):
        with Stage() as stage:
            leader = stage.leader
            wiped, third = stage.others(leader)
            assert stage.ask(leader, "SET", "x", 1) == "OK"
            stage.kill(wiped)
            stage.start_forgetful(wiped, SimulatedDisk())
            is_back = stop_in(stage, wiped, operation)
            if is_back:
                break
            stage.lose_power(wiped, lambda number: kept == "everything")
            stage.kill(third)
            stage.cluster.start(wiped)
            stage.pass_time(3.0)
            assert is_error(stage.ask(leader, "SET", "x", 2), "NOREPLICAS")
            stage.start(third)
            assert stage.insist(third, "GET", "x") == "1"
            stage.until_it_votes(wiped)
    assert operation > 5


@pytest.mark.parametrize("kept", ["nothing", "everything"])
def test_a_first_start_stopped_in_every_operation_is_only_a_start_that_did_not_count(kept: str) -> None:
    """Whoever has heard of that life has heard of one that is on the disk."""
    for operation in count(1):
        with Stage(away=("n3",)) as stage:
            stage.cluster.start("n3")
            stage.crash_at("n3", operation)
            machine = stage.machine("n3")
            stage.until(lambda: not machine.is_up or stage.is_settled())  # noqa: B023 (It is called at once.)
            if machine.is_up:
                break
            stage.lose_power("n3", lambda number: kept == "everything")
            stage.start("n3")
            # It has no history: before it takes part both others must have said that they met no other disk of it.
            stage.until(lambda: running(stage, "n3").peers.is_cleared)
            stage.kill("n2")
            assert stage.insist("n3", "SET", "x", 1) == "OK"
            stage.start("n2")
            stage.assert_one_state()
    assert operation > 5


# Disks without a history: new ones, or in the place of lost ones?


def test_a_new_cluster_begins_with_two_of_three_and_the_third_comes_for_the_first_time_much_later() -> None:
    """No node waits for anything as long as that."""
    with Stage(away=("n3",)) as stage:
        assert stage.ask(stage.leader, "SET", "x", 1) == "OK"
        stage.pass_time(300.0)
        stage.start("n3")
        stage.until(lambda: running(stage, "n3").peers.is_cleared)
        stage.kill("n2")
        assert stage.insist("n3", "GET", "x") == "1"
        assert stage.insist("n3", "SET", "x", 2) == "OK"


def test_a_node_that_comes_for_the_first_time_while_another_is_away_is_not_heard_until_that_one_is_back() -> (
    None
):
    """To the one who is there it looks like one that was wiped and has met only the other."""
    with Stage(away=("n3",)) as stage:
        assert stage.ask(stage.leader, "SET", "x", 1) == "OK"
        stage.kill("n2")
        stage.cluster.start("n3")
        stage.pass_time(10.0)
        assert is_error(stage.ask("n1", "SET", "x", 2), "NOREPLICAS")
        assert is_error(stage.ask("n3", "SET", "x", 2), "NOREPLICAS")
        assert running(stage, "n3").peers.unheard == ("n2",)
        stage.start("n2")
        assert stage.insist("n3", "SET", "x", 3) == "OK"
        stage.assert_one_state()


def test_one_wiped_is_no_quorum_with_one_that_never_met_it() -> None:
    """Only the third could tell who it was. But the other has heard of the third, who has a history."""
    with Stage(away=("n1",)) as stage:
        stage.cut_between(["n1"], ["n3"])
        stage.start("n1")
        assert stage.insist("n2", "SET", "x", 1) == "OK"
        stage.pass_time(5.0)
        assert stage.cluster.applied("n1") == 0
        assert running(stage, "n1").peers.known["n3"].life is None
        stage.kill("n2")
        stage.kill("n3")
        stage.cluster.heal_all()
        for _ in range(2):  # Started once more, it knows no more.
            stage.start_forgetful(
                "n3", stage.disk("n3") if stage.machine("n3").lives > 1 else SimulatedDisk()
            )
            stage.pass_time(10.0)
            assert not running(stage, "n3").peers.is_cleared
            assert is_error(stage.ask("n1", "SET", "x", 2), "NOREPLICAS")
            stage.kill("n3")
        stage.start_forgetful("n3", stage.disk("n3"))
        stage.cluster.start("n2")
        stage.until_begun_anew("n3")
        assert stage.insist("n1", "GET", "x") == "1"
        stage.until_it_votes("n3")


def lose_one_while_another_was_never_used() -> None:
    with Stage(away=("n1",)) as stage:
        assert stage.insist("n2", "SET", "x", 1) == "OK"
        stage.kill("n2")
        stage.kill("n3")
        stage.start_forgetful("n3", SimulatedDisk())
        stage.cluster.start("n1")
        stage.insist("n1", "SET", "x", 2)


def test_one_wiped_and_one_never_used_take_each_other_for_a_new_cluster() -> None:
    """The limit: of three directories two are empty, and nothing that is left can tell."""
    with pytest.raises(Violation):
        lose_one_while_another_was_never_used()
