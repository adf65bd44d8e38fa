"""Subscriptions: who is told what and in which order among replies, what a subscriber may ask, and its bounds."""

from __future__ import annotations

import logging

import pytest

from processes import Client as Process
from processes import Cluster, Redis
from server.server_fakes import NOW, Client, Server, pipeline, request
from sofadb.database.messages import Message
from sofadb.database.runs import Run, apply
from sofadb.server.encoding import LARGE_BYTES
from sofadb.server.notifications import Notifications
from sofadb.server.state import Settings

# What a real Redis replies, too


RESTRICTED = [
    *("GET a", "GET", "NOSUCH", "CLIENT GETNAME", "CLIENT NOSUCH", "MULTI", "HELLO 3", "PUBSUB NUMPAT"),
    *("PING", "PING hello", "PING a b", "SUBSCRIBE", "PSUBSCRIBE", "SELECT 1", "PUBSUB"),
]
CONVERSATIONS = {
    "subscribing": ["SUBSCRIBE a b a", "PSUBSCRIBE a* b", "SUBSCRIBE c"],
    "the end of it": [
        "SUBSCRIBE a b",
        "PSUBSCRIBE p",
        "UNSUBSCRIBE b x",
        "PUNSUBSCRIBE p",
        "UNSUBSCRIBE a",
        "PING",
    ],
    "the end of all": ["SUBSCRIBE a", "PSUBSCRIBE p", "UNSUBSCRIBE", "PUNSUBSCRIBE", "GET a", "PING"],
    "the end of nothing": ["UNSUBSCRIBE", "PUNSUBSCRIBE", "UNSUBSCRIBE a", "PUNSUBSCRIBE a b", "GET a"],
    "what may be asked": ["SUBSCRIBE a", *RESTRICTED],
    "what may be asked with a pattern": ["PSUBSCRIBE a", *RESTRICTED],
    "as good as new": ["SUBSCRIBE a", "PSUBSCRIBE b", "RESET", "GET a", "PUBSUB CHANNELS", "PUBSUB NUMPAT"],
    "quitting": ["SUBSCRIBE a", "QUIT"],
    "miscounted": [
        "SUBSCRIBE",
        "PSUBSCRIBE",
        "PUBSUB",
        "PUBSUB CHANNELS a b",
        "PUBSUB NUMPAT a",
        "PUBSUB NOSUCH",
    ],
    "looking": [
        "PUBSUB CHANNELS",
        "PUBSUB CHANNELS a*",
        "PUBSUB NUMSUB",
        "PUBSUB NUMSUB a a b",
        "PUBSUB NUMPAT",
    ],
    "in shards": [
        "SSUBSCRIBE a b a",
        "SUBSCRIBE a",
        "SUNSUBSCRIBE b x",
        "PING",
        "UNSUBSCRIBE",
        "SUNSUBSCRIBE",
        "GET a",
    ],
    "the end of all shards": ["SSUBSCRIBE a", "SUNSUBSCRIBE", "SUNSUBSCRIBE", "SUNSUBSCRIBE x", "GET a"],
    "what may be asked with a shard": ["SSUBSCRIBE a", *RESTRICTED],
    "publishing to nobody": [
        "PUBLISH a b",
        "SPUBLISH a b",
        "PUBLISH a",
        "PUBLISH a b c",
        "SPUBLISH a",
        "SPUBLISH a b c",
    ],
    "publishing to others": ["SUBSCRIBE a", "PSUBSCRIBE b", "SSUBSCRIBE c", "PUBLISH x y"],
    "publishing in a transaction": ["MULTI", "PUBLISH a b", "SPUBLISH a b", "EXEC"],
    "looking at shards": [
        *(
            "PUBSUB SHARDCHANNELS",
            "PUBSUB SHARDCHANNELS a*",
            "PUBSUB SHARDCHANNELS a b",
            "PUBSUB SHARDNUMSUB",
        ),
        *("PUBSUB SHARDNUMSUB a a b", "PUBSUB HELP a", "PUBSUB shardchannels a b"),
    ],
    "in a transaction": ["MULTI", "SUBSCRIBE a b", "PSUBSCRIBE p", "PING", "EXEC", "GET a", "PING"],
    "ended in a transaction": ["MULTI", "SUBSCRIBE a", "UNSUBSCRIBE", "RESET", "GET a"],
}


