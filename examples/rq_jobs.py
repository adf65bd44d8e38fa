"""A thousand jobs of RQ, done by two workers, while the leader is killed.

Run it:  pip install rq && python examples/rq_jobs.py

RQ keeps what a job returned in a stream, a type that SofaDB does not have yet; so the jobs write down themselves what they
did, and have `result_ttl=0`.
"""

from __future__ import annotations

import os

import redis
import rq
from three_nodes import Outcome, Stage, perform, stopping, wait_until_all, worker

JOBS = 1000
WORKERS = 2


def note(number: int) -> None:
    """A job."""
    client = redis.Redis.from_url(os.environ["URL"])
    client.hincrby("rq-jobs:ran", str(number), 1)
    client.close()


def work(stage: Stage) -> Outcome:
    client = redis.Redis.from_url(stage.urls[0])
    client.delete("rq-jobs:ran")
    queue = rq.Queue("examples", connection=client)
    queue.empty()

    def ran() -> int:
        return int(client.hlen("rq-jobs:ran"))

    command = ["-m", "rq.cli", "worker", "--quiet", "--worker-class", "rq.SimpleWorker"]
    workers = [
        worker(*command, "--url", url, "examples", URL=url) for url in (stage.urls * WORKERS)[:WORKERS]
    ]
    with stopping(workers), stage.leader_dies_once(ran, at=JOBS // 4):
        for number in range(JOBS):
            queue.enqueue("rq_jobs.note", number, result_ttl=0)
        wait_until_all(ran, JOBS)
    counts = [int(count) for count in client.hvals("rq-jobs:ran")]
    failed = queue.failed_job_registry.count
    return stage.finish(
        Outcome(
            what=f"RQ {rq.VERSION}",
            work=f"jobs, {WORKERS} workers",
            done=sum(counts),
            lost=JOBS - len(counts),
            repeated=sum(counts) - len(counts),
            promise=f"each of {JOBS} jobs is done, none fails",
            kept=len(counts) == JOBS and not failed,
        )
    )


if __name__ == "__main__":
    perform(work, __doc__)
