"""`sofadb bench` on real nodes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from processes import Cluster


def bench(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sofadb", "bench", "--port", str(cluster.ports["n1"])]
    command += ["--seconds", "0.2", "--keys", "300", "--connections", "5"]
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=False)


def test_it_measures_and_leaves_nothing_but_what_was_there(single: Cluster) -> None:
    client = single.client("n1")
    client("FLUSHALL")
    client("SET", "bench:mine", "1")
    done = bench(single)
    assert done.returncode == 0, done.stderr
    assert "SET" in done.stdout
    assert "GET" in done.stdout
    assert client("KEYS", "*") == [b"bench:mine"]


@pytest.mark.parametrize("how", [["--pipeline", "4"], ["--rate", "500"]], ids=lambda how: how[0])
def test_for_programs_it_is_json(single: Cluster, how: list[str]) -> None:
    done = bench(single, "--json", "--operation", "set", "--all", *how)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["set"]
    assert figures["answers"] > 0
    assert figures["errors"] == figures["unanswered"] == 0
    assert 0 < figures["ms"]["p50"] <= figures["ms"]["p99"] <= figures["ms"]["max"]


def test_more_data_than_a_node_should_have_to_hold_is_refused(single: Cluster) -> None:
    done = bench(single, "--keys", "10000000", "--bytes", "1000")
    assert done.returncode == 2
    assert "9.3 GiB, more than is written here at most" in done.stderr


def test_where_no_node_answers_that_is_said(single: Cluster) -> None:
    done = bench(single, "--port", "1")
    assert done.returncode == 1
    assert done.stderr.startswith("sofadb: no node answers: ")
