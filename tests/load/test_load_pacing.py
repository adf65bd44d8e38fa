"""When requests are due, by a clock that is made up."""

from __future__ import annotations

import pytest

from sofadb.load.latencies import percentile
from sofadb.load.pacing import Closed, Open


def test_in_a_closed_loop_a_free_place_is_a_request() -> None:
    pacing = Closed()
    assert pacing.due(7.0, 3) == [7.0, 7.0, 7.0]
    assert pacing.wake_at() is None
    assert pacing.late() == []


def test_a_closed_loop_may_be_told_how_many_there_are() -> None:
    pacing = Closed(5)
    assert [len(pacing.due(0.0, 3)) for _ in range(3)] == [3, 2, 0]


def test_in_an_open_loop_the_clock_alone_says_when_a_request_is_due() -> None:
    pacing = Open(begin=100.0, rate=4.0)
    assert pacing.due(99.9, 10) == []
    assert pacing.wake_at() == 100.0
    assert pacing.due(100.5, 10) == [100.0, 100.25, 100.5]
    assert pacing.wake_at() == 100.75


def test_a_request_that_finds_no_place_has_been_due_since_its_own_moment() -> None:
    pacing = Open(begin=0.0, rate=1.0)
    assert pacing.due(3.0, 1) == [0.0]
    assert pacing.due(3.5, 0) == []
    assert pacing.late() == [1.0, 2.0, 3.0]
    assert pacing.due(9.5, 2) == [1.0, 2.0]
    assert pacing.due(9.5, 100) == [3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]


def times_of_a_server_that_stands_still(pacing: Open | Closed) -> list[float]:
    """It answers one request at a time, at once, but for the second between 2 and 3. The clock goes in steps of 10 ms."""
    times: list[float] = []
    for step in range(500):
        now = step / 100
        if not 200 <= step < 300:
            times += [now - due for due in pacing.due(now, 100)]
        elif step == 200 and isinstance(pacing, Closed):
            times.append(1.0)  # The one that was asked when it stopped; no other is asked.
    return sorted(times)


def test_a_pause_is_felt_by_all_that_were_due_in_it_and_a_closed_loop_hides_that() -> None:
    honest = times_of_a_server_that_stands_still(Open(begin=0.0, rate=100.0))
    assert len(honest) == 500
    assert percentile(honest, 0.79) == pytest.approx(0, abs=1e-9)
    assert percentile(honest, 0.9) == pytest.approx(0.5, abs=0.02)
    assert percentile(honest, 0.99) == pytest.approx(0.95, abs=0.02)
    flattering = times_of_a_server_that_stands_still(Closed())
    assert percentile(flattering, 0.99) == 0
    assert flattering[-1] == 1.0
