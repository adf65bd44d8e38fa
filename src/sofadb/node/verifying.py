"""Is what lies on a disk what was written, and does it lead to the state it claims? For backups and for data directories.

A checksum shows that bytes are those that were written. More is asked here: a snapshot is loaded, and the state in it has to
give the same digest again; a log is replayed from the oldest snapshot on, and where a newer one was taken, the state has to be
the one in it. Nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sofadb.database.database import Database
from sofadb.database.loader import Unreadable
from sofadb.paxos import Foundation, Record
from sofadb.paxos.codec import Malformed
from sofadb.storage.files import Files, StorageError, UntouchedFiles
from sofadb.storage.identity import read_identity
from sofadb.storage.journal import Damage, Journal
from sofadb.storage.segment import Rot
from sofadb.storage.snapshot import SnapshotInfo, SnapshotReader, Snapshots, open_snapshot

from .reading_back import ReadBack, record_of
from .snapshots import load


@dataclass(frozen=True, slots=True)
class Contents:
    """What a snapshot holds."""

    info: SnapshotInfo
    time: int
    """The state's time (milliseconds since 1970)."""
    keys: dict[int, int]
    """How many, by database; none of those that are empty."""
    members: dict[str, str]
    """Names and peer addresses."""


class Unsound(Exception):
    """What was read is not what was written."""


def read_whole(reader: SnapshotReader) -> tuple[Foundation, Database]:
    """All that a snapshot holds, proven. Raises `Unsound`, which names it, and `StorageError`."""
    info = reader.info
    try:
        foundation, database = load(reader)
    except (Rot, Unreadable, Malformed) as problem:
        where = "" if isinstance(problem, Rot) else f"{info.name}: "
        raise Unsound(f"{where}{problem}") from None
    if database.digest() != info.digest:
        raise Unsound(f"{info.name}: the state in it has another digest than what it was loaded from")
    return foundation, database


def contents_of(info: SnapshotInfo, foundation: Foundation, database: Database) -> Contents:
    """What is to be told of a snapshot."""
    keys = {each.number: len(each.values) for each in database.keyspaces if each.values}
    members = {member.name: member.peer_address for member in database.shared.roster.members.values()}
    return Contents(info, foundation.time, keys, members)


def verify_backup(files: Files, name: str) -> Contents:
    """Read all of a backup. Raises `Unsound` for a damaged one, `StorageError` for one that cannot be read."""
    reader = open_backup(files, name)
    return contents_of(reader.info, *read_whole(reader))


def open_backup(files: Files, name: str) -> SnapshotReader:
    """Open one to read it. Raises `Unsound`, `StorageError`."""
    try:
        return open_snapshot(files, name)
    except Rot as problem:
        raise Unsound(str(problem)) from None


@dataclass(slots=True)
class Findings:
    """What there is to say of a data directory."""

    facts: list[str] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)


def verify_directory(files: Files, path: Path) -> Findings:
    """Look at everything in the directory of a node that does not run. Raises `StorageError` if that is none."""
    return _Verification(UntouchedFiles(files), path).findings


class _Verification:
    def __init__(self, files: Files, path: Path) -> None:
        self.files = files
        self.findings = Findings()
        self._digests: dict[int, SnapshotInfo] = {}
        """Snapshots that the log has yet to lead to, by instance."""
        identity = read_identity(files, path)
        self.back = ReadBack(identity)
        self._store = Snapshots(files, identity.cluster_owner)
        self._say(f"node {identity.node} of cluster {identity.cluster}, started {identity.starts} times")
        self._read_snapshots()
        self._read_journal()

    def _say(self, fact: str) -> None:
        self.findings.facts.append(fact)

    def _complain(self, damage: str) -> None:
        self.findings.damages.append(damage)

    def _read_snapshots(self) -> None:
        for info in reversed(self._store.found()):
            try:
                foundation, database = read_whole(self._store.open(info.name))
            except (Rot, Unsound) as problem:
                self._complain(str(problem))
                continue
            self._say(
                f"{info.name}: sound, everything up to instance {info.instance}, digest {info.digest.hex()}"
            )
            if self.back.node.applied == 0:
                self.back.begin_from(foundation, database)
            else:
                self._digests[info.instance] = info
        for name in self.files.names():
            if name.startswith("damaged-"):
                self._say(f"{name}: was found to be damaged, and put aside")

    def _read_journal(self) -> None:
        journal = Journal.open(self.files, owner=self.back.identity.owner)
        has_gap = False

        def on_damage(damage: Damage) -> None:
            nonlocal has_gap
            has_gap = True
            self._complain(
                f"{damage.file} is damaged from offset {damage.offset} to {damage.end}, after instance {damage.last_key}: "
                f"{damage.reason}"
            )

        self.back.node.on_applied.append(self._compare)
        count = 0
        try:
            for key, data in journal.recover(on_damage):
                count += 1
                try:
                    record = record_of(data)
                    if not has_gap:
                        self._take(record)
                except StorageError as problem:
                    self._complain(f"the journal, at instance {key}: {problem}")
                    has_gap = True
        finally:
            journal.close()
        if self.back.gap and not has_gap:
            self._complain(f"the journal: {self.back.gap}")
            has_gap = True
        if journal.is_cut and self.back.node.applied == 0:
            self._complain("the beginning of the journal was given up, and no snapshot holds it")
        replica = self.back.replica
        self._say(f"journal: {count} records in {len(journal.segments)} segments")
        if has_gap:
            self._say(f"replayed up to instance {replica.sequence.watermark}, where the damage is")
        else:
            accepted = max(replica.acceptor.accepted, default=replica.sequence.watermark)
            self._say(
                f"chosen, as known here, up to instance {replica.sequence.watermark}; accepted up to {accepted}"
            )
            self._digests = {at: info for at, info in self._digests.items() if at > self.back.node.applied}
            for info in self._digests.values():
                self._say(f"{info.name}: reaches further than the log, which cannot prove it")

    def _take(self, record: Record) -> None:
        """Give the replica a record. What the log has not, a newer snapshot may have: it may have come from another node."""
        self.back.take(record)
        newer = [info for info in self._digests.values() if info.instance > self.back.node.applied]
        if self.back.gap and newer:
            info = max(newer, key=lambda each: each.instance)
            self.back.begin_from(*load(self._store.open(info.name)))
            self._say(f"{info.name}: gone on from here, since the log has not what leads to it")

    def _compare(self) -> None:
        """Has the log led to what a snapshot says?"""
        database = self.back.node.database
        info = self._digests.pop(database.instance, None)
        if info is None:
            return
        if database.digest() == info.digest:
            self._say(f"{info.name}: the log leads to the same state")
        else:
            self._complain(
                f"{info.name}: at instance {info.instance} the log leads to a state of digest {database.digest().hex()}"
            )
