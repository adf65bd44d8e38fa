"""Redis's glob patterns (KEYS, SCAN MATCH, CONFIG GET), in time linear in pattern and text for each star.

`*` any run, `?` any byte, `[abc]`, `[a-z]`, `[^abc]` one of a set, a backslash takes the next byte as it is. A pattern becomes a
regular expression in which what stands between two stars is found at the first place where it fits, and never
looked for again: for globs that loses nothing, and it cannot be made to take for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache


@lru_cache(maxsize=256)
def matcher(pattern: bytes, ignore_case: bool = False) -> Callable[[bytes], object]:
    """Return a function that says whether a text matches `pattern`."""
    parts: list[list[bytes]] = [[]]
    at = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        if byte == b"*":
            if parts[-1] or len(parts) == 1:
                parts.append([])
        elif byte == b"?":
            parts[-1].append(b".")
        elif byte == b"[":
            piece, at = _set(pattern, at)
            parts[-1].append(piece)
        else:
            if byte == b"\\" and at + 1 < len(pattern):
                at += 1
                byte = pattern[at : at + 1]
            parts[-1].append(re.escape(byte))
        at += 1
    first, *middle = (b"".join(part) for part in parts)
    expression = first
    if middle:
        expression += b"".join(b"(?>.*?" + part + b")" for part in middle[:-1])
        expression += b".*" + middle[-1]
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return re.compile(expression, flags).fullmatch


def _set(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The set that begins at `at`, and where its last byte is. Without a closing bracket it runs to the end."""
    at += 1
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members: set[int] = set()
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            at += 1
            members.add(pattern[at])
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            low, high = sorted((pattern[at], pattern[at + 2]))
            members.update(range(low, high + 1))
            at += 2
        else:
            members.add(pattern[at])
        at += 1
    if not members:
        return (b"." if negated else b"(?!)"), at
    listed = b"".join(re.escape(bytes([member])) for member in sorted(members))
    return (b"[^" if negated else b"[") + listed + b"]", at
