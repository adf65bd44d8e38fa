"""What commands cost, counted and not timed: calls, messages, bytes, records and syncs of a simulated cluster under load.

The same load gives the same numbers each time. Calls differ a little from one version of Python to another.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

import hiredis
import pytest

from sofadb.node.frames import Buffer
from sofadb.node.peers import Link
from sofadb.sim.cluster import CLIENT_PORT, Cluster
from sofadb.sim.loop import ProcessLoop
from sofadb.storage.segment import Record
from sofadb.storage.writer import Callback, Writer

NAMES = ("n1", "n2", "n3")
WARM_S = 2.0
"""By then the cluster has found its leader, and everybody is connected."""
SEGMENT_BYTES = 8 << 20
"""So large that none comes to its end."""
STEP_S = 0.01


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked: each connection asks so much at once, and goes on when all of that is answered."""

    connections: int
    in_flight: int
    command: tuple[bytes, ...]


@dataclass(slots=True)
class Costs:
    """What so many commands took. Of all three nodes together, where nothing else is said."""

    commands: int = 0
    leader_calls: int = 0
    """Of functions, Python's and C's, by code of ours, on the node that leads (and that is asked) ..."""
    follower_calls: int = 0
    """... and on the two others together."""
    messages: int = 0
    """Between nodes."""
    bytes_sent: int = 0
    records: int = 0
    bytes_logged: int = 0
    syncs: int = 0

    def for_a_thousand(self, what: str) -> int:
        """So much of it in every thousand commands."""
        return int(1000 * getattr(self, what) / self.commands)


class _Client(asyncio.Protocol):
    """One connection of a client who asks the same again and again."""

    def __init__(self, load: Load, answered: Callable[[int], bool]) -> None:
        self.load = load
        self.request = hiredis.pack_command(load.command) * load.in_flight
        self.answered = answered
        self.open = 0
        self.reader = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self.open = self.load.in_flight
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            assert not isinstance(reply, Exception), reply
            self.open -= 1
        if not self.open and self.answered(self.load.in_flight):
            self._ask()


def _counting_calls(costs: Costs, leader: str) -> Callable[[FrameType, str, Any], None]:
    """A profiler that counts what is called by code of ours, where it runs for a node."""

    def profile(frame: FrameType, event: str, what: Any) -> None:
        name = frame.f_globals.get("__name__", "")
        is_call = event in ("call", "c_call")
        if is_call and name.startswith("sofadb.") and not name.startswith("sofadb.sim."):
            node = getattr(asyncio._get_running_loop(), "name", "")
            costs.leader_calls += node == leader
            costs.follower_calls += node != leader and node in NAMES

    return profile


def _count_saves_and_messages(costs: Costs, patch: pytest.MonkeyPatch) -> None:
    send, save = Link.send, Writer.save

    def counted_send(link: Link, buffers: list[Buffer]) -> bool:
        costs.messages += 1
        costs.bytes_sent += sum(map(len, buffers))
        return send(link, buffers)

    def counted_save(writer: Writer, records: Sequence[Record], done: Callback) -> int:
        costs.records += len(records)
        return save(writer, records, done)

    patch.setattr(Link, "send", counted_send)
    patch.setattr(Writer, "save", counted_save)


def count(load: Load, commands: int, patch: pytest.MonkeyPatch) -> Costs:
    """Have about so many commands answered by a cluster of three, through its leader."""
    cluster = Cluster("costs", NAMES, segment_bytes=SEGMENT_BYTES)
    costs = Costs()
    try:
        cluster.start_all()
        cluster.run(WARM_S)
        leader = cluster.leader
        assert leader is not None
        client = ProcessLoop(cluster.simulation, "client", cluster.network)  # type: ignore[abstract]

        def answered(count: int) -> bool:
            costs.commands += count
            return costs.commands < commands

        async def connect() -> None:
            for _ in range(load.connections):
                address = cluster.machines[leader].address
                await client.create_connection(lambda: _Client(load, answered), address, CLIENT_PORT)

        runs = [machine.running for machine in cluster.machines.values()]
        journals = [running.world.journal for running in runs if running is not None]
        bytes_before, syncs_before = sum(j.bytes for j in journals), sum(j.syncs for j in journals)
        _count_saves_and_messages(costs, patch)
        client.create_task(connect())
        sys.setprofile(_counting_calls(costs, leader))
        try:
            while costs.commands < commands:
                cluster.run(cluster.now + STEP_S)
        finally:
            sys.setprofile(None)
        costs.bytes_logged = sum(j.bytes for j in journals) - bytes_before
        costs.syncs = sum(j.syncs for j in journals) - syncs_before
        assert cluster.leader == leader
        return costs
    finally:
        cluster.close()
