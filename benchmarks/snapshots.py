"""What a snapshot of a million keys costs the clients of a node, how long a restart takes, and what stays on disk.

    PYTHONPATH=tests python benchmarks/snapshots.py [--keys 1000000] [--page docs/snapshots.md]

A client asks the node PING every 2 ms, over a connection of its own, and notes how long each answer takes: that is how long
the event loop was busy with something else. Meanwhile another one writes. First without a snapshot, then while one is taken.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from processes import Client, Cluster, wait_until

VALUE = "v" * 256
BATCH = 1_000
PROBE_EVERY_S = 0.002
BASELINE_S = 5.0


@dataclass
class Probe(threading.Thread):
    """Asks PING again and again."""

    port: int
    waits: list[float] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        client = Client(self.port)
        while not self.stopping.wait(PROBE_EVERY_S):
            began = time.perf_counter()
            client("PING")
            self.waits.append(time.perf_counter() - began)

    def result(self) -> tuple[float, float]:
        """The longest wait and that of one in a thousand, in milliseconds."""
        self.stopping.set()
        self.join()
        waits = sorted(self.waits)
        return 1000 * waits[-1], 1000 * waits[int(0.999 * (len(waits) - 1))]


class Writer(threading.Thread):
    """Writes one key after the other."""

    def __init__(self, port: int, keys: int) -> None:
        super().__init__(daemon=True)
        self.client = Client(port)
        self.keys = keys
        self.count = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            self.client("SET", f"key:{self.count * 7919 % self.keys}", VALUE)
            self.count += 1


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def persistence(client: Client) -> dict[str, int | str]:
    text = client("INFO", "persistence").decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def take(cluster: Cluster, node: str) -> tuple[float, float, float, float]:
    """Take a snapshot under writes: seconds, longest wait, one in a thousand (ms), and how far memory grew (MiB)."""
    client = cluster.client(node)
    before = int(persistence(client)["snapshot_instance"])
    memory = peak = resident_mib(cluster.pid(node))
    probe = Probe(cluster.ports[node])
    probe.start()
    began = time.perf_counter()
    client("BGSAVE")
    while int(persistence(client)["snapshot_instance"]) == before:
        peak = max(peak, resident_mib(cluster.pid(node)))
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    return seconds, *probe.result(), peak - memory


def fill(cluster: Cluster, node: str, keys: int) -> float:
    client = cluster.client(node)
    began = time.perf_counter()
    for first in range(0, keys, BATCH):
        client.pipeline(
            [("SET", f"key:{number}", VALUE) for number in range(first, min(keys, first + BATCH))]
        )
    return time.perf_counter() - began


def restart(cluster: Cluster, node: str, keys: int) -> float:
    cluster.kill(node)
    began = time.perf_counter()
    cluster.start(node)
    client = cluster.client(node)
    wait_until(lambda: client("DBSIZE") == keys, "it serves")
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    rows: list[tuple[str, str]] = []

    def tell(what: str, figure: str) -> None:
        rows.append((what, figure))
        print(f"{what}: {figure}", flush=True)

    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(Path(directory))
        try:
            cluster.start()
            leader = cluster.leader()
            node = next(name for name in cluster.names if name != leader)
            tell(
                f"{options.keys:,} keys of 256 bytes written", f"{fill(cluster, leader, options.keys):.1f} s"
            )
            tell(
                "log of a node then",
                f"{int(persistence(cluster.client(node))['journal_bytes_held']) >> 20} MiB",
            )
            writer = Writer(cluster.ports[leader], options.keys)
            writer.start()
            probe = Probe(cluster.ports[node])
            probe.start()
            time.sleep(BASELINE_S)
            longest, usual = probe.result()
            tell(
                "longest wait of a PING under writes, no snapshot (one in a thousand)",
                f"{longest:.1f} ms ({usual:.1f} ms)",
            )
            for number in (1, 2, 3):
                seconds, longest, usual, grown = take(cluster, node)
                tell(
                    f"snapshot {number} under writes: time; longest wait of a PING (one in a thousand); more memory",
                    f"{seconds:.1f} s; {longest:.1f} ms ({usual:.1f} ms); {grown:.0f} MiB",
                )
            facts = persistence(cluster.client(node))
            tell("size of a snapshot", f"{int(facts['snapshot_bytes']) >> 20} MiB")
            tell(
                "log of the node after it was cut behind the last but one",
                f"{int(facts['journal_bytes_held']) >> 20} MiB",
            )
            writer.stopping.set()
            writer.join()
            tell(
                "killed and started again, until it serves all keys",
                f"{restart(cluster, node, options.keys):.1f} s",
            )
            tell("memory of the node then", f"{resident_mib(cluster.pid(node)):.0f} MiB")
            cluster.stop()
        finally:
            cluster.clear_away()
    if options.page is not None:
        table = "\n".join(f"| {what} | {figure} |" for what, figure in rows)
        options.page.write_text(
            "# What snapshots cost\n\nWritten by `make bench-snapshots`, on three nodes and the load on two cores "
            f"(Python {platform.python_version()}, Linux {platform.release().partition('-')[0]}).\n\n"
            f"| what | figure |\n| --- | --- |\n{table}\n\n"
            "PING is asked every 2 ms, so its longest wait is how long the node's event loop was busy with something else.\n"
        )


if __name__ == "__main__":
    main()
