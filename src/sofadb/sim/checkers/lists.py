"""Lists that transactions append to and read: could the transactions have run one after the other, in the order of real time?

Theory (Kingsbury and Alvaro 2020, "Elle: Inferring Isolation Anomalies from Experimental Observations"). Each element is
appended to a list once. So a list that was read tells which transactions wrote it, and in which order: the longest read of
a list is the order of its versions, and any other read must be a beginning of it. From these orders follow dependencies
between transactions (`cycles` says which), and a history is wrong if they form a cycle. Some anomalies need no cycle:

    never appended           a read holds an element that nobody appended
    aborted read             (G1a) a read holds an element of a transaction that was certainly never executed
    intermediate read        (G1b) a read ends within what another transaction appended to the list
    internal inconsistency   a read contradicts what its own transaction read or appended before
    duplicate element        a read holds an element twice
    incompatible orders      two reads of a list, none of which is a beginning of the other
    torn appends             a read holds what one transaction appended to the list in another order, or with a gap
    lost update              two transactions read the same version of a list and then both appended to it
    lost append              an acknowledged append is missing in a read of the list that started after it had ended

A transaction of unknown outcome was executed if somebody read what it appended. It then follows what had ended before it
started, but comes before nothing by its end; and its appends that no read holds came behind all that any read holds. (Of the
readers of a list's last version, an edge from each client's last one is enough.) Otherwise it was perhaps never executed, and
no dependency follows from it.

An acknowledged append that no read holds is a lost append if its list was read afterwards. If it was not, this checker cannot
tell, which is no pass. So a history should end with reads of all lists.

A list of which a read holds what nobody appended has no order worth a dependency. It is a problem already.
The time taken is linear in the reads and what they hold, but for sorting.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, Literal

from .cycles import Edge, Graph
from .verdict import Asked, Findings, Highest, Unusable, Verdict, short

Element = int | str
Step = tuple[Literal["append"], str, Element] | tuple[Literal["read"], str, Sequence[Element] | None]
"""What was read is None where nobody knows. A list that is not there is empty."""

_MEANING: Final[Mapping[str, str]] = {
    "G0": "transactions write in between one another",
    "G1c": "information flows in a circle",
    "G-single": "a transaction saw some of what came before it and missed some",
    "G2": "transactions did not see one another's writes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction(Asked):
    """Appends and reads that are executed as one. Transactions of one client do not overlap, but for unknown ones."""

    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class _Reading:
    """A read of a list. `own_from` is where at its end begins what the transaction itself had appended."""

    number: int
    elements: tuple[Element, ...]
    own_from: int
    is_first: bool
    """No other of the transaction came before, and this one is consistent: dependencies follow from it."""
    is_update: bool
    """The transaction had not appended to the list before it read, and did afterwards."""


@dataclass(slots=True)
class _List:
    """All that is known of one list."""

    writers: dict[Element, int] = field(default_factory=dict)
    appends: dict[int, list[Element]] = field(default_factory=dict)
    """For each transaction, what it appended, in order."""
    readings: list[_Reading] = field(default_factory=list)
    order: tuple[Element, ...] = ()
    """The longest read without duplicates."""
    seen: set[Element] = field(default_factory=set)
    """What any read holds."""
    beginnings: list[_Reading] = field(default_factory=list)
    """Those that `order` begins with."""
    unseen: tuple[Element, ...] = ()
    """Appends of unknown outcome that were executed and that no read holds, so that they came behind `order`."""


def check(transactions: Iterable[Transaction]) -> Verdict:
    """Judge a history, in any order of its transactions. Explanations number them as they are given, from 0.

    Raises:
        Unusable: an element is appended twice, an acknowledged read has no result, or a client's transactions overlap.
    """
    return _Lists(tuple(transactions)).verdict()


class _Lists:
    def __init__(self, transactions: Sequence[Transaction]) -> None:
        self._transactions = transactions
        self._lists: dict[str, _List] = {}
        self._findings = Findings()
        self._findings.count("transactions", len(transactions))

    def verdict(self) -> Verdict:
        for number, each in enumerate(self._transactions):
            self._note_appends(number, each)
        for number, each in enumerate(self._transactions):
            if each.outcome == "ok":
                self._note_reads(number, each)
        edges = self._process_edges()
        for key, noted in self._lists.items():
            self._find_order(key, noted)
        executed = self._executed_though_unknown()
        for key, noted in self._lists.items():
            self._find_lost_appends(key, noted)
            if all(element in noted.writers for element in noted.order):
                self._find_torn_appends(key, noted)
                self._find_intermediate_reads(key, noted)
                self._find_lost_updates(key, noted)
                noted.unseen = tuple(
                    each
                    for each, writer in noted.writers.items()
                    if writer in executed and each not in noted.seen
                )
                edges += self._data_edges(key, noted)
        self._find_cycles(edges)
        return self._findings.verdict()

    # What each transaction did

    def _note_appends(self, number: int, transaction: Transaction) -> None:
        for step in transaction.steps:
            if step[0] == "append":
                _, key, element = step
                noted = self._lists.setdefault(key, _List())
                if element in noted.writers:
                    raise Unusable(f"{element!r} is appended to {key!r} twice")
                noted.writers[element] = number
                noted.appends.setdefault(number, []).append(element)

    def _note_reads(self, number: int, transaction: Transaction) -> None:
        """Note what was read, and look at whether each read agrees with what the transaction itself did before."""
        expected: dict[str, tuple[Element, ...]] = {}
        own: dict[str, tuple[Element, ...]] = {}
        yet_to_come: dict[str, list[Element]] = {}
        for step in reversed(transaction.steps):
            if step[0] == "append":
                yet_to_come.setdefault(step[1], []).append(step[2])
        for step in transaction.steps:
            if step[0] == "append":
                _, key, element = step
                own[key] = (*own.get(key, ()), yet_to_come[key].pop())
                if key in expected:
                    expected[key] = (*expected[key], element)
                continue
            _, key, result = step
            if result is None:
                raise Unusable(f"an acknowledged read of {key!r} has no result: {transaction}")
            noted = self._lists.setdefault(key, _List())
            elements, mine = tuple(result), own.get(key, ())
            own_from = max(0, len(elements) - len(mine))
            later = yet_to_come.get(key, ())
            if key in expected:
                agrees = elements == expected[key]
            else:
                agrees = elements[own_from:] == mine and not any(each in elements for each in later)
            if not agrees:
                self._inconsistent(number, key, elements, expected.get(key), mine)
            is_first = agrees and key not in expected
            is_update = is_first and not mine and bool(later)
            noted.readings.append(_Reading(number, elements, own_from, is_first, is_update))
            expected[key] = elements

    def _inconsistent(
        self,
        number: int,
        key: str,
        elements: Sequence[Element],
        expected: Sequence[Element] | None,
        mine: Sequence[Element],
    ) -> None:
        if expected is not None:
            wanted = f"{short(list(expected))}, by what it had read and appended before"
        else:
            wanted = f"a list that ends with {short(list(mine))}, its own appends so far, and has none of its later ones"
        self._findings.problem(
            "internal inconsistency",
            f"{self._who(number)} read {short(key)} as {short(list(elements))}, not as {wanted}.",
        )

    def _process_edges(self) -> list[Edge]:
        """One client's transactions, in order. What it left behind with an unknown outcome may yet be executed."""
        last: dict[int, int] = {}
        edges = []
        numbers = range(len(self._transactions))
        for number in sorted(numbers, key=lambda at: (self._transactions[at].start, self._left_at(at))):
            each = self._transactions[number]
            before = last.get(each.client)
            if before is not None:
                if each.start < self._left_at(before):
                    raise Unusable(f"transactions of a client overlap: {self._transactions[before]}, {each}")
                # By a coarse clock, both may begin and end at the same instant. Then nobody knows which came first.
                if self._left_at(number) > self._transactions[before].start:
                    edges.append(Edge(before, number, "process"))
            if each.outcome == "ok":
                last[each.client] = number
        return edges

    def _left_at(self, number: int) -> float:
        """When the client may have gone on: it may have given up on what is unknown at once."""
        each = self._transactions[number]
        return each.start if each.end is None else each.end

    # What each list says

    def _find_order(self, key: str, noted: _List) -> None:
        """Find the order of the versions, and the reads that contradict it."""
        longest: _Reading | None = None
        for reading in sorted(noted.readings, key=lambda each: -len(each.elements)):
            elements = reading.elements
            if elements == noted.order[: len(elements)]:
                noted.beginnings.append(reading)
                continue
            if len(set(elements)) < len(elements):
                self._duplicate(key, reading)
            elif longest is None:
                longest, noted.order = reading, elements
                noted.beginnings.append(reading)
            else:
                self._incompatible(key, longest, reading)
            for element in elements:
                if element not in noted.seen:
                    noted.seen.add(element)
                    self._look_for_writer(key, noted, reading, element)

    def _look_for_writer(self, key: str, noted: _List, reading: _Reading, element: Element) -> None:
        writer = noted.writers.get(element)
        if writer is not None and self._transactions[writer].outcome != "failed":
            return
        seen = f"{self._who(reading.number)} read {short(element)} in {short(key)}"
        if writer is None:
            self._findings.problem("never appended", f"{seen}, but no transaction appended it.")
        else:
            why = f"{self._who(writer)}, which appended it, was certainly never executed"
            self._findings.problem("aborted read", f"{seen}, but {why}.")

    def _executed_though_unknown(self) -> set[int]:
        writers = (noted.writers.get(each) for noted in self._lists.values() for each in noted.seen)
        return {
            each for each in writers if each is not None and self._transactions[each].outcome == "unknown"
        }

    def _duplicate(self, key: str, reading: _Reading) -> None:
        twice = next(each for at, each in enumerate(reading.elements) if each in reading.elements[:at])
        self._findings.problem(
            "duplicate element",
            f"{self._who(reading.number)} read {short(key)} as {short(list(reading.elements))}, with {short(twice)} twice, "
            f"though it was appended once.",
        )

    def _incompatible(self, key: str, longest: _Reading, other: _Reading) -> None:
        pairs = zip(longest.elements, other.elements, strict=False)
        at = next(at for at, (one, two) in enumerate(pairs) if one != two)
        self._findings.problem(
            "incompatible orders",
            f"{self._who(longest.number)} read {short(key)} with {short(longest.elements[at])} in place {at}, and "
            f"{self._who(other.number)} with {short(other.elements[at])}, though lists only grow at their ends.",
        )

    def _find_lost_appends(self, key: str, noted: _List) -> None:
        places = {element: at for at, element in enumerate(noted.order)}
        by_start = Highest(
            noted.beginnings,
            lambda each: -self._transactions[each.number].start,
            lambda each: -len(each.elements),
        )
        unread = 0
        lost: dict[int, list[tuple[int, Element, _Reading]]] = {}
        for element, writer in noted.writers.items():
            end = self._transactions[writer].done_by
            if end == math.inf:
                continue
            shortest = by_start.before(-end)
            if shortest is not None and len(shortest.elements) <= places.get(element, math.inf):
                lost.setdefault(shortest.number, []).append((writer, element, shortest))
            elif shortest is None and element not in noted.seen:
                unread += 1
        for missing in lost.values():
            writer, element, reading = missing[0]
            others = f" {len(missing) - 1:,} others are missing in it, too." if missing[1:] else ""
            self._findings.problem(
                "lost append",
                f"{self._who(writer)} appended {short(element)} to {short(key)}, and {self._who(reading.number)} afterwards "
                f"read {short(list(reading.elements))}.{others}",
            )
        if unread:
            self._findings.count("unread appends", unread)
            self._findings.doubt(
                f"{unread:,} acknowledged appends to {short(key)} were not read, nor was it read after them."
            )

    def _find_torn_appends(self, key: str, noted: _List) -> None:
        following = {writer: iter(elements) for writer, elements in noted.appends.items()}
        for element in noted.order:
            writer = noted.writers[element]
            due = next(following[writer])
            if due != element:
                self._findings.problem(
                    "torn appends",
                    f"{self._who(noted.beginnings[0].number)} read {short(key)} as {short(list(noted.order))}, without "
                    f"{short(due)} before {short(element)}, though {self._who(writer)} appended them in that order.",
                )
                return

    def _find_intermediate_reads(self, key: str, noted: _List) -> None:
        for reading in noted.readings:
            if not reading.is_first or not reading.own_from:
                continue
            element = reading.elements[reading.own_from - 1]
            writer = noted.writers.get(element)
            if writer is not None and noted.appends[writer][-1] != element:
                self._findings.problem(
                    "intermediate read",
                    f"{self._who(reading.number)} read {short(key)} up to {short(element)}, but {self._who(writer)}, which "
                    f"appended it, had yet to append {short(noted.appends[writer][-1])}.",
                )

    def _find_lost_updates(self, key: str, noted: _List) -> None:
        first: dict[int, int] = {}
        for reading in noted.beginnings:
            if reading.is_update:
                other = first.setdefault(len(reading.elements), reading.number)
                if other != reading.number:
                    self._findings.problem(
                        "lost update",
                        f"{self._who(other)} and {self._who(reading.number)} both read {short(key)} as "
                        f"{short(list(reading.elements))} and then appended to it.",
                    )

    def _data_edges(self, key: str, noted: _List) -> list[Edge]:
        writers = [noted.writers[each] for each in noted.order]
        edges = [
            Edge(writers[at - 1], writers[at], "ww", key, at)
            for at in range(1, len(writers))
            if writers[at - 1] != writers[at]
        ]
        last_readers: dict[int, int] = {}
        for reading in noted.beginnings:
            if not reading.is_first:
                continue
            at, reader = reading.own_from, reading.number
            if at and writers[at - 1] != reader:
                edges.append(Edge(writers[at - 1], reader, "wr", key, at - 1))
            if at < len(writers):
                if writers[at] != reader:
                    edges.append(Edge(reader, writers[at], "rw", key, at))
            elif noted.unseen:
                client = self._transactions[reader].client
                last_readers[client] = max(reader, last_readers.get(client, reader), key=self._start)
        for at, element in enumerate(noted.unseen, len(writers)):
            edges += [Edge(each, noted.writers[element], "rw", key, at) for each in last_readers.values()]
        return edges

    def _start(self, number: int) -> float:
        return self._transactions[number].start

    # What they say together

    def _find_cycles(self, edges: Iterable[Edge]) -> None:
        ends = [each.end if each.outcome == "ok" else None for each in self._transactions]
        graph = Graph([each.start for each in self._transactions], ends)
        graph.edges.extend(edges)
        for cycle in graph.cycles():
            meaning = _MEANING[cycle.name.removesuffix("-process").removesuffix("-realtime")]
            who = "; ".join(self._who(each.source) for each in sorted(cycle.edges, key=itemgetter(0)))
            why = "; ".join(self._in_words(each) for each in cycle.edges)
            self._findings.problem(cycle.name, f"{meaning}. No order fits: {why}. These are {who}.")

    def _in_words(self, edge: Edge) -> str:
        one, two = f"T{edge.source}", f"T{edge.target}"
        if edge.kind == "process":
            return f"one client asked {one} before {two}"
        if edge.kind == "time":
            end, start = self._transactions[edge.source].end, self._transactions[edge.target].start
            return f"{one} ended at {end}, before {two} started at {start}"
        noted = self._lists[edge.key]
        key, order = short(edge.key), (*noted.order, *noted.unseen)
        if edge.kind == "wr":
            return f"{two} read {key} up to {short(order[edge.at])}, which {one} appended"
        if edge.kind == "rw":
            return f"{one} read {key} just before {two} appended {short(order[edge.at])}"
        return f"{two} appended {short(order[edge.at])} to {key} behind {short(order[edge.at - 1])} of {one}"

    def _who(self, number: int) -> str:
        return self._transactions[number].told(f"T{number}")
