"""Event in, effects performed: the same lines in production and in the laboratory.

A `Replica` says what is to be done, as data; the `World` does it. Between the two stands only this file. It performs
effects in their order (but first what others wait for), and it performs what stands inside a `Save` when, and only when, the
world says that the save is stable. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sofadb.paxos import (
    Abandon,
    Deliver,
    Event,
    GiveUp,
    Leads,
    Message,
    Moment,
    NodeId,
    Offer,
    Received,
    Record,
    Replica,
    Save,
    Send,
    Serve,
    Teach,
    Tick,
    WakeAt,
)
from sofadb.paxos.effects import in_order
from sofadb.paxos.following import Following
from sofadb.paxos.leading import Leading
from sofadb.unlikely import unlikely


class World(Protocol):
    """The door to disk, network and clock. There are two: `live`, and the laboratory's."""

    def moment(self) -> Moment:
        """What the clocks say, and a fresh random number."""

    def send(self, to: NodeId, message: Message) -> None:
        """Let a message leave for another node; it may be lost."""

    def save(self, records: tuple[Record, ...], done: Callable[[], None]) -> None:
        """Make records stable after all records before them, then call `done`: later, never from within this call.

        If it fails, `done` is never called.
        """

    def wake_at(self, time: float) -> None:
        """Have `Driver.tick` called at this time (milliseconds of `Moment.now`), or soon after."""

    def teach(self, teach: Teach) -> None:
        """Read chosen values back from stable storage and send them."""

    def offer(self, offer: Offer) -> None:
        """Tell another node of our snapshot, which it needs."""

    def give_up(self, give_up: GiveUp) -> None:
        """Stable storage need not hold any more what lies up to there."""


class Machine(Protocol):
    """The state machine and those who wait for it."""

    def deliver(self, deliver: Deliver) -> None:
        """Apply what was chosen."""

    def serve(self, serve: Serve) -> None:
        """Answer these reads now."""

    def abandon(self, abandon: Abandon) -> None:
        """Tell these clients that there is nothing to wait for."""

    def leads(self, leads: Leads) -> None:
        """Somebody leads who did not."""


class Driver:
    """Drives one replica in one world."""

    def __init__(self, replica: Replica, world: World, machine: Machine) -> None:
        self.replica = replica
        self.world = world
        self._perform: dict[type, Callable[[Any], None]] = {
            Send: self._send,
            Save: self._save,
            Deliver: machine.deliver,
            Serve: machine.serve,
            Abandon: machine.abandon,
            Teach: world.teach,
            Offer: world.offer,
            GiveUp: world.give_up,
            WakeAt: self._wake_at,
            Leads: machine.leads,
        }

    def handle(self, event: Event) -> None:
        """Let one event happen."""
        perform, replica = self._perform, self.replica
        effects = replica.step(event, self.world.moment())
        for effect in in_order(effects) if replica.delivers else effects:
            perform[type(effect)](effect)

    def tick(self) -> None:
        """It is time to look at the clock."""
        phase = self.replica.phase
        if isinstance(phase, Leading) and unlikely("step down"):
            self.replica.become_following(None)
        if isinstance(phase, Following) and unlikely("early timeout"):
            phase.heard_at = phase.deadline = float("-inf")
        self.handle(Tick())
        if unlikely("look at the clock"):
            self.handle(Tick())

    def _send(self, send: Send) -> None:
        if send.to == self.replica.me:
            self.handle(Received(send.to, send.message))
        else:
            self.world.send(send.to, send.message)

    def _save(self, save: Save) -> None:
        def saved() -> None:
            for effect in save.then:
                self._perform[type(effect)](effect)

        self.world.save(save.records, saved)

    def _wake_at(self, wake: WakeAt) -> None:
        self.world.wake_at(wake.time)
