"""Runs the races against other packages, in an environment of their own, and writes docs/proof-peers.md."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.proof.postgres import servers

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
ENVIRONMENT = ROOT / "build" / "peers"
PAGE = ROOT / "docs" / "proof-peers.md"
NAMES = (
    "latchkey-races",
    "djangorestframework-simplejwt",
    "dj-rest-auth",
    "django-allauth",
    "django-oauth-toolkit",
)
ROUNDS = 40
TIMEOUT = 900  # seconds

INTRODUCTION = """# The races against other packages

`make proof-peers` writes this page. It installs each package into its own environment, and turns on rotation and, if
the package has it, protection against reuse. Then it runs two tests on PostgreSQL:

1. Eight threads present the same refresh token at the same moment, {rounds} times.
2. A client loses the response, tries again immediately with the token that it has, and then continues with the first
   response, {rounds} times.

The columns:

- *forked*: rounds in which one token became several valid ones
- *most*: the largest number of them in one round
- *refused*: responses that were a refusal or an error, of {answers} calls
- *cut off*: rounds after which the client could not continue with the tokens that it got
- *retries*: retries after which the client could continue
- *statements*: SQL statements per refresh

| package | forked | most | refused | cut off | retries | statements |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
"""


def install() -> str:
    """Make the environment, unless it is there; return its Python."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    requirements = str(HERE / "requirements.txt")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
    subprocess.run(pip, check=True)
    return str(python)


def run(name: str, python: str, host: Path) -> dict[str, Any]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "DATABASE_HOST": str(host),
        "DATABASE_NAME": name,
    }
    command = [python, str(HERE / "race.py"), name, str(ROUNDS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        sys.exit(f"{name} could not be run:\n{done.stderr}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def versions() -> dict[str, str]:
    lines = (HERE / "requirements.txt").read_text().splitlines()
    pinned = [line.partition("==") for line in lines if "==" in line]
    return {name.partition("[")[0]: version for name, _, version in pinned}


def main() -> None:
    python, known = install(), versions()
    rows = []
    with servers() as (server, _):
        for name in NAMES:
            server.execute(f'CREATE DATABASE "{name}"', database="postgres")
            figures = run(name, sys.executable if name == "latchkey-races" else python, server.folder)
            label = "Latchkey" if name == "latchkey-races" else f"{name} {known[name]}"
            cells = [figures["forked"], figures["most"], figures["refused"], figures["dead"], figures["retries"]]
            rows.append(f"| {label} | {' | '.join(map(str, [*cells, figures['statements']]))} |\n")
    introduction = INTRODUCTION.format(rounds=ROUNDS, answers=ROUNDS * 8)
    ended = f"\nRun on {datetime.now(UTC):%Y-%m-%d}, with Python {platform.python_version()}.\n"
    PAGE.write_text(introduction + "".join(rows) + ended)


main()
