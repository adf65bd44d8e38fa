"""Every way in which a node can fail, or be failed by what is around it, put in on purpose: what it says and does, and what not.

Most stories are played by whole nodes of the laboratory, whose disks, networks and peers fail when the story says so. Where the
point is a real event loop, a real process or its exit code, it is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import random
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from node.test_node_peers import (
    Station,
    accepted,
    connection,
    encoded,
    greet,
    greeting_from,
    hello,
    impostor,
    in_a_loop,
    life,
    ports_of,
    until,
)
from processes import PATIENCE_S, free_ports
from sim.stories import Stage, blocks, is_error
from sofadb.node import host as host_module
from sofadb.node import live
from sofadb.node import peers as peers_module
from sofadb.node.frames import LANES, BadPeer, Greeting, frame
from sofadb.node.host import EXIT_INVARIANT, EXIT_STORAGE, LiveHost
from sofadb.node.live import RunningNode, start_node
from sofadb.paxos import Event, Instance, Message, NodeId, Read, Received, Settings, Submit, Tick
from sofadb.paxos.messages import Accept, Ask, Learn
from sofadb.sim.disk import SimulatedDisk, SimulatedFile
from sofadb.storage.files import StorageError
from sofadb.storage.identity import Life, Opened
from sofadb.storage.segment import BLOCK_HEADER_BYTES, RECORD_HEADER_BYTES, SegmentHeader
from sofadb.unlikely import POINTS, choose_by, never

SMALL_SEGMENT_BYTES = 16 << 10


class Breakable(Stage):
    """A stage on which a node may end of a broken belief: the story says which, and looks at what is left."""

    def judge(self) -> None:
        if self.cluster.watch.violation is not None:
            raise self.cluster.watch.violation

    def expect_broken_end(self, name: str) -> str:
        """Wait until the node has ended of a broken belief; return its last words."""
        machine = self.machine(name)
        self.until(lambda: machine.end is not None)
        assert machine.end is not None
        assert machine.end.code == EXIT_INVARIANT, machine.end
        assert not machine.is_up
        return machine.end.text


def running_of(stage: Stage, name: str) -> RunningNode:
    running = stage.machine(name).running
    assert running is not None, f"{name} does not take part"
    return running


def life_of(stage: Stage, name: str) -> Life:
    return running_of(stage, name).opened.identity.life


def sent_by(stage: Stage, sender: str, kind: type) -> list[Message]:
    """From now on, all messages of that kind that leave a node for another."""
    sent: list[Message] = []

    def note(of: str, to: str, message: Message) -> None:
        if of == sender and isinstance(message, kind):
            sent.append(message)

    stage.tampering.append(note)
    return sent


def entries_in(taught: list[Message]) -> int:
    """How many entries of clients there are in these messages."""
    return sum(len(value.entries) for message in cast(list[Learn], taught) for value in message.values)


# A disk that fails while the node is at work


def behind(stage: Stage, count: int) -> tuple[str, str]:
    """The leader, and a follower that was away while so many values were chosen that are in nobody's memory any more."""
    leader = stage.leader
    follower = stage.others(leader)[0]
    stage.kill(follower)
    for number in range(count):
        assert stage.ask(leader, "SET", f"k{number}", number) == "OK"
    return leader, follower


FROM_DISK = Settings(tail_bytes_max=1)
"""Nothing is taught from memory but the last value."""


