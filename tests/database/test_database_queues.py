"""Lines of those who wait: who is called, who takes, who leaves; and that every replica and every image has the same."""

from __future__ import annotations

from typing import Any

import pytest
from database_commands import NOW, Words, ask, begun, numbers_called, request, run_of, turn, words
from hypothesis import given, settings
from hypothesis import strategies as st

from sofadb.database import queues as queues_module
from sofadb.database.database import Database
from sofadb.database.loader import Loader, Unreadable
from sofadb.database.queues import AHEAD, GAP_MS_MAX, PATIENCE_MS, Place, Who, pack_places, unpack_places
from sofadb.database.replies import ReplyError, Waits
from sofadb.database.runs import Corrupt, Gone, Group, Transaction, Turn, apply
from sofadb.database.table import check
from sofadb.database.values import List

FRONT = b"n1/1"


@pytest.fixture
def database() -> Database:
    return begun()


def pass_time(database: Database, gap_ms: int = 1) -> None:
    """Another batch, so much later."""
    database.begin(database.instance + 1, database.time + gap_ms)


def leave(database: Database, number: int, front: bytes = FRONT) -> None:
    Gone(Who(front, number)).execute(database)


def loaded(database: Database) -> Database:
    """The same, from an image."""
    loader = Loader()
    for piece in database.image().pieces():
        loader.feed(piece)
    return loader.finish()


def line(database: Database, name: bytes) -> list[int]:
    """Who waits for elements of a list, in order."""
    return [who.number for who in database.shared.queues.lines.get(Place(List.kind, 0, name), ())]


def test_who_finds_something_takes_it_and_who_does_not_waits(database: Database) -> None:
    ask(database, "RPUSH", "q", "x", "y")
    assert turn(database, 1, "BLPOP", "q", 0) == [b"q", b"x"]
    assert turn(database, 2, "BRPOP", "nowhere", "q", 0) == [b"q", b"y"]
    assert isinstance(turn(database, 3, "BLPOP", "nowhere", "q", "q", "0.25"), Waits)
    assert line(database, b"q") == line(database, b"nowhere") == [3]
    assert numbers_called(database) == []


def test_those_are_called_for_whom_there_is_something_once(database: Database) -> None:
    for number in range(4):
        turn(database, number, "BLPOP", "q", 0)
    ask(database, "RPUSH", "q", "x", "y")
    assert numbers_called(database) == [0, 1]
    ask(database, "RPUSH", "q", "z")
    assert numbers_called(database) == [0, 1, 2]
    pass_time(database)
    assert numbers_called(database) == []


def test_no_more_are_called_at_once_than_a_few(database: Database) -> None:
    for number in range(AHEAD + 2):
        turn(database, number, "BLPOP", "q", 0)
    ask(database, "RPUSH", "q", *range(100))
    assert numbers_called(database) == list(range(AHEAD))
    assert turn(database, 0, "BLPOP", "q", 0, again=True) == [b"q", b"0"]
    assert numbers_called(database) == list(range(AHEAD + 1))


def test_only_the_first_takes_and_who_comes_before_its_turn_is_called_again(database: Database) -> None:
    for number in (1, 2):
        turn(database, number, "BLPOP", "q", 0)
    ask(database, "RPUSH", "q", "x", "y")
    assert isinstance(turn(database, 2, "BLPOP", "q", 0, again=True), Waits)
    assert isinstance(turn(database, 3, "BLPOP", "q", 0), Waits)
    assert turn(database, 1, "BLPOP", "q", 0, again=True) == [b"q", b"x"]
    assert numbers_called(database) == [1, 2, 2]
    assert turn(database, 2, "BLPOP", "q", 0, again=True) == [b"q", b"y"]
    assert line(database, b"q") == [3]


def test_who_was_called_in_vain_keeps_its_place(database: Database) -> None:
    for number in (1, 2):
        turn(database, number, "BLPOP", "q", 0)
    ask(database, "RPUSH", "q", "x")
    assert ask(database, "LPOP", "q") == b"x"
    assert isinstance(turn(database, 1, "BLPOP", "q", 0, again=True), Waits)
    ask(database, "RPUSH", "q", "y")
    assert numbers_called(database) == [1, 1]
    assert turn(database, 1, "BLPOP", "q", 0, again=True) == [b"q", b"y"]


