"""What befalls a leader: old answers, full queues, strangers' entries, and what others know better."""

from __future__ import annotations

import pytest

from paxos.cluster import Cluster, Packet
from sofadb.paxos import Ballot, Configuration, Entry, Instance, Value
from sofadb.paxos.confirming import Confirming, Reader
from sofadb.paxos.effects import Deliver, Send, in_order
from sofadb.paxos.events import Received, Tick
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import (
    Accept,
    Accepted,
    Ask,
    AskRead,
    Chosen,
    Confirm,
    Confirmed,
    Forward,
    GrantRead,
    Learn,
)
from sofadb.paxos.records import Acceptance, Learned

THREE = ["n1", "n2", "n3"]


def messages(cluster: Cluster, kind: type, to: str) -> list[Packet]:
    return [packet for packet in cluster.network if isinstance(packet.message, kind) and packet.to == to]


def elected(names: list[str], **settings: float) -> tuple[Cluster, str, list[str]]:
    """A cluster at rest, its leader, and the others."""
    cluster = Cluster(names, **settings)
    leader = cluster.elect()
    cluster.settle()
    return cluster, leader, [name for name in names if name != leader]


def leading(cluster: Cluster, name: str) -> Leading:
    phase = cluster.replica(name).phase
    assert isinstance(phase, Leading)
    return phase


def test_an_acceptance_of_an_earlier_leadership_is_no_vote_in_this_one() -> None:
    """A leader's request reached one acceptor, whose answer takes a long time. Meanwhile the leader was deposed and came back.

    The late answer names the same instance and comes from an acceptor that counts; but what it accepted was
    proposed under another number. Only what is accepted under this one makes a quorum.
    """
    cluster, leader, (slow, other) = elected(THREE)
    earlier = cluster.replica(leader).ballot
    cluster.submit(leader, b"first try")
    (accept,) = messages(cluster, Accept, slow)
    instance = accept.message.instance
    cluster.pass_on(accept)
    cluster.save(slow)
    (late,) = messages(cluster, Accepted, leader)
    assert late.message == Accepted(earlier, instance)
    # It never reaches the other one. The leader gives up and campaigns again; it has the promise of `other`.
    cluster.network = []
    cluster.isolate(slow)
    cluster.save(leader)
    cluster.nodes[other].wake_at = float("inf")
    cluster.replica(leader).become_campaigning(earlier)
    for effect in cluster.replica(leader)._effects:
        cluster.perform(cluster.nodes[leader], effect)
    while not messages(cluster, Accept, other):
        cluster.save(leader)
        cluster.save(other)
        if cluster.network:
            cluster.pass_on(cluster.network[0])
    assert cluster.replica(leader).ballot > earlier
    # Its own vote and one of the earlier number: no quorum.
    cluster.save(leader)
    cluster.step(leader, Received(slow, late.message))
    assert not cluster.nodes[leader].applied
    cluster.settle()
    assert cluster.nodes[leader].applied == [b"first try"]


def test_a_confirmation_of_an_earlier_leadership_lets_nobody_read() -> None:
    """Two answers of an earlier leadership arrive when the same node leads again, and name the number of the present round.

    They were given before whatever may have happened in between. A read waits for answers under this ballot.
    """
    cluster, leader, others = elected(THREE)
    earlier = cluster.replica(leader).ballot
    cluster.crash(leader)
    cluster.advance(2_000)
    cluster.start(leader)
    for other in others:
        cluster.crash(other)
        cluster.start(other)
        cluster.nodes[other].wake_at = float("inf")
    cluster.advance(2_000)
    assert cluster.leader == leader
    read = cluster.ask(leader)
    now = leading(cluster, leader).confirming.number
    cluster.network = []
    for other in others:
        cluster.step(leader, Received(other, Confirmed(earlier, now, Instance(1), 0)))
    assert read not in cluster.nodes[leader].answers
    for other in others:
        cluster.step(
            leader, Received(other, Confirmed(cluster.replica(leader).ballot, now, Instance(1), 1_000_000))
        )
    assert read in cluster.nodes[leader].answers


