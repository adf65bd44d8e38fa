"""The page of the documentation that says how compatible SofaDB is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .frameworks import Performance
from .redis_py.suite import FAILED, PASSED, SKIPPED, Comparison, Result

MESSAGE_MAX = 110


def page(version: str, comparison: Comparison, performances: Sequence[Performance]) -> str:
    """All of it."""
    return "\n".join([HEAD, *_suite(version, comparison), WORK, *_frameworks(performances), TAIL])


def _suite(version: str, comparison: Comparison) -> list[str]:
    results = comparison.ours
    total, theirs = _ends(results), _ends(comparison.theirs)
    redis = f"Redis {comparison.redis_version}"
    lines = [
        f"## The tests of redis-py {version}",
        "",
        "They are run as they come, with redis-py's defaults, against a node that does not lead, and against a Redis with its",
        "defaults. Where a pattern leaves out what does not concern SofaDB yet, it does so for both; files that are left out",
        "(at the end, client-side caching among them) are in no number.",
        "",
        "| with | passed | failed | skipped |",
        "| --- | ---: | ---: | ---: |",
        f"| SofaDB | {_counts(total)} |",
        f"| {redis} | {_counts(theirs)} |",
        "",
        "### What fails",
        "",
        *_failures(comparison),
        "",
        "### By file",
        "",
        "| file | passed | failed | skipped |",
        "| --- | ---: | ---: | ---: |",
    ]
    for file in sorted({result.file for result in results}):
        lines.append(f"| {file} | {_counts(_ends([each for each in results if each.file == file]))} |")
    lines += ["", "### What is skipped", "", "| tests | why |", "| ---: | --- |"]
    why = Counter(_first_line(result.why) for result in results if result.end == SKIPPED)
    for reason, count in sorted(why.items(), key=lambda each: (-each[1], each[0])):
        lines.append(f"| {count} | {_cell(reason)} |")
    lines += ["", "### Files that are left out", "", "| file | why |", "| --- | --- |"]
    lines += [f"| {file} | {reason} |" for file, reason in comparison.files_left_out.items()]
    return [*lines, ""]


def _ends(results: Sequence[Result]) -> Counter[str]:
    return Counter(result.end for result in results)


def _counts(ends: Counter[str]) -> str:
    return " | ".join(f"{ends[end]:,}" for end in (PASSED, FAILED, SKIPPED))


def _failures(comparison: Comparison) -> list[str]:
    """Once for each test, however many parameters it fails with."""
    seen: dict[str, str] = {}
    for result in comparison.ours:
        if result.end == FAILED:
            why = comparison.why(result) or f"not explained: `{_first_line(result.why)}`"
            seen.setdefault(result.test.removeprefix("tests/"), why)
    if not seen:
        return ["Nothing."]
    rows = [f"| {test} | {_cell(why)} |" for test, why in sorted(seen.items(), key=lambda each: each[::-1])]
    return ["| test | why |", "| --- | --- |", *rows]


def _frameworks(performances: Sequence[Performance]) -> list[str]:
    lines = [
        "| example | with | work | done | lost | repeated | seconds | longest pause (ms) | kept |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for each in performances:
        link = f"[{each.name}](../examples/{each.name}.py)"
        it = each.outcome
        if it is None:
            lines.append(f"| {link} | | did not end (exit code {each.exit_code}) | | | | | | no |")
            continue
        numbers = (
            f"{it['done']:,} | {it['lost']:,} | {it['repeated']:,} | {it['seconds']:.0f} | {it['pause_ms']:,}"
        )
        kept = "yes" if it["kept"] else "**no**"
        lines.append(f"| {link} | {it['what']} | {it['work']} | {numbers} | {kept}: {it['promise']} |")
    return [*lines, ""]


def _first_line(text: str) -> str:
    return text.splitlines()[0][:MESSAGE_MAX] if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


HEAD = """\
# Compatibility

Written by `make compat`. What others have written for Redis runs unchanged against three nodes of SofaDB on one machine: the
tests of a client library, and frameworks at work while the leader is killed.
"""

WORK = """\
## Frameworks at work, while the leader is killed

Each works on nodes that follow (but for `redis_py_sentinel`, which works on the one that leads); in the middle the leader is
killed (`kill -9`) and started again. `python examples/NAME.py` does it on any machine. Lost is what was asked and not done;
repeated, what was done once too often; the longest pause is that in which nothing got on, as a client sees it.
"""

TAIL = """\
RQ keeps what jobs return, and how they failed, in streams, which are not there yet: its jobs here have `result_ttl=0`, and one
that fails could not be noted as failed.

`make compat` also has ioredis find the next leader through Sentinel commands (`compat/ioredis/sentinel.js`).
"""
