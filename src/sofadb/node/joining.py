"""How a node that wants to join finds the cluster: it asks one member, at any address, who the members are.

It greets as every node does, and says that it joins; so it is answered though it is no member, and though it may not know the
cluster's id. It gets a greeting and the members' addresses, and nothing that it says is heard by anybody's acceptor.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sofadb.paxos import NodeId

from .facts import split_address
from .frames import MEMBERS_BYTES_MAX, PREAMBLE, SMALL, BadPeer, FrameReader, Greeting, decode_members, frame
from .peers import Myself

NOWHERE = "-:0"
"""The address of a node that asks before it has a directory: it cannot be reached yet."""
ANSWER_TIMEOUT_S = 5.0
"""For all of it: to connect, and to be answered."""


class NotFound(Exception):
    """No cluster was found there; the text says why, for a person."""


@dataclass(frozen=True, slots=True)
class Found:
    """A cluster."""

    cluster: str
    members: dict[NodeId, str]
    """Each acceptor's peer address as HOST:PORT."""
    initial: dict[NodeId, str]
    """Those with whom the cluster began."""


class _Question(asyncio.Protocol):
    """A connection that asks who the members are."""

    def __init__(self, myself: Myself) -> None:
        self.myself = myself
        self.reader = FrameReader()
        self.answer: Greeting | None = None
        self.found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        greeting = self.myself.greeting(SMALL, joining=True)
        transport.writelines([PREAMBLE, *frame([greeting.encode()])])  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        try:
            for contents in self.reader.feed(data):
                if self.answer is None:
                    self._on_greeting(Greeting.decode(contents))
                else:
                    self._end(Found(self.answer.cluster, *decode_members(contents)))
        except BadPeer as problem:
            self._end(NotFound(str(problem)))

    def _on_greeting(self, answer: Greeting) -> None:
        if answer.problem:
            raise BadPeer(f"it refuses us: {answer.problem}")
        if (answer.acceptor, answer.life) == (self.myself.acceptor, self.myself.life.id):
            raise BadPeer("this node itself is there; name the address of a member of the cluster")
        self.answer = answer
        self.reader.bytes_max = MEMBERS_BYTES_MAX

    def connection_lost(self, error: Exception | None) -> None:
        self._end(
            NotFound(str(error) if error else "it closed the connection before it told who the members are")
        )

    def _end(self, outcome: Found | NotFound) -> None:
        if self.found.done():
            return
        if isinstance(outcome, Found):
            self.found.set_result(outcome)
        else:
            self.found.set_exception(outcome)


async def find_cluster(address: str, myself: Myself) -> Found:
    """Ask whoever is at `address` (HOST:PORT) for the members of its cluster.

    `myself.cluster` is the id of the cluster that it must be; empty if any will do. Raises `NotFound`.
    """
    host, port = split_address(address)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            transport, question = await loop.create_connection(lambda: _Question(myself), host, port)
            try:
                return await question.found
            finally:
                transport.close()
    except TimeoutError:
        problem = f"no answer within {ANSWER_TIMEOUT_S:g} s"
    except (OSError, UnicodeError, NotFound) as error:  # The second: of a host name that is none.
        problem = str(error)
    raise NotFound(f"no cluster was found at {address}: {problem}")
