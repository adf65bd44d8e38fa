"""What scripts call that is easier said in Python than in Lua: bits, and C structures (LuaBitOp 1.0, lua-struct 0.2)."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from math import isfinite
from typing import Any

_MASK = 0xFFFFFFFF
DONE, BAD_ARGUMENT, FAILED = 0, 1, 2
"""How a call went: values follow, or what is wrong with which argument, or what went wrong."""
INTEGER_BYTES_MAX = 32
SIZE_MAX = 64 << 20
VALUES_MAX = 1000


# Bits


def bit(name: bytes, *numbers: float) -> Any:
    """One operation of LuaBitOp."""
    words = [_word(number) for number in numbers]
    first = words[0]
    if name == b"tohex":
        return _hex(first, 8 if len(words) == 1 else _signed(words[1]))
    if len(words) > 1 and name in _SHIFTS:
        return _signed(_SHIFTS[name](first, words[1] & 31))
    if name == b"bnot":
        first = ~first & _MASK
    elif name == b"bswap":
        first = int.from_bytes(first.to_bytes(4, "little"), "big")
    elif name != b"tobit":
        for word in words[1:]:
            first = first & word if name == b"band" else first | word if name == b"bor" else first ^ word
    return _signed(first)


def _word(number: float) -> int:
    """Its lower 32 bits, a half rounded to the even."""
    return round(number) & _MASK if isfinite(number) else 0


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


def _rotated(word: int, by: int) -> int:
    return (word << by | word >> (32 - by)) & _MASK


_SHIFTS: dict[bytes, Callable[[int, int], int]] = {
    b"lshift": lambda word, by: word << by & _MASK,
    b"rshift": lambda word, by: word >> by,
    b"arshift": lambda word, by: _signed(word) >> by & _MASK,
    b"rol": _rotated,
    b"ror": lambda word, by: _rotated(word, -by & 31),
}


def _hex(word: int, digits: int) -> bytes:
    text = b"%0*x" if digits >= 0 else b"%0*X"
    count = min(abs(digits), 8)
    return (text % (8, word))[8 - count :]


# Floats


NAN = b"\xcb" + struct.pack(">d", float("nan"))


def pack_float(number: float) -> bytes:
    """As MessagePack has it: short if nothing is lost. What is no number has no sign: which it got is up to the processor."""
    if number != number:
        return NAN
    try:
        short = struct.pack(">f", number)
    except OverflowError:
        return b"\xcb" + struct.pack(">d", number)
    if struct.unpack(">f", short)[0] == number:
        return b"\xca" + short
    return b"\xcb" + struct.pack(">d", number)


def unpack_float(data: bytes) -> float:
    """Of four or eight bytes."""
    (value,) = struct.unpack(">f" if len(data) == 4 else ">d", data)
    return float(value)


# Structures


class _Problem(Exception):
    def __init__(self, kind: int, text: str, argument: int = 1) -> None:
        super().__init__(text)
        self.answer = (kind, text.encode("latin-1"), argument)


class Other:
    """A value that is neither string nor number."""

    def __init__(self, type_name: bytes) -> None:
        self.type_name = type_name


_NUMBER = re.compile(rb"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")
"""What a string is like that Lua takes for a number."""
_SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "l": 8, "L": 8, "T": 8, "f": 4, "d": 8, "x": 1}


class _Format:
    """A format, item by item. How much padding an item needs depends on where it comes."""

    def __init__(self, text: bytes) -> None:
        self.text = text.decode("latin-1")
        self.at = 0
        self.is_little = True
        self.alignment = 1

    def items(self) -> Iterator[tuple[str, int]]:
        """Letters and sizes. Controls are obeyed."""
        while self.at < len(self.text) and self.text[self.at] != "\0":
            letter = self.text[self.at]
            self.at += 1
            if letter in "<>":
                self.is_little = letter == "<"
            elif letter == "!":
                self.alignment = self._number(8)
                if self.alignment == 0 or self.alignment & (self.alignment - 1):
                    raise _Problem(FAILED, f"alignment {self.alignment} is not a power of 2")
            elif letter == " ":
                continue
            elif letter in "iI":
                size = self._number(4)
                if size > INTEGER_BYTES_MAX:
                    raise _Problem(
                        FAILED, f"integral size {size} is larger than limit of {INTEGER_BYTES_MAX}"
                    )
                yield letter, size
            elif letter == "c":
                yield letter, self._number(1)
            elif letter == "s":
                yield letter, 0
            elif letter in _SIZES:
                yield letter, _SIZES[letter]
            else:
                raise _Problem(BAD_ARGUMENT, f"invalid format option '{letter}'")

    def padding(self, letter: str, size: int, total: int) -> int:
        """How many bytes go before an item that comes after `total` bytes."""
        if size == 0 or letter in "cx" or self.alignment <= 1:
            return 0
        align = min(size, self.alignment)
        return -total & (align - 1)

    def _number(self, otherwise: int) -> int:
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] in "0123456789":
            self.at += 1
        if begin == self.at:
            return otherwise
        number = int(self.text[begin : self.at][:12])
        if number > 2**31 - 1:
            raise _Problem(FAILED, "integral size overflow")
        return number


def struct_pack(text: bytes, *values: Any) -> tuple[Any, ...]:
    """A structure from values."""
    try:
        return DONE, _pack(_Format(text), values)
    except _Problem as problem:
        return problem.answer


def _pack(form: _Format, values: tuple[Any, ...]) -> bytes:
    out = bytearray()
    number = 0

    def number_of() -> float:
        value = values[number] if number < len(values) else None
        if isinstance(value, bytes) and _NUMBER.fullmatch(value):
            return float(value)
        if not isinstance(value, int | float):
            raise _Problem(BAD_ARGUMENT, f"number expected, got {_kind(value, number, values)}", number + 2)
        return value

    for letter, size in form.items():
        out += bytes(form.padding(letter, size, len(out)))
        if letter == "x":
            out.append(0)
            continue
        if letter in "sc":
            value = values[number] if number < len(values) else None
            if isinstance(value, int | float):
                value = b"%.14g" % value
            if not isinstance(value, bytes):
                raise _Problem(
                    BAD_ARGUMENT, f"string expected, got {_kind(value, number, values)}", number + 2
                )
            if letter == "c" and size == 0:
                size = len(value)
            if letter == "c" and len(value) < size:
                raise _Problem(BAD_ARGUMENT, "string too short", number + 3)
            out += value + b"\0" if letter == "s" else value[:size]
        elif letter in "fd":
            out += _pack_real(number_of(), size, form.is_little)
        else:
            out += _pack_integer(number_of(), size, form.is_little)
        number += 1
        if len(out) > SIZE_MAX:
            raise _Problem(FAILED, "format result too large")
    return bytes(out)


def _kind(value: Any, number: int, values: tuple[Any, ...]) -> str:
    if number >= len(values):
        return "nil"
    return (
        "string"
        if isinstance(value, bytes)
        else value.type_name.decode()
        if isinstance(value, Other)
        else "nil"
    )


def _pack_real(number: float, size: int, is_little: bool) -> bytes:
    order = "<" if is_little else ">"
    try:
        return struct.pack(order + ("f" if size == 4 else "d"), number)
    except OverflowError:
        return struct.pack(order + "f", float("inf") if number > 0 else float("-inf"))


def _pack_integer(number: float, size: int, is_little: bool) -> bytes:
    """Of the 64 bits of the number as many bytes as wanted; zeros beyond them."""
    whole = int(number) if isfinite(number) and -(2.0**63) <= number < 2.0**64 else 2**63
    data = (whole & (2**64 - 1)).to_bytes(8, "little")
    data = (data + bytes(INTEGER_BYTES_MAX))[:size]
    return data if is_little else data[::-1]


def struct_size(text: bytes) -> tuple[Any, ...]:
    """How many bytes a format takes."""
    form = _Format(text)
    total = 0
    try:
        for letter, size in form.items():
            if letter == "s":
                raise _Problem(BAD_ARGUMENT, "option 's' has no fixed size")
            if letter == "c" and size == 0:
                raise _Problem(BAD_ARGUMENT, "option 'c0' has no fixed size")
            total += form.padding(letter, size, total) + size
            if total > 2**31 - 1:
                raise _Problem(FAILED, "format result too large")
    except _Problem as problem:
        return problem.answer
    return DONE, total


def struct_unpack(text: bytes, data: bytes, position: float) -> tuple[Any, ...]:
    """The values in a structure, from a position on; and the position behind it."""
    try:
        if not isfinite(position) or position > 2**53:
            raise _Problem(BAD_ARGUMENT, "data string too short", 2)
        if position < 1:
            raise _Problem(BAD_ARGUMENT, "offset must be 1 or greater", 3)
        return (DONE, *_unpack(_Format(text), data, int(position) - 1))
    except _Problem as problem:
        return problem.answer


def _unpack(form: _Format, data: bytes, at: int) -> list[Any]:
    values: list[Any] = []

    def demand(size: int) -> None:
        if size < 0 or at + size > len(data):
            raise _Problem(BAD_ARGUMENT, "data string too short", 2)

    for letter, size in form.items():
        at += form.padding(letter, size, at)
        demand(size)
        if letter == "c" and size == 0:
            if not values or not isinstance(values[-1], int | float):
                raise _Problem(FAILED, "format 'c0' needs a previous size")
            wanted = values.pop()
            size = int(wanted) if isfinite(wanted) else -1
            demand(size)
        if letter == "s":
            end = data.find(b"\0", at)
            if end < 0:
                raise _Problem(FAILED, "unfinished string in data")
            values.append(data[at:end])
            at = end + 1
            continue
        part = data[at : at + size]
        at += size
        if letter == "c":
            values.append(part)
        elif letter in "fd":
            values.append(struct.unpack(("<" if form.is_little else ">") + letter, part)[0])
        elif letter != "x":
            values.append(_unpack_integer(part, letter, form.is_little))
        if len(values) > VALUES_MAX:
            raise _Problem(FAILED, "too many results to unpack")
    return [*values, at + 1]


def _unpack_integer(part: bytes, letter: str, is_little: bool) -> float:
    """As lua-struct reads it: of what is longer than 64 bits, the lower ones."""
    word = int.from_bytes(part, "little" if is_little else "big") & (2**64 - 1)
    if letter in "bhli":
        size = min(len(part), 8) * 8
        if size and word >> (size - 1):
            word -= 1 << size
    return float(word)
