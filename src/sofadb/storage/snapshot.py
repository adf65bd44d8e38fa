"""Snapshots: what the log before them led to, in one file each.

A snapshot is written beside the ones that are there, under a name that says that it is not finished; it is synced, then renamed,
then its name is synced. So whatever stops the machine, the older ones are whole, and a new one is there as a whole or not at all.

It holds, one behind the other:

- a *header* page: whose it is, up to which instance it goes, a random salt;
- *meta*: bytes that only whoever writes and reads snapshots understands;
- *chunks*, of at most a mebibyte, of what the snapshot is of; how the writer was given its pieces does not matter;
- a *trailer*: how many chunks and bytes there are, and the SHA-256 of all the bytes, which is the digest of the state.

Each of these has a CRC32C, which covers the salt, too; a chunk's covers its number. So a chunk of another file, or of another
place, or one that was lost, is found out where it is read, before the digest is known. What is damaged is told as `Rot` and never
handed out, neither a chunk nor, in the end, the whole: **whoever reads takes nothing for true before the last piece is followed
by the end of the reading**.

The owner is the cluster, not the node: the file may be handed to another node as it is, in raw parts (`Snapshots.read_part`,
`ReceivedSnapshot`). What has arrived is verified chunk by chunk, also after a restart, and as a whole before it gets its name.

Errors: `NoSpace` while writing or receiving is over with `abort`. Any other failure of a write or a sync is as fatal as one of
the journal's (rule P1). One who only reads a snapshot is told of a disk that cannot read it as of `Rot`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from crc32c import crc32c

from .files import PAGE_BYTES, Buffer, File, Files, NoSpace, StorageError
from .segment import Rot

FORMAT_VERSION = 1
CHUNK_BYTES = 1 << 20
META_BYTES_MAX = 1 << 20
SYNC_BYTES = 8 << 20
"""So much is written before it is synced: less is left for the end, and the journal's syncs never wait for more."""
DAMAGED_MAX = 2
"""So many damaged ones are kept for whoever wants to look at them."""

_MAGIC = b"SofaSnap"
_END_MAGIC = b"SofaDone"
_HEADER = Struct(">8sIQQQI")  # magic, format, owner, instance, salt, bytes of meta
_CHUNK = Struct(">III")  # checksum, number, bytes after this header
_TRAILER = Struct(">8sQQ32s")  # magic, chunks, bytes in them, SHA-256 of these
_CHECKSUM = Struct(">I")
_CHECKED_BYTES = PAGE_BYTES - _CHECKSUM.size
"""The header's checksum covers so much and stands behind it, in every format version."""
TRAILER_BYTES = _TRAILER.size + _CHECKSUM.size
_NAME = re.compile(r"snapshot-([0-9a-f]{16})\.sofa", re.ASCII)
_NEW = ".new"
_PART = ".part"
_DAMAGED = "damaged-"


class RottenSnapshot(Rot):
    """What was once a whole snapshot is damaged."""

    remedy = "it is not used; an older one, or another node's, takes its place."


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What a snapshot says of itself at its beginning and its end."""

    name: str
    instance: int
    """It holds everything up to here."""
    salt: int = 0
    """Drawn for this very writing of it: two files of the same instance are not the same bytes."""
    meta_bytes: int = 0
    chunks: int = 0
    data_bytes: int = 0
    """Bytes in all chunks."""
    digest: bytes = b""
    """The SHA-256 of these."""
    damage: str = ""
    """Why it cannot be used, as far as its two ends and its size show."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return _body_offset(self.meta_bytes) + self.chunks * _CHUNK.size + self.data_bytes + TRAILER_BYTES


def snapshot_name(instance: int) -> str:
    return f"snapshot-{instance:016x}.sofa"


