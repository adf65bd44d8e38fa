"""Django's sessions in django-redis: visitors come back, to another node, after the leader was killed.

Run it:  pip install django-redis && python examples/django_sessions.py

Two hundred visitors count their own visits, each visit at the other node. A session that vanished would begin at nought.
"""

from __future__ import annotations

import importlib
from collections import Counter

import django
import django_redis
from django.conf import settings
from three_nodes import Outcome, Stage, perform

VISITORS = 200
VISITS = 5
NODES = ("first", "second")


def configure(stage: Stage) -> None:
    settings.configure(
        CACHES={
            name: {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}
            for name, url in zip(("default", *NODES), (stage.urls[0], *stage.urls), strict=True)
        },
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
    )
    django.setup()


def visit(node: str, key: str | None) -> tuple[str, int]:
    """One request: a session is loaded or begun, and saved; its key, and the visits it knows of."""
    settings.SESSION_CACHE_ALIAS = node
    session = importlib.import_module(settings.SESSION_ENGINE).SessionStore(session_key=key)
    session["visits"] = session.get("visits", 0) + 1
    session.save()
    return session.session_key, session["visits"]


def work(stage: Stage) -> Outcome:
    configure(stage)
    keys: list[str | None] = [None] * VISITORS
    counted: Counter[int] = Counter()
    done = lost = 0

    with stage.leader_dies_once(lambda: done, at=VISITORS * VISITS // 4):
        for day in range(VISITS):
            for visitor in range(VISITORS):
                keys[visitor], visits = visit(NODES[day % 2], keys[visitor])
                counted[visitor] += 1
                lost += visits != counted[visitor]
                done += 1
    return stage.finish(
        Outcome(
            what=f"django-redis {django_redis.__version__}, Django {django.__version__}",
            work=f"{VISITORS} sessions",
            done=done,
            lost=lost,
            repeated=0,
            promise="each session knows all visits, at whichever node they were",
            kept=not lost and done == VISITORS * VISITS,
        )
    )


if __name__ == "__main__":
    perform(work, __doc__)
