"""Members come, go, move and are replaced, while clients go on; and whoever lost its directory comes back by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.stories import Stage
from sofadb.database.roster import plain_name
from sofadb.paxos import Configuration, Settings
from sofadb.sim.disk import SimulatedDisk
from sofadb.storage.identity import read_identity

SMALL_SEGMENT_BYTES = 16 << 10
FROM_DISK = Settings(tail_bytes_max=2_000)
"""Hardly anything is taught from memory."""


def voters(stage: Stage) -> list[str]:
    """Who votes, as the leader knows, when that is in force."""
    replica = stage.node(stage.leader).driver.replica
    latest: Configuration = replica.membership.latest
    return sorted(map(plain_name, latest.acceptors))


def learners(stage: Stage) -> list[str]:
    latest = stage.node(stage.leader).driver.replica.membership.latest
    return sorted(map(plain_name, latest.learners))


def until_they_vote(stage: Stage, *names: str) -> None:
    stage.until(lambda: bool(stage.leader) and voters(stage) == sorted(names) and learners(stage) == [])


def add(stage: Stage, name: str, *options: str) -> None:
    """Have a new machine, and a node on it, asked for and started."""
    stage.cluster.add_machine(name, [stage.leader])
    address = stage.cluster.members[name]
    assert stage.insist(stage.leader, "SOFA.MEMBER", "ADD", name, address, *options) == "OK"
    stage.start(name)


def write(stage: Stage, node: str, count: int = 20) -> None:
    talk = stage.connect(node)
    for number in range(count):
        assert talk.ask("SET", f"k{number}", "x" * 100) == "OK"
    talk.leave()


@pytest.mark.parametrize("with_snapshots", [False, True], ids=["from the log", "from a snapshot"])
def test_a_node_that_is_added_learns_everything_and_then_votes(with_snapshots: bool) -> None:
    with Stage(settings=FROM_DISK, segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        for _ in range(3 if with_snapshots else 1):
            write(stage, stage.leader, 100)
            if with_snapshots:
                for name in stage.names:
                    assert stage.ask(name, "BGSAVE") == "Background saving started"
                stage.pass_time(1.0)
        add(stage, "n4")
        until_they_vote(stage, "n1", "n2", "n3", "n4")
        assert stage.insist("n4", "DBSIZE") == 100
        assert bool(stage.node("n4").driver.replica.cut) == with_snapshots, "what it began from"
        write(stage, "n4")
        # Of four, three are a quorum: with one of the old ones gone the new one is needed.
        stage.kill("n1" if stage.leader != "n1" else "n2")
        assert stage.insist("n4", "SET", "needed", 1) == "OK"


def test_every_member_in_turn_is_replaced_until_none_of_the_first_is_left() -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        write(stage, stage.leader, 50)
        names = ["n1", "n2", "n3"]
        for old, new in (("n1", "n4"), ("n2", "n5"), ("n3", "n6")):
            stage.cluster.add_machine(new, [name for name in names if name != old])
            address = stage.cluster.members[new]
            assert stage.insist(old, "SOFA.MEMBER", "REPLACE", old, new, address) == "OK"
            stage.start(new)
            names = sorted({*names, new} - {old})
            until_they_vote(stage, *names)
            stage.kill(old)
            write(stage, new)
        assert stage.insist("n6", "DBSIZE") == 50
        rows = stage.insist("n5", "SOFA.MEMBERS")
        assert [row[:2] for row in rows] == [["n4", "voter"], ["n5", "voter"], ["n6", "voter"]]


def test_a_second_machine_of_a_name_is_another_acceptor_in_another_life() -> None:
    """By chance alone; so what is drawn on the second machine must not be what was drawn on the first."""
    with Stage() as stage:
        add(stage, "n4")
        until_they_vote(stage, "n1", "n2", "n3", "n4")
        write(stage, stage.leader)
        first = read_identity(stage.disk("n4"), Path("/"))
        assert stage.insist("n1", "SOFA.MEMBER", "REMOVE", "n4", "FORCE") == "OK"
        until_they_vote(stage, "n1", "n2", "n3")
        stage.kill("n4")
        add(stage, "n4")
        until_they_vote(stage, "n1", "n2", "n3", "n4")
        second = read_identity(stage.disk("n4"), Path("/"))
        assert second.acceptor != first.acceptor
        assert not second.remembers(first.life.id)


def test_a_leader_that_is_to_leave_leads_until_it_has_left_and_another_one_takes_over() -> None:
    with Stage(nodes=5) as stage:
        leader = stage.leader
        write(stage, leader)
        other = stage.others(leader)[0]
        assert stage.insist(leader, "SOFA.MEMBER", "REMOVE", leader, "FORCE") == "OK"
        stage.until(lambda: stage.leader not in ("", leader))
        until_they_vote(stage, *stage.others(leader))
        write(stage, other)


def test_a_learner_does_not_vote_until_it_is_promoted() -> None:
    with Stage() as stage:
        add(stage, "n4", "LEARNER")
        stage.until(lambda: learners(stage) == ["n4"])
        write(stage, "n4")
        stage.pass_time(2.0)
        assert voters(stage) == ["n1", "n2", "n3"]
        assert stage.insist("n2", "SOFA.MEMBER", "PROMOTE", "n4") == "OK"
        until_they_vote(stage, "n1", "n2", "n3", "n4")


@pytest.mark.parametrize("with_snapshots", [False, True], ids=["from the log", "from a snapshot"])
def test_a_node_whose_directory_was_emptied_comes_back_by_itself_as_another_acceptor(
    with_snapshots: bool,
) -> None:
    with Stage(settings=FROM_DISK, segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        for _ in range(3 if with_snapshots else 1):
            write(stage, stage.leader, 100)
            if with_snapshots:
                for name in stage.names:
                    assert stage.ask(name, "BGSAVE") == "Background saving started"
                stage.pass_time(1.0)
        node = stage.others(stage.leader)[0]
        stage.until(lambda: stage.have_met(*stage.names))
        stage.kill(node)
        stage.start_forgetful(node, SimulatedDisk())
        stage.until(lambda: any(each.startswith(f"{node}~") for each in latest(stage).acceptors))
        until_they_vote(stage, *stage.names)
        assert stage.insist(node, "DBSIZE") == 100
        assert bool(stage.node(node).driver.replica.cut) == with_snapshots, "what it began from"
        stage.kill(next(name for name in stage.others(node) if name != stage.leader))
        assert stage.insist(node, "SET", "a", 1) == "OK", "its vote counts again"


def latest(stage: Stage) -> Configuration:
    return stage.node(stage.leader).driver.replica.membership.latest


def test_a_replica_that_has_diverged_takes_itself_out_and_is_rebuilt() -> None:
    """As by a memory that forgot a bit: its state is another one, and a quorum of the others agree."""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        write(stage, stage.leader)
        node = stage.others(stage.leader)[0]
        stage.pass_time(1.0)
        stage.cluster.watch.excused.add(node)
        stage.node(node).database.keyspaces[0].set(b"k1", b"something else")
        write(stage, stage.leader)
        stage.until(lambda: any(each.startswith(f"{node}~") for each in latest(stage).acceptors))
        until_they_vote(stage, *stage.names)
        assert stage.insist(node, "GET", "k1") == "x" * 100
        assert [name for name in stage.disk(node).names() if name.endswith(".lost")], "what it had is kept"


def test_a_copy_from_within_one_run_that_is_put_back_is_found_out_by_who_was_told_more() -> None:
    """Its lives are all there; but it knows nothing of what it has told since the copy was taken."""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        write(stage, stage.leader)
        node = stage.others(stage.leader)[0]
        stage.pass_time(0.5)
        copy = stage.disk(node).killed()
        write(stage, stage.leader)
        stage.kill(node)
        stage.start_forgetful(node, copy)
        stage.until(lambda: any(each.startswith(f"{node}~") for each in latest(stage).acceptors))
        until_they_vote(stage, *stage.names)


def test_a_restart_is_not_taken_for_a_loss() -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        for name in stage.names * 2:
            write(stage, stage.leader)
            stage.kill(name)
            stage.cluster.start(name)
            stage.until_settled()
        stage.pass_time(2.0)
        assert latest(stage).acceptors == tuple(stage.names)


def test_who_only_asks_the_way_has_not_arrived_yet() -> None:
    """A newcomer asks who the members are before it has a directory, and an address to be reached at."""
    with Stage() as stage:
        add(stage, "n4")
        roster = stage.node(stage.leader).database.shared.roster
        stage.until(lambda: bool(roster.members["n4"].acceptor))
        assert roster.members["n4"].peer_address == stage.cluster.members["n4"]
        until_they_vote(stage, "n1", "n2", "n3", "n4")


def let_a_newcomer_lead(stage: Stage) -> None:
    add(stage, "n4")
    stage.until_it_votes("n4")
    stage.pass_time(1.0)
    stage.node(stage.leader).hand_over(stage.acceptor("n4"), 1_000)
    stage.until(lambda: stage.leader == "n4")


def test_a_member_that_was_away_when_its_leader_joined_finds_out_from_the_others() -> None:
    """It takes the leader for a stranger, and nobody tells it anything of his own accord."""
    with Stage() as stage:
        write(stage, stage.leader)
        away = stage.others(stage.leader)[0]
        stage.kill(away)
        let_a_newcomer_lead(stage)
        stage.start(away)
        stage.until(lambda: stage.node(away).driver.replica.leader == stage.acceptor("n4"))
        assert stage.insist(away, "DBSIZE") == 20


def test_one_that_wants_to_be_let_in_finds_a_leader_that_came_after_it_had_asked_the_way() -> None:
    """Only a leader gives the place of a directory that was lost to another, and this one it has not been told of."""
    with Stage() as stage:
        write(stage, stage.leader)
        wiped, third = stage.others(stage.leader)
        stage.until(lambda: stage.have_met(*stage.names))
        stage.kill(wiped)
        stage.kill(third)
        stage.start_forgetful(wiped, SimulatedDisk())
        stage.until_begun_anew(wiped)
        stage.kill(wiped)
        stage.start(third)
        stage.until_settled()
        let_a_newcomer_lead(stage)
        stage.start(wiped)
        stage.until_it_votes(wiped)
