"""Reads that take long, one a turn of the event loop, so that all else goes on between them.

Many of them may become answerable at the same moment, from as many connections. Each connection has one at a time under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol


class Work(Protocol):
    """What may be done now or a little later."""

    def execute_now(self) -> None:
        """It is its turn."""


def call_soon(call: Callable[[], None]) -> object:
    """In the next turn of this event loop."""
    return asyncio.get_running_loop().call_soon(call)


class Heavy:
    """Those that wait for their turns, in the order of their coming."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object] = call_soon) -> None:
        self.call_soon = call_soon
        self._works: deque[Work] = deque()

    def __len__(self) -> int:
        return len(self._works)

    def add(self, work: Work) -> None:
        """It may be done."""
        self._works.append(work)
        if len(self._works) == 1:
            self.call_soon(self._do_one)

    def _do_one(self) -> None:
        self._works[0].execute_now()
        self._works.popleft()
        if self._works:
            self.call_soon(self._do_one)
