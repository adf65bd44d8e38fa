"""`sofadb member` and `sofadb plan`: what speaks against a change, what is said, and what is done."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from processes import Cluster, wait_until
from sofadb.cli.change import Change, Parts, objection, parts, serve_line


def facts(voters: int = 3, dead: str = "", **more: Any) -> dict[str, Any]:
    """What the leader n1 says of a cluster of so many; those of `dead` do not answer."""
    names = [f"n{number}" for number in range(1, voters + 1)]
    members = [
        {
            "node": name,
            "part": "voter",
            "behind": None if name in dead.split() else 0,
            "is_reachable": name not in dead.split(),
            "peer_address": f"10.0.0.{number}:17001",
            "client_address": f"10.0.0.{number}:7001",
        }
        for number, name in enumerate(names, 1)
    ]
    known = {"node": "n1", "role": "leading", "voters": names, "is_changing": False, "directory": "/data/n1"}
    return known | {"members": members} | more


REMOVE = Change("remove", "n1")
ADD = Change("add", "n6", address="10.0.0.6:17001")


@pytest.mark.parametrize(
    ("change", "seen", "words"),
    [
        (REMOVE, facts(3), "survives the loss of 1 more now, without n1 that of 0: add another one first"),
        (
            REMOVE,
            facts(5, "n4 n5"),
            "n4 and n5 do not answer, and without n1 3 of 4 voters are needed and 2 are there",
        ),
        (REMOVE, facts(5, "n5"), "n5 does not answer, and the cluster survives the loss of 1 more now"),
        (REMOVE, facts(3, role="following"), "nobody leads"),
        (Change("promote", "n9"), facts(3), ""),
        (REMOVE, facts(1), ""),
        (replace(REMOVE, node="n5"), facts(5, "n4 n5"), ""),
        (replace(REMOVE, node="n9"), facts(3), ""),
        (replace(REMOVE, node="n4"), facts(4), ""),
        (Change("replace", "n1", "n6", "h:1"), facts(5, "n4 n5"), ""),
        (ADD, facts(3, "n3"), ""),
    ],
)
def test_what_would_leave_less_than_there_is_now_is_refused_with_the_reason_and_a_remedy(
    change: Change, seen: dict[str, Any], words: str
) -> None:
    problem = objection(change, seen)
    assert words in problem
    assert bool(problem) == bool(words)


def test_a_learner_that_does_not_answer_is_not_promoted() -> None:
    seen = facts(4, "n4")
    seen["voters"].remove("n4")
    seen["members"][3]["part"] = "learner"
    assert parts(seen) == Parts(("n1", "n2", "n3"), ("n4",))
    assert "n4 does not answer" in objection(Change("promote", "n4"), seen)
    assert objection(Change("promote", "n4"), facts(4)) == ""


def test_what_a_change_leads_to() -> None:
    before = Parts(("n1", "n2", "n3"), ("n4",))
    assert ADD.made_to(before) == Parts(("n1", "n2", "n3", "n6"), ("n4",))
    assert replace(ADD, is_learner=True).made_to(before) == Parts(("n1", "n2", "n3"), ("n4", "n6"))
    assert REMOVE.made_to(before) == Parts(("n2", "n3"), ("n4",))
    assert Change("replace", "n4", "n6", "h:1").made_to(before) == Parts(("n1", "n2", "n3"), ("n6",))
    assert Change("promote", "n4").made_to(before) == Parts(("n1", "n2", "n3", "n4"))


def test_a_change_is_done_when_it_is_in_force_and_nobody_leads_who_has_left() -> None:
    after = facts(3, leader="n2")
    assert Change("replace", "n4", "n3", "h:1").is_done(after)
    assert Change("remove", "n4").is_done(after)
    assert Change("promote", "n3").is_done(after)
    assert Change("add", "n3", address="h:1").is_done(after)
    assert not Change("remove", "n3").is_done(after)
    assert not Change("replace", "n3", "n2", "h:1").is_done(after)
    assert not Change("add", "n4", address="h:1").is_done(after)
    assert not Change("remove", "n4").is_done(after | {"leader": "n4"})
    assert not Change("remove", "n4").is_done(after | {"is_changing": True})
    assert not Change("add", "n3", address="h:1", is_learner=True).is_done(after)


def test_the_line_that_starts_a_newcomer_is_like_those_of_the_others() -> None:
    assert serve_line(ADD, facts(2)) == (
        "sofadb serve --id n6 --dir /data/n6 --listen 10.0.0.6:7001 --peer-listen 10.0.0.6:17001 "
        "--join 10.0.0.1:17001,10.0.0.2:17001"
    )
    odd = facts(2, directory="/srv/db")
    odd["members"][0]["client_address"] = "10.0.0.1:6379"
    assert "--dir /var/lib/sofadb --listen 10.0.0.6:6379 " in serve_line(ADD, odd)


# Real nodes


def sofadb(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sofadb", *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_members_are_added_listed_replaced_and_removed(three: Cluster) -> None:
    port = ("--port", str(three.ports["n1"]))
    address = three.add("n4", ["n1", "n2"])
    waits = sofadb("member", "add", f"n4={address}", "--timeout-s", "0.5", *port)
    assert waits.returncode == 3
    (line,) = (line.split() for line in waits.stdout.splitlines() if "--join 127" in line)
    # That line, with the port of its own that this machine needs.
    line[line.index("--listen") + 1] = f"127.0.0.1:{three.ports['n4']}"
    assert line[line.index("--dir") + 1] == str(three.directory / "n4")
    assert "n4 is to vote and has not arrived" in waits.stderr
    assert "stands and goes on by itself" in waits.stderr
    assert [each["part"] for each in listed(port)] == [*["voter"] * 3, "not arrived, to vote"]

    with (three.directory / "n4.log").open("ab") as log:
        three.processes["n4"] = subprocess.Popen([sys.executable, "-m", *line], stdout=log, stderr=log)
    wait_until(lambda: "n4" in (three.facts("n2") or {})["voters"], "n4 votes")
    assert [(each["part"], each["reached"]) for each in listed(port)] == [("voter", True)] * 4
    table = sofadb("member", "list", *port).stdout
    assert "4 voters, of which 3 are needed" in table
    assert f"127.0.0.1:{three.ports['n4']}" in table

    told = sofadb("member", "remove", "n4", *port)
    assert told.stdout.splitlines()[-1] == "done: n1, n2, n3 vote, 2 are needed"
    refused = sofadb("member", "remove", "n3", *port)
    assert refused.returncode == 1
    assert "add another one first, or replace n3 (or say --force)" in refused.stderr

    address = three.add("n5", ["n1", "n2"])
    three.start("n5")
    assert sofadb("member", "replace", "n3", f"n5={address}", *port).returncode == 0
    assert [each["node"] for each in listed(port)] == ["n1", "n2", "n5"]
    three.kill("n3", "n4")
    for wrong in (("add", "n6"), ("add", "n6=h:1,n7=h:2"), ("remove", "n9"), ("promote", "n1")):
        result = sofadb("member", *wrong, *port)
        assert result.returncode in (1, 2)
        assert len(result.stderr.splitlines()) == 1


def listed(port: tuple[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(sofadb("member", "list", "--json", *port).stdout)["members"]
    return found


def test_who_is_interrupted_hears_that_it_goes_on(three: Cluster) -> None:
    address = three.add("n4", ["n1"])
    command = [sys.executable, "-m", "sofadb", "member", "add", f"n4={address}", "--learner"]
    process = subprocess.Popen(
        [*command, "--port", str(three.ports["n1"])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert next(line for line in process.stdout if line.startswith("waiting: "))
    process.send_signal(signal.SIGINT)
    _, problems = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stands and goes on by itself" in problems
    back = sofadb("member", "remove", "n4", "--port", str(three.ports["n1"]))
    assert back.stdout.splitlines()[-1] == "done: n1, n2, n3 vote, 2 are needed"
    assert "n4" not in {each["node"] for each in listed(("--port", str(three.ports["n2"])))}


def test_a_plan_tells_what_failures_would_do_and_changes_nothing(three: Cluster) -> None:
    port = ("--port", str(three.ports["n2"]))
    told = json.loads(sofadb("plan", "add", "n4=127.0.0.1:1", "--json", *port).stdout)
    assert told["after"] == {"voters": ["n1", "n2", "n3", "n4"], "learners": []}
    found = {
        tuple(each["lost"]): (each["before"]["serves"], each["after"]["serves"]) for each in told["failures"]
    }
    assert found["n1",] == (True, True)
    assert found["n1", "n4"] == (True, False)
    assert found["n1", "n2"] == (False, False)
    assert len(found) == 11
    dead = next(name for name in ("n1", "n3") if name != three.leader())
    three.kill(dead)
    away = f"away at this moment, and in every row: {dead}"
    wait_until(lambda: away in sofadb("plan", "remove", dead, *port).stdout, "the leader misses it")
    table = sofadb("plan", "remove", dead, *port).stdout
    assert table.splitlines()[-1] == "survives the loss of any 0 before, of any 0 after"
    assert sofadb("plan", "replace", dead, "n4=h:1", *port).stdout.splitlines()[-1] == (
        "survives the loss of any 0 before, of any 1 after"
    )
    assert [each["node"] for each in listed(port)] == ["n1", "n2", "n3"]
    for wrong in (("add", "n1=h:1"), ("remove", "n9")):
        assert sofadb("plan", *wrong, *port).returncode == 1


def test_nobody_to_ask_is_one_line(tmp_path: Path) -> None:
    result = sofadb("member", "list", "--port", "1")
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert "no node answers" in result.stderr
