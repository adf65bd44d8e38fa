"""How much work one batch may make of every replica.

All replicas execute a batch in one go, and answer nobody meanwhile. A few words can ask for seconds of work: a hundred bytes
that make a hundred megabytes of zeros, or go through a million elements. So whatever can be dear has a *cost*, declared with it
in the table: units, of which each is about a microsecond on a slow machine. The cost follows from the state and the words
alone, before anything is done, so replicas agree on it.

The first that is dear is done whatever else there is, up to `COMMAND_UNITS_MAX`. Others are done while there is room in
`BATCH_UNITS_MAX`; then they are told that it is too much at once (`Busy`), and have done nothing. A transaction is one thing,
for which there is room or not. What its own first commands make dear is not seen before: it has `COMMAND_UNITS_MAX` for all, and
beyond that a command in it fails alone.

What costs little is not counted: it is in proportion to its own words, which the size of a batch bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .replies import Busy, ReplyError

if TYPE_CHECKING:
    from .keyspace import Keyspace

Cost = Callable[["Keyspace", list[bytes]], int]
"""What a command costs, in units, in a keyspace and with these words. It may raise `ReplyError` where the command would."""

LITTLE_UNITS = 20
"""So much is not counted."""
BATCH_UNITS_MAX = 250_000
"""What the commands of a batch may cost together, if there is more than one that is dear."""
COMMAND_UNITS_MAX = 10_000_000
"""What one command may cost, or one transaction."""

TOO_MUCH_AT_ONCE = "BUSY too much was asked for at the same time; this was not executed. Try again."
TOO_DEAR = (
    "ERR this would take all nodes too long (about {} s, at most {} s), and was not executed. "
    "Do it in parts, or in the client"
)


class Budget:
    """What has been paid in one batch. No part of the state: each batch begins anew."""

    __slots__ = ("is_paid_elsewhere", "left", "spent")

    def __init__(self) -> None:
        self.spent = 0
        self.left: int | None = None
        """What a transaction may still spend, while one is executed."""
        self.is_paid_elsewhere = False
        """A script is executed, which counts by itself."""

    def begin(self) -> None:
        """A batch begins."""
        self.spent = 0

    def demand(self, units: int) -> None:
        """There must be room for what costs so much. Raises `Busy`."""
        if units <= LITTLE_UNITS:
            return
        if units > COMMAND_UNITS_MAX:
            raise Busy(TOO_DEAR.format(-(-units // 1_000_000), COMMAND_UNITS_MAX // 1_000_000))
        if self.spent and self.spent + units > BATCH_UNITS_MAX:
            raise Busy(TOO_MUCH_AT_ONCE)

    def pay(self, units: int) -> None:
        """A command that costs so much is about to be done. Raises `Busy` if it must not be."""
        if units <= LITTLE_UNITS or self.is_paid_elsewhere:
            return
        if self.left is None:
            self.demand(units)
        else:
            if units > self.left:
                raise Busy(TOO_DEAR.format(-(-units // 1_000_000), COMMAND_UNITS_MAX // 1_000_000))
            self.left -= units
        self.spent += units


def estimate(cost: Cost, keyspace: Keyspace, args: list[bytes]) -> int:
    """What a command would cost, in units. One that is asked for wrongly costs nothing: it will say so."""
    try:
        return cost(keyspace, args)
    except ReplyError:
        return 0