class _Header(NamedTuple):
    owner: int
    instance: int
    salt: int
    meta_bytes: int

    def encode(self) -> bytes:
        body = _HEADER.pack(_MAGIC, FORMAT_VERSION, *self).ljust(_CHECKED_BYTES, b"\0")
        return body + _CHECKSUM.pack(crc32c(body))

    @classmethod
    def decode(cls, data: Buffer, owner: int | None, name: str) -> _Header | str:
        """Return the header, or in words why it is none of ours. Raises `StorageError` for one of another format.

        Without an owner, whoever's it is, and whatever it is called.
        """
        if len(data) < PAGE_BYTES:
            return "the file is too short for a header"
        magic, version, *fields = _HEADER.unpack_from(data)
        fits = _CHECKSUM.unpack_from(data, _CHECKED_BYTES)[0] == crc32c(data[:_CHECKED_BYTES])
        if magic != _MAGIC or not fits:
            return "the header's checksum does not fit"
        if version != FORMAT_VERSION:
            raise StorageError(
                f"{name} has format version {version}, and this program knows version {FORMAT_VERSION}: "
                "start the node with a program that knows it"
            )
        header = cls(*fields)
        if owner not in (None, header.owner):
            return "it is of another cluster"
        if header.meta_bytes > META_BYTES_MAX:
            return f"it claims to have {header.meta_bytes} bytes of meta"
        if owner is not None and name != snapshot_name(header.instance):
            return f"it is of instance {header.instance}, not what its name says"
        return header

    def checksum(self, *buffers: Buffer) -> int:
        """Of what belongs to this very file."""
        checksum = crc32c(self.salt.to_bytes(8, "big"))
        for buffer in buffers:
            checksum = crc32c(buffer, checksum)
        return checksum


def _body_offset(meta_bytes: int) -> int:
    """Where the first chunk begins."""
    return PAGE_BYTES + meta_bytes + _CHECKSUM.size


def _random_salt() -> int:
    return int.from_bytes(os.urandom(8), "big")