@pytest.mark.parametrize("how", ["is gone", "is served elsewhere", "fails"])
def test_when_the_first_leaves_the_next_is_called_if_there_is_something(database: Database, how: str) -> None:
    ask(database, "SET", "text", "x")
    turn(database, 1, "BLMOVE", "q", "text", "LEFT", "LEFT", 0) if how == "fails" else turn(
        database, 1, "BLPOP", "other", "q", 0
    )
    turn(database, 2, "BLPOP", "q", 0)
    ask(database, "RPUSH", "q", "x")
    if how == "is gone":
        leave(database, 1)
    elif how == "fails":
        reply = turn(database, 1, "BLMOVE", "q", "text", "LEFT", "LEFT", 0, again=True)
        assert isinstance(reply, ReplyError)
    else:
        ask(database, "RPUSH", "other", "y")
        assert turn(database, 1, "BLPOP", "other", "q", 0, again=True) == [b"other", b"y"]
    assert numbers_called(database)[-1] == 2
    assert line(database, b"q") == [2]
    assert turn(database, 2, "BLPOP", "q", 0, again=True) == [b"q", b"x"]
    assert database.shared.queues.lines == {}
    assert database.shared.queues.size == 0


@pytest.mark.parametrize(
    "command",
    [
        *("RPUSH q x", "LPUSH q x", "RENAME list q", "COPY list q", "LMOVE list q LEFT LEFT", "SWAPDB 1 0"),
        *("SORT list ALPHA STORE q", "RESTORE q 0 DUMP"),
    ],
)
def test_whatever_brings_elements_calls(database: Database, command: str) -> None:
    ask(database, "RPUSH", "list", "x")
    ask(database, "RPUSH", "q", "x", number=1)
    turn(database, 1, "BLPOP", "q", 0)
    turn(database, 2, "BZPOPMIN", "q", 0)
    dump = ask(database, "DUMP", "list")
    ask(database, *(dump if word == "DUMP" else word for word in command.split()))
    assert numbers_called(database) == [1]


@pytest.mark.parametrize(
    "command", ["ZADD q 1 x", "ZINCRBY q 1 x", "ZRANGESTORE q zset 0 -1", "RENAME zset q"]
)
def test_and_whatever_brings_elements_of_the_other_kind(database: Database, command: str) -> None:
    ask(database, "ZADD", "zset", 1, "x")
    turn(database, 1, "BLPOP", "q", 0)
    turn(database, 2, "BZPOPMIN", "q", 0)
    ask(database, *command.split())
    assert numbers_called(database) == [2]


def test_what_comes_from_another_database_calls_there(database: Database) -> None:
    ask(database, "RPUSH", "q", "x", number=1)
    turn(database, 1, "BLPOP", "q", 0)
    ask(database, "MOVE", "q", 0, number=1)
    assert numbers_called(database) == [1]


def test_what_is_no_element_of_the_right_kind_calls_nobody(database: Database) -> None:
    turn(database, 1, "BLPOP", "q", 0)
    ask(database, "ZADD", "q", 1, "x")
    ask(database, "SET", "q", "x")
    ask(database, "DEL", "q")
    assert numbers_called(database) == []
    ask(database, "SET", "q", "x")
    assert isinstance(turn(database, 1, "BLPOP", "q", 0, again=True), Waits), (
        "who waits does not mind another type"
    )
    assert isinstance(turn(database, 2, "BLPOP", "q", 0), ReplyError), "who comes does"


def test_calls_come_after_a_transaction(database: Database) -> None:
    turn(database, 1, "BLPOP", "q", 0)
    commands = [words("RPUSH", "q", "x"), words("LPOP", "q")]
    calls = [(check(command).function, command) for command in commands]
    Transaction([], [Group(0, calls, b"")]).execute(database)
    assert numbers_called(database) == []


