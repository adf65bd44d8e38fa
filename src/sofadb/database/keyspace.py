"""One numbered database: keys and values, when they expire, and when they last changed.

Expiry (rule D1). A key is gone when the time of the state machine reaches its expiry, and nobody's clock matters. What is due
is deleted as batches are applied, a bounded number each; until then it is skipped wherever one looks.

Versions (rule D3). The version of a key is the instance in which it last changed, for WATCH. A key that is not there has the
version of the last deletion in its bucket: a few thousand numbers instead of a memory of every key there ever was. So a
change is never missed, and once in a while one is seen that concerned another key.

Buckets (SCAN). Keys lie in 4,096 buckets by their CRC32. A cursor is the number of a bucket, which means
the same on every node and after any restart; a key that is there all the time is seen in its bucket.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any

from .replies import WRONG_TYPE, ReplyError

BUCKETS = 4096
_BUCKET_SHIFT = 32 - 12


class Keyspace:
    """Commands are given one of these. `time`, `clock` and `instance` are set before each batch and each read."""

    __slots__ = (
        "all",
        "buckets",
        "clock",
        "deleted",
        "due",
        "expiry",
        "instance",
        "number",
        "time",
        "values",
        "versions",
    )

    def __init__(self, number: int, all_of_them: list[Keyspace]) -> None:
        self.number = number
        self.all = all_of_them
        """Every database, this one included."""
        self.time = 0
        """The state machine's time in milliseconds: decides what is visible."""
        self.clock = 0
        """For those who ask for the time: at least `time`, and for reads as fresh as the leader says."""
        self.instance = 0
        """The instance that is being applied; what changes gets it as its version."""
        self.values: dict[bytes, Any] = {}
        self.expiry: dict[bytes, int] = {}
        self.versions: dict[bytes, int] = {}
        self.buckets: dict[int, dict[bytes, None]] = {}
        self.deleted: dict[int, int] = {}
        """For each bucket, the instance of the last deletion."""
        self.due: list[tuple[int, bytes]] = []
        """A heap of (expiry, key); entries that no longer hold are passed over."""

    # Looking

    def find(self, key: bytes) -> Any:
        """The value of `key`, of whatever type, or None."""
        expiry = self.expiry
        if expiry and expiry.get(key, self.time + 1) <= self.time:
            return None
        return self.values.get(key)

    def find_string(self, key: bytes) -> bytes | None:
        """The string at `key`, or None. Raises WRONGTYPE."""
        value = self.find(key)
        if value is not None and type(value) is not bytes:
            raise ReplyError(WRONG_TYPE)
        return value

    def version(self, key: bytes) -> int:
        """When `key` last changed; a deletion is a change."""
        if self.find(key) is None:
            return self.deleted.get(_bucket(key), 0)
        return self.versions[key]

    def visible(self) -> Iterator[bytes]:
        """All keys that are there, in no order that may matter."""
        if not self.expiry:
            return iter(list(self.values))
        return (key for key in list(self.values) if self.find(key) is not None)

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """The keys of at least one bucket from `cursor` on, about `count` of them; and where to go on (0: the end)."""
        keys: list[bytes] = []
        while cursor < BUCKETS and len(keys) < count:
            bucket = self.buckets.get(cursor)
            cursor += 1
            if bucket:
                keys += [key for key in bucket if self.find(key) is not None]
        return (cursor if cursor < BUCKETS else 0), keys

    # Changing

    def set(self, key: bytes, value: Any) -> None:
        """Put a value, as new: its expiry is gone."""
        if self.expiry:
            self.expiry.pop(key, None)
        self.replace(key, value)

    def replace(self, key: bytes, value: Any) -> None:
        """Put a value and leave the expiry as it is. An expired key must have been deleted before (`claim`)."""
        values = self.values
        if key not in values:
            self.buckets.setdefault(crc32(key) >> _BUCKET_SHIFT, {})[key] = None
        values[key] = value
        self.versions[key] = self.instance

    def claim(self, key: bytes) -> Any:
        """The value of `key` for somebody who is about to change it; if it has expired, it is deleted first."""
        expiry = self.expiry
        if expiry and expiry.get(key, self.time + 1) <= self.time:
            self.delete(key)
            return None
        return self.values.get(key)

    def claim_string(self, key: bytes) -> bytes | None:
        """As `claim`, for a string. Raises WRONGTYPE."""
        value = self.claim(key)
        if value is not None and type(value) is not bytes:
            raise ReplyError(WRONG_TYPE)
        return value

    def delete(self, key: bytes) -> bool:
        """Remove `key`; whether anything was there that had not expired."""
        if key not in self.values:
            return False
        was_visible = self.find(key) is not None
        del self.values[key]
        del self.versions[key]
        self.expiry.pop(key, None)
        number = _bucket(key)
        bucket = self.buckets[number]
        del bucket[key]
        if not bucket:
            del self.buckets[number]
        self.deleted[number] = self.instance
        return was_visible

    def expire_at(self, key: bytes, time: int) -> None:
        """Let `key`, which is there, expire at `time` (ms)."""
        self.expiry[key] = time
        heappush(self.due, (time, key))
        self.versions[key] = self.instance
        if len(self.due) > 1000 + 4 * len(self.expiry):
            self.due = sorted((time, key) for key, time in self.expiry.items())

    def persist(self, key: bytes) -> bool:
        """Take the expiry of `key` away; whether it had one."""
        if self.expiry.pop(key, None) is None:
            return False
        self.versions[key] = self.instance
        return True

    def clear(self) -> None:
        """Remove everything."""
        for bucket in self.buckets:
            self.deleted[bucket] = self.instance
        self.values, self.expiry, self.versions, self.buckets, self.due = {}, {}, {}, {}, []

    def delete_due(self, count_max: int) -> int:
        """Delete what has expired, `count_max` keys at most; returns how many."""
        deleted = 0
        while self.due and self.due[0][0] <= self.time and deleted < count_max:
            time, key = heappop(self.due)
            if self.expiry.get(key) == time:
                self.delete(key)
                deleted += 1
        return deleted

    def next_due(self) -> int | None:
        """The earliest expiry (ms), or None."""
        while self.due and self.expiry.get(self.due[0][1]) != self.due[0][0]:
            heappop(self.due)
        return self.due[0][0] if self.due else None


def _bucket(key: bytes) -> int:
    return crc32(key) >> _BUCKET_SHIFT
