"""Scripts: what they answer, compared with a real Redis; and that they are the same everywhere, bounded, and can be undone."""

from __future__ import annotations

import json
import locale
import os
import subprocess
import sys
from pathlib import Path

import pytest
from database_commands import NOW, Words, a_list, ask, begun, run_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from real_redis import EXAMPLES, SETTINGS, Both, RealRedis, Said

from sofadb.database.commands.scripting import SCRIPT_BYTES_MAX
from sofadb.database.database import Database
from sofadb.database.loader import Loader
from sofadb.database.lua import engine as engine_module
from sofadb.database.lua import libraries
from sofadb.database.lua.engine import BATCH_STEPS_MAX, Engine
from sofadb.database.messages import Message
from sofadb.database.replies import OK, Reply, ReplyError
from sofadb.database.runs import Corrupt, apply
from sofadb.database.scripts import BYTES_MAX, SCRIPTS_MAX, Scripts, sha_of
from sofadb.database.table import TABLE as TABLE_OF_COMMANDS
from sofadb.database.values import Hash, List, Set, SortedSet

HERE = Path(__file__).parent
TABLE = (HERE / "scripts.txt").read_text("utf-8").splitlines()
"""One a line. There is a list `l` that holds "1"."""
LONGER = [
    "#!lua flags=no-writes\nreturn redis.call('set','a','1')",
    "#!lua flags=no-writes\nreturn redis.pcall('set','a','1')",
    "#!lua flags=bogus\nreturn 1",
    "#!lua\nreturn 1",
    "#!lua flags=allow-stale,no-cluster,allow-oom\nreturn 1",
    "#!python\nreturn 1",
    "#! lua\nreturn 1",
    "#!lua name=x\nreturn 1",
    "#!lua\nfoo=1",
    "#!lua",
    "#!",
    "#!lua flags\nreturn 1",
    "#!lua flags=\nreturn 1",
    "#!lua flags=,\nreturn 1",
    "#!lua  flags=no-writes\nreturn 1",
    " #!lua\nreturn 1",
    "\n\nreturn redis.call('incr','l')",
    "local function f()\n return redis.call('incr','l')\nend\n\nreturn f()",
    "local function f()\n error('here')\nend\nlocal ok, problem = pcall(f)\nreturn problem",
    "local t = {}\nt.x = 1\nreturn t\n.y\n.z",
]


def eval_(script: str | bytes, *args: str | bytes, keys: int = 0) -> Words:
    words = [each if isinstance(each, bytes) else each.encode("utf-8") for each in (script, *args)]
    return [b"EVAL", words[0], b"%d" % keys, *words[1:]]


def run(database: Database, script: str | bytes, *args: str | bytes, keys: int = 0) -> Reply:
    (reply,) = run_of([eval_(script, *args, keys=keys)]).execute(database)
    database.shared.script_steps = 0
    return reply


# Compared with Redis


def prepare(both: Both) -> None:
    both.real([[b"RPUSH", b"l", b"1"]])
    both.database.keyspaces[0].set(b"l", a_list(b"1"))


@pytest.mark.parametrize("resp3", [False, True])
def test_scripts_answer_as_in_redis(real: RealRedis, resp3: bool) -> None:
    both = Both(real, resp3)
    prepare(both)
    assert len(TABLE) > 600
    differing = []
    for script in [*TABLE, *LONGER]:
        if resp3 and "big_number" in script:
            continue  # Here it is a string.
        if "cjson" in script:
            real([[b"SCRIPT", b"FLUSH", b"SYNC"]])  # There a script may leave settings behind.
        theirs, ours = both(eval_(script))
        both.database.shared.script_steps = 0
        if theirs != ours:
            differing.append(f"{script}\n    Redis {theirs}\n    here  {ours}")
    assert not differing, "\n".join(differing)


