"""What load generators say, where it is measured, and what the table says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.figures import Figures, Spread
from benchmarks.page import page, ratio, shown, table
from benchmarks.parts.rows import ROWS, TABLE
from benchmarks.place import WrongPlace, file_system, refuse_memory
from benchmarks.systems.etcd import parse_h2load
from benchmarks.systems.resp import parse_csv

H2LOAD = """starting benchmark...
finished in 2.00s, 3369.00 req/s, 1.20MB/s
requests: 6738 total, 6788 started, 6738 done, 6738 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 6740 2xx, 0 3xx, 0 4xx, 0 5xx
"""
CSV = """"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"SET","19801.98","2.443","0.712","2.303","3.415","4.127","9.007"
"""


def test_what_h2load_says() -> None:
    assert parse_h2load(H2LOAD) == {"rate": 3369, "done": 6738}


@pytest.mark.parametrize(
    "output",
    [
        "",
        "finished in 2.00s, 1.00 req/s",
        H2LOAD.replace("0 failed", "3 failed"),
        H2LOAD.replace("0 errored", "1 errored"),
    ],
)
def test_what_h2load_says_when_anything_failed_is_no_figure(output: str) -> None:
    with pytest.raises(ValueError):
        parse_h2load(output)


def test_what_redis_benchmark_says() -> None:
    said = parse_csv(CSV)
    assert said["rate"] == 19801.98
    assert said["p99"] == 4.127
    with pytest.raises(ValueError):
        parse_csv("Could not connect to Redis")


def test_the_file_system_is_that_of_the_deepest_mount() -> None:
    mounts = (
        "none / ext4 rw\nnone /data tmpfs rw\nnone /data/disk xfs rw\nnone /dat zfs rw\nnone / overlay rw\n"
    )
    assert file_system(Path("/home"), mounts) == "overlay"
    assert file_system(Path("/data/there"), mounts) == "tmpfs"
    assert file_system(Path("/data/disk"), mounts) == "xfs"
    assert file_system(Path("/database"), mounts) == "overlay"


def test_where_syncs_cost_nothing_nothing_is_measured() -> None:
    with pytest.raises(WrongPlace, match="syncs cost nothing"):
        refuse_memory(Path("/dev/shm"))


def filled(tmp_path: Path) -> Figures:
    figures = Figures(
        tmp_path / "page" / "figures.json",
        {"machine": {"processors": "2"}, "commands": {"table": "make bench"}},
    )
    for number, rate in enumerate((30_000, 20_000, 25_000)):
        figures.add(TABLE, "set-50", "sofadb", number, {"rate": rate})
        figures.add(TABLE, "set-50", "etcd", number, {"rate": rate / 5})
    figures.add(TABLE, "open", "sofadb", 0, {"p50": 2.0, "p99": 8.0})
    figures.add(TABLE, "open", "etcd", 0, {"p50": 4.0, "p99": 4.0})
    return figures


def test_a_plot_is_shown_only_if_there_is_one(tmp_path: Path) -> None:
    figures = filled(tmp_path)
    assert "](table.svg)" in page(figures)
    assert "offered" not in page(figures)
    figures.measured.clear()
    figures.add("offered", "500", "etcd", 0, {"p50": 1.0, "p99": 3.0})
    assert "](table.svg)" not in page(figures)
    assert "](offered-p99.svg)" in page(figures)
    assert "| etcd | 500 | 1.0 ms | – | 3.0 ms | – | – |" in page(figures)


def test_the_page_tells_which_run_measured_what(tmp_path: Path) -> None:
    figures = filled(tmp_path)
    assert "Written by `make bench`.\n" in page(figures)
    figures.about["commands"] = {"table": "make again", "offered": "make bench", "sizes": "make bench"}
    assert "- `make again`: table\n- `make bench`: offered, sizes\n" in page(figures)


def test_figures_outlive_the_run(tmp_path: Path) -> None:
    figures = filled(tmp_path)
    assert figures.path is not None
    again = Figures.load(figures.path)
    assert again.measured == figures.measured
    assert again.spread(TABLE, "set-50", "sofadb", "rate") == Spread(25_000, 20_000, 30_000, 3)
    assert again.spread(TABLE, "set-50", "redis", "rate") is None
    assert again.has(TABLE, "set-50", "etcd", 2)
    assert not again.has(TABLE, "set-50", "etcd", 3)


def test_what_is_measured_anew_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    figures = filled(tmp_path)
    figures.about["missing"] = {"etcd": "not installed"}
    figures.add("sizes", "16 B", "etcd", 0, {"rate": 1})
    figures.forget([TABLE], ["etcd"])
    assert {(each["part"], each["system"]) for each in figures.measured} == {
        (TABLE, "sofadb"),
        ("sizes", "etcd"),
    }
    assert figures.about["missing"] == {}


def test_the_table_says_what_was_aimed_at_and_what_was_reached(tmp_path: Path) -> None:
    text = table(filled(tmp_path), ROWS)
    assert (
        "| SET, 50 connections | 25,000 (20,000–30,000) | 5,000 (4,000–6,000) | **5.00** (≥ 3 reached) | – |"
        in text
    )
    assert "| 2.0 ms | 4.0 ms | **0.50** (≤ 1 reached) |" in text
    assert "| 8.0 ms | 4.0 ms | **2.00** (≤ 1 missed) |" in text
    assert "200 connections" not in text


def test_without_a_figure_there_is_no_ratio_and_without_an_aim_no_verdict() -> None:
    row, one = ROWS[0], Spread(10.0, 10.0, 10.0, 1)
    assert ratio(row, None, one, "etcd") == ratio(row, one, None, "etcd") == "–"
    assert ratio(row, one, one, "pysyncobj") == "1.00"
    assert shown(None, True) == "–"
    assert shown(one, True) == "10"
    assert shown(Spread(2.844, 2.5, 3.0, 2), True) == "2.84 (2.5–3)"


def test_the_page_says_who_is_missing_and_why(tmp_path: Path) -> None:
    figures = filled(tmp_path)
    figures.about["missing"] = {"zookeeper": "it is not installed"}
    assert "(missing: it is not installed)" in page(figures)
