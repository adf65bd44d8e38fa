"""More than a node has room for: what is refused, who is cut off, who has to wait, and how a server ends."""

from __future__ import annotations

import logging

import pytest

from server.server_fakes import Client, Server, pipeline, request
from sofadb.node.node import OVERLOADED
from sofadb.server.guard import PROGRESS_BYTES_MIN, STALLED_S_MAX, Guard
from sofadb.server.state import Settings

REFUSED = f"-{OVERLOADED}"


def holds_nothing(server: Server) -> bool:
    state = server.state
    return (state.begun_commands, state.begun_bytes) == (0, 0)


# More commands than may wait


def test_what_comes_when_the_node_is_full_is_refused_at_once_and_never_done() -> None:
    server = Server(Settings(begun_commands_max=3))
    first, late = server.connect(), server.connect()
    first.send("SET a 1", "SET b 1", "GET a")
    late.send("SET a 2", "PING", "GET a", "NOSUCH")
    late.send("GET a")
    unknown = "-ERR unknown command 'NOSUCH', with args beginning with: "
    assert late.replies() == [REFUSED, b"PONG", REFUSED, unknown, REFUSED]
    assert server.state.refused_commands == 5
    server.node.execute_all()
    assert first.replies() == [b"OK", b"OK", b"1"]
    assert late.ask("GET a", "SET a 3") == [b"1", b"OK"]
    assert holds_nothing(server)


def test_bytes_count_as_well() -> None:
    server = Server(Settings(begun_bytes_max=1000))
    first, late = server.connect(), server.connect()
    first.send(f"SET a {'x' * 1000}")
    late.send("GET a")
    assert late.replies() == [REFUSED]
    server.node.execute_all()
    assert late.ask("GET a") == [b"x" * 1000]
    assert holds_nothing(server)


def test_whatever_its_size_one_is_taken_when_there_is_nothing_else() -> None:
    client = Server(Settings(begun_commands_max=1, begun_bytes_max=1)).connect()
    assert client.ask("MSET a 1 b 2", "GET b") == [b"OK", b"2"]


def test_commands_of_the_connection_are_answered_though_the_node_is_full() -> None:
    server = Server(Settings(begun_commands_max=1))
    first, late = server.connect(), server.connect()
    first.send("SET a 1")
    late.send("PING", "CLIENT SETNAME me", "CLIENT GETNAME", "ECHO hi", "SELECT 1")
    assert late.replies() == [b"PONG", b"OK", b"me", b"hi", b"OK"]
    late.send("INFO stats")
    assert b"commands_refused_for_lack_of_room:0\r\n" in late.received
    assert late.connection.database == 1


def test_what_is_behind_something_under_way_waits_for_its_turn_and_is_refused_only_then() -> None:
    """Its answer could not be told earlier; and perhaps there is room by then."""
    server = Server(Settings(begun_commands_max=2))
    other, client = server.connect(), server.connect()
    client.send("SET a 1")
    other.send("SET x 1")
    client.send("SET a 2")
    client.send("PING")
    assert len(server.node.works) == 2
    server.node.execute(server.node.works[0])
    assert [len(server.node.works), client.replies()] == [2, [b"OK"]]
    other.send("SET x 2")
    server.node.execute_all()
    assert client.replies() == [b"OK", b"PONG"]
    assert other.replies() == [b"OK", b"OK"]
    assert holds_nothing(server)


def test_a_pipeline_that_comes_to_a_full_node_is_refused_as_a_whole() -> None:
    server = Server(Settings(begun_commands_max=1))
    first, late = server.connect(), server.connect()
    first.send("SET a 1")
    late.send(*["INCR n"] * 2000, f"SET a {'x' * 10_000}", "INCR n")
    assert late.replies() == [REFUSED] * 2002
    server.node.execute_all()
    assert late.ask("GET n") == [None]


def test_exec_is_refused_as_a_whole_and_an_exec_behind_a_refused_watch_is_not_done() -> None:
    server = Server(Settings(begun_commands_max=1))
    first, late = server.connect(), server.connect()
    first.send("SET a 1")
    late.send("MULTI", "SET a 2", "SELECT 1", "EXEC")
    assert late.replies() == [b"OK", b"QUEUED", b"QUEUED", REFUSED]
    assert late.connection.database == 0
    late.send("WATCH a", "MULTI", "SET a 3")
    server.node.execute_all()
    late.send("EXEC")
    aborted = "-EXECABORT Transaction discarded because of previous errors."
    assert late.replies() == [REFUSED, b"OK", b"QUEUED", aborted]
    assert late.ask("MULTI", "GET a", "EXEC")[-1] == [b"1"]


