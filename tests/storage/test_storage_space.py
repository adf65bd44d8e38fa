"""What the log takes of the disk: bounded if it is cut, and a disk that is full is no end as long as nothing is lost."""

from __future__ import annotations

import errno
import itertools
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sofadb.sim.disk import Crash, SimulatedDisk
from sofadb.storage import writer as writer_module
from sofadb.storage.files import DiskFiles, File, NoSpace, StorageError
from sofadb.storage.journal import SPARES_MAX, Journal
from sofadb.storage.segment import Record
from sofadb.storage.snapshot import Snapshots, SnapshotWriter
from sofadb.storage.writer import Writer

SEGMENT = 32 << 10
"""Room for 36 of the records here."""
PATIENCE_S = 30.0
SALTS = random.Random(5)


def opened(disk: SimulatedDisk) -> tuple[Journal, list[int]]:
    journal = Journal.open(disk, SEGMENT, new_salt=lambda: SALTS.getrandbits(64))
    return journal, [key for key, _ in journal.recover()]


def append(journal: Journal, key: int) -> None:
    journal.append([Record(key, [bytes([key % 256]) * 500])])


def used(disk: SimulatedDisk) -> int:
    """Bytes on the disk."""
    return sum(len(inode.latest) for inode in disk.latest.values())


def test_snapshots_lie_beside_the_log_and_neither_minds_the_other() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    append(journal, 1)
    for instance in (1, 2):
        SnapshotWriter(disk, 7, instance, b"").finish()
    journal, found = opened(disk)
    assert found == [1]
    assert journal.bytes_held == SEGMENT
    assert [info.instance for info in Snapshots(disk, 7).found()] == [2, 1]


# Cutting

HELD = 40
"""So many records are kept."""
BOUND = (4 + SPARES_MAX + 1) * SEGMENT
"""What holds them and those of a round, spares, and the reserve."""


def rounds(journal: Journal, disk: SimulatedDisk, told: list[int], count: int) -> None:
    for key in range(len(told) + 1, len(told) + 20 * count + 1):
        append(journal, key)
        told.append(key)
        if key % 20 == 0:
            journal.append([Record(0, [b"what outlives the cut"])])
            journal.cut(key - HELD)
            journal.prepare()
        assert used(disk) <= BOUND


def test_over_many_rounds_of_appending_and_cutting_the_disk_does_not_fill_up() -> None:
    disk = SimulatedDisk()
    disk.log = None
    told: list[int] = []
    for _ in range(10):
        journal, _ = opened(disk)
        rounds(journal, disk, told, 20)
        assert journal.bytes_held <= 5 * SEGMENT
        assert journal.bytes_held == SEGMENT * sum(name.startswith("journal-") for name in disk.names())
        journal.close()
    assert disk.open_files == 0


def test_wherever_it_stops_nothing_that_is_held_is_lost_and_nothing_stays_on_the_disk_for_ever() -> None:
    for crash_at in itertools.count(1):
        disk = SimulatedDisk()
        journal, _ = opened(disk)
        disk.crash_at = crash_at
        told: list[int] = []
        try:
            rounds(journal, disk, told, 4)
        except Crash:
            pass
        else:
            break
        chance = random.Random(crash_at)
        for next_life in (
            disk.survive(lambda n: False),
            disk.survive(lambda n: True),
            disk.survive(lambda n, chance=chance: chance.random() < 0.5),
            disk.killed(),
        ):
            journal, found = opened(next_life)
            kept = [key for key in found if key]
            last_cut = max((key for key in told if key % 20 == 0), default=0) + 20 - HELD
            assert not kept or kept == list(range(kept[0], kept[-1] + 1))
            assert not told or kept[-1] in (told[-1], told[-1] + 1)
            assert not kept or kept[0] <= max(last_cut, 1)
            rounds(journal, next_life, list(range(1, (kept[-1] if kept else 0) + 1)), 2)
    assert crash_at > 100


