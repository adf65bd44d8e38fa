"""Messages on whole nodes: one order for the subscribers of all, nothing from before, nothing lost by a change of leader."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from sim.stories import Stage, Talk, is_error
from sim.test_sim_scenarios_snapshots import SMALL_SEGMENT_BYTES, take_snapshot, write
from sofadb.paxos import Settings
from sofadb.paxos.messages import Accept, Chosen, Learn


def subscribed(stage: Stage, node: str, *words: str) -> Talk:
    """A client that listens."""
    talk = stage.connect(node)
    (kind, _, _) = talk.ask(*(words or ("SUBSCRIBE", "news")))
    assert kind == (words or ("SUBSCRIBE",))[0].lower()
    return talk


def heard(talk: Talk) -> list[Any]:
    """What it was told on any channel, in order."""
    return [
        reply[-1] for reply in talk.replies if isinstance(reply, list) and str(reply[0]).endswith("message")
    ]


def test_subscribers_of_all_nodes_hear_all_in_one_order_whoever_publishes() -> None:
    with Stage() as stage:
        listeners = {name: subscribed(stage, name) for name in stage.names}
        publishers = {name: stage.connect(name) for name in stage.names}
        for number in range(40):
            for name, talk in publishers.items():
                talk.say(("PUBLISH", "news", f"{name}.{number}"))
        stage.until(lambda: all(talk.is_answered for talk in publishers.values()))
        stage.until(lambda: all(len(heard(talk)) == 120 for talk in listeners.values()))
        first, *others = map(heard, listeners.values())
        assert all(other == first for other in others)
        assert len({each.partition(".")[0] for each in first[:60]}) > 1, "they came interleaved"
        for name, talk in publishers.items():
            assert talk.replies == [1] * 40
            assert [each for each in first if each.startswith(name)] == [f"{name}.{n}" for n in range(40)]


def test_a_leader_that_dies_loses_and_repeats_no_message_for_the_others_subscribers() -> None:
    with Stage() as stage:
        leader = stage.leader
        alive = stage.others(leader)
        listeners = [subscribed(stage, name) for name in alive]
        publishers = [stage.connect(name) for name in alive]
        for number in range(60):
            for which, talk in enumerate(publishers):
                talk.say(("PUBLISH", "news", f"{which}.{number}"))
            if number == 20:
                stage.kill(leader)
            stage.pass_time(0.002)
        stage.until(lambda: all(talk.is_answered for talk in publishers))
        stage.until(lambda: all(len(heard(talk)) == 120 for talk in listeners))
        first, second = map(heard, listeners)
        assert first == second
        for which, talk in enumerate(publishers):
            assert talk.replies == [1] * 60
            assert [each for each in first if each.startswith(f"{which}.")] == [
                f"{which}.{number}" for number in range(60)
            ]


@pytest.mark.parametrize("command", ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"])
def test_who_subscribes_hears_nothing_that_was_published_before_though_its_node_does_not_know_it_yet(
    command: str,
) -> None:
    publish = "SPUBLISH" if command == "SSUBSCRIBE" else "PUBLISH"
    with Stage() as stage:
        leader = stage.leader
        late = stage.others(leader)[0]
        tamper = stage.lose((Accept, Learn, Chosen), receiver=late)
        assert stage.ask(leader, publish, "news", "before") == 0
        listener = stage.connect(late)
        listener.say((command, "news"))
        stage.pass_time(0.2)
        stage.allow(tamper)
        listener.hear()
        assert stage.ask(leader, publish, "news", "after") == 0
        stage.until(lambda: bool(heard(listener)))
        assert heard(listener) == ["after"]


def test_who_subscribes_in_a_transaction_does_not_either() -> None:
    with Stage() as stage:
        leader = stage.leader
        late = stage.others(leader)[0]
        tamper = stage.lose((Accept, Learn, Chosen), receiver=late)
        assert stage.ask(leader, "PUBLISH", "news", "before") == 0
        listener = stage.connect(late)
        listener.say(("MULTI",), ("SUBSCRIBE", "news"), ("EXEC",))
        stage.pass_time(0.2)
        stage.allow(tamper)
        stage.until(lambda: len(listener.replies) >= 3)
        assert stage.ask(leader, "PUBLISH", "news", "after") == 0
        stage.until(lambda: bool(heard(listener)))
        assert heard(listener) == ["after"]


def test_where_nobody_can_be_reached_one_can_listen_all_the_same() -> None:
    with Stage() as stage:
        leader = stage.leader
        alone = stage.others(leader)[0]
        stage.cluster.isolate(alone)
        listener = stage.connect(alone)
        assert listener.ask("SUBSCRIBE", "news", within_s=10) == ["subscribe", "news", 1]
        assert stage.ask(leader, "PUBLISH", "news", "meanwhile") == 0
        assert not heard(listener)
        stage.cluster.heal_all()
        stage.until(lambda: heard(listener) == ["meanwhile"])


def test_a_node_that_reads_its_log_back_tells_nothing_of_it() -> None:
    """Clients listen from the first moment on; all died with the last acknowledgement."""
    with Stage() as stage:
        for number in range(50):
            assert stage.ask(stage.leader, "PUBLISH", "news", f"before {number}") == 0
        for name in stage.names:
            stage.kill(name)
            stage.cluster.start(name)
        listeners: dict[str, Talk] = {}
        while len(listeners) < 3:
            for name in stage.others(*listeners):
                try:
                    listeners[name] = stage.connect(name)
                    listeners[name].say(("SUBSCRIBE", "news"))
                except OSError:
                    stage.pass_time(0.0005)
        stage.until(lambda: all(talk.is_answered for talk in listeners.values()))
        assert stage.insist("n1", "PUBLISH", "news", "after") == 1
        stage.until(lambda: all(map(heard, listeners.values())))
        assert [heard(talk) for talk in listeners.values()] == [["after"]] * 3


def test_subscribers_of_a_node_that_goes_on_from_a_snapshot_miss_what_is_in_it_and_hear_what_follows() -> (
    None
):
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES, settings=Settings(tail_bytes_max=2_000)) as stage:
        leader = stage.leader
        late = stage.others(leader)[0]
        listener = subscribed(stage, late)
        events = subscribed(stage, late, "PSUBSCRIBE", "__keyevent@0__:*")
        assert stage.ask(late, "CONFIG", "SET", "notify-keyspace-events", "El") == "OK"
        stage.cluster.isolate(late)
        assert stage.ask(leader, "PUBLISH", "news", "skipped") == 0
        assert stage.ask(leader, "RPUSH", "list", "skipped") == 1
        for first in (100, 200, 300):
            write(stage, first, first + 100)
            for name in stage.others(late):
                take_snapshot(stage, name)
        stage.pass_time(8.0)  # What was on its way to it is given up.
        stage.cluster.heal_all()
        stage.until(lambda: stage.node(late).applied == stage.node(leader).applied)
        assert stage.ask(leader, "PUBLISH", "news", "heard") == 0
        assert stage.ask(leader, "LPOP", "list") == "skipped"
        stage.until(lambda: bool(heard(listener) and heard(events)))
        assert heard(listener) == ["heard"]
        assert heard(events) == ["list"]


def test_a_message_is_said_or_refused_as_any_write_is() -> None:
    with Stage() as stage:
        leader = stage.leader
        listener = subscribed(stage, stage.others(leader)[0])
        for name in stage.others(leader):
            stage.cluster.isolate(name)
        answer = stage.ask(leader, "PUBLISH", "news", "perhaps", within_s=20)
        assert is_error(answer, "UNCERTAIN") or is_error(answer, "NOREPLICAS")
        assert isinstance(answer, hiredis.ReplyError)
        assert not heard(listener)
        stage.cluster.heal_all()
        stage.until_settled()
        stage.assert_one_state()
