"""*Paxos Made Simple*, by Leslie Lamport, as a library.

Read it beside the paper. Section 2, which chooses one value, is three roles and what they say:

- `acceptor`: what may be promised and what may be accepted. The part that must never forget.
- `proposer`: which value must be proposed.
- `learner`: when a value is chosen.
- `messages`, `records`: what is said, and what is on disk before it is said.

Section 3, which chooses a sequence of values, is a replica that plays all the roles at once:

- `replica`: `step(event, moment) -> effects`. Routes what happens, and does what every replica does.
- `following`, `campaigning`, `leading`: the phases of the paper's distinguished proposer.
- `sequence`, `membership`, `sessions`: what is chosen, who chooses it, and that each command counts once.
- `foundation`: all of that, as a snapshot holds it. `doubt`: what a log that was damaged does not tell any more.
- `confirming`, `reading`, `lease`: reads that see everything acknowledged before them, without writing.
- `outbox`, `clocks`, `pace`, `teaching`, `settings`, `codec`: proposals not yet chosen, time stamps, how long to wait, what
  is on its way to whom, numbers, bytes.

Choosing a single value is the sequence's first instance; there is no second implementation.

Nothing in this package reads a clock, rolls dice, touches a file or a socket, or starts a thread, and it needs nothing but the
standard library. To use it, a program feeds a `Replica` with events and performs the effects it returns, in their order:

    for effect in replica.step(event, Moment(now, clock, chance)):
        perform(effect)      # Send a message; Save records and, once they are stable, send what waited for them;
                             # Deliver what was chosen to the state machine; Serve reads; wake me at a time.

`examples/replicate_a_counter.py` is a whole program. In the database, `sofadb.node` does the same with a disk and a network.
"""

from .acceptor import Acceptor, Answer
from .ballot import NO_BALLOT, NO_INSTANCE, Ballot, Instance, NodeId
from .effects import Abandon, Deliver, Effect, GiveUp, Leads, Offer, Save, Send, Serve, Teach, WakeAt
from .events import (
    CutOff,
    Damaged,
    Event,
    Founded,
    HandOver,
    KeepLead,
    Moment,
    MoveTime,
    Read,
    Received,
    Reconfigure,
    Recovered,
    Started,
    Submit,
    Tick,
)
from .foundation import Foundation
from .learner import Learner
from .membership import Membership
from .messages import Message
from .proposer import Proposer
from .records import Note, Record
from .replica import Replica
from .settings import Settings
from .values import NO_OP, Configuration, Entry, Value

__all__ = [
    "NO_BALLOT",
    "NO_INSTANCE",
    "NO_OP",
    "Abandon",
    "Acceptor",
    "Answer",
    "Ballot",
    "Configuration",
    "CutOff",
    "Damaged",
    "Deliver",
    "Effect",
    "Entry",
    "Event",
    "Foundation",
    "Founded",
    "GiveUp",
    "HandOver",
    "Instance",
    "KeepLead",
    "Leads",
    "Learner",
    "Membership",
    "Message",
    "Moment",
    "MoveTime",
    "NodeId",
    "Note",
    "Offer",
    "Proposer",
    "Read",
    "Received",
    "Reconfigure",
    "Record",
    "Recovered",
    "Replica",
    "Save",
    "Send",
    "Serve",
    "Settings",
    "Started",
    "Submit",
    "Teach",
    "Tick",
    "Value",
    "WakeAt",
]
