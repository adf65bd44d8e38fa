"""Whose directory it is: what is refused, what is counted, and what is there after a crash."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from crc32c import crc32c

from sofadb.sim.disk import Crash, SimulatedDisk
from sofadb.storage import identity
from sofadb.storage.files import DiskFiles, StorageError
from sofadb.storage.identity import (
    Anew,
    Life,
    Newcomer,
    begin_anew,
    cluster_id,
    open_directory,
    told_to_begin_anew,
)

MEMBERS = {"n1": "127.0.0.1:17001", "n2": "127.0.0.1:17002", "n3": "127.0.0.1:17003"}


def started(path: Path, node: str = "n1", members: dict[str, str] | None = None) -> identity.Identity:
    opened = open_directory(path, node, members)
    opened.close()
    return opened.identity


def test_each_start_is_counted_and_the_first_members_stay(tmp_path: Path) -> None:
    first = started(tmp_path / "a" / "b", members=MEMBERS)
    assert (first.node, first.starts, first.members) == ("n1", 1, MEMBERS)
    assert started(tmp_path / "a" / "b").starts == 2
    third = started(tmp_path / "a" / "b", members={"n1": "elsewhere:1"})
    assert (third.starts, third.members, third.cluster) == (3, MEMBERS, first.cluster)


def test_nodes_agree_on_the_id_of_their_cluster(tmp_path: Path) -> None:
    backwards = dict(reversed(MEMBERS.items()))
    assert started(tmp_path / "1", "n1", MEMBERS).cluster == started(tmp_path / "2", "n2", backwards).cluster
    assert cluster_id(MEMBERS) != cluster_id({**MEMBERS, "n4": "127.0.0.1:17004"})


def test_as_owners_of_files_nodes_differ_and_their_cluster_is_one(tmp_path: Path) -> None:
    """A journal is one node's, a snapshot any node's of the cluster, and nobody else's."""
    one, two = started(tmp_path / "1", "n1", MEMBERS), started(tmp_path / "2", "n2", MEMBERS)
    other = started(tmp_path / "3", "n1", {"n1": "127.0.0.1:17001"})
    assert one.cluster_owner == two.cluster_owner
    owners = [one.owner, two.owner, one.cluster_owner, other.cluster_owner]
    assert len(set(owners)) == len(owners)
    assert all(0 <= owner < 1 << 64 for owner in owners)


@pytest.mark.parametrize("node", ["", "a b", "x" * 33, "n1/..", "n\n", "ü"])
def test_a_node_id_that_is_none_is_refused(tmp_path: Path, node: str) -> None:
    with pytest.raises(StorageError, match="no node id"):
        open_directory(tmp_path / "new", node, {node: "127.0.0.1:1"})
    assert not (tmp_path / "new").exists()


def test_the_directory_of_another_node_or_cluster_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    started(tmp_path, members=MEMBERS)
    before = (tmp_path / "identity").read_bytes()
    with pytest.raises(StorageError, match="directory of node n1, not of n2"):
        open_directory(tmp_path, "n2", MEMBERS)
    with pytest.raises(StorageError, match="belongs to cluster"):
        open_directory(tmp_path, "n1", None, cluster="0" * 16)
    assert (tmp_path / "identity").read_bytes() == before
    open_directory(tmp_path, "n1", None, cluster=cluster_id(MEMBERS)).close()


def test_a_second_process_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    opened = open_directory(tmp_path, "n1", MEMBERS)
    program = (
        "import sys; from pathlib import Path; from sofadb.storage.identity import open_directory\n"
        "try: open_directory(Path(sys.argv[1]), 'n1', None)\n"
        "except Exception as problem: print(problem)"
    )
    output = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert f"in use by another process (pid {os.getpid()})" in output.stdout
    opened.close()
    assert started(tmp_path).starts == 2


@pytest.mark.parametrize("file", ["journal-0000000000000001.seg", "spare-0000000000000001.seg"])
def test_a_journal_without_an_identity_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(b"")
    with pytest.raises(StorageError, match="no identity"):
        open_directory(tmp_path, "n1", MEMBERS)
    assert not (tmp_path / "identity").exists()


