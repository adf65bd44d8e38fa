"""What befalls every replica: strangers' numbers, answers that come too late, gaps on disk, and more than there is room for."""

from __future__ import annotations

import pytest

from paxos.cluster import Cluster, Packet
from sofadb.paxos import Ballot, Configuration, Entry, Instance, NodeId, Value
from sofadb.paxos.campaigning import Campaigning
from sofadb.paxos.effects import Abandon, Deliver
from sofadb.paxos.events import Moment, MoveTime, Read, Received, Recovered, Started, Tick
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
    Learn,
    Message,
    Prepare,
    Promise,
    Refused,
    Support,
)
from sofadb.paxos.records import Acceptance, ChosenUpTo, Learned, Promised
from sofadb.paxos.replica import Replica
from sofadb.paxos.settings import Settings

THREE = ["n1", "n2", "n3"]


def command(number: int) -> Value:
    return Value(number, (Entry("n9", 1, number, b"command %d" % number),))


def messages(cluster: Cluster, kind: type, to: str | None = None) -> list[Packet]:
    return [p for p in cluster.network if isinstance(p.message, kind) and to in (None, p.to)]


def elected(**settings: float) -> tuple[Cluster, str, list[str]]:
    """A cluster at rest, its leader, and the others."""
    cluster = Cluster(THREE, **settings)
    leader = cluster.elect()
    cluster.settle()
    return cluster, leader, [name for name in THREE if name != leader]


# Numbers


def test_a_number_is_used_by_its_owner_alone() -> None:
    """A broken peer sends on what it heard, under n2's number. Two proposers for one number would be the end of section 2.

    So whoever is not the owner gets no promise, no acceptance and no confirmation, and nobody follows anybody for it.
    """
    cluster = Cluster(THREE)
    theirs = Ballot(5, "n2")
    for message in (
        Prepare(theirs, Instance(1)),
        Accept(theirs, Instance(1), command(1), Instance(0)),
        Confirm(theirs, 1, Instance(0)),
        Chosen(theirs, Instance(0)),
    ):
        cluster.network = []
        cluster.step("n1", Received("n3", message))
        cluster.save("n1")
        assert not cluster.network
        assert cluster.replica("n1").acceptor.promised < theirs
        assert not cluster.replica("n1").acceptor.accepted
        assert cluster.replica("n1").leader is None
    # From the owner it is another matter.
    cluster.step("n1", Received("n2", Prepare(theirs, Instance(1))))
    assert cluster.replica("n1").acceptor.promised == theirs


# Answers that come too late


@pytest.mark.parametrize(
    "late",
    [
        Promise(Ballot(1, "n1"), Instance(1), (), None, Instance(9), 0),
        Accepted(Ballot(1, "n1"), Instance(1)),
        Confirmed(Ballot(1, "n1"), 1, Instance(9), 0),
        Refused(Ballot(1, "n1"), Ballot(9, "n3")),
        Support(1 << 32 | 1, Ballot(9, "n3")),
        Forward((Entry("n3", 1, 1, b"x"),)),
        AskRead(1, 1),
    ],
    ids=lambda message: type(message).__name__,
)
def test_an_answer_that_arrives_when_nobody_waits_for_it_does_nothing(late: Message) -> None:
    """n1 campaigned, led and canvassed once; now it follows n2. The answers to all that arrive, each a few seconds late."""
    cluster = Cluster(THREE)
    cluster.step("n1", Received("n2", Accept(Ballot(3, "n2"), Instance(1), command(1), Instance(0))))
    cluster.save("n1")
    replica = cluster.replica("n1")
    phase = replica.phase
    assert isinstance(phase, Following)
    assert cluster.step("n1", Received("n3", late)) == []
    assert replica.phase is phase
    assert replica.leader == "n2"
    assert not phase.supporters
    assert phase.seen < Ballot(9, "n3")
    assert replica.acceptor.promised == Ballot(3, "n2")
    assert replica.sequence.watermark == 0


def test_a_refusal_of_an_earlier_number_does_not_end_the_present_campaign() -> None:
    """A candidate was refused, campaigned again above what it was told, and is now told so once more by another acceptor.

    It is beaten already, or it will refuse the present number, too, and say so. Only that ends the campaign.
    """
    cluster = Cluster(THREE)
    replica = cluster.replica("n1")
    replica.become_campaigning(Ballot(0, ""))
    first = replica.ballot
    cluster.step("n1", Received("n2", Refused(first, Ballot(7, "n3"))))
    assert isinstance(replica.phase, Following)
    replica.become_campaigning(replica.phase.seen)
    second = replica.ballot
    assert second > Ballot(7, "n3")
    for refused, promised in (
        (first, Ballot(7, "n3")),
        (first, second.above("n3")),
        (second, Ballot(7, "n3")),
    ):
        cluster.step("n1", Received("n3", Refused(refused, promised)))
    assert isinstance(replica.phase, Campaigning)
    cluster.step("n1", Received("n3", Refused(second, second.above("n3"))))
    assert isinstance(replica.phase, Following)


