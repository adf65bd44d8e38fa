"""Cycles in graphs of dependencies, and what each says about the isolation of transactions.

A node is a transaction, or a moment. An edge says that its source comes before its target in every order that explains the
history, and of which kind the reason is (Adya 1999; Kingsbury and Alvaro 2020):

    ww        the target appended directly behind what the source appended
    wr        the target read what the source appended last
    rw        the source read a list just before the target appended to it
    process   one client asked the one before the other
    time      the source ended before the target started

A cycle says that there is no such order. Which kinds it needs says which promise was broken, the weakest first:

    G0         ww only                      transactions write in between one another
    G1c        ww and wr                    information flows in a circle
    G-single   ww, wr and a single rw       a transaction saw a state, and something else of a later one
    G2         ww, wr and several rw        transactions do not see one another's writes (write skew)

A cycle that needs, besides, the order of a client's own transactions has "-process" behind its name, one that needs real time
"-realtime". For each such class, the first one first, the strongly connected components (Tarjan 1972) of the graph with its
edges are found, and each is told by the shortest cycle that a bounded search finds in it, if there is no other yet that is
as short. So what is told first breaks the weakest promise, and what is told last is the easiest to follow.

Real time. An edge from each transaction to all that started after its end would be up to n^2 edges. Instead the moments at
which something ended form a chain, and each transaction leads to the moment of its end and follows the last moment before its
start. These are at most three edges for each, and they lead from A to B if and only if A ended before B started. A moment
adds nothing to the length of a cycle, and is not shown.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Kind = Literal["ww", "wr", "rw", "process", "time"]

SEARCH_STEPS_MAX: Final = 300_000
"""Edges that one search for a short cycle looks at; beyond it, the first cycle found will do."""

STEPS_MAX: Final = 5_000_000
"""The same for all searches together."""

_CLASSES: Final[Sequence[tuple[Kind, ...]]] = [
    (*order, *data)
    for order in ((), ("process",), ("process", "time"))
    for data in (("ww",), ("ww", "wr"), ("ww", "wr", "rw"))
]


class Edge(NamedTuple):
    """That the source comes before the target, and why."""

    source: int
    target: int
    kind: Kind
    key: str = ""
    """The list that a ww, wr or rw is about."""
    at: int = 0
    """The place in the list of the element that the target appended (ww, rw) or read last (wr)."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """Each edge begins where the one before it ends, and the first where the last ends."""

    edges: tuple[Edge, ...]

    @property
    def name(self) -> str:
        kinds = [each.kind for each in self.edges]
        data = ("G0", "G-single", "G2")[min(kinds.count("rw"), 2)]
        if data == "G0" and "wr" in kinds:
            data = "G1c"
        return data + ("-realtime" if "time" in kinds else "-process" if "process" in kinds else "")


class Graph:
    """Transactions, numbered from 0, and what is known of their order."""

    def __init__(self, starts: Sequence[float], ends: Sequence[float | None]) -> None:
        """Make the nodes, and the edges of real time. A transaction without an end comes before nothing by its end."""
        self._starts = starts
        self._steps = 0
        moments = sorted({end for end in ends if end is not None})
        self._moments_from = len(starts)
        self.edges = [
            Edge(self._moments_from + at - 1, self._moments_from + at, "time")
            for at in range(1, len(moments))
        ]
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            before = bisect.bisect_left(moments, start)
            if before:
                self.edges.append(Edge(self._moments_from + before - 1, number, "time"))
            if end is not None:
                self.edges.append(Edge(number, self._moments_from + bisect.bisect_left(moments, end), "time"))
        self._size = self._moments_from + len(moments)

    def cycles(self) -> list[Cycle]:
        """One for each component of each class, as the module says."""
        home = self._homes(self.edges, range(self._size))
        suspects = [
            each for each in self.edges if home[each.source] and home[each.source] == home[each.target]
        ]
        nodes = sorted({each.source for each in suspects})
        found: list[Cycle] = []
        told: dict[int, int] = {}
        for kinds in _CLASSES if suspects else ():
            for inner in self._components([each for each in suspects if each.kind in kinds], nodes):
                as_short = min((told[each.source] for each in inner if each.source in told), default=None)
                cycle = self._cycle(inner, as_short)
                assert cycle is not None or as_short is not None, "a component has a cycle"
                if cycle is not None:
                    found.append(Cycle(tuple(cycle)))
                    told |= {each.source: len(cycle) for each in cycle}
        return found

    def _components(self, edges: Sequence[Edge], nodes: Sequence[int]) -> Iterable[list[Edge]]:
        """The edges inside of each component."""
        home = self._homes(edges, nodes)
        inner: dict[int, list[Edge]] = {}
        for each in edges:
            if home[each.source] and home[each.source] == home[each.target]:
                inner.setdefault(home[each.source], []).append(each)
        return inner.values()

    def _homes(self, edges: Iterable[Edge], nodes: Iterable[int]) -> list[int]:
        """For each node the number of its component, or 0 if it is alone in it."""
        out: list[list[int]] = [[] for _ in range(self._size)]
        for each in edges:
            out[each.source].append(each.target)
        home = [0] * self._size
        for number, component in enumerate(components(out, nodes), 1):
            for node in component:
                home[node] = number
        return home

    def _cycle(self, inner: Sequence[Edge], shorter_than: int | None) -> list[Edge] | None:
        """The cycle of a component by which it is told: with as few rw edges as can be, and then the shortest."""
        anti = [each for each in inner if each.kind == "rw"]
        single = self._shortest(anti, [each for each in inner if each.kind != "rw"], shorter_than)
        # In any order of the transactions, a cycle has an edge that goes back.
        back = [each for each in inner if self._goes_back(each)]
        return single or self._shortest(back, inner, shorter_than)

    def _goes_back(self, edge: Edge) -> bool:
        if edge.kind == "time":
            return False
        return (self._starts[edge.source], edge.source) > (self._starts[edge.target], edge.target)

    def _shortest(
        self, closing: Sequence[Edge], edges: Sequence[Edge], shorter_than: int | None
    ) -> list[Edge] | None:
        """The shortest cycle of one edge of `closing` and otherwise such of `edges`, as far as the steps allow."""
        out: dict[int, list[Edge]] = {}
        for each in edges:
            out.setdefault(each.source, []).append(each)
        best: list[Edge] | None = None
        steps_max = min(self._steps + SEARCH_STEPS_MAX, STEPS_MAX)
        # Where an edge goes far back in time, the cycle around it is most likely short.
        for last in sorted(closing, key=lambda each: self._starts[each.target] - self._starts[each.source]):
            path = self._path(last.target, last.source, out, shorter_than)
            if path is not None:
                best, shorter_than = [last, *path], len(path) + 1
            if self._steps > steps_max:
                break
        return best

    def _path(
        self, source: int, target: int, out: dict[int, list[Edge]], shorter_than: int | None
    ) -> list[Edge] | None:
        """A shortest path, without the moments on it: level by level, where a moment is on the level that led to it.
        The cycle that it closes with one more edge is to be shorter than something."""
        came_by: dict[int, Edge | None] = {source: None}
        level, length = [source], 0
        while level and (shorter_than is None or length + 2 < shorter_than):
            following: list[int] = []
            for node in level:
                for edge in out.get(node, ()):
                    self._steps += 1
                    if edge.target in came_by:
                        continue
                    came_by[edge.target] = edge
                    if edge.target == target:
                        return self._without_moments(_walk(came_by, target))
                    (level if edge.target >= self._moments_from else following).append(edge.target)
            level, length = following, length + 1
        return None

    def _without_moments(self, path: Iterable[Edge]) -> list[Edge]:
        shown: list[Edge] = []
        for edge in path:
            if edge.source >= self._moments_from:
                edge = Edge(shown.pop().source, edge.target, "time")
            shown.append(edge)
        return shown


def _walk(came_by: dict[int, Edge | None], target: int) -> list[Edge]:
    path: list[Edge] = []
    edge = came_by[target]
    while edge is not None:
        path.append(edge)
        edge = came_by[edge.source]
    return path[::-1]


def components(out: Sequence[Sequence[int]], nodes: Iterable[int]) -> Iterable[list[int]]:
    """Yield the strongly connected components of more than one node (Tarjan 1972).

    `order` numbers the nodes as they are met. `low` is the lowest number of an unfinished component that a node leads to.
    The recursion of the paper is a list here, since a path may be as long as the history.
    """
    order, low = [0] * len(out), [0] * len(out)
    pending: list[int] = []
    is_pending = bytearray(len(out))
    met = 0
    for root in nodes:
        if order[root]:
            continue
        path = [(root, iter(out[root]))]
        met += 1
        order[root] = low[root] = met
        pending.append(root)
        is_pending[root] = True
        while path:
            node, targets = path[-1]
            for target in targets:
                if not order[target]:
                    met += 1
                    order[target] = low[target] = met
                    pending.append(target)
                    is_pending[target] = True
                    path.append((target, iter(out[target])))
                    break
                if is_pending[target] and order[target] < low[node]:
                    low[node] = order[target]
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[node])
                if low[node] == order[node]:
                    at = len(pending) - 1
                    while pending[at] != node:
                        at -= 1
                    component = pending[at:]
                    del pending[at:]
                    for each in component:
                        is_pending[each] = False
                    if len(component) > 1:
                        yield component
