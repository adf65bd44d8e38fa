"""Reads that must not be answered from the past: after restarts, pauses, depositions, and from states that are behind."""

from __future__ import annotations

import pytest

from sim.stories import Fate, Stage, is_error
from sofadb.paxos import Message
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Accept, Confirmed, Learn

TICK_S = 0.0005
PAUSE_S = 10.0
LATE_S = 0.005


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_node_that_has_been_restarted_answers_no_read_from_what_it_has_not_read_back_yet(
    nodes: int, number: int
) -> None:
    """All die with the last acknowledgement; from the first moment on somebody asks one of them again and again."""
    with Stage(nodes) as stage:
        name = stage.names[number % nodes]
        for value in range(100):
            assert stage.ask(stage.leader, "SET", "x", value) == "OK"
        for each in stage.names:
            stage.kill(each)
            stage.cluster.start(each)
        answers = 0
        while answers < 20:
            try:
                assert stage.ask(name, "GET", "x") == "99"
                answers += 1
            except OSError:
                stage.pass_time(TICK_S)


def test_a_restarted_node_that_reaches_nobody_answers_no_read_at_all() -> None:
    """What it has read back is the past: it cannot know what was chosen since."""
    with Stage() as stage:
        leader = stage.leader
        follower = stage.others(leader)[0]
        assert stage.ask(leader, "SET", "x", 1) == "OK"
        stage.pass_time(0.2)
        stage.kill(follower)
        assert stage.ask(leader, "SET", "x", 2) == "OK"
        stage.cluster.isolate(follower)
        stage.start(follower)
        assert stage.node(follower).database.keyspaces[0].find_string(b"x") != b"2"
        talk = stage.connect(follower)
        talk.say(("GET", "x"))
        stage.pass_time(4.0)
        assert not talk.replies
        stage.cluster.heal_all()
        assert stage.insist(follower, "GET", "x") == "2"


@pytest.mark.parametrize("clock", ["goes on", "stands still"])
def test_confirmations_from_before_a_pause_answer_nothing_that_was_asked_after_it(clock: str) -> None:
    """The leader has asked for confirmation when it is stopped; another leads; and when it wakes the old answers come in.

    If its clock has stood still, too, and nobody's word has reached it, it does not know that it has slept.
    """
    with Stage() as stage:
        leader = stage.leader
        other = stage.others(leader)[0]
        assert stage.ask(leader, "SET", "x", 1) == "OK"
        before, after = stage.connect(leader), stage.connect(leader)

        def come_late(sender: str, receiver: str, message: Message) -> Fate:
            late = isinstance(message, Confirmed) and receiver == leader
            return [PAUSE_S + LATE_S] if late else None

        stage.tampering.append(come_late)
        before.say(("GET", "x"))
        stage.pass_time(0.004)
        phase = stage.node(leader).driver.replica.phase
        assert isinstance(phase, Leading)
        assert phase.confirming.rounds, "the confirmation has been asked for"
        stage.cluster.pause(leader)
        stage.allow(come_late)
        end = stage.now + PAUSE_S
        if clock == "stands still":
            stage.cluster.set_rate(leader, 1e-9)
            deaf = stage.lose(object, receiver=leader)
        stage.until(lambda: stage.leader not in ("", leader))
        assert stage.ask(other, "SET", "x", 2) == "OK"
        after.say(("GET", "x"))
        stage.pass_time(end - stage.now)
        if clock == "stands still":
            stage.cluster.set_rate(leader, 1.0)
            stage.allow(deaf)
        for each in stage.others(leader):
            stage.cluster.network.link(leader, each).latency_s = (4 * LATE_S, 5 * LATE_S)
        stage.cluster.resume(leader)
        assert after.hear() == "2"
        assert before.hear() in ("1", "2") or is_error(before.replies[0], "NOREPLICAS")
        stage.assert_one_state()


def test_a_follower_gets_no_place_to_read_from_out_of_a_leader_that_was_deposed() -> None:
    """The two are cut off together, their clocks hardly move, and so neither gives the other up."""
    with Stage(5) as stage:
        leader = stage.leader
        follower, *rest = stage.others(leader)
        assert stage.ask(leader, "SET", "x", 1) == "OK"
        stage.cut_between([leader, follower], rest)
        for name in (leader, follower):
            stage.cluster.set_rate(name, 0.001)
        assert stage.insist(rest[0], "SET", "x", 2) == "OK"
        assert stage.machine(leader).is_leading
        assert stage.node(follower).driver.replica.leader == leader
        talks = [stage.connect(name) for name in (leader, follower)]
        for talk in talks:
            talk.say(("GET", "x"))
        stage.pass_time(2.0)
        assert not any(talk.replies for talk in talks)
        for name in (leader, follower):
            stage.cluster.set_rate(name, 1.0)
        stage.cluster.heal_all()
        assert [talk.hear() for talk in talks] == ["2", "2"]
        stage.assert_one_state()


