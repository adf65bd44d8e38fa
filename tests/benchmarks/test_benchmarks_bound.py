"""The sketch that bounds what a program in Python can make, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.bound import Sketch, table

from processes import Client, free_ports


def test_the_sketch_puts_and_gets_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = dict(zip(("n1", "n2", "n3"), free_ports(3), strict=True))
    monkeypatch.setattr(Sketch, "port", lambda sketch, name: ports[name])
    sketch = Sketch(tmp_path, 0)
    try:
        sketch.start(warm_up=False)
        assert sketch.wait_for_leader() == "n1"
        writer, reader, other, another = (Client(ports["n1"]) for _ in range(4))
        words = [("SET", f"mine:{number:012}", f"{number:0256}") for number in range(100)]
        assert writer.pipeline(words) == [b"OK"] * 100
        reads = [("GET", key) for _, key, _ in words]
        assert reader.pipeline(reads) == [value.encode() for _, _, value in words]
        assert other("GET", "none:000000000000") is None
        assert str(another("PING")).startswith("ERR")
    finally:
        sketch.stop()


def test_what_each_makes_is_told_as_a_part_of_what_the_sketch_does() -> None:
    rates = {"SET": {"the sketch": [100.0, 300.0, 200.0], "SofaDB": [100.0, 90.0, 400.0]}}
    assert table(rates).splitlines() == [
        "|  | the sketch | SofaDB |",
        "| --- | ---: | ---: |",
        "| SET | 200 (1.00) | 100 (0.50) |",
    ]
