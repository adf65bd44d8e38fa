"""The real world: uvloop's connections, the disk thread, the clocks. And how a node is put together and taken apart.

The monotonic clock is the one that goes on while the machine sleeps: a leader that wakes on a suspended machine sees that
its time has passed. A failure of stable storage ends the process at once, from whatever thread saw it: nothing that waits
for the disk can be acknowledged any more (rule P1). So does a broken invariant.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from sofadb.paxos import (
    Configuration,
    Message,
    Moment,
    NodeId,
    Received,
    Record,
    Recovered,
    Replica,
    Settings,
    Started,
    Teach,
    Tick,
)
from sofadb.paxos.codec import decode_record, encode
from sofadb.paxos.messages import Accept, Forward, Learn
from sofadb.paxos.records import Acceptance, Learned
from sofadb.storage.files import DiskFiles, StorageError
from sofadb.storage.identity import Life, Opened, open_directory
from sofadb.storage.journal import Journal
from sofadb.storage.segment import Record as JournalRecord
from sofadb.storage.writer import Writer

from .driver import Driver
from .facts import Facts, Member
from .node import Node
from .peers import Myself, Peers

log = logging.getLogger("sofadb.node")

EXIT_STORAGE = 74
"""Stable storage failed (the number that sysexits.h gives to input/output errors)."""
EXIT_INVARIANT = 70
"""Something that cannot be is (sysexits.h: internal software error)."""

UNSAVED_BYTES_MAX = 256 << 20
"""With more than this on its way to the disk, what would add to it is not taken in: peers will say it again."""
TEACH_BYTES_MAX = 4 << 20
"""How much is read back from disk for one message to a replica that is behind."""


def die(code: int, text: str) -> NoReturn:
    """End this process now, whatever else it was doing; the text goes to the log."""
    log.critical("%s", text)
    for handler in logging.getLogger("sofadb").handlers:
        handler.flush()
    os._exit(code)


class LiveWorld:
    """A `World` of one event loop, one disk and one network."""

    def __init__(self, loop: asyncio.AbstractEventLoop, journal: Journal) -> None:
        self.loop = loop
        self.journal = journal
        self.writer: Writer
        self.peers: Peers
        self.driver: Driver
        self._timer: asyncio.TimerHandle | None = None
        self._random = random.Random()

    def moment(self) -> Moment:
        return Moment(
            time.clock_gettime(time.CLOCK_BOOTTIME) * 1000, int(time.time() * 1000), self._random.random()
        )

    def send(self, to: NodeId, message: Message) -> None:
        self.peers.send(to, message)

    def save(self, records: tuple[Record, ...], done: Callable[[], None]) -> None:
        self.writer.save([_for_journal(record) for record in records], done)

    def wake_at(self, time: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, time - self.moment().now) / 1000
        self._timer = self.loop.call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.driver.handle(Tick())

    def teach(self, teach: Teach) -> None:
        values, size = [], 0
        for instance in range(teach.first, teach.last + 1):
            try:
                data = self.journal.read(instance)
            except StorageError as problem:
                die(EXIT_STORAGE, str(problem))
            record = decode_record(data) if data is not None else None
            assert isinstance(record, Acceptance | Learned), f"instance {instance} is chosen but not on disk"
            values.append(record.value)
            size += record.value.size
            if size >= TEACH_BYTES_MAX:
                break
        self.peers.send(teach.to, Learn(teach.first, tuple(values)))

    def stable(self, callbacks: list[Callable[[], None]]) -> None:
        """From the disk thread: all this is stable now. One hop to the event loop for a whole block."""
        self.loop.call_soon_threadsafe(_run_all, callbacks)


def _run_all(callbacks: list[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()


def _for_journal(record: Record) -> JournalRecord:
    key = record.instance if isinstance(record, Acceptance | Learned) else 0
    return JournalRecord(key, encode(record))


@dataclass(slots=True)
class RunningNode:
    """A node at work, and what is needed to stop it."""

    node: Node
    world: LiveWorld
    peers: Peers
    opened: Opened
    started_at: float = field(default_factory=time.monotonic)
    _expiry: asyncio.TimerHandle | None = None

    @property
    def replica(self) -> Replica:
        return self.node.driver.replica

    def facts(self) -> Facts:
        """What this node knows of itself and its cluster."""
        replica, identity = self.replica, self.opened.identity
        leader = replica.leader or ""
        members = []
        for node, address in identity.members.items():
            peer = self.peers.known.get(node)
            client_address = self.peers.myself.client_address if peer is None else peer.client_address
            problem = "" if peer is None else peer.problem
            members.append(Member(node, address, client_address, not problem, problem))
        return Facts(
            node=identity.node,
            cluster=identity.cluster,
            starts=identity.starts,
            role=replica.phase.name,
            leader=leader,
            leader_client_address=next((each.client_address for each in members if each.node == leader), ""),
            ballot=str(replica.ballot),
            chosen=replica.sequence.watermark,
            applied=self.node.applied,
            directory=str(self.opened.directory),
            process_id=os.getpid(),
            uptime_s=int(time.monotonic() - self.started_at),
            journal_bytes=self.world.journal.bytes,
            journal_syncs=self.world.journal.syncs,
            members=tuple(members),
        )

    def watch_expiry(self) -> None:
        """Let time move when keys fall due."""
        wait_ms = self.node.expire_due()
        wait_ms = 50.0 if wait_ms is None else min(wait_ms, 50.0)
        self._expiry = self.world.loop.call_later(max(wait_ms, 1.0) / 1000, self.watch_expiry)

    async def stop(self) -> None:
        """Stop in good order: nothing new, everything accepted on disk, connections closed."""
        if self._expiry is not None:
            self._expiry.cancel()
        await self.peers.stop()
        self.world.writer.close()
        self.opened.close()


async def start_node(
    directory: Path,
    node_id: NodeId,
    peer_listen: tuple[str, int],
    client_address: str,
    members: dict[NodeId, str] | None,
    settings: Settings | None = None,
) -> RunningNode:
    """Open the directory, read everything back, and take part.

    Raises `StorageError` for a directory that is another node's, in use, damaged or full, and `OSError` if the peer
    port cannot be had.
    """
    asyncio.get_running_loop().set_exception_handler(_on_unhandled)
    opened = open_directory(directory, node_id, members)
    try:
        return await _start_in(opened, peer_listen, client_address, settings or Settings())
    except BaseException:
        opened.close()
        raise


async def _start_in(
    opened: Opened, peer_listen: tuple[str, int], client_address: str, settings: Settings
) -> RunningNode:
    identity = opened.identity
    journal = Journal.open(DiskFiles(opened.directory), owner=identity.owner)
    if journal.is_cut:
        raise StorageError(
            f"{opened.directory}: the beginning of the journal is missing, and there is no snapshot of it"
        )
    loop = asyncio.get_running_loop()
    world = LiveWorld(loop, journal)
    node = Node(loop.call_soon)
    configuration = Configuration(tuple(sorted(identity.members)))
    replica = Replica(identity.node, identity.starts, configuration, settings)
    driver = Driver(replica, world, node)
    node.driver = world.driver = driver

    began = time.monotonic()
    for _, data in journal.recover():
        driver.handle(Recovered(decode_record(data)))
    log.info(
        "read back: everything up to instance %d, in %.1f s",
        replica.sequence.watermark,
        time.monotonic() - began,
    )

    if not journal.segments:
        journal.prepare()
    writer = world.writer = Writer(journal, world.stable, lambda error: die(EXIT_STORAGE, str(error)))
    myself = Myself(identity.cluster, identity.node, identity.life, client_address, identity.remembers)

    def received(sender: NodeId, message: Message) -> None:
        if writer.pending_bytes <= UNSAVED_BYTES_MAX or not isinstance(message, Accept | Learn | Forward):
            driver.handle(Received(sender, message))

    def keep(met: dict[NodeId, Life]) -> None:
        try:
            opened.remember(met)
        except StorageError as problem:
            die(EXIT_STORAGE, str(problem))

    def lost(problem: str) -> None:
        die(EXIT_STORAGE, f"{opened.directory}: {problem}")

    peers = world.peers = Peers(myself, dict(identity.members), received, opened.met, keep, lost)
    await peers.start(*peer_listen)
    running = RunningNode(node, world, peers, opened)
    driver.handle(Started())
    running.watch_expiry()
    return running


def _on_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Whatever nobody handled is a broken belief: better no node than a wrong one."""
    error = context.get("exception")
    if isinstance(error, OSError) and "handle" not in context:
        # Of a socket, such as: no descriptor for another. What a callback of ours raises is another matter.
        log.warning("%s: %s", context.get("message"), error)
        return
    log.critical("%s", context.get("message"), exc_info=error)
    die(EXIT_INVARIANT, "a broken invariant; this node stops")
