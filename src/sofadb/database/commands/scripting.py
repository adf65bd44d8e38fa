"""Scripts, as the Redis manual's page "Scripting and functions" lists them (docs/decisions/0013-scripts.md).

EVAL is a write, whatever its script does: it is executed on every replica, and its script is known everywhere from then on.
EVAL_RO is a read, done on one node: its script is not remembered, since a read changes no state.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arguments import parse_integer
from ..keyspace import Keyspace
from ..lua.engine import engine
from ..replies import OK, Reply, ReplyError
from ..scripts import SCRIPT_BYTES_MAX, sha_of
from ..table import Route, command

FLAGS = "noscript stale skip_monitor no_mandatory_keys movablekeys"
COMPLEXITY = "Depends on the script that is executed."
SHA_BYTES = 40
_KNOWN_FLAGS = ("no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys")


class Script(NamedTuple):
    """A script without its first line, if that says something about it."""

    text: bytes
    is_read_only: bool
    """It says that it does not write."""
    may_write: bool
    """It speaks of itself, and does not say that it does not write."""
    may_grow: bool = True
    """It does not say that it may be run where there is no memory."""


def parse_script(text: bytes) -> Script:
    """Read a first line such as `#!lua flags=no-writes,allow-stale`. Raises `ReplyError`."""
    if len(text) > SCRIPT_BYTES_MAX:
        raise ReplyError(f"ERR a script has {SCRIPT_BYTES_MAX} bytes at most")
    if not text.startswith(b"#!"):
        return Script(text, False, False)
    line, end, rest = text.partition(b"\n")
    if not end:
        raise ReplyError("ERR Invalid script shebang")
    name, *options = line.split()
    if name != b"#!lua":
        raise ReplyError(f"ERR Unexpected engine in script shebang: {_shown(name)}")
    flags: list[bytes] = []
    for option in options:
        if not option.startswith(b"flags="):
            raise ReplyError(f"ERR Unknown lua shebang option: {_shown(option)}")
        given = option[len(b"flags=") :]
        flags += given.split(b",") if given else []
    for flag in flags:
        if flag.decode("latin-1") not in _KNOWN_FLAGS:
            raise ReplyError(f"ERR Unexpected flag in script shebang: {_shown(flag)}")
    is_read_only = b"no-writes" in flags
    may_grow = not is_read_only and b"allow-oom" not in flags
    return Script(end + rest, is_read_only, not is_read_only, may_grow)


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _check_count(args: list[bytes]) -> int:
    count = parse_integer(args[2])
    if count > len(args) - 3:
        raise ReplyError("ERR Number of keys can't be greater than number of args")
    if count < 0:
        raise ReplyError("ERR Number of keys can't be negative")
    return count


def _execute(keyspace: Keyspace, args: list[bytes], sha: bytes, text: bytes, is_read: bool) -> Reply:
    count = _check_count(args)
    script = parse_script(text)
    if is_read and script.may_write:
        raise ReplyError("ERR Can not execute a script with write flag using *_ro command.")
    lua = engine()
    if is_read:
        function = lua.compile(sha, script.text)
    else:
        function = lua.compile_for_all(keyspace, sha, script.text)
        keyspace.shared.scripts.learn(text)
    is_read_only = is_read or script.is_read_only
    return lua.run(
        keyspace, function, sha, args[3:], count, is_read_only=is_read_only, is_replicated=not is_read
    )


def _known(keyspace: Keyspace, args: list[bytes]) -> tuple[bytes, bytes]:
    """The SHA1 that was asked for, and its script."""
    sha = args[1].lower()
    if len(sha) == SHA_BYTES:
        _check_count(args)
    text = keyspace.shared.scripts.texts.get(sha)
    if text is None:
        raise ReplyError("NOSCRIPT No matching script. Please use EVAL.")
    return sha, text


@command(
    "eval",
    -3,
    Route.WRITE,
    FLAGS,
    group="scripting",
    since="2.6.0",
    summary="Run a script, which may write",
    complexity=COMPLEXITY,
    key_use="RW access update",
    counted_keys=2,
)
def eval_(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _execute(keyspace, args, sha_of(args[1]), args[1], is_read=False)


@command(
    "evalsha",
    -3,
    Route.WRITE,
    FLAGS,
    group="scripting",
    since="2.6.0",
    summary="Run a script that is known, by the SHA1 of its text",
    complexity=COMPLEXITY,
    key_use="RW access update",
    counted_keys=2,
)
def evalsha(keyspace: Keyspace, args: list[bytes]) -> Reply:
    sha, text = _known(keyspace, args)
    return _execute(keyspace, args, sha, text, is_read=False)


@command(
    "eval_ro",
    -3,
    Route.READ,
    "readonly " + FLAGS,
    group="scripting",
    since="7.0.0",
    summary="Run a script that does not write, on one node; it is not remembered",
    complexity=COMPLEXITY,
    reply_is_large=True,
    reply_varies=True,
    counted_keys=2,
)
def eval_ro(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return _execute(keyspace, args, sha_of(args[1]), args[1], is_read=True)


@command(
    "evalsha_ro",
    -3,
    Route.READ,
    "readonly " + FLAGS,
    group="scripting",
    since="7.0.0",
    summary="Run a script that is known and does not write, on one node",
    complexity=COMPLEXITY,
    reply_is_large=True,
    reply_varies=True,
    counted_keys=2,
)
def evalsha_ro(keyspace: Keyspace, args: list[bytes]) -> Reply:
    sha, text = _known(keyspace, args)
    return _execute(keyspace, args, sha, text, is_read=True)


@command(
    "script",
    -2,
    Route.READ,
    group="scripting",
    since="2.6.0",
    summary="The scripts that are known",
    complexity="Depends on subcommand.",
)
def script_(keyspace: Keyspace, args: list[bytes]) -> Reply:
    raise AssertionError("SCRIPT has subcommands")


@command(
    "script|load",
    3,
    Route.WRITE,
    "noscript stale",
    group="scripting",
    since="2.6.0",
    summary="Know a script from now on, on every node; returns the SHA1 of its text",
    complexity="O(N)",
)
def script_load(keyspace: Keyspace, args: list[bytes]) -> Reply:
    text = args[2]
    engine().compile_for_all(keyspace, sha_of(text), parse_script(text).text)
    return keyspace.shared.scripts.learn(text)


@command(
    "script|exists",
    -3,
    Route.READ,
    "noscript",
    group="scripting",
    since="2.6.0",
    summary="Which of these scripts are known",
    complexity="O(N)",
)
def script_exists(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return [int(sha.lower() in keyspace.shared.scripts.texts) for sha in args[2:]]


@command(
    "script|flush",
    -2,
    Route.WRITE,
    "noscript",
    group="scripting",
    since="2.6.0",
    summary="Forget all scripts, on every node",
    complexity="O(N)",
)
def script_flush(keyspace: Keyspace, args: list[bytes]) -> Reply:
    if len(args) > 3 or (len(args) == 3 and args[2].upper() not in (b"ASYNC", b"SYNC")):
        raise ReplyError("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
    keyspace.shared.scripts.clear()
    return OK


@command(
    "script|kill",
    2,
    Route.READ,
    "noscript allow_busy",
    group="scripting",
    since="2.6.0",
    summary="There is never a script to kill: one that takes too long is stopped",
)
def script_kill(keyspace: Keyspace, args: list[bytes]) -> Reply:
    raise ReplyError("NOTBUSY No scripts in execution right now.")


@command(
    "script|debug",
    3,
    Route.READ,
    "noscript",
    group="scripting",
    since="3.2.0",
    summary="There is no debugger: only NO is taken",
)
def script_debug(keyspace: Keyspace, args: list[bytes]) -> Reply:
    mode = args[2].upper()
    if mode in (b"YES", b"SYNC"):
        raise ReplyError("ERR there is no debugger for scripts here. Use one with a single Redis")
    if mode != b"NO":
        raise ReplyError("ERR Use SCRIPT DEBUG YES/SYNC/NO")
    return OK


_HELP = """SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
DEBUG NO
    Say that scripts are not debugged, as they never are here.
EXISTS <sha1> [<sha1> ...]
    Tell which of the scripts are known.
FLUSH [ASYNC|SYNC]
    Forget all scripts, on every node.
KILL
    Answer that no script is running.
LOAD <script>
    Know a script on every node, without running it.
HELP
    Show this."""


@command(
    "script|help",
    2,
    Route.READ,
    "loading stale",
    group="scripting",
    since="5.0.0",
    summary="What SCRIPT can do",
)
def script_help(keyspace: Keyspace, args: list[bytes]) -> Reply:
    return [line.encode() for line in _HELP.splitlines()]
