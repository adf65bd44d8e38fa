"""The disk thread: everything that was asked for while the last sync ran becomes the next block.

`save` is called on the event loop and never blocks; the thread writes and syncs, and hands the callbacks of a whole block back
in one go. They come in the order of the saves, and only after the sync. When something fails, in this thread or in
the one that prepares, no callback of that save or of any later one is ever called (rule P1); `failed` is, once.

When the log has been quiet for a moment, the thread writes the mark that proves the last block (rule P11), and it
has the next segment prepared, by another thread, before the current one is full. If the disk has no room for it, that one
tries again every few seconds. What the log need not hold any more is given up between two blocks.

It takes whatever it is given: whoever calls `save` looks at `pending_bytes`, and takes nothing in that would add to it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import NamedTuple

from sofadb.unlikely import unlikely

from .files import StorageError
from .journal import Journal
from .segment import Record

BLOCK_BYTES = 8 << 20
"""A block holds no more data than this, unless a single save does: one save is never divided."""
MARK_AFTER_S = 0.1
PREPARE_REST_S = 0.02
"""So long the thread that prepares rests after each megabyte."""
PREPARE_AGAIN_S = 5.0
"""So long after it did not find room for the next segment the disk is asked again."""

Callback = Callable[[], None]


class Asked(NamedTuple):
    """Something that was asked for: a save, or, with `cut`, that the log gives up what it has below that key."""

    records: Sequence[Record]
    size: int
    done: Callback | None
    cut: int = 0


class Taken(NamedTuple):
    """What the disk thread does in one go: a block, then a cut. Neither: the log is quiet."""

    records: list[Record]
    size: int
    """Bytes of data in the records."""
    callbacks: list[Callback]
    cut: int
    """What the log has below this key is given up afterwards; 0: nothing."""
    is_last: bool


class Writer:
    """Saves records in the background."""

    def __init__(
        self,
        journal: Journal,
        notify: Callable[[list[Callback]], None],
        failed: Callable[[StorageError], None],
        mark_after_s: float = MARK_AFTER_S,
    ) -> None:
        """`notify`, once for each block, and `failed`, at most once, are called from threads of the writer."""
        self.journal = journal
        self._notify = notify
        self._failed = failed
        self._mark_after_s = mark_after_s
        self._inbox: SimpleQueue[Asked | None] = SimpleQueue()
        """What was asked for and not looked at; None is there to be woken by."""
        self._queue: deque[Asked] = deque()
        """What was looked at and not taken. Only the thread that writes uses it."""
        self._asked_bytes = 0
        self._stable_bytes = 0
        """Bytes of data that were ever asked for, and of those that are stable. Each has one thread that adds to it."""
        self._failing = threading.Lock()
        """Held while it is settled who fails first."""
        self._closing = False
        self._has_failed = False
        self._preparing: threading.Thread | None = None
        self._ended = threading.Event()
        """Set when it is closing or has failed: nothing is waited for any more."""
        self._unproven = False
        """Whether something was written that no mark proves yet."""
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)

    @property
    def pending_bytes(self) -> int:
        """Bytes of data that were asked for and are not stable yet. May be read from any thread."""
        return self._asked_bytes - self._stable_bytes

    @property
    def has_work(self) -> bool:
        """Whether something waits to be taken. For the thread that writes."""
        inbox = self._inbox
        while not inbox.empty():  # Nobody else takes anything out of it.
            asked = inbox.get_nowait()
            if asked is not None:
                self._queue.append(asked)
        return bool(self._queue)

    def start(self) -> None:
        """Begin to work, in a thread."""
        self._thread.start()

    def save(self, records: Sequence[Record], done: Callback) -> int:
        """Have `done` called when `records`, and all saved before, are stable. Without records it is a barrier.

        Returns how many bytes of data the records have.
        """
        size = 0
        for record in records:
            size += record.size
        self._ask(Asked(records, size, done))
        return size

    def give_up(self, key: int) -> None:
        """Cut the log below `key`, as `Journal.cut` does it, when all saved before is stable.

        What has key 0 and must outlive the cut was saved anew before.
        """
        assert key > 0
        self._ask(Asked((), 0, None, key))

    def _ask(self, asked: Asked) -> None:
        if self._has_failed or self._closing:
            return  # Never stable, so never answered.
        self._asked_bytes += asked.size
        self._inbox.put(asked)

    def close(self) -> None:
        """Finish what was asked for, prove it, and end the threads."""
        self._closing = True
        self._inbox.put(None)
        self._ended.set()
        self._thread.join()
        if self._preparing is not None:
            self.journal.hurry()
            self._preparing.join()
        self.journal.close()

    def _run(self) -> None:
        with self._any_failure_ends_all():
            self._work()

    @contextmanager
    def _any_failure_ends_all(self) -> Iterator[None]:
        try:
            yield
        except StorageError as failure:
            self._fail(failure)
        except BaseException as mistake:
            # Nobody would ever be answered again, and nobody would know why.
            self._fail(StorageError(f"a disk thread stopped by a mistake of the program: {mistake!r}"))
            raise

    def _work(self) -> None:
        while self.work(self._take(self._mark_after_s if self._unproven else None)):
            if self.journal.is_half_full and (self._preparing is None or not self._preparing.is_alive()):
                self._preparing = threading.Thread(target=self._prepare, name="disk, ahead", daemon=True)
                self._preparing.start()

    def work(self, taken: Taken) -> bool:
        """Write one block, tell of it, and cut, or, if nothing was asked for, write the mark. False: that was the last."""
        if taken.records:
            self.journal.append(taken.records)
            self._unproven = True
        if taken.callbacks:
            if self._has_failed:
                return False
            self._stable_bytes += taken.size
            self._notify(taken.callbacks)
        if taken.cut:
            self.journal.cut(taken.cut)
        is_quiet = not (taken.callbacks or taken.cut)
        if self._unproven and (
            unlikely("mark after every block") or (is_quiet and not unlikely("no mark when quiet"))
        ):
            self.journal.mark()
            self._unproven = False
        return not taken.is_last

    def _prepare(self) -> None:
        self.prepare(PREPARE_REST_S)
        while self.journal.is_short_of_space and not self._ended.wait(PREPARE_AGAIN_S):
            self.prepare(PREPARE_REST_S)

    def prepare(self, rest_s: float = 0.0) -> None:
        """Have the next segment ready before it is needed, resting now and then."""
        if not unlikely("nothing prepared"):
            with self._any_failure_ends_all():
                self.journal.prepare(rest_s)

    def _fail(self, failure: StorageError) -> None:
        with self._failing:
            if self._has_failed:
                return
            self._has_failed = True
        self._inbox.put(None)
        self._ended.set()
        self._failed(failure)

    def _take(self, timeout_s: float | None) -> Taken:
        """Wait for something to do and take a block's worth, up to a cut. Nothing after `timeout_s` of quiet, or when closing."""
        while not (self.has_work or self._closing or self._has_failed):
            try:
                asked = self._inbox.get(timeout=timeout_s)
            except Empty:
                break
            if asked is not None:
                self._queue.append(asked)
        records: list[Record] = []
        callbacks: list[Callback] = []
        size = cut = 0
        while self._queue and (not callbacks or size + self._queue[0].size <= BLOCK_BYTES):
            asked = self._queue.popleft()
            if asked.done is None:
                cut = asked.cut
                break
            records += asked.records
            callbacks.append(asked.done)
            size += asked.size
            if unlikely("block of one save"):
                break
        is_last = (self._closing or self._has_failed) and not callbacks and not cut
        return Taken(records, size, callbacks, cut, is_last)
