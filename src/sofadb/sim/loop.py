"""One clock for many event loops: whole operating-system processes in one deterministic program.

A `Simulation` is a clock and everything that will happen, in the order in which it will: by time, and what is due at the same
time in the order in which it was scheduled. Performing a thing takes no time; between two things the clock jumps. So hours pass
in seconds, and the same program makes the same steps wherever it runs. What is due now lies in a queue, what is due later in a
heap with a running number beside each time; when the clock moves on, all that is due then moves from the heap to the queue.

A `ProcessLoop` is the event loop of one simulated process. Code written for asyncio runs on it unchanged: its futures and tasks
are asyncio's own, and every callback is one thing in the simulation. Several such loops live on one simulation, each with a
clock, a life and a death of its own. A paused process keeps what falls due until it is resumed. A killed one does nothing
any more, not even what stands in its `finally` blocks: its coroutines are kept as they stood until the simulation
is closed, and only then put away, where nothing can hear them.

Close a simulation when it is done with, best by `with Simulation() as simulation:`.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
import math
import socket
import sys
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from asyncio.base_events import Server

    from .network import Network

log = logging.getLogger("sofadb.sim")

T = TypeVar("T")
Context = dict[str, Any]
Handler = Callable[[asyncio.AbstractEventLoop, Context], object]

MOMENT_STEPS_MAX: Final = 100_000
"""So many steps without time passing are a mistake: something goes round in a circle."""
CANCELLED_MIN: Final = 512
"""Fewer cancelled entries than this are not worth clearing the heap for."""
CLOSES_MAX: Final = 100
"""How often a dead coroutine is told to end. One that awaits in its `finally` blocks must be told again each time."""


class Circle(RuntimeError):
    """Much happens, and no time passes."""


class _Entry(Protocol):
    """What a simulation holds: a `Scheduled`, or a `_Handle` of a process."""

    _cancelled: bool

    def _perform(self) -> None: ...


class Scheduled:
    """Something that will happen in the simulation, unless it is cancelled."""

    __slots__ = ("_args", "_callback", "_cancelled", "_simulation")

    def __init__(
        self, simulation: Simulation, callback: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        self._simulation = simulation
        self._callback = callback
        self._args = args
        self._cancelled = False

    def cancel(self) -> None:
        """Have it not happen. Does nothing if it has happened, or is cancelled."""
        if not self._cancelled:
            self._cancelled = True
            self._callback, self._args = _nothing, ()
            self._simulation._count_cancelled()

    def _perform(self) -> None:
        self._callback(*self._args)


def _nothing() -> None:
    pass


class Simulation:
    """The clock, and everything that will happen."""

    def __init__(self) -> None:
        self.now = 0.0
        """Simulated seconds since the beginning."""
        self.steps = 0
        """How many things have been performed."""
        self.is_closed = False
        self._ready: deque[_Entry] = deque()
        """What is due now, in order."""
        self._later: list[tuple[float, int, _Entry]] = []
        """A heap of what is due after now."""
        self._number = 0
        self._cancelled = 0
        """At least how many entries of the heap are cancelled, since it was last cleared."""
        self._steps_limit = MOMENT_STEPS_MAX
        self._is_performing = False
        self._processes: list[ProcessLoop] = []

    # Scheduling

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> Scheduled:
        """Have `callback(*args)` called at `when`, or now if that is past."""
        entry = Scheduled(self, callback, args)
        self._add(when, entry)
        return entry

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Scheduled:
        """Have `callback(*args)` called in `delay_s` seconds."""
        entry = Scheduled(self, callback, args)
        self._add(self.now + delay_s, entry)
        return entry

    def _add(self, when: float, entry: _Entry) -> None:
        if when > self.now:
            self._number += 1
            heapq.heappush(self._later, (when, self._number, entry))
        else:
            self._ready.append(entry)

    def _count_cancelled(self) -> None:
        """Clear the heap when about half of it is cancelled. (Some of what is counted may lie elsewhere; no harm.)"""
        self._cancelled += 1
        if self._cancelled > CANCELLED_MIN and self._cancelled > len(self._later) // 2:
            self._keep([item for item in self._later if not item[2]._cancelled])

    def _keep(self, items: list[tuple[float, int, _Entry]]) -> None:
        """Let these be the heap. The list remains the same one: somebody may be going through it."""
        self._later[:] = items
        heapq.heapify(self._later)
        self._cancelled = 0

    # Performing

    def step(self, until: float = math.inf) -> bool:
        """Perform the next thing. False if there is none, or none that is due by `until`."""
        if self._is_performing:
            raise RuntimeError("the simulation is performing a step: nothing in it can wait for another")
        self._is_performing = True
        try:
            return self._step(until)
        finally:
            self._is_performing = False

    def run(self, until: float | None = None, steps_max: int | None = None) -> bool:
        """Perform everything, or everything due by `until`: then that is the time. False if `steps_max` came first."""
        if self._is_performing:
            raise RuntimeError("the simulation is performing a step: nothing in it can wait for another")
        limit = math.inf if until is None else until
        steps_limit = math.inf if steps_max is None else self.steps + steps_max
        self._is_performing = True
        try:
            while self._step(limit):
                if self.steps >= steps_limit:
                    return False
        finally:
            self._is_performing = False
        if until is not None:
            self.now = max(self.now, until)
        return True

    def _step(self, until: float) -> bool:
        ready = self._ready
        while ready or self._advance(until):
            entry = ready.popleft()
            if not entry._cancelled:
                self.steps += 1
                if self.steps > self._steps_limit:
                    raise Circle(f"{MOMENT_STEPS_MAX} steps at one moment, {self.now} s: a circle")
                entry._perform()
                return True
        return False

    def _advance(self, until: float) -> bool:
        """Go on to the next moment at which something is due, if it is not after `until`."""
        later, ready = self._later, self._ready
        while later:
            when, _, entry = later[0]
            if entry._cancelled:
                heapq.heappop(later)
                continue
            if when > until or when == math.inf:
                return False
            self.now = when
            self._steps_limit = self.steps + MOMENT_STEPS_MAX
            while later and later[0][0] == when:
                ready.append(heapq.heappop(later)[2])
            return True
        return False

    def leap(self, seconds: float, witness: ProcessLoop) -> None:
        """Time passes, and of all processes only `witness` notices, by its timers: nothing else happens meanwhile.

        It is as if all other machines were suspended, with monotonic clocks that do not count that. Their wall clocks do.
        """
        assert seconds >= 0
        assert not self._ready, "something is due now"
        assert seconds <= self.next_of(witness) - self.now, "the witness has something to do before that"
        items = [
            item if getattr(item[2], "_loop", None) is witness else (item[0] + seconds, item[1], item[2])
            for item in self._later
        ]
        for process in self._processes:
            if process is not witness:
                process._sleep_through(seconds)
        self.now += seconds
        self._keep([item for item in items if not item[2]._cancelled])

    @property
    def is_busy_now(self) -> bool:
        """Whether something is due at this very moment."""
        return bool(self._ready)

    def next_of(self, process: ProcessLoop) -> float:
        """When a process has something to do next, as far as is known; infinity if it is not."""
        own = (
            when
            for when, _, entry in self._later
            if getattr(entry, "_loop", None) is process and not entry._cancelled
        )
        return min(own, default=math.inf)

    # Ending

    def close(self) -> None:
        """Kill all processes and put away what is left of them, quietly."""
        if self.is_closed:
            return
        self.is_closed = True
        for process in self._processes:
            process.kill()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for process in self._processes:
                process._bury()
        self._processes.clear()
        self._ready.clear()
        self._later.clear()

    def __enter__(self) -> Simulation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # The interpreter asks the oldest first: what a simulation that was not closed has left goes with it.
        if not sys.is_finalizing():
            self.close()


class _Handle(asyncio.TimerHandle):
    """A callback of a process: asyncio's handle, and an entry of the simulation, in one object."""

    __slots__ = ()

    _callback: Callable[..., object] | None
    _context: contextvars.Context
    _loop: ProcessLoop
    _repr: str | None
    _source_traceback: None
    _scheduled: bool
    _when: float

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: ProcessLoop,
        context: contextvars.Context | None,
    ) -> None:
        # The fields of asyncio's handles, set here and not by their constructors: there is one of these for each step.
        self._when = when
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = contextvars.copy_context() if context is None else context
        self._cancelled = False
        self._scheduled = False
        self._repr = None
        self._source_traceback = None

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self._callback, self._args = None, ()
            self._loop.simulation._count_cancelled()

    def _perform(self) -> None:
        loop = self._loop
        if not loop._is_running:
            loop._hold(self)
            return
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(loop)
        try:
            self._context.run(self._callback, *self._args)  # type: ignore[arg-type]
        except BaseException as error:
            if not loop._takes(error):
                raise
            loop.call_exception_handler(
                {"message": f"Exception in callback {self!r}", "exception": error, "handle": self}
            )
        finally:
            asyncio._set_running_loop(outer)


