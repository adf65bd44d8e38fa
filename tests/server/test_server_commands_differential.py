"""Commands of the server and of connections, to a real Redis and to a node: the same replies where both mean the same.

Replies to lists of words are compared by their beginning and their number where the words are each one's own (HELP), and
figures only by their shape.
"""

from __future__ import annotations

import os
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processes import Client, Cluster, Redis

EXAMPLES = int(os.environ.get("SOFADB_EXAMPLES", "400"))


@pytest.fixture(scope="module")
def pair(redis: Redis, single: Cluster) -> tuple[Client, Client]:
    clients = redis.client(), single.client("n1")
    for client in clients:  # How long anything takes is not compared.
        client("CONFIG", "SET", "slowlog-log-slower-than", "-1")
    return clients


def shown(reply: Any) -> Any:
    if isinstance(reply, hiredis.ReplyError):
        return f"error: {reply}"
    if isinstance(reply, list):
        return [shown(each) for each in reply]
    return reply


def words(text: str) -> list[bytes]:
    return [b"" if word == '""' else word.encode() for word in text.split()]


SAME = """
    CONFIG SET nosuch 1
    CONFIG SET timeout
    CONFIG SET timeout 1 tcp-keepalive
    CONFIG SET timeout 1 timeout 2
    CONFIG SET timeout 1 Timeout 2 nosuch 3
    CONFIG SET timeout 1 nosuch 3
    CONFIG SET timeout x
    CONFIG SET TimeOut x
    CONFIG SET timeout -1
    CONFIG SET timeout 99999999999999999999
    CONFIG SET tcp-keepalive -1
    CONFIG SET maxclients 0
    CONFIG SET appendonly maybe
    CONFIG SET appendfsync maybe
    CONFIG SET maxmemory-policy nosuch
    CONFIG SET maxmemory nosuch
    CONFIG SET maxmemory 0b
    CONFIG SET slowlog-log-slower-than -2
    CONFIG SET slowlog-max-len 10.5
    CONFIG SET latency-tracking maybe
    CONFIG SET latency-monitor-threshold -1
    CONFIG SET daemonize yes
    CONFIG SET databases 16
    CONFIG SET cluster-enabled yes
    CONFIG SET save ""
    CONFIG SET timeout 100 TCP-KEEPALIVE 200 slowlog-max-len 5
    CONFIG GET timeout Timeout time*
    CONFIG GET tcp-keepalive
    CONFIG GET slowlog-max-*
    CONFIG SET timeout 0 tcp-keepalive 300 slowlog-max-len 128
    CONFIG GET tim?out
    CONFIG GET
    CONFIG GET nosuch
    CONFIG GET databases
    CONFIG GET maxmemory
    CONFIG GET hash-max-listpack-entries
    CONFIG GET zset-max-listpack-value
    CONFIG GET set-max-intset-entries
    CONFIG REWRITE
    CONFIG RESETSTAT
    CONFIG RESETSTAT x
    CONFIG nosuch
    CONFIG
    CLIENT KILL
    CLIENT KILL 1.2.3.4:5
    CLIENT KILL ID
    CLIENT KILL ID x
    CLIENT KILL ID 0
    CLIENT KILL ID 999999
    CLIENT KILL ID 99999999999999999999
    CLIENT KILL TYPE nosuch
    CLIENT KILL TYPE replica
    CLIENT KILL USER nosuch
    CLIENT KILL ADDR 1.2.3.4:5 ID
    CLIENT KILL ADDR 1.2.3.4:5 LADDR 1.2.3.4:6
    CLIENT KILL SKIPME maybe
    CLIENT KILL nosuch bar
    CLIENT KILL TYPE pubsub SKIPME no
    CLIENT KILL ID 999999 nosuch
    CLIENT PAUSE
    CLIENT PAUSE x
    CLIENT PAUSE -1
    CLIENT PAUSE 1 nosuch
    CLIENT PAUSE 0 WRITE x
    CLIENT PAUSE 1 WRITE
    CLIENT UNPAUSE
    CLIENT UNPAUSE x
    CLIENT REPLY nosuch
    CLIENT REPLY ON
    CLIENT NO-EVICT on
    CLIENT NO-EVICT off
    CLIENT NO-EVICT nosuch
    CLIENT LIST ID
    CLIENT LIST ID 0
    CLIENT LIST ID x
    CLIENT LIST TYPE nosuch
    CLIENT LIST TYPE normal x
    CLIENT LIST TYPE pubsub
    CLIENT LIST nosuch
    CLIENT TRACKING nosuch
    CLIENT TRACKING off
    CLIENT TRACKING off REDIRECT x
    CLIENT TRACKING off REDIRECT 999999
    CLIENT TRACKING off REDIRECT
    CLIENT TRACKING off PREFIX
    CLIENT TRACKING off PREFIX a BCAST optin noloop
    CLIENT TRACKING nosuch REDIRECT x
    CLIENT TRACKINGINFO
    CLIENT GETREDIR
    CLIENT CACHING yes
    CLIENT CACHING nosuch
    CLIENT nosuch
    CLIENT HELP x
    CLIENT
    SLOWLOG RESET
    SLOWLOG GET
    SLOWLOG GET x
    SLOWLOG GET -2
    SLOWLOG GET 0
    SLOWLOG GET 1 2
    SLOWLOG LEN x
    SLOWLOG nosuch
    SLOWLOG
    MEMORY USAGE nosuch
    MEMORY USAGE nosuch SAMPLES
    MEMORY USAGE nosuch SAMPLES x
    MEMORY USAGE nosuch SAMPLES -1
    MEMORY USAGE nosuch SAMPLES 0 SAMPLES 1
    MEMORY USAGE nosuch nosuch 1
    MEMORY USAGE
    MEMORY PURGE
    MEMORY nosuch
    LATENCY LATEST
    LATENCY HISTORY
    LATENCY HISTORY nosuch
    LATENCY RESET
    LATENCY RESET nosuch
    LATENCY GRAPH nosuch
    LATENCY HISTOGRAM nosuch
    LATENCY nosuch
    LOLWUT VERSION x
    DEBUG
    ROLE x
    SHUTDOWN nosuch
    SHUTDOWN SAVE NOSAVE
    SHUTDOWN ABORT
    SHUTDOWN ABORT NOW
    COMMAND COUNT x
    COMMAND GETKEYS
    COMMAND GETKEYS nosuch
    COMMAND GETKEYS nosuch x
    COMMAND GETKEYS get
    COMMAND GETKEYS get a
    COMMAND GETKEYS get a b
    COMMAND GETKEYS ping x
    COMMAND GETKEYS mset a 1 b 2
    COMMAND GETKEYS mset a 1 b
    COMMAND GETKEYS object encoding k
    COMMAND GETKEYS object encoding
    COMMAND GETKEYS object nosuch k
    COMMAND GETKEYS memory usage k
    COMMAND GETKEYS client list
    COMMAND GETKEYS config get x
    COMMAND GETKEYS rename a b
    COMMAND GETKEYS migrate h 1 "" 0 5 keys a b
    COMMAND GETKEYS migrate h 1 k 0 5
    COMMAND GETKEYSANDFLAGS migrate h 1 "" 0 5 keys a b
    COMMAND GETKEYS zunionstore d 2 a b weights 1 2
    COMMAND GETKEYS zunionstore d 0 a
    COMMAND GETKEYS zunionstore d 3 a b
    COMMAND GETKEYS zunionstore d x a b
    COMMAND GETKEYS zinter 2 a b withscores
    COMMAND GETKEYS sintercard 2 a b limit 1
    COMMAND GETKEYS lmpop 2 a b left
    COMMAND GETKEYS zmpop 1 a min
    COMMAND GETKEYS bitop and d a b
    COMMAND GETKEYS sort a by w limit 0 1 get store store b
    COMMAND GETKEYS sort a store b store c
    COMMAND GETKEYS sort_ro a by w
    COMMAND GETKEYSANDFLAGS sort a store b
    COMMAND GETKEYSANDFLAGS zunionstore d 2 a b
    COMMAND GETKEYSANDFLAGS sunionstore d a b
    COMMAND GETKEYSANDFLAGS lmove a b left right
    COMMAND GETKEYSANDFLAGS bitfield a
    COMMAND GETKEYSANDFLAGS bitfield a get u8 0 overflow sat get u8 1
    COMMAND GETKEYSANDFLAGS bitfield a get u8 0 set u8 0 1
    COMMAND GETKEYSANDFLAGS bitfield a get u8
    COMMAND GETKEYSANDFLAGS copy a b
    COMMAND GETKEYSANDFLAGS rename a b
    COMMAND GETKEYSANDFLAGS set a b
    COMMAND GETKEYSANDFLAGS set a b get
    COMMAND GETKEYSANDFLAGS mset a b c d
    COMMAND GETKEYSANDFLAGS ping
    COMMAND GETKEYSANDFLAGS ping x
    COMMAND INFO nosuch client|nosuch
    COMMAND DOCS nosuch
    COMMAND LIST FILTERBY ACLCAT nosuch
    COMMAND LIST FILTERBY MODULE nosuch
    COMMAND LIST FILTERBY PATTERN client|l*
    COMMAND LIST FILTERBY nosuch bar
    COMMAND LIST nosuch bar baz
    COMMAND LIST FILTERBY PATTERN
    COMMAND nosuch
    CLUSTER INFO
    CLUSTER SLOTS
    CLUSTER KEYSLOT a
    CLUSTER KEYSLOT
    CLUSTER nosuch
    CLUSTER HELP
    CLUSTER
    ASKING
    ACL WHOAMI
    ACL nosuch
    MODULE LIST
    PSYNC
    REPLICAOF a
    INFO nosuch
    WAITAOF 0 0 0
"""


