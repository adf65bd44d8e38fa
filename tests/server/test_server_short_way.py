"""The short way: what goes it is answered as on the long one, in the same order, and everything else does not go it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.server_fakes import FakeNode, Server, pipeline, request
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
from sofadb.server.encoding import encode, encode_small
from sofadb.server.requests import Requests
from sofadb.server.short_way import GATHERED_BYTES_MAX, PIECE_BYTES_MAX, SEEN_MAX, UNKNOWN_MAX, Gathered
from sofadb.server.state import Settings


class OneTurn(FakeNode):
    """All that is asked is asked in one turn of the event loop, until it is executed or failed."""

    now = 0

    @property
    def turns(self) -> dict[bool, int]:
        return dict.fromkeys((True, False), self.now)

    def execute_all(self) -> None:
        self.now += 1
        super().execute_all()

    def fail_all(self, problem: str) -> None:
        self.now += 1
        for work in list(self.works):
            self.fail(work, problem)


@pytest.fixture
def server() -> Server:
    return server_of(Settings())


def server_of(settings: Settings) -> Server:
    server = Server(settings)
    server.node = server.state.node = OneTurn()  # type: ignore[assignment]
    return server


def gathered(server: Server) -> list[list[int]]:
    """For each work that was gathered, how many commands are in each of its pieces."""
    return [
        [piece.commands for piece in work.pieces] for work in server.node.works if isinstance(work, Gathered)
    ]


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
    assert Shape(words).columns_of_known(pipeline(*requests)) == columns


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
    apart = server_of(Settings()).connect()
    client = server.connect()
    sets = [[b"SET", b"%02d" % number, b"x" * length] for number, length in enumerate(lengths)]
    others = [[b"SET", b"%02d" % number, b"y" * length] for number, length in enumerate(reversed(lengths))]
    for commands in [*[sets] * (UNKNOWN_MAX + 3), others, sets, others]:
        client.send(*commands)
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
    client = server_of(Settings(in_flight_max=1000)).connect()
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
    together, apart = server.connect(), server_of(Settings()).connect()
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
    apart = server_of(Settings()).connect()
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
    client.node.now += 1  # type: ignore[attr-defined]
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


@pytest.mark.parametrize("what", ["watching", "pause", "memory"])
def test_what_begins_while_writes_are_gathered_holds_for_what_comes_next(server: Server, what: str) -> None:
    one, two, third = server.connect(), server.connect(), server.connect()
    one.send("SET a 1")
    if what == "watching":
        third.send("MONITOR")
    elif what == "pause":
        third.send("CLIENT PAUSE 100000 WRITE")
    else:
        server.state.is_out_of_memory = True
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
    server = server_of(Settings(begun_commands_max=2))
    client, other = server.connect(), server.connect()
    client.send("INCR n", "INCR n")
    other.send("INCR n")
    assert other.replies()[0].startswith("-NOREPLICAS This node holds as many")
    client.node.execute_all()
    assert client.replies() == [1, 2]


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
    client = server_of(Settings(output_bytes_max=100)).connect()
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
