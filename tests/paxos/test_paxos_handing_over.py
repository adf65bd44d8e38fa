"""A leader gives way in good order: to whom it is told, when everything is chosen, and not a command is lost."""

from __future__ import annotations

import pytest

from paxos.cluster import Cluster
from sofadb.paxos.ballot import NO_BALLOT, Ballot, Instance
from sofadb.paxos.effects import Leads, Send
from sofadb.paxos.events import HandOver, KeepLead, Received, Tick
from sofadb.paxos.following import Following
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Accept, Confirm, Confirmed, Learn, TakeOver

THREE = ["n1", "n2", "n3"]


def leading(cluster: Cluster, name: str) -> Leading:
    phase = cluster.replica(name).phase
    assert isinstance(phase, Leading)
    return phase


def pause(cluster: Cluster, old: str, new: str, within_ms: float) -> None:
    """The successor is ready, the leader proposes nothing any more, and no further word of it arrives."""
    cluster.step(old, HandOver(new, within_ms))
    cluster.settle_between(old, new, Confirm, Confirmed)
    cluster.network.clear()
    cluster.cut.add((old, new))
    assert leading(cluster, old).is_pausing


def test_whoever_is_named_leads_at_once_and_what_is_asked_for_meanwhile_is_done_once_and_in_order() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    new, third = (name for name in THREE if name != old)
    tokens = [cluster.submit(name, b"%d" % number) for number, name in enumerate((old, new, third))]
    assert [cluster.replica(name).outbox.count for name in THREE] == [1, 1, 1]
    cluster.step(old, HandOver(new, 1_000))
    later = [cluster.submit(name, b"later %s" % name.encode()) for name in (old, new, third)]
    began = cluster.now
    cluster.settle()
    assert cluster.leader == new
    cluster.settle()
    assert cluster.now == began, "nobody waited for any timeout"
    for name, ours in zip((old, new, third), zip(tokens, later, strict=True), strict=True):
        node = cluster.nodes[name]
        assert node.done[ours[0]] < node.done[ours[1]]
        assert not node.abandoned
        assert cluster.replica(name).outbox.count == 0
    assert len(cluster.sequence) == 6
    assert cluster.replica(old).leader == cluster.replica(third).leader == new
    cluster.check_chosen()


def test_if_nobody_is_named_it_is_one_who_knows_most() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    behind, ahead = (name for name in THREE if name != old)
    cluster.cut.add((old, behind))
    cluster.submit(old, b"x")
    cluster.settle()
    cluster.advance(50)
    assert leading(cluster, old).confirmed_upto[ahead] > leading(cluster, old).confirmed_upto[behind]
    cluster.cut.clear()
    cluster.step(old, HandOver(None, 1_000))
    cluster.settle()
    assert cluster.leader == ahead


@pytest.mark.parametrize("far_one", [0, 1])
def test_of_those_who_know_as_much_it_is_whoever_is_near(far_one: int) -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    others = [name for name in THREE if name != old]
    cluster.cut.add((others[far_one], old))  # Its answers to the latest heartbeats are still on their way.
    cluster.advance(100)
    cluster.cut.clear()
    cluster.step(old, HandOver(None, 1_000))
    cluster.settle()
    assert cluster.leader == others[1 - far_one]


def test_nobody_gives_way_to_one_that_lacks_something() -> None:
    """It is named, but what was chosen last has not reached it: first it learns, then it leads."""
    cluster = Cluster(THREE)
    old = cluster.elect()
    new = next(name for name in THREE if name != old)
    cluster.cut.add((old, new))
    cluster.submit(old, b"x")
    cluster.settle()
    assert cluster.replica(new).sequence.watermark < cluster.replica(old).sequence.watermark
    cluster.cut.clear()
    cluster.step(old, HandOver(new, 10_000))
    assert not any(isinstance(packet.message, TakeOver) for packet in cluster.network)
    cluster.advance(600)
    assert cluster.leader == new
    assert cluster.nodes[new].applied == [b"x"]


def test_what_is_chosen_while_the_successor_is_asked_costs_one_more_round_and_no_time() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    new, third = (name for name in THREE if name != old)
    cluster.step(old, HandOver(new, 1_000))
    confirm = next(p for p in cluster.network if p.to == new and isinstance(p.message, Confirm))
    cluster.pass_on(confirm)
    cluster.submit(old, b"x")
    cluster.settle_between(old, third)
    assert not leading(cluster, old).flights
    began = cluster.now
    cluster.settle()
    assert cluster.leader == new
    assert cluster.now == began


