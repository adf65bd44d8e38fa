"""Fixtures for the tests of the database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from real_redis import RealRedis

from processes import Redis
from sofadb.database.commands.strings import STRING_BYTES_MAX


@pytest.fixture(scope="module")
def real(redis: Redis) -> Iterator[RealRedis]:
    """A connection to a real Redis with the same limits."""
    redis.client().close()
    connection = RealRedis(redis.port)
    connection([[b"CONFIG", b"SET", b"proto-max-bulk-len", b"%d" % STRING_BYTES_MAX]])
    yield connection
    connection([[b"CONFIG", b"SET", b"proto-max-bulk-len", b"512mb"], [b"FLUSHALL"]])
    connection.close()


@pytest.fixture(scope="module")
def listener(redis: Redis, real: RealRedis) -> Iterator[RealRedis]:
    """A connection to the same Redis on which nobody asks anything but to be told of events."""
    connection = RealRedis(redis.port)
    yield connection
    connection.close()
