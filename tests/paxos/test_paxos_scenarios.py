"""What went wrong in systems like ours, played with real replicas: each test is named after what it shows."""

from __future__ import annotations

import itertools

import pytest

from paxos.cluster import Cluster, Packet
from sofadb.paxos import Ballot, Configuration, Entry, Instance, Value
from sofadb.paxos.campaigning import Campaigning
from sofadb.paxos.effects import Save, Send
from sofadb.paxos.events import MoveTime, Received, Tick
from sofadb.paxos.following import Following
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import (
    Accept,
    Accepted,
    Ask,
    AskRead,
    Canvass,
    Chosen,
    Confirm,
    Confirmed,
    Forward,
    GrantRead,
    Learn,
    Prepare,
    Promise,
    Refused,
    Support,
)
from sofadb.paxos.teaching import Teaching

THREE = ["n1", "n2", "n3"]


def value(name: bytes) -> Value:
    return Value(1, (Entry("n9", 1, 1, name),))


def messages(cluster: Cluster, kind: type, to: str | None = None) -> list[Packet]:
    return [p for p in cluster.network if isinstance(p.message, kind) and to in (None, p.to)]


# Acceptor, promise, disk


def test_forgotten_promise_nothing_is_answered_before_the_record_is_durable() -> None:
    cluster = Cluster(THREE)
    cluster.step("n1", Received("n2", Prepare(Ballot(5, "n2"), Instance(1))))
    assert not cluster.network, "the promise is not on disk yet"
    cluster.crash("n1")
    cluster.start("n1")
    # Nobody was promised anything, so a lower ballot may be.
    cluster.step("n1", Received("n3", Prepare(Ballot(4, "n3"), Instance(1))))
    cluster.save("n1")
    assert [p.message.ballot for p in messages(cluster, Promise)] == [Ballot(4, "n3")]
    cluster.crash("n1")
    cluster.start("n1")
    cluster.step("n1", Received("n2", Prepare(Ballot(3, "n2"), Instance(1))))
    assert [p.message for p in messages(cluster, Refused)] == [Refused(Ballot(3, "n2"), Ballot(4, "n3"))]


def test_promise_survives_a_friendly_message_of_an_older_leader() -> None:
    cluster = Cluster(THREE)
    cluster.step("n1", Received("n2", Prepare(Ballot(5, "n2"), Instance(1))))
    for old in (
        Accept(Ballot(4, "n3"), Instance(1), value(b"old"), Instance(0)),
        Confirm(Ballot(4, "n3"), 1, Instance(0)),
        Chosen(Ballot(4, "n3"), Instance(0)),
    ):
        cluster.step("n1", Received("n3", old))
        assert cluster.replica("n1").acceptor.promised == Ballot(5, "n2")
        assert cluster.replica("n1").leader is None


def test_a_node_that_is_back_supports_nobody_before_it_could_hear_the_leader() -> None:
    """Its leader works; somebody else, who does not hear it, asks around at that moment."""
    cluster = Cluster(THREE)
    leader = cluster.elect()
    back, deaf = (name for name in THREE if name != leader)
    cluster.crash(back)
    cluster.start(back)
    effects = cluster.step(back, Received(deaf, Canvass(1)))
    assert not any(isinstance(effect, Send) for effect in effects)


def test_canvass_touches_nothing_durable_and_binds_nobody() -> None:
    cluster = Cluster(THREE)
    cluster.now += 300
    effects = cluster.step("n1", Received("n2", Canvass(1)))
    assert not any(isinstance(effect, Save) for effect in effects)
    assert [effect.to for effect in effects if isinstance(effect, Send)] == ["n2"]
    cluster.step("n1", Received("n3", Prepare(Ballot(9, "n3"), Instance(1))))
    cluster.step("n1", Received("n2", Prepare(Ballot(8, "n2"), Instance(1))))
    assert cluster.replica("n1").acceptor.promised == Ballot(9, "n3")


def test_accept_implies_promise_also_after_a_crash_in_between() -> None:
    cluster = Cluster(THREE)
    cluster.step("n1", Received("n2", Prepare(Ballot(5, "n2"), Instance(1))))
    cluster.step("n1", Received("n3", Accept(Ballot(6, "n3"), Instance(1), value(b"six"), Instance(0))))
    cluster.save("n1")
    cluster.crash("n1")
    cluster.start("n1")
    cluster.step("n1", Received("n2", Accept(Ballot(5, "n2"), Instance(1), value(b"five"), Instance(0))))
    cluster.save("n1")
    assert [p.message.ballot for p in messages(cluster, Accepted)] == [Ballot(6, "n3")]


