"""Increments that are tried again and executed once: legal histories, illegal edits of them, and the naive twin."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from sim.test_sim_checkers_verdict import after, at, executed, has_an_order, schedule
from sofadb.sim.checkers.counters import Attempt, Read, check

History = tuple[list[Attempt], list[Read]]


def legal(chance: random.Random, operations: int = 30, unknown: float = 0.25) -> History:
    """A client tries again what was not acknowledged, or even what was; the counter remembers the reply of each id."""
    slots = schedule(chance, operations, unknown=unknown, coarse=chance.random() < 0.3)
    in_the_end = after(slots)
    attempts: dict[int, Attempt] = {}
    reads: dict[int, Read] = {}
    last_id: dict[int, str] = {}
    for number, slot in enumerate(slots):
        client = slot.times["client"]
        if chance.random() < 0.3:
            reads[number] = Read(**slot.times, value=-1)
            continue
        if client not in last_id or chance.random() < 0.5:
            last_id[client] = f"{client}-{number}"
        attempts[number] = Attempt(**slot.times, id=last_id[client])
    value = last = 0
    replies: dict[str, int] = {}
    for number in executed(slots):
        if number in reads:
            reads[number] = replace(reads[number], value=value)
        else:
            name = attempts[number].id
            if name not in replies:
                value += 1
                replies[name] = value
            if slots[number].is_ok:
                attempts[number] = replace(attempts[number], reply=replies[name])
        if (slots[number].moment or 0) < in_the_end:
            last = value
    return list(attempts.values()), [*reads.values(), Read(**at(99, in_the_end, in_the_end + 1), value=last)]


Edit = Callable[[random.Random, History], tuple[History, str] | None]
"""A change that makes a legal history illegal, whatever else is in it, and the name of the problem; None if there is
nothing to change."""


def tried(attempts: list[Attempt]) -> set[str]:
    return {each.id for each in attempts if each.outcome != "failed"}


def acknowledged(attempts: list[Attempt]) -> set[str]:
    return {each.id for each in attempts if each.outcome == "ok"}


def last_shows(history: History, value: int) -> History:
    attempts, reads = history
    return attempts, [*reads[:-1], replace(reads[-1], value=value)]


def lost(chance: random.Random, history: History) -> tuple[History, str] | None:
    """The last read shows less than was acknowledged before it."""
    known = len(acknowledged(history[0]))
    return (last_shows(history, chance.randrange(known)), "increment lost") if known else None


def counted_twice(chance: random.Random, history: History) -> tuple[History, str] | None:
    """The last read shows more than there are ids that may have been executed."""
    return last_shows(history, len(tried(history[0])) + chance.randint(1, 3)), "counted twice"


def failed_and_counted(chance: random.Random, history: History) -> tuple[History, str] | None:
    """All attempts of one more id certainly failed, and yet the last read shows one more than all others."""
    attempts, reads = history
    start = reads[-1].start
    new = [
        Attempt(**at(7, start - 2 + number / 2, start - 1.9 + number / 2, "failed"), id="new")
        for number in range(2)
    ]
    changed = last_shows(history, len(tried(attempts)) + 1)
    return ([*changed[0], *new], changed[1]), "counted twice"


def backwards(chance: random.Random, history: History) -> tuple[History, str] | None:
    """Two reads after the last, while something may yet be executed: the first shows more than the second."""
    attempts, reads = history
    start, value = (reads[-1].end or 0) + 1, reads[-1].value
    unknown = Attempt(**at(7, start, None), id="new")
    one = Read(**at(8, start + 1, start + 2), value=value + 1)
    two = Read(**at(9, start + 2.001, start + 4), value=value)
    return ([*attempts, unknown], [*reads, one, two]), "went backwards"


def another_reply(chance: random.Random, history: History) -> tuple[History, str] | None:
    """Of two replies for one id, one is another."""
    attempts, reads = history
    for number, each in enumerate(attempts):
        if each.outcome == "ok" and each.id in acknowledged(attempts[:number]):
            changed = replace(each, reply=(each.reply or 0) + chance.choice([-1, 1]))
            return ([*attempts[:number], changed, *attempts[number + 1 :]], reads), "different replies"
    return None


EDITS: list[Edit] = [lost, counted_twice, failed_and_counted, backwards, another_reply]


def test_a_thousand_legal_histories_pass_and_every_illegal_edit_is_caught() -> None:
    caught = dict.fromkeys(EDITS, 0)
    seed = 0
    while sum(caught.values()) < 1000 or seed < 1000:
        chance = random.Random(seed)
        attempts, reads = legal(chance, chance.randint(5, 40))
        if seed < 1000:
            verdict = check(chance.sample(attempts, len(attempts)), chance.sample(reads, len(reads)))
            assert verdict, (seed, str(verdict))
        edit = EDITS[seed % len(EDITS)]
        seed += 1
        edited = edit(chance, (attempts, reads))
        if edited is not None:
            wrong, name = edited
            verdict = check(*wrong)
            assert name in verdict.names, (seed, edit, str(verdict))
            caught[edit] += 1
    assert min(caught.values()) > 150, caught


Executed = frozenset[str]


def alone(operation: Attempt | Read, done: Executed) -> Executed | None:
    if isinstance(operation, Attempt):
        return done | {operation.id}
    return done if operation.outcome != "ok" or operation.value == len(done) else None


def test_what_is_found_broken_has_no_order() -> None:
    """The rules leave some illegal histories alone, but no legal one."""
    broken = 0
    for seed in range(2000):
        chance = random.Random(seed)
        attempts, reads = legal(chance, chance.randint(2, 6))
        number = chance.randrange(len(reads))
        reads[number] = replace(reads[number], value=reads[number].value + chance.choice([-1, 0, 1]))
        verdict = check(attempts, reads)
        if verdict.problems:
            assert not has_an_order([*attempts, *reads], alone, frozenset()), (seed, str(verdict))
            broken += 1
    assert broken > 500


def test_one_id_counts_once_and_from_its_first_acknowledged_attempt() -> None:
    attempts = [
        Attempt(**at(1, 1, None), id="a"),
        Attempt(**at(1, 3, 4), id="a", reply=1),
        Attempt(**at(1, 5, 6), id="a", reply=1),
    ]
    values = {(start, end): set() for start, end in [(0, 0.5), (2, 2.5), (4.5, 5), (7, 8)]}
    for (start, end), possible in values.items():
        for value in range(3):
            if not check(attempts, [Read(**at(2, start, end), value=value)]).problems:
                possible.add(value)
    assert list(values.values()) == [{0}, {0, 1}, {1}, {1}]


def test_the_counter_may_begin_anywhere() -> None:
    attempts = [Attempt(**at(1, 1, 2), id="a", reply=8)]
    assert check(attempts, [Read(**at(2, 3, 4), value=8)], initial=7)
    for value, name, limit in [(7, "increment lost", "8 or more"), (9, "counted twice", "8 or less")]:
        problems = check(attempts, [Read(**at(2, 3, 4), value=value)], initial=7).problems
        assert [each.name for each in problems] == [name]
        assert limit in problems[0].text


def test_an_increment_that_nobody_looked_for_is_no_pass() -> None:
    attempt = Attempt(**at(1, 2, 3), id="a", reply=1)
    spans = [at(2, 1, 4), at(2, 2.5, 4), at(2, 3, 4), at(2, 4, 5, "failed")]
    for reads in ([], *([Read(**span, value=1)] for span in spans)):
        verdict = check([attempt], reads)
        assert not verdict
        assert not verdict.problems
        assert verdict.doubts
    assert check([], [])
