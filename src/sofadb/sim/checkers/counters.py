"""A counter whose increments are tried again until they are answered, and yet are executed once.

Each increment adds one and has an id; all attempts with the same id are the same increment. Therefore

1. all replies for one id are equal, at whichever attempt they came;
2. a read shows at least the number of ids that were acknowledged before it started, and at most the number of ids with an
   attempt that had started when it ended and is not known to have failed;
3. a read shows no less than one that had ended before it started.

After everything was answered the two limits of the second rule are equal: then the value is the number of ids that were executed.

A history with acknowledged increments after which no read started cannot be judged, which is no pass.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .verdict import Asked, Findings, Highest, Verdict, short


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(Asked):
    """One attempt of an increment. Its outcome is that of this attempt: if failed, another one may yet have been executed."""

    id: str
    reply: int | None = None
    """What an acknowledged attempt was answered, whatever that means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(Asked):
    """One that is not acknowledged says nothing."""

    value: int


def check(attempts: Iterable[Attempt], reads: Iterable[Read], initial: int = 0) -> Verdict:
    """Judge the history of one counter, in any order of its operations. `initial` is its value before all of them."""
    by_id: dict[str, list[Attempt]] = {}
    for each in attempts:
        if each.outcome != "failed":
            by_id.setdefault(each.id, []).append(each)
    answered = sorted((each for each in reads if each.outcome == "ok"), key=lambda each: each.start)
    findings = Findings()
    findings.count("ids", len(by_id))
    findings.count("attempts", sum(map(len, by_id.values())))
    findings.count("reads", len(answered))
    for tried in by_id.values():
        _judge_replies(findings, tried)
    _judge_limits(findings, list(by_id.values()), answered, initial)
    _judge_order(findings, answered)
    return findings.verdict()


def _judge_replies(findings: Findings, tried: Sequence[Attempt]) -> None:
    replied = [each for each in tried if each.outcome == "ok"]
    for each in replied[1:]:
        if each.reply != replied[0].reply:
            findings.problem(
                "different replies",
                f"{replied[0].told(f'An attempt of {short(each.id)}')} was answered {replied[0].reply}, and "
                f"{each.told('another')} {each.reply}.",
            )


def _judge_limits(
    findings: Findings, increments: Sequence[Sequence[Attempt]], reads: Sequence[Read], initial: int
) -> None:
    done = sorted(min(each.done_by for each in tried) for tried in increments)
    started = sorted(min(each.start for each in tried) for tried in increments)
    for read in reads:
        lowest = bisect.bisect_left(done, read.start)
        highest = bisect.bisect_right(started, read.done_by)
        if read.value < initial + lowest:
            findings.problem(
                "increment lost",
                f"{read.told('A read')} shows {read.value}, though {lowest:,} increments had been acknowledged before it "
                f"started, so that it is {initial + lowest} or more.",
            )
        elif read.value > initial + highest:
            findings.problem(
                "counted twice",
                f"{read.told('A read')} shows {read.value}, though only {highest:,} increments had been tried when it ended, "
                f"so that it is {initial + highest} or less.",
            )
    latest_start = max((each.start for each in reads), default=-math.inf)
    unread = bisect.bisect_left(done, math.inf) - bisect.bisect_left(done, latest_start)
    if unread:
        findings.doubt(f"No read started after {unread:,} of the acknowledged increments.")


def _judge_order(findings: Findings, reads: Sequence[Read]) -> None:
    highest = Highest(reads, lambda each: each.done_by, lambda each: each.value)
    for read in reads:
        other = highest.before(read.start)
        if other is not None and other.value > read.value:
            findings.problem(
                "went backwards",
                f"{read.told('A read')} shows {read.value}, after {other.told('another')} showed {other.value}.",
            )