def test_ballot_is_never_used_again_after_a_restart() -> None:
    cluster = Cluster(THREE)
    for keep in (0, 1):
        while not isinstance(cluster.replica("n1").phase, Campaigning):
            cluster.now += 1000
            cluster.step("n1", Received("n2", Canvass(1)))  # Any event: the moment moves on.
            cluster.replica("n1").become_campaigning(Ballot(0, ""))
        ballot = cluster.replica("n1").phase.ballot  # type: ignore[union-attr]
        cluster.nodes["n1"].saving = [e for e in cluster.replica("n1")._effects if isinstance(e, Save)]
        assert not messages(cluster, Prepare), "no prepare request leaves before the promise is durable"
        cluster.crash("n1", keep)
        cluster.start("n1")
        if keep:
            cluster.replica("n1").become_campaigning(Ballot(0, ""))
            assert cluster.replica("n1").phase.ballot > ballot  # type: ignore[union-attr]


def test_the_leaders_own_vote_waits_for_its_own_disk() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    cluster.stuck_disks.add(leader)
    follower = next(n for n in THREE if n != leader)
    third = next(n for n in THREE if n not in (leader, follower))
    cluster.isolate(third)
    token = cluster.submit(leader, b"x")
    cluster.settle()
    assert token not in cluster.nodes[leader].done, "one follower alone is no quorum"
    cluster.stuck_disks.clear()
    cluster.settle()
    assert token in cluster.nodes[leader].done


def test_single_node_cluster_waits_for_its_own_disk() -> None:
    cluster = Cluster(["n1"])
    cluster.elect()
    token = cluster.submit("n1", b"x")
    assert cluster.nodes["n1"].saving
    assert token not in cluster.nodes["n1"].done
    cluster.save("n1")
    assert token in cluster.nodes["n1"].done


def test_every_crash_of_every_node_at_every_save_keeps_what_was_acknowledged() -> None:
    """A fixed script, crashed after each single save of each node, with 0 or 1 further saves kept."""

    def script(cluster: Cluster, victim: str, at: int, keep: int) -> bool:
        """Returns whether the crash happened."""
        saves = 0
        for number in range(6):
            for name in THREE:
                if cluster.nodes[name].replica:
                    cluster.submit(name, b"%d of %s" % (number, name.encode()))
            for _ in range(200):
                if cluster.network:
                    cluster.pass_on(cluster.network[0])
                    continue
                busy = [n for n in THREE if cluster.nodes[n].saving]
                if not busy:
                    break
                saves += busy[0] == victim
                if saves == at:
                    cluster.crash(victim, keep)
                    cluster.advance(2000)
                    cluster.start(victim)
                    cluster.advance(2000)
                    return True
                cluster.save(busy[0], 1)
        return False

    crashes = 0
    for victim, keep in itertools.product(THREE, (0, 1)):
        for at in itertools.count(1):
            cluster = Cluster(THREE, seed=at)
            cluster.elect()
            crashed = script(cluster, victim, at, keep)
            cluster.check_chosen()
            for name in THREE:
                assert len(set(cluster.nodes[name].applied)) == len(cluster.nodes[name].applied)
                assert max(cluster.nodes[name].done.values(), default=0) <= len(cluster.nodes["n1"].applied)
            if not crashed:
                break
            crashes += 1
    assert crashes > 50


# Leader, phases, log


def test_chosen_by_the_old_leader_and_unknown_to_all_alive_is_proposed_again() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    token = cluster.submit(leader, b"acknowledged")
    others = [n for n in THREE if n != leader]
    for packet in messages(cluster, Accept):
        cluster.pass_on(packet)
    cluster.network.clear()
    for name in others:
        cluster.save(name)
    for packet in messages(cluster, Accepted):
        cluster.pass_on(packet)
    assert token in cluster.nodes[leader].done
    cluster.crash(leader)
    cluster.network.clear()
    assert not any(cluster.nodes[n].applied for n in others)
    cluster.elect()
    cluster.advance(500)
    assert all(cluster.nodes[n].applied == [b"acknowledged"] for n in others)


def test_dead_leaders_pipeline_every_subset_delivered() -> None:
    for delivered in itertools.product([0, 1], repeat=4):
        cluster = Cluster(THREE, in_flight_max=4, batch_bytes_max=1)
        leader = cluster.elect()
        others = [n for n in THREE if n != leader]
        cluster.settle()
        for number in range(4):
            cluster.submit(leader, b"%d" % number)
        accepts = messages(cluster, Accept, others[0])
        assert len(accepts) == 4
        cluster.network.clear()
        cluster.crash(leader)
        for packet, wanted in zip(accepts, delivered, strict=True):
            if wanted:
                cluster.step(others[0], Received(leader, packet.message))
        cluster.save(others[0])
        cluster.advance(3000)
        cluster.check_chosen()
        applied = cluster.nodes[others[0]].applied
        # What is re-proposed comes out in order; behind a gap nothing of that session takes effect.
        expected = [*delivered, 0].index(0)
        assert applied == [b"%d" % number for number in range(expected)]
        assert cluster.nodes[others[1]].applied == applied


