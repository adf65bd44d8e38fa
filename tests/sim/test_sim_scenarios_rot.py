"""Disks that rot under whole nodes: what is lost is learned from the others, and nobody speaks of what it does not know."""

from __future__ import annotations

from itertools import product

import pytest

from sim.stories import Stage, blocks, is_error
from sofadb.database.roster import plain_name
from sofadb.paxos import Settings
from sofadb.paxos.messages import Accepted, Promise
from sofadb.sim.disk import SimulatedDisk
from sofadb.sim.invariants import Violation
from sofadb.sim.sabotages import applied
from sofadb.storage.files import PAGE_BYTES
from sofadb.storage.segment import SEGMENT_HEADER_BYTES

SMALL_SEGMENT_BYTES = 16 << 10
QUIET_S = 0.3
VALUE = "x" * 100


def write(stage: Stage, first: int, last: int) -> None:
    talk = stage.connect(stage.leader)
    for number in range(first, last):
        assert talk.ask("SET", f"k{number}", f"{VALUE}{number}") == "OK"
    talk.leave()


def read_all(stage: Stage, node: str, count: int) -> None:
    expected = [f"{VALUE}{number}" for number in range(count)]
    assert stage.insist(node, "MGET", *(f"k{number}" for number in range(count))) == expected


def segments(disk: SimulatedDisk) -> list[str]:
    return [name for name in disk.names() if name.startswith("journal-")]


def rot(disk: SimulatedDisk, name: str, begin: int, end: int, step: int = 512) -> None:
    """A stretch of a file is not what was written."""
    for offset in range(begin, min(end, len(disk.latest[name].latest)), step):
        disk.flip(name, offset)


def is_in_doubt(stage: Stage, node: str) -> bool:
    return stage.node(node).driver.replica.is_in_doubt


def until_whole(stage: Stage, *nodes: str) -> None:
    stage.until(lambda: all(not is_in_doubt(stage, node) for node in nodes))


def explained(stage: Stage, node: str) -> str:
    return " ".join(stage.ask(node, "SOFA.EXPLAIN"))


def test_the_helix_each_node_lacks_another_part_and_all_come_back_with_everything() -> None:
    """No log is whole, and all nodes start at once: nobody leads who could tell the others."""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        write(stage, 0, 300)
        stage.pass_time(QUIET_S)
        for index, name in enumerate(stage.names):
            stage.kill(name)
            disk = stage.disk(name)
            files = segments(disk)
            assert len(files) > 4, "there are old segments"
            third = SMALL_SEGMENT_BYTES // 3
            for file in files[:3]:
                rot(disk, file, max(SEGMENT_HEADER_BYTES, third * index), third * (index + 1))
        for name in stage.names:
            stage.cluster.start(name)
        stage.until_settled()
        until_whole(stage, *stage.names)
        for name in stage.names:
            read_all(stage, name, 300)
        stage.assert_one_state()
        # The damage is there still; what made it good is, too, and nobody is needed for it any more.
        write(stage, 300, 310)
        for name in stage.names:
            stage.kill(name)
        for name in stage.names:
            stage.cluster.start(name)
        stage.until_settled()
        assert not any(is_in_doubt(stage, name) for name in stage.names)
        for name in stage.names:
            read_all(stage, name, 310)


def test_the_helix_with_whole_segments_gone() -> None:
    """A header of each is bad: another segment on each node."""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        write(stage, 0, 400)
        stage.pass_time(QUIET_S)
        for index, name in enumerate(stage.names):
            stage.kill(name)
            stage.disk(name).flip(segments(stage.disk(name))[2 * index], 100)
        for name in stage.names:
            stage.cluster.start(name)
        stage.until_settled()
        until_whole(stage, *stage.names)
        for name in stage.names:
            read_all(stage, name, 400)
        stage.assert_one_state()


def test_rot_in_the_last_record_is_told_and_made_good_and_the_node_votes_again() -> None:
    with Stage() as stage:
        node, other = stage.others(stage.leader)
        write(stage, 0, 5)
        stage.pass_time(QUIET_S)
        stage.kill(node)
        *_, (name, begin, end) = blocks(stage.disk(node))
        rot(stage.disk(node), name, begin, end, 8)
        stage.kill(stage.leader)
        stage.kill(other)
        stage.start(node)
        stage.pass_time(5)
        assert is_in_doubt(stage, node)
        told = explained(stage, node)
        assert f"{name} is damaged at offset {begin}" in told
        assert "does not vote" in told
        stage.start(other)
        stage.pass_time(5)
        assert is_error(stage.ask(other, "GET", "k1"), "NOREPLICAS"), (
            "what the other accepted last, may be chosen"
        )
        stage.cluster.start_all()
        stage.until_settled()
        until_whole(stage, node)
        assert "damaged" not in explained(stage, node)
        read_all(stage, node, 5)
        stage.kill(other)
        assert stage.insist(node, "SET", "needed", 1) == "OK", "it votes"


