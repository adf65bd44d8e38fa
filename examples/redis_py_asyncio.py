"""A bank in asyncio: fifty tasks of redis-py move money between accounts while the leader is killed.

Run it:  python examples/redis_py_asyncio.py

Each transfer is a pipeline: it watches two accounts, reads them, and moves an amount and a count of transfers in MULTI and
EXEC. All the while another task reads all accounts with one MGET, and must find the same sum, always.
"""

from __future__ import annotations

import asyncio
import random

import redis
from redis.asyncio import Redis
from three_nodes import Outcome, Stage, perform

ACCOUNTS = [f"account:{number}" for number in range(20)]
BALANCE = 100
TASKS = 50
TRANSFERS = 20
TOTAL = TASKS * TRANSFERS


async def transfer(client: Redis, chance: random.Random) -> None:
    source, target = chance.sample(ACCOUNTS, 2)
    async with client.pipeline() as pipeline:
        while True:
            try:
                await pipeline.watch(source, target)
                amount = chance.randint(0, int(await pipeline.get(source)))
                pipeline.multi()
                pipeline.decrby(source, amount)
                pipeline.incrby(target, amount)
                pipeline.incr("transfers")
                await pipeline.execute()
                return
            except redis.WatchError:
                continue


async def bank(stage: Stage) -> Outcome:
    clients = [Redis.from_url(url, max_connections=TASKS) for url in stage.urls]
    await clients[0].mset({**dict.fromkeys(ACCOUNTS, BALANCE), "transfers": 0})
    done: list[int] = []
    wrong: list[int] = []

    async def teller(number: int) -> None:
        chance = random.Random(number)
        for _ in range(TRANSFERS):
            await transfer(clients[number % 2], chance)
            done.append(number)

    async def auditor() -> None:
        while len(done) < TOTAL:
            found = sum(int(balance) for balance in await clients[1].mget(ACCOUNTS))
            if found != BALANCE * len(ACCOUNTS):
                wrong.append(found)
            await asyncio.sleep(0.01)

    with stage.leader_dies_once(lambda: len(done), at=TOTAL // 4):
        async with asyncio.TaskGroup() as group:
            group.create_task(auditor())
            for number in range(TASKS):
                group.create_task(teller(number))
    counted = int(await clients[1].get("transfers"))
    found = sum(int(balance) for balance in await clients[1].mget(ACCOUNTS))
    for client in clients:
        await client.aclose()
    return stage.finish(
        Outcome(
            what=f"redis-py {redis.__version__}, asyncio",
            work="transfers between accounts under WATCH",
            done=len(done),
            lost=max(0, len(done) - counted),
            repeated=max(0, counted - len(done)),
            promise="no money appears or vanishes, in the end or in between, and each transfer counts once",
            kept=not wrong and found == BALANCE * len(ACCOUNTS) and counted == TOTAL == len(done),
        )
    )


def work(stage: Stage) -> Outcome:
    return asyncio.run(bank(stage))


if __name__ == "__main__":
    perform(work, __doc__)
