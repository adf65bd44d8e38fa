"""Connections, and the loop that lets speakers speak on them.

It waits for sockets and for the next moment at which something is due, in one `select` on the selector's own descriptor: that one
counts in microseconds, where epoll counts in milliseconds.

A connection that breaks is made anew, at the next address; what was asked on it has failed.
"""

from __future__ import annotations

import select
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

from .latencies import Figures
from .pacing import Closed, Open, Pacing
from .speakers import Speaker

Address = tuple[str, int]
Progress = Callable[[Figures], None]
"""Is shown the figures now and then."""

TICK_S = 0.0005
"""In an open loop, what is due within so long may leave together."""
TURN_S = 0.1
"""Nothing is waited for longer without a look at the clock."""
AGAIN_S = 0.02
"""So long after a connection broke it is made anew."""
CONNECT_TIMEOUT_S = 10.0
SILENCE_MAX_S = 30.0
"""So long nobody may answer before work is given up."""
RECEIVED_MAX = 1 << 18


class NobodyAnswers(Exception):
    """Not in time; the text says where."""


class Connection:
    """A socket and its speaker."""

    def __init__(self, speaker: Speaker, address: Address) -> None:
        self.speaker = speaker
        self.outstanding = 0
        self.is_open = True
        self.has_places = False
        self.unsent = bytearray()
        self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(address)
        self.is_watched_for_room = True
        """A connection that is being made has room as soon as it is there."""


