"""Random commands on bitmaps."""

from __future__ import annotations

from database_commands import anything, command, conditions, integers, keys, some_keys, values
from hypothesis import strategies as st

bits = st.sampled_from(b"0 1 0 1 0 1 2 -1 x".split())
places = st.sampled_from(
    [
        *b"0 1 7 8 9 15 16 17 100 800 801 -1 x 1.5 #1 536870912 9223372036854775808".split(),
        *(b"", b"1 "),
    ]
)
offsets = places | st.sampled_from(b"#0 #1 #2 #7 # #-1 #x #536870912 524280 524288 524300".split())
ends = st.sampled_from(b"0 1 2 3 5 7 8 9 10 63 64 100 -1 -2 -3 -9 -100 x 9223372036854775807".split())
spans = st.lists(ends, max_size=3) | st.tuples(
    ends, ends, st.sampled_from([b"BIT", b"byte", b"BYTE", b"bit", b"bogus"])
).map(list)
types = st.sampled_from(b"u1 u8 u16 u63 i1 i5 i8 i16 i63 i64 u64 i65 i0 u-1 x8 u i 8 U8".split())
amounts = integers | st.sampled_from(b"127 128 -128 -129 255 256 32767 32768 -32769 65536".split())
operations = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([b"GET", b"get"]), types, offsets),
        st.tuples(st.sampled_from([b"SET", b"INCRBY", b"incrby"]), types, offsets, amounts),
        st.tuples(st.just(b"OVERFLOW"), st.sampled_from([b"WRAP", b"sat", b"SAT", b"FAIL", b"fail", b"x"])),
        st.tuples(st.just(b"SET"), st.sampled_from(b"i8 u8 i64 u63 i5".split()), offsets, amounts),
        st.tuples(st.just(b"INCRBY"), st.sampled_from(b"i8 u8 i64 u63 i5".split()), offsets, amounts),
        st.sampled_from([(b"GET", b"u8"), (b"SET", b"u8", b"0"), (b"OVERFLOW",), (b"bogus",)]),
    ),
    max_size=4,
).map(lambda many: [word for each in many for word in each])
gets = st.lists(st.tuples(st.just(b"GET"), types, offsets), max_size=3).map(
    lambda many: [word for each in many for word in each]
)
dense = st.binary(min_size=1, max_size=12).map(
    lambda drawn: bytes(b"\0\0\xff\xff\x0f\xf0\x80\x01"[it % 8] for it in drawn)
)

changes = st.one_of(
    command("SETBIT", keys, places, bits),
    command("BITFIELD", keys, operations),
    command("BITFIELD", keys, operations),
    command("BITOP", st.sampled_from([b"AND", b"or", b"XOR", b"NOT", b"bogus"]), keys, some_keys),
    command("SET", keys, dense | values),
    command("EXPIRE", keys, b"1000"),
    command("APPEND", keys, dense),
    command("DEL", keys),
)
looks = st.one_of(
    command("GETBIT", keys, places),
    command("BITCOUNT", keys, spans),
    command("BITPOS", keys, bits, spans),
    command("BITFIELD_RO", keys, gets | operations),
    command("GET STRLEN PTTL", keys),
)
mistakes = st.one_of(
    command("SETBIT GETBIT BITCOUNT BITPOS BITOP BITFIELD BITFIELD_RO", anything),
    command("BITPOS BITCOUNT", keys, bits, conditions),
)
