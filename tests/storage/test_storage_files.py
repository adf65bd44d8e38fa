"""The door to the real disk: what was written is read, and every failure names the file and a remedy."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sofadb.storage.files import (
    BUFFERS_MAX,
    PAGE_BYTES,
    STAGE_BYTES,
    DiskFiles,
    DiskLog,
    NoSpace,
    StorageError,
)
from sofadb.storage.journal import Journal
from sofadb.storage.segment import Record


def test_more_buffers_than_the_kernel_takes_at_once_arrive_in_order(tmp_path: Path) -> None:
    file = DiskFiles(tmp_path).create("a")
    buffers = [b"%04d" % number for number in range(2 * BUFFERS_MAX + 7)]
    file.write([*buffers, memoryview(b"end")], 3)
    file.sync()
    expected = bytes(3) + b"".join(buffers) + b"end"
    assert file.size() == len(expected)
    assert file.read(1 << 20, 0) == expected
    assert file.read(4, 7) == b"0001"
    assert file.read(4, len(expected)) == b""
    file.close()
    file.close()


def test_names_come_and_go(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    files.create("b").close()
    files.create("a").close()
    with pytest.raises(StorageError, match=r"cannot open .*/a: File exists"):
        files.create("a")
    files.rename("a", "c")
    files.remove("b")
    files.sync_directory()
    assert files.names() == ["c"]
    for missing in (lambda: files.open("a"), lambda: files.remove("a"), lambda: files.rename("a", "b")):
        with pytest.raises(StorageError, match="was the data directory moved"):
            missing()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "raise the quota"),
        (errno.EROFS, "fault of the file system"),
        (errno.EIO, "kernel's log"),
        (errno.EACCES, "the right to read and write"),
    ],
)
def test_a_failed_write_names_the_file_and_what_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    file = DiskFiles(tmp_path).create("a")

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwritev", fail)
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}/a: .*{words}"):
        file.write([b"x"], 0)
    file.close()


def test_a_failed_sync_says_that_it_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = DiskFiles(tmp_path)
    file = files.create("a")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="page cache can no longer be trusted"):
        file.sync()
    with pytest.raises(StorageError, match="page cache can no longer be trusted"):
        files.sync_directory()
    file.close()


def test_a_short_write_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = DiskFiles(tmp_path).create("a")
    monkeypatch.setattr(os, "pwritev", lambda *_: 3)
    with pytest.raises(StorageError, match=r"took 3 of 5 bytes \(a short write\)"):
        file.write([b"12345"], 0)
    file.close()


# Logs


def log_of(directory: Path, size: int, end: int) -> DiskLog:
    """A log with room for so many bytes, of which there are some already."""
    with closing(DiskFiles(directory).create("log")) as file:
        file.write([b"-" * end, bytes(size - end)], 0)
    log = DiskFiles(directory).open_log("log", end)
    assert isinstance(log, DiskLog)
    return log


@given(
    st.integers(0, 2 * PAGE_BYTES),
    st.lists(
        st.lists(
            st.integers(0, 600)
            | st.sampled_from([PAGE_BYTES, 3 * PAGE_BYTES - 8, STAGE_BYTES, 3 * STAGE_BYTES]),
            min_size=1,
            max_size=4,
        ),
        max_size=4,
    ),
    st.booleans(),
)
@example(0, [[PAGE_BYTES], [1], [PAGE_BYTES - 1], [8]], True)
@example(100, [[STAGE_BYTES - 100], [STAGE_BYTES], [STAGE_BYTES + 1, 0]], True)
@settings(max_examples=60, deadline=None)
def test_a_log_holds_what_was_appended_and_nothing_before_it_changes(
    end: int, appended: list[list[int]], is_past_the_cache: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        size = end + sum(map(sum, appended))
        log = log_of(Path(name), size - size % PAGE_BYTES + 2 * PAGE_BYTES, end)
        if not is_past_the_cache and log._past >= 0:
            os.close(log._past)
            log._past = -1
        expected = b"-" * end
        for number, sizes in enumerate(appended):
            buffers = [bytes([65 + number + at]) * each for at, each in enumerate(sizes)]
            log.append([memoryview(each) if len(each) % 2 else each for each in buffers], len(expected))
            log.sync()
            expected += b"".join(buffers)
            assert log.read(len(expected) + 1, 0) == expected + b"\0"
        assert log.size() == size - size % PAGE_BYTES + 2 * PAGE_BYTES
        log.close()


@pytest.mark.parametrize("refuses", ["open", "pwritev"])
def test_where_nothing_goes_past_the_cache_a_log_is_written_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    call = getattr(os, refuses)
    refused = []

    def refuse(*args: Any) -> Any:
        is_past = (
            args[1] & os.O_DIRECT if refuses == "open" else fcntl.fcntl(args[0], fcntl.F_GETFL) & os.O_DIRECT
        )
        if is_past:
            refused.append(args)
            raise OSError(errno.EINVAL, "Invalid argument")
        return call(*args)

    monkeypatch.setattr(os, refuses, refuse)
    log = log_of(tmp_path, 8 * PAGE_BYTES, 10)
    for number in range(3):
        log.append([b"%d" % number * 100], 10 + 100 * number)
    assert log.read(311, 0) == b"-" * 10 + b"0" * 100 + b"1" * 100 + b"2" * 100 + b"\0"
    assert len(refused) <= 1, "it is not asked again"
    log.close()


def test_a_log_on_a_file_system_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        log = log_of(Path(name), 8 * PAGE_BYTES, PAGE_BYTES)
        log.append([b"x" * 10], PAGE_BYTES)
        log.sync()
        assert log.read(20, PAGE_BYTES - 5) == b"-" * 5 + b"x" * 10 + bytes(5)
        log.close()


def test_a_log_goes_on_through_the_cache_whenever_the_other_way_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(tmp_path, 8 * PAGE_BYTES, 10)
    log.append([b"x" * PAGE_BYTES], 10)
    call = os.pwritev

    def refuse(descriptor: int, *args: Any) -> int:
        if descriptor == log._past:
            raise OSError(errno.EINVAL, "Invalid argument")
        return call(descriptor, *args)

    monkeypatch.setattr(os, "pwritev", refuse)
    log.append([b"y" * PAGE_BYTES], 10 + PAGE_BYTES)
    expected = b"-" * 10 + b"x" * PAGE_BYTES + b"y" * PAGE_BYTES
    assert log.read(len(expected) + 1, 0) == expected + b"\0"
    log.close()


def test_nothing_is_appended_anywhere_else(tmp_path: Path) -> None:
    log = log_of(tmp_path, 8 * PAGE_BYTES, 10)
    with pytest.raises(AssertionError):
        log.append([b"x"], 11)
    log.close()


def test_a_log_for_which_there_is_no_memory_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_of(tmp_path, 8 * PAGE_BYTES, 10).close()
    before = os.listdir("/proc/self/fd")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", fail)
    with pytest.raises(StorageError, match=f"cannot open {tmp_path}/log: Cannot allocate memory"):
        DiskFiles(tmp_path).open_log("log", 10)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_log_that_cannot_be_written_says_so_and_no_other_way_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    log = log_of(tmp_path, 8 * PAGE_BYTES, 10)
    calls = []

    def fail(*args: object) -> int:
        calls.append(args)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwritev", fail)
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}/log: "):
        log.append([b"x"], 10)
    assert len(calls) == 1
    log.close()


def test_a_short_write_to_a_log_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of(tmp_path, 8 * PAGE_BYTES, 10)
    monkeypatch.setattr(os, "pwritev", lambda *_: 512)
    with pytest.raises(NoSpace, match=r"took 512 of 4096 bytes \(a short write\)"):
        log.append([b"12345"], 10)
    log.close()


def test_a_log_that_cannot_be_opened_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_of(tmp_path, 8 * PAGE_BYTES, 10).close()
    before = os.listdir("/proc/self/fd")

    def fail(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(path, flags, *mode)

    opened = os.open
    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StorageError, match=r"ulimit -n"):
        DiskFiles(tmp_path).open_log("log", 10)
    assert os.listdir("/proc/self/fd") == before


def test_a_journal_on_a_real_disk(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    for life in range(3):
        journal = Journal.open(files, 1 << 16)
        found = list(journal.recover())
        assert [each for each in found if each[0]] == [
            (key, b"value %d" % key) for key in range(1, 100 * life + 1)
        ]
        assert [data for key, data in found if not key] == [b"large" * 500_001] * life
        for key in range(100 * life + 1, 100 * life + 101):
            journal.append([Record(key, [b"value ", b"%d" % key])])
        assert journal.read(1) == b"value 1"
        journal.append([Record(0, [b"large" * 500_001])])
        journal.close()
