"""A queue: what goes in comes out once, and in order.

Each element is pushed once. A pop takes the first element, or finds the queue empty; if its outcome is unknown, it may have taken
one, which nobody saw. The history should end with a drain: pops by one client until the queue is empty. Then

1. nothing comes out twice;
2. nothing comes out that was not pushed: by nobody, by a push that certainly failed, or by one that started after the pop
   had ended;
3. what was acknowledged before the drain comes out, but for as many elements as there are pops of unknown outcome;
4. first in, first out: if the push of a had ended before that of b started, then b's pop did not end before a's started
   (and a drain does not show b before a);
5. no pop finds the queue empty while something is certainly in it: an element whose push had been acknowledged before the pop
   started, and that came out of a pop that started after it had ended, or that never came out, where there are too few pops of
   unknown outcome to have taken it.

Acknowledged elements that did not come out, where there is no drain after them, cannot be judged, which is no pass.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .verdict import Asked, Findings, Highest, Verdict, by_element, short


@dataclass(frozen=True, slots=True, kw_only=True)
class Push(Asked):
    element: Hashable


@dataclass(frozen=True, slots=True, kw_only=True)
class Pop(Asked):
    element: Hashable = None
    """What came out; None if the queue was empty. It means nothing unless the outcome is "ok"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain(Asked):
    """Pops, one after the other, until the queue was empty."""

    elements: Sequence[Hashable]


@dataclass(frozen=True, slots=True)
class _Passed:
    """An element that went in and came out."""

    push: Push
    pop: Pop


def check(pushes: Iterable[Push], pops: Iterable[Pop], drain: Drain | None = None) -> Verdict:
    """Judge the history of one queue, in any order of its operations.

    Raises:
        Unusable: an element is pushed twice.
    """
    pushed = by_element(pushes, "push")
    every_pop = list(pops)
    if drain is not None and drain.outcome != "ok":
        drain = None
    if drain is not None:
        every_pop += [
            Pop(client=drain.client, start=drain.start, end=drain.end, element=each)
            for each in drain.elements
        ]
    findings = Findings()
    passed = _passed(
        findings, pushed, [each for each in every_pop if each.outcome == "ok" and each.element is not None]
    )
    unknown = sorted(each.start for each in every_pop if each.outcome == "unknown")
    kept = sorted(
        (each for element, each in pushed.items() if each.outcome == "ok" and element not in passed),
        key=lambda each: each.done_by,
    )
    findings.count("popped", len(passed))
    findings.count("pops of unknown outcome", len(unknown))
    _judge_rest(findings, kept, len(unknown), drain)
    _judge_order(findings, list(passed.values()))
    if drain is not None:
        _judge_drain(findings, [passed[each].push for each in drain.elements if each in passed])
    empty = [each for each in every_pop if each.outcome == "ok" and each.element is None]
    _judge_empty(findings, empty, list(passed.values()), kept, unknown)
    return findings.verdict()


def _passed(
    findings: Findings, pushed: Mapping[Hashable, Push], pops: Sequence[Pop]
) -> dict[Hashable, _Passed]:
    """The first two rules."""
    passed: dict[Hashable, _Passed] = {}
    for pop in pops:
        push = pushed.get(pop.element)
        out = pop.told(f"{short(pop.element)} came out")
        if push is None:
            findings.problem("never pushed", f"{out}, but nobody pushed it.")
        elif push.outcome == "failed":
            findings.problem("failed but popped", f"{out}, but {push.told('its push')} certainly failed.")
        elif push.start > pop.done_by:
            findings.problem("not yet pushed", f"{out}, before {push.told('its push')} had begun.")
        elif pop.element in passed:
            findings.problem("popped twice", f"{out}, and {passed[pop.element].pop.told('before')}, too.")
        else:
            passed[pop.element] = _Passed(push, pop)
    return passed


def _judge_rest(findings: Findings, kept: Sequence[Push], unknown: int, drain: Drain | None) -> None:
    """The third rule. `kept` was acknowledged and did not come out."""
    drained_at = drain.start if drain is not None else -math.inf
    due = [each for each in kept if each.done_by < drained_at]
    if len(due) > unknown:
        findings.count("did not come out", len(due))
        findings.problem(
            "lost",
            f"{len(due):,} acknowledged elements never came out, and only {unknown:,} pops of unknown outcome may have taken "
            f"some of them. One is {due[0].told(short(due[0].element))}.",
        )
    if len(due) < len(kept):
        findings.doubt(
            f"{len(kept) - len(due):,} acknowledged elements did not come out, and no drain started after them."
        )


def _judge_order(findings: Findings, passed: Sequence[_Passed]) -> None:
    """The fourth rule: for each b, the latest pop of those a whose push had ended before."""
    latest = Highest(passed, lambda each: each.push.done_by, lambda each: each.pop.start)
    for each in sorted(passed, key=lambda each: each.push.start):
        first = latest.before(each.push.start)
        if first is not None and first.pop.start > each.pop.done_by:
            _out_of_order(
                findings,
                first.push,
                each.push,
                f"{each.pop.told('it')} came out before {first.pop.told('the other')}",
            )


def _judge_drain(findings: Findings, pushes: Sequence[Push]) -> None:
    """The fourth rule within a drain."""
    last: Push | None = None
    for each in pushes:
        if last is not None and each.done_by < last.start:
            _out_of_order(findings, each, last, "it came out before the other in the drain")
        if last is None or each.start > last.start:
            last = each


def _out_of_order(findings: Findings, first: Push, second: Push, what: str) -> None:
    findings.problem(
        "out of order",
        f"{second.told(f'{short(second.element)}, pushed')} after {first.told(f'{short(first.element)}, pushed')}: {what}.",
    )


def _judge_empty(
    findings: Findings,
    empty: Sequence[Pop],
    passed: Sequence[_Passed],
    kept: Sequence[Push],
    unknown: Sequence[float],
) -> None:
    """The fifth rule."""
    latest = Highest(passed, lambda each: each.push.done_by, lambda each: each.pop.start)
    kept_since = [each.done_by for each in kept]
    for pop in sorted(empty, key=lambda each: each.start):
        inside = latest.before(pop.start)
        if inside is not None and inside.pop.start > pop.done_by:
            what = f"{inside.push.told(f'{short(inside.push.element)}, pushed')}, came out later, {inside.pop.told('popped')}"
        else:
            there, taken = (
                bisect.bisect_left(kept_since, pop.start),
                bisect.bisect_right(unknown, pop.done_by),
            )
            if there <= taken:
                continue
            one = kept[0].told(short(kept[0].element))
            what = (
                f"at most {taken:,} of {there:,} elements that never came out can have been taken, like {one}"
            )
        findings.problem("not empty", f"{pop.told('A pop')} found the queue empty, but {what}.")
