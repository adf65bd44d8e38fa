"""What a node takes for the time that has passed: the lease of a leader relies on it (rule P7)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sofadb.node.host import LiveHost

ASLEEP_S = 1_000_000


def test_the_time_for_which_the_machine_slept_counts(tmp_path: Path) -> None:
    """In a namespace of its own a process finds that clock as after a long sleep, and the one that stands still as it was."""
    program = (
        "import pathlib; from sofadb.node.host import LiveHost; print(LiveHost(pathlib.Path('/')).now())"
    )
    result = subprocess.run(
        ["unshare", "--time", "--boottime", str(ASLEEP_S), sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    if result.returncode != 0 and "unshare" in result.stderr:
        pytest.skip(f"no namespaces of time here: {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
    slept_ms = float(result.stdout) - LiveHost(tmp_path).now()
    assert abs(slept_ms - ASLEEP_S * 1000) < 60_000
