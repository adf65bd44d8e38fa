"""For how long removing large values, emptying databases, expiry and snapshots of large values stop a node.

    PYTHONPATH=tests python benchmarks/large_values.py [--elements 1000000] [--page docs/large-values.md]

A client asks each node PING every 2 ms, and notes how long each answer takes and how much processor time the node's event loop
used meanwhile. The latter is how long it was busy with something else, however busy the machine is with other processes.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from snapshots import PROBE_EVERY_S, persistence

from processes import Client, Cluster, wait_until

PART = 500
"""So many elements at a time."""
QUIET_S = 3.0
"""How long what was removed is watched afterwards."""

TYPES: dict[str, Callable[[int], list[str]]] = {
    "list": lambda number: ["RPUSH", "it", *(f"element:{each}" for each in range(number, number + PART))],
    "set": lambda number: ["SADD", "it", *(f"element:{each}" for each in range(number, number + PART))],
    "hash": lambda number: [
        *("HSET", "it"),
        *(word for each in range(number, number + PART) for word in (f"field:{each}", f"value:{each}")),
    ],
    "sorted set": lambda number: [
        *("ZADD", "it"),
        *(word for each in range(number, number + PART) for word in (f"{each}", f"element:{each}")),
    ],
    "string of 64 MiB": lambda number: [
        "SETBIT",
        "it",
        str((number + 1) * 8 * (64 << 20) // 1_000_000 - 1),
        "1",
    ],
}
"""What adds elements from a number on."""


class Probe(threading.Thread):
    """Asks a node PING again and again."""

    def __init__(self, port: int, pid: int) -> None:
        super().__init__(daemon=True)
        self.client = Client(port)
        self.schedule = Path(f"/proc/{pid}/task/{pid}/schedstat")
        self.waits: list[tuple[float, float]] = []
        """For how long, and how long of that the loop was at work (ms)."""
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(PROBE_EVERY_S):
            used, began = self.used_ms(), time.perf_counter()
            self.client("PING")
            self.waits.append((1000 * (time.perf_counter() - began), self.used_ms() - used))

    def used_ms(self) -> float:
        """How much processor time the main thread has used."""
        return int(self.schedule.read_text().split()[0]) / 1e6

    def result(self) -> tuple[float, float]:
        """The longest wait, and the most that the loop was at work during one (ms)."""
        self.stopping.set()
        self.join()
        return max(wait for wait, _ in self.waits), max(work for _, work in self.waits)


class Bench:
    """A cluster, and what was measured."""

    def __init__(self, cluster: Cluster, elements: int) -> None:
        self.cluster = cluster
        self.elements = elements
        self.client = cluster.client(cluster.leader())
        self.rows: list[tuple[str, str]] = []

    def measure(self, what: str, do: Callable[[Client], object]) -> None:
        """For how long each node does not answer while this is done, and in the seconds after it."""
        probes = [Probe(port, self.cluster.pid(name)) for name, port in self.cluster.ports.items()]
        for probe in probes:
            probe.start()
        time.sleep(0.1)
        do(self.client)
        time.sleep(QUIET_S)
        results = [probe.result() for probe in probes]
        longest, at_work = (max(each) for each in zip(*results, strict=True))
        self.rows.append((what, f"{at_work:.1f} ms | {longest:.1f} ms"))
        print(f"{what}: {self.rows[-1][1]}", flush=True)

    def fill(self, add: Callable[[int], list[str]]) -> None:
        for first in range(0, self.elements, 20 * PART):
            parts = range(first, min(first + 20 * PART, self.elements), PART)
            for reply in self.client.pipeline([add(number) for number in parts]):
                assert isinstance(reply, int), reply

    def fill_keys(self, *options: str) -> None:
        for first in range(0, self.elements, PART):
            numbers = range(first, min(first + PART, self.elements))
            self.client.pipeline([("SET", f"key:{number}", "value", *options) for number in numbers])

    def snapshot(self, client: Client) -> None:
        """Of every node, while a client writes."""
        clients = [self.cluster.client(name) for name in self.cluster.names]
        before = [persistence(each)["snapshot_instance"] for each in clients]
        for each in clients:
            each("BGSAVE")
        number = 0

        def is_done() -> bool:
            nonlocal number
            number += 1
            client("HSET", "it", f"field:{number}", "new")
            client("SET", f"written:{number}", "x")
            return all(
                persistence(each)["snapshot_instance"] != instance
                for each, instance in zip(clients, before, strict=True)
            )

        wait_until(is_done, "snapshots are taken")


def run(bench: Bench) -> None:
    client, elements = bench.client, f"{bench.elements:,}"
    bench.measure("nothing", lambda client: None)
    for name, add in TYPES.items():
        bench.fill(add)
        what = name if "64" in name else f"{name} of {elements}"
        bench.measure(f"DEL of a {what}", lambda client: client("DEL", "it"))
    bench.fill_keys()
    bench.measure(f"FLUSHALL of {elements} keys", lambda client: client("FLUSHALL"))
    bench.fill_keys("EX", "86400")
    bench.measure(f"FLUSHALL of {elements} keys that expire", lambda client: client("FLUSHALL"))
    bench.fill_keys("PX", "60000")
    bench.measure(
        f"expiry of {elements} keys within a minute",
        lambda client: wait_for(lambda: client("DBSIZE") == 0, 120.0),
    )
    bench.fill(TYPES["hash"])
    bench.measure(f"snapshots of a hash of {elements}, under writes", bench.snapshot)
    client("DEL", "it")
    for first in range(0, bench.elements, PART):
        numbers = range(first, min(first + PART, bench.elements))
        client.pipeline([("HSET", f"hash:{number}", "a", "1", "b", "2") for number in numbers])
    bench.measure(f"{elements} small hashes, nothing else", lambda client: None)
    bench.measure(f"FLUSHALL of {elements} small hashes", lambda client: client("FLUSHALL"))


def wait_for(condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(Path(directory))
        try:
            cluster.start()
            bench = Bench(cluster, options.elements)
            run(bench)
            cluster.stop()
        finally:
            cluster.clear_away()
    if options.page is not None:
        table = "\n".join(f"| {what} | {figure} |" for what, figure in bench.rows)
        options.page.write_text(
            "# For how long large values stop a node\n\nWritten by `make bench-large`, on three nodes and the load on two cores "
            f"(Python {platform.python_version()}, Linux {platform.release().partition('-')[0]}).\n\n"
            "| what | work of the event loop during one PING, at most | longest PING |\n| --- | --- | --- |\n"
            f"{table}\n\n"
            "PING is asked of all nodes every 2 ms. While it waits, the event loop is busy with something else, or the machine\n"
            "with other processes: so what counts is the processor time that the loop used meanwhile.\n"
        )


if __name__ == "__main__":
    main()
