"""Doubt: what an acceptor may have said and does not find in its log any more (rule P11).

The paper lets an acceptor fail and come back because its stable storage "is preserved during failures". A log with a
damaged region is not: a promise may be lost, an acceptance, the value of a chosen instance. To ignore any request is harmless
(section 2.2), and to answer without knowing what was answered before is not. So a replica in doubt is silent as an acceptor and
does not try to lead. It supports others, learns, and teaches what it has, until everything is chosen and learned in which it may
have accepted something that it does not know of. What is chosen there is then settled, whatever it had accepted.

How far that goes, and what was promised, is read off what is whole:

- Ballots never fall from one record to the next. So the first promise or acceptance *behind* the damage tells exactly what
  was promised in it, or more. The same is told by the *note*, which whoever keeps the log writes beside it now and then
  (`records.Note`), if it was written behind the damage.
- Whoever accepts something in instance i knows at most i - 1 to be chosen, and has never accepted anything further than alpha
  beyond that. So with an acceptance in i behind the damage, nothing in it lies beyond i - 1 + alpha. (That holds from one
  life to the next, too: a replica accepts nothing while it knows less to be chosen than any acceptance in its log, or any that
  may be lost, shows that it once knew.) The note says what was the highest.
- Where neither an acceptance nor a note is found behind the damage, nothing is known, and never will be. Such a replica is
  silent for good (`is_hopeless`): its directory has to be begun anew, as another acceptor.
- What its log says is chosen, and has no value of, is a hole. The others have it. Where a log was cut, and there is no snapshot
  to be read that reaches to the cut, there is a hole like any other.

What was accepted in front of the damage may have been overtaken in it, so it says nothing any more. All of that lies within the
bound, too.

What is damaged stays in the log for a while, and would cause a doubt at the next start, too. So when the doubt is over, and
everything is chosen that was accepted before or since, that is put on record (`records.Restored`): whatever is lost in front of
that record, by then or later, is settled.
"""

from __future__ import annotations

from .ballot import NO_BALLOT, Instance
from .records import Acceptance, ChosenUpTo, CutUpTo, Note, Record, Restored


class Doubt:
    """What is missing, as far as the log was read."""

    __slots__ = ("_is_noted", "_is_open", "alpha", "chosen_upto", "is_cut", "is_damaged", "lost_upto", "note")

    def __init__(self, alpha: int) -> None:
        self.alpha = alpha
        self.is_damaged = False
        """Whether there is damage in the log, made good or not."""
        self.is_cut = False
        """Whether the log says that its beginning was given up."""
        self.chosen_upto = Instance(0)
        """Everything up to here is chosen, as the log says."""
        self.lost_upto = Instance(0)
        """Nothing was accepted beyond here, of all that is lost."""
        self._is_open = False
        """Whether there is damage, and no acceptance behind it so far ..."""
        self._is_noted = False
        """... though there is a note behind all of it."""
        self.note = Note(NO_BALLOT, Instance(0))

    def on_record(self, record: Record) -> None:
        """One more that is whole, in the order of writing; the note first."""
        if isinstance(record, Acceptance):
            self._settle(Instance(record.instance - 1 + self.alpha))
            self.chosen_upto = max(self.chosen_upto, Instance(record.instance - self.alpha))
        elif isinstance(record, ChosenUpTo | CutUpTo):
            self.chosen_upto = max(self.chosen_upto, record.instance)
            self.is_cut = self.is_cut or isinstance(record, CutUpTo)
        elif isinstance(record, Note):
            self.note = record
        elif isinstance(record, Restored):
            self._is_open = False
            self.lost_upto = Instance(0)

    def on_damage(self, is_noted: bool) -> None:
        """Here something is not to be read any more; the note, if there is one, was written behind it, or in front of it."""
        self._is_noted = is_noted and (self._is_noted or not self._is_open)
        self.is_damaged = self._is_open = True

    def on_end(self) -> None:
        """Everything is read."""
        if self._is_open and self._is_noted:
            self._settle(self.note.accepted_upto)

    def _settle(self, upto: Instance) -> None:
        """Nothing in the damage so far lies beyond `upto`."""
        if self._is_open:
            if self._is_noted:
                upto = min(upto, self.note.accepted_upto)
            self.lost_upto = max(self.lost_upto, upto)
            self._is_open = False

    @property
    def is_hopeless(self) -> bool:
        """Whether nobody knows what was promised."""
        return self._is_open and not self._is_noted

    @property
    def upto(self) -> Instance:
        """With everything up to here chosen and learned, nothing is in doubt any more (unless it is hopeless)."""
        return max(self.chosen_upto, self.lost_upto)
