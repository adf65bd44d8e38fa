"""What is said of two builds that are measured in turn."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from benchmarks.pairs import LOADS, Asked, Build, ratio, told


def test_loads_are_understood() -> None:
    assert [Asked.parse(words).title for words in LOADS.split(";")] == [
        words.strip() for words in LOADS.split(";")
    ]
    asked = Asked.parse("GET 10x4 at a follower")
    assert (asked.load.operation, asked.load.connections, asked.load.depth) == ("GET", 10, 4)
    assert asked.is_at_follower
    assert Asked.parse("SET 2000/s").rate == 2_000


@pytest.mark.parametrize("words", ["", "SET", "PUT 50", "SET 50x", "SET 50/s at a leader"])
def test_what_is_no_load_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match="not a load"):
        Asked.parse(words)


def test_a_build_has_sources_and_an_environment(tmp_path: Path) -> None:
    (tmp_path / "new" / "src" / "sofadb").mkdir(parents=True)
    build = Build(f"new={tmp_path / 'new'},SOME=thing", tmp_path, 22_000)
    assert build.command("n1")[:3] == ["env", f"PYTHONPATH={tmp_path / 'new' / 'src'}", "SOME=thing"]
    with pytest.raises(ValueError, match="not a build"):
        Build(f"old={tmp_path}", tmp_path, 22_000)


def test_ratios_are_of_what_was_measured_one_after_the_other() -> None:
    middle, error = ratio([2, 6, 40], [1, 2, 10])
    assert middle == 3
    assert error == pytest.approx(math.sqrt(math.pi / 6))
    assert math.isnan(ratio([1], [2])[1])


def test_each_build_is_compared_with_the_first() -> None:
    values = dict.fromkeys(("p50", "p99", "max", "cpu"), 1.0)
    lines = told(
        "SET 50", {"old": [{"rate": 100.0, **values}] * 2, "new": [{"rate": 150.0, **values}] * 2}
    ).splitlines()
    assert lines[0].startswith("SET 50: old 100 rate, 1 p50")
    assert lines[1].startswith("    new: requests/s 1.500 ± 0.000, p50 1.000 ± 0.000")
