"""Changing who votes: what went wrong in other systems, and what must hold for each alpha."""

from __future__ import annotations

import pytest

from paxos.cluster import Cluster, Packet
from sofadb.paxos import (
    NO_OP,
    Ballot,
    Configuration,
    Foundation,
    Founded,
    Instance,
    Moment,
    Received,
    Reconfigure,
    Replica,
    Send,
    Settings,
    Started,
    Value,
)
from sofadb.paxos.events import HandOver, Tick
from sofadb.paxos.following import Following
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import (
    Accept,
    Accepted,
    AskRead,
    Canvass,
    Chosen,
    Confirm,
    Confirmed,
    Forward,
    Learn,
    Prepare,
    Promise,
    Refused,
    Support,
    TakeOver,
)
from sofadb.paxos.records import Acceptance, ChosenUpTo, Learned
from sofadb.paxos.values import Entry

THREE = ["n1", "n2", "n3"]
alphas = pytest.mark.parametrize("alpha", [1, 2, 5])


def configuration(acceptors: str, learners: str = "") -> Configuration:
    return Configuration(tuple(sorted(acceptors.split())), tuple(sorted(learners.split())))


def leading(cluster: Cluster, name: str) -> Leading:
    phase = cluster.replica(name).phase
    assert isinstance(phase, Leading)
    return phase


def led_by_n1(alpha: int, acceptors: str = "n1 n2 n3", others: str = "", **settings: float) -> Cluster:
    """`acceptors` vote, n1 leads, and `others` learn."""
    cluster = Cluster(acceptors.split(), alpha=alpha, **{"in_flight_max": 1, **settings})
    for name in cluster.nodes:
        if name != "n1":
            cluster.nodes[name].wake_at = float("inf")
    cluster.run_until(lambda: cluster.leader == "n1")
    for name in cluster.nodes:
        cluster.nodes[name].wake_at = cluster.now
    cluster.advance(200)
    for name in others.split():
        cluster.add(name)
    if others:
        cluster.change(acceptors, others)
    assert cluster.leader == "n1"
    return cluster


def sent_by(cluster: Cluster, *names: str) -> list[Packet]:
    """From now on, what these send."""
    sent: list[Packet] = []
    send = cluster.send

    def watch(sender: str, effect: Send) -> None:
        if sender in names:
            sent.append(Packet(sender, effect.to, effect.message))
        send(sender, effect)

    cluster.send = watch  # type: ignore[method-assign]
    return sent


def changes_in(packets: list[Packet]) -> list[Packet]:
    return [
        each
        for each in packets
        if isinstance(each.message, Accept) and each.message.value.configuration is not None
    ]


def finishes(cluster: Cluster, *names: str) -> None:
    """Commands of these nodes are done within ten seconds."""
    tokens = {name: cluster.submit(name, b"last of %s" % name.encode()) for name in names}
    cluster.advance(10_000)
    for name, token in tokens.items():
        assert token in cluster.nodes[name].done, name
    cluster.check_chosen()


# One change at a time


@alphas
def test_of_two_changes_within_alpha_the_second_waits_until_the_first_is_in_force(alpha: int) -> None:
    cluster = led_by_n1(alpha, others="n4 n5")
    cluster.isolate("n1")
    sent = sent_by(cluster, "n1")
    cluster.step("n1", Reconfigure(configuration("n1 n2 n3 n4", "n5")))
    replica, lead = cluster.replica("n1"), leading(cluster, "n1")
    first = lead.next - 1
    assert not lead.can_change
    cluster.step("n1", Reconfigure(configuration("n1 n2 n3 n5", "n4")))
    cluster.cut.clear()
    while not replica.membership.is_settled(replica.sequence.watermark) or replica.sequence.watermark < first:
        cluster.step("n1", Reconfigure(configuration("n1 n2 n3 n5", "n4")))
        assert {each.message.instance for each in changes_in(sent)} <= {first}
        cluster.nodes["n1"].wake_at = cluster.now
        cluster.run_until(
            lambda before=cluster.now, w=replica.sequence.watermark: replica.sequence.watermark > w
        )  # type: ignore[misc]
    assert replica.sequence.watermark >= first + alpha - 1
    cluster.advance(300)
    assert leading(cluster, "n1").can_change
    cluster.change("n1 n2 n3 n5", "n4")
    finishes(cluster, "n1", "n2", "n5")


@alphas
def test_the_configuration_that_holds_already_is_no_change(alpha: int) -> None:
    cluster = led_by_n1(alpha)
    sent = sent_by(cluster, "n1")
    cluster.step("n1", Reconfigure(configuration("n1 n2 n3")))
    cluster.step("n2", Reconfigure(configuration("n1 n2")))
    assert not changes_in(sent)


