"""The journal on a disk that crashes, tears, forgets and rots: enumerated, not sampled."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sofadb.sim.disk import Crash, SimulatedDisk
from sofadb.storage.files import PAGE_BYTES, StorageError
from sofadb.storage.journal import Journal
from sofadb.storage.segment import (
    BLOCK_HEADER_BYTES,
    MARK_OFFSET,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Mark,
    Record,
    Rot,
    SegmentHeader,
    encode_block,
)

SEGMENT = 16 << 10
SALTS = random.Random(1)


def opened(disk: SimulatedDisk, owner: int = 7) -> tuple[Journal, list[tuple[int, bytes]]]:
    journal = Journal.open(disk, SEGMENT, owner, new_salt=lambda: SALTS.getrandbits(64))
    return journal, list(journal.recover())


def record(key: int, size: int = 100) -> Record:
    return Record(key, [b"%d:" % key, bytes([key % 256]) * size])


def content(key: int, size: int = 100) -> tuple[int, bytes]:
    return key, b"".join(record(key, size).data)


def written(count: int, mark: bool = True, size: int = 100) -> SimulatedDisk:
    """A disk with `count` blocks of one record each."""
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    for key in range(1, count + 1):
        journal.append([record(key, size)])
    if mark:
        journal.mark()
    return disk


def block_bytes(*records: Record) -> int:
    return encode_block(SegmentHeader(0, 1, 0, SEGMENT, 0, 1), 0, records)[1]


def only_segment(disk: SimulatedDisk) -> str:
    (name,) = [name for name in disk.names() if name.startswith("journal-")]
    return name


SCRIPT_KEYS = 60


def script(journal: Journal, returned: list[tuple[int, bytes]]) -> None:
    """A fixed life: blocks of several sizes, marks, segment turns, one block larger than a segment."""
    for key in range(1, SCRIPT_KEYS + 1):
        size = {20: 5000, 30: 0}.get(key, 40 * (key % 7))
        if key % 9 == 0:
            journal.append([record(key, size), Record(0, [b"a promise"]), record(key + 1000, 10)])
            returned += [content(key, size), (0, b"a promise"), content(key + 1000, 10)]
        else:
            journal.append([record(key, size)])
            returned.append(content(key, size))
        if key % 10 == 5:
            journal.mark()
        if key % 17 == 0:
            journal.prepare()


def choices(seed: int) -> list[Callable[[int], bool]]:
    """Nothing, everything, a prefix, all but the first, and any subset of what was not synced."""
    chance = random.Random(seed)
    return [
        lambda n: False,
        lambda n: True,
        lambda n: n < 1,
        lambda n: n >= 1,
        lambda n: chance.random() < 0.5,
    ]


def test_crash_at_every_operation_loses_nothing_that_was_returned_and_invents_nothing() -> None:
    complete: list[tuple[int, bytes]] = []
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    script(journal, complete)
    total = disk.operations
    assert total > 150
    for crash_at in range(1, total + 1):
        disk = SimulatedDisk()
        journal, _ = opened(disk)
        disk.crash_at = crash_at
        returned: list[tuple[int, bytes]] = []
        with pytest.raises(Crash):
            script(journal, returned)
        for choose in choices(crash_at):
            survivor = disk.survive(choose)
            again, found = opened(survivor)
            assert found[: len(returned)] == returned, f"lost at operation {crash_at}"
            assert found == complete[: len(found)], f"invented at operation {crash_at}"
            # Life goes on from there, and what is appended now is found by the next life.
            again.append([record(7777)])
            _, third = opened(survivor.survive(lambda n: False))
            assert third == [*found, content(7777)]


def test_crash_at_every_operation_of_a_second_life_that_follows_a_torn_write() -> None:
    first = written(3, mark=False)
    journal, _ = opened(first)
    first.crash_at = first.operations + 1
    with pytest.raises(Crash):
        journal.append([record(4, 1500)])
    for keep in range(4):
        torn = first.survive(lambda n, keep=keep: n == keep)
        for crash_at in range(1, 8):
            second = torn.copy()
            second.crash_at = crash_at
            returned = [content(1), content(2), content(3)]
            try:
                journal, found = opened(second)
                assert found == returned
                for key in (5, 6):
                    journal.append([record(key)])
                    returned.append(content(key))
            except Crash:
                pass
            for choose in choices(crash_at):
                _, found = opened(second.survive(choose))
                assert found[: len(returned)] == returned
                assert [key for key, _ in found] in ([1, 2, 3], [1, 2, 3, 5], [1, 2, 3, 5, 6])


@pytest.mark.parametrize("problem", [errno.EIO, errno.ENOSPC])
def test_every_operation_that_fails_fails_for_good(problem: int) -> None:
    for fail_at in range(1, 120):
        disk = SimulatedDisk()
        journal, _ = opened(disk)
        disk.fail_at[fail_at] = problem
        returned: list[tuple[int, bytes]] = []
        try:
            script(journal, returned)
            assert problem == errno.ENOSPC, "but what is to be used later may find no room"
            assert disk.refusals == 1
        except StorageError as failure:
            assert errno.errorcode[problem] in str(failure)  # noqa: PT017 (It need not come.)
        # The next sync would succeed; nobody asks for it.
        operations = disk.operations
        if journal.failure is not None:
            with pytest.raises(StorageError, match=errno.errorcode[problem]):
                journal.append([record(999)])
            assert disk.operations == operations
        _, found = opened(disk.survive(lambda n: False))
        assert found[: len(returned)] == returned


def test_flipped_bit_anywhere_below_the_mark_is_rot_with_file_and_offset() -> None:
    disk = written(6)
    name = only_segment(disk)
    end = _end_of_records(disk)
    for offset in range(end):
        if _is_padding(offset):
            continue
        rotten = disk.copy()
        rotten.flip(name, offset, offset % 8)
        with pytest.raises(Rot) as caught:
            opened(rotten)
        assert name in str(caught.value)
        assert caught.value.offset <= offset
        assert f"offset {caught.value.offset}" in str(caught.value)


def _end_of_records(disk: SimulatedDisk) -> int:
    journal, _ = opened(disk.copy())
    return journal.segments[-1].end


def _is_padding(offset: int) -> bool:
    """Bytes that prove nothing: behind the header's checksum, the mark itself, and between a block's end and the next."""
    if offset < SEGMENT_HEADER_BYTES:
        return offset >= 512
    data = BLOCK_HEADER_BYTES + RECORD_HEADER_BYTES + len(b"1:") + 100
    block = data + -data % 8
    return (offset - SEGMENT_HEADER_BYTES) % block >= data


def test_flipped_bit_in_the_last_synced_record_of_an_idle_log_is_rot() -> None:
    disk = written(3)
    disk.flip(only_segment(disk), _end_of_records(disk) - 30)
    with pytest.raises(Rot):
        opened(disk)


def test_sync_mark_itself_rotten_costs_nothing_that_was_written() -> None:
    disk = written(3)
    for offset in range(MARK_OFFSET, MARK_OFFSET + 40):
        rotten = disk.copy()
        rotten.flip(only_segment(disk), offset, offset % 8)
        _, found = opened(rotten)
        assert found == [content(1), content(2), content(3)]
        # The next life has proven it anew.
        rotten.flip(only_segment(disk), _end_of_records(disk) - 30)
        with pytest.raises(Rot):
            opened(rotten)


def test_damage_in_the_last_unproven_block_is_a_torn_tail() -> None:
    disk = written(3, mark=False)
    disk.flip(only_segment(disk), _end_of_records(disk) - 20)
    journal, found = opened(disk)
    assert found == [content(1), content(2)]
    journal.append([record(9)])
    assert opened(disk)[1] == [content(1), content(2), content(9)]


def test_torn_write_followed_by_valid_records_of_the_previous_generation_is_cut() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    for key in range(1, 200):
        journal.append([record(key)])
    journal.cut(150)
    used_again = [name for name in disk.names() if name.startswith("spare-")]
    assert used_again, "a file of the first segments waits to be used again"
    generations = {segment.header.generation for segment in journal.segments}
    key = 200
    while all(segment.header.generation in generations for segment in journal.segments):
        journal.append([record(key)])
        key += 1
    last = journal.segments[-1]
    assert any(disk.latest[last.name].latest[last.end :]), "old records lie behind the new ones"
    # Stop at every block border, with the write under way lost, kept, or torn.
    disk.crash_at = disk.operations + 1
    with pytest.raises(Crash):
        journal.append([record(key, 900)])
    for choose in choices(1):
        _, found = opened(disk.survive(choose))
        keys = [key for key, _ in found]
        assert keys == sorted(keys)
        assert keys[-1] in (key - 1, key)


def test_length_field_rotten_skips_nothing() -> None:
    disk = written(5)
    for length in (0xFFFFFFFF, 0, 8, 2**31, 500):
        rotten = disk.copy()
        inode = rotten.latest[only_segment(rotten)]
        at = SEGMENT_HEADER_BYTES + 4 + 8 + 8
        for data in (inode.latest, inode.stable):
            data[at : at + 4] = length.to_bytes(4, "big")
        with pytest.raises(Rot) as caught:
            opened(rotten)
        assert caught.value.offset == SEGMENT_HEADER_BYTES


def test_second_block_on_disk_first_not_cannot_happen_since_each_waits_for_the_sync_of_the_last() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    for key in range(1, 5):
        journal.append([record(key)])
    kinds = [what for what, name in disk.log if name.startswith("journal-")]
    writes = [index for index, what in enumerate(kinds) if what == "write"]
    assert all(kinds[index + 1] == "sync" for index in writes)


def test_directory_fsync_missing_would_lose_the_name_so_it_comes_before_the_first_block() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    journal.append([record(1)])
    first_block = next(
        i for i, (what, name) in enumerate(disk.log) if what == "write" and name.startswith("journal-")
    )
    renamed = next(i for i, (what, _) in enumerate(disk.log) if what == "rename")
    assert ("sync directory", "") in disk.log[renamed:first_block]
    assert opened(disk.survive(lambda n: False))[1] == [content(1)]


def test_a_missing_segment_in_the_middle_is_named() -> None:
    disk = written(100)
    names = [name for name in disk.names() if name.startswith("journal-")]
    assert len(names) > 2
    del disk.latest[names[1]]
    with pytest.raises(Rot, match=names[1]):
        opened(disk)


def test_damage_at_the_end_of_a_finished_segment_is_rot() -> None:
    disk = written(100, mark=False)
    journal, _ = opened(disk.copy())
    first = journal.segments[0]
    disk.flip(first.name, first.end - 40)
    with pytest.raises(Rot, match=first.name):
        opened(disk)


def test_a_rotten_segment_header_is_named() -> None:
    disk = written(3)
    disk.flip(only_segment(disk), 20)
    with pytest.raises(Rot, match="header"):
        opened(disk)


def test_another_format_version_is_named() -> None:
    from crc32c import crc32c

    disk = written(1)
    inode = disk.latest[only_segment(disk)]
    for data in (inode.latest, inode.stable):
        data[8:12] = (9).to_bytes(4, "big")
        data[508:512] = crc32c(bytes(data[:508])).to_bytes(4, "big")
    with pytest.raises(StorageError, match="version 9"):
        opened(disk)


def test_a_block_of_another_place_or_generation_is_no_block() -> None:
    disk = written(4)
    name = only_segment(disk)
    inode = disk.latest[name]
    size = block_bytes(record(1))
    first, second = SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES + size
    moved = bytes(inode.latest[second : second + size])
    for data in (inode.latest, inode.stable):
        data[first : first + size] = moved
    with pytest.raises(Rot) as caught:
        opened(disk)
    assert caught.value.offset == first


def test_cut_gives_files_back_and_disk_use_stays_bounded() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    for key in range(1, 2000):
        journal.append([record(key)])
        if key % 50 == 0:
            journal.cut(key - 20)
    assert len(disk.names()) <= 8
    again, found = opened(disk)
    assert again.is_cut
    assert found[-1] == content(1999)
    assert [key for key, _ in found] == list(range(found[0][0], 2000))
    assert found[0][0] <= 1930


def test_read_finds_the_latest_record_of_a_key_and_never_a_damaged_one() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    for key in (1, 2, 3, 2):
        journal.append([record(key, 10 + key)])
    journal.append([Record(2, [b"latest"])])
    journal.append([record(5, 6000)])
    for each in (journal, opened(disk)[0]):
        assert each.read(2) == b"latest"
        assert each.read(1) == content(1, 11)[1]
        assert each.read(5) == content(5, 6000)[1]
        assert each.read(4) is None
        assert each.read(77) is None
    journal.mark()
    segment = journal.segments[0]
    rotten = disk.latest[segment.name]
    for offset in range(SEGMENT_HEADER_BYTES, segment.end):
        rotten.latest[offset] ^= 0xFF
    with pytest.raises(Rot):
        journal.read(1)


def test_a_block_that_is_too_large_is_refused_before_anything_is_written() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 300 << 20

    disk = SimulatedDisk()
    journal, _ = opened(disk)
    with pytest.raises(StorageError, match="too large"):
        journal.append([Record(1, [Huge()])])
    assert not [what for what, _ in disk.log if what == "write"]


def test_nothing_is_appended_to_a_log_that_was_not_read() -> None:
    journal = Journal.open(SimulatedDisk(), SEGMENT)
    with pytest.raises(AssertionError):
        journal.append([record(1)])


# Lives that follow each other


def with_cuts(journal: Journal, returned: list[tuple[int, bytes]]) -> None:
    """Appends, marks, turns of segments and cuts, so that files are used again."""
    for key in range(1, 70):
        journal.append([record(key, 300)])
        returned.append(content(key, 300))
        if key % 7 == 0:
            journal.mark()
        if key % 16 == 0:
            journal.cut(key - 10)


def test_crash_at_every_operation_of_a_life_with_cuts_keeps_all_that_was_not_cut() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    complete: list[tuple[int, bytes]] = []
    with_cuts(journal, complete)
    assert journal.is_cut
    for crash_at in range(1, disk.operations + 1):
        crashed = SimulatedDisk()
        journal, _ = opened(crashed)
        crashed.crash_at = crash_at
        returned: list[tuple[int, bytes]] = []
        with pytest.raises(Crash):
            with_cuts(journal, returned)
        cut_below = max([key - 10 for key in range(16, len(returned) + 1, 16)], default=0)
        for choose in choices(crash_at):
            _, found = opened(crashed.survive(choose))
            begin = complete.index(found[0]) if found else 0
            assert found == complete[begin : begin + len(found)], f"invented at operation {crash_at}"
            assert begin + len(found) >= len(returned), f"lost at operation {crash_at}"
            assert begin < max(cut_below, 1), f"cut too much at operation {crash_at}"


@pytest.mark.parametrize("life", [script, with_cuts])
def test_process_killed_at_every_operation_and_the_power_cut_in_the_next_life(
    life: Callable[[Journal, list[tuple[int, bytes]]], None],
) -> None:
    """What the next life reads from the cache and tells others of must be on disk by then; its names, too."""
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    life(journal, [])
    for crash_at in range(1, disk.operations + 1):
        killed = SimulatedDisk()
        journal, _ = opened(killed)
        killed.crash_at = crash_at
        with pytest.raises(Crash):
            life(journal, [])
        second = killed.killed()
        _, told = opened(second)
        for choose in choices(crash_at):
            assert opened(second.survive(choose))[1] == told, f"forgotten after operation {crash_at}"
        journal, _ = opened(second)
        journal.append([record(7777)])
        assert opened(second.survive(lambda n: False))[1] == [*told, content(7777)]


def test_fsync_fails_then_succeeds_and_the_next_life_does_not_believe_the_cache() -> None:
    probe = written(3)
    for fail_at in range(1, probe.operations + 12):
        disk = SimulatedDisk()
        journal, _ = opened(disk)
        disk.fail_at[fail_at] = errno.EIO
        returned: list[tuple[int, bytes]] = []
        try:
            for key in range(1, 9):
                journal.append([record(key)])
                returned.append(content(key))
        except StorageError:
            pass
        second = disk.killed()
        _, told = opened(second)
        assert told[: len(returned)] == returned
        assert opened(second.survive(lambda n: False))[1] == told


def test_every_operation_of_recovery_that_fails_or_is_cut_off_leaves_a_log_that_recovers() -> None:
    torn = written(30, mark=False)
    journal, _ = opened(torn)
    torn.crash_at = torn.operations + 1
    with pytest.raises(Crash):
        journal.append([record(31, 900)])
    expected = [content(key) for key in range(1, 31)]
    for stop_at in range(1, 12):
        for fails in (True, False):
            disk = torn.survive(lambda n: n % 2 == 0)
            if fails:
                disk.fail_at[stop_at] = errno.EIO
            else:
                disk.crash_at = stop_at
            try:
                opened(disk)
            except StorageError:
                assert fails
            except Crash:
                assert not fails
            for choose in choices(stop_at):
                assert opened(disk.survive(choose))[1] == expected


# Evidence


def test_a_page_that_goes_bad_never_takes_a_record_and_its_proof_at_once() -> None:
    disk = written(6)
    name = only_segment(disk)
    for size in (512, PAGE_BYTES):
        for begin in range(0, len(disk.latest[name].latest), size):
            rotten = disk.copy()
            for offset in range(begin, begin + size):
                rotten.flip(name, offset, offset % 8)
            try:
                _, found = opened(rotten)
            except Rot:
                continue
            assert found == [content(key) for key in range(1, 7)]


def test_what_was_recovered_without_proof_is_proven_from_then_on() -> None:
    disk = written(3, mark=False)
    opened(disk)
    disk.flip(only_segment(disk), _end_of_records(disk.copy()) - 20)
    with pytest.raises(Rot):
        opened(disk)


def test_a_missing_last_segment_is_named() -> None:
    disk = written(100)
    names = [name for name in disk.names() if name.startswith("journal-")]
    del disk.latest[names[-1]]
    with pytest.raises(Rot, match=names[-1]):
        opened(disk)


def test_a_missing_last_segment_is_named_though_the_process_was_killed_as_it_was_begun() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    key = 0
    while len(journal.segments) < 2:
        key += 1
        journal.append([record(key)])
    renamed = [number for number, (what, _) in enumerate(disk.log, 1) if what == "rename"][-1]
    killed = SimulatedDisk()
    journal, _ = opened(killed)
    for each in range(1, key):
        journal.append([record(each)])
    killed.crash_at = renamed + 1
    with pytest.raises(Crash):
        journal.append([record(key)])
    second = killed.killed()
    opened(second)
    last = max(name for name in second.names() if name.startswith("journal-"))
    del second.latest[last]
    with pytest.raises(Rot, match=last):
        opened(second)


def test_a_cut_off_file_below_the_mark_is_rot() -> None:
    disk = written(5)
    inode = disk.latest[only_segment(disk)]
    end = _end_of_records(disk)
    del inode.latest[end - 50 :], inode.stable[end - 50 :]
    with pytest.raises(Rot):
        opened(disk)


def test_two_blocks_that_changed_places_are_rot() -> None:
    disk = written(4)
    inode = disk.latest[only_segment(disk)]
    size = block_bytes(record(1))
    first, second = SEGMENT_HEADER_BYTES + size, SEGMENT_HEADER_BYTES + 2 * size
    for data in (inode.latest, inode.stable):
        data[first:second], data[second : second + size] = data[second : second + size], data[first:second]
    with pytest.raises(Rot) as caught:
        opened(disk)
    assert caught.value.offset == first


def test_a_last_segment_cut_off_anywhere_is_rot_whether_it_was_marked_or_not() -> None:
    for mark in (True, False):
        disk = written(5, mark)
        name = only_segment(disk)
        for size in (*range(0, SEGMENT, 1000), SEGMENT - 1):
            cut = disk.copy()
            del cut.latest[name].latest[size:], cut.latest[name].stable[size:]
            with pytest.raises(Rot, match=name):
                opened(cut)


def test_two_sectors_that_changed_places_never_take_a_record_and_its_proof_at_once() -> None:
    disk = written(5)
    name = only_segment(disk)
    last = _end_of_records(disk.copy()) - 60
    for proof in (MARK_OFFSET, SEGMENT - PAGE_BYTES):
        swapped = disk.copy()
        for data in (swapped.latest[name].latest, swapped.latest[name].stable):
            one, other = (slice(at - at % 512, at - at % 512 + 512) for at in (proof, last))
            data[one], data[other] = data[other], data[one]
        with pytest.raises(Rot):
            opened(swapped)


def test_what_a_client_sends_is_never_taken_for_a_block() -> None:
    """A value full of blocks that fit their places in the file, made with everything that a client can know."""
    guess = SegmentHeader(owner=7, generation=2, previous=0, size=SEGMENT, previous_end=0, salt=0)
    first = record(1)
    begin = SEGMENT_HEADER_BYTES + block_bytes(first) + BLOCK_HEADER_BYTES + RECORD_HEADER_BYTES
    begin, padding = begin + -begin % 8, -begin % 8
    blocks = [b"".join(encode_block(guess, begin + 56 * n, [Record(0, [b"forged 8"])])[0]) for n in range(60)]
    assert {len(block) for block in blocks} == {56}
    forged = b"".join((bytes(padding), *blocks))
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    journal.append([first])
    disk.crash_at = disk.operations + 1
    with pytest.raises(Crash):
        journal.append([Record(0, [forged])])
    # Whatever part of the last write is there: it is a torn tail, and nothing in it is evidence or a record.
    for lost in range(10):
        _, found = opened(disk.survive(lambda n, lost=lost: n != lost))
        assert found in ([content(1)], [content(1), (0, forged)])


def test_the_journal_of_another_node_is_refused() -> None:
    disk = written(3)
    with pytest.raises(StorageError, match="another node's"):
        opened(disk, owner=8)


@pytest.mark.parametrize(
    "name",
    [
        "journal-xyz.seg",
        "spare-0x10.seg",
        "spare-.seg",
        "journal-0000000100000000.seg",
        "spare-" + "f" * 16 + ".seg",
    ],
)
def test_a_name_that_is_not_ours_is_named_and_nothing_is_called_damaged(name: str) -> None:
    disk = written(3)
    disk.create(name).close()
    with pytest.raises(StorageError, match="move it out") as caught:
        opened(disk)
    assert name in str(caught.value)
    assert not isinstance(caught.value, Rot)


def test_absurd_keys_in_the_very_first_block_are_refused_before_anything_is_written() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    operations = disk.operations
    with pytest.raises(StorageError, match="too far"):
        journal.append([Record(1, [b"x"]), Record(1 << 60, [b"x"])])
    assert disk.operations == operations


def test_nothing_stays_open_when_opening_fails() -> None:
    disk = written(100)
    for name in [name for name in disk.names() if name.startswith("journal-")]:
        rotten = disk.copy()
        before = rotten.open_files
        rotten.flip(name, SEGMENT_HEADER_BYTES + 50)
        with pytest.raises(Rot):
            opened(rotten)
        assert rotten.open_files == before


def test_rot_says_after_which_key() -> None:
    disk = written(5)
    disk.flip(only_segment(disk), _end_of_records(disk) - 20)
    with pytest.raises(Rot, match="after the record of instance 4"):
        opened(disk)


# Failures of other threads, bounds


def test_a_failure_while_preparing_poisons_the_journal() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    journal.append([record(1)])
    disk.fail_at = {disk.operations + 2: errno.EIO}
    with pytest.raises(StorageError, match="EIO"):
        journal.prepare()
    operations = disk.operations
    for call in (
        lambda: journal.append([record(2)]),
        journal.mark,
        journal.prepare,
        lambda: journal.cut(1),
    ):
        with pytest.raises(StorageError, match="EIO"):
            call()
    assert disk.operations == operations


def test_a_failure_in_another_thread_during_the_sync_fails_the_append() -> None:
    class Meanwhile(SimulatedDisk):
        journal: Journal | None = None

        def count(self, what: str, name: str) -> None:
            super().count(what, name)
            if self.journal is not None and what == "sync":
                self.journal.failure = StorageError("the other thread's")

    disk = Meanwhile()
    journal, _ = opened(disk)
    journal.append([record(1)])
    disk.journal = journal
    with pytest.raises(StorageError, match="the other thread's"):
        journal.append([record(2)])


def test_many_segments_need_few_open_files() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    for key in range(1, 1500):
        journal.append([record(key)])
    assert len(journal.segments) > 30
    for key in range(1, 1500):
        assert journal.read(key) == content(key)[1]
    assert disk.open_files <= 12
    journal.close()
    assert disk.open_files == 0
    again, _ = opened(disk)
    assert disk.open_files == 1
    assert again.read(700) == content(700)[1]


def test_a_file_given_up_is_not_read_any_more() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    for key in range(1, 200):
        journal.append([record(key)])
        journal.read(1)
    journal.cut(150)
    for key in range(200, 400):
        journal.append([record(key)])
    assert journal.read(1) is None
    assert journal.read(199) == content(199)[1]


def test_an_absurd_key_is_refused_before_anything_is_written() -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    journal.append([record(1)])
    operations = disk.operations
    with pytest.raises(StorageError, match="too far"):
        journal.append([Record(1 << 60, [b"x"])])
    assert disk.operations == operations


def test_a_file_that_is_not_ours_is_named() -> None:
    disk = SimulatedDisk()
    disk.create("spare-old.seg").close()
    with pytest.raises(StorageError, match="spare-old"):
        opened(disk)


@given(
    sizes=st.lists(st.lists(st.integers(0, 1500), max_size=4), min_size=1, max_size=25),
    chance=st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_any_blocks_and_any_crash(sizes: list[list[int]], chance: random.Random) -> None:
    def live(journal: Journal, returned: list[tuple[int, bytes]]) -> None:
        key = 0
        for block in sizes:
            records = []
            for size in block:
                key += 1
                records.append((key, size))
            journal.append([record(*each) for each in records])
            returned += [content(*each) for each in records]

    complete: list[tuple[int, bytes]] = []
    disk = SimulatedDisk()
    live(opened(disk)[0], complete)
    operations = disk.operations
    assert opened(disk)[1] == complete
    crashed = SimulatedDisk()
    journal, _ = opened(crashed)
    crashed.crash_at = chance.randint(1, operations)
    returned: list[tuple[int, bytes]] = []
    with pytest.raises(Crash):
        live(journal, returned)
    _, found = opened(crashed.survive(lambda n: chance.random() < 0.5))
    assert found[: len(returned)] == returned
    assert found == complete[: len(found)]


# Files of odd sizes


def odd_segment(*records: Record) -> SimulatedDisk:
    """What an earlier build left: one block, just as much room as it needs, and the mark behind it."""
    disk, begin = SimulatedDisk(), SEGMENT_HEADER_BYTES
    size = begin + block_bytes(*records) + PAGE_BYTES
    header = SegmentHeader(7, 1, 0, size, 0, SALTS.getrandbits(64))
    file = disk.create("journal-0000000000000001.seg")
    file.write([bytes(size)], 0)
    buffers, total = encode_block(header, begin, records)
    file.write([header.encode()], 0)
    file.write(buffers, begin)
    for offset in (MARK_OFFSET, size - PAGE_BYTES):
        file.write([Mark(1, begin + total).encode()], offset)
    file.sync()
    disk.sync_directory()
    return disk


@pytest.mark.parametrize("size", [3 * SEGMENT + 4, 3 * SEGMENT + 4080])
def test_a_segment_of_an_odd_size_is_read_and_nothing_more_is_written_into_it(size: int) -> None:
    disk = odd_segment(record(1, size))
    name = only_segment(disk)
    assert len(disk.latest[name].latest) % PAGE_BYTES
    before = bytes(disk.latest[name].latest[SEGMENT_HEADER_BYTES:-PAGE_BYTES])
    for key in range(2, 5):  # Each in a life of its own.
        journal, found = opened(disk)
        assert found == [content(1, size), *(content(each) for each in range(2, key))]
        journal.append([record(key)])
    assert bytes(disk.latest[name].latest[SEGMENT_HEADER_BYTES:-PAGE_BYTES]) == before
    assert Mark.decode(disk.latest[name].latest[-PAGE_BYTES:], 1).followed_by
    journal.cut(3)
    assert name not in disk.names()
    assert all(len(disk.latest[each].latest) % PAGE_BYTES == 0 for each in disk.names())


@pytest.mark.parametrize("odd", [1, 8, PAGE_BYTES - 1])
def test_a_spare_of_an_odd_size_is_not_used(odd: int) -> None:
    disk = SimulatedDisk()
    disk.create("spare-0000000000000001.seg").write([bytes(SEGMENT + odd)], 0)
    journal, _ = opened(disk)
    journal.append([record(1)])
    assert not journal.spares
    assert len(disk.latest[only_segment(disk)].latest) == SEGMENT


@pytest.mark.parametrize("odd", [0, 4, 8, PAGE_BYTES - 8, PAGE_BYTES - 4])
def test_a_large_block_has_a_file_of_whole_pages(odd: int) -> None:
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    journal.append([record(1)])
    journal.append([record(2, 3 * SEGMENT + odd)])
    journal.mark()
    journal.append([record(3)])
    journal.mark()
    _, found = opened(disk.survive(lambda n: False))
    assert found == [content(1), content(2, 3 * SEGMENT + odd), content(3)]
    assert all(len(each.latest) % PAGE_BYTES == 0 for each in disk.latest.values())


def test_what_is_appended_leaves_the_marks_whole() -> None:
    """It fills pages: also the last one before the mark."""
    disk = SimulatedDisk()
    journal, _ = opened(disk)
    for key in range(1, 60):
        journal.append([record(key, 700 + 8 * key)])
        last = journal.segments[-1]
        is_marked = last.mark.end > SEGMENT_HEADER_BYTES
        assert not is_marked or disk.latest[last.name].latest[last.header.end_max :].startswith(b"SofaMark")
        journal.mark()