def test_old_accept_after_it_is_settled_is_not_answered_anew() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    cluster.submit(leader, b"x")
    accept = messages(cluster, Accept)[0]
    cluster.advance(100)
    cluster.network.clear()
    effects = cluster.step(accept.to, Received(leader, accept.message))
    assert not any(isinstance(effect, Save) for effect in effects)


def test_two_campaigners_with_equal_timeouts_end_with_one_leader() -> None:
    cluster = Cluster(THREE)
    cluster.random.random = lambda: 0.5  # type: ignore[method-assign]
    cluster.advance(20_000)
    assert cluster.leader is not None
    assert cluster.replica(cluster.leader).ballot.round < 50


def test_a_returning_node_does_not_depose_a_working_leader() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    ballot = cluster.replica(leader).ballot
    lost = next(n for n in THREE if n != leader)
    cluster.isolate(lost)
    cluster.advance(10_000)
    cluster.cut.clear()
    cluster.advance(5_000)
    assert cluster.leader == leader
    assert cluster.replica(lost).ballot == ballot


@pytest.mark.parametrize("mask", range(64))
def test_one_way_links_all_64_masks_progress_if_some_node_has_a_quorum_both_ways(mask: int) -> None:
    cluster = Cluster(THREE, seed=mask)
    links = [(a, b) for a in THREE for b in THREE if a != b]
    cluster.elect()
    cluster.cut = {link for bit, link in enumerate(links) if mask >> bit & 1}
    cluster.advance(5_000)
    both = [
        n
        for n in THREE
        if any((n, o) not in cluster.cut and (o, n) not in cluster.cut for o in THREE if o != n)
    ]
    rounds = [cluster.replica(n).ballot.round for n in THREE]
    tokens = {n: cluster.submit(n, n.encode()) for n in both}
    cluster.advance(4_000)
    assert all(
        cluster.replica(n).ballot.round <= before + 20 for n, before in zip(THREE, rounds, strict=True)
    )
    if both:
        assert any(tokens[n] in cluster.nodes[n].done for n in both)
    cluster.check_chosen()


def test_quorum_loss_all_see_only_the_hub_and_the_leader_is_not_the_hub() -> None:
    names = ["n1", "n2", "n3", "n4", "n5"]
    cluster = Cluster(names)
    leader = cluster.elect()
    hub = next(n for n in names if n != leader)
    cluster.cut = {(a, b) for a in names for b in names if a != b and hub not in (a, b)}
    cluster.advance(3_000)
    assert cluster.leader == hub
    token = cluster.submit(hub, b"x")
    cluster.advance(500)
    assert token in cluster.nodes[hub].done


def test_constrained_election_the_only_connected_node_has_the_shortest_log() -> None:
    names = ["n1", "n2", "n3", "n4", "n5"]
    cluster = Cluster(names, alpha=8)
    leader = cluster.elect()
    hub = next(n for n in names if n != leader)
    cluster.isolate(hub)
    for number in range(100):
        cluster.submit(leader, b"%d" % number)
        cluster.settle()
    cluster.advance(1_000)
    cluster.cut = {(a, b) for a in names for b in names if a != b and hub not in (a, b)}
    cluster.isolate(leader)
    cluster.advance(3_000)
    assert cluster.leader == hub
    assert len(cluster.nodes[hub].applied) == 100


def test_chain_the_ends_of_which_do_not_see_each_other_keeps_its_leader() -> None:
    cluster = Cluster(THREE)
    cluster.cut = {("n1", "n3"), ("n3", "n1")}
    cluster.advance(2_000)
    leader, ballot = cluster.leader, max(cluster.replica(n).ballot for n in THREE)
    assert leader is not None
    cluster.advance(30_000)
    assert max(cluster.replica(n).ballot for n in THREE) == ballot


def test_leader_that_hears_nobody_steps_down_though_everybody_hears_it() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    cluster.cut = {(other, leader) for other in THREE if other != leader}
    cluster.advance(3_000)
    assert isinstance(cluster.replica(leader).phase, Following)
    assert cluster.leader != leader


def test_leader_whose_disk_hangs_steps_down_though_its_heartbeats_flow() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    cluster.stuck_disks.add(leader)
    cluster.submit(leader, b"x")
    cluster.advance(3_000)
    assert cluster.leader not in (leader, None)


def test_a_lone_promise_of_a_dead_candidate_does_not_stop_a_followed_leader() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    straggler = next(n for n in THREE if n != leader)
    dead = next(n for n in THREE if n not in (leader, straggler))
    cluster.step(straggler, Received(dead, Prepare(Ballot(40, dead), Instance(1))))
    cluster.advance(1_000)
    assert cluster.leader == leader
    assert cluster.replica(straggler).leader == leader
    token = cluster.submit(straggler, b"x")
    cluster.advance(100)
    assert token in cluster.nodes[straggler].done


