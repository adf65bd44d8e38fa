"""The machines of one round: nodes with a network between them that can be spoilt, and one more for the clients.

Cuts and loss are nftables rules in the namespace of whoever does not hear. Delay, duplication and reordering need somebody who
holds packets back (`courier.py`), since not every kernel has netem. Traffic with clients is never touched.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from namespaces import Network, SpreadCluster

from askers import REPLY_TIMEOUT_S
from processes import Client

from .courier import MARK, QUEUE
from .links import NOTHING, Cut

CLIENTS = "clients"
COMMAND_TIMEOUT_S = 20.0
FILLER = "filler"


def run(command: Sequence[str], text: str = "") -> str:
    """Run a command that has to succeed, in the namespace of this thread; its output."""
    result = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    assert result.returncode == 0, f"{' '.join(command)}: {result.stderr}"
    return result.stdout


class Machines(SpreadCluster):
    """Nodes that clients reach over the network, and what lies between the nodes."""

    def __init__(self, directory: Path, network: Network, count: int, before: Sequence[str] = ()) -> None:
        super().__init__(directory, network, count)
        self.before = before

    def command(self, name: str) -> list[str]:
        command = super().command(name)
        command[command.index("--listen") + 1] = f"0.0.0.0:{self.ports[name]}"
        return [*command, "--protected-mode", "no"]  # Clients are on a machine of their own.

    def start(self, *names: str, before: Sequence[str] = ()) -> None:
        for name in names or self.names:
            own = [word.replace("{node}", name) for word in before or self.before]
            super().start(name, before=own)

    def remote_client(self, name: str) -> Client:
        """A connection from the clients' machine. Raises `OSError` if the node is down."""
        with self.network.on(CLIENTS):
            return Client(self.ports[name], REPLY_TIMEOUT_S, self.network.addresses[name])

    def spoil(self, cut: Cut = NOTHING, loss_percent: int = 0) -> None:
        """From now on these directions are cut, and of all else so much is lost. Without arguments: heal."""
        for name in self.names:
            deaf = [f"ip saddr {self.network.addresses[a]}" for a, b in sorted(cut) if b == name]
            lossy = [
                f"ip saddr {self.network.addresses[other]} numgen random mod 100 < {loss_percent}"
                for other in self.names
                if loss_percent and other != name
            ]
            rules = "\n".join(f"{each} counter name dropped drop" for each in [*deaf, *lossy])
            with self.network.on(name):
                run(
                    ["nft", "-f", "-"],
                    "table inet chaos\ndelete table inet chaos\ntable inet chaos {\ncounter dropped {\n}\n"
                    f"chain input {{\ntype filter hook input priority 0\n{rules}\n}}\n}}\n",
                )

    def dropped(self) -> int:
        """How many packets the nodes did not get since the network was spoilt."""
        total = 0
        for name in self.names:
            with self.network.on(name):
                found = re.search(
                    r"packets (\d+)", run(["nft", "list", "counter", "inet", "chaos", "dropped"])
                )
            assert found, "nft does not say what was dropped"
            total += int(found[1])
        return total

    def give_own_disks(self, room: int) -> None:
        """Before the first start: each node's directory is a file system of its own, with so many bytes of room."""
        for name in self.names:
            place = self.directory / name
            place.mkdir()
            run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(place)])

    def take_disks_away(self) -> None:
        """What the nodes had on them is left in plain directories."""
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in (self.directory / name for name in self.names):
            if str(place) in mounted:
                kept = place.with_name(f"{place.name}.kept")
                shutil.copytree(place, kept, ignore=shutil.ignore_patterns(FILLER))
                run(["umount", "-l", str(place)])
                place.rmdir()
                kept.rename(place)

    @contextlib.contextmanager
    def full_disk(self, name: str) -> Iterator[None]:
        """Somebody else has taken what was left of the room on a node's disk, and gives it back in the end."""
        filler = self.directory / name / FILLER
        try:
            _fill(filler)
            yield
        finally:
            filler.unlink()

    @contextlib.contextmanager
    def courier(self, *options: str) -> Iterator[None]:
        """All packets between nodes go through the hands of a courier meanwhile."""
        rules = [
            (name, ["OUTPUT", "-d", self.network.addresses[other], "-m", "mark", "!", "--mark", str(MARK)])
            for name in self.names
            for other in self.names
            if other != name
        ]
        target = ["-j", "NFQUEUE", "--queue-num", str(QUEUE), "--queue-bypass"]
        namespaces = [f"{self.network.prefix}-{name}" for name in self.names]
        # In a session of its own: Ctrl-C is for whoever ends it in good order.
        process = subprocess.Popen(
            [sys.executable, "-m", "chaos.courier", *options, *namespaces],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "the courier does not come"
            for name, rule in rules:
                with self.network.on(name):
                    run(["iptables-legacy", "-A", *rule, *target])
            yield
            for name, rule in rules:
                with self.network.on(name):
                    run(["iptables-legacy", "-D", *rule, *target])
            assert process.poll() is None, "the courier has gone"
        finally:
            process.terminate()
            process.wait(COMMAND_TIMEOUT_S)


def _fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError as problem:
            if problem.errno != errno.ENOSPC:
                raise
