"""The naive twin of the checker, and generated histories to try both on.

The twin runs the operations forward, as a server would, and tries every order that real time allows. It prunes nothing and
remembers nothing, so it is good for six or seven operations only. It shares the type `Operation` with the checker, no more.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf

from sofadb.sim.history import Answer, Operation, Verb

INTEGERS = range(-(2**63), 2**63)


def run(operation: Operation, state: str | None) -> tuple[Answer, str | None]:
    """What a register that holds `state` answers, and what it holds then."""
    match operation.op:
        case "set":
            return "OK", operation.value
        case "get":
            return state, state
        case "del":
            return (0 if state is None else 1), None
        case "cas":
            return (True, operation.value) if state == operation.expected else (False, state)
        case "append":
            text = (state or "") + str(operation.value)
            return len(text.encode()), text
        case "incr":
            if state is None:
                return 1, "1"
            try:
                number = int(state)
            except ValueError:
                return "error", state
            if str(number) != state or number not in INTEGERS or number + 1 not in INTEGERS:
                return "error", state
            return number + 1, str(number + 1)


def same(left: Answer, right: Answer) -> bool:
    """1 is not true here."""
    return type(left) is type(right) and left == right


def precedes(one: Operation, two: Operation) -> bool:
    """`one` comes earlier in the sorted history, or both may come in any order."""
    if one.end is None:
        return False
    if one.end == two.start and one.client == two.client and one.key == two.key:
        return two.end is not None
    return one.end < two.start


def linearizable(operations: Iterable[Operation]) -> bool:
    """Try every order."""
    listed = sorted(operations, key=lambda each: (each.start, inf if each.end is None else each.end))
    before = [
        {
            earlier
            for earlier in range(len(listed))
            if earlier != at
            and precedes(listed[earlier], listed[at])
            and (earlier < at or not precedes(listed[at], listed[earlier]))
        }
        for at in range(len(listed))
    ]
    return _try(listed, before, frozenset(range(len(listed))), {})


def _try(
    listed: Sequence[Operation],
    before: Sequence[set[int]],
    left: frozenset[int],
    states: dict[str, str | None],
) -> bool:
    if all(listed[at].end is None for at in left):
        return True
    for at in left:
        if before[at] & left:
            continue
        each = listed[at]
        answer, state = run(each, states.get(each.key))
        if (each.end is None or same(answer, each.result)) and _try(
            listed, before, left - {at}, states | {each.key: state}
        ):
            return True
    return False


def explains(order: Sequence[Operation], operations: Sequence[Operation]) -> bool:
    """Whether an order is a proof: all known operations are in it, real time holds, and the answers are right."""
    places = {id(each): at for at, each in enumerate(order)}
    if len(places) != len(order) or not places.keys() <= {id(each) for each in operations}:
        return False
    if any(each.end is not None and id(each) not in places for each in operations):
        return False
    latest_start = -inf
    for each in order:
        if each.end is not None and each.end < latest_start:
            return False
        latest_start = max(latest_start, each.start)
    state = None
    for each in order:
        answer, state = run(each, state)
        if each.end is not None and not same(answer, each.result):
            return False
    return True


VERBS: tuple[Verb, ...] = ("set", "get", "del", "cas", "append", "incr")


def question(
    chance: random.Random, client: int, key: str, verbs: Sequence[Verb], values: Sequence[str], start: float
) -> Operation:
    op = chance.choice(verbs)
    value = chance.choice(values) if op in ("set", "cas", "append") else None
    expected = chance.choice([None, *values]) if op == "cas" else None
    return Operation(client, op, key, value, expected, start, None, None)


def atomic(
    chance: random.Random,
    *,
    operations: int,
    keys: int = 1,
    clients: int = 3,
    unknown: float = 0.1,
    verbs: Sequence[Verb] = VERBS,
    values: Sequence[str] | None = None,
    rounded: bool = False,
) -> list[Operation]:
    """A legal history: every client asks an atomic register, which answers at a moment between start and end.

    An operation of unknown outcome takes effect at any time after its start, or never. Without `values`, each value that
    is written is a new one. `rounded` makes the clock so coarse that many times are equal.
    """
    asked: list[Operation] = []
    moments: list[tuple[float, int]] = []
    free = [chance.random() for _ in range(clients)]
    for number in range(operations):
        client = min(range(clients), key=free.__getitem__)
        start = free[client]
        end = start + chance.expovariate(1) + 1e-6
        one = question(
            chance, client, f"k{chance.randrange(keys)}", verbs, values or [f"v{number}", f"{number}"], start
        )
        if chance.random() < unknown:
            if chance.random() < 0.7:
                moments.append((start + chance.expovariate(0.3), number))
        else:
            one = replace(one, end=end)
            moments.append((chance.uniform(start, end), number))
        asked.append(one)
        free[client] = end + chance.expovariate(3) * chance.randrange(2)
    states: dict[str, str | None] = {}
    for _, number in sorted(moments):
        one = asked[number]
        answer, states[one.key] = run(one, states.get(one.key))
        if one.end is not None:
            asked[number] = replace(one, result=answer)
    if rounded:
        asked = [
            replace(one, start=round(one.start * 2), end=None if one.end is None else round(one.end * 2))
            for one in asked
        ]
    return asked
