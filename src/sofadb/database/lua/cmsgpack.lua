-- MessagePack, as lua-cmsgpack 0.4 reads and writes it, in Lua: each step counts.

local kit = ...
local charge, made, relay, host = kit.charge, kit.made, kit.relay, kit.host
local type, error, next, select, unpack, pcall = type, error, next, select, unpack, pcall
local byte, char, sub, floor, concat, format = string.byte, string.char, string.sub, math.floor, table.concat, string.format

local DEPTH_MAX = 16
-- Tables within tables beyond this are packed as nil.

local function big_endian(number, size)
  local bytes = {}
  for i = size, 1, -1 do
    bytes[i] = char(number % 256)
    number = floor(number / 256)
  end
  return concat(bytes)
end

local function packed_integer(number)
  if number >= 0 then
    if number <= 127 then return char(number) end
    if number <= 0xFF then return "\204" .. char(number) end
    if number <= 0xFFFF then return "\205" .. big_endian(number, 2) end
    if number <= 0xFFFFFFFF then return "\206" .. big_endian(number, 4) end
    return "\207" .. big_endian(number, 8)
  end
  if number >= -32 then return char(number + 256) end
  if number >= -128 then return "\208" .. char(number + 256) end
  if number >= -32768 then return "\209" .. big_endian(number + 0x10000, 2) end
  if number >= -2147483648 then return "\210" .. big_endian(number + 0x100000000, 4) end
  -- In two halves, since 2^64 plus a number would be rounded.
  local low = number % 0x100000000
  return "\211" .. big_endian((number - low) / 0x100000000 + 0x100000000, 4) .. big_endian(low, 4)
end

local function packed_number(number)
  if number == floor(number) and number >= -2 ^ 63 and number < 2 ^ 63 then return packed_integer(number) end
  return host.pack_float(number)
end

local function head(count, small, small_max, sizes)
  -- How many there are of something: within one byte, or behind one.
  if count <= small_max then return char(small + count) end
  if sizes[1] and count <= 0xFF then return sizes[1] .. char(count) end
  if count <= 0xFFFF then return sizes[2] .. big_endian(count, 2) end
  return sizes[3] .. big_endian(count, 4)
end

local function length_of(t)
  -- How many elements the array has, or nil if it is none; and how many pairs there are.
  local count, top, is_array = 0, 0, true
  for key in next, t do
    count = count + 1
    if type(key) ~= "number" or key <= 0 or key ~= floor(key) then
      is_array = false
    elseif key > top then
      top = key
    end
  end
  return is_array and top == count and count or nil, count
end

local pack

