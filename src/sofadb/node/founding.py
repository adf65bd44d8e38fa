"""New clusters from old states: a backup that is restored, a cluster whose majority is gone for good.

Either way a state is what a new cluster begins with, at the instance it had. Everything that says who is a member is made anew,
and in one place (`found`): the configuration in the foundation, the roster in the state, the identity of the directory. The
cluster's id is a new one, and the files belong to it; so a node of the old cluster that still lives is turned away at the first
word, and a file of it is taken for none of ours. No acceptor of the new cluster has ever promised anything.

Sessions are dropped: they tell retries of the old cluster's nodes from first attempts, and none of these nodes can be heard
here; the new ones count their starts from 1 again, and an old session of the same name would take all they ask for an echo.
Kept are: the instance, from which the sequence goes on; the time, which never runs backwards; the ids of `SOFA.ONCE`; locks and
the last token, so that tokens only grow; the rolling digest.

Recovery (`survey`, `recover`) is phase 1 without a quorum: what any of the survivors knows to be chosen is chosen; beyond that,
for each instance in an unbroken run, the value of the highest-numbered proposal that one of them accepted is taken for chosen.
It may have been: to keep it can bring back a write whose client was told that its outcome is not known, and to drop it could
lose one that was acknowledged. What was chosen by the lost majority alone is lost, and nobody can say how much that is. So
whoever recovers has to name from where on.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sofadb.database.database import Database
from sofadb.paxos import Configuration, Foundation, Instance
from sofadb.paxos.ballot import Ballot
from sofadb.paxos.codec import encode
from sofadb.paxos.records import Learned
from sofadb.paxos.values import Value
from sofadb.storage.files import DiskFiles, Files, NoSpace, StorageError, UntouchedFiles
from sofadb.storage.identity import cluster_owner_of, lock_directory, sync_way, write_identity
from sofadb.storage.snapshot import SnapshotWriter

from .point_in_time import Archive, Point, state_at
from .reading_back import ReadBack, read_back
from .verifying import Contents, contents_of, open_backup, read_whole


@dataclass(frozen=True, slots=True)
class Founded:
    """A cluster that may begin."""

    cluster: str
    members: dict[str, str]
    contents: Contents


def found(
    files: Files, database: Database, time: int, cluster: str, node: str, members: dict[str, str]
) -> Founded:
    """Make an empty directory that of `node` in a new cluster that begins with this state. Raises `StorageError`.

    Its name comes last: before, a node would refuse it.
    """
    database.shared.roster.begin(members)
    instance = Instance(database.instance)
    configuration = Configuration(tuple(sorted(members)))
    foundation = Foundation(instance, time, ((instance, configuration),), ())
    writer = SnapshotWriter(files, cluster_owner_of(cluster), instance, b"".join(encode(foundation)))
    try:
        for piece in database.image().pieces():
            writer.write(piece)
        info = writer.finish()
    except NoSpace:
        writer.abort()
        raise
    write_identity(files, cluster, node, members, began_at=instance)
    return Founded(cluster, members, contents_of(info, foundation, database))


def restore(source: Path, target: Path, node: str, members: dict[str, str], attempt: int = 1) -> Founded:
    """Make `target` the directory of `node` in a new cluster of `members` that begins with a backup.

    The same state, members and attempt give the same cluster, on each of its nodes; any other, another one. Raises `Unsound`,
    `StorageError`.
    """
    with_backup = UntouchedFiles(DiskFiles(source.parent, may_write=False))
    foundation, database = read_whole(open_backup(with_backup, source.name))
    return _restored(database, foundation.time, target, node, members, attempt)


def restore_point(
    url: str, point: Point, target: Path, node: str, members: dict[str, str], attempt: int = 1
) -> Founded:
    """The same with what an archive has of a point in time. Raises `Unavailable`, too."""
    with tempfile.TemporaryDirectory(prefix="sofadb-") as scratch:
        back = state_at(Archive.at(url, Path(scratch)), point)
    return _restored(back.node.database, back.replica.time, target, node, members, attempt)


def _restored(
    database: Database, time: int, target: Path, node: str, members: dict[str, str], attempt: int
) -> Founded:
    who = ",".join(f"{name}={address}" for name, address in sorted(members.items()))
    cluster = _cluster_id(f"restored {database.instance} {database.digest().hex()} {attempt} {who}")
    files, lock = _begin_directory(target)
    try:
        return found(files, database, time, cluster, node, members)
    finally:
        os.close(lock)


def _cluster_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _begin_directory(path: Path) -> tuple[Files, int]:
    """An empty directory, made if need be, and locked."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = sorted(set(os.listdir(path)) - {"lock", "lost+found"})
    except OSError as problem:
        raise StorageError(f"the directory {path} cannot be made: {problem}") from problem
    if found:
        raise StorageError(f"{path} is not empty ({found[0]}): choose a new directory, or empty that one")
    lock = lock_directory(path)
    sync_way(path)
    return DiskFiles(path), lock


