"""Addresses and clusters, as people write them and as they should not."""

from __future__ import annotations

import pytest
import typer

from sofadb.cli.addresses import parse_address, parse_cluster


def test_addresses_of_every_kind() -> None:
    assert parse_address("127.0.0.1:7001") == ("127.0.0.1", 7001)
    assert parse_address("db.example.org:1") == ("db.example.org", 1)
    assert parse_address("[::1]:65535") == ("::1", 65535)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "host", "host:", ":7001", "host:0", "host:65536", "host:x", "host:-1", "host:٣"),
        *("host:" + "9" * 5000, "h" * 256 + ":7001", "two words:7001", "a\n:7001", "höst:7001"),
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"write HOST:PORT, for example 127\.0\.0\.1:7001"):
        parse_address(text)


def test_a_cluster_names_each_member_and_where_it_is() -> None:
    assert parse_cluster("n1=a:1, n2=[::1]:2") == {"n1": "a:1", "n2": "[::1]:2"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no member"),
        ("n1", "is no member"),
        ("n1=a:1,", "is no member"),
        ("n 1=a:1", "is no member"),
        ("n1=a", "is no address"),
        ("n1=a:1,n1=b:1", "named twice"),
        ("n1=a:1,n2=a:1", "the same address"),
    ],
)
def test_what_is_no_cluster_is_refused(text: str, problem: str) -> None:
    with pytest.raises(typer.BadParameter, match=problem):
        parse_cluster(text)
