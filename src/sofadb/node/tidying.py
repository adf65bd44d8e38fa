"""Memory of what was removed is given back when the node has a moment.

To give back a million elements takes tenths of a second; the database keeps such things and empties them step by step
(`database/graveyard.py`). Each batch does a little. The rest is done here: a step of about a millisecond, as long a pause, and so
on until nothing is left.
"""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .node import Node

STEP_ELEMENTS = 2_000
PAUSE_S = 0.001


class Tidier:
    """Tidies the database of one node."""

    def __init__(self, node: Node, call_later: Callable[[float, Callable[[], Any]], TimerHandle]) -> None:
        self._node = node
        self._call_later = call_later
        self._timer: TimerHandle | None = None

    def look(self) -> None:
        """Something may have been removed."""
        if self._timer is None and self._node.database.is_untidy:
            self._timer = self._call_later(PAUSE_S, self._step)

    def _step(self) -> None:
        self._timer = None
        if self._node.database.tidy(STEP_ELEMENTS):
            self._timer = self._call_later(PAUSE_S, self._step)

    def stop(self) -> None:
        """Leave the rest to the end of the process."""
        if self._timer is not None:
            self._timer.cancel()
