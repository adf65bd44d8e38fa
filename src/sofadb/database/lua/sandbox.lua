-- What scripts live in: Lua 5.1 as Redis 7.0 offers it, with nothing in it that could outlive a script, differ between
-- replicas, or take longer than it is charged for.
--
-- Time is counted in steps, of which one is about an instruction; the hook counts those, and what does more in one
-- instruction is charged for by `charge`. Memory is counted as the bytes of strings that are made (`made`); all else follows
-- from the steps. Garbage is only collected between scripts, so what a script sees does not depend on when.
--
-- A script that has had too much is stopped for good: whoever could catch the error (pcall, xpcall, resume) passes it on.
--
-- Tables that no script may change are shown as empty tables ("shown"), behind which their contents ("hidden") are read.

local host, steps_max, bytes_max = ...

local type, select, error, unpack, tonumber, next = type, select, error, unpack, tonumber, next
local native = {
  pcall = pcall, xpcall = xpcall, tostring = tostring, setmetatable = setmetatable, getmetatable = getmetatable,
  rawset = rawset, rawget = rawget, loadstring = loadstring, setfenv = setfenv, create = coroutine.create,
  resume = coroutine.resume, status = coroutine.status, getinfo = debug.getinfo, sethook = debug.sethook,
  dump = string.dump,
}
local sub, byte, gsub, format, floor, ceil = string.sub, string.byte, string.gsub, string.format, math.floor, math.ceil
local setmetatable, rawget, rawset, pcall = native.setmetatable, native.rawget, native.rawset, native.pcall

local INTERVAL = 1000
local SOURCE = "@user_script"
local READ_ONLY = "Attempt to modify a readonly table"

local kit = { host = host, native = native }
-- What the other files of this directory are given.

local function guard(f)
  -- A function of the host that must not, whatever happens there, raise an object of the host into a script.
  local function passed_on(ok, problem, ...)
    if not ok then kit.stop("a library has failed") end
    return problem, ...
  end
  return function(...) return passed_on(pcall(f, ...)) end
end

for name, f in next, host do
  if name ~= "call" and name ~= "call_with" then host[name] = guard(f) end
end

-- Limits

local steps, bytes, stopped = 0, 0, nil

local function stop(why)
  stopped = stopped or why
  error(stopped, 0)
end

local function charge(count)
  steps = steps + count
  if steps > steps_max or stopped then stop("it took too long") end
end

local is_over = true
-- Whether nothing is counted any more.

local function tick()
  if not is_over then charge(INTERVAL) end
end

local function made(text)
  local size = #text
  bytes = bytes + size
  if bytes > bytes_max then stop("it took too much memory") end
  if size > 64 then charge(floor(size / 16)) end
  return text
end

local function reckon(...)
  -- What natives take as numbers may be strings, which take their time to be read.
  for i = 1, math.min(select("#", ...), 4) do
    local value = select(i, ...)
    if type(value) == "string" and #value > 8 then charge(floor(#value / 8)) end
  end
end

local function passed(ok, problem, ...)
  -- What a protected call has returned, unless the script is to stop.
  if not ok and problem == "not enough memory" then stop("it took too much memory") end
  if stopped then error(stopped, 0) end
  return ok, problem, ...
end

kit.reckon = reckon
kit.charge, kit.made, kit.stop, kit.passed, kit.bytes_max = charge, made, stop, passed, bytes_max

-- Errors as the natives raise them, with the place and the name of who called

local placed = {}
for word in string.gmatch("bad invalid too wrong string unfinished malformed missing resulting cannot unable position "
  .. "unbalanced JSON Cannot Expected Found Missing Bad Start Invalid 'setn", "%S+") do
  placed[word] = true
end
-- How errors begin that natives, and the libraries here, raise with the place of who called them.

