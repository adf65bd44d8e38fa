"""Three real processes: any node takes any command, and kill -9 loses nothing that was acknowledged."""

from __future__ import annotations

import shutil
import signal
import threading
from pathlib import Path

import hiredis

from processes import Client, Cluster, wait_until


def test_what_is_written_at_one_node_is_read_at_every_other_at_once(three: Cluster) -> None:
    clients = {name: three.client(name) for name in three.names}
    for number in range(30):
        writer, reader = three.names[number % 3], three.names[(number + 1) % 3]
        assert clients[writer]("SET", "key", number) == b"OK"
        assert clients[reader]("GET", "key") == b"%d" % number
    assert clients["n1"].pipeline(
        [["SET", "p", "1"], ["GET", "p"], ["INCR", "p"], ["GET", "p"], ["DEL", "p"], ["GET", "p"]]
    ) == [*(b"OK", b"1", 2, b"2", 1, None)]


def test_one_node_says_master_and_the_others_slave_and_where_the_master_is(three: Cluster) -> None:
    leader = three.leader()
    for name in three.names:
        client = three.client(name)
        wait_until(
            lambda client=client: client("INFO", "replication").find(b"master_port:0") < 0,
            "addresses are known",
        )
        info = client("INFO", "replication").decode()
        role = client("ROLE")
        server = client("INFO", "server").decode()
        assert f"process_id:{three.processes[name].pid}\r\n" in server
        if name == leader:
            assert "role:master" in info
            assert role[0] == b"master"
        else:
            assert "role:slave" in info
            assert f"master_port:{three.ports[leader]}" in info
            assert role[:3] == [b"slave", b"127.0.0.1", three.ports[leader]]


class Writer(threading.Thread):
    """Writes to its own keys without ever trying again, and remembers what was acknowledged."""

    def __init__(self, client: Client, name: str) -> None:
        super().__init__()
        self.client = client
        self.prefix = name
        self.acknowledged: list[int] = []
        self.problems: list[str] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            try:
                reply = self.client("SET", f"{self.prefix}:{number}", number)
            except OSError as problem:
                self.problems.append(str(problem))
                return
            if isinstance(reply, hiredis.ReplyError):
                self.problems.append(str(reply))
            else:
                self.acknowledged.append(number)


def test_leader_killed_under_writers_on_both_followers_loses_nothing_and_they_see_no_error(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path)
    cluster.start()
    leader = cluster.leader()
    followers = [name for name in cluster.names if name != leader]
    writers = [Writer(cluster.client(name), f"{name}-{number}") for name in followers for number in range(2)]
    for writer in writers:
        writer.start()

    def each_wrote(more: int) -> None:
        goals = [len(writer.acknowledged) + more for writer in writers]
        wait_until(
            lambda: all(
                len(w.acknowledged) >= goal or w.problems for w, goal in zip(writers, goals, strict=True)
            ),
            "every writer gets on",
        )

    each_wrote(100)
    cluster.kill(leader)
    each_wrote(100)
    cluster.start(leader)
    each_wrote(100)
    for writer in writers:
        writer.stopping.set()
    for writer in writers:
        writer.join()
        assert writer.problems == []
    # Kill all three at once, start them again, and read everything from every node.
    cluster.kill(*cluster.names)
    cluster.start()
    cluster.leader()
    for name in cluster.names:
        client = cluster.client(name)
        for writer in writers:
            keys = [f"{writer.prefix}:{number}" for number in writer.acknowledged]
            assert client("MGET", *keys) == [b"%d" % number for number in writer.acknowledged]
    cluster.stop()


