"""`sofadb`: the commands of a person. Whatever is wrong is one line on stderr and an exit code that is not 0."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.status import Status
from rich.table import Table

from sofadb import __version__
from sofadb.node.snapshots import SnapshotSettings
from sofadb.node.tuning import Tuning
from sofadb.server.admission import Passwords
from sofadb.server.notifications import Notifications, UnknownLetter
from sofadb.sim.checker import STEPS_MAX
from sofadb.sim.checker import check as judge
from sofadb.sim.history import Unreadable, read_history

from .addresses import NODE_ID, SERVICE_NAME, parse_address, parse_cluster
from .backup import backup, recover, restore, verify
from .bench import bench
from .client import Unreachable, ask
from .failing import fail
from .laboratory import hunt, replay
from .members import member_app, plan_app
from .passwords import NoPassword, read_passwords
from .up import Trouble, bring_up

CommandLineError: type[Exception] = next(
    each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException"
)
"""What Typer raises for whatever is wrong with a command line; it has no public name there."""

DEFAULTS = Tuning()


class Protected(StrEnum):
    """Whether a node without a password minds where its clients are."""

    YES = "yes"
    NO = "no"


class Reads(StrEnum):
    """How linearizable reads are made safe."""

    CONFIRM = "confirm"
    LEASE = "lease"


app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True
)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False,
) -> None:
    """SofaDB: a replicated database that speaks the Redis protocol."""
    if version:
        print(f"sofadb {__version__}")
        raise typer.Exit


@app.command()
def serve(
    id: Annotated[str, typer.Option("--id", help="This node's id, for example n1.")],  # noqa: A002
    directory: Annotated[Path, typer.Option("--dir", help="Where its data is kept.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT for clients.")] = "127.0.0.1:6379",
    peer_listen: Annotated[str, typer.Option(help="HOST:PORT for the other nodes.")] = "127.0.0.1:16379",
    cluster: Annotated[
        str,
        typer.Option(help="All members, as n1=HOST:PORT,n2=HOST:PORT,...; matters at the first start only."),
    ] = "",
    reads: Annotated[
        Reads,
        typer.Option(
            help="How linearizable reads are made safe: by asking a quorum, or by the leader's lease, which relies on "
            "clocks that drift by less than 1 %. The same on all nodes."
        ),
    ] = Reads.CONFIRM,
    timeout: Annotated[
        float,
        typer.Option(
            "--election-timeout-ms",
            min=50,
            max=60_000,
            help="A leader silent for so long is replaced; at least.",
        ),
    ] = DEFAULTS.election_timeout_ms,
    timeout_max: Annotated[
        float,
        typer.Option(
            "--election-timeout-max-ms",
            min=50,
            max=600_000,
            help="Where round trips are long, at most so long.",
        ),
    ] = DEFAULTS.election_timeout_ms_max,
    service_name: Annotated[
        str, typer.Option(help="What clients that use Redis Sentinel call this cluster.")
    ] = "sofadb",
    join: Annotated[
        str,
        typer.Option(
            help="HOST:PORT for nodes of any member of a cluster, or several with commas: the cluster that a new directory "
            "joins, in place of --cluster. See `sofadb member add`."
        ),
    ] = "",
    snapshot_mb: Annotated[
        float,
        typer.Option(
            "--snapshot-mb",
            min=0.01,
            help="Take a snapshot when the log has grown by so much (MiB), or by 64 if the data is small.",
        ),
    ] = 256,
    snapshot_every: Annotated[
        float,
        typer.Option(
            "--snapshot-every-s", min=1, help="Or after so long, if anything was written (seconds)."
        ),
    ] = 3_600,
    archive: Annotated[
        str,
        typer.Option(
            help="Where all that is chosen is kept for ever: a directory, or a URL for fsspec. The same on all nodes."
        ),
    ] = "",
    archive_every: Annotated[
        float, typer.Option("--archive-every-s", min=0.1, help="So often it is added to (seconds).")
    ] = 10,
    password_file: Annotated[
        Path | None,
        typer.Option(
            help="Clients have to say a password: one of those in this file, one a line. SOFADB_PASSWORD_FILE or "
            "SOFADB_PASSWORD in the environment does the same. The same on all nodes."
        ),
    ] = None,
    protected_mode: Annotated[
        Protected,
        typer.Option(
            help="Without a password, speak only to clients on this machine (yes) or to anybody (no)."
        ),
    ] = Protected.YES,
    notify: Annotated[
        str,
        typer.Option(
            "--notify-keyspace-events",
            help="Tell this node's clients what happens to keys: letters as in Redis, for example KEA.",
        ),
    ] = "",
    maxmemory_mb: Annotated[
        int,
        typer.Option(
            "--maxmemory-mb",
            min=0,
            help="With more than this in memory (MiB), refuse what may make the data grow; 0: never.",
        ),
    ] = 0,
) -> None:
    """Run one node until it is told to stop (SIGTERM, Ctrl-C)."""
    if not SERVICE_NAME.fullmatch(service_name):
        raise typer.BadParameter(
            f"'{service_name}' is no name of a service; use letters, digits, ., - and _, at most 64 of them"
        )
    if not NODE_ID.fullmatch(id):
        raise typer.BadParameter(f"'{id}' is no node id; use letters, digits, - and _, at most 32 of them")
    members = parse_cluster(cluster) if cluster else None
    client_address, peer_address = parse_address(listen), parse_address(peer_listen)
    if sys.flags.optimize:
        fail("do not run a node under python -O: it relies on its assertions")
    if timeout_max < timeout:
        raise typer.BadParameter("the largest election timeout is lower than the smallest")
    try:
        passwords = Passwords(read_passwords(password_file))
    except NoPassword as problem:
        raise typer.BadParameter(str(problem)) from None
    try:
        notifications = Notifications(notify)
    except UnknownLetter as letter:
        raise typer.BadParameter(f"'{letter}' is no class of events; there are Ag$lshzxeKEtmdn") from None
    from .serve import run_node

    tuning = Tuning(timeout, timeout_max, has_leases=reads is Reads.LEASE)
    snapshots = SnapshotSettings(int(snapshot_mb * (1 << 20)), every_s=snapshot_every)
    addresses = [f"{host}:{port}" for host, port in map(parse_address, join.split(",") if join else ())]
    uvloop.run(
        run_node(
            id,
            directory,
            client_address,
            peer_address,
            members,
            tuning,
            service_name,
            snapshots,
            addresses,
            archive,
            archive_every,
            passwords,
            protected_mode is Protected.YES,
            notifications,
            maxmemory_mb << 20,
        )
    )


@app.command()
def up(
    port: Annotated[int, typer.Option(help="The first node's client port; the others follow.")] = 7001,
    nodes: Annotated[int, typer.Option(min=1, max=9, help="How many nodes.")] = 3,
    directory: Annotated[Path, typer.Option("--dir", help="Where the data is kept.")] = Path("sofadb-data"),
) -> None:
    """Run a whole cluster on this machine until Ctrl-C; the next `up` finds its data again."""
    try:
        bring_up(directory, port, nodes)
    except Trouble as problem:
        fail(str(problem))


@app.command()
def status(
    port: Annotated[int, typer.Option(help="The client port of any node.")] = 7001,
    host: Annotated[str, typer.Option(help="The host of that node.")] = "127.0.0.1",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say who the members are, who leads, how far each has come, and what is waited for."""
    try:
        facts = json.loads(ask(host, port, "SOFA.INFO"))
    except (Unreachable, ValueError, TypeError) as problem:
        fail(f"no node answers: {problem}")
    rows = [_member_status(member, facts, (host, port)) for member in facts["members"]]
    ahead = max((row["chosen"] for row in rows if row["chosen"] is not None), default=0)
    for row in rows:
        row["lag"] = None if row["applied"] is None else ahead - row["applied"]
    if as_json:
        print(
            json.dumps(
                {
                    "cluster": facts["cluster"],
                    "leader": facts["leader"],
                    "ballot": facts["ballot"],
                    "voters": facts["voters"],
                    "members": rows,
                }
            )
        )
        return
    print(f"cluster {facts['cluster']}, ballot {facts['ballot']}, leader {facts['leader'] or 'nobody'}")
    learners = [row["node"] for row in rows if row["part"].startswith("learner")]
    print(f"voters {', '.join(facts['voters'])}" + (f"; learners {', '.join(learners)}" if learners else ""))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("node", "clients", "peers", "role", "pid", "chosen", "applied", "lag"):
        justify: JustifyMethod = "right" if heading in ("pid", "chosen", "applied", "lag") else "left"
        table.add_column(heading, justify=justify, overflow="fold")
    for row in rows:
        cells = (row["node"], row["client_address"], row["peer_address"], row["role"])
        counts = (row["process_id"], row["chosen"], row["applied"], row["lag"])
        table.add_row(*cells, *("-" if count is None else str(count) for count in counts))
    Console().print(table)
    for row in rows:
        if row["log_bytes"] is not None:
            print(f"{row['node']} {_on_disk(row)}")
    for row in rows:
        for sentence in row["explain"]:
            print(f"{row['node']} sees: {sentence}")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A history: JSON lines, one operation each.")],
    steps: Annotated[
        int, typer.Option(min=1, help="How long to look before saying that it cannot be told.")
    ] = STEPS_MAX,
) -> None:
    """Say whether one register per key could have answered so: exit 0 yes, 1 no (or cannot tell), 2 unreadable."""
    try:
        with file.open(encoding="utf-8") as lines:
            operations = read_history(lines)
    except (OSError, UnicodeDecodeError, Unreadable) as problem:
        fail(f"{file}: {problem}", 2)
    verdict = judge(operations, steps_max=steps)
    print(verdict)
    raise typer.Exit(0 if verdict else 1)