@alphas
@pytest.mark.parametrize("reaches", [False, True])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("n1 n2 n3 n4 n5", "n1 n2 n3"),
        ("n1 n2 n3 n4 n5", "n1 n2 n3 n4 n6"),
        ("n1 n2 n3", "n2 n3 n4"),
    ],
    ids=["one adds, one removes", "two add", "two remove"],
)
def test_changes_of_two_leaders_never_both_hold_without_knowing_of_each_other(
    one: str, other: str, reaches: bool, alpha: int
) -> None:
    """n1 proposes a change and is cut off; perhaps n2 has accepted it. The next leader wants another change.

    It may not propose it before it has something of its own chosen. By then it knows whether n1's can have been chosen.
    """
    cluster = led_by_n1(alpha, "n1 n2 n3 n4", "n5 n6")
    cluster.step("n1", Reconfigure(configuration(one)))
    for packet in changes_in(list(cluster.network)):
        if reaches and packet.to == "n2":
            cluster.pass_on(packet)
            cluster.save("n2")
    cluster.network.clear()
    cluster.isolate("n1")
    cluster.crash("n4")
    cluster.save("n1")
    sent = sent_by(cluster, "n2", "n3")
    cluster.start("n4")

    def is_fresh() -> bool:
        return any(
            node.name != "n1" and node.replica is not None and isinstance(node.replica.phase, Leading)
            for node in cluster.nodes.values()
        )

    cluster.run_until(is_fresh)
    second = cluster.leader
    assert second is not None
    assert second != "n1"
    lead = leading(cluster, second)
    assert not lead.is_established
    before = len(changes_in(sent))
    cluster.step(second, Reconfigure(configuration(other)))
    assert not lead.can_change
    assert len(changes_in(sent)) == before, "proposed by a leader that has chosen nothing of its own"
    cluster.advance(1_000)
    now = cluster.leader
    assert now is not None
    # What n1 began is either finished by now or was never anywhere.
    begun = configuration(one) in [value.configuration for value in cluster.chosen.values()]
    cluster.check_chosen()
    assert begun == (reaches and second == "n2") or reaches
    cluster.change(other)
    cluster.cut.clear()
    cluster.advance(3_000)
    for name in other.split():
        assert cluster.replica(name).membership.latest == configuration(other)
    finishes(cluster, *other.split())


@alphas
def test_a_removal_asked_of_an_isolated_leader_comes_to_nothing(alpha: int) -> None:
    """n1 is cut off and believes it leads, and so does n4, who does. The removal of n2 is asked of n1."""
    cluster = led_by_n1(alpha, "n1 n2 n3 n4 n5")
    cluster.isolate("n1")
    for name in ("n2", "n3", "n5"):
        cluster.nodes[name].wake_at = cluster.now + 5_000
    cluster.nodes["n4"].wake_at = cluster.now + 300
    cluster.nodes["n1"].wake_at = float("inf")
    cluster.run_until(lambda: cluster.leader == "n4")
    leading(cluster, "n1")
    cluster.step("n1", Reconfigure(configuration("n1 n3 n4 n5")))
    token = cluster.submit("n2", b"acknowledged by n4")
    cluster.advance(1_000)
    assert token in cluster.nodes["n2"].done
    cluster.cut.clear()
    cluster.advance(3_000)
    for name in cluster.nodes:
        assert cluster.replica(name).membership.latest == configuration("n1 n2 n3 n4 n5")
        assert cluster.nodes[name].applied == [b"acknowledged by n4"]
    finishes(cluster, "n1", "n2", "n3")


@alphas
def test_a_node_removed_while_most_are_down_takes_nothing_acknowledged_with_it(alpha: int) -> None:
    """n1 is cut off, n1 to n3 are killed, n4's removal is asked for, and they come back: every acknowledged command is there."""
    cluster = led_by_n1(alpha, "n1 n2 n3 n4 n5")
    cluster.isolate("n1")
    cluster.advance(3_000)
    done = []
    for number in range(7):
        done.append((b"%d" % number, cluster.submit("n2", b"%d" % number)))
        cluster.advance(50)
    for name in THREE:
        cluster.crash(name, keep=number % 3)
    cluster.cut.clear()
    for name in ("n4", "n5"):
        cluster.step(name, Reconfigure(configuration("n1 n2 n3 n5")))
    cluster.advance(2_000)
    for name in THREE:
        cluster.start(name)
    cluster.advance(3_000)
    if cluster.replica("n1").membership.latest != configuration("n1 n2 n3 n5"):
        cluster.change("n1 n2 n3 n5")
    acknowledged = [payload for payload, token in done if token in cluster.nodes["n2"].done]
    assert len(acknowledged) == 7
    finishes(cluster, "n1", "n2", "n3", "n5")
    for name in ("n1", "n2", "n3", "n5"):
        assert cluster.nodes[name].applied[:7] == acknowledged


