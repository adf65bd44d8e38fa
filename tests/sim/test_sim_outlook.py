"""What is left when nodes are lost: the core says the same as a majority counted by hand."""

from __future__ import annotations

import pytest

from sofadb.sim.outlook import failures, outcome


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_those_who_are_left_serve_exactly_if_they_are_a_majority(count: int) -> None:
    voters = tuple(f"n{number}" for number in range(1, count + 1))
    members = (*voters, "z")
    for lost in failures(members):
        found = outcome(voters, ("z",), lost=lost)
        left = [node for node in members if node not in lost]
        votes = sum(node in voters for node in left)
        assert (found.votes, found.needed) == (votes, count // 2 + 1)
        assert found.serving == (tuple(left) if 2 * votes > count else ()), lost


def test_who_is_away_already_counts_as_lost() -> None:
    five = ("n1", "n2", "n3", "n4", "n5")
    assert outcome(five, (), {"n4", "n5"}, ()).serving == ("n1", "n2", "n3")
    assert outcome(five, (), {"n4", "n5"}, ("n4",)).serving == ("n1", "n2", "n3")
    assert outcome(five, (), {"n4", "n5"}, ("n1",)).serving == ()
