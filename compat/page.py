"""The page of the documentation that says how compatible SofaDB is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .frameworks import Performance
from .redis_py.suite import FAILED, PASSED, SKIPPED, Result

MESSAGE_MAX = 110


def page(
    version: str,
    results: Sequence[Result],
    files_left_out: dict[str, str],
    performances: Sequence[Performance],
) -> str:
    """All of it."""
    return "\n".join(
        [HEAD, *_suite(version, results, files_left_out), WORK, *_frameworks(performances), TAIL]
    )


def _suite(version: str, results: Sequence[Result], files_left_out: dict[str, str]) -> list[str]:
    total = Counter(result.end for result in results)
    lines = [
        f"## The tests of redis-py {version}",
        "",
        f"**{total[PASSED]:,} pass, {total[FAILED]:,} fail**, {total[SKIPPED]:,} are skipped, with redis-py's defaults (RESP3).",
        "",
        "| file | passed | failed | skipped |",
        "| --- | ---: | ---: | ---: |",
    ]
    for file in sorted({result.file for result in results}):
        ends = Counter(result.end for result in results if result.file == file)
        lines.append(f"| {file} | {ends[PASSED]} | {ends[FAILED]} | {ends[SKIPPED]} |")
    lines += ["", "### What fails", ""]
    lines += _failures([result for result in results if result.end == FAILED])
    lines += ["", "### What is skipped", "", "| tests | why |", "| ---: | --- |"]
    why = Counter(_first_line(result.why) for result in results if result.end == SKIPPED)
    lines += [
        f"| {count} | {_cell(reason)} |"
        for reason, count in sorted(why.items(), key=lambda each: (-each[1], each[0]))
    ]
    lines += ["", "### Files that are left out", "", "| file | why |", "| --- | --- |"]
    lines += [f"| {file} | {reason} |" for file, reason in files_left_out.items()]
    return [*lines, ""]


def _failures(failed: Sequence[Result]) -> list[str]:
    """Once for each test, however many parameters it fails with."""
    if not failed:
        return ["Nothing."]
    lines = ["| test | why |", "| --- | --- |"]
    seen: dict[str, str] = {}
    for result in failed:
        name = f"{result.file}::{result.name}".partition("[")[0]
        seen.setdefault(name, result.reason or f"not explained: `{_first_line(result.why)}`")
    return lines + [
        f"| {name.removeprefix('tests/')} | {_cell(reason)} |" for name, reason in sorted(seen.items())
    ]


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

Each works on nodes that follow; in the middle the leader is killed (`kill -9`) and started again. `python examples/NAME.py`
does it on any machine. Lost is what was asked and not done; repeated, what was done once too often; the longest pause is
that in which nothing got on, as a client sees it.
"""

TAIL = """\
`make compat` also has ioredis find the next leader through Sentinel commands (`compat/ioredis/sentinel.js`).
"""
