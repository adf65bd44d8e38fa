"""Every way in which a disk, a directory or what lies there can fail, put in on purpose: what is said, and what is not done.

Whoever gets an error from storage is a node that is about to end. So each story asks the same: is it a `StorageError` whose words
help a person, was nothing tried a second time, was nobody told that something is safe, and does the next life find
everything that an earlier one was told is safe?
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c

from sofadb.sim.disk import SimulatedDisk, SimulatedFile
from sofadb.storage import files as files_module
from sofadb.storage import identity as identity_module
from sofadb.storage.files import PAGE_BYTES, DiskFiles, StorageError
from sofadb.storage.identity import Life, Opened, begin_life, open_directory
from sofadb.storage.journal import Journal, KeyIndex
from sofadb.storage.segment import (
    BLOCK_HEADER_BYTES,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Record,
    Rot,
    read_block,
)
from sofadb.storage.writer import Writer
from sofadb.unlikely import choose_by, never

SEGMENT_BYTES = 16 << 10
MEMBERS = {"n1": "127.0.0.1:17001", "n2": "127.0.0.1:17002"}
PATIENCE_S = 30.0


class Calls:
    """The system calls of this process's storage, counted; the `fail_at`-th of them fails."""

    NAMES = (
        *("open", "close", "pread", "pwritev", "fstat", "fsync", "fdatasync"),
        *("listdir", "rename", "unlink", "mkdir", "flock"),
    )

    def __init__(self, patch: pytest.MonkeyPatch, fail_at: int = -1, problem: int = errno.EIO) -> None:
        self.made: list[str] = []
        self.fail_at = fail_at
        self.problem = problem
        self.failed = ""
        for name in ("fsync", "fdatasync"):  # Nothing here loses power, and waiting for disks takes time.
            patch.setattr(os, name, lambda descriptor: None)
        for name in self.NAMES:
            module = fcntl if name == "flock" else os
            patch.setattr(module, name, self._counted(name, getattr(module, name)))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.made.append(name)
            if len(self.made) != self.fail_at:
                return call(*args, **options)
            self.failed = name
            if name == "close":
                call(*args, **options)  # As Linux does it: the descriptor is gone, whatever is reported.
            raise OSError(self.problem, os.strerror(self.problem))

        return counted


def descriptors() -> list[str]:
    """What this process has open under the directories of tests."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue  # It was the one of the listing.
    return [path for path in found if "pytest" in path]


@pytest.fixture
def chosen() -> Iterator[list[str]]:
    """The unlikely that is to happen whenever it may, by name; afterwards nothing is."""
    points: list[str] = []
    choose_by(lambda point: point in points)
    yield points
    choose_by(never)


# The door


def test_a_failed_call_is_made_once_and_names_itself_the_file_and_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = DiskFiles(tmp_path)
    file = files.create("a")
    file.write([b"data"], 0)
    doings: dict[str, tuple[str, str, Callable[[], object]]] = {
        "open": ("open", "/a", lambda: files.open("a")),
        "pwritev": ("write", "/a", lambda: file.write([b"x"], 0)),
        "pread": ("read", "/a", lambda: file.read(4, 0)),
        "fdatasync": ("sync", "/a", file.sync),
        "fstat": ("look at", "/a", file.size),
        "listdir": ("list", "", files.names),
        "rename": ("rename", "/a", lambda: files.rename("a", "b")),
        "unlink": ("remove", "/a", lambda: files.remove("a")),
        "fsync": ("sync", "", files.sync_directory),
        "close": ("close", "/a", file.close),
    }
    for name, (doing, path, do) in doings.items():
        calls: list[object] = []

        def fail(*args: object, name: str = name, calls: list[object] = calls, **options: object) -> None:
            calls.append(args)
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(StorageError) as caught:
                do()
        assert str(caught.value).startswith(f"cannot {doing} {tmp_path}{path}: Input/output error; ")
        assert "look into the kernel's log" in str(caught.value)
        assert isinstance(caught.value.__cause__, OSError)
        assert len(calls) == 1, name
    assert files.names() == ["a"]


def test_a_directory_that_cannot_be_synced_is_closed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(descriptors())
    for fail_at in (1, 2, 3):  # Opening it, syncing it, closing it.
        with monkeypatch.context() as patch:
            Calls(patch, fail_at)
            with pytest.raises(StorageError, match="cannot sync"):
                DiskFiles(tmp_path).sync_directory()
        assert len(descriptors()) == before


def test_a_descriptor_that_could_not_be_closed_is_not_closed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may be another file's by then."""
    file = DiskFiles(tmp_path).create("a")
    with monkeypatch.context() as patch:
        calls = Calls(patch, fail_at=1)
        with pytest.raises(StorageError, match="cannot close"):
            file.close()
        file.close()
        assert calls.made == ["close"]