local function pack_table(parts, t, depth)
  t = kit.contents(t)
  local length, pairs = length_of(t)
  if length then
    parts[#parts + 1] = head(length, 0x90, 15, { nil, "\220", "\221" })
    for i = 1, length do pack(parts, t[i], depth + 1) end
    return
  end
  parts[#parts + 1] = head(pairs, 0x80, 15, { nil, "\222", "\223" })
  for key, value in next, t do
    pack(parts, key, depth + 1)
    pack(parts, value, depth + 1)
  end
end

function pack(parts, value, depth)
  local kind = type(value)
  if kind == "string" then
    parts[#parts + 1] = head(#value, 0xA0, 31, { "\217", "\218", "\219" })
    parts[#parts + 1] = made(value)
  elseif kind == "number" then
    parts[#parts + 1] = packed_number(value)
  elseif kind == "boolean" then
    parts[#parts + 1] = value and "\195" or "\194"
  elseif kind == "table" and depth < DEPTH_MAX then
    pack_table(parts, value, depth)
  else
    parts[#parts + 1] = "\192"
  end
end

local M = { _NAME = "cmsgpack", _VERSION = "lua-cmsgpack 0.4.0", _COPYRIGHT = "Copyright (C) 2012, Salvatore Sanfilippo",
  _DESCRIPTION = "MessagePack C implementation for Lua" }

function M.pack(...)
  local count = select("#", ...)
  if count == 0 then kit.bad_argument(0, "MessagePack pack needs input.") end
  local parts = {}
  for i = 1, count do
    charge(i / 16)
    pack(parts, (select(i, ...)), 0)
  end
  charge(floor(#parts / 2))
  return made(concat(parts))
end

local text, at
-- What is being unpacked, and how far.

local function take(count)
  if at + count - 1 > #text then error("Missing bytes in input.", 0) end
  at = at + count
  return sub(text, at - count, at - 1)
end

local function unsigned(size)
  local number = 0
  for _, each in ipairs { byte(take(size), 1, size) } do number = number * 256 + each end
  return number
end

local function signed(size)
  local bytes = { byte(take(size), 1, size) }
  local is_negative = bytes[1] >= 128
  local number = 0
  for _, each in ipairs(bytes) do number = number * 256 + (is_negative and 255 - each or each) end
  return is_negative and -number - 1 or number
end

local function text_of(size)
  return made(take(size))
end

local unpack_value

local function array_of(count)
  local array = {}
  for i = 1, count do array[i] = unpack_value() end
  return array
end

local function map_of(count)
  local map = {}
  for _ = 1, count do
    local key = unpack_value()
    local value = unpack_value()
    if key == nil then error("table index is nil", 0) end
    if key ~= key then error("table index is NaN", 0) end
    if type(key) == "table" then error("Cannot have a table as the key of a table here", 0) end
    map[key] = value
  end
  return map
end

local readers = {
  [0xC0] = function() return nil end,
  [0xC2] = function() return false end,
  [0xC3] = function() return true end,
  [0xCA] = function() return host.unpack_float(take(4)) end,
  [0xCB] = function() return host.unpack_float(take(8)) end,
  [0xCC] = function() return unsigned(1) end,
  [0xCD] = function() return unsigned(2) end,
  [0xCE] = function() return unsigned(4) end,
  [0xCF] = function() return signed(8) end, -- As lua-cmsgpack does.
  [0xD0] = function() return signed(1) end,
  [0xD1] = function() return signed(2) end,
  [0xD2] = function() return signed(4) end,
  [0xD3] = function() return signed(8) end,
  [0xD9] = function() return text_of(unsigned(1)) end,
  [0xDA] = function() return text_of(unsigned(2)) end,
  [0xDB] = function() return text_of(unsigned(4)) end,
  [0xDC] = function() return array_of(unsigned(2)) end,
  [0xDD] = function() return array_of(unsigned(4)) end,
  [0xDE] = function() return map_of(unsigned(2)) end,
  [0xDF] = function() return map_of(unsigned(4)) end,
}

function unpack_value()
  local code = byte(take(1))
  if code < 0x80 then return code end
  if code >= 0xE0 then return code - 256 end
  if code < 0x90 then return map_of(code - 0x80) end
  if code < 0xA0 then return array_of(code - 0x90) end
  if code < 0xC0 then return text_of(code - 0xA0) end
  local read = readers[code]
  if not read then error("Bad data format in input.", 0) end
  return read()
end

local function unpack_some(input, limit, offset, is_all)
  if offset < 0 or limit < 0 then
    error(format("Invalid request to unpack with offset of %d and limit of %d.", offset, #input), 0)
  elseif offset > #input then
    error(format("Start offset %d greater than input length %d.", offset, #input), 0)
  end
  local values, count = {}, 0
  text, at = input, offset + 1
  if is_all then limit = 2147483647 end
  while at <= #text and count < limit do
    count = count + 1
    values[count] = unpack_value()
  end
  if not is_all then return at > #text and -1 or at - 1, unpack(values, 1, count) end
  return unpack(values, 1, count)
end

local function input_of(name, ...)
  local input = ...
  if type(input) == "number" then input = tostring(input) end
  if type(input) ~= "string" then
    kit.bad_argument(1, "string expected, got " .. kit.got(input, select("#", ...), 1), 1)
  end
  return input
end

local function number_of(name, number, value, otherwise)
  if value == nil and otherwise then return otherwise end
  local is = tonumber(value)
  if not is then kit.bad_argument(number, "number expected, got " .. (value == nil and "no value" or type(value)), 1) end
  return is >= 0 and floor(is) or -floor(-is)
end

function M.unpack(...)
  local input = input_of("unpack", ...)
  return relay(kit.passed(pcall(unpack_some, input, 0, 0, true)))
end

function M.unpack_one(...)
  local input = input_of("unpack_one", ...)
  local offset = number_of("unpack_one", 2, select(2, ...), 0)
  return relay(kit.passed(pcall(unpack_some, input, 1, offset, false)))
end

function M.unpack_limit(...)
  local input = input_of("unpack_limit", ...)
  local limit = number_of("unpack_limit", 2, (select(2, ...)))
  local offset = number_of("unpack_limit", 3, (select(3, ...)), 0)
  return relay(kit.passed(pcall(unpack_some, input, limit, offset, limit == 0 and offset == 0)))
end

kit.G.cmsgpack = kit.show(M)
