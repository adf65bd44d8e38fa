"""The values that hold elements: lists, sets, hashes and sorted sets. (A string is `bytes`, or for a while a `LongString`.)

Every value here knows how many bytes its elements have (`bytes`), and can say in a moment what it held at an instant: `freeze`
copies references, not elements, some 10 ms for a million. What is frozen becomes bytes piece by piece (`Frozen`).

Sets, hashes and sorted sets have their names at positions, without holes: whoever is removed gives its position to the last. So
picking one by chance costs nothing, and replicas agree on the order, since it follows from what was done. Going through
them backwards meets everything that is there all the time, whatever is added and removed meanwhile: what moves, moves to the
front of where one came by. That is what the SCAN commands do.

No value is empty: a command that removes the last element deletes the key.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from math import inf, nextafter
from operator import itemgetter
from struct import Struct
from typing import Any, ClassVar, NamedTuple, Self

from sortedcontainers import SortedList

from .arguments import is_integer

HEAD = Struct(">BQ")  # flags, elements
LENGTH = Struct(">I")
SCORE = Struct(">d")
IS_WIDE = 1
"""A flag: Redis would hold it in the way it has for many or long elements, and does not go back (OBJECT ENCODING)."""


class Frozen(NamedTuple):
    """What a value held at one instant."""

    kind: int
    flags: int
    elements: int
    size: int
    """Bytes of all rows."""
    columns: tuple[Sequence[Any], ...]
    """Of each element the first thing, of each the second. The last column of a sorted set holds scores, all others bytes."""

    def head(self) -> bytes:
        """What comes first."""
        return HEAD.pack(self.flags, self.elements)

    def pieces(self, bytes_max: int) -> Iterator[bytes]:
        """All rows, one for each element; a piece has at most `bytes_max`, or is one row."""
        length, score = LENGTH.pack, SCORE.pack
        parts: list[bytes] = []
        size = 0
        for row in zip(*self.columns, strict=True):
            row_parts = []
            for cell in row:
                if type(cell) is float:
                    row_parts.append(score(cell))
                else:
                    row_parts += (length(len(cell)), cell)
            row_size = sum(map(len, row_parts))
            if size + row_size > bytes_max and parts:
                yield b"".join(parts)
                parts, size = [], 0
            parts += row_parts
            size += row_size
        if parts:
            yield b"".join(parts)


class Value:
    """What all of them have."""

    __slots__ = ("bytes", "is_wide")

    kind: ClassVar[int]
    """Its number in images; never used for another."""
    type_name: ClassVar[bytes]
    """What TYPE says."""

    def __init__(self) -> None:
        self.bytes = 0
        """Of all elements together."""
        self.is_wide = False
        """See `IS_WIDE`."""

    def __len__(self) -> int:
        raise NotImplementedError

    def freeze(self) -> Frozen:
        """What it holds now."""
        raise NotImplementedError

    def containers(self) -> list[Any]:
        """Its lists and dicts, for the graveyard."""
        raise NotImplementedError

    @property
    def encoding(self) -> bytes:
        """What OBJECT ENCODING says: how Redis 7.0 would hold it."""
        raise NotImplementedError

    def take(self, cells: list[Any]) -> None:
        """Add an element, as its row has it, when an image is loaded. Raises ValueError."""
        raise NotImplementedError

    def copy(self) -> Self:
        """Another one that holds the same."""
        other = type(self)()
        other.bytes, other.is_wide = self.bytes, self.is_wide
        self._copy_to(other)
        return other

    def _copy_to(self, other: Self) -> None:
        """Let another one, which is empty, have our elements."""
        raise NotImplementedError

    def complete(self) -> None:
        """All elements were taken."""

    def extend(self, rows: bytes) -> None:
        """Take whole rows. Raises ValueError or `struct.error`."""
        at = 0
        cells: list[Any] = []
        columns, last_is_score = self._columns()
        while at < len(rows):
            if last_is_score and len(cells) == columns - 1:
                cells.append(SCORE.unpack_from(rows, at)[0])
                at += SCORE.size
            else:
                (length,) = LENGTH.unpack_from(rows, at)
                at += LENGTH.size
                cell = rows[at : at + length]
                if len(cell) != length:
                    raise ValueError("an element ends early")
                cells.append(cell)
                at += length
            if len(cells) == columns:
                self.take(cells)
                cells = []
        if cells:
            raise ValueError("the last element is not whole")

    def _columns(self) -> tuple[int, bool]:
        """How many cells a row has, and whether the last one is a score."""
        return 1, False

    def _frozen(self, *columns: Sequence[Any]) -> Frozen:
        cells, last_is_score = self._columns()
        lengths = LENGTH.size * (cells - last_is_score) + SCORE.size * last_is_score
        flags = IS_WIDE if self.is_wide else 0
        return Frozen(self.kind, flags, len(self), self.bytes + lengths * len(self), columns)


class LongString:
    """A long string that is being overwritten in places. In an image, and to all who ask, it is bytes like any other."""

    __slots__ = ("data",)
    type_name = b"string"
    encoding = b"raw"

    def __init__(self, data: bytearray) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def freeze(self) -> bytes:
        """What it holds now."""
        return bytes(self.data)


class List(Value):
    """A list. Whoever changes `items` keeps `bytes` right."""

    __slots__ = ("items",)
    kind = 1
    type_name = b"list"

    def __init__(self) -> None:
        super().__init__()
        self.items: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self.items)

    def freeze(self) -> Frozen:
        return self._frozen(list(self.items))

    def _copy_to(self, other: Self) -> None:
        other.items = self.items.copy()

    def containers(self) -> list[Any]:
        return [self.items]

    @property
    def encoding(self) -> bytes:
        return b"quicklist"

    def take(self, cells: list[Any]) -> None:
        self.items.append(cells[0])
        self.bytes += len(cells[0])


class Named(Value):
    """Names, each once, at positions."""

    __slots__ = ("names", "positions")

    def __init__(self) -> None:
        super().__init__()
        self.names: list[bytes] = []
        self.positions: dict[bytes, int] = {}
        """Where in `names` each of them is."""

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: bytes) -> bool:
        return name in self.positions

    def _copy_to(self, other: Self) -> None:
        other.names, other.positions = self.names.copy(), self.positions.copy()

    def scan(self, cursor: int, count: int) -> tuple[int, range]:
        """Some `count` positions, and where to go on (0: the end). 0 begins."""
        end = min(cursor, len(self.names)) if cursor else len(self.names)
        begin = max(end - count, 0)
        return begin, range(end - 1, begin - 1, -1)

    def _append(self, name: bytes) -> None:
        if name in self.positions:
            raise ValueError("a name comes twice")
        self.positions[name] = len(self.names)
        self.names.append(name)
        self.bytes += len(name)

    def _vacate(self, name: bytes, *columns: list[Any]) -> None:
        """Take `name`, which is there, out, and what lies at its position in `columns`."""
        position = self.positions.pop(name)
        for column in (self.names, *columns):
            last = column.pop()
            if position < len(column):
                column[position] = last
        if position < len(self.names):
            self.positions[self.names[position]] = position
        self.bytes -= len(name)


SET_NUMBERS_MAX = 512
HASH_NARROW_MAX = 512
SORTED_NARROW_MAX = 128
NARROW_BYTES_MAX = 64
"""Redis's limits, as it has them by default, of what it holds compactly."""


