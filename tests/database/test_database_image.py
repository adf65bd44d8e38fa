"""The image of the state, the way back from it, and the digest that is rolled over every change."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from hashlib import sha256
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from database.database_commands import (
    NOW,
    Words,
    a_list,
    ask,
    begun,
    command,
    keys,
    reads,
    run_of,
    values,
    words,
    writes,
)
from sofadb.database import image as image_module
from sofadb.database.database import Database
from sofadb.database.image import (
    END,
    HEADER,
    IS_END,
    IS_EXECUTIONS,
    IS_HELD,
    IS_KEYS,
    IS_KEYSPACE,
    IS_LOCKS,
    IS_ONCE,
    IS_STATE,
    KEY,
    KEYSPACE,
    PIECE_BYTES,
    PIECE_ITEMS,
    SECTION,
)
from sofadb.database.keyspace import bucket_of
from sofadb.database.loader import SECTION_BYTES_MAX, Loader, Unreadable
from sofadb.database.packed import DEPTH_MAX, pack_reply, unpack_reply
from sofadb.database.replies import NULL_ARRAY, OK, Pairs, Reply, ReplyError, Status, Unordered, Verbatim
from sofadb.database.rolling import INSTANCES
from sofadb.database.values import List

Batch = tuple[int, list[tuple[int, Words]]]
"""How many milliseconds pass, and commands with the numbers of their databases."""


def apply(database: Database, batch: Batch) -> list[Reply]:
    passes, commands = batch
    database.begin(database.instance + 1, max(NOW, database.time + passes))
    return [reply for number, each in commands for reply in run_of([each], number).execute(database)]


def image_of(database: Database) -> bytes:
    return b"".join(database.image().pieces())


def loaded(image: bytes, at_once: int = PIECE_BYTES) -> Database:
    loader = Loader()
    for begin in range(0, len(image), at_once):
        loader.feed(image[begin : begin + at_once])
    return loader.finish()


def shown(reply: Reply) -> Reply:
    return reply.text if isinstance(reply, ReplyError) else reply


def same_bucket(many: int) -> list[bytes]:
    """Keys that lie in one bucket."""
    return list(islice((key for number in count() if bucket_of(key := b"%d" % number) == 7), many))


# Random batches

small = writes.filter(lambda words: words[0].upper() != b"SETRANGE" or len(words[2]) < 5)
"""Values of 64 MiB would make the tests slow, and nothing else."""
names = st.sampled_from([b"l", b"m"])
tokens = st.sampled_from([b"1", b"2", b"3", b"5"])
sofa = st.one_of(
    command("SOFA.LOCK", names, st.sampled_from([b"5", b"1000"])),
    command("SOFA.UNLOCK", names, tokens),
    command("SOFA.RENEW", names, tokens, b"2000"),
    st.tuples(st.integers(0, 9), st.one_of(small, command("GET TTL", keys), command("MGET", keys, keys))).map(
        lambda drawn: [b"SOFA.ONCE", b"id:%d" % drawn[0], *drawn[1]]
    ),
)
plain = st.one_of(
    command("SET", keys, values),
    command("PSETEX", keys, st.sampled_from([b"1", b"5", b"1000"]), values),
    command("PEXPIRE", keys, st.sampled_from([b"1", b"5", b"1000"])),
    command("PERSIST DEL INCR", keys),
)
numbers = st.sampled_from([0, 0, 0, 1, 15])
batches = st.tuples(
    st.sampled_from([0, 1, 5, 1000]),
    st.lists(st.tuples(numbers, st.one_of(plain, plain, small, sofa)), max_size=5),
)
questions = st.tuples(st.just(1), st.lists(st.tuples(numbers, reads), max_size=3))


def behaves_alike(here: Database, there: Database, further: list[Batch]) -> None:
    """They are one state, and stay so."""
    assert here.digest() == there.digest()
    assert (here.time, here.clock, here.instance) == (there.time, there.clock, there.instance)
    for batch in further:
        assert here.next_expiry() == there.next_expiry()
        for one, other in zip(here.keyspaces, there.keyspaces, strict=True):
            for key in (b"a", b"b", b"c", b"key:1", b"", b"nowhere"):
                assert one.version(key) == other.version(key)
        assert sorted(here.keyspaces[0].scan(0, 10**6)[1]) == sorted(there.keyspaces[0].scan(0, 10**6)[1])
        assert here.shared.locks.holder(b"l") == there.shared.locks.holder(b"l")
        assert here.shared.once.size == there.shared.once.size
        words_in_no_order = (b"KEYS", b"RANDOMKEY", b"SCAN")
        asked = [each for each in batch[1] if each[1][0].upper() not in words_in_no_order]
        replies = [apply(each, (batch[0], asked)) for each in (here, there)]
        assert [shown(reply) for reply in replies[0]] == [shown(reply) for reply in replies[1]]
        assert here.rolling == there.rolling
    assert here.digest() == there.digest()


@given(
    before=st.lists(batches, max_size=6),
    meanwhile=st.lists(st.tuples(st.integers(0, 3), batches), max_size=8),
    further=st.lists(batches | questions, min_size=1, max_size=4),
    at_once=st.sampled_from([1, 7, 100, PIECE_BYTES]),
)
@settings(max_examples=200, deadline=None)
def test_an_image_is_the_state_as_it_was_whatever_happens_while_it_is_taken(
    before: list[Batch], meanwhile: list[tuple[int, Batch]], further: list[Batch], at_once: int
) -> None:
    database, then, undisturbed = Database(), Database(), Database()
    for batch in before:
        for each in (database, then, undisturbed):
            apply(each, batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_module, "PIECE_ITEMS", 1)
        right = image_of(then)
        pieces = database.image().pieces()
        got = b""
        for taken, batch in meanwhile:
            got += b"".join(islice(pieces, taken))
            assert [shown(it) for it in apply(database, batch)] == [
                shown(it) for it in apply(undisturbed, batch)
            ]
        got += b"".join(pieces)
        assert got == right
        assert all(keyspace.past is None for keyspace in database.keyspaces)
        assert sha256(got).digest() == then.digest()
        behaves_alike(database, undisturbed, further)
        behaves_alike(loaded(got, at_once), then, further)


@pytest.mark.parametrize(
    "command",
    [
        *(
            "SET a 2",
            "SET new 2",
            "APPEND a 2",
            "APPEND short 2",
            "DEL a",
            "DEL short",
            "RENAME a b",
            "RENAME short a",
        ),
        *("EXPIRE a 7", "EXPIRE short 7", "PERSIST short", "GETEX short PERSIST", "FLUSHDB", "FLUSHALL"),
        *(
            "SOFA.LOCK l 5",
            "SOFA.LOCK due 5",
            "SOFA.UNLOCK held 1",
            "SOFA.RENEW held 1 7",
            "SOFA.ONCE new INCR n",
        ),
    ],
)
def test_each_change_leaves_the_image_as_it_was_wherever_that_has_come_to(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_module, "PIECE_ITEMS", 1)
    for taken in range(20):
        database, twin = begun(), begun()
        for each in (database, twin):
            ask(each, "MSET", "a", 1, *[word for key in same_bucket(3) for word in (key, 1)])
            ask(each, "SETEX", "short", 100, "x")
            for name, milliseconds in (("held", 1000), ("due", 10), ("other", 1000)):
                ask(each, "SOFA.LOCK", name, milliseconds)
            for id_ in range(3):
                ask(each, "SOFA.ONCE", id_, "GET", "a")
        # It is free, but was not cleared away.
        database.shared.locks.time = twin.shared.locks.time = NOW + 10
        pieces = database.image().pieces()
        got = b"".join(islice(pieces, taken))
        ask(database, *command.split())
        ask(database, "MSET", *[word for key in same_bucket(6) for word in (key, 2)])
        got += b"".join(pieces)
        assert got == image_of(twin)
        assert loaded(got).digest() == twin.digest()
        ask(twin, *command.split())
        ask(twin, "MSET", *[word for key in same_bucket(6) for word in (key, 2)])
        again = loaded(image_of(database))
        assert again.digest() == twin.digest()
        assert again.shared.locks.expiry == database.shared.locks.expiry


def test_what_is_changed_in_place_is_in_the_image_as_it_was() -> None:
    database = begun()
    keyspace = database.keyspaces[0]
    for key in (b"one", b"two"):
        keyspace.set(key, a_list(b"a", b"b"))
    before = database.digest()
    image = database.image()
    for key in (b"one", b"two"):
        value = keyspace.claim_as(key, List)
        assert value is not None
        value.take([b"c"])
        keyspace.changed(key, b"c")
    taken = b"".join(image.pieces())
    assert sha256(taken).digest() == before
    assert loaded(taken).keyspaces[0].find(b"one").items == deque([b"a", b"b"])
    assert keyspace.find(b"one").items == deque([b"a", b"b", b"c"])


def test_a_value_that_was_claimed_and_left_as_it_was_is_there_once() -> None:
    database = begun()
    database.keyspaces[0].set(b"one", a_list(b"a"))
    before = database.digest()
    image = database.image()
    database.keyspaces[0].claim(b"one")
    database.keyspaces[0].claim(b"one")
    assert sha256(b"".join(image.pieces())).digest() == before


def test_pieces_are_bounded_in_bytes_and_items() -> None:
    database = begun()
    large = b"x" * (3 * PIECE_BYTES)
    for number in range(2_000):
        ask(database, "SET", number, b"y" * (number % 300))
    for number, size in enumerate((PIECE_BYTES, PIECE_BYTES - 100, PIECE_BYTES - 10)):
        ask(database, "SET", f"large {number}", large[:size])
    ask(database, "SET", "largest", large)
    for number in range(600):
        ask(database, "SOFA.LOCK", number, 1000)
        ask(database, "SOFA.ONCE", number, "INCR", "n")
    pieces = list(database.image().pieces())
    assert [len(piece) for piece in pieces if len(piece) > PIECE_BYTES] == [len(large)]
    assert sum(piece is database.keyspaces[0].values[b"largest"] for piece in pieces) == 1, "not copied"
    assert sum(piece[0] in (IS_EXECUTIONS, IS_HELD) for piece in pieces[-7:]) == 4, (
        f"{PIECE_ITEMS} items each"
    )
    assert loaded(b"".join(pieces), 1 << 20).digest() == database.digest()


def test_a_state_has_one_image_however_it_came_about_and_whatever_the_order_of_its_dicts() -> None:
    many = same_bucket(5)
    here, there = begun(), begun()
    for key in many:
        here.keyspaces[3].set(key, b"v")
    for key in reversed(many):
        there.keyspaces[3].set(key, b"v")
    for key, version in here.keyspaces[3].versions.items():
        there.keyspaces[3].versions[key] = version
    there.shared.rolling.crc = here.shared.rolling.crc
    assert image_of(here) == image_of(there)


def test_what_comes_and_goes_while_an_image_is_taken_leaves_no_notes() -> None:
    database = begun()
    ask(database, "MSET", "a", 1, "b", 2)
    image = database.image()
    past = database.keyspaces[0].past
    assert past is not None
    for number in range(100):
        ask(database, "SET", number, "x")
        ask(database, "INCR", "a")
        ask(database, "DEL", number)
    assert sum(map(len, past._notes.values())) == 1, "of `a`, and of nothing else"
    image.close()


def test_many_keys_that_are_set_as_one_are_in_the_image_as_they_were() -> None:
    database, keys = Database(), [b"%d" % number for number in range(100)]
    assert database.keyspaces[0].set_strings(keys, keys)
    before = image_of(database)
    image = database.image()
    assert database.keyspaces[0].set_strings([*keys, b"new", b"1"], [b"other"] * (len(keys) + 2))
    taken = list(image.pieces())
    image.close()
    assert b"".join(taken) == before
    assert image_of(database) != before


def test_a_database_that_is_emptied_while_its_image_is_taken_is_in_it_all_the_same() -> None:
    database = begun()
    for number in range(50):
        ask(database, "SET", number, number, number=number % 3)
    before = database.digest()
    image = database.image()
    ask(database, "INCR", "0")
    ask(database, "FLUSHALL")
    ask(database, "SET", "0", "new")
    assert database.keyspaces[0].past is None, "what is there now is no concern of the image"
    assert sha256(b"".join(image.pieces())).digest() == before
    assert ask(database, "DBSIZE") == 1


def test_there_is_one_image_at_a_time_but_digests_at_any() -> None:
    database = begun()
    ask(database, "MSET", "a", 1, "b", 2)
    before = database.digest()
    image = database.image()
    with pytest.raises(AssertionError):
        database.image()
    pieces = image.pieces()
    next(pieces)
    assert database.digest() == before
    ask(database, "SET", "a", 2)
    assert database.digest() != before
    image.close()
    image.close()
    with pytest.raises(AssertionError):
        next(pieces)
    assert database.keyspaces[0].past is None
    again = database.image()
    image.close()
    with pytest.raises(AssertionError):
        database.image()
    assert sha256(b"".join(again.pieces())).digest() == database.digest()


def test_what_was_answered_once_is_answered_after_loading_too() -> None:
    database = begun()
    replies = [
        *(None, b"", b"\r\n\xff", 0, -(2**63), 2**64, 0.1, float("-inf"), OK, NULL_ARRAY),
        *([], [1, [b"a", None, [OK]]], {}, {b"k": [1], 2: {b"x": 0.5}}),
        *(ReplyError("ERR no"), ReplyError("ERR \udcff é \ud800")),
    ]
    for number, reply in enumerate(replies):
        database.shared.once.remember(b"%d" % number, 1, reply)
    database.shared.once.remember(b"set", 1, Unordered([b"a", [b"b"]]))
    database.shared.once.remember(b"pairs", 1, Pairs([b"a", 1]))
    database.shared.once.remember(b"text", 1, Verbatim(b"for people"))
    database.shared.once.remember(b"large", 1, b"x" * 100_000)
    database.shared.once.remember(b"view", 1, memoryview(b"a view")[2:])
    database.shared.once.forgotten = 7
    once = loaded(image_of(database)).shared.once
    assert [once.executions[b"%d" % number].reply for number in range(len(replies))] == replies
    text = once.executions[b"text"].reply
    assert isinstance(text, Verbatim)
    assert text.text == b"for people"
    for id_, kind, items in ((b"set", Unordered, [b"a", [b"b"]]), (b"pairs", Pairs, [b"a", 1])):
        assert type(once.executions[id_].reply) is kind
        assert once.executions[id_].reply == items
    assert not once.executions[b"large"].is_kept
    assert once.executions[b"view"].reply == b"view"
    assert [each.id_ for each in once.order] == [each.id_ for each in database.shared.once.order]
    assert (once.size, once.forgotten) == (database.shared.once.size, 7)
    assert once.size == sum(each.size for each in once.order)


@given(
    st.recursive(
        st.none() | st.binary() | st.integers() | st.floats(allow_nan=False) | st.binary().map(Status),
        lambda inner: st.lists(inner) | st.dictionaries(st.binary() | st.integers(), inner),
    )
)
def test_a_reply_comes_back_as_it_was(reply: Reply) -> None:
    assert unpack_reply(pack_reply(reply)) == reply


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"n",
        b"?\0\0\0\0",
        b"n\0\0\0\1x",
        b"a\0\0\0\1x",
        b"b\0\0\0\5x",
        b"i\0\0\0\1x",
        b"f\0\0\0\1x",
        b"e\0\0\0\1\xff",
        b"l\xff\xff\xff\xff",
        b"d\0\0\0\1l\0\0\0\0n\0\0\0\0",
        b"p\0\0\0\1n\0\0\0\0",
        b"d\0\0\0\2" + b"n\0\0\0\0" * 4,
        b"n\0\0\0\0" * 2,
        b"l\0\0\0\1" * 100_000,
    ],
)
def test_what_is_no_reply_is_no_reply(data: bytes) -> None:
    with pytest.raises(Unreadable):
        loaded(forged([(IS_EXECUTIONS, image_module.EXECUTION.pack(1, True, 9, 1, len(data)) + b"x" + data)]))


def test_replies_may_lie_within_replies_but_not_without_end() -> None:
    reply: Reply = 1
    for _ in range(DEPTH_MAX):
        reply = [reply]
    assert unpack_reply(pack_reply(reply)) == reply
    with pytest.raises(AssertionError):
        pack_reply([reply])


# What is no image


def filled() -> Database:
    """Something of everything."""
    database = Database()
    for passes in (0, 1):
        apply(
            database,
            (
                passes,
                [
                    (0, words("MSET", "a", 1, "b", "two", "c", "three")),
                    (0, words("PSETEX", "short", 1, "x")),
                    (0, words("DEL", "b")),
                    (9, words("SETEX", "a", 100, "x" * 200)),
                    (9, words("SOFA.ONCE", "id", "MGET", "a", "b")),
                    (9, words("SOFA.ONCE", f"id {passes}", "INCR", "a")),
                    (9, words("SOFA.LOCK", f"l {passes}", 1000)),
                ],
            ),
        )
    return database


def sections(image: bytes) -> Iterator[tuple[int, bytes]]:
    at = HEADER.size
    while at < len(image):
        kind, _, length = SECTION.unpack_from(image, at)
        at += SECTION.size
        yield kind, image[at : at + length]
        at += length


def whole(parts: list[tuple[int, bytes]]) -> bytes:
    """An image of these sections, and its right end."""
    image = HEADER.pack(image_module.MARK, image_module.FORMAT)
    image += b"".join(SECTION.pack(kind, 1, len(body)) + body for kind, body in parts if kind != IS_END)
    return image + SECTION.pack(IS_END, 1, END.size) + END.pack(crc32c(image))


def forged(parts: list[tuple[int, bytes]]) -> bytes:
    """An image of an empty database with more sections, each in its place."""
    order = [IS_STATE, IS_KEYSPACE, IS_KEYS, IS_ONCE, IS_EXECUTIONS, IS_LOCKS, IS_HELD, IS_END]
    every = [*sections(image_of(Database())), *parts]
    return whole(sorted(every, key=lambda part: order.index(part[0])))


def test_the_image_of_an_empty_database_is_loaded_too() -> None:
    assert loaded(image_of(Database())).digest() == Database().digest()
    assert forged([]) == image_of(Database())


def test_an_image_that_is_cut_off_or_goes_on_is_none() -> None:
    image = image_of(filled())
    for length in range(len(image)):
        with pytest.raises(Unreadable):
            loaded(image[:length])
    for more in (b"\0", image):
        with pytest.raises(Unreadable):
            loaded(image + more)
        loader = Loader()
        loader.feed(image)
        with pytest.raises(Unreadable):
            loader.feed(more)


def test_an_image_in_which_one_bit_is_wrong_is_none() -> None:
    image = image_of(filled())
    for at in range(len(image)):
        wrong = bytearray(image)
        wrong[at] ^= 1 << at % 8
        with pytest.raises(Unreadable):
            loaded(bytes(wrong))


@given(st.binary(max_size=200), st.booleans())
def test_garbage_is_no_image(data: bytes, with_mark: bool) -> None:
    with pytest.raises(Unreadable):
        loaded(HEADER.pack(image_module.MARK, image_module.FORMAT) + data if with_mark else data)


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_wrong_bytes_under_a_right_checksum_are_refused_or_are_another_state(data: st.DataObject) -> None:
    parts = list(sections(image_of(filled())))
    at = data.draw(st.integers(0, len(parts) - 1))
    kind, body = parts[at]
    begin = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(begin, min(len(body), begin + 9)))
    parts[at] = (kind, body[:begin] + data.draw(st.binary(max_size=9)) + body[end:])
    image = whole(parts)
    try:
        database = loaded(image)
    except Unreadable:
        return
    assert loaded(image_of(database)).digest() == database.digest()


KEYSPACE_0 = (IS_KEYSPACE, KEYSPACE.pack(0, 9))


def key(name: bytes, version: int = 1, kind: int = 0) -> bytes:
    return KEY.pack(version, 0, kind, len(name), 1) + name + b"v"


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([KEYSPACE_0, (IS_KEYS, key(b"a", kind=77))], "does not know what the image's values of kind 77 are"),
        ([KEYSPACE_0, (IS_KEYS, key(b"a") * 2)], "not in order"),
        ([KEYSPACE_0, (IS_KEYS, key(b"a")), (IS_KEYS, key(b"a"))], "not in order"),
        ([KEYSPACE_0, (IS_KEYS, key(b"a", version=10))], "cannot have been"),
        ([KEYSPACE_0, (IS_KEYS, key(b"a")[:-1])], "ends early"),
        ([KEYSPACE_0, (IS_KEYS, b"x")], "buffer"),
        ([(IS_KEYS, key(b"a"))], "after a section of kind 1 comes one of kind 3"),
        ([KEYSPACE_0, KEYSPACE_0], "comes twice"),
        ([(IS_KEYSPACE, KEYSPACE.pack(16, 1))], "none of its number"),
        ([(IS_KEYSPACE, KEYSPACE.pack(0, 1) + image_module.DELETION.pack(4096, 1))], "cannot have been"),
        ([(IS_KEYSPACE, KEYSPACE.pack(0, 1) + image_module.DELETION.pack(0, 2))], "cannot have been"),
        ([(IS_KEYSPACE, KEYSPACE.pack(0, 1) + b"x")], "buffer"),
        ([(IS_STATE, bytes(28))], "after a section of kind 1 comes one of kind 1"),
        ([(IS_HELD, image_module.LOCK.pack(1, 1, 1) + b"l")], "locks are not in order"),
        ([(IS_HELD, image_module.LOCK.pack(0, 1, 1))], "ends early"),
        (
            [(IS_EXECUTIONS, (image_module.EXECUTION.pack(1, True, 9, 1, 5) + b"xn\0\0\0\0") * 2)],
            "comes twice",
        ),
    ],
)
def test_what_cannot_be_is_named(parts: list[tuple[int, bytes]], problem: str) -> None:
    with pytest.raises(Unreadable, match=problem):
        loaded(forged(parts))


def test_what_later_versions_write_is_refused_in_words() -> None:
    image = image_of(Database())
    for at, name in ((9, "format 99"), (HEADER.size, "kind 99"), (HEADER.size + 1, "version 99")):
        later = bytearray(image)
        later[at] = 99
        with pytest.raises(Unreadable, match=name):
            loaded(bytes(later))
    with pytest.raises(Unreadable, match="no image of a SofaDB database"):
        loaded(b"REDIS0011" + bytes(100))


def test_a_section_longer_than_any_is_refused_before_it_is_waited_for() -> None:
    loader = Loader()
    with pytest.raises(Unreadable, match="a section has"):
        loader.feed(image_of(Database())[: HEADER.size] + SECTION.pack(IS_STATE, 1, SECTION_BYTES_MAX + 1))


SCRIPT = """
from test_database_image import filled, image_of
print(image_of(filled()).hex())
"""


def test_an_image_is_the_same_whatever_the_hashes_are() -> None:
    here = Path(__file__).parent
    images = set()
    for seed in ("0", "1", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        environment["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent), *sys.path])
        told = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        images.add(told.stdout.strip())
    assert images == {image_of(filled()).hex()}


# The rolling digest

changing = st.one_of(
    st.tuples(st.just(b"SET"), st.binary(max_size=3), st.binary(max_size=3)),
    st.tuples(
        st.just(b"PSETEX"),
        st.binary(max_size=3),
        st.integers(1, 10**6).map(lambda ms: b"%d" % ms),
        st.binary(),
    ),
    st.tuples(st.just(b"APPEND"), st.binary(max_size=3), st.binary(min_size=1, max_size=3)),
    st.tuples(st.just(b"SOFA.LOCK"), st.binary(max_size=3), st.integers(1, 10**6).map(lambda ms: b"%d" % ms)),
).map(list)
"""Each of them changes something, whatever was before. (A lock, if it is not held.)"""


def rolled(commands: list[Words], numbers_of: list[int]) -> Database:
    database = Database()
    for number, each in zip(numbers_of, commands, strict=True):
        apply(database, (0, [(number, each)]))
    apply(database, (1, [(0, words("SET", "same", "again"))]))
    return database


@given(st.lists(changing, min_size=1, max_size=6), st.data())
@settings(max_examples=300, deadline=None)
def test_a_byte_or_an_order_that_differs_is_seen_ever_after(
    commands: list[Words], data: st.DataObject
) -> None:
    numbers_of = data.draw(st.lists(numbers, min_size=len(commands), max_size=len(commands)))
    here, there = rolled(commands, numbers_of), rolled(commands, numbers_of)
    assert here.rolling == there.rolling
    assert image_of(here) == image_of(there)
    at = data.draw(st.integers(0, len(commands) - 1))
    other = [list(each) for each in commands]
    others = list(numbers_of)
    what = data.draw(st.sampled_from(["word", "database", "order"]))
    if what == "database":
        others[at] = (others[at] + 1) % 16
    elif what == "order":
        back = data.draw(st.integers(0, len(commands) - 1))
        other[at], other[back] = other[back], other[at]
        others[at], others[back] = others[back], others[at]
    else:
        word = data.draw(st.integers(1, len(other[at]) - 1))
        place = data.draw(st.integers(0, max(0, len(other[at][word]) - 1)))
        changed = bytearray(other[at][word])
        changed[place : place + 1] = b"7"
        other[at][word] = bytes(changed)
    different = rolled(other, others)
    if image_without_digest(here) != image_without_digest(different):
        assert here.rolling != different.rolling


def image_without_digest(database: Database) -> tuple[Any, ...]:
    """All that is in the image besides."""
    (kind, state), *rest = sections(image_of(database))
    assert kind == IS_STATE
    return (state[:-4], *rest[:-1])


def test_the_same_change_twice_is_not_none_even_of_nothing() -> None:
    seen = set()
    database = begun()
    keyspace = database.keyspaces[0]
    for _ in range(3):
        keyspace.set(b"", b"")
        seen.add(database.rolling)
        keyspace.replace(b"", b"")
        seen.add(database.rolling)
        keyspace.expire_at(b"", NOW + 1)
        seen.add(database.rolling)
        keyspace.persist(b"")
        seen.add(database.rolling)
        keyspace.delete(b"")
        seen.add(database.rolling)
        keyspace.clear()
        seen.add(database.rolling)
    assert len(seen) == 18


@pytest.mark.parametrize(
    "command",
    [
        "SOFA.LOCK l 5",
        "SOFA.UNLOCK held 1",
        "SOFA.RENEW held 1 5",
        "SOFA.ONCE id GET a",
        "FLUSHDB",
        "DEL a",
        "PERSIST b",
    ],
)
def test_whatever_changes_is_rolled(command: str) -> None:
    database = begun()
    ask(database, "SOFA.LOCK", "held", 1000)
    ask(database, "SET", "a", 1)
    ask(database, "SETEX", "b", 100, 1)
    before = database.rolling
    assert not isinstance(ask(database, *command.split()), ReplyError)
    assert database.rolling != before


def test_where_a_key_ends_and_its_value_begins_is_seen() -> None:
    here, there = begun(), begun()
    ask(here, "SET", "ab", "c")
    ask(there, "SET", "a", "bc")
    assert here.rolling != there.rolling


def test_what_was_rolled_up_to_an_instance_can_be_asked_for_a_while() -> None:
    database = Database()
    told: dict[int, int] = {}
    for _ in range(INSTANCES + 10):
        apply(database, (1, [(0, words("INCR", "n"))]))
        told[database.instance] = database.rolling
    last = database.instance
    assert database.rolling_at(last - INSTANCES - 1) is None
    assert all(database.rolling_at(last - back) == told[last - back] for back in range(INSTANCES + 1))
    assert database.rolling_at(last + 1) is None
    database.begin(last + 3, NOW)
    assert database.rolling_at(last) == told[last]
    assert database.rolling_at(last + 1) is None, "it was never begun here"
    again = loaded(image_of(database))
    assert again.rolling_at(database.instance) == database.rolling
    assert again.rolling_at(last) is None
