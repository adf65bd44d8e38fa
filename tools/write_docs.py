"""Write those pages of docs/ that the code itself knows: commands.md from the table, messages.md from the messages,
laboratory.md from the laboratory.

python tools/write_docs.py           write them
python tools/write_docs.py --check   say which are out of date, and exit with 1
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections import defaultdict
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args

from redis_commands import REDIS_7_0, SUBCOMMANDS

from sofadb.database.table import TABLE, Command, Route
from sofadb.paxos import messages, records
from sofadb.server import commands as commands  # Fills the table.
from sofadb.sim import cases, invariants, world
from sofadb.sim.faults import COURSES
from sofadb.sim.plan import KINDS, MISCHIEF
from sofadb.sim.sabotages import SABOTAGES
from sofadb.unlikely import POINTS

DOCS = Path(__file__).parents[1] / "docs"
ROUTES = {
    Route.READ: "read: on the asked node, once that is known to be fresh enough",
    Route.WRITE: "write: through the sequence, on a majority's disks",
    Route.CONNECTION: "connection: between client and node",
}


def commands_page() -> str:
    """Every command that a node takes, by group; what it refuses, and what it does not know."""
    groups: dict[str, list[Command]] = defaultdict(list)
    refused: list[Command] = []
    for command in TABLE.values():
        for each in list(command.subcommands.values()) or [command]:
            (refused if each.is_refused else groups[each.group]).append(each)
    lines = [
        "# Commands",
        "",
        "Written by `make docs` from the one table of commands (`src/sofadb/database/table.py`). Replies, arities and error",
        "texts are those of Redis 7.0; the tests compare them with a real one. What differs is said here, and more of it",
        "[below](#what-differs-from-redis).",
        "",
        *textwrap.wrap(_covered(refused), 120),
        "",
    ]
    for group in sorted(groups):
        lines += [f"## {group}", "", "| command | is a | what it does |", "| --- | --- | --- |"]
        for each in sorted(groups[group], key=lambda each: each.name):
            differs = f". *Differs:* {each.differs.rstrip('.')}" if each.differs else ""
            summary = each.summary.rstrip(".")
            lines.append(f"| {_shown(each.name)} | {each.route.value} | {summary}{differs} |")
        lines.append("")
    lines += ["A " + text + "." for text in ROUTES.values()]
    lines += ["", "## Refused", "", "With an error that says why, and what to use instead.", ""]
    lines += ["| command | |", "| --- | --- |"]
    by_reason: dict[str, list[str]] = defaultdict(list)
    for each in sorted(refused, key=lambda each: each.name):
        by_reason[each.summary.removeprefix("Refused: ").removeprefix("Refused, ")].append(_shown(each.name))
    lines += [f"| {', '.join(names)} | {reason} |" for reason, names in by_reason.items()]
    lines += ["", "## What Redis 7.0 has and this has not", ""]
    lines += textwrap.wrap(", ".join(map(_shown, sorted(_missing()))) or "Nothing.", 120)
    lines += ["", *DIFFERENCES]
    return "\n".join(lines) + "\n"


def _shown(name: str) -> str:
    return f"`{name.replace('|', ' ').upper()}`"


def _known() -> set[str]:
    return {each.name for command in TABLE.values() for each in (command, *command.subcommands.values())}


def _missing() -> set[str]:
    """What is not known at all; of a container that is not, only itself."""
    missing = REDIS_7_0 - _known()
    return {name for name in missing if "|" not in name or name.partition("|")[0] not in missing}


def _covered(refused: list[Command]) -> str:
    """How much there is of Redis 7.0, without containers: they only hold subcommands."""
    asked = REDIS_7_0 - set(SUBCOMMANDS)
    has = asked & _known()
    turned_down = has & {each.name for each in refused}
    return (
        f"Of the {len(asked)} commands and subcommands of Redis 7.0, {len(has) - len(turned_down)} are answered, "
        f"{len(turned_down)} are refused with a reason, and {len(asked - has)} are not known."
    )


DIFFERENCES = """\
## What differs from Redis

- **Time** is the cluster's: `TIME`, and what `EXPIRE` and its kin count from, is chosen with each batch and keeps within half
  a second of the median clock of a majority.
- **OBJECT IDLETIME** and **OBJECT FREQ** answer that this is not tracked: each node answers reads alone, and notes none.
- **Sizes**: a value has 64 MiB at most (Redis: 512), a request 128 MiB, MULTI queues 64 MiB, a pattern has 4,096 bytes,
  SORT takes 1,000 GETs.
