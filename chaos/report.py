"""What came of all rounds, fault by fault: for the terminal, and as a page of the documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .faults import FAULTS
from .rounds import Result

HEAD = [
    "fault",
    "nodes",
    "rounds",
    "strikes",
    "operations",
    "errors",
    "excused",
    "lost",
    "longest pause (ms)",
]


def table(results: Sequence[Result]) -> str:
    """A row for each fault and size of the cluster."""
    rows = [HEAD, ["---", *["---:"] * (len(HEAD) - 1)]]
    for fault in FAULTS:
        for size in fault.sizes:
            some = [each for each in results if (each.fault, each.nodes) == (fault.name, size)]
            if some:
                rows.append(_row(fault.name, size, some))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(fault: str, size: int, some: Sequence[Result]) -> list[str]:
    failed = sum(bool(each.problem) for each in some)
    rounds = f"{len(some)}, {failed} failed" if failed else str(len(some))
    sums = [sum(each.strikes for each in some), sum(each.operations for each in some)]
    errors = sum((each.errors for each in some), Counter[str]()).total()
    excused = sum((each.excused for each in some), Counter[str]()).total()
    longest = max(each.longest_wait_ms for each in some)
    numbers = [*sums, errors, excused, sum(each.lost for each in some), longest]
    return [fault, str(size), rounds, *(f"{number:,.0f}" for number in numbers)]


def page(results: Sequence[Result], seed: int, seconds: float) -> str:
    """The documentation's page, with the table in it."""
    faults = "".join(f"- **{fault.name}**: {fault.words}\n" for fault in FAULTS)
    operations = sum(each.operations for each in results)
    return f"""# Chaos: real nodes, a real network, real faults

Written by `make chaos` (seed {seed}): {len(results)} rounds, {operations:,} operations. To do it again, on Linux as root:

    make chaos MINUTES=60 SEED={seed}

What it needs it installs (Debian 12: iproute2, nftables, iptables, strace, gcc, mount and PyPI's NetfilterQueue).

Each node is a `sofadb serve` process in a network namespace of its own; clients sit in a further one, three to a node.
They send single commands, pipelines and transactions, and never try again. In each round of a fresh cluster one fault
strikes for {seconds:.0f} s, again and again, the leader first. Then the history, with what every node reads in the end, is judged
by the laboratory's checker of linearizability.

{table(results)}
- **errors**: of clients whose node owed them service, since it lived and had links both ways with every node that could
  lead. There shall be none.
- **excused**: of clients of dead, paused or cut-off nodes: refusals (`-NOREPLICAS`), unknown outcomes, lost connections.
- **lost**: acknowledged writes of which nothing is left.
- **longest pause**: that a client of a node without excuse waited for an answer.

Without a quorum no write and no read may be answered; that is looked at, too.

## The faults

{faults}
A round that fails keeps its directory, and prints which: the nodes' data and logs, `history.jsonl` (`sofadb check` judges
it again), `setbacks.txt` (the clients' errors) and `excuses.txt` (which node was excused when).
"""
