"""Who leads goes on leading, whoever comes back, hangs or is hard to hear; and who gives way does so without anybody noticing.

Clients of all nodes ask all the while, in pipelines with transactions in them, and none of them is told of any of it: what they
are answered is exactly what one node that never failed would answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from redis import exceptions

from sim.stories import LATENCY_S, Fate, Stage, Talk
from sofadb.paxos import Deliver, Message, Send, Settings
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Confirm, TakeOver
from sofadb.testing import SimulatedCluster

TIMEOUT_MS = Settings().election_timeout_ms
HEARTBEAT_S = Settings().heartbeat_ms / 1000
WITH_LEASES = Settings(lease_ms=270)
UNNOTICED_S = 0.05
"""A longer pause than this is one."""
HAND_OVER_S = 0.1
"""A planned change of leaders takes less than this."""
FAILOVER_S = 1.5
"""And one that nobody planned less than this."""
EVERY_S = 0.02
"""So often each client sends something."""
RETURN_S = 3.0
"""So long somebody who has come back has time to do harm."""


class Load:
    """A client on each of some nodes, which goes on asking without waiting for answers, and knows what these must be."""

    def __init__(self, stage: Stage, nodes: list[str]) -> None:
        self.stage = stage
        self.talks = {node: stage.connect(node) for node in nodes}
        self.asked_at: list[float] = []
        """When each turn was asked for."""

    def ask(self) -> None:
        """Each client asks for its next turn. On a key of its own, it counts twice, once of that in a transaction."""
        self.asked_at.append(self.stage.now)
        for node, talk in self.talks.items():
            talk.say(
                ("INCR", node),
                ("MULTI",),
                ("INCR", node),
                ("APPEND", f"{node}:log", "x"),
                ("EXEC",),
                ("GET", node),
            )

    def go_on(self, seconds: float, every_s: float = EVERY_S) -> None:
        """Ask for so long."""
        end = self.stage.now + seconds
        while self.stage.now < end:
            self.ask()
            self.stage.pass_time(every_s)

    def expected(self) -> list[object]:
        """What each client must have been told."""
        replies: list[object] = []
        for turn in range(len(self.asked_at)):
            count = 2 * turn + 2
            replies += [count - 1, "OK", "QUEUED", "QUEUED", [count, turn + 1], str(count)]
        return replies

    def finish(self) -> None:
        """Wait for all answers. They are what one node that never failed would have answered."""
        for talk in self.talks.values():
            talk.hear()
            assert talk.replies == self.expected()

    def pause_s(self) -> float:
        """For how long, at most, somebody waited for the last answer of a turn."""
        return max(
            told_at - asked_at
            for talk in self.talks.values()
            for asked_at, told_at in zip(self.asked_at, talk.told_at[5::6], strict=True)
        )


# Whoever comes back, hangs, or is hard to hear


def is_cut_off(stage: Stage, name: str) -> Callable[[], object]:
    stage.cluster.isolate(name)
    return stage.cluster.heal_all


def is_paused(stage: Stage, name: str) -> Callable[[], object]:
    stage.cluster.pause(name)
    return lambda: stage.cluster.resume(name)


def is_dead(stage: Stage, name: str) -> Callable[[], object]:
    stage.kill(name)
    return lambda: stage.start(name)


def has_a_slow_disk(stage: Stage, name: str) -> Callable[[], object]:
    host = stage.machine(name).host
    assert host is not None
    host.disk_latency_s = (0.2, 0.8)
    return lambda: setattr(host, "disk_latency_s", stage.cluster.disk_latency_s)


def has_a_stuck_disk(stage: Stage, name: str) -> Callable[[], object]:
    host = stage.machine(name).host
    assert host is not None
    host.stalled_until = stage.now + 10.0
    return lambda: None


def does_not_hear_the_leader(stage: Stage, name: str) -> Callable[[], object]:
    stage.cluster.cut(stage.leader, name)
    return stage.cluster.heal_all


def is_not_heard_by_the_leader(stage: Stage, name: str) -> Callable[[], object]:
    stage.cluster.cut(name, stage.leader)
    return stage.cluster.heal_all


def hears_nobody(stage: Stage, name: str) -> Callable[[], object]:
    for other in stage.others(name):
        stage.cluster.cut(other, name)
    return stage.cluster.heal_all


def is_heard_by_nobody(stage: Stage, name: str) -> Callable[[], object]:
    for other in stage.others(name):
        stage.cluster.cut(name, other)
    return stage.cluster.heal_all


@pytest.mark.parametrize(
    "befall",
    [
        is_cut_off,
        is_paused,
        is_dead,
        has_a_slow_disk,
        has_a_stuck_disk,
        does_not_hear_the_leader,
        is_not_heard_by_the_leader,
        hears_nobody,
        is_heard_by_nobody,
    ],
)
def test_whatever_befalls_one_of_the_others_and_passes_the_leader_leads_on_unnoticed(
    befall: Callable[[Stage, str], Callable[[], object]],
) -> None:
    """For ten seconds, and then it comes back. Nobody raises a ballot for it, and no client of the two others notices."""
    with Stage() as stage:
        leader = stage.leader
        odd, other = stage.others(leader)
        began = stage.highest_round
        load = Load(stage, [leader, other])
        undo = befall(stage, odd)
        load.go_on(10.0, every_s=0.25)
        undo()
        load.go_on(RETURN_S, every_s=0.05)
        load.finish()
        assert load.pause_s() < UNNOTICED_S
        assert stage.leader == leader
        assert stage.highest_round == began
        stage.assert_one_state()


def test_a_leader_whose_disk_hangs_steps_down_and_clients_of_all_nodes_see_only_a_pause() -> None:
    """Its own, too: what they ask for is done by the next leader while that disk still hangs."""
    with Stage() as stage:
        leader = stage.leader
        load = Load(stage, stage.names)
        load.go_on(0.2)
        host = stage.machine(leader).host
        assert host is not None
        host.stalled_until = stage.now + 10.0
        load.go_on(2.0, every_s=0.1)
        assert stage.leader not in ("", leader)
        load.finish()
        assert host.stalled_until > stage.now
        assert load.pause_s() < FAILOVER_S
        assert stage.cluster.watch.leaders_seen == 2
        stage.assert_one_state()


# Handing over


def hand_over(stage: Stage, to: str | None, within_s: float = 1.0) -> None:
    """The leader is asked to."""
    machine = stage.machine(stage.leader)
    assert machine.loop is not None
    machine.loop.call_soon(stage.node(stage.leader).hand_over, to, within_s * 1000)


@pytest.mark.parametrize("settings", [Settings(), WITH_LEASES], ids=["", "with leases"])
@pytest.mark.parametrize("named", [False, True], ids=["to anybody", "to one by name"])
def test_a_leader_hands_over_under_load_and_no_client_notices(settings: Settings, named: bool) -> None:
    """Five times, to one after the other."""
    with Stage(settings=settings) as stage:
        load = Load(stage, stage.names)
        load.go_on(0.2)
        for _ in range(5):
            leader = stage.leader
            to = stage.others(leader)[0] if named else None
            hand_over(stage, to)
            load.go_on(0.2)
            assert stage.leader not in ("", leader)
            assert to in (None, stage.leader)
        load.finish()
        assert load.pause_s() < HAND_OVER_S
        assert stage.cluster.watch.leaders_seen == 6
        stage.assert_one_state()


def test_giving_way_is_done_when_another_leads() -> None:
    """As a node does that is told to stop."""
    with Stage() as stage:
        leader = stage.leader
        running, loop = stage.machine(leader).running, stage.machine(leader).loop
        assert running is not None
        assert loop is not None
        load = Load(stage, stage.names)
        load.go_on(0.2)
        task = loop.create_task(running.give_way(1.0))
        while not task.done():
            load.go_on(EVERY_S)
        assert not stage.machine(leader).is_leading
        assert stage.leader not in ("", leader)
        load.go_on(0.2)
        load.finish()
        assert load.pause_s() < HAND_OVER_S
        stage.assert_one_state()


@pytest.mark.parametrize("is_known", [False, True], ids=["just now", "for long"])
def test_handing_over_to_one_that_is_cut_off_is_a_short_pause_and_no_more(is_known: bool) -> None:
    """If the leader knows already that it does not hear it, not even that."""
    within_s = 0.2
    with Stage() as stage:
        leader = stage.leader
        odd, other = stage.others(leader)
        began = stage.highest_round
        load = Load(stage, [leader, other])
        stage.cluster.isolate(odd)
        load.go_on(1.0 if is_known else EVERY_S)
        hand_over(stage, odd, within_s)
        load.go_on(1.0)
        load.finish()
        assert load.pause_s() < (UNNOTICED_S if is_known else within_s + UNNOTICED_S)
        assert stage.leader == leader
        assert stage.highest_round == began
        stage.cluster.heal_all()
        stage.assert_one_state()


# Slow networks


def is_late_now_and_then(chance: random.Random) -> Callable[[str, str, Message], Fate]:
    """Three messages of ten are late by up to 200 ms."""
    return lambda sender, receiver, message: [chance.uniform(0, 0.2)] if chance.random() < 0.3 else None


@pytest.mark.parametrize("way_s", [LATENCY_S, (0.19, 0.21), (0.29, 0.31)], ids=["", "0.4 s", "0.6 s"])
@pytest.mark.parametrize("is_jittery", [False, True], ids=["", "jittery"])
def test_however_long_a_round_trip_takes_a_leader_is_found_and_stays_and_serves(
    way_s: tuple[float, float], is_jittery: bool
) -> None:
    with Stage(latency_s=way_s) as stage:
        if is_jittery:
            stage.tampering.append(is_late_now_and_then(random.Random(1)))
            stage.pass_time(RETURN_S)
            stage.until_settled()
        leader, began = stage.leader, stage.highest_round
        assert began <= 3
        load = Load(stage, stage.names)
        load.go_on(60.0, every_s=4.0)
        load.finish()
        assert stage.leader == leader
        assert stage.highest_round == began
        stage.assert_one_state()


def test_when_the_network_is_quick_again_so_is_failover() -> None:
    with Stage(latency_s=(0.19, 0.21)) as stage:
        assert all(timeout_ms > 4 * TIMEOUT_MS for timeout_ms in timeouts(stage))
        for one in stage.names:
            for other in stage.names:
                if one != other:
                    stage.cluster.network.link(one, other).latency_s = LATENCY_S
        stage.until(lambda: set(timeouts(stage)) == {TIMEOUT_MS})
        leader = stage.leader
        talk = quick_talk(stage, stage.others(leader)[0])
        stage.kill(leader)
        began = stage.now
        assert talk.ask("SET", "x", 1) == "OK"
        assert stage.now - began < 1.0


def timeouts(stage: Stage) -> list[float]:
    """After how long each node misses its leader, in milliseconds."""
    return [stage.node(name).driver.replica.pace.timeout_ms for name in stage.names]


def quick_talk(stage: Stage, node: str) -> Talk:
    """A client to whom its node is near."""
    talk = stage.connect(node)
    for one, other in (("teller", node), (node, "teller")):
        stage.cluster.network.link(one, other).latency_s = LATENCY_S
    return talk


# Leases


@pytest.mark.parametrize("who", ["the leader", "a follower"])
@pytest.mark.parametrize("has_leases", [True, False])
def test_with_a_lease_reads_cost_no_round_of_confirmation(who: str, has_leases: bool) -> None:
    with Stage(settings=WITH_LEASES if has_leases else Settings()) as stage:
        leader = stage.leader
        talk = stage.connect(leader if who == "the leader" else stage.others(leader)[0])
        assert talk.ask("SET", "x", 1) == "OK"
        stage.pass_time(1.0)
        asked: list[Confirm] = []

        def count(sender: str, receiver: str, message: Message) -> Fate:
            if isinstance(message, Confirm):
                asked.append(message)
            return None

        stage.tampering.append(count)
        began, reads = stage.now, 500
        for _ in range(reads):
            assert talk.ask("GET", "x") == "1"
        heartbeats = (stage.now - began) / HEARTBEAT_S
        rounds = len({message.round for message in asked})
        assert rounds <= heartbeats + 1 if has_leases else rounds >= reads


def read_on(stage: Stage, old: str, written: Talk) -> list[object]:
    """Read on one node all the time. What is asked for once a write on another was answered sees that write.

    Returns what was read.
    """
    reader = stage.connect(old)
    asked_at: list[float] = []
    end = stage.now + 1.0
    while stage.now < end:
        asked_at.append(stage.now)
        reader.say(("GET", "x"))
        stage.pass_time(0.001)
    assert written.replies == ["OK"]
    stage.tampering.clear()
    stage.cluster.heal_all()
    reader.hear()
    afterwards = zip(asked_at, reader.replies, strict=True)
    assert {reply for at, reply in afterwards if at > written.told_at[0]} == {"2"}
    return reader.replies


@pytest.mark.parametrize("seed", range(4))
def test_followers_that_are_restarted_elect_nobody_while_the_leader_may_read_by_its_lease(seed: int) -> None:
    """They do not know that they heard of it just now, and so do not wait until they miss it; it does not hear them."""
    with Stage(seed=seed, settings=WITH_LEASES) as stage:
        leader = stage.leader
        others = stage.others(leader)
        assert stage.ask(leader, "SET", "x", 1) == "OK"
        stage.pass_time(1.0)
        stage.cluster.isolate(leader)
        for name in others:
            stage.kill(name)
        for name in others:
            stage.start(name)
        written = stage.connect(others[0])
        written.say(("SET", "x", 2))
        assert "1" in read_on(stage, leader, written)
        stage.assert_one_state()


def test_a_leader_that_has_given_way_reads_by_its_lease_no_more_though_it_does_not_hear_its_successor() -> (
    None
):
    with Stage(settings=WITH_LEASES) as stage:
        leader = stage.leader
        successor = stage.others(leader)[0]
        assert stage.ask(leader, "SET", "x", 1) == "OK"
        stage.pass_time(1.0)
        has_given_way = False

        def deafen(sender: str, receiver: str, message: Message) -> Fate:
            nonlocal has_given_way
            has_given_way = has_given_way or isinstance(message, TakeOver)
            return [] if has_given_way and receiver == leader else None

        stage.tampering.append(deafen)
        written = stage.connect(successor)
        hand_over(stage, successor)
        stage.until(lambda: stage.leader == successor)
        written.say(("SET", "x", 2))
        read_on(stage, leader, written)
        stage.assert_one_state()


@pytest.mark.parametrize("seed", range(2))
def test_on_drifting_clocks_what_is_read_by_leases_is_linearizable_through_isolations_and_handovers(
    seed: int,
) -> None:
    """Each clock runs as fast or slow as it may. Leaders are cut off, paused, made to hand over, their followers restarted."""
    with SimulatedCluster(settings=WITH_LEASES, seed=f"leases {seed}") as cluster:
        chance = random.Random(seed)
        end = cluster.now + 9.0

        async def work(number: int, node: str) -> None:
            recorder = cluster.recorder(node, number)
            while cluster.now < end:
                try:
                    if chance.random() < 0.7:
                        await recorder.get("x")
                    else:
                        await recorder.set("x", f"{number} {cluster.now}")
                except exceptions.RedisError:
                    await asyncio.sleep(0.02)
                await asyncio.sleep(chance.uniform(0.0, 0.06))

        async def harm() -> None:
            for turn in range(8):
                await asyncio.sleep(0.7)
                for node in cluster.nodes:
                    cluster.set_rate(node, chance.choice((0.99, 1.01)))
                leader = cluster.leader or "n1"
                if turn % 4 == 3:
                    await cluster.client(leader).execute_command("FAILOVER")
                elif turn % 4 == 1:
                    cluster.pause(leader, chance.uniform(0.3, 0.9))
                else:
                    cluster.isolate(leader)
                    for node in (node for node in cluster.nodes if turn % 4 == 0 and node != leader):
                        cluster.crash(node)
                        cluster.start(node)
                    await asyncio.sleep(0.8)
                    cluster.heal()

        async def story(cluster: SimulatedCluster) -> None:
            clients = (work(number, f"n{1 + number % 3}") for number in range(6))
            await asyncio.gather(harm(), *clients)

        cluster.run(story)
        assert len(cluster.history) > 500
        cluster.assert_linearizable()
        cluster.assert_nothing_was_lost()


@pytest.mark.parametrize("sleeps_s", [0.0, 10.0], ids=["until another has written", "and ten seconds more"])
def test_a_leader_that_was_suspended_for_longer_than_its_lease_answers_nothing_stale(sleeps_s: float) -> None:
    """It was asked just before it fell asleep and reads that first when it wakes, before it has looked at the time."""
    with Stage(settings=WITH_LEASES) as stage:
        leader = stage.leader
        other = stage.others(leader)[0]
        assert stage.ask(leader, "SET", "x", 1) == "OK"
        stage.pass_time(1.0)
        phase = stage.node(leader).driver.replica.phase
        assert isinstance(phase, Leading)
        assert phase.holds_lease
        talk, late = stage.connect(leader), stage.connect(leader)
        stage.cluster.pause(leader)
        talk.say(("GET", "x"))
        assert stage.insist(other, "SET", "x", 2) == "OK"
        late.say(("GET", "x"))
        stage.pass_time(sleeps_s)
        stage.cluster.resume(leader)
        assert talk.hear() == "2"
        assert late.hear() == "2"
        stage.assert_one_state()


# Whoever is busy for long


SLOW = b"slow"
"""What takes long to be executed."""


def executes_slowly(stage: Stage, name: str, seconds: float) -> None:
    """On this node, what has that word in it; meanwhile nothing is sent."""
    machine = stage.machine(name)
    assert machine.loop is not None
    loop, perform = machine.loop, stage.node(name).driver._perform
    deliver, send = perform[Deliver], perform[Send]

    def deliver_slowly(effect: Deliver) -> None:
        deliver(effect)
        if any(SLOW in bytes(entry.payload) for _, entry in effect.entries):
            loop.stall(seconds)

    def send_when_awake(effect: Send) -> None:
        if loop.is_stalled:
            loop.call_soon(send, effect)
        else:
            send(effect)

    perform[Deliver], perform[Send] = deliver_slowly, send_when_awake


@pytest.mark.parametrize("settings", [Settings(), WITH_LEASES], ids=["", "with leases"])
@pytest.mark.parametrize("differing_s", [0.0, 0.2])
@pytest.mark.parametrize("asked", ["the leader", "a follower"])
def test_what_takes_all_nodes_long_costs_nobody_the_lead(
    settings: Settings, differing_s: float, asked: str
) -> None:
    """Several seconds in all, five times the election timeout each; nobody raises a ballot for it."""
    with Stage(settings=settings) as stage:
        leader, began = stage.leader, stage.highest_round
        for number, name in enumerate(stage.names):
            executes_slowly(stage, name, 1.5 + number * differing_s / 2)
        node = leader if asked == "the leader" else stage.others(leader)[0]
        for turn in range(4):
            assert stage.ask(node, "SET", SLOW, turn) == "OK"
            assert [stage.ask(name, "GET", SLOW) for name in stage.names] == [str(turn)] * 3
        assert stage.leader == leader
        assert stage.highest_round == began
        stage.assert_one_state()


def test_a_leader_that_dies_of_it_is_missed_all_the_same() -> None:
    with Stage() as stage:
        leader = stage.leader
        talk = stage.connect(stage.others(leader)[0])
        for name in stage.names:
            executes_slowly(stage, name, 1.5)
        talk.say(("SET", SLOW, 1))
        stage.pass_time(0.1)
        stage.kill(leader)
        talk.hear()
        assert talk.ask("GET", SLOW, within_s=1.5 + 2 * FAILOVER_S) == "1"
        assert stage.leader not in ("", leader)
