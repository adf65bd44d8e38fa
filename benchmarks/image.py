"""Measure what it costs to take an image of the database and to load one.

    python benchmarks/image.py [--keys 1000000] [--bytes 256]

In one process, without a cluster. Between two pieces some keys are changed, as in a busy node. The longest step is what clients
would notice; the garbage collector is left on, as it is in a node.
"""

from __future__ import annotations

import argparse
import resource
import timeit
from collections.abc import Callable
from time import perf_counter

from sofadb.database.database import Database
from sofadb.database.keyspace import Keyspace
from sofadb.database.loader import Loader
from sofadb.database.locks import LOCKS_MAX
from sofadb.database.once import IDS_MAX

CHANGED_PER_PIECE = 50
NOW = 1_700_000_000_000


def timed(call: Callable[[], object]) -> float:
    """How long it took (ms)."""
    begin = perf_counter()
    call()
    return (perf_counter() - begin) * 1000


def memory() -> float:
    """What the process has taken at most so far (MiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def filled(keys: int, size: int) -> Database:
    """So many keys, every tenth of them with an expiry, and as many ids and locks as there may be."""
    database = Database()
    database.begin(1, NOW)
    keyspace = database.keyspaces[0]
    for number in range(keys):
        key = b"key:%010d" % number
        keyspace.set(key, b"%0*d" % (size, number))
        if number % 10 == 0:
            keyspace.expire_at(key, NOW + 10**9 + number)
    for number in range(IDS_MAX):
        database.shared.once.remember(b"id:%010d" % number, 1, number)
    for number in range(LOCKS_MAX):
        database.shared.locks.take(b"lock:%010d" % number, NOW + 10**9, 1)
    return database


def take(database: Database, keys: int, size: int, changed_per_piece: int) -> list[bytes]:
    """Print what an image costs; returns its pieces."""
    keyspace = database.keyspaces[0]
    before, pieces, steps, changed = memory(), list[bytes](), list[float](), 0
    begin = perf_counter()
    image = database.image()
    begun = (perf_counter() - begin) * 1000
    making = image.pieces()
    while True:
        begin = perf_counter()
        piece = next(making, None)
        steps.append((perf_counter() - begin) * 1000)
        if piece is None:
            break
        pieces.append(piece)
        for _ in range(changed_per_piece):
            changed += 1
            keyspace.set(b"key:%010d" % (changed * 7919 % keys), b"%0*d" % (size, changed))
    steps.sort()
    print(
        f"image, {changed_per_piece} keys changed after each piece: begun in {begun:.1f} ms, {len(pieces):,} pieces, "
        f"{sum(map(len, pieces)) / 2**20:.0f} MiB, {sum(steps) / 1000:.2f} s in all; a step takes "
        f"{steps[len(steps) // 2]:.2f} ms, 99 of 100 at most {steps[len(steps) * 99 // 100]:.2f} ms, the longest "
        f"{steps[-1]:.2f} ms; {memory() - before:.0f} MiB more memory, the pieces included"
    )
    return pieces


def load(pieces: list[bytes]) -> Database:
    """Print what loading costs."""
    loader = Loader()
    steps = sorted(timed(lambda piece=piece: loader.feed(piece)) for piece in pieces)
    print(f"loaded in {sum(steps) / 1000:.2f} s; the longest step takes {steps[-1]:.2f} ms")
    return loader.finish()


def set_ns(keyspace: Keyspace, size: int) -> float:
    """What one SET of a key that is there costs (ns)."""
    value = bytes(size)
    times = timeit.repeat(lambda: keyspace.set(b"key:0000000001", value), number=200_000, repeat=5)
    return min(times) / 200_000 * 1e9


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=256)
    options = parser.parse_args()
    for size in (16, 256, 4096):
        print(f"SET of {size} bytes in the keyspace: {set_ns(Database().keyspaces[0], size):.0f} ns")
    database = filled(options.keys, options.bytes)
    print(f"{options.keys:,} keys of {options.bytes} bytes: {memory():.0f} MiB")
    print(f"digest: {timed(database.digest) / 1000:.2f} s")
    take(database, options.keys, options.bytes, 0)
    pieces = take(database, options.keys, options.bytes, CHANGED_PER_PIECE)
    load(pieces)


if __name__ == "__main__":
    main()
