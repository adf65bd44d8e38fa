"""What all connections of a node share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sofadb.node.facts import Facts

from .sentinel import SERVICE_NAME, leader_changed
from .subscriptions import Subscriptions

if TYPE_CHECKING:
    from sofadb.database.database import Database
    from sofadb.node.node import Work

    from .connection import Connection


class NodeView(Protocol):
    """A node, as its server sees it."""

    @property
    def database(self) -> Database: ...

    def submit(self, work: Work) -> None: ...

    def read(self, work: Work) -> None: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """Bounds of the server. Sizes in bytes."""

    clients_max: int = 10_000
    in_flight_max: int = 16
    """How many runs of one connection may be under way at once."""
    waiting_bytes_max: int = 1 << 20
    """What one connection may have waiting to be begun before it is not read from any more."""
    output_bytes_max: int = 1 << 20
    """With more than this unread, nothing more is begun or encoded for a client. (One large value may be on top.)"""
    transaction_bytes_max: int = 64 << 20
    """What MULTI may queue."""
    subscriptions_max: int = 10_000
    """How many channels and patterns one connection may subscribe to."""
    unread_bytes_max: int = 8 << 20
    """A subscriber that has left more than this unread when the next message comes is cut off."""


@dataclass(slots=True)
class ServerState:
    """One server."""

    node: NodeView
    facts: Callable[[], Facts]
    host: str
    port: int
    settings: Settings = field(default_factory=Settings)
    explain: Callable[[], Sequence[str]] = tuple
    """What is waited for, in sentences."""
    service_name: str = SERVICE_NAME
    """What clients that look for the leader call this cluster (`sentinel`)."""
    leader_address: str = ""
    """Where clients reach who leads or led last, as HOST:PORT; empty if we never heard of anybody."""
    clients: dict[int, Connection] = field(default_factory=dict)
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    last_client_id: int = 0
    started_at: float = field(default_factory=time.monotonic)
    connections_received: int = 0
    connections_rejected: int = 0
    commands_processed: int = 0
    bytes_read: int = 0
    errors: int = 0
    server: Any = None

    def look_for_leader(self) -> Facts:
        """Note who leads, and tell who subscribes to such news. Returns all that is known."""
        facts = self.facts()
        if facts.leader_client_address:
            leader_changed(self, facts.leader_client_address)
        return facts
