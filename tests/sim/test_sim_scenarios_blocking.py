"""Who waits for elements: one order for the whole cluster, whoever dies, and nothing that was pushed is lost on the way."""

from __future__ import annotations

import pytest

from sim.stories import Fate, Stage, Talk, is_error
from sofadb.database.queues import GAP_MS_MAX, PATIENCE_MS
from sofadb.paxos import Message

FOR_EVER = 0
LATE_S = (PATIENCE_MS + GAP_MS_MAX) / 1000 + 0.3
"""Whoever is called in vain has held up the others for so long at most."""


def in_line(stage: Stage, name: str) -> int:
    """How many wait for something, as that node's state has it."""
    return len(stage.node(name).database.shared.queues.waiters)


def block(stage: Stage, name: str, *words: str | int) -> Talk:
    """A client of that node that stands in line, behind all who do."""
    talk, before = stage.connect(name), in_line(stage, stage.leader)
    talk.say(words)
    stage.until(lambda: in_line(stage, stage.leader) == in_line(stage, name) == before + 1)
    return talk


def test_who_came_first_is_served_first_whichever_node_it_is_on() -> None:
    with Stage() as stage:
        names = [stage.names[number % 3] for number in range(9)]
        talks = [block(stage, name, "BLPOP", "q", FOR_EVER) for name in names]
        assert stage.ask("n2", "RPUSH", "q", 0) == 1
        assert talks[0].hear() == ["q", "0"]
        assert stage.ask("n1", "RPUSH", "q", *range(1, 9)) == 8
        for number, talk in enumerate(talks):
            assert talk.hear() == ["q", str(number)]
        assert stage.insist("n3", "EXISTS", "q") == 0
        stage.assert_one_state()


def test_who_waits_longest_at_any_of_its_keys_is_served_and_others_keep_their_places() -> None:
    with Stage() as stage:
        first = block(stage, "n1", "BLPOP", "a", "b", FOR_EVER)
        second = block(stage, "n2", "BLPOP", "b", "a", FOR_EVER)
        third = block(stage, "n3", "BZPOPMIN", "b", FOR_EVER)
        stage.ask("n3", "ZADD", "b", 1, "x")
        assert third.hear() == ["b", "x", "1"]
        stage.ask("n3", "RPUSH", "b", 1)
        assert first.hear() == ["b", "1"]
        stage.pass_time(1.0)
        assert not second.replies
        stage.ask("n3", "RPUSH", "a", 2)
        assert second.hear() == ["a", "2"]
        stage.assert_one_state()


def test_the_leader_is_killed_while_they_wait_and_their_order_stays() -> None:
    """At every moment from the push on. Whom the leader was serving is told by its connection that it does not know."""
    for moment in range(16):
        with Stage(nodes=5, seed=moment) as stage:
            leader = stage.leader
            names = [*stage.others(leader), *stage.others(leader)]
            talks = [block(stage, name, "BLPOP", "q", FOR_EVER) for name in names]
            pusher = stage.connect(names[0])
            pusher.say(("RPUSH", "q", *range(len(talks))))
            stage.pass_time(moment * 0.0004)
            stage.kill(leader)
            assert [talk.hear() for talk in talks] == [["q", str(number)] for number in range(len(talks))]
            assert pusher.hear() == len(talks)
            stage.assert_one_state()


@pytest.mark.parametrize("goes", ["the client", "its node"])
def test_what_comes_for_somebody_who_is_gone_is_had_by_the_next(goes: str) -> None:
    """It goes away at every moment from the push on: whatever it was not told is lost only if its node was taking it."""
    waited: set[bool] = set()
    lost = 0
    for moment in range(24):
        with Stage(seed=moment) as stage:
            leaves, other = stage.others(stage.leader)
            first = block(stage, leaves, "BLPOP", "q", FOR_EVER)
            more = [block(stage, leaves, "BLPOP", "q", FOR_EVER) for _ in range(3)]
            second = block(stage, other, "BLPOP", "q", FOR_EVER)
            pusher = stage.connect(other)
            pusher.say(("RPUSH", "q", "x"))
            stage.pass_time(moment * 0.0003)
            began = stage.now
            if goes == "the client":
                for talk in (first, *more):
                    talk.leave()
            else:
                stage.kill(leaves)
            stage.pass_time(2.0)
            if second.replies:
                waited.add(second.told_at[0] - began > PATIENCE_MS / 1000)
                assert second.told_at[0] - began < LATE_S
            else:
                assert stage.insist(other, "EXISTS", "q") == 0
                lost += not first.replies
                stage.insist(other, "RPUSH", "q", "y")
            assert second.hear() in (["q", "x"], ["q", "y"])
            stage.assert_one_state()
    assert waited == {goes == "its node"}
    assert lost < 18


def test_a_node_that_is_gone_holds_up_the_others_once_however_many_wait_on_it() -> None:
    with Stage() as stage:
        gone, other = stage.others(stage.leader)
        for _ in range(20):
            block(stage, gone, "BLPOP", "q", FOR_EVER)
        talks = [block(stage, other, "BLPOP", "q", FOR_EVER) for _ in range(2)]
        stage.kill(gone)
        began = stage.now
        assert stage.insist(other, "RPUSH", "q", 1) == 1
        assert talks[0].hear() == ["q", "1"]
        assert stage.now - began < LATE_S
        began = stage.now
        assert stage.ask(other, "RPUSH", "q", 2) == 1
        assert talks[1].hear() == ["q", "2"]
        assert stage.now - began < 0.1


