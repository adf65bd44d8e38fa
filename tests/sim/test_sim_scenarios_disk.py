"""What disks do to whole nodes: rot, torn writes, lost names, failed syncs. (`..._crashes` stops in every operation.)"""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import count, product

import pytest

from sim.stories import Stage, blocks, is_error, unsynced
from sofadb.sim.disk import SimulatedDisk
from sofadb.sim.invariants import Violation
from sofadb.sim.sabotages import applied
from sofadb.storage.segment import BLOCK_HEADER_BYTES
from sofadb.storage.writer import PREPARE_AGAIN_S

SMALL_SEGMENT_BYTES = 16 << 10
QUIET_S = 0.3
BEFORE, ANEW = 40, 16
"""So many commands before, and after, a file is used again."""
FILES = 3
"""So many segments there are by then."""
LENGTH_OFFSET = 20
"""Where in a block's header its length stands: behind a checksum, a salt and an offset."""
SIZE_OFFSET = BLOCK_HEADER_BYTES + 8
"""Where in a block the size of its first record stands: behind the record's key."""


def write(disk: SimulatedDisk, name: str, offset: int, data: bytes) -> None:
    """Something else stands on the disk than was written."""
    inode = disk.latest[name]
    for content in (inode.latest, inode.stable):
        content[offset : offset + len(data)] = data


def told_of(stage: Stage, node: str) -> str:
    """What the node says is damaged, once it has started; nothing, if it takes part as if nothing were."""
    stage.start(node)
    running = stage.machine(node).running
    assert running is not None
    return " ".join(running.damage)


def test_no_bit_that_flips_in_what_an_idle_node_synced_last_passes_for_a_torn_tail() -> None:
    """The node must not come back and say that it accepted nothing: the leader may be dead, and the only other who knows."""
    with Stage() as stage:
        leader = stage.leader
        follower, third = stage.others(leader)
        assert stage.ask(leader, "SET", "a", 1) == "OK"
        stage.pass_time(QUIET_S)
        for name in stage.names:
            stage.kill(name)
        sound = stage.disk(follower)
        *_, (name, begin, end) = blocks(sound)
        while sound.latest[name].latest[end - 1] == 0:
            end -= 1  # Nothing is said by what fills a block up to eight bytes.
        for offset, bit in product(range(begin, end), range(8)):
            rotten = sound.copy()
            rotten.flip(name, offset, bit)
            stage.cluster.replace_disk(follower, rotten)
            assert f"{name} is damaged at offset {begin}" in told_of(stage, follower)
            stage.kill(follower)
        stage.start(follower)
        stage.start(third)
        stage.pass_time(1)
        assert is_error(stage.ask(third, "GET", "a"), "NOREPLICAS"), "one of three is no quorum"
        stage.start(leader)
        assert stage.insist(third, "GET", "a") == "1"


@pytest.mark.parametrize("where", [LENGTH_OFFSET, SIZE_OFFSET], ids=["of a block", "of a record"])
def test_a_rotten_length_is_named_and_skips_nothing(where: int) -> None:
    """Neither one of gigabytes, nor one that lands exactly where a later record begins or ends."""
    with Stage() as stage:
        follower = stage.others(stage.leader)[0]
        for number in range(5):
            assert stage.ask(stage.leader, "SET", "a", number) == "OK"
        stage.pass_time(QUIET_S)
        for name in stage.names:
            stage.kill(name)
        sound = stage.disk(follower)
        found = list(blocks(sound))
        name, begin, _ = found[2]
        length = int.from_bytes(sound.latest[name].latest[begin + where :][:4], "big")
        lands = [later - found[2][2] + length for _, _, later in found[3:]]
        for wrong in (2 << 30, 0xFFFFFFFF, 0, 1, length - 1, length + 1, *lands):
            rotten = sound.copy()
            write(rotten, name, begin + where, wrong.to_bytes(4, "big"))
            stage.cluster.replace_disk(follower, rotten)
            assert f"{name} is damaged at offset {begin}" in told_of(stage, follower)
            stage.kill(follower)


def lose_power_everywhere_behind_a_new_segment() -> None:
    """The journal has just gone on in a new file when all machines lose their power, and whatever is not synced."""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        told = [f"{number}" for number in range(60)]
        for number in told:
            assert stage.ask(stage.leader, "SET", f"k{number}", number) == "OK"
        for name in stage.names:
            assert len({file for file, _, _ in blocks(stage.disk(name))}) > 1, "there is a second segment"
            stage.lose_power(name)
        for name in stage.names:
            stage.cluster.start(name)
        assert stage.insist("n1", "MGET", *(f"k{number}" for number in told)) == told


def test_the_name_of_a_new_segment_outlives_the_power() -> None:
    lose_power_everywhere_behind_a_new_segment()


def test_a_directory_that_is_not_synced_is_noticed_in_the_laboratory() -> None:
    """Else the test before would show nothing: the disks of the laboratory do lose names."""
    with applied("directory-is-not-synced"), pytest.raises(Violation, match="nothing_is_forgotten"):
        lose_power_everywhere_behind_a_new_segment()


