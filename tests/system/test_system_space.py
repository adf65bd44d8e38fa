"""A real disk that is full: a small file system of one node's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from processes import Cluster, wait_until

ROOM = 64 << 20
"""For a log of three files of 16 MiB, and not for four."""
VALUE = b"x" * (256 << 10)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with little room, for n1."""
    directory = tmp_path / "n1"
    directory.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(directory)]
    mounted = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    if mounted.returncode:
        pytest.skip(f"this user may not mount a file system: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], timeout=30, check=True)


def fact(cluster: Cluster, name: str, which: str) -> Any:
    facts = cluster.facts(name)
    return None if facts is None else facts[which]


def test_a_node_whose_disk_is_full_steps_back_and_is_there_again_when_there_is_room(
    small_disk: Path, three: Cluster
) -> None:
    cluster = three
    client = cluster.client("n2")
    assert client("SET", "before", 1) == b"OK"
    wait_until(lambda: list(small_disk.glob("reserve-*")), "the reserve")
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        while (left := os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize) > 0:
            file.write(bytes(min(left, 1 << 20)))
            file.flush()
    count = 0
    while not fact(cluster, "n1", "shortage"):
        assert count < 300
        assert client("SET", "large", VALUE + b"%d" % count) == b"OK"
        count += 1
    wait_until(lambda: cluster.leader() != "n1", "somebody with room who leads")
    pid = cluster.pid("n1")
    for number in range(20):
        assert client("SET", f"during{number}", VALUE) == b"OK"
    refusal = str(cluster.client("n1")("SET", "a", 1))
    assert refusal.startswith("NOREPLICAS This node's disk is full")
    told = " ".join(map(str, cluster.client("n1")("SOFA.EXPLAIN")))
    assert "until there is room on its disk again" in told
    filler.unlink()
    wait_until(lambda: fact(cluster, "n1", "shortage") == "", "room")
    wait_until(
        lambda: (fact(cluster, "n1", "applied") or 0) >= fact(cluster, "n2", "applied"), "n1 to catch up"
    )
    assert cluster.pid("n1") == pid, "without a restart"
    cluster.kill("n3")
    client = cluster.client("n1")
    assert client("SET", "after", 1) == b"OK"
    assert client("MGET", "before", "after", "during19") == [b"1", b"1", VALUE]
    assert client("GET", "large").endswith(b"x%d" % (count - 1))
