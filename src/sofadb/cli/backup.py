"""`sofadb backup`, `verify`, `restore`, `recover`: what a person needs who fears for the data, or has lost some.

A backup is a node's snapshot, byte for byte, under another name: what is there to verify snapshots verifies it. It arrives in a
directory beside its place, is proven there as a whole, and only then gets its name.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import hiredis
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from sofadb.node import founding
from sofadb.node.archive import CLUSTER, SNAPSHOT, Unavailable
from sofadb.node.point_in_time import Archive, Point, verify_archive
from sofadb.node.verifying import Contents, Findings, Unsound, verify_backup, verify_directory
from sofadb.storage.files import DiskFiles, StorageError, UntouchedFiles
from sofadb.storage.identity import lock_directory
from sofadb.storage.segment import Rot
from sofadb.storage.snapshot import ReceivedSnapshot

from .addresses import NODE_ID, parse_address, parse_cluster
from .client import Conversation, Unreachable

ATTEMPTS = 5
"""So often a backup is begun anew if a node gave up the snapshot meanwhile."""
PART_BYTES = 1 << 20
TIMEOUT_S = 30.0
"""So long a node may be silent."""
POLL_S = 0.1
IDLE_S_MAX = 60.0
"""So long a snapshot may fail to be begun."""
TAKING_S_MAX = 3_600.0
"""And so long it may take."""


def fail(text: str, code: int = 1) -> NoReturn:
    """Say what is wrong, in one line, and stop."""
    print(f"sofadb: {text}", file=sys.stderr, flush=True)
    raise SystemExit(code)


# Backup


class _Gone(Exception):
    """The node has given up the snapshot: another one is there."""


def backup(
    file: Annotated[Path, typer.Argument(help="Where the backup goes. It must not be there yet.")],
    port: Annotated[int, typer.Option(help="The client port of any node.")] = 7001,
    host: Annotated[str, typer.Option(help="The host of that node.")] = "127.0.0.1",
) -> None:
    """Save the state of the whole cluster, while it serves: it holds all that was acknowledged before."""
    began = time.monotonic()
    if file.exists():
        fail(f"{file} is there already: choose another name, or move it away")
    part = file.with_name(file.name + ".part")
    try:
        part.mkdir()
    except OSError as problem:
        fail(
            f"{part} cannot be made ({problem.strerror}); is another backup to {file} under way, or was one killed?"
        )
    try:
        with closing(Conversation(host, port, TIMEOUT_S)) as node:
            arrived = _fetch(node, part)
        # Under its own name in its own directory it is proven once more, as a whole, and loaded.
        contents = verify_backup(UntouchedFiles(DiskFiles(part)), arrived.name)
        arrived.rename(file)
        DiskFiles(file.parent).sync_directory()
    except Unreachable as problem:
        fail(f"no node answers: {problem}")
    except (Unsound, StorageError, OSError) as problem:
        fail(f"the backup failed, and nothing is left of it: {problem}")
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _print_contents(file, contents)
    print(f"took       {time.monotonic() - began:.1f} s")


def _fetch(node: Conversation, directory: Path) -> Path:
    """Have a fresh snapshot taken and bring it here."""
    for _ in range(ATTEMPTS):
        instance, salt, size = _have_taken(node)
        try:
            return _receive(node, directory, instance, salt, size)
        except _Gone as problem:
            last = problem
    fail(f"snapshots follow each other faster than they can be fetched: {last}")


def _have_taken(node: Conversation) -> tuple[int, str, int]:
    """Instance, salt and size of a snapshot with all that is acknowledged by now."""
    wanted = _asked(node, "SOFA.SNAPSHOT", "FRESH")
    began = idle_since = time.monotonic()
    while True:
        newest = _asked(node, "SOFA.SNAPSHOT")
        if newest is not None and newest[0] >= wanted:
            instance, salt, size, _ = newest
            return instance, salt.decode(), size
        facts = json.loads(_asked(node, "SOFA.INFO"))
        now = time.monotonic()
        if facts["snapshot_is_taken"]:
            idle_since = now
        elif facts["snapshot_problem"]:
            fail(f"the node cannot take a snapshot: {facts['snapshot_problem']}")
        if now - idle_since > IDLE_S_MAX or now - began > TAKING_S_MAX:
            fail(f"the node takes no snapshot that reaches instance {wanted}")
        time.sleep(POLL_S)


def _asked(node: Conversation, *words: str) -> Any:
    answer = node.ask(*words)
    if isinstance(answer, hiredis.ReplyError):
        fail(f"{words[0]}: {answer}")
    return answer


def _receive(node: Conversation, directory: Path, instance: int, salt: str, size: int) -> Path:
    received = ReceivedSnapshot(DiskFiles(directory), None, instance, size, int(salt, 16))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    is_seen = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=not is_seen, transient=True) as progress:
        task = progress.add_task("backup", total=size)
        damaged = 0
        while received.offset < size:
            words = (str(instance), salt, str(received.offset), str(PART_BYTES))
            part = node.ask("SOFA.SNAPSHOTPART", *words)
            if isinstance(part, hiredis.ReplyError):
                received.abort()
                raise _Gone(str(part))
            before = received.offset
            try:
                received.write(before, part)
            except Rot:
                damaged += 1
                if damaged == ATTEMPTS:
                    raise
            else:
                if received.offset == before:
                    raise Unsound("the node sends nothing more of it")
            progress.update(task, completed=received.offset)
    return directory / received.finish().name


# Verify


def verify(
    what: Annotated[
        str, typer.Argument(help="A backup, the data directory of a node that does not run, or an archive.")
    ],
) -> None:
    """Read all of a backup, a directory or an archive: exit 0 if sound, 1 if damaged, 2 if it cannot be read."""
    path = Path(what)
    try:
        if _is_archive(what):
            with tempfile.TemporaryDirectory(prefix="sofadb-") as scratch:
                _tell(verify_archive(Archive.at(what, Path(scratch))))
        elif path.is_dir():
            lock = lock_directory(path)
            try:
                _tell(verify_directory(_only_looked_at(path), path))
            finally:
                os.close(lock)
        else:
            _print_contents(path, verify_backup(_only_looked_at(path.parent), path.name))
    except Unsound as problem:
        fail(f"{path} is damaged: {problem}", 1)
    except (StorageError, Unavailable) as problem:
        fail(str(problem), 2)
    print("sound")


def _is_archive(what: str) -> bool:
    """Whether this is the place of an archive: a URL, or a directory with what archives have in it."""
    if "://" in what:
        return True
    if not os.path.isdir(what):
        return False
    names = os.listdir(what)
    has_any = any(CLUSTER.fullmatch(name) or SNAPSHOT.fullmatch(name) for name in names)
    return has_any and "identity" not in names


def _only_looked_at(directory: Path) -> UntouchedFiles:
    return UntouchedFiles(DiskFiles(directory, may_write=False))


def _tell(findings: Findings) -> None:
    for fact in findings.facts:
        print(fact)
    for damage in findings.damages:
        print(f"DAMAGED: {damage}")
    if findings.damages:
        raise typer.Exit(1)


# Restore


def restore(
    source: Annotated[str, typer.Argument(help="A backup, or an archive: a directory or a URL.")],
    directory: Annotated[Path, typer.Option("--dir", help="A new or empty directory: this node's data.")],
    id: Annotated[str, typer.Option("--id", help="This node's id.")],  # noqa: A002
    cluster: Annotated[
        str,
        typer.Option(help="All members of the new cluster, as n1=HOST:PORT,...; by default this node alone."),
    ] = "",
    peer_listen: Annotated[
        str, typer.Option(help="Where this node listens for others, if it is alone.")
    ] = "127.0.0.1:16379",
    attempt: Annotated[
        int,
        typer.Option(min=1, help="Another number makes another cluster, where the same was restored before."),
    ] = 1,
    to_instance: Annotated[
        int | None, typer.Option(min=1, help="Of an archive: the state after this instance.")
    ] = None,
    to_time: Annotated[
        str,
        typer.Option(help="Of an archive: the state at this time, in ISO 8601 (UTC by default), or in ms."),
    ] = "",
) -> None:
    """Make the data directory of a new cluster that begins with a backup; the same on each of its members."""
    if not NODE_ID.fullmatch(id):
        raise typer.BadParameter(f"'{id}' is no node id; use letters, digits, - and _, at most 32 of them")
    parse_address(peer_listen)
    members = parse_cluster(cluster) if cluster else {id: peer_listen}
    if id not in members:
        raise typer.BadParameter(f"{id} is not among the members: {', '.join(sorted(members))}")
    point = Point(to_instance, _parse_time(to_time) if to_time else None)
    try:
        if _is_archive(source):
            founded = founding.restore_point(source, point, directory, id, members, attempt)
        elif point != Point():
            raise typer.BadParameter(
                "a backup is of one point in time; only of an archive another can be named"
            )
        else:
            founded = founding.restore(Path(source), directory, id, members, attempt)
    except Unsound as problem:
        fail(f"{source} cannot be restored: {problem}", 1)
    except (StorageError, Unavailable) as problem:
        fail(str(problem), 2)
    _print_contents(directory, founded.contents)
    _print_founded(founded, id, directory)


def _parse_time(text: str) -> int:
    """Milliseconds since 1970."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is no time; write 2026-11-26T09:30:00, or with +01:00 behind it, or milliseconds since 1970"
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _print_founded(founded: founding.Founded, node: str, directory: Path) -> None:
    members = ",".join(f"{name}={address}" for name, address in sorted(founded.members.items()))
    print(f"cluster    {founded.cluster}, new: {members}")
    print(
        f"start it   sofadb serve --id {node} --dir {directory} --peer-listen {founded.members[node]} --listen ..."
    )


