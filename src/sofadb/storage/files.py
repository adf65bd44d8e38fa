"""The door to the disk.

Everything that storage does to a disk goes through two protocols, `Files` (one flat directory) and `File` (one open file
in it), so that a simulated disk can stand in for the real one and fail at any operation it likes.

What the door promises: `File.write` and `Log.append` have taken all bytes or raise, since a short write is a failure and not
a beginning. What was written is durable when a later `File.sync` of that file has returned; until then any part of it may be
lost. A name made, changed or removed is durable when a later `Files.sync_directory` has returned. Every failure is a
`StorageError` whose text names the operation, the file, and what a person can do about it.

A full disk has an error of its own, `NoSpace`, where nothing but room is missing: whoever was making a new file may give
it up and go on.

What is appended to a log goes past the page cache (O_DIRECT), where the file system lets it: it would be copied there, into
memory that no processor's cache holds, only to be written at once, and hardly anybody reads it again. The disk takes whole
pages; so the last one, which the log fills in part, is kept and written again with what comes next. (The page cache does
the same.)

It never retries. After a failed sync the kernel may have marked the lost pages clean, so that a second call succeeds over
data that is gone: whoever gets an error from a write or a sync has to stop.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

Buffer = bytes | memoryview

PAGE_BYTES = 4096
STAGE_BYTES = 1 << 20
"""What is appended is put together in pieces of so much."""
BUFFERS_MAX = 1024
"""The kernel takes no more buffers than this in one call (IOV_MAX of Linux)."""

_FULL = "free some space or raise the quota; a node that has ended of it must be started again"
_RIGHTS = "give the user of this process the right to read and write the data directory"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: "the kernel does this after a fault of the file system: look into its log",
    errno.EIO: "the disk reported a fault: look into the kernel's log before it is trusted again",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EMFILE: "raise the limit of open files of this process (ulimit -n)",
    errno.ENOENT: "was the data directory moved or cleaned while the node ran?",
}


class StorageError(Exception):
    """The disk did not do what it was asked, or what lies on it is not what was written. The text is for a person."""


class NoSpace(StorageError):
    """There is no room for what was to be made or written, and nothing else is wrong with the disk."""


class File(Protocol):
    """One open file. It may be read in one thread while another writes to it."""

    name: str
    """Its name within the directory, as it was when the file was opened."""

    def write(self, buffers: Sequence[Buffer], offset: int) -> None:
        """Write the buffers one behind the other from `offset` (bytes) on: all of it, or `StorageError`.

        `NoSpace` if the disk is full; some of it may have been written.
        """

    def read(self, size: int, offset: int) -> bytes:
        """Return `size` bytes from `offset` on, fewer only where the file ends."""
        ...

    def sync(self) -> None:
        """Return when everything written to this file before is durable."""

    def size(self) -> int:
        """The length of the file in bytes."""
        ...

    def close(self) -> None:
        """Give the descriptor back. Says nothing about durability."""


class Log(File, Protocol):
    """A file, of whole pages and with room enough, in which one thing is written behind the other."""

    def append(self, buffers: Sequence[Buffer], offset: int) -> None:
        """Write the buffers at `offset`, which is where the last ones ended: all of it, or `StorageError`.

        What is behind them on their last page may be zeros afterwards.
        """


class Files(Protocol):
    """One directory and the plain files in it."""

    def names(self) -> list[str]:
        """The names of all files, sorted."""
        ...

    def create(self, name: str) -> File:
        """Open a new and empty file; `StorageError` if the name is taken, `NoSpace` if the disk is full."""
        ...

    def open(self, name: str) -> File:
        """Open an existing file to read and write."""
        ...

    def open_log(self, name: str, end: int) -> Log:
        """Open an existing file to append to it from `end` (bytes) on."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in place of whatever had it."""

    def remove(self, name: str) -> None:
        """Remove a name."""

    def sync_directory(self) -> None:
        """Return when all names made, changed or removed before are durable."""