class Desk:
    """A writer on a simulated disk, by hand, and what it told."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.told: list[object] = []
        self.journal, self.found = opened(disk)
        self.has_failed = threading.Event()
        self.writer = Writer(
            self.journal, lambda callbacks: [each() for each in callbacks] and None, self._failed, 0.0
        )

    def _failed(self, failure: StorageError) -> None:
        self.told.append(str(failure))
        self.has_failed.set()

    def save(self, key: int) -> None:
        self.writer.save([Record(key, [bytes(500)])], lambda: self.told.append(key))

    def turn(self) -> bool:
        with self.writer._any_failure_ends_all():
            return self.writer.work(self.writer._take(0.0))
        return False


def test_the_log_is_given_up_in_the_order_of_what_was_asked() -> None:
    """A cut behind a save that is not stable yet would give up what that save replaces."""
    disk = SimulatedDisk()
    desk = Desk(disk)
    for key in range(1, 101):
        desk.save(key)
        assert desk.turn()
    before = desk.journal.bytes_held
    log: list[str] = []
    desk.save(101)
    desk.writer.save([Record(0, [b"the promise"])], lambda: log.append("promise is stable"))
    desk.writer.give_up(90)
    desk.save(102)
    cut = desk.journal.cut
    desk.journal.cut = lambda key: (log.append(f"cut {key}"), cut(key))[1]  # type: ignore[method-assign, func-returns-value]
    assert desk.turn()
    assert log == ["promise is stable", "cut 90"]
    assert desk.told[-1] == 101
    assert desk.turn()
    assert desk.told[-1] == 102
    assert desk.journal.bytes_held < before
    desk.writer.give_up(91)
    desk.writer.give_up(92)
    desk.writer._closing = True
    desk.writer.start()
    desk.writer.close()
    assert log[-2:] == ["cut 91", "cut 92"], "what was asked for is done before the end"
    assert opened(disk.survive(lambda n: False))[1][-1] == 102


def test_a_cut_that_fails_ends_all() -> None:
    disk = SimulatedDisk()
    desk = Desk(disk)
    for key in range(1, 101):
        desk.save(key)
        assert desk.turn()
    disk.fail_next["rename"] = errno.EIO
    desk.writer.give_up(90)
    desk.turn()
    assert str(desk.told[-1]).endswith("failed: EIO")
    desk.save(101)
    desk.writer.give_up(95)
    assert desk.writer.pending_bytes == 0
    assert not desk.writer._queue


# A full disk


def test_a_next_segment_that_finds_no_room_is_no_failure_and_leaves_nothing_behind() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    append(journal, 1)
    names = disk.names()
    for what in ("create", "write"):
        disk.fail_next[what] = errno.ENOSPC
        journal.prepare()
        assert journal.is_short_of_space
        assert disk.names() == names
        assert "ENOSPC" in str(journal.shortage)
    disk.fail_next["write"] = errno.EDQUOT
    journal.prepare()
    assert journal.is_short_of_space
    append(journal, 2)
    journal.prepare()
    assert not journal.is_short_of_space
    assert len(journal.spares) == len(journal.reserve) == 1
    assert opened(disk.survive(lambda n: False))[1] == [1, 2]


@pytest.mark.parametrize("what", ["sync", "sync directory", "remove"])
def test_making_room_is_fatal_where_more_than_room_is_missing(what: str) -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    append(journal, 1)
    if what == "remove":
        disk.fail_next["write"] = errno.ENOSPC
    disk.fail_next[what] = errno.ENOSPC
    with pytest.raises(StorageError) as caught:
        journal.prepare()
    assert not isinstance(caught.value, NoSpace)
    with pytest.raises(StorageError):
        append(journal, 2)


def test_a_write_into_a_segment_that_finds_no_room_is_as_fatal_as_ever() -> None:
    """The zeros were there. Whatever this file system does, it is not to be trusted."""
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    append(journal, 1)
    disk.fail_next["write"] = errno.ENOSPC
    with pytest.raises(NoSpace):
        append(journal, 2)
    with pytest.raises(NoSpace):
        append(journal, 3)


def test_on_a_full_disk_the_spare_and_the_reserve_are_used_and_only_then_it_ends() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    append(journal, 1)
    journal.prepare()
    disk.is_full = True
    key = 1
    with pytest.raises(NoSpace):  # noqa: PT012 (Which append it is, is not said.)
        for key in itertools.count(2):
            append(journal, key)
            journal.prepare()
    assert len(journal.segments) == 3
    assert not journal.reserve
    assert journal.is_short_of_space
    assert opened(disk.survive(lambda n: False))[1] == list(range(1, key))


def test_a_node_that_is_short_can_cut_its_log_and_has_a_reserve_again_before_anything_else() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    append(journal, 1)
    journal.prepare()
    disk.is_full = True
    key = 1
    while journal.reserve:
        key += 1
        append(journal, key)
    journal.prepare()
    assert journal.is_short_of_space
    journal.cut(journal.segments[1].key_max)
    assert len(journal.reserve) == 1
    assert not journal.spares
    journal.prepare()
    assert journal.is_short_of_space, "there is a reserve and no spare"
    journal.cut(key)
    assert len(journal.spares) == 1
    journal.prepare()
    assert not journal.is_short_of_space
    again, _ = opened(disk.copy())
    assert (len(again.reserve), len(again.spares)) == (1, 1)


def test_what_is_given_up_is_used_again_and_no_zeros_are_written() -> None:
    disk = SimulatedDisk()
    told: list[int] = []
    journal, _ = opened(disk)
    rounds(journal, disk, told, 40)
    disk.fail_next["create"] = errno.EIO
    rounds(journal, disk, told, 40)
    assert disk.fail_next == {"create": errno.EIO}


def test_spares_are_given_back_if_something_else_needs_their_room() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    for key in range(1, 201):
        append(journal, key)
    journal.cut(200)
    assert len(journal.reserve) == 1
    kept = used(disk)
    count = len(journal.spares)
    assert count > 2
    assert journal.give_back()
    assert used(disk) == kept - (count - 1) * SEGMENT
    assert len(journal.spares) == 1
    assert not journal.give_back()
    append(journal, 201)
    assert opened(disk.survive(lambda n: False))[1][-1] == 201


def test_a_block_larger_than_the_reserve_ends_it_on_a_full_disk() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    journal.prepare()
    disk.is_full = True
    with pytest.raises(NoSpace):
        journal.append([Record(1, [bytes(2 * SEGMENT)])])
    assert len(journal.reserve) == 1


def test_a_second_reserve_serves_as_a_spare_and_one_that_was_not_finished_is_removed() -> None:
    disk = SimulatedDisk()
    for name, size in (("reserve-1", SEGMENT), ("reserve-2", SEGMENT), ("reserve-3", 100)):
        kind, number = name.split("-")
        file = disk.create(f"{kind}-{number.zfill(16)}.seg")
        file.write([bytes(size)], 0)
        file.close()
    journal, _ = opened(disk)
    assert list(journal.reserve) == ["reserve-0000000000000001.seg"]
    assert list(journal.spares) == ["reserve-0000000000000002.seg"]
    append(journal, 1)
    assert len(disk.names()) == 2


def test_a_short_write_on_a_real_disk_is_one_that_found_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a file system says it that has room for the first pages of a write only."""
    files = DiskFiles(tmp_path)
    journal = Journal.open(files, SEGMENT)
    assert list(journal.recover()) == []
    append(journal, 1)
    write = os.pwritev
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", lambda descriptor, parts, offset: write(descriptor, [b"x"], offset))
        journal.prepare()
    assert journal.is_short_of_space
    assert [name[:7] for name in files.names()] == ["journal"]
    journal.prepare()
    assert not journal.is_short_of_space
    journal.close()


