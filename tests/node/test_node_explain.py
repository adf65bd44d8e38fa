"""What is waited for, in words: each sentence by itself, and a cluster in trouble that tells of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sim.stories import Stage
from sofadb.node.explain import (
    Change,
    Fetching,
    Joining,
    Observations,
    Other,
    Proposal,
    Waiting,
    Wish,
    explain,
)
from sofadb.sim.disk import SimulatedDisk

LEADING = Observations("n1", "leading", "n1", quorum=2, others=(Other("n2"), Other("n3")))
FOLLOWING = Observations("n2", "following", "n1", unled_ms=40.0, quorum=2, others=(Other("n1"), Other("n3")))


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (LEADING, "nothing: all members follow n1"),
        (replace(LEADING, others=()), "nothing: n1 is alone and leads"),
        (FOLLOWING, "nothing: n2 follows n1"),
        (
            replace(LEADING, others=(Other("n2"), Other("n3", "connection refused", 12_400.0, 12_500.0))),
            "n3 has not been reached for 12.4 s: connection refused",
        ),
        (
            replace(LEADING, others=(Other("n2"), Other("n3", silent_ms=900.0))),
            "n3 is connected but has answered no heartbeat for 0.9 s",
        ),
        (
            replace(LEADING, others=(Other("n2"), Other("n3", silent_ms=None))),
            "n3 is connected but has not answered a heartbeat yet",
        ),
        (
            replace(LEADING, proposal=Proposal(812, 2100.0, ("n3",))),
            "instance 812 waits for n3: it answers heartbeats but has not accepted it for 2.1 s; its disk may be slow",
        ),
        (
            replace(LEADING, proposal=Proposal(812, 2100.0, ("n1",))),
            "instance 812 waits for n1: it is not on our own disk after 2.1 s",
        ),
        (
            replace(LEADING, unsaved=Waiting(3, 1500.0)),
            "the disk of n1 has 3 writes to finish, the oldest for 1.5 s",
        ),
        (
            replace(FOLLOWING, unheard=("n1", "n3")),
            "n2 has a new data directory and takes no part until it has heard n1 and n3: "
            "it might stand in the place of one that was lost",
        ),
        (
            replace(FOLLOWING, part="outsider", leader="", joining=Joining(("h:1", "h:3"))),
            "n2 asks to be let in, at h:1 and h:3: nobody has let it in yet; has it been added (sofadb member add)?",
        ),
        (
            replace(FOLLOWING, part="outsider", leader="", joining=Joining(("h:1",), "no cluster was found")),
            "n2 asks to be let in, at h:1: no cluster was found",
        ),
        (
            replace(FOLLOWING, part="outsider"),
            "n2 is no member any more: it was removed or replaced, and may be stopped",
        ),
        (replace(FOLLOWING, part="learner"), "nothing: n2 follows n1"),
        (
            replace(FOLLOWING, part="learner", behind=1234),
            "n2 learns and does not vote: it lacks 1234 instances",
        ),
        (
            replace(FOLLOWING, part="learner", replaces=True),
            "n2 has a new directory in place of one that was lost, "
            "and does not vote before it has learned everything",
        ),
        (
            replace(
                FOLLOWING, part="learner", behind=12, fetching=Fetching(812, "n1", 3_200_000, 10_000_000)
            ),
            "n2 fetches the snapshot of instance 812 from n1: 3.2 of 10.0 MB are here",
        ),
        (replace(LEADING, wishes=(Wish("n2", "leave", after="n4"),)), "n2 leaves when n4 has its part"),
        (replace(LEADING, wishes=(Wish("n2", "leave"),)), "n2 leaves as soon as it can"),
        (
            replace(LEADING, wishes=(Wish("n4", "vote", has_arrived=False),)),
            "n4 is to vote and has not arrived: start it with `sofadb serve --join`",
        ),
        (replace(LEADING, wishes=(Wish("n4", "learn"),)), "n4 is to learn and is not heard"),
        (
            replace(LEADING, wishes=(Wish("n4", "vote", behind=1),)),
            "n4 is to vote when it has learned everything: it lacks 1 instance",
        ),
        (replace(LEADING, wishes=(Wish("n4", "vote", behind=0),)), "n4 is to vote from now on"),
        (
            replace(LEADING, change=Change(("n1", "n4"), from_instance=130)),
            "a change is under way: from instance 130 on n1 and n4 vote",
        ),
        (
            replace(LEADING, change=Change(("n1", "n2"), answering=("n1",), quorum=2)),
            "the change after which n1 and n2 vote needs 2 of them, and only n1 answer",
        ),
        (
            replace(LEADING, change=Change(("n2",))),
            "the change after which n2 votes needs 1 of them, and nobody answers",
        ),
        (
            replace(LEADING, change=Change(("n1", "n2"), contested=("n2",))),
            "n2 is there, and another directory claims its place: it seems to have been started twice; stop one of them",
        ),
        (
            replace(LEADING, snapshot_problem="no space"),
            "the last snapshot of n1 failed, and will be tried again: no space",
        ),
        (replace(FOLLOWING, reads=Waiting(1, 400.0)), "1 read on n2 not done, the oldest for 0.4 s"),
        (replace(FOLLOWING, writes=Waiting(7, 400.0)), "7 writes on n2 not done, the oldest for 0.4 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_seen_is_said(seen: Observations, sentence: str) -> None:
    assert explain(seen) == (sentence,)


def test_the_cause_comes_before_what_it_causes() -> None:
    seen = Observations(
        "n1",
        "leading",
        "n1",
        quorum=2,
        others=(Other("n2", "no route", 3000.0), Other("n3", silent_ms=2000.0)),
        proposal=Proposal(9, 1900.0, ("n2", "n3")),
        writes=Waiting(1, 1900.0),
    )
    assert explain(seen) == (
        "n2 has not been reached for 3.0 s: no route",
        "n3 is connected but has answered no heartbeat for 2.0 s",
        "instance 9 waits for n2, which does not answer, for 1.9 s",
        "instance 9 waits for n3, which does not answer, for 1.9 s",
        "1 write on n1 not done, the oldest for 1.9 s",
    )


def test_who_wants_to_lead_says_who_is_missing() -> None:
    seen = replace(FOLLOWING, leader="", role="canvassing", backers=("n2",), quorum=2, unled_ms=700.0)
    assert explain(seen) == (
        "n2 wants to lead and needs 2 members who have lost the leader, too: there is n2",
        "n2 has heard no leader for 0.7 s",
    )
    seen = replace(seen, role="campaigning", backers=("n2", "n3", "n4"), quorum=4, unled_ms=0.0)
    assert explain(seen) == (
        "n2 wants to lead and needs 4 members who have promised to follow it: there are n2, n3 and n4",
    )
    assert explain(replace(FOLLOWING, leader="", unled_ms=100.0)) == ("nobody leads, as far as n2 knows",)


def test_what_is_young_is_how_things_always_are() -> None:
    young = Waiting(5, 100.0)
    seen = replace(
        LEADING,
        others=(Other("n2", silent_ms=100.0), Other("n3")),
        proposal=Proposal(7, 100.0, ("n2", "n3")),
        unsaved=young,
        reads=young,
        writes=young,
    )
    assert explain(seen) == ("nothing: all members follow n1",)


# A simulated cluster


def test_a_cluster_tells_what_is_wrong_and_that_it_is_over() -> None:
    with Stage() as stage:
        leader = stage.leader
        one, other = stage.others(leader)
        stage.pass_time(1.0)
        assert stage.ask(leader, "SOFA.EXPLAIN") == [f"nothing: all members follow {leader}"]
        assert stage.ask(one, "SOFA.EXPLAIN") == [f"nothing: {one} follows {leader}"]

        stage.cluster.isolate(one)
        stage.pass_time(8.0)
        (told,) = stage.ask(leader, "SOFA.EXPLAIN")
        assert told.startswith(f"{one} ")
        first, *more = stage.ask(one, "SOFA.EXPLAIN")
        assert (
            first == f"{one} wants to lead and needs 2 members who have lost the leader, too: there is {one}"
        )
        assert more[0].startswith(f"{one} has heard no leader for 8")
        assert any(sentence.startswith(f"{leader} has not been reached for ") for sentence in more)

        # A disk that hangs while the other follower is cut off: what is written has no quorum.
        host = stage.machine(other).host
        assert host is not None
        host.stalled_until = stage.now + 3.0
        talk = stage.connect(leader)
        talk.say(("SET", "a", "1"))
        stage.pass_time(1.0)
        told = stage.ask(leader, "SOFA.EXPLAIN")
        assert any(f"waits for {one}, which does not answer, for 1.0 s" in each for each in told)
        assert any(f"waits for {other}: it answers heartbeats but has not" in each for each in told)
        assert told[-1] == f"1 write on {leader} not done, the oldest for 1.0 s"
        assert stage.ask(other, "SOFA.EXPLAIN")[-1] == (
            f"the disk of {other} has 3 writes to finish, the oldest for 1.0 s"
        )

        assert talk.hear() == "OK"
        stage.cluster.heal_all()
        stage.until(lambda: stage.have_met(*stage.names))
        stage.pass_time(2.0)
        for node in stage.names:
            (told,) = stage.ask(node, "SOFA.EXPLAIN")
            assert told.startswith("nothing: ")


def test_a_cluster_tells_who_is_wanted_who_learns_and_who_has_gone() -> None:
    with Stage() as stage:
        leader = stage.leader
        stage.cluster.add_machine("n4", [leader])
        stage.start("n4")
        stage.pass_time(2.0)
        asks = (
            f"n4 asks to be let in, at {', '.join(stage.cluster.members[name] for name in ('n1', 'n2'))} and "
        )
        assert stage.ask("n4", "SOFA.EXPLAIN")[0].startswith(asks)
        stage.kill("n4")
        address = stage.cluster.members["n4"]
        assert stage.insist(leader, "SOFA.MEMBER", "ADD", "n4", address) == "OK"
        stage.pass_time(0.5)
        told = "n4 is to vote and has not arrived: start it with `sofadb serve --join`"
        assert stage.ask(leader, "SOFA.EXPLAIN") == [told]
        stage.start("n4")
        stage.until(lambda: stage.ask(leader, "SOFA.EXPLAIN") == [f"nothing: all members follow {leader}"])
        facts = json.loads(stage.ask("n4", "SOFA.INFO"))
        assert facts["voters"] == ["n1", "n2", "n3", "n4"]
        assert facts["quorum"] == 3
        assert stage.insist(leader, "SOFA.MEMBER", "REMOVE", "n4", "FORCE") == "OK"
        stage.until(lambda: json.loads(stage.ask(leader, "SOFA.INFO"))["quorum"] == 2)
        stage.pass_time(1.0)
        assert stage.ask("n4", "SOFA.EXPLAIN")[0].startswith("n4 is no member any more")


def test_a_member_that_is_there_in_two_directories_is_named_once() -> None:
    with Stage() as stage:
        leader = stage.leader
        wiped = stage.others(leader)[0]
        stage.until(lambda: stage.have_met(*stage.names))
        stage.kill(wiped)
        stage.start_forgetful(wiped, SimulatedDisk())
        stage.until(lambda: len(stage.node(leader).driver.replica.membership.members()) == 4)
        facts = json.loads(stage.ask(leader, "SOFA.INFO"))
        assert [member["node"] for member in facts["members"]] == ["n1", "n2", "n3"]
        assert stage.ask(leader, "INFO", "replication").count("ip=") <= 2
        assert len(stage.ask(leader, "ROLE")[2]) == 2
        told = stage.ask(leader, "SOFA.EXPLAIN")
        assert any(each.startswith(f"the former directory of {wiped} has not been reached") for each in told)
