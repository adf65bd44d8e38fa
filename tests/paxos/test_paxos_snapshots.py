"""Snapshots, and logs that are cut behind them: what a replica knows that begins from a foundation, and what it must not say."""

from __future__ import annotations

import pytest

from paxos.cluster import Cluster
from sofadb.paxos import (
    NO_BALLOT,
    Abandon,
    Ballot,
    Configuration,
    CutOff,
    Deliver,
    Entry,
    Foundation,
    Founded,
    GiveUp,
    Instance,
    Moment,
    Offer,
    Received,
    Recovered,
    Replica,
    Save,
    Send,
    Settings,
    Started,
    Submit,
    Tick,
    Value,
)
from sofadb.paxos.campaigning import Campaigning
from sofadb.paxos.following import Following
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Accept, Ask, Chosen, Confirm, Forward, Learn, Prepare, Promise
from sofadb.paxos.records import Acceptance, ChosenUpTo, CutUpTo, Learned, Promised, Record

THREE = ["n1", "n2", "n3"]
TABLE = ((Instance(1), Configuration(tuple(THREE))),)
OLD = Ballot(1, "n2")


def command(number: int, name: bytes = b"command") -> Value:
    return Value(number, (Entry("n9", 1, number, b"%s %d" % (name, number)),))


def foundation(instance: int, *sessions: tuple[str, int, int]) -> Foundation:
    return Foundation(Instance(instance), instance, TABLE, sessions or (("n9", 1, instance),))


def started(*events: object, incarnation: int = 1) -> Replica:
    """n1, that has read all this back."""
    replica = Replica("n1", incarnation, TABLE[0][1], Settings())
    for event in events:
        replica.step(Recovered(event) if isinstance(event, Record) else event, Moment(0.0, 0, 0.5))  # type: ignore[arg-type]
    replica.step(Started(), Moment(0.0, 0, 0.5))
    return replica


def cluster_with_a_cut(**settings: float) -> tuple[Cluster, str, str, str]:
    """(leader, other, behind): `behind` missed twenty commands, and the logs of the others do not have them any more."""
    cluster = Cluster(THREE, **settings)
    leader = cluster.elect()
    cluster.settle()
    other, behind = (name for name in THREE if name != leader)
    cluster.crash(behind)
    for number in range(20):
        cluster.submit(leader, b"%d" % number)
        cluster.advance(1)
    cluster.advance(500)
    for name in (leader, other):
        cluster.snapshot(name)
        cluster.cut_log(name)
        cluster.settle()
        assert len(cluster.nodes[name].disk) <= 10
        replica = cluster.replica(name)
        replica.sequence.tail.clear()
    return cluster, leader, other, behind


# At the start


def test_what_lies_at_or_below_the_foundation_is_passed_over_but_its_promises_stand() -> None:
    replica = started(
        Founded(foundation(5)),
        Acceptance(Instance(3), Ballot(7, "n3"), command(3)),
        Learned(Instance(5), command(55)),
        ChosenUpTo(Instance(4)),
        CutUpTo(Instance(5)),
        Acceptance(Instance(6), OLD, command(6)),
        Acceptance(Instance(7), OLD, command(7)),
        ChosenUpTo(Instance(6)),
    )
    assert replica.sequence.watermark == 6
    assert replica.acceptor.promised == Ballot(7, "n3")
    assert set(replica.acceptor.accepted) == {7}
    assert replica.foundation() == foundation(6)


