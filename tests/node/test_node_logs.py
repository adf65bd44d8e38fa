"""Logging never waits: what there is no room for is dropped, counted, and told of later."""

from __future__ import annotations

import logging
import os
import queue
import sys
from collections.abc import Iterator

import pytest

from sofadb.node import logs as module
from sofadb.node.logs import NeverWaiting, start_logging

Records = queue.Queue[logging.LogRecord | None]


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """The log of `sofadb`; afterwards it is as it was."""
    log = logging.getLogger("sofadb")
    before = log.handlers, log.level, log.propagate
    yield log
    log.handlers, level, log.propagate = before
    log.setLevel(level)


def handler_of(log: logging.Logger, records: Records) -> NeverWaiting:
    handler = NeverWaiting(records)
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    return handler


def lines(records: Records) -> list[str]:
    """What is in the queue, which is empty then."""
    taken = [records.get_nowait() for _ in range(records.qsize())]
    return [record.getMessage() for record in taken if record is not None]


def test_full_queue_drops_lines_and_the_next_line_says_how_many(log: logging.Logger) -> None:
    records: Records = queue.Queue(3)
    handler_of(log, records)
    for number in range(10):
        log.info("line %d", number)
    assert lines(records) == ["line 0", "line 1", "line 2"]
    log.info("room again")
    log.info("nothing to add")
    assert lines(records) == ["room again (7 log lines were dropped before)", "nothing to add"]


class TakenAtOnce(Records):
    """A queue whose other end takes a line before whoever put it there goes on."""

    def __init__(self) -> None:
        super().__init__(1)
        self.taken: list[str] = []

    def put_nowait(self, item: logging.LogRecord | None) -> None:
        super().put_nowait(item)
        self.taken += lines(self)


def test_a_writer_that_takes_the_line_at_once_finds_the_count_in_it(log: logging.Logger) -> None:
    records = TakenAtOnce()
    handler_of(log, records).dropped = 7
    log.info("room again")
    assert records.taken == ["room again (7 log lines were dropped before)"]


def test_flush_gives_up_when_nobody_writes(log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_TIMEOUT_S", 0.01)
    handler = handler_of(log, queue.Queue(1))
    log.info("never written")
    handler.flush()


def test_stderr_that_nobody_reads_keeps_nobody_waiting_and_goes_on_when_it_is_read(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECORDS_MAX", 100)
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as stderr, os.fdopen(read_end) as reader:
        monkeypatch.setattr(sys, "stderr", stderr)
        start_logging()
        (handler,) = log.handlers
        assert isinstance(handler, NeverWaiting)
        for number in range(2_000):
            log.info("line %d %s", number, "x" * 200)  # In all far more than pipe and queue hold.
        said: list[str] = []
        while handler.records.qsize():
            said.append(reader.readline())
        log.info("room again")
        while "room again" not in (line := reader.readline()):
            said.append(line)
        assert any("log lines were dropped before" in each for each in (*said, line))
