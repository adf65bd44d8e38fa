"""`make compat`: what of others' tests is run, how their results are counted, and the page about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from compat.frameworks import EXAMPLES, NAMES, Performance
from compat.page import page
from compat.redis_py import left_out, suite
from compat.redis_py.suite import FAILED, PASSED, SKIPPED, Comparison, Result

REPORT = """<?xml version="1.0"?>
<testsuites><testsuite>
<testcase file="tests/test_a.py" classname="tests.test_a.TestA" name="test_get[2]"/>
<testcase file="tests/test_a.py" classname="tests.test_a.TestA" name="test_set"><failure message="no&#10;at all"/></testcase>
<testcase file="tests/test_a.py" classname="tests.test_a.TestA" name="test_set"><error message="and then this"/></testcase>
<testcase file="tests/test_a.py" classname="tests.test_a.TestA" name="test_del"/>
<testcase file="tests/test_a.py" classname="tests.test_a.TestA" name="test_del"><error message="in clearing up"/></testcase>
<testcase file="tests/test_b.py" classname="tests.test_b" name="test_xadd"><skipped message="left out: streams"/></testcase>
</testsuite></testsuites>
"""

RESULTS = [
    Result("tests/test_a.py", "TestA::test_get[2]", PASSED),
    Result("tests/test_a.py", "TestA::test_set", FAILED, "no\nat all"),
    Result("tests/test_a.py", "TestA::test_del", FAILED, "in clearing up"),
    Result("tests/test_b.py", "test_xadd", SKIPPED, "left out: streams"),
]


def test_each_test_counts_once_and_has_failed_if_anything_of_it_did(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    assert list(suite.read(report)) == RESULTS


def test_files_that_are_left_out_say_why(tmp_path: Path) -> None:
    for name in ("test_commands.py", "test_json.py", "test_asyncio/test_search.py", "helpers.py"):
        path = tmp_path / "tests" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    chosen, not_run = suite.files(tmp_path)
    assert chosen == ["tests/test_commands.py"]
    assert not_run == {
        "tests/test_json.py": left_out.MODULES,
        "tests/test_asyncio/test_search.py": left_out.MODULES,
    }


def test_a_failure_is_known_by_its_file_class_and_name_whatever_its_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(left_out.FAILURES, "*::TestA::test_set", "it cannot be so")
    assert Result("tests/test_a.py", "TestA::test_set[resp3]", FAILED).reason == "it cannot be so"
    assert Result("tests/test_a.py", "TestA::test_setex", FAILED).reason == ""


def test_the_page_counts_and_names_what_fails() -> None:
    outcome = {"what": "RQ 1", "work": "jobs", "done": 1000, "lost": 0, "repeated": 2, "seconds": 12.3}
    outcome |= {"pause_ms": 512, "promise": "none is lost", "kept": True, "killed": "n1"}
    performances = [
        Performance("rq_jobs", 0, outcome),
        Performance("huey_tasks", 1, None),
    ]
    theirs = [Result("tests/test_a.py", "TestA::test_del", FAILED, "no")]
    comparison = Comparison(RESULTS, theirs, "7.0.15", {"tests/test_json.py": "modules"})
    assert comparison.unknown == [RESULTS[1]]
    text = page("8.1.0", comparison, performances)
    for line in (
        "| SofaDB | 1 | 2 | 1 |",
        "| Redis 7.0.15 | 0 | 1 | 0 |",
        "| tests/test_a.py | 1 | 2 | 0 |",
        "| test_a.py::TestA::test_del | fails with Redis 7.0.15, too |",
        "| test_a.py::TestA::test_set | not explained: `no` |",
        "| 1 | left out: streams |",
        "| tests/test_json.py | modules |",
        "| [rq_jobs](../examples/rq_jobs.py) | RQ 1 | jobs | 1,000 | 0 | 2 | 12 | 512 | yes: none is lost |",
        "| [huey_tasks](../examples/huey_tasks.py) | | did not end (exit code 1) | | | | | | no |",
    ):
        assert line in text.splitlines()


def test_every_example_that_is_run_exists() -> None:
    for name in NAMES:
        assert (EXAMPLES / f"{name}.py").exists(), name