# A majority is gone


@dataclass(frozen=True, slots=True)
class Survey:
    """What the survivors' directories tell together."""

    best: ReadBack
    """Of the one who knows most to be chosen."""
    known: int
    """Everything up to here is known to be chosen."""
    values: tuple[Value, ...]
    """What is taken for chosen behind it, without a gap."""
    dropped: int
    """How many instances beyond have accepted values that are behind a gap, and are not kept."""
    voters: tuple[str, ...]
    """Who votes on what comes next."""

    @property
    def kept(self) -> int:
        """Everything up to here is kept."""
        return self.known + len(self.values)


def survey(backs: Sequence[ReadBack]) -> Survey:
    """Put together what was read back from survivors' directories. Raises `StorageError` if they need no recovery."""
    clusters = {back.identity.cluster for back in backs}
    survivors = {back.identity.acceptor for back in backs}
    if len(clusters) > 1 or len(survivors) < len(backs):
        raise StorageError("these are not the directories of different nodes of one cluster")
    best = max(backs, key=lambda back: back.replica.sequence.watermark)
    window = best.replica.window()
    if all(each.is_quorum(survivors) for each in window):
        raise StorageError(
            f"{', '.join(sorted(survivors))} are a majority of {', '.join(window[-1].acceptors)}: start them, and nothing is lost"
        )
    found: dict[Instance, tuple[Ballot, Value]] = {}
    for back in backs:
        for instance, accepted in back.replica.acceptor.accepted.items():
            if instance not in found or accepted.ballot > found[instance][0]:
                found[instance] = (accepted.ballot, accepted.value)
    values = {instance: value for instance, (_, value) in found.items()}
    for back in backs:
        values |= back.replica.sequence.ahead  # Chosen, wherever it was accepted.
    known = best.replica.sequence.watermark
    run: list[Value] = []
    while (following := Instance(known + len(run) + 1)) in values:
        run.append(values[following])
    dropped = sum(instance > known + len(run) for instance in values)
    return Survey(best, known, tuple(run), dropped, window[-1].acceptors)


def survey_directories(path: Path, others: Sequence[Path]) -> tuple[Survey, ReadBack]:
    """What is in a survivor's directory and those of others; and the first by itself. None of these nodes may run.

    Raises `StorageError`.
    """
    backs: list[ReadBack] = []
    for each in (path, *others):
        lock = lock_directory(each)
        try:
            backs.append(read_back(UntouchedFiles(DiskFiles(each)), each))
        finally:
            os.close(lock)
    mine = backs[0]
    return survey(backs), mine


def rebuild(survey: Survey) -> ReadBack:
    """Apply what is taken for chosen."""
    for instance, value in enumerate(survey.values, survey.known + 1):
        survey.best.take(Learned(Instance(instance), value))
    assert survey.best.node.applied == survey.kept
    return survey.best


def recover(path: Path, mine: ReadBack, survey: Survey) -> tuple[Founded, Path]:
    """Put the directory of a new cluster of this one node in the place of its old one, which is kept; where.

    Raises `StorageError`.
    """
    path = path.resolve()
    new, old = (path.with_name(f"{path.name}.{what}") for what in ("recovered", f"before-{survey.kept}"))
    if old.exists():
        raise StorageError(f"{old} is there already: move it away")
    identity, state = mine.identity, rebuild(survey)
    node = identity.node
    known = {**identity.members, **identity.contacts}
    if (member := state.node.database.shared.roster.members.get(node)) is not None:
        known[identity.acceptor] = member.peer_address
    members = {node: known[identity.acceptor]}
    cluster = _cluster_id(f"recovered {identity.cluster} {os.urandom(16).hex()}")
    files, lock = _begin_directory(new)
    try:
        founded = found(files, state.node.database, state.replica.time, cluster, node, members)
    finally:
        os.close(lock)
    try:
        path.rename(old)
        new.rename(path)
    except OSError as problem:
        raise StorageError(
            f"{path} and {new} cannot be renamed ({problem.strerror}): serve from {new}, and put {path} away"
        ) from problem
    DiskFiles(path.parent).sync_directory()
    return founded, old