@pytest.mark.parametrize(
    ("events", "first", "last"),
    [
        ((CutUpTo(Instance(4)),), 1, 4),
        ((Founded(foundation(3)), ChosenUpTo(Instance(6))), 4, 6),
        ((Founded(foundation(3)), Learned(Instance(4), command(4)), CutUpTo(Instance(6))), 5, 6),
        ((Founded(foundation(3)), Learned(Instance(6), command(6)), ChosenUpTo(Instance(7))), 4, 7),
        ((Acceptance(Instance(1), OLD, command(1)), ChosenUpTo(Instance(1 << 60))), 2, 1 << 60),
    ],
)
def test_with_the_newest_snapshot_unreadable_and_the_log_cut_it_is_silent(
    events: tuple[object, ...], first: int, last: int
) -> None:
    """Of what it accepted in the gap it knows nothing. It knows which instances are missing, and asks for them."""
    replica = started(*events)
    assert replica.is_in_doubt
    assert (replica.sequence.watermark + 1, replica.doubt.upto) == (first, last)
    effects = replica.step(Received("n2", Prepare(Ballot(9, "n2"), Instance(1))), Moment(1, 1, 0))
    assert not [each for each in effects if isinstance(each, Save)]
    effects = replica.step(Tick(), Moment(1_000, 1, 0))
    assert [each.message for each in effects if isinstance(each, Send)] == [Ask(Instance(first))]


def test_with_the_newest_snapshot_unreadable_the_older_one_and_the_log_are_enough() -> None:
    """The log is cut behind the older one."""
    cluster = Cluster(THREE)
    leader = cluster.elect()
    for number in range(30):
        cluster.submit(leader, b"%d" % number)
        cluster.advance(60)
        if number in (10, 20):
            cluster.snapshot(leader)
    applied = list(cluster.nodes[leader].applied)
    cluster.cut_log(leader)
    cluster.settle()
    cluster.crash(leader)
    node = cluster.nodes[leader]
    node.snapshots = node.snapshots[:1]
    cluster.start(leader)
    assert node.applied[:25] == applied[:25]
    newer = node.snapshots.pop()
    node.replica = None
    cluster.start(leader)
    assert cluster.replica(leader).is_in_doubt
    cluster.crash(leader)
    node.snapshots = [newer]
    cluster.start(leader)
    cluster.advance(2_000)
    assert node.applied == applied


def test_what_the_log_has_it_teaches_and_what_only_the_snapshot_has_it_offers() -> None:
    """A snapshot of 8. One log was written up to 9 and cut at 4: it teaches from 5 on. One ends at 7: only the snapshot has 8."""
    values = [Learned(Instance(i), command(i)) for i in range(5, 10)]
    whole = started(Founded(foundation(8)), *values, ChosenUpTo(Instance(9)), CutUpTo(Instance(4)))
    short = started(Founded(foundation(8)), *values[:3], ChosenUpTo(Instance(7)), CutUpTo(Instance(4)))
    assert (whole.cut, short.cut) == (4, 8)
    (save,) = [
        each
        for each in whole.step(Received("n2", Ask(Instance(5))), Moment(1, 1, 0))
        if not isinstance(each, Offer)
    ]
    assert isinstance(save, Save)
    assert Offer("n2", Instance(5)) in short.step(Received("n2", Ask(Instance(5))), Moment(1, 1, 0))
    assert whole.step(Received("n3", Ask(Instance(4))), Moment(1, 1, 0)) == [Offer("n3", Instance(4))]


def test_a_follower_knows_how_much_it_lacks() -> None:
    world = Cluster(["n1", "n2", "n3"])
    leader = world.elect()
    away = next(name for name in world.nodes if name != leader)
    world.crash(away)
    for number in range(3):
        world.submit(leader, b"%d" % number)
        world.advance(50)
    world.start(away)
    # What it accepted it lacks as long as it was not told that it is chosen.
    world.run_until(lambda: world.replica(away).missing > 0)
    world.advance(1_000)
    assert world.replica(away).missing == 0


def test_what_never_came_into_the_log_is_known_to_be_missing_in_the_next_life_too() -> None:
    replica = Replica("n1", 1, TABLE[0][1], Settings())
    replica.step(Founded(foundation(8)), Moment(0, 0, 0))
    effects = replica.step(Started(), Moment(0, 0, 0))
    (save,) = [effect for effect in effects if isinstance(effect, Save)]
    assert save.records == (CutUpTo(Instance(8)), ChosenUpTo(Instance(8)))
    assert (
        started(
            Founded(foundation(8)), *save.records, Learned(Instance(9), command(9)), ChosenUpTo(Instance(9))
        ).cut
        == 8
    )


