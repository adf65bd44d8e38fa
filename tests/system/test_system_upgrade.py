"""From one version of the program to the next, a node at a time, while clients go on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import sofadb
from processes import PATIENCE_S, Client, Cluster, wait_until

PACKAGE = Path(sofadb.__file__).parent


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.clear_away()


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """A checkout of the program in which there is one more level than in this one."""
    checkout = tmp_path / "later"
    shutil.copytree(PACKAGE, checkout / "sofadb", ignore=shutil.ignore_patterns("__pycache__"))
    roster = checkout / "sofadb" / "database" / "roster.py"
    text = roster.read_text()
    assert "LEVEL = 1\n" in text
    roster.write_text(text.replace("LEVEL = 1\n", "LEVEL = 2\n", 1))
    return checkout


def start(cluster: Cluster, name: str, checkout: Path) -> subprocess.Popen[bytes]:
    with (cluster.directory / f"{name}.log").open("ab") as log:
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        process = subprocess.Popen(
            cluster.command(name), stdout=log, stderr=log, env=environment, cwd=checkout
        )
    cluster.processes[name] = process
    return process


def increment(client: Client, times: int = 20) -> None:
    for _ in range(times):
        reply = client("INCR", "n")
        assert isinstance(reply, int), reply


def level(cluster: Cluster, name: str) -> int:
    return int((cluster.facts(name) or {}).get("level", 0))


def test_nodes_are_upgraded_in_turn_while_clients_go_on_and_none_goes_back(
    cluster: Cluster, later: Path
) -> None:
    cluster.start()
    cluster.leader()
    clients = {name: cluster.client(name) for name in cluster.names}
    for turn, name in enumerate(cluster.names, 1):
        assert {level(cluster, each) for each in cluster.names} == {1}
        cluster.signal(name, signal.SIGTERM)
        others = [each for each in cluster.names if each != name]
        for other in others:
            increment(clients[other])
        assert cluster.processes.pop(name).wait(PATIENCE_S) == 0
        start(cluster, name, later)
        clients[name] = cluster.client(name)
        cluster.leader()
        for client in clients.values():
            increment(client)
        assert clients[name]("GET", "n") == b"%d" % (100 * turn)
    wait_until(lambda: {level(cluster, each) for each in cluster.names} == {2}, "all know that all know more")
    # What knows less has no place any more, and says so.
    first = cluster.names[0]
    cluster.signal(first, signal.SIGTERM)
    assert cluster.processes.pop(first).wait(PATIENCE_S) == 0
    assert start(cluster, first, PACKAGE.parent).wait(PATIENCE_S) == 78
    cluster.processes.pop(first)
    words = (
        "the cluster is at level 2, and this program knows up to level 1: start this node with a newer one"
    )
    assert words in cluster.log(first)
    increment(clients[cluster.names[1]])
    cluster.stop()
