"""Clients of all nodes at once, while leaders are killed: what they saw is linearizable."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import hiredis

from processes import Client, Cluster
from sofadb.sim.checker import check
from sofadb.sim.history import Operation, Verb

KEYS = {
    verb: [f"{kind}:{n}" for n in range(6)]
    for kind, verbs in {"register": ("set", "get", "del"), "number": ("incr",), "text": ("append",)}.items()
    for verb in verbs
}


class Asking(threading.Thread):
    """One client of one node. It never asks twice; what it is not told is unknown."""

    def __init__(self, cluster: Cluster, name: str, number: int) -> None:
        super().__init__()
        self.cluster, self.name_of_node, self.number = cluster, name, number
        self.chance = random.Random(number)
        self.history: list[Operation] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        client: Client | None = None
        while not self.stopping.is_set():
            try:
                client = client or Client(self.cluster.ports[self.name_of_node])
            except OSError:
                self.stopping.wait(0.05)  # Its node is down: nothing was asked.
                continue
            if not self.ask(client):
                client.close()
                client = None
        if client is not None:
            client.close()

    def ask(self, client: Client) -> bool:
        """Do one operation and note it; whether the connection is still there."""
        verb: Verb = self.chance.choices(["set", "get", "del", "incr", "append"], [4, 6, 1, 3, 3])[0]
        key = self.chance.choice(KEYS[verb])
        if verb == "get":
            key = self.chance.choice([*KEYS["set"], *KEYS["incr"], *KEYS["append"]])
        value = f"{self.number}.{len(self.history)};" if verb in ("set", "append") else None
        start = time.monotonic()
        try:
            reply = client(verb, key) if value is None else client(verb, key, value)
        except OSError:
            reply = None
        else:
            if isinstance(reply, hiredis.ReplyError):
                if str(reply).startswith("NOREPLICAS"):
                    return True  # It never ran.
                assert str(reply).startswith("UNCERTAIN"), reply
                reply = None
            end: float | None = time.monotonic()
            if reply is not None or verb == "get":
                result = reply.decode() if isinstance(reply, bytes) else reply
                self.history.append(Operation(self.number, verb, key, value, None, start, end, result))
                return True
        # A client of unknown outcome goes on as another one: its operation may be under way still.
        self.history.append(Operation(self.number, verb, key, value, None, start, None, None))
        self.number += 1000
        return False


def test_what_clients_of_all_nodes_saw_while_leaders_were_killed_is_linearizable(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.start()
    cluster.leader()
    clients = [Asking(cluster, name, 10 * n + k) for n, name in enumerate(cluster.names) for k in range(2)]
    for client in clients:
        client.start()
    for _ in range(3):
        leader = cluster.leader()
        done = [len(client.history) for client in clients]
        cluster.kill(leader)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if sum(len(c.history) > before + 50 for c, before in zip(clients, done, strict=True)) >= 4:
                break
            time.sleep(0.02)
        else:
            raise AssertionError("the clients of the others do not get on")
        cluster.start(leader)
    cluster.leader()
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join()
    reader = cluster.client("n1")
    history = [operation for client in clients for operation in client.history]
    for key in sorted({operation.key for operation in history}):
        start = time.monotonic()
        found = reader("GET", key)
        text = None if found is None else found.decode()
        history.append(Operation(99_999, "get", key, None, None, start, time.monotonic(), text))
    cluster.stop()
    assert sum(operation.end is not None for operation in history) > 1_000
    verdict = check(history)
    assert verdict, str(verdict)