def test_who_does_not_come_in_time_leaves_with_all_of_its_node(database: Database) -> None:
    for number, front in enumerate((b"n1/1", b"n1/1", b"n2/1", b"n1/1")):
        turn(database, number, "BLPOP", f"q{number // 3}", 0, front=front)
    ask(database, "RPUSH", "q0", "x")
    for _ in range(PATIENCE_MS - 1):
        pass_time(database)
        assert database.shared.queues.dismissed == []
    assert database.next_expiry() == database.time + 1
    pass_time(database)
    assert database.shared.queues.dismissed == [b"n1/1"]
    assert numbers_called(database) == [2]
    assert line(database, b"q0") == [2]
    assert line(database, b"q1") == []


def test_a_gap_between_batches_counts_for_a_little_only(database: Database) -> None:
    turn(database, 1, "BLPOP", "q", 0)
    ask(database, "RPUSH", "q", "x")
    steps = 0
    while not database.shared.queues.dismissed:
        due = database.next_expiry()
        assert due == database.time + GAP_MS_MAX
        pass_time(database, 10 * PATIENCE_MS)
        steps += 1
    assert steps == PATIENCE_MS // GAP_MS_MAX
    assert database.next_expiry() is None


def test_a_node_that_came_too_late_is_given_more_time_until_it_comes_in_time(database: Database) -> None:
    def called_and_late() -> int:
        """After how many milliseconds it was too late."""
        pass_time(database, 0)
        ask(database, "DEL", "q")
        turn(database, 1, "BLPOP", "q", 0, again=True)
        ask(database, "RPUSH", "q", "x")
        began = database.time
        while not database.shared.queues.dismissed:
            pass_time(database, 10)
        return database.time - began

    assert [called_and_late() for _ in range(6)] == [500, 1_000, 2_000, 4_000, 8_000, 8_000]
    assert loaded(database).shared.queues.patience == {FRONT: 8_000}
    turn(database, 2, "BLPOP", "r", 0)
    ask(database, "RPUSH", "r", "x")
    for _ in range(PATIENCE_MS // GAP_MS_MAX):
        pass_time(database, GAP_MS_MAX)
    assert turn(database, 2, "BLPOP", "r", 0, again=True) == [b"r", b"x"]
    assert database.shared.queues.patience == {}


def test_who_has_left_and_comes_again_stands_behind_the_others(database: Database) -> None:
    turn(database, 1, "BLPOP", "q", 0)
    turn(database, 2, "BLPOP", "q", 0, front=b"n2/1")
    leave(database, 1)
    leave(database, 7)
    turn(database, 1, "BLPOP", "q", 0, again=True)
    assert line(database, b"q") == [2, 1]


def test_a_node_that_comes_back_is_another_and_its_clients_of_before_leave(database: Database) -> None:
    for number, front in enumerate((b"n1/1", b"n1~00/1", b"n2/1", b"n1/2")):
        turn(database, number, "BLPOP", "q", 0, front=front)
    assert line(database, b"q") == [1, 2, 3]


def test_when_too_many_wait_that_is_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues_module, "WAITERS_MAX", 2)
    for number in (1, 2):
        turn(database, number, "BLPOP", "q", 0)
    reply = turn(database, 3, "BLPOP", "q", 0)
    assert isinstance(reply, ReplyError)
    assert reply.text.startswith("ERR as many clients wait as may")
    assert isinstance(turn(database, 2, "BLPOP", "q", 0, again=True), Waits)
    monkeypatch.undo()
    assert isinstance(turn(database, 4, "BLPOP", *["x" * 1_000_000] * 63, 0), Waits), "counted once"
    assert isinstance(
        turn(database, 5, "BLPOP", *[b"%d" % n * 500_000 for n in range(10, 90)], 0), ReplyError
    )


# Replicas, images and entries

