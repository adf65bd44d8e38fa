"""What the scenarios need to play what went wrong elsewhere: whole nodes, and somebody who breaks things on purpose.

A `Stage` is a cluster of the laboratory, judged all the while, on which a test says what happens: who is cut off, whose
disk stops when, which message is lost or late. A `Talk` is one connection of a client that never sends anything again: it
says what it was told, and nothing if it was told nothing.

Time passes only while a test waits for something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, cast

import hiredis

from sofadb.node.host import EXIT_INVARIANT, EXIT_STORAGE
from sofadb.node.node import Node
from sofadb.node.parcels import is_parcel
from sofadb.paxos import Message, Settings
from sofadb.paxos.codec import decode_message
from sofadb.sim.cluster import CLIENT_PORT, PEER_PORT, SEGMENT_BYTES, Cluster, Machine
from sofadb.sim.disk import SimulatedDisk
from sofadb.sim.invariants import states_are_equal
from sofadb.sim.loop import ProcessLoop
from sofadb.sim.network import Connection
from sofadb.storage.segment import SEGMENT_HEADER_BYTES, SegmentHeader, read_block

FRAME_HEADER_BYTES = 12
GREETING_UNITS = 2
"""The first so many units of a peer's connection are no messages."""
WITHIN_S = 30.0
"""So long everything that is waited for may take, unless a test says otherwise."""

LATENCY_S = (0.0001, 0.001)
"""So long a message takes, unless a test says otherwise."""

Command = tuple[str | bytes | int, ...]
Fate = list[float] | None
"""What becomes of a message: None, it takes its way; else its copies, each so many seconds late. Without any it is lost."""


class Lost(Exception):
    """The connection is gone, and with it the answer."""


