"""Rounds in small: one that passes, one that is interrupted, one that is not allowed; and what counts as lost or excused."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from askers import Answered, Excuses, Setback, lost
from processes import wait_until
from sofadb.sim.history import Operation

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'tests' / 'system'}"}
SETPRIV = shutil.which("setpriv")


@contextlib.contextmanager
def chaos(*words: str, before: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    command = [*before, sys.executable, "-m", "chaos", *words]
    process = subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def namespaces_of(process: subprocess.Popen[str]) -> list[str]:
    return [path.name for path in Path("/run/netns").glob(f"sofadb-{process.pid}-*")]


def nodes_of(process: subprocess.Popen[str]) -> list[str]:
    """The processes that it has started and that have not ended."""
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


def is_running(process: str) -> bool:
    """Whether it is there, and not a zombie."""
    path = Path(f"/proc/{process}/stat")
    return path.exists() and path.read_text().rpartition(") ")[2][0] != "Z"


def test_round_passes_and_leaves_nothing_behind() -> None:
    with chaos("--minutes", "0.001", "--fault", "one killed", "--nodes", "3", "--seconds", "1") as process:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, output + errors
        assert "passed  one killed, 3 nodes: 2 strikes" in output
        assert namespaces_of(process) == []


def test_interrupted_it_leaves_nothing_behind() -> None:
    with chaos("--fault", "nothing", "--nodes", "3") as process:
        wait_until(lambda: len(nodes_of(process)) == 3, "nodes run")
        nodes = nodes_of(process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert "interrupted" in errors
        assert "Traceback" not in errors
        assert namespaces_of(process) == []
        wait_until(lambda: not any(map(is_running, nodes)), "the nodes have ended")


def test_without_root_it_says_so_in_one_sentence() -> None:
    assert SETPRIV, "setpriv is not installed (Debian: apt-get install util-linux); this cannot do without"
    with chaos(before=[SETPRIV, "--reuid", "65534", "--clear-groups"]) as process:
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (77, "")
        assert errors == "make chaos cannot be run here: it needs Linux and root, for network namespaces\n"


def test_appended_text_that_a_node_lacks_in_the_end_is_lost() -> None:
    kept = Operation(1, "append", "text:1", "a;", None, 1.0, 2.0, 2)
    gone = Operation(1, "append", "text:1", "b;", None, 3.0, 4.0, 4)
    unknown = Operation(1, "append", "text:1", "c;", None, 5.0, None, None)
    whole = Operation(-1, "get", "text:1", None, None, 6.0, 7.0, "a;b;")
    part = Operation(-2, "get", "text:1", None, None, 6.0, 7.0, "a;")
    assert lost([kept, gone, unknown], [whole]) == []
    assert lost([kept, gone, unknown], [whole, part]) == [gone]


def test_only_what_overlaps_an_excuse_of_its_own_node_is_excused() -> None:
    excuses = Excuses({"n1": [[10.0, 20.0]]})
    assert excuses.cover(Setback("n1", 9.0, 11.0, "refused", ""))
    assert excuses.cover(Answered("n1", 19.0, 25.0, True))
    assert not excuses.cover(Setback("n1", 20.5, 21.0, "refused", ""))
    assert not excuses.cover(Setback("n2", 12.0, 13.0, "refused", ""))
