"""The commands that concern a connection or the server, not the state. Importing this fills the table.

Each is a function of the connection and the words, declared in the one table. (SUBSCRIBE and its kin are in `subscriptions`,
FAILOVER in `failover`, SENTINEL in `sentinel`.)
"""

from .. import failover, sentinel
from . import (
    client,
    cluster,
    command,
    config,
    connection,
    info,
    latency,
    memory,
    refused,
    server,
    sofa,
    transactions,
)

__all__ = [
    "client",
    "cluster",
    "command",
    "config",
    "connection",
    "failover",
    "info",
    "latency",
    "memory",
    "refused",
    "sentinel",
    "server",
    "sofa",
    "transactions",
]
