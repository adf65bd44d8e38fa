"""What all systems have in common: processes, a directory, and a way to be asked."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sofadb.load.generator import Generator
from sofadb.load.speakers import Speaker

HOST = "127.0.0.1"
READY_TIMEOUT_S = 60.0
SETTLE_S = 1.0
"""After a pause nodes may first have to find a leader; so long they are left alone when they have one."""
WARM_UP_S = 1.0
KEYS = 10_000
"""Keys that are written and read, where the load generator can choose among keys."""
OPEN_DEPTH = 100
"""In an open loop, so many requests may be unanswered on a connection."""

VALUES_BYTES_MAX = 100_000_000
"""All values together are at most as large: nodes hold them in memory."""


def keys_of(size: int) -> int:
    """So many keys are written if values have this size."""
    return min(KEYS, VALUES_BYTES_MAX // size)


class Missing(Exception):
    """The system cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop."""

    operation: str
    """SET or GET."""
    connections: int
    depth: int = 1
    """Requests in flight on each connection."""
    size: int = 256
    """Of a value (bytes)."""

    @property
    def in_flight(self) -> int:
        return self.connections * self.depth


def wait_until(condition: Callable[[], Any], what: str, patience_s: float = READY_TIMEOUT_S) -> Any:
    """Ask until there is something; it. Raises `Missing` if it takes too long."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):  # It is not there yet.
            if value := condition():
                return value
        time.sleep(0.02)
    raise Missing(f"waited in vain for {patience_s:.0f} s until {what}")


def is_listening(port: int) -> bool:
    """Somebody takes connections there."""
    with socket.socket() as each:
        each.settimeout(1)
        return each.connect_ex((HOST, port)) == 0


def output_of(words: Sequence[str], timeout_s: float) -> str:
    """What a program prints. Raises `ValueError` with its last words if it fails."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        last = (done.stderr + done.stdout).strip().splitlines()[-1:]
        raise ValueError(f"{Path(words[0]).name} ended with {done.returncode}: {' '.join(last)}")
    return done.stdout


class System:
    """One of those that are compared. Its processes are paused while another is measured, so that they take no time from it."""

    name: ClassVar[str]
    title: ClassVar[str]
    durability: ClassVar[str]
    """What an acknowledged write has survived."""
    asked_by: ClassVar[str]
    """The load generator of the closed loops."""
    has_nodes: ClassVar[bool] = True
    """It can be more than one process."""
    is_piped: ClassVar[bool] = False
    """A node is asked by its stdin."""
    first_warm_up_s: ClassVar[float] = 1.0
    """Of writes, and again of reads, after the start."""
    ports: ClassVar[int]
    """The first port, counted from the first of all."""

    def __init__(self, directory: Path, first_port: int, nodes: int = 3) -> None:
        self.directory = directory / self.name
        self.names = [f"n{number + 1}" for number in range(nodes if self.has_nodes else 1)]
        self.first_port = first_port + self.ports
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.speakers = 0
        """So many have been made; each draws its own keys."""
        self.others: list[subprocess.Popen[bytes]] = []
        """Load generators that stay."""

    # What each does in its own way.

    def version(self) -> str:
        """Raises `Missing` if it is not installed."""
        raise NotImplementedError

    def command(self, name: str) -> Sequence[str]:
        """What runs a node."""
        raise NotImplementedError

    def port(self, name: str) -> int:
        """Where a node takes requests."""
        raise NotImplementedError

    def leader(self) -> str:
        """Who leads; an empty string if nobody does. Raises `OSError` if nobody answers."""
        raise NotImplementedError

    def fill(self, size: int) -> None:
        """Write the keys that are read later."""
        raise NotImplementedError

    def closed(self, load: Load, seconds: float, port: int) -> dict[str, float]:
        """Ask as fast as answers come; `rate` and what else the generator tells."""
        raise NotImplementedError

    def speaker(self, operation: str, size: int) -> Speaker:
        """One connection's, for open loops."""
        raise NotImplementedError

    # What is the same for all.

    def start(self, warm_up: bool = True) -> None:
        """Begin with nothing, and wait until it is ready and filled."""
        self.directory.mkdir(parents=True)
        for name in self.names:
            self.start_node(name)
        leader = self.wait_for_leader()
        self.fill(256)
        for operation in ("SET", "GET") if warm_up else ():
            self.closed(Load(operation, 50, 4), self.first_warm_up_s, self.port(leader))

    def start_node(self, name: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.command(name),
                stdin=subprocess.PIPE if self.is_piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.is_piped else log,
                stderr=log,
                start_new_session=True,
                cwd=self.directory,
            )

    def wait_for_leader(self) -> str:
        """Wait until somebody leads who takes writes."""

        def led() -> str:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise Missing(
                        f"{name} of {self.title} ended with {process.returncode}: {self.last_words(name)}"
                    )
            return self.leader() if all(is_listening(self.port(name)) for name in self.names) else ""

        return str(wait_until(led, f"{self.title} has a leader"))

    def last_words(self, name: str) -> str:
        lines = (self.directory / f"{name}.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it left no word"

    def follower(self) -> str:
        leader = self.wait_for_leader()
        return next((name for name in self.names if name != leader), leader)

    def open(
        self, operation: str, rate: float, seconds: float, connections: int = 50, size: int = 256
    ) -> dict[str, float]:
        """Ask `rate` times a second, at the leader; percentiles (ms), counted from when each request was due."""
        address = (HOST, self.port(self.wait_for_leader()))
        with Generator(
            lambda: self.speaker(operation, size), [address], connections, OPEN_DEPTH
        ) as generator:
            generator.open(rate, WARM_UP_S)
            figures = generator.open(rate, seconds)
        return {
            **figures.percentiles_ms(),
            "rate": figures.rate,
            "errors": figures.errors,
            "unanswered": figures.unanswered,
        }

    def pause(self) -> None:
        """Take no time from others."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After a pause, and wait until there is a leader again. Raises `Missing`."""
        self._signal(signal.SIGCONT)
        self.wait_for_leader()
        time.sleep(SETTLE_S)

    def stop(self) -> None:
        """End all processes at once; the data is of no further use."""
        self._signal(signal.SIGKILL)
        for process in self._all():
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        self.processes.clear()
        self.others.clear()

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.processes[name]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def cpu_seconds(self, name: str) -> float:
        """So long a node has had a processor so far, in its own code and in the kernel's."""
        # The program's name, in parentheses, may hold anything; user and system time are the 14th and 15th field.
        fields = Path(f"/proc/{self.processes[name].pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self, name: str) -> int:
        """So many bytes of memory a node holds."""
        pages = Path(f"/proc/{self.processes[name].pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def _all(self) -> list[subprocess.Popen[bytes]]:
        return [*self.processes.values(), *self.others]

    def _signal(self, number: int) -> None:
        for process in self._all():
            if process.poll() is None:
                os.killpg(process.pid, number)
