"""Messages on whole nodes: one order for the subscribers of all, nothing from before, nothing lost by a change of leader."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import combinations
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


# Random worlds


@dataclass
class Listener:
    talk: Talk
    asked_at: float

    @property
    def since(self) -> float | None:
        """When it was told that it is heard; None if it was not."""
        return self.talk.told_at[0] if self.talk.replies else None


@dataclass
class Said:
    text: str
    talk: Talk
    asked_at: float

    @property
    def done_at(self) -> float | None:
        """When it was acknowledged; None if it was not."""
        is_done = bool(self.talk.replies) and not is_error(self.talk.replies[0])
        return self.talk.told_at[0] if is_done else None


class World:
    """Nodes that die, come back, and are cut off, while clients come, listen and say things everywhere."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.chance = random.Random(seed)
        self.listeners: list[Listener] = []
        self.said: list[Said] = []

    def go_on(self, steps: int) -> None:
        kinds = (self.say, self.listen, self.kill, self.start, self.isolate, self.heal)
        for _ in range(steps):
            (kind,) = self.chance.choices(kinds, (60, 12, 2, 4, 2, 4))
            kind()
            self.stage.pass_time(self.chance.uniform(0, 0.03))

    def connect(self) -> Talk | None:
        try:
            return self.stage.connect(self.chance.choice(self.stage.names))
        except OSError:
            return None

    def say(self) -> None:
        if (talk := self.connect()) is not None:
            said = Said(str(len(self.said)), talk, self.stage.now)
            talk.say(("PUBLISH", "news", said.text))
            self.said.append(said)

    def listen(self) -> None:
        if (talk := self.connect()) is not None:
            self.listeners.append(Listener(talk, self.stage.now))
            talk.say(("SUBSCRIBE", "news"))

    def kill(self) -> None:
        if len(self.stage.running) == 3:
            self.stage.kill(self.chance.choice(self.stage.names))

    def start(self) -> None:
        for name in self.stage.names:
            if not self.stage.machine(name).is_up:
                self.stage.cluster.start(name)

    def isolate(self) -> None:
        self.heal()
        self.stage.cluster.isolate(self.chance.choice(self.stage.names))

    def heal(self) -> None:
        self.stage.cluster.heal_all()

    def judge(self) -> None:
        said = {each.text: each for each in self.said}
        for listener in self.listeners:
            told = heard(listener.talk)
            assert len(set(told)) == len(told), "nothing is heard twice"
            for text in told:
                done_at = said[text].done_at
                assert done_at is None or done_at >= listener.asked_at, f"{text} had been said before"
            if listener.since is not None and not listener.talk.is_lost:
                missed = {
                    each.text
                    for each in self.said
                    if each.done_at is not None and each.asked_at > listener.since
                }
                assert missed <= set(told), "what is said after the reply to SUBSCRIBE is heard"
        for one, other in combinations((heard(each.talk) for each in self.listeners), 2):
            both = set(one) & set(other)
            assert between(one, both) == between(other, both), "one order, and no gaps"


def between(told: list[str], both: set[str]) -> list[str]:
    """What is heard from the first of these on, up to the last."""
    places = [place for place, text in enumerate(told) if text in both]
    return told[places[0] : places[-1] + 1] if places else []


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_all_hear_pieces_of_one_order(seed: int) -> None:
    with Stage(seed=seed) as stage:
        world = World(stage, seed)
        world.go_on(250)
        world.heal()
        world.start()
        stage.until_settled()
        for _ in range(20):
            world.say()
        stage.pass_time(10.0)
        world.judge()
        stage.assert_one_state()
        done = sum(each.done_at is not None for each in world.said)
        assert done > len(world.said) // 3
        assert sum(map(len, (heard(each.talk) for each in world.listeners))) > done
