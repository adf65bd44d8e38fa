"""Backups of a cluster that is being written to, and new clusters made from them, of real processes."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import hiredis

from processes import Client, Cluster, wait_until

KEYS = 2_000
GROUP = 20


def sofadb(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sofadb", *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in result.stderr, result.stderr
    return result


class Load(threading.Thread):
    """Writes keys, then the same ones again, and notes the instance of each write."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client
        self.writes: list[tuple[int, str, str]] = []
        """Instance, key, value."""
        self.stopping = threading.Event()

    def run(self) -> None:
        number = 0
        while number < KEYS or not self.stopping.is_set():
            pairs = [(f"key{each % KEYS}", str(each)) for each in range(number, number + GROUP)]
            commands = [words for pair in pairs for words in (("SET", *pair), ("SOFA.LASTINSTANCE",))]
            instances = self.client.pipeline(commands)[1::2]
            self.writes += [(at, *pair) for at, pair in zip(instances, pairs, strict=True)]
            number += GROUP

    def state_at(self, instance: int) -> dict[str, str]:
        return {key: value for at, key, value in self.writes if at <= instance}


def state_of(client: Client, keys: list[str]) -> dict[str, str]:
    values = client("MGET", *keys)
    return {key: value.decode() for key, value in zip(keys, values, strict=True) if value is not None}


def told(text: str, name: str) -> str:
    found = re.search(rf"^{name} +(\S+)", text, re.MULTILINE)
    assert found, text
    return found[1].rstrip(",")


def started(cluster: Cluster, *names: str) -> Client:
    cluster.start(*names)
    cluster.leader()
    return cluster.client((names or tuple(cluster.names))[0])


