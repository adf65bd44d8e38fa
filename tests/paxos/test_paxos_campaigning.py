"""What befalls a candidate on its way to the lead: long reports, lost parts of them, and a past that it has to learn first."""

from __future__ import annotations

from paxos.cluster import Cluster, Packet
from sofadb.paxos import Ballot, Entry, Instance, Value
from sofadb.paxos.campaigning import Campaigning
from sofadb.paxos.effects import Send
from sofadb.paxos.events import Tick
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Ask, Prepare, Promise
from sofadb.paxos.records import Acceptance, Learned

THREE = ["n1", "n2", "n3"]
OLD = Ballot(1, "n3")


def command(number: int) -> Value:
    return Value(number, (Entry("n3", 1, number, b"command %d" % number),))


def payloads(first: int, last: int) -> list[bytes]:
    return [b"command %d" % number for number in range(first, last + 1)]


def without_the_old_leader(**settings: float) -> Cluster:
    """The old leader n3 is gone; what n1 and n2 have on disk, a test says before it starts them. n1 campaigns."""
    cluster = Cluster(THREE, **settings)
    for name in THREE:
        cluster.crash(name)
    return cluster


def start_campaign_of_n1(cluster: Cluster) -> Campaigning:
    cluster.start("n1")
    cluster.start("n2")
    cluster.nodes["n2"].wake_at = float("inf")  # n1's election timeout runs out first.
    while not isinstance(cluster.replica("n1").phase, Campaigning):
        cluster.now = max(cluster.now, cluster.nodes["n1"].wake_at)
        cluster.nodes["n1"].wake_at = float("inf")
        cluster.step("n1", Tick())
        while cluster.network and not isinstance(cluster.replica("n1").phase, Campaigning):
            cluster.pass_on(cluster.network[0])
    phase = cluster.replica("n1").phase
    assert isinstance(phase, Campaigning)
    return phase


def wake(cluster: Cluster, milliseconds: float) -> None:
    """Let time pass for n1 alone."""
    cluster.now += milliseconds
    cluster.step("n1", Tick())


def messages(cluster: Cluster, kind: type, to: str) -> list[Packet]:
    return [packet for packet in cluster.network if isinstance(packet.message, kind) and packet.to == to]


def test_a_long_report_is_read_on_from_where_it_ended_the_candidates_own_too() -> None:
    """Both acceptors accepted five values of the old leader, and only one fits into a message. A part is lost on the way.

    The candidate asks on, itself through its own disk and n2 through the network; it leads only once both reports
    are complete, and then not a value is missing.
    """
    cluster = without_the_old_leader(message_bytes_max=1)
    for name in ("n1", "n2"):
        cluster.nodes[name].disk = [Acceptance(Instance(i), OLD, command(i)) for i in range(1, 6)]
    phase = start_campaign_of_n1(cluster)
    parts = 0
    while isinstance(cluster.replica("n1").phase, Campaigning):
        for name in ("n1", "n2"):
            cluster.save(name)
        for packet in messages(cluster, Prepare, "n2"):
            cluster.pass_on(packet)
        cluster.save("n2")
        promises = messages(cluster, Promise, "n1")
        assert all(packet.message.reported[0][0] == packet.message.first for packet in promises)
        cluster.network = []
        for packet in promises:
            parts += 1
            if parts == 3:
                # It is lost. Nothing that happens to be due makes the candidate ask before the pause is over ...
                wake(cluster, 1)
                assert not messages(cluster, Prepare, "n2")
                # ... and then it asks for the lost part, not from the beginning.
                wake(cluster, 60)
                (again,) = messages(cluster, Prepare, "n2")
                assert again.message.first == packet.message.first == 3
            else:
                assert not phase.proposer.is_prepared(cluster.replica("n1").window())
                cluster.network.append(packet)
                cluster.pass_on(packet)
    assert parts == 6, "five parts, one of them twice"
    cluster.settle()
    assert cluster.nodes["n1"].applied == payloads(1, 5)


