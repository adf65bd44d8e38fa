"""`sofadb check`: a verdict in words and as an exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LEGAL = """\
{"client": 1, "op": "set", "key": "x", "value": "a", "start": 0, "end": 1, "result": "OK"}
{"client": 2, "op": "set", "key": "x", "value": "b", "start": 0.5, "end": null, "result": null}
{"client": 3, "op": "get", "key": "x", "start": 2, "end": 3, "result": "b"}
"""
STALE = LEGAL + '{"client": 3, "op": "get", "key": "x", "start": 4, "end": 5, "result": "a"}\n'


def check(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sofadb", "check", str(path), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("history", "code", "word"),
    [
        ("", 0, "linearizable"),
        (LEGAL, 0, "linearizable"),
        (STALE, 1, "No order"),
        (LEGAL + "{", 2, "line 4"),
        (LEGAL.replace('"get"', '"peek"'), 2, "line 3"),
    ],
    ids=["empty", "legal", "stale", "no JSON", "no operation"],
)
def test_a_history_gets_its_verdict(tmp_path: Path, history: str, code: int, word: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(history)
    result = check(path)
    assert result.returncode == code
    assert word in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert (result.stderr == "") == (code != 2)


def test_what_cannot_be_told_is_no_pass(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(LEGAL)
    result = check(path, "--steps", "1")
    assert result.returncode == 1
    assert "cannot tell" in result.stdout


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    result = check(tmp_path / "nowhere")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
