"""Messages, records and foundations as bytes, and back.

One form for the wire and for the disk: a version byte, a kind byte, then fields of fixed size, strings and payloads with their
lengths in front. A value is encoded once, when it is proposed; what an acceptor writes and what it passes on are the very
bytes that came in. Bytes from elsewhere are never trusted: whatever is wrong with them is a `Malformed`, every length is
checked against what is there, and nothing is reserved in advance.

Encoders return a list of buffers, so that large payloads are never copied together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from struct import Struct, error
from typing import Any, TypeVar

from .ballot import Ballot, Instance
from .foundation import Foundation
from .messages import (
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
from .records import Acceptance, ChosenUpTo, CutUpTo, Learned, Note, Promised, Record, Restored
from .values import Configuration, Entry, Value

VERSION = 1
"""Of everything encoded here. A decoder refuses every other one by name."""

Buffer = bytes | memoryview
_Sound = TypeVar("_Sound")

_U8 = Struct(">B")
_U64 = Struct(">Q")
_I64 = Struct(">q")
_INSTANCES = Struct(">QQ")
_ENTRY = Struct(">QQI")
_VALUE = Struct(">qBI")
COPIED_BYTES_MAX = 4096
"""What is no larger than this is copied together with what stands around it; larger ones are buffers of their own."""
_NAMES_KEPT = 1024
"""The same few names and ballots come and go all the time: of so many the bytes are remembered, and the other way round."""


class Malformed(ValueError):
    """These bytes are no message, record or foundation of ours."""


@lru_cache(_NAMES_KEPT)
def _name_bytes(name: str) -> bytes:
    encoded = name.encode()
    return _U8.pack(len(encoded)) + encoded


@lru_cache(_NAMES_KEPT)
def _name_of(encoded: bytes) -> str:
    try:
        return str(encoded, "ascii")
    except UnicodeDecodeError:
        raise Malformed("a node id is not ASCII") from None


@lru_cache(_NAMES_KEPT)
def _ballot_bytes(ballot: Ballot) -> bytes:
    return _U64.pack(ballot.round) + _name_bytes(ballot.node)


@lru_cache(_NAMES_KEPT)
def _ballot_of(encoded: bytes) -> Ballot:
    return Ballot(_U64.unpack_from(encoded)[0], _name_of(encoded[_U64.size + 1 :]))


def _value_buffers(value: Value) -> Sequence[Buffer]:
    """A value's bytes: those that came in, or those that were made when they were first asked for."""
    if value.encoded is None:
        writer = _Writer(b"")
        configuration = value.configuration
        writer.small += _VALUE.pack(value.stamp, configuration is not None, len(value.entries))
        if configuration is not None:
            writer.configuration(configuration)
        writer.entries(value.entries)
        value.keep_encoded(writer.finish())
    assert value.encoded is not None
    return value.encoded


def _followed_by(small: bytes, value: Value) -> list[Buffer]:
    """`small`, and behind it a value."""
    first, *rest = _value_buffers(value)
    return [small + first, *rest] if len(first) <= COPIED_BYTES_MAX else [small, first, *rest]


class _Writer:
    """Small fields gather in one buffer; payloads stand by themselves."""

    __slots__ = ("buffers", "small")

    def __init__(self, head: bytes) -> None:
        self.buffers: list[Buffer] = []
        self.small = bytearray(head)

    def number(self, value: int) -> None:
        self.small += _U64.pack(value)

    def clock(self, value: int) -> None:
        self.small += _I64.pack(value)

    def name(self, value: str) -> None:
        self.small += _name_bytes(value)

    def ballot(self, value: Ballot) -> None:
        self.small += _ballot_bytes(value)

    def payload(self, value: Buffer) -> None:
        if len(value) <= COPIED_BYTES_MAX:
            self.small += value
        else:
            self.buffers += (bytes(self.small), value)
            self.small = bytearray()

    def entries(self, entries: tuple[Entry, ...]) -> None:
        for node, incarnation, sequence, payload in entries:
            self.small += _name_bytes(node) + _ENTRY.pack(incarnation, sequence, len(payload))
            self.payload(payload)

    def value(self, value: Value) -> None:
        for buffer in _value_buffers(value):
            self.payload(buffer)

    def configuration(self, configuration: Configuration) -> None:
        for group in (configuration.acceptors, configuration.learners):
            self.small += _U8.pack(len(group))
            for node in group:
                self.name(node)

    def finish(self) -> list[Buffer]:
        if self.small:
            self.buffers.append(bytes(self.small))
        return self.buffers


