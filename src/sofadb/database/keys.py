"""Where the keys stand among the words of a command, as its declaration says (Redis's manual, "Command key specifications").

Most commands have them at fixed places (`Command.keys`), some behind a number that says how many there are
(`Command.counted_keys`), and some where only a function can tell (`Command.find_keys`). What becomes of a key is said in Redis's
words: `RO` (it is read), `RW` (changed), `OW` (written over) or `RM` (removed), and of its value `access` (somebody is told
it), `update`, `insert`, `delete`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from .replies import Reply, Status, Unordered
from .table import Command, Keys, lookup


class KeySpec(NamedTuple):
    """Keys of a command that lie together."""

    use: tuple[str, ...]
    begin: int
    """Where the first of them stands, or their number."""
    last: int = 0
    """How far behind the first the last one stands; negative: counted from the end."""
    step: int = 1
    is_counted: bool = False
    """Whether at `begin` stands how many there are."""

    def positions(self, args: list[bytes]) -> range:
        """Where they stand among these words; nowhere if that cannot be."""
        if not self.is_counted:
            end = len(args) + self.last if self.last < 0 else self.begin + self.last
            return range(self.begin, min(end + 1, len(args)), self.step)
        first = self.begin + 1
        text = args[self.begin] if self.begin < len(args) else b""
        count = int(text) if text.isdigit() and len(text) < 10 else 0
        return range(first, first + count) if first + count <= len(args) else range(0)

    def shown(self) -> Reply:
        """As COMMAND INFO tells it."""
        find: dict[Reply, Reply] = (
            {b"keynumidx": 0, b"firstkey": 1, b"keystep": 1}
            if self.is_counted
            else {b"lastkey": self.last, b"keystep": self.step, b"limit": 0}
        )
        kind = b"keynum" if self.is_counted else b"range"
        return {
            b"flags": Unordered(Status(word.encode()) for word in self.use),
            b"begin_search": {b"type": b"index", b"spec": {b"index": self.begin}},
            b"find_keys": {b"type": kind, b"spec": find},
        }


def specs_of(command: Command) -> list[KeySpec]:
    """All that a declaration says of keys."""
    uses = [tuple(use.split()) for use in (command.key_use or _use(command)).split(",")]
    specs = list(_fixed(command, uses))
    if command.counted_keys:
        specs.append(KeySpec(uses[-1], command.counted_keys, is_counted=True))
    return specs


def _use(command: Command) -> str:
    if "write" in command.flags:
        return "RW access update"
    return "RO access" if "readonly" in command.flags else "RO"


def _fixed(command: Command, uses: list[tuple[str, ...]]) -> Iterator[KeySpec]:
    first, last, step = command.keys
    if not first:
        return
    alone = uses[:-1]
    for use in alone:
        yield KeySpec(use, first)
        first += step
    if last < 0 or first <= last:
        yield KeySpec(uses[-1], first, last if last < 0 else last - first, step)


def find_keys(command: Command, args: list[bytes]) -> Keys:
    """Where the keys of these words stand, and the use of each. Nothing that is asked for here was checked but the arity."""
    if command.find_keys is not None:
        return command.find_keys(args)
    found: Keys = []
    for spec in specs_of(command):
        positions = spec.positions(args)
        if spec.is_counted and not positions:
            return []  # Redis, too, tells none of them if their number cannot be.
        found += [(position, " ".join(spec.use)) for position in positions]
    return found


def keys_behind(at: int) -> Callable[[list[bytes]], Keys]:
    """Finds the keys of a command whose words stand behind `at` others."""

    def find(args: list[bytes]) -> Keys:
        inner = lookup(args[at]) if len(args) > at else None
        if inner is None:
            return []
        return [(at + position, use) for position, use in find_keys(inner, args[at:])]

    return find
