"""One process and its surroundings: a disk that fails, ports that are taken, signals, strangers, floods."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest

from processes import Client, Cluster, free_ports, tracer_of, wait_until

STRACE = shutil.which("strace")


def serve(cluster: Cluster, *extra: str) -> subprocess.CompletedProcess[str]:
    """Run a node that is expected to refuse."""
    return subprocess.run(
        [*cluster.command("n1"), *extra], capture_output=True, text=True, timeout=30, check=False
    )


def sofadb(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sofadb", *words], capture_output=True, text=True, timeout=30, check=False
    )


def assert_one_line(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """What is wrong is said in the last line, without a traceback, and the exit code is not 0."""
    assert result.returncode not in (0, -signal.SIGSEGV, -signal.SIGABRT)
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    for part in parts:
        assert part in last, result.stderr


STOPS_WHEN_IMPORTED = """
import os, signal
from sofadb.cli import main, serve
os.kill(os.getpid(), signal.SIGSTOP)
main.main()
"""


@contextlib.contextmanager
def traced(cluster: Cluster, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the node under strace, and wait until that has ended with it.

    It is traced from before it looks at its directory, but not while it imports: that takes seconds under strace.
    """
    assert STRACE, "strace is not installed (Debian: apt-get install strace); this test cannot do without"
    _, _, _, *words = cluster.command("n1")
    with (cluster.directory / "n1.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", STOPS_WHEN_IMPORTED, *words], stdout=log, stderr=log
        )
    cluster.processes["n1"] = process
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    tracer = subprocess.Popen([STRACE, "-f", "-qq", "-p", str(process.pid), *options])
    try:
        wait_until(lambda: tracer_of(process.pid) == tracer.pid, "it is traced")
        process.send_signal(signal.SIGCONT)
        yield process
    except BaseException:
        process.kill()
        raise
    finally:
        tracer.wait(20)


