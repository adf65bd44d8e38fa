"""Real processes for tests: nodes, clusters and a Redis to compare with. All on loopback; all ended by whoever started them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import hiredis

PATIENCE_S = 15.0
"""How long a test waits for what must happen at some time, before it fails."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at the moment.

    They lie below those that the kernel gives to connections, so that nobody takes one while its node is down.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(range(10_000, 32_000), 1_000):
        with contextlib.closing(socket.socket()) as each, contextlib.suppress(OSError):  # It is in use.
            each.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("there are no free ports")


def wait_until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Poll until `condition` holds; its value."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited in vain until {what}")


def tracer_of(thread: int) -> int:
    """Who traces a thread (the first one has the number of its process); 0 if nobody does."""
    status = Path(f"/proc/{thread}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("TracerPid"))


class Client:
    """A plain connection: what is sent is what was written, and nothing is ever tried again."""

    def __init__(self, port: int, timeout_s: float = PATIENCE_S, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket()
        self.socket.close()
        self.socket = socket.create_connection((host, port), timeout_s)
        self.reader = hiredis.Reader()

    def send(self, *commands: Sequence[bytes | str | int]) -> None:
        data = b""
        for command in commands:
            words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
            data += b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.socket.sendall(data)

    def receive(self) -> Any:
        """The next reply; errors are returned. Raises `ConnectionError` at the end of the stream."""
        while (reply := self.reader.gets()) is False:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("closed by the other end")
            self.reader.feed(data)
        return reply

    def __call__(self, *words: bytes | str | int) -> Any:
        self.send(words)
        return self.receive()

    def pipeline(self, commands: Sequence[Sequence[bytes | str | int]]) -> list[Any]:
        self.send(*commands)
        return [self.receive() for _ in commands]

    def close(self) -> None:
        self.socket.close()

    __del__ = close


class Cluster:
    """`sofadb serve` processes in a directory of their own."""

    all: ClassVar[set[Cluster]] = set()

    def __init__(self, directory: Path, count: int = 3) -> None:
        ports = free_ports(2 * count)
        self.directory = directory
        self.names = [f"n{number + 1}" for number in range(count)]
        self.ports = dict(zip(self.names, ports[:count], strict=True))
        self.peer_ports = dict(zip(self.names, ports[count:], strict=True))
        self.members = ",".join(f"{name}=127.0.0.1:{port}" for name, port in self.peer_ports.items())
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.joins: dict[str, str] = {}
        """Whom those ask who are none of the first members."""
        self.options: tuple[str, ...] = ()
        """Of every node, further ones."""
        Cluster.all.add(self)

    def add(self, name: str, join: Sequence[str]) -> str:
        """A node that asks these to be let in when it is started; its peer address."""
        self.ports[name], self.peer_ports[name] = free_ports(2)
        self.names.append(name)
        self.joins[name] = ",".join(map(self.peer_address, join))
        return self.peer_address(name)

    def peer_address(self, name: str) -> str:
        return f"127.0.0.1:{self.peer_ports[name]}"

    def command(self, name: str) -> list[str]:
        whom = ("--join", self.joins[name]) if name in self.joins else ("--cluster", self.members)
        return [
            *(sys.executable, "-m", "sofadb", "serve", "--id", name, "--dir", str(self.directory / name)),
            *(
                "--listen",
                f"127.0.0.1:{self.ports[name]}",
                "--peer-listen",
                f"127.0.0.1:{self.peer_ports[name]}",
            ),
            *whom,
            *self.options,
        ]

    def start(self, *names: str, before: Sequence[str] = ()) -> None:
        """Start nodes (all of them by default), perhaps under another program (`before`)."""
        for name in names or self.names:
            log = (self.directory / f"{name}.log").open("ab")
            self.processes[name] = subprocess.Popen([*before, *self.command(name)], stdout=log, stderr=log)
            log.close()

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def facts(self, name: str) -> dict[str, Any] | None:
        """What a node says of itself; None if it does not answer."""
        try:
            client = Client(self.ports[name], 2)
            try:
                return json.loads(client("SOFA.INFO"))
            finally:
                client.close()
        except (OSError, ValueError, TypeError):
            return None

    def leader(self) -> str:
        """Wait until all that run agree on who leads."""

        def agreed() -> str:
            running = [name for name, process in self.processes.items() if process.poll() is None]
            leaders = {(self.facts(name) or {}).get("leader", "") for name in running}
            return leaders.pop() if len(leaders) == 1 else ""

        return wait_until(agreed, "somebody leads")

    def client(self, name: str) -> Client:
        """Connect to a node as soon as it listens."""

        def connect() -> Client | None:
            try:
                return Client(self.ports[name])
            except ConnectionError:
                return None

        return wait_until(connect, f"{name} listens")

    def pid(self, name: str) -> int:
        """The node's own process, even if another program (strace) was started to start it."""
        pid = self.processes[name].pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else pid

    def signal(self, name: str, number: int) -> None:
        os.kill(self.pid(name), number)

    @contextlib.contextmanager
    def slow_disk(self, name: str, delay_s: float) -> Iterator[None]:
        """Every sync that begins meanwhile takes so much longer.

        All threads but the one of the event loop are traced, so that this one is as fast as ever.
        """
        path = shutil.which("strace")
        assert path, "strace is not installed (Debian: apt-get install strace); this cannot do without"
        pid = self.pid(name)
        threads = [int(thread) for thread in os.listdir(f"/proc/{pid}/task") if thread != str(pid)]
        calls = "fdatasync,fsync"
        command = [path, "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
        command += ["-e", f"inject={calls}:delay_enter={delay_s * 1e6:.0f}"]
        tracer = subprocess.Popen([*command, *(f"-p{thread}" for thread in threads)])
        try:
            wait_until(lambda: all(tracer_of(thread) == tracer.pid for thread in threads), "it is traced")
            yield
        finally:
            tracer.kill()  # Told to end, it would first wait for the delay; killed, it lets go at once.
            tracer.wait()

    def kill(self, *names: str) -> None:
        """kill -9."""
        for name in names or list(self.processes):
            self.signal(name, signal.SIGKILL)
            self.processes.pop(name).wait()

    def clear_away(self) -> None:
        """Let nothing outlive a test that failed."""
        for name, process in self.processes.items():
            if process.poll() is None:
                with contextlib.suppress(OSError, ValueError):
                    self.signal(name, signal.SIGKILL)
                process.kill()
            process.wait()
        self.processes.clear()

    def stop(self) -> None:
        """Stop in good order; whoever does not, is an error."""
        for name, process in self.processes.items():
            if process.poll() is None:
                self.signal(name, signal.SIGCONT)
                self.signal(name, signal.SIGTERM)
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                codes[name] = "did not stop"
        self.processes.clear()
        for name in self.names:
            path = self.directory / f"{name}.log"
            text = path.read_text(errors="replace") if path.exists() else ""
            assert "Traceback" not in text, text
        assert set(codes.values()) <= {0}, codes


class Redis:
    """A real `redis-server` to compare with. It has to be there: a comparison that is not made is a failure."""

    def __init__(self, directory: Path) -> None:
        path = shutil.which("redis-server")
        assert path, (
            "redis-server is not installed (Debian: apt-get install redis-server); this test cannot do without"
        )
        (self.port,) = free_ports(1)
        self.process = subprocess.Popen(
            [path, "--port", str(self.port), "--save", "", "--appendonly", "no", "--dir", str(directory)],
            stdout=subprocess.DEVNULL,
        )

    def client(self) -> Client:
        def connect() -> Client | None:
            try:
                return Client(self.port)
            except ConnectionError:
                return None

        return wait_until(connect, "redis-server listens")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