# Reads


def test_a_fresh_leader_answers_no_read_before_something_of_its_own_is_chosen() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    token = cluster.submit(leader, b"acknowledged")
    cluster.advance(200)
    assert token in cluster.nodes[leader].done
    cluster.crash(leader)
    while cluster.leader is None:
        cluster.advance(5)
    # Elected this instant; let its own value hang.
    new = cluster.leader
    phase = cluster.replica(new).phase
    assert isinstance(phase, Leading)
    read = cluster.ask(new)
    if not phase.is_established:
        assert read not in cluster.nodes[new].answers
    cluster.advance(500)
    assert cluster.nodes[new].answers[read] == 1


def test_confirmation_from_before_a_pause_proves_nothing_after_it() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    others = [n for n in THREE if n != old]
    cluster.settle()
    # A round is asked for and its answers are on their way; then the old leader is stopped.
    cluster.step(old, Received(others[0], Forward(())))
    cluster.ask(old)
    for packet in messages(cluster, Confirm):
        cluster.pass_on(packet)
    answers = messages(cluster, Confirmed, old)
    assert answers
    cluster.network.clear()
    sleeper = cluster.nodes[old].replica
    cluster.nodes[old].replica, cluster.nodes[old].wake_at = None, float("inf")
    cluster.advance(3_000)
    new = cluster.leader
    assert new is not None
    token = cluster.submit(new, b"written meanwhile")
    cluster.advance(200)
    assert token in cluster.nodes[new].done
    # It wakes; a new read arrives first, then the old answers.
    cluster.nodes[old].replica = sleeper
    read = cluster.ask(old)
    for packet in answers:
        cluster.step(old, Received(packet.sender, packet.message))
    assert read not in cluster.nodes[old].answers
    cluster.advance(3_000)
    assert cluster.nodes[old].answers[read] == 1


def test_a_grant_for_an_earlier_life_of_a_node_is_no_grant() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    follower = next(n for n in THREE if n != leader)
    cluster.settle()
    cluster.ask(follower)
    grant = GrantRead(
        attempt=cluster.replica(follower).reading.last_attempt, incarnation=0, watermark=Instance(0), stamp=0
    )
    cluster.step(follower, Received(leader, grant))
    assert not cluster.nodes[follower].answers


def test_a_read_is_not_answered_from_a_state_older_than_its_watermark() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    follower = next(n for n in THREE if n != leader)
    cluster.cut.add((leader, follower))
    token = cluster.submit(leader, b"x")
    cluster.settle()
    assert token in cluster.nodes[leader].done
    cluster.cut.clear()
    read = cluster.ask(follower)
    cluster.settle()
    assert read not in cluster.nodes[follower].answers
    cluster.advance(500)
    assert cluster.nodes[follower].answers[read] == 1


# Exactly once


def test_forwarded_and_chosen_and_the_leader_gone_before_word_of_it_is_done_once() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    follower, third = (n for n in THREE if n != leader)
    token = cluster.submit(follower, b"x")
    cluster.pass_on(messages(cluster, Forward)[0])
    for packet in messages(cluster, Accept):
        cluster.pass_on(packet)
    cluster.save(follower)
    cluster.save(third)
    cluster.network.clear()
    cluster.crash(leader)
    cluster.advance(3_000)
    assert token in cluster.nodes[follower].done
    assert cluster.nodes[follower].applied == cluster.nodes[third].applied == [b"x"]


def test_pipelined_commands_keep_their_order_when_the_first_is_lost_on_the_way() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    follower = next(n for n in THREE if n != leader)
    cluster.settle()
    cluster.submit(follower, b"x = 1")
    cluster.network.clear()
    cluster.submit(follower, b"x = 2")
    cluster.advance(2_000)
    assert cluster.nodes[leader].applied == [b"x = 1", b"x = 2"]


def test_a_late_copy_from_an_earlier_life_does_nothing() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    follower = next(n for n in THREE if n != leader)
    cluster.submit(follower, b"from the first life")
    copy = messages(cluster, Forward)[0].message
    cluster.network.clear()
    cluster.crash(follower)
    cluster.start(follower)
    cluster.advance(500)
    cluster.submit(follower, b"from the second life")
    cluster.advance(500)
    cluster.step(leader, Received(follower, copy))
    cluster.advance(500)
    assert cluster.nodes[leader].applied == [b"from the second life"]


