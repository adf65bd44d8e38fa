"""Teaching: what of the sequence is on its way to whom.

Messages overtake one another: that an instance is chosen may be heard before its value has arrived, when the value is large. The
hearer then asks for what it lacks, and would be sent once more what is on its way already, which delays that further.
So whoever sends values notes what was sent, and until when, at a modest speed, it may still be on its way; and asks for that
are passed over. An ask comes again as long as something lacks, so at worst a lost message is made up for a little later.
Links are faster than modest: what is thought to be on its way is bounded, or under load the two would drift apart for ever.

An acceptor ignores what lies more than alpha beyond what it has learned, and nobody is told. So what is beyond that, for somebody
who asks, is not on its way either: else whoever is behind, and is sent more in the time in which its asks are passed over
than it is taught in one go, would stay behind for ever. What is taught again may take longer, each time: the link may be slow,
or full of what is ignored, and should not be filled with the same.
"""

from __future__ import annotations

from collections import deque

from .ballot import Instance, NodeId
from .events import Moment

_Sent = tuple[Instance, Instance, float, float]
"""The first instance, the last, when it should have arrived at the latest, and until when it may be late (monotonic
milliseconds)."""


class Teaching:
    """What this replica has sent to each of the others lately."""

    __slots__ = ("_ignored_from", "_sent", "_taught", "behind_ms_max", "bytes_per_ms", "moment", "pause_ms")

    def __init__(self, bytes_per_ms: int, pause_ms: float, behind_ms_max: float) -> None:
        self.bytes_per_ms = bytes_per_ms
        self.pause_ms = pause_ms
        """How much later than it should have arrived somebody may ask for it again."""
        self.behind_ms_max = behind_ms_max
        """So long at most a message waits, as is thought, for those before it."""
        self.moment = Moment(0.0, 0, 0.0)
        self._sent: dict[NodeId, deque[_Sent]] = {}
        self._ignored_from: dict[NodeId, Instance] = {}
        """Where that begins, for each who asked, which it is too far behind to accept."""
        self._taught: dict[NodeId, tuple[Instance, float]] = {}
        """What each was taught last, and how much longer than usual that may take (milliseconds)."""

    def taught(self, node: NodeId, first: Instance, last: Instance, size: int) -> None:
        """As `sent`, since `node` has asked for it."""
        before, late_ms = self._taught.get(node, (None, 0.0))
        late_ms = min(2 * late_ms + self.pause_ms, self.behind_ms_max) if before == first else 0.0
        self._taught[node] = (first, late_ms)
        self.sent(node, first, last, size, late_ms)

    def sent(self, node: NodeId, first: Instance, last: Instance, size: int, late_ms: float = 0.0) -> None:
        """The values of `first..last`, `size` bytes in all, leave for `node`, behind what left before.

        They may be so much later than usual. What will be ignored is not noted.
        """
        ignored_from = self._ignored_from.get(node)
        if ignored_from is not None and first >= ignored_from:
            return
        now = self.moment.now
        if (way := self._sent.get(node)) is None:
            way = self._sent[node] = deque()
        while way and way[0][3] <= now:
            way.popleft()
        begin = now
        if way and way[-1][2] > now:
            begin = min(way[-1][2], now + self.behind_ms_max)
        arrival = begin + size / self.bytes_per_ms
        way.append((first, last, arrival, arrival + self.pause_ms + late_ms))

    def asks(self, node: NodeId, first: Instance, upto: Instance) -> None:
        """`node` has everything before `first`, and not that; until it has, it accepts nothing beyond `upto`."""
        self._ignored_from[node] = Instance(upto + 1)
        if way := self._sent.get(node):
            self._sent[node] = deque(sent for sent in way if first <= sent[1] and sent[0] <= upto)

    def accepts(self, node: NodeId, upto: Instance, furthest: Instance) -> None:
        """`node` accepts what is up to `upto` by now; it will have to as far as `furthest`, unless it asks before."""
        if node not in self._ignored_from:
            return
        if upto >= furthest:
            del self._ignored_from[node]
        else:
            self._ignored_from[node] = max(self._ignored_from[node], Instance(upto + 1))

    def is_on_its_way(self, node: NodeId, instance: Instance) -> bool:
        """Whether the value of `instance` may still arrive at `node`."""
        now = self.moment.now
        return any(
            first <= instance <= last and late_until > now
            for first, last, _, late_until in self._sent.get(node, ())
        )
