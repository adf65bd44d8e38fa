"""Redis's glob patterns (KEYS, SCAN MATCH, CONFIG GET), in time linear in pattern and text for each star.

`*` any run, `?` any byte, `[abc]`, `[a-z]`, `[^abc]` one of a set, a backslash takes the next byte as it is. An empty text is
matched by the empty pattern and by nothing else, stars included; so it is in Redis. A pattern becomes a
regular expression in which what stands between two stars is found at the first place where it fits, and never
looked for again: for globs that loses nothing, and it cannot be made to take for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from .replies import ReplyError

PATTERN_BYTES_MAX = 4096
"""Longer ones are refused: each is compiled, and remembered for a while."""


@lru_cache(maxsize=256)
def matcher(pattern: bytes, ignore_case: bool = False) -> Callable[[bytes], object]:
    """Return a function that says whether a text matches `pattern`. Raises `ReplyError` if it is too long."""
    if len(pattern) > PATTERN_BYTES_MAX:
        raise ReplyError(f"ERR a pattern may have {PATTERN_BYTES_MAX} bytes at most")
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    if pattern and not pattern.strip(b"*"):
        return re.compile(b".+", flags).fullmatch
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
    return re.compile(expression, flags).fullmatch


def _set(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The set that begins at `at`, and where its last byte is. Without a closing bracket it runs to the end."""
    at += 1
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members: list[bytes] = []
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            at += 1
            members.append(re.escape(pattern[at : at + 1]))
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            low, high = sorted((pattern[at : at + 1], pattern[at + 2 : at + 3]))
            members.append(re.escape(low) + b"-" + re.escape(high))
            at += 2
        else:
            members.append(re.escape(pattern[at : at + 1]))
        at += 1
    if not members:
        return (b"." if negated else b"(?!)"), at
    return (b"[^" if negated else b"[") + b"".join(members) + b"]", at