def test_refused_with_certainty_means_never_done_and_minorities_refuse_in_time() -> None:
    cluster = Cluster(THREE, patience_ms=1_000)
    cluster.elect()
    lost = next(n for n in THREE if n != cluster.leader)
    cluster.isolate(lost)
    cluster.advance(1_000)
    write, read = cluster.submit(lost, b"never"), cluster.ask(lost)
    cluster.advance(1_100)
    assert cluster.nodes[lost].abandoned[write] is True
    assert cluster.nodes[lost].abandoned[read] is True
    cluster.cut.clear()
    cluster.advance(5_000)
    assert all(b"never" not in cluster.nodes[n].applied for n in THREE)


def test_uncertain_is_said_only_of_what_was_sent_and_it_may_yet_happen_once() -> None:
    cluster = Cluster(THREE, patience_ms=1_000)
    leader = cluster.elect()
    follower = next(n for n in THREE if n != leader)
    cluster.isolate(follower)
    write = cluster.submit(follower, b"perhaps")
    cluster.advance(1_500)
    assert cluster.nodes[follower].abandoned[write] is False
    outbox = cluster.replica(follower).outbox
    assert outbox.sent
    assert outbox.count == 0, "nobody waits for what it holds"
    cluster.cut.clear()
    cluster.advance(3_000)
    assert cluster.nodes[leader].applied == [b"perhaps"]
    assert write not in cluster.nodes[follower].done, "nobody waits for it any more"


# Time


def test_a_leader_whose_clock_is_a_day_ahead_or_behind_stamps_within_the_bound() -> None:
    for skew in (86_400_000, -86_400_000):
        cluster = Cluster(THREE, clock_bound_ms=500)
        cluster.skew["n1"] = skew
        cluster.nodes["n2"].wake_at = cluster.nodes["n3"].wake_at = 1_000.0
        cluster.elect()
        leader = cluster.leader
        assert leader is not None
        cluster.skew[leader], cluster.skew["n1"] = skew, 0 if leader != "n1" else skew
        for _ in range(5):
            cluster.submit(leader, b"x")
            cluster.advance(100)
        honest = int(cluster.now) + 1_000_000
        assert abs(cluster.replica(leader).time - honest) <= 500 + 200


def test_time_never_runs_backwards_from_one_instance_to_the_next() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    times = []
    for skew in (0, 300, -5_000, 100):
        cluster.skew[leader] = skew
        cluster.submit(leader, b"x")
        cluster.advance(10)
        times.append(cluster.replica(leader).time)
    assert times == sorted(times)
    cluster.crash(leader)
    cluster.advance(3_000)
    assert cluster.leader is not None
    assert cluster.replica(cluster.leader).time >= times[-1]


# Old messages, slow links, wrong clocks: what a reviewer's worlds have shown


def test_what_is_on_disk_stays_the_chosen_value_when_an_older_leaders_request_comes_late() -> None:
    cluster = Cluster(THREE, tail_bytes_max=1)
    late, chosen = value(b"late"), value(b"chosen")
    # n3 knows the value of instance 2, but not of 1, and has promised nothing.
    cluster.step("n3", Received("n2", Learn(Instance(2), (chosen,))))
    cluster.save("n3")
    cluster.step("n3", Received("n1", Accept(Ballot(1, "n1"), Instance(2), late, Instance(0))))
    cluster.save("n3")
    cluster.step("n3", Received("n2", Learn(Instance(1), (value(b"first"),))))
    cluster.step("n3", Received("n2", Learn(Instance(3), (value(b"third"),))))
    cluster.save("n3")
    cluster.network.clear()
    cluster.step("n3", Received("n1", Ask(Instance(2))))
    cluster.save("n3")
    assert [p.message.values[0] for p in messages(cluster, Learn, "n1")] == [chosen]


def test_a_teacher_reads_its_disk_only_when_what_it_knows_is_there() -> None:
    cluster = Cluster(THREE, tail_bytes_max=1)
    leader = cluster.elect()
    cluster.settle()
    cluster.stuck_disks.add(leader)
    first = cluster.replica(leader).sequence.watermark + 1
    for number in range(3):
        cluster.submit(leader, b"%d" % number)
        cluster.settle()
    assert cluster.replica(leader).sequence.watermark == first + 2, "chosen by the others"
    asker = next(n for n in THREE if n != leader)
    cluster.advance(300)  # It may be thought lost.
    cluster.step(leader, Received(asker, Ask(Instance(first))))
    assert not messages(cluster, Learn)
    cluster.stuck_disks.clear()
    cluster.save(leader)
    assert [bytes(p.message.values[0].entries[0].payload) for p in messages(cluster, Learn, asker)] == [b"0"]


def test_a_narrow_window_costs_no_time() -> None:
    cluster = Cluster(THREE, alpha=1, in_flight_max=1, batch_bytes_max=1)
    leader = cluster.elect()
    tokens = [cluster.submit(leader, b"%d" % number) for number in range(50)]
    cluster.settle()
    assert all(token in cluster.nodes[leader].done for token in tokens)


