"""Linearizability: could one register per key, doing one operation at a time, have answered like that?

Theory (Herlihy and Wing 1990). A history is linearizable if its operations can be put in one order such that each answer is
what the register answers in that order, and an operation that ended before another started comes before it. The property
is local: a history is linearizable if and only if, for each key, the operations on that key are. So each key is judged alone.

Time. Operations are ordered if one ended *before* the other started. Times that are equal say nothing, since a clock may
be coarse: such operations count as concurrent. But two of one client on one key, both answered, keep their order even
where the later one starts at the instant at which the earlier one ended, since they cannot overlap.

The search (Wing and Gong 1993; Lowe 2017, "Testing for linearizability"). We walk through the moments at which operations
start and end. A *configuration* is what may be so at one moment: the state of the register, which of the operations that
have started and not ended took effect (a bit each), and which of those of unknown outcome did. An operation needs to
take effect no earlier than just before the next end of any operation ("just in time"), so there is something to try only
where an operation ends and has not taken effect: then it does, perhaps after others that have started. Depth first: the
simplest trial goes on, the others wait. A configuration that was met before at the same moment is not followed again.
Where no operation is pending, a configuration is just a state (and the unknown outcomes that were used), so a long history
with quiet moments falls into short ones by itself, with the set of possible states carried over.

What keeps the search small, and why nothing is lost by it:

- *Reads go first.* An operation that can change nothing when it answers as it did (a get, a failed cas, a del that found
  nothing) takes effect as soon as its answer is right. Every continuation without it is one with it.
- *An unknown outcome that was not used is better.* The configuration with fewer of them used, and all else equal, can do all
  that the other can, since the rest may still happen or never. So the other is dropped. For the same reason an unknown
  outcome is not used directly before a set, which would only wipe it out, nor when it changes nothing.
- *Equal unknown outcomes are used in the order of their starts*, since any of them will do.
- *Texts that nobody sees are one text* (`Blur`): those that no get answered and no cas expected, nor can become such a text.
  Many unknown outcomes become equal by this.
- *An unknown get* says nothing and is left out.

In the worst case the search takes exponential time: the problem is NP-complete. So its steps are counted, and when they are
used up the outcome is "cannot tell", which is no pass.

The explanation of a "no" is a smaller history. It ends where the search ended: at the first moment behind which no order
leads. From what is before that, operations are taken away as long as the answer stays "no" (delta debugging: halves first,
single ones last). Taking away must not make a good history bad. A read can go: it asks less. A write cannot simply go, since
another operation may have needed it, so it becomes one of unknown outcome: it may take effect at any time after its start,
whatever it answered, or never (or, which is tried first because it is faster, again and again). Every order of the whole
history is still an order of such a weakened one. So a "no" for the weakened one is a "no" for the whole, whatever the
weakened operations did, and they need not be shown. The operations that remain are not linearizable by themselves either
(the case in which none of the others took effect). So that people see where values came from, those weakened operations
are shown after all that an order of everything but the operation in question makes use of.

The same serves a long search. Where it is stuck before some moment, it is often quickly seen that the few operations that
ended last before it have no order whatever all earlier ones did; so this is tried between shorter and longer searches.
"""

from __future__ import annotations

import bisect
import enum
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from .history import ERROR, Operation, in_order

STEPS_MAX: Final = 20_000_000
"""Steps of one check, all keys together: a minute or so."""

EXPLAIN_STEPS_MAX: Final = 1_000_000
"""Steps that making an explanation smaller may take."""

_TRIAL_STEPS: Final = 10_000
"""Steps of one trial to take operations away (more if there are many operations)."""

SHOWN_MAX: Final = 40
"""Operations in one drawing."""

_JOINED_MAX: Final = 50_000
"""Characters of all texts that answers show, up to which it pays to look for parts of them."""

BAR_COLUMNS_MAX: Final = 48

INTEGER_MAX: Final = 2**63 - 1
_INTEGER_FIRST: Final = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_PART_OF_INTEGER: Final = re.compile(r"-?[0-9]*", re.ASCII)
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)

State = str | None


