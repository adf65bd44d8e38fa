"""The explorer: every interleaving of a small case, on the roles that the database runs.

Theory. The roles are deterministic: what an acceptor, a proposer or a learner does next depends on its state and on the message
that reaches it. So the runs of a case are the paths of a finite graph, and what holds in every state holds in every run. The
explorer walks that graph breadth first; the first bad state it meets ends a shortest bad path.

*The network is the set of all messages ever sent.* Any of them may reach its receiver at any time, again and again, or
never. That is loss, repetition, delay and overtaking in one, and there is nothing to count: a set only grows. No timeout needs
a model either, since repeating a request adds nothing to a set. (`Refused` is left out: it is a hint, section 2.5, and a
ballot may be started or given up at any time anyway.)

*The disk is apart.* An acceptor's side of a state holds the acceptor as it is in memory, the answers that wait for their records,
and the acceptor as `restore` makes it from the stable records. One step makes the oldest record stable; only then is its answer
in the network (rule P1). A crash puts the restored acceptor in the place of the one in memory, and what waited is gone. Who
stably accepted what is kept for ever beside all this, for the judges.

*What is judged*, in every state:

- agreement: of one instance at most one value is chosen, ever. Chosen means stably accepted by a majority under one ballot
  (section 2.2), counted here anew, not by the roles;
- one value per number: a ballot proposes one value in an instance;
- P2c, as what it keeps (P2b): when a value is chosen, every proposal with a higher number has that value;
- learning: what the learner calls chosen is chosen, and so is what an acceptor has cut off as chosen;
- memory: no acceptor's promise is lower than its stable records say;
- P1a: no acceptor accepts a number lower than it promised to anybody, where that promise is in the network;
- and whatever the roles assert themselves.

*Symmetry.* No role compares the names of acceptors: an acceptor does not know its own, a quorum is a count, and proposer
and learner only keep who answered. So exchanging acceptors maps runs to runs and judgements to judgements, and of the six
arrangements of a state one is enough: the sides are sorted, and the names that proposers and learner keep are exchanged with
them. Where two sides are equal, each arrangement of them is tried and the least is taken.

*Reductions.* Say that a state covers another if it equals it but for more messages in the network, or waiting to enter it.
Then it can take every step that the other can, into states that cover the other's again; and what a covered state fails, the
covering one fails as well, since the judgements object to something being there. So a step that does nothing but add
messages need not be tried now *and* later: it is taken at once. (One judgement objects to something missing: learning, to a
stable acceptance. So a claim that runs ahead of the disk is seen only while a crash is left, that is, while it does harm.)
Namely:

1. a ballot starts at once: its prepare request may still arrive as late as one likes;
2. an answer that leaves the acceptor's memory as it is (a repeated request) is given at once;
3. when no crash is left, records are stable at once: it is the disk that could have lost them, memory runs ahead anyway;
4. a proposer hears promises when it proposes, not before, as it tells nobody in between; every choice among the
   promises, in every order, is tried. Of two choices with one value, where the second is the first and then more, the first is
   enough: the rest can be heard later (that this is so is looked up, not believed);
5. the learner hears every acceptance at once: who hears less or later only knows less;
6. what can no longer be heard or asked is dropped: promises to a node that has proposed everywhere under all its ballots, a
   proposer that has proposed everywhere, stable records when no crash is left.

Five takes the learner to be monotone and to hear nothing twice, and six that a proposer's node listens to no promise after
its last proposal. `Case.every_step` takes nothing on trust and reduces nothing but symmetry; the tests compare the two.

*Memory of steps.* Since a role's step depends on so little, it is done once by the real role, on a copy, and looked up
from then on. States are tuples of small numbers that name such local states: that is what makes millions of them possible.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal, NamedTuple

from sofadb.paxos.acceptor import Acceptor, Answer
from sofadb.paxos.ballot import NO_BALLOT, Ballot, Instance
from sofadb.paxos.learner import Learner
from sofadb.paxos.messages import Accept, Accepted, Chosen, Prepare, Promise, Refused
from sofadb.paxos.proposer import Proposer
from sofadb.paxos.records import Acceptance
from sofadb.paxos.values import NO_OP, Value

from .cases import CASES, Case

__all__ = ["CASES", "Case", "Cell", "Outcome", "Report", "describe", "explore"]

Request = Prepare | Accept | Chosen
"""What is said to acceptors, all of them."""
Told = Promise | Accepted
"""What an acceptor says."""
Outcome = tuple[tuple[tuple[Acceptance, ...], ...], tuple[Request, ...]]
"""What each acceptor has stably accepted, ever, whatever its name; and what was proposed."""

# What is reported.


class Cell(NamedTuple):
    """One kind of situation in which a role was met by a message."""

    role: str
    message: str
    ballot: str
    """lower, equal or higher: the message's ballot beside the acceptor's promise, the proposer's own ballot, or the highest
    ballot that the learner has heard of in that instance."""
    instance: str
    """For an accept request: cut, beyond alpha, chosen, accepted (here), empty. For a promise: what it reports."""
    durability: str
    """Whether answers of the acceptor wait for its disk: pending or done."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one exploration."""

    case: Case
    verdict: Literal["safe", "violation", "unfinished"]
    """unfinished: a limit was reached first, and nothing is known about the rest."""
    states: int
    """Different states, where states that differ by the names of acceptors are one."""
    transitions: int
    """Steps taken, also those that led to a state already known."""
    depth: int
    """How many steps the farthest state reached is away from the start."""
    undecided: int
    """States in which every ballot has proposed everywhere and nothing at all is chosen: safe, but no progress."""
    decided: int
    """States in which something is chosen in every instance."""
    cells: dict[Cell, int]
    """How many different local situations of each kind were met."""
    broken: str = ""
    """The invariant that is broken in the last state of `path`."""
    path: tuple[str, ...] = ()
    """A shortest way to the bad state, step by step."""


