"""Fixtures that several rooms use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from processes import Cluster, Redis


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A real Redis, empty at first."""
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one node, for what does not depend on how many there are."""
    cluster = Cluster(tmp_path_factory.mktemp("single"), 1)
    cluster.start()
    cluster.leader()
    yield cluster
    cluster.stop()


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """A test that fails leaves no process behind."""
    before = set(Cluster.all)
    yield
    for cluster in Cluster.all - before:
        cluster.clear_away()
        Cluster.all.discard(cluster)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes, running."""
    cluster = Cluster(tmp_path, 3)
    cluster.start()
    cluster.leader()
    yield cluster
    cluster.stop()
