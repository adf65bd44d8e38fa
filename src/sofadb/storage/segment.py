"""How bytes lie in one file of the journal.

A *segment* is a file that is written full of zeros, synced, and only then used: writing into it later changes no metadata,
which makes a sync cheap. It begins with a page for its header and a page for its *mark*; then come *blocks*. One block is one
group commit: one write, one sync, whole or not at all. A block holds *records*: a key, data, and the data's CRC32C. The
block's own CRC32C covers its header and its records' headers, and with their checksums everything in it.

How to tell what lies there:

- A block is *whole* if its checksums fit. They cover the segment's generation and the block's own offset, so what is left over
  from an earlier use of the file, or was written to the wrong place, is never taken for a block. They also cover the segment's
  *salt*, a random number drawn for each use: records hold what clients send, and no client must be able to
  send something that looks like a block.
- Damage is *rot* if it lies where the log is proven to have been synced. The next block is written only after the sync
  of the one before has returned, so a whole block is evidence for everything before it, and the header of the next segment, which
  says where this one ends, is evidence for all of it.
- Damage without such evidence behind it is a *torn tail*: a write that was under way when the machine stopped, and that
  nobody was told of.

The last block of all has no evidence behind it, so the mark says how far the segment is synced. It is written in place when
the log has been quiet for a moment, and when the next segment has been begun, whose generation it then names: a lost last
segment is missed. It also holds a *note*, a few bytes of whoever writes the log: what is too dear to be lost with the last
record. It stands twice, on a page behind the header and on the segment's last page, so that neither a page that
goes bad nor one that was written to the wrong place takes a record and the proof of it at once. Each copy counts by
itself; one that cannot be read proves nothing, and costs nothing.

What this does not know: whether a journal of which every segment is gone ever was. Peers have to remember that (rule P10).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from crc32c import crc32c

from .files import PAGE_BYTES, Buffer, StorageError

FORMAT_VERSION = 2
"""Rises with every change of what is described here: a file read by other rules could pass for a torn one."""
MAGIC = b"SofaJrnl"
MARK_OFFSET = PAGE_BYTES
SEGMENT_HEADER_BYTES = 2 * PAGE_BYTES
"""The header and the mark; the first block begins behind them."""
BLOCK_BYTES_MAX = 256 << 20
"""A block that claims to be larger is none."""
SEGMENT_BYTES_MAX = 1 << 31
"""No segment is larger: one that claims to be is none of ours."""

_SEGMENT = Struct(">8sIQQQQQQ")  # magic, format, owner, generation, previous, size, end of previous, salt
_CHECKED_BYTES = 508
"""The header's checksum covers so much and stands behind it, in every format version."""
NOTE_BYTES_MAX = 256
"""With a note of this size a mark still fits into a sector, which is written whole or not at all."""
_MARK = Struct(f">8sQQQI{NOTE_BYTES_MAX}s")  # magic, generation, end, followed by, bytes of the note, note
_MARK_MAGIC = b"SofaMark"
_CHECKSUM = Struct(">I")
_BLOCK = Struct(">IQQII")  # checksum, salt, offset, bytes after this header, records
_RECORD = Struct(">QII")  # key, bytes of data, checksum of data

BLOCK_HEADER_BYTES = _BLOCK.size
RECORD_HEADER_BYTES = _RECORD.size
_ZEROS = bytes(8)


class Rot(StorageError):
    """What was once stable on disk is damaged."""

    remedy = "start the node again: it learns from the others what its log does not tell any more."

    def __init__(self, file: str, offset: int, reason: str, last_key: int = 0) -> None:
        where = f", after the record of instance {last_key}" if last_key else ""
        super().__init__(
            f"{file} is damaged at offset {offset}{where}: {reason}. This was on disk and is not any more; "
            f"{self.remedy}"
        )
        self.file = file
        self.offset = offset
        self.reason = reason


class Record:
    """Something to keep. A later record with the same positive key takes its place; 0 is no key. It does not change."""

    __slots__ = ("data", "key", "needed_at", "size")

    def __init__(self, key: int, data: Sequence[Buffer], needed_at: int = 0) -> None:
        self.key = key
        self.data = data
        self.needed_at = needed_at
        """A cut at this key, or a lower one, keeps it, whatever `key` is (in this life of the journal; not written down)."""
        self.size = sum(map(len, data))
        """Bytes of data."""


class SegmentHeader(NamedTuple):
    """The first bytes of a segment."""

    owner: int
    """Whose journal this is: a segment of another node's is not taken for ours."""
    generation: int
    """Rises with every use of a file, and never comes again."""
    previous: int
    """The generation before it; 0 in the very first segment."""
    size: int
    previous_end: int
    """Where the segment before it ends: everything up to there is synced."""
    salt: int
    """Drawn at random for this use of the file."""

    @property
    def end_max(self) -> int:
        """Blocks end here at the latest: the last page is the mark's."""
        return self.size - PAGE_BYTES

    def encode(self) -> bytes:
        body = _SEGMENT.pack(MAGIC, FORMAT_VERSION, *self).ljust(_CHECKED_BYTES, b"\0")
        return (body + _CHECKSUM.pack(crc32c(body))).ljust(PAGE_BYTES, b"\0")

    @classmethod
    def decode(cls, data: Buffer) -> SegmentHeader | str:
        """Return the header, or in words why it is damaged. Raises `StorageError` for one of another format."""
        if len(data) < PAGE_BYTES:
            return "the file is too short for a header"
        magic, version, *fields = _SEGMENT.unpack_from(data)
        fits = _CHECKSUM.unpack_from(data, _CHECKED_BYTES)[0] == crc32c(data[:_CHECKED_BYTES])
        if magic != MAGIC or not fits:
            return "the header's checksum does not fit"
        if version != FORMAT_VERSION:
            raise StorageError(
                f"it has format version {version}, and this program knows version {FORMAT_VERSION}: "
                "start the node with a program that knows it"
            )
        return cls(*fields)


