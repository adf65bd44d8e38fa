"""A member of a cluster of PySyncObj that measures itself: it has no protocol for clients, so who uses it is a member, too.

    python benchmarks/peers/pysyncobj_node.py OWN_ADDRESS JOURNAL OTHER_ADDRESS...

Reads lines on stdin, each a JSON object, and answers each with one on stdout:

    {"do": "leader"}                                             -> {"leader": "127.0.0.1:1"}
    {"do": "closed", "operation": "SET", "in_flight": 50, "size": 256, "seconds": 3, "warm_up": 1}
    {"do": "open", "operation": "SET", "rate": 2000, "size": 256, "seconds": 3}
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated

from sofadb.load.latencies import Figures
from sofadb.load.pacing import Open

KEYS = 10_000
TICK_S = 0.001
PATIENCE_S = 10.0


class Dictionary(SyncObj):  # type: ignore[misc]
    """Keys and values; reads go through the log as well, since others may be stale."""

    def __init__(self, own: str, journal: str, others: list[str]) -> None:
        self.values: dict[str, bytes] = {}
        super().__init__(own, others, SyncObjConf(journalFile=journal, dynamicMembershipChange=False))

    @replicated
    def put(self, key: str, value: bytes) -> None:
        self.values[key] = value

    @replicated
    def get(self, key: str) -> bytes | None:
        return self.values.get(key)


class Measurement:
    """One load; answers are noted by the thread of the member."""

    def __init__(self, dictionary: Dictionary, operation: str, size: int) -> None:
        self.dictionary, self.operation, self.value = dictionary, operation, b"x" * size
        self.figures = Figures()
        self.asked = self.done = 0
        self.is_over = False
        self.is_again = False
        """An answer leads to the next request."""

    def ask(self, due: float) -> None:
        self.asked += 1
        key = f"key:{self.asked * 7919 % KEYS:012d}"

        def answered(_: Any, reason: Any) -> None:
            now = time.monotonic()
            self.done += 1
            if reason == FAIL_REASON.SUCCESS:
                self.figures.latencies.append(now - due)
            else:
                self.figures.errors += 1
            if self.is_again and not self.is_over:
                self.ask(now)

        if self.operation == "SET":
            self.dictionary.put(key, self.value, callback=answered)
        else:
            self.dictionary.get(key, callback=answered)

    def closed(self, in_flight: int, seconds: float, warm_up: float) -> Figures:
        self.is_again = True
        for _ in range(in_flight):
            self.ask(time.monotonic())
        time.sleep(warm_up)
        self.figures = Figures()
        begin = time.monotonic()
        time.sleep(seconds)
        figures, self.figures = self.figures, Figures()
        figures.seconds = time.monotonic() - begin
        self.is_over = True
        return figures

    def open(self, rate: float, seconds: float) -> Figures:
        begin = time.monotonic()
        pacing = Open(begin, rate)
        while (now := time.monotonic()) < begin + seconds:
            for due in pacing.due(now, 1 << 30):
                self.ask(due)
            time.sleep(TICK_S)
        deadline = time.monotonic() + PATIENCE_S
        while self.done < self.asked and time.monotonic() < deadline:
            time.sleep(TICK_S)
        self.figures.seconds = seconds
        return self.figures


def answer(dictionary: Dictionary, wish: dict[str, Any]) -> dict[str, Any]:
    """Do what a line asks for."""
    if wish["do"] == "leader":
        leader = dictionary.getStatus()["leader"]
        return {"leader": str(getattr(leader, "address", leader) or "")}
    measurement = Measurement(dictionary, wish["operation"], wish["size"])
    if wish["do"] == "closed":
        figures = measurement.closed(wish["in_flight"], wish["seconds"], wish["warm_up"])
    else:
        figures = measurement.open(wish["rate"], wish["seconds"])
    return {"rate": figures.rate, "errors": figures.errors, **figures.percentiles_ms()}


def main() -> None:
    """Serve stdin until it ends."""
    dictionary = Dictionary(sys.argv[1], sys.argv[2], sys.argv[3:])
    for line in sys.stdin:
        print(json.dumps(answer(dictionary, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
