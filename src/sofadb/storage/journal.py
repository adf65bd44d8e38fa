"""The journal: what an acceptor has promised and accepted, in the order in which it did.

`append` returns when everything is on disk. After a failure, in whatever thread, nothing is tried again: the journal is dead, and
says the same words to whoever asks (rule P1). `open` finds what an earlier life left and refuses to go on from damage (rule P11,
explained in `segment`). `recover` yields all records in order, a segment at a time, and cuts off a torn tail.
`read` finds the latest record of a key again. `cut` gives up segments that nobody needs any more; their files are used again.

Files: `journal-<generation>.seg` are in use, in the order of their generations; `spare-<generation>.seg` wait to be
used. A spare becomes a segment by getting its header, synced, then its name, and the directory synced: only then is anything
written to it that somebody might be told of.

An earlier life may have been killed at any point, between a rename and the sync of the directory too, or have died of a
failed sync, after which the page cache shows what the disk does not have. So before recovery ends, everything that only the cache
may hold is written again and synced, and marked: from then on we tell others of it.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from crc32c import crc32c

from .files import File, Files, StorageError
from .segment import (
    BLOCK_BYTES_MAX,
    BLOCK_HEADER_BYTES,
    MARK_OFFSET,
    PAGE_BYTES,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Mark,
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
READERS_MAX = 8
"""So many finished segments stay open for `read`."""
KEY_GAP_MAX = 1 << 27
"""Keys follow each other closely; one further than this from all others (a gigabyte of index) is a mistake."""
_ZERO_BYTES = 4 << 20
_OFFSET_BITS = 32


class KeyIndex:
    """Where the latest record of each key is: eight bytes a key, since keys follow each other closely."""

    __slots__ = ("first", "places")

    def __init__(self) -> None:
        self.first = 0
        self.places = array("Q")

    def check(self, key: int) -> None:
        """Raise `StorageError` for a key that `put` would need an absurd amount of memory for."""
        if self.places and not -KEY_GAP_MAX <= key - self.first <= len(self.places) + KEY_GAP_MAX:
            raise StorageError(
                f"key {key} is too far from those in the journal, "
                f"{self.first} to {self.first + len(self.places) - 1}: this is a mistake of the program"
            )

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

    __slots__ = ("end", "header", "key_max", "mark", "name")

    def __init__(self, name: str, header: SegmentHeader, mark: Mark) -> None:
        self.name = name
        self.header = header
        self.mark = mark
        self.end = SEGMENT_HEADER_BYTES
        """Where the next block goes; in a finished segment, where it ends."""
        self.key_max = 0

    @property
    def generation(self) -> int:
        return self.header.generation


class Journal:
    """Make one with `Journal.open`. `append`, `mark` and `cut` are for one thread; `read` and `prepare` for any."""

    def __init__(self, files: Files, segment_bytes: int) -> None:
        assert SEGMENT_HEADER_BYTES < segment_bytes < 1 << _OFFSET_BITS
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
        self._last: File | None = None
        """The file of the last segment, open for writing."""
        self._readers: dict[int, File] = {}
        """Files that `read` has opened, by generation, the longest unused first."""
        self._index = KeyIndex()
        self._spares_lock = threading.Lock()
        """Held while a spare is made, taken or given back."""
        self._lock = threading.Lock()
        """Held while segments come and go or the index changes."""
        self._readers_lock = threading.Lock()
        """Held while `read` reads, and while a segment is given up: nobody reads a file that is used anew."""

    # Opening

    @classmethod
    def open(cls, files: Files, segment_bytes: int = SEGMENT_BYTES) -> Journal:
        """Open the journal in `files`, making a new one if there is none. Raises `Rot` and `StorageError`.

        The records are read when `recover` is called, which must be done before anything is appended.
        """
        journal = cls(files, segment_bytes)
        for name in files.names():
            if name.startswith("journal-") and name.endswith(".seg"):
                journal.segments.append(journal._find_segment(name))
            elif name.startswith("spare-") and name.endswith(".seg"):
                journal._find_spare(name)
        for before, after in zip(journal.segments, journal.segments[1:], strict=False):
            if after.header.previous != before.generation:
                raise Rot(_name(after.header.previous), 0, f"it is missing, though {after.name} follows it")
        if journal.segments:
            last = journal.segments[-1]
            if last.mark.followed_by:
                raise Rot(_name(last.mark.followed_by), 0, f"it is missing, though it followed {last.name}")
            journal.is_cut = journal.segments[0].header.previous != 0
            journal.generation = max(journal.generation, last.generation)
        return journal

    def _find_spare(self, name: str) -> None:
        """Keep a spare that an earlier life left, unless it is not even as long as it should be."""
        try:
            generation = int(name.removeprefix("spare-").removesuffix(".seg"), 16)
        except ValueError:
            raise StorageError(
                f"{name} is no file of this journal: move it out of the data directory"
            ) from None
        self.generation = max(self.generation, generation)
        file = self.files.open(name)
        size = file.size()
        file.close()
        if size < self.segment_bytes:
            self.files.remove(name)
        else:
            self.spares[name] = size

    def _find_segment(self, name: str) -> Segment:
        file = self.files.open(name)
        header = SegmentHeader.decode(file.read(PAGE_BYTES, 0))
        mark = file.read(PAGE_BYTES, MARK_OFFSET)
        file.close()
        if isinstance(header, str):
            raise Rot(name, 0, header)
        if name != _name(header.generation):
            raise Rot(name, 0, f"it is of generation {header.generation}, not what its name says")
        return Segment(name, header, Mark.decode(mark, header.generation))

    def recover(self) -> Iterator[tuple[int, bytes]]:
        """Yield the key and data of every record, in the order of writing. Raises `Rot` at damage."""
        for index, segment in enumerate(self.segments):
            later = self.segments[index + 1] if index + 1 < len(self.segments) else None
            yield from self._recover_segment(segment, later)
        self.is_recovered = True

    def _recover_segment(self, segment: Segment, later: Segment | None) -> Iterator[tuple[int, bytes]]:
        file = self.files.open(segment.name)
        data = memoryview(file.read(file.size(), 0))
        proven = later.header.previous_end if later else segment.mark.end
        witness = later.name if later else "its mark"
        begin = at = SEGMENT_HEADER_BYTES
        last_key = 0
        while later is None or at < proven:
            block = read_block(data, segment.generation, at)
            if block is None:
                break
            for key, offset, contents in block.records:
                if key:
                    self._index.check(key)
                    self._index.put(key, segment.generation, offset)
                    segment.key_max = max(segment.key_max, key)
                    last_key = key
                yield key, bytes(contents)
            begin, at = at, block.end
        segment.end = at
        if at < proven:
            reason = f"there is no whole block, and {witness} proves that there was one"
            raise Rot(segment.name, at, reason, last_key)
        if later is not None:
            file.close()
            return
        evidence = next(whole_blocks_beyond(data, segment.generation, at), None)
        if evidence is not None:
            reason = f"there is no whole block, and the one at {evidence} proves that there was"
            raise Rot(segment.name, at, reason, last_key)
        self._last = file
        self._make_sure(file, segment, data, begin)

    def _make_sure(self, file: File, segment: Segment, data: memoryview, begin: int) -> None:
        """Give the end of the log, whose last block is at `begin`, the durability that appending would have given it."""
        with self._for_good():
            tail = bytes(data[segment.end :]).rstrip(b"\0")
            for offset in range(0, len(tail), _ZERO_BYTES):
                # The cut of a torn tail must last: nothing of it may ever look like a block behind a new one.
                file.write([bytes(min(_ZERO_BYTES, len(tail) - offset))], segment.end + offset)
            # A sync writes only what the cache takes for changed, so the block that nothing proves is written anew.
            if segment.end > segment.mark.end:
                file.write([data[begin : segment.end]], begin)
            file.sync()
            self.files.sync_directory()
            self._mark(file, segment)
            if len(self.segments) > 1 and not self.segments[-2].mark.followed_by:
                before = self.files.open(self.segments[-2].name)
                self._mark(before, self.segments[-2], segment.generation)
                before.close()

    # Writing

    @contextmanager
    def _for_good(self) -> Iterator[None]:
        """What fails in here, fails for good; what another thread saw fail meanwhile has failed here too."""
        if self.failure is not None:
            raise self.failure
        try:
            yield
        except StorageError as failure:
            self.failure = self.failure or failure
            raise
        if self.failure is not None:
            raise self.failure

    def append(self, records: Sequence[Record]) -> None:
        """Write one block and sync it. Whatever fails, fails for good: raises `StorageError` now and ever after."""
        assert self.is_recovered, "nothing is appended to a log that was not read"
        with self._for_good():
            self._append(records)

    def mark(self) -> None:
        """Leave evidence that everything written so far was synced. For when the log has gone quiet."""
        assert self.is_recovered, "nothing is said of a log that was not read"
        with self._for_good():
            if self._last is not None and self.segments[-1].end > self.segments[-1].mark.end:
                self._mark(self._last, self.segments[-1])

    def _mark(self, file: File, segment: Segment, followed_by: int = 0) -> None:
        mark = Mark(segment.generation, segment.end, followed_by)
        file.write([mark.encode()], MARK_OFFSET)
        file.sync()
        self.syncs += 1
        segment.mark = mark

    def _append(self, records: Sequence[Record]) -> None:
        size = _block_size(records)
        if size > BLOCK_BYTES_MAX:
            raise StorageError(
                f"a block of {size} bytes is too large for the journal: {BLOCK_BYTES_MAX} are allowed"
            )
        for record in records:
            if record.key:
                self._index.check(record.key)
        if self._last is None or self.segments[-1].end + size > self.segments[-1].header.size:
            self._begin_segment(SEGMENT_HEADER_BYTES + size)
        assert self._last is not None
        segment = self.segments[-1]
        offset = segment.end
        buffers, total = encode_block(segment.generation, offset, records)
        assert total == size
        self._last.write(buffers, offset)
        self._last.sync()
        segment.end = offset + total
        self.blocks += 1
        self.bytes += total
        self.syncs += 1
        at = offset + BLOCK_HEADER_BYTES
        with self._lock:
            for record in records:
                if record.key:
                    self._index.put(record.key, segment.generation, at)
                    segment.key_max = max(segment.key_max, record.key)
                at += RECORD_HEADER_BYTES + sum(len(buffer) for buffer in record.data)

    def _begin_segment(self, size: int) -> None:
        """Go on in a new segment of at least `size` bytes, and leave word of it in the one before."""
        with self._spares_lock:
            self._make_spare(max(size, self.segment_bytes))
            file, header = self._use_spare(size)
        if self._last is not None:
            # Only now: a mark that names a segment must not come before the segment is there to stay.
            self._mark(self._last, self.segments[-1], header.generation)
            self._last.close()
        self._last = file
        with self._lock:
            self.segments.append(
                Segment(_name(header.generation), header, Mark(header.generation, SEGMENT_HEADER_BYTES))
            )

    def _use_spare(self, size: int) -> tuple[File, SegmentHeader]:
        name, found = next((name, found) for name, found in self.spares.items() if found >= size)
        self.generation += 1
        previous, end = (self.segments[-1].generation, self.segments[-1].end) if self.segments else (0, 0)
        header = SegmentHeader(self.generation, previous, found, end)
        file = self.files.open(name)
        file.write([header.encode()], 0)
        file.sync()
        file.close()
        self.files.rename(name, _name(self.generation))
        self.files.sync_directory()
        del self.spares[name]
        return self.files.open(_name(self.generation)), header

    def prepare(self) -> None:
        """Have a spare ready, full of zeros or used before, all of it on disk. Raises `StorageError`, for good."""
        with self._for_good(), self._spares_lock:
            self._make_spare(self.segment_bytes)

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
        with self._readers_lock:
            with self._lock:
                place = self._index.get(key)
            if place is None:
                return None
            generation, offset = place
            file = self._reader(generation)
            header = file.read(RECORD_HEADER_BYTES, offset)
            found, size, checksum = (
                read_record_header(header) if len(header) == RECORD_HEADER_BYTES else (0, 0, 0)
            )
            # A rotten size must not make us ask for gigabytes.
            fits = found == key and size <= BLOCK_BYTES_MAX
            data = file.read(size, offset + RECORD_HEADER_BYTES) if fits else b""
        if not fits or len(data) != size or crc32c(data) != checksum:
            raise Rot(_name(generation), offset, f"the record of instance {key} cannot be read back")
        return data

    def _reader(self, generation: int) -> File:
        """The file of a segment, open; only the last few stay so."""
        file = self._readers.pop(generation, None)
        if file is None:
            if len(self._readers) >= READERS_MAX:
                self._readers.pop(next(iter(self._readers))).close()
            file = self.files.open(_name(generation))
        self._readers[generation] = file
        return file

    def cut(self, key: int) -> None:
        """Give up the segments before the first one that has a record of `key` or beyond.

        Whoever cuts has first appended anew whatever else those segments held that is still needed.
        """
        with self._for_good():
            while len(self.segments) > 1 and self.segments[0].key_max < key:
                with self._readers_lock, self._spares_lock:
                    self._give_up_first()
            with self._lock:
                self._index.cut(key)

    def _give_up_first(self) -> None:
        with self._lock:
            segment = self.segments.pop(0)
            # Nothing of it may be looked for any more.
            self._index.cut(segment.key_max + 1)
        reader = self._readers.pop(segment.generation, None)
        if reader is not None:
            reader.close()
        if len(self.spares) < SPARES_MAX:
            spare = f"spare-{segment.generation:016x}.seg"
            self.files.rename(segment.name, spare)
            self.spares[spare] = segment.header.size
        else:
            self.files.remove(segment.name)
        self.files.sync_directory()
        self.is_cut = True

    def close(self) -> None:
        """Let go of all files."""
        with self._readers_lock:
            for file in self._readers.values():
                file.close()
            self._readers.clear()
        if self._last is not None:
            self._last.close()


def _name(generation: int) -> str:
    return f"journal-{generation:016x}.seg"


def _block_size(records: Sequence[Record]) -> int:
    size = BLOCK_HEADER_BYTES
    for record in records:
        size += RECORD_HEADER_BYTES + sum(len(buffer) for buffer in record.data)
    return size + -size % 8
