"""Random commands on lists, and SORT."""

from __future__ import annotations

from database_commands import anything, command, integers
from hypothesis import strategies as st

keys = st.sampled_from([b"a", b"b", b"c", b"numbers", b"text", b"set", b"zset", b"hash", b"nowhere"])
lists = st.sampled_from([b"a", b"b", b"c", b"numbers"])
some_keys = keys | lists | lists
elements = st.sampled_from([b"", b"x", b"y", b"z", b"1", b"10", b"2", b"-1.5", b"1e3", b"\xff\r\n\x00"])
some_elements = st.lists(elements, min_size=1, max_size=5)
many_elements = st.tuples(elements, elements, st.integers(1, 100)).map(
    lambda drawn: [drawn[0], *[drawn[1]] * drawn[2], *[b"%d" % number for number in range(drawn[2])]]
)
positions = st.sampled_from(b"0 1 -1 2 -2 3 -3 5 -5 50 -50 70 100 -100".split()) | integers
counts = st.sampled_from(b"0 1 2 3 10 70 -1".split()) | integers
ends = st.sampled_from([b"LEFT", b"RIGHT", b"left", b"Right"]) | st.sampled_from(
    [b"LEFT", b"RIGHT", b"middle"]
)


def option(names: str, amounts: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    """One of some options with its amount, which is sometimes left out."""
    name = st.sampled_from(names.encode().split())
    return st.tuples(name, amounts).map(list) | st.tuples(name, amounts).map(list) | name.map(lambda it: [it])


def some(options: st.SearchStrategy[list[bytes]], max_size: int = 3) -> st.SearchStrategy[list[bytes]]:
    return st.lists(options, max_size=max_size).map(lambda many: [word for each in many for word in each])


pushes = st.one_of(
    command("LPUSH RPUSH", some_keys, some_elements),
    command("LPUSH RPUSH", lists, many_elements),
    command("LPUSHX RPUSHX", some_keys, some_elements),
)
pops = st.one_of(
    command("LPOP RPOP", some_keys),
    command("LPOP RPOP", some_keys, counts),
    command("LMOVE", some_keys, some_keys, ends, ends),
    command("RPOPLPUSH", some_keys, some_keys),
    command("LMPOP", st.sampled_from(b"1 2 3 0 x".split()), st.lists(keys, max_size=3), ends),
    command("LMPOP", b"1", some_keys, ends, some(option("COUNT count bogus", counts), 2)),
    command("LMPOP", b"2", some_keys, some_keys, ends, some(option("COUNT", counts), 1)),
)
changes = st.one_of(
    command("LSET", some_keys, positions, elements),
    command(
        "LINSERT", some_keys, st.sampled_from(b"BEFORE AFTER before after within".split()), elements, elements
    ),
    command("LREM", some_keys, counts, elements),
    command("LREM", lists, st.sampled_from(b"-9223372036854775808 -2 -3 2".split()), elements),
    command("LTRIM", some_keys, positions, positions),
)
looks = st.one_of(
    command("LLEN", some_keys),
    command("LINDEX", some_keys, positions),
    command("LRANGE", some_keys, positions, positions),
    command("LPOS", some_keys, elements, some(option("RANK COUNT MAXLEN rank bogus", counts | positions))),
    command("LPOS", lists, elements, option("RANK", positions), option("COUNT", counts)),
)
patterns = st.sampled_from(
    b"# * w_* w_*_x h_*->f h_*->g h_*-> nosort ->f *->f w_*->f a*b*c #x h_*->f->g w_*\0x \0*".split(b" ")
)
ways = st.one_of(
    st.sampled_from([[b"ASC"], [b"DESC"], [b"desc"], [b"ALPHA"], [b"ALPHA"], [b"alpha"]]),
    st.tuples(st.sampled_from([b"BY", b"GET"]), patterns).map(list),
    st.tuples(st.just(b"LIMIT"), counts, counts).map(list),
    st.just([b"BY", b"nosort"]),
)
sorts = st.one_of(
    command("SORT SORT_RO", keys, some(ways, 4)),
    command("SORT", keys, some(ways, 4), b"STORE", keys),
    command("SORT SORT_RO", keys, some(ways | option("STORE LIMIT BY GET bogus", keys))),
    command("SORT SORT_RO", st.sampled_from([b"numbers", b"set", b"zset", b"text"]), some(ways)),
)


def has_one_order(words: list[bytes]) -> bool:
    """Whether Redis has a certain order for what weighs the same."""
    spelled = {word.upper() for word in words}
    return not ({b"ALPHA", b"BY"} <= spelled and (b"LIMIT" in spelled or b"ZSET" in spelled))


sorts = sorts.filter(has_one_order)
mistakes = command(
    "LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LLEN LINDEX LRANGE LINSERT LSET LREM LTRIM LPOS LMOVE RPOPLPUSH LMPOP "
    "SORT SORT_RO",
    anything,
)
