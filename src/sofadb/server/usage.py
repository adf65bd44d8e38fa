"""What commands have cost on this node, and which were slow: for INFO, SLOWLOG and LATENCY.

Only the execution is timed, not the way through the sequence. A run is timed as a whole, and its time counts in equal parts for
its commands: to look at the clock for each of them would cost as much as many of them take. So a run that was slow is told as
one, with its first command and how many others there were; and what a single command cost is known where it came alone.
Nothing of this is state.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sofadb.database.replies import Reply, ReplyError
from sofadb.database.runs import Call
from sofadb.database.table import Command, find

WORDS_MAX = 32
WORD_BYTES_MAX = 128
"""What of a slow command is kept, as in Redis."""
SAMPLES_MAX = 160
"""How many spikes of latency are remembered."""
ERRORS_MAX = 128
"""How many kinds of errors are told apart; what else there may be is counted as `other`."""
SECRETIVE = frozenset((b"AUTH", b"HELLO"))
"""Commands whose words are not shown."""
NO_COMMAND = [b""]
"""The words of a call that is no command, only an answer."""
_BUCKETS = 64


class Client(Protocol):
    """Who asked."""

    @property
    def address(self) -> str: ...

    @property
    def name(self) -> bytes: ...


class Figures:
    """What a command has cost."""

    __slots__ = ("buckets", "command", "failed", "rejected", "usec")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.usec = 0.0
        self.rejected = 0
        """How often it was asked for wrongly, and not begun."""
        self.failed = 0
        self.buckets = [0] * _BUCKETS
        """How often it took less than 1, 2, 4, ... microseconds."""

    @property
    def calls(self) -> int:
        """How often it was executed."""
        return sum(self.buckets)

    def percentile(self, share: float) -> float:
        """Less than so many microseconds it took in this share (0 to 1) of all times, as far as the buckets tell."""
        left = share * self.calls
        for power, count in enumerate(self.buckets):
            left -= count
            if left <= 0 and count:
                return float(1 << power)
        return 0.0


@dataclass(frozen=True, slots=True)
class Slow:
    """A run that took long."""

    number: int
    at: int
    """In seconds since 1970."""
    usec: int
    words: tuple[bytes, ...]
    address: str
    name: bytes


@dataclass(slots=True)
class Spikes:
    """When commands took long enough to be told by LATENCY."""

    samples: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    """Seconds since 1970, and milliseconds."""
    longest_ms: int = 0

    def add(self, at: int, ms: int) -> None:
        """It took so long; of one second only the longest is kept."""
        self.longest_ms = max(self.longest_ms, ms)
        if self.samples and self.samples[-1][0] == at:
            self.samples[-1] = at, max(self.samples[-1][1], ms)
        else:
            self.samples.append((at, ms))


class Usage:
    """All that is counted of a node's commands."""

    def __init__(self) -> None:
        self.slow: deque[Slow] = deque()
        """The latest last."""
        self.last_slow = -1
        """The number of the last one there ever was."""
        self.spikes: dict[bytes, Spikes] = {}
        """By event. There is one: `command`."""
        self.forget()

    def forget(self) -> None:
        """Count from zero (CONFIG RESETSTAT)."""
        self.figures: dict[str, Figures] = {}
        """By name of the command."""
        self._by_spelling: dict[bytes, Figures] = {}
        self.errors: dict[str, int] = {}
        """How many errors there were, by their first words."""
        self.error_replies = 0

    def note(self, calls: Sequence[Call], replies: Sequence[Reply], usec: float) -> None:
        """These calls have taken so long together. (This is on the path of every command: most runs are of one kind.)"""
        count = len(calls)
        name = calls[0][1][0]
        figures = self._by_spelling.get(name)
        if figures is not None and (count == 1 or [args[0] for _, args in calls].count(name) == count):
            figures.usec += usec
            figures.buckets[int(usec / count).bit_length()] += count
        else:
            self._note_each(calls, usec / count)
        if ReplyError in map(type, replies):
            self._note_errors(calls, replies)

    def _note_each(self, calls: Sequence[Call], usec: float) -> None:
        bucket = int(usec).bit_length()
        for _, args in calls:
            if args is not NO_COMMAND:
                figures = self._by_spelling.get(args[0]) or self._figures_of(args)
                figures.usec += usec
                figures.buckets[bucket] += 1

    def _note_errors(self, calls: Sequence[Call], replies: Sequence[Reply]) -> None:
        for (_, args), reply in zip(calls, replies, strict=False):
            if type(reply) is ReplyError:
                self._note_error(reply)
                if args is not NO_COMMAND:
                    self._figures_of(args).failed += 1

    def note_rejected(self, args: list[bytes]) -> None:
        """These words were refused on sight. (The error itself is noted with its reply.)"""
        command = find(args)
        if command is not None:
            self._figures(command).rejected += 1

    def note_slow(self, calls: Sequence[Call], usec: float, client: Client, runs_max: int) -> None:
        """This took long: keep it, if so many may be kept, in place of the oldest."""
        words = words_of(calls)
        if words and runs_max:
            self.last_slow += 1
            slow = Slow(self.last_slow, int(time.time()), int(usec), words, client.address, client.name)
            self.slow.append(slow)
            self.forget_slow(runs_max)

    def forget_slow(self, runs_max: int) -> None:
        """Keep so many, the latest."""
        while len(self.slow) > runs_max:
            self.slow.popleft()

    def note_spike(self, event: bytes, ms: int) -> None:
        """Something took so long."""
        self.spikes.setdefault(event, Spikes()).add(int(time.time()), ms)

    def _note_error(self, error: ReplyError) -> None:
        self.error_replies += 1
        kind = error.text.partition(" ")[0]
        if kind not in self.errors and len(self.errors) >= ERRORS_MAX:
            kind = "other"
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def figures_of(self, name: bytes) -> Figures:
        """Where an ordinary command is counted."""
        return self._by_spelling.get(name) or self._figures_of([name])

    def _figures_of(self, args: list[bytes]) -> Figures:
        command = find(args)
        assert command is not None, "what was executed is a command"
        figures = self._figures(command)
        if "|" not in command.name and not command.subcommands and len(self._by_spelling) < 1_000:
            self._by_spelling[args[0]] = figures
        return figures

    def _figures(self, command: Command) -> Figures:
        return self.figures.setdefault(command.name, Figures(command))


def words_of(calls: Sequence[Call]) -> tuple[bytes, ...]:
    """What SLOWLOG shows of a run."""
    commands = [args for _, args in calls if args is not NO_COMMAND]
    if not commands:
        return ()
    words = list(_shortened(commands[0]))
    if len(commands) > 1:
        words.append(b"... (%d more commands)" % (len(commands) - 1))
    return tuple(words)


def _shortened(args: list[bytes]) -> Iterator[bytes]:
    if args[0].upper() in SECRETIVE:
        yield args[0]
        yield b"(redacted)"
        return
    is_long = len(args) > WORDS_MAX
    for word in args[: WORDS_MAX - 1] if is_long else args:
        more = len(word) - WORD_BYTES_MAX
        yield word if more <= 0 else word[:WORD_BYTES_MAX] + b"... (%d more bytes)" % more
    if is_long:
        yield b"... (%d more arguments)" % (len(args) - WORDS_MAX + 1)