- **SCAN** cursors are bucket numbers that mean the same on every node and after a restart. A call returns whole buckets.
- **HSCAN, SSCAN, ZSCAN** cursors are positions that mean the same on every node.
- **HRANDFIELD, SRANDMEMBER, ZRANDMEMBER** with a negative count give a million elements at most.
- **SORT** orders text by its bytes, in whatever language the node runs.
- **WAIT** waits for nothing. It answers how many other nodes certainly have what this connection has written: as many as make
  a majority (of three nodes 1, of five 2), whatever number is asked for. The others may have it too; nobody counts them.
- **DUMP** has a form of its own, with a version and a CRC32C; RESTORE takes nothing else. A value may have 100,000 elements and
  64 MiB. IDLETIME and FREQ are checked and mean nothing.
- **LCS** takes strings of at most 64 KiB each, and, as a Redis whose strings have 64 MiB at most, (n + 1) (m + 1) of up to 2^24.
- **SWAPDB** counts as a change of every key of both databases, also of one that is in neither, for who watches it.
- **BLPOP** and its kin: who came first is served first, whichever node it is on. Between a push and the taking there is a
  moment in which LPOP of somebody else may take what has come; who waits keeps its place. Who waits at several keys takes
  from the first that has something, in the order of its words. A node that dies holds up those behind its clients for half a
  second, once (up to 8 s if it was slow before). Time is over when the client's node says so. All nodes together let 100,000
  commands wait. CLIENT UNBLOCK knows the clients of its node.
- **WATCH** may, rarely, see a change of a key that does not exist when another such key was deleted (they share a few
  thousand counters). It never misses one.
- **Errors of our own**: `-NOREPLICAS` (certainly not done: within 5 s; within 1 s once nobody has led for 5 s; at once when
  the node is full) and `-UNCERTAIN` (nobody can know; never said of a read).
- **ZRANGEBYLEX** and its kin: where scores differ and do not rise with the names, Redis promises nothing, and they say
  something else here.
- **FAILOVER** hands over in good order. It is given up after TIMEOUT (10 s unless said otherwise), and knows no FORCE: a node
  that lacks something never leads. INFO's `master_failover_state` tells how far it is.
- **READONLY** makes a connection's reads stale by its own wish: they are answered from the node's own state at once, without
  a quorum. Its own writes are seen in order. READWRITE and RESET take it back.
- **SOFA.ONCE** id command: once per id over all databases; FLUSHALL does not touch that. The last 100,000 ids or 64 MiB of
  ids and replies are remembered, whichever is less; the oldest are forgotten first, by number and never by time. Errors are
  repeated, too. A reply of more than 64 KiB is not kept: a repeat says so. The same id with another command gets the first
  one's reply.
- **SOFA.STATUS** id: `done` and the instance; `never` and 0; or `unknown` and the instance up to which things may have been
  forgotten. `never` means "not so far": an attempt that was told `-UNCERTAIN` may still come; repeating the SOFA.ONCE settles
  it.
- **SOFA.LOCK** name ttl-ms [WAIT ms]: a token, or nil if the lock is taken. The token is the instance at which it was taken,
  or, if another lock was taken in the same one, the next number after that. Locks are apart from keys; they end by the
  cluster's time; there may be 100,000. WAIT is 1 h at most. Within MULTI, SOFA.ONCE and SOFA.FENCED nobody waits. SOFA.UNLOCK
  and SOFA.RENEW answer 1 or 0.
- **SOFA.FENCED** name token command: an error that begins with `FENCED`, and nothing done, if the lock does not carry that
  token any more.
- **SOFA.LASTINSTANCE**: where this connection's last write stands. **SOFA.AFTER** instance command: reads only, from this
  node's state once it has come so far; after 5 s `-NOREPLICAS`. Not in MULTI.
- **INFO, ROLE**: the leader is called `master` and the others `slave`. Offsets are instances.
- **CONFIG** knows the settings that mean something here, of this node and as long as it runs (`CONFIG REWRITE` is refused).
  What is never otherwise (`appendonly yes`, `maxmemory-policy noeviction`, `save ""`, ...) takes only that value.
  It does not tell the passwords, which come from a file.
