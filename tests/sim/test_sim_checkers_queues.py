"""Queues: legal histories, illegal edits of them, the naive twin, and what is certainly inside."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import replace

import pytest

from sim.test_sim_checkers_verdict import after, at, executed, has_an_order, schedule
from sofadb.sim.checkers.queues import Drain, Pop, Push, check
from sofadb.sim.checkers.verdict import Unusable

History = tuple[list[Push], list[Pop], Drain]


def legal(chance: random.Random, operations: int = 30, unknown: float = 0.1) -> History:
    slots = schedule(chance, operations, unknown=unknown, failed=0.2, coarse=chance.random() < 0.3)
    in_the_end = after(slots)
    is_push = [chance.random() < 0.5 for _ in slots]
    inside: deque[Hashable] = deque()
    out: dict[int, Hashable] = {}
    drained: list[Hashable] | None = None
    for number in executed(slots):
        if drained is None and (slots[number].moment or 0) > in_the_end:
            drained = list(inside)
            inside.clear()
        if is_push[number]:
            inside.append(number)
        else:
            out[number] = inside.popleft() if inside else None
    drained = list(inside) if drained is None else drained
    pushes = [Push(**slot.times, element=number) for number, slot in enumerate(slots) if is_push[number]]
    pops = [
        Pop(**slot.times, element=out.get(number) if slot.is_ok else None)
        for number, slot in enumerate(slots)
        if not is_push[number]
    ]
    return pushes, pops, Drain(**at(99, in_the_end, in_the_end + 1), elements=drained)


Edit = Callable[[random.Random, History], tuple[History, str] | None]
"""A change that makes a legal history illegal, whatever else is in it, and the name of the problem; None if there is
nothing to change."""


def also_drained(history: History, element: Hashable) -> History:
    pushes, pops, drain = history
    return pushes, pops, replace(drain, elements=[*drain.elements, element])


def popped_and_drained(chance: random.Random, history: History) -> tuple[History, str] | None:
    """The drain shows an element that had come out before."""
    popped = [each.element for each in history[1] if each.element is not None]
    return (also_drained(history, chance.choice(popped)), "popped twice") if popped else None


def popped_by_two(chance: random.Random, history: History) -> tuple[History, str] | None:
    """Another client pops the same element at the same time."""
    pushes, pops, drain = history
    popped = [each for each in pops if each.element is not None]
    if not popped:
        return None
    return (pushes, [*pops, replace(chance.choice(popped), client=50)], drain), "popped twice"


def invented(chance: random.Random, history: History) -> tuple[History, str] | None:
    """The drain shows what nobody pushed."""
    return also_drained(history, "~"), "never pushed"


def raised_from_the_dead(chance: random.Random, history: History) -> tuple[History, str] | None:
    """The drain shows an element whose push certainly failed."""
    failed = [each.element for each in history[0] if each.outcome == "failed"]
    return (also_drained(history, chance.choice(failed)), "failed but popped") if failed else None


def too_early(chance: random.Random, history: History) -> tuple[History, str] | None:
    """What the drain shows is pushed after it."""
    pushes, pops, drain = also_drained(history, "~")
    end = drain.end or 0
    return ([*pushes, Push(**at(50, end + 1, end + 2), element="~")], pops, drain), "not yet pushed"


def lost(chance: random.Random, history: History) -> tuple[History, str] | None:
    """More acknowledged elements than pops of unknown outcome do not come out."""
    pushes, pops, drain = history
    start = drain.start - 0.5
    number = 1 + sum(each.outcome == "unknown" for each in pops)
    more = [
        Push(**at(50 + each, start, start + 0.1 + 0.3 * chance.random()), element=f"lost {each}")
        for each in range(number)
    ]
    return ([*pushes, *more], pops, drain), "lost"


def popped_in_another_order(chance: random.Random, history: History) -> tuple[History, str] | None:
    """Two more elements go in after one another, and come out the other way round."""
    pushes, pops, drain = history
    start = drain.start - 1
    return (
        [
            *pushes,
            Push(**at(50, start, start + 0.2), element="one"),
            Push(**at(51, start + 0.201, start + 0.4), element="two"),
        ],
        [
            *pops,
            Pop(**at(52, start + 0.1, start + 0.6), element="two"),
            Pop(**at(53, start + 0.601, start + 0.9), element="one"),
        ],
        drain,
    ), "out of order"


def drained_in_another_order(chance: random.Random, history: History) -> tuple[History, str] | None:
    """Two more elements go in after one another; the drain has them the other way round, perhaps with others in between."""
    pushes, pops, drain = history
    start = drain.start - 1
    elements = list(drain.elements)
    place = chance.randint(0, len(elements))
    elements.insert(place, "two")
    elements.insert(chance.randint(place + 1, len(elements)), "one")
    return (
        [
            *pushes,
            Push(**at(50, start, start + 0.2), element="one"),
            Push(**at(51, start + 0.201, start + 0.4), element="two"),
        ],
        pops,
        replace(drain, elements=elements),
    ), "out of order"


def not_empty(chance: random.Random, history: History) -> tuple[History, str] | None:
    """One more element is inside until it is drained, and a pop finds nothing."""
    pushes, pops, drain = also_drained(history, "one")
    start = drain.start - 1
    return (
        [*pushes, Push(**at(50, start, start + 0.2), element="one")],
        [*pops, Pop(**at(51, start + 0.201, start + 0.9))],
        drain,
    ), "not empty"


EDITS: list[Edit] = [
    popped_and_drained,
    popped_by_two,
    invented,
    raised_from_the_dead,
    too_early,
    lost,
    popped_in_another_order,
    drained_in_another_order,
    not_empty,
]


def test_a_thousand_legal_histories_pass_and_every_illegal_edit_is_caught() -> None:
    caught = dict.fromkeys(EDITS, 0)
    seed = 0
    while sum(caught.values()) < 1000 or seed < 1000:
        chance = random.Random(seed)
        pushes, pops, drain = legal(chance, chance.randint(5, 40))
        if seed < 1000:
            verdict = check(chance.sample(pushes, len(pushes)), chance.sample(pops, len(pops)), drain)
            assert verdict, (seed, str(verdict))
        edit = EDITS[seed % len(EDITS)]
        seed += 1
        edited = edit(chance, (pushes, pops, drain))
        if edited is not None:
            wrong, name = edited
            verdict = check(*wrong)
            assert name in verdict.names, (seed, edit, str(verdict))
            caught[edit] += 1
    assert min(caught.values()) > 80, caught


Inside = tuple[Hashable, ...]


def alone(operation: Push | Pop | Drain, inside: Inside) -> Inside | None:
    if isinstance(operation, Push):
        return (*inside, operation.element)
    if isinstance(operation, Drain):
        return () if tuple(operation.elements) == inside else None
    if operation.outcome == "unknown" or operation.element == (inside[0] if inside else None):
        return inside[1:]
    return None


def test_what_is_found_broken_has_no_order() -> None:
    """The rules leave some illegal histories alone (hardly any of these), but no legal one."""
    broken = missed = 0
    for seed in range(3000):
        chance = random.Random(seed)
        pushes, pops, drain = legal(chance, chance.randint(2, 7), unknown=chance.choice([0, 0.3]))
        elements = [None, *(each.element for each in pushes)]
        known = [at for at, each in enumerate(pops) if each.outcome == "ok"]
        if known and chance.random() < 0.7:
            number = chance.choice(known)
            pops[number] = replace(pops[number], element=chance.choice(elements))
        elif chance.random() < 0.7:
            drain = replace(
                drain, elements=chance.sample(drain.elements, chance.randint(0, len(drain.elements)))
            )
        verdict = check(pushes, pops, drain)
        has_order = has_an_order([*pushes, *pops, drain], alone, ())
        if verdict.problems:
            assert not has_order, (seed, str(verdict))
            broken += 1
        elif not has_order:
            missed += 1
    assert broken > 1000
    assert missed < broken / 100


# What is certainly inside


def test_an_unknown_pop_may_have_taken_one_element() -> None:
    pushes = [Push(**at(1, 1, 2), element="a"), Push(**at(2, 1, 2), element="b")]
    unknown = [Pop(**at(client, 3, None)) for client in (3, 4)]
    drain = Drain(**at(99, 9, 10), elements=[])
    assert check(pushes, unknown, drain)
    assert check(pushes, unknown[:1], drain).names == {"lost"}
    assert check(pushes, unknown[:1], replace(drain, elements=["b"]))


def test_a_pop_finds_nothing_only_if_nothing_is_certainly_inside() -> None:
    push = Push(**at(1, 1, 2), element="a")
    taken_later, taken_meanwhile = Pop(**at(2, 5, 6), element="a"), Pop(**at(2, 3.5, 6), element="a")
    empty = Pop(**at(3, 3, 4))
    assert check([push], [empty, taken_later]).names == {"not empty"}
    assert check([push], [empty, taken_meanwhile])
    assert check([push], [replace(empty, start=2), taken_later]), "the push may have come later"
    assert check([replace(push, outcome="unknown", end=None)], [empty, taken_later])
    assert "not empty" in check([push], [empty]).names, "it never came out"
    assert "not empty" not in check([push], [empty, Pop(**at(4, 4, None))]).names, (
        "somebody may have taken it"
    )
    assert "not empty" in check([push], [empty, Pop(**at(4, 4.1, None))]).names, "but not so late"


def test_the_pop_that_started_last_counts_however_long_another_took() -> None:
    pushes = [Push(**at(1, 1, 2), element=each) for each in "ab"] + [Push(**at(1, 3, 4), element="c")]
    long, later = Pop(**at(2, 10, 20), element="a"), Pop(**at(3, 12, 13), element="b")
    assert check(pushes, [Pop(**at(4, 5, 11), element="c"), long, later]).names == {"out of order"}
    assert check(pushes, [Pop(**at(4, 5, 12), element="c"), long, later])
    empty = Pop(**at(5, 5, 11))
    assert check(pushes[:2], [empty, long, later]).names == {"not empty"}
    assert check(pushes[:2], [replace(empty, end=12), long, later])


def test_what_did_not_come_out_without_a_drain_is_no_pass() -> None:
    push = Push(**at(1, 1, 2), element="a")
    spans = [at(2, 1, 3), at(2, 1.5, 3), at(2, 2, 3), at(2, 3, None)]
    for drain in (None, *(Drain(**span, elements=[]) for span in spans)):
        verdict = check([push], [], drain)
        assert not verdict
        assert not verdict.problems
        assert verdict.doubts
    assert check([push], [Pop(**at(2, 1, 3), element="a")])
    assert check([], [])


def test_the_explanation_cites_all_four_operations() -> None:
    pushes = [Push(**at(1, 1, 2), element="a"), Push(**at(1, 3, 4), element="b")]
    pops = [Pop(**at(2, 5, 6), element="b"), Pop(**at(2, 7, 8), element="a")]
    assert [str(each) for each in check(pushes, pops).problems] == [
        "out of order: 'b', pushed (client 1, started at 3, ended at 4) after 'a', pushed (client 1, started at 1, ended at "
        "2): it (client 2, started at 5, ended at 6) came out before the other (client 2, started at 7, ended at 8)."
    ]


def test_an_element_is_pushed_once() -> None:
    with pytest.raises(Unusable, match="two operations push 'a'"):
        check([Push(**at(1, 1, 2), element="a"), Push(**at(1, 3, 4), element="a")], [])
