"""A node of a sketch: it knows SETs and GETs of one size each, and no failure at all. How fast it is bounds what a program can be
that is written as this one is, but minds what happens to real ones.

    python benchmarks/peers/sketch_node.py PORT FILE                    follows whoever connects
    python benchmarks/peers/sketch_node.py PORT FILE PORT PORT          leads these two, and takes requests at its port

One batch at a time: all that clients wrote while the one before was under way, and what those write at once who are answered.
(Others on the machine, who may be these, have the processor meanwhile.) It goes to the followers and to the disk, and is executed
when two of the three have it there; reads wait until a follower has answered a round that began later.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from struct import Struct
from typing import cast

import uvloop

FRAME = Struct(">IQ")  # bytes that follow, number of the batch; of a round of readers nothing follows
NUMBER = Struct(">Q")
FILE_BYTES, PAGE_BYTES = 64 << 20, 4096
QUORUM = 2
QUIET_TURNS = 6
"""Those who were answered are heard until all of them have asked, or so many turns of the event loop brought nothing."""


def opened(path: str) -> int:
    """To be written past the page cache, where the file system lets it."""
    try:
        return os.open(path, os.O_WRONLY | os.O_DIRECT)
    except OSError:
        return os.open(path, os.O_WRONLY)


class Disk:
    """Writes and syncs what is given to it, in a thread, past the page cache, round and round in one file full of zeros."""

    def __init__(self, path: str) -> None:
        self.loop = asyncio.get_running_loop()
        with open(path, "wb") as file:
            file.write(bytes(FILE_BYTES))
            os.fsync(file.fileno())
        self.file = opened(path)
        self.buffer = mmap.mmap(-1, FILE_BYTES)
        self.asked: SimpleQueue[tuple[bytes, Callable[[], None]]] = SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        at = 0
        while True:
            data, done = self.asked.get()
            size = -(-len(data) // PAGE_BYTES) * PAGE_BYTES
            at = at if at + size <= FILE_BYTES else 0
            self.buffer[: len(data)] = data
            os.pwritev(self.file, [memoryview(self.buffer)[:size]], at)
            os.fdatasync(self.file)
            at += size
            self.loop.call_soon_threadsafe(done)


class State:
    """Keys and values."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def set(self, requests: bytes) -> None:
        lines = requests.split(b"\r\n")
        self.values.update(zip(lines[4::7], lines[6::7], strict=True))

    def get(self, requests: bytes) -> list[bytes]:
        found = map(self.values.get, requests.split(b"\r\n")[4::5])
        return [b"$-1\r\n" if each is None else b"$%d\r\n%b\r\n" % (len(each), each) for each in found]


class Follower(asyncio.Protocol):
    """Its leader's connection."""

    def __init__(self, disk: Disk) -> None:
        self.disk, self.state, self.received = disk, State(), bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        while len(self.received) >= FRAME.size:
            size, number = FRAME.unpack_from(self.received)
            end = FRAME.size + size
            if len(self.received) < end:
                return
            batch = bytes(self.received[FRAME.size : end])
            del self.received[:end]
            if batch:
                self.disk.asked.put((batch, lambda batch=batch, number=number: self._stable(batch, number)))  # type: ignore[misc]
            else:
                self.transport.write(NUMBER.pack(number))

    def _stable(self, batch: bytes, number: int) -> None:
        self.transport.write(NUMBER.pack(number))
        self.state.set(batch)


