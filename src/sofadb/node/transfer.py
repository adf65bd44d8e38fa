"""How a replica that is behind the cut gets a peer's snapshot: part by part, from one peer at a time.

Who is behind asks, and nothing is sent that was not asked for. One part is under way at any time: the receiver asks for the
next one when it has written the last, and not before its bound of bytes per second allows. No answer for a while: it asks
again, each time after a longer pause; from a peer that stays silent, or says that the file is gone, it turns to another that
has offered one. A file of the same title is gone on with where it was, from whomever, and after a restart, too; another one is
begun anew, since parts of two files never fit together. A newer snapshot that is offered meanwhile does not matter: the log goes
on from the old one as well. Only when the old one is gone is a newer one begun.

No part is trusted: the file is verified as a whole when all of it is there.

Time comes from outside (milliseconds of a clock that never runs backwards), and what is to be done goes outside through
callbacks, so this knows neither sockets nor files nor clocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from sofadb.paxos import NodeId
from sofadb.storage.files import NoSpace
from sofadb.storage.identity import plain_name
from sofadb.storage.segment import Rot

from .frames import Buffer
from .parcels import PART_BYTES_MAX, Fetch, Gone, Offering, Parcel, Part, Title

log = logging.getLogger("sofadb.transfer")

BYTES_PER_S = 64_000_000
"""No faster than this, unless told otherwise: clients' commands use the same network and disks."""
ANSWER_MS_MIN, ANSWER_MS_MAX = 1_000.0, 30_000.0
"""How long an answer is waited for; doubled each time in vain."""
NO_ROOM_MS = 5_000.0
"""Without room for what arrives, it is asked for again after so long."""
SILENCES_MAX = 3
"""So often a peer may leave us without an answer before another one is asked."""
OFFERS_MAX = 64
"""Of so many peers an offer is remembered."""


class Receiving(Protocol):
    """A file that arrives in parts (`ReceivedSnapshot` is one)."""

    @property
    def offset(self) -> int:
        """How many bytes of it, from the beginning, are there."""
        ...

    def write(self, offset: int, part: Buffer, /) -> object:
        """Put the next bytes in. Raises `Rot` if they are not what was written; `offset` may then be lower than before."""
        ...

    def finish(self) -> object:
        """All is there: close it and put it in its place. Raises `Rot` if it is damaged; nothing of it is left then."""
        ...

    def close(self) -> None:
        """Keep what has arrived for later."""
        ...


@dataclass(slots=True)
class _Transfer:
    """One file on its way."""

    offering: Offering
    peer: NodeId
    file: Receiving
    is_asked: bool = False
    """Whether the answer to a fetch is waited for."""
    asked_at: float = 0.0
    due: float = 0.0
    """When to ask, for the first time or again."""
    silences: int = 0
    answer_ms: float = ANSWER_MS_MIN