def test_what_was_accepted_below_a_snapshot_from_elsewhere_is_not_taken_for_chosen_when_that_is_lost() -> (
    None
):
    """Only one follower ever accepted a command. It misses what was chosen instead, and goes on from another's snapshot."""
    cluster = Cluster(THREE)
    leader = cluster.elect()
    cluster.advance(200)
    behind = next(name for name in THREE if name != leader)
    cluster.submit(leader, b"overtaken")
    for packet in [each for each in cluster.network if each.to == behind]:
        cluster.pass_on(packet)
    cluster.save(behind)
    cluster.network.clear()
    cluster.crash(leader)
    cluster.crash(behind)
    cluster.start(leader)
    cluster.advance(2_000)
    newer = cluster.elect()
    for number in range(9):
        cluster.submit(newer, b"%d" % number)
        cluster.advance(100)
    cluster.snapshot(newer)
    cluster.start(behind)
    cluster.transfer(newer, behind)
    cluster.settle()
    cluster.crash(behind)
    cluster.nodes[behind].snapshots.clear()
    cluster.start(behind)
    assert cluster.replica(behind).is_in_doubt
    assert b"overtaken" not in cluster.nodes[behind].applied
    cluster.advance(2_000)
    assert cluster.nodes[behind].applied == cluster.nodes[newer].applied
    assert not cluster.replica(behind).is_in_doubt


# Cutting


def test_what_must_outlive_the_cut_is_saved_before_anything_is_given_up() -> None:
    replica = started(
        Acceptance(Instance(1), Ballot(4, "n2"), command(1)),
        Promised(Ballot(7, "n3")),
        ChosenUpTo(Instance(1)),
    )
    (save,) = replica.step(CutOff(Instance(1)), Moment(1, 1, 0))
    promised, chosen, cut = Promised(Ballot(7, "n3")), ChosenUpTo(Instance(1)), CutUpTo(Instance(1))
    assert save == Save((promised, chosen, cut), (GiveUp(Instance(1)),))


def test_a_promise_outlives_the_cut_of_its_record_and_a_restart() -> None:
    cluster, _, other, _ = cluster_with_a_cut()
    promised = cluster.replica(other).acceptor.promised
    assert promised != NO_BALLOT
    cluster.crash(other)
    cluster.start(other)
    assert cluster.replica(other).acceptor.promised == promised
    assert cluster.replica(other).sequence.watermark >= 20
    token = cluster.submit(other, b"after the restart")
    cluster.advance(1_000)
    assert token in cluster.nodes[other].done


def test_nothing_is_cut_that_was_not_delivered() -> None:
    with pytest.raises(AssertionError, match="what was delivered"):
        started().step(CutOff(Instance(1)), Moment(1, 1, 0))


def test_an_old_accept_that_arrives_after_the_cut_is_ignored_and_not_acknowledged() -> None:
    """The acceptance was acknowledged once; its record is cut off. The request comes again, then under a higher ballot."""
    cluster, leader, other, _ = cluster_with_a_cut()
    replica = cluster.replica(other)
    ballot = cluster.replica(leader).ballot
    for number in (3, replica.sequence.watermark):
        accept = Accept(ballot, Instance(number), command(number), Instance(number - 1))
        effects = cluster.step(other, Received(leader, accept))
        assert not [each for each in effects if isinstance(each, Save)]
    higher = Ballot(ballot.round + 1, leader)
    effects = cluster.step(other, Received(leader, Accept(higher, Instance(3), command(3), Instance(2))))
    assert not [each for each in effects if isinstance(each, Save)]
    assert replica.acceptor.promised == ballot


# Behind the cut


