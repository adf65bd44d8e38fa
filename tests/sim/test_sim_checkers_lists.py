"""Lists in transactions: legal histories, illegal edits of them, the naive twin, and what explanations say."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest

from sim.test_sim_checkers_verdict import after, at, executed, has_an_order, schedule
from sofadb.sim.checkers.lists import Element, Step, Transaction, check
from sofadb.sim.checkers.verdict import Unusable

History = list[Transaction]
State = dict[str, tuple[Element, ...]]

KEYS = ("x", "y", "z")
FINAL = 99
"""The client that reads all lists in the end."""


def run(steps: Sequence[Step], state: State) -> tuple[list[Step], State]:
    """What a transaction sees that is executed alone, and what it leaves behind."""
    state, seen = dict(state), []
    for step in steps:
        if step[0] == "append":
            state[step[1]] = (*state.get(step[1], ()), step[2])
            seen.append(step)
        else:
            seen.append(("read", step[1], state.get(step[1], ())))
    return seen, state


def legal(
    chance: random.Random, transactions: int = 20, keys: Sequence[str] = KEYS, unknown: float = 0.1
) -> History:
    slots = schedule(chance, transactions, unknown=unknown, failed=0.1, coarse=chance.random() < 0.3)
    asked: list[list[Step]] = []
    for number in range(transactions):
        steps: list[Step] = []
        for place in range(chance.randint(1, 4)):
            key = chance.choice(keys)
            steps.append(
                ("append", key, 10 * number + place) if chance.random() < 0.5 else ("read", key, None)
            )
        asked.append(steps)
    state: State = {}
    for number in executed(slots):
        seen, state = run(asked[number], state)
        if slots[number].is_ok:
            asked[number] = seen
    history = [Transaction(**slot.times, steps=steps) for slot, steps in zip(slots, asked, strict=True)]
    in_the_end = after(slots)
    # What is unknown and executed later than this is not in the last reads.
    state = {}
    for number in executed(slots):
        if (slots[number].moment or 0) < in_the_end:
            _, state = run(asked[number], state)
    last, _ = run([("read", key, None) for key in keys], state)
    return [*history, Transaction(**at(FINAL, in_the_end, in_the_end + 1), steps=last)]


# Illegal edits. Each says which name the problem must have.

Edit = Callable[[random.Random, History], tuple[History, str] | None]
"""A change that makes a legal history illegal, whatever else is in it; None if there is nothing to change."""


def last_read(history: History, key: str) -> tuple[Element, ...]:
    return next(tuple(step[2] or ()) for step in history[-1].steps if step[0] == "read" and step[1] == key)


def with_last_read(history: History, key: str, elements: Iterable[Element]) -> History:
    steps = [("read", key, tuple(elements)) if step[1] == key else step for step in history[-1].steps]
    return [*history[:-1], replace(history[-1], steps=steps)]


def repeated(chance: random.Random, history: History) -> tuple[History, str] | None:
    """The last read shows an element twice that was appended once."""
    full = [key for key in KEYS if last_read(history, key)]
    if not full:
        return None
    key = chance.choice(full)
    elements = last_read(history, key)
    return with_last_read(history, key, (*elements, chance.choice(elements))), "duplicate element"


def swapped(chance: random.Random, history: History) -> tuple[History, str] | None:
    """The last read shows the first two elements in another order than an earlier read showed them."""
    for each in history[:-1]:
        for step in each.steps if each.outcome == "ok" else ():
            if step[0] == "read" and len(step[2] or ()) >= 2:
                one, two, *rest = last_read(history, step[1])
                return with_last_read(history, step[1], (two, one, *rest)), "incompatible orders"
    return None


def raised_from_the_dead(chance: random.Random, history: History) -> tuple[History, str] | None:
    """The last read shows what a transaction would have appended that was certainly never executed."""
    for each in history:
        for step in each.steps if each.outcome == "failed" else ():
            if step[0] == "append":
                return with_last_read(
                    history, step[1], (*last_read(history, step[1]), step[2])
                ), "aborted read"
    return None


def invented(chance: random.Random, history: History) -> tuple[History, str] | None:
    """The last read shows what nobody appended."""
    key = chance.choice(KEYS)
    return with_last_read(history, key, (*last_read(history, key), "~")), "never appended"


def forgotten(chance: random.Random, history: History) -> tuple[History, str] | None:
    """An acknowledged append is in no read any more, though the last one started after it had ended."""
    appends = [
        (step[1], step[2])
        for each in history
        for step in each.steps
        if step[0] == "append" and each.outcome == "ok"
    ]
    if not appends:
        return None
    key, gone = chance.choice(appends)
    changed = []
    for each in history:
        steps: list[Step] = []
        for step in each.steps:
            if step[0] == "read" and step[1] == key and step[2] is not None:
                step = ("read", key, tuple(element for element in step[2] if element != gone))
            steps.append(step)
        changed.append(replace(each, steps=steps))
    return changed, "lost append"


Story = tuple[str, list[list[Step]], dict[str, tuple[Element, ...]]]
"""The name of what is wrong; transactions on lists of their own, all at the same time; and the last reads of these lists."""

STORIES: list[Story] = [
    ("intermediate read", [[("append", "p", 1), ("append", "p", 2)], [("read", "p", (1,))]], {"p": (1, 2)}),
    ("internal inconsistency", [[("append", "p", 1), ("read", "p", ())]], {"p": (1,)}),
    ("internal inconsistency", [[("append", "p", 1)], [("read", "p", (1,)), ("read", "p", ())]], {"p": (1,)}),
    (
        "internal inconsistency",
        [[("read", "p", (1,)), ("append", "p", 1), ("append", "p", 2)]],
        {"p": (1, 2)},
    ),
    (
        "internal inconsistency",
        [[("append", "p", 1), ("append", "p", 2), ("read", "p", (2, 1))]],
        {"p": (1, 2)},
    ),
    ("torn appends", [[("append", "p", 1), ("append", "p", 2)]], {"p": (2, 1)}),
    (
        "lost update",
        [[("read", "p", ()), ("append", "p", 1)], [("read", "p", ()), ("append", "p", 2)]],
        {"p": (1, 2)},
    ),
    (
        "G0",
        [[("append", "p", 1), ("append", "q", 1)], [("append", "p", 2), ("append", "q", 2)]],
        {"p": (1, 2), "q": (2, 1)},
    ),
    (
        "G1c",
        [[("append", "p", 1), ("read", "q", (1,))], [("append", "q", 1), ("read", "p", (1,))]],
        {"p": (1,), "q": (1,)},
    ),
    (
        "G-single",
        [[("append", "p", 1), ("append", "q", 1)], [("read", "p", (1,)), ("read", "q", ())]],
        {"p": (1,), "q": (1,)},
    ),
    (
        "G2",
        [[("read", "p", ()), ("append", "q", 1)], [("read", "q", ()), ("append", "p", 1)]],
        {"p": (1,), "q": (1,)},
    ),
    (
        "G2",  # Two readers disagree on which of two independent appends came first.
        [
            [("append", "p", 1)],
            [("append", "q", 1)],
            [("read", "p", (1,)), ("read", "q", ())],
            [("read", "p", ()), ("read", "q", (1,))],
        ],
        {"p": (1,), "q": (1,)},
    ),
]


def told(chance: random.Random, history: History) -> tuple[History, str]:
    """One of the stories happens at some time, on lists that nobody else uses: it is illegal by itself."""
    name, transactions, last = chance.choice(STORIES)
    start = chance.uniform(0, 5)
    chance.shuffle(transactions := list(transactions))
    new = [
        Transaction(**at(50 + number, start + chance.random(), start + 1 + chance.random()), steps=steps)
        for number, steps in enumerate(transactions)
    ]
    reads: list[Step] = [("read", key, elements) for key, elements in last.items()]
    final = replace(history[-1], steps=[*history[-1].steps, *reads], start=history[-1].start + 9, end=1e6)
    return [*history[:-1], *new, final], name


IN_TIME: list[tuple[str, list[Step], list[Step], tuple[Element, ...]]] = [
    ("G0", [("append", "p", 1)], [("append", "p", 2)], (2, 1)),
    ("G1c", [("read", "p", (1,))], [("append", "p", 1)], (1,)),
    ("G-single", [("append", "p", 1)], [("read", "p", ())], (1,)),
]
"""What is wrong with two transactions if the first one ended before the second started, and the last read."""


def in_real_time(chance: random.Random, history: History) -> tuple[History, str]:
    """A transaction, and after its end another one that must have come first."""
    name, one, two, last = chance.choice(IN_TIME)
    start = chance.uniform(0, 5)
    reads: list[Step] = [*history[-1].steps, ("read", "p", last)]
    return [
        *history[:-1],
        Transaction(**at(50, start, start + 1), steps=one),
        Transaction(**at(51, start + 1.001, start + chance.uniform(2, 9)), steps=two),
        replace(history[-1], steps=reads, start=history[-1].start + 15, end=1e6),
    ], name + "-realtime"


def in_process(chance: random.Random, history: History) -> tuple[History, str]:
    """One client's two transactions, where the clock is too coarse to tell that one ended before the other started."""
    name, one, two, last = chance.choice(IN_TIME)
    reads: list[Step] = [*history[-1].steps, ("read", "p", last)]
    return [
        *history[:-1],
        Transaction(**at(50, 1, 2), steps=one),
        Transaction(**at(50, 2, 3), steps=two),
        replace(history[-1], steps=reads, start=history[-1].start + 9, end=1e6),
    ], name + "-process"


