"""What one node that is dead, paused, or has a disk that hangs costs the clients of the others.

    PYTHONPATH=tests python benchmarks/faults.py [--seconds 5] [--connections 50] [--bytes 256] [--page docs/faults.md]

Three nodes and the load share this machine. Clients talk to the two nodes that are not struck, before and after. Two loads:
as fast as replies come (each connection asks again when it is answered), and at half the slowest of these rates, whether or
not replies come; there a request's time counts from the moment at which it was due. What is demanded two seconds after the
strike: at least 70 % of the throughput, a 99th percentile at most three times as long, and not one error.

And how soon a node that was away is in step again while the load goes on as fast as replies come, with values of several sizes.

A fresh cluster for each line. Prints two tables, and exits with 1 if a line misses a demand.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import hiredis
import uvloop

from processes import Cluster

WARM_UP_S = 1.5
SETTLE_S = 2.0
"""So long after the strike the demands hold."""
THROUGHPUT_MIN = 0.7
P99_MAX = 3.0
AWAY_S = 5.0
RETURN_BYTES = (256, 4_096, 16_384)
"""Of a value, while somebody returns."""
IN_STEP_S_MAX = 30.0
"""So long after its return a node may lack something."""
STUCK_S = 60.0
"""Longer than anything here lasts."""
TICK_S = 0.005
UNANSWERED_MAX = 200
"""Of one connection; more is not asked, and such a load is not carried."""


@dataclass(slots=True)
class Figures:
    """What was answered in one span."""

    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile_ms(self, part: float) -> float:
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else math.inf


class Connection(asyncio.Protocol):
    """Sends the same request, and notes how long each reply takes."""

    def __init__(self, load: Load, request: bytes) -> None:
        self.load, self.request = load, request
        self.reader = hiredis.Reader()
        self.asked: deque[float] = deque()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, due: float) -> None:
        assert self.transport is not None
        if len(self.asked) < UNANSWERED_MAX:
            self.asked.append(due)
            self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            now = time.monotonic()
            self.load.figures.latencies.append(now - self.asked.popleft())
            self.load.figures.errors += isinstance(reply, hiredis.ReplyError)
            if self.load.rate is None and not self.load.is_over:
                self.ask(now)

    def connection_lost(self, error: Exception | None) -> None:
        self.load.figures.errors += not self.load.is_over


class Load:
    """Some connections, and what is asked on them."""

    def __init__(self, rate: float | None) -> None:
        """Requests a second, of all connections together; as fast as replies come if None."""
        self.rate = rate
        self.figures = Figures()
        self.connections: list[Connection] = []
        self.is_over = False
        self.pacing: asyncio.Task[None] | None = None

    async def start(self, ports: Sequence[int], count: int, size: int) -> None:
        loop = asyncio.get_running_loop()
        for number in range(count):
            key = b"key:%04d" % number
            request = b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, size, b"x" * size)

            def make(request: bytes = request) -> Connection:
                return Connection(self, request)

            _, connection = await loop.create_connection(make, "127.0.0.1", ports[number % len(ports)])
            self.connections.append(connection)
        if self.rate is None:
            for connection in self.connections:
                connection.ask(time.monotonic())
        else:
            self.pacing = loop.create_task(self._pace(self.rate))

    async def _pace(self, rate: float) -> None:
        begin, sent = time.monotonic(), 0
        while True:
            while (due := begin + sent / rate) <= time.monotonic():
                self.connections[sent % len(self.connections)].ask(due)
                sent += 1
            await asyncio.sleep(TICK_S)

    async def measure(self, seconds: float) -> Figures:
        """What is answered from now on for so long. Who is not answered then has waited until then."""
        begin = time.monotonic()
        self.figures = figures = Figures()
        await asyncio.sleep(seconds)
        now = time.monotonic()
        self.figures = Figures()
        figures.seconds = now - begin
        late = [now - asked for each in self.connections for asked in each.asked if now - asked > seconds / 2]
        figures.latencies += late
        return figures

    def stop(self) -> None:
        self.is_over = True
        if self.pacing is not None:
            self.pacing.cancel()
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.abort()


@contextlib.contextmanager
def killed(cluster: Cluster, name: str) -> Iterator[None]:
    cluster.kill(name)
    yield


@contextlib.contextmanager
def paused(cluster: Cluster, name: str) -> Iterator[None]:
    cluster.signal(name, signal.SIGSTOP)
    yield
    cluster.signal(name, signal.SIGCONT)


def stuck(cluster: Cluster, name: str) -> AbstractContextManager[None]:
    return cluster.slow_disk(name, STUCK_S)


Strike = Callable[[Cluster, str], AbstractContextManager[None]]
STRIKES: dict[str, Strike] = {"killed": killed, "paused": paused, "with a stuck disk": stuck}
HEAD = ["who", "load", "healthy: requests/s", "p99 (ms)", "after: requests/s", "p99 (ms)", "longest (ms)"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    who: str
    load: str
    healthy: Figures
    meanwhile: Figures
    """From the strike on."""
    after: Figures

    def problem(self) -> str:
        """Which demand was missed; empty if none."""
        if self.after.rate < THROUGHPUT_MIN * self.healthy.rate:
            return f"{self.after.rate / self.healthy.rate:.0%} of the throughput"
        if self.after.percentile_ms(0.99) > P99_MAX * self.healthy.percentile_ms(0.99):
            return (
                f"p99 {self.after.percentile_ms(0.99) / self.healthy.percentile_ms(0.99):.1f} times as long"
            )
        errors = self.healthy.errors + self.meanwhile.errors + self.after.errors
        return f"{errors} errors" if errors else ""

    def __str__(self) -> str:
        cells = [self.who, self.load]
        for each in (self.healthy, self.after):
            cells += [f"{each.rate:,.0f}", f"{each.percentile_ms(0.99):.1f}"]
        return row([*cells, f"{self.meanwhile.percentile_ms(1):.0f}"])


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


RETURN_HEAD = [
    "who",
    "bytes of a value",
    "healthy: requests/s",
    "batches missed",
    "meanwhile: requests/s",
    "in step after (s)",
]


@dataclass(frozen=True, slots=True)
class Return:
    """One line of the table of those who return."""

    how: str
    size: int
    healthy: Figures
    missed: int
    """So many instances were chosen while it was away."""
    meanwhile: Figures
    """Until it is in step."""

    def problem(self) -> str:
        """Which demand was missed; empty if none."""
        if self.meanwhile.seconds > IN_STEP_S_MAX:
            return f"not in step after {IN_STEP_S_MAX:.0f} s"
        errors = self.healthy.errors + self.meanwhile.errors
        return f"{errors} errors" if errors else ""

    def __str__(self) -> str:
        cells = [f"a follower {self.how} for {AWAY_S:.0f} s", f"{self.size:,}", f"{self.healthy.rate:,.0f}"]
        return row(
            [*cells, f"{self.missed:,}", f"{self.meanwhile.rate:,.0f}", f"{self.meanwhile.seconds:.1f}"]
        )


@contextlib.contextmanager
def fresh() -> Iterator[Cluster]:
    """Three nodes that run."""
    with tempfile.TemporaryDirectory(prefix="sofadb-faults-") as directory:
        cluster = Cluster(Path(directory))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.clear_away()


async def measure_return(how: str, size: int, options: argparse.Namespace) -> Return:
    """A fresh cluster under load; a follower is away, comes back, and learns what it missed while more is chosen."""
    with fresh() as cluster:
        load = Load(None)

        def applied(name: str) -> int:
            return int((cluster.facts(name) or {"applied": 0})["applied"])

        def until_in_step(victim: str, leader: str) -> None:
            deadline = time.monotonic() + IN_STEP_S_MAX
            while time.monotonic() < deadline:
                goal = applied(leader)
                if applied(victim) >= goal > 0:
                    return
                time.sleep(TICK_S)

        try:
            leader = await asyncio.to_thread(cluster.leader)
            victim = next(name for name in cluster.names if name != leader)
            ports = [cluster.ports[name] for name in cluster.names if name != victim]
            await load.start(ports, options.connections, size)
            await asyncio.sleep(WARM_UP_S)
            healthy = await load.measure(options.seconds)
            before = await asyncio.to_thread(applied, leader)
            with STRIKES[how](cluster, victim):
                await asyncio.sleep(AWAY_S)
                missed = await asyncio.to_thread(applied, leader) - before
            if how == "killed":
                await asyncio.to_thread(cluster.start, victim)
            begin = time.monotonic()
            load.figures = meanwhile = Figures()
            await asyncio.to_thread(until_in_step, victim, leader)
            meanwhile.seconds = time.monotonic() - begin
        finally:
            load.stop()
    return Return(how, size, healthy, missed, meanwhile)


async def measure(strike: str, at_leader: bool, rate: float | None, options: argparse.Namespace) -> Line:
    """A fresh cluster, healthy and then struck."""
    with fresh() as cluster:
        load = Load(rate)
        try:
            leader = await asyncio.to_thread(cluster.leader)
            others = [name for name in cluster.names if name != leader]
            victim = leader if at_leader else others.pop()
            ports = [cluster.ports[name] for name in cluster.names if name != victim]
            await load.start(ports, options.connections, options.bytes)
            await asyncio.sleep(WARM_UP_S)
            healthy = await load.measure(options.seconds)
            struck = STRIKES[strike](cluster, victim)
            waiting = asyncio.create_task(load.measure(SETTLE_S))
            await asyncio.to_thread(struck.__enter__)
            meanwhile = await waiting
            after = await load.measure(options.seconds)
            await asyncio.to_thread(struck.__exit__, None, None, None)
        finally:
            load.stop()
    who = f"{'the leader' if at_leader else 'a follower'} {strike}"
    return Line(who, "full" if rate is None else "half", healthy, meanwhile, after)


def table(head: Sequence[str], left: int, lines: Sequence[Line | Return]) -> str:
    """Of its columns the first `left` hold words."""
    return "\n".join([row(head), row(["---"] * left + ["---:"] * (len(head) - left)), *map(str, lines)])


def page(lines: Sequence[Line], returns: Sequence[Return], options: argparse.Namespace) -> str:
    """The documentation's page."""
    return f"""# What a fault costs the clients of the other nodes

Written by `make bench-faults`: three nodes and the load on one machine, SET of {options.bytes} bytes on
{options.connections} connections to the two nodes that are not struck.

- *Full*: each connection asks again when it is answered. *Half*: half that rate, whether or not replies come.
- *After*: from {SETTLE_S:.0f} s after the strike on, for {options.seconds:.0f} s.
- *Longest*: what a request waited between the strike and then.

{table(HEAD, 2, lines)}

Demanded: at least {THROUGHPUT_MIN:.0%} of the throughput, a p99 at most {P99_MAX:.0f} times as long, no error at all.

## Coming back

A follower is away for {AWAY_S:.0f} s and comes back under the full load. Until it is in step it learns what it missed, and
does not vote.

{table(RETURN_HEAD, 1, returns)}

Demanded: in step within {IN_STEP_S_MAX:.0f} s, no error at all.
"""


