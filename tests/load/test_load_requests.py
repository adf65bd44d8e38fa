"""The bytes of requests."""

from __future__ import annotations

import hiredis

from sofadb.load.requests import Make, command, each_deleted, each_set, gets, sets


def read(data: bytes) -> list[bytes]:
    """The words of one command; nothing may be left over."""
    reader = hiredis.Reader()
    reader.feed(data)
    words = reader.gets()
    assert reader.gets() is False
    assert isinstance(words, list)
    return words


def test_a_command_is_an_array_of_its_words() -> None:
    assert command(b"SET", b"", b"\r\n") == b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$2\r\n\r\n\r\n"


def test_keys_are_drawn_from_all_and_the_same_seed_draws_the_same() -> None:
    def drawn(make: Make) -> list[bytes]:
        return [make() for _ in range(200)]

    first = drawn(sets(b"k:", 4, 3, seed=1, expiry_s=60))
    assert {tuple(read(each)) for each in first} == {
        (b"SET", b"k:%012d" % number, b"xxx", b"EX", b"60") for number in range(4)
    }
    assert (
        first
        == drawn(sets(b"k:", 4, 3, seed=1, expiry_s=60))
        != drawn(sets(b"k:", 4, 3, seed=2, expiry_s=60))
    )
    assert {tuple(read(each)) for each in drawn(gets(b"k:", 2, seed=1))} == {
        (b"GET", b"k:000000000000"),
        (b"GET", b"k:000000000001"),
    }


def test_a_value_that_looks_like_a_key_is_left_alone() -> None:
    assert read(sets(b"", 1, 12, seed=1)()) == [b"SET", b"0" * 12, b"x" * 12]


def test_each_key_is_written_once_and_deleted_once() -> None:
    write = each_set(b"k:", 250, 1)
    written = [read(write())[1] for _ in range(250)]
    count, delete = each_deleted(b"k:", 250)
    deleted = [key for _ in range(count) for key in read(delete())[1:]]
    assert count == 3
    assert sorted(deleted) == sorted(written) == [b"k:%012d" % number for number in range(250)]
