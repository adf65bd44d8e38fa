"""What was framed comes out as it went in, and whatever else arrives is a `BadPeer` with a sentence."""

from __future__ import annotations

import contextlib
import json
import typing
from itertools import pairwise

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from sofadb.node.frames import (
    FRAME_BYTES_MAX,
    GREETING_BYTES_MAX,
    PREAMBLE,
    BadPeer,
    FrameReader,
    Greeting,
    frame,
)
from sofadb.paxos import Ballot, Configuration, Entry, Instance, Message, Value, messages
from sofadb.paxos.codec import Malformed, decode_message, encode

GREETING = Greeting(
    "c0ffee", "n2", 3, "l3", "l1", "n1", "small", "127.0.0.1:17002", "127.0.0.1:7002", has_history=True
)


def stream(*contents: bytes) -> bytes:
    """The bytes of a connection that carries these frames."""
    return PREAMBLE + b"".join(b"".join(frame([each])) for each in contents)


# Frames


@given(st.lists(st.binary(max_size=50)), st.data())
def test_frames_are_the_same_wherever_the_stream_is_cut(contents: list[bytes], data: st.DataObject) -> None:
    sent = stream(*contents)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)))))
    reader = FrameReader()
    received = [
        each for begin, end in pairwise([0, *cuts, len(sent)]) for each in reader.feed(sent[begin:end])
    ]
    assert received == contents


def test_contents_in_several_buffers_are_one_frame() -> None:
    assert b"".join(frame([b"ab", memoryview(b"cd"), b""])) == b"".join(frame([b"abcd"]))


@pytest.mark.parametrize("start", [b"*1\r\n$4\r\nPING\r\n", b"GET / HTTP/1.1\r\n", b"S\x00", b"SofaDB\x01"])
def test_another_protocol_is_recognized_at_its_first_wrong_byte(start: bytes) -> None:
    with pytest.raises(BadPeer, match="does not speak SofaDB's protocol"):
        list(FrameReader().feed(start))


def test_another_version_is_named() -> None:
    with pytest.raises(BadPeer, match="version 9 of the protocol, this node version 5"):
        list(FrameReader().feed(PREAMBLE[:-1] + b"\x09"))


def _header(size: int) -> bytes:
    start = size.to_bytes(4, "big") + bytes(4)
    return start + crc32c(start).to_bytes(4, "big")


@pytest.mark.parametrize("bytes_max", [GREETING_BYTES_MAX, FRAME_BYTES_MAX], ids=["greeting", "message"])
def test_frame_larger_than_is_allowed_now_is_refused_by_its_header(bytes_max: int) -> None:
    for size in (bytes_max + 1, 2**32 - 1):
        reader = FrameReader()
        reader.bytes_max = bytes_max
        with pytest.raises(BadPeer, match=f"a frame of {size} bytes, and {bytes_max} are allowed"):
            list(reader.feed(PREAMBLE + _header(size)))


def test_what_is_allowed_may_rise_between_two_frames_that_arrive_together() -> None:
    reader = FrameReader()
    large = bytes(GREETING_BYTES_MAX + 1)
    received = []
    for contents in reader.feed(stream(b"greeting", large)):
        received.append(contents)
        reader.bytes_max = FRAME_BYTES_MAX
    assert received == [b"greeting", large]


