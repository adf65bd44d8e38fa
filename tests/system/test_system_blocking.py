"""Workers that wait for jobs, with a real client library and real processes, one of which is killed."""

from __future__ import annotations

import threading
from pathlib import Path

import redis

from processes import Cluster, wait_until


class Worker(threading.Thread):
    """Takes jobs and notes them, until it is told that there are no more, or its node is gone."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.client = redis.Redis(port=port, decode_responses=True, retry=None, socket_timeout=30)
        self.jobs: list[str] = []
        self.does_not_know = 0

    def run(self) -> None:
        while True:
            try:
                popped = self.client.blpop(["urgent", "jobs"], timeout=0)
            except redis.ConnectionError:
                self.does_not_know += 1
                return
            assert popped is not None
            if popped[1] == "end":
                return
            self.jobs.append(popped[1])


def blocked(cluster: Cluster, name: str) -> int:
    client = redis.Redis(port=cluster.ports[name])
    try:
        return int(client.info("clients")["blocked_clients"])
    finally:
        client.close()


def test_every_job_is_done_once_although_a_node_with_workers_and_the_leader_are_killed(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path, 5)
    cluster.start()
    leader = cluster.leader()
    dies, *live = (name for name in cluster.names if name != leader)
    workers = [Worker(cluster.ports[name]) for name in (dies, *live) for _ in range(2)]
    for worker in workers:
        worker.start()
    for name in (dies, *live):
        wait_until(lambda name=name: blocked(cluster, name) == 2, "the workers wait")
    pusher = redis.Redis(port=cluster.ports[live[0]], retry=None)
    jobs = [f"job {number}" for number in range(300)]
    for number, job in enumerate(jobs):
        if number == 100:
            cluster.kill(dies)
        if number == 200:
            cluster.kill(leader)
        pusher.rpush("urgent" if number % 10 == 0 else "jobs", job)
    wait_until(lambda: pusher.exists("urgent", "jobs") == 0, "all jobs are taken")
    pusher.rpush("jobs", *["end"] * len(workers))
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    done = [job for worker in workers for job in worker.jobs]
    assert len(done) == len(set(done))
    unknown = sum(worker.does_not_know for worker in workers)
    assert unknown == 2, "those of the killed node, and no others"
    assert len(set(jobs) - set(done)) <= unknown
    cluster.stop()


def test_redis_py_moves_pops_and_is_let_go(three: Cluster) -> None:
    here, there = (
        redis.Redis(port=three.ports[name], decode_responses=True, protocol=protocol)
        for name, protocol in (("n1", 2), ("n2", 3))
    )
    there.rpush("from", "a", "b", "c")
    there.zadd("scores", {"low": 1, "high": 2.5})
    assert here.blmove("from", "to", 1) == "a"
    assert here.brpoplpush("from", "to", 1) == "c"
    assert here.blmpop(1, 2, "none", "from", direction="LEFT") == ["from", ["b"]]
    assert here.bzpopmax("scores", 1) == ("scores", "high", 2.5)
    assert there.bzmpop(1, 1, ["scores"], min=True) == ["scores", [["low", 1.0]]]
    assert here.blpop("none", 0.01) is None
    waiting = threading.Thread(target=lambda: answers.append(there.brpop("none", 0)))
    answers: list[object] = []
    other = redis.Redis(port=three.ports["n2"])
    waiting.start()
    number = wait_until(
        lambda: next((each["id"] for each in other.client_list() if each["cmd"] == "brpop"), None), "it waits"
    )
    wait_until(lambda: other.client_unblock(int(number)), "it is let go")
    waiting.join(20)
    assert answers == [None]
