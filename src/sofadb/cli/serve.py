"""`sofadb serve`: put a node and its server together, and take them apart in good order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from sofadb.node import collector
from sofadb.node.archive import Unavailable, place_of
from sofadb.node.host import EXIT_NOT_FOUND, EXIT_STORAGE, LiveHost, die
from sofadb.node.joining import NotFound
from sofadb.node.live import start_node
from sofadb.node.logs import start_logging
from sofadb.node.snapshots import SnapshotSettings
from sofadb.node.tuning import Tuning
from sofadb.server import listener
from sofadb.server.admission import Passwords
from sofadb.server.notifications import Notifications
from sofadb.server.state import ServerState, Settings
from sofadb.server.stopping import stop_in_order
from sofadb.storage.files import StorageError

log = logging.getLogger("sofadb")

EXIT_ARCHIVE = 78
"""What is to be the archive cannot be one (sysexits.h: configuration error)."""
EXIT_PORT = 69
"""A port cannot be had (sysexits.h: service unavailable)."""


async def run_node(
    node_id: str,
    directory: Path,
    client_address: tuple[str, int],
    peer_address: tuple[str, int],
    members: dict[str, str] | None,
    tuning: Tuning,
    service_name: str,
    snapshots: SnapshotSettings,
    join: list[str],
    archive: str,
    archive_every_s: float,
    passwords: Passwords,
    is_protected: bool,
    notifications: Notifications,
    memory_bytes_max: int,
) -> None:
    """Run until SIGTERM or SIGINT. Exits with one line if the directory or a port cannot be had."""
    start_logging()
    told_to_stop = _listen_for_signals()
    try:
        place = place_of(archive) if archive else None
    except Unavailable as problem:
        die(EXIT_ARCHIVE, f"there cannot be an archive: {problem}")
    host, port = client_address
    try:
        starting = asyncio.ensure_future(
            start_node(
                LiveHost(directory),
                node_id,
                peer_address,
                f"{host}:{port}",
                members,
                tuning.settings(),
                snapshot_settings=snapshots,
                join=join,
            )
        )
        stopping = asyncio.ensure_future(told_to_stop.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():  # It waits for others, or reads back a long log.
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            log.info("stopped before it was ready")
            _flush()
            return
        running = starting.result()
    except NotFound as problem:
        die(EXIT_NOT_FOUND, str(problem))
    except StorageError as problem:
        die(EXIT_STORAGE, str(problem))
    except OSError as problem:
        _no_port(peer_address, "peers", problem)
    state = ServerState(
        running.node,
        running.facts,
        host,
        port,
        explain=running.explain,
        take_snapshot=running.world.snapshots.begin,
        want_snapshot=running.world.snapshots.want,
        newest_snapshot=running.world.snapshots.told,
        snapshot_part=running.world.snapshots.part,
        shut_down=told_to_stop.set,
        service_name=service_name,
        passwords=passwords,
        is_protected=is_protected,
        notifications=notifications,
        settings=Settings(memory_bytes_max=memory_bytes_max),
    )
    state.is_leader_full = running.is_leader_full
    running.is_full = lambda: state.memory.is_above
    try:
        await listener.start(state)
    except OSError as problem:
        _no_port(client_address, "clients", problem)
    if place is not None:
        running.archive(place, archive_every_s)
    collector.keep_short(asyncio.get_running_loop().call_later)
    log.info("%s is ready: clients on %s:%d, peers on %s:%d", node_id, host, port, *peer_address)
    await running.until_lost_or(told_to_stop)
    if running.lost.done():
        await running.begin_anew()
        _flush()
        os.execv(sys.executable, sys.orig_argv)
    log.info("stopping")
    await stop_in_order(state, running)
    log.info("stopped")
    _flush()


def _flush() -> None:
    for handler in log.handlers:
        handler.flush()


def _no_port(address: tuple[str, int], whom: str, problem: OSError) -> NoReturn:
    host, port = address
    die(EXIT_PORT, f"cannot listen for {whom} on {host}:{port}: {problem.strerror or problem}")


def _listen_for_signals() -> asyncio.Event:
    """Set by SIGTERM and SIGINT, from the very beginning: a node that still reads its log stops in good order, too."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told
