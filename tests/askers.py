"""Clients that note what they did and what they saw: for the checker of histories, and for counting errors and waits.

An asker talks to one node, in single commands, pipelines and transactions. It never asks twice. When its connection ends,
or no reply comes, it goes on to the next node for a while, and what it had asked is of unknown outcome; so is what was answered
with UNCERTAIN. What was refused with NOREPLICAS never ran and is no part of the history.

What is no proper answer is a `Setback`. Whether it is excused is for whoever struck to say (`Excuses`): a node that is
dead, paused or cut off cannot serve its clients, any other one must.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import hiredis

from processes import Client
from sofadb.sim.history import Operation, Verb

KEYS_OF_A_KIND = 12
KINDS: dict[Verb, str] = {
    "set": "register",
    "get": "register",
    "del": "register",
    "incr": "number",
    "append": "text",
}
SHAPES = ("single", "pipeline", "transaction")
VISIT_REQUESTS = 50
"""Who had to go to another node tries the first one again after so many requests, so that none is without clients."""
REPLY_TIMEOUT_S = 9.0
"""A node that lives answers within its patience, which is 5 s."""

SetbackKind = Literal["refused", "uncertain", "disconnected", "no reply", "unexpected"]


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered, and not by an error."""

    node: str
    start: float
    end: float
    writes: bool


@dataclass(frozen=True, slots=True)
class Setback:
    """A request that was not answered as it should be."""

    node: str
    start: float
    end: float
    kind: SetbackKind
    text: str


@dataclass(slots=True)
class Excuses:
    """When which node could not be expected to serve anybody."""

    spans: dict[str, list[list[float]]] = field(default_factory=dict)

    def begin(self, *nodes: str) -> None:
        for node in nodes:
            self.spans.setdefault(node, []).append([time.monotonic(), math.inf])

    def end(self, *nodes: str) -> None:
        for node in nodes:
            self.spans[node][-1][1] = time.monotonic()

    def end_all(self) -> None:
        for node, spans in self.spans.items():
            if spans[-1][1] == math.inf:
                self.end(node)

    def cover(self, event: Answered | Setback) -> bool:
        """Whether its node was excused at some time between request and reply."""
        return any(begin <= event.end and event.start <= end for begin, end in self.spans.get(event.node, ()))


