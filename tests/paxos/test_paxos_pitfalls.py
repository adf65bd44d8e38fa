"""More of what went wrong in systems like ours, played with real replicas: each test is named after what it shows."""

from __future__ import annotations

import itertools

import pytest

from paxos.cluster import Cluster, Packet
from sofadb.paxos import NO_BALLOT, Ballot, Entry, Instance, Proposer, Value
from sofadb.paxos.effects import Save, Send
from sofadb.paxos.events import Received, Tick
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import (
    Accept,
    AskRead,
    Chosen,
    Confirm,
    Confirmed,
    Forward,
    GrantRead,
    Learn,
    Prepare,
    Promise,
    Refused,
)
from sofadb.paxos.records import Acceptance, Learned, Promised, Record

THREE = ["n1", "n2", "n3"]
FIVE = ["n1", "n2", "n3", "n4", "n5"]
OLD = Ballot(1, "n9")
NEWER = Ballot(2, "n9")


def command(number: int, name: bytes = b"command") -> Value:
    return Value(number, (Entry("n9", 1, number, b"%s %d" % (name, number)),))


def accepted(ballot: Ballot, *values: Value) -> list[Record]:
    return [Acceptance(Instance(value.stamp), ballot, value) for value in values]


def messages(cluster: Cluster, kind: type, to: str | None = None, sender: str | None = None) -> list[Packet]:
    return [
        packet
        for packet in cluster.network
        if isinstance(packet.message, kind) and to in (None, packet.to) and sender in (None, packet.sender)
    ]


def leading(cluster: Cluster, name: str) -> Leading:
    phase = cluster.replica(name).phase
    assert isinstance(phase, Leading)
    return phase


def elected(names: list[str], **settings: float) -> tuple[Cluster, str, list[str]]:
    """A cluster at rest, its leader, and the others."""
    cluster = Cluster(names, **settings)
    leader = cluster.elect()
    cluster.settle()
    return cluster, leader, [name for name in names if name != leader]


def with_disks(names: list[str], disks: dict[str, list[Record]], **settings: float) -> Cluster:
    """Those in `disks` have just been started with what is on their disks; n1 will be the first to miss a leader."""
    cluster = Cluster(names, **settings)
    for name in names:
        cluster.crash(name)
    for name, disk in disks.items():
        cluster.nodes[name].disk = disk
        cluster.start(name)
        if name != "n1":
            cluster.nodes[name].wake_at = float("inf")
    return cluster


def proposals(cluster: Cluster, sender: str) -> dict[int, Value]:
    """From now on, what `sender` proposes for which instance."""
    proposed: dict[int, Value] = {}
    send = cluster.send

    def watch(name: str, effect: Send) -> None:
        if name == sender and isinstance(effect.message, Accept):
            proposed[effect.message.instance] = effect.message.value
        send(name, effect)

    cluster.send = watch  # type: ignore[method-assign]
    return proposed


# Acceptor, promise, disk


@pytest.mark.parametrize("keep", [0, 1])
def test_a_promise_is_one_record_of_one_save_so_that_no_crash_leaves_half_of_it(keep: int) -> None:
    """Round and node of a promise are written together. After a crash the acceptor has promised all of it, or nothing."""
    cluster = Cluster(THREE)
    effects = cluster.step("n1", Received("n2", Prepare(Ballot(5, "n2"), Instance(1))))
    (save,) = [effect for effect in effects if isinstance(effect, Save)]
    assert save.records == (Promised(Ballot(5, "n2")),)
    cluster.crash("n1", keep)
    cluster.start("n1")
    assert cluster.replica("n1").acceptor.promised == (Ballot(5, "n2") if keep else NO_BALLOT)


def test_a_promise_outlives_all_that_its_own_leader_says_and_a_restart() -> None:
    """n1 promised round 5 to n3, hears n3 lead, and loses it again. Then n2 asks with the same round: a lower ballot."""
    cluster = Cluster(THREE)
    theirs, lower = Ballot(5, "n3"), Ballot(5, "n2")
    cluster.step("n1", Received("n3", Prepare(theirs, Instance(1))))
    cluster.step("n1", Received("n3", Accept(theirs, Instance(1), command(1), Instance(0))))
    for ballot, sender in ((theirs, "n3"), (lower, "n2"), (Ballot(4, "n2"), "n2")):
        cluster.step("n1", Received(sender, Confirm(ballot, 1, Instance(0))))
        cluster.step("n1", Received(sender, Chosen(ballot, Instance(0))))
        cluster.step("n1", Received(sender, Accept(ballot, Instance(1), command(1), Instance(0))))
    assert cluster.replica("n1").leader == "n3"
    cluster.save("n1")
    for is_restarted in (False, True):
        if is_restarted:
            cluster.crash("n1")
            cluster.start("n1")
        for _ in range(2):  # The first time it may itself have slept for so long.
            cluster.now += 3_000
            cluster.step("n1", Tick())
        assert cluster.replica("n1").leader is None
        cluster.network = []
        cluster.step("n1", Received("n2", Prepare(lower, Instance(1))))
        assert [packet.message for packet in cluster.network] == [Refused(lower, theirs)]


