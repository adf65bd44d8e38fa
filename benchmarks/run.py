"""Measure three nodes on this machine with redis-benchmark (Debian: apt-get install redis-tools).

    python benchmarks/run.py [--requests 200000] [--bytes 256]

The nodes and the load generator share the machine's cores, so this says what a small machine does, not what a node could do by
itself. Prints a table for README.md.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sofadb.cli.client import ask

PORT = 21001
LOADS = {
    "50 connections": ["-c", "50"],
    "200 connections": ["-c", "200"],
    "50 connections, 16 in flight each": ["-c", "50", "-P", "16"],
}


def measure(port: int, load: list[str], requests: int, size: int) -> dict[str, float]:
    """Requests per second of SET and GET."""
    command = ["redis-benchmark", "-p", str(port), "-t", "set,get", "-q", "-r", "100000"]
    command += ["-n", str(requests), "-d", str(size), *load]
    output = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
    return {
        name: float(rate) for name, rate in re.findall(r"(SET|GET): ([0-9.]+) requests per second", output)
    }


def main() -> None:
    """Bring a cluster up, measure at the leader and at a follower, and take it down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--bytes", type=int, default=256)
    options = parser.parse_args()
    if shutil.which("redis-benchmark") is None:
        sys.exit("redis-benchmark is not installed (Debian: apt-get install redis-tools)")
    with tempfile.TemporaryDirectory() as directory:
        up = [
            sys.executable,
            "-m",
            "sofadb",
            "up",
            "--dir",
            str(Path(directory) / "data"),
            "--port",
            str(PORT),
        ]
        cluster = subprocess.Popen(up, stdout=subprocess.PIPE, text=True)
        try:
            assert cluster.stdout is not None
            print(cluster.stdout.readline().strip(), flush=True)
            facts = json.loads(ask("127.0.0.1", PORT, "SOFA.INFO"))
            ports = {
                each["node"]: int(each["client_address"].rpartition(":")[2]) for each in facts["members"]
            }
            leader = ports[facts["leader"]]
            follower = next(port for port in ports.values() if port != leader)
            print(f"| requests per second, {options.bytes} bytes | {' | '.join(LOADS)} |")
            print(f"| --- |{' --- |' * len(LOADS)}", flush=True)
            for where, port in (("leader", leader), ("follower", follower)):
                rates = [measure(port, load, options.requests, options.bytes) for load in LOADS.values()]
                for name in ("SET", "GET"):
                    cells = " | ".join(f"{each[name]:,.0f}" for each in rates)
                    print(
                        f"| {name}, asked at {'the' if where == 'leader' else 'a'} {where} | {cells} |",
                        flush=True,
                    )
        finally:
            cluster.terminate()
            cluster.wait(30)


if __name__ == "__main__":
    main()
