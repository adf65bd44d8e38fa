"""Backups and data directories are what they claim to be, or it is said where they are not."""

from __future__ import annotations

import pytest

from node.directories import (
    CLUSTER,
    PATH,
    chosen,
    directory,
    learned,
    log_of,
    state_after,
    value,
    write_snapshot,
)
from sofadb.database.runs import apply
from sofadb.node.verifying import Unsound, verify_backup, verify_directory
from sofadb.paxos import Instance
from sofadb.paxos.records import CutUpTo
from sofadb.sim.disk import SimulatedDisk
from sofadb.storage.files import StorageError, UntouchedFiles
from sofadb.storage.identity import cluster_owner_of
from sofadb.storage.segment import SEGMENT_HEADER_BYTES

OWNER = cluster_owner_of(CLUSTER)


def a_node_with_two_snapshots() -> SimulatedDisk:
    disk = directory("n1", log_of(9))
    for instance in (3, 6):
        write_snapshot(disk, OWNER, instance)
    return disk


def a_backup(name: str = "monday.sofadb") -> SimulatedDisk:
    disk = SimulatedDisk()
    info = write_snapshot(disk, OWNER, 5)
    disk.rename(info.name, name)
    return disk


def test_a_backup_is_sound_under_any_name_and_tells_what_it_holds() -> None:
    contents = verify_backup(a_backup(), "monday.sofadb")
    assert (contents.info.instance, contents.time, contents.keys) == (5, 5000, {0: 5})
    assert contents.info.digest == state_after(5).digest()
    assert set(contents.members) == {"n1", "n2", "n3"}


def test_no_bit_of_a_backup_can_flip_unnoticed() -> None:
    disk = a_backup()
    size = len(disk.latest["monday.sofadb"].latest)
    for offset in [*range(60), *range(60, size, 37), *range(size - 60, size)]:
        disk.flip("monday.sofadb", offset, offset % 8)
        with pytest.raises((Unsound, StorageError), match=r"monday\.sofadb"):
            verify_backup(disk, "monday.sofadb")
        disk.flip("monday.sofadb", offset, offset % 8)
    verify_backup(disk, "monday.sofadb")


def test_a_backup_that_was_cut_off_is_damaged() -> None:
    disk = a_backup()
    del disk.latest["monday.sofadb"].latest[-100:]
    with pytest.raises(Unsound, match="its end is damaged"):
        verify_backup(disk, "monday.sofadb")


def test_a_sound_directory_is_replayed_from_its_oldest_snapshot_over_the_newer_one() -> None:
    disk = a_node_with_two_snapshots()
    findings = verify_directory(disk, PATH)
    assert findings.damages == []
    text = "\n".join(findings.facts)
    assert "snapshot-0000000000000006.sofa: the log leads to the same state" in text
    assert "chosen, as known here, up to instance 9; accepted up to 9" in text


def test_a_snapshot_of_another_state_than_the_log_leads_to_is_named() -> None:
    disk = directory("n1", log_of(9))
    write_snapshot(disk, OWNER, 3)
    other = state_after(6)
    apply(other, value(1, "another").entries[0].payload)
    write_snapshot(disk, OWNER, 6, other)
    (damage,) = verify_directory(disk, PATH).damages
    assert "snapshot-0000000000000006.sofa: at instance 6 the log leads to a state of digest" in damage


def test_each_damage_is_named_with_file_and_offset_and_the_rest_is_read() -> None:
    disk = a_node_with_two_snapshots()
    disk.flip("snapshot-0000000000000006.sofa", 4300)
    segment = next(name for name in disk.names() if name.startswith("journal-"))
    disk.flip(segment, SEGMENT_HEADER_BYTES + 300)
    first, second = verify_directory(disk, PATH).damages
    assert "snapshot-0000000000000006.sofa is damaged at offset" in first
    assert f"{segment} is damaged from offset" in second
    assert "after instance" in second


def test_to_verify_a_directory_changes_nothing_in_it() -> None:
    disk = a_node_with_two_snapshots()
    before = {name: bytes(inode.latest) for name, inode in disk.latest.items()}
    operations = disk.operations
    verify_directory(disk, PATH)
    assert {name: bytes(inode.latest) for name, inode in disk.latest.items()} == before
    assert (disk.operations, disk.open_files) == (operations, 0)


def test_a_missing_beginning_of_the_log_is_a_damage() -> None:
    records = [record for record in log_of(9) if getattr(record, "instance", 9) != 2]
    disk = directory("n1", records)
    (damage,) = verify_directory(disk, PATH).damages
    assert "instances 2 to 9 are chosen, and not all of them are there" in damage


def test_what_is_no_data_directory_cannot_be_verified() -> None:
    with pytest.raises(StorageError, match="no data directory"):
        verify_directory(SimulatedDisk(), PATH)


def test_through_untouched_files_nothing_is_made() -> None:
    with pytest.raises(StorageError, match="only looked at"):
        UntouchedFiles(SimulatedDisk()).create("x")


def test_a_snapshot_that_came_from_another_node_bridges_what_the_log_never_had() -> None:
    """An older snapshot of its own is there, and between the two the log has nothing: that is no damage."""
    records = [*log_of(4), CutUpTo(Instance(8)), learned(9), chosen(9)]
    disk = directory("n1", records)
    for instance in (3, 8):
        write_snapshot(disk, OWNER, instance)
    findings = verify_directory(disk, PATH)
    assert findings.damages == []
    text = "\n".join(findings.facts)
    assert "snapshot-0000000000000008.sofa: gone on from here, since the log has not what leads to it" in text
    assert "up to instance 9" in text
