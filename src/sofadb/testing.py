"""A whole cluster inside a test: real nodes, in simulated time, that fail when you say so.

With this package installed, pytest has a fixture `sofadb_cluster`, which makes clusters:

    async def story(cluster):
        client = cluster.client("n1")                     # an ordinary redis.asyncio.Redis
        await client.set("job", "mine", px=600_000, nx=True)
        cluster.crash(cluster.leader)                     # kill -9
        assert await cluster.client("n2").get("job") == b"mine"
        await asyncio.sleep(600)                          # ten minutes, in no time
        assert await cluster.client("n2").get("job") is None

    def test_a_lock_outlives_its_leader(sofadb_cluster):
        sofadb_cluster(nodes=3, seed=1).run(story)

Where nothing happens but the nodes' heartbeats, time leaps to what the test does next: the nodes' monotonic clocks do not
notice, as if their machines had been suspended together, and their wall clocks, by which keys expire, do.

Everything runs in one process and one thread, on the event loop of the laboratory: the nodes are the production code, servers and
disks included, only time, network, disks and chance are simulated. The same seed gives the same run. Whatever the nodes do is
judged all the while by the laboratory's invariants, and a violation fails the test.

`Recorder` notes what a test's own clients asked and were told, so that it can be judged: `cluster.assert_linearizable()`.

What does not work in here is whatever waits for the world outside: threads, real sockets, real files.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from sofadb.paxos.settings import Settings
from sofadb.sim.checker import Verdict, check
from sofadb.sim.cluster import CLIENT_PORT, Cluster
from sofadb.sim.history import Operation
from sofadb.sim.host import EPOCH_MS
from sofadb.sim.invariants import states_are_equal
from sofadb.sim.loop import ProcessLoop

if TYPE_CHECKING:
    import redis.asyncio

T = TypeVar("T")

READY_S_MAX = 30.0
"""So long a cluster may take until somebody leads."""
QUIET_S = 1.0
"""Nothing must have been applied for so long before time leaps, and so long before what the test does next it goes on."""
STORY_S_MAX = 7 * 86_400.0
"""So much simulated time a story may take, unless it says otherwise."""


class SimulatedCluster:
    """Nodes `n1`, `n2`, ... in one deterministic process. Times are simulated seconds."""

    def __init__(self, nodes: int = 3, seed: int | str = 0, settings: Settings | None = None) -> None:
        """The nodes run, and somebody leads."""
        self._chance = random.Random(f"{seed}/testing")
        self._cluster = Cluster(str(seed), [f"n{number}" for number in range(1, nodes + 1)], settings)
        self._loop = ProcessLoop(self._cluster.simulation, "test", self._cluster.network)  # type: ignore[abstract]
        self._clients: list[Any] = []
        self._applied: list[int] = []
        self.history: list[Operation] = []
        """What was noted by `Recorder`s."""
        self._cluster.start_all()
        self.wait_until(lambda: self._all_follow() is not None, READY_S_MAX)

    def __enter__(self) -> SimulatedCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all clients and end all nodes."""
        if not self._cluster.simulation.is_closed:
            with suppress(TimeoutError):
                self._loop.run_until_complete(self._close_clients(), until=self.now + READY_S_MAX)
        self._cluster.close()

    async def _close_clients(self) -> None:
        for client in self._clients:
            with suppress(Exception):  # What it is connected to may be gone in any way.
                await client.aclose()

    # Looking

    @property
    def now(self) -> float:
        """Simulated seconds since the beginning."""
        return self._cluster.now

    @property
    def nodes(self) -> list[str]:
        """The names of all nodes."""
        return list(self._cluster.machines)

    @property
    def running(self) -> list[str]:
        """The names of the nodes that run."""
        return [name for name, machine in self._cluster.machines.items() if machine.is_up]

    @property
    def leader(self) -> str:
        """Who leads, under the highest ballot; an empty text if nobody does."""
        return self._cluster.leader or ""

    @property
    def clock_ms(self) -> int:
        """What a right clock shows: milliseconds since 1970."""
        return EPOCH_MS + int(self.now * 1000)

    def address(self, node: str) -> tuple[str, int]:
        """Where clients reach a node."""
        return self._cluster.machines[node].address, CLIENT_PORT

    def _all_follow(self) -> str | None:
        leader = self._cluster.leader
        if leader is None:
            return None
        for machine in self._cluster.machines.values():
            if machine.is_up and (machine.server is None or machine.running is None):
                return None
            if machine.is_up and machine.running is not None and machine.running.replica.leader != leader:
                return None
        return leader

    # Clients

    def client(self, node: str = "n1", **options: Any) -> redis.asyncio.Redis:
        """A client of redis-py, connected to `node`, that does not retry. `options` are those of `redis.asyncio.Redis`."""
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        host, port = self.address(node)
        options.setdefault("retry", Retry(NoBackoff(), 0))
        client = redis.asyncio.Redis(host=host, port=port, **options)
        self._clients.append(client)
        return client

    def recorder(self, node: str = "n1", number: int = 1) -> Recorder:
        """A client whose operations are noted in `history`. Each needs a number of its own."""
        return Recorder(self, self.client(node, decode_responses=True), number)

    # Running

    def run(
        self, story: Callable[[SimulatedCluster], Awaitable[T]] | Awaitable[T], within_s: float = STORY_S_MAX
    ) -> T:
        """Run a coroutine, or a function of this cluster that returns one, until it is done.

        Raises what it raises, `TimeoutError` if it takes longer, and the laboratory's violation if an invariant broke.
        """
        simulation = self._cluster.simulation
        end = self.now + within_s
        task = asyncio.ensure_future(story(self) if callable(story) else story, loop=self._loop)
        look_again_at = self.now
        while not task.done():
            if self.now >= look_again_at:
                self._maybe_leap()
                look_again_at = self.now + QUIET_S
            if not simulation.step(end):
                self._judge()
                raise TimeoutError(f"this is not done after {within_s} s")
        self._judge()
        return task.result()

    def _maybe_leap(self) -> None:
        """Let time pass at once, up to just before the test does something, if nothing happens until then."""
        simulation = self._cluster.simulation
        quiet_s = simulation.next_of(self._loop) - self.now - QUIET_S
        applied = [self._cluster.applied(name) for name in self.nodes]
        if 0 < quiet_s < float("inf") and applied == self._applied and self._is_quiet():
            while simulation.is_busy_now:
                simulation.step()
            quiet_s = simulation.next_of(self._loop) - self.now - QUIET_S
            if quiet_s > 0:
                simulation.leap(quiet_s, self._loop)
        self._applied = applied

    def _is_quiet(self) -> bool:
        """Whether all nodes that run follow one leader, and nobody waits for anything."""
        machines = [machine for machine in self._cluster.machines.values() if machine.is_up]
        return self._all_follow() is not None and not any(
            machine.is_paused
            or (
                machine.host is not None
                and machine.host.writer is not None
                and machine.host.writer.pending_bytes
            )
            or (machine.running is not None and machine.running.node.is_waited_for)
            for machine in machines
        )

    def wait_until(self, is_so: Callable[[], bool], within_s: float = READY_S_MAX) -> None:
        """Let time pass until something is so. Raises `TimeoutError`."""
        end = self.now + within_s
        while not is_so():
            if self.now >= end:
                raise TimeoutError(f"it is not so after {within_s} s")
            self._cluster.simulation.run(self.now + 0.01)
            self._judge()

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.run(asyncio.sleep(seconds))

    def at(self, time: float, do: Callable[..., object], *args: Any) -> None:
        """Have something done at a time, such as `cluster.at(3.5, cluster.crash, "n1")`."""
        self._loop.call_at(time, do, *args)

    def _judge(self) -> None:
        if self._cluster.watch.violation is not None:
            raise self._cluster.watch.violation

    # Faults

    def crash(self, node: str) -> None:
        """kill -9: the process is gone, what it wrote is in its machine's cache."""
        self._cluster.kill(node)

    def stop(self, node: str) -> None:
        """SIGTERM: a leader hands over, what was asked is answered, and then the node is no longer among those that run."""
        self._cluster.stop(node)

    def power_off(self, node: str) -> None:
        """The machine loses its power, and any part of what was not synced."""
        self._cluster.power_off(node, self._chance)

    def start(self, node: str) -> None:
        """Start a node that does not run, on what its disk has kept."""
        self._cluster.start(node)

    def pause(self, node: str, seconds: float | None = None) -> None:
        """SIGSTOP; with a number of seconds, until these are over."""
        self._cluster.pause(node)
        if seconds is not None:
            self.at(self.now + seconds, self.resume, node)

    def resume(self, node: str) -> None:
        """SIGCONT."""
        self._cluster.resume(node)

    def isolate(self, node: str) -> None:
        """Cut a node off from all other nodes. (Clients still reach it.)"""
        self._cluster.isolate(node)

    def cut(self, sender: str, receiver: str) -> None:
        """Nothing gets from one node to another any more. (The way back is another.)"""
        self._cluster.cut(sender, receiver)

    def heal(self) -> None:
        """All links are whole."""
        self._cluster.heal_all()

    def set_clock(self, node: str, offset_s: float) -> None:
        """A node's clock is so far from the right time, from now on."""
        self._cluster.set_clock(node, int(offset_s * 1000))

    def set_rate(self, node: str, rate: float) -> None:
        """A node's clocks, the one by which it waits too, run so much faster or slower, from now on."""
        self._cluster.set_rate(node, rate)

    # Judging

    def assert_nothing_was_lost(self, within_s: float = READY_S_MAX) -> None:
        """All nodes that run come to one state, with all that was ever acknowledged in it. Raises `TimeoutError` if not."""
        names = self.running
        ledger = self._cluster.watch.ledger
        self.wait_until(
            lambda: (
                all(self._cluster.applied(name) >= ledger.visible for name in names)
                and len({self._cluster.applied(name) for name in names}) == 1
            ),
            within_s,
        )
        for name in names:
            running = self._cluster.machines[name].running
            assert running is not None
            states_are_equal(ledger, name, running.node.applied, running.node.database.digest())
        self._judge()

    def assert_linearizable(self) -> Verdict:
        """What all recorders were told can have been told by one register per key, doing one thing at a time."""
        verdict = check(self.history)
        assert verdict, str(verdict)
        return verdict


