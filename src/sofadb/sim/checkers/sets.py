"""A set that only grows: is there an order of its adds and reads, in real time, in which reads show what was added before?

Each element is added once, and a read shows the whole set. Such a history is linearizable if and only if

1. what a read shows was added by an add that is not known to have failed, and that had started when the read ended;
2. of two reads, one shows all that the other shows: the set only grows;
3. what had certainly been added when a read took effect is in it. That is so of an element whose add was acknowledged, or
   that another read had shown, before this read started; or before the start of an add whose element this read shows,
   since it cannot have taken effect earlier than that.

An element that is missing by the third rule is *lost* if it was acknowledged and no later read shows it, *flickering* if an
earlier read had shown it, and otherwise *stale*. An acknowledged element that no read shows, and after whose add no read
started, cannot be judged, which is no pass. So a history should end with a read.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise

from .verdict import Asked, Findings, Verdict, by_element, short


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Asked):
    element: Hashable


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(Asked):
    """One that is not acknowledged says nothing."""

    elements: AbstractSet[Hashable]


@dataclass(frozen=True, slots=True)
class _Reading:
    read: Read
    not_before: float
    """It took effect at this time or later."""


def check(adds: Iterable[Add], reads: Iterable[Read]) -> Verdict:
    """Judge the history of one set, in any order of its operations. Counts elements that are ok (acknowledged and there at
    the end), recovered (of unknown outcome, and there), unknown (and nowhere), lost, stale, and so on.

    Raises:
        Unusable: an element is added twice.
    """
    by = by_element(adds, "add")
    answered = [each for each in reads if each.outcome == "ok"]
    findings = Findings()
    readings = [_Reading(each, _not_before(each, by)) for each in answered]
    readings.sort(key=lambda each: each.not_before)
    failed = [each for each in by.values() if each.outcome == "failed"]
    for reading in readings:
        _judge_presence(findings, by, failed, reading)
    _judge_growth(findings, answered)
    missing = _missing(by, readings)
    for element, add in by.items():
        if element in missing:
            _tell_missing(
                findings, add, missing[element], [each for each in readings if element in each.read.elements]
            )
    _count(findings, by, readings, missing)
    return findings.verdict()


def _not_before(read: Read, by: dict[Hashable, Add]) -> float:
    return max([read.start, *(by[each].start for each in read.elements if each in by)])


def _judge_presence(
    findings: Findings, by: dict[Hashable, Add], failed: Sequence[Add], reading: _Reading
) -> None:
    """The first rule."""
    read = reading.read
    for element in sorted(read.elements - by.keys(), key=repr):
        findings.problem("never added", f"{read.told('A read')} shows {short(element)}, which nobody added.")
    for add in failed:
        if add.element in read.elements:
            findings.problem(
                "failed but present",
                f"{read.told('A read')} shows {short(add.element)}, though {add.told('its add')} certainly failed.",
            )
    if reading.not_before > read.done_by:
        early = max((by[each] for each in read.elements if each in by), key=lambda each: each.start)
        findings.problem(
            "not yet added",
            f"{read.told('A read')} shows {short(early.element)} before {early.told('its add')} had begun.",
        )


def _judge_growth(findings: Findings, reads: Sequence[Read]) -> None:
    """The second rule."""
    by_size = sorted(reads, key=lambda each: len(each.elements))
    for smaller, larger in pairwise(by_size):
        if not smaller.elements <= larger.elements:
            findings.problem(
                "incomparable reads",
                f"{smaller.told('A read')} shows {_some(smaller.elements - larger.elements)} but not "
                f"{_some(larger.elements - smaller.elements)}, and {larger.told('another')} the other way round.",
            )


def _some(elements: AbstractSet[Hashable]) -> str:
    return short(min(elements, key=repr)) if elements else "anything else"


def _missing(by: dict[Hashable, Add], readings: Sequence[_Reading]) -> dict[Hashable, _Reading]:
    """For each element that is missing by the third rule the last read that misses it.

    One walk through the times at which reads took effect or later, with all that was certainly there at each.
    """
    there: set[Hashable] = set()
    by_end = [(each.done_by, [element]) for element, each in by.items() if each.done_by < math.inf]
    by_end += [(each.read.done_by, [*each.read.elements]) for each in readings]
    by_end.sort(key=lambda each: -each[0])
    missing: dict[Hashable, _Reading] = {}
    for reading in readings:
        while by_end and by_end[-1][0] < reading.not_before:
            there.update(by_end.pop()[1])
        for element in there - reading.read.elements:
            missing[element] = reading
    return missing


def _tell_missing(findings: Findings, add: Add, last: _Reading, shown: Sequence[_Reading]) -> None:
    """Give what is missing its name. `last` is the last read that misses it, `shown` are those that show it."""
    read = last.read
    shown_before = [each.read for each in shown if each.read.done_by < last.not_before]
    shown_after = [each.read for each in shown if each.not_before > last.not_before]
    what = f"{add.told(f'The add of {short(add.element)}')} is missing in {read.told('a read')}"
    if last.not_before > read.start:
        what += (
            f" (which took effect after {last.not_before}, when the add of an element that it shows began)"
        )
    if add.done_by < last.not_before and not shown_after:
        findings.problem("lost", f"{what}, and no later read shows it.")
    elif shown_before:
        findings.problem(
            "flickering", f"{what}, though {shown_before[0].told('an earlier one')} had shown it."
        )
    else:
        findings.problem("stale", f"{what}, and only {shown_after[0].told('a later one')} shows it.")


def _count(
    findings: Findings,
    by: dict[Hashable, Add],
    readings: Sequence[_Reading],
    missing: dict[Hashable, _Reading],
) -> None:
    seen: set[Hashable] = set().union(*(each.read.elements for each in readings))
    latest_start = max((each.read.start for each in readings), default=-math.inf)
    unread = 0
    for element, add in by.items():
        if element in missing:
            continue
        if element in seen:
            findings.count("ok" if add.outcome == "ok" else "recovered")
        elif add.outcome == "ok":
            unread += add.done_by >= latest_start
        else:
            findings.count(add.outcome)
    if unread:
        findings.count("unread", unread)
        findings.doubt(f"{unread:,} acknowledged adds are in no read, and none started after them.")
