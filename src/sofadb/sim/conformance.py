"""Whether a run of real replicas is a run of the specification, as TLC judges it.

Theory. `spec/SofaPaxos.tla` says what the core may do, and TLC has shown for small worlds that whatever it allows is safe. That
speaks about the code only if the code does nothing else. So a run of the laboratory is written down as a sequence of abstract
steps, and TLC is asked whether the specification can take them, one after the other (`spec/SofaTrace.tla`). It walks a line:
each step names all that the specification leaves open. It says "accepted", or names the first step that is not allowed.

*What is observed.* Nothing is asked of a replica. `Recorder` is shown what goes into `Replica.step` and what comes out, each record
when it is stable, and each crash; from that the steps follow one to one. An effect that tells of an acceptor's word is
a step of the acceptor (`Campaigned`, `Promised`, `Accepted`), a first accept request one of the leader (`Led`, `Proposed`), an
acceptance that reaches the leader `Counted`, a value that reaches a node `Heard` or `Taught`, and one that reaches the state machine
`Delivered`. What a step rests on, the specification must have seen before: the request, the promises, the acceptances, the
leader's word. And what a node reads back at its start must be what its disk had said to be stable, or a little more.

*What is not observed.* The specification may believe that a node still leads, or counts a vote, when the node has given that up: it
then allows more than the node does, never less. `Deliver` does not carry the value that was chosen but what of it takes effect; so
a step names all values proposed there that this may be. Reads, sessions and time are not in the specification.

*Names.* Ballots keep their order and become 1, 2, 3, ...; values become numbers, the same for equal ones.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from sofadb.paxos import (
    NO_BALLOT,
    NO_OP,
    Acceptor,
    Ballot,
    Configuration,
    Deliver,
    Effect,
    Event,
    Instance,
    NodeId,
    Received,
    Record,
    Recovered,
    Save,
    Send,
    Started,
    Value,
)
