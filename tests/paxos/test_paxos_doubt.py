"""Logs that were damaged: who does not know what it answered is silent, and learns what it lacks from the others (rule P11)."""

from __future__ import annotations

import pytest

from paxos.cluster import Cluster
from sofadb.paxos import (
    NO_BALLOT,
    Ballot,
    Configuration,
    CutOff,
    Damaged,
    Entry,
    Foundation,
    Founded,
    Instance,
    Moment,
    Note,
    Offer,
    Received,
    Recovered,
    Replica,
    Save,
    Send,
    Settings,
    Started,
    Tick,
    Value,
)
from sofadb.paxos.following import Following
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import (
    Accept,
    Ask,
    Canvass,
    Confirm,
    Confirmed,
    Learn,
    Message,
    Prepare,
    Promise,
    Support,
    TakeOver,
)
from sofadb.paxos.records import Acceptance, ChosenUpTo, CutUpTo, Learned, Promised, Record, Restored

THREE = ["n1", "n2", "n3"]
CONFIGURATION = Configuration(tuple(THREE))
OLD, NEW, HIGH = Ballot(1, "n2"), Ballot(5, "n2"), Ballot(9, "n3")
NOTED, UNNOTED = Damaged(is_noted=True), Damaged(is_noted=False)
ALPHA = 4


def command(number: int, name: bytes = b"command") -> Value:
    return Value(number, (Entry("n9", 1, number, b"%s %d" % (name, number)),))


def accepted(number: int, ballot: Ballot = OLD) -> Acceptance:
    return Acceptance(Instance(number), ballot, command(number))


def chosen(number: int) -> ChosenUpTo:
    return ChosenUpTo(Instance(number))


def read(*log: Record | Damaged | Founded) -> Replica:
    """n1, before it takes part."""
    replica = Replica("n1", 2, CONFIGURATION, Settings(alpha=ALPHA, in_flight_max=ALPHA))
    for each in log:
        replica.step(each if isinstance(each, Damaged | Founded) else Recovered(each), Moment(0.0, 0, 0.5))
    return replica


def started(*log: Record | Damaged | Founded) -> Replica:
    replica = read(*log)
    replica.step(Started(), Moment(0.0, 0, 0.5))
    return replica


def answers(replica: Replica, sender: str, message: Message) -> list[Message]:
    """What is sent to others, now or when it is stable."""
    now = max(1.0, replica.moment.now)
    effects = replica.step(Received(sender, message), Moment(now, 0, 0.5))
    sends = [each for each in effects if isinstance(each, Send)]
    sends += [
        each for save in effects if isinstance(save, Save) for each in save.then if isinstance(each, Send)
    ]
    return [each.message for each in sends]


def votes(replica: Replica, chosen_upto: int = 0) -> bool:
    """Whether it answers as an acceptor."""
    (*_, told) = [None, *answers(replica, "n3", Prepare(HIGH, Instance(chosen_upto + 1)))]
    return isinstance(told, Promise)


# How far the doubt goes


@pytest.mark.parametrize(
    ("log", "upto"),
    [
        # The last record is lost; the note tells of it.
        ((Note(NEW, Instance(7)), accepted(5), chosen(5), NOTED), 7),
        # Behind the damage an acceptance in 6: nothing in it lies beyond 9.
        ((accepted(5), chosen(5), UNNOTED, accepted(6, NEW)), 6 - 1 + ALPHA),
        # The note knows more exactly.
        ((Note(NEW, Instance(6)), chosen(5), NOTED, accepted(6, NEW)), 6),
        # Two regions, one of them behind the note: only the acceptance behind both tells.
        ((Note(NEW, Instance(6)), chosen(5), NOTED, UNNOTED, accepted(6, NEW)), 6 - 1 + ALPHA),
        ((Note(NEW, Instance(6)), chosen(5), UNNOTED, NOTED, accepted(6, NEW)), 6 - 1 + ALPHA),
        # A hole in what is known to be chosen.
        ((accepted(1), chosen(1), NOTED, accepted(3), chosen(30)), 30),
        ((accepted(1), CutUpTo(Instance(30))), 30),
        # An acceptance shows what was chosen, whatever else is lost.
        ((Restored(Instance(0)), accepted(30)), 30 - ALPHA),
        # What was restored is in doubt no more.
        ((Note(NEW, Instance(7)), NOTED, accepted(1), chosen(1), Promised(NEW), Restored(Instance(1))), 1),
    ],
)
def test_the_doubt_reaches_as_far_as_what_is_whole_allows(
    log: tuple[Record | Damaged, ...], upto: int
) -> None:
    replica = started(*log)
    assert replica.doubt.upto == upto
    assert not replica.doubt.is_hopeless


