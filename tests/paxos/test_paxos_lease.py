"""The leader's lease: reads at once, and nobody else who could lead meanwhile, however clocks drift within the bound."""

from __future__ import annotations

import pytest

from paxos.cluster import Cluster
from sofadb.paxos.ballot import NO_BALLOT, Ballot, Instance
from sofadb.paxos.events import HandOver, Moment, Received, Started, Tick
from sofadb.paxos.following import Following
from sofadb.paxos.leading import Leading
from sofadb.paxos.lease import Grant, Lease
from sofadb.paxos.messages import Prepare, Promise
from sofadb.paxos.replica import Replica
from sofadb.paxos.settings import Settings
from sofadb.paxos.values import Configuration

THREE = ["n1", "n2", "n3"]
LEASE_MS = 270.0


def leased() -> tuple[Cluster, str, list[str]]:
    cluster = Cluster(THREE, lease_ms=LEASE_MS)
    leader = cluster.elect()
    cluster.advance(100)
    return cluster, leader, [name for name in THREE if name != leader]


def leading(cluster: Cluster, name: str) -> Leading:
    phase = cluster.replica(name).phase
    assert isinstance(phase, Leading)
    return phase


# The rules by themselves


def test_a_lease_ends_earlier_by_what_two_clocks_may_drift() -> None:
    lease = Lease(drift_max=0.1)
    three = (Configuration(("a", "b", "c")),)
    lease.on_granted("a", 1_000.0, 110.0)
    assert not lease.holds(three, 1_000.0), "one is no quorum"
    lease.on_granted("b", 1_020.0, 110.0)
    assert lease.holds(three, 1_089.9)
    assert not lease.holds(three, 1_090.0), "110 x 0.9 / 1.1 after the earlier beginning"
    lease.on_granted("a", 900.0, 110.0)
    assert lease.holds(three, 1_089.9), "what was granted is not taken back by an older answer"
    lease.is_given_up = True
    assert not lease.holds(three, 1_050.0)


def test_every_configuration_in_the_window_must_have_granted_it() -> None:
    lease = Lease(drift_max=0.0)
    for node in ("a", "b"):
        lease.on_granted(node, 0.0, 100.0)
    both = (Configuration(("a", "b", "c")), Configuration(("c", "d", "e")))
    assert lease.holds(both[:1], 50.0)
    assert not lease.holds(both, 50.0)


def test_who_is_bound_promises_nothing_to_others() -> None:
    grant, leader = Grant(), Ballot(3, "n1")
    higher = Ballot(4, "n2")
    assert not grant.forbids(higher, NO_BALLOT, 0.0)
    grant.bind(leader, 100.0)
    assert grant.forbids(higher, NO_BALLOT, 99.9)
    assert not grant.forbids(higher, NO_BALLOT, 100.0)
    assert not grant.forbids(Ballot(4, "n1"), NO_BALLOT, 50.0), "the leader itself, higher"
    assert not grant.forbids(higher, leader, 50.0), "the leader gave way"
    assert grant.forbids(higher, Ballot(2, "n1"), 50.0), "an earlier leader gave way"


def test_a_new_life_does_not_know_to_whom_the_old_one_was_bound() -> None:
    grant = Grant()
    grant.forgotten_until = 100.0
    assert grant.forbids(Ballot(1, "n1"), NO_BALLOT, 99.0)
    grant.bind(Ballot(1, "n1"), 50.0)
    assert grant.forbids(Ballot(2, "n1"), NO_BALLOT, 99.0), "it may have been another leader, a later one"
    assert not grant.forbids(Ballot(2, "n1"), NO_BALLOT, 100.0)


def test_what_an_earlier_leader_sent_hides_no_later_one() -> None:
    grant, later = Grant(), Ballot(7, "n2")
    grant.bind(later, 100.0)
    grant.bind(Ballot(5, "n1"), 90.0)
    assert grant.forbids(Ballot(8, "n1"), NO_BALLOT, 95.0)
    assert grant.forbids(Ballot(8, "n3"), Ballot(5, "n1"), 95.0)
    assert not grant.forbids(Ballot(8, "n3"), later, 95.0)
    assert not grant.forbids(Ballot(8, "n3"), NO_BALLOT, 100.0)


# Reads


def test_a_leader_with_a_lease_answers_at_once_and_asks_nobody() -> None:
    cluster, leader, _ = leased()
    token = cluster.ask(leader)
    assert not cluster.network
    assert token in cluster.nodes[leader].answers


def test_a_followers_reads_cost_one_way_to_the_leader_and_back() -> None:
    cluster, _leader, (follower, _) = leased()
    token = cluster.ask(follower)
    (ask,) = cluster.network
    cluster.pass_on(ask)
    (grant,) = cluster.network
    assert grant.to == follower
    cluster.pass_on(grant)
    assert token in cluster.nodes[follower].answers


def test_without_a_lease_every_read_is_confirmed() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    token = cluster.ask(leader)
    assert token not in cluster.nodes[leader].answers
    cluster.settle()
    assert token in cluster.nodes[leader].answers


def test_an_acceptor_that_grants_no_leases_is_not_counted() -> None:
    cluster, leader, others = leased()
    phase = leading(cluster, leader)
    phase.lease = Lease(0.01)
    for other in others:
        cluster.replica(other).settings = Settings()
    cluster.advance(500)
    assert not phase.holds_lease


def test_a_leader_that_was_asleep_for_longer_than_its_lease_asks_first() -> None:
    cluster, leader, _ = leased()
    for wait, answered in ((LEASE_MS * 0.99 / 1.01 - 51, True), (LEASE_MS, False)):
        cluster.now += wait
        token = cluster.ask(leader)
        assert (token in cluster.nodes[leader].answers) is answered