@pytest.mark.parametrize("text", [line.strip() for line in SAME.strip().splitlines()])
def test_the_same_is_answered(pair: tuple[Client, Client], text: str) -> None:
    theirs, ours = (shown(client(*words(text))) for client in pair)
    assert ours == theirs


CONTAINERS = ["CLIENT", "COMMAND", "CONFIG", "SLOWLOG", "LATENCY", "MEMORY", "MODULE", "ACL", "PUBSUB"]


@pytest.mark.parametrize("name", CONTAINERS)
def test_help_has_the_same_form(pair: tuple[Client, Client], name: str) -> None:
    theirs, ours = (client(name, "HELP") for client in pair)
    assert ours[0] == theirs[0]
    assert b"HELP" in ours
    assert all(line.startswith(b"    ") or line.isupper() for line in ours[1:])


MULTI = [
    ["SAVE"],
    ["SHUTDOWN"],
    ["PSYNC a b"],
    ["CLIENT LIST ID 0", "CLIENT GETNAME", "CONFIG GET timeout", "COMMAND GETKEYS get a"],
    ["CLIENT KILL ID 999999", "CLIENT KILL nosuch", "CLIENT REPLY ON", "SLOWLOG LEN x", "GET a"],
    ["MEMORY USAGE nosuch", "LATENCY RESET", "CLIENT NO-EVICT off", "CLIENT TRACKING off"],
]


