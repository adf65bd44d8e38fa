"""What an operator may set of the core's numbers. Safety depends on none of it, but for what is said at `has_leases`."""

from __future__ import annotations

from dataclasses import dataclass

from sofadb.paxos import Settings

DEFAULTS = Settings()
LEASE_SHARE = 0.9
"""A lease lasts for this part of the election timeout: it is over before anybody else would campaign."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Times are in milliseconds."""

    election_timeout_ms: float = DEFAULTS.election_timeout_ms
    """A leader silent for so long is replaced; at least."""
    election_timeout_ms_max: float = DEFAULTS.election_timeout_ms_max
    """Where round trips are long, at most so long."""
    has_leases: bool = False
    """Whether the leader reads by a lease: then reads are linearizable only while clocks drift by less than `drift_max`."""

    def settings(self) -> Settings:
        """The numbers that a replica runs with."""
        timeout_ms = self.election_timeout_ms
        return Settings(
            heartbeat_ms=timeout_ms * DEFAULTS.heartbeat_ms / DEFAULTS.election_timeout_ms,
            election_timeout_ms=timeout_ms,
            election_timeout_ms_max=self.election_timeout_ms_max,
            lease_ms=LEASE_SHARE * timeout_ms if self.has_leases else 0.0,
        )
