"""The one Lua interpreter of this process, and what scripts ask of the database.

Nothing of it is state: functions that were compiled are kept by the SHA1 of their texts, and no script leaves anything behind
that another could find. A script runs to its end before anything else does, so one interpreter serves all nodes of a
simulator, too.

A write of a script is done on every replica, a read on one node. Either way it sees what is the same everywhere: the time of
the batch, chance that follows from the state, and replies in an order that depends on nothing but the state.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple

import lupa.lua51 as lupa

from ..arguments import parse_integer
from ..budget import estimate
from ..costs import bytes_at
from ..keyspace import Keyspace
from ..replies import Busy, NullArray, Pairs, Reply, ReplyError, Status, Unordered, Verbatim, Waits
from ..table import Command, Route, check, lookup
from ..undo import Undo
from . import libraries
from .rewriting import TooLarge, rewrite

STEPS_MAX = 3_000_000
"""What a script may take: about as many instructions, some 50 ms."""
BATCH_STEPS_MAX = 6_000_000
"""When the scripts of a batch have taken so much, no more of them are begun in it."""
BYTE_STEPS = 40
"""What it costs to compile a byte of a script. (Whatever a node has compiled before: replicas must agree.)"""
BYTES_MAX = 64 << 20
"""Of all strings that a script makes or is given."""
MEMORY_MAX = 1 << 30
"""More than what a script can take within the other two bounds."""
GARBAGE_MAX = 4 << 10
"""So much garbage (KiB) is left lying until after a script it is collected."""
COMPILED_MAX = 1_000
COMPILED_BYTES_MAX = 16 << 20
"""Of the texts of all functions that are kept. A function takes up to ten times that: far less than what scripts never take
of `MEMORY_MAX`, so that no node runs out of memory where another does not."""
JUMPS_MAX = 5_000
"""So many conditions and the like a script may have: where they hang together, Lua takes the square of them to compile it."""
REPLY_STEPS = 20
"""What an element of a reply costs."""
UNIT_STEPS = 60
"""What a unit of a command's cost is in steps."""
COPIED_BYTES_PER_STEP = 32
AT_ONCE = 200
"""A longer reply goes to Lua as a table, not as values."""

_JUMPS = re.compile(rb"\b(?:and|or|elseif|break)\b")
_FILES = ("sandbox", "strings", "cjson", "cmsgpack", "numbers", "redis")
_VALUE, _STATUS, _ERROR, _NULL, _ARRAY, _TABLE, _STOP, _NIL = range(8)
"""What comes, as `redis.lua` knows it."""

UNKNOWN = "ERR Unknown Redis command called from script"
MISCOUNTED = "ERR Wrong number of args calling Redis command from script"
NOT_ALLOWED = "ERR This Redis command is not allowed from script"
READ_ONLY = "ERR Write commands are not allowed from read-only scripts."

Answer = tuple[Any, ...]
"""For Lua: steps and bytes to be charged, what comes, and that."""


class Broken(AssertionError):
    """Something that was called from Lua has failed, or Lua itself."""


class _Call(NamedTuple):
    """What a script's command is called with."""

    keyspace: Keyspace
    words: list[bytes]