def test_clients_of_a_nodes_earlier_life_are_sent_away_by_the_first_of_its_next_who_waits() -> None:
    with Stage() as stage:
        leader = stage.leader
        other = stage.others(leader)[0]
        for _ in range(3):
            block(stage, other, "BLPOP", "q", FOR_EVER)
        stage.kill(other)
        stage.start(other)
        stage.until(lambda: stage.is_settled() and stage.have_met(*stage.names))
        stage.pass_time(1.0)
        talk = stage.connect(other)
        talk.say(("BLPOP", "q", FOR_EVER))
        stage.until(lambda: in_line(stage, leader) == in_line(stage, other) == 1)
        began = stage.now
        assert stage.ask(leader, "RPUSH", "q", 1) == 1
        assert talk.hear() == ["q", "1"]
        assert stage.now - began < 0.1


def test_a_node_that_cannot_be_reached_loses_its_clients_places_and_enters_them_again() -> None:
    with Stage() as stage:
        away, other = stage.others(stage.leader)
        talks = [block(stage, away, "BLPOP", "q", FOR_EVER) for _ in range(2)]
        behind = block(stage, other, "BLPOP", "q", FOR_EVER)
        stage.cluster.isolate(away)
        assert stage.insist(other, "RPUSH", "q", 1) == 1
        assert behind.hear() == ["q", "1"]
        assert in_line(stage, other) == 0
        stage.cluster.heal_all()
        stage.until(lambda: in_line(stage, other) == 2)
        assert stage.insist(other, "RPUSH", "q", 2, 3) == 2
        assert [talk.hear() for talk in talks] == [["q", "2"], ["q", "3"]]
        stage.assert_one_state()


def test_who_waits_on_a_node_that_is_far_away_is_served_all_the_same() -> None:
    """Whatever it says or hears takes longer than those who are called have time, at first."""
    with Stage() as stage:
        far, near = stage.others(stage.leader)
        talk = block(stage, far, "BLPOP", "q", FOR_EVER)

        def delay(sender: str, receiver: str, message: Message) -> Fate:
            return [PATIENCE_MS / 1500] if far in (sender, receiver) else None

        stage.tampering.append(delay)
        busy = stage.connect(near)
        assert busy.ask("RPUSH", "q", 1) == 1
        began = stage.now
        while not talk.replies:
            assert stage.now - began < 20.0
            busy.ask("SET", "a", 1)
        assert talk.replies == [["q", "1"]]
        assert stage.node(near).database.shared.queues.patience
        stage.allow(delay)


def test_who_waits_in_vain_is_told_so_on_its_node_even_where_nobody_else_can_be_reached() -> None:
    with Stage() as stage:
        away = stage.others(stage.leader)[0]
        talk = block(stage, away, "BLPOP", "q", "1.5")
        unblocked = block(stage, away, "BLPOP", "q", FOR_EVER)
        began = stage.now
        stage.cluster.isolate(away)
        stage.pass_time(0.5)
        number = unblocked_id(stage, away)
        assert stage.ask(away, "CLIENT", "UNBLOCK", number, "ERROR") == 1
        assert is_error(unblocked.hear(), "UNBLOCKED")
        assert talk.hear() is None
        assert 1.4 < stage.now - began < 1.7
        stage.cluster.heal_all()
        stage.until(lambda: in_line(stage, stage.leader) == 0)


def unblocked_id(stage: Stage, name: str) -> int:
    """The number of the client that came last and waits there."""
    server = stage.machine(name).server
    assert server is not None
    return max(number for number, client in server.clients.items() if client.waits_for_node)


def test_who_waits_on_a_node_that_goes_on_from_a_snapshot_is_served() -> None:
    """What it was called with stands in the snapshot, and in nothing that the node hears of."""
    with Stage() as stage:
        leader = stage.leader
        away, other = stage.others(leader)
        talk = block(stage, away, "BLPOP", "q", FOR_EVER)
        stage.cluster.isolate(away)
        assert stage.insist(other, "RPUSH", "q", 1) == 1
        for number in range(400):
            stage.ask(other, "SET", f"k{number % 7}", "x" * 1_000)
        stage.ask(leader, "BGSAVE")
        stage.ask(other, "BGSAVE")
        stage.pass_time(3.0)
        stage.cluster.heal_all()
        assert talk.hear() == ["q", "1"]
        stage.until_settled()
        stage.assert_one_state()


def test_what_is_moved_from_list_to_list_wakes_who_waits_there() -> None:
    with Stage() as stage:
        last = block(stage, "n1", "BLPOP", "c", FOR_EVER)
        middle = block(stage, "n2", "BLMOVE", "b", "c", "LEFT", "RIGHT", FOR_EVER)
        first = block(stage, "n3", "BRPOPLPUSH", "a", "b", FOR_EVER)
        stage.ask("n1", "RPUSH", "a", "x")
        assert (first.hear(), middle.hear(), last.hear()) == ("x", "x", ["c", "x"])
        stage.assert_one_state()