- **CONFIG SET maxmemory** (`serve --maxmemory-mb`) is a limit for what the whole process has in memory, as the system counts it,
  looked at four times a second. Beyond it the node answers `-OOM`, as in Redis, and so within a second or two do the others
  while it leads. Nothing is evicted. A script is refused as a whole, unless its first line is `#!lua flags=allow-oom` or
  `flags=no-writes`.
- **What takes long** (large values put together, sorted, copied, or made of zeros): all nodes execute what is chosen together
  in one go, and answer nobody meanwhile. So such commands have costs, counted from what they go through. The first of a batch
  is done in any case; others that do not fit into a quarter of a second with it are told `-BUSY`, are certainly not done, and
  may be sent again (a SOFA.ONCE with the same id). A transaction is refused as a whole, but what it makes long by its own
  first commands fails alone. What would take more than about ten seconds is refused with an error: do it in parts. In a
  transaction reads of much are bounded in the same way.
- **SLOWLOG, LATENCY, INFO commandstats** are those of the asked node and of its own clients. What a client sends together is
  timed together and counts in equal parts. Only execution is timed, not the way to the disks of a majority.
- **CLIENT, SHUTDOWN** concern the asked node and its clients. What a client has under way when it is killed is answered
  before its connection ends.
- **HELP** of the commands that have subcommands is written from the table of this page.
- **COMMAND INFO, DOCS** tell no tips and no arguments.
- **AUTH**: there is the user `default`. Any of a node's passwords will do. Without one, clients on other machines are told
  `-DENIED` (`serve --protected-mode`).
- **SENTINEL** is answered by every node: the leader is the `master` of the service that `serve --service-name` names, the
  other members are its `replicas`, and all nodes are Sentinels. Each publishes `+switch-master` when it learns of another
  leader.
- **PUBLISH, SPUBLISH** go through the log: subscribers of all nodes hear all messages in one order. The reply is how many
  hear it on this node; in a script it is 0. Not in SOFA.ONCE and SOFA.FENCED (replies vary). A publisher that listens is
  answered first. What a batch publishes has 256 MiB at most. A node that goes on from another's snapshot skips what was said
  meanwhile.
- **SUBSCRIBE** and its kin wait, as reads do, until the node knows what was acknowledged before; where a read
  would be refused, they begin all the same. PUBSUB tells of one node. A connection may have 10,000
  subscriptions, a channel's name 4,096 bytes; a subscriber that leaves more than 8 MiB unread is cut off. Channels of
  SSUBSCRIBE are channels like others, with names of their own.
- **Keyspace notifications** are each node's own setting, and tell what any node's clients did. There are no events of
  reads (`m`), evictions (`e`) and modules (`d`). A node tells of the first million events of a batch.
- **SOFA.INFO** returns what a node knows of itself and its cluster as JSON; `sofadb status` shows it.
- **SOFA.EXPLAIN** returns sentences: what the node and its cluster wait for now. It is answered without a quorum.""".splitlines()


def messages_page() -> str:
    """What replicas say, what they write down, and what has to be on disk first."""
    lines = [
        "# Messages and records",
        "",
        "Written by `make docs` from `src/sofadb/paxos/messages.py` and `records.py`. Sections are those of *Paxos Made Simple*.",
        "",
        "## What replicas say to one another",
        "",
        "| message | carries | meaning |",
        "| --- | --- | --- |",
    ]
    lines += [_row(kind) for kind in get_args(messages.Message)]
    lines += ["", "## What an acceptor writes to stable storage", "", "| record | holds | meaning |"]
    lines += ["| --- | --- | --- |"]
    lines += [_row(kind) for kind in get_args(records.Record)]
    return "\n".join(lines) + "\n"


def _row(kind: type) -> str:
    assert is_dataclass(kind)
    names = ", ".join(f"`{field.name}`" for field in fields(kind))
    meaning = re.sub(r"\s+", " ", inspect.getdoc(kind) or "")
    return f"| `{kind.__name__}` | {names} | {meaning} |"


def laboratory_page() -> str:
    """What the laboratory can do, and what it looks for."""
    judged = [
        (f"`{name}`", inspect.getdoc(function) or "")
        for name, function in vars(invariants).items()
        if inspect.isfunction(function) and function.__module__ == invariants.__name__ and name not in ROUTING
    ]
    faults = [
        (f"{kind} ({nodes} nodes or more)" if nodes > 1 else kind, inspect.getdoc(COURSES[kind]) or "")
        for kind, (_, nodes) in KINDS.items()
    ]
    mischief = ", ".join(kind.removeprefix("message ") for kind in MISCHIEF)
    lines = [LABORATORY]
    lines += _section("What is judged after every step", "", judged)
    lines += _section(
        "What is judged of a run", "", [(f"`{n}`", text) for n, text in world.JUDGED_HERE.items()]
    )
    lines += _section(
        "Faults", f"And any message between nodes may be {mischief} (however old it is).", faults
    )
    lines += _section(
        "Where the unlikely may be chosen", "A quarter of these in each world.", list(POINTS.items())
    )
    sabotages = [(f"`{each.name}`", each.about) for each in SABOTAGES.values()]
    lines += _section("Sabotages", "Ways to break the database that the hunt must find.", sabotages)
    explored = [(f"`{case.name}`", case.about) for case in cases.CASES.values()]
    lines += _section("The explorer's cases", "", explored)
    return "\n".join(lines)


ROUTING = ("record_became_stable", "message_leaves", "value_was_applied")
"""Functions of `invariants` that only call others."""


def _section(title: str, about: str, rows: list[tuple[str, str]]) -> list[str]:
    lines = [f"## {title}", ""]
    if about:
        lines += [about, ""]
    lines += ["| | |", "| --- | --- |"]
    return [*lines, *(f"| {name} | {' '.join(text.split())} |" for name, text in rows), ""]


LABORATORY = """\
# The laboratory