class Engine:
    """The interpreter."""

    def __init__(self) -> None:
        self._lua = lupa.LuaRuntime(
            encoding=None,
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
            max_memory=MEMORY_MAX,
            attribute_filter=_refuse_attribute,
        )
        self._compiled: dict[bytes, tuple[Any, int]] = {}
        """Functions and the bytes of their texts. The oldest comes first."""
        self._compiled_bytes = 0
        self._keyspace: Keyspace
        self._keyspaces: list[Keyspace] = []
        self._undo: Undo | None = None
        self._is_read_only = False
        self._resp3 = False
        self._is_replicated = False
        self._problem: BaseException | None = None
        self._demand_plain_letters()
        self._kit = self._load()
        self._run, self._taken = self._kit[b"run"], self._kit[b"taken"]
        self._memory, self._collect = self._kit[b"memory"], self._kit[b"collect"]
        self._in_use = self._memory()
        """KiB that were no garbage when it was collected last."""

    def _demand_plain_letters(self) -> None:
        """What a letter is must not depend on where a node runs."""
        self._lua.execute(b"""
            local letters = {}
            for code = 128, 255 do letters[#letters + 1] = string.char(code) end
            if string.find(table.concat(letters), "[%a%p%s%c]") then
                -- (Python takes the encoding of files from it: that is kept, if it can be.)
                if not os.setlocale("C.UTF-8", "ctype") then os.setlocale("C", "ctype") end
            end
            os.setlocale("C", "collate")
            os.setlocale("C", "numeric")
        """)

    def _load(self) -> Any:
        host = self._lua.table_from({name.encode(): function for name, function in self._host().items()})
        compile_ = self._lua.eval(
            b"function(text) return string.dump(assert(loadstring(text, '=sofadb'))) end"
        )
        load = self._lua.eval(b"function(code) return loadstring(code, '=sofadb') end")
        kit: Any = None
        for name in _FILES:
            text = (Path(__file__).parent / f"{name}.lua").read_bytes()
            chunk = load(rewrite(compile_(text), is_checked=False))
            kit = chunk(host, STEPS_MAX, BYTES_MAX) if kit is None else chunk(kit) or kit
        return kit

    # Running

    def compile(self, sha: bytes, text: bytes) -> Any:
        """The function of a script. Raises `ReplyError`, as Redis words it."""
        known = self._compiled.get(sha)
        if known is not None:
            return known[0]
        if len(_JUMPS.findall(text)) > JUMPS_MAX:
            raise ReplyError(
                f"ERR Error compiling script (new function): more than {JUMPS_MAX} times and, or, elseif and break"
            )
        answer = self._kit[b"compile"](text)
        self._tidy()
        if isinstance(answer, tuple):
            raise ReplyError(f"ERR Error compiling script (new function): {_text(answer[1])}")
        self._compiled[sha] = answer, len(text)
        self._compiled_bytes += len(text)
        while len(self._compiled) > COMPILED_MAX or self._compiled_bytes > COMPILED_BYTES_MAX:
            _, size = self._compiled.pop(next(iter(self._compiled)))
            self._compiled_bytes -= size
        return answer

    def compile_for_all(self, keyspace: Keyspace, sha: bytes, text: bytes) -> Any:
        """As `compile`, of a script that is a write. Raises `ReplyError`, also if the batch has no time for it."""
        shared = keyspace.shared
        if shared.script_steps > BATCH_STEPS_MAX:
            raise Busy(
                "BUSY other scripts have taken too long just now; this one was not executed. Try again."
            )
        if sha not in shared.scripts.texts:
            shared.script_steps += BYTE_STEPS * len(text)
        return self.compile(sha, text)

    def _tidy(self) -> None:
        """Collect what garbage there is, if it is much."""
        if self._memory() > self._in_use + GARBAGE_MAX:
            self._collect()
            self._in_use = self._memory()

    def run(
        self,
        keyspace: Keyspace,
        function: Any,
        sha: bytes,
        words: list[bytes],
        keys: int,
        *,
        is_read_only: bool,
        is_replicated: bool,
    ) -> Reply:
        """Run a script with `words`, of which the first ones are keys. Raises `ReplyError`.

        A script that fails has done what it did before. One that is stopped has done nothing.
        """
        shared = keyspace.shared
        self._keyspace, self._keyspaces = keyspace, keyspace.all
        self._is_read_only, self._resp3 = is_read_only, False
        assert self._undo is None, "scripts do not run within scripts"
        self._is_replicated = shared.budget.is_paid_elsewhere = is_replicated
        self.select(keyspace.number)
        try:
            given = words if len(words) <= AT_ONCE else [self._lua.table_from(words)]
            result = self._run(function, self._seed(keyspace), keys, *given)
        except lupa.LuaError as problem:
            result = (b"stopped", b"it took too much memory")
            if not isinstance(problem, lupa.LuaMemoryError) and "not enough memory" not in str(problem):
                self._problem = self._problem or problem
        finally:
            undo, self._undo = self._undo, None
            broken, self._problem = self._problem, None
            shared.budget.is_paid_elsewhere = False
        if is_replicated:
            shared.script_steps += int(self._taken())
        self._tidy()
        if broken is not None:
            raise Broken(f"a script's run has failed: {broken!r}") from broken
        return self._outcome(result, sha, undo)

    def _seed(self, keyspace: Keyspace) -> int:
        """What math.random begins with: in Redis it goes on from script to script."""
        chance = keyspace.chance() if self._is_replicated else keyspace.own_chance()
        return chance.below(2**32)

    def _outcome(self, result: Any, sha: bytes, undo: Undo | None) -> Reply:
        kind, *rest = result if isinstance(result, tuple) else (result,)
        if kind == b"stopped":
            if undo is not None:
                undo.take_back()
            raise ReplyError(
                f"ERR the script was stopped, and what it did was undone: {_text(rest[0])} "
                f"(at most {STEPS_MAX} steps and {BYTES_MAX} bytes) script: {_text(sha)}."
            )
        if undo is not None:
            undo.keep()
        if kind == b"done":
            return _plain(rest[0]) if rest else None
        text, source, line = (*rest, None, None, None)[:3]
        where = "" if source is None or line is None else f", on {_text(source)}:{_text(line)}"
        raise ReplyError(f"{_text(text)} script: {_text(sha)}{where}.")

    # What Lua calls

    def _host(self) -> dict[str, Callable[..., Any]]:
        return {
            "bit": libraries.bit,
            "call": self._on_call,
            "call_with": lambda table: self._on_call(*table.values()),
            "double": _Double,
            "error": lambda text: ReplyError(_text(text)),
            "extend": _extend,
            "find": bytes.find,
            "is_command": _is_command,
            "list": lambda *items: list(map(_plain, items)),
            "map": dict,
            "other": libraries.Other,
            "pack_float": libraries.pack_float,
            "put": _put,
            "rewrite": _rewrite,
            "set": Unordered,
            "set_resp": self._set_resp,
            "sha1hex": lambda text: sha1(text, usedforsecurity=False).hexdigest().encode(),
            "status": lambda text: Status(text.replace(b"\r", b" ").replace(b"\n", b" ")),
            "struct_pack": libraries.struct_pack,
            "struct_size": libraries.struct_size,
            "struct_unpack": libraries.struct_unpack,
            "unpack_float": libraries.unpack_float,
            "verbatim": Verbatim,
        }

    def _set_resp(self, version: float) -> None:
        self._resp3 = version == 3

    def _on_call(self, *words: bytes) -> Answer:
        """A command of the script. Nothing may be raised into Lua, where a script could catch it."""
        try:
            return self._answer(list(words))
        except ReplyError as problem:
            return 0, 0, _ERROR, problem.text.encode("utf-8", "surrogateescape")
        except BaseException as problem:  # noqa: BLE001
            # It is raised again where Lua has returned.
            self._problem = problem
            return 0, 0, _STOP, b"it has failed"

    def _answer(self, words: list[bytes]) -> Answer:
        command = _check(words)
        steps = len(words) + _steps_of(command, self._keyspace, words)
        if steps > STEPS_MAX:
            return steps, 0, _NIL  # It ends the script.
        own = _INSTEAD.get(command.name)
        if own is not None:
            reply = own(self, words)
        else:
            if command.route is Route.WRITE:
                if self._is_read_only:
                    raise ReplyError(READ_ONLY)
                if self._undo is None:
                    self._undo = Undo(self._keyspaces)
            reply = command.function(self._keyspace, words)
        if isinstance(reply, list | dict):
            steps += len(reply) * REPLY_STEPS
            if steps > STEPS_MAX:
                return steps, 0, _NIL
        return self._for_lua(reply, steps)

    def select(self, number: int) -> None:
        """Commands that come next are for this database. What a node has of its own must not be seen on every replica."""
        keyspace = self._keyspaces[number]
        if self._is_replicated:
            keyspace.clock = keyspace.time
            keyspace.picks = keyspace.changes << 20
        self._keyspace = keyspace

    @property
    def keyspace(self) -> Keyspace:
        """The database of the next command."""
        return self._keyspace

    # Replies

    def _for_lua(self, reply: Reply, steps: int) -> Answer:
        kind = type(reply)
        if kind is bytes or kind is int:
            return steps, 0, _VALUE, reply
        if kind is Status:
            return steps, 0, _STATUS, reply.text
        if reply is None:
            return steps, 0, _NIL if self._resp3 else _NULL
        if kind is list and len(reply) <= AT_ONCE and all(type(each) is bytes for each in reply):
            return steps, sum(map(len, reply)), _ARRAY, *reply
        size = _Size()
        converted = self._converted(reply, size)
        if isinstance(converted, lupa_table):
            return steps + REPLY_STEPS * size.items, size.bytes, _TABLE, converted
        if converted is None:
            return steps, 0, _NIL
        return steps, 0, _VALUE, converted

    def _converted(self, reply: Reply, size: _Size) -> Any:
        """A reply as a script sees it, at any depth."""
        size.items += 1
        if isinstance(reply, bytes | memoryview):
            size.bytes += len(reply)
            return bytes(reply)
        if isinstance(reply, bool):
            return reply if self._resp3 else int(reply)
        if isinstance(reply, int):
            return reply
        if reply is None or isinstance(reply, NullArray):
            return None if self._resp3 else False
        if isinstance(reply, float):
            return self._lua.table_from({b"double": reply}) if self._resp3 else b"%.17g" % reply
        if isinstance(reply, Status):
            return self._lua.table_from({b"ok": reply.text})
        if isinstance(reply, ReplyError):
            return self._lua.table_from({b"err": reply.text.encode("utf-8", "surrogateescape")})
        if isinstance(reply, Verbatim):
            return self._verbatim(reply.text)
        if isinstance(reply, Waits):
            return self._converted(reply.reply, size)
        if isinstance(reply, dict):
            return self._map(reply, size)
        if isinstance(reply, Unordered) and self._resp3:
            names = {self._converted(each, size): True for each in reply}
            return self._lua.table_from({b"set": self._lua.table_from(names)})
        if isinstance(reply, Pairs) and self._resp3:
            reply = [list(pair) for pair in zip(reply[::2], reply[1::2], strict=True)]
        return self._lua.table_from([self._converted(each, size) for each in reply])

    def _verbatim(self, text: bytes) -> Any:
        if not self._resp3:
            return text
        inner = self._lua.table_from({b"format": b"txt", b"string": text})
        return self._lua.table_from({b"verbatim_string": inner})

    def _map(self, reply: dict[Any, Any], size: _Size) -> Any:
        if self._resp3:
            pairs = {key: self._converted(value, size) for key, value in reply.items()}
            return self._lua.table_from({b"map": self._lua.table_from(pairs)})
        flat = [each for pair in reply.items() for each in pair]
        return self._lua.table_from([self._converted(each, size) for each in flat])


