-- JSON, as lua-cjson 2.1 reads and writes it, in Lua: each step counts, and the order of keys is that of Redis.

local kit = ...
local charge, made, relay = kit.charge, kit.made, kit.relay
local type, error, next, tonumber, rawget, pcall = type, error, next, tonumber, rawget, pcall
local sub, byte, find, match, gsub, format, char = string.sub, string.byte, string.find, string.match, string.gsub, string.format, string.char
local floor, concat, huge = math.floor, table.concat, math.huge

local null = newproxy(false)
kit.null = null

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\b"] = "\\b", ["\t"] = "\\t", ["\n"] = "\\n",
  ["\f"] = "\\f", ["\r"] = "\\r", ["\127"] = "\\u007f" }
for code = 0, 31 do
  escapes[char(code)] = escapes[char(code)] or format("\\u%04x", code)
end
local meanings = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", t = "\t", n = "\n", f = "\f", r = "\r" }

local function defaults()
  return { convert = false, ratio = 2, safe = 10, encode_depth = 1000, decode_depth = 1000, precision = 14,
    keep = true, encode_invalid = false, decode_invalid = true }
end

-- Writing

local function quoted(text)
  charge(floor(#text / 8))
  return '"' .. gsub(text, '[%c"\\/\127]', escapes) .. '"'
end

local function cannot(value, problem)
  error("Cannot serialise " .. type(value) .. ": " .. problem, 0)
end

local function number_text(config, number)
  if number ~= number or number == huge or number == -huge then
    if config.encode_invalid == "null" then return "null" end
    if not config.encode_invalid then cannot(number, "must not be NaN or Inf") end
    return number ~= number and "nan" or number > 0 and "inf" or "-inf"
  end
  return format("%." .. config.precision .. "g", number)
end

local function array_length(config, t)
  -- How long the array is; nil if it is none.
  local top, count = 0, 0
  for key in next, t do
    if type(key) ~= "number" or key < 1 or floor(key) ~= key then return nil end
    if key > top then top = key end
    count = count + 1
  end
  if config.ratio > 0 and top > count * config.ratio and top > config.safe then
    if not config.convert then cannot(t, "excessively sparse array") end
    return nil
  end
  return top > 0 and top or nil
end

local write

local function write_table(config, parts, t, depth)
  t = kit.contents(t)
  if depth > config.encode_depth then
    error(format("Cannot serialise, excessive nesting (%d)", depth), 0)
  end
  local length = array_length(config, t)
  if length then
    parts[#parts + 1] = "["
    for i = 1, length do
      if i > 1 then parts[#parts + 1] = "," end
      write(config, parts, rawget(t, i), depth)
    end
    parts[#parts + 1] = "]"
    return
  end
  parts[#parts + 1] = "{"
  local is_first = true
  for key, value in next, t do
    if not is_first then parts[#parts + 1] = "," end
    is_first = false
    if type(key) == "string" then
      parts[#parts + 1] = quoted(key)
    elseif type(key) == "number" then
      parts[#parts + 1] = '"' .. number_text(config, key) .. '"'
    else
      cannot(t, "table key must be a number or string")
    end
    parts[#parts + 1] = ":"
    write(config, parts, value, depth)
  end
  parts[#parts + 1] = "}"
end

function write(config, parts, value, depth)
  local kind = type(value)
  if kind == "string" then
    parts[#parts + 1] = made(quoted(value))
  elseif kind == "number" then
    parts[#parts + 1] = number_text(config, value)
  elseif kind == "boolean" then
    parts[#parts + 1] = value and "true" or "false"
  elseif kind == "table" then
    write_table(config, parts, value, depth + 1)
  elseif kind == "nil" or value == null then
    parts[#parts + 1] = "null"
  else
    cannot(value, "type not supported")
  end
end

local function encode(config, value)
  local parts = {}
  write(config, parts, value, 0)
  charge(floor(#parts / 2))
  return made(concat(parts))
end

-- Reading

local config, text, at
-- What is being read, by which settings; and how far.

local tokens = { ["{"] = "T_OBJ_BEGIN", ["}"] = "T_OBJ_END", ["["] = "T_ARR_BEGIN", ["]"] = "T_ARR_END", [":"] = "T_COLON",
  [","] = "T_COMMA" }

local function utf8(code)
  if code < 0x80 then return char(code) end
  if code < 0x800 then return char(0xC0 + floor(code / 64), 0x80 + code % 64) end
  if code < 0x10000 then return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64) end
  return char(0xF0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64, 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
end

local function read_unicode(place)
  -- The character whose "\u" is at `place`, and what is behind it; or nil.
  local digits = match(text, "^%x%x%x%x", place + 2)
  if not digits then return nil end
  local code = tonumber(digits, 16)
  place = place + 6
  if code >= 0xD800 and code <= 0xDFFF then
    if code >= 0xDC00 then return nil end
    digits = match(text, "^\\u(%x%x%x%x)", place)
    local low = digits and tonumber(digits, 16)
    if not low or low < 0xDC00 or low > 0xDFFF then return nil end
    code = 0x10000 + (code - 0xD800) * 1024 + low - 0xDC00
    place = place + 6
  end
  return utf8(code), place
end

local function read_string()
  -- The token of the string whose quotation mark is at `at`.
  local start, parts = at, nil
  local place = at + 1
  while true do
    local stop = find(text, '["\\%z]', place) or #text + 1
    if stop > #text or byte(text, stop) == 0 then return "T_ERROR", "unexpected end of string", stop end
    charge(floor((stop - place) / 32))
    if byte(text, stop) == 34 then
      at = stop + 1
      local last = sub(text, place, stop - 1)
      if not parts then return "T_STRING", made(last), start end
      parts[#parts + 1] = last
      return "T_STRING", made(concat(parts)), start
    end
    parts = parts or {}
    parts[#parts + 1] = sub(text, place, stop - 1)
    local letter = sub(text, stop + 1, stop + 1)
    if letter == "u" then
      local character, after = read_unicode(stop)
      if not character then return "T_ERROR", "invalid unicode escape code", stop end
      parts[#parts + 1] = character
      place = after
    elseif meanings[letter] then
      parts[#parts + 1] = meanings[letter]
      place = stop + 2
    else
      return "T_ERROR", "invalid escape code", stop
    end
  end
end

local function is_strange_number()
  -- Whether it is one that JSON does not know.
  return find(text, "^%+", at) or find(text, "^-?0[xX%d]", at) or find(text, "^-?[iI][nN][fF]", at) or find(text, "^-?[nN][aA][nN]", at)
end

local function read_number()
  -- As strtod does: the longest number that is there.
  local start = at
  local sign, rest = match(text, "^([+-]?)()", at)
  local digits, value
  if find(text, "^0[xX]%x", rest) then
    digits = match(text, "^0[xX]%x+", rest)
    value = tonumber(digits)
    at = rest + #digits
  elseif find(text, "^[iI][nN][fF]", rest) then
    value = huge
    at = rest + (find(text, "^[iI][nN][fF][iI][nN][iI][tT][yY]", rest) and 8 or 3)
  elseif find(text, "^[nN][aA][nN]", rest) then
    value = 0 / 0
    at = rest + 3
  else
    digits = match(text, "^%d+%.?%d*", rest) or match(text, "^%.%d+", rest)
    if not digits then return "T_ERROR", "invalid number", start end
    at = rest + #digits
    local exponent = match(text, "^[eE][+-]?%d+", at)
    if exponent then at = at + #exponent end
    charge(floor((at - rest) / 8))
    value = tonumber(digits .. (exponent or ""))
  end
  return "T_NUMBER", sign == "-" and -value or value, start
end

local function next_token()
  -- Its kind, its value and where it begins.
  local place = find(text, "[^ \t\n\r]", at)
  if not place then
    at = #text + 1
    return "T_END", nil, at
  end
  charge(floor((place - at) / 32))
  at = place
  local letter = sub(text, at, at)
  if letter == "\0" then return "T_END", nil, place end
  local kind = tokens[letter]
  if kind then
    at = at + 1
    return kind, nil, place
  end
  if letter == '"' then return read_string() end
  if find(letter, "[%d-]") then
    if not config.decode_invalid and is_strange_number() then return "T_ERROR", "invalid number", place end
    return read_number()
  end
  for word, value in next, { ["true"] = true, ["false"] = false } do
    if sub(text, at, at + #word - 1) == word then
      at = at + #word
      return "T_BOOLEAN", value, place
    end
  end
  if sub(text, at, at + 3) == "null" then
    at = at + 4
    return "T_NULL", nil, place
  end
  if config.decode_invalid and is_strange_number() then return read_number() end
  return "T_ERROR", "invalid token", place
end

local function expected(what, kind, value, place)
  error(format("Expected %s but found %s at character %d", what, kind == "T_ERROR" and value or kind, place), 0)
end

local read_value

local function descend(depth)
  if depth > config.decode_depth then
    error(format("Found too many nested data structures (%d) at character %d", depth, at - 1), 0)
  end
end

local function read_object(depth)
  descend(depth)
  local object = {}
  local kind, value, place = next_token()
  if kind == "T_OBJ_END" then return object end
  while true do
    if kind ~= "T_STRING" then expected("object key string", kind, value, place) end
    local key = value
    kind, value, place = next_token()
    if kind ~= "T_COLON" then expected("colon", kind, value, place) end
    object[key] = read_value(depth, next_token())
    kind, value, place = next_token()
    if kind == "T_OBJ_END" then return object end
    if kind ~= "T_COMMA" then expected("comma or object end", kind, value, place) end
    kind, value, place = next_token()
  end
end

local function read_array(depth)
  descend(depth)
  local array, count = {}, 0
  local kind, value, place = next_token()
  if kind == "T_ARR_END" then return array end
  while true do
    count = count + 1
    array[count] = read_value(depth, kind, value, place)
    kind, value, place = next_token()
    if kind == "T_ARR_END" then return array end
    if kind ~= "T_COMMA" then expected("comma or array end", kind, value, place) end
    kind, value, place = next_token()
  end
end

function read_value(depth, kind, value, place)
  if kind == "T_STRING" or kind == "T_NUMBER" or kind == "T_BOOLEAN" then return value end
  if kind == "T_OBJ_BEGIN" then return read_object(depth + 1) end
  if kind == "T_ARR_BEGIN" then return read_array(depth + 1) end
  if kind == "T_NULL" then return null end
  expected("value", kind, value, place)
end

local function decode(settings, json)
  config, text, at = settings, json, 1
  if #text >= 2 and (byte(text, 1) == 0 or byte(text, 2) == 0) then
    error("JSON parser does not support UTF-16 or UTF-32", 0)
  end
  local value = read_value(0, next_token())
  local kind, found, place = next_token()
  if kind ~= "T_END" then expected("the end", kind, found, place) end
  return value
end

-- The table `cjson`


local function whole(value, low, high, number, name)
  local is = tonumber(value)
  if not is then kit.bad_argument(number, "number expected, got " .. type(value), 1) end
  is = is >= 0 and floor(is) or -floor(-is)
  if is < low or is > high then
    kit.bad_argument(number, format("expected integer between %d and %d", low, high), 1)
  end
  return is
end

local function switch(value, number, name, others)
  if value == true or value == false then return value end
  if value == "on" then return true elseif value == "off" then return false end
  if others and value == others then return value end
  kit.bad_argument(number, format("invalid option '%s'", kit.G.tostring(value)), 1)
end

local function make()
  local settings = defaults()
  local cjson = { null = null, _NAME = "cjson", _VERSION = "2.1.0" }

  function cjson.encode(...)
    if select("#", ...) ~= 1 then kit.bad_argument(1, "expected 1 argument") end
    return relay(kit.passed(pcall(encode, settings, ...)))
  end

  function cjson.decode(...)
    if select("#", ...) ~= 1 then kit.bad_argument(1, "expected 1 argument") end
    local json = ...
    if type(json) == "number" then json = tostring(json) end
    if type(json) ~= "string" then kit.bad_argument(1, "string expected, got " .. type(json)) end
    return relay(kit.passed(pcall(decode, settings, json)))
  end

  function cjson.encode_sparse_array(...)
    local convert, ratio, safe = ...
    if convert ~= nil then settings.convert = switch(convert, 1, "encode_sparse_array") end
    if ratio ~= nil then settings.ratio = whole(ratio, 0, 2147483647, 2, "encode_sparse_array") end
    if safe ~= nil then settings.safe = whole(safe, 0, 2147483647, 3, "encode_sparse_array") end
    return settings.convert, settings.ratio, settings.safe
  end

  for name, field in next, { encode_max_depth = "encode_depth", decode_max_depth = "decode_depth" } do
    cjson[name] = function(value)
      if value ~= nil then settings[field] = whole(value, 1, 2147483647, 1, name) end
      return settings[field]
    end
  end

  function cjson.encode_number_precision(value)
    if value ~= nil then settings.precision = whole(value, 1, 14, 1, "encode_number_precision") end
    return settings.precision
  end

  function cjson.encode_keep_buffer(value)
    if value ~= nil then settings.keep = switch(value, 1, "encode_keep_buffer") end
    return settings.keep
  end

  function cjson.encode_invalid_numbers(value)
    if value ~= nil then settings.encode_invalid = switch(value, 1, "encode_invalid_numbers", "null") end
    return settings.encode_invalid
  end

  function cjson.decode_invalid_numbers(value)
    if value ~= nil then settings.decode_invalid = switch(value, 1, "decode_invalid_numbers") end
    return settings.decode_invalid
  end

  function cjson.new()
    charge(1000)
    return (make())
  end

  return cjson, settings
end

local cjson, settings = make()
kit.G.cjson = kit.show(cjson)

function kit.reset_cjson()
  -- What one script has set does not concern the next.
  for name, value in next, defaults() do settings[name] = value end
end
