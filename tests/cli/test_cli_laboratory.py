"""`sofadb hunt` and `sofadb replay`: what they print and how they end."""

from __future__ import annotations

import json
import subprocess
import sys

from sofadb.sim.sabotages import SABOTAGES

SABOTAGE = "forwarded-command-takes-effect-twice"


def sofadb(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sofadb", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_a_hunt_that_finds_nothing_says_so_and_how_often_each_fault_struck() -> None:
    result = sofadb("hunt", "--seeds", "2", "--first", "2")
    assert result.returncode == 0, result.stdout
    assert "nothing found" in result.stdout
    assert "2 worlds in" in result.stdout
    assert "mattered" in result.stdout
    assert result.stderr == ""


def test_a_hunt_for_programs() -> None:
    result = sofadb("hunt", "--seeds", "3", "--jobs", "1", "--json")
    told = json.loads(result.stdout)
    assert told["seeds"] == 3
    assert told["found"] is None
    assert told["steps"] > 0
    assert told["simulated_seconds"] > 0


def test_a_hunt_may_be_told_how_long_and_then_goes_on_until_then() -> None:
    told = json.loads(sofadb("hunt", "--minutes", "0.02", "--json").stdout)
    assert told["seeds"] >= 1
    assert told["seconds"] >= 1.2


def test_what_is_found_is_told_with_the_seed_and_how_to_see_it_again() -> None:
    result = sofadb("hunt", "--seeds", "50", "--sabotage", SABOTAGE)
    assert result.returncode == 1
    assert "violates sessions_exactly_once" in result.stdout
    (command,) = [line for line in result.stdout.splitlines() if "sofadb replay" in line]
    seed = command.split("sofadb replay ")[1].split()[0]
    assert f"--sabotage {SABOTAGE}" in command
    again = sofadb("replay", seed, "--sabotage", SABOTAGE)
    assert again.returncode == 1
    assert "violated: sessions_exactly_once" in again.stdout.splitlines()[-1]


def test_a_story_is_told_message_by_message() -> None:
    result = sofadb("replay", "2")
    assert result.returncode == 0
    assert result.stdout.startswith("seed 2: ")
    assert "all was well" in result.stdout.splitlines()[-1]
    for words in ("→ n2 accept ", "← n1 accepted ", "save accepted ", "apply #1", "healed: "):
        assert words in result.stdout, words
    assert len(sofadb("replay", "2", "--all").stdout) > len(result.stdout)


def test_a_simpler_world_is_told_on_demand() -> None:
    result = sofadb("replay", "2", "--sabotage", "answers-before-its-write-is-stable", "--shrink")
    assert result.returncode == 1
    assert "settings: as usual" in result.stdout
    assert "violated: " in result.stdout.splitlines()[-1]
    assert (
        sofadb("replay", "2", "--shrink").stdout
        == "seed 2 violates nothing: there is nothing to make simpler\n"
    )


def test_sabotages_are_listed_and_an_unknown_one_is_one_line() -> None:
    assert sofadb("hunt", "--list-sabotages").stdout.split() == list(SABOTAGES)
    for command in (("hunt",), ("replay", "1")):
        result = sofadb(*command, "--sabotage", "nonsense")
        assert result.returncode == 2
        assert (
            result.stderr == "sofadb: Invalid value: 'nonsense' is no sabotage; --list-sabotages names them\n"
        )