def _refuse_attribute(item: Any, name: Any, is_setting: bool) -> Any:
    """Whatever of Python should come into the hands of Lua, it is not to be looked into."""
    raise AttributeError("Python is out of reach here")


class _Size:
    """What a reply amounts to."""

    __slots__ = ("bytes", "items")

    def __init__(self) -> None:
        self.items = self.bytes = 0


lupa_table = type(lupa.LuaRuntime().table())


def _check(words: list[bytes]) -> Command:
    """The command, or an error as Redis words it in a script.

    What a server knows besides is never asked: where a log is read back there may be none.
    """
    name = words[0].lower()
    command = _OWN.get(name) or lookup(name)
    if name in _NOT_ALLOWED or name.startswith(b"sofa."):
        raise ReplyError(NOT_ALLOWED)
    if command is None or (command.route is Route.CONNECTION and name not in _OWN):
        raise ReplyError(UNKNOWN)
    if name in _OWN:
        if len(words) != command.arity if command.arity > 0 else len(words) < -command.arity:
            raise ReplyError(MISCOUNTED)
        return command
    try:
        command = check(words)
    except ReplyError as problem:
        if problem.text.startswith("ERR unknown "):
            raise ReplyError(UNKNOWN) from None
        if problem.text.startswith("ERR wrong number of arguments for"):
            raise ReplyError(MISCOUNTED) from None
        raise
    if "noscript" in command.flags:
        raise ReplyError(NOT_ALLOWED)
    return command


