"""What only clients can make sure of, with what they are given for it: ids, tokens, instances; while nodes fail."""

from __future__ import annotations

import pytest

from sim.stories import Lost, Stage, Talk, is_error
from sofadb.paxos.messages import Accept, Chosen, Confirm


def once(stage: Stage, nodes: list[str], *words: str | int) -> object:
    """Ask with an id, again and again and of one node after the other, until there is an answer."""
    for turn in range(50):
        try:
            reply = stage.ask(nodes[turn % len(nodes)], "SOFA.ONCE", *words)
        except (Lost, OSError):
            stage.pass_time(0.05)
            continue
        if not is_error(reply):
            return reply
    raise AssertionError("no answer")


@pytest.mark.parametrize("dies", ["the leader", "a follower"])
def test_what_is_asked_again_with_its_id_after_its_node_was_killed_is_done_once(dies: str) -> None:
    """The node dies when the others have the command and before it can answer. (Without an id it would count again.)"""
    with Stage() as stage:
        asked = stage.leader if dies == "the leader" else stage.others(stage.leader)[0]
        others = stage.others(asked)
        for number in range(1, 6):
            stage.until_settled()
            talk = stage.connect(asked)
            talk.say(("SOFA.ONCE", f"id{number}", "INCR", "n"))
            stage.until(lambda number=number: is_accepted(stage, others, number))  # type: ignore[misc]
            stage.cluster.kill(asked)
            assert not talk.replies
            assert once(stage, others, f"id{number}", "INCR", "n") == number
            stage.start(asked)
            assert once(stage, [asked], f"id{number}", "INCR", "n") == number
            assert stage.insist(others[0], "SOFA.STATUS", f"id{number}")[0] == "done"
        assert stage.insist(others[0], "GET", "n") == "5"
        stage.assert_one_state()


def is_accepted(stage: Stage, names: list[str], number: int) -> bool:
    """Whether one of these has accepted the command of that id, which may be chosen by that."""
    return any(
        b"id%d" % number in bytes(entry.payload)
        for name in names
        for acceptance in stage.node(name).driver.replica.acceptor.accepted.values()
        for entry in acceptance.value.entries
    )


def waiting_on(stage: Stage, name: str) -> int:
    """How many clients of a node wait for something."""
    server = stage.machine(name).server
    return 0 if server is None else len(server.waiting)


def test_tokens_grow_over_failovers_and_an_earlier_holder_is_turned_down() -> None:
    with Stage(nodes=5) as stage:
        tokens: list[int] = []
        for _ in range(2):
            leader = stage.leader
            asked = stage.others(leader)[0]
            token = stage.insist(asked, "SOFA.LOCK", "l", 1_000)
            assert stage.ask(asked, "SOFA.FENCED", "l", token, "SET", "a", token) == "OK"
            tokens.append(token)
            stage.cluster.kill(leader)
            stage.until_settled()
            assert stage.insist(asked, "SOFA.LOCK", "l", 1_000, "WAIT", 5_000) > token
            assert is_error(stage.ask(asked, "SOFA.FENCED", "l", token, "SET", "a", "late"), "FENCED")
            stage.pass_time(1.5)
            stage.start(leader)
            stage.until_settled()
        assert tokens == sorted(set(tokens))
        assert stage.insist(stage.leader, "GET", "a") == str(tokens[-1])
        stage.assert_one_state()


def test_who_waits_on_another_node_gets_the_lock_when_its_holder_is_gone_for_good() -> None:
    with Stage() as stage:
        holder, waiting = stage.others(stage.leader)
        assert stage.ask(holder, "SOFA.LOCK", "l", 2_000)
        talk = stage.connect(waiting)
        talk.say(("SOFA.LOCK", "l", 2_000, "WAIT", 60_000))
        began = stage.now
        stage.cluster.kill(holder)
        assert talk.hear() > 0
        assert 1.5 < stage.now - began < 3.5


def test_who_waits_in_vain_is_told_so_in_time_even_where_nobody_else_can_be_reached() -> None:
    with Stage() as stage:
        asked = stage.others(stage.leader)[0]
        assert stage.ask(stage.leader, "SOFA.LOCK", "l", 600_000)
        talk = stage.connect(asked)
        talk.say(("SOFA.LOCK", "l", 1_000, "WAIT", 2_000))
        began = stage.now
        stage.until(lambda: waiting_on(stage, asked) == 1)
        stage.cluster.isolate(asked)
        assert talk.hear() is None
        assert 1.9 < stage.now - began < 2.5


