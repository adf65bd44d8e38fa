"""Clients of the laboratory: they speak RESP over simulated sockets, never retry, and note what they asked and were told.

Each client keeps one connection and works on it, one request after the other; a request may be a pipeline or a transaction.
What is not answered, because the connection broke or the patience ended, has an unknown outcome for ever. What was refused
with NOREPLICAS was certainly not done and is left out of the history: should it show all the same, the checkers find a value
that nobody wrote. Any other error is a violation: nobody asked for it.

Workloads, each with keys and a checker of its own:

- registers: get, set, del, append, incr and compare-and-set (by WATCH), pipelines; judged by the linearizability checker;
- lists: transactions that append to and read several lists (strings, cut at commas); judged by Elle's rules;
- bank: transfers between accounts and reads of all of them; the total is constant;
- anything: all kinds of commands, in several databases; judged by the replicas' states alone, which must be equal;
- expiry: values with a time to live; never gone early, never visible late, beyond the bound on clocks;
- once: increments with an id, each asked again, here and elsewhere, until it is answered, and counted once;
- locks: holders of a lock write behind its token; no two hold it, tokens rise, and no late holder's write is there;
- queues: elements are pushed, popped, and waited for on all nodes; none is lost, none comes twice, and they come in order;
- crowds: many connections to one node get or set the same way at the same time; judged as registers are.

And on a key that only one connection ever touches, a pipeline must behave as a program does: in order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import hiredis

from .checkers import bank, counters, expiry, lists, locks, queues
from .history import Operation
from .invariants import Violation
from .loop import ProcessLoop

PATIENCE_S = 8.0
"""Longer than a node lets a client wait."""
VALUE_BYTES = (0, 0, 0, 10, 300, 5_000)
"""What is added to a value, to make some of them large."""
LOCK_TTLS_MS = (300, 1_500, 4_000)
BLOCKED_S = ("0.05", "0.3", "1", "2.5")
"""So long clients wait for an element."""
FIRST_SERVED_S, FIRST_SERVED_TRIES = 4, 4
CROWD = (3, 8)
"""So many connections ask together, at least and at most."""
CROWD_KEYS = tuple(f"c{number:x}" for number in range(16))
CROWD_VALUE_BYTES = (12, 60)

Command = tuple[str | bytes | int, ...]
Step = tuple[str, str, str | None, Command]
"""An operation on a register: its name, the key, perhaps a value, and the command that does it."""


class Lost(Exception):
    """The connection broke, or nobody answered in time."""


class Session(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, lost: asyncio.Future[None]) -> None:
        self.reader = hiredis.Reader(encoding="utf-8", errors="surrogateescape")
        self.transport: asyncio.Transport | None = None
        self.lost = lost
        self._waiting: asyncio.Future[list[Any]] | None = None
        self._replies: list[Any] = []
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            self._replies.append(reply)
            self._missing -= 1
            if self._missing == 0 and self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(self._replies)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Lost())

    def send(self, *pieces: Sequence[Command]) -> asyncio.Future[list[Any]]:
        """Ask, piece by piece; the future has all replies, or raises `Lost`."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._replies, self._missing = [], sum(map(len, pieces))
        if self.lost.done() or self.transport is None:
            self._waiting.set_exception(Lost())
        else:
            for commands in pieces:
                self.transport.write(b"".join(hiredis.pack_command(command) for command in commands))  # type: ignore[arg-type]
        return self._waiting


class Records:
    """What all clients together were told."""

    def __init__(self) -> None:
        self.registers: list[Operation] = []
        self.lists: list[lists.Transaction] = []
        self.transfers: list[bank.Transfer] = []
        self.balances: list[bank.Read] = []
        self.expiry: list[expiry.Operation] = []
        self.attempts: list[counters.Attempt] = []
        self.counts: list[counters.Read] = []
        self.acquires: list[locks.Acquire] = []
        self.releases: list[locks.Release] = []
        self.fenced: list[locks.Write] = []
        self.pushes: list[queues.Push] = []
        self.pops: list[queues.Pop] = []
        self.drains: list[queues.Drain] = []
        self.answered = 0
        """Replies of any kind."""
        self.refused = 0
        self.unknown = 0

    @property
    def done(self) -> int:
        """Replies that say that something was done."""
        return self.answered - self.refused - self.unknown


