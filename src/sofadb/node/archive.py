"""The archive: everything that was chosen, as files in a place of their own, so that any point in time can be gone back to.

There is a folder for each cluster. In it are snapshots, byte for byte under their own names, and *stretches*: files of the
values of consecutive instances, named by the first and the last. Whoever writes, writes only what is chosen; so two nodes that
both take themselves for the leader may write stretches that overlap, and files of the same name are the same. Nothing is ever
removed or changed here.

A stretch is a header (mark, version, the cluster's number, first instance, how many), the records as they are in the journal
(each a `Learned`, with its length in front), and a CRC32C of all of it.

A place is a directory, or whatever `fsspec` has a URL for; then that is imported. A file is written under another name first,
and renamed when it is whole. `Unavailable` tells of whatever goes wrong there: no archive is worth a node.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from typing import Any, Protocol

from crc32c import crc32c

from sofadb.paxos import Instance, Value
from sofadb.paxos.codec import Malformed, decode_record, encode
from sofadb.paxos.records import Learned

VERSION = 1
STRETCH_BYTES = 4 << 20
"""A stretch is no larger than this, or has one value."""
STRETCH_BYTES_MAX = 512 << 20
"""None is read that is larger."""
READ_BYTES = 1 << 20

_HEADER = Struct(">8sIQQI")  # mark, version, cluster, first instance, count
_MARK = b"SofaVals"
_SIZE = Struct(">I")
_CHECKSUM = Struct(">I")
_STRETCH = re.compile(r"values-([0-9a-f]{16})-([0-9a-f]{16})\.sofa", re.ASCII)
SNAPSHOT = re.compile(r"snapshot-([0-9a-f]{16})\.sofa", re.ASCII)
CLUSTER = re.compile(r"[0-9a-f]{16}", re.ASCII)
_NEW = ".new"


class Unavailable(Exception):
    """The archive cannot be reached, or does not do what it is asked. The text is for a person."""


class BadStretch(Exception):
    """A file of an archive is not what was written."""


class Place(Protocol):
    """A folder somewhere. All of it may take long, and raises `Unavailable`."""

    def names(self) -> list[str]:
        """The names of all files and folders in it, sorted; none if it is not there yet."""
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """A file, in pieces."""
        ...

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        """Have a file there, whole or not at all."""

    def folder(self, name: str) -> Place:
        """A folder in it."""
        ...


class DirectoryPlace:
    """A directory of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.path))
        except FileNotFoundError:
            return []
        except OSError as problem:
            raise Unavailable(f"{self.path}: {problem.strerror}") from None

    def read(self, name: str) -> Iterator[bytes]:
        try:
            with (self.path / name).open("rb") as file:
                while data := file.read(READ_BYTES):
                    yield data
        except OSError as problem:
            raise Unavailable(f"{self.path / name}: {problem.strerror}") from None

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        new = self.path / (name + _NEW)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with new.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            new.rename(self.path / name)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as problem:
            raise Unavailable(f"{self.path / name}: {problem.strerror}") from None

    def folder(self, name: str) -> DirectoryPlace:
        return DirectoryPlace(self.path / name)


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Whatever goes wrong in here is told as `Unavailable`."""
    try:
        yield
    except Unavailable:
        raise
    except Exception as problem:  # noqa: BLE001 (Each kind of URL has a library of its own, which raises what it likes.)
        raise Unavailable(f"{where}: {problem}") from None


class RemotePlace:
    """What `fsspec` has a URL for."""

    def __init__(self, files: Any, path: str) -> None:
        self._files = files
        self.path = path

    @classmethod
    def at(cls, url: str) -> RemotePlace:
        """Raises `Unavailable`."""
        with _told(url):
            from fsspec.core import url_to_fs

            # Listings are not to be kept: other nodes write, too.
            return cls(*url_to_fs(url, use_listings_cache=False))
        raise AssertionError

    def names(self) -> list[str]:
        with _told(self.path):
            if self._files.exists(self.path):
                found = self._files.ls(self.path, detail=False)
                return sorted(str(each).rstrip("/").rpartition("/")[2] for each in found)
        return []

    def read(self, name: str) -> Iterator[bytes]:
        path = f"{self.path}/{name}"
        with _told(path), self._files.open(path, "rb") as file:
            while data := file.read(READ_BYTES):
                yield data

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        path = f"{self.path}/{name}"
        with _told(path):
            self._files.makedirs(self.path, exist_ok=True)
            with self._files.open(path + _NEW, "wb") as file:
                for piece in pieces:
                    file.write(piece)
            self._files.mv(path + _NEW, path)

    def folder(self, name: str) -> RemotePlace:
        return RemotePlace(self._files, f"{self.path}/{name}")


def place_of(url: str) -> Place:
    """The place of a URL, or of a directory's path. Raises `Unavailable`."""
    return RemotePlace.at(url) if "://" in url else DirectoryPlace(Path(url))


