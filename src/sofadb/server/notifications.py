"""Keyspace notifications: what happens to keys, told as messages (Redis's manual, "Keyspace notifications").

Each node has its own setting, as each Redis has, and tells its own clients; events go through no log, since every replica sees
them happen. Where nothing is wanted, none are made.
"""

from __future__ import annotations

from collections.abc import Iterator

from sofadb.database.events import LETTERS, MISSED, NEW, Event
from sofadb.database.messages import Message

NAME = "notify-keyspace-events"
"""Of the setting."""
_MOST = sum(LETTERS.values()) & ~(NEW | MISSED)
"""What the letter A stands for."""


class UnknownLetter(ValueError):
    """No class of events has that letter."""


class Notifications:
    """What one node tells of events."""

    __slots__ = ("classes", "of_events", "of_keys")

    def __init__(self, letters: str = "") -> None:
        """Raises `UnknownLetter`."""
        self.of_keys = "K" in letters
        """Whether it is told on the channel of the key what happened to it."""
        self.of_events = "E" in letters
        """Whether it is told on the channel of the event which key it happened to."""
        self.classes = 0
        for letter in letters.replace("K", "").replace("E", ""):
            if letter != "A" and letter not in LETTERS:
                raise UnknownLetter(letter)
            self.classes |= _MOST if letter == "A" else LETTERS[letter]

    @property
    def wanted(self) -> int:
        """The classes of events of which something is told."""
        return self.classes if self.of_keys or self.of_events else 0

    @property
    def letters(self) -> str:
        """The setting as Redis puts it. (With an A it keeps it to itself whether there is an n.)"""
        if self.classes & _MOST == _MOST:
            text = "A"
        else:
            text = "".join(each for each, class_ in LETTERS.items() if self.classes & class_ & ~MISSED)
        return text + "K" * self.of_keys + "E" * self.of_events + "m" * bool(self.classes & MISSED)

    def messages(self, event: Event) -> Iterator[Message]:
        """What is told of an event."""
        if self.of_keys:
            yield Message(b"__keyspace@%d__:%b" % (event.database, event.key), event.name)
        if self.of_events:
            yield Message(b"__keyevent@%d__:%b" % (event.database, event.name), event.key)
