"""PySyncObj: processes with a journal each. The one that leads makes the load, too: there is no protocol for clients."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .base import HOST, WARM_UP_S, Load, Missing, System

PROGRAM = Path(__file__).parents[1] / "peers" / "pysyncobj_node.py"


class PySyncObj(System):
    """Members have one port each."""

    name, title, ports = "pysyncobj", "PySyncObj", 70
    durability = "none against a loss of power: the journal is in memory that the kernel writes when it likes"
    asked_by = "a loop inside the member that leads"
    is_piped = True

    def version(self) -> str:
        if importlib.util.find_spec("pysyncobj") is None:
            raise Missing("PySyncObj is not installed (the extra `bench`)")
        return importlib.metadata.version("pysyncobj")

    def port(self, name: str) -> int:
        return self.first_port + self.names.index(name)

    def command(self, name: str) -> Sequence[str]:
        addresses = [
            f"{HOST}:{self.port(each)}" for each in (name, *(each for each in self.names if each != name))
        ]
        return [
            sys.executable,
            str(PROGRAM),
            addresses[0],
            str(self.directory / f"{name}.journal"),
            *addresses[1:],
        ]

    def ask(self, name: str, **wish: Any) -> Any:
        """Have a member do something."""
        process = self.processes[name]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(wish).encode() + b"\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    def leader(self) -> str:
        leaders = {self.ask(name, do="leader")["leader"] for name in self.names}
        by_address = {f"{HOST}:{self.port(name)}": name for name in self.names}
        return by_address.get(leaders.pop(), "") if len(leaders) == 1 else ""

    def fill(self, size: int) -> None:
        self.ask(
            self.wait_for_leader(),
            do="closed",
            operation="SET",
            in_flight=50,
            size=size,
            seconds=1,
            warm_up=0,
        )

    def closed(self, load: Load, seconds: float, port: int) -> dict[str, float]:
        wish = {"operation": load.operation, "in_flight": load.in_flight, "size": load.size}
        told = self.ask(self.wait_for_leader(), do="closed", seconds=seconds, warm_up=WARM_UP_S, **wish)
        return dict(told)

    def open(
        self, operation: str, rate: float, seconds: float, connections: int = 50, size: int = 256
    ) -> dict[str, float]:
        """As it is in `System`, but for connections, of which there are none."""
        told = self.ask(
            self.wait_for_leader(), do="open", operation=operation, rate=rate, size=size, seconds=seconds
        )
        return dict(told)
