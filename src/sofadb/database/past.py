"""One keyspace as it was at one instant, while it goes on changing.

Nothing is copied at that instant. Before a key that was there is changed for the first time since, the keyspace has it noted
here: its value, expiry and version. Whether a key has changed since is told by its version, so keys that came later cost
nothing, and there are never more notes than there were keys. What was walked past needs no note and leaves none.

Values that are changed in place are frozen when they are noted. `Keyspace.claim` sees to that, for it is how a command gets
hold of a value in order to change it; the change must go through the keyspace too, which gives it its number.

A keyspace that is emptied takes new dicts and leaves the old ones to its past. If two keyspaces are swapped, their pasts go with
what they are the past of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .values import Frozen

if TYPE_CHECKING:
    from .graveyard import Graveyard
    from .keyspace import Keyspace


Item = tuple[int, int, "bytes | Frozen"]
"""What there was at a key: version, expiry (ms; 0 if it does not expire), value."""


class Past:
    """What a keyspace held when this was made."""

    __slots__ = (
        "_bucket",
        "_buckets",
        "_expiry",
        "_notes",
        "_values",
        "_versions",
        "changes",
        "deleted",
        "number",
        "swapped",
    )

    def __init__(self, keyspace: Keyspace) -> None:
        self.number = keyspace.number
        self.changes = keyspace.changes
        self.deleted = keyspace.deleted.copy()
        """At most an entry for each bucket."""
        self.swapped = keyspace.swapped
        self._values = keyspace.values
        self._expiry = keyspace.expiry
        self._versions = keyspace.versions
        self._buckets = keyspace.buckets
        self._notes: dict[int, dict[bytes, Item]] = {}
        """By bucket."""
        self._bucket = 0
        """Those before it were walked past."""

    def note(self, key: bytes, bucket: int) -> None:
        """`key` is about to change."""
        if bucket >= self._bucket and self._versions.get(key, self.changes + 1) <= self.changes:
            notes = self._notes.setdefault(bucket, {})
            if key not in notes:
                notes[key] = self._look(key)

    def on_clear(self) -> None:
        """The keyspace is about to be emptied, and has nothing to tell any more."""

    def items(self) -> Iterator[tuple[bytes, Item]]:
        """All keys and what there was at them: by bucket, and in order within a bucket. Once only."""
        versions, changes = self._versions, self.changes
        for number in sorted(self._buckets.keys() | self._notes.keys()):
            self._bucket = number
            notes = self._notes.setdefault(number, {})
            present = self._buckets.get(number, ())
            unchanged = [key for key in present if versions[key] <= changes and key not in notes]
            for key in sorted([*notes, *unchanged]):
                yield key, notes.get(key) or self._look(key)
            del self._notes[number]

    def bury(self, graveyard: Graveyard) -> None:
        """The keyspace was emptied, and nobody else needs what it held."""
        graveyard.bury_large(self._values, self._expiry, self._versions, self._buckets)

    def _look(self, key: bytes) -> Item:
        value = self._values[key]
        frozen = value if type(value) is bytes else value.freeze()
        return max(self._versions[key], self.swapped), self._expiry.get(key, 0), frozen
