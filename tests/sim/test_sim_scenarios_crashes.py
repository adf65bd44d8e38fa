"""A machine stops in every single operation of its disk, and keeps every possible part of what was not synced.

A fixed script runs on two of three nodes, so that what was acknowledged lies on these two disks alone. Then one of the two loses
its power and comes back, the other goes away, and the third, which knows nothing, takes its place: whatever was
acknowledged must have been on the disk of the one that came back. Nothing is sampled: every operation is taken, and every choice
of pieces that the disk may keep.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from sim.stories import Command, Stage, is_error, unsynced
from sofadb.node.host import EXIT_STORAGE

SEGMENT_BYTES = 16 << 10
LARGE = "x" * 1_200
COMMANDS = 20
QUIET_AFTER = 6
"""A pause, in which the journal proves what it has."""
RESTART_AFTER = 13
IN_FLIGHT_S = 0.005
"""By then an answer that had left has arrived."""
PIECES_MAX = 6

Choice = frozenset[int]
Fail = Callable[[Stage, str, int], None]
"""Has the machine of a node fail in that operation of its disk, by its number."""
ROLES = ("single", "leader", "follower")


def request(number: int) -> tuple[Command, ...]:
    """What the script asks in its step of that number, in one go."""
    if number % 6 == 0:
        return ("MULTI",), ("SET", "left", number), ("SET", "right", number), ("EXEC",)
    if number % 6 == 1:
        return (("INCR", "count"),)
    if number % 10 == 5:
        return (("SET", f"large:{number}", LARGE),)
    return (("APPEND", "log", f"{number},"),)


@dataclass
class Scene:
    """One run of the script. `victim` is the node whose machine fails, `partner` the one that runs with it."""

    stage: Stage
    victim: str
    partner: str
    third: str
    fail: Fail
    at: int
    done: list[int] = field(default_factory=list)
    """The steps that were acknowledged."""
    open: list[int] = field(default_factory=list)
    """Those of unknown outcome."""

    @property
    def has_failed(self) -> bool:
        return not self.stage.machine(self.victim).is_up

    @property
    def world(self) -> object:
        """What there is, as far as it matters to what comes next: the time, what was told, and the disk."""
        disk = self.stage.disk(self.victim)
        files = [(name, bytes(it.stable), bytes(it.latest)) for name, it in sorted(disk.latest.items())]
        return self.stage.now, list(self.done), list(self.open), sorted(disk.stable), files

    def play(self) -> None:
        """The script, until something fails."""
        self.fail(self.stage, self.victim, self.at)
        for number in range(1, COMMANDS + 1):
            self.ask(self.victim if number % 2 else self.partner, number)
            if number == QUIET_AFTER:
                self.stage.pass_time(0.2)
            if number == RESTART_AFTER and not self.has_failed:
                self.stage.kill(self.victim)
                self.stage.cluster.start(self.victim)
                self.fail(self.stage, self.victim, self.at)
                self.stage.until(lambda: self.has_failed or self.stage.is_settled())
            if self.has_failed:
                return
        self.stage.pass_time(0.2)

    def ask(self, node: str, number: int) -> None:
        """One step, asked at that node."""
        try:
            talk = self.stage.connect(node)
        except OSError:
            assert self.has_failed
            return
        talk.say(*request(number))
        self.stage.until(lambda: talk.is_answered or talk.is_lost or self.has_failed)
        if not talk.is_answered:
            self.stage.pass_time(IN_FLIGHT_S)
        if talk.is_answered:
            assert not is_error(talk.replies[-1]), talk.replies
            self.done.append(number)
        else:
            self.open.append(number)

    def come_back(self) -> None:
        """The victim's machine runs again, and of the others the one that knows nothing."""
        if self.partner != self.victim:
            self.stage.lose_power(self.partner)
            self.stage.start(self.third)
        self.stage.start(self.victim)
        self.look()
        for number in range(COMMANDS + 1, COMMANDS + 4):
            self.ask(self.victim, number)
        assert self.done[-3:] == [COMMANDS + 1, COMMANDS + 2, COMMANDS + 3]
        if self.partner != self.victim:
            self.stage.start(self.partner)
        self.stage.assert_one_state()
        self.look()

    def look(self) -> None:
        """What was acknowledged is there, once; what is unknown at most once; and nothing else."""
        left, right, count, log = self.stage.insist(self.victim, "MGET", "left", "right", "count", "log")
        done: dict[str, list[int]] = {"APPEND": [], "INCR": [], "SET": [], "EXEC": []}
        for number in self.done:
            done[str(request(number)[-1][0])].append(number)
        appended = [int(each) for each in (log or "").split(",") if each]
        assert appended == sorted(set(appended)), "in their order, and each once"
        assert set(done["APPEND"]) <= set(appended) <= {*done["APPEND"], *self.open}
        assert len(done["INCR"]) <= int(count or 0) <= len(done["INCR"]) + len(self.open)
        assert left == right, "both or none"
        assert int(left or 0) in {max(done["EXEC"], default=0), *self.open}
        for number in done["SET"]:
            assert self.stage.insist(self.victim, "GET", f"large:{number}") == LARGE


