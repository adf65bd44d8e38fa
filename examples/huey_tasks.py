"""Five hundred tasks of huey and their results while the leader is killed.

Run it:  pip install huey && python examples/huey_tasks.py
"""

from __future__ import annotations

import os

import huey
import redis
from three_nodes import Outcome, Stage, perform, stopping, wait_until_all, worker

TASKS = 500
PATIENCE_S = 120

queue = huey.RedisHuey("huey-tasks", url=os.environ.get("URL"))


@queue.task()
def square(number: int) -> int:
    """Say what was asked for, and write down that it was done."""
    queue.storage.conn.hincrby("huey-tasks:ran", str(number), 1)
    return number * number


def work(stage: Stage) -> Outcome:
    os.environ["URL"] = stage.urls[0]
    import huey_tasks  # This file once more, as the workers know it.

    huey_tasks.queue.flush()
    client = redis.Redis.from_url(stage.urls[0])
    client.delete("huey-tasks:ran")
    command = ["-m", "huey.bin.huey_consumer", "huey_tasks.queue", "--quiet", "--workers", "2"]
    workers = [worker(*command, URL=url) for url in stage.urls]
    answers = []

    def ran() -> int:
        return int(client.hlen("huey-tasks:ran"))

    with stopping(workers), stage.leader_dies_once(ran, at=TASKS // 4):
        asked = [huey_tasks.square(number) for number in range(TASKS)]
        wait_until_all(ran, TASKS)
        for result in asked:
            answers.append(result.get(blocking=True, timeout=PATIENCE_S, max_delay=0.1))
    counts = [int(count) for count in client.hvals("huey-tasks:ran")]
    return stage.finish(
        Outcome(
            what=f"huey {huey.__version__}",
            work=f"tasks and their results, {len(workers)} consumers",
            done=sum(counts),
            lost=TASKS - len(counts),
            repeated=sum(counts) - len(counts),
            promise=f"each of {TASKS} tasks is done, and its result arrives",
            kept=len(counts) == TASKS and answers == [number * number for number in range(TASKS)],
        )
    )


if __name__ == "__main__":
    perform(work, __doc__)