def test_a_leader_and_a_candidate_support_no_other() -> None:
    """Somebody has lost the leader and asks around. Who leads, or is about to, has not lost it."""
    cluster, leader, (other, _) = elected()
    cluster.step(leader, Received(other, Canvass(1)))
    cluster.replica(other).become_campaigning(Ballot(0, ""))
    cluster.step(other, Received(leader, Canvass(1)))
    assert not messages(cluster, Support)


def test_what_is_taught_twice_is_learned_once() -> None:
    """Two teachers answer the same ask. The second answer writes nothing and delivers nothing."""
    cluster = Cluster(THREE)
    learn = Learn(Instance(1), (command(1), command(2)))
    first = cluster.step("n1", Received("n2", learn))
    assert [effect.instance for effect in first if isinstance(effect, Deliver)] == [1, 2]
    assert cluster.step("n1", Received("n3", learn)) == []
    cluster.save("n1")
    assert cluster.nodes["n1"].disk == [Learned(Instance(1), command(1)), Learned(Instance(2), command(2))]


# Gaps


def test_what_was_learned_beyond_a_gap_is_delivered_with_what_the_leader_then_says_to_be_chosen() -> None:
    """A node accepted instances 1 and 3 from the leader; the request for 2 was lost, but somebody taught it the value.

    Then the leader says: chosen up to 3. Nothing is missing, so nothing is asked for.
    """
    cluster = Cluster(THREE)
    ballot = Ballot(1, "n2")
    for number in (1, 3):
        cluster.step("n1", Received("n2", Accept(ballot, Instance(number), command(number), Instance(0))))
    cluster.step("n1", Received("n3", Learn(Instance(2), (command(2),))))
    assert not cluster.nodes["n1"].delivered
    cluster.step("n1", Received("n2", Chosen(ballot, Instance(3))))
    assert cluster.nodes["n1"].applied == [b"command 1", b"command 2", b"command 3"]
    assert not messages(cluster, Ask)


def test_a_restart_takes_what_was_learned_for_what_was_chosen_and_not_what_was_accepted_before() -> None:
    """On its disk a node has an acceptance of an old number for instance 2, and then what was chosen there, learned from another.

    Instance 1 became known later, and with the next record that both are chosen. After a restart it has the same two
    values as before, the learned one among them.
    """
    cluster = Cluster(THREE)
    cluster.step("n1", Received("n3", Accept(Ballot(1, "n3"), Instance(2), command(7), Instance(0))))
    cluster.step("n1", Received("n2", Learn(Instance(2), (command(2),))))
    cluster.step("n1", Received("n2", Accept(Ballot(2, "n2"), Instance(1), command(1), Instance(0))))
    cluster.step("n1", Received("n2", Accept(Ballot(2, "n2"), Instance(3), command(3), Instance(2))))
    cluster.save("n1")
    node = cluster.nodes["n1"]
    assert node.applied == [b"command 1", b"command 2"]
    assert Acceptance(Instance(2), Ballot(1, "n3"), command(7)) in node.disk
    assert Learned(Instance(2), command(2)) in node.disk
    assert node.disk[-1] == ChosenUpTo(Instance(2))
    cluster.crash("n1")
    cluster.start("n1")
    assert node.applied == [b"command 1", b"command 2"]
    assert cluster.replica("n1").acceptor.promised == Ballot(2, "n2")
    assert cluster.replica("n1").acceptor.value_accepted(Instance(3), Ballot(2, "n2")) == command(3)


# More than there is room for


def test_a_command_for_which_there_is_no_room_is_refused_with_certainty_and_never_done() -> None:
    """A node is cut off, and its clients go on writing. What it has room for waits; the rest is refused, and not done later."""
    cluster, _, (lost, _) = elected(queue_bytes_max=10, patience_ms=60_000)
    cluster.isolate(lost)
    tokens = [cluster.submit(lost, b"%04d" % number) for number in range(4)]
    node = cluster.nodes[lost]
    assert node.abandoned == {tokens[2]: True, tokens[3]: True}
    cluster.cut.clear()
    cluster.advance(5_000)
    assert node.applied == [b"0000", b"0001"]
    assert list(node.done) == tokens[:2]
    # What has taken effect makes room again.
    token = cluster.submit(lost, b"0004")
    cluster.advance(500)
    assert token in node.done


def test_a_command_larger_than_all_room_is_taken_when_nothing_else_waits() -> None:
    """Otherwise it could never be done at all."""
    cluster, _, (follower, _) = elected(queue_bytes_max=10)
    token = cluster.submit(follower, bytes(100))
    assert cluster.nodes[follower].abandoned == {}
    cluster.advance(500)
    assert token in cluster.nodes[follower].done


def test_so_many_submissions_wait_and_no_more_however_small_they_are() -> None:
    cluster, _, (lost, _) = elected(submissions_max=2)
    cluster.isolate(lost)
    tokens = [cluster.submit(lost, b"") for _ in range(3)]
    assert cluster.nodes[lost].abandoned == {tokens[2]: True}
    assert cluster.nodes[lost].overloaded == {tokens[2]}


