"""Runs the races against other packages, in an environment of their own, and writes docs/proof-peers.md."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.proof.peers.packages import ROOT, install, label
from tests.proof.postgres import servers

HERE = Path(__file__).parent
PAGE = ROOT / "docs" / "proof-peers.md"
NAMES = ("latchkey", "djangorestframework-simplejwt", "dj-rest-auth", "django-allauth", "django-oauth-toolkit")
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


def run(name: str, python: str, host: Path) -> dict[str, Any]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "DATABASE_HOST": str(host),
        "DATABASE_NAME": f"{name}-races",
    }
    command = [python, str(HERE / "race.py"), name, str(ROUNDS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        sys.exit(f"{name} could not be run:\n{done.stderr}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    rows = []
    with servers() as (server, _):
        for name in NAMES:
            server.execute(f'CREATE DATABASE "{name}-races"', database="postgres")
            figures = run(name, install(name), server.folder)
            cells = [figures["forked"], figures["most"], figures["refused"], figures["dead"], figures["retries"]]
            rows.append(f"| {label(name)} | {' | '.join(map(str, [*cells, figures['statements']]))} |\n")
    introduction = INTRODUCTION.format(rounds=ROUNDS, answers=ROUNDS * 8)
    ended = f"\nRun on {datetime.now(UTC):%Y-%m-%d}, with Python {platform.python_version()}.\n"
    PAGE.write_text(introduction + "".join(rows) + ended)


main()
