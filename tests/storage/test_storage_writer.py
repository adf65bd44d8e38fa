"""The disk thread: what is answered, in which order, and what is never answered."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest

from sofadb.sim.disk import SimulatedDisk
from sofadb.storage.files import StorageError
from sofadb.storage.journal import Journal
from sofadb.storage.segment import SEGMENT_HEADER_BYTES, Record
from sofadb.storage.writer import BLOCK_BYTES, Writer

NEVER_S = 3600.0
PATIENCE_S = 30.0


class Gate(SimulatedDisk):
    """A disk whose syncs wait until they are let through, once `is_shut`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_shut = False
        self.waiting = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def count(self, what: str, name: str) -> None:
        if self.is_shut and what == "sync":
            self.waiting.release()
            assert self.let.acquire(timeout=PATIENCE_S)
        super().count(what, name)

    def wait_for_sync(self) -> None:
        assert self.waiting.acquire(timeout=PATIENCE_S)


class Office:
    """A writer on a simulated disk, and everything that it told us."""

    def __init__(self, disk: SimulatedDisk | None = None, mark_after_s: float = NEVER_S) -> None:
        self.disk = disk or SimulatedDisk()
        self.journal = Journal.open(self.disk, SEGMENT_HEADER_BYTES + (1 << 16))
        assert list(self.journal.recover()) == []
        self.journal.append([Record(0, [b"first"])])
        self.journal.prepare()
        self.blocks: list[list[int]] = []
        self.failures: list[StorageError] = []
        self.has_failed = threading.Event()
        self._done: list[int] = []
        self.writer = Writer(self.journal, self._notify, self._failed, mark_after_s)
        self.writer.start()

    def _notify(self, callbacks: list[Callable[[], None]]) -> None:
        self._done = []
        for callback in callbacks:
            callback()
        self.blocks.append(self._done)

    def _failed(self, failure: StorageError) -> None:
        self.failures.append(failure)
        self.has_failed.set()

    def save(self, number: int, size: int = 10) -> None:
        records = [Record(number, [bytes([number]) * size])] if size else []
        self.writer.save(records, lambda: self._done.append(number))

    def found(self) -> list[int]:
        """The keys that would be there if the power failed now."""
        journal = Journal.open(self.disk.survive(lambda n: False), self.journal.segment_bytes)
        return [key for key, _ in journal.recover() if key]


def test_everything_that_arrives_during_a_sync_becomes_one_block_in_order() -> None:
    gate = Gate()
    office = Office(gate)
    gate.is_shut = True
    office.save(1)
    gate.wait_for_sync()
    for number in range(2, 20):
        office.save(number)
    assert office.blocks == []
    assert office.found() == []
    blocks = office.journal.blocks
    gate.is_shut = False
    gate.let.release()
    office.writer.close()
    assert office.blocks == [[1], list(range(2, 20))]
    assert office.journal.blocks == blocks + 2
    assert office.found() == list(range(1, 20))


def test_a_callback_comes_only_after_the_sync() -> None:
    office = Office()
    seen: list[list[int]] = []
    office.writer.save([Record(5, [b"x"])], lambda: seen.append(office.found()))
    office.writer.close()
    assert seen == [[5]]


def test_an_empty_save_waits_for_those_before_it_and_syncs_nothing_itself() -> None:
    gate = Gate()
    office = Office(gate)
    gate.is_shut = True
    office.save(1)
    gate.wait_for_sync()
    office.save(2, size=0)
    gate.is_shut = False
    syncs = office.journal.syncs
    gate.let.release()
    office.writer.close()
    assert office.blocks == [[1], [2]]
    # The block of the first save, and the mark of closing.
    assert office.journal.syncs == syncs + 2


