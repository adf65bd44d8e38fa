"""Random commands of sorted sets."""

from __future__ import annotations

from typing import Any

from database_commands import anything, command
from hypothesis import strategies as st

KEYS = [b"a", b"b", b"c", b""]
"""Those at which sorted sets come and go."""
SET, LIST, STRING = b"set", b"list", b"string"
NAMES = b"n"
"""Where all scores are the same, so that ranges by name say something."""
MEMBERS = [b"a", b"b", b"aa", b"B", b"1", b"-5", b"", b"\xff\x00", b"x" * 64, b"y" * 65]

keys = st.sampled_from([*KEYS[:3] * 6, KEYS[3], SET, LIST, STRING])
own_keys = st.sampled_from(KEYS)
any_keys = st.sampled_from([*KEYS[:3] * 4, KEYS[3], NAMES, NAMES, SET, SET, LIST])
members = st.sampled_from([*MEMBERS[:9] * 3, MEMBERS[9]])
good_scores = st.sampled_from(
    b"0 -0 1 2 3 -1 1.5 0.1 0.2 0.3 1e17 -1e300 1e300 inf -inf +Infinity 4503599627370497.5 9007199254740993".split()
)
other_scores = st.sampled_from(
    [
        *b"0x10 0x1.8p3 0X.8 0x1. 0x0p99999 1e-320 2e-324 3e-324 1e-400 1e400 -1e400 0e999999999999 .5 5. 1e+2".split(),
        *b"123456789012345678 0x1p-1080 0x1p99999 -0x1p1024 1e22 nan -nan(1) x 1_0 1e 0x . + 0x1p".split(),
        *(b"", b" 1", b"1 ", b"1\x00", b"inf\x00", b"infx"),
    ]
)
scores = good_scores | good_scores | good_scores | other_scores
ranks = st.sampled_from(
    b"0 0 1 2 -1 -1 -2 100 -100 9223372036854775807 -9223372036854775808 9223372036854775808 x 1.5".split()
)
bounds = st.sampled_from(
    [
        *b"-inf +inf inf 0 (0 (-0 1 (1 2 (2 1.5 -1 (-1 (inf (-inf 1e400 -1e400 (0.1 0.3".split(),
        *(
            b"-inf",
            b"+inf",
            b"",
            b"(",
            b" 1",
            b"( 1",
            b"1\x00x",
            b"(1\x00",
            b"1 ",
            b"x",
            b"nan",
            b"((1",
            b"[1",
            b"  ",
        ),
    ]
)
name_bounds = st.sampled_from(
    [
        *b"- + [a (a [b (b [aa (aa [B [1 ( [ - +".split(),
        b"+\x00x",
        b"-x",
        b"",
        b"a",
        b"[\xff\x00",
        b"(\xff\x00",
    ]
)
limits = st.sampled_from(b"0 0 1 2 -1 -5 100 9223372036854775807 x".split())
limit = st.tuples(st.just(b"LIMIT"), limits, limits).map(list)


def some(*each: Any, most: int = 3) -> st.SearchStrategy[list[bytes]]:
    """A few options, each a list of words, one behind the other."""
    return st.lists(st.one_of(*each), max_size=most).map(
        lambda lists: [word for part in lists for word in part]
    )


def one_of(*words: bytes) -> st.SearchStrategy[list[bytes]]:
    return st.sampled_from([[word] for word in words])


conditions = some(one_of(b"NX", b"xx", b"GT", b"lt", b"CH", b"INCR"), most=2)
good_pairs = st.lists(st.tuples(good_scores, members), min_size=1, max_size=6).map(
    lambda many: [word for pair in many for word in pair]
)
pairs = st.lists(st.tuples(scores, members), min_size=1, max_size=3).map(
    lambda many: [word for pair in many for word in pair]
)
of_equal_scores = st.lists(members, min_size=1, max_size=6).map(
    lambda many: [word for name in many for word in (b"0", name)]
)
many_pairs = st.sampled_from([20, 128, 129]).map(
    lambda count: [word for each in range(count) for word in (b"%d" % (each % 7), b"m%d" % each)]
)
range_options = some(one_of(b"WITHSCORES", b"rev", b"BYSCORE", b"BYLEX", b"LIMIT", b"bogus"), limit)
with_scores = st.sampled_from([[], [b"WITHSCORES"], [b"withscores"]])
counts = st.sampled_from(b"1 0 2 3 100 -1 -3 x 9223372036854775807 -9223372036854775808".split())
weights = st.lists(scores, min_size=1, max_size=3).map(lambda many: [b"WEIGHTS", *many])
aggregate = st.sampled_from([[b"AGGREGATE", b"SUM"], [b"aggregate", b"min"], [b"AGGREGATE", b"Max"]])
combined = some(weights, aggregate, one_of(b"WITHSCORES", b"AGGREGATE", b"bogus", b"LIMIT"), most=2)


@st.composite
def several(draw: st.DrawFn) -> list[bytes]:
    """How many keys, and those; perhaps with a weight for each."""
    chosen = draw(st.lists(any_keys, min_size=1, max_size=4))
    count = draw(st.sampled_from([b"%d" % len(chosen)] * 15 + [b"0", b"-1", b"x", b"5"]))
    weighing = draw(st.lists(good_scores, min_size=len(chosen), max_size=len(chosen)) | st.none())
    return [count, *chosen, *([] if weighing is None else [b"WEIGHTS", *weighing])]