def test_a_round_that_was_never_begun_is_confirmed_by_nobody() -> None:
    """A broken peer confirms the round after next. Believed, it would let readers go who come after what it says."""
    cluster, leader, (broken, _) = elected(THREE)
    ballot = cluster.replica(leader).ballot
    coming = leading(cluster, leader).confirming.number + 1
    cluster.step(leader, Received(broken, Confirmed(ballot, coming, Instance(0), 1_000_000)))
    read = cluster.ask(leader)
    assert leading(cluster, leader).confirming.number == coming
    assert read not in cluster.nodes[leader].answers
    cluster.settle()
    assert read in cluster.nodes[leader].answers


def test_a_leader_takes_from_others_what_they_know_to_be_chosen_and_proposes_on() -> None:
    """The old leader n3 got an instance chosen with n2, told n3 alone, and is cut off; n1 leads with the promise of n2.

    n1 proposes the reported value again, and nobody answers. Then n3 comes back, follows, and knows it to be chosen.
    n1 learns it from there, waits for no votes on it any more, and goes on behind it.
    """
    old = Ballot(1, "n3")
    settled = Value(1, (Entry("n3", 1, 1, b"settled"),))
    cluster = Cluster(THREE)
    for name in THREE:
        cluster.crash(name)
    cluster.nodes["n2"].disk = [Acceptance(Instance(1), old, settled)]
    cluster.nodes["n3"].disk = [Acceptance(Instance(1), old, settled), Learned(Instance(1), settled)]
    cluster.start("n1")
    cluster.start("n2")
    cluster.nodes["n2"].wake_at = float("inf")
    while cluster.leader is None:
        for name in ("n1", "n2"):
            cluster.save(name)
        if cluster.network:
            cluster.pass_on(cluster.network[0])
        else:
            cluster.now += 10
            cluster.step("n1", Tick())
    assert sorted(leading(cluster, "n1").flights) == [1, 2]
    cluster.network = []
    cluster.save("n1")
    cluster.network = []
    cluster.start("n3")
    cluster.now += 60
    cluster.step("n1", Tick())
    for kind, to in ((Confirm, "n3"), (Confirmed, "n1"), (Ask, "n3"), (Learn, "n1")):
        (packet, *_) = [packet for packet in messages(cluster, kind, to) if "n3" in (packet.sender, to)]
        cluster.pass_on(packet)
    assert cluster.nodes["n1"].applied == [b"settled"]
    assert sorted(leading(cluster, "n1").flights) == [2]
    token = cluster.submit("n1", b"behind it")
    cluster.advance(500)
    assert token in cluster.nodes["n1"].done
    assert all(cluster.nodes[name].applied == [b"settled", b"behind it"] for name in THREE)


def test_a_leader_with_a_full_queue_passes_over_what_is_forwarded_and_gets_it_again() -> None:
    """Nobody answers the leader for a moment, and its queue fills. What a follower forwards then has no room.

    It is passed over from there on, so that no later command overtakes it; the follower hears nothing of it and sends again.
    """
    cluster, leader, (follower, _) = elected(THREE, in_flight_max=1, queue_bytes_max=10, message_bytes_max=4)
    tokens = [cluster.submit(follower, b"%03d" % number) for number in range(3)]
    tokens += [cluster.submit(leader, b"%03d" % number) for number in range(100, 103)]
    forwards = messages(cluster, Forward, leader)
    cluster.network = [packet for packet in cluster.network if packet not in forwards]
    for packet in forwards:
        cluster.step(leader, Received(follower, packet.message))
        assert leading(cluster, leader).queue_bytes <= 10 + 3, "the queue is bounded"
    waiting = [bytes(entry.payload) for entry in leading(cluster, leader).queue]
    assert b"002" not in waiting, "there was no room for it"
    cluster.advance(1_000)
    done = {**cluster.nodes[follower].done, **cluster.nodes[leader].done}
    assert set(tokens) <= set(done)
    assert [each for each in cluster.nodes[leader].applied if each < b"1"] == [b"000", b"001", b"002"]


