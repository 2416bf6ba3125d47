"""A host is another project. It lies in a folder here, runs with the wheel, and has its own tests."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

HOSTS = Path(__file__).parent
PAGE = HOSTS.parents[1] / "docs/migrating.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def shown(heading: str, language: str, count: int = 0) -> str:
    """Return a code block that docs/migrating.md shows below that heading, in that language; by default the first."""
    _, found, below = PAGE.read_text().partition(f"# {heading}\n")
    assert found, f"{PAGE.name} has no {heading!r}"
    blocks: list[tuple[str, str]] = BLOCK.findall(below)
    return [block for kind, block in blocks if kind == language][count]


class Host:
    """A copy of a host project, with its own database on the engine of the run."""

    def __init__(self, folder: Path, python: Path, database: dict[str, Any]) -> None:
        self.folder, self.python, self.database = folder, python, database
        self.environment: dict[str, str] = {}
        """The project's environment beside its database."""

    def manage(self, *arguments: str, fails: bool = False) -> str:
        """Run one of the project's commands; return all of its output."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        variables = {"DATABASE": json.dumps(self.database), "PYTHONWARNINGS": "error", **self.environment}
        done = subprocess.run(
            [str(self.python), "manage.py", *arguments],
            cwd=self.folder,
            env={**kept, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert bool(done.returncode) == fails, done.stdout
        return done.stdout

    def test(self) -> None:
        """Run the project's own tests."""
        printed = self.manage("test", "--noinput")
        assert "\nOK" in printed, printed


def clients(host: Host, *acts: tuple[str, list[Any], dict[str, Any]], log: list[str] | None = None) -> list[Any]:
    """Return the responses. The server's log is added to `log`."""
    done = subprocess.run(
        [str(host.python), "clients.py"],
        cwd=host.folder,
        env={"DATABASE": json.dumps(host.database), "PYTHONWARNINGS": "error"},
        input=json.dumps(acts),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if log is not None:
        log += done.stderr.splitlines()
    answers: list[Any] = json.loads(done.stdout)
    return answers


@pytest.fixture
def host(request: pytest.FixtureRequest, host_python: Path, tmp_path: Path) -> Host:
    """Return the host project of the test's file: test_NAME.py uses the folder NAME."""
    name = request.path.stem.removeprefix("test_")
    folder = tmp_path / name
    shutil.copytree(HOSTS / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("manage.py", "clients.py"):
        shutil.copy(HOSTS / file, folder)
    # A name of its own for each test, since tests run in parallel.
    unique = f"host_{name}_{os.urandom(4).hex()}"
    settings = connection.settings_dict
    database: dict[str, Any] = {"ENGINE": "django.db.backends.postgresql"}
    if connection.vendor == "sqlite":
        database["ENGINE"] = "django.db.backends.sqlite3"
        database["NAME"] = str(tmp_path / "db.sqlite3")
        database["OPTIONS"] = {"transaction_mode": "IMMEDIATE", "timeout": 20}
        database["TEST"] = {"NAME": str(tmp_path / "test.sqlite3")}
    else:
        database |= {"NAME": "postgres", "USER": "postgres", "TEST": {"NAME": unique}}
        database["OPTIONS"] = {"host": settings["OPTIONS"]["host"]}
    return Host(folder, host_python, database)


@pytest.fixture
def database(host: Host, transactional_db: None) -> Iterator[None]:
    """A database of the host that persists from one command to the next."""
    if connection.vendor == "sqlite":
        yield
        return
    name = host.database["NAME"] = host.database["TEST"]["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        yield
        cursor.execute(f"DROP DATABASE {name}")