def test_a_node_in_doubt_never_speaks_as_an_acceptor_of_what_it_may_have_lost() -> None:
    """Whichever bit of the last block flips. (Nobody else is there who could tell it what was chosen, only who asks.)"""
    with Stage() as stage:
        leader = stage.leader
        follower, third = stage.others(leader)
        assert stage.ask(leader, "SET", "a", 1) == "OK"
        stage.pass_time(QUIET_S)
        for name in stage.names:
            stage.kill(name)
        said: list[object] = []

        def listen(sender: str, receiver: str, message: object) -> None:
            if sender == follower and isinstance(message, Promise | Accepted):
                said.append(message)

        stage.tampering.append(listen)
        sound = stage.disk(follower)
        *_, (name, begin, end) = blocks(sound)
        while sound.latest[name].latest[end - 1] == 0:
            end -= 1  # Nothing is said by what fills a block up to eight bytes.
        for offset, bit in product(range(begin, end, 5), range(0, 8, 3)):
            rotten = sound.copy()
            rotten.flip(name, offset, bit)
            stage.cluster.replace_disk(follower, rotten)
            stage.start(follower)
            assert is_in_doubt(stage, follower)
            stage.pass_time(1)
            stage.kill(follower)
        assert not said
        stage.cluster.replace_disk(follower, sound)
        stage.cluster.start_all()
        assert stage.insist(third, "GET", "a") == "1"


def test_who_cannot_know_what_it_promised_begins_anew_when_the_others_work_without_it() -> None:
    """The header of its last segment is gone: there is a note of before, and nothing behind."""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        leader = stage.leader
        node, other = stage.others(leader)
        write(stage, 0, 100)
        stage.pass_time(QUIET_S)
        stage.kill(node)
        disk = stage.disk(node)
        name = segments(disk)[-1]
        disk.flip(name, 100)
        stage.kill(other)
        stage.start(node)
        stage.pass_time(10)
        assert stage.machine(node).running is not None
        assert stage.machine(node).lives == 2, "it keeps what it has while it may be the last copy"
        assert "begins anew" in explained(stage, node)
        stage.start(other)
        stage.until(lambda: stage.machine(node).lives == 3, 60)
        stage.until(
            lambda: (
                stage.machine(node).running is not None
                and stage.node(node).driver.replica.me != node
                and stage.node(node).driver.replica.membership.has_a_say(stage.node(node).driver.replica.me)
            ),
            60,
        )
        assert plain_name(stage.node(node).driver.replica.me) == node
        read_all(stage, node, 100)


