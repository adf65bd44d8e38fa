"""Check the specification (spec/SofaPaxos.tla) in small worlds with TLC, and that TLC finds what is wrong with broken ones.

python tools/run_spec.py             all models, one after the other: some minutes
python tools/run_spec.py --quick     the smallest: some seconds
python tools/run_spec.py NAME ...    these

A model is a small world: some nodes, ballots and instances, in which TLC looks at every state there is. A broken model has one
rule of the specification switched off, and names an invariant that TLC must then find violated: a specification that cannot
fail proves nothing. Exits with 1 if anything is not as expected.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sofadb.sim.conformance import TlcMissing, run_tlc, what_went_wrong

TIMEOUT_S = 900.0
INVARIANTS = (
    "Agreement",
    "OneValueForEachBallot",
    "OneLeaderForEachBallot",
    "P2b",
    "P2c",
    "PromisesAreKept",
    "AcceptancesAreKept",
    "LearnedIsChosen",
    "OneSequence",
    "NotesAreTrue",
    "WhatIsTaughtIsChosen",
)
NAMES = ("n1", "n2", "n3", "n4", "n5", "red", "blue", "gap")
"""Constants of Models.tla that stand for themselves."""


@dataclass(frozen=True)
class World:
    """The constants of a model."""

    nodes: str = "Three"
    acceptors: str = "Three"
    ballots: int = 2
    owners: str = "InTurn"
    instances: int = 1
    wants: str = "EachWantsItsOwn"
    changes: str = "NoChange"
    alpha: int = 2
    crashes: int = 0
    cut_reports: bool = False
    telling: bool = False
    symmetry: str = ""
    """Sound where nobody compares what is exchanged: colours, if none means a change, and nodes that own no ballot."""

    def constants(self, off: str) -> Mapping[str, str]:
        """As a .cfg has them."""
        return {
            **{name: f"= {name}" for name in NAMES},
            "NoOp": "= gap",
            "NoValue": "= NoValue",
            "Nodes": f"<- {self.nodes}",
            "Initial": f"<- {self.acceptors}",
            "LastBallot": f"= {self.ballots}",
            "Owner": f"<- {self.owners}",
            "LastInstance": f"= {self.instances}",
            "Wants": f"<- {self.wants}",
            "Changes": f"<- {self.changes}",
            "Alpha": f"= {self.alpha}",
            "CrashesMax": f"= {self.crashes}",
            "CutReports": f"= {self.cut_reports}".upper(),
            "Telling": f"= {self.telling}".upper(),
            "Off": f'= {{"{off}"}}' if off else "= {}",
            "Explain": "= FALSE",
        }


@dataclass(frozen=True)
class Model:
    """A world, and what TLC must say of it."""

    name: str
    world: World
    off: str = ""
    """The rule that is switched off ..."""
    broken: str = ""
    """... and the invariant that is violated for that."""
    quick: bool = False


ALL_COLOURS = World(wants="EverybodyWantsAll", symmetry="SameColours")
CRASH = World(wants="EverybodyWantsAll", symmetry="SameColours", crashes=1)
PARTS = World(instances=2, cut_reports=True)
TELLING = World(telling=True)
TWO_TOLD = World(instances=2, telling=True)
FIVE_TOLD = World(nodes="Five", acceptors="Five", telling=True, symmetry="SameNodes")
REPLACED = World(
    acceptors="Two", changes="OneForAnother", wants="EverybodyWantsAll", instances=2, alpha=1, telling=True
)
MOVED = World(
    nodes="Two",
    acceptors="One",
    changes="ToTheOther",
    owners="TheOtherFirst",
    wants="OnlyOneWantsAChange",
    instances=3,
    telling=True,
)
MOVED_AT_ONCE = World(
    nodes="Two",
    acceptors="One",
    changes="ToTheOther",
    owners="TheOtherFirst",
    wants="EverybodyWantsAll",
    instances=2,
    alpha=1,
    telling=True,
    crashes=1,
)

MODELS = (
    Model("one-instance", ALL_COLOURS, quick=True),
    Model("two-instances", World(instances=2, wants="EverybodyWantsAll", symmetry="SameColours")),
    Model("three-ballots-two-instances", World(ballots=3, instances=2)),
    Model("four-ballots", World(ballots=4)),
    Model("reports-in-parts", PARTS, quick=True),
    Model("told", TELLING, quick=True),
    Model("told-two-instances", TWO_TOLD),
    Model(
        "told-three-ballots",
        World(ballots=3, telling=True, wants="EverybodyWantsAll", symmetry="SameColours"),
    ),
    Model("told-five-nodes", FIVE_TOLD),
    Model("crash", CRASH, quick=True),
    Model("crash-two-instances", World(instances=2, crashes=1)),
    Model("crash-three-ballots", World(ballots=3, crashes=1)),
    Model("crash-told", World(telling=True, crashes=1, wants="EverybodyWantsAll", symmetry="SameColours")),
    Model("change-alpha-1", REPLACED),
    Model("change-alpha-1-crash", MOVED_AT_ONCE),
    Model("change-alpha-2", MOVED),
    # Broken ones.
    Model("own-value", ALL_COLOURS, "the reported value goes first", "Agreement", quick=True),
    Model("no-promise", ALL_COLOURS, "nothing below a promise is accepted", "Agreement", quick=True),
    Model("anybodys-ballot", ALL_COLOURS, "a ballot has one owner", "OneValueForEachBallot"),
    Model("mixed-votes", ALL_COLOURS, "votes are of one ballot", "LearnedIsChosen", quick=True),
    Model("half-a-report", PARTS, "a report counts when it is complete", "Agreement", quick=True),
    Model("early-answer", CRASH, "an answer waits for its record", "Agreement"),
    Model("forgotten-promise", CRASH, "a promise survives a crash", "Agreement"),
    Model("ignorant-leader", TELLING, "first learn what is chosen", "Agreement", quick=True),
    Model(
        "any-acceptance", TELLING, "the acceptance is of the leader's ballot", "LearnedIsChosen", quick=True
    ),
    Model("deposed-leader", FIVE_TOLD, "a deposed leader gives up", "LearnedIsChosen"),
    Model("proposed-over", TWO_TOLD, "nothing else where a value is known", "WhatIsTaughtIsChosen"),
    Model("early-change", MOVED, "a change waits for alpha", "LearnedIsChosen"),
    Model("promises-of-old", MOVED, "promises of every configuration", "Agreement"),
)


@dataclass(frozen=True)
class Result:
    """What TLC said of one model."""

    model: Model
    states: str = "-"
    distinct: str = "-"
    depth: str = "-"
    seconds: float = 0.0
    violated: str = ""
    problem: str = ""

    @property
    def is_as_expected(self) -> bool:
        return not self.problem and self.violated == self.model.broken

    @property
    def verdict(self) -> str:
        if self.problem:
            return f"FAILED: {self.problem}"
        said = f"violates {self.violated}" if self.violated else "safe"
        return said if self.is_as_expected else f"{said}, NOT as expected"


def check(model: Model) -> Result:
    """Let TLC look at every state of `model`."""
    invariants = (model.broken,) if model.broken else INVARIANTS
    lines = ["SPECIFICATION Spec", "CONSTANTS"]
    lines += [f"  {name} {value}" for name, value in model.world.constants(model.off).items()]
    lines += [f"SYMMETRY {model.world.symmetry}"] if model.world.symmetry else []
    lines += [f"INVARIANTS {' '.join(invariants)}"]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        module = Path(directory) / "Model.tla"
        module.write_text("---- MODULE Model ----\nEXTENDS Models\n====\n")
        module.with_suffix(".cfg").write_text("\n".join(lines) + "\n")
        try:
            output = run_tlc(module, timeout_s=TIMEOUT_S)
        except TlcMissing as problem:
            return Result(model, problem=str(problem))
        except subprocess.TimeoutExpired:
            return Result(model, problem=f"not done after {TIMEOUT_S:g} s")
    return _result(model, output, time.monotonic() - begun)


def _result(model: Model, output: str, seconds: float) -> Result:
    counts = re.findall(r"^([\d,]+) states generated.* ([\d,]+) distinct states", output, re.MULTILINE)
    depth = re.search(r"depth of the complete state graph search is (\d+)", output)
    violated = re.search(r"Invariant (\w+) is violated", output)
    is_done = violated is not None or "No error has been found" in output
    if not counts or not is_done:
        return Result(model, seconds=seconds, problem=what_went_wrong(output))
    states, distinct = counts[-1]
    name = violated[1] if violated else ""
    return Result(model, states, distinct, depth[1] if depth else "-", seconds, name)


def main(arguments: list[str]) -> int:
    """Check the models that are asked for, and print a line on each."""
    known = {model.name: model for model in MODELS}
    names = [argument for argument in arguments if argument != "--quick"]
    if unknown := [name for name in names if name not in known]:
        print(f"no such model: {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    chosen = [known[name] for name in names] or [
        each for each in MODELS if each.quick or "--quick" not in arguments
    ]
    print(f"{'model':28} {'states':>10} {'distinct':>10} {'depth':>5} {'seconds':>7}  verdict")
    is_right = True
    for model in chosen:
        result = check(model)
        is_right = is_right and result.is_as_expected
        print(
            f"{model.name:28} {result.states:>10} {result.distinct:>10} {result.depth:>5} {result.seconds:>7.1f}"
            f"  {result.verdict}" + (f" (off: {model.off})" if model.off else ""),
            flush=True,
        )
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
