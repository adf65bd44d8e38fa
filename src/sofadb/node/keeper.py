"""The keeper: brings the cluster to what the roster wants of it, a step at a time.

On every node it tells the peers who the members are and where they are reached, as the state says, and has the state told where
this node is reached, if that is not what it says. On the leader it also looks which configuration is next on the way, and asks
the core for it when that can carry it: each change is one of the sequence's values, and the next is not begun before the last
is in force (rule P4). A member that is to vote does so when it has learned about all there is; a change whose quorum does
not answer now is not begun at all, since it might never end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sofadb.database.replies import Reply, ReplyError
from sofadb.database.roster import LEVEL, LEVEL_MIN, Member, plain_name
from sofadb.database.runs import Run
from sofadb.database.table import TABLE
from sofadb.paxos import Configuration, NodeId, Reconfigure
from sofadb.paxos.leading import Leading

from .facts import UNKNOWN_HOST, split_address
from .host import EXIT_LEVEL
from .joining import NOWHERE

if TYPE_CHECKING:
    from sofadb.database.database import Database

    from .frames import Greeting
    from .live import LiveWorld
    from .node import Node
    from .peers import Peers

log = logging.getLogger("sofadb.keeper")

LOOK_EVERY_S = 0.1
SILENT_S, SILENT_ELSEWHERE_S = 1.0, 30.0
"""So long a leader has not heard a member when it lets another directory take its place: at the same address, and at another."""
TELL_AGAIN_S = 2.0
"""So long after we had the state told something it is told again, if it is not what it says by then."""


class Errand:
    """A command that the node itself asks for. What becomes of it is seen in the state."""

    def __init__(self, *words: str) -> None:
        args = [word.encode() for word in words]
        raw = b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(arg), arg) for arg in args)
        self.words = words
        self.size = len(raw)
        self.run = Run(0, [(TABLE[args[0]].function, args)], raw)

    def encode(self) -> bytes:
        """As every write."""
        return self.run.encode()

    def execute(self, database: Database) -> None:
        """It has come up in the sequence."""
        replies: list[Reply] = self.run.execute(database)
        for reply in replies:
            if isinstance(reply, ReplyError):
                log.warning("%s: %s", " ".join(self.words), reply.text)

    def fail(self, error: ReplyError) -> None:
        """It has not, or nobody knows; whoever asked looks again."""


@dataclass(frozen=True, slots=True)
class Step:
    """A change on the way to what is wanted."""

    configuration: Configuration
    heard: frozenset[NodeId]
    """Who answers."""
    contested: tuple[NodeId, ...]
    """Whose places others claim though they are there."""
    is_change: bool = True
    """Whether it differs from what is."""

    @property
    def is_possible(self) -> bool:
        """Whether it may be begun."""
        return self.is_change and self.configuration.is_quorum(self.heard)


class Keeper:
    """One node's."""

    def __init__(self, world: LiveWorld, node: Node, peers: Peers) -> None:
        self.world = world
        self.node = node
        self.peers = peers
        self._told_at: dict[str, float] = {}
        """When the state was told of an acceptor (milliseconds of `Host.now`)."""
        self._led_since = float("inf")
        """Since when we lead (milliseconds of `Host.now`); infinite if we do not."""
        self._timer: Callable[[], None] = lambda: None
        self._seen: object = None
        self._warned = ""

    def watch(self) -> None:
        """Look from now on."""
        self.look()
        self._timer = self.world.loop.call_later(LOOK_EVERY_S, self.watch).cancel

    def stop(self) -> None:
        """Look no more."""
        self._timer()

    def look(self) -> None:
        """Do what is due."""
        self.check_level()
        if not isinstance(self.world.driver.replica.phase, Leading):
            self._led_since = float("inf")
        elif self._led_since == float("inf"):
            self._led_since = self.world.host.now()
        self._tell_peers()
        self._announce()
        self._go_on()

    def check_level(self) -> None:
        """End with words if this program cannot take part in what the cluster has become."""
        level = self.node.database.shared.roster.level
        if level > LEVEL:
            advice = f"this program knows up to level {LEVEL}: start this node with a newer one"
        elif level < LEVEL_MIN:
            advice = f"this program begins at level {LEVEL_MIN}: upgrade all nodes to one in between first"
        else:
            return
        self.world.host.die(EXIT_LEVEL, f"the cluster is at level {level}, and {advice}")

    def _tell_peers(self) -> None:
        replica, roster = self.world.driver.replica, self.node.database.shared.roster
        seen = (roster.pack(), replica.membership.table)
        if seen == self._seen or not roster.members:
            return
        self._seen = (seen[0], list(seen[1]))
        addresses = {each.acceptor: each.peer_address for each in roster.members.values() if each.acceptor}
        for acceptor in replica.membership.members():
            # Who has a part still and is none of those has an address that we know, or that of its node.
            known = self.peers.members.get(acceptor)
            member = roster.members.get(plain_name(acceptor))
            if acceptor not in addresses and (known or member):
                addresses[acceptor] = known or (member.peer_address if member else "")
        me = self.peers.myself
        if me.acceptor not in addresses:
            # A newcomer has not read yet that it is one; who was removed stays where it can be told so.
            addresses = {**self.peers.members, **addresses, me.acceptor: me.peer_address}
        self.peers.update(addresses)

    def _announce(self) -> None:
        """Have it known where we are, if we belong to those who do and it is not what is known."""
        me = self.peers.myself
        member = self.node.database.shared.roster.members.get(me.name)
        if member is not None and member.acceptor == me.acceptor:
            self._tell(member, me.acceptor, me.peer_address, me.client_address, LEVEL)

    def on_arrival(self, greeting: Greeting) -> None:
        """A node that joins has greeted us: have it known, if it is wanted and not there already."""
        member = self.node.database.shared.roster.members.get(plain_name(greeting.acceptor))
        if member is None:
            self._warn(
                f"{plain_name(greeting.acceptor)} wants to join and is no member; see sofadb member add"
            )
            return
        if member.acceptor not in ("", greeting.acceptor) and not self._is_gone(member, greeting):
            self._warn(f"another {member.name} wants to join, and {member.name} is there, or was lately")
        elif greeting.peer_address != NOWHERE:
            self._tell(
                member, greeting.acceptor, greeting.peer_address, greeting.client_address, greeting.level
            )

    def _is_gone(self, member: Member, greeting: Greeting) -> bool:
        """Whether the directory that a member had may be given up for another one. Only a leader says so: it hears everybody.

        Where both are at one address, the old one cannot be running still. Elsewhere it may be paused, or cut off.
        """
        phase = self.world.driver.replica.phase
        if not isinstance(phase, Leading) or member.acceptor == self.peers.myself.acceptor:
            return False
        heard_at = max(phase.heard_at.get(member.acceptor, 0.0), self._led_since)
        silent_ms = self.world.host.now() - heard_at
        is_at_same_address = member.peer_address == greeting.peer_address
        return silent_ms >= 1000 * (SILENT_S if is_at_same_address else SILENT_ELSEWHERE_S)

    def _warn(self, text: str) -> None:
        """Log it; not again and again while the same node asks every second."""
        if text != self._warned:
            self._warned = text
            log.warning("%s", text)

    def _tell(
        self, member: Member, acceptor: str, peer_address: str, client_address: str, level: int
    ) -> None:
        now = self.world.host.now()
        if split_address(peer_address)[0] == UNKNOWN_HOST:
            peer_address = member.peer_address
        if (member.acceptor, member.peer_address, member.level) == (acceptor, peer_address, level):
            return
        if now - self._told_at.get(acceptor, float("-inf")) >= 1000 * TELL_AGAIN_S:
            self._told_at = {acceptor: now}
            words = ("SOFA.MEMBER", "ARRIVE", acceptor, peer_address, client_address, str(level))
            self.node.submit(Errand(*words))

    def _go_on(self) -> None:
        """On the leader: the next change."""
        step = self.next_step()
        if step is None or not step.is_possible:
            return
        change = step.configuration
        log.info("changing who votes: %s; who learns: %s", _names(change.acceptors), _names(change.learners))
        self.world.driver.handle(Reconfigure(change))

    def next_step(self) -> Step | None:
        """On the leader: the next change that is to be made; None if there is none, or the time for it has not come."""
        replica = self.world.driver.replica
        phase = replica.phase
        if not isinstance(phase, Leading) or not phase.can_change:
            return None
        latest = replica.membership.latest
        heard = frozenset(node for node in (replica.me, *phase.heard_at) if phase.is_heard(node))
        upto = replica.sequence.watermark - replica.settings.alpha
        able = frozenset(node for node in heard if phase.confirmed_upto.get(node, -1) >= upto)
        roster = self.node.database.shared.roster
        # Where another directory claims the place of one that is there (it was started twice, perhaps), it only learns.
        contested = tuple(
            each
            for each in latest.acceptors
            if each in heard
            and (member := roster.members.get(plain_name(each))) is not None
            and member.acceptor != each
            and not member.is_leaving
        )
        able -= {roster.members[plain_name(each)].acceptor for each in contested}
        voters, learners = roster.next_step(frozenset(latest.acceptors), frozenset(latest.learners), able)
        change = Configuration(tuple(sorted(voters)), tuple(sorted(learners)))
        step = Step(change, heard, contested, change != latest)
        return step if step.is_change or contested else None


def _names(acceptors: tuple[NodeId, ...]) -> str:
    return ", ".join(map(plain_name, acceptors)) or "nobody"