def test_an_identity_with_any_bit_flipped_or_cut_short_is_refused(tmp_path: Path) -> None:
    started(tmp_path, members=MEMBERS)
    whole = (tmp_path / "identity").read_bytes()
    for offset in range(len(whole) - 1):
        flipped = bytearray(whole)
        flipped[offset] ^= 1 << offset % 8
        for data in (flipped, whole[:offset]):
            (tmp_path / "identity").write_bytes(data)
            with pytest.raises(StorageError, match="identity is damaged"):
                open_directory(tmp_path, "n1", None)


def test_another_format_version_is_named(tmp_path: Path) -> None:
    started(tmp_path, members=MEMBERS)
    body = b'{"format": 9, "something": "new"}'
    (tmp_path / "identity").write_bytes(b"%08x\n" % crc32c(body) + body + b"\n")
    with pytest.raises(StorageError, match="format version 9"):
        open_directory(tmp_path, "n1", None)


def test_a_new_directory_needs_members_and_the_node_among_them(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="--cluster"):
        open_directory(tmp_path, "n1", None)
    with pytest.raises(StorageError, match="not among the members: n1, n2, n3"):
        open_directory(tmp_path, "n4", MEMBERS)
    # A refused start leaves no lock behind.
    assert started(tmp_path, members=MEMBERS).starts == 1


def test_the_first_directory_is_an_acceptor_by_the_nodes_own_name_and_another_by_one_of_its_own(
    tmp_path: Path,
) -> None:
    first = started(tmp_path / "1", members=MEMBERS)
    assert first.acceptor == "n1"
    contacts = {**MEMBERS, "n1~0123abcd": MEMBERS["n1"]}
    newcomer = Newcomer(first.cluster, "n1~0123abcd", MEMBERS, contacts)
    second = open_directory(tmp_path / "2", "n1", None, newcomer=newcomer)
    second.close()
    assert (second.identity.node, second.identity.acceptor) == ("n1", "n1~0123abcd")
    assert (second.identity.cluster, second.identity.members) == (first.cluster, MEMBERS)
    assert second.identity.owner != first.owner
    again = started(tmp_path / "2", members=MEMBERS)
    assert (again.acceptor, again.starts, again.contacts) == ("n1~0123abcd", 2, contacts)
    assert identity.plain_name("n1~0123abcd") == identity.plain_name("n1") == "n1"


def test_a_directory_of_no_use_is_set_aside_whole_wherever_the_machine_stops() -> None:
    """Either nothing has happened yet, or the next life is a newcomer's; never is half of the old one there."""
    anew = Anew("c", "n1", ["n2:1", "n3:1"])
    for operation in count(1):
        disk = SimulatedDisk()
        for name in ("identity", "journal-1.seg", "met"):
            file = disk.create(name)
            file.write([name.encode()], 0)
            file.sync()
        disk.sync_directory()
        disk.crash_at = disk.operations + operation
        try:
            begin_anew(disk, anew)
        except Crash:
            pass
        else:
            break
        for choose in (lambda number: True, lambda number: False, lambda number: number % 2 == 0):
            left = disk.survive(choose)
            if "anew" in left.names():
                assert told_to_begin_anew(left, Path("/")) == anew
                assert all(name == "anew" or name.endswith(".lost") for name in left.names())
            else:
                assert set(left.names()) - {"anew.new"} == {"identity", "journal-1.seg", "met"}
    assert operation > 5
    disk.crash_at = -1  # The next time only the latest rest is kept.
    disk.create("identity")
    begin_anew(disk, anew)
    assert disk.names() == ["anew", "identity.lost"]


@pytest.mark.parametrize("acceptor", ["n2", "n1~", "n1~0123ABCD", "n1~0123abcd0"])
def test_an_acceptor_that_cannot_be_that_of_the_node_is_refused(tmp_path: Path, acceptor: str) -> None:
    started(tmp_path, members=MEMBERS)
    written = (tmp_path / "identity").read_bytes().partition(b"\n")[2].strip()
    body = written.replace(b'"acceptor": "n1"', b'"acceptor": "%s"' % acceptor.encode())
    (tmp_path / "identity").write_bytes(b"%08x\n" % crc32c(body) + body + b"\n")
    with pytest.raises(StorageError, match="its acceptor is another node's"):
        open_directory(tmp_path, "n1", None)