@pytest.mark.parametrize("fault", ["rot", "a failed read"])
def test_a_leader_that_cannot_read_what_it_is_asked_to_teach_ends_and_teaches_nothing(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pupil learns it from the others; a guess or a gap would be learned for good."""
    with Stage(settings=FROM_DISK) as stage:
        leader, follower = behind(stage, 20)
        name, begin, _ = list(blocks(stage.disk(leader)))[-10]
        words = f"cannot read {name}"
        if fault == "rot":
            stage.disk(leader).flip(name, begin + BLOCK_HEADER_BYTES + RECORD_HEADER_BYTES)
            words = f"{name} is damaged at offset {begin + BLOCK_HEADER_BYTES}: the record of instance"
        else:
            disk, read = stage.disk(leader), SimulatedFile.read

            def fail(file: SimulatedFile, size: int, offset: int) -> bytes:
                if file.disk is disk and offset > begin:
                    raise StorageError(f"cannot read {file.name}: Input/output error")
                return read(file, size, offset)

            monkeypatch.setattr(SimulatedFile, "read", fail)
        taught = sent_by(stage, leader, Learn)
        stage.cluster.start(follower)
        assert words in stage.expect_storage_end(leader)
        assert not entries_in(taught), "what was read before the damage is not told either"
        expected = [str(number) for number in range(20)]
        assert [stage.insist(follower, "GET", f"k{number}") for number in range(20)] == expected
        stage.assert_one_state()


def test_a_value_that_is_chosen_and_not_on_disk_is_a_broken_belief_and_not_an_empty_value() -> None:
    with Breakable(settings=FROM_DISK) as stage:
        leader, follower = behind(stage, 20)
        index = running_of(stage, leader).world.journal._index
        index.places[10] = 0
        taught = sent_by(stage, leader, Learn)
        stage.cluster.start(follower)
        assert stage.expect_broken_end(leader) == "a broken invariant; this node stops"
        assert not entries_in(taught)
        assert stage.insist(follower, "GET", "k19") == "19"


class Watchful:
    """Stands before a disk's operations on one file, and makes the n-th of them fail."""

    def __init__(self, disk: SimulatedDisk, file: str, fail_at: int, error: Exception) -> None:
        self.count = disk.count
        self.file = file
        self.fail_at = fail_at
        self.error = error
        self.seen: list[str] = []
        disk.count = self.on_operation  # type: ignore[method-assign]

    def on_operation(self, what: str, name: str) -> None:
        follows = what == "sync directory" and self.seen[-1:] == ["rename"]
        if name.startswith(self.file) or follows:
            self.seen.append(what)
            if len(self.seen) == self.fail_at:
                raise self.error
        self.count(what, name)


@pytest.mark.parametrize("fail_at", range(1, 6))
def test_a_node_that_cannot_write_down_whom_it_has_met_ends_before_it_listens_to_it(fail_at: int) -> None:
    """Else it would not know, in its next life, that an emptied disk is one."""
    with Stage() as stage:
        node = stage.leader
        newcomer = stage.others(node)[0]
        stage.until(lambda: stage.have_met(*stage.names))
        known = running_of(stage, node).peers.known[newcomer]
        before = known.life
        stage.kill(newcomer)
        stage.pass_time(0.1)  # What it had said before has arrived.
        heard: list[NodeId] = []
        received = running_of(stage, node).peers.received
        running_of(stage, node).peers.received = lambda sender, message: (
            heard.append(sender),
            received(sender, message),
        )[1]
        watchful = Watchful(stage.disk(node), "met", fail_at, StorageError("met: the disk is full"))
        stage.cluster.start(newcomer)
        assert stage.expect_storage_end(node) == "met: the disk is full"
        assert len(watchful.seen) == fail_at
        assert watchful.seen == ["create", "write", "sync", "rename", "sync directory"][:fail_at]
        assert newcomer not in heard
        assert known.life == before
        assert not known.inbound
        assert not known.links
        stage.start(node)
        stage.until(lambda: stage.have_met(*stage.names))
        stage.assert_one_state()


def test_a_mistake_in_what_was_to_be_written_down_ends_the_node_and_not_only_the_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is an `OSError`, such as sockets raise, and no socket's: nobody waits for the task, and nobody would ever know."""
    with Breakable() as stage:
        node = stage.leader
        newcomer = stage.others(node)[0]
        stage.until(lambda: stage.have_met(*stage.names))
        stage.kill(newcomer)
        mistake = OSError(errno.EBADF, "something that storage should have put into words")
        Watchful(stage.disk(node), "met", 1, mistake)
        stage.cluster.start(newcomer)
        assert stage.expect_broken_end(node) == "a broken invariant; this node stops"
        (told,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
        assert told.getMessage() == "a task of the peers ended by a mistake"
        assert told.exc_info is not None
        assert told.exc_info[1] is mistake
        stage.start(node)
        stage.assert_one_state()


def test_a_disk_that_fails_ends_the_node_and_nothing_that_waited_for_it_is_answered() -> None:
    with Stage() as stage:
        leader = stage.leader
        talk = stage.connect(leader)
        stage.pass_time(0.5)  # All is quiet, and proven.
        stage.disk(leader).fail_next["write"] = errno.EIO
        accepts = sent_by(stage, leader, Accept)
        talk.say(("SET", "a", 1))
        assert "EIO" in stage.expect_storage_end(leader)
        stage.until(lambda: talk.is_lost)
        assert talk.replies == []
        assert len(accepts) == 2, "the others may have it: who waits for them knows nothing"
        stage.start(leader)
        stage.assert_one_state()


# A disk that does not keep up


def test_a_node_whose_disk_is_stuck_takes_in_no_more_than_a_bound_and_goes_on_listening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it passed over it is told again, when the disk is itself again."""
    bound, size = 100_000, 10_000
    monkeypatch.setattr(live, "UNSAVED_BYTES_MAX", bound)
    with Stage() as stage:
        leader = stage.leader
        stuck, other = stage.others(leader)
        host, world = stage.machine(stuck).host, running_of(stage, stuck).world
        assert host is not None
        host.stalled_until = stage.now + 20
        most, phases = 0, set()
        for number in range(50):
            assert stage.ask(leader, "SET", f"k{number}", "x" * size) == "OK"
            most = max(most, world.writer.pending_bytes)
            phases.add(running_of(stage, stuck).replica.phase.name)
        stage.pass_time(2.0)
        assert bound < most < bound + 2 * size
        assert world.writer.pending_bytes < bound + 2 * size
        assert phases == {"following"}, "it hears its leader all the while"
        assert running_of(stage, stuck).replica.leader == leader
        stage.until(lambda: stage.node(stuck).applied >= stage.node(other).applied, 60.0)
        assert stage.ask(stuck, "GET", "k49") == "x" * size


def test_a_peer_that_is_gone_before_it_was_written_down_that_it_is_there_gets_no_link() -> None:
    """The disk was slow; when it was done, the connection was over, and what is sent is dropped at once and not into it."""
    with Stage() as stage:
        node = stage.leader
        newcomer = stage.others(node)[0]
        stage.until(lambda: stage.have_met(*stage.names))
        stage.kill(newcomer)
        host, peers = stage.machine(node).host, running_of(stage, node).peers
        assert host is not None
        known = peers.known[newcomer]
        host.stalled_until = stage.now + 3
        stage.cluster.start(newcomer)
        stage.pass_time(2.0)
        assert not known.links
        stage.kill(newcomer)
        stage.until(lambda: host.stalled_until < stage.now and not peers._keeping.locked())
        stage.pass_time(0.01)
        assert known.life == life_of(stage, newcomer), "that it was there is noted all the same"
        assert not known.links
        assert known.problem
        dropped = known.dropped
        peers.send(newcomer, Ask(Instance(1)))
        assert known.dropped == dropped + 1
        stage.start(newcomer)
        stage.until(lambda: len(known.links) == len(LANES))


def test_a_connection_that_timed_out_while_it_was_written_down_whose_it_is_is_not_listened_to() -> None:
    with Stage() as stage:
        node = stage.others(stage.leader)[0]
        newcomer = stage.others(node, stage.leader)[0]
        stage.until(lambda: stage.have_met(*stage.names))
        stage.kill(newcomer)
        host, peers = stage.machine(node).host, running_of(stage, node).peers
        assert host is not None
        host.stalled_until = stage.now + peers_module.GREETING_TIMEOUT_S + 1
        stage.cluster.start(newcomer)
        stage.until(lambda: stage.machine(newcomer).running is not None)
        stage.until(lambda: any(each.is_confirmed and each.peer is None for each in peers.inbound))
        early = [each for each in peers.inbound if each.is_confirmed and each.peer is None]
        assert early
        stage.until(lambda: stage.now > host.stalled_until)
        stage.until(lambda: len(peers.known[newcomer].inbound) == len(LANES))
        heard = list(peers.known[newcomer].inbound.values())
        assert all(each.peer is None and each not in heard and each not in peers.inbound for each in early)
        stage.assert_one_state()


# What must not be


def break_step(stage: Stage, name: str, kind: type, mistake: Exception) -> None:
    """From now on the replica of that node cannot take such an event."""
    replica = running_of(stage, name).replica
    step = replica.step

    def broken(event: Event, moment: Any) -> Any:
        if isinstance(event, kind):
            raise mistake
        return step(event, moment)

    replica.step = broken  # type: ignore[method-assign]


def break_stable(stage: Stage, name: str, mistake: Exception) -> None:
    """From now on whatever waits there for the disk fails when it is told."""
    writer = running_of(stage, name).world.writer
    save = writer.save

    def broken() -> None:
        raise mistake

    writer.save = lambda records, done: save(records, broken)  # type: ignore[method-assign]


BREAKS: dict[str, Callable[[Stage, str, Exception], None]] = {
    "a message": lambda stage, name, mistake: break_step(stage, name, Received, mistake),
    "the timer": lambda stage, name, mistake: break_step(stage, name, Tick, mistake),
    "a client's write": lambda stage, name, mistake: break_step(stage, name, Submit, mistake),
    "what is stable": break_stable,
}


@pytest.mark.parametrize("where", BREAKS)
def test_a_broken_belief_ends_the_node_wherever_it_is_noticed_and_nothing_is_answered_on_its_strength(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    mistake = AssertionError("two and two are five")
    with Breakable() as stage:
        leader = stage.leader
        talk = stage.connect(leader)
        BREAKS[where](stage, leader, mistake)
        talk.say(("SET", "a", 1))
        assert stage.expect_broken_end(leader) == "a broken invariant; this node stops"
        told = [record for record in caplog.records if record.levelno == logging.CRITICAL]
        assert [record.exc_info[1] for record in told if record.exc_info] == [mistake], "for whoever mends it"
        stage.until(lambda: talk.is_lost)
        if where != "the timer":
            assert talk.replies == []
        stage.until(lambda: stage.leader not in ("", leader))
        found = stage.insist(stage.leader, "GET", "a")
        assert found == "1" if talk.replies else found in (None, "1")
        stage.start(leader)
        stage.assert_one_state()


def test_a_broken_belief_while_a_read_is_answered_ends_the_node_and_the_reader_is_told_nothing() -> None:
    with Breakable() as stage:
        reader = stage.others(stage.leader)[0]
        assert stage.ask(reader, "SET", "a", 1) == "OK"
        talk = stage.connect(reader)
        break_step(stage, reader, Read, AssertionError("what is read is older than what was known"))
        talk.say(("GET", "a"), ("PING",))
        stage.expect_broken_end(reader)
        stage.until(lambda: talk.is_lost)
        assert talk.replies == []


def test_what_the_system_refuses_a_socket_is_told_and_the_node_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No descriptor for one more connection: not a belief of ours."""
    with Stage() as stage:
        loop = stage.machine(stage.leader).loop
        assert loop is not None
        problem = OSError(errno.EMFILE, "Too many open files")
        context = {"message": "socket.accept() out of system resource", "exception": problem}
        loop.call_exception_handler(context)
        assert caplog.messages[-1] == f"socket.accept() out of system resource: {problem}"
        assert caplog.records[-1].levelno == logging.WARNING
        assert stage.ask(stage.leader, "SET", "a", 1) == "OK"


def test_the_same_error_from_a_callback_of_ours_is_a_broken_belief() -> None:
    """Nobody knows what was left half done."""
    with Breakable() as stage:
        leader = stage.leader
        break_step(stage, leader, Tick, OSError(errno.EMFILE, "Too many open files"))
        stage.expect_broken_end(leader)


# A start that cannot be


def test_a_log_whose_beginning_is_missing_and_was_not_given_up_is_refused() -> None:
    """Of what was accepted there nobody knows anything."""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        node = stage.others(stage.leader)[0]
        for number in range(60):
            assert stage.ask(stage.leader, "SET", f"k{number}", "x" * 200) == "OK"
        stage.until(lambda: stage.node(node).applied >= 60)
        stage.kill(node)
        disk = stage.disk(node)
        segments = [name for name in disk.names() if name.startswith("journal-")]
        assert len(segments) > 2
        first = segments[0]
        del disk.latest[first], disk.stable[first]
        stage.cluster.start(node)
        words = stage.expect_storage_end(node)
        assert words.startswith(f"/{node}: the beginning of the journal is missing")
        assert "Put the missing files back" in words
        assert disk.open_files == 0, "nothing is left open"
        stage.until(lambda: not running_of(stage, stage.leader).peers.known[node].inbound)


def test_a_node_on_an_emptied_disk_says_who_told_it_and_comes_back_as_another_acceptor(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Stage() as stage:
        node = stage.others(stage.leader)[0]
        assert stage.ask(stage.leader, "SET", "a", 1) == "OK"
        stage.until(lambda: stage.have_met(*stage.names))
        stage.kill(node)
        stage.start_forgetful(node, SimulatedDisk())
        stage.until_begun_anew(node)
        assert "has met this node" in caplog.text
        assert f"what is in /{node} is set aside" in caplog.text
        stage.until_it_votes(node)
        assert stage.ask(node, "GET", "a") == "1"


def test_a_log_of_another_format_keeps_the_node_away_and_its_directory_free() -> None:
    with Stage() as stage:
        node = stage.others(stage.leader)[0]
        assert stage.ask(stage.leader, "SET", "a", 1) == "OK"
        stage.pass_time(0.5)
        stage.kill(node)
        disk = stage.disk(node)
        (name, _, _), *_ = blocks(disk)
        header = SegmentHeader(1, int(name[8:24], 16), 0, 64 << 10, 0, 0).encode()
        for content in (disk.latest[name].latest, disk.latest[name].stable):
            content[: len(header)] = header
        closed: list[Opened] = []
        close = Opened.close
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Opened, "close", lambda opened: (closed.append(opened), close(opened))[1])
            stage.cluster.start(node)
            assert "put the right file back" in stage.expect_storage_end(node)
        assert len(closed) == 1, "whoever repairs it may lock it"
        assert stage.ask(stage.leader, "GET", "a") == "1"


# Peers that are not what they should be

ASK = b"".join(frame([encoded(Ask(Instance(1)))]))
CONFIRMATION = b"".join(frame([b""]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"acceptor": "n 2"},
        {"acceptor": "n" * 33},
        {"cluster": "c\n"},
        {"life": "ü"},
        {"acceptor": "n3~"},
        {"acceptor": "n3~0000000G"},
        {"acceptor": ""},
        {"peer_address": "17001"},
        {"met": "a/b"},
        {"to": "*"},
        {"lane": "middling"},
        {"client_address": "nowhere"},
        {"client_address": "a b:1"},
        {"client_address": "a:123456"},
        {"problem": "a\nforged line of the log"},
        {"problem": "x" * 1001},
    ],
    ids=lambda wrong: next(iter(wrong.items()))[0],
)
@in_a_loop
async def test_a_stranger_with_names_that_cannot_be_is_closed_and_told_nothing(wrong: dict[str, str]) -> None:
    """Its words would stand in our log, and in what clients are shown."""
    greeting = replace(greeting_from("n2"), **wrong)
    with pytest.raises(BadPeer, match="names that cannot be"):
        Greeting.decode(greeting.encode())
    async with Station(ports_of("n1", "n2"), "n1") as n1, connection(n1.port) as stranger:
        stranger.writer.write(hello(greeting) + CONFIRMATION + ASK)
        assert await stranger.receive() == []
        assert n1.kept == []
        assert n1.mail.empty()


@in_a_loop
async def test_an_earlier_life_that_answers_at_a_peers_address_is_left_and_nothing_is_sent_to_it() -> None:
    """Two processes of one node, or an old copy of its directory: whoever answers, has been outlived."""
    ports = ports_of("n1", "n2")
    met = {"n2": life("n2", 3)}
    async with (
        impostor(ports["n2"], hello(greeting_from("n2", 2, met="n1-1"))) as arrived,
        Station(ports, "n1", met=met) as n1,
    ):
        caller = await arrived.get()
        greeting, *more = await caller.receive()
        assert Greeting.decode(greeting).met == life("n2", 3).id
        while received := await caller.receive():
            more += received
        assert more == [], "no confirmation, and no message"
        await until(lambda: n1.peers.known["n2"].problem == "node n2 has been met in a later life")
        assert not n1.peers.known["n2"].links
        assert n1.kept == []


class SlowStation(Station):
    """A station whose disk takes as long as the test says to write down whom it has met."""

    def __init__(self, ports: dict[NodeId, int], node: NodeId) -> None:
        super().__init__(ports, node)
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.peers.keep = self.keep

    def keep(self, met: dict[NodeId, Life]) -> None:
        self.begun.release()
        assert self.may_end.wait(PATIENCE_S)
        self.kept.append(met)


@in_a_loop
async def test_what_comes_along_with_the_confirmation_is_lost_and_what_comes_later_is_heard() -> None:
    """Until it is on our disk whom we have met, nothing it says may count."""
    async with SlowStation(ports_of("n1", "n2"), "n1") as n1, connection(n1.port) as n2:
        n2.writer.write(hello(greeting_from("n2")))
        assert len(await n2.receive()) == 1
        n2.writer.write(CONFIRMATION + ASK + CONFIRMATION)
        await asyncio.to_thread(n1.begun.acquire)
        assert n1.mail.empty()
        assert not n1.peers.known["n2"].inbound
        n1.may_end.set()
        await accepted(n1, "n2")
        n2.send(encoded(Ask(Instance(2))))
        assert await n1.mail.get() == ("n2", Ask(Instance(2)))
        assert n1.mail.empty()


@in_a_loop
async def test_an_earlier_life_that_confirms_after_a_later_one_has_come_is_not_heard() -> None:
    """When it greeted, nothing spoke against it."""
    async with (
        Station(ports_of("n1", "n2"), "n1") as n1,
        connection(n1.port) as earlier,
        connection(n1.port) as later,
    ):
        earlier.writer.write(hello(greeting_from("n2", 1)))
        (answer,) = await earlier.receive()
        assert Greeting.decode(answer).problem == ""
        await greet(later, greeting_from("n2", 2))
        await accepted(n1, "n2")
        earlier.writer.write(CONFIRMATION)
        await until(lambda: any(each.is_confirmed and each.peer is None for each in n1.peers.inbound))
        await until(lambda: len(n1.peers._tasks) == len(LANES))  # Whatever was to be written down is.
        earlier.writer.write(ASK)
        later.send(encoded(Ask(Instance(2))))
        assert await n1.mail.get() == ("n2", Ask(Instance(2)))
        assert n1.mail.empty()
        assert n1.kept == [{"n2": life("n2", 2)}]
        assert n1.peers.known["n2"].life == life("n2", 2)


@in_a_loop
async def test_of_two_connections_of_a_new_life_one_has_it_written_down_and_both_are_heard() -> None:
    async with (
        SlowStation(ports_of("n1", "n2"), "n1") as n1,
        connection(n1.port) as small,
        connection(n1.port) as large,
    ):
        await greet(small, greeting_from("n2"))
        await greet(large, greeting_from("n2", lane="large"))
        await asyncio.to_thread(n1.begun.acquire)
        await until(lambda: sum(each.is_confirmed for each in n1.peers.inbound) == 2)
        n1.may_end.set()
        await accepted(n1, "n2")
        await accepted(n1, "n2", "large")
        assert n1.kept == [{"n2": life("n2", 1)}]


# Real event loops


def in_either_loop(test: Callable[..., Awaitable[None]]) -> Any:
    """Run a test in uvloop, as production does, and in asyncio's own loop."""

    @pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
    def running(run: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await test(tmp_path, monkeypatch)

        run(bounded())

    running.__name__, running.__doc__ = test.__name__, test.__doc__
    return running


class Host(LiveHost):
    """The machine that this process runs on, but that a test outlives the end of a node."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.ends: list[tuple[int, str]] = []

    def die(self, code: int, text: str) -> Any:
        self.ends.append((code, text))


@contextlib.asynccontextmanager
async def alone(directory: Path, port: int) -> AsyncIterator[tuple[RunningNode, Host]]:
    """The only node of a cluster, on this machine."""
    host = Host(directory)
    members = {"n1": f"127.0.0.1:{port}"}
    running = await start_node(host, "n1", ("127.0.0.1", port), "127.0.0.1:1", members)
    try:
        yield running, host
    finally:
        await running.stop()


@in_either_loop
async def test_a_node_on_a_real_machine_leads_alone_stops_in_good_order_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ballots = []
    (port,) = free_ports(1)
    for starts in (1, 2):
        async with alone(tmp_path, port) as (running, host):
            await until(lambda running=running: running.facts().role == "leading")
            facts = running.facts()
            assert (facts.starts, facts.leader, facts.directory) == (starts, "n1", str(tmp_path))
            assert facts.members[0].peer_address == f"127.0.0.1:{port}"
            before, moment = host.now(), running.world.moment()
            assert before <= moment.now <= host.now()
            assert abs(moment.clock - time.time() * 1000) < 60_000
            with pytest.raises(StorageError, match="in use by another process"):
                Host(tmp_path).open_directory("n1", None, 0)
            ballots.append(running.replica.ballot)
        assert host.ends == []
    assert ballots[0] < ballots[1], "it has not forgotten what it promised"


@in_either_loop
async def test_a_port_that_is_taken_is_an_error_for_the_caller_and_the_directory_is_free_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        host = Host(tmp_path)
        with pytest.raises(OSError, match="ddress already in use"):
            await start_node(host, "n1", ("127.0.0.1", port), "127.0.0.1:1", {"n1": f"127.0.0.1:{port}"})
        assert host.ends == []
    host.open_directory("n1", None, 0).close()


@in_a_loop
async def test_peers_that_could_not_listen_have_nothing_to_stop() -> None:
    ports = ports_of("n1", "n2")
    async with Station(ports, "n1"):
        late = Station(ports, "n1")
        with pytest.raises(OSError, match="ddress already in use"):
            await late.peers.start("127.0.0.1", late.port)
        await late.peers.stop()
        assert not late.peers._tasks


@in_either_loop
async def test_a_host_name_that_is_none_is_a_problem_of_that_peer_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking it up raises no `OSError`. The task must not end: somebody may mend what the name stands for."""
    monkeypatch.setattr(peers_module, "PAUSE_MS_MIN", 1.0)
    mistakes: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: mistakes.append(context))
    ports = ports_of("n1", "n2")
    names = {"n3": "a..b", "n4": "x" * 64, "n5": ".", "n6": "\u00fc" * 70}
    async with Station(ports, "n2") as n2:
        n1 = Station(ports, "n1")
        n1.peers.known |= {node: peers_module.Peer(node, name, 17001) for node, name in names.items()}
        async with n1:
            await n1.connected("n2")
            await until(lambda: all("idna" in n1.peers.known[node].problem for node in names))
            for peer in map(n1.peers.known.get, names):
                assert peer is not None
                peer.problems = dict.fromkeys(LANES, "")
            await until(lambda: all("idna" in n1.peers.known[node].problem for node in names))
            n1.peers.send("n2", Ask(Instance(1)))
            assert await n2.mail.get() == ("n1", Ask(Instance(1)))
    assert mistakes == []


@pytest.mark.parametrize("problem", [errno.EMFILE, errno.ENOMEM])
def test_a_connection_that_cannot_be_accepted_costs_a_real_node_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, problem: int
) -> None:
    """Asyncio's own loop reports it to the handler for whatever nobody handled. (libuv makes room by itself.)"""
    monkeypatch.setattr(asyncio.constants, "ACCEPT_RETRY_DELAY", 0.001)
    accept, refused = socket.socket.accept, [0]

    def refuse_once(listening: socket.socket) -> Any:
        if not refused[0]:
            refused[0] += 1
            raise OSError(problem, os.strerror(problem))
        return accept(listening)

    async def story() -> None:
        (port,) = free_ports(1)
        async with asyncio.timeout(PATIENCE_S), alone(tmp_path, port) as (running, host):
            await until(lambda: running.facts().role == "leading")
            monkeypatch.setattr(socket.socket, "accept", refuse_once)
            async with connection(port):
                await until(lambda: running.peers.inbound)
            assert refused == [1]
            assert host.ends == []
            assert running.facts().role == "leading"

    asyncio.run(story())
    assert any(os.strerror(problem) in message for message in caplog.messages)


