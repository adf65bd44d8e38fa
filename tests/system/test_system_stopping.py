"""SIGTERM while clients send all they can: what was taken is answered, and every connection ends in good order."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path

import hiredis
import pytest

from processes import PATIENCE_S, Client, Cluster, wait_until

CLIENTS = 4
PIPELINE = 50


class Sender:
    """A client that sends pipelines of INCR on a key of its own until the node says that it is the end.

    It never has more than `ahead` pipelines unanswered.
    """

    def __init__(self, port: int, number: int, ahead: int) -> None:
        self.key = f"n:{number}"
        self.client = Client(port)
        self.replies: list[int] = []
        self.problem = ""
        self._is_over = threading.Event()
        self._may_send = threading.Semaphore(ahead)
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        with contextlib.suppress(OSError):  # Behind the end that has been told, anything may happen.
            while self._may_send.acquire() and not self._is_over.is_set():
                self.client.send(*[("INCR", self.key)] * PIPELINE)

    def _receive(self) -> None:
        try:
            while True:
                reply = self.client.receive()
                assert not isinstance(reply, hiredis.ReplyError), reply
                self.replies.append(reply)
                if len(self.replies) % PIPELINE == 0:
                    self._may_send.release()
        except ConnectionResetError:
            self.problem = "the connection was reset"
        except ConnectionError:
            pass
        except AssertionError as error:
            self.problem = str(error)
        finally:
            self._is_over.set()
            self._may_send.release()
            self.client.close()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@pytest.mark.parametrize("ahead", [1, 10, 1_000_000], ids=["few", "some", "all they can"])
def test_a_node_that_is_told_to_stop_under_load_answers_what_it_took_and_resets_no_connection(
    tmp_path: Path, ahead: int
) -> None:
    cluster = Cluster(tmp_path, 1)
    cluster.start()
    cluster.leader()
    idle = cluster.client("n1")
    half = cluster.client("n1")
    assert half.pipeline([("MULTI",), ("SET", "half", 1)]) == [b"OK", b"QUEUED"]
    senders = [Sender(cluster.ports["n1"], number, ahead) for number in range(CLIENTS)]
    wait_until(lambda: all(len(sender.replies) > 2 * PIPELINE for sender in senders), "the load runs")
    cluster.signal("n1", signal.SIGTERM)
    for sender in senders:
        sender.join()
    for quiet in (idle, half):
        with pytest.raises(ConnectionError, match="closed by the other end"):
            quiet.receive()
    assert cluster.processes["n1"].wait(PATIENCE_S) == 0
    cluster.processes.clear()
    assert [sender.problem for sender in senders] == [""] * CLIENTS
    cluster.start()
    client = cluster.client("n1")
    cluster.leader()
    assert client("GET", "half") is None
    for sender in senders:
        assert len(sender.replies) > PIPELINE
        assert sender.replies == list(range(1, len(sender.replies) + 1))
        assert client("GET", sender.key) == b"%d" % len(sender.replies), "everything done was answered"
    cluster.stop()


def test_shutdown_ends_the_asked_node_in_good_order_and_the_others_go_on(three: Cluster) -> None:
    leader = three.leader()
    other = next(name for name in three.names if name != leader)
    client, writer = three.client(leader), three.client(leader)
    assert client.pipeline([("MULTI",), ("SHUTDOWN",)])[1].args == (
        "ERR Command not allowed inside a transaction",
    )
    client("DISCARD")
    client.send(*[("INCR", "n")] * PIPELINE, ("SHUTDOWN", "NOSAVE"), ("INCR", "n"))
    assert [client.receive() for _ in range(PIPELINE + 1)] == list(range(1, PIPELINE + 2)), (
        "SHUTDOWN says nothing"
    )
    with pytest.raises(ConnectionError, match="closed by the other end"):
        client.receive()
    with pytest.raises(ConnectionError, match="closed by the other end"):
        writer.receive()
    assert three.processes.pop(leader).wait(PATIENCE_S) == 0
    assert three.client(other)("INCR", "n") > PIPELINE
