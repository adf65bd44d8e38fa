"""Numbers and times as clients write them, with Redis's strictness and its words."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from .replies import NOT_A_FLOAT, NOT_AN_INTEGER, ReplyError

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

_FLOAT = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{1,6}))?")
_HEXADECIMAL = re.compile(rb"([+-]?)0[xX]([0-9a-fA-F]{1,64})\.?([0-9a-fA-F]{0,64})(?:[pP]([+-]?\d{1,4}))?")
_INFINITE = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)
_MANTISSA_BITS = 64
"""Of the x87 long double, in which Redis computes INCRBYFLOAT."""
LONG_DOUBLE_END = 2**16384
"""Long doubles are smaller than this, and anything up to the next is zero to them."""
_LONG_DOUBLE_TINY = Fraction(1, 2**16446)
_DECIMAL_EXPONENT_MAX = 10_000
_FLOAT_BYTES_MAX = 5 * 1024 - 1


def parse_integer(text: bytes, problem: str = NOT_AN_INTEGER) -> int:
    """A signed 64-bit integer in its one canonical spelling. Raises `ReplyError`."""
    if len(text) <= 20:
        try:
            value = int(text)
        except ValueError:
            raise ReplyError(problem) from None
        if INTEGER_MIN <= value <= INTEGER_MAX and b"%d" % value == text:
            return value
    raise ReplyError(problem)


def parse_at_least(least: int, text: bytes, problem: str) -> int:
    """As `parse_integer`, of a number that is not smaller than `least`. Raises `ReplyError`, which says `problem` of both."""
    value = parse_integer(text, problem)
    if value < least:
        raise ReplyError(problem)
    return value


def is_integer(text: bytes) -> bool:
    """Whether `parse_integer` takes it."""
    try:
        parse_integer(text)
    except ReplyError:
        return False
    return True


def expiry(text: bytes, base: int, unit_ms: int, command: str, at_least: int = 1) -> int:
    """The absolute time in ms that `text` means: so many units from `base`. Raises `ReplyError`."""
    amount = parse_integer(text)
    value = amount * unit_ms + base
    if amount < at_least or not INTEGER_MIN <= amount * unit_ms <= INTEGER_MAX or value > INTEGER_MAX:
        raise ReplyError(f"ERR invalid expire time in '{command}' command")
    return value


def parse_long_double(text: bytes) -> Fraction | None:
    """A number as C's strtold reads it, rounded to a long double's precision; None if infinite. Raises `ReplyError`."""
    if len(text) > _FLOAT_BYTES_MAX:
        raise ReplyError(NOT_A_FLOAT)
    if _INFINITE.fullmatch(text):
        return None
    hexadecimal = _HEXADECIMAL.fullmatch(text)
    decimal = _FLOAT.fullmatch(text)
    if hexadecimal is not None:
        sign, whole, rest, exponent = hexadecimal.groups()
        exact = Fraction(int(whole + rest, 16)) * Fraction(2) ** (int(exponent or 0) - 4 * len(rest))
        value = -exact if sign == b"-" else exact
    elif decimal is not None and abs(int(decimal[1] or 0)) <= _DECIMAL_EXPONENT_MAX:
        # By way of Decimal, since int() refuses many digits.
        value = Fraction(*Decimal(text.decode()).as_integer_ratio())
    else:
        raise ReplyError(NOT_A_FLOAT)
    if abs(value) >= LONG_DOUBLE_END or (value and abs(value) <= _LONG_DOUBLE_TINY):
        raise ReplyError(NOT_A_FLOAT)
    return round_to_long_double(value)


def round_to_long_double(value: Fraction) -> Fraction:
    """The nearest number with a mantissa of 64 bits, the even one of two."""
    if not value:
        return value
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    shift = _MANTISSA_BITS - exponent
    scaled = value * Fraction(2) ** shift
    while abs(scaled) >= 2**_MANTISSA_BITS:
        shift -= 1
        scaled /= 2
    return Fraction(round(scaled)) / Fraction(2) ** shift


def format_long_double(value: Fraction) -> bytes:
    """As C's %.17Lf writes it, without zeros at the end."""
    whole, rest = divmod(round(abs(value) * 10**17), 10**17)
    text = f"{Decimal(whole):f}.{rest:017}".rstrip("0").rstrip(".").encode()
    return b"-" + text if value < 0 and text != b"0" else text