@pytest.mark.parametrize("commands", MULTI, ids=lambda commands: commands[0])
def test_within_a_transaction_the_same_is_answered(pair: tuple[Client, Client], commands: list[str]) -> None:
    theirs, ours = (
        shown(client.pipeline([words(text) for text in ("MULTI", *commands, "EXEC")])) for client in pair
    )
    assert ours == theirs


def test_replies_are_left_out_alike(pair: tuple[Client, Client]) -> None:
    silent = ["CLIENT REPLY OFF", "SET a 1", "NOSUCH", "MULTI", "GET a", "EXEC", "CLIENT REPLY SKIP", "PING"]
    skipped = ["CLIENT REPLY SKIP", "SET a 2", "GET a", "CLIENT REPLY SKIP", "NOSUCH", "ECHO end"]
    received = []
    for client in pair:
        client.send(*(words(text) for text in (*silent, "CLIENT REPLY ON", *skipped)))
        received.append([client.receive() for _ in range(3)])
    assert received == [[b"OK", b"2", b"end"]] * 2


def test_a_client_that_kills_itself_is_answered_alike(redis: Redis, single: Cluster) -> None:
    told = []
    for client in (redis.client(), single.client("n1")):
        client.send(
            ["ECHO", "a"], ["CLIENT", "KILL", "ID", client("CLIENT", "ID"), "SKIPME", "no"], ["ECHO", "b"]
        )
        told.append([client.receive(), client.receive()])
        with pytest.raises(ConnectionError):
            client.receive()
    assert told == [[b"a", 1]] * 2