# What a change costs


@alphas
def test_everybody_may_be_replaced_in_one_step_and_nobody_waits_for_a_timeout(alpha: int) -> None:
    cluster = led_by_n1(alpha, others="n4 n5 n6")
    began = cluster.now
    token = cluster.submit("n1", b"before")
    cluster.settle()
    cluster.step("n1", Reconfigure(configuration("n4 n5 n6")))
    later = cluster.submit("n4", b"after")
    cluster.settle()
    cluster.settle()
    assert cluster.now == began
    assert cluster.leader in ("n4", "n5", "n6")
    assert token in cluster.nodes["n1"].done
    assert later in cluster.nodes["n4"].done
    for name in THREE:
        cluster.crash(name)
    finishes(cluster, "n4", "n5", "n6")


@pytest.mark.parametrize("alpha", [2, 5, 64])
def test_a_change_costs_clients_no_pause(alpha: int) -> None:
    """n4 and n5 take the places of n2 and n3. Their promises are asked for while the old acceptors go on, under the same ballot.

    Without traffic, no-ops push the change through.
    """
    cluster = led_by_n1(alpha, others="n4 n5")
    ballot = leading(cluster, "n1").ballot
    sent = sent_by(cluster, "n1")
    cluster.step("n1", Reconfigure(configuration("n1 n4 n5", "n3")))
    cluster.settle()
    replica = cluster.replica("n1")
    assert replica.membership.is_settled(replica.sequence.watermark), "pushed through at once"
    assert leading(cluster, "n1").ballot == ballot
    assert {each.to for each in sent if isinstance(each.message, Prepare)} == {"n4", "n5"}
    no_ops = {e.message.instance for e in sent if isinstance(e.message, Accept) and e.message.value == NO_OP}
    assert len(no_ops) == alpha - 1
    cluster.crash("n4")
    finishes(cluster, "n1", "n3", "n5")
    assert leading(cluster, "n1").ballot == ballot


def test_what_pushes_a_change_through_takes_no_room_from_the_clients() -> None:
    cluster = led_by_n1(5, others="n4")
    cluster.step("n1", Reconfigure(configuration("n1 n2 n4")))
    first = leading(cluster, "n1").next - 1
    cluster.flow(lambda packet: packet.sender == "n1" or isinstance(packet.message, Promise))
    cluster.flow(lambda packet: isinstance(packet.message, Accepted) and packet.message.instance == first)
    lead = leading(cluster, "n1")
    assert sorted(lead.flights) == [first + 1, first + 2, first + 3, first + 4]
    cluster.submit("n1", b"a client's")
    assert first + 5 in lead.flights
    cluster.submit("n1", b"another's: one batch is on its way")
    assert first + 6 not in lead.flights
    finishes(cluster, "n1", "n2", "n4")


@alphas
def test_nothing_is_proposed_to_new_acceptors_before_a_quorum_of_them_has_promised(alpha: int) -> None:
    """Their promises are lost for a while: the old configuration is used up, and then clients wait."""
    cluster = led_by_n1(alpha, others="n4 n5")
    lost = {("n4", "n1"), ("n5", "n1")}
    sent = sent_by(cluster, "n1")
    cluster.step("n1", Reconfigure(configuration("n1 n4 n5")))
    first = leading(cluster, "n1").next - 1
    cluster.submit("n1", b"a client's")
    cluster.flow(
        lambda packet: not (isinstance(packet.message, Promise) or (packet.sender, packet.to) in lost)
    )
    last = max(each.message.instance for each in sent if isinstance(each.message, Accept))
    assert last == first + alpha - 1
    assert cluster.replica("n1").sequence.watermark == last
    assert not leading(cluster, "n1").can_change, "there is no instance for it"
    finishes(cluster, "n1", "n4", "n5")
    assert leading(cluster, "n1").ballot.round == 1


def test_what_a_new_acceptor_reports_late_is_proposed_before_anything_of_our_own() -> None:
    """An earlier leader got as far as the new configuration, and one of its acceptors has accepted a command there."""
    alpha = 2
    cluster = Cluster(THREE, alpha=alpha, in_flight_max=1)
    after = configuration("n1 n4 n5")
    change = Value(1, configuration=after)
    old = Ballot(1, "n9")
    cluster.add("n4")
    cluster.add("n5")
    for name in cluster.nodes:
        cluster.crash(name)
    theirs = Value(5, (Entry("n9", 1, 1, b"theirs"),))
    cluster.nodes["n1"].disk = [Acceptance(Instance(1), old, change)]
    cluster.nodes["n4"].disk = [
        Learned(Instance(1), change),
        Learned(Instance(2), NO_OP),
        ChosenUpTo(Instance(2)),
        Acceptance(Instance(4), old, theirs),
    ]
    cluster.nodes["n2"].disk = [Acceptance(Instance(2), old, NO_OP)]
    for name in ("n2", "n4", "n1", "n5"):
        cluster.start(name)
        if name != "n1":
            cluster.nodes[name].wake_at = float("inf")
    token = cluster.submit("n1", b"ours")
    cluster.run_until(lambda: cluster.leader == "n1")
    cluster.cut = {("n5", "n1")}
    cluster.advance(3_000)
    for name in ("n1", "n4"):
        assert cluster.nodes[name].applied == [b"theirs", b"ours"]
    assert token in cluster.nodes["n1"].done


