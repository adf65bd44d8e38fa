"""Runs `python -m chaos`, and ends it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'tests' / 'system'}"}


@contextlib.contextmanager
def chaos(*words: str, before: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    command = [*before, sys.executable, "-m", "chaos", *words]
    process = subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)