COMMANDS = [
    b"EVAL",
    b"EVAL x",
    b"EVAL x 1",
    b"EVAL x -1",
    b"EVAL x x",
    b"EVAL_RO return{KEYS[1],ARGV[1],#KEYS,#ARGV} 1 a b",
    b"EVAL_RO return(redis.call('set','a','b')) 0",
    b"EVALSHA x 0",
    b"EVALSHA x x",
    b"EVALSHA_RO x 0",
    b"EVALSHA x y 0",
    b"SCRIPT",
    b"SCRIPT NOSUCH",
    b"SCRIPT LOAD",
    b"SCRIPT LOAD x",
    b"SCRIPT LOAD return(7)",
    b"EVALSHA 32e4a6ed25d1b9d7e9cc5db3d2c1c3e2b3b1c0de 0",
    b"SCRIPT EXISTS",
    b"SCRIPT EXISTS a b",
    b"SCRIPT FLUSH x",
    b"SCRIPT FLUSH ASYNC SYNC",
    b"SCRIPT KILL",
    b"SCRIPT KILL x",
    b"SCRIPT DEBUG x",
    b"SCRIPT DEBUG no",
    b"SCRIPT FLUSH async",
    b"SCRIPT FLUSH",
]


def test_commands_answer_as_in_redis(real: RealRedis) -> None:
    both = Both(real)
    for command in COMMANDS:
        theirs, ours = both(command.split(b" "))
        assert theirs == ours, command
    known = b"return {KEYS[1], ARGV[1]}"
    for words in (
        [b"SCRIPT", b"LOAD", known],
        [b"EVALSHA", sha_of(known).upper(), b"1", b"k", b"a"],
        [b"EVALSHA_RO", sha_of(known), b"1", b"k", b"a"],
        [b"SCRIPT", b"EXISTS", sha_of(known), sha_of(known).upper(), b"x"],
        [b"EVAL_RO", b"#!lua\nreturn 1", b"0"],
    ):
        theirs, ours = both(words)
        assert theirs == ours, words


letters = st.sampled_from(list("aab(b)c.%[]^$*+-?dwsS1 x"))
patterns = st.lists(letters, max_size=9).map("".join)
subjects = st.text("aabbc1 x()", max_size=14)
many = st.integers(0, 5)


def quoted(text: str) -> str:
    return '"' + "".join(f"\\{ord(each):03}" for each in text) + '"'