# The end of a process


class Gone(BaseException):
    """Stands for the end of this process."""


def test_last_words_are_written_before_the_process_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[object] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            order.append((record.levelname, record.getMessage()))

        def flush(self) -> None:
            order.append("flushed")

    def exit_now(code: int) -> None:
        order.append(code)
        raise Gone

    monkeypatch.setattr(host_module.os, "_exit", exit_now)
    monkeypatch.setattr(logging.getLogger("sofadb"), "handlers", [Handler()])
    with pytest.raises(Gone):
        LiveHost(tmp_path).die(EXIT_STORAGE, "100 % of the disk is full: %s")
    assert order == [("CRITICAL", "100 % of the disk is full: %s"), "flushed", EXIT_STORAGE]


PRELUDE = """
    import asyncio, atexit, errno, os, sys, threading
    from pathlib import Path
    from sofadb.node import logs
    from sofadb.node.host import LiveHost
    from sofadb.node.live import start_node
    from sofadb.node.logs import start_logging

    logs.FLUSH_TIMEOUT_S = 5.0
    start_logging()
    atexit.register(print, "at exit")
    host = LiveHost(Path(sys.argv[1]))

    async def node():
        port = int(sys.argv[2])
        running = await start_node(
            host, "n1", ("127.0.0.1", port), "127.0.0.1:1", {"n1": f"127.0.0.1:{port}"}
        )
        while running.facts().role != "leading":
            await asyncio.sleep(0)
        return running

    def run(story):
        try:
            asyncio.run(story())
        finally:
            print("finally")
"""