_NOT_ALLOWED = frozenset(
    b"acl asking auth bgrewriteaof bgsave blmove blpop brpop brpoplpush bzpopmax bzpopmin client cluster command "
    b"config debug discard exec failover hello info lastsave latency lolwut memory migrate module monitor multi psubscribe "
    b"psync pubsub punsubscribe quit readonly readwrite replconf replicaof reset restore-asking role save shutdown "
    b"slaveof slowlog ssubscribe subscribe sunsubscribe swapdb sync unsubscribe unwatch wait waitaof watch".split()
)
"""Commands of connections and servers, and those that wait. Where Redis allows one, its reply depends on the server asked."""


def _steps_of(command: Command, keyspace: Keyspace, words: list[bytes]) -> int:
    """What a command costs. A string that it may change is copied, so that it could be taken back."""
    cost = command.cost
    steps = 0 if cost is None else estimate(cost, keyspace, words) * UNIT_STEPS
    first, last, step = command.keys
    if first and command.route is Route.WRITE:
        for key in words[first : last + 1 if last >= 0 else len(words) + last + 1 : step]:
            steps += bytes_at(keyspace, key) // COPIED_BYTES_PER_STEP
    return steps


def _is_command(*words: bytes) -> bool:
    return words[0].lower() in _NOT_ALLOWED or words[0].lower() in _OWN or lookup(words[0]) is not None