def test_a_read_for_which_there_is_no_room_is_refused() -> None:
    """A node is cut off, and its clients go on reading. The third of them is told at once that there is no answer."""
    cluster, _, (lost, _) = elected(reads_max=2)
    cluster.isolate(lost)
    reads = [cluster.ask(lost) for _ in range(3)]
    assert cluster.nodes[lost].abandoned == {reads[2]: True}
    assert cluster.nodes[lost].overloaded == {reads[2]}
    cluster.cut.clear()
    cluster.advance(2_000)
    assert set(cluster.nodes[lost].answers) == set(reads[:2])
    assert cluster.replica(lost).reading.count == 0


def test_what_waited_for_a_leader_is_forwarded_in_order_in_messages_of_bounded_size() -> None:
    """Clients write while nobody leads. When somebody does, ten commands leave at once, two to a message, in order."""
    cluster = Cluster(THREE, message_bytes_max=8)
    tokens = [cluster.submit("n3", b"%04d" % number) for number in range(10)]
    assert not cluster.network
    forwards: list[Forward] = []
    send = cluster.send

    def watch(sender: str, effect: object) -> None:
        if isinstance(effect.message, Forward):  # type: ignore[attr-defined]
            forwards.append(effect.message)  # type: ignore[attr-defined]
        send(sender, effect)  # type: ignore[arg-type]

    cluster.send = watch  # type: ignore[method-assign]
    cluster.nodes["n3"].wake_at = 5_000.0
    cluster.elect()
    cluster.settle()
    assert [len(forward.entries) for forward in forwards] == [2] * 5
    assert cluster.nodes["n3"].applied == [b"%04d" % number for number in range(10)]
    assert list(cluster.nodes["n3"].done) == tokens


# Time


def test_what_falls_due_moves_time_by_the_leader_alone() -> None:
    """A key expires at the same moment everywhere, and every node notices. One of them proposes that it is that time."""
    cluster, leader, followers = elected()
    cluster.advance(1_000)
    due = int(cluster.now) + 1_000_000
    for follower in followers:
        assert cluster.step(follower, MoveTime(due)) == []
    cluster.settle()
    assert all(cluster.replica(name).time < due for name in THREE)
    phase = cluster.replica(leader).phase
    assert isinstance(phase, Leading)
    cluster.step(leader, MoveTime(due))
    cluster.advance(100)
    assert all(cluster.replica(name).time >= due for name in THREE)


# Nobody leads


def test_while_nobody_has_led_for_long_clients_wait_only_as_long_as_an_election_takes() -> None:
    """The first wait for the whole patience, those behind them until it is over, and all later ones for a second."""
    cluster, _, (lost, _) = elected()
    node = cluster.nodes[lost]
    cluster.isolate(lost)
    cluster.advance(1_000)
    assert cluster.replica(lost).leader is None
    first = cluster.submit(lost, b"first")
    cluster.advance(3_500)
    second, read = cluster.submit(lost, b"second"), cluster.ask(lost)
    assert node.abandoned == {}, "somebody may lead at any moment"
    cluster.advance(1_490)
    assert node.abandoned == {first: True, second: True, read: True}
    assert not node.overloaded
    third, other = cluster.submit(lost, b"third"), cluster.ask(lost)
    cluster.advance(990)
    assert third not in node.abandoned
    assert other not in node.abandoned
    cluster.advance(20)
    assert node.abandoned[third]
    assert node.abandoned[other]
    cluster.cut.clear()
    cluster.advance(5_000)
    assert cluster.sequence == []


def test_what_is_asked_just_before_the_cluster_comes_back_is_done() -> None:
    cluster, _, (lost, _) = elected()
    cluster.isolate(lost)
    cluster.advance(20_000)
    write, read = cluster.submit(lost, b"done"), cluster.ask(lost)
    cluster.cut.clear()
    cluster.advance(1_000)
    assert write in cluster.nodes[lost].done
    assert read in cluster.nodes[lost].answers
    # Somebody leads: from now on it is worth to wait again.
    cluster.isolate(lost)
    token = cluster.ask(lost)
    cluster.advance(4_900)
    assert cluster.nodes[lost].abandoned == {}
    cluster.advance(200)
    assert cluster.nodes[lost].abandoned == {token: True}


def test_how_long_a_log_is_read_back_is_no_time_without_a_leader() -> None:
    settings = Settings()
    replica = Replica(NodeId("n1"), 2, Configuration(("n1", "n2", "n3")), settings)
    replica.step(Recovered(Promised(Ballot(1, "n2"))), Moment(0.0, 0, 0.5))
    replica.step(Started(), Moment(60_000.0, 0, 0.5))
    replica.step(Read(1), Moment(60_000.0, 0, 0.5))
    abandoned = [
        (after, effect)
        for after in range(0, 6_000, 100)
        for effect in replica.step(Tick(), Moment(60_000.0 + after, 0, 0.5))
        if isinstance(effect, Abandon)
    ]
    assert abandoned == [(settings.patience_ms, Abandon((1,), certain=True))]
