"""Data directories on a simulated disk, as nodes leave them, written record by record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sofadb.database.database import Database
from sofadb.database.runs import Run, apply
from sofadb.paxos import Ballot, Configuration, Entry, Foundation, Instance, NodeId, Value
from sofadb.paxos.codec import encode
from sofadb.paxos.records import Acceptance, ChosenUpTo, Learned, Record
from sofadb.sim.disk import SimulatedDisk
from sofadb.storage.files import Files
from sofadb.storage.identity import Identity, write_identity
from sofadb.storage.journal import Journal
from sofadb.storage.segment import Record as JournalRecord
from sofadb.storage.snapshot import SnapshotInfo, SnapshotWriter

MEMBERS = {"n1": "h1:17001", "n2": "h2:17002", "n3": "h3:17003"}
CLUSTER = "0123456789abcdef"
PATH = Path("data")
SEGMENT_BYTES = 64 << 10
FIRST = Ballot(1, NodeId("n1"))


def value(number: int, text: str = "") -> Value:
    """The value of an instance: SET k<number> <text, or the number>."""
    words = (b"SET", b"k%d" % number, text.encode() or b"%d" % number)
    raw = b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    return Value(1000 * number, (Entry(NodeId("n1"), 1, number, Run(0, [], raw).encode()),))


def accepted(number: int, ballot: Ballot = FIRST, text: str = "") -> Acceptance:
    return Acceptance(Instance(number), ballot, value(number, text))


def learned(number: int, text: str = "") -> Learned:
    return Learned(Instance(number), value(number, text))


def chosen(number: int) -> ChosenUpTo:
    return ChosenUpTo(Instance(number))


def log_of(instances: int) -> list[Record]:
    """Everything up to there was accepted, and is known to be chosen."""
    return [*(accepted(number) for number in range(1, instances + 1)), chosen(instances)]


def state_after(instances: int) -> Database:
    database = Database(MEMBERS)
    for number in range(1, instances + 1):
        database.begin(number, 1000 * number)
        apply(database, value(number).entries[0].payload)
    return database


def directory(node: str, records: Sequence[Record], cluster: str = CLUSTER) -> SimulatedDisk:
    """What a node leaves behind."""
    disk = SimulatedDisk()
    write_log(disk, write_identity(disk, cluster, node, MEMBERS), records)
    return disk


def write_log(files: Files, identity: Identity, records: Sequence[Record]) -> None:
    journal = Journal.open(files, SEGMENT_BYTES, identity.owner)
    assert list(journal.recover()) == []
    for record in records:
        key = record.instance if isinstance(record, Acceptance | Learned) else 0
        journal.append([JournalRecord(key, encode(record))])
    journal.close()


def write_snapshot(
    files: Files, owner: int, instances: int, database: Database | None = None, salt: int = 7
) -> SnapshotInfo:
    """What `state_after` gives, or another state of that instance."""
    database = database or state_after(instances)
    table = ((Instance(1), Configuration(tuple(map(NodeId, MEMBERS)))),)
    foundation = Foundation(Instance(instances), database.time, table, ((NodeId("n1"), 1, instances),))
    writer = SnapshotWriter(files, owner, instances, b"".join(encode(foundation)), lambda: salt)
    for piece in database.image().pieces():
        writer.write(piece)
    return writer.finish()