@pytest.mark.parametrize("alpha", [1, 2, 5])
def test_a_new_leader_below_a_cut_fetches_the_snapshot_and_takes_no_silence_for_empty(alpha: int) -> None:
    """`behind` campaigns from its first unchosen instance on. The other's report begins far above that: it is no "nothing"."""
    cluster, leader, other, behind = cluster_with_a_cut(alpha=alpha, in_flight_max=1)
    cluster.crash(leader)
    cluster.start(behind)
    cluster.nodes[other].wake_at = float("inf")
    proposed: list[object] = []
    send = cluster.send

    def watch(name: str, effect: Send) -> None:
        if name == behind and isinstance(effect.message, Accept):
            proposed.append(effect.message)
        send(name, effect)

    cluster.send = watch  # type: ignore[method-assign]
    cluster.replica(other).become_following(None)
    cluster.run_until(lambda: bool(cluster.offers))
    assert isinstance(cluster.replica(behind).phase, Campaigning)
    for _ in range(20):
        cluster.nodes[other].wake_at = float("inf")
        cluster.advance(50)
    assert not proposed
    assert set(cluster.offers) == {(other, behind)}
    cluster.transfer(other, behind)
    assert isinstance(cluster.replica(behind).phase, Following)
    token = cluster.submit(behind, b"after the snapshot")
    cluster.advance(3_000)
    assert token in cluster.nodes[behind].done
    assert cluster.nodes[behind].applied[:20] == [b"%d" % number for number in range(20)]
    cluster.check_chosen()


@pytest.mark.parametrize("alpha", [2, 5])
def test_promises_that_begin_at_different_first_instances_are_merged_rightly(alpha: int) -> None:
    """n1 knows up to 3; n2 up to 5, has cut its log there, and accepted 6; n3 accepted 4 and 6 from older ones.

    The value of 4 is what n2's snapshot holds, not what n3 accepted; that of 6 is that of the highest number.
    """
    cluster = Cluster(THREE, alpha=alpha, in_flight_max=1)
    for name in THREE:
        cluster.crash(name)
    known = [Learned(Instance(i), command(i)) for i in range(1, 6)]
    cluster.nodes["n1"].disk = [*known[:3], ChosenUpTo(Instance(3))]
    cluster.nodes["n2"].disk = [
        *known,
        ChosenUpTo(Instance(5)),
        Acceptance(Instance(6), Ballot(3, "n9"), command(6)),
    ]
    wrong = [
        Acceptance(Instance(i), OLD, command(i, b"not chosen")) for i in ((4, 6) if alpha == 5 else (4,))
    ]
    cluster.nodes["n3"].disk = [*known[:3], ChosenUpTo(Instance(3)), *wrong]
    for name in THREE:
        cluster.start(name)
        if name != "n1":
            cluster.nodes[name].wake_at = float("inf")
    cluster.snapshot("n2")
    cluster.cut_log("n2")
    cluster.replica("n2").sequence.tail.clear()
    cluster.run_until(lambda: bool(cluster.offers))
    assert cluster.offers[0] == ("n2", "n1")
    cluster.settle()
    assert cluster.leader is None
    cluster.transfer("n2", "n1")
    cluster.nodes["n1"].wake_at = cluster.now
    cluster.advance(2_000)
    for giver, taker in cluster.offers[1:]:
        cluster.snapshot(giver)
        cluster.transfer(giver, taker)
    cluster.advance(2_000)
    for name in THREE:
        assert cluster.nodes[name].applied[:6] == [b"command %d" % i for i in range(1, 7)], name


def test_a_snapshot_brings_the_sessions_so_that_nothing_takes_effect_twice() -> None:
    """A replica is rebuilt by a snapshot; then what the snapshot contains is asked for again, under the old number."""
    cluster, leader, _, behind = cluster_with_a_cut()
    again = Entry(leader, 1, 20, b"19")
    cluster.start(behind)
    cluster.advance(300)
    cluster.transfer(leader, behind)
    # The leader's own table knows it; so it is put where an earlier leader had chosen it a second time.
    for name in THREE:
        cluster.step(
            name,
            Received(
                leader, Learn(Instance(cluster.replica(name).sequence.watermark + 1), (Value(0, (again,)),))
            ),
        )
    cluster.advance(1_000)
    token = cluster.submit(behind, b"last")
    cluster.advance(1_000)
    assert token in cluster.nodes[behind].done
    for name in THREE:
        assert cluster.nodes[name].applied == [*(b"%d" % number for number in range(20)), b"last"]


