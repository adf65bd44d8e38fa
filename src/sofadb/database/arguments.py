"""Numbers and times as clients write them, with Redis's strictness and its words."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from math import inf, isinf

from .replies import NOT_A_FLOAT, NOT_AN_INTEGER, ReplyError

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

_FLOAT = re.compile(rb"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,6}))?")
_HEXADECIMAL = re.compile(rb"([+-]?)0[xX]([0-9a-fA-F]{1,64})\.?([0-9a-fA-F]{0,64})(?:[pP]([+-]?\d{1,4}))?")
_INFINITE = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)
_DOUBLE = re.compile(rb"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_HEXADECIMAL_DOUBLE = re.compile(
    rb"[+-]?0[xX](?:[0-9a-fA-F]+(?:\.[0-9a-fA-F]*)?|\.[0-9a-fA-F]+)(?:[pP][+-]?\d+)?"
)
_ZERO = re.compile(rb"[+-]?(?:0[xX])?[0.]+(?:[eEpP].*)?")
_WHITE = b" \t\n\v\f\r"
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


VISITS_MAX = 10_000_000


def demand_few(visits: int) -> None:
    """Refuse what goes through more elements than that, which takes about a second: a few words may name the same large values
    any number of times, and a write would hold up every replica, again whenever its log is read. Raises `ReplyError`.
    """
    if visits > VISITS_MAX:
        raise ReplyError(
            f"ERR this would go through {visits} elements; one command goes through {VISITS_MAX} at most"
        )


PICKS_MAX = 100_000


def parse_picks(text: bytes) -> int:
    """How many elements are to be picked by chance: that many different ones or, of a negative number, any so often.

    Redis gives as many as it is asked for, which may be more than there is memory; here `PICKS_MAX` is the most that are
    picked with repetitions. Raises `ReplyError`.
    """
    count = parse_integer(text)
    if count == INTEGER_MIN:
        raise ReplyError(f"ERR value is out of range, value must between {-INTEGER_MAX} and {INTEGER_MAX}")
    if count < -PICKS_MAX:
        raise ReplyError(f"ERR value is out of range, at most {PICKS_MAX} are picked with repetitions")
    return count


def picks_many(args: list[bytes]) -> bool:
    """Whether a command that may be given a number of elements as its third word is given one of more than three digits."""
    return len(args) > 2 and len(args[2]) > 3


def expiry(text: bytes, base: int, unit_ms: int, command: str, at_least: int = 1) -> int:
    """The absolute time in ms that `text` means: so many units from `base`. Raises `ReplyError`."""
    amount = parse_integer(text)
    value = amount * unit_ms + base
    if amount < at_least or not INTEGER_MIN <= amount * unit_ms <= INTEGER_MAX or value > INTEGER_MAX:
        raise ReplyError(f"ERR invalid expire time in '{command}' command")
    return value


def parse_double(text: bytes, problem: str = NOT_A_FLOAT) -> float:
    """A number as C's strtod reads it, neither too large nor too small for a double. Raises `ReplyError`."""
    value = _read_double(text)
    if value is None:
        raise ReplyError(problem)
    is_too_large = isinf(value) and not _INFINITE.fullmatch(text)
    is_too_small = not value and not _ZERO.fullmatch(text)
    if is_too_large or is_too_small:
        raise ReplyError(problem)
    return value


def parse_bound(text: bytes) -> tuple[float, bool]:
    """An end of a range of scores, and whether it is excluded. Raises `ReplyError`.

    Redis is less strict here: white space goes before, what follows a zero byte is not seen, nothing at all is zero, and
    what is too large is infinite.
    """
    is_excluded = text.startswith(b"(")
    number, _, _ = text[is_excluded:].partition(b"\0")
    value = _read_double(number.lstrip(_WHITE)) if number else 0.0
    if value is None:
        raise ReplyError("ERR min or max is not a float")
    return value, is_excluded


def _read_double(text: bytes) -> float | None:
    """As strtod: infinite if it is too large, zero if it is too small; None if it is no number."""
    if _DOUBLE.fullmatch(text) or _INFINITE.fullmatch(text):
        return float(text)
    if not _HEXADECIMAL_DOUBLE.fullmatch(text):
        return None
    try:
        return float.fromhex(text.decode())
    except OverflowError:
        return -inf if text.startswith(b"-") else inf


def parse_long_double(text: bytes, problem: str = NOT_A_FLOAT) -> Fraction | None:
    """A number as C's strtold reads it, rounded to a long double's precision; None if infinite. Raises `ReplyError`."""
    if len(text) > _FLOAT_BYTES_MAX:
        raise ReplyError(problem)
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
        raise ReplyError(problem)
    if abs(value) >= LONG_DOUBLE_END or (value and abs(value) <= _LONG_DOUBLE_TINY):
        raise ReplyError(problem)
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
