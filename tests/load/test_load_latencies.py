"""Percentiles and rates."""

from __future__ import annotations

import math
from array import array

import pytest

from sofadb.load.latencies import Figures, percentile


@pytest.mark.parametrize(
    ("part", "value"),
    [(0, 1), (0.001, 1), (0.01, 1), (0.07, 7), (0.5, 50), (0.501, 51), (0.99, 99), (1, 100)],
)
def test_a_percentile_is_the_least_value_that_so_many_are_not_above(part: float, value: int) -> None:
    assert percentile(range(1, 101), part) == value


def test_of_one_value_every_percentile_is_this_one_and_of_none_there_is_none() -> None:
    assert [percentile([3.0], part) for part in (0, 0.5, 1)] == [3, 3, 3]
    assert math.isnan(percentile([], 0.5))


def test_what_nobody_answered_counts_among_the_times_and_not_among_the_answers() -> None:
    figures = Figures(seconds=2, latencies=array("d", [0.001, 0.002, 0.003, 5]), errors=7, unanswered=1)
    assert figures.answers == 3
    assert figures.rate == 1.5
    assert figures.percentiles_ms() == {"p50": 2, "p90": 5000, "p99": 5000, "p99.9": 5000, "max": 5000}


def test_where_no_time_has_gone_by_there_is_no_rate() -> None:
    assert Figures().rate == 0
