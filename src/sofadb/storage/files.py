"""The door to the disk.

Everything that storage does to a disk goes through two protocols, `Files` (one flat directory) and `File` (one open file
in it), so that a simulated disk can stand in for the real one and fail at any operation it likes.

What the door promises: `File.write` has taken all bytes or raises, since a short write is a failure and not a beginning.
What was written is durable when a later `File.sync` of that file has returned; until then any part of it may be lost. A
name made, changed or removed is durable when a later `Files.sync_directory` has returned. Every failure is a `StorageError`
whose text names the operation, the file, and what a person can do about it.

A full disk has an error of its own, `NoSpace`, where nothing but room is missing: whoever was making a new file may give
it up and go on.

It never retries. After a failed sync the kernel may have marked the lost pages clean, so that a second call succeeds over
data that is gone: whoever gets an error from a write or a sync has to stop.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

Buffer = bytes | memoryview

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
            if written != size:
                # A regular file takes fewer bytes than it is given only where a disk or a limit ends.
                raise NoSpace(
                    f"cannot write {self.path}: it took {written} of {size} bytes (a short write); is the disk full?"
                )
            offset += size

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


class DiskFiles:
    """`Files` of a real directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.directory))
        except OSError as problem:
            raise _explain(problem, "list", self.directory) from problem

    def create(self, name: str) -> File:
        return DiskFile(self.directory / name, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def open(self, name: str) -> File:
        return DiskFile(self.directory / name, os.O_RDWR)

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
