"""Get the tests of redis-py, run them, and count."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

from .left_out import FAILURES, FILES, reason_of

HERE = Path(__file__).parent
CACHE = HERE / ".cache"
SECONDS_PER_TEST_MAX = 30
PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"


@dataclass(frozen=True)
class Result:
    """What came of one test."""

    file: str
    name: str
    end: str
    why: str = ""
    """What pytest says of one that was skipped or failed."""

    @property
    def test(self) -> str:
        """Which test it was, whatever its parameters."""
        return f"{self.file}::{self.name}".partition("[")[0]

    @property
    def reason(self) -> str:
        """Why it fails, in words; empty if nobody knows."""
        return reason_of(FAILURES, self.test)


@dataclass(frozen=True)
class Comparison:
    """All results, with those of a real Redis."""

    ours: list[Result]
    theirs: list[Result]
    redis_version: str
    files_left_out: dict[str, str]

    def why(self, result: Result) -> str:
        """Why one of ours fails; empty if nobody knows."""
        if (result.file, result.name) not in self._failing_with_redis:
            return result.reason
        too = f"fails with Redis {self.redis_version}, too"
        return f"{result.reason} ({too})" if result.reason else too

    @cached_property
    def _failing_with_redis(self) -> set[tuple[str, str]]:
        return {(each.file, each.name) for each in self.theirs if each.end == FAILED}

    @property
    def unknown(self) -> list[Result]:
        """Failures of ours that have no reason."""
        return [result for result in self.ours if result.end == FAILED and not self.why(result)]


def version() -> str:
    """The redis-py that this project is tested with."""
    constraints = (HERE.parents[1] / "constraints.txt").read_text()
    found = re.search(r"^redis==(\S+)$", constraints, re.MULTILINE)
    assert found, "constraints.txt names no redis"
    return found[1]


def fetch() -> Path:
    """The directory of that version's source distribution, which holds its tests."""
    directory = CACHE / f"redis-{version()}"
    if not directory.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as target:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--no-binary",
                "redis",
            ]
            subprocess.run([*command, "--dest", target, f"redis=={version()}"], check=True)
            # (A filter, which `tarfile` would like to have, is not there before Python 3.11.4.)
            shutil.unpack_archive(next(Path(target).glob("redis-*.tar.gz")), target)
            Path(target, directory.name).rename(directory)
    return directory


def files(directory: Path) -> tuple[list[str], dict[str, str]]:
    """The files to run, and those left out, with the reasons."""
    found = sorted(str(path.relative_to(directory)) for path in directory.glob("tests/**/test_*.py"))
    left_out = {file: reason for file in found if (reason := reason_of(FILES, file))}
    return [file for file in found if file not in left_out], left_out


def run(directory: Path, url: str, chosen: list[str], whom: str) -> list[Result]:
    """Run the tests in these files against a server. What pytest says is kept under the name of `whom`."""
    report = CACHE / f"{whom}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "--quiet", "--tb=no", "-p", "plugin", "-p", "no:cacheprovider"]
    command += ["-o", "addopts=", "-o", "junit_family=xunit1", "--junitxml", str(report)]
    command += ["--timeout", str(SECONDS_PER_TEST_MAX), "--redis-url", url, *chosen]
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    with (CACHE / f"{whom}.txt").open("wb") as output:
        subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": path},
            stdout=output,
            stderr=output,
            check=False,
        )
    if not report.exists():
        raise RuntimeError(f"pytest made no report: see {output.name}")
    return list(read(report))


def read(report: Path) -> Iterator[Result]:
    """What a report says of each test, once: an error in the clearing up after a test that failed is no second failure."""
    results: dict[tuple[str, str], Result] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.get("file") or case.get("classname", "").replace(".", "/")
        group = case.get("classname", "").rpartition(".")[2]
        name = "::".join(filter(None, [group if group[:1].isupper() else "", case.get("name", "")]))
        result = Result(file, name, PASSED)
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                end = SKIPPED if child.tag == "skipped" else FAILED
                result = Result(file, name, end, child.get("message", "").strip())
        if (file, name) not in results or result.end == FAILED != results[file, name].end:
            results[file, name] = result
    yield from results.values()
