"""A snapshot gets there, whatever the peers do: in parts, in time, from whoever has it, and never mixed from two files."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from sofadb.node import transfer as module
from sofadb.node.frames import Buffer
from sofadb.node.parcels import PART_BYTES_MAX, Fetch, Gone, Offering, Parcel, Part, Title
from sofadb.node.transfer import ANSWER_MS_MAX, ANSWER_MS_MIN, SILENCES_MAX, Receiver, Sender
from sofadb.storage.segment import Rot

PART = 1000
A = Title(7, 1)
B = Title(9, 2)
ROTTEN = b"rotten"
OTHER_A = Title(7, 3)
"""Of the same instance as `A`, but another file."""


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_BYTES_MAX", PART)


def file_of(title: Title, parts: float = 5.5) -> bytes:
    return bytes((title.salt * 31 + index) % 251 for index in range(int(parts * PART)))


class File:
    """What has arrived of a file."""

    def __init__(self, offering: Offering) -> None:
        self.offering = offering
        self.data = b""
        self.is_finished = False
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    @property
    def offset(self) -> int:
        return len(self.data)

    def write(self, offset: int, part: Buffer, /) -> None:
        assert self.is_open
        assert offset == len(self.data)
        if part == ROTTEN:
            self.data = self.data[:-500]  # What was not verified yet goes with it.
            raise Rot("snapshot", offset, "its checksum does not fit")
        self.data += part

    def finish(self) -> None:
        self.close()
        if self.data != file_of(self.offering.title):
            raise Rot("snapshot", 0, "its digest does not fit")
        self.is_finished = True


class World:
    """A receiver, the peers that it may ask, and time."""

    def __init__(self, bytes_per_s: float = 1e12) -> None:
        self.now = 0.0
        self.files: dict[str, dict[Title, bytes]] = {}
        """What each peer has; who is not here is silent."""
        self.disk: dict[Title, File] = {}
        """What has arrived; it outlives the receiver."""
        self.asked: list[tuple[float, str, Fetch]] = []
        self.done: list[int] = []
        self.watermark = 0
        self.bytes_per_s = bytes_per_s
        self.post: list[tuple[str, Parcel]] = []
        self.start()

    def start(self) -> None:
        """The receiver begins, again."""
        self.receiver = Receiver(
            lambda instance: instance > self.watermark,
            self.open,
            self.send,
            self.finished,
            self.bytes_per_s,
        )

    def open(self, offering: Offering) -> File:
        assert not any(file.is_open for file in self.disk.values() if not file.is_finished)
        self.disk = {title: file for title, file in self.disk.items() if title == offering.title}
        file = self.disk.setdefault(offering.title, File(offering))
        file.is_open = True
        return file

    def finished(self, instance: int) -> None:
        self.done.append(instance)
        self.watermark = instance

    def send(self, peer: str, parcel: Parcel) -> None:
        assert isinstance(parcel, Fetch)
        self.asked.append((self.now, peer, parcel))
        files = self.files.get(peer)
        if files is not None:
            sender = Sender(
                lambda title, offset, size: files[title][offset : offset + size] if title in files else None,
                lambda to, answer: self.post.append((peer, answer)),
                lambda to: True,
            )
            sender.on_fetch("me", parcel)

    def offer(self, peer: str, title: Title, data: bytes | None = None) -> None:
        data = file_of(title) if data is None else data
        self.files.setdefault(peer, {})[title] = data
        self.receiver.on_offering(peer, Offering(title, len(data)), self.now)

    def deliver(self) -> None:
        peer, parcel = self.post.pop(0)
        if isinstance(parcel, Part):
            self.receiver.on_part(peer, parcel, self.now)
        else:
            assert isinstance(parcel, Gone)
            self.receiver.on_gone(peer, parcel, self.now)

    def turn(self) -> bool:
        """One thing happens: something arrives, or else time passes. False: nothing ever will."""
        if self.post:
            self.now += 1
            self.deliver()
        elif (wake_at := self.receiver.wake_at) is not None:
            self.now = max(self.now, wake_at)
            self.receiver.on_tick(self.now)
        else:
            return False
        return True

    def until(self, condition: Callable[[], object], turns: int = 1000) -> None:
        for _ in range(turns):
            if condition():
                return
            assert self.turn(), "nothing happens any more"
        raise AssertionError(f"it is not so after {turns} turns")

    def whole(self, title: Title) -> bool:
        return title in self.disk and self.disk[title].is_finished

    def offsets(self, peer: str) -> list[int]:
        return [fetch.offset for _, each, fetch in self.asked if each == peer]


def test_a_file_arrives_in_parts_each_asked_for_once_and_is_told_of_when_it_is_whole() -> None:
    world = World()
    world.offer("n1", A)
    world.until(lambda: world.done)
    assert world.done == [7]
    assert world.whole(A)
    assert world.offsets("n1") == [0, 1000, 2000, 3000, 4000, 5000]
    assert world.asked[-1][2].size == 500
    assert world.receiver.wake_at is None


def test_what_is_of_no_use_is_not_fetched_and_what_ceases_to_be_is_left() -> None:
    world = World()
    world.watermark = 7
    world.offer("n1", A)
    assert world.asked == []
    world.watermark = 0
    world.offer("n1", A)
    world.turn()
    world.watermark = 8
    world.post.clear()
    world.turn()
    assert len(world.asked) == 2
    assert not world.turn()


def test_no_more_bytes_a_second_than_the_bound() -> None:
    world = World(bytes_per_s=10_000.0)
    world.offer("n1", A)
    world.until(lambda: world.done)
    times = [now for now, _, _ in world.asked]
    assert all(later - earlier == pytest.approx(100.0) for earlier, later in pairwise(times))


def test_who_is_silent_is_asked_again_after_longer_and_longer_pauses_for_ever() -> None:
    world = World()
    world.offer("n1", A)
    del world.files["n1"]
    world.post.clear()
    world.until(lambda: len(world.asked) == 20)
    pauses = [later[0] - earlier[0] for earlier, later in pairwise(world.asked)]
    assert pauses[0] == ANSWER_MS_MIN
    assert pauses == sorted(pauses)
    assert pauses[-1] == ANSWER_MS_MAX
    world.offer("n1", A)
    world.until(lambda: world.done)


def test_a_part_that_is_lost_is_asked_for_again() -> None:
    world = World()
    world.offer("n1", A)
    world.turn()
    world.post.clear()
    world.until(lambda: world.done)
    assert world.offsets("n1") == [0, 1000, 1000, 2000, 3000, 4000, 5000]


def test_from_a_peer_that_falls_silent_it_turns_to_another_which_goes_on_if_it_has_the_same_file() -> None:
    world = World()
    world.offer("n1", A)
    world.offer("n2", A)
    world.until(lambda: world.disk[A].offset == 3000)
    world.post.clear()
    del world.files["n1"]
    world.until(lambda: world.done)
    assert world.offsets("n1") == [0, 1000, 2000, *[3000] * SILENCES_MAX]
    assert world.offsets("n2") == [3000, 4000, 5000]


def test_another_file_of_the_same_instance_is_begun_anew_and_not_mixed_with_the_first() -> None:
    world = World()
    world.offer("n1", A)
    world.until(lambda: world.disk[A].offset == 3000)
    world.offer("n2", OTHER_A)
    del world.files["n1"][A]
    world.until(lambda: world.done)
    assert world.whole(OTHER_A)
    assert A not in world.disk
    assert world.offsets("n2")[0] == 0


def test_when_all_are_silent_each_has_its_turn_again() -> None:
    world = World()
    world.offer("n1", A)
    world.offer("n2", A)
    world.files.clear()
    world.post.clear()
    world.until(lambda: len(world.asked) > 4 * SILENCES_MAX)
    peers = [peer for _, peer, _ in world.asked]
    assert peers == sorted(peers[:SILENCES_MAX] * 1) + peers[SILENCES_MAX:]
    assert [peer for peer, following in pairwise(peers) if peer != following] == ["n1", "n2", "n1", "n2"]


def test_a_newer_snapshot_offered_meanwhile_does_not_matter_unless_the_old_one_is_gone() -> None:
    for is_gone in (False, True):
        world = World()
        world.offer("n1", A)
        world.until(lambda world=world: world.disk[A].offset == 2000)
        world.offer("n1", B)
        if is_gone:
            del world.files["n1"][A]
        world.until(lambda world=world: world.done)
        assert world.done == [9 if is_gone else 7]


def test_gone_without_another_offer_ends_it_and_the_next_offer_begins_it_again() -> None:
    world = World()
    world.offer("n1", A)
    world.until(lambda: world.disk[A].offset == 2000)
    world.files["n1"] = {}
    while world.turn():
        pass
    assert world.done == []
    world.offer("n3", A)
    world.until(lambda: world.done)
    assert world.offsets("n3")[0] == 3000


def test_a_receiver_that_is_started_again_goes_on_where_it_was() -> None:
    world = World()
    world.offer("n1", A)
    world.until(lambda: world.disk[A].offset == 4000)
    world.disk[A].close()
    world.start()
    assert not world.receiver.wake_at
    late = world.post.pop()
    world.offer("n1", A)
    world.post.insert(
        0, late
    )  # What its former life had asked for: the very part that it wants, or one that it has.
    world.until(lambda: world.done)
    assert world.offsets("n1")[-2:] == [4000, 5000]
    assert world.whole(A)


def test_a_sender_that_is_started_again_is_asked_again() -> None:
    world = World()
    world.offer("n1", A)
    world.until(lambda: world.disk[A].offset == 2000)
    files = world.files.pop("n1")
    world.post.clear()
    world.turn()
    world.files["n1"] = files
    world.until(lambda: world.done)
    assert world.offsets("n1").count(2000) == 3


def test_a_file_that_is_whole_but_damaged_is_not_told_of_and_fetched_from_another() -> None:
    world = World()
    world.offer("n1", A, bytes(len(file_of(A))))
    world.disk[A].data = bytes(PART)
    world.offer("n2", OTHER_A)
    world.until(lambda: world.done)
    assert world.whole(OTHER_A)
    assert not world.whole(A)


def test_what_arrives_whole_at_the_restart_is_verified_at_once() -> None:
    world = World()
    world.disk[A] = File(Offering(A, len(file_of(A))))
    world.disk[A].close()
    world.disk[A].data = file_of(A)
    world.offer("n1", A)
    assert world.done == [7]
    assert world.asked == []


def test_parts_that_were_not_asked_for_change_nothing() -> None:
    world = World()
    stray = Part(A, 0, file_of(A)[:PART])
    world.receiver.on_part("n1", stray, 0.0)
    world.receiver.on_gone("n1", Gone(A), 0.0)
    world.offer("n1", A)
    for peer, part in (
        ("n2", stray),
        ("n1", Part(OTHER_A, 0, b"x")),
        ("n1", Part(A, 1, b"x")),
        ("n1", Part(A, 0, b"")),
    ):
        world.receiver.on_part(peer, part, 0.0)
    world.receiver.on_gone("n2", Gone(A), 0.0)
    world.receiver.on_gone("n1", Gone(B), 0.0)
    assert world.disk[A].offset == 0
    world.until(lambda: world.done)
    assert world.whole(A)


@pytest.mark.parametrize("others", [(), ("n2",)])
def test_a_damaged_part_is_fetched_again_from_another_or_when_it_is_offered_again(
    others: tuple[str, ...],
) -> None:
    world = World()
    for peer in ("n1", *others):
        world.offer(peer, A)
    world.until(lambda: world.disk[A].offset == 2000)
    world.post = [("n1", Part(A, 2000, ROTTEN))]
    world.turn()
    assert world.disk[A].offset == 1500
    if not others:
        assert not world.turn()
        world.offer("n1", A)
    world.until(lambda: world.done)
    assert world.offsets(others[0] if others else "n1")[-4:] == [1500, 2500, 3500, 4500]
    assert world.whole(A)


def test_a_peer_that_sends_more_than_the_file_has_is_left() -> None:
    world = World()
    world.offer("n1", A)
    world.post.clear()
    world.receiver.on_part("n1", Part(A, 0, bytes(6 * PART)), 1.0)
    assert world.disk[A].offset == 0
    assert world.receiver.wake_at is None
    world.offer("n2", A)
    world.until(lambda: world.done)
    assert world.whole(A)


def test_no_more_offers_are_remembered_than_a_bound() -> None:
    world = World()
    for number in range(2 * module.OFFERS_MAX):
        world.receiver.on_offering(f"n{number}", Offering(A, 1), 0.0)
    assert len(world.receiver._offers) == module.OFFERS_MAX


# The sender


def test_a_sender_reads_nothing_while_a_part_waits_to_leave_for_that_peer() -> None:
    read: list[int] = []
    sent: list[tuple[str, Parcel]] = []
    busy = {"n1"}

    def read_part(title: Title, offset: int, size: int) -> bytes:
        read.append(offset)
        return bytes(size)

    sender = Sender(
        read_part, lambda peer, parcel: sent.append((peer, parcel)), lambda peer: peer not in busy
    )
    for peer in ("n1", "n2"):
        sender.on_fetch(peer, Fetch(A, 5, PART_BYTES_MAX))
    assert read == [5]
    assert sent == [("n2", Part(A, 5, bytes(PART)))], "and no more than a part"


def test_a_fetch_of_what_is_not_there_is_answered_by_gone() -> None:
    sent: list[tuple[str, Parcel]] = []
    for nothing in (None, b""):
        Sender(
            lambda title, offset, size, nothing=nothing: nothing,  # type: ignore[misc]
            lambda peer, parcel: sent.append((peer, parcel)),
            lambda peer: True,
        ).on_fetch("n1", Fetch(A, 5, 1))
    assert sent == [("n1", Gone(A))] * 2
