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
    acceptor: str
    """What its directory is to the others; all else here calls it by its node's name. Empty if it has not arrived."""
    part: str = ""
    """voter, learner or not arrived, and what it is to be (`Roster.part`); empty for who is none, as far as we know."""
    behind: int | None = None
    """How many chosen instances it lacks; None if this node does not lead, or does not hear it."""


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
    journal_held: int
    """Bytes of the log on disk."""
    level: int
    """What all members' programs know (`roster`)."""
    snapshot: int
    """Up to which instance the newest snapshot goes; 0 if there is none."""
    snapshot_bytes: int
    snapshot_at: int
    """When it was taken, in milliseconds since 1970 by this node's clock; 0 if that was in an earlier life."""
    snapshot_is_taken: bool
    """Whether one is under way."""
    snapshot_problem: str
    """Why the last attempt failed; empty if it did not."""
    members: tuple[Member, ...]
    """Each node once, those that are wanted and have not arrived among them."""
    archived: int | None = None
    """Everything up to here is in the archive, as the leader knows (0: it does not lead); None if there is none."""
    archive_problem: str = ""
    """Why it falls behind; empty if it does not."""
    voters: tuple[str, ...] = ()
    """Who votes, by the last change that this node knows to be chosen."""
    quorum: int = 1
    """How many of them are a majority."""
    is_changing: bool = False
    """Whether that change is not in force yet."""
    damage: tuple[str, ...] = ()
    """Where the log is damaged, if that has not been made good yet."""
    doubt: str = ""
    """Why this node does not vote; empty if it may."""
    shortage: str = ""
    """What the disk says of why there is no room for more of the log; empty if there is."""

    def run_id(self, node: str) -> str:
        """What Redis's clients take for the id of a server."""
        return f"{self.cluster}{node}"


WILDCARDS = ("0.0.0.0", "::")
UNKNOWN_HOST = "-"
"""In the address of a node that listens on all its addresses and does not know by which the others reach it."""


def reachable_address(client_address: str, peer_address: str) -> str:
    """Where clients reach a member: one that listens on all its addresses, at that where its peers do."""
    host, port = split_address(client_address)
    return f"{peer_address.rpartition(':')[0]}:{port}" if host in WILDCARDS else client_address


def split_address(address: str) -> tuple[str, int]:
    """HOST:PORT as a host, without the brackets of IPv6, and a port; of an empty text, an empty one and 0."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port or 0)
