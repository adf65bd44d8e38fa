"""What snapshots and a backup of a million keys cost the clients of a node, how long restarts take, and what is on disk.

    PYTHONPATH=tests python benchmarks/snapshots.py [--keys 1000000] [--page docs/snapshots.md]

A client asks the node PING every 2 ms, over a connection of its own, and notes how long each answer takes: that is how long
the event loop was busy with something else. Meanwhile another one writes. First without a snapshot, then while one is taken.
Then a backup is taken, verified, and restored to another cluster of three nodes. Every key, value and expiry of the first
cluster is compared with what each of these nodes has.

A million keys take some 2 GiB of memory for each of the two clusters, and 5 GiB in the directory for temporary files (`TMPDIR`).
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processes import Client, Cluster, wait_until

VALUE_BYTES = 256
EXPIRING = 10
"""Each key whose number this divides has a time to live."""
EXPIRY_S = 7 * 86_400
BATCH = 1_000
PROBE_EVERY_S = 0.002
BASELINE_S = 5.0
SWITCH_S = 0.0005
"""The probe shares this process with those who write and compare, so let it wait for them no longer than that."""
STEP_S_MAX = 3_600.0
"""Longer than anything here takes with a million keys."""


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

    def __init__(self, port: int, keys: int, database: int = 0) -> None:
        super().__init__(daemon=True)
        self.client = Client(port)
        self.client("SELECT", database)
        self.keys = keys
        self.count = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            self.client(*setting(self.count * 7919 % self.keys, str(self.count)))
            self.count += 1

    def stop(self) -> None:
        self.stopping.set()
        self.join()


def setting(number: int, text: str) -> Sequence[str | int]:
    """The command that gives a key a value of its own."""
    expiry = () if number % EXPIRING else ("EX", EXPIRY_S)
    return ("SET", f"key:{number}", text.zfill(VALUE_BYTES), *expiry)


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
            [setting(number, f"first {number}") for number in range(first, min(keys, first + BATCH))]
        )
    return time.perf_counter() - began


def has_all(cluster: Cluster, node: str, keys: int) -> None:
    """Wait until a node serves all keys, however long it reads them back."""

    def is_so() -> bool:
        try:
            client = Client(cluster.ports[node], STEP_S_MAX)
        except ConnectionError:  # It does not listen yet.
            return False
        return bool(client("DBSIZE") == keys)

    wait_until(is_so, f"{node} serves", STEP_S_MAX)


def restart(cluster: Cluster, node: str, keys: int) -> float:
    cluster.kill(node)
    began = time.perf_counter()
    cluster.start(node)
    has_all(cluster, node, keys)
    return time.perf_counter() - began


def sofadb(*words: object) -> str:
    """What a command says that has to succeed."""
    command = [sys.executable, "-m", "sofadb", *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=STEP_S_MAX, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def told(text: str, name: str) -> str:
    found = re.search(rf"^{name} +([^\s,]+)", text, re.MULTILINE)
    assert found, text
    return found[1]


def size_mib(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir()) >> 20


def read(client: Client, keys: Sequence[bytes]) -> tuple[Any, Any]:
    """Values, and when each key expires (-1: never)."""
    return client("MGET", *keys), client.pipeline([("PEXPIRETIME", key) for key in keys])


def compared(old: Client, others: Sequence[Client]) -> tuple[int, int]:
    """See that all have the same keys, values and expiries: how many keys, and how many of these expire."""
    cursor, count, expiring = b"0", 0, 0
    while True:
        cursor, keys = old("SCAN", cursor, "COUNT", BATCH)
        if keys:
            values, expiries = read(old, keys)
            for other in others:
                assert read(other, keys) == (values, expiries), f"values or expiries differ, near {keys[0]!r}"
            count += len(keys)
            expiring += sum(expiry > 0 for expiry in expiries)
        if cursor == b"0":
            break
    # The others have these keys; so many, and they have no more.
    sizes = [client("DBSIZE") for client in (old, *others)]
    assert set(sizes) == {count}, f"{count} keys were compared, there are {sizes}"
    return count, expiring


class Rows:
    """What was measured, row by row; told as it comes."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def tell(self, what: str, figure: str) -> None:
        self.rows.append((what, figure))
        print(f"{what}: {figure}", flush=True)

    def tell_step(self, what: str, port: int, do: Callable[[], str]) -> None:
        """Do something, and tell how long it took, what came of it, and how long PING waited on a node meanwhile."""
        probe = Probe(port)
        probe.start()
        began = time.perf_counter()
        outcome = do()
        seconds = time.perf_counter() - began
        longest, usual = probe.result()
        self.tell(
            f"{what}: time; outcome; longest wait of a PING meanwhile (one in a thousand)",
            f"{seconds:.1f} s; {outcome}; {longest:.1f} ms ({usual:.1f} ms)",
        )

    def table(self) -> str:
        return "".join(f"| {what} | {figure} |\n" for what, figure in self.rows)


