"""New clusters from old states: who is a member is said anew, everything else stays; what survivors know together is kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from node.directories import (
    CLUSTER,
    FIRST,
    MEMBERS,
    PATH,
    accepted,
    chosen,
    directory,
    learned,
    log_of,
    state_after,
    value,
    write_log,
    write_snapshot,
)
from sofadb.node.founding import found, rebuild, recover, restore, survey, survey_directories
from sofadb.node.reading_back import read_back
from sofadb.node.snapshots import load
from sofadb.node.verifying import Unsound, verify_directory
from sofadb.paxos import Ballot, Configuration, Instance, NodeId, Value
from sofadb.paxos.records import Acceptance, Promised
from sofadb.sim.disk import Crash, SimulatedDisk
from sofadb.storage.files import DiskFiles, NoSpace, StorageError
from sofadb.storage.identity import begin_life, cluster_owner_of, read_identity, write_identity
from sofadb.storage.snapshot import Snapshots

SECOND = Ballot(2, NodeId("n2"))
ALONE = {"m1": "h9:17009"}


def founded_on(disk: SimulatedDisk, members: dict[str, str] = ALONE) -> None:
    database = state_after(5)
    database.shared.locks.last_token = 41
    found(disk, database, database.time, "fedcba9876543210", min(members), members)


# Restore


def test_a_restored_state_is_the_old_one_but_for_who_is_a_member() -> None:
    disk = SimulatedDisk()
    founded_on(disk, {"m1": "h9:1", "m2": "h9:2"})
    identity = read_identity(disk, PATH)
    assert (identity.cluster, identity.node, identity.starts) == ("fedcba9876543210", "m1", 0)
    store = Snapshots(disk, identity.cluster_owner)
    (info,) = store.found()
    foundation, database = load(store.open(info.name))
    assert foundation.instance == database.instance == 5
    assert foundation.configurations == ((5, Configuration(("m1", "m2"))),)
    assert foundation.sessions == ()
    old = state_after(5)
    assert database.shared.roster.voters == {"m1", "m2"}
    assert {
        each.name: each.peer_address for each in database.shared.roster.members.values()
    } == identity.members
    assert (database.time, database.rolling) == (old.time, old.rolling)
    assert database.shared.locks.last_token == 41
    assert database.keyspaces[0].values == old.keyspaces[0].values
    assert verify_directory(disk, PATH).damages == []


def test_a_restore_that_was_stopped_anywhere_leaves_nothing_that_a_node_begins_with() -> None:
    whole = SimulatedDisk()
    founded_on(whole)
    for operation in range(1, whole.operations + 1):
        disk = SimulatedDisk()
        disk.crash_at = operation
        with pytest.raises(Crash):
            founded_on(disk)
        for keeps in (True, False):
            after = disk.survive(lambda number, keeps=keeps: keeps)
            if "identity" in after.names():
                assert verify_directory(after, PATH).damages == []
            elif after.names():
                with pytest.raises(StorageError, match=r"restore was not finished|is new"):
                    begin_life(after, PATH, "m1", None)


def test_a_disk_without_room_is_left_as_it_was() -> None:
    disk = SimulatedDisk()
    disk.fail_next["write"] = 28
    with pytest.raises(NoSpace):
        founded_on(disk)
    assert disk.names() == []
    assert disk.open_files == 0


def backup_file(tmp_path: Path) -> Path:
    files = DiskFiles(tmp_path)
    info = write_snapshot(files, cluster_owner_of(CLUSTER), 5)
    return (tmp_path / info.name).rename(tmp_path / "monday.sofadb")


def test_one_backup_gives_one_cluster_to_all_its_members_and_another_one_to_others(tmp_path: Path) -> None:
    file = backup_file(tmp_path)
    three = {"m1": "h9:1", "m2": "h9:2", "m3": "h9:3"}
    ids = [
        restore(file, tmp_path / f"d{number}", node, members, attempt).cluster
        for number, (node, members, attempt) in enumerate(
            [("m1", three, 1), ("m2", three, 1), ("m1", three, 2), ("m1", ALONE, 1), ("n1", MEMBERS, 1)]
        )
    ]
    assert ids[0] == ids[1]
    assert len({CLUSTER, *ids}) == 5
    assert verify_directory(DiskFiles(tmp_path / "d1"), tmp_path / "d1").damages == []


def test_nothing_is_restored_over_something_or_from_what_is_damaged(tmp_path: Path) -> None:
    file = backup_file(tmp_path)
    with pytest.raises(StorageError, match="is not empty"):
        restore(file, tmp_path, "m1", ALONE)
    data = bytearray(file.read_bytes())
    data[4300] ^= 4
    file.write_bytes(data)
    with pytest.raises(Unsound, match=r"monday\.sofadb is damaged at offset"):
        restore(file, tmp_path / "new", "m1", ALONE)
    assert not (tmp_path / "new").exists()


# Recovery


def test_what_one_survivor_accepted_without_a_gap_is_kept() -> None:
    disk = directory("n1", [*log_of(4), accepted(5), accepted(6), accepted(8)])
    found = survey([read_back(disk, PATH)])
    assert (found.known, found.kept, found.dropped) == (4, 6, 1)
    state = rebuild(found).node.database
    assert state.digest() == state_after(6).digest()


def test_of_several_survivors_the_highest_numbered_proposal_counts_wherever_it_is() -> None:
    five = {f"n{number}": f"h{number}:1" for number in range(1, 6)}
    logs = {
        "n1": [*log_of(4), accepted(5, FIRST, "old"), accepted(6, FIRST)],
        "n2": [*log_of(3), accepted(5, SECOND, "new")],
    }
    backs = []
    for node, records in logs.items():
        disk = SimulatedDisk()
        write_log(disk, write_identity(disk, CLUSTER, node, five), records)
        backs.append(read_back(disk, PATH))
    found = survey(backs)
    assert found.best is backs[0]
    assert found.values == (value(5, "new"), value(6))


def test_what_a_survivor_learned_to_be_chosen_beyond_a_gap_counts_more_than_any_proposal() -> None:
    disk = directory("n1", [*log_of(4), accepted(5), learned(6, "chosen"), Promised(SECOND)])
    found = survey([read_back(disk, PATH)])
    assert found.values == (value(5), value(6, "chosen"))
    twice = directory("n1", [*log_of(4), accepted(5), learned(6, "chosen"), accepted(6, SECOND, "late")])
    assert survey([read_back(twice, PATH)]).values == (value(5), value(6, "chosen"))


def test_survivors_who_are_a_majority_are_told_to_start() -> None:
    backs = [read_back(directory(node, log_of(3)), PATH) for node in ("n1", "n2")]
    with pytest.raises(StorageError, match="n1, n2 are a majority of n1, n2, n3: start them"):
        survey(backs)


def test_a_change_of_members_that_is_known_counts() -> None:
    change = Value(0, (), Configuration((NodeId("n1"),)))
    records = [Acceptance(Instance(1), FIRST, change), *(accepted(n) for n in range(2, 90)), chosen(80)]
    with pytest.raises(StorageError, match="n1 are a majority of n1: start them"):
        survey([read_back(directory("n1", records), PATH)])


@pytest.mark.parametrize(("node", "cluster"), [("n1", CLUSTER), ("n2", "1" * 16)])
def test_directories_that_do_not_belong_together_are_refused(node: str, cluster: str) -> None:
    backs = [
        read_back(directory("n1", log_of(3)), PATH),
        read_back(directory(node, log_of(3), cluster), PATH),
    ]
    with pytest.raises(StorageError, match="not the directories of different nodes of one cluster"):
        survey(backs)


def test_from_a_damaged_log_nothing_is_recovered() -> None:
    disk = directory("n1", log_of(9))
    segment = next(name for name in disk.names() if name.startswith("journal-"))
    disk.flip(segment, 8300)
    with pytest.raises(StorageError, match="is damaged at offset"):
        read_back(disk, PATH)


def a_survivor(path: Path) -> Path:
    path.mkdir()
    files = DiskFiles(path)
    write_log(files, write_identity(files, CLUSTER, "n2", MEMBERS), [*log_of(4), accepted(5)])
    return path


def test_a_recovered_directory_takes_the_place_of_the_old_one_which_stays(tmp_path: Path) -> None:
    path = a_survivor(tmp_path / "n2")
    before = {each.name: each.read_bytes() for each in path.iterdir()}
    found, mine = survey_directories(path, [])
    founded, old = recover(path, mine, found)
    assert old == tmp_path / "n2.before-5"
    assert {each.name: each.read_bytes() for each in old.iterdir() if each.name != "lock"} == before
    assert founded.members == {"n2": MEMBERS["n2"]}
    assert founded.cluster != CLUSTER
    back = read_back(DiskFiles(path), path)
    assert back.identity.cluster == founded.cluster
    assert back.node.database.keyspaces[0].values == state_after(5).keyspaces[0].values
    shutil.rmtree(path)


def test_to_look_at_survivors_changes_nothing(tmp_path: Path) -> None:
    path = a_survivor(tmp_path / "n2")
    before = {each.name: each.read_bytes() for each in path.iterdir()}
    survey_directories(path, [])
    assert {each.name: each.read_bytes() for each in path.iterdir() if each.name != "lock"} == before
