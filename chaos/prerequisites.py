"""What the machine must have: root, network namespaces, mounts, and some programs and libraries; what is missing is installed.

This module imports nothing that might have to be installed first.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

EXIT_NOT_HERE = 77
"""It cannot be tried on this machine (what test programs return for "skipped")."""
PROGRAMS = {
    "ip": "iproute2",
    "nft": "nftables",
    "iptables-legacy": "iptables",
    "strace": "strace",
    "gcc": "gcc",
    "mount": "mount",
}
C_HEADER = Path("/usr/include/stdlib.h")
QUEUE_HEADER = Path("/usr/include/libnetfilter_queue/libnetfilter_queue.h")
CLOCK = Path(__file__).parents[1] / "build" / "clock.so"
"""The compiled `clock.c`."""
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


def prepare() -> None:
    """Install what is missing, and compile the clock. Ends the process if it cannot be done here."""
    if sys.platform != "linux" or os.geteuid() != 0:
        _not_here("it needs Linux and root, for network namespaces")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not C_HEADER.exists():
        missing.append("libc6-dev")
    has_queue = importlib.util.find_spec("netfilterqueue") is not None
    if not has_queue:
        missing.append("python3-dev")
        if not QUEUE_HEADER.exists():
            missing.append("libnetfilter-queue-dev")
    if missing:
        _install_packages(missing)
    if not has_queue:
        print("installing NetfilterQueue", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        if subprocess.run([*pip, "-c", str(CONSTRAINTS), "NetfilterQueue"], check=False).returncode:
            _not_here("pip cannot install NetfilterQueue")
    trial = f"sofadb-trial-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", trial], capture_output=True, check=False).returncode:
        _not_here("network namespaces are not allowed (ip netns add fails)")
    subprocess.run(["ip", "netns", "delete", trial], check=True)
    with tempfile.TemporaryDirectory() as place:
        mount = ["mount", "-t", "tmpfs", "tmpfs", place]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            _not_here("file systems cannot be mounted (mount -t tmpfs fails)")
        subprocess.run(["umount", place], check=True)
    CLOCK.parent.mkdir(exist_ok=True)
    source = Path(__file__).with_name("clock.c")
    if subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", CLOCK, source, "-lm"], check=False).returncode:
        _not_here("gcc cannot compile chaos/clock.c")


def _install_packages(packages: list[str]) -> None:
    print(f"installing {', '.join(packages)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = shutil.which("apt-get") or _not_here(
        f"these are missing, and there is no apt-get: {', '.join(packages)}"
    )
    for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        command = [apt, "-qq", *words]
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:
            _not_here(f"apt-get cannot install {', '.join(packages)}")


def _not_here(why: str) -> str:
    print(f"make chaos cannot be run here: {why}", file=sys.stderr)
    raise SystemExit(EXIT_NOT_HERE)


if __name__ == "__main__":
    prepare()