plain_several = several().map(
    lambda words: words[: words.index(b"WEIGHTS")] if b"WEIGHTS" in words else words
)
popping = st.tuples(plain_several, st.sampled_from([b"MIN", b"max", b"MIN", b"bogus"])).map(
    lambda parts: [*parts[0], parts[1]]
)
pop_counts = some(st.tuples(st.just(b"COUNT"), counts).map(list), one_of(b"COUNT", b"bogus"), most=1)
count_limits = some(
    st.tuples(st.just(b"LIMIT"), limits).map(list), one_of(b"LIMIT", b"bogus", b"WITHSCORES"), most=2
)
scan_options = some(
    st.tuples(st.just(b"MATCH"), st.sampled_from([b"*", b"a*", b"?", b"[ab]", b"m1*"])).map(list),
    st.tuples(st.just(b"COUNT"), st.sampled_from(b"1 1000 0 -1 x".split())).map(list),
    one_of(b"COUNT", b"MATCH", b"TYPE", b"bogus"),
    most=2,
)

writes = st.one_of(
    command("ZADD", own_keys, good_pairs),
    command("ZADD", own_keys, good_pairs),
    command("ZADD", keys, conditions, pairs),
    command("ZADD", keys, conditions, good_pairs),
    command("ZADD", keys, conditions, good_scores, members),
    command("ZADD", own_keys, many_pairs),
    command("ZINCRBY", keys, scores, members),
    command("ZADD", NAMES, of_equal_scores),
    command("ZREM", keys | st.just(NAMES), st.lists(members, min_size=1, max_size=4)),
    command("ZREMRANGEBYRANK", keys, ranks, ranks),
    command("ZREMRANGEBYSCORE", keys, bounds, bounds),
    command("ZREMRANGEBYLEX", st.sampled_from([NAMES, NAMES, b"nowhere", LIST]), name_bounds, name_bounds),
    command("ZPOPMIN ZPOPMAX", keys),
    command("ZPOPMIN ZPOPMAX", keys, counts),
    command("ZPOPMIN ZPOPMAX", keys, counts, counts),
    command("ZMPOP", popping, pop_counts),
    command("ZRANGESTORE", own_keys | st.just(STRING), keys, ranks, ranks, range_options),
    command("ZRANGESTORE", own_keys, keys, bounds, bounds, b"BYSCORE", range_options),
    command("ZRANGESTORE", own_keys, NAMES, name_bounds, name_bounds, b"BYLEX", range_options),
    command("ZUNIONSTORE ZINTERSTORE", own_keys, several(), combined),
    command("ZUNIONSTORE ZINTERSTORE", own_keys | st.just(STRING), several()),
    command("ZDIFFSTORE", own_keys, plain_several, combined),
    command("ZDIFFSTORE", own_keys, plain_several),
)
reads = st.one_of(
    command("ZCARD", keys),
    command("ZSCORE ZRANK ZREVRANK", keys, members),
    command("ZMSCORE", keys, st.lists(members, min_size=1, max_size=4)),
    command("ZCOUNT", keys, bounds, bounds),
    command("ZLEXCOUNT", st.sampled_from([NAMES, NAMES, NAMES, b"nowhere", LIST]), name_bounds, name_bounds),
    command("ZRANGE ZREVRANGE", keys, ranks, ranks, with_scores),
    command("ZRANGE ZREVRANGE", keys, ranks, ranks, range_options),
    command("ZRANGE", keys, bounds, bounds, b"BYSCORE", range_options),
    command("ZRANGE", NAMES, name_bounds, name_bounds, b"BYLEX", range_options),
    command("ZRANGEBYSCORE ZREVRANGEBYSCORE", keys, bounds, bounds, with_scores, limit | st.just([])),
    command("ZRANGEBYSCORE ZREVRANGEBYSCORE", keys, bounds, bounds, range_options),
    command("ZRANGEBYLEX ZREVRANGEBYLEX", NAMES, name_bounds, name_bounds, limit | st.just([])),
    command("ZRANGEBYLEX ZREVRANGEBYLEX", NAMES, name_bounds, name_bounds, range_options),
    command("ZRANGEBYLEX", keys, b"-", b"+"),
    command("ZRANDMEMBER", keys),
    command("ZRANDMEMBER", keys, counts, with_scores),
    command("ZRANDMEMBER", keys, counts, st.sampled_from([[b"bogus"], [b"WITHSCORES", b"x"]])),
    command("ZUNION ZINTER ZDIFF", several(), combined),
    command("ZUNION ZINTER", several(), with_scores),
    command("ZDIFF", plain_several, with_scores),
    command("ZINTERCARD", plain_several, count_limits),
    command("ZSCAN", keys, b"0", scan_options),
    command("ZSCAN", keys, st.sampled_from([b"x", b"", b"-1", b"1.5", b"7"]), scan_options),
    command("OBJECT", b"ENCODING", own_keys),
    command("TYPE", own_keys),
)
mistakes = command(
    "ZADD ZINCRBY ZREM ZCARD ZCOUNT ZLEXCOUNT ZSCORE ZMSCORE ZRANK ZREVRANK ZRANGE ZREVRANGE ZRANGEBYSCORE "
    "ZREVRANGEBYSCORE ZRANGEBYLEX ZREVRANGEBYLEX ZRANGESTORE ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREMRANGEBYLEX ZPOPMIN "
    "ZPOPMAX ZMPOP ZRANDMEMBER ZUNION ZINTER ZDIFF ZUNIONSTORE ZINTERSTORE ZDIFFSTORE ZINTERCARD ZSCAN",
    anything,
)
