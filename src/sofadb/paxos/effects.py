"""All that a replica can ask for. The order of the effects of a step is the order in which they were decided; performed they may
be in that order, or `in_order`.

What must wait for stable storage stands *inside* the `Save` it waits for. There is no other way to say it, so there is no
way to forget it.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ballot import Ballot, Instance, NodeId
from .messages import Message
from .records import Record
from .values import Configuration, Entry


@dataclass(frozen=True, slots=True)
class Send:
    """`message` may leave for `to` (perhaps ourselves) now. It may be lost."""

    to: NodeId
    message: Message


@dataclass(frozen=True, slots=True)
class Teach:
    """`to` lacks the chosen values from `first` on, which only the disk still has: send some as `Learn`."""

    to: NodeId
    first: Instance
    last: Instance


@dataclass(frozen=True, slots=True)
class Offer:
    """`to` asked for values from `first` on, and our log does not reach back that far: offer it our snapshot.

    It asks again as long as it lacks something, so it may be told several times.
    """

    to: NodeId
    first: Instance


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The world may forget what it has on disk up to `upto`: all records before the first one of an instance beyond.

    (Those after it are needed, whatever their instance: among them is what was saved for this.)
    """

    upto: Instance


@dataclass(frozen=True, slots=True)
class Save:
    """Make `records` stable, after all records before them; once they are, and not earlier, perform `then`.

    Without records it waits for those before it. If storage fails, nothing of it ever happens, and the process
    must stop (rule P1).
    """

    records: tuple[Record, ...]
    then: tuple[Send | Teach | GiveUp, ...]


@dataclass(frozen=True, slots=True)
class Deliver:
    """The value of `instance` is chosen and it is its turn: apply it. Each instance comes once, without a gap."""

    instance: Instance
    time: int
    """The state machine's time in milliseconds: the highest stamp so far."""
    entries: tuple[tuple[int | None, Entry], ...]
    """What takes effect: the token of the `Submit` that waits for it on this node (or None), and the entry."""
    configuration: Configuration | None = None
    """The change that was chosen, if it is one."""


@dataclass(frozen=True, slots=True)
class Serve:
    """The reads of these tokens may be answered from the state as it is now, which is at `watermark` or beyond."""

    tokens: tuple[int, ...]
    stamp: int
    """The leader's time in milliseconds, for those who ask for the time."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop waiting for these tokens."""

    tokens: tuple[int, ...]
    certain: bool
    """True: certainly not done, and never will be. False: the outcome is not known."""
    overloaded: bool = False
    """Whether that is for lack of room on this node, and for no other reason."""


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Let a `Tick` happen at this time (milliseconds, as in `Moment.now`) or soon after."""

    time: float


@dataclass(frozen=True, slots=True)
class Leads:
    """The owner of `ballot` leads, as far as this replica knows; it did not a moment ago."""

    ballot: Ballot


Effect = Send | Save | Deliver | Serve | Abandon | Teach | Offer | GiveUp | WakeAt | Leads

_OURS = frozenset((Deliver, Serve, Abandon, Leads))
"""What concerns nobody but our own state machine and its clients."""


def in_order(effects: list[Effect]) -> list[Effect]:
    """What the others and the disk wait for goes before what is done here: that may take long, and theirs may begin meanwhile."""
    others = [effect for effect in effects if type(effect) not in _OURS]
    return others + [effect for effect in effects if type(effect) in _OURS]
