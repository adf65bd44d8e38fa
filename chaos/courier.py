"""A courier between machines who is late, brings things twice, and in another order.

It takes the packets that netfilter queues (NFQUEUE) in some namespaces, lets each go on when its time has come, and sends
a second copy of some by a raw socket, marked so that it is not queued again. Packets that are delayed by different times
overtake one another.

    python -m chaos.courier --delay-ms 20 --spread-ms 30 --twice-percent 10 NAMESPACE...
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Callable

from namespaces import enter_namespace
from netfilterqueue import NetfilterQueue, Packet

QUEUE = 1
MARK = 1
PACKETS_MAX = 8_192
"""In the hands of the courier, of one machine; netfilter drops what comes beyond that."""
IDLE_MS = 100.0


class Courier:
    """One for all machines, so that there is one process only."""

    def __init__(self, delay_ms: float, spread_ms: float, twice_percent: float) -> None:
        self.delay_ms, self.spread_ms, self.twice_percent = delay_ms, spread_ms, twice_percent
        self.chance = random.Random(1)
        self.bag: list[tuple[float, int, Callable[[], None]]] = []
        """What is to be done, and when."""
        self.order = itertools.count()
        self.poll = select.poll()
        self.queues: dict[int, NetfilterQueue] = {}

    def serve(self, namespace: str) -> None:
        """Take the packets of this machine, too. What is opened here belongs to it for good."""
        descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        enter_namespace(descriptor)
        os.close(descriptor)
        copies = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        copies.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        queue = NetfilterQueue()
        queue.bind(QUEUE, lambda packet: self.take(packet, copies), max_len=PACKETS_MAX)
        self.queues[queue.get_fd()] = queue
        self.poll.register(queue.get_fd(), select.POLLIN)

    def take(self, packet: Packet, copies: socket.socket) -> None:
        if self.chance.uniform(0, 100) < self.twice_percent:
            data = packet.get_payload()
            address = socket.inet_ntoa(data[16:20]), 0
            self.put(lambda: copies.sendto(data, address))
        packet.retain()
        self.put(packet.accept)

    def put(self, do: Callable[[], object]) -> None:
        due = time.monotonic() + (self.delay_ms + self.chance.uniform(0, self.spread_ms)) / 1000
        heapq.heappush(self.bag, (due, next(self.order), do))

    def work(self) -> None:
        """For ever."""
        while True:
            wait_ms = (self.bag[0][0] - time.monotonic()) * 1000 if self.bag else IDLE_MS
            for descriptor, _ in self.poll.poll(max(0.0, wait_ms)):
                self.queues[descriptor].run(block=False)
            while self.bag and self.bag[0][0] <= time.monotonic():
                heapq.heappop(self.bag)[2]()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--spread-ms", type=float, default=0)
    parser.add_argument("--twice-percent", type=float, default=0)
    parser.add_argument("namespaces", nargs="+")
    options = parser.parse_args()
    courier = Courier(options.delay_ms, options.spread_ms, options.twice_percent)
    for namespace in options.namespaces:
        courier.serve(namespace)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print("ready", flush=True)
    courier.work()


if __name__ == "__main__":
    main()