def test_maps_come_as_maps_in_the_new_protocol(redis: Redis, single: Cluster) -> None:
    asked = ["CONFIG GET timeout", "CLIENT TRACKINGINFO", "COMMAND DOCS nosuch", "LATENCY HISTOGRAM nosuch"]
    told = []
    for client in (redis.client(), single.client("n1")):
        client("HELLO", "3")
        told.append([shown(client(*words(text))) for text in asked])
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "text",
    [
        "COMMAND INFO get",
        "COMMAND INFO rename zunionstore expire",
        "COMMAND INFO client|id config|rewrite",
        "COMMAND GETKEYS mset a 1 b 2",
        "COMMAND GETKEYSANDFLAGS rename a b",
        "CLIENT TRACKINGINFO",
        "CONFIG GET timeout",
        "LATENCY LATEST",
        "INFO cluster",
        "ACL WHOAMI",
        "MODULE LIST",
    ],
)
def test_in_the_new_protocol_replies_are_the_same_to_the_byte(
    redis: Redis, single: Cluster, text: str
) -> None:
    told = []
    for client in (redis.client(), single.client("n1")):
        client("HELLO", "3")
        client.send(words(text), [b"ECHO", b"the end"])
        received = b""
        while not received.endswith(b"the end\r\n"):
            received += client.socket.recv(1 << 16)
        told.append(received)
    assert told[0] == told[1]


