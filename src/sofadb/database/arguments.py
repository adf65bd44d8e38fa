"""Numbers and times as clients write them, with Redis's strictness and its words."""

from __future__ import annotations

import re
from fractions import Fraction

from .replies import NOT_A_FLOAT, NOT_AN_INTEGER, ReplyError

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

_FLOAT = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{1,6}))?")
_HEXADECIMAL = re.compile(rb"([+-]?)0[xX]([0-9a-fA-F]{1,64})\.?([0-9a-fA-F]{0,64})(?:[pP]([+-]?\d{1,4}))?")
_INFINITE = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)
_MANTISSA_BITS = 64
"""Of the x87 long double, in which Redis computes INCRBYFLOAT."""


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


def expiry(text: bytes, base: int, unit_ms: int, command: str, at_least: int = 1) -> int:
    """The absolute time in ms that `text` means: so many units from `base`. Raises `ReplyError`."""
    amount = parse_integer(text)
    value = amount * unit_ms + base
    if amount < at_least or not INTEGER_MIN <= amount * unit_ms <= INTEGER_MAX or value > INTEGER_MAX:
        raise ReplyError(f"ERR invalid expire time in '{command}' command")
    return value


def parse_long_double(text: bytes) -> Fraction:
    """A decimal number, rounded to a long double's precision. Raises `ReplyError`."""
    hexadecimal = _HEXADECIMAL.fullmatch(text)
    if hexadecimal is not None:
        sign, whole, rest, exponent = hexadecimal.groups()
        value = Fraction(int(whole + rest, 16)) * Fraction(2) ** (int(exponent or 0) - 4 * len(rest))
        return round_to_long_double(-value if sign == b"-" else value)
    match = _FLOAT.fullmatch(text)
    if match is None or len(text) > 5000:
        if _INFINITE.fullmatch(text):
            raise ReplyError("ERR increment would produce NaN or Infinity")
        raise ReplyError(NOT_A_FLOAT)
    if abs(int(match[1] or 0)) > 4900:
        raise ReplyError(NOT_A_FLOAT)
    return round_to_long_double(Fraction(text.decode()))


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
    scaled = round(abs(value) * 10**17)
    whole, rest = divmod(scaled, 10**17)
    text = b"%d.%017d" % (whole, rest)
    text = text.rstrip(b"0").rstrip(b".")
    return b"-" + text if value < 0 and text != b"0" else text
