"""All sixteen databases and the time they live in.

A batch begins with `begin`, which moves the time and clears away what has expired; then its entries are executed. A
read finds the state as the last batch left it. Nothing here asks what time it is.
"""

from __future__ import annotations

import hashlib

from .image import Image
from .keyspace import Keyspace
from .queues import LOCK, Place
from .shared import Shared
from .values import Value

DATABASES = 16
EXPIRED_PER_BATCH_MAX = 1_000
"""How many keys and locks one batch clears away. What is due beyond that is gone for all who look, and cleared with the next."""
FREED_PER_BATCH_MAX = 2_000
"""How many elements of what was removed one batch gives back. The rest is for `tidy`."""


class Database:
    """The state of one replica."""

    def __init__(self, members: dict[str, str] | None = None) -> None:
        """The state before the first instance, of a cluster that begins with these members (name to peer address)."""
        self.shared = Shared(members)
        self.keyspaces: list[Keyspace] = []
        self.keyspaces += [Keyspace(number, self.keyspaces, self.shared) for number in range(DATABASES)]
        self.time = 0
        """The highest stamp applied, in milliseconds."""
        self.instance = 0
        """The last instance begun."""
        self.expired = 0
        """How many keys were cleared away because their time had come."""
        self._image: Image | None = None
        """The one that is being taken."""

    def begin(self, instance: int, time: int) -> None:
        """A batch: the time is `time` (ms) from here on; it never runs backwards."""
        assert instance > self.instance, "instances are applied in order"
        rolling = self.shared.rolling
        rolling.end(self.instance)
        self.instance = instance
        time, gap_ms = max(self.time, time), max(0, time - self.time)
        self.time = time
        rolling.roll(b"instance %d at %d" % (instance, self.time))
        self.shared.begin(time, gap_ms)
        self.shared.graveyard.step(FREED_PER_BATCH_MAX)
        room = EXPIRED_PER_BATCH_MAX - self.shared.locks.clear_due(EXPIRED_PER_BATCH_MAX)
        room_for_keys = room
        for keyspace in self.keyspaces:
            keyspace.instance = instance
            keyspace.time = keyspace.clock = self.time
            if keyspace.expiry:
                room -= keyspace.delete_due(room)
        self.expired += room_for_keys - room
        self.call()

    def call(self) -> None:
        """After a run, a transaction or what else has changed something: call those who wait and can be served."""
        if self.shared.queues.touched:
            self.shared.queues.call(self._count_at)

    def _count_at(self, place: Place) -> int:
        """For how many who wait at a place there is something."""
        if place.kind == LOCK:
            return self.shared.locks.holder(place.name) is None
        value = self.keyspaces[place.database].look(place.name)
        return len(value) if isinstance(value, Value) and value.kind == place.kind else 0

    @property
    def clock(self) -> int:
        """The time (ms) that readers are told: at least that of the last batch. It makes nothing visible or invisible."""
        return self.keyspaces[0].clock

    @clock.setter
    def clock(self, clock: int) -> None:
        clock = max(clock, self.time)
        for keyspace in self.keyspaces:
            keyspace.clock = clock

    def next_expiry(self) -> int | None:
        """When the next key or lock expires (ms), or somebody who was called is late; or None."""
        dues = [keyspace.next_expiry() for keyspace in self.keyspaces if keyspace.expiry]
        dues += (self.shared.locks.next_expiry(), self.shared.queues.next_due(self.time))
        return min((due for due in dues if due is not None), default=None)

    @property
    def rolling(self) -> int:
        """The digest of all changes there ever were (rule D2): 32 bits, equal where the same was applied."""
        return self.shared.rolling.crc

    def rolling_at(self, instance: int) -> int | None:
        """What `rolling` was after an instance, of the last 1,024 that were begun here; None of any other.

        Of the last one, what it is now: to be asked between batches.
        """
        return self.rolling if instance == self.instance else self.shared.rolling.at(instance)

    @property
    def is_untidy(self) -> bool:
        """Whether `tidy` has something to do."""
        return bool(self.shared.graveyard)

    def take_over(self, other: Database) -> None:
        """The other one is not needed any more: this one goes on for the same clients, and gives the other one's memory back.

        (But not while an image of that is being taken.)
        """
        self.shared.go_on_for(other.shared)
        if other._image is None:
            for keyspace in other.keyspaces:
                self.shared.graveyard.bury_large(*keyspace.containers())
        self.shared.graveyard.take_over(other.shared.graveyard)

    def tidy(self, count: int) -> bool:
        """Give back memory of about `count` elements that were removed; whether something is left. Changes nothing."""
        return self.shared.graveyard.step(count)

    def image(self) -> Image:
        """The state as it is now, to be had in bytes while it goes on changing. One at a time; to be asked between batches."""
        assert self._image is None, "there is one image at a time"
        self._image = Image(self, kept=True)
        return self._image

    def image_is_closed(self, image: Image) -> None:
        """Another one may be taken."""
        if self._image is image:
            self._image = None

    def digest(self) -> bytes:
        """A fingerprint of the whole state, equal on replicas that have applied the same: the SHA-256 of its image."""
        digest = hashlib.sha256()
        for piece in Image(self, kept=False).pieces():
            digest.update(piece)
        return digest.digest()