def test_accepting_a_proposal_is_promising_its_number_from_that_moment_on() -> None:
    """n1 promised ballot 5 to n2 and then accepts a proposal numbered 6, which it never promised. n2's requests come late.

    Whether or not that acceptance is on disk yet, nothing numbered 5 is accepted or confirmed any more, in no instance.
    """
    cluster = Cluster(THREE)
    lower, higher = Ballot(5, "n2"), Ballot(6, "n3")
    cluster.step("n1", Received("n2", Prepare(lower, Instance(1))))
    cluster.step("n1", Received("n3", Accept(higher, Instance(1), command(1), Instance(0))))
    for is_saved in (False, True):
        if is_saved:
            cluster.save("n1")
        for late in (
            Accept(lower, Instance(1), command(1), Instance(0)),
            Accept(lower, Instance(2), command(2), Instance(0)),
            Prepare(lower, Instance(1)),
            Confirm(lower, 1, Instance(0)),
        ):
            cluster.network = []
            cluster.step("n1", Received("n2", late))
            assert [packet.message for packet in cluster.network] == [Refused(lower, higher)]


# Leader, phases, log


@pytest.mark.parametrize("order", list(itertools.permutations(("n1", "n2", "n3"))))
def test_the_highest_numbered_report_counts_whoever_answers_first_and_whatever_one_would_like_best(
    order: tuple[str, ...],
) -> None:
    """Three of five acceptors answer, in any order: one accepted a value as proposal 1, one another as proposal 3, one a third as
    proposal 2. The proposer would rather have its own. Only the value of proposal 3 can have been chosen."""
    reports = {"n1": (1, b"low"), "n2": (3, b"high"), "n3": (2, b"middle")}
    proposer = Proposer(Ballot(9, "n5"), Instance(1))
    for name in order:
        number, what = reports[name]
        report = (Instance(1), Ballot(number, "n4"), command(1, what))
        proposer.on_promise(name, Promise(Ballot(9, "n5"), Instance(1), (report,), None, Instance(0), 0))
    assert proposer.value_for(Instance(1), command(1, b"own")) == command(1, b"high")


def test_reports_of_acceptors_that_know_differently_far_are_merged_instance_by_instance() -> None:
    """n1 campaigns and knows 1 and 2. n2 knows 1 to 5, and accepted 7. n3 knows nothing, and accepted 3 to 6 under older numbers;
    at 4 not what was then chosen. n4 and n5 are gone.

    What n2 knows is learned and not voted on again, whatever n3 reports there; 6 and 7 are proposed as reported.
    """
    chosen = [command(number) for number in range(1, 6)]
    overtaken = command(4, b"overtaken")
    sixth, seventh = command(6), command(7)
    learned: list[Record] = [Learned(Instance(value.stamp), value) for value in chosen]
    cluster = with_disks(
        FIVE,
        {
            "n1": learned[:2],
            "n2": [*learned, *accepted(NEWER, seventh)],
            "n3": accepted(OLD, *chosen[:3], overtaken, chosen[4], sixth),
        },
    )
    proposed = proposals(cluster, "n1")
    cluster.advance(3_000)
    assert cluster.leader == "n1"
    assert min(proposed) == 6
    assert (proposed[6], proposed[7]) == (sixth, seventh)
    for name in ("n1", "n2", "n3"):
        assert cluster.nodes[name].applied == [b"command %d" % number for number in range(1, 8)]


def test_the_silence_of_an_acceptor_about_what_it_knows_to_be_settled_is_not_taken_for_emptiness() -> None:
    """n2 knows 1 to 3 to be chosen, so it reports no acceptances there. The candidate n1 knows nothing, and n3 is gone.

    However long n2's teaching is lost, n1 proposes nothing of its own in those places.
    """
    disk: list[Record] = [Learned(Instance(number), command(number)) for number in (1, 2, 3)]
    cluster = with_disks(THREE, {"n1": [], "n2": disk})
    proposed = proposals(cluster, "n1")
    send = cluster.send
    cluster.send = lambda name, effect: (  # type: ignore[method-assign]
        None if isinstance(effect.message, Learn) else send(name, effect)
    )
    token = cluster.submit("n1", b"a client's")
    cluster.advance(3_000)
    assert not proposed
    assert token not in cluster.nodes["n1"].done
    cluster.send = send  # type: ignore[method-assign]
    cluster.advance(3_000)
    assert not set(proposed) & {1, 2, 3}
    assert cluster.nodes["n1"].applied == [b"command 1", b"command 2", b"command 3", b"a client's"]


