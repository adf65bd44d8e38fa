"""A cluster of the laboratory: machines, each with a disk and a clock, whole nodes on them, and what may happen to them.

A machine's process is the production node and server, put together as `sofadb serve` does it, on an event loop, a network, a disk
and a clock of the simulation. A process may be killed or told to stop, a machine lose its power, a process be paused, links be
cut, disks fill or rot, clocks jump. What comes back is started as a person would: again, on what the disk has kept.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass

from sofadb.node.host import EXIT_NOT_FOUND, EXIT_STORAGE
from sofadb.node.joining import NotFound
from sofadb.node.live import RunningNode, start_node
from sofadb.node.snapshots import SnapshotSettings
from sofadb.paxos import Configuration, NodeId
from sofadb.paxos.leading import Leading
from sofadb.paxos.settings import Settings
from sofadb.server import listener
from sofadb.server.state import ServerState
from sofadb.server.state import Settings as ServerSettings
from sofadb.server.stopping import stop_in_order
from sofadb.storage.files import StorageError
from sofadb.storage.identity import Identity

from .disk import SimulatedDisk
from .host import EPOCH_MS, SimulatedHost
from .loop import ProcessLoop, Simulation
from .network import Network
from .watch import Watch

CLIENT_PORT = 7001
PEER_PORT = 17001
SEGMENT_BYTES = 64 << 10
CLIENTS_MAX = 256
KEEP_ALIVE_S = 4.0
"""As the node tunes its connections to peers: one second of silence, then three probes, a second each."""


@dataclass(slots=True)
class End:
    """How a process ended by itself."""

    code: int
    text: str


class Machine:
    """A computer that is there to run one node."""

    def __init__(self, name: NodeId, address: str) -> None:
        self.name = name
        self.address = address
        self.disk = SimulatedDisk()
        self.disk.log = None
        self.lives = 0
        """How often a node of its name was started, on the machines before this one too: no two lives draw the same."""
        self.loop: ProcessLoop | None = None
        self.host: SimulatedHost | None = None
        self.running: RunningNode | None = None
        """The node, once it takes part."""
        self.server: ServerState | None = None
        """The server, once it takes clients."""
        self.end: End | None = None
        """How the last life ended, if it ended by itself."""
        self.told_to_stop = asyncio.Event()
        """Of its present life: it has been sent SIGTERM."""
        self.join: tuple[str, ...] = ()
        """Whom it asks to be let in, if its directory is new."""
        self.acceptor: NodeId = ""
        """Whose promises its disk holds; empty while it has never been used, and while it lacks what was promised."""
        self.has_lost_its_past = False
        """Whether its disk lacks what was promised on it, and its node has not become another acceptor yet."""
        self.is_paused = False
        self.clock_offset_ms = 0
        self.clock_rate = 1.0

    @property
    def is_up(self) -> bool:
        """Whether there is a process, running or paused."""
        return self.loop is not None and self.loop.is_alive

    @property
    def is_leading(self) -> bool:
        """Whether its node believes that it leads."""
        return self.is_up and self.running is not None and isinstance(self.running.replica.phase, Leading)


class Cluster:
    """Machines and the network between them."""

    def __init__(
        self,
        seed: str,
        names: Iterable[NodeId],
        settings: Settings | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        server_settings: ServerSettings | None = None,
        latency_s: tuple[float, float] = (0.0001, 0.001),
        snapshot_settings: SnapshotSettings | None = None,
    ) -> None:
        self.seed = seed
        self.settings = settings or Settings()
        # Slow is what took long by a real clock, and goes another way: worlds would depend on how busy this machine is.
        self.server_settings = server_settings or ServerSettings(clients_max=CLIENTS_MAX, slow_us=-1)
        self.segment_bytes = segment_bytes
        self.snapshot_settings = snapshot_settings or SnapshotSettings()
        self.disk_latency_s = (0.0001, 0.002)
        self.simulation = Simulation()
        self.network = Network(
            self.simulation, random.Random(f"{seed}/network"), latency_s=latency_s, keep_alive_s=KEEP_ALIVE_S
        )
        self.machines = {
            name: Machine(name, f"10.0.0.{number}") for number, name in enumerate(sorted(names), 1)
        }
        self._addresses = len(self.machines)
        self.members = {name: f"{each.address}:{PEER_PORT}" for name, each in self.machines.items()}
        self.initial_members = dict(self.members)
        self.configuration = Configuration(tuple(self.machines))
        self.watch = Watch(self.configuration, self.settings.alpha, lambda: self.simulation.now)
        self.ends: list[tuple[float, NodeId, End]] = []
        """All processes that ended by themselves, and when."""

    @property
    def now(self) -> float:
        """Simulated seconds since the beginning."""
        return self.simulation.now

    def close(self) -> None:
        """Put everything away."""
        self.simulation.close()

    # Processes

    def start(self, name: NodeId) -> None:
        """Start the node, on what its disk has."""
        machine = self.machines[name]
        assert not machine.is_up, f"{name} runs"
        machine.lives += 1
        machine.end, machine.running, machine.server, machine.is_paused = None, None, None, False
        machine.told_to_stop = asyncio.Event()
        loop = ProcessLoop(self.simulation, name, self.network)  # type: ignore[abstract]
        loop.rate = machine.clock_rate
        chance = random.Random(f"{self.seed}/{name}/{machine.lives}")

        def died(code: int, text: str) -> None:
            if loop.is_alive:
                machine.end = End(code, text)
                self.ends.append((self.now, name, machine.end))
                self.watch.ended(name)

        def began(identity: Identity, is_newcomer: bool) -> None:
            machine.has_lost_its_past = machine.has_lost_its_past and not is_newcomer
            machine.acceptor = "" if machine.has_lost_its_past else identity.acceptor
            if machine.has_lost_its_past:
                self.watch.forgetful.setdefault(identity.life.id)

        host = SimulatedHost(loop, machine.disk, chance, self.segment_bytes, died)
        host.on_life = began
        host.wall_clock.offset_ms = machine.clock_offset_ms
        host.disk_latency_s = self.disk_latency_s
        loop.executor_delay_s = host.disk_delay_s
        machine.loop, machine.host = loop, host
        loop.create_task(self._serve(machine, host))

    async def _serve(self, machine: Machine, host: SimulatedHost) -> None:
        """What `sofadb serve` does."""
        client_address = f"{machine.address}:{CLIENT_PORT}"
        try:
            running = await start_node(
                host,
                machine.name,
                (machine.address, PEER_PORT),
                client_address,
                None if machine.join else self.initial_members,
                self.settings,
                self.watch.driver,
                self.snapshot_settings,
                join=machine.join,
            )
        except NotFound as problem:
            host.die(EXIT_NOT_FOUND, str(problem))
        except StorageError as problem:
            host.die(EXIT_STORAGE, str(problem))
        machine.running = running
        state = ServerState(
            running.node,
            running.facts,
            machine.address,
            CLIENT_PORT,
            self.server_settings,
            explain=running.explain,
            take_snapshot=running.world.snapshots.begin,
            want_snapshot=running.world.snapshots.want,
            newest_snapshot=running.world.snapshots.told,
            snapshot_part=running.world.snapshots.part,
            shut_down=machine.told_to_stop.set,
        )
        await listener.start(state)
        machine.server = state
        await running.until_lost_or(machine.told_to_stop)
        if running.lost.done():
            await running.begin_anew()
            self.kill(machine.name)
            self.start(machine.name)
            return
        await stop_in_order(state, running)
        self.kill(machine.name)
        machine.end = End(0, "stopped")

    def add_machine(self, name: NodeId, join: Iterable[NodeId]) -> None:
        """A new machine, whose node asks these to be let in when it is started. One that was of that name before is gone."""
        assert name not in self.machines or not self.machines[name].is_up
        self._addresses += 1
        lives = self.machines[name].lives if name in self.machines else 0
        machine = self.machines[name] = Machine(name, f"10.0.0.{self._addresses}")
        machine.lives = lives
        machine.join = tuple(self.members[each] for each in join)
        self.members[name] = f"{machine.address}:{PEER_PORT}"

    def start_all(self) -> None:
        """Start every node that does not run."""
        for name, machine in self.machines.items():
            if not machine.is_up:
                self.start(name)

    def stop(self, name: NodeId) -> None:
        """SIGTERM: the node hands over, answers, and ends by itself."""
        self.machines[name].told_to_stop.set()

    def kill(self, name: NodeId, in_the_middle: bool = False) -> None:
        """kill -9: the process is gone; what it wrote is still in the machine's cache.

        `in_the_middle`: if a block waits to be written, it is killed while it writes that.
        """
        machine = self.machines[name]
        if machine.is_up:
            assert machine.loop is not None
            if in_the_middle and machine.host is not None and machine.host.writer is not None:
                machine.host.writer.be_interrupted(machine.disk)
            machine.loop.kill()
            self.watch.ended(name)
        machine.disk = machine.disk.killed()
        machine.disk.log = None

    def power_off(self, name: NodeId, chance: random.Random, keep: float = 0.5) -> int:
        """The machine loses its power, and of what is not synced keeps any part. Returns how many pieces were lost."""
        machine = self.machines[name]
        if machine.is_up:
            assert machine.loop is not None
            if machine.host is not None and machine.host.writer is not None:
                machine.host.writer.be_interrupted(machine.disk)
            self.network.power_cut(machine.loop)
            machine.loop.kill()
            self.watch.ended(name)
        lost = 0

        def choose(number: int) -> bool:
            nonlocal lost
            kept = chance.random() < keep
            lost += not kept
            return kept

        machine.disk = machine.disk.survive(choose)
        machine.disk.log = None
        return lost

    def replace_disk(self, name: NodeId, disk: SimulatedDisk) -> None:
        """The node, which does not run, gets another disk."""
        machine = self.machines[name]
        assert not machine.is_up
        machine.disk = disk
        disk.log = None

    def lose_past(self, name: NodeId, disk: SimulatedDisk) -> None:
        """The node, which does not run, gets a disk that lacks what it promised. The watch minds who listens to it."""
        self.replace_disk(name, disk)
        self.machines[name].has_lost_its_past, self.machines[name].acceptor = True, ""

    def pause(self, name: NodeId) -> None:
        """SIGSTOP."""
        machine = self.machines[name]
        if machine.is_up and machine.loop is not None:
            machine.loop.pause()
            machine.is_paused = True

    def resume(self, name: NodeId) -> None:
        """SIGCONT."""
        machine = self.machines[name]
        if machine.is_up and machine.loop is not None:
            machine.loop.resume()
        machine.is_paused = False

    # Links

    def cut(self, sender: NodeId, receiver: NodeId) -> None:
        """Nothing gets from one node to the other any more."""
        self.network.link(sender, receiver).cut = True

    def heal(self, sender: NodeId, receiver: NodeId) -> None:
        """And now it does again."""
        self.network.link(sender, receiver).cut = False

    def isolate(self, name: NodeId) -> None:
        """Cut a node off from all others, both ways."""
        for other in self.machines:
            if other != name:
                self.cut(name, other)
                self.cut(other, name)

    def heal_all(self) -> None:
        """All links between nodes are whole."""
        for sender in self.machines:
            for receiver in self.machines:
                if sender != receiver:
                    self.heal(sender, receiver)

    # Clocks

    def set_clock(self, name: NodeId, offset_ms: int) -> None:
        """The node's wall clock is so far from the right time, from now on."""
        machine = self.machines[name]
        machine.clock_offset_ms = offset_ms
        if machine.host is not None and machine.loop is not None:
            # A clock that ran too fast or too slow is where it got to; this says where it is.
            strayed_ms = round((machine.loop.time() + machine.loop.slept_s - self.now) * 1000)
            machine.host.wall_clock.offset_ms = offset_ms - strayed_ms

    def set_rate(self, name: NodeId, rate: float) -> None:
        """The node's clocks run so much faster or slower, from now on."""
        machine = self.machines[name]
        machine.clock_rate = rate
        if machine.is_up and machine.loop is not None:
            machine.loop.rate = rate

    @property
    def right_clock_ms(self) -> int:
        """What a right clock shows."""
        return EPOCH_MS + int(self.now * 1000)

    # Looking

    def run(self, until: float) -> None:
        """Let everything happen until then. Raises the first `Violation`."""
        self.simulation.run(until)
        if self.watch.violation is not None:
            raise self.watch.violation

    @property
    def leader(self) -> NodeId | None:
        """Who leads under the highest ballot."""
        leading = [
            (machine.running.replica.ballot, name)
            for name, machine in self.machines.items()
            if machine.is_leading and machine.running is not None
        ]
        return max(leading)[1] if leading else None

    def applied(self, name: NodeId) -> int:
        """How far a node's state is; 0 while it does not take part."""
        running = self.machines[name].running
        return running.node.applied if running is not None and self.machines[name].is_up else 0
