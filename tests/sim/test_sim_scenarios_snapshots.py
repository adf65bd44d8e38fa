"""Snapshots on whole nodes: what a node begins from, what it gives up, and that it says so when it cannot go on."""

from __future__ import annotations

import pytest

from sim.stories import Stage, is_error
from sofadb.node import snapshots as module
from sofadb.node import transfer
from sofadb.node.live import RunningNode
from sofadb.paxos import Settings
from sofadb.sim.disk import SimulatedDisk

SMALL_SEGMENT_BYTES = 16 << 10
VALUE = "x" * 200


def snapshots_of(disk: SimulatedDisk) -> list[str]:
    return [name for name in disk.names() if name.startswith("snapshot-")]


def running_of(stage: Stage, node: str) -> RunningNode:
    running = stage.machine(node).running
    assert running is not None
    return running


def take_snapshot(stage: Stage, node: str) -> None:
    """One more is there, and the log is cut behind the one before it."""
    before = snapshots_of(stage.disk(node))
    assert stage.ask(node, "BGSAVE") == "Background saving started"
    stage.until(lambda: snapshots_of(stage.disk(node)) not in ([], before))
    stage.pass_time(0.2)


def write(stage: Stage, first: int, last: int) -> None:
    talk = stage.connect(stage.leader)
    for number in range(first, last):
        assert talk.ask("SET", f"k{number}", VALUE) == "OK"
    talk.leave()


def read_all(stage: Stage, node: str, count: int) -> None:
    assert stage.insist(node, "DBSIZE") == count
    assert stage.insist(node, "GET", f"k{count - 1}") == VALUE


