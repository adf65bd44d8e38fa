"""Values with elements: what they hold, as images have it, and how they are given back."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from database.database_commands import begun
from sofadb.database.chance import Chance
from sofadb.database.database import Database
from sofadb.database.graveyard import LARGE
from sofadb.database.image import IS_ROWS, PIECE_BYTES, SECTION
from sofadb.database.loader import Loader, Unreadable
from sofadb.database.values import VALUES, Hash, List, Set, SortedSet, Value

names = st.binary(max_size=3)
scores = st.floats(allow_nan=False)


def row_of(kind: type[Value], name: bytes, number: float) -> list[Any]:
    cells: dict[type[Value], list[Any]] = {
        List: [name],
        Set: [name],
        Hash: [name, b"%g" % number],
        SortedSet: [name, number],
    }
    return cells[kind]


def filled(kind: type[Value], count: int, width: int = 10) -> Value:
    value = kind()
    for number in range(count):
        value.take(row_of(kind, b"%0*d" % (width, number), float(number)))
    value.complete()
    return value


def held(value: Value) -> list[tuple[Any, ...]]:
    return list(zip(*value.freeze().columns, strict=True))


def loaded(image: bytes, step: int = 1 << 16) -> Database:
    loader = Loader()
    for at in range(0, len(image), step):
        loader.feed(image[at : at + step])
    return loader.finish()


def image_of(database: Database) -> bytes:
    return b"".join(database.image().pieces())


@given(st.lists(st.tuples(st.sampled_from(["put", "put", "remove"]), names, scores), max_size=60))
def test_named_values_are_what_dicts_would_be(steps: list[tuple[str, bytes, float]]) -> None:
    a_set, a_hash, sorted_set = Set(), Hash(), SortedSet()
    expected: dict[bytes, float] = {}
    for what, name, score in steps:
        if what == "put":
            is_new = name not in expected
            assert a_set.add(name) is is_new
            assert a_hash.put(name, b"%r" % score) is is_new
            assert sorted_set.put(name, score) is is_new
            expected[name] = score
        else:
            was_there = expected.pop(name, None) is not None
            assert a_set.remove(name) is a_hash.remove(name) is sorted_set.remove(name) is was_there
    assert set(a_set.names) == set(a_hash.names) == set(sorted_set.names) == set(expected)
    for value in (a_set, a_hash, sorted_set):
        assert [value.positions[name] for name in value.names] == list(range(len(value)))
        assert value.freeze().size == sum(map(len, value.freeze().pieces(50)))
    for name, score in expected.items():
        assert a_hash.get(name) == b"%r" % score
        assert sorted_set.score(name) == score
    assert list(sorted_set.order) == sorted((score, name) for name, score in expected.items())


@given(st.dictionaries(names, scores, min_size=1), scores, names, st.data())
def test_ranks_are_what_counting_says(
    held: dict[bytes, float], score: float, name: bytes, data: st.DataObject
) -> None:
    value = SortedSet.of(held)
    order = sorted((score, name) for name, score in held.items())
    assert [value.rank(name) for _, name in order] == list(range(len(order)))
    assert value.rank(b"nobody") is None
    assert value.rank_at(score, is_after=False) == sum(each < score for each in held.values())
    assert value.rank_at(score, is_after=True) == sum(each <= score for each in held.values())
    equal = SortedSet.of(dict.fromkeys(held, score))
    assert equal.rank_at_name(name, is_after=False) == sum(each < name for each in held)
    assert equal.rank_at_name(name, is_after=True) == sum(each <= name for each in held)
    begin = data.draw(st.integers(0, len(order) - 1))
    end = data.draw(st.integers(begin + 1, len(order)))
    other = value.without(begin, end)
    value.cut(begin, end)
    for each in (value, other):
        assert list(each.order) == order[:begin] + order[end:]
        assert sorted(zip(each.scores, each.names, strict=True)) == list(each.order)
        assert [each.positions[name] for name in each.names] == list(range(len(each)))
        assert each.bytes == sum(map(len, each.names))


@given(
    st.lists(names, min_size=1, unique=True),
    st.data(),
)
def test_a_scan_meets_all_that_is_there_all_the_time(present: list[bytes], data: st.DataObject) -> None:
    value = Set()
    for name in present:
        value.add(name)
    staying = set(data.draw(st.lists(st.sampled_from(present))))
    met: set[bytes] = set()
    cursor, is_over = 0, False
    while not is_over:
        cursor, positions = value.scan(cursor, 2)
        met |= {value.names[position] for position in positions}
        is_over = cursor == 0
        for name in data.draw(st.lists(names, max_size=2)):
            if name not in staying:
                value.remove(name) or value.add(name)
    assert staying <= met


@pytest.mark.parametrize("kind", VALUES.values())
@pytest.mark.parametrize("count", [1, 3, 5_000])
def test_what_comes_out_of_an_image_is_what_went_in(kind: type[Value], count: int) -> None:
    database = begun()
    keyspace = database.keyspaces[2]
    value = filled(kind, count)
    value.is_wide = True
    keyspace.set(b"before", b"x")
    keyspace.set(b"it", value)
    keyspace.set(b"small", filled(kind, 2))
    keyspace.expire_at(b"it", keyspace.time + 10)
    taken = image_of(database)
    for step in (1 << 20, 7_777):
        again = loaded(taken, step)
        found = again.keyspaces[2].find(b"it")
        assert held(found) == held(value)
        assert (found.bytes, found.is_wide, found.encoding) == (value.bytes, True, value.encoding)
        if isinstance(found, SortedSet) and isinstance(value, SortedSet):
            assert list(found.order) == list(value.order)
        assert image_of(again) == taken
    assert held(value.copy()) == held(value)
    assert value.copy().bytes == value.bytes


def test_a_large_value_comes_in_pieces_and_as_it_was() -> None:
    database = begun()
    keyspace = database.keyspaces[0]
    keyspace.set(b"large", filled(Hash, 20_000))
    before = database.digest()
    pieces = database.image().pieces()
    taken = [next(pieces), next(pieces), next(pieces)]
    value = keyspace.claim_as(b"large", Hash)
    assert value is not None
    value.put(b"new", b"value")
    keyspace.changed(b"large", b"new", b"value")
    keyspace.delete(b"large")
    taken += pieces
    assert max(map(len, taken)) <= PIECE_BYTES
    assert sum(SECTION.unpack_from(piece)[0] == IS_ROWS for piece in taken[1:]) > 5
    assert sha256(b"".join(taken)).digest() == before


def test_an_image_whose_rows_are_not_as_many_as_they_should_be_is_refused() -> None:
    database = begun()
    database.keyspaces[0].set(b"large", filled(Set, 10_000))
    pieces = list(database.image().pieces())
    rows = [number for number, piece in enumerate(pieces) if number and piece[0] == IS_ROWS]
    for wrong in (
        pieces[: rows[0]] + pieces[rows[0] + 1 :],
        pieces[: rows[-1]] + pieces[rows[-1] + 1 :],
        [*pieces[: rows[0]], pieces[rows[0]], *pieces[rows[0] :]],
    ):
        with pytest.raises(Unreadable):
            loaded(b"".join(wrong))


@pytest.mark.parametrize("kind", VALUES.values())
def test_large_values_are_given_back_step_by_step(kind: type[Value]) -> None:
    database = begun()
    keyspace = database.keyspaces[0]
    value = filled(kind, LARGE + 5)
    keyspace.set(b"it", value)
    keyspace.set(b"other", b"x")
    keyspace.set(b"it", b"a string")
    assert database.tidy(LARGE), "there is more than one container, or more than so many"
    while database.tidy(LARGE):
        pass
    assert not any(map(len, value.containers()))


def test_an_emptied_database_is_given_back_when_its_image_is_taken() -> None:
    database = begun()
    keyspace = database.keyspaces[0]
    for number in range(3_000):
        keyspace.set(b"%d" % number, b"x")
    keyspace.set(b"large", filled(List, LARGE))
    before, values = database.digest(), keyspace.values
    image = database.image()
    keyspace.clear()
    while database.tidy(1_000):
        pass
    assert len(values) == 3_001
    assert sha256(b"".join(image.pieces())).digest() == before
    while database.tidy(1_000):
        pass
    assert not values


def test_moving_a_value_copies_nothing_and_takes_its_expiry_along() -> None:
    database = begun()
    here, there = database.keyspaces[:2]
    value = filled(Set, 5)
    here.set(b"old", value)
    here.expire_at(b"old", here.time + 10)
    there.set(b"new", b"in the way")
    before = database.digest()
    image = database.image()
    here.move(b"old", b"new", there)
    assert here.find(b"old") is None
    assert there.find(b"new") is value
    assert there.expiry == {b"new": here.time + 10}
    assert sha256(b"".join(image.pieces())).digest() == before


@settings(max_examples=20)
@given(st.integers(0, 2**64 - 1), st.integers(1, 100))
def test_chance_is_the_same_for_the_same_seeds(seed: int, end: int) -> None:
    one, two = Chance(seed, 7), Chance(seed, 7)
    drawn = [one.below(end) for _ in range(50)]
    assert drawn == [two.below(end) for _ in range(50)]
    assert all(0 <= each < end for each in drawn)
    assert Chance(seed, 8).below(2**64) != Chance(seed, 7).below(2**64)


@given(st.integers(-20, 30), st.integers(1, 20))
def test_what_is_picked_is_different_unless_it_may_be_the_same(count: int, end: int) -> None:
    picks = Chance(count, end).pick(count, end)
    assert {*picks} <= {*range(end)}
    if count < 0:
        assert len(picks) == -count
    else:
        assert len({*picks}) == len(picks) == min(count, end)
