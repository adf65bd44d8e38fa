"""The same commands to a real Redis and to a node: the same replies, errors to the letter.

Each example is one pipeline, so that order, transactions and what rides with what are compared as well.
"""

from __future__ import annotations

import os
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from processes import Client, Cluster, Redis

EXAMPLES = int(os.environ.get("SOFADB_EXAMPLES", "500"))

keys = st.sampled_from([b"a", b"b", b"c", b"key:1"])
integers = st.sampled_from(
    [
        *b"0 1 -1 10 9223372036854775807 -9223372036854775808 9223372036854775808 1.5 x +1 01 -0 1e3".split(),
        b"",
        b" 1",
    ]
)
floats = st.sampled_from(
    [
        b"0.1",
        b"0.2",
        b"1",
        b"-1.5",
        b"3.0e3",
        b"1e-5",
        b"5e20",
        b"abc",
        b"",
        b"nan",
        b"inf",
        b"-inf",
        b"0x10",
        b" 1",
        b"10.50",
    ]
)
values = st.sampled_from([b"", b"v", b"hello world", b"10", b"3.14", b"\x00\xff", b"x" * 100]) | integers
offsets = st.sampled_from([b"0", b"1", b"-1", b"-3", b"2", b"100", b"-100", b"x", b"9223372036854775807"])
seconds = st.sampled_from(
    [b"100", b"1000", b"100000", b"0", b"-1", b"x", b"9223372036854775807", b"9223372036854775"]
)
milliseconds = st.sampled_from(
    [b"100000", b"1000000", b"0", b"-1", b"x", b"9223372036854775807", b"9223372036854775"]
)
"""None so short that it matters how fast the machine is."""
moments = st.sampled_from([b"1", b"1000", b"33177117420", b"0", b"-5", b"x", b"9223372036854775807"])
conditions = st.sampled_from([b"NX", b"XX", b"GT", b"lt", b"bogus"])
options = st.lists(
    st.sampled_from([[b"NX"], [b"xx"], [b"GET"], [b"KEEPTTL"], [b"EX"], [b"bogus"]])
    | st.tuples(st.just(b"EX"), seconds).map(list)
    | st.tuples(st.just(b"px"), milliseconds).map(list)
    | st.tuples(st.sampled_from([b"EXAT", b"PXAT"]), moments).map(list),
    max_size=2,
).map(lambda lists: [word for each in lists for word in each])


def words(*parts: Any) -> st.SearchStrategy[list[bytes]]:
    """A command of fixed and drawn words; a drawn list is put in word by word."""
    strategies = [st.just(part) if isinstance(part, bytes) else part for part in parts]
    return st.tuples(*strategies).map(
        lambda drawn: [word for part in drawn for word in (part if isinstance(part, list) else [part])]
    )


pairs = st.lists(st.tuples(keys, values), min_size=1, max_size=3).map(
    lambda many: [word for pair in many for word in pair]
)
many_keys = st.lists(keys, min_size=1, max_size=3)

data_commands = st.one_of(
    words(
        st.sampled_from(
            [b"GET", b"get", b"STRLEN", b"GETDEL", b"INCR", b"DECR", b"TYPE", b"PERSIST", b"EXPIRETIME"]
        ),
        keys,
    ),
    words(b"SET", keys, values, options),
    words(b"SET", keys, values),
    words(st.sampled_from([b"SETNX", b"GETSET", b"APPEND"]), keys, values),
    words(b"SETEX", keys, seconds, values),
    words(b"PSETEX", keys, milliseconds, values),
    words(b"GETEX", keys, options),
    words(st.sampled_from([b"MGET", b"EXISTS", b"DEL", b"UNLINK", b"TOUCH"]), many_keys),
    words(st.sampled_from([b"MSET", b"MSETNX"]), pairs),
    words(b"MSET", keys),
    words(st.sampled_from([b"GETRANGE", b"SUBSTR"]), keys, offsets, offsets),
    words(b"SETRANGE", keys, offsets, values),
    words(st.sampled_from([b"INCRBY", b"DECRBY"]), keys, integers),
    words(b"INCRBYFLOAT", keys, floats),
    words(b"EXPIRE", keys, seconds),
    words(b"PEXPIRE", keys, milliseconds),
    words(st.sampled_from([b"EXPIREAT", b"PEXPIREAT"]), keys, moments),
    words(b"EXPIRE", keys, seconds, st.lists(conditions, max_size=2)),
    words(b"TTL", keys),
    words(st.sampled_from([b"RENAME", b"RENAMENX"]), keys, keys),
    words(b"FLUSHDB", st.sampled_from([b"ASYNC", b"SYNC", b"x"])),
)
other_commands = st.one_of(
    words(st.sampled_from([b"PING", b"MULTI", b"EXEC", b"DISCARD", b"UNWATCH", b"FLUSHALL"])),
    words(b"ECHO", values),
    words(b"PING", values),
    words(b"SELECT", st.sampled_from([b"0", b"1", b"15", b"16", b"-1", b"x"])),
    words(b"WATCH", many_keys),
    words(b"CLIENT", st.sampled_from([b"GETNAME", b"nonsense"])),
    words(b"CLIENT", b"SETNAME", st.sampled_from([b"me", b"not me"])),
    words(b"SCAN", st.sampled_from([b"x", b"1.5"])),
    words(b"SCAN", b"0", st.sampled_from([b"COUNT", b"MATCH", b"bogus"])),
    words(b"SCAN", b"0", b"COUNT", st.sampled_from([b"0", b"-1", b"x"])),
    words(st.sampled_from([b"GET", b"SET", b"NOSUCH", b"EXPIRE", b"MGET", b"CLIENT", b"RENAME"])),
    words(b"NOSUCH", values, values),
)
transactions = st.tuples(
    st.lists(words(b"WATCH", keys), max_size=1),
    st.lists(data_commands, max_size=2),
    st.just([[b"MULTI"]]),
    st.lists(data_commands | other_commands, max_size=4),
    st.just([[b"EXEC"]]),
).map(lambda parts: [command for part in parts for command in part])
sequences = st.lists(
    data_commands.map(lambda c: [c]) | other_commands.map(lambda c: [c]) | transactions,
    min_size=1,
    max_size=12,
).map(lambda lists: [command for each in lists for command in each])


