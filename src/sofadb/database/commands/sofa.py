"""What Redis does not have: commands that are done at most once, locks whose late holders are turned down."""

from __future__ import annotations

from ..arguments import parse_integer
from ..budget import estimate
from ..keys import keys_behind
from ..keyspace import Keyspace
from ..locks import place_of
from ..replies import SYNTAX, Busy, Reply, ReplyError
from ..table import Command, Route, check_inner, command

ID_BYTES_MAX = 256
LOCK_NAME_BYTES_MAX = 1024
TTL_MS_MAX = 2**53
WAIT_MS_MAX = 3_600_000


# Once


def _check_id(args: list[bytes]) -> None:
    if not 1 <= len(args[1]) <= ID_BYTES_MAX:
        raise ReplyError(f"ERR an id has 1 to {ID_BYTES_MAX} bytes")


def _check_inner(args: list[bytes], at: int, refused: tuple[str, ...]) -> Command:
    inner = check_inner(args, at, (Route.READ, Route.WRITE), refused)
    if inner.replies_large(args[at:]) or inner.reply_varies:
        # Runs hold many replies at a time; and what is kept must be the same on every replica.
        outer = args[0].upper().decode()
        raise ReplyError(f"ERR {outer} cannot run '{inner.name}': its reply may be of any size, or vary")
    return inner


def _check_once(args: list[bytes]) -> Command:
    _check_id(args)
    return _check_inner(args, 2, ("sofa.once",))


def _cost_of_inner(inner: Command, keyspace: Keyspace, args: list[bytes]) -> int:
    cost = inner.cost_in_log or inner.cost
    return 0 if cost is None else estimate(cost, keyspace, args)


def _run(inner: Command, keyspace: Keyspace, args: list[bytes]) -> Reply:
    """A read pays here, as a write does itself: all replicas do it."""
    if inner.route is Route.READ:
        keyspace.shared.budget.pay(_cost_of_inner(inner, keyspace, args))
    return inner.function(keyspace, args)


def _cost_of_once(keyspace: Keyspace, args: list[bytes]) -> int:
    if args[1] in keyspace.shared.once.executions:
        return 0
    return _cost_of_inner(_check_once(args), keyspace, args[2:])


@command(
    "sofa.once",
    -3,
    Route.WRITE,
    "write denyoom movablekeys",
    group="sofa",
    summary="Run a command at most once for an id; repeat its reply ever after",
    complexity="That of the command",
    inspect=_check_once,
    find_keys=keys_behind(2),
    cost=_cost_of_once,
    pays_itself=True,
)
def once(keyspace: Keyspace, args: list[bytes]) -> Reply:
    table, id_ = keyspace.shared.once, args[1]
    execution = table.executions.get(id_)
    if execution is None:
        return table.remember(id_, keyspace.instance, _answer(_check_once(args), keyspace, args[2:]))
    if not execution.is_kept:
        raise ReplyError(
            f"ERR this was executed, in instance {execution.instance}, and its reply is too large to be kept"
        )
    return execution.reply


def _answer(inner: Command, keyspace: Keyspace, args: list[bytes]) -> Reply:
    """Run a command; what it raises is its reply, unless it was not its turn (then the id is as good as new)."""
    try:
        return _run(inner, keyspace, args)
    except Busy:
        raise
    except ReplyError as problem:
        return problem.as_reply()


@command(
    "sofa.status",
    2,
    Route.READ,
    "readonly fast",
    group="sofa",
    summary="Whether the command of an id was executed, and in which instance",
    inspect=_check_id,
)
def status(keyspace: Keyspace, args: list[bytes]) -> Reply:
    table = keyspace.shared.once
    execution = table.executions.get(args[1])
    if execution is not None:
        return [b"done", execution.instance]
    return [b"unknown", table.forgotten] if table.forgotten else [b"never", 0]


# Locks


def _check_name(args: list[bytes]) -> None:
    if len(args[1]) > LOCK_NAME_BYTES_MAX:
        raise ReplyError(f"ERR the name of a lock has {LOCK_NAME_BYTES_MAX} bytes at most")


def _parse_until(keyspace: Keyspace, text: bytes) -> int:
    ttl_ms = parse_integer(text)
    if not 1 <= ttl_ms <= TTL_MS_MAX:
        raise ReplyError(f"ERR the time to live of a lock is 1 to {TTL_MS_MAX} milliseconds")
    return keyspace.time + ttl_ms


@command(
    "sofa.lock",
    -3,
    Route.WRITE,
    "write denyoom noscript blocking fast",
    group="sofa",
    summary="Take a lock for a while, or wait for it; returns a token that is higher than all before it",
    inspect=_check_name,
)
def lock(keyspace: Keyspace, args: list[bytes]) -> Reply:
    wait_ms = 0
    if len(args) > 3:
        if len(args) != 5 or args[3].upper() != b"WAIT":
            raise ReplyError(SYNTAX)
        wait_ms = parse_integer(args[4])
        if not 0 <= wait_ms <= WAIT_MS_MAX:
            raise ReplyError(f"ERR one waits for a lock 0 to {WAIT_MS_MAX} milliseconds")
    name, until = args[1], _parse_until(keyspace, args[2])
    queues, place = keyspace.shared.queues, place_of(args[1])
    token = None
    if not wait_ms or queues.is_first(place):
        token = keyspace.shared.locks.take(name, until, keyspace.instance)
    if token is None and wait_ms:
        return queues.wait([place], wait_ms, None, None)
    return token


@command(
    "sofa.unlock",
    3,
    Route.WRITE,
    "write fast",
    group="sofa",
    summary="Give a lock back, if the token holds it",
    inspect=_check_name,
)
def unlock(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return int(keyspace.shared.locks.release(args[1], parse_integer(args[2])))


@command(
    "sofa.renew",
    4,
    Route.WRITE,
    "write fast",
    group="sofa",
    summary="Let a lock live so long from now, if the token holds it",
    inspect=_check_name,
)
def renew(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return int(keyspace.shared.locks.renew(args[1], parse_integer(args[2]), _parse_until(keyspace, args[3])))


def _check_fenced(args: list[bytes]) -> Command:
    _check_name(args)
    return _check_inner(args, 3, ("sofa.once", "sofa.fenced"))


def _cost_of_fenced(keyspace: Keyspace, args: list[bytes]) -> int:
    return _cost_of_inner(_check_fenced(args), keyspace, args[3:])


@command(
    "sofa.fenced",
    -4,
    Route.WRITE,
    "write denyoom movablekeys",
    group="sofa",
    summary="Run a command only while a token holds a lock, in one step",
    complexity="That of the command",
    inspect=_check_fenced,
    find_keys=keys_behind(3),
    cost=_cost_of_fenced,
    pays_itself=True,
)
def fenced(keyspace: Keyspace, args: list[bytes]) -> Reply:
    inner = _check_fenced(args)
    keyspace.shared.locks.demand(args[1], parse_integer(args[2]))
    return _run(inner, keyspace, args[3:])