class Asker(threading.Thread):
    """One client after another, of one node after another."""

    def __init__(
        self, connect: Callable[[str], Client], nodes: Sequence[str], number: int, pause_s: float = 0.005
    ) -> None:
        """It begins at the first of the nodes. `connect` raises `OSError` if a node is down."""
        super().__init__(daemon=True)
        self.history: list[Operation] = []
        self.answered: list[Answered] = []
        self.setbacks: list[Setback] = []
        self.mistake = ""
        """Why it ended by itself, which it never should."""
        self._connect = connect
        self._nodes = list(nodes)
        self._at = 0
        self._visit = 0
        """How many requests it makes before it returns to its first node."""
        self._number = number * 1_000_000
        self._chance = random.Random(number)
        self._pause_s = pause_s
        self._client: Client | None = None
        self._stopping = threading.Event()

    @property
    def node(self) -> str:
        """Where it is now."""
        return self._nodes[self._at]

    def stop(self) -> None:
        """Finish what was asked, and end."""
        self._stopping.set()
        self.join(2 * REPLY_TIMEOUT_S)
        assert not self.is_alive(), "a client does not end"
        assert not self.mistake, self.mistake

    def meet(self, node: str) -> None:
        """There is one more node."""
        self._nodes.append(node)

    def leave(self, node: str) -> None:
        """If it is there, do not wait for this node any longer."""
        client = self._client
        if self.node == node and client is not None:
            with contextlib.suppress(OSError):  # The connection is gone already.
                client.socket.shutdown(socket.SHUT_RDWR)

    def answered_since(self, moment: float) -> list[Answered]:
        """What was asked after that, and is answered."""
        answered = reversed(list(self.answered))
        return list(itertools.takewhile(lambda each: each.start > moment, answered))

    def run(self) -> None:
        try:
            while not self._stopping.wait(self._pause_s):
                self._go_on()
        except Exception as mistake:  # noqa: BLE001 - Whoever stops it hears of it.
            self.mistake = f"a client made a mistake: {mistake!r}"
        if self._client is not None:
            self._client.close()

    def _go_on(self) -> None:
        if self._at and not self._visit:
            self._go_to(0)
        try:
            client = self._client = self._client or self._connect(self.node)
        except OSError:
            self._go_to(self._at + 1)  # Nothing was asked.
            return
        self._visit -= 1
        if not self._ask(client):
            self._go_to(self._at + 1)

    def _go_to(self, at: int) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        self._at = at % len(self._nodes)
        self._visit = VISIT_REQUESTS

    def _draw(self) -> tuple[Verb, str, str | None]:
        verb: Verb = self._chance.choices(["set", "get", "del", "incr", "append"], [4, 6, 1, 3, 3])[0]
        kind = self._chance.choice(["register", "number", "text"]) if verb == "get" else KINDS[verb]
        key = f"{kind}:{self._chance.randrange(KEYS_OF_A_KIND)}"
        return verb, key, f"{self._number}.{len(self.history)};" if verb in ("set", "append") else None

    def _ask(self, client: Client) -> bool:
        """Make one request and note what came of it; whether the connection is still of use."""
        shape = self._chance.choices(SHAPES, [8, 1, 1])[0]
        keys: dict[str, tuple[Verb, str, str | None]] = {}
        for _ in range(1 if shape == "single" else self._chance.randint(2, 5)):
            verb, key, value = self._draw()
            if value is not None:
                value = f"{len(keys)}.{value}"
            keys.setdefault(key, (verb, key, value))  # A key once, so that their order need not be told.
        drawn = list(keys.values())
        commands: list[tuple[str, ...]] = [words[:2] if words[2] is None else words for words in drawn]
        if shape == "transaction":
            commands = [("MULTI",), *commands, ("EXEC",)]
        start = time.monotonic()
        replies: list[Any] = []
        problem: OSError | None = None
        try:
            client.send(*commands)
            replies += [(client.receive(), time.monotonic()) for _ in commands]
        except OSError as lost:
            problem = lost
        if shape == "transaction":
            replies = self._of_exec(replies, len(drawn))
        is_known = self._note(drawn, replies, start)
        if problem is not None:
            kind: SetbackKind = "no reply" if isinstance(problem, TimeoutError) else "disconnected"
            self.setbacks.append(Setback(self.node, start, time.monotonic(), kind, str(problem)))
        elif not any(isinstance(reply, hiredis.ReplyError) for reply, _ in replies):
            end = replies[-1][1]
            self.answered.append(Answered(self.node, start, end, any(verb != "get" for verb, *_ in drawn)))
        if not is_known:
            self._number += 1_000  # Whoever does not know the outcome goes on as another client.
        return problem is None

    def _of_exec(self, replies: list[Any], count: int) -> list[Any]:
        """The replies of a transaction's commands: those in EXEC's, or its error for each."""
        if len(replies) < count + 2:
            return []
        reply, end = replies[-1]
        return [(each, end) for each in (reply if isinstance(reply, list) else [reply] * count)]

    def _note(
        self,
        drawn: Sequence[tuple[Verb, str, str | None]],
        replies: Sequence[tuple[Any, float]],
        start: float,
    ) -> bool:
        """Add to the history; whether all outcomes are known. Those of one request overlap, so each has a client."""
        is_known = True
        for at, (verb, key, value) in enumerate(drawn):
            reply, end = replies[at] if at < len(replies) else (None, None)
            if isinstance(reply, hiredis.ReplyError):
                assert end is not None
                kind: SetbackKind = "unexpected"
                if str(reply).startswith("NOREPLICAS"):
                    kind = "refused"
                elif str(reply).startswith("UNCERTAIN"):
                    kind = "uncertain"
                self.setbacks.append(Setback(self.node, start, end, kind, str(reply)))
                if kind == "refused":
                    continue
                end = None
            is_known = is_known and end is not None
            result = None if end is None else reply.decode() if isinstance(reply, bytes) else reply
            self.history.append(Operation(self._number + at, verb, key, value, None, start, end, result))
        return is_known


def final_reads(clients: Iterable[Client], history: Sequence[Operation]) -> list[Operation]:
    """What each of these clients, one after the other, reads of every key in the end."""
    found: list[Operation] = []
    for number, client in enumerate(clients):
        for key in sorted({operation.key for operation in history}):
            start = time.monotonic()
            reply = client("GET", key)
            assert reply is None or isinstance(reply, bytes), f"the last GET of {key}: {reply}"
            text = None if reply is None else reply.decode()
            found.append(Operation(-1 - number, "get", key, None, None, start, time.monotonic(), text))
    return found


def lost(history: Sequence[Operation], finally_read: Sequence[Operation]) -> list[Operation]:
    """The acknowledged writes that nothing is left of: appended texts, which nobody removes."""
    texts: dict[str, list[str]] = {}
    for read in finally_read:
        texts.setdefault(read.key, []).append(str(read.result))
    return [
        operation
        for operation in history
        if operation.op == "append"
        and operation.end is not None
        and operation.value is not None
        and not all(text.count(operation.value) == 1 for text in texts[operation.key])
    ]


def longest_wait(
    askers: Iterable[Asker], excuses: Excuses, since: float = -math.inf, until: float = math.inf
) -> float:
    """How long, in seconds, a client of a node without excuse waited for an answer, if for a moment of that span."""
    return max(
        (
            each.end - each.start
            for asker in askers
            for each in list(asker.answered)
            if each.end >= since and each.start <= until and not excuses.cover(each)
        ),
        default=0.0,
    )
