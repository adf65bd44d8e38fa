"""`sofadb`, with the collector of cycles off: sent SIGUSR1, it prints how many objects of which types it would have found."""

from __future__ import annotations

import gc
import json
import signal
from collections import Counter
from collections.abc import Callable

from sofadb.cli.main import main
from sofadb.node import collector

REPORT = "garbage:"


def found() -> Counter[str]:
    """The types of all that is unreachable, which is kept for a moment to be looked at."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    types = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage)
    gc.set_debug(0)
    gc.garbage.clear()
    gc.collect()
    return types


def never(call_later: Callable[[float, Callable[[], None]], object]) -> None:
    """In the place of `collector.keep_short`."""
    gc.collect()
    gc.disable()
    json.dumps([0], indent=1)
    of_a_file = (
        found()
    )  # This is what `json` leaves of each file that a node writes with indents, which is seldom.

    def tell(*_: object) -> None:
        types = found()
        for _ in range(types["json.encoder.JSONEncoder"]):
            types -= of_a_file
        print(REPORT, json.dumps(types), flush=True)

    signal.signal(signal.SIGUSR1, tell)


if __name__ == "__main__":
    collector.keep_short = never
    main()