def test_a_promise_whose_acceptor_knows_more_is_not_taken_before_we_have_learned_it() -> None:
    """n4 has promised and knows more to be chosen than the leader: what it accepted there it does not report."""
    cluster = led_by_n1(5, others="n4 n5")
    lead = leading(cluster, "n1")
    watermark = cluster.replica("n1").sequence.watermark
    cluster.isolate("n4")
    cluster.step("n1", Reconfigure(configuration("n4 n5 n1")))
    promise = Promise(lead.ballot, lead.proposer.first, (), None, Instance(watermark + 3), 0)
    effects = cluster.step("n1", Received("n4", promise))
    assert [each.message.first for each in effects if isinstance(each, Send)] == [watermark + 1]
    assert "n4" not in lead.proposer.promised_by
    # Nor one that no acceptor can have made.
    beyond = ((Instance(watermark + 7), Ballot(1, "n9"), NO_OP),)
    cluster.step(
        "n1", Received("n4", Promise(lead.ballot, lead.proposer.first, beyond, None, Instance(watermark), 0))
    )
    assert "n4" not in lead.proposer.promised_by


def test_a_long_report_of_a_new_acceptor_is_asked_for_to_its_end() -> None:
    cluster = led_by_n1(5, others="n4")
    lead = leading(cluster, "n1")
    watermark = cluster.replica("n1").sequence.watermark
    cluster.step("n1", Reconfigure(configuration("n1 n4")))
    part = ((Instance(watermark + 2), Ballot(0, "n9"), NO_OP),)
    promise = Promise(lead.ballot, lead.proposer.first, part, Instance(watermark + 2), Instance(watermark), 0)
    effects = cluster.step("n1", Received("n4", promise))
    assert Send("n4", Prepare(lead.ballot, Instance(watermark + 3))) in effects
    assert "n4" not in lead.proposer.promised_by


def test_a_new_acceptor_that_promised_more_is_outbid() -> None:
    cluster = led_by_n1(2, others="n4")
    cluster.replica("n4").acceptor.promised = Ballot(7, "n9")
    cluster.advance(2_000)
    cluster.change("n1 n2 n4")
    cluster.crash("n2")
    finishes(cluster, "n1", "n4")
    assert leading(cluster, "n1").ballot > Ballot(7, "n9")


def test_a_snapshot_taken_while_a_change_is_under_way_knows_who_votes_until_then_and_who_afterwards() -> None:
    """The change is contained, and holds from 11 on. Whoever begins from the snapshot, of 8, needs both."""
    old, new = configuration("n1 n2 n3"), configuration("n1 n4 n5")
    foundation = Foundation(Instance(8), 5, ((Instance(1), old), (Instance(11), new)), ())
    for is_running in (False, True):
        replica = Replica("n1", 1, old, Settings(alpha=5))
        for event in (Started(), Founded(foundation)) if is_running else (Founded(foundation), Started()):
            replica.step(event, Moment(0, 0, 0))
        assert replica.foundation() == foundation
        assert replica.window() == (old, new)
        assert replica.others() == ["n2", "n3", "n4", "n5"]


# Learners


@alphas
def test_the_leader_knows_how_far_each_learner_is(alpha: int) -> None:
    cluster = led_by_n1(alpha, others="n4")
    for number in range(10):
        cluster.submit("n1", b"%d" % number)
        cluster.settle()
    cluster.advance(200)
    assert leading(cluster, "n1").behind("n4") == 0
    assert leading(cluster, "n1").behind("n5") is None
    cluster.isolate("n4")
    for number in range(10):
        cluster.submit("n1", b"%d" % number)
        cluster.settle()
    assert leading(cluster, "n1").behind("n4") == 10
    cluster.advance(1_000)
    assert leading(cluster, "n1").behind("n4") is None, "it is not heard"
    assert leading(cluster, "n1").behind("n2") == 0


