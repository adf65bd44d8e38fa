"""Keyspace notifications: the setting as Redis has it, and events as messages among others."""

from __future__ import annotations

import itertools
import random

import pytest

from processes import Client as Process
from processes import Cluster, Redis
from server.server_fakes import Client, Server
from sofadb.database import keyspace
from sofadb.server.notifications import Notifications

LETTERS = "KEg$lshzxetdmnA"
NAME = "notify-keyspace-events"


def told(client: Process, letters: str) -> list[object]:
    """What is said to a setting, and to the question what it is then."""
    return [
        repr(client("CONFIG", "SET", NAME, letters)),
        client("CONFIG", "GET", NAME),
    ]


def test_every_setting_is_put_as_redis_puts_it(redis: Redis, single: Cluster) -> None:
    chance = random.Random(1)
    settings = ["", *LETTERS, *map("".join, itertools.combinations(LETTERS, 2)), LETTERS[:-1], "q", "Kq", "é"]
    settings += ["".join(chance.sample(LETTERS, chance.randrange(1, 14))) for _ in range(200)]
    theirs, ours = redis.client(), single.client("n1")
    for letters in [*settings, ""]:
        assert told(ours, letters) == told(theirs, letters), letters


@pytest.mark.parametrize(
    "words",
    [
        (NAME, "KEA", NAME, "K"),
        (NAME.upper(), "KEA"),
        (NAME,),
        (NAME, "K", "nosuch", "1"),
        ("nosuch", "1"),
        (NAME, "K", "nosuch"),
    ],
)
def test_mistakes_are_told_as_redis_tells_them_and_change_nothing(
    redis: Redis, single: Cluster, words: tuple[str, ...]
) -> None:
    theirs, ours = redis.client(), single.client("n1")
    answers = []
    for client in (theirs, ours):
        client("CONFIG", "SET", NAME, "xE")
        answers.append((repr(client("CONFIG", "SET", *words)), client("CONFIG", "GET", NAME)))
        client("CONFIG", "SET", NAME, "")
    assert answers[0] == answers[1]


CHANGES = [
    *(
        "RPUSH a 1 2",
        "LPOP a",
        "RPOP a",
        "RPUSH b 1",
        "SORT b STORE c",
        "LSET b 0 x",
        "LPOP b 0",
        "LPUSHX nosuch 1",
    ),
    *(
        "SET k v",
        "SET k v EX 100",
        "APPEND k w",
        "SETRANGE k 1 x",
        "INCR n",
        "DECRBY n 3",
        "GETDEL n",
        "SETEX n 100 v",
    ),
    *(
        "PERSIST n",
        "EXPIRE n -1",
        "EXPIRE k 50",
        "RENAME k j",
        "COPY j i",
        "MOVE i 4",
        "DEL j nosuch",
        "MSET k 1 j 2",
    ),
    *(
        "HSET h f v",
        "HINCRBY h g 1",
        "HDEL h f g",
        "SADD s a b",
        "SREM s a b",
        "ZADD z 1 a",
        "ZINCRBY z 1 a",
        "ZREM z a",
    ),
    *("SETBIT k 1 1", "GETEX k EX 100", "GETSET k v", "UNLINK k", "INCR b", "GET nosuch", "FLUSHDB"),
]


SCRIPT = "redis.call('rpush', 'd', 1); redis.call('publish', 'end', 'x'); redis.call('lpop', 'd')"


@pytest.mark.parametrize("letters", ["KEA", "KA", "EA", "Kl", "Eg", "A", "KE", "KEls", "KE$n", "Eghsz"])
def test_events_are_those_of_redis(redis: Redis, single: Cluster, letters: str) -> None:
    heard = []
    for server in (redis, single):
        listener, client = (
            server.client() if isinstance(server, Redis) else server.client("n1") for _ in range(2)
        )
        client("FLUSHALL")
        client("CONFIG", "SET", NAME, letters)
        listener("PSUBSCRIBE", "__key*@*__:*")
        listener("SUBSCRIBE", "end")
        client("SELECT", 3)
        for command in CHANGES:
            client(*command.split())
        client.pipeline([["MULTI"], ["RPUSH", "d", "1"], ["PUBLISH", "end", "x"], ["LPOP", "d"], ["EXEC"]])
        client("EVAL", SCRIPT, 0)
        client("PUBLISH", "end", "y")
        said = []
        while not said or said[-1] != [b"message", b"end", b"y"]:
            said.append(listener.receive())
        heard.append(said)
        client("CONFIG", "SET", NAME, "")
    assert heard[0] == heard[1]


def test_what_expires_is_told_as_redis_tells_it(redis: Redis, single: Cluster) -> None:
    heard = []
    for server in (redis, single):
        listener, client = (
            server.client() if isinstance(server, Redis) else server.client("n1") for _ in range(2)
        )
        client("CONFIG", "SET", NAME, "KEx")
        listener("PSUBSCRIBE", "__key*__:*")
        client("SET", "short", "v", "PX", 30)
        heard.append([listener.receive(), listener.receive()])
        client("CONFIG", "SET", NAME, "")
    assert heard[0] == heard[1]


# Without a Redis to compare with


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


def test_each_node_has_its_own_setting_and_tells_what_another_did(server: Server, client: Client) -> None:
    client.ask(f"CONFIG SET {NAME} El", "SUBSCRIBE __keyevent@0__:rpush")
    server.connect().ask("RPUSH a 1", "RPUSH b 1")
    assert client.replies() == [
        [b"message", b"__keyevent@0__:rpush", b"a"],
        [b"message", b"__keyevent@0__:rpush", b"b"],
    ]
    assert Server().state.notifications.letters == ""


def test_nothing_is_told_of_what_happened_before_it_was_wanted(server: Server, client: Client) -> None:
    client.ask("PSUBSCRIBE *")
    other = server.connect()
    other.ask("RPUSH a 1", f"CONFIG SET {NAME} KA", "RPUSH a 2", f"CONFIG SET {NAME} A", "RPUSH a 3")
    assert client.replies() == [[b"pmessage", b"*", b"__keyspace@0__:a", b"rpush"]]
    assert server.node.database.shared.wanted_events == 0


def test_a_setting_from_the_start_is_in_force_at_once() -> None:
    server = Server(notifications=Notifications("KEA"))
    assert server.node.database.shared.wanted_events == server.state.notifications.classes
    assert server.connect().ask(f"CONFIG GET {NAME}") == [[NAME.encode(), b"AKE"]]


def test_of_too_many_events_some_are_told(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyspace, "EVENTS_MAX", 3)
    client.ask(f"CONFIG SET {NAME} EA", "PSUBSCRIBE *")
    server.connect().ask("MULTI", *["RPUSH a 1"] * 5, "EXEC")
    assert len(client.replies()) == 3
