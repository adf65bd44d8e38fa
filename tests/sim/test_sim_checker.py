"""The checker against its naive twin, against legal histories and illegal edits of them, and at its limits."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.naive_checker import VERBS, atomic, explains, linearizable
from sofadb.sim.checker import SHOWN_MAX, Outcome, Verdict, check
from sofadb.sim.history import Answer, Operation, Verb


def known(
    client: int,
    op: Verb,
    start: float,
    end: float | None,
    result: Answer,
    value: str | None = None,
    expected: str | None = None,
    key: str = "x",
) -> Operation:
    return Operation(client, op, key, value, expected, start, end, result)


# Against the naive twin

ANSWERS: dict[Verb, list[Answer]] = {
    "set": ["OK"],
    "get": [None, "a", "b", "1", "2", "ab"],
    "del": [0, 1],
    "cas": [True, False],
    "append": [0, 1, 2, 3],
    "incr": [1, 2, 3, "error"],
}
TEXTS = ["a", "b", "1", ""]


@st.composite
def small(draw: st.DrawFn) -> list[Operation]:
    verbs = draw(st.lists(st.sampled_from(VERBS), min_size=1, max_size=6))
    operations = []
    free = [0, 0, 0, 0]
    for op in verbs:
        client = draw(st.integers(0, 3))
        start = free[client] + draw(st.integers(0, 5))
        length = draw(st.none() | st.integers(0, 5))
        free[client] = start + (length or 0)
        operations.append(
            Operation(
                client,
                op,
                "x",
                draw(st.sampled_from(TEXTS)) if op in ("set", "cas", "append") else None,
                draw(st.sampled_from([None, *TEXTS])) if op == "cas" else None,
                start,
                None if length is None else start + length,
                None if length is None else draw(st.sampled_from(ANSWERS[op])),
            )
        )
    return operations


def agrees_with_the_twin(history: Sequence[Operation]) -> bool:
    """Return the common verdict, after looking at the proof of a yes and at the explanation of a no."""
    verdict = check(history, explain_steps_max=5_000)
    assert verdict.outcome is not Outcome.CANNOT_TELL
    assert bool(verdict) == linearizable(history), "\n".join(map(str, history))
    if verdict:
        for key, order in verdict.orders.items():
            assert explains(order, [each for each in history if each.key == key])
    else:
        assert verdict.explanation is not None
        shown = verdict.explanation.operations
        assert verdict.explanation.culprit in shown
        assert len(shown) + verdict.explanation.left_out <= len(history)
        assert not linearizable(shown)
    return bool(verdict)


@given(small())
@settings(max_examples=1000, deadline=None)
def test_any_small_history_is_judged_as_the_naive_twin_does(history: list[Operation]) -> None:
    agrees_with_the_twin(history)


def test_small_histories_near_the_edge_are_judged_as_the_naive_twin_does() -> None:
    """Histories that were legal until an answer or two was changed: about as many illegal as legal ones."""
    verdicts = []
    for seed in range(4000):
        chance = random.Random(seed)
        history = atomic(
            chance,
            operations=chance.randint(2, 7),
            keys=chance.choice([1, 1, 2]),
            clients=chance.randint(1, 5),
            unknown=chance.choice([0, 0.1, 0.4]),
            verbs=chance.choice(
                [
                    VERBS,
                    ("set", "get"),
                    ("set", "get", "cas", "del"),
                    ("incr", "get", "set"),
                    ("append", "get"),
                ]
            ),
            values=chance.choice([["a", "b"], TEXTS, None]),
            rounded=chance.random() < 0.3,
        )
        for _ in range(chance.choice([0, 1, 1, 2])):
            at = chance.randrange(len(history))
            if history[at].end is not None:
                history[at] = replace(history[at], result=chance.choice(ANSWERS[history[at].op]))
        chance.shuffle(history)
        verdicts.append(agrees_with_the_twin(history))
    assert 1000 < sum(verdicts) < 3000


# Legal histories, and what makes them illegal

Edit = Callable[[random.Random, list[Operation]], list[Operation] | None]
"""A change that makes a legal history illegal, whatever else is in it; None if there is nothing to change."""


def _changed(history: list[Operation], old: Operation, new: Operation) -> list[Operation]:
    return [new if each is old else each for each in history]


def invented(chance: random.Random, history: list[Operation]) -> list[Operation] | None:
    """A get answers what was never written, nor can be put together."""
    gets = [each for each in history if each.op == "get" and each.end is not None]
    if not gets:
        return None
    one = chance.choice(gets)
    return _changed(history, one, replace(one, result="~"))


def stale(chance: random.Random, history: list[Operation]) -> list[Operation] | None:
    """After all else ended, a value is set; then a get answers another one, though nothing else is under way."""
    end = max(each.end or each.start for each in history)
    history = [each for each in history if each.end is not None]
    return [
        *history,
        known(0, "set", end + 1, end + 2, "OK", "new", key="k0"),
        known(chance.randrange(3), "get", end + 3, end + 4, chance.choice([None, "old"]), key="k0"),
    ]


def counted_twice(chance: random.Random, history: list[Operation]) -> list[Operation] | None:
    """Two incrs, with nothing else under way but unknown outcomes of other keys, answer the same."""
    end = max(each.end or each.start for each in history)
    history = [each for each in history if each.end is not None]
    return [
        *history,
        known(0, "set", end + 1, end + 2, "OK", "41", key="k1"),
        known(1, "incr", end + 3, end + 5, 42, key="k1"),
        known(2, "incr", end + 4, end + 6, 42, key="k1"),
    ]


def lost(chance: random.Random, history: list[Operation]) -> list[Operation] | None:
    """A set was acknowledged and had no effect: what an unread text of its own should have shown is missing."""
    values = [each.value for each in history]
    for one in history:
        if one.op == "get" and isinstance(one.result, str) and values.count(one.result) == 1:
            # No append and no incr can make this text: it has a letter in front.
            source = next(each for each in history if each.value == one.result)
            if source.op == "set" and one.result.startswith("v"):
                return _changed(history, source, replace(source, value="~"))
    return None


def flipped(chance: random.Random, history: list[Operation]) -> list[Operation] | None:
    """The very first del of a key, before anything else started there, says that there was a text."""
    start = min(each.start for each in history)
    first = known(chance.randrange(3), "del", start - 2, start - 1, 1, key="k2")
    return [first, *history]


def test_a_thousand_legal_histories_pass_and_every_illegal_edit_is_caught() -> None:
    edits: list[Edit] = [invented, stale, counted_twice, lost, flipped]
    caught = dict.fromkeys(edits, 0)
    for seed in range(1000):
        chance = random.Random(seed)
        history = atomic(
            chance, operations=40, keys=4, clients=chance.randint(1, 6), unknown=chance.choice([0, 0.02, 0.1])
        )
        verdict = check(history)
        assert verdict.outcome is Outcome.LINEARIZABLE, (seed, str(verdict))
        for key, order in verdict.orders.items():
            assert explains(order, [each for each in history if each.key == key])
        edit = edits[seed % len(edits)]
        wrong = edit(chance, history)
        if wrong is not None:
            verdict = check(wrong, explain_steps_max=1_000)
            assert verdict.outcome is Outcome.NOT_LINEARIZABLE, (seed, edit)
            assert verdict.explanation is not None
            caught[edit] += 1
    assert min(caught.values()) > 100, caught


# Time


def test_an_operation_of_unknown_outcome_may_take_effect_late_or_never() -> None:
    unknown = known(1, "set", 1, None, None, "a")
    assert check([unknown, known(2, "get", 9, 10, None), known(2, "get", 11, 12, "a")])
    assert check([unknown, known(2, "get", 9, 10, None)])
    assert not check([unknown, known(2, "get", 9, 10, "a"), known(2, "get", 11, 12, None)])
    assert not check([known(2, "get", 0, 0.5, "a"), unknown]), "not before its start"


def test_equal_times_are_no_order_but_for_one_client() -> None:
    write = known(1, "set", 1, 2, "OK", "a")
    assert check([write, known(2, "get", 2, 3, None)])
    assert not check([write, known(1, "get", 2, 3, None)])
    assert not check([write, known(2, "get", 2.5, 3, None)])


def test_keys_are_independent() -> None:
    good = [known(1, "set", 1, 2, "OK", "a", key="good"), known(1, "get", 3, 4, "a", key="good")]
    bad = [replace(each, key="bad", result=None if each.op == "get" else "OK") for each in good]
    verdict = check([*good, *bad])
    assert (verdict.failed, verdict.undecided, list(verdict.orders)) == (("bad",), (), ["good"])


def test_an_empty_history_is_linearizable() -> None:
    assert check([])


# Cannot tell


def entangled(writers: int) -> list[Operation]:
    """Sets all at once, in any order, none of which explains the get that follows."""
    sets = [known(at, "set", 0, 10, "OK", chr(97 + at)) for at in range(writers)]
    return [*sets, known(99, "get", 11, 12, "~")]


def test_cannot_tell_is_no_pass() -> None:
    history = entangled(9)
    few = check(history, steps_max=20)
    assert few.outcome is Outcome.CANNOT_TELL
    assert not few
    assert few.undecided == ("x",)
    assert few.explanation is None
    assert "cannot tell" in str(few)
    assert check(history).outcome is Outcome.NOT_LINEARIZABLE


def test_the_steps_are_a_bound() -> None:
    for steps_max in (0, 1, 10, 100, 1000):
        verdict = check(entangled(12), steps_max=steps_max)
        assert verdict.outcome is Outcome.CANNOT_TELL
        assert verdict.steps <= steps_max + 100


def test_a_key_that_failed_outweighs_one_that_is_undecided() -> None:
    bad = [known(1, "get", 1, 2, "never", key="bad")]
    verdict = check([*entangled(9), *bad], steps_max=20)
    assert verdict.outcome is Outcome.NOT_LINEARIZABLE
    assert (verdict.failed, verdict.undecided) == (("bad",), ("x",))


# Explanations


def noise(chance: random.Random) -> list[Operation]:
    return atomic(chance, operations=300, clients=5, unknown=0.02, verbs=("set", "get", "cas", "del"))


def explained(history: Sequence[Operation]) -> Verdict:
    verdict = check(history)
    assert verdict.outcome is Outcome.NOT_LINEARIZABLE
    assert verdict.explanation is not None
    assert verdict.explanation.smallest
    return verdict


def test_an_invented_value_explains_itself() -> None:
    history = noise(random.Random(1))
    one = next(each for each in history[150:] if each.op == "get" and each.end is not None)
    wrong = replace(one, result="~")
    explanation = explained(_changed(history, one, wrong)).explanation
    assert explanation is not None
    assert explanation.operations == (wrong,)


def test_a_stale_read_is_explained_by_three_operations() -> None:
    start = 1e6
    story = [
        known(1, "set", start, start + 1, "OK", "a", key="k0"),
        known(2, "set", start + 2, start + 3, "OK", "b", key="k0"),
        known(3, "get", start + 4, start + 5, "a", key="k0"),
    ]
    history = [*noise(random.Random(2)), *story, known(3, "set", start + 6, start + 7, "OK", "c", key="k0")]
    explanation = explained(history).explanation
    assert explanation is not None
    assert explanation.operations == tuple(story)
    assert explanation.culprit == story[-1]
    assert explanation.order == tuple(story[:-1])
    assert explanation.left_out == 301


def test_the_drawing() -> None:
    history = [
        known(1, "set", 1, 4, "OK", "a"),
        known(2, "set", 2, None, None, "b"),
        known(3, "get", 5, 6, "b"),
        known(12, "get", 7, 8, "a"),
        known(3, "get", 9, 10, "b"),
    ]
    assert str(check(history)) == DRAWN


DRAWN = """\
not linearizable: 5 operations, 1 key; the answers for "x" have no order

