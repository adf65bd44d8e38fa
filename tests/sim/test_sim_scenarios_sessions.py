"""What clients are told and what is done, when leaders change under their commands: once, in order, and honestly."""

from __future__ import annotations

import pytest

from sim.stories import Fate, Stage, is_error
from sofadb.paxos import Message, Settings
from sofadb.paxos.messages import Accept, Chosen, Confirm, Forward

PATIENCE_S = Settings().patience_ms / 1000
TEN_YEARS_MS = 315_360_000_000


def string(stage: Stage, node: str, key: bytes) -> bytes | None:
    """What the state of a node says, whether anybody may read it or not."""
    return stage.node(node).database.keyspaces[0].find_string(key)


@pytest.mark.parametrize("meanwhile", ["", "nothing gets chosen", "all clocks jump ten years"])
def test_a_forwarded_command_that_was_chosen_and_is_sent_again_to_the_next_leader_is_done_once(
    meanwhile: str,
) -> None:
    """Its node did not hear that it was chosen. The next leader may have it and not have applied it yet."""
    with Stage() as stage:
        leader = stage.leader
        asked, other = stage.others(leader)
        talk = stage.connect(asked)
        stage.lose((Chosen, Confirm), leader)
        stage.lose(Accept, leader, asked)
        talk.say(("INCR", "n"))
        stage.until(lambda: string(stage, leader, b"n") == b"1")
        stage.lose_power(leader)
        if meanwhile == "nothing gets chosen":
            hangs = stage.lose(Accept)
            stage.until(lambda: stage.leader != "")
            stage.pass_time(1.5)
            assert string(stage, stage.leader, b"n") is None
            assert not talk.replies
            stage.allow(hangs)
        if meanwhile == "all clocks jump ten years":
            for name in stage.names:
                stage.cluster.set_clock(name, TEN_YEARS_MS)
        assert talk.hear() == 1
        assert talk.ask("INCR", "n") == 2
        assert stage.insist(other, "GET", "n") == "2"
        stage.start(leader)
        stage.assert_one_state()


@pytest.mark.parametrize("dies", [False, True], ids=["the leader lives", "the leader dies"])
def test_two_writes_of_one_connection_keep_their_order_though_the_first_is_heard_last(dies: bool) -> None:
    with Stage() as stage:
        leader = stage.leader
        asked, other = stage.others(leader)
        talk = stage.connect(asked)
        heard: list[int] = []

        def first_is_lost(sender: str, receiver: str, message: Message) -> Fate:
            if not isinstance(message, Forward):
                return None
            heard.append(len(message.entries))
            return [] if len(heard) == 1 else None

        stage.tampering.append(first_is_lost)
        talk.say(("SET", "x", 1))
        stage.until(lambda: len(heard) == 1)
        talk.say(("SET", "x", 2))
        stage.until(lambda: len(heard) == 2)
        stage.pass_time(0.02)
        assert not talk.replies, "the second waits for the first"
        if dies:
            stage.lose_power(leader)
        talk.hear()
        assert talk.replies == ["OK", "OK"]
        assert stage.insist(other, "GET", "x") == "2"
        if dies:
            stage.start(leader)
        stage.assert_one_state()


def test_noreplicas_is_said_of_what_was_never_sent_and_that_is_never_done() -> None:
    with Stage() as stage:
        leader = stage.leader
        asked = stage.others(leader)[0]
        stage.cluster.isolate(asked)
        stage.pass_time(1.0)
        for text in ("it is alone", "and alone"):
            assert is_error(stage.ask(asked, "APPEND", "log", text), "NOREPLICAS")
        stage.cluster.heal_all()
        assert stage.insist(asked, "APPEND", "log", "x") == 1
        stage.pass_time(PATIENCE_S)
        assert stage.ask(leader, "GET", "log") == "x"


@pytest.mark.parametrize("who", ["a follower that has forwarded", "a leader that has proposed"])
@pytest.mark.parametrize("is_chosen", [False, True], ids=["and nobody heard it", "and it was chosen"])
def test_uncertain_is_said_of_what_was_sent_and_it_is_done_once_or_not_at_all(
    who: str, is_chosen: bool
) -> None:
    with Stage() as stage:
        leader = stage.leader
        follower, other = stage.others(leader)
        asked = follower if who == "a follower that has forwarded" else leader
        others = stage.others(asked)
        talk = stage.connect(asked)
        if not is_chosen:
            stage.cut_between([asked], others)
        for each in others:  # The way back is cut in any case.
            stage.cluster.cut(each, asked)
        talk.say(("INCR", "n"))
        assert is_error(talk.hear(), "UNCERTAIN")
        stage.cluster.heal_all()
        stage.until_settled()
        stage.pass_time(PATIENCE_S)
        counted = int(stage.insist(other, "GET", "n") or 0)
        assert counted <= 1
        assert counted == 1 or not is_chosen
        assert talk.ask("INCR", "n") == counted + 1
        stage.assert_one_state()


def test_a_transaction_cut_by_the_end_of_its_node_is_not_run_in_part() -> None:
    """Half of it was queued on a connection that is gone; EXEC on the next one has nothing to run."""
    with Stage() as stage:
        node = stage.others(stage.leader)[0]
        talk = stage.connect(node)
        talk.say(("MULTI",), ("SET", "a", 1), ("SET", "b", 1))
        talk.hear()
        assert talk.replies == ["OK", "QUEUED", "QUEUED"]
        stage.kill(node)
        stage.until(lambda: talk.is_lost)
        stage.start(node)
        again = stage.connect(node)
        assert is_error(again.ask("EXEC"), "ERR EXEC without MULTI")
        assert stage.insist(node, "MGET", "a", "b") == [None, None]


def test_a_transaction_outlives_the_leader_on_a_node_that_lives() -> None:
    with Stage() as stage:
        leader = stage.leader
        node = stage.others(leader)[0]
        talk = stage.connect(node)
        talk.say(("MULTI",), ("SET", "a", 1), ("INCR", "a"))
        talk.hear()
        stage.kill(leader)
        assert talk.ask("EXEC") == ["OK", 2]
        stage.start(leader)
        assert stage.insist(leader, "GET", "a") == "2"


def test_a_transaction_whose_answer_is_lost_was_run_wholly_or_not_at_all() -> None:
    """The node dies at every moment from the sending of EXEC to the answer."""
    runs = set()
    for moment in range(40):
        with Stage() as stage:
            node, other = stage.others(stage.leader)
            talk = stage.connect(node)
            talk.say(("MULTI",), ("SET", "a", 1), ("SET", "b", 1), ("EXEC",))
            stage.pass_time(moment * 0.0002)
            stage.lose_power(node)
            stage.pass_time(0.01)
            found = stage.insist(other, "MGET", "a", "b")
            assert found in ([None, None], ["1", "1"])
            assert found == ["1", "1"] or not talk.is_answered
            runs.add((talk.is_answered, found[0]))
    assert runs == {(False, None), (False, "1"), (True, "1")}
