"""A network between simulated processes: TCP as programs see it, and links that can be cut, slow, or worse.

A connection has two ends (`Transport`, which is the socket and asyncio's transport in one) and a stream each way. A stream
carries *units*: one for each call of `write` or `writelines`. A unit flies for as long as its link takes, lands after all that
were sent before it, and lies in the receiver's kernel until the receiving process reads. So a paused process is still sent to,
up to the window; and a process that reads again finds together what came apart.

A cut link drops what flies, and the sender sends it again: here it is held, and flies again when the link heals. What
arrived but cannot be acknowledged, since the way back is cut, is not sent again, but the sender does not know that. Either way a
sender that has waited for `user_timeout_s` gives up, and the other end hears of it when it can be reached. So a link that is cut
one way breaks the connections of both ways, as it does in the world.

When a process ends, its kernel goes on: what was sent still arrives, and a reset behind it. When a machine loses its power,
what flies still lands, and nothing more comes from there: who sends to it waits in vain, until the machine is back and answers
that it knows of no such connection. Idle connections over a way that is blocked end after `keep_alive_s`.

`mischief` may replace any unit by other copies of it, or by none; they fly outside the stream's order. TCP does nothing of
that kind: it stands for all that a protocol must survive which says that messages may be lost, doubled, late or out of order.

Left out: segments (a unit lands whole), congestion, a limit on how long a window may stay closed, time-wait.
"""

from __future__ import annotations

import asyncio
import errno
import math
import random
import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, cast

from .loop import ProcessLoop, Scheduled, Simulation

READ_BYTES_MAX: Final = 256 << 10
"""A process is given no more than this at once."""
HIGH_WATER_BYTES: Final = 64 << 10
"""With more than this to be sent a protocol is asked to pause, unless it sets another limit."""
CONNECT_AGAIN_S: Final = 1.0
"""After which time somebody who was not let into a full backlog asks again."""
EPHEMERAL_PORTS: Final = range(32_768, 61_000)
"""Ports of those who connect."""
LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
WILDCARDS: Final = (None, "", "0.0.0.0", "::")

Address = tuple[str, int]
Mischief = Callable[["Connection", bool, int, bytes], list[tuple[float, bytes]] | None]


class _Kind(Enum):
    DATA = auto()
    HELLO = auto()
    """The last part of the handshake: the server's end exists from here on."""
    END = auto()
    """Nothing follows (FIN)."""
    RESET = auto()
    """There is no such connection any more (RST)."""


class _Unit:
    """Something in flight."""

    __slots__ = ("arrival", "data", "kind", "sent_at")

    def __init__(self, kind: _Kind, data: bytes, sent_at: float, arrival: float) -> None:
        self.kind = kind
        self.data = data
        self.sent_at = sent_at
        self.arrival = arrival


@dataclass(slots=True)
class Statistics:
    """What passed through a network."""

    units: int = 0
    """Written by processes."""
    bytes: int = 0
    delivered: int = 0
    """Units and copies of units that came into a receiver's kernel."""


