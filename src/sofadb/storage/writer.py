"""The disk thread: everything that was asked for while the last sync ran becomes the next block.

`save` is called on the event loop and never blocks; the thread writes and syncs, and hands the callbacks of a whole block back
in one go. They come in the order of the saves, and only after the sync. When something fails, in this thread or in
the one that prepares, no callback of that save or of any later one is ever called (rule P1); `failed` is, once.

When the log has been quiet for a moment, the thread writes the mark that proves the last block (rule P11), and it
has the next segment prepared, by another thread, before the current one is full.

It takes whatever it is given: whoever calls `save` looks at `pending_bytes`, and takes nothing in that would add to it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sofadb.unlikely import unlikely

from .files import StorageError
from .journal import Journal
from .segment import Record

BLOCK_BYTES = 8 << 20
"""A block holds no more data than this, unless a single save does: one save is never divided."""
MARK_AFTER_S = 0.1

Callback = Callable[[], None]


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
        self.pending_bytes = 0
        """Bytes of data that were asked for and are not stable yet. May be read from any thread."""
        self._notify = notify
        self._failed = failed
        self._mark_after_s = mark_after_s
        self._queue: deque[tuple[Sequence[Record], int, Callback]] = deque()
        self._condition = threading.Condition()
        self._closing = False
        self._has_failed = False
        self._preparing: threading.Thread | None = None
        self._unproven = False
        """Whether something was written that no mark proves yet."""
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)

    def start(self) -> None:
        """Begin to work, in a thread."""
        self._thread.start()

    def save(self, records: Sequence[Record], done: Callback) -> None:
        """Have `done` called when `records`, and all saved before, are stable. Without records it is a barrier."""
        size = sum(len(buffer) for record in records for buffer in record.data)
        with self._condition:
            if self._has_failed or self._closing:
                return  # Never stable, so never answered.
            self._queue.append((records, size, done))
            self.pending_bytes += size
            self._condition.notify()

    def close(self) -> None:
        """Finish what was asked for, prove it, and end the threads."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join()
        if self._preparing is not None:
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
        while self.work(*self._take(self._mark_after_s if self._unproven else None)):
            if self.journal.is_half_full and (self._preparing is None or not self._preparing.is_alive()):
                self._preparing = threading.Thread(target=self.prepare, name="disk, ahead", daemon=True)
                self._preparing.start()

    def work(self, records: list[Record], size: int, callbacks: list[Callback], closing: bool) -> bool:
        """Write one block and tell of it, or, if nothing was asked for, the mark. False: that was the last."""
        if records:
            self.journal.append(records)
            self._unproven = True
        if callbacks:
            with self._condition:
                if self._has_failed:
                    return False
                self.pending_bytes -= size
            self._notify(callbacks)
        if self._unproven and (
            unlikely("mark after every block") or not (callbacks or unlikely("no mark when quiet"))
        ):
            self.journal.mark()
            self._unproven = False
        return not closing

    def prepare(self) -> None:
        """Have the next segment ready before it is needed."""
        if not unlikely("nothing prepared"):
            with self._any_failure_ends_all():
                self.journal.prepare()

    def _fail(self, failure: StorageError) -> None:
        with self._condition:
            if self._has_failed:
                return
            self._has_failed = True
            self._queue.clear()
            self._condition.notify()
        self._failed(failure)

    def _take(self, timeout_s: float | None) -> tuple[list[Record], int, list[Callback], bool]:
        """Wait for saves and take a block's worth. Nothing after `timeout_s` of quiet, or when closing."""
        with self._condition:
            if not self._queue and not self._closing:
                self._condition.wait(timeout_s)
            records: list[Record] = []
            callbacks: list[Callback] = []
            size = 0
            while self._queue and (not callbacks or size + self._queue[0][1] <= BLOCK_BYTES):
                saved, saved_bytes, done = self._queue.popleft()
                records += saved
                callbacks.append(done)
                size += saved_bytes
                if unlikely("block of one save"):
                    break
            return records, size, callbacks, self._closing and not callbacks
