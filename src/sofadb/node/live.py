"""The world of a node: an event loop's connections and timers, a disk thread, clocks. And how a node is put together.

The monotonic clock is the one that goes on while the machine sleeps: a leader that wakes on a suspended machine sees that
its time has passed. A failure of stable storage ends the process at once, from whatever thread saw it: nothing that waits
for the disk can be acknowledged any more (rule P1). So does a broken invariant.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import Any

from sofadb.database.database import Database
from sofadb.database.lua.engine import engine
from sofadb.database.replies import ReplyError
from sofadb.paxos import (
    NO_BALLOT,
    Ballot,
    Configuration,
    Damaged,
    GiveUp,
    Instance,
    Message,
    NodeId,
    Note,
    Offer,
    Received,
    Record,
    Recovered,
    Replica,
    Settings,
    Started,
    Teach,
)
from sofadb.paxos.codec import Malformed, decode_record, encode
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Accept, Accepted, Forward, Learn
from sofadb.paxos.records import Acceptance, CutUpTo, Learned
from sofadb.storage.files import NoSpace, StorageError
from sofadb.storage.identity import Anew, Life, Newcomer, Opened, begin_anew, new_acceptor, plain_name
from sofadb.storage.journal import Damage, Journal
from sofadb.storage.segment import Record as JournalRecord
from sofadb.storage.snapshot import Snapshots
from sofadb.storage.writer import Writer
from sofadb.unlikely import possible, unlikely

from . import standing
from .archive import Place
from .archiving import Archiver
from .digests import EVERY, DigestBook
from .driver import Driver
from .explain import Fetching, Joining, explain, in_doubt, observe
from .facts import WILDCARDS, Facts, split_address
from .fetching import Fetcher
from .host import EXIT_INVARIANT, EXIT_STORAGE, Host
from .joining import NOWHERE, Found, NotFound, find_cluster
from .keeper import Keeper
from .node import Node
from .parcels import Digests, Full, Parcel
from .peers import Lost, Myself, Peers
from .snapshots import SnapshotSettings, Snapshotter
from .tidying import Tidier

log = logging.getLogger("sofadb.node")

UNSAVED_BYTES_MAX = 256 << 20
"""With more than this on its way to the disk, what would add to it is not taken in: peers will say it again."""
TEACH_BYTES_MAX = 4 << 20
"""How much is read back from disk for one message to a replica that is behind."""
DAMAGES_MAX = 20
"""So many places where the log is damaged are told of."""
ASK_EVERY_S = 1.0
COMPARE_EVERY_S = 1.0
LOOK_EVERY_S = 1.0
FULL_HOLDS_MS = 3_000.0
"""So long it counts that a node has said that it uses more memory than it may. It says so every second."""
EXPIRY_SHORT_MS = 500.0
"""So seldom time moves for what falls due while there is no room for the log: what is left of it lasts for many hours."""


class LiveWorld:
    """A `World` of one event loop, one disk and one network."""

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop, journal: Journal) -> None:
        self.host = host
        self.loop = loop
        self.journal = journal
        self.moment = host.moment
        """What the clocks say, and a fresh random number."""
        self.writer: Writer
        self.peers: Peers
        self.driver: Driver
        self.snapshots: Snapshotter
        self.fetcher: Fetcher
        self.digests: DigestBook
        self.tidier: Tidier
        self.saves: deque[float] = deque()
        """Since when each write waits that the disk was asked for and has not finished (monotonic milliseconds)."""
        self.full_at: dict[NodeId, float] = {}
        """Who has said, and when, that it uses more memory than it may (monotonic milliseconds)."""
        self.damages: list[Damage] = []
        """Where the log could not be read at the start."""
        self._timer: asyncio.TimerHandle | None = None

    def send(self, to: NodeId, message: Message) -> None:
        is_accept = type(message) is Accept
        if possible and is_accept and unlikely("smallest quorum") and not self._is_of_smallest_quorum(to):
            return
        self.peers.send(to, message)
        if possible and unlikely("message twice"):
            self.peers.send(to, message)

    def _is_of_smallest_quorum(self, to: NodeId) -> bool:
        """Whether `to` is among those few who, with us, are just enough."""
        others = sorted(self.peers.known)
        return to in others[: (len(others) + 1) // 2]

    def save(self, records: tuple[Record, ...], done: Callable[[], None]) -> None:
        self.saves.append(self.host.now())
        encoded = [for_journal(record) for record in records]
        self.snapshots.logged_bytes += self.writer.save(encoded, done)

    def wake_at(self, time: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, time - self.host.now()) / 1000 + self.host.timer_hair_s
        if unlikely("wake early"):
            delay *= self.host.chance.random()
        if unlikely("wake late"):
            delay += 0.05 * self.host.chance.random()
        self._timer = self.loop.call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.driver.tick()

    def teach(self, teach: Teach) -> None:
        values, size = [], 0
        for instance in range(teach.first, teach.last + 1):
            try:
                data = self.journal.read(instance)
            except StorageError as problem:
                self.host.die(EXIT_STORAGE, str(problem))
            record = decode_record(data) if data is not None else None
            assert isinstance(record, Acceptance | Learned), f"instance {instance} is chosen but not on disk"
            values.append(record.value)
            size += record.value.size
            if size >= TEACH_BYTES_MAX or unlikely("one value at a time"):
                break
        self.peers.send(teach.to, Learn(teach.first, tuple(values)))

    def offer(self, offer: Offer) -> None:
        self.fetcher.offer(offer)

    def give_up(self, give_up: GiveUp) -> None:
        self.writer.give_up(give_up.upto + 1)

    def stable(self, callbacks: list[Callable[[], None]]) -> None:
        """From the disk thread: all this is stable now. One hop to the event loop for a whole block."""
        if unlikely("stable one by one"):
            for callback in callbacks:
                self.loop.call_soon_threadsafe(self._saved, [callback])
        else:
            self.loop.call_soon_threadsafe(self._saved, callbacks)

    def _saved(self, callbacks: list[Callable[[], None]]) -> None:
        for callback in callbacks:
            self.saves.popleft()
            callback()


def _from_journal(opened: Opened, data: bytes, kind: type = object) -> Record:
    try:
        record = decode_record(data)
        if isinstance(record, kind):
            return record
        problem = f"it is no {kind.__name__}"
    except Malformed as malformed:
        problem = str(malformed)
    raise StorageError(
        f"{opened.directory}: a record of the journal cannot be understood: {problem}; was it written by another version?"
    )


def for_journal(record: Record) -> JournalRecord:
    """A record as the journal takes it."""
    if isinstance(record, Acceptance | Learned):
        return JournalRecord(record.instance, encode(record))
    # What is saved along with this must outlive the cut that it is saved for.
    return JournalRecord(0, encode(record), record.instance + 1 if isinstance(record, CutUpTo) else 0)


class _Proof:
    """A read that nobody asked for: if it is answered, a leader is confirmed, and we have what was chosen before."""

    size = 0

    def __init__(self, done: Callable[[bool], None]) -> None:
        self.done = done

    def encode(self) -> bytes:
        raise AssertionError("a read is not encoded")

    def execute(self, database: Database) -> None:
        self.done(True)

    def fail(self, error: ReplyError) -> None:
        self.done(False)


@dataclass(slots=True)
class RunningNode:
    """A node at work, and what is needed to stop it."""

    node: Node
    world: LiveWorld
    peers: Peers
    opened: Opened
    keeper: Keeper
    lost: asyncio.Future[Lost]
    """Done when the directory is found to have lost what it knew: it takes no part any more."""
    asking: asyncio.Task[None] | None = None
    """Asks to be let in."""
    archiver: Archiver | None = None
    refusal: str = ""
    """Why it was not, when it last asked."""
    started_at: float = field(default_factory=time.monotonic)
    is_full: Callable[[], bool] = lambda: False
    """Whether this node uses more memory than it may."""
    _expiry: asyncio.TimerHandle | None = None
    _comparing: asyncio.TimerHandle | None = None
    _disk_timer: asyncio.TimerHandle | None = None
    _was_short: bool = False
    _is_proving: bool = False

    @property
    def replica(self) -> Replica:
        return self.node.driver.replica

    def facts(self) -> Facts:
        """What this node knows of itself and its cluster."""
        replica, identity = self.replica, self.opened.identity
        leader = replica.leader or ""
        snapshots = self.world.snapshots
        newest = snapshots.newest
        configuration = replica.membership.latest
        members = standing.members(replica, self.node.database.shared.roster, self.peers)
        return Facts(
            node=identity.node,
            cluster=identity.cluster,
            starts=identity.starts,
            role=replica.phase.name,
            leader=plain_name(leader),
            leader_client_address=next(
                (each.client_address for each in members if each.node == plain_name(leader)), ""
            ),
            successor=plain_name(replica.phase.successor or "") if isinstance(replica.phase, Leading) else "",
            ballot=str(Ballot(replica.ballot.round, plain_name(replica.ballot.node))),
            chosen=replica.sequence.watermark,
            applied=self.node.applied,
            directory=str(self.opened.directory),
            process_id=os.getpid(),
            uptime_s=int(time.monotonic() - self.started_at),
            journal_bytes=self.world.journal.bytes,
            journal_syncs=self.world.journal.syncs,
            journal_held=self.world.journal.bytes_held,
            level=self.node.database.shared.roster.level,
            snapshot=0 if newest is None else newest.instance,
            snapshot_bytes=0 if newest is None else newest.size,
            snapshot_at=snapshots.finished_at,
            snapshot_is_taken=snapshots.is_taking,
            snapshot_problem=snapshots.problem,
            members=members,
            voters=tuple(sorted(set(map(plain_name, configuration.acceptors)))),
            quorum=configuration.quorum,
            is_changing=not replica.membership.is_settled(replica.sequence.watermark),
            archived=None if self.archiver is None else self.archiver.upto,
            archive_problem="" if self.archiver is None else self.archiver.trouble(),
            damage=self.damage,
            doubt=in_doubt(replica),
            shortage=self.shortage,
        )

    def explain(self) -> tuple[str, ...]:
        """What is waited for, as far as this node sees, in sentences."""
        saves, now = self.world.saves, self.world.host.now()
        replica, roster = self.replica, self.node.database.shared.roster
        waits = (len(saves), saves[0] if saves else now)
        called = partial(standing.called, roster)
        seen = observe(replica, self.peers, waits, now, called, self.damage, self.shortage)
        return explain(
            replace(
                seen,
                joining=self._joining(),
                fetching=self._fetching(),
                change=standing.change(replica, self.keeper.next_step()),
                wishes=tuple(standing.wishes(replica, roster)),
                snapshot_problem=self.world.snapshots.problem,
                archive_problem="" if self.archiver is None else self.archiver.trouble(),
            )
        )

    def _joining(self) -> Joining | None:
        if self.asking is None or self.asking.done() or self.replica.leader is not None:
            return None
        return Joining(tuple(self.opened.identity.contacts_of_others), self.refusal)

    def _fetching(self) -> Fetching | None:
        if (progress := self.world.fetcher.progress) is None:
            return None
        peer, offering, here = progress
        return Fetching(offering.title.instance, plain_name(peer), here, offering.size)

    def archive(self, place: Place, every_s: float) -> None:
        """Have what is chosen archived from now on, in a folder of that place."""
        identity = self.opened.identity
        folder = place.folder(identity.cluster)
        self.archiver = Archiver(self.world, self.node, identity.cluster_owner, folder, every_s)
        self.archiver.start()

    @property
    def damage(self) -> tuple[str, ...]:
        """Where the log is damaged, until that is made good."""
        return tuple(map(str, self.world.damages)) if self.replica.is_in_doubt else ()

    @property
    def shortage(self) -> str:
        """Why there is no room for more of the log."""
        shortage = self.world.journal.shortage
        return "" if shortage is None else str(shortage)

    def watch_disk(self) -> None:
        """Mind, from now on, what the disk lacks: room, or what was on it."""
        self._mind_shortage()
        doubt = self.replica.doubt
        if doubt.is_hopeless and not self._is_proving and not self.lost.done():
            self._is_proving = True
            self.node.read(_Proof(self._proven))
        self._disk_timer = self.world.loop.call_later(LOOK_EVERY_S, self.watch_disk)

    def _mind_shortage(self) -> None:
        shortage, phase = self.shortage, self.replica.phase
        if bool(shortage) != self._was_short:
            self._was_short = bool(shortage)
            if shortage:
                log.error("there is no room for the log: no writes are taken until there is. %s", shortage)
            else:
                log.info("there is room for the log again")
        if shortage and isinstance(phase, Leading) and phase.successor is None:
            self.node.hand_over(None, 1000 * LOOK_EVERY_S)

    def _proven(self, is_proven: bool) -> None:
        """The others have led us up to what was chosen by now, and we have confirmed nobody: they work without us."""
        self._is_proving = False
        leader = self.replica.leader
        if is_proven and leader is not None and not self.lost.done():
            problem = in_doubt(self.replica)
            self.lost.set_result(
                Lost(problem, leader, self.peers.members.get(leader, ""), self.opened.identity.cluster)
            )

    def watch_expiry(self) -> None:
        """Let time move when keys fall due."""
        wait_ms = self.node.expire_due()
        wait_ms = 50.0 if wait_ms is None else min(wait_ms, 50.0)
        if unlikely("expiry later"):
            wait_ms *= 5
        if self.world.journal.is_short_of_space:
            wait_ms = EXPIRY_SHORT_MS
        self._expiry = self.world.loop.call_later(max(wait_ms, 1.0) / 1000, self.watch_expiry)

    def compare_digests(self) -> None:
        """Tell the others what our state was, and take ourselves out if it is not what it should be (rule D2)."""
        digests = self.world.digests
        self._comparing = self.world.loop.call_later(COMPARE_EVERY_S, self.compare_digests)
        for node in self.replica.others():
            self.peers.send_parcel(node, digests.tell(self.node.applied))
            if self.is_full():
                self.peers.send_parcel(node, Full())
        instance = digests.diverged_at(self.replica.membership.latest)
        if instance is not None and not self.lost.done():
            self.peers.fall_silent()
            problem = (
                f"the state of this node after instance {instance} is not that of the others, a quorum of whom agree: "
                "it is not to be trusted, and neither is what made it so (the memory? the processor?)"
            )
            told_by = next(iter(self.peers.known.values()))
            address = f"{told_by.host}:{told_by.port}"
            self.lost.set_result(Lost(problem, told_by.node, address, self.opened.identity.cluster))

    def is_leader_full(self) -> bool:
        """Whether the leader has said of late that it uses more memory than it may."""
        said_at = self.world.full_at.get(self.replica.leader or "", float("-inf"))
        return self.world.host.now() - said_at < FULL_HOLDS_MS

    async def give_way(self, within_s: float) -> None:
        """If this node leads, have another one lead; return when it does, or when nothing came of it in time."""
        replica = self.replica
        another_leads = self.world.loop.create_future()

        def heard(leader: NodeId) -> None:
            if leader != replica.me and not another_leads.done():
                another_leads.set_result(None)

        self.node.on_leader.append(heard)
        self.node.hand_over(None, within_s * 1000)
        if isinstance(replica.phase, Leading) and replica.phase.successor is not None:
            with suppress(TimeoutError):  # Then this node goes on leading until it is gone.
                async with asyncio.timeout(within_s):
                    await another_leads
        self.node.on_leader.remove(heard)

    async def until_lost_or(self, told_to_stop: asyncio.Event) -> None:
        """Wait until the node is told to stop, or finds that its directory has lost what it knew."""
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(told_to_stop.wait()), self.lost]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)

    async def begin_anew(self) -> None:
        """Stop, since the directory has lost what it knew, and have its next life begin as a newcomer's."""
        lost = self.lost.result()
        log.error("%s", lost.problem)
        log.error("what is in %s is set aside; this node joins the cluster anew", self.opened.directory)
        await self._end()
        others = [each for node, each in self.peers.members.items() if node != self.peers.myself.acceptor]
        addresses = [lost.peer_address, *(each for each in others if each != lost.peer_address)]
        try:
            begin_anew(self.opened.files, Anew(lost.cluster, self.peers.myself.acceptor, addresses))
        except StorageError as problem:
            self.world.host.die(EXIT_STORAGE, str(problem))
        self.opened.close()

    async def stop(self) -> None:
        """Stop in good order: nothing new, everything accepted on disk, connections closed."""
        await self._end()
        self.opened.close()

    async def _end(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if self._disk_timer is not None:
            self._disk_timer.cancel()
        self.keeper.stop()
        self.world.tidier.stop()
        if self.archiver is not None:
            self.archiver.stop()
        if self._comparing is not None:
            self._comparing.cancel()
        if self.asking is not None:
            self.asking.cancel()
        await self.world.fetcher.stop()
        await self.world.snapshots.stop()
        await self.peers.stop()
        self.world.writer.close()


async def start_node(
    host: Host,
    node_id: NodeId,
    peer_listen: tuple[str, int],
    client_address: str,
    members: dict[NodeId, str] | None,
    settings: Settings | None = None,
    make_driver: Callable[[Replica, LiveWorld, Node], Driver] = Driver,
    snapshot_settings: SnapshotSettings | None = None,
    join: Sequence[str] = (),
) -> RunningNode:
    """Open the host's directory, read everything back, and take part.

    `join` are peer addresses (HOST:PORT) of members of the cluster that a new directory is to join; they matter for that only.

    Raises `StorageError` for a directory that is another node's, in use, damaged or full, and `OSError` if the peer
    port cannot be had.
    """
    asyncio.get_running_loop().set_exception_handler(partial(_on_unhandled, host))
    engine()  # It takes 60 ms to make; the first script would wait for it, and everybody with it.
    settings = settings or Settings()
    newcomer = None
    if (anew := host.told_to_begin_anew()) is not None:
        newcomer = await find_place_again(host, node_id, anew)
    elif join and host.is_new():
        newcomer = await find_place(host, node_id, join)
    opened = host.open_directory(node_id, members, ceil(settings.lease_ms), newcomer)
    try:
        return await _start_in(
            host,
            opened,
            peer_listen,
            client_address,
            settings,
            make_driver,
            snapshot_settings or SnapshotSettings(),
        )
    except BaseException:
        opened.close()
        raise


async def _start_in(
    host: Host,
    opened: Opened,
    peer_listen: tuple[str, int],
    client_address: str,
    settings: Settings,
    make_driver: Callable[[Replica, LiveWorld, Node], Driver],
    snapshot_settings: SnapshotSettings,
) -> RunningNode:
    identity = opened.identity

    def note() -> bytes:
        """From the disk thread, too."""
        return b"" if replica.doubt.is_hopeless else b"".join(encode(replica.acceptor.note()))

    journal = host.open_journal(opened, note)
    loop = asyncio.get_running_loop()
    world = LiveWorld(host, loop, journal)
    node = Node(loop.call_soon, loop.call_later, host.now, host.let_others_run, identity.members)
    configuration = Configuration(tuple(sorted(identity.members)))
    addresses = identity.contacts or identity.members
    own_address = advertised(peer_listen, addresses[identity.acceptor])
    replica = Replica(identity.acceptor, identity.starts, configuration, settings, opened.bound_ms)
    driver = make_driver(replica, world, node)
    node.driver = world.driver = driver

    began = time.monotonic()
    owner = identity.cluster_owner
    snapshots = Snapshotter(world, node, owner, Snapshots(opened.files, owner), snapshot_settings)
    world.snapshots = snapshots
    snapshots.restore()

    def on_damage(damage: Damage) -> None:
        if len(world.damages) < DAMAGES_MAX:
            log.error("%s. What was there is learned from the others", damage)
            world.damages.append(damage)
        driver.handle(Damaged(damage.is_noted))

    if journal.note:
        driver.handle(Recovered(_from_journal(opened, journal.note, Note)))
    for key, data in journal.recover(on_damage):
        record = _from_journal(opened, data)
        if key > replica.cut:
            snapshots.logged_bytes += len(data)
        driver.handle(Recovered(record))
    if journal.is_cut and not (replica.doubt.is_cut or world.damages):
        journal.close()
        raise StorageError(
            f"{opened.directory}: the beginning of the journal is missing, and it does not say that it was given up. "
            "Put the missing files back; or empty the directory, and this node joins anew"
        )
    log.info(
        "read back: everything up to instance %d, in %.1f s",
        replica.sequence.watermark,
        time.monotonic() - began,
    )

    if not journal.segments:
        journal.prepare()
    writer = world.writer = host.start_writer(
        journal, world.stable, lambda error: host.die(EXIT_STORAGE, str(error))
    )

    def has_confirmed(ballot: Ballot, instance: Instance) -> bool:
        if replica.doubt.is_hopeless:
            return True  # It does not know, and says nothing anyway.
        # What is in the log comes in order: who knows of a higher promise knows of all that was accepted before it. How far what
        # is damaged may have gone is known; who has confirmed more than that has an older copy, damaged or not.
        acceptor = replica.acceptor
        upto = max(acceptor.chosen, acceptor.accepted_upto, replica.doubt.upto)
        return acceptor.promised > ballot or (acceptor.promised == ballot and upto >= instance)

    def has_history() -> bool:
        # What a restored cluster began with has come to each of its directories without it.
        has_learned = replica.sequence.watermark > identity.began_at
        return replica.acceptor.promised > NO_BALLOT or has_learned or bool(world.damages)

    myself = Myself(
        identity.cluster,
        identity.acceptor,
        identity.life,
        own_address,
        client_address,
        identity.remembers,
        has_confirmed,
        has_history,
    )

    def received(sender: NodeId, message: Message) -> None:
        if type(message) is Accepted and message.instance <= replica.sequence.watermark:
            return  # It has been chosen without this vote.
        is_full = writer.pending_bytes > UNSAVED_BYTES_MAX or journal.shortage is not None
        is_full = is_full or (bool(possible) and unlikely("too much unsaved"))
        if not is_full or not isinstance(message, Accept | Learn | Forward):
            driver.handle(Received(sender, message))

    def keep(met: dict[NodeId, Life]) -> None:
        try:
            opened.remember(met)
        except NoSpace:
            raise
        except StorageError as problem:
            host.die(EXIT_STORAGE, str(problem))

    is_lost: asyncio.Future[Lost] = loop.create_future()
    peers = world.peers = Peers(
        myself,
        dict(addresses),
        received,
        opened.met,
        keep,
        lambda lost: None if is_lost.done() else is_lost.set_result(lost),
        host.chance.random,
        initial=identity.members,
    )
    fetcher = world.fetcher = Fetcher(snapshots, peers.send_parcel, peers.may_send_part)
    keeper = Keeper(world, node, peers)
    digests = world.digests = DigestBook(
        identity.acceptor, lambda instance: node.database.rolling_at(instance)
    )
    node.on_applied.append(lambda: None if node.applied % EVERY else digests.applied(node.applied))
    tidier = world.tidier = Tidier(node, loop.call_later)
    node.on_applied.append(tidier.look)

    def on_parcel(sender: NodeId, parcel: Parcel) -> None:
        if isinstance(parcel, Digests):
            digests.heard(sender, parcel)
        elif isinstance(parcel, Full):
            world.full_at[sender] = host.now()
        else:
            fetcher.on_parcel(sender, parcel)

    keeper.check_level()
    peers.on_parcel, peers.on_arrival = on_parcel, keeper.on_arrival
    peers.cleared = lambda: driver.handle(Started())
    is_cleared = peers.is_cleared
    await peers.start(*peer_listen)
    if is_cleared:
        driver.handle(Started())
    running = RunningNode(node, world, peers, opened, keeper, is_lost)
    node.is_short_of_space = lambda: journal.is_short_of_space
    running.watch_expiry()
    running.watch_disk()
    snapshots.watch()
    fetcher.start()
    keeper.watch()
    running.compare_digests()
    if identity.contacts:
        running.asking = loop.create_task(ask_to_be_let_in(running, identity.contacts_of_others))
    return running


def advertised(listen: tuple[str, int], known: str) -> str:
    """Where the other nodes reach us: where we listen, unless that is everywhere; then the host that we are known by."""
    host, port = listen
    if host in WILDCARDS:
        host = split_address(known)[0]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def find_place(host: Host, node_id: NodeId, join: Sequence[str], cluster: str = "") -> Newcomer:
    """Ask the cluster at these addresses for what a new directory has to know. Raises `NotFound`.

    `cluster` is the id that it must have; empty: any.
    """
    acceptor = new_acceptor(node_id, host.chance.getrandbits(32))
    found = await _find_any(join, Myself(cluster, acceptor, Life(0, ""), NOWHERE, NOWHERE))
    return Newcomer(found.cluster, acceptor, found.initial, {**found.members, acceptor: NOWHERE})


async def find_place_again(host: Host, node_id: NodeId, anew: Anew) -> Newcomer:
    """As `find_place`, for a node that has lost its directory: however long it takes until a member is there."""
    problem = ""
    while True:
        try:
            return await find_place(host, node_id, anew.addresses, anew.cluster)
        except NotFound as refusal:
            if str(refusal) != problem:
                problem = str(refusal)
                log.warning("this node begins anew, and waits for the others: %s", problem)
        await asyncio.sleep(ASK_EVERY_S)


async def _find_any(addresses: Sequence[str], myself: Myself) -> Found:
    problems = []
    for address in addresses:
        try:
            return await find_cluster(address, myself)
        except NotFound as problem:
            problems.append(str(problem))
    raise NotFound("; ".join(problems))


async def ask_to_be_let_in(running: RunningNode, addresses: Sequence[str]) -> None:
    """Say to the members that we are here, again and again, until somebody leads us.

    To those of whom we have been told last, too: whoever leads may be a member only since we asked the way.
    """
    myself = running.peers.myself
    told: Sequence[str] = ()
    while running.replica.leader is None:
        for address in dict.fromkeys((*addresses, *told)):
            if address == myself.peer_address:
                continue
            try:
                told = tuple((await find_cluster(address, myself)).members.values())
            except NotFound as refusal:
                if str(refusal) != running.refusal:
                    running.refusal = str(refusal)
                    log.warning("not let in yet: %s", running.refusal)
        await asyncio.sleep(ASK_EVERY_S)


def _on_unhandled(host: Host, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Whatever nobody handled is a broken belief: better no node than a wrong one."""
    error = context.get("exception")
    if isinstance(error, OSError) and "handle" not in context:
        # Of a socket, such as: no descriptor for another. What a callback of ours raises is another matter.
        log.warning("%s: %s", context.get("message"), error)
        return
    log.critical("%s", context.get("message"), exc_info=error)
    host.die(EXIT_INVARIANT, "a broken invariant; this node stops")