key "x":

  |---|            client 1   set "a"  -> "OK"
    |----------->  client 2   set "b"  unknown
        |-|        client 3   get      -> "b"
            |-|    client 12  get      -> "a"   <--

No order of these operations explains that the get of client 12, from 7 to 8, answered "a".
Without it: set "a" -> "OK", set "b" unknown, get -> "b".
1 other operation on this key cannot help, in whatever order.
"""


def test_a_drawing_has_a_bound() -> None:
    many = [known(1, "incr", at, at + 0.5, at + 1) for at in range(200)]
    text = str(check([*many, known(2, "incr", 300, 301, 200)], explain_steps_max=0))
    assert len(text.splitlines()) < SHOWN_MAX + 20
    assert "earlier operations)" in text
    assert "There may be a smaller explanation" in text


# Size


def test_a_long_history_of_many_keys() -> None:
    history = atomic(random.Random(7), operations=20_000, keys=200, clients=10, unknown=0.01)
    verdict = check(history)
    assert verdict.outcome is Outcome.LINEARIZABLE
    assert (verdict.operations, verdict.keys) == (20_000, 200)
    at = next(at for at in range(15_000, 20_000) if history[at].op == "get" and history[at].end is not None)
    history[at] = replace(history[at], result="~")
    verdict = check(history)
    assert verdict.outcome is Outcome.NOT_LINEARIZABLE
    assert verdict.failed == (history[at].key,)


@pytest.mark.parametrize("wrong", [False, True])
def test_a_long_history_of_one_key(wrong: bool) -> None:
    history = atomic(
        random.Random(8),
        operations=5_000,
        clients=8,
        unknown=0.01,
        verbs=("set", "get", "cas", "del"),
        values=["a", "b", "c"],
    )
    if wrong:
        at = next(at for at in range(4_000, 5_000) if history[at].op == "get" and history[at].end is not None)
        history[at] = replace(history[at], result="~")
    assert check(history).outcome is (Outcome.NOT_LINEARIZABLE if wrong else Outcome.LINEARIZABLE)
