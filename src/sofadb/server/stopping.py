"""A node that is told to stop: it hands over, answers, ends its connections, and closes its disk, in this order.

Each step has a bound, so that whoever told it need not lose patience; and what is not done by then costs a client its
connection, never an acknowledged write.
"""

from __future__ import annotations

from sofadb.node.live import RunningNode

from . import listener
from .state import ServerState

HAND_OVER_TIMEOUT_S = 1.0
"""How long a leader that is told to stop tries to have another one in its place. (It takes a few milliseconds.)"""
STOP_TIMEOUT_S = 5.0
"""How long clients that wait are given when the node is told to stop."""


async def stop_in_order(state: ServerState, running: RunningNode) -> None:
    """When this is done, nothing of the node runs any more, and everything it took is on its disk."""
    await running.give_way(HAND_OVER_TIMEOUT_S)
    await listener.stop(state, STOP_TIMEOUT_S)
    await running.stop()