@given(st.binary(min_size=1, max_size=50), st.data())
def test_no_frame_with_a_wrong_bit_is_handed_on(contents: bytes, data: st.DataObject) -> None:
    sent = bytearray(stream(b"first", contents))
    begin = len(stream(b"first"))
    bit = data.draw(st.integers(8 * begin, 8 * len(sent) - 1))
    sent[bit // 8] ^= 1 << bit % 8
    frames = FrameReader().feed(bytes(sent))
    assert next(frames) == b"first"
    with pytest.raises(BadPeer, match="damaged"):
        next(frames)


def test_a_damaged_length_is_noticed_at_once() -> None:
    """Otherwise the link would be mute until as many bytes had come as the length says."""
    sent = bytearray(stream(b"first", b"second"))
    sent[len(stream(b"first"))] ^= 4
    with pytest.raises(BadPeer, match="the header of a frame arrived damaged"):
        list(FrameReader().feed(bytes(sent)))


def test_damaged_contents_are_named() -> None:
    with pytest.raises(BadPeer, match="arrived damaged"):
        list(FrameReader().feed(stream(b"contents")[:-1] + b"?"))


@given(st.sampled_from([b"", PREAMBLE, PREAMBLE + b"\x00\x00\x00"]), st.lists(st.binary(max_size=40)))
@settings(max_examples=300)
def test_arbitrary_bytes_are_a_bad_peer_and_nothing_worse(start: bytes, pieces: list[bytes]) -> None:
    reader = FrameReader()
    with contextlib.suppress(BadPeer):
        for piece in (start, *pieces):
            for contents in reader.feed(piece):
                Greeting.decode(contents)


# Greetings


def test_greeting_comes_back_as_it_was() -> None:
    assert Greeting.decode(GREETING.encode()) == GREETING


def changed(**fields: object) -> bytes:
    """A greeting with other fields."""
    return json.dumps(json.loads(GREETING.encode()) | fields).encode()


@pytest.mark.parametrize(
    "greeting",
    [
        *(b"", b"hello", b"\xff\xfe", b"null", b"3", b'"n2"', b"[]", b"{}", b'{"cluster": "c"}'),
        *(changed(**{field: 1}) for field in ("cluster", "acceptor", "to", "peer_address", "problem")),
        *(changed(starts=starts) for starts in ("1", 1.0, True, None, [1])),
        *(changed(has_history=what) for what in (1, None, "yes")),
        changed(joining=0),
        changed(acceptor=["n2"]),
        changed(level="1"),
        changed(problem=None),
    ],
)
def test_greeting_with_anything_missing_or_of_the_wrong_type_is_refused(greeting: bytes) -> None:
    with pytest.raises(BadPeer, match="its greeting"):
        Greeting.decode(greeting)


def test_what_a_later_program_says_beyond_is_passed_over() -> None:
    assert Greeting.decode(changed(extra=1)) == GREETING


def test_greeting_nested_as_deep_as_its_size_allows_is_refused_like_any_other() -> None:
    for bracket in (b"[", b'{"a":'):
        with pytest.raises(BadPeer, match="its greeting"):
            Greeting.decode(bracket * (GREETING_BYTES_MAX // len(bracket)))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(anything | st.fixed_dictionaries(dict.fromkeys(json.loads(GREETING.encode()), anything)))
def test_arbitrary_json_is_a_greeting_or_a_bad_peer(fields: object) -> None:
    with contextlib.suppress(BadPeer):
        Greeting.decode(json.dumps(fields).encode())


# Messages, as a frame holds them

BALLOT = Ballot(7, "n1")
VALUE = Value(1, (Entry("n2", 3, 4, b"payload"),), Configuration(("n1", "n2"), ("n3",)))
MESSAGES: list[Message] = [
    messages.Prepare(BALLOT, Instance(1)),
    messages.Promise(BALLOT, Instance(1), ((Instance(2), BALLOT, VALUE),), Instance(9), Instance(1), 5),
    messages.Accept(BALLOT, Instance(1), VALUE, Instance(0)),
    messages.Accepted(BALLOT, Instance(1)),
    messages.Refused(BALLOT, BALLOT),
    messages.Canvass(1),
    messages.Support(1, BALLOT),
    messages.Confirm(BALLOT, 1, Instance(0)),
    messages.Confirmed(BALLOT, 1, Instance(0), 5),
    messages.Chosen(BALLOT, Instance(1)),
    messages.TakeOver(BALLOT, Instance(1)),
    messages.Ask(Instance(1)),
    messages.Learn(Instance(1), (VALUE, VALUE)),
    messages.Forward(VALUE.entries),
    messages.AskRead(1, 2),
    messages.GrantRead(1, 2, Instance(1), 5),
]


@given(st.sampled_from(MESSAGES), st.data())
@settings(max_examples=500)
def test_message_with_some_bytes_replaced_is_another_message_or_malformed(
    message: Message, data: st.DataObject
) -> None:
    encoded = b"".join(encode(message))
    begin = data.draw(st.integers(0, len(encoded)))
    end = data.draw(st.integers(begin, len(encoded)))
    with contextlib.suppress(Malformed):
        decode_message(encoded[:begin] + data.draw(st.binary(max_size=12)) + encoded[end:])


def test_there_is_a_sample_of_every_message() -> None:
    assert {type(message) for message in MESSAGES} == set(typing.get_args(Message))
