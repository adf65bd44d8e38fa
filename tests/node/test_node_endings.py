"""Ends that must come, and words that must be said, whatever else is broken."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from sofadb.node.host import EXIT_STORAGE, LiveHost
from sofadb.node.live import start_node
from sofadb.storage.files import StorageError
from sofadb.storage.identity import open_directory
from sofadb.storage.segment import Record

MEMBERS = {"n1": "127.0.0.1:1"}


def test_a_record_that_another_version_wrote_is_a_sentence(tmp_path: Path) -> None:
    host = LiveHost(tmp_path)
    opened = host.open_directory("n1", MEMBERS, 0)
    journal = host.open_journal(opened, bytes)
    assert list(journal.recover()) == []
    journal.append([Record(0, [b"\x09\x01"])])
    journal.close()
    opened.close()
    with pytest.raises(
        StorageError, match="format version 9, this program knows version 1; was it written by another"
    ):
        asyncio.run(start_node(LiveHost(tmp_path), "n1", ("127.0.0.1", 1), "127.0.0.1:1", MEMBERS))


def test_a_node_that_must_end_ends_although_its_last_words_find_no_way_out(tmp_path: Path) -> None:
    """Flushing the log takes a thread, and there may be none to be had."""
    program = """
import pathlib, threading
from sofadb.node.host import LiveHost
from sofadb.node.logs import start_logging

start_logging()

def no_thread(self):
    raise RuntimeError("can't start new thread")

threading.Thread.start = no_thread
try:
    LiveHost(pathlib.Path("/")).die(74, "the disk has failed")
finally:
    print("it goes on")
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False
    )
    assert result.returncode == EXIT_STORAGE
    assert "it goes on" not in result.stdout


def test_a_directory_in_use_is_named_although_nobody_can_say_by_whom(tmp_path: Path) -> None:
    opened = open_directory(tmp_path, "n1", MEMBERS)
    (tmp_path / "lock").unlink()
    (tmp_path / "lock").mkdir()
    with pytest.raises(StorageError, match=r"in use by another process \(pid unknown\)"):
        open_directory(tmp_path, "n1", None)
    opened.close()
