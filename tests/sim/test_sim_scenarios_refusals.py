"""Who cannot reach a quorum says so, in time, and means it (rule D8); and a node that is told to stop answers first."""

from __future__ import annotations

from collections.abc import Callable

import hiredis
import pytest

from sim.stories import Lost, Stage
from sofadb.paxos import Settings
from sofadb.server import listener
from sofadb.server.state import ServerState

PATIENCE_S = Settings().patience_ms / 1000
PATIENCE_LEADERLESS_S = Settings().patience_leaderless_ms / 1000
A_MOMENT_S = 0.1


def a_follower_is_cut_off(stage: Stage) -> str:
    (follower, _) = stage.others(stage.leader)
    stage.cluster.isolate(follower)
    return follower


def the_leader_is_cut_off(stage: Stage) -> str:
    leader = stage.leader
    stage.cluster.isolate(leader)
    return leader


def only_the_leader_lives(stage: Stage) -> str:
    leader = stage.leader
    for name in stage.others(leader):
        stage.kill(name)
    return leader


def only_a_follower_lives(stage: Stage) -> str:
    leader = stage.leader
    (survivor, other) = stage.others(leader)
    stage.kill(leader)
    stage.kill(other)
    return survivor


Situation = Callable[[Stage], str]
SITUATIONS = [a_follower_is_cut_off, the_leader_is_cut_off, only_the_leader_lives, only_a_follower_lives]


class Asker:
    """Asks one node for everything there is, each time under new names, and knows what it was told."""

    def __init__(self, stage: Stage, node: str) -> None:
        self.stage = stage
        self.number = 0
        self.never: list[str] = []
        """What was certainly not done."""
        self.perhaps: list[str] = []
        self.talks = {
            name: stage.connect(node) for name in ("write", "read", "transaction", "watch", "pipeline")
        }

    def ask(self, within_s: float) -> None:
        """Every kind of command at once: all are answered within that time, and no answer is more than is known."""
        self.number += 1
        name = "w{0},", "t{0},", "x{0},", "p{0},", "q{0},"
        write, inside, behind, first, second = (each.format(self.number) for each in name)
        say = {
            "write": [("APPEND", "log", write)],
            "read": [("GET", "log")],
            "transaction": [("MULTI",), ("APPEND", "log", inside), ("GET", "log"), ("EXEC",)],
            "watch": [("WATCH", "log"), ("MULTI",), ("APPEND", "log", behind), ("EXEC",)],
            "pipeline": [("GET", "log"), ("APPEND", "log", first), ("PING",), ("APPEND", "log", second)],
        }
        for kind, commands in say.items():
            talk = self.talks[kind]
            talk.replies.clear()
            talk.asked = 0
            talk.say(*commands)
        self.stage.until(lambda: all(talk.is_answered for talk in self.talks.values()), within_s)
        self.judge("write", 0, write)
        self.judge("transaction", 3, inside)
        self.judge("pipeline", 1, first)
        self.judge("pipeline", 3, second)
        assert self.told("read", 0) == self.told("pipeline", 0) == "NOREPLICAS"
        assert self.talks["pipeline"].replies[2] == "PONG"
        assert self.talks["transaction"].replies[:3] == ["OK", "QUEUED", "QUEUED"]
        assert [self.told("watch", 0), self.told("watch", 3)] == ["NOREPLICAS", "EXECABORT"]
        self.never.append(behind)

    def told(self, kind: str, number: int) -> str:
        reply = self.talks[kind].replies[number]
        assert isinstance(reply, hiredis.ReplyError), f"{kind}: {reply!r}"
        return str(reply).split()[0]

    def judge(self, kind: str, number: int, text: str) -> None:
        told = self.told(kind, number)
        assert told in ("NOREPLICAS", "UNCERTAIN")
        (self.never if told == "NOREPLICAS" else self.perhaps).append(text)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_who_reaches_no_quorum_refuses_everything_in_time_and_nothing_it_refused_is_ever_done(
    situation: Situation,
) -> None:
    with Stage(seed=7) as stage:
        stage.ask(stage.leader, "SET", "log", "")
        askers = {name: Asker(stage, name) for name in stage.names}
        asker = askers[situation(stage)]
        # A pipeline's write begins when the read before it is answered, so it may take two patiences.
        asker.ask(2 * PATIENCE_S + A_MOMENT_S)
        uncertain = len(asker.perhaps)
        assert uncertain <= 4, "what came before anybody could notice, and nothing else"
        for _ in range(3):
            asker.ask(2 * PATIENCE_LEADERLESS_S + A_MOMENT_S)
        assert len(asker.perhaps) == uncertain
        stage.cluster.heal_all()
        for name in stage.others(*stage.running):
            stage.start(name)
        stage.until_settled()
        stage.pass_time(2 * PATIENCE_S)
        log = stage.insist(stage.leader, "GET", "log")
        assert not [text for text in asker.never if text in log]
        assert set(log.split(",")) <= {text[:-1] for text in asker.perhaps} | {""}
        assert all(log.count(text) <= 1 for text in asker.perhaps)


