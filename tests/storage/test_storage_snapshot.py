"""Snapshots on disks that crash, rot and fill up, and on their way from one node to another."""

from __future__ import annotations

import errno
import hashlib
import itertools
import random
from collections.abc import Callable
from contextlib import closing

import pytest

from sofadb.sim.disk import BLOCK, Crash, SimulatedDisk, SimulatedFile
from sofadb.storage import snapshot
from sofadb.storage.files import PAGE_BYTES, DiskFiles, Files, NoSpace, StorageError
from sofadb.storage.segment import Rot
from sofadb.storage.snapshot import (
    CHUNK_BYTES,
    SYNC_BYTES,
    TRAILER_BYTES,
    ReceivedSnapshot,
    SnapshotInfo,
    Snapshots,
    SnapshotWriter,
    snapshot_name,
)

OWNER = 0x50FA
META = b"a foundation"
SMALL_CHUNK_BYTES = 1000
SALTS = random.Random(2)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and syncs so small that a few kilobytes have many."""
    monkeypatch.setattr(snapshot, "CHUNK_BYTES", SMALL_CHUNK_BYTES)
    monkeypatch.setattr(snapshot, "SYNC_BYTES", 2 * SMALL_CHUNK_BYTES)


def pieces(instance: int, count: int = 5, size: int = 700) -> list[bytes]:
    return [bytes([instance % 256, number]) * (size // 2) for number in range(count)]


def write(
    files: Files,
    instance: int,
    given: list[bytes] | None = None,
    owner: int = OWNER,
    meta: bytes = META,
) -> SnapshotInfo:
    writer = SnapshotWriter(files, owner, instance, meta, new_salt=lambda: SALTS.getrandbits(64))
    for piece in pieces(instance) if given is None else given:
        writer.write(piece)
    return writer.finish()


def read(files: Files, name: str) -> bytes:
    with closing(Snapshots(files, OWNER).open(name)) as reader:
        assert reader.meta == META
        return b"".join(reader.pieces())


def whole(disk: SimulatedDisk) -> dict[int, bytes]:
    """What a life that begins here can use."""
    found = {}
    for info in Snapshots(disk, OWNER).found():
        assert not info.damage, info
        found[info.instance] = read(disk, info.name)
    return found


def choices(seed: int) -> list[Callable[[int], bool]]:
    chance = random.Random(seed)
    return [
        *(lambda n: False, lambda n: True, lambda n: n < 1, lambda n: n >= 1),
        *(lambda n: chance.random() < 0.5, lambda n: chance.random() < 0.5),
    ]


# Writing and reading


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7])
def test_what_was_written_in_whatever_pieces_is_read(size: int) -> None:
    data = random.Random(size).randbytes(size)
    disk = SimulatedDisk()
    for instance, step in enumerate((size + 1, 400_001), 1):
        given = [data[begin : begin + step] for begin in range(0, size, step)]
        info = write(disk, instance, given)
        assert info.name == snapshot_name(instance)
        assert info.chunks == -(-size // CHUNK_BYTES)
        assert info.data_bytes == size
        assert info.digest == hashlib.sha256(data).digest()
        assert info.size == len(disk.latest[info.name].latest)
        assert read(disk, info.name) == data
    assert [each.instance for each in Snapshots(disk, OWNER).found()] == [2, 1]
    assert Snapshots(disk, OWNER).found()[0] == info
    assert disk.open_files == 0


def test_on_a_real_disk_as_well(tmp_path: pytest.TempPathFactory) -> None:
    files = DiskFiles(tmp_path)  # type: ignore[arg-type]
    info = write(files, 7)
    assert Snapshots(files, OWNER).verify(info.name) == info
    assert files.names() == [info.name]


def test_it_is_synced_as_it_goes_so_that_little_is_left_for_the_end() -> None:
    disk = SimulatedDisk()
    write(disk, 1, [bytes(CHUNK_BYTES)] * 20)
    unsynced = most = 0
    for what, _ in disk.log or ():
        unsynced = 0 if what == "sync" else unsynced + CHUNK_BYTES * (what == "write")
        most = max(most, unsynced)
    assert SYNC_BYTES <= most <= SYNC_BYTES + CHUNK_BYTES


def test_one_that_was_aborted_leaves_nothing_behind() -> None:
    disk = SimulatedDisk()
    writer = SnapshotWriter(disk, OWNER, 1, META)
    writer.write(b"piece")
    writer.abort()
    assert disk.names() == []
    assert disk.open_files == 0


def test_what_an_earlier_life_left_unfinished_is_removed_and_what_was_arriving_is_not() -> None:
    disk = SimulatedDisk()
    SnapshotWriter(disk, OWNER, 1, META).write(b"piece")
    ReceivedSnapshot(disk, OWNER, 2, 10_000, 3).close()
    assert len(disk.names()) == 2
    Snapshots(disk, OWNER)
    assert disk.names() == [f"{snapshot_name(2)}.part"]


def test_the_latest_few_are_kept() -> None:
    disk = SimulatedDisk()
    for instance in (3, 1, 500, 20):
        write(disk, instance)
    disk.flip(snapshot_name(20), 0)
    Snapshots(disk, OWNER).keep(2)
    assert disk.names() == [snapshot_name(instance) for instance in (3, 20, 500)]
    assert sorted(disk.stable) == disk.names()


# The machine stops


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("instance", [1, 2], ids=["of the same instance", "of a later one"])
def test_wherever_the_machine_stops_the_old_one_is_there_and_the_new_one_whole_or_not_at_all(
    instance: int,
) -> None:
    old = b"".join(pieces(1))
    for crash_at in itertools.count(1):
        disk = SimulatedDisk()
        write(disk, 1)
        disk.crash_at = disk.operations + crash_at
        try:
            write(disk, instance, pieces(9))
        except Crash:
            pass
        else:
            break
        new = b"".join(pieces(9))
        for choose in choices(crash_at):
            found = whole(disk.survive(choose))
            allowed = ({1: old}, {1: new}) if instance == 1 else ({1: old}, {1: old, 2: new})
            assert found in allowed, f"after operation {crash_at}"
            # What one life has found, and may have cut its log behind, is there in the next.
            second = disk.killed()
            told = whole(second)
            assert whole(second.survive(choose)) == told
    assert crash_at > 8
    assert whole(disk.survive(lambda n: False))[instance] == b"".join(pieces(9))


@pytest.mark.usefixtures("small")
def test_whichever_operation_fails_it_is_raised_and_the_old_one_stays() -> None:
    for fail_at in itertools.count(1):
        disk = SimulatedDisk()
        write(disk, 1)
        disk.fail_at[disk.operations + fail_at] = errno.EIO
        try:
            write(disk, 2)
        except StorageError as failure:
            assert "EIO" in str(failure)  # noqa: PT017 (At some number it does not come.)
        else:
            break
        assert whole(disk.survive(lambda n: False)) == {1: b"".join(pieces(1))}
    assert fail_at > 8


def test_on_a_full_disk_it_is_given_up_and_nothing_of_it_stays() -> None:
    disk = SimulatedDisk()
    write(disk, 1)
    writer = SnapshotWriter(disk, OWNER, 2, META)
    disk.is_full = True
    with pytest.raises(NoSpace):
        writer.write(bytes(CHUNK_BYTES))
    writer.abort()
    with pytest.raises(NoSpace):
        SnapshotWriter(disk, OWNER, 3, META)
    assert disk.names() == [snapshot_name(1)]
    disk.is_full = False
    write(disk, 2)
    assert len(whole(disk)) == 2


# Rot


def is_told(disk: SimulatedDisk, name: str, data: bytes) -> bool:
    """Whether damage is found; nothing but what was written is handed out before, and never all of it."""
    snapshots = Snapshots(disk, OWNER)
    try:
        reader = snapshots.open(name)
    except Rot as rot:
        return rot.file == name
    got = 0
    with closing(reader):
        try:
            for piece in reader.pieces():
                assert data[got : got + len(piece)] == piece
                got += len(piece)
        except Rot as rot:
            return rot.file == name
    assert got == len(data)
    return False


@pytest.mark.usefixtures("small")
def test_a_bit_that_flips_anywhere_is_found_and_what_it_is_in_is_never_given_out() -> None:
    disk = SimulatedDisk()
    info = write(disk, 5)
    data = b"".join(pieces(5))
    assert not is_told(disk, info.name, data)
    for offset in range(info.size):
        if 100 < offset < PAGE_BYTES - 100 and offset % 50:
            continue
        rotten = disk.copy()
        rotten.flip(info.name, offset, offset % 8)
        assert is_told(rotten, info.name, data), f"a bit at {offset}"
    assert disk.open_files == 0


def test_a_region_that_goes_bad_is_found() -> None:
    disk = SimulatedDisk()
    data = random.Random(1).randbytes(5 * CHUNK_BYTES // 2)
    info = write(disk, 5, [data])
    for begin in range(0, info.size, 64 << 10):
        kept = bytes(disk.latest[info.name].latest[begin : begin + (64 << 10)])
        for content in (disk.latest[info.name].latest, disk.latest[info.name].stable):
            content[begin : begin + len(kept)] = bytes(len(kept))
        assert is_told(disk, info.name, data)
        for content in (disk.latest[info.name].latest, disk.latest[info.name].stable):
            content[begin : begin + len(kept)] = kept
    assert not is_told(disk, info.name, data)


@pytest.mark.usefixtures("small")
def test_one_that_was_cut_off_or_grew_is_found_by_its_size() -> None:
    disk = SimulatedDisk()
    info = write(disk, 5)
    for size in (*range(0, info.size, 97), info.size - 1, info.size + 1, info.size + 5000):
        cut = disk.copy()
        for content in (cut.latest[info.name].latest, cut.latest[info.name].stable):
            del content[size:]
            content.extend(bytes(size - len(content)))
        (found,) = Snapshots(cut, OWNER).found()
        assert found.damage
        with pytest.raises(Rot, match=f"{info.name} is damaged"):
            read(cut, info.name)
    assert disk.open_files == 0


@pytest.mark.usefixtures("small")
def test_one_that_grew_in_the_middle_or_shrinks_while_it_is_read_is_found() -> None:
    disk = SimulatedDisk()
    info = write(disk, 5)
    grown = disk.copy()
    grown.latest[info.name].latest[PAGE_BYTES:PAGE_BYTES] = b"more"
    (found,) = Snapshots(grown, OWNER).found()
    assert found.damage == f"it has {info.size + 4} bytes and should have {info.size}"
    with closing(Snapshots(disk, OWNER).open(info.name)) as reader:
        del disk.latest[info.name].latest[-100:]
        with pytest.raises(Rot, match="it ends too early"):
            list(reader.pieces())


@pytest.mark.usefixtures("small")
def test_chunks_that_changed_places_or_are_of_another_file_are_found() -> None:
    disk = SimulatedDisk()
    info, other = write(disk, 5), write(disk, 6, pieces(5))
    first = PAGE_BYTES + len(META) + 4
    one, two = (slice(first + n * 1012, first + (n + 1) * 1012) for n in (0, 1))
    swapped = disk.copy()
    content = swapped.latest[info.name].latest
    content[one], content[two] = content[two], content[one]
    assert is_told(swapped, info.name, b"".join(pieces(5)))
    disk.latest[info.name].latest[two] = disk.latest[other.name].latest[two]
    assert is_told(disk, info.name, b"".join(pieces(5)))


@pytest.mark.usefixtures("small")
def test_the_end_tells_of_the_whole() -> None:
    """Each chunk may be good and the whole wrong: two writings drew the same salt."""
    disk = SimulatedDisk()
    for instance, given in ((5, pieces(5)), (6, pieces(6))):
        writer = SnapshotWriter(disk, OWNER, instance, META, new_salt=lambda: 4711)
        for piece in given:
            writer.write(piece)
        writer.finish()
    first = PAGE_BYTES + len(META) + 4
    chunk = slice(first, first + 1012)
    disk.latest[snapshot_name(5)].latest[chunk] = disk.latest[snapshot_name(6)].latest[chunk]
    with pytest.raises(Rot, match="the end does not tell of what stands before it"):
        Snapshots(disk, OWNER).verify(snapshot_name(5))


@pytest.mark.usefixtures("small")
def test_that_of_another_cluster_under_a_wrong_name_or_of_another_format_is_not_taken() -> None:
    disk = SimulatedDisk()
    foreign = write(disk, 5, owner=OWNER + 1)
    info = write(disk, 7)
    disk.rename(info.name, snapshot_name(9))
    newest, oldest = Snapshots(disk, OWNER).found()
    assert newest.damage == "it is of instance 7, not what its name says"
    assert oldest.damage == "it is of another cluster"
    for name in (foreign.name, snapshot_name(9)):
        with pytest.raises(Rot):
            read(disk, name)
    assert disk.open_files == 0


def test_another_format_version_is_no_damage_and_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimulatedDisk()
    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "FORMAT_VERSION", 9)
        write(disk, 5)
    with pytest.raises(StorageError, match=r"snapshot-0000000000000005\.sofa has format version 9") as caught:
        Snapshots(disk, OWNER).found()
    assert not isinstance(caught.value, Rot)
    assert disk.open_files == 0


@pytest.mark.usefixtures("small")
def test_a_newest_one_that_is_rotten_steps_aside_and_the_older_one_is_good() -> None:
    disk = SimulatedDisk()
    for instance in (1, 2, 3, 4):
        write(disk, instance)
    for instance in (2, 3, 4):
        disk.flip(snapshot_name(instance), PAGE_BYTES + 100)
    snapshots = Snapshots(disk, OWNER)
    for instance in (4, 3, 2):
        newest = snapshots.found()[0]
        assert newest.instance == instance
        with pytest.raises(Rot, match=rf"{newest.name} is damaged at offset 4112: .* an older one"):
            snapshots.verify(newest.name)
        assert snapshots.quarantine(newest.name) == f"damaged-{newest.name}"
    assert [info.instance for info in snapshots.found()] == [1]
    snapshots.verify(snapshot_name(1))
    damaged = [name for name in disk.names() if name.startswith("damaged-")]
    assert damaged == [f"damaged-{snapshot_name(instance)}" for instance in (3, 4)], "no more are kept"


class DeafDisk(SimulatedDisk):
    """A disk that cannot read some file at some offset."""

    deaf_from = 1 << 40

    def open(self, name: str) -> SimulatedFile:
        disk = self

        class File(SimulatedFile):
            def read(self, size: int, offset: int) -> bytes:
                if offset + size > disk.deaf_from:
                    raise StorageError(f"cannot read {self.name}: Input/output error")
                return super().read(size, offset)

        return File(self, name, self.latest[name])


@pytest.mark.usefixtures("small")
def test_what_the_disk_cannot_read_is_damage_like_any_other() -> None:
    disk = DeafDisk()
    info = write(disk, 1)
    reader = Snapshots(disk, OWNER).open(info.name)
    disk.deaf_from = PAGE_BYTES + 2000
    with closing(reader), pytest.raises(Rot, match="Input/output error"):
        list(reader.pieces())
    (found,) = Snapshots(disk, OWNER).found()
    assert "Input/output error" in found.damage


# From one node to another


def sent(disk: SimulatedDisk, info: SnapshotInfo, offset: int, size: int) -> bytes:
    return Snapshots(disk, OWNER).read_part(info.name, offset, size)


def receiving(disk: SimulatedDisk, info: SnapshotInfo) -> ReceivedSnapshot:
    return ReceivedSnapshot(disk, OWNER, info.instance, info.size, info.salt)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("step", [1, 333, 1000, 1 << 20])
def test_what_arrives_in_parts_of_any_size_is_the_same_file(step: int) -> None:
    sender, receiver = SimulatedDisk(), SimulatedDisk()
    info = write(sender, 5, pieces(5, 3, 400) if step == 1 else None)
    received = receiving(receiver, info)
    while not received.is_whole:
        offset = received.offset
        assert received.write(offset + 1, b"not its turn") == offset
        assert received.write(offset, bytes(info.size - offset + 1)) == offset
        assert received.write(offset, sent(sender, info, offset, step)) == min(offset + step, info.size)
    assert received.write(info.size, b"more") == info.size
    assert whole(receiver) == {}
    assert received.finish() == info
    assert receiver.latest[info.name].latest == sender.latest[info.name].latest
    assert len(whole(receiver.survive(lambda n: False))) == 1
    assert receiver.open_files == 0


@pytest.mark.usefixtures("small")
def test_wherever_the_receiver_stops_it_goes_on_from_what_is_known_to_be_good() -> None:
    sender = SimulatedDisk()
    info = write(sender, 5)
    for crash_at in itertools.count(1):
        disk = SimulatedDisk()
        disk.crash_at = crash_at
        try:
            receive_all(disk, sender, info)
        except Crash:
            pass
        else:
            break
        for choose in choices(crash_at):
            for next_life in (disk.survive(choose), disk.killed()):
                if not whole(next_life):
                    receive_all(next_life, sender, info)
                assert whole(next_life.survive(lambda n: False)) == {5: b"".join(pieces(5))}
    assert crash_at > 10


def receive_all(disk: SimulatedDisk, sender: SimulatedDisk, info: SnapshotInfo) -> None:
    received = receiving(disk, info)
    while not received.is_whole:
        received.write(received.offset, sent(sender, info, received.offset, 1500))
    received.finish()


@pytest.mark.usefixtures("small")
def test_what_has_arrived_is_not_sent_again_after_a_restart() -> None:
    sender, disk = SimulatedDisk(), SimulatedDisk()
    info = write(sender, 5)
    received = receiving(disk, info)
    received.write(0, sent(sender, info, 0, PAGE_BYTES + 2500))
    received.close()
    again = receiving(disk, info)
    assert again.offset == PAGE_BYTES + len(META) + 4 + 2 * 1012
    again.close()
    disk.flip(f"{info.name}.part", PAGE_BYTES + 1500)
    again = receiving(disk, info)
    assert again.offset == PAGE_BYTES + len(META) + 4 + 1012
    again.abort()
    assert disk.names() == []


@pytest.mark.usefixtures("small")
def test_what_a_life_that_died_of_a_failed_sync_has_left_in_the_cache_only_is_written_anew() -> None:
    sender, disk = SimulatedDisk(), SimulatedDisk()
    info = write(sender, 5)
    received = receiving(disk, info)
    disk.fail_next["sync"] = errno.EIO
    with pytest.raises(StorageError, match="EIO"):
        received.write(0, sent(sender, info, 0, info.size))
    second = disk.killed()
    again = receiving(second, info)
    assert again.is_whole
    again.finish()
    assert whole(second.survive(lambda n: False)) == {5: b"".join(pieces(5))}


@pytest.mark.usefixtures("small")
def test_bytes_that_changed_on_their_way_are_found_at_once_and_sent_again() -> None:
    sender = SimulatedDisk()
    info = write(sender, 5)
    chance = random.Random(3)
    for offset in range(0, info.size, 61):
        disk = SimulatedDisk()
        received = receiving(disk, info)
        data = bytearray(sent(sender, info, 0, info.size))
        data[offset] ^= 1 << chance.randrange(8)
        with pytest.raises(Rot):
            received.write(0, bytes(data))
        assert received.offset <= offset
        received.write(received.offset, sent(sender, info, received.offset, info.size))
        received.finish()
        assert whole(disk) == {5: b"".join(pieces(5))}


@pytest.mark.usefixtures("small")
def test_another_writing_of_the_same_snapshot_is_not_mixed_with_what_has_arrived() -> None:
    one, other, disk = SimulatedDisk(), SimulatedDisk(), SimulatedDisk()
    info, longer = write(one, 5), write(other, 5, [*pieces(5), b"more"])
    shorter = write(other, 6, pieces(6, 2))
    received = receiving(disk, longer)
    with pytest.raises(Rot, match="another writing"):
        received.write(0, sent(one, info, 0, PAGE_BYTES))
    received.write(0, sent(other, longer, 0, longer.size - 1))
    received.close()
    again = receiving(disk, info)
    assert again.offset == 0
    receive_all(disk, one, info)
    assert whole(disk) == {5: b"".join(pieces(5))}
    receiving(disk, longer).close()
    receive_all(disk, other, shorter)
    assert [name for name in disk.names() if name.endswith(".part")] == []
    assert list(whole(disk)) == [6, 5]


@pytest.mark.usefixtures("small")
def test_a_snapshot_that_lies_about_its_sizes_is_found_before_memory_is_taken_for_them() -> None:
    disk = SimulatedDisk()
    info = write(disk, 5)
    raw = sent(disk, info, 0, info.size)
    behind_meta = PAGE_BYTES + len(META) + 4
    for size in (50, PAGE_BYTES, PAGE_BYTES + 40, behind_meta + 5 + TRAILER_BYTES, info.size - 1):
        received = ReceivedSnapshot(SimulatedDisk(), OWNER, 5, size, info.salt)
        with pytest.raises(Rot):
            received.write(0, raw[:size])
        assert not received.is_whole
    huge = snapshot._Header(OWNER, 5, info.salt, (1 << 20) + 1).encode()
    received = receiving(SimulatedDisk(), info)
    with pytest.raises(Rot, match="1048577 bytes of meta"):
        received.write(0, huge)


@pytest.mark.usefixtures("small")
def test_on_a_full_disk_what_has_arrived_stays_and_goes_on_when_there_is_room() -> None:
    sender, disk = SimulatedDisk(), SimulatedDisk()
    info = write(sender, 5)
    received = receiving(disk, info)
    received.write(0, sent(sender, info, 0, 5000))
    disk.is_full = True
    with pytest.raises(NoSpace):
        received.write(5000, sent(sender, info, 5000, 1000))
    assert received.offset == 5000
    disk.is_full = False
    received.write(5000, sent(sender, info, 5000, info.size))
    received.finish()
    assert len(whole(disk)) == 1


def test_the_simulated_sectors_are_smaller_than_what_is_written_at_once() -> None:
    """Otherwise no write here could be torn."""
    assert BLOCK < SMALL_CHUNK_BYTES
