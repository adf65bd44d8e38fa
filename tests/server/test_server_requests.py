"""From a client's bytes to its commands: however they are cut, within the limits, and whatever rubbish comes."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import SupportsIndex

import hiredis
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.server_fakes import pipeline, request
from sofadb.server import requests as module
from sofadb.server.requests import (
    ARGUMENTS_MAX,
    BULK_BYTES_MAX,
    INLINE_BYTES_MAX,
    Chunk,
    Requests,
)

Request = list[bytes]


def feed(data: bytes, cuts: list[int] | None = None) -> tuple[list[Chunk], str]:
    """What comes out if `data` arrives cut at these places; and the problem, if there is one."""
    stream = Requests()
    borders = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    chunks = [chunk for begin, end in itertools.pairwise(borders) for chunk in stream.feed(data[begin:end])]
    return chunks, stream.problem


def requests_of(chunks: list[Chunk]) -> list[Request]:
    return [each for chunk in chunks for each in chunk.requests]


# What clients may send, and what is meant by it


words = st.lists(
    st.binary(max_size=40) | st.sampled_from([b"GET", b"*1\r\n", b"$3\r\n"]), min_size=1, max_size=4
)
plain_word = st.text("abcXYZ019-:$", min_size=1, max_size=8).map(str.encode)
lines = st.lists(plain_word, min_size=1, max_size=4)
nothing = st.sampled_from([b"\r\n", b"\n", b"  \r\n", b"*0\r\n", b"*-1\r\n"])
streams = st.lists(
    words.map(lambda each: (request(each), [each]))
    | lines.map(lambda each: (b" ".join(each) + b"\r\n", [each]))
    | nothing.map(lambda data: (data, list[Request]())),
    max_size=8,
).map(lambda parts: (b"".join(data for data, _ in parts), [each for _, meant in parts for each in meant]))
"""Bytes, and the requests that they are."""
cuts = st.lists(st.integers(0, 10_000), max_size=12)


@given(streams, cuts)
@settings(max_examples=500, deadline=None)
def test_a_stream_cut_anywhere_is_the_requests_that_were_sent(
    stream: tuple[bytes, list[Request]], cuts: list[int]
) -> None:
    data, meant = stream
    chunks, problem = feed(data, cuts)
    assert (requests_of(chunks), problem) == (meant, "")


@given(streams)
@settings(max_examples=200, deadline=None)
def test_a_stream_that_comes_byte_by_byte_is_the_requests_that_were_sent(
    stream: tuple[bytes, list[Request]],
) -> None:
    data, meant = stream
    chunks, problem = feed(data, list(range(len(data))))
    assert (requests_of(chunks), problem) == (meant, "")


@given(streams, cuts)
@settings(max_examples=150, deadline=None)
def test_the_bytes_between_two_borders_are_the_request(
    stream: tuple[bytes, list[Request]], cuts: list[int]
) -> None:
    """They go into the log as they are, so they have to mean the same once more, an inline request's as well."""
    for chunk in feed(stream[0], cuts)[0]:
        assert len(chunk.borders) == len(chunk.requests) + 1
        assert (chunk.borders[0], chunk.borders[-1]) == (0, len(chunk.data))
        for args, (begin, end) in zip(chunk.requests, itertools.pairwise(chunk.borders), strict=True):
            reader = hiredis.Reader()
            reader.feed(chunk.data[begin:end])
            assert reader.gets() == args
            assert not reader.has_data()


def test_requests_that_arrive_together_are_one_chunk() -> None:
    chunks, _ = feed(pipeline("SET a 1", "GET a", "PING"))
    assert [chunk.requests for chunk in chunks] == [[[b"SET", b"a", b"1"], [b"GET", b"a"], [b"PING"]]]


def test_the_beginning_of_a_request_waits_for_the_rest() -> None:
    stream = Requests()
    assert requests_of(stream.feed(request("PING") + b"*2\r\n$4\r\nEC")) == [[b"PING"]]
    assert stream.waiting_bytes == len(b"*2\r\n$4\r\nEC")
    assert requests_of(stream.feed(b"HO\r\n$2\r\nhi\r\n")) == [[b"ECHO", b"hi"]]
    assert stream.waiting_bytes == 0