_names = st.sampled_from(["q", "r"])
_fronts = st.sampled_from([b"n1/1", b"n2/1", b"n2/2"])
_steps = st.one_of(
    st.tuples(st.just("turn"), st.integers(1, 8), _fronts, st.just("BLPOP"), _names, _names),
    st.tuples(st.just("turn"), st.integers(1, 8), _fronts, st.just("BZPOPMAX"), _names, _names),
    st.tuples(st.just("turn"), st.integers(9, 12), _fronts, st.just("BRPOPLPUSH"), _names, _names),
    st.tuples(st.just("ask"), st.just("RPUSH"), _names, st.integers(0, 99), st.just("x")),
    st.tuples(st.just("ask"), st.just("ZADD"), _names, st.integers(0, 99), st.just("x")),
    st.tuples(st.just("ask"), st.sampled_from(["DEL", "LPOP"]), _names),
    st.tuples(st.just("gone"), st.integers(1, 12), _fronts),
    st.tuples(st.just("time"), st.sampled_from([1, 60, 100, 250, 700])),
    st.tuples(st.just("image")),
)


def entry(step: tuple[Any, ...]) -> bytes:
    """A step as a log entry."""
    if step[0] == "ask":
        return run_of([words(*step[1:])]).encode()
    if step[0] == "gone":
        return Gone(Who(step[2], step[1])).encode()
    _, number, front, *command = step
    text: Words = words(*command, 0)
    return Turn(0, (check(text).function, text), request(text), Who(front, number)).encode()


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(_steps, max_size=40))
def test_every_replica_has_the_same_lines_and_so_has_what_is_loaded_from_an_image(
    steps: list[tuple[Any, ...]],
) -> None:
    one, other = begun(), begun()
    for step in steps:
        if step[0] == "image":
            other = loaded(other)
        elif step[0] == "time":
            for database in (one, other):
                pass_time(database, step[1])
        else:
            for database in (one, other):
                pass_time(database, 0)
                apply(database, entry(step))
        assert one.shared.queues.calls == other.shared.queues.calls or step[0] == "image"
        assert one.rolling == other.rolling
        assert one.digest() == other.digest()
        check_lines(one)


def check_lines(database: Database) -> None:
    """What must hold between batches: above all, where there is something the first in line is called."""
    queues = database.shared.queues
    assert queues.caller is None
    assert not queues.touched
    assert set(queues.called) <= set(queues.waiters)
    for place, waiting in queues.lines.items():
        arrivals = [queues.waiters[who].arrival for who in waiting]
        assert arrivals
        assert arrivals == sorted(arrivals)
        value = database.keyspaces[place.database].find(place.name)
        if value is not None and value.kind == place.kind:
            assert next(iter(waiting)) in queues.called
    assert queues.size == sum(
        len(place.name) + 64 for each in queues.waiters.values() for place in each.places
    )


def test_an_entry_that_ends_early_is_none() -> None:
    whole = entry(("turn", 1, b"n1/1", "BLPOP", "q", "r"))
    gone = entry(("gone", 1, b"n1/1"))
    for data in (
        *(whole[:end] for end in range(1, len(whole))),
        *(gone[:end] for end in range(1, len(gone))),
    ):
        with pytest.raises(Corrupt):
            apply(begun(), data)


def test_places_are_read_as_they_were_written_or_not_at_all() -> None:
    places = (Place(1, 0, b""), Place(4, 15, b"x" * 300))
    assert unpack_places(pack_places(places)) == places
    with pytest.raises(ValueError, match="ends early"):
        unpack_places(pack_places(places)[:-1])


def test_an_image_in_which_somebody_waits_twice_is_refused(database: Database) -> None:
    turn(database, 1, "BLPOP", "q", 0)
    (waiter,) = database.shared.queues.waiters.values()
    database.shared.queues.waiters[Who(b"n9/9", 9)] = waiter
    with pytest.raises(Unreadable, match="somebody waits twice"):
        loaded(database)


def test_where_nobody_ever_waited_the_image_is_silent(database: Database) -> None:
    before = b"".join(begun(NOW).image().pieces())
    ask(database, "SET", "a", "x")
    ask(database, "DEL", "a")
    assert len(b"".join(database.image().pieces())) >= len(before)
    assert database.shared.queues.arrivals == 0
