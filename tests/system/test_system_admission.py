"""Passwords of real nodes: a client library and the commands of a person get in with one; without, only from this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from namespaces import Network, SpreadCluster

from processes import Client, Cluster


def sofadb(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("SOFADB_PASSWORD")}
    return subprocess.run(
        [sys.executable, "-m", "sofadb", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**own, **environment},
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("geheim: ☂\nold\n")
    return path


@pytest.fixture
def guarded(tmp_path: Path, file: Path) -> Iterator[Cluster]:
    """One node that asks for a password, ready."""
    cluster = Cluster(tmp_path, 1)
    cluster.options = ("--password-file", str(file), "--notify-keyspace-events", "El")
    cluster.start()
    with redis.Redis(port=cluster.ports["n1"], password="old") as client:
        cluster.client("n1").close()
        client.set("a", 1)
    yield cluster
    cluster.stop()


def test_a_client_library_and_the_commands_of_a_person_get_in(
    guarded: Cluster, file: Path, tmp_path: Path
) -> None:
    port = guarded.ports["n1"]
    for password in ("geheim: ☂", "old"):
        for protocol in (2, 3):
            with redis.Redis(port=port, password=password, protocol=protocol) as client:
                assert client.get("a") == b"1"
                assert client.config_get("notify*") == {"notify-keyspace-events": "lE"}
    with redis.Redis(port=port) as client, pytest.raises(redis.AuthenticationError):
        client.get("a")
    for words in (
        ("status",),
        ("member", "list"),
        ("plan", "add", "n2=127.0.0.1:1"),
        ("backup", str(tmp_path / "b")),
    ):
        command = (*words, "--port", str(port))
        for environment in ({"SOFADB_PASSWORD": "old"}, {"SOFADB_PASSWORD_FILE": str(file)}):
            (tmp_path / "b").unlink(missing_ok=True)
            result = sofadb(*command, **environment)
            assert result.returncode == 0, result.stderr
        (tmp_path / "b").unlink(missing_ok=True)
        refused = sofadb(*command)
        assert refused.returncode != 0
        assert "NOAUTH" in refused.stderr
        assert "SOFADB_PASSWORD_FILE" in refused.stderr
        assert "WRONGPASS" in sofadb(*command, SOFADB_PASSWORD="wrong").stderr
    password_file = sofadb("status", "--port", str(port), SOFADB_PASSWORD_FILE=str(tmp_path / "nosuch"))
    assert "nosuch cannot be read" in password_file.stderr


def test_a_password_that_one_has_and_the_node_does_not_ask_for_is_no_harm(single: Cluster) -> None:
    assert sofadb("status", "--port", str(single.ports["n1"]), SOFADB_PASSWORD="x").returncode == 0


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot be read"), ("\n\n", "holds no password"), ("x" * 513, "512 bytes")],
)
def test_a_file_that_gives_no_password_is_a_bad_flag(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
    result = sofadb("serve", "--id", "n1", "--dir", str(tmp_path / "n1"), "--password-file", str(path))
    assert result.returncode == 2
    assert problem in result.stderr.splitlines()[-1]
    assert not (tmp_path / "n1").exists()


def test_letters_that_mean_no_events_are_a_bad_flag(tmp_path: Path) -> None:
    result = sofadb("serve", "--id", "n1", "--dir", str(tmp_path), "--notify-keyspace-events", "Kq")
    assert result.returncode == 2
    assert "'q' is no class of events" in result.stderr


class Reachable(SpreadCluster):
    """A node that listens for clients on all addresses."""

    def command(self, name: str) -> list[str]:
        command = super().command(name)
        command[command.index("--listen") + 1] = f"0.0.0.0:{self.ports[name]}"
        return command


@pytest.mark.parametrize("options", [(), ("--protected-mode", "no"), ("--password-file", "{file}")])
def test_clients_on_other_machines_need_a_password_unless_the_operator_lets_them_in(
    tmp_path: Path, file: Path, options: tuple[str, ...]
) -> None:
    network = Network(["n1", "elsewhere"])
    cluster = Reachable(tmp_path, network, 1)
    cluster.options = tuple(option.format(file=file) for option in options)
    try:
        network.build()
        cluster.start()
        with network.on("n1"):
            near = cluster.client("n1")
        with network.on("elsewhere"):
            far = Client(cluster.ports["n1"], host=network.addresses["n1"])
        if "--password-file" in options:
            assert (near("AUTH", "old"), far("AUTH", "old")) == (b"OK", b"OK")
        assert near("PING") == b"PONG"
        if options:
            assert far("PING") == b"PONG"
        else:
            assert str(far.receive()).startswith("DENIED This node has no password")
            with pytest.raises(ConnectionError):
                far.receive()
        cluster.stop()
    finally:
        network.remove()