class Set(Named):
    """A set."""

    __slots__ = ()
    kind = 2
    type_name = b"set"

    @classmethod
    def of(cls, names: list[bytes]) -> Set:
        """A set of these names, which are all different."""
        value = cls()
        value.names = names
        value.positions = dict(zip(names, range(len(names)), strict=True))
        value.bytes = sum(map(len, names))
        value.is_wide = len(names) > SET_NUMBERS_MAX or not all(map(is_integer, names))
        return value

    def add(self, name: bytes) -> bool:
        """Whether it was not there."""
        if name in self.positions:
            return False
        self._append(name)
        if not self.is_wide and (len(self.names) > SET_NUMBERS_MAX or not is_integer(name)):
            self.is_wide = True
        return True

    def remove(self, name: bytes) -> bool:
        """Whether it was there."""
        if name not in self.positions:
            return False
        self._vacate(name)
        return True

    def freeze(self) -> Frozen:
        return self._frozen(self.names.copy())

    def containers(self) -> list[Any]:
        return [self.names, self.positions]

    @property
    def encoding(self) -> bytes:
        return b"hashtable" if self.is_wide else b"intset"

    def take(self, cells: list[Any]) -> None:
        self._append(cells[0])


class Hash(Named):
    """A hash: names with values."""

    __slots__ = ("values",)
    kind = 3
    type_name = b"hash"

    def __init__(self) -> None:
        super().__init__()
        self.values: list[bytes] = []
        """At the positions of their names."""

    def get(self, name: bytes) -> bytes | None:
        """The value of a name."""
        position = self.positions.get(name)
        return None if position is None else self.values[position]

    def put(self, name: bytes, value: bytes) -> bool:
        """Give a name its value; whether the name was not there."""
        position = self.positions.get(name)
        if position is None:
            self._append(name)
            self.values.append(value)
        else:
            self.bytes -= len(self.values[position])
            self.values[position] = value
        self.bytes += len(value)
        if not self.is_wide and (
            len(self.names) > HASH_NARROW_MAX or len(name) > NARROW_BYTES_MAX or len(value) > NARROW_BYTES_MAX
        ):
            self.is_wide = True
        return position is None

    def remove(self, name: bytes) -> bool:
        """Whether it was there."""
        position = self.positions.get(name)
        if position is None:
            return False
        self.bytes -= len(self.values[position])
        self._vacate(name, self.values)
        return True

    def freeze(self) -> Frozen:
        return self._frozen(self.names.copy(), self.values.copy())

    def _copy_to(self, other: Self) -> None:
        super()._copy_to(other)
        other.values = self.values.copy()

    def containers(self) -> list[Any]:
        return [self.names, self.positions, self.values]

    @property
    def encoding(self) -> bytes:
        return b"hashtable" if self.is_wide else b"listpack"

    def take(self, cells: list[Any]) -> None:
        self._append(cells[0])
        self.values.append(cells[1])
        self.bytes += len(cells[1])

    def _columns(self) -> tuple[int, bool]:
        return 2, False


