"""Where it is measured: the machine, and the file system of the data."""

from __future__ import annotations

import os
import platform
from pathlib import Path

IN_MEMORY = {"tmpfs", "ramfs"}


class WrongPlace(Exception):
    """Nothing that is measured there would mean anything; the text says why."""


def file_system(directory: Path, mounts: str | None = None) -> str:
    """The type of the one that holds a directory, as the lines of /proc/self/mounts tell (`mounts` is for tests)."""
    lines = (Path("/proc/self/mounts").read_text() if mounts is None else mounts).splitlines()
    found = [words[1:3] for words in map(str.split, lines) if directory.resolve().is_relative_to(words[1])]
    # Of two on the same directory the later one lies on top.
    return max(enumerate(found), key=lambda each: (len(Path(each[1][0]).parts), each[0]))[1][1]


SECTOR_BYTES = 512


def written(directory: Path) -> int:
    """So many bytes have reached the disk below a directory so far, whoever wrote them. Raises `OSError` if that cannot be told.

    The kernel also counts for each process, but there whole folios of the page cache, of which only parts are written.
    """
    os.sync()
    device = directory.stat().st_dev
    counts = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()
    return int(counts[6]) * SECTOR_BYTES


def refuse_memory(directory: Path) -> None:
    """Raises `WrongPlace` where a sync costs nothing."""
    if (kind := file_system(directory)) in IN_MEMORY:
        raise WrongPlace(f"{directory} is in memory ({kind}), where syncs cost nothing; give another --dir")


def machine(directory: Path) -> dict[str, str]:
    """What a reader has to know to make sense of the figures."""
    models = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processors": f"{os.cpu_count()} of {', '.join(sorted(models)) or platform.machine()}",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "file system": file_system(directory),
    }
