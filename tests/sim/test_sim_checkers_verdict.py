"""What the checkers share: operations, verdicts, graphs. And what their tests share: schedules, and a naive twin.

A schedule says when clients ask, when they are answered, and at which moment in between (or, where nobody knows, later or
never) the database executes it. Executed in the order of these moments by anything that does one thing at a time, it
becomes a legal history.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, TypedDict, TypeVar

import pytest

from sofadb.sim.checkers.cycles import Edge, Graph, components
from sofadb.sim.checkers.verdict import SHOWN_MAX, Asked, Findings, Highest, Outcome, Unusable, by_element


class Times(TypedDict):
    client: int
    start: float
    end: float | None
    outcome: Outcome


@dataclass(frozen=True)
class Slot:
    """One operation of a schedule. It is executed at `moment`, or never."""

    times: Times
    moment: float | None

    @property
    def is_ok(self) -> bool:
        return self.times["outcome"] == "ok"


def at(client: int, start: float, end: float | None, outcome: Outcome | None = None) -> Times:
    """Unknown without an end, else ok, if nothing else is said."""
    return {
        "client": client,
        "start": start,
        "end": end,
        "outcome": outcome or ("unknown" if end is None else "ok"),
    }


def schedule(
    chance: random.Random,
    operations: int,
    clients: int = 4,
    unknown: float = 0.1,
    failed: float = 0.05,
    coarse: bool = False,
) -> list[Slot]:
    """Each client asks again when it has its answer, or has given up waiting.

    `coarse` is for a clock that ticks twice a second: many times are equal, and say nothing.
    """
    slots = []
    free = [chance.random() for _ in range(clients)]
    for _ in range(operations):
        client = min(range(clients), key=free.__getitem__)
        start = free[client]
        end = start + chance.expovariate(1) + 1e-6
        draw = chance.random()
        if draw < unknown:
            moment = start + chance.expovariate(0.3) if chance.random() < 0.7 else None
            slots.append(Slot(at(client, start, None), moment))
        elif draw < unknown + failed:
            slots.append(Slot(at(client, start, end, "failed"), None))
        else:
            slots.append(Slot(at(client, start, end), chance.uniform(start, end)))
        free[client] = end + chance.expovariate(3) * chance.randrange(2)
    return [replace(each, times=ticked(each.times)) for each in slots] if coarse else slots


def ticked(times: Times) -> Times:
    end = times["end"]
    return at(
        times["client"],
        round(times["start"] * 2) / 2,
        None if end is None else round(end * 2) / 2,
        times["outcome"],
    )


def executed(slots: Sequence[Slot]) -> list[int]:
    """The numbers of those that are executed, in their order."""
    return [
        number
        for _, number in sorted((each.moment, at) for at, each in enumerate(slots) if each.moment is not None)
    ]


def after(slots: Sequence[Slot]) -> float:
    """A time when all was answered that ever will be. What is unknown may still be executed."""
    return max(each.times["end"] or each.times["start"] for each in slots) + 1


Op = TypeVar("Op", bound=Asked)
Run = Callable[[Op, Any], Any]
"""The state after an operation, or None if it cannot have been answered like that. States are never None."""


def has_an_order(operations: Iterable[Op], run: Run[Op], state: Any, clients: bool = False) -> bool:
    """The naive twin of all checkers: try every order that real time allows. What failed does not run, what is unknown may.

    With `clients`, those of one client keep their order even where one starts at the instant at which the other ended.
    """

    def precedes(one: Op, two: Op) -> bool:
        left_at = two.start if two.end is None else two.end
        same = clients and one.client == two.client and left_at > one.start
        return one.done_by < two.start or (same and one.done_by == two.start)

    left = [each for each in operations if each.outcome != "failed"]

    def search(left: list[Op], state: Any) -> bool:
        if all(each.outcome == "unknown" for each in left):
            return True
        for number, each in enumerate(left):
            if not any(precedes(other, each) for other in left):
                following = run(each, state)
                if following is not None and search(left[:number] + left[number + 1 :], following):
                    return True
        return False

    return search(left, state)


# The base


def test_an_operation_is_unknown_if_and_only_if_it_has_no_end() -> None:
    Asked(client=1, start=1, end=1)
    Asked(client=1, start=1, outcome="unknown")
    for wrong in (
        at(1, 1, None, "ok"),
        at(1, 1, None, "failed"),
        at(1, 1, 2, "unknown"),
        at(1, 2, 1),
        at(1, 0, inf),
    ):
        with pytest.raises(Unusable):
            Asked(**wrong)
    with pytest.raises(Unusable, match="not 'fine'"):
        Asked(client=1, start=1, end=2, outcome="fine")  # type: ignore[arg-type]


def test_only_what_was_acknowledged_is_done_by_its_end() -> None:
    ends = [Asked(**times).done_by for times in (at(1, 1, 2), at(1, 1, 2, "failed"), at(1, 1, None))]
    assert ends == [2, inf, inf]


def test_a_verdict_is_true_only_without_problems_and_doubts() -> None:
    findings = Findings()
    findings.count("reads", 7)
    assert findings.verdict()
    assert str(findings.verdict()) == "passed: 7 reads"
    findings.doubt("Nobody looked.")
    assert not findings.verdict()
    assert str(findings.verdict()) == "cannot tell: 7 reads\n\ncannot tell: Nobody looked."
    findings.problem("lost", "It is gone.")
    assert not findings.verdict()
    assert str(findings.verdict()).startswith("broken: 7 reads, 1 lost\n\nlost: It is gone.\n\ncannot tell")
    assert findings.verdict().names == {"lost"}


def test_all_problems_are_counted_and_some_are_shown() -> None:
    findings = Findings()
    for number in range(1000):
        findings.problem("lost", f"{number}")
    findings.problem("stale", "another")
    verdict = findings.verdict()
    assert len(verdict.problems) == SHOWN_MAX + 1
    assert verdict.counts == {"lost": 1000, "stale": 1}


def test_the_highest_so_far_is_what_a_walk_through_all_finds() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        things = [(chance.choice([1, 2, 3, inf]), chance.randrange(5)) for _ in range(chance.randrange(8))]
        highest = Highest(things, lambda thing: thing[0], lambda thing: thing[1])
        for time in (0, 1, 1.5, 2, 3, 4, inf):
            found = highest.before(time)
            there = [thing[1] for thing in things if thing[0] < time and thing[0] < inf]
            assert (None if found is None else found[1]) == max(there, default=None)


def test_an_element_belongs_to_one_operation() -> None:
    @dataclass
    class Put:
        element: int

    one, two = Put(1), Put(2)
    assert by_element([one, two], "put") == {1: one, 2: two}
    with pytest.raises(Unusable, match="two operations put 1"):
        by_element([one, two, Put(1)], "put")


# Graphs


def reachable(out: Sequence[Sequence[int]], source: int) -> set[int]:
    seen: set[int] = set()
    left = [source]
    while left:
        for target in out[left.pop()]:
            if target not in seen:
                seen.add(target)
                left.append(target)
    return seen


def test_components_are_the_nodes_that_reach_one_another() -> None:
    for seed in range(500):
        chance = random.Random(seed)
        size = chance.randint(1, 12)
        out = [[chance.randrange(size) for _ in range(chance.choice([0, 1, 1, 2]))] for _ in range(size)]
        reach = [reachable(out, node) for node in range(size)]
        expected = {
            frozenset(other for other in range(size) if other in reach[node] and node in reach[other])
            for node in range(size)
        }
        found = [frozenset(each) for each in components(out, range(size))]
        assert len(found) == len(set(found))
        assert set(found) == {each for each in expected if len(each) > 1}


def test_a_path_as_long_as_the_history_is_no_recursion() -> None:
    size = 50_000
    ring = [[(node + 1) % size] for node in range(size)]
    assert [len(each) for each in components(ring, range(size))] == [size]


def test_the_chain_of_moments_is_real_time() -> None:
    """With a ww edge back, there is a cycle if and only if the one ended before the other started."""
    for seed in range(500):
        chance = random.Random(seed)
        starts = [float(chance.randrange(12)) for _ in range(6)]
        ends = [None if chance.random() < 0.2 else start + chance.randrange(4) for start in starts]
        one, two = chance.sample(range(6), 2)
        graph = Graph(starts, ends)
        graph.edges.append(Edge(two, one, "ww", "x", 1))
        end = ends[one]
        expected = (
            [("G0-realtime", {(two, one, "ww"), (one, two, "time")})]
            if end is not None and end < starts[two]
            else []
        )
        assert [(each.name, {edge[:3] for edge in each.edges}) for each in graph.cycles()] == expected


def test_a_cycle_of_an_early_class_is_told_beside_a_shorter_one() -> None:
    """T0 to T3 happen one after the other, T0 and T1 by one client; T3 has an edge back to T0."""
    graph = Graph([0, 2, 4, 6], [1, 3, 5, 7])
    graph.edges += [Edge(0, 1, "process"), Edge(1, 2, "wr"), Edge(2, 3, "ww"), Edge(3, 0, "rw")]
    kinds = [(each.name, [edge.kind for edge in each.edges]) for each in graph.cycles()]
    assert kinds == [
        ("G-single-process", ["rw", "process", "wr", "ww"]),
        ("G-single-realtime", ["rw", "time"]),
    ]


def test_a_cycle_by_a_clients_order_alone_is_not_told_twice() -> None:
    graph = Graph([1, 2], [2, 3])
    graph.edges += [Edge(0, 1, "process"), Edge(1, 0, "rw")]
    assert [each.name for each in graph.cycles()] == ["G-single-process"]


def test_each_component_is_told_by_the_shortest_cycle_of_the_first_class() -> None:
    graph = Graph([0.0] * 9, [None] * 9)
    ring = [Edge(0, 1, "ww"), Edge(1, 2, "ww"), Edge(2, 3, "ww"), Edge(3, 0, "ww")]
    graph.edges += [*ring, Edge(2, 0, "ww"), Edge(2, 1, "rw")]
    graph.edges += [Edge(4, 5, "rw"), Edge(5, 6, "wr"), Edge(6, 4, "rw"), Edge(5, 4, "wr")]
    graph.edges += [Edge(7, 8, "rw"), Edge(8, 7, "rw")]
    told = [(each.name, sorted(edge.source for edge in each.edges)) for each in graph.cycles()]
    assert told == [("G0", [0, 1, 2]), ("G-single", [1, 2]), ("G-single", [4, 5]), ("G2", [7, 8])]