class Recorder:
    """A client that notes what it asked and was told. What it was not told, because of an error, may have happened or not."""

    def __init__(self, cluster: SimulatedCluster, client: redis.asyncio.Redis, number: int) -> None:
        self.cluster = cluster
        self.client = client
        self.number = number

    async def _note(
        self,
        op: str,
        key: str,
        value: str | None,
        ask: Awaitable[Any],
        answer: Callable[[Any], Any] = lambda it: it,
    ) -> Any:
        from redis.exceptions import ResponseError

        start = self.cluster.now
        try:
            reply = await ask
        except Exception as problem:
            certainly_not = isinstance(problem, ResponseError) and str(problem).startswith("NOREPLICAS")
            if op != "get" and not certainly_not:
                self._add(op, key, value, start, None, None)
            raise
        self._add(op, key, value, start, self.cluster.now, answer(reply))
        return reply

    def _add(
        self, op: str, key: str, value: str | None, start: float, end: float | None, result: Any
    ) -> None:
        operation = Operation(self.number, op, key, value, None, start, end, result)  # type: ignore[arg-type]
        self.cluster.history.append(operation)

    async def get(self, key: str) -> str | None:
        """GET."""
        return await self._note("get", key, None, self.client.get(key))  # type: ignore[no-any-return]

    async def set(self, key: str, value: str) -> None:
        """SET."""
        await self._note("set", key, value, self.client.set(key, value), lambda reply: "OK")

    async def delete(self, key: str) -> int:
        """DEL."""
        return await self._note("del", key, None, self.client.delete(key))  # type: ignore[no-any-return]

    async def append(self, key: str, value: str) -> int:
        """APPEND; returns the new length in bytes."""
        return await self._note("append", key, value, self.client.append(key, value))  # type: ignore[no-any-return]

    async def incr(self, key: str) -> int:
        """INCR."""
        return await self._note("incr", key, None, self.client.incr(key))  # type: ignore[no-any-return]
