"""Disks that fill up: the node steps back, says so, and is there again when there is room; the others go on."""

from __future__ import annotations

from sim.stories import Stage, is_error
from sofadb.paxos.messages import Accepted
from sofadb.sim.disk import SimulatedDisk
from sofadb.storage.journal import Journal
from sofadb.storage.writer import PREPARE_AGAIN_S

SMALL_SEGMENT_BYTES = 16 << 10


def journal_of(stage: Stage, node: str) -> Journal:
    running = stage.machine(node).running
    assert running is not None
    return running.world.journal


def fill(stage: Stage, node: str) -> None:
    """No more room on that disk, and the log has noticed."""
    stage.disk(node).is_full = True
    talk = stage.connect(stage.others(node)[0])
    number = 0
    while not journal_of(stage, node).is_short_of_space:
        number += 1
        assert talk.ask("SET", "filler", f"{'x' * 200}{number}") == "OK"
        assert number < 500
    talk.leave()


def told(stage: Stage, node: str) -> str:
    return " ".join(stage.ask(node, "SOFA.EXPLAIN"))


def test_a_follower_whose_disk_is_full_takes_no_writes_and_comes_back_by_itself() -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        node, other = stage.others(stage.leader)
        assert stage.ask(node, "SET", "a", 1) == "OK"
        fill(stage, node)
        stage.pass_time(1)
        assert stage.insist(other, "SET", "b", 2) == "OK", "the others go on"
        refusal = stage.ask(node, "SET", "c", 3)
        assert is_error(refusal, "NOREPLICAS This node's disk is full")
        talk = stage.connect(node)
        assert talk.ask("READONLY") == "OK"
        assert talk.ask("GET", "a") == "1", "what it has it still gives"
        assert "until there is room on its disk again" in told(stage, node)
        assert "disk_full:1" in stage.ask(node, "INFO", "persistence")
        blocks = journal_of(stage, node).blocks
        others = stage.connect(other)
        for number in range(300):
            assert others.ask("SET", "b", number) == "OK"
        assert journal_of(stage, node).blocks <= blocks + 5, "its log is kept for what must be written"
        lives = stage.machine(node).lives
        stage.disk(node).is_full = False
        stage.pass_time(PREPARE_AGAIN_S + 2)
        assert stage.ask(node, "SET", "c", 4) == "OK"
        assert stage.ask(node, "MGET", "a", "b", "c") == ["1", "299", "4"]
        assert "disk is full" not in told(stage, node)
        assert stage.machine(node).lives == lives, "without a restart"
        stage.kill(other)
        assert stage.insist(node, "SET", "d", 5) == "OK", "it votes again"


def test_a_leader_whose_disk_is_full_lets_somebody_lead_who_has_room() -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        leader = stage.leader
        fill(stage, leader)
        stage.until(lambda: stage.leader not in ("", leader))
        stage.until_settled()
        other = stage.leader
        assert stage.insist(other, "SET", "a", 1) == "OK"
        assert stage.insist(stage.others(leader, other)[0], "GET", "a") == "1"
        stage.disk(leader).is_full = False
        stage.pass_time(PREPARE_AGAIN_S + 2)
        assert stage.ask(leader, "GET", "a") == "1"
        assert stage.ask(leader, "SET", "a", 2) == "OK"


def test_with_two_of_three_full_writes_are_refused_and_nothing_is_lost() -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        last, *full = stage.names
        assert stage.insist(last, "SET", "a", 1) == "OK"
        for node in full:
            stage.disk(node).is_full = True
        number = 0
        while not all(journal_of(stage, node).is_short_of_space for node in full):
            number += 1
            stage.ask(last, "SET", "filler", f"{'x' * 200}{number}")
            assert number < 500
        assert is_error(stage.ask(last, "SET", "b", 1))
        stage.pass_time(60)
        assert all(stage.machine(node).is_up for node in stage.names), "a promise finds room all the time"
        for node in full:
            stage.disk(node).is_full = False
        stage.pass_time(PREPARE_AGAIN_S + 2)
        assert stage.insist(last, "SET", "b", 2) == "OK"
        for node in stage.names:
            assert stage.insist(node, "MGET", "a", "b") == ["1", "2"]
        stage.assert_one_state()


def test_what_a_node_accepted_before_its_disk_was_full_it_still_reports() -> None:
    """It is short of room when the leader dies: its promise is written, for which there is the reserve."""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        leader = stage.leader
        node, other = stage.others(leader)
        assert stage.ask(leader, "SET", "a", 1) == "OK"
        fill(stage, node)
        said: list[object] = []

        def listen(sender: str, receiver: str, message: object) -> None:
            if sender == node and isinstance(message, Accepted):
                said.append(message)

        stage.tampering.append(listen)
        stage.kill(leader)
        stage.pass_time(5)
        assert not said, "and it accepts nothing"
        stage.start(leader)
        assert stage.insist(other, "GET", "a") == "1"
        assert stage.insist(other, "SET", "a", 2) == "OK"


def test_a_peer_that_was_restarted_is_met_when_there_is_room_to_note_it() -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        node, other = stage.others(stage.leader)
        stage.disk(node).is_full = True
        stage.kill(other)
        stage.start(other)
        stage.pass_time(10)
        assert stage.machine(node).is_up
        assert not stage.have_met(node, other)
        stage.disk(node).is_full = False
        stage.until(lambda: stage.have_met(*stage.names))


def test_a_snapshot_is_tried_while_there_is_no_room_though_it_is_not_time_for_one() -> None:
    """The log may be cut behind it."""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        node = stage.others(stage.leader)[0]

        def snapshots(disk: SimulatedDisk) -> list[str]:
            return [name for name in disk.names() if name.startswith("snapshot-")]

        fill(stage, node)
        stage.until(lambda: "rdb_last_bgsave_status:err" in stage.ask(node, "INFO", "persistence"))
        stage.disk(node).is_full = False
        stage.pass_time(PREPARE_AGAIN_S + 2)
        assert stage.insist(node, "SET", "a", 1) == "OK"
        assert not snapshots(stage.disk(node)), "now it is not needed any more"
