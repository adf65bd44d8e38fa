"""What was removed is given back step by step, while there is something to give back."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from sofadb.database.database import Database
from sofadb.node.node import Node
from sofadb.node.tidying import STEP_ELEMENTS, Tidier


class Timers:
    """What is to be called later, and is not."""

    def __init__(self) -> None:
        self.due: list[Any] = []

    def call_later(self, delay_s: float, callback: Callable[[], Any]) -> Any:
        assert delay_s > 0, "others have their turn"
        timer = SimpleNamespace(callback=callback, cancel=lambda: self.due.remove(timer))
        self.due.append(timer)
        return timer

    def fire(self) -> None:
        (timer,) = self.due
        self.due.clear()
        timer.callback()


def filled(keys: int) -> Database:
    database = Database()
    database.begin(1, 1)
    for number in range(keys):
        database.keyspaces[0].set(b"%d" % number, b"x")
    return database


def test_steps_are_made_until_nothing_is_left() -> None:
    database, timers = filled(3 * STEP_ELEMENTS), Timers()
    tidier = Tidier(cast(Node, SimpleNamespace(database=database)), timers.call_later)
    tidier.look()
    assert not timers.due, "there is nothing to tidy"
    database.keyspaces[0].clear()
    tidier.look()
    tidier.look()
    assert len(timers.due) == 1
    steps = 0
    while timers.due:
        timers.fire()
        steps += 1
    assert steps > 5
    assert not database.is_untidy


def test_what_is_left_when_the_node_stops_is_left() -> None:
    database, timers = filled(3 * STEP_ELEMENTS), Timers()
    tidier = Tidier(cast(Node, SimpleNamespace(database=database)), timers.call_later)
    tidier.stop()
    database.keyspaces[0].clear()
    tidier.look()
    timers.fire()
    tidier.stop()
    assert not timers.due
    assert database.is_untidy


def test_a_database_that_another_has_taken_the_place_of_is_given_back() -> None:
    old, new = filled(3_000), filled(1)
    values = old.keyspaces[0].values
    new.take_over(old)
    while new.tidy(STEP_ELEMENTS):
        pass
    assert not values
    assert len(new.keyspaces[0].values) == 1


def test_but_not_while_an_image_of_it_is_taken() -> None:
    old, new = filled(3_000), filled(1)
    image = old.image()
    new.take_over(old)
    while new.tidy(STEP_ELEMENTS):
        pass
    assert len(list(image.pieces())) > 5
