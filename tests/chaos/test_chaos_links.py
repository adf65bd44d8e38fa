"""What is owed to whom when links are cut."""

from __future__ import annotations

import pytest

from chaos import links

THREE, FIVE = ["a", "b", "c"], ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("nodes", "cut", "leaders", "served"),
    [
        (THREE, links.NOTHING, "abc", "abc"),
        (THREE, links.between("a", "bc"), "bc", "bc"),
        (THREE, frozenset({("a", "b")}), "abc", "c"),
        (THREE, links.all_but(THREE, [("a", "b"), ("b", "c")]), "abc", "b"),
        (THREE, frozenset({("a", "b"), ("b", "c"), ("c", "a")}), "", ""),
        (THREE, links.mask(THREE, 63), "", ""),
        (FIVE, links.between("ab", "cde"), "cde", "cde"),
        (FIVE, links.all_but(FIVE, [("a", each) for each in "bcde"]), "a", "abcde"),
        (FIVE, links.all_but(FIVE, [("a", each) for each in "bcd"]), "a", "abcd"),
        (FIVE, links.all_but(FIVE, ["ab", "bc", "cd", "de"]), "bcd", "c"),
        (FIVE, links.all_but(FIVE, ["ab", "bc", "cd", "de", "ea"]), "abcde", ""),
    ],
)
def test_who_can_lead_and_who_is_served(nodes: list[str], cut: links.Cut, leaders: str, served: str) -> None:
    assert links.can_lead(nodes, cut) == list(leaders)
    assert links.served(nodes, cut) == list(served)


def test_masks_of_three_nodes_are_all_64_cuts_and_27_leave_nobody_who_could_lead() -> None:
    cuts = [links.mask(THREE, number) for number in range(64)]
    assert len(set(cuts)) == 64
    # A link is open both ways in one of four cases, so none is in 3 * 3 * 3 of all.
    assert sum(not links.can_lead(THREE, cut) for cut in cuts) == 27