class DiskFile:
    """A `File` on a real disk."""

    __slots__ = ("_descriptor", "name", "path")

    def __init__(self, path: Path, flags: int) -> None:
        self.path = path
        self.name = path.name
        try:
            self._descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise _explain(problem, "open", path) from problem

    def write(self, buffers: Sequence[Buffer], offset: int) -> None:
        for first in range(0, len(buffers), BUFFERS_MAX):
            part = buffers[first : first + BUFFERS_MAX]
            size = sum(map(len, part))
            try:
                written = os.pwritev(self._descriptor, part, offset)
            except OSError as problem:
                raise _explain(problem, "write", self.path) from problem
            self._check_written(written, size)
            offset += size

    def _check_written(self, written: int, size: int) -> None:
        if written != size:
            # A regular file takes fewer bytes than it is given only where a disk or a limit ends.
            raise NoSpace(
                f"cannot write {self.path}: it took {written} of {size} bytes (a short write); is the disk full?"
            )

    def read(self, size: int, offset: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            try:
                part = os.pread(self._descriptor, size, offset)
            except OSError as problem:
                raise _explain(problem, "read", self.path) from problem
            if not part:
                break
            parts.append(part)
            size -= len(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as problem:
            raise _explain(problem, "sync", self.path) from problem

    def size(self) -> int:
        try:
            return os.fstat(self._descriptor).st_size
        except OSError as problem:
            raise _explain(problem, "look at", self.path) from problem

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.close(descriptor)
            except OSError as problem:
                raise _explain(problem, "close", self.path) from problem


class DiskLog(DiskFile):
    """A `Log` on a real disk."""

    __slots__ = ("_begun", "_page", "_past", "_stage")

    def __init__(self, path: Path, flags: int, end: int) -> None:
        super().__init__(path, flags)
        self._begun = end % PAGE_BYTES
        """So much of the last page is filled."""
        self._page = end - self._begun
        """Where that page is."""
        self._past = -1
        """The descriptor that goes past the page cache, if there is one."""
        try:
            self._stage = memoryview(mmap.mmap(-1, STAGE_BYTES))
            """Memory that begins as a page does, as the disk wants it. It begins with what the last page of the log has."""
            self._stage[: self._begun] = self.read(self._begun, self._page)
            self._past = _open_past_the_cache(path, flags)
        except OSError as problem:
            self.close()
            raise _explain(problem, "open", path) from problem
        except BaseException:
            self.close()
            raise

    def append(self, buffers: Sequence[Buffer], offset: int) -> None:
        stage, at = self._stage, self._begun
        assert offset == self._page + at, "something is left out, or written over"
        for buffer in buffers:
            rest = buffer
            while len(rest) > STAGE_BYTES - at:
                room = STAGE_BYTES - at
                rest = memoryview(rest)
                stage[at:] = rest[:room]
                self._write_pages(STAGE_BYTES)
                rest, at = rest[room:], 0
            stage[at : at + len(rest)] = rest
            at += len(rest)
        begun = at % PAGE_BYTES
        whole = at - begun
        if begun:
            stage[at : whole + PAGE_BYTES] = bytes(PAGE_BYTES - begun)
        self._write_pages(whole + (PAGE_BYTES if begun else 0))
        stage[:begun] = stage[whole:at]
        self._begun = begun
        self._page -= PAGE_BYTES if begun else 0

    def _write_pages(self, size: int) -> None:
        """Write so much of the stage; the next of it comes behind that."""
        pages = self._stage[:size]
        if self._past >= 0:
            try:
                self._check_written(os.pwritev(self._past, [pages], self._page), size)
            except OSError as problem:
                if problem.errno != errno.EINVAL:
                    raise _explain(problem, "write", self.path) from problem
                # It cannot do it after all: its own pages are larger, or the like. Nothing is written.
                os.close(self._past)
                self._past = -1
        if self._past < 0:
            self.write([pages], self._page)
        self._page += size

    def close(self) -> None:
        try:
            super().close()
        finally:
            if self._past >= 0:
                descriptor, self._past = self._past, -1
                try:
                    os.close(descriptor)
                except OSError as problem:
                    raise _explain(problem, "close", self.path) from problem


def _open_past_the_cache(path: Path, flags: int) -> int:
    """A descriptor, or -1: this file system does not do it."""
    try:
        return os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as problem:
        if problem.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return -1
        raise


class DiskFiles:
    """`Files` of a real directory."""

    def __init__(self, directory: Path, may_write: bool = True) -> None:
        self.directory = directory
        self._flags = os.O_RDWR if may_write else os.O_RDONLY

    def names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.directory))
        except OSError as problem:
            raise _explain(problem, "list", self.directory) from problem

    def create(self, name: str) -> File:
        return DiskFile(self.directory / name, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def open(self, name: str) -> File:
        return DiskFile(self.directory / name, self._flags)

    def open_log(self, name: str, end: int) -> Log:
        return DiskLog(self.directory / name, self._flags, end)

    def rename(self, old: str, new: str) -> None:
        try:
            os.rename(self.directory / old, self.directory / new)
        except OSError as problem:
            raise _explain(problem, "rename", self.directory / old) from problem

    def remove(self, name: str) -> None:
        try:
            os.unlink(self.directory / name)
        except OSError as problem:
            raise _explain(problem, "remove", self.directory / name) from problem

    def sync_directory(self) -> None:
        try:
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as problem:
            raise _explain(problem, "sync", self.directory) from problem


class _Untouched:
    """A file of which only what reads does anything."""

    def __init__(self, file: File) -> None:
        self.name = file.name
        self.read, self.size, self.close = file.read, file.size, file.close

    def write(self, buffers: Sequence[Buffer], offset: int) -> None:
        """Nothing is written."""

    def append(self, buffers: Sequence[Buffer], offset: int) -> None:
        """Nothing is written."""

    def sync(self) -> None:
        """There is nothing to sync."""


class UntouchedFiles:
    """A directory that is only looked at: what would change something in it does nothing.

    So whoever reads a log to its end, and then says on disk that it did, can read one that must stay as it is.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self.names = files.names

    def create(self, name: str) -> File:
        raise StorageError(f"{name} is not made: this directory is only looked at")

    def open(self, name: str) -> File:
        return _Untouched(self._files.open(name))

    def open_log(self, name: str, end: int) -> Log:
        return _Untouched(self._files.open(name))

    def rename(self, old: str, new: str) -> None:
        """It keeps its name."""

    def remove(self, name: str) -> None:
        """It stays."""

    def sync_directory(self) -> None:
        """There is nothing to sync."""


def _explain(problem: OSError, doing: str, path: Path) -> StorageError:
    """Put what the system reports into words."""
    words = [f"cannot {doing} {path}: {problem.strerror or problem}"]
    if doing == "sync":
        words.append(
            "it is not tried again, since after a failed sync the page cache can no longer be trusted"
        )
    remedy = _REMEDIES.get(problem.errno or 0)
    if remedy is not None:
        words.append(remedy)
    # A sync that finds no room has lost what was written: that is a failure like any other.
    is_full = remedy is _FULL and doing != "sync"
    return (NoSpace if is_full else StorageError)("; ".join(words))
