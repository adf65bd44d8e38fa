"""Who votes: nodes without a vote, and a change of the configuration that one leader began and another finished.

Nothing proposes a change yet. Here it comes from where the protocol must be able to take it: an acceptor's disk.
"""

from __future__ import annotations

import pytest

from paxos.cluster import Cluster
from sofadb.paxos import Ballot, Configuration, Instance, Membership, Value
from sofadb.paxos.effects import Deliver, Effect
from sofadb.paxos.following import Following
from sofadb.paxos.messages import Canvass, Prepare
from sofadb.paxos.records import Acceptance

BEFORE = Configuration(("n1", "n2", "n3"))
AFTER = Configuration(("n2", "n3", "n4"), ("n1",))


def cluster_of(configuration: Configuration, names: list[str], **settings: float) -> Cluster:
    """Replicas called `names`, whose first configuration is `configuration`; not started yet."""
    cluster = Cluster(names, **settings)
    for name in names:
        cluster.crash(name)
        cluster.nodes[name].disk = []
    cluster.network = []
    cluster.configuration = configuration
    return cluster


def test_a_node_without_a_vote_never_asks_for_the_lead_and_learns_all_the_same() -> None:
    """n3 has no vote. The two that have one fall silent for a minute; n3 waits, and neither canvasses nor raises a ballot.

    When they are back it is told what is chosen, and its clients are served.
    """
    cluster = cluster_of(Configuration(("n1", "n2"), ("n3",)), ["n1", "n2", "n3"])
    cluster.start("n3")
    sent: list[object] = []
    send = cluster.send
    cluster.send = lambda sender, effect: sent.append(effect.message)  # type: ignore[method-assign]
    cluster.advance(60_000)
    assert not [message for message in sent if isinstance(message, Canvass | Prepare)]
    assert isinstance(cluster.replica("n3").phase, Following)
    cluster.send = send  # type: ignore[method-assign]
    cluster.start("n1")
    cluster.start("n2")
    cluster.elect()
    assert cluster.leader != "n3"
    token = cluster.submit("n3", b"asked by one without a vote")
    cluster.advance(500)
    assert token in cluster.nodes["n3"].done


@pytest.mark.parametrize("alpha", [1, 2, 5])
def test_a_change_that_a_dead_leader_began_is_finished_by_the_next_and_holds_alpha_instances_later(
    alpha: int,
) -> None:
    """A leader proposed to put n4 in the place of n1, reached n2 alone, and was never seen again.

    The next leader finds the change and gets it chosen. From alpha instances on n4 votes and n1 does not: with n1 and n2 gone,
    n3 and n4 are a majority of the new configuration, and n3 alone would be none of the old one.
    """
    cluster = cluster_of(BEFORE, ["n1", "n2", "n3", "n4"], alpha=alpha, in_flight_max=1)
    change = Value(1, configuration=AFTER)
    cluster.nodes["n2"].disk = [Acceptance(Instance(1), Ballot(1, "n9"), change)]
    changes: list[tuple[str, Instance, Configuration]] = []
    perform = cluster.perform

    def watch(node: object, effect: Effect, is_saved: bool = False) -> None:
        if isinstance(effect, Deliver) and effect.configuration is not None:
            changes.append((node.name, effect.instance, effect.configuration))  # type: ignore[attr-defined]
        perform(node, effect, is_saved)  # type: ignore[arg-type]

    cluster.perform = watch  # type: ignore[method-assign]
    cluster.start("n2")
    cluster.start("n3")
    cluster.advance(2_000)
    assert cluster.replica("n2").membership.table[-1] == (Instance(1 + alpha), AFTER)
    for number in range(2 * alpha):
        cluster.submit("n3", b"%d" % number)
        cluster.advance(100)
    cluster.start("n4")
    cluster.start("n1")
    cluster.advance(3_000)
    # Everybody is told, as part of the sequence: the same change in the same place.
    assert sorted(changes) == [(name, Instance(1), AFTER) for name in ("n1", "n2", "n3", "n4")]
    for number in range(alpha + 1):
        cluster.submit("n3", b"more %d" % number)
        cluster.advance(200)
    for name in cluster.nodes:
        membership = cluster.replica(name).membership
        assert membership.window(cluster.replica(name).sequence.watermark) == (AFTER,)
        # What holds for nothing any more is dropped.
        assert membership.table == [(Instance(1 + alpha), AFTER)]
    cluster.crash("n1")
    cluster.crash("n2")
    token = cluster.submit("n4", b"chosen by n3 and n4")
    cluster.advance(3_000)
    assert token in cluster.nodes["n4"].done
    # And the other way round: n1, which has no vote any more, and n2 are none.
    for name in ("n3", "n4"):
        cluster.crash(name)
    for name in ("n1", "n2"):
        cluster.start(name)
    cluster.advance(3_000)
    assert cluster.leader is None


def test_the_instances_up_to_alpha_after_a_change_still_belong_to_the_old_configuration() -> None:
    """A change is chosen as instance 10. With an alpha of 3 it says who votes on 13, and on none before; the window has both."""
    membership = Membership(BEFORE, alpha=3)
    membership.change(Instance(10), AFTER)
    assert [membership.at(Instance(i)) for i in (10, 11, 12, 13, 14)] == [BEFORE] * 3 + [AFTER] * 2
    assert membership.window(Instance(10)) == (BEFORE, AFTER)
    assert membership.members() == ("n1", "n2", "n3", "n4")
    membership.forget(Instance(11))
    assert membership.at(Instance(12)) == BEFORE, "it still holds for one instance"
    membership.forget(Instance(12))
    assert membership.window(Instance(12)) == (AFTER,)
    assert membership.has_a_say("n1"), "it voted on the last instance that was chosen"
    membership.forget(Instance(13))
    assert not membership.has_a_say("n1")
    assert membership.is_member("n1"), "it learns"


def test_who_voted_on_what_is_settled_is_not_made_up() -> None:
    """Everything up to 13 is settled and the old configuration forgotten. Asked for it, nobody gets today's instead."""
    membership = Membership(BEFORE, alpha=3)
    membership.change(Instance(10), AFTER)
    membership.forget(Instance(13))
    with pytest.raises(AssertionError, match="behind the cut"):
        membership.at(Instance(12))


def test_a_change_that_comes_twice_is_the_end() -> None:
    membership = Membership(BEFORE, alpha=3)
    membership.change(Instance(10), AFTER)
    with pytest.raises(AssertionError, match="each once"):
        membership.change(Instance(10), AFTER)
