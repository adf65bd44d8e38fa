"""ZooKeeper, asked by our own generator. A node's data is set; a linearizable read is a sync and then a getData."""

from __future__ import annotations

import random
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from sofadb.load.generator import Generator
from sofadb.load.speakers import Speaker

from ..protocols.zookeeper import CREATE, GET_DATA, SET_DATA, SYNC, Session, create, get_data, set_data, text
from .base import HOST, KEYS, WARM_UP_S, Load, Missing, System, keys_of

JAR = Path("/usr/share/java/zookeeper.jar")
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
LOGGING = """log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %m%n
"""


def path(number: int) -> bytes:
    """Of a node of ZooKeeper's tree."""
    return b"/key%012d" % number


class ZooKeeper(System):
    """A server's ports: for clients, for peers, for elections."""

    name, title, ports = "zookeeper", "ZooKeeper", 40
    durability = "fdatasync on a majority (forceSync)"
    asked_by = "our own generator"
    first_warm_up_s = 8.0  # Until then the code of three virtual machines has been compiled.

    def version(self) -> str:
        if shutil.which("java") is None or not JAR.exists():
            raise Missing("ZooKeeper is not installed (Debian: libzookeeper-java, default-jre-headless)")
        return max(each.stem for each in JAR.parent.glob("zookeeper-[0-9]*.jar")).removeprefix("zookeeper-")

    def port(self, name: str) -> int:
        return self.first_port + self.names.index(name)

    def command(self, name: str) -> Sequence[str]:
        count = len(self.names)
        home = self.directory / name
        if not home.exists():
            home.mkdir()
            (home / "myid").write_text(name.removeprefix("n"))
            (home / "log4j.properties").write_text(LOGGING)
            servers = [
                f"server.{number + 1}={HOST}:{self.first_port + count + number}:{self.first_port + 2 * count + number}"
                for number in range(count)
            ]
            # The administrators' own web server would want a port of its own on each node.
            settings = [
                "tickTime=2000",
                "initLimit=10",
                "syncLimit=5",
                f"dataDir={home}",
                f"clientPort={self.port(name)}",
            ]
            # Sixty connections of one client's address are allowed without this.
            settings += ["maxClientCnxns=0", "admin.enableServer=false", f"clientPortAddress={HOST}"]
            (home / "zoo.cfg").write_text("\n".join([*settings, *servers, ""]))
        return ["java", "-Xmx1g", "-cp", f"{home}:{JAR}", MAIN, str(home / "zoo.cfg")]

    def leader(self) -> str:
        for name in self.names:
            with socket.create_connection((HOST, self.port(name)), 2) as link:
                link.sendall(b"srvr")
                said = b""
                while data := link.recv(4096):
                    said += data
            if b"Mode: leader" in said or b"Mode: standalone" in said:
                return name
        return ""

    def fill(self, size: int) -> None:
        numbers = iter(range(KEYS))
        value = b"x" * size
        address = (HOST, self.port(self.wait_for_leader()))

        def make() -> list[tuple[int, bytes]]:
            return [(CREATE, create(path(next(numbers)), value))]

        with Generator(lambda: Session(make), [address], 10, 16) as generator:
            if generator.some(KEYS).errors:
                raise Missing("ZooKeeper did not take the nodes that were to be made")

    def closed(self, load: Load, seconds: float, port: int) -> dict[str, float]:
        with Generator(
            lambda: self.speaker(load.operation, load.size), [(HOST, port)], load.connections, load.depth
        ) as generator:
            figures = generator.closed(seconds, WARM_UP_S)
        if figures.errors:
            raise ValueError(f"{figures.errors} errors")
        return {"rate": figures.rate, **figures.percentiles_ms()}

    def speaker(self, operation: str, size: int) -> Speaker:
        value = b"x" * size
        self.speakers += 1
        draw = random.Random(self.speakers).randrange

        def write() -> list[tuple[int, bytes]]:
            return [(SET_DATA, set_data(path(draw(keys_of(size))), value))]

        def read() -> list[tuple[int, bytes]]:
            node = path(draw(KEYS))
            return [(SYNC, text(node)), (GET_DATA, get_data(node))]

        return Session(write if operation == "SET" else read)