@alphas
def test_a_learner_has_no_vote(alpha: int) -> None:
    """n1 and the learner n4 accept; n2 and n3 are gone. Nothing is chosen, nobody reads, and nobody leads for long."""
    cluster = led_by_n1(alpha, others="n4")
    for name in ("n2", "n3"):
        cluster.crash(name)
    token = cluster.submit("n1", b"with a learner's vote")
    read = cluster.ask("n1")
    cluster.advance(200)
    assert (
        "n4" in leading(cluster, "n1").learner.accepted_by[leading(cluster, "n1").next - 1, Ballot(1, "n1")]
    )
    cluster.advance(4_000)
    assert cluster.leader is None
    assert token not in cluster.nodes["n1"].done
    assert read not in cluster.nodes["n1"].answers


@alphas
def test_an_acceptor_that_lacks_what_came_before_votes_on_nothing_until_it_has_learned(alpha: int) -> None:
    """n4 is promoted with an empty disk, and cannot learn. n2 is gone, so n4's vote is needed, and it must not come too early.

    It is no danger that it knows nothing: it votes only alpha beyond what it knows to be chosen, and it tells how far that is.
    So its promise is as good as anybody's, and its vote comes when it knows who votes.
    """
    cluster = led_by_n1(alpha)
    for number in range(20):
        cluster.submit("n1", b"%d" % number)
        cluster.settle()
    cluster.add("n4")
    send = cluster.send
    cluster.send = lambda sender, effect: (  # type: ignore[method-assign]
        None if isinstance(effect.message, Learn) and effect.to == "n4" else send(sender, effect)
    )
    cluster.step("n1", Reconfigure(configuration("n1 n2 n4")))
    cluster.settle()
    cluster.crash("n2")
    token = cluster.submit("n1", b"needs n4")
    cluster.advance(250)
    assert token not in cluster.nodes["n1"].done
    assert not [record for record in cluster.nodes["n4"].disk if isinstance(record, Acceptance)]
    assert leading(cluster, "n1").behind("n4") == cluster.replica("n1").sequence.watermark
    cluster.send = send  # type: ignore[method-assign]
    cluster.advance(3_000)
    assert token in cluster.nodes["n1"].done
    cluster.check_chosen()


# A directory in the place of another


@alphas
def test_a_late_acceptance_of_a_lost_directory_is_none_of_the_one_in_its_place(alpha: int) -> None:
    """n3 is lost and comes back as n3~1. What n3 once sent arrives late, under the right ballot."""
    cluster = led_by_n1(alpha)
    cluster.lose("n3")
    cluster.add("n3~1")
    cluster.change("n1 n2 n3", "n3~1")
    cluster.change("n1 n2 n3~1")
    cluster.submit("n1", b"the first one without n3")
    cluster.settle()
    cluster.isolate("n2")
    cluster.isolate("n3~1")
    token = cluster.submit("n1", b"needs one of the others")
    lead = leading(cluster, "n1")
    instance = lead.next - 1
    read = cluster.ask("n1")
    cluster.save("n1")
    for message in (
        Accepted(lead.ballot, instance),
        Confirmed(lead.ballot, lead.confirming.number, Instance(instance - 1), 0),
        Confirmed(lead.ballot, lead.confirming.number, Instance(instance + 9), 0, 300),
    ):
        effects = cluster.step("n1", Received("n3", message))
        assert not [each for each in effects if isinstance(each, Send)], "it is not asked for anything"
    assert token not in cluster.nodes["n1"].done
    assert read not in cluster.nodes["n1"].answers
    assert "n3" not in lead.confirmed_upto
    cluster.step("n1", Received("n3~1", Accepted(lead.ballot, instance)))
    assert token in cluster.nodes["n1"].done


@alphas
def test_promises_and_support_of_a_lost_directory_elect_nobody(alpha: int) -> None:
    cluster = led_by_n1(alpha)
    cluster.lose("n3")
    cluster.add("n3~1")
    cluster.change("n1 n2 n3", "n3~1")
    cluster.change("n1 n2 n3~1")
    cluster.advance(500)
    cluster.crash("n1")
    cluster.isolate("n2")
    cluster.advance(1_000)
    replica = cluster.replica("n2")
    assert isinstance(replica.phase, Following)
    assert replica.phase.attempt
    cluster.step("n2", Received("n3", Support(replica.phase.attempt, Ballot(1, "n1"))))
    assert isinstance(replica.phase, Following)
    cluster.step("n2", Received("n3~1", Support(replica.phase.attempt, Ballot(1, "n1"))))
    cluster.save("n2")
    cluster.step("n2", Received("n3", Promise(replica.ballot, Instance(1), (), None, Instance(0), 0)))
    assert not isinstance(replica.phase, Leading)


# Whoever is removed