class Link:
    """The way from one process to another, for all connections between them."""

    def __init__(self, network: Network, sender: str, receiver: str) -> None:
        self.sender = sender
        self.receiver = receiver
        self.latency_s = network.latency_s
        """The least and the most: each unit draws its own."""
        self.bytes_per_s = network.bytes_per_s
        self._network = network
        self._cut = False
        self._cut_since = 0.0
        self._free_at = 0.0
        """When everything sent so far will have left the sender."""
        self._waiting: list[tuple[Callable[[], None], Callable[[], bool]]] = []

    @property
    def cut(self) -> bool:
        """Whether nothing passes."""
        return self._cut

    @cut.setter
    def cut(self, cut: bool) -> None:
        was_cut, self._cut = self._cut, cut
        if was_cut and not cut:
            self._network._flow(self)
        elif cut and not was_cut:
            simulation = self._network.simulation
            self._cut_since = simulation.now
            simulation.call_at(simulation.now + self._network.keep_alive_s, self._miss, simulation.now)

    def _miss(self, since: float) -> None:
        """It has been cut since then, and so long that whoever has a connection over it, however idle, misses the other end."""
        if not self._cut or self._cut_since != since:
            return
        for connection in self._network.connections():
            if {connection.client, connection.server} == {self.sender, self.receiver}:
                connection._miss()

    @property
    def is_blocked(self) -> bool:
        """Whether nothing arrives: the link is cut, or the machine at its end has no power."""
        return self._cut or self.receiver in self._network._dark

    def arrival(self, size: int) -> float:
        """When something of this size arrives that is sent now."""
        network = self._network
        leaves = network.simulation.now
        if self.bytes_per_s != math.inf:
            leaves = self._free_at = max(leaves, self._free_at) + size / self.bytes_per_s
        low, high = self.latency_s
        return leaves + low + (high - low) * network.random.random()

    def carry(
        self, then: Callable[[], None], is_void: Callable[[], bool], delay_s: float = 0.0, size: int = 0
    ) -> None:
        """Have `then` called at the other end, when it can be reached; never if it is void by then."""
        arrival = self.arrival(size) + delay_s
        self._network.simulation.call_at(arrival, self._carried, then, is_void)

    def _carried(self, then: Callable[[], None], is_void: Callable[[], bool]) -> None:
        if self.is_blocked:
            self._waiting = [each for each in self._waiting if not each[1]()]
            self._waiting.append((then, is_void))
        elif not is_void():
            then()

    def _flow(self) -> None:
        waiting, self._waiting = self._waiting, []
        for then, is_void in waiting:
            self.carry(then, is_void)


