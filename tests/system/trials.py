"""A trial: real nodes, clients that note everything, and a judgement in the end."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Sequence

from askers import REPLY_TIMEOUT_S, Asker, Excuses, final_reads, longest_wait, lost
from processes import Client, Cluster, wait_until
from sofadb.sim.checker import check


class Trial:
    """Nodes, nine clients, and somebody who strikes."""

    def __init__(self, cluster: Cluster, nodes: Sequence[str] = ()) -> None:
        """The clients are of these nodes, by default of all that there are; who is left alone goes to the next."""
        self.cluster = cluster
        self.excuses = Excuses()
        self.pauses_s: list[float] = []

        def connect(node: str) -> Client:
            return Client(cluster.ports[node], REPLY_TIMEOUT_S)

        self.askers = []
        for number in range(9):
            names = list(nodes or cluster.names)
            first = number % len(names)
            self.askers.append(Asker(connect, names[first:] + names[:first], number))

    def written_since(self, moment: float) -> set[str]:
        """The nodes without excuse that have served writes asked after that."""
        answered = [each for asker in self.askers for each in asker.answered_since(moment)]
        return {each.node for each in answered if each.writes and not self.excuses.cover(each)}

    def goes_on(self) -> None:
        """Wait until clients of all nodes without excuse have written something."""
        moment = time.monotonic()
        excused = {node for node, spans in self.excuses.spans.items() if spans[-1][1] > moment}
        nodes = set(self.cluster.processes) - excused
        wait_until(lambda: nodes == self.written_since(moment), "clients get on")

    def some_leave(self, node: str) -> None:
        for asker in self.askers[::2]:  # The others wait, or find out.
            asker.leave(node)

    def measure(self, struck_at: float) -> None:
        """Note the longest wait of those who asked before they were served by another leader."""
        self.pauses_s.append(longest_wait(self.askers, self.excuses, struck_at, time.monotonic()))

    def kill(self) -> None:
        leader = self.cluster.leader()
        self.excuses.begin(leader)
        struck_at = time.monotonic()
        self.cluster.kill(leader)
        self.goes_on()
        self.measure(struck_at)
        self.cluster.start(leader)
        self.excuses.end(leader)
        wait_until(lambda: (self.cluster.facts(leader) or {}).get("leader"), "it is back")

    def pause(self, seconds: float) -> None:
        leader = self.cluster.leader()
        self.excuses.begin(leader)
        struck_at = time.monotonic()
        self.cluster.signal(leader, signal.SIGSTOP)
        self.some_leave(leader)
        self.goes_on()
        self.measure(struck_at)
        time.sleep(max(0.0, struck_at + seconds - time.monotonic()))
        self.excuses.end(leader)
        self.cluster.signal(leader, signal.SIGCONT)

    def hand_over(self) -> None:
        """FAILOVER, to either of the others in turn."""
        leader = self.cluster.leader()
        successor = [name for name in self.cluster.names if name != leader][len(self.pauses_s) % 2]
        struck_at = time.monotonic()
        reply = self.cluster.client(leader)("FAILOVER", "TO", "127.0.0.1", self.cluster.ports[successor])
        assert reply == b"OK", reply
        wait_until(lambda: self.cluster.leader() == successor, f"{successor} leads")
        self.measure(struck_at)

    def judge(self) -> None:
        """Nobody without excuse got an error, nothing is lost, and all that was seen is one history."""
        for asker in self.askers:
            asker.stop()
        wrong = [each for asker in self.askers for each in asker.setbacks if not self.excuses.cover(each)]
        assert not wrong, wrong[:5]
        history = [operation for asker in self.askers for operation in asker.history]
        reads = final_reads(map(self.cluster.client, self.cluster.processes), history)
        assert sum(operation.end is not None for operation in history) > 100
        assert lost(history, reads) == []
        verdict = check([*history, *reads])
        assert verdict, str(verdict)
        if self.pauses_s:
            pauses = ", ".join(f"{1000 * pause:.0f}" for pause in self.pauses_s)
            print(f"pauses of {pauses} ms; median {1000 * statistics.median(self.pauses_s):.0f} ms")