@alphas
def test_a_leader_that_removes_itself_leads_to_the_end_of_the_old_configuration_and_hands_over(
    alpha: int,
) -> None:
    """With alpha instances in flight. Nobody waits for a timeout; n1 proposes nothing where it has no place."""
    cluster = led_by_n1(alpha, others="n4", batch_bytes_max=1)
    cluster.replica("n1").settings = cluster.settings
    sent = sent_by(cluster, "n1")
    tokens = [
        cluster.submit(name, b"%d of %s" % (i, name.encode())) for i in range(alpha) for name in ("n1", "n2")
    ]
    cluster.flow(lambda packet: isinstance(packet.message, Forward))
    cluster.step("n1", Reconfigure(configuration("n2 n3 n4")))
    (change,) = {each.message.instance for each in changes_in(sent)} or {None}
    while change is None:  # The window was full.
        cluster.pass_on(cluster.network[0]) if cluster.network else cluster.save("n1")
        for name in cluster.nodes:
            cluster.save(name)
        cluster.step("n1", Reconfigure(configuration("n2 n3 n4")))
        change = next((each.message.instance for each in changes_in(sent)), None)
    began = cluster.now
    cluster.settle()
    assert cluster.leader in ("n2", "n3", "n4")
    assert cluster.now == began
    assert max(e.message.instance for e in sent if isinstance(e.message, Accept)) <= change + alpha - 1
    assert [each for each in sent if isinstance(each.message, TakeOver)]
    cluster.advance(1_000)
    done = {token for node in cluster.nodes.values() for token in node.done}
    for token in tokens:
        assert token in done or cluster.nodes["n1"].abandoned.get(token) is not True
    cluster.crash("n1")
    finishes(cluster, "n2", "n3", "n4")
    for name in ("n2", "n3", "n4"):
        applied = cluster.nodes[name].applied
        assert len(set(applied)) == len(applied)


def test_a_leaving_leader_whose_successor_does_not_take_over_steps_down() -> None:
    """The successor hears and confirms, and its disk hangs. The others find a leader among themselves."""
    cluster = led_by_n1(2, others="n4")
    send = cluster.send
    cluster.send = lambda sender, effect: (  # type: ignore[method-assign]
        None if isinstance(effect.message, TakeOver) else send(sender, effect)
    )
    cluster.step("n1", Reconfigure(configuration("n2 n3 n4")))
    cluster.settle()
    assert leading(cluster, "n1").is_pausing
    assert leading(cluster, "n1").is_leaving
    cluster.advance(1_500)
    assert isinstance(cluster.replica("n1").phase, Following)
    cluster.advance(3_000)
    assert cluster.leader in ("n2", "n3", "n4")
    finishes(cluster, "n2", "n3", "n4")


@alphas
def test_only_a_removed_node_knows_that_the_change_is_in_force_and_that_is_enough(alpha: int) -> None:
    """n1 got everything before the change chosen, has it on disk, restarts, and has no vote any more; n3 is gone.

    n2 does not know enough to do without n1, and n4 to n6 do not know that they have a vote.
    """
    cluster = led_by_n1(alpha, others="n4 n5 n6")
    watermark = cluster.replica("n1").sequence.watermark
    cluster.step("n1", Reconfigure(configuration("n4 n5 n6")))
    # Nobody hears how far n1 has come: only what it proposes first, and the promises of the new ones.
    cluster.flow(
        lambda packet: (
            packet.to == "n1"
            or isinstance(packet.message, Prepare)
            or (
                isinstance(packet.message, Accept)
                and packet.to == "n2"
                and packet.message.chosen <= watermark + alpha - 1
            )
        )
    )
    replica = cluster.replica("n1")
    assert replica.sequence.watermark == watermark + alpha
    assert cluster.replica("n4").sequence.watermark == watermark
    cluster.crash("n1")
    cluster.crash("n3")
    cluster.network.clear()
    cluster.nodes["n1"].disk.append(ChosenUpTo(Instance(watermark + alpha)))
    cluster.start("n1")
    assert cluster.replica("n1").window() == (configuration("n4 n5 n6"),)
    cluster.advance(10_000)
    assert cluster.leader in ("n4", "n5", "n6")
    finishes(cluster, "n4", "n5", "n6")


