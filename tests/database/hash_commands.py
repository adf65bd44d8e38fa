"""Random commands of hashes."""

from __future__ import annotations

from database_commands import anything, command, floats, integers, values
from hypothesis import strategies as st

KEYS = [b"h", b"i", b"j", b"", b"s", b"string"]
"""Those at which the random commands work; the last two hold other types."""
FIELDS = [b"f", b"g", b"1", b"", b"\x00\r\n", b"y" * 65]

keys = st.sampled_from([*KEYS[:4] * 3, *KEYS[4:]])
fields = st.sampled_from(FIELDS)
some_fields = st.lists(fields, min_size=1, max_size=4)
contents = values | integers | floats | st.sampled_from([b"v" * 64, b"v" * 65])
pairs = st.lists(st.tuples(fields, contents), min_size=1, max_size=4).map(
    lambda many: [word for pair in many for word in pair]
)
counts = st.sampled_from(
    b"0 1 2 3 10 -1 -3 -10 x 1.5 9223372036854775807 4611686018427387903 4611686018427387904 "
    b"-9223372036854775808 9223372036854775808".split()
)
with_values = st.sampled_from([[], [], [b"WITHVALUES"], [b"withvalues"], [b"bogus"], [b"WITHVALUES", b"x"]])
cursors = st.sampled_from(b"0 0 0 0 1 +0 -1 x 1.5 18446744073709551615 18446744073709551616".split())
scan_options = st.lists(
    st.tuples(st.sampled_from([b"COUNT", b"count"]), st.sampled_from(b"1 2 1000 0 -1 x".split())).map(list)
    | st.tuples(
        st.sampled_from([b"MATCH", b"match"]), st.sampled_from([b"*", b"**", b"?", b"[fg]", b"", b"y*"])
    ).map(list)
    | st.sampled_from([[b"TYPE", b"hash"], [b"COUNT"], [b"MATCH"], [b"bogus"], [b"bogus", b"x"]]),
    max_size=2,
).map(lambda lists: [word for each in lists for word in each])

writes = st.one_of(
    command("HSET HSET HMSET", keys, pairs),
    command("HSET HMSET", keys, some_fields),
    command("HSETNX", keys, fields, contents),
    command("HDEL", keys, some_fields),
    command("HINCRBY", keys, fields, integers),
    command("HINCRBYFLOAT", keys, fields, floats),
    command("DEL PERSIST", keys),
    command("EXPIRE", keys, st.sampled_from([b"1000", b"-1"])),
    command("RENAME", keys, keys),
)
reads = st.one_of(
    command("HGET HEXISTS HSTRLEN", keys, fields),
    command("HMGET", keys, some_fields),
    command("HGETALL HKEYS HVALS HLEN HRANDFIELD TYPE", keys),
    command("HRANDFIELD", keys, counts, with_values),
    command("HSCAN", keys, cursors, scan_options),
    command("OBJECT", st.sampled_from([b"ENCODING"]), keys),
)
mistakes = command(
    "HSET HSETNX HMSET HGET HMGET HGETALL HKEYS HVALS HLEN HSTRLEN HEXISTS HDEL HINCRBY HINCRBYFLOAT HSCAN HRANDFIELD",
    anything,
)
