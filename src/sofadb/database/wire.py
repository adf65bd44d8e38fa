"""Requests as clients write them, taken apart many at once.

This is for whole requests whose words are short and hold no line ends, as most do: then one `split` finds all that there is,
and comparing lengths proves it. It is as safe as walking over the bytes: nothing is reserved for what somebody claims, and
what is not written as it should be is found, since it is not equal to that. Everything else is `None`, and for others.

Requests of one length are taken apart into columns: all first words, all second words, and so on. What is done for a whole
column costs each request little.

A single request mostly begins as one did that was seen before: then only what is behind its name is taken apart. And mostly it is
as long as one was that had words of the same lengths: then it is enough to look at what stands between them (`Shape`), and it is
taken apart later, together with others.
"""

from __future__ import annotations

from struct import Struct

LINE_END = b"\r\n"
WORD_BYTES_MAX = 16 << 10
"""A word that is as long as this is not short."""
WORDS_MAX = 63
FIELDS_TOGETHER = 80
"""Requests of one shape that have so many fields together are cut up in one step."""

_HEADS = [b"$%d" % length for length in range(WORD_BYTES_MAX)]
_LENGTHS = {head: length for length, head in enumerate(_HEADS)}
_COUNTS = {b"*%d" % count: count for count in range(1, WORDS_MAX + 1)}
head_of = _HEADS.__getitem__
"""What stands in front of a word of so many bytes, without a line end."""

Columns = list[list[bytes]]


def lines_of(data: bytes) -> list[bytes] | None:
    """Its lines; None if it does not begin as a request does, or ends in the middle of a line."""
    lines = data.split(b"\r\n")
    if lines.pop() or not lines or lines[0] not in _COUNTS:
        return None
    return lines


def columns_of(lines: list[bytes]) -> Columns | None:
    """The words of requests that all have as many; None if they do not, or are not what this is for."""
    stride = 2 * _COUNTS[lines[0]] + 1
    if len(lines) % stride or lines[::stride].count(lines[0]) * stride != len(lines):
        return None
    columns = [lines[at::stride] for at in range(2, stride, 2)]
    try:
        for at, column in enumerate(columns):
            if lines[2 * at + 1 :: stride] != list(map(head_of, map(len, column))):
                return None
    except IndexError:
        return None
    return columns


def request_of(lines: list[bytes]) -> list[bytes] | None:
    """The words of a single request; None if it is more or less than that, or not what this is for."""
    words = lines[2::2]
    if len(words) != _COUNTS[lines[0]]:
        return None
    try:
        return words if lines[1::2] == list(map(head_of, map(len, words))) else None
    except IndexError:
        return None


def requests_of(lines: list[bytes]) -> list[list[bytes]] | None:
    """The words of each request; None if they are not what this is for."""
    requests, at = [], 0
    while at < len(lines):
        end = at + 1 + 2 * _COUNTS.get(lines[at], 0)
        words = request_of(lines[at:end]) if end > at + 1 else None
        if words is None:
            return None
        requests.append(words)
        at = end
    return requests


def beginning(words: list[bytes]) -> bytes:
    """What a request with these words begins with: how many there are, and the first of them."""
    return b"*%d\r\n$%d\r\n%b\r\n" % (len(words), len(words[0]), words[0])


def request_behind(data: bytes, name: bytes, at: int, count: int) -> list[bytes] | None:
    """`name`, and `count` more words from a place to the end; None if that is not just what stands there, all short."""
    found = words_behind(data, at, count)
    return [name, *found[0]] if found is not None and found[1] == len(data) else None


def words_behind(data: bytes, at: int, count: int) -> tuple[list[bytes], int] | None:
    """So many words from a place on, and where they end; None if they do not stand there, all short."""
    words = []
    for _ in range(count):
        end = data.find(b"\r\n", at)
        length = _LENGTHS.get(data[at:end])
        if length is None or end < 0:
            return None
        begin = end + 2
        at = begin + length
        words.append(data[begin:at])
        if data[at : at + 2] != b"\r\n":
            return None
        at += 2
    return words, at


class Shape:
    """What requests have in common that ask for the same with words of the same lengths: all but those words.

    Where the rest stands as it should, the words are what is between, whatever bytes they have.
    """

    __slots__ = ("_columns", "_parts", "_records", "between", "cuts", "name", "size")

    def __init__(self, words: list[bytes]) -> None:
        """That of a request with these words."""
        self.name = words[0]
        part, at = beginning(words), 0
        between, cuts = [], []
        for word in words[1:]:
            part += b"$%d\r\n" % len(word)
            between.append((at, part))
            at += len(part)
            cuts.append(slice(at, at + len(word)))
            at += len(word)
            part = b"\r\n"
        between.append((at, part))
        self.between = tuple(between)
        """What stands around the words behind the name, and where."""
        self.cuts = tuple(cuts)
        """Where those words are."""
        self.size = at + len(part)
        stride = len(between) + len(cuts)
        self._parts = [(slice(2 * at, None, stride), part) for at, (_, part) in enumerate(between)]
        """Where, in requests one behind the other that are cut up, what is around words is, and what that is."""
        self._columns = [slice(at, None, stride) for at in range(1, stride, 2)]
        """And where the words are."""
        self._records: tuple[Struct, Struct] | None = None
        """One request, and some together, to be cut up."""

    def fits(self, data: bytes) -> bool:
        """Whether `data`, which is at least as long, begins with such a request. (A loop takes half as long as `all`.)"""
        for at, part in self.between:  # noqa: SIM110
            if not data.startswith(part, at):
                return False
        return True

    def words(self, data: bytes) -> list[bytes]:
        """Those of such a request."""
        return [self.name, *(data[cut] for cut in self.cuts)]

    def columns(self, data: bytes) -> Columns | None:
        """The words of such requests, one behind the other; None if that is not just what stands there."""
        count, rest = divmod(len(data), self.size)
        if rest:
            return None
        fields = self._cut_up(data)
        for cut, part in self._parts:
            if fields[cut].count(part) != count:
                return None
        return [[self.name] * count, *[fields[cut] for cut in self._columns]]

    def _cut_up(self, data: bytes) -> list[bytes]:
        """What is around words, and words, in turns, of whatever is as long as some such requests."""
        one, some = self._records or self._make_records()
        fields: list[bytes] = []
        rest: bytes | memoryview = data
        if len(data) >= some.size:
            view, border = memoryview(data), len(data) - len(data) % some.size
            for record in some.iter_unpack(view[:border]):
                fields += record
            rest = view[border:]
        for record in one.iter_unpack(rest):
            fields += record
        return fields

    def _make_records(self) -> tuple[Struct, Struct]:
        fields = [b"%ds" % len(part) for _, part in self.between]
        for at, cut in enumerate(self.cuts):
            fields.insert(2 * at + 1, b"%ds" % (cut.stop - cut.start))
        one = b"".join(fields)
        self._records = Struct(one), Struct(one * max(1, FIELDS_TOGETHER // len(fields)))
        return self._records
