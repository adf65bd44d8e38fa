"""Time is what is chosen (rules P5 and D1): wrong clocks, old stamps, delayed ticks, and readers of several nodes in turn."""

from __future__ import annotations

import pytest

from sim.stories import Fate, Stage
from sofadb.paxos import Message, Settings
from sofadb.paxos.messages import Accept

BOUND_S = Settings().clock_bound_ms / 1000
SLACK_S = 0.2
"""A tick is proposed within 50 ms, and takes a round."""
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def time_told(stage: Stage, node: str) -> int:
    """What TIME says there, in milliseconds."""
    seconds, microseconds = stage.ask(node, "TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


def test_a_key_that_one_reader_saw_gone_is_seen_by_nobody_afterwards_on_whatever_node() -> None:
    """Clocks differ, one node is behind, and the leader dies; the nodes are asked in turn."""
    with Stage() as stage:
        leader = stage.leader
        early, late = stage.others(leader)
        stage.cluster.set_clock(early, 400)
        stage.cluster.set_clock(late, -400)
        stage.cluster.network.link(leader, late).latency_s = (0.01, 0.03)
        keys = [f"k{number}" for number in range(30)]
        for number, key in enumerate(keys):
            assert stage.ask(leader, "SET", key, 1, "PX", 300 + 50 * number) == "OK"
        gone: set[str] = set()
        flips = 0
        turn = 0
        while len(gone) < len(keys):
            turn += 1
            if turn == 60:
                stage.lose_power(leader)
            node = stage.names[turn % 3] if turn < 60 else stage.others(leader)[turn % 2]
            values = stage.ask(node, "MGET", *keys)
            now = {key for key, value in zip(keys, values, strict=True) if value is None}
            assert gone <= now, f"{gone - now} came back on {node}"
            flips += now != gone
            gone = now
        assert flips > 10
        assert turn > 60


def test_a_leader_a_day_ahead_takes_no_key_away_early_and_time_goes_on_when_it_is_gone() -> None:
    with Stage() as stage:
        leader = stage.leader
        asked, other = stage.others(leader)
        began = stage.now
        talk = stage.connect(asked)
        assert talk.ask("SET", "short", 1, "PX", 3_000) == "OK"
        assert talk.ask("SET", "long", 1, "EX", 3_600) == "OK"
        stage.cluster.set_clock(leader, DAY_MS)
        assert talk.ask("INCR", "n") == 1
        stage.lose_power(leader)
        assert talk.ask("INCR", "n") == 2, "its session has not ended"
        stage.pass_time(began + 3.0 - BOUND_S - SLACK_S - stage.now)
        for node in (asked, other):
            assert stage.ask(node, "MGET", "short", "long") == ["1", "1"]
        stage.pass_time(BOUND_S + 2 * SLACK_S)
        for node in (asked, other):
            assert stage.ask(node, "MGET", "short", "long") == [None, "1"]
            assert abs(time_told(stage, node) - stage.cluster.right_clock_ms) <= 1000 * BOUND_S
        stage.start(leader)
        stage.assert_one_state()


def test_under_a_leader_a_day_behind_keys_do_not_live_longer_than_the_bound_allows() -> None:
    with Stage() as stage:
        leader = stage.leader
        stage.cluster.set_clock(leader, -DAY_MS)
        assert stage.ask(leader, "SET", "before", 1, "PX", 1_000) == "OK"
        stage.pass_time(1.0 + BOUND_S + SLACK_S)
        for node in stage.names:
            assert stage.ask(node, "GET", "before") is None
        assert stage.leader == leader
        stage.assert_one_state()


def test_a_short_life_begins_now_on_a_cluster_whose_last_stamp_is_old() -> None:
    """It is not over before it has begun, and it is no longer than it should be."""
    with Stage() as stage:
        assert stage.ask("n1", "SET", "x", 1) == "OK"
        stage.pass_time(60.0)
        talk = stage.connect("n1")
        began = stage.now
        talk.say(("SET", "k", 1, "PX", 50), ("GET", "k"))
        assert talk.hear() == "1"
        while stage.now < began + 0.04:
            for node in stage.names:
                assert stage.ask(node, "GET", "k") == "1"
        stage.pass_time(SLACK_S)
        for node in stage.names:
            assert stage.ask(node, "GET", "k") is None


@pytest.mark.parametrize("heard", [False, True], ids=["nobody who lives has heard it", "one has heard it"])
def test_a_tick_that_the_next_leader_proposes_again_takes_no_key_away_whose_life_was_prolonged(
    heard: bool,
) -> None:
    """The old leader's clock is fast, and it dies with its tick on its way. Whoever prolongs the key is told the truth."""
    with Stage(settings=Settings(election_timeout_ms=60, heartbeat_ms=20)) as stage:
        leader = stage.leader
        follower, other = stage.others(leader)
        ticks = 0

        def tamper(sender: str, receiver: str, message: Message) -> Fate:
            nonlocal ticks
            if sender != leader:
                return None
            ticks += isinstance(message, Accept) and not message.value.entries
            is_heard = heard and receiver == follower and isinstance(message, Accept)
            return [] if ticks and not is_heard else None

        stage.cluster.set_clock(leader, 400)
        assert stage.ask(leader, "SET", "k", 1, "PX", 1_500) == "OK"
        due = stage.ask(leader, "PEXPIRETIME", "k")
        stage.tampering.append(tamper)
        stage.until(lambda: ticks > 0)
        stage.pass_time(0.005)
        stage.kill(leader)
        prolonged = stage.insist(other, "PEXPIRE", "k", 60_000)
        assert stage.cluster.right_clock_ms < due, "by a right clock it has not expired"
        assert prolonged == (0 if heard else 1)
        stage.allow(tamper)
        second = stage.leader
        stage.kill(second)
        stage.start(
            leader
        )  # Its disk has the tick. It takes part in the next election, before it hears anything else.
        (third,) = stage.others(leader, second)
        assert stage.insist(third, "GET", "k") == ("1" if prolonged else None)
        stage.start(second)
        stage.pass_time(2.0)
        for node in stage.names:
            assert stage.insist(node, "GET", "k") == ("1" if prolonged else None)
        stage.assert_one_state()


def test_expireat_and_time_go_by_the_time_of_the_batch_on_every_replica() -> None:
    """However the nodes' clocks differ. (Two of three are right enough.)"""
    with Stage() as stage:
        leader = stage.leader
        asked = stage.others(leader)[0]
        stage.cluster.set_clock(leader, 300)
        stage.cluster.set_clock(asked, -HOUR_MS)
        talk = stage.connect(asked)
        talk.ask("SET", "past", 1)
        talk.say(
            ("MULTI",),
            ("SET", "k", 1),
            ("PEXPIRE", "k", 5_000),
            ("TIME",),
            ("EXPIREAT", "past", stage.cluster.right_clock_ms // 1000 - 60),
            ("EXEC",),
        )
        _, _, (seconds, microseconds), was_there = talk.hear()
        stamp, _ = stage.cluster.watch.ledger.delivered[stage.node(asked).applied]
        assert int(seconds) * 1000 + int(microseconds) // 1000 == stamp
        assert was_there == 1
        told = [time_told(stage, node) for node in (*stage.names, *stage.names)]
        assert told == sorted(told)
        assert abs(told[-1] - stage.cluster.right_clock_ms) <= 1000 * BOUND_S
        for node in stage.names:
            assert stage.ask(node, "PEXPIRETIME", "k") == stamp + 5_000
            assert stage.ask(node, "EXISTS", "past") == 0
        stage.assert_one_state()
        assert len({stage.node(node).database.time for node in stage.names}) == 1
