"""What the examples that need a database share: three nodes on this machine, one of which is killed while they work.

An example says what it does and what it promises; this starts the nodes, kills the leader in the middle (kill -9), starts
it again, and notes how long nothing got on. With `--url` an example uses a database that is there already, and nobody dies.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

READY_S_MAX = 60.0
"""So long nodes may take until they follow a leader."""
DEAD_S = 1.0
"""So long a killed node stays dead after another one leads."""
STOP_S_MAX = 15.0
LOOK_EVERY_S = 0.01


class ThreeNodes:
    """`sofadb serve`, three times, with their data in a directory that goes away in the end."""

    def __init__(self) -> None:
        ports = free_ports(6)
        self.ports = dict(zip(("n1", "n2", "n3"), ports, strict=False))
        self._peers = dict(zip(self.ports, ports[3:], strict=True))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> ThreeNodes:
        self._directory = tempfile.TemporaryDirectory(prefix="sofadb-")
        try:
            for name in self.ports:
                self.start(name)
            self.leader()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._directory.cleanup()

    def start(self, name: str) -> None:
        """Start a node on what its disk has kept."""
        command = [sys.executable, "-m", "sofadb", "serve", "--id", name]
        command += ["--dir", f"{self._directory.name}/{name}", "--listen", f"127.0.0.1:{self.ports[name]}"]
        command += ["--peer-listen", f"127.0.0.1:{self._peers[name]}"]
        command += ["--cluster", ",".join(f"{node}=127.0.0.1:{port}" for node, port in self._peers.items())]
        with Path(self._directory.name, f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def kill(self, name: str) -> None:
        """kill -9."""
        self._processes[name].kill()
        self._processes.pop(name).wait()

    def leader(self) -> str:
        """Wait until all nodes that run follow the same leader."""
        end = time.monotonic() + READY_S_MAX
        while time.monotonic() < end:
            named = {self._leader_as_seen_by(name) for name in self._processes}
            if len(named) == 1 and named <= self._processes.keys():
                return named.pop()
            time.sleep(0.02)
        raise TimeoutError(f"the nodes agree on no leader after {READY_S_MAX:.0f} s")

    def _leader_as_seen_by(self, name: str) -> str:
        try:
            with redis.Redis(port=self.ports[name], socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
                return str(json.loads(client.execute_command("SOFA.INFO"))["leader"])
        except redis.RedisError:
            return ""  # It is still starting.

    def url(self, name: str) -> str:
        """Where clients reach a node."""
        return f"redis://127.0.0.1:{self.ports[name]}/0"

    def followers(self) -> list[str]:
        """Those that run and do not lead."""
        leader = self.leader()
        return [name for name in self._processes if name != leader]


def free_ports(count: int) -> list[int]:
    """Below those that the kernel gives to connections, so that nobody takes one while its node is down."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(10_000, 32_000), 1_000):
        with socket.socket() as each:
            if each.connect_ex(("127.0.0.1", port)):  # Nobody listens.
                found.append(port)
        if len(found) == count:
            return found
    raise OSError("there are no free ports")


@dataclass
class Outcome:
    """What came of an example."""

    what: str
    """What does the work, with its version."""
    work: str
    done: int
    lost: int
    repeated: int
    promise: str
    kept: bool
    seconds: float = 0.0
    pause_ms: int = 0
    """The longest time in which nothing got on."""
    killed: str = ""
    """Who led, and was killed in the middle."""


