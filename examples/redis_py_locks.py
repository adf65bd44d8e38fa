"""A counter under a lock, and one in transactions, by redis-py as it comes, while the leader is killed.

Run it:  python examples/redis_py_locks.py

Six threads on two nodes raise two counters. One is read and written in two steps, under redis-py's `Lock`; the other in a
pipeline with WATCH, MULTI and EXEC, again until nobody came between. What a thread was told is done must be counted.
"""

from __future__ import annotations

import threading

import redis
from three_nodes import Outcome, Stage, perform

THREADS = 6
ROUNDS = 60
TOTAL = THREADS * ROUNDS


def raise_under_lock(client: redis.Redis) -> None:
    with client.lock("locked:lock", timeout=30, sleep=0.01):
        client.set("locked", int(client.get("locked") or 0) + 1)


def raise_in_transaction(client: redis.Redis) -> None:
    def step(pipeline: redis.client.Pipeline) -> None:
        value = int(pipeline.get("watched") or 0)
        pipeline.multi()
        pipeline.set("watched", value + 1)

    client.transaction(step, "watched")


def work(stage: Stage) -> Outcome:
    redis.Redis.from_url(stage.urls[0]).delete("locked", "locked:lock", "watched")
    done: list[int] = []

    def thread(number: int) -> None:
        client = redis.Redis.from_url(stage.urls[number % 2])
        for _ in range(ROUNDS):
            raise_under_lock(client)
            raise_in_transaction(client)
            done.append(number)

    threads = [threading.Thread(target=thread, args=[number], daemon=True) for number in range(THREADS)]
    with stage.leader_dies_once(lambda: len(done), at=TOTAL // 4):
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    client = redis.Redis.from_url(stage.urls[1])
    counters = [int(client.get(name) or 0) for name in ("locked", "watched")]
    return stage.finish(
        Outcome(
            what=f"redis-py {redis.__version__}",
            work="a counter under a Lock and one under WATCH",
            done=2 * len(done),
            lost=sum(max(0, len(done) - counter) for counter in counters),
            repeated=sum(max(0, counter - len(done)) for counter in counters),
            promise="each counter stands at the number of times it was raised",
            kept=counters == [TOTAL, TOTAL],
        )
    )


if __name__ == "__main__":
    perform(work, __doc__)