def used_disk() -> tuple[SimulatedDisk, str]:
    """The disk of a single node, whose spare file has been its last segment before; and the name of that."""
    with Stage(1, segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        talk = stage.connect("n1")
        for number in range(1, BEFORE + 1):
            talk.ask("APPEND", "log", f"{number:03},")
        stage.pass_time(QUIET_S)
        disk = stage.disk("n1").killed()
    spare = next(name for name in disk.names() if name.startswith("spare-"))
    *_, (last, _, _) = blocks(disk)
    disk.latest[spare] = disk.stable[spare] = disk.copy().latest[last]
    return disk, last


def tear(used: SimulatedDisk, operation: int, kept: int) -> tuple[int, int] | None:
    """Stop in that operation and keep so many pieces, in order.

    Returns how many there were, and how many blocks then lie in the file that was used before; None if nothing stopped.
    """
    with Stage(1, segment_bytes=SMALL_SEGMENT_BYTES, disks={"n1": used.copy()}) as stage:
        talk = stage.connect("n1")
        stage.crash_at("n1", operation)
        done = BEFORE
        while stage.machine("n1").is_up:
            if done == BEFORE + ANEW:
                return None
            done += 1
            talk.say(("APPEND", "log", f"{done:03},"))
            stage.until(lambda: talk.is_answered or not stage.machine("n1").is_up)
        pieces = unsynced(stage.disk("n1"))
        stage.lose_power("n1", lambda number: number < kept)
        stage.start("n1")
        told = "".join(f"{number:03}," for number in range(1, done))
        assert stage.ask("n1", "GET", "log") in (told, told + f"{done:03},")
        files = [name for name, _, _ in blocks(stage.disk("n1"))]
        return pieces, files.count(files[-1]) if len(set(files)) == FILES else 0


def test_a_write_torn_in_a_file_that_was_used_before_shows_nothing_of_what_was_there() -> None:
    """The records are of one size: behind each that is torn, a whole one begins that was written in the file's earlier use."""
    used, last = used_disk()
    old = [begin for name, begin, _ in blocks(used) if name == last]
    records = 0
    for operation in count(1):
        found = tear(used, operation, 0)
        if found is None:
            break
        pieces, records = found
        for kept in range(1, pieces + 1):
            assert tear(used, operation, kept) is not None
    assert 5 < records < len(old), "it stopped somewhere between old records"


@pytest.mark.parametrize("nodes", [1, 3])
def test_of_what_many_clients_asked_at_once_nothing_is_acknowledged_on_the_strength_of_a_failed_sync(
    nodes: int,
) -> None:
    """The process is gone with the failed call; that the next one would succeed is no help to anybody."""
    with Stage(nodes) as stage:
        leader = stage.leader
        talks = [stage.connect(leader) for _ in range(20)]
        stage.disk(leader).fail_next["sync"] = errno.EIO
        for number, talk in enumerate(talks):
            talk.say(("SET", f"k{number}", 1))
        assert "sync" in stage.expect_storage_end(leader)
        stage.until(lambda: all(talk.is_lost for talk in talks))
        acknowledged = [f"k{number}" for number, talk in enumerate(talks) if talk.replies]
        assert nodes > 1 or not acknowledged, "there is no other disk that could have it"
        for name in stage.names:
            stage.lose_power(name)
            stage.cluster.start(name)
        assert all(stage.insist(leader, "GET", key) == "1" for key in acknowledged)
        stage.assert_one_state()


def test_a_single_node_answers_when_its_own_disk_has_it_and_not_before() -> None:
    """A quorum of one is a quorum, and waits for its disk like any other."""
    with Stage(1) as stage:
        stage.pass_time(QUIET_S)
        host = stage.machine("n1").host
        assert host is not None
        talk = stage.connect("n1")
        host.stalled_until = stage.now + 2
        talk.say(("SET", "a", 1))
        stage.pass_time(1.9)
        assert not talk.replies
        stage.lose_power("n1")
        stage.start("n1")
        assert stage.ask("n1", "GET", "a") is None, "so it was right to say nothing"
        stage.pass_time(QUIET_S)
        host = stage.machine("n1").host
        assert host is not None
        host.stalled_until = stage.now + 2
        began = stage.now
        assert stage.ask("n1", "SET", "a", 2) == "OK"
        assert stage.now - began >= 2
        stage.lose_power("n1")
        stage.start("n1")
        assert stage.ask("n1", "GET", "a") == "2"


def test_a_single_node_whose_disk_is_full_refuses_writes_and_asks_for_room_again() -> None:
    with Stage(1, segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        host = stage.machine("n1").host
        assert host is not None
        assert host.writer is not None
        journal, disk = host.writer.journal, stage.disk("n1")
        done = 0

        def append_until(is_so: Callable[[], bool]) -> None:
            nonlocal done
            while not is_so():
                reply = stage.ask("n1", "APPEND", "log", f"{done + 1:03},")
                done += not is_error(reply, "NOREPLICAS")

        append_until(lambda: len(journal.spares) == 1 and len(journal.reserve) == 1)
        disk.is_full = True
        append_until(lambda: journal.is_short_of_space)
        assert is_error(stage.ask("n1", "APPEND", "log", "more"), "NOREPLICAS This node's disk is full")
        assert stage.ask("n1", "STRLEN", "log") == 4 * done, "it is still read"
        assert journal.reserve, "for what must be written"
        refusals = disk.refusals
        stage.pass_time(2 * PREPARE_AGAIN_S + 1)
        assert 2 <= disk.refusals - refusals <= 4, "now and then, and not all the time"
        disk.is_full = False
        stage.pass_time(PREPARE_AGAIN_S + 1)
        assert not journal.is_short_of_space
        append_until(lambda: len(journal.segments) > FILES + 1)
        stage.lose_power("n1")
        stage.start("n1")
        assert stage.ask("n1", "GET", "log") == "".join(f"{number:03}," for number in range(1, done + 1))