@app.command()
def explore(
    case: Annotated[list[str] | None, typer.Option(help="A case; may be given more than once.")] = None,
    list_cases: Annotated[bool, typer.Option("--list-cases", help="Name the cases, one a line.")] = False,
) -> None:
    """Visit every interleaving of small cases of the core: exit 0 if all states are safe, 1 if not or unfinished."""
    from sofadb.sim.cases import CASES
    from sofadb.sim.explorer import describe
    from sofadb.sim.explorer import explore as visit

    if list_cases:
        print("\n".join(CASES))
        return
    for name in case or ():
        if name not in CASES:
            raise typer.BadParameter(f"'{name}' is no case; --list-cases names them")
    console = Console(stderr=True)
    verdicts = set()
    for name in case or EXPLORED_CASES:
        with console.status(name) as line:
            report = visit(CASES[name], progress=partial(_show_progress, line, name))
        print(describe(report), flush=True)
        verdicts.add(report.verdict)
    raise typer.Exit(0 if verdicts == {"safe"} else 1)


app.command()(bench)
app.command()(backup)
app.command()(verify)
app.command()(restore)
app.command()(recover)
app.add_typer(member_app, name="member")
app.add_typer(plan_app, name="plan")
app.command()(hunt)
app.command()(replay)


def _show_progress(line: Status, name: str, states: int, depth: int) -> None:
    line.update(f"{name}: {states:,} states, {depth} steps deep")