def converse(client: Process, conversation: list[str]) -> bytes:
    """The bytes of all replies. The end is marked by an error that comes whatever state the connection is in."""
    client.send(*(command.split() for command in conversation), ["ECHO"])
    mark = b"-ERR wrong number of arguments for 'echo' command\r\n"
    received = b""
    while not received.endswith(mark) and (data := client.socket.recv(1 << 16)):
        received += data
    client.close()
    return received


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_replies_are_those_of_redis_to_the_byte(
    redis: Redis, single: Cluster, name: str, protocol: int
) -> None:
    conversation = (
        CONVERSATIONS[name] if protocol == 2 else ["HELLO 3 BOGUS", "HELLO 3", *CONVERSATIONS[name]]
    )
    theirs, ours = (
        _without_hello(converse(server, conversation)) for server in (redis.client(), single.client("n1"))
    )
    assert ours == theirs


def _without_hello(received: bytes) -> bytes:
    """Names and numbers of servers and connections differ."""
    begin, end = received.find(b"$6\r\nserver"), received.find(b"$7\r\nmodules")
    return received if begin < 0 else received[:begin] + received[end:]


def test_a_large_number_of_subscriptions_is_replied_to_in_full(redis: Redis, single: Cluster) -> None:
    command = "SUBSCRIBE " + " ".join(f"channel:{number}" for number in range(6000))
    theirs, ours = (converse(server, [command]) for server in (redis.client(), single.client("n1")))
    assert ours == theirs


# Messages


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


def publish(server: Server, channel: str, message: bytes | str) -> int:
    data = message if isinstance(message, bytes) else message.encode()
    return server.state.subscriptions.publish(Message(channel.encode(), data))


def test_messages_go_to_channels_and_to_every_pattern_that_matches(server: Server) -> None:
    first, second = server.connect(), server.connect()
    first.ask("SUBSCRIBE news other")
    second.ask("SUBSCRIBE news", "PSUBSCRIBE n* ?ews x*")
    assert publish(server, "news", "hello") == 4
    assert publish(server, "other", "again") == 1
    assert publish(server, "nobody", "there") == 1
    assert publish(server, "xyz", "") == 1
    assert first.replies() == [[b"message", b"news", b"hello"], [b"message", b"other", b"again"]]
    assert second.replies() == [
        [b"message", b"news", b"hello"],
        [b"pmessage", b"n*", b"news", b"hello"],
        [b"pmessage", b"?ews", b"news", b"hello"],
        [b"pmessage", b"n*", b"nobody", b"there"],
        [b"pmessage", b"x*", b"xyz", b""],
    ]


def test_each_subscriber_gets_messages_in_its_own_protocol(server: Server) -> None:
    old, new = server.connect(), server.connect()
    old.ask("SUBSCRIBE a")
    new.ask("HELLO 3", "SUBSCRIBE a")
    before = len(old.received), len(new.received)
    publish(server, "a", "m")
    body = b"$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n"
    assert old.received[before[0] :] == b"*3\r\n" + body
    assert new.received[before[1] :] == b">3\r\n" + body


def test_nothing_is_told_any_more_once_it_is_not_wanted(server: Server, client: Client) -> None:
    client.ask("SUBSCRIBE a b", "PSUBSCRIBE p*")
    client.ask("UNSUBSCRIBE a", "PUNSUBSCRIBE")
    assert [publish(server, channel, "m") for channel in ("a", "b", "pp")] == [0, 1, 0]
    client.ask("RESET")
    client.ask("SUBSCRIBE c", "PSUBSCRIBE c")
    client.hang_up()
    assert [publish(server, channel, "m") for channel in ("b", "c")] == [0, 0]
    subscriptions = server.state.subscriptions
    assert not subscriptions.channels
    assert not subscriptions.patterns


def test_a_subscription_begins_when_everything_before_is_answered(server: Server, client: Client) -> None:
    """The read before it takes its time; what is published until it is answered is not for us."""
    client.send("HELLO 3", "GET a", "SUBSCRIBE c", "GET b")
    client.replies()
    assert publish(server, "c", "too early") == 0
    client.node.execute(client.node.works[0])
    assert client.replies() == [None]
    assert publish(server, "c", "still too early: this node may not know all that was acknowledged") == 0
    client.node.execute(client.node.works[0])
    assert publish(server, "c", "in time") == 1
    client.node.execute_all()
    assert client.replies()[-2:] == [[b"message", b"c", b"in time"], None]


def test_in_resp3_messages_come_while_a_reply_is_waited_for(server: Server, client: Client) -> None:
    client.ask("HELLO 3", "SUBSCRIBE c")
    client.send("SET a 1")
    publish(server, "c", "m")
    assert client.replies() == [[b"message", b"c", b"m"]]
    client.node.execute_all()
    assert client.replies() == [b"OK"]


