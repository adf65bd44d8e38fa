"""Histories are read as they were written, and a line that is no operation is named."""

from __future__ import annotations

import json
import random

import pytest

from sim.naive_checker import atomic
from sofadb.sim.history import Operation, Unreadable, read_history, write_history

GOOD = {"client": 3, "op": "set", "key": "x", "value": "a", "start": 1.25, "end": 1.5, "result": "OK"}


def test_what_is_written_is_read_again() -> None:
    for seed in range(20):
        history = atomic(random.Random(seed), operations=100, keys=5, unknown=0.2)
        assert read_history(write_history(history)) == history


def test_a_line_in_full() -> None:
    line = '{"client": 3, "op": "cas", "key": "x", "value": "b", "expected": null, "start": 1, "end": 2, "result": true}'
    assert read_history(["\n", line + "\n"]) == [Operation(3, "cas", "x", "b", None, 1, 2, True)]


def test_an_error_may_be_an_object() -> None:
    for error in ("error", {"error": "ERR value is not an integer or out of range"}):
        line = json.dumps({"client": 1, "op": "incr", "key": "x", "start": 1, "end": 2, "result": error})
        assert read_history([line])[0].result == "error"


def test_a_number_is_its_decimal_text() -> None:
    times = {"client": 1, "key": "x", "start": 1, "end": 2}
    for text, number in [("5", "5"), ("-7", "-7"), ("0", "-0"), (str(2**70), str(2**70))]:
        lines = [
            json.dumps(times | {"op": "set", "value": 0, "result": "OK"}).replace("0", number),
            json.dumps(times | {"op": "append", "value": 0, "result": 3}).replace("0", number),
            json.dumps(times | {"op": "cas", "value": 0, "expected": 0, "result": True}).replace("0", number),
            json.dumps(times | {"op": "get", "result": 0}).replace("0", number),
        ]
        done = [read_history([line])[0] for line in lines]
        assert [each.value for each in done] == [text, text, text, None]
        assert [each.expected for each in done] == [None, None, text, None]
        assert [each.result for each in done] == ["OK", 3, True, text]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"client": "three"}, "client must be an integer"),
        ({"client": True}, "client must be an integer"),
        ({"op": "expire"}, "op must be one of append, cas, del, get, incr, set, not 'expire'"),
        ({"op": ["set"]}, "op must be one of"),
        ({"key": None}, "key must be a string"),
        ({"value": None}, "value must be a string"),
        ({"value": 1.0}, "value must be a string or an integer, not 1.0"),
        ({"value": True}, "value must be a string or an integer, not True"),
        ({"key": 1}, "key must be a string, not 1"),
        ({"value": "\ud800"}, "value has a lone surrogate"),
        ({"expected": "a"}, "a set has no expected value"),
        ({"op": "cas", "result": True}, "a cas needs an expected value"),
        ({"op": "get", "result": None}, "a get has no value"),
        ({"start": None}, "start must be a number"),
        ({"start": True}, "start must be a number"),
        ({"end": float("nan")}, "end must be finite"),
        ({"end": float("inf")}, "end must be finite"),
        ({"end": 1.0}, "it ends before it starts"),
        ({"end": None}, "without an end there is no result"),
        ({"result": None}, 'the result of a set must be "OK"'),
        ({"op": "del", "value": None, "result": 2}, "the result of a del must be 0 or 1"),
        ({"op": "del", "value": None, "result": True}, "the result of a del must be 0 or 1"),
        ({"op": "cas", "expected": None, "result": 1}, "the result of a cas must be true or false"),
        ({"op": "append", "result": -1}, "the result of a append must be a length"),
        ({"op": "incr", "value": None, "result": "7"}, "the result of a incr must be an integer"),
        ({"op": "cas", "expected": False, "result": True}, "expected must be a string or an integer"),
        ({"op": "get", "value": None, "result": 7.5}, "result must be a string or an integer, not 7.5"),
        ({"op": "get", "value": None, "result": True}, "result must be a string or an integer, not True"),
        ({"op": "get", "value": None, "result": "\ud800"}, "result has a lone surrogate"),
        ({"op": "get", "value": None, "end": None, "result": 7}, "without an end there is no result"),
        ({"op": "append", "result": "3"}, "the result of a append must be a length"),
        ({"until": 3}, "unknown field 'until'"),
    ],
)
def test_a_line_that_is_no_operation_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_history([json.dumps(GOOD), json.dumps(GOOD | {"client": 4} | change)])
    assert str(caught.value).startswith(f"line 2: {message}")


@pytest.mark.parametrize("line", ["{", "[]", "7", "null", '{"client": 3}', "[" * 100_000])
def test_a_line_that_is_no_object_is_named(line: str) -> None:
    with pytest.raises(Unreadable, match=r"^line 1: "):
        read_history([line])


def test_a_missing_end_is_no_unknown_outcome() -> None:
    line = json.dumps({name: value for name, value in GOOD.items() if name != "end"})
    with pytest.raises(Unreadable, match=r"^line 1: end must be a number"):
        read_history([line])


def test_operations_of_one_client_do_not_overlap() -> None:
    lines = [json.dumps(GOOD | {"start": start, "end": end}) for start, end in [(5, 7), (1, 3), (2, 5)]]
    with pytest.raises(
        Unreadable, match=r"^line 3: client 3 starts before its operation of line 2 has ended$"
    ):
        read_history(lines)
    assert len(read_history(lines[:2])) == 2


def test_a_client_may_go_on_after_an_unknown_outcome() -> None:
    unknown = GOOD | {"start": 1, "end": None, "result": None}
    assert len(read_history([json.dumps(unknown), json.dumps(GOOD)])) == 2


def test_a_client_may_give_up_and_ask_again_within_one_tick_of_the_clock() -> None:
    line = '{"client": 1, "op": "set", "key": "x", "value": "a", "start": 1, "end": %s, "result": %s}'
    assert len(read_history([line % ("null", "null"), line % ("2", '"OK"')])) == 2
