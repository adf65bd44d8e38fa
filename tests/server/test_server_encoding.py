"""From replies to bytes: what a client reads is what was meant, and what is large is neither copied nor made before its time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.server_fakes import shown
from sofadb.database.replies import (
    NULL_ARRAY,
    OK,
    NullArray,
    Pairs,
    Reply,
    ReplyError,
    Status,
    Unordered,
    Verbatim,
)
from sofadb.server import encoding as module
from sofadb.server.encoding import LARGE_BYTES, LONG_ITEMS, Buffer, encode
from sofadb.server.state import Settings


def pieces_of(encoded: bytes | Iterator[Buffer]) -> list[Buffer]:
    return [encoded] if isinstance(encoded, bytes) else list(encoded)


def encoded(replies: list[Reply], resp3: bool = False) -> bytes:
    return b"".join(pieces_of(encode(replies, resp3)))


@pytest.mark.parametrize(
    ("reply", "resp2", "resp3"),
    [
        (OK, b"+OK\r\n", b"+OK\r\n"),
        (ReplyError("ERR no"), b"-ERR no\r\n", b"-ERR no\r\n"),
        (b"", b"$0\r\n\r\n", b"$0\r\n\r\n"),
        (b"a\r\n\x00\xff", b"$5\r\na\r\n\x00\xff\r\n", b"$5\r\na\r\n\x00\xff\r\n"),
        (memoryview(b"abcd")[1:3], b"$2\r\nbc\r\n", b"$2\r\nbc\r\n"),
        (0, b":0\r\n", b":0\r\n"),
        (-(2**63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
        (None, b"$-1\r\n", b"_\r\n"),
        (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
        ([], b"*0\r\n", b"*0\r\n"),
        ([1, [None, b"a"]], b"*2\r\n:1\r\n*2\r\n$-1\r\n$1\r\na\r\n", b"*2\r\n:1\r\n*2\r\n_\r\n$1\r\na\r\n"),
        ({}, b"*0\r\n", b"%0\r\n"),
        (
            {b"a": 1, b"b": []},
            b"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*0\r\n",
            b"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*0\r\n",
        ),
        (Unordered([b"a", 1]), b"*2\r\n$1\r\na\r\n:1\r\n", b"~2\r\n$1\r\na\r\n:1\r\n"),
        (
            Pairs([b"a", 1, b"b", 2.5]),
            b"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n$3\r\n2.5\r\n",
            b"*2\r\n*2\r\n$1\r\na\r\n:1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n",
        ),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        (0.1, b"$19\r\n0.10000000000000001\r\n", b",0.10000000000000001\r\n"),
        (math.inf, b"$3\r\ninf\r\n", b",inf\r\n"),
        (-math.inf, b"$4\r\n-inf\r\n", b",-inf\r\n"),
        (math.nan, b"$3\r\nnan\r\n", b",nan\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (False, b":0\r\n", b"#f\r\n"),
        (Verbatim(b"text"), b"$4\r\ntext\r\n", b"=8\r\ntxt:text\r\n"),
    ],
    ids=lambda each: repr(each)[:24],
)
def test_each_kind_of_reply_in_both_protocols(reply: Reply, resp2: bytes, resp3: bytes) -> None:
    assert encode([reply], resp3=False) == resp2
    assert encode([reply], resp3=True) == resp3
    assert encode([reply, reply], resp3=True) == 2 * resp3


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ERR one\r\n+OK\r\n", b"-ERR one  +OK\r\n"),
        ("ERR '\n'", b"-ERR ' '\r\n"),
        ("ERR '\udcff\u00e9'", b"-ERR '\xff\xc3\xa9'\r\n"),
    ],
)
def test_an_error_is_one_line_whatever_a_client_has_made_it_say(text: str, line: bytes) -> None:
    assert encode([ReplyError(text)], resp3=False) == line
    assert encode([[ReplyError(text)]], resp3=True) == b"*1\r\n" + line


# Replies as clients understand them


line_of_text = st.text("abc DEF'_-", max_size=10)
scalars = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=40).map(memoryview),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.booleans(),
    st.sampled_from([None, NULL_ARRAY]),
    line_of_text.map(lambda text: Status(text.encode())),
    line_of_text.map(lambda text: ReplyError("ERR " + text)),
    st.binary(max_size=40).map(Verbatim),
)
replies = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.binary(max_size=20), inner, max_size=4),
    max_leaves=30,
)


def understood(reply: Reply, resp3: bool) -> Any:
    """What a client makes of it."""
    match reply:
        case NullArray():
            return None
        case Status() | Verbatim():
            return reply.text
        case memoryview():
            return bytes(reply)
        case ReplyError():
            return f"-{reply.text}"
        case bool():
            return reply if resp3 else int(reply)
        case float():
            return reply if resp3 else b"%.17g" % reply
        case list():
            return [understood(each, resp3) for each in reply]
        case dict() if resp3:
            return {key: understood(value, resp3) for key, value in reply.items()}
        case dict():
            return [each for key, value in reply.items() for each in (key, understood(value, resp3))]
    return reply


def shown_deeply(reply: Any) -> Any:
    if isinstance(reply, dict):
        return {key: shown_deeply(value) for key, value in reply.items()}
    if isinstance(reply, list):
        return [shown_deeply(each) for each in reply]
    return shown(reply)


@given(st.lists(replies, max_size=4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_client_reads_what_was_meant(replies: list[Reply], resp3: bool) -> None:
    reader = hiredis.Reader()
    reader.feed(encoded(replies, resp3))
    read = [shown_deeply(reader.gets()) for _ in replies]
    assert read == [understood(each, resp3) for each in replies]
    assert not reader.has_data()


@given(st.lists(replies, max_size=4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_in_pieces_or_in_one_it_is_the_same_bytes(replies: list[Reply], resp3: bool) -> None:
    in_one = encode(replies, resp3)
    assert isinstance(in_one, bytes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LARGE_BYTES", 10)
        patch.setattr(module, "LONG_ITEMS", 3)
        patch.setattr(module, "PIECE_BYTES", 20)
        assert encoded(replies, resp3) == in_one


# What is large


@pytest.mark.parametrize("resp3", [False, True])
def test_a_large_string_is_sent_as_it_lies(resp3: bool) -> None:
    value = bytes(LARGE_BYTES)
    part = memoryview(value)[:]
    pieces = pieces_of(encode([b"small", value, [1, part], OK], resp3))
    assert [piece for piece in pieces if piece is value or piece is part] == [value, part]
    assert sum(map(len, pieces)) < 2 * LARGE_BYTES + 100


def test_what_is_not_large_is_one_piece() -> None:
    assert isinstance(encode([bytes(LARGE_BYTES - 1), [1] * 100], False), bytes)


def test_of_a_long_array_only_what_was_asked_for_is_encoded() -> None:
    items: list[Reply] = [b"item"] * (20 * LONG_ITEMS)
    pieces = encode([OK, items, OK], False)
    assert not isinstance(pieces, bytes)
    begun = next(pieces) + next(pieces)
    half = len(items) // 2
    items[half:] = [b"late"] * half
    whole = begun + b"".join(pieces)
    body = b"$4\r\nitem\r\n" * half + b"$4\r\nlate\r\n" * half
    assert whole == b"+OK\r\n*%d\r\n%s+OK\r\n" % (len(items), body)


def test_a_long_array_in_a_long_array_is_encoded_bit_by_bit_as_well() -> None:
    inner = [7] * (LONG_ITEMS + 1)
    pieces = encode([[inner] * (LONG_ITEMS + 1)], False)
    head = b"*%d\r\n" % len(inner)
    whole = head + (head + b":7\r\n" * len(inner)) * 100
    begun = b"".join(itertools.islice(pieces, 10))
    assert len(head) < len(begun) < len(whole)
    assert whole.startswith(begun)


@pytest.mark.parametrize("resp3", [False, True])
@pytest.mark.parametrize("kind", [Unordered, Pairs, dict])
def test_long_sets_pairs_and_maps_are_encoded_bit_by_bit_as_well(kind: type, resp3: bool) -> None:
    items = list(range(20 * LONG_ITEMS))
    reply = dict(zip(items, items, strict=True)) if kind is dict else kind(items)
    pieces = encode([reply], resp3)
    assert not isinstance(pieces, bytes)
    begun = next(pieces)
    whole = begun + b"".join(pieces)
    assert len(begun) < len(whole) // 4
    assert whole.count(b":") == (2 * len(items) if kind is dict else len(items))


def test_large_values_in_one_reply_are_taken_one_by_one() -> None:
    values = [bytes([number]) * LARGE_BYTES for number in range(5)]
    pieces = encode([values], False)
    assert not isinstance(pieces, bytes)
    for value in values:
        assert next(piece for piece in pieces if piece is value)
    assert list(pieces) == [b"\r\n"]


@pytest.mark.parametrize(
    "replies",
    [
        [bytes(LARGE_BYTES - 1)] * 512,
        [[bytes(LARGE_BYTES - 1)] * 1000],
        [[bytes(1000)] * 100] * 100,
        [[[bytes(1000)] * 100] * 100],
        [[b"x"] * LONG_ITEMS] * 100,
        [[[b"x"] * LONG_ITEMS] * 100],
    ],
    ids=["strings", "an array", "arrays", "arrays in an array", "many items", "many items in an array"],
)
def test_no_piece_is_larger_than_what_may_wait_for_a_client(replies: list[Reply]) -> None:
    """Unless it is one large value, which is not copied: what a client does not read is not encoded either."""
    bytes_max = Settings().output_bytes_max
    assert all(len(piece) <= bytes_max for piece in pieces_of(encode(replies, False)))
