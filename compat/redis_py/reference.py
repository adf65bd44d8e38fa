"""A real redis-server to compare with: what fails with that, too, is not ours."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from three_nodes import free_ports

PATIENCE_S = 15.0


@contextmanager
def redis_server() -> Iterator[tuple[str, str]]:
    """The URL of one that nobody else uses, and its version."""
    path = shutil.which("redis-server")
    if path is None:
        raise RuntimeError("redis-server is not installed (Debian: apt-get install redis-server)")
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as directory:
        command = [path, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(port=port) as client:
                yield f"redis://127.0.0.1:{port}/0", _version_of(client)
        finally:
            process.terminate()
            process.wait()


def _version_of(client: redis.Redis) -> str:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return str(client.info("server")["redis_version"])
        except redis.ConnectionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