def test_messages_do_not_come_in_the_middle_of_a_reply(server: Server, client: Client) -> None:
    client.ask([b"SET", b"large", b"x" * (4 * LARGE_BYTES)], "HELLO 3", "SUBSCRIBE c")
    client.transport.client_reads = False
    client.transport.high = 0
    client.send("GET large")
    client.node.execute_all()
    publish(server, "c", "m")
    while client.transport.unread_bytes:
        client.read_on(client.transport.unread_bytes)
    assert client.replies() == [b"x" * (4 * LARGE_BYTES), [b"message", b"c", b"m"]]


def test_messages_published_before_the_end_of_a_subscription_come_before_its_reply(
    server: Server, client: Client
) -> None:
    client.ask("SUBSCRIBE c")
    client.transport.client_reads = False
    client.transport.high = 0
    publish(server, "c", b"1")
    publish(server, "c", b"2")
    client.send("UNSUBSCRIBE c")
    publish(server, "c", b"3")
    while client.transport.unread_bytes:
        client.read_on(client.transport.unread_bytes)
    assert client.replies() == [
        [b"message", b"c", b"1"],
        [b"message", b"c", b"2"],
        [b"message", b"c", b"3"],
        [b"unsubscribe", b"c", 0],
    ]


# What is published goes through the log


def test_publishing_says_how_many_heard_it_here(server: Server, client: Client) -> None:
    first, second = server.connect(), server.connect()
    first.ask("SUBSCRIBE news", "PSUBSCRIBE n*")
    second.ask("SUBSCRIBE news", "SSUBSCRIBE news")
    assert client.ask("PUBLISH news hello", "SPUBLISH news apart", "PUBLISH nobody there") == [3, 1, 1]
    assert first.replies() == [
        [b"message", b"news", b"hello"],
        [b"pmessage", b"n*", b"news", b"hello"],
        [b"pmessage", b"n*", b"nobody", b"there"],
    ]
    assert second.replies() == [[b"message", b"news", b"hello"], [b"smessage", b"news", b"apart"]]


def test_what_another_node_published_is_told_here(server: Server, client: Client) -> None:
    client.ask("SUBSCRIBE c")
    database = server.node.database
    database.begin(database.instance + 1, NOW)
    apply(database, Run(0, [], request("PUBLISH c elsewhere")).encode())
    assert client.replies() == [], "the batch is not applied yet"
    server.applied()
    assert client.replies() == [[b"message", b"c", b"elsewhere"]]


def test_a_publisher_that_listens_gets_its_reply_first(client: Client) -> None:
    client.ask("HELLO 3", "SUBSCRIBE c")
    assert client.ask("PUBLISH c 1") == [1, [b"message", b"c", b"1"]]
    queued = [b"OK", b"QUEUED", b"QUEUED"]
    answer = client.ask("MULTI", "PUBLISH c 2", "SET a 1", "EXEC")
    assert answer == [*queued, [1, b"OK"], [b"message", b"c", b"2"]]


def test_what_is_undone_is_not_told(server: Server, client: Client) -> None:
    client.ask("SUBSCRIBE c", "PSUBSCRIBE __key*")
    server.state.notify_of(Notifications("EA"))
    database = server.node.database
    database.begin(database.instance + 1, NOW)
    apply(database, Run(0, [], pipeline("SET a 1", "PUBLISH c 1")).encode())
    mark = len(database.shared.events)
    apply(database, Run(0, [], pipeline("SET a 2", "PUBLISH c 2", "SET a 3")).encode())
    del database.shared.events[mark:]
    apply(database, Run(0, [], pipeline("PUBLISH c 3")).encode())
    server.applied()
    assert [reply[-1] for reply in client.replies()] == [b"a", b"1", b"3"]


def test_who_subscribes_within_a_batch_hears_what_follows_in_it_only(server: Server) -> None:
    """Two clients' writes come in one batch. Between them a third one's subscription begins, behind a write of its own."""
    first, second, other = server.connect(), server.connect(), server.connect()
    first.send("PUBLISH c 1")
    other.send("SET a 1", "SUBSCRIBE c")
    second.send("PUBLISH c 2")
    one, own, two = server.node.works
    database = server.node.database
    database.begin(database.instance + 1, NOW)
    one.execute(database)
    own.execute(database)
    (subscribing,) = [work for work in server.node.works if work not in (one, own, two)]
    subscribing.execute(database)
    two.execute(database)
    server.applied()
    assert first.replies() == [0]
    assert second.replies() == [1]
    assert other.replies() == [b"OK", [b"subscribe", b"c", 1], [b"message", b"c", b"2"]]