@pytest.mark.parametrize("number", range(1, 40))
def test_no_acceptance_that_a_damage_can_hide_lies_beyond_the_bound(number: int) -> None:
    """An acceptor that learns and accepts as far ahead as it may; any one record is lost."""
    log: list[Record] = []
    for watermark in range(12):
        log += [accepted(watermark + ahead, Ballot(watermark + 1, "n2")) for ahead in (ALPHA, 1)]
        log.append(chosen(watermark + 1))
    index = number % len(log)
    lost = log[index]
    replica = started(*log[:index], UNNOTED, *log[index + 1 :])
    if isinstance(lost, Acceptance) and not replica.doubt.is_hopeless:
        assert lost.instance <= replica.doubt.upto
        assert lost.ballot <= replica.acceptor.promised


@pytest.mark.parametrize(
    "log",
    [
        (accepted(1), chosen(1), UNNOTED),
        # A promise tells of promises only.
        (accepted(1), chosen(1), UNNOTED, Promised(NEW), chosen(9)),
        (Note(NEW, Instance(6)), NOTED, UNNOTED, Learned(Instance(1), command(1))),
    ],
)
def test_with_neither_an_acceptance_nor_a_note_behind_the_damage_there_is_no_hope(
    log: tuple[Record | Damaged, ...],
) -> None:
    replica = started(*log)
    assert replica.doubt.is_hopeless
    answers(replica, "n2", Learn(Instance(1), tuple(command(number) for number in range(1, 13))))
    assert replica.sequence.watermark >= 5
    assert not votes(replica)
    ballot = Ballot(6, "n2")
    assert not answers(replica, "n2", Confirm(ballot, 1, replica.sequence.watermark))
    assert replica.leader == "n2", "it hears who leads, all the same"


def test_what_a_note_has_promised_stays_promised() -> None:
    replica = started(Note(NEW, Instance(1)), Promised(OLD), accepted(1), chosen(1), NOTED)
    assert replica.acceptor.promised == NEW
    assert replica.acceptor.note() == Note(NEW, Instance(1))
    assert not replica.is_in_doubt, "nothing beyond what is chosen was accepted"


# What it does meanwhile


def test_in_doubt_it_neither_promises_nor_accepts_nor_leads_and_supports_who_does() -> None:
    replica = started(Note(OLD, Instance(2)), accepted(1), chosen(1), NOTED)
    assert replica.is_in_doubt
    assert not votes(replica)
    assert not answers(replica, "n2", Accept(NEW, Instance(2), command(2), Instance(1)))
    assert replica.leader == "n2"
    (confirmed,) = answers(replica, "n2", Confirm(NEW, 1, Instance(1)))
    assert confirmed == Confirmed(NEW, 1, Instance(1), 0, 0, Instance(2))
    assert not answers(replica, "n2", TakeOver(NEW, Instance(1)))
    replica.become_following(None)
    for now in range(1_000, 60_000, 1_000):
        for effect in replica.step(Tick(), Moment(now, 0, 0.5)):
            assert not (isinstance(effect, Send) and isinstance(effect.message, Canvass | Prepare))
    assert isinstance(replica.phase, Following)
    effects = replica.step(Received("n3", Canvass(1)), Moment(70_000, 0, 0.5))
    assert Send("n3", Support(1, OLD)) in effects
    assert not [each for each in effects if isinstance(each, Save)]
    assert not replica.step(CutOff(Instance(1)), Moment(70_000, 0, 0.5)), "nothing is given up"


def test_what_was_accepted_in_front_of_a_damage_is_not_taken_for_what_was_chosen() -> None:
    """Instance 2 was accepted, then accepted anew under a higher number: that record is lost. It is chosen, as is said behind."""
    log = (accepted(1), accepted(2), Learned(Instance(3), command(3)), NOTED, chosen(3))
    replica = started(Note(NEW, Instance(2)), *log)
    assert replica.sequence.watermark == 0
    assert set(replica.sequence.ahead) == {3}, "what lies behind a hole stays known"
    answers(replica, "n3", Learn(Instance(1), (command(1), command(2, b"another"))))
    assert replica.sequence.watermark == 3
    assert not replica.is_in_doubt


def test_it_asks_all_members_in_turn_whoever_leads() -> None:
    replica = started(Note(OLD, Instance(3)), NOTED, chosen(3))
    asked = []
    now = 0.0
    for _ in range(6):
        now += 1_000
        sends = replica.step(Tick(), Moment(now, 0, 0.5))
        asked += [each.to for each in sends if isinstance(each, Send) and each.message == Ask(Instance(1))]
    assert asked[:4] in (["n2", "n3"] * 2, ["n3", "n2"] * 2)
    first = answers(replica, "n2", Learn(Instance(1), (command(1),)))
    assert first == [Ask(Instance(2))], "who has one has perhaps the next"


def test_nobody_else_is_there_to_ask() -> None:
    replica = Replica("n1", 2, Configuration(("n1",)), Settings())
    for event in (Damaged(is_noted=False), Started()):
        replica.step(event, Moment(0.0, 0, 0.5))
    assert not [e for e in replica.step(Tick(), Moment(9_000, 0, 0.5)) if isinstance(e, Send | Save)]
    with pytest.raises(AssertionError, match="does not lead"):
        replica.become_campaigning(NO_BALLOT)


# The end of it


