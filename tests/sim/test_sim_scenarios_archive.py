"""The archiver on whole nodes: whoever leads archives, and an archive that is away costs nothing but time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from sim.stories import Stage
from sofadb.node.archive import Unavailable
from sofadb.node.archiving import Archiver
from sofadb.node.point_in_time import Archive, Point, state_at, verify_archive
from sofadb.node.verifying import Unsound
from sofadb.paxos import Settings
from sofadb.paxos.messages import Accept
from sofadb.storage.files import StorageError

SMALL_SEGMENT_BYTES = 16 << 10


class Memory:
    """A place that can be away."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.is_away = False

    def _ask(self) -> None:
        if self.is_away:
            raise Unavailable("no route to the archive")

    def names(self) -> list[str]:
        self._ask()
        return sorted(self.files)

    def read(self, name: str) -> Iterator[bytes]:
        self._ask()
        yield self.files[name]

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        data = b"".join(pieces)
        self._ask()
        assert self.files.setdefault(name, data) == data, "files of one name are the same"

    def folder(self, name: str) -> Memory:
        return self


class Archived:
    """A cluster whose nodes all archive."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.place = Memory()
        self.archivers: dict[str, Archiver] = {}
        for node in stage.names:
            self.attach(node)

    def attach(self, node: str) -> None:
        running = self.stage.cluster.machines[node].running
        identity = running.opened.identity
        self.cluster = identity.cluster
        archiver = Archiver(
            running.world, running.node, identity.cluster_owner, self.place, 0.5, asyncio.to_thread
        )
        archiver.start()
        running.archiver = self.archivers[node] = archiver

    def until_archived(self) -> int:
        """Wait until the leader has archived all that is applied; up to where that is."""
        stage = self.stage
        stage.until(
            lambda: (
                self.archivers[stage.leader].upto == stage.node(stage.leader).applied > 0
                and not self.archivers[stage.leader].problem
            )
        )
        return self.archivers[stage.leader].upto


def write(stage: Stage, first: int, last: int) -> None:
    talk = stage.connect(stage.leader)
    for number in range(first, last):
        assert talk.ask("SET", f"k{number}", "x" * 200) == "OK"
    talk.leave()


def check(archived: Archived, scratch: Path) -> bytes:
    """The archive is sound; the digest of where it ends."""
    archive = Archive(archived.place, archived.cluster, scratch)
    assert verify_archive(archive).damages == []
    return state_at(archive, Point()).node.database.digest()


def test_what_is_chosen_is_archived_and_after_a_failover_another_node_goes_on(tmp_path: Path) -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        archived = Archived(stage)
        write(stage, 0, 30)
        before = archived.until_archived()
        stage.kill(stage.leader)
        stage.until(lambda: bool(stage.leader))
        write(stage, 30, 60)
        assert archived.until_archived() > before
        assert check(archived, tmp_path) == stage.node(stage.leader).database.digest()


def test_an_archive_that_is_away_stops_nobody_and_is_caught_up_with(tmp_path: Path) -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        archived = Archived(stage)
        write(stage, 0, 10)
        archived.until_archived()
        archived.place.is_away = True
        write(stage, 10, 60)
        stage.until(lambda: archived.archivers[stage.leader].problem != "")
        assert "the archive falls behind: no route to the archive" in stage.ask(stage.leader, "SOFA.EXPLAIN")
        assert "archive_problem:no route" in stage.ask(stage.leader, "INFO", "persistence")
        write(stage, 60, 70)
        archived.place.is_away = False
        archived.until_archived()
        assert check(archived, tmp_path) == stage.node(stage.leader).database.digest()


def test_what_was_cut_while_the_archive_was_away_is_a_gap_that_a_snapshot_closes(tmp_path: Path) -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        archived = Archived(stage)
        write(stage, 0, 10)
        archived.until_archived()
        archived.place.is_away = True
        for number in range(4):
            write(stage, 100 * number, 100 * number + 100)
            stage.ask(stage.leader, "BGSAVE")
            stage.pass_time(1)
        archived.place.is_away = False
        archived.until_archived()
        archive = Archive(archived.place, archived.cluster, tmp_path)
        (damage,) = verify_archive(archive).damages
        assert "are missing; snapshot-" in damage
        assert state_at(archive, Point()).node.database.digest() == stage.node(stage.leader).database.digest()


def test_a_record_that_cannot_be_read_back_is_waited_over_until_a_snapshot_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        archived = Archived(stage)
        write(stage, 0, 10)
        upto = archived.until_archived()
        archiver = archived.archivers[stage.leader]
        journal = archiver.world.journal
        read = journal.read

        def read_but_one(key: int) -> bytes | None:
            if key == upto + 3:
                raise StorageError("rot")
            return read(key)

        monkeypatch.setattr(journal, "read", read_but_one)
        write(stage, 10, 20)
        stage.until(lambda: f"has no instance {upto + 3}" in archiver.problem)
        assert archiver.upto == upto + 2
        stage.ask(stage.leader, "BGSAVE")
        archived.until_archived()
        (damage,) = verify_archive(Archive(archived.place, archived.cluster, tmp_path)).damages
        assert f"instances {upto + 3} to" in damage


@pytest.mark.parametrize("seconds", [59, 61])
def test_an_archive_that_does_not_answer_is_told_after_a_minute(seconds: int) -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        archived = Archived(stage)
        write(stage, 0, 10)
        archived.until_archived()
        archiver = archived.archivers[stage.leader]

        async def never(*call: object) -> None:
            await asyncio.Event().wait()

        archiver._in_thread = never
        archiver._is_listed = False
        stage.pass_time(1)
        stage.pass_time(seconds - 1)
        assert bool(archiver.trouble()) == (seconds > 60)


def test_what_was_accepted_below_a_snapshot_from_elsewhere_is_not_archived(tmp_path: Path) -> None:
    """Two of five accepted a command that was never chosen; one of them goes on from another's snapshot, and leads."""
    forgetful = Settings(tail_bytes_max=2_000)
    with Stage(nodes=5, settings=forgetful, segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        archived = Archived(stage)
        write(stage, 0, 10)
        upto = archived.until_archived()
        archived.place.is_away = True
        former, behind, *rest = stage.leader, *stage.others(stage.leader)
        for name in rest:
            stage.lose(Accept, former, name)
        stage.connect(former).say(("SET", "k0", "never chosen"))
        stage.until(lambda: stage.node(behind).driver.replica.acceptor.accepted_upto > upto)
        stage.pass_time(0.05)
        stage.cut_between([former, behind], rest)
        stage.kill(former)
        stage.until(lambda: stage.leader in rest)
        for number in range(4):
            write(stage, 100 * number, 100 * number + 100)
            for name in rest:
                assert stage.ask(name, "BGSAVE") == "Background saving started"
            stage.pass_time(1)
        stage.cluster.heal_all()
        stage.assert_one_state()
        stage.node(stage.leader).hand_over(behind, 1_000)
        stage.until(lambda: stage.leader == behind)
        archived.place.is_away = False
        archived.until_archived()
        archive = Archive(archived.place, archived.cluster, tmp_path)
        (damage,) = verify_archive(archive).damages
        assert f"instances {upto + 1} to" in damage
        with pytest.raises(Unsound, match=f"--to-instance {upto}$"):
            state_at(archive, Point(upto + 1))
        assert state_at(archive, Point()).node.database.digest() == stage.node(behind).database.digest()