class Outcome(enum.Enum):
    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A small part of a history that no order explains. `str` draws it."""

    key: str
    operations: tuple[Operation, ...]
    """In the order of their starts. They are not linearizable by themselves."""
    culprit: Operation
    """The one of them at whose end the last order fails."""
    order: tuple[Operation, ...]
    """An order of the others, if one was found."""
    left_out: int
    """Operations on the key that are not shown. Whatever they did, it does not help."""
    smallest: bool
    """No single operation can be taken away. False if the steps for trying were used up."""

    def __str__(self) -> str:
        return drawing(self)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker says. Its truth value is whether the history passed: "cannot tell" did not."""

    outcome: Outcome
    operations: int
    keys: int
    steps: int
    """Steps that the search took."""
    failed: tuple[str, ...]
    """The keys whose operations are not linearizable."""
    undecided: tuple[str, ...]
    """The keys for which the steps were used up."""
    explanation: Explanation | None
    """Of the first key that failed."""
    orders: Mapping[str, tuple[Operation, ...]]
    """For each key that passed, an order that explains its answers: the proof. Unknown outcomes that it does not
    need are not in it."""

    def __bool__(self) -> bool:
        return self.outcome is Outcome.LINEARIZABLE

    def __str__(self) -> str:
        head = f"{self.outcome.value}: {_count(self.operations, 'operation')}, {_count(self.keys, 'key')}"
        if self.undecided:
            head += f"; {_count(self.steps, 'step')} were not enough for {_names(self.undecided)}"
        if self.explanation is None:
            return head
        return f"{head}; the answers for {_names(self.failed)} have no order\n\n{self.explanation}"