def test_a_release_calls_who_waits_on_any_node_and_one_gets_it() -> None:
    with Stage() as stage:
        token = stage.ask("n1", "SOFA.LOCK", "l", 600_000)
        talks = [stage.connect(name) for name in ("n1", "n2", "n3", "n3")]
        for talk in talks:
            talk.say(("SOFA.LOCK", "l", 600_000, "WAIT", 60_000))
        tokens = [token]
        left: list[Talk] = talks
        while left:
            stage.pass_time(0.5)
            assert stage.ask("n2", "SOFA.UNLOCK", "l", tokens[-1]) == 1
            stage.until(lambda: any(talk.is_answered for talk in left))  # noqa: B023
            stage.pass_time(0.5)
            got = [talk for talk in left if talk.is_answered]
            assert len(got) == 1
            tokens.append(got[0].replies[-1])
            left = [talk for talk in left if not talk.is_answered]
        assert tokens == sorted(set(tokens))
        stage.assert_one_state()


@pytest.mark.parametrize("goes", ["the client", "its node"])
def test_a_lock_taken_for_who_is_gone_is_had_by_the_next_and_at_the_latest_when_its_time_is_over(
    goes: str,
) -> None:
    """It goes away at every moment from the release on: nobody waits for ever, and nobody has the lock besides the next."""
    waited: set[bool] = set()
    for moment in range(24):
        with Stage(seed=moment) as stage:
            leaves, other = stage.others(stage.leader)
            token = stage.ask(other, "SOFA.LOCK", "l", 600_000)
            first, second, holder = stage.connect(leaves), stage.connect(other), stage.connect(other)
            for node, talk in ((leaves, first), (other, second)):
                talk.say(("SOFA.LOCK", "l", 1_000, "WAIT", 60_000))
                stage.until(lambda node=node: waiting_on(stage, node) == 1)  # type: ignore[misc]
            holder.say(("SOFA.UNLOCK", "l", token))
            stage.pass_time(moment * 0.0003)
            began = stage.now
            if goes == "the client":
                first.leave()
            else:
                stage.kill(leaves)
            assert second.hear() > max(token, *first.replies, 0)
            waited.add(stage.now - began > 0.5)
            assert stage.now - began < 2.0
    assert waited == ({True} if goes == "its node" else {False, True}), (
        "a dead node holds up the next for half a second"
    )


def test_a_write_on_one_node_is_seen_behind_its_instance_on_another() -> None:
    with Stage() as stage:
        leader = stage.leader
        writer, reader = stage.others(leader)
        hangs = stage.lose((Chosen, Confirm, Accept), leader, reader)
        talk = stage.connect(writer)
        talk.say(("SET", "a", 1), ("SOFA.LASTINSTANCE",))
        instance = talk.hear()
        assert instance == stage.node(writer).applied
        old, behind = stage.connect(reader), stage.connect(reader)
        behind.say(("SOFA.AFTER", instance, "GET", "a"))
        stage.pass_time(0.02)
        assert old.ask("READONLY") == "OK"
        assert old.ask("GET", "a") is None
        assert not behind.replies
        stage.allow(hangs)
        assert behind.hear() == "1"
        assert old.ask("GET", "a") == "1"


def test_a_node_that_is_cut_off_answers_old_reads_by_wish_and_no_others() -> None:
    with Stage() as stage:
        asked = stage.others(stage.leader)[0]
        talk = stage.connect(asked)
        assert talk.ask("SET", "a", 1) == "OK"
        stage.cluster.isolate(asked)
        stage.pass_time(1.0)
        assert stage.insist(stage.others(asked)[0], "SET", "a", 2) == "OK"
        assert talk.ask("READONLY") == "OK"
        began = stage.now
        assert talk.ask("GET", "a") == "1"
        assert stage.now - began < 0.5
        assert is_error(talk.ask("SOFA.AFTER", stage.node(asked).applied + 1, "GET", "a"), "NOREPLICAS")
        assert talk.ask("READWRITE") == "OK"
        assert is_error(talk.ask("GET", "a"), "NOREPLICAS")
        stage.cluster.heal_all()
        assert stage.insist(asked, "GET", "a") == "2"
