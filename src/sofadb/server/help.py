"""HELP of the commands that have subcommands: what the table says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sofadb.database.replies import Reply, Status
from sofadb.database.table import TABLE, Route, command

if TYPE_CHECKING:
    from .connection import Connection


def declare_help(container: str, *, group: str, since: str, types: str = "") -> None:
    """Declare HELP of a container that is declared already."""
    name = container.upper()

    def help_(connection: Connection, args: list[bytes]) -> Reply:
        lines = [f"{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
        for sub, each in sorted(TABLE[name.encode()].subcommands.items()):
            lines += [sub.decode(), f"    {each.summary}."]
        return [Status(line.encode()) for line in lines]

    command(
        f"{container}|help",
        2,
        Route.CONNECTION,
        "loading stale",
        group=group,
        since=since,
        types=types,
        summary="Say what there is",
    )(help_)
