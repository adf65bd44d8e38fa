"""Keys with a time to live: legal histories on clocks as wrong as they may be, illegal edits, and both edges of a life."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from sim.test_sim_checkers_verdict import Times, after, at, executed, schedule
from sofadb.sim.checkers.expiry import Delete, Operation, Persist, Read, Write, check
from sofadb.sim.checkers.verdict import Unusable

History = list[Operation]
BOUND_MS = 300
NODES = ("n1", "n2", "n3")
KEYS = ("x", "y", "z")


@dataclass
class Held:
    """What a key holds, and until when."""

    value: str
    until: float
    expires_at_ms: int | None


class Database:
    """Keeps each key for its time to live, by clocks that are as wrong as they may be."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._held: dict[str, Held] = {}

    def find(self, key: str, moment: float) -> Held | None:
        held = self._held.get(key)
        return held if held is not None and moment < held.until else None

    def run(self, operation: Operation, moment: float) -> Operation:
        """Execute at a moment; return the operation with its answer."""
        held = self.find(operation.key, moment)
        if isinstance(operation, Write):
            error_ms = self._chance.uniform(-BOUND_MS, BOUND_MS)
            life_ms = None if operation.ttl_ms is None else operation.ttl_ms + error_ms
            until = float("inf") if life_ms is None else moment + life_ms / 1000
            told = None if life_ms is None else int(until * 1000)
            self._held[operation.key] = Held(operation.value, until, told)
        elif isinstance(operation, Delete):
            self._held.pop(operation.key, None)
        elif isinstance(operation, Persist):
            changed = held is not None and held.expires_at_ms is not None
            if held is not None and changed:
                self._held[operation.key] = Held(held.value, float("inf"), None)
            return replace(operation, changed=changed) if operation.outcome == "ok" else operation
        elif held is not None and operation.outcome == "ok":
            told = held.expires_at_ms if self._chance.random() < 0.5 else None
            return replace(operation, value=held.value, expires_at_ms=told)
        return operation


def asked(chance: random.Random, number: int, times: Times) -> Operation:
    key = chance.choice(KEYS)
    draw = chance.random()
    if draw < 0.3:
        return Write(**times, key=key, value=f"v{number}", ttl_ms=chance.choice([None, 500, 1000, 3000]))
    if draw < 0.35:
        return Delete(**times, key=key)
    if draw < 0.42:
        return Persist(**times, key=key)
    return Read(**times, key=key, node=chance.choice(NODES), value=None)


def legal(chance: random.Random, operations: int = 40) -> History:
    """In the end there are reads of all keys, so late that no time to live is left. And one more key is written at the
    start, and read when it must be there."""
    slots = schedule(chance, operations, clients=5)
    history = [asked(chance, number, slot.times) for number, slot in enumerate(slots)]
    moments: list[float] = [slots[number].moment or 0 for number in executed(slots)]
    order = executed(slots)
    end = after(slots) + 10
    for key in KEYS:
        for node in NODES:
            order.append(len(history))
            moments.append(max([end + 0.5, *moments]))
            history.append(Read(**at(99, end, moments[-1] + 0.5), key=key, node=node, value=None))
    database = Database(chance)
    for number, moment in zip(order, moments, strict=True):
        history[number] = database.run(history[number], moment)
    return [
        *history,
        Write(**at(98, 0, 1), key="decisive", value="v", ttl_ms=10_000),
        Read(**at(98, 2, 3), key="decisive", node="n1", value="v"),
    ]


# Illegal edits, each a story of a key that nobody else uses. The name of the problem comes first.

Edit = Callable[[random.Random, float, int], tuple[str, History]]
"""A story that begins at a time and is about a time to live in ms, drawn by chance, long compared with what operations take."""


def write(start: float, ttl_ms: int | None, end: float | None = None, value: str = "v") -> Write:
    return Write(**at(50, start, start + 0.1 if end is None else end), key="k", value=value, ttl_ms=ttl_ms)


def read(
    start: float, end: float, value: str | None = "v", node: str = "n1", told: int | None = None
) -> Read:
    return Read(**at(51, start, end), key="k", node=node, value=value, expires_at_ms=told)


def too_early(chance: random.Random, start: float, ttl_ms: int) -> tuple[str, History]:
    """A read ends just before the key can be gone, and does not find it."""
    gone = start + (ttl_ms - BOUND_MS) / 1000 - chance.choice([0.001, 0.1])
    return "gone too early", [write(start, ttl_ms), read(gone - 0.05, gone, None)]


def too_late(chance: random.Random, start: float, ttl_ms: int) -> tuple[str, History]:
    """A read starts just after the key is certainly gone, and finds it."""
    gone = start + 0.1 + (ttl_ms + BOUND_MS) / 1000 + chance.choice([0.001, 3, 100])
    return "visible too late", [write(start, ttl_ms), read(gone, gone + chance.random())]


def too_late_though_unknown(chance: random.Random, start: float, ttl_ms: int) -> tuple[str, History]:
    """Nobody knows when the write ended, but a read found its value."""
    gone = start + 1 + (ttl_ms + BOUND_MS) / 1000 + 0.001
    unknown = Write(**at(50, start, None), key="k", value="v", ttl_ms=ttl_ms)
    return "visible too late", [unknown, read(start + 0.5, start + 1), read(gone, gone + chance.random())]


