"""What a node and its cluster wait for, in sentences for a person.

`observe` looks at a node and writes down plain facts with their ages; `explain` makes sentences of them and needs nothing
else, so that each sentence can be tested without the trouble that it tells of. Every node tells what it sees itself: the
leader sees who does not answer and what is not accepted, the others see whether they hear the leader; each sees its own disk
and its own clients. What is younger than `WORTH_TELLING_MS` is how things always are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sofadb.paxos.campaigning import Campaigning
from sofadb.paxos.following import Following
from sofadb.paxos.leading import Leading
from sofadb.storage.identity import plain_name

if TYPE_CHECKING:
    from sofadb.paxos import NodeId, Replica

    from .peers import Peers

WORTH_TELLING_MS = 250.0


@dataclass(frozen=True, slots=True)
class Other:
    """Another member."""

    node: str
    problem: str = ""
    """Why there is no connection to it; empty if there is."""
    cut_off_ms: float = 0.0
    """For how long there has been none."""
    silent_ms: float | None = 0.0
    """How long ago it last answered us as the leader; None: never. 0 if we do not lead."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal that is not known to be chosen."""

    instance: int
    age_ms: float
    lacking: tuple[str, ...]
    """The members who are not known to have accepted it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Things of a kind that wait."""

    count: int = 0
    age_ms: float = 0.0
    """Of the oldest."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A member that is not yet what it is to be, as the leader sees it."""

    node: str
    goal: str
    """vote, learn or leave."""
    has_arrived: bool = True
    behind: int | None = None
    """How many chosen instances it lacks; None if it is not heard."""
    after: str = ""
    """Who is to take its part before it leaves; empty if nobody is."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of who votes that is under way, or that has to wait."""

    voters: tuple[str, ...]
    """Who votes after it."""
    from_instance: int = 0
    """Chosen, it holds from this instance on; 0 if it has to wait."""
    answering: tuple[str, ...] = ()
    """Who of them answers ..."""
    quorum: int = 1
    """... and how many have to."""
    contested: tuple[str, ...] = ()
    """Which nodes are there in two directories at once."""