def test_a_clock_heard_in_an_earlier_leadership_does_not_count_any_more() -> None:
    day = 86_400_000
    cluster = Cluster(THREE)
    leader = cluster.elect()
    other, third = (n for n in THREE if n != leader)
    cluster.skew[third] = day
    cluster.advance(1_000)
    cluster.crash(third)
    # A minute later the leader's own clock goes wrong: of those that can be asked, one is right.
    cluster.advance(60_000)
    cluster.skew[leader] = day
    cluster.submit(leader, b"x")
    cluster.advance(500)
    assert cluster.leader == leader
    assert cluster.replica(other).time <= int(cluster.now) + 1_000_000 + 500


def test_reads_are_answered_however_long_a_round_trip_takes() -> None:
    for one_way_ms in (5, 60, 110):
        cluster = Cluster(THREE, patience_ms=5_000)
        leader = cluster.elect()
        follower = next(n for n in THREE if n != leader)
        arriving: list[tuple[float, Packet]] = []
        reads: list[int] = []
        for step in range(1_500):
            if step < 400:
                reads.append(cluster.ask(follower))
            cluster.now += 5
            for node in cluster.nodes.values():
                cluster.save(node.name)
                if node.wake_at <= cluster.now:
                    node.wake_at = float("inf")
                    cluster.step(node.name, Tick())
            arriving += [(cluster.now + one_way_ms, packet) for packet in cluster.network]
            cluster.network.clear()
            while arriving and arriving[0][0] <= cluster.now:
                packet = arriving.pop(0)[1]
                cluster.step(packet.to, Received(packet.sender, packet.message))
        assert all(read in cluster.nodes[follower].answers for read in reads), f"{one_way_ms} ms"


def test_a_granted_read_is_not_waited_for_without_end() -> None:
    cluster = Cluster(THREE, patience_ms=1_000)
    leader = cluster.elect()
    follower = next(n for n in THREE if n != leader)
    cluster.settle()
    read = cluster.ask(follower)
    number = cluster.replica(follower).reading.last_attempt
    incarnation = cluster.replica(follower).reading.incarnation
    cluster.network.clear()
    cluster.step(follower, Received(leader, GrantRead(number, incarnation, Instance(99), 0)))
    cluster.isolate(follower)
    cluster.advance(2_000)
    assert cluster.nodes[follower].abandoned[read] is True
    assert cluster.replica(follower).reading.count == 0


def test_a_link_that_heals_after_long_serves_writes_within_seconds() -> None:
    """After so long every pause between two tries is the longest there is."""
    cluster = Cluster(THREE)
    leader = cluster.elect()
    follower = next(n for n in THREE if n != leader)
    cluster.cut.add((follower, leader))
    for _ in range(6):
        cluster.submit(follower, b"lost on the way")
        cluster.advance(60_000)
    cluster.cut.clear()
    cluster.advance(2_500)
    token = cluster.submit(follower, b"after")
    cluster.advance(100)
    assert token in cluster.nodes[follower].done


def test_a_leaders_wrong_clock_neither_floods_the_sequence_nor_keeps_what_is_due() -> None:
    for skew in (86_400_000, -86_400_000):
        cluster = Cluster(THREE)
        leader = cluster.elect()
        cluster.advance(200)
        cluster.skew[leader] = skew
        due = int(cluster.now) + 1_000_000 + 10_000
        before = cluster.replica(leader).sequence.watermark
        for _ in range(300):
            cluster.step(leader, MoveTime(due))
            cluster.advance(50)
            if cluster.replica(leader).time >= due:
                break
        assert cluster.replica(leader).sequence.watermark - before <= 2
        assert abs(int(cluster.now) + 1_000_000 - due) <= 1_000


def test_a_value_that_takes_seconds_on_its_way_to_the_disk_does_not_unseat_the_leader() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    cluster.settle()
    token = cluster.submit(leader, bytes(60 << 20))
    cluster.stuck_disks = set(THREE)
    cluster.advance(3_000)
    assert cluster.leader == leader
    cluster.stuck_disks.clear()
    cluster.advance(500)
    assert token in cluster.nodes[leader].done


def test_an_old_message_of_an_earlier_leader_does_not_turn_a_follower_back() -> None:
    cluster = Cluster(THREE)
    cluster.step("n3", Received("n2", Confirm(Ballot(7, "n2"), 1, Instance(0))))
    assert cluster.replica("n3").leader == "n2"
    cluster.step("n3", Received("n1", Confirm(Ballot(5, "n1"), 9, Instance(0))))
    assert cluster.replica("n3").leader == "n2"


def test_support_for_a_canvass_is_void_once_a_leader_was_heard() -> None:
    cluster = Cluster(THREE)
    cluster.now = 2_000
    cluster.step("n1", Tick())
    (canvass,) = {p.message for p in messages(cluster, Canvass)}
    cluster.step("n1", Received("n2", Prepare(Ballot(1, "n2"), Instance(1))))
    cluster.step("n1", Received("n3", Support(canvass.attempt, Ballot(0, ""))))
    assert isinstance(cluster.replica("n1").phase, Following)