def never_to_be_gone(chance: random.Random, start: float, ttl_ms: int) -> tuple[str, History]:
    """A value that lives for ever, by its write or by a persist, is gone after a while."""
    late = start + chance.uniform(1, 100)
    persist = Persist(**at(52, start + 0.2, start + 0.3), key="k", changed=True)
    story = chance.choice([[write(start, None)], [write(start, ttl_ms), persist]])
    return "gone too early", [*story, read(late, late + 1, None)]


def persisted_in_vain(chance: random.Random, start: float, ttl_ms: int) -> tuple[str, History]:
    """A persist says that it changed nothing, or comes too late. The key outlives its time, all the same."""
    gone = start + 0.1 + (ttl_ms + BOUND_MS) / 1000
    begun, changed = chance.choice([(start + 0.2, False), (gone + 0.001, True)])
    persist = Persist(**at(52, begun, begun + 0.1), key="k", changed=changed)
    return "visible too late", [write(start, ttl_ms), persist, read(gone + 1, gone + 2)]


def seen_again(chance: random.Random, start: float, ttl_ms: int) -> tuple[str, History]:
    """Around the end of its life, where it may be gone or not, a key is there, gone, and there again, at one node."""
    middle = start + ttl_ms / 1000
    spans = [(middle, middle + 0.05), (middle + 0.06, middle + 0.1), (middle + 0.11, middle + 0.2)]
    reads = [read(*span, value) for span, value in zip(spans, ("v", None, "v"), strict=True)]
    return "visible again", [write(start, ttl_ms), *reads[chance.randrange(2) :]]


def seen_again_elsewhere(chance: random.Random, start: float, ttl_ms: int) -> tuple[str, History]:
    """The same, but it is another node at which it is there again."""
    _, (written, *reads) = seen_again(chance, start, ttl_ms)
    return "nodes disagree", [written, *reads[:-1], replace(reads[-1], node="n2")]


def told_otherwise(chance: random.Random, start: float, ttl_ms: int) -> tuple[str, History]:
    """Two nodes do not tell the same time at which the key expires."""
    told = int(1000 * start) + ttl_ms
    reads = [
        read(start + 0.2, start + 0.3, told=told),
        read(start + 0.2, start + 0.3, node="n2", told=told + 1),
    ]
    return "nodes disagree", [write(start, ttl_ms), *reads]


def replaced(chance: random.Random, start: float, ttl_ms: int) -> tuple[str, History]:
    """A value is found after another write, or a delete."""
    delete = Delete(**at(52, start + 0.2, start + 0.3), key="k")
    change = chance.choice([delete, write(start + 0.2, None, value="w")])
    return "replaced value", [write(start, None), change, read(start + 0.301, start + 0.4)]


def invented(chance: random.Random, start: float, ttl_ms: int) -> tuple[str, History]:
    """A value is found that nobody wrote, or nobody yet, or whose write certainly failed."""
    failed = Write(**at(50, start, start + 0.1, "failed"), key="k", value="v", ttl_ms=ttl_ms)
    return "never written", [
        *chance.choice([[], [failed], [write(start + 0.4, ttl_ms)]]),
        read(start + 0.2, start + 0.3),
    ]


EDITS: list[Edit] = [
    too_early,
    too_late,
    too_late_though_unknown,
    never_to_be_gone,
    persisted_in_vain,
    seen_again,
    seen_again_elsewhere,
    told_otherwise,
    replaced,
    invented,
]


def test_a_thousand_legal_histories_pass_and_every_illegal_edit_is_caught() -> None:
    caught = dict.fromkeys(EDITS, 0)
    decisive = 0
    for seed in range(1000):
        chance = random.Random(seed)
        history = legal(chance, chance.randint(10, 60))
        verdict = check(chance.sample(history, len(history)), BOUND_MS)
        assert verdict, (seed, str(verdict))
        decisive += verdict.counts["decisive reads"]
        edit = EDITS[seed % len(EDITS)]
        name, story = edit(chance, chance.uniform(0, 20), chance.randint(1000, 5000))
        verdict = check([*history, *story], BOUND_MS)
        assert name in verdict.names, (seed, edit, str(verdict))
        caught[edit] += 1
    assert min(caught.values()) == 100
    assert decisive > 4000


# Edges

BEGUN, ENDED = 10.0, 10.5
EARLIEST, LATEST = 10 + 2 - 0.3, 10.5 + 2 + 0.3