def test_when_the_doubt_is_over_that_is_on_record_behind_all_damage() -> None:
    replica = started(Note(NEW, Instance(2)), accepted(1), chosen(1), NOTED)
    effects = replica.step(Received("n2", Learn(Instance(2), (command(2),))), Moment(1, 0, 0.5))
    saves = [each.records for each in effects if isinstance(each, Save)]
    end = (Promised(NEW), chosen(2), Restored(Instance(2)))
    assert saves == [(Learned(Instance(2), command(2)),), end]
    assert votes(replica, 2)
    again = started(
        Note(NEW, Instance(9)), accepted(1), chosen(1), NOTED, Learned(Instance(2), command(2)), *end
    )
    assert not again.is_in_doubt


def test_a_snapshot_ends_the_doubt_as_well() -> None:
    replica = started(Note(NEW, Instance(6)), accepted(1), chosen(1), NOTED)
    foundation = Foundation(Instance(6), 6, ((Instance(1), CONFIGURATION),), (("n9", 1, 6),))
    replica.step(Founded(foundation), Moment(1, 0, 0.5))
    assert votes(replica, 6)


def test_what_of_a_damaged_log_lies_below_a_snapshot_is_not_taught_from_it() -> None:
    """An older record of a lost one may be there. The snapshot has what it led to."""
    foundation = Foundation(Instance(6), 6, ((Instance(1), CONFIGURATION),), (("n9", 1, 6),))
    log = (accepted(4), NOTED, accepted(6, NEW), chosen(6), CutUpTo(Instance(2)))
    replica = started(Founded(foundation), Note(NEW, Instance(6)), *log)
    assert not replica.is_in_doubt
    effects = replica.step(Received("n2", Ask(Instance(4))), Moment(1, 0, 0.5))
    assert effects == [Offer("n2", Instance(4))]


def test_the_leader_of_an_idle_cluster_has_chosen_what_somebody_is_in_doubt_of() -> None:
    cluster = Cluster(THREE)
    leader = cluster.elect()
    cluster.submit(leader, b"first")
    cluster.advance(500)
    _, doubtful = (name for name in THREE if name != leader)
    upto = cluster.replica(doubtful).sequence.watermark
    cluster.crash(doubtful)
    node = cluster.nodes[doubtful]
    node.note = Note(cluster.replica(leader).ballot, Instance(upto + 3))
    node.disk.append(Damaged(is_noted=True))
    cluster.start(doubtful)
    lead = cluster.replica(leader).phase
    assert isinstance(lead, Leading)
    cluster.run_until(lambda: doubtful in lead.doubtful)
    lead.hand_over(doubtful, 1_000)
    assert lead.successor is None
    cluster.advance(1_000)
    assert cluster.replica(leader).sequence.watermark >= upto + 3
    assert not cluster.replica(doubtful).is_in_doubt
    assert not lead.doubtful
    cluster.check_chosen()


def test_nobody_has_no_ops_chosen_for_ever_by_a_doubt_without_an_end() -> None:
    cluster = Cluster(THREE, alpha=ALPHA, in_flight_max=1)
    leader = cluster.elect()
    other = next(name for name in THREE if name != leader)
    cluster.advance(500)
    lead = cluster.replica(leader).phase
    assert isinstance(lead, Leading)
    before = cluster.replica(leader).sequence.watermark
    absurd = Confirmed(lead.ballot, lead.confirming.number, Instance(0), 0, 0, Instance(1 << 60))
    cluster.step(leader, Received(other, absurd))
    cluster.advance(2_000)
    assert cluster.replica(leader).sequence.watermark <= before + 2 * ALPHA


def test_the_helix_no_log_is_whole_and_together_they_are() -> None:
    """Every part is damaged on one of three. All stop, start, and come back with everything, though none may lead at first."""
    cluster = Cluster(THREE, alpha=ALPHA, in_flight_max=1)
    leader = cluster.elect()
    for number in range(60):
        cluster.submit(leader, b"%d" % number)
        cluster.advance(1)
    cluster.advance(1_000)
    expected = list(cluster.nodes[leader].applied)
    cluster.check_chosen()
    for index, name in enumerate(THREE):
        cluster.crash(name)
        node = cluster.nodes[name]
        node.disk = [
            Damaged(is_noted=True)
            if isinstance(record, Acceptance | Learned)
            and record.instance < 50
            and record.instance // 5 % 3 == index
            else record
            for record in node.disk
        ]
        node.note = Note(Ballot(1, leader), Instance(62))
    for name in THREE:
        cluster.start(name)
        assert cluster.replica(name).is_in_doubt
    cluster.advance(5_000)
    token = cluster.submit("n1", b"after")
    cluster.advance(2_000)
    assert token in cluster.nodes["n1"].done
    for name in THREE:
        assert cluster.nodes[name].applied == [*expected, b"after"]
        assert not cluster.replica(name).is_in_doubt
    # And once more, though the damage is there still.
    for name in THREE:
        cluster.crash(name)
    for name in THREE:
        cluster.start(name)
        assert not cluster.replica(name).is_in_doubt
