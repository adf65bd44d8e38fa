"""The commands that concern a connection or the server: what they say, what they change, and what they refuse."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.server_fakes import Client, Server, Words, facts_of
from sofadb.database.database import DATABASES
from sofadb.database.table import TABLE, Route
from sofadb.server.commands.connection import AUTH_WITHOUT_PASSWORD
from sofadb.server.configuration import SETTINGS
from sofadb.server.requests import BULK_BYTES_MAX
from sofadb.server.subscriptions import SUBSCRIBING


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


def ask(client: Client, command: Words) -> Any:
    """The one reply to one command."""
    (reply,) = client.ask(command)
    return reply


def fields_of(line: bytes) -> dict[str, str]:
    """A line of CLIENT LIST."""
    return dict(field.split("=", 1) for field in line.decode().rstrip("\n").split(" "))


def info(client: Client, *sections: str) -> dict[str, str]:
    text = ask(client, " ".join(["INFO", *sections])).decode()
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


# The connection


def test_ping_and_echo_send_back_what_they_are_given(client: Client) -> None:
    assert client.ask("PING", "ping hi", "ECHO hi") == [b"PONG", b"hi", b"hi"]
    assert ask(client, "PING a b") == "-ERR wrong number of arguments for 'ping' command"


@pytest.mark.parametrize(
    ("index", "reply"),
    [
        (b"0", b"OK"),
        (b"%d" % (DATABASES - 1), b"OK"),
        (b"%d" % DATABASES, "-ERR DB index is out of range"),
        (b"-1", "-ERR DB index is out of range"),
        (b"x", "-ERR value is not an integer or out of range"),
        (b"", "-ERR value is not an integer or out of range"),
        (b"-", "-ERR value is not an integer or out of range"),
        (b"+1", "-ERR value is not an integer or out of range"),
        (b"01", "-ERR value is not an integer or out of range"),
        (b"1.0", "-ERR value is not an integer or out of range"),
        (b"9" * 5000, "-ERR value is not an integer or out of range"),
    ],
    ids=lambda each: repr(each[:24]),
)
def test_select_takes_the_numbers_of_databases(client: Client, index: bytes, reply: bytes | str) -> None:
    assert ask(client, [b"SELECT", index]) == reply


def test_auth_without_a_password_takes_the_default_user_with_any(client: Client) -> None:
    assert ask(client, "AUTH default whatever") == b"OK"
    assert ask(client, "AUTH whatever") == f"-{AUTH_WITHOUT_PASSWORD}"
    assert ask(client, "AUTH bob x") == "-WRONGPASS invalid username-password pair or user is disabled."
    assert ask(client, "AUTH a b c") == "-ERR syntax error"


def test_hello_says_what_this_is_and_changes_nothing_without_a_version(client: Client) -> None:
    said = {
        b"server": b"redis",
        b"version": b"7.0.15",
        b"proto": 2,
        b"id": client.connection.id,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }
    flat = [each for pair in said.items() for each in pair]
    assert ask(client, "HELLO") == flat
    assert ask(client, "HELLO 3") == said | {b"proto": 3}
    assert ask(client, "HELLO") == said | {b"proto": 3}
    assert ask(client, "HELLO 2") == flat


def test_hello_takes_user_and_name(client: Client) -> None:
    assert isinstance(ask(client, "HELLO 3 AUTH default x SETNAME me"), dict)
    assert ask(client, "CLIENT GETNAME") == b"me"


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("HELLO 1", "NOPROTO unsupported protocol version"),
        ("HELLO 4", "NOPROTO unsupported protocol version"),
        ("HELLO -1", "NOPROTO unsupported protocol version"),
        ("HELLO x", "ERR Protocol version is not an integer or out of range"),
        ("HELLO 3.0", "ERR Protocol version is not an integer or out of range"),
        ("HELLO 3 AUTH default", "ERR Syntax error in HELLO option 'AUTH'"),
        ("HELLO 3 SETNAME", "ERR Syntax error in HELLO option 'SETNAME'"),
        ("HELLO 3 nonsense", "ERR Syntax error in HELLO option 'nonsense'"),
        ("HELLO 3 AUTH bob x", "WRONGPASS invalid username-password pair or user is disabled."),
        (
            [b"HELLO", b"3", b"SETNAME", b"not me"],
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ),
        ("HELLO 3 SETNAME other nonsense", "ERR Syntax error in HELLO option 'nonsense'"),
    ],
)
def test_hello_that_is_refused_changes_nothing(client: Client, command: Words, error: str) -> None:
    client.ask("CLIENT SETNAME me")
    assert ask(client, command) == f"-{error}"
    assert client.ask("CLIENT GETNAME", "GET a") == [b"me", None]
    assert client.received.endswith(b"$-1\r\n"), "this is still the old protocol"


def test_reset_makes_the_connection_as_good_as_new(server: Server, client: Client) -> None:
    client.ask("HELLO 3 SETNAME me", "WATCH a", "SELECT 1")
    server.connect().ask("SET a 1")
    assert client.ask("MULTI", "SET b 1", "RESET") == [b"OK", b"QUEUED", b"RESET"]
    assert client.ask("CLIENT GETNAME", "GET a", "EXEC") == [None, b"1", "-ERR EXEC without MULTI"]
    assert client.ask("MULTI", "SET b 2", "EXEC")[-1] == [b"OK"], "nothing is watched"
    assert client.ask("HELLO")[0][4:6] == [b"proto", 2]


# CLIENT


def test_clients_have_numbers_that_are_never_used_again(server: Server) -> None:
    first, second = server.connect(), server.connect()
    assert (ask(first, "CLIENT ID"), ask(second, "CLIENT ID")) == (1, 2)
    second.hang_up()
    assert ask(server.connect(), "CLIENT ID") == 3


def test_a_client_has_the_name_that_it_gives_itself(client: Client) -> None:
    assert ask(client, "CLIENT GETNAME") is None
    assert client.ask("CLIENT SETNAME me", "CLIENT GETNAME") == [b"OK", b"me"]
    for name in (b"not me", b"not\nme", b"not\x00me", b"not\xff"):
        refused = "-ERR Client names cannot contain spaces, newlines or special characters."
        assert ask(client, [b"CLIENT", b"SETNAME", name]) == refused
    assert ask(client, "CLIENT GETNAME") == b"me"
    assert client.ask([b"CLIENT", b"SETNAME", b""], "CLIENT GETNAME") == [b"OK", None]


def test_a_client_says_which_library_it_is(client: Client) -> None:
    assert client.ask("CLIENT SETINFO lib-name redis-py", "CLIENT SETINFO LIB-VER 5.0") == [b"OK", b"OK"]
    fields = fields_of(ask(client, "CLIENT INFO"))
    assert (fields["lib-name"], fields["lib-ver"]) == ("redis-py", "5.0")
    assert ask(client, "CLIENT SETINFO lib-color red") == "-ERR Unrecognized option 'lib-color'"
    assert ask(client, [b"CLIENT", b"SETINFO", b"LIB-NAME", b"a b"]) == (
        "-ERR lib-name cannot contain spaces, newlines or special characters."
    )


def test_client_info_says_how_this_connection_is(client: Client) -> None:
    client.ask("HELLO 3 SETNAME me", "SELECT 5", "GET a")
    fields = fields_of(ask(client, "CLIENT INFO"))
    expected = {
        "id": "1",
        "addr": "127.0.0.1:50001",
        "laddr": "127.0.0.1:6379",
        "name": "me",
        "flags": "N",
        "db": "5",
        "multi": "-1",
        "resp": "3",
        "user": "default",
    }
    assert {name: fields[name] for name in expected} == expected


def test_client_list_shows_all_clients_or_those_asked_for(server: Server) -> None:
    clients = [server.connect() for _ in range(3)]
    for client in clients:
        client.ask(f"CLIENT SETNAME c{client.connection.id}", "MULTI", "GET a")

    def listed(words: str) -> list[str]:
        lines = ask(server.connect(), f"CLIENT LIST{words}").splitlines()
        return [fields_of(line)["name"] for line in lines if b"name=c" in line]

    assert listed("") == ["c1", "c2", "c3"]
    assert listed(" TYPE normal") == ["c1", "c2", "c3"]
    assert listed(" type PUBSUB") == []
    assert listed(" ID 3 1 77") == ["c3", "c1"]
    fields = fields_of(ask(server.connect(), "CLIENT LIST ID 2"))
    assert (fields["flags"], fields["multi"]) == ("x", "1")
    clients[1].hang_up()
    assert listed("") == ["c1", "c3"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (b"TYPE nonsense", "ERR Unknown client type 'nonsense'"),
        (b"TYPE", "ERR syntax error"),
        (b"TYPE normal x", "ERR syntax error"),
        (b"ID", "ERR syntax error"),
        (b"ID 1 x", "ERR Invalid client ID"),
        (b"ID " + b"9" * 5000, "ERR Invalid client ID"),
        (b"nonsense", "ERR syntax error"),
    ],
    ids=lambda each: repr(each[:24]),
)
def test_client_list_refuses_what_it_does_not_know(client: Client, words: bytes, error: str) -> None:
    assert ask(client, b"CLIENT LIST ".split() + words.split()) == f"-{error}"


def test_client_list_has_a_line_for_each_client_whatever_they_ask_for(server: Server) -> None:
    server.connect().ask([b"x\nid=7 addr=6.6.6.6:6"])
    lines = ask(server.connect(), "CLIENT LIST").splitlines()
    assert [fields_of(line)["id"] for line in lines] == ["1", "2"]


# COMMAND


def test_command_and_its_subcommands_agree_on_what_there_is(client: Client) -> None:
    names = ask(client, "COMMAND LIST")
    commands = [name for name in names if b"|" not in name]
    assert len(names) == len(set(names)) > len(commands)
    assert ask(client, "COMMAND COUNT") == len(commands)
    assert [declared[0] for declared in ask(client, "COMMAND")] == commands
    assert ask(client, "COMMAND INFO") == ask(client, "COMMAND")
    assert ask(client, "COMMAND DOCS")[::2] == commands
    assert {b"get", b"set", b"exec", b"client", b"client|list"} <= set(names)


def test_command_list_is_filtered_by_pattern(client: Client) -> None:
    assert ask(client, "COMMAND LIST FILTERBY PATTERN *GETR*") == [b"getrange", b"client|getredir"]
    assert ask(client, "COMMAND LIST filterby module json") == []
    for mistake in ("FILTERBY", "FILTERBY PATTERN", "FILTERBY nonsense x", "ORDERBY PATTERN x"):
        assert ask(client, f"COMMAND LIST {mistake}") == "-ERR syntax error"


def test_command_info_declares_what_is_asked_for_in_its_order(client: Client) -> None:
    get, missing, client_list, set_ = ask(client, "COMMAND INFO GET nosuch client|LIST set")
    assert get[:6] == [b"get", 2, [b"readonly", b"fast"], 1, 1, 1]
    assert missing is None
    assert client_list[:2] == [b"client|list", -2]
    assert set_[:2] == [b"set", -3]
    (container,) = ask(client, "COMMAND INFO client")
    assert b"client|list" in [declared[0] for declared in container[9]]
    assert ask(client, "COMMAND INFO get|x |") == [None, None]


def test_command_docs_say_what_commands_do(client: Client) -> None:
    client.ask("HELLO 3")
    docs = ask(client, "COMMAND DOCS get nosuch client")
    assert list(docs) == [b"get", b"client"]
    assert docs[b"get"][b"group"] == b"string"
    assert b"client|list" in docs[b"client"][b"subcommands"]
    for name, told in ask(client, "COMMAND DOCS").items():
        assert told[b"summary"], name


# CONFIG


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ("port", {b"port"}),
        ("PORT", {b"port"}),
        ("append*", {b"appendonly", b"appendfsync"}),
        ("*mem* save", {b"maxmemory", b"maxmemory-clients", b"maxmemory-policy", b"save"}),
        ("nosuch", set()),
    ],
)
def test_config_get_gives_what_matches_any_pattern(client: Client, patterns: str, names: set[bytes]) -> None:
    assert set(ask(client, f"CONFIG GET {patterns}")[::2]) == names


def test_config_says_what_is_so(client: Client) -> None:
    client.ask("HELLO 3")
    settings = ask(client, "CONFIG GET *")
    expected = {
        b"appendfsync": b"always",
        b"bind": b"127.0.0.1",
        b"databases": b"16",
        b"dir": b"/var/lib/sofadb",
        b"maxclients": b"10000",
        b"port": b"6379",
        b"proto-max-bulk-len": b"%d" % BULK_BYTES_MAX,
    }
    assert {name: settings[name] for name in expected} == expected


def test_config_set_changes_all_that_is_named_or_nothing(server: Server, client: Client) -> None:
    assert ask(client, "CONFIG SET timeout 60 SlowLog-Max-Len 5") == b"OK"
    assert (server.state.settings.idle_s_max, server.state.settings.slow_runs_max) == (60, 5)
    for mistake in ("nosuch 1", "timeout 2", "port 1", "slowlog-max-len x", "appendonly no"):
        assert ask(client, f"CONFIG SET timeout 1 {mistake}").startswith("-ERR ")
        assert server.state.settings.idle_s_max == 60


@pytest.mark.parametrize("name", [name for name, it in SETTINGS.items() if it.parse and it.is_told])
def test_every_setting_takes_the_value_that_it_has(client: Client, name: bytes) -> None:
    _, value = ask(client, [b"CONFIG", b"GET", name])
    assert ask(client, [b"CONFIG", b"SET", name, value]) == b"OK"
    assert ask(client, [b"CONFIG", b"GET", name]) == [name, value]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("appendonly no", "every acknowledged write is on the disks of a majority, always"),
        ("appendfsync everysec", "every acknowledged write is on the disks of a majority, always"),
        ("maxmemory-policy allkeys-lru", "nothing is ever evicted"),
        ("maxmemory 0x", "argument must be a memory value"),
        ("maxmemory 1kk", "argument must be a memory value"),
        ("databases 16", "can't set immutable config"),
        ("maxclients 0", "argument must be between 1 and 4294967295 inclusive"),
    ],
)
def test_what_cannot_be_set_is_refused_with_the_reason(client: Client, words: str, reason: str) -> None:
    name = words.split()[0]
    told = f"-ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
    assert ask(client, f"CONFIG SET {words}") == told


def test_passwords_come_from_a_file_and_are_not_told(client: Client) -> None:
    assert "--password-file" in ask(client, "CONFIG SET requirepass secret")
    assert ask(client, "CONFIG GET requirepass") == []


# What the node is


def test_the_last_save_was_when_the_node_was_started_until_there_is_one(
    server: Server, client: Client
) -> None:
    facts = facts_of("leading")
    server.state.facts = lambda: facts
    earliest = int(time.time()) - facts.uptime_s
    assert earliest <= ask(client, "LASTSAVE") <= int(time.time()) - facts.uptime_s
    server.state.facts = lambda: replace(facts, snapshot_at=5_999)
    assert (ask(client, "LASTSAVE"), info(client)["rdb_last_save_time"]) == (5, "5")


def test_lolwut_names_the_version_of_redis_that_clients_look_for(client: Client) -> None:
    assert b", as Redis ver. 7." in ask(client, "LOLWUT VERSION 5")


def test_the_leader_is_the_master_and_lists_those_who_are_not(client: Client) -> None:
    others = [[b"10.0.0.2", b"6380", b"41"], [b"10.0.0.3", b"6381", b"41"]]
    assert ask(client, "ROLE") == [b"master", 41, others]
    fields = info(client, "replication")
    assert (fields["role"], fields["connected_slaves"]) == ("master", "1")
    assert fields["slave0"] == "ip=10.0.0.2,port=6380,state=online,offset=41,lag=0"
    assert "slave1" not in fields, "n3 cannot be reached"


def test_a_follower_is_a_slave_and_names_the_leader() -> None:
    client = Server(facts=facts_of("following")).connect()
    assert ask(client, "ROLE") == [b"slave", b"10.0.0.1", 6379, b"connected", 41]
    fields = info(client, "replication")
    assert (fields["role"], fields["master_link_status"]) == ("slave", "up")
    assert (fields["master_host"], fields["master_port"]) == ("10.0.0.1", "6379")
    assert client.ask("HELLO")[0][10:12] == [b"role", b"slave"]


def test_while_nobody_leads_there_is_no_master_to_name() -> None:
    client = Server(facts=facts_of("campaigning", leader="")).connect()
    assert ask(client, "ROLE") == [b"slave", b"", 0, b"connect", 41]
    fields = info(client)
    assert (fields["role"], fields["master_link_status"], fields["leader"]) == ("slave", "down", "")


def test_info_gives_all_sections_or_those_asked_for(client: Client) -> None:
    def sections(words: str) -> list[str]:
        return re.findall(r"^# (\w+)\r$", ask(client, f"INFO{words}").decode(), re.MULTILINE)

    usual = sections("")
    assert {"Server", "Clients", "Memory", "Stats", "Replication", "Paxos", "Keyspace"} <= set(usual)
    assert sections(" default") == usual
    assert "Commandstats" in sections(" default commandstats")
    everything = sections(" all")
    assert set(everything) - set(usual) == {"Commandstats", "Latencystats"}
    for words in (" everything", " Everything server"):
        assert sections(words) == everything
    assert sections(" PAXOS server") == ["Server", "Paxos"]
    assert sections(" nosuch") == []


def test_info_counts_clients_commands_errors_and_keys(server: Server, client: Client) -> None:
    server.connect().hang_up()
    client.ask("SET a 1", "SET b 1 EX 100", "NOSUCH", "SELECT 3", "SET a 1")
    fields = info(client)
    assert fields["connected_clients"] == "1"
    assert fields["total_connections_received"] == "2"
    assert fields["total_error_replies"] == "1"
    assert fields["total_commands_processed"] == "6"
    assert int(fields["total_net_input_bytes"]) > 100
    assert fields["db0"].startswith("keys=2,expires=1,")
    assert fields["db3"].startswith("keys=1,expires=0,")
    assert (fields["chosen_instance"], fields["applied_instance"]) == ("42", "41")
    assert (fields["uptime_in_seconds"], fields["uptime_in_days"]) == ("200000", "2")


def test_sofa_info_gives_all_that_the_node_knows(client: Client) -> None:
    facts = json.loads(ask(client, "SOFA.INFO"))
    assert (facts["node"], facts["role"], facts["ballot"]) == ("n1", "leading", "7.n1")
    assert [member["is_reachable"] for member in facts["members"]] == [True, True, False]


# Whatever they are asked with


named = [
    [*each.name.upper().encode().split(b"|")]
    for command in TABLE.values()
    for each in [command, *command.subcommands.values()]
    if each.route is Route.CONNECTION
    and each.name not in SUBSCRIBING | {"client|reply", "client|pause", "monitor"}
]
arguments = st.lists(
    st.sampled_from(
        [b"2", b"3", b"0", b"-1", b"1", b"9" * 20, b"0" * 5000, b"9" * 5000, b"", b"*", b"[", b"a"]
    )
    | st.sampled_from([b"AUTH", b"SETNAME", b"default", b"ID", b"TYPE", b"normal", b"FILTERBY", b"PATTERN"])
    | st.sampled_from([b"LIB-NAME", b"get", b"client|list", b"|", b"server", b"\xff", b"\r\n"])
    | st.binary(max_size=5),
    max_size=4,
)


@given(st.lists(st.tuples(st.sampled_from(named), arguments), max_size=5), st.booleans())
@example([([b"CLIENT", b"LIST"], [b"ID", b"9" * 5000])], True)
@settings(max_examples=500, deadline=None)
def test_whatever_a_command_is_asked_with_there_is_one_reply(
    commands: list[tuple[list[bytes], list[bytes]]], is_transaction: bool
) -> None:
    client = Server().connect()
    for name, arguments in [([b"MULTI"], []), *commands] if is_transaction else commands:
        if not client.transport.is_closed:
            assert len(client.ask([*name, *arguments])) == 1
    if not client.transport.is_closed:
        assert len(client.ask("EXEC")) == 1
