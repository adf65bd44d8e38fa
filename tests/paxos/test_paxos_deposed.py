"""Leaders that are deposed, or outgrown, and do not know it yet: what they say and propose must stay harmless."""

from __future__ import annotations

from paxos.cluster import Cluster
from sofadb.paxos import Ballot, Configuration, Entry, Instance, Value
from sofadb.paxos.effects import Save, Send
from sofadb.paxos.events import Received, Tick
from sofadb.paxos.following import Following
from sofadb.paxos.leading import Leading
from sofadb.paxos.messages import Accept, Accepted, Ask, Chosen, Confirm, Confirmed, Learn, Refused
from sofadb.paxos.records import Acceptance, Learned, Promised


def test_a_deposed_leader_does_not_announce_under_its_own_ballot_what_another_leader_chose() -> None:
    """It learns from a third node that an instance is chosen in which it proposed something else. Were it to tell how far
    everything is chosen, a follower would take what it accepted under the same ballot for the chosen value."""
    cluster = Cluster([f"n{number}" for number in range(1, 8)], seed=3)
    old = cluster.elect()
    cluster.random.random = lambda: 0.0  # type: ignore[method-assign]
    cluster.advance(1_000)
    bridge, fooled, *majority = (name for name in cluster.nodes if name != old)
    # A command reaches one follower and nobody else.
    cluster.cut = {(old, name) for name in (bridge, *majority)}
    cluster.submit(old, b"accepted by two of seven")
    cluster.settle()
    cluster.cut = set()
    # The old leader's last round with the majority: its answers take 240 ms. Then the network splits; the bridge hears both
    # sides, the new one badly at first.
    cluster.now += 50
    cluster.step(old, Tick())
    for packet in [p for p in cluster.network if p.to in majority and not isinstance(p.message, Accept)]:
        cluster.pass_on(packet)
    slow = [packet for packet in cluster.network if isinstance(packet.message, Confirmed)]
    cluster.network = []
    here = (old, fooled)
    cluster.cut = {pair for a in here for b in majority for pair in ((a, b), (b, a))}
    badly = {(a, bridge) for a in majority}
    cluster.cut |= badly | {(bridge, fooled), (fooled, bridge)}
    cluster.advance(240)
    for packet in slow:
        cluster.step(packet.to, Received(packet.sender, packet.message))
    cluster.submit(majority[0], b"chosen by four of seven")
    cluster.advance(265)
    cluster.cut -= badly
    assert cluster.leader == majority[0]
    assert isinstance(cluster.replica(old).phase, Leading), "both lead, as may be"
    cluster.now = cluster.nodes[majority[0]].wake_at
    cluster.step(majority[0], Tick())  # Its heartbeat tells all what is chosen.
    cluster.settle()
    assert isinstance(cluster.replica(old).phase, Leading), "it has not missed anybody yet"
    assert cluster.nodes[bridge].applied == [b"chosen by four of seven"]
    cluster.ask(old)
    cluster.settle()
    assert isinstance(cluster.replica(old).phase, Following)
    cluster.cut = set()
    cluster.advance(3_000)
    assert {tuple(node.applied)[:1] for node in cluster.nodes.values()} == {(b"chosen by four of seven",)}


def test_what_is_known_to_be_chosen_beyond_a_gap_is_not_proposed_again() -> None:
    """An old request is answered late: it tells a leader of two values beyond a gap. Were the leader to propose in their place,
    the latest record on its disk would not be the chosen value, and it would teach others a wrong one."""

    def command(number: int) -> Value:
        return Value(number, (Entry("n2", 1, number, b"command %d" % number),))

    under = Ballot(1, "n2")
    known = [Learned(Instance(number), command(number)) for number in (1, 2, 3)]
    accepted = [Acceptance(Instance(number), under, command(number)) for number in range(4, 9)]
    names = ["n1", "n2", "n3", "n4", "n5"]
    cluster = Cluster(names, alpha=5, in_flight_max=5, tail_bytes_max=1)
    for name, node in cluster.nodes.items():
        cluster.crash(name)
        node.disk = [*known, *(accepted if name in ("n2", "n3", "n4") else [])]  # 4 to 8 are chosen.
    for name in ("n1", "n2", "n3"):
        cluster.start(name)
    # n1 leads with n2 and n3 behind it, and proposes 4 to 8 again. Of that only 4 arrives, and the answers are slow.
    cluster.replica("n1").become_campaigning(under)
    for effect in cluster.replica("n1")._effects:
        cluster.perform(cluster.nodes["n1"], effect)
    while not any(isinstance(packet.message, Accept) for packet in cluster.network):
        for name in names:
            cluster.save(name)
        if cluster.network:
            cluster.pass_on(cluster.network[0])
    for packet in [p for p in cluster.network if isinstance(p.message, Accept) and p.message.instance == 4]:
        cluster.pass_on(packet)
    for name in ("n1", "n2", "n3"):
        cluster.save(name)
    slow = [packet for packet in cluster.network if isinstance(packet.message, Accepted)]
    cluster.network = []
    sleeper, cluster.nodes["n1"].replica, cluster.nodes["n1"].wake_at = (
        cluster.replica("n1"),
        None,
        float("inf"),
    )
    # n1 is stopped for a while. n4 and n5 come back; a newer leader learns 4 to 8 and gets 9 and 10 chosen.
    cluster.start("n4")
    cluster.start("n5")
    leader = cluster.elect()
    cluster.submit(leader, b"nine or ten")
    cluster.advance(500)
    # A request of an earlier life of n1, which had known 1 to 7, is answered now; then the slow answers arrive.
    cluster.nodes["n1"].replica, cluster.network = sleeper, []
    cluster.step(leader, Received("n1", Ask(Instance(8))))
    for name in names:
        cluster.save(name)
    (packet,) = [each for each in cluster.network if isinstance(each.message, Learn)]
    assert isinstance(packet.message, Learn)
    assert packet.message.first == 8
    assert len(packet.message.values) >= 2
    cluster.pass_on(packet)
    for packet in slow:
        cluster.step("n1", Received(packet.sender, packet.message))
    cluster.save("n1")
    # It is healthy again, and teaches from its disk.
    cluster.network = []
    cluster.advance(3_000)
    cluster.network = []
    chosen = cluster.read(cluster.nodes[leader], Instance(9))
    cluster.step("n1", Received("n2", Ask(Instance(9))))
    for name in names:
        cluster.save(name)
    (packet,) = [each for each in cluster.network if isinstance(each.message, Learn)]
    assert isinstance(packet.message, Learn)
    assert packet.message.values[0] == chosen