EXPLORED_CASES = (
    "two-ballots-two-instances",
    "three-ballots-one-instance",
    "four-ballots-one-instance",
    "with-a-crash",
    "with-a-cut",
    "reports-in-parts",
)
"""What `explore` visits unless it is told otherwise: in all under a minute."""


def _member_status(member: dict[str, str], facts: dict[str, Any], asked: tuple[str, int]) -> dict[str, Any]:
    """What one member says of itself, or that it says nothing."""
    row: dict[str, Any] = {
        "node": member["node"],
        "client_address": member["client_address"],
        "peer_address": member["peer_address"],
        "part": member["part"],
        "role": "unreachable",
        "ballot": "",
        "process_id": None,
        "chosen": None,
        "applied": None,
        "snapshot": None,
        "snapshot_age_s": None,
        "log_bytes": None,
        "explain": [],
    }
    with contextlib.suppress(Unreachable, ValueError, TypeError, typer.BadParameter):
        is_asked = member["node"] == facts["node"]
        address = asked if is_asked else parse_address(member["client_address"])
        own = facts if is_asked else json.loads(ask(*address, "SOFA.INFO", timeout_s=1.0))
        row |= {name: own[name] for name in ("role", "ballot", "process_id", "chosen", "applied", "snapshot")}
        row["log_bytes"] = own["journal_held"]
        if own["snapshot_at"]:
            row["snapshot_age_s"] = max(0, round(time.time() - own["snapshot_at"] / 1000))
        if isinstance(sentences := ask(*address, "SOFA.EXPLAIN", timeout_s=1.0), list):
            row["explain"] = sentences
    return row


def _on_disk(row: dict[str, Any]) -> str:
    """Its newest snapshot and its log, in words."""
    age = row["snapshot_age_s"]
    when = "of an earlier life" if age is None else f"{age // 60} min old" if age >= 60 else f"{age} s old"
    snapshot = f"a snapshot of instance {row['snapshot']}, {when}" if row["snapshot"] else "no snapshot yet"
    return f"holds {snapshot}, and {row['log_bytes'] / 1e6:.1f} MB of log"


def main() -> None:
    """Run the command line; every error is one line."""
    try:
        code = app(standalone_mode=False)
    except CommandLineError as problem:
        fail(" ".join(problem.format_message().split()), 2)  # type: ignore[attr-defined]
    except (typer.Abort, KeyboardInterrupt):
        raise SystemExit(130) from None
    raise SystemExit(code or 0)
