"""Who the members are at this moment, each once and by name, and what keeps them from being what they are to be.

A node has several sources: the core's configuration says who votes and who learns, the roster who is wanted, and as what, the
peers who is reached; a leader knows how far each has learned. While a directory takes the place of one that was lost there
are two acceptors of one name. People see the one that the roster has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from sofadb.database.roster import Member as Wanted
from sofadb.database.roster import Roster
from sofadb.paxos.leading import Leading
from sofadb.storage.identity import plain_name

from .explain import Change, Wish
from .facts import Member, reachable_address

if TYPE_CHECKING:
    from sofadb.paxos import NodeId, Replica

    from .keeper import Step
    from .peers import Peers

NOT_ARRIVED = "it has not arrived yet"


def members(replica: Replica, roster: Roster, peers: Peers) -> tuple[Member, ...]:
    """Each member once, as this node sees it."""
    acceptors: dict[str, NodeId] = {plain_name(each): each for each in peers.members}
    acceptors |= {name: each.acceptor for name, each in roster.members.items()}
    me = peers.myself
    own = roster.members.get(me.name)
    if own is not None and own.acceptor == me.acceptor:
        # Who is in it knows it. (Who has left is connected to as long as it may be needed, and not named.)
        acceptors = {name: each for name, each in acceptors.items() if name in roster.members}
    acceptors[me.name] = me.acceptor
    return tuple(_member(name, acceptors[name], replica, roster, peers) for name in sorted(acceptors))


def _member(name: str, acceptor: NodeId, replica: Replica, roster: Roster, peers: Peers) -> Member:
    wanted, peer, me = roster.members.get(name), peers.known.get(acceptor), peers.myself
    address = peers.members.get(acceptor) or (wanted.peer_address if wanted else "")
    problem = "" if acceptor == me.acceptor else NOT_ARRIVED if peer is None else peer.problem
    clients = me.client_address if acceptor == me.acceptor else peer.client_address if peer else ""
    clients = reachable_address(clients or (wanted.client_address if wanted else ""), address)
    part = roster.part(wanted) if wanted else ""
    return Member(name, address, clients, not problem, problem, acceptor, part, behind(replica, acceptor))


def behind(replica: Replica, acceptor: NodeId) -> int | None:
    """How many chosen instances it lacks; None if this node does not lead, or does not hear it."""
    if not isinstance(replica.phase, Leading):
        return None
    return 0 if acceptor == replica.me else replica.phase.behind(acceptor)


def called(roster: Roster, acceptor: NodeId) -> str:
    """What people call it: its node, or, if another directory has taken its place, that it is a former one."""
    name = plain_name(acceptor)
    member = roster.members.get(name)
    is_former = member is not None and member.acceptor not in ("", acceptor)
    return f"the former directory of {name}" if is_former else name


def wishes(replica: Replica, roster: Roster) -> Iterator[Wish]:
    """On the leader: who is not yet what it is to be."""
    if not isinstance(replica.phase, Leading):
        return
    latest = replica.membership.latest
    for name, member in sorted(roster.members.items()):
        if member.is_leaving:
            yield Wish(name, "leave", after=member.successor if member.successor in roster.members else "")
        elif not member.acceptor:
            yield Wish(name, _goal(member), has_arrived=False)
        elif member.acceptor not in (latest.acceptors if member.is_voter else latest.members):
            yield Wish(name, _goal(member), behind=behind(replica, member.acceptor))


def _goal(member: Wanted) -> str:
    return "vote" if member.is_voter else "learn"


def change(replica: Replica, step: Step | None) -> Change | None:
    """The change that is under way, or, on the leader, the next one, if that has to wait."""
    membership = replica.membership
    if not membership.is_settled(replica.sequence.watermark):
        return Change(_names(membership.latest.acceptors), from_instance=membership.in_force_from)
    if step is None or step.is_possible:
        return None
    return Change(
        _names(step.configuration.acceptors),
        answering=_names(node for node in step.configuration.acceptors if node in step.heard),
        quorum=step.configuration.quorum,
        contested=_names(step.contested),
    )


def _names(acceptors: Iterable[NodeId]) -> tuple[str, ...]:
    return tuple(sorted({plain_name(each) for each in acceptors}))
