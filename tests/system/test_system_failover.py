"""Leaders that are killed, paused, brought back and replaced under nine clients: a pause for these, no error, one history."""

from __future__ import annotations

import random

import pytest
from trials import Trial

from processes import Cluster


@pytest.fixture
def trial(three: Cluster) -> Trial:
    trial = Trial(three)
    for asker in trial.askers:
        asker.start()
    return trial


def test_leaders_killed_paused_and_brought_back_are_a_pause_to_nine_clients_and_no_error(
    trial: Trial,
) -> None:
    chance = random.Random(4)
    trial.goes_on()
    for _ in range(2):
        trial.kill()
        trial.goes_on()
        trial.pause(chance.uniform(1, 3))
        trial.goes_on()
    trial.judge()


def test_a_planned_change_of_leader_is_noticed_by_nobody(trial: Trial) -> None:
    trial.goes_on()
    for _ in range(4):
        trial.hand_over()
        trial.goes_on()
    trial.judge()