# Copying, comparing and renaming the state of a role, whatever attributes it has.


def _attributes(role: object) -> list[str]:
    """Return the names of all attributes that `role` has now, slots or not."""
    slots = {name for each in type(role).__mro__ for name in getattr(each, "__slots__", ())}
    return sorted(name for name in slots | set(getattr(role, "__dict__", ())) if hasattr(role, name))


def _is_value(thing: object) -> bool:
    """Whether `thing` is compared by what it holds and never changes: numbers, text, frozen dataclasses."""
    return type(thing).__hash__ not in (None, object.__hash__)


def _frozen(thing: object) -> Hashable:
    """Return what `thing` holds as a value. All of it: an attribute that a role gains one day counts at once."""
    if isinstance(thing, dict):
        return tuple((_frozen(key), _frozen(thing[key])) for key in sorted(thing))
    if isinstance(thing, set | frozenset):
        return tuple(sorted(thing))
    if isinstance(thing, list):
        return tuple(_frozen(each) for each in thing)
    if isinstance(thing, Hashable) and _is_value(thing):
        return thing
    return (
        type(thing).__qualname__,
        tuple((name, _frozen(getattr(thing, name))) for name in _attributes(thing)),
    )


def _copied(thing: Any) -> Any:
    """Return a copy of `thing` that shares with it only what never changes."""
    if isinstance(thing, dict):
        return {key: _copied(value) for key, value in thing.items()}
    if isinstance(thing, set | list):
        return copy(thing)
    if _is_value(thing):
        return thing
    other = copy(thing)
    for name in _attributes(thing):
        setattr(other, name, _copied(getattr(thing, name)))
    return other


def _renamed(thing: Any, names: Mapping[str, str]) -> Any:
    """Return a copy of `thing` in which acceptors are called by their new names."""
    if isinstance(thing, str):
        return names.get(thing, thing)
    if isinstance(thing, dict):
        return {_renamed(key, names): _renamed(value, names) for key, value in thing.items()}
    if isinstance(thing, set | frozenset | list):
        return type(thing)(_renamed(each, names) for each in thing)
    if isinstance(thing, tuple):
        parts = [_renamed(each, names) for each in thing]
        return type(thing)(*parts) if hasattr(thing, "_fields") else tuple(parts)
    if _is_value(thing):
        return thing
    other = copy(thing)
    for name in _attributes(thing):
        setattr(other, name, _renamed(getattr(thing, name), names))
    return other


# The parts of a state. Their roles are never changed once they stand here: every step works on a copy.


class _Side(NamedTuple):
    """One acceptor's side of a state."""

    memory: Acceptor
    pending: tuple[Answer, ...]
    """Answers that wait for their own record, or for one before it. The first one has a record."""
    stable: Acceptor
    """The acceptor as it would be after a restart."""
    durable: Ballot
    """The highest ballot in any stable record."""
    votes: tuple[Acceptance, ...]
    """Every acceptance that ever became stable."""
    sent: tuple[Told, ...]
    """What is in the network."""
    told: Ballot
    """The highest promise that is or was in the network."""
    broken: str = ""


class _Proposing(NamedTuple):
    """One ballot's side of a state."""

    role: Proposer | None
    """None: not begun yet, or done and forgotten."""
    next: int
    """The first instance in which it has not proposed yet; 0 before it begins."""
    broken: str = ""


class _Watching(NamedTuple):
    """The learner's side of a state, where it takes part step by step."""

    role: Learner | None
    claims: tuple[tuple[Instance, Ballot], ...] = ()
    broken: str = ""


class _State(NamedTuple):
    """Everything, as numbers of local states."""

    acceptors: tuple[int, ...]
    proposers: tuple[int, ...]
    requests: int
    watching: int
    crashes: int
    """How many are still to be had."""


class _Proposal(NamedTuple):
    """What a proposer may do next: hear these promises in this order, then propose."""

    heard: tuple[tuple[int, Promise], ...]
    accepts: tuple[Accept, ...]
    after: int


class _Step(NamedTuple):
    kind: Literal["start", "deliver", "stable", "crash", "hear", "propose", "learn"]
    acceptor: int = -1
    proposer: int = -1
    message: Request | Told | None = None
    proposal: _Proposal | None = None


class _Facts(NamedTuple):
    """What the votes of a state amount to."""

    broken: str
    chosen: frozenset[Instance]


class _Table:
    """Local states of one kind, numbered in the order in which they were met."""

    def __init__(self) -> None:
        self.numbers: dict[Hashable, int] = {}
        self.items: list[Any] = []

    def number(self, item: tuple[Any, ...]) -> int:
        """Return the number of `item`, which is known by what its parts hold."""
        key = tuple(_frozen(part) for part in item)
        found = self.numbers.get(key)
        if found is None:
            found = self.numbers[key] = len(self.items)
            self.items.append(item)
        return found


