"""What goes over the wire between nodes: frames, and the greeting that comes first.

A connection carries messages one way, from the node that opened it. It begins with eight bytes that say what this is and in
which version, so that anything else that connects to the port is recognized at once; then frames, each with its length and
the CRC32C of its contents in front, and a CRC32C of those two. The first frame each way is a greeting: who I am, in which
cluster, in which life, whom I mean to talk to, and in which life I have last met it. Who answers has looked whether it knows
that life for its own; who asked confirms, with an empty frame, that it has, too. Only then does anything else pass.

A node that wants to join need not be a member to be answered, nor know the cluster's id. What it gets is the answer and one
more frame, with the members' addresses; nothing else passes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from struct import Struct

from crc32c import crc32c

from sofadb.database.roster import is_address
from sofadb.storage.identity import ACCEPTOR_ID, plain_name

PROTOCOL_VERSION = 5
PREAMBLE = b"SofaDB\x00" + bytes([PROTOCOL_VERSION])
FRAME_BYTES_MAX = 160 << 20
"""No frame is larger; a batch with the largest value there may be fits in."""
GREETING_BYTES_MAX = 4096
"""Nothing larger is read from a stranger."""

_HEADER = Struct(">III")
"""Length, checksum of the contents, and a checksum of these two: with a damaged length alone, a link would be mute until as
much had come as the length says."""
_CHECKED = Struct(">II")

Buffer = bytes | memoryview


class BadPeer(Exception):
    """The other end is not what it should be; the text says why, for both sides' logs."""


SMALL, LARGE, BULK = LANES = ("small", "large", "bulk")
"""Each pair of nodes has a connection for small messages and one for large ones, each way: who waits for a leader's voice
does not wait behind 64 MB of a value. (All commands of a session go with the large ones, since their order counts.) Parts of
snapshots have a third: no message waits behind them."""
MEMBERS_BYTES_MAX = 64 << 10
"""No list of members' addresses is larger."""

_NAME = re.compile(r"[A-Za-z0-9_-]{0,64}")
_PROBLEM = re.compile(r"[ -~]{0,1000}")


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who speaks. `problem` is set in an answer that refuses."""

    cluster: str
    acceptor: str
    """What the speaker's directory is to the others."""
    starts: int
    life: str
    """The node's life: the number and the id of this start of it."""
    met: str
    """The id of the life in which the node has last met the other end; empty if it has not."""
    to: str
    """The acceptor it means to talk to; empty in an answer, and of a node that wants to join."""
    lane: str
    """Which of `LANES` this connection is."""
    peer_address: str
    """Where the other nodes reach it, as HOST:PORT."""
    client_address: str
    """Where the node's clients connect, as HOST:PORT."""
    has_history: bool
    """Whether it has ever promised or learned anything, or has heard of a member who has."""
    joining: bool = False
    """Whether it asks for nothing but the members' addresses."""
    problem: str = ""
    confirmed: tuple[int, str, int] = (0, "", 0)
    """What the other end has told the speaker that it accepted: the highest ballot (round, node) and instance."""
    level: int = 1
    """The highest that its program knows (`roster`). (What a later program says beyond all this is passed over.)"""

    @property
    def node(self) -> str:
        """What people call it."""
        return plain_name(self.acceptor)

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: Buffer) -> Greeting:
        """Raises `BadPeer`."""
        try:
            fields = json.loads(bytes(data))
            known = {each.name for each in dataclass_fields(cls)}
            fields["confirmed"] = tuple(fields["confirmed"])
            greeting = cls(**{name: value for name, value in fields.items() if name in known})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
            raise BadPeer(f"its greeting cannot be read: {problem}") from None
        names = (greeting.cluster, greeting.life, greeting.met)
        addresses = (greeting.peer_address, greeting.client_address)
        texts = (*names, greeting.acceptor, greeting.to, greeting.lane, *addresses, greeting.problem)
        if not (
            all(isinstance(text, str) for text in texts)
            and type(greeting.starts) is type(greeting.level) is int
            and tuple(map(type, greeting.confirmed)) == (int, str, int)
            and isinstance(greeting.has_history, bool)
            and isinstance(greeting.joining, bool)
        ):
            raise BadPeer("its greeting has fields of the wrong type")
        if not (
            all(map(_NAME.fullmatch, names))
            and ACCEPTOR_ID.fullmatch(greeting.acceptor)
            and (not greeting.to or ACCEPTOR_ID.fullmatch(greeting.to))
            and greeting.lane in LANES
            and all(map(is_address, addresses))
            and _PROBLEM.fullmatch(greeting.problem)
        ):
            raise BadPeer("its greeting has names that cannot be")
        return greeting