def with_faults(cluster: Cluster, inject: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Start the node; this is injected into its system calls."""
    calls = inject.split(":")[0]
    return traced(cluster, "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={inject}")


SCRIPT = 4


def write_until_it_dies(cluster: Cluster, count: int = 40) -> list[int]:
    """Set keys as long as there is an answer; the numbers that were acknowledged."""
    acknowledged: list[int] = []
    try:
        client = cluster.client("n1")
        for number in range(1, count + 1):
            reply = client("SET", f"key:{number}", number)
            if isinstance(reply, hiredis.ReplyError):
                break
            acknowledged.append(number)
    except (OSError, AssertionError):
        pass
    return acknowledged


def assert_all_there(cluster: Cluster, acknowledged: list[int]) -> None:
    cluster.start()
    cluster.leader()
    client = cluster.client("n1")
    for number in acknowledged:
        assert client("GET", f"key:{number}") == b"%d" % number
    cluster.stop()


@pytest.mark.parametrize("call", ["pwritev2", "fdatasync", "fsync", "rename", "write"])
def test_killed_at_its_nth_write_for_every_n_loses_nothing_acknowledged(tmp_path: Path, call: str) -> None:
    """SIGKILL at the n-th call of each kind in any thread, from the first one on until a run gets through to its end."""
    killed = 0
    while True:
        cluster = Cluster(tmp_path / str(killed), 1)
        cluster.directory.mkdir()
        with with_faults(cluster, f"{call}:signal=KILL:when={killed + 1}") as process:
            acknowledged = [] if _dies_early(cluster) else write_until_it_dies(cluster, SCRIPT)
            process.terminate()
            process.wait(20)
        cluster.processes.clear()
        assert_all_there(cluster, acknowledged)
        shutil.rmtree(cluster.directory)
        if process.returncode == 0:
            break
        killed += 1
    assert len(acknowledged) == SCRIPT
    assert killed >= {"rename": 1, "fsync": 3}.get(call, SCRIPT)


def _dies_early(cluster: Cluster) -> bool:
    """Whether the node dies before it listens."""

    def known() -> str:
        if cluster.processes["n1"].poll() is not None:
            return "dead"
        try:
            Client(cluster.ports["n1"]).close()
        except OSError:
            return ""
        return "alive"

    return wait_until(known, "it listens or is dead") == "dead"


@pytest.mark.parametrize(
    ("inject", "words"),
    [
        ("fdatasync:error=EIO:when=8", "no longer be trusted"),
        ("fdatasync:error=EIO:when=12", "no longer be trusted"),
        ("pwritev2:error=ENOSPC:when=24", "No space left"),
        ("pwritev2:error=EROFS:when=25", "Read-only"),
        ("pwritev2:retval=10:when=26", "a short write"),
    ],
)
def test_failed_write_or_sync_stops_the_node_with_words_and_nothing_acknowledged_is_lost(
    tmp_path: Path, inject: str, words: str
) -> None:
    cluster = Cluster(tmp_path, 1)
    with with_faults(cluster, inject) as process:
        acknowledged = write_until_it_dies(cluster)
        assert process.wait(30) == 74
    cluster.processes.clear()
    assert words in cluster.log("n1").splitlines()[-1]
    assert "Traceback" not in cluster.log("n1")
    assert_all_there(cluster, acknowledged)


def test_single_replica_waits_for_its_own_sync(tmp_path: Path) -> None:
    """Every sync takes 100 ms: a reply that did not wait for one would come sooner than the sync after it began."""
    cluster = Cluster(tmp_path, 1)
    trace = tmp_path / "trace"
    calls = "trace=fdatasync,sendto,write,writev,pwritev2"
    with traced(cluster, "-s", "500", "-o", str(trace), "-e", calls):
        cluster.leader()
        client = cluster.client("n1")
        assert client("SET", "marker", "written-before-it-is-acknowledged") == b"OK"
        client.close()
        cluster.stop()
    lines = trace.read_text().splitlines()
    written = next(i for i, line in enumerate(lines) if "pwritev" in line and "written-before" in line)
    replied = next(i for i, line in enumerate(lines) if i > written and '"+OK\\r\\n"' in line)
    synced = [
        i for i, line in enumerate(lines) if "fdatasync" in line and ("= 0" in line or "resumed" in line)
    ]
    assert any(written < i < replied for i in synced), lines[written : replied + 1]


def test_killed_during_start_10_times_in_a_row(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1)
    cluster.start()
    cluster.leader()
    assert cluster.client("n1")("SET", "a", "1") == b"OK"
    cluster.kill("n1")
    for call, times in (("pwritev2", 4), ("fdatasync", 2), ("fsync", 3), ("rename", 1)):
        for number in range(1, times + 1):
            with with_faults(cluster, f"{call}:signal=KILL:when={number}") as process:
                assert process.wait(20) == -signal.SIGKILL, "it gets no further"
    cluster.processes.clear()
    cluster.start()
    cluster.leader()
    assert cluster.client("n1")("GET", "a") == b"1"
    cluster.stop()


def test_a_bad_flag_a_taken_port_and_a_wrong_directory_are_one_clear_line(tmp_path: Path) -> None:
    assert_one_line(sofadb("serve", "--nonsense"), "--nonsense")
    assert_one_line(sofadb("nonsense"), "nonsense")
    assert_one_line(
        sofadb("serve", "--id", "n1", "--dir", str(tmp_path / "x"), "--cluster", "n1"), "ID=HOST:PORT"
    )
    assert_one_line(sofadb("serve", "--id", "n 1", "--dir", str(tmp_path / "x")), "no node id")
    assert_one_line(
        sofadb("serve", "--id", "n1", "--dir", str(tmp_path / "x"), "--listen", "nowhere"),
        "HOST:PORT",
        "nowhere",
    )
    assert_one_line(sofadb("status", "--port", str(free_ports(1)[0])), "no node answers")

    cluster = Cluster(tmp_path / "c", 1)
    cluster.directory.mkdir()
    assert_one_line(
        serve(Cluster(tmp_path / "new", 1), "--cluster", "n2=127.0.0.1:7"), "n1 is not among the members"
    )
    cluster.start()
    cluster.leader()
    second = Cluster(tmp_path / "d", 1)
    second.ports["n1"] = cluster.ports["n1"]
    assert_one_line(serve(second), "cannot listen for clients", str(cluster.ports["n1"]))
    second.ports, second.peer_ports = {"n1": free_ports(1)[0]}, cluster.peer_ports
    assert_one_line(serve(second), "cannot listen for peers", str(cluster.peer_ports["n1"]))
    second.directory = cluster.directory
    assert_one_line(serve(second), "in use by another process", str(cluster.processes["n1"].pid))
    cluster.stop()
    assert_one_line(serve(cluster, "--id", "n2"), "directory of node n1")
    journal = next((cluster.directory / "n1").glob("journal-*.seg"))
    with journal.open("r+b") as file:
        file.seek(8192 + 18)
        file.write(b"\xff\xff\xff\xff")
    cluster.start()  # It says where the damage is, and waits for others to make it good.
    wait_until(lambda: f"{journal.name} is damaged at offset 8192" in cluster.log("n1"), "it tells of damage")
    cluster.kill()
    (cluster.directory / "n1" / "identity").write_text("nonsense")
    assert_one_line(serve(cluster), "damaged")
    (cluster.directory / "n1" / "identity").unlink()
    assert_one_line(serve(cluster), "no identity")


def test_no_cluster_option_for_a_new_directory_says_what_to_do(tmp_path: Path) -> None:
    result = sofadb("serve", "--id", "n1", "--dir", str(tmp_path / "new"))
    assert_one_line(result, "--cluster")


def test_the_cluster_option_matters_at_the_first_start_only(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1)
    cluster.start()
    cluster.leader()
    cluster.stop()
    cluster.members = "n1=127.0.0.1:1,n2=127.0.0.1:2"
    cluster.start()
    cluster.leader()
    assert cluster.client("n1")("SET", "a", "1") == b"OK"
    cluster.stop()


def test_stderr_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1)
    read_end, write_end = os.pipe()
    process = subprocess.Popen(cluster.command("n1"), stdout=write_end, stderr=write_end)
    os.close(write_end)
    cluster.processes["n1"] = process
    cluster.leader()
    # Each stranger on the peer port is worth a line of log: together far more than a pipe holds.
    for _ in range(1500):
        with socket.create_connection(("127.0.0.1", cluster.peer_ports["n1"])) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            stranger.recv(100)
    client = cluster.client("n1")
    assert client("SET", "a", "1") == b"OK"
    assert client("GET", "a") == b"1"
    process.kill()
    process.wait()
    os.close(read_end)


def test_the_peer_port_fed_with_commands_and_the_client_port_with_frames(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1)
    cluster.start()
    cluster.leader()
    with socket.create_connection(("127.0.0.1", cluster.peer_ports["n1"]), 10) as stranger:
        stranger.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert stranger.recv(100) == b""
    with socket.create_connection(("127.0.0.1", cluster.ports["n1"]), 10) as stranger:
        stranger.sendall(b"SofaDB\x00\x01" + bytes(100) + b"\n")
        stranger.recv(1000)
    with socket.create_connection(("127.0.0.1", cluster.ports["n1"]), 10) as stranger:
        stranger.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET evil 1\r\n")
        while stranger.recv(1000):
            pass
    client = cluster.client("n1")
    assert client("EXISTS", "evil") == 0
    assert "speaks HTTP" in wait_until(
        lambda: "speaks HTTP" in cluster.log("n1") and cluster.log("n1"), "it is logged"
    )
    cluster.stop()


def test_nodes_of_two_clusters_that_are_cross_connected_refuse_each_other(tmp_path: Path) -> None:
    ports = free_ports(4)
    first = f"n1=127.0.0.1:{ports[0]},n2=127.0.0.1:{ports[1]}"
    # To the second cluster, n2 is at the address of the first cluster's n1.
    second = f"n1=127.0.0.1:{ports[2]},n2=127.0.0.1:{ports[0]}"
    processes = []
    for name, peer, members in (("first", ports[0], first), ("second", ports[2], second)):
        command = [sys.executable, "-m", "sofadb", "serve", "--id", "n1", "--dir", str(tmp_path / name)]
        command += ["--listen", f"127.0.0.1:{free_ports(1)[0]}", "--peer-listen", f"127.0.0.1:{peer}"]
        with (tmp_path / f"{name}.log").open("wb") as log:
            processes.append(subprocess.Popen([*command, "--cluster", members], stdout=log, stderr=log))
    log = tmp_path / "second.log"
    wait_until(lambda: "it refuses us: this is cluster" in log.read_text(), "it is refused by name")
    for process in processes:
        process.terminate()
        assert process.wait(20) == 0


def test_100_million_announced_elements_from_1000_connections_reserve_nothing(single: Cluster) -> None:
    client = single.client("n1")

    def resident() -> int:
        info = client("INFO", "memory").decode()
        return int(
            next(line for line in info.splitlines() if line.startswith("used_memory_rss:")).split(":")[1]
        )

    before = resident()
    sockets = [socket.create_connection(("127.0.0.1", single.ports["n1"])) for _ in range(1000)]
    for each in sockets:
        each.sendall(b"*100000000\r\n")
    for each in sockets:
        each.settimeout(20)
        assert b"invalid multibulk length" in each.recv(1000)
        each.close()
    assert resident() - before < 64 << 20


def test_client_that_never_reads_is_not_read_from_and_others_go_on(single: Cluster) -> None:
    client, greedy = single.client("n1"), single.client("n1")
    assert client("SET", "large", "x" * (4 << 20)) == b"OK"
    greedy.socket.setblocking(False)
    request = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n" * 1000
    sent = 0
    try:
        for _ in range(200):
            sent += greedy.socket.send(request)
    except BlockingIOError:
        pass
    assert sent
    for number in range(100):
        assert client("SET", "other", number) == b"OK"
    info = client("INFO", "memory").decode()
    resident = int(
        next(line for line in info.splitlines() if line.startswith("used_memory_rss:")).split(":")[1]
    )
    assert resident < 1 << 30
    greedy.close()
    assert client("DEL", "large") == 1


def test_descriptors_run_out_for_clients_and_the_log_still_turns_its_segments(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1)

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))

    log = (tmp_path / "n1.log").open("ab")
    process = subprocess.Popen(cluster.command("n1"), stdout=log, stderr=log, preexec_fn=few)
    log.close()
    cluster.processes["n1"] = process
    cluster.leader()
    client = cluster.client("n1")
    crowd = [socket.create_connection(("127.0.0.1", cluster.ports["n1"])) for _ in range(500)]
    for number in range(40):
        assert client("SET", f"key:{number}", "x" * (1 << 20)) == b"OK"
    assert len(list((tmp_path / "n1").glob("journal-*.seg"))) > 2
    for each in crowd:
        each.close()
    client.close()
    cluster.stop()


def test_sigterm_answers_what_was_asked_and_exits_with_0(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1)
    cluster.start()
    cluster.leader()
    client = cluster.client("n1")
    client.send(*[["INCR", "n"]] * 500)
    assert client.receive() == 1
    cluster.processes["n1"].terminate()
    acknowledged = 1
    try:
        while True:
            acknowledged = client.receive()
    except ConnectionError:
        pass
    cluster.stop()
    cluster.start()
    cluster.leader()
    assert cluster.client("n1")("GET", "n") >= b"%d" % acknowledged
    cluster.stop()


def test_half_written_request_of_a_client_that_goes_away_does_nothing(single: Cluster) -> None:
    client = single.client("n1")
    with socket.create_connection(("127.0.0.1", single.ports["n1"])) as rude:
        rude.sendall(b"*3\r\n$3\r\nSET\r\n$4\r\nrude\r\n$100\r\nabc")
    assert client("EXISTS", "rude") == 0
