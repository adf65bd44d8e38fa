"""Work is gathered, handed on, and executed once, when its time has come; the driver beneath is a fake."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from sofadb.database.database import Database
from sofadb.database.replies import OK, Reply, ReplyError
from sofadb.database.runs import Run
from sofadb.database.table import Route, lookup
from sofadb.node.driver import Driver
from sofadb.node.node import (
    APART_MS,
    HEAR_MS,
    LARGE_BATCH_BYTES,
    NO_REPLICAS,
    OVERLOADED,
    READERS,
    SUBMISSION_BYTES_MAX,
    UNCERTAIN,
    WRITERS,
    Node,
)
from sofadb.paxos import Abandon, Deliver, Entry, Event, Instance, Moment, MoveTime, Read, Serve, Submit
from sofadb.paxos.following import Following
from sofadb.paxos.leading import Leading


class FakeDriver:
    """Remembers what it is handed. Its clock and its phase are as the test sets them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.clock = 0
        self.reading = SimpleNamespace(asked_at=None)
        self.replica = SimpleNamespace(phase=Following.__new__(Following), reading=self.reading)
        self.now = 0.0
        self.world = SimpleNamespace(moment=lambda: Moment(self.now, self.clock, 0.5))

    def handle(self, event: Event) -> None:
        self.events.append(event)

    def submissions(self) -> list[Submit]:
        return [event for event in self.events if isinstance(event, Submit)]


