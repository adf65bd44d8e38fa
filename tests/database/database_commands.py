"""For the tests of the database: asking it without a server, and random commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from sofadb.database.database import Database
from sofadb.database.keyspace import Keyspace
from sofadb.database.queues import Who
from sofadb.database.replies import Reply, ReplyError
from sofadb.database.runs import Call, Group, Run, Turn
from sofadb.database.table import Route, check
from sofadb.database.values import List

NOW = 1_700_000_000_000
"""A time (ms) at which tests begin."""

Words = list[bytes]


def request(words: Sequence[bytes]) -> bytes:
    """A command as clients send it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def words(*parts: str | bytes | int) -> Words:
    return [part if isinstance(part, bytes) else str(part).encode() for part in parts]


def group_of(commands: Sequence[Words], number: int = 0) -> Group:
    """As the server forms it: a command that fails the check is answered and never gets into the log."""
    calls: list[Call] = []
    raw = b""
    for command in commands:
        try:
            declared = check(command)
        except ReplyError as problem:
            calls.append((refusal(problem), command))
            continue
        calls.append((declared.function, command))
        if declared.route is Route.WRITE:
            raw += request(command)
    return Group(number, calls, raw)


def refusal(problem: ReplyError) -> Any:
    def answer(keyspace: Keyspace, args: Words) -> Reply:
        return problem

    return answer


def run_of(commands: Sequence[Words], number: int = 0) -> Run:
    return Run(*group_of(commands, number))


def ask(database: Database, *parts: str | bytes | int, number: int = 0) -> Reply:
    """The reply to one command."""
    (reply,) = run_of([words(*parts)], number).execute(database)
    return reply


def turn(
    database: Database, number: int, *parts: str | bytes | int, front: bytes = b"n1/1", again: bool = False
) -> Reply:
    """The reply to one command that may wait; `Waits` if it does."""
    command = words(*parts)
    call = (check(command).function, command)
    (reply,) = Turn(0, call, request(command), Who(front, number), again).execute(database)
    return reply


def numbers_called(database: Database) -> list[int]:
    """Who was called in this batch, in order."""
    return [who.number for who in database.shared.queues.calls]


def begun(time: int = NOW) -> Database:
    """An empty database in the middle of its first batch."""
    database = Database()
    database.begin(1, time)
    return database


def a_list(*items: bytes) -> List:
    """A value that string commands do not know, and that may be changed in place."""
    value = List()
    for item in items:
        value.take([item])
    return value


# Random commands

keys = st.sampled_from([b"a", b"b", b"c", b"key:1", b"", b"list"])
integers = st.sampled_from(
    [
        *b"0 1 -1 10 -10 255 1.5 x +1 01 -0 1e3 1_0 00".split(),
        *b"9223372036854775807 -9223372036854775808 9223372036854775808 -9223372036854775809".split(),
        *(b"", b" 1", b"1 ", b"\xb2"),
    ]
)
floats = st.sampled_from(
    [
        *b"0.1 0.2 0 -0 1 -1.5 3.0e3 1e-5 5e20 -5E+20 1e-17 1e-18 5e-18 1.5e-17 .5 5. . 10.50 1_0 --1 1e".split(),
        *b"abc nan inf -Infinity 0x10 0x1.8p3 123456789012345678 0.30000000000000004".split(),
        *b"1e4931 1e4933 -1e4932 1e-4940 1e-4990".split(),
        *(b"", b" 1", b"1 ", b"9" * 40, b"0." + b"3" * 60),
    ]
)
values = (
    st.sampled_from([b"", b"v", b"hello world", b"10", b"3.14", b"\x00\xff\r\n", b"x" * 100])
    | integers
    | floats
)
offsets = st.sampled_from(
    b"0 1 -1 -3 2 7 100 -100 x 67108863 67108864 67108900 9223372036854775807 -9223372036854775808".split()
)
seconds = st.sampled_from(
    b"30000 100000 200000 0 -1 -100000000000 x 9223372036854775807 9223372036854775 -9223372036854775807 "
    b"9223372036854776".split()
)
moments = st.sampled_from(
    b"1 1000 33177117420 33177117421 33177117420000 0 -5 x 9223372036854775807 9223372036854775".split()
)
conditions = st.lists(st.sampled_from([b"NX", b"XX", b"gt", b"LT", b"bogus", b"\xff\r\n\0x"]), max_size=3)
options = st.lists(
    st.sampled_from([[b"NX"], [b"xx"], [b"GET"], [b"KEEPTTL"], [b"PERSIST"], [b"EX"], [b"bogus"], [b"PXAT"]])
    | st.tuples(st.sampled_from([b"EX", b"px"]), seconds).map(list)
    | st.tuples(st.sampled_from([b"EXAT", b"pxat"]), moments).map(list),
    max_size=3,
).map(lambda lists: [word for each in lists for word in each])
spelled = st.sampled_from([bytes.upper, bytes.lower, bytes.capitalize])


