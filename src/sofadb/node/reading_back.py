"""What a data directory holds, found out while its node does not run, by the code that a node starts with.

A replica is given its snapshot and its log and takes no part: it never hears that it has been started. What it knows to be
chosen is applied to a state; what it has accepted beyond stays to be looked at.
"""

from __future__ import annotations

from pathlib import Path

from sofadb.database.database import Database
from sofadb.paxos import (
    Configuration,
    Deliver,
    Foundation,
    Founded,
    Moment,
    Record,
    Recovered,
    Replica,
)
from sofadb.paxos.codec import Malformed, decode_record
from sofadb.storage.files import Files, StorageError
from sofadb.storage.identity import Identity, read_identity
from sofadb.storage.journal import Journal
from sofadb.storage.snapshot import Snapshots

from .node import Node
from .snapshots import load
from .tuning import Tuning

_AT_REST = Moment(0.0, 0, 0.0)


class ReadBack:
    """One node's replica and state, while they are read back."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        configuration = Configuration(tuple(sorted(identity.members)))
        # In no life of its node (they are counted from 1): nothing in the log is an entry that somebody here waits for.
        self.replica = Replica(identity.acceptor, 0, configuration, Tuning().settings())
        self.node = Node(
            lambda call: None, lambda seconds, call: None, lambda: 0.0, lambda: None, identity.members
        )

    def begin_from(self, foundation: Foundation, database: Database) -> None:
        """Here a snapshot ends."""
        self.node.begin_from(foundation.instance, database)
        self.replica.step(Founded(foundation), _AT_REST)

    def take(self, record: Record) -> None:
        """The next record of the log; what is chosen thereby is applied."""
        for effect in self.replica.step(Recovered(record), _AT_REST):
            if isinstance(effect, Deliver):
                self.node.deliver(effect)

    @property
    def gap(self) -> str:
        """In words, what the log tells to be chosen and does not hold; empty if that is nothing."""
        known, told = self.replica.sequence.watermark, self.replica.doubt.chosen_upto
        return (
            f"instances {known + 1} to {told} are chosen, and not all of them are there"
            if told > known
            else ""
        )


def record_of(data: bytes) -> Record:
    """A record of a journal. Raises `StorageError`."""
    try:
        return decode_record(data)
    except Malformed as problem:
        raise StorageError(f"a record of the journal cannot be understood: {problem}") from None


def read_back(files: Files, path: Path) -> ReadBack:
    """All that is in a directory. Raises `StorageError` (`Rot`) for damage, and whatever is no whole snapshot or log."""
    identity = read_identity(files, path)
    back = ReadBack(identity)
    store = Snapshots(files, identity.cluster_owner)
    if (newest := next(iter(store.found()), None)) is not None:
        back.begin_from(*load(store.open(newest.name)))
    journal = Journal.open(files, owner=identity.owner)
    try:
        for _, data in journal.recover():
            back.take(record_of(data))
    finally:
        journal.close()
    if back.gap:
        raise StorageError(f"{path}: {back.gap}")
    if journal.is_cut and newest is None:
        raise StorageError(f"{path}: the beginning of the journal is missing, and there is no snapshot of it")
    return back
