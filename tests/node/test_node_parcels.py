"""Parcels come back as they were, and whatever else arrives is malformed."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofadb.node.parcels import (
    DIGESTS_MAX,
    PART_BYTES_MAX,
    SNAPSHOT_BYTES_MAX,
    Digests,
    Fetch,
    Full,
    Gone,
    Offering,
    Parcel,
    Part,
    Title,
    decode_parcel,
    encode_parcel,
    is_parcel,
)
from sofadb.paxos import Instance
from sofadb.paxos.codec import Malformed, decode_message, encode
from sofadb.paxos.messages import Ask

u64 = st.integers(0, 2**64 - 1)
titles = st.builds(Title, u64, u64)
parcels: st.SearchStrategy[Parcel] = st.one_of(
    st.builds(Offering, titles, st.integers(1, SNAPSHOT_BYTES_MAX)),
    st.builds(Fetch, titles, u64, st.integers(1, PART_BYTES_MAX)),
    st.builds(Part, titles, u64, st.binary(min_size=1, max_size=100)),
    st.builds(Gone, titles),
    st.just(Full()),
    st.builds(Digests, st.lists(st.tuples(u64, st.integers(0, 2**32 - 1)), max_size=DIGESTS_MAX).map(tuple)),
)


def encoded(parcel: Parcel) -> bytes:
    return b"".join(encode_parcel(parcel))


@given(parcels)
def test_a_parcel_comes_back_as_it_was_and_is_no_message(parcel: Parcel) -> None:
    contents = encoded(parcel)
    assert is_parcel(contents)
    assert decode_parcel(contents) == parcel
    with pytest.raises(Malformed):
        decode_message(contents)


def test_a_message_is_no_parcel() -> None:
    assert not is_parcel(b"".join(encode(Ask(Instance(1)))))
    assert not is_parcel(b"")


@given(parcels, st.data())
def test_a_parcel_with_some_bytes_replaced_is_another_parcel_or_malformed(
    parcel: Parcel, data: st.DataObject
) -> None:
    contents = encoded(parcel)
    begin = data.draw(st.integers(0, len(contents)))
    end = data.draw(st.integers(begin, len(contents)))
    with contextlib.suppress(Malformed):
        decode_parcel(contents[:begin] + data.draw(st.binary(max_size=12)) + contents[end:])


TITLE = Title(7, 1)


@pytest.mark.parametrize(
    ("contents", "problem"),
    [
        (b"", "ends too early"),
        (b"\x01\x41", "ends too early"),
        (b"\x02" + encoded(Gone(TITLE))[1:], "format version 2"),
        (b"\x01\xff", "no parcel is of kind 255"),
        (encoded(Gone(TITLE)) + b"x", "left over"),
        (encoded(Full()) + b"x", "left over"),
        (encoded(Offering(TITLE, 0)), "a snapshot of 0 bytes"),
        (encoded(Offering(TITLE, SNAPSHOT_BYTES_MAX + 1)), "a snapshot of"),
        (encoded(Fetch(TITLE, 0, 0)), "a part of 0 bytes"),
        (encoded(Fetch(TITLE, 0, PART_BYTES_MAX + 1)), "a part of 1048577 bytes"),
        (encoded(Part(TITLE, 0, b"")), "a part of 0 bytes"),
        (encoded(Part(TITLE, 0, bytes(PART_BYTES_MAX + 1))), "a part of 1048577 bytes"),
        (encoded(Digests(((1, 2),)))[:-1], "1 digests in 11 bytes"),
        (encoded(Digests(((1, 2),) * (DIGESTS_MAX + 1))), "65 digests"),
    ],
)
def test_what_is_out_of_bounds_is_malformed(contents: bytes, problem: str) -> None:
    with pytest.raises(Malformed, match=problem):
        decode_parcel(contents)