class ProcessLoop(asyncio.AbstractEventLoop):
    """The event loop of one simulated process, which lives from its making to `kill`."""

    def __init__(self, simulation: Simulation, name: str, network: Network | None = None) -> None:
        self.simulation = simulation
        self.name = name
        self.network = network
        self.is_alive = True
        self.executor_delay_s: float | Callable[[], float] = 0.0005
        """How long what is given to `run_in_executor` takes."""
        self._is_running = True
        """Alive, and not paused."""
        self._held: deque[_Handle] = deque()
        """What fell due while paused."""
        self._stall_end: tuple[float, Scheduled] | None = None
        self.slept_s = 0.0
        """How long it was suspended in all, which its own clock does not count."""
        self._rate = 1.0
        self._rate_since = (0.0, 0.0)
        """A moment since which the rate holds: the simulation's time, and ours."""
        self._tasks: dict[asyncio.Future[Any], None] = {}
        """All that are not done. Asyncio itself holds them weakly, so that collecting garbage might end them."""
        self._tasks_made = 0
        self._handler: Handler | None = None
        self._is_stopping = False
        simulation._processes.append(self)
        if network is not None:
            network.process_started(self)

    def __repr__(self) -> str:
        state = "running" if self._is_running else "paused" if self.is_alive else "dead"
        return f"<ProcessLoop {self.name} {state}>"

    # Life and death

    def pause(self) -> None:
        """Nothing of it runs until it is resumed."""
        if self.is_alive:
            self._end_stall()
            self._is_running = False

    def stall(self, seconds: float) -> None:
        """A pause that ends by itself. Of several, the one that ends last counts; a pause that does not end is not ended."""
        end = self.simulation.now + seconds
        if not self.is_alive or (not self._is_running and self._stall_end is None):
            return
        if self._stall_end is not None and self._stall_end[0] >= end:
            return
        self.pause()
        self._stall_end = (end, self.simulation.call_at(end, self.resume))

    @property
    def is_stalled(self) -> bool:
        """Whether it does nothing for a while."""
        return self._stall_end is not None

    def resume(self) -> None:
        """Go on after a pause, or before a stall has ended: first with all that fell due meanwhile, in order."""
        self._end_stall()
        if self.is_alive and not self._is_running:
            self._is_running = True
            # What fell due earlier goes before what is due now.
            self.simulation._ready.extendleft(reversed(self._held))
            self._held.clear()

    def _end_stall(self) -> None:
        if self._stall_end is not None:
            self._stall_end[1].cancel()
            self._stall_end = None

    def kill(self) -> None:
        """Nothing of it ever runs again. What its connections' other ends hear of that, the network knows."""
        if not self.is_alive:
            return
        self._end_stall()
        self.is_alive = self._is_running = False
        self._held.clear()
        simulation = self.simulation
        simulation._keep([item for item in simulation._later if not self._owns(item[2])])
        if self.network is not None:
            self.network.process_ended(self)

    def _owns(self, entry: _Entry) -> bool:
        return isinstance(entry, _Handle) and entry._loop is self

    def _hold(self, handle: _Handle) -> None:
        if self.is_alive:
            self._held.append(handle)

    def _bury(self) -> None:
        """End what was left suspended; whatever it still does is done by a dead process, and comes to nothing."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            while self._tasks:
                task, _ = self._tasks.popitem()
                coroutine = cast(asyncio.Task[Any], task).get_coro()
                if coroutine is not None:
                    _end(coroutine)
        finally:
            asyncio._set_running_loop(outer)

    # The clock

    def time(self) -> float:
        since, own = self._rate_since
        return own + (self.simulation.now - since) * self._rate

    def _sleep_through(self, seconds: float) -> None:
        since, own = self._rate_since
        self._rate_since = (since + seconds, own)
        self.slept_s += seconds

    @property
    def rate(self) -> float:
        """How many seconds pass on this process's clock in one of the simulation. Its timers follow."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        assert rate > 0
        self._rate_since = (self.simulation.now, self.time())
        self._rate = rate
        self.simulation._keep(
            [
                (self._when_simulated(cast(_Handle, entry)._when), number, entry)
                if self._owns(entry)
                else (when, number, entry)
                for when, number, entry in self.simulation._later
            ]
        )

    def _when_simulated(self, when: float) -> float:
        """The simulation's time at which ours is `when`, or just after: no timer runs before its time."""
        since, own = self._rate_since
        if self._rate == 1.0 and since == own:
            return when
        simulated = since + (when - own) / self._rate
        while own + (simulated - since) * self._rate < when < math.inf:
            simulated = math.nextafter(simulated, math.inf)
        return simulated

    # Callbacks

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Handle:
        handle = _Handle(self.simulation.now, callback, args, self, context)
        if self.is_alive:
            self.simulation._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> _Handle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> _Handle:
        handle = _Handle(when, callback, args, self, context)
        if self.is_alive:
            self.simulation._add(self._when_simulated(when), handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **ignored: Any,
    ) -> asyncio.Task[T]:
        self._tasks_made += 1
        name = name or f"{self.name}/{self._tasks_made}"
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._tasks.pop(task, None)

    def set_task_factory(self, factory: Any) -> None:
        if factory is not None:
            raise NotImplementedError("tasks here are asyncio's own, made in one way")

    def get_task_factory(self) -> None:
        return None

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """There are no threads: it is one callback, later. As with a thread, who stops waiting does not stop it."""
        future: asyncio.Future[T] = self.create_future()
        delay_s = self.executor_delay_s
        self.call_later(delay_s() if callable(delay_s) else delay_s, self._execute, future, func, args)
        return future

    def _execute(self, future: asyncio.Future[T], function: Callable[..., T], args: tuple[Any, ...]) -> None:
        try:
            result = function(*args)
        except Exception as error:  # noqa: BLE001 (It is for who waits, whatever it is.)
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)

    def set_default_executor(self, executor: Any) -> None:
        pass

    # Exceptions

    def _takes(self, error: BaseException) -> bool:
        """Whether what a callback has raised ends here: with the handler, or, in a dead process, with nothing.

        What is no mistake of the process is for whoever runs the simulation: an interrupt, a test's time limit.
        """
        if isinstance(error, KeyboardInterrupt):
            return False
        return not self.is_alive or isinstance(error, (Exception, asyncio.CancelledError))

    def set_exception_handler(self, handler: Handler | None) -> None:
        self._handler = handler

    def get_exception_handler(self) -> Handler | None:
        return self._handler

    def default_exception_handler(self, context: Context) -> None:
        log.error("%s: %s", self.name, context.get("message"), exc_info=context.get("exception"))

    def call_exception_handler(self, context: Context) -> None:
        if not self.is_alive:
            return
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            if self._handler is None:
                self.default_exception_handler(context)
            else:
                self._handler(self, context)
        except BaseException as error:
            if not self._takes(error):
                raise
            if self.is_alive:
                log.error("%s: the exception handler raised an exception", self.name, exc_info=error)
        finally:
            asyncio._set_running_loop(outer)

    # Running

    def run_until_complete(self, future: Awaitable[T], until: float | None = None) -> T:  # type: ignore[override]
        """Run the simulation until `future` is done. Raises `TimeoutError` if that cannot be, or `until` passes first."""
        task = asyncio.ensure_future(future, loop=self)
        limit = math.inf if until is None else until
        while not task.done():
            if not self.is_alive:
                raise TimeoutError(f"{self.name} was killed at {self.simulation.now} s, before this was done")
            if not self.simulation.step(limit):
                self.simulation.run(until)
                by = "" if until is None else f" by {until} s"
                raise TimeoutError(
                    f"this is not done at {self.simulation.now} s, and nothing else happens{by}"
                )
        return task.result()

    def run_forever(self) -> None:
        """Run the simulation until `stop` is called, this process ends, or nothing is left to do."""
        self._is_stopping = False
        while self.is_alive and not self._is_stopping and self.simulation.step():
            pass

    def stop(self) -> None:
        self._is_stopping = True

    def is_running(self) -> bool:
        return self.is_alive

    def is_closed(self) -> bool:
        return not self.is_alive

    def close(self) -> None:
        """The process ends."""
        self.kill()

    async def shutdown_asyncgens(self) -> None:
        pass

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        pass

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        pass

    # The outside

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Callable[..., object], *args: Any
    ) -> None:
        """Nobody sends signals here."""

    def remove_signal_handler(self, sig: int) -> bool:
        return False

    async def getaddrinfo(self, host: Any, port: Any, **ignored: Any) -> Any:
        """Names are addresses here."""
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        return str(sockaddr[0]), str(sockaddr[1])

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Any = None,
        port: int | None = None,
        *,
        backlog: int = 100,
        **ignored: Any,
    ) -> Server:
        """Listen. Raises `OSError` if the port is taken."""
        server = self._network().listen(self, protocol_factory, host, port or 0, backlog)
        return cast("Server", server)  # It has all methods of one.

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        **ignored: Any,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect. Raises `OSError` if nobody listens there."""
        if host is None or port is None:
            raise ValueError("there are no sockets here: connect to a host and port")
        return await self._network().connect(self, protocol_factory, host, int(port))

    def _network(self) -> Network:
        if self.network is None:
            raise OSError(f"{self.name} has no network")
        return self.network


def _end(coroutine: Any) -> None:
    """Close a coroutine that may not want to."""
    for _ in range(CLOSES_MAX):
        try:
            coroutine.close()
        except BaseException as error:  # Whatever it says, it is dead.
            if isinstance(error, KeyboardInterrupt):
                raise
        else:
            return