class _Output:
    """A file that grows from its beginning to its end, synced as it goes."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.end = 0
        self._synced = 0

    def write(self, buffers: list[Buffer]) -> None:
        self.file.write(buffers, self.end)
        self.end += sum(map(len, buffers))
        if self.end - self._synced >= SYNC_BYTES:
            self.sync()

    def sync(self) -> None:
        self.file.sync()
        self._synced = self.end


class SnapshotWriter:
    """Writes one snapshot. All calls are made one after the other, in whatever thread.

    Raises `StorageError`; after one, `abort` may be called and nothing else. (`NoSpace` at the beginning leaves nothing behind.)
    """

    def __init__(
        self,
        files: Files,
        owner: int,
        instance: int,
        meta: bytes,
        new_salt: Callable[[], int] = _random_salt,
    ) -> None:
        assert len(meta) <= META_BYTES_MAX
        self.name = snapshot_name(instance)
        self._files = files
        self._header = _Header(owner, instance, new_salt(), len(meta))
        self._pieces: list[Buffer] = []
        self._pieces_bytes = 0
        self._chunks = self._bytes = 0
        self._digest = hashlib.sha256()
        self._output = _Output(_create(files, self.name + _NEW))
        try:
            self._output.write([self._header.encode(), meta, _CHECKSUM.pack(self._header.checksum(meta))])
        except NoSpace:
            self.abort()
            raise

    def write(self, piece: Buffer) -> None:
        """Add a piece, of any size. Its bytes must not change before `finish`."""
        rest = memoryview(piece)
        while rest:
            part = rest[: CHUNK_BYTES - self._pieces_bytes]
            rest = rest[len(part) :]
            self._pieces.append(part)
            self._pieces_bytes += len(part)
            if self._pieces_bytes == CHUNK_BYTES:
                self._write_chunk()

    def _write_chunk(self) -> None:
        pieces, size = self._pieces, self._pieces_bytes
        self._pieces, self._pieces_bytes = [], 0
        for piece in pieces:
            self._digest.update(piece)
        fields = _CHUNK.pack(0, self._chunks, size)[_CHECKSUM.size :]
        checksum = self._header.checksum(fields, *pieces)
        self._output.write([_CHECKSUM.pack(checksum), fields, *pieces])
        self._chunks += 1
        self._bytes += size

    def finish(self) -> SnapshotInfo:
        """Have it in its place, durably, instead of one of the same instance."""
        if self._pieces:
            self._write_chunk()
        digest = self._digest.digest()
        body = _TRAILER.pack(_END_MAGIC, self._chunks, self._bytes, digest)
        self._output.write([body, _CHECKSUM.pack(self._header.checksum(body))])
        self._output.sync()
        self._output.file.close()
        self._files.rename(self.name + _NEW, self.name)
        self._files.sync_directory()
        _, instance, salt, meta_bytes = self._header
        return SnapshotInfo(self.name, instance, salt, meta_bytes, self._chunks, self._bytes, digest)

    def abort(self) -> None:
        """Leave nothing behind."""
        self._output.file.close()
        self._files.remove(self.name + _NEW)


def _create(files: Files, name: str) -> File:
    """A new file in the place of one that nobody needs."""
    if name in files.names():
        files.remove(name)
    return files.create(name)


class _Walk:
    """Goes through a snapshot's file from its beginning; what it has passed is whole."""

    def __init__(self, file: File, name: str, owner: int | None, size: int, salt: int) -> None:
        """`name` is what it is or shall be called; `size`, which it has or shall have, in bytes."""
        self.file = file
        self.name = name
        self.owner = owner
        self.size = size
        self.salt = salt
        self.offset = 0
        """Everything before is whole."""
        self.header: _Header | None = None
        self.meta = b""
        self.chunks = self.bytes = 0
        self.digest = hashlib.sha256()
        self.is_over = False
        """Whether it has passed the trailer: all of it is whole."""

    def next(self, available: int) -> bytes | None:
        """The bytes of the next chunk, if all of it lies before `available`; None too when it is over. Raises `Rot`."""
        while not self.is_over:
            if self.header is None:
                size, pass_on = PAGE_BYTES, self._pass_header
            elif self.offset == PAGE_BYTES:
                size, pass_on = self.header.meta_bytes + _CHECKSUM.size, self._pass_meta
            elif self.offset == self.size - TRAILER_BYTES:
                size, pass_on = TRAILER_BYTES, self._pass_trailer
            else:
                return self._next_chunk(available, self.header)
            if self.offset + size > self.size:
                raise self._rot("it ends too early")
            if self.offset + size > available:
                return None
            pass_on(self._read(size, self.offset))
            self.offset += size
        return None

    def _pass_header(self, data: bytes) -> None:
        header = _Header.decode(data, self.owner, self.name)
        if isinstance(header, str):
            raise self._rot(header)
        if header.salt != self.salt:
            raise self._rot("it is of another writing of this snapshot")
        if _body_offset(header.meta_bytes) + TRAILER_BYTES > self.size:
            raise self._rot("it ends too early")
        self.header = header

    def _pass_meta(self, data: bytes) -> None:
        assert self.header is not None
        meta = data[: -_CHECKSUM.size]
        if data[len(meta) :] != _CHECKSUM.pack(self.header.checksum(meta)):
            raise self._rot("the checksum of its meta does not fit")
        self.meta = meta

    def _next_chunk(self, available: int, header: _Header) -> bytes | None:
        begin, end = self.offset + _CHUNK.size, self.size - TRAILER_BYTES
        if begin > end:
            raise self._rot("there is no room for a chunk")
        if begin > available:
            return None
        head = self._read(_CHUNK.size, self.offset)
        checksum, number, size = _CHUNK.unpack(head)
        if number != self.chunks or not 0 < size <= min(CHUNK_BYTES, end - begin):
            raise self._rot(f"it is not chunk {self.chunks}")
        if begin + size > available:
            return None
        data = self._read(size, begin)
        if header.checksum(head[_CHECKSUM.size :], data) != checksum:
            raise self._rot(f"the checksum of chunk {number} does not fit")
        self.digest.update(data)
        self.chunks += 1
        self.bytes += size
        self.offset = begin + size
        return data

    def _pass_trailer(self, data: bytes) -> None:
        assert self.header is not None
        trailer = _decode_trailer(data, self.header)
        if trailer != (self.chunks, self.bytes, self.digest.digest()):
            raise self._rot("the end does not tell of what stands before it")
        self.is_over = True

    def _read(self, size: int, offset: int) -> bytes:
        try:
            data = self.file.read(size, offset)
        except StorageError as problem:
            raise self._rot(str(problem)) from problem
        if len(data) != size:
            raise self._rot("it ends too early")
        return data

    def _rot(self, reason: str) -> RottenSnapshot:
        return RottenSnapshot(self.name, self.offset, reason)