class Generator:
    """A load on some connections; in a `with` statement, which makes them and closes them."""

    def __init__(
        self,
        make_speaker: Callable[[], Speaker],
        addresses: Sequence[Address],
        connections: int,
        depth: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connections are spread over the addresses; on each, at most `depth` requests are unanswered."""
        self._make_speaker, self._addresses = make_speaker, addresses
        self._count, self._depth, self._clock = connections, depth, clock
        self._selector = selectors.DefaultSelector()
        self._connections: list[Connection] = []
        self._made = 0
        """So many connections have been made, broken ones included."""
        self._places: deque[Connection] = deque()
        """Where one more request may be asked; a connection stands here as often as it has room for one."""
        self._again_at: list[float] = []
        self._figures = Figures()
        self._last_answer = 0.0

    def __enter__(self) -> Generator:
        """Raises `NobodyAnswers`."""
        for _ in range(self._count):
            self._connect()
        deadline = self._clock() + CONNECT_TIMEOUT_S
        while len(self._connections) < self._count or not all(map(_is_ready, self._connections)):
            if self._clock() > deadline:
                self._close()
                raise NobodyAnswers(self._where())
            self._turn(TICK_S)
        return self

    def _where(self) -> str:
        return ", ".join(f"{host}:{port}" for host, port in self._addresses)

    def __exit__(self, *_: object) -> None:
        self._close()

    def closed(self, seconds: float, warm_up: float = 0.0, progress: Progress | None = None) -> Figures:
        """Ask as fast as answers come. What is answered during the warm-up is not noted."""
        pacing = Closed()
        self._until(self._clock() + warm_up, pacing, None)
        begin = self._begin_anew()
        self._until(begin + seconds, pacing, progress)
        self._figures.seconds = self._clock() - begin
        return self._end()

    def some(self, count: int) -> Figures:
        """Ask so many times, as fast as answers come. What was asked on a connection that broke is not asked again.

        Raises `NobodyAnswers`.
        """
        pacing = Closed(count)
        begin = self._begin_anew()
        while self._figures.answers + self._figures.errors < count:
            self._ask(pacing, now := self._clock())
            if now > self._last_answer + SILENCE_MAX_S:
                raise NobodyAnswers(self._where())
            self._turn(TURN_S)
        self._figures.seconds = self._clock() - begin
        return self._end()

    def open(
        self, rate: float, seconds: float, patience: float = 10.0, progress: Progress | None = None
    ) -> Figures:
        """Ask `rate` times a second for so long, and then wait `patience` seconds for the last answers."""
        begin = self._begin_anew()
        pacing = Open(begin, rate)
        self._until(begin + seconds, pacing, progress)
        deadline = self._clock() + patience
        while self._clock() < deadline and (
            any(each.outstanding for each in self._connections) or pacing.late()
        ):
            self._ask(pacing, begin + seconds)
            self._turn(TICK_S)
        now = self._clock()
        late = [due for each in self._connections for due in each.speaker.unanswered()] + pacing.late()
        self._figures.latencies.extend(now - due for due in late)
        self._figures.unanswered += len(late)
        self._figures.seconds = seconds
        return self._end()

    def _begin_anew(self) -> float:
        self._figures = Figures()
        self._last_answer = self._clock()
        return self._last_answer

    def _end(self) -> Figures:
        self._note_silence(self._clock())
        return self._figures

    def _until(self, end: float, pacing: Pacing, progress: Progress | None) -> None:
        shown_at = begin = self._clock()
        while (now := self._clock()) < end:
            self._ask(pacing, now)
            wake_at = pacing.wake_at()
            until = min(end, now + TURN_S if wake_at is None else max(wake_at, now + TICK_S))
            self._turn(max(0.0, until - self._clock()))
            if progress is not None and now > shown_at + TURN_S:
                shown_at = now
                self._figures.seconds = now - begin
                progress(self._figures)

    def _ask(self, pacing: Pacing, now: float) -> None:
        """Let leave what is due, from one connection to the next as far as they have places."""
        touched: dict[int, Connection] = {}
        for moment in pacing.due(now, len(self._places)):
            connection = self._places.popleft()
            connection.unsent += connection.speaker.request(moment)
            connection.outstanding += 1
            touched[id(connection)] = connection
        for connection in touched.values():
            self._send(connection)

    def _turn(self, patience: float) -> None:
        """Wait until something happens, and see to it."""
        now = self._clock()
        while self._again_at and self._again_at[0] <= now:
            self._again_at.pop(0)
            self._connect()
        events = self._selector.select(0)
        if not events and patience > 0:
            select.select([self._selector], [], [], patience)
            events = self._selector.select(0)
        for key, mask in events:
            connection: Connection = key.data
            if mask & selectors.EVENT_WRITE:
                self._on_room(connection)
            if mask & selectors.EVENT_READ and connection.is_open:
                self._receive(connection)

    def _on_room(self, connection: Connection) -> None:
        self._watch_for_room(connection, False)
        self._send(connection)
        if connection.is_open and not connection.has_places and connection.speaker.is_ready:
            self._give_places(connection)

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(RECEIVED_MAX)
            if not data:
                raise ConnectionError("closed by the other end")
            answers = connection.speaker.feed(data)
        except BlockingIOError:
            return
        except OSError:
            self._lose(connection)
            return
        if answers:
            now = self._clock()
            connection.outstanding -= len(answers)
            self._places.extend([connection] * len(answers))
            good = [now - due for due, is_good in answers if is_good]
            self._figures.errors += len(answers) - len(good)
            if good:
                self._figures.latencies.extend(good)
                self._note_silence(now)
        if connection.speaker.outgoing:
            self._send(connection)
        if not connection.has_places and connection.speaker.is_ready:
            self._give_places(connection)

    def _give_places(self, connection: Connection) -> None:
        connection.has_places = True
        self._places.extend([connection] * self._depth)

    def _send(self, connection: Connection) -> None:
        if connection.speaker.outgoing:
            connection.unsent += connection.speaker.outgoing
            connection.speaker.outgoing.clear()
        if not connection.unsent or connection.is_watched_for_room:
            return
        try:
            sent = connection.socket.send(connection.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lose(connection)
            return
        del connection.unsent[:sent]
        if connection.unsent:
            self._watch_for_room(connection, True)

    def _watch_for_room(self, connection: Connection, is_watched: bool) -> None:
        if connection.is_watched_for_room != is_watched:
            connection.is_watched_for_room = is_watched
            write = selectors.EVENT_WRITE if is_watched else 0
            self._selector.modify(connection.socket, selectors.EVENT_READ | write, connection)

    def _note_silence(self, now: float) -> None:
        self._figures.silence = max(self._figures.silence, now - self._last_answer)
        self._last_answer = now

    def _connect(self) -> None:
        address = self._addresses[self._made % len(self._addresses)]
        self._made += 1
        connection = Connection(self._make_speaker(), address)
        self._connections.append(connection)
        self._selector.register(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)

    def _lose(self, connection: Connection) -> None:
        connection.is_open = False
        self._figures.errors += len(connection.speaker.unanswered())
        self._places = deque(each for each in self._places if each is not connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()
        self._connections.remove(connection)
        self._again_at.append(self._clock() + AGAIN_S)

    def _close(self) -> None:
        for connection in self._connections:
            connection.socket.close()
        self._selector.close()


def _is_ready(connection: Connection) -> bool:
    return connection.has_places and not connection.is_watched_for_room