class Station:
    """A node on a fake driver; `turn` is what the event loop would do."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.others_ran = 0
        self.node = Node(
            self.soon.append,
            lambda seconds, call: self.later.append((seconds, call)),
            lambda: self.driver.now,
            self.let_others_run,
        )
        self.driver = FakeDriver()
        self.node.driver = cast(Driver, self.driver)

    def let_others_run(self) -> None:
        self.others_ran += 1

    def turn(self) -> None:
        callbacks, self.soon[:] = self.soon[:], []
        for callback in callbacks:
            callback()

    def quiet_turns(self) -> None:
        """As many as it takes until those who were answered are not waited for any more, and what waits is handed on."""
        for _ in range(WRITERS.quiet_turns + 1):
            self.turn()

    def deliver(self, instance: int, *entries: tuple[int | None, bytes], time: int = 0) -> None:
        """These are chosen: payloads, with the tokens of those who wait for them here."""
        numbered = tuple((token, Entry("n1", 1, 1, payload)) for token, payload in entries)
        self.node.deliver(Deliver(Instance(instance), time, numbered))


class Asked:
    """Commands of one connection, and what became of them: each time the replies, or the error."""

    def __init__(self, *commands: str) -> None:
        calls, raw, written = [], b"", b""
        for command in commands:
            words = [word.encode() for word in command.split()]
            found = lookup(words[0])
            assert found is not None
            calls.append((found.function, words))
            request = b"*%d\r\n" % len(words)
            request += b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
            raw += request
            written += request if found.route is Route.WRITE else b""
        self.run = Run(0, calls, written)
        self.size = len(raw)
        self.outcomes: list[list[Reply] | str] = []

    def encode(self) -> bytes:
        return self.run.encode()

    def execute(self, database: Database) -> None:
        self.outcomes.append(self.run.execute(database))

    def fail(self, error: ReplyError) -> None:
        self.outcomes.append(str(error))


# Gathering


def test_everything_of_one_turn_becomes_one_submission_and_the_next_turn_makes_another() -> None:
    station = Station()
    works = [Asked("INCR a"), Asked("INCR b"), Asked("INCR c")]
    for work in works[:2]:
        station.node.submit(work)
    assert station.driver.events == []
    station.turn()
    station.node.submit(works[2])
    station.turn()
    station.turn()
    first, second = station.driver.submissions()
    assert first.payload == works[0].encode() + works[1].encode()
    assert second.payload == works[2].encode()
    assert first.token != second.token


def test_a_submission_is_closed_when_it_is_large_enough_and_nothing_is_lost_or_reordered() -> None:
    station = Station()
    works = [Asked(f"SET key:{number} {'x' * (SUBMISSION_BYTES_MAX * 2 // 5)}") for number in range(7)]
    for work in works:
        station.node.submit(work)
    station.turn()
    submissions = station.driver.submissions()
    sizes = [len(works[0].encode()) * count for count in (3, 3, 1)]
    assert [len(submission.payload) for submission in submissions] == sizes
    for instance, submission in enumerate(submissions, 1):
        station.deliver(instance, (submission.token, submission.payload))
    assert [work.outcomes for work in works] == [[[OK]]] * 7
    assert list(station.node.database.keyspaces[0].values) == [b"key:%d" % number for number in range(7)]


def test_reads_of_one_turn_share_one_read_and_come_after_its_writes() -> None:
    station = Station()
    for work in (Asked("GET a"), Asked("GET b")):
        station.node.read(work)
    station.node.submit(Asked("INCR a"))
    station.turn()
    assert [type(event) for event in station.driver.events] == [Submit, Read]


# Holding


def flight(size: int = 1) -> SimpleNamespace:
    return SimpleNamespace(started_at=0.0, accept=SimpleNamespace(value=SimpleNamespace(size=size)))


def leading(station: Station) -> dict[int, SimpleNamespace]:
    """Have the node lead; returns what is on its way."""
    phase = Leading.__new__(Leading)
    phase.flights = flights = {}
    settings = SimpleNamespace(in_flight_max=2)
    phase.replica = SimpleNamespace(  # type: ignore[assignment]
        settings=settings,
        membership=SimpleNamespace(is_settled=lambda watermark: True),
        sequence=SimpleNamespace(watermark=0),
    )
    station.driver.replica.phase = phase
    return flights  # type: ignore[return-value]


def test_while_a_batch_is_under_way_writes_are_gathered_and_go_as_one_when_it_is_done() -> None:
    station = Station()
    flights = leading(station)
    first, *others = [Asked(f"SET key:{number} x") for number in range(4)]
    station.node.submit(first)
    station.turn()
    (submission,) = station.driver.submissions()
    flights[1] = flight()
    for work in others:
        station.node.submit(work)
        station.turn()
    assert len(station.driver.submissions()) == 1
    del flights[1]
    station.deliver(1, (submission.token, submission.payload))
    station.turn()  # Those who were answered are heard ...
    assert len(station.driver.submissions()) == 1
    station.node.submit(late := Asked("SET later x"))
    station.turn()
    station.turn()  # ... and then all of it goes.
    _, second = station.driver.submissions()
    assert second.payload == b"".join(work.encode() for work in (*others, late))


def test_those_who_were_answered_are_heard_first_although_more_came_in_the_same_turn() -> None:
    station = Station()
    flights = leading(station)
    station.node.submit(Asked("SET a x"))
    station.turn()
    (submission,) = station.driver.submissions()
    flights[1] = flight()
    station.node.submit(Asked("SET b x"))
    station.turn()
    station.node.submit(Asked("SET c x"))
    del flights[1]
    station.deliver(1, (submission.token, submission.payload))
    station.turn()
    assert len(station.driver.submissions()) == 1
    station.node.submit(Asked("SET d x"))
    station.quiet_turns()
    station.turn()
    assert len(station.driver.submissions()) == 2


def test_the_first_who_asks_after_a_batch_waits_for_the_others_who_were_answered() -> None:
    station = Station()
    leading(station)
    works = [Asked(f"SET key:{number} x") for number in range(3)]
    for work in works:
        station.node.submit(work)
    station.turn()
    (submission,) = station.driver.submissions()
    station.deliver(1, (submission.token, submission.payload))
    for work in works[:2]:
        station.node.submit(work)
        station.turn()
    for _ in range(WRITERS.quiet_turns - 1):
        station.turn()
    assert len(station.driver.submissions()) == 1
    station.quiet_turns()
    _, second = station.driver.submissions()
    assert second.payload == b"".join(work.encode() for work in works[:2])


def test_when_all_who_were_answered_have_asked_again_nobody_is_waited_for() -> None:
    station = Station()
    flights = leading(station)
    works = [Asked(f"SET key:{number} x") for number in range(3)]
    for work in works:
        station.node.submit(work)
    station.turn()
    (submission,) = station.driver.submissions()
    flights[1] = flight()
    station.node.submit(early := Asked("SET early x"))
    station.turn()
    station.deliver(1, (submission.token, submission.payload))
    for work in works:
        assert len(station.driver.submissions()) == 1
        station.node.submit(work)
        station.turn()
    station.turn()
    _, second = station.driver.submissions()
    assert second.payload == b"".join(work.encode() for work in (early, *works))


def test_where_none_of_ours_was_answered_nobody_is_waited_for() -> None:
    station = Station()
    flights = leading(station)
    flights[1] = flight()
    station.node.submit(Asked("SET ours x"))
    station.turn()
    assert station.driver.submissions() == []
    station.deliver(1, (None, Asked("SET theirs x").encode()))
    station.turn()
    station.turn()
    assert len(station.driver.submissions()) == 1


def test_while_those_who_were_answered_are_waited_for_others_may_have_the_processor() -> None:
    """They may be the very ones that are waited for."""
    station = Station()
    leading(station)
    station.node.submit(Asked("SET a x"))
    station.turn()
    assert station.others_ran == 0
    (submission,) = station.driver.submissions()
    station.deliver(1, (submission.token, submission.payload))
    for _ in range(2 * WRITERS.quiet_turns):
        station.turn()
    assert station.others_ran == WRITERS.quiet_turns - 1


@pytest.mark.parametrize(
    ("value_bytes", "turn_ms", "turns"),
    [(1, HEAR_MS / 8, 8), (1, 10.0, 1), (WRITERS.enough_bytes // 4, 0.0, 4)],
)
def test_who_was_answered_is_not_waited_for_without_end(value_bytes: int, turn_ms: float, turns: int) -> None:
    """However much comes in, and however long each turn takes: for some time, or until enough waits."""
    station = Station()
    flights = leading(station)
    station.node.submit(first := Asked("SET a x"))
    first.size = LARGE_BATCH_BYTES
    station.turn()
    (submission,) = station.driver.submissions()
    flights[1] = flight()
    station.node.submit(Asked("SET b x"))
    station.turn()
    del flights[1]
    station.deliver(1, (submission.token, submission.payload))
    for _ in range(turns):
        assert len(station.driver.submissions()) == 1
        station.node.submit(Asked(f"SET c {'x' * value_bytes}"))
        station.driver.now += turn_ms
        station.turn()
    station.turn()
    assert len(station.driver.submissions()) == 2


def test_a_batch_that_takes_long_is_not_waited_for() -> None:
    station = Station()
    leading(station)[1] = flight()
    station.driver.now = 1.0
    for number in range(3):
        station.node.submit(Asked(f"SET key:{number} x"))
        station.turn()
    ((seconds, look),) = station.later
    assert seconds == pytest.approx((APART_MS - 1) / 1000)
    station.driver.now = APART_MS - 1e-9
    look()  # A hair early.
    seconds, look = station.later[-1]
    assert seconds >= 0.001
    station.driver.now = APART_MS + 1
    look()
    station.turn()
    assert len(station.driver.submissions()) == 1
    station.node.submit(Asked("SET after x"))
    station.turn()  # It is too old to be waited for, as long as no other has left.
    assert len(station.driver.submissions()) == 2


def test_behind_a_very_large_batch_another_leaves_at_once() -> None:
    station = Station()
    flights = leading(station)
    flights[1] = flight(LARGE_BATCH_BYTES - 1)
    station.node.submit(Asked("SET a x"))
    station.turn()
    assert station.driver.submissions() == []
    flights[1] = flight(LARGE_BATCH_BYTES)
    station.node.submit(Asked("SET b x"))
    station.turn()
    assert len(station.driver.submissions()) == 1


def test_behind_a_batch_reads_are_not_held_nor_are_the_writes_of_who_does_not_lead() -> None:
    station = Station()
    station.node.submit(Asked("SET a x"))
    station.turn()
    leading(station)[1] = flight()
    station.node.submit(Asked("SET b x"))
    station.node.read(Asked("GET a"))
    station.turn()
    assert [type(event) for event in station.driver.events] == [Submit, Read]
    station.driver.replica.phase = Following.__new__(Following)
    station.driver.now = APART_MS
    for _, look in station.later:
        look()
    station.turn()
    assert [type(event) for event in station.driver.events] == [Submit, Read, Submit]


def test_while_reads_are_under_way_others_are_gathered_and_go_as_one_when_these_are_answered() -> None:
    station = Station()
    leading(station)
    works = [Asked(f"GET key:{number}") for number in range(5)]
    station.node.read(works[0])
    station.turn()
    (first,) = station.driver.events
    assert isinstance(first, Read)
    station.driver.reading.asked_at = 0.0
    for work in works[1:4]:
        station.node.read(work)
        station.turn()
    assert station.driver.events == [first]
    station.driver.reading.asked_at = None
    station.node.serve(Serve((first.token,), 0))
    assert [len(work.outcomes) for work in works] == [1, 0, 0, 0, 0]
    station.turn()  # Those who were answered are heard ...
    station.node.read(works[4])
    station.quiet_turns()
    station.turn()  # ... and then all of it goes.
    _, second = station.driver.events
    assert isinstance(second, Read)
    station.node.serve(Serve((second.token,), 0))
    assert [len(work.outcomes) for work in works] == [1] * 5


def test_the_first_who_reads_after_a_round_waits_for_the_others_who_were_answered() -> None:
    station = Station()
    leading(station)
    works = [Asked(f"GET key:{number}") for number in range(3)]
    for work in works:
        station.node.read(work)
    station.turn()
    (first,) = station.driver.events
    assert isinstance(first, Read)
    station.node.serve(Serve((first.token,), 0))
    for work in works:
        assert station.driver.events == [first]
        station.node.read(work)
        station.turn()
    station.turn()
    _, second = station.driver.events
    assert isinstance(second, Read)
    station.node.serve(Serve((second.token,), 0))
    assert [len(work.outcomes) for work in works] == [2] * 3
    station.quiet_turns()
    assert station.soon == []


@pytest.mark.parametrize("count", [1, 2])
def test_readers_are_not_waited_for_when_enough_waits(count: int) -> None:
    station = Station()
    leading(station)
    station.node.read(answered := Asked("GET a"))
    answered.size = 2 * READERS.enough_bytes
    station.turn()
    (first,) = station.driver.events
    assert isinstance(first, Read)
    station.node.serve(Serve((first.token,), 0))
    for _ in range(count):
        work = Asked("GET a")
        work.size = READERS.enough_bytes // 2
        station.node.read(work)
    station.turn()
    station.turn()
    assert len(station.driver.events) == count


def test_reads_that_take_long_are_not_waited_for() -> None:
    station = Station()
    leading(station)
    station.driver.reading.asked_at = 1.0
    station.driver.now = 2.0
    for _ in range(3):
        station.node.read(Asked("GET a"))
        station.turn()
    ((seconds, look),) = station.later
    assert seconds == pytest.approx((APART_MS - 1) / 1000)
    assert station.driver.events == []
    station.driver.now = 1 + APART_MS
    look()
    station.turn()
    assert len(station.driver.events) == 1
    station.node.read(Asked("GET a"))
    station.turn()  # They are too old to be waited for.
    assert len(station.driver.events) == 2
    look()
    assert station.soon == []


def test_who_does_not_lead_hands_reads_and_writes_on_at_once() -> None:
    """They may join the leader's next round, or batch, on their way."""
    station = Station()
    station.driver.reading.asked_at = 0.0
    station.node.read(Asked("GET a"))
    station.node.submit(Asked("SET a x"))
    station.turn()
    submission, read = station.driver.events
    assert isinstance(read, Read)
    assert isinstance(submission, Submit)
    station.deliver(1, (submission.token, submission.payload))
    station.node.read(Asked("GET a"))
    station.node.serve(Serve((read.token,), 0))
    station.node.submit(Asked("SET b x"))
    station.turn()
    assert [type(event) for event in station.driver.events] == [Submit, Read, Submit, Read]


