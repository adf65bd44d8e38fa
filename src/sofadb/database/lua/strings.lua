-- Lua's string library, charged for. Patterns are matched by Lua's own functions as long as they cannot take long: with n bytes and
-- q items that are repeated, matching takes at most about n^(q+1) steps. Where that is too much, they are matched here, in Lua, where
-- every step counts.

local kit = ...
local charge, made, relay, bad_argument = kit.charge, kit.made, kit.relay, kit.bad_argument
local S, floor, pcall, type, select, error = string, math.floor, pcall, type, select, error
local sub, byte, find, match, gsub = S.sub, S.byte, S.find, S.match, S.gsub

local STEPS_UNCOUNTED = 2000
local PATTERN_UNCOUNTED = 200
local CAPTURES_MAX = 32

local strings = {}
local reckon = kit.reckon

function strings.len(...) return relay(pcall(S.len, ...)) end

function strings.byte(...)
  reckon(select(2, ...))
  if select("#", ...) > 2 then charge(math.min(#tostring((...)), 8000) / 8) end
  return relay(pcall(S.byte, ...))
end

function strings.char(...)
  charge(floor(select("#", ...) / 4))
  for i = 1, select("#", ...) do
    if type((select(i, ...))) == "string" then reckon((select(i, ...))) end
  end
  return made(relay(pcall(S.char, ...)))
end

for _, name in ipairs { "sub", "lower", "upper", "reverse" } do
  local f = S[name]
  strings[name] = function(...)
    local text = ...
    if type(text) == "string" then charge(floor(#text / 64)) end
    reckon(select(2, ...))
    return made(relay(pcall(f, ...)))
  end
end

function strings.rep(...)
  local text, count = ...
  reckon(count)
  if (type(text) == "string" or type(text) == "number") and tonumber(count) then
    local size = #tostring(text) * tonumber(count)
    if size > kit.bytes_max then kit.stop("it took too much memory") end
    if size == 0 then return "" end  -- It would be put together all the same, as often as one says.
    if size > 0 then charge(floor(size / 64)) end
  end
  return made(relay(pcall(S.rep, ...)))
end

function strings.format(...)
  for i = 1, math.min(select("#", ...), 100) do
    local value = select(i, ...)
    if type(value) == "string" then charge(floor(#value / 8)) end
  end
  return made(relay(pcall(S.format, ...)))
end

function strings.dump()
  -- Compiled code would not be loaded.
  error("unable to dump given function", 2)
end

-- Patterns

local function repeated(pattern)
  -- How many items are repeated, or take as long.
  local plain, strange = gsub(pattern, "%%[b1-9]", "")
  plain = gsub(gsub(plain, "%%.", "x"), "%[%^?%]?[^%]]*%]", "x")
  local _, count = gsub(plain, "[*+?-]", "")
  return count + strange
end

local function is_quick(size, pattern)
  -- Whether Lua's own functions may match this, once; if so it is charged.
  if #pattern > PATTERN_UNCOUNTED then return false end
  local count = repeated(pattern)
  if byte(pattern) ~= 94 then count = count + 1 end
  local steps = (size + 2) ^ count * (1 + #pattern / 8)
  if steps > STEPS_UNCOUNTED then return false end
  charge(floor(steps / 4))
  return true
end

local classes = {}
-- The bytes that "%letter" stands for, by letter.
for letter in string.gmatch("acdlpsuwxzACDLPSUWXZ", ".") do
  local set = {}
  for code = 0, 255 do
    if find(string.char(code), "%" .. letter) then set[code] = true end
  end
  classes[byte(letter)] = set
end

local function read_set(pattern, at)
  -- The set whose "[" is before `at`, and where it ends; nil if it does not.
  local set, negated = {}, false
  if byte(pattern, at) == 94 then negated, at = true, at + 1 end
  local first = true
  while true do
    local code = byte(pattern, at)
    if not code then return nil end
    if code == 93 and not first then break end
    first = false
    if code == 37 then
      local letter = byte(pattern, at + 1)
      if not letter then return nil end
      local class = classes[letter]
      if class then
        for each in next, class do set[each] = true end
      else
        set[letter] = true
      end
      at = at + 2
    else
      local last = byte(pattern, at + 2)
      if byte(pattern, at + 1) == 45 and last and last ~= 93 then
        for each = code, last do set[each] = true end
        at = at + 3
      else
        set[code] = true
        at = at + 1
      end
    end
  end
  if negated then
    local other = {}
    for code = 0, 255 do
      if not set[code] then other[code] = true end
    end
    set = other
  end
  return set, at + 1
end

local every = {}
for code = 0, 255 do every[code] = true end

local function parse(pattern, at)
  -- The items of a pattern. What is wrong is an item, too: it counts only where one gets there.
  local items = {}
  local function add(item) items[#items + 1] = item end
  while at <= #pattern do
    local code = byte(pattern, at)
    local letter = byte(pattern, at + 1)
    local item
    if code == 40 then
      if letter == 41 then
        add { is = "position" }
        at = at + 2
      else
        add { is = "open" }
        at = at + 1
      end
    elseif code == 41 then
      add { is = "close" }
      at = at + 1
    elseif code == 36 and at == #pattern then
      add { is = "end" }
      at = at + 1
    elseif code == 37 and letter == 98 then
      if at + 3 > #pattern then
        add { is = "wrong", problem = "unbalanced pattern" }
        break
      end
      add { is = "balanced", byte(pattern, at + 2), byte(pattern, at + 3) }
      at = at + 4
    elseif code == 37 and letter == 102 then
      if byte(pattern, at + 2) ~= 91 then
        add { is = "wrong", problem = "missing '[' after '%f' in pattern" }
        break
      end
      local set, after = read_set(pattern, at + 3)
      if not set then
        add { is = "wrong", problem = "malformed pattern (missing ']')" }
        break
      end
      add { is = "frontier", set = set }
      at = after
    elseif code == 37 and letter and letter >= 48 and letter <= 57 then
      add { is = "back", number = letter - 48 }
      at = at + 2
    else
      local set, after
      if code == 37 then
        if not letter then
          add { is = "wrong", problem = "malformed pattern (ends with '%')" }
          break
        end
        set, after = classes[letter] or { [letter] = true }, at + 2
      elseif code == 91 then
        set, after = read_set(pattern, at + 1)
        if not set then
          add { is = "wrong", problem = "malformed pattern (missing ']')" }
          break
        end
      elseif code == 46 then
        set, after = every, at + 1
      else
        set, after = { [code] = true }, at + 1
      end
      local sign = byte(pattern, after)
      if sign == 42 or sign == 43 or sign == 45 or sign == 63 then
        item = { is = sign == 42 and "many" or sign == 43 and "some" or sign == 45 and "few" or "maybe", set = set }
        after = after + 1
      else
        item = { is = "one", set = set }
      end
      add(item)
      at = after
    end
  end
  return items
end

local parsed = {}
-- The patterns of this run.

function kit.forget_patterns() parsed = {} end

local function items_of(pattern, at)
  local known = parsed[pattern]
  if not known then
    known = {}
    parsed[pattern] = known
  end
  if not known[at] then known[at] = parse(pattern, at) end
  return known[at]
end

local text, items, starts, ends, level
-- What is being matched. A capture's end is false while it is open, and nil where it is a position.

local function matches(at, index)
  -- Where the items from `index` on end, if they match at `at`; or nil.
  while true do
    local item = items[index]
    if not item then return at end
    local is, set = item.is, item.set
    if is == "one" then
      if not set[byte(text, at)] then return nil end
      at = at + 1
    elseif is == "many" or is == "some" then
      local last = at
      while set[byte(text, last)] do last = last + 1 end
      for each = last, is == "some" and at + 1 or at, -1 do
        local result = matches(each, index + 1)
        if result then return result end
      end
      return nil
    elseif is == "few" then
      while true do
        local result = matches(at, index + 1)
        if result then return result end
        if not set[byte(text, at)] then return nil end
        at = at + 1
      end
    elseif is == "maybe" then
      if set[byte(text, at)] then
        local result = matches(at + 1, index + 1)
        if result then return result end
      end
    elseif is == "open" or is == "position" then
      if level >= CAPTURES_MAX then error("too many captures", 0) end
      level = level + 1
      starts[level], ends[level] = at, nil
      if is == "open" then ends[level] = false end
      local result = matches(at, index + 1)
      if not result then level = level - 1 end
      return result
    elseif is == "close" then
      local open
      for each = level, 1, -1 do
        if ends[each] == false then
          open = each
          break
        end
      end
      if not open then error("invalid pattern capture", 0) end
      ends[open] = at
      local result = matches(at, index + 1)
      if not result then ends[open] = false end
      return result
    elseif is == "end" then
      return at == #text + 1 and at or nil
    elseif is == "balanced" then
      if byte(text, at) ~= item[1] then return nil end
      local depth = 1
      while true do
        at = at + 1
        local code = byte(text, at)
        if not code then return nil end
        if code == item[2] then
          depth = depth - 1
          if depth == 0 then break end
        elseif code == item[1] then
          depth = depth + 1
        end
      end
      at = at + 1
    elseif is == "frontier" then
      if set[byte(text, at - 1) or 0] or not set[byte(text, at) or 0] then return nil end
    elseif is == "back" then
      local number = item.number
      if number < 1 or number > level or ends[number] == false then error("invalid capture index", 0) end
      local old = sub(text, starts[number], (ends[number] or starts[number]) - 1)
      charge(floor(#old / 64))
      if sub(text, at, at + #old - 1) ~= old then return nil end
      at = at + #old
    else
      error(item.problem, 0)
    end
    index = index + 1
  end
end

local function capture(number, first, last)
  -- What a capture holds; of a match without any, the first is all of it.
  if number > level then
    if number == 1 then return sub(text, first, last - 1) end
    error("invalid capture index", 0)
  end
  if ends[number] == false then error("unfinished capture", 0) end
  if ends[number] == nil then return starts[number] end
  return made(sub(text, starts[number], ends[number] - 1))
end

local function captures(first, last, and_whole)
  local all = {}
  local count = level == 0 and and_whole and 1 or level
  for number = 1, count do all[number] = capture(number, first, last) end
  return all, count
end

local function search(pattern, init, first_item, anchored)
  -- The first place from `init` on where a pattern matches, and its end (behind it); or nil. `text` is set.
  items = items_of(pattern, first_item)
  for at = init, anchored and init or #text + 1 do
    level, starts, ends = 0, {}, {}
    local last = matches(at, 1)
    if last then return at, last end
  end
end

local function strings_of(name, count, ...)
  -- The arguments, of which the first ones are strings.
  for number = 1, count do
    local value = select(number, ...)
    if type(value) ~= "string" and type(value) ~= "number" then return nil end
  end
  return true
end

local function start_of(size, init)
  init = tonumber(init) or 1
  init = init >= 0 and floor(init) or -floor(-init)
  if init < 0 then init = size + init + 1 end
  if init < 1 then init = 1 end
  return math.min(init, size + 1)
end

local function charged(ok, first, ...)
  if ok and type(first) == "string" then made(first) end
  return ok, first, ...
end

local function find_or_match(name, is_find, f, ...)
  local subject, pattern, init, plain = ...
  reckon(init)
  if not strings_of(name, 2, ...) or init ~= nil and not tonumber(init) then return pcall(f, ...) end
  subject, pattern = tostring(subject), tostring(pattern)
  local begin = start_of(#subject, init)
  if is_find and (plain or not find(pattern, "[%^$*+?.()%[%%-]")) then
    charge(floor((#subject - begin + #pattern) / 32))
    if #pattern * (#subject - begin + 1) <= 100000 then
      charge(floor(#pattern * (#subject - begin + 1) / 512))
      return pcall(f, ...)
    end
    local at = kit.host.find(subject, pattern, begin - 1)
    if at < 0 then return true, nil end
    return true, at + 1, at + #pattern
  end
  if is_quick(#subject - begin + 1, pattern) then return charged(pcall(f, ...)) end
  return kit.passed(pcall(function()
    local anchored = byte(pattern) == 94
    text = subject
    local first, last = search(pattern, begin, anchored and 2 or 1, anchored)
    if not first then return nil end
    local all, count = captures(first, last, not is_find)
    if is_find then return first, last - 1, unpack(all, 1, count) end
    return unpack(all, 1, count)
  end))
end

function strings.find(...) return relay(find_or_match("find", true, find, ...)) end
function strings.match(...) return relay(find_or_match("match", false, match, ...)) end

function strings.gmatch(...)
  if not strings_of("gmatch", 2, ...) then return relay(pcall(S.gmatch, ...)) end
  local subject, pattern = ...
  subject, pattern = tostring(subject), tostring(pattern)
  local at = 1
  local function following()
    if at > #subject + 1 then return nil end
    text = subject
    local first, last = search(pattern, at, 1, false)
    if not first then
      at = #subject + 2
      return nil
    end
    at = last == first and last + 1 or last
    local all, count = captures(first, last, true)
    return unpack(all, 1, count)
  end
  return function()
    return relay(kit.passed(pcall(following)))
  end
end
strings.gfind = strings.gmatch

local function replaced(with, kind, first, last)
  -- What a match is replaced by.
  local whole = sub(text, first, last - 1)
  local value
  if kind == "string" then
    if not find(with, "%", 1, true) then return with end
    local parts, at = {}, 1
    while at <= #with do
      local stop = find(with, "%", at, true) or #with + 1
      parts[#parts + 1] = sub(with, at, stop - 1)
      local letter = byte(with, stop + 1)
      if stop > #with then break end
      if letter == 48 then
        parts[#parts + 1] = whole
      elseif letter and letter >= 49 and letter <= 57 then
        parts[#parts + 1] = capture(letter - 48, first, last)
      elseif letter then
        parts[#parts + 1] = string.char(letter)
      else
        parts[#parts + 1] = "\0"
      end
      at = stop + 2
    end
    return made(table.concat(parts))
  elseif kind == "table" then
    value = with[capture(1, first, last)]
  else
    local all, count = captures(first, last, true)
    local saved = { text, items, starts, ends, level }
    value = with(unpack(all, 1, count))
    text, items, starts, ends, level = saved[1], saved[2], saved[3], saved[4], saved[5]
  end
  if not value then return whole end
  if type(value) ~= "string" and type(value) ~= "number" then
    error("invalid replacement value (a " .. type(value) .. ")", 0)
  end
  return value
end

local function gsub_slowly(subject, pattern, with, limit)
  local kind = type(with)
  if kind == "number" then with, kind = tostring(with), "string" end
  local anchored = byte(pattern) == 94
  local parts, count, at = {}, 0, 1
  text, items = subject, items_of(pattern, anchored and 2 or 1)
  while count < limit do
    level, starts, ends = 0, {}, {}
    local last = matches(at, 1)
    if last then
      count = count + 1
      parts[#parts + 1] = replaced(with, kind, at, last)
    end
    if last and last > at then
      at = last
    elseif at <= #text then
      parts[#parts + 1] = sub(text, at, at)
      at = at + 1
    else
      break
    end
    if anchored then break end
  end
  parts[#parts + 1] = sub(subject, at)
  return table.concat(parts), count
end

local function gsub_any(...)
  local subject, pattern, with, limit = ...
  reckon(limit)
  local kind = type(with)
  if not strings_of("gsub", 2, ...) or limit ~= nil and not tonumber(limit)
    or not (kind == "string" or kind == "number" or kind == "table" or kind == "function") then
    return pcall(gsub, ...)
  end
  subject, pattern = tostring(subject), tostring(pattern)
  charge(floor(#subject / 32))
  if kind == "string" and #with <= 32 and is_quick(#subject, pattern) then return charged(pcall(gsub, ...)) end
  limit = tonumber(limit) or #subject + 1
  return charged(kit.passed(pcall(gsub_slowly, subject, pattern, with, limit)))
end

function strings.gsub(...) return relay(gsub_any(...)) end

kit.string_meta = kit.show { __index = kit.show(strings) }
local shown = kit.show(strings)
kit.G.string = shown
getmetatable("").__index = shown
