"""Five hundred tasks of Celery, with SofaDB as broker and as result backend, while the leader is killed.

Run it:  pip install celery && python examples/celery_tasks.py
"""

from __future__ import annotations

import os

import celery
import redis
from three_nodes import Outcome, Stage, perform, stopping, wait_until_all, worker

TASKS = 500
PATIENCE_S = 120

URL = os.environ.get("URL", "")
app = celery.Celery("celery_tasks", broker=URL, backend=URL)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


@app.task(name="square")
def square(number: int) -> int:
    """Say what was asked for, and write down that it was done."""
    with redis.Redis.from_url(URL) as client:
        client.hincrby("celery-tasks:ran", str(number), 1)
    return number * number


def work(stage: Stage) -> Outcome:
    app.conf.update(broker_url=stage.urls[0], result_backend=stage.urls[0])
    client = redis.Redis.from_url(stage.urls[0])
    client.delete("celery-tasks:ran", "celery")
    command = ["-m", "celery", "-A", "celery_tasks", "worker", "--pool", "threads", "--concurrency", "4"]
    command += ["--loglevel", "ERROR", "--without-gossip"]
    workers = [worker(*command, "--hostname", f"w{n}@%h", URL=url) for n, url in enumerate(stage.urls)]
    answers = []

    def ran() -> int:
        return int(client.hlen("celery-tasks:ran"))

    with stopping(workers), stage.leader_dies_once(ran, at=TASKS // 4):
        asked = [square.delay(number) for number in range(TASKS)]
        wait_until_all(ran, TASKS)
        for result in asked:
            answers.append(result.get(timeout=PATIENCE_S))
    counts = [int(count) for count in client.hvals("celery-tasks:ran")]
    return stage.finish(
        Outcome(
            what=f"Celery {celery.__version__}",
            work=f"tasks and their results, {len(workers)} workers",
            done=sum(counts),
            lost=TASKS - len(counts),
            repeated=sum(counts) - len(counts),
            promise=f"each of {TASKS} tasks is done, and its result arrives",
            kept=len(counts) == TASKS and answers == [number * number for number in range(TASKS)],
        )
    )


if __name__ == "__main__":
    perform(work, __doc__)