def _decode_trailer(data: bytes, header: _Header) -> tuple[int, int, bytes] | None:
    """Chunks, bytes, digest."""
    body = data[: _TRAILER.size]
    if len(data) != TRAILER_BYTES or data[_TRAILER.size :] != _CHECKSUM.pack(header.checksum(body)):
        return None
    magic, chunks, size, digest = _TRAILER.unpack(body)
    return (chunks, size, digest) if magic == _END_MAGIC else None


class SnapshotReader:
    """One snapshot, open. Everything raises `Rot` for what is not as it was written."""

    def __init__(self, file: File, info: SnapshotInfo, owner: int | None) -> None:
        self.info = info
        self._file = file
        self._walk = _Walk(file, info.name, owner, info.size, info.salt)
        self._first = self._walk.next(info.size)

    @property
    def meta(self) -> bytes:
        return self._walk.meta

    def pieces(self) -> Iterator[bytes]:
        """All its bytes, once. They are proven to be all, and the right ones, when the last was followed by the end."""
        piece, self._first = self._first, None
        while piece is not None:
            yield piece
            piece = self._walk.next(self.info.size)

    def close(self) -> None:
        self._file.close()


class Snapshots:
    """Those in a directory. Make one at start, before anything is written: what earlier lives left unfinished is removed."""

    def __init__(self, files: Files, owner: int) -> None:
        """`owner` is the cluster's number, of 64 bits. Raises `StorageError`."""
        self.files = files
        self.owner = owner
        for name in files.names():
            if name.endswith(_NEW) and _NAME.fullmatch(name.removesuffix(_NEW)):
                files.remove(name)
        # A life that was killed may have renamed and not synced that: what we find is there to stay from now on.
        files.sync_directory()

    def found(self) -> list[SnapshotInfo]:
        """All of them, the newest first, with what their two ends tell; of a damaged one, why.

        Raises `StorageError` if there is one of another format version.
        """
        names = [name for name in self.files.names() if _NAME.fullmatch(name)]
        return [self._look(name) for name in reversed(names)]

    def _look(self, name: str) -> SnapshotInfo:
        with closing(self.files.open(name)) as file:
            return _look(file, name, self.owner)

    def open(self, name: str) -> SnapshotReader:
        """Open one to read it. Raises `Rot`."""
        return open_snapshot(self.files, name, self.owner)

    def verify(self, name: str) -> SnapshotInfo:
        """Read all of one. Raises `Rot`."""
        with closing(self.open(name)) as reader:
            for _ in reader.pieces():
                pass
            return reader.info

    def read_part(self, name: str, offset: int, size: int) -> bytes:
        """Raw bytes, for `ReceivedSnapshot`, which verifies them; fewer where the file ends. Raises `StorageError`."""
        with closing(self.files.open(name)) as file:
            return file.read(size, offset)

    def quarantine(self, name: str) -> str:
        """Put a damaged one where it is not found; its new name. Of those only the newest few are kept."""
        self.files.rename(name, _DAMAGED + name)
        damaged = [each for each in self.files.names() if each.startswith(_DAMAGED)]
        for each in damaged[:-DAMAGED_MAX]:
            self.files.remove(each)
        self.files.sync_directory()
        return _DAMAGED + name

    def keep(self, count: int) -> None:
        """Remove all but the `count` newest. Damaged ones do not count, and stay."""
        assert count > 0
        for info in [info for info in self.found() if not info.damage][count:]:
            self.files.remove(info.name)
        self.files.sync_directory()


