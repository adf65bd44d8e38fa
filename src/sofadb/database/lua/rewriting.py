"""Compiled Lua with checks put in, where a single instruction could do more than one instruction's worth.

The interpreter counts instructions, and its hook stops a script that has had too many (`sandbox.lua`). That says something of
time and memory only if each instruction costs about the same; and it is the same on every replica only if nothing depends
on addresses. Some instructions keep neither, so a check is put before or behind each of them:

- a table's key that is itself a table or function would be hashed by its address: it is refused;
- what `..` makes is charged by its length, and so is a string that is compared, or reckoned with as a number;
- tables, closures, large frames and open lists of values (`...`, `{f()}`) are charged by their size.

A check looks something up in a global that no script can name otherwise: its metatable calls a function of the sandbox. Tail
calls become plain calls, so that an error can be told by its line.

The format is that of Lua 5.1's lundump.c and lopcodes.h. The interpreter verifies it when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct, unpack_from

KEY, MADE, TEXT, NUMBER, COST, MANY = "\0key", "\0made", "\0text", "\0number", "\0cost", "\0many"
"""The globals: a key is used, a string was made, something is compared, something is reckoned with, something costs so much,
there are so many values."""

_HEADER = b"\x1bLuaQ\x00\x01\x04\x08\x04\x08\x00"
_INT, _SIZE, _NUMBER = Struct("<i"), Struct("<Q"), Struct("<d")
_GETGLOBAL, _GETTABLE, _SETTABLE, _NEWTABLE, _CONCAT, _JMP, _LT, _LE = 5, 6, 9, 10, 21, 22, 24, 25
_ADD, _POW, _UNM = 12, 17, 18
_CALL, _TAILCALL, _FORLOOP, _FORPREP, _SETLIST, _CLOSURE, _VARARG = 28, 29, 31, 32, 34, 36, 37
_CONSTANT = 256
"""Set in an operand that is no register."""
_JUMP_MAX = 131071
_STACK_MAX = 250
_FREE_STACK = 24
"""So many registers cost nothing."""
_TABLE_STEPS = 10
"""What a table or a function costs, besides its size."""


class TooLarge(ValueError):
    """With the checks in it, this has jumps that are too long, or too many registers or constants."""


def rewrite(dumped: bytes, is_checked: bool = True) -> bytes:
    """What `string.dump` gave, with the checks in it, or only without tail calls. Raises `TooLarge`."""
    assert dumped.startswith(_HEADER), "this is not how Lua 5.1 is compiled here"
    reader = _Reader(dumped, len(_HEADER), is_checked)
    written = _function(reader)
    assert reader.at == len(dumped)
    return _HEADER + written


class _Reader:
    """A place in compiled code."""

    def __init__(self, data: bytes, at: int, is_checked: bool) -> None:
        self.data = data
        self.at = at
        self.is_checked = is_checked

    def take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self) -> int:
        """An int."""
        (value,) = _INT.unpack(self.take(4))
        assert isinstance(value, int)
        return value

    def string(self) -> bytes:
        """A string as it stands, its length included."""
        (size,) = _SIZE.unpack_from(self.data, self.at)
        return self.take(_SIZE.size + size)


def _function(reader: _Reader) -> bytes:
    head = reader.string() + reader.take(8 + 3)
    code = _Code(reader.take(1)[0], reader.is_checked)
    count = reader.number()
    code.old = list(unpack_from(f"<{count}I", reader.data, reader.at))
    reader.at += 4 * count
    code.constants = [_constant(reader) for _ in range(reader.number())]
    functions = [_function_with_upvalues(reader) for _ in range(reader.number())]
    lines = [reader.number() for _ in range(reader.number())]
    code.rewrite([upvalues for upvalues, _ in functions])
    parts = [head, bytes([code.stack]), _ints(code.new), _INT.pack(len(code.constants)), *code.constants]
    parts += (_INT.pack(len(functions)), *(function for _, function in functions))
    parts.append(_ints([lines[old] for old in code.origins] if lines else []))
    variables = reader.number()
    parts.append(_INT.pack(variables))
    for _ in range(variables):
        parts += (reader.string(), *(_INT.pack(code.begins[reader.number()]) for _ in range(2)))
    upvalues = reader.number()
    parts += (_INT.pack(upvalues), *(reader.string() for _ in range(upvalues)))
    return b"".join(parts)


def _function_with_upvalues(reader: _Reader) -> tuple[int, bytes]:
    (size,) = _SIZE.unpack_from(reader.data, reader.at)
    upvalues = reader.data[reader.at + _SIZE.size + size + 8]
    return upvalues, _function(reader)


def _constant(reader: _Reader) -> bytes:
    kind = reader.take(1)
    rest = {0: lambda: b"", 1: lambda: reader.take(1), 3: lambda: reader.take(8), 4: reader.string}
    return kind + rest[kind[0]]()


def _ints(numbers: list[int]) -> bytes:
    return _INT.pack(len(numbers)) + b"".join(
        (number & 0xFFFFFFFF).to_bytes(4, "little") for number in numbers
    )


class _Code:
    """The instructions of one function."""

    def __init__(self, stack: int, is_checked: bool) -> None:
        self.stack = stack
        self.is_checked = is_checked
        self.old: list[int] = []
        self.new: list[int] = []
        self.origins: list[int] = []
        """For each new instruction, which old one it belongs to."""
        self.begins: list[int] = []
        """For each old instruction, where its check or itself begins; and the end."""
        self.constants: list[bytes] = []
        self._indexes: dict[bytes, int] = {}
        self._free = stack
        """A register that the function does not use."""

    def rewrite(self, upvalues: list[int]) -> None:
        """Fill `new`. `upvalues` says how many each function within has."""
        at = 0
        self._now = 0
        places: list[int] = []
        while at < len(self.old):
            self._now = at
            self.begins.append(len(self.new))
            if at == 0 and self._free > _FREE_STACK and self.is_checked:
                self._cost(self._free // 2)
            size, behind = self._check_before(at, upvalues)
            places.append(len(self.new))
            for word in range(size):
                if word:
                    self.begins.append(len(self.new))
                    places.append(len(self.new))
                self._emit(self.old[at + word])
            behind()
            at += size
        self.begins.append(len(self.new))
        self._mend_jumps(places)
        if self.stack > _STACK_MAX:
            raise TooLarge("function or expression too complex")

    def _check_before(self, at: int, upvalues: list[int]) -> tuple[int, Callable[[], None]]:
        """Put in what goes before an instruction. Returns how many words it has, and what puts in what goes behind."""
        word = self.old[at]
        operation, a, c, b = word & 63, word >> 6 & 255, word >> 14 & 511, word >> 23

        def nothing() -> None: ...

        if operation == _SETLIST:
            size = 2 if c == 0 else 1
            is_open = b == 0 and self.is_checked
            return size, (lambda: self._look_up(MADE, a)) if is_open else nothing
        if operation == _TAILCALL:
            self.old[at] = word & ~(511 << 14 | 63) | _CALL
        if not self.is_checked:
            return (1 + upvalues[word >> 14] if operation == _CLOSURE else 1), nothing
        if operation == _SETTABLE and b < _CONSTANT:
            self._look_up(KEY, b)
        elif operation in (_LT, _LE) and b < _CONSTANT and c < _CONSTANT:
            self._look_up(TEXT, b)
        elif _ADD <= operation <= _UNM:
            for operand in (b, c) if operation <= _POW else (b,):
                if operand < _CONSTANT:
                    self._look_up(NUMBER, operand)
        elif operation == _FORPREP:
            for operand in (a, a + 1, a + 2):
                self._look_up(NUMBER, operand)
        elif operation == _CONCAT:
            return 1, lambda: self._look_up(MADE, a)
        elif operation == _NEWTABLE:
            self._cost(_TABLE_STEPS + (_table_size(b) + _table_size(c)) // 2)
        elif operation == _CLOSURE:
            count = upvalues[word >> 14]
            self._cost(_TABLE_STEPS + count)
            return 1 + count, nothing
        elif operation == _VARARG and b == 0:
            self._count_values()
        return 1, nothing

    def _emit(self, word: int) -> None:
        self.new.append(word)
        self.origins.append(self._now)

    def _global(self, name: str, register: int) -> None:
        text = name.encode() + b"\0"
        index = self._constant(b"\4" + _SIZE.pack(len(text)) + text)
        self.stack = max(self.stack, register + 1)
        self._emit(_GETGLOBAL | register << 6 | index << 14)

    def _look_up(self, name: str, operand: int) -> None:
        self._global(name, self._free)
        self._emit(_GETTABLE | self._free << 6 | operand << 14 | self._free << 23)

    def _cost(self, steps: int) -> None:
        index = self._constant(b"\3" + _NUMBER.pack(steps))
        if index < _CONSTANT:
            self._look_up(COST, index | _CONSTANT)
        else:
            self._emit(1 | (self._free + 1) << 6 | index << 14)  # LOADK
            self._look_up(COST, self._free + 1)
            self.stack = max(self.stack, self._free + 2)

    def _count_values(self) -> None:
        """Call the check with all the values of `...`."""
        self._global(MANY, self._free)
        self.stack = max(self.stack, self._free + 2)
        self._emit(_VARARG | (self._free + 1) << 6)
        self._emit(_CALL | self._free << 6 | 1 << 14)

    def _constant(self, packed: bytes) -> int:
        index = self._indexes.get(packed)
        if index is None:
            index = self._indexes[packed] = len(self.constants)
            self.constants.append(packed)
            if index >= 1 << 18:
                raise TooLarge("constant table overflow")
        return index

    def _mend_jumps(self, places: list[int]) -> None:
        for at, place in enumerate(places):
            word = self.old[at]
            if word & 63 in (_JMP, _FORLOOP, _FORPREP) and not self._is_data(at):
                target = at + 1 + (word >> 14) - _JUMP_MAX
                jump = self.begins[target] - place - 1
                if abs(jump) > _JUMP_MAX:
                    raise TooLarge("control structure too long")
                self.new[place] = word & 0x3FFF | (jump + _JUMP_MAX) << 14

    def _is_data(self, at: int) -> bool:
        """Whether it is the number that stands behind a SETLIST."""
        before = self.old[at - 1] if at else 0
        return before & 63 == _SETLIST and before >> 14 & 511 == 0


def _table_size(code: int) -> int:
    """How many slots the operand of NEWTABLE asks for: a number with three bits and an exponent."""
    exponent = code >> 3 & 31
    return code if exponent == 0 else (code & 7 | 8) << (exponent - 1)
