"""The faults: how each strikes, once, and how it is undone.

Every strike checks that it struck, since a fault that does nothing shows nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from processes import wait_until

from . import links
from .prerequisites import CLOCK
from .rounds import Fault, Round

MASKS_IN_A_ROUND = 8
LARGE_VALUES, LARGE = 24, b"x" * (256 << 10)
DISK_BYTES = 128 << 20
"""Room for six or seven files of the log, beside snapshots."""
TAKEN = "took a snapshot"
PUT_ASIDE = "a snapshot is damaged and was put aside"
HEADER_BYTES = 8192
ROTTEN_STRIKES = 4
OFTEN = ("--snapshot-mb", "0.2")


# The network


def cut_by(choose: Callable[[Round], links.Cut]) -> Callable[[Round], None]:
    """A strike that cuts these links: for a moment, or for longer than TCP has patience (3 s)."""

    def strike(each: Round) -> None:
        each.cut(choose(each), each.chance.choice([1.0, 2.0, 5.0]))

    return strike


def _others(each: Round, node: str) -> list[str]:
    others = [name for name in each.names if name != node]
    each.chance.shuffle(others)
    return others


def isolated(each: Round) -> links.Cut:
    victim = each.victim()
    return links.between([victim], _others(each, victim))


def halves(each: Round) -> links.Cut:
    victim = each.victim()
    others = _others(each, victim)
    count = (len(each.names) - 1) // 2
    return links.between([victim, *others[: count - 1]], others[count - 1 :])


def deaf(each: Round) -> links.Cut:
    victim = each.victim()
    return frozenset((other, victim) for other in _others(each, victim))


def mute(each: Round) -> links.Cut:
    victim = each.victim()
    return frozenset((victim, other) for other in _others(each, victim))


def star(each: Round) -> links.Cut:
    """Nobody is linked but with one, who does not lead."""
    centre, *others = _others(each, each.leader())
    return links.all_but(each.names, [(centre, other) for other in [*others, each.leader()]])


def star_without_leader(each: Round) -> links.Cut:
    leader = each.leader()
    centre, *others = _others(each, leader)
    return links.all_but(each.names, [(centre, other) for other in others])


def chain(each: Round) -> links.Cut:
    """All in a row, the leader at one end."""
    leader = each.leader()
    row = [leader, *_others(each, leader)]
    return links.all_but(each.names, itertools.pairwise(row))


def ring(each: Round) -> links.Cut:
    first, *rest = each.names
    row = [first, *rest, first]
    return links.all_but(each.names, itertools.pairwise(row))


def masked(each: Round) -> None:
    """The next of all cuts of one-way links; the part of the round says at which to begin."""
    each.cut(links.mask(each.names, MASKS_IN_A_ROUND * each.part + each.result.strikes), 2.0)


def lossy(each: Round) -> None:
    each.machines.spoil(loss_percent=each.chance.choice([5, 10, 20]))
    each.hold(3.0)
    assert each.machines.dropped() > 0, "nothing was lost"
    each.machines.spoil()


def carried(*options: str) -> Callable[[Round], None]:
    def strike(each: Round) -> None:
        since = time.monotonic()
        with each.machines.courier(*options):
            each.makes_progress(since)
            each.hold(3.0)

    return strike


# Processes


def _kill(each: Round, victims: list[str]) -> None:
    with each.excused(each.without(victims)):
        each.machines.kill(*victims)
        since = time.monotonic()
        if len(each.without(victims)) < len(each.names):
            each.makes_progress(since)
        each.hold(each.chance.uniform(0.2, 2.0))
        each.machines.start(*victims)
        if len(victims) > 1:
            each.recovers()
    each.recovers()


def killed(each: Round) -> None:
    _kill(each, [each.victim()])


def minority_killed(each: Round) -> None:
    victim = each.victim()
    _kill(each, [victim, _others(each, victim)[0]])


def all_killed(each: Round) -> None:
    _kill(each, list(each.names))


def _pause(each: Round, victims: list[str]) -> None:
    with each.excused(each.without(victims)):
        for name in victims:
            each.machines.signal(name, signal.SIGSTOP)
        since = time.monotonic()
        try:
            state = Path(f"/proc/{each.machines.pid(victims[0])}/stat")
            wait_until(lambda: ") T " in state.read_text(), "it stands still")
            each.leave(victims)
            if len(each.without(victims)) < len(each.names):
                each.makes_progress(since)
            each.hold(each.chance.choice([0.5, 1.5, 4.0]))
        finally:
            for name in victims:
                each.machines.signal(name, signal.SIGCONT)
        if len(victims) > 1:
            each.recovers()
    each.recovers()


def paused(each: Round) -> None:
    _pause(each, [each.victim()])


def majority_paused(each: Round) -> None:
    victim = each.victim()
    _pause(each, [victim, *_others(each, victim)[: len(each.names) // 2]])


def ended(each: Round) -> None:
    """In good order."""
    victim = each.victim()
    with each.excused([victim]):
        each.machines.signal(victim, signal.SIGTERM)
        since = time.monotonic()
        assert each.machines.processes.pop(victim).wait(20) == 0, "it does not end in good order"
        each.makes_progress(since)
        each.hold(each.chance.uniform(0.1, 1.0))
        each.machines.start(victim)
    each.recovers()


# Directories and members


def snapshots(each: Round) -> None:
    """All take one at once; somebody is killed meanwhile."""
    client = each.machines.remote_client(each.leader())
    for number in range(LARGE_VALUES):
        assert client("SET", f"large:{number}", LARGE) == b"OK"
    client.close()
    before = {name: each.machines.log(name).count(TAKEN) for name in each.names}
    for name in each.names:
        client = each.machines.remote_client(name)
        client("BGSAVE")  # One may be under way already.
        client.close()
    if each.result.strikes % 2:
        _kill(each, [each.victim()])
    wait_until(
        lambda: any(each.machines.log(name).count(TAKEN) > before[name] for name in each.names),
        "a snapshot is taken",
    )


def wiped(each: Round) -> None:
    """Its directory is lost, and it begins with an empty one."""
    victim = each.victim()
    acceptor = each.acceptor(victim)
    with each.excused([victim]):
        each.machines.kill(victim)
        shutil.rmtree(each.directory / victim)
        since = time.monotonic()
        each.makes_progress(since)
        each.machines.start(victim)
        each.votes(victim, but=acceptor)
    each.recovers()


def replaced(each: Round) -> None:
    """A member makes room for another one on another machine."""
    each.take_place(each.victim(), f"n{len(each.network.addresses)}")


def rotten(each: Round) -> None:
    """Bits of its log and its snapshots are flipped while it is down. If it can no longer be used, it says so and is wiped."""
    victim = each.victim()
    acceptor = each.acceptor(victim)
    with each.excused([victim]):
        each.machines.kill(victim)
        flipped = sum(_flip(each, path) for path in sorted((each.directory / victim).glob("journal-*.seg")))
        flipped += sum(
            _flip(each, path) for path in sorted((each.directory / victim).glob("snapshot-*"))[-1:]
        )
        assert flipped, "nothing was flipped"
        each.makes_progress(time.monotonic())
        each.machines.start(victim)
        process = each.machines.processes[victim]
        wait_until(
            lambda: process.poll() is not None or each.machines.facts(victim), "it is up, or has ended"
        )
        if process.poll() is not None:
            assert "offset" in each.machines.log(victim).splitlines()[-1], (
                "it does not say where the damage is"
            )
            del each.machines.processes[victim]
            shutil.rmtree(each.directory / victim)
            each.machines.start(victim)
            each.votes(victim, but=acceptor)
        each.recovers()
        each.votes(victim)


def rotten_snapshots(each: Round) -> None:
    """First one leaves an older one, from which on there is a log. Then none is left, and the beginning of the log is gone."""
    victim = each.victim()
    directory = each.directory / victim
    oldest = min(directory.glob("journal-*.seg"))
    _write_until(each, victim, lambda: not oldest.exists(), "its log is cut")
    with each.excused([victim]):
        each.machines.kill(victim)
        found = sorted(directory.glob("snapshot-*.sofa"))
        flipped = found if each.result.strikes >= ROTTEN_STRIKES // 2 else found[-1:]
        assert len(found) > 1, "there are not two snapshots"
        for path in flipped:
            assert _flip(each, path, 0), "nothing was flipped"
        before = each.machines.log(victim).count(PUT_ASIDE)
        each.makes_progress(time.monotonic())
        each.machines.start(victim)
        process = each.machines.processes[victim]
        wait_until(
            lambda: each.machines.log(victim).count(PUT_ASIDE) == before + len(flipped), "damage is noticed"
        )
        each.votes(victim)
        each.catches_up(victim)
        assert process.poll() is None, "it has ended"
    each.recovers()


def _flip(each: Round, path: Path, begin: int = HEADER_BYTES) -> int:
    """Flip a bit where something is written, behind the file's header; how many were."""
    data = path.read_bytes()
    end = len(data.rstrip(b"\0"))
    if end <= begin:
        return 0
    at = each.chance.randrange(begin, end)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([data[at] ^ 1 << each.chance.randrange(8)]))
    return 1


