"""Addresses and clusters as people write them on a command line."""

from __future__ import annotations

import re

import typer

HOST = re.compile(r"[!-~]{1,255}")
"""What can be told to peers and clients: a name of the network in ASCII, or the numbers of one."""
PORT = re.compile(r"[0-9]{1,5}")
NODE_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
SERVICE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT, or [IPV6]:PORT. Raises `typer.BadParameter` with a sentence."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not HOST.fullmatch(host) or not PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise typer.BadParameter(f"'{text}' is no address; write HOST:PORT, for example 127.0.0.1:7001")
    return host, int(port)


def parse_cluster(text: str) -> dict[str, str]:
    """n1=HOST:PORT,n2=HOST:PORT,...: each member's id and peer address. Raises `typer.BadParameter`."""
    members: dict[str, str] = {}
    for part in text.split(","):
        node, equals, address = part.strip().partition("=")
        if not equals or not NODE_ID.fullmatch(node):
            raise typer.BadParameter(
                f"'{part}' is no member; write ID=HOST:PORT, for example n1=127.0.0.1:17001"
            )
        parse_address(address)
        if node in members:
            raise typer.BadParameter(f"node {node} is named twice")
        members[node] = address
    if len(set(members.values())) < len(members):
        raise typer.BadParameter("two members have the same address")
    return members
