"""The door to the real disk: what was written is read, and every failure names the file and a remedy."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sofadb.storage.files import BUFFERS_MAX, DiskFiles, StorageError
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


def test_a_journal_on_a_real_disk(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path)
    for life in range(3):
        journal = Journal.open(files, 1 << 16)
        assert list(journal.recover()) == [(key, b"value %d" % key) for key in range(1, 100 * life + 1)]
        for key in range(100 * life + 1, 100 * life + 101):
            journal.append([Record(key, [b"value ", b"%d" % key])])
        assert journal.read(1) == b"value 1"
        journal.close()
