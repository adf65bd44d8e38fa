"""A real client library, unchanged, on any node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from processes import Cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("clients"))
    cluster.start()
    cluster.leader()
    yield cluster
    cluster.stop()


def words() -> list[str]:
    """Some thousand words of many languages: those of this project's own pages and code."""
    root = Path(__file__).parents[2]
    texts = [path.read_text() for path in (*root.glob("**/*.md"), *root.glob("src/**/*.py"))]
    return sorted(
        {word for text in texts for word in text.split()} | {"naïve", "Größe", "слово", "言葉", "🛋"}
    )


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_loads_the_words_of_a_dictionary_and_reads_them_back_from_another_node(
    cluster: Cluster, protocol: int
) -> None:
    here = redis.Redis(port=cluster.ports["n1"], protocol=protocol)
    there = redis.Redis(port=cluster.ports["n2"], protocol=protocol, decode_responses=True)
    dictionary = {f"word:{protocol}:{word}": word[::-1] for word in words()}
    assert len(dictionary) > 2000
    with here.pipeline(transaction=False) as pipeline:
        for key, value in dictionary.items():
            pipeline.set(key, value)
        assert all(pipeline.execute())
    assert dict(zip(dictionary, there.mget(list(dictionary)), strict=True)) == dictionary
    assert set(there.scan_iter(match=f"word:{protocol}:*", count=500)) == set(dictionary)
    here.close()
    there.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_transactions_watches_and_errors_work_as_usual(cluster: Cluster, protocol: int) -> None:
    client = redis.Redis(port=cluster.ports["n3"], protocol=protocol, decode_responses=True, db=protocol)
    other = redis.Redis(port=cluster.ports["n1"], protocol=protocol, decode_responses=True, db=protocol)
    client.set("stock", 10, ex=1000)
    assert 0 < client.ttl("stock") <= 1000
    assert client.transaction(lambda pipe: pipe.multi() or pipe.decrby("stock", 3), "stock") == [7]
    with client.pipeline() as pipe:
        pipe.watch("stock")
        pipe.multi()
        pipe.set("stock", 0)
        other.incr("stock")
        with pytest.raises(redis.WatchError):
            pipe.execute()
    assert other.getdel("stock") == "8"
    with pytest.raises(redis.ResponseError, match="not an integer"):
        client.pipeline().set("text", "x").incr("text").execute()
    info = client.info()
    assert info["redis_version"].startswith("7.")
    assert info["role"] in ("master", "slave")
    assert client.config_get("max*")["maxclients"]
    assert client.command_count() == len(client.command())
    client.close()
    other.close()


def test_redis_py_told_not_to_retry_reports_a_lost_connection_instead_of_sending_again(
    cluster: Cluster,
) -> None:
    client = redis.Redis(port=cluster.ports["n2"], retry=None)
    assert client.incr("counted") == 1
    connection = client.connection_pool.get_connection()
    assert connection.retry.get_retries() == 0
    connection.disconnect()
    client.close()
