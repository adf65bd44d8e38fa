"""Time is moved (a key falls due) by a leader that has no promises of those who vote on the next instance."""

from __future__ import annotations

import pytest

from paxos.cluster import Packet
from paxos.test_paxos_reconfiguration import configuration, leading, led_by_n1
from sofadb.paxos import MoveTime, Reconfigure, Tick
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Accept, Accepted, Ask, Canvass, Learn, Prepare, Promise, Support


def among(packet: Packet, names: str, *kinds: type) -> bool:
    return {packet.sender, packet.to} <= set(names.split()) and isinstance(packet.message, kinds)


@pytest.mark.parametrize("alpha", [1, 2, 5])
def test_time_is_not_moved_where_those_who_vote_have_not_promised(alpha: int) -> None:
    cluster = led_by_n1(alpha, others="n4 n5", in_flight_max=alpha)
    cluster.step("n1", Reconfigure(configuration("n1 n4 n5")))
    for number in range(
        alpha - 1
    ):  # What is left of the old configuration, proposed before the change is chosen.
        cluster.submit("n1", b"%d" % number)
    # n2 and n3 accept all that is theirs, and hear nothing of what comes of it.
    cluster.flow(
        lambda p: (
            among(p, "n1 n2 n3", Accept, Accepted) or among(p, "n1 n4 n5", Accept, Accepted, Prepare, Promise)
        )
    )
    cluster.network.clear()
    token = cluster.submit("n1", b"acknowledged")
    cluster.flow(lambda p: among(p, "n1 n4 n5", Accept, Accepted))
    assert token in cluster.nodes["n1"].done
    cluster.check_chosen()
    cluster.network.clear()
    cluster.crash("n1")

    # n2 is elected by n2 and n3; what n4 and n5 are asked, tell and promise is slow.
    def is_swift(packet: Packet) -> bool:
        is_slow = isinstance(packet.message, Prepare | Promise | Canvass | Support | Ask | Learn)
        return not (is_slow and {packet.sender, packet.to} & {"n4", "n5"})

    while not isinstance(cluster.replica("n2").phase, Leading):
        cluster.now += 100
        cluster.step("n2", Tick())
        cluster.flow(is_swift)
    lead = leading(cluster, "n2")
    assert lead.next == lead._limit + 1, "it leads to the end of the old configuration, and waits"
    cluster.step("n2", MoveTime(0))
    cluster.flow(is_swift)
    cluster.check_chosen()
    assert lead.next == lead._limit + 1