def check(
    operations: Iterable[Operation],
    steps_max: int = STEPS_MAX,
    explain_steps_max: int = EXPLAIN_STEPS_MAX,
) -> Verdict:
    """Judge a history, in any order of its operations (those of one client must not overlap: `read_history`).

    Each key, the one with the fewest operations first, may take an equal share of the steps that are left.
    One key that is not linearizable makes the whole so, even where others are undecided.
    """
    by_key: dict[str, list[Operation]] = {}
    for each in operations:
        by_key.setdefault(each.key, []).append(each)
    orders: dict[str, tuple[Operation, ...]] = {}
    failed: list[tuple[str, Search]] = []
    undecided: list[str] = []
    steps = 0
    for number, (key, own) in enumerate(sorted(by_key.items(), key=lambda item: len(item[1]))):
        search, taken = _decide(own, (steps_max - steps) // (len(by_key) - number))
        steps += taken
        if search.outcome is Outcome.LINEARIZABLE:
            orders[key] = search.order
        elif search.outcome is Outcome.NOT_LINEARIZABLE:
            failed.append((key, search))
        else:
            undecided.append(key)
    outcome = Outcome.CANNOT_TELL if undecided else Outcome.LINEARIZABLE
    explanation = None
    if failed:
        outcome = Outcome.NOT_LINEARIZABLE
        explanation = _explain(by_key[failed[0][0]], failed[0][1], explain_steps_max)
    return Verdict(
        outcome=outcome,
        operations=sum(map(len, by_key.values())),
        keys=len(by_key),
        steps=steps,
        failed=tuple(key for key, _ in failed),
        undecided=tuple(undecided),
        explanation=explanation,
        orders=orders,
    )


def _decide(operations: Sequence[Operation], steps_max: int) -> tuple[Search, int]:
    """Judge the operations on one key; return how, and the steps it took.

    A search that does not come to an end soon is stuck before some moment. Then it may be easier to see that a weakened
    history (see above) has no order. If not, the search starts again and may take longer.
    """
    search = Search(_known(operations), _unknown(operations))
    patience = _TRIAL_STEPS + 10 * len(operations)
    steps = 0
    while True:
        search.run(min(patience, steps_max - steps))
        steps += search.steps
        if search.outcome is not Outcome.CANNOT_TELL or steps >= steps_max or search.culprit is None:
            return search, steps
        shrinking = _Shrinking(operations, search.culprit, min(patience, steps_max - steps))
        no = shrinking.only_the_end_matters()
        steps += shrinking.steps
        if no:
            search.outcome = Outcome.NOT_LINEARIZABLE
        if no or steps >= steps_max:
            return search, steps
        patience *= 8


# The register


def after(operation: Operation, state: State) -> State | Literal[False]:
    """The state after `operation`, or False if it does not answer as it did in this state."""
    op, result = operation.op, operation.result
    if op == "get":
        return state if state == result else False
    if op == "set":
        return operation.value
    if op == "del":
        return None if (state is not None) == result else False
    if op == "cas":
        if (state == operation.expected) != result:
            return False
        return operation.value if result else state
    if op == "append":
        assert operation.value is not None
        longer = operation.value if state is None else state + operation.value
        return longer if _size(longer) == result else False
    more = _more(state)
    if more is None:
        return state if result == ERROR else False
    return more if result != ERROR and more == str(result) else False


def after_unknown(operation: Operation, state: State) -> State | Literal[False]:
    """The state after an operation whose answer nobody knows, or False if it would change nothing."""
    op = operation.op
    new: State = state
    if op == "set" or (op == "cas" and state == operation.expected):
        new = operation.value
    elif op == "del":
        new = None
    elif op == "append":
        assert operation.value is not None
        new = operation.value if state is None else state + operation.value
    elif op == "incr":
        more = _more(state)
        new = state if more is None else more
    return False if new == state else new


def only_reads(operation: Operation) -> bool:
    """Whether an operation, wherever it answers as it did, changes nothing."""
    op = operation.op
    if op == "cas":
        return not operation.result or operation.value == operation.expected
    return (
        op == "get" or (op == "del" and operation.result == 0) or (op == "incr" and operation.result == ERROR)
    )


def _more(state: State) -> State:
    """The number after `state`, or None if incr fails there."""
    if state is None:
        return "1"
    if not _INTEGER.fullmatch(state):
        return None
    number = int(state)
    return str(number + 1) if -INTEGER_MAX - 1 <= number < INTEGER_MAX else None


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


# The search


Trail = tuple["Trail", int] | None
"""The operations that took effect, the last one first: `(what was before, number of the operation)`."""

_Frame = tuple[int, int, int, State, Trail, bool, bool]
"""A configuration that waits: moment, done, used, state, trail; then whether the simplest trial was already made; then
whether an unknown outcome made this state and nothing has looked at it yet."""


class Search:
    """The search for an order of operations on one key: `known` ones all in it, `unknown` ones where they help."""

    def __init__(
        self, known: Sequence[Operation], unknown: Sequence[Operation], *, again: bool = False
    ) -> None:
        """`known` and `unknown` are sorted (`in_order`). Whatever end and result an unknown one has is not looked at.

        `again` asks a weaker question, which is answered sooner: unknown ones may take effect again and again.
        """
        self._again = again
        self.outcome = Outcome.CANNOT_TELL
        self.order: tuple[Operation, ...] = ()
        """Filled in if the outcome is LINEARIZABLE."""
        self.culprit: Operation | None = None
        """Otherwise: the operation at whose end the last order failed."""
        self.steps = 0
        self._operations = [*known, *unknown]
        self._known = len(known)
        self._settle: Callable[[State], State] | None = None
        """What to do with a text that an append or an incr has made."""
        if len(unknown) > 1:
            blur = Blur(known, unknown)
            known, unknown = [blur.blurred(each) for each in known], [blur.blurred(each) for each in unknown]
            self._settle = blur.settle if blur.makes else None
        self._blurred = [*known, *unknown]
        self._reads = [only_reads(each) for each in known]
        self._wipes = [each.op == "set" for each in self._blurred]
        self._bit = [0] * len(known)
        self._started_at = [0] * len(self._blurred)
        self._ended_at = [0] * len(known)
        self._moments: list[int] = []
        """At each moment, either a read starts (its number) or a known operation ends (its number, inverted)."""
        self._others: list[tuple[int, ...]] = []
        """For each moment, the known operations that are pending then, but for its own."""
        self._classes: list[list[int]] = []
        """Numbers of unknown operations that do the same, in the order of their starts. In the bits of `used`, each class
        has a run of its own, filled from its low end."""
        self._low: list[int] = []
        self._before = self._same_instant()
        self._lay_out()

    def _lay_out(self) -> None:
        """Turn times into moments. What starts at a time comes before what ends at it: they are concurrent."""
        operations, known = self._blurred, self._known
        times: list[tuple[float, bool, int]] = [(each.start, False, at) for at, each in enumerate(operations)]
        for at in range(known):
            end = operations[at].end
            assert end is not None
            times.append((end, True, at))
        times.sort()
        pending: list[int] = []
        free: list[int] = []
        for _, ends, at in times:
            if not ends:
                self._started_at[at] = len(self._moments)
                if at >= known:
                    continue
                self._bit[at] = free.pop() if free else 1 << len(pending)
                pending.append(at)
                if self._reads[at]:
                    self._moments.append(at)
                    self._others.append(())
            else:
                self._ended_at[at] = len(self._moments)
                pending.remove(at)
                free.append(self._bit[at])
                self._moments.append(~at)
                self._others.append(tuple(pending))
        classes: dict[tuple[str, State, State], list[int]] = {}
        for at in range(known, len(operations)):
            each = operations[at]
            classes.setdefault((each.op, each.value, each.expected), []).append(at)
        low = 0
        for members in classes.values():
            self._classes.append(members)
            self._low.append(low)
            low += len(members)

    def _same_instant(self) -> dict[int, int]:
        """For a known operation that starts when an earlier one of its client ends: that earlier one."""
        before: dict[int, int] = {}
        latest: dict[int, int] = {}
        for at in range(self._known):
            each = self._blurred[at]
            earlier = latest.get(each.client)
            if earlier is not None and self._blurred[earlier].end == each.start:
                before[at] = earlier
            latest[each.client] = at
        return before

    def _must_wait(self, at: int, moment: int, done: int) -> bool:
        """Whether an operation of its own client has to take effect first."""
        earlier = self._before.get(at)
        return earlier is not None and moment <= self._ended_at[earlier] and not done & self._bit[earlier]

    def run(self, steps_max: int) -> None:
        """Search until the outcome is clear or the steps are used up. A step is one trial of one operation."""
        operations, moments, bits, reads, wipes = (
            self._blurred,
            self._moments,
            self._bit,
            self._reads,
            self._wipes,
        )
        others, before, has_unknown = self._others, self._before, bool(self._classes)
        settle = self._settle
        end = len(moments)
        deepest = -1
        steps = 0
        met: dict[tuple[int, int, State], tuple[int, ...]] = {}
        """For a moment, done and state: the sets of used unknown outcomes, none of which contains another."""
        waiting: list[_Frame] = [(0, 0, 0, None, None, False, False)]
        while waiting:
            moment, done, used, state, trail, tried, unseen = waiting.pop()
            if tried:
                steps += self._branch(waiting, moment, done, used, state, trail, unseen)
                continue
            fresh = True
            while moment < end:
                number = moments[moment]
                if number >= 0:
                    if after(operations[number], state) is not False and not (
                        before and self._must_wait(number, moment, done)
                    ):
                        done |= bits[number]
                        trail = (trail, number)
                        unseen = False
                    moment += 1
                    continue
                number = ~number
                bit = bits[number]
                if done & bit:
                    done ^= bit
                    moment += 1
                    continue
                deepest = max(deepest, moment)
                steps += 1
                if steps > steps_max:
                    self._finish(Outcome.CANNOT_TELL, steps, deepest)
                    return
                rest = others[moment]
                if fresh or rest or has_unknown:
                    fresh = False
                    place = moment, done, state
                    known = met.get(place)
                    if known is None:
                        met[place] = (used,)
                    elif any(not each & ~used for each in known):
                        break
                    else:
                        met[place] = (used, *(each for each in known if used & ~each))
                # An unknown outcome right before a set is of no use, and here there is nothing else to try.
                choice = bool(rest) or (has_unknown and not wipes[number])
                new: State | Literal[False] = False
                if not (unseen and wipes[number]) and not (before and self._must_wait(number, moment, done)):
                    new = after(operations[number], state)
                if new is False:
                    if choice:
                        steps += self._branch(waiting, moment, done, used, state, trail, unseen)
                    break
                if choice:
                    waiting.append((moment, done, used, state, trail, True, unseen))
                state = new if settle is None else settle(new)
                trail = (trail, number)
                unseen = False
                for other in rest:
                    if (
                        reads[other]
                        and not done & bits[other]
                        and after(operations[other], state) is not False
                        and not (before and self._must_wait(other, moment, done | bit))
                    ):
                        done |= bits[other]
                        trail = (trail, other)
                moment += 1
            else:
                self._finish(Outcome.LINEARIZABLE, steps, deepest)
                numbers: list[int] = []
                while trail is not None:
                    trail, number = trail
                    numbers.append(number)
                self.order = tuple(self._operations[number] for number in reversed(numbers))
                return
        self._finish(Outcome.NOT_LINEARIZABLE, steps, deepest)

    def _branch(
        self,
        waiting: list[_Frame],
        moment: int,
        done: int,
        used: int,
        state: State,
        trail: Trail,
        unseen: bool,
    ) -> int:
        """Let every other pending operation take effect before the one that ends now. Return how many were tried.

        Those after which the ending one can take effect are tried first, and known ones before unknown ones.
        """
        operations = self._blurred
        number = ~self._moments[moment]
        tried = 0
        good: list[_Frame] = []
        poor: list[_Frame] = []
        for other in self._others[moment]:
            bit = self._bit[other]
            if done & bit or (unseen and self._wipes[other]) or self._must_wait(other, moment, done):
                continue
            tried += 1
            new = after(operations[other], state)
            if new is not False:
                frame, fits = self._look(number, moment, done | bit, used, new, (trail, other), False)
                (good if fits else poor).append(frame)
        for members, low in zip(self._classes, self._low, strict=True):
            count = (used >> low & (1 << len(members)) - 1).bit_count()
            if self._again:
                count = 0
            elif count == len(members):
                continue
            other = members[count]
            if self._started_at[other] > moment or (unseen and self._wipes[other]):
                continue
            tried += 1
            new = after_unknown(operations[other], state)
            if new is not False and (self._settle is None or self._settle(new) != state):
                frame, fits = self._look(
                    number,
                    moment,
                    done,
                    used if self._again else used | 1 << low + count,
                    new,
                    (trail, other),
                    True,
                )
                (good if fits else poor).append(frame)
        waiting.extend(reversed(poor))
        waiting.extend(reversed(good))
        return tried

    def _look(
        self, number: int, moment: int, done: int, used: int, state: State, trail: Trail, unseen: bool
    ) -> tuple[_Frame, bool]:
        """The configuration after pending reads have looked at a new state, and whether `number` could go next."""
        operations, bits = self._blurred, self._bit
        if self._settle is not None:
            state = self._settle(state)
        for other in (number, *self._others[moment]):
            if (
                self._reads[other]
                and not done & bits[other]
                and after(operations[other], state) is not False
                and not self._must_wait(other, moment, done)
            ):
                done |= bits[other]
                trail = (trail, other)
                unseen = False
        fits = bool(done & bits[number]) or (
            not (unseen and self._wipes[number]) and after(operations[number], state) is not False
        )
        return (moment, done, used, state, trail, False, unseen), fits

    def _finish(self, outcome: Outcome, steps: int, deepest: int) -> None:
        self.outcome = outcome
        self.steps = steps
        if deepest >= 0 and outcome is not Outcome.LINEARIZABLE:
            self.culprit = self._operations[~self._moments[deepest]]


def _known(operations: Iterable[Operation]) -> list[Operation]:
    return sorted((each for each in operations if each.end is not None), key=in_order)


def _unknown(operations: Iterable[Operation]) -> list[Operation]:
    return sorted((each for each in operations if each.end is None and each.op != "get"), key=in_order)


class Blur:
    """What nobody can tell apart is made equal: texts that no answer shows in full or in part.

    A text is *clear* if some get answered it or some cas expected it or, where there are appends, if it may yet grow into
    such a text; and, where there are incrs, if it is an integer or may grow into one. Of any other text only the length
    can show (in what an append answered), up to the greatest length that was answered. So it becomes that many times
    one character that no clear text has. An integer above all that were answered or expected is not clear, either, if no
    append answered a length and no incr failed: then nobody sees what it grows into.
    """

    def __init__(self, known: Sequence[Operation], unknown: Sequence[Operation]) -> None:
        seen: set[str] = {each.result for each in known if each.op == "get" and isinstance(each.result, str)}
        seen |= {each.expected for each in (*known, *unknown) if each.expected is not None}
        verbs = {each.op for each in (*known, *unknown)}
        self._seen = seen
        self._sorted = sorted(seen)
        self._joined = "".join(self._sorted)
        self._counts = "incr" in verbs
        self._grows = "append" in verbs
        self.makes = self._grows or self._counts
        """Whether operations make texts out of texts."""
        numbers = [each.result for each in known if each.op == "incr" and isinstance(each.result, int)]
        numbers += [int(start[0]) for start in map(_INTEGER_FIRST.match, seen) if start]
        self._highest = max((0, *numbers))
        self._blurs_numbers = not any(
            each.op == "append" or (each.op == "incr" and each.result == ERROR) for each in known
        )
        self._longest = max((int(each.result or 0) for each in known if each.op == "append"), default=0)
        used = set(self._joined) | set("-0123456789")
        self._mark = next((mark for mark in map(chr, range(33, 127)) if mark not in used), "")
        self._settled: dict[str, str] = {}

    def settle(self, state: State) -> State:
        """The text that stands for all that nobody can tell from this one."""
        if state is None or not self._mark:
            return state
        settled = self._settled.get(state)
        if settled is None:
            clear = self._clear(state)
            settled = state if clear else self._mark * min(_size(state), self._longest + 1)
            self._settled[state] = settled
        return settled

    def _clear(self, text: str) -> bool:
        if self._counts and (text in ("", "-") or _INTEGER.fullmatch(text)):
            return not self._blurs_numbers or text in ("", "-") or int(text) <= self._highest
        if not self._grows or text in self._seen:
            return text in self._seen
        at = bisect.bisect_left(self._sorted, text)
        return not text or (at < len(self._sorted) and self._sorted[at].startswith(text))

    def blurred(self, operation: Operation) -> Operation:
        """An operation that does the same as far as anybody can tell."""
        value = operation.value
        if value is None or not self._mark:
            return operation
        if operation.op != "append":
            value = self.settle(value)
        elif (
            len(self._joined) <= _JOINED_MAX
            and value not in self._joined
            and not (self._counts and _PART_OF_INTEGER.fullmatch(value))
        ):
            value = self._mark * _size(value)
        return operation if value == operation.value else replace(operation, value=value)


# The explanation


def _explain(operations: Sequence[Operation], failed: Search, steps_max: int) -> Explanation:
    """Make a history that is not linearizable as small as the steps allow."""
    assert failed.culprit is not None
    shrinking = _Shrinking(operations, failed.culprit, steps_max)
    smallest = shrinking.shrink()
    order, sources = shrinking.order_of_the_others()
    shown = sorted((*shrinking.required, *sources), key=in_order)
    return Explanation(
        key=failed.culprit.key,
        operations=tuple(shown),
        culprit=shrinking.culprit,
        order=order,
        left_out=len(operations) - len(shown),
        smallest=smallest,
    )


class _Shrinking:
    """A history that is not linearizable, on its way to a smaller one."""

    def __init__(self, operations: Sequence[Operation], culprit: Operation, steps_max: int) -> None:
        """No order gets behind the end of `culprit`: nothing that comes later matters, and of what is pending then it does
        not matter how it ended."""
        last = culprit.end
        assert last is not None
        self.culprit = culprit
        self.required: list[Operation] = []
        """These answer what they answered."""
        self.weakened: list[Operation] = []
        """These may take effect, whenever after their start and whatever they answered, or not."""
        self._steps_max = steps_max
        self.steps = 0
        self._unsure = False
        for each in sorted(operations, key=in_order):
            if each.start > last:
                continue
            if each.end is not None and each.end <= last:
                self.required.append(each)
            elif each.op != "get" if each.end is None else not only_reads(each):
                self.weakened.append(each)

    def only_the_end_matters(self) -> bool:
        """Take away all but what ended last, if it can be shown soon that so few are enough."""
        by_end = sorted(self.required, key=lambda each: (each.end, each is self.culprit))
        keep = 1
        while keep < len(by_end):
            if self._take_away(by_end[:-keep]):
                return True
            keep *= 4
        return False

    def shrink(self) -> bool:
        """Take away what can be taken away; return whether nothing more can."""
        # Where the history is long, most likely only its end matters.
        self.only_the_end_matters()
        chunk = max(1, len(self.required) // 2)
        while True:
            at, less = 0, False
            self._unsure = False
            while at < len(self.required):
                if self.steps >= self._steps_max:
                    return False
                if self._take_away(self.required[at : at + chunk]):
                    less = True
                else:
                    at += chunk
            if chunk > 1:
                chunk //= 2
            elif not less:
                return not self._unsure

    def _take_away(self, gone: Sequence[Operation]) -> bool:
        """Take these away, if the others are surely not linearizable without them."""
        out = {id(each) for each in gone}
        required = [each for each in self.required if id(each) not in out]
        if not required:
            return False
        weakened = sorted((*self.weakened, *(each for each in gone if not only_reads(each))), key=in_order)
        search = self._search(required, weakened, again=True)
        if search is not None and search.outcome is not Outcome.NOT_LINEARIZABLE:
            search = self._search(required, weakened)
        if search is None or search.outcome is not Outcome.NOT_LINEARIZABLE:
            self._unsure |= search is None or search.outcome is Outcome.CANNOT_TELL
            return False
        assert search.culprit is not None
        self.required, self.weakened, self.culprit = required, weakened, search.culprit
        return True

    def order_of_the_others(self) -> tuple[tuple[Operation, ...], list[Operation]]:
        """An order without the culprit, if there is one, and the weakened operations that it makes use of."""
        others = [each for each in self.required if each is not self.culprit]
        search = self._search(others, self.weakened, last=True)
        if search is None or search.outcome is not Outcome.LINEARIZABLE:
            return (), []
        mine = {id(each) for each in others}
        return search.order, [each for each in search.order if id(each) not in mine]

    def _search(
        self,
        required: Sequence[Operation],
        weakened: Sequence[Operation],
        *,
        again: bool = False,
        last: bool = False,
    ) -> Search | None:
        size = len(required) + len(weakened)
        if self.steps >= self._steps_max and not last:
            return None
        search = Search(required, weakened, again=again)
        most = max(_TRIAL_STEPS, 4 * size)
        search.run(most if last else min(most, self._steps_max - self.steps))
        self.steps += size + search.steps
        return search


# The drawing


def drawing(explanation: Explanation) -> str:
    """One line for each operation in the order of the starts: when, who, what, and the answer.

    The bars show the order of starts and ends, not how long anything took. One that ends in ">" never ended.
    """
    shown = explanation.operations[-SHOWN_MAX:]
    times = sorted({time for each in shown for time in (each.start, each.end) if time is not None})
    columns = min(2 * len(times), BAR_COLUMNS_MAX)
    column = {time: rank * columns // len(times) for rank, time in enumerate(times)}
    who = [f"client {each.client}" for each in shown]
    what = [_what(each) for each in shown]
    lines = [f"key {_short(explanation.key)}:", ""]
    if len(shown) < len(explanation.operations):
        lines.append(f"  ({_count(len(explanation.operations) - len(shown), 'earlier operation')})")
    for each, client, asked in zip(shown, who, what, strict=True):
        low = column[each.start]
        if each.end is None:
            bar = " " * low + "|" + "-" * (columns - low - 1) + ">"
        else:
            bar = " " * low + "|" + ("-" * (column[each.end] - low - 1) + "|") * (column[each.end] > low)
        mark = "   <--" if each is explanation.culprit else ""
        line = f"  {bar:{columns + 1}}  {client:{max(map(len, who))}}  {asked:{max(map(len, what))}}  {_answer(each)}"
        lines.append(line + mark)
    culprit = explanation.culprit
    some = "of these operations " if len(shown) > 1 else ""
    lines += [
        "",
        f"No order {some}explains that the {culprit.op} of client {culprit.client}, "
        f"from {culprit.start} to {culprit.end}, answered {_short(culprit.result)}.",
    ]
    if explanation.order and len(explanation.order) <= SHOWN_MAX:
        lines.append(
            f"Without it: {', '.join(f'{_what(each)} {_answer(each)}' for each in explanation.order)}."
        )
    if explanation.left_out:
        lines.append(
            f"{_count(explanation.left_out, 'other operation')} on this key cannot help, in whatever order."
        )
    if not explanation.smallest:
        lines.append("There may be a smaller explanation: the steps for finding one were used up.")
    return "\n".join(lines) + "\n"


def _what(operation: Operation) -> str:
    if operation.op == "cas":
        return f"cas {_short(operation.expected)} to {_short(operation.value)}"
    return operation.op if operation.value is None else f"{operation.op} {_short(operation.value)}"


def _answer(operation: Operation) -> str:
    return "unknown" if operation.end is None else f"-> {_short(operation.result)}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:30]}...({len(text)} characters)"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)


def _names(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 5:,} more" if len(keys) > 5 else ""
    return ", ".join(map(_short, keys[:5])) + more
