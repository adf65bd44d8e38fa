"""What a command answers, before it becomes bytes.

Plain Python where it says enough: `bytes`, or a view of some, is a bulk string, `int` an integer, `None` a null, `list` an
array, `dict` a map (a flat array in RESP2), `float` a double (a bulk string in RESP2). The classes here are for what it
does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Reply = Any
"""One of the kinds above; lists and dicts hold replies."""


class Status:
    """A simple string, such as OK."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Status) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Status({self.text!r})"


class ReplyError(Exception):
    """An error reply, raised or returned. Its text begins with a word in capitals, as Redis's do."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def as_reply(self) -> ReplyError:
        """Itself, without the frames that it came through: they hold it and it holds them, until the collector comes by."""
        self.__traceback__ = self.__context__ = None
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReplyError) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class Busy(ReplyError):
    """Not now: it was not executed, and may be at another time. No outcome of what was asked for."""

    def as_reply(self) -> ReplyError:
        """As any other error."""
        return ReplyError(self.text)


class NullArray:
    """The array that is not there, as EXEC answers when a watched key changed. (A plain null in RESP3.)"""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NullArray)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "NullArray()"


class Verbatim:
    """Text for people, as INFO gives it. (A bulk string in RESP2.)"""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Verbatim({self.text!r})"


class Pairs(list[Any]):
    """Things that belong together in twos and in this order, one behind the other, as names with scores. (In RESP3 an array
    of arrays.)"""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Waits:
    """Not now. Who asked stands in line (`queues.py`) and asks again when it is called; in vain, it is answered `reply`."""

    wait_ms: int
    """0: for ever."""
    reply: Reply


class Push:
    """What is told unasked, as messages are (an array in RESP2), and the replies that come in the same form."""

    __slots__ = ("items",)

    def __init__(self, *items: Reply) -> None:
        self.items = items


class Several:
    """The replies to a command that has any number of them, as SUBSCRIBE has one for each channel."""

    __slots__ = ("replies",)

    def __init__(self, replies: list[Reply]) -> None:
        self.replies = replies


class Unordered(list[Any]):
    """A set: replies that are all different, in an order that says nothing. (An array in RESP2.)"""

    __slots__ = ()


OK = Status(b"OK")
NULL_ARRAY = NullArray()

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
SYNTAX = "ERR syntax error"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NOT_A_FLOAT = "ERR value is not a valid float"
TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