class _World:
    """The steps of one case, and what is to be said about its states."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.names = case.configuration.acceptors
        self.sides = _Table()
        self.proposings = _Table()
        self.watchings = _Table()
        self.requests = _Table()
        """Each a sorted tuple of requests."""
        self.publics = _Table()
        """What the judges need to know of a side."""
        self.met: dict[Cell, int] = {}
        self.orders = list(permutations(range(len(self.names))))
        # What was worked out once. The keys are numbers of local states.
        self._deliveries: dict[tuple[int, int], tuple[tuple[Request, int], ...]] = {}
        self._saved: dict[int, int | None] = {}
        self._crashed: dict[int, int | None] = {}
        self._settled: dict[tuple[int, int, int, bool], int] = {}
        self._promises: dict[tuple[int, int], int] = {}
        self._promise_sets = _Table()
        self._proposals: dict[tuple[int, int, tuple[int, ...]], tuple[_Proposal, ...]] = {}
        self._renames: dict[tuple[str, int, tuple[int, ...]], int] = {}
        self._heard: dict[tuple[int, int, Promise], int] = {}
        self._anonymous: dict[tuple[str, int], bool] = {}
        self._added: dict[tuple[int, Request], int] = {}
        self._public: dict[int, int] = {}
        self._claims: dict[tuple[int, ...], _Watching] = {}
        self._facts: dict[tuple[tuple[int, ...], int, int], _Facts] = {}
        self._situations: set[tuple[int, int, frozenset[Instance]]] = set()
        self._done: dict[tuple[int, ...], int] = {}

    def start(self) -> _State:
        """Return the state in which nothing has happened (but for what happens at once)."""
        case = self.case
        fresh = case.acceptor(case.alpha, case.report_bytes_max)
        side = _Side(fresh, (), fresh, NO_BALLOT, (), (), NO_BALLOT)
        state = _State(
            (self.sides.number(side),) * len(self.names),
            (self.proposings.number(_Proposing(None, 0)),) * len(case.ballots),
            self.requests.number(()),
            self.watchings.number(_Watching(case.learner() if case.every_step else None)),
            case.crashes,
        )
        return self._at_once(state)

    # Steps

    def steps(self, state: _State) -> Iterator[tuple[_Step, _State]]:
        """Yield every step that changes something, and where it leads."""
        case = self.case
        interchangeable = all(self._is_anonymous("proposings", each) for each in state.proposers)
        interchangeable = interchangeable and self._is_anonymous("watchings", state.watching)
        for index, number in enumerate(state.acceptors):
            if interchangeable and index and number == state.acceptors[index - 1]:
                continue  # The same step of the same side: the same state up to names.
            for request, after in self._deliver_any(number, state.requests):
                yield _Step("deliver", index, message=request), self._with_side(state, index, after)
            saved = self._save(number)
            if saved is not None:
                yield _Step("stable", index), self._with_side(state, index, saved)
            if state.crashes:
                crashed = self._crash(number)
                if crashed is not None:
                    after_crash = state._replace(crashes=state.crashes - 1)
                    yield _Step("crash", index), self._with_side(after_crash, index, crashed)
        for index in range(len(case.ballots)):
            if case.every_step:
                if self._may_start(state.proposers, index):
                    yield _Step("start", proposer=index), self._start_ballot(state, index)
                yield from self._hear_any(state, index)
                proposals = self._propose(state.proposers[index], ())
            else:
                heard = tuple(self._promises_for(each, index) for each in state.acceptors)
                key = (index, state.proposers[index], heard)
                known = self._proposals.get(key)
                if known is None:
                    known = self._proposals[key] = tuple(self._hear_and_propose(state, index))
                proposals = known
            for proposal in proposals:
                step = _Step("propose", proposer=index, proposal=proposal)
                yield step, self._with_proposal(state, index, proposal)
        if case.every_step:
            yield from self._learn_any(state)

    def _with_side(self, state: _State, index: int, side: int) -> _State:
        acceptors = (*state.acceptors[:index], side, *state.acceptors[index + 1 :])
        return self._at_once(state._replace(acceptors=acceptors))

    def _with_proposer(self, state: _State, index: int, proposing: int, asks: tuple[Request, ...]) -> _State:
        proposers = (*state.proposers[:index], proposing, *state.proposers[index + 1 :])
        requests = state.requests
        for request in asks:
            requests = self._add(requests, request)
        return state._replace(proposers=proposers, requests=requests)

    def _with_proposal(self, state: _State, index: int, proposal: _Proposal) -> _State:
        return self._at_once(self._with_proposer(state, index, proposal.after, proposal.accepts))

    def _add(self, requests: int, request: Request) -> int:
        known = self._added.get((requests, request))
        if known is None:
            everything = {*self.requests.items[requests], request}
            known = self._added[(requests, request)] = self.requests.number(
                tuple(sorted(everything, key=repr))
            )
        return known

    # Steps of acceptors

    def _deliver_any(self, number: int, requests: int) -> tuple[tuple[Request, int], ...]:
        known = self._deliveries.get((number, requests))
        if known is None:
            side: _Side = self.sides.items[number]
            found: list[tuple[Request, int]] = []
            for request in self.requests.items[requests]:
                after = self.sides.number(self._deliver(side, request))
                if after != number:
                    found.append((request, after))
            known = self._deliveries[(number, requests)] = tuple(found)
        return known

    def _deliver(self, side: _Side, request: Request) -> _Side:
        """Let the acceptor have a request. Its answer waits for its record, and for those before it (rule P1)."""
        memory: Acceptor = _copied(side.memory)
        answer: Answer | Refused | None
        try:
            if isinstance(request, Prepare):
                answer = memory.on_prepare(request, clock=0)
            elif isinstance(request, Accept):
                answer = memory.on_accept(request)
            else:
                _cut(memory, request)
                answer = None
        except AssertionError as error:
            return side._replace(broken=f"what the acceptor asserts: {error}")
        after = side._replace(memory=memory)
        if not isinstance(answer, Answer):
            return self._judged(after)
        if isinstance(request, Accept) and answer.record is not None and request.ballot < side.told:
            after = after._replace(
                broken=f"P1a: it accepted {request.ballot}, having promised {side.told} to {side.told.node}"
            )
        waits = side.pending or answer.record is not None
        if waits:
            known = any(answer.message == other.message for other in side.pending)
            if answer.record is not None or not (known or answer.message in side.sent):
                after = after._replace(pending=(*side.pending, answer))
        if not waits or not self.case.waits_for_disk:
            after = _told(after, answer.message)
        return self._judged(after)

    def _save(self, number: int) -> int | None:
        """The acceptor's oldest record becomes stable, and what waited for it alone leaves."""
        if number not in self._saved:
            side: _Side = self.sides.items[number]
            self._saved[number] = self.sides.number(self._stabilized(side)) if side.pending else None
        return self._saved[number]

    def _stabilized(self, side: _Side) -> _Side:
        first, *rest = side.pending
        assert first.record is not None, "what waits, waits for a record"
        stable = _copied(side.stable)
        stable.restore(first.record)
        votes = set(side.votes)
        if isinstance(first.record, Acceptance):
            votes.add(first.record)
        side = side._replace(
            stable=stable,
            durable=max(side.durable, first.record.ballot),
            votes=tuple(sorted(votes, key=repr)),
        )
        side = _told(side, first.message)
        while rest and rest[0].record is None:
            side = _told(side, rest.pop(0).message)
        return self._judged(side._replace(pending=tuple(rest)))

    def _crash(self, number: int) -> int | None:
        """The acceptor starts again from its stable records. A crash that loses nothing changes nothing: None."""
        if number not in self._crashed:
            side: _Side = self.sides.items[number]
            after = self.sides.number(self._judged(side._replace(memory=side.stable, pending=())))
            self._crashed[number] = None if after == number else after
        return self._crashed[number]

    def _judged(self, side: _Side) -> _Side:
        if not side.broken and side.memory.promised < side.durable:
            text = f"memory: it goes by the promise of {side.memory.promised}, its disk by that of {side.durable}"
            return side._replace(broken=text)
        return side

    # Steps of proposers

    def _may_start(self, proposers: tuple[int, ...], index: int) -> bool:
        if self.proposings.items[proposers[index]].next:
            return False
        return not (self.case.in_turn and index) or self.proposings.items[proposers[index - 1]].next > 1

    def _start_ballot(self, state: _State, index: int) -> _State:
        ballot = self.case.ballots[index]
        proposing = _Proposing(self.case.proposer(ballot, Instance(1)), 1)
        asks: tuple[Request, ...] = (Prepare(ballot, Instance(1)),)
        if not self.case.every_step:
            # A proposer that gets only part of a report asks for the rest. What it might ask is asked at once.
            last = self.case.instances if self.case.reports_come_in_parts else 1
            asks = tuple(Prepare(ballot, Instance(first)) for first in range(1, last + 1))
        return self._with_proposer(state, index, self.proposings.number(proposing), asks)

    def _hear(self, number: int, index: int, promise: Promise) -> int:
        """Proposer `number` hears a promise from the acceptor at `index`; return what becomes of it."""
        known = self._heard.get((number, index, promise))
        if known is None:
            known = self._heard[(number, index, promise)] = self._hear_anew(number, index, promise)
        return known

    def _hear_anew(self, number: int, index: int, promise: Promise) -> int:
        proposing: _Proposing = self.proposings.items[number]
        if proposing.role is None:
            return number
        role = _copied(proposing.role)
        try:
            role.on_promise(self.names[index], promise)
        except AssertionError as error:
            return self.proposings.number(proposing._replace(broken=f"what the proposer asserts: {error}"))
        return self.proposings.number(proposing._replace(role=role))

    def _hear_any(self, state: _State, proposer: int) -> Iterator[tuple[_Step, _State]]:
        number = state.proposers[proposer]
        for index, each in enumerate(state.acceptors):
            for promise in self._promise_sets.items[self._promises_for(each, proposer)]:
                self._note_promise(number, promise)
                after = self._hear(number, index, promise)
                if after == number:
                    continue
                role = self.proposings.items[after].role
                request = role.next_prepare(self.names[index])
                asks = () if request is None else (request,)
                step = _Step("hear", index, proposer, promise)
                yield step, self._with_proposer(state, proposer, after, asks)

    def _promises_for(self, side: int, proposer: int) -> int:
        """Return the number of the set of promises that the node of this ballot may hear from this side."""
        known = self._promises.get((side, proposer))
        if known is None:
            node = self.case.ballots[proposer].node
            sent = self.sides.items[side].sent
            promises = (each for each in sent if isinstance(each, Promise) and each.ballot.node == node)
            known = self._promises[(side, proposer)] = self._promise_sets.number(tuple(promises))
        return known

    def _hear_and_propose(self, state: _State, proposer: int) -> Iterator[_Proposal]:
        """Yield what may be proposed after any choice of the promises in the network, heard in any order."""
        number = state.proposers[proposer]
        promises = [
            (index, promise)
            for index, each in enumerate(state.acceptors)
            for promise in self._promise_sets.items[self._promises_for(each, proposer)]
        ]
        for _, promise in promises:
            self._note_promise(number, promise)
        ways: dict[int, tuple[tuple[int, Promise], ...]] = {number: ()}
        offered: set[tuple[tuple[Accept, ...], int]] = set()
        for known in (waiting := [number]):
            proposals = self._propose(known, ways[known])
            for proposal in proposals:
                if (proposal.accepts, proposal.after) not in offered:
                    offered.add((proposal.accepts, proposal.after))
                    yield proposal._replace(after=self._maybe_done(proposal.after))
            for index, promise in promises:
                after = self._hear(known, index, promise)
                if after not in ways:
                    ways[after] = (*ways[known], (index, promise))
                    waiting.append(after)
                # To propose and then hear is covered where it comes to the same as to hear and then propose.
                for proposal in proposals:
                    offered.add((proposal.accepts, self._hear(proposal.after, index, promise)))

    def _maybe_done(self, number: int) -> int:
        """A proposer that has proposed everywhere has nothing left to do: forget it."""
        proposing: _Proposing = self.proposings.items[number]
        if proposing.next <= self.case.instances or proposing.broken:
            return number
        return self.proposings.number(_Proposing(None, proposing.next))

    def _propose(self, number: int, heard: tuple[tuple[int, Promise], ...]) -> tuple[_Proposal, ...]:
        """Phase 2a in the next instance that is not known to be chosen, once a quorum has promised."""
        proposing: _Proposing = self.proposings.items[number]
        if proposing.role is None or proposing.broken or proposing.next > self.case.instances:
            return ()
        if not proposing.role.is_prepared((self.case.configuration,)):
            return ()
        role = _copied(proposing.role)
        instance = Instance(max(proposing.next, role.chosen + 1))
        if instance > self.case.instances:
            return (_Proposal(heard, (), self.proposings.number(_Proposing(role, instance))),)
        wanted = self.case.wanted(role.ballot, instance)
        try:
            value = role.value_for(instance, wanted)
            # Asked again, in this instance or an earlier one, with something else in mind: the value must be the same one.
            again = [(instance, role.value_for(instance, NO_OP))]
            again += [(each, role.value_for(each, NO_OP)) for each in sorted(role.proposed)]
        except AssertionError as error:
            broken = proposing._replace(broken=f"what the proposer asserts: {error}")
            return (_Proposal(heard, (), self.proposings.number(broken)),)
        values = dict.fromkeys([(instance, value), *again])
        accepts = tuple(Accept(role.ballot, place, each, Instance(0)) for place, each in values)
        return (_Proposal(heard, accepts, self.proposings.number(_Proposing(role, instance + 1))),)

    # The learner

    def _learn_any(self, state: _State) -> Iterator[tuple[_Step, _State]]:
        watching: _Watching = self.watchings.items[state.watching]
        for index, number in enumerate(state.acceptors):
            for message in self.sides.items[number].sent:
                if isinstance(message, Accepted):
                    after = self.watchings.number(self._learn(watching, index, message))
                    if after != state.watching:
                        step = _Step("learn", index, message=message)
                        yield step, self._tell_chosen(state._replace(watching=after))

    def _learn(self, watching: _Watching, index: int, message: Accepted) -> _Watching:
        assert watching.role is not None
        self._note_accepted(watching, message)
        role = _copied(watching.role)
        try:
            is_chosen = role.on_accepted(
                self.names[index], message.ballot, message.instance, self.case.configuration
            )
        except AssertionError as error:
            return watching._replace(broken=f"what the learner asserts: {error}")
        claims = set(watching.claims)
        if is_chosen:
            claims.add((message.instance, message.ballot))
        return _Watching(role, tuple(sorted(claims)), watching.broken)

    def _watching(self, publics: tuple[int, ...], watching: int) -> _Watching:
        """Return the learner, who has heard everything unless it takes part step by step."""
        if self.case.every_step:
            found: _Watching = self.watchings.items[watching]
            return found
        known = self._claims.get(publics)
        if known is None:
            known = _Watching(self.case.learner())
            for index, public in enumerate(publics):
                for message in self.publics.items[public][1]:
                    known = self._learn(known, index, message)
            self._claims[publics] = known
        return known

    def _tell_chosen(self, state: _State) -> _State:
        """Phase 3: once the learner knows that everything up to an instance is chosen, it is said for ever after.

        By the owner of every ballot under which the last of them was chosen: it may have learned the others.
        """
        if not self.case.tells_chosen:
            return state
        claims = self._watching(self._public_sides(state.acceptors), state.watching).claims
        for instance, ballot in claims:
            known = {other for other, under in claims if under <= ballot}
            if all(Instance(each) in known for each in range(1, instance)):
                state = state._replace(requests=self._add(state.requests, Chosen(ballot, instance)))
        return state

    # What happens at once

    def _at_once(self, state: _State) -> _State:
        """Take the steps that need not be tried later: reductions 1 to 3, 5 and 6."""
        if self.case.every_step:
            return self._tell_chosen(state)
        for index in range(len(self.case.ballots)):
            if self._may_start(state.proposers, index):
                state = self._start_ballot(state, index)
        done = self._finished(state.proposers)
        while True:
            acceptors = tuple(
                [self._settle(each, state.requests, done, state.crashes > 0) for each in state.acceptors]
            )
            after = self._tell_chosen(state._replace(acceptors=acceptors))
            if after.requests == state.requests:
                return after
            state = after

    def _finished(self, proposers: tuple[int, ...]) -> int:
        """Return, as bits, the ballots whose promises nobody will hear: all ballots of the node are done."""
        known = self._done.get(proposers)
        if known is None:
            ballots = self.case.ballots
            done = [self.proposings.items[each].next > self.case.instances for each in proposers]
            alive = {ballot.node for ballot, is_done in zip(ballots, done, strict=True) if not is_done}
            known = sum(1 << index for index, ballot in enumerate(ballots) if ballot.node not in alive)
            self._done[proposers] = known
        return known

    def _settle(self, number: int, requests: int, done: int, may_crash: bool) -> int:
        known = self._settled.get((number, requests, done, may_crash))
        if known is not None:
            return known
        side: _Side = self.sides.items[number]
        unheard = {ballot for index, ballot in enumerate(self.case.ballots) if done >> index & 1}
        memory = _frozen(side.memory)
        while True:
            while side.pending and not may_crash:
                side = self._stabilized(side)
            before = side
            for request in self.requests.items[requests]:
                if isinstance(request, Chosen) or (
                    isinstance(request, Prepare) and request.ballot in unheard
                ):
                    continue
                after = self._deliver(side, request)
                if _frozen(after.memory) == memory and not after.broken:
                    side = after._replace(memory=side.memory)
            if side == before:
                break
        if not may_crash:
            side = side._replace(stable=side.memory)  # Nobody will look at it again.
        sent = [each for each in side.sent if isinstance(each, Accepted) or each.ballot not in unheard]
        found = self.sides.number(side._replace(sent=tuple(sent)))
        self._settled[(number, requests, done, may_crash)] = found
        return found

    # Symmetry

    def canonical(self, state: _State) -> _State:
        """Return the one that stands for all states that differ from this one by the names of acceptors."""
        acceptors = tuple(sorted(state.acceptors))
        if all(self._is_anonymous("proposings", each) for each in state.proposers) and self._is_anonymous(
            "watchings", state.watching
        ):
            return state._replace(acceptors=acceptors)
        best: _State | None = None
        for order in self.orders:
            if tuple(state.acceptors[old] for old in order) != acceptors:
                continue
            other = _State(
                acceptors,
                tuple(self._rename("proposings", each, order) for each in state.proposers),
                state.requests,
                self._rename("watchings", state.watching, order),
                state.crashes,
            )
            best = other if best is None else min(best, other)
        assert best is not None, "one of the orders sorts"
        return best

    def _is_anonymous(self, table: str, number: int) -> bool:
        """Whether a proposer or learner names no acceptor."""
        known = self._anonymous.get((table, number))
        if known is None:
            role = getattr(self, table).items[number].role
            others = {name: f"another {name}" for name in self.names}
            known = role is None or _frozen(_renamed(role, others)) == _frozen(role)
            self._anonymous[(table, number)] = known
        return known

    def _rename(self, table: str, number: int, order: tuple[int, ...]) -> int:
        """Rename acceptors in a proposer or learner: who stood at `order[i]` stands at i now."""
        known = self._renames.get((table, number, order))
        if known is None:
            entry = getattr(self, table).items[number]
            names = {self.names[old]: self.names[new] for new, old in enumerate(order)}
            role = None if entry.role is None else _renamed(entry.role, names)
            known = self._renames[(table, number, order)] = getattr(self, table).number(
                entry._replace(role=role)
            )
        return known

    # Judging

    def _public_sides(self, acceptors: tuple[int, ...]) -> tuple[int, ...]:
        return tuple([self._public_side(each) for each in acceptors])

    def _public_side(self, number: int) -> int:
        known = self._public.get(number)
        if known is None:
            side: _Side = self.sides.items[number]
            accepted = tuple(each for each in side.sent if isinstance(each, Accepted))
            known = self._public[number] = self.publics.number((side.votes, accepted, side.memory.chosen))
        return known

    def facts(self, state: _State) -> _Facts:
        """Return what is chosen, and what is broken if anything is, as far as it takes more than one side to see it."""
        publics = self._public_sides(state.acceptors)
        key = (publics, state.requests, state.watching)
        known = self._facts.get(key)
        if known is None:
            votes = [self.publics.items[public][0] for public in publics]
            cuts = [self.publics.items[public][2] for public in publics]
            claims = self._watching(publics, state.watching)
            requests = self.requests.items[state.requests]
            chosen = _chosen(votes)
            broken = claims.broken or _broken(chosen, requests, claims.claims, cuts)
            known = self._facts[key] = _Facts(broken, frozenset(instance for instance, _ in chosen))
        return known

    def outcome(self, state: _State) -> Outcome:
        """Return what this state amounts to, whoever hears of it."""
        votes = sorted((self.sides.items[number].votes for number in state.acceptors), key=repr)
        requests = self.requests.items[state.requests]
        return tuple(votes), tuple(each for each in requests if isinstance(each, Accept))

    def broken(self, state: _State) -> str:
        """Return the invariant that is broken in this state, or nothing."""
        for index, number in enumerate(state.acceptors):
            if found := self.sides.items[number].broken:
                return f"{found} ({self.names[index]})"
        for number in state.proposers:
            if found := self.proposings.items[number].broken:
                return str(found)
        return self.facts(state).broken

    def has_proposed(self, state: _State) -> bool:
        """Whether every ballot has proposed in every instance."""
        return all(self.proposings.items[each].next > self.case.instances for each in state.proposers)

    # Counting what was met

    def note(self, state: _State) -> None:
        """Note in which situations acceptors may be met by the requests in the network."""
        chosen = self.facts(state).chosen
        for number in state.acceptors:
            key = (number, state.requests, chosen)
            if key in self._situations:
                continue
            self._situations.add(key)
            side: _Side = self.sides.items[number]
            durability = "pending" if side.pending else "done"
            for request in self.requests.items[state.requests]:
                ballot = _relation(request.ballot, side.memory.promised)
                instance = "every"
                if isinstance(request, Accept):
                    instance = _standing(side.memory, request.instance, chosen)
                elif isinstance(request, Chosen):
                    instance = "cut" if request.chosen <= side.memory.chosen else "chosen"
                self._count(Cell("acceptor", type(request).__name__, ballot, instance, durability))

    def _note_promise(self, number: int, promise: Promise) -> None:
        role = self.proposings.items[number].role
        if role is None:
            return
        said = "accepted" if promise.reported else "empty"
        if promise.last is not None:
            said = "in parts"
        elif promise.chosen:
            said = "cut"
        self._count(Cell("proposer", "Promise", _relation(promise.ballot, role.ballot), said, "done"))

    def _note_accepted(self, watching: _Watching, message: Accepted) -> None:
        assert watching.role is not None
        under = [ballot for instance, ballot in watching.role.accepted_by if instance == message.instance]
        instance = "accepted" if under else "empty"
        if any(message.instance == claimed for claimed, _ in watching.claims):
            instance = "chosen"
        ballot = _relation(message.ballot, max(under, default=NO_BALLOT))
        self._count(Cell("learner", "Accepted", ballot, instance, "done"))

    def _count(self, cell: Cell) -> None:
        self.met[cell] = self.met.get(cell, 0) + 1


