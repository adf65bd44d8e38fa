"""A lock with fencing tokens: legal histories, illegal edits of them, and the edges of how long a lock is held."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from sim.test_sim_checkers_verdict import at, executed, schedule
from sofadb.sim.checkers.locks import Acquire, Release, Write, check
from sofadb.sim.checkers.verdict import Unusable, Verdict

BOUND_MS = 100


@dataclass
class History:
    acquires: list[Acquire] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)

    def judged(self) -> Verdict:
        return check(self.acquires, self.releases, self.writes, BOUND_MS)


def legal(chance: random.Random, operations: int = 40) -> History:
    """A lock that counts a time to live from the moment of the acquire, on a clock that is as wrong as it may be.

    Whoever was told a token releases it or writes with it, whether it still holds the lock or not.
    """
    slots = schedule(chance, operations, clients=5)
    history = History()
    token, holder, until = 0, 0, 0.0
    highest = {"x": 0, "y": 0}
    told: dict[int, list[tuple[float, int]]] = {}
    for number in executed(slots):
        slot, moment = slots[number], slots[number].moment or 0
        client, start = slot.times["client"], slot.times["start"]
        mine = [known for when, known in told.get(client, []) if when <= start]
        what = chance.choice(["acquire", "release", "write", "write"])
        if what == "acquire" or not mine:
            ttl_ms = chance.choice([None, 500, 2000, 5000])
            if holder and moment < until:
                times = slot.times | {"outcome": "failed"} if slot.is_ok else slot.times
                history.acquires.append(Acquire(**times, ttl_ms=ttl_ms))
                continue
            token += 1
            error = chance.uniform(-BOUND_MS, BOUND_MS)
            holder, until = token, float("inf") if ttl_ms is None else moment + (ttl_ms + error) / 1000
            history.acquires.append(Acquire(**slot.times, token=token if slot.is_ok else None, ttl_ms=ttl_ms))
            if slot.is_ok:
                told.setdefault(client, []).append((slot.times["end"] or 0, token))
        elif what == "release":
            own = mine[-1]
            times = slot.times
            if holder == own and moment < until:
                holder = 0
            elif slot.is_ok:
                times = slot.times | {"outcome": "failed"}
            history.releases.append(Release(**times, token=own))
        else:
            resource, own = chance.choice(["x", "y"]), chance.choice(mine)
            times = slot.times
            if own < highest[resource] and slot.is_ok:
                times = slot.times | {"outcome": "failed"}
            highest[resource] = max(own, highest[resource])
            history.writes.append(Write(**times, resource=resource, token=own))
    return history


Edit = Callable[[random.Random, History], str]
"""A change that makes a legal history illegal, whatever else is in it. It returns the name of the problem."""


def later(history: History) -> float:
    return (
        max(
            (each.end or each.start for each in (*history.acquires, *history.releases, *history.writes)),
            default=0,
        )
        + 100
    )


def held_for_long(history: History, ttl_ms: int | None = None) -> tuple[float, int]:
    """Long after all else, somebody acquires the lock with a token above all others; return when, and the token."""
    start = later(history)
    history.acquires.append(Acquire(**at(50, start, start + 1), token=1000, ttl_ms=ttl_ms))
    return start, 1000


def acquired_twice(chance: random.Random, history: History) -> str:
    """While somebody holds the lock for ever, another one acquires it."""
    start, token = held_for_long(history)
    begun = start + 1 + chance.uniform(0.001, 5)
    ttl_ms = chance.choice([None, 1, 5000])
    history.acquires.append(Acquire(**at(51, begun, begun + 2), token=token + 1, ttl_ms=ttl_ms))
    return "two holders"


def held_at_the_same_time(chance: random.Random, history: History) -> str:
    """Two acquire the lock at the same time, and hold it for longer than that took."""
    start, token = held_for_long(history, ttl_ms=60_000)
    history.acquires.append(
        Acquire(
            **at(51, start + chance.random(), start + chance.uniform(1.1, 3)), token=token + 1, ttl_ms=60_000
        )
    )
    return "two holders"


def expired_too_early(chance: random.Random, history: History) -> str:
    """Another one acquires the lock just before it can have expired."""
    start, token = held_for_long(history, ttl_ms=5000)
    history.acquires.append(Acquire(**at(51, start + 4, start + 4.899), token=token + 1))
    return "two holders"


def not_released(chance: random.Random, history: History) -> str:
    """A release certainly failed, and yet another one acquires the lock."""
    start, token = held_for_long(history)
    history.releases.append(Release(**at(50, start + 2, start + 3, "failed"), token=token))
    history.acquires.append(Acquire(**at(51, start + 4, start + 5), token=token + 1))
    return "two holders"


def released_too_late(chance: random.Random, history: History) -> str:
    """Another one acquired the lock just before its holder asked for the release."""
    start, token = held_for_long(history)
    history.acquires.append(Acquire(**at(51, start + 2, start + 3), token=token + 1))
    history.releases.append(Release(**at(50, start + 3.001, start + 4), token=token))
    return "two holders"


def token_fell(chance: random.Random, history: History) -> str:
    """The lock is released and acquired again, with a lower token."""
    start, token = held_for_long(history)
    history.releases.append(Release(**at(50, start + 2, start + 3), token=token))
    history.acquires.append(Acquire(**at(51, start + 4, start + 5), token=token - chance.randint(1, 3)))
    return "token fell"


def token_given_twice(chance: random.Random, history: History) -> str:
    """The lock is released and acquired again, with the same token."""
    start, token = held_for_long(history)
    history.releases.append(Release(**at(50, start + 2, start + 3), token=token))
    history.acquires.append(Acquire(**at(51, start + 4, start + 5), token=token))
    return "token given twice"


def not_fenced(chance: random.Random, history: History) -> str:
    """A resource accepts a write, and then one with a lower token."""
    start, token = later(history), chance.randint(2, 9)
    history.writes.append(Write(**at(50, start, start + 1), resource="x", token=token))
    history.writes.append(Write(**at(51, start + 1.001, start + 3), resource="x", token=token - 1))
    return "write behind a higher token"


EDITS: list[Edit] = [
    acquired_twice,
    held_at_the_same_time,
    expired_too_early,
    not_released,
    released_too_late,
    token_fell,
    token_given_twice,
    not_fenced,
]


def test_a_thousand_legal_histories_pass_and_every_illegal_edit_is_caught() -> None:
    caught = dict.fromkeys(EDITS, 0)
    holds = 0
    for seed in range(1000):
        chance = random.Random(seed)
        history = legal(chance, chance.randint(10, 60))
        for listed in (history.acquires, history.releases, history.writes):
            chance.shuffle(listed)
        verdict = history.judged()
        assert verdict, (seed, str(verdict))
        holds += verdict.counts["holds"]
        edit = EDITS[seed % len(EDITS)]
        name = edit(chance, history)
        verdict = history.judged()
        assert name in verdict.names, (seed, edit, str(verdict))
        caught[edit] += 1
    assert min(caught.values()) == 125
    assert holds > 3000, "the lock is acquired several times in most histories"


# Edges

FIRST = Acquire(**at(1, 10, 11), token=1, ttl_ms=5000)


@pytest.mark.parametrize(
    ("second", "releases", "is_legal"),
    [
        (at(2, 12, 14.9), (), True),  # The time to live may be counted from 10, and less by the bound.
        (at(2, 12, 14.899), (), False),
        (at(2, 10.5, 14.8), (), True),  # It may have been acquired first, and have expired.
        (at(2, 12, 13), (at(1, 12.9, 13.5),), True),  # The release was asked for before the acquire ended.
        (at(2, 12, 13), (at(1, 13.001, 13.1),), False),
        (at(2, 12, 13), (at(1, 12.5, None),), True),
        (at(2, 12, 13), (at(1, 12.5, 12.6, "failed"),), False),
        (at(2, 12, 13, "failed"), (), True),
        (at(2, 12, None), (), True),
    ],
)
def test_how_long_a_lock_is_certainly_held(second: dict, releases: tuple, is_legal: bool) -> None:
    other = Acquire(**second, token=2 if second["outcome"] == "ok" else None, ttl_ms=100)
    verdict = check([FIRST, other], [Release(**times, token=1) for times in releases], (), BOUND_MS)
    assert bool(verdict) == is_legal, str(verdict)


def test_resources_are_fenced_each_by_itself_and_by_what_was_accepted() -> None:
    higher = Write(**at(1, 1, 2), resource="x", token=5)
    lower = Write(**at(2, 3, 4), resource="x", token=4)
    assert check((), (), [higher, lower]).names == {"write behind a higher token"}
    for legal_one in (
        replace(lower, resource="y"),
        replace(lower, start=2),
        replace(lower, outcome="failed"),
        replace(lower, outcome="unknown", end=None),
        replace(lower, token=5),
    ):
        assert check((), (), [higher, legal_one])
    assert check((), (), [replace(higher, outcome="failed"), lower])


def test_the_same_token_twice_is_no_falling_token() -> None:
    released = Release(**at(1, 12, 13), token=1)
    again = Acquire(**at(2, 14, 15), token=1)
    assert check([FIRST, again], [released]).names == {"token given twice"}
    assert check([FIRST, replace(again, token=2)], [released])
    assert check([FIRST, replace(again, token=0)], [released]).names == {"token fell"}


def test_the_explanation_cites_both_holders() -> None:
    verdict = check([FIRST, Acquire(**at(2, 12, 13), token=2)], (), (), BOUND_MS)
    assert [str(each) for each in verdict.problems] == [
        "two holders: Token 2 (client 2, started at 12, ended at 13) was acquired, though Token 1 (client 1, started at 10, "
        "ended at 11) certainly held the lock from 11 to 14.9."
    ]


def test_an_acknowledged_acquire_has_a_token() -> None:
    with pytest.raises(Unusable, match="no token"):
        check([Acquire(**at(1, 1, 2))])
