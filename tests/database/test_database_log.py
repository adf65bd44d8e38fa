"""What is in the log is executed on other replicas as it was where it was asked for, much of it at once."""

from __future__ import annotations

import hiredis
import pytest
from database_commands import begun, run_of
from hypothesis import given
from hypothesis import strategies as st

from sofadb.database.runs import FED_BYTES, MANY_MIN, Corrupt, apply, section

keys = st.sampled_from([b"a", b"b", b"", b"list"])
commands = st.one_of(
    st.tuples(st.sampled_from([b"SET", b"set"]), keys, st.binary(max_size=3)),
    st.tuples(st.just(b"SET"), keys, st.just(b"x" * (FED_BYTES // 3))),
    st.tuples(st.just(b"SET"), keys, st.just(b"1"), st.just(b"NX")),
    st.tuples(st.just(b"APPEND"), keys, st.just(b"!")),
    st.just((b"RPUSH", b"list", b"1")),
    st.just((b"DEL", b"list")),
)


@given(st.lists(commands, max_size=4 * MANY_MIN))
def test_whatever_is_executed_as_one_comes_to_the_same(asked: list[tuple[bytes, ...]]) -> None:
    here, there = begun(), begun()
    for words in asked:
        run_of([list(words)]).execute(here)
    apply(there, section(0, b"".join(map(hiredis.pack_command, asked))))
    assert there.keyspaces[0].values.keys() == here.keyspaces[0].values.keys()
    assert there.digest() == here.digest()


@pytest.mark.parametrize("behind", [b"*1\r\n$4\r\nPING\r\n", b":1\r\n", b"*0\r\n", b"*1\r\n:1\r\n"])
def test_what_nobody_would_have_written_is_corrupt_behind_many_that_are_not(behind: bytes) -> None:
    raw: bytes = hiredis.pack_command((b"SET", b"a", b"1")) * MANY_MIN
    with pytest.raises(Corrupt):
        apply(begun(), section(0, raw + behind))
