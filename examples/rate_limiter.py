"""A rate limit that several servers share, by the library `limits` (scripts in Lua), while the leader is killed.

Run it:  pip install limits && python examples/rate_limiter.py

Four threads on two nodes ask as often as they can whether they may; 300 may within any minute. Nobody must get in beyond
that, and whoever may must not be counted twice.
"""

from __future__ import annotations

import threading

import limits
import redis
from three_nodes import Outcome, Stage, perform

LIMIT = limits.RateLimitItemPerMinute(300)
THREADS = 4
TRIES = 150


def work(stage: Stage) -> Outcome:
    limiters = [
        limits.strategies.MovingWindowRateLimiter(limits.storage.RedisStorage(url)) for url in stage.urls
    ]
    limiters[0].clear(LIMIT, "door")
    answers: list[bool] = []

    def thread(number: int) -> None:
        for _ in range(TRIES):
            answers.append(limiters[number % 2].hit(LIMIT, "door"))

    threads = [threading.Thread(target=thread, args=[number], daemon=True) for number in range(THREADS)]
    with stage.leader_dies_once(lambda: len(answers), at=LIMIT.amount // 2):
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    let_in = sum(answers)
    return stage.finish(
        Outcome(
            what=f"limits {limits.__version__}, redis-py {redis.__version__}",
            work="a moving window in Lua",
            done=len(answers),
            lost=max(0, LIMIT.amount - let_in),
            repeated=max(0, let_in - LIMIT.amount),
            promise=f"of {THREADS * TRIES} who ask within a minute {LIMIT.amount} get in",
            kept=let_in == LIMIT.amount,
        )
    )


if __name__ == "__main__":
    perform(work, __doc__)
