"""`sofadb backup`, `verify`, `restore`, `recover`: one line for what is wrong, and an exit code that says which kind it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from node.directories import CLUSTER, MEMBERS, log_of, write_log, write_snapshot
from processes import Cluster, free_ports
from sofadb.storage.files import DiskFiles
from sofadb.storage.identity import cluster_owner_of, write_identity


def sofadb(*words: object) -> tuple[int, str]:
    """Exit code, and all that was said."""
    command = [sys.executable, "-m", "sofadb", *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in result.stderr, result.stderr
    if result.returncode == 2 or not result.stdout:
        assert result.stderr.count("\n") <= 1, result.stderr
    return result.returncode, result.stdout + result.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    info = write_snapshot(DiskFiles(tmp_path), cluster_owner_of(CLUSTER), 5)
    return (tmp_path / info.name).rename(tmp_path / "monday.sofadb")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "n2"
    path.mkdir()
    write_log(DiskFiles(path), write_identity(DiskFiles(path), CLUSTER, "n2", MEMBERS), log_of(5))
    return path


def damage(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_a_sound_backup_is_told_with_what_it_holds(file: Path) -> None:
    code, text = sofadb("verify", file)
    assert code == 0
    assert "instance   5, at 1970-01-01T00:00:05" in text
    assert "keys       5 (db0 5)" in text
    assert "members    n1, n2, n3" in text


def test_a_damaged_backup_is_told_with_the_offset_and_not_restored(file: Path, tmp_path: Path) -> None:
    damage(file, 4300)
    for words in (["verify", file], ["restore", file, "--dir", tmp_path / "new", "--id", "m1"]):
        code, text = sofadb(*words)
        assert code == 1
        assert f"{file.name} is damaged at offset" in text
    assert not (tmp_path / "new").exists()


def test_what_is_not_there_or_no_data_directory_cannot_be_read(tmp_path: Path) -> None:
    assert sofadb("verify", tmp_path / "nothing")[0] == 2
    code, text = sofadb("verify", tmp_path)
    assert (code, "is no data directory" in text) == (2, True)


def test_a_data_directory_is_verified_unless_its_node_runs(directory: Path, single: Cluster) -> None:
    assert sofadb("verify", directory) == (
        0,
        f"node n2 of cluster {CLUSTER}, started 0 times\n"
        "journal: 6 records in 1 segments\n"
        "chosen, as known here, up to instance 5; accepted up to 5\n"
        "sound\n",
    )
    (segment,) = directory.glob("journal-*")
    damage(segment, 8300)
    code, text = sofadb("verify", directory)
    assert code == 1
    assert f"DAMAGED: {segment.name} is damaged from offset" in text
    code, text = sofadb("verify", single.directory / "n1")
    assert (code, "is in use by another process" in text) == (2, True)


def test_a_backup_needs_a_node_and_a_name_that_is_free(file: Path, tmp_path: Path, single: Cluster) -> None:
    (port,) = free_ports(1)
    code, text = sofadb("backup", tmp_path / "new", "--port", port)
    assert (code, "no node answers" in text) == (1, True)
    code, text = sofadb("backup", file, "--port", single.ports["n1"])
    assert (code, "is there already" in text) == (1, True)
    assert [each.name for each in tmp_path.iterdir()] == [file.name]
    code, text = sofadb("backup", tmp_path / "new", "--port", single.ports["n1"])
    assert code == 0
    assert sofadb("verify", tmp_path / "new")[0] == 0


def test_a_node_is_restored_among_the_members_that_are_named(file: Path, tmp_path: Path) -> None:
    code, text = sofadb("restore", file, "--dir", tmp_path / "d", "--id", "m1", "--cluster", "m2=h:1")
    assert (code, "m1 is not among the members" in text) == (2, True)
    code, text = sofadb("restore", file, "--dir", tmp_path / "d", "--id", "m1", "--peer-listen", "h:1")
    assert (code, "m1=h:1" in text) == (0, True)
    code, text = sofadb("restore", file, "--dir", tmp_path / "d", "--id", "m1")
    assert (code, "is not empty" in text) == (2, True)


def test_recovery_wants_to_hear_what_may_be_lost(directory: Path) -> None:
    code, text = sofadb("recover", "--dir", directory)
    assert code == 1
    assert "known      chosen up to instance 5" in text
    assert text.endswith("say --accept-loss 6..\n")
    assert sofadb("recover", "--dir", directory, "--accept-loss", "5..")[0] == 1
    code, text = sofadb("recover", "--dir", directory, "--accept-loss", "6..")
    assert code == 0
    assert f"{directory}.before-5" in text
    assert sofadb("verify", directory)[0] == 0
