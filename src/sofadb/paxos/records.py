"""What an acceptor writes to stable storage (section 2.5: "intended to remember what it has promised and accepted").

A record is written before the answer that depends on it leaves (rule P1). Read back in the order of writing, the
records are the acceptor: nothing else needs to survive a crash.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ballot import Ballot, Instance
from .values import Value


@dataclass(frozen=True, slots=True)
class Promised:
    """Nothing below `ballot` will be accepted any more, in any instance."""

    ballot: Ballot


@dataclass(frozen=True, slots=True)
class Acceptance:
    """`value` was accepted as proposal `ballot` of `instance`. It is a promise of `ballot`, too (one record, not two)."""

    instance: Instance
    ballot: Ballot
    value: Value


@dataclass(frozen=True, slots=True)
class Learned:
    """`value` was chosen for `instance`, as another replica told. Takes the place of any acceptance there."""

    instance: Instance
    value: Value


@dataclass(frozen=True, slots=True)
class ChosenUpTo:
    """Every instance up to this one is chosen, and the latest record of each holds its value.

    Only a help at restart, written along with the next record: what it says can always be learned again.
    """

    instance: Instance


@dataclass(frozen=True, slots=True)
class CutUpTo:
    """A durable snapshot holds everything up to this instance: of the values there, this log need not have one (rule P9).

    What was accepted there, in front of this record, and is not known to be chosen yet, may have been overtaken. Whoever reads it
    back without knowing everything up to there has lost its snapshot, and is in `doubt`.
    """

    instance: Instance


@dataclass(frozen=True, slots=True)
class Restored:
    """Before this record nothing was accepted beyond `upto`, and all up to there is chosen: whatever of that is lost, is settled.

    What was promised stands in the record in front of it.
    """

    upto: Instance


@dataclass(frozen=True, slots=True)
class Note:
    """What an acceptor has answered so far, in a nutshell: kept beside the log, for when a part of that cannot be read.

    It may say more than what is on disk, and never less.
    """

    promised: Ballot
    accepted_upto: Instance
    """Nothing was accepted in any instance beyond."""


Record = Promised | Acceptance | Learned | ChosenUpTo | CutUpTo | Restored | Note
