"""What a thousand commands cost stays what it is. Nothing here is timed.

`MOST` holds about a tenth more than was counted when it was written. What rises above it has become dearer: find out why, or, if
it has to be so, put what the failure tells in its place, and a tenth more. What has become cheaper by much goes there, too.
"""

from __future__ import annotations

import pytest

from costs.counted import Costs, Load, count

SET, GET = (b"SET", b"k" * 16, b"v" * 256), (b"GET", b"k" * 16)
COUNTED = (
    "leader_calls",
    "follower_calls",
    "messages",
    "bytes_sent",
    "records",
    "bytes_logged",
    "syncs",
)
LOADS = {
    "one write at a time": (Load(1, 1, SET), 500),
    "50 x 1 writes": (Load(50, 1, SET), 2_000),
    "50 x 16 writes": (Load(50, 16, SET), 16_000),
    "50 x 1 reads": (Load(50, 1, GET), 2_000),
}
MOST = {
    "one write at a time": (604_000, 731_000, 6870, 1_012_000, 6600, 1_451_000, 5140),
    "50 x 1 writes": (44_700, 35_800, 330, 677_000, 322, 1_013_000, 180),
    "50 x 16 writes": (4_670, 2_460, 23, 661_000, 23, 992_000, 11),
    "50 x 1 reads": (36_200, 4_600, 143, 8_200, 0, 0, 0),
}
"""For a thousand commands, in the order of `COUNTED`."""


@pytest.mark.parametrize("name", LOADS)
def test_commands_cost_no_more_than_they_did(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load, commands = LOADS[name]
    costs: Costs = count(load, commands, monkeypatch)
    counted = tuple(costs.for_a_thousand(what) for what in COUNTED)
    dearer = [what for what, now, most in zip(COUNTED, counted, MOST[name], strict=True) if now > most]
    assert not dearer, f"of {name}, these are dearer: {', '.join(dearer)}; now it is {counted}"