def test_who_ends_it_within_a_batch_hears_nothing_behind_the_reply(server: Server, client: Client) -> None:
    client.ask("SUBSCRIBE c")
    other = server.connect()
    other.send("PUBLISH c 1")
    (work,) = server.node.works
    server.node.works.clear()
    database = server.node.database
    database.begin(database.instance + 1, NOW)
    work.execute(database)
    client.send("UNSUBSCRIBE c")
    server.applied()
    assert client.replies() == [[b"unsubscribe", b"c", 0]]


def test_without_a_majority_a_subscription_begins_with_what_the_node_knows(
    server: Server, client: Client
) -> None:
    client.send("SUBSCRIBE c", "PSUBSCRIBE p", "SSUBSCRIBE s")
    for _ in range(3):
        server.node.fail(server.node.works[0], "NOREPLICAS nobody is there")
    assert [reply[0] for reply in client.replies()] == [b"subscribe", b"psubscribe", b"ssubscribe"]
    assert publish(server, "c", "m") == 1


def test_news_of_the_leader_are_had_without_asking_anybody(server: Server, client: Client) -> None:
    """Nobody may lead at this moment."""
    client.send("SUBSCRIBE +switch-master")
    assert client.replies() == [[b"subscribe", b"+switch-master", 1]]
    assert not server.node.works


def test_who_reads_from_the_own_state_subscribes_to_it(client: Client) -> None:
    client.ask("READONLY")
    client.send("SUBSCRIBE c")
    assert client.replies() == [[b"subscribe", b"c", 1]]


# Bounds


def test_a_subscriber_that_does_not_read_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(Settings(subscriber_unread_bytes_max=100_000, output_bytes_max=10_000))
    slow, quick = server.connect(), server.connect()
    for client in (slow, quick):
        client.ask("SUBSCRIBE c")
    slow.transport.client_reads = False
    with caplog.at_level(logging.WARNING, "sofadb.server"):
        for _ in range(200):
            publish(server, "c", b"x" * 1000)
    assert slow.transport.is_closed
    assert not quick.transport.is_closed
    assert len(quick.replies()) == 200
    assert slow.connection.unread_bytes < 110_000
    (line,) = caplog.messages
    assert "unread: cut off" in line
    slow.connection.connection_lost(None)
    assert publish(server, "c", b"") == 1
    assert slow.connection.unread_bytes < 20_000, "what waits here is given free"


def test_one_large_message_is_no_reason_to_cut_anybody_off() -> None:
    server = Server(Settings(subscriber_unread_bytes_max=1000))
    client = server.connect()
    client.ask("SUBSCRIBE c")
    publish(server, "c", b"x" * 5000)
    assert client.replies() == [[b"message", b"c", b"x" * 5000]]


def test_subscriptions_of_a_connection_are_bounded_and_too_many_change_nothing() -> None:
    client = Server(Settings(subscriptions_max=3)).connect()
    client.ask("SUBSCRIBE a b", "PSUBSCRIBE p")
    refused = "-ERR a connection may have 3 subscriptions at most"
    assert client.ask("SUBSCRIBE a c") == [refused]
    assert client.ask("PSUBSCRIBE q") == [refused]
    assert client.ask("SUBSCRIBE b b") == [[b"subscribe", b"b", 3], [b"subscribe", b"b", 3]]


@pytest.mark.parametrize("command", [b"SUBSCRIBE", b"PSUBSCRIBE"])
def test_names_are_bounded_and_too_long_a_one_changes_nothing(client: Client, command: bytes) -> None:
    (reply,) = client.ask([command, b"a", b"x" * 4097])
    assert "4096 bytes at most" in reply
    assert client.ask("PUBSUB CHANNELS", "PUBSUB NUMPAT") == [[], 0]


# Looking


def test_lists_and_figures_know_subscribers(server: Server, client: Client) -> None:
    subscriber = server.connect()
    subscriber.ask("SUBSCRIBE a b", "PSUBSCRIBE p")
    (line,) = client.ask("CLIENT LIST TYPE pubsub")
    assert b"flags=P" in line
    assert b" sub=2 psub=1 " in line
    (line,) = client.ask("CLIENT LIST TYPE normal")
    assert line.count(b"\n") == 1
    (text,) = client.ask("INFO stats")
    assert b"pubsub_channels:2\r\npubsub_patterns:1" in text
    assert client.ask("PUBSUB NUMSUB a b c") == [[b"a", 1, b"b", 1, b"c", 0]]


def test_each_command_of_a_pipeline_is_judged_by_what_the_connection_is_in_its_turn(client: Client) -> None:
    assert client.ask("PING", "SUBSCRIBE a", "PING", "UNSUBSCRIBE a", "PING") == [
        b"PONG",
        [b"subscribe", b"a", 1],
        [b"pong", b""],
        [b"unsubscribe", b"a", 0],
        b"PONG",
    ]
