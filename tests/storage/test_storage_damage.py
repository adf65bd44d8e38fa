"""A journal that is damaged and used all the same: each loss is told of in its place, and nothing else is lost."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from sofadb.sim.disk import Crash, SimulatedDisk, SimulatedFile
from sofadb.storage.files import PAGE_BYTES, StorageError
from sofadb.storage.journal import Damage, Journal
from sofadb.storage.segment import (
    MARK_OFFSET,
    NOTE_BYTES_MAX,
    SEGMENT_HEADER_BYTES,
    Mark,
    Record,
    Rot,
)

SEGMENT = 16 << 10
SALTS = random.Random(4)
Found = list[tuple[int, bytes] | Damage]


def content(key: int) -> tuple[int, bytes]:
    return key, b"%d:" % key + bytes([key % 256]) * 100


def append(journal: Journal, key: int) -> None:
    journal.append([Record(key, [content(key)[1]])])


def opened(disk: SimulatedDisk, note: Callable[[], bytes] = lambda: b"") -> tuple[Journal, Found]:
    """The journal, its records and what was told of it, in order."""
    journal = Journal.open(disk, SEGMENT, new_salt=lambda: SALTS.getrandbits(64), note=note)
    found: Found = []
    for record in journal.recover(on_damage=found.append):
        found.append(record)
    return journal, found


def written(count: int, mark: bool = True) -> tuple[SimulatedDisk, Journal]:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    for key in range(1, count + 1):
        append(journal, key)
    if mark:
        journal.mark()
    return disk, journal


def damages(found: Found) -> list[Damage]:
    return [each for each in found if isinstance(each, Damage)]


def keys(found: Found) -> list[int]:
    return [each[0] for each in found if not isinstance(each, Damage)]


def regions(found: Found) -> Found:
    """The same without the reasons: what proves that there was something is not the same in every life."""
    return [replace(each, reason="") if isinstance(each, Damage) else each for each in found]


def names(disk: SimulatedDisk) -> list[str]:
    return [name for name in disk.names() if name.startswith("journal-")]


BLOCK_BYTES = 152
"""Of one record of `content`, up to key 9."""


def begin_of(key: int) -> int:
    return SEGMENT_HEADER_BYTES + (key - 1) * BLOCK_BYTES


def test_each_block_that_cannot_be_read_is_told_of_in_its_place_and_the_others_are_found() -> None:
    disk, _ = written(9)
    name = names(disk)[0]
    for bad in itertools.chain.from_iterable(
        itertools.combinations(range(1, 10), count) for count in (1, 2, 3)
    ):
        rotten = disk.copy()
        for key in bad:
            rotten.flip(name, begin_of(key) + 50)
        _, found = opened(rotten)
        assert keys(found) == [key for key in range(1, 10) if key not in bad]
        told = damages(found)
        lost = [key for damage in told for key in range(1, 10) if damage.offset <= begin_of(key) < damage.end]
        assert tuple(lost) == bad
        for damage in told:
            assert damage.file == name
            at = found.index(damage)
            assert damage.last_key == max(keys(found[:at]), default=0)


def test_what_rots_without_any_proof_behind_it_is_a_torn_tail_still() -> None:
    disk, _ = written(9, mark=False)
    disk.flip(names(disk)[0], begin_of(9) + 50)
    journal, found = opened(disk)
    assert (keys(found), damages(found)) == (list(range(1, 9)), [])
    append(journal, 9)
    assert len(journal.segments) == 1
    assert keys(opened(disk)[1]) == list(range(1, 10))


def test_a_torn_tail_behind_damage_is_cut_off_as_ever() -> None:
    disk, _ = written(9, mark=False)
    name = names(disk)[0]
    disk.flip(name, begin_of(3) + 50)
    disk.flip(name, begin_of(9) + 50)
    _, found = opened(disk)
    assert [damage.offset for damage in damages(found)] == [begin_of(3)]
    assert keys(found) == [1, 2, 4, 5, 6, 7, 8]


def test_in_finished_segments_damage_ends_where_the_segment_ended() -> None:
    disk, journal = written(200)
    first, second, *_ = journal.segments
    last_block = first.end - 152
    disk.flip(first.name, last_block + 60)
    disk.flip(second.name, SEGMENT_HEADER_BYTES + 60)
    _, found = opened(disk)
    one, two = damages(found)
    assert (one.file, one.end, one.last_key) == (first.name, first.end, first.key_max - 1)
    assert (two.file, two.offset, two.last_key) == (second.name, SEGMENT_HEADER_BYTES, first.key_max - 1)
    assert keys(found) == [key for key in range(1, 201) if key not in (first.key_max, first.key_max + 1)]


def lose_header(disk: SimulatedDisk, name: str) -> None:
    disk.flip(name, 30)


def lose_file(disk: SimulatedDisk, name: str) -> None:
    del disk.latest[name], disk.stable[name]


def cut_off(disk: SimulatedDisk, name: str) -> None:
    del disk.latest[name].latest[SEGMENT - 10 :], disk.latest[name].stable[SEGMENT - 10 :]


def empty(disk: SimulatedDisk, name: str) -> None:
    del disk.latest[name].latest[:], disk.latest[name].stable[:]


@pytest.mark.parametrize("lose", [lose_header, lose_file, cut_off, empty])
@pytest.mark.parametrize("which", [0, 1, 2, -1])
def test_a_segment_that_is_lost_as_a_whole_is_one_damage_and_told_of_until_it_is_cut(
    lose: Callable[[SimulatedDisk, str], None], which: int
) -> None:
    disk, before = written(200)
    lost = before.segments[which]
    first = before.segments[which - 1].key_max + 1 if which else 1
    lose(disk, lost.name)
    if lose is lose_file and which == 0:
        journal, found = opened(disk)
        assert journal.is_cut, (
            "a lost beginning is not told from one that was cut; records tell where it goes on"
        )
        assert keys(found)[0] == lost.key_max + 1
        return
    for life in range(3):
        disk = disk.survive(lambda n: False)
        journal, found = opened(disk)
        (damage,) = damages(found)
        assert damage.file == lost.name
        assert damage.offset == 0
        assert damage.last_key == first - 1
        assert found.index(damage) == first - 1
        kept = [key for key in range(1, 201) if not first <= key <= lost.key_max]
        assert keys(found) == [*kept, *range(1001, 1001 + life)]
        append(journal, 1001 + life)
        journal.mark()
        with pytest.raises(Rot, match=lost.name):
            list(Journal.open(disk, SEGMENT).recover())
    journal, _ = opened(disk)
    for key in range(2000, 2200):
        append(journal, key)
    journal.cut(2150)
    assert lost.name not in disk.names()
    assert f"spare-{lost.generation:016x}.seg" not in disk.names(), "nobody trusts that file"
    assert damages(opened(disk)[1]) == []


def test_damage_is_not_given_up_before_what_may_have_been_in_it() -> None:
    """It held keys up to somewhere between those around it: a cut there must not make us forget that something is lost."""
    disk, before = written(200)
    lost = before.segments[1]
    lose_header(disk, lost.name)
    journal, _ = opened(disk)
    journal.cut(lost.key_max + 1)
    assert journal.segments[0].name == lost.name
    assert len(damages(opened(disk)[1])) == 1
    journal.cut(before.segments[2].key_max + 1)
    assert lost.name not in disk.names()


def test_a_header_that_can_be_read_once_more_does_not_hide_what_is_behind_it() -> None:
    disk, before = written(200)
    last = before.segments[-1].name
    lose_header(disk, last)
    journal, _ = opened(disk)
    append(journal, 300)
    lose_header(disk, last)
    journal, found = opened(disk)
    assert keys(found) == [*range(1, 201), 300]
    assert [damage.file for damage in damages(found)] == [last], "where it ended was not known"


def test_with_damage_at_its_end_a_log_wants_its_next_segment_at_once() -> None:
    disk = SimulatedDisk()
    for is_damaged in (False, True):
        journal = Journal.open(disk, 1 << 20)
        found: Found = [*journal.recover(on_damage=lambda damage: None)]
        if not is_damaged:
            append(journal, 1)
            append(journal, 2)
            disk.flip(names(disk)[0], begin_of(1) + 50)
        assert journal.is_half_full == is_damaged, found


def test_nothing_is_written_into_a_damaged_segment_any_more_and_what_was_lost_can_be_written_anew() -> None:
    disk, _ = written(9)
    name = names(disk)[0]
    disk.flip(name, begin_of(4) + 50)
    journal, found = opened(disk)
    assert keys(found) == [1, 2, 3, 5, 6, 7, 8, 9]
    assert journal.read(4) is None
    assert journal.is_half_full, "the next segment is wanted"
    end = journal.segments[-1].end
    append(journal, 4)
    append(journal, 10)
    assert journal.read(4) == content(4)[1]
    assert journal.segments[0].name == name
    assert journal.segments[0].end == end
    again, found = opened(disk.survive(lambda n: False))
    assert keys(found) == [1, 2, 3, 5, 6, 7, 8, 9, 4, 10]
    assert len(damages(found)) == 1
    assert again.read(4) == content(4)[1]
    append(again, 11)
    assert len(again.segments) == 2, "the segment behind the damage is as good as any"


def test_of_a_lost_record_an_older_one_may_be_found() -> None:
    disk, journal = written(4)
    journal.append([Record(2, [b"newer"])])
    append(journal, 5)
    rotten = disk.copy()
    rotten.flip(names(disk)[0], begin_of(5) + 45)
    journal, found = opened(rotten)
    assert len(damages(found)) == 1
    assert journal.read(2) == content(2)[1]


@pytest.mark.parametrize("bad", [(2,), (9,), (2, 9)])
def test_wherever_a_life_with_damage_stops_the_next_one_finds_the_same_and_what_was_told(
    bad: tuple[int, ...],
) -> None:
    base, _ = written(9)
    for key in bad:
        base.flip(names(base)[0], begin_of(key) + 50)
    expected = opened(base.copy())[1]
    for crash_at in itertools.count(1):
        disk = base.copy()
        disk.crash_at = disk.operations + crash_at
        told: list[int] = []
        try:
            journal, found = opened(disk)
            assert found == expected
            for key in range(100, 160):
                append(journal, key)
                told.append(key)
        except Crash:
            pass
        else:
            break
        for next_life in (disk.survive(lambda n: False), disk.survive(lambda n: True), disk.killed()):
            _, found = opened(next_life)
            assert regions(found[: len(expected)]) == regions(expected), f"after operation {crash_at}"
            assert keys(found[len(expected) :])[: len(told)] == told
            assert regions(opened(next_life.survive(lambda n: False))[1]) == regions(found)
    assert crash_at > 50


def test_any_page_that_goes_bad_in_any_segment_loses_only_what_is_on_it() -> None:
    disk, before = written(200)
    for name in names(disk):
        segment = next(each for each in before.segments if each.name == name)
        for begin in range(0, SEGMENT, PAGE_BYTES):
            rotten = disk.copy()
            for offset in range(begin, begin + PAGE_BYTES):
                rotten.flip(name, offset, offset % 8)
            journal, found = opened(rotten)
            is_used = begin == 0 or SEGMENT_HEADER_BYTES <= begin < segment.end
            assert len(damages(found)) == is_used, (name, begin)
            assert 200 - len(keys(found)) < 120
            append(journal, 500)
            assert keys(opened(rotten.survive(lambda n: False))[1])[-1] == 500


class BadSectors(SimulatedDisk):
    """A disk with a region that it cannot read."""

    bad: range = range(0)

    def open(self, name: str) -> SimulatedFile:
        disk = self

        class File(SimulatedFile):
            def read(self, size: int, offset: int) -> bytes:
                if offset < disk.bad.stop and offset + size > disk.bad.start:
                    raise StorageError(f"cannot read {self.name}: Input/output error")
                return super().read(size, offset)

        return File(self, name, self.latest[name])


@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("page", range(SEGMENT // PAGE_BYTES))
def test_what_a_disk_cannot_read_is_damage_and_no_torn_tail(page: int, mark: bool) -> None:
    """There is no telling that nothing was there. What lies on the pages around it is read."""
    disk = BadSectors()
    journal, _ = opened(disk)
    for key in range(1, 8):
        append(journal, key)
    if mark:
        journal.mark()
    disk.bad = range(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
    if page in (0, 2):
        with pytest.raises(Rot, match="Input/output error"):
            list(Journal.open(disk, SEGMENT).recover())
    journal, found = opened(disk)
    assert bool(damages(found)) == (page in (0, 2))
    if page in (1, 3):
        assert keys(found) == list(range(1, 8))
    append(journal, 8)
    disk.bad = range(0)
    assert keys(opened(disk)[1])[-1] == 8


# Notes


def test_a_note_is_found_by_the_next_life_though_the_last_record_is_rotten() -> None:
    disk, _ = written(0)
    journal, _ = opened(disk, note=lambda: b"promised 7")
    append(journal, 1)
    assert opened(disk.copy())[0].note == b"", "there is no mark yet"
    journal.mark()
    disk.flip(names(disk)[0], begin_of(1) + 50)
    for _ in range(2):
        journal, found = opened(disk.survive(lambda n: False), note=lambda: b"promised 8")
        assert journal.note == b"promised 7"
        assert len(damages(found)) == 1


def test_the_newest_note_counts_and_either_copy_of_it_is_enough() -> None:
    disk = SimulatedDisk()
    number = itertools.count(1)
    last = b""

    def note() -> bytes:
        nonlocal last
        last = b"%d" % next(number)
        return last

    journal, _ = opened(disk, note)
    for key in range(1, 200):
        append(journal, key)
        if key % 30 == 0:
            journal.mark()
    assert len(journal.segments) > 1
    assert Journal.open(disk, SEGMENT).note == last
    journal.mark()
    assert Journal.open(disk, SEGMENT).note == last
    for offset in (MARK_OFFSET, SEGMENT - PAGE_BYTES):
        rotten = disk.copy()
        rotten.flip(journal.segments[-1].name, offset + 100)
        assert Journal.open(rotten, SEGMENT).note == last
        lose_header(rotten, journal.segments[-1].name)
        assert Journal.open(rotten, SEGMENT).note == journal.segments[-2].mark.note


def test_a_note_stands_in_one_sector_and_is_not_longer() -> None:
    assert len(Mark(1, 2, 3, bytes(NOTE_BYTES_MAX)).encode()) <= 512
    with pytest.raises(AssertionError):
        Mark(1, 2, 3, bytes(NOTE_BYTES_MAX + 1)).encode()
    mark = Mark(1, 2, 3, b"note\0")
    assert Mark.decode(mark.encode(), 1) == mark
    for offset in range(len(mark.encode())):
        rotten = bytearray(mark.encode())
        rotten[offset] ^= 1
        assert Mark.decode(bytes(rotten), 1).note == b""


def test_another_nodes_segment_and_another_format_are_no_damage() -> None:
    disk, _ = written(3)
    journal = Journal.open(disk, SEGMENT, owner=0)
    assert journal.owner == 0
    with pytest.raises(StorageError, match="another node's"):
        Journal.open(disk, SEGMENT, owner=8)
