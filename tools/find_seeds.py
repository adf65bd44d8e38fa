"""Find, for each sabotage, the first world in which the hunt sees it, and keep the seeds for the tests.

python tools/find_seeds.py           write tests/sim/sabotage_seeds.json, and print a table
python tools/find_seeds.py --stale   the same, but leave alone what is still seen in the world that is written there
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from sofadb.sim.hunt import BROKEN_LABORATORY, hunt
from sofadb.sim.sabotages import SABOTAGES, SEEN_BY_STORIES

SEEDS = Path(__file__).parents[1] / "tests" / "sim" / "sabotage_seeds.json"
SEEDS_MAX = 600


def main() -> None:
    """Hunt for each."""
    seeds: dict[str, int] = {}
    slowest = 0.0
    hunted = [name for name in SABOTAGES if name not in SEEN_BY_STORIES]
    recorded: dict[str, int] = json.loads(SEEDS.read_text()) if "--stale" in sys.argv else {}
    for name in hunted:
        if name in recorded and hunt(recorded[name], 1, None, 1, name).found is not None:
            seeds[name] = recorded[name]
            continue
        began = time.monotonic()
        found, first = None, 1
        while first <= SEEDS_MAX:
            found = hunt(first, SEEDS_MAX + 1 - first, None, os.cpu_count() or 1, name).found
            if found is None or found.name not in BROKEN_LABORATORY:
                break
            found, first = None, found.seed + 1
        seconds = time.monotonic() - began
        slowest = max(slowest, seconds)
        if found is None:
            print(f"{name:50} survives {SEEDS_MAX} worlds ({seconds:.1f} s)", flush=True)
            continue
        seeds[name] = found.seed
        if recorded:
            SEEDS.write_text(json.dumps(recorded | seeds, indent=1) + "\n")
        print(f"{name:50} seed {found.seed:3}, {seconds:4.1f} s, {found.name}", flush=True)
    SEEDS.write_text(json.dumps(seeds, indent=1) + "\n")
    ordered = sorted(seeds.values())
    print(f"{len(seeds)} of {len(hunted)}; median seed {ordered[len(ordered) // 2]}, slowest {slowest:.1f} s")
    sys.exit(len(seeds) < len(hunted))


if __name__ == "__main__":
    main()