The lists on this page are written by `make docs` from the code.

    sofadb hunt                     150 worlds on all cores; exit 1 and a seed if anything is violated
    sofadb hunt --minutes 60        as long as one likes (`make soak`)
    sofadb replay SEED              the story of one world, message by message; --shrink looks for a simpler one
    sofadb hunt --sabotage NAME     breaks the database first; --list-sabotages names the ways
    sofadb explore                  every interleaving of small cases of the core
    sofadb check FILE               is this history linearizable?
    make spec                       the specification in TLA+, checked by TLC

**What runs.** The production code: core, journal, node, peers, server. `sim/loop.py` gives each simulated process an event
loop, all of them one clock; `sim/network.py` is their TCP, `sim/disk.py` their disks, `sim/host.py` their clocks and disk
threads. There is no second implementation of anything that is judged; but `SimulatedWriter` says when a block is written (the
writing is production's), and `SimulatedDisk` stands for `DiskFiles`, so locks and real files have their tests elsewhere.
Hours pass in seconds, and a seed is a run, byte for byte, on any machine.

**What a seed means.** `sim/plan.py` draws a world from it: 1, 3, 5 or 7 nodes, sizes and windows, a mood (calm, rough or
brutal), faults with their times, rates of mischief on messages, a quarter of the points where the unlikely may be chosen.
Clients work all the while (`sim/clients.py`): registers, lists in transactions, a bank, values that expire. In most worlds
members come, go and are replaced, directories are lost and begun anew, snapshots rot. In the end only a random quorum heals,
of every configuration that is or may come to be in force, and the rest stays broken; that quorum must finish everything asked of
it, and the clients' histories must stand. While a change of members is still wanted, all that can heals, and whoever is wanted
must come to vote: a leader counts for a moment on those who have just gone, and may then change more than the rest can bear.

**What it counts.** How often each fault struck, and how often that mattered: changed what happened next. A planned fault that
never strikes fails the run.

**The specification.** `spec/SofaPaxos.tla` says in TLA+ what the core may do; TLC visits small worlds of it whole, and, with
one rule at a time switched off, must find the harm. Runs of the code are written down step by step (`sim/conformance.py`), and
TLC says whether the specification allows them.

**What it has not found.** Two errors of deposed leaders, found by reading and kept as stories in
`tests/paxos/test_paxos_deposed.py`, were put back for the hunt to find: in 500 worlds it did not. They need seven nodes, or a
crash, and answers that come just late enough.

**In your own tests.** `sofadb.testing` offers the same clusters to any program's tests, as a fixture of pytest.
"""


def main() -> None:
    """Write the pages, or check them."""
    pages = {
        "commands.md": commands_page(),
        "messages.md": messages_page(),
        "laboratory.md": laboratory_page(),
    }
    stale = [name for name, text in pages.items() if not _is(DOCS / name, text)]
    if "--check" in sys.argv[1:]:
        sys.exit(f"out of date, run `make docs`: {', '.join(stale)}" if stale else 0)
    for name, text in pages.items():
        (DOCS / name).write_text(text)


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    main()