def test_a_read_waits_for_a_state_that_is_behind_what_it_was_granted() -> None:
    with Stage() as stage:
        leader = stage.leader
        behind = stage.others(leader)[0]
        assert stage.ask(leader, "SET", "x", 1) == "OK"
        stage.pass_time(0.2)
        stage.lose(Accept, leader, behind)
        stage.tampering.append(
            lambda sender, receiver, message: (
                [1.0] if isinstance(message, Learn) and receiver == behind else None
            )
        )
        assert stage.ask(leader, "SET", "x", 2) == "OK"
        began = stage.now
        assert stage.ask(behind, "GET", "x") == "2"
        assert stage.now - began > 0.9, "it had to learn that first"


ROUND_TRIP_S = 0.04
"""Most of a heartbeat's pause, and far more than whoever asks few acceptors waits for these before it asks all."""
HOP_S = (ROUND_TRIP_S / 2 - 0.001, ROUND_TRIP_S / 2)


@pytest.mark.parametrize("at", ["the leader", "a follower"])
def test_where_answers_take_long_a_read_takes_no_longer_than_these(at: str) -> None:
    """A client's way to its node, and the question's to a quorum: at a follower the question to the leader, too."""
    with Stage(latency_s=HOP_S) as stage:
        asked = stage.leader if at == "the leader" else stage.others(stage.leader)[0]
        round_trips = 2 if at == "the leader" else 3
        talk = stage.connect(asked)
        assert talk.ask("SET", "x", 1) == "OK"
        for _ in range(30):
            began = stage.now
            assert talk.ask("GET", "x") == "1"
            assert stage.now - began < (round_trips + 0.5) * ROUND_TRIP_S


@pytest.mark.parametrize("latency_s", [(0.0001, 0.001), HOP_S])
def test_that_one_of_two_others_is_gone_delays_reads_once(latency_s: tuple[float, float]) -> None:
    """Whichever the leader asked: the other answers from then on, while readers and writers go on."""
    with Stage(latency_s=latency_s) as stage:
        leader = stage.leader
        readers, writer = [stage.connect(leader) for _ in range(5)], stage.connect(leader)
        number, waits = 0, []
        for victim in stage.others(leader):
            for step in range(60):
                if step == 10:
                    stage.cluster.kill(victim)
                if writer.is_answered:
                    number += 1
                    writer.say(("SET", "x", number))
                began = stage.now
                for reader in readers:
                    reader.say(("GET", "x"))
                for reader in readers:
                    assert number - 1 <= int(reader.hear() or 0) <= number
                waits.append(stage.now - began)
            stage.start(victim)
            stage.until_settled()
        usual, round_trip_s = sorted(waits)[len(waits) // 2], 2 * latency_s[1]
        assert usual < 3 * round_trip_s + 0.004, (
            "their own, a round under way, the next, and what they were held for"
        )
        assert sum(wait > usual + 0.03 for wait in waits) <= 4
        assert max(waits) < usual + 0.1
        writer.hear()


@pytest.mark.parametrize("nodes", [3, 5])
def test_reads_at_followers_who_are_not_asked_wait_for_no_heartbeat_while_others_write(nodes: int) -> None:
    """What is chosen meanwhile comes to them with the next accept request, or with the grant: nobody has to ask for it."""
    with Stage(nodes, latency_s=(0.0001, 0.001)) as stage:
        talks = {name: stage.connect(name) for name in stage.names}
        writers = {name: stage.connect(name) for name in stage.names}
        written = dict.fromkeys(stage.names, 0)
        for step in range(200):
            for name, writer in writers.items():
                if writer.is_answered and step % 3 != 2:
                    written[name] += 1
                    writer.say(("SET", name, written[name]))
            known = {name: written[name] - (not writer.is_answered) for name, writer in writers.items()}
            began = stage.now
            for talk in talks.values():
                talk.say(("MGET", *stage.names))
            for talk in talks.values():
                read = {name: int(value or 0) for name, value in zip(stage.names, talk.hear(), strict=True)}
                assert all(known[name] <= read[name] <= written[name] for name in stage.names)
            assert stage.now - began < 0.02
        for writer in writers.values():
            writer.hear()