def ended(tmp_path: Path, program: str, reads_stderr: bool = True) -> tuple[int, str, str]:
    """Run a program in a process of its own until it ends; its exit code and what it said."""
    (port,) = free_ports(1)
    text = textwrap.dedent(PRELUDE) + textwrap.dedent(program)
    command = [sys.executable, "-u", "-c", text, str(tmp_path / "data"), str(port)]
    if not reads_stderr:
        read_end, write_end = os.pipe()
        try:
            result = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=write_end, text=True, timeout=PATIENCE_S, check=False
            )
        finally:
            os.close(read_end)
            os.close(write_end)
        return result.returncode, result.stdout, ""
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return result.returncode, result.stdout, result.stderr


def test_a_real_process_whose_disk_fails_is_gone_at_once_and_says_why(tmp_path: Path) -> None:
    """The disk thread ends it, while the loop has other things to do; nothing that stands behind is run, or told."""
    code, said, log = ended(
        tmp_path,
        """
        async def story():
            running = await node()
            class Work:
                size = 0
                encode = bytes
                execute = fail = lambda self, _: print("told")
            def fail(descriptor):
                raise OSError(errno.EIO, "Input/output error")
            os.fdatasync = fail
            running.node.submit(Work())
            while True:
                await asyncio.sleep(0)
        run(story)
        """,
    )
    assert code == EXIT_STORAGE
    assert said == ""
    last = log.splitlines()[-1]
    assert " CRITICAL " in last
    assert f"cannot sync {tmp_path}/data/journal-" in last
    assert "Input/output error; it is not tried again" in last


