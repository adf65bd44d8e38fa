"""The longest common subsequence of two strings, a row at a time with all its columns at once.

Let L(i, j) be the length for the first i bytes of one and the first j of the other. In a row, L grows by 0 or 1 from each j to
the next; so a row is a number, whose bit j - 1 says whether it grows there. Each row follows from the one before by an
addition and a few operations on bits, whatever its length (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004).

Of all the longest subsequences, the one is found that Redis finds: from the end back, equal bytes are taken; else i goes back if
L(i - 1, j) > L(i, j - 1), and j if not. The former is so where the row grows: with x = L(i - 1, j - 1), all of L(i - 1, j),
L(i, j - 1) and L(i, j) are x or x + 1, and the last is the larger of the other two.
"""

from __future__ import annotations

Match = tuple[int, int, int]
"""Where it begins in the one and in the other, and how many bytes it has."""


class CommonSubsequence:
    """Of two strings. Time and memory go with the product of their lengths."""

    __slots__ = ("_columns", "_one", "_other_length", "_rows", "length")

    def __init__(self, one: bytes, other: bytes) -> None:
        self._one, self._other_length = one, len(other)
        self._columns = _columns_of(one, other)
        """For each byte of the one, where it is in the other, as bits."""
        all_ = (1 << len(other)) - 1
        stays = all_  # Where the row does not grow.
        self._rows = [0]
        for byte in one:
            hits = stays & self._columns[byte]
            stays = ((stays + hits) | (stays - hits)) & all_
            self._rows.append(stays ^ all_)
        self.length = self._rows[-1].bit_count()

    def matches(self) -> list[Match]:
        """The runs of bytes that make it up, the last one first."""
        found: list[Match] = []
        one, rows, columns = self._one, self._rows, self._columns
        i, j = len(one), self._other_length
        length = 0
        while i and j:
            here = 1 << (j - 1)
            if columns[one[i - 1]] & here:
                i, j, length = i - 1, j - 1, length + 1
                continue
            if length:
                found.append((i, j, length))
                length = 0
            if rows[i] & here:
                i -= 1
            else:
                # To the next column where one of the two things above happens.
                j = ((rows[i] | columns[one[i - 1]]) & (here - 1)).bit_length()
        if length:
            found.append((i, j, length))
        return found


def _columns_of(one: bytes, other: bytes) -> dict[int, int]:
    places: dict[int, bytearray] = {byte: bytearray(len(other) // 8 + 1) for byte in set(one)}
    for at, byte in enumerate(other):
        if byte in places:
            places[byte][at >> 3] |= 1 << (at & 7)
    return {byte: int.from_bytes(bits, "little") for byte, bits in places.items()}
