"""The disk thread: everything that was asked for while the last sync ran becomes the next block.

`save` is called on the event loop and never blocks; the thread writes and syncs, and hands the callbacks of a whole block back
in one go. They come in the order of the saves, and only after the sync. When something fails, no callback of
that save or of any later one is ever called (rule P1); `failed` is, once, from the thread.

When the log has been quiet for a moment, the thread writes the mark that proves the last block (rule P11), and it
has the next segment prepared, by another thread, before the current one is full.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from .files import StorageError
from .journal import Journal
from .segment import Record

BLOCK_BYTES = 8 << 20
"""A block closes at about this size; one save is never divided."""
MARK_AFTER_S = 0.02

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
        """`notify` and `failed` are called from the disk thread."""
        self.journal = journal
        self._notify = notify
        self._failed = failed
        self._mark_after_s = mark_after_s
        self._queue: deque[tuple[Sequence[Record], Callback]] = deque()
        self._condition = threading.Condition()
        self._closing = False
        self._preparing = threading.Thread()
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def save(self, records: Sequence[Record], done: Callback) -> None:
        """Have `done` called when `records`, and all saved before, are stable. Without records it is a barrier."""
        with self._condition:
            self._queue.append((records, done))
            self._condition.notify()

    def close(self) -> None:
        """Finish what was asked for, prove it, and end the thread."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            unproven = False
            while True:
                records, callbacks, closing = self._take(self._mark_after_s if unproven else None)
                if records:
                    self.journal.append(records)
                    unproven = True
                if callbacks:
                    self._notify(callbacks)
                elif unproven:
                    self.journal.mark()
                    unproven = False
                if self.journal.is_half_full and not self._preparing.is_alive():
                    self._preparing = threading.Thread(target=self._prepare, name="disk, ahead", daemon=True)
                    self._preparing.start()
                if closing:
                    self.journal.close()
                    return
        except StorageError as failure:
            self._failed(failure)

    def _prepare(self) -> None:
        try:
            self.journal.prepare()
        except StorageError as failure:
            self._failed(failure)

    def _take(self, timeout_s: float | None) -> tuple[list[Record], list[Callback], bool]:
        """Wait for saves and take a block's worth. Nothing after `timeout_s` of quiet, or when closing."""
        with self._condition:
            if not self._queue and not self._closing:
                self._condition.wait(timeout_s)
            records: list[Record] = []
            callbacks: list[Callback] = []
            size = 0
            while self._queue and size < BLOCK_BYTES:
                saved, done = self._queue.popleft()
                records += saved
                callbacks.append(done)
                size += sum(len(buffer) for record in saved for buffer in record.data)
            return records, callbacks, self._closing and not self._queue and not callbacks