@given(subjects, patterns, st.sampled_from(["", "%0", "%1", "<%2>", "%%", "%x"]), many)
@settings(max_examples=EXAMPLES // 4, **SETTINGS)
def test_random_patterns_match_as_in_redis(
    real: RealRedis, subject: str, pattern: str, replacement: str, limit: int
) -> None:
    both = Both(real)
    s, p, r = quoted(subject), quoted(pattern), quoted(replacement)
    # The longer subject is matched in Lua, the other by Lua's own functions.
    for text in (s, f"('zz'):rep(40) .. {s}"):
        for call in (
            f"string.find({text}, {p})",
            f"string.match({text}, {p})",
            f"string.gsub({text}, {p}, {r}, {limit})",
        ):
            script = f"local t = {{pcall(function() return {call} end)}} for i = 1, 9 do t[i] = tostring(t[i]) end return t"
            theirs, ours = both(eval_(script))
            both.database.shared.script_steps = 0
            assert theirs == ours, script


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8) | st.floats(-1e6, 1e6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def unsigned(reply: Said) -> Said:
    """A reply in whose bytes nothing that is no number has a sign: which it has in Redis is up to the processor."""
    kind, value = reply
    return kind, value.replace(b"\xcb\xff\xf8", b"\xcb\x7f\xf8") if isinstance(value, bytes) else value


@given(values, st.binary(max_size=12))
@example(None, b"nan")
@example(None, b"-nan")
@settings(max_examples=EXAMPLES // 4, **SETTINGS)
def test_random_values_are_written_and_read_as_in_redis(real: RealRedis, value: object, noise: bytes) -> None:
    both = Both(real)
    texts = [json.dumps(value).encode(), json.dumps(value, ensure_ascii=False)[:-1].encode(), noise]
    for text in texts:
        for script in (
            "local t = {pcall(cjson.decode, ARGV[1])} t[2] = t[1] and cjson.encode(t[2]) or t[2] return t[2]",
            "local ok, t = pcall(cjson.decode, ARGV[1]) return ok and cmsgpack.pack(t)",
            "local ok, t = pcall(cjson.decode, ARGV[1]) return ok and {cmsgpack.unpack(cmsgpack.pack(t, 1))}",
            "local t = {pcall(cmsgpack.unpack, ARGV[1])} for i = 1, 20 do t[i] = tostring(t[i]):gsub('0x%x+', '') end return t",
            "local t = {pcall(struct.unpack, '>bI2!4hsi3c0', ARGV[1])} for i = 1, 9 do t[i] = tostring(t[i]) end return t",
        ):
            theirs, ours = both(eval_(script, text))
            both.database.shared.script_steps = 0
            if b"as the key of a table" in repr(ours).encode():
                continue  # There a table may be one.
            assert unsigned(theirs) == unsigned(ours), (script, text)


# The same everywhere

MIXED = """
local keys = {}
local t = {}
for i = 1, 40 do t['k' .. (i * 7919 % 101)] = i end
t.k7, t.k14 = nil, nil
for key in pairs(t) do keys[#keys + 1] = key end
redis.call('set', 'order', table.concat(keys, ' '))
redis.call('set', 'chance', math.random(1000000) .. ' ' .. math.random())
redis.call('set', 'time', table.concat(redis.call('time'), ' '))
redis.call('set', 'names', tostring({}) .. tostring(print == nil) .. tostring(function() end))
redis.call('set', 'any', redis.call('randomkey'))
redis.call('set', 'keys', table.concat(redis.call('keys', '*'), ' '))
redis.call('set', 'json', cjson.encode({a = 1, b = {2, 3}, c = {d = 4}}))
redis.call('set', 'memory', collectgarbage('count'))
redis.call('rpush', 'list', unpack(redis.call('sort', 'numbers')))
return redis.call('scan', 0, 'count', 1000)[2]
"""


def mixed() -> Database:
    database = begun()
    for number in range(50):
        ask(database, "SET", f"key{number}", number)
        ask(database, "RPUSH", "numbers", number * 7 % 50)
    run(database, "for i = 1, 3 do loadstring('return ' .. i)() end return 'something else before'")
    run(database, MIXED)
    database.begin(2, NOW + 5)
    run(database, MIXED)
    return database


def test_every_process_comes_to_the_same() -> None:
    digests = set()
    for seed in ("0", "1", "77"):
        script = "import test_database_scripts as it; print(it.mixed().digest().hex())"
        path = os.pathsep.join([*sys.path, str(HERE)])
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
        )
        digests.add(done.stdout)
    assert digests == {mixed().digest().hex() + "\n"}


def test_replicas_come_to_the_same_from_the_log() -> None:
    first, second = begun(), begun()
    works = [
        run_of([eval_(MIXED)]),
        run_of([[b"SCRIPT", b"LOAD", b"return 1"]]),
        run_of([[b"EVALSHA", sha_of(b"return 1"), b"0"]]),
    ]
    for work in works:
        work.execute(first)
        apply(second, work.encode())
    assert first.digest() == second.digest()
    with pytest.raises(Corrupt):
        apply(second, run_of([]).encode()[:-1] + b"x")


def test_a_database_from_an_image_goes_on_alike() -> None:
    database = mixed()
    image = b"".join(database.image().pieces())
    loader = Loader()
    loader.feed(image)
    loaded = loader.finish()
    assert loaded.digest() == database.digest()
    for each in (database, loaded):
        each.begin(3, NOW + 9)
        run(each, MIXED)
        assert ask(each, "EVALSHA", sha_of(MIXED.encode()), 0) == run(each, MIXED)
    assert loaded.digest() == database.digest()


def test_what_a_script_sees_does_not_depend_on_the_clock_of_readers() -> None:
    first, second = begun(), begun()
    for database in (first, second):
        ask(database, "SET", "k", "v", "PX", 10_000)
    second.clock = NOW + 5_000
    scripts = [
        "return redis.call('pttl', 'k')",
        "return redis.call('time')",
        "redis.call('select', 1) return redis.call('time')",
    ]
    for script in scripts:
        assert run(first, script) == run(second, script)


# Nothing is left behind, and nothing lies open

ESCAPES = [
    "string.rep = nil",
    "rawset(string, 'rep', nil)",
    "rawset(_G, 'x', 1)",
    "_G.x = 1",
    "getmetatable('').__index = nil",
    "getmetatable('').__index.rep = nil",
    "getmetatable(_G).__index = nil",
    "setmetatable(_G, nil)",
    "setmetatable(string, nil)",
    "table.insert(string, 1)",
    "cjson.encode = nil",
    "redis.call = nil",
    "bit.band = nil",
    "for k, v in pairs(_G) do if k == 'string' then v.rep = nil end end",
    "local f, t = pairs(string) t.rep = nil",
    "local f, t = ipairs(string) t.rep = nil",
    "local f, t = pairs(_G) t.string = nil",
    "local _, v = next(math) math.x = v",
    "return python.eval",
    "return io.open",
    "return os.execute",
    "return debug.getinfo",
    "return package.loadlib",
    "return require('os')",
    "return getfenv(0)",
    "return setfenv(1, {})",
    "return newproxy(true)",
    "return loadstring(string.dump(function() end))",
    "return loadstring('\\27Lua')()",
    "return _G['\\0key'].x == 1 or _G['\\0key'].y.z",
    "_G['\\0key'].x = 1",
    "_G['\\0many'] = nil",
    "setmetatable(_G['\\0key'], {})",
    "rawset(_G['\\0cost'], 1, 2)",
]


def test_no_script_leaves_anything_behind_or_gets_out() -> None:
    database = begun()
    for script in ESCAPES:
        reply = run(database, script)
        assert isinstance(reply, ReplyError), (script, reply)
    assert run(database, "return ('x'):rep(3) .. cjson.encode({bit.band(7, 3)})") == b"xxx[3]"
    assert run(database, "return type(cjson.null) .. type(getmetatable(cjson.null))") == b"userdatanil"


def test_a_script_sees_no_object_of_the_host() -> None:
    """Whatever is reachable is a table, a function, text, a number, or the null of cjson."""
    walk = """
    local seen, kinds = {}, {}
    local function walk(value, depth)
      kinds[type(value)] = true
      if type(value) == 'userdata' and value ~= cjson.null then error('what is this?') end
      if type(value) ~= 'table' or depth > 4 then return end
      for key, inner in pairs(value) do if inner ~= _G then walk(key, depth + 1) walk(inner, depth + 1) end end
      walk(getmetatable(value), depth + 1)
    end
    walk(_G, 0)
    walk({pcall(redis.call, 'nosuch')}, 0)
    walk({pcall(redis.call, 'get', {})}, 0)
    walk({pcall(struct.pack, 'i4', {})}, 0)
    walk(redis.pcall('mget', 'a', 'b'), 0)
    local names = {}
    for kind in pairs(kinds) do names[#names + 1] = kind end
    table.sort(names)
    return table.concat(names, ' ')
    """
    assert run(begun(), walk) == b"boolean function nil number string table userdata"


def test_settings_of_libraries_end_with_the_script() -> None:
    database = begun()
    run(database, "cjson.encode_max_depth(1) cjson.encode_number_precision(3) math.randomseed(1)")
    assert run(database, "return cjson.encode({{math.pi}})") == b"[[3.1415926535898]]"
    run(database, "redis.setresp(3)")
    assert run(database, "return redis.call('get', 'nowhere') == false") == 1


def test_tables_have_no_tables_as_keys() -> None:
    for script in (
        "({})[{}] = 1",
        "local t = {[{}] = 1}",
        "rawset({}, {}, 1)",
        "local t = {} t[tostring] = 1",
    ):
        script = (
            script
            if script.startswith(("local", "raw"))
            else f"local t = {script.split(' = ')[0][1:3]} t[{{}}] = 1"
        )
        reply = run(begun(), script)
        assert "cannot be the key of a table here" in reply.text, script


# Limits

RUN_AWAY = [
    "while true do end",
    "repeat until false",
    "for i = 1, 1e9 do end",
    "while true do pcall(function() while true do end end) end",
    "while true do pcall(error, 'x') end",
    "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "while true do coroutine.wrap(function() end)() end",
    "local c = coroutine.create(function() while true do end end) while true do coroutine.resume(c) end",
    "local function f() return coroutine.wrap(f)() end while true do pcall(f) end",
    "local function f() return 1 + f() end while true do pcall(f) end",
    "local s = 'x' while true do s = s .. s end",
    "while true do string.rep('x', 1e6) end",
    "string.rep('x', 1e9)",
    "string.rep('x', 1e300)",
    "local s = string.rep('a', 5000) string.find(s, '.-.-.-.-b')",
    "local s = string.rep('a', 100000) while true do s:upper() end",
    "local s = string.rep('x', 50000) while true do s:find(s .. 'y', 1, true) end",
    "local a, b = string.rep('x', 50000) .. 'a', string.rep('x', 50000) .. 'b' while true do local c = a < b end",
    "local s = string.rep('1', 50000) while true do local n = s + 1 end",
    "local s = string.rep('1', 50000) while true do math.floor(s) end",
    "local t = {} while true do t[#t + 1] = {} end",
    "local t = {} while true do t = {t} end",
    "local t = {} local i = 0 while true do i = i + 1 t['k' .. i] = 'v' .. i end",
    "local t = {} for i = 1, 5000 do t[i] = i % 7 end while true do table.sort(t) end",
    "local t = {} for i = 1, 7000 do t[i] = i end while true do table.insert(t, 1, 1) end",
    "local t = {} for i = 1, 1000 do t[i] = 'x' end while true do table.concat(t) end",
    "local function f(...) while true do local t = {...} end end local t = {} for i = 1, 7000 do t[i] = i end f(unpack(t))",
    "while true do loadstring('return 1') end",
    "load(function() return 'x' end)",
    "while true do cjson.decode(string.rep('[', 900) .. string.rep(']', 900)) end",
    "local t = {} t.t = t cmsgpack.pack(t) while true do cmsgpack.pack(t) end",
    "while true do redis.call('get', 'x') end",
    "while true do redis.call('keys', '*') end",
    "local i = 0 while true do i = i + 1 redis.call('set', 'k' .. i, 'v') end",
    "while true do redis.call('append', 'grows', string.rep('x', 10000)) end",
    "while true do redis.sha1hex(string.rep('x', 10000)) end",
    "setmetatable({}, {__index = function(t, k) while true do end end}).x = nil while true do end",
    "local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x",
]


def filled() -> Database:
    """Values of all types, small and large."""
    database = begun()
    keyspace = database.keyspaces[0]
    for size in (3, 2_000):
        values: tuple[List, Set, Hash, SortedSet] = List(), Set(), Hash(), SortedSet()
        for number in range(size):
            name = b"%d" % (number * 7919 % 10_007)
            values[0].take([name])
            values[1].add(name)
            values[2].put(name, b"x" * (number % 80))
            values[3].put(name, float(number % 13))
        for kind, value in zip(("list", "set", "hash", "zset"), values, strict=True):
            keyspace.set(b"%s%d" % (kind.encode(), size), value)
    for number in range(20):
        ask(database, "SET", f"key{number}", number, "PX", 1000 + number)
    ask(database, "SET", "elsewhere", "x", number=3)
    return database


@pytest.mark.parametrize("script", RUN_AWAY)
def test_what_runs_away_is_stopped_and_was_never_there(script: str) -> None:
    database, other = filled(), filled()
    for each in (database, other):
        ask(each, "SCRIPT", "LOAD", f"redis.call('set', 'before', '1') redis.call('del', 'key1') {script}")
    before = database.digest()
    replies = [
        run(each, f"redis.call('set', 'before', '1') redis.call('del', 'key1') {script}")
        for each in (database, other)
    ]
    if "return t.x" in script:
        assert "loop in gettable" in replies[0].text
        return
    assert "was stopped" in replies[0].text, replies
    assert replies[0] == replies[1]
    assert database.digest() == before == other.digest()
    assert ask(database, "GET", "before") is None
    assert run(database, "return 'and on it goes'") == b"and on it goes"


def test_a_batch_has_room_for_so_many_steps() -> None:
    database = begun()
    replies = [run_of([eval_("while true do end")]).execute(database)[0] for _ in range(4)]
    assert database.shared.script_steps > BATCH_STEPS_MAX
    assert "was stopped" in replies[0].text
    assert replies[3].text.startswith("BUSY")
    database.begin(2, NOW)
    assert run(database, "return 1") == 1


def test_scripts_are_not_longer_than_they_may_be() -> None:
    database = begun()
    text = b"return 1 --" + b"x" * SCRIPT_BYTES_MAX
    assert "bytes at most" in run(database, text).text
    assert run(database, text[:SCRIPT_BYTES_MAX]) == 1


def test_the_oldest_scripts_are_forgotten() -> None:
    scripts = Scripts(begun().shared.rolling)
    for number in range(SCRIPTS_MAX + 5):
        scripts.learn(b"return %d" % number)
    assert len(scripts.texts) == SCRIPTS_MAX
    assert sha_of(b"return 4") not in scripts.texts
    assert sha_of(b"return 5") in scripts.texts
    for number in range(BYTES_MAX // SCRIPT_BYTES_MAX + 3):
        scripts.learn(b"%4d" % number + b" " * (SCRIPT_BYTES_MAX - 4))
    assert scripts.bytes == sum(map(len, scripts.texts.values())) <= BYTES_MAX


def test_compiling_is_bounded_and_charged() -> None:
    database = begun()
    many = " or ".join(["a"] * 6000)  # Lua would take the square of it.
    assert "more than 5000 times" in run(database, f"return {many}").text
    (reply,) = run_of([[b"SCRIPT", b"LOAD", b"return 1 --" + b"x" * 200_000]]).execute(database)
    assert len(reply) == 40
    assert database.shared.script_steps > BATCH_STEPS_MAX
    replies = run_of([eval_("return 1"), [b"SCRIPT", b"LOAD", b"return 2"]]).execute(database)
    assert [reply.text[:5] for reply in replies] == ["BUSY "] * 2


def test_what_is_compiled_is_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "COMPILED_BYTES_MAX", 1000)
    lua = Engine()
    for number in range(20):
        text = b"return %4d --" % number + b"x" * 86
        assert lua.compile(sha_of(text), text) is lua.compile(sha_of(text), text)
    assert len(lua._compiled) == 10
    assert lua._compiled_bytes == 1000


def test_every_command_may_be_called_with_any_words() -> None:
    for name, command in TABLE_OF_COMMANDS.items():
        for words in ([], ["1", "k"], ["d", "1", "k"], ["k", "0", "x", "y"], ["0", "1", "k", "LEFT"]):
            for each in command.subcommands or [b""]:
                database = begun()
                script = "return tostring(redis.pcall(unpack(ARGV)))"
                reply = run(database, script, *filter(None, (name, each)), *words)
                assert isinstance(reply, bytes), (name, words)


@pytest.mark.parametrize(
    "call",
    [
        "struct.unpack, 'dc0', struct.pack('d', 1 / 0) .. 'x'",
        "struct.unpack, 'dc0', struct.pack('d', 0 / 0) .. 'x'",
        "struct.unpack, 'b', 'x', 1 / 0",
        "struct.unpack, 'b', 'x', 0 / 0",
        "struct.unpack, 'b', 'x', -1e300",
        "struct.unpack, '', 'x', 1e300",
    ],
)
def test_what_a_library_cannot_do_is_an_error_of_lua_and_no_object_of_python(call: str) -> None:
    script = f"local ok, problem = pcall({call}) return {{type(problem), tostring(problem)}}"
    kind, problem = run(begun(), script)
    assert (kind, b"bad argument" in problem) == (b"string", True)


def test_a_library_that_fails_stops_the_script_and_python_is_out_of_reach() -> None:
    def fail(*values: object) -> None:
        raise OverflowError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(libraries, "struct_size", fail)
        lua = Engine()
    database = begun()
    text = b"local _, problem = pcall(struct.size, 'b') return tostring(problem.__class__)"
    with pytest.raises(ReplyError, match="a library has failed"):
        lua.run(
            database.keyspaces[0],
            lua.compile(sha_of(text), text),
            sha_of(text),
            [],
            0,
            is_read_only=False,
            is_replicated=True,
        )


def test_nothing_repeated_is_nothing_at_once() -> None:
    assert run(begun(), "return string.rep('', 1e18)") == b""


def test_an_error_tells_no_address() -> None:
    for problem in ("{err = {}}", "{err = function() end}", "{}"):
        assert run(begun(), f"error({problem})").text.startswith("ERR an error without a text script: ")


# Taking back

STOP = "string.rep('x', 1e9)"
"""Is stopped at once."""
undone = st.lists(
    st.sampled_from(
        [
            "'set', 'key1', 'x'",
            "'set', 'list3', 'x'",
            "'set', 'list2000', 'x'",
            "'del', 'hash2000', 'key2', 'zset3'",
            "'append', 'key3', 'y'",
            "'expire', 'key4', '50'",
            "'persist', 'key5'",
            "'rename', 'key6', 'key7'",
            "'rename', 'list2000', 'moved'",
            "'lpush', 'moved', 'm'",
            "'rename', 'set3', 'key8'",
            "'flushdb'",
            "'flushall'",
            "'select', '3'",
            "'select', '0'",
            "'set', 'elsewhere', 'y'",
            "'del', 'elsewhere'",
            "'lpush', 'list3', 'a', 'b'",
            "'rpush', 'list2000', 'a', 'b'",
            "'lpop', 'list2000'",
            "'rpop', 'list3'",
            "'lpop', 'list3', '2'",
            "'lset', 'list2000', '7', 'z'",
            "'linsert', 'list2000', 'BEFORE', '7919', 'z'",
            "'lrem', 'list2000', '0', '7919'",
            "'lrem', 'list2000', '-1', '7919'",
            "'ltrim', 'list2000', '10', '100'",
            "'ltrim', 'list3', '1', '0'",
            "'rpoplpush', 'list2000', 'list3'",
            "'lmove', 'list2000', 'list2000', 'LEFT', 'RIGHT'",
            "'lpush', 'newlist', '1'",
            "'sort', 'list2000', 'LIMIT', '0', '5', 'STORE', 'sorted'",
            "'sadd', 'set3', 'new'",
            "'srem', 'set2000', '7919', '0'",
            "'spop', 'set2000', '5'",
            "'sunionstore', 'set3', 'set3', 'set2000'",
            "'hset', 'hash2000', '7919', 'v', 'new', 'w'",
            "'hdel', 'hash2000', '7919', '0'",
            "'hincrby', 'hash3', 'n', '4'",
            "'zadd', 'zset2000', '5', '7919', '6', 'new'",
            "'zrem', 'zset2000', '7919', '0'",
            "'zpopmin', 'zset2000', '5'",
            "'zremrangebyscore', 'zset2000', '3', '5'",
            "'zremrangebyrank', 'zset3', '0', '-1'",
            "'move', 'key9', '3'",
            "'copy', 'list3', 'copied'",
            "'swapdb', '0', '3'",
            "'setbit', 'key10', '7', '1'",
        ]
    ),
    min_size=1,
    max_size=12,
)


@given(undone, st.booleans())
@settings(max_examples=EXAMPLES // 20, **SETTINGS)
def test_what_is_taken_back_was_never_there(commands: list[str], with_image: bool) -> None:
    database, other = filled(), filled()
    script = "".join(f"redis.pcall({command}) " for command in commands)
    for each in (database, other):
        each.shared.wanted_events = 0xFFFF
        ask(each, "SCRIPT", "LOAD", script + STOP)
    before, rolling, due = database.digest(), database.rolling, database.next_expiry()
    image = database.image() if with_image else None
    events, graves = list(database.shared.events), len(database.shared.graveyard)
    assert "was stopped" in run(database, script + STOP).text
    assert len(database.shared.graveyard) == graves
    assert database.digest() == before
    assert (database.rolling, database.next_expiry()) == (rolling, due)
    assert database.shared.events == events
    if image is not None:
        assert b"".join(image.pieces()) == b"".join(other.image().pieces())
    # What comes next is as if nothing had been; and a script that is kept does what its commands do.
    run(database, script)
    run(other, script)
    for each in (database, other):
        each.begin(2, NOW + 1_005)
    assert database.digest() == other.digest()


def test_a_script_does_what_its_commands_do() -> None:
    database, other = filled(), filled()
    commands = [
        "rpush list3 a",
        "lpop list2000",
        "rename list3 list4",
        "del set2000",
        "set key1 x",
        "flushdb",
        "rpush l 1 2",
    ]
    for command in commands:
        ask(other, *command.split())
    script = "".join(f"redis.call({', '.join(map(repr, command.split()))}) " for command in commands)
    assert run(database, script) is None
    for each in (database, other):
        each.shared.scripts.clear()
        for keyspace in each.keyspaces:
            assert keyspace.past is None
        assert type(each.keyspaces[0].values[b"l"].items).__name__ == "deque"
        for _ in range(100):
            each.tidy(10_000)
    other.shared.rolling.crc = database.shared.rolling.crc
    assert database.digest() == other.digest()


def test_a_script_that_fails_keeps_what_it_did() -> None:
    database = begun()
    assert isinstance(run(database, "redis.call('set', 'a', '1') error('x')"), ReplyError)
    assert ask(database, "GET", "a") == b"1"


def test_scripts_ride_in_what_is_done_once() -> None:
    database = begun()
    script = "redis.call('incr', 'n') redis.setresp(3) return {true, {double=1.5}, {map={a=false}}, {ok='fine'}, {err='bad'}}"
    first = ask(database, "SOFA.ONCE", "id", "EVAL", script, 0)
    assert (
        ask(database, "SOFA.ONCE", "id", "EVAL", script, 0)
        == first
        == [True, 1.5, {b"a": False}, OK.__class__(b"fine"), ReplyError("bad")]
    )
    assert ask(database, "GET", "n") == b"1"
    image = b"".join(database.image().pieces())
    loader = Loader()
    loader.feed(image)
    assert loader.finish().digest() == database.digest()


def test_the_interpreter_leaves_the_encoding_of_files_alone() -> None:
    before = locale.getlocale(locale.LC_CTYPE)
    assert run(begun(), "return ('\\228'):find('%a')") is None
    assert locale.getlocale(locale.LC_CTYPE) == before


def test_names_are_known_alike_with_and_without_a_server() -> None:
    for name in (
        "subscribe",
        "client",
        "config",
        "sofa.once",
        "sofa.unlock",
        "sofa.status",
        "eval",
        "wait",
    ):
        assert "not allowed from script" in run(begun(), f"return redis.call('{name}', 'a', 'b')").text, name
    assert run(begun(), "return redis.call('ping')").text == b"PONG"


def test_what_a_script_publishes_is_told_when_it_is_done_and_never_if_it_was_stopped() -> None:
    database = begun()
    told = database.shared.events

    def tell(message: Message) -> int:
        told.append(message)
        return 5

    database.shared.messages.tell = tell
    publish = "local n = redis.call('publish', KEYS[1], ARGV[1]); redis.call('set', 'n', n); "
    assert run(database, publish + "return n", "news", "one", keys=1) == 0, "the same on every node"
    assert told == [Message(b"news", b"one")]
    before = database.digest()
    stopped = run(database, publish + "while true do end", "news", "two", keys=1)
    assert "was stopped" in stopped.text
    assert told == [Message(b"news", b"one")]
    del stopped
    assert run_of([[b"PUBLISH", b"news", b"three"]]).execute(database) == [5]
    assert before != database.digest()


def test_nobody_waits_in_a_script() -> None:
    database = begun()
    assert run(database, "return redis.call('blmpop', 0, 1, 'a', 'LEFT')") is None
    assert run(database, "return redis.call('bzmpop', 0, 1, 'a', 'MIN')") is None
    ask(database, "RPUSH", "a", "x")
    assert run(database, "return redis.call('blmpop', 0, 1, 'a', 'LEFT')") == [b"a", [b"x"]]
