"""What nodes tell one another beside Paxos's messages: snapshots in parts, digests of their states, and that memory is short.

None of it carries correctness: a snapshot is verified as a whole by whoever received it, and any parcel may be lost, late or
twice. In a frame a parcel looks like a message, a version byte and a kind byte, but its kinds begin at 64. The bytes
come from elsewhere: whatever is wrong with them is a `Malformed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, error
from typing import NamedTuple

from sofadb.paxos.codec import Malformed

from .frames import Buffer

VERSION = 1
"""Of every parcel. A decoder refuses every other one by name."""
KIND_MIN = 64
PART_BYTES_MAX = 1 << 20
PART_FRAME_BYTES_MAX = PART_BYTES_MAX + 64
"""A part with what stands in front of it."""
SNAPSHOT_BYTES_MAX = 1 << 44
DIGESTS_MAX = 64


class Title(NamedTuple):
    """Which snapshot: two files of one title hold the same bytes."""

    instance: int
    """It holds everything up to here."""
    salt: int
    """Drawn at random when the file was made (64 bits): another one of the same instance has another."""


@dataclass(frozen=True, slots=True)
class Offering:
    """Here is a snapshot that whoever lags behind may have."""

    title: Title
    size: int
    """Of the whole file, in bytes."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Give me this part of it."""

    title: Title
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of the file. They take the lane of their own."""

    title: Title
    offset: int
    data: Buffer


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such snapshot any more."""

    title: Title


@dataclass(frozen=True, slots=True)
class Digests:
    """What the sender's state was: a few instances, each with the rolling digest up to it."""

    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Full:
    """The sender uses more memory than it may: as long as it leads, others should not ask for what needs more."""


Parcel = Offering | Fetch | Part | Gone | Digests | Full

_HEAD = Struct(">BB")
_PAIR = Struct(">QI")
_LAYOUTS: dict[type[Parcel], tuple[int, Struct]] = {
    Offering: (64, Struct(">QQQ")),
    Fetch: (65, Struct(">QQQI")),
    Part: (66, Struct(">QQQ")),
    Gone: (67, Struct(">QQ")),
    Digests: (68, Struct(">B")),
    Full: (69, Struct(">")),
}
"""The kind byte, for ever, and the fields of fixed size."""
_KINDS = {kind: parcel for parcel, (kind, _) in _LAYOUTS.items()}


def is_parcel(contents: Buffer) -> bool:
    """Whether a frame holds a parcel, and no message."""
    return len(contents) >= _HEAD.size and contents[1] >= KIND_MIN


def encode_parcel(parcel: Parcel) -> list[Buffer]:
    """Return `parcel` as buffers, to be written one after the other."""
    kind, layout = _LAYOUTS[type(parcel)]
    head = _HEAD.pack(VERSION, kind)
    match parcel:
        case Offering(title, size):
            return [head + layout.pack(*title, size)]
        case Fetch(title, offset, size):
            return [head + layout.pack(*title, offset, size)]
        case Part(title, offset, data):
            return [head + layout.pack(*title, offset), data]
        case Gone(title):
            return [head + layout.pack(*title)]
        case Digests(pairs):
            return [head + layout.pack(len(pairs)), *(_PAIR.pack(*pair) for pair in pairs)]
        case Full():
            return [head]


def decode_parcel(contents: Buffer) -> Parcel:
    """Return the parcel in `contents`; the data of a part is a view of it. Raises `Malformed`."""
    try:
        version, kind = _HEAD.unpack_from(contents)
        if version != VERSION:
            raise Malformed(f"it has format version {version}, this program knows version {VERSION}")
        if kind not in _KINDS:
            raise Malformed(f"no parcel is of kind {kind}")
        parcel = _KINDS[kind]
        layout = _LAYOUTS[parcel][1]
        fields = layout.unpack_from(contents, _HEAD.size)
    except error:
        raise Malformed("it ends too early") from None
    rest = memoryview(contents)[_HEAD.size + layout.size :]
    if parcel is Digests:
        return _digests(fields[0], rest)
    if parcel is Full:
        if rest:
            raise Malformed("bytes are left over")
        return Full()
    title = Title(*fields[:2])
    if parcel is Part:
        if not 0 < len(rest) <= PART_BYTES_MAX:
            raise Malformed(f"a part of {len(rest)} bytes")
        return Part(title, fields[2], rest)
    if rest:
        raise Malformed("bytes are left over")
    if parcel is Gone:
        return Gone(title)
    if parcel is Offering:
        if not 0 < fields[2] <= SNAPSHOT_BYTES_MAX:
            raise Malformed(f"a snapshot of {fields[2]} bytes")
        return Offering(title, fields[2])
    if not 0 < fields[3] <= PART_BYTES_MAX:
        raise Malformed(f"a part of {fields[3]} bytes")
    return Fetch(title, *fields[2:])


def _digests(count: int, rest: memoryview) -> Digests:
    if count > DIGESTS_MAX or len(rest) != count * _PAIR.size:
        raise Malformed(f"{count} digests in {len(rest)} bytes")
    return Digests(tuple(_PAIR.iter_unpack(rest)))
