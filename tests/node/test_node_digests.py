"""Who has diverged, and who cannot tell."""

from __future__ import annotations

from sofadb.node.digests import EVERY, HEARD_MAX, REMEMBERED, DigestBook
from sofadb.node.parcels import Digests
from sofadb.paxos import Configuration

THREE = Configuration(("n1", "n2", "n3"))
FIVE = Configuration(("n1", "n2", "n3", "n4", "n5"))


class Replica:
    """A state whose digest after each of the last instances is known."""

    def __init__(self, name: str = "n1") -> None:
        self.recent: dict[int, int] = {}
        self.book = DigestBook(name, self.recent.get)

    def apply(self, instance: int, digest: int) -> None:
        self.recent[instance] = digest
        self.recent.pop(instance - EVERY, None)
        self.book.applied(instance)


def test_a_quorum_that_says_something_else_is_right() -> None:
    replica = Replica()
    replica.apply(EVERY, 7)
    replica.book.heard("n2", Digests(((EVERY, 8),)))
    assert replica.book.diverged_at(THREE) is None
    assert replica.book.disputed == EVERY, "one against one: nobody can tell"
    replica.book.heard("n3", Digests(((EVERY, 8),)))
    assert replica.book.diverged_at(THREE) == EVERY
    assert replica.book.diverged_at(FIVE) is None


def test_others_who_disagree_with_each_other_are_no_quorum() -> None:
    replica = Replica()
    replica.apply(EVERY, 7)
    replica.book.heard("n2", Digests(((EVERY, 8),)))
    replica.book.heard("n3", Digests(((EVERY, 9),)))
    assert replica.book.diverged_at(THREE) is None
    assert replica.book.disputed == EVERY


def test_a_learner_or_a_stranger_does_not_count() -> None:
    replica = Replica()
    replica.apply(EVERY, 7)
    for stranger in ("n8", "n9"):
        replica.book.heard(stranger, Digests(((EVERY, 8),)))
    assert replica.book.diverged_at(THREE) is None


def test_what_is_heard_too_early_is_compared_when_it_is_applied() -> None:
    replica = Replica()
    for node in ("n2", "n3"):
        replica.book.heard(node, Digests(((5, 1), (EVERY, 8))))
    assert replica.book.diverged_at(THREE) is None
    replica.apply(5, 1)
    assert replica.book.diverged_at(THREE) is None
    replica.apply(EVERY, 7)
    assert replica.book.diverged_at(THREE) == EVERY


def test_what_is_told_is_the_latest_few_and_where_one_stands() -> None:
    replica = Replica()
    for instance in range(1, 10 * EVERY + 4):
        replica.apply(instance, instance + 1)
    told = replica.book.tell(10 * EVERY + 3).pairs
    assert [instance for instance, _ in told] == [7 * EVERY, 8 * EVERY, 9 * EVERY, 10 * EVERY, 10 * EVERY + 3]
    assert all(digest == instance + 1 for instance, digest in told)
    assert Replica().book.tell(0).pairs == ()


def test_what_is_kept_is_bounded() -> None:
    replica = Replica()
    for instance in range(1, 2 * REMEMBERED * EVERY, EVERY // 2):
        replica.apply(instance, 1)
        replica.book.heard("n2", Digests(((10**9 + instance, 1),)))
    assert len(replica.book._own) <= REMEMBERED
    assert len(replica.book._heard) <= HEARD_MAX


def test_after_another_state_was_taken_over_the_old_digests_say_nothing() -> None:
    replica = Replica()
    replica.apply(EVERY, 7)
    replica.recent.clear()
    replica.recent[2 * EVERY] = 9
    replica.book.begin_from(2 * EVERY)
    for node in ("n2", "n3"):
        replica.book.heard(node, Digests(((EVERY, 8), (2 * EVERY, 9))))
    assert replica.book.diverged_at(THREE) is None
