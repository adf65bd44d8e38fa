"""All that can happen to a replica. Time and chance are told along with every event, as a `Moment`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .ballot import Instance, NodeId
from .foundation import Foundation
from .messages import Message
from .records import Record
from .values import Configuration


class Moment(NamedTuple):
    """What the world shows when an event happens."""

    now: float
    """Milliseconds on a clock that never runs backwards and counts from anywhere."""
    clock: int
    """Milliseconds since 1970, as this node's clock says; it may be wrong, and may jump."""
    chance: float
    """A fresh random number in [0, 1)."""


@dataclass(frozen=True, slots=True)
class Founded:
    """A durable snapshot is here whose state reaches further than ours: begin from it (rule P9).

    At the start it comes before any `Recovered`. Later it comes when a peer's snapshot was fetched, has been made durable, and
    is what the state machine has become: the next `Deliver` is that of `foundation.instance` + 1. If we know as much
    already, nothing happens.
    """

    foundation: Foundation


@dataclass(frozen=True, slots=True)
class Recovered:
    """A record of an earlier life, read from stable storage. All of them come first, in the order of writing (a `Note` first)."""

    record: Record


@dataclass(frozen=True, slots=True)
class Damaged:
    """In this place, among what was recovered, stable storage holds something that cannot be read any more (rule P11)."""

    is_noted: bool
    """Whether the `Note` that was recovered was written behind it."""


@dataclass(frozen=True, slots=True)
class Started:
    """Everything is read back: take part."""


@dataclass(frozen=True, slots=True)
class Received:
    """`message` came from `sender`. (Also from ourselves, once what it depends on is stable.)"""

    sender: NodeId
    message: Message


@dataclass(frozen=True, slots=True)
class Tick:
    """The time asked for by `WakeAt` has come, or any other reason to look at the clock."""


@dataclass(frozen=True, slots=True)
class Submit:
    """A client's proposal. Answered by `Deliver` with this token, or by `Abandon`."""

    token: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """Somebody wants to read. Answered by `Serve`, or by `Abandon`, with this token."""

    token: int


@dataclass(frozen=True, slots=True)
class MoveTime:
    """Something falls due: if we lead and may say that it is this time, let it be chosen, though nobody asks for anything."""

    due: int
    """Milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """A durable snapshot holds everything up to `upto`, of what has been delivered: the log may be cut there (rule P9).

    It is to be the older one of two: a log is cut behind what is still there if the newest turns out to be unreadable.
    """

    upto: Instance


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """If we lead and may, let the acceptors and learners be these, from alpha instances on (rule P4).

    Whether anything came of it is seen from `Membership.latest` and `Membership.is_settled`; whether it may be asked for,
    from `Leading.can_change`. A leader may fail before it is chosen: look again.
    """

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class HandOver:
    """If we lead, let somebody else lead instead, in good order; nothing that is asked for meanwhile is lost or refused.

    Whether it came to that is told by `Leads`, or by the end of `Leading.successor`.
    """

    to: NodeId | None
    """Who; None: whoever is best prepared."""
    within_ms: float
    """If it has not come to that by then, go on leading."""


@dataclass(frozen=True, slots=True)
class KeepLead:
    """Give up handing over."""


Event = (
    Founded
    | Recovered
    | Damaged
    | Started
    | Received
    | Tick
    | Submit
    | Read
    | MoveTime
    | CutOff
    | Reconfigure
    | HandOver
    | KeepLead
)
