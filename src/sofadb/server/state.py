"""What all connections of a node share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, cast

from sofadb.database.events import Event
from sofadb.database.messages import Message
from sofadb.database.queues import Queues, Who
from sofadb.database.replies import ReplyError
from sofadb.node.facts import Facts

from .admission import Passwords
from .heavy import Heavy
from .memory import MemoryWatch
from .monitoring import Monitors
from .notifications import Notifications
from .pausing import Pause
from .sentinel import SERVICE_NAME, leader_changed
from .short_way import ShortWay
from .subscriptions import Part, Subscriptions
from .usage import Usage
from .waiting import Leaves, WaitingRoom

if TYPE_CHECKING:
    from sofadb.database.database import Database
    from sofadb.node.node import Work

    from .connection import Connection


def _no_shutdown() -> None:
    raise ReplyError("ERR this node cannot be ended from here")


async def _no_part(instance: int, salt: int, offset: int, size: int) -> bytes:
    raise ReplyError("ERR there are no snapshots here")


class NodeView(Protocol):
    """A node, as its server sees it."""

    @property
    def database(self) -> Database: ...

    @property
    def applied(self) -> int: ...

    @property
    def on_handing_on(self) -> list[Callable[[bool], None]]: ...

    @property
    def front(self) -> bytes: ...

    @property
    def on_applied(self) -> list[Callable[[], None]]: ...

    @property
    def on_founded(self) -> list[Callable[[], None]]: ...

    @property
    def on_leader(self) -> list[Callable[[str], None]]: ...

    def submit(self, work: Work) -> None: ...

    def read(self, work: Work) -> None: ...

    def hand_over(self, to: str | None, within_ms: float) -> None: ...

    def keep_lead(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """Bounds of the server. Sizes in bytes."""

    clients_max: int = 10_000
    in_flight_max: int = 16
    """How many runs of one connection may be under way at once."""
    waiting_bytes_max: int = 1 << 20
    """What one connection may have waiting to be begun before it is not read from any more."""
    output_bytes_max: int = 1 << 20
    """With more than this unread, nothing more is begun or encoded for a client. (One large value may be on top.)"""
    transaction_bytes_max: int = 64 << 20
    """What MULTI may queue."""
    begun_commands_max: int = 200_000
    begun_bytes_max: int = 64 << 20
    """What all connections may have begun that is not done. Beyond either, more is refused."""
    held_bytes_max: int = 512 << 20
    """What all connections may hold of requests and transactions that are not begun (`guard`)."""
    held_bytes_free: int = 64 << 10
    """A connection that holds no more than this is read from in any case."""
    unread_bytes_max: int = 256 << 20
    """What all clients together may leave unread (`guard`)."""
    patience_ms: int = 5_000
    """So long SOFA.AFTER waits for its instance."""
    subscriptions_max: int = 10_000
    """How many channels and patterns one connection may subscribe to."""
    subscriber_unread_bytes_max: int = 8 << 20
    """A subscriber that has left more than this unread when the next message comes is cut off."""
    memory_bytes_max: int = 0
    """With more in memory than this, nothing is taken in that may make it more (`memory`); 0: any amount may be used."""
    idle_s_max: int = 0
    """A client that has sent nothing for so long and waits for nothing is cut off; 0: never."""
    keepalive_s: int = 300
    """After so much silence the kernel asks a client's machine whether it is still there; 0: never."""
    slow_us: int = 10_000
    """A run that takes so long is kept for SLOWLOG; negative: none is."""
    slow_runs_max: int = 128
    """How many of them are kept."""
    spike_ms: int = 0
    """A run that takes so long is told by LATENCY; 0: none is."""

    @property
    def shortest_told_us(self) -> float:
        """What takes less is told neither by SLOWLOG nor by LATENCY."""
        told = [self.slow_us] if self.slow_us >= 0 else []
        return min([*told, self.spike_ms * 1000] if self.spike_ms > 0 else told, default=inf)