EDITS: list[Edit] = [
    repeated,
    swapped,
    raised_from_the_dead,
    invented,
    forgotten,
    told,
    told,
    told,
    in_real_time,
    in_process,
]


def test_a_thousand_legal_histories_pass_and_every_illegal_edit_is_caught() -> None:
    caught: dict[str, int] = {}
    edited = 0
    seed = 0
    while edited < 1000:
        chance = random.Random(seed)
        history = legal(chance, chance.randint(5, 20))
        if seed < 1000:
            verdict = check(chance.sample(history, len(history)))
            assert verdict, (seed, str(verdict))
        edit = EDITS[seed % len(EDITS)](chance, history)
        seed += 1
        if edit is not None:
            wrong, name = edit
            verdict = check(wrong)
            assert name in verdict.names, (seed, name, str(verdict))
            caught[name] = caught.get(name, 0) + 1
            edited += 1
    assert len(caught) == 19
    assert min(caught.values()) > 15, caught


# Against the naive twin


def alone(transaction: Transaction, state: State) -> State | None:
    seen, state = run(transaction.steps, state)
    if transaction.outcome == "ok" and seen != list(transaction.steps):
        return None
    return state


def spoilt(chance: random.Random, history: History) -> History:
    """Some read shows something else. That may be legal or not."""
    number = chance.randrange(len(history))
    if history[number].outcome != "ok":
        return history
    steps: list[Step] = []
    for step in history[number].steps:
        if step[0] == "read" and step[2]:
            elements = list(step[2])
            if chance.random() < 0.7:
                del elements[chance.randrange(len(elements)) :]
            else:
                chance.shuffle(elements)
            step = ("read", step[1], tuple(elements))
        steps.append(step)
    return [*history[:number], replace(history[number], steps=steps), *history[number + 1 :]]


