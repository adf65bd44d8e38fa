"""SLOWLOG and LATENCY: what took long on this node (`usage`)."""

from __future__ import annotations

from sofadb.database.arguments import parse_integer
from sofadb.database.replies import OK, Reply, ReplyError, Verbatim
from sofadb.database.table import Route, command, lookup

from ..connection import Connection
from ..help import declare_help
from ..usage import Figures, Spikes

CONNECTION = Route.CONNECTION


# SLOWLOG


@command(
    "slowlog",
    -2,
    CONNECTION,
    "",
    group="server",
    since="2.2.12",
    summary="What concerns slow commands",
    complexity="Depends on subcommand.",
)
def slowlog(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("SLOWLOG has subcommands")


_SLOWLOG_FLAGS = "admin loading stale"


@command(
    "slowlog|get",
    -2,
    CONNECTION,
    _SLOWLOG_FLAGS,
    group="server",
    since="2.2.12",
    summary="The latest slow commands of this node, ten or as many as asked for (-1: all)",
    complexity="O(N)",
    reply_is_large=True,
    differs="What came together is timed together: an entry is a run, of which the first command is shown. "
    "Only execution is timed, not the way to the disks of a majority",
)
def slowlog_get(connection: Connection, args: list[bytes]) -> Reply:
    if len(args) > 3:
        raise ReplyError(
            f"ERR unknown subcommand or wrong number of arguments for '{args[1].decode()}'. Try SLOWLOG HELP."
        )
    count = 10
    if len(args) == 3:
        problem = "ERR count should be greater than or equal to -1"
        count = parse_integer(args[2], problem)
        if count < -1:
            raise ReplyError(problem)
    slow = list(reversed(connection.state.usage.slow))
    return [
        [each.number, each.at, each.usec, list(each.words), each.address.encode(), each.name]
        for each in (slow if count == -1 else slow[:count])
    ]


@command(
    "slowlog|len",
    2,
    CONNECTION,
    _SLOWLOG_FLAGS,
    group="server",
    since="2.2.12",
    summary="How many slow commands are remembered",
)
def slowlog_len(connection: Connection, args: list[bytes]) -> Reply:
    return len(connection.state.usage.slow)


@command(
    "slowlog|reset",
    2,
    CONNECTION,
    _SLOWLOG_FLAGS,
    group="server",
    since="2.2.12",
    summary="Forget them",
    complexity="O(N)",
)
def slowlog_reset(connection: Connection, args: list[bytes]) -> Reply:
    connection.state.usage.slow.clear()
    return OK


declare_help("slowlog", group="server", since="6.2.0")


# LATENCY


@command(
    "latency",
    -2,
    CONNECTION,
    "",
    group="server",
    since="2.8.13",
    summary="What concerns spikes of latency",
    complexity="Depends on subcommand.",
)
def latency(connection: Connection, args: list[bytes]) -> Reply:
    raise AssertionError("LATENCY has subcommands")


_LATENCY_FLAGS = "admin noscript loading stale"


@command(
    "latency|latest",
    2,
    CONNECTION,
    _LATENCY_FLAGS,
    group="server",
    since="2.8.13",
    summary="The latest spike of each event: its time, how long it was, and the longest there was",
    differs="There is one event, command: a run that took as long as latency-monitor-threshold says",
)
def latency_latest(connection: Connection, args: list[bytes]) -> Reply:
    return [
        [event, *spikes.samples[-1], spikes.longest_ms]
        for event, spikes in connection.state.usage.spikes.items()
    ]


@command(
    "latency|history",
    3,
    CONNECTION,
    _LATENCY_FLAGS,
    group="server",
    since="2.8.13",
    summary="The times of an event's latest spikes, and how long each was",
)
def latency_history(connection: Connection, args: list[bytes]) -> Reply:
    spikes = connection.state.usage.spikes.get(args[2].lower(), Spikes())
    return [list(sample) for sample in spikes.samples]


@command(
    "latency|reset",
    -2,
    CONNECTION,
    _LATENCY_FLAGS,
    group="server",
    since="2.8.13",
    summary="Forget the spikes of events, or of all",
)
def latency_reset(connection: Connection, args: list[bytes]) -> Reply:
    spikes = connection.state.usage.spikes
    events = [event.lower() for event in args[2:]] or list(spikes)
    return sum(spikes.pop(event, None) is not None for event in events)


_GRAPH_COLUMNS = 60
_GRAPH_ROWS = 4


@command(
    "latency|graph",
    3,
    CONNECTION,
    _LATENCY_FLAGS,
    group="server",
    since="2.8.13",
    summary="An event's latest spikes as a picture",
    differs="Another picture",
)
def latency_graph(connection: Connection, args: list[bytes]) -> Reply:
    event = args[2].lower()
    spikes = connection.state.usage.spikes.get(event)
    if spikes is None:
        raise ReplyError(f"ERR No samples available for event '{args[2].decode(errors='surrogateescape')}'")
    times = [ms for _, ms in spikes.samples][-_GRAPH_COLUMNS:]
    highest = max(times)
    rows = [
        "".join("#" if ms * _GRAPH_ROWS > row * highest else " " for ms in times).rstrip()
        for row in reversed(range(_GRAPH_ROWS))
    ]
    shown = event.decode(errors="replace")
    head = f"{shown}: the latest {len(times)} spikes, {min(times)} to {highest} ms (ever: {spikes.longest_ms} ms)"
    return Verbatim("\n".join([head, "-" * len(times), *rows, ""]).encode())


@command(
    "latency|doctor",
    2,
    CONNECTION,
    _LATENCY_FLAGS,
    group="server",
    since="2.8.13",
    summary="What the spikes of latency look like, in sentences",
)
def latency_doctor(connection: Connection, args: list[bytes]) -> Reply:
    state = connection.state
    if not state.settings.spike_ms:
        return Verbatim(
            b'Spikes are not looked for. "CONFIG SET latency-monitor-threshold <milliseconds>" has this node do so.\n'
        )
    lines = [
        f"{event.decode()}: {len(spikes.samples)} spikes, the longest of {spikes.longest_ms} ms. "
        "SLOWLOG GET tells which commands took long."
        for event, spikes in state.usage.spikes.items()
    ] or [f"No command has taken {state.settings.spike_ms} ms."]
    lines.append("What is waited for between nodes and disks is told by SOFA.EXPLAIN.")
    return Verbatim("\n".join(lines).encode() + b"\n")


@command(
    "latency|histogram",
    -2,
    CONNECTION,
    _LATENCY_FLAGS,
    group="server",
    since="7.0.0",
    summary="How often commands took up to so many microseconds",
    complexity="O(N)",
    reply_is_large=True,
    differs="What came together is timed together, and counts in equal parts",
)
def latency_histogram(connection: Connection, args: list[bytes]) -> Reply:
    figures = connection.state.usage.figures
    if len(args) == 2:
        chosen = list(figures.values())
    else:
        names = [name for word in args[2:] for name in _names(word)]
        chosen = [figures[name] for name in dict.fromkeys(names) if name in figures]
    return {each.command.name.encode(): _histogram(each) for each in chosen if each.calls}


def _names(word: bytes) -> list[str]:
    """The command that is meant, or its subcommands."""
    container, _, sub = word.partition(b"|")
    found = lookup(container)
    if found is None:
        return []
    if sub:
        each = found.subcommands.get(sub.upper())
        return [] if each is None else [each.name]
    return [found.name, *(each.name for each in found.subcommands.values())]


def _histogram(figures: Figures) -> Reply:
    total, counts = 0, dict[Reply, Reply]()
    for power, count in enumerate(figures.buckets):
        total += count
        if count:
            counts[1 << power] = total
    return {b"calls": total, b"histogram_usec": counts}


declare_help("latency", group="server", since="2.8.13")