@pytest.mark.parametrize("delivered", list(itertools.product([False, True], repeat=4)))
def test_forwarded_commands_of_a_dead_leaders_pipeline_are_done_once_in_order(
    delivered: tuple[bool, ...],
) -> None:
    """A follower forwarded four commands; the leader proposed them one by one, any of its requests reached the third node, and
    it died. The follower lives, sends again what it does not see done, and all four are done once, in its order."""
    cluster, leader, (follower, third) = elected(THREE, in_flight_max=4, batch_bytes_max=1)
    tokens = [cluster.submit(follower, b"%d" % number) for number in range(4)]
    for packet in messages(cluster, Forward, leader):
        cluster.pass_on(packet)
    requests = messages(cluster, Accept, third)
    assert len(requests) == 4
    cluster.network = []
    cluster.crash(leader)
    for packet, arrives in zip(requests, delivered, strict=True):
        if arrives:
            cluster.step(third, Received(leader, packet.message))
    cluster.save(third)
    cluster.advance(3_000)
    assert cluster.nodes[follower].applied == cluster.nodes[third].applied == [b"0", b"1", b"2", b"3"]
    assert list(cluster.nodes[follower].done) == tokens
    cluster.check_chosen()


# Reads


def test_a_fresh_leader_grants_no_read_to_anybody_while_what_it_finished_for_others_hangs() -> None:
    """The old leader n3 got a command chosen with n2 and told its client; then it was gone. n2 reports it, n1 leads.

    Nothing that n1 proposes reaches n2, but its confirmations do: it leads without doubt, and still does not know that the
    command is chosen. A read on either node waits until something of n1's own is chosen.
    """
    cluster = with_disks(THREE, {"n1": [], "n2": accepted(OLD, command(1))})
    while cluster.leader is None:
        for name in ("n1", "n2"):
            cluster.save(name)
        if cluster.network:
            cluster.pass_on(cluster.network[0])
        else:
            cluster.now = max(cluster.now, cluster.nodes["n1"].wake_at)
            cluster.step("n1", Tick())
    send = cluster.send
    cluster.send = lambda name, effect: (  # type: ignore[method-assign]
        None if isinstance(effect.message, Accept) else send(name, effect)
    )
    cluster.network = []
    reads = {name: cluster.ask(name) for name in ("n1", "n2")}
    cluster.advance(200)
    assert leading(cluster, "n1").confirming.answered["n2"] > 0, "it is confirmed"
    assert not cluster.nodes["n1"].answers
    assert not cluster.nodes["n2"].answers
    cluster.send = send  # type: ignore[method-assign]
    cluster.advance(1_000)
    for name, read in reads.items():
        assert cluster.nodes[name].answers[read] == 1, "it sees the command that was acknowledged"


def test_a_confirmation_that_is_asked_for_again_has_a_new_number_and_an_old_answer_frees_only_old_readers() -> (
    None
):
    """A leader asks for confirmation for one reader. The answers are slow, it asks again, now with another reader.

    Then the first answers arrive. They were given before the second reader came, and say nothing to it.
    """
    cluster, leader, _ = elected(THREE)
    numbers: list[int] = []
    first_read = cluster.ask(leader)
    numbers += {packet.message.round for packet in messages(cluster, Confirm)}
    for packet in messages(cluster, Confirm):
        cluster.pass_on(packet)
    slow = messages(cluster, Confirmed, leader)
    cluster.network = []
    second_read = cluster.ask(leader)
    for _ in range(4):
        cluster.now += 50
        cluster.step(leader, Tick())
        numbers += {packet.message.round for packet in messages(cluster, Confirm)}
        again, cluster.network = messages(cluster, Confirm), []
    assert len(slow) == 1, "of three, one is enough"
    assert numbers == sorted(set(numbers)), "each is used once, and later ones are higher"
    assert len(numbers) == 5
    for packet in slow:
        cluster.step(leader, Received(packet.sender, packet.message))
    assert first_read in cluster.nodes[leader].answers
    assert second_read not in cluster.nodes[leader].answers
    for packet in again:
        cluster.step(packet.to, Received(leader, packet.message))
    cluster.settle()
    assert second_read in cluster.nodes[leader].answers