# Executing


def test_works_of_a_submission_are_executed_in_their_order_once() -> None:
    station = Station()
    works = [Asked("INCR n", "GET n"), Asked("APPEND n 0"), Asked("INCR n")]
    for work in works:
        station.node.submit(work)
    station.turn()
    (submission,) = station.driver.submissions()
    assert [work.outcomes for work in works] == [[], [], []]
    station.deliver(1, (submission.token, submission.payload))
    station.node.abandon(Abandon((submission.token,), certain=False))  # Too late: nobody waits any more.
    assert [work.outcomes for work in works] == [[[1, b"1"]], [[2]], [[11]]]
    assert station.node.applied == 1


def test_entry_that_nobody_here_waits_for_ends_in_the_same_state_as_executing_the_work() -> None:
    here, elsewhere = Station(), Station()
    scripts = [
        ["SET a 1 PX 100", "GET a", "INCR a"],
        ["SET text hello", "INCR text", "APPEND text !"],
        ["DEL a", "EXISTS a", "SET b 2"],
    ]
    for instance, commands in enumerate(scripts, 1):
        here.node.submit(Asked(*commands))
        here.turn()
        submission = here.driver.submissions()[-1]
        here.deliver(instance, (submission.token, submission.payload), time=1000 * instance)
        elsewhere.deliver(instance, (None, submission.payload), time=1000 * instance)
    assert here.node.database.digest() == elsewhere.node.database.digest()
    assert here.node.database.digest() != Database().digest()
    assert here.node.applied == elsewhere.node.applied == 3