class Stage:
    """Where an example works: two addresses of one database, and somebody who kills the leader in the middle."""

    def __init__(self, urls: list[str], nodes: ThreeNodes | None) -> None:
        self.urls = urls
        """Of nodes that stay alive. Any node takes any command."""
        self.nodes = nodes
        self.killed = ""
        self.began = time.monotonic()
        self._pause_s = 0.0
        self._trouble: Exception | None = None

    @contextmanager
    def leader_dies_once(self, done: Callable[[], int], at: int) -> Iterator[None]:
        """Within this the leader is killed as soon as so many are `done`, and comes back. Waits for that at the end."""
        self.began = time.monotonic()
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=[done, at, over], daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        if self.nodes is not None and not self.killed:
            raise RuntimeError(
                "the leader was not killed, or did not come back: this shows nothing"
            ) from self._trouble

    def _watch(self, done: Callable[[], int], at: int, over: threading.Event) -> None:
        """Look how far the work has come, and note for how long it stood still."""
        killer = threading.Thread(target=self._kill, daemon=True)
        seen, got_on_at = 0, 0.0
        while not over.wait(LOOK_EVERY_S):
            try:
                count = done()
            except redis.RedisError as trouble:
                self._trouble = trouble
                continue
            if count <= seen:
                continue
            now = time.monotonic()
            if seen:
                self._pause_s = max(self._pause_s, now - got_on_at)
            seen, got_on_at = count, now
            if self.nodes is not None and count >= at and killer.ident is None:
                killer.start()
        if killer.ident is not None:
            killer.join(READY_S_MAX)

    def _kill(self) -> None:
        assert self.nodes is not None
        try:
            leader = self.nodes.leader()
            if self.nodes.url(leader) in self.urls:
                raise RuntimeError(f"{leader}, to which clients are connected, leads by now")
            self.nodes.kill(leader)
            print(f"{leader}, who led, is dead (kill -9) ...", flush=True)
            print(f"{self.nodes.leader()} leads now", flush=True)
            time.sleep(DEAD_S)
            self.nodes.start(leader)
            self.nodes.leader()
            print(f"{leader} is back", flush=True)
            self.killed = leader
        except (OSError, RuntimeError) as trouble:
            self._trouble = trouble

    def finish(self, outcome: Outcome) -> Outcome:
        """Add to an outcome what is noted here."""
        outcome.seconds = time.monotonic() - self.began
        outcome.pause_ms = int(self._pause_s * 1000)
        outcome.killed = self.killed
        return outcome


def perform(work: Callable[[Stage], Outcome], about: str | None) -> None:
    """Run an example: nodes, work, a line on what came of it. Ends with 0 only if what it promised is so."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--url", help="a database to use, such as redis://127.0.0.1:7001/0; else nodes are started"
    )
    parser.add_argument("--json", type=Path, help="write what came of it there, too")
    options = parser.parse_args()
    # Whatever ends it, it stops what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.url:
        outcome = work(Stage([options.url, options.url], None))
    else:
        with ThreeNodes() as nodes:
            followers = nodes.followers()
            print(f"three nodes: {nodes.leader()} leads, {' and '.join(followers)} follow", flush=True)
            outcome = work(Stage([nodes.url(name) for name in followers], nodes))
    print(
        f"{outcome.what}: {outcome.work}: {outcome.done} done, {outcome.lost} lost, {outcome.repeated} repeated, "
        f"in {outcome.seconds:.1f} s; the longest pause was {outcome.pause_ms} ms"
    )
    print(f"{'Kept' if outcome.kept else 'BROKEN'}: {outcome.promise}")
    if options.json:
        options.json.write_text(json.dumps(asdict(outcome)))
    sys.exit(0 if outcome.kept else 1)


def worker(*command: str, **environment: str) -> subprocess.Popen[bytes]:
    """Another process of an example: Python with these arguments, which finds the examples as modules."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextmanager
def stopping(workers: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Tell workers to end when the work is done; whoever does not is killed."""
    try:
        yield
    finally:
        for each in workers:
            each.terminate()
        for each in workers:
            try:
                each.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()


def wait_until_all(count: Callable[[], int], total: int, patience_s: float = 60.0) -> None:
    """Wait until so many are done, or none has been for a while."""
    seen, end = -1, time.monotonic() + patience_s
    while (now := count()) < total and time.monotonic() < end:
        if now > seen:
            seen, end = now, time.monotonic() + patience_s
        time.sleep(LOOK_EVERY_S)
