"""What a node answers as a Sentinel, and what it publishes when somebody else leads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.server_fakes import Client, Server, facts_of
from sofadb.node.facts import Facts, reachable_address, split_address


@pytest.fixture
def server() -> Server:
    """n1 leads and is asked; n3 cannot be reached."""
    return Server()


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


def fields(reply: list[Any]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in zip(reply[::2], reply[1::2], strict=True)}


def ask_for_fields(client: Client, command: str) -> list[dict[str, str]]:
    (reply,) = client.ask(command)
    return [fields(each) for each in reply]


def lead(server: Server, node: str) -> None:
    """What n1 is told: somebody leads, or nobody."""
    facts: Facts = facts_of("leading" if node == "n1" else "following", node)
    server.facts = replace(facts, node="n1")
    server.state.look_for_leader()


def test_the_leader_is_the_master(client: Client) -> None:
    assert client.ask("SENTINEL get-master-addr-by-name sofadb") == [[b"10.0.0.1", b"6379"]]
    (master,) = ask_for_fields(client, "SENTINEL masters")
    assert master["name"] == "sofadb"
    assert (master["ip"], master["port"]) == ("10.0.0.1", "6379")
    assert master["flags"] == master["role-reported"] == "master"
    assert (master["num-slaves"], master["num-other-sentinels"], master["quorum"]) == ("2", "2", "2")
    assert master["config-epoch"] == "7"
    (reply,) = client.ask("SENTINEL MASTER sofadb")
    assert fields(reply) == master


@pytest.mark.parametrize("word", ["replicas", "slaves"])
def test_the_other_members_are_replicas_and_who_is_not_reached_is_down(client: Client, word: str) -> None:
    second, third = ask_for_fields(client, f"SENTINEL {word} sofadb")
    assert (second["ip"], second["port"], second["flags"]) == ("10.0.0.2", "6380", "slave")
    assert (third["ip"], third["port"], third["flags"]) == ("10.0.0.3", "6381", "slave,s_down,disconnected")
    assert (second["master-host"], second["master-port"], second["master-link-status"]) == (
        "10.0.0.1",
        "6379",
        "ok",
    )


def test_all_nodes_but_the_asked_one_are_other_sentinels_whoever_leads(server: Server) -> None:
    lead(server, "n2")
    second, third = ask_for_fields(server.connect(), "SENTINEL sentinels sofadb")
    assert (second["ip"], second["port"], second["flags"]) == ("10.0.0.2", "6380", "sentinel")
    assert third["flags"] == "sentinel,s_down,disconnected"


def test_who_led_last_is_named_while_nobody_leads_and_marked_as_down(server: Server, client: Client) -> None:
    lead(server, "n2")
    lead(server, "")
    assert client.ask("SENTINEL get-master-addr-by-name sofadb") == [[b"10.0.0.2", b"6380"]]
    (master,) = ask_for_fields(client, "SENTINEL masters")
    assert (master["ip"], master["flags"]) == ("10.0.0.2", "master,s_down")
    assert client.ask("SENTINEL is-master-down-by-addr 10.0.0.2 6380 0 *") == [[1, b"*", 0]]
    assert client.ask("SENTINEL is-master-down-by-addr 10.0.0.1 6379 0 *") == [[0, b"*", 0]]
    lead(server, "n2")
    assert client.ask("SENTINEL is-master-down-by-addr 10.0.0.2 6380 0 *") == [[0, b"*", 0]]


def test_a_node_that_never_heard_of_a_leader_knows_no_master(server: Server, client: Client) -> None:
    lead(server, "")
    no_such = "-ERR No such master with that name"
    assert client.ask(
        "SENTINEL get-master-addr-by-name sofadb", "SENTINEL masters", "SENTINEL master sofadb"
    ) == [None, [], no_such]


def test_there_is_one_service_and_the_operator_names_it(server: Server, client: Client) -> None:
    server.state.service_name = "mymaster"
    no_such = "-ERR No such master with that name"
    assert client.ask("SENTINEL get-master-addr-by-name mymaster") == [[b"10.0.0.1", b"6379"]]
    assert client.ask("SENTINEL get-master-addr-by-name sofadb") == [None]
    for word in ("master", "replicas", "slaves", "sentinels", "ckquorum"):
        assert client.ask(f"SENTINEL {word} sofadb") == [no_such]


def test_the_quorum_is_checked(server: Server, client: Client) -> None:
    (reply,) = client.ask("SENTINEL ckquorum sofadb")
    assert reply.startswith(b"OK 2 usable Sentinels.")
    alone = tuple(replace(member, is_reachable=member.node == "n1") for member in server.facts.members)
    server.facts = replace(server.facts, members=alone)
    (reply,) = client.ask("SENTINEL ckquorum sofadb")
    assert reply.startswith("-NOQUORUM 1 usable Sentinels.")


def test_what_cannot_be_asked_is_told(client: Client) -> None:
    assert client.ask("SENTINEL", "SENTINEL failover sofadb", "SENTINEL master") == [
        "-ERR wrong number of arguments for 'sentinel' command",
        "-ERR unknown subcommand 'failover'. Try SENTINEL HELP.",
        "-ERR wrong number of arguments for 'sentinel|master' command",
    ]
    assert client.ask("SENTINEL is-master-down-by-addr a b c d") == [
        "-ERR value is not an integer or out of range"
    ]
    assert client.ask("SENTINEL myid") == [b"c1u57e4n1"]


def test_another_leader_is_published_once_and_the_same_one_again_is_not(server: Server) -> None:
    exact, pattern = server.connect(), server.connect()
    lead(server, "n1")
    exact.ask("SUBSCRIBE +switch-master")
    pattern.ask("PSUBSCRIBE *")
    lead(server, "n1")
    lead(server, "")
    lead(server, "n1")
    assert exact.replies() == []
    lead(server, "")
    lead(server, "n2")
    lead(server, "n2")
    text = b"sofadb 10.0.0.1 6379 10.0.0.2 6380"
    assert exact.replies() == [[b"message", b"+switch-master", text]]
    assert pattern.replies() == [[b"pmessage", b"*", b"+switch-master", text]]


def test_a_leader_whose_address_is_not_known_yet_is_no_news(server: Server, client: Client) -> None:
    lead(server, "n1")
    client.ask("SUBSCRIBE +switch-master")
    server.facts = replace(server.facts, leader="n2", leader_client_address="")
    server.state.look_for_leader()
    assert client.replies() == []


def test_who_listens_everywhere_is_reached_where_its_peers_reach_it() -> None:
    assert reachable_address("0.0.0.0:6379", "db1.example:16379") == "db1.example:6379"
    assert reachable_address(":::6379", "[fd00::1]:16379") == "[fd00::1]:6379"
    assert reachable_address("10.0.0.1:6379", "10.0.0.9:16379") == "10.0.0.1:6379"
    assert reachable_address("", "10.0.0.9:16379") == ""


def test_an_address_is_split_into_a_host_and_a_port() -> None:
    assert split_address("[fd00::1]:6379") == ("fd00::1", 6379)
    assert split_address("") == ("", 0)
