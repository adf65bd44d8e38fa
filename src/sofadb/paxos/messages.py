"""What replicas say to one another.

The first five are the paper's, with its names; the phase and section stand at each. The others make the paper's
section 3 run for ever: finding out who leads, confirming it for readers, passing on what was chosen.

Every message may be lost, delayed, repeated and overtaken. So each says by itself what it is about (ballot, instance,
round of confirmation), and any of them, of any age, is harmless (rule P12). Who sent a message is known from the
connection it came on, and is handed over beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ballot import NO_BALLOT, NO_INSTANCE, Ballot, Instance
from .values import Entry, Value


@dataclass(frozen=True, slots=True)
class Prepare:
    """Phase 1a (section 2.2), for every instance from `first` on at once (section 3)."""

    ballot: Ballot
    first: Instance
    released: Ballot = NO_BALLOT
    """The leader of this ballot gave way to the sender: what was leased to it binds nobody any more."""


@dataclass(frozen=True, slots=True)
class Promise:
    """Phase 1b (section 2.2): never again anything below `ballot`, and what was accepted so far.

    On disk before it leaves: the promise, and every acceptance that it reports.
    """

    ballot: Ballot
    first: Instance
    """The prepare request's."""
    reported: tuple[tuple[Instance, Ballot, Value], ...]
    """For each instance in `first..last` above `chosen` with an acceptance: the highest-numbered one."""
    last: Instance | None
    """The report ends here for want of room: ask again from the next instance. None: nothing is accepted beyond."""
    chosen: Instance
    """Everything up to here is chosen, as this acceptor knows, and is to be learned, not reported."""
    clock: int
    """The sender's clock in milliseconds (rule P5)."""


@dataclass(frozen=True, slots=True)
class Accept:
    """Phase 2a (section 2.2): please accept `value` as proposal `ballot` of `instance`."""

    ballot: Ballot
    instance: Instance
    value: Value
    chosen: Instance
    """The leader's chosen watermark: everything up to here is chosen."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Phase 2b (section 2.2), told to the distinguished learner, who is the leader (section 2.3).

    On disk before it leaves: the acceptance.
    """

    ballot: Ballot
    instance: Instance


@dataclass(frozen=True, slots=True)
class Refused:
    """The hint of section 2.5: a higher-numbered proposal was promised, this one may as well be given up."""

    ballot: Ballot
    """What was refused."""
    promised: Ballot
    """What to beat."""


@dataclass(frozen=True, slots=True)
class Canvass:
    """Asked before a ballot is raised (rule P6): have you, too, lost the leader? Changes nothing at the asked."""

    attempt: int
    """Never used before by this node: an answer to an earlier attempt proves nothing."""
    chosen: Instance = NO_INSTANCE
    """How far the sender has learned: whether we can judge if it has a say at all."""


@dataclass(frozen=True, slots=True)
class Support:
    """Yes, I have no leader either."""

    attempt: int
    promised: Ballot
    """What the candidate will have to beat."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """The leader asks: do you still follow me (rule P7)? Sent at every heartbeat, and if reads wait, to as many as it takes."""

    ballot: Ballot
    round: int
    """Never used before within this ballot."""
    chosen: Instance
    timeout_ms: int = 0
    """So long a silence the leader asks to be borne with, judging by its round trips."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """I have promised nothing above your ballot."""

    ballot: Ballot
    round: int
    chosen: Instance
    """How far the sender has learned."""
    clock: int
    """The sender's clock in milliseconds (rule P5)."""
    lease_ms: int = 0
    """So long, from the moment it heard the round, the sender promises nothing to others (rule P7); 0: it is not bound."""
    doubt_upto: Instance = NO_INSTANCE
    """The sender takes no part until everything up to here is chosen (rule P11); 0: it takes part."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Phase 3 (section 2.3): the distinguished learner tells the others, when no accept request would carry it."""

    ballot: Ballot
    chosen: Instance
    """Everything up to here is chosen; of these, what was accepted under this same ballot is what was chosen."""


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The leader gives way: may the receiver begin phase 1 at once, without asking who else has lost the leader."""

    ballot: Ballot
    """The leader's. To whoever does not follow just this ballot, the message says nothing."""
    chosen: Instance
    """Everything up to here is chosen, and nothing else is under way."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Please teach me what was chosen from `first` on."""

    first: Instance


@dataclass(frozen=True, slots=True)
class Learn:
    """These values were chosen for the instances `first`, `first` + 1, ... (section 2.3)."""

    first: Instance
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Forward:
    """A proposal for the distinguished proposer (section 3: "clients send commands to the leader")."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class AskRead:
    """A follower's readers wait (rule P7): from where on may they be answered?"""

    attempt: int
    """Never used before by this incarnation of the sender."""
    incarnation: int


@dataclass(frozen=True, slots=True)
class GrantRead:
    """Whoever has applied `watermark` may answer what waited for `attempt`."""

    attempt: int
    incarnation: int
    watermark: Instance
    stamp: int
    """The leader's bounded time in milliseconds, for readers who ask for the time."""


Message = (
    Prepare
    | Promise
    | Accept
    | Accepted
    | Refused
    | Canvass
    | Support
    | Confirm
    | Confirmed
    | Chosen
    | TakeOver
    | Ask
    | Learn
    | Forward
    | AskRead
    | GrantRead
)