def test_absurd_numbers_from_a_peer_change_nothing_and_end_nobody() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    follower = next(n for n in THREE if n != leader)
    promised = cluster.replica(follower).acceptor.promised
    absurd = Ballot(2**64 - 1, "n9")
    for message in (
        Prepare(Ballot(2**64 - 1, leader), Instance(1)),
        Accept(Ballot(2**64 - 1, leader), Instance(1), value(b"x"), Instance(0)),
        Confirm(Ballot(2**63, leader), 1, Instance(2**63)),
        Support(1, absurd),
        Refused(cluster.replica(leader).ballot, absurd),
        Confirm(promised, 1, Instance(2**63)),
        Chosen(promised, Instance(2**64 - 1)),
        GrantRead(1, 1, Instance(2**64 - 1), 0),
        Learn(Instance(2**63), (value(b"x"),)),
        Ask(Instance(0)),
        Ask(Instance(2**64 - 1)),
    ):
        for node in (leader, follower):
            cluster.step(node, Received(follower if node == leader else leader, message))
        cluster.network = [packet for packet in cluster.network if not isinstance(packet.message, Ask)]
    assert cluster.replica(follower).acceptor.promised == promised
    assert cluster.leader == leader
    token = cluster.submit(follower, b"x")
    cluster.advance(500)
    assert token in cluster.nodes[follower].done


def test_a_promise_that_no_acceptor_can_have_made_does_not_count() -> None:
    cluster = Cluster(THREE)
    cluster.replica("n1").become_campaigning(Ballot(0, ""))
    phase = cluster.replica("n1").phase
    assert isinstance(phase, Campaigning)
    beyond = (Instance(2**60), Ballot(1, "n3"), value(b"x"))
    within = (Instance(1), Ballot(1, "n3"), value(b"x"))
    for reported, last in (
        ((beyond,), None),
        ((within,), Instance(2**64 - 1)),
        ((within, within), None),
        ((), Instance(1)),
    ):
        cluster.step("n1", Received("n2", Promise(phase.ballot, Instance(1), reported, last, Instance(0), 0)))
        assert not phase.proposer.promised_by
        assert phase.proposer.next_prepare("n2") == Prepare(phase.ballot, Instance(1))


def test_a_leader_without_a_vote_has_on_disk_what_was_chosen() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    cluster.settle()
    others = tuple(n for n in THREE if n != leader)
    replica = cluster.replica(leader)
    watermark = replica.sequence.watermark
    for name in THREE:  # It has none now, and will have one later.
        cluster.replica(name).membership.table += [
            (Instance(watermark + 1), Configuration(others, (leader,))),
            (Instance(watermark + 9), Configuration(tuple(THREE))),
        ]
    cluster.advance(100)
    for number in range(3):
        cluster.submit(leader, b"%d" % number)
        cluster.settle()
    cluster.crash(leader)
    cluster.start(leader)
    assert cluster.nodes[leader].applied[:2] == [b"0", b"1"]


def test_what_is_on_its_way_is_not_sent_once_more_and_what_was_lost_is_after_a_while() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    follower = next(n for n in THREE if n != leader)
    cluster.settle()
    cluster.submit(leader, bytes(8 << 20))
    (large,) = messages(cluster, Accept, follower)
    cluster.network.remove(large)
    cluster.settle()
    # That it is chosen overtakes the value, which is 400 ms away at 20 MB/s.
    for _ in range(10):
        cluster.advance(50)
        assert cluster.replica(follower).sequence.watermark < large.message.instance
        assert not messages(cluster, Learn)
    # It never arrives; nor does it matter that others are sent meanwhile.
    for number in range(20):
        cluster.submit(leader, b"%d" % number)
        cluster.advance(50)
    assert cluster.nodes[follower].applied == cluster.nodes[leader].applied


