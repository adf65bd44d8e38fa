"""`make compat`, but for ioredis: a client's tests, frameworks at work, and a page about both.

    python -m compat [--page docs/compatibility.md] [--only suite|examples]

Exit code 0 if all examples kept what they promise, and nothing failed in the suite but what is known to, with a reason.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from three_nodes import ThreeNodes

from . import frameworks
from .page import page
from .redis_py import suite
from .redis_py.reference import redis_server


def run_suite() -> suite.Comparison:
    """The tests of redis-py, against a node that does not lead, and against a real Redis."""
    directory = suite.fetch()
    chosen, left_out = suite.files(directory)
    print(f"the tests of redis-py {suite.version()}, {len(chosen)} files, with Redis ...", flush=True)
    with redis_server() as (url, redis_version):
        theirs = suite.run(directory, url, chosen, "redis")
    print("... and with SofaDB ...", flush=True)
    with ThreeNodes() as nodes:
        ours = suite.run(directory, nodes.url(nodes.followers()[0]), chosen, "sofadb")
    for end in (suite.PASSED, suite.FAILED, suite.SKIPPED):
        print(f"{sum(result.end == end for result in ours):6} {end}")
    return suite.Comparison(ours, theirs, redis_version, left_out)


def main() -> int:
    """Run all, or a part, and write the page if all was run."""
    parser = argparse.ArgumentParser(prog="python -m compat")
    parser.add_argument("--page", type=Path, help="write the documentation's page there")
    parser.add_argument("--only", choices=("suite", "examples"), help="one part, and no page")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    comparison = None if options.only == "examples" else run_suite()
    names = () if options.only == "suite" else frameworks.NAMES
    performances = [frameworks.perform(name) for name in names]
    if options.page and comparison and performances:
        options.page.write_text(page(suite.version(), comparison, performances))
    unknown = comparison.unknown if comparison else []
    for result in unknown:
        print(f"failed: {result.file}::{result.name}: {result.why.partition(chr(10))[0]}")
    broken = [each.name for each in performances if each.exit_code]
    if broken:
        print(f"these examples did not keep what they promise: {', '.join(broken)}")
    return 1 if unknown or broken else 0


if __name__ == "__main__":
    sys.exit(main())