def test_small_histories_are_judged_as_the_naive_twin_does() -> None:
    """All appends are read in the end, so that nothing remains in doubt: then Elle's rules are all there is to know."""
    verdicts = []
    for seed in range(3000):
        chance = random.Random(seed)
        history = legal(chance, chance.randint(2, 6), keys=KEYS[:2], unknown=chance.choice([0, 0.3]))
        for _ in range(chance.choice([0, 1, 1, 2])):
            history = spoilt(chance, history)
        verdict = check(history)
        assert verdict or verdict.problems
        assert bool(verdict) == has_an_order(history, alone, {}, clients=True), (seed, str(verdict))
        verdicts.append(bool(verdict))
    assert 1000 < sum(verdicts) < 2500


# Unknown outcomes


def test_an_unknown_transaction_was_executed_if_somebody_read_what_it_appended() -> None:
    late = Transaction(**at(1, 1, None), steps=[("append", "p", 1), ("append", "q", 1)])
    reads: list[tuple[tuple[Element, ...], tuple[Element, ...]]] = [((), ()), ((1,), (1,)), ((1,), ())]
    verdicts = [
        check([late, Transaction(**at(2, 5, 6), steps=[("read", "p", p), ("read", "q", q)])])
        for p, q in reads
    ]
    assert [bool(each) for each in verdicts] == [True, True, False]
    earlier = Transaction(**at(2, 2, 3), steps=[("read", "q", ())])
    between = Transaction(**at(3, 4, 5), steps=[("read", "p", (1,))])
    assert check([late, earlier, between])
    again = replace(earlier, start=6, end=7)
    assert check([late, earlier, between, again]).names == {"G-single-realtime"}
    torn = Transaction(**at(3, 7, 8), steps=[("read", "p", (1,)), ("read", "q", (1,))])
    assert (
        "G-single"
        in check(
            [late, Transaction(**at(2, 5, 6), steps=[("read", "p", (1,)), ("read", "q", ())]), torn]
        ).names
    )


