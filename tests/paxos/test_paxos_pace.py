"""How long is waited for follows the round trips, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paxos.cluster import Cluster, Packet
from sofadb.paxos.ballot import NO_BALLOT, Instance
from sofadb.paxos.effects import Send
from sofadb.paxos.events import HandOver, Received, Tick
from sofadb.paxos.following import CANVASSED_MAX, Following
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Confirm, Confirmed, Support
from sofadb.paxos.pace import Pace
from sofadb.paxos.settings import Settings
from sofadb.paxos.values import Configuration

SETTINGS = Settings()
FIVE = (Configuration(("n1", "n2", "n3", "n4", "n5")),)


def test_short_round_trips_leave_the_timeout_at_its_lower_bound() -> None:
    pace = Pace(SETTINGS)
    for node in ("n2", "n3", "n4", "n5"):
        pace.measured(node, 2.0, FIVE, 0.0)
    assert (pace.timeout_ms, pace.heartbeat_ms, pace.resend_ms) == (300, 50, 200)


def test_where_a_quorum_is_far_away_everything_is_slower() -> None:
    pace = Pace(SETTINGS)
    for _ in range(50):
        for node in ("n2", "n3", "n4", "n5"):
            pace.measured(node, 200.0, FIVE, 0.0)
    assert pace.timeout_ms == 1_200
    assert pace.heartbeat_ms == pytest.approx(pace.timeout_ms / 6)
    assert pace.resend_ms == pytest.approx(pace.timeout_ms * 2 / 3)


def test_a_minority_far_away_slows_nobody_down() -> None:
    pace = Pace(SETTINGS)
    for _ in range(50):
        for node, ms in (("n2", 1.0), ("n3", 1.0), ("n4", 900.0), ("n5", 900.0)):
            pace.measured(node, ms, FIVE, 0.0)
    assert pace.timeout_ms == 300


def test_what_a_pause_or_a_cut_link_delayed_says_nothing_of_the_way() -> None:
    pace = Pace(SETTINGS)
    three = (Configuration(("n1", "n2", "n3")),)
    for node in ("n2", "n3"):
        pace.measured(node, 1.0, three, 0.0)
        for late in (2_000.0, 1_500.0, 1_000.0, 500.0):
            pace.measured(node, late, three, 2_000.0)
    assert pace.timeout_ms == 300


def test_who_has_not_answered_for_long_does_not_count() -> None:
    """One of three is near and falls silent; the other one is far away, and from now on the quorum."""
    pace = Pace(SETTINGS)
    three = (Configuration(("n1", "n2", "n3")),)
    for now in range(0, 20_000, 1_000):
        if now < 5_000:
            pace.measured("n2", 1.0, three, now)
        pace.measured("n3", 300.0, three, now)
        assert pace.timeout_ms == 300 or now > 14_000
    assert pace.timeout_ms == 1_800


def test_what_was_measured_long_ago_is_not_mixed_with_what_is_measured_now() -> None:
    pace = Pace(SETTINGS)
    for _ in range(50):
        pace.measured("n2", 400.0, FIVE, 0.0)
        pace.measured("n3", 400.0, FIVE, 0.0)
    assert pace.timeout_ms > 2_000
    for node in ("n2", "n3"):
        pace.measured(node, 1.0, FIVE, 3_600_000.0)
    assert pace.timeout_ms == 300


def test_what_a_leader_has_told_holds_until_one_measures_by_oneself() -> None:
    pace = Pace(SETTINGS)
    pace.told(2_000)
    assert pace.timeout_ms == 2_000
    pace.measured("n2", 1.0, FIVE, 0.0)
    assert pace.timeout_ms == 300


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e9)), max_size=30), st.floats(0, 1e12))
def test_whatever_is_measured_and_told_the_operators_bounds_hold(
    samples: list[tuple[str, float]], told: float
) -> None:
    pace = Pace(SETTINGS)
    for node, ms in samples:
        pace.measured(node, ms, (Configuration(("a", "b", "c")),), 0.0)
        assert 300 <= pace.timeout_ms <= 3_000
    pace.told(told)
    assert 300 <= pace.timeout_ms <= 3_000


def test_a_follower_keeps_to_what_its_leader_tells() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    leader = cluster.elect()
    follower = next(name for name in cluster.nodes if name != leader)
    replica = cluster.replica(follower)
    ballot = replica.ballot
    cluster.step(follower, Received(leader, Confirm(ballot, 99, Instance(0), 1_000)))
    assert replica.pace.timeout_ms == replica.clocks.age_ms_max == 1_000
    cluster.step(follower, Received(leader, Confirm(ballot, 99, Instance(0), 10**15)))
    assert replica.pace.timeout_ms == 3_000
    cluster.step(follower, Received(leader, Confirm(ballot, 99, Instance(0), 0)))
    assert replica.pace.timeout_ms == 300


def test_a_follower_told_a_shorter_timeout_misses_its_leader_sooner() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    leader = cluster.elect()
    follower = next(name for name in cluster.nodes if name != leader)
    replica = cluster.replica(follower)
    following = replica.phase
    assert isinstance(following, Following)
    following.deadline = cluster.now + 5_000
    cluster.step(follower, Received(leader, Confirm(replica.ballot, 99, Instance(0), 300)))
    assert following.deadline <= cluster.now + 600


def test_a_leader_measures_by_its_heartbeats_each_answer_once_and_no_answer_that_it_did_not_ask_for() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    leader = cluster.elect()
    other = next(name for name in cluster.nodes if name != leader)
    cluster.advance(50)
    replica = cluster.replica(leader)
    phase = replica.phase
    assert isinstance(phase, Leading)
    measured: list[tuple[str, float]] = []
    replica.measured = lambda node, ms: measured.append((node, ms))  # type: ignore[method-assign]
    cluster.now += 50
    cluster.step(leader, Tick())
    cluster.network.clear()
    answer = Confirmed(phase.ballot, phase.confirming.number, Instance(0), 0)
    cluster.now += 7
    for _ in range(2):
        cluster.step(leader, Received(other, answer))
    cluster.step(leader, Received(other, Confirmed(phase.ballot, 10**9, Instance(0), 0)))
    assert measured == [(other, 7)]


def test_a_leader_that_was_told_of_long_round_trips_and_finds_short_ones_goes_on() -> None:
    """Its next heartbeat was due by the long ones, its followers would be out of hearing by the short ones."""
    cluster = Cluster(["n1", "n2", "n3"])
    old = cluster.elect()
    new, third = (name for name in cluster.nodes if name != old)
    for name in cluster.nodes:
        cluster.replica(name).pace.told(3_000)
    cluster.step(old, HandOver(new, 1_000))
    cluster.settle()
    lead = cluster.replica(new).phase
    assert isinstance(lead, Leading)
    assert cluster.replica(new).pace.timeout_ms == 300
    cluster.advance(1_000)
    assert cluster.replica(new).phase is lead
    assert cluster.replica(third).pace.timeout_ms == 300


@pytest.mark.parametrize("seed", range(5))
def test_who_finds_out_that_the_others_are_far_away_does_not_begin_to_wait_anew(seed: int) -> None:
    """The near one leads and dies. The first canvass ends before its answers arrive: the timeout grows while one asks around."""
    cluster = Cluster(["n1", "n2", "n3"], seed)
    cluster.crash(cluster.elect())
    began = cluster.now
    late: list[tuple[float, Packet]] = []

    def send_late(sender: str, effect: Send) -> None:
        late.append((cluster.now + 200, Packet(sender, effect.to, effect.message)))

    cluster.send = send_late  # type: ignore[method-assign]
    while cluster.leader is None:
        while late and late[0][0] <= cluster.now:
            cluster.network.append(late.pop(0)[1])
        cluster.advance(1)
    assert cluster.now - began < 2_500


def late_support(cluster: Cluster) -> tuple[Following, int]:
    """n1 has asked the others, and hears nothing for long."""
    cluster.crash("n2")
    cluster.crash("n3")
    cluster.advance(5_000)
    following = cluster.replica("n1").phase
    assert isinstance(following, Following)
    assert following.attempt
    return following, following.attempt


def test_an_answer_that_comes_too_late_for_a_canvass_makes_the_next_one_more_patient() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    following, attempt = late_support(cluster)
    asked_at = following._canvassed[attempt, "n2"]
    cluster.now = max(cluster.now, asked_at + 250)
    cluster.step("n1", Received("n2", Support(attempt - 1, NO_BALLOT)))
    assert cluster.replica("n1").phase is following, "it was an answer to an earlier question"
    before = cluster.replica("n1").pace.timeout_ms
    assert before > 1_000, "n3 may be dead"
    cluster.now += 100
    cluster.step("n1", Received("n2", Support(attempt - 1, NO_BALLOT)))
    assert cluster.replica("n1").pace.timeout_ms == before, "each answer counts once"


def test_what_was_asked_and_never_answered_is_forgotten_in_the_end() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    following, _ = late_support(cluster)
    cluster.advance(60_000)
    assert len(following._canvassed) == CANVASSED_MAX
