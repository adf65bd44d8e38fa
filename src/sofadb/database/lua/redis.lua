-- The table `redis`, and the replies of commands and of scripts.

local kit = ...
local host, charge, made = kit.host, kit.charge, kit.made
local type, select, error, unpack, next, rawget = type, select, error, unpack, next, rawget
local format, floor, ceil = string.format, math.floor, math.ceil

local COMMAND_STEPS = 500
-- Of a command, besides what it is charged for its words and elements.
local DEPTH_MAX = 50
-- How deep tables of a reply may lie in each other.
local ITEMS_AT_ONCE = 200

local resp = 2

local function fail(problem)
  error({ err = problem }, 0)
end

local function words_of(...)
  -- The words of a command, as strings; nil if they are none.
  local count = select("#", ...)
  local words = { ... }
  for i = 1, count do
    local word = words[i]
    if type(word) == "number" then
      words[i] = format("%.17g", word)
    elseif type(word) ~= "string" then
      return nil
    end
  end
  return words, count
end

local VALUE, STATUS, ERROR, NULL, ARRAY, TABLE, STOP, NIL = 0, 1, 2, 3, 4, 5, 6, 7
-- What the host says that comes.

local function understood(kind, ...)
  if kind == VALUE then
    local value = ...
    if type(value) == "string" then made(value) end
    return value
  elseif kind == STATUS then
    return { ok = (...) }
  elseif kind == ERROR then
    return { err = (...) }, true
  elseif kind == NULL then
    return false
  elseif kind == NIL then
    return nil
  elseif kind == STOP then
    kit.stop((...))
  end
  local items = kind == ARRAY and { ... } or ...
  return items
end

local function charged(steps, size, ...)
  charge(steps)
  if size > 0 then kit.made_bytes(size) end
  return understood(...)
end

local function ask(...)
  if select("#", ...) == 0 then
    return { err = "ERR Please specify at least one argument for this redis lib call" }, true
  end
  charge(COMMAND_STEPS)
  local words, count = words_of(...)
  if not words then
    return { err = "ERR Lua redis lib command arguments must be strings or integers" }, true
  end
  if count <= ITEMS_AT_ONCE then return charged(host.call(unpack(words, 1, count))) end
  return charged(host.call_with(words))
end

local redis = {
  LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
  REPL_NONE = 0, REPL_AOF = 1, REPL_SLAVE = 2, REPL_REPLICA = 2, REPL_ALL = 3,
  REDIS_VERSION = "7.0.15", REDIS_VERSION_NUM = 0x0007000f,
}

function redis.call(...)
  local reply, is_error = ask(...)
  if is_error then error(reply, 0) end
  return reply
end

function redis.pcall(...)
  local reply, is_error = ask(...)
  if is_error then reply.ignore_error_stats_update = true end
  return reply
end

function redis.sha1hex(...)
  if select("#", ...) ~= 1 then fail("ERR wrong number of arguments") end
  local text = ...
  if type(text) == "number" then text = tostring(text) end
  if type(text) ~= "string" then text = "" end
  charge(floor(#text / 8))
  return host.sha1hex(text)
end

local function one_text(field, ...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  return { [field] = text }
end

function redis.status_reply(...)
  return one_text("ok", ...)
end

function redis.error_reply(...)
  local reply = one_text("err", ...)
  local text = reply.err
  if select("#", ...) == 1 and type((...)) == "string" then
    if string.sub(text, 1, 1) == "-" then text = string.sub(text, 2) end
    if not string.find(text, " ", 1, true) then text = "ERR " .. text end
    reply.err = text
  end
  return reply
end

function redis.log(...)
  -- What every replica would write at every replay of its log is written nowhere.
  local level = ...
  if select("#", ...) < 2 then fail("ERR redis.log() requires two arguments or more.") end
  if type(level) ~= "number" and not tonumber(level) then
    fail("ERR First argument must be a number (log level).")
  end
  level = tonumber(level)
  if level < 0 or level > 3 then fail("ERR Invalid debug level.") end
end

function redis.setresp(...)
  if select("#", ...) ~= 1 then fail("ERR redis.setresp() requires one argument.") end
  local version = tonumber((...))
  if version ~= 2 and version ~= 3 then fail("ERR RESP version must be 2 or 3.") end
  resp = version
  host.set_resp(version)
end

function redis.set_repl(...)
  if select("#", ...) ~= 1 then fail("ERR redis.set_repl() requires two arguments.") end
  local flags = tonumber((...)) or 0
  if flags < 0 or flags > 3 then
    fail("ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
  end
end

function redis.replicate_commands() return true end
function redis.breakpoint() return false end
function redis.debug() end

function redis.acl_check_cmd(...)
  if select("#", ...) == 0 then fail("ERR Please specify at least one argument for this redis lib call") end
  local words, count = words_of(...)
  if not words then fail("ERR Lua redis lib command arguments must be strings or integers") end
  if not host.is_command(unpack(words, 1, math.min(count, 2))) then
    fail("ERR Invalid command passed to redis.acl_check_cmd()")
  end
  return true
end

kit.G.redis = kit.show(redis)

-- What a script returns, as a reply

local function integer(number)
  if number ~= number or number >= 2 ^ 63 or number < -2 ^ 63 then return -2 ^ 63 end
  return number >= 0 and floor(number) or ceil(number)
end

local reply_of

local function map_of(t, depth)
  local map = host.map()
  for key, value in next, kit.contents(t) do
    charge(20)
    host.put(map, reply_of(key, depth), reply_of(value, depth))
  end
  return map
end

local function set_of(t, depth)
  local set = host.set()
  for key in next, kit.contents(t) do
    charge(20)
    host.extend(set, reply_of(key, depth))
  end
  return set
end

local function list_of(t, depth)
  local list, items, count = nil, {}, 0
  local i = 1
  while true do
    local item = rawget(t, i)
    if item == nil then break end
    charge(4)
    count = count + 1
    items[count] = reply_of(item, depth)
    if count == ITEMS_AT_ONCE then
      list = host.extend(list or host.list(), unpack(items, 1, count))
      count = 0
    end
    i = i + 1
  end
  if not list then return host.list(unpack(items, 1, count)) end
  if count == 0 then return list end
  return host.extend(list, unpack(items, 1, count))
end

local function verbatim_of(t)
  local text = rawget(t, "string")
  if type(text) == "string" and type(rawget(t, "format")) == "string" then return host.verbatim(made(text)) end
  return nil
end

local special = {
  { "err", "string", function(text) return host.error(text) end },
  { "ok", "string", function(text) return host.status(text) end },
  { "double", "number", function(number) return host.double(number) end },
  { "map", "table", map_of },
  { "set", "table", set_of },
  { "big_number", "string", made },
  { "verbatim_string", "table", verbatim_of },
}
-- What a table is that has one of these fields, of that type.

function reply_of(value, depth)
  local kind = type(value)
  if kind == "string" then
    return made(value)
  elseif kind == "number" then
    return integer(value)
  elseif kind == "boolean" then
    if resp == 3 then return value end
    return value and 1 or nil
  elseif kind ~= "table" then
    return nil
  end
  if depth > DEPTH_MAX then return host.error("ERR reached lua stack limit") end
  for i = 1, #special do
    local field = special[i]
    local inner = rawget(value, field[1])
    if type(inner) == field[2] then return field[3](inner, depth + 1) end
  end
  return list_of(value, depth + 1)
end

function kit.reply(value)
  return reply_of(value, 0)
end

function kit.begin()
  resp = 2
  kit.reset_cjson()
  kit.forget_patterns()
end