class Leader:
    """Gathers, sends, and answers."""

    def __init__(self, disk: Disk) -> None:
        self.disk, self.state = disk, State()
        self.followers: list[asyncio.Transport] = []
        self.loop = asyncio.get_running_loop()
        self.number = self.votes = 0
        self.writes: list[tuple[Client, bytes]] = []
        self.reads: list[tuple[Client, bytes]] = []
        self.batch: list[tuple[Client, bytes]] = []
        """What is under way; and ..."""
        self.round: list[tuple[Client, bytes]] = []
        """... who reads when the latest round is answered."""
        self.batch_number = self.round_number = 0
        self.is_due = False
        self.turns = self.seen = self.awaited = 0

    def soon(self) -> None:
        if not self.is_due:
            self.is_due = True
            self.turns = QUIET_TURNS
            self.loop.call_soon(self._flush)

    def hear(self, answered: int) -> None:
        self.turns = self.seen = 0
        self.awaited = len(self.writes) + len(self.reads) + answered
        if not self.is_due:
            self.is_due = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self.turns < QUIET_TURNS:
            asked = len(self.writes) + len(self.reads)
            self.turns = self.turns + 1 if asked == self.seen else 0
            self.seen = asked
            if asked < self.awaited:
                os.sched_yield()
                self.loop.call_soon(self._flush)
                return
        self.is_due = False
        if self.writes and not self.batch:
            self.batch, self.writes, self.votes = self.writes, [], 0
            self.number += 1
            self.batch_number = self.number
            number, data = self.number, b"".join([each for _, each in self.batch])
            for follower in self.followers:
                follower.writelines([FRAME.pack(len(data), number), data])
            self.disk.asked.put((data, lambda: self.stable(number)))
        if self.reads and not self.round:
            self.round, self.reads = self.reads, []
            self.number += 1
            self.round_number = self.number
            self.followers[0].write(FRAME.pack(0, self.number))

    def stable(self, number: int) -> None:
        """One more has the batch on its disk, or has answered the round."""
        if self.round and number == self.round_number:
            answered, self.round = self.round, []
            for client, data in answered:
                client.transport.write(b"".join(self.state.get(data)))
            self.hear(len(answered))
        elif (
            self.batch and number == self.batch_number
        ):  # The third vote for the one before comes later, and is none for this.
            self.votes += 1
            if self.votes == QUORUM:
                done, self.batch = self.batch, []
                self.state.set(b"".join([each for _, each in done]))
                for client, data in done:
                    client.transport.write(b"+OK\r\n" * (len(data) // client.size))
                self.hear(len(done))


class Client(asyncio.Protocol):
    """A client's connection. All its requests are as long as its first."""

    def __init__(self, leader: Leader) -> None:
        self.leader, self.size, self.rest = leader, 0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        word = data[8:11]
        if not self.size and word not in (b"SET", b"GET"):
            self.transport.write(b"-ERR it is only a sketch\r\n" * data.count(b"*"))
            return
        if not self.size:
            self.size = data.find(b"\r\n*") + 2 if b"\r\n*" in data else len(data)
        if self.rest:
            data, self.rest = self.rest + data, b""
        if len(data) % self.size:
            self.rest = data
            return
        leader = self.leader
        (leader.writes if data[8:11] == b"SET" else leader.reads).append((self, data))
        leader.soon()


class Vote(asyncio.Protocol):
    """A follower's connection, at its leader."""

    def __init__(self, leader: Leader) -> None:
        self.leader, self.received = leader, b""

    def data_received(self, data: bytes) -> None:
        data = self.received + data
        end = len(data) - len(data) % NUMBER.size
        self.received = data[end:]
        for (number,) in NUMBER.iter_unpack(data[:end]):
            self.leader.stable(number)


async def main(port: str, file: str, *followers: str) -> None:
    """Serve for ever."""
    loop, disk = asyncio.get_running_loop(), Disk(file)
    if not followers:
        await loop.create_server(lambda: Follower(disk), "127.0.0.1", int(port))
    else:
        leader = Leader(disk)
        for each in followers:
            while True:
                try:
                    transport, _ = await loop.create_connection(lambda: Vote(leader), "127.0.0.1", int(each))
                    break
                except OSError:
                    await asyncio.sleep(0.05)
            leader.followers.append(transport)
        await loop.create_server(lambda: Client(leader), "127.0.0.1", int(port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