def test_a_real_process_with_a_broken_belief_is_gone_at_once_and_shows_where(tmp_path: Path) -> None:
    code, said, log = ended(
        tmp_path,
        """
        async def story():
            running = await node()
            def broken(event, moment):
                raise AssertionError("two and two are five")
            running.replica.step = broken
            while True:
                await asyncio.sleep(3600)
        run(story)
        """,
    )
    assert code == EXIT_INVARIANT
    assert said == ""
    assert "AssertionError: two and two are five" in log
    assert log.splitlines()[-1].endswith("a broken invariant; this node stops")


def test_a_process_can_end_though_nobody_reads_what_it_says(tmp_path: Path) -> None:
    code, said, _ = ended(
        tmp_path,
        """
        import logging
        logs.FLUSH_TIMEOUT_S = 0.01
        for number in range(20_000):  # Far more than the pipe holds.
            logging.getLogger("sofadb").info("line %d %s", number, "x" * 100)
        host.die(74, "the disk is full")
        """,
        reads_stderr=False,
    )
    assert (code, said) == (EXIT_STORAGE, "")


# The unlikely

IN_THE_SERVER = ("run of one command", "one run at a time", "no reads behind writes", "input paused")
IN_THE_SERVER += ("reply in pieces", "request in pieces")
"""What is chosen in the server."""


