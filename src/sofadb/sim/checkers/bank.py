"""A bank: money moves between accounts, so their total stays what it was.

Every read shows all accounts at one moment. So

1. it shows the accounts that there are, and their total is the initial one;
2. no balance is below zero, unless that is allowed;
3. each balance is one that the account can have had: the initial one, with all that was certainly moved before the read
   started (acknowledged transfers that had ended) and any of what may have been moved when the read ended (other transfers
   that had started and are not known to have failed).

The third rule finds money that moved without a transfer, or did not move with one. It does not ask whether one choice of
transfers explains all balances, let alone all reads: that is a knapsack problem.

Acknowledged transfers after which no read started cannot be judged, which is no pass.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from .verdict import Asked, Findings, Unusable, Verdict, short


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Asked):
    source: str
    target: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(Asked):
    """One that is not acknowledged says nothing."""

    balances: Mapping[str, int]


def check(
    transfers: Iterable[Transfer], reads: Iterable[Read], initial: Mapping[str, int], negative: bool = False
) -> Verdict:
    """Judge the history of one bank, in any order of its operations. `negative`: whether a balance may be below zero.

    Raises:
        Unusable: a transfer is of less than nothing, or of an account that has no initial balance.
    """
    possible = [each for each in transfers if each.outcome != "failed"]
    for each in possible:
        if each.amount < 0 or each.source not in initial or each.target not in initial:
            raise Unusable(f"no transfer between {short(sorted(initial))}: {each}")
    answered = [each for each in reads if each.outcome == "ok"]
    findings = Findings()
    findings.count("transfers", len(possible))
    findings.count("reads", len(answered))
    accounts = {name: _Account(name, balance, possible) for name, balance in initial.items()}
    for read in answered:
        _judge(findings, read, accounts, sum(initial.values()), negative)
    latest_start = max((each.start for each in answered), default=float("-inf"))
    unread = sum(each.outcome == "ok" and each.done_by >= latest_start for each in possible)
    if unread:
        findings.doubt(f"No read started after {unread:,} of the acknowledged transfers.")
    return findings.verdict()


def _judge(
    findings: Findings, read: Read, accounts: Mapping[str, _Account], total: int, negative: bool
) -> None:
    if read.balances.keys() != accounts.keys():
        findings.problem(
            "wrong accounts",
            f"{read.told('A read')} shows the accounts {short(sorted(read.balances))}, not {short(sorted(accounts))}.",
        )
        return
    shown = short(dict(read.balances))
    if sum(read.balances.values()) != total:
        findings.problem(
            "wrong total",
            f"{read.told('A read')} shows {shown}, in all {sum(read.balances.values())}, not {total}.",
        )
    for name, account in accounts.items():
        balance = read.balances[name]
        if balance < 0 and not negative:
            findings.problem("negative balance", f"{read.told('A read')} shows {balance} in {short(name)}.")
        lowest, highest = account.limits(read)
        if not lowest <= balance <= highest:
            findings.problem(
                "impossible balance",
                f"{read.told('A read')} shows {balance} in {short(name)}. With the transfers that had ended before it "
                f"started, and any of those that had started before it ended, it can be from {lowest} to {highest}.",
            )


class _Account:
    def __init__(self, name: str, initial: int, transfers: Sequence[Transfer]) -> None:
        self._initial = initial
        changes = [
            (each, each.amount * ((each.target == name) - (each.source == name)))
            for each in transfers
            if (each.source == name) != (each.target == name)
        ]
        self._certain_gains = _Sums((each.done_by, change) for each, change in changes if change > 0)
        self._certain_losses = _Sums((each.done_by, change) for each, change in changes if change < 0)
        self._possible_gains = _Sums((each.start, change) for each, change in changes if change > 0)
        self._possible_losses = _Sums((each.start, change) for each, change in changes if change < 0)

    def limits(self, read: Read) -> tuple[int, int]:
        """The lowest and the highest balance that the read can show."""
        lowest = self._certain_gains.before(read.start) + self._possible_losses.until(read.done_by)
        highest = self._certain_losses.before(read.start) + self._possible_gains.until(read.done_by)
        return self._initial + lowest, self._initial + highest


class _Sums:
    """Sums of amounts by time."""

    def __init__(self, amounts: Iterable[tuple[float, int]]) -> None:
        ordered = sorted(amounts)
        self._times = [time for time, _ in ordered]
        self._sums = [0, *accumulate(amount for _, amount in ordered)]

    def before(self, time: float) -> int:
        return self._sums[bisect.bisect_left(self._times, time)]

    def until(self, time: float) -> int:
        return self._sums[bisect.bisect_right(self._times, time)]
