"""Commands done once, and locks with tokens: what they answer, what they are bounded by, and that replicas agree on them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from database.database_commands import NOW, ask, begun, numbers_called, run_of, turn, words
from sofadb.database import locks as locks_module
from sofadb.database import once as once_module
from sofadb.database.database import EXPIRED_PER_BATCH_MAX, Database
from sofadb.database.replies import Reply, ReplyError, Waits
from sofadb.database.runs import apply


@pytest.fixture
def database() -> Database:
    return begun()


def error(reply: Reply) -> str:
    assert isinstance(reply, ReplyError), reply
    return reply.text


def later(database: Database, time: int = NOW) -> None:
    database.begin(database.instance + 1, time)


# Once


def test_a_command_is_run_once_for_an_id_and_its_reply_is_repeated(database: Database) -> None:
    assert ask(database, "SOFA.ONCE", "id", "INCR", "n") == 1
    later(database)
    assert ask(database, "SOFA.ONCE", "id", "INCR", "n") == 1
    assert ask(database, "sofa.once", "another", "incr", "n") == 2
    assert ask(database, "GET", "n") == b"2"


def test_an_id_is_the_same_in_all_databases_and_outlives_all_keys(database: Database) -> None:
    ask(database, "SOFA.ONCE", "id", "SET", "a", 1)
    assert ask(database, "FLUSHALL").text == b"OK"
    assert ask(database, "SOFA.ONCE", "id", "SET", "a", 1, number=5).text == b"OK"
    assert ask(database, "DBSIZE", number=5) == 0
    assert ask(database, "DBSIZE") == 0


def test_an_error_is_an_answer_too(database: Database) -> None:
    ask(database, "SET", "a", "x")
    assert "not an integer" in error(ask(database, "SOFA.ONCE", "id", "INCR", "a"))
    ask(database, "SET", "a", 1)
    assert "not an integer" in error(ask(database, "SOFA.ONCE", "id", "INCR", "a"))
    assert ask(database, "GET", "a") == b"1"


def test_a_reply_that_is_part_of_a_value_is_kept_by_itself(database: Database) -> None:
    ask(database, "SET", "a", "x" * 100_000)
    assert ask(database, "SOFA.ONCE", "id", "GETRANGE", "a", 0, 20_000) == b"x" * 20_001
    kept = database.shared.once.executions[b"id"].reply
    assert type(kept) is bytes
    assert ask(database, "SOFA.ONCE", "id", "GETRANGE", "a", 0, 20_000) == kept


def test_a_large_reply_is_given_once_and_then_it_is_said_that_it_was(database: Database) -> None:
    value = b"x" * once_module.REPLY_BYTES_MAX
    ask(database, "SET", "a", value)
    assert ask(database, "SOFA.ONCE", "id", "GETSET", "a", "new") == value
    later(database)
    assert error(ask(database, "SOFA.ONCE", "id", "GETSET", "a", "newer")) == (
        "ERR this was executed, in instance 1, and its reply is too large to be kept"
    )
    assert ask(database, "GET", "a") == b"new"
    assert database.shared.once.size < 1_000


def test_what_became_of_an_id_is_told(database: Database) -> None:
    assert ask(database, "SOFA.STATUS", "id") == [b"never", 0]
    later(database)
    ask(database, "SOFA.ONCE", "id", "INCR", "n")
    later(database)
    assert ask(database, "SOFA.STATUS", "id") == [b"done", 2]


def test_the_oldest_ids_are_forgotten_and_that_is_said(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once_module, "IDS_MAX", 3)
    for number in range(5):
        ask(database, "SOFA.ONCE", number, "INCR", "n")
        later(database)
    assert ask(database, "SOFA.STATUS", 2) == [b"done", 3]
    assert ask(database, "SOFA.STATUS", 1) == [b"unknown", 2]
    assert ask(database, "SOFA.STATUS", "not asked yet") == [b"unknown", 2]
    assert ask(database, "SOFA.ONCE", 2, "INCR", "n") == 3, (
        "to ask again makes nothing younger, and adds nothing"
    )
    assert list(database.shared.once.executions) == [b"2", b"3", b"4"]


def test_ids_and_replies_are_bounded_in_bytes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once_module, "BYTES_MAX", 10_000)
    ask(database, "SET", "a", "x" * 3_000)
    for number in range(5):
        assert len(ask(database, "SOFA.ONCE", number, "GET", "a")) == 3_000
    once = database.shared.once
    assert list(once.executions) == [b"2", b"3", b"4"]
    assert once.size == sum(each.size for each in once.executions.values()) <= 10_000


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("SOFA.ONCE id", "ERR wrong number of arguments for 'sofa.once' command"),
        ("SOFA.ONCE id INCR", "ERR wrong number of arguments for 'incr' command"),
        ("SOFA.ONCE id NOSUCH x", "ERR unknown command 'NOSUCH', with args beginning with: 'x' "),
        ("SOFA.ONCE id SOFA.ONCE id2 INCR n", "ERR SOFA.ONCE cannot run 'sofa.once'"),
        ("sofa.once id keys *", "ERR SOFA.ONCE cannot run 'keys': its reply may be of any size, or vary"),
        (
            "SOFA.ONCE id RANDOMKEY",
            "ERR SOFA.ONCE cannot run 'randomkey': its reply may be of any size, or vary",
        ),
        ("SOFA.ONCE id SOFA.FENCED l 1 SOFA.ONCE x GET a", "ERR SOFA.FENCED cannot run 'sofa.once'"),
        ("SOFA.FENCED l 1 SOFA.FENCED l 1 GET a", "ERR SOFA.FENCED cannot run 'sofa.fenced'"),
        (f"SOFA.ONCE {'x' * 257} INCR n", "ERR an id has 1 to 256 bytes"),
        (f"SOFA.STATUS {'x' * 257}", "ERR an id has 1 to 256 bytes"),
        (f"SOFA.LOCK {'x' * 1025} 5", "ERR the name of a lock has 1024 bytes at most"),
        ("SOFA.FENCED l 1 SET a", "ERR wrong number of arguments for 'set' command"),
    ],
)
def test_what_makes_no_sense_is_told_before_it_is_proposed(
    database: Database, command: str, problem: str
) -> None:
    before = database.digest()
    run = run_of([words(*command.split())])
    assert not run.needs_log
    assert [reply.text for reply in run.execute(database)] == [problem]
    assert database.digest() == before


def test_an_id_is_something() -> None:
    assert not run_of([[b"SOFA.ONCE", b"", b"INCR", b"n"]]).needs_log


def test_ids_within_ids_however_deep_are_refused_at_once(database: Database) -> None:
    assert "cannot run" in error(ask(database, *["SOFA.ONCE", "id"] * 50_000, "INCR", "n"))


# Locks


def test_a_lock_has_one_holder_until_it_is_given_back(database: Database) -> None:
    assert ask(database, "SOFA.LOCK", "l", 1_000) == 1
    assert ask(database, "SOFA.LOCK", "l", 1_000) is None
    assert ask(database, "SOFA.UNLOCK", "l", 2) == 0
    assert ask(database, "SOFA.UNLOCK", "l", 1) == 1
    assert ask(database, "SOFA.UNLOCK", "l", 1) == 0
    later(database)
    later(database)
    assert ask(database, "SOFA.LOCK", "l", 1_000) == 3, "the instance"


def test_tokens_grow_within_an_instance_too_and_over_all_locks(database: Database) -> None:
    assert [ask(database, "SOFA.LOCK", name, 1_000) for name in "abc"] == [1, 2, 3]
    later(database)
    assert ask(database, "SOFA.LOCK", "d", 1_000) == 4
    database.begin(10, NOW)
    assert ask(database, "SOFA.LOCK", "e", 1_000) == 10


def test_a_lock_ends_by_the_time_of_the_state_machine(database: Database) -> None:
    ask(database, "SOFA.LOCK", "l", 1_000)
    assert database.next_expiry() == NOW + 1_000
    later(database, NOW + 999)
    assert ask(database, "SOFA.LOCK", "l", 1_000) is None
    assert ask(database, "SOFA.FENCED", "l", 1, "INCR", "n") == 1
    later(database, NOW + 1_000)
    assert database.next_expiry() is None
    assert error(ask(database, "SOFA.FENCED", "l", 1, "INCR", "n")).startswith("FENCED ")
    assert ask(database, "SOFA.RENEW", "l", 1, 1_000) == 0
    assert ask(database, "SOFA.UNLOCK", "l", 1) == 0
    assert ask(database, "SOFA.LOCK", "l", 1_000) == 3
    assert ask(database, "GET", "n") == b"1"
    assert database.expired == 0, "keys are counted, locks are not"


def test_a_holder_may_put_the_end_off(database: Database) -> None:
    ask(database, "SOFA.LOCK", "l", 1_000)
    assert ask(database, "SOFA.RENEW", "l", 7, 5_000) == 0
    assert ask(database, "SOFA.RENEW", "l", 1, 5_000) == 1
    later(database, NOW + 4_999)
    assert ask(database, "SOFA.FENCED", "l", 1, "GET", "n") is None
    later(database, NOW + 5_000)
    assert ask(database, "SOFA.LOCK", "l", 1) == 3


def test_an_earlier_holder_changes_nothing(database: Database) -> None:
    ask(database, "SOFA.LOCK", "l", 1_000)
    later(database, NOW + 1_000)
    assert ask(database, "SOFA.LOCK", "l", 1_000) == 2
    assert error(ask(database, "SOFA.FENCED", "l", 1, "SET", "a", "late")).startswith("FENCED ")
    assert ask(database, "SOFA.FENCED", "l", 2, "SET", "a", "now").text == b"OK"
    assert ask(database, "GET", "a") == b"now"


def test_more_is_due_than_one_batch_clears_and_it_is_free_all_the_same(database: Database) -> None:
    count = EXPIRED_PER_BATCH_MAX + 5
    for number in range(count):
        ask(database, "SOFA.LOCK", number, 1_000)
    later(database, NOW + 1_000)
    assert len(database.shared.locks.tokens) == 5
    assert database.next_expiry() == NOW + 1_000
    assert ask(database, "SOFA.LOCK", count - 1, 1_000) == count + 1
    later(database, NOW + 1_000)
    assert len(database.shared.locks.tokens) == 1


def test_locks_are_bounded_in_number(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks_module, "LOCKS_MAX", 2)
    ask(database, "SOFA.LOCK", "a", 1_000)
    ask(database, "SOFA.LOCK", "b", 1_000)
    before = database.digest()
    assert (
        error(ask(database, "SOFA.LOCK", "c", 1_000)) == "ERR 2 locks are held, and that is as many as may be"
    )
    assert database.digest() == before
    ask(database, "SOFA.UNLOCK", "a", 1)
    assert ask(database, "SOFA.LOCK", "c", 1_000) == 3


@pytest.mark.parametrize(
    "command",
    [
        "SOFA.LOCK l 0",
        "SOFA.LOCK l -1",
        "SOFA.LOCK l x",
        f"SOFA.LOCK l {2**53 + 1}",
        "SOFA.LOCK l 5 WAIT",
        "SOFA.LOCK l 5 LATER 5",
        "SOFA.LOCK l 5 WAIT 5 5",
        "SOFA.LOCK l 5 WAIT -1",
        "SOFA.LOCK l 5 WAIT 3600001",
        "SOFA.UNLOCK held x",
        "SOFA.RENEW held 1 0",
        "SOFA.RENEW held x 1",
        "SOFA.FENCED held x SET a 1",
        "SOFA.FENCED held 1 INCRBY a x",
    ],
)
def test_what_cannot_be_meant_is_an_error_and_changes_nothing(database: Database, command: str) -> None:
    ask(database, "SOFA.LOCK", "held", 1_000)
    before = database.digest()
    error(ask(database, *command.split()))
    assert database.digest() == before


def test_who_may_wait_is_told_so(database: Database) -> None:
    ask(database, "SOFA.LOCK", "l", 1_000)
    assert turn(database, 1, "SOFA.LOCK", "l", 1_000, "wait", 250) == Waits(250, None)
    assert turn(database, 2, "SOFA.LOCK", "l", 1_000, "WAIT", 0) is None
    assert ask(database, "SOFA.LOCK", "l", 1_000, "WAIT", 250) is None
    assert ask(database, "SOFA.LOCK", "l", 1_000, "WAIT", 0) is None
    assert ask(database, "SOFA.ONCE", "id", "SOFA.LOCK", "l", 1_000, "WAIT", 250) is None
    assert ask(database, "SOFA.LOCK", "m", 1_000) == 2
    assert ask(database, "SOFA.FENCED", "m", 2, "SOFA.LOCK", "l", 1_000, "WAIT", 250) is None


def test_when_a_lock_becomes_free_the_first_who_waits_is_called_in_that_batch(database: Database) -> None:
    ask(database, "SOFA.LOCK", "a", 1_000)
    ask(database, "SOFA.LOCK", "b", 2_000)
    for number, name in enumerate("aabb"):
        turn(database, number, "SOFA.LOCK", name, 1_000, "WAIT", 5_000)
    ask(database, "SOFA.UNLOCK", "a", 1)
    assert numbers_called(database) == [0]
    later(database, NOW + 2_000)
    assert numbers_called(database) == [2]


def test_a_lock_taken_once_is_had_again_after_the_same_id(database: Database) -> None:
    assert ask(database, "SOFA.ONCE", "id", "SOFA.LOCK", "l", 1_000) == 1
    assert ask(database, "SOFA.ONCE", "id", "SOFA.LOCK", "l", 1_000) == 1
    assert ask(database, "SOFA.ONCE", "id2", "SOFA.FENCED", "l", 1, "INCR", "n") == 1
    assert ask(database, "SOFA.ONCE", "id2", "SOFA.FENCED", "l", 1, "INCR", "n") == 1
    assert ask(database, "SOFA.ONCE", "id3", "SOFA.UNLOCK", "l", 1) == 1
    assert ask(database, "SOFA.ONCE", "id3", "SOFA.UNLOCK", "l", 1) == 1


# Replicas, and a model

_names = st.sampled_from(["l", "m"])
_tokens = st.integers(1, 12)
_plain = st.one_of(
    st.tuples(st.just("INCR"), st.sampled_from(["n", "text"])),
    st.tuples(st.just("SOFA.LOCK"), _names, st.sampled_from([10, 1_000, 0])),
    st.tuples(st.just("SOFA.UNLOCK"), _names, _tokens),
    st.tuples(st.just("SOFA.RENEW"), _names, _tokens, st.sampled_from([10, 1_000])),
    st.tuples(st.just("MGET"), st.just("n"), st.just("text")),
)
_fenced = st.tuples(st.just("SOFA.FENCED"), _names, _tokens, _plain).map(lambda it: (*it[:3], *it[3]))
_any = st.one_of(_plain, _fenced)
_once = st.tuples(st.just("SOFA.ONCE"), st.sampled_from("abcdef"), _any).map(lambda it: (*it[:2], *it[2]))
_steps = st.lists(
    st.tuples(st.sampled_from([0, 0, 5, 50]), st.lists(st.one_of(_any, _once), min_size=1, max_size=4)),
    max_size=12,
)


class Model:
    """The same, as plainly as can be. What is kept is never forgotten."""

    def __init__(self) -> None:
        self.n = 0
        self.instance = self.time = self.last = 0
        self.locks: dict[str, tuple[int, int]] = {}
        self.done: dict[str, Any] = {}

    def ask(self, *parts: Any) -> Any:
        name, *rest = parts
        if name == "SOFA.ONCE":
            if rest[0] not in self.done:
                self.done[rest[0]] = self.ask(*rest[1:])
            return self.done[rest[0]]
        if name == "INCR":
            self.n += rest[0] == "n"
            return self.n if rest[0] == "n" else "error"
        if name == "MGET":
            return [b"%d" % self.n if self.n else None, b"x"]
        token, end = self.locks.get(rest[0], (0, 0))
        is_held = end > self.time
        if name == "SOFA.LOCK":
            if rest[1] == 0:
                return "error"
            if is_held:
                return None
            self.last = max(self.instance, self.last + 1)
            self.locks[rest[0]] = (self.last, self.time + rest[1])
            return self.last
        is_ours = is_held and token == rest[1]
        if name == "SOFA.FENCED":
            return self.ask(*rest[2:]) if is_ours else "error"
        if is_ours:
            self.locks[rest[0]] = (token, self.time + rest[2] if name == "SOFA.RENEW" else 0)
        return int(is_ours)


@given(_steps)
@settings(max_examples=200, deadline=None)
def test_everything_is_as_the_model_says_and_the_same_on_another_replica(steps: Any) -> None:
    here, there, model = Database(), Database(), Model()
    for each in (here, there):
        each.begin(1, NOW)
        ask(each, "SET", "text", "x")
    time = NOW
    for passes, commands in steps:
        time += passes
        for each in (here, there):
            later(each, time)
        model.instance, model.time = here.instance, time
        run = run_of([words(*command) for command in commands])
        replies = ["error" if isinstance(it, ReplyError) else it for it in run.execute(here)]
        assert replies == [model.ask(*command) for command in commands]
        apply(there, run.encode())
        assert here.digest() == there.digest()
    held = {name: token for name, (token, end) in model.locks.items() if end > time}
    assert held == {name: token for name in "lm" if (token := here.shared.locks.holder(name.encode()))}


@pytest.mark.parametrize(
    "command",
    [
        "SOFA.ONCE id SET a 1",
        "SOFA.LOCK l 5",
        "SOFA.UNLOCK held 1",
        "SOFA.RENEW held 1 5",
        "SOFA.ONCE id GET a",
    ],
)
def test_what_is_kept_is_part_of_the_state(database: Database, command: str) -> None:
    ask(database, "SOFA.LOCK", "held", 1_000)
    before = database.digest()
    ask(database, *command.split())
    assert database.digest() != before


@pytest.mark.parametrize("command", ["EVAL_RO", "EVALSHA_RO"])
def test_a_script_that_reads_is_not_run_once_for_it_may_answer_differently_on_each_replica(
    command: str,
) -> None:
    assert "cannot run" in ask(begun(), "SOFA.ONCE", "id", command, "return math.random(1000000)", 0).text
