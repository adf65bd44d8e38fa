"""Those that speak the Redis protocol: SofaDB, and Redis itself."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence

import sofadb
from sofadb.cli.client import Unreachable, ask
from sofadb.load.generator import Generator
from sofadb.load.requests import each_set, gets, sets
from sofadb.load.speakers import Resp, Speaker

from .base import HOST, KEYS, Load, Missing, System, keys_of, output_of

FIRST_REQUESTS, FIRST_BYTES, FIRST_IN_TURN = 10_000, 20_000_000, 200
"""So many are asked first, or bytes, or requests in each of all that are in flight, whatever is least: to warm up, and to see how
many make the seconds that are wanted."""
PREFIX = b"key:"
"""As `redis-benchmark` has it."""
CSV_FIELDS = ("rate", "mean", "min", "p50", "p95", "p99", "max")


def parse_csv(output: str) -> dict[str, float]:
    """What `redis-benchmark --csv` says of its one test. Raises `ValueError` if it says nothing."""
    found = re.search(r'^"(?:SET|GET)"((?:,"[0-9.]+"){7})$', output, re.MULTILINE)
    if found is None:
        raise ValueError(f"not the output of redis-benchmark: {output!r}")
    return dict(zip(CSV_FIELDS, map(float, re.findall(r"[0-9.]+", found[1])), strict=True))


class RedisLike(System):
    """Asked by `redis-benchmark`."""

    asked_by = "redis-benchmark"

    def closed(self, load: Load, seconds: float, port: int) -> dict[str, float]:
        requests = min(FIRST_REQUESTS, FIRST_BYTES // load.size, FIRST_IN_TURN * load.in_flight)
        first = self._benchmark(load, max(load.in_flight, requests), port)
        return self._benchmark(load, max(load.in_flight, int(first["rate"] * seconds)), port)

    def _benchmark(self, load: Load, requests: int, port: int) -> dict[str, float]:
        path = shutil.which("redis-benchmark")
        if path is None:
            raise Missing("redis-benchmark is not installed (Debian: redis-tools)")
        words = [path, "-p", str(port), "-t", load.operation.lower(), "--csv", "-n", str(requests)]
        words += [
            "-d",
            str(load.size),
            "-r",
            str(keys_of(load.size)),
            "-c",
            str(load.connections),
            "-P",
            str(load.depth),
        ]
        return parse_csv(output_of(words, 600))

    def fill(self, size: int) -> None:
        make = each_set(PREFIX, KEYS, size)
        with Generator(lambda: Resp(make), [(HOST, self.port(self.wait_for_leader()))], 10, 16) as generator:
            generator.some(KEYS)

    def speaker(self, operation: str, size: int) -> Speaker:
        self.speakers += 1
        if operation == "GET":
            return Resp(gets(PREFIX, KEYS, self.speakers))
        return Resp(sets(PREFIX, keys_of(size), size, self.speakers))


class SofaDB(RedisLike):
    """Nodes as `sofadb up` starts them."""

    name, title, ports = "sofadb", "SofaDB", 0
    durability = "fdatasync on a majority"

    def version(self) -> str:
        return sofadb.__version__

    def port(self, name: str) -> int:
        return self.first_port + self.names.index(name)

    def command(self, name: str) -> Sequence[str]:
        peers = {each: f"{HOST}:{self.port(each) + len(self.names)}" for each in self.names}
        words = [sys.executable, "-m", "sofadb", "serve", "--id", name, "--dir", str(self.directory / name)]
        words += ["--listen", f"{HOST}:{self.port(name)}", "--peer-listen", peers[name]]
        return [*words, "--cluster", ",".join(f"{each}={address}" for each, address in peers.items())]

    def leader(self) -> str:
        try:
            leaders = {
                json.loads(ask(HOST, self.port(name), "SOFA.INFO", timeout_s=1))["leader"]
                for name in self.names
            }
        except Unreachable as problem:
            raise OSError(str(problem)) from None
        return str(leaders.pop()) if len(leaders) == 1 else ""


class Redis(RedisLike):
    """One server that syncs each write."""

    name, title, ports = "redis", "Redis (single)", 60
    durability = "fdatasync on one disk (appendfsync always)"
    has_nodes = False

    def version(self) -> str:
        path = shutil.which("redis-server")
        if path is None:
            raise Missing("redis-server is not installed (Debian: redis-server)")
        said = output_of([path, "--version"], 10)
        return str(re.findall(r"v=([\d.]+)", said)[0])

    def port(self, name: str) -> int:
        return self.first_port

    def command(self, name: str) -> Sequence[str]:
        words = ["redis-server", "--port", str(self.first_port), "--save", "", "--appendonly", "yes"]
        return [*words, "--appendfsync", "always", "--dir", str(self.directory)]

    def leader(self) -> str:
        return self.names[0] if ask(HOST, self.first_port, "PING") == "PONG" else ""