# Disks and clocks


def _write_until(each: Round, node: str, condition: Callable[[], bool], what: str) -> None:
    """Write large values through a node, so that logs grow, until something has come of it."""
    client = each.machines.remote_client(node)

    def is_so() -> bool:
        assert client("SET", "large", LARGE) == b"OK"
        return condition()

    wait_until(is_so, what)
    client.close()


def disk(delay_s: float, seconds: float) -> Callable[[Round], None]:
    def strike(each: Round) -> None:
        since = time.monotonic()
        with each.machines.slow_disk(each.victim(), delay_s):
            each.makes_progress(since)
            each.hold(seconds)
        each.recovers()

    return strike


def full_disk(each: Round) -> None:
    """It steps back, says why, and is there again when there is room, without a restart.

    That it votes again is shown by killing so many others that it is needed.
    """
    victim = each.victim()
    pid = each.machines.pid(victim)

    def shortage() -> str | None:
        """None if it does not answer."""
        return (each.machines.facts(victim) or {}).get("shortage")

    with each.excused([victim]):
        with each.machines.full_disk(victim):
            _write_until(
                each, _others(each, victim)[0], lambda: bool(shortage()), "there is no room for its log"
            )
            wait_until(lambda: each.leader() != victim, "one with room leads")
            client = each.machines.remote_client(victim)
            told = b" ".join(client("SOFA.EXPLAIN")).decode()
            assert "until there is room on its disk again" in told, f"{victim} does not say why: {told}"
            refusal = str(client("SET", "large", "small"))
            assert refusal.startswith("NOREPLICAS This node's disk is full"), refusal
            client.close()
            each.makes_progress(time.monotonic())
            each.hold(each.chance.uniform(1.0, 4.0))
        wait_until(lambda: shortage() == "", "it takes writes again")
    each.catches_up(victim)
    each.recovers()
    _kill(each, _others(each, victim)[: len(each.names) // 2])
    assert each.machines.pid(victim) == pid, "it was started again"


def clock(*settings: tuple[float, float], each_s: float = 2.0) -> Callable[[Round], None]:
    """Set the clock of one node to each of these (seconds off, rate) in turn, and back."""

    def strike(each: Round) -> None:
        victim = each.victim()
        maps = Path(f"/proc/{each.machines.pid(victim)}/maps").read_text()
        assert CLOCK.name in maps, "its clock is no other than ours"
        for off_s, rate in settings:
            since = time.monotonic()
            each.set_clock(victim, off_s, rate)
            each.hold(each_s)
            each.makes_progress(since)
        each.set_clock(victim)

    return strike


def mixed(each: Round) -> None:
    """Any other fault, and now and then two at once."""
    fault = each.chance.choice([fault for fault in FAULTS if _may_be_mixed(fault, each)])
    with contextlib.ExitStack() as stack:
        if each.chance.random() < 0.5:
            stack.enter_context(
                each.machines.courier("--delay-ms", "1", "--spread-ms", "10", "--twice-percent", "5")
            )
        fault.strike(each)
        each.recovers()


def _may_be_mixed(fault: Fault, each: Round) -> bool:
    is_possible = fault.is_mixed and len(each.names) in fault.sizes and not fault.packets
    return is_possible and fault.strike not in (mixed, masked)


DAY_S = 86_400

FAULTS = [
    Fault("nothing", "No fault, to compare with.", lambda each: each.hold(2.0)),
    Fault("one node cut off", "All links of one node are cut, both ways.", cut_by(isolated)),
    Fault("minority cut off", "Two of five are on one side, three on the other.", cut_by(halves), (5,)),
    Fault("a node that hears nothing", "All links to one node are cut, those from it are not.", cut_by(deaf)),
    Fault("a node that nobody hears", "All links from one node are cut, those to it are not.", cut_by(mute)),
    Fault("quorum loss", "All links are cut but those of one node, which does not lead.", cut_by(star)),
    Fault(
        "constrained election",
        "The leader is cut off, and of the others only one has links with all of them.",
        cut_by(star_without_leader),
        (5,),
    ),
    Fault("chain", "The nodes are linked in a row, the leader at one end.", cut_by(chain)),
    Fault(
        "ring of majorities",
        "The nodes are linked in a ring: each reaches a majority, another one.",
        cut_by(ring),
        (5,),
    ),
    Fault(
        "one-way masks",
        "All 64 ways to cut the six directions between three nodes, eight in a round.",
        masked,
        (3,),
        parts=64 // MASKS_IN_A_ROUND,
        strikes=MASKS_IN_A_ROUND,
    ),
    Fault("loss", "5, 10 or 20 % of all packets are lost.", lossy),
    Fault("delay", "Every packet takes 20 ms longer.", carried("--delay-ms", "20"), packets=True),
    Fault(
        "reordering",
        "Every packet takes 0 to 30 ms longer and may be overtaken.",
        carried("--spread-ms", "30"),
        packets=True,
    ),
    Fault(
        "duplication",
        "30 % of the packets come twice.",
        carried("--spread-ms", "2", "--twice-percent", "30"),
        packets=True,
    ),
    Fault("one killed", "One node is killed (-9) and started again.", killed),
    Fault("two killed", "Two nodes are killed and started again.", minority_killed, (5,)),
    Fault("all killed", "All nodes are killed at once and started again.", all_killed),
    Fault("one paused", "One node stands still (SIGSTOP) for 0.5 to 4 s.", paused),
    Fault("majority paused", "A majority stands still.", majority_paused),
    Fault("one told to end", "One node is ended in good order (SIGTERM) and started again.", ended),
    Fault(
        "snapshots",
        "All nodes take snapshots at once while clients write much; every other time one of them is killed meanwhile.",
        snapshots,
        options=OFTEN,
    ),
    Fault(
        "wiped directory",
        "One node is killed and its directory emptied; it is started, and must come to vote again by itself.",
        wiped,
        options=OFTEN,
        is_mixed=False,
    ),
    Fault(
        "members replaced",
        "A new node takes the place of a member, which is killed when it has left; again and again.",
        replaced,
        options=OFTEN,
        is_mixed=False,
    ),
    Fault(
        "rotten log",
        "While a node is down a bit is flipped in each segment of its log and in its newest snapshot. Either it mends that from "
        "the others, or it says where the damage is and ends; then its directory is emptied.",
        rotten,
        options=OFTEN,
        is_mixed=False,
    ),
    Fault(
        "rotten snapshots",
        "While a node is down a bit is flipped in its newest snapshot, and later in all it has, when its log is cut behind them. "
        "It must come back by itself.",
        rotten_snapshots,
        strikes=ROTTEN_STRIKES,
        options=OFTEN,
        is_mixed=False,
    ),
    Fault("stuck disk", "Every sync of one node takes 5 s longer.", disk(5.0, 4.0)),
    Fault("slow disk", "Every sync of one node takes 100 ms longer.", disk(0.1, 3.0)),
    Fault(
        "full disk",
        "Something else fills the disk of one node, and goes after some seconds. The node must step back and say why, and "
        "come back by itself. Then so many others are killed that it is needed.",
        full_disk,
        room=DISK_BYTES,
        is_mixed=False,
    ),
    Fault(
        "clock ahead",
        "The clock of one node jumps a day ahead, and back.",
        clock((DAY_S, 1)),
        fakes_clocks=True,
    ),
    Fault(
        "clock behind",
        "The clock of one node jumps a day back, and ahead.",
        clock((-DAY_S, 1)),
        fakes_clocks=True,
    ),
    Fault("fast clock", "The clock of one node runs three times as fast.", clock((0, 3)), fakes_clocks=True),
    Fault(
        "strobing clock",
        "The clock of one node jumps to and fro by minutes, twenty times a second.",
        clock(*[(200, 1), (-200, 1)] * 20, each_s=0.05),
        fakes_clocks=True,
    ),
    Fault(
        "mixed",
        "One of the above after the other, some with packets that come late, twice or in another order.",
        mixed,
        fakes_clocks=True,
    ),
]
