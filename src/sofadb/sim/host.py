"""A machine of the laboratory: a process's event loop, a simulated disk, clocks that may be wrong, seeded chance.

It stands where `LiveHost` stands in production. The disk thread is the production `Writer` without its threads: a block is taken,
written and told of by the same lines, but when is said by the simulation. A block's writing begins after the latency
of the disk; between the writing and the telling, other things happen. Whatever stops the process or the machine
stops the writer between two of these, or, by the disk itself, between any two operations of one block.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from sofadb.paxos import Moment
from sofadb.storage.files import StorageError
from sofadb.storage.identity import Anew, Identity, Newcomer, Opened, begin_life, told_to_begin_anew
from sofadb.storage.journal import Journal
from sofadb.storage.writer import MARK_AFTER_S, PREPARE_AGAIN_S, Asked, Callback, Taken, Writer

from .disk import Crash, SimulatedDisk
from .loop import ProcessLoop

EPOCH_MS = 1_700_000_000_000
"""What a right clock shows when the simulation begins, in milliseconds since 1970."""


def _nothing() -> None:
    pass


class Exit(BaseException):
    """The simulated process has ended itself."""


class Clock:
    """A machine's wall clock: right, but for what is done to it. (The monotonic one is its event loop's.)"""

    def __init__(self, loop: ProcessLoop) -> None:
        self.loop = loop
        self.offset_ms = 0

    def read(self) -> int:
        return EPOCH_MS + int((self.loop.time() + self.loop.slept_s) * 1000) + self.offset_ms


class SimulatedWriter(Writer):
    """The disk thread, with the simulation in the place of the thread."""

    def __init__(
        self,
        loop: ProcessLoop,
        delay_s: Callable[[], float],
        journal: Journal,
        notify: Callable[[list[Callback]], None],
        failed: Callable[[StorageError], None],
    ) -> None:
        super().__init__(journal, notify, failed)
        self.loop = loop
        self.delay_s = delay_s
        self._is_busy = False
        self._is_preparing = False

    def start(self) -> None:
        """There is no thread."""

    def _ask(self, asked: Asked) -> None:
        super()._ask(asked)
        if not self._is_busy:
            self._is_busy = True
            self.loop.call_later(self.delay_s(), self._turn)

    def _turn(self) -> None:
        """Write one block of what waits; then the next, or, after a while of quiet, the mark."""
        with self._any_failure_ends_all():
            if not self.has_work or not self.work(self._take(None)):
                self._is_busy = False
                return
        self._is_busy = self.has_work
        if self._is_busy:
            self.loop.call_later(self.delay_s(), self._turn)
        else:
            self.loop.call_later(MARK_AFTER_S, self._fall_quiet)
        if self.journal.is_half_full and not self._is_preparing:
            self._is_preparing = True
            self.loop.call_later(self.delay_s(), self._prepare)

    def _fall_quiet(self) -> None:
        if not self._is_busy:
            with self._any_failure_ends_all():
                self.work(Taken([], 0, [], 0, is_last=False))

    def _prepare(self) -> None:
        self.prepare()
        self._is_preparing = self.journal.is_short_of_space and not self._has_failed
        if self._is_preparing:
            self.loop.call_later(PREPARE_AGAIN_S, self._prepare)

    def be_interrupted(self, disk: SimulatedDisk) -> None:
        """Whatever ends here ends while the next block is being written: some of it may be on the disk, and nobody was told."""
        if self.has_work:
            disk.on_crash = _nothing
            disk.crash_at = disk.operations + 1
            with suppress(Crash, StorageError):
                taken = self._take(None)
                if taken.records or not taken.cut:
                    self.journal.append(taken.records)
                self.journal.cut(taken.cut)
            disk.crash_at = -1

    def close(self) -> None:
        with self._any_failure_ends_all():
            while self.has_work:
                self.work(self._take(None))
            self.work(Taken([], 0, [], 0, is_last=True))
        self.journal.close()


class SimulatedHost:
    """One machine, and the process that runs on it."""

    timer_hair_s = 1e-6

    def __init__(
        self,
        loop: ProcessLoop,
        disk: SimulatedDisk,
        chance: random.Random,
        segment_bytes: int,
        died: Callable[[int, str], None],
    ) -> None:
        """`died` is told the exit code and the last words, before the process is gone."""
        self.loop = loop
        self.disk = disk
        self.chance = chance
        self.segment_bytes = segment_bytes
        self.wall_clock = Clock(loop)
        self.disk_latency_s = (0.0001, 0.002)
        self.stalled_until = 0.0
        """Until then (simulated seconds) the disk does nothing."""
        self.writer: SimulatedWriter | None = None
        self.on_life: Callable[[Identity, bool], object] = lambda identity, is_newcomer: None
        """Told whose life has begun, and whether it is the first of an acceptor that joins."""
        self._died = died
        disk.on_crash = loop.kill

    def now(self) -> float:
        return self.loop.time() * 1000

    def clock(self) -> int:
        return self.wall_clock.read()

    def moment(self) -> Moment:
        return Moment(self.now(), self.clock(), self.chance.random())

    def let_others_run(self) -> None:
        pass

    def disk_delay_s(self) -> float:
        """How long the disk takes for what it is asked now."""
        stalled = max(0.0, self.stalled_until - self.loop.simulation.now)
        return stalled + self.chance.uniform(*self.disk_latency_s)

    def new_salt(self) -> int:
        return self.chance.getrandbits(64)

    def told_to_begin_anew(self) -> Anew | None:
        return told_to_begin_anew(self.disk, Path("/"))

    def is_new(self) -> bool:
        return "identity" not in self.disk.names()

    def open_directory(
        self, node: str, members: dict[str, str] | None, bound_ms: int, newcomer: Newcomer | None = None
    ) -> Opened:
        opened = begin_life(
            self.disk,
            Path("/", node),
            node,
            members,
            bound_ms=bound_ms,
            newcomer=newcomer,
            new_life=lambda: f"{self.chance.getrandbits(64):016x}",
        )
        self.on_life(opened.identity, newcomer is not None)
        return opened

    def open_journal(self, opened: Opened, note: Callable[[], bytes]) -> Journal:
        return Journal.open(self.disk, self.segment_bytes, opened.identity.owner, self.new_salt, note)

    def start_writer(
        self,
        journal: Journal,
        notify: Callable[[list[Callback]], None],
        failed: Callable[[StorageError], None],
    ) -> Writer:
        self.writer = SimulatedWriter(self.loop, self.disk_delay_s, journal, notify, failed)
        return self.writer

    def die(self, code: int, text: str) -> NoReturn:
        self._died(code, text)
        self.loop.kill()
        raise Exit
