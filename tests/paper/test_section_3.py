"""*Paxos Made Simple*, section 3: the walk-through of a new leader, with the paper's own numbers."""

from __future__ import annotations

from paxos.cluster import Cluster
from sofadb.paxos import Ballot, Entry, Instance, Value
from sofadb.paxos.effects import Send
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Accept
from sofadb.paxos.records import Acceptance, Learned, Record

OLD = Ballot(1, "n3")


def command(number: int) -> Value:
    return Value(number, (Entry("n3", 1, number, b"command %d" % number),))


def known(*instances: int) -> list[Record]:
    return [Learned(Instance(i), command(i)) for i in instances]


def accepted(*instances: int) -> list[Record]:
    return [Acceptance(Instance(i), OLD, command(i)) for i in instances]


def paper() -> Cluster:
    """The new leader n1 knows 1-134, 138 and 139; n2 has accepted 135 and 140 besides; the old leader n3 is gone."""
    cluster = Cluster(["n1", "n2", "n3"])
    for name in cluster.nodes:
        cluster.crash(name)
    cluster.nodes["n1"].disk = known(*range(1, 135), 138, 139)
    cluster.nodes["n2"].disk = known(*range(1, 135)) + accepted(135, 140)
    cluster.start("n1")
    cluster.start("n2")
    return cluster


def test_the_new_leader_of_instances_135_to_140() -> None:
    cluster = paper()
    cluster.submit("n1", b"the client's next command")
    proposed: dict[int, Value] = {}
    perform = cluster.send

    def watch(sender: str, send: Send) -> None:
        if isinstance(send.message, Accept) and sender == "n1":
            proposed[send.message.instance] = send.message.value
        perform(sender, send)

    cluster.send = watch  # type: ignore[method-assign]
    cluster.nodes["n2"].wake_at = float("inf")  # n1's election timeout runs out first.
    cluster.elect()
    assert cluster.leader == "n1"
    cluster.submit("n1", b"and the one after")
    cluster.settle()

    # "135 and 140: the value was determined by the responses to the prepare requests"
    assert proposed[135] == command(135)
    assert proposed[140] == command(140)
    # "it fills the gap by proposing, as commands 136 and 137, a special no-op command"
    assert proposed[136].is_no_op
    assert proposed[137].is_no_op
    # What it knows to be chosen, it does not propose again.
    assert 138 not in proposed
    assert 139 not in proposed
    # "it proposes the next command requested by a client as command 141", and the one after as 142.
    assert [bytes(entry.payload) for entry in proposed[141].entries] == [b"the client's next command"]
    assert [bytes(entry.payload) for entry in proposed[142].entries] == [b"and the one after"]
    for name in ("n1", "n2"):
        assert cluster.replica(name).sequence.watermark == 142


def test_phase_1_is_executed_once_and_then_each_command_costs_one_phase_2() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    leader = cluster.elect()
    kinds: list[str] = []
    perform = cluster.send

    def watch(sender: str, send: Send) -> None:
        kinds.append(type(send.message).__name__)
        perform(sender, send)

    cluster.send = watch  # type: ignore[method-assign]
    for number in range(10):
        cluster.submit(leader, b"%d" % number)
        cluster.settle()
    assert "Prepare" not in kinds
    assert kinds.count("Accept") == 2 * 10
    assert kinds.count("Accepted") == 2 * 10


def test_a_leader_proposes_at_most_alpha_beyond_what_is_chosen() -> None:
    cluster = Cluster(["n1", "n2", "n3"], alpha=3, in_flight_max=3, batch_bytes_max=1)
    leader = cluster.elect()
    cluster.settle()
    before = cluster.replica(leader).sequence.watermark
    for other in cluster.nodes:
        if other != leader:
            cluster.cut.add((leader, other))
    for number in range(10):
        cluster.submit(leader, b"%d" % number)
    cluster.save(leader)
    phase = cluster.replica(leader).phase
    assert isinstance(phase, Leading)
    assert sorted(phase.flights) == [before + 1, before + 2, before + 3]


def test_the_distinguished_proposer_orders_the_commands_of_all_clients() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect()
    for number in range(30):
        cluster.submit(f"n{number % 3 + 1}", b"%d" % number)
    cluster.advance(500)
    assert cluster.nodes["n1"].applied == cluster.nodes["n2"].applied == cluster.nodes["n3"].applied
    assert sorted(map(int, cluster.nodes["n1"].applied)) == list(range(30))
