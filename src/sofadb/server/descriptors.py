"""How many clients the operating system lets a node have.

The limit on clients is kept well below the number of file descriptors, so that the journal and the peers always have some.
"""

from __future__ import annotations

import resource

BACKLOG = 511
"""How many connections may wait to be accepted."""
RESERVED = 256
"""Kept free of clients: for the journal, the peers, and what else the process opens."""


def make_room(clients: int) -> int:
    """Have as many descriptors as so many clients need, if we may; returns how many clients there can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = clients + RESERVED
    if soft < wanted:
        soft = min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(16, min(clients, soft - RESERVED))
