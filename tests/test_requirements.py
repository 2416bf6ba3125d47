"""The pinned packages, in the versions that are installed here."""

import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for start in ("", "deploy/", "tests/**/") for path in ROOT.glob(f"{start}requirements*.txt"))
OLDEST = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=") + ".0"


def pinned(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line).name for line in lines if line and not line.startswith("-")]


def needed(name: str) -> str | None:
    """Return the Pythons that the package runs on; None if it is not installed."""
    try:
        return ",".join(metadata(name).get_all("Requires-Python", []))
    except PackageNotFoundError:
        return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_run_on_the_oldest_python(path: Path) -> None:
    """A newer Python than the first 3.11 would hide a package that needs one."""
    installed = {name: pythons for name in pinned(path) if (pythons := needed(name)) is not None}
    if not installed:
        pytest.skip("None of them is installed: make docs, make deploy-test and others do that.")
    assert {name: pythons for name, pythons in installed.items() if OLDEST not in SpecifierSet(pythons)} == {}
