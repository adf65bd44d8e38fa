"""Passwords and protected mode: what strangers are told, how much they may send, and that it takes the password and no more."""

from __future__ import annotations

import contextlib

import pytest

from processes import Client as Process
from processes import Cluster, Redis
from server.server_fakes import Client, Server, pipeline, request
from sofadb.server.admission import Passwords, is_on_this_machine
from sofadb.server.connection import STRANGERS_BYTES_MAX
from sofadb.server.requests import STRANGERS_ARGUMENTS_MAX, STRANGERS_BULK_BYTES_MAX

NO_AUTH = "-NOAUTH Authentication required."
WRONG = "-WRONGPASS invalid username-password pair or user is disabled."

# What a real Redis replies, too

CONVERSATIONS = {
    "nothing said": [
        "GET a",
        "SET a 1",
        "PING",
        "SELECT 1",
        "MULTI",
        "SUBSCRIBE a",
        "CONFIG GET x",
        "CLIENT ID",
    ],
    "mistakes": [
        "GET",
        "NOSUCH a",
        "CLIENT NOSUCH",
        "AUTH",
        "AUTH a b c",
        "HELLO x",
        "HELLO 4",
        "HELLO 3 NOSUCH",
    ],
    "the wrong one": ["AUTH wrong", "AUTH default wrong", "AUTH other secret", "AUTH Secret", "GET a"],
    "the right one": ["AUTH secret", "GET a", "AUTH wrong", "GET a", "AUTH default secret", "PING"],
    "with a name": ["GET a", "AUTH default secret", "GET a"],
    "hello": ["HELLO", "HELLO 2", "HELLO 3", "HELLO 3 SETNAME x", "GET a", "CLIENT GETNAME"],
    "hello with the wrong one": [
        "HELLO 3 AUTH default wrong",
        "HELLO 3 AUTH other secret",
        "HELLO 3 AUTH default",
    ],
    "hello with a mistake behind": ["HELLO 2 AUTH default secret NOSUCH", "GET a"],
    "reset": ["AUTH secret", "GET a", "RESET", "GET a", "AUTH secret", "GET a"],
    "quit": ["QUIT"],
    "in a transaction": ["AUTH secret", "MULTI", "AUTH wrong", "AUTH secret", "PING", "EXEC", "GET a"],
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "password").write_text("secret\nthe next one\n")
    cluster = Cluster(directory, 1)
    cluster.options = ("--password-file", str(directory / "password"))
    cluster.start()
    with contextlib.closing(cluster.client("n1")) as client:
        assert client("AUTH", "secret") == b"OK"
        assert client("SET", "a", "1") == b"OK"
        client("DEL", "a")
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def guarded_redis(tmp_path_factory: pytest.TempPathFactory) -> Redis:
    redis = Redis(tmp_path_factory.mktemp("redis"))
    redis.client()("CONFIG", "SET", "requirepass", "secret")
    yield redis
    redis.stop()


def converse(client: Process, data: bytes) -> bytes:
    """All bytes that come back, until the other end has closed the connection."""
    client.socket.sendall(data + pipeline("QUIT"))
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while more := client.socket.recv(1 << 16):
            received += more
    client.close()
    return received


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_replies_are_those_of_redis_to_the_byte(guarded_redis: Redis, guarded: Cluster, name: str) -> None:
    theirs, ours = (
        converse(server, pipeline(*CONVERSATIONS[name]))
        for server in (guarded_redis.client(), guarded.client("n1"))
    )
    assert ours == theirs


SET = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$"
LARGE = b"x" * (STRANGERS_BULK_BYTES_MAX + 1)
SENDINGS = {
    "eleven words": request([b"PING"] * (STRANGERS_ARGUMENTS_MAX + 1)),
    "ten words": request([b"GET"] + [b"a"] * (STRANGERS_ARGUMENTS_MAX - 1)),
    "a large word": request([b"GET", LARGE]),
    "as large a word as may be": request([b"GET", LARGE[1:]]),
    "only the announcement of one": SET + b"16385\r\n",
    "large behind the password": pipeline("AUTH secret") + request([b"STRLEN", LARGE]),
    "many behind the password": pipeline("AUTH secret") + request([b"EXISTS"] + [b"a"] * 100),
    "large behind the wrong one": pipeline("AUTH wrong") + request([b"STRLEN", LARGE]),
    "large behind a reset": pipeline("AUTH secret", "RESET", "GET a") + request([b"AUTH", b"secret"]),
    "lines": b"GET a\r\nAUTH secret\r\nGET a\r\n",
}