def test_what_a_minority_is_asked_just_before_it_is_one_no_more_is_done() -> None:
    with Stage(seed=8) as stage:
        talk = stage.connect(stage.others(stage.leader)[0])
        node = a_follower_is_cut_off(stage)
        stage.pass_time(4 * PATIENCE_S)
        read = stage.connect(node)
        talk.say(("SET", "a", "1"))
        read.say(("GET", "a"))
        stage.pass_time(0.2)
        stage.cluster.heal_all()
        assert talk.hear(PATIENCE_S) == "OK"
        assert not isinstance(read.hear(PATIENCE_S), hiredis.ReplyError)


# A node that is told to stop


def stop(stage: Stage, node: str, within_s: float = 5.0) -> Callable[[], bool]:
    """Tell a node's server to stop; the result says whether it has."""
    machine = stage.machine(node)
    state = machine.server
    assert isinstance(state, ServerState)
    assert machine.loop is not None
    return machine.loop.create_task(listener.stop(state, within_s)).done


@pytest.mark.parametrize("is_leader", [True, False])
def test_a_node_that_is_told_to_stop_answers_what_it_has_and_ends_every_connection_in_good_order(
    is_leader: bool,
) -> None:
    with Stage(seed=9) as stage:
        node = stage.leader if is_leader else stage.others(stage.leader)[0]
        busy, idle, half, gone = (stage.connect(node) for _ in range(4))
        busy.keeps_its_half = idle.keeps_its_half = half.keeps_its_half = True
        half.say(("MULTI",), ("SET", "half", "1"))
        half.hear()
        stage.pass_time(0.1)
        busy.say(*[("INCR", "n")] * 3000)
        gone.say(("INCR", "m"))
        stage.pass_time(0.003)
        gone.leave()
        is_stopped = stop(stage, node)
        # It goes on asking: what arrives behind the end is not done, and does not break what is on its way.
        while not busy.is_told_the_end:
            busy.say(("INCR", "n"))
            stage.pass_time(0.0005)
        assert busy.replies == list(range(1, len(busy.replies) + 1))
        assert len(busy.replies) >= 3000
        stage.until(lambda: idle.is_told_the_end and half.is_told_the_end, A_MOMENT_S)
        assert half.replies == ["OK", "QUEUED"]
        for talk in (busy, idle, half):
            talk.leave()
        stage.until(is_stopped, 0.2)
        with pytest.raises((OSError, Lost)):
            stage.ask(node, "PING")
        other = stage.others(node)[0]
        assert int(stage.insist(other, "GET", "n")) == len(busy.replies)
        assert stage.insist(other, "GET", "half") is None


def test_who_does_not_end_its_half_or_reads_nothing_does_not_keep_a_node_from_stopping() -> None:
    with Stage(seed=10) as stage:
        node = stage.leader
        lazy, deaf = stage.connect(node), stage.connect(node)
        lazy.keeps_its_half = True
        lazy.say(("SET", "a", "x" * 2_000_000))
        lazy.hear()
        assert deaf._transport is not None
        deaf._transport.pause_reading()
        deaf.say(*[("GET", "a")] * 20)
        stage.pass_time(1)
        is_stopped = stop(stage, node, within_s=2.0)
        stage.until(lambda: lazy.is_told_the_end, A_MOMENT_S)
        stage.pass_time(listener.LINGER_S + A_MOMENT_S)
        server = stage.machine(node).server
        assert server is not None
        assert len(server.clients) == 1, "only who has not read is waited for"
        stage.until(is_stopped, 2.0)
