"""redis-py finds the next leader by itself when the node that it talks to is killed, and nothing is counted twice.

Run it:  python examples/redis_py_sentinel.py

Four threads ask for the leader, as they would ask a Redis Sentinel: every node answers such questions. When that node dies in
the middle of a command, nobody can know whether it was done; so each visit has an id and is counted by SOFA.ONCE, which may be
asked again as often as one likes.
"""

from __future__ import annotations

import threading
import time
from urllib.parse import urlparse

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel
from three_nodes import Outcome, Stage, perform

THREADS = 4
VISITS = 250
TOTAL = THREADS * VISITS
RETRY_EVERY_S = 0.05


def work(stage: Stage) -> Outcome:
    urls = [stage.nodes.url(name) for name in stage.nodes.ports] if stage.nodes else stage.urls
    addresses = [(urlparse(url).hostname, urlparse(url).port) for url in urls]
    no_retry = Retry(NoBackoff(), 0)  # redis-py would try the same node again; we look for the next one.
    sentinel = Sentinel(addresses, sentinel_kwargs={"socket_timeout": 1, "retry": no_retry})
    leader = sentinel.master_for("sofadb", socket_timeout=2)
    leader.set_retry(no_retry)
    leader.delete("visits")
    before = leader.execute_command("SOFA.LASTINSTANCE")
    done: list[int] = []

    def count(visit: str) -> None:
        while True:
            try:
                leader.execute_command("SOFA.ONCE", visit, "INCR", "visits")
                return
            except (redis.ConnectionError, redis.TimeoutError):
                time.sleep(RETRY_EVERY_S)

    def thread(number: int) -> None:
        for visit in range(VISITS):
            count(f"visit:{before}:{number}:{visit}")
            done.append(number)

    threads = [threading.Thread(target=thread, args=[number], daemon=True) for number in range(THREADS)]
    with stage.leader_dies_once(lambda: len(done), at=TOTAL // 4):
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    visits = int(leader.get("visits"))
    return stage.finish(
        Outcome(
            what=f"redis-py {redis.__version__}, Sentinel",
            work="SOFA.ONCE at the leader, whose clients have to find the next one",
            done=len(done),
            lost=max(0, len(done) - visits),
            repeated=max(0, visits - len(done)),
            promise="each visit is counted once",
            kept=visits == TOTAL == len(done),
        )
    )


if __name__ == "__main__":
    perform(work, __doc__)
