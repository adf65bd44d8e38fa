"""Many clients of one node ask the same at the same time: what is put together for speed keeps everybody in order."""

from __future__ import annotations

import random

import pytest

from sim.stories import Stage, Talk, is_error
from sofadb.server.connection import Connection
from sofadb.server.short_way import Crowd

CLIENTS = 30
STEPS = 400
LATENCY_S = 0.0005
"""Always the same, so that what many send at the same time comes at the same time."""


class Register:
    """A key that only one client writes: numbers that grow."""

    def __init__(self, number: int) -> None:
        self.key = f"k{number:02}"
        self.asked = self.known = 0
        """The last number that its client had put, and the last of which it was told so."""


class Client:
    """Writes its own register and reads those of all, one piece after the other."""

    def __init__(
        self, talk: Talk, register: Register, registers: list[Register], chance: random.Random
    ) -> None:
        self.talk = talk
        self.register = register
        self.registers = registers
        self.chance = chance
        self.wanted: list[tuple[Register, int] | None] = []
        """For each reply that is awaited: of what register, and the least number that it may tell; None for a write."""

    def go_on(self) -> None:
        """Look at what came, and ask for something else."""
        if not self.talk.is_answered:
            return
        for reply, wanted in zip(
            self.talk.replies[len(self.talk.replies) - len(self.wanted) :], self.wanted, strict=True
        ):
            if wanted is None:
                assert reply == "OK" or is_error(reply, "UNCERTAIN", "NOREPLICAS"), reply
                if reply == "OK":
                    self.register.known = self.register.asked
            elif not is_error(reply):
                register, least = wanted
                assert least <= int(reply or 0) <= register.asked
        what = self.chance.random()
        if what < 0.4:
            self.register.asked += 1
            self.wanted = [None]
            self.talk.say(("SET", self.register.key, f"{self.register.asked:06}"))
        elif what < 0.8:
            self._read(self.chance.choice(self.registers))
        else:  # As long as each other, with the same beginning, and cut in different places.
            register = self.chance.choice(self.registers)
            nothing = Register(0)
            rest = self.chance.choice([("x01", "x02"), ("x1", "x002")])
            self.wanted = [(register, register.known), (nothing, 0), (nothing, 0)]
            self.talk.say(("GET", register.key), *(("GET", key) for key in rest))

    def _read(self, register: Register) -> None:
        self.wanted = [(register, register.known)]
        self.talk.say(("GET", register.key))


@pytest.mark.parametrize("at", ["the leader", "a follower"])
@pytest.mark.parametrize("meanwhile", ["nothing", "another leads"])
def test_what_many_ask_alike_is_answered_to_each_in_order_and_fresh(
    at: str, meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[int] = []
    look_alikes: list[Connection] = []
    close, take_again = Crowd.close, Connection.take_again

    def counted_close(crowd: Crowd) -> None:
        joined.extend([len(crowd.connections)] * (crowd.columns is None))
        close(crowd)

    def counted_take_again(connection: Connection, crowd: Crowd, data: bytes) -> None:
        look_alikes.append(connection)
        take_again(connection, crowd, data)

    monkeypatch.setattr(Crowd, "close", counted_close)
    monkeypatch.setattr(Connection, "take_again", counted_take_again)
    chance = random.Random(f"{at} {meanwhile}")
    with Stage(latency_s=(LATENCY_S, LATENCY_S)) as stage:
        asked = stage.leader if at == "the leader" else stage.others(stage.leader)[0]
        registers = [Register(number) for number in range(CLIENTS)]
        clients = [Client(stage.connect(asked), register, registers, chance) for register in registers]
        for step in range(STEPS):
            for client in clients:
                client.go_on()
            stage.pass_time(chance.choice([0.0003, 0.001, 0.004]))
            if meanwhile == "another leads" and step in (STEPS // 3, 2 * STEPS // 3):
                leader = stage.leader
                if leader == asked:
                    stage.ask(leader, "FAILOVER")
                else:
                    stage.cluster.kill(leader)
                    stage.pass_time(2.0)
                    stage.start(leader)
        stage.until(lambda: all(client.talk.is_answered for client in clients))
        for client in clients:
            client.go_on()
            client.talk.hear()
        stage.assert_one_state()
    assert sum(count > 4 for count in joined) > 20
    assert len(look_alikes) > 5