def test_what_a_client_that_is_gone_has_asked_counts_until_it_is_done() -> None:
    server = Server()
    client = server.connect()
    client.send("SET a 1", "PING")
    client.send("GET a")
    client.send("PING")
    client.send("MULTI", "SET a 2")
    client.hang_up()
    assert server.state.begun_commands >= 3
    server.node.execute_all()
    assert holds_nothing(server)
    assert server.state.held_bytes == 0


def test_what_a_node_has_failed_makes_room() -> None:
    server = Server(Settings(begun_commands_max=1))
    client = server.connect()
    client.send("SET a 1")
    client.send("GET a")
    server.node.fail(server.node.works[0], OVERLOADED)
    server.node.execute_all()
    assert client.replies() == [REFUSED, None]
    assert holds_nothing(server)


# Clients that do not read


class Watched:
    """A server with a guard that looks when told to."""

    def __init__(self, **settings: int) -> None:
        self.server = Server(Settings(**settings))
        self.guard = Guard(self.server.state)
        self.now = 0.0

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.now += 1.0
            self.guard.look(self.now)

    def deaf(self, unread: int) -> Client:
        """A client that has so much unread, and reads nothing."""
        client = self.server.connect()
        client.transport.client_reads = False
        client.ask([b"ECHO", b"x" * unread])
        return client


def test_who_reads_nothing_for_a_minute_is_cut_off_with_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Watched(output_bytes_max=1000)
    deaf, slow, small = watched.deaf(2000), watched.deaf(100_000), watched.deaf(500)
    reader = watched.server.connect()
    reader.ask("PING")
    with caplog.at_level(logging.WARNING, "sofadb.server"):
        for _ in range(round(STALLED_S_MAX)):
            watched.pass_time(1)
            slow.read_on(1)
        assert not deaf.transport.is_closed
        watched.pass_time(1)
    assert deaf.transport.is_closed
    assert [client.transport.is_closed for client in (slow, small, reader)] == [False] * 3
    (line,) = caplog.messages
    assert line.startswith(f"{deaf.connection.address} does not read its replies, of which 200")
    assert "it has read nothing for 60 s" in line
    (info,) = reader.ask("INFO")
    assert b"client_output_buffer_limit_disconnections:1\r\n" in info
    assert b"client_recent_max_output_buffer:99" in info


def test_nobody_whose_outcome_is_pending_is_cut_off() -> None:
    watched = Watched(output_bytes_max=1000, unread_bytes_max=0)
    client = watched.server.connect()
    client.transport.client_reads = False
    client.send([b"ECHO", b"x" * 2000], "SET a 1")
    client.send("SET a 2")
    watched.server.node.execute(watched.server.node.works[0])
    watched.pass_time(2 * STALLED_S_MAX)
    assert client.connection.waits_for_node
    assert not client.transport.is_closed
    watched.server.node.execute_all()
    watched.pass_time(1)
    assert client.transport.is_closed


def test_when_all_together_have_too_much_unread_those_with_the_most_are_cut_off_until_it_is_less() -> None:
    watched = Watched(unread_bytes_max=10_000)
    clients = [watched.deaf(size) for size in (1000, 7000, 500, 4000, 2000)]
    watched.pass_time(1)
    assert [client.transport.is_closed for client in clients] == [False, True, False, False, False]
    watched.pass_time(10)
    assert sum(client.transport.is_closed for client in clients) == 1
    assert watched.server.state.output_disconnections == 1


# Requests that are not whole


def begun(watched: Watched, size: int, of: int = 1_000_000) -> Client:
    """A client that has sent so much of a large SET."""
    client = watched.server.connect()
    client.send_bytes(request([b"SET", b"key:%d" % client.connection.id, b"x" * of])[:size])
    return client