@pytest.mark.parametrize(
    ("start", "end", "may_be_there", "may_be_gone"),
    [
        (10.1, 10.4, True, True),  # It may not have been written yet.
        (10.5, 10.6, True, True),  # Equal times are no order.
        (9, 10, True, True),
        (9, 9.9, False, True),
        (10.6, EARLIEST - 0.01, True, False),
        (10.6, EARLIEST + 0.01, True, True),
        (EARLIEST - 0.02, EARLIEST - 0.01, True, False),
        (LATEST - 0.01, LATEST + 9, True, True),
        (LATEST + 0.01, LATEST + 9, False, True),
        (8, LATEST + 9, True, True),
    ],
)
def test_the_life_of_a_key_has_an_earliest_and_a_latest_end(
    start: float, end: float, may_be_there: bool, may_be_gone: bool
) -> None:
    written = write(BEGUN, 2000, ENDED)
    assert bool(not check([written, read(start, end)], BOUND_MS).problems) == may_be_there
    assert bool(not check([written, read(start, end, None)], BOUND_MS).problems) == may_be_gone


def test_who_may_have_removed_or_kept_a_key_is_a_reason() -> None:
    short, long = write(10, 1000, value="v"), write(10.05, 60_000, 10.2, value="w")
    delete, unknown_delete = Delete(**at(52, 10.05, 10.2), key="k"), Delete(**at(52, 5, None), key="k")
    unknown_persist = Persist(**at(52, 10.05, None), key="k")
    gone, there = read(15, 16, None), read(15, 16, "v")
    assert not check([long, gone], BOUND_MS)
    assert not check([long, short, gone], BOUND_MS).problems, "the short one may have been the last"
    assert not check([long, delete, gone], BOUND_MS).problems, "the delete may have been the last"
    assert not check([long, unknown_delete, gone], BOUND_MS).problems, "the delete may have come late"
    assert not check([short, there], BOUND_MS)
    assert not check([short, unknown_persist, there], BOUND_MS).problems, "the persist may have been executed"


def test_equal_times_are_no_order() -> None:
    written = write(10, 10_000, 11)
    persist = Persist(**at(52, 11, 12), key="k", changed=True)
    gone = read(30, 31, None)
    assert not check([written, persist, gone], BOUND_MS).problems, (
        "it may have been persisted before it was written"
    )
    assert check([written, replace(persist, start=11.1), gone], BOUND_MS).names == {"gone too early"}
    assert not check([written, replace(persist, start=11.1, end=30), gone], BOUND_MS).problems
    other = write(11, None, 12, value="w")
    assert not check([written, other, read(13, 14)], BOUND_MS).problems, "the other one may have come first"
    assert check([written, replace(other, start=11.1), read(13, 14)], BOUND_MS).names == {"replaced value"}
    assert not check([written, replace(other, start=11.1), read(12, 14)], BOUND_MS).problems


def test_a_flip_takes_three_moments_one_after_the_other() -> None:
    written = write(10, 3000, 11)
    there, gone, again = read(11.5, 12), read(12.1, 13, None), read(13.1, 14)
    assert check([written, there, gone, again], 3000).names == {"visible again"}
    assert not check([replace(written, end=12.1), replace(there, end=12.1), gone, again], 3000).problems
    assert not check([written, there, gone, replace(again, start=13)], 3000).problems
    assert check([written, gone, again], 3000).names == {"visible again"}, "it had been written"


def test_a_key_that_was_never_read_when_it_matters_is_no_pass() -> None:
    written = write(10, 2000)
    failed = replace(read(11, 11.5), outcome="failed")
    undecided = [[], [read(11, 13)], [read(11, 13, None)], [failed], [read(10.05, 13)], [read(10.1, 13)]]
    for reads in undecided:
        verdict = check([written, *reads], BOUND_MS)
        assert not verdict
        assert not verdict.problems
        assert verdict.counts["decisive reads"] == 0
    for touching in (read(10.05, 10.2), read(10.1, 10.2)):
        assert check([written, touching], BOUND_MS).doubts, (
            "it was decisive, and yet nobody looked afterwards"
        )
    maybe = Write(**at(50, 10, None), key="k", value="w", ttl_ms=2000)
    for one_of_two in (read(11, 11.5), read(13, 14, None)):
        shorter = replace(written, ttl_ms=500)
        assert check([maybe, shorter, one_of_two], BOUND_MS).counts["decisive reads"] == 0
    for decisive in (read(11, 11.5), read(13, 14, None)):
        assert check([written, decisive], BOUND_MS)
    other = replace(written, key="l")
    assert check([written, read(11, 11.5), other], BOUND_MS).doubts == (
        "Of 1 keys, like 'l', no read started after a value with a time to live was acknowledged.",
    )
    assert check([write(10, None)], BOUND_MS), "nothing expires"
    assert check([], BOUND_MS)


def test_the_explanation_cites_the_write_and_the_read() -> None:
    verdict = check([write(10, 2000), read(11, 11.5, None)], BOUND_MS)
    assert [str(each) for each in verdict.problems] == [
        "gone too early: read of 'k' (client 51, started at 11, ended at 11.5) found nothing, though write of 'k' (client "
        "50, started at 10, ended at 10.1) lets it live for 2000 ms, and nothing that came later can have removed it."
    ]


def test_a_value_is_written_to_a_key_once() -> None:
    with pytest.raises(Unusable, match="'v' is written to 'k' twice"):
        check([write(1, 10), write(2, 10)], BOUND_MS)
    assert not check([write(1, 10), replace(write(2, 10), key="l")], BOUND_MS).problems
