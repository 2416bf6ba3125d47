"""The tests that the documents name exist."""

import re
from pathlib import Path

import pytest

from tests.server import ROOT

PAGES = [ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]

NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_exist(page: Path) -> None:
    for path, name in NAMED.findall(page.read_text()):
        assert (ROOT / path).is_file(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


@pytest.mark.parametrize("page", ["attack-model.md", "asvs.md"])
def test_every_requirement_met_names_a_test(page: str) -> None:
    rows = [line for line in (ROOT / "docs" / page).read_text().splitlines() if line.startswith("| ")]
    lacking = [row for row in rows if "| met |" in row and not any(name for _, name in NAMED.findall(row))]
    assert lacking == []
