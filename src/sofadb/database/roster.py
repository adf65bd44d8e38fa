"""Who belongs to the cluster, where they are reached, and what is wanted of them.

It is part of the replicated state, so that every node knows it, a snapshot carries it, and a change of it is a command like any
other. Who votes is not decided here: that is a value of the sequence itself (section 3, the last paragraph). The roster says what
is *wanted*; the leader changes the configuration step by step until it is so (`next_step`), and each change, as it comes up in
the sequence, strikes from the roster what is done with (`settle`).

A member has a name, for people, and an acceptor id, which stands for one data directory: the name, and for every directory but a
node's first a `~` and something random behind it. A node whose directory was lost arrives with another id and takes the place
of its former self like any newcomer; what the former one has promised is never taken for the new one's word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from .replies import ReplyError
from .rolling import Rolling

NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
ACCEPTOR = re.compile(r"[A-Za-z0-9_-]{1,32}(~[0-9a-f]{8})?")
ADDRESS = re.compile(r"[!-~]{1,255}:[0-9]{1,5}")
MEMBERS_MAX = 32


def plain_name(acceptor: str) -> str:
    """The name of the node that an acceptor id is of."""
    return acceptor.partition("~")[0]


@dataclass(frozen=True, slots=True)
class Member:
    """One member, or one to be."""

    name: str
    acceptor: str
    """Its acceptor id; empty while it has not arrived."""
    peer_address: str
    client_address: str = ""
    """HOST:PORT, both; the latter empty while it is not known."""
    is_voter: bool = True
    """Whether it is to vote."""
    is_leaving: bool = False
    successor: str = ""
    """It leaves as soon as the member of this name has its part; empty: as soon as it can."""


class Roster:
    """All members, by name."""

    __slots__ = ("_packed", "members", "rolling", "voters")

    def __init__(self, rolling: Rolling, initial: dict[str, str] | None = None) -> None:
        """A new cluster of these names and peer addresses: all vote from the beginning."""
        self.rolling = rolling
        self.members: dict[str, Member] = {
            name: Member(name, name, address) for name, address in sorted((initial or {}).items())
        }
        self.voters: frozenset[str] = frozenset(initial or ())
        """The acceptor ids that vote, by the latest change that was chosen."""
        self._packed: bytes | None = None
        """What `pack` returned last, until something changes: it is looked at again and again."""

    # What people ask for. Each may raise `ReplyError`, and then has changed nothing.

    def add(self, name: str, peer_address: str, is_voter: bool) -> None:
        """`name` is to become a member and to learn, and to vote once it has learned everything."""
        _check(name, peer_address)
        if name in self.members:
            raise ReplyError(f"ERR {name} is a member already")
        if len(self.members) >= MEMBERS_MAX:
            raise ReplyError(f"ERR there are {MEMBERS_MAX} members, and that is as many as may be")
        for member in self.members.values():
            if member.peer_address == peer_address and not member.is_leaving:
                raise ReplyError(f"ERR {peer_address} is the address of {member.name}")
        self.members[name] = Member(name, "", peer_address, is_voter=is_voter)
        self._has_changed()

    def remove(self, name: str, force: bool) -> None:
        """`name` is to leave."""
        member = self._find(name)
        stay = [each for each in self.members.values() if self._votes(each) and not each.is_leaving]
        if member in stay:
            before, after = _survives(len(stay)), _survives(len(stay) - 1)
            if len(stay) == 1:
                raise ReplyError(f"ERR {name} is the last one that votes")
            if after < before and not force:
                raise ReplyError(
                    f"ERR with {len(stay)} voters the cluster survives the loss of {before}, with {len(stay) - 1} "
                    f"that of {after}: add another one first, or replace {name}, or say FORCE"
                )
        for other in list(self.members.values()):
            if other.successor == name:  # Nobody comes in its place any more.
                self.members[other.name] = replace(other, is_leaving=False, successor="")
        if member.acceptor:
            self.members[name] = replace(member, is_leaving=True)
        else:
            del self.members[name]
        self._has_changed()

    def replace(self, old: str, name: str, peer_address: str) -> None:
        """`name` is to take the part of `old`, in one step, once it has learned everything."""
        leaving = self._find(old)
        self.add(name, peer_address, leaving.is_voter)
        self.members[old] = replace(leaving, is_leaving=True, successor=name)
        self._has_changed()

    def promote(self, name: str) -> None:
        """`name`, which only learns, is to vote."""
        member = self._find(name)
        if member.is_voter:
            raise ReplyError(f"ERR {name} votes, or will as soon as it has learned everything")
        self.members[name] = replace(member, is_voter=True)
        self._has_changed()

    # What nodes ask for

    def arrive(self, acceptor: str, peer_address: str, client_address: str) -> None:
        """A node says who and where it is: a newcomer, one that has moved, or one that has lost its directory."""
        name = plain_name(acceptor)
        _check(name, peer_address)
        if not ACCEPTOR.fullmatch(acceptor) or not ADDRESS.fullmatch(client_address):
            raise ReplyError("ERR that is no acceptor id, or no address")
        member = self.members.get(name)
        if member is None:
            raise ReplyError(f"ERR {name} is no member: add it first (sofadb member add)")
        self.members[name] = replace(
            member, acceptor=acceptor, peer_address=peer_address, client_address=client_address
        )
        self._has_changed()

    # What the sequence decides

    def next_step(
        self, voters: frozenset[str], learners: frozenset[str], able: frozenset[str]
    ) -> tuple[frozenset[str], frozenset[str]]:
        """The next configuration on the way from this one to what is wanted, as (voters, learners).

        `able`: the acceptor ids that answer and have learned about all there is.
        """
        vote, learn = set(voters), set()
        for member in self.members.values():
            if not member.acceptor or (member.is_leaving and member.acceptor not in learners):
                continue
            if member.is_voter and not member.is_leaving and member.acceptor in learners & able:
                vote.add(member.acceptor)
            elif member.acceptor not in vote:
                learn.add(member.acceptor)
        for id_ in sorted(vote | learn):
            if self._is_done_with(id_, vote, learn):
                vote.discard(id_)
                learn.discard(id_)
        return (frozenset(vote), frozenset(learn)) if vote else (voters, learners)

    def _is_done_with(self, id_: str, vote: set[str], learn: set[str]) -> bool:
        """Whether this acceptor may go, since whoever comes in its place, if anybody does, has its part."""
        member = self.members.get(plain_name(id_))
        if member is None:
            return True
        if member.acceptor != id_:  # A former self.
            return id_ not in vote or member.acceptor in vote or not member.is_voter
        if not member.is_leaving:
            return False
        successor = self.members.get(member.successor)
        return successor is None or successor.acceptor in (vote if successor.is_voter else vote | learn)

    def settle(self, voters: Iterable[str], learners: Iterable[str]) -> None:
        """A change was chosen: these vote and these learn from now on. Who has left is forgotten."""
        self.voters = frozenset(voters)
        present = {plain_name(id_) for id_ in (*self.voters, *learners)}
        for member in list(self.members.values()):
            if member.is_leaving and member.name not in present:
                del self.members[member.name]
        self._has_changed()

    # As bytes

    def pack(self) -> bytes:
        """All of it, for an image; nothing if there are no members."""
        if self._packed is None:
            members = [asdict(self.members[name]) for name in sorted(self.members)]
            text = json.dumps([members, sorted(self.voters)], separators=(",", ":"))
            self._packed = text.encode() if members else b""
        return self._packed

    def unpack(self, data: bytes) -> None:
        """Become what was packed. Raises `ValueError`."""
        try:
            members, voters = json.loads(data)
            self.members = {fields["name"]: Member(**fields) for fields in members}
            self.voters = frozenset(voters)
        except (TypeError, KeyError, RecursionError) as problem:
            raise ValueError(f"the members cannot be read: {problem}") from None
        self._packed = None
        if self.pack() != data:
            raise ValueError("the members are not as they are written")

    def _has_changed(self) -> None:
        self._packed = None
        self.rolling.roll(b"members", self.pack())

    def _votes(self, member: Member) -> bool:
        return any(plain_name(id_) == member.name for id_ in self.voters)

    def _find(self, name: str) -> Member:
        member = self.members.get(name)
        if member is None:
            raise ReplyError(f"ERR {name} is no member: {', '.join(sorted(self.members))} are")
        if member.is_leaving:
            raise ReplyError(f"ERR {name} is leaving already")
        return member


def _check(name: str, peer_address: str) -> None:
    if not NAME.fullmatch(name):
        raise ReplyError("ERR a node id has 1 to 32 letters, digits, hyphens and underscores")
    if not ADDRESS.fullmatch(peer_address):
        raise ReplyError("ERR a peer address is HOST:PORT")


def _survives(voters: int) -> int:
    """The loss of how many voters a majority survives."""
    return (voters - 1) // 2
