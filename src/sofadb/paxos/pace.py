"""How long to wait for others: by measured round trips, within the operator's bounds.

Safety does not depend on it (section 2.4 leaves elections to timeouts). But where a message takes a fifth of a second to come
back, a timeout of three tenths ends every campaign before its answers arrive; and where it takes a millisecond, nobody
wants to wait for seconds until a dead leader is missed. So each node measures: a leader by its heartbeats, a node that
looks for a leader by the answers to its canvass, late as they may be. The leader tells its followers what it has
found, since they send nothing that is answered.

What counts is the round trip to a quorum: one member far away slows nobody down. Of several round trips to a node the shortest
counts, for that is the way's own length: what a pause or a cut link held back comes in at once, and says nothing of it. What was
measured long ago does not count, and what the leader has told only until this node measures by itself.
"""

from __future__ import annotations

from collections import deque

from .ballot import NodeId
from .settings import Settings
from .values import Configuration

ROUND_TRIPS = 6
"""An election timeout has room for so many: for a canvass, for phase 1, and for a message that is lost and sent again."""
SLEEP_TIMEOUTS = 4
"""Who was busy waits for others who may be busy with the same: as long as that took, up to so many election timeouts."""
_SAMPLES = 16
"""Of so many round trips to a node the shortest counts."""
_AGE_MS_MAX = 10_000
"""What was measured longer ago than this does not count."""


class Pace:
    """What this node has measured, and what its leader has told."""

    __slots__ = ("_measured", "_settings", "_told_ms", "heartbeat_ms", "resend_ms", "timeout_ms")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._measured: dict[NodeId, deque[tuple[float, float]]] = {}
        """For each node its latest round trips, and when each was measured (milliseconds)."""
        self._told_ms = 0.0
        self.timeout_ms = settings.election_timeout_ms
        """The election timeout."""
        self.heartbeat_ms = settings.heartbeat_ms
        """How often a leader is to be heard: several times within the timeout."""
        self.resend_ms = settings.resend_ms
        """After how long something unanswered is sent again."""

    def after_sleep_ms(self, slept_ms: float) -> float:
        """For how long others may still do what this process was busy with for so long, before they can be missed."""
        return min(slept_ms, SLEEP_TIMEOUTS * self.timeout_ms)

    def measured(
        self, node: NodeId, round_trip_ms: float, configurations: tuple[Configuration, ...], now: float
    ) -> None:
        """It took so long until `node` answered."""
        samples = self._measured.setdefault(node, deque(maxlen=_SAMPLES))
        samples.append((round_trip_ms, now))
        while now - samples[0][1] > _AGE_MS_MAX:
            samples.popleft()
        self._told_ms = 0.0
        self._settle(max(self._to_a_quorum(each, now) for each in configurations))

    def told(self, timeout_ms: float) -> None:
        """The leader keeps to this timeout."""
        if timeout_ms != self._told_ms:
            self._told_ms = timeout_ms
            self._settle(0.0)

    def _to_a_quorum(self, configuration: Configuration, now: float) -> float:
        """How long a timeout the nearest quorum needs, of those acceptors that were measured, and this node."""
        needed = sorted(
            ROUND_TRIPS * min(recent)
            for node in configuration.acceptors
            if (recent := [ms for ms, at in self._measured.get(node, ()) if now - at <= _AGE_MS_MAX])
        )
        return [0.0, *needed][min(configuration.quorum - 1, len(needed))]

    def _settle(self, needed_ms: float) -> None:
        settings = self._settings
        wanted = max(needed_ms, self._told_ms, settings.election_timeout_ms)
        self.timeout_ms = timeout_ms = min(wanted, settings.election_timeout_ms_max)
        self.heartbeat_ms = settings.heartbeat_ms * timeout_ms / settings.election_timeout_ms
        self.resend_ms = settings.resend_ms * timeout_ms / settings.election_timeout_ms
