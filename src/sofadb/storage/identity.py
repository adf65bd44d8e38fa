"""Whose directory is this, in which life, and whom has it met (rule P10).

A data directory belongs to one node of one cluster, for good. A small file says so, with a checksum over it, and counts how
often the node was started: the number is raised, durably, before the node says its first word, so that no two lives of it
can be taken for one another. Before the first life, the way to the directory is made durable too. A lock keeps a second
process out. What does not fit is refused with a sentence; nothing is guessed and nothing repaired here.

To the others a directory is an acceptor. A node's first directory has the node's own id for that, `n3`. A directory that takes
the place of one that was lost has another, `n3~` and eight hexadecimal digits, so that what the lost one promised is never
mixed up with what this one does. People call both n3 (`plain_name`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from crc32c import crc32c

from .files import DiskFiles, Files, StorageError

FORMAT_VERSION = 1
NODE_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
ACCEPTOR_ID = re.compile(r"[A-Za-z0-9_-]{1,32}(~[0-9a-f]{8})?")
_IDENTITY = "identity"
_MET = "met"
_NEW = ".new"
_LOCK = "lock"
_BYTES_MAX = 1 << 20
_LIFE_DIGITS = 16
LIVES_MAX = 20_000
"""So many lives are remembered: more than a node may be started while one of the others is away."""


def plain_name(acceptor: str) -> str:
    """What people call an acceptor: its node."""
    return acceptor.partition("~")[0]


class Life(NamedTuple):
    """One life of a node: from a start to its end."""

    starts: int
    """How often the node has been started on its directory, this time included."""
    id: str
    """Drawn at random; nobody else's."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a data directory knows of itself."""

    format: int
    cluster: str
    node: str
    starts: int
    """How often the node has been started on this directory; its incarnation."""
    lives: str
    """The ids of its lives, one behind the other, the latest last."""
    members: dict[str, str]
    """The initial cluster: each acceptor's id and peer address (HOST:PORT). The same on all nodes, for ever."""
    bound_ms: int = 0
    """So long after its end (milliseconds) any of its lives may still be bound to what it told others in passing.

    (Any of them, not the latest: that may have ended as soon as it began.)
    """
    acceptor: str = ""
    """What it is to the others; empty, as in directories from before there were others, stands for the node's own id."""

    contacts: dict[str, str] = field(default_factory=dict)
    """Of a directory that has joined: whom it found, and itself, as acceptor ids and peer addresses."""
    began_at: int = 0
    """The instance of the state that the cluster began with, if it was restored; of a directory that joined, 0."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "acceptor", self.acceptor or self.node)

    @property
    def life(self) -> Life:
        return Life(self.starts, self.lives[-_LIFE_DIGITS:])

    @property
    def contacts_of_others(self) -> list[str]:
        """The peer addresses of those whom it found when it joined."""
        return [address for acceptor, address in self.contacts.items() if acceptor != self.acceptor]

    def remembers(self, life: str) -> bool:
        """Whether this directory has had the life of that id."""
        return any(
            self.lives[begin : begin + _LIFE_DIGITS] == life
            for begin in range(0, len(self.lives), _LIFE_DIGITS)
        )

    def born(self, life: str, bound_ms: int) -> Identity:
        """The next life, of that id."""
        assert len(life) == _LIFE_DIGITS
        lives = (self.lives + life)[-_LIFE_DIGITS * LIVES_MAX :]
        return replace(self, starts=self.starts + 1, lives=lives, bound_ms=max(self.bound_ms, bound_ms))

    @property
    def owner(self) -> int:
        """This acceptor of this cluster as a number of 64 bits."""
        return _number(f"{self.cluster}/{self.acceptor}")

    @property
    def cluster_owner(self) -> int:
        """The cluster as a number of 64 bits: for files that its nodes hand to each other."""
        return cluster_owner_of(self.cluster)


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What a new directory is told of the cluster that it joins."""

    cluster: str
    acceptor: str
    """What it will be to the others."""
    initial: dict[str, str]
    contacts: dict[str, str]
    """The present members and itself."""


def new_acceptor(node: str, chance: int) -> str:
    """An acceptor id for a directory that is not its node's first; `chance` is a random number."""
    return f"{node}~{chance & 0xFFFFFFFF:08x}"


LOST = ".lost"
_ANEW = "anew"


@dataclass(frozen=True, slots=True)
class Anew:
    """That what a directory held is of no use any more, and where its node can join again."""

    cluster: str
    acceptor: str
    """What the directory was that is of no use."""
    addresses: list[str]
    """Peer addresses of members (HOST:PORT)."""


def begin_anew(files: Files, anew: Anew) -> None:
    """Have the next life of a directory begin as a newcomer's. What is there is kept, under names that nobody reads.

    Of what was set aside before only the latest is kept. Raises `StorageError`.
    """
    _replace(files, _ANEW, asdict(anew))
    _set_aside(files)