@alphas
def test_removed_nodes_that_never_learned_it_come_back_after_a_month_and_disturb_nobody(alpha: int) -> None:
    """n2 and n3 are a quorum of the configuration that they remember. They support each other, campaign, and get nowhere."""
    cluster = led_by_n1(alpha, others="n4 n5")
    cluster.crash("n3")
    watermark = cluster.replica("n1").sequence.watermark
    cluster.step("n1", Reconfigure(configuration("n1 n4 n5")))
    # n2 votes as long as it has a vote, and hears of nothing.
    cluster.flow(lambda packet: packet.to != "n2" or isinstance(packet.message, Accept))
    cluster.crash("n2", keep=9)
    cluster.network = [packet for packet in cluster.network if packet.to != "n2"]
    assert cluster.replica("n1").sequence.watermark >= watermark + alpha
    for number in range(10):
        cluster.submit("n1", b"%d" % number)
        cluster.settle()
    ballot = cluster.replica("n1").ballot
    applied = list(cluster.nodes["n1"].applied)
    assert len(applied) == 10
    cluster.advance(10_000)
    cluster.start("n2")
    cluster.start("n3")
    reads = [cluster.ask(name) for name in ("n2", "n3")]
    lost = cluster.submit("n2", b"asked of one who is out")
    for _ in range(100):
        cluster.advance(100)
        for name in ("n1", "n4", "n5"):
            assert cluster.replica(name).leader == "n1"
            assert cluster.replica(name).acceptor.promised <= ballot
    assert leading(cluster, "n1").ballot == ballot
    assert cluster.nodes["n1"].applied == applied
    for name, read in zip(("n2", "n3"), reads, strict=True):
        assert cluster.nodes[name].answers.get(read, 10) == 10, "a stale read"
    assert lost not in cluster.nodes["n2"].done
    finishes(cluster, "n1", "n4", "n5")


@alphas
def test_a_removed_node_that_knows_it_is_silent(alpha: int) -> None:
    cluster = led_by_n1(alpha)
    cluster.change("n1 n2")
    cluster.submit("n1", b"one more")
    cluster.advance(500)
    cluster.isolate("n3")
    sent = sent_by(cluster, "n3")
    assert not cluster.replica("n3").membership.has_a_say("n3")
    cluster.advance(60_000)
    assert not [each for each in sent if isinstance(each.message, Canvass | Prepare)]


def test_who_finds_out_while_it_campaigns_that_it_has_no_say_gives_up() -> None:
    cluster = led_by_n1(2)
    cluster.crash("n3")
    cluster.change("n1 n2")
    cluster.submit("n1", b"one more")
    cluster.advance(500)
    cluster.crash("n1")
    cluster.start("n3")
    cluster.nodes["n2"].wake_at = float("inf")
    replica = cluster.replica("n3")
    replica._effects = []
    replica.become_campaigning(Ballot(3, "n1"))
    for effect in replica._effects:
        cluster.perform(cluster.nodes["n3"], effect)
    cluster.save("n3")
    (prepare,) = [each for each in cluster.network if isinstance(each.message, Prepare) and each.to == "n2"]
    cluster.pass_on(prepare)
    assert cluster.replica("n2").acceptor.promised.node == "n1", "n2 knows better"
    promise = Promise(
        replica.ballot, prepare.message.first, (), None, cluster.replica("n2").sequence.watermark, 0
    )
    cluster.step("n3", Received("n2", promise))
    cluster.settle()
    assert replica.sequence.watermark == cluster.replica("n2").sequence.watermark
    assert isinstance(replica.phase, Following)


# Whom to believe


def outsider_and_member() -> Cluster:
    """n9 has no say, as n2 knows; n1 leads."""
    cluster = led_by_n1(2)
    for number in range(5):
        cluster.submit("n1", b"%d" % number)
        cluster.settle()
    cluster.advance(200)
    return cluster


@pytest.mark.parametrize("lead", [0, 1])
def test_who_has_no_say_is_believed_only_if_it_knows_more(lead: int) -> None:
    """n9 claims to lead, or wants to. If it has learned no more than n2, n2 knows that it has no say; else n9 knows better."""
    for number, kind in enumerate((Prepare, Accept, Confirm, Chosen)):
        cluster = outsider_and_member()
        replica = cluster.replica("n2")
        theirs, known = Ballot(9, "n9"), replica.sequence.watermark
        knows = Instance(known + lead)
        message = {
            Prepare: Prepare(theirs, Instance(knows + 1)),
            Accept: Accept(theirs, Instance(known + 1), NO_OP, knows),
            Confirm: Confirm(theirs, 1, knows),
            Chosen: Chosen(theirs, knows),
        }[kind]
        effects = cluster.step("n2", Received("n9", message))
        assert bool(effects) == bool(lead), number
        assert (replica.leader == "n1") == (not lead)
        if not lead:
            assert replica.acceptor.promised == Ballot(1, "n1")
            cluster.step("n1", Received("n9", message))
            assert cluster.leader == "n1"


@pytest.mark.parametrize("lead", [0, 1])
def test_who_has_no_say_is_supported_only_if_it_knows_more(lead: int) -> None:
    cluster = outsider_and_member()
    cluster.isolate("n2")
    for _ in range(2):  # The first time it may itself have slept for so long.
        cluster.now += 2_000
        cluster.step("n2", Tick())
    knows = Instance(cluster.replica("n2").sequence.watermark + lead)
    effects = cluster.step("n2", Received("n9", Canvass(1, knows)))
    assert len(effects) == lead
    assert cluster.step("n2", Received("n3", Canvass(1))), "a member is, however little it knows"