class _Double:
    """A double of a reply, on its way through Lua, which would make an integer of a whole one."""

    def __init__(self, value: float) -> None:
        self.value = float(value)


def _plain(reply: Any) -> Any:
    return reply.value if type(reply) is _Double else reply


def _put(items: dict[Any, Any], key: Any, value: Any) -> None:
    key = _plain(key)
    if not isinstance(key, list | dict):
        items[key] = _plain(value)


def _extend(items: list[Any], *more: Any) -> list[Any]:
    items += map(_plain, more)
    return items


def _rewrite(dumped: bytes) -> Any:
    try:
        return rewrite(dumped)
    except TooLarge as problem:
        return None, str(problem).encode()


def _text(data: Any) -> str:
    return data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else str(data)


# Commands that scripts get in another way


def _ping(engine: Engine, words: list[bytes]) -> Reply:
    if len(words) > 2:
        raise ReplyError("ERR wrong number of arguments for 'ping' command")
    return words[1] if len(words) > 1 else Status(b"PONG")


def _echo(engine: Engine, words: list[bytes]) -> Reply:
    return words[1]


def _select(engine: Engine, words: list[bytes]) -> Reply:
    number = parse_integer(words[1])
    if not 0 <= number < len(engine.keyspace.all):
        raise ReplyError("ERR DB index is out of range")
    engine.select(number)
    return Status(b"OK")


def _keys(engine: Engine, words: list[bytes]) -> Reply:
    """In the order of their names, since replicas agree on no other."""
    return sorted(check(words).function(engine.keyspace, words))


def _scan(engine: Engine, words: list[bytes]) -> Reply:
    cursor, keys = check(words).function(engine.keyspace, words)
    return [cursor, sorted(keys)]


def _randomkey(engine: Engine, words: list[bytes]) -> Reply:
    """Any key, the same on each replica."""
    keyspace = engine.keyspace
    keys = sorted(keyspace.visible())
    return keys[keyspace.own_chance().below(len(keys))] if keys else None


_OWN = {
    name.encode(): Command(name, arity, Route.READ, lambda keyspace, words: None)
    for name, arity in (("ping", -1), ("echo", 2), ("select", 2))
}
"""Commands of connections that mean something in a script."""

_INSTEAD: dict[str, Callable[[Engine, list[bytes]], Reply]] = {
    "ping": _ping,
    "echo": _echo,
    "select": _select,
    "keys": _keys,
    "scan": _scan,
    "randomkey": _randomkey,
}

_engine: Engine | None = None


def engine() -> Engine:
    """The interpreter, which is made when the first script comes."""
    global _engine
    if _engine is None:
        _engine = Engine()
    return _engine
