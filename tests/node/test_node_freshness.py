"""When a directory without history may speak: every mixture of those who have answered, with and without a history."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from sofadb.node.freshness import is_fresh_safe


def test_alone_there_is_nobody_to_ask() -> None:
    assert is_fresh_safe([], {})


@pytest.mark.parametrize(
    ("histories", "is_safe"),
    [
        ({}, False),
        ({"n1": False}, True),
        ({"n1": True}, False),
        ({"n1": True, "n2": False}, True),
        ({"n1": True, "n2": True}, True),
        ({"n9": False}, False),
    ],
    ids=[
        "nobody has answered",
        "a new cluster, one is missing",
        "an old cluster, one is missing",
        "one has never been used",
        "all answer that they never met it",
        "a stranger",
    ],
)
def test_of_three(histories: dict[str, bool], is_safe: bool) -> None:
    assert is_fresh_safe(["n1", "n2"], histories) is is_safe


@pytest.mark.parametrize("size", range(1, 8))
def test_no_replacement_speaks_while_fewer_directories_than_a_quorum_are_lost_or_were_never_used(
    size: int,
) -> None:
    """Whatever quorum chose something with its help, and whoever of the others answers: those who met it do not count."""
    quorum = size // 2 + 1
    others = [f"n{number}" for number in range(1, size)]
    for helpers in map(set, combinations(others, quorum - 1)):
        for used in product((True, False), repeat=size - quorum):
            bystanders = [other for other in others if other not in helpers]
            has_history = dict.fromkeys(helpers, True) | dict(zip(bystanders, used, strict=True))
            blanks = 1 + sum(not each for each in used)
            for count in range(len(bystanders) + 1):
                for heard in combinations(bystanders, count):
                    histories = {node: has_history[node] for node in heard}
                    if blanks < quorum:
                        assert not is_fresh_safe(others, histories)


def test_where_as_many_as_a_quorum_are_blank_nothing_can_be_told_apart() -> None:
    """n1 was never used, we and n2 chose a value, we are lost and n2 is away: a new cluster looks the same."""
    assert is_fresh_safe(["n1", "n2"], {"n1": False})
