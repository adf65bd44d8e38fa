"""Glob patterns against a plain, slow reading of Redis's rules."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sofadb.database.patterns import PATTERN_BYTES_MAX, matcher
from sofadb.database.replies import ReplyError


def naive(pattern: bytes, text: bytes) -> bool:
    """By recursion on the pattern; takes for ever if one asks for it."""
    if not text:
        return not pattern.strip(b"*") and not pattern
    return _naive(pattern, text)


def _naive(pattern: bytes, text: bytes) -> bool:
    if not pattern:
        return not text
    if pattern[:1] == b"*":
        return any(_naive(pattern[1:], text[at:]) for at in range(len(text) + 1))
    if not text:
        return False
    matches, rest = _one(pattern, text[0])
    return matches and _naive(rest, text[1:])


def _one(pattern: bytes, byte: int) -> tuple[bool, bytes]:
    """Whether the pattern's first element takes this byte, and the pattern behind that element."""
    first, pattern = pattern[0], pattern[1:]
    if first == ord("?"):
        return True, pattern
    if first == ord("\\") and pattern:
        return pattern[0] == byte, pattern[1:]
    if first != ord("["):
        return first == byte, pattern
    negated = pattern[:1] == b"^"
    if negated:
        pattern = pattern[1:]
    matches = False
    while pattern and pattern[:1] != b"]":
        if pattern[:1] == b"\\" and len(pattern) >= 2:
            matches |= pattern[1] == byte
            pattern = pattern[2:]
        elif len(pattern) >= 3 and pattern[1:2] == b"-":
            matches |= min(pattern[0], pattern[2]) <= byte <= max(pattern[0], pattern[2])
            pattern = pattern[3:]
        else:
            matches |= pattern[0] == byte
            pattern = pattern[1:]
    return matches != negated, pattern[1:]


@given(
    st.lists(
        st.sampled_from([b"a", b"b", b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"\xff", b"\n"]), max_size=9
    ),
    st.lists(st.sampled_from([b"a", b"b", b"c", b"]", b"[", b"-", b"\\", b"\xff", b"\n", b"^"]), max_size=7),
)
@settings(max_examples=1500, deadline=None, derandomize=True, database=None)
def test_patterns_mean_what_the_rules_say(pattern: list[bytes], text: list[bytes]) -> None:
    joined = b"".join(pattern)
    assert bool(matcher(joined)(b"".join(text))) == naive(joined, b"".join(text))


def test_case_may_be_ignored() -> None:
    assert matcher(b"MAX[c]*", ignore_case=True)(b"maxClients")
    assert not matcher(b"MAX*")(b"maxclients")


def test_a_wicked_pattern_is_answered_at_once() -> None:
    """Backtracking would need more steps than there are atoms."""
    assert not matcher(b"*a" * 200 + b"*b")(b"a" * 20_000)


def test_a_pattern_that_is_too_long_is_refused() -> None:
    matcher(b"a" * PATTERN_BYTES_MAX)
    with pytest.raises(ReplyError, match="4096 bytes"):
        matcher(b"a" * (PATTERN_BYTES_MAX + 1))
