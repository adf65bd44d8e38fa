"""Archives: files that prove themselves, and any point in time from them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from node.directories import CLUSTER, state_after, value, write_snapshot
from sofadb.node import archive
from sofadb.node.archive import (
    BadStretch,
    DirectoryPlace,
    Place,
    RemotePlace,
    Unavailable,
    decode_stretch,
    encode_stretch,
    place_of,
    read_stretch,
    stretch_name,
)
from sofadb.node.founding import restore_point
from sofadb.node.point_in_time import Archive, Point, state_at, verify_archive
from sofadb.node.verifying import Unsound
from sofadb.sim.disk import SimulatedDisk
from sofadb.storage.files import StorageError
from sofadb.storage.identity import cluster_owner_of

OWNER = cluster_owner_of(CLUSTER)


def add_values(place: Place, first: int, last: int) -> None:
    values = [value(number) for number in range(first, last + 1)]
    place.write(stretch_name(first, last), encode_stretch(OWNER, first, values))


def add_snapshot(place: Place, instance: int, of: int = 0) -> None:
    """Perhaps with the data of a later instance in it."""
    disk = SimulatedDisk()
    database = state_after(of or instance)
    database.instance = instance
    info = write_snapshot(disk, OWNER, instance, database)
    place.write(info.name, [bytes(disk.latest[info.name].latest)])


@pytest.fixture
def place(tmp_path: Path) -> DirectoryPlace:
    """Snapshots of 3 and 8, values up to 12."""
    place = DirectoryPlace(tmp_path / "archive" / CLUSTER)
    for instance in (3, 8):
        add_snapshot(place, instance)
    for first, last in ((4, 6), (5, 7), (8, 10), (11, 12)):
        add_values(place, first, last)
    return place


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def digest_at(place: Place, scratch: Path, point: Point) -> bytes:
    state = state_at(Archive(place, CLUSTER, scratch), point).node.database
    assert os.listdir(scratch) == []
    return state.digest()


@pytest.mark.parametrize("instance", [3, 4, 6, 7, 8, 9, 12])
def test_the_state_after_any_archived_instance_is_had_again(
    place: Place, scratch: Path, instance: int
) -> None:
    assert digest_at(place, scratch, Point(instance)) == state_after(instance).digest()


@pytest.mark.parametrize(("time", "instance"), [(3000, 3), (6999, 6), (8000, 8), (12_000, 12), (99_000, 12)])
def test_the_state_at_a_time_is_that_after_the_last_instance_until_then(
    place: Place, scratch: Path, time: int, instance: int
) -> None:
    assert digest_at(place, scratch, Point(time=time)) == state_after(instance).digest()


def test_without_a_point_everything_is_had(place: Place, scratch: Path) -> None:
    assert digest_at(place, scratch, Point()) == state_after(12).digest()


@pytest.mark.parametrize(
    ("point", "words"),
    [
        (Point(2), "there is none from before that point"),
        (Point(time=2999), "there is none from before that point"),
        (Point(13), "instance 13 is not in the archive: .* --to-instance 12"),
    ],
)
def test_a_point_beyond_the_archive_is_told(place: Place, scratch: Path, point: Point, words: str) -> None:
    with pytest.raises(Unsound, match=words):
        digest_at(place, scratch, point)


def test_a_gap_is_told_and_a_snapshot_behind_it_is_gone_on_from(place: DirectoryPlace, scratch: Path) -> None:
    (place.path / stretch_name(5, 7)).unlink()
    assert digest_at(place, scratch, Point(9)) == state_after(9).digest()
    for point in (Point(7), Point(time=7500)):
        with pytest.raises(Unsound, match=r"instance 7 is not in the archive: .* --to-instance 6"):
            digest_at(place, scratch, point)
    (damage,) = verify_archive(Archive(place, CLUSTER, scratch)).damages
    assert "instances 7 to 8 are missing; snapshot-0000000000000008.sofa has what they led to" in damage


def test_a_damaged_snapshot_is_gone_around(place: DirectoryPlace, scratch: Path) -> None:
    path = place.path / "snapshot-0000000000000008.sofa"
    data = bytearray(path.read_bytes())
    data[4300] ^= 1
    path.write_bytes(data)
    assert digest_at(place, scratch, Point(9)) == state_after(9).digest()
    (damage,) = verify_archive(Archive(place, CLUSTER, scratch)).damages
    assert "snapshot-0000000000000008.sofa is damaged at offset" in damage
    (place.path / "snapshot-0000000000000003.sofa").unlink()
    with pytest.raises(Unsound, match=r"no snapshot .* is damaged at offset"):
        digest_at(place, scratch, Point(9))


def test_a_whole_archive_is_sound_and_a_snapshot_of_another_state_is_not(place: Place, scratch: Path) -> None:
    findings = verify_archive(Archive(place, CLUSTER, scratch))
    assert findings.damages == []
    assert "everything up to instance 12 can be gone back to" in findings.facts[-1]
    add_snapshot(place, 8, of=7)
    (damage,) = verify_archive(Archive(place, CLUSTER, scratch)).damages
    assert "snapshot-0000000000000008.sofa: the values before it lead to another state" in damage


def test_a_missing_end_is_named(place: DirectoryPlace, scratch: Path) -> None:
    (place.path / stretch_name(8, 10)).unlink()
    first, second = verify_archive(Archive(place, CLUSTER, scratch)).damages
    assert "instances 8 to 8 are missing" in first
    assert second == "instance 9 is missing, though there is more behind it"


def test_an_archive_is_found_by_its_place_or_its_folder(place: DirectoryPlace, scratch: Path) -> None:
    outer = str(place.path.parent)
    assert Archive.at(outer, scratch).cluster == CLUSTER
    assert Archive.at(str(place.path), scratch).cluster == CLUSTER
    add_snapshot(place_of(outer).folder("1" * 16), 1)
    with pytest.raises(StorageError, match="those of 2 clusters: say"):
        Archive.at(outer, scratch)
    with pytest.raises(StorageError, match="no archive at"):
        Archive.at(str(scratch), scratch)


def test_a_point_is_restored_as_a_new_cluster(place: DirectoryPlace, tmp_path: Path) -> None:
    url = str(place.path.parent)
    founded = [
        restore_point(url, Point(instance), tmp_path / f"m{number}", "m1", {"m1": "h:1"})
        for number, instance in enumerate((9, 9, 10))
    ]
    assert [each.contents.info.instance for each in founded] == [9, 9, 10]
    assert founded[0].cluster == founded[1].cluster
    assert len({CLUSTER, founded[0].cluster, founded[2].cluster}) == 3


def test_no_bit_of_a_stretch_can_flip_unnoticed() -> None:
    data = b"".join(encode_stretch(OWNER, 4, [value(4), value(5)]))
    assert decode_stretch(data, OWNER, 4, 5, "x") == [value(4), value(5)]
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadStretch):
            decode_stretch(bytes(damaged), OWNER, 4, 5, "x")
    for size in range(len(data)):
        with pytest.raises(BadStretch):
            decode_stretch(data[:size], OWNER, 4, 5, "x")


def test_a_stretch_under_another_name_or_of_another_cluster_is_none() -> None:
    data = b"".join(encode_stretch(OWNER, 4, [value(4), value(5)]))
    for owner, first, last in ((OWNER + 1, 4, 5), (OWNER, 5, 6), (OWNER, 4, 6)):
        with pytest.raises(BadStretch, match="of another cluster, or of other instances"):
            decode_stretch(data, owner, first, last, "x")


def test_a_stretch_that_is_absurdly_large_is_not_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "STRETCH_BYTES_MAX", 100)
    with pytest.raises(BadStretch, match="too large"):
        read_stretch(place, OWNER, 4, 6, stretch_name(4, 6))


def places(tmp_path: Path) -> list[Place]:
    return [place_of(str(tmp_path / "there")), place_of(f"memory://{tmp_path.name}")]


def test_files_are_in_a_place_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    def breaks() -> list[bytes]:
        yield b"half"
        raise Unavailable("given up")

    assert isinstance(places(tmp_path)[1], RemotePlace)
    for place in places(tmp_path):
        folder = place.folder("f")
        assert folder.names() == []
        folder.write("a", [b"one", b"two"])
        assert b"".join(folder.read("a")) == b"onetwo"
        with pytest.raises(Unavailable, match="given up"):
            folder.write("b", breaks())
        assert "b" not in folder.names()
        assert place.names() == ["f"]
        with pytest.raises(Unavailable, match="f/c"):
            list(folder.read("c"))


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nowhere"):
        place_of("nowhere://bucket")
    (tmp_path / "file").touch()
    blocked = DirectoryPlace(tmp_path / "file")
    with pytest.raises(Unavailable):
        blocked.write("a", [])
    with pytest.raises(Unavailable):
        blocked.names()