@pytest.mark.parametrize("problem", [OSError(errno.ELOOP, "Too many levels"), OSError("something odd")])
def test_where_there_is_no_remedy_the_systems_words_stand_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: OSError
) -> None:
    def fail(*_: object) -> None:
        raise problem

    monkeypatch.setattr(files_module.os, "listdir", fail)
    with pytest.raises(StorageError) as caught:
        DiskFiles(tmp_path).names()
    assert str(caught.value) == f"cannot list {tmp_path}: {problem.strerror or problem}"


class Past:
    """Lives of a journal in one real directory, and what they were told is stable."""

    def __init__(self, directory: Path) -> None:
        self.files = DiskFiles(directory)
        self.told: list[tuple[int, bytes]] = []
        self.journal: Journal | None = None
        """The last one that came as far as writing."""

    def live(self, keys: range) -> None:
        """Read everything back, append through several segments, read, give up some, prepare, prove, close."""
        journal = Journal.open(self.files, SEGMENT_BYTES)
        assert list(journal.recover()) == self.told
        self.journal = journal
        for key in keys:
            journal.append([Record(key, [b"%d," % key * 800])])
            self.told.append((key, b"%d," % key * 800))
        assert journal.read(keys[0]) == b"%d," % keys[0] * 800
        journal.cut(keys[len(keys) // 2])
        journal.give_back()
        journal.prepare()
        journal.mark()
        journal.close()


def test_whichever_system_call_of_a_journal_fails_it_is_said_nothing_follows_and_nothing_told_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enumerated, on a real directory."""
    failed: set[str] = set()
    for fail_at in itertools.count(1):
        directory = tmp_path / str(fail_at)
        directory.mkdir()
        past, words = Past(directory), ""
        with monkeypatch.context() as patch:
            Calls(patch)
            past.live(range(1, 4))
        past.journal = None
        with monkeypatch.context() as patch:
            calls = Calls(patch, fail_at)
            try:
                past.live(range(4, 10))
            except StorageError as problem:
                words = str(problem)
            if not calls.failed:
                break
            is_got_over = calls.failed == "pread" and not words  # Page by page it could be read.
            assert is_got_over or "cannot " in words
            assert is_got_over or str(directory) in words
            if past.journal is not None and past.journal.failure is not None:
                made = len(calls.made)
                with pytest.raises(StorageError) as again:
                    past.journal.append([Record(99, [b"the disk would take it"])])
                assert str(again.value) == words
                assert len(calls.made) == made, "the dead journal asks the disk for nothing any more"
        failed.add(calls.failed)
        journal = Journal.open(past.files, SEGMENT_BYTES)
        found = list(journal.recover())
        journal.close()
        first = found[0][0] if journal.is_cut else 1
        assert first <= 7, "no more was given up than might be"
        told = [record for record in past.told if record[0] >= first]
        assert found[: len(told)] == told, f"lost when call {fail_at}, {calls.failed}, failed"
        assert len(found) <= len(told) + 1, "beside it at most what was under way"
    assert failed == {*Calls.NAMES} - {"mkdir", "flock"}


# Whose directory it is


def test_whichever_system_call_of_a_start_fails_it_is_said_and_the_directory_is_as_good_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is raised is a `StorageError` and nothing else; the lock is free; whom it has met is not forgotten."""
    met = {"n2": Life(3, "abc")}
    path = tmp_path / "data"
    before = open_directory(path, "n1", MEMBERS)
    before.remember(met)
    before.close()
    starts = before.identity.starts
    failed: set[str] = set()
    for fail_at in itertools.count(1):
        started, words = None, str(path)
        with monkeypatch.context() as patch:
            calls = Calls(patch, fail_at)
            try:
                started = open_directory(path, "n1", MEMBERS)
            except StorageError as problem:
                words = str(problem)
        assert str(path) in words
        if started is not None:
            started.close()
        if not calls.failed:
            break
        failed.add(calls.failed)
        again = open_directory(path, "n1", None)
        again.close()
        assert again.met == met
        assert again.identity.starts > starts, (
            "a start that failed late may have been counted; none is counted twice"
        )
        starts = again.identity.starts
    assert {"mkdir", "open", "flock", "listdir", "pread", "pwritev", "fdatasync", "rename", "fsync"} <= failed


def test_whichever_system_call_fails_while_it_is_written_down_whom_a_node_met_the_old_or_the_new_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = {"n2": Life(3, "abc")}, {"n2": Life(4, "def")}
    for fail_at in itertools.count(1):
        started = open_directory(tmp_path, "n1", MEMBERS)
        started.remember(old)
        words = str(tmp_path)
        with monkeypatch.context() as patch:
            calls = Calls(patch, fail_at)
            try:
                started.remember(new)
            except StorageError as problem:
                words = str(problem)
        assert str(tmp_path) in words
        started.close()
        found = open_directory(tmp_path, "n1", None)
        found.close()
        if not calls.failed:
            break
        assert found.met in (old, new)
    assert found.met == new
    assert fail_at > 5


def fail_with(problem: int) -> Callable[..., None]:
    def fail(*_: object, **options: object) -> None:
        raise OSError(problem, os.strerror(problem))

    return fail


@pytest.mark.parametrize(
    ("module", "name", "problem", "words"),
    [
        (os, "open", errno.EMFILE, "cannot be opened: Too many open files"),
        (fcntl, "flock", errno.ENOLCK, "cannot be locked: No locks available"),
        (Path, "write_bytes", errno.ENOSPC, "cannot be locked: No space left on device"),
    ],
    ids=["no descriptor is left", "a file system without locks", "no room for the process id"],
)
def test_a_directory_that_cannot_be_locked_is_not_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, name: str, problem: int, words: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, name, fail_with(problem))
        with pytest.raises(StorageError, match=words):
            open_directory(tmp_path, "n1", MEMBERS)
    assert "identity" not in os.listdir(tmp_path)
    open_directory(tmp_path, "n1", MEMBERS).close()


class OtherSystem:
    """What a module takes for `os`: some calls are others there, the rest is as it is."""

    def __init__(self, **instead: Callable[..., Any]) -> None:
        self.__dict__.update(instead)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def synced_on_the_way(
    path: Path, monkeypatch: pytest.MonkeyPatch, **instead: Callable[..., Any]
) -> list[Path]:
    """Which directories above are synced when a first life begins at `path`, on such a system."""
    synced: list[Path] = []
    monkeypatch.setattr(DiskFiles, "sync_directory", lambda files: synced.append(files.directory))
    monkeypatch.setattr(identity_module, "os", OtherSystem(**instead))
    open_directory(path, "n1", MEMBERS).close()
    assert (path / "identity").exists()
    return [each for each in synced if each != path]


def test_the_way_to_a_directory_ends_where_we_have_no_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What we may not change, we have not made."""
    above = tmp_path.resolve()
    access = lambda where, mode: where != above  # noqa: E731
    assert synced_on_the_way(above / "a" / "b", monkeypatch, access=access) == [above / "a"]


def test_the_way_to_a_directory_ends_at_the_border_of_its_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above = tmp_path.resolve()

    def stat(where: Path) -> os.stat_result:
        found = os.stat(where)
        return os.stat_result((*found[:2], found.st_dev + (where == above), *found[3:]))

    assert synced_on_the_way(above / "a" / "b", monkeypatch, stat=stat) == [above / "a"]


@pytest.mark.parametrize("problem", [errno.EACCES, errno.EPERM])
def test_a_way_that_we_may_not_even_look_at_was_not_made_by_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: int
) -> None:
    above = tmp_path.resolve()

    def stat(where: Path) -> os.stat_result:
        if where == above:
            raise OSError(problem, os.strerror(problem))
        return os.stat(where)

    assert synced_on_the_way(above / "a" / "b", monkeypatch, stat=stat) == [above / "a"]


@pytest.mark.parametrize("call", ["stat", "fsync"])
def test_a_way_that_cannot_be_made_durable_is_no_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """With the power, the whole directory and every promise in it would be gone."""
    path = tmp_path / "a" / "b"
    with monkeypatch.context() as patch:
        if call == "stat":
            patch.setattr(identity_module, "os", OtherSystem(stat=fail_with(errno.EIO)))
        else:
            patch.setattr(files_module.os, "fsync", fail_with(errno.EIO))
        words = {"stat": f"the way to {path} cannot be looked at", "fsync": f"cannot sync {tmp_path}"}
        with pytest.raises(StorageError, match=words[call]):
            open_directory(path, "n1", MEMBERS)
    assert os.listdir(path) == ["lock"], "no life has begun"


def checked(body: bytes) -> bytes:
    """A small file of the directory, with a right checksum."""
    return b"%08x\n" % crc32c(body) + body + b"\n"


@pytest.mark.parametrize(
    "wrong",
    [
        *(b'"cluster": 7', b'"node": null', b'"lives": ["a"]', b'"starts": "3"', b'"starts": true'),
        *(b'"members": {"n1": 7}', b'"members": ["n1"]', b'"more": 1'),
    ],
)
def test_an_identity_whose_fields_are_of_the_wrong_type_is_refused(tmp_path: Path, wrong: bytes) -> None:
    whole = (
        b'{"format": 1, "cluster": "c", "node": "n1", "starts": 1, "lives": "", "members": {"n1": "a:1"}, %b}'
    )
    (tmp_path / "identity").write_bytes(checked(whole % b'"starts": 1'))
    open_directory(tmp_path, "n1", None).close()
    (tmp_path / "identity").write_bytes(checked(whole % wrong))
    with pytest.raises(StorageError, match="identity cannot be understood"):
        open_directory(tmp_path, "n1", None)


@pytest.mark.parametrize("body", [b"[]", b"7", b'{"n2": 7}', b'{"n2": []}', b'{"n2": ["x", "abc"]}', b"{"])
def test_a_memory_of_others_that_cannot_be_understood_is_no_empty_one(tmp_path: Path, body: bytes) -> None:
    """Else an earlier life of a peer, or an emptied one, would be listened to again."""
    open_directory(tmp_path, "n1", MEMBERS).close()
    (tmp_path / "met").write_bytes(checked(body))
    before = (tmp_path / "identity").read_bytes()
    with pytest.raises(StorageError, match="met cannot be understood"):
        open_directory(tmp_path, "n1", None)
    assert (tmp_path / "identity").read_bytes() == before, "no life has begun"


def test_a_directory_without_a_lock_is_closed_without_one() -> None:
    """As the laboratory has them."""
    disk = SimulatedDisk()
    started: Opened = begin_life(disk, Path("/n1"), "n1", MEMBERS, new_life=lambda: "0" * 16)
    started.close()
    assert disk.open_files == 0


# What lies there


def written(count: int, size: int = 100, mark: bool = False) -> tuple[SimulatedDisk, Journal]:
    """A disk with `count` blocks of one record each."""
    disk = SimulatedDisk()
    journal = Journal.open(disk, SEGMENT_BYTES)
    assert list(journal.recover()) == []
    for key in range(1, count + 1):
        journal.append([Record(key, [bytes([key]) * size])])
    if mark:
        journal.mark()
    return disk, journal


def put(disk: SimulatedDisk, name: str, offset: int, data: bytes) -> None:
    """Something else stands on the disk than was written."""
    for content in (disk.latest[name].latest, disk.latest[name].stable):
        content[offset : offset + len(data)] = data


def recovered(disk: SimulatedDisk) -> list[int]:
    return [key for key, _ in Journal.open(disk, SEGMENT_BYTES).recover()]


def test_damage_with_a_whole_block_behind_it_is_rot_though_no_mark_says_so() -> None:
    """The later block was written after the earlier one's sync had returned, and somebody may have been told of that."""
    disk, journal = written(5)
    segment = journal.segments[0]
    block = (segment.end - SEGMENT_HEADER_BYTES) // 5
    second, third = SEGMENT_HEADER_BYTES + block, SEGMENT_HEADER_BYTES + 2 * block
    disk.flip(segment.name, second + BLOCK_HEADER_BYTES + RECORD_HEADER_BYTES)
    with pytest.raises(Rot, match=f"the one at {third} proves that there was") as caught:
        recovered(disk)
    assert caught.value.offset == second
    assert "after the record of instance 1" in str(caught.value)


@pytest.mark.parametrize("size", [0, SEGMENT_HEADER_BYTES + PAGE_BYTES, (1 << 31) + 1, 1 << 63])
def test_a_header_that_claims_a_size_that_no_segment_has_is_rot(size: int) -> None:
    """Its checksum fits: it was written so, by a mistake or on purpose. No memory is reserved for it."""
    disk, journal = written(1)
    segment = journal.segments[0]
    put(disk, segment.name, 0, segment.header._replace(size=size).encode())
    with pytest.raises(Rot, match=f"{segment.name} is damaged .* it claims a size of {size} bytes"):
        recovered(disk)
    assert disk.open_files == 1, "only the one of the life before"


def test_a_segment_under_the_name_of_another_is_not_taken_for_it() -> None:
    """Somebody has put files back by hand, and has changed their places."""
    disk, _ = written(200)
    first, second, *_ = sorted(name for name in disk.latest if name.startswith("journal-"))
    disk.latest[first], disk.latest[second] = disk.latest[second], disk.latest[first]
    generation = int(second.removeprefix("journal-").removesuffix(".seg"), 16)
    words = f"{first} is damaged .* it is of generation {generation}, not what its name says"
    with pytest.raises(Rot, match=words):
        recovered(disk)


def test_a_record_whose_rotten_size_swallows_the_header_of_the_next_ends_no_block() -> None:
    """The size fits into the block, and the next record's header does not any more."""
    disk, journal = written(0)
    journal.append([Record(1, [b"a" * 40]), Record(2, [b"b" * 40])])
    end = journal.segments[0].end
    journal.append([Record(3, [b"c"])])
    segment = journal.segments[0]
    size_at = SEGMENT_HEADER_BYTES + BLOCK_HEADER_BYTES + 8
    assert int.from_bytes(disk.latest[segment.name].latest[size_at : size_at + 4], "big") == 40
    put(disk, segment.name, size_at, (40 + RECORD_HEADER_BYTES + 30).to_bytes(4, "big"))
    with_nothing_behind = memoryview(disk.latest[segment.name].latest)[:end]
    assert read_block(with_nothing_behind, segment.header, SEGMENT_HEADER_BYTES) is None
    with pytest.raises(Rot, match=f"damaged at offset {SEGMENT_HEADER_BYTES}"):
        recovered(disk)


class DeafDisk(SimulatedDisk):
    """A disk whose reads fail, once `is_deaf`."""

    is_deaf = False

    def open(self, name: str) -> SimulatedFile:
        disk = self

        class File(SimulatedFile):
            def read(self, size: int, offset: int) -> bytes:
                if disk.is_deaf:
                    raise StorageError(f"cannot read {self.name}: Input/output error")
                return super().read(size, offset)

        return File(self, name, self.latest[name])


def test_a_record_that_cannot_be_read_back_is_no_missing_record_and_hurts_no_other() -> None:
    """To whom it is to be taught, None would say that there is nothing. Writing goes on: that is for the node to decide."""
    disk = DeafDisk()
    journal = Journal.open(disk, SEGMENT_BYTES)
    assert list(journal.recover()) == []
    journal.append([Record(1, [b"one"])])
    disk.is_deaf = True
    with pytest.raises(StorageError, match="cannot read journal-"):
        journal.read(1)
    disk.is_deaf = False
    assert journal.read(1) == b"one"
    journal.append([Record(2, [b"two"])])
    assert journal.read(2) == b"two"


def test_a_log_that_cannot_be_read_is_not_an_empty_one() -> None:
    disk = DeafDisk()
    journal = Journal.open(disk, SEGMENT_BYTES)
    assert list(journal.recover()) == []
    journal.append([Record(1, [b"one"])])
    journal.close()
    disk.is_deaf = True
    with pytest.raises(Rot, match=rf"{journal.segments[0].name} is damaged at offset 0: cannot read"):
        recovered(disk)
    disk.is_deaf = False
    journal = Journal.open(disk, SEGMENT_BYTES)
    disk.is_deaf = True
    with pytest.raises(Rot, match="cannot read"):
        list(journal.recover())
    with pytest.raises(AssertionError, match="a log that was not read"):
        journal.append([Record(2, [b"two"])])
    with pytest.raises(AssertionError, match="a log that was not read"):
        journal.mark()
    assert disk.open_files == 0


def test_a_journal_that_was_never_written_to_proves_nothing_and_closes() -> None:
    disk, journal = written(0)
    journal.mark()
    journal.close()
    assert disk.operations == 0
    assert disk.open_files == 0


def test_what_is_proven_already_is_not_proven_again() -> None:
    disk, journal = written(2, mark=True)
    operations = disk.operations
    journal.mark()
    assert disk.operations == operations


def test_keys_may_come_in_any_order_and_are_forgotten_from_below() -> None:
    """A new leader fills the gap below what it has accepted already."""
    index = KeyIndex()
    index.cut(7)
    assert index.get(7) is None
    for key in (5, 3, 9, 4):
        index.put(key, 1, 100 + key)
    index.cut(2)
    assert [index.get(key) for key in (2, 3, 4, 5, 6, 9, 10)] == [
        *(None, (1, 103), (1, 104), (1, 105)),
        *(None, (1, 109), None),
    ]
    index.cut(5)
    assert [index.get(key) for key in (3, 4, 5, 9)] == [None, None, (1, 105), (1, 109)]


def test_a_reader_that_was_forgotten_is_opened_anew_and_its_descriptor_given_back(chosen: list[str]) -> None:
    disk, journal = written(3)
    assert journal.read(1) == b"\1" * 100
    chosen.append("reader forgotten")
    before = disk.open_files
    for _ in range(50):
        assert journal.read(2) == b"\2" * 100
    assert disk.open_files == before


# The disk thread


NO_SPARE = "create spare-0000000000000003.seg failed: EIO"
"""What is said when the first segment is in use and the next one cannot be prepared."""


class Desk:
    """A writer on a simulated disk, by hand or as a thread; what it told, in order."""

    def __init__(self, disk: SimulatedDisk | None = None, prepared: bool = True) -> None:
        self.disk = disk or SimulatedDisk()
        self.journal = Journal.open(self.disk, SEGMENT_BYTES)
        assert list(self.journal.recover()) == []
        self.journal.append([Record(0, [b"first"])])
        if prepared:
            self.journal.prepare()
        self.told: list[object] = []
        self.has_failed = threading.Event()
        self.writer = Writer(self.journal, self._notify, self._failed, mark_after_s=0.0)

    def _notify(self, callbacks: list[Callable[[], None]]) -> None:
        for callback in callbacks:
            callback()

    def _failed(self, failure: StorageError) -> None:
        self.told.append(str(failure))
        self.has_failed.set()

    def save(self, number: int, size: int = 10) -> None:
        records = [Record(number, [bytes([number]) * size])] if size else []
        self.writer.save(records, lambda: self.told.append(number))

    def turn(self) -> bool:
        """What the thread would do once."""
        return self.writer.work(self.writer._take(0.0))


def test_nothing_is_told_of_a_block_that_is_stable_when_the_next_segment_could_not_be_prepared_meanwhile() -> (
    None
):
    """The process is about to end; an answer that left now would leave from a node whose disk is not to be trusted."""
    desk = Desk(prepared=False)
    append = desk.journal.append

    def append_while_the_other_thread_fails(records: list[Record]) -> None:
        append(records)
        desk.disk.fail_next["create"] = errno.EIO
        desk.writer.prepare()

    desk.journal.append = append_while_the_other_thread_fails  # type: ignore[method-assign, assignment]
    desk.save(1)
    desk.save(2)
    assert not desk.turn(), "the thread ends"
    desk.save(3)
    assert desk.told == [NO_SPARE]
    assert desk.writer._take(0.0).callbacks == []


def test_a_barrier_is_not_told_either() -> None:
    """It waits for nothing on the disk, and yet for a disk that works."""
    desk = Desk(prepared=False)
    desk.save(1, size=0)
    taken = desk.writer._take(0.0)
    desk.disk.fail_next["create"] = errno.EIO
    desk.writer.prepare()
    assert not desk.writer.work(taken)
    assert desk.told == [NO_SPARE]


def test_a_failure_that_both_threads_meet_is_told_once() -> None:
    """One could not prepare the next segment; the other finds the journal dead, at its next block or mark."""
    for has_saved in (True, False):
        desk = Desk(prepared=False)
        desk.writer._unproven = True
        desk.disk.fail_next["create"] = errno.EIO
        if has_saved:
            desk.save(1)
        taken = desk.writer._take(0.0)
        desk.writer.prepare()
        with desk.writer._any_failure_ends_all():
            desk.writer.work(taken)
        assert desk.told == [NO_SPARE]


@pytest.mark.parametrize("what", ["write", "sync"])
def test_a_mark_that_cannot_be_written_ends_all(what: str) -> None:
    """The log was quiet, nobody waited; and yet it is a disk that failed."""
    desk = Desk()
    desk.save(1)
    assert desk.turn()
    desk.disk.fail_next[what] = errno.EIO
    with desk.writer._any_failure_ends_all():
        desk.turn()
    operations = desk.disk.operations
    desk.save(2)
    desk.writer.start()
    desk.writer.close()
    (told, failure) = desk.told
    assert told == 1
    assert str(failure).endswith("failed: EIO")
    assert desk.disk.operations == operations, "closing proves nothing any more"


def test_closing_on_a_disk_that_fails_tells_nobody_that_anything_is_safe_and_comes_to_an_end() -> None:
    desk = Desk()
    desk.disk.fail_next["sync"] = errno.EIO
    desk.save(1)
    desk.writer.start()
    desk.writer.close()
    (failure,) = desk.told
    assert "EIO" in str(failure)


def test_a_block_of_one_save_tells_each_as_soon_as_it_is_stable_and_in_order(chosen: list[str]) -> None:
    chosen.append("block of one save")
    desk = Desk()
    for number in (1, 2, 3):
        desk.save(number)
    for number in (1, 2, 3):
        assert desk.turn()
        assert desk.told == list(range(1, number + 1))


def test_a_segment_that_nobody_prepared_is_made_when_it_is_needed(chosen: list[str]) -> None:
    """The block waits for its zeros, and is as safe as any other."""
    chosen.append("nothing prepared")
    desk = Desk(prepared=False)
    desk.writer.prepare()
    assert desk.journal.spares == {}
    for number in range(1, 40):
        desk.save(number, size=1000)
        assert desk.turn()
    assert len(desk.journal.segments) > 2
    assert desk.told == list(range(1, 40))
    found = Journal.open(desk.disk.survive(lambda n: False), SEGMENT_BYTES)
    assert [key for key, _ in found.recover() if key] == list(range(1, 40))