def test_a_backup_taken_under_load_is_restored_key_for_key_to_a_cluster_of_three(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old = Cluster(tmp_path / "old")
    client = started(old)
    load = Load(old.client("n2"))
    load.start()
    wait_until(lambda: len(load.writes) > KEYS, "all keys are there")
    assert client("SET", "before", "acknowledged") == b"OK"
    acknowledged = client("SOFA.LASTINSTANCE")
    file = tmp_path / "backup.sofadb"
    result = sofadb("backup", file, "--port", old.ports["n3"])
    assert result.returncode == 0, result.stderr
    load.stopping.set()
    load.join()
    instance = int(told(result.stdout, "instance"))
    assert acknowledged <= instance
    assert instance < load.writes[-1][0], "it was taken while there was more to come"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["backup.sofadb", "old"]
    verified = sofadb("verify", file)
    assert verified.returncode == 0
    assert told(verified.stdout, "digest") == told(result.stdout, "digest")
    old.stop()
    checked = sofadb("verify", tmp_path / "old" / "n3")
    assert (checked.returncode, "DAMAGED" in checked.stdout) == (0, False), checked.stdout + checked.stderr

    (tmp_path / "new").mkdir()
    new = Cluster(tmp_path / "new")
    ids = set()
    for name in new.names:
        result = sofadb(
            "restore", file, "--dir", new.directory / name, "--id", name, "--cluster", new.members
        )
        assert result.returncode == 0, result.stderr
        ids.add(told(result.stdout, "cluster"))
    assert len(ids) == 1
    client = started(new)
    expected = {**load.state_at(instance), "before": "acknowledged"}
    keys = sorted({key for _, key, _ in load.writes} | {"before"})
    assert state_of(client, keys) == expected
    assert client("DBSIZE") == len(expected)
    assert client("SET", "after", "1") == b"OK"
    assert client("SOFA.LASTINSTANCE") > instance
    assert {new.facts(name)["cluster"] for name in new.names} == ids
    new.stop()


def test_a_member_of_the_old_cluster_that_still_lives_is_none_of_the_new_one(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    client = started(cluster)
    assert client("SET", "key", "old") == b"OK"
    file = tmp_path / "backup.sofadb"
    assert sofadb("backup", file, "--port", cluster.ports["n1"]).returncode == 0
    cluster.kill("n1", "n2")
    for name in ("n1", "n2"):
        (tmp_path / name).rename(tmp_path / f"{name}.old")
        result = sofadb("restore", file, "--dir", tmp_path / name, "--id", name, "--cluster", cluster.members)
        assert result.returncode == 0, result.stderr
    # The third one, where the new cluster expects a member, is still one of the old.
    cluster.start("n1", "n2")
    client = cluster.client("n1")
    wait_until(lambda: (cluster.facts("n1") or {}).get("leader") in ("n1", "n2"), "one of the new ones leads")
    assert client("SET", "key", "new") == b"OK"
    assert cluster.facts("n3")["cluster"] != cluster.facts("n1")["cluster"]
    assert cluster.facts("n3")["chosen"] < cluster.facts("n1")["chosen"]
    cluster.kill("n2")
    answer = client("SET", "key", "without a majority")
    assert isinstance(answer, hiredis.ReplyError)
    stale = cluster.client("n3")
    assert stale("READONLY") == b"OK"
    assert stale("GET", "key") == b"old"
    cluster.stop()


def test_what_the_last_survivor_has_becomes_a_cluster_of_its_own(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    client = started(cluster)
    for number in range(50):
        assert client("SET", f"key{number}", number) == b"OK"
    cluster.kill()
    result = sofadb("recover", "--dir", tmp_path / "n3")
    assert result.returncode == 1
    wanted = re.search(r"say --accept-loss (\d+\.\.)$", result.stderr.strip())
    assert wanted, result.stderr
    assert not list(tmp_path.glob("n3.*before*"))
    result = sofadb("recover", "--dir", tmp_path / "n3", "--accept-loss", wanted[1])
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("n3.before-*"))
    cluster.start("n3", "n2")
    client = cluster.client("n3")
    wait_until(lambda: (cluster.facts("n3") or {}).get("role") == "leading", "it leads by itself")
    kept = [number for number in range(50) if client("GET", f"key{number}") == b"%d" % number]
    assert kept == list(range(len(kept)))
    assert len(kept) >= 40
    assert client("SET", "key", "new") == b"OK"
    other = wait_until(lambda: cluster.facts("n2"), "the other one has started")
    assert other["cluster"] != cluster.facts("n3")["cluster"]
    cluster.stop()
    both = sofadb("recover", "--dir", tmp_path / "n1", "--with", tmp_path / "n2")
    assert both.returncode == 2
    assert "are a majority of n1, n2, n3: start them" in both.stderr


class ArchivedCluster(Cluster):
    """All its nodes write to one archive, often."""

    def command(self, name: str) -> list[str]:
        archive = str(self.directory / "archive")
        return [*super().command(name), "--archive", archive, "--archive-every-s", "0.2"]


def archived_upto(cluster: Cluster) -> int:
    return max((cluster.facts(name) or {}).get("archived") or 0 for name in cluster.processes)


def test_any_point_in_time_is_had_again_from_an_archive_that_survives_its_leader(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old = ArchivedCluster(tmp_path / "old")
    client = started(old)
    load = Load(old.client("n1"))
    load.stopping.set()
    load.run()
    wait_until(lambda: archived_upto(old) >= load.writes[-1][0], "the first part is archived")
    leader = old.leader()
    old.kill(leader)
    left = next(name for name in old.names if name != leader)
    wait_until(lambda: (old.facts(left) or {}).get("leader") not in ("", leader), "another one leads")
    second = Load(old.client(left))
    second.stopping.set()
    second.run()
    deleted = old.client(left)
    assert deleted("FLUSHALL") == b"OK"
    end = deleted("SOFA.LASTINSTANCE")
    wait_until(lambda: archived_upto(old) >= end, "the rest is archived")
    old.stop()
    checked = sofadb("verify", old.directory / "archive")
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout + checked.stderr

    (tmp_path / "new").mkdir()
    new = Cluster(tmp_path / "new", 1)
    point = second.writes[len(second.writes) // 2][0]
    words = ("--dir", new.directory / "n1", "--id", "n1", "--cluster", new.members)
    result = sofadb("restore", old.directory / "archive", *words, "--to-instance", point)
    assert result.returncode == 0, result.stderr
    assert told(result.stdout, "instance") == str(point)
    client = started(new)
    keys = sorted({key for _, key, _ in load.writes})
    assert state_of(client, keys) == {**load.state_at(point), **second.state_at(point)}
    new.stop()
    moment = re.search(r"^instance +\d+, at (\S+)", result.stdout, re.MULTILINE)
    assert moment
    words = ("--dir", tmp_path / "by-time", "--id", "n1", "--cluster", new.members)
    result = sofadb("restore", old.directory / "archive", *words, "--to-time", moment[1])
    assert result.returncode == 0, result.stderr
    assert point <= int(told(result.stdout, "instance")) < end