def test_a_leader_asks_new_acceptors_for_their_promises_before_it_proposes_to_them() -> None:
    """A change takes effect under a leader (rule P4). What an earlier leader got chosen by the new acceptors must stand."""
    before, new = ("n1", "n2", "n3"), ("n4", "n5", "n6")
    after = ("n1", "n2", *new)
    cluster = Cluster([*before, *new], alpha=1, in_flight_max=1)
    for name in cluster.nodes:
        cluster.crash(name)
    cluster.configuration = Configuration(before)
    for name in cluster.nodes:
        cluster.start(name)
    cluster.nodes["n2"].wake_at = cluster.nodes["n3"].wake_at = 5_000.0
    cluster.advance(1_000)
    assert cluster.leader == "n1"
    # n1 gets the change chosen by itself and n2, as instance 2. Only the new acceptors hear that it is chosen.
    replica = cluster.replica("n1")
    replica._effects = []
    assert isinstance(replica.phase, Leading)
    replica.phase._propose(Value(1, configuration=Configuration(after)))
    for effect in replica._effects:
        cluster.perform(cluster.nodes["n1"], effect)
    cluster.cut = {("n1", "n3"), ("n3", "n1")}
    for packet in [each for each in cluster.network if isinstance(each.message, Accept)]:
        cluster.pass_on(packet)
    cluster.save("n1")
    cluster.save("n2")
    for packet in [each for each in cluster.network if isinstance(each.message, Accepted)]:
        cluster.pass_on(packet)
    cluster.cut |= {("n1", "n2"), ("n2", "n1")}
    # In instance 3 n1 and the new ones choose a command, and its client hears of it; they themselves do not.
    send = cluster.send

    def lossy(sender: str, effect: Send) -> None:
        message = effect.message
        if not (isinstance(message, Chosen | Confirm) and message.chosen == 3):
            send(sender, effect)

    cluster.send = lossy  # type: ignore[method-assign]
    token = cluster.submit("n1", b"acknowledged")
    cluster.ask("n1")
    while token not in cluster.nodes["n1"].done:
        cluster.advance(10)
    assert cluster.nodes["n1"].applied == [b"acknowledged"]
    # n1 dies. n2 and n3 elect n2, which gets the change chosen again, and goes on.
    cluster.crash("n1")
    cluster.network, cluster.cut, cluster.send = [], set(), send  # type: ignore[method-assign]
    for name in ("n3", *new):
        cluster.nodes[name].wake_at = float("inf")
    cluster.now += 1_000
    cluster.nodes["n2"].wake_at = cluster.now
    cluster.submit("n2", b"another")
    cluster.advance(5_000)
    assert cluster.nodes["n4"].applied[:1] == [b"acknowledged"]
    cluster.configuration = Configuration(after)
    cluster.check_chosen()


def test_a_challenged_leader_whose_own_clients_read_campaigns_once() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    leader = cluster.elect()
    cluster.settle()
    for _ in range(9):
        cluster.ask(leader)
    other = next(name for name in cluster.nodes if name != leader)
    cluster.step(leader, Received(other, Refused(cluster.replica(leader).ballot, Ballot(9, other))))
    for packet in list(cluster.network):
        if packet.to != leader:
            cluster.pass_on(packet)
    campaigns = 0
    for packet in [each for each in cluster.network if isinstance(each.message, Confirmed)]:
        cluster.ask(leader)
        effects = cluster.step(packet.to, Received(packet.sender, packet.message))
        records = [record for effect in effects if isinstance(effect, Save) for record in effect.records]
        promised = [record for record in records if isinstance(record, Promised)]
        assert len(promised) <= 1
        campaigns += len(promised)
    assert campaigns == 1


def test_after_a_long_load_a_lost_value_is_made_up_for_soon() -> None:
    """The link carries ten times what links at least carry. What was sent is not thought to be under way ever longer."""
    cluster = Cluster(
        ["n1", "n2", "n3"], bytes_per_ms_min=20
    )  # A thousandth of the default, and so are the values.
    leader = cluster.elect()
    follower = next(name for name in cluster.nodes if name != leader)
    cluster.advance(1_000)
    for _ in range(200):
        cluster.submit(leader, bytes(10_000))
        cluster.advance(50)
    assert cluster.nodes[follower].applied == cluster.nodes[leader].applied
    cluster.cut = {(leader, follower)}  # One request is lost, as when a connection is made anew.
    cluster.submit(leader, b"lost on the way")
    cluster.settle()
    cluster.cut = set()
    since = cluster.now
    while len(cluster.nodes[follower].applied) < 201:
        cluster.advance(100)
    assert cluster.now - since < 3_000