class Client:
    """One client: connects somewhere, asks, and goes elsewhere when the connection breaks."""

    def __init__(
        self,
        number: int,
        loop: ProcessLoop,
        chance: random.Random,
        records: Records,
        workloads: tuple[str, ...],
        where: Callable[[], tuple[str, int]],
        think_s: float,
    ) -> None:
        """`where` says to whom to connect next."""
        self.number = number
        self.loop = loop
        self.chance = chance
        self.records = records
        self.where = self.anywhere = where
        self.think_s = think_s
        self.left = 0
        """How many requests it still makes."""
        self.is_asking = False
        """Whether it waits for an answer."""
        self.violation: Violation | None = None
        self.connected_to = ""
        """The address of the node it has connected to."""
        self.all_clocks_are_right = True
        self.connections = 0
        """How often it has tried to connect."""
        self._count = 0
        self._unanswered: str | None = None
        """The id of an increment that was asked for and not answered."""
        self._token = 0
        """Of the lock, when it was last taken."""
        self._to_look_at: tuple[str, ...] | None = None
        """Of which workloads it still has to read everything."""
        self._session: Session | None = None
        self._crowd: list[Session] = []
        """Further connections, all to one node."""
        self._crowd_asks = (0, 0)
        """How many commands each of them asks at a time, and how many bytes a value has."""
        choices = [each for name in workloads for each in _WORKLOADS[name]]
        self._requests = [request for _, request in choices]
        self._weights = [weight for weight, _ in choices]

    @property
    def now(self) -> float:
        """The time that all clients share (seconds)."""
        return self.loop.simulation.now

    @property
    def is_done(self) -> bool:
        """Whether it has asked all it was to ask, and was answered."""
        return self.left <= 0 and self._to_look_at is None and not self.is_asking

    def ask_for(self, requests: int) -> None:
        """Make so many requests more."""
        self.left += requests

    def ask_last(self, workloads: tuple[str, ...]) -> None:
        """Read everything there is of these workloads, until that succeeds."""
        self._to_look_at = workloads

    def start(self) -> None:
        """Begin to live."""
        self.loop.create_task(self._live())

    def disconnect(self) -> None:
        """Go elsewhere with the next request."""
        for session in (self._session, *self._crowd):
            if session is not None and session.transport is not None:
                session.transport.abort()
        self._crowd = []

    async def _live(self) -> None:
        while True:
            session = self._session
            if self.left <= 0 and self._to_look_at is None:
                await asyncio.sleep(0.02)
            elif session is None or session.lost.done():
                await self._connect()
            else:
                self.is_asking = True
                try:
                    await self._ask()
                except Lost:
                    pass
                except Violation as violation:
                    self.violation = self.violation or violation
                self.is_asking = False
                await asyncio.sleep(self.chance.expovariate(1 / self.think_s))

    async def _ask(self) -> None:
        if self.left > 0:
            self.left -= 1
            request = self.chance.choices(self._requests, self._weights)[0]
            await request(self)
        elif self._to_look_at is not None:
            await self.look_at_everything(self._to_look_at)
            self._to_look_at = None

    async def _connect(self) -> None:
        host, port = self.where()
        self.connected_to = host
        self.connections += 1
        try:
            self._session = await self._open(host, port)
        except (OSError, TimeoutError):
            await asyncio.sleep(self.chance.uniform(0.01, 0.2))

    async def _open(self, host: str, port: int) -> Session:
        lost = self.loop.create_future()
        async with asyncio.timeout(1.0):
            _, protocol = await self.loop.create_connection(lambda: Session(lost), host, port)
            return cast(Session, protocol)

    def _fresh(self) -> str:
        """A value that nobody else writes."""
        self._count += 1
        return f"{self.number}.{self._count}." + "x" * self.chance.choice(VALUE_BYTES)

    async def call(self, *commands: Command) -> list[Any]:
        """Ask and wait for all replies. Raises `Lost`."""
        return await self._call(None, commands)

    async def _call(self, session: Session | None, *pieces: Sequence[Command]) -> list[Any]:
        session = session or self._session
        assert session is not None
        try:
            async with asyncio.timeout(PATIENCE_S):
                replies = await session.send(*pieces)
        except TimeoutError:
            self.disconnect()
            raise Lost from None
        self.records.answered += len(replies)
        return replies

    def outcome(self, reply: Any) -> str:
        """ "ok", "failed" (certainly not done) or "unknown". Any other error is a violation."""
        if not isinstance(reply, hiredis.ReplyError):
            return "ok"
        text = str(reply)
        if text.startswith("NOREPLICAS"):
            self.records.refused += 1
            self.disconnect()  # Others may be better off.
            return "failed"
        if text.startswith("UNCERTAIN"):
            self.records.unknown += 1
            self.disconnect()  # It may still happen: what follows on this connection could overtake it.
            return "unknown"
        raise Violation("clients_get_no_other_error", f"client {self.number} was told: {text}")

    # Registers

    def _note(self, client: int, op: str, key: str, value: str | None, start: float, reply: Any) -> None:
        """One operation on a register, with its answer; `Lost` in the place of a reply that never came."""
        outcome = "unknown" if reply is Lost else self.outcome(reply)
        if outcome == "failed" or (outcome == "unknown" and op == "get"):
            return
        end = None if outcome == "unknown" else self.now
        result = None if end is None else reply
        self.records.registers.append(Operation(client, op, key, value, None, start, end, result))  # type: ignore[arg-type]

    async def _ask_registers(self, *pieces: list[Step], session: Session | None = None, at: int = 0) -> None:
        """Operations on registers, piece by piece; on our connection, or on another one, the `at`th."""
        start, steps = self.now, [step for piece in pieces for step in piece]
        replies: list[Any] = [Lost] * len(steps)
        try:
            replies = await self._call(session, *([command for *_, command in piece] for piece in pieces))
        finally:
            for index, ((op, key, value, _), reply) in enumerate(zip(steps, replies, strict=True)):
                self._note(self.number * 1000 + 100 * at + index, op, key, value, start, reply)

    def _step(self) -> Step:
        """Any operation on any register."""
        chance = self.chance
        if chance.random() < 0.25:
            key = f"n{chance.randrange(2)}"
            return ("incr", key, None, ("INCR", key)) if chance.random() < 0.7 else _get(key)
        key = f"r{chance.randrange(3)}"
        op = chance.choices(("get", "set", "append", "del"), (40, 35, 15, 5))[0]
        if op == "get":
            return _get(key)
        if op == "del":
            return op, key, None, ("DEL", key)
        value = self._fresh()
        return op, key, value, (op.upper(), key, value)

    async def one(self) -> None:
        """A single operation."""
        await self._ask_registers([self._step()])

    async def several(self) -> None:
        """A pipeline."""
        await self._ask_registers([self._step() for _ in range(self.chance.randint(2, 8))])

    async def compare_and_set(self) -> None:
        """WATCH, GET, and a SET in a transaction. One that fails tells nothing and is not noted."""
        key, value = f"r{self.chance.randrange(3)}", self._fresh()
        start = self.now
        watched, held = await self.call(("WATCH", key), ("GET", key))
        if self.outcome(watched) != "ok" or self.outcome(held) != "ok":
            self.disconnect()  # What is watched now is not known.
            return
        self._note(self.number * 1000, "get", key, None, start, held)
        start, reply = self.now, cast(Any, Lost)
        try:
            *_, reply = await self.call(("MULTI",), ("SET", key, value), ("EXEC",))
        finally:
            outcome = "unknown" if reply is Lost else self.outcome(reply)
            if outcome != "failed" and not (outcome == "ok" and reply is None):
                end = self.now if outcome == "ok" else None
                result = True if end is not None else None
                self.records.registers.append(
                    Operation(self.number * 1000, "cas", key, value, held, start, end, result)
                )

    async def in_order(self) -> None:
        """On a key that only this connection knows, a pipeline does what a program does."""
        key = f"own:{self.number}:{self.connections}:{self._count}"
        first, second = self._fresh(), self._fresh()
        replies = await self.call(
            ("SET", key, first), ("APPEND", key, second), ("GET", key), ("DEL", key), ("GET", key)
        )
        if all(self.outcome(reply) == "ok" for reply in replies):
            expected = ["OK", len(first + second), first + second, 1, None]
            if replies != expected:
                raise Violation(
                    "pipelines_in_order",
                    f"client {self.number} asked for five things in order and got {replies}",
                )

    # Crowds

    async def ask_together(self) -> None:
        """On many connections at the same time: all get, or all set, and with as many bytes each."""
        chance = self.chance
        if not self._crowd or any(each.lost.done() for each in self._crowd) or chance.random() < 0.1:
            await self._gather_crowd()
        is_writing, (count, size) = chance.random() < 0.5, self._crowd_asks
        asked = []
        for at, session in enumerate(self._crowd, 1):
            pieces = [self._alike(is_writing, count, size)]
            if chance.random() < 0.15:
                pieces.append([_get(chance.choice(CROWD_KEYS))])
            asked.append(self._ask_registers(*pieces, session=session, at=at))
        problems = [each for each in await asyncio.gather(*asked, return_exceptions=True) if each is not None]
        if problems:
            raise next((each for each in problems if not isinstance(each, Lost)), problems[0])

    async def _gather_crowd(self) -> None:
        for session in self._crowd:
            assert session.transport is not None
            session.transport.abort()
        self._crowd_asks = self.chance.choice((1, 1, 3)), self.chance.choice(CROWD_VALUE_BYTES)
        where, count = self.where(), self.chance.randint(*CROWD)
        opened = await asyncio.gather(*(self._open(*where) for _ in range(count)), return_exceptions=True)
        self._crowd = [each for each in opened if isinstance(each, Session)]
        if len(self._crowd) < count:
            self.disconnect()
            raise Lost

    def _alike(self, is_writing: bool, count: int, size: int) -> list[Step]:
        """What one of a crowd asks: as many bytes as the others, now and then not cut in the same places."""
        keys = self.chance.choices(CROWD_KEYS, k=count)
        if count > 2 and self.chance.random() < 0.1:
            keys[1:3] = keys[1][:1], keys[2] + "x"
        if not is_writing:
            return [_get(key) for key in keys]
        steps: list[Step] = []
        for key in keys:
            self._count += 1
            value = f"{self.number}.{self._count}.".ljust(size, "x")
            steps.append(("set", key, value, ("SET", key, value)))
        return steps

    # Lists

    async def transact(self) -> None:
        """Appends and reads of lists, in one transaction."""
        chance = self.chance
        steps: list[tuple[str, str, int | None]] = []
        for _ in range(chance.randint(1, 4)):
            key = f"l{chance.randrange(3)}"
            if chance.random() < 0.5:
                self._count += 1
                steps.append(("append", key, self.number * 1_000_000 + self._count))
            else:
                steps.append(("read", key, None))
        await self._transact(steps)

    async def _transact(self, steps: list[tuple[str, str, int | None]]) -> None:
        commands: list[Command] = [
            ("GET", key) if op == "read" else ("APPEND", key, f"{element},") for op, key, element in steps
        ]
        start, reply = self.now, cast(Any, Lost)
        try:
            if len(commands) == 1:
                (reply,) = await self.call(*commands)
                reply = reply if isinstance(reply, hiredis.ReplyError) else [reply]
            else:
                *_, reply = await self.call(("MULTI",), *commands, ("EXEC",))
        finally:
            outcome = "unknown" if reply is Lost else self.outcome(reply)
            end = None if outcome == "unknown" else self.now
            results = reply if outcome == "ok" else [None] * len(steps)
            self.records.lists.append(
                lists.Transaction(
                    client=self.number,
                    start=start,
                    end=end,
                    outcome=outcome,  # type: ignore[arg-type]
                    steps=tuple(
                        _list_step(step, result, outcome) for step, result in zip(steps, results, strict=True)
                    ),
                )
            )

    # Bank

    async def transfer(self) -> None:
        """From one account to another, in one transaction."""
        chance = self.chance
        a, b = chance.sample(range(4), 2)
        amount = chance.randint(1, 9)
        start, reply = self.now, cast(Any, Lost)
        try:
            *_, reply = await self.call(
                ("MULTI",), ("DECRBY", f"b{a}", amount), ("INCRBY", f"b{b}", amount), ("EXEC",)
            )
        finally:
            outcome = "unknown" if reply is Lost else self.outcome(reply)
            end = None if outcome == "unknown" else self.now
            self.records.transfers.append(
                bank.Transfer(
                    client=self.number,
                    start=start,
                    end=end,
                    outcome=outcome,  # type: ignore[arg-type]
                    source=f"b{a}",
                    target=f"b{b}",
                    amount=amount,
                )
            )

    async def read_balances(self) -> None:
        """All accounts at once."""
        start = self.now
        (reply,) = await self.call(("MGET", "b0", "b1", "b2", "b3"))
        if self.outcome(reply) == "ok":
            found = {f"b{number}": int(text or 0) for number, text in enumerate(reply)}
            self.records.balances.append(
                bank.Read(client=self.number, start=start, end=self.now, balances=found)
            )

    # Expiry

    async def expire(self) -> None:
        """Write, read, keep or delete a value that may have a time to live."""
        chance = self.chance
        key = f"e{chance.randrange(3)}"
        kind = chance.choices(("read", "write", "persist", "delete"), (50, 35, 8, 7))[0]
        if kind == "read":
            await self.look_at(key)
            return
        value, ttl_ms = self._fresh(), chance.choice((100, 700, 1_500, 4_000, None))
        command: Command = ("PERSIST", key) if kind == "persist" else ("DEL", key)
        if kind == "write":
            command = ("SET", key, value) if ttl_ms is None else ("SET", key, value, "PX", ttl_ms)
        start, reply = self.now, cast(Any, Lost)
        try:
            (reply,) = await self.call(command)
        finally:
            outcome = "unknown" if reply is Lost else self.outcome(reply)
            fields: dict[str, Any] = {
                "client": self.number,
                "start": start,
                "end": None if outcome == "unknown" else self.now,
                "outcome": outcome,
                "key": key,
            }
            if kind == "write":
                self.records.expiry.append(expiry.Write(value=value, ttl_ms=ttl_ms, **fields))
            elif kind == "persist":
                self.records.expiry.append(expiry.Persist(changed=outcome == "ok" and reply == 1, **fields))
            else:
                self.records.expiry.append(expiry.Delete(**fields))

    async def look_at(self, key: str) -> None:
        """Read a value that may expire."""
        start = self.now
        (reply,) = await self.call(("GET", key))
        if self.outcome(reply) == "ok":
            self.records.expiry.append(
                expiry.Read(
                    client=self.number,
                    start=start,
                    end=self.now,
                    key=key,
                    node=self.connected_to,
                    value=reply,
                )
            )

    # Once

    async def increment_once(self) -> None:
        """Count one, under an id: that of an increment nobody has answered, if there is one."""
        if self._unanswered is None:
            self._count += 1
            self._unanswered = f"{self.number}.{self._count}"
        await self._attempt(self._unanswered)
        is_repeated = self.chance.random() < 0.3
        if is_repeated:
            await self._attempt(self._unanswered)
        (status,) = await self.call(("SOFA.STATUS", self._unanswered))
        if self.outcome(status) == "ok" and status[0] != "done":
            raise Violation("ids_are_executed_once", f"{self._unanswered} was answered, and is {status}")
        self._unanswered = None

    async def _attempt(self, id_: str) -> None:
        """Raises `Lost` unless it was answered."""
        start, reply = self.now, cast(Any, Lost)
        try:
            (reply,) = await self.call(("SOFA.ONCE", id_, "INCR", "once"))
        finally:
            outcome = "unknown" if reply is Lost else self.outcome(reply)
            self.records.attempts.append(
                counters.Attempt(
                    client=self.number,
                    start=start,
                    end=None if outcome == "unknown" else self.now,
                    outcome=outcome,  # type: ignore[arg-type]
                    id=id_,
                    reply=reply if outcome == "ok" else None,
                )
            )
        if outcome != "ok":
            raise Lost

    async def read_count(self) -> None:
        """How often was counted."""
        start = self.now
        (reply,) = await self.call(("GET", "once"))
        if self.outcome(reply) == "ok":
            self.records.counts.append(
                counters.Read(client=self.number, start=start, end=self.now, value=int(reply or 0))
            )

    async def read_elsewhere(self) -> None:
        """What was written on one node is seen behind its instance on another, by whatever way it is read there."""
        key, value = f"seen:{self.number}:{self._count}", self._fresh()
        written, instance = await self.call(("SET", key, value), ("SOFA.LASTINSTANCE",))
        if self.outcome(written) != "ok":
            return
        here = self._session
        try:
            self._session = await self._open(*self.where())
            after, _, own = await self.call(("SOFA.AFTER", instance, "GET", key), ("READONLY",), ("GET", key))
        except (OSError, TimeoutError):
            return
        finally:
            if self._session is not here:
                self.disconnect()
            self._session = here
        if self.outcome(after) == "ok" and (after, own) != (value, value):
            raise Violation(
                "reads_see_the_instance_they_name",
                f"behind instance {instance} client {self.number} read {after!r} and {own!r}, not {value!r}",
            )

    # Locks

    async def hold(self) -> None:
        """Take the lock; with a token, write behind it, put its end off, give it back, or forget it."""
        chance = self.chance
        if not self._token:
            await self._acquire()
        elif (what := chance.random()) < 0.6:
            await self._write_fenced()
        elif what < 0.75:
            await self._release()
        elif what < 0.85:
            (reply,) = await self.call(("SOFA.RENEW", "lock", self._token, LOCK_TTLS_MS[-1]))
            self.outcome(reply)
        elif what < 0.95:
            self._token = 0

    async def _acquire(self) -> None:
        ttl_ms, wait_ms = self.chance.choice(LOCK_TTLS_MS), self.chance.choice((0, 100, 1_000))
        waits: Command = ("WAIT", wait_ms) if wait_ms else ()
        start, reply = self.now, cast(Any, Lost)
        try:
            (reply,) = await self.call(("SOFA.LOCK", "lock", ttl_ms, *waits))
        finally:
            outcome = "unknown" if reply is Lost else self.outcome(reply)
            self._token = reply if outcome == "ok" and reply is not None else 0
            self.records.acquires.append(
                locks.Acquire(
                    client=self.number,
                    start=start,
                    end=None if outcome == "unknown" else self.now,
                    outcome="failed" if outcome == "ok" and reply is None else outcome,  # type: ignore[arg-type]
                    token=self._token or None,
                    # While it waited it cannot have been taken; but when it was is known to the database only.
                    ttl_ms=max(0, ttl_ms - wait_ms),
                )
            )

    async def _release(self) -> None:
        """Give the lock back, or try to in the name of a holder before."""
        token = self._token if self.chance.random() < 0.7 else max(1, self._token - 1)
        start, reply = self.now, cast(Any, Lost)
        try:
            (reply,) = await self.call(("SOFA.UNLOCK", "lock", token))
        finally:
            outcome = "unknown" if reply is Lost else self.outcome(reply)
            outcome = "failed" if outcome == "ok" and reply == 0 else outcome
            self.records.releases.append(
                locks.Release(
                    client=self.number,
                    start=start,
                    end=None if outcome == "unknown" else self.now,
                    outcome=outcome,  # type: ignore[arg-type]
                    token=token,
                )
            )

    async def _write_fenced(self) -> None:
        start, reply = self.now, cast(Any, Lost)
        command = ("SOFA.FENCED", "lock", self._token, "APPEND", "fenced", f"{self._token},")
        try:
            (reply,) = await self.call(command)
        finally:
            is_late = isinstance(reply, hiredis.ReplyError) and str(reply).startswith("FENCED")
            outcome = "failed" if is_late else "unknown" if reply is Lost else self.outcome(reply)
            self.records.fenced.append(
                locks.Write(
                    client=self.number,
                    start=start,
                    end=None if outcome == "unknown" else self.now,
                    outcome=outcome,  # type: ignore[arg-type]
                    resource="fenced",
                    token=self._token,
                )
            )
            if is_late:
                self._token = 0

    async def read_fenced(self) -> None:
        """What holders wrote stands in the order of their tokens."""
        (reply,) = await self.call(("GET", "fenced"))
        tokens = (
            [int(each) for each in (reply or "").split(",") if each] if self.outcome(reply) == "ok" else []
        )
        if tokens != sorted(tokens):
            raise Violation("locks_have_one_holder", f"holders wrote in the order of these tokens: {tokens}")

    # Queues

    async def push(self) -> None:
        """Put an element at the end of the queue."""
        self._count += 1
        element = f"{self.number}.{self._count}"
        start, reply = self.now, cast(Any, Lost)
        try:
            (reply,) = await self.call(("RPUSH", "queue", element))
        finally:
            outcome = "unknown" if reply is Lost else self.outcome(reply)
            end = None if outcome == "unknown" else self.now
            self.records.pushes.append(
                queues.Push(client=self.number, start=start, end=end, outcome=outcome, element=element)  # type: ignore[arg-type]
            )

    async def pop(self) -> None:
        """Take the first element of the queue, if there is one."""
        await self._pop(("LPOP", "queue"))

    async def wait_for_element(self) -> None:
        """Take the first element of the queue, or wait for one; now and then go away while waiting."""
        is_leaving = self.chance.random() < 0.1
        if is_leaving:
            self.loop.call_later(self.chance.expovariate(5), self.disconnect)
        await self._pop(("BLPOP", "nothing", "queue", self.chance.choice(BLOCKED_S)))

    async def _pop(self, command: Command) -> bool:
        """Whether something came out."""
        start, reply = self.now, cast(Any, Lost)
        try:
            (reply,) = await self.call(command)
        finally:
            outcome = "unknown" if reply is Lost else self.outcome(reply)
            element = (reply[1] if isinstance(reply, list) else reply) if outcome == "ok" else None
            # Who has waited in vain tells nothing: what came may have been for others who were called and were not there.
            if outcome != "ok" or element is not None or command[0] == "LPOP":
                end = None if outcome == "unknown" else self.now
                self.records.pops.append(
                    queues.Pop(client=self.number, start=start, end=end, outcome=outcome, element=element)  # type: ignore[arg-type]
                )
        if outcome != "ok":
            raise Lost
        return element is not None

    async def drain(self) -> None:
        """Pop until there is nothing left."""
        while await self._pop(("LPOP", "queue")):
            pass
        self.records.drains.append(
            queues.Drain(client=self.number, start=self.now, end=self.now, elements=())
        )

    async def see_who_is_served_first(self) -> None:
        """Of two who wait, on whatever nodes, the first is served first: not always, while nodes come and go, but some time."""
        one = self.anywhere()
        other = next((each for _ in range(20) if (each := self.anywhere()) != one), one)
        for nodes in ((one, other), (other, one)):
            for _ in range(FIRST_SERVED_TRIES):
                if await self._are_served_in_order(nodes):
                    break
            else:
                raise Violation(
                    "who_came_first_is_served_first",
                    f"of two who waited, the second was served first, or neither, {FIRST_SERVED_TRIES} times",
                )

    async def _are_served_in_order(self, nodes: tuple[tuple[str, int], ...]) -> bool:
        self._count += 1
        key = f"first:{self.number}:{self._count}"
        sessions: list[Session] = []
        waiting: list[asyncio.Future[list[Any]]] = []
        try:
            for node in nodes:
                sessions.append(await self._open(*node))
                waiting.append(sessions[-1].send([("BLPOP", key, FIRST_SERVED_S)]))
                await asyncio.sleep(FIRST_SERVED_S / 4)
            (reply,) = await self.call(("RPUSH", key, "1", "2"))
            if self.outcome(reply) != "ok":
                raise Lost
            served = await asyncio.gather(*waiting, return_exceptions=True)
            if any(isinstance(each, list) and isinstance(each[0], hiredis.ReplyError) for each in served):
                raise Lost  # One of them has been taken out, perhaps: others are better asked.
        except (OSError, TimeoutError):
            return False
        finally:
            for session in sessions:
                assert session.transport is not None
                session.transport.abort()
        return served == [[[key, "1"]], [[key, "2"]]]

    # Anything

    async def anything(self) -> None:
        """A few commands of all kinds, in some database. What they answer is not judged; that they do the same everywhere is."""
        chance = self.chance
        commands: list[Command] = [("SELECT", chance.randrange(4))]
        for _ in range(chance.randint(1, 6)):
            command = chance.choice(_ANYTHING)
            commands.append(tuple(self._filled(word) for word in command.split()))
        if chance.random() < 0.3:
            commands = [commands[0], ("MULTI",), *commands[1:], ("EXEC",)]
        for reply in await self.call(*commands, ("SELECT", 0)):
            if not (isinstance(reply, hiredis.ReplyError) and str(reply).startswith(("ERR", "EXECABORT"))):
                self.outcome(reply)

    def _filled(self, word: str) -> str:
        chance = self.chance
        if word == "key":
            return f"any{chance.randrange(6)}"
        if word == "value":
            return chance.choice((str(chance.randint(-50, 50)), self._fresh()))
        if word == "number":
            return str(chance.randint(-3, 2_000))
        return word

    # At the end

    async def watch_one_expire(self) -> None:
        """A value that is to live for 2 s is there after 1.2 s, if its writing was answered by then, and gone 3.2 s later.

        (The first only where `all_clocks_are_right`.)
        """
        started_at = self.now
        (reply,) = await self.call(("SET", "last", "x", "PX", 2_000))
        if self.outcome(reply) != "ok":
            raise Lost
        answered_at = self.now
        await asyncio.sleep(max(0.0, started_at + 1.2 - self.now))
        (early,) = await self.call(("GET", "last"))
        early_at = self.now
        await asyncio.sleep(answered_at + 3.2 - self.now)
        (late,) = await self.call(("GET", "last"))
        if self.outcome(early) != "ok" or self.outcome(late) != "ok":
            raise Lost
        is_early = self.all_clocks_are_right and early is None and early_at < started_at + 1.4
        if is_early or late is not None:
            raise Violation(
                "expiry_keeps_its_bounds",
                f"of a value with 2 s to live was there, after 1.2 s and 3.2 s: {early!r} and {late!r}",
            )

    async def look_at_everything(self, workloads: tuple[str, ...]) -> None:
        """Read every key of these workloads. Raises `Lost`."""
        if "registers" in workloads:
            await self._ask_registers([_get(key) for key in ("r0", "r1", "r2", "n0", "n1")])
        if "crowds" in workloads:
            await self._ask_registers([_get(key) for key in CROWD_KEYS])
        if "lists" in workloads:
            await self._transact([("read", key, None) for key in ("l0", "l1", "l2")])
        if "bank" in workloads:
            await self.read_balances()
        if "once" in workloads:
            await self.read_count()
        if "locks" in workloads:
            await self.read_fenced()
        if "queues" in workloads:
            await self.drain()
            await self.see_who_is_served_first()
        if "expiry" in workloads:
            await self.watch_one_expire()
            for key in ("e0", "e1", "e2"):
                await self.look_at(key)