def open_snapshot(files: Files, name: str, owner: int | None = None) -> SnapshotReader:
    """Open one to read it; without an owner, whoever's it is, and whatever it is called. Raises `Rot` and `StorageError`."""
    file = files.open(name)
    try:
        info = _look(file, name, owner)
        if info.damage:
            raise RottenSnapshot(name, 0, info.damage)
        return SnapshotReader(file, info, owner)
    except BaseException:
        file.close()
        raise


def _look(file: File, name: str, owner: int | None) -> SnapshotInfo:
    """What a file says of itself."""
    parts = _NAME.fullmatch(name)
    assert parts is not None or owner is None
    instance = 0 if parts is None else int(parts[1], 16)
    try:
        size = file.size()
        first = file.read(PAGE_BYTES, 0)
        last = file.read(TRAILER_BYTES, max(0, size - TRAILER_BYTES))
    except StorageError as problem:
        return SnapshotInfo(name, instance, damage=str(problem))
    header = _Header.decode(first, owner, name)
    if isinstance(header, str):
        return SnapshotInfo(name, instance, damage=header)
    trailer = _decode_trailer(last, header)
    if trailer is None:
        return SnapshotInfo(name, instance, damage="its end is damaged or missing")
    info = SnapshotInfo(name, header.instance, header.salt, header.meta_bytes, *trailer)
    if info.size != size:
        return SnapshotInfo(name, instance, damage=f"it has {size} bytes and should have {info.size}")
    return info


class ReceivedSnapshot:
    """One that arrives from another node in raw parts, from its beginning to its end. All calls in one thread at a time.

    What has arrived is known to be good up to `offset`, but for the chunk that is not whole yet. After a restart it is found
    again. Raises `StorageError`; after `NoSpace` the same part may be tried again.
    """

    def __init__(self, files: Files, owner: int | None, instance: int, size: int, salt: int) -> None:
        """`size` and `salt` are those that the other node's `SnapshotInfo` has. Any other that was begun is given up.

        The owner is not known to who only keeps it.
        """
        self.name = snapshot_name(instance)
        self._files = files
        self._part = self.name + _PART
        names = files.names()
        for name in names:
            if name.endswith(_PART) and name != self._part:
                files.remove(name)
        file = files.open(self._part) if self._part in names else files.create(self._part)
        if file.size() > size:
            file.close()
            file = _create(files, self._part)
        self._output = _Output(file)
        self._walk = _Walk(file, self.name, owner, size, salt)
        with suppress(Rot):  # What is behind it arrives once more.
            self._go_on(file.size())
        # An earlier life may have died of a failed sync. What only the cache has is written anew, and then synced.
        for begin in range(0, self._walk.offset, CHUNK_BYTES):
            self._output.write([file.read(min(CHUNK_BYTES, self._walk.offset - begin), begin)])

    @property
    def offset(self) -> int:
        """The next part has to begin here."""
        return self._output.end

    @property
    def is_whole(self) -> bool:
        """Whether all of it has arrived, and was read back and found to be what was written on the other node."""
        return self._walk.is_over

    def write(self, offset: int, part: Buffer) -> int:
        """Take the part that begins at `offset`; where the next has to begin. One that does not fit changes nothing.

        Raises `Rot` if it is not what the other node has written: then `offset` is where it has to be sent from again.
        """
        if offset == self.offset and 0 < len(part) <= self._walk.size - offset:
            self._output.write([part])
            try:
                self._go_on(self._output.end)
            except Rot:
                self._output.end = self._walk.offset
                raise
        return self.offset

    def _go_on(self, available: int) -> None:
        while self._walk.next(available) is not None:
            pass

    def finish(self) -> SnapshotInfo:
        """Have what `is_whole` in its place, durably."""
        assert self.is_whole
        self._output.sync()
        self._files.rename(self._part, self.name)
        self._files.sync_directory()
        try:
            return _look(self._output.file, self.name, self._walk.owner)
        finally:
            self.close()

    def close(self) -> None:
        """Keep what has arrived for later."""
        self._output.file.close()

    def abort(self) -> None:
        """Leave nothing behind."""
        self.close()
        self._files.remove(self._part)
