"""The short way: what goes it is answered as on the long one, in the same order, and everything else does not go it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.server_fakes import Server, in_one_turn, pipeline, request
from sofadb.database.database import Database
from sofadb.database.replies import OK, Reply, ReplyError
from sofadb.database.runs import Sent, decode
from sofadb.database.wire import (
    FIELDS_TOGETHER,
    WORD_BYTES_MAX,
    Shape,
    beginning,
    columns_of,
    lines_of,
    request_behind,
    request_of,
    requests_of,
)
from sofadb.server import short_way
from sofadb.server.encoding import LARGE_BYTES, encode, encode_small
from sofadb.server.requests import Requests
from sofadb.server.short_way import (
    CROWD_COMMANDS_MAX,
    CROWDS_MAX,
    GATHERED_BYTES_MAX,
    PIECE_BYTES_MAX,
    SEEN_MAX,
    UNKNOWN_MAX,
    Crowd,
    Gathered,
    Piece,
)
from sofadb.server.state import Settings


@pytest.fixture
def server() -> Server:
    return in_one_turn(Settings())


def commands_of(part: Piece | Crowd) -> list[int]:
    """Of each piece in it."""
    return [part.known.commands] * len(part.connections) if isinstance(part, Crowd) else [part.commands]


def gathered(server: Server) -> list[list[int]]:
    """For each work that was gathered, how many commands are in each of its pieces."""
    return [
        [commands for part in work.parts for commands in commands_of(part)]
        for work in server.node.works
        if isinstance(work, Gathered)
    ]


def get_known(server: Server, *commands: str) -> None:
    """Have what is as long as these, in one piece, known by its size."""
    client = server.connect()
    for _ in range(UNKNOWN_MAX + 2):
        if len(pipeline(*commands)) not in server.state.short_way._known:
            client.ask(*commands)
    assert len(pipeline(*commands)) in server.state.short_way._known
    client.hang_up()


# Taking bytes apart

WORDS = st.lists(
    st.sampled_from([b"SET", b"a", b"", b"$1", b"*3", b"\r", b"\n", b"x" * 300]), min_size=1, max_size=5
)


def taken_apart(data: bytes) -> list[list[bytes]] | None:
    lines = lines_of(data)
    return None if lines is None else requests_of(lines)


@given(st.lists(WORDS, min_size=1, max_size=6))
def test_whole_requests_are_taken_apart(requests: list[list[bytes]]) -> None:
    lines = lines_of(pipeline(*requests))
    assert lines is not None
    assert requests_of(lines) == requests
    assert request_of(lines) == (requests[0] if len(requests) == 1 else None)
    are_of_one_length = len(set(map(len, requests))) == 1
    assert columns_of(lines) == (list(map(list, zip(*requests, strict=True))) if are_of_one_length else None)


@given(st.binary(max_size=80) | st.text("*$0123\r\nab-+:", max_size=60).map(str.encode))
@example(b"*1\r\n$-1\r\n")
@example(b"*01\r\n$1\r\na\r\n")
@example(b"*1\r\n$01\r\na\r\n")
@example(b"*2\r\n$1\r\na\r\n")
@example(b"*1\r\n$1\r\na\r\n*")
@example(b"*1000000000\r\n$1\r\na\r\n")
@example(b"*1\r\n$1000000000\r\na\r\n")
@example(b"*0\r\n")
@example(b"\r\n")
def test_whatever_is_taken_apart_is_what_the_walk_finds(data: bytes) -> None:
    found = taken_apart(data)
    if found is not None:
        requests = Requests()
        assert [words for chunk in requests.feed(data) for words in chunk.requests] == found
        assert not requests.waiting_bytes
    elif (lines := lines_of(data)) is not None:
        assert columns_of(lines) is None
        assert request_of(lines) is None


@pytest.mark.parametrize("cut", range(1, len(request("SET key value"))))
def test_a_part_of_a_request_is_none(cut: int) -> None:
    assert taken_apart(request("SET key value")[:cut]) is None
    assert taken_apart(request("GET other") + request("SET key value")[:cut]) is None


@given(WORDS)
def test_a_request_that_begins_as_another_did_is_taken_apart_behind_its_name(words: list[bytes]) -> None:
    data, head = pipeline(words), beginning(words)
    assert data.startswith(head)
    assert request_behind(data, words[0], len(head), len(words) - 1) == words


@given(
    st.integers(1, 3),
    st.binary(max_size=40)
    | st.text("$01239\r\nab-+: _", max_size=40).map(str.encode)
    | st.lists(st.sampled_from([b"$1", b"$2", b"$0", b"$-1", b"a", b"ab", b"", b"$16384"]), max_size=7).map(
        lambda lines: b"".join(line + b"\r\n" for line in lines)
    ),
)
@example(1, b"$1\r")
@example(1, b"$+1\r\na\r\n")
@example(1, b"$1_0\r\n0123456789\r\n")
@example(1, b"$01\r\na\r\n")
@example(1, b"$1000000000\r\na\r\n")
@example(2, b"$1\r\na\r\n$1")
def test_what_is_behind_a_name_is_what_the_walk_finds(count: int, data: bytes) -> None:
    head = b"*%d\r\n$3\r\nSET\r\n" % (count + 1)
    found = request_behind(head + data, b"SET", len(head), count)
    requests = Requests()
    walked = [words for chunk in requests.feed(head + data) for words in chunk.requests]
    is_whole = len(walked) == 1 and not requests.waiting_bytes and not requests.problem
    is_whole = (
        is_whole and pipeline(walked[0]) == head + data
    )  # (The walk passes over a lone line end behind it.)
    assert found == (walked[0] if is_whole else None)


@given(WORDS, WORDS)
def test_what_has_the_shape_of_another_request_is_one_with_words_of_the_same_lengths(
    words: list[bytes], others: list[bytes]
) -> None:
    others = [words[0], *others[1:]]
    shape, data = Shape(words), pipeline(others)
    assert shape.size == len(pipeline(words))
    fits = len(data) == shape.size and shape.fits(data)
    assert fits is (list(map(len, words)) == list(map(len, others)))
    if fits:
        assert shape.words(data) == others


@given(WORDS, st.integers(0, 30), st.binary(max_size=8))
def test_what_has_a_shape_is_a_request_whatever_was_changed_in_it(
    words: list[bytes], at: int, junk: bytes
) -> None:
    shape, data = Shape(words), pipeline(words)
    changed = (data[:at] + junk + data[at + len(junk) :])[: len(data)]
    if shape.fits(changed):
        assert pipeline(shape.words(changed)) == changed


@given(WORDS, st.integers(1, FIELDS_TOGETHER), st.data())
def test_requests_of_one_shape_are_taken_apart_whatever_their_words_hold(
    words: list[bytes], count: int, data: st.DataObject
) -> None:
    requests = [
        [words[0], *(data.draw(st.binary(min_size=len(word), max_size=len(word))) for word in words[1:])]
        for _ in range(count)
    ]
    columns = Shape(words).columns(pipeline(*requests))
    assert columns is not None
    assert list(map(list, zip(*columns, strict=True))) == requests


@given(WORDS, st.integers(1, FIELDS_TOGETHER // 4), st.integers(0, 400), st.binary(max_size=8))
@example([b"SET", b"a", b"x"], 2, 27, b"$2")
@example([b"SET", b"a", b"x"], 2, 54, b"*3\r\n")
def test_what_is_taken_apart_by_a_shape_is_requests_whatever_was_changed_in_them(
    words: list[bytes], count: int, at: int, junk: bytes
) -> None:
    data = pipeline(*[words] * count)
    changed = data[:at] + junk + data[at + len(junk) :]
    columns = Shape(words).columns(changed)
    if columns is not None:
        assert pipeline(*map(list, zip(*columns, strict=True))) == changed
    else:
        assert changed != data


@pytest.mark.parametrize("lengths", [[1] * 40, [1] * 20 + [2] * 20, [1, 2] * 20, [3] * 39 + [7]])
def test_pipelines_of_one_size_are_taken_apart_alike_or_not(server: Server, lengths: list[int]) -> None:
    """Sent so often that they are known by their size; then another with as many bytes comes."""
    apart = in_one_turn(Settings()).connect()
    client = server.connect()
    sets = [[b"SET", b"%02d" % number, b"x" * length] for number, length in enumerate(lengths)]
    others = [[b"SET", b"%02d" % number, b"y" * length] for number, length in enumerate(reversed(lengths))]
    for commands in [*[sets] * (UNKNOWN_MAX + 3), others, sets, others]:
        client.send(*commands)
        server.node.hand_on()
        assert len(server.node.works) == 1
        (work,) = server.node.works
        (sent,) = decode(work.encode())
        assert isinstance(sent, Sent)
        assert sent.raw == pipeline(*commands)
        server.node.execute_all()
        assert client.replies() == [b"OK"] * len(commands)
        for command in commands:
            apart.ask(command)
        node = server.node
        assert node.database.keyspaces[0].values == apart.node.database.keyspaces[0].values
        # Those who get the log's bytes do the same.
        assert node.database.keyspaces[0].values == node.replica.keyspaces[0].values
        assert node.database.shared.rolling.crc == node.replica.shared.rolling.crc


def test_only_so_many_beginnings_are_kept(server: Server) -> None:
    client = server.connect()
    for number in range(SEEN_MAX + 10):
        client.send([b"MSET", *[b"a"] * (2 * (number % 30) + 2)])
        client.send(
            [
                "".join(
                    letter.upper() if number >> at & 1 else letter for at, letter in enumerate("setrange")
                ).encode(),
                b"a",
                b"0",
                b"x",
            ]
        )
        client.node.execute_all()
    assert len(server.state.short_way._seen) <= SEEN_MAX
    assert set(client.replies()) == {b"OK", 1}


def test_a_long_word_or_one_with_a_line_end_goes_the_long_way(server: Server) -> None:
    client = server.connect()
    for value in (b"x" * WORD_BYTES_MAX, b"two\r\nlines", b"x" * PIECE_BYTES_MAX):
        client.send([b"SET", b"a", value], [b"GET", b"a"])
        assert not gathered(server)
        client.node.execute_all()
        assert client.replies() == [b"OK", value]


# Gathering


def test_what_many_clients_write_in_a_turn_is_one_section_of_the_log(server: Server) -> None:
    clients = [server.connect() for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(f"INCR {number}", "INCR n")
    (work,) = server.node.works
    (sent,) = decode(work.encode())
    assert isinstance(sent, Sent)
    assert sent.raw == b"".join(pipeline(f"INCR {number}", "INCR n") for number in range(3))
    server.node.execute_all()
    assert [client.replies() for client in clients] == [[1, 1], [1, 2], [1, 3]]


def test_reads_of_a_turn_are_one_work(server: Server) -> None:
    clients = [server.connect() for _ in range(3)]
    clients[0].ask("SET a 1")
    for client in clients:
        client.send("GET a")
    assert gathered(server) == [[1, 1, 1]]
    server.node.execute_all()
    assert [client.replies() for client in clients] == [[b"1"]] * 3


def test_each_database_has_a_section_of_its_own(server: Server) -> None:
    one, two = server.connect(), server.connect()
    two.ask("SELECT 1")
    for client in (one, two, one):
        client.send("INCR n")
    assert gathered(server) == [[1], [1], [1]]
    server.node.execute_all()
    assert one.replies() == [1, 2]
    assert two.replies() == [1]


def test_a_section_ends_when_it_is_large(server: Server) -> None:
    client = in_one_turn(Settings(in_flight_max=1000)).connect()
    value = b"x" * (WORD_BYTES_MAX - 1)
    for _ in range(2 * GATHERED_BYTES_MAX // WORD_BYTES_MAX):
        client.send([b"SET", b"a", value])
    sizes = [work.size for work in client.node.works if isinstance(work, Gathered)]
    assert len(sizes) > 1
    assert max(sizes) < GATHERED_BYTES_MAX + PIECE_BYTES_MAX


def test_a_command_that_fails_fails_alone(server: Server) -> None:
    one, two = server.connect(), server.connect()
    one.send("SET a x", "INCR a", "SET b y")
    two.send("INCR n")
    server.node.execute_all()
    assert one.replies() == [b"OK", "-ERR value is not an integer or out of range", b"OK"]
    assert two.replies() == [1]
    assert server.node.replica.keyspaces[0].find(b"b") == b"y"


def test_when_nothing_is_done_each_client_is_told(server: Server) -> None:
    one, two = server.connect(), server.connect()
    one.send("SET a 1", "SET b 1")
    two.send("GET a")
    server.node.fail_all("UNCERTAIN who knows")  # type: ignore[attr-defined]
    assert one.replies() == ["-UNCERTAIN who knows"] * 2
    assert [str(reply)[:12] for reply in two.replies()] == ["-NOREPLICAS "]
    assert server.state.begun_commands == server.state.begun_bytes == 0
    assert one.ask("SET a 2", "GET a") == [b"OK", b"2"]


@pytest.mark.parametrize("prelude", ["PING", "SET c 3 PX 100000", "LPUSH c x", "SET b 0 PX 1"])
def test_many_at_once_are_as_many_one_by_one(server: Server, prelude: str) -> None:
    """Whatever is in the state that makes them more than putting strings to keys."""
    together, apart = server.connect(), in_one_turn(Settings()).connect()
    sets = [f"SET {key} {number}" for number, key in enumerate("abcab")]
    gets = [f"GET {key}" for key in "abcd"]
    for client in (together, apart):
        client.ask(prelude)
    together.send(*sets)
    assert together.ask(*gets)[:9] == [*[b"OK"] * 5, b"3", b"4", b"2", None]
    for command in (*sets, *gets):
        apart.ask(command)
    for client in (together, apart):
        client.node.execute_all()
    one, other = together.node.database, apart.node.database
    assert one.keyspaces[0].values == other.keyspaces[0].values
    assert one.keyspaces[0].versions == other.keyspaces[0].versions
    assert one.keyspaces[0].expiry == other.keyspaces[0].expiry
    assert one.keyspaces[0].buckets == other.keyspaces[0].buckets


@pytest.mark.parametrize("prelude", ["PING", "SET c 3 PX 100000", "LPUSH c x", "SET b 0 PX 1"])
def test_many_clients_at_once_are_as_many_one_by_one(server: Server, prelude: str) -> None:
    """Single commands and pipelines, of one kind, with others between them."""
    apart = in_one_turn(Settings()).connect()
    asked = [
        *(["SET a 1"], ["SET b 2", "SET c 3"], ["SET a 4"], ["INCR a"], ["SET d 6 NX"], ["SET a 7 XX GET"]),
        *(["SET b 8"], ["SET c 9"], ["GET a"], ["GET a", "GET b"], ["GET nothing"], ["STRLEN c"], ["GET c"]),
    ]
    clients = [server.connect() for _ in asked]
    for client in (clients[0], apart):
        client.ask(prelude)
    for _ in range(2):  # Once as what has not been seen yet, once as what has.
        for client, commands in zip(clients, asked, strict=True):
            client.send(*commands)
        assert len(server.node.works) == 2
        server.node.execute_all()
        for client, commands in zip(clients, asked, strict=True):
            assert client.replies() == [reply for each in commands for reply in apart.ask(each)]
    one, other = server.node.database.keyspaces[0], apart.node.database.keyspaces[0]
    assert one.values == other.values
    assert one.expiry == other.expiry
    assert server.state.begun_commands == server.state.begun_bytes == 0
    asked_for = {name: figures.calls for name, figures in server.state.usage.figures.items()}
    assert asked_for["set"] == 2 * 8 + prelude.count("SET")
    assert asked_for["get"] == 2 * 5


def test_the_digest_of_many_at_once_is_that_of_many_one_by_one() -> None:
    one, other = Database(), Database()
    keys, strings = [b"a", b"", b"a"], [b"1", b"", b"2"]
    assert one.keyspaces[0].set_strings(keys, strings)
    for key, string in zip(keys, strings, strict=True):
        other.keyspaces[0].set(key, string)
    assert one.shared.rolling.crc == other.shared.rolling.crc


def test_a_get_of_many_that_finds_another_type_tells_it_where_it_is(server: Server) -> None:
    client = server.connect()
    client.ask("LPUSH l x")
    wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value"
    assert client.ask("GET a", "GET l", "GET b") == [None, wrong, None]


# Order


def test_a_read_behind_a_write_sees_it_and_a_write_behind_a_read_is_not_seen(server: Server) -> None:
    client = server.connect()
    for command in ("SET a 1", "GET a", "SET a 2", "GET a", "PING"):
        client.send(command)
    client.node.execute_all()
    assert client.replies() == [b"OK", b"1", b"OK", b"2", b"PONG"]


def test_pieces_that_are_done_out_of_order_are_answered_in_order(server: Server) -> None:
    client = server.connect()
    client.ask("MSET a 1 b 2")
    client.send("GET a")
    client.node.hand_on()
    client.send("GET b")
    first, second = client.node.works
    client.node.execute(second)
    assert client.replies() == []
    client.node.execute(first)
    assert client.replies() == [b"1", b"2"]
    assert client.connection.is_plain


def test_what_is_odd_goes_the_long_way_and_then_the_short_one_is_open_again(server: Server) -> None:
    client = server.connect()
    for odd, back in (
        (("MULTI",), ("DISCARD",)),
        (("READONLY",), ("READWRITE",)),
        (("SUBSCRIBE c",), ("UNSUBSCRIBE c",)),
        (("CLIENT REPLY OFF",), ("CLIENT REPLY ON",)),
    ):
        client.ask(*odd)
        assert not client.connection.is_plain, odd
        client.ask(*back)
        assert client.connection.is_plain, back


def test_nothing_goes_the_short_way_past_who_watches_or_during_a_pause(server: Server) -> None:
    client, watcher = server.connect(), server.connect()
    watcher.ask("MONITOR")
    client.send("SET a 1")
    assert not gathered(server)
    client.node.execute_all()
    watcher.hang_up()
    other = server.connect()
    other.ask("CLIENT PAUSE 1000 WRITE")
    client.send("SET a 2")
    assert not server.node.works
    assert client.ask("PING") == [b"OK"], "what comes behind waits, too"
    server.timers.pass_time(1.0)
    client.node.execute_all()
    assert client.replies() == [b"OK", b"PONG"]


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("what", ["watching", "pause", "memory"])
def test_what_begins_while_writes_are_gathered_holds_for_what_comes_next(
    server: Server, what: str, is_known: bool
) -> None:
    one, two, third = server.connect(), server.connect(), server.connect()
    if is_known:
        get_known(server, "SET x 1")
    one.send("SET a 1")
    if what == "watching":
        third.send("MONITOR")
    elif what == "pause":
        third.send("CLIENT PAUSE 100000 WRITE")
    else:
        server.state.is_leader_full = lambda: True
        server.state.memory.look()
    two.send("SET b 2")
    assert gathered(server)[0] == [1]
    server.node.execute_all()
    assert one.replies() == [b"OK"]
    values = server.node.database.keyspaces[0].values
    if what == "watching":
        assert b'"SET" "b" "2"' in third.received
    else:
        assert b"b" not in values


def test_a_full_node_refuses_what_comes_next() -> None:
    server = in_one_turn(Settings(begun_commands_max=2))
    client, other = server.connect(), server.connect()
    client.send("INCR n", "INCR n")
    other.send("INCR n")
    assert other.replies()[0].startswith("-NOREPLICAS This node holds as many")
    client.node.execute_all()
    assert client.replies() == [1, 2]


# Crowds


def crowds(server: Server) -> list[int]:
    """How many are in each crowd that is open."""
    return [len(crowd.connections) for crowd in server.state.short_way.crowds.values()]


def same_size_as(command: str, then: str = "PING") -> bytes:
    """Two requests in one piece that is as long as a SET, and begins as it does."""
    name, key, value = command.split()
    rest = request(then)
    short = request(f"{name} {key} {value[: -len(rest)]}")
    assert len(short) + len(rest) == len(request(command)), "the lengths of both values have as many digits"
    return short + rest


SET, GET, LARGE = f"SET a {'x' * 60}", "GET a", f"SET a {'y' * PIECE_BYTES_MAX}"


@pytest.fixture
def known(server: Server) -> Server:
    get_known(server, SET)
    get_known(server, GET)
    get_known(server, "GET a", "GET b")
    return server


def test_who_asks_as_others_do_joins_them(known: Server) -> None:
    processed, read = known.state.commands_processed, known.state.bytes_read
    clients = [known.connect() for _ in range(20)]
    for number, client in enumerate(clients):
        client.send(SET if number % 2 else GET)
    assert crowds(known) == [10, 10]
    known.node.hand_on()
    assert crowds(known) == []
    assert gathered(known) == [[1] * 10] * 2
    assert known.state.begun_commands == 20
    (sent,) = decode(next(work for work in known.node.works if work.needs_log).encode())
    assert isinstance(sent, Sent)
    assert sent.raw == request(SET) * 10
    known.node.execute_all()
    for number, client in enumerate(clients):
        (reply,) = client.replies()
        assert reply == b"OK" if number % 2 else reply in (None, b"x" * 60)
        assert client.connection.is_plain
        assert client.connection.received_bytes
        assert client.connection.last_command == ("set" if number % 2 else "get")
        assert client.connection.last_instance == (known.node.database.instance if number % 2 else 0)
    assert known.state.begun_commands == known.state.begun_bytes == 0
    assert known.state.commands_processed - processed == 20
    assert known.state.bytes_read - read == 10 * len(request(SET)) + 10 * len(request(GET))


def test_pipelines_join_too(known: Server) -> None:
    clients = [known.connect() for _ in range(5)]
    clients[0].ask("SET b 2")
    for client in clients:
        client.send("GET a", "GET b")
    assert crowds(known) == [5]
    known.node.execute_all()
    assert [client.replies() for client in clients] == [[b"x" * 60, b"2"]] * 5


@pytest.mark.parametrize("resp3", [False, True])
def test_what_is_not_there_is_told_in_each_clients_protocol(known: Server, resp3: bool) -> None:
    one, two = known.connect(), known.connect()
    if resp3:
        one.ask("HELLO 3")
    before = len(one.received)
    one.send("GET n")
    two.send("GET n")
    assert crowds(known) == [2]
    known.node.execute_all()
    assert one.received[before:] == (b"_\r\n" if resp3 else b"$-1\r\n")
    assert two.received == b"$-1\r\n"


def test_what_only_looked_alike_is_done_all_the_same(known: Server) -> None:
    clients = [known.connect() for _ in range(5)]
    for number, client in enumerate(clients):
        client.send_bytes(same_size_as(SET) if number in (1, 3) else request(SET))
    assert crowds(known) == [5]
    known.node.execute_all()
    for number, client in enumerate(clients):
        assert client.replies() == ([b"OK", b"PONG"] if number in (1, 3) else [b"OK"])
    assert known.state.begun_commands == known.state.begun_bytes == 0


def test_who_begins_in_another_way_does_not_join(known: Server) -> None:
    one, two = known.connect(), known.connect()
    other = SET.replace("a x", "aa ")
    assert len(request(other)) == len(request(SET))
    one.send(SET)
    two.send(other)
    assert crowds(known) == [1]
    assert gathered(known) == [[1, 1]]
    known.node.execute_all()
    assert one.replies() == two.replies() == [b"OK"]


def test_those_of_a_crowd_whose_next_read_is_done_first_are_answered_in_order(known: Server) -> None:
    one, two = known.connect(), known.connect()
    one.ask("SET b 2")
    for client in (one, two):
        client.send(GET)
    known.node.hand_on()
    one.send("GET b")
    known.node.hand_on()
    first, second = known.node.works
    known.node.execute(second)
    assert one.replies() == []
    known.node.execute(first)
    assert one.replies() == [b"x" * 60, b"2"]
    assert two.replies() == [b"x" * 60]
    assert one.connection.is_plain


def test_who_is_told_to_go_does_not_wait_for_anything(known: Server) -> None:
    other, client = known.connect(), known.connect()
    other.send(SET)
    client.send_bytes(same_size_as(SET, "BLPOP l 0"))
    assert crowds(known) == [2]
    client.connection.close()
    known.node.execute_all()
    assert client.replies() == [b"OK"]
    assert client.transport.is_closed


@pytest.mark.parametrize("writes", [False, True])
def test_what_is_handed_on_stays_as_it_is_whoever_is_found_in_it(server: Server, writes: bool) -> None:
    """Pipelines as long as others, with the same beginning, and cut in other places: they are found when they are handed on."""
    like = ["SET k1 aa", "SET k2 bb"] if writes else ["GET k1", "GET k2", "GET k3"]
    unlike = ["SET k1 a", "SET k2 bbb"] if writes else ["GET k1", "GET k", "GET k22"]
    assert len(pipeline(*like)) == len(pipeline(*unlike))
    get_known(server, *like)
    one, two, late, later = (server.connect() for _ in range(4))
    one.send(*like)
    two.send(*unlike)
    assert crowds(server) == [2]
    server.node.hand_on()
    late.send(*like)
    later.send(*unlike)
    server.node.execute_all()
    wanted = [b"OK"] * 2 if writes else [None] * 3
    assert [client.replies() for client in (one, two, late, later)] == [wanted] * 4
    assert server.node.database.keyspaces[0].values == server.node.replica.keyspaces[0].values
    assert server.state.begun_commands == server.state.begun_bytes == 0


def test_who_is_found_when_a_pause_begins_opens_nothing_again(known: Server) -> None:
    clients = [known.connect() for _ in range(3)]
    for client in clients[:2]:
        client.send_bytes(same_size_as(SET) if client is clients[1] else request(SET))
    known.connect().ask("CLIENT PAUSE 100000 WRITE")
    clients[2].send(SET)
    assert crowds(known) == []
    known.node.execute_all()
    assert [client.replies() for client in clients] == [[b"OK"], [b"OK", b"PONG"], []]


@pytest.mark.parametrize("how", ["half closes", "server finishes"])
def test_a_mistake_that_only_looked_like_others_is_told(known: Server, how: str) -> None:
    other, client = known.connect(), known.connect()
    other.send(SET)
    piece = request(SET)
    client.send_bytes(piece.replace(b"$60", b"$6x"))
    assert crowds(known) == [2]
    if how == "half closes":
        client.half_close()
    else:
        client.connection.finish()
    known.node.execute_all()
    assert client.replies() == ["-ERR Protocol error: invalid bulk length"]
    assert other.replies() == [b"OK"]


def test_long_pipelines_make_no_crowd(server: Server) -> None:
    pipelines = [["GET a"] * (CROWD_COMMANDS_MAX // 2 + 1), [f"SET a {'x' * 400}"] * (PIECE_BYTES_MAX // 500)]
    for commands in pipelines:
        get_known(server, *commands)
        clients = [server.connect() for _ in range(3)]
        for client in clients:
            client.send(*commands)
        assert crowds(server) == []
        assert server.state.begun_commands == 3 * len(commands)
        server.node.execute_all()
        assert [len(client.replies()) for client in clients] == [len(commands)] * 3


def test_where_many_only_look_alike_there_are_no_crowds_for_a_while(known: Server) -> None:
    for _ in range(3):
        clients = [known.connect() for _ in range(10)]
        for number, client in enumerate(clients):
            client.send_bytes(same_size_as(SET) if number % 2 else request(SET))
        known.node.execute_all()
        for client in clients:
            assert client.replies()[0] == b"OK"
    other = known.connect()
    other.send(SET)
    assert crowds(known) == []


@pytest.mark.parametrize("why", ["slow", "not a string"])
def test_whose_commands_are_told_of_is_not_taken_for_idle(known: Server, why: str) -> None:
    known.connect().ask("LPUSH l x")
    if why == "slow":
        known.connect().ask("CONFIG SET slowlog-log-slower-than 0")
    client, other = known.connect(), known.connect()
    for each in (client, other):
        each.send("GET l" if each is client and why != "slow" else GET)
    assert crowds(known) == [2]
    known.node.execute_all()
    assert client.connection.received_bytes == other.connection.received_bytes == len(request(GET))
    assert client.connection.last_command == "get"


def test_a_crowd_of_which_nobody_was_like_the_first(known: Server) -> None:
    one, two = known.connect(), known.connect()
    one.send(SET)
    one.hang_up()
    two.send_bytes(same_size_as(SET))
    known.node.execute_all()
    assert two.replies() == [b"OK", b"PONG"]
    assert known.state.begun_commands == known.state.begun_bytes == 0


@pytest.mark.parametrize("looks_alike", [False, True])
@pytest.mark.parametrize("how", ["half closes", "is told to go", "server finishes"])
def test_who_ends_after_it_joined_is_answered(known: Server, looks_alike: bool, how: str) -> None:
    other, client = known.connect(), known.connect()
    other.send(SET)
    client.send_bytes(same_size_as(SET) if looks_alike else request(SET))
    assert crowds(known) == [2]
    if how == "half closes":
        client.half_close()
    elif how == "is told to go":
        client.connection.close()
    else:
        client.connection.finish()
    known.node.execute_all()
    assert client.replies() == ([b"OK", b"PONG"] if looks_alike else [b"OK"])
    assert client.transport.is_closed or client.transport.has_written_eof
    assert other.replies() == [b"OK"]


@pytest.mark.parametrize("looks_alike", [False, True])
def test_who_hangs_up_after_it_joined_is_not_answered(known: Server, looks_alike: bool) -> None:
    other, client = known.connect(), known.connect()
    other.send(SET)
    client.send_bytes(same_size_as(SET) if looks_alike else request(SET))
    client.hang_up()
    known.node.execute_all()
    assert client.received == b""
    assert other.replies() == [b"OK"]
    assert known.state.begun_commands == known.state.begun_bytes == 0


@pytest.mark.parametrize("looks_alike", [False, True])
@pytest.mark.parametrize("is_handed_on", [False, True])
@pytest.mark.parametrize(
    "then", ["GET a", SET, "GET a|GET b", "INCR n", "PING", "MULTI|GET a|EXEC", "INCR n|GET a", LARGE]
)
def test_what_follows_is_answered_behind_it(
    known: Server, looks_alike: bool, is_handed_on: bool, then: str
) -> None:
    other, client = known.connect(), known.connect()
    for each in (other, client):
        each.send_bytes(same_size_as(SET) if looks_alike and each is client else request(SET))
    if is_handed_on:
        known.node.hand_on()
    client.send(*then.split("|"))
    other.send(GET)
    known.node.execute_all()
    known.node.execute_all()
    first = [b"OK", b"PONG"] if looks_alike else [b"OK"]
    value = b"x" * (60 - len(request("PING"))) if looks_alike else b"x" * 60
    values = {"PING": b"PONG", "GET a": value, "GET b": None, "INCR n": 1, SET: b"OK", LARGE: b"OK"}
    if "MULTI" in then:
        (*replies, done) = client.replies()
        assert replies == [*first, b"OK", b"QUEUED"]
        assert done in ([value], [b"x" * 60])
    else:
        replies = client.replies()
        assert replies[: len(first)] == first
        assert [reply if reply != b"x" * 60 else value for reply in replies[len(first) :]] == [
            values[each] for each in then.split("|")
        ]
    assert other.replies()[0] == b"OK"
    assert known.state.begun_commands == known.state.begun_bytes == 0
    assert known.node.database.shared.rolling.crc == known.node.replica.shared.rolling.crc


def test_when_nothing_is_done_each_of_them_is_told(known: Server) -> None:
    clients = [known.connect() for _ in range(4)]
    for client in clients:
        client.send(SET)
    clients[1].send("GET a")
    clients[2].hang_up()
    known.node.fail_all("UNCERTAIN who knows")  # type: ignore[attr-defined]
    assert clients[0].replies() == clients[3].replies() == ["-UNCERTAIN who knows"]
    assert clients[1].replies()[0] == "-UNCERTAIN who knows"
    assert known.state.begun_commands == known.state.begun_bytes == 0
    assert clients[0].ask(GET) == [b"x" * 60]


def test_another_database_is_another_crowd(known: Server) -> None:
    one, two = known.connect(), known.connect()
    two.ask("SELECT 1")
    one.send(SET)
    two.send(SET)
    assert gathered(known) == [[1], [1]]
    known.node.execute_all()
    assert one.replies() == [b"OK"]
    assert two.replies()[-1] == b"OK"
    assert [len(known.node.replica.keyspaces[number].values) for number in (0, 1)] == [1, 1]


def test_a_crowd_that_is_full_is_closed(known: Server) -> None:
    clients = [known.connect() for _ in range(CROWD_COMMANDS_MAX + 2)]
    for client in clients:
        client.send(GET)
    assert crowds(known) == [2]
    known.node.execute_all()
    assert all(client.replies() == [b"x" * 60] for client in clients)


def test_only_so_many_crowds_are_open(server: Server) -> None:
    sizes = range(10, 12 + CROWDS_MAX)
    for size in sizes:
        get_known(server, f"SET a {'x' * size}")
    clients = [server.connect() for _ in range(2 * len(sizes))]
    for client, size in zip(clients, [*sizes, *sizes], strict=True):
        client.send(f"SET a {'x' * size}")
    assert crowds(server) == [2] * CROWDS_MAX
    server.node.execute_all()
    assert [client.replies() for client in clients] == [[b"OK"]] * len(clients)


def test_a_value_that_is_no_string_is_told_to_whom_it_concerns(known: Server) -> None:
    one, two = known.connect(), known.connect()
    one.ask("LPUSH l x")
    one.send("GET l")
    two.send("GET a")
    assert crowds(known) == [2]
    known.node.execute_all()
    assert one.replies()[-1].startswith("-WRONGTYPE")
    assert two.replies() == [b"x" * 60]
    assert one.ask("PING") == [b"PONG"]


def test_for_those_of_a_crowd_who_do_not_read_nothing_more_is_encoded() -> None:
    server = in_one_turn(Settings(output_bytes_max=100))
    get_known(server, GET)
    one, two = server.connect(), server.connect()
    one.ask("SET a " + "x" * 200)
    one.transport.client_reads = False
    for _ in range(3):
        for client in (one, two):
            client.send(GET)
    server.node.execute_all()
    assert len(one.transport.pieces) == 2
    assert two.replies() == [b"x" * 200] * 3
    for _ in range(3):
        one.read_on(10_000)
    assert one.replies()[-3:] == [b"x" * 200] * 3


def test_large_values_come_in_pieces(known: Server) -> None:
    one, two = known.connect(), known.connect()
    large = b"x" * 3 * LARGE_BYTES
    one.ask([b"SET", b"a", large])
    for client in (one, two):
        client.send(GET)
    assert crowds(known) == [2]
    known.node.execute_all()
    assert one.replies()[-1] == two.replies()[-1] == large


ASKED = st.sampled_from(
    [
        *("SET k1 a", "SET k1 b", "SET k2 a", "GET k1", "GET k2", "INCR kn", "APPEND k1 x", "GET kn"),
        *(
            "PING",
            "GET k1|GET k2",
            "SET k1 a|SET k2 b",
            "SET k1 c|GET k1",
            "GET k2|SET k2 d",
            "MULTI|GET k1|EXEC",
        ),
    ]
)
STEPS = st.lists(
    st.tuples(st.integers(0, 3), ASKED)
    | st.sampled_from(["hand on", "execute the first", "execute the last", "select", "end"]),
    max_size=40,
)


KNOWN = ("SET k1x a", "GET k1x", "GET k1x|GET k2x", "SET k1x aa|SET k2x bb", "GET k1x|GET k2x|GET k1x")


@given(STEPS)
@settings(max_examples=400)
def test_whatever_the_order_each_client_is_answered_as_if_it_were_alone(
    steps: list[tuple[int, str] | str],
) -> None:
    """Each has keys of its own, of the same lengths as those of others; and what is known of a size soon changes."""
    server = in_one_turn(Settings())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(short_way, "UNKNOWN_MAX", 1)
        check_each_client(server, steps)


def check_each_client(server: Server, steps: list[tuple[int, str] | str]) -> None:
    for each in KNOWN:
        get_known(server, *each.split("|"))
    clients = [server.connect() for _ in range(4)]
    asked: list[list[str]] = [[] for _ in clients]
    for step in steps:
        if isinstance(step, tuple):
            number, what = step
            commands = re.sub(r"(k\w*)", rf"\g<1>{number}", what).split("|")
            clients[number].send(*commands)
            asked[number] += commands
        elif step == "hand on":
            server.node.hand_on()
        elif step == "select":
            clients[3].send("SELECT 1")
            asked[3].append("SELECT 1")
        elif step == "end":
            clients[2].half_close()
            break
        elif server.node.works:
            server.node.hand_on()
            writes = [work for work in server.node.works if work.needs_log]
            reads = [work for work in server.node.works if not work.needs_log]
            last = [*writes[:1], *reads][-1]  # Writes are executed in their order.
            server.node.execute(server.node.works[0] if step == "execute the first" else last)
    server.node.execute_all()
    for client, commands in zip(clients, asked, strict=True):
        alone = in_one_turn(Settings()).connect()
        expected = [reply for each in commands for reply in alone.ask(each)]
        assert client.replies() == expected
    assert server.state.begun_commands == server.state.begun_bytes == 0
    assert server.node.database.shared.rolling.crc == server.node.replica.shared.rolling.crc


# Clients that leave


def test_who_hangs_up_is_not_answered_and_what_it_asked_is_done(server: Server) -> None:
    one, two = server.connect(), server.connect()
    one.send("INCR n")
    two.send("INCR n")
    one.hang_up()
    server.node.execute_all()
    assert one.received == b""
    assert two.replies() == [2]
    assert server.state.begun_commands == server.state.begun_bytes == 0


def test_who_sends_no_more_is_answered_before_the_connection_ends(server: Server) -> None:
    client = server.connect()
    client.send("INCR n")
    client.half_close()
    assert not client.transport.is_closed
    client.node.execute_all()
    assert client.replies() == [1]
    assert client.transport.is_closed


def test_for_who_does_not_read_nothing_more_is_encoded() -> None:
    client = in_one_turn(Settings(output_bytes_max=100)).connect()
    client.ask("SET a " + "x" * 200)
    client.transport.client_reads = False
    for _ in range(3):
        client.send("GET a")
    client.node.execute_all()
    assert len(client.transport.pieces) == 2
    client.read_on(10_000)
    client.read_on(10_000)
    client.read_on(10_000)
    assert client.replies()[-3:] == [b"x" * 200] * 3


def test_who_waits_is_called_before_the_next_command(server: Server) -> None:
    """As in Redis, the element goes to whoever waited, not to whoever comes behind the push, in the same batch or not."""
    waiting, pushing, popping = server.connect(), server.connect(), server.connect()
    waiting.ask("BLPOP l 0")
    pushing.send("RPUSH l x")
    popping.send("LPOP l")
    server.node.execute_all()
    assert pushing.replies() == [1]
    assert [*waiting.replies(), *popping.replies()] in ([[b"l", b"x"], None], [b"x"])


REPLIES = (st.binary(max_size=20), st.none(), st.integers(), st.just(OK), st.just(ReplyError("ERR no")))


@given(st.one_of(*(st.lists(st.one_of(*REPLIES[:few]), min_size=1) for few in (1, 2, 5))), st.booleans())
@example([OK] * 3, False)
@example([None], True)
@example([None, b"", None], True)
def test_small_replies_are_encoded_as_all_are(replies: list[Reply], resp3: bool) -> None:
    assert encode_small(replies, resp3) in (b"", encode(replies, resp3))


@pytest.mark.parametrize("replies", [[OK], [OK] * 20, [b"x"], [b"", b"yy"], [None], [b"x", None]])
@pytest.mark.parametrize("resp3", [False, True])
def test_most_replies_are_small(replies: list[Reply], resp3: bool) -> None:
    assert encode_small(replies, resp3) == encode(replies, resp3)


def test_replies_that_are_large_together_are_not_encoded_at_once() -> None:
    assert encode_small([b"x" * 10_000] * 10, False) == b""
    assert encode_small([b"x" * 10_000, None] * 10, False) == b""