def _told(side: _Side, message: Told) -> _Side:
    """A message is in the network from now on."""
    told = max(side.told, message.ballot) if isinstance(message, Promise) else side.told
    return side._replace(sent=tuple(sorted({*side.sent, message}, key=repr)), told=told)


def _cut(memory: Acceptor, chosen: Chosen) -> None:
    """What a replica does when the leader tells what is chosen: the acceptor forgets what it accepted of that very ballot."""
    if chosen.ballot < memory.promised:
        return
    for number in range(memory.chosen + 1, chosen.chosen + 1):
        if memory.value_accepted(Instance(number), chosen.ballot) is None:
            return
        memory.forget(Instance(number))


def _relation(ballot: Ballot, other: Ballot) -> str:
    return "lower" if ballot < other else "equal" if ballot == other else "higher"


def _standing(memory: Acceptor, instance: Instance, chosen: frozenset[Instance]) -> str:
    """Return how an instance stands with an acceptor; the first word that fits."""
    if instance <= memory.chosen:
        return "cut"
    if instance > memory.chosen + memory.alpha:
        return "beyond alpha"
    if instance in chosen:
        return "chosen"
    return "accepted" if instance in memory.accepted else "empty"


_Tally = dict[tuple[Instance, Ballot], set[Value]]


def _chosen(votes: list[tuple[Acceptance, ...]]) -> _Tally:
    """Return what is chosen, under which number: section 2.2 taken at its word, and by no code of the roles."""
    found: _Tally = {}
    for vote in {each for voter in votes for each in voter}:
        if 2 * sum(vote in voter for voter in votes) > len(votes):
            found.setdefault((vote.instance, vote.ballot), set()).add(vote.value)
    return dict(sorted(found.items()))