class Mark(NamedTuple):
    """How far a segment is known to be synced."""

    generation: int
    end: int
    """Everything in the segment below this offset is synced."""
    followed_by: int = 0
    """The generation of the next segment, which is there to stay; 0 while there is none."""
    note: bytes = b""
    """What whoever writes the log had noted when the mark was written."""

    def encode(self) -> bytes:
        assert len(self.note) <= NOTE_BYTES_MAX
        body = _MARK.pack(_MARK_MAGIC, self.generation, self.end, self.followed_by, len(self.note), self.note)
        return body + _CHECKSUM.pack(crc32c(body))

    @classmethod
    def decode(cls, data: Buffer, generation: int) -> Mark:
        """Return the mark of this use of the file; one that proves nothing if there is none, or none to be read."""
        if len(data) >= _MARK.size + _CHECKSUM.size:
            magic, of_generation, end, followed_by, size, note = _MARK.unpack_from(data)
            mark = cls(of_generation, end, followed_by, note[:size])
            fits = _CHECKSUM.unpack_from(data, _MARK.size)[0] == crc32c(data[: _MARK.size])
            if fits and magic == _MARK_MAGIC and mark.generation == generation:
                return mark
        return cls(generation, SEGMENT_HEADER_BYTES)


def encode_block(segment: SegmentHeader, offset: int, records: Sequence[Record]) -> tuple[list[Buffer], int]:
    """Return a block as buffers to be written at `offset`, and how many bytes they are. Copies no data."""
    buffers: list[Buffer] = [b""]
    headers, length = [], 0
    for record in records:
        checksum = 0
        for buffer in record.data:
            checksum = crc32c(buffer, checksum)
        header = _RECORD.pack(record.key, record.size, checksum)
        headers.append(header)
        buffers += (header, *record.data)
        length += RECORD_HEADER_BYTES + record.size
    rest = _BLOCK.pack(0, segment.salt, offset, length, len(records))[4:]
    buffers[0] = _CHECKSUM.pack(_block_checksum(segment, rest, headers)) + rest
    total = BLOCK_HEADER_BYTES + length
    if total % 8:
        buffers.append(_ZEROS[total % 8 :])
        total += 8 - total % 8
    return buffers, total


def _block_checksum(segment: SegmentHeader, fields: Buffer, headers: Sequence[Buffer]) -> int:
    begin = crc32c(segment.generation.to_bytes(8, "big"))
    return crc32c(b"".join(headers), crc32c(fields, begin))


class Block(NamedTuple):
    """A whole block: where it ends, and its records as (key, where their headers are, data)."""

    end: int
    records: list[tuple[int, int, memoryview]]


def read_block(data: memoryview, segment: SegmentHeader, offset: int) -> Block | None:
    """Return the block at `offset` of a segment's bytes, or None if there is no whole one."""
    if offset + BLOCK_HEADER_BYTES > len(data):
        return None
    checksum, salt, of_offset, length, count = _BLOCK.unpack_from(data, offset)
    at = offset + BLOCK_HEADER_BYTES
    end = at + length
    if (
        salt != segment.salt
        or of_offset != offset
        or end > min(len(data), offset + BLOCK_BYTES_MAX)
        or count * RECORD_HEADER_BYTES > length
    ):
        return None
    records, headers = [], []
    for _ in range(count):
        if at + RECORD_HEADER_BYTES > end:
            return None
        key, size, of_data = _RECORD.unpack_from(data, at)
        headers.append(data[at : at + RECORD_HEADER_BYTES])
        begin = at + RECORD_HEADER_BYTES
        if begin + size > end:
            return None
        records.append((key, at, of_data, data[begin : begin + size]))
        at = begin + size
    fields = data[offset + 4 : offset + BLOCK_HEADER_BYTES]
    if at != end or _block_checksum(segment, fields, headers) != checksum:
        return None
    if any(crc32c(contents) != of_data for _, _, of_data, contents in records):
        return None
    return Block(end + -end % 8, [(key, where, contents) for key, where, _, contents in records])


def whole_blocks_beyond(data: memoryview, segment: SegmentHeader, offset: int) -> Iterator[int]:
    """Where, beyond `offset`, whole blocks of this segment begin."""
    pattern = segment.salt.to_bytes(8, "big")
    haystack = bytes(data)
    at = haystack.find(pattern, offset)
    while at >= 0:
        begin = at - 4
        if begin > offset and begin % 8 == 0 and read_block(data, segment, begin) is not None:
            yield begin
        at = haystack.find(pattern, at + 1)


def read_record_header(data: Buffer) -> tuple[int, int, int]:
    """The key, size and checksum in a record's header."""
    key, size, checksum = _RECORD.unpack_from(data)
    return key, size, checksum
