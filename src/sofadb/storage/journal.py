"""The journal: what an acceptor has promised and accepted, in the order in which it did.

`append` returns when everything is on disk. After a failure, in whatever thread, nothing is tried again: the journal is dead, and
says the same words to whoever asks (rule P1). `open` finds what an earlier life left and refuses to go on from damage (rule P11,
explained in `segment`). `recover` yields all records in order, a segment at a time, and cuts off a torn tail.
`read` finds the latest record of a key again. `cut` gives up segments that nobody needs any more; their files are used again.

Files: `journal-<generation>.seg` are in use, in the order of their generations; `spare-<generation>.seg` wait to be
used. A spare becomes a segment by getting its header, synced, then its name, and the directory synced: only then is anything
written to it that somebody might be told of. `reserve-<generation>.seg` is a spare for bad times: it is used when there is
no other and the disk is full, so that what must be written then (a promise; what has to be said before the log is cut) can be.
To be short of space is no failure, as long as nothing that was to be kept has met it.

Who knows how to make damage good calls `recover` with `on_damage`, and is told of each region that was on disk and is not any
more; what is whole behind it is read. Nothing new is written into a segment with damage in it, and its file is not used
again. It stays, and is told of at every start, until it is cut.

A file has whole pages, since what is appended fills them. Earlier builds made files of other sizes for large blocks: those are
read, but nothing is written into them any more.

A node's first segment is prepared before its first word, so that no write waits for zeros.

An earlier life may have been killed at any point, between a rename and the sync of the directory too, or have died of a
failed sync, after which the page cache shows what the disk does not have. So before recovery ends, everything that only the cache
may hold is written again and synced, and marked: from then on we tell others of it.
"""

from __future__ import annotations

import os
import re
import threading
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import zip_longest

from crc32c import crc32c

from sofadb.unlikely import unlikely