def test_when_there_is_no_room_large_requests_are_read_one_at_a_time_and_small_ones_as_ever() -> None:
    watched = Watched(held_bytes_max=1_000_000, held_bytes_free=10_000)
    clients = [begun(watched, size) for size in (300_000, 400_000, 200_000, 150_000)]
    assert not clients[3].transport.is_read_from, "with that one it was too much"
    watched.pass_time(1)
    assert [client.transport.is_read_from for client in clients] == [False, True, False, False]
    small = begun(watched, 5_000, 9_000)
    assert small.transport.is_read_from
    other = watched.server.connect()
    assert other.ask("SET a 1", "GET a") == [b"OK", b"1"]
    whole = request([b"SET", b"key:%d" % clients[1].connection.id, b"x" * 1_000_000])
    clients[1].send_bytes(whole[400_000:])
    watched.server.node.execute_all()
    assert clients[1].replies() == [b"OK"]
    watched.pass_time(1)
    assert all(client.transport.is_read_from for client in clients)
    for client in (clients[0], clients[2], clients[3], small):
        client.hang_up()
    assert watched.server.state.held_bytes == 0


def test_who_sends_next_to_nothing_while_there_is_no_room_is_told_so_and_it_is_another_s_turn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Watched(held_bytes_max=500_000, held_bytes_free=10_000)
    slow, next_one = begun(watched, 400_000), begun(watched, 200_000)
    with caplog.at_level(logging.WARNING, "sofadb.server"):
        for _ in range(round(STALLED_S_MAX)):
            watched.pass_time(1)
            slow.send_bytes(b"x")
        assert not slow.transport.is_closed
        watched.pass_time(1)
    assert slow.replies() == ["-ERR this request came too slowly while there was no room for others"]
    assert slow.transport.is_closed
    assert "next to nothing" in caplog.text
    assert next_one.transport.is_read_from
    assert watched.server.state.input_disconnections == 1


def test_who_goes_on_keeps_its_turn() -> None:
    watched = Watched(held_bytes_max=500_000, held_bytes_free=10_000)
    client, other = begun(watched, 400_000, 60_000_000), begun(watched, 200_000)
    for _ in range(3):
        watched.pass_time(STALLED_S_MAX)
        client.send_bytes(b"x" * PROGRESS_BYTES_MIN)
    watched.pass_time(STALLED_S_MAX)
    assert not client.transport.is_closed
    assert [client.transport.is_read_from, other.transport.is_read_from] == [True, False]


def test_a_transaction_that_is_not_ended_holds_room_and_nothing_of_it_is_done_when_it_is_given_up() -> None:
    watched = Watched(held_bytes_max=100_000, held_bytes_free=1000, in_flight_max=1)
    client = watched.server.connect()
    client.ask("MULTI", [b"SET", b"a", b"x" * 200_000])
    watched.pass_time(1)
    client.send("INCR n", "INCR n")
    watched.pass_time(STALLED_S_MAX)
    assert client.transport.is_closed
    watched.server.node.execute_all()
    client.hang_up()
    assert watched.server.connect().ask("GET a", "GET n") == [None, None]
    assert watched.server.state.held_bytes == 0


# The end of a server


def test_finish_answers_all_that_has_arrived_then_ends_its_half_and_drops_what_still_comes() -> None:
    server = Server(Settings(in_flight_max=1, waiting_bytes_max=60))
    client = server.connect()
    client.send("SET a 1", "GET a")
    client.send("INCR a", "KEYS *", "INCR a")
    client.send_bytes(pipeline("MULTI", "INCR a") + b"*2\r\n$3\r\nGET\r\n")
    assert not client.transport.is_read_from
    client.connection.finish()
    assert client.transport.is_read_from, "or its end would never be seen"
    client.send("SET a 100")
    assert not client.transport.has_written_eof
    server.node.execute_all()
    assert client.replies() == [b"OK", b"1", 2, [b"a"], 3, b"OK", b"QUEUED"]
    assert client.transport.has_written_eof
    assert not client.transport.is_closed
    client.send("SET a 100")
    client.connection.resume_writing()
    client.half_close()
    assert client.transport.is_closed
    assert server.connect().ask("GET a") == [b"3"]


def test_finish_ends_an_idle_connection_at_once_and_one_whose_client_has_ended_for_good() -> None:
    server = Server()
    idle, ended = server.connect(), server.connect()
    idle.connection.finish()
    assert idle.transport.has_written_eof
    ended.send("GET a")
    ended.half_close()
    ended.connection.finish()
    server.node.execute_all()
    assert ended.replies() == [None]
    assert ended.transport.is_closed


def test_finish_tells_of_a_protocol_error_first() -> None:
    client = Server().connect()
    client.send_bytes(request("GET a") + b"*x\r\n")
    client.connection.finish()
    client.node.execute_all()
    assert client.replies() == [None, "-ERR Protocol error: invalid multibulk length"]
    assert client.transport.has_written_eof