def scene(role: str, fail: Fail, operation: int) -> Scene | None:
    """Play the script with a failure in the `operation`-th operation from its beginning; None if it has fewer."""
    stage = Stage(1 if role == "single" else 3, segment_bytes=SEGMENT_BYTES)
    leader = stage.leader
    partner, third = (leader, leader) if role == "single" else stage.others(leader)
    victim = leader
    if role == "follower":
        victim, partner = partner, victim
    if role != "single":
        stage.lose_power(third)
    played = Scene(stage, victim, partner, third, fail, stage.disk(victim).operations + operation)
    played.play()
    if played.has_failed:
        return played
    assert stage.disk(victim).operations < played.at, "it went on, as if nothing were"
    stage.cluster.close()
    return None


def choices(pieces: int) -> Iterator[Choice]:
    """What may be kept of so many pieces, every choice; first of all, nothing."""
    assert pieces <= PIECES_MAX, "that would take too long"
    for size in range(pieces + 1):
        yield from map(frozenset, itertools.combinations(range(pieces), size))


def stop(stage: Stage, node: str, operation: int) -> None:
    """The machine stops."""
    stage.crash_at(node, operation - stage.disk(node).operations)


def refuse(stage: Stage, node: str, operation: int) -> None:
    """The operation fails, and the next one would succeed."""
    stage.disk(node).fail_at = {operation: errno.EIO}


@pytest.mark.parametrize("role", ROLES)
def test_power_lost_in_every_operation_of_the_disk_loses_nothing_acknowledged_whatever_is_kept(
    role: str,
) -> None:
    """A stop in a sync is often the same world as a stop in the write before it; the same world is played once."""
    before: object = None
    played = 0
    for operation in itertools.count(1):
        crashed = scene(role, stop, operation)
        if crashed is None:
            break
        world, before = before, crashed.world
        if world == before:
            crashed.stage.cluster.close()
            continue
        for kept in choices(unsynced(crashed.stage.disk(crashed.victim))):
            again = crashed if not kept else scene(role, stop, operation)
            assert again is not None
            with again.stage as stage:
                stage.lose_power(again.victim, kept.__contains__)
                again.come_back()
            played += 1
    assert operation > 2 * COMMANDS
    assert played > 2 * COMMANDS


@pytest.mark.parametrize("power", ["the power is lost, too", "the process alone ends"])
@pytest.mark.parametrize("role", ROLES)
def test_every_operation_of_the_disk_that_fails_ends_the_process_and_loses_nothing_acknowledged(
    role: str, power: str
) -> None:
    """The next sync would succeed, over pages that are not on the disk: nobody must be answered on the strength of it."""
    for operation in itertools.count(1):
        failed = scene(role, refuse, operation)
        if failed is None:
            break
        with failed.stage as stage:
            end = stage.machine(failed.victim).end
            assert end is not None
            assert end.code == EXIT_STORAGE
            assert stage.disk(failed.victim).operations == failed.at, "nothing was tried after it"
            if power == "the process alone ends":
                stage.kill(failed.victim)
            else:
                stage.lose_power(failed.victim)
            failed.come_back()
    assert operation > 2 * COMMANDS