def test_the_next_part_of_a_report_is_asked_for_once_however_often_the_one_before_is_repeated() -> None:
    """Each part comes twice. Asked for at each arrival, the last of 40 would come a million million times."""
    cluster = without_the_old_leader(message_bytes_max=1)
    cluster.nodes["n2"].disk = [Acceptance(Instance(i), OLD, command(i)) for i in range(1, 41)]
    start_campaign_of_n1(cluster)
    cluster.save("n1")
    parts = 0
    while isinstance(cluster.replica("n1").phase, Campaigning):
        (asked,) = messages(cluster, Prepare, "n2")
        cluster.pass_on(asked)
        cluster.save("n2")
        (part,) = messages(cluster, Promise, "n1")
        parts += 1
        cluster.network.append(part)
        cluster.pass_on(part)
        cluster.pass_on(part)
    assert parts == 40


def test_a_candidate_that_learns_the_past_in_small_pieces_is_not_out_of_time_while_it_gets_on() -> None:
    """n2 knows forty values to be chosen, and the candidate none. A piece of one value comes every 100 ms.

    That takes many election timeouts. As long as it gets on it stays a candidate, under the one ballot with which it began;
    when it has caught up it leads.
    """
    cluster = without_the_old_leader(message_bytes_max=1)
    cluster.nodes["n2"].disk = [Learned(Instance(i), command(i)) for i in range(1, 41)]
    phase = start_campaign_of_n1(cluster)
    began = cluster.now
    for learned in range(40):
        assert cluster.replica("n1").phase is phase, f"it gave up after {learned} values"
        assert cluster.replica("n1").sequence.watermark == learned
        while cluster.replica("n1").sequence.watermark == learned:
            for name in ("n1", "n2"):
                cluster.save(name)
            cluster.pass_on(cluster.network[0])
        wake(cluster, 100)
    assert cluster.now - began > 10 * cluster.replica("n1").settings.election_timeout_ms
    cluster.settle()
    assert isinstance(cluster.replica("n1").phase, Leading)
    assert cluster.replica("n1").ballot == phase.ballot
    assert cluster.nodes["n1"].applied == payloads(1, 40)


def test_a_candidate_that_lacks_the_past_and_gets_no_answer_makes_room_for_another() -> None:
    """n2 promises and tells that three values are chosen; but it never teaches them. A candidate waits for that only so long."""
    cluster = without_the_old_leader()
    cluster.nodes["n2"].disk = [Learned(Instance(i), command(i)) for i in range(1, 4)]
    asked: list[float] = []
    send = cluster.send

    def lose_asks(sender: str, effect: Send) -> None:
        if isinstance(effect.message, Ask):
            asked.append(cluster.now)
        else:
            send(sender, effect)

    cluster.send = lose_asks  # type: ignore[method-assign]
    phase = start_campaign_of_n1(cluster)
    while cluster.replica("n1").phase is phase:
        cluster.settle()
        wake(cluster, 50)
        assert cluster.now < phase.deadline + 50, "it waits for ever"
    assert len(asked) >= 2, "what was lost is asked for again"
    assert cluster.replica("n1").leader is None
    assert cluster.replica("n1").sequence.watermark == 0


def test_a_candidate_that_is_told_a_long_report_in_small_pieces_is_not_out_of_time_while_it_gets_on() -> None:
    """Eight parts, each of which takes half an election timeout."""
    cluster = without_the_old_leader(message_bytes_max=1)
    cluster.nodes["n2"].disk = [Acceptance(Instance(number), OLD, command(number)) for number in range(1, 9)]
    campaign = start_campaign_of_n1(cluster)
    timeout = cluster.replica("n1").pace.timeout_ms
    for _ in range(8):
        cluster.save("n1")
        (asked, *_) = messages(cluster, Prepare, "n2")
        cluster.pass_on(asked)
        cluster.save("n2")
        wake(cluster, timeout / 2)
        (told, *_) = messages(cluster, Promise, "n1")
        cluster.network = [told]
        cluster.pass_on(told)
    lead = cluster.replica("n1").phase
    assert isinstance(lead, Leading)
    assert lead.ballot == campaign.ballot
