"""A disk in memory that can be crashed: what was not synced is lost, or kept in part, as real disks do.

Every operation is counted. At the k-th one the machine may stop (`Crash`) or the operation may fail. After a crash `survive`
gives a new disk with what was synced, and of the rest any choice of 512-byte blocks and of directory entries. After `killed`
only the process has ended: the cache is still there. A sync that fails leaves its pages in the cache and off the disk, and the
next one does not write them. A disk may be full, and let bits rot.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sofadb.storage.files import PAGE_BYTES, Buffer, NoSpace, StorageError

BLOCK = 512


class Crash(BaseException):
    """The machine stops here."""


@dataclass
class Inode:
    stable: bytearray = field(default_factory=bytearray)
    """What has been synced."""
    latest: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)
    """The blocks that a sync will write."""

    def write_back(self) -> None:
        if len(self.stable) < len(self.latest):
            self.stable.extend(bytes(len(self.latest) - len(self.stable)))
        for block in self.dirty:
            begin = block * BLOCK
            self.stable[begin : begin + BLOCK] = self.latest[begin : begin + BLOCK]
        self.dirty.clear()


class SimulatedFile:
    """An open file of a `SimulatedDisk`."""

    def __init__(self, disk: SimulatedDisk, name: str, inode: Inode) -> None:
        self.disk = disk
        self.name = name
        self.inode = inode
        self.is_open = True
        self.end: int | None = None
        """Of a log: where what was appended ends."""
        disk.open_files += 1

    def write(self, buffers: Sequence[Buffer], offset: int) -> None:
        assert self.is_open
        data = b"".join(buffers)
        latest = self.inode.latest
        if self.disk.is_full and offset + len(data) > len(latest):
            self.disk.refusals += 1
            raise NoSpace(f"write {self.name} failed: ENOSPC")
        if len(latest) < offset + len(data):
            latest.extend(bytes(offset + len(data) - len(latest)))
        latest[offset : offset + len(data)] = data
        self.inode.dirty.update(range(offset // BLOCK, -(-(offset + len(data)) // BLOCK)))
        # The machine may stop in the middle of a write as well: whatever is not synced may be lost, or kept.
        self.disk.count("write", self.name)

    def append(self, buffers: Sequence[Buffer], offset: int) -> None:
        assert offset == self.end
        begin, self.end = offset - offset % PAGE_BYTES, offset + sum(map(len, buffers))
        before, behind = self.read(offset - begin, begin), bytes(-self.end % PAGE_BYTES)
        self.write([before, *buffers, behind], begin)

    def read(self, size: int, offset: int) -> bytes:
        assert self.is_open
        return bytes(self.inode.latest[offset : offset + size])

    def size(self) -> int:
        return len(self.inode.latest)

    def sync(self) -> None:
        if self.disk.will_fail("sync"):
            # As Linux does it: the pages are taken for clean from now on, though the disk does not have them.
            self.inode.dirty.clear()
        self.disk.count("sync", self.name)
        self.inode.write_back()

    def close(self) -> None:
        self.disk.open_files -= self.is_open
        self.is_open = False


class SimulatedDisk:
    """`Files` of one directory."""

    def __init__(self) -> None:
        self.latest: dict[str, Inode] = {}
        self.stable: dict[str, Inode] = {}
        self.operations = 0
        self.open_files = 0
        self.crash_at = -1
        self.fail_at: dict[int, int] = {}
        """Operation number -> errno."""
        self.fail_next: dict[str, int] = {}
        """Kind of operation -> errno: the next of its kind fails."""
        self.is_full = False
        self.failures = 0
        """How many operations have failed."""
        self.refusals = 0
        """How many found no room: that is for whoever asked to get over, or to end of."""
        self.on_crash: Callable[[], None] = lambda: None
        """Called when the machine stops in the middle of an operation."""
        self.log: list[tuple[str, str]] | None = []
        """All operations; None: they are not kept."""

    def will_fail(self, what: str) -> bool:
        """Whether the next operation, which is a `what`, fails."""
        return self.operations + 1 in self.fail_at or what in self.fail_next

    def count(self, what: str, name: str) -> None:
        self.operations += 1
        if self.log is not None:
            self.log.append((what, name))
        if self.operations == self.crash_at:
            self.on_crash()
            raise Crash
        problem = self.fail_at.get(self.operations) or self.fail_next.pop(what, None)
        if problem is not None:
            is_full = problem in (errno.ENOSPC, errno.EDQUOT) and what in ("create", "write")
            self.failures += not is_full
            self.refusals += is_full
            raise (NoSpace if is_full else StorageError)(f"{what} {name} failed: {errno.errorcode[problem]}")

    def names(self) -> list[str]:
        return sorted(self.latest)

    def create(self, name: str) -> SimulatedFile:
        assert name not in self.latest
        if self.is_full:
            self.refusals += 1
            raise NoSpace(f"create {name} failed: ENOSPC")
        self.latest[name] = Inode()
        self.count("create", name)
        return SimulatedFile(self, name, self.latest[name])

    def open(self, name: str) -> SimulatedFile:
        if name not in self.latest:
            raise StorageError(f"open {name} failed: ENOENT")
        return SimulatedFile(self, name, self.latest[name])

    def open_log(self, name: str, end: int) -> SimulatedFile:
        file = self.open(name)
        file.end = end
        return file

    def rename(self, old: str, new: str) -> None:
        self.latest[new] = self.latest.pop(old)
        self.count("rename", new)

    def remove(self, name: str) -> None:
        del self.latest[name]
        self.count("remove", name)

    def sync_directory(self) -> None:
        self.count("sync directory", "")
        self.stable = dict(self.latest)

    def killed(self) -> SimulatedDisk:
        """What the next life finds if only the process dies: all that was written, and still nothing more of it synced."""
        self.crash_at = -1
        self.fail_at = {}
        return self.copy()

    def survive(self, choose: Callable[[int], bool]) -> SimulatedDisk:
        """What a new life finds. `choose(n)` says whether the n-th unsynced thing was kept."""
        number = 0
        names = dict(self.stable)
        for name in sorted(set(self.latest) | set(self.stable)):
            if self.latest.get(name) is not self.stable.get(name):
                if choose(number):
                    names.pop(name, None)
                    if name in self.latest:
                        names[name] = self.latest[name]
                number += 1
        kept = SimulatedDisk()
        copies: dict[int, Inode] = {}
        for name, inode in names.items():
            if id(inode) in copies:
                continue  # A rename of which only one half was kept: one name, not two.
            content = bytearray(inode.stable)
            if len(inode.latest) > len(content):
                content.extend(bytes(len(inode.latest) - len(content)))
            for begin in range(0, len(inode.latest), BLOCK):
                if content[begin : begin + BLOCK] != inode.latest[begin : begin + BLOCK]:
                    if choose(number):
                        content[begin : begin + BLOCK] = inode.latest[begin : begin + BLOCK]
                    number += 1
            copies[id(inode)] = Inode(bytearray(content), bytearray(content))
            kept.latest[name] = copies[id(inode)]
        kept.stable = dict(kept.latest)
        return kept

    def flip(self, name: str, offset: int, bit: int = 0) -> None:
        """One bit of a file is not what was written."""
        inode = self.latest[name]
        inode.latest[offset] ^= 1 << bit
        inode.stable[offset] = inode.latest[offset]

    def forget_unfinished(self) -> None:
        """Files that hold nothing yet are gone: spare segments, reserves and snapshots that were not finished."""
        unfinished = {
            name for name, inode in self.latest.items() if inode.dirty or self.stable.get(name) is not inode
        }
        for names in (self.latest, self.stable):
            unused = [
                name
                for name in names
                if name.startswith("spare-")
                or name.endswith((".new", ".part"))
                or (name.startswith("reserve-") and name in unfinished)
            ]
            for name in unused:
                del names[name]

    def copy(self) -> SimulatedDisk:
        """What lies on it now, cache included, on another disk."""
        twin = SimulatedDisk()
        copies = {
            id(inode): Inode(bytearray(inode.stable), bytearray(inode.latest), set(inode.dirty))
            for inode in (*self.latest.values(), *self.stable.values())
        }
        twin.latest = {name: copies[id(inode)] for name, inode in self.latest.items()}
        twin.stable = {name: copies[id(inode)] for name, inode in self.stable.items()}
        twin.operations = self.operations
        return twin
