"""The pages say what is so: names in them exist, links lead somewhere, generated pages are fresh, examples run."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_generated_pages_are_fresh() -> None:
    tool = ROOT / "tools" / "write_docs.py"
    result = subprocess.run(
        [sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "page",
    [ROOT / "ARCHITECTURE.md", ROOT / "docs" / "paper.md", ROOT / "docs" / "rules.md"],
    ids=lambda page: page.name,
)
def test_files_functions_and_tests_that_are_named_exist(page: Path) -> None:
    sources: dict[str, str] = {}
    for path in ROOT.glob("src/sofadb/**/*.py"):
        sources[path.name] = sources.get(path.name, "") + path.read_text()
    tests = "".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    text = page.read_text()
    named = re.findall(r"`(?:\w+/)?(\w+\.py)`((?: `\w+`,?)*)", text)
    assert len(named) > 10
    for file, functions in named:
        assert file in sources, file
        for function in re.findall(r"\w+", functions):
            assert re.search(rf"\b(def|class) {function}\b", sources[file]), f"{file} {function}"
    for test in re.findall(r"`(test_\w+)`", text):
        assert f"def {test}(" in tests, test


def test_every_rule_that_the_code_cites_stands_in_the_rules() -> None:
    rules = set(re.findall(r"^\| \*\*([PD]\d+)\*\*", (ROOT / "docs" / "rules.md").read_text(), re.MULTILINE))
    for path in (*ROOT.glob("src/**/*.py"), *PAGES):
        cited = re.findall(r"\brules? ((?:[PD]\d+(?:, | and | to )?)+)", path.read_text())
        for rule in re.findall(r"[PD]\d+", " ".join(cited)):
            assert rule in rules, f"{path.name}: {rule}"


def test_every_dependency_has_a_line_on_why() -> None:
    declared = re.findall(r'^  "([\w-]+)[>=]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert len(declared) > 10
    page = (ROOT / "docs" / "decisions" / "0002-dependencies.md").read_text()
    for name in declared:
        assert re.search(rf"\b{name}\b", page), name


def test_make_help_lists_every_command() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony
    for target in phony[1].split():
        assert re.search(rf"^{target}:.*## \w", text, re.MULTILINE), target


def test_the_embedding_example_counts_to_the_same_sum_on_every_replica() -> None:
    story: list[str] = []
    counters = runpy.run_path(str(ROOT / "examples" / "replicate_a_counter.py"))["count"](story.append)
    assert counters == dict.fromkeys(("n1", "n2", "n3"), 55)
