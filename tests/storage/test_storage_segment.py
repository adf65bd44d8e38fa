"""How bytes lie in a segment: what was encoded is read, and nothing else is."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sofadb.storage.files import PAGE_BYTES
from sofadb.storage.segment import (
    SEGMENT_HEADER_BYTES,
    Mark,
    Record,
    SegmentHeader,
    encode_block,
    read_block,
    whole_blocks_beyond,
)

RECORDS = st.lists(
    st.builds(Record, st.integers(0, 2**64 - 1), st.lists(st.binary(max_size=40), max_size=3)), max_size=5
)


SEVENTH = SegmentHeader(owner=1, generation=7, previous=6, size=1 << 24, previous_end=4711, salt=0x5A17)
EIGHTH = SEVENTH._replace(generation=8)
SALTED_ANEW = SEVENTH._replace(salt=0x5A18)


def laid_out(records: list[Record], offset: int = 64) -> bytes:
    buffers, total = encode_block(SEVENTH, offset, records)
    data = b"".join(buffers)
    assert len(data) == total
    assert total % 8 == 0
    return bytes(offset) + data


@given(RECORDS)
@settings(deadline=None)
def test_a_block_is_read_as_it_was_written(records: list[Record]) -> None:
    data = laid_out(records)
    block = read_block(memoryview(data), SEVENTH, 64)
    assert block is not None
    assert block.end == len(data)
    assert [(key, bytes(found)) for key, _, found in block.records] == [
        (record.key, b"".join(record.data)) for record in records
    ]


@given(RECORDS, st.data())
@settings(deadline=None)
def test_a_block_with_a_flipped_bit_cut_short_or_elsewhere_is_none(
    records: list[Record], data: st.DataObject
) -> None:
    whole = laid_out(records)
    padding = len(whole) - 64 - 28 - sum(16 + sum(map(len, record.data)) for record in records)
    flipped = bytearray(whole)
    flipped[data.draw(st.integers(64, len(whole) - padding - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert read_block(memoryview(flipped), SEVENTH, 64) is None
    short = data.draw(st.integers(0, len(whole) - padding - 1))
    assert read_block(memoryview(whole)[:short], SEVENTH, 64) is None
    assert read_block(memoryview(whole), EIGHTH, 64) is None
    assert read_block(memoryview(whole), SALTED_ANEW, 64) is None
    assert read_block(memoryview(bytes(8) + whole), SEVENTH, 72) is None


@given(st.binary(max_size=300), st.integers(0, 300))
def test_noise_and_zeros_are_no_block(noise: bytes, offset: int) -> None:
    assert read_block(memoryview(noise), SEVENTH, offset) is None
    assert read_block(memoryview(bytes(400)), SEVENTH, offset) is None


def test_buffers_are_not_copied() -> None:
    large = bytes(1 << 20)
    buffers, _ = encode_block(SEVENTH, 0, [Record(1, [large])])
    assert any(buffer is large for buffer in buffers)


def test_whole_blocks_beyond_damage_are_found() -> None:
    first = laid_out([Record(1, [b"one"])])
    second = b"".join(encode_block(SEVENTH, len(first), [Record(2, [b"two"])])[0])
    data = bytearray(first + second)
    data[70] ^= 1
    assert list(whole_blocks_beyond(memoryview(data), SEVENTH, 64)) == [len(first)]
    assert list(whole_blocks_beyond(memoryview(data), EIGHTH, 64)) == []


def test_a_segment_header_is_read_as_it_was_written() -> None:
    header = SEVENTH
    assert len(header.encode()) == PAGE_BYTES
    assert SegmentHeader.decode(header.encode()) == header
    assert SegmentHeader.decode(bytes(PAGE_BYTES)) == "the header's checksum does not fit"
    assert SegmentHeader.decode(b"short") == "the file is too short for a header"


def test_a_mark_proves_something_only_of_its_own_use_of_the_file() -> None:
    nothing = Mark(5, SEGMENT_HEADER_BYTES)
    mark = Mark(5, 9000, 6)
    assert Mark.decode(mark.encode(), 5) == mark
    assert Mark.decode(Mark(4, 9000, 5).encode(), 5) == nothing
    assert Mark.decode(bytes(PAGE_BYTES), 5) == nothing
    assert Mark.decode(b"", 5) == nothing
    for offset in range(len(mark.encode())):
        flipped = bytearray(mark.encode())
        flipped[offset] ^= 1
        assert Mark.decode(flipped, 5) == nothing
