"""Logging that never waits for whoever reads it (rule D5).

A record goes into a bounded queue; a thread writes it to stderr. If stderr is a pipe that nobody reads, the queue fills up and
records are dropped and counted; the node goes on.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
import threading

RECORDS_MAX = 10_000
FLUSH_TIMEOUT_S = 1.0


class NeverWaiting(logging.handlers.QueueHandler):
    """Drops what the queue has no room for, and says later how many that were."""

    def __init__(self, records: queue.Queue[logging.LogRecord | None]) -> None:
        super().__init__(records)
        self.records = records
        self.dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        if self.dropped:
            record.msg = f"{record.getMessage()} ({self.dropped} log lines were dropped before)"
            record.args = None
        try:
            self.records.put_nowait(record)
        except queue.Full:
            self.dropped += 1
        else:
            self.dropped = 0

    def flush(self) -> None:
        """Wait until all is written, but not for ever."""
        done = threading.Thread(target=self.records.join, daemon=True)
        done.start()
        done.join(FLUSH_TIMEOUT_S)


def start_logging(level: int = logging.INFO) -> None:
    """Send the log of `sofadb` to stderr, from a thread."""
    records: queue.Queue[logging.LogRecord | None] = queue.Queue(RECORDS_MAX)
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(logging.Formatter("%(asctime)s %(levelname)-8s %(name)s: %(message)s"))

    def write() -> None:
        while True:
            record = records.get()
            try:
                if record is not None:
                    stream.handle(record)
            finally:
                records.task_done()

    threading.Thread(target=write, name="log", daemon=True).start()
    log = logging.getLogger("sofadb")
    log.handlers = [NeverWaiting(records)]
    log.setLevel(level)
    log.propagate = False