class _Stream:
    """One direction of a connection."""

    __slots__ = (
        "_arrival",
        "_back",
        "_connection",
        "_deadline",
        "_flying",
        "_flying_bytes",
        "_is_ended",
        "_is_held",
        "_is_mute",
        "_is_reset",
        "_link",
        "_network",
        "_receiver",
        "_sender",
        "_to_server",
        "_unheard_bytes",
        "_unheard_since",
        "_units",
        "_waiting",
        "_waiting_bytes",
    )

    def __init__(self, connection: Connection, sender: Transport, receiver: Transport) -> None:
        network = connection.network
        self._network = network
        self._connection = connection
        self._sender = sender
        self._receiver = receiver
        self._to_server = receiver is connection.server_end
        self._link = network.link(sender.process.name, receiver.process.name)
        self._back = network.link(receiver.process.name, sender.process.name)
        self._units = 0
        self._waiting: deque[bytes] = deque()
        """What does not fit into the window."""
        self._waiting_bytes = 0
        self._flying: deque[_Unit] = deque()
        self._flying_bytes = 0
        self._unheard_bytes = 0
        """What has landed, but its acknowledgement cannot come back."""
        self._unheard_since = 0.0
        self._arrival: Scheduled | None = None
        """Of the first that flies."""
        self._is_held = False
        """Whether the first that flies has found its way blocked."""
        self._deadline: Scheduled | None = None
        self._is_ended = self._is_reset = False
        self._is_mute = False
        """Whether the sending machine lost its power: nothing is sent again."""

    @property
    def unsent_bytes(self) -> int:
        """What is not in the receiver's kernel, as far as the sender knows."""
        return self._waiting_bytes + self._flying_bytes + self._unheard_bytes

    @property
    def is_backed_up(self) -> bool:
        """Whether something has not even left the sender."""
        return bool(self._waiting)

    # Sending

    def write(self, data: bytes) -> None:
        network, size = self._network, len(data)
        number = self._units
        self._units += 1
        network.statistics.units += 1
        network.statistics.bytes += size
        if network.mischief is not None:
            copies = network.mischief(self._connection, self._to_server, number, data)
            if copies is not None:
                for delay_s, copy in copies:
                    self._let_stray(delay_s, copy)
                return
        if self._waiting or not self._fits(size):
            self._waiting.append(data)
            self._waiting_bytes += size
        else:
            self._fly(_Kind.DATA, data)

    def _let_stray(self, delay_s: float, data: bytes) -> None:
        """Let this arrive in no order."""
        receiver = self._receiver
        self._link.carry(lambda: receiver._take(data), lambda: receiver._is_gone, delay_s, len(data))

    def _fits(self, size: int) -> bool:
        used = self._flying_bytes + self._receiver._received_bytes
        return used == 0 or used + size <= self._network.window_bytes

    def pump(self) -> None:
        """Send what fits now. The sender is told when everything has left."""
        while self._waiting and self._fits(len(self._waiting[0])):
            data = self._waiting.popleft()
            self._waiting_bytes -= len(data)
            self._fly(_Kind.DATA, data)
        if not self._waiting:
            self._sender._all_has_left()

    def hello(self) -> None:
        """Finish the handshake."""
        self._fly(_Kind.HELLO)

    def end(self) -> None:
        """Nothing follows."""
        if not self._is_ended:
            self._is_ended = True
            self._fly(_Kind.END)

    def reset(self, keep_flying: bool = False) -> None:
        """Tell the receiver that the connection is no more. What flies still lands before, if it is kept."""
        if self._is_reset and keep_flying:
            return
        if not keep_flying or self._receiver._is_gone:
            self.clear()
        self._waiting.clear()
        self._waiting_bytes = 0
        self._is_ended = self._is_reset = True
        self._is_mute = False
        if not self._receiver._is_gone:
            self._fly(_Kind.RESET)

    def clear(self) -> None:
        """Nothing of what was sent arrives any more."""
        self._waiting.clear()
        self._flying.clear()
        self._waiting_bytes = self._flying_bytes = self._unheard_bytes = 0
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None
        self._forget_deadline()

    def fall_silent(self) -> None:
        """The sending machine has no power: what has left it lands if nothing is in its way."""
        self._is_mute = True
        # An end or a reset that was on its way may be lost with the power: the machine that is back says it again.
        self._is_ended = self._is_reset = False
        self._waiting.clear()
        self._waiting_bytes = 0
        self._forget_deadline()
        if self._is_held:
            self.clear()

    # Flying

    def _fly(self, kind: _Kind, data: bytes = b"") -> None:
        size = len(data)
        self._flying.append(_Unit(kind, data, self._network.simulation.now, self._link.arrival(size)))
        self._flying_bytes += size
        self._await_arrival()

    def _await_arrival(self) -> None:
        """Only the first is awaited: whatever is behind it lands with it or after it."""
        if self._arrival is None and self._flying and not self._is_held:
            self._arrival = self._network.simulation.call_at(self._flying[0].arrival, self._arrive)

    def _arrive(self) -> None:
        self._arrival = None
        if self._link.is_blocked:
            if self._is_mute:
                self.clear()
            else:
                self._is_held = True
                self._mind_the_time()
            return
        now, flying = self._network.simulation.now, self._flying
        while flying and flying[0].arrival <= now:
            unit = flying.popleft()
            self._flying_bytes -= len(unit.data)
            self._land(unit)
        self._await_arrival()

    def flow(self) -> None:
        """One of the two links has healed, or the machine at the end is back."""
        self._forget_deadline()
        if self._is_held and not self._link.is_blocked:
            self._is_held = False
            for unit in self._flying:
                unit.arrival = self._link.arrival(len(unit.data))
            self._await_arrival()
        if self._unheard_bytes and not self._back.cut:
            self._unheard_bytes = 0
            self._sender._acknowledged()
        self._mind_the_time()

    def _land(self, unit: _Unit) -> None:
        receiver, kind = self._receiver, unit.kind
        if kind is _Kind.RESET:
            receiver._break(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
        elif receiver._is_gone:
            answer = receiver._out
            if kind is not _Kind.END or not answer._is_ended:
                answer.reset(keep_flying=True)
        elif kind is _Kind.DATA:
            receiver._take(unit.data)
        elif kind is _Kind.HELLO:
            receiver._await_acceptance()
        else:
            receiver._take_end()
        if not self._back.cut:
            self._sender._acknowledged()
        elif kind is _Kind.DATA:
            self._unheard_since = unit.sent_at if not self._unheard_bytes else self._unheard_since
            self._unheard_bytes += len(unit.data)
            self._mind_the_time()

    # Giving up

    def _mind_the_time(self) -> None:
        """Give up when something will have been unacknowledged for too long."""
        since = [self._unheard_since] if self._unheard_bytes else []
        if self._is_held:
            since += [unit.sent_at for unit in self._flying if unit.kind in (_Kind.DATA, _Kind.END)][:1]
        if since and self._deadline is None:
            deadline = min(since) + self._network.user_timeout_s
            self._deadline = self._network.simulation.call_at(deadline, self._give_up)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        self._sender._break(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
        self.reset()


class Connection:
    """A connection between two processes, which go by their names."""

    def __init__(self, network: Network, client: ProcessLoop, server: Server, address: Address) -> None:
        self.network = network
        self.client = client.name
        self.server = server.process.name
        self.host, self.port = address
        own = (network._host_of(client.name), network._next_port())
        self.client_end = Transport(self, client, own, address)
        self.server_end = Transport(self, server.process, address, own, server)
        self.client_end._out = self.server_end._in = self.to_server = _Stream(
            self, self.client_end, self.server_end
        )
        self.server_end._out = self.client_end._in = self.to_client = _Stream(
            self, self.server_end, self.client_end
        )
        network._connections[self] = None

    def __repr__(self) -> str:
        return f"<Connection {self.client} -> {self.server} {self.host}:{self.port}>"

    def inject(self, to_server: bool, data: bytes) -> None:
        """Let these bytes arrive now, though nobody has sent them."""
        (self.server_end if to_server else self.client_end)._take(data)

    def _miss(self) -> None:
        """Each end that is there finds that the other one is not."""
        for end in (self.client_end, self.server_end):
            end._break(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))

    def _settle(self) -> None:
        """When nobody is left who could notice anything of it, it is no more."""
        if self.client_end._is_gone and self.server_end._is_gone:
            self.to_server.clear()
            self.to_client.clear()
            self.network._connections.pop(self, None)


class Transport(asyncio.Transport):
    """One end of a connection: the socket in the kernel, and what asyncio makes of it for a process."""

    _out: _Stream
    _in: _Stream

    def __init__(
        self,
        connection: Connection,
        process: ProcessLoop,
        own: Address,
        peer: Address,
        server: Server | None = None,
    ) -> None:
        super().__init__({"sockname": own, "peername": peer})
        self.connection = connection
        self.process = process
        self._server = server
        self._protocol: asyncio.Protocol | None = None
        # The kernel's part.
        self._received: deque[bytes | memoryview] = deque()
        self._received_bytes = 0
        self._end_received = False
        self._error: OSError | None = None
        """Why the connection is broken."""
        self._is_gone = False
        """Whether the kernel knows of no such connection any more."""
        # The process's part.
        self._is_reading = False
        """Whether it has begun to, and has not come to the end."""
        self._is_paused = False
        self._is_reading_soon = False
        self._is_closing = False
        self._is_lost = False
        self._ends_soon = False
        """Whether `write_eof` was called."""
        self._is_writing_paused = False
        self._is_resuming_soon = False
        self.set_write_buffer_limits()

    def __repr__(self) -> str:
        state = "closing" if self._is_closing else "open"
        return f"<Transport of {self.process.name}, {self.connection!r}, {state}>"

    # What the kernel does

    def _take(self, data: bytes) -> None:
        """Something arrives."""
        if self._is_closing:
            self._in.pump()
        if self._is_gone or self._is_closing or self._end_received:
            return
        self.connection.network.statistics.delivered += 1
        self._received.append(data)
        self._received_bytes += len(data)
        self._read_soon()

    def _take_end(self) -> None:
        """The other end will send no more."""
        self._end_received = True
        self._read_soon()

    def _await_acceptance(self) -> None:
        assert self._server is not None
        self._server._let_in(self)

    def _acknowledged(self) -> None:
        """Something that was sent has arrived."""
        if self._is_writing_paused and not self._is_resuming_soon and self._may_resume():
            self._is_resuming_soon = True
            self.process.call_soon(self._resume_writing)

    def _all_has_left(self) -> None:
        """Nothing waits for the window any more."""
        if self._is_closing:
            self._go()
        elif self._ends_soon:
            self._out.end()

    def _break(self, error: OSError) -> None:
        """The connection is broken; the process will see that when it reads, or writes."""
        if self._is_gone:
            return
        had_to_send = self._out.is_backed_up
        self._is_gone = True
        self._error = error
        self._out.clear()
        if had_to_send:
            self.process.call_soon(self._lose, error)
        else:
            self._read_soon()
        self.connection._settle()

    def _vanish(self, is_silent: bool) -> None:
        """The process is no more. If its machine has no power, nobody hears of it."""
        was_gone, self._is_gone = self._is_gone, True
        self._is_closing = self._is_lost = True
        self._received.clear()
        self._received_bytes = 0
        self._in.pump()  # The window is closed no more: what waited for it will meet what it meets.
        if is_silent:
            self._out.fall_silent()
        elif not was_gone:
            self._out.reset(keep_flying=True)
        self.connection._settle()

    def _go(self) -> None:
        """Everything has left: the end of it follows, and the process is done with this connection."""
        if not self._is_gone:
            self._is_gone = True
            self._out.end()
            self.process.call_soon(self._lose, None)
            self.connection._settle()

    # What the process does

    def _begin(self, protocol: asyncio.BaseProtocol, waiter: asyncio.Future[None] | None = None) -> None:
        """Belong to a protocol."""
        self._protocol = cast(asyncio.Protocol, protocol)
        self.process.call_soon(protocol.connection_made, self)
        self.process.call_soon(self._begin_reading, waiter)

    def _begin_reading(self, waiter: asyncio.Future[None] | None) -> None:
        self._is_reading = True
        self._read_soon()
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _read_soon(self) -> None:
        """Have the process look, if there is something to see."""
        if (
            self._is_reading
            and not self._is_reading_soon
            and (self._received or self._end_received or self._error is not None)
        ):
            self._is_reading_soon = True
            self.process.call_soon(self._read)

    def _read(self) -> None:
        self._is_reading_soon = False
        protocol = self._protocol
        if self._is_closing or self._is_paused or protocol is None:
            return
        try:
            if self._received:
                data = self._next_data()
                self._in.pump()
                protocol.data_received(data)
                self._read_soon()
            elif self._end_received and self._error is None:
                self._is_reading = False
                if not protocol.eof_received():
                    self.close()
            elif self._error is not None:
                self._is_closing = True
                self.process.call_soon(self._lose, self._error)
        except Exception as error:  # noqa: BLE001 (Whatever it is, the connection is not to be used any more.)
            self._fail(error, "a protocol failed to take what has arrived")

    def _next_data(self) -> bytes:
        """What is there, but not too much, and whole units if they are not too large."""
        received = self._received
        pieces, size = [], 0
        while received and size + len(received[0]) <= READ_BYTES_MAX:
            pieces.append(received.popleft())
            size += len(pieces[-1])
        if not pieces:
            whole = memoryview(received[0])
            pieces.append(whole[:READ_BYTES_MAX])
            received[0] = whole[READ_BYTES_MAX:]
            size = READ_BYTES_MAX
        self._received_bytes -= size
        return pieces[0] if len(pieces) == 1 and isinstance(pieces[0], bytes) else b"".join(pieces)

    def _lose(self, error: Exception | None) -> None:
        """Tell the protocol that there is no connection any more, once."""
        if self._is_lost:
            return
        self._is_closing = self._is_lost = True
        self._received.clear()
        server, protocol = self._server, self._protocol
        try:
            if protocol is not None:
                protocol.connection_lost(error)
        finally:
            self._protocol = None
            if server is not None:
                server._detach(self)

    def _fail(self, error: Exception, message: str) -> None:
        """A protocol has made a mistake."""
        if not self._is_lost:
            context = {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
            self.process.call_exception_handler(context)
            self._abort(error)

    def _abort(self, error: Exception | None) -> None:
        if self._is_lost or (self._is_gone and self._is_closing):
            return
        was_gone, self._is_gone = self._is_gone, True
        self._is_closing = True
        self._received.clear()
        if not was_gone:
            self._out.reset()
        self.process.call_soon(self._lose, error)
        self.connection._settle()

    # Asyncio's transport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, self._protocol)

    def is_closing(self) -> bool:
        return self._is_closing or not self.process.is_alive

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._received.clear()
        self._received_bytes = 0
        self._in.pump()
        if self._is_gone:
            self.process.call_soon(self._lose, None)
        elif not self._out.is_backed_up:
            self._go()

    def abort(self) -> None:
        self._abort(None)

    def is_reading(self) -> bool:
        return not self._is_paused and not self._is_closing

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        if not self._is_closing:
            self._read_soon()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be bytes-like, not {type(data).__name__}")
        if self._ends_soon:
            raise RuntimeError("nothing can be written after write_eof()")
        if self._is_closing or not data:
            return
        if self._error is not None:
            self.process.call_soon(self._lose, self._error)
            return
        self._out.write(bytes(data))
        self._maybe_pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if self._is_closing or self._ends_soon:
            return
        self._ends_soon = True
        if not self._is_gone and not self._out.is_backed_up:
            self._out.end()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        """How many bytes are not in the receiver's kernel yet."""
        return self._out.unsent_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must not be below low ({low}), nor low below 0")
        self._high, self._low = high, low
        if self._protocol is not None:
            self._maybe_pause_writing()

    def _maybe_pause_writing(self) -> None:
        if not self._is_writing_paused and self._out.unsent_bytes > self._high:
            self._is_writing_paused = True
            if self._protocol is not None:
                self._tell(self._protocol.pause_writing)

    def _may_resume(self) -> bool:
        return self._out.unsent_bytes <= self._low

    def _resume_writing(self) -> None:
        self._is_resuming_soon = False
        if self._is_writing_paused and self._may_resume():
            self._is_writing_paused = False
            if self._protocol is not None:
                self._tell(self._protocol.resume_writing)

    def _tell(self, callback: Callable[[], None]) -> None:
        """Call the protocol. What it raises does not concern the connection."""
        try:
            callback()
        except Exception as error:  # noqa: BLE001 (It is for the handler.)
            context = {"message": "a protocol failed", "exception": error, "transport": self}
            self.process.call_exception_handler(context)


class _Socket:
    """As much of a listening socket as somebody wants to know."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.family = socket.AF_INET

    def getsockname(self) -> Address:
        return self._address


class Server(asyncio.AbstractServer):
    """A process that listens, at one or several addresses."""

    def __init__(
        self,
        network: Network,
        process: ProcessLoop,
        factory: Callable[[], asyncio.BaseProtocol],
        addresses: list[Address],
        backlog: int,
    ) -> None:
        self.process = process
        self.addresses = addresses
        self._network = network
        self._factory = factory
        self._backlog = max(1, backlog)
        self._queue: dict[Transport, None] = {}
        """Connected, but the process does not know of them yet."""
        self._attached: dict[Transport, None] = {}
        self._is_serving = True
        self._waiters: list[asyncio.Future[None]] = []

    # What the kernel does

    @property
    def _is_full(self) -> bool:
        return len(self._queue) >= self._backlog

    def _let_in(self, transport: Transport) -> None:
        if not self._is_serving:
            transport.abort()
            return
        self._queue[transport] = None
        self.process.call_soon(self._accept, transport)

    # What the process does

    def _accept(self, transport: Transport) -> None:
        if transport not in self._queue:
            return
        del self._queue[transport]
        try:
            protocol = self._factory()
        except BaseException:
            transport.abort()
            raise
        self._attached[transport] = None
        transport._begin(protocol)

    def _detach(self, transport: Transport) -> None:
        self._attached.pop(transport, None)
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        if not self._is_serving and not self._attached:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()

    # Asyncio's server

    @property
    def sockets(self) -> tuple[_Socket, ...]:
        return tuple(map(_Socket, self.addresses)) if self._is_serving else ()

    def get_loop(self) -> ProcessLoop:
        return self.process

    def is_serving(self) -> bool:
        return self._is_serving

    def close(self) -> None:
        if self._is_serving:
            self._is_serving = False
            self._network._unlisten(self)
            for transport in self._queue:
                transport.abort()
            self._queue.clear()
            self._wake_waiters()

    async def start_serving(self) -> None:
        pass

    async def serve_forever(self) -> None:
        try:
            await self.process.create_future()
        finally:
            self.close()
            await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until it is closed, and so are its connections (as from Python 3.12 on)."""
        if self._is_serving or self._attached:
            waiter: asyncio.Future[None] = self.process.create_future()
            self._waiters.append(waiter)
            await waiter


class _Attempt:
    """Somebody tries to connect."""

    def __init__(self, network: Network, process: ProcessLoop, address: Address) -> None:
        self._network = network
        self._process = process
        self._address = address
        self._owner = network._owner(process, address)
        self.future: asyncio.Future[Transport] = process.create_future()

    def is_over(self) -> bool:
        return self.future.done() or not self._process.is_alive

    def start(self) -> None:
        self._network.link(self._process.name, self._owner).carry(self._knock, self.is_over)

    def _knock(self) -> None:
        """We have come to the other machine."""
        back = self._network.link(self._owner, self._process.name)
        server = self._network._listening.get(self._address)
        if server is None:
            back.carry(self._refused, self.is_over)
        elif server._is_full:
            self._network.simulation.call_later(CONNECT_AGAIN_S, self._again)
        else:
            back.carry(lambda: self._welcome(server), self.is_over)

    def _again(self) -> None:
        if not self.is_over():
            self.start()

    def _refused(self) -> None:
        self.future.set_exception(ConnectionRefusedError(errno.ECONNREFUSED, f"{self._address} refuses"))

    def _welcome(self, server: Server) -> None:
        """The answer has come: we are connected. The other end is when it hears that it did."""
        connection = Connection(self._network, self._process, server, self._address)
        connection.to_server.hello()
        self.future.set_result(connection.client_end)


class Network:
    """All links, listeners and connections."""

    def __init__(
        self,
        simulation: Simulation,
        chance: random.Random,
        latency_s: tuple[float, float] = (0.0001, 0.001),
        bytes_per_s: float = math.inf,
        user_timeout_s: float = 3.0,
        keep_alive_s: float = math.inf,
        window_bytes: int = 256 << 10,
    ) -> None:
        """`latency_s` and `bytes_per_s` are what links begin with."""
        self.simulation = simulation
        self.random = chance
        self.latency_s = latency_s
        self.bytes_per_s = bytes_per_s
        self.user_timeout_s = user_timeout_s
        """After which time a sender gives up that hears nothing."""
        self.keep_alive_s = keep_alive_s
        """After which time both ends give up an idle connection over a cut link, or to a machine without power."""
        self.window_bytes = window_bytes
        """So much may be on its way and in the receiver's kernel together. (A larger unit goes when nothing else does.)"""
        self.mischief: Mischief | None = None
        """Asked, for each unit written, with the connection, whether it goes to the server, the unit's number in that
        direction and its bytes. None: it takes its way. A list: instead of it these bytes arrive, each so many seconds late, in
        no order."""
        self.statistics = Statistics()
        self._links: dict[tuple[str, str], Link] = {}
        self._processes: dict[str, ProcessLoop] = {}
        self._dark: set[str] = set()
        """Processes whose machines have no power. Only ever asked for a name."""
        self._listening: dict[Address, Server] = {}
        self._owners: dict[tuple[str, int | None], str] = {}
        """Who listens, or has last listened, at an address; without a port: at any of a host."""
        self._hosts: dict[str, str] = {}
        """Where a process has last listened."""
        self._connections: dict[Connection, None] = {}
        self._ports = 0

    # For whoever plays with it

    def link(self, sender: str, receiver: str) -> Link:
        """The way from one process to another, by their names."""
        link = self._links.get((sender, receiver))
        if link is None:
            link = self._links[sender, receiver] = Link(self, sender, receiver)
        return link

    def connections(self) -> list[Connection]:
        """Those that are open, at one end at least, in the order in which they were made."""
        return list(self._connections)

    def power_cut(self, process: ProcessLoop) -> None:
        """Like `kill`, but nobody hears of it. The machine has its power back when a process of that name starts."""
        if process.is_alive:
            self._dark.add(process.name)
            for connection in self.connections():
                if process in (connection.client_end.process, connection.server_end.process):
                    self.simulation.call_later(self.keep_alive_s, connection._miss)
            process.kill()

    # For processes

    def process_started(self, process: ProcessLoop) -> None:
        """A process has come to life. Raises `ValueError` if one of its name lives."""
        name = process.name
        if name in self._processes:
            raise ValueError(f"a process of the name {name} is alive")
        self._processes[name] = process
        self._owners.setdefault((name, None), name)
        if name in self._dark:
            self._dark.discard(name)
            for link in list(self._links.values()):
                if link.receiver == name:
                    self._flow(link)

    def process_ended(self, process: ProcessLoop) -> None:
        """A process is dead."""
        if self._processes.get(process.name) is process:
            del self._processes[process.name]
        is_silent = process.name in self._dark
        for server in [each for each in self._listening.values() if each.process is process]:
            self._unlisten(server)
        for connection in self.connections():
            for end in (connection.client_end, connection.server_end):
                if end.process is process:
                    end._vanish(is_silent)

    def listen(
        self,
        process: ProcessLoop,
        factory: Callable[[], asyncio.BaseProtocol],
        hosts: Any,
        port: int,
        backlog: int,
    ) -> Server:
        """Listen at one host or several; at one that stands for all, at that of the process's name. Port 0 is any port."""
        names = [hosts] if hosts is None or isinstance(hosts, str) else list(hosts)
        port = port or self._next_port()
        addresses = [(process.name if host in WILDCARDS else host, port) for host in names]
        for address in addresses:
            if address in self._listening:
                raise OSError(errno.EADDRINUSE, f"{address} is in use")
        server = Server(self, process, factory, addresses, backlog)
        for host, _ in addresses:
            self._listening[host, port] = server
            self._owners[host, port] = self._owners[host, None] = process.name
            self._hosts[process.name] = host
        return server

    async def connect(
        self, process: ProcessLoop, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Transport, asyncio.BaseProtocol]:
        """Connect. Raises `OSError` if nobody listens, or the host is unknown; waits while it cannot be reached."""
        attempt = _Attempt(self, process, (host, port))
        attempt.start()
        try:
            transport = await attempt.future
        except asyncio.CancelledError:
            if attempt.future.done() and not attempt.future.cancelled() and not attempt.future.exception():
                attempt.future.result().abort()
            raise
        try:
            protocol = factory()
            waiter: asyncio.Future[None] = process.create_future()
            transport._begin(protocol, waiter)
            await waiter
        except BaseException:
            transport.abort()
            raise
        return transport, protocol

    # Within

    def _unlisten(self, server: Server) -> None:
        server._is_serving = False
        for address in server.addresses:
            self._listening.pop(address, None)

    def _owner(self, process: ProcessLoop, address: Address) -> str:
        """The name of the process that is meant by an address."""
        host, _ = address
        owner = self._owners.get(address) or self._owners.get((host, None))
        if owner is None and host in LOCAL_HOSTS:
            owner = process.name
        if owner is None:
            raise socket.gaierror(socket.EAI_NONAME, f"nobody knows a host {host}")
        return owner

    def _host_of(self, name: str) -> str:
        return self._hosts.get(name, name)

    def _next_port(self) -> int:
        self._ports += 1
        return EPHEMERAL_PORTS[self._ports % len(EPHEMERAL_PORTS)]

    def _flow(self, link: Link) -> None:
        """Something may pass again."""
        link._flow()
        for connection in self.connections():
            for stream in (connection.to_server, connection.to_client):
                if stream._link is link or stream._back is link:
                    stream.flow()
