"""Where the laboratory may choose the unlikely.

At each of these points the program takes an ordinary way and could as well take another, which is as correct and hardly ever
taken: close a batch early, break a connection, look at the clock too soon. Errors live on such ways. In production none
is ever chosen: `unlikely` says no. The laboratory puts a chooser of its own in its place, which makes a quarter of
the points active in each world and lets each of these fire now and then.

A point is passed once a block, a message, a run or a turn, never once a command that a batch could share. What is chosen
there must never make anything wrong: safety and what clients see hold on every way.
"""

from __future__ import annotations

from collections.abc import Callable

POINTS: dict[str, str] = {
    # storage
    "block of one save": "the disk takes one save at a time instead of all that wait",
    "mark after every block": "a block is proven at once, not when the log goes quiet",
    "no mark when quiet": "a quiet log goes without the mark that proves its last block",
    "segment ends early": "the next block opens a new segment although there is room",
    "nothing prepared": "the next segment is not prepared ahead, so that a block has to wait for its zeros",
    "prepared early": "the next segment is prepared long before the current one is half full",
    "reader forgotten": "a finished segment is opened anew for every read",
    # node
    "message twice": "a message leaves twice",
    "message lost": "a message is dropped as if the peer did not keep up",
    "message on the large lane": "a small message takes the way of the large ones",
    "smallest quorum": "accept requests leave for as few acceptors as may suffice",
    "link broken": "the connection to a peer breaks after a message",
    "connect at once": "a broken connection is opened again without a pause",
    "connect late": "a broken connection stays broken for a long time",
    "step down": "a leader gives up for no reason",
    "early timeout": "a follower acts as if its election timeout were over",
    "look at the clock": "a tick that nobody asked for",
    "wake early": "the timer fires before its time",
    "wake late": "the timer fires after its time",
    "read another time": "reads are handed on a turn later than they could be",
    "submission of one work": "each work of a turn is a submission of its own",
    "work a turn later": "what came in waits for another turn of the event loop",
    "one value at a time": "a replica that is behind is taught one value a message",
    "too much unsaved": "a message that adds to the disk's queue is refused as if the queue were full",
    "stable one by one": "each save of a block is told in a turn of its own",
    "snapshot now": "a snapshot is taken, though the log has hardly grown",
    "snapshot piece by piece": "each piece of a snapshot is written by itself",
    "expiry now": "time is moved for what expires before it is due to be looked at",
    "expiry later": "what expires is looked at later than it should be",
    # server
    "the long way": "what could be begun together with that of other clients is begun by itself",
    "run of one command": "a pipeline is taken one command at a time",
    "one run at a time": "nothing is begun before what is under way is answered",
    "no reads behind writes": "a read behind a write becomes a run of its own",
    "input paused": "a client is not read from for a moment",
    "reply in pieces": "a reply is sent in pieces although it is small",
    "request in pieces": "what a client sent is taken a few bytes at a time",
}
"""Name of each point, and what happens there when it is chosen."""


def never(point: str) -> bool:
    """What is chosen in production: nothing."""
    return False


_choose: Callable[[str], bool] = never
possible: set[str] = set()
"""Where the unlikely may be chosen at all: nowhere in production, everywhere in the laboratory.

What is passed for every message looks here first (`possible and unlikely(...)`), and makes no call for nothing.
"""


def unlikely(point: str) -> bool:
    """Whether the unlikely is to happen at this point, now."""
    return bool(possible) and _choose(point)


def choose_by(chooser: Callable[[str], bool]) -> None:
    """For the laboratory: from now on `chooser` decides, until `choose_by(never)`."""
    global _choose
    _choose = chooser
    possible.clear()
    if chooser is not never:
        possible.update(POINTS)
