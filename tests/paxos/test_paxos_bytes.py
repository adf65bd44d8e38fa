"""The bytes of messages and records: what they are, for ever; and that what is none of ours is refused with a word."""

from __future__ import annotations

import typing

import pytest

from sofadb.paxos import Ballot, Configuration, Entry, Instance, Value, codec
from sofadb.paxos.foundation import Foundation
from sofadb.paxos.messages import (
    Accept,
    Accepted,
    Ask,
    AskRead,
    Canvass,
    Chosen,
    Confirm,
    Confirmed,
    Forward,
    GrantRead,
    Learn,
    Message,
    Prepare,
    Promise,
    Refused,
    Support,
    TakeOver,
)
from sofadb.paxos.records import Acceptance, ChosenUpTo, CutUpTo, Learned, Note, Promised, Record, Restored

BALLOT, LOWER = Ballot(7, "n1"), Ballot(1, "n2")
ENTRY = Entry("n2", 3, 4, b"payload")
SMALL = Value(5)
VALUE = Value(5, (ENTRY,), Configuration(("n1", "n2"), ("n3",)))

FOR_EVER: list[tuple[Message | Record, str]] = [
    (
        Prepare(BALLOT, Instance(9), LOWER),
        "01010000000000000007026e3100000000000000090000000000000001026e32",
    ),
    (
        Promise(BALLOT, Instance(9), ((Instance(9), LOWER, SMALL),), Instance(9), Instance(8), -1),
        "01020000000000000007026e310000000000000009000000000000000900000000000000"
        "08ffffffffffffffff000000000000000100000000000000090000000000000001026e32"
        "00000000000000050000000000",
    ),
    (
        Promise(BALLOT, Instance(9), (), None, Instance(8), -1),
        "01020000000000000007026e310000000000000009000000000000000000000000000000"
        "08ffffffffffffffff0000000000000000",
    ),
    (
        Accept(BALLOT, Instance(9), VALUE, Instance(8)),
        "01030000000000000007026e310000000000000009000000000000000800000000000000"
        "05010000000102026e31026e3201026e33026e3200000000000000030000000000000004"
        "000000077061796c6f6164",
    ),
    (Accepted(BALLOT, Instance(9)), "01040000000000000007026e310000000000000009"),
    (Refused(LOWER, BALLOT), "01050000000000000001026e320000000000000007026e31"),
    (Canvass(9, Instance(3)), "011100000000000000090000000000000003"),
    (Support(9, BALLOT), "010700000000000000090000000000000007026e31"),
    (
        Confirm(BALLOT, 2, Instance(9), 300),
        "01080000000000000007026e3100000000000000020000000000000009000000000000012c",
    ),
    (
        Confirmed(BALLOT, 2, Instance(9), -1, 270, Instance(12)),
        "01120000000000000007026e3100000000000000020000000000000009ffffffffffffffff000000000000010e000000000000000c",
    ),
    (Chosen(BALLOT, Instance(9)), "010a0000000000000007026e310000000000000009"),
    (Ask(Instance(9)), "010b0000000000000009"),
    (Learn(Instance(9), (SMALL,)), "010c0000000000000009000000000000000100000000000000050000000000"),
    (
        Forward((ENTRY,)),
        "010d0000000000000001026e3200000000000000030000000000000004000000077061796c6f6164",
    ),
    (AskRead(2, 3), "010e00000000000000020000000000000003"),
    (
        GrantRead(2, 3, Instance(9), -1),
        "010f000000000000000200000000000000030000000000000009ffffffffffffffff",
    ),
    (TakeOver(BALLOT, Instance(9)), "01100000000000000007026e310000000000000009"),
    (Promised(BALLOT), "01410000000000000007026e31"),
    (
        Acceptance(Instance(9), BALLOT, SMALL),
        "014200000000000000090000000000000007026e3100000000000000050000000000",
    ),
    (Learned(Instance(9), SMALL), "0143000000000000000900000000000000050000000000"),
    (ChosenUpTo(Instance(9)), "01440000000000000009"),
    (CutUpTo(Instance(9)), "01450000000000000009"),
    (Restored(Instance(9)), "01460000000000000009"),
    (Note(BALLOT, Instance(9)), "01470000000000000007026e310000000000000009"),
    (
        Foundation(Instance(9), 5, ((Instance(1), Configuration(("n1",), ("n2",))),), (("n1", 2, 3),)),
        "016100000000000000090000000000000005000000000000000100000000000000"
        "0101026e3101026e320000000000000001026e3100000000000000020000000000000003",
    ),
]
"""One of each kind, as every version of this program writes and reads it as long as the version byte is 1."""


def encoded(item: Message | Record | Foundation) -> bytes:
    return b"".join(codec.encode(item))


def kind_of(item: object) -> str:
    return type(item).__name__


@pytest.mark.parametrize(("item", "hexadecimal"), FOR_EVER, ids=[kind_of(item) for item, _ in FOR_EVER])
def test_what_another_release_wrote_is_read_and_what_this_one_writes_is_the_same(
    item: Message | Record | Foundation, hexadecimal: str
) -> None:
    """A disk outlives the program that wrote it, and during an upgrade the two releases talk to each other."""
    assert encoded(item).hex() == hexadecimal
    decode = codec.decode_record if isinstance(item, Record) else codec.decode_message
    if isinstance(item, Foundation):
        assert codec.decode_foundation(bytes.fromhex(hexadecimal)) == item
    else:
        assert decode(bytes.fromhex(hexadecimal)) == item


