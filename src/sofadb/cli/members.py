"""`sofadb member` and `sofadb plan`: who belongs to the cluster, and what a change would mean.

A change is a wish: the database notes it, and the leader goes on to make it so, step by step, also if nobody looks any more. So a
command that is interrupted takes nothing back. While it waits it tells what the leader says it waits for.
"""

from __future__ import annotations

import json
import re
import signal
import time
from typing import Annotated, Any

import hiredis
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table

from sofadb.node.facts import split_address
from sofadb.sim.outlook import LOST_MAX, Outcome, failures, outcome

from .addresses import parse_cluster
from .change import Change, Facts, Parts, objection, parts, present, serve_line
from .client import Unreachable, ask
from .failing import fail

LOOK_EVERY_S = 0.2
ANSWER_S = 10.0
"""A node says within its patience (5 s) what became of a command."""
EXIT_NOT_YET = 3
"""What was asked for is not done yet."""

member_app = typer.Typer(help="Say who the members are, and change it.", no_args_is_help=True)
plan_app = typer.Typer(
    help="Say what a change of membership would mean, and change nothing.", no_args_is_help=True
)

Port = Annotated[int, typer.Option(help="The client port of any node.")]
Host = Annotated[str, typer.Option(help="The host of that node.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Force = Annotated[bool, typer.Option("--force", help="Also if the cluster survives less then.")]
Learner = Annotated[bool, typer.Option("--learner", help="It learns everything and has no vote.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is so.")]
Timeout = Annotated[
    float, typer.Option("--timeout-s", min=0.1, help="Wait so long until it is so (seconds).")
]
Named = Annotated[str, typer.Argument(help="The id of a member.")]
Newcomer = Annotated[str, typer.Argument(help="ID=HOST:PORT: who is to come, and where its peers reach it.")]


class Cluster:
    """The nodes that a person can reach, beginning with one."""

    def __init__(self, host: str, port: int) -> None:
        self.addresses = [(host, port)]
        self.speaker = (host, port)
        """Where the latest facts come from."""

    def facts(self) -> Facts:
        """What the leader says, or, if it cannot be reached, anybody. Raises `Unreachable`."""
        said: Facts | None = None
        problem = Unreachable("nobody was asked")
        for address in self.addresses:
            try:
                found = _facts(*address)
                self._note(found)
                if found["role"] != "leading" and said is None:
                    said, self.speaker = found, address
                if found["role"] != "leading" and found["leader_client_address"]:
                    address = split_address(found["leader_client_address"])
                    found = _facts(*address)
            except Unreachable as silence:
                problem = silence
                continue
            if found["role"] == "leading":
                self.speaker = address
                return found
        if said is None:
            raise problem
        return said

    def _note(self, said: Facts) -> None:
        """Know all that are named there, in case the one that was asked goes away."""
        known = [split_address(each["client_address"]) for each in said["members"] if each["client_address"]]
        self.addresses = list(dict.fromkeys([*self.addresses, *known]))

    def ask(self, *words: str) -> Any:
        """Ask who said the latest facts. Raises `Unreachable`."""
        return ask(*self.speaker, *words, timeout_s=ANSWER_S)


def _facts(host: str, port: int) -> Facts:
    try:
        facts: Facts = json.loads(ask(host, port, "SOFA.INFO"))
    except (ValueError, TypeError):
        raise Unreachable(f"{host}:{port} is no node of SofaDB") from None
    return facts


def _look(host: str, port: int) -> tuple[Cluster, Facts]:
    cluster = Cluster(host, port)
    try:
        return cluster, cluster.facts()
    except Unreachable as problem:
        fail(f"no node answers: {problem}")


def _newcomer(text: str) -> tuple[str, str]:
    ((node, address),) = parse_cluster(text).items() if "," not in text else (("", ""),)
    if not node:
        raise typer.BadParameter(f"'{text}' are several; one at a time")
    return node, address


# sofadb member


@member_app.command("list")
def list_members(port: Port = 7001, host: Host = "127.0.0.1", as_json: AsJson = False) -> None:
    """Say who the members are, in which part, where, whether they are reached and how far behind."""
    _, facts = _look(host, port)
    alive = present(facts)
    if as_json:
        keys = ("node", "part", "peer_address", "client_address", "behind", "problem")
        rows = [
            {key: each[key] for key in keys} | {"reached": each["node"] in alive} for each in facts["members"]
        ]
        told = {key: facts[key] for key in ("cluster", "leader", "voters", "quorum", "is_changing")}
        print(json.dumps(told | {"members": rows}))
        return
    voters = len(facts["voters"])
    who = f"leader {facts['leader']}" if facts["leader"] else f"nobody leads, as far as {facts['node']} knows"
    print(f"{voters} voter{'s' * (voters > 1)}, of which {facts['quorum']} are needed; {who}")
    table = _table("node", "part", "peers", "clients", "reached", "behind")
    for each in facts["members"]:
        reached = "yes" if each["node"] in alive else each["problem"] or "no"
        behind = "-" if each["behind"] is None else str(each["behind"])
        clients = each["client_address"] or "-"
        table.add_row(each["node"], each["part"] or "-", each["peer_address"], clients, reached, behind)
    Console().print(table)


@member_app.command()
def add(
    newcomer: Newcomer,
    learner: Learner = False,
    port: Port = 7001,
    host: Host = "127.0.0.1",
    timeout_s: Timeout = 60,
    no_wait: NoWait = False,
    force: Force = False,
) -> None:
    """Have another node; it learns everything first, and then votes."""
    node, address = _newcomer(newcomer)
    _carry_out(
        Change("add", node, address=address, is_learner=learner), host, port, timeout_s, no_wait, force
    )


@member_app.command()
def remove(
    node: Named,
    port: Port = 7001,
    host: Host = "127.0.0.1",
    timeout_s: Timeout = 60,
    no_wait: NoWait = False,
    force: Force = False,
) -> None:
    """Have a member leave."""
    _carry_out(Change("remove", node), host, port, timeout_s, no_wait, force)


@member_app.command("replace")
def replace_(
    node: Named,
    newcomer: Newcomer,
    port: Port = 7001,
    host: Host = "127.0.0.1",
    timeout_s: Timeout = 60,
    no_wait: NoWait = False,
    force: Force = False,
) -> None:
    """Have another node take the part of a member, in one step, once it has learned everything."""
    new, address = _newcomer(newcomer)
    _carry_out(Change("replace", node, new, address), host, port, timeout_s, no_wait, force)


@member_app.command()
def promote(
    node: Named,
    port: Port = 7001,
    host: Host = "127.0.0.1",
    timeout_s: Timeout = 60,
    no_wait: NoWait = False,
    force: Force = False,
) -> None:
    """Have a learner vote."""
    _carry_out(Change("promote", node), host, port, timeout_s, no_wait, force)


def _carry_out(change: Change, host: str, port: int, timeout_s: float, no_wait: bool, force: bool) -> None:
    cluster, facts = _look(host, port)
    if not force and (problem := objection(change, facts)):
        fail(problem)
    words = [*change.words, *(["FORCE"] if force and change.kind == "remove" else [])]
    try:
        answer = cluster.ask("SOFA.MEMBER", *words)
    except Unreachable as problem:
        fail(f"nobody knows whether it was noted ({problem}); look at `sofadb member list`")
    if isinstance(answer, hiredis.ReplyError):
        fail(str(answer).removeprefix("ERR ").replace("say FORCE", "say --force"))
    is_here = any(each["node"] == change.arriving and each["behind"] is not None for each in facts["members"])
    if change.arriving and not is_here:
        print(f"noted; unless it runs already, start it:\n\n  {serve_line(change, facts)}\n", flush=True)
    if not no_wait:
        _wait(cluster, change, timeout_s)


def _wait(cluster: Cluster, change: Change, timeout_s: float) -> None:
    """Until it is so. Who is interrupted, or loses patience, hears that it goes on."""
    deadline = time.monotonic() + timeout_s
    stands = "what was asked for stands and goes on by itself; `sofadb member list` shows how far it is"
    told = ""
    # Also where a shell has put us in the background and told us to ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while True:
            waits = "nobody answers"
            try:
                facts = cluster.facts()
                if facts["role"] == "leading" and change.is_done(facts):
                    print(f"done: {', '.join(facts['voters'])} vote, {facts['quorum']} are needed")
                    return
                waits = _waits_for(cluster, change)
            except Unreachable:  # For a moment, perhaps: it may be the leader who is to leave.
                pass
            if time.monotonic() >= deadline:
                fail(f"not done after {timeout_s:g} s: {waits or 'it is under way'}; {stands}", EXIT_NOT_YET)
            if waits and re.sub(r"\d", "", waits) != told:
                print(f"waiting: {waits}", flush=True)
                told = re.sub(r"\d", "", waits)
            time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        print()
        fail(stands, 130)


def _waits_for(cluster: Cluster, change: Change) -> str:
    """What the leader says of those whom the change is about, or of what keeps it from going on."""
    sentences = cluster.ask("SOFA.EXPLAIN")
    names = {change.node, change.newcomer} - {""}
    about = [each for each in sentences if names & set(re.findall(r"[\w-]+", each))]
    return "; ".join(each for each in about or sentences if not each.startswith("nothing: "))


# sofadb plan


@plan_app.command("add")
def plan_add(
    newcomer: Newcomer,
    learner: Learner = False,
    port: Port = 7001,
    host: Host = "127.0.0.1",
    as_json: AsJson = False,
) -> None:
    """Say what failures would do without and with another node."""
    node, address = _newcomer(newcomer)
    _plan(Change("add", node, address=address, is_learner=learner), host, port, as_json)


@plan_app.command("remove")
def plan_remove(node: Named, port: Port = 7001, host: Host = "127.0.0.1", as_json: AsJson = False) -> None:
    """Say what failures would do with and without a member."""
    _plan(Change("remove", node), host, port, as_json)


@plan_app.command("replace")
def plan_replace(
    node: Named, newcomer: Newcomer, port: Port = 7001, host: Host = "127.0.0.1", as_json: AsJson = False
) -> None:
    """Say what failures would do before and after another node takes the part of a member."""
    new, address = _newcomer(newcomer)
    _plan(Change("replace", node, new, address), host, port, as_json)


def _plan(change: Change, host: str, port: int, as_json: bool) -> None:
    _, facts = _look(host, port)
    before = parts(facts)
    if change.arriving in before.all:
        fail(f"{change.arriving} is a member already")
    if change.kind != "add" and change.node not in before.all:
        fail(f"{change.node} is no member: {', '.join(before.all)} are")
    if change.kind == "remove" and before.voters == (change.node,):
        fail(f"{change.node} is the last one that votes")
    after = change.made_to(before)
    away = set(before.all) - present(facts)
    rows = []
    for lost in failures({*before.all, *after.all} - away):
        rows.append((lost, _tried(before, away, lost), _tried(after, away, lost)))
    if as_json:
        print(
            json.dumps(
                {
                    "before": {"voters": before.voters, "learners": before.learners},
                    "after": {"voters": after.voters, "learners": after.learners},
                    "away": sorted(away),
                    "failures": [
                        {"lost": lost, "before": _as_json(now), "after": _as_json(then)}
                        for lost, now, then in rows
                    ],
                }
            )
        )
        return
    print(f"before: {_in_words(before)}")
    print(f"after:  {_in_words(after)}")
    if away:
        print(f"away at this moment, and in every row: {', '.join(sorted(away))}")
    table = _table("lost", "before", "votes", "after", "votes")
    for lost, now, then in rows:
        cells = [
            cell for each in (now, then) for cell in (_serves(each), f"{each.votes}, needs {each.needed}")
        ]
        table.add_row(", ".join(lost) or "nobody", *cells)
    Console().print(table)
    least_now = _survived(before, away, {lost: each for lost, each, _ in rows})
    least_then = _survived(after, away, {lost: each for lost, _, each in rows})
    print(f"survives the loss of any {least_now} before, of any {least_then} after")


def _tried(parts: Parts, away: set[str], lost: tuple[str, ...]) -> Outcome:
    return outcome(parts.voters, parts.learners, away, lost)


def _survived(parts: Parts, away: set[str], found: dict[tuple[str, ...], Outcome]) -> int:
    """How many of those who are there may be lost, whichever they are; no more than were tried."""
    own = set(parts.all) - away
    stops = [len(lost) for lost, each in found.items() if own >= set(lost) and not each.serving]
    return max(0, min([LOST_MAX + 1, len(own), *stops]) - 1)


def _serves(found: Outcome) -> str:
    return "serves" if found.serving else "STOPS"


def _as_json(found: Outcome) -> dict[str, object]:
    return {
        "serves": bool(found.serving),
        "serving": found.serving,
        "votes": found.votes,
        "needed": found.needed,
    }


def _in_words(parts: Parts) -> str:
    learn = f", {', '.join(parts.learners)} learn" if parts.learners else ""
    return f"{', '.join(parts.voters)} vote{learn}"


def _table(*headings: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        justify: JustifyMethod = "right" if heading == "behind" else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=heading in ("peers", "clients"))
    return table
