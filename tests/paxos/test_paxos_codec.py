"""Messages and records survive the way to bytes and back; anything else is refused with a word."""

from __future__ import annotations

import contextlib
import typing
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sofadb.paxos import codec
from sofadb.paxos.ballot import Ballot
from sofadb.paxos.foundation import Foundation
from sofadb.paxos.messages import Forward, Learn, Message, Promise
from sofadb.paxos.records import Record
from sofadb.paxos.values import Configuration, Entry, Value

numbers = st.integers(0, 2**64 - 1)
clocks = st.integers(-(2**63), 2**63 - 1)
names = st.text("abcn123-_", min_size=1, max_size=32)
ballots = st.builds(Ballot, numbers, names)
entries = st.builds(Entry, names, numbers, numbers, st.binary(max_size=20) | st.just(b"x" * 5000))
groups = st.sets(names, max_size=4)
configurations = st.builds(
    lambda a, b: Configuration(tuple(sorted(a | {"n0"})), tuple(sorted(b - a - {"n0"}))), groups, groups
)
values = st.builds(Value, clocks, st.lists(entries, max_size=3).map(tuple), st.none() | configurations)
SPECIAL = {
    (Promise, "reported"): st.lists(st.tuples(numbers, ballots, values), max_size=3).map(tuple),
    (Promise, "last"): st.none() | st.integers(1, 2**64 - 1),
    (Learn, "values"): st.lists(values, max_size=3).map(tuple),
    (Forward, "entries"): st.lists(entries, max_size=3).map(tuple),
}
BY_NAME = {
    "ballot": ballots,
    "promised": ballots,
    "released": ballots,
    "value": values,
    "clock": clocks,
    "stamp": clocks,
}


def items(union: object) -> st.SearchStrategy:
    def of(kind: type) -> st.SearchStrategy:
        return st.builds(
            kind, *(SPECIAL.get((kind, f.name), BY_NAME.get(f.name, numbers)) for f in fields(kind))
        )

    return st.one_of(*(of(kind) for kind in typing.get_args(union)))


@given(items(Message))
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert codec.decode_message(b"".join(codec.encode(message))) == message


@given(items(Record))
def test_every_record_comes_back_as_it_was(record: Record) -> None:
    assert codec.decode_record(b"".join(codec.encode(record))) == record


@given(st.data())
def test_every_foundation_comes_back_as_it_was(data: st.DataObject) -> None:
    instance = data.draw(st.integers(0, 2**64 - 3))
    first = data.draw(st.integers(0, instance + 1))
    later = data.draw(st.sets(st.integers(first + 1, 2**64 - 1), max_size=2))
    table = tuple((each, data.draw(configurations)) for each in (first, *sorted(later)))
    sessions = data.draw(st.dictionaries(names, st.tuples(numbers, numbers), max_size=4))
    foundation = Foundation(
        instance, data.draw(clocks), table, tuple((node, *last) for node, last in sorted(sessions.items()))
    )
    encoded = b"".join(codec.encode(foundation))
    assert codec.decode_foundation(encoded) == foundation
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(codec.Malformed):
        codec.decode_foundation(encoded[:cut])


def test_a_foundation_that_contradicts_itself_is_malformed() -> None:
    """Nobody votes on what comes next; or a node has two sessions."""
    table = ((1, Configuration(("n1",))),)
    good = b"".join(codec.encode(Foundation(5, 0, table, (("n1", 1, 1), ("n2", 1, 1)))))
    with pytest.raises(codec.Malformed, match="sessions are sorted"):
        codec.decode_foundation(good.replace(b"n2", b"n1"))
    late = b"".join(codec.encode(Foundation(5, 0, ((6, table[0][1]),), ())))
    with pytest.raises(codec.Malformed, match="who votes on what comes next"):
        codec.decode_foundation(late.replace(b"\0\0\6", b"\0\0\7"))


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_arbitrary_bytes_are_malformed_and_nothing_worse(data: bytes) -> None:
    for kind in (b"", b"\x01\x02", b"\x01\x03", b"\x01\x0c", b"\x01\x0d", b"\x01\x42", b"\x01\x61"):
        for decode in (codec.decode_message, codec.decode_record, codec.decode_foundation):
            with contextlib.suppress(codec.Malformed):
                decode(kind + data)


@given(items(Message), st.data())
def test_a_cut_message_is_malformed(message: Message, data: st.DataObject) -> None:
    encoded = b"".join(codec.encode(message))
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(codec.Malformed):
        codec.decode_message(encoded[:cut])


def test_another_format_version_is_named() -> None:
    with pytest.raises(codec.Malformed, match="version 9"):
        codec.decode_message(b"\x09\x01")
