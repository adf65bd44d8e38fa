"""How much memory this node may use (CONFIG SET maxmemory), and what is not taken in when it uses more.

Nothing is ever evicted. As in a Redis with that policy, commands that may make the data grow are refused then, before they are
proposed: what has been chosen is executed by every replica, whatever memory it has. So the limit is one for asking, kept
by the node that is asked; for others it keeps it by telling them when it leads (`is_leader_full`).

Of a script nobody knows what it will do. One that says in its first line that it does not write, or that it may be run without
memory (`#!lua flags=allow-oom`), is run.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sofadb.database.commands.scripting import parse_script
from sofadb.database.replies import ReplyError
from sofadb.database.table import Command

if TYPE_CHECKING:
    from .state import ServerState

LOOK_S = 0.25
NO_MEMORY = ReplyError("OOM command not allowed when used memory > 'maxmemory'.")
NO_MEMORY_FOR_SCRIPT = ReplyError(
    "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'"
)


class MemoryWatch:
    """Looks at the memory of this process now and then."""

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self.is_above = False
        """Whether this node itself uses more than it may."""
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look often from now on, if there is a limit."""
        self.stop()
        if self.state.settings.memory_bytes_max:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look_again)

    def stop(self) -> None:
        """Look only when the guard does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self) -> None:
        self.look()
        self.start()

    def look(self) -> None:
        """See whether there is memory for more."""
        state = self.state
        limit = state.settings.memory_bytes_max
        self.is_above = bool(limit) and resident_bytes() > limit
        state.is_out_of_memory = self.is_above or state.is_leader_full()
        if state.is_out_of_memory:
            state.short_way.close()


def refusal(command: Command, args: list[bytes], scripts: Mapping[bytes, bytes]) -> ReplyError | None:
    """Why a command must not be done while there is no memory; None if it may be. `scripts` are those known, by their SHA1."""
    if "denyoom" in command.flags:
        return NO_MEMORY
    if command.name not in ("eval", "evalsha"):
        return None
    text = args[1] if command.name == "eval" else scripts.get(args[1].lower())
    try:
        may_grow = text is not None and parse_script(text).may_grow
    except ReplyError:
        return None  # It is not run, and will say why.
    return NO_MEMORY_FOR_SCRIPT if may_grow else None


def resident_bytes() -> int:
    """What this process has in memory."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:  # Not Linux: the peak is the best there is.
        return peak_bytes()


def peak_bytes() -> int:
    """The most that this process ever had in memory, as the system has noted it now and then."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def system_bytes() -> int:
    """What this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * resource.getpagesize()