class _Reader:
    """Walks over bytes that may be anything, from `at` on."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: Buffer, at: int) -> None:
        self.data = memoryview(data)
        self.at = at
        self.end = len(data)

    def take(self, layout: Struct) -> tuple[Any, ...]:
        try:
            fields = layout.unpack_from(self.data, self.at)
        except error:
            raise Malformed("it ends too early") from None
        self.at += layout.size
        return fields

    def number(self) -> int:
        return int(self.take(_U64)[0])

    def instance(self) -> Instance:
        return Instance(self.number())

    def clock(self) -> int:
        return int(self.take(_I64)[0])

    def bytes(self, length: int) -> memoryview:
        begin = self.at
        self.at = end = begin + length
        if end > self.end:
            raise Malformed("it ends too early")
        return self.data[begin:end]

    def name(self) -> str:
        data, begin = self.data, self.at + 1
        if begin > self.end:
            raise Malformed("it ends too early")
        self.at = end = begin + data[begin - 1]
        if end > self.end:
            raise Malformed("it ends too early")
        return _name_of(bytes(data[begin:end]))

    def ballot(self) -> Ballot:
        data, begin = self.data, self.at
        at_name = begin + 8
        if at_name >= self.end:
            raise Malformed("it ends too early")
        self.at = end = at_name + 1 + data[at_name]
        if end > self.end:
            raise Malformed("it ends too early")
        return _ballot_of(bytes(data[begin:end]))

    def entries(self, count: int) -> tuple[Entry, ...]:
        entries = []
        for _ in range(count):
            node = self.name()
            incarnation, sequence, length = self.take(_ENTRY)
            entries.append(Entry(node, incarnation, sequence, self.bytes(length)))
        return tuple(entries)

    def value(self) -> Value:
        begin = self.at
        stamp, has_configuration, count = self.take(_VALUE)
        if has_configuration:
            configuration = self.configuration()
            return Value(stamp, self.entries(count), configuration)
        value = Value(stamp, self.entries(count))
        value.keep_encoded((self.data[begin : self.at],))
        return value

    def configuration(self) -> Configuration:
        groups = [tuple(self.name() for _ in range(self.take(_U8)[0])) for _ in range(2)]
        return self.sound(Configuration, *groups)

    def sound(self, kind: Callable[..., _Sound], *fields: Any) -> _Sound:
        """What asserts of itself that it makes sense: in bytes from elsewhere it need not."""
        try:
            return kind(*fields)
        except AssertionError as problem:
            raise Malformed(str(problem)) from None


_Write = Callable[[bytes, Any], list[Buffer]]
"""Takes the bytes that say what it is, and the item."""
_Read = Callable[[_Reader], Any]


def _write_promise(head: bytes, promise: Promise) -> list[Buffer]:
    writer = _Writer(head)
    writer.ballot(promise.ballot)
    writer.number(promise.first)
    writer.number(0 if promise.last is None else promise.last)
    writer.number(promise.chosen)
    writer.clock(promise.clock)
    writer.number(len(promise.reported))
    for instance, ballot, value in promise.reported:
        writer.number(instance)
        writer.ballot(ballot)
        writer.value(value)
    return writer.finish()


def _read_promise(reader: _Reader) -> Promise:
    ballot, first, last, chosen = reader.ballot(), reader.instance(), reader.instance(), reader.instance()
    clock, count = reader.clock(), reader.number()
    reported = []
    for _ in range(count):
        reported.append((reader.instance(), reader.ballot(), reader.value()))
    return Promise(ballot, first, tuple(reported), last or None, chosen, clock)


def _write_accept(head: bytes, accept: Accept) -> list[Buffer]:
    instances = _INSTANCES.pack(accept.instance, accept.chosen)
    return _followed_by(head + _ballot_bytes(accept.ballot) + instances, accept.value)


def _read_accept(reader: _Reader) -> Accept:
    ballot = reader.ballot()
    instance, chosen = reader.take(_INSTANCES)
    return Accept(ballot, instance, reader.value(), chosen)


def _write_learn(head: bytes, learn: Learn) -> list[Buffer]:
    writer = _Writer(head)
    writer.number(learn.first)
    writer.number(len(learn.values))
    for value in learn.values:
        writer.value(value)
    return writer.finish()


def _read_learn(reader: _Reader) -> Learn:
    first, count = reader.instance(), reader.number()
    values = []
    for _ in range(count):
        values.append(reader.value())
    return Learn(first, tuple(values))


def _write_forward(head: bytes, forward: Forward) -> list[Buffer]:
    writer = _Writer(head)
    writer.number(len(forward.entries))
    writer.entries(forward.entries)
    return writer.finish()


def _write_foundation(head: bytes, foundation: Foundation) -> list[Buffer]:
    writer = _Writer(head)
    writer.number(foundation.instance)
    writer.clock(foundation.time)
    writer.number(len(foundation.configurations))
    for first, configuration in foundation.configurations:
        writer.number(first)
        writer.configuration(configuration)
    writer.number(len(foundation.sessions))
    for node, incarnation, sequence in foundation.sessions:
        writer.name(node)
        writer.number(incarnation)
        writer.number(sequence)
    return writer.finish()


def _read_foundation(reader: _Reader) -> Foundation:
    instance, time, count = reader.instance(), reader.clock(), reader.number()
    configurations = []
    for _ in range(count):
        configurations.append((reader.instance(), reader.configuration()))
    sessions = []
    for _ in range(reader.number()):
        sessions.append((reader.name(), reader.number(), reader.number()))
    return reader.sound(Foundation, instance, time, tuple(configurations), tuple(sessions))


def _write_acceptance(head: bytes, record: Acceptance) -> list[Buffer]:
    return _followed_by(head + _U64.pack(record.instance) + _ballot_bytes(record.ballot), record.value)


def _write_learned(head: bytes, record: Learned) -> list[Buffer]:
    return _followed_by(head + _U64.pack(record.instance), record.value)


_LAYOUTS = {"number": "Q", "clock": "q"}


def _plain(kind: type, **fields: str) -> tuple[_Write, _Read]:
    """The codec of a message that is nothing but a few plain fields, in the order of its declaration."""
    puts: list[tuple[Callable[[Any], Any], Callable[[Any], bytes]]] = []
    layouts: list[Struct | None] = []
    for is_ballot, group in groupby(fields, lambda name: fields[name] == "ballot"):
        names = list(group)
        if is_ballot:
            puts += [(attrgetter(name), _ballot_bytes) for name in names]
            layouts += [None] * len(names)
        else:
            layout = Struct(">" + "".join(_LAYOUTS[fields[name]] for name in names))
            puts.append((attrgetter(*names), _packer(layout) if len(names) > 1 else layout.pack))
            layouts.append(layout)

    def write(head: bytes, message: Any) -> list[Buffer]:
        for get, put in puts:
            head += put(get(message))
        return [head]

    def read(reader: _Reader) -> Any:
        values: list[Any] = []
        for layout in layouts:
            if layout is None:
                values.append(reader.ballot())
            else:
                values += reader.take(layout)
        return kind(*values)

    return write, read


def _packer(layout: Struct) -> Callable[[tuple[int, ...]], bytes]:
    return lambda values: layout.pack(*values)


_Codec = tuple[type, _Write, _Read]

# The kind bytes are for ever: a kind that goes out of use keeps its number.
_MESSAGES: dict[int, _Codec] = {
    1: (Prepare, *_plain(Prepare, ballot="ballot", first="number", released="ballot")),
    2: (Promise, _write_promise, _read_promise),
    3: (Accept, _write_accept, _read_accept),
    4: (Accepted, *_plain(Accepted, ballot="ballot", instance="number")),
    5: (Refused, *_plain(Refused, ballot="ballot", promised="ballot")),
    6: (Canvass, *_plain(Canvass, attempt="number")),  # As it was; it is written as 17.
    7: (Support, *_plain(Support, attempt="number", promised="ballot")),
    8: (
        Confirm,
        *_plain(Confirm, ballot="ballot", round="number", chosen="number", timeout_ms="number"),
    ),
    9: (
        Confirmed,
        *_plain(
            Confirmed, ballot="ballot", round="number", chosen="number", clock="clock", lease_ms="number"
        ),  # As it was; it is written as 18.
    ),
    10: (Chosen, *_plain(Chosen, ballot="ballot", chosen="number")),
    11: (Ask, *_plain(Ask, first="number")),
    12: (Learn, _write_learn, _read_learn),
    13: (Forward, _write_forward, lambda reader: Forward(reader.entries(reader.number()))),
    14: (AskRead, *_plain(AskRead, attempt="number", incarnation="number")),
    15: (
        GrantRead,
        *_plain(GrantRead, attempt="number", incarnation="number", watermark="number", stamp="clock"),
    ),
    16: (TakeOver, *_plain(TakeOver, ballot="ballot", chosen="number")),
    17: (Canvass, *_plain(Canvass, attempt="number", chosen="number")),
    18: (
        Confirmed,
        *_plain(
            Confirmed,
            ballot="ballot",
            round="number",
            chosen="number",
            clock="clock",
            lease_ms="number",
            doubt_upto="number",
        ),
    ),
}
_RECORDS: dict[int, _Codec] = {
    65: (Promised, *_plain(Promised, ballot="ballot")),
    66: (
        Acceptance,
        _write_acceptance,
        lambda reader: Acceptance(reader.instance(), reader.ballot(), reader.value()),
    ),
    67: (Learned, _write_learned, lambda reader: Learned(reader.instance(), reader.value())),
    68: (ChosenUpTo, *_plain(ChosenUpTo, instance="number")),
    69: (CutUpTo, *_plain(CutUpTo, instance="number")),
    70: (Restored, *_plain(Restored, upto="number")),
    71: (Note, *_plain(Note, promised="ballot", accepted_upto="number")),
}
_FOUNDATIONS: dict[int, _Codec] = {97: (Foundation, _write_foundation, _read_foundation)}
_WRITERS = {
    kind: (bytes((VERSION, number)), write)
    for number, (kind, write, _) in (_MESSAGES | _RECORDS | _FOUNDATIONS).items()
}


def encode(item: Message | Record | Foundation) -> list[Buffer]:
    """Return `item` as buffers, to be written one after the other."""
    head, write = _WRITERS[type(item)]
    return write(head, item)


def _decode(data: Buffer, codecs: dict[int, _Codec]) -> Any:
    reader = _Reader(data, 2)
    if reader.end < 2:
        raise Malformed("it ends too early")
    version, kind = data[0], data[1]
    if version != VERSION:
        raise Malformed(f"it has format version {version}, this program knows version {VERSION}")
    codec = codecs.get(kind)
    if codec is None:
        raise Malformed(f"nothing is of kind {kind}")
    item = codec[2](reader)
    if reader.at != reader.end:
        raise Malformed("bytes are left over")
    return item


def decode_message(data: Buffer) -> Message:
    """Return the message in `data`; its payloads are views of `data`. Raises `Malformed`."""
    message: Message = _decode(data, _MESSAGES)
    return message


def decode_record(data: Buffer) -> Record:
    """Return the record in `data`; its payloads are views of `data`. Raises `Malformed`."""
    record: Record = _decode(data, _RECORDS)
    return record


def decode_foundation(data: Buffer) -> Foundation:
    """Return the foundation in `data`. Raises `Malformed`."""
    foundation: Foundation = _decode(data, _FOUNDATIONS)
    return foundation
