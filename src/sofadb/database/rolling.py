"""A checksum rolled over every change the state machine makes (rule D2).

Two replicas that have ever done something different differ in it for ever after, whatever they do later; so replicas that
compare it now and then, instance by instance, notice each difference there ever was. It is cheap, not secret: it finds what
went wrong, not what somebody forged.

A CRC is moved by every byte, so a change is rolled as the bytes that it is about (the empty key as `NO_BYTES`: nothing would
move nothing). In front of them and between them, what happened and where is laid over the sum, as numbers of 32 bits that share
no pattern with each other nor with what keys look like. So nothing cancels out, no two changes can trade places, and where a key
ends and its value begins is seen. Keys go through `binascii`'s CRC32, whose calls cost little; values through CRC32C, whose bytes
do.

Most changes put a value at a key, many one after the other. Of those, just bytes are rolled, through CRC32C alone: a mark with
what happened and where, the key, another mark, and the value. So one call does it for many, and it makes no difference how many
are done at once. (Where a key ends is seen unless it holds the mark.)
"""

from __future__ import annotations

from binascii import crc32

from crc32c import crc32c

INSTANCES = 1024
"""Of so many instances the sum is remembered."""

REPLACED, CHANGED, MOVED, DELETED, EXPIRES, PERSISTED, CLEARED, ABOUT = (
    crc32(word)
    for word in (
        b"replaced",
        b"changed",
        b"moved",
        b"deleted",
        b"expires",
        b"persisted",
        b"cleared",
        b"about",
    )
)
"""What happened."""
NO_BYTES = bytes.fromhex("8f1d6c02b7e94a53")
BETWEEN = bytes.fromhex("d46a07f39b2ce581")
"""Stands between a key and the value that is put there."""


def put_mark(database: int) -> bytes:
    """What stands in front of a key at which a value is put."""
    return crc32(b"set").to_bytes(4) + crc32(b"database %d" % database).to_bytes(4)


class Rolling:
    """The sum, and what it was after each of the last instances. Keyspaces roll by themselves, others call `roll`."""

    __slots__ = ("_ends", "crc")

    def __init__(self) -> None:
        self.crc = 0
        self._ends: list[tuple[int, int] | None] = [None] * INSTANCES

    def roll(self, what: bytes, about: bytes = b"") -> None:
        """`what` happened to `about`."""
        self.crc = crc32c(about, crc32(what, self.crc) ^ ABOUT)

    def put(self, mark: bytes, keys: list[bytes], values: list[bytes]) -> None:
        """Values were put at keys, one after the other."""
        parts = [mark, b"", BETWEEN, b""] * len(keys)
        parts[1::4], parts[3::4] = keys, values
        self.crc = crc32c(b"".join(parts), self.crc)

    def end(self, instance: int) -> None:
        """Nothing more happens in this instance."""
        self._ends[instance % INSTANCES] = (instance, self.crc)

    def at(self, instance: int) -> int | None:
        """The sum at the end of an instance, or None if that is not known (any more)."""
        end = self._ends[instance % INSTANCES]
        return end[1] if end is not None and end[0] == instance else None