def test_what_is_under_way_is_chosen_first() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    new, third = (name for name in THREE if name != old)
    cluster.submit(old, b"x")
    cluster.step(old, HandOver(new, 10_000))
    accepts = [packet for packet in cluster.network if isinstance(packet.message, Accept)]
    assert accepts
    for packet in accepts:
        cluster.network.remove(packet)
    cluster.settle()
    assert leading(cluster, old).flights
    assert not leading(cluster, old).lease.is_given_up
    assert cluster.submit(third, b"y")
    cluster.settle()
    assert len(leading(cluster, old).flights) == 1, "nothing new is proposed"
    cluster.advance(300)  # The request is sent again.
    assert cluster.leader == new
    assert cluster.nodes[third].applied == [b"x", b"y"]


def test_if_nothing_comes_of_it_in_time_the_leader_goes_on() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    new, third = (name for name in THREE if name != old)
    pause(cluster, old, new, 120)
    token = cluster.submit(third, b"x")
    cluster.settle()
    assert cluster.leader == old
    assert token not in cluster.nodes[third].done
    cluster.advance(119)
    assert token not in cluster.nodes[third].done
    cluster.advance(2)
    assert cluster.leader == old
    assert leading(cluster, old).successor is None
    assert token in cluster.nodes[third].done


def test_a_successor_that_dies_is_not_waited_for_as_long_as_clients_wait() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    new, third = (name for name in THREE if name != old)
    pause(cluster, old, new, 3_600_000)
    cluster.crash(new)
    token = cluster.submit(third, b"x")
    cluster.advance(299)
    assert token not in cluster.nodes[third].done
    cluster.advance(50)
    assert cluster.leader == old
    assert token in cluster.nodes[third].done


def test_nor_is_one_that_is_heard_and_learns_nothing() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    new, third = (name for name in THREE if name != old)
    send = cluster.send

    def send_small(sender: str, effect: Send) -> None:
        if effect.to != new or not isinstance(effect.message, Accept | Learn):
            send(sender, effect)

    cluster.send = send_small  # type: ignore[method-assign]
    cluster.submit(old, b"x")
    cluster.settle()
    cluster.step(old, HandOver(new, 3_600_000))
    cluster.settle()
    assert leading(cluster, old).is_pausing
    token = cluster.submit(third, b"y")
    cluster.advance(999)
    assert token not in cluster.nodes[third].done
    cluster.advance(1)
    assert token in cluster.nodes[third].done


def test_while_the_successor_is_far_behind_the_leader_goes_on() -> None:
    cluster = Cluster(THREE, alpha=4)
    old = cluster.elect()
    new, third = (name for name in THREE if name != old)
    cluster.cut.add((old, new))
    for _ in range(10):
        cluster.submit(old, b"x")
        cluster.settle()
    cluster.cut.clear()
    cluster.step(old, HandOver(new, 10_000))
    cluster.settle_between(old, new, Confirm, Confirmed)
    token = cluster.submit(third, b"y")
    cluster.settle_between(old, third)
    assert token in cluster.nodes[third].done
    assert leading(cluster, old).successor == new
    cluster.advance(600)
    assert cluster.leader == new
    assert cluster.nodes[new].applied == [b"x"] * 10 + [b"y"]


def test_a_promise_that_the_successor_gave_to_itself_long_ago_is_a_challenge_like_any_other() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    new = next(name for name in THREE if name != old)
    cluster.isolate(new)
    cluster.replica(new).become_campaigning(NO_BALLOT)
    cluster.step(new, Tick())
    cluster.replica(new).become_following(None)
    cluster.cut.clear()
    assert cluster.replica(new).acceptor.promised > leading(cluster, old).ballot
    cluster.step(old, HandOver(new, 10_000))
    cluster.settle()
    assert cluster.leader == old
    assert cluster.replica(new).leader == old, "it takes part again"


def test_time_is_not_moved_while_a_successor_is_waited_for() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    new = next(name for name in THREE if name != old)
    pause(cluster, old, new, 1_000)
    leading(cluster, old).move_time(1)
    assert not leading(cluster, old).flights


