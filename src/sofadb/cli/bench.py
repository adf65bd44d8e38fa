"""`sofadb bench`: how fast a cluster is, seen from here.

It writes keys of its own, `bench:` and a word that nobody else has, with an expiry, and deletes them in the end.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from sofadb.load.generator import Address, Generator, NobodyAnswers
from sofadb.load.latencies import PARTS, Figures
from sofadb.load.requests import Make, command, each_deleted, each_set, gets, sets
from sofadb.load.speakers import Resp

from .addresses import parse_address
from .client import Unreachable, ask
from .failing import fail
from .passwords import NoPassword, read_passwords

WARM_UP_S = 1.0
SECONDS_MAX = 3_600.0
DATA_MAX = 1 << 30
"""So many bytes of values are written at most: nodes keep all data in memory."""
OPEN_DEPTH = 1_000
"""Unanswered requests of a connection, in an open loop."""
EXPIRY_S = 600
"""Keys that could not be deleted are gone so long after the measurements should have ended."""
FILL_CONNECTIONS, FILL_DEPTH = 10, 16


class Operation(StrEnum):
    """What is asked."""

    SET = "set"
    GET = "get"


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be measured."""

    addresses: Sequence[Address]
    connections: int
    depth: int
    size: int
    keys: int
    seconds: float
    rate: float | None
    """Requests a second in an open loop; a closed loop if None."""
    prefix: bytes
    greeting: bytes

    @property
    def expiry_s(self) -> int:
        return EXPIRY_S + int(2 * (self.seconds + WARM_UP_S))

    def generator(self, make: Callable[[int], Make], connections: int, depth: int) -> Generator:
        """`make` is told the number of the connection that its requests are for."""
        numbers = iter(range(1 << 60))
        return Generator(lambda: Resp(make(next(numbers)), self.greeting), self.addresses, connections, depth)


def bench(
    port: Annotated[int, typer.Option(help="The client port of any node.")] = 7001,
    host: Annotated[str, typer.Option(help="The host of that node.")] = "127.0.0.1",
    all_nodes: Annotated[
        bool, typer.Option("--all", help="Spread the connections over all members, not only that node.")
    ] = False,
    operation: Annotated[Operation | None, typer.Option(help="Only this one; both by default.")] = None,
    connections: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
    pipeline: Annotated[int, typer.Option(min=1, max=1_000, help="Requests in flight on each.")] = 1,
    size: Annotated[int, typer.Option("--bytes", min=1, max=1 << 20, help="Of a value.")] = 256,
    keys: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many are written and read.")] = 10_000,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=SECONDS_MAX, help="How long each operation is measured.")
    ] = 5,
    rate: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=1_000_000,
            help="Ask so many times a second, whether or not answers come, and count each time from when the request was "
            "due; as fast as answers come if not given.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Measure a running cluster: rates, and percentiles of how long answers take. Its keys are gone afterwards."""
    if keys * size > DATA_MAX:
        fail(
            f"{keys:,} keys of {size:,} bytes are {keys * size / 2**30:.1f} GiB, more than is written here at most (1 GiB)",
            2,
        )
    prefix = f"bench:{secrets.token_hex(4)}:"
    try:
        passwords = read_passwords()
        ask(host, port, "PING")
        addresses = _members(host, port) if all_nodes else [(host, port)]
        greeting = command(b"AUTH", passwords[0]) if passwords else b""
        load = Load(addresses, connections, pipeline, size, keys, seconds, rate, prefix.encode(), greeting)
        if not as_json:
            how = f"at {rate:,.0f} requests/s" if rate is not None else f"{pipeline} in flight on each"
            where = ", ".join(f"{host}:{port}" for host, port in addresses)
            print(
                f"{connections} connections to {where}, {how}; {keys:,} keys {prefix}*, {size} bytes each",
                flush=True,
            )
        measured = _measured(load, [operation] if operation else list(Operation))
    except (Unreachable, NobodyAnswers, NoPassword) as problem:
        fail(f"no node answers: {problem}")
    if as_json:
        print(json.dumps({name: _as_json(figures) for name, figures in measured.items()}))
    else:
        Console().print(_table(measured))
    raise typer.Exit(1 if any(each.errors or each.unanswered for each in measured.values()) else 0)


def _measured(load: Load, operations: Sequence[Operation]) -> dict[str, Figures]:
    measured: dict[str, Figures] = {}
    every_key = each_set(load.prefix, load.keys, load.size, load.expiry_s)
    try:
        with load.generator(lambda _: every_key, FILL_CONNECTIONS, FILL_DEPTH) as generator:
            generator.some(load.keys)
        for operation in operations:
            measured[operation.value] = _measure(load, operation)
    finally:
        _delete(load)
    return measured


def _measure(load: Load, operation: Operation) -> Figures:
    def make(number: int) -> Make:
        if operation is Operation.GET:
            return gets(load.prefix, load.keys, number)
        return sets(load.prefix, load.keys, load.size, number, load.expiry_s)

    depth = load.depth if load.rate is None else OPEN_DEPTH
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[speed]}")
    with (
        load.generator(make, load.connections, depth) as generator,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        task = progress.add_task(operation.value.upper(), total=load.seconds, speed="")

        def show(figures: Figures) -> None:
            speed = f"{figures.rate:,.0f} requests/s, {figures.errors} errors"
            progress.update(task, completed=figures.seconds, speed=speed)

        if load.rate is None:
            return generator.closed(load.seconds, WARM_UP_S, show)
        generator.open(load.rate, WARM_UP_S)
        return generator.open(load.rate, load.seconds, progress=show)


def _delete(load: Load) -> None:
    count, make = each_deleted(load.prefix, load.keys)
    try:
        with load.generator(lambda _: make, 1, FILL_DEPTH) as generator:
            errors = generator.some(count).errors
    except NobodyAnswers:
        errors = count
    if errors:
        fail(f"not all keys {load.prefix.decode()}* could be deleted; they expire within {load.expiry_s} s")


def _members(host: str, port: int) -> list[Address]:
    """Where all nodes take clients. Raises `Unreachable`."""
    try:
        members = json.loads(ask(host, port, "SOFA.INFO"))["members"]
        return [parse_address(each["client_address"]) for each in members]
    except (ValueError, TypeError, KeyError) as problem:
        raise Unreachable(f"{host}:{port} does not say who the members are: {problem}") from None


def _as_json(figures: Figures) -> dict[str, float | dict[str, float]]:
    return {
        "rate": figures.rate,
        "answers": figures.answers,
        "errors": figures.errors,
        "unanswered": figures.unanswered,
        "longest_silence_ms": 1000 * figures.silence,
        "ms": figures.percentiles_ms(),
    }


def _table(measured: dict[str, Figures]) -> Table:
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption="Times in ms.", caption_justify="left"
    )
    table.add_column("")
    for heading in ("requests/s", *PARTS, "errors", "no answer"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, figures in measured.items():
        times = (f"{value:.2f}" for value in figures.percentiles_ms().values())
        counts = (f"{count:,}" for count in (figures.errors, figures.unanswered))
        table.add_row(name.upper(), f"{figures.rate:,.0f}", *times, *counts)
    return table
