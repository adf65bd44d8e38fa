"""The collector of cycles looks at everything once, soon, and at what stays no more."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sofadb.database.database import Database
from sofadb.database.runs import Group
from sofadb.database.table import check
from sofadb.node import collector

Timers = list[tuple[float, Callable[[], None]]]


@pytest.fixture
def kept_short() -> Iterator[Timers]:
    """Those that it has set, of which none passes by itself."""
    callbacks, threshold = gc.callbacks.copy(), gc.get_threshold()
    timers: Timers = []
    collector.keep_short(lambda seconds, then: timers.append((seconds, then)))
    yield timers
    gc.callbacks[:] = callbacks
    gc.set_threshold(*threshold)
    gc.unfreeze()


def test_what_has_survived_a_collection_is_not_looked_at_again(kept_short: Timers) -> None:
    before = gc.get_freeze_count()
    kept = [[number] for number in range(1_000)]
    _, look = kept_short.pop()
    look()
    assert gc.get_freeze_count() >= before + len(kept)
    assert all(it is not kept for each in range(3) for it in gc.get_objects(each))
    assert [seconds for seconds, _ in kept_short] == [collector.LOOK_EVERY_S]


@pytest.mark.usefixtures("kept_short")
def test_many_objects_at_once_are_not_waited_for() -> None:
    before = gc.get_freeze_count()
    kept = [[number] for number in range(collector.YOUNG_MAX + 1_000)]
    assert gc.get_freeze_count() >= before + collector.YOUNG_MAX - 1_000
    del kept


@pytest.mark.usefixtures("kept_short")
def test_what_is_frozen_goes_when_nobody_refers_to_it() -> None:
    kept = [[number] for number in range(1_000)]
    gc.collect(0)
    before = gc.get_freeze_count()
    del kept
    assert gc.get_freeze_count() <= before - 1_000


@pytest.mark.usefixtures("kept_short")
@pytest.mark.parametrize("generation", [0, 1])
@pytest.mark.parametrize("kind", [list, dict.fromkeys, set, tuple])
def test_what_is_large_is_not_looked_at_even_once(generation: int, kind: Callable[[Any], Any]) -> None:
    gc.collect()
    # The last of them is an object that a collection looks at: without one it would leave tuples and dicts alone by itself.
    large = kind([*range(collector.LARGE_ELEMENTS), Exception()])
    gc.collect(generation)
    assert all(it is not large for each in range(3) for it in gc.get_objects(each))


@pytest.mark.usefixtures("kept_short")
def test_cycles_are_found_where_nothing_is_large() -> None:
    gc.collect()
    cycle: list[Any] = [[number] for number in range(100)]
    cycle.append(cycle)
    del cycle
    assert gc.collect(0) == 101


@pytest.mark.usefixtures("kept_short")
def test_an_error_that_was_answered_leaves_nothing_for_the_collector() -> None:
    gc.disable()
    try:
        commands = [
            [b"SET", b"a", b"x"],
            [b"INCR", b"a"],
            [b"LPUSH", b"a", b"x"],
            [b"SETRANGE", b"a", b"x", b"y"],
        ]
        group = Group(0, [(check(command).function, command) for command in commands], b"")
        database = Database()
        database.begin(1, 1)
        gc.collect()
        for _ in range(100):
            replies = group.execute(database)
        del replies
        assert gc.collect() == 0
    finally:
        gc.enable()