def test_entries_of_several_nodes_are_applied_in_the_order_in_which_they_were_chosen() -> None:
    station = Station()
    mine, foreign = Asked("APPEND log b"), [Asked("APPEND log a"), Asked("APPEND log c")]
    station.node.submit(mine)
    station.turn()
    (submission,) = station.driver.submissions()
    station.deliver(
        1, (None, foreign[0].encode()), (submission.token, submission.payload), (None, foreign[1].encode())
    )
    assert mine.outcomes == [[2]]
    assert station.node.database.keyspaces[0].find(b"log") == b"abc"


def test_reads_are_executed_on_the_state_as_it_is_when_they_are_granted_and_told_the_leaders_time() -> None:
    station = Station()
    reads = [Asked("GET a"), Asked("TIME")]
    for work in reads:
        station.node.read(work)
    station.turn()
    (event,) = station.driver.events
    assert isinstance(event, Read)
    station.deliver(1, (None, Asked("SET a 1").encode()), time=4000)
    assert [work.outcomes for work in reads] == [[], []]
    station.node.serve(Serve((event.token,), 5000))
    assert [work.outcomes for work in reads] == [[[b"1"]], [[[b"5", b"0"]]]]


# Giving up


@pytest.mark.parametrize(
    ("certain", "overloaded", "error"),
    [(True, False, NO_REPLICAS), (True, True, OVERLOADED), (False, False, UNCERTAIN)],
)
def test_abandoned_work_is_told_whether_it_is_certain_that_it_was_not_done_and_why(
    certain: bool, overloaded: bool, error: str
) -> None:
    station = Station()
    writes, read = [Asked("INCR a"), Asked("INCR b")], Asked("GET a")
    for work in writes:
        station.node.submit(work)
    station.node.read(read)
    station.turn()
    submission, reading = station.driver.events
    assert isinstance(submission, Submit)
    assert isinstance(reading, Read)
    station.node.abandon(Abandon((submission.token, reading.token), certain, overloaded))
    assert [work.outcomes for work in (*writes, read)] == [[error]] * 3


def test_what_was_given_up_as_uncertain_and_is_chosen_after_all_takes_effect_without_a_second_answer() -> (
    None
):
    station = Station()
    work = Asked("INCR a")
    station.node.submit(work)
    station.turn()
    (submission,) = station.driver.submissions()
    station.node.abandon(Abandon((submission.token,), certain=False))
    station.deliver(1, (submission.token, submission.payload))
    assert work.outcomes == [UNCERTAIN]
    assert station.node.database.keyspaces[0].find(b"a") == b"1"


# Time


def test_time_is_asked_to_move_only_by_a_leader_and_only_when_keys_expire() -> None:
    station = Station()
    station.driver.replica.phase = Leading.__new__(Leading)
    assert station.node.expire_due() is None, "nothing will ever be due"
    assert station.driver.events == []
    station.deliver(1, (None, Asked("SET a 1 PX 500").encode()), time=1000)
    station.driver.clock = 1200
    assert station.node.expire_due() == 300, "look again when it is due"
    assert station.driver.events == [MoveTime(1500)], (
        "whether it is, the leader says: this clock may be wrong"
    )
    station.driver.replica.phase = Following.__new__(Following)
    assert station.node.expire_due() is None
    assert station.driver.events == [MoveTime(1500)]