# Stretches


def stretch_name(first: int, last: int) -> str:
    return f"values-{first:016x}-{last:016x}.sofa"


def stretches(names: Iterable[str]) -> list[tuple[int, int, str]]:
    """First and last instance and name of each stretch among these names, sorted."""
    found = [
        (int(parts[1], 16), int(parts[2], 16), parts[0]) for parts in map(_STRETCH.fullmatch, names) if parts
    ]
    return sorted(found)


def snapshots(names: Iterable[str]) -> list[tuple[int, str]]:
    """Instance and name of each snapshot among these names, sorted."""
    return sorted((int(parts[1], 16), parts[0]) for parts in map(SNAPSHOT.fullmatch, names) if parts)


def encode_stretch(owner: int, first: int, values: list[Value]) -> list[bytes]:
    """The file of these values, `first` being the instance of the first of them. `owner` is the cluster's number."""
    pieces: list[bytes] = [_HEADER.pack(_MARK, VERSION, owner, first, len(values))]
    for instance, value in enumerate(values, first):
        record = b"".join(encode(Learned(Instance(instance), value)))
        pieces += (_SIZE.pack(len(record)), record)
    checksum = 0
    for piece in pieces:
        checksum = crc32c(piece, checksum)
    return [*pieces, _CHECKSUM.pack(checksum)]


def read_stretch(place: Place, owner: int, first: int, last: int, name: str) -> list[Value]:
    """The values of a stretch. Raises `BadStretch` and `Unavailable`."""
    data = bytearray()
    for piece in place.read(name):
        data += piece
        if len(data) > STRETCH_BYTES_MAX:
            raise BadStretch(f"{name} is too large for a stretch of values")
    return decode_stretch(bytes(data), owner, first, last, name)


def decode_stretch(data: bytes, owner: int, first: int, last: int, name: str) -> list[Value]:
    """The values in these bytes, which should be those of `first` to `last`. Raises `BadStretch`."""
    body = data[: -_CHECKSUM.size]
    if len(body) < _HEADER.size or data[len(body) :] != _CHECKSUM.pack(crc32c(body)):
        raise BadStretch(f"{name} is damaged: its checksum does not fit")
    mark, version, found_owner, found_first, count = _HEADER.unpack_from(body)
    if mark != _MARK or version != VERSION:
        raise BadStretch(f"{name} is no stretch of values of version {VERSION}")
    if (found_owner, found_first, found_first + count - 1) != (owner, first, last):
        raise BadStretch(f"{name} is of another cluster, or of other instances than its name says")
    values: list[Value] = []
    at = _HEADER.size
    try:
        while at < len(body):
            (size,) = _SIZE.unpack(body[at : at + _SIZE.size])
            record = decode_record(memoryview(body)[at + _SIZE.size : at + _SIZE.size + size])
            if not isinstance(record, Learned) or record.instance != first + len(values):
                raise BadStretch(
                    f"{name} is damaged at offset {at}: it is not the value of instance {first + len(values)}"
                )
            values.append(record.value)
            at += _SIZE.size + size
    except (Malformed, ValueError) as problem:
        raise BadStretch(f"{name} is damaged at offset {at}: {problem}") from None
    if len(values) != count:
        raise BadStretch(f"{name} is damaged: it has {len(values)} values and should have {count}")
    return values
