"""Messages, records and foundations as bytes, and back.

One form for the wire and for the disk: a version byte, a kind byte, then fields of fixed size, strings and payloads with their
lengths in front. A value is encoded once, when it is proposed; what an acceptor writes and what it passes on are the very
bytes that came in. Bytes from elsewhere are never trusted: whatever is wrong with them is a `Malformed`, every length is
checked against what is there, and nothing is reserved in advance.

Encoders return a list of buffers, so that large payloads are never copied together.
"""

from __future__ import annotations

from collections.abc import Callable
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
_U32 = Struct(">I")
_U64 = Struct(">Q")
_I64 = Struct(">q")
_ENTRY = Struct(">QQI")
_VALUE = Struct(">qBI")


class Malformed(ValueError):
    """These bytes are no message, record or foundation of ours."""


class _Writer:
    """Small fields gather in one buffer; payloads stand by themselves."""

    __slots__ = ("buffers", "small")

    def __init__(self, kind: int) -> None:
        self.buffers: list[Buffer] = []
        self.small = bytearray((VERSION, kind))

    def number(self, value: int) -> None:
        self.small += _U64.pack(value)

    def clock(self, value: int) -> None:
        self.small += _I64.pack(value)

    def name(self, value: str) -> None:
        encoded = value.encode()
        self.small += _U8.pack(len(encoded))
        self.small += encoded

    def ballot(self, value: Ballot) -> None:
        self.number(value.round)
        self.name(value.node)

    def payload(self, value: Buffer) -> None:
        if len(value) <= 4096:
            self.small += value
        else:
            self.buffers += (bytes(self.small), value)
            self.small = bytearray()

    def entries(self, entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            self.name(entry.node)
            self.small += _ENTRY.pack(entry.incarnation, entry.sequence, len(entry.payload))
            self.payload(entry.payload)

    def value(self, value: Value) -> None:
        configuration = value.configuration
        self.small += _VALUE.pack(value.stamp, configuration is not None, len(value.entries))
        if configuration is not None:
            self.configuration(configuration)
        self.entries(value.entries)

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
    """Walks over bytes that may be anything."""

    __slots__ = ("at", "data")

    def __init__(self, data: Buffer) -> None:
        self.data = memoryview(data)
        self.at = 0

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
        if length > len(self.data) - self.at:
            raise Malformed("it ends too early")
        self.at += length
        return self.data[self.at - length : self.at]

    def name(self) -> str:
        try:
            return str(self.bytes(self.take(_U8)[0]), "ascii")
        except UnicodeDecodeError:
            raise Malformed("a node id is not ASCII") from None

    def ballot(self) -> Ballot:
        return Ballot(self.number(), self.name())

    def entries(self, count: int) -> tuple[Entry, ...]:
        entries = []
        for _ in range(count):
            node = self.name()
            incarnation, sequence, length = self.take(_ENTRY)
            entries.append(Entry(node, incarnation, sequence, self.bytes(length)))
        return tuple(entries)

    def value(self) -> Value:
        stamp, has_configuration, count = self.take(_VALUE)
        configuration = self.configuration() if has_configuration else None
        return Value(stamp, self.entries(count), configuration)

    def configuration(self) -> Configuration:
        groups = [tuple(self.name() for _ in range(self.take(_U8)[0])) for _ in range(2)]
        return self.sound(Configuration, *groups)

    def sound(self, kind: Callable[..., _Sound], *fields: Any) -> _Sound:
        """What asserts of itself that it makes sense: in bytes from elsewhere it need not."""
        try:
            return kind(*fields)
        except AssertionError as problem:
            raise Malformed(str(problem)) from None

    def finish(self) -> None:
        if self.at != len(self.data):
            raise Malformed("bytes are left over")


def _write_promise(writer: _Writer, promise: Promise) -> None:
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


def _read_promise(reader: _Reader) -> Promise:
    ballot, first, last, chosen = reader.ballot(), reader.instance(), reader.instance(), reader.instance()
    clock, count = reader.clock(), reader.number()
    reported = []
    for _ in range(count):
        reported.append((reader.instance(), reader.ballot(), reader.value()))
    return Promise(ballot, first, tuple(reported), last or None, chosen, clock)


def _write_accept(writer: _Writer, accept: Accept) -> None:
    writer.ballot(accept.ballot)
    writer.number(accept.instance)
    writer.number(accept.chosen)
    writer.value(accept.value)


def _read_accept(reader: _Reader) -> Accept:
    ballot, instance, chosen = reader.ballot(), reader.instance(), reader.instance()
    return Accept(ballot, instance, reader.value(), chosen)


def _write_learn(writer: _Writer, learn: Learn) -> None:
    writer.number(learn.first)
    writer.number(len(learn.values))
    for value in learn.values:
        writer.value(value)


def _read_learn(reader: _Reader) -> Learn:
    first, count = reader.instance(), reader.number()
    values = []
    for _ in range(count):
        values.append(reader.value())
    return Learn(first, tuple(values))


def _write_forward(writer: _Writer, forward: Forward) -> None:
    writer.number(len(forward.entries))
    writer.entries(forward.entries)


def _write_foundation(writer: _Writer, foundation: Foundation) -> None:
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


def _read_foundation(reader: _Reader) -> Foundation:
    instance, time, count = reader.instance(), reader.clock(), reader.number()
    configurations = []
    for _ in range(count):
        configurations.append((reader.instance(), reader.configuration()))
    sessions = []
    for _ in range(reader.number()):
        sessions.append((reader.name(), reader.number(), reader.number()))
    return reader.sound(Foundation, instance, time, tuple(configurations), tuple(sessions))


def _write_acceptance(writer: _Writer, record: Acceptance) -> None:
    writer.number(record.instance)
    writer.ballot(record.ballot)
    writer.value(record.value)


def _write_learned(writer: _Writer, record: Learned) -> None:
    writer.number(record.instance)
    writer.value(record.value)


_FIELDS: dict[str, tuple[Callable[[_Writer, Any], None], Callable[[_Reader], Any]]] = {
    "ballot": (_Writer.ballot, _Reader.ballot),
    "number": (_Writer.number, _Reader.number),
    "clock": (_Writer.clock, _Reader.clock),
}


def _plain(kind: type, **fields: str) -> tuple[Callable[[_Writer, Any], None], Callable[[_Reader], Any]]:
    """The codec of a message that is nothing but a few plain fields, in the order of its declaration."""
    steps = [(name, *_FIELDS[field]) for name, field in fields.items()]

    def write(writer: _Writer, message: Any) -> None:
        for name, put, _ in steps:
            put(writer, getattr(message, name))

    def read(reader: _Reader) -> Any:
        return kind(*(get(reader) for _, _, get in steps))

    return write, read


_Codec = tuple[type, Callable[[_Writer, Any], None], Callable[[_Reader], Any]]

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
_KIND_OF = {codec[0]: (kind, codec[1]) for kind, codec in (_MESSAGES | _RECORDS | _FOUNDATIONS).items()}


def encode(item: Message | Record | Foundation) -> list[Buffer]:
    """Return `item` as buffers, to be written one after the other."""
    kind, write = _KIND_OF[type(item)]
    writer = _Writer(kind)
    write(writer, item)
    return writer.finish()


def _decode(data: Buffer, codecs: dict[int, _Codec]) -> Any:
    reader = _Reader(data)
    version, kind = reader.take(_U8)[0], reader.take(_U8)[0]
    if version != VERSION:
        raise Malformed(f"it has format version {version}, this program knows version {VERSION}")
    codec = codecs.get(kind)
    if codec is None:
        raise Malformed(f"nothing is of kind {kind}")
    item = codec[2](reader)
    reader.finish()
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
