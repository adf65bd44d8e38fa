"""The journal: what an acceptor has promised and accepted, in the order in which it did.

`append` returns when everything is on disk. After a failure nothing is tried again: the journal is dead, and says the same
words to whoever asks (rule P1). `open` reads what an earlier life left, cuts off a torn tail, and refuses to go on
from damage (rule P11, explained in `segment`). `recover` yields all records in order, a segment at a time.
`read` finds the latest record of a key again. `cut` gives up segments that nobody needs any more; their files are used again.

Files: `journal-<generation>.seg` are in use, in the order of their generations; `spare-<generation>.seg` wait to be
used. A spare becomes a segment by getting its header, synced, then its name, and the directory synced: only then is anything
written to it that somebody might be told of.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator, Sequence

from crc32c import crc32c

from .files import File, Files, StorageError
from .segment import (
    BLOCK_BYTES_MAX,
    BLOCK_HEADER_BYTES,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Record,
    Rot,
    SegmentHeader,
    encode_block,
    read_block,
    read_record_header,
    whole_blocks_beyond,
)

SEGMENT_BYTES = 16 << 20
SPARES_MAX = 2
"""More files than this are not kept for using again."""
_ZERO_BYTES = 1 << 20
_OFFSET_BITS = 40


class KeyIndex:
    """Where the latest record of each key is: eight bytes a key, since keys follow each other closely."""

    __slots__ = ("first", "places")

    def __init__(self) -> None:
        self.first = 0
        self.places = array("Q")

    def put(self, key: int, generation: int, offset: int) -> None:
        if not self.places:
            self.first = key
        if key < self.first:
            self.places = array("Q", bytes(8 * (self.first - key))) + self.places
            self.first = key
        if key >= self.first + len(self.places):
            self.places.frombytes(bytes(8 * (key - self.first - len(self.places) + 1)))
        self.places[key - self.first] = generation << _OFFSET_BITS | offset

    def get(self, key: int) -> tuple[int, int] | None:
        """The generation and the offset of the record's header."""
        if not self.first <= key < self.first + len(self.places):
            return None
        place = self.places[key - self.first]
        return (place >> _OFFSET_BITS, place & (1 << _OFFSET_BITS) - 1) if place else None

    def cut(self, key: int) -> None:
        """Forget everything below `key`."""
        if key > self.first and self.places:
            del self.places[: key - self.first]
            self.first = key


class Segment:
    """A file of the journal in use."""

    __slots__ = ("end", "file", "header", "key_max")

    def __init__(self, file: File, header: SegmentHeader, end: int = SEGMENT_HEADER_BYTES) -> None:
        self.file = file
        self.header = header
        self.end = end
        """Where the next block goes; in a finished segment, where it ends."""
        self.key_max = 0


