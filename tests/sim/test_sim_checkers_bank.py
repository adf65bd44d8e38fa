"""A bank: legal histories, illegal edits of them, the naive twin, and the edges of what a balance can be."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from sim.test_sim_checkers_verdict import after, at, executed, has_an_order, schedule
from sofadb.sim.checkers.bank import Read, Transfer, check
from sofadb.sim.checkers.verdict import Unusable

History = tuple[list[Transfer], list[Read]]
INITIAL = {"a": 50, "b": 50, "c": 0}
Balances = dict[str, int]


def moved(transfer: Transfer, balances: Balances) -> Balances:
    after = dict(balances)
    after[transfer.source] -= transfer.amount
    after[transfer.target] += transfer.amount
    return after


def legal(chance: random.Random, operations: int = 20, unknown: float = 0.1) -> History:
    """Transfers fail, or change nothing, where the source has too little; a failed one has an answer."""
    slots = schedule(chance, operations, unknown=unknown, coarse=chance.random() < 0.3)
    in_the_end = after(slots)
    transfers: dict[int, Transfer] = {}
    reads: dict[int, Read] = {}
    for number, slot in enumerate(slots):
        if chance.random() < 0.6:
            source, target = chance.sample(sorted(INITIAL), 2)
            transfers[number] = Transfer(
                **slot.times, source=source, target=target, amount=chance.randint(1, 40)
            )
        else:
            reads[number] = Read(**slot.times, balances={})
    balances = last = INITIAL
    for number in executed(slots):
        if number in reads:
            reads[number] = replace(reads[number], balances=balances)
        elif balances[transfers[number].source] >= transfers[number].amount:
            balances = moved(transfers[number], balances)
        elif slots[number].is_ok:
            transfers[number] = replace(transfers[number], outcome="failed")
        if (slots[number].moment or 0) < in_the_end:
            last = balances
    final = Read(**at(99, in_the_end, in_the_end + 1), balances=last)
    return list(transfers.values()), [*reads.values(), final]


Edit = Callable[[random.Random, History], tuple[History, str]]
"""A change that makes a legal history illegal, whatever else is in it, and the name of the problem."""


def some_read_shows(
    chance: random.Random, history: History, change: Callable[[Balances], Balances]
) -> History:
    transfers, reads = history
    number = chance.choice([at for at, each in enumerate(reads) if each.outcome == "ok"])
    reads = list(reads)
    reads[number] = replace(reads[number], balances=change(dict(reads[number].balances)))
    return transfers, reads


def minted(chance: random.Random, history: History) -> tuple[History, str]:
    """One account of one read has more or less than it had, and no other has less or more."""
    name, by = chance.choice(sorted(INITIAL)), chance.choice([-7, -1, 1, 30])
    return some_read_shows(chance, history, lambda shown: shown | {name: shown[name] + by}), "wrong total"


def overdrawn(chance: random.Random, history: History) -> tuple[History, str]:
    """One account of one read has less than nothing; another one has what is missing."""
    one, two = chance.sample(sorted(INITIAL), 2)
    return some_read_shows(
        chance, history, lambda shown: shown | {one: -1, two: shown[two] + shown[one] + 1}
    ), "negative balance"


def closed(chance: random.Random, history: History) -> tuple[History, str]:
    """One account is missing in a read."""
    gone = chance.choice(sorted(INITIAL))
    return some_read_shows(
        chance, history, lambda shown: {name: shown[name] for name in shown if name != gone}
    ), "wrong accounts"


def never_moved(chance: random.Random, history: History) -> tuple[History, str]:
    """After everything is settled, a transfer is acknowledged, and a read shows the balances from before."""
    transfers, reads = history
    settled = [each for each in transfers if each.outcome != "unknown"]
    balances = INITIAL
    for each in settled:
        balances = moved(each, balances) if each.outcome == "ok" else balances
    start = (reads[-1].end or 0) + 1
    # Reads that show a transfer of unknown outcome go with it.
    return (
        [*settled, Transfer(**at(7, start, start + 1), source="a", target="b", amount=chance.randint(1, 99))],
        [Read(**at(8, start + 2, start + 3), balances=balances)],
    ), "impossible balance"


def moved_by_nobody(chance: random.Random, history: History) -> tuple[History, str]:
    """Money moves between two accounts that no transfer is about: the total is right."""
    transfers, reads = history
    by = chance.randint(1, 50)
    start = (reads[-1].end or 0) + 1
    shown = dict(reads[-1].balances)
    still = [each for each in transfers if "a" not in (each.source, each.target)]
    return (
        still,
        [Read(**at(8, start, start + 1), balances={**shown, "a": 50 - by, "b": shown["b"] + by})],
    ), ("impossible balance")


EDITS: list[Edit] = [minted, overdrawn, closed, never_moved, moved_by_nobody]


def test_a_thousand_legal_histories_pass_and_every_illegal_edit_is_caught() -> None:
    caught = dict.fromkeys(EDITS, 0)
    for seed in range(1000):
        chance = random.Random(seed)
        transfers, reads = legal(chance, chance.randint(5, 30))
        verdict = check(chance.sample(transfers, len(transfers)), chance.sample(reads, len(reads)), INITIAL)
        assert verdict, (seed, str(verdict))
        edit = EDITS[seed % len(EDITS)]
        wrong, name = edit(chance, (transfers, reads))
        verdict = check(*wrong, INITIAL)
        assert name in verdict.names, (seed, edit, str(verdict))
        caught[edit] += 1
    assert min(caught.values()) == 200, caught


def alone(operation: Transfer | Read, balances: Balances) -> Balances | None:
    if isinstance(operation, Transfer):
        return moved(operation, balances)
    return balances if operation.outcome != "ok" or operation.balances == balances else None


def test_what_is_found_broken_has_no_order() -> None:
    """The rules leave some illegal histories alone, but no legal one."""
    changes: list[Callable[[Balances], Balances]] = [
        lambda shown: shown,
        lambda shown: shown | {"a": shown["a"] - 10, "b": shown["b"] + 10},
        lambda shown: INITIAL,
    ]
    broken = 0
    for seed in range(3000):
        chance = random.Random(seed)
        history = legal(chance, chance.randint(2, 6), unknown=chance.choice([0, 0.3]))
        history = some_read_shows(chance, history, changes[seed % 3])
        transfers, reads = history
        verdict = check(transfers, reads, INITIAL, negative=True)
        if verdict.problems:
            assert not has_an_order([*transfers, *reads], alone, INITIAL), (seed, str(verdict))
            broken += 1
    assert broken > 300


def test_what_may_have_moved_may_be_shown_or_not() -> None:
    pending = [
        Transfer(**at(1, 1, 9), source="a", target="b", amount=10),
        Transfer(**at(2, 1, None), source="b", target="c", amount=3),
        Transfer(**at(3, 1, 2, "failed"), source="a", target="c", amount=20),
        Transfer(**at(5, 6.1, 7), source="a", target="c", amount=20),
    ]
    for a, b, c in [(50, 50, 0), (40, 60, 0), (50, 47, 3), (40, 57, 3)]:
        assert not check(pending, [Read(**at(4, 5, 6), balances={"a": a, "b": b, "c": c})], INITIAL).problems
    for a, b, c in [(30, 70, 0), (50, 46, 4), (30, 50, 20), (51, 50, -1)]:
        shown = Read(**at(4, 5, 6), balances={"a": a, "b": b, "c": c})
        assert "impossible balance" in check(pending, [shown], INITIAL).names, (a, b, c)


def test_equal_times_are_no_order() -> None:
    transfer = Transfer(**at(1, 2, 3), source="a", target="b", amount=5)
    for span in (at(2, 1, 2), at(2, 3, 4)):
        for moved_by in (0, 5):
            shown = Read(**span, balances={"a": 50 - moved_by, "b": 50 + moved_by, "c": 0})
            assert not check([transfer], [shown], INITIAL).problems


def test_below_zero_may_be_allowed() -> None:
    transfers = [Transfer(**at(1, 1, 2), source="c", target="a", amount=5)]
    reads = [Read(**at(2, 3, 4), balances={"a": 55, "b": 50, "c": -5})]
    assert check(transfers, reads, INITIAL).names == {"negative balance"}
    assert check(transfers, reads, INITIAL, negative=True)


def test_a_transfer_that_nobody_looked_for_is_no_pass() -> None:
    transfer = Transfer(**at(1, 2, 3), source="a", target="b", amount=5)
    for reads in ([], *([Read(**at(2, start, 4), balances=INITIAL)] for start in (1, 2.5, 3))):
        verdict = check([transfer], reads, INITIAL)
        assert not verdict
        assert not verdict.problems
        assert verdict.doubts
    assert check([], [], INITIAL)


@pytest.mark.parametrize(("target", "amount"), [("b", -1), ("nobody", 1)])
def test_what_is_no_transfer_is_no_history(target: str, amount: int) -> None:
    with pytest.raises(Unusable, match="no transfer"):
        check([Transfer(**at(1, 1, 2), source="a", target=target, amount=amount)], [], INITIAL)