local function relay(ok, problem, ...)
  -- What a native has returned, or its error as if the caller of our caller had called it.
  if ok then return problem, ... end
  if type(problem) ~= "string" then error(problem, 0) end
  if not placed[string.match(problem, "^'?%a*")] or sub(problem, 1, 14) == "invalid key to" then error(problem, 0) end
  local info = native.getinfo(2, "n")
  problem = gsub(problem, "'%?'", function() return "'" .. (info.name or "?") .. "'" end, 1)
  if info.namewhat == "method" then
    problem = gsub(problem, "^bad argument #(%d+) to", function(number)
      return number == "1" and "calling" or "bad argument #" .. number - 1 .. " to"
    end)
    problem = gsub(problem, "^calling ('[^']*') %(", "calling %1 on bad self (")
  end
  error(problem, 3)
end

local function bad_argument(number, problem, depth)
  -- For functions of this directory that stand in for natives, and for what they call, so deep.
  depth = depth or 0
  local info = native.getinfo(2 + depth, "n")
  local name = info.name or "?"
  if info.namewhat == "method" then
    number = number - 1
    if number == 0 then error(format("calling '%s' on bad self (%s)", name, problem), 3 + depth) end
  end
  error(format("bad argument #%d to '%s' (%s)", number, name, problem), 3 + depth)
end

local function got(value, count, number)
  return number > count and "no value" or type(value)
end

kit.relay, kit.bad_argument, kit.got = relay, bad_argument, got

-- Tables that cannot be changed

local hidden = {}

local function refuse() error(READ_ONLY, 2) end

local function show(contents)
  local shown = setmetatable({}, { __index = contents, __newindex = refuse })
  hidden[shown] = contents
  return shown
end

local function demand_own(t)
  if hidden[t] then error(READ_ONLY, 0) end
end

function kit.contents(t) return hidden[t] or t end
function kit.made_bytes(size)
  bytes = bytes + size
  charge(floor(size / 16))
  if bytes > bytes_max then stop("it took too much memory") end
end

kit.show, kit.demand_own = show, demand_own

-- The functions of everybody

local G = { _VERSION = _VERSION, assert = assert, rawequal = rawequal, type = type }

function G.error(problem, level)
  if type(level) == "string" then
    reckon(level)
    level = tonumber(level)
  end
  level = level or 1
  local info = type(level) == "number" and level > 0 and native.getinfo(level + 1, "S")
  if not info or info.source == "=sofadb" then error(problem, 0) end
  error(problem, level + 1)
end

function G.select(...)
  reckon((...))
  return relay(pcall(select, ...))
end

local named, names = {}, 0
-- What was shown by `tostring`, and as what.

local function show_name(value)
  local name = named[value]
  if not name then
    charge(100)
    names = names + 1
    name = format("%s: 0x%014x", type(value), names * 64)
    named[value] = name
  end
  return name
end

function G.tostring(...)
  local value = ...
  local kind = type(value)
  if kind == "number" or kind == "boolean" or kind == "nil" and select("#", ...) > 0 then return native.tostring(value) end
  if kind == "string" then return value end
  if kind == "nil" then bad_argument(1, "value expected") end
  local meta = native.getmetatable(value)
  if meta and kind == "table" and not hidden[value] and rawget(meta, "__tostring") then
    return native.tostring(value)
  end
  if value == kit.null then return "userdata: (nil)" end
  return show_name(value)
end

function G.tonumber(...)
  reckon(...)
  return relay(pcall(tonumber, ...))
end

function G.pairs(...)
  local t = ...
  if type(t) ~= "table" then
    bad_argument(1, "table expected, got " .. got(t, select("#", ...), 1))
  end
  return hidden[t] and G.next or next, t, nil
end

function G.next(...)
  local t, key = ...
  if type(t) == "table" then return relay(pcall(next, hidden[t] or t, key)) end
  return relay(pcall(next, ...))
end

local function step(t, i)
  i = i + 1
  local value = rawget(t, i)
  if value ~= nil then return i, value end
end

function G.ipairs(...)
  local t = ...
  if type(t) ~= "table" then
    bad_argument(1, "table expected, got " .. got(t, select("#", ...), 1))
  end
  return step, t, 0
end