class Talk(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.replies: list[Any] = []
        """What it was told, in order: text, numbers, None, lists; errors as `hiredis.ReplyError`."""
        self.told_at: list[float] = []
        """When each of these came."""
        self.asked = 0
        self.is_lost = False
        self.is_told_the_end = False
        """Whether the node has ended its half of the connection, in good order."""
        self.keeps_its_half = False
        """Whether it does not end its own half thereupon."""
        self._reader = hiredis.Reader(encoding="utf-8", errors="surrogateescape")
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self.replies.append(reply)
            self.told_at.append(self.stage.now)

    def eof_received(self) -> bool:
        self.is_told_the_end = True
        return self.keeps_its_half

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True

    @property
    def is_answered(self) -> bool:
        """Whether it was told everything it asked."""
        return len(self.replies) == self.asked

    def say(self, *commands: Command) -> None:
        """Ask, in one go, and wait for nothing."""
        self.asked += len(commands)
        if not self.is_lost:
            assert self._transport is not None
            self._transport.write(b"".join(hiredis.pack_command(command) for command in commands))  # type: ignore[arg-type]

    def leave(self) -> None:
        """Go away, and hear nothing any more."""
        assert self._transport is not None
        self._transport.close()

    def hear(self, within_s: float = WITHIN_S) -> Any:
        """Wait until everything is answered; return the last reply. Raises `Lost`."""
        self.stage.until(lambda: self.is_answered or self.is_lost, within_s)
        if not self.is_answered:
            raise Lost
        return self.replies[-1]

    def ask(self, *words: str | bytes | int, within_s: float = WITHIN_S) -> Any:
        """Ask one thing and wait for the answer. Raises `Lost`."""
        self.say(words)
        return self.hear(within_s)


class Stage:
    """Nodes `n1`, `n2`, ... that run, one of which leads."""

    def __init__(
        self,
        nodes: int = 3,
        seed: int | str = 1,
        settings: Settings | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        disks: dict[str, SimulatedDisk] | None = None,
        away: tuple[str, ...] = (),
        latency_s: tuple[float, float] = LATENCY_S,
    ) -> None:
        """`disks` are those of nodes that have lived before; who is `away` is not started."""
        names = [f"n{number}" for number in range(1, nodes + 1)]
        self.cluster = Cluster(str(seed), names, settings, segment_bytes, latency_s=latency_s)
        self.cluster.network.mischief = self._on_unit
        self.tampering: list[Callable[[str, str, Message], Fate]] = []
        """Asked, for each message between nodes, with sender and receiver; the first that decides, decides."""
        self._loop = ProcessLoop(self.cluster.simulation, "teller", self.cluster.network)
        for name, disk in (disks or {}).items():
            self.cluster.replace_disk(name, disk)
        for name in self.others(*away):
            self.cluster.start(name)
        self.until_settled()

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.judge()
        finally:
            self.cluster.close()

    # Looking

    @property
    def now(self) -> float:
        return self.cluster.now

    @property
    def names(self) -> list[str]:
        return list(self.cluster.machines)

    @property
    def leader(self) -> str:
        """Who leads under the highest ballot; an empty text if nobody does."""
        return self.cluster.leader or ""

    @property
    def highest_round(self) -> int:
        """Of all ballots that anybody has promised."""
        return max(self.node(name).driver.replica.acceptor.promised.round for name in self.running)

    @property
    def running(self) -> list[str]:
        """Who takes part now."""
        return [
            name for name, each in self.cluster.machines.items() if each.is_up and each.running is not None
        ]

    def machine(self, name: str) -> Machine:
        return self.cluster.machines[name]

    def others(self, *names: str) -> list[str]:
        """All nodes but these."""
        return [name for name in self.names if name not in names]

    def node(self, name: str) -> Node:
        running = self.machine(name).running
        assert running is not None, f"{name} does not take part"
        return running.node

    def disk(self, name: str) -> SimulatedDisk:
        return self.machine(name).disk

    def is_settled(self) -> bool:
        """Whether all that run take clients and follow one leader."""
        leader = self.leader
        return bool(leader) and all(
            each.server is not None and each.running is not None and each.running.replica.leader == leader
            for each in self.cluster.machines.values()
            if each.is_up
        )

    def have_met(self, *names: str) -> bool:
        """Whether these run, and each knows the others' present lives."""
        lives = {name: self.machine(name).running for name in names}
        return all(
            running is not None
            and self.machine(name).is_up
            and all(
                (other := lives[peer]) is not None
                and running.peers.known[peer].life == other.opened.identity.life
                for peer in names
                if peer != name
            )
            for name, running in lives.items()
        )

    def judge(self) -> None:
        """Raise what the watch has found; and no node may have ended of a broken belief."""
        if self.cluster.watch.violation is not None:
            raise self.cluster.watch.violation
        broken = [(name, end.text) for _, name, end in self.cluster.ends if end.code == EXIT_INVARIANT]
        assert not broken, broken

    # Waiting

    def until(self, is_so: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        """Let things happen, one after the other, until something is so. Raises `TimeoutError`."""
        simulation, end = self.cluster.simulation, self.now + within_s
        while not is_so():
            if not simulation.step(end):
                raise TimeoutError(f"it is not so after {within_s} s")
            self.judge()

    def pass_time(self, seconds: float) -> None:
        """Let things happen for so long."""
        self.cluster.run(self.now + seconds)
        self.judge()

    def until_settled(self) -> None:
        self.until(self.is_settled)

    # Clients

    def connect(self, node: str) -> Talk:
        """Connect a client. Raises `OSError` if nobody listens there, `TimeoutError` if nobody can be reached."""
        work = self._loop.create_connection(lambda: Talk(self), self.machine(node).address, CLIENT_PORT)
        _, talk = self._loop.run_until_complete(work, until=self.now + WITHIN_S)
        self.judge()
        return cast(Talk, talk)

    def ask(self, node: str, *words: str | bytes | int, within_s: float = WITHIN_S) -> Any:
        """Ask one thing on a connection of its own. Raises `Lost`."""
        return self.connect(node).ask(*words, within_s=within_s)

    def insist(self, node: str, *words: str | bytes | int, within_s: float = WITHIN_S) -> Any:
        """Ask until the answer is no refusal, as long as that is harmless to repeat."""
        end = self.now + within_s
        while True:
            with suppress(OSError, Lost):
                reply = self.ask(node, *words)
                if not isinstance(reply, hiredis.ReplyError):
                    return reply
            assert self.now < end, f"{node} still refuses after {within_s} s"
            self.pass_time(0.01)

    # Messages between nodes

    def _on_unit(
        self, connection: Connection, to_server: bool, number: int, data: bytes
    ) -> list[tuple[float, bytes]] | None:
        if connection.port != PEER_PORT or not to_server or number < GREETING_UNITS or not self.tampering:
            return None
        contents = data[FRAME_HEADER_BYTES:]
        if is_parcel(contents):
            return None
        message = decode_message(contents)
        for tamper in self.tampering:
            fate = tamper(connection.client, connection.server, message)
            if fate is not None:
                return [(delay_s, data) for delay_s in fate]
        return None

    def lose(
        self, kinds: type | tuple[type, ...], sender: str = "", receiver: str = ""
    ) -> Callable[[str, str, Message], Fate]:
        """From now on messages of these kinds are lost, of any sender and to any receiver, unless said. `allow` undoes it."""

        def tamper(of: str, to: str, message: Message) -> Fate:
            lost = isinstance(message, kinds) and sender in ("", of) and receiver in ("", to)
            return [] if lost else None

        self.tampering.append(tamper)
        return tamper

    def allow(self, tamper: Callable[[str, str, Message], Fate]) -> None:
        """No longer tamper with messages in that way."""
        self.tampering.remove(tamper)

    def cut_between(self, names: list[str], others: list[str]) -> None:
        """Nothing passes between these and those, either way."""
        for one in names:
            for other in others:
                self.cluster.cut(one, other)
                self.cluster.cut(other, one)

    def leave_only(self, *pairs: tuple[str, str]) -> None:
        """All links are cut but those between these pairs, which work both ways."""
        whole = {*pairs, *((b, a) for a, b in pairs)}
        for one in self.names:
            for other in self.names:
                if one != other:
                    (self.cluster.heal if (one, other) in whole else self.cluster.cut)(one, other)

    # Processes and disks

    def kill(self, name: str) -> None:
        """kill -9."""
        self.cluster.kill(name)

    def start(self, name: str) -> None:
        """Start a node that does not run, and wait until it takes part."""
        self.cluster.start(name)
        self.until(lambda: self.machine(name).server is not None)

    def start_forgetful(self, name: str, disk: SimulatedDisk) -> None:
        """Start a node on a disk that lacks what it promised. The watch minds who listens to it."""
        self.cluster.lose_past(name, disk)
        self.cluster.start(name)

    def acceptor(self, name: str) -> str:
        """Which acceptor a node is now; an empty text while it takes no part."""
        running = self.machine(name).running
        return running.replica.me if running is not None and self.machine(name).is_up else ""

    def until_begun_anew(self, name: str) -> None:
        """Wait until a node has set its directory aside and wants to join as another acceptor."""
        self.until(lambda: self.acceptor(name).startswith(f"{name}~"))
        assert any(each.endswith(".lost") for each in self.disk(name).names())

    def until_it_votes(self, name: str) -> None:
        """Wait until what a node is now, and nothing that it was before, is among those who vote."""

        def votes() -> bool:
            leader, me = self.leader, self.acceptor(name)
            if not leader or not me:
                return False
            membership = self.node(leader).driver.replica.membership
            selves = [each for each in membership.latest.acceptors if each.partition("~")[0] == name]
            return selves == [me] and membership.is_settled(self.node(leader).applied)

        self.until(votes)

    def crash_at(self, name: str, operation: int) -> None:
        """The machine stops in that operation of its disk, counted from now (1 is the next)."""
        machine = self.machine(name)
        loop = machine.loop
        assert loop is not None

        def crash() -> None:
            self.cluster.network.power_cut(loop)
            self.cluster.watch.ended(name)

        machine.disk.on_crash = crash
        machine.disk.crash_at = machine.disk.operations + operation

    def lose_power(self, name: str, keep: Callable[[int], bool] = lambda number: False) -> None:
        """The machine loses its power, or has lost it; of what was not synced it keeps the pieces chosen by number."""
        machine = self.machine(name)
        if machine.is_up:
            assert machine.loop is not None
            self.cluster.network.power_cut(machine.loop)
            self.cluster.watch.ended(name)
        machine.disk = machine.disk.survive(keep)
        machine.disk.log = None

    def expect_storage_end(self, name: str, within_s: float = WITHIN_S) -> str:
        """Wait until the node has ended because of its disk; return its last words."""
        machine = self.machine(name)
        self.until(lambda: machine.end is not None, within_s)
        assert machine.end is not None
        assert machine.end.code == EXIT_STORAGE, machine.end
        assert not machine.is_up
        return machine.end.text

    # At the end

    def assert_one_state(self) -> None:
        """All that run come to one state, with everything in it that anybody was told of."""
        self.until_settled()
        names, ledger = self.running, self.cluster.watch.ledger
        self.until(
            lambda: (
                all(self.node(name).applied >= ledger.visible for name in names)
                and len({self.node(name).applied for name in names}) == 1
            )
        )
        for name in names:
            states_are_equal(ledger, name, self.node(name).applied, self.node(name).database.digest())


def unsynced(disk: SimulatedDisk) -> int:
    """How many pieces of what is on its way to a disk would be kept or lost with the power."""
    numbers: list[int] = []
    disk.survive(lambda number: numbers.append(number) or False)  # type: ignore[func-returns-value]
    return len(numbers)


def blocks(disk: SimulatedDisk) -> Iterator[tuple[str, int, int]]:
    """The blocks of a node's journal, in order: file, where each begins and where it ends."""
    for name in disk.names():
        if name.startswith("journal-"):
            data = memoryview(bytes(disk.latest[name].latest))
            header = SegmentHeader.decode(data)
            assert isinstance(header, SegmentHeader)
            begin = SEGMENT_HEADER_BYTES
            while (block := read_block(data[: header.end_max], header, begin)) is not None:
                yield name, begin, block.end
                begin = block.end


def is_error(reply: Any, word: str = "") -> bool:
    """Whether this is an error, of that name."""
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith(word)
