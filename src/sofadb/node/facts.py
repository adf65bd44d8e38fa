"""What a node can say of itself and its cluster, as plain data: for INFO, ROLE and `sofadb status`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """Another node, or this one, as this node sees it."""

    node: str
    peer_address: str
    client_address: str
    """HOST:PORT for clients; empty if it was never heard."""
    is_reachable: bool
    problem: str
    """Why it is not reachable."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One node's view."""

    node: str
    cluster: str
    starts: int
    role: str
    """leading, following or campaigning."""
    leader: str
    """The leader's id; empty if nobody leads."""
    leader_client_address: str
    successor: str
    """To whom this node, which leads, is handing over; empty if to nobody."""
    ballot: str
    chosen: int
    """The last instance of the unbroken run that this node knows to be chosen."""
    applied: int
    directory: str
    process_id: int
    uptime_s: int
    journal_bytes: int
    journal_syncs: int
    members: tuple[Member, ...]
