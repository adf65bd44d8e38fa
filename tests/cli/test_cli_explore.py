"""`sofadb explore`: the small cases of the core, visited whole."""

from __future__ import annotations

import subprocess
import sys


def explore(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sofadb", "explore", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_a_case_is_visited_and_the_counts_are_told() -> None:
    result = explore("--case", "two-ballots-one-instance", "--case", "with-a-crash")
    assert result.returncode == 0
    assert "226 states, all of them safe" in result.stdout
    assert "4,856 states, all of them safe" in result.stdout


def test_the_cases_are_listed_and_an_unknown_one_is_one_line() -> None:
    names = explore("--list-cases").stdout.split()
    assert "four-ballots-one-instance" in names
    result = explore("--case", "nonsense")
    assert result.returncode == 2
    assert result.stderr == "sofadb: Invalid value: 'nonsense' is no case; --list-cases names them\n"
