"""CLIENT PAUSE: for a while this node begins no commands of its clients, or no writes.

What is under way goes on. What clients send meanwhile waits as it does behind anything else, within the same bounds, and is
begun when the pause is over. CLIENT UNPAUSE itself is never held back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sofadb.database.table import Command, Route

from .waiting import CallLater, call_later

SECONDS_MAX = 10_000_000
"""A longer pause ends after this (some hundred days)."""


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class Pause:
    """Of one node."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.on_end = on_end
        self.call_later: CallLater = call_later
        self.clock: Callable[[], float] = _loop_time
        self.is_on = False
        self._only_writes = True
        self._timer: asyncio.TimerHandle | None = None
        self._ends_at = 0.0

    def begin(self, seconds: float, only_writes: bool) -> None:
        """Pause from now on. What is paused already is paused no less, and no shorter."""
        now = self.clock()
        ends_at = now + min(seconds, SECONDS_MAX)
        if self.is_on:
            ends_at = max(ends_at, self._ends_at)
            only_writes = only_writes and self._only_writes
        self._stop_timer()
        self.is_on, self._only_writes, self._ends_at = True, only_writes, ends_at
        self._timer = self.call_later(ends_at - now, self.end)

    def end(self) -> None:
        """Everything that has waited is begun."""
        self._stop_timer()
        if self.is_on:
            self.is_on = False
            self.on_end()

    def holds(self, command: Command, writes: bool) -> bool:
        """Whether a command has to wait, which `writes` or does not."""
        if not self.is_on or command.name == "client|unpause":
            return False
        return writes or not self._only_writes

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def writes(command: Command, queued_writes: bool | None) -> bool:
    """Whether beginning this command writes. `queued_writes`: whether MULTI has queued a write; None outside of MULTI."""
    if queued_writes is None:
        return command.route is Route.WRITE
    return command.name == "exec" and queued_writes