def measure_snapshots(cluster: Cluster, leader: str, node: str, keys: int, rows: Rows) -> None:
    rows.tell(f"{keys:,} keys of {VALUE_BYTES} bytes written", f"{fill(cluster, leader, keys):.1f} s")
    rows.tell(
        "log of a node then", f"{int(persistence(cluster.client(node))['journal_bytes_held']) >> 20} MiB"
    )
    writer = Writer(cluster.ports[leader], keys)
    writer.start()
    probe = Probe(cluster.ports[node])
    probe.start()
    time.sleep(BASELINE_S)
    longest, usual = probe.result()
    rows.tell(
        "longest wait of a PING under writes, no snapshot (one in a thousand)",
        f"{longest:.1f} ms ({usual:.1f} ms)",
    )
    for number in (1, 2, 3):
        seconds, longest, usual, grown = take(cluster, node)
        rows.tell(
            f"snapshot {number} under writes: time; longest wait of a PING (one in a thousand); more memory",
            f"{seconds:.1f} s; {longest:.1f} ms ({usual:.1f} ms); {grown:.0f} MiB",
        )
    facts = persistence(cluster.client(node))
    rows.tell("size of a snapshot", f"{int(facts['snapshot_bytes']) >> 20} MiB")
    rows.tell(
        "log of the node after it was cut behind the last but one",
        f"{int(facts['journal_bytes_held']) >> 20} MiB",
    )
    writer.stop()
    rows.tell("killed and started again, until it serves all keys", f"{restart(cluster, node, keys):.1f} s")
    rows.tell("memory of the node then", f"{resident_mib(cluster.pid(node)):.0f} MiB")


def measure_backup(old: Cluster, node: str, new: Cluster, keys: int, rows: Rows) -> None:
    """What writes meanwhile writes to another database, so that what is compared stands still."""
    port = old.ports[node]
    file = new.directory / "backup.sofadb"
    saved: set[str] = set()
    restored: set[str] = set()
    """The digests of what was saved, and of what came of it: another one, since a new cluster has other members."""

    def backup() -> str:
        saved.add(told(sofadb("backup", file, "--port", port), "digest"))
        return f"{file.stat().st_size >> 20} MiB"

    def verify() -> str:
        saved.add(told(sofadb("verify", file), "digest"))
        return "sound"

    def restore() -> str:
        for name in new.names:
            words = ("--dir", new.directory / name, "--id", name, "--cluster", new.members)
            restored.add(told(sofadb("restore", file, *words), "digest"))
        return f"{size_mib(new.directory / new.names[0])} MiB each"

    def start() -> str:
        new.start()
        for name in new.names:
            has_all(new, name, keys)
        return f"{size_mib(new.directory / new.names[0])} MiB each"

    def compare() -> str:
        clients = [Client(new.ports[name], STEP_S_MAX) for name in new.names]
        count, expiring = compared(Client(port, STEP_S_MAX), clients)
        return f"{count:,} keys, of which {expiring:,} expire: equal"

    writer = Writer(port, keys, database=1)
    writer.start()
    rows.tell_step("backup under writes", port, backup)
    rows.tell_step("backup verified", port, verify)
    rows.tell_step("restored for three nodes of another cluster", port, restore)
    rows.tell_step("these started, until each serves all keys", port, start)
    writer.stop()
    assert len(saved) == len(restored) == 1, f"digests differ: {saved}, {restored}"
    clusters = {(each.facts(name) or {})["cluster"] for each in (old, new) for name in each.names}
    assert len(clusters) == 2, f"these should be two clusters: {clusters}"
    rows.tell_step("each key, value and expiry compared with those of each new node", port, compare)


def measure(directory: Path, keys: int, rows: Rows) -> None:
    clusters: list[Cluster] = []
    for name in ("old", "new"):
        (directory / name).mkdir()
        clusters.append(Cluster(directory / name))
    old, new = clusters
    try:
        old.start()
        leader = old.leader()
        node = next(name for name in old.names if name != leader)
        measure_snapshots(old, leader, node, keys, rows)
        measure_backup(old, node, new, keys, rows)
        for cluster in clusters:
            cluster.stop()
    finally:
        for cluster in clusters:
            cluster.clear_away()


def page(rows: Rows) -> str:
    machine = f"Python {platform.python_version()}, Linux {platform.release().partition('-')[0]}"
    return f"""# What snapshots and backups cost

Written by `make bench-snapshots`, on three nodes and the load on two cores ({machine}).

| what | figure |
| --- | --- |
{rows.table()}
PING is asked every 2 ms, so its longest wait is how long the node's event loop was busy with something else. From the backup
on it is asked of the node that the backup was taken from, on a machine that the commands and the new cluster share with it.

The backup has one digest, as `backup` and `verify` say; so have the three directories, as each `restore` says. In the end
every key that SCAN finds in the old cluster is read there and from each node of the new one: its value (MGET) and the moment at
which it expires (PEXPIRETIME). DBSIZE says that there are no others.
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_S)
    rows = Rows()
    with tempfile.TemporaryDirectory(prefix="sofadb-snapshots-") as directory:
        measure(Path(directory), options.keys, rows)
    if options.page is not None:
        options.page.write_text(page(rows))


if __name__ == "__main__":
    main()