def _set_aside(files: Files) -> None:
    names = files.names()
    kept = (_LOCK, _ANEW)
    rest = [name for name in names if name not in kept and not name.endswith(LOST)]
    if rest:
        for name in names:
            if name.endswith(LOST):
                files.remove(name)
    for name in rest:
        files.rename(name, name + LOST)
    files.sync_directory()


def told_to_begin_anew(files: Files, path: Path) -> Anew | None:
    """Where to join again, if an earlier life has found that it must. Raises `StorageError`."""
    if _ANEW not in files.names():
        return None
    try:
        anew = Anew(**_read(files, path / _ANEW))
    except TypeError as problem:
        raise StorageError(f"{path / _ANEW} cannot be understood: {problem}") from None
    with suppress(StorageError):  # One that cannot be read is of no use either.
        if _IDENTITY in files.names() and read_identity(files, path).acceptor != anew.acceptor:
            return None  # It has begun.
    _set_aside(files)  # That life may have been killed in the middle of it.
    return anew


@dataclass(slots=True)
class Opened:
    """A directory that is ours, and locked, until `close`."""

    identity: Identity
    directory: Path
    files: Files
    met: dict[str, Life]
    """The latest life of each other node that this one has met."""
    bound_ms: int = 0
    """So long from now (milliseconds) a life before this one may be bound."""
    lock: int | None = None

    def remember(self, met: dict[str, Life]) -> None:
        """Have it on disk whom this node has met. Raises `StorageError`."""
        _replace(self.files, _MET, {node: list(life) for node, life in met.items()})

    def close(self) -> None:
        """Let go of the lock."""
        if self.lock is not None:
            os.close(self.lock)


