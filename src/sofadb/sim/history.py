"""Histories: what clients asked, when, and what they were answered.

A history is text, one JSON object a line, one operation an object:

    {"client": 3, "op": "cas", "key": "x", "value": "b", "expected": "a", "start": 1.25, "end": 1.5, "result": true}

`start` is a time before the request left, `end` one after the answer came, in seconds of any one clock. `end` is null when
no answer came: then the operation may have taken effect at any time after its start, or may yet do so, or never, and
`result` is null. A request that was surely turned down (it never ran) is no operation and is left out.

What each key is: a register that holds nothing (null) or a text. What each operation does, and what it answers:

    set     holds `value` from now on                                         "OK"
    get     changes nothing                                                   the text, or null
    del     holds nothing from now on                                         1 if there was a text, else 0
    cas     if it holds `expected` (null: nothing), holds `value` from now on true if so, else false
    append  adds `value` at the end (nothing counts as "")                    the new length, in bytes of UTF-8
    incr    adds one (nothing counts as 0)                                    the new number, or "error"

An incr fails, and changes nothing, where the text is no integer as Redis writes them (64 bits, no sign but "-", no
leading zeros or blanks) or is the highest of them. Its result is then the string "error"; an object {"error": ...}
reads as the same. Texts are Unicode without lone surrogates, so that putting two together is putting their bytes together.
Where a text is due (`value`, `expected`, the result of a get), a JSON integer stands for its decimal text: 5 is "5".

The lines may come in any order. Operations of one client do not overlap, but for those of unknown outcome.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

Verb = Literal["set", "get", "del", "cas", "append", "incr"]
VERBS: Final[frozenset[str]] = frozenset(get_args(Verb))

Answer = str | int | None
"""A result; which type it has depends on the verb. (A bool is an int.)"""

OK: Final = "OK"
ERROR: Final = "error"

_FIELDS: Final = frozenset(("client", "op", "key", "value", "expected", "start", "end", "result"))


class Unreadable(Exception):
    """A line is no operation. The message begins with the line's number, the first being 1."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client. `end` is None where its outcome is unknown; `result` then means nothing."""

    client: int
    op: Verb
    key: str
    value: str | None
    """What a set, a cas or an append writes."""
    expected: str | None
    """What a cas expects; None is "nothing"."""
    start: float
    end: float | None
    result: Answer


def read_history(lines: Iterable[str]) -> list[Operation]:
    """Read one operation a line, in the order of the lines; blank lines are passed over.

    Raises:
        Unreadable: a line is no JSON object, a field is missing, unknown or of the wrong kind, an operation ends before
            it starts, or two operations of one client overlap.
    """
    operations: list[Operation] = []
    numbers: list[int] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            operations.append(_operation(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"line {number}: {error}") from None
        numbers.append(number)
    _refuse_overlap(operations, numbers)
    return operations


def write_history(operations: Iterable[Operation]) -> Iterator[str]:
    """Yield the line of each operation, with its line feed."""
    for each in operations:
        fields: dict[str, Any] = {"client": each.client, "op": each.op, "key": each.key}
        if each.value is not None:
            fields["value"] = each.value
        if each.op == "cas":
            fields["expected"] = each.expected
        fields |= {"start": each.start, "end": each.end}
        fields["result"] = None if each.end is None else each.result
        yield json.dumps(fields) + "\n"


def _operation(fields: object) -> Operation:
    """Raises ValueError on anything that is not an operation."""
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    if not fields.keys() <= _FIELDS:
        raise ValueError(f"unknown field {min(fields.keys() - _FIELDS)!r}")
    op = fields.get("op")
    if not isinstance(op, str) or op not in VERBS:
        raise ValueError(f"op must be one of {', '.join(sorted(VERBS))}, not {op!r}")
    client = fields.get("client")
    if type(client) is not int:
        raise ValueError(f"client must be an integer, not {client!r}")
    key = _text(fields.get("key"), "key")
    value, expected = fields.get("value"), fields.get("expected")
    if op in ("set", "cas", "append"):
        value = _text_or_number(value, "value")
    elif value is not None:
        raise ValueError(f"a {op} has no value")
    if op == "cas":
        if "expected" not in fields:
            raise ValueError("a cas needs an expected value (null is: nothing)")
        if expected is not None:
            expected = _text_or_number(expected, "expected")
    elif expected is not None:
        raise ValueError(f"a {op} has no expected value")
    start = _time(fields.get("start"), "start")
    end = fields.get("end", "missing")
    if end is not None and _time(end, "end") < start:
        raise ValueError("it ends before it starts")
    result = fields.get("result")
    if op == "incr" and isinstance(result, dict) and result.keys() == {"error"}:
        result = ERROR
    elif op == "get" and result is not None:
        result = _text_or_number(result, "result")
    if end is None:
        if result is not None:
            raise ValueError("without an end there is no result")
    else:
        _refuse_result(op, result)
    return Operation(client, op, key, value, expected, start, end, result)  # type: ignore[arg-type]


def _text_or_number(value: object, name: str) -> str:
    """A number stands for its decimal text. A bool is no number here, and a fraction has no one text."""
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string or an integer, not {value!r}")
    return _text(value, name)


def _text(text: object, name: str) -> str:
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a string, not {text!r}")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{name} has a lone surrogate")
    return text


def _time(time: object, name: str) -> float:
    if type(time) is not float and type(time) is not int:
        raise ValueError(f"{name} must be a number, not {time!r}")
    if type(time) is float and not math.isfinite(time):
        raise ValueError(f"{name} must be finite")
    return time


def _refuse_result(op: str, result: object) -> None:
    """An answer that no register could give in any state is a fault of the recording, not of the database."""
    if op == "set":
        fits, wanted = result == OK, '"OK"'
    elif op == "get":
        return  # Any text will do, and so will none.
    elif op == "del":
        fits, wanted = type(result) is int and 0 <= result <= 1, "0 or 1"
    elif op == "cas":
        fits, wanted = type(result) is bool, "true or false"
    elif op == "append":
        fits, wanted = type(result) is int and result >= 0, "a length"
    else:
        fits, wanted = type(result) is int or result == ERROR, 'an integer or "error"'
    if not fits:
        raise ValueError(f"the result of a {op} must be {wanted}, not {result!r}")


def _refuse_overlap(operations: list[Operation], numbers: list[int]) -> None:
    """A client waits for its answer (or gives up waiting) before it asks again: else who asked is not told right."""
    last: dict[int, tuple[float, int]] = {}
    # Who gave up within one tick of the clock asked again at the same time.
    for at in sorted(range(len(operations)), key=lambda at: _given_up_first(operations[at])):
        each = operations[at]
        until, line = last.get(each.client, (-math.inf, 0))
        if each.start < until:
            raise Unreadable(
                f"line {numbers[at]}: client {each.client} starts before its operation of line {line} has ended"
            )
        if each.end is not None:
            last[each.client] = each.end, numbers[at]


def _given_up_first(operation: Operation) -> tuple[float, float]:
    return operation.start, operation.start if operation.end is None else operation.end


def in_order(operation: Operation) -> tuple[float, float]:
    """The key that sorts operations by start, and those that start together by end. The sort keeps the order of equals."""
    return operation.start, math.inf if operation.end is None else operation.end
