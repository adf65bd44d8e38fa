"""The machine under a node: its clocks, its chance, its disk, and a way to end.

Everything that a node gets from its machine beside the event loop comes through `Host`, so that the laboratory can give
it another. Sockets and timers are the event loop's, and the laboratory has one of those, too.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Protocol

from sofadb.paxos import Moment
from sofadb.storage.files import DiskFiles, StorageError
from sofadb.storage.identity import Anew, Newcomer, Opened, open_directory, told_to_begin_anew
from sofadb.storage.journal import Journal
from sofadb.storage.writer import Callback, Writer

log = logging.getLogger("sofadb.node")

EXIT_NOT_FOUND = 68
"""The cluster to be joined was not found (sysexits.h: no such host)."""
EXIT_LEVEL = 78
"""This program is too old or too new for the cluster (sysexits.h: configuration error)."""
EXIT_STORAGE = 74
"""Stable storage failed (the number that sysexits.h gives to input/output errors)."""
EXIT_INVARIANT = 70
"""Something that cannot be is (sysexits.h: internal software error)."""


class Host(Protocol):
    """One machine."""

    chance: random.Random
    timer_hair_s: float
    """Timers are set so much later than they are due: one that is rounded down would fire too early, be set again, and so on."""

    def now(self) -> float:
        """Milliseconds on a clock that never runs backwards, and goes on while the machine sleeps."""
        ...

    def clock(self) -> int:
        """Milliseconds since 1970; may be wrong, and may jump."""
        ...

    def moment(self) -> Moment:
        """What both clocks say, and a fresh random number."""
        ...

    def let_others_run(self) -> None:
        """If somebody else on the machine wants this processor, have them go first."""
        ...

    def new_salt(self) -> int:
        """Something that no client can know (64 bits)."""
        ...

    def is_new(self) -> bool:
        """Whether the data directory is still to be made, or holds nothing of a node. Raises `StorageError`."""
        ...

    def told_to_begin_anew(self) -> Anew | None:
        """Whether an earlier life has found that the directory is of no use any more. Raises `StorageError`."""
        ...

    def open_directory(
        self, node: str, members: dict[str, str] | None, bound_ms: int, newcomer: Newcomer | None = None
    ) -> Opened:
        """Begin a new life of `node` in its data directory; it may bind the next for `bound_ms`. Raises `StorageError`."""
        ...

    def open_journal(self, opened: Opened, note: Callable[[], bytes]) -> Journal:
        """The journal in that directory; `note` is as `Journal.open` has it. Raises `StorageError`."""
        ...

    def start_writer(
        self,
        journal: Journal,
        notify: Callable[[list[Callback]], None],
        failed: Callable[[StorageError], None],
    ) -> Writer:
        """A disk thread at work."""
        ...

    def die(self, code: int, text: str) -> NoReturn:
        """End the process now, whatever else it was doing; the text is for a person."""
        ...


def die(code: int, text: str) -> NoReturn:
    """End this process now, whatever else it was doing; the text goes to the log."""
    try:
        log.critical("%s", text)
        for handler in logging.getLogger("sofadb").handlers:
            handler.flush()
    finally:
        os._exit(code)  # Also if nobody can be told any more.


class LiveHost:
    """The machine that this process really runs on."""

    timer_hair_s = 0.0015
    """uvloop rounds to milliseconds, of a clock that it does not look at each time: up to 1.3 ms too early without this."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.chance = random.Random()

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) * 1000

    def clock(self) -> int:
        return int(time.time() * 1000)

    def moment(self) -> Moment:
        now = time.clock_gettime(time.CLOCK_BOOTTIME) * 1000
        return Moment(now, int(time.time() * 1000), self.chance.random())

    def let_others_run(self) -> None:
        os.sched_yield()

    def new_salt(self) -> int:
        return int.from_bytes(os.urandom(8), "big")

    def told_to_begin_anew(self) -> Anew | None:
        return (
            told_to_begin_anew(DiskFiles(self.directory), self.directory) if self.directory.exists() else None
        )

    def is_new(self) -> bool:
        return not (self.directory / "identity").exists()

    def open_directory(
        self, node: str, members: dict[str, str] | None, bound_ms: int, newcomer: Newcomer | None = None
    ) -> Opened:
        return open_directory(self.directory, node, members, bound_ms=bound_ms, newcomer=newcomer)

    def open_journal(self, opened: Opened, note: Callable[[], bytes]) -> Journal:
        return Journal.open(opened.files, owner=opened.identity.owner, note=note)

    def start_writer(
        self,
        journal: Journal,
        notify: Callable[[list[Callback]], None],
        failed: Callable[[StorageError], None],
    ) -> Writer:
        writer = Writer(journal, notify, failed)
        writer.start()
        return writer

    def die(self, code: int, text: str) -> NoReturn:
        die(code, text)
