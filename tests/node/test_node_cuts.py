"""What is saved for a cut outlives it: the core, its records and a real journal together."""

from __future__ import annotations

from sofadb.node.live import for_journal
from sofadb.node.snapshots import SnapshotSettings, rest_s
from sofadb.paxos import (
    Ballot,
    Configuration,
    CutOff,
    Entry,
    Foundation,
    Founded,
    GiveUp,
    Instance,
    Moment,
    Received,
    Recovered,
    Replica,
    Save,
    Settings,
    Started,
    Value,
)
from sofadb.paxos.codec import decode_record
from sofadb.paxos.events import Event
from sofadb.paxos.messages import Accept, Prepare
from sofadb.paxos.records import CutUpTo, Learned
from sofadb.sim.disk import SimulatedDisk
from sofadb.storage.files import PAGE_BYTES
from sofadb.storage.journal import Journal
from sofadb.storage.segment import SEGMENT_HEADER_BYTES

THREE = Configuration(("n1", "n2", "n3"))
FOUNDED = Founded(Foundation(Instance(1000), 5, ((Instance(1), THREE),), ()))
SEGMENT_BYTES = SEGMENT_HEADER_BYTES + PAGE_BYTES + 4096
AT_REST = Moment(0.0, 0, 0.5)


def test_a_promise_outlives_a_cut_at_the_very_end_of_the_log() -> None:
    """Behind a snapshot of another node nothing is in the log yet, and a new segment begins before it is cut."""
    disk = SimulatedDisk()
    journal = Journal.open(disk, SEGMENT_BYTES)
    list(journal.recover())
    replica = Replica("n3", 1, THREE, Settings())

    def step(event: Event) -> list[object]:
        then: list[object] = []
        for effect in replica.step(event, AT_REST):
            if isinstance(effect, Save):
                if effect.records:
                    journal.append([for_journal(record) for record in effect.records])
                then += effect.then
        return then

    step(Started())
    step(Received("n1", Accept(Ballot(1, "n1"), Instance(1), Value(1), Instance(0))))
    step(Received("n2", Prepare(Ballot(9, "n2"), Instance(1))))
    step(FOUNDED)
    (give_up,) = step(CutOff(Instance(1000)))
    assert isinstance(give_up, GiveUp)
    large = Entry("n2", 1, 1, b"x" * 3970)
    journal.append([for_journal(Learned(Instance(1001), Value(1, (large,))))])
    assert len(journal.segments) == 2
    journal.cut(give_up.upto + 1)
    journal.close()
    again = Journal.open(disk.killed(), SEGMENT_BYTES)
    back = Replica("n3", 2, THREE, Settings())
    back.step(FOUNDED, AT_REST)
    for _, data in again.recover():
        back.step(Recovered(decode_record(data)), AT_REST)
    assert back.acceptor.promised == Ballot(9, "n2")


def test_the_next_cut_gives_up_what_was_saved_for_the_last_one() -> None:
    disk = SimulatedDisk()
    journal = Journal.open(disk, SEGMENT_BYTES)
    list(journal.recover())
    for upto in (10, 20):
        journal.append([for_journal(CutUpTo(Instance(upto)))])
        journal.append(
            [for_journal(Learned(Instance(upto + 1), Value(1, (Entry("n2", 1, 1, b"x" * 3970),))))]
        )
        journal.cut(upto + 1)
    assert len(journal.segments) == 2


def test_a_small_snapshot_is_taken_anew_early_and_a_large_one_late() -> None:
    settings, mib = SnapshotSettings(), 1 << 20
    assert [settings.log_limit(size * mib) // mib for size in (0, 4, 8, 16, 200, 300)] == [
        64,
        64,
        128,
        256,
        256,
        300,
    ]
    told = SnapshotSettings(log_bytes=mib)
    assert [told.log_limit(size * mib) // mib for size in (0, 2)] == [1, 2]


def test_an_image_is_taken_at_a_quarter_of_the_speed_while_there_are_clients() -> None:
    assert [rest_s(spent_ms, is_busy) for spent_ms in (0.1, 4.0) for is_busy in (False, True)] == [
        0.001,
        0.001,
        0.001,
        0.012,
    ]
