"""The archiver: on the node that leads, what was chosen goes into the archive, a stretch at a time.

It keeps no queue. What is applied is read back from this node's own log when its turn has come; so an archive that is slow, or
away, costs the node nothing, and when it is back the archiver goes on where the archive ends. It finds that out by listing it,
after every change of leader and after every failure. Only if the log was cut meanwhile, there is a gap, and the archived
snapshot behind it closes it: no point within the gap can be gone back to. That is told.

An archive begins with a snapshot, and gets each later one that the node takes while it leads.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from sofadb.paxos.codec import decode_record
from sofadb.paxos.leading import Leading
from sofadb.paxos.records import Acceptance, Learned
from sofadb.paxos.values import Value
from sofadb.storage.files import StorageError
from sofadb.storage.snapshot import SnapshotInfo

from .archive import (
    READ_BYTES,
    STRETCH_BYTES,
    Place,
    Unavailable,
    encode_stretch,
    snapshots,
    stretch_name,
    stretches,
)

if TYPE_CHECKING:
    from .live import LiveWorld
    from .node import Node

log = logging.getLogger("sofadb.archive")

SILENT_S = 60.0
"""When something takes longer than this it is told."""

InThread = Callable[..., Awaitable[Any]]


async def in_daemon_thread(call: Callable[..., Any], *args: Any) -> Any:
    """Call in a thread that nothing waits for when the process ends: a place may be silent for ever."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def tell(set_: Callable[[Any], None], outcome: Any) -> None:
        if not done.done():
            set_(outcome)

    def run() -> None:
        try:
            outcome, set_ = call(*args), done.set_result
        except BaseException as problem:  # noqa: BLE001 (It is for who waits.)
            outcome, set_ = problem, done.set_exception
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, set_, outcome)

    threading.Thread(target=run, name="archive", daemon=True).start()
    return await done


class Archiver:
    """One node's."""

    def __init__(
        self,
        world: LiveWorld,
        node: Node,
        owner: int,
        place: Place,
        every_s: float,
        in_thread: InThread = in_daemon_thread,
    ) -> None:
        """`place` is the cluster's folder, `owner` its number."""
        self.world = world
        self.node = node
        self.owner = owner
        self.place = place
        self.every_s = every_s
        self.upto = 0
        """Everything up to here is archived, as far as this node knows (instance); 0 if it does not lead."""
        self.problem = ""
        """Why the archive falls behind; empty if it does not."""
        self._busy_since: float | None = None
        """Since when something is under way (milliseconds of `Host.now`)."""
        self._snapshot = 0
        """The newest in the archive (instance)."""
        self._is_listed = False
        self._in_thread = in_thread
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Archive from now on."""
        self._task = self.world.loop.create_task(self._run())

    def stop(self) -> None:
        """Archive no more. What is under way in a thread is left to itself."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.every_s)
            await self.look()

    async def look(self) -> None:
        """Archive what there is, if this node leads."""
        if not isinstance(self.world.driver.replica.phase, Leading):
            self.upto, self.problem, self._is_listed = 0, "", False
            return
        self._busy_since = self.world.host.now()
        try:
            await self._archive()
            if self.problem:
                log.warning("the archive is up to date again, up to instance %d", self.upto)
            self.problem = ""
        except Unavailable as problem:
            self._is_listed = False
            if str(problem) != self.problem:
                log.warning("the archive falls behind: %s", problem)
            self.problem = str(problem)
        finally:
            self._busy_since = None

    def trouble(self) -> str:
        """Why the archive falls behind, if it does."""
        busy_s = 0.0 if self._busy_since is None else (self.world.host.now() - self._busy_since) / 1000
        return self.problem or (f"it has not answered for {busy_s:.0f} s" if busy_s > SILENT_S else "")

    async def _archive(self) -> None:
        if not self._is_listed:
            names = await self._in_thread(self.place.names)
            self._snapshot = max((instance for instance, _ in snapshots(names)), default=0)
            last = max((last for _, last, _ in stretches(names)), default=0)
            self.upto = last or self._snapshot
            self._is_listed = True
        newest = self.world.snapshots.newest
        if newest is None:
            self.world.snapshots.want()
            return
        if newest.instance > self._snapshot:
            await self._in_thread(self.place.write, newest.name, self._bytes_of(newest))
            self._snapshot = newest.instance
            self.upto = self.upto or newest.instance
        upto = self.node.applied
        await self._until_stable()
        while self.upto < upto:
            # Below the cut what the log has may have been accepted and never chosen: a snapshot has jumped over it.
            is_cut = self.upto < self.world.driver.replica.cut
            values = [] if is_cut else await self._in_thread(self._values, self.upto + 1, upto)
            if values:
                first, last = self.upto + 1, self.upto + len(values)
                await self._in_thread(
                    self.place.write, stretch_name(first, last), encode_stretch(self.owner, first, values)
                )
                self.upto = last
            elif self.upto < self._snapshot:
                log.warning(
                    "instances %d to %d cannot be archived: they are not in the log any more",
                    self.upto + 1,
                    self._snapshot,
                )
                self.upto = self._snapshot
            else:
                raise Unavailable(
                    f"this node's log has no instance {self.upto + 1}: a snapshot has to follow"
                )

    async def _until_stable(self) -> None:
        """Wait until the disk has what is applied: only then the latest record of each instance is what was chosen."""
        stable = self.world.loop.create_future()
        self.world.save((), lambda: None if stable.done() else stable.set_result(None))
        await stable

    def _bytes_of(self, info: SnapshotInfo) -> Iterator[bytes]:
        """In a thread: a snapshot's bytes. Raises `Unavailable` if it is given up meanwhile."""
        for offset in range(0, info.size, READ_BYTES):
            part = self.world.snapshots.read_part(info.instance, info.salt, offset, READ_BYTES)
            if part is None or len(part) != min(READ_BYTES, info.size - offset):
                raise Unavailable(f"{info.name} was given up before it was archived; a newer one follows")
            yield part

    def _values(self, first: int, last: int) -> list[Value]:
        """In a thread: what was chosen from `first` on, as much as one stretch may have; nothing if the first is not there."""
        values: list[Value] = []
        size = 0
        for instance in range(first, last + 1):
            try:
                data = self.world.journal.read(instance)
            except StorageError as problem:
                log.warning("instance %d cannot be read to be archived: %s", instance, problem)
                break
            if data is None:
                break
            size += len(data)
            if values and size > STRETCH_BYTES:
                break
            record = decode_record(data)
            assert isinstance(record, Acceptance | Learned), f"instance {instance} is chosen but not on disk"
            values.append(record.value)
        return values
