"""Runs the tests of `tokens` alone on the newer versions of Django, with the newest packages around it.

Each runs in an environment of its own below build/, made once. requirements.txt pins the version for everything else.
Its other pins apply here too. Each Python is either on the PATH or next to the one that runs this, as with pyenv.
"""

import re
import subprocess
import sys
from pathlib import Path
from shutil import which

ROOT = Path(__file__).resolve().parent.parent
RUNS = (("6.0", "3.12"), ("6.1", "3.13"), ("6.1", "3.14"))
"""Versions of Django, and of the Python that each is tried with."""

NEWEST = ("djangorestframework", "djangorestframework-simplejwt")
NOT_NEEDED = re.compile(
    r"(?i)django(restframework.*)?$|django-stubs.*|types-.*|mypy|ruff|playwright|axe-.*|schemathesis|import-linter"
)
"""Packages that have another version here, or that these tests don't need."""


def find_python(version: str) -> str | None:
    """Return a working Python of that version. A name on the PATH may lead to none, as with pyenv."""
    installed = sorted(Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python"))
    for python in (which(f"python{version}"), *map(str, installed)):
        if python and subprocess.run([python, "-V"], capture_output=True, check=False).returncode == 0:
            return python
    return None


def requirements() -> list[str]:
    """Return the pinned packages that the tests need, except those that have newer versions here."""
    pinned = (ROOT / "requirements.txt").read_text() + (ROOT / "requirements-dev.txt").read_text()
    return [
        line
        for line, name in re.findall(r"(?m)^(([\w.-]+)(?:\[\w+\])?==\S+)$", pinned)
        if not NOT_NEEDED.fullmatch(name)
    ]


def environment(django: str, version: str, python: str) -> Path:
    """Return the Python of an environment with that version of Django, the newest of its series."""
    folder = ROOT / "build" / f"compat-{django}-{version}"
    inside = folder / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
    pip = [str(inside), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--upgrade"]
    subprocess.run([*pip, f"Django~={django}.0", *NEWEST, *requirements()], check=True)
    return inside


def run(inside: Path) -> int:
    """Run the tests; return the exit status."""
    names = ("django", "djangorestframework", "djangorestframework-simplejwt")
    versions = f"from importlib.metadata import version; print(*(f'{{n}} {{version(n)}}' for n in {names}), sep=', ')"
    subprocess.run([str(inside), "-c", versions], check=True)
    pytest = [str(inside), "-m", "pytest", "--quiet", "--numprocesses=2", "--ds=tests.settings_tokens", "tests/tokens"]
    return subprocess.run(pytest, cwd=ROOT, check=False).returncode


def main() -> int:
    outcomes = {}
    for django, version in RUNS:
        name, python = f"Django {django} on Python {version}", find_python(version)
        if python is None:
            outcomes[name] = f"left out: there is no Python {version} here"
            continue
        failed = run(environment(django, version, python))
        outcomes[name] = "failed" if failed else "passed"
    sys.stdout.writelines(f"{name}: {outcome}\n" for name, outcome in outcomes.items())
    return int("failed" in outcomes.values() or "passed" not in outcomes.values())


if __name__ == "__main__":
    sys.exit(main())
