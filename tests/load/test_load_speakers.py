"""Which request an answer is for, however the bytes come."""

from __future__ import annotations

import pytest

from sofadb.load.requests import command
from sofadb.load.speakers import Resp


def test_answers_come_in_the_order_of_requests_and_errors_are_told_apart() -> None:
    speaker = Resp(lambda: command(b"PING"))
    assert [speaker.request(due) for due in (1.0, 2.0, 3.0)] == [command(b"PING")] * 3
    answers = [answer for byte in b"+PONG\r\n-ERR no\r\n" for answer in speaker.feed(bytes([byte]))]
    assert answers == [(1.0, True), (2.0, False)]
    assert speaker.unanswered() == [3.0]


def test_a_greeting_is_answered_before_anything_is_asked() -> None:
    speaker = Resp(lambda: command(b"PING"), command(b"AUTH", b"secret"))
    assert not speaker.is_ready
    assert speaker.outgoing == command(b"AUTH", b"secret")
    assert speaker.feed(b"+OK\r\n") == []
    assert speaker.is_ready


def test_what_is_no_answer_breaks_the_connection() -> None:
    with pytest.raises(ConnectionError):
        Resp(lambda: command(b"PING")).feed(b"HTTP/1.1 400\r\n")