def command(names: str, *parts: Any) -> st.SearchStrategy[Words]:
    """One of several commands with drawn words; a drawn list is put in word by word."""
    strategies = [st.just(part) if isinstance(part, bytes) else part for part in parts]
    return st.tuples(st.sampled_from(names.encode().split()), spelled, *strategies).map(
        lambda drawn: [
            drawn[1](drawn[0]),
            *(word for part in drawn[2:] for word in (part if isinstance(part, list) else [part])),
        ]
    )


some_keys = st.lists(keys, min_size=1, max_size=3)
pairs = st.lists(st.tuples(keys, values), min_size=1, max_size=3).map(
    lambda many: [word for pair in many for word in pair]
)
anything = st.lists(values | keys, max_size=4)

numbers = st.sampled_from(b"0 1 1 2 15 16 -1 x 2147483648 9223372036854775808".split())
copies = st.lists(
    st.sampled_from([[b"REPLACE"], [b"DB"], [b"bogus"]]) | st.tuples(st.just(b"db"), numbers).map(list),
    max_size=2,
).map(lambda lists: [word for each in lists for word in each])
restores = st.lists(
    st.sampled_from([[b"REPLACE"], [b"absttl"], [b"FREQ"], [b"bogus"]])
    | st.tuples(st.sampled_from([b"freq", b"IDLETIME"]), st.sampled_from(b"0 255 256 -1 x".split())).map(
        list
    ),
    max_size=3,
).map(lambda lists: [word for each in lists for word in each])

writes = st.one_of(
    command("SET SETNX GETSET APPEND", keys, values),
    command("SET", keys, values, options),
    command("SETEX PSETEX", keys, seconds, values),
    command("GETEX", keys, options),
    command("GETDEL INCR DECR PERSIST", keys),
    command("DEL UNLINK", some_keys),
    command("MSET MSETNX", pairs),
    command("MSET MSETNX", some_keys),
    command("SETRANGE", keys, offsets, values),
    command("INCRBY DECRBY", keys, integers),
    command("INCRBYFLOAT", keys, floats),
    command("EXPIRE PEXPIRE", keys, seconds),
    command("EXPIREAT PEXPIREAT", keys, moments, conditions),
    command("EXPIRE", b"a", seconds.filter(lambda text: len(text) > 6 or text < b"1"), conditions),
    command("RENAME RENAMENX", keys, keys),
    command("COPY", keys, keys, copies),
    command("MOVE", keys, numbers),
    command("SWAPDB", numbers, numbers),
    command("RESTORE", keys, st.sampled_from(b"0 1 -1 x".split()), b"no dump", restores),
    command("FLUSHDB FLUSHALL", st.lists(st.sampled_from([b"ASYNC", b"sync", b"x"]), max_size=1)),
)
subsequences = st.lists(
    st.sampled_from([[b"LEN"], [b"idx"], [b"WITHMATCHLEN"], [b"MINMATCHLEN"], [b"bogus"]])
    | st.tuples(st.just(b"minmatchlen"), integers).map(list),
    max_size=3,
).map(lambda lists: [word for each in lists for word in each])
reads = st.one_of(
    command("GET STRLEN TYPE TTL PTTL EXPIRETIME PEXPIRETIME", keys),
    command("MGET EXISTS TOUCH", some_keys),
    command("GETRANGE SUBSTR", keys, offsets, offsets),
    command("DBSIZE RANDOMKEY"),
    command("KEYS", st.sampled_from([b"*", b"**", b"?", b"[ab]", b"[^a]*", b"key:*", b"", b"\\a"])),
    command("SCAN", st.sampled_from([b"x", b"1.5", b"18446744073709551616", b"x\x000"])),
    command("SCAN", b"0", st.sampled_from([b"COUNT", b"MATCH", b"TYPE", b"bogus"])),
    command("SCAN", b"0", b"COUNT", st.sampled_from([b"0", b"-1", b"x", b"100000"])),
    command("SCAN", b"0", b"count", b"100000", b"match", st.sampled_from([b"*", b"?", b"k*"])),
    command(
        "SCAN", b"0", b"COUNT", b"100000", b"TYPE", st.sampled_from([b"string", b"list", b"nope", b"STRING"])
    ),
    command("OBJECT", st.sampled_from([b"REFCOUNT", b"ENCODING", b"FREQ", b"IDLETIME"]), b"nowhere"),
    command("LCS", keys, keys, subsequences),
    command("DUMP", b"nowhere"),
    command("WAIT", st.sampled_from([b"0", b"-1", b"x"]), st.sampled_from([b"0", b"1", b"-1", b"x"])),
)
mistakes = st.one_of(
    command("GET SET MGET EXPIRE NOSUCH DBSIZE RENAME TIME SCAN OBJECT SETRANGE", anything),
    command("OBJECT", st.sampled_from([b"nonsense", b"FREQ\r\nx"]), st.lists(keys, max_size=2)),
    command(
        "NOSUCH", st.lists(st.sampled_from([b"x" * 200, b"y" * 60, b"a\x00b", b"line\r\nbreak"]), max_size=5)
    ),
)
