"""Members that come, go, move, lose their directories and are mistaken for others, as real processes and under clients."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trials import Trial

from processes import Client, Cluster, free_ports, wait_until

VALUE = b"x" * (256 << 10)


def facts(cluster: Cluster, name: str) -> dict[str, Any]:
    """What a node says, as soon as it answers."""
    found: dict[str, Any] = wait_until(lambda: cluster.facts(name), f"{name} answers")
    return found


def parts(cluster: Cluster, name: str) -> dict[str, str]:
    """What each member is, as a node sees it."""
    return {each["node"]: each["part"] for each in facts(cluster, name)["members"]}


def until_these_vote(cluster: Cluster, *names: str) -> None:
    """All of these, and nobody else, as each of them knows, and in force."""

    def all_know() -> bool:
        said = [facts(cluster, name) for name in names]
        return all(each["voters"] == sorted(names) and not each["is_changing"] for each in said)

    wait_until(all_know, f"{', '.join(names)} vote")


def ask(cluster: Cluster, *words: str) -> Any:
    client = cluster.client(cluster.leader())
    reply = client("SOFA.MEMBER", *words)
    client.close()
    return reply


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes that take snapshots again and again."""
    cluster = Cluster(tmp_path, 3)
    cluster.options = ("--snapshot-mb", "0.2")
    cluster.start()
    cluster.leader()
    yield cluster
    cluster.stop()


def test_every_member_is_replaced_under_clients_until_none_of_the_first_is_left(busy: Cluster) -> None:
    old, new = list(busy.names), ["n4", "n5", "n6"]
    addresses = [busy.add(name, old) for name in new]
    trial = Trial(busy, ["n1", "n4", "n2", "n5", "n3", "n6"])
    trial.excuses.begin(*new)
    for asker in trial.askers:
        asker.start()
    trial.goes_on()
    members = set(old)
    for leaves, comes, address in zip(old, new, addresses, strict=True):
        assert ask(busy, "REPLACE", leaves, comes, address) == b"OK"
        trial.excuses.begin(leaves)
        busy.start(comes)
        members = members - {leaves} | {comes}
        until_these_vote(busy, *members)
        trial.excuses.end(comes)
        busy.kill(leaves)
        trial.goes_on()
    assert set(parts(busy, "n4")) == set(new)
    trial.judge()


def test_a_follower_whose_directory_is_wiped_under_clients_votes_again_by_itself(busy: Cluster) -> None:
    """Behind the cut of all logs, so that it needs a snapshot."""
    trial = Trial(busy)
    for asker in trial.askers:
        asker.start()
    leader = busy.leader()
    wiped, other = (name for name in busy.names if name != leader)
    client = busy.client(leader)

    def is_cut() -> bool:
        for number in range(16):
            assert client("SET", f"large:{number}", VALUE) == b"OK"
        return not (busy.directory / leader / first).exists()

    first = min(path.name for path in (busy.directory / leader).glob("journal-*.seg"))
    wait_until(is_cut, "the log of the leader is cut")
    trial.excuses.begin(wiped)
    busy.kill(wiped)
    shutil.rmtree(busy.directory / wiped)
    busy.start(wiped)

    def votes() -> bool:
        said = facts(busy, leader)
        (row,) = (each for each in said["members"] if each["node"] == wiped)
        return row["acceptor"] != wiped and row["part"] == "voter" and not said["is_changing"]

    wait_until(votes, "its new directory votes")
    trial.excuses.end(wiped)
    trial.goes_on()
    assert "went on from another node's snapshot" in busy.log(wiped)
    assert facts(busy, wiped)["snapshot"] > 0
    trial.excuses.begin(other)
    busy.kill(other)  # Now its vote is needed.
    trial.goes_on()
    trial.judge()


def test_a_node_that_moves_to_another_port_is_found_there_and_nobody_has_to_be_told(three: Cluster) -> None:
    mover = next(name for name in three.names if name != three.leader())
    before = facts(three, three.leader())
    three.processes[mover].terminate()
    assert three.processes.pop(mover).wait(20) == 0
    three.ports[mover], three.peer_ports[mover] = free_ports(2)
    three.start(mover)
    address = f"127.0.0.1:{three.peer_ports[mover]}"

    def is_found() -> bool:
        members = [facts(three, name)["members"] for name in three.names]
        return all(
            each["peer_address"] == address and each["is_reachable"]
            for row in members
            for each in row
            if each["node"] == mover
        )

    wait_until(is_found, "all know where it is")
    assert three.client(mover)("SET", "a", "1") == b"OK"
    after = facts(three, three.leader())
    assert (after["voters"], after["ballot"]) == (before["voters"], before["ballot"])
    assert {each["acceptor"] for each in after["members"]} == {"n1", "n2", "n3"}


def test_a_removed_node_that_is_started_again_is_told_so_and_disturbs_nobody(three: Cluster) -> None:
    leader = three.leader()
    gone, other = (name for name in three.names if name != leader)
    assert ask(three, "REMOVE", gone, "FORCE") == b"OK"
    until_these_vote(three, leader, other)
    three.kill(gone)
    client = three.client(leader)
    assert client("SET", "a", "1") == b"OK"
    ballot = facts(three, leader)["ballot"]
    three.start(gone)
    wait_until(
        lambda: f"it refuses us: node {gone} is no member of this cluster" in three.log(gone), "it is refused"
    )
    explained = three.client(gone)("SOFA.EXPLAIN")
    assert explained[0].decode().startswith(f"{gone} is no member any more: it was removed"), explained
    for number in range(100):
        assert client("SET", "a", number) == b"OK"
    assert facts(three, leader)["ballot"] == ballot
    assert parts(three, leader) == {leader: "voter", other: "voter"}
    # Its name may be used again, by an empty directory.
    three.kill(gone)
    shutil.rmtree(three.directory / gone)
    assert ask(three, "ADD", gone, three.peer_address(gone)) == b"OK"
    three.start(gone)
    until_these_vote(three, *three.names)
    assert three.client(gone)("GET", "a") == b"99"


@pytest.mark.parametrize("how", ["with --cluster", "with --join"])
def test_a_second_process_of_the_same_id_with_an_empty_directory_does_not_push_the_living_one_out(
    three: Cluster, how: str
) -> None:
    leader = three.leader()
    twice = next(name for name in three.names if name != leader)
    client_port, peer_port = free_ports(2)
    command = three.command(twice)
    command[command.index("--dir") + 1] = str(three.directory / "second")
    command[command.index("--listen") + 1] = f"127.0.0.1:{client_port}"
    command[command.index("--peer-listen") + 1] = f"127.0.0.1:{peer_port}"
    if how == "with --join":
        command[-2:] = ["--join", f"127.0.0.1:{three.peer_ports[leader]}"]
    with (three.directory / "second.log").open("wb") as log:
        second = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(
            lambda: any(
                f"another {twice} wants to join, and {twice} is there" in three.log(name)
                for name in three.names
            ),
            "it wants to join",
        )
        client = three.client(twice)
        for number in range(300):
            assert client("SET", "a", number) == b"OK"
        members = {each["node"]: each for each in facts(three, leader)["members"]}
        assert members[twice]["acceptor"] == twice
        assert members[twice]["is_reachable"]
        assert facts(three, leader)["voters"] == ["n1", "n2", "n3"]
        assert Client(client_port)("SOFA.EXPLAIN")[0].decode().startswith(f"{twice} asks to be let in")
    finally:
        second.kill()
        second.wait()
