"""The leader's time stamp (rule P5).

Time is a value like any other: the leader stamps each batch, and what is chosen is the time. Two things keep one bad clock
from doing harm. A stamp is never lower than one before it. And it keeps within a stated bound of the median clock of a
quorum: a leader whose clock is a day ahead cannot expire the data, and one whose clock is a day behind cannot stop
time. That holds while fewer than half of the clocks that were told lately are wrong. Of two clocks the one behind decides:
while only these are known, a clock far behind makes time stand still; then nothing expires, and what is given a time to
live meanwhile lives shorter by as long as time stood still. On a single replica its own clock decides.
"""

from __future__ import annotations

from .ballot import NodeId
from .events import Moment


class Clocks:
    """What this node knows of the others' clocks, each as its distance from our own monotonic time."""

    __slots__ = ("age_ms_max", "bound_ms", "distance", "me", "moment")

    def __init__(self, me: NodeId, bound_ms: int, age_ms_max: float) -> None:
        self.me = me
        self.bound_ms = bound_ms
        self.age_ms_max = age_ms_max
        """What was heard longer ago says nothing: a clock may have been set since."""
        self.moment = Moment(0.0, 0, 0.0)
        self.distance: dict[NodeId, tuple[float, float]] = {}
        """For each node its distance, and when it was heard."""

    def heard(self, node: NodeId, clock: int) -> None:
        """`node` told its clock (milliseconds), just now."""
        self.distance[node] = (clock - self.moment.now, self.moment.now)

    def bounded(self, acceptors: tuple[NodeId, ...]) -> int:
        """Return our own clock, brought within the bound of the median of those acceptors that told theirs.

        Of an even number of clocks the lower one of the two in the middle counts: data is rather kept than expired. As long
        as fewer than a quorum have told theirs lately, it is 0: time stands still rather than follow a clock by itself.
        """
        moment = self.moment
        if acceptors == (self.me,):
            return moment.clock
        self.heard(self.me, moment.clock)
        known = [self.distance[node] for node in acceptors if node in self.distance]
        distances = sorted([distance for distance, at in known if moment.now - at <= self.age_ms_max])
        count = len(distances)
        if 2 * count <= len(acceptors):
            return 0
        median = int(distances[(count - 1) // 2] + moment.now)
        return min(max(moment.clock, median - self.bound_ms), median + self.bound_ms)
