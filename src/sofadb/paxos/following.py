"""Following: the phase of a replica that does not lead and does not try to.

It hears the leader, or waits for one. When it has heard none for its election timeout it does not raise its ballot at
once: first it asks the others whether they too have lost the leader, and only with a quorum of them behind it does it
campaign (rule P6). A node that comes back from a pause, or whose link to the leader alone is cut, finds no support and
disturbs nobody. Asking changes nothing durable anywhere. Section 2.4 leaves the election to timeouts and chance: safety
does not depend on it.

Who hears no leader also asks one of the others for what it may lack. While it was away the membership may have changed, and
whoever leads now be nobody that it would listen to, as far as it knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ballot import NO_BALLOT, Ballot, NodeId
from .effects import Send
from .messages import Canvass, Support

if TYPE_CHECKING:
    from .replica import Replica


CANVASSED_MAX = 100
"""So many unanswered questions are remembered."""


class Following:
    """Hears a leader, or waits for one. `seen` is the highest ballot heard of: what a candidate has to beat."""

    name = "following"

    def __init__(
        self, replica: Replica, leader: Ballot | None, seen: Ballot = NO_BALLOT, heard: bool = True
    ) -> None:
        self.replica = replica
        self.leader = leader
        """The ballot under which somebody is known to lead."""
        self.seen = seen
        timeout = replica.pace.timeout_ms
        self.heard_at = replica.moment.now if heard else replica.moment.now - timeout
        self.deadline = 0.0
        self.supporters: set[NodeId] = set()
        self.attempt = 0
        """The canvass that runs, or 0."""
        self._has_slept = False
        """Whether it has slept since it heard anything."""
        self._canvassed: dict[tuple[int, NodeId], float] = {}
        """Whom we have asked in which attempt, and when (monotonic milliseconds), if there was no answer yet."""
        self._wait()

    def _wait(self) -> None:
        """Wait for a leader again, for a time that chance makes different on each node."""
        timeout = self.replica.pace.timeout_ms
        self.deadline = self.heard_at + timeout * (1 + self.replica.moment.chance)
        self.attempt = 0
        self.supporters = set()

    def stand_back(self) -> None:
        """Let all others try first. Our disk hangs, and a new ballot, which needs it, would only be in their way."""
        self.deadline += 2 * self.replica.pace.timeout_ms

    def hear(self) -> None:
        """The leader (or a candidate that we promised) has just been heard: whatever canvass runs is void."""
        self.heard_at = self.replica.moment.now
        self._has_slept = False
        self.attempt = 0
        if self.deadline > self.heard_at + 2 * self.replica.pace.timeout_ms:
            self._wait()  # the timeout was longer when the deadline was set

    def slept(self, since: float) -> None:
        """This process did nothing since then (monotonic milliseconds), and heard nobody: what was said waits to be read.

        So the leader has its time once more, and some more. (But not again if it stays silent: where everything is late, it may
        be dead all the same.)
        """
        if self.leader is not None and not self._has_slept:
            self.hear()
            self.heard_at += self.replica.pace.after_sleep_ms(self.replica.moment.now - since)
            self._wait()
            self._has_slept = True

    def _has_lost_leader(self) -> bool:
        """Whether it has been silent for too long. Who asks around goes on, though the answers show that all is slower here."""
        replica = self.replica
        return bool(self.attempt) or replica.moment.now - self.heard_at >= replica.pace.timeout_ms

    def on_tick(self) -> None:
        """Ask around if the leader has been silent for too long."""
        replica = self.replica
        now = replica.moment.now
        if now < self.deadline:
            return
        if not self._has_lost_leader():
            self._wait()
            return
        replica.seek()
        if replica.is_in_doubt or not replica.membership.has_a_say(replica.me):
            self.deadline = now + replica.pace.timeout_ms
            return
        self.leader = None
        self.attempt = replica.new_attempt()
        self.supporters = {replica.me}
        self.deadline = now + replica.pace.timeout_ms * (1 + replica.moment.chance) / 2
        for node in replica.others():
            self._canvassed[self.attempt, node] = now
            replica.emit(Send(node, Canvass(self.attempt, replica.sequence.watermark)))
        while len(self._canvassed) > CANVASSED_MAX:
            del self._canvassed[next(iter(self._canvassed))]
        self._maybe_campaign()

    def on_canvass(self, sender: NodeId, canvass: Canvass) -> None:
        """Support whoever asks, unless we still hear a leader ourselves. Nothing durable changes."""
        if self._has_lost_leader():
            replica = self.replica
            replica.emit(Send(sender, Support(canvass.attempt, max(self.seen, replica.acceptor.promised))))

    def on_support(self, sender: NodeId, support: Support) -> None:
        """One more has lost the leader. If it says so too late for this canvass, the next will have more patience (`pace`)."""
        asked_at = self._canvassed.pop((support.attempt, sender), None)
        if asked_at is not None:
            self.replica.measured(sender, self.replica.moment.now - asked_at)
        if not self.attempt or support.attempt != self.attempt:
            return
        self.seen = max(self.seen, support.promised)
        self.supporters.add(sender)
        self._maybe_campaign()

    def _maybe_campaign(self) -> None:
        replica = self.replica
        if all(each.is_quorum(self.supporters) for each in replica.window()):
            replica.become_campaigning(self.seen)

    def wake_at(self) -> float:
        """When to look at the clock next (monotonic milliseconds)."""
        return self.deadline