def test_the_writer_asks_again_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "PREPARE_AGAIN_S", 0.0)
    disk = SimulatedDisk()
    desk = Desk(disk)
    tried = threading.Semaphore(0)
    prepared = threading.Event()
    prepare = desk.journal.prepare

    def watched(rest_s: float) -> None:
        prepare(rest_s)
        (tried.release if desk.journal.is_short_of_space else prepared.set)()

    desk.journal.prepare = watched  # type: ignore[method-assign]
    desk.save(1)
    assert desk.turn()
    disk.is_full = True
    desk.writer.start()
    for key in range(2, 22):
        desk.save(key)
    for _ in range(3):
        assert tried.acquire(timeout=PATIENCE_S)
    disk.is_full = False
    assert prepared.wait(PATIENCE_S)
    desk.writer.close()
    assert desk.told == list(range(1, 22))
    assert not desk.journal.is_short_of_space


@pytest.mark.parametrize("who", ["a new segment", "a cut", "the end"])
def test_whoever_makes_a_spare_takes_no_rest_while_somebody_waits_for_it(who: str) -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    key = 1
    append(journal, key)
    while len(journal.segments) < 2 or not journal.is_half_full:
        key += 1
        append(journal, key)
    journal.spares.clear()
    begun = threading.Event()
    create = disk.create

    def watched(name: str) -> File:
        begun.set()
        return create(name)

    disk.create = watched  # type: ignore[method-assign]
    thread = threading.Thread(target=journal.prepare, args=(10 * PATIENCE_S,))
    thread.start()
    assert begun.wait(PATIENCE_S)
    if who == "a new segment":
        count = len(journal.segments)
        while len(journal.segments) == count:
            key += 1
            append(journal, key)
    elif who == "a cut":
        journal.cut(key)
    else:
        journal.hurry()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.mark.parametrize("end", ["closing", "failing"])
def test_a_writer_that_waits_for_room_comes_to_its_end(end: str) -> None:
    """It waits for seconds otherwise."""
    disk = SimulatedDisk()
    desk = Desk(disk)
    waits = threading.Event()
    wait: Callable[[float], bool] = desk.writer._ended.wait

    def watched(timeout_s: float) -> bool:
        waits.set()
        return wait(PATIENCE_S if timeout_s else timeout_s)

    desk.writer._ended.wait = watched  # type: ignore[method-assign, assignment]
    desk.save(1)
    assert desk.turn()
    disk.is_full = True
    desk.writer.start()
    for key in range(2, 18):
        desk.save(key)
    assert waits.wait(PATIENCE_S)
    if end == "failing":
        disk.fail_next["sync"] = errno.EIO
        desk.save(18)
        assert desk.has_failed.wait(PATIENCE_S)
        assert desk.writer._preparing is not None
        desk.writer._preparing.join(PATIENCE_S / 2)
        assert not desk.writer._preparing.is_alive()
    desk.writer.close()
    assert desk.writer._preparing is not None
    assert not desk.writer._preparing.is_alive()
