"""Random commands of sets."""

from __future__ import annotations

from database_commands import anything, command
from hash_commands import counts, cursors, scan_options
from hypothesis import strategies as st

KEYS = [b"s", b"t", b"u", b"", b"h", b"string"]
"""Those at which the random commands work; the last two hold other types."""
MEMBERS = [b"f", b"g", b"1", b"2", b"3", b"-4", b"05", b"", b"9223372036854775807", b"9223372036854775808"]

keys = st.sampled_from([*KEYS[:4] * 4, *KEYS[4:]])
members = st.sampled_from(MEMBERS)
some_members = st.lists(members, min_size=1, max_size=7)
numbers = st.lists(st.sampled_from([b"1", b"2", b"3", b"-4"]), min_size=1, max_size=4)
some_keys = st.lists(keys, min_size=1, max_size=4)
few = st.sampled_from(b"1 2 3 4 5 6 -2".split())
how_many = st.sampled_from(b"1 2 3 0 -1 x 4 9223372036854775808".split())
limits = st.sampled_from(
    [
        *([], [b"LIMIT", b"0"], [b"limit", b"1"], [b"LIMIT", b"2"], [b"LIMIT", b"9223372036854775807"]),
        *([b"LIMIT", b"-1"], [b"LIMIT", b"x"], [b"LIMIT"], [b"bogus"], [b"bogus", b"1"]),
        [b"LIMIT", b"2", b"LIMIT", b"1"],
    ]
)

writes = st.one_of(
    command("SADD SADD SADD SREM", keys, some_members),
    command("SADD SREM", keys, numbers),
    command("SMOVE", keys, keys, members),
    command("SPOP", keys),
    command("SPOP", keys, counts),
    command("SPOP", keys, few),
    command("SPOP", keys, counts, keys),
    command("SINTERSTORE SUNIONSTORE SDIFFSTORE", keys, some_keys),
    command("DEL PERSIST", keys),
    command("EXPIRE", keys, st.sampled_from([b"1000", b"-1"])),
    command("RENAME", keys, keys),
)
reads = st.one_of(
    command("SCARD SMEMBERS SRANDMEMBER TYPE", keys),
    command("SISMEMBER", keys, members),
    command("SMISMEMBER", keys, some_members),
    command("SRANDMEMBER", keys, counts),
    command("SRANDMEMBER", keys, few),
    command("SRANDMEMBER", keys, counts, keys),
    command("SINTER SUNION SDIFF", some_keys),
    command("SINTERCARD", how_many, some_keys, limits),
    command("SINTERCARD", b"2", keys, keys, limits),
    command("SSCAN", keys, cursors, scan_options),
    command("OBJECT", st.sampled_from([b"ENCODING"]), keys),
)
mistakes = command(
    "SADD SREM SCARD SISMEMBER SMISMEMBER SMEMBERS SMOVE SPOP SRANDMEMBER SINTER SINTERCARD SINTERSTORE "
    "SUNION SUNIONSTORE SDIFF SDIFFSTORE SSCAN",
    anything,
)