def _print_contents(path: Path, contents: Contents) -> None:
    info = contents.info
    keys = ", ".join(f"db{number} {count}" for number, count in contents.keys.items())
    at = datetime.fromtimestamp(contents.time / 1000, UTC).isoformat(timespec="milliseconds")
    print(f"file       {path}, {info.size} bytes")
    print(f"instance   {info.instance}, at {at}")
    print(f"keys       {sum(contents.keys.values())}" + (f" ({keys})" if keys else ""))
    print(f"members    {', '.join(sorted(contents.members)) or 'nobody'}")
    print(f"digest     {info.digest.hex()}")


# Recover


def recover(
    directory: Annotated[
        Path, typer.Option("--dir", help="The data directory of a survivor that does not run.")
    ],
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", help="The directory of another survivor, or a copy; may be repeated."),
    ] = None,
    accept_loss: Annotated[
        str,
        typer.Option(
            help="From which instance on what was chosen may be lost, as A.. ; the command says which A."
        ),
    ] = "",
) -> None:
    """When a majority is gone FOR GOOD: go on from what the survivors have, as a new cluster of this one node."""
    try:
        survey, mine = founding.survey_directories(directory, others or [])
        first = survey.known + 1
        best = survey.best.identity.node
        print(f"voters     {', '.join(survey.voters)}")
        print(f"known      chosen up to instance {survey.known}, as {best} knows: nothing of it is lost")
        if survey.values:
            print(
                f"kept       {first} to {survey.kept}: accepted by a survivor; perhaps chosen, so kept as if it was"
            )
        if survey.dropped:
            print(f"dropped    {survey.dropped} instances beyond {survey.kept}: accepted behind a gap")
        print(
            f"lost       what the others chose from instance {first} on without a survivor; nobody can say how much"
        )
        if accept_loss != f"{first}..":
            fail(f"nothing was changed. If the others are gone for good, say --accept-loss {first}..", 1)
        founded, old = founding.recover(directory, mine, survey)
    except StorageError as problem:
        fail(str(problem), 2)
    _print_contents(directory, founded.contents)
    print(f"kept       the old directory, as {old}")
    _print_founded(founded, mine.identity.node, directory)
    print("then       add the other nodes with empty directories; never start them on their old ones")