@dataclass(frozen=True, slots=True)
class Joining:
    """A node that asks to be let in."""

    asks: tuple[str, ...]
    """The peer addresses of the members that it knows of."""
    refusal: str = ""
    """What it was told last; empty if nobody refused it."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """A snapshot on its way to us."""

    instance: int
    peer: str
    bytes_here: int
    bytes_all: int


@dataclass(frozen=True, slots=True)
class Observations:
    """What one node sees. Times are milliseconds ago."""

    node: str
    role: str
    """leading, following, canvassing (asking who else has lost the leader) or campaigning (collecting promises)."""
    leader: str
    """Empty if nobody leads."""
    unled_ms: float = 0.0
    """How long ago a follower last heard a leader."""
    backers: tuple[str, ...] = ()
    """Who supports us when we are canvassing, or has promised when we are campaigning, ourselves included."""
    quorum: int = 1
    others: tuple[Other, ...] = ()
    is_member: bool = True
    """Whether our directory, as far as we have learned, has a part in the cluster."""
    unheard: tuple[str, ...] = ()
    """If our directory has no history and may not take part yet: who has not said that it never met it."""
    proposal: Proposal | None = None
    """The oldest on its way, if we lead."""
    damage: tuple[str, ...] = ()
    """Where our log is damaged, if that has not been made good yet."""
    doubt: str = ""
    """Why we do not vote."""
    shortage: str = ""
    """Why there is no room on our disk for more of the log."""
    unsaved: Waiting = Waiting()
    """What our own disk was asked to keep and has not."""
    reads: Waiting = Waiting()
    writes: Waiting = Waiting()
    """Of our own clients; what came at the same moment counts as one."""
    archive_problem: str = ""
    """Why the archive falls behind."""
    part: str = "voter"
    """voter, learner, or outsider, as far as the node knows."""
    replaces: bool = False
    """Whether its directory is to take the place of another of the same node."""
    behind: int = 0
    """How many instances it lacks that it knows to be chosen."""
    joining: Joining | None = None
    fetching: Fetching | None = None
    change: Change | None = None
    wishes: tuple[Wish, ...] = ()
    """If we lead."""
    snapshot_problem: str = ""


def explain(seen: Observations) -> tuple[str, ...]:
    """Say what is waited for, the cause before what it causes; if it is nothing, say that."""
    sentences = (
        *_about_our_part(seen),
        *_about_leading(seen),
        *(sentence for other in seen.others for sentence in _about_other(other)),
        *(sentence for wish in seen.wishes for sentence in _about_wish(wish)),
        *_about_change(seen),
        *_about_disk(seen),
        *_about_proposal(seen),
        *_about_clients(seen),
        *((f"the archive falls behind: {seen.archive_problem}",) if seen.archive_problem else ()),
    )
    return sentences or (_about_nothing(seen),)


def _about_nothing(seen: Observations) -> str:
    if seen.role != "leading":
        return f"nothing: {seen.node} follows {seen.leader}"
    return (
        f"nothing: all members follow {seen.node}"
        if seen.others
        else f"nothing: {seen.node} is alone and leads"
    )


def _about_our_part(seen: Observations) -> Iterator[str]:
    me = seen.node
    if seen.joining is not None:
        yield (
            f"{me} asks to be let in, at {_names(seen.joining.asks)}: "
            f"{seen.joining.refusal or 'nobody has let it in yet; has it been added (sofadb member add)?'}"
        )
    elif seen.part == "outsider":
        yield f"{me} is no member any more: it was removed or replaced, and may be stopped"
    if seen.replaces:
        yield (
            f"{me} has a new directory in place of one that was lost, "
            "and does not vote before it has learned everything"
        )
    if seen.fetching is not None:
        here, all_ = seen.fetching.bytes_here, seen.fetching.bytes_all
        yield (
            f"{me} fetches the snapshot of instance {seen.fetching.instance} from {seen.fetching.peer}: "
            f"{here / 1e6:.1f} of {all_ / 1e6:.1f} MB are here"
        )
    elif seen.part == "learner" and seen.behind:
        yield f"{me} learns and does not vote: it lacks {_count(seen.behind, 'instance')}"


def _about_wish(wish: Wish) -> Iterator[str]:
    if wish.goal == "leave":
        yield f"{wish.node} leaves " + (
            f"when {wish.after} has its part" if wish.after else "as soon as it can"
        )
        return
    begin = f"{wish.node} is to {wish.goal}"
    if not wish.has_arrived:
        yield f"{begin} and has not arrived: start it with `sofadb serve --join`"
    elif wish.behind is None:
        yield f"{begin} and is not heard"
    elif wish.behind:
        yield f"{begin} when it has learned everything: it lacks {_count(wish.behind, 'instance')}"
    else:
        yield f"{begin} from now on"


def _about_change(seen: Observations) -> Iterator[str]:
    change = seen.change
    if change is None:
        return
    votes = f"{_names(change.voters)} {'votes' if len(change.voters) == 1 else 'vote'}"
    if change.from_instance:
        yield f"a change is under way: from instance {change.from_instance} on {votes}"
    elif change.contested:
        yield (
            f"{_names(change.contested)} is there, and another directory claims its place: "
            "it seems to have been started twice; stop one of them"
        )
    else:
        answering = f"only {_names(change.answering)} answer" if change.answering else "nobody answers"
        yield f"the change after which {votes} needs {change.quorum} of them, and {answering}"


def _about_leading(seen: Observations) -> Iterator[str]:
    if seen.joining is not None:
        return
    if seen.role in ("canvassing", "campaigning"):
        told = "have lost the leader, too" if seen.role == "canvassing" else "have promised to follow it"
        yield (
            f"{seen.node} wants to lead and needs {seen.quorum} members who {told}: "
            f"there {'is' if len(seen.backers) == 1 else 'are'} {_names(seen.backers)}"
        )
    elif not seen.leader:
        yield f"nobody leads, as far as {seen.node} knows"
    if not seen.is_member:
        yield (
            f"{seen.node} has a new data directory, which is no member yet: it becomes one when a quorum of the members "
            "follows a leader, and if it is wanted"
        )
    if seen.unheard:
        yield (
            f"{seen.node} has a new data directory and takes no part until it has heard {_names(seen.unheard)}: "
            "it might stand in the place of one that was lost"
        )
    if seen.role != "leading" and seen.unled_ms >= WORTH_TELLING_MS:
        yield f"{seen.node} has heard no leader for {_age(seen.unled_ms)}"


def _about_other(other: Other) -> Iterator[str]:
    if other.problem:
        yield f"{other.node} has not been reached for {_age(other.cut_off_ms)}: {other.problem}"
    elif other.silent_ms is None:
        yield f"{other.node} is connected but has not answered a heartbeat yet"
    elif other.silent_ms >= WORTH_TELLING_MS:
        yield f"{other.node} is connected but has answered no heartbeat for {_age(other.silent_ms)}"


def _about_disk(seen: Observations) -> Iterator[str]:
    if seen.snapshot_problem:
        yield f"the last snapshot of {seen.node} failed, and will be tried again: {seen.snapshot_problem}"
    yield from seen.damage
    if seen.doubt:
        yield seen.doubt
    if seen.shortage:
        yield (
            f"{seen.node} takes no writes, and does not vote, until there is room on its disk again: {seen.shortage}"
        )
    if seen.unsaved.age_ms >= WORTH_TELLING_MS:
        yield (
            f"the disk of {seen.node} has {_count(seen.unsaved.count, 'write')} to finish, "
            f"the oldest for {_age(seen.unsaved.age_ms)}"
        )


def _about_proposal(seen: Observations) -> Iterator[str]:
    proposal = seen.proposal
    if proposal is None or proposal.age_ms < WORTH_TELLING_MS:
        return
    answering = {
        other.node
        for other in seen.others
        if not other.problem and other.silent_ms is not None and other.silent_ms < WORTH_TELLING_MS
    }
    for node in proposal.lacking:
        begin = f"instance {proposal.instance} waits for {node}"
        if node == seen.node:
            yield f"{begin}: it is not on our own disk after {_age(proposal.age_ms)}"
        elif node in answering:
            yield (
                f"{begin}: it answers heartbeats but has not accepted it for {_age(proposal.age_ms)}; "
                "its disk may be slow"
            )
        else:
            yield f"{begin}, which does not answer, for {_age(proposal.age_ms)}"


def _about_clients(seen: Observations) -> Iterator[str]:
    for kind, waiting in (("read", seen.reads), ("write", seen.writes)):
        if waiting.age_ms >= WORTH_TELLING_MS:
            yield f"{_count(waiting.count, kind)} on {seen.node} not done, the oldest for {_age(waiting.age_ms)}"


def _age(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.1f} s"


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _names(nodes: tuple[str, ...]) -> str:
    *first, last = nodes
    return f"{', '.join(first)} and {last}" if first else last


def part(replica: Replica) -> str:
    """voter, learner or outsider, by the last change that this replica knows to be chosen."""
    latest = replica.membership.latest
    if replica.me in latest.acceptors:
        return "voter"
    return "learner" if replica.me in latest.learners else "outsider"


def in_doubt(replica: Replica) -> str:
    """Why a node does not vote, if it is because of what it lacks (rule P11)."""
    if not replica.is_in_doubt:
        return ""
    node, doubt = plain_name(replica.me), replica.doubt
    if doubt.is_hopeless:
        return (
            f"{node} does not vote any more: what it promised was in the part of its log that is damaged. It begins anew, as "
            "another acceptor, as soon as the others are seen to work without it"
        )
    return (
        f"{node} does not vote until it has learned everything up to instance {doubt.upto}, which its log does not tell "
        f"any more; it lacks instance {replica.sequence.watermark + 1}"
    )


def observe(
    replica: Replica,
    peers: Peers,
    saves: tuple[int, float],
    now: float,
    called: Callable[[NodeId], str] = plain_name,
    damage: tuple[str, ...] = (),
    shortage: str = "",
) -> Observations:
    """Look at a node. `saves`: how many writes its disk has to finish, and since when (monotonic ms) the oldest waits.

    `called` says what people call an acceptor.
    """
    phase = replica.phase
    role, unled_since, backers, proposal = phase.name, now, frozenset[str](), None
    if isinstance(phase, Following):
        unled_since = phase.heard_at
        if phase.attempt:
            role, backers = "canvassing", frozenset(phase.supporters)
    elif isinstance(phase, Campaigning):
        backers = phase.proposer.promised_by | {replica.me}
    elif phase.flights:
        proposal = _oldest_proposal(phase, now, called)
    voters = {node for each in replica.window() for node in each.acceptors}
    reading, outbox = replica.reading, replica.outbox
    reads_since, writes_since = reading.oldest, outbox.oldest
    return Observations(
        node=plain_name(replica.me),
        role=role,
        leader=plain_name(replica.leader or ""),
        unled_ms=now - unled_since,
        backers=tuple(sorted(map(called, backers & voters))),
        quorum=max(each.quorum for each in replica.window()),
        others=tuple(
            _other(node, replica, peers, now, called)
            for node in sorted(replica.others())
            if plain_name(node) != plain_name(replica.me)  # A former directory of ours is no other node.
        ),
        is_member=replica.membership.is_member(replica.me),
        unheard=() if peers.is_cleared else peers.unheard,
        proposal=proposal,
        damage=damage,
        doubt=in_doubt(replica),
        shortage=shortage,
        unsaved=Waiting(saves[0], now - saves[1] if saves[0] else 0.0),
        reads=Waiting(reading.count, 0.0 if reads_since is None else now - reads_since),
        writes=Waiting(outbox.count, 0.0 if writes_since is None else now - writes_since),
        part=part(replica),
        replaces=any(
            plain_name(each) == plain_name(replica.me) and each != replica.me
            for each in replica.membership.latest.acceptors
        ),
        behind=replica.missing,
    )


def _oldest_proposal(phase: Leading, now: float, called: Callable[[NodeId], str]) -> Proposal:
    instance = min(phase.flights)
    acceptors = phase.replica.membership.at(instance).acceptors
    lacking = (node for node in acceptors if not phase.learner.has_accepted(node, phase.ballot, instance))
    return Proposal(instance, now - phase.flights[instance].started_at, tuple(sorted(map(called, lacking))))


def _other(
    node: NodeId, replica: Replica, peers: Peers, now: float, called: Callable[[NodeId], str]
) -> Other:
    peer = peers.known.get(node)
    silent_ms: float | None = 0.0
    if isinstance(replica.phase, Leading):
        heard_at = replica.phase.heard_at.get(node)
        silent_ms = None if heard_at is None else now - heard_at
    if peer is None or not peer.problem:
        return Other(called(node), silent_ms=silent_ms)
    return Other(called(node), peer.problem, peers.cut_off_ms(peer), silent_ms)
