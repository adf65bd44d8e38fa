"""Processes on one clock: asyncio as it always is, and everything that can happen to a process."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sofadb.sim.loop import CANCELLED_MIN, ProcessLoop, Simulation


class Exit(BaseException):
    """How a simulated process unwinds that has ended itself."""


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation() as simulation:
        yield simulation


@pytest.fixture
def process(simulation: Simulation) -> ProcessLoop:
    return ProcessLoop(simulation, "a")


# The clock


def test_things_happen_by_time_and_then_in_the_order_of_scheduling(simulation: Simulation) -> None:
    seen: list[str] = []
    simulation.call_at(2.0, seen.append, "late")
    simulation.call_at(1.0, seen.append, "first")
    simulation.call_at(1.0, lambda: simulation.call_later(0.0, seen.append, "made now, so last of now"))
    simulation.call_at(1.0, seen.append, "second")
    simulation.call_at(-1.0, seen.append, "past, so now")
    simulation.run()
    assert seen == ["past, so now", "first", "second", "made now, so last of now", "late"]
    assert (simulation.now, simulation.steps) == (2.0, 6)


def test_a_run_until_ends_then_even_if_nothing_happens_then(simulation: Simulation) -> None:
    seen: list[float] = []
    for when in (1.0, 2.0, 2.5):
        simulation.call_at(when, seen.append, when)
    assert simulation.run(until=2.0)
    assert (seen, simulation.now) == ([1.0, 2.0], 2.0)
    assert simulation.run(until=2.25)
    assert (seen, simulation.now) == ([1.0, 2.0], 2.25)
    assert simulation.run(until=9.0)
    assert (seen, simulation.now) == ([1.0, 2.0, 2.5], 9.0)
    assert not simulation.step()


def test_a_run_may_be_bounded_by_steps(simulation: Simulation) -> None:
    def again() -> None:
        simulation.call_later(1.0, again)

    again()
    assert not simulation.run(steps_max=5)
    assert (simulation.steps, simulation.now) == (5, 5.0)
    assert not simulation.run(until=100.0, steps_max=2)
    assert simulation.now == 7.0


def test_what_is_cancelled_does_not_happen_and_does_not_pile_up(simulation: Simulation) -> None:
    seen: list[int] = []
    for number in range(10 * CANCELLED_MIN):
        scheduled = simulation.call_at(100.0, seen.append, number)
        if number % 1000:
            scheduled.cancel()
            scheduled.cancel()
    assert len(simulation._later) < 2 * CANCELLED_MIN
    simulation.run()
    assert seen == list(range(0, 10 * CANCELLED_MIN, 1000))


def test_cancelled_timeouts_do_not_pile_up(simulation: Simulation, process: ProcessLoop) -> None:
    async def main() -> None:
        for _ in range(5000):
            async with asyncio.timeout(3600):
                await asyncio.sleep(0.001)

    process.run_until_complete(main())
    assert len(simulation._later) < 2 * CANCELLED_MIN
    assert simulation.now < 6


def test_a_circle_in_which_no_time_passes_is_found(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sofadb.sim.loop.MOMENT_STEPS_MAX", 1000)

    def again() -> None:
        simulation.call_later(0.0, again)

    simulation.call_at(1.0, again)
    with pytest.raises(RuntimeError, match=r"1000 steps at one moment, 1\.0 s"):
        simulation.run()


def test_what_runs_in_the_simulation_cannot_run_the_simulation(
    simulation: Simulation, process: ProcessLoop
) -> None:
    simulation.call_later(1.0, simulation.run)
    with pytest.raises(RuntimeError, match="performing a step"):
        simulation.run()


# Asyncio as it always is


def test_hours_pass_in_no_time(simulation: Simulation, process: ProcessLoop) -> None:
    async def main() -> float:
        await asyncio.sleep(36_000)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert process.run_until_complete(main()) == simulation.now == 36_000
    assert time.monotonic() - began < 5


def test_tasks_futures_locks_queues_and_timeouts_are_asyncio_s(process: ProcessLoop) -> None:
    seen: list[str] = []

    async def worker(name: str, lock: asyncio.Lock, queue: asyncio.Queue[int]) -> int:
        number = await queue.get()
        async with lock:
            seen.append(f"{name} has {number}")
            await asyncio.sleep(1)
        return number

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert loop is process
        lock, queue = asyncio.Lock(), asyncio.Queue[int]()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(worker(name, lock, queue)) for name in "xyz"]
            for number in range(3):
                queue.put_nowait(number)
        assert [task.result() for task in tasks] == [0, 1, 2]
        assert loop.time() == 3

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await loop.create_future()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 5)
        assert loop.time() == 13

        task = asyncio.create_task(asyncio.sleep(100))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        done = await asyncio.gather(asyncio.sleep(1, "a"), asyncio.sleep(2, "b"))
        assert (done, loop.time()) == (["a", "b"], 15)

    process.run_until_complete(main())
    assert seen == ["x has 0", "y has 1", "z has 2"]


def test_callbacks_keep_their_context(process: ProcessLoop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []

    async def main() -> None:
        variable.set("mine")
        asyncio.get_running_loop().call_later(1, lambda: seen.append(variable.get()))
        variable.set("changed later")
        await asyncio.sleep(2)

    process.run_until_complete(main())
    assert seen == ["mine"]


def test_a_thread_is_a_callback_that_comes_later(simulation: Simulation, process: ProcessLoop) -> None:
    delays = iter((0.25, 0.5, 0.125))
    process.executor_delay_s = lambda: next(delays)
    seen: list[float] = []

    async def main() -> None:
        assert await asyncio.to_thread(lambda: seen.append(simulation.now) or "done") == "done"
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        waiting = asyncio.create_task(asyncio.to_thread(lambda: seen.append(simulation.now)))
        await asyncio.sleep(0)
        waiting.cancel()  # That does not stop a thread, and not this either.
        await asyncio.sleep(1)

    process.run_until_complete(main())
    assert seen == [0.25, 0.875]


def test_exceptions_of_callbacks_go_to_the_handler(process: ProcessLoop) -> None:
    caught: list[dict[str, Any]] = []
    process.set_exception_handler(lambda loop, context: caught.append(context))
    process.call_soon(lambda: 1 // 0)
    process.call_soon(lambda: caught.append({"message": "goes on"}))
    process.simulation.run()
    assert [type(each.get("exception")) for each in caught] == [ZeroDivisionError, type(None)]
    assert "handle" in caught[0]
    assert "Exception in callback" in caught[0]["message"]


def test_an_exception_that_nobody_fetches_goes_to_the_handler_at_once(process: ProcessLoop) -> None:
    caught: list[str] = []
    process.set_exception_handler(lambda loop, context: caught.append(context["message"]))

    async def fail() -> None:
        raise ValueError

    async def main() -> None:
        asyncio.create_task(fail())  # noqa: RUF006 (That is the point.)
        await asyncio.sleep(1)
        assert caught == ["Task exception was never retrieved"]

    process.run_until_complete(main())


def test_a_task_that_only_asyncio_knows_is_not_collected(process: ProcessLoop) -> None:
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> int:
        for _ in range(10):
            asyncio.create_task(wait())  # noqa: RUF006 (That is the point.)
        await asyncio.sleep(1)
        gc.collect()
        return len(asyncio.all_tasks())

    assert process.run_until_complete(main()) == 11


def test_what_is_no_mistake_of_the_process_is_for_whoever_runs_the_simulation(process: ProcessLoop) -> None:
    def strike() -> None:
        raise Exit

    process.call_soon(strike)
    with pytest.raises(Exit):
        process.simulation.run()


def test_waiting_for_what_cannot_be_ends_with_words(process: ProcessLoop) -> None:
    with pytest.raises(TimeoutError, match=r"not done at 0\.0 s, and nothing else happens"):
        process.run_until_complete(process.create_future())
    with pytest.raises(TimeoutError, match=r"not done at 5\.0 s, and nothing else happens by 5\.0 s"):
        process.run_until_complete(asyncio.Event().wait(), until=5.0)
    with pytest.raises(TimeoutError, match=r"nothing else happens by 7\.0 s"):
        process.run_until_complete(asyncio.sleep(100), until=7.0)
    process.call_later(1, process.kill)
    with pytest.raises(TimeoutError, match="a was killed"):
        process.run_until_complete(asyncio.sleep(100))


def test_the_loop_that_runs_is_that_of_the_process_whose_turn_it_is(simulation: Simulation) -> None:
    seen: list[str] = []

    def look() -> None:
        seen.append(asyncio.get_running_loop().name)  # type: ignore[attr-defined]

    for name in "ab":
        loop = ProcessLoop(simulation, name)
        loop.call_soon(look)
        loop.call_later(1, look)

    async def main() -> None:
        real = asyncio.get_running_loop()
        simulation.run()
        assert asyncio.get_running_loop() is real

    asyncio.run(main())
    assert seen == ["a", "b", "a", "b"]
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


# What can happen to a process


def ticking(process: ProcessLoop, seen: list[float], every_s: float = 1.0) -> None:
    def tick() -> None:
        seen.append(process.simulation.now)
        process.call_later(every_s, tick)

    process.call_later(every_s, tick)


def test_a_paused_process_does_later_what_fell_due_in_its_order(
    simulation: Simulation, process: ProcessLoop
) -> None:
    seen: list[str] = []
    other: list[float] = []
    ticking(ProcessLoop(simulation, "b"), other)
    process.call_later(2, seen.append, "two")
    process.call_later(1, seen.append, "one")
    process.call_later(5, seen.append, "five")
    process.call_later(9, seen.append, "nine")
    simulation.call_at(0.5, process.pause)
    simulation.call_at(3, process.call_soon, seen.append, "three, from outside")
    simulation.run(until=4.5)
    assert (seen, other) == ([], [1, 2, 3, 4])
    simulation.call_at(5, process.resume)  # Scheduled after what is due then.
    simulation.run(until=6)
    assert seen == ["one", "two", "three, from outside", "five"]
    process.resume()
    simulation.run(until=20)
    assert seen[-1] == "nine"


def test_what_fell_due_earlier_goes_before_what_is_due_at_the_resuming(
    simulation: Simulation, process: ProcessLoop
) -> None:
    seen: list[str] = []
    process.pause()
    simulation.call_at(2, process.resume)
    process.call_at(1, seen.append, "one")
    process.call_at(2, seen.append, "two")
    simulation.run()
    assert seen == ["one", "two"]


def test_a_stall_ends_by_itself(simulation: Simulation, process: ProcessLoop) -> None:
    seen: list[float] = []
    ticking(process, seen)
    simulation.call_at(1.5, process.stall, 2.0)
    simulation.call_at(2.0, process.stall, 0.5)  # Ends within the first one.
    simulation.run(until=5)
    assert seen == [1, 3.5, 4.5]


def test_stalls_pauses_and_resuming_together(simulation: Simulation, process: ProcessLoop) -> None:
    seen: list[float] = []
    ticking(process, seen)
    process.stall(2.5)
    process.pause()  # Now it lasts.
    process.stall(0.5)
    simulation.run(until=4)
    assert seen == []
    process.resume()
    simulation.run(until=4.5)
    process.stall(10)
    process.resume()  # Before it ends, too.
    simulation.run(until=6.5)
    assert seen == [4, 5, 6]
    process.stall(1)  # Though the one that did not end would have ended later.
    simulation.run(until=7.25)
    assert seen == [4, 5, 6]


def test_timers_follow_the_clock_of_their_process(simulation: Simulation, process: ProcessLoop) -> None:
    fast, slow = process, ProcessLoop(simulation, "slow")
    fast.rate, slow.rate = 2.0, 0.5
    seen: list[tuple[str, float, float]] = []
    for loop in (fast, slow):
        loop.call_later(10, lambda loop=loop: seen.append((loop.name, simulation.now, loop.time())))
    simulation.run()
    assert seen == [("a", 5, 10), ("slow", 20, 10)]


def test_time_is_continuous_when_its_rate_changes_and_no_timer_is_early(
    simulation: Simulation, process: ProcessLoop
) -> None:
    chance = random.Random(5)
    seen: list[float] = []
    planned = sorted(chance.uniform(0, 100) for _ in range(200))
    for when in planned:
        process.call_at(when, lambda when=when: seen.append(process.time() - when))
    last = 0.0
    for _ in range(400):
        simulation.run(until=simulation.now + chance.uniform(0, 0.5))
        before = process.time()
        process.rate = chance.uniform(0.5, 2.0)
        assert process.time() == before >= last
        last = before
    simulation.run()
    assert len(seen) == 200
    assert min(seen) >= 0
    assert max(seen) < 1e-9


def test_a_killed_process_does_nothing_any_more(simulation: Simulation, process: ProcessLoop) -> None:
    seen: list[str] = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            seen.append("finally")
            asyncio.get_running_loop().call_soon(seen.append, "and more")
            await asyncio.sleep(0)
            seen.append("and still more")

    async def never_begun() -> None:
        seen.append("begun")

    async def caught() -> None:
        try:
            await asyncio.sleep(1)
        except BaseException:
            seen.append("noticed")
            raise

    for coroutine in (stubborn(), caught()):
        process.create_task(coroutine)
    simulation.run(until=0.5)
    process.create_task(never_begun())
    process.call_soon(seen.append, "soon")
    process.call_later(1, seen.append, "later")
    process.run_in_executor(None, seen.append, "thread")
    process.kill()
    process.kill()
    assert not process.is_alive
    process.call_soon(seen.append, "after")
    process.resume()
    simulation.run(until=100)
    gc.collect()
    assert seen == []


def test_a_dead_process_leaves_nothing_to_do(simulation: Simulation, process: ProcessLoop) -> None:
    seen: list[str] = []
    other = ProcessLoop(simulation, "b")
    other.call_later(7200, seen.append, "another's")
    process.call_later(3600, seen.append, "later")
    process.call_later(1, seen.append, "held")
    process.pause()
    simulation.run(until=2)
    process.call_soon(seen.append, "about to be")
    process.kill()
    simulation.run(until=3)
    process.call_soon(seen.append, "soon")
    process.call_later(1, seen.append, "later")
    assert (len(simulation._later), len(simulation._ready), len(process._held)) == (1, 0, 0)
    simulation.run()
    assert seen == ["another's"]


def test_a_dead_process_is_put_away_without_a_word(simulation: Simulation, process: ProcessLoop) -> None:
    words: list[Any] = []
    process.set_exception_handler(lambda loop, context: words.append(context))

    async def stubborn() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            asyncio.create_task(asyncio.sleep(1))  # noqa: RUF006 (Nobody waits for it.)
            try:
                await asyncio.sleep(1)
            finally:
                try:
                    await asyncio.sleep(1)
                finally:
                    raise Exit

    async def fail() -> None:
        raise ValueError

    async def about_to_wait() -> None:
        later = asyncio.sleep(1)
        await asyncio.sleep(5)
        await later

    process.create_task(about_to_wait())
    process.create_task(stubborn())
    process.create_task(fail())
    simulation.run(steps_max=3)
    process.create_task(asyncio.sleep(1))
    simulation.close()
    gc.collect()
    assert words == []


def test_a_simulation_that_was_not_closed_goes_quietly_too() -> None:
    words: list[Any] = []

    def one() -> None:
        simulation = Simulation()
        process = ProcessLoop(simulation, "a")
        process.set_exception_handler(lambda loop, context: words.append(context))

        async def wait() -> None:
            try:
                await asyncio.sleep(10)
            finally:
                await asyncio.sleep(10)

        for _ in range(3):
            process.create_task(wait())
        simulation.run(until=1)
        process.create_task(wait())

    one()
    gc.collect()
    assert words == []


def test_an_exit_unwinds_to_nothing(simulation: Simulation, process: ProcessLoop) -> None:
    seen: list[str] = []

    def die() -> None:
        process.kill()
        raise Exit

    async def main() -> None:
        try:
            die()
        except Exception:  # noqa: BLE001 (It must not stop an exit.)
            seen.append("caught")
        finally:
            asyncio.get_running_loop().call_soon(seen.append, "from the dead")

    process.create_task(main())
    process.call_later(1, seen.append, "later")
    simulation.run()
    assert seen == []

    second = ProcessLoop(simulation, "b")

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        seen.append("handled")
        second.kill()
        raise Exit

    second.set_exception_handler(handler)
    second.call_soon(lambda: 1 // 0)
    second.call_soon(seen.append, "after")
    simulation.run()
    assert seen == ["handled"]


def test_a_process_that_dies_in_a_callback_drops_what_that_callback_would_still_do(
    simulation: Simulation, process: ProcessLoop
) -> None:
    seen: list[str] = []

    def die() -> None:
        process.call_soon(seen.append, "before")
        process.kill()
        process.call_soon(seen.append, "after")
        raise ValueError("and nobody hears of it")

    process.set_exception_handler(lambda loop, context: seen.append("handled"))
    process.call_soon(die)
    simulation.run()
    assert seen == []


# The same again


def busy_program(seed: int) -> str:
    """Processes that sleep, lock, wait, are paused, killed and started again; a checksum of what happened when."""
    chance = random.Random(seed)
    trace = hashlib.sha256()
    with Simulation() as simulation:

        def note(*what: object) -> None:
            trace.update(repr((simulation.now, simulation.steps, *what)).encode())

        async def work(loop: ProcessLoop, lock: asyncio.Lock, number: int) -> None:
            while True:
                try:
                    async with asyncio.timeout(chance.uniform(0.01, 0.1)), lock:
                        await asyncio.sleep(chance.uniform(0, 0.05))
                        note(loop.name, number, asyncio.current_task().get_name())  # type: ignore[union-attr]
                        await asyncio.wait(
                            {asyncio.create_task(asyncio.sleep(chance.random() / 50)) for _ in range(3)}
                        )
                except TimeoutError:
                    note(loop.name, number, "late")
                await asyncio.to_thread(note, loop.name, "thread")

        def start(name: str) -> None:
            loop = ProcessLoop(simulation, name)
            loop.rate = chance.uniform(0.9, 1.1)
            lock = asyncio.Lock()
            for number in range(4):
                loop.create_task(work(loop, lock, number))
            simulation.call_later(chance.uniform(0, 1), loop.stall, chance.uniform(0, 0.2))
            simulation.call_later(chance.uniform(0, 2), end, loop)

        def end(loop: ProcessLoop) -> None:
            note(loop.name, "ends")
            loop.kill()
            start(loop.name)

        for name in ("n1", "n2", "n3"):
            start(name)
        simulation.run(until=5.0)
        note("end")
        assert simulation.steps > 5000
    return trace.hexdigest()


def test_the_same_program_makes_the_same_steps_in_any_interpreter() -> None:
    script = "from sim.test_sim_loop import busy_program; print(busy_program(3))"
    found = [busy_program(3)]
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        found.append(
            subprocess.run(
                [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
            ).stdout.strip()
        )
    assert len(set(found)) == 1
    assert busy_program(4) != found[0]