def _broken(
    chosen: _Tally,
    requests: tuple[Request, ...],
    claims: tuple[tuple[Instance, Ballot], ...],
    cuts: list[Instance],
) -> str:
    """Return the invariant that is broken, or nothing."""
    values: dict[Instance, set[Value]] = {}
    for (instance, _), them in chosen.items():
        values.setdefault(instance, set()).update(them)
    for instance, them in values.items():
        if len(them) > 1:
            both = " and ".join(sorted(_text(value) for value in them))
            return f"agreement: {both} are both chosen in instance {instance}"
    proposed: dict[tuple[Instance, Ballot], Value] = {}
    for request in requests:
        if isinstance(request, Accept):
            other = proposed.setdefault((request.instance, request.ballot), request.value)
            if other != request.value:
                both = " and ".join(sorted((_text(other), _text(request.value))))
                return f"one value per number: {both} are both proposed as {request.ballot} in instance {request.instance}"
    for (instance, under), them in chosen.items():
        for (place, ballot), value in proposed.items():
            if place == instance and ballot > under and value not in them:
                was = ", ".join(sorted(_text(each) for each in them))
                return f"P2c: {was} is chosen as {under}, but {_text(value)} is proposed as {ballot} in instance {instance}"
    for instance, ballot in claims:
        if (instance, ballot) not in chosen:
            return f"learning: the learner calls {ballot} chosen in instance {instance}, and it is not"
    for cut in cuts:
        if any(Instance(number) not in values for number in range(1, cut + 1)):
            return f"learning: an acceptor has cut off what is chosen up to {cut}, and it is not"
    return ""