def test_who_was_behind_catches_up_however_much_is_chosen_meanwhile() -> None:
    """What is sent to somebody who is further behind than alpha is ignored there: it is not on its way to the one who asks."""
    cluster = Cluster(THREE, alpha=4, in_flight_max=2, message_bytes_max=800_000)
    leader = cluster.elect()
    other, behind = (n for n in THREE if n != leader)

    def write_for(milliseconds: int) -> None:
        for _ in range(milliseconds // 5):
            cluster.submit(leader, bytes(100_000))
            cluster.advance(5)

    write_for(500)
    cluster.cut = {(leader, behind), (behind, leader)}
    write_for(1_000)
    cluster.cut = set()
    lacked = cluster.replica(leader).sequence.watermark - cluster.replica(behind).sequence.watermark
    assert lacked > 150
    write_for(500)
    assert len(cluster.nodes[behind].applied) == len(cluster.nodes[leader].applied)
    # Now that it is in step, its vote counts.
    cluster.crash(other)
    write_for(500)
    assert len(cluster.nodes[behind].applied) == len(cluster.nodes[leader].applied) > 390


def test_what_is_proposed_beyond_the_reach_of_who_is_behind_is_not_on_its_way_to_it() -> None:
    """Whoever just reaches what was proposed last ignores the next proposal, if it has learned nothing until that arrives."""
    teaching = Teaching(20_000, 200.0, 2_000.0)
    teaching.asks("n2", Instance(10), Instance(13))
    teaching.accepts("n2", Instance(13), Instance(13 + 4))
    for instance in (13, 14):
        teaching.sent("n2", Instance(instance), Instance(instance), 1_000)
    teaching.asks("n2", Instance(11), Instance(14))
    assert teaching.is_on_its_way("n2", Instance(13))
    assert not teaching.is_on_its_way("n2", Instance(14))
    # It has everything: the next is for it, too.
    teaching.accepts("n2", Instance(18), Instance(14 + 4))
    teaching.sent("n2", Instance(30), Instance(30), 1_000)
    assert teaching.is_on_its_way("n2", Instance(30))


def test_what_is_taught_again_may_take_longer_each_time() -> None:
    """A link that is slower than was thought is not filled with the same."""
    cluster = Cluster(THREE)
    leader = cluster.elect()
    follower = next(n for n in THREE if n != leader)
    cluster.settle()
    cluster.submit(leader, bytes(1_000_000))
    cluster.network = [packet for packet in cluster.network if packet.to != follower]
    cluster.advance(1)
    asked_for = cluster.replica(leader).sequence.watermark
    learned_at = []
    for millisecond in range(5_000):
        cluster.now += 1
        cluster.step(leader, Received(follower, Ask(asked_for)))
        learned_at += [millisecond for packet in messages(cluster, Learn, follower)]
        cluster.network.clear()
    pauses = [later - earlier for earlier, later in itertools.pairwise(learned_at)]
    assert pauses[:3] == [251, 451, 851], "50 ms at 20 MB/s, and 200, 400, 800 in which it may be late"
    assert max(pauses) <= 2_251


@pytest.mark.parametrize("seed", range(10))
def test_a_leader_whose_disk_hangs_lets_all_others_try_first(seed: int) -> None:
    """It needs its disk for a new ballot, too, and would only be in their way."""
    cluster = Cluster(THREE, seed=seed)
    leader = cluster.elect()
    cluster.settle()
    cluster.stuck_disks.add(leader)
    cluster.submit(leader, b"x")
    for _ in range(2_000):
        cluster.advance(1)
        if cluster.leader != leader:
            break
    gave_up_at = cluster.now
    while cluster.leader is None and cluster.now < gave_up_at + 3_000:
        cluster.advance(1)
        assert isinstance(cluster.replica(leader).phase, Following)
    assert cluster.leader not in (leader, None)


def test_a_leader_with_a_wrong_clock_that_stood_still_for_a_moment_does_not_stamp_by_itself() -> None:
    cluster = Cluster(THREE)
    cluster.skew["n1"] = 3_600_000
    cluster.nodes["n2"].wake_at = cluster.nodes["n3"].wake_at = 5_000.0
    assert cluster.elect() == "n1"
    cluster.submit("n1", b"x")
    cluster.advance(100)
    # It sleeps; the first thing that happens to it is a command.
    cluster.now += 350
    cluster.submit("n1", b"y")
    cluster.settle()
    assert cluster.replica("n1").time <= int(cluster.now) + 1_000_000 + 500


def test_a_leader_that_is_followed_and_gets_nothing_chosen_makes_room_for_another() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    cluster.settle()
    send = cluster.send

    def lose_what_is_large(sender: str, effect: Send) -> None:
        if sender != leader or not isinstance(effect.message, Accept):
            send(sender, effect)

    cluster.send = lose_what_is_large  # type: ignore[method-assign]
    cluster.submit(leader, bytes(2 << 20))
    steps_down = 0
    for _ in range(300):
        cluster.advance(100)
        steps_down += cluster.leader is None
        if cluster.leader not in (leader, None):
            break
    assert steps_down
    assert cluster.leader != leader
    cluster.advance(500)
    assert all(len(node.applied) == 1 for node in cluster.nodes.values())


def test_readers_who_ask_again_wait_once() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    follower = next(n for n in THREE if n != leader)
    cluster.settle()
    phase = cluster.replica(leader).phase
    assert isinstance(phase, Leading)
    phase.own_first = Instance(10**9)  # Not established.
    for _ in range(50):
        cluster.step(leader, Received(follower, AskRead(1, 1)))
    assert len(phase.confirming.next_readers) == 1
