"""Effects are performed in their order, and what rests on stable storage waits for it; all around is fake."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from sofadb.node.driver import Driver
from sofadb.paxos import (
    Abandon,
    Ballot,
    Deliver,
    Effect,
    Event,
    Instance,
    Leads,
    Message,
    Moment,
    NodeId,
    Received,
    Record,
    Replica,
    Save,
    Send,
    Serve,
    Submit,
    Teach,
    Tick,
    WakeAt,
)
from sofadb.paxos.messages import Ask
from sofadb.paxos.records import Promised

ONE, TWO, THREE = (Ask(Instance(number)) for number in (1, 2, 3))
RECORDS = (Promised(Ballot(1, "n1")),)


class FakeReplica:
    """Replica n1, which answers each event with the effects that the test has prepared for it."""

    me = "n1"
    delivers = False

    def __init__(self, effects: dict[Event, list[Effect]]) -> None:
        self.effects = effects
        self.steps: list[tuple[Event, Moment]] = []

    def step(self, event: Event, moment: Moment) -> list[Effect]:
        self.steps.append((event, moment))
        return self.effects.get(event, [])

    @property
    def events(self) -> list[Event]:
        return [event for event, _ in self.steps]


class Performed:
    """A world and a machine that only remember; stable storage takes until `become_stable`."""

    def __init__(self) -> None:
        self.all: list[object] = []
        self.saving: list[Callable[[], None]] = []
        self.deliver = self.serve = self.abandon = self.leads = self.all.append
        self.teach = self.offer = self.give_up = self.all.append
        self.now = 0.0

    def moment(self) -> Moment:
        self.now += 1
        return Moment(self.now, 0, 0.5)

    def send(self, to: NodeId, message: Message) -> None:
        self.all.append((to, message))

    def save(self, records: tuple[Record, ...], done: Callable[[], None]) -> None:
        self.all.append(records)
        self.saving.append(done)

    def wake_at(self, time: float) -> None:
        self.all.append(time)

    def become_stable(self) -> None:
        """The oldest save is."""
        self.saving.pop(0)()


def drive(effects: dict[Event, list[Effect]]) -> tuple[Driver, FakeReplica, Performed]:
    replica, performed = FakeReplica(effects), Performed()
    return Driver(cast(Replica, replica), performed, performed), replica, performed


def test_effects_are_performed_in_their_order() -> None:
    deliver, serve = Deliver(Instance(1), 0, ()), Serve((1,), 0)
    abandon, teach = Abandon((2,), certain=True), Teach("n3", Instance(1), Instance(2))
    leads = Leads(Ballot(1, "n1"))
    effects: list[Effect] = [
        *(Send("n2", ONE), Save(RECORDS, ()), deliver, Send("n3", ONE)),
        *(serve, abandon, leads, teach, WakeAt(7.0), Send("n2", TWO)),
    ]
    driver, _, performed = drive({Tick(): effects})
    driver.handle(Tick())
    assert performed.all == [
        *(("n2", ONE), RECORDS, deliver, ("n3", ONE)),
        *(serve, abandon, leads, teach, 7.0, ("n2", TWO)),
    ]


def test_what_rests_on_a_save_leaves_only_when_the_world_says_that_it_is_stable() -> None:
    driver, _, performed = drive(
        {Tick(): [Save(RECORDS, (Send("n2", ONE), Send("n3", TWO))), Save((), (Send("n2", THREE),))]}
    )
    driver.handle(Tick())
    assert performed.all == [RECORDS, ()]
    performed.become_stable()
    assert performed.all == [RECORDS, (), ("n2", ONE), ("n3", TWO)]
    performed.become_stable()
    assert performed.all == [RECORDS, (), ("n2", ONE), ("n3", TWO), ("n2", THREE)]


def test_a_message_to_oneself_comes_back_as_an_event_and_its_effects_are_performed() -> None:
    driver, replica, performed = drive(
        {Tick(): [Send("n1", ONE)], Received("n1", ONE): [Send("n2", TWO)]},
    )
    driver.handle(Tick())
    assert replica.events == [Tick(), Received("n1", ONE)]
    assert performed.all == [("n2", TWO)]


def test_ones_own_vote_is_heard_only_when_it_is_stable() -> None:
    driver, replica, performed = drive({Submit(1, b"x"): [Save(RECORDS, (Send("n1", ONE),))]})
    driver.handle(Submit(1, b"x"))
    assert replica.events == [Submit(1, b"x")]
    performed.become_stable()
    assert replica.events == [Submit(1, b"x"), Received("n1", ONE)]
    assert performed.all == [RECORDS], "it did not go over the network"


def test_every_event_is_told_the_moment_in_which_it_is_handled() -> None:
    driver, replica, performed = drive({Tick(): [Save((), (Send("n1", ONE),))]})
    driver.handle(Tick())
    performed.now = 10.0
    performed.become_stable()
    assert [moment.now for _, moment in replica.steps] == [1.0, 11.0]
