"""A change of membership as a person asks for it: what it leads to, and what speaks against it at this moment.

The state machine refuses what would leave too few voters, by counting only, since it must come to the same answer on every
replica. Who answers at this moment is known to the leader alone, and changes: so that is looked at here, before anything is
asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Facts = dict[str, Any]
"""What a node says of itself and its cluster (SOFA.INFO)."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Who votes and who learns, each sorted."""

    voters: tuple[str, ...]
    learners: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(sorted((*self.voters, *self.learners)))

    @property
    def quorum(self) -> int:
        """How many voters are needed."""
        return len(self.voters) // 2 + 1

    def spare(self, alive: set[str]) -> int:
        """How many of those who are alive may be lost; less than 0: too many are."""
        return sum(node in alive for node in self.voters) - self.quorum


@dataclass(frozen=True, slots=True)
class Change:
    """What is asked for."""

    kind: str
    """add, remove, replace or promote."""
    node: str
    """Who is to come or to go, or to vote."""
    newcomer: str = ""
    """Who takes its part."""
    address: str = ""
    """Where whoever comes is reached by its peers."""
    is_learner: bool = False

    @property
    def arriving(self) -> str:
        """Who comes; empty if nobody does."""
        return {"add": self.node, "replace": self.newcomer}.get(self.kind, "")

    @property
    def words(self) -> list[str]:
        """As the database is asked for it."""
        names = [self.node, self.newcomer, self.address]
        return [self.kind.upper(), *filter(None, names), *(["LEARNER"] if self.is_learner else [])]

    def made_to(self, before: Parts) -> Parts:
        """Who votes and who learns when it is done."""
        voters, learners = set(before.voters), set(before.learners)
        if self.kind == "add":
            (learners if self.is_learner else voters).add(self.node)
        elif self.kind == "promote":
            learners.discard(self.node)
            voters.add(self.node)
        else:
            for part in (voters, learners):
                if self.node in part:
                    part.remove(self.node)
                    part |= {self.newcomer} - {""}
        return Parts(tuple(sorted(voters)), tuple(sorted(learners - voters)))

    def is_done(self, facts: Facts) -> bool:
        """Whether it is so, as the leader sees it, and in force."""
        parts = {each["node"]: each["part"] for each in facts["members"]}
        leaves = self.node if self.kind in ("remove", "replace") else ""
        if facts["is_changing"] or (leaves and (parts.get(leaves) or facts["leader"] == leaves)):
            return False
        if self.kind == "remove":
            return True
        # Who replaces a learner is one.
        wanted = ("learner",) if self.is_learner else ("voter", "learner") if self.newcomer else ("voter",)
        return parts.get(self.arriving or self.node) in wanted


def present(facts: Facts) -> set[str]:
    """The members who answer at this moment: a leader knows it from their answers, any other from its connections."""
    leads = facts["role"] == "leading"
    return {
        each["node"]
        for each in facts["members"]
        if (each["behind"] is not None if leads else each["is_reachable"])
    }


def parts(facts: Facts) -> Parts:
    """Who votes and who learns now."""
    learners = (each["node"] for each in facts["members"] if each["part"].startswith("learner"))
    return Parts(tuple(facts["voters"]), tuple(sorted(set(learners) - set(facts["voters"]))))


def objection(change: Change, facts: Facts) -> str:
    """What speaks against it at this moment, and what can be done about it; empty if nothing does."""
    if facts["role"] != "leading":
        return "nobody leads at this moment, so that no change can be chosen; `sofadb status` says why"
    before, alive = parts(facts), present(facts)
    if change.kind == "promote" and change.node in before.learners and change.node not in alive:
        return f"{change.node} does not answer, and cannot come to vote before it has learned everything: start it"
    if change.kind != "remove" or change.node not in before.voters or len(before.voters) == 1:
        return ""  # Nothing is lost, or the state machine knows what to say.
    after = change.made_to(before)
    spare, left = before.spare(alive), after.spare(alive)
    if left >= spare:
        return ""
    dead = sorted(set(before.voters) - alive)
    missing = f"{' and '.join(dead)} {'does' if len(dead) == 1 else 'do'} not answer, and " if dead else ""
    remedy = (
        f"bring {' and '.join(dead)} back or replace {'it' if len(dead) == 1 else 'them'} first"
        if dead
        else ""
    )
    remedy = remedy or f"add another one first, or replace {change.node}"
    if left < 0:
        voters = len(after.voters)
        return (
            f"{missing}without {change.node} {after.quorum} of {voters} voters are needed and {after.quorum + left} "
            f"are there, so that nothing could be done any more: {remedy}"
        )
    return (
        f"{missing}the cluster survives the loss of {spare} more now, without {change.node} that of {left}: "
        f"{remedy} (or say --force)"
    )


def serve_line(change: Change, facts: Facts) -> str:
    """The command that starts whoever is to come."""
    host, _, peer_port = change.address.rpartition(":")
    members = [each for each in facts["members"] if each["node"] not in (change.arriving, change.node)]
    # If with all others clients' ports are as far from those of peers, so it will be here.
    ports = [
        (each["client_address"].rpartition(":")[2], each["peer_address"].rpartition(":")[2])
        for each in members
    ]
    distances = {int(clients) - int(peers) for clients, peers in ports if clients and peers}
    port = int(peer_port) + distances.pop() if len(distances) == 1 else 0
    port = port if 0 < port < 65536 else 6379
    parent, _, last = facts["directory"].rpartition("/")
    directory = f"{parent}/{change.arriving}" if last == facts["node"] else "/var/lib/sofadb"
    join = ",".join(each["peer_address"] for each in members if each["part"].startswith("voter"))
    return (
        f"sofadb serve --id {change.arriving} --dir {directory} --listen {host}:{port} "
        f"--peer-listen {change.address} --join {join}"
    )
