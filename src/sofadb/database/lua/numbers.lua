-- The tables `bit` and `struct`. What they do is done by the host (`libraries.py`).

local kit = ...
local host, charge, made, relay, bad_argument = kit.host, kit.charge, kit.made, kit.relay, kit.bad_argument
local type, select, tonumber, unpack, error, pcall, floor = type, select, tonumber, unpack, error, pcall, math.floor

local HOST_STEPS = 150
-- What a call of the host costs, in steps.

local bits = {}

for name, count in next, { tobit = 1, bnot = 1, bswap = 1, band = 0, bor = 0, bxor = 0, lshift = 2, rshift = 2,
  arshift = 2, rol = 2, ror = 2, tohex = 1 } do
  bits[name] = function(...)
    charge(HOST_STEPS)
    local given = select("#", ...)
    local numbers = { ... }
    local wanted = count > 0 and count or math.max(given, 1)
    if name == "tohex" and given > 1 then wanted = 2 end
    for i = 1, wanted do
      local number = tonumber(numbers[i])
      if not number or type(numbers[i]) == "nil" then
        bad_argument(i, "number expected, got " .. kit.got(numbers[i], given, i))
      end
      numbers[i] = number
    end
    return host.bit(name, unpack(numbers, 1, wanted))
  end
end

kit.G.bit = kit.show(bits)

local structs = {}

local function answered(name, kind, ...)
  -- What the host has made of it: values, or what is wrong with which argument, or with all of it.
  if kind == 0 then return ... end
  local problem, number = ...
  if kind == 1 then bad_argument(number, problem, 1) end
  error(problem, 3)
end

local function format_of(name, ...)
  local fmt = ...
  if type(fmt) ~= "string" then
    bad_argument(1, "string expected, got " .. kit.got(fmt, select("#", ...), 1), 1)
  end
  charge(HOST_STEPS + #fmt * 20)
end

function structs.pack(...)
  format_of("pack", ...)
  local values = { ... }
  for i = 2, select("#", ...) do
    if type(values[i]) == "string" then charge(floor(#values[i] / 64)) end
    if type(values[i]) ~= "string" and type(values[i]) ~= "number" then values[i] = host.other(type(values[i])) end
  end
  return made(answered("pack", host.struct_pack(unpack(values, 1, select("#", ...)))))
end

function structs.unpack(...)
  format_of("unpack", ...)
  local fmt, data, position = ...
  if type(data) ~= "string" then
    bad_argument(2, "string expected, got " .. kit.got(data, select("#", ...), 2))
  end
  if position ~= nil and not tonumber(position) then
    bad_argument(3, "number expected, got " .. type(position))
  end
  charge(floor(#data / 64))
  return answered("unpack", host.struct_unpack(fmt, data, tonumber(position) or 1))
end

function structs.size(...)
  format_of("size", ...)
  return answered("size", host.struct_size((...)))
end

kit.G.struct = kit.show(structs)
