"""What a node takes for the time that has passed: the lease of a leader relies on it (rule P7)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

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


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_no_timer_is_before_its_time(run: Callable[[Any], list[float]], tmp_path: Path) -> None:
    host = LiveHost(tmp_path)

    async def how_late() -> list[float]:
        loop = asyncio.get_running_loop()
        late = []
        for tenths_of_ms in range(1, 41):
            fired, busy_until = asyncio.Event(), host.now() + 1
            while host.now() < busy_until:
                pass  # What the loop takes for the time is a millisecond old now.
            due = host.now() + tenths_of_ms / 10
            loop.call_later(tenths_of_ms / 10_000 + host.timer_hair_s, fired.set)
            await fired.wait()
            late.append(host.now() - due)
        return late

    assert min(run(how_late())) >= 0