def _get(key: str) -> Step:
    return "get", key, None, ("GET", key)


def _list_step(step: tuple[str, str, int | None], result: Any, outcome: str) -> Any:
    """A step of a transaction as the checker wants it: a read with what it saw."""
    op, key, element = step
    if op == "append":
        return ("append", key, element)
    if outcome != "ok":
        return ("read", key, None)
    return ("read", key, [int(each) for each in (result or "").split(",") if each])


_ANYTHING = (
    "SET key value",
    "SET key value NX",
    "SET key value XX KEEPTTL",
    "SET key value GET EX 1",
    "SETNX key value",
    "SETRANGE key 3 value",
    "SETEX key 2 value",
    "GETSET key value",
    "GETDEL key",
    "GETEX key PX number",
    "MSET key value key value",
    "MSETNX key value key value",
    "APPEND key value",
    "INCRBY key number",
    "DECR key",
    "INCRBYFLOAT key 0.1",
    "RENAME key key",
    "COPY key key REPLACE",
    "DEL key key",
    "UNLINK key",
    "PEXPIRE key number",
    "PEXPIRE key number GT",
    "PEXPIREAT key number",
    "PERSIST key",
    "MOVE key 2",
    "STRLEN key",
    "PTTL key",
    "DBSIZE",
    "RANDOMKEY",
)

Request = Callable[[Client], Awaitable[None]]

_WORKLOADS: dict[str, tuple[tuple[int, Request], ...]] = {
    "registers": ((5, Client.one), (2, Client.several), (1, Client.compare_and_set), (1, Client.in_order)),
    "crowds": ((5, Client.ask_together),),
    "lists": ((3, Client.transact),),
    "bank": ((2, Client.transfer), (1, Client.read_balances)),
    "expiry": ((3, Client.expire),),
    "once": ((3, Client.increment_once), (1, Client.read_count), (1, Client.read_elsewhere)),
    "locks": ((5, Client.hold), (1, Client.read_fenced)),
    "queues": ((3, Client.push), (2, Client.wait_for_element), (1, Client.pop)),
    "anything": ((3, Client.anything),),
}
