"""Sets that grow: legal histories, illegal edits of them, the naive twin, and what explanations say."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from dataclasses import replace

import pytest

from sim.test_sim_checkers_verdict import after, at, executed, has_an_order, schedule
from sofadb.sim.checkers.sets import Add, Read, check
from sofadb.sim.checkers.verdict import Unusable

History = tuple[list[Add], list[Read]]
FINAL = 99
"""The client that reads the set in the end."""


def legal(chance: random.Random, operations: int = 30, unknown: float = 0.1) -> History:
    slots = schedule(chance, operations, unknown=unknown, failed=0.15, coarse=chance.random() < 0.3)
    is_add = [chance.random() < 0.6 for _ in slots]
    in_the_end = after(slots)
    there: set[Hashable] = set()
    shown: dict[int, frozenset[Hashable]] = {}
    last: frozenset[Hashable] = frozenset()
    for number in executed(slots):
        if is_add[number]:
            there.add(number)
        shown[number] = frozenset(there)
        if (slots[number].moment or 0) < in_the_end:
            last = shown[number]
    adds = [Add(**slots[number].times, element=number) for number in range(operations) if is_add[number]]
    reads = [
        Read(**slots[number].times, elements=shown.get(number, frozenset()))
        for number in range(operations)
        if not is_add[number]
    ]
    return adds, [*reads, Read(**at(FINAL, in_the_end, in_the_end + 1), elements=last)]


Edit = Callable[[random.Random, History], tuple[History, str] | None]
"""A change that makes a legal history illegal, whatever else is in it, and the name of the problem; None if there is
nothing to change."""


def last_shows(history: History, more: Hashable) -> History:
    adds, reads = history
    return adds, [*reads[:-1], replace(reads[-1], elements=reads[-1].elements | {more})]


def lost(chance: random.Random, history: History) -> tuple[History, str] | None:
    """No read shows an acknowledged element any more, and the last one started after its add had ended."""
    adds, reads = history
    known = [each for each in adds if each.outcome == "ok"]
    if not known:
        return None
    gone = chance.choice(known).element
    return (adds, [replace(each, elements=each.elements - {gone}) for each in reads]), "lost"


def invented(chance: random.Random, history: History) -> tuple[History, str] | None:
    """The last read shows what nobody added."""
    return last_shows(history, "~"), "never added"


def too_early(chance: random.Random, history: History) -> tuple[History, str] | None:
    """What the last read shows is added after it."""
    adds, reads = history
    end = reads[-1].end or 0
    return (
        [*adds, Add(**at(7, end + 1, end + 2), element="~")],
        last_shows(history, "~")[1],
    ), "not yet added"


def raised_from_the_dead(chance: random.Random, history: History) -> tuple[History, str] | None:
    """The last read shows an element whose add certainly failed."""
    failed = [each for each in history[0] if each.outcome == "failed"]
    return (last_shows(history, chance.choice(failed).element), "failed but present") if failed else None


def flickering(chance: random.Random, history: History) -> tuple[History, str] | None:
    """Two more reads before the last: what the first shows, the second does not, and the last does."""
    adds, reads = history
    if not reads[-1].elements:
        return None
    everything = reads[-1].elements
    gone = chance.choice(sorted(everything, key=repr))
    end = reads[-1].end or 0
    one = Read(**at(7, end + 1, end + 2), elements=everything)
    two = Read(**at(8, end + 3, end + 4), elements=everything - {gone})
    return (adds, [*reads, one, two, Read(**at(9, end + 5, end + 6), elements=everything)]), "flickering"


def stale(chance: random.Random, history: History) -> tuple[History, str] | None:
    """A new element is acknowledged, then a read misses it, and then one shows it."""
    adds, reads = history
    start = reads[-1].end or 0
    everything = reads[-1].elements
    return (
        [*adds, Add(**at(7, start + 1, start + 2), element="new")],
        [
            *reads,
            Read(**at(8, start + 3, start + 4), elements=everything),
            Read(**at(8, start + 5, start + 6), elements=everything | {"new"}),
        ],
    ), "stale"


def incomparable(chance: random.Random, history: History) -> tuple[History, str] | None:
    """Two elements are added, and two reads, all at once, do not agree on which came first."""
    adds, reads = history
    start = reads[-1].end or 0
    everything = reads[-1].elements
    spans = [at(10 + number, start + chance.random(), start + 1 + chance.random()) for number in range(4)]
    return (
        [*adds, Add(**spans[0], element="one"), Add(**spans[1], element="two")],
        [
            *reads,
            Read(**spans[2], elements=everything | {"one"}),
            Read(**spans[3], elements=everything | {"two"}),
            Read(**at(FINAL, start + 3, start + 4), elements=everything | {"one", "two"}),
        ],
    ), "incomparable reads"


def overtaken(chance: random.Random, history: History) -> tuple[History, str] | None:
    """One element is acknowledged before another is added. A read during both shows only the later one."""
    adds, reads = history
    start = reads[-1].end or 0
    everything = reads[-1].elements
    return (
        [
            *adds,
            Add(**at(7, start + 2, start + 3), element="one"),
            Add(**at(8, start + 4, start + 5), element="two"),
        ],
        [
            *reads,
            Read(**at(9, start + 1, start + 6), elements=everything | {"two"}),
            Read(**at(FINAL, start + 7, start + 8), elements=everything | {"one", "two"}),
        ],
    ), "stale"


EDITS: list[Edit] = [
    lost,
    invented,
    too_early,
    raised_from_the_dead,
    flickering,
    stale,
    incomparable,
    overtaken,
]


def test_a_thousand_legal_histories_pass_and_every_illegal_edit_is_caught() -> None:
    caught = dict.fromkeys(EDITS, 0)
    seed = 0
    while sum(caught.values()) < 1000 or seed < 1000:
        chance = random.Random(seed)
        adds, reads = legal(chance, chance.randint(5, 30))
        if seed < 1000:
            verdict = check(chance.sample(adds, len(adds)), chance.sample(reads, len(reads)))
            assert verdict, (seed, str(verdict))
        edit = EDITS[seed % len(EDITS)]
        seed += 1
        edited = edit(chance, (adds, reads))
        if edited is not None:
            wrong, name = edited
            verdict = check(*wrong)
            assert name in verdict.names, (seed, edit, str(verdict))
            caught[edit] += 1
    assert min(caught.values()) > 80, caught


def alone(operation: Add | Read, there: frozenset[Hashable]) -> frozenset[Hashable] | None:
    if isinstance(operation, Add):
        return there | {operation.element}
    return there if operation.outcome != "ok" or operation.elements == there else None


def test_small_histories_are_judged_as_the_naive_twin_does() -> None:
    """The three rules are all there is to know."""
    verdicts = []
    for seed in range(4000):
        chance = random.Random(seed)
        adds, reads = legal(chance, chance.randint(2, 7), unknown=chance.choice([0, 0.3]))
        for _ in range(chance.choice([0, 1, 1, 2])):
            number = chance.randrange(len(reads))
            changed = reads[number].elements ^ {chance.choice([each.element for each in adds] or ["~"])}
            reads[number] = replace(reads[number], elements=changed)
        verdict = check(adds, reads)
        assert verdict or verdict.problems
        assert bool(verdict) == has_an_order([*adds, *reads], alone, frozenset()), (seed, str(verdict))
        verdicts.append(bool(verdict))
    assert 1000 < sum(verdicts) < 3500


def test_elements_are_counted() -> None:
    adds = [
        Add(**at(1, 1, 2), element="acknowledged"),
        Add(**at(9, 1, 2), element="this, too"),
        Add(**at(2, 1, None), element="recovered"),
        Add(**at(3, 1, None), element="nowhere"),
        Add(**at(4, 1, 2, "failed"), element="turned down"),
        Add(**at(5, 1, 2), element="lost"),
        Add(**at(6, 1, 2), element="stale"),
    ]
    reads = [
        Read(**at(7, 3, 4), elements=frozenset({"acknowledged", "this, too"})),
        Read(**at(7, 5, 6), elements=frozenset({"acknowledged", "this, too", "recovered", "stale"})),
    ]
    verdict = check(adds, reads)
    assert verdict.counts == {"ok": 2, "recovered": 1, "unknown": 1, "failed": 1, "lost": 1, "stale": 1}
    assert [each.text for each in verdict.problems] == [
        "The add of 'lost' (client 5, started at 1, ended at 2) is missing in a read (client 7, started at 5, ended at 6), "
        "and no later read shows it.",
        "The add of 'stale' (client 6, started at 1, ended at 2) is missing in a read (client 7, started at 3, ended at 4), "
        "and only a later one (client 7, started at 5, ended at 6) shows it.",
    ]


def test_what_no_read_can_have_shown_is_no_pass() -> None:
    add = Add(**at(1, 1, 2), element=1)
    spans = [at(2, 1, 3), at(2, 1.5, 3), at(2, 2, 3), at(2, 3, 4, "failed")]
    for reads in ([], *([Read(**span, elements=frozenset())] for span in spans)):
        verdict = check([add], reads)
        assert not verdict
        assert not verdict.problems
        assert str(verdict).startswith("cannot tell")
    assert check([add], [Read(**at(2, 1, 3), elements=frozenset({1}))])
    early = [Read(**at(2, start, 1.9), elements=frozenset()) for start in (0, 1)]
    assert check([add], early).counts == {"unread": 1}
    assert check([add], [*early, Read(**at(2, 3, 4), elements=frozenset({1}))])
    assert check([], [])


def test_a_read_that_shows_a_later_element_took_effect_late() -> None:
    adds = [Add(**at(1, 2, 3), element="one"), Add(**at(1, 4, 5), element="two")]
    reads = [
        Read(**at(2, 1, 6), elements=frozenset({"two"})),
        Read(**at(2, 7, 8), elements=frozenset({"one", "two"})),
    ]
    assert [str(each) for each in check(adds, reads).problems] == [
        "stale: The add of 'one' (client 1, started at 2, ended at 3) is missing in a read (client 2, started at 1, ended at "
        "6) (which took effect after 4, when the add of an element that it shows began), and only a later one (client 2, "
        "started at 7, ended at 8) shows it."
    ]


def test_an_element_is_added_once() -> None:
    with pytest.raises(Unusable, match="two operations add 1"):
        check([Add(**at(1, 1, 2), element=1), Add(**at(1, 3, 4), element=1)], [])
