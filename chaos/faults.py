"""The faults: how each strikes, once, and how it is undone.

Every strike checks that it struck, since a fault that does nothing shows nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Callable
from pathlib import Path

from processes import wait_until

from . import links
from .prerequisites import CLOCK
from .rounds import Fault, Round

MASKS_IN_A_ROUND = 8


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


# Disks and clocks


def disk(delay_s: float, seconds: float) -> Callable[[Round], None]:
    def strike(each: Round) -> None:
        since = time.monotonic()
        with each.machines.slow_disk(each.victim(), delay_s):
            each.makes_progress(since)
            each.hold(seconds)
        each.recovers()

    return strike


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
    return fault.strike not in (mixed, masked) and len(each.names) in fault.sizes and not fault.packets


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
    Fault("stuck disk", "Every sync of one node takes 5 s longer.", disk(5.0, 4.0)),
    Fault("slow disk", "Every sync of one node takes 100 ms longer.", disk(0.1, 3.0)),
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