def test_a_large_payload_is_not_copied_and_comes_back_as_a_view_of_what_came_in() -> None:
    """Megabytes of a client's go to the disk and to two peers as they are."""
    large = bytes(range(256)) * 4096
    accept = Accept(BALLOT, Instance(9), Value(5, (Entry("n2", 3, 4, large),)), Instance(8))
    buffers = codec.encode(accept)
    assert any(buffer is large for buffer in buffers)
    assert all(buffers), "nothing empty is written"
    received = b"".join(buffers)
    decoded = codec.decode_message(received)
    assert decoded == accept
    assert isinstance(decoded, Accept)
    payload = decoded.value.entries[0].payload
    assert isinstance(payload, memoryview)
    assert payload.obj is received


def test_a_canvass_of_before_there_were_changes_is_read_as_of_somebody_who_knows_nothing() -> None:
    assert codec.decode_message(bytes.fromhex("01060000000000000009")) == Canvass(9, Instance(0))


def test_a_confirmation_of_before_there_was_doubt_is_read_as_of_somebody_who_has_none() -> None:
    old = "01090000000000000007026e3100000000000000020000000000000009ffffffffffffffff000000000000010e"
    assert codec.decode_message(bytes.fromhex(old)) == Confirmed(BALLOT, 2, Instance(9), -1, 270)


def test_the_bytes_of_every_kind_are_written_down_here() -> None:
    kinds = {*typing.get_args(Message), *typing.get_args(Record), Foundation}
    assert {type(item) for item, _ in FOR_EVER} == kinds


def test_a_node_id_that_is_not_ascii_is_refused() -> None:
    """Node ids are compared and ordered as text on every node; what is not plain text has no place among them."""
    good = encoded(Prepare(BALLOT, Instance(1)))
    assert good.count(b"n1") == 1
    with pytest.raises(codec.Malformed, match="not ASCII"):
        codec.decode_message(good.replace(b"n1", b"\xc3\xa9"))


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ((b"\x00", b"\x00"), "at least one acceptor"),
        ((b"\x02\x02n2\x02n1", b"\x00"), "sorted and named once"),
        ((b"\x02\x02n1\x02n1", b"\x00"), "sorted and named once"),
        ((b"\x01\x02n1", b"\x01\x02n1"), "no vote"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(group: tuple[bytes, bytes], words: str) -> None:
    """Nobody votes; or the voters are out of order or named twice, so that a majority would be miscounted."""
    good = encoded(Accept(BALLOT, Instance(1), VALUE, Instance(0)))
    groups = b"\x02\x02n1\x02n2" + b"\x01\x02n3"
    assert good.count(groups) == 1
    with pytest.raises(codec.Malformed, match=words):
        codec.decode_message(good.replace(groups, b"".join(group)))


def test_bytes_behind_the_end_are_refused() -> None:
    """The sender knows a field that we do not know, or two messages ran together: either way half of it is not the whole."""
    with pytest.raises(codec.Malformed, match="left over"):
        codec.decode_message(encoded(Prepare(BALLOT, Instance(1))) + b"\x00")


@pytest.mark.parametrize("kind", [0, 19, 64, 72, 255])
def test_a_kind_that_nobody_has_defined_is_named(kind: int) -> None:
    for decode in (codec.decode_message, codec.decode_record):
        with pytest.raises(codec.Malformed, match=f"kind {kind}"):
            decode(bytes((codec.VERSION, kind)))


def test_a_message_is_no_record_and_a_record_no_message() -> None:
    """What a peer sends can never pass for what this node has promised."""
    with pytest.raises(codec.Malformed):
        codec.decode_record(encoded(Prepare(BALLOT, Instance(1))))
    with pytest.raises(codec.Malformed):
        codec.decode_message(encoded(Promised(BALLOT)))


@pytest.mark.parametrize(
    "record",
    [
        Promised(BALLOT),
        Acceptance(Instance(3), BALLOT, VALUE),
        Learned(Instance(3), VALUE),
        ChosenUpTo(Instance(3)),
    ],
    ids=kind_of,
)
def test_half_a_record_is_none(record: Record) -> None:
    """A promise is a round and a node id together, in one record: read back are both or nothing."""
    whole = encoded(record)
    assert codec.decode_record(whole) == record
    for cut in range(len(whole)):
        with pytest.raises(codec.Malformed, match="too early"):
            codec.decode_record(whole[:cut])


def test_a_length_that_is_a_lie_reserves_nothing() -> None:
    """Twenty bytes claim four billion entries, and one entry claims four billion bytes. Neither is there."""
    claims = [
        bytes((codec.VERSION, 13)) + (2**64 - 1).to_bytes(8, "big"),
        bytes((codec.VERSION, 12)) + bytes(8) + (2**64 - 1).to_bytes(8, "big"),
        encoded(Accept(BALLOT, Instance(1), VALUE, Instance(0))).replace(
            b"\x00\x00\x00\x07payload", b"\xff\xff\xff\xffpayload"
        ),
    ]
    for claim in claims:
        with pytest.raises(codec.Malformed, match="too early"):
            codec.decode_message(claim)