# Walking


def explore(
    case: Case,
    limit_states: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    outcomes: set[Outcome] | None = None,
) -> Report:
    """Visit every state of `case`, breadth first, until one is bad, all are seen, or `limit_states` are.

    `progress` is told now and then how many states were met, and how deep the walk is.
    `outcomes`, if given, is filled with what the states amount to: two ways of walking one case can be compared by it.
    """
    world = _World(case)
    first = world.canonical(world.start())
    states = [first]
    numbers = {first: 0}
    parents = [-1]
    transitions = depth = undecided = decided = 0
    level_ends = 1
    verdict: Literal["safe", "violation", "unfinished"] = "safe"
    broken = world.broken(first)
    current = 0
    while not broken and verdict == "safe" and current < len(states):
        if current == level_ends:
            depth += 1
            level_ends = len(states)
        state = states[current]
        world.note(state)
        if outcomes is not None:
            outcomes.add(world.outcome(state))
        chosen = world.facts(state).chosen
        decided += len(chosen) == case.instances
        undecided += not chosen and world.has_proposed(state)
        for _, after in world.steps(state):
            transitions += 1
            found = world.canonical(after)
            if found in numbers:
                continue
            if limit_states is not None and len(states) >= limit_states:
                verdict = "unfinished"
                break
            numbers[found] = len(states)
            states.append(found)
            parents.append(current)
            if progress is not None and len(states) % 10_000 == 0:
                progress(len(states), depth)
            broken = world.broken(found)
            if broken:
                break
        current += 1
    path: tuple[str, ...] = ()
    if broken:
        verdict = "violation"
        depth += 1
        path = _draw(world, states, parents)
    cells = dict(sorted(world.met.items()))
    return Report(case, verdict, len(states), transitions, depth, undecided, decided, cells, broken, path)