@pytest.fixture
def chosen() -> Iterator[Counter[str]]:
    """From now on the unlikely happens, one time in eight; how often, by name."""
    chance, happened = random.Random(7), Counter[str]()

    def choose(point: str) -> bool:
        happens = point not in IN_THE_SERVER and chance.random() < 0.125
        happened[point] += happens
        return happens

    choose_by(choose)
    yield happened
    choose_by(never)


def test_whatever_unlikely_is_chosen_in_a_node_clients_are_told_the_truth(chosen: Counter[str]) -> None:
    """Messages twice and lost, links that break, segments that end early, leaders who give up: all of it at once."""
    with Stage(settings=FROM_DISK) as stage:
        done: list[int] = []
        for number in range(60):
            node = stage.names[number % 3]
            if number % 20 == 15:
                stage.kill(node)
                stage.start(node)
            talk = stage.connect(node)
            talk.say(("APPEND", "log", f"{number},"), ("SET", f"k{number}", 1, "PX", 100), ("GET", "log"))
            talk.hear(60.0)
            talk.ask("GET", "log", within_s=60.0)
            length, _, log, read = talk.replies
            if not is_error(length) and not is_error(log):
                done.append(number)
                assert log.endswith(f"{number},")
                assert length == len(log)
                assert is_error(read) or read.startswith(log)
        assert len(done) > 30
        stage.pass_time(1.0)
        choose_by(never)
        stage.assert_one_state()
        log = stage.insist("n1", "GET", "log")
        numbers = [int(each) for each in log.split(",")[:-1]]
        assert len(numbers) == len(set(numbers)), "each is done at most once"
        assert set(done) <= set(numbers)
        assert stage.insist("n1", "DBSIZE") == 1, "what was to expire has"
    missing = {point for point in POINTS if point not in IN_THE_SERVER and not chosen[point]}
    assert missing == set()
