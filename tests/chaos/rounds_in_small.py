"""Rounds in small: one that passes, one that is interrupted. `make chaos` begins with these; they need what it installs."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from chaos_command import chaos

from processes import wait_until


def namespaces_of(process: subprocess.Popen[str]) -> list[str]:
    return [path.name for path in Path("/run/netns").glob(f"sofadb-{process.pid}-*")]


def nodes_of(process: subprocess.Popen[str]) -> list[str]:
    """The processes that it has started and that have not ended."""
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


def is_running(process: str) -> bool:
    """Whether it is there, and not a zombie."""
    path = Path(f"/proc/{process}/stat")
    return path.exists() and path.read_text().rpartition(") ")[2][0] != "Z"


def test_round_passes_and_leaves_nothing_behind() -> None:
    with chaos("--minutes", "0.001", "--fault", "one killed", "--nodes", "3", "--seconds", "1") as process:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, output + errors
        assert "passed  one killed, 3 nodes: 2 strikes" in output
        assert namespaces_of(process) == []


def test_interrupted_it_leaves_nothing_behind() -> None:
    with chaos("--fault", "nothing", "--nodes", "3") as process:
        wait_until(lambda: len(nodes_of(process)) == 3, "nodes run")
        nodes = nodes_of(process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert "interrupted" in errors
        assert "Traceback" not in errors
        assert namespaces_of(process) == []
        wait_until(lambda: not any(map(is_running, nodes)), "the nodes have ended")