def test_an_unknown_transaction_may_be_executed_late_but_not_before_its_start() -> None:
    late = Transaction(**at(1, 3, None), steps=[("append", "p", 1)])
    early_read = Transaction(**at(2, 1, 2), steps=[("read", "p", (1,))])
    assert check([late, early_read]).names == {"G1c-realtime"}
    reads = [Transaction(**at(1, time, time + 0.5), steps=[("read", "p", ())]) for time in (4, 5, 6)]
    assert check([late, *reads, Transaction(**at(1, 7, 8), steps=[("read", "p", (1,))])])


def test_what_was_appended_and_never_read_afterwards_is_no_pass() -> None:
    append = Transaction(**at(1, 1, 2), steps=[("append", "p", 1)])
    earlier = Transaction(**at(2, 1, 3), steps=[("read", "p", ())])
    for history in ([append], [append, earlier]):
        verdict = check(history)
        assert not verdict
        assert not verdict.problems
        assert str(verdict).startswith("cannot tell")
    assert check([append, Transaction(**at(2, 3, 4), steps=[("read", "p", (1,))])])
    assert check([])


# Explanations


def test_a_stale_read_is_explained_by_three_edges() -> None:
    """Two transactions of noise before and after do not make it longer."""
    noise = [Transaction(**at(9, time, time + 0.5), steps=[("append", "n", time)]) for time in range(100)]
    everything: list[Step] = [("read", "n", tuple(range(100))), ("read", "p", (1,))]
    story = [
        Transaction(**at(1, 10, 11), steps=[("append", "p", 1)]),
        Transaction(**at(2, 50, 51), steps=[("read", "p", ())]),
        Transaction(**at(3, 200, 201), steps=everything),
    ]
    verdict = check([*story, *noise])
    assert verdict.names == {"lost append", "G-single-realtime"}
    assert [each.text for each in verdict.problems] == [
        "T0 (client 1, started at 10, ended at 11) appended 1 to 'p', and T1 (client 2, started at 50, ended at 51) "
        "afterwards read [].",
        "a transaction saw some of what came before it and missed some. No order fits: T1 read 'p' just before T0 appended "
        "1; T0 ended at 11, before T1 started at 50. These are T0 (client 1, started at 10, ended at 11); T1 (client 2, "
        "started at 50, ended at 51).",
    ]


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (
            [(at(1, 1, 2), [("append", "p", 1), ("append", "p", 2), ("append", "p", 1)])],
            "1 is appended to 'p' twice",
        ),
        ([(at(1, 1, 2), [("append", "p", 1)]), (at(2, 1, None), [("append", "p", 1)])], "twice"),
        ([(at(1, 1, 2), [("read", "p", None)])], "has no result"),
        ([(at(1, 1, 3), []), (at(1, 2, 4), [])], "overlap"),
    ],
)
def test_what_no_client_can_have_seen_is_no_history(history: list, message: str) -> None:
    with pytest.raises(Unusable, match=message):
        check([Transaction(**times, steps=steps) for times, steps in history])


def test_one_element_may_be_in_two_lists() -> None:
    assert check(
        [
            Transaction(
                **at(1, 1, 2),
                steps=[("append", "p", 1), ("append", "q", 1), ("read", "p", (1,)), ("read", "q", (1,))],
            )
        ]
    )