def encode_members(present: dict[str, str], initial: dict[str, str]) -> bytes:
    """The peer address of each acceptor, now and at the cluster's beginning, for who wants to join."""
    return json.dumps([present, initial]).encode()


def decode_members(data: Buffer) -> tuple[dict[str, str], dict[str, str]]:
    """Those of now and those of the beginning. Raises `BadPeer`."""
    try:
        present, initial = json.loads(bytes(data))
    except (ValueError, TypeError, RecursionError) as problem:
        raise BadPeer(f"its list of members cannot be read: {problem}") from None
    for members in (present, initial):
        if not isinstance(members, dict) or not all(
            ACCEPTOR_ID.fullmatch(acceptor) and isinstance(address, str) and is_address(address)
            for acceptor, address in members.items()
        ):
            raise BadPeer("its list of members has names or addresses that cannot be")
    return present, initial


def frame(buffers: list[Buffer]) -> list[Buffer]:
    """Put length and checksum in front of `buffers`."""
    size, checksum = 0, 0
    for buffer in buffers:
        size += len(buffer)
        checksum = crc32c(buffer, checksum)
    return [_HEADER.pack(size, checksum, crc32c(_CHECKED.pack(size, checksum))), *buffers]


class FrameReader:
    """Cuts a stream of bytes into frames. Raises `BadPeer` on anything else, before it keeps much of it."""

    __slots__ = ("_buffer", "_greeted", "bytes_max")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._greeted = False
        self.bytes_max = GREETING_BYTES_MAX
        """The largest frame that is taken now; raised once the other end is known."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the contents of each frame that is complete."""
        kept, at = self._buffer, 0
        if kept:
            kept += data
        buffer: Buffer | bytearray = kept or data
        if not self._greeted:
            start = bytes(buffer[: len(PREAMBLE)])
            if start[:7] != PREAMBLE[: min(7, len(start))]:
                raise BadPeer("it does not speak SofaDB's protocol; is a client connected to the peer port?")
            if len(start) < len(PREAMBLE):
                self._buffer = bytearray(start)
                return
            if start != PREAMBLE:
                raise BadPeer(
                    f"it speaks version {start[7]} of the protocol, this node version {PROTOCOL_VERSION}"
                )
            self._greeted = True
            at = len(PREAMBLE)
        begin, available = at + _HEADER.size, len(buffer)
        while begin <= available:
            size, checksum, header_checksum = _HEADER.unpack_from(buffer, at)
            if crc32c(buffer[at : at + _CHECKED.size]) != header_checksum:
                raise BadPeer("the header of a frame arrived damaged")
            if size > self.bytes_max:
                raise BadPeer(f"it announced a frame of {size} bytes, and {self.bytes_max} are allowed")
            end = begin + size
            if end > available:
                break
            contents = bytes(memoryview(buffer)[begin:end])
            if crc32c(contents) != checksum:
                raise BadPeer("a frame arrived damaged")
            at, begin = end, end + _HEADER.size
            yield contents
        if kept:
            del kept[:at]
        elif at < available:
            kept += memoryview(data)[at:]
