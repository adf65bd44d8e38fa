"""One numbered database: keys and values, when they expire, and when they last changed.

Expiry (rule D1). A key is gone when the time of the state machine reaches its expiry, and nobody's clock matters. What is due
is deleted as batches are applied, a bounded number each; until then it is skipped wherever one looks.

Versions (rule D3), for WATCH. Every change has a number, counted from the beginning, and the version of a key is that of its last
change. (The instance would not do: within one there is room for a SET, a WATCH and another SET.) A key that is not there
has the version of the last deletion in its bucket: a few thousand numbers instead of a memory of every key there ever
was. So a change is never missed, and once in a while one is seen that concerned another key. No number stands for both a
value and a deletion, so a key that has expired is seen to have changed even before it is deleted.

Buckets (SCAN). Keys lie in 4,096 buckets by their CRC32. A cursor is the number of a bucket, which means
the same on every node and after any restart; a key that is there all the time is seen in its bucket.

Changing. Whatever changes a key does three things besides: while an image is being taken, it first lets the past note what
there was (`_touch`); it gives the change its number; and it rolls it into the digest (rule D2). A command that changes a
value in place gets it from `claim` or `claim_as`, which has the past note it as it still is, and says afterwards what came of
it (`changed`); if it took the last element out, it deletes the key instead. The same way what a script does can be taken
back (`undo.py`).

Strings are `bytes`. One that is long and overwritten in places, as bitmaps are, would be copied each time; so `open_string` has
it held as a `LongString`, until somebody wants all of it (`find`). How it is held is no part of the state.

Who waits for elements (`queues.py`) is told whenever a value that has some is put at a key, or changes there.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from crc32c import crc32c

from .chance import Chance
from .events import EVENTS_MAX, EXPIRED, NEW, Event
from .expiry import Deadlines
from .graveyard import LARGE
from .queues import Place
from .replies import WRONG_TYPE, ReplyError
from .rolling import (
    ABOUT,
    BETWEEN,
    CHANGED,
    CLEARED,
    DELETED,
    EXPIRES,
    MOVED,
    NO_BYTES,
    PERSISTED,
    REPLACED,
    put_mark,
)
from .shared import Shared
from .values import HEAD, LongString, Value

if TYPE_CHECKING:
    from .past import Past
    from .undo import Witness

V = TypeVar("V", bound=Value)

BUCKETS = 4096
_BUCKET_SHIFT = 32 - 12
ROLLED_BYTES_MAX = 16 << 10
LONG_STRING_BYTES = 64 << 10
"""A string that has so many is overwritten in place."""
_STRINGS_OR_NOTHING = frozenset((bytes, type(None)))
_PICKS = 16
"""How often `any_key` tries its luck before it takes the first key that it finds."""


class Keyspace:
    """Commands are given one of these. `time`, `clock` and `instance` are set before each batch and each read."""

    __slots__ = (
        "all",
        "buckets",
        "changes",
        "clock",
        "deadlines",
        "deleted",
        "expiry",
        "has_held_others",
        "instance",
        "lines",
        "mark",
        "number",
        "past",
        "picks",
        "rolling",
        "set_mark",
        "shared",
        "swapped",
        "time",
        "values",
        "versions",
    )

    def __init__(self, number: int, all_of_them: list[Keyspace], shared: Shared) -> None:
        self.number = number
        self.all = all_of_them
        """Every database, this one included."""
        self.shared = shared
        """What belongs to none of them."""
        self.rolling = shared.rolling
        self.lines = shared.queues.lines
        """Where somebody waits, in all databases."""
        self.mark = crc32(b"database %d" % number)
        """Its number, as it is rolled."""
        self.set_mark = put_mark(number)
        """What is rolled in front of a key that is set."""
        self.past: Past | Witness | None = None
        """What this was when an image was begun, as long as that is not done with. During a script, who can take it back."""
        self.time = 0
        """The state machine's time in milliseconds: decides what is visible."""
        self.clock = 0
        """For those who ask for the time: at least `time`, and for reads as fresh as the leader says."""
        self.instance = 0
        """The last instance begun."""
        self.changes = 0
        """How many changes there have been; the number of the last one."""
        self.values: dict[bytes, Any] = {}
        self.has_held_others = False
        """Whether there may be values that are not `bytes`. It stays so: what takes a script back puts values back past it."""
        self.expiry: dict[bytes, int] = {}
        self.versions: dict[bytes, int] = {}
        self.buckets: dict[int, dict[bytes, None]] = {}
        self.deleted: dict[int, int] = {}
        """For each bucket, the number of the last deletion."""
        self.swapped = 0
        """The number of the change that put all that was here then in its place; 0 if there was none (SWAPDB)."""
        self.deadlines = Deadlines(self.expiry)
        self.picks = 0
        """How often `any_key` has picked. No part of the state: it is asked by reads."""

    # Looking

    def look(self, key: bytes) -> Any:
        """The value of `key` as it is held, or None. For those who do not ask what is in a string."""
        expiry = self.expiry
        if expiry and expiry.get(key, self.time + 1) <= self.time:
            return None
        return self.values.get(key)

    def find(self, key: bytes) -> Any:
        """The value of `key`, of whatever type, or None. Strings are `bytes`."""
        value = self.look(key)
        return self._whole(key, value) if type(value) is LongString else value

    def find_string(self, key: bytes) -> bytes | None:
        """The string at `key`, or None. Raises WRONGTYPE."""
        expiry = self.expiry
        if expiry and expiry.get(key, self.time + 1) <= self.time:
            return None
        value = self.values.get(key)
        if value is not None and type(value) is not bytes:
            return self._whole(key, value)
        return value

    def find_buffer(self, key: bytes) -> bytes | bytearray | None:
        """As `find_string`, for somebody who looks at it now and does not keep it."""
        value = self.look(key)
        if value is None or type(value) is bytes:
            return value
        if type(value) is not LongString:
            raise ReplyError(WRONG_TYPE)
        return value.data

    def _whole(self, key: bytes, value: Any) -> bytes:
        """The bytes of a value that is held otherwise, as which it is held from now on. Raises WRONGTYPE."""
        if type(value) is not LongString:
            raise ReplyError(WRONG_TYPE)
        whole = self.values[key] = bytes(value.data)
        return whole

    def find_as(self, key: bytes, kind: type[V]) -> V | None:
        """The value of `key`, of a kind, or None. Raises WRONGTYPE."""
        value = self.look(key)
        if value is not None and type(value) is not kind:
            raise ReplyError(WRONG_TYPE)
        return value

    def chance(self) -> Chance:
        """Chance for a write: the same on every replica."""
        return Chance(self.instance, self.changes, self.number)

    def own_chance(self) -> Chance:
        """Chance for a read: another each time."""
        self.picks += 1
        return Chance(self.instance, self.picks)

    def version(self, key: bytes) -> int:
        """The number of the last change of `key`; that it went away is one, whatever the cause."""
        if self.look(key) is None:
            return self.deleted.get(bucket_of(key), 0)
        return max(self.versions[key], self.swapped)

    def visible(self) -> Iterable[bytes]:
        """All keys that are there, in no order that may matter. Nothing may change while one goes through them."""
        if not self.expiry:
            return self.values
        return (key for key in self.values if self.look(key) is not None)

    def any_key(self) -> bytes | None:
        """One of the keys that are there, another one each time; None if there is none."""
        filled = list(self.buckets)
        for _ in range(_PICKS if filled else 0):
            self.picks += 1
            pick = crc32(b"%d %d" % (self.instance, self.picks))
            bucket = self.buckets[filled[pick % len(filled)]]
            key = next(islice(bucket, (pick >> 12) % len(bucket), None))
            if self.look(key) is not None:
                return key
        return next(iter(self.visible()), None)

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """About `count` keys, of whole buckets from `cursor` on; and where to go on (0: the end).

        A whole iteration passes every bucket once, so the empty ones cost some 0.1 ms in all.
        """
        keys: list[bytes] = []
        if not self.buckets:
            return 0, keys
        while cursor < BUCKETS and len(keys) < count:
            bucket = self.buckets.get(cursor)
            cursor += 1
            if bucket:
                keys += [key for key in bucket if self.look(key) is not None]
        return (cursor if cursor < BUCKETS else 0), keys

    # Changing

    def set(self, key: bytes, value: Any) -> None:
        """Put a value, as new: its expiry is gone."""
        if self.past is not None:
            self._touch(key)
        if self.expiry:
            expires_at = self.expiry.pop(key, None)
            if expires_at is not None and expires_at <= self.time:
                self.notify(EXPIRED, b"expired", key)
        values = self.values
        old = values.get(key)
        if old is None:
            self.buckets.setdefault(crc32(key) >> _BUCKET_SHIFT, {})[key] = None
            if self.shared.wanted_events & NEW:
                self.notify(NEW, b"new", key)
        elif type(old) is not bytes:
            self._bury(old)
        values[key] = value
        self.changes = self.versions[key] = self.changes + 1
        packed = value if type(value) is bytes else self._about(key, value)
        rolling = self.rolling
        rolling.crc = crc32c(packed, crc32c(b"".join((self.set_mark, key, BETWEEN)), rolling.crc))

    def find_strings(self, keys: list[bytes]) -> list[bytes | None] | None:
        """As `find_string` for each of them; None if any of them needs a closer look."""
        if self.expiry and not self.expiry.keys().isdisjoint(keys):
            return None
        found = list(map(self.values.get, keys))
        return found if _STRINGS_OR_NOTHING.issuperset(map(type, found)) else None

    def set_strings(self, keys: list[bytes], strings: list[bytes]) -> bool:
        """As `set` for each of them, one after the other; False, and nothing was done, if any of them needs a closer look."""
        if self.shared.wanted_events or (self.expiry and not self.expiry.keys().isdisjoint(keys)):
            return False
        values, versions = self.values, self.versions
        if self.has_held_others and not _STRINGS_OR_NOTHING.issuperset(map(type, map(values.get, keys))):
            return False
        if self.past is not None:
            for key in keys:
                self._touch(key)
        known = len(values)
        values.update(zip(keys, strings, strict=True))
        if len(values) > known:
            for key in keys:
                if key not in versions:
                    self.buckets.setdefault(crc32(key) >> _BUCKET_SHIFT, {})[key] = None
        first = self.changes + 1
        self.changes += len(keys)
        versions.update(zip(keys, range(first, self.changes + 1), strict=True))
        self.rolling.put(self.set_mark, keys, strings)
        return True

    def replace(self, key: bytes, value: Any) -> None:
        """Put a value and leave the expiry as it is. An expired key must have been deleted before (`claim`)."""
        if self.past is not None:
            self._touch(key)
        values = self.values
        old = values.get(key)
        if old is None:
            self.buckets.setdefault(crc32(key) >> _BUCKET_SHIFT, {})[key] = None
            if self.shared.wanted_events & NEW:
                self.notify(NEW, b"new", key)
        elif type(old) is not bytes:
            self._bury(old)
        values[key] = value
        self.changes = self.versions[key] = self.changes + 1
        packed = value if type(value) is bytes else self._about(key, value)
        rolling = self.rolling
        rolling.crc = crc32c(packed, crc32(key or NO_BYTES, rolling.crc ^ self.mark) ^ REPLACED)

    def claim(self, key: bytes) -> Any:
        """The value of `key` for somebody who is about to change it; if it has expired, it is deleted first."""
        expiry = self.expiry
        if expiry and expiry.get(key, self.time + 1) <= self.time:
            self.delete(key)
            return None
        value = self.values.get(key)
        if self.past is not None and type(value) is not bytes:
            self._touch(key)
        return value

    def claim_string(self, key: bytes) -> bytes | None:
        """As `claim`, for a string that is about to be replaced. Raises WRONGTYPE."""
        value = self.claim(key)
        if value is not None and type(value) is not bytes:
            return self._whole(key, value)
        return value

    def claim_as(self, key: bytes, kind: type[V]) -> V | None:
        """As `claim`, for a value of a kind. Raises WRONGTYPE."""
        value = self.claim(key)
        if value is not None and type(value) is not kind:
            raise ReplyError(WRONG_TYPE)
        return value

    def changed(self, key: bytes, *about: bytes) -> None:
        """The claimed value of `key`, which is not empty, was changed in place; `about` says what came of it."""
        if self.lines:
            self._has_elements(key)
        self.changes = self.versions[key] = self.changes + 1
        rolling = self.rolling
        crc = crc32(key or NO_BYTES, rolling.crc ^ self.mark) ^ CHANGED
        for part in about:
            crc = crc32c(part or NO_BYTES, crc) ^ ABOUT
        rolling.crc = crc

    def open_string(self, key: bytes, length: int) -> bytearray:
        """The string at `key`, or none, to be overwritten; with zeros at its end if it has less than `length` bytes.

        To be closed, whatever came of it.
        """
        value = self.claim(key)
        old: bytes | bytearray = value.data if type(value) is LongString else value or b""
        if len(old) < LONG_STRING_BYTES and length < LONG_STRING_BYTES:
            data = bytearray(old)
        elif type(value) is LongString:
            data = value.data
        else:
            if value is not None and self.past is not None:
                self._touch(key)
            data = bytearray(old) if old else bytearray(length)
            if value is None:
                self.replace(key, LongString(data))
            else:
                self.values[key] = LongString(data)
                self.has_held_others = True
        if len(data) < length:
            data += bytes(length - len(data))
        return data

    def close_string(self, key: bytes, data: bytearray, *about: bytes) -> None:
        """What `open_string` gave has become what it is to be; `about` says where it is another."""
        held = self.values.get(key)
        if type(held) is LongString and held.data is data:
            self.changed(key, b"%d" % len(data), *about)
        else:
            self.replace(key, bytes(data))

    def move(self, key: bytes, new: bytes, to: Keyspace) -> None:
        """Put the value of `key`, which is there, at `new` in some keyspace, with its expiry, in place of what is there."""
        value, expires_at = self.values[key], self.expiry.get(key)
        if self.past is not None:
            self._touch(key)
        self._remove(key)
        self._roll(key, MOVED)
        to.delete(new)
        if to.past is not None:
            to._touch(new)
        to.notify(NEW, b"new", new)
        to.buckets.setdefault(bucket_of(new), {})[new] = None
        to.values[new] = value
        to.has_held_others |= type(value) is not bytes
        to.changes = to.versions[new] = to.changes + 1
        to._roll(new, MOVED)
        if self.lines:
            to._has_elements(new)
        if expires_at is not None:
            to.expire_at(new, expires_at)

    def notify(self, class_: int, name: bytes, key: bytes) -> None:
        """Something happened to `key` that somebody may want to hear of, in these words of Redis."""
        shared = self.shared
        if shared.wanted_events & class_ and len(shared.events) < EVENTS_MAX:
            shared.events.append(Event(class_, name, self.number, key))

    def delete(self, key: bytes) -> bool:
        """Remove `key`; whether anything was there that had not expired."""
        if key not in self.values:
            return False
        if self.past is not None:
            self._touch(key)
        was_visible = self.look(key) is not None
        if not was_visible:
            self.notify(EXPIRED, b"expired", key)
        value = self._remove(key)
        if type(value) is not bytes:
            self._bury(value)
        self._roll(key, DELETED)
        return was_visible

    def _remove(self, key: bytes) -> Any:
        value = self.values.pop(key)
        del self.versions[key]
        self.expiry.pop(key, None)
        number = bucket_of(key)
        bucket = self.buckets[number]
        del bucket[key]
        if not bucket:
            del self.buckets[number]
        self.changes = self.deleted[number] = self.changes + 1
        return value

    def containers(self) -> list[Any]:
        """All there is of it, for the graveyard."""
        return [self.values, self.expiry, self.versions, self.buckets, *self.deadlines.containers()]

    def _bury(self, value: Value | LongString) -> None:
        if isinstance(value, Value) and len(value) >= LARGE:
            self.shared.graveyard.bury(value)

    def expire_at(self, key: bytes, time: int) -> None:
        """Let `key`, which is there, expire at `time` (ms)."""
        if self.past is not None:
            self._touch(key)
        self.expiry[key] = time
        self.deadlines.add(key, time)
        self.changes = self.versions[key] = self.changes + 1
        self._roll(key, EXPIRES)
        self.rolling.roll(b"%d" % time)

    def persist(self, key: bytes) -> bool:
        """Take the expiry of `key` away; whether it had one."""
        if key not in self.expiry:
            return False
        if self.past is not None:
            self._touch(key)
        del self.expiry[key]
        self.changes = self.versions[key] = self.changes + 1
        self._roll(key, PERSISTED)
        return True

    def clear(self) -> None:
        """Remove everything. Memory is given back little by little, and what an image is being made of, when that is done."""
        if self.past is None:
            self.shared.graveyard.bury_large(self.values, self.expiry, self.versions, self.buckets)
        else:
            self.past = self.past.on_clear()
        self.shared.graveyard.bury_large(*self.deadlines.containers())
        self.changes += 1
        self._roll(b"", CLEARED)
        for bucket in self.buckets:
            self.deleted[bucket] = self.changes
        self.values, self.expiry, self.versions, self.buckets = {}, {}, {}, {}
        self.deadlines = Deadlines(self.expiry)

    def swap(self, other: Keyspace) -> None:
        """Hold what the other one holds, and the other way round. All keys have changed then, also those that are nowhere."""
        self.values, other.values = other.values, self.values
        self.expiry, other.expiry = other.expiry, self.expiry
        self.versions, other.versions = other.versions, self.versions
        self.buckets, other.buckets = other.buckets, self.buckets
        self.deadlines, other.deadlines = other.deadlines, self.deadlines
        self.past, other.past = other.past, self.past
        self.has_held_others = other.has_held_others = self.has_held_others or other.has_held_others
        changes = max(self.changes, other.changes) + 1
        for each in (self, other):
            each.changes = each.swapped = changes
            each.deleted = dict.fromkeys(range(BUCKETS), changes)
        self.rolling.roll(b"swapped", b"%d %d" % (self.number, other.number))
        self.shared.queues.touch_all(self.number, other.number)

    def restore(self, key: bytes, value: Any, version: int, expiry: int | None) -> None:
        """Put a key where it was when an image was taken, into a keyspace that does not hold it."""
        self.values[key] = value
        self.has_held_others |= type(value) is not bytes
        self.versions[key] = version
        self.buckets.setdefault(bucket_of(key), {})[key] = None
        if expiry is not None:
            self.expiry[key] = expiry
            self.deadlines.add(key, expiry)

    def _about(self, key: bytes, value: Value | LongString) -> bytes:
        """Note that a value was put at `key` that is not `bytes`; what is rolled of it."""
        self.has_held_others = True
        if self.lines:
            self._has_elements(key)
        return _about(value)

    def _has_elements(self, key: bytes) -> None:
        """There are elements at `key`, perhaps more than before."""
        value = self.values[key]
        if isinstance(value, Value):
            self.shared.queues.touch(Place(value.kind, self.number, key))

    def _touch(self, key: bytes) -> None:
        """`key` is about to change while an image is being taken. To be called before anything is changed."""
        assert self.past is not None
        self.past.note(key, bucket_of(key))

    def _roll(self, key: bytes, what: int) -> None:
        self.rolling.crc = crc32(key or NO_BYTES, self.rolling.crc ^ self.mark) ^ what

    def delete_due(self, count_max: int) -> int:
        """Delete what has expired, the earliest first, `count_max` keys at most; returns how many."""
        for count in range(count_max):
            first = self.deadlines.first()
            if first is None or first[0] > self.time:
                return count
            self.delete(first[1])
        return count_max

    def next_expiry(self) -> int | None:
        """The earliest expiry (ms), or None."""
        first = self.deadlines.first()
        return None if first is None else first[0]


def bucket_of(key: bytes) -> int:
    """The number of the bucket in which `key` lies."""
    return crc32(key) >> _BUCKET_SHIFT


def _about(value: Value | LongString) -> bytes:
    """What is rolled of a value that is put as a whole: all of it, or, of a large one, how large it is.

    Of a long string nothing: `close_string` says more.
    """
    if isinstance(value, LongString):
        return b""
    frozen = value.freeze() if value.bytes <= ROLLED_BYTES_MAX and len(value) < LARGE else None
    if frozen is None:
        return HEAD.pack(value.kind, len(value)) + HEAD.pack(value.is_wide, value.bytes)
    return b"".join((frozen.head(), *frozen.pieces(ROLLED_BYTES_MAX)))
