"""The story of a run, for a person: what happened, message by message.

A line is a time, a node, what reached it, and what it did about it. Heartbeats and ticks that led to nothing but more of
themselves are left out, unless everything is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sofadb.paxos.effects import (
    Abandon,
    Deliver,
    Effect,
    GiveUp,
    Leads,
    Offer,
    Save,
    Send,
    Serve,
    Teach,
    WakeAt,
)
from sofadb.paxos.events import (
    CutOff,
    Damaged,
    Founded,
    HandOver,
    KeepLead,
    MoveTime,
    Read,
    Received,
    Reconfigure,
    Recovered,
    Started,
    Submit,
    Tick,
)
from sofadb.paxos.messages import (
    Accept,
    Accepted,
    Ask,
    AskRead,
    Canvass,
    Chosen,
    Confirm,
    Confirmed,
    Forward,
    GrantRead,
    Learn,
    Prepare,
    Promise,
    Refused,
    Support,
    TakeOver,
)
from sofadb.paxos.records import Acceptance, ChosenUpTo, CutUpTo, Learned, Note, Promised, Restored
from sofadb.paxos.values import Value

SHOWN_BYTES = 40
"""So much of an entry is shown."""


def value_in_words(value: Value) -> str:
    """A value, short."""
    if value.configuration is not None:
        return f"configuration {','.join(value.configuration.acceptors)}"
    if value.is_no_op:
        return "no-op" if value.stamp == 0 else f"time {value.stamp}"
    shown = []
    for entry in value.entries:
        payload = bytes(entry.payload)
        text = payload[:SHOWN_BYTES].decode("latin-1").encode("unicode_escape").decode()
        shown.append(
            f"{entry.node}/{entry.incarnation}/{entry.sequence} {text}{'…' if len(payload) > SHOWN_BYTES else ''}"
        )
    return f"[{'; '.join(shown)}]"


_WORDS: dict[type, Callable[[Any], str]] = {
    # events
    Tick: lambda it: "tick",
    Started: lambda it: "started",
    Founded: lambda it: f"founded on #{it.foundation.instance}",
    Recovered: lambda it: f"recovered {in_words(it.record)}",
    Damaged: lambda it: "damage" + (", a note behind it" if it.is_noted else ""),
    Submit: lambda it: f"submit {it.token} ({len(it.payload)} bytes)",
    Read: lambda it: f"read {it.token}",
    MoveTime: lambda it: f"move time to {it.due}",
    HandOver: lambda it: f"hand over to {it.to or 'whoever is best prepared'} within {it.within_ms:.0f} ms",
    KeepLead: lambda it: "do not hand over",
    CutOff: lambda it: f"cut off up to #{it.upto}",
    Reconfigure: lambda it: f"let it be {value_in_words(Value(0, configuration=it.configuration))}",
    # records
    Promised: lambda it: f"promised {it.ballot}",
    Acceptance: lambda it: f"accepted {it.ballot} #{it.instance} {value_in_words(it.value)}",
    Learned: lambda it: f"learned #{it.instance} {value_in_words(it.value)}",
    ChosenUpTo: lambda it: f"chosen up to #{it.instance}",
    CutUpTo: lambda it: f"cut up to #{it.instance}",
    Restored: lambda it: f"made good up to #{it.upto}",
    Note: lambda it: f"noted: promised {it.promised}, accepted up to #{it.accepted_upto}",
    # messages
    Prepare: lambda it: (
        f"prepare {it.ballot} from #{it.first}"
        + (f", released by {it.released}" if it.released.round else "")
    ),
    Promise: lambda it: (
        f"promise {it.ballot} from #{it.first}"
        + "".join(
            f", #{instance} as {ballot} {value_in_words(value)}" for instance, ballot, value in it.reported
        )
        + (f", more from #{it.last + 1}" if it.last is not None else "")
        + f", chosen up to #{it.chosen}"
    ),
    Accept: lambda it: (
        f"accept {it.ballot} #{it.instance} {value_in_words(it.value)}, chosen up to #{it.chosen}"
    ),
    Accepted: lambda it: f"accepted {it.ballot} #{it.instance}",
    Refused: lambda it: f"refused {it.ballot}, promised {it.promised}",
    Canvass: lambda it: f"canvass {it.attempt}, chosen up to #{it.chosen}",
    Support: lambda it: f"support {it.attempt}, promised {it.promised}",
    Confirm: lambda it: f"confirm {it.ballot} round {it.round}, chosen up to #{it.chosen}",
    Confirmed: lambda it: f"confirmed {it.ballot} round {it.round}, chosen up to #{it.chosen}",
    Chosen: lambda it: f"chosen {it.ballot} up to #{it.chosen}",
    TakeOver: lambda it: f"take over from {it.ballot}, chosen up to #{it.chosen}",
    Ask: lambda it: f"ask from #{it.first}",
    Learn: lambda it: f"learn from #{it.first}, {len(it.values)} values",
    Forward: lambda it: f"forward {' '.join(f'{e.node}/{e.incarnation}/{e.sequence}' for e in it.entries)}",
    AskRead: lambda it: f"ask read {it.attempt}",
    GrantRead: lambda it: f"grant read {it.attempt} from #{it.watermark}",
    # effects
    Send: lambda it: f"→ {it.to} {in_words(it.message)}",
    Save: lambda it: (
        f"save {_listed(it.records) or 'nothing'}" + (f", then {_listed(it.then)}" if it.then else "")
    ),
    Deliver: lambda it: f"apply #{it.instance} at {it.time}, {len(it.entries)} entries",
    Serve: lambda it: f"answer reads {' '.join(map(str, it.tokens))}",
    Abandon: lambda it: (
        f"give up {' '.join(map(str, it.tokens))} ({'never done' if it.certain else 'outcome unknown'})"
    ),
    Teach: lambda it: f"teach {it.to} from disk, #{it.first} to #{it.last}",
    Offer: lambda it: f"offer {it.to} a snapshot, for #{it.first}",
    GiveUp: lambda it: f"give up the log up to #{it.upto}",
    Leads: lambda it: f"{it.ballot.node} leads under {it.ballot}",
    WakeAt: lambda it: f"wake at {it.time:.3f} ms",
}


def in_words(item: object) -> str:
    """An event, effect, message or record as a person would say it."""
    if isinstance(item, Received):
        return f"← {item.sender} {in_words(item.message)}"
    return _WORDS[type(item)](item)


def _listed(items: Iterable[object]) -> str:
    return " and ".join(map(in_words, items))


def _is_routine(event: object, effects: list[Effect]) -> bool:
    """Whether this is only the beat of the heart."""
    what = event.message if isinstance(event, Received) else event
    if not isinstance(what, Tick | Confirm | Confirmed | Chosen | Recovered):
        return False
    return all(
        isinstance(effect, WakeAt)
        or (isinstance(effect, Send) and isinstance(effect.message, Confirm | Confirmed | Chosen))
        for effect in effects
    )


class Story:
    """Writes the lines of a run."""

    def __init__(self, write: Callable[[str], object], everything: bool = False) -> None:
        self.write = write
        self.everything = everything
        self.now: Callable[[], float] = lambda: 0.0

    def step(self, node: str, event: object, effects: list[Effect]) -> None:
        """A replica's step."""
        if not self.everything and _is_routine(event, effects):
            return
        done = [in_words(effect) for effect in effects if self.everything or not isinstance(effect, WakeAt)]
        tail = "".join(f"\n{'':22}{each}" for each in done)
        self.write(f"{self.now():12.6f}  {node:6}  {in_words(event)}{tail}")

    def world(self, now: float, text: str) -> None:
        """Something in the world."""
        self.write(f"{now:12.6f}  ******  {text}")
