"""Random commands that may wait, and such as bring them something."""

from __future__ import annotations

from database_commands import anything, command
from hypothesis import strategies as st

keys = st.sampled_from([b"a", b"b", b"c", b"text", b"nowhere"])
elements = st.sampled_from([b"x", b"y", b"", b"10"])
scores = st.sampled_from([b"1", b"1", b"2.5", b"-inf", b"1e20", b"0.1"])
counts = st.sampled_from(b"1 2 5 0 -1 x".split())
numbers_of_keys = st.sampled_from(b"1 2 3 0 x".split())
timeouts = st.sampled_from(
    b"1,1,1,1,0,0.001,1e-5,-0.0001,-0.001,-1,-1.5,x,nan,inf,-inf,0x10,1e30,1e17,9223372036854775,9223372036854776,, 1,1 ".split(
        b","
    )
)
ends = st.sampled_from([b"LEFT", b"RIGHT", b"left", b"middle"])
which = st.sampled_from([b"MIN", b"MAX", b"max", b"middle"])
count = st.one_of(
    st.just([]),
    st.tuples(st.sampled_from([b"COUNT", b"count", b"bogus"]), counts).map(list),
    st.just([b"COUNT"]),
    st.just([b"COUNT", b"1", b"COUNT", b"1"]),
)

brings = st.one_of(
    command("RPUSH LPUSH", keys, st.lists(elements, min_size=1, max_size=4)),
    command("ZADD", keys, scores, elements, scores, elements),
    command("DEL", keys),
    command("RENAME", keys, keys),
)
takes = st.one_of(
    command("BLPOP BRPOP", st.lists(keys, min_size=1, max_size=3), timeouts),
    command("BZPOPMIN BZPOPMAX", st.lists(keys, min_size=1, max_size=3), timeouts),
    command("BLMOVE", keys, keys, ends, ends, timeouts),
    command("BRPOPLPUSH", keys, keys, timeouts),
    command("BLMPOP", timeouts, numbers_of_keys, st.lists(keys, min_size=1, max_size=3), ends, count),
    command("BLMPOP", b"1", b"1", keys, ends, count),
    command("BZMPOP", timeouts, numbers_of_keys, st.lists(keys, min_size=1, max_size=3), which, count),
    command("BZMPOP", b"1", b"1", keys, which, count),
)
mistakes = command("BLPOP BRPOP BLMOVE BRPOPLPUSH BLMPOP BZPOPMIN BZPOPMAX BZMPOP", anything)