def cluster_id(members: dict[str, str]) -> str:
    """The id of the cluster that begins with these members: the same on each of them, without asking anybody."""
    text = ",".join(f"{node}={address}" for node, address in sorted(members.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def open_directory(
    path: Path,
    node: str,
    members: dict[str, str] | None,
    cluster: str | None = None,
    bound_ms: int = 0,
    newcomer: Newcomer | None = None,
) -> Opened:
    """Open or create the data directory of `node`, lock it, and begin a new life in it, as `begin_life` says."""
    _check_ids(node, members)
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, ValueError) as problem:
        raise StorageError(f"the directory {path} cannot be made: {problem}") from problem
    lock = lock_directory(path)
    try:
        opened = begin_life(
            DiskFiles(path), path, node, members, cluster, bound_ms, newcomer, make_way=sync_way
        )
    except BaseException:
        os.close(lock)
        raise
    opened.lock = lock
    return opened


def cluster_owner_of(cluster: str) -> int:
    """A cluster of that id as a number of 64 bits."""
    return _number(cluster)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _random_life() -> str:
    return os.urandom(_LIFE_DIGITS // 2).hex()


def begin_life(
    files: Files,
    path: Path,
    node: str,
    members: dict[str, str] | None,
    cluster: str | None = None,
    bound_ms: int = 0,
    newcomer: Newcomer | None = None,
    new_life: Callable[[], str] = _random_life,
    make_way: Callable[[Path], None] = lambda path: None,
) -> Opened:
    """Begin a new life of `node` in the directory of `files`, which is at `path`.

    `members` (id to peer address) matters at the first start only; None then is an error. `cluster`, if it is given, must
    be the id of the cluster that the directory belongs to. `bound_ms` is how long this life may bind the next. `newcomer`
    matters at the first start only: then the directory joins a cluster that is there already. Raises `StorageError`; what
    was refused has changed nothing.
    """
    _check_ids(node, members)
    names = files.names()
    if _IDENTITY in names:
        identity = _read_identity(files, path / _IDENTITY)
        if identity.node != node:
            raise StorageError(f"{path} is the directory of node {identity.node}, not of {node}")
    elif any(
        name.endswith(".seg") or (name.startswith("snapshot-") and not name.endswith(LOST)) for name in names
    ):
        raise StorageError(
            f"{path} holds a journal or a snapshot but no identity: it is not clear whose promises these are, or a restore"
            " was not finished"
        )
    elif newcomer is not None:
        acceptor, contacts = newcomer.acceptor, newcomer.contacts
        assert ACCEPTOR_ID.fullmatch(acceptor)
        assert plain_name(acceptor) == node
        assert acceptor in contacts
        identity = Identity(
            FORMAT_VERSION, newcomer.cluster, node, 0, "", newcomer.initial, 0, acceptor, contacts
        )
        make_way(path)
    elif members is None:
        raise StorageError(
            f"{path} is new: say who the members are, with --cluster, or whom to join, with --join"
        )
    elif node not in members:
        raise StorageError(f"node {node} is not among the members: {', '.join(sorted(members))}")
    else:
        identity = Identity(FORMAT_VERSION, cluster_id(members), node, 0, "", dict(sorted(members.items())))
        make_way(path)
    if cluster is not None and cluster != identity.cluster:
        raise StorageError(f"{path} belongs to cluster {identity.cluster}, not to {cluster}")
    bound_ms_before = identity.bound_ms
    identity = identity.born(new_life(), bound_ms)
    met = _read_met(files, path / _MET) if _MET in names else {}
    _replace(files, _IDENTITY, asdict(identity))
    if _ANEW in names:
        files.remove(_ANEW)
        files.sync_directory()
    return Opened(identity, path, files, met, bound_ms_before)


def _check_ids(node: str, members: dict[str, str] | None) -> None:
    for each, pattern in ((node, NODE_ID), *((member, ACCEPTOR_ID) for member in members or ())):
        if not pattern.fullmatch(each):
            raise StorageError(f"{each!r} is no node id: 1 to 32 letters, digits, hyphens and underscores")


def sync_way(path: Path) -> None:
    """Make the names that lead to a new directory durable: without them all that is in it is lost with the power.

    Which of them are new is not known (an earlier attempt may have been killed), but those in a directory that we may not
    write or even look at, or on another file system, are not.
    """
    try:
        device = os.stat(path).st_dev
        for parent in path.resolve().parents:
            if os.stat(parent).st_dev != device or not os.access(parent, os.R_OK | os.W_OK):
                return
            DiskFiles(parent).sync_directory()
    except PermissionError:
        return
    except OSError as problem:
        raise StorageError(f"the way to {path} cannot be looked at: {problem}") from problem


def lock_directory(path: Path) -> int:
    """Lock the directory itself, which nobody can remove and make anew meanwhile, and leave our process id in a file."""
    owner = path / _LOCK
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise StorageError(f"{path} cannot be opened: {problem.strerror}") from problem
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        owner.write_bytes(b"%d\n" % os.getpid())
    except BlockingIOError:
        os.close(descriptor)
        holder = "unknown"
        with suppress(OSError):  # It is only for the message.
            holder = owner.read_text(errors="replace").strip()
        raise StorageError(f"{path} is in use by another process (pid {holder})") from None
    except OSError as problem:
        os.close(descriptor)
        raise StorageError(f"{path} cannot be locked: {problem.strerror}") from problem
    return descriptor


def read_identity(files: Files, path: Path) -> Identity:
    """Whose directory this is; begins no life. Raises `StorageError`."""
    if _IDENTITY not in files.names():
        raise StorageError(f"{path} is no data directory of a node: it has no identity")
    return _read_identity(files, path / _IDENTITY)


def write_identity(
    files: Files, cluster: str, node: str, members: dict[str, str], began_at: int = 0
) -> Identity:
    """Make a directory that of a node of a cluster that began with a state; it has had no life yet. Raises `StorageError`."""
    _check_ids(node, members)
    assert node in members
    initial = dict(sorted(members.items()))
    identity = Identity(FORMAT_VERSION, cluster, node, 0, "", initial, began_at=began_at)
    _replace(files, _IDENTITY, asdict(identity))
    return identity


def _read_identity(files: Files, path: Path) -> Identity:
    fields = _read(files, path)
    try:
        version = fields["format"]
        if version != FORMAT_VERSION:
            raise StorageError(
                f"{path} has format version {version}, and this program knows version {FORMAT_VERSION}"
            )
        identity = Identity(**fields)
        texts = [identity.cluster, identity.node, identity.lives, identity.acceptor]
        for addresses in (identity.members, identity.contacts):
            texts += [*addresses, *addresses.values()]
        numbers = (identity.starts, identity.bound_ms, identity.began_at)
        if not all(isinstance(text, str) for text in texts) or {type(number) for number in numbers} != {int}:
            raise TypeError("a field is of the wrong type")
        if not ACCEPTOR_ID.fullmatch(identity.acceptor) or plain_name(identity.acceptor) != identity.node:
            raise TypeError("its acceptor is another node's")
    except (TypeError, KeyError, AttributeError) as problem:
        raise StorageError(f"{path} cannot be understood: {problem}") from None
    return identity


def _read_met(files: Files, path: Path) -> dict[str, Life]:
    try:
        return {node: Life(int(starts), str(life)) for node, (starts, life) in _read(files, path).items()}
    except (ValueError, TypeError, AttributeError) as problem:
        raise StorageError(f"{path} cannot be understood: {problem}") from None


def _read(files: Files, path: Path) -> Any:
    """What `_replace` has written. Raises `StorageError`."""
    file = files.open(path.name)
    try:
        data = file.read(_BYTES_MAX, 0)
    finally:
        file.close()
    checksum, _, body = data.partition(b"\n")
    body = body.removesuffix(b"\n")
    if checksum != b"%08x" % crc32c(body):
        raise StorageError(f"{path} is damaged: its checksum does not fit; restore it, or rebuild this node")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as problem:
        raise StorageError(f"{path} cannot be understood: {problem}") from None


def _replace(files: Files, name: str, fields: dict[str, Any]) -> None:
    """The new contents take the old ones' place in one step, and are there to stay before we go on."""
    body = json.dumps(fields, indent=1, sort_keys=True).encode()
    if name + _NEW in files.names():
        files.remove(name + _NEW)
    file = files.create(name + _NEW)
    try:
        file.write([b"%08x\n" % crc32c(body), body, b"\n"], 0)
        file.sync()
    finally:
        file.close()
    files.rename(name + _NEW, name)
    files.sync_directory()
