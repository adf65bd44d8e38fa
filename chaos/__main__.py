"""`make chaos`: round after round until the time is over, and a table.

    python -m chaos [--minutes 60] [--seed 1] [--fault NAME] [--nodes 3] [--seconds 12] [--page docs/chaos.md]

Exit code 0 if all rounds passed, 1 if one failed, 77 if this machine does not allow it. Ctrl-C ends it in good order.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .prerequisites import prepare

if TYPE_CHECKING:
    from .rounds import Result, Round


def main() -> int:
    """Make rounds; at least one of each kind if the time allows."""
    parser = argparse.ArgumentParser(prog="python -m chaos")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", default="", help="only this one")
    parser.add_argument("--nodes", type=int, choices=(3, 5), help="only clusters of this size")
    parser.add_argument("--seconds", type=float, default=12.0, help="how long a fault strikes in a round")
    parser.add_argument("--page", type=Path, help="write the documentation's page there after a whole pass")
    options = parser.parse_args()
    prepare()

    # Only now: what these import may just have been installed.
    from . import report
    from .faults import FAULTS
    from .rounds import Round

    kinds = [
        (fault, size, part)
        for fault in FAULTS
        for size in fault.sizes
        for part in range(fault.parts)
        if options.fault in ("", fault.name) and options.nodes in (None, size)
    ]
    if not kinds:
        parser.error(f"there is no such fault; there are: {', '.join(fault.name for fault in FAULTS)}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    chance = random.Random(options.seed)
    end = time.monotonic() + 60 * options.minutes
    results: list[Result] = []
    passes = 0
    try:
        while time.monotonic() < end:
            chance.shuffle(kinds)
            for fault, size, part in kinds:
                if time.monotonic() >= end:
                    break
                seed = options.seed + passes
                each = Round(fault, size, part, seed, options.seconds)
                result = each.run()
                results.append(result)
                print(_line(result, each), flush=True)
            else:
                passes += 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    print(f"\n{report.table(results)}", flush=True)
    if options.page is None:
        return any(each.problem for each in results)
    if passes:
        options.page.write_text(report.page(results, options.seed, options.seconds))
    else:
        print(
            f"not every kind of round was made ({len(results)} of {len(kinds)}), so {options.page} is left as it is"
        )
    return any(each.problem for each in results)


def _line(result: Result, each: Round) -> str:
    head = (
        f"{'FAILED' if result.problem else 'passed'}  {result.fault}, {result.nodes} nodes: {result.strikes} strikes, "
        f"{result.operations:,} operations, longest pause {result.longest_wait_ms:.0f} ms"
    )
    if not result.problem:
        return head
    return f"{head}\n{result.problem}\nkept: {each.directory}; sofadb check {each.directory}/history.jsonl judges it"


if __name__ == "__main__":
    sys.exit(main())
