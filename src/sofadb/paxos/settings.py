"""The numbers that a replica runs with. Safety depends on none of them but `alpha`, which all members share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Times are in milliseconds, sizes in bytes."""

    alpha: int = 64
    """How many instances beyond the last chosen one may be proposed (section 3). The same on every member."""
    heartbeat_ms: float = 50.0
    """How often a leader confirms that it is followed; less often where round trips are long."""
    election_timeout_ms: float = 300.0
    """A follower that hears no leader for this long, and up to twice this long by chance, looks for a new one ..."""
    election_timeout_ms_max: float = 3_000.0
    """... or for longer, up to this, where round trips are long (see `pace`)."""
    lease_ms: float = 0.0
    """For so long an acceptor promises nothing to others when it has confirmed a leader; 0: not at all (see `lease`)."""
    drift_max: float = 0.01
    """By so much any node's monotonic clock may run fast or slow: 0.01 is 36 seconds in an hour. Only a lease relies on it."""
    resend_ms: float = 200.0
    """What was not answered is sent again after this long, and then after longer and longer pauses ..."""
    resend_ms_max: float = 2_000.0
    """... up to this."""
    bytes_per_ms_min: int = 20_000
    """Slower than this (20 MB/s) no disk and no link is expected to be: large values are waited for accordingly."""
    patience_ms: float = 5_000.0
    """A client waits this long for an outcome before it gets an error ..."""
    patience_leaderless_ms: float = 1_000.0
    """... and only this long while nobody has led for `patience_ms`: as long as an election takes, with time to spare."""
    clock_bound_ms: int = 500
    """How far a time stamp may be from the median clock of a quorum (rule P5)."""
    in_flight_max: int = 2
    """How many batches a leader has on their way at once: few, so that batches grow with the load (rule P5)."""
    batch_bytes_max: int = 1 << 20
    """A batch closes at this size (one entry may be larger)."""
    queue_bytes_max: int = 64 << 20
    """What a leader lets wait for a batch, and what a node holds for its own clients; each."""
    message_bytes_max: int = 4 << 20
    """Where a message may be cut in parts, a part is about this large."""
    tail_bytes_max: int = 16 << 20
    """How much of what was chosen is kept in memory for teaching others."""
    reads_max: int = 100_000
    """How many reads may wait on one node."""
    submissions_max: int = 100_000
    """How many submissions may wait on one node."""

    def __post_init__(self) -> None:
        assert self.alpha >= 1
        assert 1 <= self.in_flight_max <= self.alpha
        assert 0 < self.heartbeat_ms * 2 <= self.election_timeout_ms <= self.election_timeout_ms_max
        assert 0 <= self.lease_ms <= self.election_timeout_ms
        assert 0 <= self.drift_max < 1
        assert 0 < self.patience_leaderless_ms <= self.patience_ms
