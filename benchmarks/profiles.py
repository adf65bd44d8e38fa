"""Where a node's time goes while it is measured."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

TOOLS = ("perf", "py-spy")
STOP_TIMEOUT_S = 60.0


@contextlib.contextmanager
def profiled(tool: str, pid: int, file: Path) -> Iterator[None]:
    """Record a process: `perf` writes a file for `perf report`, `py-spy` a flame graph (only of Python). Raises `OSError`."""
    path = shutil.which(tool)
    if path is None:
        raise FileNotFoundError(f"{tool} is not installed")
    file.parent.mkdir(parents=True, exist_ok=True)
    if tool == "perf":
        words = [path, "record", "--quiet", "-g", "-F", "499", "-p", str(pid), "-o", f"{file}.perf"]
    else:
        words = [path, "record", "--pid", str(pid), "--rate", "100", "--output", f"{file}.svg"]
    with Path(f"{file}.log").open("wb") as log:
        recording = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            yield
        finally:
            recording.send_signal(signal.SIGINT)
            try:
                recording.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                recording.kill()
                recording.wait()