def test_nobody_forwards_in_the_name_of_another() -> None:
    """A broken peer forwards an entry with somebody else's name. Taken, it would use up a number of that node's session,
    and the real entry with that number would be passed over as a repetition."""
    cluster, leader, (broken, victim) = elected(THREE)
    forged = Entry(victim, cluster.replica(victim).outbox.incarnation, 1, b"forged")
    cluster.step(leader, Received(broken, Forward((forged,))))
    token = cluster.submit(victim, b"real")
    cluster.advance(500)
    assert token in cluster.nodes[victim].done
    assert cluster.nodes[leader].applied == [b"real"]


def test_more_readers_than_a_leader_has_room_for_are_answered_a_little_later() -> None:
    """Two followers and the leader itself read at once, before the leader has anything chosen, and there is room for one."""
    cluster, leader, others = elected(THREE, reads_max=1)
    phase = leading(cluster, leader)
    established, phase.own_first = phase.own_first, None
    reads = {name: cluster.ask(name) for name in (*others, leader)}
    for name in others:
        for packet in messages(cluster, AskRead, leader):
            if packet.sender == name:
                cluster.pass_on(packet)
    assert len(phase.confirming.next_readers) == 1
    phase.own_first = established
    cluster.advance(1_000)
    assert all(reads[name] in cluster.nodes[name].answers for name in THREE)


def two_under_way(asks_first: int, **settings: float) -> tuple[Cluster, str, list[str]]:
    """The first of two requests is chosen, by the leader and one other; the second is still on its way to all.

    `asks_first`: 0 if the leader's client asked first, 1 or 2 for another's.
    """
    cluster, leader, others = elected(THREE, in_flight_max=2, **settings)
    asker = [leader, *others][asks_first]
    cluster.submit(asker, b"first")
    for forward in messages(cluster, Forward, leader):
        cluster.pass_on(forward)
    (first,) = messages(cluster, Accept, others[0])
    cluster.submit(leader, b"second")
    cluster.pass_on(first)
    cluster.save(others[0])
    cluster.save(leader)
    (accepted,) = messages(cluster, Accepted, leader)
    cluster.pass_on(accepted)
    assert cluster.nodes[leader].applied == [b"first"]
    return cluster, leader, others


def test_a_leader_tells_when_the_last_of_what_is_on_its_way_left_and_how_large_it_is() -> None:
    cluster, leader, _ = two_under_way(asks_first=0)
    lead = leading(cluster, leader)
    second = lead.flights[max(lead.flights)]
    assert lead.last_proposed == (second.started_at, second.accept.value.size)
    cluster.settle()
    assert lead.last_proposed is None
    assert lead.has_room()


def test_what_is_chosen_is_told_by_the_next_request_if_something_is_on_its_way() -> None:
    """Nobody else waits for it, so a message of its own would be a message more for each batch."""
    cluster, leader, others = two_under_way(asks_first=0)
    assert not any(messages(cluster, Chosen, other) for other in others)
    cluster.submit(leader, b"third")
    third = messages(cluster, Accept, others[1])[-1]
    assert third.message.chosen == cluster.replica(leader).sequence.watermark
    cluster.settle()
    assert cluster.nodes[others[1]].applied == [b"first", b"second", b"third"]


def test_whose_clients_wait_is_told_at_once_what_is_chosen() -> None:
    cluster, _, others = two_under_way(asks_first=2)
    assert not messages(cluster, Chosen, others[0])
    assert messages(cluster, Chosen, others[1])