def rot(disk: SimulatedDisk, name: str) -> None:
    disk.flip(name, len(disk.latest[name].latest) // 2)


def test_a_node_begins_from_its_newest_snapshot_and_its_log_is_cut_behind_the_one_before() -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        node = stage.others(stage.leader)[0]
        for number in range(4):
            write(stage, 60 * number, 60 * number + 60)
            take_snapshot(stage, node)
        journal = [name for name in stage.disk(node).names() if name.startswith("journal-")]
        assert len(snapshots_of(stage.disk(node))) == 2
        assert "journal-0000000000000001.seg" not in journal, "the beginning was given up"
        write(stage, 240, 250)
        stage.kill(node)
        stage.start(node)
        read_all(stage, node, 250)
        assert stage.node(node).driver.replica.cut > 60


def test_the_disk_holds_no_more_however_much_is_written() -> None:
    """The log is cut and its files are used again: over and over the same keys, the same room."""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        node = stage.others(stage.leader)[0]
        sizes = []
        for _ in range(8):
            write(stage, 0, 60)
            take_snapshot(stage, node)
            sizes.append(sum(len(inode.latest) for inode in stage.disk(node).latest.values()))
        assert max(sizes[4:]) <= max(sizes[:4])


def test_when_the_newest_snapshot_is_rotten_the_one_before_and_the_log_make_up_for_it() -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        node = stage.others(stage.leader)[0]
        for number in range(3):
            write(stage, 60 * number, 60 * number + 60)
            take_snapshot(stage, node)
        stage.kill(node)
        disk = stage.disk(node)
        rot(disk, snapshots_of(disk)[-1])
        stage.start(node)
        assert len([name for name in disk.names() if name.startswith("damaged-")]) == 1
        read_all(stage, node, 180)


def test_a_command_sent_again_to_a_node_that_began_from_a_snapshot_is_still_known() -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        assert stage.ask(stage.leader, "SOFA.ONCE", "id", "INCR", "n") == 1
        write(stage, 0, 60)
        for node in stage.names:
            take_snapshot(stage, node)
        write(stage, 60, 120)
        for node in stage.names:
            take_snapshot(stage, node)
        for node in stage.names:
            stage.kill(node)
        for node in stage.names:
            stage.cluster.start(node)
        stage.until_settled()
        for node in stage.names:
            assert stage.insist(node, "SOFA.ONCE", "id", "INCR", "n") == 1
        assert stage.insist(stage.leader, "GET", "n") == "1"


def test_a_snapshot_is_taken_while_clients_write_and_holds_one_instant() -> None:
    """What is written meanwhile is not in it, and is not lost. (The watch compares the state it leads to with the others'.)"""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        write(stage, 0, 200)
        node = stage.leader
        assert stage.ask(node, "BGSAVE") == "Background saving started"
        assert is_error(stage.ask(node, "BGSAVE"), "ERR Background save already in progress")
        write(stage, 100, 300)
        stage.until(lambda: bool(snapshots_of(stage.disk(node))))
        stage.kill(node)
        stage.start(node)
        read_all(stage, node, 300)


def test_a_disk_without_room_for_a_snapshot_costs_the_snapshot_and_nothing_else() -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        node = stage.leader
        write(stage, 0, 20)
        stage.disk(node).is_full = True
        assert stage.ask(node, "BGSAVE") == "Background saving started"
        stage.until(lambda: "rdb_last_bgsave_status:err" in stage.ask(node, "INFO", "persistence"))
        assert snapshots_of(stage.disk(node)) == []
        assert stage.ask(node, "SET", "a", 1) == "OK"
        stage.disk(node).is_full = False
        take_snapshot(stage, node)
        assert "rdb_last_bgsave_status:ok" in stage.ask(node, "INFO", "persistence")


def test_a_fresh_snapshot_holds_what_was_acknowledged_before_though_an_older_one_is_under_way() -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        write(stage, 0, 300)
        node = stage.others(stage.leader)[0]
        assert stage.ask(node, "SOFA.SNAPSHOT") is None
        assert stage.ask(node, "BGSAVE") == "Background saving started"
        write(stage, 0, 60)
        wanted = stage.ask(node, "SOFA.SNAPSHOT", "FRESH")
        stage.until(lambda: (stage.ask(node, "SOFA.SNAPSHOT") or [0])[0] >= wanted)
        instance, salt, size, _ = stage.ask(node, "SOFA.SNAPSHOT")
        assert instance >= stage.node(node).applied - 1 >= wanted - 1
        assert is_error(stage.ask(node, "SOFA.SNAPSHOTPART", instance, "0" * 16, 0, size), "ERR")
        take_snapshot_with_news(stage, node)
        take_snapshot_with_news(stage, node)
        gone = stage.ask(node, "SOFA.SNAPSHOTPART", instance, salt, 0, size)
        assert is_error(gone, "ERR that snapshot cannot be had any more")


def take_snapshot_with_news(stage: Stage, node: str) -> None:
    assert stage.ask(stage.leader, "SET", "news", 1) == "OK"
    take_snapshot(stage, node)


def leave_behind(stage: Stage, node: str) -> None:
    """Cut `node` off until the others have given up the log that it lacks."""
    stage.cluster.isolate(node)
    for first in (100, 200, 300):
        write(stage, first, first + 100)
        for name in stage.others(node):
            take_snapshot(stage, name)
    stage.pass_time(8.0)  # What was on its way to it is given up.


def test_a_snapshot_that_was_overtaken_by_another_nodes_is_not_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was begun, the node was cut off, came back, went on from another's; and only then it is finished."""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES, settings=Settings(tail_bytes_max=2_000)) as stage:
        behind = stage.others(stage.leader)[0]
        write(stage, 0, 60)
        snapshots = running_of(stage, behind).world.snapshots
        monkeypatch.setattr(module, "PAUSE_S", 20.0)
        assert snapshots.begin()
        stage.pass_time(0.1)
        monkeypatch.setattr(module, "PAUSE_S", 0.001)
        leave_behind(stage, behind)
        stage.cluster.heal_all()
        stage.until(lambda: snapshots.newest is not None and snapshots.newest.instance > 300)
        assert snapshots.is_taking
        stage.until(lambda: not snapshots.is_taking, within_s=60)
        stage.pass_time(1.0)
        assert snapshots.newest is not None
        assert snapshots.newest.instance > 300
        read_all(stage, behind, 360)


def test_a_snapshot_arrives_as_fast_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next part is asked for as soon as the bound of bytes per second allows it."""
    monkeypatch.setattr(transfer, "PART_BYTES_MAX", 1_000)
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES, settings=Settings(tail_bytes_max=2_000)) as stage:
        behind = stage.others(stage.leader)[0]
        write(stage, 0, 60)
        leave_behind(stage, behind)
        fetcher = running_of(stage, behind).world.fetcher
        fetcher._receiver.bytes_per_s = 50_000
        stage.cluster.heal_all()
        stage.until(lambda: fetcher.progress is not None)
        assert fetcher.progress is not None
        _, offering, _ = fetcher.progress
        assert offering.size > 40_000
        began_at = stage.now
        stage.until(lambda: fetcher.progress is None)
        assert stage.now - began_at < 1.2 * offering.size / 50_000
        read_all(stage, behind, 360)