def test_it_can_be_called_off() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    new = next(name for name in THREE if name != old)
    pause(cluster, old, new, 10_000)
    token = cluster.submit(old, b"x")
    cluster.settle()
    assert token not in cluster.nodes[old].done
    cluster.step(old, KeepLead())
    cluster.settle()
    assert token in cluster.nodes[old].done
    assert cluster.leader == old


@pytest.mark.parametrize("to", ["n9", "the leader", None])
def test_nobody_is_handed_to_who_cannot_lead(to: str | None) -> None:
    """A stranger, the leader itself; or nobody else is alive."""
    cluster = Cluster(THREE)
    old = cluster.elect()
    if to is None:
        for name in THREE:
            if name != old:
                cluster.crash(name)
        heard_at = max(at for name, at in leading(cluster, old).heard_at.items() if name != old)
        cluster.advance(heard_at + 299 - cluster.now)
        cluster.step(old, HandOver(None, 1_000))
        assert leading(cluster, old).successor is not None, "they were heard not long ago"
        leading(cluster, old).successor = None
        cluster.now = heard_at + 300
    cluster.step(old, HandOver(old if to == "the leader" else to, 1_000))
    assert leading(cluster, old).successor is None


def test_those_who_do_not_lead_have_nothing_to_hand_over() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    follower = next(name for name in THREE if name != old)
    assert cluster.step(follower, HandOver(None, 1_000)) == []
    assert cluster.step(follower, KeepLead()) == []


def test_an_old_invitation_to_take_over_says_nothing() -> None:
    """It is of another ballot, from another node, comes before what it speaks of, or comes to one that leads itself."""
    cluster = Cluster(THREE)
    old = cluster.elect()
    follower = next(name for name in THREE if name != old)
    replica = cluster.replica(follower)
    ballot, watermark = replica.ballot, replica.sequence.watermark
    lower = Ballot(ballot.round - 1, ballot.node)
    for sender, message in (
        (old, TakeOver(lower, watermark)),
        (follower, TakeOver(ballot, watermark)),
        (old, TakeOver(ballot, Instance(watermark + 1))),
    ):
        cluster.step(follower, Received(sender, message))
        assert isinstance(replica.phase, Following)
    cluster.step(old, Received(old, TakeOver(ballot, watermark)))
    assert cluster.leader == old
    cluster.step(follower, Received(old, TakeOver(ballot, watermark)))
    assert not isinstance(replica.phase, Following)


def test_who_leads_is_told_once_by_each() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    new = next(name for name in THREE if name != old)
    told: list[Ballot] = []
    for name in THREE:
        replica = cluster.replica(name)
        emit = replica.emit

        def note(effect: object, emit=emit) -> None:  # type: ignore[no-untyped-def]
            if isinstance(effect, Leads):
                told.append(effect.ballot)
            emit(effect)

        replica.emit = note  # type: ignore[method-assign, assignment]
    cluster.step(old, HandOver(new, 1_000))
    cluster.settle()
    cluster.advance(500)
    assert told == [cluster.replica(new).ballot] * 3


def test_a_follower_without_a_vote_does_not_take_over() -> None:
    cluster = Cluster(THREE)
    old = cluster.elect()
    follower = next(name for name in THREE if name != old)
    replica = cluster.replica(follower)
    first, configuration = replica.membership.table[0]
    acceptors = tuple(name for name in THREE if name != follower)
    replica.membership.table[0] = (first, type(configuration)(acceptors, (follower,)))
    cluster.step(follower, Received(old, TakeOver(replica.ballot, Instance(0))))
    assert isinstance(replica.phase, Following)


def test_a_leader_does_not_campaign_against_its_own_successor() -> None:
    """Before the successor's first request leaves its disk, its acceptor refuses the leader's heartbeat."""
    cluster = Cluster(THREE)
    old = cluster.elect()
    new = next(name for name in THREE if name != old)
    cluster.stuck_disks.add(new)
    cluster.step(old, HandOver(new, 1_000))
    cluster.advance(200)
    assert leading(cluster, old).successor == new, "it went on confirming that it leads, and was refused"
    cluster.stuck_disks.clear()
    cluster.settle()
    assert cluster.leader == new