# Drawing


def _draw(world: _World, states: list[_State], parents: list[int]) -> tuple[str, ...]:
    """Return the way to the last state, in words.

    The states on it stand for all their arrangements. So the way is walked anew without exchanging acceptors: from each
    state by a step into one for which the next one stands.
    """
    way: list[_State] = []
    number = len(states) - 1
    while number >= 0:
        way.append(states[number])
        number = parents[number]
    way.reverse()
    state = world.start()
    lines: list[str] = []
    if not world.case.every_step:
        lines += _asked(world.requests.items[state.requests])
    for target in way[1:]:
        step, after = next(
            (step, after) for step, after in world.steps(state) if world.canonical(after) == target
        )
        lines += _said(world, step, state, after)
        state = after
    # The names in what is broken are those of the state as it was walked.
    lines.append(f"broken: {world.broken(state)}")
    return tuple(lines)


def _asked(requests: tuple[Request, ...]) -> list[str]:
    return [f"{each.ballot.node} -> all: {_message(each)}" for each in requests]


def _said(world: _World, step: _Step, before: _State, after: _State) -> list[str]:
    """Return one step in the words of its messages: who, to whom, what."""
    name = world.names[step.acceptor]
    if step.kind == "propose":
        assert step.proposal is not None
        ballot = world.case.ballots[step.proposer]
        lines = [
            f"{world.names[index]} -> {ballot.node}: {_message(promise)}"
            for index, promise in step.proposal.heard
        ]
        return lines + _new_requests(world, before, after)
    if step.kind == "start":
        return _new_requests(world, before, after)
    if step.kind == "hear":
        node = world.case.ballots[step.proposer].node
        assert step.message is not None
        return [f"{name} -> {node}: {_message(step.message)}", *_new_requests(world, before, after)]
    if step.kind == "learn":
        assert step.message is not None
        return [f"{name} -> the learner: {_message(step.message)}", *_new_requests(world, before, after)]
    side: _Side = world.sides.items[before.acceptors[step.acceptor]]
    if step.kind == "crash":
        lost = ", ".join(_record(answer) for answer in side.pending if answer.record is not None)
        what = f"loses {lost}" if lost else "with no record on the way to its disk"
        return [f"{name} crashes, {what}, and starts again"]
    if step.kind == "stable":
        return [f"{name}'s disk: {_record(side.pending[0])} is stable; the answer is in the network"]
    request = step.message
    assert isinstance(request, Request)
    handled = world._deliver(side, request)
    line = f"{request.ballot.node} -> {name}: {_message(request)}: {_handled(side, handled)}"
    return [line, *_new_requests(world, before, after)]


