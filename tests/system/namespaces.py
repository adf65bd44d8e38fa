"""Machines with cables between them: network namespaces, one for each node and one for the switch.

This needs Linux and root. Nothing is changed outside these namespaces. A client sits on the machine of its
node and reaches it whether or not the cable is plugged in.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from processes import Client, Cluster

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*words: str) -> str:
    """What the command `ip` prints. It has to be there: a network that is not tried is a failure."""
    path = shutil.which("ip") or shutil.which("ip", path="/usr/sbin:/sbin")
    assert path, "ip is not installed (Debian: apt-get install iproute2); this test cannot do without"
    result = subprocess.run([path, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"ip {' '.join(words)} (this needs root): {result.stderr}"
    return result.stdout


def enter_namespace(descriptor: int) -> None:
    """Move this thread into the network namespace of an open file."""
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Network:
    """A switch, and machines on it. Whoever makes one ends it with `remove`."""

    def __init__(self, machines: list[str]) -> None:
        self.prefix = f"sofadb-{os.getpid()}"
        self.switch = f"{self.prefix}-switch"
        self.addresses = {machine: f"10.77.0.{number}" for number, machine in enumerate(machines, 1)}

    def build(self) -> None:
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "bridge", "up", "type", "bridge")
        for machine in self.addresses:
            self.build_machine(machine)

    def build_machine(self, machine: str) -> None:
        namespace = f"{self.prefix}-{machine}"
        ip("netns", "add", namespace)
        ip("-n", self.switch, "link", "add", machine, "type", "veth", "peer", "eth0", "netns", namespace)
        ip("-n", namespace, "address", "add", f"{self.addresses[machine]}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", namespace, "link", "set", device, "up")
        ip("-n", self.switch, "link", "set", machine, "master", "bridge", "up")

    def add_machine(self, machine: str) -> None:
        """One more."""
        self.addresses[machine] = f"10.77.0.{len(self.addresses) + 1}"
        self.build_machine(machine)

    def remove_machine(self, machine: str) -> None:
        """The machine loses its power: its connections are forgotten, and nobody is told."""
        ip("-n", self.switch, "link", "delete", machine)
        ip("netns", "delete", f"{self.prefix}-{machine}")

    def pull(self, machine: str) -> None:
        """Pull its cable."""
        ip("-n", self.switch, "link", "set", machine, "down")

    def plug_in(self, machine: str) -> None:
        ip("-n", self.switch, "link", "set", machine, "up")

    @contextlib.contextmanager
    def on(self, machine: str) -> Iterator[None]:
        """What this thread opens or starts meanwhile is on that machine, and stays there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.prefix}-{machine}", os.O_RDONLY)
        try:
            enter_namespace(there)
            yield
        finally:
            enter_namespace(home)
            os.close(there)
            os.close(home)

    def remove(self) -> None:
        """Nothing is left, not even what somebody was interrupted at while it was built or started."""
        for path in Path("/run/netns").glob(f"{self.prefix}-*"):
            for process in ip("netns", "pids", path.name).split():
                with contextlib.suppress(ProcessLookupError):  # It has just ended by itself.
                    os.kill(int(process), signal.SIGKILL)
            ip("netns", "delete", path.name)


class SpreadCluster(Cluster):
    """A cluster whose nodes are on a machine each, the first ones of the network."""

    def __init__(self, directory: Path, network: Network, count: int = 3) -> None:
        super().__init__(directory, count)
        self.network = network
        self.members = ",".join(f"{name}={self.peer_address(name)}" for name in self.names)

    def peer_address(self, name: str) -> str:
        return f"{self.network.addresses[name]}:{self.peer_ports[name]}"

    def command(self, name: str) -> list[str]:
        command = super().command(name)
        command[command.index("--peer-listen") + 1] = self.peer_address(name)
        return command

    def start(self, *names: str, before: Sequence[str] = ()) -> None:
        for name in names or self.names:
            with self.network.on(name):
                super().start(name, before=before)

    def facts(self, name: str) -> dict[str, Any] | None:
        with self.network.on(name):
            return super().facts(name)

    def client(self, name: str) -> Client:
        with self.network.on(name):
            return super().client(name)

    def power_cut(self, name: str) -> None:
        """The node and its machine are gone without a word to anybody."""
        self.network.pull(name)
        self.kill(name)
        self.network.remove_machine(name)

    def power_up(self, name: str) -> None:
        self.network.build_machine(name)
        self.start(name)
