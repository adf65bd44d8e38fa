"""The protocols of others, byte by byte."""

from __future__ import annotations

import struct

import pytest
from benchmarks.protocols import etcd, grpc, zookeeper
from benchmarks.protocols.grpc import DATA, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, Unary, frame, message


def test_a_message_of_grpc_has_its_length_before_it() -> None:
    assert message(b"abc") == b"\0\0\0\0\x03abc"


def test_a_frame_has_length_type_flags_and_stream() -> None:
    assert frame(DATA, 1, 5, b"abc") == b"\0\0\x03\0\x01\0\0\0\x05abc"
    assert frame(DATA, 0, 1, bytes(0x12345))[:3] == b"\x01\x23\x45"


def test_headers_are_literals_that_the_other_end_need_not_remember() -> None:
    block = grpc.headers("/a.B/C", "h:1")
    assert block.startswith(b"\x83\x86\x04\x06/a.B/C\x01\x03h:1\x0f\x10\x10application/grpc")
    assert block.endswith(b"\x00\x02te\x08trailers")


def test_numbers_and_fields_are_those_of_protocol_buffers() -> None:
    assert [etcd.varint(number) for number in (0, 127, 128, 300)] == [
        b"\0",
        b"\x7f",
        b"\x80\x01",
        b"\xac\x02",
    ]
    assert etcd.put(b"k", b"v" * 200) == b"\x0a\x01k\x12\xc8\x01" + b"v" * 200
    assert etcd.get(b"key") == b"\x0a\x03key"


def speaker() -> Unary:
    made = Unary("/a.B/C", "h:1", lambda: b"body")
    made.outgoing.clear()
    return made


def success(stream: int) -> bytes:
    return (
        frame(HEADERS, 4, stream, b"\x88")
        + frame(DATA, 0, stream, message(b""))
        + frame(HEADERS, 5, stream, b"?")
    )


def test_each_request_has_a_stream_of_its_own_and_answers_come_in_any_order() -> None:
    unary = speaker()
    first, second = unary.request(1.0), unary.request(2.0)
    assert first[5:9] == b"\0\0\0\x01"
    assert second[5:9] == b"\0\0\0\x03"
    assert first.endswith(frame(DATA, 1, 1, message(b"body")))
    data = success(3) + success(1)
    assert [answer for byte in data for answer in unary.feed(bytes([byte]))] == [(2.0, True), (1.0, True)]


def test_headers_alone_and_a_reset_are_errors() -> None:
    unary = speaker()
    for due in (1.0, 2.0, 3.0):
        unary.request(due)
    data = (
        frame(HEADERS, 5, 1, b"status 14")
        + frame(RST_STREAM, 0, 3, bytes(4))
        + frame(RST_STREAM, 0, 3, bytes(4))
    )
    assert unary.feed(data) == [(1.0, False), (2.0, False)]
    assert unary.unanswered() == [3.0]


def test_settings_and_pings_are_acknowledged_once() -> None:
    unary = speaker()
    unary.feed(frame(SETTINGS, 0, 0, bytes(6)) + frame(SETTINGS, 1, 0, b"") + frame(PING, 0, 0, b"12345678"))
    assert unary.outgoing == frame(SETTINGS, 1, 0, b"") + frame(PING, 1, 0, b"12345678")


def test_whoever_is_told_to_go_away_goes() -> None:
    with pytest.raises(ConnectionError):
        speaker().feed(frame(GOAWAY, 0, 0, bytes(8)))


def reply(xid: int, error: int = 0, body: bytes = b"") -> bytes:
    return zookeeper.record(struct.pack(">iqi", xid, 99, error) + body)


def test_a_read_of_zookeeper_is_answered_when_its_second_half_is() -> None:
    session = zookeeper.Session(
        lambda: [(zookeeper.SYNC, zookeeper.text(b"/k")), (zookeeper.GET_DATA, zookeeper.get_data(b"/k"))]
    )
    assert struct.unpack_from(">i", session.outgoing) == (len(session.outgoing) - 4,)
    assert not session.is_ready
    assert session.feed(zookeeper.record(bytes(37))) == []
    assert session.is_ready
    asked = session.request(1.0)
    assert asked == (
        zookeeper.record(struct.pack(">ii", 1, 9) + b"\0\0\0\x02/k")
        + zookeeper.record(struct.pack(">ii", 2, 4) + b"\0\0\0\x02/k\0")
    )
    session.request(2.0)
    data = reply(1) + reply(2, body=b"value") + reply(3) + reply(4, error=-101)
    assert [answer for byte in data for answer in session.feed(bytes([byte]))] == [(1.0, True), (2.0, False)]
    assert session.unanswered() == []


def test_data_is_set_whatever_its_version_and_nodes_are_made_for_everybody() -> None:
    assert zookeeper.set_data(b"/k", b"v") == b"\0\0\0\x02/k\0\0\0\x01v\xff\xff\xff\xff"
    acl = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone"
    assert zookeeper.create(b"/k", b"v") == b"\0\0\0\x02/k\0\0\0\x01v" + acl + b"\0\0\0\0"