def test_who_may_read_is_told_first_what_is_chosen() -> None:
    """Else it would have to ask for what it has, or soon will."""
    cluster, leader, others = two_under_way(asks_first=0, lease_ms=300)
    read = cluster.ask(others[0])
    while not messages(cluster, GrantRead, others[0]):
        packet = next(each for each in cluster.network if not isinstance(each.message, Accept | Accepted))
        cluster.pass_on(packet)
    (told,) = messages(cluster, Chosen, others[0])
    (grant,) = messages(cluster, GrantRead, others[0])
    cluster.pass_on(told)
    cluster.pass_on(grant)
    assert read in cluster.nodes[others[0]].answers
    assert not messages(cluster, Ask, leader)


def test_what_the_others_wait_for_goes_before_what_is_done_here() -> None:
    """That may take long; theirs may begin meanwhile."""
    cluster, leader, others = elected(["n1", "n2", "n3"])
    cluster.submit(leader, b"x")
    cluster.save(leader)
    cluster.pass_on(messages(cluster, Accept, others[0])[-1])
    cluster.save(others[0])
    packet = messages(cluster, Accepted, leader)[-1]
    effects = in_order(cluster.step(leader, Received(packet.sender, packet.message)))
    assert isinstance(effects[0], Send)
    assert isinstance(effects[-1], Deliver)


def test_a_leader_that_slept_has_time_to_be_heard_again_once_and_no_lease() -> None:
    cluster, leader, _ = elected(["n1", "n2", "n3"], lease_ms=270)
    cluster.advance(200)
    lead = leading(cluster, leader)
    assert lead.holds_lease
    cluster.isolate(leader)
    cluster.now += 1_500
    cluster.step(leader, Tick())
    assert cluster.replica(leader).phase is lead
    assert not lead.holds_lease
    cluster.now += 1_500
    cluster.step(leader, Tick())
    assert cluster.replica(leader).phase is not lead


def test_what_a_disk_has_done_while_its_leader_slept_may_still_be_told() -> None:
    cluster, leader, _ = elected(["n1", "n2", "n3"])
    cluster.submit(leader, b"x")
    lead = leading(cluster, leader)
    assert lead.unsaved
    cluster.now += 5_000
    cluster.step(leader, Tick())
    assert cluster.replica(leader).phase is lead
    cluster.save(leader)
    cluster.settle()
    assert not lead.unsaved


@pytest.mark.parametrize("first", ["nothing", "submit", "read"])
def test_what_comes_first_after_a_sleep_does_not_matter(first: str) -> None:
    """What this node's own clients ask may stand in line before what the others have said."""
    cluster, leader, _ = elected(THREE)
    cluster.advance(200)
    lead = leading(cluster, leader)
    cluster.now += 3_000
    if first == "submit":
        cluster.submit(leader, b"x")
    if first == "read":
        cluster.ask(leader)
    cluster.step(leader, Tick())
    assert cluster.replica(leader).phase is lead


@pytest.mark.parametrize("sleeps", [False, True])
def test_who_sleeps_again_and_again_gives_up_all_the_same_without_a_quorum(sleeps: bool) -> None:
    cluster, leader, (friend, *gone) = elected(["n1", "n2", "n3", "n4", "n5"])
    cluster.advance(200)
    lead = leading(cluster, leader)
    for node in gone:
        cluster.isolate(node)
    began = cluster.now
    while cluster.replica(leader).phase is lead:
        assert cluster.now - began < 5_000
        if sleeps:
            cluster.now += 700
            cluster.step(leader, Tick())
            cluster.step(friend, Tick())
        cluster.advance(100)


# Whom a round for readers asks