def test_a_leader_takes_nothing_from_outsiders_but_questions() -> None:
    cluster = outsider_and_member()
    lead = leading(cluster, "n1")
    clocks = dict(cluster.replica("n1").clocks.distance)
    assert not cluster.step("n1", Received("n9", Refused(lead.ballot, Ballot(9, "n9"))))
    assert not cluster.step(
        "n1", Received("n9", Confirmed(lead.ballot, lead.confirming.number, Instance(99), 5))
    )
    assert not cluster.step("n1", Received("n9", Forward((Entry("n9", 1, 1, b"from nowhere"),))))
    assert cluster.replica("n1").clocks.distance == clocks
    assert not lead.queue
    assert lead.challenger[0] < lead.ballot
    # It may read and learn: what it is told is true.
    assert cluster.step("n1", Received("n9", AskRead(1, 1)))


# Reading


@pytest.mark.parametrize("alpha", [2, 5])
def test_a_read_is_confirmed_by_those_who_voted_when_the_watermark_was_noted(alpha: int) -> None:
    """n1 leads; {n1, n4, n5} follow {n1, n2, n3} after the next two instances. What n2 and n3 accept n1 does not hear.

    They elect n2, who gets the same chosen and lets its client know. Then n4 asks n1 where it may read from. n1 notes its
    watermark; n4 and n5 confirm n1; and only now it hears the old acceptances, whereby the old configuration is past. The new one
    has confirmed it, and yet nobody has said that nothing was chosen beyond the note.
    """
    cluster = led_by_n1(alpha, others="n4 n5", in_flight_max=alpha)
    watermark = cluster.replica("n1").sequence.watermark
    known = [cluster.submit("n2", b"%d" % number) for number in range(1, alpha)]
    cluster.flow(lambda packet: False)
    cluster.step("n1", Reconfigure(configuration("n1 n4 n5")))
    for packet in [each for each in cluster.network if isinstance(each.message, Forward)]:
        cluster.pass_on(packet)
    # The change is chosen, as n1 knows and n4 and n5 are told, and all that is left of the old configuration is on its way.
    change = watermark + 1
    late: list[Packet] = []

    def old_ones(packet: Packet) -> bool:
        is_late = isinstance(packet.message, Accepted) and packet.message.instance > change
        if is_late and packet.to == "n1" and packet not in late:
            late.append(packet)
        if packet.to in ("n2", "n3"):
            return isinstance(packet.message, Accept) and packet.message.chosen < change
        return not is_late

    cluster.flow(old_ones)
    replica = cluster.replica("n1")
    assert replica.sequence.watermark == change
    assert sorted(leading(cluster, "n1").flights) == list(range(change + 1, change + alpha))
    assert {packet.message.instance for packet in late} == set(range(change + 1, change + alpha))
    cluster.network = []
    # n2 and n3 do not hear n1 any more, and n2 finishes what n1 began.
    for name in ("n2", "n3"):
        cluster.cut |= {(a, b) for a in ("n1", "n4", "n5") for b in (name,)} | {
            (name, b) for b in ("n1", "n4", "n5")
        }
    for name in ("n1", "n4", "n5"):
        cluster.nodes[name].wake_at = float("inf")
    cluster.run_until(lambda: all(token in cluster.nodes["n2"].done for token in known))
    assert cluster.nodes["n4"].applied == []
    read = cluster.ask("n4")
    cluster.flow(lambda packet: True)
    for packet in late:
        cluster.step("n1", Received(packet.sender, packet.message))
    assert cluster.replica("n1").window() == (configuration("n1 n4 n5"),)
    cluster.now += 60
    cluster.step("n1", Tick())
    # What n1 says now to n4 is that it may read; that it should learn first comes later.
    cluster.flow(lambda packet: not isinstance(packet.message, Accept | Chosen | Confirm))
    assert cluster.nodes["n4"].answers.get(read, len(known)) == len(known), "a stale read"


def test_handing_over_while_a_change_is_pushed_through_leaves_the_rest_to_the_successor() -> None:
    cluster = led_by_n1(5, others="n4")
    cluster.step("n1", Reconfigure(configuration("n1 n2 n4")))
    cluster.step("n1", HandOver("n2", 1_000))
    cluster.advance(2_000)
    for name in ("n1", "n2", "n4"):
        replica = cluster.replica(name)
        assert replica.membership.latest == configuration("n1 n2 n4")
        assert replica.membership.is_settled(replica.sequence.watermark)
    finishes(cluster, "n1", "n2", "n4")