def test_a_fresh_leader_answers_nothing_before_its_own_no_op() -> None:
    cluster, leader, _ = leased()
    phase = leading(cluster, leader)
    assert phase.holds_lease
    phase.own_first = Instance(10**6)
    assert not phase.holds_lease


# Elections


def test_while_a_lease_runs_nobody_else_is_promised_anything() -> None:
    cluster, leader, (one, other) = leased()
    cluster.isolate(leader)
    since = cluster.now
    ballot = cluster.replica(one).ballot.above(one)
    answer = cluster.step(other, Received(one, Prepare(ballot, Instance(1))))
    assert answer == []
    assert cluster.replica(other).acceptor.promised < ballot
    cluster.now = since + LEASE_MS - 60
    lease, window = leading(cluster, leader).lease, cluster.replica(leader).window()
    assert lease.holds(window, cluster.now - 60)
    while lease.holds(window, cluster.now):
        assert cluster.step(other, Received(one, Prepare(ballot, Instance(1)))) == []
        cluster.now += 1
    cluster.now = since + LEASE_MS
    cluster.step(other, Received(one, Prepare(ballot, Instance(1))))
    assert cluster.replica(other).acceptor.promised == ballot


def test_a_candidate_that_is_bound_itself_waits() -> None:
    cluster, _, (one, _) = leased()
    replica = cluster.replica(one)
    replica.become_campaigning(NO_BALLOT)
    assert isinstance(replica.phase, Following)
    cluster.now += LEASE_MS
    cluster.step(one, Tick())
    replica.become_campaigning(NO_BALLOT)
    assert not isinstance(replica.phase, Following)


def test_a_dead_leaders_place_is_taken_as_soon_as_without_leases() -> None:
    cluster, leader, _ = leased()
    cluster.crash(leader)
    cluster.advance(2 * 300 + 100)
    assert cluster.leader not in (None, leader)


def test_a_new_life_promises_nothing_until_the_old_ones_leases_are_over() -> None:
    """It has forgotten to whom it was bound; the leader relies on it."""
    settings = Settings(lease_ms=LEASE_MS)
    replica = Replica("n2", 2, Configuration(tuple(THREE)), settings, leased_ms=LEASE_MS)
    ballot = Ballot(9, "n1")
    replica.step(Started(), Moment(1_000.0, 0, 0.5))
    asked = Received("n1", Prepare(ballot, Instance(1)))
    assert replica.step(asked, Moment(1_000.0 + LEASE_MS - 1, 0, 0.5)) == []
    assert replica.step(asked, Moment(1_000.0 + LEASE_MS, 0, 0.5))
    assert replica.acceptor.promised == ballot


def test_what_is_promised_already_is_answered_again() -> None:
    """The candidate has become the leader meanwhile, or asks for the rest of a report: it is promised nothing new."""
    cluster, leader, (one, _) = leased()
    replica = cluster.replica(one)
    replica.bound.forgotten_until = cluster.now + 1_000
    cluster.step(one, Received(leader, Prepare(replica.acceptor.promised, Instance(1))))
    cluster.save(one)
    assert any(isinstance(packet.message, Promise) for packet in cluster.network)


# Handing over


def test_a_leader_gives_its_lease_up_before_it_gives_way_and_its_successor_need_not_wait() -> None:
    cluster, old, (new, _) = leased()
    phase = leading(cluster, old)
    cluster.step(old, HandOver(new, 1_000))
    while not any(
        packet.to == new and "TakeOver" in type(packet.message).__name__ for packet in cluster.network
    ):
        assert phase.holds_lease
        cluster.pass_on(cluster.network[0])
    assert not phase.holds_lease
    began = cluster.now
    cluster.settle()
    assert cluster.leader == new
    assert cluster.now == began


def test_a_lease_that_was_given_up_stays_given_up_though_the_leader_stays() -> None:
    cluster, old, (new, _) = leased()
    phase = leading(cluster, old)
    cluster.step(old, HandOver(new, 100))
    while not phase.lease.is_given_up:
        cluster.pass_on(cluster.network[0])
    cluster.network = [
        packet for packet in cluster.network if "TakeOver" not in type(packet.message).__name__
    ]
    cluster.cut.add((old, new))
    cluster.advance(101)
    assert cluster.leader == old
    assert leading(cluster, old).successor is None
    cluster.cut.clear()
    cluster.advance(100)
    assert not phase.holds_lease
    token = cluster.ask(old)
    assert token not in cluster.nodes[old].answers
    cluster.settle()
    assert token in cluster.nodes[old].answers


# Clocks that drift


@pytest.mark.parametrize(("drift", "is_safe"), [(0.0, True), (0.01, True), (0.1, False)])
def test_within_the_stated_drift_no_two_can_answer_reads_and_beyond_it_that_is_seen(
    drift: float, is_safe: bool
) -> None:
    """The leader's clock runs slow and an acceptor's fast: when that promises somebody else something, is the lease over?"""
    settings = Settings(lease_ms=LEASE_MS)
    lease, grant = Lease(settings.drift_max), Grant()
    only = (Configuration(("n1",)),)
    ballot = Ballot(1, "n1")
    lease.on_granted("n1", began_at=0.0, lease_ms=LEASE_MS)
    grant.bind(ballot, until=LEASE_MS)
    overlaps = [
        real
        for real in range(int(2 * LEASE_MS))
        if lease.holds(only, real * (1 - drift))
        and not grant.forbids(Ballot(2, "n2"), NO_BALLOT, real * (1 + drift))
    ]
    assert (not overlaps) is is_safe
