"""A lock with fencing tokens: one holder at a time, and what an earlier holder still writes is turned down.

Who acquires the lock gets a token and, perhaps, a time to live. It then holds the lock, certainly, from when it knows until
it asks for the release, or until the time to live may be over: counted from the start of the acquire, since the database may
have counted from there, and less by a bound on the clocks. A release that is known to have failed released nothing. Therefore

1. no two hold the lock, certainly, at the same time; nor does one acquire it wholly while another certainly holds it;
2. tokens rise: an acquire that started after another had ended has a higher one, and no two have the same.

Whoever believes to hold the lock may be wrong (a pause, a late packet: Kleppmann 2016). So a resource accepts a write
only if no higher token was there before:

3. no write is accepted that started after a write with a higher token had been accepted.

An acquire of unknown outcome may hold the lock, for ever even, but nobody can tell: it constrains nothing, nor does a write of
unknown outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .verdict import Asked, Findings, Highest, Unusable, Verdict, short


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquire(Asked):
    """Failed: somebody else holds the lock, or nothing happened."""

    token: int | None = None
    """None where it was not acquired, or nobody knows."""
    ttl_ms: int | None = None
    """None: until it is released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Asked):
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Write(Asked):
    """Failed: the resource turned it down."""

    resource: str
    token: int


@dataclass(frozen=True, slots=True)
class _Hold:
    """That a token certainly holds the lock after the one time and before the other."""

    acquire: Acquire
    token: int
    since: float
    until: float


def check(
    acquires: Iterable[Acquire],
    releases: Iterable[Release] = (),
    writes: Iterable[Write] = (),
    bound_ms: float = 0,
) -> Verdict:
    """Judge the history of one lock, in any order of its operations. `bound_ms` is how much too soon a time to live may end.

    Raises:
        Unusable: an acknowledged acquire has no token.
    """
    findings = Findings()
    holds = _holds(list(acquires), list(releases), bound_ms)
    findings.count("holds", len(holds))
    _judge_holders(findings, holds)
    _judge_tokens(findings, holds)
    by_resource: dict[str, list[Write]] = {}
    for write in writes:
        if write.outcome == "ok":
            by_resource.setdefault(write.resource, []).append(write)
    for accepted in by_resource.values():
        _judge_writes(findings, accepted)
    return findings.verdict()


def _holds(acquires: Sequence[Acquire], releases: Sequence[Release], bound_ms: float) -> list[_Hold]:
    released: dict[int, float] = {}
    for release in releases:
        if release.outcome != "failed":
            released[release.token] = min(release.start, released.get(release.token, release.start))
    holds = []
    for each in acquires:
        if each.outcome != "ok":
            continue
        if each.token is None:
            raise Unusable(f"an acknowledged acquire has no token: {each}")
        until = released.get(each.token, float("inf"))
        if each.ttl_ms is not None:
            until = min(until, each.start + (each.ttl_ms - bound_ms) / 1000)
        holds.append(_Hold(each, each.token, each.done_by, until))
    return holds


def _judge_holders(findings: Findings, holds: Sequence[_Hold]) -> None:
    certain = [each for each in holds if each.since < each.until]
    longest = Highest(certain, lambda each: each.since, lambda each: each.until)
    last: _Hold | None = None
    for each in sorted(holds, key=lambda each: each.since):
        together = last is not None and each.since < min(each.until, last.until)
        # What was acquired wholly within a hold was so too early, however soon it ended.
        other = last if together else longest.before(each.acquire.start)
        if other is not None and each.since < other.until:
            findings.problem(
                "two holders",
                f"{_told(each)} was acquired, though {_told(other)} certainly held the lock from {other.since} to "
                f"{other.until}.",
            )
        if last is None or each.until > last.until:
            last = each


def _judge_tokens(findings: Findings, holds: Sequence[_Hold]) -> None:
    highest = Highest(holds, lambda each: each.since, lambda each: each.token)
    first: dict[int, _Hold] = {}
    for each in sorted(holds, key=lambda each: each.acquire.start):
        other = first.setdefault(each.token, each)
        if other is not each:
            findings.problem("token given twice", f"{_told(other)} is the same as {_told(each)}.")
        higher = highest.before(each.acquire.start)
        if higher is not None and higher.token > each.token:
            findings.problem("token fell", f"{_told(each)} came after {_told(higher)}.")


def _judge_writes(findings: Findings, accepted: Sequence[Write]) -> None:
    highest = Highest(accepted, lambda each: each.done_by, lambda each: each.token)
    for each in sorted(accepted, key=lambda each: each.start):
        higher = highest.before(each.start)
        if higher is not None and higher.token > each.token:
            findings.problem(
                "write behind a higher token",
                f"{each.told(f'A write with token {each.token}')} to {short(each.resource)} was accepted after "
                f"{higher.told(f'one with token {higher.token}')}.",
            )


def _told(hold: _Hold) -> str:
    return hold.acquire.told(f"Token {hold.token}")
