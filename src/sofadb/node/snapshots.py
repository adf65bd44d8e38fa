"""Snapshots: what the log has led to, taken while the node serves, and gone on from when it starts (rule P9).

A snapshot is begun between two batches, where the state machine and the core are at the same instance. Its image is made on the
event loop, a piece at a time and something else in between; what is written is written in a thread. The two latest are kept,
and the log is cut behind the *older*: should the newest turn out to be damaged, nothing is lost.

It is time for one when the log has grown by as much as it may since the last, and by no less than a snapshot is large: so what
is written in all stays within twice what clients write. Where the last one was small, another costs little, and it comes
earlier: the log stays short, and the files that it gives up are used again while they are in memory. Or when a while has passed
and anything has happened. Or when it is asked for (BGSAVE).

A disk without room for a snapshot is no end: the attempt is given up, told, and made again later, or at once if the log had spare
files to give back. Any other failure of a write is
as final as one of the log.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sofadb.database.database import Database
from sofadb.database.loader import Loader, Unreadable
from sofadb.database.replies import ReplyError
from sofadb.paxos import CutOff, Foundation, Founded, Instance
from sofadb.paxos.codec import Malformed, decode_foundation, encode
from sofadb.storage.files import NoSpace, StorageError
from sofadb.storage.segment import Rot
from sofadb.storage.snapshot import SnapshotInfo, SnapshotReader, Snapshots, SnapshotWriter, snapshot_name
from sofadb.unlikely import unlikely

from .host import EXIT_STORAGE

if TYPE_CHECKING:
    from .live import LiveWorld
    from .node import Node

log = logging.getLogger("sofadb.snapshots")

KEPT = 2
SMALL_TIMES = 16
"""Taking a snapshot costs a node about as much processor time as ten times its bytes of log."""
WRITE_BYTES = 1 << 20
"""So much is gathered for one write."""
PAUSE_S = 0.001
"""After each piece of an image the event loop has so long for others ..."""
REST_TIMES = 3
"""... and so many times as long as the piece took, if there are others: three quarters of the time are theirs."""
LOOK_EVERY_S = 1.0
FETCHED_S, WAITS_FOR_FETCH = 5.0, 8
"""While another node fetches one, so many seconds after each part, the log may grow so many times further."""
AGAIN_S = 30.0
"""So long after an attempt that found no room."""


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """When a snapshot is taken by itself."""

    log_bytes: int = 256 << 20
    """The log has grown by so much since the last one ..."""
    log_bytes_if_small: int = 64 << 20
    """... or by so much, if that is more than `SMALL_TIMES` what the last one took."""
    every_s: float = 3_600.0
    """Or so long has passed, and something was written."""

    def log_limit(self, size: int) -> int:
        """How many bytes the log may grow by, if the last snapshot has `size` bytes."""
        return max(size, min(self.log_bytes, max(self.log_bytes_if_small, SMALL_TIMES * size)))


class Snapshotter:
    """Takes snapshots of one node, and knows those that there are."""

    def __init__(
        self, world: LiveWorld, node: Node, owner: int, store: Snapshots, settings: SnapshotSettings
    ) -> None:
        self.world = world
        self.node = node
        self.owner = owner
        self.store = store
        self.settings = settings
        self.known: list[SnapshotInfo] = []
        """Those that are whole, the newest first."""
        self.taken_at = 0.0
        """When the newest was finished (milliseconds of `Host.now`); that of an earlier life counts from our start."""
        self.finished_at = 0
        """When it was finished, by the wall clock (milliseconds since 1970); 0 if not in this life."""
        self.logged_bytes = 0
        """Of the log, what lies behind the newest."""
        self.problem = ""
        """Why the last attempt failed; empty if it did not."""
        self.wanted = 0
        """One that reaches so far was asked for (instance)."""
        self.fetched_at = float("-inf")
        """When another node last fetched a part of one of ours (milliseconds of `Host.now`)."""
        self._not_before = 0.0
        self._taking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # At the start

    def restore(self) -> None:
        """Begin from the newest one that can be read, if there is any. Damaged ones are put aside. Raises `StorageError`."""
        self.taken_at = self.world.host.now()
        for info in self.store.found():
            try:
                if info.damage:
                    raise Rot(info.name, 0, info.damage)
                foundation, database = load(self.store.open(info.name))
            except (Rot, Unreadable, Malformed) as problem:
                aside = self.store.quarantine(info.name)
                log.error("a snapshot is damaged and was put aside as %s: %s", aside, problem)
                self.problem = str(problem)
                continue
            self.known = [
                info,
                *(each for each in self.store.found() if each.instance < info.instance and not each.damage),
            ]
            self.node.begin_from(foundation.instance, database)
            self.world.driver.handle(Founded(foundation))
            log.info("began from the snapshot of instance %d", foundation.instance)
            return

    # While the node runs

    def watch(self) -> None:
        """Look, from now on, whether it is time for one."""
        if self.is_due():
            self.begin()
        self._timer = self.world.loop.call_later(LOOK_EVERY_S, self.watch)

    def is_due(self) -> bool:
        """Whether it is time for one."""
        host, settings = self.world.host, self.settings
        if host.now() < self._not_before or not self._has_news():
            return False
        size = 0 if self.newest is None else self.newest.size
        limit = settings.log_limit(size)
        if host.now() - self.fetched_at < 1000 * FETCHED_S:
            limit *= WAITS_FOR_FETCH  # What is being fetched is gone when the next but one is taken.
        has_grown = self.logged_bytes >= limit
        is_old = host.now() - self.taken_at >= 1000 * settings.every_s
        is_wanted = self._reaches() < self.wanted
        if self.world.journal.is_short_of_space:
            return True  # It is what makes room.
        return has_grown or is_old or is_wanted or unlikely("snapshot now")

    @property
    def newest(self) -> SnapshotInfo | None:
        """The one that reaches furthest."""
        return self.known[0] if self.known else None

    def _has_news(self) -> bool:
        return self.node.applied > self._reaches()

    def _reaches(self) -> int:
        return 0 if self.newest is None else self.newest.instance

    @property
    def is_taking(self) -> bool:
        """Whether one is under way."""
        return self._taking is not None

    def begin(self) -> bool:
        """Begin to take one, between two batches. False if one is under way, or nothing has happened since the last."""
        if self.is_taking or not self._has_news():
            return False
        self._taking = self.world.loop.create_task(self._take())
        self._taking.add_done_callback(self._ended)
        return True

    def want(self) -> None:
        """Have one that holds at least what is applied now: if one of less is under way, another behind it."""
        self.wanted = self.node.applied
        self.begin()

    def told(self) -> tuple[int, int, int, bytes] | None:
        """Instance, salt, size in bytes and digest of the newest, if there is any."""
        newest = self.newest
        return None if newest is None else (newest.instance, newest.salt, newest.size, newest.digest)

    async def part(self, instance: int, salt: int, offset: int, size: int) -> bytes:
        """What `read_part` returns, read in a thread. Raises `ReplyError`."""
        part = await asyncio.to_thread(self.read_part, instance, salt, offset, size)
        if part is None:
            raise ReplyError("ERR that snapshot cannot be had any more")
        return part

    def _find(self, instance: int, salt: int) -> SnapshotInfo | None:
        name = snapshot_name(instance)
        return next((info for info in self.known if (info.name, info.salt) == (name, salt)), None)

    async def verify(self, instance: int, salt: int) -> None:
        """Read all of one of ours, if it is there still, and put it aside if it is damaged."""
        if (info := self._find(instance, salt)) is not None:
            try:
                await asyncio.to_thread(self.store.verify, info.name)
            except Rot as problem:
                self.put_aside(info, problem)

    def read_part(self, instance: int, salt: int, offset: int, size: int) -> bytes | None:
        """Raw bytes of a snapshot, fewer where it ends; None if it is not there any more. In whatever thread."""
        try:
            if (info := self._find(instance, salt)) is not None:
                return self.store.read_part(info.name, offset, size)
        except StorageError as problem:
            log.warning("a snapshot cannot be handed on: %s", problem)
        return None

    async def _take(self) -> None:
        replica = self.world.driver.replica
        foundation = replica.foundation()
        assert foundation.instance == self.node.applied, "a snapshot is begun between two batches"
        logged_bytes, self.logged_bytes = self.logged_bytes, 0
        image = self.node.database.image()
        writer: SnapshotWriter | None = None
        try:
            meta = b"".join(encode(foundation))
            writer = await asyncio.to_thread(
                SnapshotWriter,
                self.store.files,
                self.owner,
                foundation.instance,
                meta,
                self.world.host.new_salt,
            )
            gathered: list[bytes] = []
            size = 0
            pieces, done_before = image.pieces(), self._done()
            while True:
                begun = self.world.host.now()
                if (piece := next(pieces, None)) is None:
                    break
                spent_ms = self.world.host.now() - begun
                gathered.append(piece)
                size += len(piece)
                if size >= WRITE_BYTES or unlikely("snapshot piece by piece"):
                    await asyncio.to_thread(_write, writer, gathered)
                    gathered, size = [], 0
                done = self._done()
                await asyncio.sleep(rest_s(spent_ms, done != done_before))
                done_before = done
            await asyncio.to_thread(_write, writer, gathered)
            await self._say_what_is_chosen()
            info = await asyncio.to_thread(writer.finish)
            await asyncio.to_thread(self.store.keep, KEPT)
        except NoSpace as problem:
            if writer is not None:
                await asyncio.to_thread(writer.abort)
            self.logged_bytes += logged_bytes
            self.problem = str(problem)
            log.error("no room for a snapshot: %s", problem)
            if not await asyncio.to_thread(self.world.journal.give_back):
                self._not_before = self.world.host.now() + 1000 * AGAIN_S
            return
        finally:
            image.close()
        self._has_taken(info)

    def _done(self) -> tuple[int, int]:
        """Changes whenever the node has done something for clients."""
        return self.node.handed_on, self.node.applied

    async def _say_what_is_chosen(self) -> None:
        """Have the log say how far everything is chosen, before there is a snapshot that says it.

        Else the log might end before the snapshot, as far as it tells, and would be no good without it.
        """
        done = asyncio.Event()
        self.world.driver.handle(CutOff(Instance(0)))
        self.world.save((), done.set)
        await done.wait()

    def _has_taken(self, info: SnapshotInfo) -> None:
        """One more is there to stay: cut the log behind the one before it."""
        before = self.newest
        if before is not None and before.instance >= info.instance:
            return  # Another node's has been gone on from meanwhile.
        self.known = [info, *self.known][:KEPT]
        self.taken_at, self.problem = self.world.host.now(), ""
        self.finished_at = self.world.host.clock()
        log.info("took a snapshot of instance %d: %d bytes", info.instance, info.size)
        if before is not None:
            self.world.driver.handle(CutOff(Instance(before.instance)))

    def put_aside(self, info: SnapshotInfo, problem: StorageError) -> None:
        """One of ours turned out to be damaged: it is not used any more, and a new one is taken."""
        if info not in self.known:
            return
        self.known = [each for each in self.known if each != info]
        aside = self.store.quarantine(info.name)
        self.problem = str(problem)
        log.error("a snapshot is damaged and was put aside as %s; a new one is taken: %s", aside, problem)
        self.begin()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._taking = None
        self.world.tidier.look()
        if task.cancelled() or (mistake := task.exception()) is None:
            return
        if isinstance(mistake, StorageError):
            self.world.host.die(EXIT_STORAGE, str(mistake))
        context = {"message": "a snapshot ended by a mistake", "exception": mistake, "handle": None}
        self.world.loop.call_exception_handler(context)

    async def install(self, info: SnapshotInfo) -> None:
        """Go on from one that has come from another node, if it reaches further than we are.

        Raises `Rot`, `Unreadable` and `Malformed`; then nothing has changed.
        """
        loader = Loader()
        with closing(await asyncio.to_thread(self.store.open, info.name)) as reader:
            for piece in reader.pieces():
                for begin in range(0, len(piece), WRITE_BYTES // 16):
                    loader.feed(piece[begin : begin + WRITE_BYTES // 16])
                    await asyncio.sleep(PAUSE_S)
            foundation, database = _fitting(decode_foundation(reader.meta), loader.finish(), info)
        if foundation.instance <= self.node.applied:
            return
        self.node.begin_from(foundation.instance, database)
        self.world.digests.begin_from(foundation.instance)
        self.known, self.logged_bytes = [info, *self.known][:KEPT], 0
        self.taken_at = self.world.host.now()
        self.world.tidier.look()
        self.world.driver.handle(Founded(foundation))
        log.info("went on from another node's snapshot, of instance %d", foundation.instance)

    async def stop(self) -> None:
        """What is under way is given up; the next start removes what is left of it."""
        if self._timer is not None:
            self._timer.cancel()
        if (taking := self._taking) is not None:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)


def rest_s(spent_ms: float, is_busy: bool) -> float:
    """How many seconds a piece of an image leaves to others, that took so long to make."""
    return max(PAUSE_S, REST_TIMES * spent_ms / 1000) if is_busy else PAUSE_S


def load(reader: SnapshotReader) -> tuple[Foundation, Database]:
    """The state that a snapshot holds; it is closed. Raises `Rot`, `Unreadable` and `Malformed`."""
    loader = Loader()
    with closing(reader):
        for piece in reader.pieces():
            loader.feed(piece)
        return _fitting(decode_foundation(reader.meta), loader.finish(), reader.info)


def _fitting(foundation: Foundation, database: Database, info: SnapshotInfo) -> tuple[Foundation, Database]:
    if not foundation.instance == database.instance == info.instance:
        raise Unreadable("This snapshot's parts are of different instances")
    return foundation, database


def _write(writer: SnapshotWriter, pieces: list[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