def _new_requests(world: _World, before: _State, after: _State) -> list[str]:
    old = world.requests.items[before.requests]
    return _asked(tuple(each for each in world.requests.items[after.requests] if each not in old))


def _handled(before: _Side, after: _Side) -> str:
    """Return what an acceptor did about a request."""
    if len(after.pending) > len(before.pending):
        what = f"it answers {_message(after.pending[-1].message)}"
        early = after.pending[-1].message in after.sent and after.pending[-1].message not in before.sent
        return (
            f"{what}, before {_record(after.pending[-1])} is stable"
            if early
            else f"{what}, once that is stable"
        )
    new = [message for message in after.sent if message not in before.sent]
    if new:
        return f"it answers {_message(new[0])}"
    if after.memory.chosen > before.memory.chosen:
        return f"it cuts off everything up to {after.memory.chosen}"
    return "it remembers, and says nothing"


def _record(answer: Answer) -> str:
    record = answer.record
    if isinstance(record, Acceptance):
        return f"the acceptance of {record.ballot} in instance {record.instance}"
    return "nothing" if record is None else f"the promise of {record.ballot}"


def _message(message: Request | Told) -> str:
    if isinstance(message, Prepare):
        first = "" if message.first == 1 else f" from instance {message.first} on"
        return f"prepare {message.ballot}{first}"
    if isinstance(message, Accept):
        return f"accept {_text(message.value)} as {message.ballot} in instance {message.instance}"
    if isinstance(message, Accepted):
        return f"accepted {message.ballot} in instance {message.instance}"
    if isinstance(message, Chosen):
        return f"chosen up to {message.chosen}, under {message.ballot}"
    told = [
        f"{_text(value)} accepted as {ballot} in instance {instance}"
        for instance, ballot, value in message.reported
    ]
    if message.chosen:
        told.insert(0, f"chosen up to {message.chosen}")
    if message.last is not None:
        told.append("and more to come")
    return f"promise {message.ballot}, reporting {', '.join(told) or 'nothing'}"


def _text(value: Value) -> str:
    return "a no-op" if value.is_no_op else bytes(value.entries[0].payload).decode()


_INSTANCES = ("cut", "chosen", "accepted", "empty", "beyond alpha")
_REPORTS = ("empty", "accepted", "in parts", "cut")
_RELATIONS = ("lower", "equal", "higher")


def _universe() -> list[Cell]:
    """Every situation that makes sense: a first acceptance in an instance, for one, is never lower than one before it."""
    cells = [Cell("learner", "Accepted", "higher", "empty", "done")]
    for ballot in _RELATIONS:
        for durability in ("done", "pending"):
            cells.append(Cell("acceptor", "Prepare", ballot, "every", durability))
            cells += [Cell("acceptor", "Accept", ballot, each, durability) for each in _INSTANCES]
            cells += [Cell("acceptor", "Chosen", ballot, each, durability) for each in ("cut", "chosen")]
        cells += [Cell("proposer", "Promise", ballot, each, "done") for each in _REPORTS]
        cells += [Cell("learner", "Accepted", ballot, each, "done") for each in ("accepted", "chosen")]
    return sorted(cells)


def describe(report: Report) -> str:
    """Return the report as text for people. Its last line is the verdict, or the end of the bad path."""
    case = report.case
    lines = [
        f"{case.name}: {case.about}",
        f"{len(case.configuration.acceptors)} acceptors; ballots {', '.join(map(str, case.ballots))}; "
        f"{case.instances} instance{'s' * (case.instances > 1)}; crashes: {case.crashes}; "
        "messages lost, repeated and overtaken at will",
        "",
        f"{report.states:>10,} states",
        f"{report.transitions:>10,} transitions",
        f"{report.depth:>10,} steps deep",
        f"{report.decided:>10,} states with a chosen value in every instance",
        f"{report.undecided:>10,} states in which every ballot has proposed and nothing is chosen",
        "",
        f"{'role':<9} {'message':<9} {'its ballot':<11} {'instance':<13} {'disk':<8} met",
    ]
    universe = _universe()
    for cell in sorted({*universe, *report.cells}):
        met = report.cells.get(cell, 0)
        lines.append(
            f"{cell.role:<9} {cell.message:<9} {cell.ballot:<11} {cell.instance:<13} {cell.durability:<8} {met or '-'}"
        )
    reached = sum(cell in report.cells for cell in universe)
    lines += [f"{reached} of {len(universe)} kinds of situation met", ""]
    if report.verdict == "safe":
        lines.append(f"{report.states:,} states, all of them safe")
    elif report.verdict == "unfinished":
        lines.append(f"unfinished: {report.states:,} states were safe, and there are more")
    else:
        lines += [f"{number:>3}. {line}" for number, line in enumerate(report.path[:-1], 1)]
        lines.append(report.path[-1])
    return "\n".join(lines)
