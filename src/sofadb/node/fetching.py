"""Snapshots on their way between nodes: the two sides of a transfer (`transfer`), with files, threads and peers around them.

What arrives is written and verified in a thread, one parcel after the other. A snapshot that is there whole is
gone on from (`Snapshotter.install`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from sofadb.database.loader import Unreadable
from sofadb.paxos import NodeId, Offer
from sofadb.paxos.codec import Malformed
from sofadb.storage.files import StorageError
from sofadb.storage.segment import Rot
from sofadb.storage.snapshot import ReceivedSnapshot, SnapshotInfo

from .frames import Buffer
from .host import EXIT_STORAGE
from .parcels import Fetch, Gone, Offering, Parcel, Part, Title
from .transfer import Receiver, Sender

if TYPE_CHECKING:
    from .snapshots import Snapshotter

log = logging.getLogger("sofadb.transfer")

PARCELS_MAX = 64
"""So many parcels wait to be taken in; what comes beyond is lost, and asked for again."""
TICK_S, TICK_S_MIN = 0.25, 0.001
"""If nothing comes, the clock is looked at again after so long: at the latest, and at the earliest."""


class _File:
    """A file that arrives (`transfer.Receiving`)."""

    def __init__(self, received: ReceivedSnapshot) -> None:
        self.received = received
        self.info: SnapshotInfo | None = None
        """Once it is there, whole."""

    @property
    def offset(self) -> int:
        return self.received.offset

    def write(self, offset: int, part: Buffer, /) -> None:
        self.received.write(offset, part)

    def finish(self) -> None:
        if not self.received.is_whole:
            self.received.abort()
            raise Rot(
                self.received.name, self.received.offset, "it is not what was written on the other node"
            )
        self.info = self.received.finish()

    def close(self) -> None:
        self.received.close()


class Fetcher:
    """One node's part in transfers."""

    def __init__(
        self,
        snapshots: Snapshotter,
        send: Callable[[NodeId, Parcel], bool],
        may_send_part: Callable[[NodeId], bool],
    ) -> None:
        self.snapshots = snapshots
        self.world = snapshots.world
        self._send_parcel = send
        self._file: _File | None = None
        self._parcels: asyncio.Queue[tuple[NodeId, Parcel]] = asyncio.Queue(PARCELS_MAX)
        self._done: list[int] = []
        self._serving: dict[NodeId, asyncio.Task[None]] = {}
        """Whose fetch is being answered: one at a time for each, since nobody needs more."""
        self._receiver = Receiver(self._wants, self._open, self._send_from_thread, self._done.append)
        self._sender = Sender(self._read_part, self._send_parcel, may_send_part)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take parcels in."""
        self._task = self.world.loop.create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Keep what has arrived for later."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def progress(self) -> tuple[NodeId, Offering, int] | None:
        """The snapshot that is under way to us: from whom, what, and how many bytes of it are here."""
        return self._receiver.progress

    def offer(self, offer: Offer) -> None:
        """Tell another node of our newest snapshot."""
        newest = self.snapshots.newest
        if newest is not None:
            title = Title(newest.instance, newest.salt)
            self._send_parcel(offer.to, Offering(title, newest.size))

    def on_parcel(self, sender: NodeId, parcel: Parcel) -> None:
        """A node has something to say about snapshots."""
        if isinstance(parcel, Fetch):
            if sender not in self._serving:  # Who hears nothing asks again.
                serving = self._serving[sender] = self.world.loop.create_task(self._serve(sender, parcel))
                serving.add_done_callback(lambda task: self._has_served(sender, task))
        elif not self._parcels.full():
            self._parcels.put_nowait((sender, parcel))

    def _has_served(self, sender: NodeId, task: asyncio.Task[None]) -> None:
        del self._serving[sender]
        self._ended(task)

    async def _serve(self, sender: NodeId, fetch: Fetch) -> None:
        self.snapshots.fetched_at = self.world.host.now()
        title = fetch.title
        if fetch.offset == 0:
            # It was whole when it was written. Whoever begins to fetch it shall not find out at the end that it is not any more.
            await self.snapshots.verify(title.instance, title.salt)
        await asyncio.to_thread(self._read_ahead, fetch)
        self._sender.on_fetch(sender, fetch)

    def _read_ahead(self, fetch: Fetch) -> None:
        """Have the pages in the kernel's cache, so that reading them does not hold the event loop."""
        self._read_part(fetch.title, fetch.offset, fetch.size)

    def _read_part(self, title: Title, offset: int, size: int) -> bytes | None:
        return self.snapshots.read_part(title.instance, title.salt, offset, size)

    # The side that receives

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._until_due()):
                    sender, parcel = await self._parcels.get()
            except TimeoutError:  # Nothing came: look at the clock.
                await asyncio.to_thread(self._receiver.on_tick, self.world.host.now())
            else:
                await asyncio.to_thread(self._take, sender, parcel, self.world.host.now())
            while self._done:
                self._done.pop()
                await self._install()

    def _until_due(self) -> float:
        """For so many seconds there is nothing to do, unless something comes."""
        wake_at = self._receiver.wake_at
        wait_s = TICK_S if wake_at is None else (wake_at - self.world.host.now()) / 1000
        return min(TICK_S, max(TICK_S_MIN, wait_s))

    def _take(self, sender: NodeId, parcel: Parcel, now: float) -> None:
        receiver = self._receiver
        if isinstance(parcel, Part):
            receiver.on_part(sender, parcel, now)
        elif isinstance(parcel, Offering):
            receiver.on_offering(sender, parcel, now)
        elif isinstance(parcel, Gone):
            receiver.on_gone(sender, parcel, now)
        receiver.on_tick(now)

    def _send_from_thread(self, to: NodeId, parcel: Parcel) -> None:
        self.world.loop.call_soon_threadsafe(self._send_parcel, to, parcel)

    def _wants(self, instance: int) -> bool:
        return instance > self.snapshots.node.applied

    def _open(self, offering: Offering) -> _File:
        store = self.snapshots.store
        title = offering.title
        received = ReceivedSnapshot(store.files, store.owner, title.instance, offering.size, title.salt)
        self._file = _File(received)
        return self._file

    async def _install(self) -> None:
        file, self._file = self._file, None
        assert file is not None
        assert file.info is not None
        try:
            await self.snapshots.install(file.info)
        except (Rot, Unreadable, Malformed) as problem:
            aside = await asyncio.to_thread(self.snapshots.store.quarantine, file.info.name)
            log.error("a snapshot from another node is of no use and was put aside as %s: %s", aside, problem)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (mistake := task.exception()) is None:
            return
        if isinstance(mistake, StorageError):
            self.world.host.die(EXIT_STORAGE, str(mistake))
        context = {"message": "a transfer ended by a mistake", "exception": mistake, "handle": None}
        self.world.loop.call_exception_handler(context)
