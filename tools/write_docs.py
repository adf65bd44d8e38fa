"""Write those pages of docs/ that the code itself knows: commands.md from the table, messages.md from the messages.

python tools/write_docs.py           write them
python tools/write_docs.py --check   say which are out of date, and exit with 1
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args

from sofadb.database.table import TABLE, Command, Route
from sofadb.paxos import messages, records
from sofadb.server import commands as commands  # Fills the table.

DOCS = Path(__file__).parents[1] / "docs"
ROUTES = {
    Route.READ: "read: on the asked node, once that is known to be fresh enough",
    Route.WRITE: "write: through the sequence, on a majority's disks",
    Route.CONNECTION: "connection: between client and node",
}


def commands_page() -> str:
    """Every command that a node takes, by group."""
    groups: dict[str, list[Command]] = defaultdict(list)
    for command in TABLE.values():
        groups[command.group] += list(command.subcommands.values()) or [command]
    lines = [
        "# Commands",
        "",
        "Written by `make docs` from the one table of commands (`src/sofadb/database/table.py`). Replies, arities and error",
        "texts are those of Redis 7.0; the tests compare them with a real one. What differs is said below.",
        "",
    ]
    for group in sorted(groups):
        lines += [f"## {group}", "", "| command | is a | what it does |", "| --- | --- | --- |"]
        for command in sorted(groups[group], key=lambda each: each.name):
            name = command.name.replace("|", " ").upper()
            lines.append(f"| `{name}` | {command.route.value} | {command.summary.rstrip('.')} |")
        lines.append("")
    lines += ["A " + text + "." for text in ROUTES.values()]
    lines += ["", *DIFFERENCES]
    return "\n".join(lines) + "\n"


DIFFERENCES = """\
## What differs from Redis

- **Time** is the cluster's: `TIME`, and what `EXPIRE` and its kin count from, is chosen with each batch and keeps within half a
  second of the median clock of a majority. `OBJECT IDLETIME` and its kin are not there.
- **Sizes**: a value has 64 MiB at most (Redis: 512), a request 128 MiB, MULTI queues 64 MiB, a pattern has 4,096 bytes.
- **SCAN** cursors are bucket numbers that mean the same on every node and after a restart. A call returns whole buckets.
- **WATCH** may, rarely, see a change of a key that does not exist when another such key was deleted (they share a few thousand
  counters). It never misses one.
- **Errors of our own**: `-NOREPLICAS` (certainly not done) and `-UNCERTAIN` (nobody can know).
- **INFO, ROLE**: the leader is called `master` and the others `slave`. Offsets are instances.
- **CONFIG SET** is refused: a node is configured by the options of `sofadb serve`.
- **SOFA.INFO** returns what a node knows of itself and its cluster as JSON; `sofadb status` shows it.""".splitlines()


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


def main() -> None:
    """Write the pages, or check them."""
    pages = {"commands.md": commands_page(), "messages.md": messages_page()}
    stale = [name for name, text in pages.items() if not _is(DOCS / name, text)]
    if "--check" in sys.argv[1:]:
        sys.exit(f"out of date, run `make docs`: {', '.join(stale)}" if stale else 0)
    for name, text in pages.items():
        (DOCS / name).write_text(text)


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    main()