from .files import PAGE_BYTES, File, Files, Log, NoSpace, StorageError
from .segment import (
    BLOCK_BYTES_MAX,
    BLOCK_HEADER_BYTES,
    MARK_OFFSET,
    RECORD_HEADER_BYTES,
    SEGMENT_BYTES_MAX,
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
SPARES_MAX = 16
"""More files than this are not kept for using again. An ordinary cut gives up about as many, so none has to be made anew."""
READERS_MAX = 8
"""So many finished segments stay open for `read`."""
KEY_GAP_MAX = 1 << 27
"""Keys follow each other closely; one further than this from all others (a gigabyte of index) is a mistake."""
_ZERO_BYTES, _ZERO_BYTES_AT_EASE = 4 << 20, 1 << 20
"""A file is filled with zeros in pieces of so many."""
_OFFSET_BITS = 32
_NAME = re.compile(r"(journal|spare|reserve)-([0-9a-f]{16})\.seg", re.ASCII)
_GENERATION_MAX = (1 << 32) - 1


def _random_salt() -> int:
    return int.from_bytes(os.urandom(8), "big")


class KeyIndex:
    """Where the latest record of each key is: eight bytes a key, since keys follow each other closely."""

    __slots__ = ("first", "places")

    def __init__(self) -> None:
        self.first = 0
        self.places = array("Q")

    def check(self, keys: Sequence[int]) -> None:
        """Raise `StorageError` if `put` would need an absurd amount of memory for these."""
        if not keys:
            return
        low, high, held = min(keys), max(keys), len(self.places)
        if held:
            low, high = min(low, self.first), max(high, self.first + held - 1)
        if high - low - held > KEY_GAP_MAX:
            raise StorageError(
                f"keys {low} to {high} are too far from each other: this is a mistake of the program"
            )

    def put(self, key: int, generation: int, offset: int) -> None:
        if not self.places:
            self.first = key
        if key < self.first:
            self.places = array("Q", bytes(8 * (self.first - key))) + self.places
            self.first = key
        lacking = key - self.first - len(self.places) + 1
        if lacking > 0:
            self.places.frombytes(bytes(8 * lacking))
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


def _no_note() -> bytes:
    return b""


@dataclass(frozen=True, slots=True)
class Damage:
    """A region of the log that was on disk and cannot be read any more."""

    file: str
    offset: int
    """It begins here (bytes)."""
    end: int
    """What is read again begins here, or nothing in this file is read behind it; 0 for a file that is missing."""
    last_key: int
    """The last key that was read before it; 0 if there is none."""
    reason: str
    is_noted: bool
    """Whether `Journal.note` was written behind it: it tells of everything that stood here, too."""

    def __str__(self) -> str:
        after = f", after the record of instance {self.last_key}" if self.last_key else ""
        return f"{self.file} is damaged at offset {self.offset}{after}: {self.reason}"


class Segment:
    """A file of the journal in use."""

    __slots__ = ("defect", "end", "header", "is_damaged", "key_max", "mark", "name", "needed_at", "size")

    def __init__(self, name: str, header: SegmentHeader, mark: Mark, defect: str = "") -> None:
        self.name = name
        self.size = header.size
        """Bytes of its file; 0 if there is none."""
        self.header = header
        """In a segment with a defect, what takes its place."""
        self.mark = mark
        self.defect = defect
        """Why nothing at all of it can be read, or nothing."""
        self.is_damaged = bool(defect)
        self.end = header.end_max if defect else SEGMENT_HEADER_BYTES
        """Where the next block goes; in a finished segment, where it ends."""
        self.key_max = 0
        self.needed_at = 0
        """A cut at this key, or a lower one, keeps it: it holds what was appended anew for that."""

    @classmethod
    def lost(cls, generation: int, size: int, defect: str) -> Segment:
        """One of which nothing can be read. Should its header be readable once more, it was full, as far as we know."""
        header = SegmentHeader(0, generation, 0, max(size, SEGMENT_HEADER_BYTES + PAGE_BYTES), 0, 0)
        segment = cls(_name(generation), header, Mark(generation, SEGMENT_HEADER_BYTES), defect)
        segment.size = size
        return segment

    @property
    def is_odd(self) -> bool:
        """Whether its file has other than whole pages: nothing is appended to it."""
        return self.size % PAGE_BYTES > 0

    @property
    def generation(self) -> int:
        return self.header.generation


class Journal:
    """Make one with `Journal.open`. `append`, `mark` and `cut` are for one thread; `read` and `prepare` for any."""

    def __init__(
        self,
        files: Files,
        segment_bytes: int,
        owner: int = 0,
        new_salt: Callable[[], int] = _random_salt,
        note: Callable[[], bytes] = _no_note,
    ) -> None:
        assert SEGMENT_HEADER_BYTES + PAGE_BYTES < segment_bytes <= SEGMENT_BYTES_MAX
        self.files = files
        self.owner = owner
        self.new_salt = new_salt
        self.new_note = note
        self.segment_bytes = segment_bytes
        self.failure: StorageError | None = None
        self.is_cut = False
        """Whether the beginning is not here any more: what it held must be in a snapshot."""
        self.segments: list[Segment] = []
        self.spares: dict[str, int] = {}
        """Files to be used next, and their sizes."""
        self.reserve: dict[str, int] = {}
        """The file for bad times, and its size; empty if there is none."""
        self.shortage: NoSpace | None = None
        """What the disk said when there was no room for the next segment or the reserve, until there is."""
        self.note = b""
        """The newest note that could be read when the journal was opened."""
        self._noted = (0, 0)
        """What was written before it: generation, and offset of the end in there."""
        self.generation = 0
        """The highest generation ever used."""
        self.is_recovered = False
        self.blocks = self.bytes = self.syncs = 0
        self._last: Log | None = None
        """The file of the last segment."""
        self._readers: dict[int, File] = {}
        """Files that `read` has opened, by generation, the longest unused first."""
        self._index = KeyIndex()
        self._spares_lock = threading.Lock()
        """Held while a spare is made, taken or given back. Whoever must not wait long for it takes it by `_with_spares`."""
        self._hurry = threading.Event()
        """Set when somebody waits for that: whoever makes a spare takes no rest."""
        self._lock = threading.Lock()
        """Held while segments come and go or the index changes."""
        self._readers_lock = threading.Lock()
        """Held while `read` reads, and while a segment leaves the list: nobody reads a file that is used anew."""

    # Opening

    @classmethod
    def open(
        cls,
        files: Files,
        segment_bytes: int = SEGMENT_BYTES,
        owner: int = 0,
        new_salt: Callable[[], int] = _random_salt,
        note: Callable[[], bytes] = _no_note,
    ) -> Journal:
        """Open the journal in `files`, making a new one if there is none. Raises `StorageError`.

        `owner` says whose it is, a number of 64 bits: one of another owner is refused. `note` is asked, in whatever thread
        writes, whenever a mark is: for at most `NOTE_BYTES_MAX` bytes that tell of everything appended so far, and of what
        `Journal.note` tells; for none, if that is not known. The records are read when `recover` is called, which must be
        done before anything is appended.
        """
        journal = cls(files, segment_bytes, owner, new_salt, note)
        for name in files.names():
            if not name.endswith(".seg"):
                continue
            parts = _NAME.fullmatch(name)
            if parts is None or int(parts[2], 16) > _GENERATION_MAX:
                raise StorageError(f"{name} is no file of this journal: move it out of the data directory")
            generation = int(parts[2], 16)
            journal.generation = max(journal.generation, generation)
            if parts[1] == "journal":
                journal.segments.append(journal._find_segment(name, generation))
            else:
                journal._find_spare(name, parts[1] == "reserve")
        journal._find_missing()
        if journal.segments:
            # Of a first segment without a header this is not known; whoever is told of that damage has to ask others anyway.
            journal.is_cut = journal.segments[0].header.previous != 0
            for segment in journal.segments:
                if segment.mark.note:
                    journal.note = segment.mark.note
                    journal._noted = (segment.generation, segment.mark.end)
        return journal

    def _find_spare(self, name: str, is_reserve: bool) -> None:
        """Keep a spare that an earlier life left, unless its size is not what it should be."""
        with closing(self.files.open(name)) as file:
            size = file.size()
        if size % PAGE_BYTES or not self.segment_bytes <= size <= SEGMENT_BYTES_MAX:
            self.files.remove(name)
        elif is_reserve and not self.reserve:
            self.reserve[name] = size
        else:
            self.spares[name] = size

    def _find_segment(self, name: str, generation: int) -> Segment:
        with closing(self.files.open(name)) as file:
            size = file.size()
            first, unread, problem = _read_around(file, 0, PAGE_BYTES)
            if unread:
                return Segment.lost(generation, size, problem)
            try:
                header = SegmentHeader.decode(first)
            except StorageError as other:
                raise StorageError(f"{name}: {other}") from None
            if isinstance(header, str):
                return Segment.lost(generation, size, header)
            if name != _name(header.generation):
                words = f"it is of generation {header.generation}, not what its name says"
                return Segment.lost(generation, size, words)
            if header.owner != self.owner:
                raise StorageError(f"{name} is of another node's journal: put the right file back")
            if not SEGMENT_HEADER_BYTES + PAGE_BYTES < header.size <= SEGMENT_BYTES_MAX:
                return Segment.lost(generation, size, f"it claims a size of {header.size} bytes")
            if size < header.size:
                words = f"it has been cut off: it had {header.size} bytes and has {size}"
                return Segment.lost(generation, size, words)
            marks = [
                Mark.decode(_read_around(file, offset, PAGE_BYTES)[0], header.generation)
                for offset in (MARK_OFFSET, header.end_max)
            ]
        return Segment(name, header, max(marks))

    def _find_missing(self) -> None:
        """Put something in the place of segments that others name and that are not here."""
        found: list[Segment] = []
        for segment, later in zip_longest(self.segments, self.segments[1:]):
            found.append(segment)
            if later is not None and not later.defect:
                missing, reason = later.header.previous, f"it is missing, though {later.name} follows it"
            else:
                missing = segment.mark.followed_by or segment.generation
                reason = f"it is missing, though it followed {segment.name}"
            if missing not in (segment.generation, later.generation if later and later.defect else -1):
                found.append(Segment.lost(missing, 0, reason))
                self.generation = max(self.generation, missing)
        self.segments = found

    def recover(self, on_damage: Callable[[Damage], None] | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield the key and data of every record, in the order of writing.

        Damage is told to `on_damage`, in its place among the records, and what lies behind it is read; without `on_damage`
        the first is raised as `Rot`. Before the last step, in which the end of the log is marked anew, `note` is asked.
        """
        last_key = 0
        for segment, later in zip_longest(self.segments, self.segments[1:]):
            last_key = yield from self._recover_segment(segment, later, last_key, on_damage)
        self.is_recovered = True

    def _recover_segment(
        self,
        segment: Segment,
        later: Segment | None,
        last_key: int,
        on_damage: Callable[[Damage], None] | None,
    ) -> Generator[tuple[int, bytes], None, int]:
        """Yield the records of one segment; `last_key` is the last one before it, and, returned, in it."""

        def tell(offset: int, end: int, reason: str) -> None:
            if on_damage is None:
                raise Rot(segment.name, offset, reason, last_key)
            segment.is_damaged = True
            is_noted = (segment.generation, end) <= self._noted
            on_damage(Damage(segment.name, offset, end, last_key, reason, is_noted))

        if segment.defect:
            tell(0, segment.size, segment.defect)
            return last_key
        with closing(self.files.open(segment.name)) as file:
            everything, unread, problem = _read_around(file, 0, segment.header.end_max)
            data = memoryview(everything)
            is_bounded = later is not None and not later.defect
            if later is not None and is_bounded:
                proven, witness = later.header.previous_end, later.name
            else:
                proven, witness = segment.mark.end, "its mark"
            begin = at = SEGMENT_HEADER_BYTES
            while not is_bounded or at < proven:
                block = read_block(data, segment.header, at)
                if block is None:
                    beyond = next(whole_blocks_beyond(data, segment.header, at), None)
                    if at < proven:
                        reason = f"there is no whole block, and {witness} proves that there was one"
                        end = proven if beyond is None else min(beyond, proven)
                    elif beyond is not None:
                        reason = f"there is no whole block, and the one at {beyond} proves that there was"
                        end = beyond
                    elif at < unread:
                        reason, end = "there may have been a block", unread
                    else:
                        break
                    tell(at, end, f"{reason} ({problem})" if problem else reason)
                    at = end
                    continue
                self._index.check([key for key, _, _ in block.records if key])
                for key, offset, contents in block.records:
                    if key:
                        self._index.put(key, segment.generation, offset)
                        segment.key_max = max(segment.key_max, key)
                        last_key = key
                    yield key, bytes(contents)
                begin, at = at, block.end
            segment.end = at
            if later is not None:
                return last_key
            self._make_sure(file, segment, data, begin)
        self._last = self.files.open_log(segment.name, segment.end)
        return last_key

    def _make_sure(self, file: File, segment: Segment, data: memoryview, begin: int) -> None:
        """Give the end of the log, whose last block is at `begin`, the durability that appending would have given it."""
        with self._for_good():
            # What is left of a torn write stays behind the end. It never looks like a block: at its beginning is the next one.
            # A sync writes only what the cache takes for changed, so the block that nothing proves is written anew.
            if segment.end > segment.mark.end:
                file.write([data[begin : segment.end]], begin)
            file.sync()
            self.files.sync_directory()
            self._mark(file, segment)
            if len(self.segments) > 1 and not self.segments[-2].defect:
                with closing(self.files.open(self.segments[-2].name)) as before:
                    self._mark(before, self.segments[-2], segment.generation)

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
        if self.failure is not None:  # (As `_for_good` does it, in less time.)
            raise self.failure
        try:
            self._append(records)
        except StorageError as failure:
            self.failure = self.failure or failure
            raise
        if self.failure is not None:
            raise self.failure  # Of another thread.

    def mark(self) -> None:
        """Leave evidence that everything written so far was synced. For when the log has gone quiet."""
        assert self.is_recovered, "nothing is said of a log that was not read"
        with self._for_good():
            if self._last is not None and self.segments[-1].end > self.segments[-1].mark.end:
                self._mark(self._last, self.segments[-1])

    def _mark(self, file: File, segment: Segment, followed_by: int = 0) -> None:
        mark = Mark(segment.generation, segment.end, followed_by, self.new_note())
        for offset in (MARK_OFFSET, segment.header.end_max):
            file.write([mark.encode()], offset)
        file.sync()
        self.syncs += 1
        segment.mark = mark

    def _append(self, records: Sequence[Record]) -> None:
        size = _block_size(records)
        if size > BLOCK_BYTES_MAX:
            raise StorageError(
                f"a block of {size} bytes is too large for the journal: {BLOCK_BYTES_MAX} are allowed"
            )
        self._index.check([record.key for record in records if record.key])
        is_full = self._last is None or self.segments[-1].end + size > self.segments[-1].header.end_max
        is_full = is_full or self.segments[-1].is_odd
        if is_full or self.segments[-1].is_damaged or unlikely("segment ends early"):
            self._begin_segment(SEGMENT_HEADER_BYTES + size + PAGE_BYTES)
        assert self._last is not None
        segment = self.segments[-1]
        offset = segment.end
        buffers, total = encode_block(segment.header, offset, records)
        assert total == size
        self._last.append(buffers, offset)
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
                segment.needed_at = max(segment.needed_at, record.needed_at)
                at += RECORD_HEADER_BYTES + record.size

    def _begin_segment(self, size: int) -> None:
        """Go on in a new segment of at least `size` bytes, and leave word of it in the one before."""
        with self._with_spares():
            files = self.spares
            try:
                self._make_spare(max(size, self.segment_bytes))
            except NoSpace as shortage:
                self.shortage = shortage
                if max(self.reserve.values(), default=0) < size:
                    raise
                files = self.reserve
            file, header = self._use_spare(files, size)
        if self._last is not None:
            # Only now: a mark that names a segment must not come before the segment is there to stay.
            self._mark(self._last, self.segments[-1], header.generation)
            self._last.close()
        self._last = file
        with self._lock:
            self.segments.append(
                Segment(_name(header.generation), header, Mark(header.generation, SEGMENT_HEADER_BYTES))
            )

    def _use_spare(self, files: dict[str, int], size: int) -> tuple[Log, SegmentHeader]:
        name, found = next((name, found) for name, found in files.items() if found >= size)
        self.generation += 1
        previous, end = (self.segments[-1].generation, self.segments[-1].end) if self.segments else (0, 0)
        header = SegmentHeader(self.owner, self.generation, previous, found, end, self.new_salt())
        with closing(self.files.open(name)) as file:
            file.write([header.encode()], 0)
            file.sync()
        self.files.rename(name, _name(self.generation))
        self.files.sync_directory()
        del files[name]
        return self.files.open_log(_name(self.generation), SEGMENT_HEADER_BYTES), header

    @contextmanager
    def _with_spares(self) -> Iterator[None]:
        self._hurry.set()
        with self._spares_lock:
            self._hurry.clear()
            yield

    def hurry(self) -> None:
        """Have whoever prepares take no rest any more, this time."""
        self._hurry.set()

    def prepare(self, rest_s: float = 0.0) -> None:
        """Have a spare and the reserve ready, full of zeros or used before, all of it on disk.

        After each piece of a new file it rests for `rest_s` seconds, as long as nobody waits for the file: whatever else uses the
        disk has its turns. If there is no room, `is_short_of_space` says so until a later call finds some. Raises
        `StorageError`, for good.
        """
        with self._for_good(), self._spares_lock:
            try:
                self._make_spare(self.segment_bytes, rest_s)
                if not self.reserve:
                    self._make_file("reserve", self.segment_bytes, self.reserve, rest_s)
                self.shortage = None
            except NoSpace as shortage:
                self.shortage = shortage

    def _make_spare(self, size: int, rest_s: float = 0.0) -> None:
        if all(spare < size for spare in self.spares.values()):
            self._make_file("spare", size, self.spares, rest_s)

    def _make_file(self, kind: str, size: int, files: dict[str, int], rest_s: float) -> None:
        """Make a file of zeros, of at least so many. `NoSpace` leaves nothing of it behind."""
        size += -size % PAGE_BYTES
        self.generation += 1
        name = f"{kind}-{self.generation:016x}.seg"
        try:
            with closing(self.files.create(name)) as file:
                piece = _ZERO_BYTES_AT_EASE if rest_s else _ZERO_BYTES
                for begin in range(0, size, piece):
                    file.write([bytes(min(piece, size - begin))], begin)
                    if rest_s:
                        file.sync()
                        self._hurry.wait(rest_s)
                file.sync()
        except NoSpace:
            if name in self.files.names():
                self.files.remove(name)
                self.files.sync_directory()
            raise
        self.files.sync_directory()
        files[name] = size

    @property
    def is_short_of_space(self) -> bool:
        """Whether there was no room for the next segment or the reserve, when that was last tried."""
        return self.shortage is not None

    @property
    def bytes_held(self) -> int:
        """The bytes of all segments in use. May be asked from any thread."""
        with self._lock:
            return sum(segment.size for segment in self.segments)

    @property
    def is_half_full(self) -> bool:
        """Whether it is time to `prepare` the next segment."""
        last = self.segments[-1] if self.segments else None
        is_half_full = last is None or last.is_damaged or last.end * 2 > last.header.size
        return not self.spares and (is_half_full or unlikely("prepared early"))

    # Reading and giving up

    def read(self, key: int) -> bytes | None:
        """The data of the latest record of `key`, or None. Raises `Rot` if it cannot be read back whole.

        Of a record that was lost in a `Damage` nothing is known: it is as if it had never been written, so that an older one
        of that key is found, or None. One that is appended anew is found.
        """
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
        if file is not None and unlikely("reader forgotten"):
            file.close()
            file = None
        if file is None:
            if len(self._readers) >= READERS_MAX:
                self._readers.pop(next(iter(self._readers))).close()
            file = self.files.open(_name(generation))
        self._readers[generation] = file
        return file

    def cut(self, key: int) -> None:
        """Give up the segments before the first one that has a record of `key` or beyond.

        Whoever cuts has first appended anew whatever else those segments held that is still needed (`Record.needed_at`), and
        what of a `Damage` in them is still in doubt. Which keys a damaged segment had is not known: none beyond those of the
        one behind it, we take it.
        """
        with self._for_good():
            while len(self.segments) > 1 and self._first_ends_below(key):
                self._give_up_first()
            with self._lock:
                self._index.cut(key)

    def _first_ends_below(self, key: int) -> bool:
        first, second = self.segments[:2]
        is_needed = key <= max(first.key_max, first.needed_at)
        return not is_needed and (not first.is_damaged or second.key_max < key)

    def _give_up_first(self) -> None:
        with self._readers_lock:
            with self._lock:
                segment = self.segments.pop(0)
                # Nothing of it may be looked for any more: from here on nobody reads the file.
                self._index.cut(segment.key_max + 1)
            reader = self._readers.pop(segment.generation, None)
            if reader is not None:
                reader.close()
        with self._with_spares():
            # The reserve comes first: without it a node that is short of space cannot cut the next time.
            is_reserve = not self.reserve and segment.size >= self.segment_bytes
            if segment.is_damaged or segment.is_odd:
                if segment.name in self.files.names():
                    self.files.remove(segment.name)
            elif is_reserve or len(self.spares) < SPARES_MAX:
                kind, files = ("reserve", self.reserve) if is_reserve else ("spare", self.spares)
                name = f"{kind}-{segment.generation:016x}.seg"
                self.files.rename(segment.name, name)
                files[name] = segment.size
            else:
                self.files.remove(segment.name)
            self.files.sync_directory()
        self.is_cut = True

    def give_back(self) -> bool:
        """Remove the spares but one, since there is no room for something else; returns whether there were more."""
        with self._for_good(), self._with_spares():
            names = list(self.spares)[1:]
            for name in names:
                self.files.remove(name)
                del self.spares[name]
            if names:
                self.files.sync_directory()
        return bool(names)

    def close(self) -> None:
        """Let go of all files."""
        with self._readers_lock:
            for file in self._readers.values():
                file.close()
            self._readers.clear()
        if self._last is not None:
            self._last.close()


def _read_around(file: File, begin: int, size: int) -> tuple[bytes, int, str]:
    """Bytes of a file, with zeros for pages that the disk cannot read; where the last of these ends, or 0; what was said."""
    try:
        return file.read(size, begin), 0, ""
    except StorageError as problem:
        pages, unread, words = [], 0, str(problem)
        for offset in range(begin, begin + size, PAGE_BYTES):
            page_bytes = min(PAGE_BYTES, begin + size - offset)
            try:
                pages.append(file.read(page_bytes, offset))
            except StorageError:
                unread = offset + page_bytes
                pages.append(bytes(page_bytes))
        return b"".join(pages), unread, words


def _name(generation: int) -> str:
    return f"journal-{generation:016x}.seg"


def _block_size(records: Sequence[Record]) -> int:
    size = BLOCK_HEADER_BYTES
    for record in records:
        size += RECORD_HEADER_BYTES + record.size
    return size + -size % 8
