"""The same batches come to the same state in every process, whatever its hashes are, with commands of every type mixed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import bitmap_commands
import blocking_commands
import database_commands
import hash_commands
import list_commands
import pytest
import set_commands
import sorted_set_commands
from database_commands import NOW, Words, run_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sofadb.database.database import Database
from sofadb.database.runs import apply
from sofadb.database.table import TABLE, Route

HERE = Path(__file__).parent
SEQUENCES = int(os.environ.get("SOFADB_EXAMPLES", "500")) // 4
MILLISECONDS_MAX = 50_000

scripts = st.sampled_from(
    [
        b"return redis.call('incr', KEYS[1])",
        b"redis.call('sadd', KEYS[1], math.random(100), ARGV[1]) return redis.call('spop', KEYS[1])",
        b"for i, name in pairs({a = 1, b = 2, c = 3}) do redis.call('rpush', KEYS[1], i, name) end",
        b"redis.call('hset', KEYS[1], 'time', redis.call('time')[1], 'json', cjson.encode({x = ARGV[1], y = {1}}))",
        b"redis.call('set', KEYS[1], ARGV[1]) while true do end",
        b"redis.call('zadd', KEYS[1], 1.5, ARGV[1]) error('it fails behind a change')",
    ]
)
evals = st.tuples(
    st.sampled_from([b"EVAL", b"eval"]), scripts, database_commands.keys, database_commands.values
).map(lambda drawn: [drawn[0], drawn[1], b"1", drawn[2], drawn[3]])
others = st.one_of(
    st.tuples(st.just(b"SOFA.LOCK"), st.sampled_from([b"l", b"m"]), st.just(b"10000")).map(list),
    st.tuples(st.just(b"SOFA.ONCE"), st.sampled_from([b"1", b"2"]), st.just(b"INCR"), st.just(b"a")).map(
        list
    ),
    st.just([b"SCRIPT", b"LOAD", b"return 1"]),
    st.just([b"SCRIPT", b"FLUSH"]),
    st.just([b"PUBLISH", b"channel", b"text"]),
    st.just([b"SPUBLISH", b"channel", b"text"]),
)
commands = st.one_of(
    database_commands.writes,
    bitmap_commands.changes,
    blocking_commands.brings,
    blocking_commands.takes,
    hash_commands.writes,
    list_commands.pushes,
    list_commands.pops,
    list_commands.changes,
    list_commands.sorts,
    set_commands.writes,
    sorted_set_commands.writes,
    evals,
    evals,
    others,
)
batches = st.lists(
    st.tuples(st.integers(0, MILLISECONDS_MAX), st.lists(commands, min_size=5, max_size=30)),
    min_size=1,
    max_size=4,
)

Batches = Sequence[tuple[int, Sequence[Words]]]


@cache
def drawn(count: int) -> list[Batches]:
    """So many sequences of batches, the same each time."""
    sequences: list[Batches] = []

    @given(batches)
    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def draw(sequence: Batches) -> None:
        sequences.append(sequence)

    draw()
    return sequences


def play(sequence: Batches) -> str:
    """Execute the batches one after the other; returns the digest of the state and the one that was rolled."""
    database = Database()
    time = NOW
    for instance, (passes, entries) in enumerate(sequence, 1):
        time += passes
        database.begin(instance, time)
        for each in entries:
            run_of([each]).execute(database)
    return f"{database.digest().hex()} {database.rolling}"


SCRIPT = """
import hashlib
from test_database_determinism import SEQUENCES, drawn, play
print(hashlib.sha256("\\n".join(map(play, drawn(SEQUENCES))).encode()).hexdigest())
"""


@pytest.mark.timeout(0)
def test_every_process_comes_to_the_same_whatever_its_hashes_are() -> None:
    told = set()
    for seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), *sys.path]),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(done.stdout.strip())
    assert len(told) == 1


def test_who_reads_the_log_comes_to_the_same_as_who_was_asked() -> None:
    """The other one hears events, and has an image taken of it all the time."""
    for sequence in drawn(SEQUENCES):
        asked, other = Database(), Database()
        other.shared.wanted_events = -1
        time = NOW
        for instance, (passes, entries) in enumerate(sequence, 1):
            time += passes
            for each in (asked, other):
                each.begin(instance, time)
            image = other.image()
            pieces = image.pieces()
            for words in entries:
                run = run_of([words])
                run.execute(asked)
                if run.needs_log:
                    apply(other, run.encode())
                next(pieces, None)
            image.close()
        assert asked.digest() == other.digest()
        assert asked.rolling == other.rolling


def test_all_commands_that_write_are_among_them() -> None:
    names = {
        words[0].upper() for sequence in drawn(3 * SEQUENCES) for _, entries in sequence for words in entries
    }
    missing = {name for name, command in TABLE.items() if command.route is Route.WRITE and name not in names}
    assert missing == {b"SOFA.MEMBER", b"SOFA.UNLOCK", b"SOFA.RENEW", b"SOFA.FENCED", b"EVALSHA"}, (
        "these have tests of their own"
    )