# Lines of words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"PING", [b"PING"]),
        (b"  SET\ta   1  ", [b"SET", b"a", b"1"]),
        (b'ECHO "hello world"', [b"ECHO", b"hello world"]),
        (b"ECHO 'hello world'", [b"ECHO", b"hello world"]),
        (b'ECHO ""', [b"ECHO", b""]),
        (rb'ECHO "\x00\xfF\n\r\t\b\a\"\\\q"', [b"ECHO", b'\x00\xff\n\r\t\b\a"\\q']),
        (rb'ECHO "\xzz"', [b"ECHO", b"xzz"]),
        (rb"ECHO 'it\'s \n'", [b"ECHO", rb"it's \n"]),
        (b'ECHO a"b c"', [b"ECHO", b"ab c"]),
        (b"ECHO \xff\xfe", [b"ECHO", b"\xff\xfe"]),
    ],
)
def test_the_words_of_a_line_with_quotes_and_escapes(line: bytes, words: Request) -> None:
    assert feed(line + b"\r\n") == ([Chunk([words], request(words), [0, len(request(words))])], "")
    assert requests_of(feed(line + b"\n")[0]) == [words]


@pytest.mark.parametrize(
    "line", [b'ECHO "a', b"ECHO 'a", b'ECHO "a"b', b"ECHO 'a'b", b'ECHO "a\\"', b"ECHO 'a\\'"]
)
def test_quotes_that_do_not_close_are_refused(line: bytes) -> None:
    assert feed(request("PING") + line + b"\r\n" + request("PING")) == (
        feed(request("PING"))[0],
        "ERR Protocol error: unbalanced quotes in request",
    )


# What is refused


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*-\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*1 \r\n", "invalid multibulk length"),
        (b"*01\r\n$4\r\nPING\r\n", "invalid multibulk length"),
        (b"*%d\r\n" % (ARGUMENTS_MAX + 1), "invalid multibulk length"),
        (b"*9999999999999999", "too big mbulk count string"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n$\r\n", "invalid bulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$04\r\nPING\r\n", "invalid bulk length"),
        (b"*1\r\n$%d\r\n" % (BULK_BYTES_MAX + 1), "invalid bulk length"),
        (b"*1\r\n$9999999999999999", "too big bulk count string"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"),
        (b"*1\r\n_\r\n", "expected '$', got '_'"),
        (b"*1\r\n%1\r\n", "expected '$', got '%'"),
        (b"*1\r\n-ERR no\r\n", "expected '$', got '-'"),
        (b"*1\r\n\x00\r\n", "expected '$', got '?'"),
        (b"*1\r\na line longer than any length may be\r\n", "expected '$', got 'a'"),
        (b"*1\r\n$4\r\nPINGxx", "expected a line end after the bulk string"),
        (b"*1\r\n$3\r\nPING\r\n", "expected a line end after the bulk string"),
        (b"x" * (INLINE_BYTES_MAX + 1), "too big inline request"),
        (b"x" * (INLINE_BYTES_MAX + 1) + b"\r\n", "too big inline request"),
    ],
    ids=lambda each: repr(each[:24]),
)
def test_what_is_no_request_is_refused_and_what_came_before_it_is_not(data: bytes, problem: str) -> None:
    chunks, found = feed(request("SET a 1") + data)
    assert found == f"ERR Protocol error: {problem}"
    assert requests_of(chunks) == [[b"SET", b"a", b"1"]]


@pytest.mark.parametrize(
    "data",
    [
        b"*%d\r\n" % ARGUMENTS_MAX,
        b"*1\r\n$%d\r\n" % BULK_BYTES_MAX,
        b"x" * INLINE_BYTES_MAX,
    ],
    ids=["arguments", "bulk", "inline"],
)
def test_what_is_just_within_the_limits_is_waited_for(data: bytes) -> None:
    stream = Requests()
    assert stream.feed(data) == []
    assert stream.problem == ""
    assert stream.waiting_bytes == len(data)


def test_a_request_with_as_many_arguments_as_allowed_is_taken() -> None:
    assert requests_of(feed(request([b""] * ARGUMENTS_MAX))[0]) == [[b""] * ARGUMENTS_MAX]