@pytest.mark.parametrize("name", SENDINGS)
def test_as_little_is_taken_as_redis_takes(guarded_redis: Redis, guarded: Cluster, name: str) -> None:
    theirs, ours = (
        converse(server, SENDINGS[name]) for server in (guarded_redis.client(), guarded.client("n1"))
    )
    assert ours == theirs


# Without a Redis to compare with


@pytest.fixture
def server() -> Server:
    return Server(passwords=Passwords([b"secret", b"the next one"]))


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


def test_each_password_does(server: Server, client: Client) -> None:
    other = server.connect()
    assert client.ask("AUTH secret", "GET a") == [b"OK", None]
    assert other.ask([b"AUTH", b"the next one"], "GET a") == [b"OK", None]
    assert server.connect().ask("AUTH", [b"AUTH", b""], [b"AUTH", b"secret\nthe next one"])[1:] == [
        WRONG,
        WRONG,
    ]


def test_a_stranger_reaches_nothing(server: Server, client: Client) -> None:
    assert set(client.ask("GET a", "SET a 1", "PUBLISH a b", "SUBSCRIBE a", "INFO", "SHUTDOWN now")) == {
        NO_AUTH
    }
    assert not server.node.works


def test_what_comes_in_pieces_is_the_same(client: Client) -> None:
    data = pipeline("GET a", "AUTH secret") + request([b"STRLEN", LARGE]) + pipeline("PING")
    for begin in range(0, len(data), 7):
        client.send_bytes(data[begin : begin + 7])
    client.node.execute_all()
    assert client.replies() == [NO_AUTH, b"OK", 0, b"PONG"]


def test_of_a_stranger_that_does_not_read_little_is_kept(client: Client) -> None:
    client.transport.client_reads = False
    client.transport.high = 0
    while client.transport.is_read_from:
        client.send_bytes(pipeline(*["GET a"] * 1000))
    assert client.connection.held_bytes < STRANGERS_BYTES_MAX + 50_000
    client.transport.client_reads = True
    client.read_on(client.transport.unread_bytes)
    assert client.transport.is_read_from
    assert set(client.replies()) == {NO_AUTH}
    assert client.ask("AUTH secret") == [b"OK"]


def test_a_stranger_that_ends_its_half_is_answered(client: Client) -> None:
    client.transport.client_reads = False
    client.transport.high = 0
    client.send("GET a", "GET b", "AUTH secret", "PING")
    client.half_close()
    client.transport.client_reads = True
    client.read_on(client.transport.unread_bytes)
    assert client.replies() == [NO_AUTH, NO_AUTH, b"OK", b"PONG"]
    assert client.transport.is_closed


@pytest.mark.parametrize(
    ("peer", "is_here"),
    [
        (("127.0.0.1", 1), True),
        (("127.8.9.10", 1), True),
        (("::1", 1, 0, 0), True),
        ("", True),
        (None, False),
        (("10.0.0.1", 1), False),
        (("::ffff:10.0.0.1", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), False),
    ],
)
def test_who_is_on_this_machine(peer: object, is_here: bool) -> None:
    assert is_on_this_machine(peer) is is_here


@pytest.mark.parametrize("is_protected", [True, False])
@pytest.mark.parametrize("password", [[b"secret"], []])
def test_a_protected_node_without_a_password_speaks_to_its_own_machine_only(
    is_protected: bool, password: list[bytes]
) -> None:
    server = Server(passwords=Passwords(password), is_protected=is_protected)
    near, far = server.connect(), server.connect("10.0.0.9")
    said = near.ask("PING")
    assert said == ([NO_AUTH] if password else [b"PONG"])
    if is_protected and not password:
        (problem,) = far.replies()
        assert problem.startswith("-DENIED ")
        assert "--password-file" in problem
        assert far.transport.is_closed
        assert server.state.connections_rejected == 1
    else:
        assert far.ask("PING") == said


def test_the_configuration_says_whether_but_not_which(server: Server, client: Client) -> None:
    client.ask("AUTH secret")
    assert client.ask("CONFIG GET requirepass", "CONFIG GET protected-mode") == [
        [],
        [b"protected-mode", b"no"],
    ]
    (problem,) = client.ask("CONFIG SET requirepass other")
    assert "--password-file" in problem