@pytest.fixture(scope="module")
def pair(redis: Redis, single: Cluster) -> tuple[Client, Client]:
    return redis.client(), single.client("n1")


def shown(reply: Any) -> Any:
    """Errors compare by their text; a map in one and a flat array in the other do not occur in RESP2."""
    if isinstance(reply, hiredis.ReplyError):
        return f"error: {reply}"
    if isinstance(reply, list):
        return [shown(each) for each in reply]
    return reply


@given(sequences)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    database=None,
)
def test_random_pipelines_get_the_same_replies(
    pair: tuple[Client, Client], commands: list[list[bytes]]
) -> None:
    clean = [
        [b"DISCARD"],
        [b"UNWATCH"],
        [b"SELECT", b"1"],
        [b"FLUSHALL"],
        [b"SELECT", b"0"],
        [b"CLIENT", b"SETNAME", b""],
    ]
    theirs, ours = (client.pipeline(clean + commands)[len(clean) :] for client in pair)
    for command, expected, actual in zip(commands, theirs, ours, strict=True):
        assert shown(actual) == shown(expected), command
    # What is left behind is the same, too.
    look = [[b"DISCARD"], [b"SELECT", b"0"], [b"MGET", b"a", b"b", b"c", b"key:1"], [b"PEXPIRETIME", b"a"]]
    theirs, ours = (client.pipeline(look) for client in pair)
    assert ours[2] == theirs[2]
    assert abs(ours[3] - theirs[3]) < 3000


PATTERNS = [
    b"*",
    b"a*",
    b"?",
    b"[ab]",
    b"[^ab]",
    b"[a-c]*",
    b"\\*",
    b"*b*b*",
    b"h[",
    b"[",
    b"[]",
    b"",
    b"*?*",
    b"a[c-a]",
    b"[a-]",
]
NAMES = [b"a", b"b", b"ab", b"abb", b"abcb", b"*", b"c", b"h[", b"-", b"\xff", b"", b"ca", b"a]", b"hello"]


def test_glob_patterns_match_as_in_redis(pair: tuple[Client, Client]) -> None:
    for client in pair:
        client.pipeline([[b"FLUSHALL"]] + [[b"SET", name, b"1"] for name in NAMES])
    for pattern in PATTERNS:
        theirs, ours = (sorted(client(b"KEYS", pattern)) for client in pair)
        assert ours == theirs, pattern


@pytest.mark.parametrize(
    "data",
    [
        b"*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
        b'PING hello\r\n\r\n   \r\nECHO "a\\x41\\n" \r\n',
        b"ECHO 'it''\r\n",
        b'ECHO "unbalanced\r\n',
        b"*-1\r\n*0\r\nPING\r\n",
        b"*abc\r\n",
        b"*1\r\n+PING\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$abc\r\n",
        b"*2\r\n$4\r\nECHO\r\n$99999999999\r\n",
        b"*1\r\n*1\r\n$4\r\nPING\r\n",
    ],
)
def test_odd_and_broken_requests_get_the_same_answer(redis: Redis, single: Cluster, data: bytes) -> None:
    answers = []
    for client in (redis.client(), single.client("n1")):
        client.socket.sendall(data + b"*1\r\n$4\r\nQUIT\r\n")
        received = b""
        while part := client.socket.recv(4096):
            received += part
        answers.append(received)
        client.close()
    assert answers[1] == answers[0]
