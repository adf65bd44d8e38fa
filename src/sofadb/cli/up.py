"""`sofadb up`: a whole cluster on this machine, for trying out and for development."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from .client import Unreachable, ask

PEER_PORT_DISTANCE = 10_000
"""A node's peer port is its client port plus this."""
READY_TIMEOUT_S = 600.0
"""A long log takes a while to read back: about four seconds for a million writes."""
PATIENCE_S = 5.0
"""After this long a person is told what is waited for."""
STOP_TIMEOUT_S = 10.0


class Trouble(Exception):
    """The cluster cannot be brought up; the text says why."""


def bring_up(directory: Path, first_port: int, count: int) -> None:
    """Start `count` nodes and stay until Ctrl-C. Raises `Trouble`."""
    ports = {f"n{number + 1}": first_port + number for number in range(count)}
    cluster = ",".join(f"{node}=127.0.0.1:{port + PEER_PORT_DISTANCE}" for node, port in ports.items())
    directory.mkdir(parents=True, exist_ok=True)
    running: dict[str, subprocess.Popen[bytes]] = {}
    # Also where a shell has put us in the background and told us to ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        for node, port in ports.items():
            running[node] = _start(node, port, cluster, directory)
        _wait_until_ready(running, ports, directory)
        _greet(directory, ports)
        _watch(running, directory)
    except KeyboardInterrupt:
        print("\nstopping ...", flush=True)
    finally:
        _stop(running)
    print("stopped; the data is kept.")


def _start(node: str, port: int, cluster: str, directory: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sofadb", "serve", "--id", node, "--dir", str(directory / node)]
    command += ["--listen", f"127.0.0.1:{port}", "--peer-listen", f"127.0.0.1:{port + PEER_PORT_DISTANCE}"]
    command += ["--cluster", cluster]
    with (directory / f"{node}.log").open("ab") as log:
        # A session of its own: Ctrl-C is ours to pass on, when the time has come.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _wait_until_ready(
    running: dict[str, subprocess.Popen[bytes]], ports: dict[str, int], directory: Path
) -> None:
    began = time.monotonic()
    is_told = False
    waiting = dict(ports)
    while waiting:
        for node, process in running.items():
            if process.poll() is not None:
                raise Trouble(f"{node} did not start: {_last_line(directory / f'{node}.log')}")
        for node, port in list(waiting.items()):
            if _has_leader(port):
                del waiting[node]
        waited = time.monotonic() - began
        if waited > READY_TIMEOUT_S:
            raise Trouble(f"{', '.join(waiting)} not ready after {waited:.0f} s; see {directory}/*.log")
        if waited > PATIENCE_S and waiting and not is_told:
            print(f"waiting for {', '.join(waiting)}, perhaps reading back a long log ...", flush=True)
            is_told = True
        time.sleep(0.02)


def _has_leader(port: int) -> bool:
    try:
        answer = ask("127.0.0.1", port, "SOFA.INFO", timeout_s=0.5)
        return isinstance(answer, str) and bool(json.loads(answer)["leader"])
    except (Unreachable, ValueError, KeyError):
        return False


def _greet(directory: Path, ports: dict[str, int]) -> None:
    first, last = min(ports.values()), max(ports.values())
    which = f"port {first}" if first == last else f"ports {first}-{last}"
    nodes = f"{len(ports)} node" + "s" * (len(ports) > 1)
    print(f"SofaDB is ready: {nodes} on 127.0.0.1, {which}; data in {directory}.")
    print(f"  connect    redis-cli -p {first}          (or any Redis client; any node takes any command)")
    print(f"  try        redis-cli -p {first} set a 1; redis-cli -p {last} get a")
    print(f"  look       {_myself()} status --port {first}")
    print("  stop       Ctrl-C", flush=True)


def _myself() -> str:
    """How this command was called, as one can call it again."""
    called = Path(sys.argv[0])
    return f"{sys.executable} -m sofadb" if called.name == "__main__.py" else str(called)


def _watch(running: dict[str, subprocess.Popen[bytes]], directory: Path) -> None:
    """Stay as long as anything runs; say so when a node stops."""
    alive = dict(running)
    while alive:
        for node, process in list(alive.items()):
            code = process.poll()
            if code is not None:
                del alive[node]
                how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
                line = "" if code < 0 else f": {_last_line(directory / f'{node}.log')}"
                print(f"{node} stopped ({how}){line}", flush=True)
        time.sleep(0.2)
    raise Trouble("no node is left")


def _stop(running: dict[str, subprocess.Popen[bytes]]) -> None:
    for process in running.values():
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for process in running.values():
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_line(path: Path) -> str:
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 4096))
        lines = log.read().decode(errors="replace").splitlines()
    return lines[-1] if lines else "it left no word"
