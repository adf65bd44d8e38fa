"""Any point in time, from an archive: the newest snapshot before it, and then what was chosen up to it.

The values are given to a replica that takes no part (`reading_back`), as if it had just learned them: so what a value does to
the state, to sessions and to the membership is decided by the code that did it the first time.

To verify an archive is to go the whole way: from its oldest snapshot over every value to its end; where a newer snapshot was
taken, the state has to be the one in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sofadb.database.database import Database
from sofadb.paxos import Foundation, Instance, Value
from sofadb.paxos.records import Learned
from sofadb.storage.files import DiskFiles, StorageError, UntouchedFiles
from sofadb.storage.identity import FORMAT_VERSION, Identity, cluster_owner_of
from sofadb.storage.segment import Rot
from sofadb.storage.snapshot import Snapshots

from .archive import CLUSTER, BadStretch, Place, place_of, read_stretch, snapshots, stretches
from .reading_back import ReadBack
from .verifying import Findings, Unsound, read_whole


@dataclass(frozen=True, slots=True)
class Point:
    """Where to go back to: as far as both allow."""

    instance: int | None = None
    time: int | None = None
    """By the cluster's time stamps (milliseconds since 1970)."""

    def is_reached_by(self, instance: int, time: int) -> bool:
        """Whether this instance, with which it becomes this time, lies beyond."""
        return (self.instance is not None and instance > self.instance) or (
            self.time is not None and time > self.time
        )


class Archive:
    """One cluster's, to be read. Everything may raise `Unavailable`."""

    def __init__(self, place: Place, cluster: str, scratch: Path) -> None:
        """`scratch` is an empty directory, for a snapshot at a time."""
        self.place = place
        self.cluster = cluster
        self.owner = cluster_owner_of(cluster)
        self._scratch = scratch
        self.names = place.names()

    @classmethod
    def at(cls, url: str, scratch: Path) -> Archive:
        """The archive in a place: the one that is in it, or that of the cluster whose folder it is. Raises `StorageError`."""
        place = place_of(url)
        names = place.names()
        last = url.rstrip("/").rpartition("/")[2]
        if CLUSTER.fullmatch(last) and snapshots(names):
            return cls(place, last, scratch)
        folders = [name for name in names if CLUSTER.fullmatch(name)]
        if len(folders) != 1:
            what = (
                f"those of {len(folders)} clusters: say {url}/{folders[0]}, or another"
                if folders
                else "no archive"
            )
            raise StorageError(f"there is {what} at {url}")
        return cls(place.folder(folders[0]), folders[0], scratch)

    def snapshot(self, name: str) -> tuple[Foundation, Database, bytes]:
        """What a snapshot holds, proven, and its digest. Raises `Unsound`."""
        path = self._scratch / name
        with path.open("wb") as file:
            for piece in self.place.read(name):
                file.write(piece)
        try:
            reader = Snapshots(UntouchedFiles(DiskFiles(self._scratch)), self.owner).open(name)
            return *read_whole(reader), reader.info.digest
        except Rot as problem:
            raise Unsound(str(problem)) from None
        finally:
            path.unlink()

    def values(self, first: int) -> Iterator[tuple[int, Value]]:
        """What was chosen from `first` on, up to the first gap. Raises `Unsound`."""
        for begin, end, name in stretches(self.names):
            if begin > first:
                return
            if end >= first:
                try:
                    values = read_stretch(self.place, self.owner, begin, end, name)
                except BadStretch as problem:
                    raise Unsound(str(problem)) from None
                for instance in range(first, end + 1):
                    yield instance, values[instance - begin]
                first = end + 1

    @property
    def end(self) -> int:
        """The last instance that anything in it tells of."""
        ends = [end for _, end, _ in stretches(self.names)]
        return max([*ends, *(instance for instance, _ in snapshots(self.names))], default=0)

    def replica(self) -> ReadBack:
        """Somebody to whom the values can be given."""
        return ReadBack(Identity(FORMAT_VERSION, self.cluster, "archive", 0, "", {"archive": "-:0"}))


def state_at(archive: Archive, point: Point) -> ReadBack:
    """The state as it was. Raises `Unsound` if the archive does not have it."""
    back = archive.replica()
    problem = "there is none from before that point"
    for instance, name in reversed(snapshots(archive.names)):
        if point.instance is not None and instance > point.instance:
            continue
        try:
            foundation, database, _ = archive.snapshot(name)
        except Unsound as damage:  # An older one and more values lead there, too.
            problem = str(damage)
            continue
        if not point.is_reached_by(instance, foundation.time):
            back.begin_from(foundation, database)
            break
    else:
        raise Unsound(f"no snapshot in the archive can be begun from: {problem}")
    for instance, value in archive.values(back.node.applied + 1):
        if point.is_reached_by(instance, max(back.replica.time, value.stamp)):
            return back
        back.take(Learned(Instance(instance), value))
    applied = back.node.applied
    if applied != point.instance and (point.instance is not None or applied < archive.end):
        raise Unsound(
            f"instance {applied + 1} is not in the archive: the last point that can be reached is --to-instance {applied}"
        )
    return back


def verify_archive(archive: Archive) -> Findings:
    """Go the whole way."""
    findings = Findings()
    back = archive.replica()
    there = snapshots(archive.names)
    findings.facts.append(
        f"archive of cluster {archive.cluster}: {len(there)} snapshots, {len(stretches(archive.names))} stretches of values"
    )
    for instance, name in there:
        try:
            _go_on(back, archive, instance)
        except Unsound as problem:
            findings.damages.append(str(problem))
        try:
            foundation, database, digest = archive.snapshot(name)
        except Unsound as problem:
            findings.damages.append(str(problem))
            continue
        findings.facts.append(f"{name}: sound, digest {digest.hex()}")
        applied = back.node.applied
        if applied == instance:
            if back.node.database.digest() != digest:
                findings.damages.append(f"{name}: the values before it lead to another state")
        else:
            if applied:
                findings.damages.append(
                    f"instances {applied + 1} to {instance} are missing; {name} has what they led to"
                )
            back = archive.replica()
            back.begin_from(foundation, database)
    try:
        _go_on(back, archive, archive.end)
    except Unsound as problem:
        findings.damages.append(str(problem))
    applied = back.node.applied
    if not applied:
        findings.damages.append("there is no snapshot to begin from")
    elif applied < archive.end:
        findings.damages.append(f"instance {applied + 1} is missing, though there is more behind it")
    findings.facts.append(f"everything up to instance {applied} can be gone back to, but for what is missing")
    return findings


def _go_on(back: ReadBack, archive: Archive, upto: int) -> None:
    """Apply what there is, up to an instance."""
    if not back.node.applied:
        return
    for instance, value in archive.values(back.node.applied + 1):
        if instance > upto:
            return
        back.take(Learned(Instance(instance), value))