@dataclass(slots=True)
class ServerState:
    """One server."""

    node: NodeView
    facts: Callable[[], Facts]
    host: str
    port: int
    settings: Settings = field(default_factory=Settings)
    explain: Callable[[], Sequence[str]] = tuple
    """What is waited for, in sentences."""
    take_snapshot: Callable[[], bool] = lambda: False
    """Begin to take a snapshot; False if one is under way, or if nothing was written since the last."""
    want_snapshot: Callable[[], None] = lambda: None
    """Have a snapshot of everything that is applied now, as soon as may be."""
    newest_snapshot: Callable[[], tuple[int, int, int, bytes] | None] = lambda: None
    """Instance, salt, size in bytes and digest of the newest snapshot, if there is any."""
    snapshot_part: Callable[[int, int, int, int], Awaitable[bytes]] = _no_part
    """Of the snapshot of an instance and a salt, from an offset on, so many bytes. Raises `ReplyError`."""
    shut_down: Callable[[], None] = _no_shutdown
    """End this node in good order. Raises `ReplyError`."""
    service_name: str = SERVICE_NAME
    """What clients that look for the leader call this cluster (`sentinel`)."""
    leader_address: str = ""
    """Where clients reach who leads or led last, as HOST:PORT; empty if we never heard of anybody."""
    passwords: Passwords = field(default_factory=Passwords)
    is_protected: bool = False
    """Whether, without a password, only clients on this machine are spoken to."""
    clients: dict[int, Connection] = field(default_factory=dict)
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    monitors: Monitors = field(default_factory=Monitors)
    notifications: Notifications = field(default_factory=Notifications)
    last_client_id: int = 0
    started_at: float = field(default_factory=time.monotonic)
    connections_received: int = 0
    connections_rejected: int = 0
    commands_processed: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    usage: Usage = field(default_factory=Usage)
    last_turn: int = 0
    """The number of the last command that may have had to wait."""
    begun_commands: int = 0
    begun_bytes: int = 0
    """What is begun and not done."""
    is_out_of_memory: bool = False
    """Whether what may make the data grow has to be refused."""
    is_leader_full: Callable[[], bool] = lambda: False
    """Whether the leader uses more memory than it may."""
    refused_commands: int = 0
    """For lack of room."""
    held_bytes: int = 0
    """What all connections hold that is not begun."""
    next_to_go_on: Connection | None = None
    """Who is read from although there is no room."""
    recent_input_bytes_max: int = 0
    recent_output_bytes_max: int = 0
    """What the connection holds that holds most, and what is unread by the client with the most, as last seen."""
    input_disconnections: int = 0
    output_disconnections: int = 0
    """How many clients were cut off for what they did not finish, and for what they did not read."""
    expired_before: int = 0
    """How many keys had expired when counting began anew."""
    waiting: WaitingRoom = field(default_factory=WaitingRoom)
    heavy: Heavy = field(default_factory=Heavy)
    pause: Pause = field(init=False)
    short_way: ShortWay = field(init=False)
    memory: MemoryWatch = field(init=False)
    server: Any = None
    guard: Any = None

    def __post_init__(self) -> None:
        self.pause = Pause(self._go_on)
        self.short_way = ShortWay(self)
        self.memory = MemoryWatch(self)
        self.node.on_applied.append(self._on_applied)
        self.node.on_handing_on.append(self.short_way.hand_on)
        self.node.on_founded.append(self.waiting.call_all)
        self.node.on_leader.append(self._on_leader)
        self.node.database.shared.messages.tell = self._on_message
        self.notify_of(self.notifications)

    @property
    def is_overloaded(self) -> bool:
        """Whether what is not begun yet has to be refused."""
        settings = self.settings
        return (
            self.begun_commands >= settings.begun_commands_max or self.begun_bytes >= settings.begun_bytes_max
        )

    @property
    def is_short_of_room(self) -> bool:
        """Whether too much is held that is not begun."""
        return self.held_bytes > self.settings.held_bytes_max

    def forget_counts(self) -> None:
        """Count from zero what INFO counts."""
        self.connections_received = self.connections_rejected = self.commands_processed = 0
        self.bytes_read = self.bytes_written = self.refused_commands = 0
        self.input_disconnections = self.output_disconnections = 0
        self.expired_before = self.node.database.expired
        self.usage.forget()

    def _go_on(self) -> None:
        for connection in list(self.clients.values()):
            connection.go_on()

    def _on_leader(self, leader: str) -> None:
        self.look_for_leader()

    def notify_of(self, notifications: Notifications) -> None:
        """Tell these events from now on."""
        self.hold_events()
        self.notifications = notifications
        self.node.database.shared.wanted_events = notifications.wanted

    def _on_message(self, message: Message) -> int:
        """It is being executed. It stays among the events until it is certain that it is not undone."""
        parts = self.subscriptions.parts(message)
        self.node.database.shared.events += parts
        return sum(len(part.subscribers) for part in parts)

    def hold_events(self) -> None:
        """Keep what has happened to keys for those who subscribe now, and what was published for those who did then."""
        events, subscriptions = self.node.database.shared.events, self.subscriptions
        for event in events:
            if isinstance(event, Event):
                for message in self.notifications.messages(event):
                    subscriptions.hold(subscriptions.parts(message))
            else:
                subscriptions.hold([cast(Part, event)])
        events.clear()

    def _on_applied(self) -> None:
        self.hold_events()
        self.subscriptions.tell_held()
        self.waiting.on_applied(self.node.applied)
        queues = self.node.database.shared.queues
        if queues.calls or queues.dismissed:
            self._call(queues)

    def _call(self, queues: Queues) -> None:
        front = self.node.front
        if front in queues.dismissed:
            self.waiting.call_all()
        for who in queues.calls:
            if who.front == front and not self.waiting.call(who.number):
                self.node.submit(Leaves(who))

    def next_turn(self) -> Who:
        """A name for a command that may wait, which no other ever had or will have."""
        self.last_turn += 1
        return Who(self.node.front, self.last_turn)

    def look_for_leader(self) -> Facts:
        """Note who leads, and tell who subscribes to such news. Returns all that is known."""
        facts = self.facts()
        if facts.leader_client_address:
            leader_changed(self, facts.leader_client_address)
        return facts
