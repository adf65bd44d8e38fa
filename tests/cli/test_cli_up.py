"""`sofadb up` and `sofadb status`, as a person calls them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from processes import Client, wait_until


def consecutive_ports(count: int) -> int:
    """The first of so many ports that are free, as their peer ports 10,000 further are."""
    for first in range(20_000 + os.getpid() % 1000, 22_000, count):
        sockets = []
        try:
            for port in range(first, first + count):
                for each in (port, port + 10_000):
                    sockets.append(socket.socket())
                    sockets[-1].bind(("127.0.0.1", each))
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
        return first
    raise AssertionError("no ports are free")


def ignore_interrupts() -> None:
    """As a shell does for what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Up:
    """A cluster as `sofadb up` runs it. Left, it is ended, whatever came between."""

    def __init__(self, directory: Path, port: int, nodes: int = 3) -> None:
        self.ports = range(port, port + nodes)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sofadb",
                "up",
                "--dir",
                str(directory),
                "--port",
                str(port),
                "--nodes",
                str(nodes),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=ignore_interrupts,
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()

    def __enter__(self) -> Up:
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        self.process.stdout.close()

    def stop(self, number: signal.Signals = signal.SIGINT) -> str:
        """Ctrl-C; what was said since."""
        self.process.send_signal(number)
        return self.rest()

    def rest(self) -> str:
        """What it says until it ends."""
        assert self.process.stdout is not None
        said = self.process.stdout.read()
        self.process.wait(30)
        return said


def status(port: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sofadb", "status", "--port", str(port), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_up_says_one_line_when_it_is_ready_and_the_next_up_finds_the_data(tmp_path: Path) -> None:
    port = consecutive_ports(3)
    with Up(tmp_path / "data", port) as up:
        assert up.first_line.startswith(f"SofaDB is ready: 3 nodes on 127.0.0.1, ports {port}-{port + 2}")
        client = Client(port)
        assert client("SET", "a", "1") == b"OK"
        client.close()
        said = up.stop()
        assert f"redis-cli -p {port}" in said
        assert said.endswith("stopped; the data is kept.\n")
        assert up.process.returncode == 0
    with Up(tmp_path / "data", port) as up:
        client = Client(port + 2)
        assert client("GET", "a") == b"1"
        client.close()
        up.stop(signal.SIGTERM)
        assert up.process.returncode == 0


def test_up_says_which_node_stopped_and_goes_on_with_the_others(tmp_path: Path) -> None:
    port = consecutive_ports(3)
    with Up(tmp_path, port) as up:
        second = wait_until(
            lambda: json.loads(status(port, "--json").stdout)["members"][1]["process_id"], "n2 is met"
        )
        os.kill(second, signal.SIGKILL)
        client = Client(port + 2)
        assert client("SET", "a", "1") == b"OK"
        client.close()
        wait_until(lambda: status(port, "--json").stdout.count("unreachable") == 1, "it is missed")
        assert up.process.stdout is not None
        told = next(line for line in up.process.stdout if line.startswith("n2 "))
        assert told == "n2 stopped (killed by signal 9)\n"


def test_up_with_a_taken_port_is_one_line_that_says_so(tmp_path: Path) -> None:
    port = consecutive_ports(2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 1))
        taken.listen()
        with Up(tmp_path, port, nodes=2) as up:
            assert up.rest() == ""
            assert up.process.returncode == 1
            assert up.first_line.startswith("sofadb: n2 did not start: ")
            assert f"cannot listen for clients on 127.0.0.1:{port + 1}" in up.first_line


@pytest.mark.parametrize("nodes", [1, 3])
def test_status_shows_who_leads_and_how_far_each_has_come(tmp_path: Path, nodes: int) -> None:
    port = consecutive_ports(nodes)
    with Up(tmp_path, port, nodes) as up:
        client = Client(port)
        for number in range(5):
            assert client("SET", number, number) == b"OK"
        client.close()
        said = wait_until(
            lambda: (found := json.loads(status(port, "--json").stdout))["members"][-1]["lag"] == 0 and found,
            "all have come as far",
        )
        assert said["leader"] in [f"n{number + 1}" for number in range(nodes)]
        roles = [member["role"] for member in said["members"]]
        assert sorted(roles) == ["following"] * (nodes - 1) + ["leading"]
        leader = next(member for member in said["members"] if member["node"] == said["leader"])
        assert leader["role"] == "leading"
        assert leader["ballot"] == said["ballot"]
        assert leader["applied"] >= 6
        addresses = [member["client_address"] for member in said["members"]]
        assert addresses == [f"127.0.0.1:{each}" for each in up.ports]
        table = status(port)
        assert table.returncode == 0
        assert all(len(line) <= 80 for line in table.stdout.splitlines())
        assert table.stdout.count("127.0.0.1:") == 2 * nodes
        follower = f"n1 sees: nothing: n1 follows {said['leader']}\n"
        assert f"{said['leader']} sees: nothing: " in table.stdout
        assert said["leader"] == "n1" or follower in table.stdout
        assert leader["explain"][0].startswith("nothing: ")