@dataclass(slots=True)
class Receiver:
    """The side of the replica that is behind."""

    wants: Callable[[int], bool]
    """Whether a snapshot of that instance is of use (still)."""
    open: Callable[[Offering], Receiving]
    """Begin the file, or go on with what there is of it; whatever is there of others is thrown away."""
    send: Callable[[NodeId, Parcel], object]
    done: Callable[[int], None]
    """A snapshot of that instance is there, whole."""
    bytes_per_s: float = BYTES_PER_S
    _offers: dict[NodeId, Offering] = field(default_factory=dict)
    """The latest of each peer."""
    _transfer: _Transfer | None = None
    _free_at: float = 0.0
    """When the bound of bytes per second allows the next part."""

    @property
    def wake_at(self) -> float | None:
        """When `on_tick` wants to be called; None: not before something arrives."""
        return None if self._transfer is None else self._transfer.due

    @property
    def progress(self) -> tuple[NodeId, Offering, int] | None:
        """What is under way: from whom, what, and how many bytes of it are here."""
        transfer = self._transfer
        return None if transfer is None else (transfer.peer, transfer.offering, transfer.file.offset)

    def on_offering(self, peer: NodeId, offering: Offering, now: float) -> None:
        """A peer has a snapshot for us."""
        if not self.wants(offering.title.instance):
            return
        if peer not in self._offers and len(self._offers) >= OFFERS_MAX:
            del self._offers[next(iter(self._offers))]
        self._offers[peer] = offering
        if self._transfer is None:
            self._begin(now)

    def on_part(self, peer: NodeId, part: Part, now: float) -> None:
        """A part has come. Only the one that was asked for is taken."""
        transfer = self._transfer
        if transfer is None or not transfer.is_asked or peer != transfer.peer:
            return
        file, size = transfer.file, len(part.data)
        if part.title != transfer.offering.title or part.offset != file.offset or not size:
            return
        if file.offset + size > transfer.offering.size:
            self._leave_peer(now, "sends more than there should be")
            return
        try:
            file.write(part.offset, part.data)
        except Rot as problem:
            self._leave_peer(now, f"sent something damaged: {problem}")
            return
        except NoSpace as problem:
            log.error("no room for a snapshot that arrives: %s", problem)
            transfer.is_asked, transfer.due = False, now + NO_ROOM_MS
            return
        self._free_at = max(self._free_at, transfer.asked_at) + 1000 * size / self.bytes_per_s
        transfer.is_asked, transfer.silences, transfer.answer_ms = False, 0, ANSWER_MS_MIN
        self._go_on(transfer, now)

    def on_gone(self, peer: NodeId, gone: Gone, now: float) -> None:
        """A peer has no such file any more."""
        offering = self._offers.get(peer)
        if offering is not None and offering.title == gone.title:
            del self._offers[peer]
        transfer = self._transfer
        if transfer is not None and (transfer.peer, transfer.offering.title) == (peer, gone.title):
            self._begin(now, before=transfer)

    def on_tick(self, now: float) -> None:
        """Look whether something is due."""
        transfer = self._transfer
        if transfer is None or now < transfer.due:
            return
        if not self.wants(transfer.offering.title.instance):
            transfer.file.close()
            self._transfer = None
            self._offers.clear()
            return
        if transfer.is_asked:
            transfer.silences += 1
            transfer.answer_ms = min(ANSWER_MS_MAX, 2 * transfer.answer_ms)
            if transfer.silences >= SILENCES_MAX and len(self._offers) > 1:
                self._leave_peer(now, "does not answer")
                return
        self._ask(transfer, now)

    def _go_on(self, transfer: _Transfer, now: float) -> None:
        """Ask for the next part as soon as that may be, or finish."""
        if transfer.file.offset >= transfer.offering.size:
            self._finish(transfer, now)
        elif now < self._free_at:
            transfer.due = self._free_at
        else:
            self._ask(transfer, now)

    def _ask(self, transfer: _Transfer, now: float) -> None:
        offset = transfer.file.offset
        size = min(PART_BYTES_MAX, transfer.offering.size - offset)
        transfer.is_asked, transfer.asked_at, transfer.due = True, now, now + transfer.answer_ms
        self.send(transfer.peer, Fetch(transfer.offering.title, offset, size))

    def _begin(self, now: float, before: _Transfer | None = None) -> None:
        """Choose among what is offered: first what we have a part of, then the newest. Nothing is offered: wait."""
        self._transfer = None
        offers = {peer: each for peer, each in self._offers.items() if self.wants(each.title.instance)}
        if not offers:
            if before is not None:
                before.file.close()
            return
        title = before.offering.title if before is not None else None
        peer = max(offers, key=lambda each: (offers[each].title == title, offers[each].title.instance))
        offering = offers[peer]
        if before is not None and offering == before.offering:
            transfer = _Transfer(offering, peer, before.file)
        else:
            if before is not None:
                before.file.close()
            try:
                transfer = _Transfer(offering, peer, self.open(offering))
            except NoSpace as problem:
                log.error("no room for a snapshot that is offered: %s", problem)
                self._offers.clear()  # Who lacks something asks again, and is offered it again.
                return
        if before is not None:
            transfer.answer_ms = before.answer_ms  # If nobody answers, the pauses grow all the same.
        self._transfer = transfer
        log.info(
            "fetching the snapshot of instance %d from %s: %d of %d bytes are here",
            offering.title.instance,
            plain_name(peer),
            transfer.file.offset,
            offering.size,
        )
        self._go_on(transfer, now)

    def _leave_peer(self, now: float, problem: str) -> None:
        """Turn to another peer; this one may be asked again after all the others."""
        before = self._transfer
        assert before is not None
        log.warning("the snapshot from %s: it %s", plain_name(before.peer), problem)
        offering = self._offers.pop(before.peer, None)
        self._begin(now, before)
        if offering is not None:
            self._offers[before.peer] = offering

    def _finish(self, transfer: _Transfer, now: float) -> None:
        self._transfer = None
        instance = transfer.offering.title.instance
        try:
            transfer.file.finish()
        except Rot as problem:
            log.warning("the snapshot from %s is damaged: %s", plain_name(transfer.peer), problem)
            self._offers.pop(transfer.peer, None)
            self._begin(now)
            return
        self._offers.clear()
        self.done(instance)


@dataclass(slots=True)
class Sender:
    """The side of whoever has the snapshot. It remembers nothing: each fetch says what it wants."""

    read_part: Callable[[Title, int, int], bytes | None]
    """The bytes of a file from an offset on, at most so many; None if there is no such file."""
    send: Callable[[NodeId, Parcel], object]
    may_send_part: Callable[[NodeId], bool]
    """Whether no other part waits to leave for that peer: there is never more than one in memory for each."""

    def on_fetch(self, peer: NodeId, fetch: Fetch) -> None:
        """Answer, or not: who hears nothing asks again."""
        if not self.may_send_part(peer):
            return
        data = self.read_part(fetch.title, fetch.offset, min(fetch.size, PART_BYTES_MAX))
        self.send(peer, Part(fetch.title, fetch.offset, data) if data else Gone(fetch.title))