def test_a_block_ends_at_the_border_of_a_save_before_it_grows_too_large() -> None:
    gate = Gate()
    office = Office(gate)
    gate.is_shut = True
    office.save(1)
    gate.wait_for_sync()
    office.save(2, size=BLOCK_BYTES // 2)
    office.save(3, size=BLOCK_BYTES // 2)
    office.save(4, size=1)
    office.save(5, size=BLOCK_BYTES + 1)
    office.save(6, size=1)
    gate.is_shut = False
    gate.let.release()
    office.writer.close()
    assert office.blocks == [[1], [2, 3], [4], [5], [6]]
    assert office.found() == [1, 2, 3, 4, 5, 6]


def test_pending_bytes_are_those_that_are_not_stable_yet() -> None:
    gate = Gate()
    office = Office(gate)
    gate.is_shut = True
    office.save(1, size=100)
    gate.wait_for_sync()
    office.save(2, size=50)
    assert office.writer.pending_bytes == 150
    gate.is_shut = False
    gate.let.release()
    office.writer.close()
    assert office.writer.pending_bytes == 0


@pytest.mark.parametrize("operation", [1, 2])
def test_after_a_failure_nobody_is_answered_and_nothing_is_tried_again(operation: int) -> None:
    gate = Gate()
    office = Office(gate)
    gate.is_shut = True
    office.save(1)
    gate.wait_for_sync()
    gate.fail_at = {gate.operations + operation: errno.EIO}
    office.save(2)
    gate.is_shut = False
    gate.let.release()
    assert office.has_failed.wait(PATIENCE_S)
    operations = gate.operations
    office.save(3)
    office.save(4, size=0)
    office.writer.close()
    assert office.blocks == ([] if operation == 1 else [[1]])
    assert len(office.failures) == 1
    assert gate.operations == operations


def test_a_failure_while_preparing_is_told_once_and_ends_everything() -> None:
    disk = Gate()
    office = Office(disk)

    def fail(rest_s: float) -> None:
        raise StorageError("the disk is full")

    office.journal.prepare = fail  # type: ignore[method-assign]
    office.journal.spares.clear()
    office.save(1, size=1 << 15)
    assert office.has_failed.wait(PATIENCE_S)
    office.save(2)
    office.writer.close()
    assert [str(failure) for failure in office.failures] == ["the disk is full"]
    assert all(2 not in block for block in office.blocks)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_mistake_while_preparing_is_a_failure_and_no_silence() -> None:
    office = Office(Gate())

    def fail(rest_s: float) -> None:
        raise MemoryError

    office.journal.prepare = fail  # type: ignore[method-assign]
    office.journal.spares.clear()
    office.save(1, size=1 << 15)
    assert office.has_failed.wait(PATIENCE_S)
    assert "MemoryError" in str(office.failures[0])
    office.writer.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_mistake_in_the_thread_is_a_failure_and_no_silence() -> None:
    office = Office()
    office.writer.save([Record(-1, [b"no such key"])], lambda: None)
    assert office.has_failed.wait(PATIENCE_S)
    office.writer.close()
    assert "mistake" in str(office.failures[0])
    assert office.blocks == []


def test_a_quiet_log_is_marked_and_only_once() -> None:
    office = Office(mark_after_s=0.0)
    marked = threading.Event()
    mark = office.journal.mark

    def watched() -> None:
        mark()
        marked.set()

    office.journal.mark = watched  # type: ignore[method-assign]
    office.save(1)
    assert marked.wait(PATIENCE_S)
    syncs = office.journal.syncs
    assert office.journal.segments[-1].mark.end == office.journal.segments[-1].end
    office.writer.close()
    assert office.journal.syncs == syncs


def test_closing_writes_what_waits_proves_it_and_closes_the_files() -> None:
    office = Office()
    for number in range(1, 10):
        office.save(number)
    office.writer.close()
    assert [number for block in office.blocks for number in block] == list(range(1, 10))
    segment = office.journal.segments[-1]
    assert segment.mark.end == segment.end
    assert office.disk.open_files == 0
    office.save(11)
    assert office.found() == list(range(1, 10))


def test_the_next_segment_is_prepared_before_it_is_needed() -> None:
    office = Office()
    office.journal.spares.clear()
    prepared = threading.Event()
    prepare = office.journal.prepare

    def watched(rest_s: float) -> None:
        prepare(rest_s)
        prepared.set()

    office.journal.prepare = watched  # type: ignore[method-assign]
    office.save(1, size=1 << 15)
    assert prepared.wait(PATIENCE_S)
    assert len(office.journal.segments) == 1
    assert len(office.journal.spares) == 1
    office.writer.close()