function G.unpack(...)
  local t, first, last = ...
  reckon(first, last)
  if type(t) == "table" then
    local count = (tonumber(last) or #t) - (tonumber(first) or 1)
    if count > 0 and count < 10000 then charge(floor(count / 8)) end
  end
  return relay(pcall(unpack, ...))
end

function G.rawget(...)
  local t, key = ...
  if select("#", ...) >= 2 and type(t) == "table" then return rawget(hidden[t] or t, key) end
  return relay(pcall(rawget, ...))
end

local function check_key(key)
  local kind = type(key)
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" and kind ~= "nil" then
    error(format("a %s cannot be the key of a table here", kind), 3)
  end
end

kit.check_key = check_key

function G.rawset(...)
  local t, key, value = ...
  if type(t) == "table" and select("#", ...) >= 3 then
    demand_own(t)
    check_key(key)
  end
  return relay(pcall(rawset, ...))
end

function G.getmetatable(...)
  local value = ...
  if select("#", ...) == 0 then bad_argument(1, "value expected") end
  if type(value) == "string" then return kit.string_meta end
  if type(value) == "table" and hidden[value] then return value == kit.env and kit.env_meta or nil end
  return native.getmetatable(value)
end

function G.setmetatable(...)
  local t = ...
  if type(t) == "table" then demand_own(t) end
  return relay(pcall(setmetatable, ...))
end

function G.pcall(...)
  if select("#", ...) == 0 then return false, "attempt to call a boolean value" end
  local function plain(ok, problem, ...)
    if not ok and type(problem) == "table" and type(rawget(problem, "err")) == "string" then problem = problem.err end
    return ok, problem, ...
  end
  return plain(passed(pcall(...)))
end

function G.xpcall(...)
  if select("#", ...) < 2 then bad_argument(2, "value expected") end
  local f, handler = ...
  return passed(native.xpcall(f, function(problem)
    -- Within the hook that stops a script, nothing is counted any more.
    if stopped then return problem end
    return handler(problem)
  end))
end

-- Code that scripts compile

local function compile(text, name)
  if byte(text) == 27 then return nil, "attempt to load chunk with wrong mode" end
  charge(10000 + 40 * #text)
  made(text)
  local chunk, problem = native.loadstring(text, name)
  if not chunk then return nil, problem end
  local checked
  checked, problem = host.rewrite(native.dump(chunk))
  if not checked then return nil, problem end
  return native.setfenv(native.loadstring(checked, name), kit.env)
end

function G.loadstring(...)
  local text, name = ...
  if type(text) ~= "string" then
    bad_argument(1, "string expected, got " .. got(text, select("#", ...), 1))
  end
  return compile(text, type(name) == "string" and name or text)
end

function G.load(...)
  local pieces, name = ...
  if type(pieces) ~= "function" then
    bad_argument(1, "function expected, got " .. got(pieces, select("#", ...), 1))
  end
  local parts = {}
  while true do
    local piece = pieces()
    if piece == nil or piece == "" then break end
    if type(piece) == "number" then piece = native.tostring(piece) end
    if type(piece) ~= "string" then return nil, "reader function must return a string" end
    charge(10)
    made(piece)
    parts[#parts + 1] = piece
  end
  return compile(table.concat(parts), type(name) == "string" and name or "=(load)")
end

local options = { collect = 0, count = 64, restart = 0, setpause = 200, setstepmul = 200, step = true, stop = 0 }

function G.collectgarbage(...)
  -- When garbage is collected is nothing that replicas agree on.
  local option = ... or "collect"
  if options[option] == nil then bad_argument(1, format("invalid option '%s'", G.tostring(option))) end
  return options[option]
end

function G.gcinfo() return 64 end

-- Coroutines

local co = { running = coroutine.running, yield = coroutine.yield, status = coroutine.status }

function co.create(...)
  local f = ...
  if type(f) ~= "function" or native.getinfo(f, "S").what == "C" then bad_argument(1, "Lua function expected") end
  charge(INTERVAL)
  local thread = native.create(f)
  native.sethook(thread, tick, "", INTERVAL)
  return thread
end

function co.resume(...)
  charge(10)
  if type((...)) ~= "thread" then bad_argument(1, "coroutine expected") end
  return passed(native.resume(...))
end

function co.wrap(...)
  local f = ...
  if type(f) ~= "function" or native.getinfo(f, "S").what == "C" then bad_argument(1, "Lua function expected") end
  local thread = co.create(f)
  local function returned(ok, problem, ...)
    if ok then return problem, ... end
    error(problem, 3)
  end
  return function(...)
    charge(10)
    return returned(passed(native.resume(thread, ...)))
  end
end

G.coroutine = show(co)

-- Tables

local tables, T = {}, table

function tables.concat(...)
  local t, separator, first, last = ...
  reckon(separator, first, last)
  if type(t) == "table" then charge(2 * #t) end
  return made(relay(pcall(T.concat, ...)))
end

function tables.insert(...)
  local t, position = ...
  reckon(position)
  if type(t) == "table" then
    demand_own(t)
    if select("#", ...) == 3 and type(position) == "number" then charge(math.max(#t - position, 0)) end
  end
  return relay(pcall(T.insert, ...))
end

function tables.remove(...)
  local t, position = ...
  reckon(position)
  if type(t) == "table" and type(position) == "number" then charge(math.max(#t - position, 0)) end
  return relay(pcall(T.remove, ...))
end

local function less(a, b)
  if type(a) == "string" and #a > 64 then charge(floor(#a / 64)) end
  return a < b
end

function tables.sort(...)
  local t, before = ...
  if type(t) ~= "table" or before ~= nil then return relay(passed(pcall(T.sort, ...))) end
  -- With a function of ours to compare, each comparison is counted.
  local ok, problem = passed(pcall(T.sort, t, less))
  if not ok then relay(false, (gsub(problem, "^sofadb:%d+: ", ""))) end
end

function tables.maxn(...)
  local t = ...
  if type(t) == "table" then
    local top = 0
    for key in next, hidden[t] or t do
      if type(key) == "number" and key > top then top = key end
    end
    return top
  end
  return relay(pcall(T.maxn, ...))
end

function tables.getn(...) return relay(pcall(T.getn, ...)) end
function tables.setn(...) return relay(pcall(T.setn, ...)) end

function tables.foreach(...)
  local t, f = ...
  if type(t) ~= "table" or type(f) ~= "function" then return relay(pcall(T.foreach, ...)) end
  for key, value in next, hidden[t] or t do
    local result = f(key, value)
    if result ~= nil then return result end
  end
end

function tables.foreachi(...)
  local t, f = ...
  if type(t) ~= "table" or type(f) ~= "function" then return relay(pcall(T.foreachi, ...)) end
  for i = 1, #t do
    local result = f(i, t[i])
    if result ~= nil then return result end
  end
end

G.table = show(tables)

-- Numbers

local maths = {}
for name, value in next, math do
  maths[name] = value
  if type(value) == "function" then
    maths[name] = function(...)
      charge(select("#", ...))
      reckon(...)
      return relay(pcall(value, ...))
    end
  end
end

local high, low = 0, 0
-- The state of POSIX's lrand48, 24 bits each.

local function seed(number)
  -- The state is the number's 32 bits, and 0x330E behind them.
  number = number % 4294967296
  high, low = floor(number / 256), number % 256 * 65536 + 0x330E
end

local function random_bits()
  -- Times 0x5DEECE66D, plus 11, modulo 2^48; the upper 31 bits.
  local product = low * 0xECE66D + 11
  local carry = floor(product / 16777216)
  high = (high * 0xECE66D + low * 0x5DE + carry) % 16777216
  low = product % 16777216
  return high * 128 + floor(low / 131072)
end

local function integer_of(value)
  return value >= 0 and floor(value) or ceil(value)
end

function maths.random(...)
  reckon(...)
  local r = random_bits() % 2147483647 / 2147483647
  local count = select("#", ...)
  if count == 0 then return r end
  if count > 2 then error("wrong number of arguments", 2) end
  local low_end, high_end = 1, ...
  if count == 2 then low_end, high_end = ... end
  for number, value in ipairs(count == 2 and { low_end, high_end } or { high_end }) do
    if not tonumber(value) then
      bad_argument(number, "number expected, got " .. type(value))
    end
  end
  if not tonumber(high_end) then bad_argument(count, "number expected, got " .. type(high_end)) end
  low_end, high_end = integer_of(tonumber(low_end)), integer_of(tonumber(high_end))
  if low_end > high_end then bad_argument(count, "interval is empty") end
  return floor(r * (high_end - low_end + 1)) + low_end
end

function maths.randomseed(...)
  reckon((...))
  local number = tonumber((...))
  if not number then bad_argument(1, "number expected, got " .. got((...), select("#", ...), 1)) end
  if number ~= number or number >= 9.2e18 or number <= -9.2e18 then number = 0 end
  seed(integer_of(number))
end

G.math = show(maths)

-- A run

setmetatable(G, { __index = function(_, key)
  if type(key) ~= "string" and type(key) ~= "number" then
    error("Second argument to luaProtectedTableError must be a string or number", 2)
  end
  error(format("Script attempted to access nonexistent global variable '%s'", key), 2)
end })
local env = show(G)
G._G, kit.env, kit.env_meta, kit.G = env, env, show({}), G

local function check(name, f)
  G["\0" .. name] = setmetatable({}, { __index = f, __newindex = refuse })
  hidden[G["\0" .. name]] = {}
end

check("key", function(_, key)
  local kind = type(key)
  if kind ~= "string" and kind ~= "number" then check_key(key) end
  steps = steps + 10
end)
check("made", function(_, value)
  if type(value) == "string" then
    steps = steps + 20
    made(value)
  elseif type(value) == "table" then
    charge(#value)
  end
end)
check("text", function(_, value)
  if type(value) == "string" and #value > 64 then charge(floor(#value / 64)) end
end)
check("number", function(_, value)
  if type(value) == "string" and #value > 8 then charge(floor(#value / 8)) end
end)
check("cost", function(_, count) charge(count) end)
G["\0many"] = function(...)
  local count = select("#", ...)
  if count > 16 then charge(floor(count / 4)) end
end

local function place(problem)
  -- The error as a table, with the line of the script at which it came about.
  is_over = true
  if stopped then return problem end
  if type(problem) ~= "table" then problem = { err = "ERR " .. G.tostring(problem) } end
  for level = 2, 12 do
    local info = native.getinfo(level, "Sl")
    if not info then break end
    if info.source ~= "=sofadb" and info.currentline >= 0 then
      if not hidden[problem] then
        rawset(problem, "source", info.source)
        rawset(problem, "line", info.currentline)
      end
      break
    end
  end
  return problem
end

function kit.compile(text)
  -- For the host: a function, or nil and what is wrong.
  local chunk, problem = native.loadstring(text, SOURCE)
  if not chunk then return nil, problem end
  local checked
  checked, problem = host.rewrite(native.dump(chunk))
  if not checked then return nil, "user_script:1: " .. problem end
  return native.setfenv(native.loadstring(checked, SOURCE), env)
end

local function fill(count, first, ...)
  local keys, arguments = {}, {}
  local all = type(first) == "table" and first or { first, ... }
  for i = 1, #all do
    local text = all[i]
    made(text)
    if i <= count then keys[i] = text else arguments[i - count] = text end
  end
  G.KEYS, G.ARGV = keys, arguments
end

function kit.run(f, chance, count, ...)
  -- Returns "stopped" and why, "error" and its text, source and line, or "done" and the reply.
  steps, bytes, stopped, names = 0, 0, nil, 0
  named = {}
  seed(chance)
  kit.begin()
  local all = { ... }
  local ok, value = native.xpcall(function()
    is_over = false
    native.sethook(tick, "", INTERVAL)
    fill(count, unpack(all))
    local reply = kit.reply((f()))
    is_over = true
    return reply
  end, place)
  is_over = true
  native.sethook()
  G.KEYS, G.ARGV, named = nil, nil, nil
  if value == "not enough memory" then stopped = stopped or "it took too much memory" end
  if stopped then return "stopped", stopped end
  if ok then return "done", value end
  if type(value) ~= "table" then return "error", "ERR " .. G.tostring(value) end
  local problem = rawget(value, "err")
  if type(problem) ~= "string" and type(problem) ~= "number" then problem = "ERR an error without a text" end
  return "error", problem, rawget(value, "source"), rawget(value, "line")
end

function kit.taken() return steps end
function kit.memory() return collectgarbage("count") end
function kit.collect() collectgarbage("collect") collectgarbage("stop") end

collectgarbage("stop")
return kit