@pytest.mark.parametrize(
    "data",
    [
        request([b"SET", b"a", b"x" * 200]),
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$200\r\n",
        b"*1000\r\n" + b"$1\r\na\r\n" * 20,
    ],
    ids=["whole", "announced", "many arguments"],
)
def test_a_request_that_is_too_large_as_a_whole_is_refused_as_soon_as_it_is_known(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_BYTES_MAX", 100)
    _, problem = feed(pipeline("SET a 1") * 10 + data)
    assert problem == "ERR Protocol error: the request is too large"


def test_what_is_only_announced_reserves_no_memory() -> None:
    tracemalloc.start()
    try:
        streams = [Requests() for _ in range(100)]
        for stream in streams:
            stream.feed(b"*%d\r\n$%d\r\n" % (ARGUMENTS_MAX, BULK_BYTES_MAX))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * 4096
    assert not any(stream.problem for stream in streams)


def test_nothing_more_is_taken_after_a_problem() -> None:
    stream = Requests()
    stream.feed(b"*x\r\n")
    held = stream.waiting_bytes
    for _ in range(100):
        assert stream.feed(request("PING")) == []
    assert stream.waiting_bytes == held
    assert stream.problem == "ERR Protocol error: invalid multibulk length"


# Rubbish


edits = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 2), st.binary(max_size=3)), max_size=4)
spiteful = st.lists(
    st.sampled_from(
        [
            b"*",
            b"$",
            b"-",
            b"+",
            b"_",
            b"%",
            b"0",
            b"1",
            b"3",
            b"9",
            b"\r",
            b"\n",
            b"\r\n",
            b'"',
            b"'",
            b"\\x",
            b" ",
        ]
    )
    | st.binary(max_size=3),
    max_size=30,
).map(b"".join)


def mutated(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Some bytes are lost, some others come in instead."""
    for place, lost, found in edits:
        at = place % (len(data) + 1)
        data = data[:at] + found + data[at + lost :]
    return data


@given(st.binary(max_size=200) | spiteful | st.builds(lambda s, e: mutated(s[0], e), streams, edits), cuts)
@example(b"*01\r\n$4\r\nPING\r\n", [])
@example(b"*1\r\n$00\r\n\r\n", [])
@example(b"*1\r\n" + b"x" * 20, [5])
@settings(max_examples=1500, deadline=None)
def test_rubbish_is_refused_in_the_same_words_however_it_is_cut_and_never_raises(
    data: bytes, cuts: list[int]
) -> None:
    chunks, problem = feed(data)
    pieces, problem_in_pieces = feed(data, cuts)
    assert requests_of(pieces) == requests_of(chunks)
    assert problem_in_pieces == problem
    assert problem == "" or problem.startswith("ERR Protocol error: ")
    for args in requests_of(chunks):
        assert args
        assert all(type(word) is bytes for word in args)


# What the walk costs


class Watched(bytearray):
    """Bytes that count how many of them are looked at."""

    looked_at = 0

    def find(  # type: ignore[override]
        self, sub: bytes, start: SupportsIndex = 0, end: SupportsIndex | None = None
    ) -> int:
        end = len(self) if end is None else min(int(end), len(self))
        found = super().find(sub, start, end)
        self.looked_at += (end if found < 0 else found) - int(start) + 1
        return found

    def __getitem__(self, index: SupportsIndex | slice) -> bytearray:  # type: ignore[override]
        self.looked_at += len(range(len(self))[index]) if isinstance(index, slice) else 1
        return super().__getitem__(index)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("data", "piece", "looked_at_max"),
    [
        (request([b"SET", b"a", bytes(1_000_000)]), 100, 100),
        (request([b"w"] * 5_000), 1, 5_000 * 7 * 10),
        (b"x" * 60_000 + b"\r\n", 10, 4 * 60_000),
    ],
    ids=["a large value", "many arguments, byte by byte", "a long line"],
)
def test_what_was_walked_over_is_not_walked_over_again(data: bytes, piece: int, looked_at_max: int) -> None:
    stream = Requests()
    stream._pending = watched = Watched()
    chunks = [
        chunk for begin in range(0, len(data), piece) for chunk in stream.feed(data[begin : begin + piece])
    ]
    assert len(requests_of(chunks)) == 1
    assert watched.looked_at <= looked_at_max