def test_slow_commands_are_told_alike(redis: Redis, single: Cluster) -> None:
    told = []
    for client in (redis.client(), single.client("n1")):
        client("CLIENT", "SETNAME", "slow")
        client("CONFIG", "SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "4")
        client("SLOWLOG", "RESET")
        client("MGET", *(str(number) for number in range(50)))
        client("SET", "a", "x" * 1000)
        client("CONFIG", "SET", "slowlog-log-slower-than", "-1", "slowlog-max-len", "128")
        entries = client("SLOWLOG", "GET", "3")
        told.append([(entry[3], entry[5]) for entry in entries])
        assert [type(field) for field in entries[0]] == [int, int, int, list, bytes, bytes]
        assert entries[0][0] == entries[1][0] + 1
        assert entries[0][4].startswith(b"127.0.0.1:")
        told.append(client("SLOWLOG", "LEN"))
        client("SLOWLOG", "RESET")
    assert told[:2] == told[2:]


def test_commands_and_errors_are_counted_alike(redis: Redis, single: Cluster) -> None:
    told = []
    for client in (redis.client(), single.client("n1")):
        client("CONFIG", "RESETSTAT")
        for text in (
            "SET a 1",
            "set a x",
            "INCR a",
            "GET",
            "CLIENT ID",
            "client id",
            "CLIENT nosuch",
            "SELECT 0",
        ):
            client(*words(text))
        lines = client("INFO", "commandstats", "errorstats").decode().split("\r\n")
        stats = {}
        for line in lines:
            if line.startswith("cmdstat_") and not line.startswith("cmdstat_info"):
                name, _, figures = line.partition(":")
                fields = dict(pair.split("=") for pair in figures.split(","))
                stats[name] = [fields[field] for field in ("calls", "rejected_calls", "failed_calls")]
                assert list(fields) == ["calls", "usec", "usec_per_call", "rejected_calls", "failed_calls"]
        stats["errors"] = [line for line in lines if line.startswith("errorstat")]
        told.append(stats)
    assert told[0] == told[1]


def test_info_has_fields_that_redis_has(pair: tuple[Client, Client]) -> None:
    """Whoever looks for one of these finds it under the same name in the same section."""
    ours_alone = {
        *[
            "sofadb_version",
            "node_id",
            "node_starts",
            "commands_under_way",
            "journal_bytes_written",
            "journal_syncs",
        ],
        *[
            "journal_bytes_held",
            "snapshot_instance",
            "snapshot_bytes",
            "archived_instance",
            "archive_problem",
            "journal_damage",
        ],
        *["node_in_doubt", "disk_full", "commands_refused_for_lack_of_room"],
        *["client_query_buffer_limit_disconnections", "client_output_buffer_limit_disconnections"],
    }
    theirs, ours = (fields_by_section(client("INFO", "everything").decode()) for client in pair)
    assert list(theirs) == [section for section in ours if section != "Paxos"]
    for section in ("Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Cluster"):
        assert ours[section] - theirs[section] <= ours_alone, section


def fields_by_section(text: str) -> dict[str, set[str]]:
    sections: dict[str, set[str]] = {}
    for part in text.split("# ")[1:]:
        title, *lines = part.split("\r\n")
        sections[title] = {line.partition(":")[0] for line in lines if line}
    return sections


TELL_ONLY_SOME_KEYS = (b"migrate", b"sort", b"sort_ro")
"""What COMMAND INFO tells of their keys is not all; COMMAND GETKEYS finds the others."""
DIFFERS = {
    "readonly": "Redis Cluster's",
    "client|setinfo": "of Redis 7.2",
}


def test_declarations_are_those_of_redis_to_the_last_word(pair: tuple[Client, Client]) -> None:
    """Arity, flags, keys, categories, key specifications, since, group: of every command that Redis knows, too."""
    _, ours = pair
    names = [
        name
        for name in ours("COMMAND", "LIST")
        if not name.startswith((b"sofa.", b"sentinel")) and name.decode() not in DIFFERS
    ]
    assert len(names) > 150
    for name in names:
        (expected,), (actual,) = (client("COMMAND", "INFO", name) for client in pair)
        assert expected is not None, name
        assert actual[:2] == expected[:2], name
        assert set(map(str, actual[2])) == set(map(str, expected[2])), name
        assert actual[3:6] == expected[3:6], name
        assert list(map(str, actual[6])) == list(map(str, expected[6])), name
        if name not in TELL_ONLY_SOME_KEYS:
            assert [plain(spec) for spec in actual[8]] == [plain(spec) for spec in expected[8]], name
        docs = [dict_of(client("COMMAND", "DOCS", name)) for client in pair]
        told = [dict_of(next(iter(each.values()))) for each in docs]
        assert [told[1][field] for field in (b"since", b"group")] == [
            told[0][field] for field in (b"since", b"group")
        ], name


def dict_of(flat: list[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def plain(spec: list[Any]) -> Any:
    """A key specification without the notes, which are Redis's own words."""
    fields = dict_of(spec)
    fields.pop(b"notes", None)
    return {name: str(value) for name, value in fields.items()}


# Whatever they are asked with

names = st.sampled_from(
    [
        "CONFIG GET",
        "CLIENT KILL",
        "CLIENT NO-EVICT",
        "CLIENT TRACKING",
        "CLIENT CACHING",
        "SLOWLOG GET",
        "SLOWLOG LEN",
        "MEMORY USAGE",
        "LATENCY HISTORY",
        "LATENCY RESET",
        "LATENCY GRAPH",
        "COMMAND GETKEYS",
        "COMMAND GETKEYSANDFLAGS",
        "DISCARD",
        "SLOWLOG",
    ]
)
some_words = st.sampled_from(
    [
        *b"0 1 -1 x a b ID TYPE USER ADDR SKIPME yes no pubsub master replica nosuch SAMPLES get set mget mset".split(),
        *b"rename ping exists del getex setrange expire touch type object encoding memory usage client off".split(),
        *b"999999 99999999999999999999 timeout nosuch* 1.2.3.4:5".split(),
        b"",
    ]
)


@given(st.lists(st.tuples(names, st.lists(some_words, max_size=4)), min_size=1, max_size=8))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_random_words_get_the_same_replies(
    pair: tuple[Client, Client], commands: list[tuple[str, list[bytes]]]
) -> None:
    asked = [[*words(name), *more] for name, more in commands]
    theirs, ours = (client.pipeline(asked) for client in pair)
    for command, expected, actual in zip(asked, theirs, ours, strict=True):
        if command[:2] == [b"MEMORY", b"USAGE"] and isinstance(expected, int):
            assert isinstance(actual, int), command
        else:
            assert shown(actual) == shown(expected), command
