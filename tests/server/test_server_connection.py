"""One client's connection: the order of its replies, what is begun when, its transactions, its bounds and its end."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.server_fakes import Client, Server, pipeline, request
from sofadb.database.runs import Sent, Transaction, decode
from sofadb.node.node import NO_REPLICAS
from sofadb.server import connection as module
from sofadb.server import short_way
from sofadb.server.connection import (
    LARGE_READS_MAX,
    QUEUED_LARGE_BYTES,
    READS_BEHIND_WRITES_MAX,
    RUN_COMMANDS_MAX,
)
from sofadb.server.encoding import LARGE_BYTES, PIECE_BYTES
from sofadb.server.short_way import Crowd, Gathered, Piece
from sofadb.server.state import Settings
from sofadb.server.work import Work

NOREPLICAS = "NOREPLICAS too few"
UNCERTAIN = "UNCERTAIN who knows"


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


def requests_of(part: Piece | Crowd) -> list[list[bytes]]:
    if isinstance(part, Piece):
        return part.requests
    assert part.columns is not None
    return list(map(list, zip(*part.columns, strict=True)))


def asked(work: Work | Gathered) -> list[bytes]:
    """The commands of a work, as lines."""
    if isinstance(work, Gathered):
        return [b" ".join(args) for part in work.parts for args in requests_of(part)]
    groups = work.run.groups if isinstance(work.run, Transaction) else [work.run.group]
    return [b" ".join(args) for group in groups for _, args in group.calls]


def under_way(client: Client) -> list[list[bytes]]:
    return [asked(work) for work in client.node.works]


# The order of replies


def test_replies_come_in_the_order_of_requests_whichever_read_is_done_first(client: Client) -> None:
    client.ask("MSET a 1 b 2 c 3")
    for key in "abc":
        client.send(f"GET {key}")
    first, second, third = client.node.works
    client.node.execute(third)
    assert client.replies() == []
    client.node.execute(first)
    assert client.replies() == [b"1"]
    client.node.execute(second)
    assert client.replies() == [b"2", b"3"]


def test_what_needs_no_node_is_still_answered_in_its_turn(client: Client) -> None:
    client.send("GET a")
    client.send("PING")
    client.send("SET a 1", "NOSUCH")
    client.send("PING")
    assert client.replies() == []
    client.node.execute_all()
    unknown = "-ERR unknown command 'NOSUCH', with args beginning with: "
    assert client.replies() == [None, b"PONG", b"OK", unknown, b"PONG"]


def test_what_needs_no_node_is_done_in_its_turn(client: Client) -> None:
    client.send("GET a", "CLIENT SETNAME me")
    client.send("CLIENT GETNAME")
    client.node.execute_all()
    assert client.replies() == [None, b"OK", b"me"]


def test_a_write_behind_reads_waits_until_they_are_answered(client: Client) -> None:
    client.send("GET a", "GET b")
    client.send("GET a", "SET a 1")
    assert under_way(client) == [[b"GET a", b"GET b"], [b"GET a"]]
    first, second = client.node.works
    client.node.execute(second)
    assert client.node.works == [first]
    client.node.execute(first)
    assert client.replies() == [None, None, None]
    assert under_way(client) == [[b"SET a 1"]]


def test_reads_behind_a_write_ride_on_it(client: Client) -> None:
    client.send("SET a 1")
    client.send("GET a")
    client.send("GET a", "PING")
    assert under_way(client) == [[b"SET a 1"]]
    client.node.execute_all()
    assert client.replies() == [b"OK", b"1", b"1", b"PONG"]


def test_reads_ride_on_the_last_write_before_them_and_do_not_see_the_next(client: Client) -> None:
    client.send("SET a 1")
    client.send("SET a 2")
    client.send("GET a")
    client.send("SET a 3")
    assert under_way(client) == [[b"SET a 1"], [b"SET a 2"], [b"SET a 3"]]
    client.node.execute_all()
    assert client.replies() == [b"OK", b"OK", b"2", b"OK"]


def test_a_read_behind_a_write_that_is_done_asks_for_itself(client: Client) -> None:
    client.ask("SET a 1")
    client.send("GET a")
    assert under_way(client) == [[b"GET a"]]


def test_reads_do_not_ride_on_a_write_that_has_failed_before_its_turn(client: Client) -> None:
    client.send("SET a 1")
    client.send("SET a 2")
    client.node.fail(client.node.works[1], NOREPLICAS)
    client.send("GET a")
    assert under_way(client) == [[b"SET a 1"]]
    client.node.execute_all()
    assert client.replies() == [b"OK", f"-{NOREPLICAS}", b"1"]


def test_writes_with_reads_between_them_are_one_run_and_only_the_writes_go_into_the_log(
    client: Client,
) -> None:
    client.send("SET a 1", "GET a", "INCR a", "PING", "GET a", "APPEND a x")
    (work,) = client.node.works
    (sent,) = decode(work.encode())
    assert isinstance(sent, Sent)
    assert sent.raw == pipeline("SET a 1", "INCR a", "APPEND a x")
    client.node.execute_all()
    assert client.replies() == [b"OK", b"1", 2, b"PONG", b"2", 2]


def test_a_long_pipeline_becomes_several_runs(client: Client) -> None:
    count = 2 * RUN_COMMANDS_MAX
    client.send(*["INCR a", "PING"] * count)
    sizes = [len(asked(work)) for work in client.node.works]
    assert sizes == [RUN_COMMANDS_MAX] * 4
    client.node.execute_all()
    assert client.replies() == [reply for number in range(1, count + 1) for reply in (number, b"PONG")]


def test_few_reads_follow_writes_in_a_run_since_each_may_hold_a_value_that_is_gone(client: Client) -> None:
    count = 10 * READS_BEHIND_WRITES_MAX
    client.send(*["APPEND a x", "GET a"] * count)
    for run in under_way(client):
        behind = run[run.index(b"APPEND a x") :]
        assert behind.count(b"GET a") <= READS_BEHIND_WRITES_MAX
    client.node.execute_all()
    assert client.replies() == [reply for n in range(1, count + 1) for reply in (n, b"x" * n)]


def test_no_more_runs_are_under_way_than_allowed() -> None:
    client = Server(Settings(in_flight_max=2)).connect()
    for number in range(5):
        client.send(f"SET a {number}")
    assert under_way(client) == [[b"SET a 0"], [b"SET a 1"]]
    client.node.execute(client.node.works[0])
    assert under_way(client) == [[b"SET a 1"], [b"SET a 2"]]
    client.node.execute_all()
    assert client.replies() == [b"OK"] * 5


keys = st.sampled_from(["a", "b", "c"])
commands = st.one_of(
    keys.map("GET {}".format),
    keys.map("INCR {}".format),
    st.tuples(keys, st.integers(0, 3)).map("SET {0[0]} {0[1]}".format),
    keys.map("WATCH {}".format),
    st.integers(0, 2).map("SELECT {}".format),
    st.sampled_from(
        ["MGET a b c", "DEL a b", "MULTI", "EXEC", "EXEC", "DISCARD", "UNWATCH", "PING", "KEYS a"]
    ),
    st.sampled_from(["HELLO 2", "HELLO 3", "RESET", "CLIENT GETNAME", "CLIENT SETNAME x", "SET a", "NOSUCH"]),
)
transactions = st.lists(commands, max_size=5).map(lambda inside: ["MULTI", *inside, "EXEC"])
pipelines = st.lists(commands.map(lambda each: [each]) | transactions, max_size=15).map(
    lambda parts: [command for part in parts for command in part]
)


def play(client: Client, commands: list[str], cuts: list[int], choices: random.Random) -> None:
    """Send a pipeline in pieces; between them, some of what is under way is executed, reads in any order."""
    node, data = client.node, pipeline(*commands)
    borders = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(borders):
        if begin < end:
            client.send_bytes(data[begin:end])
        while node.works and choices.random() < 0.5:
            writes = [work for work in node.works if work.needs_log]
            node.execute(choices.choice([work for work in node.works if not work.needs_log] + writes[:1]))
    node.execute_all()


@given(pipelines, st.lists(st.integers(0, 2000), max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=500, deadline=None)
def test_a_pipeline_however_it_arrives_gets_the_replies_of_commands_sent_one_at_a_time(
    commands: list[str], cuts: list[int], choices: random.Random
) -> None:
    patient = Server().connect()
    for command in commands:
        patient.ask(command)
    eager = Server().connect()
    play(eager, commands, cuts, choices)
    assert eager.received == patient.received
    assert eager.node.replica.digest() == eager.node.database.digest(), "other replicas have done the same"


# What is begun alone


@pytest.mark.parametrize(
    ("command", "together"), [("WATCH a", ["WATCH a"]), *[(it, [it, "GET b"]) for it in ("KEYS *", "SCAN 0")]]
)
def test_what_reads_alone_begins_behind_all_before_it_and_nothing_behind_it_begins(
    client: Client, command: str, together: list[str]
) -> None:
    client.send("SET a 1", "PING", command, "GET b", "SET b 1")
    client.send("GET a")
    assert under_way(client) == [[b"SET a 1", b"PING"]]
    client.node.execute(client.node.works[0])
    assert under_way(client) == [[it.encode() for it in together]]
    client.node.execute(client.node.works[0])
    assert under_way(client) == [[b"GET b"] * (len(together) == 1) + [b"SET b 1"]]
    client.node.execute_all()
    assert client.replies()[3:] == [None, b"OK", b"1"]


def test_a_few_reads_with_large_replies_go_together(client: Client) -> None:
    client.send(*["HGETALL a", "GET b"] * (LARGE_READS_MAX + 1))
    assert under_way(client) == [[b"HGETALL a", b"GET b"] * LARGE_READS_MAX]
    client.node.execute(client.node.works[0])
    assert under_way(client) == [[b"HGETALL a", b"GET b"]]


def test_a_write_whose_reply_may_be_large_is_begun_alone_and_goes_through_the_log(client: Client) -> None:
    client.send("RPUSH a 2 1", "SORT a", "SORT a STORE b", "LRANGE b 0 1", "LRANGE b 0 -1")
    assert under_way(client) == [[b"RPUSH a 2 1"]]
    client.node.execute(client.node.works[0])
    assert under_way(client) == [[b"SORT a"]]
    assert client.node.works[0].needs_log
    client.node.execute(client.node.works[0])
    assert under_way(client) == [[b"SORT a STORE b", b"LRANGE b 0 1"]], "these have short replies"
    client.node.execute_all()
    assert client.replies() == [2, [b"1", b"2"], 2, [b"1", b"2"], [b"1", b"2"]]
    assert client.node.replica.digest() == client.node.database.digest()


@pytest.mark.parametrize(
    "command", ["UNWATCH", "HELLO 3", "RESET", "DISCARD", "EXEC", "CLIENT LIST", "COMMAND", "COMMAND DOCS"]
)
def test_what_needs_no_node_but_is_begun_alone_waits_for_all_before_it(client: Client, command: str) -> None:
    client.send("GET a", command, "GET b")
    assert under_way(client) == [[b"GET a"]]
    client.node.execute(client.node.works[0])
    assert under_way(client) == [[b"GET b"]]
    assert len(client.replies()) == 2, "it is done and answered at once"


def test_exec_is_begun_alone(client: Client) -> None:
    client.send("GET a", "MULTI", "SET a 1", "EXEC", "GET a")
    assert under_way(client) == [[b"GET a", b"MULTI", b""]], "what is queued is not done there"
    client.node.execute(client.node.works[0])
    assert client.replies() == [None, b"OK", b"QUEUED"]
    (work,) = client.node.works
    assert isinstance(work.run, Transaction)
    assert asked(work) == [b"SET a 1"]
    client.node.execute(work)
    assert under_way(client) == [[b"GET a"]]
    client.node.execute_all()
    assert client.replies() == [[b"OK"], b"1"]


def test_another_protocol_holds_from_its_own_reply_on(client: Client) -> None:
    client.send("GET a", "HELLO 3", "GET a", "HELLO 2", "GET a", "RESET", "HELLO 3", "RESET", "GET a")
    client.node.execute_all()
    received = client.received
    assert received.startswith(b"$-1\r\n%7\r\n$6\r\nserver\r\n")
    assert b"*0\r\n_\r\n*14\r\n$6\r\nserver\r\n" in received
    assert b"*0\r\n$-1\r\n+RESET\r\n%7\r\n" in received
    assert received.endswith(b"*0\r\n+RESET\r\n$-1\r\n")


def test_select_waits_for_nothing_and_holds_for_what_is_behind_it(client: Client) -> None:
    client.send("SET a 0", "SELECT 1", "SET a 1", "SELECT 16", "GET a", "SELECT 0", "GET a")
    assert under_way(client) == [[b"SET a 0"], [b"SET a 1"]]
    client.node.execute_all()
    assert client.replies() == [b"OK", b"OK", b"OK", "-ERR DB index is out of range", b"1", b"OK", b"0"]


# Transactions


def test_a_transaction_is_one_work_with_the_writes_in_the_log(client: Client) -> None:
    client.send("MULTI", "SET a 1", "GET a", "PING", "INCR a", "EXEC")
    (work,) = client.node.works
    (transaction,) = decode(work.encode())
    assert isinstance(transaction, Transaction)
    assert [group.raw for group in transaction.groups] == [pipeline("SET a 1", "INCR a")]
    client.node.execute(work)
    assert client.replies() == [b"OK"] + [b"QUEUED"] * 4 + [[b"OK", b"1", b"PONG", 2]]


def test_a_transaction_of_reads_is_read_and_an_empty_one_is_an_empty_array(client: Client) -> None:
    client.send("MULTI", "GET a", "GET b", "EXEC")
    (work,) = client.node.works
    assert not work.needs_log
    client.node.execute(work)
    assert client.replies()[-1] == [None, None]
    assert client.ask("MULTI", "EXEC")[-1] == []


def test_a_command_that_fails_in_a_transaction_fails_alone(client: Client) -> None:
    assert client.ask("SET a x", "MULTI", "INCR a", "SET b 1", "EXEC")[-1] == [
        "-ERR value is not an integer or out of range",
        b"OK",
    ]


@pytest.mark.parametrize("mistake", ["NOSUCH", "SET a", "CLIENT NOSUCH", "GET a b"])
def test_a_mistake_while_queueing_makes_exec_do_nothing(client: Client, mistake: str) -> None:
    replies = client.ask("MULTI", "SET a 1", mistake, "SET b 1", "EXEC", "MGET a b")
    assert replies[2].startswith("-ERR ")
    assert [replies[1], *replies[3:]] == [
        b"QUEUED",
        b"QUEUED",
        "-EXECABORT Transaction discarded because of previous errors.",
        [None, None],
    ]
    assert client.ask("MULTI", "SET a 1", "EXEC")[-1] == [b"OK"], "the next one is a new one"


def test_discard_forgets_what_was_queued_and_watched(server: Server, client: Client) -> None:
    client.ask("WATCH a", "MULTI", "SET a 1")
    server.connect().ask("SET a 2")
    assert client.ask("DISCARD", "GET a", "MULTI", "EXEC") == [b"OK", b"2", b"OK", []]


def test_exec_and_discard_without_multi_multi_in_multi_and_watch_in_multi_are_refused(client: Client) -> None:
    assert client.ask("EXEC", "DISCARD") == ["-ERR EXEC without MULTI", "-ERR DISCARD without MULTI"]
    assert client.ask("MULTI", "MULTI", "WATCH a", "SET a 1", "EXEC") == [
        b"OK",
        "-ERR MULTI calls can not be nested",
        "-ERR WATCH inside MULTI is not allowed",
        b"QUEUED",
        [b"OK"],
    ]


def test_select_in_a_transaction_holds_in_it_and_after_it(client: Client) -> None:
    replies = client.ask("MULTI", "SET a 0", "SELECT 1", "SET a 1", "SELECT 99", "EXEC", "GET a")
    assert replies[-2:] == [[b"OK", b"OK", b"OK", "-ERR DB index is out of range"], b"1"]
    assert client.ask("SELECT 0", "GET a") == [b"OK", b"0"]


@pytest.mark.parametrize("end", ["DISCARD", "EXEC"])
def test_select_in_a_transaction_that_is_not_done_does_not_hold(
    server: Server, client: Client, end: str
) -> None:
    client.ask("WATCH a")
    server.connect().ask("SET a 0")
    client.ask("MULTI", "SELECT 1", end)
    assert client.ask("GET a") == [b"0"]


def test_a_watched_key_that_has_changed_makes_exec_do_nothing(server: Server, client: Client) -> None:
    assert client.ask("WATCH a b") == [b"OK"]
    server.connect().ask("SET b 2")
    client.send("MULTI", "SET a 1", "EXEC")
    assert client.node.works, "whether it is done is decided in its place in the log"
    client.node.execute_all()
    assert client.received.endswith(b"*-1\r\n")
    assert client.ask("MULTI", "SET a 1", "EXEC")[-1] == [b"OK"], "EXEC has ended the watching"
    assert client.node.replica.digest() == client.node.database.digest()


def test_a_change_between_exec_and_its_place_in_the_log_counts(server: Server, client: Client) -> None:
    client.ask("WATCH a")
    client.send("MULTI", "SET a 1", "EXEC")
    exec_, other = client.node.works[0], server.connect()
    other.send("SET a 2")
    client.node.execute(client.node.works[1])
    client.node.execute(exec_)
    assert client.received.endswith(b"*-1\r\n")
    assert other.ask("GET a") == [b"OK", b"2"]


def test_watched_keys_that_have_not_changed_let_exec_do_its_work(server: Server, client: Client) -> None:
    client.ask("SET a 1", "WATCH a b", "SELECT 1", "WATCH a", "SELECT 0")
    server.connect().ask("SET c 1", "GET a")
    assert client.ask("MULTI", "INCR a", "EXEC")[-1] == [2]


def test_a_watched_key_is_that_of_the_database_it_was_watched_in(server: Server, client: Client) -> None:
    client.ask("SELECT 1", "WATCH a", "SELECT 0")
    server.connect().ask("SELECT 1", "SET a 1")
    client.ask("MULTI", "SET b 1", "EXEC")
    assert client.received.endswith(b"*-1\r\n")


def test_unwatch_forgets_what_was_watched(server: Server, client: Client) -> None:
    client.ask("WATCH a", "UNWATCH")
    server.connect().ask("SET a 1")
    assert client.ask("MULTI", "INCR a", "EXEC")[-1] == [2]


def test_an_exec_behind_a_watch_that_failed_is_not_done(client: Client) -> None:
    client.send("WATCH a", "MULTI", "SET a 1", "EXEC")
    client.node.fail(client.node.works[0], NOREPLICAS)
    aborted = "-EXECABORT Transaction discarded because of previous errors."
    assert client.replies() == [f"-{NOREPLICAS}", b"OK", b"QUEUED", aborted]
    assert client.ask("MULTI", "SET a 1", "EXEC")[-1] == [b"OK"], "it is over with that"


def test_a_key_that_is_watched_again_and_again_is_kept_once(client: Client) -> None:
    for _ in range(10):
        client.ask("WATCH a b a")
    assert len(client.connection.watched) == 2


def test_a_key_that_is_watched_again_is_not_forgiven_its_change(server: Server, client: Client) -> None:
    client.ask("WATCH a")
    server.connect().ask("SET a 1")
    client.ask("WATCH a", "MULTI", "INCR a", "EXEC")
    assert client.received.endswith(b"*-1\r\n")


def test_what_a_connection_watches_is_bounded(server: Server) -> None:
    server.state.settings = Settings(transaction_bytes_max=1000)
    client = server.connect()
    assert client.ask(f"WATCH {'a' * 500}") == [b"OK"]
    (refused,) = client.ask(f"WATCH {'b' * 600}")
    assert str(refused).startswith("-ERR ")
    server.connect().ask(f"SET {'a' * 500} 1")
    client.ask("MULTI", "SET a 1", "EXEC")
    assert b"EXECABORT" in client.received, "not all that was to be watched is"


def test_a_transaction_that_grows_too_large_is_refused_and_dropped() -> None:
    client = Server(Settings(transaction_bytes_max=1000)).connect()
    large = f"SET a {'x' * 500}"
    too_large = "-ERR the transaction is too large"
    assert client.ask("MULTI", large, large, "SET b 1") == [b"OK", b"QUEUED", too_large, too_large]
    assert client.connection.queued_count == 0
    assert client.ask("EXEC", "GET a") == [
        "-EXECABORT Transaction discarded because of previous errors.",
        None,
    ]


def test_what_a_transaction_takes_in_the_log_counts_not_only_its_words() -> None:
    client = Server(Settings(transaction_bytes_max=1000)).connect()
    many_empty_keys = [b"DEL", *[b""] * 200]
    assert len(request(many_empty_keys)) > 1000
    assert client.ask("MULTI", many_empty_keys)[-1] == "-ERR the transaction is too large"


def test_large_replies_in_a_transaction_are_few() -> None:
    client = Server(Settings(transaction_bytes_max=3 * QUEUED_LARGE_BYTES)).connect()
    assert client.ask("MULTI", *["KEYS *"] * 4)[-2:] == [b"QUEUED", "-ERR the transaction is too large"]


# What the node cannot do


@pytest.mark.parametrize("problem", [NOREPLICAS, UNCERTAIN])
def test_a_failed_run_is_an_error_for_each_command_that_concerns_the_data(
    client: Client, problem: str
) -> None:
    client.send("PING", "GET a", "SET a 1", "NOSUCH", "ECHO hi")
    client.send("GET a", "PING")
    (work,) = client.node.works
    client.node.fail(work, problem)
    unknown = "-ERR unknown command 'NOSUCH', with args beginning with: "
    failed = f"-{problem}"
    unread = (
        f"-{NO_REPLICAS}" if problem == UNCERTAIN else failed
    )  # A read has no outcome that one could not know.
    assert client.replies() == [b"PONG", unread, failed, unknown, b"hi", unread, b"PONG"]
    assert client.ask("GET a") == [None]


def test_a_failed_exec_is_one_error_and_select_in_it_does_not_hold(client: Client) -> None:
    client.send("MULTI", "SET a 1", "SELECT 1", "GET a", "EXEC", "SET b 1")
    client.node.fail(client.node.works[0], UNCERTAIN)
    assert client.replies() == [b"OK", b"QUEUED", b"QUEUED", b"QUEUED", f"-{UNCERTAIN}"]
    client.node.execute_all()
    assert client.replies() == [b"OK"]
    assert client.ask("GET b", "SELECT 0", "GET b") == [b"1", b"OK", b"1"]


@pytest.mark.parametrize("command", ["WATCH a", "KEYS *", "GET a"])
def test_a_failed_read_is_an_error_and_what_is_behind_it_goes_on(client: Client, command: str) -> None:
    client.send("GET a")
    client.send(command, "PING")
    first = client.node.works[0]
    client.node.fail(first, NOREPLICAS)
    client.node.fail(client.node.works[0], NOREPLICAS)
    assert client.replies() == [f"-{NOREPLICAS}", f"-{NOREPLICAS}", b"PONG"]


# A client that does not read


def test_nothing_is_begun_for_a_client_that_does_not_read_and_all_of_it_once_it_does() -> None:
    server = Server(Settings(output_bytes_max=1000))
    client = server.connect()
    value = "x" * 600
    client.ask(f"SET a {value}")
    client.transport.client_reads = False
    for _ in range(2):
        client.ask("GET a")
    assert client.transport.has_paused_writing
    client.send("GET a", "PING")
    client.send("SET a 1")
    assert client.node.works == []
    client.read_on(2000)
    assert under_way(client) == [[b"GET a", b"PING"]]
    client.node.execute_all()
    assert client.replies() == [value.encode(), b"PONG", b"OK"]


def test_what_is_done_meanwhile_is_neither_encoded_nor_written(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Server(Settings(output_bytes_max=1000)).connect()
    value = "x" * 1100
    client.ask(f"SET a {value}")
    client.transport.client_reads = False
    for _ in range(5):
        client.send("GETRANGE a 0 -1")
    encoded: list[Any] = []
    for each in (module, short_way):
        original = each.encode
        monkeypatch.setattr(
            each, "encode", lambda *args, encode=original: (encoded.append(args), encode(*args))[1]
        )
    client.node.execute_all()
    assert len(encoded) == 1
    for count in range(2, 6):
        client.read_on(2000)
        assert len(encoded) == count
    client.read_on(2000)
    assert client.replies() == [value.encode()] * 5


def test_a_client_that_sends_too_much_ahead_is_not_read_from_until_it_is_less() -> None:
    client = Server(Settings(waiting_bytes_max=100, in_flight_max=1)).connect()
    client.send("SET a 1")
    size = len(request("SET a 1"))
    sent = 1
    while client.transport.is_read_from:
        client.send("SET a 1")
        sent += 1
    assert sent == 1 + 100 // size + 1
    client.node.execute(client.node.works[0])
    assert client.transport.is_read_from
    client.node.execute_all()
    assert client.replies() == [b"OK"] * sent


def store(client: Client) -> None:
    """Twenty thousand keys, a large value, and one that is not."""
    client.ask(
        [b"MSET", *(word for number in range(20_000) for word in (b"key:%d" % number, b""))],
        [b"SET", b"large", b"l" * (2 * LARGE_BYTES)],
        [b"SET", b"middling", b"m" * (LARGE_BYTES // 16)],
    )


@pytest.mark.parametrize("command", ["KEYS *", "MGET" + " large" * 20], ids=["many keys", "large values"])
def test_a_large_reply_goes_on_exactly_where_it_stopped(command: str) -> None:
    server = Server(Settings(output_bytes_max=10_000))
    reader, sluggard = server.connect(), server.connect()
    store(reader)
    before = len(reader.received)
    reader.ask(command, "PING", "GET a")
    sluggard.transport.client_reads = False
    sluggard.send(command, "PING", "GET a")
    resumed = 0
    while server.node.works or server.turns or sluggard.transport.unread_bytes:
        server.node.execute_all()
        server.turn()
        pieces = len(sluggard.transport.pieces)
        sluggard.read_on(100_000_000)
        resumed += 1
        assert sluggard.transport.unread_bytes <= 10_000 + PIECE_BYTES + 2 * LARGE_BYTES
        assert len(sluggard.transport.pieces) - pieces <= 5
    assert resumed > 3
    assert sluggard.received == reader.received[before:]


def test_a_pipeline_with_replies_of_middling_size_does_not_wait_encoded() -> None:
    """A thousand bytes ask for a hundred thousand, many times over."""
    server = Server(Settings(output_bytes_max=100_000))
    client = server.connect()
    store(client)
    client.transport.client_reads = False
    client.send(*["MGET" + " middling" * 100] * 100)
    client.node.execute_all()
    assert client.transport.unread_bytes <= 2 * Settings().output_bytes_max


def test_a_large_value_is_not_copied_on_its_way_to_the_client(client: Client) -> None:
    client.ask([b"SET", b"a", b"x" * LARGE_BYTES])
    value = client.node.database.keyspaces[0].values[b"a"]
    client.ask("GET a")
    assert any(piece is value for piece in client.transport.pieces)


# The end


def test_a_client_that_is_gone_does_not_keep_its_work_from_being_done(server: Server, client: Client) -> None:
    client.send("SET a 1")
    client.send("GET a", "PING")
    client.send("INCR a", "MULTI", "INCR a")
    client.send("EXEC")
    client.hang_up()
    server.node.execute_all()
    assert client.received == b""
    other = server.connect()
    assert other.ask("GET a") == [b"2"], "what was begun is done; EXEC was not"
    assert list(server.state.clients.values()) == [other.connection]


def test_a_client_that_is_gone_does_not_mind_its_work_failing(server: Server, client: Client) -> None:
    client.send("SET a 1", "PING")
    client.send("GET a")
    client.hang_up()
    server.node.fail(server.node.works[0], UNCERTAIN)
    assert client.received == b""


@pytest.mark.parametrize("command", ["KEYS *", "WATCH a"])
def test_a_client_that_is_gone_in_the_middle_of_what_is_done_alone(
    server: Server, client: Client, command: str
) -> None:
    client.send(command, "SET a 1")
    client.hang_up()
    server.node.execute_all()
    assert client.received == b""
    assert server.connect().ask("GET a") == [None]


def test_a_client_that_is_gone_in_the_middle_of_a_large_reply(server: Server) -> None:
    client = server.connect()
    store(client)
    client.transport.client_reads = False
    client.transport.high = 100
    client.ask("KEYS *")
    written = len(client.transport.pieces)
    client.hang_up()
    client.connection.resume_writing()
    assert len(client.transport.pieces) == written


def test_a_half_closed_connection_gets_its_replies_and_is_then_closed(client: Client) -> None:
    client.send("GET a", "SET a 1", "GET a", "KEYS *")
    client.half_close()
    while client.node.works:
        assert not client.transport.is_closed
        client.node.execute(client.node.works[0])
    assert client.replies() == [None, b"OK", b"1", [b"a"]]
    assert client.transport.is_closed


def test_a_half_closed_connection_with_nothing_to_come_is_closed_at_once(client: Client) -> None:
    client.ask("PING")
    client.send_bytes(b"*2\r\n$3\r\nGET\r\n$1\r\n")
    client.half_close()
    assert client.transport.is_closed


def test_a_half_closed_connection_gets_the_rest_of_a_large_reply(client: Client) -> None:
    store(client)
    client.transport.client_reads = False
    client.transport.high = 100
    client.ask("KEYS *")
    client.half_close()
    while client.transport.unread_bytes:
        client.read_on(100_000_000)
    (keys,) = client.replies()
    assert len(keys) == 20_002
    assert client.transport.is_closed


def test_a_half_closed_connection_is_told_of_its_protocol_error(client: Client) -> None:
    client.send_bytes(request("GET a") + b"*x\r\n")
    client.half_close()
    client.node.execute_all()
    assert client.replies() == [None, "-ERR Protocol error: invalid multibulk length"]
    assert client.transport.is_closed


def test_quit_in_a_pipeline_answers_what_is_before_it_and_drops_what_is_behind_it(
    server: Server, client: Client
) -> None:
    client.send("SET a 1", "QUIT", "SET a 2")
    client.send("SET a 3")
    assert not client.transport.is_closed
    server.node.execute_all()
    assert client.replies() == [b"OK", b"OK"]
    assert client.transport.is_closed
    client.send("SET a 4")
    assert server.connect().ask("GET a") == [b"1"]


def test_a_protocol_error_is_told_when_what_came_before_it_is_answered(
    server: Server, client: Client
) -> None:
    client.send_bytes(pipeline("GET a", "SET a 1") + b"*1\r\n:1\r\n" + request("SET a 2"))
    client.send("SET a 3")
    assert client.received == b""
    server.node.execute_all()
    assert client.replies() == [None, b"OK", "-ERR Protocol error: expected '$', got ':'"]
    assert client.transport.is_closed
    assert server.connect().ask("GET a") == [b"1"]


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nHost: localhost:6379\r\nContent-Length: 9\r\n\r\nSET a 2\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost:6379\r\n\r\nSET a 2\r\n",
        request("POST / HTTP/1.1") + request("SET a 2"),
    ],
    ids=["POST", "GET", "array"],
)
def test_http_closes_the_connection_and_nothing_behind_it_is_done(
    server: Server, client: Client, data: bytes
) -> None:
    client.send_bytes(request("SET a 1") + data)
    client.send("SET a 3")
    server.node.execute_all()
    assert client.replies()[:1] == [b"OK"]
    assert client.transport.is_closed
    assert server.connect().ask("GET a") == [b"1"]


def test_close_answers_what_is_under_way_and_drops_what_is_not_begun() -> None:
    server = Server(Settings(in_flight_max=1))
    client = server.connect()
    client.send("SET a 1")
    client.send("SET a 2")
    client.connection.close()
    assert not client.transport.is_closed
    server.node.execute_all()
    assert client.replies() == [b"OK"]
    assert client.transport.is_closed
    assert server.connect().ask("GET a") == [b"1"]


def test_one_client_too_many_is_told_so() -> None:
    server = Server(Settings(clients_max=2))
    first, second, third = (server.connect() for _ in range(3))
    assert third.replies() == ["-ERR max number of clients reached"]
    assert third.transport.is_closed
    third.hang_up()
    assert list(server.state.clients.values()) == [first.connection, second.connection]
    first.hang_up()
    assert server.connect().ask("PING") == [b"PONG"]