def test_old_snapshots_second_ones_and_other_senders_change_nothing() -> None:
    """Two peers offer, the leader changes meanwhile, and an older snapshot comes after the newer: only what leads on is taken."""
    cluster, leader, other, behind = cluster_with_a_cut()
    earlier = cluster.nodes[other].snapshots[-1]
    cluster.start(behind)
    cluster.advance(200)
    cluster.crash(leader)
    cluster.transfer(other, behind)
    cluster.advance(3_000)
    assert cluster.leader in (other, behind)
    cluster.submit(other, b"more")
    cluster.advance(1_000)
    cluster.snapshot(other)
    before = cluster.replica(behind).foundation()
    phase = cluster.replica(behind).phase
    for each in (earlier.foundation, before, cluster.nodes[other].snapshots[-1].foundation):
        assert not [e for e in cluster.step(behind, Founded(each)) if isinstance(e, Save | Deliver | Abandon)]
    assert cluster.replica(behind).foundation() == before
    assert cluster.replica(behind).phase is phase
    assert cluster.nodes[behind].applied == cluster.nodes[other].applied


def test_a_follower_goes_on_from_the_snapshot_with_what_it_knows_beyond_and_answers_who_waited() -> None:
    replica = started()
    now = Moment(1, 1, 0)
    ballot = Ballot(5, "n2")
    replica.step(Received("n2", Prepare(ballot, Instance(1))), now)
    replica.step(Received("n2", Accept(ballot, Instance(2), command(22), Instance(0))), now)
    replica.step(Received("n2", Learn(Instance(9), (command(9), command(10)))), now)
    replica.step(Received("n2", Learn(Instance(12), (command(12),))), now)
    replica.step(Received("n2", Chosen(ballot, Instance(12))), now)
    effects = replica.step(Founded(foundation(8)), now)
    assert [each.instance for each in effects if isinstance(each, Deliver)] == [9, 10]
    assert replica.time == 10
    saves = [each.records for each in effects if isinstance(each, Save)]
    assert saves == [(CutUpTo(Instance(8)), ChosenUpTo(Instance(8)))]
    assert Send("n2", Ask(Instance(11))) in effects, "it goes on learning at once"
    assert replica.acceptor.promised == ballot
    assert not replica.acceptor.accepted
    assert replica.leader == "n2"


def test_a_read_that_the_snapshot_makes_answerable_is_answered() -> None:
    cluster, leader, _, behind = cluster_with_a_cut()
    cluster.start(behind)
    cluster.advance(200)
    token = cluster.ask(behind)
    cluster.settle()
    assert token not in cluster.nodes[behind].answers
    cluster.transfer(leader, behind)
    assert cluster.nodes[behind].answers[token] == 20


def test_of_what_it_asked_for_itself_a_replica_learns_from_the_snapshot_only_that_it_took_effect() -> None:
    """Three commands were sent, two took effect, and the values are nowhere any more: nobody can know what they came to."""
    replica = started()
    now = Moment(1, 1, 0)
    replica.step(Received("n2", Confirm(Ballot(5, "n2"), 1, Instance(0))), now)
    for token in (11, 12, 13):
        replica.step(Submit(token, b"%d" % token), now)
    effects = replica.step(Founded(foundation(8, ("n1", 1, 2))), now)
    assert Abandon((11, 12), certain=False) in effects
    assert Send("n2", Forward((Entry("n1", 1, 3, b"13"),))) in effects
    effects = replica.step(Founded(foundation(9, ("n1", 1, 2))), now)
    assert not [each for each in effects if isinstance(each, Abandon)]
    # Whom nobody waits for any more is told nothing; and an earlier life's session says nothing of this one's.
    replica.step(Tick(), Moment(60_000, 1, 0))
    effects = replica.step(Founded(foundation(10, ("n1", 1, 3))), Moment(60_000, 1, 0))
    assert not [each for each in effects if isinstance(each, Abandon)]
    assert not replica.outbox.sent
    later = started(incarnation=2)
    later.step(Received("n2", Confirm(Ballot(5, "n2"), 1, Instance(0))), now)
    later.step(Submit(1, b"of the next life"), now)
    effects = later.step(Founded(foundation(8, ("n1", 1, 2))), now)
    assert not [each for each in effects if isinstance(each, Abandon)]
    assert later.outbox.count == 1