class SortedSet(Named):
    """A sorted set: names with scores, and all of them in the order of (score, name).

    One that is not wide holds no negative zero, since Redis's compact form has none.
    """

    __slots__ = ("order", "scores")
    kind = 4
    type_name = b"zset"

    def __init__(self) -> None:
        super().__init__()
        self.scores: list[float] = []
        """At the positions of their names."""
        self.order: SortedList[tuple[float, bytes]] = SortedList()

    @classmethod
    def of(cls, scores: Mapping[bytes, float]) -> Self:
        """One that holds these names, one at least, with these scores."""
        value = cls()
        value.is_wide = len(scores) > SORTED_NARROW_MAX or max(map(len, scores)) > NARROW_BYTES_MAX
        value.names = list(scores)
        value.positions = dict(zip(value.names, range(len(scores)), strict=True))
        value.scores = [score if value.is_wide else score + 0.0 for score in scores.values()]
        value.bytes = sum(map(len, scores))
        value.complete()
        return value

    def score(self, name: bytes) -> float | None:
        """The score of a name."""
        position = self.positions.get(name)
        return None if position is None else self.scores[position]

    def put(self, name: bytes, score: float) -> bool:
        """Give a name its score, which is a number; whether the name was not there."""
        position = self.positions.get(name)
        if not self.is_wide:
            is_full = position is None and len(self.names) == SORTED_NARROW_MAX
            self.is_wide = is_full or len(name) > NARROW_BYTES_MAX
        if not self.is_wide:
            score += 0.0
        if position is None:
            self._append(name)
            self.scores.append(score)
        else:
            self.order.remove((self.scores[position], name))
            self.scores[position] = score
        self.order.add((score, name))
        return position is None

    def remove(self, name: bytes) -> bool:
        """Whether it was there."""
        position = self.positions.get(name)
        if position is None:
            return False
        self.order.remove((self.scores[position], name))
        self._vacate(name, self.scores)
        return True

    def rank(self, name: bytes) -> int | None:
        """How many elements come before a name."""
        position = self.positions.get(name)
        return None if position is None else self.order.bisect_left((self.scores[position], name))

    def rank_at(self, score: float, is_after: bool) -> int:
        """How many elements come before all that have a score, or, with `is_after`, with them."""
        if not is_after:
            return self.order.bisect_left((score, b""))
        return len(self) if score == inf else self.order.bisect_left((nextafter(score, inf), b""))

    def rank_at_name(self, name: bytes, is_after: bool) -> int:
        """How many elements come before a name, or, with `is_after`, with it. It says something where scores and names rise
        together, as they do where all scores are the same.
        """
        order = self.order
        if order[0][0] == order[-1][0]:
            place = (order[0][0], name)
            return order.bisect_right(place) if is_after else order.bisect_left(place)
        find = bisect_right if is_after else bisect_left
        return find(order, name, key=itemgetter(1))

    def cut(self, begin: int, end: int) -> None:
        """Take out the elements of ranks from `begin` to before `end`."""
        for _, name in self.order[begin:end]:
            self._vacate(name, self.scores)
        del self.order[begin:end]

    def without(self, begin: int, end: int) -> SortedSet:
        """Another one, that lacks the elements of ranks from `begin` to before `end`: made of the rest.

        The others go forwards to where those were, so whoever is going through them backwards misses none.
        """
        other = SortedSet()
        other.is_wide = self.is_wide
        kept = self.order[:begin] + self.order[end:]
        for position in sorted(self.positions[name] for _, name in kept):
            other.take([self.names[position], self.scores[position]])
        other.complete()
        return other

    def freeze(self) -> Frozen:
        return self._frozen(self.names.copy(), self.scores.copy())

    def _copy_to(self, other: Self) -> None:
        super()._copy_to(other)
        other.scores, other.order = self.scores.copy(), self.order.copy()

    def containers(self) -> list[Any]:
        return [self.names, self.positions, self.scores, self.order]

    @property
    def encoding(self) -> bytes:
        return b"skiplist" if self.is_wide else b"listpack"

    def take(self, cells: list[Any]) -> None:
        if cells[1] != cells[1]:
            raise ValueError("a score is no number")
        self._append(cells[0])
        self.scores.append(cells[1])

    def complete(self) -> None:
        self.order = SortedList(zip(self.scores, self.names, strict=True))

    def _columns(self) -> tuple[int, bool]:
        return 2, True


VALUES: dict[int, type[Value]] = {each.kind: each for each in (List, Set, Hash, SortedSet)}
"""By kind. Whoever adds a type takes a number that was never used; 0 is a string, and 5 is kept for streams."""