def test_an_identity_from_before_acceptors_had_ids_is_that_of_a_first_directory(tmp_path: Path) -> None:
    started(tmp_path, members=MEMBERS)
    written = (tmp_path / "identity").read_bytes().partition(b"\n")[2].strip()
    body = written.replace(b'"acceptor": "n1",', b"")
    assert body != written
    (tmp_path / "identity").write_bytes(b"%08x\n" % crc32c(body) + body + b"\n")
    assert started(tmp_path).acceptor == "n1"


def test_a_start_that_was_killed_at_any_step_is_only_a_start_that_did_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    started(tmp_path, members=MEMBERS)
    starts = 1
    for step in ("create", "rename", "sync_directory"):

        def stop(*_: object) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(DiskFiles, step, stop)
            with pytest.raises(Killed):
                open_directory(tmp_path, "n1", None)
        again = started(tmp_path).starts
        assert again in (starts + 1, starts + 2)
        starts = again


def test_the_way_to_a_new_directory_is_synced_before_there_is_an_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a" / "b"
    synced: list[tuple[Path, bool]] = []
    sync = DiskFiles.sync_directory

    def watched(files: DiskFiles) -> None:
        synced.append((files.directory, (path / "identity").exists()))
        sync(files)

    monkeypatch.setattr(DiskFiles, "sync_directory", watched)
    started(path, members=MEMBERS)
    assert (tmp_path.resolve() / "a", False) in synced
    assert (tmp_path.resolve(), False) in synced
    assert synced[-1] == (path, True)
    synced.clear()
    started(path)
    assert synced == [(path, True)]


def test_a_path_that_is_a_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be made"):
        open_directory(tmp_path / "file", "n1", MEMBERS)


def test_each_life_has_an_id_of_its_own_and_a_directory_remembers_all_it_has_had(tmp_path: Path) -> None:
    lives = [started(tmp_path / "1", members=MEMBERS).life for _ in range(3)]
    assert [life.starts for life in lives] == [1, 2, 3]
    now = started(tmp_path / "1")
    assert all(now.remembers(life.id) for life in lives)
    other = started(tmp_path / "2", members=MEMBERS)
    assert not other.remembers(lives[0].id)
    assert not now.remembers(other.life.id)


def test_the_lives_that_are_remembered_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "LIVES_MAX", 3)
    lives = [started(tmp_path, members=MEMBERS).life for _ in range(5)]
    now = started(tmp_path)
    assert [now.remembers(life.id) for life in lives] == [False, False, False, True, True]


def test_whom_a_node_has_met_is_remembered_and_damage_to_that_is_named(tmp_path: Path) -> None:
    opened = open_directory(tmp_path, "n1", MEMBERS)
    assert opened.met == {}
    met = {"n2": Life(3, "abc"), "n3": Life(1, "def")}
    opened.remember({"n2": Life(2, "abb")})
    opened.remember(met)
    opened.close()
    opened = open_directory(tmp_path, "n1", None)
    assert opened.met == met
    opened.close()
    whole = (tmp_path / "met").read_bytes()
    for offset in range(0, len(whole) - 1, 3):
        (tmp_path / "met").write_bytes(whole[:offset] + bytes([whole[offset] ^ 4]) + whole[offset + 1 :])
        with pytest.raises(StorageError, match="met is damaged"):
            open_directory(tmp_path, "n1", None)


def test_a_lock_file_that_was_removed_lets_nobody_in(tmp_path: Path) -> None:
    opened = open_directory(tmp_path, "n1", MEMBERS)
    (tmp_path / "lock").unlink()
    with pytest.raises(StorageError, match="in use"):
        open_directory(tmp_path, "n1", MEMBERS)
    opened.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"format": 1}',
        b'{"format": 1, "cluster": 1, "node": 2}',
        b"\xff",
    ],
)
def test_an_identity_with_a_right_checksum_and_a_wrong_body_is_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "identity").write_bytes(b"%08x\n" % crc32c(body) + body + b"\n")
    with pytest.raises(StorageError, match="identity"):
        open_directory(tmp_path, "n1", MEMBERS)


def test_a_path_that_no_file_system_takes_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be made"):
        open_directory(tmp_path / "a\0b", "n1", MEMBERS)