class Journal:
    """Make one with `Journal.open`. `append`, `mark` and `cut` are for one thread; `read` and `prepare` for any."""

    def __init__(self, files: Files, segment_bytes: int) -> None:
        self.files = files
        self.segment_bytes = segment_bytes
        self.failure: StorageError | None = None
        self.is_cut = False
        """Whether the beginning is not here any more: what it held must be in a snapshot."""
        self.segments: list[Segment] = []
        self.spares: dict[str, int] = {}
        """Files to be used next, and their sizes."""
        self.generation = 0
        """The highest generation ever used."""
        self.is_recovered = False
        self.blocks = self.bytes = self.syncs = 0
        self._index = KeyIndex()
        self._spares_lock = threading.Lock()
        """Held while a spare is made or taken."""
        self._lock = threading.Lock()
        """Held while segments come and go, for `read`."""

    # Opening

    @classmethod
    def open(cls, files: Files, segment_bytes: int = SEGMENT_BYTES) -> Journal:
        """Open the journal in `files`, making a new one if there is none. Raises `Rot` and `StorageError`.

        The records are read when `recover` is called, which must be done before anything is appended.
        """
        journal = cls(files, segment_bytes)
        names = files.names()
        for name in names:
            if name.startswith("journal-") and name.endswith(".seg"):
                journal.segments.append(journal._open_segment(name))
            elif name.startswith("spare-") and name.endswith(".seg"):
                journal._take_spare(name)
        for before, after in zip(journal.segments, journal.segments[1:], strict=False):
            if after.header.previous != before.header.generation:
                missing = _name(after.header.previous)
                raise Rot(missing, 0, f"it is missing, though {after.file.name} follows it")
        if journal.segments:
            journal.is_cut = journal.segments[0].header.previous != 0
            journal.generation = max(journal.generation, journal.segments[-1].header.generation)
        return journal

    def _take_spare(self, name: str) -> None:
        """Keep a spare that an earlier life left, unless it is not even as long as it should be."""
        self.generation = max(self.generation, int(name.removeprefix("spare-").removesuffix(".seg"), 16))
        file = self.files.open(name)
        size = file.size()
        file.close()
        if size < self.segment_bytes:
            self.files.remove(name)
        else:
            self.spares[name] = size

    def _open_segment(self, name: str) -> Segment:
        file = self.files.open(name)
        header = SegmentHeader.decode(file.read(SEGMENT_HEADER_BYTES, 0))
        if isinstance(header, str):
            raise Rot(name, 0, header)
        if name != _name(header.generation):
            raise Rot(name, 0, f"it is of generation {header.generation}, not what its name says")
        return Segment(file, header)

    def recover(self) -> Iterator[tuple[int, bytes]]:
        """Yield the key and data of every record, in the order of writing. Raises `Rot` at damage."""
        for index, segment in enumerate(self.segments):
            later = self.segments[index + 1] if index + 1 < len(self.segments) else None
            yield from self._recover_segment(segment, later)
        if self.segments:
            # What is only in the page cache, the last life told nobody of; from now on we do.
            self.segments[-1].file.sync()
        self.is_recovered = True

    def _recover_segment(self, segment: Segment, later: Segment | None) -> Iterator[tuple[int, bytes]]:
        name, generation = segment.file.name, segment.header.generation
        data = memoryview(segment.file.read(segment.file.size(), 0))
        proven = later.header.previous_end if later else 0
        at, last_key = SEGMENT_HEADER_BYTES, 0
        while later is None or at < proven:
            block = read_block(data, generation, at)
            if block is None:
                break
            for key, offset, contents in block.records:
                if key:
                    self._index.put(key, generation, offset)
                    segment.key_max = max(segment.key_max, key)
                    last_key = key
                yield key, bytes(contents)
            at = block.end
        segment.end = at
        if later is not None:
            if at < proven:
                raise Rot(
                    name,
                    at,
                    "there is no whole block, and the next segment proves that there was one",
                    last_key,
                )
            return
        evidence = next(whole_blocks_beyond(data, generation, at), None)
        if evidence is not None:
            raise Rot(
                name,
                at,
                f"there is no whole block, and the one at {evidence} proves that there was",
                last_key,
            )
        self._erase_tail(segment, data)

    def _erase_tail(self, segment: Segment, data: memoryview) -> None:
        """Make the cut of a torn tail last: nothing of it may ever look like a block behind a new one."""
        tail = bytes(data[segment.end :]).rstrip(b"\0")
        for begin in range(0, len(tail), _ZERO_BYTES):
            size = min(_ZERO_BYTES, len(tail) - begin)
            segment.file.write([bytes(size)], segment.end + begin)

    # Writing

    def append(self, records: Sequence[Record]) -> None:
        """Write one block and sync it. Whatever fails, fails for good: raises `StorageError` now and ever after."""
        assert self.is_recovered, "nothing is appended to a log that was not read"
        if self.failure is not None:
            raise self.failure
        try:
            self._append(records)
        except StorageError as failure:
            self.failure = failure
            raise

    def mark(self) -> None:
        """Write a block without records: evidence that everything before it was synced."""
        self.append(())

    def _append(self, records: Sequence[Record]) -> None:
        size = _block_size(records)
        if size > BLOCK_BYTES_MAX:
            raise StorageError(
                f"a block of {size} bytes is too large for the journal: {BLOCK_BYTES_MAX} are allowed"
            )
        if not self.segments or self.segments[-1].end + size > self.segments[-1].header.size:
            self._begin_segment(size)
        segment = self.segments[-1]
        generation, offset = segment.header.generation, segment.end
        buffers, total = encode_block(generation, offset, records)
        segment.file.write(buffers, offset)
        segment.file.sync()
        segment.end = offset + total
        self.blocks += 1
        self.bytes += total
        self.syncs += 1
        at = offset + BLOCK_HEADER_BYTES
        with self._lock:
            for record in records:
                if record.key:
                    self._index.put(record.key, generation, at)
                    segment.key_max = max(segment.key_max, record.key)
                at += RECORD_HEADER_BYTES + sum(len(buffer) for buffer in record.data)

    def _begin_segment(self, block_size: int) -> None:
        needed = SEGMENT_HEADER_BYTES + block_size
        self.prepare(needed)
        with self._spares_lock:
            self._use_spare(needed)

    def _use_spare(self, needed: int) -> None:
        name, size = next((name, size) for name, size in self.spares.items() if size >= needed)
        self.generation += 1
        last = self.segments[-1] if self.segments else None
        file = self.files.open(name)
        header = SegmentHeader(
            self.generation, last.header.generation if last else 0, size, last.end if last else 0
        )
        file.write([header.encode()], 0)
        file.sync()
        file.close()
        self.files.rename(name, _name(self.generation))
        self.files.sync_directory()
        del self.spares[name]
        with self._lock:
            self.segments.append(Segment(self.files.open(_name(self.generation)), header))

    def prepare(self, size: int = 0) -> None:
        """Have a spare ready that holds at least `size` bytes: full of zeros, or used before; all of it on disk."""
        with self._spares_lock:
            self._make_spare(max(size, self.segment_bytes))

    def _make_spare(self, size: int) -> None:
        if any(spare >= size for spare in self.spares.values()):
            return
        self.generation += 1
        name = f"spare-{self.generation:016x}.seg"
        file = self.files.create(name)
        for begin in range(0, size, _ZERO_BYTES):
            file.write([bytes(min(_ZERO_BYTES, size - begin))], begin)
        file.sync()
        file.close()
        self.files.sync_directory()
        self.spares[name] = size

    @property
    def is_half_full(self) -> bool:
        """Whether it is time to `prepare` the next segment."""
        last = self.segments[-1] if self.segments else None
        return not self.spares and (last is None or last.end * 2 > last.header.size)

    # Reading and giving up

    def read(self, key: int) -> bytes | None:
        """The data of the latest record of `key`, or None. Raises `Rot` if it cannot be read back whole."""
        with self._lock:
            place = self._index.get(key)
            if place is None:
                return None
            file = next(each.file for each in self.segments if each.header.generation == place[0])
        header = file.read(RECORD_HEADER_BYTES, place[1])
        found, size, checksum = (
            read_record_header(header) if len(header) == RECORD_HEADER_BYTES else (0, 0, 0)
        )
        data = file.read(size, place[1] + RECORD_HEADER_BYTES) if found == key else b""
        if found != key or len(data) != size or crc32c(data) != checksum:
            raise Rot(file.name, place[1], f"the record of instance {key} cannot be read back")
        return data

    def cut(self, key: int) -> None:
        """Give up the segments before the first one that has a record of `key` or beyond.

        Whoever cuts has first appended anew whatever else those segments held that is still needed.
        """
        while len(self.segments) > 1 and self.segments[0].key_max < key:
            with self._lock:
                segment = self.segments.pop(0)
                segment.file.close()
            name = segment.file.name
            if len(self.spares) < SPARES_MAX:
                spare = f"spare-{segment.header.generation:016x}.seg"
                self.files.rename(name, spare)
                self.spares[spare] = segment.header.size
            else:
                self.files.remove(name)
            self.files.sync_directory()
            self.is_cut = True
        with self._lock:
            self._index.cut(key)

    def close(self) -> None:
        """Let go of all files."""
        for segment in self.segments:
            segment.file.close()


def _name(generation: int) -> str:
    return f"journal-{generation:016x}.seg"


def _block_size(records: Sequence[Record]) -> int:
    size = BLOCK_HEADER_BYTES
    for record in records:
        size += RECORD_HEADER_BYTES + sum(len(buffer) for buffer in record.data)
    return size + -size % 8