def asked(cluster: Cluster) -> list[str]:
    """Whom those rounds ask that are on their way."""
    return [packet.to for packet in cluster.network if isinstance(packet.message, Confirm)]


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_a_round_for_readers_asks_no_more_than_it_needs_those_who_answered_last_and_first(size: int) -> None:
    names = [f"n{number}" for number in range(1, size + 1)]
    cluster = Cluster(names)
    leader = cluster.elect()
    cluster.advance(1_000)
    slow, *others = [name for name in names if name != leader]
    cluster.now = cluster.nodes[leader].wake_at
    cluster.step(leader, Tick())
    assert sorted(asked(cluster)) == sorted([slow, *others])
    cluster.network.sort(key=lambda packet: packet.to == slow)
    cluster.settle()
    token = cluster.ask(leader)
    assert asked(cluster) == others[: size // 2]
    cluster.settle()
    assert token in cluster.nodes[leader].answers
    # Whoever does not answer a heartbeat is not asked as long as others do.
    cluster.cut = {(leader, others[0])}
    cluster.advance(100)
    cluster.ask(leader)
    assert others[0] not in asked(cluster)
    assert len(asked(cluster)) == size // 2


def test_who_was_asked_and_is_dead_costs_readers_a_heartbeat_at_most_and_less_if_more_of_them_come() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    leader = cluster.elect()
    cluster.advance(1_000)
    replica = cluster.replica(leader)
    cluster.advance(cluster.nodes[leader].wake_at - cluster.now)
    first = cluster.ask(leader)
    (dead,) = asked(cluster)
    cluster.crash(dead)
    cluster.settle()
    cluster.advance(replica.pace.heartbeat_ms / 5 - 1)
    second = cluster.ask(leader)
    cluster.settle()
    assert not {first, second} & set(cluster.nodes[leader].answers)
    cluster.advance(1)
    third = cluster.ask(leader)
    assert len(asked(cluster)) == 2
    cluster.settle()
    assert {first, second, third} <= set(cluster.nodes[leader].answers)
    # For some time all are asked, and then the one that still answers. If that gets lost and nobody else reads, the heartbeat
    # asks again.
    cluster.ask(leader)
    assert len(asked(cluster)) == 2
    cluster.advance(100 * replica.pace.heartbeat_ms)
    alone = cluster.ask(leader)
    assert asked(cluster) == [name for name in ("n1", "n2", "n3") if name not in (leader, dead)]
    cluster.network = []
    cluster.advance(replica.pace.heartbeat_ms)
    assert alone in cluster.nodes[leader].answers
    cluster.ask(leader)
    assert len(asked(cluster)) == 2


def test_a_round_of_all_is_not_begun_again_for_more_readers_however_long_it_takes() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    leader = cluster.elect()
    cluster.advance(1_000)
    cluster.ask(leader)
    cluster.network = []
    for _ in range(4):
        cluster.now += cluster.replica(leader).pace.heartbeat_ms / 5
        cluster.ask(leader)
    assert len(asked(cluster)) == 2, "once, of all"


def test_while_the_membership_changes_and_when_few_have_answered_yet_a_round_asks_all() -> None:
    confirming = Confirming()
    before, after = Configuration(("n1", "n2", "n3")), Configuration(("n2", "n3", "n4", "n5"))
    for number, node in enumerate(("n1", "n2"), 1):
        confirming.start(Instance(1), (before,), False, 0.0)
        confirming.on_confirmed(node, number)
    assert confirming.nearest("n1", (before,)) == ["n2"]
    assert confirming.nearest("n1", (before, after)) is None
    assert confirming.nearest("n1", (after,)) is None, (
        "it takes three others now, since the leader does not vote"
    )
    confirming.on_confirmed("n4", 1)
    confirming.on_confirmed("n5", 1)
    assert confirming.nearest("n1", (after,)) == ["n2", "n4", "n5"]


def test_a_round_whose_acceptors_are_members_no_more_is_over_with_the_next_one() -> None:
    confirming = Confirming()
    before, after = Configuration(("n1", "n2")), Configuration(("n1",))
    readers = [Reader("n1", AskRead(number, 1)) for number in range(3)]
    for reader, window in zip(readers, ((before,), (before,), (after,)), strict=True):
        confirming.next_readers[reader] = None
        number = confirming.start(Instance(reader.ask.attempt), window, True, 0.0)
        confirming.on_confirmed("n1", number)
        if window == (before,):
            assert confirming.take() == []
    assert confirming.take() == [(Instance(2), readers)]
    assert confirming.rounds == []