def test_with_both_snapshots_rotten_and_the_log_cut_the_state_comes_from_the_others() -> None:
    """What it promised and accepted is all there: it stays the acceptor that it was."""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        node = stage.others(stage.leader)[0]
        for number in range(4):
            write(stage, 60 * number, 60 * number + 60)
            for name in stage.names:
                assert stage.ask(name, "BGSAVE") == "Background saving started"
            stage.pass_time(1)
        stage.kill(node)
        disk = stage.disk(node)
        for name in disk.names():
            if name.startswith("snapshot-"):
                disk.flip(name, len(disk.latest[name].latest) // 2)
        stage.start(node)
        until_whole(stage, node)
        read_all(stage, node, 240)
        assert stage.node(node).driver.replica.me == node
        stage.kill(stage.others(node, stage.leader)[0])
        assert stage.insist(node, "SET", "needed", 1) == "OK"


@pytest.mark.parametrize("from_the_end", [1, 2])
@pytest.mark.parametrize("page", range(SMALL_SEGMENT_BYTES // PAGE_BYTES))
def test_one_bad_page_costs_nothing_that_was_acknowledged(from_the_end: int, page: int) -> None:
    """In the last segment or the one before: header, mark, blocks. The cluster goes on, and the node takes part again."""
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES) as stage:
        node, other = stage.others(stage.leader)
        write(stage, 0, 60)
        stage.pass_time(QUIET_S)
        stage.kill(node)
        file = segments(stage.disk(node))[-from_the_end]
        rot(stage.disk(node), file, page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
        stage.start(node)

        def is_back() -> bool:
            running = stage.machine(node).running
            if running is None or running.replica.is_in_doubt:
                return False
            membership = running.replica.membership
            return membership.latest.acceptors.count(running.replica.me) == 1 and membership.is_settled(
                running.replica.sequence.watermark
            )

        stage.until(is_back, 60)
        stage.until_settled()
        read_all(stage, node, 60)
        stage.kill(other)
        assert stage.insist(node, "SET", "needed", 1) == "OK"


def lose_the_last_vote() -> None:
    """Two of three have accepted something, which is acknowledged. One of them dies, and the other's record of it rots."""
    with Stage() as stage:
        leader = stage.leader
        follower, third = stage.others(leader)
        stage.cluster.isolate(third)
        assert stage.insist(leader, "SET", "a", 1) == "OK"
        stage.pass_time(QUIET_S)
        stage.kill(leader)
        stage.kill(follower)
        *_, (name, begin, end) = blocks(stage.disk(follower))
        rot(stage.disk(follower), name, begin, end, 8)
        stage.cluster.heal_all()
        stage.start(follower)
        stage.pass_time(5)
        stage.start(leader)
        assert stage.insist(third, "GET", "a") == "1"


def test_a_vote_that_is_lost_is_not_taken_for_one_that_was_never_cast() -> None:
    lose_the_last_vote()


@pytest.mark.parametrize("sabotage", ["damage-is-skipped", "damage-at-the-end-is-no-doubt"])
def test_the_story_before_shows_what_would_come_of_it_without_doubt(sabotage: str) -> None:
    with applied(sabotage), pytest.raises(Violation, match="nothing_is_forgotten"):
        lose_the_last_vote()


def lose_the_last_promise() -> None:
    """A node has promised its vote to somebody who never led, and that record rots."""
    with Stage() as stage:
        leader = stage.leader
        follower, third = stage.others(leader)
        assert stage.ask(leader, "SET", "a", 1) == "OK"
        stage.pass_time(QUIET_S)
        stage.lose(Promise)
        stage.kill(leader)
        rounds = stage.highest_round
        stage.until(lambda: stage.node(follower).driver.replica.acceptor.promised.round > rounds)
        stage.pass_time(QUIET_S)
        stage.kill(follower)
        stage.kill(third)
        *_, (name, begin, end) = blocks(stage.disk(follower))
        rot(stage.disk(follower), name, begin, end, 8)
        stage.tampering.clear()
        for each in stage.names:
            stage.cluster.start(each)
        stage.until_settled()
        until_whole(stage, follower)
        assert stage.insist(follower, "GET", "a") == "1"


def test_a_promise_that_is_lost_is_kept_all_the_same() -> None:
    lose_the_last_promise()


def test_the_promise_is_kept_because_of_the_note() -> None:
    with applied("note-is-not-read"), pytest.raises(Violation, match="nothing_is_forgotten"):
        lose_the_last_promise()


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_copy_from_within_one_life_is_found_out_though_it_is_damaged(is_damaged: bool) -> None:
    """`c` has accepted `x` since. Only `a` was told; it says so once, and is gone before it teaches anything."""
    with Stage() as stage:
        write(stage, 0, 20)
        stage.pass_time(QUIET_S)
        a = stage.leader
        b, c = stage.others(a)
        copy = stage.disk(c).copy()
        if is_damaged:
            name, begin, end = list(blocks(copy))[8]
            rot(copy, name, begin, end)
        stage.cut_between([b], [a, c])
        assert stage.ask(a, "SET", "x", 1) == "OK"
        stage.kill(c)
        stage.lose(object, a, c)
        stage.start_forgetful(c, copy)
        stage.pass_time(1.0)
        stage.cut_between([a], [b, c])
        stage.cluster.heal(b, c)
        stage.cluster.heal(c, b)
        stage.pass_time(5.0)
        assert is_error(stage.ask(b, "SET", "y", 1), "NOREPLICAS")
        stage.tampering.clear()
        stage.cluster.heal_all()
        stage.until_begun_anew(c)
        stage.until_it_votes(c)
        assert stage.insist(c, "GET", "x") == "1"


def test_a_snapshot_that_rots_is_found_when_somebody_fetches_it_and_another_is_taken() -> None:
    with Stage(segment_bytes=SMALL_SEGMENT_BYTES, settings=Settings(tail_bytes_max=1)) as stage:
        leader = stage.leader
        behind, other = stage.others(leader)
        stage.kill(behind)
        for number in range(3):
            write(stage, 60 * number, 60 * number + 60)
            for name in (leader, other):
                assert stage.ask(name, "BGSAVE") == "Background saving started"
            stage.pass_time(1)
        rotten = []
        for name in (leader, other):
            newest = [each for each in stage.disk(name).names() if each.startswith("snapshot-")][-1]
            stage.disk(name).flip(newest, len(stage.disk(name).latest[newest].latest) // 2)
            rotten.append((name, newest))
        write(stage, 180, 190)
        stage.start(behind)
        stage.until(lambda: stage.node(behind).applied >= stage.cluster.watch.ledger.visible, 60)
        read_all(stage, behind, 190)
        assert any(f"damaged-{newest}" in stage.disk(name).names() for name, newest in rotten)
        stage.assert_one_state()
