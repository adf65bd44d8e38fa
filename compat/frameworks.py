"""Run those examples that need a database, and gather what came of each."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = (
    "redis_py_locks",
    "redis_py_asyncio",
    "redis_py_sentinel",
    "rq_jobs",
    "celery_tasks",
    "huey_tasks",
    "rate_limiter",
    "django_sessions",
)
SECONDS_MAX = 600


@dataclass(frozen=True)
class Performance:
    """One example, once. `outcome` is what it says of itself; None if it did not get that far."""

    name: str
    exit_code: int
    outcome: dict[str, Any] | None


def perform(name: str) -> Performance:
    """Run an example as anybody would."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "outcome.json")
        command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--json", str(path)]
        process = subprocess.Popen(command)
        try:
            process.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            print(f"{name} is not done after {SECONDS_MAX} s", flush=True)
        finally:
            process.terminate()  # It stops its nodes.
            exit_code = process.wait()
        return Performance(name, exit_code, json.loads(path.read_text()) if path.exists() else None)
