"""What is wanted of members, and the way there, a change at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofadb.database.replies import ReplyError
from sofadb.database.rolling import Rolling
from sofadb.database.roster import MEMBERS_MAX, Roster, plain_name

NOBODY: frozenset[str] = frozenset()


class Way:
    """A roster and the configuration that is brought to what it wants."""

    def __init__(self, *names: str) -> None:
        self.roster = Roster(Rolling(), {name: f"{name}:1" for name in names})
        self.voters, self.learners = frozenset(names), NOBODY

    def step(self, *able: str) -> None:
        """The next change is chosen, if there is one."""
        changed = self.roster.next_step(self.voters, self.learners, frozenset(able))
        if changed != (self.voters, self.learners):
            self.voters, self.learners = changed
            self.roster.settle(*changed)

    def arrive(self, acceptor: str) -> None:
        name = plain_name(acceptor)
        self.roster.arrive(acceptor, f"{name}:1", f"{name}:2", 1)

    def is_(self, voters: str, learners: str = "") -> bool:
        return (self.voters, self.learners) == (frozenset(voters.split()), frozenset(learners.split()))


def test_who_is_added_learns_first_and_votes_when_it_has_learned_everything() -> None:
    way = Way("n1", "n2", "n3")
    way.roster.add("n4", "n4:1", is_voter=True)
    way.step()
    assert way.is_("n1 n2 n3"), "it has not arrived"
    way.arrive("n4~0a0b0c0d")
    way.step("n4~0a0b0c0d")
    assert way.is_("n1 n2 n3", "n4~0a0b0c0d"), "first it learns"
    way.step()
    assert way.is_("n1 n2 n3", "n4~0a0b0c0d")
    way.step("n4~0a0b0c0d")
    assert way.is_("n1 n2 n3 n4~0a0b0c0d")


def test_a_learner_stays_one_until_it_is_promoted() -> None:
    way = Way("n1")
    way.roster.add("n2", "n2:1", is_voter=False)
    way.arrive("n2")
    way.step("n2")
    way.step("n2")
    assert way.is_("n1", "n2")
    way.roster.promote("n2")
    way.step("n2")
    assert way.is_("n1 n2")
    with pytest.raises(ReplyError, match="n2 votes"):
        way.roster.promote("n2")


def test_who_replaces_another_takes_its_part_in_one_step() -> None:
    way = Way("n1", "n2", "n3")
    way.roster.replace("n1", "n4", "n4:1")
    way.arrive("n4")
    way.step("n4")
    assert way.is_("n1 n2 n3", "n4")
    way.step("n4")
    assert way.is_("n2 n3 n4")
    assert sorted(way.roster.members) == ["n2", "n3", "n4"]


def test_a_node_that_lost_its_directory_takes_the_place_of_its_former_self() -> None:
    way = Way("n1", "n2", "n3")
    way.arrive("n3~00000001")
    way.step("n3~00000001")
    assert way.is_("n1 n2 n3", "n3~00000001")
    # And once more before it has come so far.
    way.arrive("n3~00000002")
    way.step("n3~00000001")
    assert way.is_("n1 n2 n3", "n3~00000002")
    way.step("n3~00000002")
    assert way.is_("n1 n2 n3~00000002")


def test_a_former_self_that_got_its_vote_when_it_was_lost_already_is_replaced_too() -> None:
    way = Way("n1", "n2", "n3")
    way.arrive("n3~00000001")
    way.step("n3~00000001")
    change = way.roster.next_step(way.voters, way.learners, frozenset({"n3~00000001"}))
    way.arrive("n3~00000002")
    way.voters, way.learners = change
    way.roster.settle(*change)
    assert way.is_("n1 n2 n3~00000001")
    way.step()
    assert way.is_("n1 n2 n3~00000001", "n3~00000002")
    way.step("n3~00000002")
    assert way.is_("n1 n2 n3~00000002")


def test_who_is_to_leave_is_struck_off_when_it_has_left() -> None:
    way = Way("n1", "n2", "n3")
    way.roster.add("n4", "n4:1", is_voter=True)
    way.arrive("n4")
    way.step("n4")
    way.step("n4")
    way.roster.remove("n1", force=False)
    assert "n1" in way.roster.members
    way.step()
    assert way.is_("n2 n3 n4")
    assert "n1" not in way.roster.members
    way.roster.add("n1", "n1:1", is_voter=True)
    way.arrive("n1~0000000a")
    way.step()
    way.step("n1~0000000a")
    assert way.is_("n1~0000000a n2 n3 n4")


def test_what_would_survive_less_than_now_is_refused_unless_it_is_forced() -> None:
    way = Way("n1", "n2", "n3")
    with pytest.raises(ReplyError, match="survives the loss of 1"):
        way.roster.remove("n3", force=False)
    way.roster.add("n4", "n4:1", is_voter=True)
    with pytest.raises(ReplyError, match="survives the loss of 1"):
        way.roster.remove("n3", force=False)
    way.roster.remove("n3", force=True)
    way.step()
    assert way.is_("n1 n2")
    with pytest.raises(ReplyError, match="is no member"):
        way.roster.remove("n3", force=True)
    way.roster.remove("n2", force=False)
    way.step()
    with pytest.raises(ReplyError, match="the last one"):
        way.roster.remove("n1", force=True)


def test_when_the_successor_is_taken_back_the_old_one_stays() -> None:
    way = Way("n1", "n2", "n3")
    way.roster.replace("n1", "n4", "n4:1")
    way.arrive("n4")
    way.step()
    with pytest.raises(ReplyError, match="leaving already"):
        way.roster.remove("n1", force=True)
    way.roster.remove("n4", force=False)
    way.step("n4")
    way.step("n4")
    assert way.is_("n1 n2 n3")
    assert sorted(way.roster.members) == ["n1", "n2", "n3"]


def test_what_cannot_be_is_refused_and_changes_nothing() -> None:
    roster = Roster(Rolling(), {"n1": "h:1"})
    before = roster.pack()
    for ask in (
        lambda: roster.add("n1", "h:2", is_voter=True),
        lambda: roster.add("n2", "h:1", is_voter=True),
        lambda: roster.add("n 2", "h:2", is_voter=True),
        lambda: roster.add("n2", "h", is_voter=True),
        lambda: roster.replace("n1", "n2", "h"),
        lambda: roster.replace("n9", "n2", "h:2"),
        lambda: roster.promote("n9"),
        lambda: roster.arrive("n9", "h:2", "h:3", 1),
        lambda: roster.arrive("n1~x", "h:2", "h:3", 1),
        lambda: roster.arrive("n1", "h:2", "h", 1),
        lambda: roster.arrive("n1", "h:2", "h:3", 0),
    ):
        with pytest.raises(ReplyError):
            ask()
        assert roster.pack() == before
    for number in range(2, MEMBERS_MAX + 1):
        roster.add(f"n{number}", f"h:{number}", is_voter=True)
    with pytest.raises(ReplyError, match="as many as may be"):
        roster.add("more", "h:99", is_voter=True)


def test_a_node_that_moves_is_followed_without_a_change_of_who_votes() -> None:
    way = Way("n1", "n2", "n3")
    way.roster.arrive("n2", "elsewhere:1", "elsewhere:2", 1)
    assert way.roster.members["n2"].peer_address == "elsewhere:1"
    way.step("n1", "n2", "n3")
    assert way.is_("n1 n2 n3")


def test_a_roster_becomes_bytes_and_is_the_same_again() -> None:
    roster = Roster(Rolling(), {"n1": "h:1", "n2": "h:2"})
    roster.replace("n1", "n3", "h:3")
    roster.arrive("n3~0000000a", "h:3", "h:33", 1)
    again = Roster(Rolling())
    assert again.pack() == b""
    again.unpack(roster.pack())
    assert (again.members, again.voters) == (roster.members, roster.voters)
    for data in (
        b"",
        b"1",
        b"[[],1,1]",
        b"[[{}],[],1]",
        b"[[],[],1] ",
        b'[[{"name":1}],[],1]',
        roster.pack()[:-1],
    ):
        with pytest.raises(ValueError, match=r".") as problem:
            again.unpack(data)
        assert type(problem.value).__name__ in ("ValueError", "JSONDecodeError")


def test_the_cluster_rises_to_a_level_when_the_last_member_knows_it_and_never_falls() -> None:
    roster = Roster(Rolling(), {"n1": "h:1", "n2": "h:2"})
    roster.arrive("n1", "h:1", "h:11", 3)
    assert roster.level == 1
    roster.add("n3", "h:3", is_voter=True)
    roster.arrive("n2", "h:2", "h:22", 2)
    assert roster.level == 2, "who has not arrived does not count"
    with pytest.raises(ReplyError, match="at level 2, and n3 knows 1: upgrade it"):
        roster.arrive("n3", "h:3", "h:33", 1)
    roster.arrive("n3", "h:3", "h:33", 3)
    roster.remove("n2", force=True)
    roster.settle(["n1", "n3"], [])
    assert roster.level == 3
    again = Roster(Rolling())
    again.unpack(roster.pack())
    assert again.level == 3


def test_each_change_is_rolled_into_the_digest() -> None:
    rolling = Rolling()
    roster = Roster(rolling, {"n1": "h:1", "n2": "h:2", "n3": "h:3"})
    seen = {rolling.crc}
    for change in (
        lambda: roster.add("n4", "h:4", is_voter=False),
        lambda: roster.arrive("n4", "h:4", "h:44", 1),
        lambda: roster.promote("n4"),
        lambda: roster.replace("n1", "n5", "h:5"),
        lambda: roster.remove("n5", force=False),
        lambda: roster.settle(["n1", "n2", "n3", "n4"], []),
    ):
        change()
        assert rolling.crc not in seen
        seen.add(rolling.crc)


def test_who_lost_its_directory_and_then_did_not_come_back_can_be_removed() -> None:
    way = Way("n1", "n2", "n3", "n4")
    way.arrive("n3~0a0b0c0d")  # n3's disk was lost, a new directory arrived ...
    way.step("n1", "n2", "n4")  # ... learns ...
    assert way.is_("n1 n2 n3 n4", "n3~0a0b0c0d")
    way.roster.remove("n3", force=True)  # ... and the machine is gone for good.
    for _ in range(5):
        way.step("n1", "n2", "n4")
    assert way.is_("n1 n2 n4")


def test_who_lost_its_directory_and_then_did_not_come_back_can_be_replaced() -> None:
    way = Way("n1", "n2", "n3")
    way.arrive("n3~0a0b0c0d")
    way.step("n1", "n2")
    way.roster.replace("n3", "n4", "n4:1")
    way.arrive("n4~0a0b0c0d")
    for _ in range(5):
        way.step("n1", "n2", "n4~0a0b0c0d")
    assert way.is_("n1 n2 n4~0a0b0c0d")


def test_who_was_asked_to_leave_before_its_new_directory_could_vote_leaves_though_that_is_there() -> None:
    way = Way("n1", "n2", "n3", "n4")
    way.roster.remove("n3", force=True)
    way.arrive(
        "n3~0a0b0c0d"
    )  # asked to leave, no change was possible yet, and it comes with an empty directory
    for _ in range(5):
        way.step("n1", "n2", "n4", "n3~0a0b0c0d")
    assert way.is_("n1 n2 n4")


def test_a_learner_that_is_removed_before_the_first_change_is_forgotten() -> None:
    way = Way("n1", "n2", "n3")
    way.roster.add("n4", "n4:1", is_voter=True)
    way.arrive("n4~0a0b0c0d")
    way.roster.remove("n4", force=False)
    for _ in range(5):
        way.step("n1", "n2", "n3", "n4~0a0b0c0d")
    way.roster.add("n4", "n4:1", is_voter=True)


@given(st.data())
def test_whatever_is_asked_for_there_are_voters_and_in_the_end_it_is_as_it_is_wanted(
    data: st.DataObject,
) -> None:
    way = Way("n1", "n2", "n3")
    names = ["n1", "n2", "n3", "n4", "n5"]
    for number in range(data.draw(st.integers(0, 12))):
        name, other = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
        what = data.draw(st.sampled_from(["add", "remove", "replace", "promote", "arrive", "step"]))
        try:
            if what == "add":
                way.roster.add(name, f"{name}:1", data.draw(st.booleans()))
            elif what == "remove":
                way.roster.remove(name, force=True)
            elif what == "replace":
                way.roster.replace(other, name, f"{name}:1")
            elif what == "promote":
                way.roster.promote(name)
            elif what == "arrive":
                way.arrive(f"{name}~{number:08x}")
            else:
                way.step(*data.draw(st.sets(st.sampled_from(sorted(way.voters | way.learners)))))
        except ReplyError:
            pass
        assert way.voters
    for _ in range(12):
        way.step(*way.voters, *way.learners)
    members = way.roster.members.values()
    arrived = {each.acceptor for each in members if each.acceptor and not each.is_leaving}
    assert {
        each.acceptor for each in members if each.acceptor and each.is_voter and not each.is_leaving
    } <= way.voters
    assert arrived <= way.voters | way.learners
    assert all(plain_name(id_) in way.roster.members for id_ in way.voters | way.learners)