def test_increments_forwarded_while_leaders_die_count_once_each(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.start()
    for round_number in range(1, 4):
        leader = cluster.leader()
        follower = next(name for name in cluster.names if name != leader)
        client = cluster.client(follower)
        client.send(*[["INCR", "counter"]] * 200)
        cluster.kill(leader)
        replies = [client.receive() for _ in range(200)]
        first = 200 * (round_number - 1)
        assert replies == list(range(first + 1, first + 201)), "none lost, none twice, in order"
        cluster.start(leader)
    cluster.leader()
    cluster.stop()


def test_a_minority_refuses_in_time_and_recovers(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.start()
    leader = cluster.leader()
    client = cluster.client(leader)
    assert client("SET", "a", "1") == b"OK"
    others = [name for name in cluster.names if name != leader]
    cluster.kill(*others)
    wait_until(lambda: (cluster.facts(leader) or {})["role"] != "leading", "it no longer leads")
    waiting = [cluster.client(leader) for _ in range(3)]
    for each, command in zip(waiting, (["SET", "a", "2"], ["GET", "a"], ["INCR", "b"]), strict=True):
        each.send(command)
    for each in waiting:
        reply = each.receive()
        assert isinstance(reply, hiredis.ReplyError)
        assert str(reply).startswith("NOREPLICAS")
    assert client("PING") == b"PONG"
    cluster.start(others[0])
    cluster.leader()
    assert client("GET", "a") == b"1"
    assert client("INCR", "b") == 1
    cluster.stop()


def test_a_paused_leader_wakes_to_find_another_and_answers_nothing_stale(three: Cluster) -> None:
    leader = three.leader()
    other = next(name for name in three.names if name != leader)
    sleeper = three.client(leader)
    assert sleeper("SET", "key", "before") == b"OK"
    three.processes[leader].send_signal(signal.SIGSTOP)
    client = three.client(other)
    wait_until(lambda: (three.facts(other) or {}).get("leader") not in ("", leader), "another leads")
    assert client("SET", "key", "after") == b"OK"
    sleeper.send(["GET", "key"])
    three.processes[leader].send_signal(signal.SIGCONT)
    assert sleeper.receive() == b"after"


def test_transactions_and_watch_across_nodes(three: Cluster) -> None:
    one, two = three.client("n1"), three.client("n2")
    assert one("WATCH", "balance") == b"OK"
    assert one("MULTI") == b"OK"
    assert one("SET", "balance", "10") == b"QUEUED"
    assert two("SET", "balance", "5") == b"OK"
    assert one("EXEC") is None
    assert one("WATCH", "balance") == b"OK"
    assert one.pipeline([["MULTI"], ["INCRBY", "balance", "7"], ["GET", "balance"], ["EXEC"]])[-1] == [
        12,
        b"12",
    ]
    assert two("GET", "balance") == b"12"


def test_a_key_expires_everywhere_without_anybody_writing(three: Cluster) -> None:
    clients = [three.client(name) for name in three.names]
    assert (
        clients[0].pipeline([["SET", "short", "1", "PX", "150"], ["SET", "long", "1", "EX", "1000"]])
        == [b"OK"] * 2
    )
    assert 0 < clients[1]("TTL", "long") <= 1_000
    wait_until(lambda: clients[2]("GET", "short") is None, "it is gone")
    assert [client("EXISTS", "short", "long") for client in clients] == [1, 1, 1]


def test_large_values_and_many_keys_reach_every_node(three: Cluster) -> None:
    one, three_client = three.client("n1"), three.client("n3")
    big = bytes(range(256)) * (8 << 12)
    assert len(big) == 8 << 20
    assert one("SET", "big", big) == b"OK"
    assert three_client("GET", "big") == big
    replies = one.pipeline([["SET", f"key:{n}", "x" * 500] for n in range(5000)])
    assert replies == [b"OK"] * 5000
    assert three_client("DBSIZE") == 5001
    cursor, found = b"0", set()
    while True:
        cursor, keys = three_client("SCAN", cursor, "COUNT", "500", "MATCH", "key:*")
        found |= set(keys)
        if cursor == b"0":
            break
    assert len(found) == 5000


def test_a_node_that_was_away_catches_up_also_beyond_what_is_kept_in_memory(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.start()
    leader = cluster.leader()
    away = next(name for name in cluster.names if name != leader)
    cluster.kill(away)
    client = cluster.client(leader)
    for number in range(40):  # 40 MiB: more than the tail that a leader keeps.
        assert client("SET", f"key:{number}", bytes([number]) * (1 << 20)) == b"OK"
    cluster.start(away)
    returned = cluster.client(away)
    assert returned("DBSIZE") == 40
    assert returned("GET", "key:3") == bytes([3]) * (1 << 20)
    goal = (cluster.facts(leader) or {})["applied"]
    wait_until(lambda: (cluster.facts(away) or {}).get("applied", 0) >= goal, "it has caught up")
    cluster.stop()


def test_a_node_whose_directory_was_emptied_lends_its_vote_to_nobody(tmp_path: Path) -> None:
    """The write is on the disks of two; one of them is emptied; the third and the empty one must not be a majority."""
    cluster = Cluster(tmp_path)
    cluster.start()
    leader = cluster.leader()
    emptied, absent = (name for name in cluster.names if name != leader)
    all_have_met(cluster)
    cluster.kill(absent)
    assert cluster.client(leader)("SET", "acknowledged", "1") == b"OK"
    cluster.kill(leader, emptied)
    shutil.rmtree(tmp_path / emptied)
    assert_left_out(cluster, emptied, absent)
    # With the one that has the write there is a majority again, and the write is there.
    cluster.start(leader)
    wait_until(lambda: (cluster.facts(absent) or {})["leader"], "the two have a leader")
    assert cluster.client(absent)("GET", "acknowledged") == b"1"
    wait_until(lambda: is_back(cluster, emptied), "it is back")
    assert cluster.client(emptied)("GET", "acknowledged") == b"1"
    cluster.stop()


def test_an_older_copy_of_a_directory_lends_its_vote_to_nobody_however_often_it_is_started(
    tmp_path: Path,
) -> None:
    """An ordinary backup of a stopped node, put back after the node has gone on."""
    cluster = Cluster(tmp_path)
    cluster.start()
    leader = cluster.leader()
    restored, absent = (name for name in cluster.names if name != leader)
    all_have_met(cluster)
    cluster.kill(restored)
    shutil.copytree(tmp_path / restored, tmp_path / "copy")
    cluster.start(restored)
    cluster.leader()
    all_have_met(cluster)
    cluster.kill(absent)
    assert cluster.client(leader)("SET", "acknowledged", "1") == b"OK"
    cluster.kill(leader, restored)
    shutil.rmtree(tmp_path / restored)
    shutil.copytree(tmp_path / "copy", tmp_path / restored)
    for _ in range(2):
        assert_left_out(cluster, restored, absent)
        cluster.kill(absent, restored)
    cluster.start(leader, absent)
    cluster.leader()
    assert cluster.client(absent)("GET", "acknowledged") == b"1"
    cluster.stop()


def all_have_met(cluster: Cluster) -> None:
    """Wait until each node has connections to all the others."""
    wait_until(
        lambda: all(
            member["is_reachable"]
            for name in cluster.names
            for member in (cluster.facts(name) or {"members": [{"is_reachable": False}]})["members"]
        ),
        "all have met",
    )


def assert_left_out(cluster: Cluster, name: str, other: str) -> None:
    """`name` hears from `other` that it has lost something, and votes no more; `other` alone is no majority."""
    cluster.start(other, name)
    words = "the directory was emptied or is an older copy"
    wait_until(lambda: words in cluster.log(name), "it is told")
    reply = cluster.client(other)("GET", "acknowledged")
    assert isinstance(reply, hiredis.ReplyError)
    assert str(reply).startswith("NOREPLICAS")
    assert "Traceback" not in cluster.log(name)


def is_back(cluster: Cluster, name: str) -> bool:
    """Whether a node that began anew votes again, and has what the others have."""
    facts = cluster.facts(name)
    return bool(facts) and facts["leader"] != "" and facts["members"] != [] and name in facts["voters"]
