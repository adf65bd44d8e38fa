"""What pytest finds when this package is installed: the fixture `sofadb_cluster`. (`sofadb.testing` says how to use it.)"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sofadb.testing import SimulatedCluster


@pytest.fixture
def sofadb_cluster() -> Iterator[Callable[..., SimulatedCluster]]:
    """Makes simulated clusters (arguments as of `SimulatedCluster`), and puts them away after the test."""
    from sofadb.testing import SimulatedCluster

    with ExitStack() as stack:

        def make(*args: Any, **options: Any) -> SimulatedCluster:
            return stack.enter_context(SimulatedCluster(*args, **options))

        yield make