def test_a_leader_whose_state_jumps_follows() -> None:
    """Somebody else has led since, without its knowing."""
    cluster = Cluster(THREE)
    leader = cluster.elect()
    cluster.settle()
    token = cluster.submit(leader, b"under way")
    assert isinstance(cluster.replica(leader).phase, Leading)
    cluster.step(leader, Founded(foundation(30, (leader, 1, 1))))
    assert isinstance(cluster.replica(leader).phase, Following)
    assert cluster.nodes[leader].abandoned == {token: False}


# History and what rests on it


def test_a_candidate_that_was_told_of_a_history_which_is_then_lost_does_not_lead_without_it() -> None:
    """n2 says that everything up to 5 is chosen before its log has it, and loses it. n1 must not fill that with no-ops."""
    cluster = Cluster(THREE)
    for name in THREE:
        cluster.crash(name)
    for name in ("n1", "n2"):
        cluster.start(name)
    cluster.nodes["n2"].wake_at = float("inf")
    cluster.stuck_disks.add("n2")
    cluster.step("n2", Received("n3", Learn(Instance(1), tuple(command(i) for i in range(1, 6)))))
    cluster.run_until(lambda: any(isinstance(each.message, Prepare) for each in cluster.network))
    ballot = cluster.replica("n1").ballot
    cluster.step("n1", Received("n2", Promise(ballot, Instance(1), (), None, Instance(5), 0)))
    cluster.crash("n2")
    cluster.network = []
    cluster.advance(5_000)
    assert cluster.leader is None
    assert not isinstance(cluster.replica("n1").phase, Leading)


def test_a_leader_passes_on_no_hole() -> None:
    """n1 knows 1, 2, and 5 to 7. It leads with the help of one that knows nothing: first the gap is settled."""
    cluster = Cluster(THREE)
    for name in THREE:
        cluster.crash(name)
    known = {i: Learned(Instance(i), command(i)) for i in (1, 2, 5, 6, 7)}
    cluster.nodes["n1"].disk = list(known.values())
    cluster.nodes["n2"].disk = [
        Acceptance(Instance(3), OLD, command(3)),
        Acceptance(Instance(4), OLD, command(4)),
    ]
    for name in ("n1", "n2"):
        cluster.start(name)
    assert cluster.nodes["n1"].delivered == 2
    cluster.nodes["n2"].wake_at = float("inf")
    cluster.advance(2_000)
    for name in ("n1", "n2"):
        assert cluster.nodes[name].applied[:7] == [b"command %d" % i for i in range(1, 8)]


def test_whoever_asks_from_below_the_cut_again_and_again_is_offered_it_now_and_then() -> None:
    cluster, leader, _, behind = cluster_with_a_cut()
    for _ in range(50):
        cluster.step(leader, Received(behind, Ask(Instance(1))))
    assert cluster.offers == [(leader, behind)]
    cluster.advance(10_000)
    cluster.step(leader, Received(behind, Ask(Instance(1))))
    assert cluster.offers == [(leader, behind)] * 2


def test_a_node_that_went_on_from_a_snapshot_does_so_again_after_a_restart() -> None:
    """Its log has a hole where the snapshot was. Without that snapshot it is silent."""
    cluster, leader, _, behind = cluster_with_a_cut()
    cluster.start(behind)
    cluster.advance(300)
    cluster.transfer(leader, behind)
    token = cluster.submit(behind, b"beyond")
    cluster.advance(1_000)
    assert token in cluster.nodes[behind].done
    cluster.crash(behind)
    snapshots = cluster.nodes[behind].snapshots
    cluster.nodes[behind].snapshots = []
    cluster.start(behind)
    assert cluster.replica(behind).is_in_doubt
    cluster.crash(behind)
    cluster.nodes[behind].snapshots = snapshots
    cluster.start(behind)
    cluster.advance(1_000)
    assert cluster.nodes[behind].applied == [*(b"%d" % number for number in range(20)), b"beyond"]