def tell(line: Line | Return) -> None:
    """One more is measured."""
    problem = line.problem()
    print(line, f" missed: {problem}" if problem else "", sep="", flush=True)


async def run(options: argparse.Namespace) -> int:
    """All lines; how many missed a demand."""
    lines: list[Line] = []
    returns: list[Return] = []
    full = 0.0
    print(table(HEAD, 2, []), flush=True)
    for is_full in (True, False):
        for at_leader in (False, True):
            for strike in STRIKES:
                lines.append(await measure(strike, at_leader, None if is_full else full / 2, options))
                tell(lines[-1])
        full = min(line.healthy.rate for line in lines)
    print(table(RETURN_HEAD, 1, []), flush=True)
    for how in ("paused", "killed"):
        for size in RETURN_BYTES:
            returns.append(await measure_return(how, size, options))
            tell(returns[-1])
    if options.page is not None:
        options.page.write_text(page(lines, returns, options))
    return sum(bool(each.problem()) for each in (*lines, *returns))


def main() -> int:
    """Measure, print, and say by the exit code whether all demands were met."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--bytes", type=int, default=256)
    parser.add_argument("--page", type=Path)
    return 1 if uvloop.run(run(parser.parse_args())) else 0


if __name__ == "__main__":
    sys.exit(main())
