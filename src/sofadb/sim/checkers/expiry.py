"""Keys with a time to live: gone neither too early nor too late, and for everybody at once.

Each value is written once to a key. A write takes effect at some moment between its start and its end, and its time to live
counts from there, on clocks that are wrong by no more than a bound. We know neither the moment nor the clocks. So the key
certainly lives until

    start of the write + time to live - bound

which is why a read that *ended* before that must not find it gone. And it is certainly gone after

    end of the write + time to live + bound

so that a read that *started* after that must not find it. In between a read may find either. Where a write was not
acknowledged, or late, the end of a read that found its value is as good as its own end.

What a read finds comes from a *last change*: a write or a delete that had started when the read ended, and behind which no
other change certainly came (one that started after its end, and ended before the read started). If the read finds a value,
then the value's write can be the last change and still be alive, or made to live for ever by a persist. If it finds nothing,
then the last change can be a delete, or a write whose time may be over (and that no persist, known to have changed
something, certainly kept alive), or there may have been none at all.

That is judged for each read alone. Of reads together: what was there (its write had ended, or somebody had found it) before a
read that did not find it, cannot be found by a later read. That holds across nodes: all must agree on the moment. And
where nodes tell when a key expires (`expires_at_ms`), they tell the same time of the same value.

A read is *decisive* if it had to find a value with a time to live, or to find it gone. A history in which keys expire and no
read is decisive cannot be judged, nor can a key that nobody read after such a value had been acknowledged: that is no pass.
The time taken is quadratic in the operations on one key.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .verdict import Asked, Findings, Unusable, Verdict, short


@dataclass(frozen=True, slots=True, kw_only=True)
class Write(Asked):
    key: str
    value: str
    ttl_ms: int | None = None
    """None: for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Asked):
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Persist(Asked):
    """Lets a key live for ever."""

    key: str
    changed: bool = False
    """The answer, if there is one: whether there was a key with a time to live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(Asked):
    """One that is not acknowledged says nothing."""

    key: str
    node: str
    value: str | None
    """None: there is no such key."""
    expires_at_ms: int | None = None
    """When the node says that the key expires, if it was asked and the key does."""


Operation = Write | Delete | Persist | Read


def check(operations: Iterable[Operation], bound_ms: float) -> Verdict:
    """Judge the history of any number of keys, in any order. `bound_ms`: how wrong the clocks by which keys expire may be.

    Raises:
        Unusable: a value is written to a key twice.
    """
    by_key: dict[str, list[Operation]] = {}
    for each in operations:
        if each.outcome != "failed" or isinstance(each, Write):
            by_key.setdefault(each.key, []).append(each)
    findings = Findings()
    findings.count("keys", len(by_key))
    decisive = 0
    expires = False
    unread: list[str] = []
    for key, own in by_key.items():
        judged = _Key(key, own, bound_ms / 1000, findings)
        judged.judge()
        decisive += judged.decisive
        expires |= bool(judged.expiring)
        unread += [key] * judged.is_unread()
    findings.count("decisive reads", decisive)
    if unread:
        findings.doubt(
            f"Of {len(unread):,} keys, like {short(unread[0])}, no read started after a value with a time to live was "
            f"acknowledged."
        )
    if expires and not decisive:
        findings.doubt("No read of a key was at a time when it was certainly there or certainly gone.")
    return findings.verdict()


class _Key:
    def __init__(self, key: str, operations: Sequence[Operation], bound: float, findings: Findings) -> None:
        self._key = key
        self._bound = bound
        self._findings = findings
        self._writes: dict[str, Write] = {}
        for each in operations:
            if isinstance(each, Write) and self._writes.setdefault(each.value, each) is not each:
                raise Unusable(f"{each.value!r} is written to {key!r} twice")
        self._changes = [
            each for each in operations if isinstance(each, Write | Delete) and each.outcome != "failed"
        ]
        self._persists = [each for each in operations if isinstance(each, Persist)]
        self._reads = [each for each in operations if isinstance(each, Read) and each.outcome == "ok"]
        self._found_by: dict[str, float] = {}
        for each in self._reads:
            if each.value is not None:
                self._found_by[each.value] = min(each.done_by, self._found_by.get(each.value, math.inf))
        self.expiring = [
            each
            for each in self._changes
            if isinstance(each, Write) and each.outcome == "ok" and each.ttl_ms is not None
        ]
        self.decisive = 0
        """How many reads had to find a value with a time to live, or to find it gone."""

    def is_unread(self) -> bool:
        """Whether nobody read the key after a value with a time to live was acknowledged."""
        latest = max((each.start for each in self._reads), default=-math.inf)
        return any(each.done_by >= latest for each in self.expiring)

    def judge(self) -> None:
        for read in self._reads:
            if read.value is None:
                self._judge_absence(read)
            else:
                self._judge_presence(read, read.value)
        for value, write in self._writes.items():
            self._judge_flips(value, write)
            self._judge_told_times(value, write)

    # One read

    def _last_changes(self, read: Read) -> tuple[list[Write | Delete], float]:
        """The changes that may be the last one before the read took effect, and when the latest of them that certainly came
        before it started (or minus infinity)."""
        since = max(
            (each.start for each in self._changes if self._done_by(each) < read.start), default=-math.inf
        )
        return [
            each for each in self._changes if each.start <= read.done_by and self._done_by(each) >= since
        ], since

    def _judge_absence(self, read: Read) -> None:
        last, since = self._last_changes(read)
        self.decisive += bool(last) and all(
            isinstance(each, Write) and self._must_be_gone(each, read) for each in last
        )
        may_be_gone = since == -math.inf or any(
            isinstance(each, Delete) or self._may_be_gone(each, read) for each in last
        )
        if may_be_gone:
            return
        self.decisive += 1
        write = max(last, key=lambda each: each.start)
        assert isinstance(write, Write)
        life = "for ever" if write.ttl_ms is None else f"for {write.ttl_ms} ms"
        self._findings.problem(
            "gone too early",
            f"{self._told(read)} found nothing, though {self._told(write)} lets it live {life}, and nothing that came "
            f"later can have removed it.",
        )

    def _judge_presence(self, read: Read, value: str) -> None:
        write = self._writes.get(value)
        if write is None or write.outcome == "failed" or write.start > read.done_by:
            why = "nobody wrote it" if write is None else f"{self._told(write)} failed or came later"
            self._findings.problem("never written", f"{self._told(read)} found {short(value)}, but {why}.")
            return
        last, _ = self._last_changes(read)
        self.decisive += write.ttl_ms is not None and all(
            isinstance(each, Write) and not self._may_be_gone(each, read) for each in last
        )
        if write not in last:
            after = max(
                (each for each in self._changes if self._done_by(each) < read.start),
                key=lambda each: each.start,
            )
            self._findings.problem(
                "replaced value",
                f"{self._told(read)} found {short(value)} of {self._told(write)}, after {self._told(after)} had replaced it.",
            )
        elif self._must_be_gone(write, read):
            self._findings.problem(
                "visible too late",
                f"{self._told(read)} found {short(value)} of {self._told(write)}, which was to live for {write.ttl_ms} ms.",
            )

    def _may_be_gone(self, write: Write, read: Read) -> bool:
        """If this was the last change, its time may have been over when the read ended."""
        if write.ttl_ms is None or read.done_by < write.start + write.ttl_ms / 1000 - self._bound:
            return False
        return not any(
            each.changed and self._done_by(write) < each.start and each.done_by < read.start
            for each in self._persists
        )

    def _must_be_gone(self, write: Write, read: Read) -> bool:
        """Even if this was the last change, its time was over before the read started, and no persist can have kept it."""
        if write.ttl_ms is None:
            return False
        over = self._done_by(write) + write.ttl_ms / 1000 + self._bound
        return read.start > over and not any(
            (each.changed or each.outcome == "unknown") and write.start <= each.done_by and each.start <= over
            for each in self._persists
        )

    def _done_by(self, change: Write | Delete) -> float:
        """When it has certainly taken effect: it ended, or somebody found what it wrote."""
        if isinstance(change, Delete):
            return change.done_by
        return min(change.done_by, self._found_by.get(change.value, math.inf))

    # Reads together

    def _judge_flips(self, value: str, write: Write) -> None:
        """Find a read that misses the value after it was there and before it was found."""
        found = [each for each in self._reads if each.value == value]
        if not found:
            return
        there_by = self._done_by(write)
        last = max(found, key=lambda each: each.start)
        for read in self._reads:
            if read.value != value and there_by < read.start and read.done_by < last.start:
                same = read.node == last.node
                self._findings.problem(
                    "visible again" if same else "nodes disagree",
                    f"{self._told(read)} at node {short(read.node)} found {short(read.value)}, after {short(value)} of "
                    f"{self._told(write)} had been there, and {self._told(last)} at "
                    f"{'the same node' if same else f'node {short(last.node)}'} found that again.",
                )
                return

    def _judge_told_times(self, value: str, write: Write) -> None:
        told = [each for each in self._reads if each.value == value and each.expires_at_ms is not None]
        for read in told[1:]:
            if read.expires_at_ms != told[0].expires_at_ms:
                self._findings.problem(
                    "nodes disagree",
                    f"Of {short(value)} of {self._told(write)}, {self._told(told[0])} at node {short(told[0].node)} said that "
                    f"it expires at {told[0].expires_at_ms}, and {self._told(read)} at node {short(read.node)} at "
                    f"{read.expires_at_ms}.",
                )
                return

    def _told(self, operation: Operation) -> str:
        return operation.told(f"{type(operation).__name__.lower()} of {short(self._key)}")
