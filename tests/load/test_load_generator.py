"""The generator against a server in a thread that answers, or breaks off, as it is told."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hiredis
import pytest

from sofadb.load import generator as module
from sofadb.load.generator import Generator, NobodyAnswers
from sofadb.load.requests import command
from sofadb.load.speakers import Resp

Behaviour = Callable[[int, int], bytes | None]
"""What the nth connection (from 1 on) answers to its nth request; nothing, or None to break off."""


@contextmanager
def server(behaviour: Behaviour) -> Iterator[tuple[tuple[str, int], Counter[int]]]:
    """Its address, and how many requests came on each connection."""
    seen: Counter[int] = Counter()
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)

    def serve(link: socket.socket, number: int) -> None:
        reader = hiredis.Reader()
        with link:
            while data := link.recv(1 << 16):
                reader.feed(data)
                while reader.gets() is not False:
                    seen[number] += 1
                    if (answer := behaviour(number, seen[number])) is None:
                        return
                    link.sendall(answer)

    def accept() -> None:
        for number in range(1, 1_000):
            try:
                link, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(link, number), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname(), seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def ping() -> Resp:
    return Resp(lambda: command(b"PING"))


def always(answer: bytes) -> Behaviour:
    return lambda connection, request: answer


def test_so_many_are_asked_as_were_wanted_spread_over_the_connections() -> None:
    with server(always(b"+PONG\r\n")) as (address, seen), Generator(ping, [address], 4, 5) as generator:
        figures = generator.some(1_000)
    assert figures.answers == sum(seen.values()) == 1_000
    assert figures.errors == 0
    assert len(seen) == 4
    assert min(seen.values()) > 0


def test_error_replies_are_counted_and_take_no_time() -> None:
    def behaviour(connection: int, request: int) -> bytes:
        return b"-ERR odd\r\n" if request % 2 else b"+PONG\r\n"

    with server(behaviour) as (address, _), Generator(ping, [address], 1, 1) as generator:
        figures = generator.some(100)
    assert (figures.answers, figures.errors) == (50, 50)


def test_a_connection_that_breaks_is_made_anew_and_what_was_asked_on_it_has_failed() -> None:
    def behaviour(connection: int, request: int) -> bytes | None:
        return None if connection == 1 and request == 10 else b"+PONG\r\n"

    with server(behaviour) as (address, seen), Generator(ping, [address], 1, 3) as generator:
        figures = generator.some(100)
    assert figures.answers + figures.errors == 100
    assert 1 <= figures.errors <= 3
    assert seen[1] == 10
    assert seen[2] == 100 - 9 - figures.errors


def test_in_an_open_loop_every_request_is_accounted_for() -> None:
    def behaviour(connection: int, request: int) -> bytes:
        return b"+PONG\r\n" if request <= 20 else b""

    with server(behaviour) as (address, _), Generator(ping, [address], 1, 30) as generator:
        figures = generator.open(rate=2_000, seconds=0.05, patience=0.05)
    assert figures.answers == 20
    assert figures.errors == 0
    # All others were due, whether they could leave (30 were unanswered) or not.
    assert 79 <= figures.unanswered <= 81
    assert figures.percentiles_ms()["p50"] >= 50
    assert figures.silence >= 0.05


def test_a_closed_loop_never_has_more_on_the_way_than_it_may() -> None:
    with server(always(b"")) as (address, seen), Generator(ping, [address], 2, 3) as generator:
        assert generator.closed(0.05).answers == 0
    assert sum(seen.values()) <= 6


def test_nobody_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT_S", 0.05)
    monkeypatch.setattr(module, "SILENCE_MAX_S", 0.05)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with (
            pytest.raises(NobodyAnswers, match=r"127\.0\.0\.1:"),
            Generator(ping, [nobody.getsockname()], 1, 1),
        ):
            pass
    silent = server(always(b""))
    with silent as (address, _), Generator(ping, [address], 1, 1) as generator, pytest.raises(NobodyAnswers):
        generator.some(1)
