"""What commands cost, counted and not timed: calls, messages, bytes, records and syncs of a simulated cluster under load."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, cast

import hiredis

from sofadb.sim.cluster import CLIENT_PORT, Cluster
from sofadb.sim.loop import ProcessLoop

NAMES = ("n1", "n2", "n3")
WARM_S = 2.0
SEGMENT_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked: each connection asks so much at once, and goes on when all of that is answered."""

    connections: int
    in_flight: int
    command: tuple[bytes, ...]


@dataclass(slots=True)
class Costs:
    """What happened while so many commands were answered."""

    commands: int = 0
    calls: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in NAMES})
    """For each node, calls of functions by the product's own code, Python's and C's, by the name of what was called."""
    batches: int = 0
    messages: int = 0
    bytes_sent: int = 0
    records: int = 0
    bytes_logged: int = 0
    syncs: int = 0


class _Client(asyncio.Protocol):
    """One connection of a client who asks the same again and again."""

    def __init__(self, request: bytes, in_flight: int, answered: Callable[[int], bool]) -> None:
        self.request = request * in_flight
        self.in_flight = in_flight
        self.answered = answered
        self.open = 0
        self.reader = hiredis.Reader()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self.open = self.in_flight
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            assert not isinstance(reply, Exception), reply
            self.open -= 1
        if not self.open and self.answered(self.in_flight):
            self._ask()


def _called_by_ours(calls: dict[str, Counter[str]]) -> Callable[[FrameType, str, Any], None]:
    """A profiler that counts what code of ours calls, on the loops of nodes."""

    def is_ours(frame: FrameType) -> bool:
        name = frame.f_globals.get("__name__", "")
        return name.startswith("sofadb.") and not name.startswith("sofadb.sim.")

    def profile(frame: FrameType, event: str, what: Any) -> None:
        if event == "call" and is_ours(frame):
            called = f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"
        elif event == "c_call" and is_ours(frame):
            called = what.__qualname__
        else:
            return
        counts = calls.get(getattr(asyncio._get_running_loop(), "name", ""))
        if counts is not None:
            counts[called] += 1

    return profile


def count(load: Load, commands: int) -> tuple[str, Costs]:
    """Have so many commands answered, some thousands of milliseconds after the start. Returns the leader, and what it took."""
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

        request = b"*%d\r\n" % len(load.command) + b"".join(
            b"$%d\r\n%b\r\n" % (len(word), word) for word in load.command
        )
        address = cluster.machines[leader].address

        async def connect() -> None:
            for _ in range(load.connections):
                await client.create_connection(
                    lambda: _Client(request, load.in_flight, answered), address, CLIENT_PORT
                )

        journals = [
            machine.running.world.journal
            for machine in cluster.machines.values()
            if machine.running is not None
        ]
        before = (
            cluster.applied(leader),
            sum(each.bytes for each in journals),
            sum(each.syncs for each in journals),
        )
        client.create_task(connect())
        sys.setprofile(_called_by_ours(costs.calls))
        try:
            while costs.commands < commands:
                cluster.run(cluster.now + 0.01)
        finally:
            sys.setprofile(None)
        costs.batches = cluster.applied(leader) - before[0]
        costs.bytes_logged = sum(each.bytes for each in journals) - before[1]
        costs.syncs = sum(each.syncs for each in journals) - before[2]
        assert cluster.leader == leader
        return leader, costs
    finally:
        cluster.close()


if __name__ == "__main__":
    SET, GET = (b"SET", b"k" * 16, b"v" * 256), (b"GET", b"k" * 16)
    connections, in_flight, kind, commands = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    leader, costs = count(Load(connections, in_flight, SET if kind == "set" else GET), commands)
    each = max(1, costs.batches) if kind == "set" else costs.commands
    print(costs.commands, "commands", costs.batches, "batches", costs.bytes_logged, costs.syncs)
    for node in (leader, next(name for name in NAMES if name != leader)):
        print("leader" if node == leader else "follower", sum(costs.calls[node].values()) / each)
        for called, times in costs.calls[node].most_common(int(sys.argv[5]) if len(sys.argv) > 5 else 0):
            print(f"   {times / each:8.2f} {called}")