def test_a_follower_gets_no_place_to_read_from_out_of_a_deposed_leader() -> None:
    """Five nodes are cut in two. On the smaller side the old leader and a follower of it do not know yet; on the other side
    something is written and acknowledged. A client reads on the follower.

    The old leader cannot prove that it leads. What it granted for an earlier attempt arrives late, and twice, and counts for that
    one alone.
    """
    cluster, old, (follower, *majority) = elected(FIVE)
    before = cluster.ask(follower)
    while not messages(cluster, GrantRead):
        cluster.pass_on(cluster.network[0])
    (late,) = messages(cluster, GrantRead)
    here = (old, follower)
    cluster.cut = {link for a in here for b in majority for link in ((a, b), (b, a))}
    cluster.network = []
    # Time passes for the others alone: the two have not noticed anything yet.
    beginning, waiting = cluster.now, {name: cluster.nodes[name].wake_at for name in here}
    for name in here:
        cluster.nodes[name].wake_at = float("inf")
    cluster.advance(2_000)
    new = next(name for name in majority if isinstance(cluster.replica(name).phase, Leading))
    token = cluster.submit(new, b"written meanwhile")
    cluster.advance(500)
    assert token in cluster.nodes[new].done
    assert cluster.replica(follower).leader == old
    assert cluster.now > beginning
    after = cluster.ask(follower)
    (ask,) = messages(cluster, AskRead, old)
    cluster.pass_on(ask)
    for _ in range(2):
        cluster.step(follower, Received(old, late.message))
    cluster.settle()
    assert cluster.nodes[follower].answers == {before: 0}, "asked and granted before anything was written"
    assert isinstance(cluster.replica(old).phase, Leading)
    # The cut heals, and everybody wakes.
    cluster.cut = set()
    for name, wake_at in waiting.items():
        cluster.nodes[name].wake_at = max(cluster.now, wake_at)
    cluster.advance(2_000)
    assert cluster.nodes[follower].answers[after] == 1


# Exactly once


def test_a_command_sent_again_to_a_leader_that_has_it_and_has_not_applied_it_is_done_once_and_answered() -> (
    None
):
    """The old leader proposed a follower's command to the third node, and died. The third node leads and proposes it again; its
    request hangs. The follower, which has heard nothing, sends the command to it."""
    cluster, old, (follower, new) = elected(THREE)
    token = cluster.submit(follower, b"once")
    cluster.pass_on(messages(cluster, Forward, old)[0])
    cluster.pass_on(messages(cluster, Accept, new)[0])
    cluster.save(new)
    cluster.crash(old)
    cluster.network = []
    cluster.nodes[follower].wake_at = float("inf")
    while not isinstance(cluster.replica(new).phase, Leading):
        cluster.now += 100
        cluster.step(new, Tick())
        while cluster.network and not isinstance(cluster.replica(new).phase, Leading):
            cluster.pass_on(cluster.network[0])
            cluster.save(new)
            cluster.save(follower)
    phase = leading(cluster, new)
    held = messages(cluster, Accept, follower)
    assert sum(len(packet.message.value.entries) for packet in held) == 1, "it is proposed again"
    cluster.network = [packet for packet in cluster.network if packet not in held]
    cluster.step(follower, Received(new, Confirm(phase.ballot, 1, Instance(0))))
    (again,) = messages(cluster, Forward, new)
    cluster.pass_on(again)
    assert not phase.queue, "it has that already"
    assert token not in cluster.nodes[follower].done
    cluster.network += held
    cluster.nodes[follower].wake_at = cluster.now
    cluster.advance(1_000)
    assert token in cluster.nodes[follower].done
    assert cluster.nodes[follower].applied == cluster.nodes[new].applied == [b"once"]


def test_two_commands_keep_their_order_when_the_new_leader_hears_of_the_second_first() -> None:
    """`SET x 1` and `SET x 2` are on their way, one behind the other, when the leader dies. Both are sent again to the next one,
    and there the second arrives first."""
    cluster, old, (follower, other) = elected(THREE, message_bytes_max=1)
    tokens = [cluster.submit(follower, b"SET x %d" % number) for number in (1, 2)]
    cluster.crash(old)
    cluster.network = []
    cluster.nodes[follower].wake_at = float("inf")
    while not messages(cluster, Forward, other):
        if cluster.network:
            cluster.pass_on(cluster.network[0])
        elif any(cluster.nodes[name].saving for name in (follower, other)):
            cluster.save(follower)
            cluster.save(other)
        else:
            cluster.now += 50
            cluster.step(other, Tick())
    first, second = messages(cluster, Forward, other)
    assert bytes(second.message.entries[0].payload) == b"SET x 2"
    cluster.pass_on(second)
    cluster.pass_on(first)
    cluster.nodes[follower].wake_at = cluster.now
    cluster.advance(3_000)
    assert cluster.nodes[follower].applied == cluster.nodes[other].applied == [b"SET x 1", b"SET x 2"]
    assert list(cluster.nodes[follower].done) == tokens
